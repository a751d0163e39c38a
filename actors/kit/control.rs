//! Changes that can alter orders, made while running.
//!
//! A change takes effect at an event time: before the first row whose frontier has reached it, in every
//! shard, in its factor engine as in its strategies. It is stored before any of them may pass that
//! time, so a restart, a rewind and a replay apply it at the same row.
//!
//! # Invariants
//!
//! 1. A change is recorded only at a time that nobody has passed, even if they have gone back since:
//!    what was derived before stays what is derived again.
//! 2. So the changes before a row are the same whenever they are counted, and their number, the
//!    version of the row's [layout](tickwright_core::domain::FactorLayout), names them.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tickwright_core::domain::{ParameterChange, Timestamp};

use super::{Store, StoreError, wire};

/// Where changes are stored, by their number.
const TREE: &str = "control";

/// Most changes in one run: stages keep them all.
pub const CHANGE_COUNT_MAX: usize = 10_000;

/// What factor engines and strategies have to know of changes.
#[derive(Clone, Debug, Default)]
pub struct Control {
    /// Which [`ControlLog::version`] this is.
    version: u64,
    /// In the order in which they take effect.
    pub changes: Vec<ParameterChange>,
    /// Nobody may pass this time just now: a change is about to be made there.
    pub hold: Option<Timestamp>,
}

impl Control {
    /// How many changes hold once event time has reached `frontier`.
    pub fn count_at(&self, frontier: Timestamp) -> usize {
        self.changes.partition_point(|change| change.at <= frontier)
    }

    /// The changes that hold at `frontier` beyond the first `applied`.
    pub fn due(&self, applied: u64, frontier: Timestamp) -> &[ParameterChange] {
        let applied = usize::try_from(applied).unwrap_or(usize::MAX);
        self.changes.get(applied..self.count_at(frontier)).unwrap_or_default()
    }

    /// The first `version` changes: those that a layout of that version is made by.
    pub fn first(&self, version: u64) -> &[ParameterChange] {
        let count = usize::try_from(version).unwrap_or(usize::MAX);
        self.changes.get(..count).unwrap_or(&self.changes)
    }

    /// Whether rows at `frontier` have to wait.
    pub fn is_held(&self, frontier: Timestamp) -> bool {
        self.hold.is_some_and(|hold| frontier >= hold)
    }

    /// The next time after `frontier` at which something changes or has to wait.
    pub fn next_after(&self, frontier: Timestamp) -> Option<Timestamp> {
        let next = self.changes.get(self.count_at(frontier)).map(|change| change.at);
        next.into_iter().chain(self.hold.filter(|&hold| hold > frontier)).min()
    }
}

/// All changes of a run. Outlives the actors that read it.
#[derive(Clone)]
pub struct ControlLog {
    store: Store,
    version: Arc<AtomicU64>,
    shared: Arc<Mutex<Control>>,
    /// The furthest that anybody has come, in nanoseconds.
    passed: Arc<AtomicU64>,
    /// Held by whoever makes a change.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl fmt::Debug for ControlLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlLog").field("control", &self.lock()).finish_non_exhaustive()
    }
}

impl ControlLog {
    /// The changes that `store` holds.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when they cannot be read.
    pub fn open(store: &Store) -> Result<Self, StoreError> {
        let mut changes: Vec<ParameterChange> = Vec::new();
        for key in store.keys(TREE)? {
            let fail = |message: &str| store.record_error(TREE, &key, message);
            let record = store.get(TREE, &key)?.ok_or_else(|| fail("it is gone"))?;
            changes.push(wire::decode(&record).map_err(|error| fail(&error.to_string()))?);
        }
        // Those of one time hold in the order in which they were made.
        changes.sort_by_key(|change| change.at);
        Ok(Self {
            store: store.clone(),
            version: Arc::new(AtomicU64::new(1)),
            shared: Arc::new(Mutex::new(Control { version: 1, changes, hold: None })),
            passed: Arc::default(),
            turn: Arc::default(),
        })
    }

    /// Brings `control` up to date. Costs one load while nothing has changed.
    pub fn refresh(&self, control: &mut Control) {
        if control.version != self.version.load(Ordering::Acquire) {
            *control = self.lock().clone();
        }
    }

    /// Everything as it is now.
    pub fn current(&self) -> Control {
        self.lock().clone()
    }

    /// Waits until nobody else makes a change.
    pub async fn turn(&self) -> tokio::sync::OwnedMutexGuard<()> {
        Arc::clone(&self.turn).lock_owned().await
    }

    /// Somebody is about to handle rows up to `frontier`, or has their results from before.
    pub fn pass(&self, frontier: Timestamp) {
        // Mostly others have been there: no need to write to memory that all shards share.
        if frontier.as_nanos() > self.passed.load(Ordering::Relaxed) {
            self.passed.fetch_max(frontier.as_nanos(), Ordering::AcqRel);
        }
    }

    /// The furthest that anybody has come since the log was opened.
    pub fn passed(&self) -> Timestamp {
        Timestamp::from_nanos(self.passed.load(Ordering::Acquire))
    }

    /// From here on no shard that has not passed `at` will, until [`release`](Self::release).
    pub fn hold(&self, at: Timestamp) {
        self.edit(|control| control.hold = Some(at));
    }

    /// Lets everybody go on. They have to be told.
    pub fn release(&self) {
        self.edit(|control| control.hold = None);
    }

    /// Stores `change`, then makes it known. Blocks until it is on the disk.
    ///
    /// # Errors
    ///
    /// [`StoreError`], and nothing has changed.
    pub fn record(&self, change: ParameterChange) -> Result<(), StoreError> {
        let number = self.lock().changes.len() as u64;
        let key = number.to_be_bytes().to_vec();
        self.store.put_and_wait(TREE, key, wire::encode(&change))?;
        self.edit(|control| {
            let place = control.count_at(change.at);
            control.changes.insert(place, change);
        });
        Ok(())
    }

    fn edit(&self, edit: impl FnOnce(&mut Control)) {
        let mut control = self.lock();
        edit(&mut control);
        control.version += 1;
        self.version.store(control.version, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Control> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(at: u64, width: f64) -> ParameterChange {
        let parameters = vec![("width".to_owned(), width)];
        ParameterChange { at: Timestamp::from_nanos(at), strategy: 0, parameters }
    }

    #[test]
    fn changes_are_found_again_in_the_order_in_which_they_hold() {
        let store = Store::in_memory();
        let log = ControlLog::open(&store).unwrap();
        for made in [change(30, 1.0), change(10, 2.0), change(30, 3.0)] {
            log.record(made).unwrap();
        }
        let expected = [change(10, 2.0), change(30, 1.0), change(30, 3.0)];
        assert_eq!(log.current().changes, expected);
        assert_eq!(ControlLog::open(&store).unwrap().current().changes, expected);
        let count = |at| log.current().count_at(Timestamp::from_nanos(at));
        assert_eq!((count(9), count(10), count(29), count(30)), (0, 1, 1, 3));
        let control = log.current();
        let at = Timestamp::from_nanos;
        assert_eq!(control.due(1, at(30)), expected[1..].to_vec());
        assert_eq!(control.due(1, at(29)), []);
        assert_eq!(control.first(2), expected[..2].to_vec());
    }

    #[test]
    fn a_reader_sees_a_hold_as_soon_as_it_looks_again() {
        let log = ControlLog::open(&Store::in_memory()).unwrap();
        let mut control = log.current();
        log.hold(Timestamp::from_nanos(5));
        log.refresh(&mut control);
        let at = Timestamp::from_nanos;
        assert!(control.is_held(at(5)) && !control.is_held(at(4)));
        assert_eq!((control.next_after(at(4)), control.next_after(at(5))), (Some(at(5)), None));
        log.release();
        log.refresh(&mut control);
        assert!(!control.is_held(at(5)));
        log.record(change(7, 1.0)).unwrap();
        log.refresh(&mut control);
        assert_eq!((control.next_after(at(5)), control.next_after(at(7))), (Some(at(7)), None));
    }

    #[test]
    fn who_goes_back_has_still_passed() {
        let log = ControlLog::open(&Store::in_memory()).unwrap();
        log.pass(Timestamp::from_nanos(9));
        log.pass(Timestamp::from_nanos(4));
        assert_eq!(log.passed(), Timestamp::from_nanos(9));
    }
}
