//! Signals, orders, fills and what brokers say about them.

use serde::{Deserialize, Serialize};

use super::{Asset, Key, Kind, Money, Price, Quantity, SymbolId, Tick, Timestamp, has};

/// Direction of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Side {
    /// Adds to a long, or reduces a short.
    Buy,
    /// Adds to a short, or reduces a long.
    Sell,
}

impl Side {
    /// `quantity` with this side's sign.
    pub const fn signed(self, quantity: Quantity) -> Quantity {
        match self {
            Self::Buy => quantity,
            Self::Sell => Quantity(-quantity.0),
        }
    }

    /// The other side.
    pub const fn opposite(self) -> Self {
        match self {
            Self::Buy => Self::Sell,
            Self::Sell => Self::Buy,
        }
    }
}

/// A strategy's place in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StrategyId(pub u16);

/// Names one order for its whole life, in every run alike: the signal that asked for it. Orders sort
/// as their signals do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OrderId {
    /// The key of the row that the signal answered.
    pub key: Key,
    /// The signal's place among those of its row; unique under `key` across all shards.
    pub ordinal: u32,
}

/// What a strategy would like to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// Identity and place in the one order.
    pub id: OrderId,
    /// Who wants it.
    pub strategy: StrategyId,
    /// The symbol's number in the source of `id.key`.
    pub symbol: SymbolId,
    /// Which way.
    pub side: Side,
    /// How many of the instrument's lots; positive.
    pub lots: u32,
    /// Whether it may only bring a position nearer to zero.
    pub reduce_only: bool,
    /// When the row was handed over, by the node's monotonic clock, in nanoseconds. For latency
    /// figures only: nothing may depend on it.
    pub origin_nanos: u64,
}

/// The last known top of a symbol's book and its last trade.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopOfBook {
    /// Best bid, if any.
    pub bid: Option<Price>,
    /// Best ask, if any.
    pub ask: Option<Price>,
    /// Displayed at the bid, if the source says.
    pub bid_quantity: Option<Quantity>,
    /// Displayed at the ask, if the source says.
    pub ask_quantity: Option<Quantity>,
    /// Price of the last trade, if any.
    pub last: Option<Price>,
    /// The row that last changed bid or ask: displayed size is fresh from here on.
    pub quoted_at: Key,
    /// The row that last traded.
    pub traded_at: Key,
}

impl TopOfBook {
    /// What the instrument is worth just now: the last trade, else the middle of the book, else its
    /// one side.
    pub fn mark(&self) -> Option<Price> {
        let positive = |price: Option<Price>| price.filter(|price| price.0 > 0);
        positive(self.last).or_else(|| match (positive(self.bid), positive(self.ask)) {
            (Some(bid), Some(ask)) => Some(Price(bid.0 + (ask.0 - bid.0) / 2)),
            (one, other) => one.or(other),
        })
    }

    /// Takes in one row of the symbol, whose key is `key`. Risk and the paper broker both keep books
    /// by this rule, so that they never disagree on what was displayed.
    ///
    /// A quote changes the sides it gives and leaves the other; a snapshot is the whole picture, so
    /// a side it lacks is gone; a boundary changes nothing. The sides of an indicative row are gone
    /// too: in a call auction or a break nobody can trade on what was displayed before either.
    #[inline]
    pub fn apply(&mut self, row: &Tick, key: Key) {
        let is_snapshot = row.kind == Kind::Snapshot as u8;
        let is_quote = row.kind == Kind::Quote as u8;
        let is_displayed = !row.is_indicative();
        if is_snapshot || is_quote && row.given(has::BID) {
            self.bid = row.bid().filter(|_| is_displayed);
            self.bid_quantity = row.bid_quantity().filter(|_| is_displayed);
            self.quoted_at = key;
        }
        if is_snapshot || is_quote && row.given(has::ASK) {
            self.ask = row.ask().filter(|_| is_displayed);
            self.ask_quantity = row.ask_quantity().filter(|_| is_displayed);
            self.quoted_at = key;
        }
        let is_trade = row.kind == Kind::Trade as u8;
        if (is_snapshot || is_trade) && row.given(has::PRICE) {
            self.last = Some(Price(row.price));
            if row.is_trade() {
                self.traded_at = key;
            }
        }
    }
}

/// An order, whole, as it leaves risk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Who it is.
    pub id: OrderId,
    /// Who wanted it.
    pub strategy: StrategyId,
    /// The account it trades for.
    pub account: AccountId,
    /// The instrument, by exec's own index: symbols of all sources in order of first appearance.
    pub instrument: InstrumentIndex,
    /// Which way.
    pub side: Side,
    /// How much, always positive; the side gives the direction.
    pub quantity: Quantity,
    /// The worst price acceptable.
    pub limit_price: Price,
    /// Whether it may only bring a position nearer to zero.
    pub reduce_only: bool,
    /// Whether it could do nothing else when it passed risk, asked for or not: with all that was open before
    /// it. What holds orders back that open a position does not hold it back.
    pub reduces: bool,
}

/// Proof that an order passed risk. Only risk's approved order has it, so whoever asks for an
/// `impl Approval` cannot be handed an order that skipped risk.
pub trait Approval {
    /// The order itself.
    fn order(&self) -> &Order;
    /// The symbol's book when the order was approved.
    fn top(&self) -> &TopOfBook;
}

/// An order on its way to a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The order.
    pub order: Order,
    /// The symbol's book after all rows up to `at`, and no other.
    pub top: TopOfBook,
    /// When it leaves. Its frontier is the `now` of that step.
    pub at: Key,
    /// How often it was offered before: 0 for the first time.
    pub attempt: u8,
}

/// An account's place in the configuration.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct AccountId(pub u16);

/// An instrument's place in exec's table. Local to exec; never in a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InstrumentIndex(pub u32);

impl InstrumentIndex {
    /// The number as an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A broker's place in the configuration: 0 is the primary, 1 the backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BrokerId(pub u8);

/// One execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fill {
    /// The order that traded.
    pub order: OrderId,
    /// What traded.
    pub instrument: InstrumentIndex,
    /// For whom.
    pub account: AccountId,
    /// Unique within (broker, account).
    pub trade_id: u64,
    /// Where.
    pub broker: BrokerId,
    /// Which way.
    pub side: Side,
    /// How much, positive.
    pub quantity: Quantity,
    /// At what price.
    pub price: Price,
    /// What it cost, in the instrument's currency; positive is paid.
    pub fee: Money,
    /// What it cost in something else, which no price here says the worth of. No part of `fee`.
    pub fee_elsewhere: Option<FeeElsewhere>,
}

/// A fee that was paid in neither what was bought nor what it was paid with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeeElsewhere {
    /// In what.
    pub asset: Asset,
    /// How much; positive is paid.
    pub amount: Money,
}

/// Why a broker would not take an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Refusal {
    /// No byte of the request was written: the connection was not there.
    NotConnected,
    /// The broker answered that it takes nothing just now.
    Unavailable,
    /// The broker refused this order itself: funds, filters, an unknown symbol.
    Order,
}

impl Refusal {
    /// Whether it speaks against the broker, and not against the order.
    pub const fn is_brokers_fault(self) -> bool {
        matches!(self, Self::NotConnected | Self::Unavailable)
    }
}

/// What became of an order at a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BrokerEventKind {
    /// The broker has it.
    Accepted,
    /// It traded, in part or whole.
    Filled(Fill),
    /// The broker would not have it, for certain.
    Refused(Refusal),
    /// Nobody knows: the request left and no answer came. Resolved by a later event of the same
    /// order from the same broker, when it was asked.
    Unknown,
    /// It is over; `remaining` did not trade.
    Closed {
        /// What did not trade.
        remaining: Quantity,
    },
}

/// Something a broker says, at the time it is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerEvent {
    /// When it takes effect: before any row whose frontier is not earlier.
    pub due: Timestamp,
    /// The order it is about.
    pub order: OrderId,
    /// Tells events of one order apart that are due together; ascending.
    pub ordinal: u32,
    /// Who says it.
    pub broker: BrokerId,
    /// What.
    pub kind: BrokerEventKind,
}

impl BrokerEvent {
    /// The order in which events take effect.
    pub const fn sort_key(&self) -> (Timestamp, OrderId, u32) {
        (self.due, self.order, self.ordinal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::SourceId;

    fn key(sequence: u64) -> Key {
        Key { frontier: Timestamp::from_nanos(sequence), source: SourceId(0), sequence }
    }

    #[test]
    fn a_one_sided_quote_leaves_the_other_side_and_a_snapshot_does_not() {
        let bid = |kind: Kind, bid| Tick {
            kind: kind as u8,
            has: has::BID | has::BID_QUANTITY,
            bid,
            bid_quantity: 5,
            ..Tick::default()
        };
        let ask = Tick { kind: Kind::Quote as u8, has: has::ASK, ask: 12, ..Tick::default() };
        let mut top = TopOfBook::default();
        top.apply(&bid(Kind::Quote, 10), key(1));
        top.apply(&ask, key(2));
        assert_eq!((top.bid, top.bid_quantity), (Some(Price(10)), Some(Quantity(5))));
        assert_eq!((top.ask, top.ask_quantity, top.quoted_at), (Some(Price(12)), None, key(2)));
        top.apply(&bid(Kind::Snapshot, 11), key(3));
        assert_eq!((top.bid, top.ask, top.quoted_at), (Some(Price(11)), None, key(3)));
        let before = top;
        top.apply(&bid(Kind::Boundary, 99), key(4));
        assert_eq!(top, before);
    }

    #[test]
    fn an_indicative_row_leaves_no_book_to_trade_on_and_keeps_the_last_price() {
        let book = Tick {
            kind: Kind::Snapshot as u8,
            has: has::PRICE | has::BID | has::ASK | has::BID_QUANTITY | has::ASK_QUANTITY,
            price: 11,
            bid: 10,
            ask: 12,
            bid_quantity: 5,
            ask_quantity: 5,
            ..Tick::default()
        };
        let mut top = TopOfBook::default();
        top.apply(&book, key(1));
        let auction = Tick { has: book.has | has::INDICATIVE, price: 13, ..book };
        top.apply(&auction, key(2));
        let sides = (top.bid, top.bid_quantity, top.ask, top.ask_quantity);
        assert_eq!(sides, (None, None, None, None));
        assert_eq!((top.last, top.quoted_at, top.mark()), (Some(Price(13)), key(2), top.last));
        top.apply(&book, key(3));
        assert_eq!((top.bid, top.ask), (Some(Price(10)), Some(Price(12))));
        // One side of a quote tells nothing of the other.
        let bid = Tick { kind: Kind::Quote as u8, has: has::BID | has::INDICATIVE, ..book };
        top.apply(&bid, key(4));
        assert_eq!((top.bid, top.ask), (None, Some(Price(12))));
    }

    #[test]
    fn a_row_with_neither_price_nor_side_changes_nothing_unless_it_is_the_whole_picture() {
        let quote = Tick { kind: Kind::Quote as u8, has: has::BID, bid: 10, ..Tick::default() };
        let mut top = TopOfBook::default();
        top.apply(&quote, key(1));
        let before = top;
        for kind in [Kind::Trade, Kind::Quote, Kind::Boundary] {
            top.apply(&Tick { kind: kind as u8, ..Tick::default() }, key(2));
            assert_eq!(top, before, "{kind:?}");
        }
        top.apply(&Tick { kind: Kind::Snapshot as u8, ..Tick::default() }, key(2));
        assert_eq!((top.bid, top.last, top.mark()), (None, None, None));
    }

    #[test]
    fn a_snapshot_in_which_nothing_traded_keeps_the_time_of_the_last_trade() {
        let row = |kind: Kind, volume| Tick {
            kind: kind as u8,
            has: has::PRICE | has::VOLUME,
            price: 7,
            volume,
            ..Tick::default()
        };
        let mut top = TopOfBook::default();
        top.apply(&row(Kind::Trade, 3), key(1));
        top.apply(&row(Kind::Snapshot, 0), key(2));
        assert_eq!((top.last, top.traded_at), (Some(Price(7)), key(1)));
        top.apply(&row(Kind::Snapshot, 1), key(3));
        assert_eq!(top.traded_at, key(3));
    }
}
