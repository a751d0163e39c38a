//! What Prometheus is told of a node: the numbers of its status, and of the shared configuration.
//!
//! Names are as stable as the status they are taken from: everything there that is a number is one
//! gauge, told apart by the label `name`. What people make rules of has names of its own.

mod pipeline;

use std::fmt;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde_json::Value;

/// What a scraper is told that this is.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Numbers of one status; beyond it, nothing more is told.
const NUMBERS_MAX: usize = 4_096;

type Labels = Vec<(String, String)>;
type Gauges = Family<Labels, Gauge<f64, AtomicU64>>;

fn label(name: &str, value: &str) -> Labels {
    vec![(name.to_owned(), value.to_owned())]
}

/// What a node has said of itself; null for what did not answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told<'t> {
    pub(super) status: &'t Value,
    /// How its configuration stands.
    pub(super) config: &'t Value,
    pub(super) alerts: &'t Value,
    /// The ends of streams that are there.
    pub(super) streams: &'t Value,
    /// What the units that are there have counted.
    pub(super) counts: &'t Value,
    /// What its tuner, its search and its adopter say, each of which may be missing.
    pub(super) parts: &'t [(&'static str, Value)],
}

/// The metrics of a node.
///
/// # Errors
///
/// When the encoder fails, which it does for no number.
pub(super) fn text(told: &Told<'_>) -> Result<String, fmt::Error> {
    let Told { status, config, alerts, streams, counts, parts } = told;
    let mut registry = Registry::with_prefix("tickwright");
    let numbers = Gauges::default();
    let mut left = NUMBERS_MAX;
    flatten("", status, &numbers, &mut left);
    registry.register("status", "Every number of `ctl status`, by its path", numbers);
    if !config.is_null() {
        configuration(config, &mut registry);
    }
    ends_of_streams(streams, &mut registry);
    pipeline::register(counts, &mut registry);
    for (name, said) in parts.iter().filter(|(_, said)| said.is_object()) {
        let numbers = Gauges::default();
        flatten("", said, &numbers, &mut left);
        registry.register(
            *name,
            format!("Every number that `{name}/NODE` says, by its path"),
            numbers,
        );
    }
    // Only where this node tells them, so that each is there once.
    if alerts["tells"] == true {
        let raised = Gauges::default();
        for alert in alerts["standing"].as_array().into_iter().flatten() {
            let of =
                |name: &str| (name.to_owned(), alert[name].as_str().unwrap_or_default().to_owned());
            raised.get_or_create(&vec![of("kind"), of("about")]).set(1.0);
        }
        registry.register("alert", "What is raised, as the node that coordinates sees it", raised);
    }
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

fn flatten(path: &str, value: &Value, gauges: &Gauges, left: &mut usize) {
    let below = |name: &str| {
        if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
    };
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                flatten(&below(name), value, gauges, left);
            }
        }
        Value::Number(number) if *left > 0 => {
            *left -= 1;
            let number = number.as_f64().unwrap_or(f64::NAN);
            gauges.get_or_create(&label("name", path)).set(number);
        }
        Value::Bool(is_so) if *left > 0 => {
            *left -= 1;
            gauges.get_or_create(&label("name", path)).set(f64::from(u8::from(*is_so)));
        }
        // Lists have no names that would stay.
        Value::Number(_) | Value::Bool(_) | Value::Null | Value::String(_) | Value::Array(_) => {}
    }
}

/// How far the ends of streams are from each other, in rows. How often an end was moved is in its epoch.
fn ends_of_streams(streams: &Value, registry: &mut Registry) {
    for (field, name, help) in [
        ("credit", "stream_credit_rows", "Rows that a producing end may still send"),
        ("kept_rows", "stream_kept_rows", "Rows that a producing end keeps, sent or not"),
        ("unsent_rows", "stream_unsent_rows", "Rows that wait at a producing end to be sent"),
        ("waiting_rows", "stream_waiting_rows", "Rows that have come and wait for others"),
        ("epoch", "stream_epoch", "Since which epoch of the allocation an end is here"),
    ] {
        let gauges = Gauges::default();
        let mut is_there = false;
        for end in streams.as_array().into_iter().flatten().take(NUMBERS_MAX) {
            let side = if end["producer"].is_object() { "producer" } else { "consumer" };
            let number = if field == "epoch" { &end[field] } else { &end[side][field] };
            let Some(number) = number.as_f64() else { continue };
            let text = |name: &str| end[name].as_str().unwrap_or_default().to_owned();
            let labels = [("from", text("from")), ("to", text("to")), ("end", side.to_owned())];
            let labels: Labels =
                labels.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            gauges.get_or_create(&labels).set(number);
            is_there = true;
        }
        if is_there {
            registry.register(name, help, gauges);
        }
    }
}

fn configuration(config: &Value, registry: &mut Registry) {
    for (name, help) in [
        ("keys", "Keys that hold a value"),
        ("tombstones", "Removals that are not forgotten yet"),
        ("conflicts", "Keys with several writes that did not know of each other"),
    ] {
        let gauge = Gauge::<f64, AtomicU64>::default();
        gauge.set(config[name].as_f64().unwrap_or(0.0));
        registry.register(format!("config_{name}"), help, gauge);
    }
    let diverging = Gauges::default();
    for member in config["members"].as_array().into_iter().flatten() {
        let differs = member["is_equal"] != true;
        let name = member["node"].as_str().unwrap_or_default();
        diverging.get_or_create(&label("member", name)).set(f64::from(u8::from(differs)));
    }
    let help = "Whether a member's configuration is another than here";
    registry.register("config_diverging", help, diverging);
    let spread = Gauges::default();
    for (quantile, field) in [("0.5", "ms_p50"), ("0.99", "ms_p99"), ("1", "ms_max")] {
        let seconds = config["delays"][field].as_f64().unwrap_or(0.0) / 1e3;
        spread.get_or_create(&label("quantile", quantile)).set(seconds);
    }
    let help = "From a write here until another node has stored it";
    registry.register("config_spread_seconds", help, spread);
    for (name, count) in config["counts"].as_object().into_iter().flatten() {
        let counter = Counter::<u64>::default();
        counter.inc_by(count.as_u64().unwrap_or(0));
        let help = "Counts of the shared configuration, as `ctl config status` has them";
        registry.register(format!("config_{name}_count"), help, counter);
    }
    let (values, late) = (Gauges::default(), Gauges::default());
    for standing in config["live"].as_array().into_iter().flatten() {
        let key = label("key", standing["key"].as_str().unwrap_or_default());
        values.get_or_create(&key).set(standing["value"].as_f64().unwrap_or(0.0));
        let applied = standing["applied"].as_object().into_iter().flatten();
        let not_yet = applied.filter(|(_, version)| **version != standing["version"]).count();
        let not_yet = u32::try_from(not_yet).unwrap_or(u32::MAX);
        late.get_or_create(&key).set(f64::from(not_yet));
    }
    registry.register("config_live_value", "What counts for a key here", values);
    registry.register("config_live_late", "Actors that do not go by it yet", late);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_told_by_their_paths_and_the_configuration_by_name() {
        let status = json!({
            "node": "a", "is_member": true, "network": { "sent": 3 }, "linked": ["b"],
        });
        let config = json!({
            "keys": 2, "members": [{ "node": "b", "is_equal": false }],
            "delays": { "ms_p99": 12.5 }, "counts": { "repairs": 7 },
            "live": [{ "key": "k", "value": 16, "version": 2, "applied": { "x": 1, "y": 2 } }],
        });
        let alerts =
            json!({ "tells": true, "standing": [{ "kind": "node_offline", "about": "b" }] });
        let streams = json!([
            { "from": "cleaner/0", "to": "risk", "epoch": 3, "producer": { "credit": 7, "kept_rows": 1 } },
            { "from": "strategy/0", "to": "risk", "epoch": 1, "consumer": { "waiting_rows": 2 } },
        ]);
        let counts = json!({
            "sources": [{
                "unit": "source/0", "name": "a.csv", "rows": 9, "malformed": 1, "gaps": 0, "clean": 6,
                "rejected": { "crossed": 2 },
            }],
            "shards": [{ "unit": "shard/1", "rows": 6, "factors": 40, "signals": { "main": 3 } }],
            "exec": {
                "rows": 6, "signals": 3, "approved": 2, "denied": { "rate": 1 }, "open": 1,
                "brokers": { "primary": { "placed": 2, "failed": 0, "accepted": 2, "fills": 4 }, "backup": null },
                "failovers": 0, "returns": 0, "fills": 4, "fills_repeated": 0,
                "latency": { "count": 2, "p50_ns": 1_500, "p99_ns": 2_000_000 }, "equity": { "USD": "-1.25" },
            },
        });
        let parts = [
            ("tuner", json!({ "decides": true, "settings": { "pipeline.batch_ticks": 64 } })),
            ("adoption", Value::Null),
        ];
        let all = Told {
            status: &status,
            config: &config,
            alerts: &alerts,
            streams: &streams,
            counts: &counts,
            parts: &parts,
        };
        let told = text(&all).unwrap();
        for line in [
            "tickwright_status{name=\"is_member\"} 1.0",
            "tickwright_status{name=\"network.sent\"} 3.0",
            "tickwright_config_keys 2.0",
            "tickwright_config_diverging{member=\"b\"} 1.0",
            "tickwright_config_spread_seconds{quantile=\"0.99\"} 0.0125",
            "tickwright_config_repairs_count_total 7",
            "tickwright_config_live_value{key=\"k\"} 16.0",
            "tickwright_config_live_late{key=\"k\"} 1.0",
            "tickwright_alert{kind=\"node_offline\",about=\"b\"} 1.0",
            "tickwright_stream_credit_rows{from=\"cleaner/0\",to=\"risk\",end=\"producer\"} 7.0",
            "tickwright_stream_epoch{from=\"cleaner/0\",to=\"risk\",end=\"producer\"} 3.0",
            "tickwright_stream_waiting_rows{from=\"strategy/0\",to=\"risk\",end=\"consumer\"} 2.0",
            "tickwright_source_rows{unit=\"source/0\",name=\"a.csv\"} 9.0",
            "tickwright_source_rejected_rows{unit=\"source/0\",reason=\"crossed\"} 2.0",
            "tickwright_strategy_signals{unit=\"shard/1\",strategy=\"main\"} 3.0",
            "tickwright_orders_approved 2.0",
            "tickwright_orders_denied{reason=\"rate\"} 1.0",
            "tickwright_broker_placed_orders{broker=\"primary\"} 2.0",
            "tickwright_order_latency_seconds{quantile=\"0.5\"} 0.0000015",
            "tickwright_equity{currency=\"USD\"} -1.25",
            "tickwright_tuner{name=\"settings.pipeline.batch_ticks\"} 64.0",
        ] {
            assert!(told.lines().any(|told| told == line), "{line} is not in\n{told}");
        }
        assert!(told.ends_with("# EOF\n"));
        let null = Value::Null;
        let nothing =
            Told { config: &null, alerts: &null, streams: &null, counts: &null, parts: &[], ..all };
        let nothing = text(&nothing).unwrap();
        let others = nothing
            .lines()
            .find(|line| !line.contains("tickwright_status") && !line.starts_with("# EOF"));
        assert_eq!(others, None, "{nothing}");
        let of_another = json!({ "tells": false, "standing": alerts["standing"] });
        let of_another = text(&Told { alerts: &of_another, ..all }).unwrap();
        assert!(!of_another.contains("tickwright_alert"), "{of_another}");
    }
}
