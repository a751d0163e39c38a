//! Dates and times of day, as feeds write them, to unix nanoseconds.

/// Nanoseconds of a second.
pub(super) const SECOND: u64 = 1_000_000_000;
/// Seconds of a day.
const DAY_SECONDS: i64 = 86_400;

/// A day of the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Date {
    /// Days since 1970-01-01.
    days: i64,
}

impl Date {
    /// The day that `yyyymmdd` spells, if there is such a day in the years 1970 to 2199.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        if text.len() != 8 {
            return None;
        }
        let (year, month, day) = (digits(&text[..4])?, digits(&text[4..6])?, digits(&text[6..8])?);
        let date = Self::new(year, month, day);
        let is_day = (1970..2200).contains(&year)
            && (1..=12).contains(&month)
            && day >= 1
            && date.days < Self::new(year, month + 1, 1).days;
        is_day.then_some(date)
    }

    /// The day; months beyond December are those of the next year.
    fn new(year: i64, month: i64, day: i64) -> Self {
        let (year, month) = if month > 12 { (year + 1, month - 12) } else { (year, month) };
        // Counted from March, so that the leap day is a year's last.
        let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
        let leap_days = year / 4 - year / 100 + year / 400;
        // From March on, months have 31, 30, 31, 30, 31 days, over and over.
        let month_days = (153 * month + 2) / 5;
        Self { days: year * 365 + leap_days + month_days + day - 1 - 719_468 }
    }

    /// 0 for Sunday to 6 for Saturday.
    const fn weekday(self) -> i64 {
        (self.days + 4).rem_euclid(7)
    }

    /// The last day before this one that is neither Saturday nor Sunday.
    pub(super) const fn weekday_before(self) -> Self {
        let days = match self.weekday() {
            0 => 2,
            1 => 3,
            _ => 1,
        };
        Self { days: self.days - days }
    }

    /// The instant `nanos` after midnight, by a clock that is `offset_seconds` ahead of UTC.
    pub(super) fn at(self, nanos: u64, offset_seconds: i64) -> Option<u64> {
        let midnight = u64::try_from(self.days * DAY_SECONDS - offset_seconds).ok()?;
        midnight.checked_mul(SECOND)?.checked_add(nanos)
    }

    /// How far New York's clocks are ahead of UTC on this day, after the change if there is one:
    /// summer time lasts from the second Sunday of March to the first of November; before 2007 from
    /// the first of April to the last of October (15 U.S.C. 260a).
    pub(super) fn new_york_offset_seconds(self, year: i64) -> i64 {
        let (start, end) = if year >= 2007 {
            (Self::new(year, 3, 8).sunday_from(), Self::new(year, 11, 1).sunday_from())
        } else {
            (Self::new(year, 4, 1).sunday_from(), Self::new(year, 10, 25).sunday_from())
        };
        if self >= start && self < end { -4 * 3_600 } else { -5 * 3_600 }
    }

    /// This day if it is a Sunday, else the next one.
    const fn sunday_from(self) -> Self {
        Self { days: self.days + (7 - self.weekday()) % 7 }
    }
}

/// Nanoseconds after midnight of `hh:mm:ss`.
pub(super) fn time_of_day(text: &[u8]) -> Option<u64> {
    let [h1, h2, b':', m1, m2, b':', s1, s2] = *text else { return None };
    let (hour, minute, second) = (digits(&[h1, h2])?, digits(&[m1, m2])?, digits(&[s1, s2])?);
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    u64::try_from(hour * 3_600 + minute * 60 + second).ok().map(|seconds| seconds * SECOND)
}

/// A short whole number.
pub(super) fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |value, byte| {
        byte.is_ascii_digit().then(|| value * 10 + i64::from(byte - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Option<u64> {
        Date::parse(text.as_bytes())?.at(0, 0).map(|nanos| nanos / SECOND)
    }

    #[test]
    fn days_are_counted_from_1970_over_leap_years() {
        assert_eq!(seconds("19700101"), Some(0));
        assert_eq!(seconds("20000229"), Some(951_782_400));
        assert_eq!(seconds("20200803"), Some(1_596_412_800));
        assert_eq!(seconds("20991231"), Some(4_102_358_400));
    }

    #[test]
    fn days_that_do_not_exist_are_refused() {
        for text in ["20210229", "20200431", "20201301", "20200100", "2020010", "2020010x", ""] {
            assert_eq!(seconds(text), None, "{text}");
        }
        assert_eq!(time_of_day(b"09:00:01"), Some(32_401 * SECOND));
        for text in ["24:00:00", "09:60:00", "9:00:00", "09-00-00", ""] {
            assert_eq!(time_of_day(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_monday_follows_on_friday() {
        let date = |text: &str| Date::parse(text.as_bytes()).unwrap();
        assert_eq!(date("20200803").weekday_before(), date("20200731"));
        assert_eq!(date("20200804").weekday_before(), date("20200803"));
        assert_eq!(date("20200802").weekday_before(), date("20200731"));
    }

    #[test]
    fn new_york_keeps_summer_time() {
        let hours = |text: &str| {
            let year = digits(&text.as_bytes()[..4]).unwrap();
            Date::parse(text.as_bytes()).unwrap().new_york_offset_seconds(year) / 3_600
        };
        assert_eq!((hours("20131007"), hours("20131102"), hours("20131103")), (-4, -4, -5));
        assert_eq!((hours("20240309"), hours("20240310")), (-5, -4));
        assert_eq!((hours("20050402"), hours("20050403")), (-5, -4));
        assert_eq!((hours("20051029"), hours("20051030")), (-4, -5));
    }
}
