//! What the protocol hears and says.

use serde::{Deserialize, Serialize};

use crate::domain::{
    ClientOrderId, FeeElsewhere, Money, Price, PriceLevels, Quantity, Refusal, Side,
    SignalIdentity, Slot, SlotCommand, SlotKey, Span, Symbol, Timestamp, VenueAccount,
};

use super::{Adoption, Capabilities};

/// What the protocol is told before it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrdersConfig {
    /// Whose orders these are, and where.
    pub venue: VenueAccount,
    /// Which prices share a slot.
    pub levels: PriceLevels,
    /// What the exchange can do.
    pub capabilities: Capabilities,
    /// How long the exchange may take to take a request.
    pub window: Span,
    /// How long after a deadline the exchange may still show an order for the first time.
    pub settle: Span,
    /// The same after it has answered that it does not know itself.
    pub settle_after_error: Span,
    /// How often an order is sent at most.
    pub attempts_max: u32,
    /// What a ledger without slots gets as their number; drawn at random.
    pub new_cluster: u64,
    /// Between two questions about an order that the exchange has, and before one that failed is put
    /// again.
    pub poll: Span,
    /// How long an order rests at the exchange before it is cancelled; none, if it trades at once or is
    /// over (immediate or cancel).
    pub rests: Option<Span>,
}

impl OrdersConfig {
    /// With a window of one second, for Binance's capabilities, a slot for each side of a symbol.
    pub fn new(venue: VenueAccount, new_cluster: u64) -> Self {
        Self {
            venue,
            levels: PriceLevels::One,
            capabilities: Capabilities::BINANCE,
            window: Span::from_secs(1),
            settle: Span::from_secs(2),
            settle_after_error: Span::from_secs(15),
            attempts_max: 2,
            new_cluster,
            poll: Span::from_millis(500),
            rests: None,
        }
    }
}

/// An order that is to be placed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewOrder {
    /// What asked for it. Names the order in all that is said of it.
    pub signal: SignalIdentity,
    /// What.
    pub symbol: Symbol,
    /// Which way.
    pub side: Side,
    /// How much.
    pub quantity: Quantity,
    /// The worst price acceptable.
    pub limit_price: Price,
    /// Whether the order was offered elsewhere first. Then it is opened by right of the refusal there.
    pub was_refused: bool,
}

/// A request, to the letter. It is written down before it is sent, and is sent once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Request {
    /// Under which name.
    pub client_id: ClientOrderId,
    /// What.
    pub symbol: Symbol,
    /// Which way.
    pub side: Side,
    /// How much.
    pub quantity: Quantity,
    /// The worst price acceptable.
    pub limit_price: Price,
    /// When it was made, by the exchange's clock, in whole milliseconds.
    pub made: Timestamp,
    /// How long after that the exchange may take it, in whole milliseconds.
    pub window: Span,
    /// Whether what does not trade at once stays.
    pub is_resting: bool,
    /// Of which attempt it is. Not sent.
    pub attempt: u32,
}

impl Request {
    /// Until when the exchange may take it.
    pub fn deadline(&self) -> Timestamp {
        self.made.after(self.window)
    }

    /// What stands for it in the intent.
    pub fn hash(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for text in [self.client_id.as_str(), self.symbol.as_str()] {
            hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
        }
        hasher.update(&[u8::from(self.side == Side::Sell), u8::from(self.is_resting)]);
        hasher.update(&self.quantity.0.to_le_bytes()).update(&self.limit_price.0.to_le_bytes());
        hasher.update(&self.made.as_nanos().to_le_bytes());
        hasher.update(&self.deadline().as_nanos().to_le_bytes());
        *hasher.finalize().as_bytes()
    }
}

/// An order as the exchange shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderReport {
    /// The name that it was given.
    pub client_id: String,
    /// The exchange's own number.
    pub order: u64,
    /// What.
    pub symbol: Symbol,
    /// How much has traded.
    pub executed: Quantity,
    /// Whether it will trade no more.
    pub is_over: bool,
}

/// A trade as the exchange shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TradeReport {
    /// The exchange's number; grows, for each symbol.
    pub trade: u64,
    /// The exchange's number of its order.
    pub order: u64,
    /// What.
    pub symbol: Symbol,
    /// Which way.
    pub side: Side,
    /// How much.
    pub quantity: Quantity,
    /// At what price.
    pub price: Price,
    /// What it cost, in the instrument's currency.
    pub fee: Money,
    /// What it cost in something else.
    pub fee_elsewhere: Option<FeeElsewhere>,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The exchange has the order.
    Accepted(OrderReport),
    /// It would not have it, and did not take it.
    Refused(Refusal),
    /// It came too late, or its clock was wrong, and it was not taken.
    Expired,
    /// The exchange has, or had, an order of that name.
    Duplicate,
    /// Nobody knows.
    Unknown {
        /// Whether the exchange itself said so.
        is_servers: bool,
    },
}

/// What came of a question about an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The exchange has it, or had.
    Order(OrderReport),
    /// It has no such order.
    Nothing,
    /// No answer.
    Failed,
}

/// What the ledger holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotsFound {
    /// The number of its slots; none, if they have not been founded.
    pub cluster: Option<u64>,
    /// Whether the account was reconciled since the ledger began.
    pub is_reconciled: bool,
    /// The account's slots that hold an order.
    pub open: Vec<(SlotKey, Slot)>,
}

/// Where an order was refused for good, as most voters have it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefusalFound {
    /// Which use of which slot it was; none, if no refusal is on record that was not passed on.
    pub by: Option<(SlotKey, u64)>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrdersEffect {
    /// Have the ledger change slots, however long it takes, and call [`super::Orders::on_committed`].
    /// One at a time.
    Commit(Vec<SlotCommand>),
    /// Read the ledger's slots, and call [`super::Orders::on_slots`].
    ReadSlots,
    /// Read, of what most voters have agreed on, where the order of this signal was refused for good, and call
    /// [`super::Orders::on_refusal`].
    ReadRefusal(SignalIdentity),
    /// Send this once.
    Send(Request),
    /// Ask for the order of this name.
    Query {
        /// Its name.
        client_id: ClientOrderId,
        /// Its symbol.
        symbol: Symbol,
    },
    /// Have the exchange cancel the order of this name, and call [`super::Orders::on_cancelled`].
    Cancel {
        /// Its name.
        client_id: ClientOrderId,
        /// Its symbol.
        symbol: Symbol,
    },
    /// Ask the exchange for its time.
    AskTime,
    /// Ask for the account's trades in a symbol after this one.
    Trades {
        /// Of what.
        symbol: Symbol,
        /// After which; 0, from the first.
        after: u64,
    },
    /// Ask for the trades of one order after this one.
    TradesOf {
        /// Its name.
        client_id: ClientOrderId,
        /// Its symbol.
        symbol: Symbol,
        /// The exchange's number of it.
        order: u64,
        /// After which; 0, from the first.
        after: u64,
    },
    /// Ask for the account's orders of a symbol after this one, open or not.
    History {
        /// Of what.
        symbol: Symbol,
        /// After which; 0, from the first.
        after: u64,
    },
    /// From now on all requests are of this session.
    Session(u64),
    /// Tell whoever placed the order.
    Tell(SignalIdentity, Said),
    /// The account traded, and nobody here asked for it.
    Stray(TradeReport),
    /// So many orders of ours were found at the exchange, in a symbol, that are not known here: they were placed
    /// after what this goes on from, or that is lost. Their signals are used up, and what they traded is taken over.
    Rebuilt(Symbol, usize),
    /// Tell exec again what it is to take over, see [`super::Orders::adopt`].
    Adopt(Adoption),
    /// Something that a person has to know.
    Alarm(String),
}

/// What is said of an order. May be said again after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Said {
    /// The exchange has it.
    Accepted,
    /// Nobody knows; more will be said.
    Unknown,
    /// It traded.
    Filled(TradeReport),
    /// The exchange would not have it, for certain: the last word.
    Refused(Refusal),
    /// It is over: the last word.
    Closed {
        /// What did not trade.
        remaining: Quantity,
    },
}

impl Said {
    /// Whether nothing is said after it.
    pub const fn is_last(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Closed { .. })
    }

    /// The trade, if it is one.
    pub const fn trade(&self) -> Option<&TradeReport> {
        if let Self::Filled(trade) = self { Some(trade) } else { None }
    }
}

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrdersCounters {
    /// Orders that were to be placed.
    pub placed: u64,
    /// Requests sent.
    pub sent: u64,
    /// Requests that were not sent any more, because their deadline had passed.
    pub too_late: u64,
    /// Outcomes that were unknown.
    pub unknown: u64,
    /// Of those, orders that the exchange had.
    pub found: u64,
    /// Of those, orders that it had not.
    pub not_found: u64,
    /// Orders sent again.
    pub retried: u64,
    /// Orders not sent because their signal was used, or the exchange had an order for it already.
    pub spent: u64,
    /// Orders not sent because their slot was taken.
    pub slot_busy: u64,
    /// Orders of others that were found under way and brought to their end.
    pub orphans: u64,
    /// Orders of ours that were open at the exchange and in no slot; cancelled, unless somebody asked for them.
    pub strays: u64,
    /// Slots closed until a person looks.
    pub quarantined: u64,
    /// Orders that were to be cancelled.
    pub cancelled: u64,
    /// What the exchange told of orders by itself.
    pub told: u64,
    /// Trades of the account that nobody here asked for.
    pub stray_trades: u64,
    /// Orders of ours that the exchange has accepted beside another for the same signal or generation of a slot, in
    /// earlier lives too. Anything but zero is a broken promise.
    pub accepted_twice: u64,
}
