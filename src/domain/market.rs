//! Market events, as rows and as blocks of rows.
//!
//! A [`RawTick`] is what a source said; a [`Tick`] is what the cleaner let through, cut down to what
//! factors and brokers read. Both are plain old data, so blocks of them move, are journaled and
//! cross nodes without being re-encoded row by row.

use std::sync::Arc;

use bytemuck::{Pod, Zeroable};
use serde::{Deserialize, Serialize};

use super::{Instrument, Key, Price, Quantity, SourceId, SymbolId, Timestamp};

/// What a row tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Kind {
    /// Two parties traded.
    Trade = 0,
    /// The top of the book changed, on one side or both.
    Quote = 1,
    /// The venue's periodic picture: last price, volume since the one before, top of the book.
    Snapshot = 2,
    /// No market event: event time has reached a window step. Every stream carries it.
    Boundary = 3,
}

impl Kind {
    /// The kind a row's byte stands for.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Trade),
            1 => Some(Self::Quote),
            2 => Some(Self::Snapshot),
            3 => Some(Self::Boundary),
            _ => None,
        }
    }
}

/// Which fields of a row the source gave: bits of [`Tick::has`] and [`RawTick::has`].
pub mod has {
    /// Trade or last price.
    pub const PRICE: u8 = 1;
    /// Traded quantity.
    pub const VOLUME: u8 = 1 << 1;
    /// Best bid.
    pub const BID: u8 = 1 << 2;
    /// Best ask.
    pub const ASK: u8 = 1 << 3;
    /// Quantity at the best bid.
    pub const BID_QUANTITY: u8 = 1 << 4;
    /// Quantity at the best ask.
    pub const ASK_QUANTITY: u8 = 1 << 5;
    /// Cumulative volume of the day (raw rows only).
    pub const CUMULATIVE: u8 = 1 << 6;
    /// Trade or book-update id (raw rows only).
    pub const ID: u8 = 1 << 7;
    /// The book is indicative, because the venue is in a call auction or a break: nobody can trade on
    /// it (clean rows only).
    pub const INDICATIVE: u8 = 1 << 6;
}

/// Bits of [`RawTick::flags`].
pub mod flag {
    /// `event_time` is the local receive time, for want of a better one.
    pub const TIME_IS_RECEIVED: u16 = 1;
    /// The aggressor bought.
    pub const SIDE_BUY: u16 = 1 << 1;
    /// The aggressor sold.
    pub const SIDE_SELL: u16 = 1 << 2;
    /// The vendor marked the row as suspicious.
    pub const SUSPICIOUS: u16 = 1 << 3;
    /// The venue was in a call auction.
    pub const AUCTION: u16 = 1 << 4;
    /// The venue was closed, or in a break.
    pub const CLOSED: u16 = 1 << 5;
    /// A trade outside the order book (insurance fund, auto-deleveraging): not for marks or factors.
    pub const OFF_BOOK: u16 = 1 << 6;
}

/// One market event as a source gave it. 104 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct RawTick {
    /// When it happened, by the venue's clock if the source has it; unix nanoseconds. A boundary row
    /// has the window step here.
    pub event_time: u64,
    /// When it was received; unix nanoseconds, 0 when the source does not say.
    pub receive_time: u64,
    /// Trade or last price, in steps of the instrument.
    pub price: i64,
    /// Traded quantity, in steps of the instrument.
    pub volume: i64,
    /// Best bid.
    pub bid: i64,
    /// Best ask.
    pub ask: i64,
    /// Quantity at the best bid.
    pub bid_quantity: i64,
    /// Quantity at the best ask.
    pub ask_quantity: i64,
    /// Cumulative volume of the day.
    pub cumulative: i64,
    /// Trade id, or book-update id of a quote.
    pub id: u64,
    /// Trading day as yyyymmdd; 0 when the source does not say.
    pub trading_day: u32,
    /// Who trades; see [`SymbolId`].
    pub symbol: u32,
    /// A hash of sale conditions and their like, so that equal rows can be told from similar ones.
    pub condition: u32,
    /// [`flag`]s.
    pub flags: u16,
    /// [`Kind`].
    pub kind: u8,
    /// [`has`] bits.
    pub has: u8,
    /// The venue's code for who quoted (the first byte of `ex=`); 0 when the source does not say.
    pub venue_code: u8,
    /// Always zero.
    pub padding: [u8; 7],
}

/// One clean market event. 64 bytes.
///
/// Its key is held as the difference from its batch's; ask [`TickBatch::key`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Tick {
    /// Trade or last price, in steps of the instrument. Zero unless [`has::PRICE`].
    pub price: i64,
    /// Traded quantity. Zero unless [`has::VOLUME`].
    pub volume: i64,
    /// Best bid. Zero unless [`has::BID`].
    pub bid: i64,
    /// Best ask. Zero unless [`has::ASK`].
    pub ask: i64,
    /// Quantity at the best bid. Zero unless [`has::BID_QUANTITY`].
    pub bid_quantity: i64,
    /// Quantity at the best ask. Zero unless [`has::ASK_QUANTITY`].
    pub ask_quantity: i64,
    /// Nanoseconds from the batch's first frontier, the lower 32 bits.
    pub frontier_low: u32,
    /// Nanoseconds from the batch's first frontier, the upper 16 bits: 3.2 days in all.
    pub frontier_high: u16,
    /// [`Kind`].
    pub kind: u8,
    /// [`has`] bits, the first six, and [`has::INDICATIVE`].
    pub has: u8,
    /// Rows from the batch's first sequence number.
    pub sequence: u32,
    /// Who trades; see [`SymbolId`].
    pub symbol: u32,
}

const _: () = assert!(size_of::<Tick>() == 64 && size_of::<RawTick>() == 104);

impl Tick {
    /// What the row tells of.
    pub fn kind(&self) -> Kind {
        Kind::from_byte(self.kind).expect("only the cleaner makes ticks, from kinds")
    }

    /// Trade or last price.
    pub fn price(&self) -> Option<Price> {
        self.given(has::PRICE).then_some(Price(self.price))
    }

    /// Traded quantity.
    pub fn volume(&self) -> Option<Quantity> {
        self.given(has::VOLUME).then_some(Quantity(self.volume))
    }

    /// Best bid.
    pub fn bid(&self) -> Option<Price> {
        self.given(has::BID).then_some(Price(self.bid))
    }

    /// Best ask.
    pub fn ask(&self) -> Option<Price> {
        self.given(has::ASK).then_some(Price(self.ask))
    }

    /// Quantity at the best bid.
    pub fn bid_quantity(&self) -> Option<Quantity> {
        self.given(has::BID_QUANTITY).then_some(Quantity(self.bid_quantity))
    }

    /// Quantity at the best ask.
    pub fn ask_quantity(&self) -> Option<Quantity> {
        self.given(has::ASK_QUANTITY).then_some(Quantity(self.ask_quantity))
    }

    /// Whether the row tells of a trade: a trade row, or a snapshot within which something traded.
    #[inline]
    pub const fn is_trade(&self) -> bool {
        if !self.given(has::PRICE) {
            return false;
        }
        if self.kind == Kind::Trade as u8 {
            return !self.given(has::VOLUME) || self.volume > 0;
        }
        self.kind == Kind::Snapshot as u8 && self.given(has::VOLUME) && self.volume > 0
    }

    /// Whether the source gave every field in `bits`.
    pub const fn given(&self, bits: u8) -> bool {
        self.has & bits == bits
    }

    /// Whether nobody can trade on the book that the row shows: a call auction, a break.
    pub const fn is_indicative(&self) -> bool {
        self.has & has::INDICATIVE != 0
    }

    /// The row's symbol within its source.
    pub const fn symbol(&self) -> SymbolId {
        SymbolId(self.symbol)
    }

    /// Nanoseconds from the batch's first frontier.
    pub const fn frontier_offset(&self) -> u64 {
        self.frontier_low as u64 | (self.frontier_high as u64) << 32
    }
}

/// A symbol's number and everything that is known of it, sent before its first row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// The number in this source.
    pub id: SymbolId,
    /// What it stands for.
    pub instrument: Arc<Instrument>,
}

/// Rows of one source as they were read; row `n` has sequence `first_sequence + n`.
#[derive(Clone, Debug, Default)]
pub struct RawBatch {
    /// The source.
    pub source: SourceId,
    /// The sequence number of the first row.
    pub first_sequence: u64,
    /// The source's frontier just before the first row.
    pub frontier_before: Timestamp,
    /// Symbols that appear here for the first time.
    pub definitions: Vec<Definition>,
    /// The rows, boundary rows among them.
    pub rows: Vec<RawTick>,
    /// When the first row was handed over, by the node's monotonic clock, in nanoseconds. For
    /// latency figures only: nothing may depend on it.
    pub origin_nanos: u64,
}

impl RawBatch {
    /// Keys and rows in order. The frontier is the running maximum of event time.
    pub fn keyed(&self) -> impl Iterator<Item = (Key, &RawTick)> {
        let mut frontier = self.frontier_before;
        (self.first_sequence..).zip(&self.rows).map(move |(sequence, row)| {
            frontier = frontier.max(Timestamp::from_nanos(row.event_time));
            (Key { frontier, source: self.source, sequence }, row)
        })
    }
}

/// Clean rows of one source, in key order; not every sequence number is there.
#[derive(Clone, Debug, Default)]
pub struct TickBatch {
    /// The source.
    pub source: SourceId,
    /// What the rows' sequence numbers count from.
    pub base_sequence: u64,
    /// What the rows' frontiers count from.
    pub base_frontier: Timestamp,
    /// Symbols that appear in this stream for the first time.
    pub definitions: Vec<Definition>,
    /// The rows, boundary rows among them.
    pub rows: Vec<Tick>,
    /// When the first row was handed over, by the node's monotonic clock, in nanoseconds. For
    /// latency figures only: nothing may depend on it.
    pub origin_nanos: u64,
}

impl TickBatch {
    /// The key of a row of this batch.
    #[inline]
    pub fn key(&self, row: &Tick) -> Key {
        Key {
            frontier: self.frontier(row),
            source: self.source,
            sequence: self.base_sequence + u64::from(row.sequence),
        }
    }

    /// The frontier of a row of this batch.
    #[inline]
    pub fn frontier(&self, row: &Tick) -> Timestamp {
        Timestamp::from_nanos(self.base_frontier.as_nanos() + row.frontier_offset())
    }

    /// Appends `tick` under `key`. An empty batch takes the key as its base.
    ///
    /// Returns false, and appends nothing, when the key is too far from the base: 3.2 days or 2^32
    /// rows. The caller then starts another batch.
    #[expect(clippy::cast_possible_truncation, reason = "checked to fit, then split")]
    pub fn push(&mut self, key: Key, mut tick: Tick) -> bool {
        if self.rows.is_empty() {
            self.base_frontier = key.frontier;
            self.base_sequence = key.sequence;
        }
        let frontier = key.frontier.as_nanos() - self.base_frontier.as_nanos();
        let sequence = key.sequence - self.base_sequence;
        if frontier >> 48 != 0 || sequence >> 32 != 0 {
            return false;
        }
        tick.frontier_low = frontier as u32;
        tick.frontier_high = (frontier >> 32) as u16;
        tick.sequence = sequence as u32;
        self.rows.push(tick);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(frontier: u64, sequence: u64) -> Key {
        Key { frontier: Timestamp::from_nanos(frontier), source: SourceId(3), sequence }
    }

    #[test]
    fn a_row_gives_back_the_key_it_was_pushed_under() {
        let mut batch = TickBatch { source: SourceId(3), ..TickBatch::default() };
        let keys = [key(1_000, 7), key(1_000, 8), key(1_000 + (1 << 48) - 1, 1_000_000)];
        for key in keys {
            assert!(batch.push(key, Tick::default()));
        }
        let read: Vec<Key> = batch.rows.iter().map(|row| batch.key(row)).collect();
        assert_eq!(read, keys);
        assert!(!batch.push(key(1_000 + (1 << 48), 1_000_001), Tick::default()));
        assert_eq!(batch.rows.len(), 3);
    }

    #[test]
    fn the_frontier_never_falls() {
        let row = |event_time| RawTick { event_time, ..RawTick::default() };
        let batch = RawBatch {
            first_sequence: 5,
            frontier_before: Timestamp::from_nanos(20),
            rows: vec![row(10), row(30), row(25)],
            ..RawBatch::default()
        };
        let frontiers: Vec<u64> = batch.keyed().map(|(key, _)| key.frontier.as_nanos()).collect();
        assert_eq!(frontiers, [20, 30, 30]);
    }
}
