//! One frame: its members as they stand in the text, read with errors that name them and their place.

use super::super::book::Level;
use super::super::json::{Array, JsonError, Object, blank_end, unquoted};
use super::super::number::{Piece, amount, whole_number};
use super::super::{EVENT_TIME_END, EVENT_TIME_MIN, Problem, RowError, SymbolEntry};
use super::Market;

/// The members of a frame that mean something, as they stand in the text; empty if not there.
#[derive(Debug, Default)]
pub(super) struct Frame<'text> {
    pub(super) event: &'text [u8],
    pub(super) symbol: &'text [u8],
    pub(super) time: &'text [u8],
    pub(super) event_time: &'text [u8],
    pub(super) price: &'text [u8],
    pub(super) quantity: &'text [u8],
    pub(super) trade_id: &'text [u8],
    pub(super) is_buyer_maker: &'text [u8],
    pub(super) is_best_match: &'text [u8],
    pub(super) class: &'text [u8],
    pub(super) bid: &'text [u8],
    pub(super) bid_quantity: &'text [u8],
    pub(super) ask: &'text [u8],
    pub(super) ask_quantity: &'text [u8],
    pub(super) update_first: &'text [u8],
    pub(super) update_last: &'text [u8],
    pub(super) update_previous: &'text [u8],
    pub(super) bids: &'text [u8],
    pub(super) asks: &'text [u8],
    pub(super) stream: &'text [u8],
    pub(super) data: &'text [u8],
    pub(super) is_answer: bool,
}

impl<'text> Frame<'text> {
    pub(super) fn read(text: &'text [u8]) -> Result<Self, JsonError> {
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
        let end = blank_end(text, object.end());
        if end < text.len() {
            return Err(JsonError { at: end, reason: "something follows the object" });
        }
        Ok(frame)
    }

    /// The market that only frames of this shape come from.
    pub(super) fn market(&self) -> Market {
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
pub(super) struct Place<'text> {
    pub(super) line: &'text [u8],
    pub(super) number: u64,
}

impl Place<'_> {
    /// Blames `value`, a part of the line, which the frame calls `name`.
    #[cold]
    pub(super) fn error(self, name: &str, value: &[u8], problem: Problem) -> Box<RowError> {
        let start = self.line.as_ptr().addr();
        let at = value.as_ptr().addr().wrapping_sub(start);
        let column = if at <= self.line.len() { at + 1 } else { 1 };
        RowError::new(self.number, column, name, value, problem)
    }

    #[cold]
    pub(super) fn missing(self, field: &str) -> Box<RowError> {
        let problem = Problem::FieldMissing { field: field.to_owned() };
        RowError::new(self.number, 1, "frame", self.line, problem)
    }

    #[cold]
    pub(super) fn json(self, text: &[u8], error: JsonError) -> Box<RowError> {
        self.error("frame", &text[error.at.min(text.len())..], error.problem())
    }

    pub(super) fn amount(
        self,
        name: &str,
        value: &[u8],
        decimals: u8,
    ) -> Result<i64, Box<RowError>> {
        amount(Piece::whole(value), decimals).map_err(|error| self.error(name, value, error.into()))
    }

    pub(super) fn number(self, name: &str, value: &[u8]) -> Result<u64, Box<RowError>> {
        whole_number(Piece::whole(value)).map_err(|problem| self.error(name, value, problem))
    }

    /// A time in milliseconds, or in microseconds where it is that long, as nanoseconds.
    pub(super) fn time(self, name: &str, value: &[u8]) -> Result<u64, Box<RowError>> {
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
    pub(super) fn levels(
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
