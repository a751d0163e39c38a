//! From what a source said to numbered rows: one ingester per source.
//!
//! ```text
//! bytes ─▶ a parser (one per format) ─▶ RawTick ─▶ Ingester ─▶ RawBatch: rows, boundary rows,
//!                    │                              ▲    │               new symbols
//!                    └── RowError ──────────────────┘    └─▶ IngesterSnapshot
//! ```
//!
//! Parsers read bytes that somebody else fetched; the [`Ingester`] gives each row its place in the
//! one order (DESIGN §4.1) and puts a boundary row before the first row of each window step.
//!
//! # Invariants
//!
//! 1. Row `n` of a source, boundary rows counted, has sequence `n`, from 1, whatever the batches.
//! 2. The frontier never falls; a boundary row at `T` follows every row whose frontier is below `T`
//!    and precedes every other.
//! 3. A symbol is defined in the batch of its first row or an earlier one.
//! 4. Rows read = rows pushed + malformed rows.
//! 5. An ingester restored from a snapshot gives the rows that the first one would have given.

pub mod bars;
pub mod binance;
mod book;
mod calendar;
mod columns;
pub mod ctp;
mod error;
mod json;
pub mod lean;
pub mod normalised;
pub mod number;
mod pace;
pub mod split;
mod symbols;
pub mod tardis;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use error::{Column, HeaderError, Problem, RowError};
pub use pace::Pace;
pub use symbols::{SymbolEntry, SymbolTable};

use crate::domain::{
    Definition, Instruments, Key, Kind, RawBatch, RawTick, SourceId, Span, Symbol, SymbolId,
    Timestamp,
};

/// Earliest event time that is believed: 1990-01-01, in unix nanoseconds.
pub const EVENT_TIME_MIN: u64 = 631_152_000_000_000_000;

/// First event time that is not believed any more: 2100-01-01, in unix nanoseconds. One absurd time
/// would lift the frontier for good.
pub const EVENT_TIME_END: u64 = 4_102_444_800_000_000_000;

/// How one source is read.
#[derive(Clone, Debug)]
pub struct IngesterConfig {
    /// The source's place among the run's sources.
    pub source: SourceId,
    /// What symbols stand for.
    pub instruments: Arc<Instruments>,
    /// Distance between two boundary rows, in event time.
    pub step: Span,
    /// The longest window that boundary rows close; over a gap in the data, steps are given until
    /// every window is empty and then skipped.
    pub window: Span,
    /// Most symbols of the source; a row with one more is malformed.
    pub symbol_count_max: usize,
}

impl IngesterConfig {
    /// Windows of 60 s stepping 10 s, and at most 65,536 symbols.
    pub fn new(source: SourceId, instruments: Arc<Instruments>) -> Self {
        Self {
            source,
            instruments,
            step: Span::from_secs(10),
            window: Span::from_secs(60),
            symbol_count_max: 65_536,
        }
    }
}

/// What has been read since the source's first row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IngestCounters {
    /// Data rows, malformed ones included.
    pub rows: u64,
    /// Rows that could not be read.
    pub malformed: u64,
    /// Messages that carry no market event we use: candles, answers to subscriptions, depth changes
    /// that leave the top of the book as it was. Not rows.
    pub skipped: u64,
    /// Times the source's own numbering showed that messages are missing.
    pub gaps: u64,
    /// Boundary rows put in.
    pub boundaries: u64,
}

/// Where to read on, and what the parser knew there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourcePosition {
    /// Bytes of the text read, after decompression; rows of a columnar file.
    pub offset: u64,
    /// Lines read.
    pub line: u64,
    /// What the parser carries from row to row.
    pub parser: ParserState,
}

/// What a parser carries from row to row; most carry nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ParserState {
    /// Of a source that is not text, in a form that only the source reads.
    Opaque(Vec<u8>),
    /// Nothing.
    #[default]
    Stateless,
    /// Of Binance's frames.
    Frames(binance::FrameState),
    /// Of CTP's cumulative volumes.
    Volumes(ctp::VolumeState),
}

/// A parser of text whose rows are lines.
pub trait LineParser: std::fmt::Debug + Send {
    /// Reads the line with `number` (from 1, as an editor counts) and pushes what it says.
    ///
    /// # Errors
    ///
    /// What is wrong with the row; it has then not been pushed, nor counted.
    fn row(
        &mut self,
        line: &[u8],
        number: u64,
        ingester: &mut Ingester,
    ) -> Result<(), Box<RowError>>;

    /// What must be known to read on from here.
    fn state(&self) -> ParserState {
        ParserState::Stateless
    }

    /// Takes back what [`LineParser::state`] gave.
    fn restore(&mut self, _state: &ParserState) {}
}

/// Everything an ingester needs to go on where it was, beside its configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IngesterSnapshot {
    counters: IngestCounters,
    malformed_first: Vec<RowError>,
    frontier: u64,
    boundary_next: u64,
    sequence_next: u64,
    symbols: Vec<Symbol>,
    defined: u32,
    /// Where to read on.
    pub position: SourcePosition,
}

/// Numbers the rows of one source.
#[derive(Debug)]
pub struct Ingester {
    config: IngesterConfig,
    step: u64,
    /// Steps given in a row over a gap.
    boundaries_max: u64,
    counters: IngestCounters,
    /// The first malformed rows, at most [`Ingester::MALFORMED_KEPT`].
    malformed_first: Vec<RowError>,
    frontier: u64,
    /// The step that no row has reached yet; 0 before the first row.
    boundary_next: u64,
    symbols: SymbolTable,
    /// Symbols handed out in batches so far.
    defined: usize,
    batch: RawBatch,
}

impl Ingester {
    /// Malformed rows that are kept for the report; the others are only counted.
    pub const MALFORMED_KEPT: usize = 20;

    /// An ingester before its source's first row.
    ///
    /// # Panics
    ///
    /// When the step is zero or longer than 584 years.
    pub fn new(config: IngesterConfig) -> Self {
        let step = u64::try_from(config.step.as_nanos()).expect("a step is shorter than 584 years");
        assert!(step > 0, "configuration refuses a step of zero");
        let window = u64::try_from(config.window.as_nanos()).unwrap_or(u64::MAX);
        let symbols = SymbolTable::new(config.instruments.clone(), config.symbol_count_max);
        let batch = RawBatch { source: config.source, first_sequence: 1, ..RawBatch::default() };
        Self {
            config,
            step,
            boundaries_max: (window / step).saturating_add(1),
            counters: IngestCounters::default(),
            malformed_first: Vec::new(),
            frontier: 0,
            boundary_next: 0,
            symbols,
            defined: 0,
            batch,
        }
    }

    /// The ingester that `snapshot` was taken of, under the same configuration.
    pub fn restore(config: IngesterConfig, snapshot: &IngesterSnapshot) -> Self {
        let mut ingester = Self::new(config);
        ingester.counters = snapshot.counters;
        ingester.malformed_first.clone_from(&snapshot.malformed_first);
        ingester.frontier = snapshot.frontier;
        ingester.boundary_next = snapshot.boundary_next;
        ingester.symbols.restore(&snapshot.symbols);
        ingester.defined = snapshot.defined as usize;
        ingester.batch.first_sequence = snapshot.sequence_next;
        ingester.batch.frontier_before = Timestamp::from_nanos(snapshot.frontier);
        ingester
    }

    /// What [`Ingester::restore`] takes. Only between batches: rows not yet taken are not in it.
    pub fn snapshot(&self, position: SourcePosition) -> IngesterSnapshot {
        debug_assert!(self.batch.rows.is_empty(), "a snapshot is taken between batches");
        IngesterSnapshot {
            counters: self.counters,
            malformed_first: self.malformed_first.clone(),
            frontier: self.frontier,
            boundary_next: self.boundary_next,
            sequence_next: self.sequence_next(),
            symbols: self.symbols.iter().map(|entry| entry.instrument.symbol.clone()).collect(),
            defined: u32::try_from(self.defined).expect("symbols are bounded far below 2^32"),
            position,
        }
    }

    /// The configuration.
    pub const fn config(&self) -> &IngesterConfig {
        &self.config
    }

    /// Notes when the next batch was handed over, for latency figures, and makes room for its rows.
    pub fn begin_batch(&mut self, rows_expected: usize, origin_nanos: u64) {
        self.batch.origin_nanos = origin_nanos;
        // A row may bring boundary rows with it.
        self.batch.rows.reserve(rows_expected + 8);
    }

    /// The number and the scales of the symbol that `name` spells, given out now if it is new.
    ///
    /// # Errors
    ///
    /// [`Problem::Symbol`] when it is no symbol, [`Problem::SymbolCount`] when there are too many.
    #[inline]
    pub fn intern(&mut self, name: &[u8]) -> Result<SymbolEntry, Problem> {
        self.symbols.intern(name)
    }

    /// The scales of a symbol met before.
    pub fn entry(&self, symbol: SymbolId) -> Option<SymbolEntry> {
        self.symbols.entry(symbol)
    }

    /// The name of a symbol met before.
    pub fn symbol(&self, symbol: SymbolId) -> Option<&Symbol> {
        let entry = self.symbols.iter().nth(symbol.index())?;
        Some(&entry.instrument.symbol)
    }

    /// Appends a row, and before it the boundary rows of the steps that it is the first to reach.
    /// Its event time must be believable: [`EVENT_TIME_MIN`] to [`EVENT_TIME_END`].
    #[inline]
    pub fn push(&mut self, row: RawTick) {
        debug_assert!((EVENT_TIME_MIN..EVENT_TIME_END).contains(&row.event_time));
        if row.event_time >= self.boundary_next {
            self.pass_boundaries(row.event_time);
        }
        self.frontier = self.frontier.max(row.event_time);
        self.counters.rows += 1;
        self.batch.rows.push(row);
    }

    /// Puts in the boundary rows up to `now` although no row came: for a live source that is idle.
    pub fn on_idle(&mut self, now: Timestamp) {
        let now = now.as_nanos();
        if self.boundary_next != 0 && now >= self.boundary_next && now < EVENT_TIME_END {
            self.pass_boundaries(now);
            self.frontier = self.frontier.max(self.boundary_next - self.step);
        }
    }

    #[cold]
    fn pass_boundaries(&mut self, event_time: u64) {
        if self.boundary_next != 0 {
            for _ in 0..self.boundaries_max {
                if self.boundary_next > event_time {
                    return;
                }
                self.counters.boundaries += 1;
                self.batch.rows.push(RawTick {
                    event_time: self.boundary_next,
                    kind: Kind::Boundary as u8,
                    ..RawTick::default()
                });
                self.frontier = self.boundary_next;
                self.boundary_next += self.step;
            }
        }
        self.boundary_next = (event_time / self.step + 1) * self.step;
    }

    /// Counts a row that could not be read.
    #[cold]
    pub fn malformed(&mut self, error: RowError) {
        self.counters.rows += 1;
        self.counters.malformed += 1;
        if self.malformed_first.len() < Self::MALFORMED_KEPT {
            self.malformed_first.push(error);
        }
    }

    /// Counts a message that carries no row.
    #[inline]
    pub fn skipped(&mut self) {
        self.counters.skipped += 1;
    }

    /// Counts a hole in the source's own numbering.
    #[cold]
    pub fn gap(&mut self) {
        self.counters.gaps += 1;
    }

    /// Rows that [`Ingester::take_batch`] would give, boundary rows among them.
    pub fn batch_len(&self) -> usize {
        self.batch.rows.len()
    }

    /// The rows pushed since the last call, with the symbols that are new in them.
    pub fn take_batch(&mut self) -> RawBatch {
        let next = RawBatch {
            source: self.config.source,
            first_sequence: self.sequence_next(),
            frontier_before: Timestamp::from_nanos(self.frontier),
            ..RawBatch::default()
        };
        let mut batch = std::mem::replace(&mut self.batch, next);
        // A block without rows may go no further, and what it defined would not be known.
        if !batch.rows.is_empty() {
            batch.definitions = self.symbols.iter().skip(self.defined).map(definition).collect();
            self.defined = self.symbols.len();
        }
        batch
    }

    /// Every symbol met so far, for a consumer that starts in the middle.
    pub fn definitions(&self) -> Vec<Definition> {
        self.symbols.iter().map(definition).collect()
    }

    /// The running maximum of event time.
    pub const fn frontier(&self) -> Timestamp {
        Timestamp::from_nanos(self.frontier)
    }

    /// The key of the row pushed last.
    pub fn position(&self) -> Key {
        let sequence = self.sequence_next() - 1;
        Key { frontier: self.frontier(), source: self.config.source, sequence }
    }

    /// The sequence number that the next row gets.
    pub fn sequence_next(&self) -> u64 {
        self.batch.first_sequence + self.batch.rows.len() as u64
    }

    /// What has been read.
    pub const fn counters(&self) -> &IngestCounters {
        &self.counters
    }

    /// The first malformed rows, at most [`Ingester::MALFORMED_KEPT`].
    pub fn malformed_first(&self) -> &[RowError] {
        &self.malformed_first
    }
}

fn definition(entry: &symbols::Entry) -> Definition {
    Definition { id: entry.id, instrument: entry.instrument.clone() }
}

#[cfg(test)]
mod tests;
