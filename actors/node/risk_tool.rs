//! What tools ask exec.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde::Deserialize;
use serde_json::{Value, json};
use tickwright_core::backtest::performances;
use tickwright_core::config::Config;
use tickwright_core::domain::{
    AccountId, BrokerId, Histogram, InstrumentIndex, Quantity, Scope, Symbol, decimal,
};
use tickwright_core::pipeline::risk::TradingState;

use super::Node;
use super::report::{ask, brokers};
use crate::cluster::{Network, Request};
use crate::exchange_broker::{self, ADOPT_PATIENCE, ExchangeBrokerMessage, RECONCILE_PATIENCE};
use crate::kit::{Directory, StageReport};
use crate::positions::{self, PositionsMessage};
use crate::risk::{self, RiskMessage};
use crate::router;
use crate::switchboard::{self, Order, SwitchboardMessage};
use crate::telemetry;
use crate::tuner::Measured;

/// What a tool may ask, as JSON.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
enum Call {
    /// What has been judged?
    Report,
    /// What has come, and how long orders have taken?
    Measured,
    /// How well has each currency done?
    Earned,
    /// What is stopped just now?
    Stopped,
    /// Which accounts may do less than others, because of losses?
    Restricted,
    /// Look through the accounts at exchanges.
    Reconcile { adopt: bool },
    /// A person has looked for an order that nobody could find out about.
    Release { client_id: String, is_there: bool },
    /// Stop this at once, agreed on or not.
    Kill { what: String, by: String, reason: String },
}

impl Node {
    /// Lets tools ask exec of this process, which is in no cluster, and stop what it does.
    pub fn serve_exec(&self, network: &Network) {
        let (directory, config) = (self.directory.clone(), Arc::clone(&self.wiring.config));
        let handler = move |request| answer(&directory, &config, request);
        network.register(risk::ROLE, None, Arc::new(handler));
    }
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
            reply.refuse("ask \"Report\", \"Stopped\", \"Restricted\", {\"Reconcile\": {\"adopt\": false}} or {\"Kill\": {\"what\": .., \"by\": .., \"reason\": ..}}");
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
        Call::Measured => {
            let measured = measured(directory).await?;
            Ok(json!({ "rows": measured.rows, "latency": measured.latency }))
        }
        Call::Earned => {
            let report =
                ask(directory, positions::ROLE, PositionsMessage::Report, patience).await?;
            let mark = |index: InstrumentIndex| report.marks.get(index.index()).copied().flatten();
            Ok(json!(performances(&report.positions, mark, &config.account_terms())))
        }
        Call::Stopped => {
            let stopped = ask(directory, risk::ROLE, RiskMessage::Stopped, patience).await?;
            Ok(stopped.iter().map(|scope: &Scope| config.scope_name(scope)).collect())
        }
        Call::Restricted => {
            let accounts = ask(directory, risk::ROLE, RiskMessage::Restricted, patience).await?;
            let of = |(account, state): (AccountId, TradingState)| {
                (config.scope_name(&Scope::Account(account)), json!(state))
            };
            Ok(accounts.into_iter().map(of).collect())
        }
        Call::Reconcile { adopt } => reconcile(directory, config, adopt).await,
        Call::Release { client_id, is_there } => {
            let mut refused = String::new();
            for role in exchanges(directory)? {
                let release =
                    |reply| ExchangeBrokerMessage::Release(client_id.clone(), is_there, reply);
                match ask(directory, &role, release, patience).await? {
                    Ok(answer) => return Ok(answer),
                    Err(reason) => refused = reason,
                }
            }
            Err(refused)
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

/// What exec has counted, if it is here.
pub(super) async fn measured(directory: &Directory) -> Result<Measured, String> {
    let patience = telemetry::PATIENCE;
    let risk = ask(directory, risk::ROLE, RiskMessage::Report, patience).await?;
    let mut latency = Histogram::new();
    for report in brokers(directory, patience).await? {
        latency.merge(&report.latency);
    }
    Ok(Measured { rows: risk.counts.rows, latency })
}

/// The roles of brokers outside.
fn exchanges(directory: &Directory) -> Result<Vec<String>, String> {
    let roles = (0..router::BROKERS).map(exchange_broker::role);
    let roles: Vec<String> = roles.filter(|role| directory.serving(role).is_some()).collect();
    if roles.is_empty() {
        return Err("no broker is an exchange: see broker.primary.kind".into());
    }
    Ok(roles)
}

/// What is found of each account at each exchange, beside what it holds here just then. They are looked through at
/// once, and one that does not answer holds up no other.
///
/// # Errors
///
/// Why there is nothing of any of them.
async fn reconcile(directory: &Directory, config: &Config, adopts: bool) -> Result<Value, String> {
    exchanges(directory)?;
    let brokers = (0..router::BROKERS).filter_map(|broker| {
        let exchange = config.exchange(BrokerId(u8::try_from(broker).ok()?), 0)?;
        let role = exchange_broker::role(broker);
        directory.serving(&role)?;
        Some(exchange.accounts.into_iter().map(move |of| (role.clone(), of)))
    });
    let asked = brokers.flatten().map(async |(role, of)| {
        let reconcile = |reply| ExchangeBrokerMessage::Reconcile(of.account, adopts, reply);
        // It answers by then, whatever is missing.
        let patience = RECONCILE_PATIENCE + ADOPT_PATIENCE + Duration::from_secs(2);
        let mut answer = ask(directory, &role, reconcile, patience).await.flatten();
        let held = held(directory, of.account).await;
        let held = match held {
            Ok(held) => held,
            Err(reason) => {
                answer = Err(reason);
                BTreeMap::new()
            }
        };
        (of.orders.venue, answer, held)
    });
    let answers = join_all(asked).await;
    if answers.iter().all(|(_, answer, _)| answer.is_err()) {
        let reasons = answers.into_iter().filter_map(|(venue, answer, _)| {
            answer.err().map(|reason| format!("{venue}: {reason}"))
        });
        return Err(reasons.collect::<Vec<_>>().join("; "));
    }
    let mut accounts = Vec::new();
    for (venue, answer, held) in answers {
        let mut account = answer.unwrap_or_else(|reason| {
            json!({ "account": venue.to_string(), "is_complete": false, "problem": reason })
        });
        account["name"] = venue.account.into();
        account["held"] = json!(held);
        accounts.push(account);
    }
    Ok(json!({ "accounts": accounts }))
}

/// What an account holds here, by symbol.
async fn held(
    directory: &Directory,
    account: AccountId,
) -> Result<BTreeMap<String, String>, String> {
    let held = ask(directory, risk::ROLE, RiskMessage::Held, telemetry::PATIENCE).await?;
    let of = held.into_iter().filter(|(of, ..)| *of == account);
    let text = |(_, symbol, quantity, decimals): (_, Symbol, Quantity, u8)| {
        (symbol.as_str().to_owned(), decimal::format(quantity.0.into(), decimals))
    };
    Ok(of.map(text).collect())
}
