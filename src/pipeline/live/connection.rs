//! When to connect, when to ask whether the peer is there, and when to give up.
//!
//! # Invariants
//!
//! 1. A connection that brings no sound frame for [`ConnectionPolicy::silence_deadline`], or whose
//!    peer leaves a ping unanswered for [`ConnectionPolicy::pong_deadline`], is given up. Time in
//!    which we could not read (nobody took our frames, or the process was stopped) does not count.
//! 2. After every end a connect follows, within the back-off's maximum.
//! 3. Between two connects lies at least half the back-off's first delay: a peer that accepts and
//!    drops is not hammered.

use crate::domain::{Backoff, Span, Timestamp};

/// The deadlines a live connection is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionPolicy {
    /// Waits between connects. Each is shortened by up to a half, by chance, so that many clients
    /// of one venue do not come back together.
    pub backoff: Backoff,
    /// Longest time for name, TCP, TLS and WebSocket handshakes together.
    pub connect_deadline: Span,
    /// Longest time without a sound frame.
    pub silence_deadline: Span,
    /// Time between our pings.
    pub ping_interval: Span,
    /// Longest time until a ping is answered.
    pub pong_deadline: Span,
    /// A connection that lasted this long, and brought a sound frame, was a good one: the back-off
    /// starts again from the first delay.
    pub stable_after: Span,
}

impl Default for ConnectionPolicy {
    fn default() -> Self {
        Self {
            backoff: Backoff { first: Span::from_millis(200), max: Span::from_secs(30) },
            connect_deadline: Span::from_secs(10),
            silence_deadline: Span::from_secs(30),
            ping_interval: Span::from_secs(15),
            pong_deadline: Span::from_secs(10),
            stable_after: Span::from_secs(10),
        }
    }
}

/// Woken this much too late, we were not running, and what the peer sent lies unread.
const OVERSLEPT: Span = Span::from_secs(1);

/// Why a connection ended, or did not come to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DisconnectReason {
    /// No connection within [`ConnectionPolicy::connect_deadline`].
    #[error("no connection in time")]
    ConnectTimeout,
    /// The peer, its name or its network could not be reached, or the handshake failed.
    #[error("cannot connect")]
    Unreachable,
    /// The peer wants us to stay away for a while.
    #[error("told to come back later")]
    Throttled,
    /// The peer said good-bye.
    #[error("closed by the peer")]
    Closed,
    /// The connection broke, in the middle of a frame perhaps.
    #[error("connection broken")]
    Broken,
    /// The peer broke the protocol: text that is not UTF-8, a frame above the size limit.
    #[error("protocol violated")]
    Protocol,
    /// No sound frame for [`ConnectionPolicy::silence_deadline`].
    #[error("silent for too long")]
    Silent,
    /// A ping was not answered within [`ConnectionPolicy::pong_deadline`].
    #[error("ping not answered")]
    PongMissing,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionEffect {
    /// Begin to connect; then tell [`Connection::on_opened`] or [`Connection::on_ended`].
    Connect,
    /// Send a ping.
    Ping,
    /// Drop the connection, or the attempt at one. Already counted as ended.
    Disconnect(DisconnectReason),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Waiting { until: Timestamp },
    Connecting { until: Timestamp },
    Open { since: Timestamp, frame_at: Timestamp, is_proven: bool, ping: Ping },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ping {
    DueAt(Timestamp),
    SentAt(Timestamp),
}

/// Decides for one connection. Tell it what happens, then ask [`Connection::on_wake`] until it has
/// nothing more to do, then wait until [`Connection::wake_at`] or the next event.
#[derive(Debug)]
pub struct Connection {
    policy: ConnectionPolicy,
    phase: Phase,
    /// Connects that failed, or did not last, in a row.
    attempts: u32,
    chance: u64,
}

impl Connection {
    /// Wants to connect at once. `seed` decides how waits are shortened.
    pub const fn new(policy: ConnectionPolicy, now: Timestamp, seed: u64) -> Self {
        Self { policy, phase: Phase::Waiting { until: now }, attempts: 0, chance: seed }
    }

    /// The next thing to do, if one is due.
    pub fn on_wake(&mut self, now: Timestamp) -> Option<ConnectionEffect> {
        if now < self.wake_at() {
            return None;
        }
        match self.phase {
            Phase::Waiting { .. } => {
                self.phase = Phase::Connecting { until: now.after(self.policy.connect_deadline) };
                Some(ConnectionEffect::Connect)
            }
            Phase::Connecting { .. } => Some(self.give_up(DisconnectReason::ConnectTimeout, now)),
            Phase::Open { .. } if now >= self.wake_at().after(OVERSLEPT) => {
                self.on_resumed(now);
                None
            }
            Phase::Open { since, frame_at, is_proven, ping } => {
                if now >= frame_at.after(self.policy.silence_deadline) {
                    return Some(self.give_up(DisconnectReason::Silent, now));
                }
                match ping {
                    Ping::SentAt(_) => Some(self.give_up(DisconnectReason::PongMissing, now)),
                    Ping::DueAt(_) => {
                        let ping = Ping::SentAt(now);
                        self.phase = Phase::Open { since, frame_at, is_proven, ping };
                        Some(ConnectionEffect::Ping)
                    }
                }
            }
        }
    }

    /// When something is due, unless something else happens before.
    pub fn wake_at(&self) -> Timestamp {
        match self.phase {
            Phase::Waiting { until } | Phase::Connecting { until } => until,
            Phase::Open { frame_at, ping, .. } => {
                let ping = match ping {
                    Ping::DueAt(at) => at,
                    Ping::SentAt(at) => at.after(self.policy.pong_deadline),
                };
                ping.min(frame_at.after(self.policy.silence_deadline))
            }
        }
    }

    /// The connection stands.
    pub fn on_opened(&mut self, now: Timestamp) {
        let ping = Ping::DueAt(now.after(self.policy.ping_interval));
        self.phase = Phase::Open { since: now, frame_at: now, is_proven: false, ping };
    }

    /// A sound frame came. Garbage does not count: a peer that sends nothing else is given up.
    pub const fn on_frame(&mut self, now: Timestamp) {
        if let Phase::Open { frame_at, is_proven, .. } = &mut self.phase {
            *frame_at = now;
            *is_proven = true;
        }
    }

    /// The peer answered a ping.
    pub fn on_pong(&mut self, now: Timestamp) {
        if let Phase::Open { ping, .. } = &mut self.phase {
            *ping = Ping::DueAt(now.after(self.policy.ping_interval));
        }
    }

    /// We could not read for a while because nobody took our frames; that says nothing about the
    /// peer, so its deadlines start again.
    pub fn on_resumed(&mut self, now: Timestamp) {
        if let Phase::Open { frame_at, ping, .. } = &mut self.phase {
            *frame_at = now;
            *ping = Ping::DueAt(now.after(self.policy.ping_interval));
        }
    }

    /// The connection, or the attempt at one, ended. Returns how long until the next connect.
    pub fn on_ended(&mut self, reason: DisconnectReason, now: Timestamp) -> Span {
        if let Phase::Open { since, is_proven: true, .. } = self.phase
            && now.since(since) >= self.policy.stable_after
        {
            self.attempts = 0;
        }
        let delay = if reason == DisconnectReason::Throttled {
            self.policy.backoff.max
        } else {
            self.policy.backoff.delay(self.attempts)
        };
        self.attempts = self.attempts.saturating_add(1);
        let delay = self.shortened(delay);
        self.phase = Phase::Waiting { until: now.after(delay) };
        delay
    }

    fn give_up(&mut self, reason: DisconnectReason, now: Timestamp) -> ConnectionEffect {
        self.on_ended(reason, now);
        ConnectionEffect::Disconnect(reason)
    }

    /// `delay` less up to a half. The chance is SplitMix64 of Steele, Lea and Flood (2014).
    fn shortened(&mut self, delay: Span) -> Span {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.chance ^ self.chance >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        let percent = u32::try_from((mixed ^ mixed >> 31) % 51).expect("below 51");
        delay - delay * percent / 100
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy() -> ConnectionPolicy {
        ConnectionPolicy {
            backoff: Backoff { first: Span::from_millis(100), max: Span::from_secs(2) },
            connect_deadline: Span::from_secs(5),
            silence_deadline: Span::from_secs(30),
            ping_interval: Span::from_secs(10),
            pong_deadline: Span::from_secs(3),
            stable_after: Span::from_secs(60),
        }
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_nanos(millis * 1_000_000)
    }

    fn open() -> Connection {
        let mut connection = Connection::new(policy(), at(0), 1);
        assert_eq!(connection.on_wake(at(0)), Some(ConnectionEffect::Connect));
        connection.on_opened(at(0));
        connection
    }

    #[test]
    fn a_connect_that_takes_too_long_is_given_up_and_tried_again() {
        let mut connection = Connection::new(policy(), at(0), 1);
        assert_eq!(connection.on_wake(at(0)), Some(ConnectionEffect::Connect));
        assert_eq!(connection.on_wake(at(4_999)), None);
        let timeout = ConnectionEffect::Disconnect(DisconnectReason::ConnectTimeout);
        assert_eq!(connection.on_wake(at(5_000)), Some(timeout));
        assert_eq!(connection.on_wake(at(5_000)), None);
        assert_eq!(connection.on_wake(at(5_100)), Some(ConnectionEffect::Connect));
    }

    #[test]
    fn silence_ends_a_connection_even_if_pings_are_answered() {
        let mut connection = open();
        connection.on_frame(at(1_000));
        for second in [10, 20, 30] {
            assert_eq!(connection.on_wake(at(second * 1_000)), Some(ConnectionEffect::Ping));
            connection.on_pong(at(second * 1_000));
        }
        assert_eq!(connection.on_wake(at(30_999)), None);
        let silent = ConnectionEffect::Disconnect(DisconnectReason::Silent);
        assert_eq!(connection.on_wake(at(31_000)), Some(silent));
    }

    #[test]
    fn a_ping_without_an_answer_ends_a_connection_even_if_frames_come() {
        let mut connection = open();
        assert_eq!(connection.on_wake(at(10_000)), Some(ConnectionEffect::Ping));
        connection.on_frame(at(12_999));
        assert_eq!(connection.on_wake(at(12_999)), None);
        let missing = ConnectionEffect::Disconnect(DisconnectReason::PongMissing);
        assert_eq!(connection.on_wake(at(13_000)), Some(missing));
    }

    #[test]
    fn time_in_which_we_did_not_read_does_not_count_against_the_peer() {
        let mut connection = open();
        assert_eq!(connection.on_wake(at(10_000)), Some(ConnectionEffect::Ping));
        connection.on_resumed(at(100_000));
        assert_eq!(connection.on_wake(at(109_999)), None);
        assert_eq!(connection.on_wake(at(110_000)), Some(ConnectionEffect::Ping));
    }

    #[test]
    fn time_in_which_the_process_was_stopped_does_not_count_against_the_peer() {
        let mut connection = open();
        assert_eq!(connection.on_wake(at(70_000)), None);
        assert_eq!(connection.on_wake(at(79_999)), None);
        assert_eq!(connection.on_wake(at(80_000)), Some(ConnectionEffect::Ping));
    }

    #[test]
    fn a_peer_that_drops_each_connection_is_asked_less_and_less_often() {
        let mut connection = Connection::new(policy(), at(0), 1);
        let mut now = at(0);
        let mut delays = vec![];
        for _ in 0..7 {
            now = now.max(connection.wake_at());
            assert_eq!(connection.on_wake(now), Some(ConnectionEffect::Connect));
            connection.on_opened(now);
            connection.on_frame(now);
            delays.push(connection.on_ended(DisconnectReason::Broken, now).as_millis());
        }
        let full = [100, 200, 400, 800, 1_600, 2_000, 2_000];
        for (delay, full) in delays.into_iter().zip(full) {
            assert!((full / 2..=full).contains(&delay), "{delay} of {full}");
        }
    }

    #[test]
    fn a_good_connection_makes_the_next_delay_short_again() {
        let mut connection = open();
        for _ in 0..10 {
            connection.on_ended(DisconnectReason::Broken, at(0));
        }
        connection.on_opened(at(0));
        connection.on_frame(at(59_999));
        let delay = connection.on_ended(DisconnectReason::Closed, at(60_000));
        assert!(delay <= Span::from_millis(100), "{delay:?}");
        // One that lasted, but brought nothing, was not good.
        connection.on_opened(at(60_000));
        let delay = connection.on_ended(DisconnectReason::Closed, at(200_000));
        assert!(delay > Span::from_millis(100) - Span::from_millis(1), "{delay:?}");
    }

    #[test]
    fn a_venue_that_throttles_is_left_alone_for_the_longest_delay() {
        let mut connection = Connection::new(policy(), at(0), 1);
        let delay = connection.on_ended(DisconnectReason::Throttled, at(0));
        assert!(delay >= Span::from_secs(1), "{delay:?}");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Pass(u64),
        Open,
        Frame,
        Pong,
        Resume,
        End,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0u64..20_000).prop_map(Step::Pass),
            2 => Just(Step::Open),
            2 => Just(Step::Frame),
            1 => Just(Step::Pong),
            1 => Just(Step::Resume),
            2 => Just(Step::End),
        ];
        prop::collection::vec(step, 0..60)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn it_always_comes_back_and_never_too_soon(steps in steps(), seed: u64) {
            let mut connection = Connection::new(policy(), at(0), seed);
            let (mut now, mut connected_at, mut is_open) = (at(0), None::<Timestamp>, false);
            let mut tries = false;
            for step in steps {
                match step {
                    Step::Pass(millis) => now = now.after(Span::from_millis(millis)),
                    Step::Open if tries => {
                        connection.on_opened(now);
                        (tries, is_open) = (false, true);
                    }
                    Step::Frame if is_open => connection.on_frame(now),
                    Step::Pong if is_open => connection.on_pong(now),
                    Step::Resume if is_open => connection.on_resumed(now),
                    Step::End if is_open || tries => {
                        let delay = connection.on_ended(DisconnectReason::Broken, now);
                        prop_assert!(delay <= policy().backoff.max);
                        (tries, is_open) = (false, false);
                    }
                    Step::Open | Step::Frame | Step::Pong | Step::Resume | Step::End => {}
                }
                let mut effects = 0;
                while let Some(effect) = connection.on_wake(now) {
                    effects += 1;
                    prop_assert!(effects < 4, "it does not come to rest");
                    match effect {
                        ConnectionEffect::Connect => {
                            prop_assert!(!is_open && !tries);
                            if let Some(before) = connected_at {
                                let first = policy().backoff.first;
                                prop_assert!(now.since(before) >= first / 2);
                            }
                            connected_at = Some(now);
                            tries = true;
                        }
                        ConnectionEffect::Ping => prop_assert!(is_open),
                        ConnectionEffect::Disconnect(_) => {
                            prop_assert!(is_open || tries);
                            (tries, is_open) = (false, false);
                        }
                    }
                }
                prop_assert!(connection.wake_at() > now, "it would spin");
            }
            // Left alone, it connects again before long.
            let patience = Span::from_secs(60);
            let end = now.after(patience);
            while !tries && now < end {
                now = now.max(connection.wake_at());
                let effect = connection.on_wake(now);
                tries = effect == Some(ConnectionEffect::Connect);
            }
            prop_assert!(tries);
        }
    }
}
