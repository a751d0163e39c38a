//! Factor values on their way from the factor engine to the strategies.

use super::{Definition, Key, SourceId, SymbolId};

/// One row that moved a symbol's factors, or one window that closed. Its values are in its batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FactorRow {
    /// The key of the tick, or of the boundary row.
    pub key: Key,
    /// Who trades; the number is that of the source of `key`.
    pub symbol: SymbolId,
    /// Whether this is a window closing rather than a tick.
    pub is_boundary: bool,
    /// The price the factors saw, in quote currency.
    pub price: f64,
}

/// Rows in key order, and their values row by row: row `n` has
/// `values[n * columns .. (n + 1) * columns]`. A factor that has not seen enough is `NAN`.
#[derive(Clone, Debug, Default)]
pub struct FactorBatch {
    /// Values per row; the same in every batch of a run.
    pub columns: usize,
    /// Symbols that appear in this stream for the first time, with the source that defined them.
    pub definitions: Vec<(SourceId, Definition)>,
    /// The rows.
    pub rows: Vec<FactorRow>,
    /// `rows.len() * columns` values.
    pub values: Vec<f64>,
    /// When the first row was handed over, by the node's monotonic clock, in nanoseconds. For
    /// latency figures only: nothing may depend on it.
    pub origin_nanos: u64,
}

impl FactorBatch {
    /// The values of row `index`.
    pub fn values_of(&self, index: usize) -> &[f64] {
        &self.values[index * self.columns..(index + 1) * self.columns]
    }
}
