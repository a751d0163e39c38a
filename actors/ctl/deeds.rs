//! What tools have done, step by step, and what came of it.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tickwright_core::records::Question;

use super::{CtlError, CtlTarget, escape, exchange_json};

/// Longest that emptying a node may take, unless the user says otherwise.
const DRAIN_PATIENCE: Duration = Duration::from_secs(120);

/// How long an actor may take to come back.
const RESTART_PATIENCE: Duration = Duration::from_secs(10);

/// How long one question of several may take.
const STEP_PATIENCE: Duration = Duration::from_secs(5);

/// Between two looks.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// The same target for one step of several.
pub(super) fn step(target: &CtlTarget) -> CtlTarget {
    let patience = target.patience.map_or(STEP_PATIENCE, |patience| patience.min(STEP_PATIENCE));
    CtlTarget { patience: Some(patience), ..target.clone() }
}

pub(super) fn ask_ledger(target: &CtlTarget, question: &Value) -> Result<Value, CtlError> {
    exchange_json(target, "POST", "/ask/ledger".into(), &question.to_string())
}

pub(super) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Which node has each unit.
fn owners(target: &CtlTarget) -> Result<BTreeMap<String, String>, CtlError> {
    let rows = ask_ledger(target, &"Allocations".into())?;
    let rows = rows.as_array().cloned().unwrap_or_default();
    Ok(rows.iter().map(|row| (text(&row["resource"]), text(&row["owner"]))).collect())
}

/// Asks whichever node has a database. Where that is a file of this node alone, others that record are named too:
/// what they have is not in the answer.
pub(super) fn look_up(question: &Question, target: &CtlTarget) -> Result<Value, CtlError> {
    let mut answer = ask_records(&json!({ "Ask": question }), target)?;
    if answer["is_own"] == true {
        // Without an answer to this the rows are as good.
        let roles = exchange_json(target, "GET", "/roles".into(), "").unwrap_or_default();
        answer["others"] = json!(recording_beside(&text(&answer["node"]), &roles));
    }
    Ok(answer)
}

/// The nodes that record, but for `node`.
fn recording_beside(node: &str, roles: &Value) -> Vec<String> {
    let mut rows = roles.as_array().into_iter().flatten();
    let nodes = rows.find(|row| row["role"] == "records").and_then(|row| row["nodes"].as_array());
    let names = nodes.into_iter().flatten().filter_map(Value::as_str);
    names.filter(|name| *name != node).map(str::to_owned).collect()
}

/// How the records stand, after what was to be done about rows that were set aside.
pub(super) fn database(
    retry: bool,
    discard: Option<&str>,
    target: &CtlTarget,
) -> Result<Value, CtlError> {
    let mut told = Value::Null;
    if retry {
        let retried = ask_records(&json!("RetryAside"), target)?;
        let (written, refused) = (&retried["written"], &retried["refused"]);
        told = format!("{written} rows were written, {refused} are refused still").into();
    }
    if let Some(id) = discard {
        let discarded = ask_records(&json!({ "DiscardAside": { "id": id } }), target)?;
        told = format!("{} rows were dropped", discarded["discarded"]).into();
    }
    let status = ask_records(&json!("Status"), target)?;
    let aside = ask_records(&json!("Aside"), target)?;
    Ok(json!({ "status": status, "aside": aside, "told": told }))
}

fn ask_records(question: &Value, target: &CtlTarget) -> Result<Value, CtlError> {
    let body = question.to_string();
    let answer = exchange_json(target, "POST", "/ask/records".into(), &body);
    if let Err(CtlError::Refused(reason)) = &answer
        && reason.starts_with("nobody serves")
    {
        return Err(CtlError::Refused(
            "no node has a database: set database.kind in the configuration of the nodes, or ask a \
             database itself by `tickwright db`"
                .into(),
        ));
    }
    answer
}

pub(super) fn undrain(node: &str, target: &CtlTarget) -> Result<Value, CtlError> {
    let mut done = ask_ledger(target, &json!({ "Drain": { "node": node, "undo": true } }))?;
    done["told"] = match done["is_news"] == true {
        true => format!("{node} gets work again, little by little").into(),
        false => format!("{node} was not drained").into(),
    };
    Ok(done)
}

pub(super) fn drain(node: &str, waits: bool, target: &CtlTarget) -> Result<Value, CtlError> {
    let begun = Instant::now();
    let until = begun + target.patience.unwrap_or(DRAIN_PATIENCE);
    let target = step(target);
    let before = owners(&target)?;
    if before.is_empty() {
        return Err(CtlError::Refused(
            "nothing is allocated: this cluster has no pipeline, or `allocation.strategy` is \
             \"static\" and nothing moves"
                .into(),
        ));
    }
    let mut done = ask_ledger(&target, &json!({ "Drain": { "node": node, "undo": false } }))?;
    if !waits {
        done["told"] = format!("{node} is being emptied, and gets nothing new").into();
        return Ok(done);
    }
    let had: Vec<String> =
        before.into_iter().filter(|(_, owner)| owner == node).map(|(unit, _)| unit).collect();
    loop {
        let now = owners(&target)?;
        let is_here = |unit: &&String| now.get(*unit).is_some_and(|owner| owner == node);
        let left: Vec<&String> = had.iter().filter(is_here).collect();
        if left.is_empty() && have_begun(&had, &now, &target)? {
            break;
        }
        if Instant::now() >= until {
            let left: Vec<&str> = left.into_iter().map(String::as_str).collect();
            return Err(CtlError::Refused(format!(
                "{node} is drained, but after {:?} not empty: {} has not begun elsewhere; see \
                 `tickwright ctl members` for who is there, and `tickwright ctl shards`",
                begun.elapsed(),
                if left.is_empty() { "what it had".to_owned() } else { left.join(", ") },
            )));
        }
        thread::sleep(PAUSE);
    }
    let took = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let count = had.len();
    done["told"] =
        format!("{node} is empty after {took} ms, and gets nothing new: {count} moved").into();
    done["moved"] = json!(had);
    done["took_ms"] = took.into();
    Ok(done)
}

/// Whether every unit runs where it was given.
fn have_begun(
    units: &[String],
    owners: &BTreeMap<String, String>,
    target: &CtlTarget,
) -> Result<bool, CtlError> {
    let roles = exchange_json(target, "GET", "/roles".into(), "")?;
    let roles = roles.as_array().cloned().unwrap_or_default();
    Ok(units.iter().all(|unit| {
        let owner = owners.get(unit).cloned().unwrap_or_default();
        let row = roles.iter().find(|row| row["role"] == *unit);
        let nodes = row.and_then(|row| row["nodes"].as_array());
        nodes.is_some_and(|nodes| nodes.iter().any(|node| *node == owner))
    }))
}

pub(super) fn promote(node: Option<&str>, target: &CtlTarget) -> Result<Value, CtlError> {
    let mut done = ask_ledger(target, &json!({ "Promote": { "node": node } }))?;
    let (coordinator, term) = (text(&done["coordinator"]), done["term"].as_u64().unwrap_or(0));
    let whenever = match node {
        Some(_) => "and will whenever it is there",
        None => "by priority and name, as nobody is promoted any more",
    };
    done["told"] = format!("{coordinator} coordinates, term {term}, {whenever}").into();
    Ok(done)
}

/// Longest that looking through accounts may take, unless the user says otherwise.
const RECONCILE_PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn reconcile(adopt: bool, target: &CtlTarget) -> Result<Value, CtlError> {
    let patience = Some(target.patience.unwrap_or(RECONCILE_PATIENCE));
    let target = CtlTarget { patience, ..target.clone() };
    let question = json!({ "Reconcile": { "adopt": adopt } });
    exchange_json(&target, "POST", "/ask/risk".into(), &question.to_string())
}

pub(super) fn release(
    client_id: &str,
    is_there: bool,
    target: &CtlTarget,
) -> Result<Value, CtlError> {
    let question = json!({ "Release": { "client_id": client_id, "is_there": is_there } });
    let mut done = exchange_json(target, "POST", "/ask/risk".into(), &question.to_string())?;
    done["told"] = match is_there {
        true => format!("{client_id} is asked for again, and brought to its end").into(),
        false => format!("the slot of {client_id} is free for the next order").into(),
    };
    Ok(done)
}

pub(super) fn kill_actor(actor: &str, target: &CtlTarget) -> Result<Value, CtlError> {
    let target = step(target);
    let node = match &target.on {
        Some(node) => node.clone(),
        None => node_with(actor, &target)?,
    };
    let there = CtlTarget { on: Some(node.clone()), ..target };
    let before = restarts(actor, &there)?;
    let path = format!("/ask/node/{}", escape(&node));
    let mut done = exchange_json(&there, "POST", path, &json!({ "KillActor": actor }).to_string())?;
    let until = Instant::now() + RESTART_PATIENCE;
    loop {
        // Whoever answers may be the one that was ended.
        if let Ok(Some((count, true))) = restarts(actor, &there)
            && before.is_none_or(|(before, _)| count > before)
        {
            done["restarts"] = count.into();
            let times = if count == 1 { "once" } else { "times" };
            let count = if count == 1 { String::new() } else { format!("{count} ") };
            done["told"] =
                format!("{actor} on {node} was ended, and has been started again {count}{times}")
                    .into();
            return Ok(done);
        }
        if Instant::now() >= until {
            return Err(CtlError::Refused(format!(
                "{actor} on {node} was ended, and does not run again within {RESTART_PATIENCE:?}; \
                 see `tickwright ctl tree --on {node}`"
            )));
        }
        thread::sleep(PAUSE);
    }
}

/// The only node with this actor.
fn node_with(actor: &str, target: &CtlTarget) -> Result<String, CtlError> {
    let answers = exchange_json(target, "GET", "/tree".into(), "")?;
    let answers = answers.as_array().cloned().unwrap_or_default();
    let has_it = |answer: &&Value| {
        find(&answer["answer"]["trees"], &|branch| branch["name"] == *actor).is_some()
    };
    let nodes: Vec<String> =
        answers.iter().filter(has_it).map(|each| text(&each["node"])).collect();
    match nodes.as_slice() {
        [node] => Ok(node.clone()),
        [] => Err(CtlError::Refused(format!(
            "no node has an actor `{actor}`; `tickwright ctl tree` shows all"
        ))),
        several => Err(CtlError::Refused(format!(
            "several nodes have an actor `{actor}`: {}; say which by --on",
            several.join(", ")
        ))),
    }
}

/// How often an actor was started again, and whether it runs.
fn restarts(actor: &str, target: &CtlTarget) -> Result<Option<(u64, bool)>, CtlError> {
    let answers = exchange_json(target, "GET", "/tree".into(), "")?;
    let branch = find(&answers[0]["answer"]["trees"], &|branch| branch["name"] == *actor);
    Ok(branch
        .map(|branch| (branch["restarts"].as_u64().unwrap_or(0), branch["is_running"] == true)))
}

fn find<'v>(branches: &'v Value, is_it: &dyn Fn(&Value) -> bool) -> Option<&'v Value> {
    branches.as_array()?.iter().find_map(|branch| {
        if is_it(branch) { Some(branch) } else { find(&branch["children"], is_it) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_record_are_found_among_the_roles() {
        let roles = json!([
            { "role": "node/a", "nodes": ["a"] },
            { "role": "records", "nodes": ["a", "b", "c"] },
        ]);
        assert_eq!(recording_beside("b", &roles), ["a", "c"]);
        assert_eq!(recording_beside("a", &json!([])), [""; 0]);
        assert_eq!(recording_beside("a", &Value::Null), [""; 0]);
    }
}
