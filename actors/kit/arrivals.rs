//! The order in which exec took its inputs, on the disk before anything follows from it.
//!
//! ```text
//! risk ── steps ──▶ pending ──▶ one record at a time ──▶ store ──▶ durable: an order may leave
//! ```
//!
//! Needed only where inputs are taken as they arrive, see [`tickwright_core::stream::Taken`]. A record
//! holds what was taken while the record before it was being written, so their number follows the
//! disk and not the rows.
//!
//! The log outlives the actor that appends to it: a successor takes the same steps again, also those
//! that have not reached the disk. It forgets what a checkpoint covers, but for the last record of that: by
//! it whoever goes on from an older checkpoint knows that steps are missing.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tickwright_core::stream::{External, Positions, Taken};

use super::log_copy::{LogCopy, LogOutlet, append_to_log};
use super::outlet::Outlet;
use super::store::{Done, Store, StoreError};
use super::wire;

/// The tree of records.
pub const ARRIVALS_TREE: &str = "arrivals";

/// Steps of one record of a copy.
const COPIED_STEPS: usize = 16_384;

/// The checkpoint at hand is older than the one up to which the log was forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the order in which inputs were taken begins at record {first}, which the newest checkpoint here does \
     not reach: a newer one is kept by a node that is not there"
)]
pub struct ArrivalsMissing {
    /// The first record that there is.
    pub first: u64,
}

/// All steps of a run that no checkpoint covers.
#[derive(Clone)]
pub struct ArrivalLog {
    store: Store,
    /// Whether records stay on the disk when a checkpoint covers them.
    is_kept: bool,
    /// Who keeps copies of it elsewhere.
    copies: Option<LogOutlet>,
    shared: Arc<Mutex<Shared>>,
}

/// What is done once what it follows from is stored.
type Then = Box<dyn FnOnce() + Send>;

/// What a record's way to the disk came to.
pub type ArrivalsStored = Result<(), StoreError>;

/// What was taken, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrived {
    /// From which input, up to where.
    pub steps: Vec<Taken>,
    /// What brokers outside said, by number.
    pub events: Vec<(u64, External)>,
}

#[derive(Default)]
struct Shared {
    /// Steps by the number of their record. Bounded by the rows between two checkpoints.
    records: VecDeque<(u64, Arrived)>,
    /// Steps that are in no record yet.
    pending: Arrived,
    /// The number of the next record.
    next: u64,
    /// Every record before this one is on the disk, and wherever else it is to be.
    durable: u64,
    /// Told of each record that has reached the disk, or could not.
    stored: Option<Outlet<ArrivalsStored>>,
    /// What waits for all records before a number. As many as checkpoints are on their way, and what is to be
    /// recorded meanwhile.
    waiting: VecDeque<(u64, Then)>,
    /// Whether somebody is at those that need not wait any more: whoever comes now is behind them.
    is_releasing: bool,
}

impl fmt::Debug for ArrivalLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArrivalLog").field("is_kept", &self.is_kept).finish_non_exhaustive()
    }
}

impl ArrivalLog {
    /// The steps that `store` holds. With `is_kept`, those that a checkpoint covers stay there, so that
    /// the run can be followed from its beginning. With `copies`, none of them counts as stored before it
    /// is wherever else it is to be.
    ///
    /// # Errors
    ///
    /// [`StoreError::Record`] when they cannot be read.
    pub fn open(
        store: &Store,
        is_kept: bool,
        copies: Option<LogOutlet>,
    ) -> Result<Self, StoreError> {
        let mut shared = Shared::default();
        for key in store.keys(ARRIVALS_TREE)? {
            let fail = |message: &str| store.record_error(ARRIVALS_TREE, &key, message);
            let number = number_of(&key).ok_or_else(|| fail("not a number"))?;
            if !shared.records.is_empty() && number != shared.next {
                return Err(fail(&format!("record {} is missing before it", shared.next)));
            }
            let record = store.get(ARRIVALS_TREE, &key)?.ok_or_else(|| fail("it is gone"))?;
            let arrived = wire::decode(&record).map_err(|error| fail(&error.to_string()))?;
            shared.records.push_back((number, arrived));
            shared.next = number + 1;
        }
        let number = shared.next;
        let shared = Arc::new(Mutex::new(shared));
        let log = Self { store: store.clone(), is_kept, copies, shared };
        match &log.copies {
            None => log.lock().durable = number,
            // Whoever keeps copies is there as long as the unit is; without it nobody waits.
            Some(copies) => drop(copies.send(LogCopy::Begin(log.stored_before(number, true)))),
        }
        Ok(log)
    }

    /// Writes into `to` every step of the run in `from`: a run there will follow them. Returns how many there
    /// are; none, if they were not kept from the beginning.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn copy(from: &Store, to: &Store) -> Result<usize, StoreError> {
        let log = Self::open(from, true, None)?;
        // What a checkpoint covered has been forgotten.
        if log.lock().records.front().is_some_and(|&(first, _)| first > 0) {
            return Ok(0);
        }
        let Arrived { steps, mut events } = log.arrived();
        for (number, steps) in (0u64..).zip(steps.chunks(COPIED_STEPS)) {
            let key = number.to_be_bytes().to_vec();
            // All of them come first: each is looked up by its number.
            let events = std::mem::take(&mut events);
            let arrived = Arrived { steps: steps.to_vec(), events };
            to.put_and_wait(ARRIVALS_TREE, key, wire::encode(&arrived))?;
        }
        Ok(steps.len())
    }

    /// Everything, in order.
    pub fn arrived(&self) -> Arrived {
        let shared = self.lock();
        let stored = shared.records.iter().map(|(_, arrived)| arrived);
        let all = || stored.clone().chain([&shared.pending]);
        Arrived {
            steps: all().flat_map(|arrived| &arrived.steps).copied().collect(),
            events: all().flat_map(|arrived| &arrived.events).cloned().collect(),
        }
    }

    /// Looks whether every step after `from` is here.
    ///
    /// # Errors
    ///
    /// [`ArrivalsMissing`].
    pub fn goes_on_from(&self, from: &Positions) -> Result<(), ArrivalsMissing> {
        let shared = self.lock();
        match shared.records.front() {
            Some((first, arrived))
                if *first > 0 && !arrived.steps.iter().all(|step| from.covers(step)) =>
            {
                Err(ArrivalsMissing { first: *first })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// From here on `stored` is told of each record that has reached the disk, or could not: also of
    /// one that an actor before this one had put on its way.
    pub fn tell(&self, stored: Outlet<ArrivalsStored>) {
        self.lock().stored = Some(stored);
    }

    /// Appends what was taken, and writes it unless a record is being written already.
    pub fn append(&self, arrived: Arrived) {
        let mut shared = self.lock();
        for step in arrived.steps {
            step.append_to(&mut shared.pending.steps);
        }
        shared.pending.events.extend(arrived.events);
        if shared.durable == shared.next {
            self.write(shared);
        }
    }

    /// Goes on writing, once a record has reached the disk.
    pub fn on_stored(&self) {
        self.append(Arrived::default());
    }

    /// Writes whatever is not being written, and returns what [`ArrivalLog::is_durable`] takes to tell
    /// whether all of it has reached the disk. With `is_awaited`, it waits for no other record.
    pub fn flush(&self, is_awaited: bool) -> u64 {
        self.write(self.lock());
        if is_awaited {
            self.store.hurry();
        }
        self.lock().next
    }

    /// Whether every record before `number` is on the disk.
    pub fn is_durable(&self, number: u64) -> bool {
        self.lock().durable >= number
    }

    /// Does `then` once everything that is written now is stored; never, if it cannot be.
    pub fn when_durable(&self, then: Then) {
        let shared = self.lock();
        let number = shared.next;
        self.when_before(number, shared, then);
    }

    /// The same, once all that was appended so far is, written or not.
    pub fn when_all_durable(&self, then: Then) {
        let shared = self.lock();
        let is_pending = !shared.pending.steps.is_empty() || !shared.pending.events.is_empty();
        let number = shared.next + u64::from(is_pending);
        self.when_before(number, shared, then);
    }

    /// One after the other, in the order in which they were asked for.
    fn when_before(&self, number: u64, mut shared: MutexGuard<'_, Shared>, then: Then) {
        shared.waiting.push_back((number, then));
        drop(shared);
        release(&self.shared);
    }

    /// Forgets the steps that a checkpoint covers, which has reached the disk, but for the last record.
    pub fn trim(&self, covered: &Positions) {
        let mut shared = self.lock();
        let mut keys = Vec::new();
        let is_covered = |steps: &[Taken]| steps.iter().all(|step| covered.covers(step));
        while shared.records.iter().take(2).filter(|(_, of)| is_covered(&of.steps)).count() == 2 {
            let record = shared.records.pop_front();
            keys.extend(record.map(|(number, _)| number.to_be_bytes().to_vec()));
        }
        drop(shared);
        if !self.is_kept && !keys.is_empty() {
            let oldest = keys.last().and_then(|key| number_of(key)).map_or(0, |last| last + 1);
            self.store.remove(ARRIVALS_TREE, keys);
            if let Some(copies) = &self.copies {
                // As above.
                let _ = copies.send(LogCopy::Trim(oldest));
            }
        }
    }

    /// Puts what is pending into a record.
    fn write(&self, mut shared: MutexGuard<'_, Shared>) {
        if shared.pending.steps.is_empty() {
            return;
        }
        let arrived = std::mem::take(&mut shared.pending);
        let number = shared.next;
        let record = wire::encode(&arrived);
        shared.records.push_back((number, arrived));
        shared.next += 1;
        // A store in memory calls back at once.
        drop(shared);
        let done = self.stored_before(number + 1, self.store.is_durable() || self.copies.is_some());
        append_to_log(&self.store, self.copies.as_ref(), ARRIVALS_TREE, number, record, done);
    }

    /// What is to be called when every record before `number` is stored, or cannot be. With `is_told`,
    /// whoever takes inputs hears of it.
    fn stored_before(&self, number: u64, is_told: bool) -> Done {
        let log = Arc::clone(&self.shared);
        Box::new(move |result: ArrivalsStored| {
            let mut shared = log.lock().unwrap_or_else(PoisonError::into_inner);
            if result.is_ok() {
                // They are written in order.
                shared.durable = shared.durable.max(number);
            }
            // Whoever asked before this was told that it is not durable, and is told now.
            let stored = shared.stored.clone();
            drop(shared);
            release(&log);
            if let Some(stored) = stored.filter(|_| is_told || result.is_err()) {
                // An actor that has ended looks when it starts again.
                drop(stored.send(result));
            }
        })
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets go of what need not wait any more.
fn release(shared: &Mutex<Shared>) {
    let lock = || shared.lock().unwrap_or_else(PoisonError::into_inner);
    let mut locked = lock();
    if std::mem::replace(&mut locked.is_releasing, true) {
        return;
    }
    loop {
        let durable = locked.durable;
        let Some((_, then)) = locked.waiting.pop_front_if(|(number, _)| *number <= durable) else {
            locked.is_releasing = false;
            return;
        };
        drop(locked);
        then();
        locked = lock();
    }
}

fn number_of(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use tickwright_core::domain::{Key, Timestamp};

    use super::super::store::{CommitPolicy, StoreOptions};
    use super::*;

    fn step(input: u16, sequence: u64) -> Taken {
        let now = Timestamp::from_nanos(sequence);
        Taken { input, through: Key::of(sequence, input, sequence), now }
    }

    fn steps(steps: &[Taken]) -> Arrived {
        Arrived { steps: steps.to_vec(), events: Vec::new() }
    }

    fn covered(sequences: [u64; 2]) -> Positions {
        let ticks = (0u16..).zip(sequences).map(|(input, at)| Key::of(at, input, at)).collect();
        Positions { ticks, ..Positions::default() }
    }

    #[test]
    fn steps_come_back_in_order_and_what_is_covered_does_not() {
        let store = Store::in_memory();
        let log = ArrivalLog::open(&store, false, None).unwrap();
        log.append(steps(&[step(0, 1), step(1, 2)]));
        log.append(steps(&[step(1, 4)]));
        log.append(steps(&[step(0, 5), step(1, 6)]));
        let all = [step(0, 1), step(1, 2), step(1, 4), step(0, 5), step(1, 6)];
        assert_eq!(log.arrived().steps, all);
        assert_eq!(ArrivalLog::open(&store, false, None).unwrap().arrived().steps, all);
        log.trim(&covered([5, 4]));
        assert_eq!(ArrivalLog::open(&store, false, None).unwrap().arrived().steps, all[2..]);
        // Numbers go on.
        log.append(steps(&[step(0, 7)]));
        let reopened = ArrivalLog::open(&store, false, None).unwrap();
        assert_eq!(reopened.arrived().steps, [step(1, 4), step(0, 5), step(1, 6), step(0, 7)]);
        log.trim(&covered([7, 6]));
        let reopened = ArrivalLog::open(&store, false, None).unwrap();
        assert_eq!(reopened.arrived().steps, [step(0, 7)], "one record stays");
        reopened.append(steps(&[step(1, 8)]));
        assert_eq!(reopened.lock().records.back().unwrap().0, 4, "also now numbers go on");
    }

    #[tokio::test]
    async fn what_waits_for_all_waits_for_steps_that_are_in_no_record_yet() {
        let (copies, mut copied) = Outlet::to_channel();
        let log = ArrivalLog::open(&Store::in_memory(), false, Some(copies)).unwrap();
        let Ok(LogCopy::Begin(begun)) = copied.try_recv() else { panic!("it begins") };
        begun(Ok(()));
        let mut appended = || {
            let mut sent = std::iter::from_fn(|| copied.try_recv().ok());
            let done = sent.find_map(|copy| match copy {
                LogCopy::Append { done, .. } => Some(done),
                LogCopy::Begin(_) | LogCopy::Written(_) | LogCopy::Trim(_) => None,
            });
            done.expect("it is appended")
        };
        log.append(steps(&[step(0, 1)]));
        let done = appended();
        log.append(steps(&[step(0, 2)]));
        let (told, mut tellings) = Outlet::to_channel();
        let (first, second) = (told.clone(), told);
        log.when_all_durable(Box::new(move || drop(first.send(1))));
        // What is asked for later comes later, though it waits for less.
        log.when_durable(Box::new(move || drop(second.send(2))));
        done(Ok(()));
        assert!(tellings.try_recv().is_err(), "the second step is in no record yet");
        log.on_stored();
        appended()(Ok(()));
        assert_eq!((tellings.try_recv(), tellings.try_recv()), (Ok(1), Ok(2)));
    }

    #[tokio::test]
    async fn what_waits_for_a_record_is_done_once_it_is_stored_everywhere() {
        let (copies, mut copied) = Outlet::to_channel();
        let log = ArrivalLog::open(&Store::in_memory(), false, Some(copies)).unwrap();
        let Ok(LogCopy::Begin(begun)) = copied.try_recv() else { panic!("it begins") };
        begun(Ok(()));
        let (told, mut tellings) = Outlet::to_channel();
        let when_durable = |number: u8| {
            let told = told.clone();
            log.when_durable(Box::new(move || drop(told.send(number))));
        };
        when_durable(1);
        assert_eq!(tellings.try_recv(), Ok(1), "nothing is on its way");
        log.append(steps(&[step(0, 1)]));
        when_durable(2);
        assert!(tellings.try_recv().is_err());
        let Ok(LogCopy::Append { done, .. }) = copied.try_recv() else { panic!("it is appended") };
        done(Ok(()));
        assert_eq!(tellings.try_recv(), Ok(2));
    }

    /// Or exec would take what follows in another order than its brokers have seen.
    #[test]
    fn an_older_checkpoint_than_the_log_was_forgotten_for_is_noticed() {
        let log = ArrivalLog::open(&Store::in_memory(), false, None).unwrap();
        let nowhere = Positions::default();
        assert_eq!(log.goes_on_from(&nowhere), Ok(()));
        for sequence in 1..=3 {
            log.append(steps(&[step(0, sequence)]));
        }
        assert_eq!(log.goes_on_from(&nowhere), Ok(()));
        log.trim(&covered([2, 0]));
        assert_eq!(log.goes_on_from(&covered([2, 0])), Ok(()));
        assert_eq!(log.goes_on_from(&covered([3, 9])), Ok(()));
        assert_eq!(log.goes_on_from(&covered([1, 9])), Err(ArrivalsMissing { first: 1 }));
        assert_eq!(log.goes_on_from(&nowhere), Err(ArrivalsMissing { first: 1 }));
    }

    #[test]
    fn what_is_kept_is_there_for_another_run() {
        let (store, other) = (Store::in_memory(), Store::in_memory());
        let log = ArrivalLog::open(&store, true, None).unwrap();
        log.append(steps(&[step(0, 1)]));
        log.append(steps(&[step(1, 2)]));
        log.trim(&covered([9, 9]));
        assert_eq!(log.arrived().steps, [step(1, 2)], "memory is bounded all the same");
        assert_eq!(ArrivalLog::copy(&store, &other).unwrap(), 2);
        let steps = ArrivalLog::open(&other, false, None).unwrap().arrived().steps;
        assert_eq!(steps, [step(0, 1), step(1, 2)]);
    }

    #[test]
    fn a_missing_record_is_an_error_that_says_so() {
        let store = Store::in_memory();
        let log = ArrivalLog::open(&store, false, None).unwrap();
        for sequence in 1..=3 {
            log.append(steps(&[step(0, sequence)]));
        }
        store.remove(ARRIVALS_TREE, vec![1u64.to_be_bytes().to_vec()]);
        let error = ArrivalLog::open(&store, false, None).unwrap_err().to_string();
        assert!(error.contains("record 1 is missing"), "{error}");
    }

    #[test]
    fn what_comes_while_a_record_is_written_shares_the_next_one() {
        let directory = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(directory.path(), StoreOptions::default()).unwrap();
        let log = ArrivalLog::open(&store, false, None).unwrap();
        let (stored, mut told) = Outlet::to_channel();
        log.tell(stored);
        for sequence in 0..200 {
            log.append(steps(&[step(u16::from(sequence % 2 == 0), sequence)]));
        }
        let number = log.flush(true);
        assert!(number < 200, "{number} records");
        let deadline = Instant::now() + Duration::from_secs(20);
        while !log.is_durable(number) {
            assert!(Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(1));
        }
        let mut count = 0;
        while count < number {
            // The last one may still be on its way here.
            match told.try_recv() {
                Ok(result) => result.unwrap(),
                Err(_) => {
                    assert!(Instant::now() < deadline, "told of {count} of {number}");
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                }
            }
            count += 1;
        }
        assert_eq!(ArrivalLog::open(&store, false, None).unwrap().arrived().steps.len(), 200);
    }

    /// Or a successor would wait for ever for what its predecessor wrote.
    #[test]
    fn a_successor_is_told_of_what_its_predecessor_put_on_its_way() {
        let directory = tempfile::tempdir().unwrap();
        let commit = CommitPolicy { records_max: 64, wait: Duration::from_secs(3_600) };
        let options = StoreOptions { commit, ..StoreOptions::default() };
        let (store, _) = Store::open(directory.path(), options).unwrap();
        let log = ArrivalLog::open(&store, false, None).unwrap();
        let (predecessor, gone) = Outlet::to_channel();
        log.tell(predecessor);
        log.append(steps(&[step(0, 1)]));
        drop(gone);
        let (successor, mut told) = Outlet::to_channel();
        log.tell(successor);
        assert!(!log.is_durable(1));
        assert_eq!(log.flush(true), 1, "nothing more is pending");
        let deadline = Instant::now() + Duration::from_secs(20);
        while told.try_recv().is_err() {
            assert!(Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(log.is_durable(1));
    }
}
