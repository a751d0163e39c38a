//! How long things took: a histogram of fixed size that keeps every quantile within 1/32.
//!
//! ```text
//! 0 1 2 .. 63 | 64 66 .. 126 | 128 132 .. 252 | 256 ..        32 buckets per doubling
//!   width 1   |    width 2   |     width 4    | width 8 ..
//! ```
//!
//! Log-linear buckets as in Gil Tene's HdrHistogram: recording is one shift and one increment, two
//! histograms merge by adding, and memory does not depend on how much was recorded.
//!
//! # Invariants
//!
//! 1. A quantile is never below the true value of the sorted data, and above it by at most 1/32.
//! 2. Merging is the same as having recorded everything in one place.

use serde::{Deserialize, Serialize};

/// Buckets per doubling, as a power of two.
const PRECISION_BITS: u32 = 5;
/// Buckets per doubling.
const PER_DOUBLING: usize = 1 << PRECISION_BITS;
/// Values from here on (18 minutes in nanoseconds) share the last bucket; the maximum is still exact.
const VALUE_BITS: u32 = 40;
/// How many buckets there are.
const BUCKETS: usize = (VALUE_BITS - PRECISION_BITS + 1) as usize * PER_DOUBLING;

/// A histogram of spans in nanoseconds. 9 KiB, whatever is recorded.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Stored", try_from = "Stored")]
pub struct Histogram {
    counts: Box<[u64; BUCKETS]>,
    /// The largest value, exactly.
    max: u64,
}

/// One stretch of a [`Histogram`] with the number of values in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistogramBucket {
    /// The smallest value that falls here.
    pub from_nanos: u64,
    /// The smallest value above that no longer does.
    pub to_nanos: u64,
    /// How many did.
    pub count: u64,
}

/// Why a stored histogram cannot be one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HistogramError {
    /// A bucket that does not exist.
    #[error("histogram bucket {index} is beyond the last, {last}", last = BUCKETS - 1)]
    Bucket {
        /// The bucket's place.
        index: u16,
    },
}

/// The form on disk: only the buckets that hold something.
#[derive(Serialize, Deserialize)]
struct Stored {
    counts: Vec<(u16, u64)>,
    max: u64,
}

/// The bucket of `value`.
#[inline]
const fn bucket_of(value: u64) -> usize {
    // With the lowest bits set, small values need no branch of their own: they get width 1.
    let exponent = (value | (PER_DOUBLING as u64 * 2 - 1)).ilog2() - PRECISION_BITS;
    let index = exponent as usize * PER_DOUBLING + narrow(value >> exponent);
    if index < BUCKETS { index } else { BUCKETS - 1 }
}

/// A number below 2^32 as an index; larger ones become an index that is out of range anyway.
#[expect(clippy::cast_possible_truncation, reason = "capped just before")]
#[inline]
const fn narrow(value: u64) -> usize {
    if value > u32::MAX as u64 { u32::MAX as usize } else { value as usize }
}

/// The smallest value of bucket `index`.
const fn bucket_start(index: usize) -> u64 {
    if index < 2 * PER_DOUBLING {
        return index as u64;
    }
    let exponent = index / PER_DOUBLING - 1;
    ((index - exponent * PER_DOUBLING) as u64) << exponent
}

impl Histogram {
    /// An empty one.
    pub fn new() -> Self {
        Self { counts: Box::new([0; BUCKETS]), max: 0 }
    }

    /// Takes in one value.
    #[inline]
    pub fn record(&mut self, nanos: u64) {
        self.counts[bucket_of(nanos)] += 1;
        self.max = self.max.max(nanos);
    }

    /// Takes in `count` equal values.
    pub fn record_many(&mut self, nanos: u64, count: u64) {
        if count > 0 {
            self.counts[bucket_of(nanos)] += count;
            self.max = self.max.max(nanos);
        }
    }

    /// Takes in all that `other` has.
    pub fn merge(&mut self, other: &Self) {
        for (own, others) in self.counts.iter_mut().zip(other.counts.iter()) {
            *own += others;
        }
        self.max = self.max.max(other.max);
    }

    /// What was recorded since `earlier`, which was this one; its maximum is only known to be no larger than that of
    /// all.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut since = self.clone();
        for (own, before) in since.counts.iter_mut().zip(earlier.counts.iter()) {
            *own = own.saturating_sub(*before);
        }
        since
    }

    /// How many values were recorded.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The largest value, exactly; zero when empty.
    pub const fn max(&self) -> u64 {
        self.max
    }

    /// The value that a share of `per_million` of all values do not exceed (500,000 is the median),
    /// by nearest rank, rounded up to its bucket's last value; zero when empty.
    pub fn quantile(&self, per_million: u32) -> u64 {
        let wanted = u128::from(self.count()) * u128::from(per_million.min(1_000_000));
        let rank = wanted.div_ceil(1_000_000).max(1);
        let mut seen = 0u128;
        for (index, &count) in self.counts.iter().enumerate() {
            seen += u128::from(count);
            if seen >= rank {
                let last = index == BUCKETS - 1;
                return if last { self.max } else { (bucket_start(index + 1) - 1).min(self.max) };
            }
        }
        0
    }

    /// The filled stretches in ascending order, `per_doubling` to each doubling: 1, 2, 4, 8, 16 or
    /// 32. Values below 64 keep buckets of their own.
    ///
    /// # Panics
    ///
    /// When `per_doubling` is none of these.
    pub fn buckets(&self, per_doubling: usize) -> Vec<HistogramBucket> {
        assert!(
            per_doubling.is_power_of_two() && per_doubling <= PER_DOUBLING,
            "a doubling has {PER_DOUBLING} buckets, {per_doubling} were asked for"
        );
        let joined = PER_DOUBLING / per_doubling;
        let mut buckets: Vec<HistogramBucket> = Vec::new();
        for (index, &count) in self.counts.iter().enumerate().filter(|&(_, &count)| count > 0) {
            let width = if index < 2 * PER_DOUBLING { 1 } else { joined };
            let first = index / width * width;
            let from_nanos = bucket_start(first);
            match buckets.last_mut() {
                Some(last) if last.from_nanos == from_nanos => last.count += count,
                _ => buckets.push(HistogramBucket {
                    from_nanos,
                    to_nanos: bucket_start(first + width),
                    count,
                }),
            }
        }
        buckets
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Histogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Histogram")
            .field("count", &self.count())
            .field("p50", &self.quantile(500_000))
            .field("p99", &self.quantile(990_000))
            .field("max", &self.max)
            .finish_non_exhaustive()
    }
}

impl From<Histogram> for Stored {
    fn from(histogram: Histogram) -> Self {
        let filled = (0u16..).zip(histogram.counts.iter().copied()).filter(|&(_, count)| count > 0);
        Self { counts: filled.collect(), max: histogram.max }
    }
}

impl TryFrom<Stored> for Histogram {
    type Error = HistogramError;
    fn try_from(stored: Stored) -> Result<Self, HistogramError> {
        let mut histogram = Self::new();
        for (index, count) in stored.counts {
            let place = histogram.counts.get_mut(usize::from(index));
            *place.ok_or(HistogramError::Bucket { index })? += count;
        }
        histogram.max = stored.max;
        Ok(histogram)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[u64]) -> Histogram {
        let mut histogram = Histogram::new();
        values.iter().for_each(|&value| histogram.record(value));
        histogram
    }

    /// Values of every size, not only large ones.
    fn spans() -> impl Strategy<Value = u64> {
        (0u32..64, any::<u64>()).prop_map(|(shift, value)| value >> shift)
    }

    #[test]
    fn every_bucket_starts_where_the_one_before_ends() {
        for index in 0..BUCKETS {
            assert_eq!(bucket_of(bucket_start(index)), index);
            if index > 0 {
                assert_eq!(bucket_of(bucket_start(index) - 1), index - 1);
            }
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn an_empty_histogram_has_quantiles_of_zero() {
        let empty = Histogram::new();
        assert_eq!((empty.count(), empty.quantile(500_000), empty.max()), (0, 0, 0));
        assert!(empty.buckets(4).is_empty());
    }

    #[test]
    fn small_values_are_exact() {
        let histogram = of(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
        assert_eq!(histogram.quantile(500_000), 5);
        assert_eq!(histogram.quantile(900_000), 9);
        assert_eq!(histogram.quantile(1_000_000), 10);
    }

    #[test]
    fn a_stored_bucket_that_does_not_exist_is_refused() {
        let stored = Stored { counts: vec![(u16::MAX, 1)], max: 1 };
        assert_eq!(Histogram::try_from(stored), Err(HistogramError::Bucket { index: u16::MAX }));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        /// Invariant 1, for values below the last bucket.
        #[test]
        fn quantiles_bound_those_of_the_sorted_data(
            mut values in prop::collection::vec(spans().prop_map(|value| value >> 25), 1..300),
            per_million in 0u32..=1_000_000,
        ) {
            let histogram = of(&values);
            values.sort_unstable();
            let rank = (values.len() as u64 * u64::from(per_million)).div_ceil(1_000_000).max(1);
            let exact = values[usize::try_from(rank).unwrap() - 1];
            let answer = histogram.quantile(per_million);
            prop_assert!(answer >= exact, "{answer} is below {exact}");
            prop_assert!(answer - exact <= exact / 32, "{answer} is too far above {exact}");
        }

        /// Invariant 2, and what comes back from disk is what went there.
        #[test]
        fn parts_merge_into_the_whole_and_survive_storage(
            left in prop::collection::vec(spans(), 0..100),
            right in prop::collection::vec(spans(), 0..100),
        ) {
            let mut merged = of(&left);
            merged.merge(&of(&right));
            let whole = of(&[left, right].concat());
            prop_assert_eq!(&merged, &whole);
            let options = bincode::config::standard();
            let bytes = bincode::serde::encode_to_vec(&whole, options).unwrap();
            let (back, _): (Histogram, _) = bincode::serde::decode_from_slice(&bytes, options).unwrap();
            prop_assert_eq!(back, whole);
        }

        #[test]
        fn buckets_of_any_coarseness_hold_every_value_once(
            values in prop::collection::vec(spans().prop_map(|value| value >> 25), 0..200),
            shift in 0u32..6,
        ) {
            let buckets = of(&values).buckets(1 << shift);
            for bucket in &buckets {
                let within = |value: &&u64| (bucket.from_nanos..bucket.to_nanos).contains(*value);
                prop_assert_eq!(values.iter().filter(within).count() as u64, bucket.count);
            }
            prop_assert_eq!(buckets.iter().map(|bucket| bucket.count).sum::<u64>(), values.len() as u64);
        }
    }
}
