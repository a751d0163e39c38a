//! One node's part in the configuration: what it holds, what it tells whom, what it may forget.
//!
//! # Nothing leaves before it is stored
//!
//! A node that crashes comes back with some beginning of what it had written. So whatever it sends waits
//! until everything that it may follow from is on its disk: no dot is given twice, and a node never
//! claims to have taken in what it may have lost tomorrow.
//!
//! # What has been seen
//!
//! Beside the entries a node keeps one vector, `seen`: of every replica all writes up to one, of whatever
//! key, have been taken in here, so one that is not among the siblings has been replaced. Pushes come
//! with gaps and cannot raise it. Only two things do: a node's own writes, and hearing from a node whose
//! hash of everything is the same as here; whatever it has taken in, this node's entries hold the outcome
//! of too. A sibling that comes late and is covered by `seen` is old, even if its key is not there any
//! more (after Gonçalves, Almeida, Baquero, Fonte: "Concise Server-Wide Causality Management for
//! Eventually Consistent Data Stores", 2015).
//!
//! # How a removal is forgotten
//!
//! A removal is a write, and stays as a tombstone. A node forgets one when every *known* member, up or
//! down, has last told the same hash of everything as it has itself now, and has seen all that the
//! tombstone replaced. Then nobody holds anything that was written beside it, everybody refuses what
//! was written before it, and what is written later covers it. Who has forgotten it answers with an
//! entry of no siblings and the context `seen` to whoever still has it. What was written on a disk that is
//! lost counts as seen once all members hold the same: whoever has not got it by then never will.
//!
//! So a member that is away for a week holds up forgetting, and comes back to tombstones. One that the
//! others have been told to forget, or that has left, does not; when it returns on its old disk it sees
//! that removals were forgotten that it has not seen (`forgotten` is not within its `seen`). What it
//! holds that the others have not seen may be older than such a removal, and nobody could tell. So
//! it gives up those keys, tells them with [`ConfigSyncEffect::SetAside`] for a person to write again,
//! begins a new replica, and takes over the whole state; until then nobody takes its entries in. A node
//! that is new (*fresh*) has nothing to give up.
//!
//! Two halves of which each forgot the other, and removals since, simply join.
//!
//! # Invariants
//!
//! 1. No dot is given twice, over crashes and loss of the disk.
//! 2. Nodes that hear each other come to the same root hash, and with it to the same readings.
//! 3. A write that knew of another replaces it everywhere; a removed key comes back only by a later write.
//! 4. `seen` covers no write whose outcome is not in the entries.
//! 5. Everything that grows has a bound.

mod exchange;
mod forget;
mod history;
mod store;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::clock::HybridClock;
use super::digest::{Digests, shard_of};
use super::{
    Body, Digest, Dot, Entry, Header, MergeRule, Message, Reading, Replica, Sibling, Value,
    VersionVector,
};
use crate::domain::{Histogram, Incarnation, NodeId, Span, Timestamp};

pub use history::Version;
pub use store::{RestoreError, StoredRecord};

/// Keys that may be written, tombstones included.
pub const KEYS_MAX: usize = 4_096;

/// Keys that are taken in from others: two halves of a cluster may each have written their own.
const KEYS_HELD_MAX: usize = 4 * KEYS_MAX;

/// Bytes of a key.
pub const KEY_BYTES_MAX: usize = 128;

/// Bytes of a value.
pub const VALUE_BYTES_MAX: usize = 64 << 10;

/// Bytes of the name of an author.
const AUTHOR_BYTES_MAX: usize = 128;

/// Replicas that a vector may name: members, and disks that members have lost.
const REPLICAS_MAX: usize = 1_024;

/// Between two pushes.
const PUSH_EVERY: Span = Span::from_millis(5);

/// Pushes whose answers are waited for; later ones count, the oldest are given up.
const PUSHES_MAX: usize = 256;

/// Messages that wait for the disk; what finds no room is made good by a later repair.
const OUTBOX_MAX: usize = 1_024;

/// Bytes of entries in them, about.
const OUTBOX_BYTES_MAX: usize = 16 << 20;

/// When something happens, by two clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// By one that only goes on: for waiting.
    pub now: Timestamp,
    /// By the one on the wall, which others compare with theirs.
    pub wall: Timestamp,
}

/// What a node is told about its part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigSyncConfig {
    /// Between two signs of life.
    pub heartbeat: Span,
    /// How long a tombstone is kept at least.
    pub tombstone_min: Span,
}

/// A write as somebody wants it.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// Of which key.
    pub key: String,
    /// What; none to remove it.
    pub value: Option<Value>,
    /// Higher ones win among concurrent writes.
    pub priority: u8,
    /// How the key is to be read.
    pub rule: MergeRule,
    /// Who writes.
    pub author: String,
}

/// Why a write is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteRefusal {
    /// Not a key.
    #[error(
        "`{key}` is no key: 1 to {KEY_BYTES_MAX} bytes of letters, digits and `. _ - / @`, please"
    )]
    Key {
        /// What was given.
        key: String,
    },
    /// Too large.
    #[error("the value takes {bytes} bytes; at most {VALUE_BYTES_MAX} are kept")]
    Bytes {
        /// How much it takes.
        bytes: usize,
    },
    /// Something in it is no value.
    #[error("the value holds a number that is not finite, or a list within a list")]
    Unsound,
    /// The author's name is too long.
    #[error("the name of the author takes {bytes} bytes; at most {AUTHOR_BYTES_MAX} are kept")]
    Author {
        /// How much it takes.
        bytes: usize,
    },
    /// Too many keys.
    #[error("there are {KEYS_MAX} keys already; remove some that nobody needs")]
    Full,
    /// The rule makes nothing of such a value.
    #[error("the rule `{rule}` takes numbers, and this is {kind}")]
    Rule {
        /// Which.
        rule: &'static str,
        /// What was given.
        kind: &'static str,
    },
}

/// What has to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum ConfigSyncEffect {
    /// Send this, if the node is to be reached; it may be lost.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: Message,
    },
    /// This key reads otherwise than before.
    Changed {
        /// Which.
        key: String,
    },
    /// Store these in order, after all that were to be stored before, and say so by
    /// [`ConfigSync::on_persisted`].
    Persist {
        /// For the answer.
        number: u64,
        /// What.
        records: Vec<StoredRecord>,
    },
    /// This was written here and is not part of the configuration any more, as the others went on
    /// without this node: a person may want to write it again.
    SetAside {
        /// Of which key.
        key: String,
        /// What was written.
        sibling: Sibling,
    },
}

/// What is known of another member's configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberReport {
    /// Of which replica.
    pub replica: Replica,
    /// It has not had everything yet.
    pub is_fresh: bool,
    /// Its hash of everything.
    pub root: Digest,
    /// What it has seen.
    pub seen: VersionVector,
    /// When it last said so.
    pub heard: Timestamp,
}

/// What has happened, in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigSyncCounts {
    /// Writes here.
    pub writes: u64,
    /// Entries of others that changed something here.
    pub joined: u64,
    /// Of those, how many left a key with several siblings.
    pub conflicts: u64,
    /// Signs of life heard.
    pub beats: u64,
    /// Of those, how many told of another hash.
    pub mismatches: u64,
    /// Comparisons of shards begun.
    pub repairs: u64,
    /// Tombstones forgotten.
    pub forgotten: u64,
    /// Values set aside.
    pub set_aside: u64,
    /// Messages or entries that were not taken in.
    pub refused: u64,
    /// Messages that found no room while the disk was slow.
    pub dropped: u64,
}

#[derive(Clone, Debug, Default)]
struct Held {
    entry: Entry,
    shard: usize,
    digest: Digest,
    history: VecDeque<Version>,
    /// Since when nothing but removals stand.
    removed_since: Option<Timestamp>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct ConfigSync {
    config: ConfigSyncConfig,
    replica: Replica,
    /// Of this process; a later replica than any before takes it.
    life: Incarnation,
    is_fresh: bool,
    seen: VersionVector,
    forgotten: VersionVector,
    /// At most [`KEYS_HELD_MAX`].
    held: BTreeMap<String, Held>,
    digests: Digests,
    clock: HybridClock,
    known: BTreeSet<NodeId>,
    up: BTreeSet<NodeId>,
    /// Of known members.
    reports: BTreeMap<NodeId, MemberReport>,
    /// When a comparison with each began.
    repairs: BTreeMap<NodeId, Timestamp>,
    /// Keys to be pushed; at most as many as are held.
    dirty: BTreeSet<String>,
    dirty_since: Option<Timestamp>,
    pushed: Option<Timestamp>,
    /// When what was pushed was written, by number; at most [`PUSHES_MAX`].
    pushes: BTreeMap<u64, Timestamp>,
    push_number: u64,
    next_beat: Timestamp,
    /// Batches of records handed out, and those that are stored.
    handed_out: u64,
    stored: u64,
    /// With the batch that each waits for; at most [`OUTBOX_MAX`].
    outbox: VecDeque<(u64, NodeId, Message)>,
    outbox_bytes: usize,
    /// How long it took from a write until another node had said that it has it.
    delays: Histogram,
    counts: ConfigSyncCounts,
}

/// What one input has brought about so far.
#[derive(Debug, Default)]
struct Turn {
    touched: BTreeSet<String>,
    removed: BTreeSet<String>,
    changed: BTreeSet<String>,
    is_meta_touched: bool,
    bodies: Vec<(NodeId, Body)>,
    effects: Vec<ConfigSyncEffect>,
}

impl ConfigSync {
    /// Writes; the answer holds from when its batch is stored.
    ///
    /// # Errors
    ///
    /// [`WriteRefusal`], and nothing has changed.
    pub fn write(
        &mut self,
        write: Write,
        at: Moment,
    ) -> Result<(Dot, Vec<ConfigSyncEffect>), WriteRefusal> {
        self.check(&write)?;
        let Write { key, value, priority, rule, author } = write;
        let stamp = self.clock.stamp(at);
        Ok(self.put(key, Sibling { value, priority, stamp, author, rule }, at))
    }

    /// Writes `value` in place of the one value that `key` holds, as the same thing in another form: it is as old
    /// as that one, and of the same author. So it replaces that one everywhere, and gives way to whatever was
    /// written beside it that would have won against that one. None, if `key` does not hold exactly one value.
    pub fn rewrite(
        &mut self,
        key: &str,
        value: Value,
        at: Moment,
    ) -> Option<(Dot, Vec<ConfigSyncEffect>)> {
        let entry = self.entry(key)?;
        let sibling = entry.siblings.values().next().filter(|_| entry.siblings.len() == 1)?;
        sibling.value.as_ref()?;
        let sibling = Sibling { value: Some(value), ..sibling.clone() };
        Some(self.put(key.to_owned(), sibling, at))
    }

    fn put(&mut self, key: String, sibling: Sibling, at: Moment) -> (Dot, Vec<ConfigSyncEffect>) {
        let counter = self.seen.get(&self.replica) + 1;
        let dot = Dot { replica: self.replica.clone(), counter };
        let mut turn = Turn::default();
        self.change(&mut turn, &key, at, |entry, seen| {
            // A key that is not there may have been removed and forgotten: what was seen covers that.
            let before = if entry.siblings.is_empty() { seen.clone() } else { Default::default() };
            entry.write(dot.clone(), sibling, &before);
            true
        });
        self.seen.raise(&dot);
        turn.is_meta_touched = true;
        self.counts.writes += 1;
        self.dirty.insert(key);
        self.dirty_since.get_or_insert(at.now);
        self.push(&mut turn, at);
        (dot, self.end(turn, at))
    }

    /// Whether `write` would be taken.
    ///
    /// # Errors
    ///
    /// [`WriteRefusal`].
    pub fn check(&self, write: &Write) -> Result<(), WriteRefusal> {
        if !is_key(&write.key) {
            return Err(WriteRefusal::Key { key: write.key.clone() });
        }
        let bytes = write.author.len();
        if bytes > AUTHOR_BYTES_MAX {
            return Err(WriteRefusal::Author { bytes });
        }
        if self.held.len() >= KEYS_MAX && !self.held.contains_key(&write.key) {
            return Err(WriteRefusal::Full);
        }
        let Some(value) = &write.value else { return Ok(()) };
        if !value.is_sound() {
            return Err(WriteRefusal::Unsound);
        }
        let bytes = value.bytes();
        if bytes > VALUE_BYTES_MAX {
            return Err(WriteRefusal::Bytes { bytes });
        }
        if write.rule == MergeRule::Mean && value.number().is_none() {
            return Err(WriteRefusal::Rule { rule: write.rule.name(), kind: value.kind() });
        }
        Ok(())
    }

    /// `from` has said something.
    pub fn on_message(
        &mut self,
        from: &NodeId,
        message: Message,
        at: Moment,
    ) -> Vec<ConfigSyncEffect> {
        let mut turn = Turn::default();
        self.take(&mut turn, from, message, at);
        self.end(turn, at)
    }

    /// It is time; see [`Self::next_wake`].
    pub fn on_wake(&mut self, at: Moment) -> Vec<ConfigSyncEffect> {
        let mut turn = Turn::default();
        self.push(&mut turn, at);
        if at.now >= self.next_beat {
            self.next_beat = at.now.after(self.config.heartbeat);
            self.forget(&mut turn, at);
            let up: Vec<NodeId> = self.up.iter().cloned().collect();
            self.beat(&mut turn, up);
        }
        self.end(turn, at)
    }

    /// When to wake this at the latest.
    pub fn next_wake(&self) -> Timestamp {
        let push = self.dirty_since.map(|_| self.next_push());
        push.map_or(self.next_beat, |push| push.min(self.next_beat))
    }

    /// The records of batch `number` are stored, and all before them.
    pub fn on_persisted(&mut self, number: u64) -> Vec<ConfigSyncEffect> {
        self.stored = self.stored.max(number);
        let mut effects = Vec::new();
        self.release(&mut effects);
        effects
    }

    /// Who belongs to the cluster, there or not, and who of them can be reached.
    pub fn on_members(
        &mut self,
        known: BTreeSet<NodeId>,
        up: BTreeSet<NodeId>,
        at: Moment,
    ) -> Vec<ConfigSyncEffect> {
        let own = self.replica.node.clone();
        let up: BTreeSet<NodeId> = up.into_iter().filter(|node| *node != own).collect();
        let new: Vec<NodeId> = up.difference(&self.up).cloned().collect();
        self.reports.retain(|node, _| known.contains(node));
        self.repairs.retain(|node, _| up.contains(node));
        self.clock.keep(|node| known.contains(node));
        (self.known, self.up) = (known, up);
        let mut turn = Turn::default();
        self.beat(&mut turn, new);
        self.end(turn, at)
    }

    /// What `key` holds.
    pub fn read(&self, key: &str) -> Option<Reading<'_>> {
        self.held.get(key).and_then(|held| held.entry.read())
    }

    /// Everything that stands of `key`.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.held.get(key).map(|held| &held.entry)
    }

    /// Keys with what stands of them, tombstones included.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.held.iter().map(|(key, held)| (key.as_str(), &held.entry))
    }

    /// Values that `key` had here, the latest last.
    pub fn history(&self, key: &str) -> impl DoubleEndedIterator<Item = &Version> {
        self.held.get(key).into_iter().flat_map(|held| &held.history)
    }

    /// The hash of everything.
    pub fn root(&self) -> Digest {
        self.digests.root()
    }

    /// Which replica this is.
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Whether it has yet to have everything that any other node has.
    pub fn is_fresh(&self) -> bool {
        self.is_fresh
    }

    /// What was taken in here.
    pub fn seen(&self) -> &VersionVector {
        &self.seen
    }

    /// Removals up to here may be forgotten.
    pub fn forgotten(&self) -> &VersionVector {
        &self.forgotten
    }

    /// What other members have last said.
    pub fn reports(&self) -> &BTreeMap<NodeId, MemberReport> {
        &self.reports
    }

    /// What has happened, in numbers.
    pub fn counts(&self) -> &ConfigSyncCounts {
        &self.counts
    }

    /// How long it took from writes here until other nodes had said that they have them, one for each
    /// push and node; pushes that were lost are not in it.
    pub fn delays(&self) -> &Histogram {
        &self.delays
    }

    /// How far this node's clock is ahead of what the nodes together take for the present, beyond what is
    /// let pass; stamps are held back by it.
    pub fn clock_ahead(&self, at: Moment) -> Span {
        self.clock.ahead(at)
    }

    /// Messages that wait for the disk.
    pub fn outbox_len(&self) -> usize {
        self.outbox.len()
    }

    /// Changes the entry of `key` by `work`, which says whether siblings came or went, and keeps hashes,
    /// history and records in step.
    fn change(
        &mut self,
        turn: &mut Turn,
        key: &str,
        at: Moment,
        work: impl FnOnce(&mut Entry, &VersionVector) -> bool,
    ) -> bool {
        let held = self
            .held
            .entry(key.to_owned())
            .or_insert_with(|| Held { shard: shard_of(key), ..Held::default() });
        let before = held.entry.read().map(|reading| (reading.value, reading.dot.clone()));
        let context_before = held.entry.context.clone();
        let is_changed = work(&mut held.entry, &self.seen);
        if is_changed {
            let digest = Digest::of_entry(key, &held.entry);
            self.digests.change(held.shard, held.digest, digest);
            held.digest = digest;
            let is_removed = held.entry.is_removed();
            held.removed_since =
                if is_removed { held.removed_since.or(Some(at.now)) } else { None };
            let after = held.entry.read();
            if before.as_ref().map(|before| &before.0) != after.as_ref().map(|after| &after.value) {
                turn.changed.insert(key.to_owned());
            }
            let after = after.map(|after| (after.value, after.dot.clone()));
            if before != after {
                history::note(held, after);
            }
        }
        // Nothing stands, and what was replaced is covered without it: there is nothing to keep.
        if held.entry.siblings.is_empty() && self.seen.dominates(&held.entry.context) {
            self.held.remove(key);
            turn.touched.remove(key);
            turn.removed.insert(key.to_owned());
        } else if is_changed || held.entry.context != context_before {
            turn.removed.remove(key);
            turn.touched.insert(key.to_owned());
        }
        is_changed
    }

    fn header(&self, at: Moment) -> Header {
        Header {
            replica: self.replica.clone(),
            is_fresh: self.is_fresh,
            seen: self.seen.clone(),
            forgotten: self.forgotten.clone(),
            wall: at.wall,
        }
    }

    fn next_push(&self) -> Timestamp {
        self.pushed.map_or(Timestamp::default(), |pushed| pushed.after(PUSH_EVERY))
    }

    /// Hands out what is to be stored, and then what may be sent after it.
    fn end(&mut self, turn: Turn, at: Moment) -> Vec<ConfigSyncEffect> {
        let records = self.records(&turn);
        let Turn { changed, bodies, mut effects, .. } = turn;
        if !records.is_empty() {
            self.handed_out += 1;
            effects.push(ConfigSyncEffect::Persist { number: self.handed_out, records });
        }
        effects.extend(changed.into_iter().map(|key| ConfigSyncEffect::Changed { key }));
        if !bodies.is_empty() {
            let header = self.header(at);
            for (to, body) in bodies {
                let bytes = bytes_of(&body);
                let is_full =
                    self.outbox.len() >= OUTBOX_MAX || self.outbox_bytes + bytes > OUTBOX_BYTES_MAX;
                if is_full {
                    self.counts.dropped += 1;
                    continue;
                }
                self.outbox_bytes += bytes;
                let message = Message { header: header.clone(), body };
                self.outbox.push_back((self.handed_out, to, message));
            }
        }
        self.release(&mut effects);
        effects
    }

    fn release(&mut self, effects: &mut Vec<ConfigSyncEffect>) {
        while let Some((needs, _, _)) = self.outbox.front()
            && *needs <= self.stored
        {
            let (_, to, message) = self.outbox.pop_front().expect("it was seen");
            self.outbox_bytes -= bytes_of(&message.body);
            effects.push(ConfigSyncEffect::Send { to, message });
        }
    }
}

/// Bytes of a body, as far as it may be large.
fn bytes_of(body: &Body) -> usize {
    match body {
        Body::Push { entries, .. } | Body::Entries { entries, .. } => {
            entries.iter().map(|(key, entry)| entry_bytes(key, entry)).sum()
        }
        Body::Keys(shards) => shards.iter().map(|(_, keys)| 160 * keys.len()).sum(),
        Body::Shards(shards) => 16 * shards.len(),
        Body::Beat { .. } | Body::Taken { .. } => 0,
    }
}

/// Bytes of an entry in a message, about.
fn entry_bytes(key: &str, entry: &Entry) -> usize {
    let sibling = |sibling: &Sibling| {
        64 + sibling.author.len() + sibling.value.as_ref().map_or(0, Value::bytes)
    };
    key.len() + 32 * entry.context.len() + entry.siblings.values().map(sibling).sum::<usize>()
}

fn is_key(key: &str) -> bool {
    let is_good = |c: char| c.is_ascii_alphanumeric() || "._-/@".contains(c);
    (1..=KEY_BYTES_MAX).contains(&key.len()) && key.chars().all(is_good)
}
