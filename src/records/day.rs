//! Days of event time, by which ticks are kept and forgotten.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::domain::Timestamp;

/// Nanoseconds of a day.
const DAY_NANOS: u64 = 86_400 * 1_000_000_000;

/// A day in UTC, counted from 1970-01-01. Shown as `20260114`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Day(pub u32);

impl Day {
    /// The day in which `at` lies.
    pub fn of(at: Timestamp) -> Self {
        Self(u32::try_from(at.as_nanos() / DAY_NANOS).unwrap_or(u32::MAX))
    }

    /// The day that [`fmt::Display`] shows as `text`.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 8 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let number = |range: std::ops::Range<usize>| text[range].parse::<i64>().ok();
        let (year, month, day) = (number(0..4)?, number(4..6)?, number(6..8)?);
        let days = days_before(year, month, day);
        let found = Self(u32::try_from(days).ok()?);
        (found.to_string() == text).then_some(found)
    }

    /// Which of `days` are to be forgotten, so that the `kept` latest that there are stay.
    pub fn forgotten(days: &[Self], kept: usize) -> Vec<Self> {
        let mut days = days.to_vec();
        days.sort_unstable();
        days.dedup();
        days.truncate(days.len().saturating_sub(kept));
        days
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The reverse of `days_before`, by the same shifted eras.
        let shifted = i64::from(self.0) + 719_468;
        let era = shifted.div_euclid(146_097);
        let of_era = shifted.rem_euclid(146_097);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * of_year + 2) / 153;
        let day = of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        write!(f, "{year:04}{month:02}{day:02}")
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar, counted in years that begin in March, so that
/// the leap day is the last: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`.
fn days_before(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
    era * 146_097 + of_era - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn days_are_called_by_their_date() {
        assert_eq!(Day(0).to_string(), "19700101");
        assert_eq!(
            Day::of(Timestamp::from_nanos(1_709_164_799_999_999_999)).to_string(),
            "20240228"
        );
        assert_eq!(
            Day::of(Timestamp::from_nanos(1_709_164_800_000_000_000)).to_string(),
            "20240229"
        );
        assert_eq!(Day::parse("20240229"), Some(Day(19_782)));
        for wrong in ["20230229", "2024", "20241301", "2024-1-1", "20240100"] {
            assert_eq!(Day::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_latest_days_stay() {
        let days = [Day(9), Day(3), Day(5), Day(3)];
        assert_eq!(Day::forgotten(&days, 2), [Day(3)]);
        assert_eq!(Day::forgotten(&days, 3), []);
        assert_eq!(Day::forgotten(&days, 0), [Day(3), Day(5), Day(9)]);
    }

    proptest! {
        #[test]
        fn a_day_is_found_again_by_its_name(day in 0u32..200_000) {
            prop_assert_eq!(Day::parse(&Day(day).to_string()), Some(Day(day)));
        }
    }
}
