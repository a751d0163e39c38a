//! A series of any length in bounded memory.

use serde::{Deserialize, Serialize};

/// Evenly spaced points of a series. When it is full it drops every second one and from then on
/// keeps only every second of those it would have kept. What it holds depends on the series alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sampled<T> {
    /// Never more than `points_max`.
    points: Vec<T>,
    points_max: usize,
    /// One in so many is kept.
    stride: u64,
    /// Points pushed so far.
    seen: u64,
    /// The newest, where it was not kept.
    newest: Option<T>,
}

impl<T> Sampled<T> {
    /// An empty series that will hold at most `points_max` points, and the newest.
    ///
    /// # Panics
    ///
    /// When `points_max` is below 2.
    pub fn new(points_max: usize) -> Self {
        assert!(points_max >= 2, "a series has a beginning and an end");
        Self { points: Vec::new(), points_max, stride: 1, seen: 0, newest: None }
    }

    /// Appends `point`.
    pub fn push(&mut self, point: T) {
        if self.seen.is_multiple_of(self.stride) && self.points.len() == self.points_max {
            let mut at = 0;
            self.points.retain(|_| {
                at += 1;
                at % 2 == 1
            });
            self.stride *= 2;
        }
        if self.seen.is_multiple_of(self.stride) {
            self.points.push(point);
            self.newest = None;
        } else {
            self.newest = Some(point);
        }
        self.seen += 1;
    }

    /// The points kept, and the newest, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.points.iter().chain(&self.newest)
    }

    /// The newest points that are kept, newest first.
    pub fn recent_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.newest.iter_mut().chain(self.points.iter_mut().rev())
    }

    /// How many points were pushed.
    pub const fn seen(&self) -> u64 {
        self.seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(count: u64, points_max: usize) -> Vec<u64> {
        let mut sampled = Sampled::new(points_max);
        (0..count).for_each(|point| sampled.push(point));
        sampled.iter().copied().collect()
    }

    #[test]
    fn nothing_is_dropped_until_it_is_full() {
        assert_eq!(after(4, 4), [0, 1, 2, 3]);
        assert_eq!(after(5, 4), [0, 2, 4]);
    }

    #[test]
    fn points_stay_evenly_spaced_and_end_with_the_newest() {
        assert_eq!(after(8, 4), [0, 2, 4, 6, 7]);
        assert_eq!(after(9, 4), [0, 4, 8]);
        assert_eq!(after(10, 3), [0, 4, 8, 9]);
    }

    #[test]
    fn a_long_series_takes_no_more_room_than_a_short_one() {
        for points_max in [2, 3, 7, 2_000] {
            let points = after(100_000, points_max);
            assert!(points.len() <= points_max + 1);
            assert!(points.len() >= points_max / 2);
            assert_eq!((points[0], points[points.len() - 1]), (0, 99_999));
        }
    }
}
