//! Time as data: instants and spans in nanoseconds, handed in by whoever owns a clock.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Nanoseconds since the Unix epoch, UTC.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Timestamp(u64);

/// A length of time in nanoseconds.
pub type Span = Duration;

impl Timestamp {
    /// The instant `nanos` nanoseconds after the Unix epoch.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the Unix epoch.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The instant that `text` spells: nanoseconds since the Unix epoch, or a date and time of UTC such as
    /// `2024-08-08T23:54:14.5Z`, from 1970 to 2199; a space may stand for the `T`.
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(nanos) = text.parse() {
            return Some(Self(nanos));
        }
        let (date, clock) = text.strip_suffix('Z').unwrap_or(text).split_once(['T', ' '])?;
        let number = |text: &str, digits: usize| -> Option<u64> {
            let is_number = text.len() == digits && text.bytes().all(|it| it.is_ascii_digit());
            is_number.then(|| text.parse().ok())?
        };
        let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
        let nanos = if fraction.is_empty() { 0 } else { number(&format!("{fraction:0<9}"), 9)? };
        let [year, month, day] = parts(date, '-')?;
        let (year, month, day) = (number(year, 4)?, number(month, 2)?, number(day, 2)?);
        let [hour, minute, second] = parts(clock, ':')?;
        let (hour, minute, second) = (number(hour, 2)?, number(minute, 2)?, number(second, 2)?);
        let days = days_since_epoch(year, month, day)?;
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
        Some(Self(seconds * 1_000_000_000 + nanos))
    }

    /// How long after `earlier` this is; zero when the clock stepped back.
    pub const fn since(self, earlier: Self) -> Span {
        Span::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The instant `span` later, held at the end of time (the year 2554).
    pub fn after(self, span: Span) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

fn parts(text: &str, between: char) -> Option<[&str; 3]> {
    text.split(between).collect::<Vec<_>>().try_into().ok()
}

/// Days since 1970-01-01 of a day that there is.
fn days_since_epoch(year: u64, month: u64, day: u64) -> Option<u64> {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let lengths = [31, 28 + u64::from(is_leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let place = usize::try_from(month.checked_sub(1)?).ok()?;
    let is_day = (1970..2200).contains(&year) && (1..=*lengths.get(place)?).contains(&day);
    // Leap years before this one, since the year 0.
    let leaps = |year: u64| (year - 1) / 4 - (year - 1) / 100 + (year - 1) / 400;
    let before = (year.checked_sub(1970)?) * 365 + leaps(year) - leaps(1970);
    is_day.then(|| before + lengths[..place].iter().sum::<u64>() + day - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_read_as_nanoseconds_or_as_date_and_time() {
        let parse = |text| Timestamp::parse(text).map(Timestamp::as_nanos);
        assert_eq!(parse("1723161254500000000"), Some(1_723_161_254_500_000_000));
        assert_eq!(parse("2024-08-08T23:54:14.5Z"), Some(1_723_161_254_500_000_000));
        assert_eq!(parse("2024-02-29 00:00:00"), Some(1_709_164_800_000_000_000));
        assert_eq!(parse("2100-03-01T00:00:00Z"), Some(4_107_542_400_000_000_000));
        for wrong in ["2023-02-29T00:00:00Z", "2024-08-08", "2024-08-08T24:00:00Z", "noon", "-1"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn clock_stepping_back_gives_no_negative_span() {
        let early = Timestamp::from_nanos(10);
        let late = early.after(Span::from_nanos(5));
        assert_eq!(late.since(early), Span::from_nanos(5));
        assert_eq!(early.since(late), Span::ZERO);
    }
}
