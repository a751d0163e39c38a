//! The types that openraft is to work with, and its settings.

use std::io::Cursor;
use std::sync::Arc;

use openraft::{Config, SnapshotPolicy};
use serde::{Deserialize, Serialize};
use tickwright_core::cluster::Timings;
use tickwright_core::domain::Span;
use tickwright_core::ledger::{Answer, Command};

/// What is replicated as one entry of the log: each entry costs a sync, so many commands share one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Batch(pub(super) Vec<Command>);

/// Whose copy it is. Copies go by number, so that one that was lost with its disk is never taken for
/// the one that replaces it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Replica {
    pub(super) node: String,
}

openraft::declare_raft_types!(
    pub(super) TypeConfig:
        D = Batch,
        R = Vec<Answer>,
        NodeId = u64,
        Node = Replica,
);

pub(super) type Raft = openraft::Raft<TypeConfig>;
pub(super) type Entry = openraft::Entry<TypeConfig>;
pub(super) type StorageError = openraft::StorageError<u64>;

/// Entries after which the log is replaced by a snapshot.
const SNAPSHOT_ENTRIES: u64 = 4_096;

/// Bytes of a snapshot that are sent at once: well below the smallest limit of a message.
const SNAPSHOT_CHUNK_BYTES: u64 = 512 << 10;

/// How long a part of a snapshot may take to arrive and be installed.
const SNAPSHOT_TIMEOUT: Span = Span::from_secs(5);

pub(super) fn config(cluster: &str, timings: &Timings) -> Arc<Config> {
    let milliseconds = |span: Span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    Arc::new(Config {
        cluster_name: cluster.to_owned(),
        heartbeat_interval: milliseconds(timings.ledger_heartbeat),
        election_timeout_min: milliseconds(timings.election_min),
        election_timeout_max: milliseconds(timings.election_max),
        install_snapshot_timeout: milliseconds(SNAPSHOT_TIMEOUT),
        max_payload_entries: 64,
        // Until the others were asked; see `canvass`.
        enable_elect: false,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_ENTRIES),
        replication_lag_threshold: 2 * SNAPSHOT_ENTRIES,
        max_in_snapshot_log_to_keep: SNAPSHOT_ENTRIES / 4,
        snapshot_max_chunk_size: SNAPSHOT_CHUNK_BYTES,
        ..Config::default()
    })
}
