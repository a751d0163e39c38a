//! Copies of a log on other nodes: who keeps them, which part of a log two nodes agree on, and when what
//! was appended is safe enough for anybody to see it.
//!
//! A log is a sequence of records under growing keys, written by one owner at a time. Each owner begins
//! with the log of the one before it, so two logs are the same as far as the owners in their
//! [`Lineage`]s are (Ongaro and Ousterhout: "In search of an understandable consensus algorithm", 2014,
//! §5.3, the log matching property; Kafka's KIP-101 keeps the same list of epochs).
//!
//! # Invariants
//!
//! 1. What [`CopySet::stored`] has passed is on the owner's disk and on every node that was chosen then.
//! 2. A node counts once it has the whole log, not before.
//! 3. Fewer nodes than wanted will do only while most members are there: whoever is cut off with few, or
//!    alone, lets nothing pass that those who replace it would not find.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::domain::{Incarnation, NodeId};

/// What one owner has written of a log, until the next one began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stretch {
    /// Of the owner's unit.
    pub epoch: u64,
    /// Of the owner: one that lost its disk may have its unit at the same epoch again.
    pub life: Incarnation,
    /// The first key that may be this owner's.
    pub start: u64,
}

/// The owners of a log, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// Ascending. Those of which nothing is left are forgotten.
    stretches: Vec<Stretch>,
}

impl Lineage {
    /// A new owner writes from `start` on.
    pub fn begin(&mut self, stretch: Stretch) {
        self.cut(stretch.start.saturating_add(1));
        self.stretches.push(stretch);
    }

    /// Whether that owner writes already.
    pub fn is_of(&self, epoch: u64, life: Incarnation) -> bool {
        self.stretches.last().is_some_and(|last| (last.epoch, last.life) == (epoch, life))
    }

    /// Forgets who wrote from `from` on: it is not there any more. Whoever began before that stays.
    pub fn cut(&mut self, from: u64) {
        self.stretches.retain(|stretch| stretch.start < from);
    }

    /// Forgets owners of which nothing is left since the log begins at `first`.
    pub fn forget(&mut self, first: u64) {
        let ends = self.stretches.iter().skip(1).take_while(|next| next.start <= first).count();
        self.stretches.drain(..ends);
    }

    /// Where the stretch at `place` ends: the next one may have written that key anew.
    fn end(&self, place: usize, last: u64) -> u64 {
        self.stretches.get(place + 1).map_or(last, |next| next.start.min(last))
    }
}

/// What a node has of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogState {
    /// Who wrote it.
    pub lineage: Lineage,
    /// Its first and its last key; none, if it is empty.
    pub keys: Option<(u64, u64)>,
}

impl LogState {
    /// Of several, whoever takes the log over goes on with the greatest: the latest owner's, and of one
    /// owner's the longest.
    pub fn rank(&self) -> (u64, Incarnation, u64) {
        let last = self.lineage.stretches.last();
        let owner = last.map_or((0, Incarnation::default()), |last| (last.epoch, last.life));
        (owner.0, owner.1, self.keys.map_or(0, |(_, last)| last))
    }

    /// The first key from which on `other` must be given what is here, to have the same; before it
    /// both are the same already. The last record that both have is among them, since an owner may
    /// have written it twice. None, if there is nothing to give.
    pub fn differs_from(&self, other: &Self) -> Option<u64> {
        let (first, last) = self.keys?;
        let Some((other_first, other_last)) = other.keys else { return Some(first) };
        if other_first > first {
            return Some(first);
        }
        let own = &self.lineage.stretches;
        let theirs = &other.lineage.stretches;
        let common = own.iter().enumerate().rev().find_map(|(place, stretch)| {
            Some((place, theirs.iter().position(|theirs| theirs == stretch)?))
        });
        let Some((here, there)) = common else { return Some(first) };
        let agreed = self.lineage.end(here, last).min(other.lineage.end(there, other_last));
        Some(agreed.max(first))
    }
}

/// Who keeps copies of one log, and how far they are.
#[derive(Debug)]
pub struct CopySet {
    /// Nodes but the owner that are to keep it.
    wanted: usize,
    /// How many records each has; none while it is given what there was before. At most `wanted`.
    holders: BTreeMap<NodeId, Option<u64>>,
    /// Nodes that would not, or could not. At most one entry a member.
    refused: BTreeSet<NodeId>,
    /// Records on the owner's disk.
    local: u64,
    stored: u64,
    is_with_most: bool,
    is_fenced: bool,
}

impl CopySet {
    /// A log that `wanted` nodes are to keep beside its owner.
    pub fn new(wanted: usize) -> Self {
        Self {
            wanted,
            holders: BTreeMap::new(),
            refused: BTreeSet::new(),
            local: 0,
            stored: 0,
            is_with_most: false,
            is_fenced: false,
        }
    }

    /// These nodes are there, beside the owner, the first choice first, of so many `members` with the
    /// owner. Returns those that keep copies from now on and have to be given all there is.
    pub fn on_nodes(&mut self, alive: &[NodeId], members: usize) -> Vec<NodeId> {
        self.is_with_most = (alive.len() + 1) * 2 > members;
        self.holders.retain(|node, _| alive.contains(node));
        self.refused.retain(|node| alive.contains(node));
        let mut chosen = Vec::new();
        // Whoever keeps copies already stays: another would have to be given all there is.
        for node in alive {
            let is_free = !self.refused.contains(node) && !self.holders.contains_key(node);
            if is_free && self.holders.len() < self.wanted {
                self.holders.insert(node.clone(), None);
                chosen.push(node.clone());
            }
        }
        chosen
    }

    /// The way to `node` is another, or `node` began anew: it has to be chosen again.
    pub fn on_lost(&mut self, node: &NodeId) {
        self.holders.remove(node);
        self.refused.remove(node);
    }

    /// `node` cannot keep copies, as when its disk is full.
    pub fn on_refused(&mut self, node: &NodeId) {
        self.holders.remove(node);
        self.refused.insert(node.clone());
    }

    /// Those who could not may be asked again.
    pub fn forgive(&mut self) {
        self.refused.clear();
    }

    /// Somebody has heard of a later owner.
    pub fn on_fenced(&mut self) {
        self.is_fenced = true;
    }

    /// One more record is on the owner's disk.
    pub fn on_local(&mut self) {
        self.local += 1;
    }

    /// `node` has whatever was before, and the first `count` records.
    pub fn on_kept(&mut self, node: &NodeId, count: u64) {
        if let Some(kept) = self.holders.get_mut(node) {
            *kept = Some(kept.unwrap_or(0).max(count));
        }
    }

    /// How many records, from the first, may be seen by anybody.
    pub fn stored(&mut self) -> u64 {
        if self.is_settled() {
            let kept = self.holders.values().flatten().copied().min();
            self.stored = self.stored.max(kept.map_or(self.local, |kept| kept.min(self.local)));
        }
        self.stored
    }

    /// Whether every node that keeps copies has whatever was there before it was chosen.
    pub fn is_settled(&self) -> bool {
        self.is_with_most && !self.is_fenced && self.holders.values().all(Option::is_some)
    }

    /// Nodes that keep the whole log, beside the owner.
    pub fn whole(&self) -> impl Iterator<Item = &NodeId> {
        self.holders.iter().filter(|(_, kept)| kept.is_some()).map(|(node, _)| node)
    }

    /// Why nothing passes, if nothing does.
    pub fn obstacle(&self) -> Option<&'static str> {
        if self.is_fenced {
            return Some("its unit has a later owner");
        }
        if !self.is_with_most {
            return Some("most members are out of reach");
        }
        let is_waiting = self.holders.values().any(Option::is_none);
        is_waiting.then_some("a node is being given what there is")
    }
}

#[cfg(test)]
mod tests;
