//! Values that may change while actors run, and who goes by which.
//!
//! ```text
//! ConfigSyncManager ── set ──▶ LiveValues ──▶ LiveNumber of each actor that goes by the key
//!                                  ▲               │ get, between two pieces of work
//!                                  └── applied ────┘ which value it has taken over
//! ```
//!
//! An actor holds a [`LiveNumber`] and asks it where it would else have asked its settings. That costs one
//! load of a number while nothing changes; when something has, the actor has acknowledged it by asking.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tickwright_core::config::{Config, live_keys};
use tokio::sync::watch;

/// Actors of which it is kept what they go by, for each key; beyond it the first by name are.
const READERS_MAX: usize = 1_024;

/// Every value of one node. Clones share them.
#[derive(Clone, Debug)]
pub struct LiveValues {
    slots: Arc<BTreeMap<&'static str, Arc<Slot>>>,
    applied: Arc<watch::Sender<u64>>,
}

#[derive(Debug)]
struct Slot {
    /// What the node's own configuration says.
    own: u64,
    /// Changes with the value, under its lock.
    version: AtomicU64,
    current: Mutex<u64>,
    /// Whether what is set is set for this node, or its environment, in particular.
    is_particular: AtomicBool,
    /// Which version each actor has taken over. At most [`READERS_MAX`].
    applied: Mutex<BTreeMap<String, u64>>,
}

/// How one value stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LiveStanding {
    /// Which key.
    pub key: &'static str,
    /// What counts now.
    pub value: u64,
    /// Grows with every change, from 1.
    pub version: u64,
    /// Whether it is set for this node, or its environment, in particular: what is set for all has no effect here.
    pub is_particular: bool,
    /// Which version each actor goes by.
    pub applied: BTreeMap<String, u64>,
}

impl LiveStanding {
    /// Whether all actors that go by this key have taken the present value over.
    pub fn is_applied(&self) -> bool {
        self.applied.values().all(|&version| version == self.version)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LiveValues {
    /// What `config` says, until something else is set.
    pub fn new(config: &Config) -> Self {
        let slot = |key: &'static str| {
            let own = config.count(key).unwrap_or(0);
            let (version, current) = (AtomicU64::new(1), Mutex::new(own));
            let (is_particular, applied) = (AtomicBool::new(false), Mutex::default());
            (key, Arc::new(Slot { own, version, current, is_particular, applied }))
        };
        let slots = live_keys().map(|spec| slot(spec.path)).collect();
        Self { slots: Arc::new(slots), applied: Arc::new(watch::channel(0).0) }
    }

    /// From now on `value` counts for `key`; without one, what the node's own configuration says. Says
    /// whether that is another than before.
    pub fn set(&self, key: &str, value: Option<u64>) -> bool {
        let Some(slot) = self.slots.get(key) else { return false };
        let value = value.unwrap_or(slot.own);
        let mut current = lock(&slot.current);
        let is_new = *current != value;
        if is_new {
            *current = value;
            slot.version.fetch_add(1, Ordering::Release);
        }
        is_new
    }

    /// What is set for `key` is set for this node, or its environment, in particular; or is not.
    pub fn set_particular(&self, key: &str, is_particular: bool) {
        if let Some(slot) = self.slots.get(key) {
            slot.is_particular.store(is_particular, Ordering::Relaxed);
        }
    }

    /// `key` for the actor `reader`, which goes by it from now on.
    ///
    /// # Panics
    ///
    /// When `key` is not marked live in the table of keys.
    pub fn number(&self, key: &str, reader: &str) -> LiveNumber {
        let slot = self.slots.get(key);
        let slot = Arc::clone(slot.unwrap_or_else(|| panic!("{key} is no live key")));
        let applied = Arc::clone(&self.applied);
        let mut number = LiveNumber { slot, applied, reader: reader.into(), version: 0, value: 0 };
        number.take_over();
        number
    }

    /// What the node's own configuration says.
    pub fn own(&self, key: &str) -> Option<u64> {
        self.slots.get(key).map(|slot| slot.own)
    }

    /// How every value stands.
    pub fn standing(&self) -> Vec<LiveStanding> {
        let of = |(&key, slot): (&&'static str, &Arc<Slot>)| {
            let value = *lock(&slot.current);
            let version = slot.version.load(Ordering::Acquire);
            let is_particular = slot.is_particular.load(Ordering::Relaxed);
            let applied = lock(&slot.applied).clone();
            LiveStanding { key, value, version, is_particular, applied }
        };
        self.slots.iter().map(of).collect()
    }

    /// Changes whenever an actor has taken a value over.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }
}

/// As the built-in configuration has it.
impl Default for LiveValues {
    fn default() -> Self {
        Self::new(&Config::default())
    }
}

/// One value, for one actor.
#[derive(Debug)]
pub struct LiveNumber {
    slot: Arc<Slot>,
    applied: Arc<watch::Sender<u64>>,
    reader: String,
    version: u64,
    value: u64,
}

impl LiveNumber {
    /// The present value, which the actor goes by from now on.
    pub fn get(&mut self) -> u64 {
        if self.slot.version.load(Ordering::Acquire) != self.version {
            self.take_over();
        }
        self.value
    }

    /// The same as a size.
    pub fn size(&mut self) -> usize {
        usize::try_from(self.get()).unwrap_or(usize::MAX)
    }

    fn take_over(&mut self) {
        {
            let current = lock(&self.slot.current);
            self.value = *current;
            self.version = self.slot.version.load(Ordering::Acquire);
        }
        {
            let mut applied = lock(&self.slot.applied);
            if applied.len() < READERS_MAX || applied.contains_key(&self.reader) {
                applied.insert(self.reader.clone(), self.version);
            }
        }
        self.applied.send_modify(|count| *count += 1);
    }
}

/// An actor that has ended goes by nothing; its successor, under the same name, does.
impl Drop for LiveNumber {
    fn drop(&mut self) {
        let mut applied = lock(&self.slot.applied);
        if applied.get(&self.reader) == Some(&self.version) {
            applied.remove(&self.reader);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "pipeline.batch_ticks";

    fn standing(values: &LiveValues) -> LiveStanding {
        values.standing().into_iter().find(|standing| standing.key == KEY).unwrap()
    }

    #[test]
    fn an_actor_takes_a_new_value_over_when_it_asks_and_that_is_seen() {
        let values = LiveValues::default();
        let mut number = values.number(KEY, "ingester/0");
        assert_eq!(number.get(), 256);
        assert!(standing(&values).is_applied());
        assert!(values.set(KEY, Some(16)));
        assert!(!values.set(KEY, Some(16)), "no change");
        assert!(!standing(&values).is_applied());
        assert_eq!(number.get(), 16);
        assert_eq!(standing(&values).applied["ingester/0"], 2);
        assert!(standing(&values).is_applied());
        values.set(KEY, None);
        assert_eq!(number.get(), 256, "what the configuration says");
    }

    #[test]
    fn an_actor_that_has_ended_is_waited_for_no_more_and_its_successor_is() {
        let values = LiveValues::default();
        let first = values.number(KEY, "ingester/0");
        values.set(KEY, Some(16));
        let second = values.number(KEY, "ingester/0");
        drop(first);
        assert_eq!(standing(&values).applied.len(), 1, "the successor is not forgotten with it");
        drop(second);
        assert!(standing(&values).is_applied());
        assert!(!values.set("pipeline.shards", Some(1)));
    }
}
