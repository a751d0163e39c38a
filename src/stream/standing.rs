//! Where a stream stands, at either of its ends, for whoever looks.

use serde::{Deserialize, Serialize};

use crate::domain::Key;

/// The producing end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutflowStanding {
    /// Everything up to here has been derived.
    pub complete: Key,
    /// Everything up to here has been sent; none, while no consumer is there.
    pub sent: Option<Key>,
    /// Which session that is.
    pub session: Option<u64>,
    /// The consumer will never ask for anything up to here again.
    pub stable: Key,
    /// Rows that may still be sent.
    pub credit: u64,
    /// Rows that are kept, sent or not.
    pub kept_rows: u64,
    /// Rows that wait to be sent.
    pub unsent_rows: u64,
}

/// The consuming end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InflowStanding {
    /// The session in which rows are taken; none, before the first.
    pub session: Option<u64>,
    /// Everything up to here has come.
    pub received: Key,
    /// Rows that have come and wait for others.
    pub waiting_rows: u64,
}
