//! What a search has found, so that it survives the process.
//!
//! | Tree     | Key                              | Value                        |
//! |----------|----------------------------------|------------------------------|
//! | `trials` | hash of the search, trial number | a finished trial             |
//! | `best`   | hash of strategy, data and terms | the best of all searches     |
//! | `run`    | `search`                         | the version that began it    |
//!
//! A *search* is its strategy, data, terms, space, kind and seed: another one over the same data begins
//! with no trials, but with the best.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tickwright_core::optimise::{BestSet, Trial};

use crate::kit::{Done, Opened, Store, StoreError, StoreOptions, wire};

const TRIALS: &str = "trials";
const BEST: &str = "best";
const RUN: &str = "run";
const BEGUN: &[u8] = b"search";

/// A trial on the disk.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    /// None: it was given up, and counts as the worst.
    trial: Option<Trial>,
    parameters: Vec<(String, f64)>,
}

/// A finished trial as it was found.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Finished {
    pub number: u64,
    pub parameters: Vec<(String, f64)>,
    /// None: it was given up.
    pub trial: Option<Trial>,
}

/// The records of one search.
#[derive(Clone, Debug)]
pub(super) struct SearchJournal {
    store: Store,
    search: [u8; 32],
    family: [u8; 32],
}

impl SearchJournal {
    /// The journal in `directory`; says where a damaged one was put.
    pub(super) fn open(
        directory: &Path,
        search: [u8; 32],
        family: [u8; 32],
    ) -> Result<(Self, Opened), StoreError> {
        let (store, opened) = Store::open(directory, StoreOptions::default())?;
        // A directory that was begun and holds no run is taken for a damaged one.
        if store.get(RUN, BEGUN)?.is_none() {
            store.put_and_wait(RUN, BEGUN.to_vec(), wire::encode(&env!("CARGO_PKG_VERSION")))?;
            store.mark_begun()?;
        }
        Ok((Self { store, search, family }, opened))
    }

    /// One in memory.
    pub(super) fn in_memory(search: [u8; 32], family: [u8; 32]) -> Self {
        Self { store: Store::in_memory(), search, family }
    }

    fn key(&self, number: u64) -> Vec<u8> {
        [&self.search[..], &number.to_be_bytes()].concat()
    }

    /// Writes a trial down; `done` once it is on the disk.
    pub(super) fn put(&self, finished: &Finished, done: Done) {
        let record =
            Record { trial: finished.trial.clone(), parameters: finished.parameters.clone() };
        self.store.put(TRIALS, self.key(finished.number), wire::encode(&record), done);
    }

    /// Every trial of this search, in the order of the numbers.
    pub(super) fn trials(&self) -> Result<Vec<Finished>, StoreError> {
        let mut found = Vec::new();
        let mut from = self.key(0);
        while let Some((key, value)) = self.store.next(TRIALS, &from)? {
            let Some(number) = key.strip_prefix(&self.search[..]) else { break };
            let wrong = |message: &str| self.store.record_error(TRIALS, &key, message);
            let number = number.try_into().map_err(|_| wrong("its key is not one of ours"))?;
            let number = u64::from_be_bytes(number);
            let record: Record = wire::decode(&value).map_err(|error| wrong(&error.to_string()))?;
            let Record { trial, parameters } = record;
            found.push(Finished { number, parameters, trial });
            from = [&key[..], &[0]].concat();
        }
        Ok(found)
    }

    /// The best that was found by any search of this strategy, data and terms.
    pub(super) fn best(&self) -> Result<Option<BestSet>, StoreError> {
        let Some(value) = self.store.get(BEST, &self.family)? else { return Ok(None) };
        let decoded = wire::decode(&value);
        decoded
            .map(Some)
            .map_err(|error| self.store.record_error(BEST, &self.family, &error.to_string()))
    }

    /// Writes the best down some time soon.
    pub(super) fn put_best_soon(&self, best: &BestSet) {
        let done = |result: Result<(), StoreError>| {
            if let Err(error) = result {
                tracing::warn!(%error, "the best is not written down");
            }
        };
        self.store.put(BEST, self.family.to_vec(), wire::encode(best), Box::new(done));
    }

    /// Writes the best down, and waits until it is on the disk.
    pub(super) fn put_best(&self, best: &BestSet) -> Result<(), StoreError> {
        self.store.put_and_wait(BEST, self.family.to_vec(), wire::encode(best))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(number: u64) -> Finished {
        Finished { number, parameters: vec![("a".into(), number as f64)], trial: None }
    }

    #[test]
    fn trials_of_one_search_come_back_in_order_and_no_others() {
        let directory = tempfile::tempdir().unwrap();
        let ours = SearchJournal::open(directory.path(), [1; 32], [9; 32]).unwrap().0;
        let other = SearchJournal { search: [2; 32], ..ours.clone() };
        let (sender, stored) = crossbeam::channel::bounded(300);
        for number in (0..257).rev() {
            let sender = sender.clone();
            ours.put(&finished(number), Box::new(move |result| drop(sender.send(result))));
        }
        other.put(&finished(5), Box::new(|_| ()));
        for _ in 0..257 {
            stored.recv_timeout(std::time::Duration::from_secs(20)).unwrap().unwrap();
        }
        let expected: Vec<Finished> = (0..257).map(finished).collect();
        assert_eq!(ours.trials().unwrap(), expected);
        assert_eq!(ours.best().unwrap(), None);
        ours.put_best(&BestSet::new(3)).unwrap();
        assert_eq!(other.best().unwrap(), Some(BestSet::new(3)));
        // Another process finds it as it was; the first one has let go of it.
        drop((ours, other));
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        let (again, opened) = loop {
            match SearchJournal::open(directory.path(), [1; 32], [9; 32]) {
                Err(StoreError::InUse(_)) if std::time::Instant::now() < deadline => {
                    std::thread::yield_now();
                }
                opened => break opened.unwrap(),
            }
        };
        assert_eq!((opened, again.trials().unwrap()), (Opened::Sound, expected));
    }
}
