//! How what happens is recorded: outlets for whoever makes it happen.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use tickwright_core::domain::{FactorBatch, Instrument, SourceId, Symbol, SymbolId, TickBatch};
use tickwright_core::records::{Numbered, Row};

use super::arrivals::ArrivalLog;
use super::outlet::Outlet;

/// Rows that come before a checkpoint and that the database has not got yet. They travel with the checkpoint,
/// so that they are not lost with the disk on which they wait.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Carried {
    /// Tells that disk from all others.
    pub disk: String,
    /// Oldest first; bounded by whoever records.
    pub rows: Vec<Row>,
    /// So many rows behind them wait on that disk alone.
    pub left: u64,
}

impl Carried {
    /// Whether nothing waited.
    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.left == 0
    }
}

/// What exec goes on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResumedFrom {
    /// A checkpoint.
    Checkpoint,
    /// What this account has at its exchange, where there was no checkpoint.
    Account(String),
}

/// What is to be done once everything that came before is in the database or in the spill journal.
pub enum Barrier {
    /// No more than that.
    Plain(Box<dyn FnOnce() + Send>),
    /// With those of these rows that the database has not got.
    Carrying(Box<dyn FnOnce(Carried) + Send>),
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Barrier::Plain(..)",
            Self::Carrying(_) => "Barrier::Carrying(..)",
        })
    }
}

/// Clean rows of one block.
#[derive(Clone, Debug)]
pub struct RecordedTicks {
    /// The block.
    pub block: Arc<TickBatch>,
    /// Which of its rows.
    pub rows: Range<usize>,
    /// Symbols that are new, and what they are.
    pub listed: Vec<(SourceId, SymbolId, Arc<Instrument>)>,
}

/// What factors came to with the rows of one batch.
#[derive(Clone, Debug)]
pub struct RecordedFactors {
    /// The batch.
    pub batch: Arc<FactorBatch>,
    /// Whose they are, row by row.
    pub symbols: Vec<Symbol>,
}

/// Takes what factors come to. Clones reach the same.
#[derive(Clone, Debug)]
pub struct FactorRecording {
    /// In the order of the shard.
    pub factors: Outlet<RecordedFactors>,
    /// What waits for all of them.
    pub barrier: Outlet<Barrier>,
}

fn gated<T: Send + 'static>(outlet: Outlet<T>, arrivals: &ArrivalLog) -> Outlet<T> {
    let arrivals = arrivals.clone();
    Outlet::to_function("records", move |message| {
        let outlet = outlet.clone();
        // Whoever records and has gone has a successor, with which another epoch begins.
        arrivals.when_all_durable(Box::new(move || drop(outlet.send(message))));
        Ok(())
    })
}

/// Takes what is to be recorded. Clones reach the same.
#[derive(Clone, Debug)]
pub struct Recording {
    /// Orders, fills and positions, in exec's order.
    pub happened: Outlet<Vec<Numbered>>,
    /// What waits for all of them.
    pub barrier: Outlet<Barrier>,
    /// What came with the checkpoint that exec goes on from.
    pub carried: Outlet<Carried>,
    /// What exec goes on from, if it does: what was recorded before should be in the database.
    pub resumed: Outlet<ResumedFrom>,
    /// Clean rows in exec's order, if they are wanted.
    pub ticks: Option<Outlet<RecordedTicks>>,
    /// Whether so much waits that nothing may be opened.
    pub is_full: Arc<AtomicBool>,
}

impl Recording {
    /// The same, of which nothing is recorded before the place it has in the order of arrival is on the disk:
    /// whoever goes on from there after a loss gives it the same number.
    #[must_use]
    pub fn after(self, arrivals: &ArrivalLog) -> Self {
        Self {
            happened: gated(self.happened, arrivals),
            barrier: gated(self.barrier, arrivals),
            ..self
        }
    }

    /// Whether so much waits for the database that nothing may be opened.
    pub fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }
}
