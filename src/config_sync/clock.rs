//! A clock that cannot run away, and goes back only where it had: a hybrid logical clock that is held in at the
//! origin.
//!
//! Kulkarni, Demirbas, Madappa, Avva, Leone: "Logical Physical Clocks", 2014. Departing from it, a time
//! that is heard moves this clock by no more than [`SKEW_MAX`] past what the nodes together take for the
//! present, and so does this node's own clock: one that is a year ahead must not win every conflict for
//! a year. What nodes together take for the present is the lower median of their clocks, so of two that
//! disagree the one behind is believed: a clock that is behind loses conflicts, and that is all.
//!
//! A node that has heard nobody yet has only its own clock to go by. What it stamps until then keeps its
//! stamp, but the clock goes back to the present as soon as that is known. Other clocks are kept against
//! one that only goes on, so that a step of this node's own moves nothing but its own vote.
//!
//! Times only decide between writes that did not know of each other. What came later in fact, because its
//! writer had seen the other, wins by its version vector and not by any clock.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Moment;
use crate::domain::{NodeId, Span, Timestamp};

/// How far a stamp may be ahead of what the nodes together take for the present.
pub const SKEW_MAX: Span = Span::from_secs(10);

/// Clocks of other nodes that are kept; the rest are not listened to.
const CLOCKS_MAX: usize = 64;

/// A time by a hybrid clock.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct HybridTime {
    /// By the clock on the wall.
    pub wall: Timestamp,
    /// Among those of one wall time, which.
    pub logical: u32,
}

/// The clock of one node.
#[derive(Clone, Debug, Default)]
pub struct HybridClock {
    last: HybridTime,
    /// How far other clocks were, as last heard, from the one here that only goes on; in nanoseconds.
    offsets: BTreeMap<NodeId, i64>,
}

impl HybridClock {
    /// A stamp at the moment `at`: later than every one before, but for those that were too far ahead.
    pub fn stamp(&mut self, at: Moment) -> HybridTime {
        let latest = self.latest(at);
        // What was stamped before the other clocks were known must not pull along what comes after.
        if self.last.wall > latest {
            self.last = HybridTime::default();
        }
        let wall = at.wall.min(latest);
        self.last = if wall > self.last.wall {
            HybridTime { wall, logical: 0 }
        } else {
            let HybridTime { wall, logical } = self.last;
            match logical.checked_add(1) {
                Some(logical) => HybridTime { wall, logical },
                None => HybridTime { wall: wall.after(Span::from_nanos(1)), logical: 0 },
            }
        };
        self.last
    }

    /// A stamp of another node was seen: those to come are later, unless it is further ahead than makes
    /// sense.
    pub fn on_stamp(&mut self, stamp: HybridTime, at: Moment) {
        if stamp.wall <= self.latest(at) {
            self.last = self.last.max(stamp);
        }
    }

    /// What the clock on another node's wall said when it last sent, just now.
    pub fn on_clock(&mut self, node: &NodeId, theirs: Timestamp, at: Moment) {
        if self.offsets.len() < CLOCKS_MAX || self.offsets.contains_key(node) {
            self.offsets.insert(node.clone(), offset(theirs, at.now));
        }
    }

    /// Only the clocks of `known` count from now on.
    pub fn keep(&mut self, known: impl Fn(&NodeId) -> bool) {
        self.offsets.retain(|node, _| known(node));
    }

    /// How far this node's clock is ahead of what the nodes together take for the present, beyond what is
    /// let pass.
    pub fn ahead(&self, at: Moment) -> Span {
        at.wall.since(self.latest(at))
    }

    /// The latest wall time that a stamp may have now.
    fn latest(&self, at: Moment) -> Timestamp {
        let own = offset(at.wall, at.now);
        let mut offsets: Vec<i64> = self.offsets.values().copied().chain([own]).collect();
        offsets.sort_unstable();
        let median = offsets[(offsets.len() - 1) / 2];
        let present = if median < 0 {
            Timestamp::from_nanos(at.now.as_nanos().saturating_sub(median.unsigned_abs()))
        } else {
            Timestamp::from_nanos(at.now.as_nanos().saturating_add(median.unsigned_abs()))
        };
        present.after(SKEW_MAX)
    }
}

/// Nanoseconds from `from` to `to`.
fn offset(to: Timestamp, from: Timestamp) -> i64 {
    let difference = i128::from(to.as_nanos()) - i128::from(from.as_nanos());
    i64::try_from(difference).unwrap_or(if difference < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400_000_000_000;

    fn at(nanos: u64) -> Timestamp {
        Timestamp::from_nanos(nanos)
    }

    /// The clock on the wall says `wall`, and no time goes by.
    fn when(wall: u64) -> Moment {
        Moment { now: at(5 * DAY), wall: at(wall) }
    }

    #[test]
    fn stamps_grow_while_the_clock_stands_or_steps_back_a_little() {
        let mut clock = HybridClock::default();
        let first = clock.stamp(when(10 * DAY));
        let second = clock.stamp(when(10 * DAY));
        let third = clock.stamp(when(10 * DAY - 9_000_000_000));
        assert!(first < second && second < third);
        assert_eq!(third.wall, first.wall);
        // One that was a day ahead and has been set right does not stamp a day ahead for a day.
        assert_eq!(clock.stamp(when(9 * DAY)).wall, at(9 * DAY));
    }

    #[test]
    fn a_clock_that_is_far_ahead_is_held_in_where_it_writes() {
        let mut clock = HybridClock::default();
        clock.on_clock(&"b".into(), at(10 * DAY), when(375 * DAY));
        let stamp = clock.stamp(when(375 * DAY));
        assert_eq!(stamp.wall, at(10 * DAY).after(SKEW_MAX));
        assert!(clock.ahead(when(375 * DAY)) > Span::from_secs(86_400));
        // The other one, whose clock is right, is not moved by it.
        let mut right = HybridClock::default();
        right.on_clock(&"a".into(), at(375 * DAY), when(10 * DAY));
        assert_eq!(right.stamp(when(10 * DAY)).wall, at(10 * DAY));
        assert_eq!(right.ahead(when(10 * DAY)), Span::ZERO);
    }

    #[test]
    fn a_stamp_from_the_future_drags_nobody_along() {
        let mut clock = HybridClock::default();
        let far = HybridTime { wall: at(300 * DAY), logical: 7 };
        clock.on_stamp(far, when(10 * DAY));
        assert_eq!(clock.stamp(when(10 * DAY)).wall, at(10 * DAY));
        let near = HybridTime { wall: at(10 * DAY + 1_000), logical: 7 };
        clock.on_stamp(near, when(10 * DAY));
        assert!(clock.stamp(when(10 * DAY)) > near);
    }

    #[test]
    fn most_clocks_are_believed_and_not_the_one_that_is_off() {
        let mut clock = HybridClock::default();
        for node in ["b", "c"] {
            clock.on_clock(&node.into(), at(20 * DAY), when(10 * DAY));
        }
        // This one is behind all others: what they stamp is taken, and its own stamps follow.
        let theirs = HybridTime { wall: at(20 * DAY), logical: 0 };
        clock.on_stamp(theirs, when(10 * DAY));
        assert!(clock.stamp(when(10 * DAY)) > theirs);
    }

    #[test]
    fn a_node_that_wrote_before_it_heard_anybody_is_held_in_once_it_has() {
        let mut clock = HybridClock::default();
        assert_eq!(clock.stamp(when(375 * DAY)).wall, at(375 * DAY), "there is no other clock");
        clock.on_clock(&"b".into(), at(10 * DAY), when(375 * DAY));
        let limit = at(10 * DAY).after(SKEW_MAX);
        let first = clock.stamp(when(375 * DAY));
        assert_eq!(first.wall, limit);
        // And once its clock is right, its stamps are those of the present again.
        let later = Moment { now: at(6 * DAY), wall: at(11 * DAY) };
        clock.on_clock(&"b".into(), at(11 * DAY), later);
        let second = clock.stamp(later);
        assert!(second > first && second.wall == at(11 * DAY), "{second:?}");
    }

    #[test]
    fn a_clock_that_has_just_stepped_moves_nothing_but_its_own_vote() {
        let mut clock = HybridClock::default();
        for node in ["b", "c"] {
            clock.on_clock(&node.into(), at(10 * DAY), when(10 * DAY));
        }
        // Nobody has been heard since.
        let stamp = clock.stamp(when(375 * DAY));
        assert_eq!(stamp.wall, at(10 * DAY).after(SKEW_MAX));
        assert!(clock.ahead(when(375 * DAY)) > Span::from_secs(86_400));
    }
}
