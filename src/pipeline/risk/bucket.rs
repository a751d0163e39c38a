//! A token bucket over event time.

use serde::{Deserialize, Serialize};

use super::limits::RateLimit;
use crate::domain::Timestamp;

/// One order, in the bucket's unit of 1e-9 orders: at a rate of one a second, a nanosecond's worth.
const ORDER: u64 = 1_000_000_000;

/// How much of a [`RateLimit`] is used up. Exact: no time is lost to rounding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bucket {
    /// Used and not yet back, in 1e-9 orders.
    used: u64,
    /// When that was so.
    at: Timestamp,
}

impl Bucket {
    /// Takes one order's token; false when there is none.
    pub(super) fn take(&mut self, limit: RateLimit, now: Timestamp) -> bool {
        if limit.per_second == 0 {
            return true;
        }
        let elapsed = now.as_nanos().saturating_sub(self.at.as_nanos());
        let returned = elapsed.saturating_mul(u64::from(limit.per_second));
        self.used = self.used.saturating_sub(returned);
        self.at = self.at.max(now);
        let granted = self.used + ORDER <= u64::from(limit.burst.max(1)) * ORDER;
        if granted {
            self.used += ORDER;
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_one_per_interval_to_the_nanosecond() {
        let limit = RateLimit { per_second: 4, burst: 3 };
        let mut bucket = Bucket::default();
        let at = |nanos: u64| Timestamp::from_nanos(1_000_000_000_000 + nanos);
        assert!((0..3).all(|_| bucket.take(limit, at(0))));
        assert!(!bucket.take(limit, at(0)));
        assert!(!bucket.take(limit, at(249_999_999)));
        assert!(bucket.take(limit, at(250_000_000)));
        assert!(!bucket.take(limit, at(250_000_000)));
        assert!((0..3).all(|_| bucket.take(limit, at(3_000_000_000))), "full again, not fuller");
        assert!(!bucket.take(limit, at(3_000_000_000)));
    }

    #[test]
    fn a_rate_of_zero_is_no_limit() {
        let mut bucket = Bucket::default();
        let limit = RateLimit { per_second: 0, burst: 0 };
        assert!((0..100).all(|_| bucket.take(limit, Timestamp::from_nanos(1))));
    }
}
