//! Kill switches: what an operator stops.

use serde::{Deserialize, Serialize};

use super::{AccountId, StrategyId, Symbol, Timestamp};

/// What a kill switch stops.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Scope {
    /// Everything.
    All,
    /// One account.
    Account(AccountId),
    /// One strategy, whichever account it trades for.
    Strategy(StrategyId),
    /// One symbol in every account, already defined or not.
    Symbol(Symbol),
}

/// A kill switch is turned on, or off again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KillSwitch {
    /// What it stops.
    pub scope: Scope,
    /// Whether it stops it.
    pub is_on: bool,
    /// Which turn of the switch this is, as was agreed on; 0 for one that is not agreed on yet, which can
    /// only turn it on.
    pub version: u64,
    /// When it takes effect: for exec to say.
    pub due: Timestamp,
}
