//! What tools ask about parameters, as JSON.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tickwright_core::domain::{Control, Timestamp};
use tokio::time::Instant;

use super::{ChangeError, Parameters, PipelineHold, ROLE, Reason};
use crate::cluster::{Network, Request};

/// How long a change may take, unless the tool says otherwise.
const PATIENCE: Duration = Duration::from_secs(4);

/// Longest that a tool may let it take.
const PATIENCE_MAX: Duration = Duration::from_secs(55);

/// What a tool may ask.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
enum Call {
    /// What are they, and what was changed?
    Parameters,
    /// Change some of a strategy's, from an event time on, or as soon as may be.
    SetParameters {
        strategy: String,
        parameters: BTreeMap<String, f64>,
        at_ns: Option<u64>,
        by: String,
        why: String,
        patience_ms: Option<u64>,
    },
    /// Nobody is to pass this time, for as long as the lease.
    HoldPipeline {
        at_ns: u64,
        lease_ms: u64,
        /// Nothing has begun yet, so nobody can say how far it is.
        #[serde(default)]
        is_unbegun: bool,
    },
    /// The hold is needed still.
    RenewHold { number: u64 },
    /// Change some of a strategy's where the pipeline is held.
    AdoptParameters {
        number: u64,
        strategy: String,
        parameters: BTreeMap<String, f64>,
        by: String,
        why: String,
    },
    /// The hold is not needed any more.
    ReleaseHold { number: u64 },
}

/// Lets tools, through any node, ask this one.
pub fn serve(network: &Network, parameters: Parameters) {
    let handler = move |mut request: Request| {
        let Some(reply) = request.reply.take() else {
            return Err("parameters are asked for, and not told".to_owned());
        };
        let call: Call = match serde_json::from_slice(&request.body) {
            Ok(call) if request.kind == "json" => call,
            Ok(_) => {
                reply.refuse("ask in JSON");
                return Err("not a question in JSON".into());
            }
            Err(error) => {
                reply.refuse(format!(
                    "{error}; ask \"Parameters\" or {{\"SetParameters\": {{\"strategy\": NAME, \
                     \"parameters\": {{NAME: VALUE}}, \"at_ns\": null, \"by\": WHO, \"why\": WHY}}}}"
                ));
                return Err(error.to_string());
            }
        };
        let parameters = parameters.clone();
        tokio::spawn(async move {
            // It holds its credit until it is answered: that is what bounds these tasks.
            let _request = request;
            match answer(&parameters, call).await {
                Ok(answer) => reply.answer(answer.to_string().into_bytes()),
                Err(error) => reply.refuse(error.to_string()),
            }
        });
        Ok(())
    };
    network.register(ROLE, None, Arc::new(handler));
}

fn values(parameters: BTreeMap<String, f64>) -> Vec<(String, f64)> {
    parameters.into_iter().collect()
}

async fn answer(parameters: &Parameters, call: Call) -> Result<Value, ChangeError> {
    match call {
        Call::Parameters => {
            let (strategies, control) = parameters.get(PATIENCE).await?;
            let of = |(strategy, values): (String, Vec<(String, f64)>)| {
                let values: BTreeMap<String, f64> = values.into_iter().collect();
                json!({ "strategy": strategy, "parameters": values })
            };
            let names: Vec<String> = strategies.iter().map(|(name, _)| name.clone()).collect();
            Ok(json!({
                "strategies": strategies.into_iter().map(of).collect::<Vec<_>>(),
                "changes": changes(&control, &names),
                "held_from_ns": control.hold().map(|hold| hold.at.as_nanos()),
            }))
        }
        Call::SetParameters { strategy, parameters: wanted, at_ns, by, why, patience_ms } => {
            let patience = patience_ms.map_or(PATIENCE, Duration::from_millis).min(PATIENCE_MAX);
            let place = parameters.strategy(&strategy)?;
            let (at, reason) = (at_ns.map(Timestamp::from_nanos), Reason { by: &by, why: &why });
            let wanted = values(wanted);
            let from = parameters.change(place, &wanted, at, reason, patience).await?;
            Ok(json!({ "strategy": strategy, "from_ns": from.as_nanos() }))
        }
        Call::HoldPipeline { at_ns, lease_ms, is_unbegun } => {
            let (at, lease) = (Timestamp::from_nanos(at_ns), Duration::from_millis(lease_ms));
            let hold = match is_unbegun {
                true => parameters.hold_unbegun(at, lease, PATIENCE).await?,
                false => parameters.hold(at, lease, PATIENCE).await?,
            };
            let number = hold.number();
            hold.leave();
            Ok(json!({ "number": number, "at_ns": at_ns }))
        }
        Call::RenewHold { number } => {
            parameters.agreement.renew(number, Instant::now() + PATIENCE).await?;
            Ok(json!({ "number": number }))
        }
        Call::AdoptParameters { number, strategy, parameters: wanted, by, why } => {
            let place = parameters.strategy(&strategy)?;
            let control = parameters.agreement.control(Instant::now() + PATIENCE).await?;
            let held = control.hold().filter(|hold| hold.number == number);
            let held = held.ok_or(ChangeError::Ended)?;
            let hold = PipelineHold::again(parameters, number, held.at);
            let reason = Reason { by: &by, why: &why };
            let adopted = hold.adopt(place, &values(wanted), reason, PATIENCE).await;
            hold.leave();
            Ok(json!({ "strategy": strategy, "from_ns": adopted?.as_nanos() }))
        }
        Call::ReleaseHold { number } => {
            parameters.agreement.release(number);
            Ok(json!({ "number": number }))
        }
    }
}

/// Every change, in the order in which they take effect.
fn changes(control: &Control, names: &[String]) -> Vec<Value> {
    let of = |(change, by, why): (&tickwright_core::domain::ParameterChange, &str, &str)| {
        let values: BTreeMap<&str, f64> =
            change.parameters.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        json!({
            "from_ns": change.at.as_nanos(),
            "strategy": names.get(change.strategy),
            "parameters": values,
            "by": by,
            "why": why,
        })
    };
    control.made().map(of).collect()
}
