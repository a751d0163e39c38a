//! What a node says to others, and what it makes of what they say.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    AUTHOR_BYTES_MAX, ConfigSync, KEYS_HELD_MAX, MemberReport, Moment, PUSHES_MAX, REPLICAS_MAX,
    Turn, VALUE_BYTES_MAX, entry_bytes, is_key,
};
use crate::config_sync::digest::SHARDS;
use crate::config_sync::{Body, Digest, Entry, Header, Message, Value, VersionVector};
use crate::domain::NodeId;

/// Bytes of entries in one message, about; a single entry may be larger.
const MESSAGE_BYTES_MAX: usize = 256 << 10;

/// Messages of entries in one answer; what is left is exchanged after the next sign of life.
const MESSAGES_MAX: usize = 16;

/// Siblings of an entry that is taken in.
const SIBLINGS_MAX: usize = 128;

impl ConfigSync {
    /// Tells `to` the hash of everything.
    pub(super) fn beat(&self, turn: &mut Turn, to: Vec<NodeId>) {
        let root = self.root();
        turn.bodies.extend(to.into_iter().map(|node| (node, Body::Beat { root })));
    }

    /// Pushes what has changed, unless the last push was a moment ago.
    pub(super) fn push(&mut self, turn: &mut Turn, at: Moment) {
        let Some(since) = self.dirty_since else { return };
        if at.now < self.next_push() {
            return;
        }
        self.dirty_since = None;
        self.pushed = Some(at.now);
        let dirty = std::mem::take(&mut self.dirty);
        let entries = dirty.into_iter().map(|key| {
            let entry = self.entry(&key).cloned().unwrap_or_else(|| self.nothing());
            (key, entry)
        });
        let parts = parts(entries);
        for entries in parts {
            self.push_number += 1;
            let number = self.push_number;
            self.pushes.insert(number, since);
            if self.pushes.len() > PUSHES_MAX {
                self.pushes.pop_first();
            }
            for node in &self.up {
                turn.bodies.push((node.clone(), Body::Push { number, entries: entries.clone() }));
            }
        }
    }

    /// What is said of a key that is not here: whatever was seen of it has been replaced.
    fn nothing(&self) -> Entry {
        Entry { context: self.seen.clone(), siblings: BTreeMap::new() }
    }

    /// The entry of `key` for one who has it otherwise. Some of what it has may have been replaced long
    /// ago, so what was seen goes along.
    fn told(&self, key: &str) -> Entry {
        let mut entry = self.entry(key).cloned().unwrap_or_default();
        entry.context.join(&self.seen);
        entry
    }

    /// See [`ConfigSync::on_message`].
    pub(super) fn take(&mut self, turn: &mut Turn, from: &NodeId, message: Message, at: Moment) {
        let Message { header, body } = message;
        let is_earlier = self
            .reports
            .get(from)
            .is_some_and(|report| report.replica.incarnation > header.replica.incarnation);
        let is_sound = header.replica.node == *from
            && !is_earlier
            && is_bounded(&header.seen)
            && is_bounded(&header.forgotten);
        if !is_sound {
            self.counts.refused += 1;
            return;
        }
        self.clock.on_clock(from, header.wall, at);
        // This disk is older than what it once said: its next writes must not pass for those.
        if header.seen.get(&self.replica) > self.seen.get(&self.replica) {
            self.begin_replica(turn);
        }
        let has_missed = Self::has_missed(&self.seen, &header.forgotten);
        let have_missed = Self::has_missed(&header.seen, &self.forgotten);
        if has_missed && !have_missed && !self.is_fresh {
            self.return_home(turn, &header, at);
        }
        let is_welcome = header.is_fresh || !have_missed || has_missed;
        match body {
            Body::Beat { root } => self.on_beat(turn, from, &header, root, at),
            Body::Push { number, entries } => {
                if is_welcome {
                    self.take_in(turn, entries, at);
                    turn.bodies.push((from.clone(), Body::Taken { number }));
                }
            }
            Body::Taken { number } => {
                if let Some(&since) = self.pushes.get(&number) {
                    let nanos = at.now.since(since).as_nanos();
                    self.delays.record(u64::try_from(nanos).unwrap_or(u64::MAX));
                }
            }
            Body::Shards(theirs) => self.on_shards(turn, from, &theirs),
            Body::Keys(theirs) => self.on_keys(turn, from, theirs),
            Body::Entries { entries, wanted } => {
                let entries = if is_welcome { entries } else { Vec::new() };
                self.on_entries(turn, from, entries, wanted, at);
            }
        }
    }

    fn on_beat(
        &mut self,
        turn: &mut Turn,
        from: &NodeId,
        header: &Header,
        root: Digest,
        at: Moment,
    ) {
        self.counts.beats += 1;
        if self.known.contains(from) {
            let Header { replica, is_fresh, seen, .. } = header.clone();
            let report = MemberReport { replica, is_fresh, root, seen, heard: at.now };
            self.reports.insert(from.clone(), report);
        }
        if root == self.root() {
            let is_new = !self.seen.dominates(&header.seen)
                || !self.forgotten.dominates(&header.forgotten)
                || self.is_fresh;
            if is_new {
                self.seen.join(&header.seen);
                self.forgotten.join(&header.forgotten);
                self.is_fresh = false;
                turn.is_meta_touched = true;
                self.drop_empty(turn, at);
            }
            return;
        }
        self.counts.mismatches += 1;
        let last = self.repairs.get(from);
        let is_due = last.is_none_or(|&last| at.now.since(last) >= self.config.heartbeat / 2);
        if is_due && self.up.contains(from) {
            self.repairs.insert(from.clone(), at.now);
            self.counts.repairs += 1;
            turn.bodies.push((from.clone(), Body::Shards(self.digests.shards())));
        }
    }

    /// Of keys without siblings, those go that only kept what is seen now.
    fn drop_empty(&mut self, turn: &mut Turn, at: Moment) {
        let empty = self.held.iter().filter(|(_, held)| held.entry.siblings.is_empty());
        let empty: Vec<String> = empty.map(|(key, _)| key.clone()).collect();
        for key in empty {
            self.change(turn, &key, at, |_, _| false);
        }
    }

    fn on_shards(&mut self, turn: &mut Turn, from: &NodeId, theirs: &[Digest]) {
        if theirs.len() != SHARDS {
            self.counts.refused += 1;
            return;
        }
        let own = self.digests.shards();
        let differ: BTreeSet<usize> =
            (0..SHARDS).filter(|&shard| own[shard] != theirs[shard]).collect();
        let mut keys: BTreeMap<usize, Vec<(String, Digest)>> =
            differ.iter().map(|&shard| (shard, Vec::new())).collect();
        for (key, held) in &self.held {
            if !held.entry.siblings.is_empty()
                && let Some(keys) = keys.get_mut(&held.shard)
            {
                keys.push((key.clone(), held.digest));
            }
        }
        let keys = keys.into_iter();
        let keys = keys.map(|(shard, keys)| (u8::try_from(shard).unwrap_or(u8::MAX), keys));
        let keys: Vec<_> = keys.collect();
        if !keys.is_empty() {
            turn.bodies.push((from.clone(), Body::Keys(keys)));
        }
    }

    fn on_keys(&self, turn: &mut Turn, from: &NodeId, theirs: Vec<(u8, Vec<(String, Digest)>)>) {
        let shards: BTreeSet<usize> = theirs.iter().map(|(shard, _)| usize::from(*shard)).collect();
        let theirs: BTreeMap<String, Digest> =
            theirs.into_iter().flat_map(|(_, keys)| keys).collect();
        let own = self
            .held
            .iter()
            .filter(|(_, held)| shards.contains(&held.shard) && !held.entry.siblings.is_empty());
        let own = own.filter(|(key, held)| theirs.get(*key) != Some(&held.digest));
        let mut differ: BTreeSet<String> = own.map(|(key, _)| key.clone()).collect();
        for (key, digest) in theirs {
            if is_key(&key) && self.held.get(&key).is_none_or(|held| held.digest != digest) {
                differ.insert(key);
            }
        }
        let told = differ.into_iter().map(|key| (self.told(&key), key));
        for entries in parts(told.map(|(entry, key)| (key, entry))) {
            let wanted = entries.iter().map(|(key, _)| key.clone()).collect();
            turn.bodies.push((from.clone(), Body::Entries { entries, wanted }));
        }
    }

    fn on_entries(
        &mut self,
        turn: &mut Turn,
        from: &NodeId,
        entries: Vec<(String, Entry)>,
        wanted: Vec<String>,
        at: Moment,
    ) {
        let theirs: BTreeMap<String, Digest> = entries
            .iter()
            .map(|(key, entry)| (key.clone(), Digest::of_entry(key, entry)))
            .collect();
        self.take_in(turn, entries, at);
        let digest = |key: &String| self.held.get(key).map_or(Digest::default(), |h| h.digest);
        let wanted = wanted.into_iter().filter(|key| theirs.get(key) != Some(&digest(key)));
        let answer = wanted.map(|key| (self.told(&key), key));
        for entries in parts(answer.map(|(entry, key)| (key, entry))) {
            turn.bodies.push((from.clone(), Body::Entries { entries, wanted: Vec::new() }));
        }
    }

    fn take_in(&mut self, turn: &mut Turn, entries: Vec<(String, Entry)>, at: Moment) {
        for (key, entry) in entries {
            let is_new = !self.held.contains_key(&key);
            if !is_acceptable(&key, &entry) || (is_new && self.held.len() >= KEYS_HELD_MAX) {
                self.counts.refused += 1;
                continue;
            }
            if entry.context.get(&self.replica) > self.seen.get(&self.replica) {
                self.begin_replica(turn);
            }
            for sibling in entry.siblings.values() {
                self.clock.on_stamp(sibling.stamp, at);
            }
            if self.change(turn, &key, at, |own, seen| own.join(&entry, seen)) {
                self.counts.joined += 1;
                let siblings = self.entry(&key).map_or(0, |entry| entry.siblings.len());
                self.counts.conflicts += u64::from(siblings > 1);
            }
        }
    }
}

/// Entries in messages of a bounded size, as many as go at once.
fn parts(entries: impl Iterator<Item = (String, Entry)>) -> Vec<Vec<(String, Entry)>> {
    let mut parts: Vec<Vec<(String, Entry)>> = Vec::new();
    let mut bytes = usize::MAX;
    for (key, entry) in entries {
        let more = entry_bytes(&key, &entry);
        if bytes.saturating_add(more) > MESSAGE_BYTES_MAX {
            if parts.len() == MESSAGES_MAX {
                break;
            }
            parts.push(Vec::new());
            bytes = 0;
        }
        bytes += more;
        if let Some(part) = parts.last_mut() {
            part.push((key, entry));
        }
    }
    parts
}

fn is_bounded(vector: &VersionVector) -> bool {
    vector.len() <= REPLICAS_MAX
}

fn is_acceptable(key: &str, entry: &Entry) -> bool {
    let is_sound = |value: &Value| value.is_sound() && value.bytes() <= VALUE_BYTES_MAX;
    is_key(key)
        && is_bounded(&entry.context)
        && entry.siblings.len() <= SIBLINGS_MAX
        && entry.siblings.values().all(|sibling| {
            sibling.author.len() <= AUTHOR_BYTES_MAX && sibling.value.as_ref().is_none_or(is_sound)
        })
        && entry.siblings.keys().all(|dot| entry.context.covers(dot))
}
