//! What a node may forget, and what it has to give up.

use std::collections::BTreeMap;

use super::{ConfigSync, ConfigSyncEffect, Moment, Turn};
use crate::config_sync::{Digest, Dot, Header, Replica, VersionVector};
use crate::domain::{Incarnation, NodeId};

impl ConfigSync {
    /// Forgets tombstones of which no member needs to be told any more; the rule is in the module's head.
    pub(super) fn forget(&mut self, turn: &mut Turn, at: Moment) {
        let own = &self.replica.node;
        if !self.known.contains(own) {
            return;
        }
        let root = self.root();
        let mut others = self.known.iter().filter(|node| *node != own);
        if !others.all(|node| self.reports.get(node).is_some_and(|report| report.root == root)) {
            return;
        }
        if self.settle_lost() {
            // The others have to say so too.
            turn.is_meta_touched = true;
            return;
        }
        let mut claims = vec![&self.seen];
        claims.extend(self.reports.values().map(|report| &report.seen));
        let tombstone_min = self.config.tombstone_min;
        let is_over = |held: &&super::Held| {
            let since = held.removed_since;
            since.is_some_and(|since| at.now.since(since) >= tombstone_min)
                && claims.iter().all(|seen| seen.dominates(&held.entry.context))
        };
        let over = self.held.iter().filter(|(_, held)| is_over(held));
        let over: Vec<String> = over.map(|(key, _)| key.clone()).collect();
        for key in over {
            let Some(held) = self.held.remove(&key) else { continue };
            self.digests.change(held.shard, held.digest, Digest::default());
            self.forgotten.join(&held.entry.context);
            self.counts.forgotten += 1;
            turn.is_meta_touched = true;
            // Others do the same at about the same time; who does not is told.
            self.dirty.insert(key.clone());
            turn.removed.insert(key);
        }
        if !self.dirty.is_empty() && self.dirty_since.is_none() {
            self.dirty_since = Some(at.now);
        }
    }

    /// All members hold the same. What was written on disks that are lost, and that nobody has got, nobody
    /// will get: it counts as seen. Says whether that is news.
    fn settle_lost(&mut self) -> bool {
        let replicas = self.reports.values().map(|report| &report.replica).chain([&self.replica]);
        let there: BTreeMap<&NodeId, Incarnation> =
            replicas.map(|replica| (&replica.node, replica.incarnation)).collect();
        // Of a member that was forgotten nobody knows whether its disk is.
        let is_lost =
            |of: &Replica| there.get(&of.node).is_some_and(|&later| later > of.incarnation);
        let mut lost = VersionVector::default();
        for held in self.held.values() {
            for (replica, counter) in held.entry.context.iter() {
                if is_lost(replica) && self.seen.get(replica) < counter {
                    lost.raise(&Dot { replica: replica.clone(), counter });
                }
            }
        }
        self.seen.join(&lost);
        !lost.is_empty()
    }

    /// Whether `theirs` may have forgotten removals of which one that has seen `seen` knows nothing.
    pub(super) fn has_missed(seen: &VersionVector, theirs: &VersionVector) -> bool {
        !seen.dominates(theirs)
    }

    /// The others went on without this node: it keeps what they have seen, sets aside the rest, and takes
    /// over the whole state as a new replica.
    pub(super) fn return_home(&mut self, turn: &mut Turn, header: &Header, at: Moment) {
        let is_theirs =
            |held: &super::Held| held.entry.siblings.keys().all(|dot| header.seen.covers(dot));
        let mine: Vec<String> = self
            .held
            .iter()
            .filter(|(_, held)| !is_theirs(held))
            .map(|(key, _)| key.clone())
            .collect();
        for key in mine {
            let Some(held) = self.held.remove(&key) else { continue };
            self.digests.change(held.shard, held.digest, Digest::default());
            if held.entry.read().is_some() {
                turn.changed.insert(key.clone());
            }
            turn.touched.remove(&key);
            turn.removed.insert(key.clone());
            self.dirty.remove(&key);
            for (dot, sibling) in held.entry.siblings {
                if !header.seen.covers(&dot) {
                    self.counts.set_aside += 1;
                    let key = key.clone();
                    turn.effects.push(ConfigSyncEffect::SetAside { key, sibling });
                }
            }
        }
        // A context covers what may have been the outcome of what was just given up.
        let kept: Vec<String> = self.held.keys().cloned().collect();
        for key in kept {
            self.change(turn, &key, at, |entry, _| {
                entry.context = entry.siblings.keys().collect();
                false
            });
        }
        self.begin_replica(turn);
    }

    /// Takes a new name for its writes and forgets what it has seen: that was of the old one.
    pub(super) fn begin_replica(&mut self, turn: &mut Turn) {
        let Replica { node, incarnation } = self.replica.clone();
        let incarnation = self.life.max(Incarnation(incarnation.0.saturating_add(1)));
        self.replica = Replica { node, incarnation };
        self.is_fresh = true;
        self.seen = VersionVector::default();
        self.forgotten = VersionVector::default();
        turn.is_meta_touched = true;
    }
}
