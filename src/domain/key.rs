//! One order for everything.

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// A source's place among the run's sources.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct SourceId(pub u16);

/// Where a row stands in the one order that every stage, run and node agrees on.
///
/// Keys only grow within a source, whatever the clocks in the data do; sources merge by key and are
/// never re-sorted inside.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Key {
    /// The running maximum of event time within the row's source.
    pub frontier: Timestamp,
    /// The row's source.
    pub source: SourceId,
    /// The row's number in its source, boundary rows counted, from 1.
    pub sequence: u64,
}

impl Key {
    /// Before every row.
    pub const START: Self =
        Self { frontier: Timestamp::from_nanos(0), source: SourceId(0), sequence: 0 };

    /// After every row: a stream that is complete up to here has ended.
    pub const END: Self = Self {
        frontier: Timestamp::from_nanos(u64::MAX),
        source: SourceId(u16::MAX),
        sequence: u64::MAX,
    };

    /// The last key that any source could have at `frontier`.
    pub const fn last_at(frontier: Timestamp) -> Self {
        Self { frontier, source: SourceId(u16::MAX), sequence: u64::MAX }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.frontier.as_nanos(), self.source.0, self.sequence)
    }
}
