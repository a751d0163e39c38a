//! Rows of several sources, cleaned and put in the order of their keys.

use std::ops::Range;
use std::sync::Arc;

use crate::domain::{Key, RawBatch, SourceId, TickBatch};
use crate::pipeline::clean::{CleanRules, Cleaner};
use crate::stream::{Frame, Merge};

/// Where the rows of one source stand.
#[derive(Debug)]
struct Source {
    cleaner: Cleaner,
    is_finished: bool,
}

/// Cleaners, and the merge of what they let through. Memory grows with symbols, not with rows, as long
/// as whoever feeds several sources heeds [`Intake::wants`].
#[derive(Debug)]
pub(super) struct Intake {
    sources: Vec<Source>,
    /// Unused when there is one source.
    merge: Merge<TickBatch>,
    clean: TickBatch,
}

impl Intake {
    pub(super) fn new(rules: &CleanRules, sources: usize) -> Self {
        let source = || Source { cleaner: Cleaner::new(rules.clone()), is_finished: false };
        Self {
            sources: std::iter::repeat_with(source).take(sources).collect(),
            merge: Merge::new(sources),
            clean: TickBatch::default(),
        }
    }

    /// The source whose rows are needed next. None when all have finished.
    pub(super) fn wants(&self) -> Option<SourceId> {
        let waiting = (0..).zip(&self.sources).filter(|(_, source)| !source.is_finished);
        let furthest_behind =
            waiting.min_by_key(|&(index, _)| self.merge.received(usize::from(index)));
        furthest_behind.map(|(index, _)| SourceId(index))
    }

    /// Takes in the next rows of `batch.source`, and gives `out` what is next by key.
    pub(super) fn on_batch(
        &mut self,
        batch: &RawBatch,
        mut out: impl FnMut(&TickBatch, Range<usize>),
    ) {
        let index = usize::from(batch.source.0);
        for definition in &batch.definitions {
            self.sources[index].cleaner.define(definition);
        }
        let is_alone = self.sources.len() == 1;
        let mut clean = std::mem::take(&mut self.clean);
        clean.rows.clear();
        clean.source = batch.source;
        clean.rows.reserve(batch.rows.len());
        let mut complete = self.merge.received(index);
        for (key, row) in batch.keyed() {
            if let Ok(tick) = self.sources[index].cleaner.clean(key, row)
                && !clean.push(key, tick)
            {
                // Days lie between two rows: a batch cannot span them.
                if is_alone {
                    out(&clean, 0..clean.rows.len());
                } else {
                    let full = std::mem::take(&mut clean);
                    self.hand_in(index, full, complete, &mut out);
                    clean.source = batch.source;
                }
                clean.rows.clear();
                clean.push(key, tick);
            }
            complete = key;
        }
        if is_alone {
            out(&clean, 0..clean.rows.len());
            self.clean = clean;
        } else {
            self.hand_in(index, clean, complete, &mut out);
        }
    }

    /// Takes in that `source` has ended; returns whether that was the last one.
    pub(super) fn finish(
        &mut self,
        source: SourceId,
        mut out: impl FnMut(&TickBatch, Range<usize>),
    ) -> bool {
        let index = usize::from(source.0);
        if std::mem::replace(&mut self.sources[index].is_finished, true) {
            return false;
        }
        let rest = TickBatch { source, ..TickBatch::default() };
        self.hand_in(index, rest, Key::END, &mut out);
        self.sources.iter().all(|source| source.is_finished)
    }

    /// Merges rows of one source of several with the others', and gives out what is next.
    fn hand_in(
        &mut self,
        index: usize,
        clean: TickBatch,
        complete: Key,
        out: &mut impl FnMut(&TickBatch, Range<usize>),
    ) {
        let frame = Frame { block: Arc::new(clean), complete, more: false };
        self.merge.accept(index, 0, frame);
        while let Some(run) = self.merge.next_run() {
            out(&run.block, run.rows);
        }
    }

    pub(super) fn cleaners(&self) -> impl Iterator<Item = &Cleaner> {
        self.sources.iter().map(|source| &source.cleaner)
    }
}
