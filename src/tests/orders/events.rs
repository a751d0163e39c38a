//! What happens in the world.

use tickwright_core::domain::{
    ClientOrderId, SlotCommand, SlotDone, SlotRefusal, Symbol, Timestamp,
};
use tickwright_core::pipeline::orders::{Answer, Found, OrderReport, SlotsFound, TradeReport};

use crate::market::Letter;

#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// An order is wanted by everybody.
    Wanted,
    Wake,
    /// To the ledger; of which life of which executor, and of which ledger.
    Commit {
        from: (usize, u64),
        ledger: u64,
        commands: Vec<SlotCommand>,
    },
    Committed {
        to: (usize, u64),
        results: Vec<Result<SlotDone, SlotRefusal>>,
    },
    Read {
        from: (usize, u64),
        ledger: u64,
    },
    Slots {
        to: (usize, u64),
        slots: Option<SlotsFound>,
    },
    /// To the exchange.
    Letter {
        from: (usize, u64),
        letter: Letter,
    },
    Answer {
        to: (usize, u64),
        client_id: ClientOrderId,
        attempt: u32,
        answer: Answer,
    },
    Query {
        from: (usize, u64),
        client_id: ClientOrderId,
    },
    Found {
        to: (usize, u64),
        client_id: ClientOrderId,
        found: Found,
    },
    /// To the exchange: an order is not wanted any more.
    Cancel {
        from: (usize, u64),
        client_id: ClientOrderId,
    },
    Cancelled {
        to: (usize, u64),
        client_id: ClientOrderId,
        found: Found,
    },
    /// The exchange tells by itself, whoever is there.
    Pushed {
        executor: usize,
        report: OrderReport,
    },
    Time {
        from: (usize, u64),
        asked: Timestamp,
    },
    Told {
        to: (usize, u64),
        asked: Timestamp,
        told: Option<Timestamp>,
    },
    Trades {
        from: (usize, u64),
        symbol: Symbol,
        after: u64,
    },
    Traded {
        to: (usize, u64),
        symbol: Symbol,
        trades: Option<(Vec<TradeReport>, bool)>,
    },
    TradesOf {
        from: (usize, u64),
        client_id: ClientOrderId,
        order: u64,
        after: u64,
    },
    TradedOf {
        to: (usize, u64),
        client_id: ClientOrderId,
        trades: Option<(Vec<TradeReport>, bool)>,
    },
    History {
        from: (usize, u64),
        symbol: Symbol,
        after: u64,
    },
    Past {
        to: (usize, u64),
        symbol: Symbol,
        orders: Option<(Vec<OrderReport>, bool)>,
    },
    Session {
        from: (usize, u64),
        session: u64,
    },
    Begun {
        to: (usize, u64),
        session: Option<u64>,
    },
    /// A fault.
    Crash {
        executor: usize,
        forgets: bool,
        /// Whether what was heard after the checkpoint is known all the same, from a log.
        recalls: bool,
        down: u64,
    },
    /// One that has come back does what is new.
    Settle {
        to: (usize, u64),
    },
    Start {
        executor: usize,
    },
    Pause {
        executor: usize,
        lasts: u64,
    },
    /// An order is not wanted any more.
    Unwanted {
        executor: usize,
        number: usize,
    },
    /// A kill switch stops a symbol, or none does any more.
    Stopped {
        executor: usize,
        symbol: Option<Symbol>,
    },
    LoseLedger,
    /// A person has looked, and nothing is under way.
    Release {
        executor: usize,
    },
    /// An operator has everything looked at again.
    Reconcile {
        executor: usize,
    },
    /// A person looks for what nobody could find out.
    Look {
        executor: usize,
    },
    Checkpoint {
        executor: usize,
    },
}

impl Event {
    /// The executor that has to be awake and in the same life for it.
    pub(crate) fn to(&self) -> Option<(usize, u64)> {
        match self {
            Self::Committed { to, .. }
            | Self::Slots { to, .. }
            | Self::Answer { to, .. }
            | Self::Found { to, .. }
            | Self::Settle { to }
            | Self::Cancelled { to, .. }
            | Self::Told { to, .. }
            | Self::Traded { to, .. }
            | Self::TradedOf { to, .. }
            | Self::Past { to, .. }
            | Self::Begun { to, .. } => Some(*to),
            _ => None,
        }
    }
}
