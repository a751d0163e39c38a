//! Locks as a service: who is at work on what, so that others need not try the same.
//!
//! ```text
//! strategies, tools ── locks/NODE ──▶ LocksActor ─┐
//! a broker outside ───────────────────────────────┴─▶ LockBackend ─┬─▶ LocalLocks    this process alone
//!                                                                  ├─▶ LedgerLocks   agreed on by most voters
//!                                                                  └─▶ FallbackLocks ─▶ RedisLocks
//! ```
//!
//! What a lock is, is decided in [`tickwright_core::ledger::Locks`], for every back end alike. They save
//! work, and nothing safe rests on them.
//!
//! *Failover.* The actor keeps nothing but the last events. A node that is gone loses its locks with its
//! session, or when their time is over.
//! *Delivery.* Whoever is told that it is not known what became of a request lets its lock end by itself.

mod actor;
mod fallback;
mod ledger;
mod local;
mod redis;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tickwright_core::domain::{
    LockDone, LockEvent, LockMode, LockOwner, LockRefusal, LockStatistics, Timestamp,
};
use tickwright_core::ledger::{Lock, Locks};
use tokio::sync::broadcast;

pub use actor::{LocksActor, LocksArguments, LocksCall, LocksMessage};
pub use fallback::FallbackLocks;
pub use ledger::LedgerLocks;
pub use local::LocalLocks;
pub use redis::{RedisAddress, RedisLocks, RedisSettings};

/// The role under which `node` answers for locks.
pub fn role(node: &str) -> String {
    format!("locks/{node}")
}

/// Events that whoever listens may be behind.
const EVENTS_MAX: usize = 4_096;

/// A lock that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockAsk {
    /// Which.
    pub key: String,
    /// Who asks, by a name that is its own on this node.
    pub owner: String,
    /// How.
    pub mode: LockMode,
    /// For how long, unless it is extended.
    pub ttl: Duration,
    /// How long to wait for it; zero, not at all.
    pub wait: Duration,
}

/// A lock that was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockGrant {
    /// Greater than that of every grant before.
    pub token: u64,
    /// How often the owner has it by now, and has to give it back.
    pub holds: u32,
}

/// Why there is no lock.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// The rules say no.
    #[error(transparent)]
    Refused(#[from] LockRefusal),
    /// It was waited for in vain.
    #[error("lock {key} was not free within {wait:?}")]
    TimedOut {
        /// Which.
        key: String,
        /// How long.
        wait: Duration,
    },
    /// Whoever keeps the locks is away. Nothing was done.
    #[error("locks cannot be had: {0}")]
    Away(String),
    /// There is too much to do here just now. Nothing was done.
    #[error("{0}")]
    Busy(String),
    /// It may have been done or not.
    #[error("{0}; whether it was done is not known")]
    Unknown(String),
}

/// What comes of a request.
pub type Pending<'p, T> = Pin<Box<dyn Future<Output = Result<T, LockError>> + Send + 'p>>;

/// Whoever keeps locks.
pub trait LockBackend: Send + Sync + fmt::Debug {
    /// What it is called in the configuration.
    fn name(&self) -> &'static str;

    /// Takes a lock, or once more, waiting for it if need be.
    fn acquire<'p>(&'p self, ask: &'p LockAsk) -> Pending<'p, LockGrant>;

    /// Gives one hold back; returns how many are left.
    fn unlock<'p>(&'p self, key: &'p str, owner: &'p str, token: u64) -> Pending<'p, u32>;

    /// Lets a lock live for `ttl` from now on.
    fn extend<'p>(
        &'p self,
        key: &'p str,
        owner: &'p str,
        token: u64,
        ttl: Duration,
    ) -> Pending<'p, ()>;

    /// Every lock that is held.
    fn list(&self) -> Pending<'_, Vec<LockView>>;

    /// Counts since the beginning.
    fn statistics(&self) -> Pending<'_, LockStatistics>;

    /// What happens from now on, as far as this node hears of it.
    fn events(&self) -> broadcast::Receiver<LockEvent>;

    /// Why it is away; none, if it is there.
    fn trouble(&self) -> Option<String> {
        None
    }
}

/// A lock that is held, for whoever looks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockView {
    /// Which.
    pub key: String,
    /// How.
    pub mode: LockMode,
    /// Who has it.
    pub holders: Vec<HolderView>,
    /// Who waits for it, in order.
    pub waiters: Vec<WaiterView>,
}

/// Who has a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderView {
    /// Its name.
    pub owner: String,
    /// Its node, or what is known of it.
    pub node: String,
    /// Of its grant.
    pub token: u64,
    /// How often it has it.
    pub holds: u32,
    /// Since when, as far as is known.
    pub age_ms: Option<u64>,
    /// How long it still lives, as far as is known.
    pub left_ms: Option<u64>,
}

/// Who waits for a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaiterView {
    /// Its name.
    pub owner: String,
    /// Its node, or what is known of it.
    pub node: String,
    /// How it wants it.
    pub mode: LockMode,
    /// Since when, as far as is known.
    pub age_ms: Option<u64>,
}

fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// What there is to see; `life` says when a grant or wait began and ends, `node` whose a session is.
fn views(
    locks: &Locks,
    now: Timestamp,
    life: impl Fn(u64, Duration) -> Option<(Timestamp, Timestamp)>,
    node: impl Fn(&LockOwner) -> String,
) -> Vec<LockView> {
    let of = |(key, lock): (&String, &Lock)| {
        let holder = |(owner, hold): (&LockOwner, &tickwright_core::ledger::LockHold)| {
            let life = life(hold.token, hold.ttl);
            HolderView {
                owner: owner.name.clone(),
                node: node(owner),
                token: hold.token,
                holds: hold.holds,
                age_ms: life.map(|(began, _)| milliseconds(now.since(began))),
                left_ms: life.map(|(_, ends)| milliseconds(ends.since(now))),
            }
        };
        let waiters = lock.queue().iter().map(|waiter| WaiterView {
            owner: waiter.owner.name.clone(),
            node: node(&waiter.owner),
            mode: waiter.mode,
            age_ms: life(waiter.ticket, waiter.wait)
                .map(|(began, _)| milliseconds(now.since(began))),
        });
        let writes = lock.holders().values().any(|hold| hold.mode == LockMode::Write);
        LockView {
            key: key.clone(),
            mode: if writes { LockMode::Write } else { LockMode::Read },
            holders: lock.holders().iter().map(holder).collect(),
            waiters: waiters.collect(),
        }
    };
    locks.all().iter().map(of).collect()
}

/// What became of a wait, if this event says so.
fn end_of_wait(event: &LockEvent, key: &str, ticket: u64) -> Option<Result<LockGrant, LockError>> {
    match event {
        LockEvent::Granted { ticket: Some(of), token, .. } if *of == ticket => {
            Some(Ok(LockGrant { token: *token, holds: 1 }))
        }
        LockEvent::Aborted { ticket: of, cycle, .. } if *of == ticket => {
            let (key, cycle) = (key.to_owned(), cycle.clone());
            Some(Err(LockRefusal::Deadlock { key, cycle }.into()))
        }
        LockEvent::Cancelled { ticket: of, .. } if *of == ticket => {
            Some(Err(LockRefusal::NotWaiting { key: key.to_owned(), ticket }.into()))
        }
        LockEvent::Granted { .. }
        | LockEvent::Waiting { .. }
        | LockEvent::Released { .. }
        | LockEvent::Cancelled { .. }
        | LockEvent::Aborted { .. } => None,
    }
}

fn confused() -> LockError {
    LockError::Unknown("whoever keeps the locks gave a confused answer".into())
}

/// How often the owner still has the lock that it gave back.
fn released(done: LockDone) -> Result<u32, LockError> {
    match done {
        LockDone::Released { holds } => Ok(holds),
        LockDone::Granted { .. }
        | LockDone::Waiting { .. }
        | LockDone::Extended
        | LockDone::Cancelled
        | LockDone::Expired => Err(confused()),
    }
}
