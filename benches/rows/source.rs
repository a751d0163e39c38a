//! Rows in memory as a source.

use std::sync::Arc;

use tickwright::kit::monotonic_nanos;
use tickwright::source::{Format, Progress, Source, SourceError};
use tickwright_core::domain::Tick;
use tickwright_core::pipeline::ingest::{Ingester, SourcePosition};

use super::Ticks;

/// Rows a second where a source is paced.
pub const PACED_PER_SECOND: u64 = 1_000_000;

/// When blocks are due.
pub struct Pace {
    begun: u64,
}

impl Pace {
    /// From a moment after all has started.
    pub fn begin() -> Self {
        Self { begun: monotonic_nanos() + 20_000_000 }
    }
}

/// [`Ticks`] as a source.
pub struct MemorySource {
    ticks: Arc<Ticks>,
    next: usize,
    /// The ingester's number of each symbol, once it had a row.
    ids: Vec<Option<u32>>,
    pace: Option<Pace>,
    /// Whether the rows are repeated for ever, each time later.
    is_endless: bool,
}

impl MemorySource {
    /// All rows, once.
    pub fn new(ticks: Arc<Ticks>, pace: Option<Pace>) -> Self {
        let ids = vec![None; ticks.symbols.len()];
        Self { ticks, next: 0, ids, pace, is_endless: false }
    }

    /// All rows, again and again.
    pub fn endless(ticks: Arc<Ticks>) -> Self {
        Self { is_endless: true, ..Self::new(ticks, None) }
    }
}

impl std::fmt::Debug for MemorySource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemorySource").field("next", &self.next).finish_non_exhaustive()
    }
}

impl Source for MemorySource {
    fn read(&mut self, ingester: &mut Ingester, rows_max: usize) -> Result<Progress, SourceError> {
        let count = self.ticks.rows.len();
        let (round, from) = (self.next / count, self.next % count);
        let until = count.min(from + rows_max);
        let end = round * count + until;
        let later = round as u64 * self.ticks.span();
        for tick in &self.ticks.rows[from..until] {
            let index = tick.symbol as usize;
            let symbol = match self.ids[index] {
                Some(id) => id,
                None => {
                    let name = self.ticks.symbols[index].as_str().as_bytes();
                    *self.ids[index].insert(ingester.intern(name).unwrap().id.0)
                }
            };
            let mut row = self.ticks.raw(tick, symbol);
            row.event_time += later;
            ingester.push(row);
        }
        if let Some(pace) = &self.pace {
            // The block is full, and handed over, when its last row has come.
            let due = pace.begun + end as u64 * 1_000_000_000 / PACED_PER_SECOND;
            while monotonic_nanos() < due {
                std::hint::spin_loop();
            }
            ingester.begin_batch(0, due);
        }
        self.next = end;
        let is_over = end == count && !self.is_endless;
        Ok(match self.pace {
            _ if is_over => Progress::Finished,
            Some(_) => Progress::Idle,
            None => Progress::More,
        })
    }

    fn position(&self) -> SourcePosition {
        let offset = self.next as u64;
        SourcePosition { offset, line: offset, ..SourcePosition::default() }
    }

    fn seek(&mut self, position: &SourcePosition) -> Result<(), SourceError> {
        self.next = usize::try_from(position.offset).unwrap();
        self.ids.fill(None);
        Ok(())
    }

    fn bytes_read(&self) -> u64 {
        (self.next * size_of::<Tick>()) as u64
    }

    fn bytes_total(&self) -> u64 {
        (self.ticks.rows.len() * size_of::<Tick>()) as u64
    }

    fn describe(&self) -> String {
        "rows in memory".to_owned()
    }

    fn format(&self) -> Format {
        Format::Simulated
    }
}
