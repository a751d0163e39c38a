//! Locks that most voters of the ledger agree on.
//!
//! Whoever waits hears of its grant by the events of this node's copy, and of everything it may have missed
//! by a read. Its session owns what it has: without one, nothing is granted.

use std::fmt;
use std::time::Duration;

use tickwright_core::domain::{
    LockCommand, LockDone, LockEvent, LockOwner, LockRefusal, LockStatistics,
};
use tickwright_core::ledger::{Event, Operation, Outcome, SessionId};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use super::{
    EVENTS_MAX, LockAsk, LockBackend, LockError, LockGrant, LockView, Pending, confused,
    end_of_wait, released, views,
};
use crate::ledger::{LedgerClient, LedgerError};

/// See the module.
pub struct LedgerLocks {
    ledger: LedgerClient,
    /// How long the ledger may take to answer.
    patience: Duration,
    events: broadcast::Sender<LockEvent>,
    passing: tokio::task::JoinHandle<()>,
}

impl fmt::Debug for LedgerLocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LedgerLocks").field("ledger", &self.ledger).finish_non_exhaustive()
    }
}

impl Drop for LedgerLocks {
    fn drop(&mut self) {
        self.passing.abort();
    }
}

impl LedgerLocks {
    /// Locks in `ledger`, which may take `patience` to answer. Must be called within a runtime.
    pub fn new(ledger: LedgerClient, patience: Duration) -> Self {
        let events = broadcast::channel(EVENTS_MAX).0;
        let (mut heard, told) = (ledger.events(), events.clone());
        let passing = tokio::spawn(async move {
            loop {
                match heard.recv().await {
                    Ok(Event::Lock(event)) => drop(told.send(event)),
                    // Who waits looks for itself; see `wait`.
                    Ok(_) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                }
            }
        });
        Self { ledger, patience, events, passing }
    }

    fn owner(&self, name: &str) -> Result<LockOwner, LockError> {
        let none = "this node has no session in the ledger: it does not reach most voters";
        let session = self.ledger.session().ok_or_else(|| LockError::Away(none.into()))?;
        Ok(LockOwner { session: session.0, name: name.to_owned() })
    }

    async fn submit(&self, command: LockCommand) -> Result<LockDone, LockError> {
        let operation = Operation::Locks(vec![command]);
        match self.ledger.submit(operation, self.patience).await {
            Ok(Outcome::Locks(mut results)) => match results.pop() {
                Some(result) => Ok(result?),
                None => Err(confused()),
            },
            Ok(_) => Err(confused()),
            Err(error) => Err(of(error)),
        }
    }

    async fn acquire_in_turn(&self, ask: &LockAsk) -> Result<LockGrant, LockError> {
        let until = Instant::now() + ask.wait;
        let owner = self.owner(&ask.owner)?;
        // Before it is asked, or the answer could be missed.
        let mut heard = self.ledger.events();
        let command = LockCommand::Acquire {
            key: ask.key.clone(),
            owner: owner.clone(),
            mode: ask.mode,
            ttl: ask.ttl,
            wait: ask.wait,
        };
        let ticket = match self.submit(command).await? {
            LockDone::Granted { token, holds } => return Ok(LockGrant { token, holds }),
            LockDone::Waiting { ticket } => ticket,
            LockDone::Released { .. }
            | LockDone::Extended
            | LockDone::Cancelled
            | LockDone::Expired => return Err(confused()),
        };
        let timed_out = || LockError::TimedOut { key: ask.key.clone(), wait: ask.wait };
        loop {
            match tokio::time::timeout_at(until, heard.recv()).await {
                Ok(Ok(Event::Lock(event))) => match end_of_wait(&event, &ask.key, ticket) {
                    Some(Err(LockError::Refused(LockRefusal::NotWaiting { .. }))) => {
                        return Err(timed_out());
                    }
                    Some(end) => return end,
                    None => {}
                },
                Ok(Ok(_)) => {}
                Ok(Err(RecvError::Lagged(_))) => {
                    if let Some(end) = self.look(ask, &owner, ticket).await? {
                        return end.ok_or_else(timed_out);
                    }
                }
                Ok(Err(RecvError::Closed)) => {
                    return Err(LockError::Away("the ledger is stopping".into()));
                }
                Err(_) => break,
            }
        }
        let (key, cancelled) = (ask.key.clone(), owner.clone());
        match self.submit(LockCommand::Cancel { key, owner: cancelled, ticket }).await {
            Ok(_) => Err(timed_out()),
            // It was granted at the last moment, or sent away by whoever leads.
            Err(LockError::Refused(LockRefusal::NotWaiting { .. })) => {
                self.look(ask, &owner, ticket).await?.flatten().ok_or_else(timed_out)
            }
            Err(error) => Err(error),
        }
    }

    /// What became of a wait: none, if it lasts; none in it, if it came to nothing.
    async fn look(
        &self,
        ask: &LockAsk,
        owner: &LockOwner,
        ticket: u64,
    ) -> Result<Option<Option<LockGrant>>, LockError> {
        let look = |ledger: &tickwright_core::ledger::Ledger| {
            let locks = ledger.locks();
            if let Some(hold) = locks.hold(&ask.key, owner) {
                return Some(Some(LockGrant { token: hold.token, holds: hold.holds }));
            }
            let lock = locks.get(&ask.key);
            let mut queue = lock.into_iter().flat_map(|lock| lock.queue());
            (!queue.any(|waiter| waiter.ticket == ticket)).then_some(None)
        };
        self.ledger.read(self.patience, look).await.map_err(of)
    }
}

fn of(error: LedgerError) -> LockError {
    match error {
        LedgerError::Unknown(reason) => LockError::Unknown(reason),
        LedgerError::Unavailable(_)
        | LedgerError::Refused(_)
        | LedgerError::NotCoordinator(_)
        | LedgerError::NoSuchNode { .. } => LockError::Away(error.to_string()),
    }
}

impl LockBackend for LedgerLocks {
    fn name(&self) -> &'static str {
        "ledger"
    }

    fn acquire<'p>(&'p self, ask: &'p LockAsk) -> Pending<'p, LockGrant> {
        Box::pin(self.acquire_in_turn(ask))
    }

    fn unlock<'p>(&'p self, key: &'p str, owner: &'p str, token: u64) -> Pending<'p, u32> {
        Box::pin(async move {
            let (key, owner) = (key.to_owned(), self.owner(owner)?);
            released(self.submit(LockCommand::Unlock { key, owner, token }).await?)
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
            let (key, owner) = (key.to_owned(), self.owner(owner)?);
            self.submit(LockCommand::Extend { key, owner, token, ttl }).await?;
            Ok(())
        })
    }

    fn list(&self) -> Pending<'_, Vec<LockView>> {
        Box::pin(async move {
            let look = |ledger: &tickwright_core::ledger::Ledger| {
                let node = |owner: &LockOwner| {
                    let session = ledger.sessions().get(&SessionId(owner.session));
                    let ended = || format!("session {}", owner.session);
                    session.map_or_else(ended, |session| session.opening.node.0.clone())
                };
                let (now, life) = self.ledger.lock_lives();
                views(ledger.locks(), now, life, node)
            };
            self.ledger.read(self.patience, look).await.map_err(of)
        })
    }

    fn statistics(&self) -> Pending<'_, LockStatistics> {
        Box::pin(async move {
            let look = |ledger: &tickwright_core::ledger::Ledger| *ledger.locks().statistics();
            self.ledger.read(self.patience, look).await.map_err(of)
        })
    }

    fn events(&self) -> broadcast::Receiver<LockEvent> {
        self.events.subscribe()
    }
}
