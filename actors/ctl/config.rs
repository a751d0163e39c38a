//! The configuration that all nodes share, as tools ask for it and read the answers.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::secrets::shortened;
use super::show::{plain, table};
use super::{CtlError, CtlTarget, exchange_json};
use crate::config_sync::ConfigCall;

/// How much longer an answer may take than the wait that was asked for.
const MARGIN: Duration = Duration::from_secs(2);

pub(super) fn ask(call: &ConfigCall, target: &CtlTarget) -> Result<Value, CtlError> {
    let mut target = target.clone();
    if let ConfigCall::Watch { wait_ms, .. } = call {
        target.patience = Some(Duration::from_millis(*wait_ms) + MARGIN);
    }
    let question = serde_json::to_string(call).map_err(|e| CtlError::Refused(e.to_string()))?;
    exchange_json(&target, "POST", "/config".into(), &question)
}

pub(super) fn text(call: &ConfigCall, answer: &Value) -> String {
    let answer = &shortened(answer);
    match call {
        ConfigCall::Status => status(answer),
        ConfigCall::List { .. } => {
            table(&["key", "value", "scope", "author", "priority", "siblings", "at_ms"], answer)
        }
        ConfigCall::History { .. } => table(&["back", "value", "author", "at_ms", "dot"], answer),
        ConfigCall::Diff => table(&["key", "cluster_toml", "value", "scope"], answer),
        ConfigCall::Conflicts => conflicts(answer),
        ConfigCall::Vectors => vectors(answer),
        // The tool asks these for more than a call can say, see `SecretTask`.
        ConfigCall::Secrets | ConfigCall::RotateSecrets { .. } => {
            format!("{}\n", serde_json::to_string_pretty(answer).unwrap_or_default())
        }
        ConfigCall::Audit { .. } => audit(answer),
        ConfigCall::Watch { .. } => {
            let mut text = table(&["number", "key", "value", "scope"], &answer["changes"]);
            if answer["missed"] == true {
                text.push_str("some changes before these are not kept any more\n");
            }
            text.push_str(&format!("go on with --since {}\n", plain(&answer["since"])));
            text
        }
        ConfigCall::Get { .. } => {
            format!(
                "{} = {} ({})\n",
                plain(&answer["key"]),
                plain(&answer["value"]),
                plain(&answer["scope"])
            )
        }
        ConfigCall::Set { .. } | ConfigCall::Rollback { .. } | ConfigCall::Resolve { .. }
            if !answer["value"].is_null() =>
        {
            let value = plain(&answer["value"]);
            format!("{} is {value} for {}\n", plain(&answer["key"]), plain(&answer["scope"]))
        }
        ConfigCall::Set { .. }
        | ConfigCall::Unset { .. }
        | ConfigCall::Rollback { .. }
        | ConfigCall::Resolve { .. } => {
            format!("{} is not set for {}\n", plain(&answer["key"]), plain(&answer["scope"]))
        }
    }
}

fn status(answer: &Value) -> String {
    let mut text = String::new();
    for name in
        ["node", "environment", "replica", "root", "is_equal", "keys", "tombstones", "conflicts"]
    {
        text.push_str(&format!("{name:<12} {}\n", plain(&answer[name])));
    }
    let delays = &answer["delays"];
    text.push_str(&format!(
        "{:<12} p50 {} ms, p99 {} ms, of {} pushes answered\n",
        "spread",
        plain(&delays["ms_p50"]),
        plain(&delays["ms_p99"]),
        plain(&delays["count"])
    ));
    text.push_str(&format!("{:<12} {}\n", "counts", plain(&answer["counts"])));
    text.push('\n');
    text.push_str(&table(&["node", "is_equal", "is_fresh", "heard_ms"], &answer["members"]));
    text.push('\n');
    let mut rows = Vec::new();
    for standing in answer["live"].as_array().into_iter().flatten() {
        let version = &standing["version"];
        let all = standing["applied"].as_object();
        let late: Vec<&str> = all
            .into_iter()
            .flatten()
            .filter(|(_, applied)| *applied != version)
            .map(|(reader, _)| reader.as_str())
            .collect();
        rows.push(json!({
            "key": standing["key"], "value": standing["value"],
            "applied_by": all.map_or(0, |all| all.len() - late.len()),
            "not_yet_by": late.join(" "),
        }));
    }
    text.push_str(&table(&["key", "value", "applied_by", "not_yet_by"], &json!(rows)));
    text
}

fn audit(answer: &Value) -> String {
    let columns = ["number", "at_ms", "author", "key", "value", "dot", "hash"];
    let mut text = table(&columns, &answer["writes"]);
    text.push_str(&match answer["first_broken"].as_u64() {
        None => format!("the chain is whole: {} writes were checked\n", plain(&answer["verified"])),
        Some(number) => {
            format!("the chain is BROKEN at {number}: that record, or one before it, was changed or removed\n")
        }
    });
    text
}

fn conflicts(answer: &Value) -> String {
    let mut text = String::new();
    for key in answer.as_array().into_iter().flatten() {
        text.push_str(&format!(
            "{} for {} reads {} by the rule {}:\n",
            plain(&key["key"]),
            plain(&key["scope"]),
            plain(&key["value"]),
            plain(&key["rule"])
        ));
        text.push_str(&table(&["dot", "value", "author", "priority", "at_ms"], &key["siblings"]));
    }
    if text.is_empty() { "no key has conflicting writes\n".into() } else { text }
}

/// A row for each node, a column for each replica that has ever written.
fn vectors(answer: &Value) -> String {
    let rows = answer.as_array().cloned().unwrap_or_default();
    let seen = rows.iter().filter_map(|row| row["seen"].as_object());
    let replicas: BTreeSet<&str> = seen.flat_map(|seen| seen.keys().map(String::as_str)).collect();
    let columns: Vec<&str> = ["node"].into_iter().chain(replicas.iter().copied()).collect();
    let of = |row: &Value| -> Value {
        let cells = replicas.iter().map(|&replica| {
            let counter = row["seen"].get(replica).cloned().unwrap_or(json!(0));
            (replica.to_owned(), counter)
        });
        let node = [("node".to_owned(), row["node"].clone())];
        Value::Object(node.into_iter().chain(cells).collect())
    };
    table(&columns, &rows.iter().map(of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config_sync::ConfigPlace;

    fn lines(call: &ConfigCall, answer: &Value) -> Vec<String> {
        text(call, answer).lines().map(str::to_owned).collect()
    }

    #[test]
    fn vectors_have_a_row_for_each_node_and_a_column_for_each_replica() {
        let answer = json!([
            { "node": "a", "replica": "a.1", "seen": { "a.1": 7, "b.2": 3 } },
            { "node": "b", "replica": "b.2", "seen": { "b.2": 3 } },
        ]);
        let expected = ["node  a.1  b.2", "a     7    3", "b     0    3"];
        assert_eq!(lines(&ConfigCall::Vectors, &answer), expected);
    }

    #[test]
    fn conflicts_are_told_with_what_is_read_by_which_rule_and_every_write() {
        let sibling = |dot: &str, value: Value, author: &str, priority: u8, at_ms: u64| {
            json!({
                "dot": dot, "value": value, "author": author, "priority": priority, "at_ms": at_ms,
            })
        };
        let siblings = [
            sibling("a.1:2", json!(3), "eva", 0, 1_000),
            sibling("b.1:9", Value::Null, "tom", 200, 999),
        ];
        let answer = json!([{
            "key": "user.limit", "scope": "node exec-1", "value": 3, "rule": "max",
            "siblings": siblings,
        }]);
        let expected = [
            "user.limit for node exec-1 reads 3 by the rule max:",
            "dot    value  author  priority  at_ms",
            "a.1:2  3      eva     0         1000",
            "b.1:9  -      tom     200       999",
        ];
        assert_eq!(lines(&ConfigCall::Conflicts, &answer), expected);
        let none = ["no key has conflicting writes"];
        assert_eq!(lines(&ConfigCall::Conflicts, &json!([])), none);
    }

    #[test]
    fn what_counts_otherwise_than_the_file_says_is_beside_it() {
        let answer = json!([{
            "key": "pipeline.batch_ticks", "cluster_toml": 256, "value": 16, "scope": "all",
        }]);
        let expected = [
            "key                   cluster_toml  value  scope",
            "pipeline.batch_ticks  256           16     all",
        ];
        assert_eq!(lines(&ConfigCall::Diff, &answer), expected);
    }

    #[test]
    fn what_is_set_and_what_it_was_is_shown_with_who_set_it() {
        let row = json!({
            "key": "user.pair", "value": "BTC", "scope": "environment live", "author": "eva",
            "priority": 0, "siblings": 2, "merge": "latest", "at_ms": 1_700,
        });
        let list = ConfigCall::List { prefix: String::new() };
        let expected = [
            "key        value  scope             author  priority  siblings  at_ms",
            "user.pair  BTC    environment live  eva     0         2         1700",
        ];
        assert_eq!(lines(&list, &json!([row])), expected);
        let versions = json!([
            { "back": 0, "value": "BTC", "author": "eva", "at_ms": 1_700, "dot": "a.1:2" },
            { "back": 1, "value": null, "author": "tom", "at_ms": 900, "dot": "a.1:1" },
        ]);
        let history = ConfigCall::History { place: ConfigPlace::base("user.pair") };
        let expected = [
            "back  value  author  at_ms  dot",
            "0     BTC    eva     1700   a.1:2",
            "1     -      tom     900    a.1:1",
        ];
        assert_eq!(lines(&history, &versions), expected);
    }

    #[test]
    fn the_status_tells_who_is_equal_and_which_actors_go_by_an_older_value() {
        let answer = json!({
            "node": "a", "environment": null, "replica": "a.1", "root": "00ff", "is_equal": false,
            "is_fresh": false, "keys": 3, "tombstones": 1, "conflicts": 2, "clock_ahead_ms": 0,
            "members": [{ "node": "b", "is_equal": false, "is_fresh": true, "heard_ms": 120 }],
            "delays": { "count": 9, "ms_p50": 1.5, "ms_p99": 4.25, "ms_max": 5.0 },
            "counts": { "writes": 4 },
            "live": [{
                "key": "pipeline.batch_ticks", "value": 16, "version": 2, "is_particular": false,
                "applied": { "ingester/0": 2, "ingester/1": 1 },
            }],
        });
        let told = lines(&ConfigCall::Status, &answer);
        for line in [
            "node         a",
            "environment  -",
            "replica      a.1",
            "root         00ff",
            "is_equal     false",
            "keys         3",
            "tombstones   1",
            "conflicts    2",
            "spread       p50 1.5 ms, p99 4.25 ms, of 9 pushes answered",
            "counts       writes=4",
            "node  is_equal  is_fresh  heard_ms",
            "b     false     true      120",
            "key                   value  applied_by  not_yet_by",
            "pipeline.batch_ticks  16     1           ingester/1",
        ] {
            assert!(told.iter().any(|told| told == line), "{line}\n{told:#?}");
        }
    }
}
