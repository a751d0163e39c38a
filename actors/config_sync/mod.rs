//! The ConfigSyncManager: one configuration on every node, without a leader.
//!
//! ```text
//! ctl, programs ── ConfigCall ─▶ ┌────────────────────┐ ─ Message ─▶ config/NODE of every member
//! other members ── Message ────▶ │ ConfigSyncActor    │ ─ records ─▶ Store, in DATA/config
//! membership ──── who is there ▶ │ (core: ConfigSync) │ ─ numbers ─▶ LiveValues ─▶ running actors
//! timer ───────────────────────▶ └────────────────────┘ ─ changes ─▶ whoever watches
//! ```
//!
//! *Failover.* Everything is on the disk before it leaves; a restarted actor goes on with it, and what it has
//! missed is repaired. *Delivery.* At most once, bulk, a bounded queue per node: what finds no room is
//! repaired with a later heartbeat.

mod actor;
mod answers;
mod audit;
mod call;
mod secrets;
mod wire;

use serde_json::{Value as Json, json};
use tickwright_core::config::SealedValue;
use tickwright_core::config_sync::Value;

pub use actor::{
    ConfigSyncActor, ConfigSyncArguments, ConfigSyncMessage, ConfigSyncState, KnownMembers,
};
pub use call::{ConfigCall, ConfigFileTask, ConfigPlace, ConfigTask, SecretTask};

/// Where the tuner keeps what it is trying: the names of the settings that it has changed, each with its value before,
/// as JSON in text. It is of one moment, and no backup holds it.
pub const TRIAL_KEY: &str = "user.tuner.trial";

/// Where the tuner keeps what it has decided lately, and why, as JSON in text: whoever decides next can still explain it.
pub const DECISIONS_KEY: &str = "user.tuner.decisions";

/// The role of the manager on `node`.
pub fn role(node: &str) -> String {
    format!("config/{node}")
}

/// A value as JSON.
fn json_of(value: &Value) -> Json {
    match value {
        Value::Bool(value) => json!(value),
        Value::Integer(value) => json!(value),
        Value::Float(value) => json!(value),
        Value::Text(value) => json!(value),
        Value::List(values) => values.iter().map(json_of).collect(),
    }
}

/// A value as a log shows it.
fn shown(value: &Value) -> String {
    match SealedValue::of(value) {
        Some(sealed) => format!("sealed with key {}", sealed.key_id),
        None => value.to_string(),
    }
}
