//! What the disk keeps, and how a node begins with it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::{
    ConfigSync, ConfigSyncConfig, ConfigSyncCounts, ConfigSyncEffect, Held, Moment, Turn, Version,
};
use crate::config_sync::clock::HybridClock;
use crate::config_sync::digest::{Digests, shard_of};
use crate::config_sync::{Digest, Dot, Entry, Replica, VersionVector};
use crate::domain::{Histogram, Incarnation, NodeId, Timestamp};

/// One record. The last one of a key counts, and the last [`StoredRecord::Own`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum StoredRecord {
    /// Who this is and what it has seen.
    Own {
        /// Which replica.
        replica: Replica,
        /// It has yet to have everything.
        is_fresh: bool,
        /// What it has seen, its own writes included.
        seen: VersionVector,
        /// Removals that may be forgotten.
        forgotten: VersionVector,
    },
    /// A key.
    Entry {
        /// Which.
        key: String,
        /// What stands of it.
        entry: Entry,
        /// What it was before.
        history: Vec<Version>,
    },
    /// A key that is not kept any more.
    Removed {
        /// Which.
        key: String,
    },
}

/// Why what is stored cannot be gone on with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// It belongs to another node.
    #[error(
        "what is stored is the configuration of node {found}, and this is {own}; give each node a \
         data directory of its own"
    )]
    AnotherNode {
        /// Whose it is.
        found: NodeId,
        /// Who this is.
        own: NodeId,
    },
}

impl ConfigSync {
    /// Begins with `records` as they were handed out, in order; none for a node without a past. `life` is
    /// this life of the node, later than all before.
    ///
    /// # Errors
    ///
    /// [`RestoreError`].
    pub fn begin(
        config: ConfigSyncConfig,
        own: &NodeId,
        life: Incarnation,
        records: impl IntoIterator<Item = StoredRecord>,
        at: Moment,
    ) -> Result<(Self, Vec<ConfigSyncEffect>), RestoreError> {
        let mut sync = Self {
            config,
            replica: Replica { node: own.clone(), incarnation: life },
            life,
            is_fresh: true,
            seen: VersionVector::default(),
            forgotten: VersionVector::default(),
            held: BTreeMap::new(),
            digests: Digests::default(),
            clock: HybridClock::default(),
            known: BTreeSet::new(),
            up: BTreeSet::new(),
            reports: BTreeMap::new(),
            repairs: BTreeMap::new(),
            dirty: BTreeSet::new(),
            dirty_since: None,
            pushed: None,
            pushes: BTreeMap::new(),
            push_number: 0,
            next_beat: Timestamp::default(),
            handed_out: 0,
            stored: 0,
            outbox: VecDeque::new(),
            outbox_bytes: 0,
            delays: Histogram::default(),
            counts: ConfigSyncCounts::default(),
        };
        let mut turn = Turn { is_meta_touched: true, ..Turn::default() };
        for record in records {
            sync.restore(record, &mut turn, at)?;
        }
        // The last write may be stored without the number of it.
        let own_dots = |held: &Held| held.entry.context.get(&sync.replica);
        let counter = sync.held.values().map(own_dots).max().unwrap_or(0);
        let counter = counter.max(sync.seen.get(&sync.replica));
        sync.seen.raise(&Dot { replica: sync.replica.clone(), counter });
        let effects = sync.end(turn, at);
        Ok((sync, effects))
    }

    fn restore(
        &mut self,
        record: StoredRecord,
        turn: &mut Turn,
        at: Moment,
    ) -> Result<(), RestoreError> {
        match record {
            StoredRecord::Own { replica, is_fresh, seen, forgotten } => {
                if replica.node != self.replica.node {
                    let (found, own) = (replica.node, self.replica.node.clone());
                    return Err(RestoreError::AnotherNode { found, own });
                }
                turn.is_meta_touched = false;
                (self.replica, self.is_fresh) = (replica, is_fresh);
                (self.seen, self.forgotten) = (seen, forgotten);
            }
            StoredRecord::Entry { key, entry, history } => {
                for sibling in entry.siblings.values() {
                    self.clock.on_stamp(sibling.stamp, at);
                }
                let (shard, digest) = (shard_of(&key), Digest::of_entry(&key, &entry));
                let removed_since = entry.is_removed().then_some(at.now);
                let held = Held { entry, shard, digest, history: history.into(), removed_since };
                let before = self.held.insert(key, held).map_or(Digest::default(), |h| h.digest);
                self.digests.change(shard, before, digest);
            }
            StoredRecord::Removed { key } => {
                if let Some(held) = self.held.remove(&key) {
                    self.digests.change(held.shard, held.digest, Digest::default());
                }
            }
        }
        Ok(())
    }

    /// What `turn` has brought about, in an order of which every beginning makes sense: that a write was
    /// seen is stored after the write, and what makes up for a key that is forgotten before it is.
    pub(super) fn records(&self, turn: &Turn) -> Vec<StoredRecord> {
        let mut records = Vec::new();
        for key in &turn.touched {
            if let Some(Held { entry, history, .. }) = self.held.get(key) {
                let history = history.iter().cloned().collect();
                let (key, entry) = (key.clone(), entry.clone());
                records.push(StoredRecord::Entry { key, entry, history });
            }
        }
        if turn.is_meta_touched {
            records.push(StoredRecord::Own {
                replica: self.replica.clone(),
                is_fresh: self.is_fresh,
                seen: self.seen.clone(),
                forgotten: self.forgotten.clone(),
            });
        }
        let removed = turn.removed.iter().cloned();
        records.extend(removed.map(|key| StoredRecord::Removed { key }));
        records
    }
}
