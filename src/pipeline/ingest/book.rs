//! An order book kept from a venue's snapshots and differences, for its top.
//!
//! The rules of joining the two are Binance's, "How to manage a local order book correctly"
//! (<https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams>), for spot and
//! futures alike.

use serde::{Deserialize, Serialize};

/// Price and quantity at it, in steps of the instrument.
pub(super) type Level = (i64, i64);

/// A change of the book: the new quantity at some prices, zero where nothing is left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Difference {
    /// Update ids it covers (`U`, `u`).
    pub(super) first: u64,
    pub(super) last: u64,
    /// The last id of the difference before (`pu`), where the venue tells.
    pub(super) previous: Option<u64>,
    pub(super) bids: Vec<Level>,
    pub(super) asks: Vec<Level>,
}

impl Difference {
    /// Whether nothing is missing between a book at update `last` and this: the next id on spot; on
    /// futures, whose ids are sparse, everything after the difference before, which the book has.
    const fn joins(&self, last: u64) -> bool {
        match self.previous {
            Some(previous) => previous <= last,
            None => self.first <= last.saturating_add(1),
        }
    }
}

/// What a difference, or a snapshot, did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Applied {
    /// The book is up to date.
    Yes,
    /// It was older than the book.
    Old,
    /// The book waits for a snapshot.
    Waiting,
    /// Differences are missing: the book is void and waits for a snapshot.
    Gap,
    /// The snapshot is older than what its differences begin with: the book waits for another.
    Stale,
}

/// Both sides of one symbol's book.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Book {
    /// Ascending: the best is last. At most [`Book::LEVELS_MAX`].
    bids: Vec<Level>,
    /// Descending: the best is last. At most [`Book::LEVELS_MAX`].
    asks: Vec<Level>,
    /// The last update id in the book; 0 while it waits for a snapshot.
    last: u64,
    /// Whether a difference has been joined to the snapshot.
    is_joined: bool,
    /// Differences that came before their snapshot, at most [`Book::PENDING_MAX`]; the oldest go.
    pending: Vec<Difference>,
}

impl Book {
    /// Most levels a side; the worst go.
    const LEVELS_MAX: usize = 1_000;
    const PENDING_MAX: usize = 256;

    /// Best bid and ask.
    pub(super) fn top(&self) -> (Option<Level>, Option<Level>) {
        (self.bids.last().copied(), self.asks.last().copied())
    }

    /// The last update id in the book.
    pub(super) const fn last_update(&self) -> u64 {
        self.last
    }

    /// Replaces the book by a snapshot and applies what is newer of the differences before it.
    pub(super) fn on_snapshot(&mut self, last: u64, bids: &[Level], asks: &[Level]) -> Applied {
        if last <= self.last {
            return Applied::Old;
        }
        let newer = self.pending.iter().find(|difference| difference.last > last);
        if newer.is_some_and(|difference| !difference.joins(last)) {
            return Applied::Stale;
        }
        self.bids.clear();
        self.asks.clear();
        (self.last, self.is_joined) = (last, false);
        self.write(bids, asks);
        let mut outcome = Applied::Yes;
        for difference in std::mem::take(&mut self.pending) {
            if self.on_difference(difference) == Applied::Gap {
                outcome = Applied::Gap;
            }
        }
        outcome
    }

    /// Applies a difference, or keeps it until the snapshot comes.
    pub(super) fn on_difference(&mut self, difference: Difference) -> Applied {
        if self.last == 0 {
            if self.pending.len() == Self::PENDING_MAX {
                self.pending.remove(0);
            }
            self.pending.push(difference);
            return Applied::Waiting;
        }
        if difference.last <= self.last {
            return Applied::Old;
        }
        let follows = match difference.previous {
            Some(previous) if self.is_joined => previous == self.last,
            _ => difference.joins(self.last),
        };
        if !follows {
            *self = Self { pending: vec![difference], ..Self::default() };
            return Applied::Gap;
        }
        self.is_joined = true;
        self.last = difference.last;
        self.write(&difference.bids, &difference.asks);
        Applied::Yes
    }

    fn write(&mut self, bids: &[Level], asks: &[Level]) {
        for &level in bids {
            set(&mut self.bids, level, |price| price);
        }
        for &level in asks {
            set(&mut self.asks, level, |price| -price);
        }
    }
}

/// Sets the quantity at a price in a side sorted by `rank`.
fn set(side: &mut Vec<Level>, (price, quantity): Level, rank: impl Fn(i64) -> i64) {
    match side.binary_search_by_key(&rank(price), |&(price, _)| rank(price)) {
        Ok(at) if quantity == 0 => {
            side.remove(at);
        }
        Ok(at) => side[at].1 = quantity,
        Err(_) if quantity == 0 => {}
        Err(at) => {
            side.insert(at, (price, quantity));
            if side.len() > Book::LEVELS_MAX {
                side.remove(0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference(first: u64, last: u64, bids: &[Level], asks: &[Level]) -> Difference {
        Difference { first, last, previous: None, bids: bids.to_vec(), asks: asks.to_vec() }
    }

    #[test]
    fn differences_before_the_snapshot_are_joined_to_it() {
        let mut book = Book::default();
        assert_eq!(book.on_difference(difference(1, 5, &[(9, 1)], &[])), Applied::Waiting);
        assert_eq!(book.on_difference(difference(6, 9, &[(10, 7)], &[])), Applied::Waiting);
        assert_eq!(book.on_snapshot(6, &[(9, 1), (10, 2)], &[(12, 3), (11, 4)]), Applied::Yes);
        assert_eq!(book.top(), (Some((10, 7)), Some((11, 4))));
        assert_eq!(book.on_difference(difference(2, 9, &[(10, 1)], &[])), Applied::Old);
        assert_eq!(book.on_difference(difference(10, 11, &[(10, 0)], &[(11, 0)])), Applied::Yes);
        assert_eq!(book.top(), (Some((9, 1)), Some((12, 3))));
    }

    #[test]
    fn a_hole_in_the_ids_voids_the_book_until_the_next_snapshot() {
        let mut book = Book::default();
        book.on_snapshot(5, &[(9, 1)], &[(10, 1)]);
        assert_eq!(book.on_difference(difference(7, 8, &[], &[])), Applied::Gap);
        assert_eq!(book.top(), (None, None));
        assert_eq!(book.on_difference(difference(9, 9, &[], &[])), Applied::Waiting);
        assert_eq!(book.on_snapshot(8, &[(9, 1)], &[(10, 1)]), Applied::Yes);
        assert_eq!(book.top(), (Some((9, 1)), Some((10, 1))));
    }

    #[test]
    fn futures_differences_are_chained_by_the_id_before() {
        let mut book = Book::default();
        book.on_snapshot(5, &[(9, 1)], &[(10, 1)]);
        let chained = |first, last, previous| Difference {
            previous: Some(previous),
            ..difference(first, last, &[], &[])
        };
        assert_eq!(book.on_difference(chained(3, 7, 2)), Applied::Yes);
        assert_eq!(book.on_difference(chained(20, 30, 7)), Applied::Yes, "ids are sparse there");
        assert_eq!(book.on_difference(chained(31, 32, 29)), Applied::Gap);
    }

    #[test]
    fn a_snapshot_older_than_the_first_difference_leaves_the_book_waiting() {
        let mut book = Book::default();
        book.on_difference(difference(7, 9, &[(10, 7)], &[]));
        book.on_difference(difference(10, 12, &[(10, 8)], &[]));
        assert_eq!(book.on_snapshot(5, &[(9, 1)], &[(11, 1)]), Applied::Stale);
        assert_eq!(book.top(), (None, None));
        assert_eq!(book.on_snapshot(6, &[(9, 1)], &[(11, 1)]), Applied::Yes);
        assert_eq!(book.top(), (Some((10, 8)), Some((11, 1))));
        assert_eq!(book.last_update(), 12);
    }

    #[test]
    fn a_futures_snapshot_may_end_where_a_difference_does() {
        let chained = |first, last, previous| Difference {
            previous: Some(previous),
            ..difference(first, last, &[], &[])
        };
        let mut book = Book::default();
        book.on_difference(chained(90, 100, 89));
        book.on_difference(chained(105, 110, 100));
        assert_eq!(book.on_snapshot(88, &[(9, 1)], &[(10, 1)]), Applied::Stale);
        assert_eq!(book.on_snapshot(100, &[(9, 1)], &[(10, 1)]), Applied::Yes);
        assert_eq!(book.last_update(), 110);
        assert_eq!(book.on_difference(chained(111, 112, 109)), Applied::Gap);
    }

    #[test]
    fn the_worst_levels_go_when_a_side_is_full() {
        let mut book = Book::default();
        let bids: Vec<Level> = (1..=6_000).map(|price| (price, 1)).collect();
        book.on_snapshot(1, &bids, &[]);
        assert_eq!(book.bids.len(), Book::LEVELS_MAX);
        assert_eq!(book.top().0, Some((6_000, 1)));
    }
}
