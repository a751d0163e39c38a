//! Locks, see [`crate::domain::LockCommand`].
//!
//! ```text
//! key ──▶ holders (one that writes, or any that read) ◀── queue, first come first served
//!              ▲                                             │
//!              └── owner: since when it is at work, what it waits for
//! ```
//!
//! No clock is read here: that a lock's time is over is a command, which whoever leads proposes
//! ([`LockExpiry`]).
//!
//! # Invariants
//!
//! 1. Whoever writes holds a lock alone.
//! 2. Tokens only grow, over all locks; no two grants have the same.
//! 3. Nobody overtakes who waits, so the first of a queue always waits for somebody who holds the lock.
//! 4. Nobody waits in a circle: the owner in it that began last waits no longer.
//! 5. A lock is free once as many holds were given back as its owner took, and then it is not remembered.

mod away;
mod expiry;
mod table;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

pub use away::{KeeperHealth, WhenAway};
pub use expiry::LockExpiry;
pub use table::LockTable;

use crate::domain::{
    LockCommand, LockDone, LockEnd, LockEvent, LockMode, LockOwner, LockRefusal, LockStatistics,
    Span,
};

/// Longest key of a lock, in bytes.
pub const LOCK_KEY_BYTES_MAX: usize = 256;

/// Longest name of an owner, in bytes.
pub const LOCK_OWNER_BYTES_MAX: usize = 128;

/// Locks that may be held.
const LOCKS_MAX: usize = 16_384;

/// Owners that may read one lock at once.
const HOLDERS_MAX: usize = 1_024;

/// Owners that may wait for one lock.
const WAITERS_MAX: usize = 256;

/// Owners that may hold or wait for anything: each waits for one lock at most.
const OWNERS_MAX: usize = 16_384;

const TTL_MIN: Span = Span::from_millis(1);

/// What one owner has of a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockHold {
    /// How.
    pub mode: LockMode,
    /// Of the grant.
    pub token: u64,
    /// Holds that are to be given back.
    pub holds: u32,
    /// How long it lives after it was granted or extended.
    pub ttl: Span,
    /// How often it was extended.
    pub extensions: u64,
}

/// Somebody in a queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockWaiter {
    /// Who.
    pub owner: LockOwner,
    /// How it wants the lock.
    pub mode: LockMode,
    /// Which wait this is.
    pub ticket: u64,
    /// For how long it wants the lock.
    pub ttl: Span,
    /// How long it waits.
    pub wait: Span,
}

/// A lock that is held.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// At most [`HOLDERS_MAX`]; one, if it writes.
    holders: BTreeMap<LockOwner, LockHold>,
    /// At most [`WAITERS_MAX`].
    queue: VecDeque<LockWaiter>,
}

impl Lock {
    /// Who has it.
    pub fn holders(&self) -> &BTreeMap<LockOwner, LockHold> {
        &self.holders
    }

    /// Who waits for it, in order.
    pub fn queue(&self) -> &VecDeque<LockWaiter> {
        &self.queue
    }

    /// Whether somebody who asks for it now has to wait.
    fn is_taken(&self, mode: LockMode) -> bool {
        !self.queue.is_empty() || self.excludes(mode)
    }

    /// Whether those who hold it exclude somebody who wants it so.
    fn excludes(&self, mode: LockMode) -> bool {
        self.holders.values().any(|hold| hold.mode.excludes(mode))
    }
}

/// An owner that holds or waits for anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Standing {
    /// When it began: the greater, the younger.
    since: u64,
    /// Which locks it holds.
    held: BTreeSet<String>,
    /// Which lock it waits for.
    awaited: Option<String>,
}

/// All locks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Locks {
    /// At most [`LOCKS_MAX`].
    locks: BTreeMap<String, Lock>,
    /// At most [`OWNERS_MAX`].
    owners: BTreeMap<LockOwner, Standing>,
    /// The last token or ticket that was given out.
    last: u64,
    statistics: LockStatistics,
}

impl Locks {
    /// Those that are held, by key.
    pub fn all(&self) -> &BTreeMap<String, Lock> {
        &self.locks
    }

    /// The lock called `key`; none, if it is free.
    pub fn get(&self, key: &str) -> Option<&Lock> {
        self.locks.get(key)
    }

    /// What `owner` has of `key`.
    pub fn hold(&self, key: &str, owner: &LockOwner) -> Option<&LockHold> {
        self.locks.get(key)?.holders.get(owner)
    }

    /// Counts since the beginning.
    pub fn statistics(&self) -> &LockStatistics {
        &self.statistics
    }

    /// From now on tokens are larger than `last`.
    pub(super) fn grant_after(&mut self, last: u64) {
        self.last = self.last.max(last);
    }

    /// Carries out one command. Tokens are at least `revision`.
    ///
    /// # Errors
    ///
    /// [`LockRefusal`]; nothing changed then, but for who had to be aborted.
    pub fn apply(
        &mut self,
        command: &LockCommand,
        revision: u64,
        events: &mut Vec<LockEvent>,
    ) -> Result<LockDone, LockRefusal> {
        self.grant_after(revision.saturating_sub(1));
        match command {
            LockCommand::Acquire { key, owner, mode, ttl, wait } => {
                self.acquire(key, owner, (*mode, *ttl, *wait), events)
            }
            LockCommand::Unlock { key, owner, token } => self.unlock(key, owner, *token, events),
            LockCommand::Extend { key, owner, token, ttl } => {
                check_ttl(*ttl)?;
                let hold = self.held_mut(key, owner, *token)?;
                hold.ttl = *ttl;
                hold.extensions += 1;
                self.statistics.extensions += 1;
                Ok(LockDone::Extended)
            }
            LockCommand::Cancel { key, owner, ticket } => {
                self.withdraw(key, owner, *ticket)?;
                self.statistics.timeouts += 1;
                let (key, owner) = (key.clone(), owner.clone());
                events.push(LockEvent::Cancelled { key: key.clone(), owner, ticket: *ticket });
                self.grant_next(&key, events);
                Ok(LockDone::Cancelled)
            }
            LockCommand::Expire { key, owner, token, extensions } => {
                if self.held_mut(key, owner, *token)?.extensions != *extensions {
                    return Err(LockRefusal::Renewed { key: key.clone() });
                }
                self.statistics.expiries += 1;
                self.release(key, owner, LockEnd::Expired, events);
                Ok(LockDone::Expired)
            }
        }
    }

    /// Takes everything from the owners of a session that has ended.
    pub fn end_session(&mut self, session: u64, events: &mut Vec<LockEvent>) {
        let from = LockOwner { session, name: String::new() };
        let of = self.owners.range(from..).take_while(|(owner, _)| owner.session == session);
        let ended: Vec<LockOwner> = of.map(|(owner, _)| owner.clone()).collect();
        // Who waits goes first, or it would be granted what another owner of the session gives back.
        for owner in &ended {
            let awaited = self.owners.get(owner).and_then(|standing| standing.awaited.clone());
            let Some(key) = awaited else { continue };
            let ticket = self.ticket(&key, owner).unwrap_or(0);
            if self.withdraw(&key, owner, ticket).is_ok() {
                events.push(LockEvent::Cancelled {
                    key: key.clone(),
                    owner: owner.clone(),
                    ticket,
                });
                self.grant_next(&key, events);
            }
        }
        for owner in &ended {
            let held = self.owners.get(owner).map(|standing| standing.held.clone());
            for key in held.unwrap_or_default() {
                self.statistics.session_ends += 1;
                self.release(&key, owner, LockEnd::SessionEnded, events);
            }
        }
    }

    fn acquire(
        &mut self,
        key: &str,
        owner: &LockOwner,
        (mode, ttl, wait): (LockMode, Span, Span),
        events: &mut Vec<LockEvent>,
    ) -> Result<LockDone, LockRefusal> {
        check_names(key, owner)?;
        check_ttl(ttl)?;
        if let Some(done) = self.reenter(key, owner, mode, ttl)? {
            return Ok(done);
        }
        if self.owners.len() >= OWNERS_MAX && !self.owners.contains_key(owner) {
            return Err(full("owners of locks", OWNERS_MAX));
        }
        let Some(lock) = self.locks.get(key) else {
            if self.locks.len() >= LOCKS_MAX {
                return Err(full("locks", LOCKS_MAX));
            }
            return Ok(self.grant(key, owner, (mode, ttl), None, events));
        };
        if !lock.is_taken(mode) {
            if lock.holders.len() >= HOLDERS_MAX {
                return Err(full("owners that read one lock", HOLDERS_MAX));
            }
            return Ok(self.grant(key, owner, (mode, ttl), None, events));
        }
        if wait == Span::ZERO {
            self.statistics.refusals += 1;
            let by = lock.holders.keys().next().cloned().unwrap_or_else(|| owner.clone());
            return Err(LockRefusal::Held { key: key.to_owned(), by });
        }
        self.enqueue(key, owner, (mode, ttl, wait), events)
    }

    /// One hold more of what `owner` has; none, if it has nothing.
    fn reenter(
        &mut self,
        key: &str,
        owner: &LockOwner,
        mode: LockMode,
        ttl: Span,
    ) -> Result<Option<LockDone>, LockRefusal> {
        let lock = self.locks.get_mut(key);
        let Some(hold) = lock.and_then(|lock| lock.holders.get_mut(owner)) else {
            return Ok(None);
        };
        if hold.mode == LockMode::Read && mode == LockMode::Write {
            return Err(LockRefusal::Upgrade { key: key.to_owned() });
        }
        let Some(holds) = hold.holds.checked_add(1) else {
            return Err(full("holds of one lock", u32::MAX as usize));
        };
        (hold.holds, hold.ttl) = (holds, hold.ttl.max(ttl));
        hold.extensions += 1;
        self.statistics.reentries += 1;
        Ok(Some(LockDone::Granted { token: hold.token, holds }))
    }

    fn enqueue(
        &mut self,
        key: &str,
        owner: &LockOwner,
        (mode, ttl, wait): (LockMode, Span, Span),
        events: &mut Vec<LockEvent>,
    ) -> Result<LockDone, LockRefusal> {
        let awaited = self.owners.get(owner).and_then(|standing| standing.awaited.as_ref());
        if let Some(awaited) = awaited {
            return Err(LockRefusal::WaitsAlready { key: awaited.clone() });
        }
        let Some(lock) = self.locks.get_mut(key).filter(|lock| lock.queue.len() < WAITERS_MAX)
        else {
            return Err(full("owners that wait for one lock", WAITERS_MAX));
        };
        self.last += 1;
        let ticket = self.last;
        lock.queue.push_back(LockWaiter { owner: owner.clone(), mode, ticket, ttl, wait });
        let standing = self.owners.entry(owner.clone()).or_insert_with(|| Standing::new(ticket));
        standing.awaited = Some(key.to_owned());
        self.statistics.waits += 1;
        let (at, who) = (key.to_owned(), owner.clone());
        events.push(LockEvent::Waiting { key: at, owner: who, ticket });
        // Whoever is aborted may be another than the one that closed the circle, and others may be left.
        while let Some(cycle) = self.cycle_through(owner) {
            let since = |owner: &LockOwner| self.owners.get(owner).map(|standing| standing.since);
            let Some(youngest) = cycle.iter().max_by_key(|&owner| since(owner)).cloned() else {
                break;
            };
            self.abort(&youngest, &cycle, events);
            if youngest == *owner {
                return Err(LockRefusal::Deadlock { key: key.to_owned(), cycle });
            }
        }
        // That somebody was aborted may have made room.
        match self.hold(key, owner) {
            Some(&LockHold { token, holds, .. }) => Ok(LockDone::Granted { token, holds }),
            None => Ok(LockDone::Waiting { ticket }),
        }
    }

    /// Who waits for whom, from `owner` back to it.
    fn cycle_through(&self, owner: &LockOwner) -> Option<Vec<LockOwner>> {
        // Who was reached from whom.
        let mut reached: BTreeMap<&LockOwner, &LockOwner> = BTreeMap::new();
        let mut open = vec![owner];
        while let Some(waiter) = open.pop() {
            for blocker in self.blockers(waiter) {
                if blocker == owner {
                    let mut cycle = vec![waiter.clone()];
                    let mut at = waiter;
                    while let Some(&from) = reached.get(at) {
                        cycle.push(from.clone());
                        at = from;
                    }
                    cycle.reverse();
                    return Some(cycle);
                }
                if !reached.contains_key(blocker) {
                    reached.insert(blocker, waiter);
                    open.push(blocker);
                }
            }
        }
        None
    }

    /// Whom `owner` waits for: those who hold what it wants, and those before it.
    fn blockers(&self, owner: &LockOwner) -> Vec<&LockOwner> {
        let awaited = self.owners.get(owner).and_then(|standing| standing.awaited.as_ref());
        let Some(lock) = awaited.and_then(|key| self.locks.get(key)) else { return Vec::new() };
        let Some(at) = lock.queue.iter().position(|waiter| waiter.owner == *owner) else {
            return Vec::new();
        };
        let mode = lock.queue[at].mode;
        let holders = lock.holders.iter().filter(|(_, hold)| hold.mode.excludes(mode));
        let before = lock.queue.iter().take(at).filter(|waiter| waiter.mode.excludes(mode));
        holders.map(|(owner, _)| owner).chain(before.map(|waiter| &waiter.owner)).collect()
    }

    fn abort(&mut self, owner: &LockOwner, cycle: &[LockOwner], events: &mut Vec<LockEvent>) {
        let awaited = self.owners.get(owner).and_then(|standing| standing.awaited.clone());
        let Some(key) = awaited else { return };
        let ticket = self.ticket(&key, owner).unwrap_or(0);
        if self.withdraw(&key, owner, ticket).is_err() {
            return;
        }
        self.statistics.deadlocks += 1;
        let (at, cycle) = (key.clone(), cycle.to_vec());
        events.push(LockEvent::Aborted { key: at, owner: owner.clone(), ticket, cycle });
        self.grant_next(&key, events);
    }

    fn ticket(&self, key: &str, owner: &LockOwner) -> Option<u64> {
        let lock = self.locks.get(key)?;
        lock.queue.iter().find(|waiter| waiter.owner == *owner).map(|waiter| waiter.ticket)
    }

    /// Takes a waiter out of the queue.
    fn withdraw(&mut self, key: &str, owner: &LockOwner, ticket: u64) -> Result<(), LockRefusal> {
        let not_waiting = || LockRefusal::NotWaiting { key: key.to_owned(), ticket };
        let lock = self.locks.get_mut(key).ok_or_else(not_waiting)?;
        let is_meant = |waiter: &LockWaiter| waiter.owner == *owner && waiter.ticket == ticket;
        let at = lock.queue.iter().position(is_meant).ok_or_else(not_waiting)?;
        lock.queue.remove(at);
        if let Some(standing) = self.owners.get_mut(owner) {
            standing.awaited = None;
        }
        self.forget_idle(owner);
        Ok(())
    }

    fn grant(
        &mut self,
        key: &str,
        owner: &LockOwner,
        (mode, ttl): (LockMode, Span),
        ticket: Option<u64>,
        events: &mut Vec<LockEvent>,
    ) -> LockDone {
        self.last += 1;
        let token = self.last;
        let lock = self.locks.entry(key.to_owned()).or_default();
        debug_assert!(!lock.excludes(mode), "invariant 1");
        let hold = LockHold { mode, token, holds: 1, ttl, extensions: 0 };
        lock.holders.insert(owner.clone(), hold);
        let standing = self.owners.entry(owner.clone()).or_insert_with(|| Standing::new(token));
        standing.held.insert(key.to_owned());
        self.statistics.grants += 1;
        let (key, owner) = (key.to_owned(), owner.clone());
        events.push(LockEvent::Granted { key, owner, mode, token, ticket });
        LockDone::Granted { token, holds: 1 }
    }

    fn held_mut(
        &mut self,
        key: &str,
        owner: &LockOwner,
        token: u64,
    ) -> Result<&mut LockHold, LockRefusal> {
        let lock = self.locks.get_mut(key);
        let hold = lock.and_then(|lock| lock.holders.get_mut(owner));
        let not_held = || LockRefusal::NotHeld { key: key.to_owned(), token };
        hold.filter(|hold| hold.token == token).ok_or_else(not_held)
    }

    fn unlock(
        &mut self,
        key: &str,
        owner: &LockOwner,
        token: u64,
        events: &mut Vec<LockEvent>,
    ) -> Result<LockDone, LockRefusal> {
        let hold = self.held_mut(key, owner, token)?;
        hold.holds -= 1;
        let holds = hold.holds;
        if holds == 0 {
            self.statistics.releases += 1;
            self.release(key, owner, LockEnd::Unlocked, events);
        }
        Ok(LockDone::Released { holds })
    }

    /// Takes the lock from its owner, however often that took it.
    fn release(&mut self, key: &str, owner: &LockOwner, end: LockEnd, events: &mut Vec<LockEvent>) {
        let Some(lock) = self.locks.get_mut(key) else { return };
        let Some(hold) = lock.holders.remove(owner) else { return };
        if let Some(standing) = self.owners.get_mut(owner) {
            standing.held.remove(key);
        }
        self.forget_idle(owner);
        let (at, owner) = (key.to_owned(), owner.clone());
        events.push(LockEvent::Released { key: at, owner, token: hold.token, end });
        self.grant_next(key, events);
    }

    /// Gives a lock to the first of its queue, and those behind, as far as they do not exclude each other.
    fn grant_next(&mut self, key: &str, events: &mut Vec<LockEvent>) {
        while let Some(lock) = self.locks.get_mut(key) {
            let Some(first) = lock.queue.front() else {
                if lock.holders.is_empty() {
                    self.locks.remove(key);
                }
                return;
            };
            if lock.excludes(first.mode) || lock.holders.len() >= HOLDERS_MAX {
                return;
            }
            let Some(LockWaiter { owner, mode, ticket, ttl, .. }) = lock.queue.pop_front() else {
                return;
            };
            if let Some(standing) = self.owners.get_mut(&owner) {
                standing.awaited = None;
            }
            self.statistics.wait_grants += 1;
            self.grant(key, &owner, (mode, ttl), Some(ticket), events);
        }
    }

    fn forget_idle(&mut self, owner: &LockOwner) {
        let is_idle = |standing: &Standing| standing.held.is_empty() && standing.awaited.is_none();
        if self.owners.get(owner).is_some_and(is_idle) {
            self.owners.remove(owner);
        }
    }
}

impl Standing {
    fn new(since: u64) -> Self {
        Self { since, held: BTreeSet::new(), awaited: None }
    }
}

fn full(what: &str, limit: usize) -> LockRefusal {
    LockRefusal::Full { what: what.into(), limit: limit as u64 }
}

fn check_names(key: &str, owner: &LockOwner) -> Result<(), LockRefusal> {
    let fits = |name: &str, limit| (1..=limit).contains(&name.len());
    if fits(key, LOCK_KEY_BYTES_MAX) && fits(&owner.name, LOCK_OWNER_BYTES_MAX) {
        return Ok(());
    }
    let (key_max, name_max) = (LOCK_KEY_BYTES_MAX as u64, LOCK_OWNER_BYTES_MAX as u64);
    Err(LockRefusal::Length { key_max, name_max })
}

fn check_ttl(ttl: Span) -> Result<(), LockRefusal> {
    if ttl < TTL_MIN { Err(LockRefusal::TimeToLive) } else { Ok(()) }
}
