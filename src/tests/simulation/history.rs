//! Whether what users of the registers saw could have happened at one register of each name, each
//! operation at some moment between its question and its answer.
//!
//! Every write has a version of its own that only grows, so the order of writes is known and the
//! question needs no search (Gibbons and Korach, "Testing Shared Memories", 1997).

use std::collections::BTreeMap;

use crate::world::Broken;

/// Order slots are numbered from here; below are registers.
pub(crate) const SLOTS: u64 = 100;

/// One operation of a user.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) register: u64,
    /// The version that a write expected.
    pub(crate) expected: u64,
    /// What it wrote; none for a read.
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) asked: u64,
    /// None, if there never was an answer.
    pub(crate) answered: Option<u64>,
    pub(crate) saw: Saw,
}

#[derive(Clone, Debug)]
pub(crate) enum Saw {
    /// No answer: it may have been done.
    Nothing,
    Written(u64),
    /// The register was at this version, and a write was not done.
    Version(u64),
    Value(u64, Vec<u8>),
}

impl Entry {
    fn version(&self) -> Option<u64> {
        match self.saw {
            Saw::Nothing => None,
            Saw::Written(version) | Saw::Version(version) | Saw::Value(version, _) => Some(version),
        }
    }
}

/// Versions of slots follow each other, so every change that was seen is somebody's: one that was done, or
/// whose answer was lost. A change that was done and then called refused is nobody's.
fn check_slots(history: &[Entry]) -> Result<(), Broken> {
    let mut last: BTreeMap<u64, u64> = BTreeMap::new();
    for entry in history.iter().filter(|entry| entry.register >= SLOTS) {
        let seen = last.entry(entry.register).or_default();
        *seen = entry.version().unwrap_or(0).max(*seen);
    }
    for (register, last) in last {
        for version in 0..last {
            let is_it = |entry: &&Entry| {
                entry.register == register
                    && entry.expected == version
                    && matches!(entry.saw, Saw::Written(_) | Saw::Nothing)
            };
            if !history.iter().any(|entry| is_it(&entry)) {
                return Err(format!("(6) nobody brought slot {register} past version {version}"));
            }
        }
    }
    Ok(())
}

pub(crate) fn check(history: &[Entry]) -> Result<(), Broken> {
    // Of each value, who wrote it; of each version, which value it had.
    let mut values: BTreeMap<(u64, u64), &[u8]> = BTreeMap::new();
    let mut refused: BTreeMap<&[u8], &Entry> = BTreeMap::new();
    let mut replaced: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    for entry in history {
        match (&entry.saw, &entry.value) {
            (Saw::Written(version), Some(value)) => {
                if values.insert((entry.register, *version), value).is_some_and(|v| v != value) {
                    return Err(format!("(6) two writes have version {version}"));
                }
                let other = replaced.insert((entry.register, entry.expected), *version);
                if other.is_some() {
                    return Err(format!("(6) version {} was replaced twice", entry.expected));
                }
            }
            (Saw::Version(_), Some(value)) => drop(refused.insert(value, entry)),
            _ => {}
        }
    }
    for entry in history {
        let Saw::Value(version, value) = &entry.saw else { continue };
        let known = values.insert((entry.register, *version), value);
        if known.is_some_and(|known| known != value.as_slice()) {
            return Err(format!("(6) version {version} was read with two values"));
        }
        if let Some(refused) = refused.get(value.as_slice()) {
            return Err(format!("(6) what was refused was done: {refused:?}"));
        }
        let writer = history.iter().find(|of| of.value.as_ref() == Some(value));
        let Some(writer) = writer else { return Err("(6) nobody wrote what was read".into()) };
        if entry.answered.is_some_and(|answered| answered < writer.asked) {
            return Err(format!("(6) a value was read before it was written: {entry:?}"));
        }
    }
    check_slots(history)?;
    // What one saw before another asked, the other must have seen as well.
    let mut answered: Vec<&Entry> = history.iter().filter(|of| of.answered.is_some()).collect();
    answered.sort_by_key(|entry| entry.answered);
    for entry in history {
        let Some(seen) = entry.version() else { continue };
        let before = answered
            .iter()
            .take_while(|of| of.answered < Some(entry.asked))
            .filter(|of| of.register == entry.register)
            .filter_map(|of| of.version())
            .max();
        let is_new = matches!(entry.saw, Saw::Written(_));
        if before.is_some_and(|before| seen < before || (is_new && seen == before)) {
            return Err(format!(
                "(6) {entry:?} is older than what was answered before: {before:?}"
            ));
        }
    }
    Ok(())
}
