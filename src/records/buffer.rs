//! Where rows wait for the database: in memory, and in a journal on the disk once there are too many, or
//! once somebody relies on them.
//!
//! ```text
//! take ─▶ memory ──────────────────────────────┬▶ Drain::Memory  ─▶ database ─▶ written
//!            │ full, or a checkpoint waits      │
//!            └▶ spill ─▶ journal ─▶ spilled ────┴▶ Drain::Journal ─▶
//! ```
//!
//! Rows are numbered as they come: 1, 2, 3 and so on. What is on the way is told by three numbers: all rows
//! up to `written` are in the database, all up to `durable` are there or in the journal, and `taken` is the
//! last that came.
//!
//! # Invariants
//!
//! 1. Rows are drained in their order, in batches, one at a time: what the database has is always all rows
//!    up to a number.
//! 2. No row is forgotten before it is in the database or in the journal.
//! 3. Memory holds at most `rows_max` rows, and those that came while the journal was being written.
//! 4. [`Buffer::is_full`] begins when more than `spill_max` rows wait, and ends when no more than half as
//!    many do.

use std::collections::VecDeque;

use super::Row;

/// How much may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferConfig {
    /// Rows in memory.
    pub rows_max: usize,
    /// Rows in a batch for the database.
    pub batch_rows: usize,
    /// Rows that may wait in all before opening orders are denied.
    pub spill_max: u64,
}

/// What is to be written to the database next.
#[derive(Clone, Debug, PartialEq)]
pub enum Drain {
    /// Nothing waits, or a batch is on its way.
    Nothing,
    /// These rows, of which the last has this number.
    Memory(Vec<Row>, u64),
    /// The rows of the journal that follow this number.
    Journal(u64),
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Buffer {
    config: BufferConfig,
    /// The last of all; bounded by `rows_max` and what comes during one write of the journal.
    memory: VecDeque<Row>,
    taken: u64,
    durable: u64,
    written: u64,
    /// The last row of what is being written to the journal.
    spilling: Option<u64>,
    is_draining: bool,
    is_full: bool,
}

impl Buffer {
    /// A buffer that goes on from a journal: rows after `written` up to `durable` are in it.
    pub fn new(config: BufferConfig, written: u64, durable: u64) -> Self {
        let mut buffer = Self {
            config,
            memory: VecDeque::new(),
            taken: durable,
            durable,
            written,
            spilling: None,
            is_draining: false,
            is_full: false,
        };
        buffer.judge();
        buffer
    }

    /// Takes a row in.
    pub fn take(&mut self, row: Row) {
        self.memory.push_back(row);
        self.taken += 1;
        self.judge();
    }

    /// Whether rows must go to the journal for want of memory.
    pub fn is_crowded(&self) -> bool {
        self.memory.len() > self.config.rows_max && self.durable < self.taken
    }

    /// Rows for the journal, and the number of the last: all that are neither there nor in the database.
    /// None while others are being written there, or could not be: after that nothing more may follow.
    pub fn spill(&mut self) -> Option<(Vec<Row>, u64)> {
        let kept_until = self.durable.max(self.written);
        if self.spilling.is_some() || kept_until >= self.taken {
            return None;
        }
        self.spilling = Some(self.taken);
        let count = usize::try_from(self.taken - kept_until).unwrap_or(usize::MAX);
        let start = self.memory.len() - count.min(self.memory.len());
        Some((self.memory.range(start..).cloned().collect(), self.taken))
    }

    /// What was to be spilled is in the journal.
    pub fn on_spilled(&mut self) {
        let Some(until) = self.spilling.take() else { return };
        self.durable = self.durable.max(until);
        // Those that are in the journal need not be in memory; but while they fit, they are at hand.
        if self.memory.len() > self.config.rows_max / 2 {
            let in_journal = usize::try_from(self.taken - self.durable).unwrap_or(usize::MAX);
            let excess = self.memory.len() - in_journal.min(self.memory.len());
            self.memory.drain(..excess);
        }
    }

    /// The next batch. It must be ended by [`Buffer::on_written`] or [`Buffer::on_failed`] before there is
    /// another.
    pub fn drain(&mut self) -> Drain {
        if self.is_draining || self.written >= self.taken {
            return Drain::Nothing;
        }
        self.is_draining = true;
        let before_memory = self.taken - u64::try_from(self.memory.len()).unwrap_or(u64::MAX);
        if self.written < before_memory {
            return Drain::Journal(self.written);
        }
        let start = usize::try_from(self.written - before_memory).unwrap_or(usize::MAX);
        let end = self.memory.len().min(start.saturating_add(self.config.batch_rows));
        let rows: Vec<Row> = self.memory.range(start..end).cloned().collect();
        let until = self.written + u64::try_from(rows.len()).unwrap_or(0);
        Drain::Memory(rows, until)
    }

    /// All rows up to `until` are in the database.
    pub fn on_written(&mut self, until: u64) {
        self.is_draining = false;
        self.written = self.written.max(until);
        let before_memory = self.taken - u64::try_from(self.memory.len()).unwrap_or(u64::MAX);
        // What is being spilled is in the database by now; it is taken out of the journal with the rest.
        let done = usize::try_from(self.written.saturating_sub(before_memory)).unwrap_or(0);
        self.memory.drain(..done.min(self.memory.len()));
        self.judge();
    }

    /// The batch did not reach the database.
    pub fn on_failed(&mut self) {
        self.is_draining = false;
    }

    fn judge(&mut self) {
        let waiting = self.waiting();
        if waiting > self.config.spill_max {
            self.is_full = true;
        } else if waiting <= self.config.spill_max / 2 {
            self.is_full = false;
        }
    }

    /// Whether so much waits that no order may open anything.
    pub const fn is_full(&self) -> bool {
        self.is_full
    }

    /// Whether a batch is on its way.
    pub const fn is_draining(&self) -> bool {
        self.is_draining
    }

    /// Rows that are not in the database yet.
    pub const fn waiting(&self) -> u64 {
        self.taken - self.written
    }

    /// Rows that only memory has.
    pub fn at_risk(&self) -> u64 {
        self.taken - self.durable.max(self.written)
    }

    /// The number of the last row that came.
    pub const fn taken(&self) -> u64 {
        self.taken
    }

    /// All rows up to this number are in the database.
    pub const fn written(&self) -> u64 {
        self.written
    }

    /// All rows up to this number are in the database or in the journal.
    pub fn durable(&self) -> u64 {
        self.durable.max(self.written)
    }

    /// Rows in memory.
    pub fn in_memory(&self) -> usize {
        self.memory.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::records::{Table, Value};

    fn row(number: u64) -> Row {
        Row { table: Table::Orders, values: vec![Value::unsigned(number)] }
    }

    fn buffer(rows_max: usize, spill_max: u64) -> Buffer {
        Buffer::new(BufferConfig { rows_max, batch_rows: 2, spill_max }, 0, 0)
    }

    #[test]
    fn rows_go_to_the_database_from_memory_in_batches() {
        let mut buffer = buffer(10, 100);
        (1..=3).for_each(|number| buffer.take(row(number)));
        assert_eq!(buffer.drain(), Drain::Memory(vec![row(1), row(2)], 2));
        assert_eq!(buffer.drain(), Drain::Nothing, "one at a time");
        buffer.on_failed();
        assert_eq!(buffer.drain(), Drain::Memory(vec![row(1), row(2)], 2), "the same again");
        buffer.on_written(2);
        assert_eq!(buffer.drain(), Drain::Memory(vec![row(3)], 3));
        buffer.on_written(3);
        assert_eq!((buffer.waiting(), buffer.in_memory()), (0, 0));
    }

    #[test]
    fn what_does_not_fit_into_memory_is_drained_from_the_journal_first() {
        let mut buffer = buffer(2, 100);
        (1..=3).for_each(|number| buffer.take(row(number)));
        assert!(buffer.is_crowded());
        assert_eq!(buffer.spill(), Some((vec![row(1), row(2), row(3)], 3)));
        buffer.take(row(4));
        assert_eq!(buffer.spill(), None, "one at a time");
        buffer.on_spilled();
        assert_eq!((buffer.in_memory(), buffer.at_risk()), (1, 1));
        assert_eq!(buffer.drain(), Drain::Journal(0));
        buffer.on_written(3);
        assert_eq!(buffer.drain(), Drain::Memory(vec![row(4)], 4));
    }

    #[test]
    fn a_checkpoint_makes_all_rows_durable_and_they_stay_at_hand() {
        let mut buffer = buffer(10, 100);
        (1..=3).for_each(|number| buffer.take(row(number)));
        assert_eq!(buffer.at_risk(), 3);
        assert_eq!(buffer.spill().map(|(rows, until)| (rows.len(), until)), Some((3, 3)));
        buffer.on_spilled();
        assert_eq!((buffer.at_risk(), buffer.in_memory()), (0, 3));
        assert_eq!(buffer.spill(), None, "nothing is left to do");
    }

    #[test]
    fn it_is_full_past_the_limit_until_half_of_it_waits() {
        let mut buffer = buffer(10, 4);
        (1..=4).for_each(|number| buffer.take(row(number)));
        assert!(!buffer.is_full(), "at the limit");
        buffer.take(row(5));
        assert!(buffer.is_full(), "one past it");
        buffer.on_written(2);
        assert!(buffer.is_full(), "three wait, and half of the limit is two");
        buffer.on_written(3);
        assert!(!buffer.is_full());
    }

    #[test]
    fn a_successor_goes_on_from_the_journal() {
        let config = BufferConfig { rows_max: 4, batch_rows: 2, spill_max: 3 };
        let mut buffer = Buffer::new(config, 10, 15);
        assert!(buffer.is_full());
        assert_eq!((buffer.waiting(), buffer.at_risk()), (5, 0));
        assert_eq!(buffer.drain(), Drain::Journal(10));
        buffer.on_written(15);
        buffer.take(row(16));
        assert_eq!(buffer.drain(), Drain::Memory(vec![row(16)], 16));
    }

    proptest! {
        /// Invariants 1 to 3, after any history of rows, writes that succeed or fail, and restarts.
        #[test]
        fn every_row_reaches_the_database_once_and_in_order(steps in prop::collection::vec(0u8..8, 0..400)) {
            let config = BufferConfig { rows_max: 5, batch_rows: 3, spill_max: 20 };
            let mut buffer = Buffer::new(config, 0, 0);
            // What is on the disk: of the journal, and of the database.
            let (mut journal, mut database): (Vec<u64>, Vec<u64>) = (Vec::new(), Vec::new());
            let mut spilling: Option<Vec<u64>> = None;
            let number = |row: &Row| match row.values[0] {
                Value::Integer(number) => u64::try_from(number).unwrap(),
                Value::Null | Value::Float(_) | Value::Text(_) => unreachable!("not in this test"),
            };
            let mut taken = 0u64;
            let mut finish = false;
            for step in steps.into_iter().chain(std::iter::repeat_n(255, 400)) {
                match step {
                    0..=3 => {
                        taken += 1;
                        buffer.take(row(taken));
                    }
                    4 => {
                        if let Some((rows, until)) = buffer.spill() {
                            prop_assert_eq!(rows.last().map(number), Some(until));
                            spilling = Some(rows.iter().map(number).collect());
                        }
                    }
                    5 => if let Some(rows) = spilling.take() {
                        journal.extend(rows);
                        buffer.on_spilled();
                        prop_assert!(buffer.at_risk() <= u64::try_from(buffer.in_memory()).unwrap());
                    },
                    6 => {
                        // A crash: what only memory had is derived again, from the checkpoint.
                        spilling = None;
                        let durable = buffer.durable();
                        taken = durable;
                        buffer = Buffer::new(config, buffer.written(), durable);
                    }
                    7 | 255 => {
                        if step == 255 && !finish {
                            finish = true;
                            // A journal that could not be written once is never written again.
                            spilling = None;
                        }
                        match buffer.drain() {
                            Drain::Nothing => {}
                            Drain::Memory(rows, until) => {
                                database.extend(rows.iter().map(number));
                                buffer.on_written(until);
                            }
                            Drain::Journal(after) => {
                                let next = journal.iter().copied().filter(|&it| it > after);
                                let next: Vec<u64> = next.take(3).collect();
                                prop_assert!(!next.is_empty(), "the journal has what it should");
                                let until = *next.last().unwrap();
                                database.extend(next);
                                buffer.on_written(until);
                            }
                        }
                    }
                    _ => unreachable!("steps are below 8"),
                }
            }
            let expected: Vec<u64> = (1..=taken).collect();
            prop_assert_eq!(database, expected);
            prop_assert_eq!(buffer.waiting(), 0);
        }
    }
}
