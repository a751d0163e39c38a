//! What operators do through the door for tools, for the records.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::StatusCode;
use serde_json::{Value, json};
use tickwright_core::domain::NodeId;

use super::network::{Message, Network};

/// The role that records, wherever in the cluster it is.
const RECORDS: &str = "records";

/// How long word of it may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longest question that is written down whole, in characters.
const DETAIL_MAX: usize = 2_000;

/// Questions that change something, by name. Locks are not among them: programs take them all the time.
const DEEDS: &[&str] = &[
    "AdoptParameters",
    "Allocate",
    "Cas",
    "CutOff",
    "DiscardAside",
    "Drain",
    "Finish",
    "Forget",
    "HoldPipeline",
    "Kill",
    "KillActor",
    "Open",
    "Promote",
    "Reconcile",
    "Release",
    "ReleaseHold",
    "SetParameters",
    "RetryAside",
    "Turn",
];

/// The name of what `body` asks for, if it changes something.
pub(super) fn deed_of(body: &[u8]) -> Option<String> {
    let question: Value = serde_json::from_slice(body).ok()?;
    let name = match &question {
        Value::String(name) => name,
        Value::Object(fields) if fields.len() == 1 => fields.keys().next()?,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            return None;
        }
    };
    DEEDS.contains(&name.as_str()).then(|| name.clone())
}

/// Has `deed` written down, beside what has to be done, wherever there is a database.
pub(super) fn note(
    network: &Network,
    deed: String,
    role: &str,
    (to, body, code): (Option<&NodeId>, &Bytes, StatusCode),
) {
    let asked: String = String::from_utf8_lossy(body).chars().take(DETAIL_MAX).collect();
    let detail = json!({
        "role": role,
        "node": to,
        "by_way_of": network.own().id,
        "asked": serde_json::from_str(&asked).unwrap_or(Value::String(asked)),
        "outcome": code.as_u16(),
    });
    let call = json!({ "Note": { "deed": deed, "detail": detail.to_string() } }).to_string();
    let network = network.clone();
    // Bounded by the connections of tools: each has one question at a time, and these are small.
    tokio::spawn(async move {
        let message = Message::json(RECORDS, &call);
        if network.serving(RECORDS).is_none() {
            tracing::info!(deed, "an operator's deed; no database is there to keep it");
        } else if let Err(error) = network.ask(None, message, PATIENCE).await {
            tracing::warn!(deed, %detail, %error, "an operator's deed is not in the database");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_something_is_told_from_what_asks() {
        let drain = json!({ "Drain": { "node": "calc-1", "undo": false } }).to_string();
        assert_eq!(deed_of(drain.as_bytes()).as_deref(), Some("Drain"));
        assert_eq!(deed_of(b"\"Finish\"").as_deref(), Some("Finish"));
        for asks in
            ["\"Report\"", "{\"Read\":{\"key\":\"x\"}}", "{\"Kill\":1,\"more\":2}", "{", "7"]
        {
            assert_eq!(deed_of(asks.as_bytes()), None, "{asks}");
        }
    }
}
