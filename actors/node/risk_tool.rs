//! What tools ask exec.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use tickwright_core::config::Config;
use tickwright_core::domain::Scope;

use super::report::ask;
use crate::cluster::Request;
use crate::kit::{Directory, StageReport};
use crate::risk::{self, RiskMessage};
use crate::switchboard::{self, Order, SwitchboardMessage};
use crate::telemetry;

/// What a tool may ask, as JSON.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
enum Call {
    /// What has been judged?
    Report,
    /// What is stopped just now?
    Stopped,
    /// Stop this at once, agreed on or not.
    Kill { what: String, by: String, reason: String },
}

/// Answers a tool that asks the role of risk.
pub(super) fn answer(
    directory: &Directory,
    config: &Arc<Config>,
    mut request: Request,
) -> Result<(), String> {
    let Some(reply) = request.reply.take() else { return Err("risk is told nothing".into()) };
    let call = match serde_json::from_slice(&request.body) {
        Ok(call) if request.kind == "json" => call,
        _ => {
            reply.refuse("ask \"Report\", \"Stopped\" or {\"Kill\": {\"what\": .., \"by\": .., \"reason\": ..}}");
            return Err("not a question for risk".into());
        }
    };
    let (directory, config) = (directory.clone(), Arc::clone(config));
    tokio::spawn(async move {
        match answer_call(&directory, &config, call).await {
            Ok(answer) => reply.answer(answer.to_string().into_bytes()),
            Err(reason) => reply.refuse(reason),
        }
    });
    Ok(())
}

async fn answer_call(directory: &Directory, config: &Config, call: Call) -> Result<Value, String> {
    let patience = telemetry::PATIENCE;
    match call {
        Call::Report => {
            let report = ask(directory, risk::ROLE, RiskMessage::Report, patience).await?;
            let StageReport { complete, counts } = report;
            let denied = counts.denied.iter().filter(|(_, count)| *count > 0);
            let denied: BTreeMap<&str, u64> =
                denied.map(|(code, count)| (code.name(), *count)).collect();
            Ok(json!({
                "rows": counts.rows,
                "signals": counts.signals,
                "approved": counts.approved,
                "denied": denied,
                "open": counts.open,
                "time_ns": complete.frontier.as_nanos(),
            }))
        }
        Call::Stopped => {
            let stopped = ask(directory, risk::ROLE, RiskMessage::Stopped, patience).await?;
            Ok(stopped.iter().map(|scope: &Scope| config.scope_name(scope)).collect())
        }
        Call::Kill { what, by, reason } => {
            let kill = |reply| {
                let (what, by, reason) = (what.clone(), by.clone(), reason.clone());
                SwitchboardMessage::Kill(Order { what, by, reason }, reply)
            };
            ask(directory, switchboard::ROLE, kill, patience).await??;
            Ok(json!({ "heard": what }))
        }
    }
}
