//! What the manager answers.

use std::time::Duration;

use serde_json::{Value as Json, json};
use tickwright_core::config::{
    ConfigScope, check_live_key, effective, is_secret, live_keys, live_number, live_value,
};
use tickwright_core::config_sync::{
    ConfigSync, Entry, MergeRule, Sibling, Value, VersionVector, Write,
};
use tickwright_core::domain::Histogram;

use super::actor::ConfigSyncState;
use super::{ConfigCall, ConfigPlace, json_of};
use crate::cluster::Reply;

/// For whom, as users write it.
pub(super) fn scope(scope: &ConfigScope) -> String {
    match scope {
        ConfigScope::Base => "all".into(),
        ConfigScope::Environment(name) => format!("environment {name}"),
        ConfigScope::Node(name) => format!("node {name}"),
    }
}

fn milliseconds(nanos: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let value = nanos as f64 / 1e6;
    value
}

fn delays(delays: &Histogram) -> Json {
    json!({
        "count": delays.count(),
        "ms_p50": milliseconds(delays.quantile(500_000)),
        "ms_p99": milliseconds(delays.quantile(990_000)),
        "ms_max": milliseconds(delays.quantile(1_000_000)),
    })
}

fn vector(vector: &VersionVector) -> Json {
    vector.iter().map(|(replica, counter)| (replica.to_string(), json!(counter))).collect()
}

fn described(sibling: &Sibling) -> Json {
    json!({
        "value": sibling.value.as_ref().map(json_of),
        "author": sibling.author,
        "priority": sibling.priority,
        "at_ms": sibling.stamp.wall.as_nanos() / 1_000_000,
    })
}

/// Why `value`, which somebody has written before, is not to be written again: another version may have had other
/// bounds.
fn refusal(key: &str, value: &Value) -> Option<String> {
    let is_known = live_keys().any(|spec| spec.path == key);
    let is_refused = is_known && live_number(key, value).is_none();
    is_refused.then(|| format!("{value} is no value for {key} in this version"))
}

impl ConfigSyncState {
    pub(super) fn on_call(&mut self, call: ConfigCall, reply: Reply) {
        let is_of_secret = match &call {
            ConfigCall::Set { place, .. } | ConfigCall::Rollback { place, .. } => {
                is_secret(&place.key)
            }
            ConfigCall::Secrets | ConfigCall::RotateSecrets { .. } => true,
            ConfigCall::Status
            | ConfigCall::Get { .. }
            | ConfigCall::List { .. }
            | ConfigCall::Unset { .. }
            | ConfigCall::History { .. }
            | ConfigCall::Diff
            | ConfigCall::Conflicts
            | ConfigCall::Resolve { .. }
            | ConfigCall::Vectors
            | ConfigCall::Audit { .. }
            | ConfigCall::Watch { .. } => false,
        };
        if is_of_secret {
            return self.with_keys(call, reply);
        }
        let answer = match call {
            ConfigCall::Set { place, value, priority, merge, author } => {
                return self.set(&place, &value, (priority, &merge), author, reply);
            }
            ConfigCall::Unset { place, author } => return self.unset(&place, author, reply),
            ConfigCall::Rollback { place, steps, author } => {
                return self.roll_back(&place, steps, author, reply);
            }
            ConfigCall::Resolve { place, dot, author } => {
                return self.resolve(&place, &dot, author, reply);
            }
            ConfigCall::Watch { prefix, since, wait_ms } => {
                let wait = Duration::from_millis(wait_ms.min(60_000));
                return self.watch(prefix, since, wait, reply);
            }
            ConfigCall::Audit { count } => return self.audit(count, reply),
            ConfigCall::Status => Ok(self.status()),
            ConfigCall::Get { key } => self.get(&key),
            ConfigCall::List { prefix } => Ok(self.list(&prefix)),
            ConfigCall::History { place } => Ok(self.history(&place)),
            ConfigCall::Diff => Ok(self.diff()),
            ConfigCall::Conflicts => Ok(self.conflicts()),
            ConfigCall::Vectors => Ok(self.vectors()),
            // These have gone another way.
            ConfigCall::Secrets | ConfigCall::RotateSecrets { .. } => return,
        };
        match answer {
            Ok(answer) => reply.answer(answer.to_string().into_bytes()),
            Err(reason) => reply.refuse(reason),
        }
    }

    pub(super) fn set(
        &mut self,
        place: &ConfigPlace,
        value: &str,
        (priority, merge): (u8, &str),
        author: String,
        reply: Reply,
    ) {
        let value = match live_value(&place.key, value) {
            Ok(value) => value,
            Err(refusal) => return reply.refuse(refusal.to_string()),
        };
        let Some(rule) = MergeRule::named(merge) else {
            return reply.refuse(format!(
                "{merge} is no merge rule; known: latest, max, min, sticky, union, mean"
            ));
        };
        let (key, shown) = (place.stored(), json_of(&value));
        let write = Write { key, value: Some(value), priority, rule, author };
        self.write_at(place, write, shown, reply);
    }

    fn unset(&mut self, place: &ConfigPlace, author: String, reply: Reply) {
        let key = place.stored();
        let Some(reading) = self.sync.read(&key) else {
            return reply.refuse(format!(
                "{} is not set for {}; `tickwright ctl config list` shows what is",
                place.key,
                scope(&place.scope())
            ));
        };
        let (priority, rule) = (reading.sibling.priority, reading.sibling.rule);
        let write = Write { key, value: None, priority, rule, author };
        self.write_at(place, write, Json::Null, reply);
    }

    fn write_at(&mut self, place: &ConfigPlace, write: Write, value: Json, reply: Reply) {
        let (key, whose) = (place.key.clone(), scope(&place.scope()));
        self.write(write, reply, |mut answer| {
            answer["key"] = key.into();
            answer["scope"] = whose.into();
            answer["value"] = value;
            answer
        });
    }

    pub(super) fn roll_back(
        &mut self,
        place: &ConfigPlace,
        steps: usize,
        author: String,
        reply: Reply,
    ) {
        let key = place.stored();
        let Some(version) = self.sync.history(&key).rev().nth(steps) else {
            return reply.refuse(format!(
                "{} has no value {steps} changes back that this node knows of; `tickwright ctl config \
                 history {}` shows which it does",
                place.key, place.key
            ));
        };
        let value = version.value.clone();
        if let Some(refusal) = value.as_ref().and_then(|value| refusal(&place.key, value)) {
            return reply.refuse(refusal);
        }
        let shown = value.as_ref().map_or(Json::Null, json_of);
        let (priority, rule) = self.priority_and_rule(&key);
        let write = Write { key, value, priority, rule, author };
        self.write_at(place, write, shown, reply);
    }

    fn priority_and_rule(&self, key: &str) -> (u8, MergeRule) {
        let siblings = self.sync.entry(key).into_iter().flat_map(|entry| entry.siblings.values());
        let last = siblings.max_by_key(|sibling| (sibling.priority, sibling.stamp));
        last.map_or((0, MergeRule::Latest), |sibling| (sibling.priority, sibling.rule))
    }

    fn resolve(&mut self, place: &ConfigPlace, dot: &str, author: String, reply: Reply) {
        let key = place.stored();
        let entry = self.sync.entry(&key).cloned().unwrap_or_default();
        let found = entry.siblings.iter().find(|(known, _)| known.to_string() == dot);
        let Some((_, sibling)) = found else {
            return reply.refuse(format!(
                "{} holds no write {dot}; `tickwright ctl config conflicts` names those it holds",
                place.key
            ));
        };
        let value = sibling.value.clone();
        if let Some(refusal) = value.as_ref().and_then(|value| refusal(&place.key, value)) {
            return reply.refuse(refusal);
        }
        let shown = value.as_ref().map_or(Json::Null, json_of);
        let (priority, rule) = (sibling.priority, sibling.rule);
        let write = Write { key, value, priority, rule, author };
        self.write_at(place, write, shown, reply);
    }

    fn get(&self, key: &str) -> Result<Json, String> {
        check_live_key(key).map_err(|refusal| refusal.to_string())?;
        let arguments = &self.arguments;
        let environment = arguments.environment.as_deref();
        let found = effective(&self.sync, &arguments.node.0, environment, key);
        Ok(match found {
            Some((whose, reading)) => {
                let mut answer = described(reading.sibling);
                answer["key"] = key.into();
                answer["value"] = json_of(&reading.value);
                answer["scope"] = scope(&whose).into();
                answer["dot"] = reading.dot.to_string().into();
                answer["siblings"] =
                    self.sync.entry(&whose.key(key)).map_or(0, |entry| entry.siblings.len()).into();
                answer
            }
            None => {
                let standing = arguments.live.standing();
                let own = standing.iter().find(|standing| standing.key == key);
                json!({
                    "key": key,
                    "value": own.map(|standing| standing.value),
                    "scope": if own.is_some() { "cluster.toml" } else { "nobody" },
                })
            }
        })
    }

    fn list(&self, prefix: &str) -> Json {
        let rows = self.sync.entries().filter_map(|(key, entry)| {
            let (whose, path) = ConfigScope::of(key);
            let reading = entry.read().filter(|_| path.starts_with(prefix))?;
            let mut row = described(reading.sibling);
            row["key"] = path.into();
            row["scope"] = scope(&whose).into();
            row["value"] = json_of(&reading.value);
            row["siblings"] = entry.siblings.len().into();
            row["merge"] = reading.sibling.rule.name().into();
            Some(row)
        });
        rows.collect()
    }

    fn history(&self, place: &ConfigPlace) -> Json {
        let key = place.stored();
        let versions = self.sync.history(&key).rev().enumerate();
        let row = |(back, version): (usize, &tickwright_core::config_sync::Version)| {
            json!({
                "back": back,
                "value": version.value.as_ref().map(json_of),
                "author": version.author,
                "at_ms": version.stamp.wall.as_nanos() / 1_000_000,
                "dot": version.dot.to_string(),
            })
        };
        versions.map(row).collect()
    }

    fn diff(&self) -> Json {
        let arguments = &self.arguments;
        let environment = arguments.environment.as_deref();
        let rows = live_keys().filter_map(|spec| {
            let (whose, reading) =
                effective(&self.sync, &arguments.node.0, environment, spec.path)?;
            let file = arguments.live.own(spec.path);
            Some(json!({
                "key": spec.path, "cluster_toml": file, "value": json_of(&reading.value),
                "scope": scope(&whose),
            }))
        });
        rows.collect()
    }

    fn conflicts(&self) -> Json {
        let is_conflict = |(_, entry): &(&str, &Entry)| entry.siblings.len() > 1;
        let row = |(key, entry): (&str, &Entry)| {
            let (whose, path) = ConfigScope::of(key);
            let siblings = entry.siblings.iter().map(|(dot, sibling)| {
                let mut row = described(sibling);
                row["dot"] = dot.to_string().into();
                row
            });
            json!({
                "key": path, "scope": scope(&whose), "siblings": siblings.collect::<Json>(),
                "value": entry.read().map(|reading| json_of(&reading.value)),
                "rule": self.priority_and_rule(key).1.name(),
            })
        };
        self.sync.entries().filter(is_conflict).map(row).collect()
    }

    fn vectors(&self) -> Json {
        let own = json!({
            "node": self.arguments.node, "replica": self.sync.replica().to_string(),
            "seen": vector(self.sync.seen()),
        });
        let others = self.sync.reports().iter().map(|(node, report)| {
            json!({
                "node": node, "replica": report.replica.to_string(), "seen": vector(&report.seen),
            })
        });
        [own].into_iter().chain(others).collect()
    }

    fn status(&self) -> Json {
        let (sync, arguments) = (&self.sync, &self.arguments);
        let (root, at) = (sync.root(), self.now());
        let members: Vec<Json> = sync
            .reports()
            .iter()
            .map(|(node, report)| {
                json!({
                    "node": node,
                    "is_equal": report.root == root,
                    "is_fresh": report.is_fresh,
                    "heard_ms": at.now.since(report.heard).as_millis(),
                })
            })
            .collect();
        let counts = sync.counts();
        json!({
            "node": arguments.node,
            "environment": arguments.environment,
            "replica": sync.replica().to_string(),
            "root": format!("{:032x}", root.0),
            "is_equal": sync.reports().values().all(|report| report.root == root),
            "is_fresh": sync.is_fresh(),
            "keys": values(sync),
            "tombstones": sync.entries().filter(|(_, entry)| entry.is_removed()).count(),
            "conflicts": sync.entries().filter(|(_, entry)| entry.siblings.len() > 1).count(),
            "members": members,
            "delays": delays(sync.delays()),
            "clock_ahead_ms": sync.clock_ahead(at).as_millis(),
            "counts": {
                "writes": counts.writes, "joined": counts.joined, "conflicts": counts.conflicts,
                "beats": counts.beats, "mismatches": counts.mismatches,
                "repairs": counts.repairs, "forgotten": counts.forgotten,
                "set_aside": counts.set_aside, "refused": counts.refused,
                "dropped": counts.dropped, "unsent": self.peers.unsent(),
            },
            "live": arguments.live.standing(),
        })
    }
}

/// Keys that hold a value.
fn values(sync: &ConfigSync) -> usize {
    sync.entries().filter(|(_, entry)| entry.read().is_some()).count()
}
