//! Whether what users of the registers saw could have happened at one register of each name, each
//! operation at some moment between its question and its answer.
//!
//! Every write has a version of its own that only grows, so the order of writes is known and the
//! question needs no search (Gibbons and Korach, "Testing Shared Memories", 1997).
//!
//! It names nothing of the simulation: histories of real nodes are checked by it as well.

use std::collections::BTreeMap;

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
    /// The version of the register at some moment between question and answer, as far as it is known.
    pub(crate) fn version(&self) -> Option<u64> {
        match self.saw {
            Saw::Nothing => None,
            Saw::Written(version) | Saw::Version(version) | Saw::Value(version, _) => Some(version),
        }
    }
}

/// Versions of slots follow each other, so every change that was seen is somebody's: one that was done, or
/// whose answer was lost. A change that was done and then called refused is nobody's.
fn check_slots(history: &[Entry]) -> Result<(), String> {
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

pub(crate) fn check(history: &[Entry]) -> Result<(), String> {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What a user asked and heard, when: a write of a value where a version was expected, or a read.
    fn entry(
        register: u64,
        (asked, answered): (u64, u64),
        write: Option<(u64, u8)>,
        saw: Saw,
    ) -> Entry {
        let (expected, value) = write.map_or((0, None), |(at, value)| (at, Some(vec![value])));
        // Who has heard nothing was not answered.
        let answered = (!matches!(saw, Saw::Nothing)).then_some(answered);
        Entry { register, expected, value, asked, answered, saw }
    }

    fn read(times: (u64, u64), version: u64, value: u8) -> Entry {
        entry(1, times, None, Saw::Value(version, vec![value]))
    }

    /// Two writes of which the second was never answered, a write that came too late, and a slot that was opened.
    fn right() -> Vec<Entry> {
        vec![
            entry(1, (1, 2), Some((0, 7)), Saw::Written(1)),
            entry(1, (3, 0), Some((1, 8)), Saw::Nothing),
            read((3, 5), 1, 7),
            read((6, 7), 2, 8),
            entry(1, (6, 9), Some((1, 9)), Saw::Version(2)),
            entry(SLOTS, (1, 4), Some((0, 1)), Saw::Written(1)),
        ]
    }

    #[test]
    fn what_could_have_happened_passes() {
        assert_eq!(check(&right()), Ok(()));
        // At the same time, either may have been first.
        let beside = [right(), vec![entry(1, (2, 3), None, Saw::Version(0))]].concat();
        assert_eq!(check(&beside), Ok(()));
    }

    #[test]
    fn what_could_not_have_happened_is_refused() {
        let late = "older than what was answered before";
        // Of a register of its own.
        let seen = entry(2, (1, 2), None, Saw::Version(1));
        let wrong = [
            (vec![entry(1, (3, 4), None, Saw::Version(0))], late),
            (vec![read((8, 9), 1, 7)], late),
            (vec![seen, entry(2, (3, 4), Some((0, 5)), Saw::Written(1))], late),
            (vec![entry(1, (3, 4), Some((0, 5)), Saw::Written(3))], "0 was replaced twice"),
            (vec![entry(1, (1, 2), Some((4, 5)), Saw::Written(1))], "two writes have version 1"),
            (vec![read((3, 5), 1, 8)], "version 1 was read with two values"),
            (vec![read((3, 5), 3, 4)], "nobody wrote what was read"),
            (vec![read((1, 2), 2, 8)], "a value was read before it was written"),
            (vec![read((10, 11), 3, 9)], "what was refused was done"),
            (
                vec![entry(SLOTS, (5, 6), Some((4, 1)), Saw::Version(2))],
                "nobody brought slot 100 past version 1",
            ),
        ];
        for (more, reason) in wrong {
            let broken = check(&[right(), more].concat());
            assert!(broken.as_ref().is_err_and(|broken| broken.contains(reason)), "{broken:?}");
        }
    }
}
