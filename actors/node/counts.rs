//! What the units of a node have counted so far, for whoever watches it: as JSON, by source, by shard, and of exec.
//!
//! After a loss a unit goes on from its checkpoint, and counts from what that says: so a number may be smaller than it
//! was a moment ago.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use tickwright_core::backtest::reasons;
use tickwright_core::cluster::Unit;
use tickwright_core::domain::{Histogram, InstrumentIndex};

use super::report::{NodeReport, report_of_exec};
use super::units::{UnitPart, part};
use super::{Node, Wiring};
use crate::cluster::{Network, Request};
use crate::telemetry::PATIENCE;

/// Of `units`, which are here. What does not answer, because it is starting anew, is left out.
pub(super) async fn counts(wiring: &Wiring, units: impl Iterator<Item = Unit>) -> Value {
    let directory = &wiring.directory;
    let (mut sources, mut shards, mut exec) = (Vec::new(), Vec::new(), Value::Null);
    for unit in units {
        let place = unit.to_string();
        if unit == Unit::Exec {
            let report = report_of_exec(directory, wiring.control.current(), PATIENCE).await;
            exec = report.map_or(Value::Null, |report| of_exec(&report));
            continue;
        }
        match part(directory, unit).await {
            Ok(UnitPart::Source(ingester, cleaner)) => {
                let (read, clean) = (&ingester.counts, &cleaner.counts.totals);
                let rejected: Map<String, Value> =
                    reasons(clean).map(|(reason, count)| (reason, count.into())).collect();
                sources.push(json!({
                    "unit": place, "name": read.source, "rows": read.counters.rows,
                    "malformed": read.counters.malformed, "gaps": read.counters.gaps,
                    "clean": clean.accepted, "rejected": rejected,
                }));
            }
            Ok(UnitPart::Shard(factors, given)) => {
                let names = wiring.config.strategies.iter().map(|it| &it.name);
                let signals: BTreeMap<&String, u64> =
                    names.zip(given.counts.iter().map(|it| it.signals)).collect();
                shards.push(json!({
                    "unit": place, "rows": factors.counts.rows, "factors": factors.counts.factors,
                    "signals": signals,
                }));
            }
            Err(error) => tracing::debug!(%unit, error, "it does not say what it has counted"),
        }
    }
    json!({ "sources": sources, "shards": shards, "exec": exec })
}

impl Node {
    /// Lets tools ask what this process, which is in no cluster, has counted, under `role`.
    pub fn serve_counts(&self, network: &Network, role: &str) {
        let (wiring, all) = (self.wiring.clone(), (self.sources, self.shards));
        let handler = move |mut request: Request| {
            let Some(reply) = request.reply.take() else {
                return Err("counts are asked for, and not told".to_owned());
            };
            if serde_json::from_slice::<Value>(&request.body).ok() != Some("Counts".into()) {
                reply.refuse("a process that is in no cluster answers \"Counts\" alone");
                return Err("not a question for counts".to_owned());
            }
            let wiring = wiring.clone();
            tokio::spawn(async move {
                // It holds its credit until it is answered: that is what bounds these tasks.
                let _request = request;
                let counts = counts(&wiring, Unit::all(all.0, all.1)).await;
                reply.answer(counts.to_string().into_bytes());
            });
            Ok(())
        };
        network.register(role, None, Arc::new(handler));
    }
}

fn of_exec(report: &NodeReport) -> Value {
    let NodeReport { risk, router, brokers, positions, .. } = report;
    let risk = &risk.counts;
    let mut latency = Histogram::new();
    brokers.iter().for_each(|broker| latency.merge(&broker.latency));
    let denied: Map<String, Value> =
        risk.denied.iter().map(|(code, count)| (code.to_string(), (*count).into())).collect();
    let counted = |broker: usize| {
        brokers.get(broker).map(|it| {
            let counters = &it.counters;
            json!({
                "placed": router.placed[broker], "failed": router.failures[broker],
                "accepted": counters.accepted, "fills": counters.fills,
            })
        })
    };
    let mark = |index: InstrumentIndex| positions.marks.get(index.index()).copied().flatten();
    let books = &positions.positions;
    let earned = books.profit_and_loss(mark).into_iter();
    let equity: BTreeMap<String, String> =
        earned.map(|(currency, earned)| (currency, earned.equity().to_string())).collect();
    json!({
        "rows": risk.rows, "signals": risk.signals, "approved": risk.approved, "denied": denied, "open": risk.open,
        "brokers": { "primary": counted(0), "backup": counted(1) },
        "failovers": router.failovers, "returns": router.returns,
        "fills": books.counters().fills, "fills_repeated": books.counters().fills_repeated,
        "latency": {
            "count": latency.count(), "p50_ns": latency.quantile(500_000), "p99_ns": latency.quantile(990_000),
        },
        "equity": equity,
    })
}
