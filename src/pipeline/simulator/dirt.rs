//! Rows that a cleaner must refuse, made on purpose and counted.

use serde::{Deserialize, Serialize};

use super::market::Feed;
use crate::domain::{Kind, RawTick, has};

/// What is wrong with an injected row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum DirtKind {
    /// A trade or last price of zero.
    PriceZero,
    /// A traded quantity below zero.
    VolumeNegative,
    /// A bid above its ask.
    Crossed,
    /// A spread above a tenth of the bid.
    SpreadTooWide,
    /// The row before, once more, down to its id.
    Duplicate,
    /// Older than the symbol's row before of the same kind.
    TimeReversal,
    /// A price half as high again, or two fifths lower, than the market.
    Outlier,
}

impl DirtKind {
    /// Every kind, in declaration order.
    pub const ALL: [Self; 7] = [
        Self::PriceZero,
        Self::VolumeNegative,
        Self::Crossed,
        Self::SpreadTooWide,
        Self::Duplicate,
        Self::TimeReversal,
        Self::Outlier,
    ];

    /// The kind as a cleaner spells its reason to refuse it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PriceZero => "price_not_positive",
            Self::VolumeNegative => "volume_negative",
            Self::Crossed => "crossed",
            Self::SpreadTooWide => "spread_too_wide",
            Self::Duplicate => "duplicate",
            Self::TimeReversal => "time_reversal",
            Self::Outlier => "outlier",
        }
    }

    /// Whether `row` can be spoiled this way, so that nobody could take the result for sound.
    pub(super) fn suits(self, feed: Feed, row: &RawTick) -> bool {
        let book = row.has & (has::BID | has::ASK) == has::BID | has::ASK;
        let traded = row.kind != Kind::Quote as u8;
        match self {
            // Before the first trade of a day, a last price of zero is right.
            Self::PriceZero => traded && (row.has & has::CUMULATIVE == 0 || row.cumulative > 0),
            Self::VolumeNegative => traded,
            Self::Crossed | Self::SpreadTooWide => book,
            // Two equal trades without an id may both have happened.
            Self::Duplicate => !traded || row.has & has::ID != 0 || feed == Feed::Snapshots,
            Self::TimeReversal => true,
            // A quote of one side is one exchange's, and exchanges may stand far from the market.
            Self::Outlier => traded || book,
        }
    }

    /// What `row` becomes, `chance` deciding how far and which way. Prices stay on the grid of
    /// `tick_size`. `fresh_id` is one that no row has had.
    pub(super) fn spoil(
        self,
        mut row: RawTick,
        chance: u64,
        tick_size: i64,
        fresh_id: u64,
    ) -> RawTick {
        if row.has & has::ID != 0 && self != Self::Duplicate {
            row.id = fresh_id;
        }
        let scaled = |price: i64, percent: i64| price / tick_size * percent / 100 * tick_size;
        match self {
            Self::PriceZero => row.price = 0,
            Self::VolumeNegative => row.volume = -row.volume.max(1),
            Self::Crossed => {
                // Two to five ticks, the middle about where it was.
                let ask = row.ask;
                row.ask = row.bid;
                row.bid = ask + (1 + (chance & 3).cast_signed()) * tick_size;
            }
            Self::SpreadTooWide => {
                // On both sides of the market, so that only the spread is wrong.
                row.bid = scaled(row.bid, 90);
                row.ask = scaled(row.ask, 110);
            }
            Self::Duplicate => {}
            Self::TimeReversal => {
                let back = 1_000_000_000 + chance % 4_000_000_000;
                row.event_time -= back;
                row.receive_time = row.receive_time.saturating_sub(back);
            }
            Self::Outlier => {
                let percent = if chance & 1 == 0 { 150 } else { 60 };
                row.price = scaled(row.price, percent);
                // The spread keeps its width, or it would be what is wrong.
                let width = row.ask - row.bid;
                row.bid = scaled(row.bid, percent);
                if row.has & has::ASK != 0 {
                    row.ask = row.bid + width;
                }
            }
        }
        row
    }
}

/// Rows injected so far, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirtCounts([u64; DirtKind::ALL.len()]);

impl DirtCounts {
    /// Rows of `kind`.
    pub const fn of(&self, kind: DirtKind) -> u64 {
        self.0[kind as usize]
    }

    /// Rows of every kind.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Kinds with their counts, in declaration order.
    pub fn iter(&self) -> impl Iterator<Item = (DirtKind, u64)> {
        DirtKind::ALL.into_iter().zip(self.0)
    }

    pub(super) const fn add(&mut self, kind: DirtKind) {
        self.0[kind as usize] += 1;
    }
}
