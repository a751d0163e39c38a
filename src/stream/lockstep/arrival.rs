//! Taking inputs as they arrive, so that it can be done again.
//!
//! The order in which rows and signals came is nobody's but exec's, so exec writes it down: one
//! [`Taken`] for as many rows or signals of one input as came without another between. After a restart
//! the same steps are taken first, and then what comes.
//!
//! All that follows works by key, so each row has a key of exec's own: its own one, or, when exec has
//! come further already, the next at which it can still stand. Time never goes back, and a row that is
//! late counts from the moment at which it was taken. A signal stands behind the last row that was
//! taken before it.
//!
//! # Invariants
//!
//! 1. Keys of exec's own only grow, and are a function of the steps: not of how rows came in blocks,
//!    nor of where a restart was.
//! 2. No signal is taken before the row that it answers.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::super::{Merge, Run, SignalBatch};
use super::external::{External, OUTSIDE};
use super::{Lockstep, Ready, Waiting};
use crate::domain::{Key, OrderId, TickBatch, Timestamp};

/// Rows or signals of one input that were taken without another input between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Tick inputs first, then signal inputs; the last number there is stands for brokers outside, whose
    /// events are counted.
    pub input: u16,
    /// The last that was taken, by its own key.
    pub through: Key,
    /// Exec's time from then on.
    pub now: Timestamp,
}

impl Taken {
    /// Appends to `steps`, as one with the last of them if it is of the same input.
    pub fn append_to(self, steps: &mut Vec<Self>) {
        match steps.last_mut() {
            Some(last) if last.input == self.input && self.input != OUTSIDE => *last = self,
            Some(_) | None => steps.push(self),
        }
    }
}

/// Up to where each input has been handled, by keys of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Positions {
    /// By tick input.
    pub ticks: Vec<Key>,
    /// By signal input.
    pub signals: Vec<Key>,
    /// Events of brokers outside.
    pub events: u64,
}

impl Positions {
    /// Whether everything of `step` has been handled.
    pub fn covers(&self, step: &Taken) -> bool {
        if step.input == OUTSIDE {
            return step.through.sequence <= self.events;
        }
        let position = self.ticks.iter().chain(&self.signals).nth(usize::from(step.input));
        position.is_some_and(|&position| step.through <= position)
    }
}

/// What was written down does not fit what comes: the data is not that of then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the order in which inputs were taken cannot be followed: input {} was taken up to {} at {} ns, \
     and is now taken up to {} at {} ns; the sources or the configuration are not those of then",
    step.input, step.through, step.now.as_nanos(), through, now.as_nanos()
)]
pub struct OrderMismatch {
    /// What was taken then.
    pub step: Taken,
    /// The last row or signal of the same input now.
    pub through: Key,
    /// Exec's time now.
    pub now: Timestamp,
}

/// What taking inputs as they arrive needs to know.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    /// The last row taken, by exec's own key.
    pub(super) last: Key,
    /// Steps to be taken before anything else.
    replayed: VecDeque<Taken>,
    /// The last of them, by input: until these are out, what happens has happened before.
    settling: Vec<Taken>,
    /// Steps taken since [`Lockstep::take_steps`]. Bounded by the credit given out.
    pub(super) steps: Vec<Taken>,
    mismatch: Option<OrderMismatch>,
    /// What has come out.
    pub(super) out: Positions,
}

impl Arrivals {
    pub(super) fn at(last: Key, out: Positions) -> Self {
        Self { last, out, ..Self::default() }
    }

    /// Up to where each signal is that is to be taken again; signal inputs follow `tick_inputs` others.
    pub(super) fn signals_replayed(&self, tick_inputs: usize) -> impl Iterator<Item = Timestamp> {
        let is_signals =
            move |step: &&Taken| usize::from(step.input) >= tick_inputs && step.input != OUTSIDE;
        self.settling.iter().filter(is_signals).map(|step| step.through.frontier)
    }

    /// Exec's time.
    fn now(&self) -> Timestamp {
        self.last.frontier
    }
}

impl Lockstep {
    /// Steps to take before anything else, those that are done left out: what
    /// [`Lockstep::take_steps`] gave out after the snapshot, in order, and the events of brokers outside
    /// among them.
    pub fn replay(
        &mut self,
        steps: impl IntoIterator<Item = Taken>,
        events: impl IntoIterator<Item = (u64, External)>,
    ) {
        self.replay_events(events);
        let out = &self.arrivals.out;
        let missing = steps.into_iter().filter(|step| !out.covers(step));
        let missing: VecDeque<Taken> = missing.collect();
        let mut settling: Vec<Taken> = Vec::new();
        for step in &missing {
            settling.retain(|last| last.input != step.input);
            settling.push(*step);
        }
        (self.arrivals.replayed, self.arrivals.settling) = (missing, settling);
        self.take_arrived();
    }

    /// Whether everything that had been taken before has come out again, so that what comes is new.
    pub fn is_settled(&mut self) -> bool {
        let Arrivals { settling, out, .. } = &mut self.arrivals;
        settling.retain(|step| !out.covers(step));
        settling.is_empty()
    }

    /// The steps that were taken since this was last asked, those taken again left out.
    pub fn take_steps(&mut self) -> Vec<Taken> {
        std::mem::take(&mut self.arrivals.steps)
    }

    /// What kept the steps from being taken again, if anything did. Nothing comes out any more.
    pub fn mismatch(&self) -> Option<OrderMismatch> {
        self.arrivals.mismatch
    }

    /// Takes what has arrived: first as it was taken before, then as it comes.
    pub(super) fn take_arrived(&mut self) {
        while self.arrivals.mismatch.is_none()
            && let Some(&step) = self.arrivals.replayed.front()
        {
            if !self.take_again(step) {
                return;
            }
            self.arrivals.replayed.pop_front();
        }
        if self.arrivals.mismatch.is_some() {
            return;
        }
        // What an operator stopped while steps were taken again shall hold for all that is new.
        self.take_outside();
        for input in 0..self.ticks.len() {
            while let Some(run) = self.ticks.next_of(input, |_| true) {
                let through = self.take_run(run);
                self.note(input, through);
            }
        }
        for input in 0..self.signals.len() {
            while let Some(run) = self.signals.next_of(input, |id| is_answer(&self.ticks, id)) {
                let through = take_signals(&mut self.waiting, &run, self.arrivals.last);
                self.note(self.ticks.len() + input, through);
            }
        }
    }

    /// Takes what is there of `step`. Returns whether that was all of it.
    fn take_again(&mut self, step: Taken) -> bool {
        if step.input == OUTSIDE {
            if !self.take_event_again(step) {
                let (through, now) = (Key::START, self.arrivals.now());
                self.arrivals.mismatch = Some(OrderMismatch { step, through, now });
            }
            return true;
        }
        let input = usize::from(step.input);
        let mut through = Key::START;
        let received;
        if input < self.ticks.len() {
            while let Some(run) = self.ticks.next_of(input, |key| key <= step.through) {
                through = self.take_run(run);
            }
            received = self.ticks.received(input);
        } else {
            let input = (input - self.ticks.len()).min(self.signals.len().saturating_sub(1));
            while let Some(run) = self.signals.next_of(input, |id| id.key <= step.through) {
                through = take_signals(&mut self.waiting, &run, self.arrivals.last);
            }
            received = self.signals.received(input);
        }
        if through != step.through && received < step.through {
            return false;
        }
        let now = self.arrivals.now();
        if through != step.through || now != step.now {
            self.arrivals.mismatch = Some(OrderMismatch { step, through, now });
        }
        true
    }

    fn note(&mut self, input: usize, through: Key) {
        let input = u16::try_from(input).unwrap_or(u16::MAX);
        let now = self.arrivals.now();
        Taken { input, through, now }.append_to(&mut self.arrivals.steps);
    }

    /// Takes the rows of `run`, under keys of exec's own. Returns the last one's own key.
    fn take_run(&mut self, run: Run<TickBatch>) -> Key {
        let last = run.block.key(&run.block.rows[run.rows.end - 1]);
        let (late, run) = split_late(run, self.arrivals.last);
        for ready in late.into_iter().chain(run.map(|run| Ready { run, own: None })) {
            let block = &ready.run.block;
            self.arrivals.last = block.key(&block.rows[ready.run.rows.end - 1]);
            self.ready.push_back(ready);
        }
        last
    }

    /// Whether something is in hand that was not taken yet.
    pub(super) fn has_untaken(&self) -> bool {
        self.ticks.has_rows() || self.signals.has_rows() || !self.outside.is_empty()
    }

    /// Up to where each input has come out. Where all that an input has said is out, that is as far as
    /// it is complete, so that a silent one gets on too.
    pub(super) fn out_positions(&self) -> Positions {
        let mut out = self.arrivals.out.clone();
        for (input, position) in out.ticks.iter_mut().enumerate() {
            let is_in_hand = self.ready.iter().any(|ready| ready.run.input == input);
            if !is_in_hand && !self.ticks.has_rows_of(input) {
                *position = (*position).max(self.ticks.received(input));
            }
        }
        for (input, position) in out.signals.iter_mut().enumerate() {
            let is_in_hand = self.waiting.iter().any(|waiting| waiting.input == input);
            if !is_in_hand && !self.signals.has_rows_of(input) {
                *position = (*position).max(self.signals.received(input));
            }
        }
        out
    }
}

/// Whether the row that a signal answers has been taken. Otherwise an order would be made from a book
/// that does not know it.
fn is_answer(ticks: &Merge<TickBatch>, signal: OrderId) -> bool {
    let source = usize::from(signal.key.source.0);
    source >= ticks.len() || signal.key <= ticks.received(source)
}

/// Puts the signals of `run` behind the row at `at`. Returns the key of the last.
fn take_signals(waiting: &mut VecDeque<Waiting>, run: &Run<SignalBatch>, at: Key) -> Key {
    let signals = &run.block.signals[run.rows.clone()];
    waiting.extend(signals.iter().map(|&signal| Waiting { signal, at, input: run.input }));
    signals.last().map_or(Key::START, |signal| signal.id.key)
}

/// The rows of `run` that are not after `last`, copied under the next keys that are; and the rest.
fn split_late(run: Run<TickBatch>, last: Key) -> (Option<Ready>, Option<Run<TickBatch>>) {
    let rows = run.rows.clone();
    let first = run.block.key(&run.block.rows[rows.start]);
    if first > last {
        return (None, Some(run));
    }
    let is_behind = (first.source, first.sequence) > (last.source, last.sequence);
    let frontier = last.frontier.as_nanos() + u64::from(!is_behind);
    let frontier = Timestamp::from_nanos(frontier);
    // Those of a later time are after it by themselves, and those of this time after the ones before.
    let end = rows.start
        + run.block.rows[rows.clone()].partition_point(|row| run.block.frontier(row) < frontier);
    let late = run.block.rows[rows.start..end].iter().map(|row| {
        let mut row = *row;
        (row.frontier_low, row.frontier_high) = (0, 0);
        row
    });
    let block = TickBatch {
        source: run.block.source,
        base_sequence: run.block.base_sequence,
        base_frontier: frontier,
        // They were learnt when the block came.
        definitions: Vec::new(),
        rows: late.collect(),
        origin_nanos: run.block.origin_nanos,
    };
    let late = Run { rows: 0..end - rows.start, block: Arc::new(block), input: run.input };
    let late = Ready { run: late, own: Some((Arc::clone(&run.block), rows.start)) };
    let rest = (end < rows.end).then_some(Run { rows: end..rows.end, ..run });
    (Some(late), rest)
}
