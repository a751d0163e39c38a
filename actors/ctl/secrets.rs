//! Secrets of the configuration that all nodes share, as tools seal, open and count them: no node is told one, and none
//! tells one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use serde_json::{Value, json};
use tickwright_core::config::{SECRET_BYTES_MAX, SealedValue, SecretsConfig};
use zeroize::Zeroizing;

use super::config::ask;
use super::config_file::place_of;
use super::show::{plain, table};
use super::{CtlError, CtlTarget, exchange_json};
use crate::config_sync::{ConfigCall, SecretTask};
use crate::kit::{KeyRing, SecretText};

fn refused(error: impl ToString) -> CtlError {
    CtlError::Refused(error.to_string())
}

pub(super) fn carry_out(
    task: &SecretTask,
    config: &SecretsConfig,
    target: &CtlTarget,
) -> Result<Value, CtlError> {
    match task {
        SecretTask::Set { place, from, priority, author } => {
            let ring = KeyRing::read(config).map_err(refused)?;
            let secret = text_of(from).map_err(refused)?;
            let value = ring.seal(&place.stored(), &secret).map_err(refused)?.to_string();
            let (place, author) = (place.clone(), author.clone());
            let merge = "latest".to_owned();
            ask(&ConfigCall::Set { place, value, priority: *priority, merge, author }, target)
        }
        SecretTask::Reveal { key } => {
            let answer = ask(&ConfigCall::Get { key: key.clone() }, target)?;
            let not_set = || {
                refused(format!("{key} is not set; `tickwright ctl config secrets` lists what is"))
            };
            let text = answer["value"].as_str().ok_or_else(not_set)?;
            let sealed = SealedValue::parse(text)
                .ok_or_else(|| refused(format!("{key} is not sealed; set it again")))?;
            let scope = answer["scope"].as_str().unwrap_or_default();
            let place = place_of(scope, key).ok_or_else(not_set)?;
            let ring = KeyRing::read(config).map_err(refused)?;
            let secret = ring.open(&place.stored(), &sealed).map_err(refused)?;
            Ok(json!({ "key": key, "scope": scope, "value": secret.reveal() }))
        }
        SecretTask::List => exchange_json(target, "GET", "/secrets".into(), ""),
        SecretTask::Rotate { author, force } => rotate(author, *force, target),
    }
}

/// The text of a file, or of standard input for `-`, without the end of its last line.
fn text_of(from: &PathBuf) -> Result<SecretText, String> {
    let unread = |error: std::io::Error| format!("{}: {error}", from.display());
    let source: Box<dyn Read> = match from.to_str() {
        Some("-") => Box::new(std::io::stdin()),
        _ => Box::new(File::open(from).map_err(unread)?),
    };
    // With room for the end of a line, and for one byte that shows that there is more.
    let limit = SECRET_BYTES_MAX as u64 + 3;
    let mut text = Zeroizing::new(String::with_capacity(SECRET_BYTES_MAX + 3));
    source.take(limit).read_to_string(&mut text).map_err(unread)?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    Ok(SecretText::from(line.strip_suffix('\r').unwrap_or(line)))
}

/// Has the node that is meant seal what is not sealed by its first key; not, unless forced, while another node has not
/// got that key: it could open nothing any more.
fn rotate(author: &str, force: bool, target: &CtlTarget) -> Result<Value, CtlError> {
    if !force {
        let asked = ask(&ConfigCall::Secrets, target)?;
        let Some(first) = asked["keys"][0].as_str() else {
            return Err(refused(plain(&asked["problem"])));
        };
        let everywhere = CtlTarget { on: None, ..target.clone() };
        let answers = exchange_json(&everywhere, "GET", "/secrets".into(), "")?;
        let without = without_key(first, &answers);
        if !without.is_empty() {
            return Err(refused(format!(
                "not every node is known to have key {first}: {}; give it to them, or, if that node needs \
                 no secret or is gone, say --force",
                without.join(", ")
            )));
        }
    }
    ask(&ConfigCall::RotateSecrets { author: author.to_owned() }, target)
}

/// Nodes of which it is not known that they have key `first`, with why.
fn without_key(first: &str, answers: &Value) -> Vec<String> {
    let rows = answers.as_array().into_iter().flatten();
    let without = rows.filter_map(|row| {
        let keys = row["answer"]["keys"].as_array();
        let has_it = keys.is_some_and(|keys| keys.iter().any(|key| key == first));
        let reason =
            [&row["error"], &row["answer"]["problem"]].into_iter().find(|it| it.is_string());
        let reason = reason.map(|reason| format!(" ({})", plain(reason))).unwrap_or_default();
        (!has_it).then(|| format!("{}{reason}", plain(&row["node"])))
    });
    without.collect()
}

pub(super) fn text(task: &SecretTask, answer: &Value) -> String {
    match task {
        SecretTask::Set { place, .. } => {
            let scope = plain(&answer["scope"]);
            format!("{} is set, sealed, for {scope}\n", place.key)
        }
        // For programs too: nothing but what it is.
        SecretTask::Reveal { .. } => format!("{}\n", plain(&answer["value"])),
        SecretTask::List => listed(answer),
        SecretTask::Rotate { .. } => {
            let (resealed, already) = (plain(&answer["resealed"]), plain(&answer["already"]));
            let mut text = format!(
                "{resealed} sealed anew with key {}, {already} were already\n",
                plain(&answer["key_id"])
            );
            let left = answer["left"].as_array().cloned().unwrap_or_default();
            for row in &left {
                text.push_str(&format!(
                    "LEFT as it was: {} for {}: {}\n",
                    plain(&row["key"]),
                    plain(&row["scope"]),
                    plain(&row["reason"])
                ));
            }
            if left.is_empty() {
                text.push_str("no other key is needed any more, but for earlier values in histories and backups\n");
            }
            text
        }
    }
}

/// What each node has to open secrets with, and whether it opens each.
fn listed(answer: &Value) -> String {
    let mut secrets: BTreeMap<(String, String), (BTreeSet<String>, Vec<String>)> = BTreeMap::new();
    let mut nodes = Vec::new();
    for row in answer.as_array().into_iter().flatten() {
        let node = plain(&row["node"]);
        let keys = row["answer"]["keys"].as_array().cloned().unwrap_or_default();
        let keys: Vec<String> = keys.iter().map(plain).collect();
        let problem =
            [&row["error"], &row["answer"]["problem"]].into_iter().find(|it| it.is_string());
        nodes.push(json!({
            "node": node, "keys": keys.join(" "), "problem": problem.map_or_else(String::new, plain),
        }));
        for secret in row["answer"]["secrets"].as_array().into_iter().flatten() {
            let place = (plain(&secret["key"]), plain(&secret["scope"]));
            let (ids, unopened) = secrets.entry(place).or_default();
            ids.insert(plain(&secret["key_id"]));
            if secret["opens"] != true {
                unopened.push(node.clone());
            }
        }
    }
    let rows = secrets.into_iter().map(|((key, scope), (ids, unopened))| {
        let ids: Vec<String> = ids.into_iter().collect();
        json!({
            "secret": key, "scope": scope, "sealed_by": ids.join(" "),
            "closed_to": if unopened.is_empty() { "nobody".to_owned() } else { unopened.join(" ") },
        })
    });
    let rows: Value = rows.collect();
    let nodes = table(&["node", "keys", "problem"], &json!(nodes));
    format!("{nodes}\n{}", table(&["secret", "scope", "sealed_by", "closed_to"], &rows))
}

/// `answer` with "sealed with key ID" for what is sealed, as people read it.
pub(super) fn shortened(answer: &Value) -> Value {
    match answer {
        Value::String(text) => match SealedValue::parse(text.trim_matches('"')) {
            Some(sealed) => format!("sealed with key {}", sealed.key_id).into(),
            None => answer.clone(),
        },
        Value::Array(items) => items.iter().map(shortened).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), shortened(value))).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => answer.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_see_that_a_value_is_sealed_and_by_which_key() {
        let sealed = SealedValue {
            key_id: "0123456789abcdef".into(),
            nonce: [0; 12],
            ciphertext: vec![0; 20],
        };
        let text = sealed.to_string();
        let answer =
            json!([{ "value": text, "n": 1 }, { "value": format!("\"{text}\"") }, "other"]);
        let short = "sealed with key 0123456789abcdef";
        assert_eq!(
            shortened(&answer),
            json!([{ "value": short, "n": 1 }, { "value": short }, "other"])
        );
    }

    #[test]
    fn a_key_is_not_sealed_with_before_every_node_has_it() {
        let answers = json!([
            { "node": "a", "answer": { "keys": ["k2", "k1"], "problem": null } },
            { "node": "b", "answer": { "keys": ["k1"], "problem": null } },
            { "node": "c", "answer": { "keys": [], "problem": "no file" } },
            { "node": "d", "error": "there is no link to node d" },
        ]);
        let without = without_key("k2", &answers);
        assert_eq!(without, ["b", "c (no file)", "d (there is no link to node d)"]);
        assert!(without_key("k1", &json!([answers[0], answers[1]])).is_empty());
    }

    #[test]
    fn the_end_of_the_last_line_is_no_part_of_a_secret() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("value");
        for (text, secret) in
            [("a:b\n", "a:b"), ("a:b\r\n", "a:b"), ("a\nb\n\n", "a\nb\n"), ("a", "a")]
        {
            std::fs::write(&path, text).unwrap();
            assert_eq!(text_of(&path).unwrap().reveal(), secret);
        }
        std::fs::write(&path, "x".repeat(SECRET_BYTES_MAX + 9)).unwrap();
        assert!(text_of(&path).unwrap().reveal().len() > SECRET_BYTES_MAX, "not cut to what fits");
    }
}
