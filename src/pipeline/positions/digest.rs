//! One number for everything that was ordered and traded: equal digests are equal runs.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::domain::{Fill, Instrument, Order, OrderId, Side, Symbol, Timestamp};

/// d ← BLAKE3(d ‖ record), over orders and fills in the order in which they took effect.
///
/// Records hold integers and symbol text: nothing that differs between runs, nodes or attempts, and
/// no number that is local to a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderDigest {
    state: [u8; 32],
    records: u64,
}

impl OrderDigest {
    /// How many orders and fills it covers. A digest of none proves nothing.
    pub const fn records(&self) -> u64 {
        self.records
    }

    /// Takes in an approved order.
    pub fn on_order(&mut self, order: &Order, instrument: &Instrument) {
        let mut record = Record::new(1, &order.id, &instrument.symbol);
        record.put(&order.strategy.0.to_le_bytes());
        record.put(&order.account.0.to_le_bytes());
        record.put(&[side(order.side), u8::from(order.reduce_only)]);
        record.put(&order.quantity.0.to_le_bytes());
        record.put(&order.limit_price.0.to_le_bytes());
        self.push(&record);
    }

    /// Takes in a fill that took effect at `at`.
    pub fn on_fill(&mut self, fill: &Fill, instrument: &Instrument, at: Timestamp) {
        let mut record = Record::new(2, &fill.order, &instrument.symbol);
        record.put(&at.as_nanos().to_le_bytes());
        record.put(&fill.account.0.to_le_bytes());
        record.put(&fill.trade_id.to_le_bytes());
        record.put(&[fill.broker.0, side(fill.side)]);
        record.put(&fill.quantity.0.to_le_bytes());
        record.put(&fill.price.0.to_le_bytes());
        record.put(&fill.fee.0.to_le_bytes());
        self.push(&record);
    }

    fn push(&mut self, record: &Record) {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.state).update(record.bytes());
        self.state = *hasher.finalize().as_bytes();
        self.records += 1;
    }
}

impl fmt::Display for OrderDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

const fn side(side: Side) -> u8 {
    match side {
        Side::Buy => 0,
        Side::Sell => 1,
    }
}

/// What is hashed of one order or fill: a tag, the text of the symbol after its length, and integers
/// of fixed width, so that no two different records have the same bytes.
struct Record {
    bytes: [u8; Self::LEN_MAX],
    length: usize,
}

impl Record {
    /// Tag, id, symbol, and the longer of the two lists of integers.
    const LEN_MAX: usize = 1 + 22 + 1 + Symbol::LEN_MAX + 64;

    fn new(tag: u8, id: &OrderId, symbol: &Symbol) -> Self {
        let mut record = Self { bytes: [0; Self::LEN_MAX], length: 0 };
        record.put(&[tag]);
        record.put(&id.key.frontier.as_nanos().to_le_bytes());
        record.put(&id.key.source.0.to_le_bytes());
        record.put(&id.key.sequence.to_le_bytes());
        record.put(&id.ordinal.to_le_bytes());
        let text = symbol.as_str().as_bytes();
        record.put(&[u8::try_from(text.len()).expect("a symbol has at most 64 bytes")]);
        record.put(text);
        record
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}
