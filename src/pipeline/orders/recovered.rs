//! What was found of orders that somebody had begun before, and what was done about each: a table for the operator.
//!
//! ```text
//! a slot, a checkpoint ─▶ taken over ─┐
//! the account's history ─▶ left ──────┴─▶ what the exchange says ─▶ what is done ─▶ how it ended
//! ```
//!
//! It is of this life alone: whoever goes on from here finds for itself. Nothing is decided by it.

use std::collections::VecDeque;
use std::fmt;

use super::{OrderReport, Orders};
use crate::domain::{ClientOrderId, Quantity, Symbol};

/// Orders in the table; the oldest leave it.
const RECOVERED_MAX: usize = 256;

/// How an order was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundAs {
    /// The exchange has not said yet.
    Unheard,
    /// It was open there.
    Open,
    /// It had ended there.
    Ended,
    /// It had not got there, and could not any more.
    NeverArrived,
    /// It is open there, and none of ours.
    Foreign,
}

impl fmt::Display for FoundAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Unheard => "not known yet",
            Self::Open => "open at the exchange",
            Self::Ended => "ended there",
            Self::NeverArrived => "never arrived",
            Self::Foreign => "foreign, open there",
        })
    }
}

/// What was done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// It is brought to its end from here.
    TakenOver,
    /// It was, and everything that it traded was told.
    Finished,
    /// It was sent once more.
    SentAgain,
    /// It was not wanted any more.
    Cancelled,
    /// It was not sent again.
    GivenUp,
    /// Nothing: it is another's, or over and nobody has asked for it, or for a person to see to.
    Left,
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::TakenOver => "taken over",
            Self::Finished => "finished with its fills",
            Self::SentAgain => "sent again",
            Self::Cancelled => "cancelled",
            Self::GivenUp => "given up",
            Self::Left => "left",
        })
    }
}

/// An order that was begun before, as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredOrder {
    /// What.
    pub symbol: Symbol,
    /// Its name at the exchange.
    pub client_id: String,
    /// The exchange's number of it; none, if it is not known to be there.
    pub exchange_order: Option<u64>,
    /// How it was found.
    pub found: FoundAs,
    /// What was done about it.
    pub done: Remedy,
    /// How much of it has traded.
    pub executed: Quantity,
    /// Whether that is all.
    pub is_over: bool,
}

impl RecoveredOrder {
    /// How it ended, as far as it has.
    pub fn outcome(&self) -> &'static str {
        if !self.is_over {
            "under way"
        } else if self.executed > Quantity::ZERO {
            "traded"
        } else if self.exchange_order.is_some() {
            "nothing traded"
        } else {
            "not placed"
        }
    }

    fn new(symbol: &Symbol, client_id: &str, done: Remedy) -> Self {
        Self {
            symbol: symbol.clone(),
            client_id: client_id.to_owned(),
            exchange_order: None,
            found: FoundAs::Unheard,
            done,
            executed: Quantity::ZERO,
            is_over: false,
        }
    }

    fn see(&mut self, report: &OrderReport) {
        if self.found == FoundAs::Unheard {
            self.found = if report.is_over { FoundAs::Ended } else { FoundAs::Open };
        }
        self.exchange_order = Some(report.order);
        self.executed = self.executed.max(report.executed);
    }
}

#[derive(Debug)]
struct Entry {
    order: RecoveredOrder,
    /// Whether there is nothing new about it.
    is_told: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    /// The oldest first; at most [`RECOVERED_MAX`].
    entries: VecDeque<Entry>,
}

impl Recovered {
    /// An order is found that is brought to its end from here, or is left in its slot.
    pub(super) fn begin(&mut self, symbol: &Symbol, client_id: &ClientOrderId, done: Remedy) {
        let client_id = client_id.as_str();
        match self.find(client_id) {
            Some(entry) => {
                (entry.order.done, entry.order.is_over, entry.is_told) = (done, false, false);
            }
            None => self.push(RecoveredOrder::new(symbol, client_id, done)),
        }
    }

    /// The account has an order of ours that is not known here.
    pub(super) fn on_listed(&mut self, report: &OrderReport) {
        if let Some(entry) = self.numbered(report) {
            return entry.order.see(report);
        }
        let mut order = RecoveredOrder::new(&report.symbol, &report.client_id, Remedy::Left);
        order.see(report);
        order.is_over = report.is_over;
        self.push(order);
    }

    /// The account has an open order that is none of ours.
    pub(super) fn on_foreign(&mut self, report: &OrderReport) {
        if self.numbered(report).is_some() {
            return;
        }
        let mut order = RecoveredOrder::new(&report.symbol, &report.client_id, Remedy::Left);
        order.found = FoundAs::Foreign;
        order.see(report);
        self.push(order);
    }

    /// The exchange shows how an order stands.
    pub(super) fn see(&mut self, report: &OrderReport) {
        if let Some(entry) = self.find(&report.client_id) {
            entry.order.see(report);
        }
    }

    /// The exchange has not got it, and this follows.
    pub(super) fn miss(&mut self, client_id: &ClientOrderId, done: Remedy) {
        if let Some(Entry { order, .. }) = self.find(client_id.as_str()) {
            order.done = done;
            if order.found == FoundAs::Unheard {
                order.found = FoundAs::NeverArrived;
            }
        }
    }

    /// This is done about it.
    pub(super) fn treat(&mut self, client_id: &ClientOrderId, done: Remedy) {
        if let Some(entry) = self.find(client_id.as_str()) {
            entry.order.done = done;
        }
    }

    /// It is over, and has traded so much.
    pub(super) fn end(&mut self, client_id: &ClientOrderId, executed: Quantity) {
        let Some(Entry { order, is_told }) = self.find(client_id.as_str()) else { return };
        order.executed = order.executed.max(executed);
        (order.is_over, *is_told) = (true, false);
        match (order.done, order.found) {
            (Remedy::TakenOver, FoundAs::Unheard | FoundAs::NeverArrived) => {
                order.done = Remedy::GivenUp;
            }
            (Remedy::TakenOver, FoundAs::Open | FoundAs::Ended | FoundAs::Foreign) => {
                order.done = Remedy::Finished;
            }
            (
                Remedy::Finished
                | Remedy::SentAgain
                | Remedy::Cancelled
                | Remedy::GivenUp
                | Remedy::Left,
                _,
            ) => {}
        }
        if order.found == FoundAs::Unheard {
            order.found = FoundAs::NeverArrived;
        }
    }

    /// The entry of one of ours.
    fn find(&mut self, client_id: &str) -> Option<&mut Entry> {
        self.entries.iter_mut().rfind(|Entry { order, .. }| {
            order.client_id == client_id && order.found != FoundAs::Foreign
        })
    }

    /// The entry of an order that the exchange lists.
    fn numbered(&mut self, report: &OrderReport) -> Option<&mut Entry> {
        self.entries.iter_mut().rfind(|Entry { order, .. }| {
            order.exchange_order == Some(report.order) && order.symbol == report.symbol
        })
    }

    fn push(&mut self, order: RecoveredOrder) {
        if self.entries.len() >= RECOVERED_MAX {
            self.entries.pop_front();
        }
        self.entries.push_back(Entry { order, is_told: false });
    }

    fn has_news(&self) -> bool {
        self.entries.iter().any(Entry::is_news)
    }

    fn take_news(&mut self) -> Vec<RecoveredOrder> {
        let news = self.entries.iter_mut().filter(|entry| entry.is_news());
        let told = news.map(|entry| {
            entry.is_told = true;
            entry.order.clone()
        });
        told.collect()
    }
}

impl Entry {
    /// Whether there is something to say of it: how it was found, how it ended, or that a person has to look.
    fn is_news(&self) -> bool {
        let is_known = self.order.found != FoundAs::Unheard || self.order.done == Remedy::Left;
        !self.is_told && is_known
    }
}

impl Orders {
    /// What was found of orders that were begun before, and what was done about each: the last of them, the oldest
    /// first.
    pub fn recovered(&self) -> impl Iterator<Item = &RecoveredOrder> {
        self.recovered.entries.iter().map(|entry| &entry.order)
    }

    /// Those of them of which it was not said yet how they were found, or how they ended. None while anything is
    /// being looked for, so that what belongs together is said together.
    pub fn recovered_news(&mut self) -> Vec<RecoveredOrder> {
        let is_news = self.recovered.has_news()
            && !self.is_held
            && self.recovery.pending.is_empty()
            && self.is_reconciled();
        if is_news { self.recovered.take_news() } else { Vec::new() }
    }
}
