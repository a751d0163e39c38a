//! The consuming end: several streams, one order.
//!
//! # Invariants
//!
//! 1. Rows come out in the order of their [`Block::At`], each once, none that is not after the key
//!    last resumed from.
//! 2. A row comes out only when no stream can still deliver one before it.
//! 3. What waits is bounded by the credit given out.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::{Frame, InflowStanding};
use crate::domain::{FactorBatch, Key, OrderId, RawBatch, Signal, SourceId, TickBatch, Timestamp};

/// Rows that travel together, in order.
pub trait Block {
    /// Where a row stands among all rows of all streams.
    type At: Copy + Ord;

    /// How many rows.
    fn len(&self) -> usize;

    /// Where row `index` stands.
    fn at(&self, index: usize) -> Self::At;

    /// The key that belongs to a place.
    fn key_of(at: Self::At) -> Key;

    /// Whether row `index` comes after `key`.
    fn is_after(&self, index: usize, key: Key) -> bool {
        Self::key_of(self.at(index)) > key
    }

    /// Whether there are no rows.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Block for TickBatch {
    type At = Key;
    fn len(&self) -> usize {
        self.rows.len()
    }
    fn at(&self, index: usize) -> Key {
        self.key(&self.rows[index])
    }
    fn key_of(at: Key) -> Key {
        at
    }
}

impl Block for FactorBatch {
    /// Several symbols' windows close on one boundary row.
    type At = (Key, u32);
    fn len(&self) -> usize {
        self.rows.len()
    }
    fn at(&self, index: usize) -> (Key, u32) {
        (self.rows[index].key, self.rows[index].symbol.0)
    }
    fn key_of(at: (Key, u32)) -> Key {
        at.0
    }
}

impl Block for RawBatch {
    type At = Key;
    fn len(&self) -> usize {
        self.rows.len()
    }
    /// The frontier is left at what it was before the batch: these streams are not merged.
    fn at(&self, index: usize) -> Key {
        let sequence = self.first_sequence + index as u64;
        Key { frontier: self.frontier_before, source: self.source, sequence }
    }
    fn key_of(at: Key) -> Key {
        at
    }
    fn is_after(&self, index: usize, key: Key) -> bool {
        self.first_sequence + index as u64 > key.sequence
    }
}

/// Signals of one shard.
#[derive(Clone, Debug, Default)]
pub struct SignalBatch {
    /// In the order of their ids.
    pub signals: Vec<Signal>,
    /// The last hold that was known to whoever derived them, and that there are no others before where the
    /// stream is complete with them; see [`Basis`](crate::domain::Basis).
    pub known: u64,
}

impl Block for SignalBatch {
    type At = OrderId;
    fn len(&self) -> usize {
        self.signals.len()
    }
    fn at(&self, index: usize) -> OrderId {
        self.signals[index].id
    }
    fn key_of(at: OrderId) -> Key {
        at.key
    }
}

/// Rows of one block that are next in the one order.
#[derive(Debug)]
pub struct Run<B> {
    /// The block.
    pub block: Arc<B>,
    /// Which of its rows.
    pub rows: Range<usize>,
    /// The stream it came by.
    pub input: usize,
}

impl<B> Clone for Run<B> {
    fn clone(&self) -> Self {
        Self { block: Arc::clone(&self.block), rows: self.rows.clone(), input: self.input }
    }
}

impl<B: Block> Run<B> {
    /// The key of its first row.
    pub fn first_key(&self) -> Key {
        B::key_of(self.block.at(self.rows.start))
    }

    /// The key of its last row.
    pub fn last_key(&self) -> Key {
        B::key_of(self.block.at(self.rows.end - 1))
    }

    /// Cuts the run before its first row whose frontier has reached `at`: the rows before, and the
    /// rest, if any.
    pub fn split_before(self, at: Timestamp) -> (Self, Option<Self>) {
        let Range { start, end } = self.rows;
        let cut = partition(self.block.as_ref(), start..end, |row| B::key_of(row).frontier < at);
        if cut == end {
            return (self, None);
        }
        (Self { rows: start..cut, ..self.clone() }, Some(Self { rows: cut..end, ..self }))
    }
}

impl Run<TickBatch> {
    /// Cuts the run after its last row whose frontier is not after `until`: those rows, and the rest.
    pub fn split_until(self, until: Timestamp) -> (Self, Self) {
        let at = rows_until(&self.block, self.rows.clone(), until);
        let head = Self { rows: self.rows.start..at, ..self.clone() };
        (head, Self { rows: at..self.rows.end, ..self })
    }
}

/// Several streams as one.
#[derive(Debug)]
pub struct Merge<B> {
    inputs: Vec<Input<B>>,
    /// Whether credit is due for rows as soon as they have come.
    is_eager: bool,
}

#[derive(Debug)]
struct Input<B> {
    session: u64,
    /// Blocks, and the next row of each.
    blocks: VecDeque<(Arc<B>, usize)>,
    /// Rows up to here have been handed in.
    complete: Key,
    /// Rows taken since credit was last returned.
    taken: u32,
    /// Whether the producer has said that more follows at once.
    more: bool,
}

impl<B: Block> Merge<B> {
    /// `count` streams, none of which has been subscribed to.
    pub fn new(count: usize) -> Self {
        let input = || Input {
            session: 0,
            blocks: VecDeque::new(),
            complete: Key::START,
            taken: 0,
            more: false,
        };
        let inputs = std::iter::repeat_with(input).take(count).collect();
        Self { inputs, is_eager: false }
    }

    /// The same, giving credit back for rows that wait here. For a consumer that once took what came
    /// and now takes it again in the same order: what it waits for may be behind what must wait
    /// meanwhile, which is as much as the streams were apart then.
    #[must_use]
    pub fn eager(self) -> Self {
        Self { is_eager: true, ..self }
    }

    /// How many streams.
    pub fn len(&self) -> usize {
        self.inputs.len()
    }

    /// Whether there are no streams at all.
    pub fn is_empty(&self) -> bool {
        self.inputs.is_empty()
    }

    /// Begins `session` on `input` after `after`. What was waiting is dropped: it comes again.
    pub fn resume(&mut self, input: usize, session: u64, after: Key) {
        let state = &mut self.inputs[input];
        *state = Input { session, blocks: VecDeque::new(), complete: after, taken: 0, more: false };
    }

    /// Begins `session` on `input` after what is in hand, which stays: rows that wait here for another
    /// stream will not come again, nor will `held` rows that have come out and are not done with.
    /// Returns by how much less than usual may be asked for: their credit goes back like that of rows
    /// that come by the new session. Or each new session would bring as much again.
    pub fn reconnect(&mut self, input: usize, session: u64, held: u32) -> u32 {
        let is_eager = self.is_eager;
        let state = &mut self.inputs[input];
        (state.session, state.taken, state.more) = (session, held, false);
        if is_eager {
            return held;
        }
        let waiting = state.blocks.iter().map(|(block, next)| block.len() - next).sum::<usize>();
        u32::try_from(waiting).unwrap_or(u32::MAX).saturating_add(held)
    }

    /// Where `input` stands: what is asked for when its producer comes back.
    pub fn received(&self, input: usize) -> Key {
        self.inputs[input].complete
    }

    /// The same, and how much waits.
    pub fn standing(&self, input: usize) -> InflowStanding {
        let state = &self.inputs[input];
        let waiting = state.blocks.iter().map(|(block, next)| (block.len() - next) as u64);
        let session = Some(state.session).filter(|&session| session > 0);
        InflowStanding { session, received: state.complete, waiting_rows: waiting.sum() }
    }

    /// Whether what comes on `input` in `session` is taken in.
    pub fn is_current(&self, input: usize, session: u64) -> bool {
        self.inputs.get(input).is_some_and(|state| state.session == session)
    }

    /// Takes in a frame. Returns false when it belongs to another session or holds nothing new.
    pub fn accept(&mut self, input: usize, session: u64, frame: Frame<B>) -> bool {
        let Some(state) = self.inputs.get_mut(input) else { return false };
        if state.session != session {
            return false;
        }
        state.more = frame.more;
        let rows = frame.block.len();
        // Rows seen before are taken at once: their credit goes back with the rest.
        let mut first = 0;
        if rows > 0 && !frame.block.is_after(0, state.complete) {
            first = partition_index(0..rows, |row| !frame.block.is_after(row, state.complete));
        }
        let taken = if self.is_eager { rows } else { first };
        state.taken += u32::try_from(taken).unwrap_or(u32::MAX);
        if first < rows {
            state.blocks.push_back((frame.block, first));
        }
        state.complete = state.complete.max(frame.complete);
        true
    }

    /// Everything up to here is in hand: no stream can deliver a row that is not after it.
    pub fn complete(&self) -> Key {
        self.inputs.iter().map(|input| input.complete).min().unwrap_or(Key::END)
    }

    /// Whether rows are in hand that have not come out.
    pub fn has_rows(&self) -> bool {
        self.inputs.iter().any(|input| !input.blocks.is_empty())
    }

    /// Whether some producer has said that more follows at once.
    pub fn more(&self) -> bool {
        self.inputs.iter().any(|input| input.more)
    }

    /// The longest run of one block that is next, or nothing until more arrives.
    pub fn next_run(&mut self) -> Option<Run<B>> {
        let (input, at) = self.head()?;
        // The run ends before the next row of any other stream, known or possible.
        let mut before: Option<B::At> = None;
        let mut bound = Key::END;
        for (other, state) in self.inputs.iter().enumerate() {
            if other == input {
                continue;
            }
            match state.head() {
                Some(head) => before = Some(before.map_or(head, |before| before.min(head))),
                None => bound = bound.min(state.complete),
            }
        }
        if B::key_of(at) > bound {
            return None;
        }
        let state = &mut self.inputs[input];
        let (block, next) = state.blocks.front_mut().expect("it has a head");
        let rows = *next..block.len();
        let end = if before.is_none() && bound == Key::END {
            rows.end
        } else {
            let ready =
                |at: B::At| B::key_of(at) <= bound && before.is_none_or(|before| at < before);
            partition(block.as_ref(), rows.clone(), ready)
        };
        let run = Run { block: Arc::clone(block), rows: rows.start..end, input };
        if end == rows.end {
            state.blocks.pop_front();
        } else {
            *next = end;
        }
        state.taken += u32::try_from(run.rows.len()).unwrap_or(u32::MAX);
        Some(run)
    }

    /// The next rows of `input` for which `holds`, whatever the others have, out of one block. It holds
    /// for no row after one for which it does not.
    pub fn next_of(&mut self, input: usize, holds: impl Fn(B::At) -> bool) -> Option<Run<B>> {
        let state = self.inputs.get_mut(input)?;
        let (block, next) = state.blocks.front_mut()?;
        let start = *next;
        let end = partition(block.as_ref(), start..block.len(), holds);
        if end == start {
            return None;
        }
        let run = Run { block: Arc::clone(block), rows: start..end, input };
        if end == block.len() {
            state.blocks.pop_front();
        } else {
            *next = end;
        }
        if !self.is_eager {
            state.taken += u32::try_from(run.rows.len()).unwrap_or(u32::MAX);
        }
        Some(run)
    }

    /// Whether rows of `input` are in hand that have not come out.
    pub fn has_rows_of(&self, input: usize) -> bool {
        !self.inputs[input].blocks.is_empty()
    }

    /// Rows taken from `input` since this was last asked, with its session: credit to return. Small
    /// amounts wait for more, so that there are fewer messages.
    pub fn credit(&mut self, input: usize, at_least: u32) -> Option<(u64, u32)> {
        let state = &mut self.inputs[input];
        if state.taken < at_least.max(1) {
            return None;
        }
        Some((state.session, std::mem::take(&mut state.taken)))
    }

    /// The input and place of the next row in hand.
    fn head(&self) -> Option<(usize, B::At)> {
        let heads = self.inputs.iter().enumerate();
        heads.filter_map(|(index, input)| Some((index, input.head()?))).min_by_key(|&(_, at)| at)
    }
}

impl<B: Block> Input<B> {
    fn head(&self) -> Option<B::At> {
        self.blocks.front().map(|(block, next)| block.at(*next))
    }
}

/// The first row of `rows` for which `holds` is false, given that it holds for none after that.
fn partition<B: Block>(block: &B, rows: Range<usize>, holds: impl Fn(B::At) -> bool) -> usize {
    partition_index(rows, |row| holds(block.at(row)))
}

fn partition_index(rows: Range<usize>, holds: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (rows.start, rows.end);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// The rows of `run` up to and including frontier `until`, as the index after the last.
pub(super) fn rows_until(batch: &TickBatch, rows: Range<usize>, until: Timestamp) -> usize {
    partition(batch, rows, |key| key.frontier <= until)
}

/// The rows of `run` up to and including `until`, as the index after the last.
pub(super) fn rows_through(batch: &TickBatch, rows: Range<usize>, until: Key) -> usize {
    partition(batch, rows, |key| key <= until)
}

/// The key of a source's row, for tests and callers that only have numbers.
impl Key {
    /// The key with these parts.
    pub const fn of(frontier: u64, source: u16, sequence: u64) -> Self {
        Self { frontier: Timestamp::from_nanos(frontier), source: SourceId(source), sequence }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::Tick;

    fn block(source: u16, frontiers: &[u64], first: u64) -> Arc<TickBatch> {
        let mut batch = TickBatch { source: SourceId(source), ..TickBatch::default() };
        for (sequence, &frontier) in (first..).zip(frontiers) {
            assert!(batch.push(Key::of(frontier, source, sequence), Tick::default()));
        }
        Arc::new(batch)
    }

    fn frame(block: Arc<TickBatch>, complete: Key) -> Frame<TickBatch> {
        Frame { block, complete, more: false }
    }

    fn drain(merge: &mut Merge<TickBatch>) -> Vec<(u64, u16)> {
        let mut seen = Vec::new();
        while let Some(run) = merge.next_run() {
            seen.extend(run.rows.map(|row| {
                let key = run.block.at(row);
                (key.frontier.as_nanos(), key.source.0)
            }));
        }
        seen
    }

    #[test]
    fn a_row_waits_until_no_stream_can_deliver_an_earlier_one() {
        let mut merge = Merge::new(2);
        merge.accept(0, 0, frame(block(0, &[10, 20, 30], 1), Key::of(30, 0, 3)));
        assert_eq!(drain(&mut merge), [], "stream 1 has said nothing");
        merge.accept(1, 0, frame(block(1, &[20], 1), Key::of(20, 1, 1)));
        assert_eq!(drain(&mut merge), [(10, 0), (20, 0), (20, 1)]);
        merge.accept(1, 0, frame(block(1, &[], 1), Key::END));
        assert_eq!(drain(&mut merge), [(30, 0)]);
    }

    #[test]
    fn rows_seen_before_are_dropped_and_their_credit_returned() {
        let mut merge = Merge::new(1);
        merge.resume(0, 5, Key::of(20, 0, 2));
        assert!(!merge.accept(0, 4, frame(block(0, &[10], 1), Key::of(10, 0, 1))));
        assert!(merge.accept(0, 5, frame(block(0, &[10, 20, 30], 1), Key::of(30, 0, 3))));
        assert_eq!(drain(&mut merge), [(30, 0)]);
        assert_eq!(merge.credit(0, 1), Some((5, 3)));
        assert_eq!(merge.credit(0, 1), None);
    }

    #[test]
    fn rows_that_wait_for_another_stream_outlive_a_new_session() {
        let mut merge = Merge::new(2);
        merge.resume(0, 5, Key::START);
        merge.accept(0, 5, frame(block(0, &[10, 20], 1), Key::of(20, 0, 2)));
        assert_eq!(merge.reconnect(0, 6, 0), 2);
        assert_eq!(merge.received(0), Key::of(20, 0, 2), "only what follows is asked for");
        assert!(!merge.accept(0, 5, frame(block(0, &[30], 3), Key::of(30, 0, 3))), "left over");
        merge.accept(0, 6, frame(block(0, &[30], 3), Key::of(30, 0, 3)));
        merge.accept(1, 0, frame(block(1, &[], 1), Key::END));
        assert_eq!(drain(&mut merge), [(10, 0), (20, 0), (30, 0)]);
        assert_eq!(merge.credit(0, 1), Some((6, 3)));
    }

    /// Or a consumer whose producer comes back often would have so much more each time.
    #[test]
    fn rows_that_are_not_done_with_count_against_the_credit_of_a_new_session() {
        let mut merge = Merge::new(1);
        merge.resume(0, 5, Key::START);
        merge.accept(0, 5, frame(block(0, &[10, 20, 30], 1), Key::of(30, 0, 3)));
        assert_eq!(drain(&mut merge).len(), 3);
        assert_eq!(merge.reconnect(0, 6, 3), 3);
        assert_eq!(merge.credit(0, 1), Some((6, 3)), "given back once they are");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Invariants 1 and 2: however the frames arrive, the order is that of the keys.
        #[test]
        fn the_order_is_that_of_the_keys_however_frames_arrive(
            steps in proptest::collection::vec(proptest::collection::vec(0u64..5, 0..40), 1..4),
            cuts in proptest::collection::vec((0usize..4, 1usize..6), 0..60),
        ) {
            let sources: Vec<Vec<Key>> = steps.iter().zip(0u16..).map(|(steps, source)| {
                let mut frontier = 0u64;
                steps.iter().zip(1u64..).map(|(step, sequence)| {
                    frontier += step;
                    Key::of(frontier, source, sequence)
                }).collect()
            }).collect();
            let mut expected: Vec<Key> = sources.concat();
            expected.sort();
            let mut merge: Merge<TickBatch> = Merge::new(sources.len());
            let mut next = vec![0usize; sources.len()];
            let mut seen = Vec::new();
            let everything = (0..sources.len()).map(|source| (source, usize::MAX));
            for (source, count) in cuts.into_iter().chain(everything) {
                let Some(keys) = sources.get(source) else { continue };
                let from = next[source];
                let to = usize::min(from.saturating_add(count), keys.len());
                next[source] = to;
                let mut batch = TickBatch {
                    source: SourceId(u16::try_from(source).unwrap()),
                    ..TickBatch::default()
                };
                for &key in &keys[from..to] {
                    prop_assert!(batch.push(key, Tick::default()));
                }
                let complete = if to == keys.len() { Key::END } else if to > 0 { keys[to - 1] } else { Key::START };
                merge.accept(source, 0, frame(Arc::new(batch), complete));
                while let Some(run) = merge.next_run() {
                    seen.extend(run.rows.map(|row| run.block.at(row)));
                }
            }
            prop_assert_eq!(seen, expected);
        }
    }
}
