//! One order under way.

use serde::{Deserialize, Serialize};

use super::{NewOrder, Said, TradeReport};
use crate::domain::{
    ClientOrderId, Quantity, Refusal, SlotKey, SlotOutcome, SlotRight, Symbol, Timestamp,
};

/// Where an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Stage {
    /// Its intent is to be committed.
    Opening,
    /// Another attempt is to be committed.
    Retrying,
    /// Its request has left.
    Sent,
    /// Unknown: nothing is done until the exchange's clock shows this.
    Waiting { until: Timestamp },
    /// The exchange is being asked.
    Asking {
        /// Whether it would know by now.
        is_conclusive: bool,
    },
    /// It is to be asked again, at this time of our own clock.
    AskingAgain { is_conclusive: bool, at: Timestamp },
    /// The exchange has it; it is asked again at this time of our own clock.
    Placed { poll_at: Timestamp },
    /// The end of its slot is to be committed.
    Ending { outcome: SlotOutcome, said: Option<Refusal> },
    /// Somebody else has changed its slot: the ledger is to be read.
    Lost,
    /// Its slot is gone: the account's orders are looked through.
    Searching,
    /// Nobody can find out what became of it.
    Quarantined,
}

/// An order under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Live {
    /// What is to be placed; none, if nobody here has asked for it.
    pub(super) order: Option<NewOrder>,
    pub(super) symbol: Symbol,
    /// Its slot, and which use of it; none, if it is known from the exchange alone.
    pub(super) slot: Option<(SlotKey, u64)>,
    pub(super) client_id: ClientOrderId,
    pub(super) quantity: Quantity,
    pub(super) attempt: u32,
    pub(super) deadline: Timestamp,
    pub(super) conflicts: u32,
    /// By what right its slot is asked for.
    pub(super) right: SlotRight,
    /// Whether its name at the exchange is the one that was committed.
    pub(super) is_named: bool,
    pub(super) stage: Stage,
    /// The exchange's number of it.
    pub(super) exchange_order: Option<u64>,
    pub(super) executed: Quantity,
    pub(super) filled: Quantity,
    pub(super) is_over: bool,
    /// Whether it was asked for its trades alone.
    pub(super) is_asking_trades: bool,
    /// What has been said of it, to be said again after a restart.
    pub(super) said: Vec<Said>,
    /// Whether it is to be cancelled as soon as the exchange is known to have it, and not sent at all
    /// if it has not left yet.
    pub(super) is_unwanted: bool,
    /// Whether that was committed to its slot.
    pub(super) is_closing: bool,
    /// When its intent was to be written down, by our own clock.
    pub(super) opened_at: Timestamp,
    /// When it has rested for long enough, by our own clock; none, if it does not rest.
    pub(super) rests_until: Option<Timestamp>,
}

impl Live {
    /// What it has traded, if nobody here has asked for it: that counts as others' so far.
    pub(super) fn unasked_trades(&self) -> Vec<TradeReport> {
        let said = if self.order.is_none() { &self.said[..] } else { &[] };
        said.iter().filter_map(Said::trade).cloned().collect()
    }

    /// One of which nothing has been heard, with no slot.
    pub(super) const fn new(
        symbol: Symbol,
        client_id: ClientOrderId,
        quantity: Quantity,
        stage: Stage,
    ) -> Self {
        Self {
            order: None,
            symbol,
            slot: None,
            client_id,
            quantity,
            attempt: 1,
            deadline: Timestamp::from_nanos(0),
            conflicts: 0,
            right: SlotRight::NewSignal,
            is_named: false,
            stage,
            exchange_order: None,
            executed: Quantity::ZERO,
            filled: Quantity::ZERO,
            is_over: false,
            is_asking_trades: false,
            said: Vec::new(),
            is_unwanted: false,
            is_closing: false,
            opened_at: Timestamp::from_nanos(0),
            rests_until: None,
        }
    }
}
