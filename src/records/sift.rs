//! Which rows of a batch a database refuses, when it refuses the batch.
//!
//! ```text
//! batch ─▶ next ─▶ database ─┬─ written ─▶ next
//!                            └─ refused ─▶ both halves, one after the other ─▶ … ─▶ one row: it is refused
//! ```
//!
//! # Invariants
//!
//! 1. Every row is either written, or was refused by itself.
//! 2. Rows are written in their order, and one that is not is passed over once it was refused.
//! 3. Of `n` rows, `k` of them refused, at most `1 + 2k(2 + log2 n)` attempts are made.

use std::collections::VecDeque;
use std::ops::Range;

use super::Row;

/// See the module.
#[derive(Clone, Debug)]
pub struct Sift {
    rows: Vec<Row>,
    /// What is to be tried, in order. Grows by one for each half.
    parts: VecDeque<Range<usize>>,
}

impl Sift {
    /// Begins with all of `rows` at once.
    pub fn new(rows: Vec<Row>) -> Self {
        let all = 0..rows.len();
        Self { rows, parts: std::iter::once(all).filter(|all| !all.is_empty()).collect() }
    }

    /// The rows to be written next; none, if that is all.
    pub fn next_part(&self) -> Option<&[Row]> {
        self.rows.get(self.parts.front()?.clone())
    }

    /// They were written.
    pub fn on_written(&mut self) {
        self.parts.pop_front();
    }

    /// They were refused, for what they are. Returns the row that is, if it was one alone.
    pub fn on_refused(&mut self) -> Option<Row> {
        let part = self.parts.pop_front()?;
        if part.len() == 1 {
            return self.rows.get(part.start).cloned();
        }
        let middle = part.start + part.len() / 2;
        self.parts.push_front(middle..part.end);
        self.parts.push_front(part.start..middle);
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::records::{Table, Value};

    fn rows(count: usize) -> Vec<Row> {
        let row = |number| Row { table: Table::Orders, values: vec![Value::Integer(number)] };
        (0..i64::try_from(count).unwrap()).map(row).collect()
    }

    /// What is written and what is refused of `rows` by a database that will not have those `bad`, and after how
    /// many attempts.
    fn sifted(rows: &[Row], bad: impl Fn(&Row) -> bool) -> (Vec<Row>, Vec<Row>, usize) {
        let mut sift = Sift::new(rows.to_vec());
        let (mut written, mut refused, mut attempts) = (Vec::new(), Vec::new(), 0);
        while let Some(part) = sift.next_part() {
            attempts += 1;
            if part.iter().any(&bad) {
                refused.extend(sift.on_refused());
            } else {
                written.extend_from_slice(part);
                sift.on_written();
            }
        }
        (written, refused, attempts)
    }

    #[test]
    fn a_batch_without_fault_is_written_at_once_and_an_empty_one_not_at_all() {
        assert_eq!(sifted(&rows(500), |_| false), (rows(500), Vec::new(), 1));
        assert_eq!(sifted(&[], |_| true), (Vec::new(), Vec::new(), 0));
    }

    proptest! {
        #[test]
        fn only_what_is_refused_is_passed_over(bad in prop::collection::vec(prop::bool::weighted(0.05), 1..600)) {
            let all = rows(bad.len());
            let is_bad = |row: &Row| all.iter().zip(&bad).any(|(it, bad)| *bad && it == row);
            let (written, refused, attempts) = sifted(&all, is_bad);
            let (bad_rows, good): (Vec<Row>, Vec<Row>) = all.iter().cloned().partition(is_bad);
            prop_assert_eq!(written, good);
            let most = 1 + 2 * bad_rows.len() * (1 + usize::try_from(all.len().ilog2() + 1).unwrap());
            prop_assert!(attempts <= most, "{} attempts", attempts);
            prop_assert_eq!(refused, bad_rows);
        }
    }
}
