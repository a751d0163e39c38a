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

use serde::{Deserialize, Serialize};

use super::book::{Applied, Book, Difference, Level};
use super::json::{Array, JsonError, Object, unquoted};
use super::number::{Piece, amount, whole_number};
use super::{
    EVENT_TIME_END, EVENT_TIME_MIN, Ingester, LineParser, ParserState, Problem, RowError,
    SymbolEntry,
};
use crate::domain::{Kind, RawTick, SymbolId, decimal, flag, has};

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

/// The members of a frame that mean something, as they stand in the text; empty if not there.
#[derive(Debug, Default)]
struct Frame<'text> {
    event: &'text [u8],
    symbol: &'text [u8],
    time: &'text [u8],
    event_time: &'text [u8],
    price: &'text [u8],
    quantity: &'text [u8],
    trade_id: &'text [u8],
    is_buyer_maker: &'text [u8],
    is_best_match: &'text [u8],
    class: &'text [u8],
    bid: &'text [u8],
    bid_quantity: &'text [u8],
    ask: &'text [u8],
    ask_quantity: &'text [u8],
    update_first: &'text [u8],
    update_last: &'text [u8],
    update_previous: &'text [u8],
    bids: &'text [u8],
    asks: &'text [u8],
    stream: &'text [u8],
    data: &'text [u8],
    is_answer: bool,
}

impl<'text> Frame<'text> {
    fn read(text: &'text [u8]) -> Result<Self, JsonError> {
        let mut frame = Self::default();
        let mut object = Object::open(text, 0)?;
        while let Some((key, value)) = object.next()? {
            let value = unquoted(value);
            match key {
                b"e" => frame.event = value,
                b"s" | b"symbol" => frame.symbol = value,
                b"T" => frame.time = value,
                b"E" => frame.event_time = value,
                b"p" => frame.price = value,
                b"q" => frame.quantity = value,
                b"t" => frame.trade_id = value,
                b"m" => frame.is_buyer_maker = value,
                b"M" => frame.is_best_match = value,
                b"X" => frame.class = value,
                b"b" => frame.bid = value,
                b"B" => frame.bid_quantity = value,
                b"a" => frame.ask = value,
                b"A" => frame.ask_quantity = value,
                b"U" => frame.update_first = value,
                b"u" | b"lastUpdateId" => frame.update_last = value,
                b"pu" => frame.update_previous = value,
                b"bids" => frame.bids = value,
                b"asks" => frame.asks = value,
                b"stream" => frame.stream = value,
                b"data" => frame.data = value,
                b"result" | b"error" | b"id" | b"code" => frame.is_answer = true,
                _ => {}
            }
        }
        let end = super::json::blank_end(text, object.end());
        if end < text.len() {
            return Err(JsonError { at: end, reason: "something follows the object" });
        }
        Ok(frame)
    }

    /// The market that only frames of this shape come from.
    fn market(&self) -> Market {
        let pair = self.symbol.split(|&byte| byte == b'_').next().unwrap_or_default();
        if pair.len() < self.symbol.len() && pair.ends_with(b"USD") {
            return Market::CoinMargined;
        }
        let is_spot = match self.event {
            b"trade" | b"aggTrade" => !self.is_best_match.is_empty(),
            b"depthUpdate" => self.update_previous.is_empty(),
            _ => self.time.is_empty(),
        };
        if is_spot { Market::Spot } else { Market::UsdMargined }
    }
}

/// A frame with its place, for messages.
#[derive(Clone, Copy)]
struct Place<'text> {
    line: &'text [u8],
    number: u64,
}

impl Place<'_> {
    /// Blames `value`, a part of the line, which the frame calls `name`.
    #[cold]
    fn error(self, name: &str, value: &[u8], problem: Problem) -> Box<RowError> {
        let start = self.line.as_ptr().addr();
        let at = value.as_ptr().addr().wrapping_sub(start);
        let column = if at <= self.line.len() { at + 1 } else { 1 };
        RowError::new(self.number, column, name, value, problem)
    }

    #[cold]
    fn missing(self, field: &str) -> Box<RowError> {
        let problem = Problem::FieldMissing { field: field.to_owned() };
        RowError::new(self.number, 1, "frame", self.line, problem)
    }

    #[cold]
    fn json(self, text: &[u8], error: JsonError) -> Box<RowError> {
        self.error("frame", &text[error.at.min(text.len())..], error.problem())
    }

    fn amount(self, name: &str, value: &[u8], decimals: u8) -> Result<i64, Box<RowError>> {
        amount(Piece::whole(value), decimals).map_err(|error| self.error(name, value, error.into()))
    }

    fn number(self, name: &str, value: &[u8]) -> Result<u64, Box<RowError>> {
        whole_number(Piece::whole(value)).map_err(|problem| self.error(name, value, problem))
    }

    /// A time in milliseconds, or in microseconds where it is that long, as nanoseconds.
    fn time(self, name: &str, value: &[u8]) -> Result<u64, Box<RowError>> {
        let number = self.number(name, value)?;
        let nanos = if number < 100_000_000_000_000 {
            number.checked_mul(1_000_000)
        } else {
            number.checked_mul(1_000)
        };
        match nanos {
            Some(nanos) if (EVENT_TIME_MIN..EVENT_TIME_END).contains(&nanos) => Ok(nanos),
            _ => Err(self.error(name, value, Problem::TimeOutOfRange)),
        }
    }

    /// Prices and quantities of one side of a book.
    fn levels(
        self,
        name: &str,
        text: &[u8],
        entry: SymbolEntry,
    ) -> Result<Vec<Level>, Box<RowError>> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let mut levels = Vec::new();
        let mut array = Array::open(text, 0).map_err(|error| self.json(text, error))?;
        while let Some(item) = array.next().map_err(|error| self.json(text, error))? {
            let mut pair = Array::open(item, 0).map_err(|error| self.json(item, error))?;
            let mut next = || pair.next().map_err(|error| self.json(item, error));
            let (Some(price), Some(quantity)) = (next()?, next()?) else {
                return Err(self.error(name, item, Problem::Empty));
            };
            levels.push((
                self.amount(name, unquoted(price), entry.price_decimals)?,
                self.amount(name, unquoted(quantity), entry.quantity_decimals)?,
            ));
        }
        Ok(levels)
    }
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

    fn difference(
        &mut self,
        frame: &Frame<'_>,
        place: Place<'_>,
        receive_time: u64,
        ingester: &mut Ingester,
    ) -> Result<FrameOutcome, Box<RowError>> {
        let (event_time, flags) = Self::quote_time(frame, place, receive_time)?;
        let entry = self.intern(frame, place, ingester)?;
        if self.state.symbols[entry.id.index()].has_ticker {
            ingester.skipped();
            return Ok(FrameOutcome::Read);
        }
        let difference = Difference {
            first: place.number("U", frame.update_first)?,
            last: place.number("u", frame.update_last)?,
            previous: match frame.update_previous {
                b"" => None,
                previous => Some(place.number("pu", previous)?),
            },
            bids: place.levels("b", frame.bid, entry)?,
            asks: place.levels("a", frame.ask, entry)?,
        };
        let applied = self.state.symbols[entry.id.index()].book.on_difference(difference);
        Ok(self.after_book(entry.id, applied, event_time, receive_time, flags, ingester))
    }

    fn book_snapshot(
        &mut self,
        frame: &Frame<'_>,
        entry: Option<SymbolEntry>,
        place: Place<'_>,
        receive_time: u64,
        ingester: &mut Ingester,
    ) -> Result<FrameOutcome, Box<RowError>> {
        let (event_time, flags) = Self::quote_time(frame, place, receive_time)?;
        let entry = match (entry, self.state.last_symbol) {
            (Some(entry), _) => entry,
            (None, Some(symbol)) => ingester.entry(symbol).ok_or_else(|| place.missing("s"))?,
            (None, None) => return Err(place.missing("s")),
        };
        let index = entry.id.index();
        if self.state.symbols.len() <= index {
            self.state.symbols.resize_with(index + 1, SymbolState::default);
        }
        if self.state.symbols[index].has_ticker {
            ingester.skipped();
            return Ok(FrameOutcome::Read);
        }
        let last = place.number("lastUpdateId", frame.update_last)?;
        let bids = place.levels("bids", frame.bids, entry)?;
        let asks = place.levels("asks", frame.asks, entry)?;
        let applied = self.state.symbols[index].book.on_snapshot(last, &bids, &asks);
        Ok(self.after_book(entry.id, applied, event_time, receive_time, flags, ingester))
    }

    /// Pushes a quote if the top of the symbol's book is another one now.
    fn after_book(
        &mut self,
        symbol: SymbolId,
        applied: Applied,
        event_time: u64,
        receive_time: u64,
        flags: u16,
        ingester: &mut Ingester,
    ) -> FrameOutcome {
        let state = &mut self.state.symbols[symbol.index()];
        match applied {
            Applied::Gap => {
                ingester.gap();
                ingester.skipped();
                return FrameOutcome::SnapshotWanted(symbol);
            }
            Applied::Waiting | Applied::Stale => {
                ingester.skipped();
                return FrameOutcome::SnapshotWanted(symbol);
            }
            Applied::Old => {
                ingester.skipped();
                return FrameOutcome::Read;
            }
            Applied::Yes => {}
        }
        let top = state.book.top();
        if top == state.top {
            ingester.skipped();
            return FrameOutcome::Read;
        }
        state.top = top;
        let mut row = RawTick {
            event_time,
            receive_time,
            id: state.book.last_update(),
            symbol: symbol.0,
            kind: Kind::Quote as u8,
            flags,
            has: has::ID,
            ..RawTick::default()
        };
        if let Some((price, quantity)) = top.0 {
            (row.bid, row.bid_quantity) = (price, quantity);
            row.has |= has::BID | has::BID_QUANTITY;
        }
        if let Some((price, quantity)) = top.1 {
            (row.ask, row.ask_quantity) = (price, quantity);
            row.has |= has::ASK | has::ASK_QUANTITY;
        }
        ingester.push(row);
        FrameOutcome::Read
    }
}

/// Reads recordings of frames: `<receive time in unix ns> {...}` or `{...}` a line, or cryptofeed's
/// `<receive time in seconds>: {...}` with lines of addresses between.
#[derive(Debug)]
pub struct RecordingParser {
    frames: FrameParser,
}

impl RecordingParser {
    /// A parser before its first line. Without `market` each frame is asked for its own.
    pub fn new(market: Option<Market>) -> Self {
        Self { frames: FrameParser::new(market) }
    }

    /// Whether `line` could be one of a recording.
    pub fn recognises(line: &[u8]) -> bool {
        if line.starts_with(b"wss://") || line.starts_with(b"{") {
            return true;
        }
        let time = line.iter().position(|byte| !(byte.is_ascii_digit() || *byte == b'.'));
        let Some(time) = time.filter(|&time| time >= 10) else { return false };
        line[time..]
            .strip_prefix(b":")
            .unwrap_or(&line[time..])
            .trim_ascii_start()
            .starts_with(b"{")
    }
}

impl LineParser for RecordingParser {
    fn row(
        &mut self,
        line: &[u8],
        number: u64,
        ingester: &mut Ingester,
    ) -> Result<(), Box<RowError>> {
        let Some(start) = memchr::memchr(b'{', line) else {
            if [&b"wss://"[..], b"ws://", b"https://", b"http://"]
                .iter()
                .any(|scheme| line.starts_with(scheme))
            {
                ingester.skipped();
                return Ok(());
            }
            let reason = "a frame should begin with {".to_owned();
            return Err(RowError::new(number, 1, "frame", line, Problem::Json { reason }));
        };
        let fail = |problem| RowError::new(number, 1, "receive time", &line[..start], problem);
        let time = line[..start].trim_ascii_end();
        let receive_time = match time.strip_suffix(b":") {
            _ if time.is_empty() => 0,
            Some(seconds) => {
                let nanos = decimal::parse(seconds, 9).map_err(|error| fail(error.into()))?;
                u64::try_from(nanos).map_err(|_| fail(Problem::OutOfRange))?
            }
            None => whole_number(Piece::whole(time)).map_err(fail)?,
        };
        if !time.is_empty() && !(EVENT_TIME_MIN..EVENT_TIME_END).contains(&receive_time) {
            return Err(fail(Problem::TimeOutOfRange));
        }
        self.frames.frame(&line[start..], receive_time, number, ingester).map_err(
            |mut error| {
                if let Some(column) = &mut error.column {
                    column.number += u32::try_from(start).unwrap_or(0);
                }
                error
            },
        )?;
        Ok(())
    }

    fn state(&self) -> ParserState {
        ParserState::Frames(self.frames.state().clone())
    }

    fn restore(&mut self, state: &ParserState) {
        if let ParserState::Frames(state) = state {
            self.frames.restore(state.clone());
        }
    }
}

#[cfg(test)]
mod tests;
