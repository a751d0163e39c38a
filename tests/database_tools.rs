//! Records as a user has them shown by a running node.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod processes;

use processes::{Node, run, until};
use serde_json::{Value, json};
use tickwright_core::records::Topic;

/// A node that is a cluster of its own, trades in the simulated market, and records all there is.
fn recording(settings: &[(&str, &str)]) -> Node {
    let node = Node::new("exec-1");
    let seed = node.address();
    let common = [
        ("pipeline.input", "simulator"),
        ("simulator.ticks", "20000"),
        ("database.ticks", "true"),
        ("database.factors", "true"),
    ];
    let all = common.iter().chain(settings);
    let mut node = all.fold(node.seeds(&[&seed]), |node, (key, value)| node.set(key, value));
    node.start().is_member();
    node
}

/// What `ctl` shows, if it does.
fn ctl(node: &Node, words: &[&str]) -> Option<String> {
    let url = format!("http://127.0.0.1:{}", node.http);
    let output = run(&[&["ctl", "--node", &url][..], words].concat());
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

/// A value of JSON as it stands among others with commas between them.
fn cell(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.to_owned(),
        None if value.is_null() => String::new(),
        None => value.to_string(),
    }
}

#[test]
fn records_of_every_kind_are_shown_as_json_and_as_comma_separated_values() {
    let node = recording(&[("database.kind", "sqlite")]);
    // Each with a column that is never empty.
    for (topic, name, full) in [
        (Topic::Orders, "orders", "side"),
        (Topic::Trades, "trades", "price"),
        (Topic::Positions, "positions", "quantity"),
        (Topic::Ticks, "ticks", "kind"),
        (Topic::Factors, "factors", "factors"),
        (Topic::Audit, "audit", "deed"),
    ] {
        let show = |format: &str| ctl(&node, &[name, "--limit", "3", format]);
        let as_json = || -> Value {
            let text = show("--json").unwrap_or_default();
            serde_json::from_str(&text).unwrap_or_default()
        };
        let (mut found, mut text) = (Value::Null, String::new());
        until(&format!("there are {name}, and no more of them come"), || {
            found = as_json();
            text = show("--csv").unwrap_or_default();
            let has_rows = found["rows"].as_array().is_some_and(|rows| !rows.is_empty());
            has_rows && as_json()["rows"] == found["rows"]
        });
        let columns: Vec<&str> = topic.columns().iter().map(|(column, _)| column.name).collect();
        assert_eq!(found["columns"], json!(columns), "{name}");
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let header: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
        assert_eq!(header, columns, "{name}");
        let lines: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        let rows = found["rows"].as_array().unwrap();
        assert_eq!(lines.len(), rows.len(), "{text}");
        for (line, row) in lines.iter().zip(rows) {
            let cells: Vec<String> = row.as_array().unwrap().iter().map(cell).collect();
            assert_eq!(line.iter().collect::<Vec<_>>(), cells, "{name}");
        }
        let place = columns.iter().position(|column| *column == full).unwrap();
        assert!(lines.iter().all(|line| !line[place].is_empty()), "{text}");
    }
}
