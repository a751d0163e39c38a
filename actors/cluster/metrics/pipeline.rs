//! What the pipeline has counted, as series of their own.
//!
//! They are gauges: after a loss a unit counts on from its checkpoint, and a counter that falls would look like one
//! that began at nothing.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde_json::Value;

use super::{Gauges, Labels};

fn labels<const N: usize>(of: [(&str, &Value); N]) -> Labels {
    let of = of.into_iter();
    of.map(|(name, value)| (name.to_owned(), value.as_str().unwrap_or_default().to_owned()))
        .collect()
}

/// Numbers of one name.
struct Series {
    name: &'static str,
    help: &'static str,
    gauges: Gauges,
    is_empty: bool,
}

impl Series {
    fn new(name: &'static str, help: &'static str) -> Self {
        Self { name, help, gauges: Gauges::default(), is_empty: true }
    }

    /// One more; what is no number is none.
    fn add(&mut self, labels: Labels, number: Option<f64>) {
        if let Some(number) = number {
            self.gauges.get_or_create(&labels).set(number);
            self.is_empty = false;
        }
    }

    fn register(self, registry: &mut Registry) {
        if !self.is_empty {
            registry.register(self.name, self.help, self.gauges);
        }
    }
}

/// `field` of each of `units`, of which `label` says more.
fn of_units(
    units: &Value,
    (field, label): (&str, &str),
    (name, help): (&'static str, &'static str),
    registry: &mut Registry,
) {
    let mut series = Series::new(name, help);
    for unit in units.as_array().into_iter().flatten() {
        match &unit[field] {
            Value::Object(each) => {
                for (key, number) in each {
                    let key = Value::from(key.as_str());
                    let labels = labels([("unit", &unit["unit"]), (label, &key)]);
                    series.add(labels, number.as_f64());
                }
            }
            number @ (Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_)) => {
                let mut all = labels([("unit", &unit["unit"])]);
                if !label.is_empty() {
                    all.extend(labels([(label, &unit[label])]));
                }
                series.add(all, number.as_f64());
            }
        }
    }
    series.register(registry);
}

/// What `counts`, as `run/NODE` has them, say.
pub(super) fn register(counts: &Value, registry: &mut Registry) {
    let sources = &counts["sources"];
    for (of, series) in [
        (("rows", "name"), ("source_rows", "Rows read of a source, malformed ones among them")),
        (("malformed", "name"), ("source_malformed_rows", "Rows that could not be read")),
        (("gaps", "name"), ("source_gaps", "Times that a source's own numbers showed a gap")),
        (("clean", "name"), ("source_clean_rows", "Rows that the cleaner let through")),
        (("rejected", "reason"), ("source_rejected_rows", "Rows that it did not, by reason")),
    ] {
        of_units(sources, of, series, registry);
    }
    let shards = &counts["shards"];
    for (of, series) in [
        (("rows", ""), ("shard_rows", "Rows that a shard's factors have seen")),
        (("factors", ""), ("shard_factor_values", "Values that came of them")),
        (("signals", "strategy"), ("strategy_signals", "Signals of a strategy")),
    ] {
        of_units(shards, of, series, registry);
    }
    of_exec(&counts["exec"], registry);
}

fn of_exec(exec: &Value, registry: &mut Registry) {
    for (field, name, help) in [
        ("rows", "exec_rows", "Clean rows that came to exec, each once"),
        ("signals", "exec_signals", "Signals that came to risk"),
        ("approved", "orders_approved", "Orders that risk let through"),
        ("open", "orders_open", "Orders that are open"),
        ("fills", "fills", "Fills, each once"),
        ("fills_repeated", "fills_repeated", "Fills that had been seen before"),
        ("failovers", "broker_failovers", "Times that the router turned away from a broker"),
        ("returns", "broker_returns", "Times that it took up the primary again"),
    ] {
        // A family without labels would be told with empty braces.
        if let Some(number) = exec[field].as_f64() {
            let gauge = Gauge::<f64, AtomicU64>::default();
            gauge.set(number);
            registry.register(name, help, gauge);
        }
    }
    let mut denied = Series::new("orders_denied", "Signals that risk denied, by reason");
    for (reason, count) in exec["denied"].as_object().into_iter().flatten() {
        denied.add(labels([("reason", &reason.as_str().into())]), count.as_f64());
    }
    denied.register(registry);
    for (field, name, help) in [
        ("placed", "broker_placed_orders", "Orders given to a broker"),
        ("accepted", "broker_accepted_orders", "Orders that it accepted"),
        ("failed", "broker_failed_orders", "Orders that it could not take, by its own fault"),
        ("fills", "broker_fills", "Fills that it told"),
    ] {
        let mut series = Series::new(name, help);
        for (broker, counts) in exec["brokers"].as_object().into_iter().flatten() {
            series.add(labels([("broker", &broker.as_str().into())]), counts[field].as_f64());
        }
        series.register(registry);
    }
    let help = "From a row to the order that answers it";
    let mut latency = Series::new("order_latency_seconds", help);
    for (quantile, field) in [("0.5", "p50_ns"), ("0.99", "p99_ns")] {
        // Of nothing there is no quantile.
        let is_timed = exec["latency"]["count"].as_u64() > Some(0);
        let seconds = exec["latency"][field].as_f64().filter(|_| is_timed).map(|nanos| nanos / 1e9);
        latency.add(labels([("quantile", &quantile.into())]), seconds);
    }
    latency.register(registry);
    let help = "Realised and unrealised profit less fees, in a currency";
    let mut equity = Series::new("equity", help);
    for (currency, amount) in exec["equity"].as_object().into_iter().flatten() {
        let amount = amount.as_str().and_then(|amount| amount.parse().ok());
        equity.add(labels([("currency", &currency.as_str().into())]), amount);
    }
    equity.register(registry);
}
