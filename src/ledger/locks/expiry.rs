//! Whose lock has lived, or wait has lasted, for too long, by the clock of whoever looks.
//!
//! As with sessions ([`crate::ledger::Expiry`]): a lock's time counts from when the looker first saw that it
//! was granted or extended, so it is never shorter than its owner believes; a look that comes much later
//! than the one before says that the looker was away, and nobody is blamed for that time; and whoever
//! begins to lead leaves everyone time for an extension, for while nobody led there could be none.

use std::collections::BTreeMap;

use super::Locks;
use crate::domain::{LockCommand, LockOwner, Span, Timestamp};

/// A longer pause between looks than so many paces is a time in which the looker was away.
const AWAY_PACES: u32 = 4;

#[derive(Clone, Copy, Debug)]
struct Seen {
    extensions: u64,
    /// When the grant or wait was first seen.
    first: Timestamp,
    /// When the last extension was.
    last: Timestamp,
}

/// One node's watch over all locks.
#[derive(Clone, Debug)]
pub struct LockExpiry {
    pace: Span,
    /// By token or ticket; as many as there are.
    seen: BTreeMap<u64, Seen>,
    looked: Option<Timestamp>,
    /// Since when this node leads.
    led: Option<Timestamp>,
}

impl LockExpiry {
    /// Whoever uses it looks about every `pace`.
    pub fn new(pace: Span) -> Self {
        Self { pace, seen: BTreeMap::new(), looked: None, led: None }
    }

    /// Since when a grant or wait has been there, and since when it lives its present life, as far as this
    /// node has seen.
    pub fn seen(&self, number: u64) -> Option<(Timestamp, Timestamp)> {
        self.seen.get(&number).map(|seen| (seen.first, seen.last))
    }

    /// Looks at `locks`; returns what to propose, if this node leads.
    pub fn on_look(&mut self, locks: &Locks, leads: bool, now: Timestamp) -> Vec<LockCommand> {
        let away = self.looked.map_or(Span::ZERO, |looked| now.since(looked));
        self.looked = Some(now);
        let away = if away > self.pace * AWAY_PACES { away } else { Span::ZERO };
        self.led = leads.then(|| self.led.unwrap_or(now).after(away).min(now));
        let led = self.led;
        let mut before = std::mem::take(&mut self.seen);
        let mut proposed = Vec::new();
        // Whether something that lives for `life` is over.
        let mut is_over = |number: u64, extensions: u64, life: Span| {
            let new = Seen { extensions, first: now, last: now };
            let mut seen = before.remove(&number).unwrap_or(new);
            if seen.extensions == extensions {
                seen.last = seen.last.after(away).min(now);
            } else {
                (seen.extensions, seen.last) = (extensions, now);
            }
            self.seen.insert(number, seen);
            led.is_some_and(|led| now >= seen.last.after(life).max(led.after(life / 2)))
        };
        for (key, lock) in locks.all() {
            let of = |owner: &LockOwner| (key.clone(), owner.clone());
            for (holder, hold) in lock.holders() {
                let (token, extensions) = (hold.token, hold.extensions);
                if is_over(token, extensions, hold.ttl) {
                    let (key, owner) = of(holder);
                    proposed.push(LockCommand::Expire { key, owner, token, extensions });
                }
            }
            for waiter in lock.queue() {
                if is_over(waiter.ticket, 0, waiter.wait) {
                    let (key, owner) = of(&waiter.owner);
                    proposed.push(LockCommand::Cancel { key, owner, ticket: waiter.ticket });
                }
            }
        }
        proposed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{LockDone, LockMode};

    const TTL: Span = Span::from_millis(1_000);

    fn at(milliseconds: u64) -> Timestamp {
        Timestamp::from_nanos(milliseconds * 1_000_000)
    }

    fn owner(name: &str) -> LockOwner {
        LockOwner { session: 1, name: name.into() }
    }

    fn acquire(locks: &mut Locks, name: &str, wait: Span) -> u64 {
        let command = LockCommand::Acquire {
            key: "k".into(),
            owner: owner(name),
            mode: LockMode::Write,
            ttl: TTL,
            wait,
        };
        let done = locks.apply(&command, 0, &mut Vec::new()).unwrap();
        if let LockDone::Granted { token: number, .. } | LockDone::Waiting { ticket: number } = done
        {
            return number;
        }
        panic!("{done:?}")
    }

    /// Looks every 100 ms; when something was first proposed.
    fn first(expiry: &mut LockExpiry, locks: &Locks, from: u64, to: u64) -> Option<u64> {
        (from..=to).step_by(100).find(|&time| !expiry.on_look(locks, true, at(time)).is_empty())
    }

    #[test]
    fn a_lock_ends_exactly_when_it_has_lived_its_time_and_an_extension_begins_it_anew() {
        let (mut locks, mut expiry) = (Locks::default(), LockExpiry::new(Span::from_millis(100)));
        let token = acquire(&mut locks, "a", Span::ZERO);
        assert_eq!(first(&mut expiry, &locks, 0, 900), None);
        let extend = LockCommand::Extend { key: "k".into(), owner: owner("a"), token, ttl: TTL };
        locks.apply(&extend, 0, &mut Vec::new()).unwrap();
        assert_eq!(first(&mut expiry, &locks, 1_000, 5_000), Some(2_000));
        let expired = expiry.on_look(&locks, true, at(2_100));
        let expire =
            LockCommand::Expire { key: "k".into(), owner: owner("a"), token, extensions: 1 };
        assert_eq!(expired, [expire], "again, if lost");
        assert_eq!(expiry.on_look(&locks, false, at(2_200)), [], "only a leader proposes");
        let again = first(&mut expiry, &locks, 2_300, 5_000);
        assert_eq!(again, Some(2_800), "whoever begins to lead leaves time for an extension");
    }

    #[test]
    fn who_waits_for_longer_than_it_said_is_sent_away_though_it_never_says_so() {
        let (mut locks, mut expiry) = (Locks::default(), LockExpiry::new(Span::from_millis(100)));
        acquire(&mut locks, "a", Span::ZERO);
        let ticket = acquire(&mut locks, "b", Span::from_millis(300));
        assert_eq!(first(&mut expiry, &locks, 0, 200), None);
        let cancel = LockCommand::Cancel { key: "k".into(), owner: owner("b"), ticket };
        assert_eq!(expiry.on_look(&locks, true, at(300)), [cancel]);
    }

    #[test]
    fn a_leader_that_was_stopped_ends_no_lock_for_the_time_it_was_away() {
        let (mut locks, mut expiry) = (Locks::default(), LockExpiry::new(Span::from_millis(100)));
        acquire(&mut locks, "a", Span::ZERO);
        assert_eq!(first(&mut expiry, &locks, 0, 500), None);
        assert_eq!(first(&mut expiry, &locks, 60_000, 70_000), Some(60_500));
    }
}
