//! A stage's memory: its state at some keys, so that it can go on from any place that a consumer may
//! still ask for.
//!
//! A consumer's newest checkpoint may lie before its producer's, and then the producer must derive
//! rows again. Rather than keeping those rows, a stage keeps its older checkpoints until every
//! consumer has called their key stable, and tells its own producers that the oldest one is the
//! furthest it will ever go back. State is small, rows are many.
//!
//! # Invariants
//!
//! 1. There is always a checkpoint, or the beginning, that is not after what any consumer calls stable.
//! 2. What was announced as stable upstream is never asked for again.
//! 3. What was on its way to the disk when the stage went back is not taken for a checkpoint of the
//!    stage as it is now: it would be announced as stable while rows before it are still to come.
//! 4. Where copies are kept elsewhere, a checkpoint counts as stored only once they are.
//! 5. Once the last one was put, because another node is to go on from there, none is put any more, also
//!    not by a successor: it would be announced as stable before the other node has come as far.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tickwright_core::domain::{Basis, Control, Key, SourceId, Timestamp};

use super::live::LiveNumber;
use super::outlet::Outlet;
use super::recording::Barrier;
use super::store::{Done, Store, StoreError};
use super::wire;

/// A write that has reached the disk, or failed.
pub type Stored = (Key, Result<(), StoreError>);

/// A checkpoint that is to be kept elsewhere too, so that another node can go on from it.
pub struct CheckpointCopy {
    /// The tree it is in.
    pub tree: String,
    /// Its key there.
    pub key: Vec<u8>,
    /// The stage's state.
    pub value: Vec<u8>,
    /// The keys of those that are still needed, ascending, without this one. What is before them is
    /// not.
    pub kept: Vec<Vec<u8>>,
}

/// Where checkpoints go to be kept elsewhere, each with what is to be called once it is.
pub type CopyOutlet = Outlet<(CheckpointCopy, Done)>;

impl std::fmt::Debug for CheckpointCopy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CheckpointCopy").field("tree", &self.tree).finish_non_exhaustive()
    }
}

/// Whether a checkpoint can be gone on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It can.
    Counts,
    /// It may be, later.
    Waits,
    /// It never can again.
    Fell,
}

impl Verdict {
    /// Of what has this `basis`. Whoever `has_promised` to be before the hold must not come to be further by
    /// going on from there, before it is decided what comes of the hold.
    pub fn of(basis: Basis, control: &Control, has_promised: bool) -> Self {
        match (control.stands(basis), control.stands_whatever_comes(basis)) {
            (true, false) if has_promised => Self::Waits,
            (true, _) => Self::Counts,
            (false, _) => Self::Fell,
        }
    }
}

/// The tree with the checkpoints of the stage called `stage`.
pub fn checkpoint_tree(stage: &str) -> String {
    format!("checkpoint/{stage}")
}

/// The checkpoints of one stage.
#[derive(Debug)]
pub struct Checkpoints {
    store: Store,
    tree: String,
    /// Keys of those kept, ascending. Bounded by how far consumers lag behind, in spacings.
    kept: Vec<Key>,
    spacing: u64,
    rows: u64,
    /// Keys of writes that are on their way.
    in_flight: Vec<Key>,
    /// Those that were when the stage last went back.
    abandoned: Vec<Key>,
    announced: Key,
    progress: Arc<AtomicU64>,
    stored: Outlet<Stored>,
    copies: Option<CopyOutlet>,
    /// What a checkpoint waits for, before it is written.
    barrier: Option<Outlet<Barrier>>,
    /// The last one was put.
    is_closed: Arc<AtomicBool>,
    /// Where `spacing` changes while this runs, and its bound.
    live: Option<(LiveNumber, u64)>,
}

impl Checkpoints {
    /// The checkpoints of `stage`, one every `spacing` rows. `stored` brings word back to the stage;
    /// `progress` counts what was stored, for its supervisor.
    ///
    /// # Errors
    ///
    /// [`StoreError::Record`].
    pub fn open(
        store: &Store,
        stage: &str,
        spacing: u64,
        progress: Arc<AtomicU64>,
        stored: Outlet<Stored>,
    ) -> Result<Self, StoreError> {
        let tree = checkpoint_tree(stage);
        let mut kept = Vec::new();
        for bytes in store.keys(&tree)? {
            let key = key_of(&bytes);
            kept.push(key.ok_or_else(|| store.record_error(&tree, &bytes, "not a key"))?);
        }
        Ok(Self {
            store: store.clone(),
            tree,
            kept,
            spacing: spacing.max(1),
            rows: 0,
            in_flight: Vec::new(),
            abandoned: Vec::new(),
            announced: Key::START,
            progress,
            stored,
            copies: None,
            barrier: None,
            is_closed: Arc::default(),
            live: None,
        })
    }

    /// The same, one every so many rows as `number` says from time to time, `at_most` apart.
    #[must_use]
    pub fn with_live_spacing(self, number: LiveNumber, at_most: u64) -> Self {
        Self { live: Some((number, at_most)), ..self }
    }

    /// The same, but the first one comes sooner, by a part of the spacing that `stage` draws. Stages that put theirs
    /// at the same rows keep those that follow waiting for as long as all of them take together.
    #[must_use]
    pub fn out_of_step(self, stage: &str) -> Self {
        let drawn = u64::from(blake3::hash(stage.as_bytes()).as_bytes()[0]);
        Self { rows: self.spacing.saturating_mul(drawn) / 256, ..self }
    }

    /// The same, with copies of each kept by whoever is behind `copies`.
    #[must_use]
    pub fn with_copies(self, copies: Option<CopyOutlet>) -> Self {
        Self { copies, ..self }
    }

    /// The same, each written only once all that was recorded before it is durable.
    #[must_use]
    pub fn after(self, barrier: Option<Outlet<Barrier>>) -> Self {
        Self { barrier, ..self }
    }

    /// The same, for as long as `is_closed` does not say that the last one was put: by this or by the
    /// stage's life before.
    #[must_use]
    pub fn open_while_not(self, is_closed: Arc<AtomicBool>) -> Self {
        Self { is_closed, ..self }
    }

    /// Goes back: to the newest state at or before `key`, with its own key; none means the beginning.
    ///
    /// # Errors
    ///
    /// [`StoreError::Record`] when it is damaged or another version's.
    pub fn newest<T: DeserializeOwned>(
        &mut self,
        key: Key,
    ) -> Result<Option<(Key, T)>, StoreError> {
        self.newest_that(key, |_| Verdict::Counts)
    }

    /// The same, to the newest that counts. Those that do not, and never will again, are removed.
    ///
    /// # Errors
    ///
    /// As of [`newest`](Self::newest).
    pub fn newest_that<T: DeserializeOwned>(
        &mut self,
        key: Key,
        judge: impl Fn(&T) -> Verdict,
    ) -> Result<Option<(Key, T)>, StoreError> {
        self.abandoned.append(&mut self.in_flight);
        let mut index = self.kept.partition_point(|&kept| kept <= key);
        while let Some(before) = index.checked_sub(1) {
            index = before;
            let at = self.kept[before];
            let bytes = bytes_of(at);
            let record = self.store.get(&self.tree, &bytes)?;
            let fail = |message: &str| self.store.record_error(&self.tree, &bytes, message);
            let record = record.ok_or_else(|| fail("it is gone"))?;
            let state = wire::decode(&record).map_err(|error| fail(&error.to_string()))?;
            match judge(&state) {
                Verdict::Counts => return Ok(Some((at, state))),
                Verdict::Waits => {}
                Verdict::Fell => {
                    tracing::info!(tree = self.tree, key = %at, "a checkpoint counts no more");
                    self.kept.remove(before);
                    self.store.remove(&self.tree, vec![bytes]);
                }
            }
        }
        Ok(None)
    }

    /// Counts rows handled; true when it is time for a checkpoint and the last one has been stored.
    pub fn is_due(&mut self, rows: u64) -> bool {
        self.rows += rows;
        if let Some((number, at_most)) = &mut self.live {
            self.spacing = number.get().min(*at_most).max(1);
        }
        self.rows >= self.spacing && !self.is_in_flight() && !self.is_closed()
    }

    /// Whether no more rows are to be handled yet: another checkpoint is due before what was recorded up to the last
    /// one is durable. It bounds what waits to be recorded.
    pub fn is_behind(&self) -> bool {
        self.barrier.is_some() && self.rows >= self.spacing && self.is_in_flight()
    }

    fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    /// Stores `state` as it is at `key`, unless the last one was put.
    pub fn put<T: Serialize>(&mut self, key: Key, state: &T) {
        if !self.is_closed() {
            self.write(key, state, key == Key::END);
        }
    }

    /// Stores `state` as it is at `key`; nothing is put after it.
    pub fn put_last<T: Serialize>(&mut self, key: Key, state: &T) {
        self.is_closed.store(true, Ordering::Relaxed);
        if key != Key::START {
            self.write(key, state, true);
        }
    }

    /// `is_awaited`: somebody waits for it, as at the end of the run.
    fn write<T: Serialize>(&mut self, key: Key, state: &T, is_awaited: bool) {
        self.rows = 0;
        if self.kept.last() == Some(&key) {
            return;
        }
        let needed = self.kept.iter().chain(&self.abandoned).chain(&self.in_flight).copied();
        let mut needed: Vec<Key> = needed.collect();
        self.in_flight.push(key);
        let stored = self.stored.clone();
        // A stage that ended meanwhile finds the checkpoint when it starts again.
        let progress = Arc::clone(&self.progress);
        let done = Box::new(move |result: Result<(), StoreError>| {
            // Here and not when word of it is handled: the stage may crash before that, and has still
            // got on.
            if result.is_ok() {
                progress.fetch_add(1, Ordering::Relaxed);
            }
            drop(stored.send((key, result)));
        });
        let value = wire::encode(state);
        let copy = self.copies.clone().map(|copies| {
            needed.sort_unstable();
            let (tree, kept) = (self.tree.clone(), needed.into_iter().map(bytes_of).collect());
            (copies, CheckpointCopy { tree, key: bytes_of(key), value: value.clone(), kept })
        });
        let (store, tree) = (self.store.clone(), self.tree.clone());
        let put = move || {
            match copy {
                None => store.put(&tree, bytes_of(key), value, done),
                Some((copies, copy)) => {
                    let [here, there] = both(done);
                    store.put(&tree, bytes_of(key), value, here);
                    // Whoever keeps copies is there for as long as the stage is.
                    drop(copies.send((copy, there)));
                }
            }
            if is_awaited {
                store.hurry();
            }
        };
        match &self.barrier {
            None => put(),
            // Whoever records and has gone has a successor, which has the stage begin anew.
            Some(barrier) => drop(barrier.send(Barrier::Plain(Box::new(put)))),
        }
    }

    /// Takes in that a checkpoint has been stored.
    ///
    /// # Errors
    ///
    /// That of the write.
    pub fn on_stored(&mut self, stored: Stored) -> Result<(), StoreError> {
        let (key, result) = stored;
        if let Some(place) = self.abandoned.iter().position(|&abandoned| abandoned == key) {
            // It is whole, and a later start may find it; to this one it has not happened yet.
            self.abandoned.remove(place);
            return result;
        }
        self.in_flight.retain(|&written| written != key);
        result?;
        let index = self.kept.partition_point(|&kept| kept < key);
        if self.kept.get(index) != Some(&key) {
            self.kept.insert(index, key);
        }
        Ok(())
    }

    /// Drops what no consumer will ask for, given that all have called `stable` stable. Returns the
    /// key that is stable upstream, when it has moved.
    pub fn trim(&mut self, stable: Key) -> Option<Key> {
        let index = self.kept.partition_point(|&kept| kept <= stable);
        let oldest = index.checked_sub(1)?;
        if oldest > 0 {
            let dropped = self.kept.drain(..oldest).map(bytes_of).collect();
            self.store.remove(&self.tree, dropped);
        }
        let key = self.kept[0];
        (key > self.announced).then(|| {
            self.announced = key;
            key
        })
    }

    /// The newest key stored, or the beginning.
    pub fn last(&self) -> Key {
        self.kept.last().copied().unwrap_or(Key::START)
    }

    /// Whether a write is on its way.
    pub fn is_in_flight(&self) -> bool {
        !self.in_flight.is_empty() || !self.abandoned.is_empty()
    }
}

/// Calls `done` once both of what it returns were called: with the first failure, if there was one.
fn both(done: Done) -> [Done; 2] {
    let shared = Arc::new(Mutex::new((None, Some(done))));
    let half = || -> Done {
        let shared = Arc::clone(&shared);
        Box::new(move |result| {
            let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
            let (first, done) = &mut *shared;
            match first.take() {
                None => *first = Some(result),
                Some(earlier) => {
                    let done = done.take();
                    // Whatever it does, it need not be done under the lock.
                    drop(shared);
                    if let Some(done) = done {
                        done(earlier.and(result));
                    }
                }
            }
        })
    };
    [half(), half()]
}

/// A key as bytes that sort as it does.
fn bytes_of(key: Key) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(18);
    bytes.extend_from_slice(&key.frontier.as_nanos().to_be_bytes());
    bytes.extend_from_slice(&key.source.0.to_be_bytes());
    bytes.extend_from_slice(&key.sequence.to_be_bytes());
    bytes
}

/// The key that sorts as `bytes`, if they are one.
pub fn key_of(bytes: &[u8]) -> Option<Key> {
    Some(Key {
        frontier: Timestamp::from_nanos(u64::from_be_bytes(bytes.get(..8)?.try_into().ok()?)),
        source: SourceId(u16::from_be_bytes(bytes.get(8..10)?.try_into().ok()?)),
        sequence: u64::from_be_bytes(bytes.get(10..)?.try_into().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoints(store: &Store) -> Checkpoints {
        let (stored, _) = Outlet::to_channel();
        Checkpoints::open(store, "stage", 10, Arc::default(), stored).unwrap()
    }

    fn put(checkpoints: &mut Checkpoints, sequence: u64) {
        let key = Key::of(sequence, 0, sequence);
        checkpoints.put(key, &sequence);
        checkpoints.on_stored((key, Ok(()))).unwrap();
    }

    #[test]
    fn the_newest_state_not_after_a_key_is_found_again() {
        let store = Store::in_memory();
        let mut writer = checkpoints(&store);
        [5, 10, 300].into_iter().for_each(|sequence| put(&mut writer, sequence));
        let mut reader = checkpoints(&store);
        let mut newest = |frontier| {
            let key = Key::of(frontier, 0, u64::MAX);
            reader.newest::<u64>(key).unwrap().map(|(_, state)| state)
        };
        assert_eq!(newest(4), None);
        assert_eq!(newest(5), Some(5));
        assert_eq!(newest(299), Some(10));
        assert_eq!(newest(u64::MAX), Some(300));
    }

    /// Those of one spacing, which see the same rows.
    #[test]
    fn stages_do_not_all_put_one_at_the_same_rows() {
        let store = Store::in_memory();
        let due = |stage: &str| {
            let (stored, _) = Outlet::to_channel();
            let opened = Checkpoints::open(&store, stage, 65_536, Arc::default(), stored).unwrap();
            let mut checkpoints = opened.out_of_step(stage);
            let mut rows = Vec::new();
            for block in 1..=1_024 {
                if checkpoints.is_due(256) {
                    put(&mut checkpoints, block);
                    rows.push(block * 256);
                }
            }
            rows
        };
        let stages = ["ingester/0", "cleaner/0", "factors/0", "strategy/0", "risk"].map(due);
        let mut first: Vec<u64> = stages.iter().map(|rows| rows[0]).collect();
        first.sort_unstable();
        assert!(first.windows(2).all(|two| two[1] - two[0] >= 8 * 256), "{first:?}");
        for rows in &stages {
            assert!(rows[0] <= 65_536 && rows.len() >= 4);
            assert!(rows.windows(2).all(|two| two[1] - two[0] == 65_536), "{rows:?}");
        }
    }

    /// Or what waits to be recorded would grow without bound.
    #[test]
    fn rows_wait_while_another_is_due_and_the_last_is_not_recorded() {
        let store = Store::in_memory();
        let (sent, mut barriers) = Outlet::to_channel();
        let mut checkpoints = checkpoints(&store).after(Some(sent));
        let key = Key::of(10, 0, 10);
        assert!(checkpoints.is_due(10) && !checkpoints.is_behind());
        checkpoints.put(key, &10u64);
        assert!(!checkpoints.is_due(9) && !checkpoints.is_behind(), "there is room for a spacing");
        assert!(!checkpoints.is_due(1) && checkpoints.is_behind());
        assert!(store.keys("checkpoint/stage").unwrap().is_empty(), "it is not durable before");
        let Barrier::Plain(put) = barriers.try_recv().unwrap() else {
            panic!("nothing is carried")
        };
        put();
        checkpoints.on_stored((key, Ok(()))).unwrap();
        assert!(!checkpoints.is_behind() && checkpoints.is_due(0));
        assert_eq!(store.keys("checkpoint/stage").unwrap().len(), 1);
    }

    #[test]
    fn one_checkpoint_at_or_before_what_is_stable_is_kept() {
        let store = Store::in_memory();
        let mut checkpoints = checkpoints(&store);
        [5, 10, 15].into_iter().for_each(|sequence| put(&mut checkpoints, sequence));
        assert_eq!(checkpoints.trim(Key::of(4, 0, 4)), None);
        assert_eq!(checkpoints.trim(Key::of(12, 0, 12)), Some(Key::of(10, 0, 10)));
        assert_eq!(checkpoints.trim(Key::of(12, 0, 12)), None, "announced once");
        assert_eq!(store.keys("checkpoint/stage").unwrap().len(), 2);
    }

    /// Or rows between would be forgotten upstream that this stage has not had yet.
    #[test]
    fn what_was_on_its_way_when_the_stage_went_back_is_not_called_stable() {
        let store = Store::in_memory();
        let mut checkpoints = checkpoints(&store);
        put(&mut checkpoints, 5);
        let late = Key::of(10, 0, 10);
        checkpoints.put(late, &10u64);
        assert!(checkpoints.newest::<u64>(Key::END).unwrap().is_some_and(|(_, state)| state == 5));
        checkpoints.on_stored((late, Ok(()))).unwrap();
        assert_eq!(checkpoints.last(), Key::of(5, 0, 5));
        assert_eq!(checkpoints.trim(Key::END), Some(Key::of(5, 0, 5)));
        // Once the stage has come there again, it is.
        put(&mut checkpoints, 10);
        assert_eq!(checkpoints.trim(Key::END), Some(late));
    }

    #[test]
    fn a_checkpoint_is_stored_once_its_copy_is() {
        let store = Store::in_memory();
        let (stored, mut word) = Outlet::to_channel();
        let (copies, mut copied) = Outlet::to_channel();
        let checkpoints = Checkpoints::open(&store, "stage", 10, Arc::default(), stored).unwrap();
        let mut checkpoints = checkpoints.with_copies(Some(copies));
        checkpoints.put(Key::of(5, 0, 5), &5u64);
        assert!(word.try_recv().is_err(), "the copy is still on its way");
        let (copy, done): (CheckpointCopy, Done) = copied.try_recv().unwrap();
        assert_eq!(store.get(&copy.tree, &copy.key).unwrap(), Some(copy.value));
        assert!(copy.kept.is_empty());
        done(Ok(()));
        let stored: Stored = word.try_recv().unwrap();
        checkpoints.on_stored(stored).unwrap();
        checkpoints.put(Key::of(9, 0, 9), &9u64);
        assert_eq!(copied.try_recv().unwrap().0.kept, [bytes_of(Key::of(5, 0, 5))]);
    }

    #[test]
    fn nothing_is_put_after_the_last_one_also_not_by_a_successor() {
        let (store, is_closed) = (Store::in_memory(), Arc::new(AtomicBool::new(false)));
        let open = || checkpoints(&store).open_while_not(Arc::clone(&is_closed));
        let mut first = open();
        put(&mut first, 5);
        assert!(first.is_due(10));
        let last = Key::of(7, 0, 7);
        first.put_last(last, &7u64);
        assert!(first.is_in_flight(), "it is to be waited for");
        first.on_stored((last, Ok(()))).unwrap();
        put(&mut first, 9);
        let mut second = open();
        assert!(!second.is_due(100));
        put(&mut second, 11);
        assert_eq!(checkpoints(&store).last(), last);
    }

    #[test]
    fn a_damaged_checkpoint_is_an_error_that_names_it() {
        let store = Store::in_memory();
        put(&mut checkpoints(&store), 5);
        let key = bytes_of(Key::of(5, 0, 5));
        store.put_and_wait("checkpoint/stage", key, vec![1, 2, 3]).unwrap();
        let error = checkpoints(&store).newest::<u64>(Key::END).unwrap_err();
        assert!(error.to_string().contains("checkpoint/stage"), "{error}");
    }
}
