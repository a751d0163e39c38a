//! Kill switches, as tools turn them.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::deeds::{PAUSE, ask_ledger, step, text};
use super::{CtlError, CtlTarget, exchange_json, user};
use crate::kit::Clock;

/// How long exec may take to do as it was told.
const EFFECT_PATIENCE: Duration = Duration::from_secs(5);

fn ask_risk(target: &CtlTarget, question: &Value) -> Result<Value, CtlError> {
    exchange_json(target, "POST", "/ask/risk".into(), &question.to_string())
}

fn turn(what: &str, is_on: bool, reason: &str, target: &CtlTarget) -> Result<Value, CtlError> {
    let turn = json!({ "what": what, "is_on": is_on, "by": user(), "reason": reason });
    ask_ledger(target, &json!({ "Turn": turn }))
}

/// Stops something: exec at once, and everybody who has exec later by agreement.
pub(super) fn kill(what: &str, reason: &str, target: &CtlTarget) -> Result<Value, CtlError> {
    let target = step(target);
    let order = json!({ "what": what, "by": user(), "reason": reason });
    let heard = ask_risk(&target, &json!({ "Kill": order }));
    if let Err(CtlError::Refused(reason)) = &heard
        && reason.starts_with("cannot stop")
    {
        return heard;
    }
    let agreed = turn(what, true, reason, &target);
    let told = match (&heard, &agreed) {
        (Err(error), Err(_)) => {
            return Err(CtlError::Refused(format!(
                "{what} is NOT stopped: exec is not reached ({error}), and it cannot be agreed on; try \
                 another node by --node"
            )));
        }
        (Ok(_), Err(error)) => format!(
            "{what} is stopped where exec is, and is not agreed on yet: exec's node keeps at it while it \
             is there ({error})"
        ),
        (Err(error), Ok(_)) => format!(
            "{what} is agreed to be stopped; exec is not reached just now ({error}), and is told as soon \
             as it is there: `tickwright ctl switches` shows whether it goes by it"
        ),
        (Ok(_), Ok(_)) => format!("{what} is stopped, until `tickwright ctl rearm {what}`"),
    };
    let in_effect = heard.is_ok() && await_effect(what, true, &target).unwrap_or(false);
    let told = match heard.is_ok() && !in_effect {
        true => format!(
            "exec was told to stop {what} and has not said within {EFFECT_PATIENCE:?} that it does; see \
             `tickwright ctl switches`"
        ),
        false => told,
    };
    Ok(json!({
        "what": what, "is_agreed": agreed.is_ok(), "in_effect": in_effect, "told": told,
    }))
}

/// Lets something go on again, once that is agreed on.
pub(super) fn rearm(what: &str, reason: &str, target: &CtlTarget) -> Result<Value, CtlError> {
    let target = step(target);
    let standing = ask_ledger(&target, &"Switches".into())?;
    let known = standing.as_array().cloned().unwrap_or_default();
    let stopped = ask_risk(&target, &"Stopped".into()).unwrap_or_default();
    let is_stopped = stopped.as_array().is_some_and(|all| all.iter().any(|each| each == what));
    // What losses did to an account is ended in the same way.
    let restricted = ask_risk(&target, &"Restricted".into()).unwrap_or_default();
    let is_stopped = is_stopped || restricted.get(what).is_some();
    if !is_stopped && !known.iter().any(|each| each["what"] == what && each["is_on"] == true) {
        return Err(CtlError::Refused(format!(
            "{what} is not stopped; `tickwright ctl switches` shows what is"
        )));
    }
    turn(what, false, reason, &target)?;
    let in_effect = await_effect(what, false, &target).unwrap_or(false);
    let when = if in_effect { "again" } else { "again as soon as exec hears of it" };
    let told = format!("{what} trades {when}");
    Ok(json!({ "what": what, "is_agreed": true, "in_effect": in_effect, "told": told }))
}

/// Whether exec comes to stop it, or to stop it no more.
fn await_effect(what: &str, is_stopped: bool, target: &CtlTarget) -> Result<bool, CtlError> {
    let until = Instant::now() + EFFECT_PATIENCE;
    loop {
        let stopped = ask_risk(target, &"Stopped".into())?;
        let found = stopped.as_array().is_some_and(|all| all.iter().any(|each| each == what));
        if found == is_stopped {
            return Ok(true);
        }
        if Instant::now() >= until {
            return Ok(false);
        }
        thread::sleep(PAUSE);
    }
}

/// Every switch that was turned, and whether exec goes by it; and what losses have stopped.
pub(super) fn list(target: &CtlTarget) -> Result<Value, CtlError> {
    let mut rows = ask_ledger(target, &"Switches".into())?;
    let stopped = ask_risk(target, &"Stopped".into()).ok();
    let stopped = stopped.as_ref().and_then(Value::as_array);
    let now = Duration::from_nanos(Clock::system().now().as_nanos());
    for row in rows.as_array_mut().into_iter().flatten() {
        let what = text(&row["what"]);
        row["in_effect"] = match stopped {
            Some(all) => (all.iter().any(|each| *each == what) == (row["is_on"] == true)).into(),
            None => Value::Null,
        };
        let at = Duration::from_millis(row["at_ms"].as_u64().unwrap_or(0));
        row["seconds_ago"] = now.saturating_sub(at).as_secs().into();
    }
    let restricted = ask_risk(target, &"Restricted".into()).unwrap_or_default();
    for (what, state) in restricted.as_object().into_iter().flatten() {
        let reason = format!("it lost more than it may, and is {}", text(state));
        let row = json!({
            "what": what, "is_on": true, "in_effect": true, "by": "risk", "reason": reason,
            "seconds_ago": null,
        });
        rows.as_array_mut().into_iter().for_each(|rows| rows.push(row.clone()));
    }
    Ok(rows)
}
