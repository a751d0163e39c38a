//! Parameters of strategies that run, as tools see and change them.

use std::time::Duration;

use serde_json::{Value, json};

use super::show::{plain, table};
use super::{CtlError, CtlTarget, ParameterSetting, exchange_json, user};

/// How long a change may take, unless the user says otherwise.
const PATIENCE: Duration = Duration::from_secs(20);

/// How much longer the node that is asked may take to pass the answer on.
const MARGIN: Duration = Duration::from_secs(1);

fn ask(question: &Value, target: &CtlTarget) -> Result<Value, CtlError> {
    let answer = exchange_json(target, "POST", "/ask/parameters".into(), &question.to_string());
    if let Err(CtlError::Refused(reason)) = &answer
        && reason.starts_with("nobody serves")
    {
        return Err(CtlError::Refused(
            "no node has a pipeline: set pipeline.input in the configuration of the nodes".into(),
        ));
    }
    answer
}

pub(super) fn get(target: &CtlTarget) -> Result<Value, CtlError> {
    ask(&"Parameters".into(), target)
}

pub(super) fn set(setting: &ParameterSetting, target: &CtlTarget) -> Result<Value, CtlError> {
    let patience = target.patience.unwrap_or(PATIENCE);
    let target = CtlTarget { patience: Some(patience + MARGIN), ..target.clone() };
    let ParameterSetting { strategy, parameters, at, why } = setting;
    let question = json!({ "SetParameters": {
        "strategy": strategy,
        "parameters": parameters,
        "at_ns": at.map(|at| at.as_nanos()),
        "by": user(),
        "why": why,
        "patience_ms": u64::try_from(patience.as_millis()).unwrap_or(u64::MAX),
    } });
    ask(&question, &target)
}

/// What they are, and what was changed.
pub(super) fn text(answer: &Value) -> String {
    let mut text = table(&["strategy", "parameters"], &answer["strategies"]);
    if answer["changes"].as_array().is_some_and(|changes| !changes.is_empty()) {
        text.push('\n');
        let columns = ["from_ns", "strategy", "parameters", "by", "why"];
        text.push_str(&table(&columns, &answer["changes"]));
    }
    if !answer["held_from_ns"].is_null() {
        let at = plain(&answer["held_from_ns"]);
        text.push_str(&format!("\nthe pipeline is held before {at} ns\n"));
    }
    text
}

/// What was done.
pub(super) fn set_text(answer: &Value) -> String {
    let (strategy, from) = (plain(&answer["strategy"]), plain(&answer["from_ns"]));
    format!("{strategy} has other parameters from event time {from} ns on\n")
}
