//! The log: one line for each thing that the exchange took, with everything that followed from it.
//!
//! A line is written whole before anybody is answered, and the state is made of the lines and of nothing
//! else, so an exchange that is started again is the one that was.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::amount::Amount;
use super::capability::Capabilities;

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The line's number, from 1.
    pub number: u64,
    /// The exchange's clock, in unix milliseconds.
    pub time: u64,
    /// What happened, in order.
    pub events: Vec<Event>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case", deny_unknown_fields)]
pub enum Event {
    /// The exchange was started.
    Started {
        /// Which form the log has.
        format: u32,
        /// What it can do.
        capabilities: Capabilities,
    },
    /// What the exchange can do was changed.
    Capabilities {
        /// What it can do.
        capabilities: Capabilities,
    },
    /// An account was opened.
    Account {
        /// Whose.
        account: String,
        /// What it begins with, by asset.
        balances: BTreeMap<String, Amount>,
    },
    /// An order was accepted.
    Order(Accepted),
    /// A request was refused.
    Rejected {
        /// Whose.
        account: String,
        /// What was asked for: `POST /api/v3/order`.
        request: String,
        /// The client's id of the order, if it gave one.
        client_id: Option<String>,
        /// The code.
        code: i32,
        /// The text.
        message: String,
    },
    /// An order, or two, traded.
    Fill(Fill),
    /// An order is over before it was filled whole.
    Closed {
        /// Which.
        order_id: u64,
        /// How: `CANCELED` or `EXPIRED`.
        status: Status,
        /// The client's id of the cancellation.
        cancel_id: Option<String>,
    },
    /// An account was sealed to a new owner.
    Session {
        /// Which.
        account: String,
        /// The owner's number.
        session: u64,
    },
}

/// An order as it was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accepted {
    /// Whose.
    pub account: String,
    /// Of what.
    pub symbol: String,
    /// To buy or to sell.
    pub side: Side,
    /// `LIMIT` or `MARKET`.
    pub order_type: OrderType,
    /// How long it stays; `IOC` for a market order.
    pub time_in_force: TimeInForce,
    /// The limit; 0 for a market order.
    pub price: Amount,
    /// How much.
    pub quantity: Amount,
    /// The client's id, or one that the exchange made.
    pub client_id: String,
    /// The exchange's id.
    pub order_id: u64,
    /// The time that the request carried, unix milliseconds.
    pub timestamp: u64,
    /// How long it was to be good for, milliseconds.
    pub recv_window: u64,
    /// The number of the owner that sent it, if it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<u64>,
    /// What else was sent under names that begin with `x-`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, String>,
}

/// One trade: of two accounts, or of one with the outside market.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fill {
    /// Of what.
    pub symbol: String,
    /// The trade's id, ascending for each symbol.
    pub trade_id: u64,
    /// At which price.
    pub price: Amount,
    /// How much.
    pub quantity: Amount,
    /// The order that bought, if it was an account's.
    pub buyer: Option<FillSide>,
    /// The order that sold, if it was an account's.
    pub seller: Option<FillSide>,
    /// Whether the buyer had been there first.
    pub is_buyer_maker: bool,
}

/// One account's part of a trade.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FillSide {
    /// Which order.
    pub order_id: u64,
    /// What it paid, in the asset that it got.
    pub fee: Amount,
}

/// To buy or to sell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Side {
    /// To buy.
    Buy,
    /// To sell.
    Sell,
}

impl Side {
    /// The other one.
    pub const fn other(self) -> Self {
        match self {
            Self::Buy => Self::Sell,
            Self::Sell => Self::Buy,
        }
    }
}

/// Kinds of orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum OrderType {
    /// With a limit.
    Limit,
    /// At whatever price there is.
    Market,
}

/// How long an order stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum TimeInForce {
    /// Until it is cancelled.
    Gtc,
    /// What cannot be filled at once expires.
    Ioc,
    /// All at once or nothing.
    Fok,
}

/// How far an order has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// Nothing has been filled.
    New,
    /// A part has been filled.
    PartiallyFilled,
    /// All has been filled.
    Filled,
    /// Its owner took it back.
    Canceled,
    /// It could not be filled at once.
    Expired,
}

impl Status {
    /// Whether it is still in the book.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::New | Self::PartiallyFilled)
    }
}

/// The form of the log that this program writes.
pub const LOG_FORMAT: u32 = 1;

/// Longest line that is read.
pub const LINE_BYTES_MAX: usize = 4 << 20;

/// Why a log cannot be gone by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// A line that is not an entry.
    #[error("line {line} is damaged: {message}")]
    Damaged {
        /// Which, from 1.
        line: u64,
        /// What is wrong with it.
        message: String,
    },
    /// A line is missing, or there twice.
    #[error("line {line} has number {found}; {expected} was to come")]
    Number {
        /// Which, from 1.
        line: u64,
        /// What it has.
        found: u64,
        /// What the line before said.
        expected: u64,
    },
    /// Written by a newer program.
    #[error("line {line} is of format {format}; this program reads format {LOG_FORMAT}")]
    Format {
        /// Which, from 1.
        line: u64,
        /// What it is.
        format: u32,
    },
    /// It says what cannot have been.
    #[error("line {line} does not fit: {message}")]
    Impossible {
        /// Which, from 1.
        line: u64,
        /// What does not.
        message: String,
    },
}

/// Reads lines in order, and checks that none is missing.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogReader {
    pub(super) lines: u64,
}

impl LogReader {
    /// Reads the next line, without its end.
    ///
    /// # Errors
    ///
    /// [`LogError`], which names the line.
    pub fn read(&mut self, text: &[u8]) -> Result<Entry, LogError> {
        let line = self.lines + 1;
        let entry: Entry = serde_json::from_slice(text)
            .map_err(|error| LogError::Damaged { line, message: error.to_string() })?;
        if entry.number != line {
            return Err(LogError::Number { line, found: entry.number, expected: line });
        }
        for event in &entry.events {
            if let Event::Started { format, .. } = event
                && *format != LOG_FORMAT
            {
                return Err(LogError::Format { line, format: *format });
            }
        }
        self.lines = line;
        Ok(entry)
    }

    /// Lines read so far.
    pub const fn lines(self) -> u64 {
        self.lines
    }
}
