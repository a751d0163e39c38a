//! What the exchange's clock shows, as far as can be known from here.

use crate::domain::{Span, Timestamp};

/// Two clocks are taken to drift by no more than one in so many.
const DRIFT: u32 = 1_000;

/// The exchange's clock, by the last time that it told it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ExchangeClock {
    last: Option<Sample>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    asked: Timestamp,
    answered: Timestamp,
    told: Timestamp,
}

impl ExchangeClock {
    /// It was asked for the time at `asked`, and what it said arrived at `answered`.
    pub(super) fn on_time(&mut self, asked: Timestamp, answered: Timestamp, told: Timestamp) {
        self.last = Some(Sample { asked, answered, told });
    }

    /// When it was last asked.
    pub(super) fn asked(&self) -> Option<Timestamp> {
        self.last.map(|sample| sample.asked)
    }

    /// The best guess: half the time of the last question after what was told.
    pub(super) fn now(&self, now: Timestamp) -> Option<Timestamp> {
        let sample = self.last?;
        let way_back = sample.answered.since(sample.asked) / 2;
        Some(sample.told.after(way_back).after(now.since(sample.answered)))
    }

    /// A time that it shows already, unless it was set back: it had been what was told before the answer
    /// arrived.
    pub(super) fn at_least(&self, now: Timestamp) -> Option<Timestamp> {
        let sample = self.last?;
        let passed = now.since(sample.answered);
        Some(sample.told.after(passed - passed / DRIFT))
    }

    /// How long until it certainly shows `then`.
    pub(super) fn until(&self, then: Timestamp, now: Timestamp) -> Option<Span> {
        let left = then.since(self.at_least(now)?);
        Some(left + left / (DRIFT / 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Timestamp {
        Timestamp::from_nanos(milliseconds * 1_000_000)
    }

    #[test]
    fn the_guess_is_between_what_is_certain_and_what_is_possible() {
        let mut clock = ExchangeClock::default();
        assert_eq!((clock.now(at(5)), clock.at_least(at(5))), (None, None));
        clock.on_time(at(100), at(140), at(5_000));
        assert_eq!(clock.now(at(140)), Some(at(5_020)));
        assert_eq!(clock.at_least(at(140)), Some(at(5_000)));
        assert_eq!(clock.now(at(1_140)), Some(at(6_020)));
        assert_eq!(clock.at_least(at(1_140)), Some(at(5_999)));
        assert_eq!(clock.until(at(5_999), at(1_140)), Some(Span::ZERO));
        let left = clock.until(at(6_999), at(1_140)).unwrap();
        assert!(left >= Span::from_millis(1_000) && left < Span::from_millis(1_010));
        assert_eq!(clock.asked(), Some(at(100)));
    }
}
