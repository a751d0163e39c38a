//! Rows that were read and cleaned once, for as many runs over them as are wanted.
//!
//! # Invariants
//!
//! 1. A run over what was recorded is the run over the sources, bit for bit.
//! 2. The hash depends on the symbols and the clean rows in the order of their keys, and on nothing
//!    else: not on how rows came in batches, and not on the numbers that symbols have in this process.

use std::ops::Range;

use crate::domain::{Definition, Kind, RawBatch, SourceId, Symbol, Tick, TickBatch};
use crate::pipeline::clean::{CleanCounts, CleanRules, Cleaner};

use super::intake::Intake;

/// Clean rows in the order of their keys. Memory grows with rows: 64 bytes each.
#[derive(Debug, Default)]
pub struct Recorded {
    definitions: Vec<(SourceId, Definition)>,
    /// Rows of one source each, in order, and how many rows came before.
    blocks: Vec<(u64, TickBatch)>,
    rows: u64,
    hash: [u8; 32],
}

/// Records rows. Whoever feeds it heeds [`Recorder::wants`].
#[derive(Debug)]
pub struct Recorder {
    intake: Intake,
    recorded: Recorded,
    hasher: blake3::Hasher,
    /// By source, then symbol number: the symbol's name, after its length.
    names: Vec<Vec<Vec<u8>>>,
    rows_max: u64,
}

/// More rows than may be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {rows_max} clean rows, which is what is kept in memory; give fewer files")]
pub struct TooManyRows {
    /// What may be kept.
    pub rows_max: u64,
}

impl Recorder {
    /// A recorder of `sources` sources that keeps up to `rows_max` rows.
    pub fn new(rules: &CleanRules, sources: usize, rows_max: u64) -> Self {
        Self {
            intake: Intake::new(rules, sources),
            recorded: Recorded::default(),
            hasher: blake3::Hasher::new(),
            names: vec![Vec::new(); sources],
            rows_max,
        }
    }

    /// The source whose rows are needed next. None when all have finished.
    pub fn wants(&self) -> Option<SourceId> {
        self.intake.wants()
    }

    /// Takes in the next rows of `batch.source`.
    ///
    /// # Errors
    ///
    /// When there are more rows than may be kept.
    ///
    /// # Panics
    ///
    /// When there is no such source.
    pub fn on_batch(&mut self, batch: &RawBatch) -> Result<(), TooManyRows> {
        for definition in &batch.definitions {
            self.define(batch.source, definition);
        }
        let Self { intake, recorded, hasher, names, .. } = self;
        intake.on_batch(batch, |block, rows| recorded.push(block, rows, hasher, names));
        let rows_max = self.rows_max;
        if self.recorded.rows > rows_max { Err(TooManyRows { rows_max }) } else { Ok(()) }
    }

    fn define(&mut self, source: SourceId, definition: &Definition) {
        let names = &mut self.names[usize::from(source.0)];
        let index = definition.id.index();
        if names.len() <= index {
            names.resize(index + 1, Vec::new());
        }
        let instrument = &*definition.instrument;
        // The name, and what the numbers of a row mean.
        let mut name = vec![u8::try_from(instrument.symbol.as_str().len()).unwrap_or(u8::MAX)];
        name.extend(instrument.symbol.as_str().as_bytes());
        name.extend([instrument.price_decimals, instrument.quantity_decimals]);
        names[index] = name;
        self.recorded.definitions.push((source, definition.clone()));
    }

    /// Takes in that `source` has ended.
    ///
    /// # Panics
    ///
    /// When there is no such source.
    pub fn finish(&mut self, source: SourceId) {
        let Self { intake, recorded, hasher, names, .. } = self;
        intake.finish(source, |block, rows| recorded.push(block, rows, hasher, names));
    }

    /// What the cleaners have judged, by source.
    pub fn clean_counts(&self) -> impl Iterator<Item = CleanCounts> {
        self.intake.cleaners().map(Cleaner::totals)
    }

    /// What was recorded.
    pub fn into_recorded(self) -> Recorded {
        Recorded { hash: *self.hasher.finalize().as_bytes(), ..self.recorded }
    }
}

impl Recorded {
    fn push(
        &mut self,
        block: &TickBatch,
        rows: Range<usize>,
        hasher: &mut blake3::Hasher,
        names: &[Vec<Vec<u8>>],
    ) {
        let mut kept = TickBatch { source: block.source, ..TickBatch::default() };
        for row in &block.rows[rows] {
            let key = block.key(row);
            if !kept.push(key, *row) {
                let next = TickBatch { source: block.source, ..TickBatch::default() };
                self.keep(std::mem::replace(&mut kept, next));
                kept.push(key, *row);
            }
            let name: &[u8] = match row.kind == Kind::Boundary as u8 {
                true => &[],
                false => names
                    .get(usize::from(block.source.0))
                    .and_then(|names| names.get(row.symbol().index()))
                    .map_or(&[], Vec::as_slice),
            };
            hasher.update(&key.frontier.as_nanos().to_le_bytes());
            hasher.update(&key.source.0.to_le_bytes());
            hasher.update(&key.sequence.to_le_bytes());
            hasher.update(name);
            hash_fields(hasher, row);
        }
        self.keep(kept);
    }

    fn keep(&mut self, block: TickBatch) {
        if !block.rows.is_empty() {
            let before = self.rows;
            self.rows += block.rows.len() as u64;
            self.blocks.push((before, block));
        }
    }

    /// Rows, boundary rows among them.
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// BLAKE3 over the rows.
    pub const fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    /// The symbols there are.
    pub fn symbols(&self) -> impl Iterator<Item = &Symbol> {
        self.definitions.iter().map(|(_, definition)| &definition.instrument.symbol)
    }

    pub(super) fn definitions(&self) -> &[(SourceId, Definition)] {
        &self.definitions
    }

    /// The frontier of the row with this number, from 0; none when there are not so many.
    pub fn time_of(&self, row: u64) -> Option<crate::domain::Timestamp> {
        let (block, rows) = self.runs(row..row.saturating_add(1)).next()?;
        Some(block.frontier(block.rows.get(rows.start)?))
    }

    /// The blocks that hold `rows`, and which of theirs those are.
    pub(super) fn runs(
        &self,
        rows: Range<u64>,
    ) -> impl Iterator<Item = (&TickBatch, Range<usize>)> {
        let first = self
            .blocks
            .partition_point(|(before, block)| before + block.rows.len() as u64 <= rows.start);
        let blocks = self.blocks[first..].iter().take_while(move |(before, _)| *before < rows.end);
        blocks.map(move |(before, block)| {
            let place = |row: u64| {
                let within = row.saturating_sub(*before).min(block.rows.len() as u64);
                usize::try_from(within).unwrap_or(usize::MAX)
            };
            (block, place(rows.start)..place(rows.end))
        })
    }
}

/// What a row says, but for its key, which is relative to its block.
fn hash_fields(hasher: &mut blake3::Hasher, row: &Tick) {
    let Tick { price, volume, bid, ask, bid_quantity, ask_quantity, .. } = *row;
    for value in [price, volume, bid, ask, bid_quantity, ask_quantity] {
        hasher.update(&value.to_le_bytes());
    }
    hasher.update(&[row.kind, row.has]);
}
