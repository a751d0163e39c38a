//! What is set for all nodes, as a file: written down, taken over, and brought back.
//!
//! ```toml
//! [all]
//! "pipeline.batch_ticks" = 64
//! "user.tags" = { value = ["a", "b"], merge = "union", priority = 2 }
//! ["environment live"]
//! "stream.credit_ticks" = 4096
//! ["node calc-1"]
//! "user.model" = "momentum"
//! ```
//!
//! Bringing it back is writing it again: what others write meanwhile is as concurrent as ever, and the history goes
//! on. What the tuner is trying at the moment is not written down, but what was set before it.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use serde_json::{Value, json};
use tickwright_core::config::live_value;
use tickwright_core::config_sync::MergeRule;

use super::config::ask;
use super::{CtlError, CtlTarget};
use crate::config_sync::{ConfigCall, ConfigFileTask, ConfigPlace, DECISIONS_KEY, TRIAL_KEY};

/// Largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// One key that is set.
#[derive(Clone, Debug, PartialEq)]
struct Line {
    place: ConfigPlace,
    /// As TOML.
    value: String,
    merge: String,
    priority: u8,
}

pub(super) fn carry_out(
    task: &ConfigFileTask,
    author: &str,
    target: &CtlTarget,
) -> Result<Value, CtlError> {
    match task {
        ConfigFileTask::Export => {
            Ok(json!({ "told": written(&untried(lines_of(&listed(target)?)?)) }))
        }
        ConfigFileTask::Backup(path) => {
            let lines = untried(lines_of(&listed(target)?)?);
            store(path, &written(&lines)).map_err(|error| refused(path, &error.to_string()))?;
            Ok(json!({ "told": format!("{} keys are in {}\n", lines.len(), path.display()) }))
        }
        ConfigFileTask::Import(path) => bring(path, false, author, target),
        ConfigFileTask::Restore(path) => bring(path, true, author, target),
    }
}

fn refused(path: &Path, reason: &str) -> CtlError {
    CtlError::Refused(format!("{}: {reason}", path.display()))
}

fn listed(target: &CtlTarget) -> Result<Value, CtlError> {
    ask(&ConfigCall::List { prefix: String::new() }, target)
}

/// Writes `text` to a new file, and has it on the disk.
fn store(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Sets what differs; with `is_all`, unsets what the file does not have.
fn bring(path: &Path, is_all: bool, author: &str, target: &CtlTarget) -> Result<Value, CtlError> {
    let read = || -> Result<Vec<Line>, String> {
        let size = File::open(path).and_then(|file| file.metadata());
        if size.map_err(|error| error.to_string())?.len() > FILE_BYTES_MAX {
            return Err(format!("it is larger than {FILE_BYTES_MAX} bytes"));
        }
        parse(&std::fs::read_to_string(path).map_err(|error| error.to_string())?)
    };
    let mut wanted = read().map_err(|reason| refused(path, &reason))?;
    let mut there = lines_of(&listed(target)?)?;
    // That is the tuner's, and of the moment in which it wrote it.
    for lines in [&mut wanted, &mut there] {
        lines.retain(|line| !is_of_tuner(&line.place.key));
    }
    let mut done = Vec::new();
    for line in wanted.iter().filter(|line| !there.contains(line)) {
        let Line { place, value, merge, priority } = line.clone();
        let author = author.to_owned();
        ask(&ConfigCall::Set { place, value, priority, merge, author }, target)?;
        done.push(format!("{} = {} for {}", line.place.key, line.value, heading(&line.place)));
    }
    let is_wanted = |line: &&Line| wanted.iter().any(|other| other.place == line.place);
    for line in there.iter().filter(|line| is_all && !is_wanted(line)) {
        let (place, author) = (line.place.clone(), author.to_owned());
        ask(&ConfigCall::Unset { place, author }, target)?;
        done.push(format!("{} is not set any more for {}", line.place.key, heading(&line.place)));
    }
    let told = match done.is_empty() {
        true => "everything is as the file says already\n".to_owned(),
        false => done.join("\n") + "\n",
    };
    Ok(json!({ "told": told, "changed": done.len() }))
}

/// The rows of `ctl config list`, in the order of scopes, then keys.
fn lines_of(listed: &Value) -> Result<Vec<Line>, CtlError> {
    let rows = listed.as_array().into_iter().flatten();
    let of = |row: &Value| -> Option<Line> {
        let priority = row["priority"].as_u64().and_then(|it| u8::try_from(it).ok())?;
        Some(Line {
            place: place_of(row["scope"].as_str()?, row["key"].as_str()?)?,
            // What JSON writes of booleans, numbers, text and lists, TOML reads.
            value: row["value"].to_string(),
            merge: row["merge"].as_str()?.to_owned(),
            priority,
        })
    };
    let lines: Option<Vec<Line>> = rows.map(of).collect();
    let mut lines =
        lines.ok_or_else(|| CtlError::Refused(format!("a list that is none: {listed}")))?;
    lines.sort_by_key(|line| (heading(&line.place), line.place.key.clone()));
    Ok(lines)
}

/// Whether the tuner writes it for itself: of what it tries, and of what it has decided.
fn is_of_tuner(key: &str) -> bool {
    [TRIAL_KEY, DECISIONS_KEY].contains(&key)
}

/// The same without what the tuner is trying: as it was set before.
fn untried(mut lines: Vec<Line>) -> Vec<Line> {
    let trial = lines.iter().find(|line| line.place.key == TRIAL_KEY);
    let text = trial.and_then(|line| serde_json::from_str::<String>(&line.value).ok());
    let before = text.and_then(|text| serde_json::from_str::<Vec<(String, i64)>>(&text).ok());
    lines.retain(|line| !is_of_tuner(&line.place.key));
    for (key, value) in before.unwrap_or_default() {
        let place = ConfigPlace::base(&key);
        if let Some(line) = lines.iter_mut().find(|line| line.place == place) {
            line.value = value.to_string();
        }
    }
    lines
}

/// For whom, as the heading of a table.
fn heading(place: &ConfigPlace) -> String {
    match (&place.node, &place.environment) {
        (Some(node), _) => format!("node {node}"),
        (None, Some(environment)) => format!("environment {environment}"),
        (None, None) => "all".into(),
    }
}

pub(super) fn place_of(heading: &str, key: &str) -> Option<ConfigPlace> {
    let (node, environment) = match heading.split_once(' ') {
        None if heading == "all" => (None, None),
        Some(("node", name)) => (Some(name.to_owned()), None),
        Some(("environment", name)) => (None, Some(name.to_owned())),
        None | Some(_) => return None,
    };
    Some(ConfigPlace { key: key.to_owned(), node, environment })
}

fn written(lines: &[Line]) -> String {
    let mut text = String::new();
    let mut last = None;
    for Line { place, value, merge, priority } in lines {
        let table = heading(place);
        if last.as_ref() != Some(&table) {
            // Writing to text cannot fail.
            let _ = match table.as_str() {
                "all" => writeln!(text, "[all]"),
                quoted => writeln!(text, "[{}]", json!(quoted)),
            };
            last = Some(table);
        }
        let key = json!(place.key);
        let _ = match (merge.as_str(), priority) {
            ("latest", 0) => writeln!(text, "{key} = {value}"),
            _ => writeln!(
                text,
                "{key} = {{ value = {value}, merge = \"{merge}\", priority = {priority} }}"
            ),
        };
    }
    text
}

/// Everything that is wrong is said at once, and nothing is done then.
fn parse(text: &str) -> Result<Vec<Line>, String> {
    let tables: toml::Table = toml::from_str(text).map_err(|error| error.to_string())?;
    let (mut lines, mut problems) = (Vec::new(), Vec::new());
    for (heading, keys) in &tables {
        let Some(keys) = keys.as_table() else {
            problems.push(format!("{heading} stands in no table; write it below [all]"));
            continue;
        };
        for (key, given) in keys {
            let Some(place) = place_of(heading, key) else {
                problems.push(format!(
                    "[{heading}] is neither [all] nor [\"node NAME\"] nor [\"environment NAME\"]"
                ));
                break;
            };
            match line(place, given) {
                Ok(line) => lines.push(line),
                Err(problem) => problems.push(problem),
            }
        }
    }
    if problems.is_empty() { Ok(lines) } else { Err(problems.join("\n")) }
}

fn line(place: ConfigPlace, given: &toml::Value) -> Result<Line, String> {
    let key = place.key.clone();
    let (given, merge, priority) = match given.as_table() {
        None => (given, "latest".to_owned(), 0),
        Some(table) => {
            if let Some(odd) =
                table.keys().find(|name| !["value", "merge", "priority"].contains(&name.as_str()))
            {
                return Err(format!("{key} has no {odd}; it has value, merge, priority"));
            }
            let given = table.get("value").ok_or_else(|| format!("{key} has no value"))?;
            let merge = table.get("merge").map_or(Some("latest"), toml::Value::as_str);
            let priority = table.get("priority").map_or(Some(0), toml::Value::as_integer);
            let merge = merge.filter(|name| MergeRule::named(name).is_some());
            let merge = merge.ok_or_else(|| {
                format!("{key} has no merge rule of: latest, max, min, sticky, union, mean")
            })?;
            let priority = priority.and_then(|it| u8::try_from(it).ok());
            let priority =
                priority.ok_or_else(|| format!("the priority of {key} is not from 0 to 255"))?;
            (given, merge.to_owned(), priority)
        }
    };
    let value = serde_json::to_value(given).map_err(|error| format!("{key}: {error}"))?.to_string();
    live_value(&key, &value).map_err(|refusal| refusal.to_string())?;
    Ok(Line { place, value, merge, priority })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_down_is_read_again() {
        let row = |scope: &str, key: &str, value: Value, merge: &str, priority: u8| {
            json!({ "scope": scope, "key": key, "value": value, "merge": merge, "priority": priority,
                    "author": "a", "at_ms": 1, "siblings": 1 })
        };
        let listed = json!([
            row("node calc-1", "user.model", "a \"word\"\nand more".into(), "latest", 0),
            row("all", "user.tags", json!(["x", "y"]), "union", 3),
            row("all", "pipeline.batch_ticks", 64.into(), "latest", 0),
            row("environment live", "user.share", json!(0.5), "mean", 0),
        ]);
        let lines = lines_of(&listed).unwrap();
        let text = written(&lines);
        assert!(text.starts_with("[all]\n\"pipeline.batch_ticks\" = 64\n"), "{text}");
        assert_eq!(parse(&text).unwrap(), lines, "{text}");
    }

    #[test]
    fn what_the_tuner_tries_is_left_out_with_what_was_before_it() {
        let set = |key: &str, value: &str, node: Option<&str>| Line {
            place: ConfigPlace { node: node.map(str::to_owned), ..ConfigPlace::base(key) },
            value: value.to_owned(),
            merge: "latest".to_owned(),
            priority: 0,
        };
        let trying = json!(json!([("pipeline.batch_ticks", 64)]).to_string()).to_string();
        let lines = vec![
            set("pipeline.batch_ticks", "128", None),
            set("stream.credit_ticks", "4096", None),
            set(TRIAL_KEY, &trying, None),
            set("pipeline.batch_ticks", "7", Some("a")),
        ];
        let kept = untried(lines);
        let values: Vec<&str> = kept.iter().map(|line| line.value.as_str()).collect();
        assert_eq!(values, ["64", "4096", "7"]);
        // Nothing is being tried.
        let lines = vec![set(TRIAL_KEY, "\"[]\"", None), set("user.model", "1", None)];
        assert_eq!(untried(lines), [set("user.model", "1", None)]);
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let text = "loose = 1\n[all]\n\"pipeline.batch_ticks\" = 0\n\"pipeline.shards\" = 2\n\
                    [some]\n\"user.x\" = 1\n[\"node a\"]\n\"user.y\" = { merge = \"max\" }\n";
        let wrong = parse(text).unwrap_err();
        for part in ["loose", "65536", "pipeline.shards", "[some]", "user.y has no value"] {
            assert!(wrong.contains(part), "{part}: {wrong}");
        }
    }
}
