//! Locks of this process alone: nothing is sent and nothing is stored.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tickwright_core::domain::{
    LockCommand, LockDone, LockEvent, LockOwner, LockRefusal, LockStatistics, Timestamp,
};
use tickwright_core::ledger::LockTable;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::{
    EVENTS_MAX, LockAsk, LockBackend, LockError, LockGrant, LockView, Pending, confused,
    end_of_wait, released, views,
};
use crate::kit::monotonic_nanos;

/// See the module.
#[derive(Debug)]
pub struct LocalLocks {
    table: Mutex<LockTable>,
    events: broadcast::Sender<LockEvent>,
    /// What this node is called.
    node: String,
}

fn now() -> Timestamp {
    Timestamp::from_nanos(monotonic_nanos())
}

impl LocalLocks {
    /// Locks of `node`.
    pub fn new(node: &str) -> Self {
        let events = broadcast::channel(EVENTS_MAX).0;
        Self { table: Mutex::default(), events, node: node.to_owned() }
    }

    fn owner(name: &str) -> LockOwner {
        LockOwner { session: 0, name: name.to_owned() }
    }

    fn with<T>(&self, work: impl FnOnce(&mut LockTable, &mut Vec<LockEvent>) -> T) -> T {
        let mut events = Vec::new();
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let done = work(&mut table, &mut events);
        // In the order in which they happened, so before anybody else may look.
        for event in events {
            // Nobody may be listening.
            let _ = self.events.send(event);
        }
        done
    }

    fn apply(&self, command: &LockCommand) -> Result<LockDone, LockRefusal> {
        self.with(|table, events| table.apply(command, now(), events))
    }

    /// From now on tokens are larger than `last`.
    pub(super) fn grant_after(&self, last: u64) {
        self.with(|table, _| table.grant_after(last));
    }

    /// Whether anybody has `key`.
    pub(super) fn is_held(&self, key: &str) -> bool {
        self.with(|table, events| {
            table.on_wake(now(), events);
            table.locks().get(key).is_some()
        })
    }

    /// Whether `owner` has `key`.
    pub(super) fn holds(&self, key: &str, owner: &str) -> bool {
        self.with(|table, _| table.locks().hold(key, &Self::owner(owner)).is_some())
    }

    /// Whether `owner` has `key` by this grant.
    pub(super) fn has(&self, key: &str, owner: &str, token: u64) -> bool {
        let hold = self.with(|table, _| table.locks().hold(key, &Self::owner(owner)).copied());
        hold.is_some_and(|hold| hold.token == token)
    }

    async fn acquire_in_turn(&self, ask: &LockAsk) -> Result<LockGrant, LockError> {
        let owner = Self::owner(&ask.owner);
        let key = ask.key.clone();
        let (mode, ttl, wait) = (ask.mode, ask.ttl, ask.wait);
        // Before it is asked, or the answer could be missed.
        let mut heard = (wait > Duration::ZERO).then(|| self.events.subscribe());
        let command = LockCommand::Acquire { key, owner: owner.clone(), mode, ttl, wait };
        let ticket = match self.apply(&command)? {
            LockDone::Granted { token, holds } => return Ok(LockGrant { token, holds }),
            LockDone::Waiting { ticket } => ticket,
            LockDone::Released { .. }
            | LockDone::Extended
            | LockDone::Cancelled
            | LockDone::Expired => return Err(confused()),
        };
        let Some(events) = &mut heard else { return Err(confused()) };
        let _leaving = Leaving { locks: self, key: &ask.key, owner: &owner, ticket };
        self.wait(events, ask, &owner, ticket).await
    }

    async fn wait(
        &self,
        events: &mut broadcast::Receiver<LockEvent>,
        ask: &LockAsk,
        owner: &LockOwner,
        ticket: u64,
    ) -> Result<LockGrant, LockError> {
        loop {
            // Whoever waits sees to it that what is over ends.
            let next =
                self.with(|table, _| table.next_end()).map_or(ask.wait, |at| at.since(now()));
            let heard = tokio::time::timeout(next, events.recv()).await;
            match heard {
                Ok(Ok(event)) => match end_of_wait(&event, &ask.key, ticket) {
                    Some(Err(LockError::Refused(LockRefusal::NotWaiting { .. }))) => {
                        return Err(LockError::TimedOut { key: ask.key.clone(), wait: ask.wait });
                    }
                    Some(end) => return end,
                    None => {}
                },
                // It may have been among those that were missed.
                Ok(Err(RecvError::Lagged(_))) => {
                    let (hold, waits) = self.with(|table, _| {
                        let lock = table.locks().get(&ask.key);
                        let queue = lock.into_iter().flat_map(|lock| lock.queue());
                        let waits = queue.into_iter().any(|waiter| waiter.ticket == ticket);
                        (table.locks().hold(&ask.key, owner).copied(), waits)
                    });
                    match hold {
                        Some(hold) => {
                            return Ok(LockGrant { token: hold.token, holds: hold.holds });
                        }
                        None if waits => {}
                        None => {
                            let (key, wait) = (ask.key.clone(), ask.wait);
                            return Err(LockError::TimedOut { key, wait });
                        }
                    }
                }
                Ok(Err(RecvError::Closed)) => return Err(confused()),
                Err(_) => self.with(|table, events| table.on_wake(now(), events)),
            }
        }
    }
}

/// Somebody who waits, and may be dropped meanwhile.
struct Leaving<'l> {
    locks: &'l LocalLocks,
    key: &'l str,
    owner: &'l LockOwner,
    ticket: u64,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let Self { locks, key, owner, ticket } = self;
        let (key, owner, ticket) = ((*key).to_owned(), (*owner).clone(), *ticket);
        // Mostly it waits no more. What was granted to somebody who is gone ends by itself.
        let _ = locks.apply(&LockCommand::Cancel { key, owner, ticket });
    }
}

impl LockBackend for LocalLocks {
    fn name(&self) -> &'static str {
        "none"
    }

    fn acquire<'p>(&'p self, ask: &'p LockAsk) -> Pending<'p, LockGrant> {
        Box::pin(self.acquire_in_turn(ask))
    }

    fn unlock<'p>(&'p self, key: &'p str, owner: &'p str, token: u64) -> Pending<'p, u32> {
        Box::pin(async move {
            let (key, owner) = (key.to_owned(), Self::owner(owner));
            released(self.apply(&LockCommand::Unlock { key, owner, token })?)
        })
    }

    fn extend<'p>(
        &'p self,
        key: &'p str,
        owner: &'p str,
        token: u64,
        ttl: Duration,
    ) -> Pending<'p, ()> {
        Box::pin(async move {
            let (key, owner) = (key.to_owned(), Self::owner(owner));
            self.apply(&LockCommand::Extend { key, owner, token, ttl })?;
            Ok(())
        })
    }

    fn list(&self) -> Pending<'_, Vec<LockView>> {
        Box::pin(async move {
            Ok(self.with(|table, events| {
                let now = now();
                table.on_wake(now, events);
                views(table.locks(), now, |number, _| table.life(number), |_| self.node.clone())
            }))
        })
    }

    fn statistics(&self) -> Pending<'_, LockStatistics> {
        Box::pin(async move { Ok(self.with(|table, _| *table.locks().statistics())) })
    }

    fn events(&self) -> broadcast::Receiver<LockEvent> {
        self.events.subscribe()
    }
}
