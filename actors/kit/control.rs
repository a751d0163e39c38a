//! Changes that can alter orders, made while running: what the actors of one process know of them.
//!
//! A change takes effect at an event time: before the first row whose frontier has reached it, in every
//! shard, in its factor engine as in its strategies. It is stored, or agreed on, before any of them may
//! pass that time, so a restart, a rewind and a replay apply it at the same row.
//!
//! In a process by itself the changes are in its store. In a cluster they are in the ledger, and whoever
//! follows that shows each process what it holds, see [`ControlLog::show`].
//!
//! # Invariants
//!
//! 1. A change is recorded only under a hold, at a time that nobody whose results count has passed.
//! 2. So the changes before a row are the same whenever they are counted, and their number, the
//!    version of the row's [layout](tickwright_core::domain::FactorLayout), names them.
//! 3. Holds are numbered upwards, also over restarts, and what is shown never goes back.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tickwright_core::domain::{Control, Hold, MadeChange, Timestamp};
use tokio::sync::watch;

use super::{Store, StoreError, wire};

/// Where changes are stored, by their number.
const TREE: &str = "control";

/// Where it is stored how many processes have held the pipeline.
const LIVES: (&str, &[u8]) = ("control_lives", b"count");

/// Holds that one process may make; the next begins after so many.
const HOLDS_PER_LIFE: u64 = 1 << 32;

/// All changes of a run, as far as this process knows. Outlives the actors that read it.
#[derive(Clone)]
pub struct ControlLog {
    /// None where changes are agreed on.
    store: Option<Store>,
    version: Arc<AtomicU64>,
    shared: Arc<Mutex<Shared>>,
    /// The number of the last hold that is known.
    known: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Shared {
    control: Control,
    /// As they were made; empty where they are agreed on.
    made: Vec<MadeChange>,
    /// Processes before this one that have held the pipeline, and whether this one has.
    lives: u64,
    is_counted: bool,
    /// The last hold before which each actor has said that it is. As many as there are actors.
    promised: BTreeMap<String, u64>,
    /// The furthest that exec has come in this process.
    passed: Timestamp,
    /// Which state of the ledger was shown last.
    revision: u64,
}

/// What one actor has read of the log.
#[derive(Clone, Debug, Default)]
pub struct ControlView {
    version: u64,
    /// The changes, and what is held.
    pub control: Control,
}

impl fmt::Debug for ControlLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlLog").field("control", &self.current()).finish_non_exhaustive()
    }
}

impl ControlLog {
    /// The changes that `store` holds.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when they cannot be read.
    pub fn open(store: &Store) -> Result<Self, StoreError> {
        let mut made: Vec<MadeChange> = Vec::new();
        for key in store.keys(TREE)? {
            let fail = |message: &str| store.record_error(TREE, &key, message);
            let record = store.get(TREE, &key)?.ok_or_else(|| fail("it is gone"))?;
            made.push(wire::decode(&record).map_err(|error| fail(&error.to_string()))?);
        }
        let (tree, key) = LIVES;
        let lives = match store.get(tree, key)? {
            Some(record) => wire::decode::<u64>(&record)
                .map_err(|error| store.record_error(tree, key, &error.to_string()))?,
            None => 0,
        };
        let control = Control::new(made.clone(), lives * HOLDS_PER_LIFE, None);
        let shared = Shared { control, made, lives, ..Shared::default() };
        Ok(Self::new(Some(store.clone()), shared))
    }

    /// Of a process that is shown what was agreed on; none of it yet.
    pub fn agreed() -> Self {
        Self::new(None, Shared::default())
    }

    fn new(store: Option<Store>, shared: Shared) -> Self {
        let (known, _) = watch::channel(shared.control.known());
        Self {
            store,
            version: Arc::new(AtomicU64::new(1)),
            shared: Arc::new(Mutex::new(shared)),
            known,
        }
    }

    /// Brings `view` up to date; whether that is news. Costs one load while nothing has changed.
    pub fn refresh(&self, view: &mut ControlView) -> bool {
        if view.version == self.version.load(Ordering::Acquire) {
            return false;
        }
        let shared = self.lock();
        // Written under the lock: what is read belongs together.
        view.version = self.version.load(Ordering::Acquire);
        view.control = shared.control.clone();
        true
    }

    /// Everything as it is now.
    pub fn current(&self) -> Control {
        self.lock().control.clone()
    }

    /// Shows what was agreed on by `revision`; whether that is news.
    pub fn show(&self, revision: u64, control: Control) -> bool {
        self.edit(|shared| {
            let is_news = revision > shared.revision;
            if is_news {
                (shared.revision, shared.control) = (revision, control);
            }
            is_news
        })
    }

    /// Waits until hold `number` is known here; whether it was within `patience`.
    pub async fn learns_of(&self, number: u64, patience: Duration) -> bool {
        let mut known = self.known.subscribe();
        let learnt = known.wait_for(|&known| known >= number);
        tokio::time::timeout(patience, learnt).await.is_ok_and(|learnt| learnt.is_ok())
    }

    /// From here on nobody who has not passed `at` will, until [`release`](Self::release). Returns the
    /// hold's number; none while there is another hold. The first time blocks for a write.
    ///
    /// # Errors
    ///
    /// [`StoreError`], and nothing is held.
    pub fn hold(&self, at: Timestamp) -> Result<Option<u64>, StoreError> {
        self.edit(|shared| {
            if shared.control.hold().is_some() {
                return Ok(None);
            }
            let mut number = shared.control.known() + 1;
            if !shared.is_counted {
                // What was derived by processes before may have known holds that left no change.
                let lives = shared.lives + 1;
                if let Some(store) = &self.store {
                    let (tree, key) = LIVES;
                    store.put_and_wait(tree, key.to_vec(), wire::encode(&lives))?;
                }
                (shared.lives, shared.is_counted) = (lives, true);
                number = number.max(lives * HOLDS_PER_LIFE + 1);
            }
            shared.control = shared.control.with_hold(Some(Hold { at, number }));
            Ok(Some(number))
        })
    }

    /// Lets everybody go on, if hold `number` is in force. They have to be told.
    pub fn release(&self, number: u64) {
        self.edit(|shared| {
            if shared.control.hold().is_some_and(|hold| hold.number == number) {
                shared.control = shared.control.with_hold(None);
            }
        });
    }

    /// Stores `made`, then makes it known; the hold stays. Blocks until it is on the disk.
    ///
    /// # Errors
    ///
    /// [`StoreError`], and nothing has changed.
    pub fn record(&self, made: MadeChange) -> Result<(), StoreError> {
        let number = self.lock().made.len() as u64;
        if let Some(store) = &self.store {
            store.put_and_wait(TREE, number.to_be_bytes().to_vec(), wire::encode(&made))?;
        }
        self.edit(|shared| {
            shared.made.push(made);
            let (known, hold) = (shared.control.known(), shared.control.hold());
            shared.control = Control::new(shared.made.clone(), known, hold);
        });
        Ok(())
    }

    /// Whoever serves `role` has said that it is before the hold in force.
    pub fn promise(&self, role: &str) {
        let mut shared = self.lock();
        if let Some(hold) = shared.control.hold() {
            shared.promised.insert(role.to_owned(), hold.number);
        }
    }

    /// Whether it has: then no successor of its begins beyond the hold while that is in force.
    pub fn has_promised(&self, role: &str) -> bool {
        let shared = self.lock();
        let hold = shared.control.hold();
        hold.is_some_and(|hold| shared.promised.get(role) == Some(&hold.number))
    }

    /// Exec has come as far as `frontier`, and what followed from that may have been told to others.
    pub fn pass(&self, frontier: Timestamp) {
        let mut shared = self.lock();
        shared.passed = shared.passed.max(frontier);
    }

    /// The furthest that it has come since the log was opened.
    pub fn passed(&self) -> Timestamp {
        self.lock().passed
    }

    fn edit<T>(&self, edit: impl FnOnce(&mut Shared) -> T) -> T {
        let (result, known) = {
            let mut shared = self.lock();
            let result = edit(&mut shared);
            self.version.fetch_add(1, Ordering::AcqRel);
            (result, shared.control.known())
        };
        self.known.send_if_modified(|before| {
            let is_news = known > *before;
            *before = known.max(*before);
            is_news
        });
        result
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tickwright_core::domain::ParameterChange;

    use super::*;

    fn at(nanos: u64) -> Timestamp {
        Timestamp::from_nanos(nanos)
    }

    fn made(nanos: u64, hold: u64) -> MadeChange {
        let parameters = vec![("width".to_owned(), 2.5)];
        let change = ParameterChange { at: at(nanos), strategy: 0, parameters };
        MadeChange { change, hold, by: "operator".into(), why: "to see".into() }
    }

    #[test]
    fn changes_are_found_again_with_who_made_them_and_why() {
        let store = Store::in_memory();
        let log = ControlLog::open(&store).unwrap();
        let number = log.hold(at(10)).unwrap().unwrap();
        log.record(made(30, number)).unwrap();
        log.record(made(10, number)).unwrap();
        log.release(number);
        let found = ControlLog::open(&store).unwrap().current();
        assert_eq!(found.changes(), log.current().changes());
        assert_eq!(found.changes()[0].at, at(10));
        assert!(found.made().all(|(_, by, why)| (by, why) == ("operator", "to see")));
    }

    #[test]
    fn holds_are_numbered_on_after_a_restart_though_none_has_left_a_change() {
        let store = Store::in_memory();
        let log = ControlLog::open(&store).unwrap();
        let number = log.hold(at(10)).unwrap().unwrap();
        assert_eq!(log.hold(at(20)).unwrap(), None, "one at a time");
        assert!(ControlLog::open(&store).unwrap().hold(at(10)).unwrap().unwrap() > number);
    }

    #[test]
    fn a_reader_sees_a_hold_as_soon_as_it_looks_again() {
        let log = ControlLog::open(&Store::in_memory()).unwrap();
        let mut view = ControlView::default();
        assert!(log.refresh(&mut view) && !log.refresh(&mut view));
        let number = log.hold(at(5)).unwrap().unwrap();
        assert!(log.refresh(&mut view) && view.control.is_held(at(5)));
        log.release(number + 1);
        log.refresh(&mut view);
        assert!(view.control.is_held(at(5)), "that is another hold");
        log.release(number);
        log.refresh(&mut view);
        assert!(!view.control.is_held(at(5)));
    }

    #[test]
    fn a_promise_is_for_one_hold_and_who_goes_back_has_still_passed() {
        let log = ControlLog::open(&Store::in_memory()).unwrap();
        log.promise("risk");
        assert!(!log.has_promised("risk"), "nothing is held");
        let number = log.hold(at(5)).unwrap().unwrap();
        log.promise("risk");
        assert!(log.has_promised("risk") && !log.has_promised("factors/0"));
        log.release(number);
        log.hold(at(5)).unwrap();
        assert!(!log.has_promised("risk"), "that was another hold");
        log.pass(at(9));
        log.pass(at(4));
        assert_eq!(log.passed(), at(9));
    }

    #[tokio::test]
    async fn what_was_agreed_on_is_shown_in_its_order_and_waited_for() {
        let log = ControlLog::agreed();
        assert!(!log.learns_of(3, Duration::ZERO).await);
        assert!(log.show(7, Control::new(vec![made(10, 3)], 3, None)));
        assert!(!log.show(6, Control::default()), "that was before");
        assert_eq!(log.current().changes().len(), 1);
        assert!(log.learns_of(3, Duration::ZERO).await);
    }
}
