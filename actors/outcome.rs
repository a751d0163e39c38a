//! From what the stages counted to the report that a run promises.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use tickwright_core::backtest::performance::measure;
use tickwright_core::backtest::report::{
    BrokerReport, ChaosReport, EquityReport, EquitySample, LiveSourceReport, MalformedRow,
    OrderCounts, OrderMark, PositionReport, PriceSample, ProfitAndLoss, RunReport, SourceReport,
    SymbolChart, SymbolReport,
};
use tickwright_core::config::Config;
use tickwright_core::domain::{
    Histogram, Instrument, InstrumentIndex, Money, Price, Quantity, Timestamp,
};
use tickwright_core::pipeline::clean::{CleanCounts, Reason};
use tickwright_core::pipeline::positions::{Chart, ChartOrder, EquityPoint, Positions};

use crate::node::NodeReport;
use crate::run::Outcome;

/// How many instruments get a chart.
const CHARTS_MAX: usize = 8;

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
    add_rows(&mut report, node, config);
    add_orders(&mut report, node);
    add_positions(&mut report, node, config);
    let mut latency = Histogram::new();
    node.brokers.iter().for_each(|broker| latency.merge(&broker.latency));
    report.set_latency(&latency);
    report.set_duration(outcome.duration, outcome.resumed_rows);
    report.peak_rss_bytes = outcome.rss_by_node.values().copied().max().unwrap_or(0);
    report.rss_by_node = outcome.rss_by_node.clone();
    report
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

fn reasons(counts: &CleanCounts) -> impl Iterator<Item = (String, u64)> {
    let counts = *counts;
    let of = move |reason: Reason| (reason.code().to_owned(), counts.rejected_for(reason));
    Reason::ALL.into_iter().map(of).filter(|(_, count)| *count > 0)
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
        let refused = [
            ("not_connected", counters.refused_not_connected),
            ("unavailable", counters.refused_unavailable),
            ("order", counters.refused_order),
        ];
        let refused = refused.into_iter().filter(|(_, count)| *count > 0);
        report.brokers.push(BrokerReport {
            name: name.to_owned(),
            placed: counters.accepted,
            refused: refused.map(|(name, count)| (name.to_owned(), count)).collect(),
            fills: counters.fills,
            failovers: if name == "primary" { node.router.failovers } else { 0 },
        });
        report.duplicate_orders += counters.accepted_twice;
    }
    report.duplicate_orders += node.router.accepted_twice;
    report.fills = node.positions.positions.counters().fills;
}

fn add_positions(report: &mut RunReport, node: &NodeReport, config: &Config) {
    let positions = &node.positions.positions;
    let marks = &node.positions.marks;
    let mark = |index: InstrumentIndex| marks.get(index.index()).copied().flatten();
    report.order_digest = positions.digest().to_string();
    let earned = positions.profit_and_loss(mark);
    for (currency, earned) in &earned {
        let pnl = ProfitAndLoss {
            realised: earned.realised.into(),
            unrealised: earned.unrealised.into(),
        };
        report.fees.insert(currency.clone(), earned.fees.into());
        report.pnl.insert(currency.clone(), pnl);
    }
    for (place, currency) in positions.currencies().enumerate() {
        let Some(earned) = earned.get(currency) else { continue };
        let samples = equity(positions, place);
        let mut performance = measure(&samples, &earned.closed);
        // The curve is thinned, and ends at the last window step; these are not.
        performance.net = earned.equity().into();
        performance.drawdown_max = earned.drawdown_max.into();
        let sample = |&(at, equity): &(Timestamp, Money)| EquitySample {
            time_ns: at.as_nanos(),
            equity: equity.into(),
        };
        let samples = samples.iter().map(sample).collect();
        report.equity.insert(currency.to_owned(), EquityReport { samples, performance });
    }
    let times = || positions.curve().iter().map(|point| point.at.as_nanos());
    (report.data_from_ns, report.data_to_ns) = (times().next(), times().last());
    for (account, index, instrument, holding) in positions.holdings() {
        let position = &holding.position;
        let price = mark(index).unwrap_or(holding.price);
        let account = config.accounts.get(usize::from(account.0));
        report.positions.push(PositionReport {
            symbol: instrument.symbol.to_string(),
            account: account.map(|account| account.name.clone()).unwrap_or_default(),
            quantity: instrument.format_quantity(position.quantity),
            average_price: position.average_price(instrument),
            mark: mark(index).map(|price| instrument.format_price(price)),
            currency: instrument.currency.clone(),
            value: instrument.value(price, position.quantity).abs().into(),
            realised: position.realised.into(),
            unrealised: if position.quantity == Quantity::ZERO {
                Money::ZERO.into()
            } else {
                position.unrealised(instrument, price).into()
            },
            fees: holding.fees.into(),
        });
    }
    // Exec numbers instruments as it meets them, and that depends on timing.
    report.positions.sort_by(|a, b| (&a.account, &a.symbol).cmp(&(&b.account, &b.symbol)));
    report.charts = charts(positions);
}

/// The equity curve of one currency, from nothing, for as long as it moves: with several files the
/// others may go on for years.
fn equity(positions: &Positions, place: usize) -> Vec<(Timestamp, Money)> {
    let point =
        |point: &EquityPoint| (point.at, point.equity.get(place).copied().unwrap_or(Money::ZERO));
    let samples: Vec<(Timestamp, Money)> = positions.curve().iter().map(point).collect();
    let is_move = |pair: &[(Timestamp, Money)]| pair[0].1 != pair[1].1;
    let Some(first) = samples.windows(2).position(is_move) else {
        // It never moved: one point says as much.
        return samples.into_iter().take(1).collect();
    };
    let last = samples.windows(2).rposition(is_move).map_or(first, |last| last + 1);
    samples[first..=last].to_vec()
}

fn charts(positions: &Positions) -> Vec<SymbolChart> {
    let instruments: BTreeMap<InstrumentIndex, &Instrument> =
        positions.holdings().map(|(_, index, instrument, _)| (index, &**instrument)).collect();
    let mut charts: Vec<&Chart> = positions.charts().iter().collect();
    charts.sort_by_key(|chart| (Reverse(chart.order_count), chart.symbol.clone()));
    let chart = |chart: &Chart| {
        let instrument = *instruments.get(&chart.instrument)?;
        let price = |&(at, price): &(Timestamp, Price)| PriceSample {
            time_ns: at.as_nanos(),
            price: instrument.price_to_f64(price),
        };
        let mark = |order: &ChartOrder| OrderMark {
            time_ns: order.id.key.frontier.as_nanos(),
            side: order.side,
            price: instrument.price_to_f64(order.price),
            quantity: instrument.quantity_to_f64(order.quantity),
            filled: instrument.quantity_to_f64(order.filled),
        };
        Some(SymbolChart {
            symbol: chart.symbol.to_string(),
            currency: instrument.currency.clone(),
            orders_total: chart.order_count,
            prices: chart.prices.iter().map(price).collect(),
            orders: chart.orders.iter().map(mark).collect(),
        })
    };
    charts.into_iter().filter_map(chart).take(CHARTS_MAX).collect()
}

#[cfg(test)]
mod tests;
