//! What a search has found, so that it survives the process.
//!
//! | Tree     | Key                                 | Value                        |
//! |----------|-------------------------------------|------------------------------|
//! | `runs`   | hash of the search, author, place   | a finished trial             |
//! | `best`   | hash of strategy, data and terms    | the best of all searches     |
//! | `run`    | `search`                            | the version that began it    |
//! | `run`    | `spent`, hash of the search         | ms that it has taken so far  |
//!
//! A *search* is its strategy, data, terms, space, kind and seed: another one over the same data begins
//! with no trials, but with the best. An *author* is a life of a node: what other nodes ran is kept as well.

use std::path::Path;
use std::time::Duration;

use tickwright_core::optimise::BestSet;
use tickwright_core::optimise::hub::{Author, Entry};

use crate::kit::{Done, Opened, Store, StoreError, StoreOptions, wire};

const RUNS: &str = "runs";
const BEST: &str = "best";
const RUN: &str = "run";
const BEGUN: &[u8] = b"search";
const SPENT: &[u8] = b"spent";

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
        // Each result stands by itself.
        let options = StoreOptions { keeps_prefix: true, ..StoreOptions::default() };
        let (store, opened) = Store::open(directory, options)?;
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

    /// One in `store`.
    #[cfg(test)]
    pub(super) const fn of(store: Store, search: [u8; 32], family: [u8; 32]) -> Self {
        Self { store, search, family }
    }

    fn key(&self, author: &Author, place: u64) -> Vec<u8> {
        let Author { node, life } = author;
        // No name of a node holds a zero.
        let (search, node) = (&self.search[..], node.as_bytes());
        [search, node, &[0], &life.to_be_bytes(), &place.to_be_bytes()].concat()
    }

    /// Writes down what was tried here; `done` once it is on the disk.
    pub(super) fn put(&self, entry: &Entry, done: Done) {
        let key = self.key(&entry.author, entry.place);
        self.store.put(RUNS, key, wire::encode(entry), done);
    }

    /// Writes down what was tried elsewhere, some time soon: whoever ran it has it.
    pub(super) fn keep(&self, entries: &[Entry]) {
        for entry in entries {
            let done = |result: Result<(), StoreError>| {
                if let Err(error) = result {
                    tracing::warn!(%error, "a trial of another node is not written down");
                }
            };
            self.put(entry, Box::new(done));
        }
    }

    /// Waits until everything that was put before is on the disk.
    pub(super) fn settle(&self) -> Result<(), StoreError> {
        self.store.settle()
    }

    /// Everything of this search, each author's in its order.
    pub(super) fn entries(&self) -> Result<Vec<Entry>, StoreError> {
        let mut found = Vec::new();
        let mut from = self.search.to_vec();
        while let Some((key, value)) = self.store.next(RUNS, &from)? {
            if !key.starts_with(&self.search) {
                break;
            }
            let entry = wire::decode(&value);
            found.push(
                entry.map_err(|error| self.store.record_error(RUNS, &key, &error.to_string()))?,
            );
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

    /// How long this search has taken in runs that did not come to an end.
    pub(super) fn spent(&self) -> Result<Duration, StoreError> {
        let key = [SPENT, &self.search].concat();
        let Some(value) = self.store.get(RUN, &key)? else { return Ok(Duration::ZERO) };
        let decoded = wire::decode(&value).map(Duration::from_millis);
        decoded.map_err(|error| self.store.record_error(RUN, &key, &error.to_string()))
    }

    /// Writes down how long it has taken, some time soon.
    pub(super) fn put_spent_soon(&self, spent: Duration) {
        let done = |result: Result<(), StoreError>| {
            if let Err(error) = result {
                tracing::warn!(%error, "how long the search has taken is not written down");
            }
        };
        let spent = u64::try_from(spent.as_millis()).unwrap_or(u64::MAX);
        let key = [SPENT, &self.search].concat();
        self.store.put(RUN, key, wire::encode(&spent), Box::new(done));
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
    use tickwright_core::optimise::hub::Finished;

    use super::*;

    fn entry(node: &str, place: u64) -> Entry {
        let author = Author { node: node.into(), life: 1 };
        let (number, parameters) = (place * 2, vec![("a".into(), place as f64)]);
        Entry { author, place, finished: Finished { number, parameters, trial: None } }
    }

    #[test]
    fn trials_of_one_search_come_back_in_order_and_no_others() {
        let directory = tempfile::tempdir().unwrap();
        let ours = SearchJournal::open(directory.path(), [1; 32], [9; 32]).unwrap().0;
        let other = SearchJournal { search: [2; 32], ..ours.clone() };
        let (sender, stored) = crossbeam::channel::bounded(300);
        let expected: Vec<Entry> = (0..257).map(|place| entry("b", place)).collect();
        for entry in expected.iter().rev() {
            let sender = sender.clone();
            ours.put(entry, Box::new(move |result| drop(sender.send(result))));
        }
        ours.keep(&[entry("a", 0)]);
        other.put(&entry("a", 5), Box::new(|_| ()));
        for _ in 0..257 {
            stored.recv_timeout(std::time::Duration::from_secs(20)).unwrap().unwrap();
        }
        let expected: Vec<Entry> = [vec![entry("a", 0)], expected].concat();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while ours.entries().unwrap() != expected {
            assert!(std::time::Instant::now() < deadline, "{:?}", ours.entries());
            std::thread::yield_now();
        }
        assert_eq!(ours.best().unwrap(), None);
        ours.put_best(&BestSet::new(3)).unwrap();
        assert_eq!(other.best().unwrap(), Some(BestSet::new(3)));
        // Another process finds it as it was; the first one has let go of it.
        drop((ours, other));
        let (again, opened) = loop {
            match SearchJournal::open(directory.path(), [1; 32], [9; 32]) {
                Err(StoreError::InUse(_)) if std::time::Instant::now() < deadline => {
                    std::thread::yield_now();
                }
                opened => break opened.unwrap(),
            }
        };
        assert_eq!((opened, again.entries().unwrap()), (Opened::Sound, expected));
    }
}
