//! What the tuner has tried, measured and kept, as people read it.

use serde_json::{Value, json};

use super::show::table;

/// Decisions shown of each node, the latest.
const SHOWN: usize = 20;

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(0.0)
}

/// `1 to 4`, for each setting.
fn changes(changed: &Value) -> String {
    let of = |change: &Value| format!("{} {} to {}", plain(&change[0]), change[1], change[2]);
    let changed = changed.as_array().into_iter().flatten();
    changed.map(of).collect::<Vec<_>>().join(", ")
}

fn plain(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

/// Why a trial ended as it did.
fn why(decision: &Value) -> String {
    let (without, with) = (&decision["without"], &decision["with"]);
    let gain = (number(&with["throughput"]) / number(&without["throughput"]) - 1.0) * 100.0;
    let chance = number(&decision["chance"]) * 100.0;
    match decision["verdict"].as_str() {
        Some("kept") => format!("{gain:+.1} %; noise would look so in {chance:.4} % of cases"),
        Some("relieved") => {
            let tail = |of: &Value| number(&of["p99_us"]);
            format!(
                "{gain:+.1} %; p99, beyond its bound, from {:.0} to {:.0} us",
                tail(without),
                tail(with)
            )
        }
        Some("not_better") => format!("{gain:+.1} % is not worth it"),
        Some("noise") => format!("{gain:+.1} % may be noise: so in {chance:.3} % of cases"),
        Some("latency") => format!("p99 {:.0} us is beyond its bound", number(&with["p99_us"])),
        Some("load_changed") => "the load changed meanwhile".into(),
        _ => "somebody changed a setting or took over, or nothing flowed".into(),
    }
}

/// Of each node.
pub(super) fn text(answer: &Value) -> String {
    let mut text = String::new();
    let nodes = answer.as_array().cloned().unwrap_or_default();
    if nodes.is_empty() {
        return "no node tunes anything; see tuner.enabled\n".into();
    }
    for node in &nodes {
        let (name, told) = (plain(&node["node"]), &node["answer"]);
        if let Some(error) = node["error"].as_str() {
            text.push_str(&format!("{name}: {error}\n"));
            continue;
        }
        let part = if told["decides"] == true { "decides" } else { "watches" };
        let settings = told["settings"].as_object().cloned().unwrap_or_default();
        let settings: Vec<String> =
            settings.iter().map(|(key, value)| format!("{key} = {value}")).collect();
        text.push_str(&format!("{name} {part}; {}\n", settings.join(", ")));
        if let Some(rate) = told["window"]["throughput"].as_f64() {
            let tail = told["window"]["p99_us"].as_f64();
            let tail = tail.map_or_else(String::new, |tail| format!(", p99 {tail:.0} us"));
            text.push_str(&format!("last seen {rate:.0} rows/s{tail}\n"));
        }
        let left = told["left_alone"].as_array().into_iter().flatten();
        let left: Vec<&str> = left.filter_map(Value::as_str).collect();
        if !left.is_empty() {
            let left = left.join(", ");
            text.push_str(&format!("left alone, for this node has a value of its own: {left}\n"));
        }
        if told["trying"].is_array() {
            text.push_str(&format!("trying {}\n", changes(&told["trying"])));
        }
        if let Some(problem) = told["problem"].as_str() {
            text.push_str(&format!("the last change did not arrive: {problem}\n"));
        }
        let decisions = told["decisions"].as_array().cloned().unwrap_or_default();
        let shown = &decisions[decisions.len().saturating_sub(SHOWN)..];
        if shown.is_empty() {
            continue;
        }
        let rows: Value = shown
            .iter()
            .map(|decision| {
                let rate = |of: &str| format!("{:.0}", number(&decision[of]["throughput"]));
                json!({
                    "window": decision["window"],
                    "tried": changes(&decision["changed"]),
                    "rows/s": rate("without"),
                    "with it": rate("with"),
                    "verdict": decision["verdict"],
                    "why": why(decision),
                })
            })
            .collect();
        text.push_str(&table(&["window", "tried", "rows/s", "with it", "verdict", "why"], &rows));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_tried_is_shown_with_its_reason() {
        let figures = |throughput: f64, p99_us: f64| json!({ "count": 9, "throughput": throughput, "deviation": 0.02, "p99_us": p99_us });
        let answer = json!([
            { "node": "a", "answer": {
                "decides": true, "window_ms": 1000, "problem": null,
                "settings": { "pipeline.batch_ticks": 4 },
                "left_alone": ["stream.flush_ms"], "window": { "throughput": 1234.5, "p99_us": 77.2 },
                "trying": [["pipeline.batch_ticks", 4, 16]],
                "decisions": [
                    { "window": 33, "changed": [["pipeline.batch_ticks", 1, 4]], "without": figures(100.0, 5.0),
                      "with": figures(250.0, 6.0), "chance": 0.000_01, "verdict": "kept" },
                    { "window": 40, "changed": [["stream.credit_ticks", 8, 2]], "without": figures(250.0, 5.0),
                      "with": figures(250.0, 700_000.0), "chance": null, "verdict": "latency" },
                ],
            } },
            { "node": "b", "error": "it is away" },
        ]);
        let text = text(&answer);
        assert!(
            text.starts_with(
                "a decides; pipeline.batch_ticks = 4\nlast seen 1234 rows/s, p99 77 us\nleft alone, for this node has a value of its own: \
                 stream.flush_ms\ntrying pipeline.batch_ticks 4 to 16\n"
            ),
            "{text}"
        );
        for part in [
            "pipeline.batch_ticks 1 to 4",
            "+150.0 %; noise would look so in 0.0010 % of cases",
            "p99 700000 us is beyond its bound",
            "b: it is away",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(super::text(&json!([])).contains("tuner.enabled"));
    }
}
