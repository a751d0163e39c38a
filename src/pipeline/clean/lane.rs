//! Rows of one kind, time basis and venue code: the rows that may be compared with each other.

use serde::{Deserialize, Serialize};

use crate::domain::{Kind, RawTick, flag, has};

/// What is remembered of the rows let through in one lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lane {
    /// Event time of the newest row; 0 before the first.
    pub time: u64,
    /// Rows refused in a row because they were older than `time`.
    pub reversals: u32,
    /// Which of `said` count: [`BID`] and [`ASK`], or [`WHOLE`] alone.
    valid: u8,
    /// The last row; or, where quotes have one side each, the last of the bid and the last of the ask.
    /// Feeds that send a book update as two rows, one a side, repeat a side that did not change; a
    /// side that changed and changed back is not a repetition.
    said: [Said; 2],
}

const BID: u8 = 1;
const ASK: u8 = 2;
const WHOLE: u8 = 4;

/// Everything that makes two rows of one lane equal. When they were received does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Said {
    event_time: u64,
    price: i64,
    volume: i64,
    bid: i64,
    ask: i64,
    bid_quantity: i64,
    ask_quantity: i64,
    cumulative: i64,
    id: u64,
    trading_day: u32,
    condition: u32,
    flags: u16,
    has: u8,
}

/// Lanes per venue code: three kinds, two time bases.
pub(super) const LANES_PER_VENUE: usize = 6;

/// The place of `row` among the lanes of its venue code.
#[inline]
pub(super) const fn lane_of(row: &RawTick) -> usize {
    (row.kind as usize % 3) * 2 + (row.flags & flag::TIME_IS_RECEIVED) as usize
}

/// Which of [`BID`], [`ASK`] and [`WHOLE`] the row is.
#[inline]
const fn part_of(row: &RawTick) -> u8 {
    let is_quote = row.kind == Kind::Quote as u8;
    match row.has & (has::BID | has::ASK) {
        has::BID if is_quote => BID,
        has::ASK if is_quote => ASK,
        _ => WHOLE,
    }
}

/// The place in [`Lane::said`].
#[inline]
const fn place_of(part: u8) -> usize {
    (part & ASK != 0) as usize
}

impl Lane {
    /// Whether `row` only repeats what the lane's last one said: has its id, or is equal at the same
    /// event time. With `ids_grow` also whether its id is below, at the same event time.
    #[inline]
    pub(super) fn repeats(&self, row: &RawTick, ids_grow: bool) -> bool {
        let part = part_of(row);
        let said = &self.said[place_of(part)];
        if self.valid & part == 0 {
            false
        } else if row.has & said.has & has::ID != 0 {
            row.id == said.id || (ids_grow && row.event_time == self.time && row.id < said.id)
        } else {
            row.event_time == said.event_time && said.equals(row)
        }
    }

    /// Takes in a row that was let through.
    #[inline]
    pub(super) fn advance(&mut self, row: &RawTick) {
        let part = part_of(row);
        self.said[place_of(part)] = Said::of(row);
        self.valid = if part == WHOLE { WHOLE } else { self.valid & (BID | ASK) | part };
        self.time = self.time.max(row.event_time);
        self.reversals = 0;
    }
}

impl Said {
    #[inline]
    const fn of(row: &RawTick) -> Self {
        Self {
            event_time: row.event_time,
            price: row.price,
            volume: row.volume,
            bid: row.bid,
            ask: row.ask,
            bid_quantity: row.bid_quantity,
            ask_quantity: row.ask_quantity,
            cumulative: row.cumulative,
            id: row.id,
            trading_day: row.trading_day,
            condition: row.condition,
            flags: row.flags,
            has: row.has,
        }
    }

    /// Whether `row` says the same. A traded quantity beside a cumulative one is the difference to the
    /// row before, so it is 0 in a repetition, and not looked at.
    fn equals(&self, row: &RawTick) -> bool {
        let mut other = Self::of(row);
        if row.has & has::CUMULATIVE != 0 {
            other.volume = self.volume;
        }
        *self == other
    }
}
