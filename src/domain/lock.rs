//! Locks: who is at work on what, so that others need not try the same.
//!
//! ```text
//! Acquire ─┬─▶ Granted{token} ── Extend … ──▶ Unlock, Expire, or the end of the session
//!          └─▶ Waiting{ticket} ──▶ granted in turn, cancelled, or aborted to break a deadlock
//! ```
//!
//! They save work and decide nothing that must be safe: whoever holds a lock may have been away for longer
//! than it lives, and does not know it. What may happen only once is guarded by [`super::Slot`]s.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Price, Span, Symbol};

/// Who holds a lock or waits for one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LockOwner {
    /// The session under which it asks: when that ends, so does everything it holds. 0 within one process.
    pub session: u64,
    /// What it calls itself.
    pub name: String,
}

impl fmt::Display for LockOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.session)
    }
}

/// Whether others may have it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LockMode {
    /// Any number may, as long as nobody writes.
    Read,
    /// Nobody may.
    Write,
}

impl LockMode {
    /// Whether two owners cannot have it in these modes at once.
    pub fn excludes(self, other: Self) -> bool {
        self == Self::Write || other == Self::Write
    }
}

impl fmt::Display for LockMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
        })
    }
}

/// What to do with a lock. The order of the variants is part of the format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LockCommand {
    /// Take it, or one hold more by whoever has it in this mode or to write.
    Acquire {
        /// Which.
        key: String,
        /// Who.
        owner: LockOwner,
        /// How.
        mode: LockMode,
        /// For how long, unless it is extended.
        ttl: Span,
        /// How long it waits for its turn; zero, not at all.
        wait: Span,
    },
    /// Give one hold back.
    Unlock {
        /// Which.
        key: String,
        /// Who.
        owner: LockOwner,
        /// Of the grant that is meant.
        token: u64,
    },
    /// Let it live for `ttl` from now on.
    Extend {
        /// Which.
        key: String,
        /// Who.
        owner: LockOwner,
        /// Of the grant that is meant.
        token: u64,
        /// For how long.
        ttl: Span,
    },
    /// Wait for it no longer.
    Cancel {
        /// Which.
        key: String,
        /// Who.
        owner: LockOwner,
        /// Which wait is meant.
        ticket: u64,
    },
    /// Its time is over, by the clock of whoever leads.
    Expire {
        /// Which.
        key: String,
        /// Who had it.
        owner: LockOwner,
        /// Of the grant that is meant.
        token: u64,
        /// How often it had been extended when that was found: an extension meanwhile saves it.
        extensions: u64,
    },
}

/// It was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LockDone {
    /// The owner has it.
    Granted {
        /// Greater than that of every grant before, of any lock.
        token: u64,
        /// How many holds the owner has; it is free when as many were given back.
        holds: u32,
    },
    /// The owner has a place in the queue.
    Waiting {
        /// Which wait this is.
        ticket: u64,
    },
    /// A hold was given back.
    Released {
        /// How many are left.
        holds: u32,
    },
    /// It lives on.
    Extended,
    /// The owner waits no longer.
    Cancelled,
    /// It is not the owner's any more.
    Expired,
}

/// It was not done, and nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum LockRefusal {
    /// Others have it, or were there first.
    #[error("lock {key} is held by {by}")]
    Held {
        /// Which.
        key: String,
        /// One of those who have it.
        by: LockOwner,
    },
    /// The owner does not have it under that token, or not any more.
    #[error("lock {key} is not held under token {token}: it was given back, or its time was over")]
    NotHeld {
        /// Which.
        key: String,
        /// Which was given.
        token: u64,
    },
    /// The owner does not wait for it under that ticket, or not any more.
    #[error("nobody waits for lock {key} under ticket {ticket}")]
    NotWaiting {
        /// Which.
        key: String,
        /// Which was given.
        ticket: u64,
    },
    /// Two who read and both want to write would wait for each other for ever.
    #[error("lock {key} is held to read; it has to be given back before it is asked for to write")]
    Upgrade {
        /// Which.
        key: String,
    },
    /// An owner waits for one lock at a time.
    #[error("this owner waits for lock {key} already")]
    WaitsAlready {
        /// For which.
        key: String,
    },
    /// Waiting would never end: the owner began last of those who wait for each other.
    #[error(
        "waiting for lock {key} would never end: {} wait for each other; give back what is held, and begin again",
        names(.cycle)
    )]
    Deadlock {
        /// Which.
        key: String,
        /// Who waits for whom, in a circle.
        cycle: Vec<LockOwner>,
    },
    /// A key or name is too long, or none.
    #[error("a key has 1 to {key_max} bytes, and the name of an owner 1 to {name_max}")]
    Length {
        /// Longest key.
        key_max: u64,
        /// Longest name.
        name_max: u64,
    },
    /// A lock that would end at once.
    #[error("a lock lives for at least a millisecond")]
    TimeToLive,
    /// There is no room.
    #[error("there are as many {what} as there may be: {limit}")]
    Full {
        /// Of what.
        what: String,
        /// How many.
        limit: u64,
    },
    /// The session has ended.
    #[error("session {session} has ended, and all its locks with it")]
    SessionEnded {
        /// Which.
        session: u64,
    },
    /// It was extended meanwhile.
    #[error("lock {key} has been extended")]
    Renewed {
        /// Which.
        key: String,
    },
}

fn names(owners: &[LockOwner]) -> String {
    owners.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Why a lock is not held any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LockEnd {
    /// Its owner gave it back.
    Unlocked,
    /// Its time was over.
    Expired,
    /// Its owner's session has ended.
    SessionEnded,
}

/// What has happened to a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LockEvent {
    /// Somebody has it.
    Granted {
        /// Which.
        key: String,
        /// Who.
        owner: LockOwner,
        /// How.
        mode: LockMode,
        /// Of this grant.
        token: u64,
        /// Which wait it ends; none, if it was free.
        ticket: Option<u64>,
    },
    /// Somebody waits.
    Waiting {
        /// For which.
        key: String,
        /// Who.
        owner: LockOwner,
        /// Which wait this is.
        ticket: u64,
    },
    /// Somebody has it no more.
    Released {
        /// Which.
        key: String,
        /// Who.
        owner: LockOwner,
        /// Of which grant.
        token: u64,
        /// Why.
        end: LockEnd,
    },
    /// Somebody waits no more: time was over, or the session has ended.
    Cancelled {
        /// For which.
        key: String,
        /// Who.
        owner: LockOwner,
        /// Which wait it was.
        ticket: u64,
    },
    /// Somebody waits no more, so that a deadlock ends.
    Aborted {
        /// For which.
        key: String,
        /// Who: of those in the circle, the one that began last.
        owner: LockOwner,
        /// Which wait it was; 0, if it never got a place.
        ticket: u64,
        /// Who waited for whom.
        cycle: Vec<LockOwner>,
    },
}

/// Counts since the locks began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockStatistics {
    /// Grants, waited for or not.
    pub grants: u64,
    /// Holds that an owner took of what it had.
    pub reentries: u64,
    /// Owners that got a place in a queue.
    pub waits: u64,
    /// Of those, the ones that were granted what they waited for.
    pub wait_grants: u64,
    /// Waits that ended without.
    pub timeouts: u64,
    /// Requests that were refused because others had it.
    pub refusals: u64,
    /// Circles that were broken.
    pub deadlocks: u64,
    /// Locks that were given back.
    pub releases: u64,
    /// Locks whose time was over.
    pub expiries: u64,
    /// Locks whose owner's session ended.
    pub session_ends: u64,
    /// Extensions.
    pub extensions: u64,
}

/// What one lock stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockGranularity {
    /// A symbol.
    Symbol,
    /// A symbol within so many steps of its smallest price.
    PriceInterval(i64),
    /// A symbol at one price.
    Price,
}

impl LockGranularity {
    /// The key of the lock for `symbol` at `price`.
    pub fn key(self, symbol: &Symbol, price: Price) -> String {
        let symbol = symbol.as_str();
        match self {
            Self::Symbol => symbol.to_owned(),
            Self::PriceInterval(width) => {
                format!("{symbol}/{}", price.0.div_euclid(width.max(1)))
            }
            Self::Price => format!("{symbol}/{}", price.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_as_fine_as_its_granularity() {
        let symbol = Symbol::new("A.X").unwrap();
        let key = |granularity: LockGranularity, price| granularity.key(&symbol, Price(price));
        assert_eq!(key(LockGranularity::Symbol, 7), key(LockGranularity::Symbol, 8));
        let interval = LockGranularity::PriceInterval(10);
        assert_eq!(key(interval, 10), key(interval, 19));
        assert_ne!(key(interval, 19), key(interval, 20));
        assert_ne!(key(interval, -1), key(interval, 0), "zero is in one interval, not in two");
        assert_ne!(key(LockGranularity::Price, 7), key(LockGranularity::Price, 8));
    }

    #[test]
    fn only_those_who_read_do_not_exclude_each_other() {
        use LockMode::{Read, Write};
        assert!(!Read.excludes(Read));
        assert!(Read.excludes(Write) && Write.excludes(Read) && Write.excludes(Write));
    }
}
