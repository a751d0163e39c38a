//! From what the stages counted to the report that a run promises.

use std::collections::BTreeMap;

use tickwright_core::backtest::reasons;
use tickwright_core::backtest::report::{
    BrokerReport, ChaosReport, LiveSourceReport, MalformedRow, OrderCounts, ParameterChangeReport,
    RunReport, SourceReport, SymbolReport,
};
use tickwright_core::config::Config;
use tickwright_core::domain::{Control, Histogram, InstrumentIndex, ParameterChange};
use tickwright_core::pipeline::clean::CleanCounts;

use crate::node::NodeReport;
use crate::run::Outcome;

/// The report of a run under `config`.
pub fn report(outcome: &Outcome, config: &Config) -> RunReport {
    let node = &outcome.report;
    let mut report = RunReport {
        nodes: u32::try_from(outcome.rss_by_node.len()).unwrap_or(u32::MAX),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        seed: config.pipeline.seed,
        config_fingerprint: blake3::Hash::from(config.fingerprint()).to_hex().to_string(),
        resumed: outcome.resumed,
        restarts: outcome.restarts,
        restarts_by_actor: by_actor(&outcome.restarts_by_child),
        failovers: node.router.failovers,
        chaos: outcome
            .fired
            .iter()
            .map(|(spec, count)| ChaosReport { spec: spec.clone(), fired: *count > 0 })
            .collect(),
        ..RunReport::default()
    };
    report.parameter_changes = changes(&node.changes, config);
    add_rows(&mut report, node, config);
    add_orders(&mut report, node);
    let marks = &node.positions.marks;
    let mark = |index: InstrumentIndex| marks.get(index.index()).copied().flatten();
    report.set_positions(&node.positions.positions, mark, &config.account_terms());
    let mut latency = Histogram::new();
    node.brokers.iter().for_each(|broker| latency.merge(&broker.latency));
    report.set_latency(&latency);
    report.set_duration(outcome.duration, outcome.resumed_rows);
    report.peak_rss_bytes = outcome.rss_by_node.values().copied().max().unwrap_or(0);
    report.rss_by_node = outcome.rss_by_node.clone();
    report
}

/// From when on which parameters held.
fn changes(control: &Control, config: &Config) -> Vec<ParameterChangeReport> {
    let names = &config.strategies;
    let of = |(change, by, why): (&ParameterChange, &str, &str)| ParameterChangeReport {
        from_ns: change.at.as_nanos(),
        strategy: names
            .get(change.strategy)
            .map_or_else(|| change.strategy.to_string(), |strategy| strategy.name.clone()),
        parameters: change.parameters.iter().cloned().collect(),
        by: by.to_owned(),
        why: why.to_owned(),
    };
    control.made().map(of).collect()
}

/// `factors/0` and `factors/1` are two children and one kind of actor.
fn by_actor(by_child: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let mut by_actor: BTreeMap<String, u64> = BTreeMap::new();
    for (child, restarts) in by_child {
        let actor = child.split('/').next().unwrap_or(child);
        *by_actor.entry(actor.to_owned()).or_default() += restarts;
    }
    by_actor
}

fn add_rows(report: &mut RunReport, node: &NodeReport, config: &Config) {
    let mut rejected: BTreeMap<String, u64> = BTreeMap::new();
    let mut symbols: BTreeMap<String, (String, CleanCounts)> = BTreeMap::new();
    let instruments = config.instruments();
    for (ingester, cleaner) in node.ingesters.iter().zip(&node.cleaners) {
        let (read, clean) = (&ingester.counts, &cleaner.counts);
        report.ticks_in += read.counters.rows;
        report.ticks_clean += clean.totals.accepted;
        if read.counters.malformed > 0 {
            *rejected.entry("malformed".to_owned()).or_default() += read.counters.malformed;
        }
        for (reason, count) in reasons(&clean.totals) {
            *rejected.entry(reason).or_default() += count;
        }
        for (symbol, counts) in &clean.symbols {
            let class = instruments.resolve(symbol).class.to_string();
            let entry = symbols.entry(symbol.to_string());
            entry.or_insert((class, CleanCounts::default())).1.add(counts);
        }
        report.sources.push(SourceReport {
            // The format is a field of its own.
            name: read
                .source
                .strip_suffix(&format!(" ({})", read.format))
                .unwrap_or(&read.source)
                .to_owned(),
            format: read.format.clone(),
            rows: read.counters.rows,
            malformed: read.counters.malformed,
            malformed_rows: read
                .malformed_first
                .iter()
                .map(|row| MalformedRow {
                    line: row.line,
                    column: row
                        .column
                        .as_ref()
                        .map(|column| column.name.clone())
                        .unwrap_or_default(),
                    problem: row.to_string(),
                })
                .collect(),
            live: read.live.map(|live| LiveSourceReport {
                connections: live.connections,
                disconnects: live.disconnects,
                garbage: live.garbage,
                // The rows' own ids tell of what was missed between two processes as well.
                gaps: live.gaps.max(read.counters.gaps),
                missing: live.missing,
                repeated: live.repeated,
                stalls: live.stalls,
            }),
        });
    }
    let symbol = |(symbol, (class, counts)): (String, (String, CleanCounts))| SymbolReport {
        symbol,
        class,
        clean: counts.accepted,
        rejected: reasons(&counts).collect(),
    };
    report.symbols = symbols.into_iter().map(symbol).collect();
    report.ticks_rejected = rejected;
    report.factors = node.factors.iter().map(|shard| shard.counts.factors).sum();
    // Every clean row must have come to exec, once.
    let arrived = i64::try_from(node.risk.counts.rows).unwrap_or(i64::MAX);
    let expected = report.ticks_in.saturating_sub(report.rejected_total());
    report.lost_ticks = i64::try_from(expected).unwrap_or(i64::MAX) - arrived;
}

fn add_orders(report: &mut RunReport, node: &NodeReport) {
    let strategies = node.strategies.iter().flat_map(|shard| &shard.counts);
    report.signals = strategies.map(|strategy| strategy.signals).sum();
    let risk = &node.risk.counts;
    let denied = risk.denied.iter().filter(|(_, count)| *count > 0);
    report.orders = OrderCounts {
        approved: risk.approved,
        rejected: denied.map(|(code, count)| (code.name().to_owned(), *count)).collect(),
        placed: node.brokers.iter().map(|broker| broker.counters.accepted).sum(),
        filled: node.brokers.iter().map(|broker| broker.counters.filled_whole).sum(),
        unknown: node.brokers.iter().map(|broker| broker.counters.unknown).sum(),
    };
    for (name, broker) in ["primary", "backup"].into_iter().zip(&node.brokers) {
        let counters = &broker.counters;
        let failovers = if name == "primary" { node.router.failovers } else { 0 };
        report.brokers.push(BrokerReport::of(name, counters, failovers));
        report.duplicate_orders += counters.accepted_twice;
    }
    report.duplicate_orders += node.router.accepted_twice;
}

#[cfg(test)]
mod tests;
