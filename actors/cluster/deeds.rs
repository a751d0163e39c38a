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

/// Has `deed` written down, beside what has to be done, wherever there is a database; with the name of its author's
/// token, where tools have tokens.
pub(super) fn note(
    network: &Network,
    deed: String,
    role: &str,
    author: Option<&str>,
    (to, body, code): (Option<&NodeId>, &Bytes, StatusCode),
) {
    let asked: String = String::from_utf8_lossy(body).chars().take(DETAIL_MAX).collect();
    let mut detail = json!({
        "role": role,
        "node": to,
        "by_way_of": network.own().id,
        "asked": serde_json::from_str(&asked).unwrap_or(Value::String(asked)),
        "outcome": code.as_u16(),
    });
    if let Some(author) = author {
        detail["author"] = author.into();
    }
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
