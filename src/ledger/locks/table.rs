//! Locks within one process: the same rules, with the time at hand.
//!
//! Nobody has to be agreed with, so what is over ends as soon as anybody looks.

use std::collections::{BTreeMap, BTreeSet};

use super::Locks;
use crate::domain::{LockCommand, LockDone, LockEvent, LockOwner, LockRefusal, Span, Timestamp};

/// When something began, and when it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Life {
    began: Timestamp,
    ends: Timestamp,
}

/// Locks that end by themselves.
#[derive(Clone, Debug, Default)]
pub struct LockTable {
    locks: Locks,
    /// Of each grant and wait, by token or ticket. As many as there are.
    lives: BTreeMap<u64, Life>,
    /// What is over first.
    ends: BTreeSet<(Timestamp, u64)>,
}

impl LockTable {
    /// What there is at `now`, but for what is over and was not looked for.
    pub fn locks(&self) -> &Locks {
        &self.locks
    }

    /// Since when a grant or wait has been there, and when it is over.
    pub fn life(&self, number: u64) -> Option<(Timestamp, Timestamp)> {
        self.lives.get(&number).map(|life| (life.began, life.ends))
    }

    /// From now on tokens are larger than `last`.
    pub fn grant_after(&mut self, last: u64) {
        self.locks.grant_after(last);
    }

    /// When something is over next.
    pub fn next_end(&self) -> Option<Timestamp> {
        self.ends.first().map(|&(ends, _)| ends)
    }

    /// Ends what is over.
    pub fn on_wake(&mut self, now: Timestamp, events: &mut Vec<LockEvent>) {
        while let Some(&(ends, number)) = self.ends.first()
            && ends <= now
        {
            self.forget(number);
            if let Some(command) = self.end_of(number) {
                // It is there, under that number, as it was found.
                let _ = self.carry_out(&command, now, events);
            }
        }
    }

    /// Carries out one command, after what is over has ended.
    ///
    /// # Errors
    ///
    /// [`LockRefusal`].
    pub fn apply(
        &mut self,
        command: &LockCommand,
        now: Timestamp,
        events: &mut Vec<LockEvent>,
    ) -> Result<LockDone, LockRefusal> {
        self.on_wake(now, events);
        self.carry_out(command, now, events)
    }

    fn carry_out(
        &mut self,
        command: &LockCommand,
        now: Timestamp,
        events: &mut Vec<LockEvent>,
    ) -> Result<LockDone, LockRefusal> {
        let from = events.len();
        let done = self.locks.apply(command, 0, events);
        for event in events.iter().skip(from) {
            match event {
                LockEvent::Granted { key, owner, token, ticket, .. } => {
                    ticket.iter().for_each(|&ticket| self.forget(ticket));
                    let ttl = self.locks.hold(key, owner).map(|hold| hold.ttl);
                    self.live(*token, ttl.unwrap_or(Span::ZERO), now);
                }
                LockEvent::Waiting { ticket, .. } => {
                    if let LockCommand::Acquire { wait, .. } = command {
                        self.live(*ticket, *wait, now);
                    }
                }
                LockEvent::Released { token: number, .. }
                | LockEvent::Cancelled { ticket: number, .. }
                | LockEvent::Aborted { ticket: number, .. } => self.forget(*number),
            }
        }
        // What was extended, or taken once more, lives on.
        if let (
            Ok(LockDone::Extended | LockDone::Granted { .. }),
            LockCommand::Extend { key, owner, .. } | LockCommand::Acquire { key, owner, .. },
        ) = (&done, command)
            && let Some(hold) = self.locks.hold(key, owner).copied()
        {
            self.live(hold.token, hold.ttl, now);
        }
        done
    }

    fn live(&mut self, number: u64, for_how_long: Span, now: Timestamp) {
        let began = self.lives.get(&number).map_or(now, |life| life.began);
        self.forget(number);
        let ends = now.after(for_how_long);
        self.lives.insert(number, Life { began, ends });
        self.ends.insert((ends, number));
    }

    fn forget(&mut self, number: u64) {
        if let Some(life) = self.lives.remove(&number) {
            self.ends.remove(&(life.ends, number));
        }
    }

    /// What ends the grant or wait of this number.
    fn end_of(&self, number: u64) -> Option<LockCommand> {
        self.locks.all().iter().find_map(|(key, lock)| {
            let of = |owner: &LockOwner| (key.clone(), owner.clone());
            let hold = lock.holders().iter().find(|(_, hold)| hold.token == number);
            if let Some((owner, hold)) = hold {
                let ((key, owner), extensions) = (of(owner), hold.extensions);
                return Some(LockCommand::Expire { key, owner, token: number, extensions });
            }
            let waiter = lock.queue().iter().find(|waiter| waiter.ticket == number)?;
            let (key, owner) = of(&waiter.owner);
            Some(LockCommand::Cancel { key, owner, ticket: number })
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::LockMode;

    fn at(milliseconds: u64) -> Timestamp {
        Timestamp::from_nanos(milliseconds * 1_000_000)
    }

    fn acquire(name: &str, key: &str, ttl: u64, wait: u64) -> LockCommand {
        LockCommand::Acquire {
            key: key.into(),
            owner: LockOwner { session: 0, name: name.into() },
            mode: LockMode::Write,
            ttl: Span::from_millis(ttl),
            wait: Span::from_millis(wait),
        }
    }

    fn holder(table: &LockTable, key: &str) -> Option<String> {
        Some(table.locks().get(key)?.holders().keys().next()?.name.clone())
    }

    #[test]
    fn a_lock_ends_with_its_time_and_goes_to_whoever_waits_still() {
        let mut table = LockTable::default();
        let mut events = Vec::new();
        table.apply(&acquire("a", "k", 100, 0), at(0), &mut events).unwrap();
        table.apply(&acquire("b", "k", 100, 50), at(0), &mut events).unwrap();
        table.apply(&acquire("c", "k", 100, 200), at(0), &mut events).unwrap();
        assert_eq!(table.next_end(), Some(at(50)), "b waits no longer");
        table.on_wake(at(99), &mut events);
        assert_eq!(holder(&table, "k").as_deref(), Some("a"));
        table.on_wake(at(100), &mut events);
        assert_eq!(holder(&table, "k").as_deref(), Some("c"));
        assert_eq!(table.next_end(), Some(at(200)), "from when it was granted");
        // Looking late ends what is over in its order.
        table.on_wake(at(1_000), &mut events);
        assert!(table.locks().all().is_empty() && table.lives.is_empty() && table.ends.is_empty());
    }

    #[test]
    fn what_is_taken_once_more_lives_on() {
        let mut table = LockTable::default();
        let mut events = Vec::new();
        table.apply(&acquire("a", "k", 100, 0), at(0), &mut events).unwrap();
        table.apply(&acquire("a", "k", 100, 0), at(60), &mut events).unwrap();
        table.on_wake(at(159), &mut events);
        assert_eq!(holder(&table, "k").as_deref(), Some("a"));
        table.on_wake(at(160), &mut events);
        assert_eq!(holder(&table, "k"), None);
    }

    proptest! {
        /// Nothing outlives its time, and nothing is remembered of what is over.
        #[test]
        fn every_grant_and_wait_has_one_life(
            steps in prop::collection::vec((0u8..4, 0u8..3, 1u64..50, 0u64..50, 0u64..30), 1..80),
        ) {
            let mut table = LockTable::default();
            let mut now = 0;
            for (who, key, ttl, wait, pause) in steps {
                now += pause;
                let command = acquire(&who.to_string(), &key.to_string(), ttl, wait);
                let _ = table.apply(&command, at(now), &mut Vec::new());
                let mut numbers = BTreeSet::new();
                for lock in table.locks().all().values() {
                    numbers.extend(lock.holders().values().map(|hold| hold.token));
                    numbers.extend(lock.queue().iter().map(|waiter| waiter.ticket));
                }
                let known: BTreeSet<u64> = table.lives.keys().copied().collect();
                prop_assert_eq!(known, numbers);
                prop_assert_eq!(table.lives.len(), table.ends.len());
                prop_assert!(table.next_end().is_none_or(|ends| ends > at(now)));
            }
        }
    }
}
