//! A node's own session: when to open and renew it, and when it counts as lost.
//!
//! A node may rely on its session until its time to live has passed since it *sent* the last renewal
//! that succeeded. Whoever lets it expire counts from when that renewal was *seen*, which is later. So
//! the node knows first (Gray and Cheriton: "Leases", 1989), as long as clocks run about equally fast;
//! an eighth is kept back for that. What must hold even if they do not is guarded by terms and epochs.
//!
//! ```text
//! Without ── open ──▶ Held ── not renewed in time, or told that it has ended ──▶ Lost, Without
//! ```

use super::{Coordinator, SessionId};
use crate::domain::{Span, Timestamp};

/// What the node has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeeperEffect {
    /// Ask the ledger for a session, and say when it was asked.
    Open,
    /// Ask the ledger to renew this one.
    Renew(SessionId),
    /// The session can be relied on no more: stop whatever is owned or coordinated under it, at once.
    Lost(SessionId),
}

/// One node's hold on its session.
#[derive(Clone, Debug)]
pub struct Keeper {
    ttl: Span,
    held: Option<Held>,
    /// When the ledger is to be asked next; none, while an answer is awaited.
    next: Option<Timestamp>,
    /// When the answer that is awaited was asked for.
    asked: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    session: SessionId,
    /// When the last request was sent that succeeded.
    confirmed: Timestamp,
}

impl Keeper {
    /// A node without a session, which wants one. `ttl` is how long a session lives without renewal.
    pub fn new(ttl: Span, now: Timestamp) -> Self {
        Self { ttl, held: None, next: Some(now), asked: now }
    }

    /// How long a session can be relied on after it was confirmed.
    fn lease(&self) -> Span {
        self.ttl - self.ttl / 8
    }

    /// Between two renewals, and between two attempts to open one.
    fn pace(&self) -> Span {
        self.ttl / 4
    }

    /// How long an answer may take: half a life, or a lost one would cost the session.
    pub fn patience(&self) -> Span {
        self.ttl / 2
    }

    /// Time has passed.
    pub fn on_wake(&mut self, now: Timestamp) -> Vec<KeeperEffect> {
        let mut effects = self.check(now);
        if self.next.is_some_and(|at| at <= now) {
            self.next = None;
            self.asked = now;
            effects.push(match self.held {
                Some(held) => KeeperEffect::Renew(held.session),
                None => KeeperEffect::Open,
            });
        }
        effects
    }

    fn check(&mut self, now: Timestamp) -> Vec<KeeperEffect> {
        let lease = self.lease();
        let lost = self.held.take_if(|held| now >= held.confirmed.after(lease));
        lost.map(|held| KeeperEffect::Lost(held.session)).into_iter().collect()
    }

    /// The ledger has opened, or renewed, this session.
    pub fn on_confirmed(&mut self, session: SessionId, now: Timestamp) -> Vec<KeeperEffect> {
        let mut effects = Vec::new();
        if let Some(other) = self.held.take_if(|held| held.session != session) {
            effects.push(KeeperEffect::Lost(other.session));
        }
        self.held = Some(Held { session, confirmed: self.asked });
        self.next = Some(self.asked.after(self.pace()));
        // The answer may have taken so long that it is worth nothing.
        effects.extend(self.check(now));
        effects
    }

    /// The ledger says that there is no such session.
    pub fn on_ended(&mut self, session: SessionId, now: Timestamp) -> Vec<KeeperEffect> {
        self.next = Some(now);
        let lost = self.held.take_if(|held| held.session == session);
        lost.map(|held| KeeperEffect::Lost(held.session)).into_iter().collect()
    }

    /// There was no answer, or another one than was hoped for.
    pub fn on_failed(&mut self, now: Timestamp) {
        self.next = Some(now.after(self.pace() / 4));
    }

    /// The session that this node has and may rely on.
    pub fn session(&self, now: Timestamp) -> Option<SessionId> {
        let held = self.held?;
        (now < held.confirmed.after(self.lease())).then_some(held.session)
    }

    /// The term under which this node may act as coordinator just now, given whom the ledger, as far as
    /// this node knows it, says to be that.
    pub fn term(&self, coordinator: &Coordinator, now: Timestamp) -> Option<u64> {
        let (_, session) = coordinator.holder.as_ref()?;
        (self.session(now) == Some(*session)).then_some(coordinator.term)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TTL: Span = Span::from_millis(800);
    const S: SessionId = SessionId(7);

    fn at(milliseconds: u64) -> Timestamp {
        Timestamp::from_nanos(milliseconds * 1_000_000)
    }

    #[test]
    fn a_session_is_opened_renewed_and_relied_on_for_less_than_it_lives() {
        let mut keeper = Keeper::new(TTL, at(0));
        assert_eq!(keeper.on_wake(at(0)), [KeeperEffect::Open]);
        assert_eq!(keeper.on_wake(at(1)), [], "one question at a time");
        assert_eq!(keeper.on_confirmed(S, at(50)), []);
        assert_eq!(keeper.on_wake(at(199)), []);
        assert_eq!(keeper.on_wake(at(200)), [KeeperEffect::Renew(S)]);
        assert_eq!(keeper.session(at(699)), Some(S));
        assert_eq!(keeper.session(at(700)), None, "counted from when the request was sent");
        assert_eq!(keeper.on_wake(at(700)), [KeeperEffect::Lost(S)]);
        assert_eq!(keeper.on_wake(at(701)), [], "once");
    }

    #[test]
    fn an_answer_that_comes_too_late_gives_no_session() {
        let mut keeper = Keeper::new(TTL, at(0));
        keeper.on_wake(at(0));
        assert_eq!(keeper.on_confirmed(S, at(700)), [KeeperEffect::Lost(S)]);
        assert_eq!(keeper.session(at(700)), None);
        assert_eq!(keeper.on_wake(at(700)), [KeeperEffect::Open]);
    }

    #[test]
    fn a_session_that_has_ended_is_lost_and_another_asked_for_at_once() {
        let mut keeper = Keeper::new(TTL, at(0));
        keeper.on_wake(at(0));
        keeper.on_confirmed(S, at(10));
        keeper.on_wake(at(200));
        assert_eq!(keeper.on_ended(S, at(210)), [KeeperEffect::Lost(S)]);
        assert_eq!(keeper.on_wake(at(210)), [KeeperEffect::Open]);
        keeper.on_failed(at(220));
        assert_eq!(keeper.on_wake(at(269)), []);
        assert_eq!(keeper.on_wake(at(270)), [KeeperEffect::Open]);
    }

    #[test]
    fn only_the_session_that_coordinates_may_act_and_only_while_it_is_held() {
        let mut keeper = Keeper::new(TTL, at(0));
        keeper.on_wake(at(0));
        keeper.on_confirmed(S, at(1));
        let of = |session| Coordinator { term: 3, holder: Some(("a".into(), session)) };
        assert_eq!(keeper.term(&of(S), at(2)), Some(3));
        assert_eq!(keeper.term(&of(SessionId(6)), at(2)), None, "an earlier session of this node");
        assert_eq!(keeper.term(&of(S), at(700)), None);
        assert_eq!(keeper.term(&Coordinator::default(), at(2)), None);
    }

    proptest! {
        /// Whatever is answered when: a session is relied on only within a lease of a request, and each
        /// one that was gained is lost at most once, and is before it is held no more.
        #[test]
        fn a_session_is_never_relied_on_for_longer_than_it_lives(
            steps in proptest::collection::vec((0u8..5, 0u64..400), 1..100),
        ) {
            let mut keeper = Keeper::new(TTL, at(0));
            let (mut now, mut asked, mut number) = (at(0), None, 0);
            let mut confirmed = at(0);
            for (what, milliseconds) in steps {
                now = now.after(Span::from_millis(milliseconds));
                let effects = match (what, asked) {
                    (0, Some(sent)) => {
                        number += u64::from(keeper.session(now).is_none());
                        (confirmed, asked) = (sent, None);
                        keeper.on_confirmed(SessionId(number), now)
                    }
                    (1, Some(_)) => {
                        asked = None;
                        keeper.on_ended(SessionId(number), now)
                    }
                    (2, Some(_)) => {
                        asked = None;
                        keeper.on_failed(now);
                        Vec::new()
                    }
                    _ => keeper.on_wake(now),
                };
                for effect in &effects {
                    match effect {
                        KeeperEffect::Open | KeeperEffect::Renew(_) => asked = Some(now),
                        KeeperEffect::Lost(lost) => {
                            prop_assert!(keeper.session(now) != Some(*lost));
                        }
                    }
                }
                if keeper.session(now).is_some() {
                    prop_assert!(now.since(confirmed) < TTL);
                }
            }
        }
    }
}
