//! Rows of one kind, time basis and venue code: the rows that may be compared with each other.

use serde::{Deserialize, Serialize};

use crate::domain::{Kind, RawTick, flag, has};

/// What is remembered of the rows let through in one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lane {
    /// Event time of the newest row; 0 before the first.
    pub time: u64,
    /// What the last row said, or its id: of its bid and of its ask. A row of both sides, or of
    /// none, is in both. Feeds that send a book update as two rows, one a side, repeat a side that
    /// did not change; a side that changed and changed back is not a repetition.
    marks: [u64; 2],
    /// Whether `marks` are ids.
    by_id: bool,
    /// Rows refused in a row because they were older than `time`.
    pub reversals: u32,
}

impl Default for Lane {
    fn default() -> Self {
        Self { time: 0, marks: [NO_MARK; 2], by_id: false, reversals: 0 }
    }
}

/// Equal to no mark that is met in practice.
const NO_MARK: u64 = u64::MAX;

/// What a row would leave in its lane.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    mark: u64,
    /// Bit 0: says something of the bid; bit 1: of the ask.
    sides: u8,
    pub by_id: bool,
}

/// Lanes per venue code: three kinds, two time bases.
pub(super) const LANES_PER_VENUE: usize = 6;

/// The place of `row` among the lanes of its venue code.
#[inline]
pub(super) const fn lane_of(row: &RawTick) -> usize {
    (row.kind as usize % 3) * 2 + (row.flags & flag::TIME_IS_RECEIVED) as usize
}

impl Mark {
    /// The mark of `row`, whose fields are zero where the source did not give them.
    #[inline]
    pub(super) fn of(row: &RawTick) -> Self {
        let sides = match row.has & (has::BID | has::ASK) {
            has::BID if row.kind == Kind::Quote as u8 => 1,
            has::ASK if row.kind == Kind::Quote as u8 => 2,
            _ => 3,
        };
        let by_id = row.has & has::ID != 0;
        let mark = if by_id { row.id } else { fingerprint(row) };
        Self { mark, sides, by_id }
    }
}

impl Lane {
    /// Whether `mark` is of a row that only repeats what the lane's last one said; with `ids_grow`
    /// also whether its id is below, at the same event time.
    #[inline]
    pub(super) fn repeats(&self, mark: Mark, event_time: u64, ids_grow: bool) -> bool {
        let lower = mark.by_id && ids_grow && event_time == self.time;
        let repeats = |side: u8| {
            let known = self.marks[usize::from(side)];
            mark.sides >> side & 1 == 0
                || known == mark.mark
                || (lower && known != NO_MARK && mark.mark < known)
        };
        self.by_id == mark.by_id && repeats(0) && repeats(1)
    }

    /// Takes in a row that was let through.
    #[inline]
    pub(super) fn advance(&mut self, mark: Mark, event_time: u64) {
        if self.by_id != mark.by_id {
            self.marks = [NO_MARK; 2];
            self.by_id = mark.by_id;
        }
        for side in [0, 1] {
            if mark.sides >> side & 1 != 0 {
                self.marks[side] = mark.mark;
            }
        }
        self.time = self.time.max(event_time);
        self.reversals = 0;
    }
}

/// A hash of everything that makes two rows of one lane equal: not of when they were received, and
/// not of a traded quantity beside a cumulative one, which is the difference to the row before and so
/// 0 in a repetition. Two rows that differ collide once in 2^64.
#[inline]
fn fingerprint(row: &RawTick) -> u64 {
    let volume = if row.has & has::CUMULATIVE != 0 { 0 } else { row.volume };
    let rest = u64::from(row.condition) << 32 | u64::from(row.trading_day);
    let bits = u64::from(row.flags) << 8 | u64::from(row.has);
    // Each pair of words has keys of its own (the first digits of pi), so that equal values in other
    // places hash differently.
    let pairs = [
        fold(row.event_time ^ 0x243f_6a88_85a3_08d3, row.price.cast_unsigned() ^ PI_1),
        fold(volume.cast_unsigned() ^ 0xa409_3822_299f_31d0, row.bid.cast_unsigned() ^ PI_2),
        fold(
            row.ask.cast_unsigned() ^ 0x4528_21e6_38d0_1377,
            row.bid_quantity.cast_unsigned() ^ PI_3,
        ),
        fold(
            row.ask_quantity.cast_unsigned() ^ 0xc0ac_29b7_c97c_50dd,
            row.cumulative.cast_unsigned() ^ PI_4,
        ),
        fold(rest ^ 0x9216_d5d9_8979_fb1b, bits ^ PI_5),
    ];
    let sum = pairs[0] ^ pairs[1].rotate_left(13) ^ pairs[2].rotate_left(26);
    sum ^ pairs[3].rotate_left(39) ^ pairs[4].rotate_left(52)
}

const PI_1: u64 = 0x1319_8a2e_0370_7344;
const PI_2: u64 = 0x082e_fa98_ec4e_6c89;
const PI_3: u64 = 0xbe54_66cf_34e9_0c6c;
const PI_4: u64 = 0x3f84_d5b5_b547_0917;
const PI_5: u64 = 0xd131_0ba6_98df_b5ac;

/// The two halves of a product, added without carry.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "both halves are taken")]
const fn fold(left: u64, right: u64) -> u64 {
    let product = left as u128 * right as u128;
    product as u64 ^ (product >> 64) as u64
}
