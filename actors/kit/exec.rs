//! What the four actors of exec tell each other.
//!
//! ```text
//!        Step ──▶ router ──▶ BrokerStep ──▶ broker (primary, backup)
//! risk   ◀── StepDone ◀──── BrokerDone ◀───┘
//!        ── Ledger ──▶ positions
//! ```
//!
//! Risk drives. The others do what they are told in the order they are told it, so each mailbox is a
//! queue of steps and the whole group is in lockstep. All of it belongs to one *epoch*: when any of
//! them has lost its state, risk begins another from the group's checkpoint, and what still comes in
//! from the one before is dropped.

use std::sync::Arc;

use tickwright_core::domain::Histogram;
use tickwright_core::domain::{
    BrokerEvent, BrokerId, Fill, Instrument, InstrumentIndex, Key, Order, OrderId, Placement,
    Price, Quantity, Scope, SourceId, SymbolId, TickBatch, Timestamp, TopOfBook,
};
use tickwright_core::pipeline::risk::ApprovedOrder;
use tickwright_core::pipeline::venue::BrokerCounters;
use tickwright_core::stream::Run;

/// Counts the times the group began anew from its checkpoint.
pub type Epoch = u64;

/// A symbol of a source, and what exec calls it.
#[derive(Clone, Debug)]
pub struct Listing {
    /// The source.
    pub source: SourceId,
    /// The symbol's number there.
    pub symbol: SymbolId,
    /// Exec's own number.
    pub index: InstrumentIndex,
    /// What it is.
    pub instrument: Arc<Instrument>,
}

/// One thing the router must know, in the order of keys.
#[derive(Clone, Debug)]
pub enum RouterInput {
    /// Send this order.
    Order {
        /// It passed risk.
        approved: ApprovedOrder,
        /// The key of its signal.
        at: Key,
        /// When the row that it answers was handed over; for latency figures only.
        origin_nanos: u64,
    },
    /// A broker's event has taken effect.
    Event {
        /// Which.
        event: BrokerEvent,
        /// The book of its instrument just then.
        top: TopOfBook,
    },
    /// This order is not wanted any more, since then.
    Cancel(OrderId, Timestamp),
    /// What kill switches stop from now on, in place of what they did; exec's own orders are cancelled one by one.
    Stopped(Vec<Scope>),
}

/// What risk asks of the router.
#[derive(Debug)]
pub struct Step {
    /// See [`Epoch`].
    pub epoch: Epoch,
    /// Symbols that are new.
    pub listings: Vec<Listing>,
    /// Orders and events, in order.
    pub inputs: Vec<RouterInput>,
    /// Rows for the brokers, in order.
    pub runs: Vec<Run<TickBatch>>,
    /// What is wanted besides.
    pub want: Want,
    /// Whether what happens is new, and not a repetition of what happened before a restart.
    pub is_settled: bool,
}

/// What risk waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Nothing.
    Nothing,
    /// What the router makes of the last event.
    Verdict,
    /// What the brokers say up to a time.
    Advance(Timestamp),
    /// What the brokers say now that the data has ended.
    Expire,
    /// The state of router and brokers.
    State,
}

/// The router's answer.
#[derive(Clone, Debug)]
pub enum StepDone {
    /// To [`Want::Verdict`]: events that take effect at once.
    Verdict(Vec<BrokerEvent>),
    /// To [`Want::Advance`] and [`Want::Expire`]: everything due up to a time.
    Advanced {
        /// Up to here; possibly less than was asked.
        to: Timestamp,
        /// In order.
        events: Vec<BrokerEvent>,
    },
    /// To [`Want::State`].
    State(Vec<u8>),
}

/// What the router asks of a broker.
#[derive(Debug)]
pub struct BrokerStep {
    /// See [`Epoch`].
    pub epoch: Epoch,
    /// Symbols that are new.
    pub listings: Arc<Vec<Listing>>,
    /// Orders to take, and when the rows that they answer were handed over.
    pub placements: Vec<(Placement, u64)>,
    /// Orders that are not wanted any more, taken before or with these, and since when.
    pub cancels: Vec<(OrderId, Timestamp)>,
    /// What kill switches stop from now on, if that has changed.
    pub stopped: Option<Arc<Vec<Scope>>>,
    /// Rows, in order.
    pub runs: Arc<Vec<Run<TickBatch>>>,
    /// What is wanted besides. A broker gives no verdicts.
    pub want: Want,
    /// See [`Step`].
    pub is_settled: bool,
}

/// A broker's answer.
#[derive(Clone, Debug)]
pub struct BrokerDone {
    /// See [`Epoch`].
    pub epoch: Epoch,
    /// Who.
    pub broker: BrokerId,
    /// What is due, in order.
    pub events: Vec<BrokerEvent>,
    /// When the next order arrives there.
    pub next_arrival: Option<Timestamp>,
    /// The broker's state, if it was wanted.
    pub state: Option<Vec<u8>>,
}

/// What a broker has done.
#[derive(Clone, Debug)]
pub struct BrokerReport {
    /// The counts.
    pub counters: BrokerCounters,
    /// From the hand-over of a row to the arrival here of the order that answers it, in nanoseconds.
    pub latency: Histogram,
}

/// One line of what has happened, in the final order.
#[derive(Clone, Debug)]
pub enum LedgerEntry {
    /// An order left risk.
    Order(Order),
    /// A fill took effect.
    Fill(Fill, Timestamp),
    /// An order is over, and so much of it did not trade. Told only where it is recorded.
    Closed(OrderId, InstrumentIndex, Quantity, Timestamp),
    /// Time to value everything, at these prices.
    Sample(Timestamp, Vec<(InstrumentIndex, Price)>),
}

/// What risk tells positions.
#[derive(Debug)]
pub struct Ledger {
    /// See [`Epoch`].
    pub epoch: Epoch,
    /// Symbols that are new.
    pub listings: Vec<Listing>,
    /// In order.
    pub entries: Vec<LedgerEntry>,
    /// Whether the state is wanted back.
    pub want_state: bool,
}
