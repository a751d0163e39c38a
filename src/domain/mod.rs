//! The words of the trade: what a price, a tick, an order and a fill are, and in which units.
//!
//! Every amount here is an exact integer with the scale of its instrument. Floating point starts in
//! the factor engine, where estimates are made, and never comes back into orders, fills or positions.

mod amount;
mod asset;
mod backoff;
mod closed;
mod control;
pub mod decimal;
mod factors;
mod histogram;
mod instrument;
mod instruments;
mod key;
mod lock;
mod market;
mod node;
mod order;
pub mod parameters;
mod position;
mod slot;
mod snapshot;
mod switch;
mod symbol;
mod time;

pub use amount::{Money, Price, Quantity};
pub use asset::Asset;
pub use backoff::Backoff;
pub use closed::ClosedTrades;
pub use control::{Basis, CHANGE_COUNT_MAX, Control, Hold, MadeChange};
pub use factors::{Cadence, FactorBatch, FactorLayout, FactorRow, FactorSpec, FactorSpecError};
pub use histogram::{Histogram, HistogramBucket, HistogramError};
pub use instrument::{Class, Instrument, Session};
pub use instruments::{InstrumentTerms, Instruments};
pub use key::{Key, SourceId};
pub use lock::{
    LockCommand, LockDone, LockEnd, LockEvent, LockGranularity, LockMode, LockOwner, LockRefusal,
    LockStatistics,
};
pub use market::{Definition, Kind, RawBatch, RawTick, Tick, TickBatch, flag, has};
pub use node::{Incarnation, NodeAddress, NodeId};
pub use order::{
    AccountId, Approval, BrokerEvent, BrokerEventKind, BrokerId, FeeElsewhere, Fill,
    InstrumentIndex, Order, OrderId, Placement, Refusal, Side, Signal, StrategyId, TopOfBook,
};
pub use parameters::{ParameterChange, ParameterError};
pub use position::Position;
pub use slot::{
    ClientOrderId, EndedIntent, OrderIntent, PriceLevels, SignalIdentity, SignalTag, Slot,
    SlotCommand, SlotDone, SlotKey, SlotOutcome, SlotRefusal, SlotRight, SlotState, VenueAccount,
};
pub use snapshot::Snapshot;
pub use switch::{KillSwitch, Scope};
pub use symbol::{Symbol, SymbolError, SymbolId};
pub use time::{Span, Timestamp};
