//! Which connection has to go when too many have not proved who they are.
//!
//! A client that says nothing costs a socket and a task until its deadline. Refusing the newest
//! would let a few hundred silent clients keep every node out, so the one that has been silent
//! longest goes instead.
//!
//! # Invariants
//!
//! 1. There are never more than `max` unproven connections.
//! 2. The newest is never the one that is dropped.

use std::collections::BTreeMap;

use crate::domain::Timestamp;

/// Connections that have been accepted and not proved themselves.
#[derive(Debug)]
pub struct Admission {
    max: usize,
    next: u64,
    /// When each was last heard. At most `max`.
    heard: BTreeMap<u64, Timestamp>,
}

impl Admission {
    /// At most `max` unproven connections at once; at least 1.
    pub fn new(max: usize) -> Self {
        Self { max: max.max(1), next: 0, heard: BTreeMap::new() }
    }

    /// A connection was accepted. Returns its number, and the one to drop for it.
    pub fn on_accepted(&mut self, now: Timestamp) -> (u64, Option<u64>) {
        let dropped = (self.heard.len() >= self.max)
            .then(|| self.heard.iter().min_by_key(|&(&number, &at)| (at, number)))
            .flatten()
            .map(|(&number, _)| number);
        if let Some(dropped) = dropped {
            self.heard.remove(&dropped);
        }
        let number = self.next;
        self.next += 1;
        self.heard.insert(number, now);
        (number, dropped)
    }

    /// A connection that is not proven yet said something.
    pub fn on_heard(&mut self, number: u64, now: Timestamp) {
        if let Some(at) = self.heard.get_mut(&number) {
            *at = now;
        }
    }

    /// A connection has proved itself, or is gone.
    pub fn on_settled(&mut self, number: u64) {
        self.heard.remove(&number);
    }

    /// Unproven connections.
    pub fn count(&self) -> usize {
        self.heard.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(nanos: u64) -> Timestamp {
        Timestamp::from_nanos(nanos)
    }

    #[test]
    fn the_longest_silent_goes_for_the_newest() {
        let mut admission = Admission::new(3);
        for number in 0..3 {
            assert_eq!(admission.on_accepted(at(number)), (number, None));
        }
        admission.on_heard(0, at(10));
        assert_eq!(admission.on_accepted(at(11)), (3, Some(1)));
        admission.on_settled(2);
        assert_eq!(admission.on_accepted(at(12)), (4, None), "one has proved itself");
        assert_eq!(admission.on_accepted(at(13)), (5, Some(0)));
    }

    proptest! {
        #[test]
        fn never_too_many_and_never_the_newest(
            max in 1usize..10,
            steps in proptest::collection::vec((0u8..3, 0u64..50), 0..300),
        ) {
            let mut admission = Admission::new(max);
            for (time, (what, number)) in steps.into_iter().enumerate() {
                let now = at(time as u64);
                match what {
                    0 => {
                        let (newest, dropped) = admission.on_accepted(now);
                        prop_assert!(dropped.is_none_or(|dropped| dropped < newest));
                    }
                    1 => admission.on_heard(number, now),
                    _ => admission.on_settled(number),
                }
                prop_assert!(admission.count() <= max);
            }
        }
    }
}
