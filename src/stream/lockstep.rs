//! Ticks, signals and broker events as one sequence: what exec advances by.
//!
//! ```text
//! clean ticks ─┐
//! signals ─────┼─▶ rows, events and signals in the order of their keys
//! events ──────┘   or: "the brokers must first advance to ..."
//! ```
//!
//! At one frontier come first the events that are due, then the rows, and after each row the signals
//! that answer it.
//!
//! An order approved at frontier `f` has no effect before `f + lookahead + 1`, so the brokers may be
//! asked for all events up to `f + lookahead` at once: the conservative rule of parallel simulation
//! (Chandy and Misra 1979, Bryant 1977). What they are asked for does not depend on how the rows
//! arrived in blocks, only when they are asked does.
//!
//! # Invariants
//!
//! 1. What comes out, and in what order, depends on the rows, signals and events alone; where inputs
//!    are taken as they arrive, also on the [`Taken`] steps.
//! 2. While an order is open, nothing later than `horizon` comes out.
//! 3. After a restore from a [`LockstepSnapshot`] the sequence goes on as it would have.

mod arrival;
mod external;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::merge::{rows_through, rows_until};
use super::{Frame, Merge, Run, SignalBatch};
use crate::domain::{BrokerEvent, BrokerEventKind, Key, KillSwitch, Signal, TickBatch, Timestamp};

pub use arrival::{OrderMismatch, Positions, Taken};
pub use external::External;

use arrival::Arrivals;
use external::{Outside, OutsideSnapshot};

/// By what exec orders its inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Merging {
    /// By key: the same in every run.
    Key,
    /// As they arrive: no waiting for slower streams, and another order in every run, which can be
    /// followed again.
    Arrival,
}

/// What comes next.
#[derive(Debug)]
pub enum Next {
    /// Rows that move books and marks.
    Rows(Arc<TickBatch>, Range<usize>),
    /// A broker event takes effect.
    Event(BrokerEvent),
    /// A kill switch takes effect.
    Switch(KillSwitch),
    /// From here on what happens cannot be recorded, or can again. Only where inputs are taken as they arrive.
    Records {
        /// Whether too much waits for the database.
        is_full: bool,
    },
    /// A strategy wants something. It is judged, and its order leaves, at the key given.
    Signal(Signal, Key),
    /// Nothing may happen before the brokers have said all that is due up to `to`. All orders before
    /// `at` are known. Call [`Lockstep::on_advanced`] with what they say.
    Advance {
        /// The frontier of what is next.
        at: Timestamp,
        /// How far the brokers shall advance; not before `at`.
        to: Timestamp,
    },
    /// Rows and signals are at their end, and orders are open: they expire now. Call
    /// [`Lockstep::on_advanced`] with what the brokers say.
    Expire,
    /// Everything has come out.
    Finished,
    /// Nothing until more arrives.
    Starved,
}

/// What a restart needs, besides the streams from `position` on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockstepSnapshot {
    /// Every row and signal up to here has come out.
    pub position: Key,
    /// The same by input and its own keys, where inputs are taken as they arrive; otherwise none.
    pub inputs: Positions,
    events: Vec<BrokerEvent>,
    horizon: Timestamp,
    open_orders: u64,
    rows: u64,
    signals: u64,
    outside: OutsideSnapshot,
}

/// Rows that may come out.
#[derive(Debug)]
struct Ready {
    run: Run<TickBatch>,
    /// The block with the rows' own keys, and which of its rows is the first of `run.block`; none, if
    /// that is the same block.
    own: Option<(Arc<TickBatch>, usize)>,
}

/// A signal that may come out.
#[derive(Debug)]
struct Waiting {
    signal: Signal,
    /// Where it stands among the rows: behind this one.
    at: Key,
    input: usize,
}

/// Merges exec's inputs.
#[derive(Debug)]
pub struct Lockstep {
    merging: Merging,
    /// Nanoseconds after an order's frontier in which it certainly has no effect.
    lookahead: u64,
    ticks: Merge<TickBatch>,
    signals: Merge<SignalBatch>,
    /// Ticks in key order, complete up to `ready_through`. Bounded by whoever looks at
    /// [`Lockstep::ready_rows`] before it gives out more credit.
    ready: VecDeque<Ready>,
    ready_through: Key,
    /// Signals in order. Bounded by the credit given out.
    waiting: VecDeque<Waiting>,
    waiting_through: Key,
    /// Events due, in order. Bounded by the open orders.
    events: VecDeque<BrokerEvent>,
    /// Every event due up to here is in `events` or has come out.
    horizon: Timestamp,
    open_orders: u64,
    position: Key,
    /// Rows given to the brokers so far, so that none is sent to them twice.
    shipped: Key,
    /// Rows that came out while an order was open, and that the brokers have not been given.
    unshipped: Vec<Run<TickBatch>>,
    /// Rows with a market event that have come out, boundary rows not counted.
    rows: u64,
    signals_seen: u64,
    finished: bool,
    /// Unused when inputs are taken by key.
    arrivals: Arrivals,
    outside: Outside,
}

impl Lockstep {
    /// Merges `tick_inputs` and `signal_inputs` streams. `latency_min` is the least that a broker takes
    /// to answer; zero switches looking ahead off.
    pub fn new(
        merging: Merging,
        latency_min: u64,
        tick_inputs: usize,
        signal_inputs: usize,
    ) -> Self {
        let (mut ticks, mut signals) = (Merge::new(tick_inputs), Merge::new(signal_inputs));
        let mut out = Positions::default();
        if merging == Merging::Arrival {
            (ticks, signals) = (ticks.eager(), signals.eager());
            out.ticks = vec![Key::START; tick_inputs];
            out.signals = vec![Key::START; signal_inputs];
        }
        Self {
            merging,
            lookahead: latency_min.saturating_sub(1),
            ticks,
            signals,
            ready: VecDeque::new(),
            ready_through: Key::START,
            waiting: VecDeque::new(),
            waiting_through: Key::START,
            events: VecDeque::new(),
            horizon: Timestamp::from_nanos(0),
            open_orders: 0,
            position: Key::START,
            shipped: Key::START,
            unshipped: Vec::new(),
            rows: 0,
            signals_seen: 0,
            finished: false,
            arrivals: Arrivals::at(Key::START, out),
            outside: Outside::default(),
        }
    }

    /// The streams of clean ticks.
    pub fn ticks(&mut self) -> &mut Merge<TickBatch> {
        &mut self.ticks
    }

    /// The streams of signals.
    pub fn signals(&mut self) -> &mut Merge<SignalBatch> {
        &mut self.signals
    }

    /// Rows that wait for the signals that answer them. As long as there are many, no more should be
    /// asked for: a shard that stands still would have all the input pile up here.
    pub fn ready_rows(&self) -> usize {
        self.ready.iter().map(|ready| ready.run.rows.len()).sum()
    }

    /// Those of them that came by one stream.
    pub fn ready_rows_of(&self, input: usize) -> u32 {
        let of_it = self.ready.iter().filter(|ready| ready.run.input == input);
        let rows = of_it.map(|ready| ready.run.rows.len()).sum::<usize>();
        u32::try_from(rows).unwrap_or(u32::MAX)
    }

    /// Takes in a frame of clean ticks. Returns false when it holds nothing new.
    pub fn on_ticks(&mut self, input: usize, session: u64, frame: Frame<TickBatch>) -> bool {
        let accepted = self.ticks.accept(input, session, frame);
        if self.merging == Merging::Key {
            while let Some(run) = self.ticks.next_run() {
                self.ready.push_back(Ready { run, own: None });
            }
        } else {
            self.take_arrived();
        }
        self.ready_through = self.ticks.complete();
        accepted
    }

    /// How far signals have come by any stream, those included that were taken before a restart and come
    /// again.
    pub fn signals_reached(&self) -> Timestamp {
        let received = (0..self.signals.len()).map(|input| self.signals.received(input).frontier);
        received.chain(self.arrivals.signals_replayed(self.ticks.len())).max().unwrap_or_default()
    }

    /// Takes in a frame of signals. Returns false when it holds nothing new.
    pub fn on_signals(&mut self, input: usize, session: u64, frame: Frame<SignalBatch>) -> bool {
        let accepted = self.signals.accept(input, session, frame);
        if self.merging == Merging::Key {
            while let Some(run) = self.signals.next_run() {
                let waiting =
                    |&signal: &Signal| Waiting { signal, at: signal.id.key, input: run.input };
                self.waiting.extend(run.block.signals[run.rows.clone()].iter().map(waiting));
            }
        } else {
            self.take_arrived();
        }
        self.waiting_through = self.signals.complete();
        accepted
    }

    /// An order has left at `at`; until its [`BrokerEventKind::Closed`] comes out it is open.
    pub fn on_order(&mut self, at: Key) {
        if self.open_orders == 0 && self.events.is_empty() {
            let free = at.frontier.as_nanos().saturating_add(self.lookahead);
            self.horizon = self.horizon.max(Timestamp::from_nanos(free));
        }
        if self.open_orders == 0 {
            // The order brings its book along; only what follows matters to its broker.
            self.unshipped.clear();
        }
        self.open_orders += 1;
    }

    /// An order has ended otherwise than by a broker's event.
    pub fn on_closed(&mut self) {
        self.open_orders = self.open_orders.saturating_sub(1);
    }

    /// The brokers have advanced `to` and said `events`, sorted.
    pub fn on_advanced(&mut self, to: Timestamp, events: &[BrokerEvent]) {
        debug_assert!(events.is_sorted_by_key(BrokerEvent::sort_key));
        self.events.extend(events);
        self.horizon = self.horizon.max(to);
    }

    /// Rows not yet given to the brokers whose frontier is not after `to`, in order: all that follow the
    /// first order that is open now.
    pub fn ship(&mut self, to: Timestamp) -> Vec<Run<TickBatch>> {
        let mut runs = std::mem::take(&mut self.unshipped);
        for Ready { run, .. } in &self.ready {
            let end = rows_until(&run.block, run.rows.clone(), to);
            let start = rows_through(&run.block, run.rows.start..end, self.shipped);
            if start < end {
                self.shipped = run.block.key(&run.block.rows[end - 1]);
                runs.push(Run { rows: start..end, ..run.clone() });
            }
            if end < run.rows.end {
                break;
            }
        }
        runs
    }

    /// Rows that came out while an order was open and that the brokers were not given. They must be
    /// before a snapshot is taken, as it does not hold them.
    pub fn ship_processed(&mut self) -> Vec<Run<TickBatch>> {
        std::mem::take(&mut self.unshipped)
    }

    /// What is next.
    pub fn next_step(&mut self) -> Next {
        if self.merging == Merging::Key
            && self.is_between_keys()
            && let Some(switch) = self.pop_switch()
        {
            return switch;
        }
        let first = |run: &Run<TickBatch>| run.block.key(&run.block.rows[run.rows.start]);
        let row = self.ready.front().map(|ready| first(&ready.run));
        let signal = self.waiting.front().map(|waiting| waiting.at);
        // A row goes before the signals that answer it.
        let row_first = match (row, signal) {
            (Some(row), Some(signal)) => row <= signal,
            (Some(_), None) => true,
            (None, _) => false,
        };
        let head = if row_first { row } else { signal };
        let Some(head) = head else { return self.at_rest() };
        if self.merging == Merging::Key {
            // A signal may still come before this row, or a row before this signal.
            let known = if row_first { self.waiting_through } else { self.ready_through };
            let bounded = if row_first { signal.is_some() } else { row.is_some() };
            if !bounded && head > known {
                return Next::Starved;
            }
        }
        let outside = self.outside.next_due().filter(|&due| due <= head.frontier);
        if let Some(event) = self.events.front()
            && event.due <= head.frontier
            && outside.is_none_or(|due| event.due <= due)
        {
            return self.pop_event();
        }
        if outside.is_some() {
            return self.pop_outside();
        }
        if self.open_orders > 0 && head.frontier > self.horizon {
            let at = head.frontier;
            let ahead = Timestamp::from_nanos(at.as_nanos().saturating_add(self.lookahead));
            // Never past the last row in hand: an order that would arrive after the last row of all
            // expires, and whether that row is known to be the last depends on what arrived when.
            let last = self.ready.back().and_then(|Ready { run, .. }| {
                run.rows.clone().next_back().map(|row| run.block.frontier(&run.block.rows[row]))
            });
            let to = ahead.min(last.unwrap_or(at)).max(at);
            return Next::Advance { at, to };
        }
        if !row_first {
            let Waiting { signal, at, input } = self.waiting.pop_front().expect("it is the head");
            self.signals_seen += 1;
            self.position = self.position.max(at);
            if self.merging == Merging::Arrival {
                self.arrivals.out.signals[input] = signal.id.key;
            }
            return Next::Signal(signal, at);
        }
        self.pop_rows(signal)
    }

    /// Rows up to the next signal, event or unknown.
    fn pop_rows(&mut self, signal: Option<Key>) -> Next {
        let Ready { run, own } = self.ready.front_mut().expect("it has a head");
        let mut rows = run.rows.clone();
        let until = match self.merging {
            Merging::Key => signal.unwrap_or(self.waiting_through),
            Merging::Arrival => signal.unwrap_or(Key::END),
        };
        if until < Key::END {
            rows.end = rows_through(&run.block, rows.clone(), until);
        }
        let due = self.events.front().map(|event| event.due);
        if let Some(due) = due.into_iter().chain(self.outside.next_due()).min() {
            let before = Timestamp::from_nanos(due.as_nanos().saturating_sub(1));
            rows.end = rows_until(&run.block, rows.clone(), before);
        }
        if self.open_orders > 0 {
            rows.end = rows_until(&run.block, rows.clone(), self.horizon);
        }
        debug_assert!(!rows.is_empty(), "the head was allowed");
        let block = Arc::clone(&run.block);
        if self.open_orders > 0 {
            let start = rows_through(&block, rows.clone(), self.shipped);
            if start < rows.end {
                self.shipped = block.key(&block.rows[rows.end - 1]);
                self.unshipped.push(Run { rows: start..rows.end, ..run.clone() });
            }
        }
        if self.merging == Merging::Arrival {
            let (own, first) = own.as_ref().map_or((&block, 0), |(own, first)| (own, *first));
            self.arrivals.out.ticks[run.input] = own.key(&own.rows[first + rows.end - 1]);
        }
        if rows.end == run.rows.end {
            self.ready.pop_front();
        } else {
            run.rows.start = rows.end;
        }
        self.position = self.position.max(block.key(&block.rows[rows.end - 1]));
        Next::Rows(block, rows)
    }

    /// Neither rows nor signals are in hand.
    fn at_rest(&mut self) -> Next {
        // What comes later stands later.
        let outside = self.outside.next_due();
        if let Some(due) = outside {
            if self.events.front().is_some_and(|event| event.due <= due) {
                return self.pop_event();
            }
            return self.pop_outside();
        }
        let through = self.ready_through.min(self.waiting_through);
        if through != Key::END || self.has_untaken() {
            return Next::Starved;
        }
        if !self.events.is_empty() {
            return self.pop_event();
        }
        if self.open_orders > 0 {
            return Next::Expire;
        }
        self.finished = true;
        self.position = Key::END;
        Next::Finished
    }

    fn pop_event(&mut self) -> Next {
        let event = self.events.pop_front().expect("the caller saw it");
        if matches!(event.kind, BrokerEventKind::Closed { .. }) {
            self.open_orders = self.open_orders.saturating_sub(1);
        }
        Next::Event(event)
    }

    /// Whether rows alone can bring this on: signals are further than rows, or do not matter. Otherwise
    /// nothing comes out before more is known of the signals.
    pub fn wants_rows(&self) -> bool {
        self.merging == Merging::Arrival || self.ready_through < self.waiting_through
    }

    /// Counts rows with a market event that came out: for the caller who looked at them.
    pub fn count_rows(&mut self, rows: u64) {
        self.rows += rows;
    }

    /// Rows with a market event so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Signals so far.
    pub fn signals_seen(&self) -> u64 {
        self.signals_seen
    }

    /// Whether everything has come out.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Whether a signal may still come at the key of the last row: then this is no place for a
    /// checkpoint.
    pub fn is_between_keys(&self) -> bool {
        // Of inputs taken as they arrive, one that comes later stands later.
        let is_answered = self.merging == Merging::Arrival || self.waiting_through >= self.position;
        is_answered && self.waiting.front().is_none_or(|waiting| waiting.at > self.position)
    }

    /// What a restart needs, once [`Lockstep::ship_processed`] has been given to the brokers.
    pub fn snapshot(&self) -> LockstepSnapshot {
        let inputs = match self.merging {
            Merging::Key => Positions::default(),
            Merging::Arrival => self.out_positions(),
        };
        LockstepSnapshot {
            position: self.position,
            inputs,
            events: self.events.iter().copied().collect(),
            horizon: self.horizon,
            open_orders: self.open_orders,
            rows: self.rows,
            signals: self.signals_seen,
            outside: self.outside.snapshot(),
        }
    }

    /// Goes back to `snapshot`. The streams must be subscribed to again, after its positions; and where
    /// inputs are taken as they arrive, [`Lockstep::replay`] comes before that.
    pub fn restore(&mut self, snapshot: LockstepSnapshot) {
        let mut restored = Self::new(self.merging, 0, self.ticks.len(), self.signals.len());
        restored.lookahead = self.lookahead;
        let position = snapshot.position;
        // A beginning has none.
        let mut inputs = snapshot.inputs;
        inputs.ticks.resize(restored.ticks.len(), position);
        inputs.signals.resize(restored.signals.len(), position);
        // No session has the number 0: what is still on its way is dropped.
        for (input, &after) in inputs.ticks.iter().enumerate() {
            restored.ticks.resume(input, 0, after);
        }
        for (input, &after) in inputs.signals.iter().enumerate() {
            restored.signals.resume(input, 0, after);
        }
        restored.position = position;
        restored.ready_through = restored.ticks.complete();
        restored.waiting_through = restored.signals.complete();
        restored.outside = Outside::restored(snapshot.outside, inputs.events);
        if self.merging == Merging::Arrival {
            restored.arrivals = Arrivals::at(position, inputs);
        }
        restored.events = snapshot.events.into();
        restored.horizon = snapshot.horizon;
        restored.open_orders = snapshot.open_orders;
        restored.rows = snapshot.rows;
        restored.signals_seen = snapshot.signals;
        *self = restored;
    }

    /// The last key that has come out.
    pub fn position(&self) -> Key {
        self.position
    }
}

#[cfg(test)]
mod tests;
