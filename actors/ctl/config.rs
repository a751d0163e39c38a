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
