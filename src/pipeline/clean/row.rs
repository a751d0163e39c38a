//! The checks that look at one row alone, and the row as they see it.

use super::reason::{Note, Reason};
use super::rules::{ClassRules, Verdict};
use crate::domain::{Kind, RawTick, Tick, flag, has};

/// A row's fields with zeros where the source gave none.
#[derive(Clone, Copy)]
pub(super) struct Fields {
    /// The first six bits of [`has`], later [`has::INDICATIVE`].
    pub has: u8,
    pub price: i64,
    pub volume: i64,
    pub bid: i64,
    pub ask: i64,
    pub bid_quantity: i64,
    pub ask_quantity: i64,
    pub cumulative: i64,
}

/// Bits of the notes that one row has earned so far.
#[derive(Clone, Copy, Default)]
pub(super) struct Notes(u16);

impl Notes {
    pub(super) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) const fn add(&mut self, note: Note) {
        self.0 |= 1 << note.index();
    }

    pub(super) const fn holds(self, note: Note) -> bool {
        self.0 >> note.index() & 1 != 0
    }
}

/// A book has both.
pub(super) const BOTH_SIDES: u8 = has::BID | has::ASK;

/// Flags that few rows have.
pub(super) const RARE_FLAGS: u16 = flag::SUSPICIOUS | flag::OFF_BOOK | flag::AUCTION | flag::CLOSED;

#[cold]
pub(super) fn judge_flags(rules: &ClassRules, flags: u16, notes: &mut Notes) -> Result<(), Reason> {
    if flags & flag::SUSPICIOUS != 0 && rules.suspicious == Verdict::Reject {
        return Err(Reason::Suspicious);
    }
    if flags & flag::OFF_BOOK != 0 && rules.off_book == Verdict::Reject {
        return Err(Reason::OffBook);
    }
    if flags & (flag::AUCTION | flag::CLOSED) != 0 {
        notes.add(Note::Indicative);
    }
    Ok(())
}

/// Takes out zeros that mean "none"; any other price that is not positive is an error.
#[cold]
pub(super) fn judge_zeros(
    rules: &ClassRules,
    row: &RawTick,
    fields: &mut Fields,
    notes: &mut Notes,
) -> Result<(), Reason> {
    if fields.price < 0 || fields.bid < 0 || fields.ask < 0 {
        return Err(Reason::PriceNotPositive);
    }
    if fields.has & has::PRICE != 0 && fields.price == 0 {
        let untraded = row.flags & (flag::AUCTION | flag::CLOSED) != 0
            || (row.has & has::CUMULATIVE != 0 && row.cumulative == 0);
        let is_snapshot = row.kind == Kind::Snapshot as u8;
        if !(rules.zero_price_is_none && is_snapshot && untraded) {
            return Err(Reason::PriceNotPositive);
        }
        fields.has &= !has::PRICE;
        notes.add(Note::NoPriceYet);
    }
    for (side, quantity, price, displayed) in [
        (has::BID, has::BID_QUANTITY, fields.bid, &mut fields.bid_quantity),
        (has::ASK, has::ASK_QUANTITY, fields.ask, &mut fields.ask_quantity),
    ] {
        if fields.has & side != 0 && price == 0 {
            if !rules.zero_side_is_none {
                return Err(Reason::PriceNotPositive);
            }
            fields.has &= !(side | quantity);
            *displayed = 0;
            notes.add(Note::NoSide);
        }
    }
    Ok(())
}

/// What a row of each kind must have at least one of, to say anything.
pub(super) const NEEDED: [u8; 3] = [has::PRICE, BOTH_SIDES, has::PRICE | BOTH_SIDES];

#[cold]
pub(super) fn judge_emptiness(row: &RawTick) -> Result<(), Reason> {
    // A call auction in which nobody has ordered yet has neither price nor book, and says so.
    if row.kind == Kind::Snapshot as u8 && row.flags & (flag::AUCTION | flag::CLOSED) != 0 {
        return Ok(());
    }
    Err(Reason::Empty)
}

#[cold]
pub(super) fn judge_book(
    rules: &ClassRules,
    fields: &Fields,
    is_auction: bool,
    notes: &mut Notes,
) -> Result<(), Reason> {
    if fields.bid > fields.ask {
        return match rules.crossed {
            Verdict::Accept => Ok(()),
            Verdict::Reject => Err(Reason::Crossed),
        };
    }
    if fields.bid == fields.ask {
        // A call auction shows the price it would clear at as both.
        if rules.locked == Verdict::Reject && !is_auction {
            return Err(Reason::Locked);
        }
        notes.add(Note::Locked);
        return Ok(());
    }
    let spread = u128::from(fields.ask.abs_diff(fields.bid));
    let allowed = u128::from(fields.bid.unsigned_abs()) * u128::from(rules.spread_max_ppm);
    if spread * 1_000_000 >= allowed && !is_auction {
        return Err(Reason::SpreadTooWide);
    }
    Ok(())
}

#[cold]
pub(super) fn judge_repetition(
    rules: &ClassRules,
    row: &RawTick,
    notes: &mut Notes,
) -> Result<(), Reason> {
    let is_print = row.kind == Kind::Trade as u8 && row.has & has::ID == 0;
    if is_print && rules.identical_trade == Verdict::Accept {
        notes.add(Note::IdenticalTrade);
        return Ok(());
    }
    Err(Reason::Duplicate)
}

impl Fields {
    #[inline]
    pub(super) const fn of(row: &RawTick) -> Self {
        const fn given(row: &RawTick, bit: u8, value: i64) -> i64 {
            if row.has & bit != 0 { value } else { 0 }
        }
        Self {
            has: row.has & !(has::CUMULATIVE | has::ID),
            price: given(row, has::PRICE, row.price),
            volume: given(row, has::VOLUME, row.volume),
            bid: given(row, has::BID, row.bid),
            ask: given(row, has::ASK, row.ask),
            bid_quantity: given(row, has::BID_QUANTITY, row.bid_quantity),
            ask_quantity: given(row, has::ASK_QUANTITY, row.ask_quantity),
            cumulative: given(row, has::CUMULATIVE, row.cumulative),
        }
    }

    /// Whether any quantity is negative: the sign is set in the union if it is in one of them.
    #[inline]
    pub(super) const fn has_negative_quantity(&self) -> bool {
        self.volume | self.bid_quantity | self.ask_quantity | self.cumulative < 0
    }

    /// The lowest and the highest price given; without any, `i64::MAX` and 0.
    #[inline]
    pub(super) fn range(&self) -> (i64, i64) {
        let low = |bit: u8, price: i64| if self.has & bit != 0 { price } else { i64::MAX };
        let sides = low(has::BID, self.bid).min(low(has::ASK, self.ask));
        (low(has::PRICE, self.price).min(sides), self.price.max(self.bid).max(self.ask))
    }

    /// The price that stands for the row: of the trade, else the bid, else the ask.
    #[inline]
    pub(super) const fn main(&self) -> i64 {
        if self.price != 0 {
            self.price
        } else if self.bid != 0 {
            self.bid
        } else {
            self.ask
        }
    }

    #[inline]
    pub(super) const fn tick(&self, row: &RawTick) -> Tick {
        Tick {
            price: self.price,
            volume: self.volume,
            bid: self.bid,
            ask: self.ask,
            bid_quantity: self.bid_quantity,
            ask_quantity: self.ask_quantity,
            frontier_low: 0,
            frontier_high: 0,
            kind: row.kind,
            has: self.has,
            sequence: 0,
            symbol: row.symbol,
        }
    }
}
