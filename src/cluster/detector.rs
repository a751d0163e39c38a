//! Whether a silence means anything: phi-accrual suspicion, corrected by one's own health.
//!
//! The time between two signs of life is taken as normally distributed; phi is the negative decimal
//! logarithm of the probability that the next sign comes later than this silence: at 8, a living
//! node is wrongly suspected once in a hundred million silences. (Hayashibara, Défago, Yared,
//! Katayama: "The φ accrual failure detector", SRDS 2004; the tail by the logistic approximation
//! that Akka uses.) Here the deviation has a floor, because a quiet loopback would make the detector
//! hasty, and a silence is judged after the *observer's* own delays are taken off it.
//!
//! That correction follows Lifeguard (Dadgar, Phillips, Currey: "Lifeguard: Local Health Awareness
//! for More Accurate Failure Detection", 2017): a node that is late itself, because it was stopped
//! or starved, has no business suspecting others. Lifeguard stretches its time-outs; we also take
//! the time for which we did not look off every silence.

use std::collections::VecDeque;

use super::Timings;
use crate::domain::{Span, Timestamp};

/// Phi from which on a node is suspected.
pub const SUSPICION_PHI: f64 = 8.0;

/// Intervals that are remembered per node.
const INTERVALS_MAX: usize = 64;

/// Signs of life of one node, as they came in.
#[derive(Clone, Debug)]
pub struct Arrivals {
    heard_at: Timestamp,
    /// Nanoseconds between signs of life, oldest first; at most [`INTERVALS_MAX`].
    intervals: VecDeque<u64>,
    timings: Timings,
}

impl Arrivals {
    /// A node that was heard of at `now` for the first time.
    pub fn new(timings: Timings, now: Timestamp) -> Self {
        Self { heard_at: now, intervals: VecDeque::new(), timings }
    }

    /// The node gave a sign of life.
    pub fn on_heard(&mut self, now: Timestamp) {
        let interval = now.since(self.heard_at);
        // What came after a failure says nothing about how regular the node is when it is well.
        let is_regular = interval <= self.timings.heartbeat * 4;
        if is_regular && interval > Span::ZERO {
            if self.intervals.len() == INTERVALS_MAX {
                self.intervals.pop_front();
            }
            self.intervals.push_back(u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX));
        }
        self.heard_at = now;
    }

    /// The observer was away for `span`: that much of the silence is its own.
    pub fn on_observer_away(&mut self, span: Span, now: Timestamp) {
        self.heard_at = self.heard_at.after(span).min(now);
    }

    /// How long a suspect may stay silent before it counts as down.
    pub(super) fn suspicion(&self) -> Span {
        self.timings.suspicion
    }

    /// When the node was last heard of.
    pub fn heard_at(&self) -> Timestamp {
        self.heard_at
    }

    /// How unlikely the present silence is; `stretch`, at least 1, makes it more likely.
    pub fn phi(&self, now: Timestamp, stretch: u32) -> f64 {
        let (mean, deviation) = self.mean_and_deviation();
        let silence = seconds(now.since(self.heard_at)) / f64::from(stretch.max(1));
        let y = (silence - mean) / deviation;
        let e = libm::exp(-y * (1.597_6 + 0.070_566 * y * y));
        // Either side of the mean by the form that does not cancel.
        if silence > mean {
            -libm::log10(e / (1.0 + e))
        } else {
            -libm::log10(1.0 - 1.0 / (1.0 + e))
        }
    }

    /// In seconds. Until there are a few intervals, the heartbeat itself counts as some.
    fn mean_and_deviation(&self) -> (f64, f64) {
        let heartbeat = seconds(self.timings.heartbeat);
        let assumed = 4usize.saturating_sub(self.intervals.len());
        let all = || {
            let known = self.intervals.iter().map(|&nanos| seconds(Span::from_nanos(nanos)));
            known.chain(std::iter::repeat_n(heartbeat, assumed))
        };
        let count = all().count().max(1);
        #[expect(clippy::cast_precision_loss, reason = "at most 64")]
        let count = count as f64;
        let mean = (all().sum::<f64>() / count).max(heartbeat);
        let variance =
            all().map(|interval| (interval - mean) * (interval - mean)).sum::<f64>() / count;
        (mean, libm::sqrt(variance).max(seconds(self.timings.deviation_min)))
    }
}

fn seconds(span: Span) -> f64 {
    span.as_secs_f64()
}

/// How well this node is itself.
#[derive(Clone, Debug)]
pub struct LocalHealth {
    expected: Span,
    looked_at: Option<Timestamp>,
    /// 0 is well; each late look adds one, each punctual one takes one away.
    score: u32,
}

/// A stretch of more than this would hide a real failure for too long.
const SCORE_MAX: u32 = 4;

impl LocalHealth {
    /// A node that means to look around every `expected`.
    pub fn new(expected: Span) -> Self {
        Self { expected, looked_at: None, score: 0 }
    }

    /// It looks around. Returns for how long it was away beyond what it meant to be.
    pub fn on_look(&mut self, now: Timestamp) -> Span {
        let Some(before) = self.looked_at.replace(now) else { return Span::ZERO };
        let late = now.since(before).saturating_sub(self.expected);
        if late > self.expected {
            self.score = (self.score + 1).min(SCORE_MAX);
            late
        } else {
            self.score = self.score.saturating_sub(1);
            Span::ZERO
        }
    }

    /// By how much time-outs are to be stretched: 1 when all is well.
    pub fn stretch(&self) -> u32 {
        // One late look happens to everyone.
        1 + self.score / 2
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOON: Timestamp = Timestamp::from_nanos(1_700_000_000_000_000_000);

    fn milliseconds(count: u64) -> Span {
        Span::from_millis(count)
    }

    fn timings() -> Timings {
        Timings::from_heartbeat(milliseconds(500))
    }

    /// A node that was heard every `interval` for a while, last at the time returned.
    fn regular(interval: Span) -> (Arrivals, Timestamp) {
        let mut arrivals = Arrivals::new(timings(), NOON);
        let mut now = NOON;
        for _ in 0..50 {
            now = now.after(interval);
            arrivals.on_heard(now);
        }
        (arrivals, now)
    }

    /// How long the silence must last until the node is suspected.
    fn suspected_after(arrivals: &Arrivals, stretch: u32) -> Span {
        let from = arrivals.heard_at();
        (0..100_000)
            .map(milliseconds)
            .find(|&silence| arrivals.phi(from.after(silence), stretch) >= SUSPICION_PHI)
            .expect("some silence is long enough")
    }

    #[test]
    fn a_regular_node_is_suspected_after_about_two_heartbeats() {
        let (arrivals, _) = regular(milliseconds(500));
        let silence = suspected_after(&arrivals, 1);
        assert!((milliseconds(950)..milliseconds(1_150)).contains(&silence), "{silence:?}");
    }

    #[test]
    fn a_node_of_which_little_is_known_is_judged_by_the_heartbeat() {
        let arrivals = Arrivals::new(timings(), NOON);
        let silence = suspected_after(&arrivals, 1);
        assert!((milliseconds(950)..milliseconds(1_150)).contains(&silence), "{silence:?}");
    }

    #[test]
    fn an_irregular_node_is_given_more_time() {
        let mut arrivals = Arrivals::new(timings(), NOON);
        let mut now = NOON;
        for round in 0..50 {
            now = now.after(milliseconds(if round % 2 == 0 { 200 } else { 900 }));
            arrivals.on_heard(now);
        }
        assert!(suspected_after(&arrivals, 1) > milliseconds(1_800));
    }

    #[test]
    fn one_long_silence_does_not_make_the_detector_lenient() {
        let (mut arrivals, now) = regular(milliseconds(500));
        arrivals.on_heard(now.after(Span::from_secs(60)));
        assert!(suspected_after(&arrivals, 1) < milliseconds(1_150));
    }

    #[test]
    fn what_the_observer_slept_is_no_silence_of_the_observed() {
        let (mut arrivals, now) = regular(milliseconds(500));
        let late = now.after(Span::from_secs(10));
        assert!(arrivals.phi(late, 1) > SUSPICION_PHI);
        arrivals.on_observer_away(milliseconds(9_900), late);
        assert!(arrivals.phi(late, 1) < SUSPICION_PHI);
        arrivals.on_observer_away(Span::from_secs(60), late);
        assert_eq!(arrivals.heard_at(), late, "never in the future");
    }

    #[test]
    fn a_node_that_is_late_itself_stretches_its_time_outs_and_recovers() {
        let mut health = LocalHealth::new(milliseconds(100));
        let mut now = NOON;
        assert_eq!(health.on_look(now), Span::ZERO);
        for _ in 0..8 {
            now = now.after(milliseconds(400));
            assert_eq!(health.on_look(now), milliseconds(300));
        }
        assert_eq!(health.stretch(), 3);
        for _ in 0..8 {
            now = now.after(milliseconds(120));
            assert_eq!(health.on_look(now), Span::ZERO);
        }
        assert_eq!(health.stretch(), 1);
    }

    #[test]
    fn a_stretched_time_out_is_longer() {
        let (arrivals, _) = regular(milliseconds(500));
        assert!(suspected_after(&arrivals, 2) > suspected_after(&arrivals, 1) * 3 / 2);
    }

    proptest! {
        #[test]
        fn phi_never_falls_while_the_silence_lasts(
            intervals in proptest::collection::vec(1u64..3_000, 0..80),
            silence in 0u64..20_000,
            more in 0u64..20_000,
        ) {
            let mut arrivals = Arrivals::new(timings(), NOON);
            let mut now = NOON;
            for interval in intervals {
                now = now.after(milliseconds(interval));
                arrivals.on_heard(now);
            }
            let early = arrivals.phi(now.after(milliseconds(silence)), 1);
            let late = arrivals.phi(now.after(milliseconds(silence + more)), 1);
            prop_assert!(early <= late + 1e-9, "{} then {}", early, late);
            prop_assert!(!early.is_nan() && !late.is_nan());
        }
    }
}
