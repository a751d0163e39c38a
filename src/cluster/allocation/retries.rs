//! How often a unit is begun again on a node where its supervisors gave it up, before another node is to
//! have it.

use std::collections::BTreeMap;

use super::Unit;
use crate::domain::{Backoff, Span, Timestamp};

/// What is to become of a unit that was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Begin it here again.
    Again {
        /// After so long.
        after: Span,
        /// Which attempt that is, from 1.
        attempt: u32,
    },
    /// Leave it to others.
    Not,
}

/// One node's memory of what was given up here. One entry per unit.
#[derive(Debug)]
pub struct Retries {
    attempts_max: u32,
    backoff: Backoff,
    /// A unit that has run for so long since it was begun last gets on: what was before is forgiven.
    well: Span,
    failed: BTreeMap<Unit, u32>,
    begun: BTreeMap<Unit, Timestamp>,
}

impl Retries {
    /// No unit has been given up. Each may be begun again `attempts_max` times, with growing pauses.
    pub fn new(attempts_max: u32, backoff: Backoff, well: Span) -> Self {
        Self { attempts_max, backoff, well, failed: BTreeMap::new(), begun: BTreeMap::new() }
    }

    /// `unit` begins here.
    pub fn on_begun(&mut self, unit: Unit, now: Timestamp) {
        self.begun.insert(unit, now);
    }

    /// `unit` is not this node's any more.
    pub fn on_lost(&mut self, unit: Unit) {
        self.failed.remove(&unit);
        self.begun.remove(&unit);
    }

    /// `unit` was given up here, or could not begin.
    pub fn on_failed(&mut self, unit: Unit, now: Timestamp) -> Retry {
        let begun = self.begun.remove(&unit);
        let was_well = begun.is_some_and(|begun| now.since(begun) >= self.well);
        let failed = self.failed.entry(unit).or_default();
        if was_well {
            *failed = 0;
        }
        if *failed >= self.attempts_max {
            return Retry::Not;
        }
        let after = self.backoff.delay(*failed);
        *failed += 1;
        Retry::Again { after, attempt: *failed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: Span = Span::from_secs(60);
    const SHARD: Unit = Unit::Shard(3);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
    }

    fn again(seconds: u64, attempt: u32) -> Retry {
        Retry::Again { after: Span::from_secs(seconds), attempt }
    }

    fn retries(attempts_max: u32) -> Retries {
        let backoff = Backoff { first: Span::from_secs(1), max: Span::from_secs(8) };
        Retries::new(attempts_max, backoff, WELL)
    }

    #[test]
    fn a_unit_is_begun_again_so_often_and_not_once_more() {
        let mut retries = retries(2);
        retries.on_begun(SHARD, at(0));
        assert_eq!(retries.on_failed(SHARD, at(1)), again(1, 1));
        retries.on_begun(SHARD, at(2));
        assert_eq!(retries.on_failed(SHARD, at(3)), again(2, 2));
        assert_eq!(retries.on_failed(Unit::Exec, at(3)), again(1, 1), "each by itself");
        retries.on_begun(SHARD, at(5));
        assert_eq!(retries.on_failed(SHARD, at(6)), Retry::Not);
        assert_eq!(retries.on_failed(SHARD, at(6)), Retry::Not, "it stays so");
        retries.on_lost(SHARD);
        assert_eq!(retries.on_failed(SHARD, at(7)), again(1, 1), "another allocation");
    }

    #[test]
    fn a_unit_that_ran_well_is_forgiven() {
        let mut retries = retries(1);
        retries.on_begun(SHARD, at(0));
        assert_eq!(retries.on_failed(SHARD, at(60)), again(1, 1));
        retries.on_begun(SHARD, at(61));
        assert_eq!(retries.on_failed(SHARD, at(121)), again(1, 1));
        retries.on_begun(SHARD, at(122));
        assert_eq!(retries.on_failed(SHARD, at(181)), Retry::Not, "a second short of it");
    }

    #[test]
    fn none_at_all_may_be_wanted() {
        assert_eq!(retries(0).on_failed(SHARD, at(0)), Retry::Not);
    }
}
