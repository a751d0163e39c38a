//! What an operator is shown: how the account's orders and trades stand beside what is known here.

use serde::{Deserialize, Serialize};

use super::{Live, NewOrder, Orders, OrdersEffect, Stage};
use crate::domain::{Price, Quantity, Symbol, Timestamp};

/// An order under way, as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderStanding {
    /// What.
    pub symbol: Symbol,
    /// Its name at the exchange.
    pub client_id: String,
    /// Its slot; none, if it is known from the exchange alone.
    pub slot: Option<String>,
    /// What is being done about it.
    pub doing: String,
    /// Whether somebody here has asked for it.
    pub is_ours: bool,
    /// The exchange's number of it; none, if it is not known to be there.
    pub exchange_order: Option<u64>,
    /// How much of it has traded there.
    pub executed: Quantity,
    /// How much of that exec was told.
    pub told: Quantity,
}

/// What the account has traded of a symbol, bought less sold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TradedStanding {
    /// By orders from here.
    pub ours: Quantity,
    /// By orders that nobody here asked for, or not again yet.
    pub others: Quantity,
    /// How much of the others' has been taken over into positions here.
    pub adopted: Quantity,
    /// Of the last trade.
    pub price: Price,
    /// What the missing cost, in steps of price times steps of quantity.
    pub(super) missing_cost: i128,
}

impl Orders {
    /// Reads the ledger's slots and looks through the account's orders and trades of `symbols` anew, as at a
    /// start. [`Orders::is_reconciled`] says when that is done.
    pub fn reconcile_again(&mut self, symbols: Vec<Symbol>, now: Timestamp) -> Vec<OrdersEffect> {
        if self.is_ready() {
            self.begin_recovery();
        }
        self.recovery.to_look = symbols;
        self.go_on(now)
    }

    /// Whether everything that was to be looked at is known.
    pub fn is_reconciled(&self) -> bool {
        let is_seen =
            |symbol: &Symbol| self.recovery.is_known(symbol) && !self.paging.contains_key(symbol);
        let is_found = |live: &Live| !matches!(live.stage, Stage::Lost | Stage::Searching);
        self.is_ready()
            && self.recovery.to_look.iter().all(is_seen)
            && self.live.values().all(is_found)
    }

    /// Every order under way, those that wait to be opened included.
    pub fn standing(&self) -> Vec<OrderStanding> {
        let waiting = |order: &NewOrder| OrderStanding {
            symbol: order.symbol.clone(),
            client_id: String::new(),
            slot: None,
            doing: "waits until the account is known".into(),
            is_ours: true,
            exchange_order: None,
            executed: Quantity::ZERO,
            told: Quantity::ZERO,
        };
        let live = self.live.values().map(|live| OrderStanding {
            symbol: live.symbol.clone(),
            client_id: live.client_id.as_str().to_owned(),
            slot: live.slot.as_ref().map(|(slot, generation)| format!("{slot}#{generation}")),
            doing: doing(live).into(),
            is_ours: live.order.is_some(),
            exchange_order: live.exchange_order,
            executed: live.executed,
            told: live.filled,
        });
        let strays = self.recovery.strays.iter().map(|(client_id, stray)| OrderStanding {
            symbol: stray.symbol.clone(),
            client_id: client_id.as_str().to_owned(),
            slot: None,
            doing: stray.doing().into(),
            is_ours: false,
            exchange_order: Some(stray.order),
            executed: stray.executed,
            told: Quantity::ZERO,
        });
        live.chain(strays).chain(self.recovery.pending.iter().map(waiting)).collect()
    }

    /// What the account has traded, as far as it was looked at.
    pub fn traded(&self) -> impl Iterator<Item = (&Symbol, &TradedStanding)> {
        self.traded.iter()
    }
}

/// What is being done about an order.
const fn doing(live: &Live) -> &'static str {
    match live.stage {
        Stage::Opening => "its intent is being written down",
        Stage::Retrying => "it was not there; another attempt is being written down",
        Stage::Sent => "sent, no answer yet",
        Stage::Waiting { .. } => "unknown; waits until nothing of it can arrive any more",
        Stage::Asking { .. } | Stage::AskingAgain { .. } if live.order.is_none() => {
            "nobody asks for it; the exchange is asked, or look and `tickwright ctl release`"
        }
        Stage::Asking { .. } | Stage::AskingAgain { .. } => "unknown; the exchange is asked",
        Stage::Placed { .. } if live.is_unwanted => "at the exchange; is being cancelled",
        Stage::Placed { .. } if live.is_over => "over; its trades are being asked for",
        Stage::Placed { .. } => "at the exchange",
        Stage::Ending { .. } => "over; its slot is being freed",
        Stage::Lost => "somebody changed its slot; the ledger is read",
        Stage::Searching => "its slot is gone; the account is looked through",
        Stage::Quarantined => {
            "nobody can find out whether it is there: look, then `tickwright ctl release`"
        }
    }
}
