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

    /// How long after `earlier` this is; zero when the clock stepped back.
    pub const fn since(self, earlier: Self) -> Span {
        Span::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The instant `span` later, held at the end of time (the year 2554).
    pub fn after(self, span: Span) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_stepping_back_gives_no_negative_span() {
        let early = Timestamp::from_nanos(10);
        let late = early.after(Span::from_nanos(5));
        assert_eq!(late.since(early), Span::from_nanos(5));
        assert_eq!(early.since(late), Span::ZERO);
    }
}
