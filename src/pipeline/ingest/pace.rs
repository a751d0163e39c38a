//! When rows of a source that is read at the pace of its event times are due.
//!
//! Event times and the clock are laid side by side at the first row. What comes too late counts from
//! when it was due, so that a pipeline which does not keep up shows it in its latency, and is not
//! flattered by a source that waited for it.

use std::time::Duration;

/// How early a row may be let through, and how late it may be before that is the pipeline's doing:
/// timers are no more exact.
const TOLERANCE_NANOS: u64 = 1_000_000;

/// The pace of one source. Times are nanoseconds, of events and of a clock that only goes forward.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// Seconds of event time in a second of the clock.
    times: f64,
    /// Event time and clock at the first row.
    begun: Option<(u64, u64)>,
}

impl Pace {
    /// `times` as fast as it happened; above 0.
    pub const fn new(times: f64) -> Self {
        Self { times, begun: None }
    }

    /// When a row of event time `event` is due, at the earliest at the first row's time. The first row
    /// that is asked for is due `now`.
    pub fn due(&mut self, event: u64, now: u64) -> u64 {
        let (first, begun) = *self.begun.get_or_insert((event, now));
        let ahead = Duration::from_nanos(event.saturating_sub(first)).div_f64(self.times);
        begun.saturating_add(u64::try_from(ahead.as_nanos()).unwrap_or(u64::MAX))
    }

    /// How long to wait before what is due at `due` may go.
    pub fn wait(due: u64, now: u64) -> Option<Duration> {
        let early = due.saturating_sub(now);
        (early > TOLERANCE_NANOS).then(|| Duration::from_nanos(early))
    }

    /// From when the latency of a row counts that was due at `due` and goes `now`.
    pub const fn origin(due: u64, now: u64) -> u64 {
        // A timer wakes up to its own step after the time, and a row that was waited for by the timer
        // before it may be as late again.
        if now.saturating_sub(due) > 2 * TOLERANCE_NANOS { due } else { now }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn rows_are_as_far_apart_as_their_events_by_the_speed() {
        let mut pace = Pace::new(4.0);
        assert_eq!(pace.due(1_000 * MS, 7 * MS), 7 * MS, "the first one is due at once");
        assert_eq!(pace.due(1_400 * MS, 90 * MS), 107 * MS);
        assert_eq!(pace.due(900 * MS, 90 * MS), 7 * MS, "before the first one is no earlier");
        assert_eq!(Pace::new(0.5).due(3, 3), 3);
    }

    #[test]
    fn a_row_is_let_through_a_millisecond_early_and_no_more() {
        assert_eq!(Pace::wait(10 * MS, 9 * MS), None);
        assert_eq!(Pace::wait(10 * MS, 9 * MS - 1), Some(Duration::from_nanos(MS + 1)));
        assert_eq!(Pace::wait(10 * MS, 50 * MS), None);
    }

    #[test]
    fn what_is_late_counts_from_when_it_was_due() {
        assert_eq!(Pace::origin(10 * MS, 9 * MS), 9 * MS, "early: from when it went");
        assert_eq!(Pace::origin(10 * MS, 12 * MS), 12 * MS, "the timer's doing");
        assert_eq!(Pace::origin(10 * MS, 12 * MS + 1), 10 * MS);
    }
}
