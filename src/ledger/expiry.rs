//! Whose session has been silent for too long, by the clock of whoever looks.
//!
//! Every node could tell; the leader of the log proposes it. A look that comes much later than the one
//! before says that the node that looks was away: what was sent to it meanwhile may still wait to be
//! read, so nobody is blamed for that time.

use std::collections::BTreeMap;

use super::{Ledger, Operation, SessionId};
use crate::domain::{Span, Timestamp};

/// One node's watch over all sessions.
#[derive(Clone, Debug)]
pub struct Expiry {
    ttl: Span,
    /// By session: how often it had been renewed, and when that was first seen.
    seen: BTreeMap<SessionId, (u64, Timestamp)>,
    looked: Option<Timestamp>,
    /// Since when this node leads.
    led: Option<Timestamp>,
}

impl Expiry {
    /// Sessions live for `ttl` without being renewed.
    pub fn new(ttl: Span) -> Self {
        Self { ttl, seen: BTreeMap::new(), looked: None, led: None }
    }

    /// How often to look.
    pub fn pace(&self) -> Span {
        self.ttl / 16
    }

    /// Looks at the sessions of `ledger`; returns what to propose, if this node leads.
    pub fn on_look(&mut self, ledger: &Ledger, leads: bool, now: Timestamp) -> Vec<Operation> {
        let away = self.looked.map_or(Span::ZERO, |looked| now.since(looked));
        self.looked = Some(now);
        let away = if away > self.pace() * 4 { away } else { Span::ZERO };
        self.led = leads.then(|| self.led.unwrap_or(now).after(away));
        let sessions = ledger.sessions();
        self.seen.retain(|session, _| sessions.contains_key(session));
        let mut expired = Vec::new();
        for (&session, open) in sessions {
            let (renewals, since) = self.seen.entry(session).or_insert((open.renewals, now));
            if *renewals == open.renewals {
                *since = since.after(away).min(now);
            } else {
                (*renewals, *since) = (open.renewals, now);
            }
            let Some(led) = self.led else { continue };
            // While there was no leader nobody could renew: two chances before anyone is blamed.
            let until = since.after(self.ttl).max(led.after(self.ttl / 2));
            if now >= until {
                expired.push(Operation::ExpireSession { session, renewals: *renewals });
            }
        }
        expired
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Command, Opening};

    const TTL: Span = Span::from_millis(1_600);

    fn at(milliseconds: u64) -> Timestamp {
        Timestamp::from_nanos(milliseconds * 1_000_000)
    }

    fn do_it(ledger: &mut Ledger, operation: Operation) {
        ledger.apply(&Command { id: None, operation }).answer.unwrap();
    }

    fn with_session() -> (Ledger, SessionId) {
        let mut ledger = Ledger::default();
        do_it(
            &mut ledger,
            Operation::OpenSession(Opening {
                node: "a".into(),
                incarnation: Default::default(),
                replica: 1,
                priority: 0,
                is_witness: false,
            }),
        );
        let session = *ledger.sessions().keys().next().unwrap();
        (ledger, session)
    }

    /// Looks every 100 ms from `from` to `to`; when a session was first found expired.
    fn first(expiry: &mut Expiry, ledger: &Ledger, from: u64, to: u64) -> Option<u64> {
        (from..=to).step_by(100).find(|&time| !expiry.on_look(ledger, true, at(time)).is_empty())
    }

    #[test]
    fn a_session_expires_exactly_when_it_has_been_silent_for_its_life() {
        let (mut ledger, session) = with_session();
        let mut expiry = Expiry::new(TTL);
        assert_eq!(first(&mut expiry, &ledger, 0, 1_500), None);
        do_it(&mut ledger, Operation::RenewSession { session });
        assert_eq!(first(&mut expiry, &ledger, 1_600, 5_000), Some(3_200));
        let expired = expiry.on_look(&ledger, true, at(3_300));
        assert_eq!(expired, [Operation::ExpireSession { session, renewals: 1 }], "again, if lost");
        assert_eq!(expiry.on_look(&ledger, false, at(3_400)), [], "only a leader proposes");
    }

    #[test]
    fn a_leader_that_was_stopped_blames_nobody_for_the_time_it_was_away() {
        let (ledger, _) = with_session();
        let mut expiry = Expiry::new(TTL);
        assert_eq!(first(&mut expiry, &ledger, 0, 1_000), None);
        assert_eq!(first(&mut expiry, &ledger, 60_000, 70_000), Some(60_600));
    }

    #[test]
    fn a_new_leader_gives_everyone_time_to_renew() {
        let (ledger, _) = with_session();
        let mut expiry = Expiry::new(TTL);
        for time in (0..=5_000).step_by(100) {
            assert_eq!(expiry.on_look(&ledger, false, at(time)), []);
        }
        assert_eq!(first(&mut expiry, &ledger, 5_100, 9_000), Some(5_900));
    }
}
