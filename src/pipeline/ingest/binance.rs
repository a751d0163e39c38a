//! Binance's WebSocket frames, live or recorded, of all three markets.
//!
//! | Event                     | Becomes                                                               |
//! |---------------------------|-----------------------------------------------------------------------|
//! | `trade`, `aggTrade`       | a trade at `T`; of the two streams, the one seen first for a symbol   |
//! | `bookTicker`              | a quote at `T`; spot has no time there, so it gets the receive time   |
//! | `depthUpdate`, snapshots  | a quote when the top changes, unless the symbol has `bookTicker` too  |
//! | anything else             | nothing; counted as skipped                                           |
//!
//! Frames are read with or without the wrapper of combined streams. The market is told from the
//! frame unless it is given: coin-margined symbols are dollar pairs with an underscore; spot frames
//! lack what futures have (`T` in quotes, `pu` in differences) or have what those lack (`M` in
//! trades).
//!
//! # Invariants
//!
//! 1. A frame gives at most one row.
//! 2. A quote made from differences is made from all of them since a snapshot.

mod books;
mod frame;
mod recording;

use serde::{Deserialize, Serialize};

use super::book::{Book, Level};
use super::{EVENT_TIME_END, EVENT_TIME_MIN, Ingester, RowError, SymbolEntry};
use crate::domain::{Kind, RawTick, SymbolId, flag, has};
use frame::{Frame, Place};
pub use recording::RecordingParser;

/// Binance's markets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Market {
    /// Coins against coins.
    Spot,
    /// Futures margined in dollars.
    UsdMargined,
    /// Futures margined in the coin.
    CoinMargined,
}

impl Market {
    /// The venue in the symbols of this market.
    pub const fn venue(self) -> &'static str {
        match self {
            Self::Spot => "BINANCE_SPOT",
            Self::UsdMargined => "BINANCE_USDM",
            Self::CoinMargined => "BINANCE_COINM",
        }
    }
}

/// What came of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameOutcome {
    /// It was read.
    Read,
    /// It was read, and the symbol's book waits for a snapshot: a live client fetches one and hands
    /// it to [`FrameParser::snapshot`].
    SnapshotWanted(SymbolId),
}

/// What is remembered of a symbol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct SymbolState {
    trades: TradeStream,
    has_ticker: bool,
    /// The last trade's id in its stream; 0 before the first.
    trade_id: u64,
    book: Book,
    /// The top that the last quote from the book told.
    top: (Option<Level>, Option<Level>),
}

/// Which of the two streams of trades counts for a symbol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum TradeStream {
    #[default]
    Unknown,
    Single,
    Aggregated,
}

/// What frames before have told; part of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameState {
    /// By [`SymbolId`].
    symbols: Vec<SymbolState>,
    /// The symbol of the last frame: spot's depth snapshots do not name theirs.
    last_symbol: Option<SymbolId>,
}

/// Reads frames one by one.
#[derive(Debug)]
pub struct FrameParser {
    market: Option<Market>,
    state: FrameState,
    /// A symbol under construction, kept to save its allocation.
    name: Vec<u8>,
}

impl FrameParser {
    /// A parser before its first frame. Without `market` each frame is asked for its own.
    pub fn new(market: Option<Market>) -> Self {
        Self { market, state: FrameState::default(), name: Vec::new() }
    }

    /// What must be known to read on.
    pub const fn state(&self) -> &FrameState {
        &self.state
    }

    /// Goes on from `state`.
    pub fn restore(&mut self, state: FrameState) {
        self.state = state;
    }

    /// Forgets the books: after a reconnection differences are missing.
    pub fn on_reconnect(&mut self) {
        for symbol in &mut self.state.symbols {
            symbol.book = Book::default();
        }
    }

    /// Reads one frame, received at `receive_time` in unix nanoseconds (0: not known), and pushes what
    /// it says. `number` is its line or its count, for messages.
    ///
    /// # Errors
    ///
    /// What is wrong with the frame; nothing has then been pushed or counted.
    pub fn frame(
        &mut self,
        text: &[u8],
        receive_time: u64,
        number: u64,
        ingester: &mut Ingester,
    ) -> Result<FrameOutcome, Box<RowError>> {
        let place = Place { line: text, number };
        let mut frame = Frame::read(text).map_err(|error| place.json(text, error))?;
        if !frame.data.is_empty() {
            let (stream, data) = (frame.stream, frame.data);
            frame = Frame::read(data).map_err(|error| place.json(data, error))?;
            frame.stream = stream;
        }
        match frame.event {
            b"trade" => self.trade(&frame, TradeStream::Single, place, receive_time, ingester),
            b"aggTrade" => {
                self.trade(&frame, TradeStream::Aggregated, place, receive_time, ingester)
            }
            b"bookTicker" => self.ticker(&frame, place, receive_time, ingester),
            b"depthUpdate" => self.difference(&frame, place, receive_time, ingester),
            b"" if !frame.bids.is_empty() || !frame.asks.is_empty() => {
                let symbol = match self.name_of(&frame) {
                    true => Some(self.intern(&frame, place, ingester)?),
                    false => None,
                };
                self.book_snapshot(&frame, symbol, place, receive_time, ingester)
            }
            b"" if !frame.bid.is_empty() && !frame.ask.is_empty() => {
                self.ticker(&frame, place, receive_time, ingester)
            }
            b"" if !frame.is_answer => Err(place.missing("e")),
            _ => {
                ingester.skipped();
                Ok(FrameOutcome::Read)
            }
        }
    }

    /// Reads a depth snapshot that was fetched for `symbol`, as REST gives it.
    ///
    /// # Errors
    ///
    /// As [`FrameParser::frame`].
    pub fn snapshot(
        &mut self,
        text: &[u8],
        symbol: SymbolId,
        receive_time: u64,
        number: u64,
        ingester: &mut Ingester,
    ) -> Result<FrameOutcome, Box<RowError>> {
        let place = Place { line: text, number };
        let frame = Frame::read(text).map_err(|error| place.json(text, error))?;
        self.state.last_symbol = Some(symbol);
        self.book_snapshot(&frame, None, place, receive_time, ingester)
    }

    /// Whether the frame says whose it is, in itself or by its stream; `self.name` then holds the
    /// name.
    fn name_of(&mut self, frame: &Frame<'_>) -> bool {
        self.name.clear();
        if frame.symbol.is_empty() {
            let stream = frame.stream.split(|&byte| byte == b'@').next().unwrap_or_default();
            self.name.extend(stream.iter().map(u8::to_ascii_uppercase));
        } else {
            self.name.extend_from_slice(frame.symbol);
        }
        !self.name.is_empty()
    }

    /// The symbol of the frame.
    fn intern(
        &mut self,
        frame: &Frame<'_>,
        place: Place<'_>,
        ingester: &mut Ingester,
    ) -> Result<SymbolEntry, Box<RowError>> {
        if !self.name_of(frame) {
            return Err(place.missing("s"));
        }
        let market = self.market.unwrap_or_else(|| frame.market());
        self.name.push(b'.');
        self.name.extend_from_slice(market.venue().as_bytes());
        let entry = ingester
            .intern(&self.name)
            .map_err(|problem| place.error("s", frame.symbol, problem))?;
        let index = entry.id.index();
        if self.state.symbols.len() <= index {
            self.state.symbols.resize_with(index + 1, SymbolState::default);
        }
        self.state.last_symbol = Some(entry.id);
        Ok(entry)
    }

    /// The time of a quote: the frame's, or the receive time for want of one.
    fn quote_time(
        frame: &Frame<'_>,
        place: Place<'_>,
        receive_time: u64,
    ) -> Result<(u64, u16), Box<RowError>> {
        let value = if frame.time.is_empty() { frame.event_time } else { frame.time };
        if !value.is_empty() {
            return Ok((place.time("T", value)?, 0));
        }
        if (EVENT_TIME_MIN..EVENT_TIME_END).contains(&receive_time) {
            return Ok((receive_time, flag::TIME_IS_RECEIVED));
        }
        Err(place.missing("T"))
    }

    fn trade(
        &mut self,
        frame: &Frame<'_>,
        stream: TradeStream,
        place: Place<'_>,
        receive_time: u64,
        ingester: &mut Ingester,
    ) -> Result<FrameOutcome, Box<RowError>> {
        let value = if frame.time.is_empty() { frame.event_time } else { frame.time };
        let event_time = place.time("T", value)?;
        let entry = self.intern(frame, place, ingester)?;
        let (name, id) = match stream {
            TradeStream::Aggregated => ("a", frame.ask),
            TradeStream::Single | TradeStream::Unknown => ("t", frame.trade_id),
        };
        let id = place.number(name, id)?;
        let side = match frame.is_buyer_maker {
            b"true" => flag::SIDE_SELL,
            b"false" => flag::SIDE_BUY,
            _ => 0,
        };
        let class = match frame.class {
            b"" | b"MARKET" => 0,
            _ => flag::OFF_BOOK,
        };
        let row = RawTick {
            event_time,
            receive_time,
            price: place.amount("p", frame.price, entry.price_decimals)?,
            volume: place.amount("q", frame.quantity, entry.quantity_decimals)?,
            id,
            symbol: entry.id.0,
            kind: Kind::Trade as u8,
            flags: side | class,
            has: has::PRICE | has::VOLUME | has::ID,
            ..RawTick::default()
        };
        let state = &mut self.state.symbols[entry.id.index()];
        if state.trades == TradeStream::Unknown {
            state.trades = stream;
        }
        if state.trades != stream {
            ingester.skipped();
            return Ok(FrameOutcome::Read);
        }
        if state.trade_id != 0 && id > state.trade_id + 1 {
            ingester.gap();
        }
        state.trade_id = state.trade_id.max(id);
        ingester.push(row);
        Ok(FrameOutcome::Read)
    }

    fn ticker(
        &mut self,
        frame: &Frame<'_>,
        place: Place<'_>,
        receive_time: u64,
        ingester: &mut Ingester,
    ) -> Result<FrameOutcome, Box<RowError>> {
        let (event_time, flags) = Self::quote_time(frame, place, receive_time)?;
        let entry = self.intern(frame, place, ingester)?;
        let (price, quantity) = (entry.price_decimals, entry.quantity_decimals);
        let row = RawTick {
            event_time,
            receive_time,
            bid: place.amount("b", frame.bid, price)?,
            ask: place.amount("a", frame.ask, price)?,
            bid_quantity: place.amount("B", frame.bid_quantity, quantity)?,
            ask_quantity: place.amount("A", frame.ask_quantity, quantity)?,
            id: place.number("u", frame.update_last)?,
            symbol: entry.id.0,
            kind: Kind::Quote as u8,
            flags,
            has: has::BID | has::ASK | has::BID_QUANTITY | has::ASK_QUANTITY | has::ID,
            ..RawTick::default()
        };
        let state = &mut self.state.symbols[entry.id.index()];
        if !state.has_ticker {
            state.has_ticker = true;
            state.book = Book::default();
        }
        ingester.push(row);
        Ok(FrameOutcome::Read)
    }
}

#[cfg(test)]
mod tests;
