//! Why a row was refused, and what was noticed about rows that were not.

use serde::{Deserialize, Serialize};

/// Why a row was refused. Where several apply, the first in declaration order is given.
///
/// The order is part of snapshots and reports: add new reasons at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Reason {
    /// Its symbol was never defined, or its kind is none.
    Unknown,
    /// The vendor marked it as suspicious.
    Suspicious,
    /// A trade outside the order book: insurance fund, auto-deleveraging.
    OffBook,
    /// A price of zero or less that the class cannot explain as "no price yet".
    PriceNotPositive,
    /// It says nothing: a trade without a price, a quote without a side, a snapshot without either.
    Empty,
    /// A price at or above the class's limit.
    PriceTooLarge,
    /// A traded, displayed or cumulative quantity below zero.
    VolumeNegative,
    /// A quote with one side only, in a class whose quotes have two.
    OneSided,
    /// Bid above ask.
    Crossed,
    /// Bid equal to ask, in a class where that cannot be.
    Locked,
    /// The spread is not below the class's share of the bid.
    SpreadTooWide,
    /// Of another session than the one that trades: the login tick of the day before, a settlement row
    /// long after the close.
    StaleSession,
    /// The row before, once more.
    Duplicate,
    /// Older than the row before of the same symbol, kind, time basis and venue code.
    TimeReversal,
    /// A price that the recent ones do not explain.
    Outlier,
}

impl Reason {
    /// Number of reasons.
    pub const COUNT: usize = Self::ALL.len();

    /// Every reason, in declaration order.
    pub const ALL: [Self; 15] = [
        Self::Unknown,
        Self::Suspicious,
        Self::OffBook,
        Self::PriceNotPositive,
        Self::Empty,
        Self::PriceTooLarge,
        Self::VolumeNegative,
        Self::OneSided,
        Self::Crossed,
        Self::Locked,
        Self::SpreadTooWide,
        Self::StaleSession,
        Self::Duplicate,
        Self::TimeReversal,
        Self::Outlier,
    ];

    /// The reason as reports and metrics spell it. Never changes.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Suspicious => "suspicious",
            Self::OffBook => "off_book",
            Self::PriceNotPositive => "price_not_positive",
            Self::Empty => "empty",
            Self::PriceTooLarge => "price_too_large",
            Self::VolumeNegative => "volume_negative",
            Self::OneSided => "one_sided",
            Self::Crossed => "crossed",
            Self::Locked => "locked",
            Self::SpreadTooWide => "spread_too_wide",
            Self::StaleSession => "stale_session",
            Self::Duplicate => "duplicate",
            Self::TimeReversal => "time_reversal",
            Self::Outlier => "outlier",
        }
    }

    /// The reason's place in [`Reason::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.code())
    }
}

/// What was noticed about rows that were let through. One row may earn several.
///
/// The order is part of snapshots and reports: add new notes at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Note {
    /// A trade without an id that equals the one before in every field: two prints of one sweep look
    /// like that.
    IdenticalTrade,
    /// Bid equal to ask where the class allows it, or in a call auction.
    Locked,
    /// A last price of zero that means "nothing has traded yet"; let through without a price.
    NoPriceYet,
    /// A bid or ask of zero that means "nobody is there"; let through without that side.
    NoSide,
    /// In a call auction or a break: the book is indicative.
    Indicative,
    /// The source gave no traded quantity; it was taken from the cumulative one.
    VolumeDerived,
    /// A price far from the recent ones, let through because the rows before it agreed with it.
    LevelConfirmed,
    /// An older row let through because so many before it were older too: the clock was set back.
    ClockReset,
}

impl Note {
    /// Number of notes.
    pub const COUNT: usize = Self::ALL.len();

    /// Every note, in declaration order.
    pub const ALL: [Self; 8] = [
        Self::IdenticalTrade,
        Self::Locked,
        Self::NoPriceYet,
        Self::NoSide,
        Self::Indicative,
        Self::VolumeDerived,
        Self::LevelConfirmed,
        Self::ClockReset,
    ];

    /// The note as reports and metrics spell it. Never changes.
    pub const fn code(self) -> &'static str {
        match self {
            Self::IdenticalTrade => "identical_trade",
            Self::Locked => "locked",
            Self::NoPriceYet => "no_price_yet",
            Self::NoSide => "no_side",
            Self::Indicative => "indicative",
            Self::VolumeDerived => "volume_derived",
            Self::LevelConfirmed => "level_confirmed",
            Self::ClockReset => "clock_reset",
        }
    }

    /// The note's place in [`Note::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.code())
    }
}

/// Rows by what became of them. Boundary rows are not among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CleanCounts {
    /// Rows let through.
    pub accepted: u64,
    /// Rows refused, in the order of [`Reason::ALL`].
    pub rejected: [u64; Reason::COUNT],
    /// Rows let through and noted, in the order of [`Note::ALL`].
    pub noted: [u64; Note::COUNT],
}

impl CleanCounts {
    /// Rows refused for `reason`.
    pub const fn rejected_for(&self, reason: Reason) -> u64 {
        self.rejected[reason.index()]
    }

    /// Rows refused, whatever the reason.
    pub fn rejected_total(&self) -> u64 {
        self.rejected.iter().sum()
    }

    /// Rows let through with `note`.
    pub const fn noted_with(&self, note: Note) -> u64 {
        self.noted[note.index()]
    }

    /// Rows seen.
    pub fn rows(&self) -> u64 {
        self.accepted + self.rejected_total()
    }

    /// Adds the counts of `other`.
    pub fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        for (mine, theirs) in self.rejected.iter_mut().zip(other.rejected) {
            *mine += theirs;
        }
        for (mine, theirs) in self.noted.iter_mut().zip(other.noted) {
            *mine += theirs;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_and_note_stands_at_its_index_under_a_code_of_its_own() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), index);
        }
        for (index, note) in Note::ALL.into_iter().enumerate() {
            assert_eq!(note.index(), index);
        }
        let reasons: std::collections::BTreeSet<_> = Reason::ALL.map(Reason::code).into();
        let notes: std::collections::BTreeSet<_> = Note::ALL.map(Note::code).into();
        assert_eq!((reasons.len(), notes.len()), (Reason::COUNT, Note::COUNT));
    }
}
