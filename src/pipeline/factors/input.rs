//! What a factor sees of one row or of one closed window.

use serde::{Deserialize, Serialize};

use crate::domain::{Class, Kind, Tick, Timestamp, has};

/// Which price of a row moves its symbol's factors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PriceSource {
    /// The price of trades, and the last price of snapshots.
    Trade,
    /// Half-way between bid and ask of a row that gives both, uncrossed.
    Mid,
    /// [`PriceSource::Trade`]; and [`PriceSource::Mid`] for as long as the symbol has never shown a
    /// trade.
    Auto,
}

impl PriceSource {
    /// What suits the feeds of `class`.
    pub const fn of_class(class: Class) -> Self {
        match class {
            Class::Fx => Self::Mid,
            Class::Generic => Self::Auto,
            Class::CryptoSpot
            | Class::CryptoLinear
            | Class::CryptoInverse
            | Class::EquityUs
            | Class::EquityCn
            | Class::FuturesCn => Self::Trade,
        }
    }
}

/// One step of a factor: a row that moved its symbol, or a window that closed.
#[derive(Clone, Copy, Debug)]
pub struct FactorInput<'a> {
    /// The frontier of the row, or of the boundary that closed the window.
    pub at: Timestamp,
    /// The row's price, or the window's last, in quote currency.
    pub price: f64,
    /// The highest price of the window; on ticks, the price.
    pub high: f64,
    /// The lowest price of the window; on ticks, the price.
    pub low: f64,
    /// Units traded; zero when none did or the source does not say.
    pub volume: f64,
    /// Price times volume, summed over the trades of the window.
    pub turnover: f64,
    /// The latest top of the symbol's book.
    pub book: &'a Book,
}

/// The latest top of a symbol's book, as the rows so far gave it. A quote of one side leaves the
/// other as it was; a snapshot replaces both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Book {
    bid: i64,
    ask: i64,
    bid_quantity: i64,
    ask_quantity: i64,
    /// What a price of 1 is in steps.
    price_unit: f64,
    /// What a quantity of 1 is in steps.
    quantity_unit: f64,
    /// [`has`] bits of the four fields.
    has: u8,
}

const BID_SIDE: u8 = has::BID | has::BID_QUANTITY;
const ASK_SIDE: u8 = has::ASK | has::ASK_QUANTITY;

impl Book {
    /// An empty book of an instrument with so many steps per unit.
    pub(super) fn new(price_unit: f64, quantity_unit: f64) -> Self {
        Self { price_unit, quantity_unit, ..Self::default() }
    }

    /// Takes over what `row` says of the top of the book.
    #[inline]
    pub(super) fn on_row(&mut self, row: &Tick) {
        let is_whole = row.kind == Kind::Snapshot as u8;
        if is_whole || row.has & has::BID != 0 {
            self.bid = row.bid;
            self.bid_quantity = row.bid_quantity;
            self.has = self.has & !BID_SIDE | row.has & BID_SIDE;
        }
        if is_whole || row.has & has::ASK != 0 {
            self.ask = row.ask;
            self.ask_quantity = row.ask_quantity;
            self.has = self.has & !ASK_SIDE | row.has & ASK_SIDE;
        }
    }

    /// Best bid, in quote currency.
    pub fn bid(&self) -> Option<f64> {
        (self.has & has::BID != 0).then(|| to_f64(self.bid) / self.price_unit)
    }

    /// Best ask, in quote currency.
    pub fn ask(&self) -> Option<f64> {
        (self.has & has::ASK != 0).then(|| to_f64(self.ask) / self.price_unit)
    }

    /// Units displayed at the best bid.
    pub fn bid_quantity(&self) -> Option<f64> {
        (self.has & has::BID_QUANTITY != 0).then(|| to_f64(self.bid_quantity) / self.quantity_unit)
    }

    /// Units displayed at the best ask.
    pub fn ask_quantity(&self) -> Option<f64> {
        (self.has & has::ASK_QUANTITY != 0).then(|| to_f64(self.ask_quantity) / self.quantity_unit)
    }

    /// `(bid quantity - ask quantity) / (bid quantity + ask quantity)`, from -1 to 1; none while
    /// either is unknown or both are zero.
    #[inline]
    pub fn imbalance(&self) -> Option<f64> {
        const BOTH: u8 = has::BID_QUANTITY | has::ASK_QUANTITY;
        let (bid, ask) = (to_f64(self.bid_quantity), to_f64(self.ask_quantity));
        (self.has & BOTH == BOTH && bid + ask > 0.0).then(|| (bid - ask) / (bid + ask))
    }
}

/// Steps as a float: exact below 2^53, the nearest above.
#[inline]
pub(super) fn to_f64(steps: i64) -> f64 {
    steps as f64
}

/// What one row gives to its symbol's factors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Move {
    /// In quote currency.
    pub(super) price: f64,
    /// In units; zero when none traded or the source does not say.
    pub(super) volume: f64,
}

/// Decides, row by row of one symbol, which rows move its factors.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct PriceRule {
    source: PriceSource,
    price_unit: f64,
    quantity_unit: f64,
    /// The last trade price, in steps; zero before the first.
    last: i64,
}

impl PriceRule {
    pub(super) fn new(source: PriceSource, price_unit: f64, quantity_unit: f64) -> Self {
        Self { source, price_unit, quantity_unit, last: 0 }
    }

    /// The price and volume that `row` moves factors with, if it does.
    ///
    /// A snapshot repeats its last price until the next trade. It moves factors only when something
    /// traded since the one before (its volume is positive, or the source gives none) or the price
    /// changed; else a quiet instrument's factors would measure the venue's clock.
    #[inline]
    pub(super) fn on_row(&mut self, row: &Tick) -> Option<Move> {
        match self.source {
            PriceSource::Trade => self.trade(row),
            PriceSource::Mid => self.mid(row),
            PriceSource::Auto => {
                let has_traded = self.last != 0;
                self.trade(row).or_else(|| if has_traded { None } else { self.mid(row) })
            }
        }
    }

    #[inline]
    fn trade(&mut self, row: &Tick) -> Option<Move> {
        let is_quote = row.kind == Kind::Quote as u8;
        if is_quote || !row.given(has::PRICE) || row.price <= 0 {
            return None;
        }
        let is_repeat = row.kind == Kind::Snapshot as u8
            && row.given(has::VOLUME)
            && row.volume <= 0
            && row.price == self.last;
        if is_repeat {
            return None;
        }
        self.last = row.price;
        let volume = if row.given(has::VOLUME) { row.volume.max(0) } else { 0 };
        Some(Move {
            price: to_f64(row.price) / self.price_unit,
            volume: to_f64(volume) / self.quantity_unit,
        })
    }

    #[inline]
    fn mid(&self, row: &Tick) -> Option<Move> {
        let is_uncrossed = row.given(has::BID | has::ASK) && row.bid > 0 && row.bid <= row.ask;
        is_uncrossed.then(|| Move {
            price: (to_f64(row.bid) + to_f64(row.ask)) / (2.0 * self.price_unit),
            volume: 0.0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kind: Kind, price: Option<i64>, volume: Option<i64>, book: Option<(i64, i64)>) -> Tick {
        let mut row = Tick { kind: kind as u8, ..Tick::default() };
        if let Some(price) = price {
            (row.price, row.has) = (price, row.has | has::PRICE);
        }
        if let Some(volume) = volume {
            (row.volume, row.has) = (volume, row.has | has::VOLUME);
        }
        if let Some((bid, ask)) = book {
            (row.bid, row.ask, row.has) = (bid, ask, row.has | has::BID | has::ASK);
        }
        row
    }

    fn prices(source: PriceSource, rows: &[Tick]) -> Vec<Option<f64>> {
        let mut rule = PriceRule::new(source, 10.0, 1.0);
        rows.iter().map(|row| rule.on_row(row).map(|moved| moved.price)).collect()
    }

    #[test]
    fn a_snapshot_moves_factors_when_something_traded_or_the_price_changed() {
        let snapshot = |price, volume| row(Kind::Snapshot, Some(price), volume, None);
        let rows = [
            snapshot(0, Some(0)),  // call auction: no price yet
            snapshot(50, Some(0)), // the first price
            snapshot(50, Some(0)), // nothing traded
            snapshot(50, Some(3)), // traded at the same price
            snapshot(51, Some(0)), // the price changed all the same
            snapshot(51, None),    // the source does not say
        ];
        let expected = [None, Some(5.0), None, Some(5.0), Some(5.1), Some(5.1)];
        assert_eq!(prices(PriceSource::Trade, &rows), expected);
    }

    #[test]
    fn a_mid_needs_both_sides_uncrossed() {
        let quote = |book| row(Kind::Quote, None, None, book);
        let mut one_sided = quote(Some((50, 0)));
        one_sided.has = has::BID;
        let rows = [quote(Some((50, 52))), quote(Some((50, 50))), quote(Some((52, 50))), one_sided];
        assert_eq!(prices(PriceSource::Mid, &rows), [Some(5.1), Some(5.0), None, None]);
    }

    #[test]
    fn mids_count_only_until_the_first_trade_when_the_source_is_chosen_automatically() {
        let quote = row(Kind::Quote, None, None, Some((50, 52)));
        let trade = row(Kind::Trade, Some(60), Some(1), None);
        let rows = [quote, trade, quote, trade];
        assert_eq!(prices(PriceSource::Auto, &rows), [Some(5.1), Some(6.0), None, Some(6.0)]);
    }

    #[test]
    fn a_one_sided_quote_keeps_the_other_side_and_a_snapshot_replaces_both() {
        let mut book = Book::new(10.0, 1.0);
        let mut bid = Tick { kind: Kind::Quote as u8, ..Tick::default() };
        (bid.bid, bid.bid_quantity, bid.has) = (50, 3, BID_SIDE);
        book.on_row(&bid);
        assert_eq!(book.imbalance(), None);
        let mut ask = Tick { kind: Kind::Quote as u8, ..Tick::default() };
        (ask.ask, ask.ask_quantity, ask.has) = (52, 1, ASK_SIDE);
        book.on_row(&ask);
        assert_eq!(book.imbalance(), Some(0.5));
        assert_eq!((book.bid(), book.ask()), (Some(5.0), Some(5.2)));
        ask.kind = Kind::Snapshot as u8;
        book.on_row(&ask);
        assert_eq!((book.bid(), book.imbalance()), (None, None));
    }
}
