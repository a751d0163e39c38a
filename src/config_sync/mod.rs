//! One configuration on every node, without a leader: any node writes, and all come to the same.
//!
//! ```text
//!                     ┌──────────────── ConfigSync ───────────────┐
//! write ────────────▶ │ Entry per key: context, siblings          │ ─▶ Changed   what reads otherwise now
//! message ──────────▶ │ Digests: everything, shard, key           │ ─▶ Persist   what the disk has to keep
//! what is stored ───▶ │ seen, forgotten: whose writes, removals   │ ─▶ Send      to a node
//! members, time ────▶ │ HybridClock, History, outbox              │ ─▶ SetAside  what a returning node wrote
//!                     └───────────────────────────────────────────┘
//! ```
//!
//! A write is pushed to every node at once; with each heartbeat goes the hash of everything, and where it
//! differs, two nodes compare shards, then keys, and exchange what differs. So what was lost, late or
//! cut off is made good within two heartbeats and three round trips of being connected.
//!
//! Nodes trust nodes: a peer may crash, lose its disk, have a wrong clock, and stay away for a year, but
//! not lie.

mod audit;
mod clock;
mod digest;
mod entry;
mod message;
mod sync;
mod value;
mod version;

pub use audit::{AuditChain, AuditEntry, AuditRecord};
pub use clock::{HybridClock, HybridTime, SKEW_MAX};
pub use digest::{Digest, SHARDS};
pub use entry::{Entry, Reading, Sibling};
pub use message::{Body, Header, Message};
pub use sync::{
    ConfigSync, ConfigSyncConfig, ConfigSyncCounts, ConfigSyncEffect, KEY_BYTES_MAX, KEYS_MAX,
    MemberReport, Moment, RestoreError, StoredRecord, VALUE_BYTES_MAX, Version, Write,
    WriteRefusal,
};
pub use value::{MergeRule, Value};
pub use version::{Dot, Replica, VersionVector};

#[cfg(test)]
mod tests;
