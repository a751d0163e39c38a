//! Changes of parameters while a pipeline runs: which there are, and what was derived under which.
//!
//! ```text
//! hold at T, number h ─▶ everybody who knows h waits before T
//!                        nobody has passed T? ─▶ a change from T on, made under h ─▶ release
//! ```
//!
//! A change holds from the first row whose frontier has reached its time, in every shard. Whoever made
//! something of later rows and did not know the hold under which the change was made did not know the
//! change: what it made does not stand. So everything that is derived says by its [`Basis`] how far it
//! goes and which hold its maker knew, and whoever comes upon it finds out whether it stands.
//!
//! # Invariants
//!
//! 1. What stands under a list stood under every shorter one: changes are added, never taken away.
//! 2. What does not stand was made by someone who did not know the hold of a change that it goes beyond.
//! 3. Who does not know a hold, or has gone beyond it before, never comes to stand as one who does; nor by
//!    going on from what was made by one who does.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{ParameterChange, Timestamp};

/// Most changes in one run: stages keep them all.
pub const CHANGE_COUNT_MAX: usize = 10_000;

/// Nobody may pass a time, for a change is about to be made there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The time.
    pub at: Timestamp,
    /// Which hold this is: greater than that of any before.
    pub number: u64,
}

/// A change, and how it came about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MadeChange {
    /// What it changes.
    pub change: ParameterChange,
    /// The hold under which it was made.
    pub hold: u64,
    /// Who made it.
    pub by: String,
    /// Why.
    pub why: String,
}

/// What factor engines, strategies and exec have to know of changes. Clones share the changes.
#[derive(Clone, Debug, Default)]
pub struct Control {
    /// The number of the last hold there was.
    known: u64,
    changes: Arc<Changes>,
    hold: Option<Hold>,
}

#[derive(Debug, Default)]
struct Changes {
    /// In the order in which they take effect; at most [`CHANGE_COUNT_MAX`].
    all: Vec<ParameterChange>,
    /// Of each, how it came about.
    made: Vec<(String, String)>,
    /// The greatest hold under which it, or one before it, was made.
    hold_max: Vec<u64>,
}

impl Control {
    /// All changes there are, in the order in which they were made, after the hold numbered `known`, the
    /// last there was; `hold`, if it has not ended.
    pub fn new(mut changes: Vec<MadeChange>, known: u64, hold: Option<Hold>) -> Self {
        // Those of one time hold in the order in which they were made.
        changes.sort_by_key(|made| made.change.at);
        let mut list = Changes::default();
        let mut hold_max = 0;
        for MadeChange { change, hold, by, why } in changes {
            hold_max = hold.max(hold_max);
            list.all.push(change);
            list.made.push((by, why));
            list.hold_max.push(hold_max);
        }
        Self { known: known.max(hold_max), changes: Arc::new(list), hold }
    }

    /// The same changes, and another hold, or none.
    #[must_use]
    pub fn with_hold(&self, hold: Option<Hold>) -> Self {
        let number = hold.map_or(0, |hold| hold.number);
        Self { known: self.known.max(number), changes: Arc::clone(&self.changes), hold }
    }

    /// The number of the last hold there was.
    pub fn known(&self) -> u64 {
        self.known
    }

    /// The hold that has not ended, if there is one.
    pub fn hold(&self) -> Option<Hold> {
        self.hold
    }

    /// Every change, in the order in which they take effect.
    pub fn changes(&self) -> &[ParameterChange] {
        &self.changes.all
    }

    /// Every change, by whom, and why.
    pub fn made(&self) -> impl Iterator<Item = (&ParameterChange, &str, &str)> {
        let made = self.changes.made.iter();
        let both = self.changes.all.iter().zip(made);
        both.map(|(change, (by, why))| (change, by.as_str(), why.as_str()))
    }

    /// How many changes hold once event time has reached `frontier`.
    pub fn count_at(&self, frontier: Timestamp) -> usize {
        self.changes.all.partition_point(|change| change.at <= frontier)
    }

    /// The changes that hold at `frontier` beyond the first `applied`.
    pub fn due(&self, applied: u64, frontier: Timestamp) -> &[ParameterChange] {
        let applied = usize::try_from(applied).unwrap_or(usize::MAX);
        self.changes.all.get(applied..self.count_at(frontier)).unwrap_or_default()
    }

    /// The first `version` changes: those that a layout of that version is made by.
    pub fn first(&self, version: u64) -> &[ParameterChange] {
        let count = usize::try_from(version).unwrap_or(usize::MAX);
        self.changes.all.get(..count).unwrap_or(&self.changes.all)
    }

    /// Whether rows at `frontier` have to wait.
    pub fn is_held(&self, frontier: Timestamp) -> bool {
        self.hold.is_some_and(|hold| frontier >= hold.at)
    }

    /// The next time after `frontier` at which something changes or has to wait.
    pub fn next_after(&self, frontier: Timestamp) -> Option<Timestamp> {
        let next = self.changes.all.get(self.count_at(frontier)).map(|change| change.at);
        let hold = self.hold.map(|hold| hold.at).filter(|&at| at > frontier);
        next.into_iter().chain(hold).min()
    }

    /// Whether what has this basis was made by someone who knew all changes that it goes beyond.
    pub fn stands(&self, basis: Basis) -> bool {
        let count = self.count_at(basis.until);
        count.checked_sub(1).is_none_or(|last| self.changes.hold_max[last] <= basis.known)
    }

    /// The same, and the hold as well, if one is in force: a change may yet be made there.
    pub fn stands_whatever_comes(&self, basis: Basis) -> bool {
        let is_beyond = |hold: Hold| basis.until >= hold.at && basis.known < hold.number;
        self.stands(basis) && !self.hold.is_some_and(is_beyond)
    }
}

/// How far something goes that was derived from rows, and which hold its maker knew when it went there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Basis {
    /// Everything up to here was taken into account.
    pub until: Timestamp,
    /// The number of the last hold that was known.
    pub known: u64,
}

impl Basis {
    /// Takes in what is known now. Returns false when it does not stand: it goes beyond a change that was
    /// not known, and must be derived anew from something that stands. While it goes beyond a hold it
    /// stays as it is, for then it does not stand as soon as there is a change.
    #[must_use]
    pub fn learn(&mut self, control: &Control) -> bool {
        if control.stands_whatever_comes(*self) {
            self.known = self.known.max(control.known());
        }
        control.stands(*self)
    }

    /// The basis of who goes on from what has this one, and knows `control`. What its maker knew beyond that
    /// does not count: it will not be gone by.
    #[must_use]
    pub fn taken_over(self, control: &Control) -> Self {
        Self { known: self.known.min(control.known()), ..self }
    }

    /// Goes on to `until`.
    pub fn advance(&mut self, until: Timestamp) {
        self.until = self.until.max(until);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(nanos: u64) -> Timestamp {
        Timestamp::from_nanos(nanos)
    }

    fn made(nanos: u64, width: f64, hold: u64) -> MadeChange {
        let parameters = vec![("width".to_owned(), width)];
        let change = ParameterChange { at: at(nanos), strategy: 0, parameters };
        MadeChange { change, hold, by: String::new(), why: String::new() }
    }

    fn basis(until: u64, known: u64) -> Basis {
        Basis { until: at(until), known }
    }

    #[test]
    fn changes_hold_in_the_order_of_their_times_and_those_of_one_time_as_they_were_made() {
        let control =
            Control::new(vec![made(30, 1.0, 1), made(10, 2.0, 2), made(30, 3.0, 3)], 3, None);
        let widths: Vec<f64> =
            control.changes().iter().map(|change| change.parameters[0].1).collect();
        assert_eq!(widths, [2.0, 1.0, 3.0]);
        let count = |nanos| control.count_at(at(nanos));
        assert_eq!((count(9), count(10), count(29), count(30)), (0, 1, 1, 3));
        assert_eq!(control.due(1, at(30)), control.changes()[1..].to_vec());
        assert_eq!(control.due(1, at(29)), []);
        assert_eq!(control.first(2), control.changes()[..2].to_vec());
    }

    #[test]
    fn rows_wait_exactly_from_the_time_of_the_hold_on() {
        let control = Control::default().with_hold(Some(Hold { at: at(5), number: 1 }));
        assert!(control.is_held(at(5)) && !control.is_held(at(4)));
        assert_eq!((control.next_after(at(4)), control.next_after(at(5))), (Some(at(5)), None));
        let released = control.with_hold(None);
        assert!(!released.is_held(at(5)));
        assert_eq!(released.known(), 1, "there was one");
        let control = Control::new(vec![made(7, 1.0, 1)], 1, None);
        assert_eq!((control.next_after(at(5)), control.next_after(at(7))), (Some(at(7)), None));
    }

    #[test]
    fn who_went_beyond_a_change_without_knowing_its_hold_does_not_stand() {
        let control = Control::new(vec![made(30, 1.0, 7), made(10, 1.0, 9)], 9, None);
        assert!(control.stands(basis(9, 0)), "exactly before it");
        assert!(!control.stands(basis(10, 8)) && control.stands(basis(10, 9)));
        assert!(!control.stands(basis(30, 7)), "it did not know the one before");
    }

    #[test]
    fn who_went_beyond_a_hold_learns_of_it_only_once_it_has_ended_without_a_change() {
        let hold = Some(Hold { at: at(10), number: 4 });
        let held = Control::default().with_hold(hold);
        let (mut before, mut beyond) = (basis(9, 0), basis(10, 0));
        assert!(before.learn(&held) && beyond.learn(&held));
        assert_eq!((before.known, beyond.known), (4, 0));
        let mut spared = beyond;
        assert!(spared.learn(&held.with_hold(None)));
        assert_eq!(spared.known, 4);
        let changed = Control::new(vec![made(10, 1.0, 4)], 4, None);
        assert!(before.learn(&changed) && !beyond.learn(&changed));
    }

    #[test]
    fn who_goes_on_from_what_another_made_knows_no_more_than_before() {
        let held = Control::default().with_hold(Some(Hold { at: at(10), number: 4 }));
        let mut mine = basis(9, 4).taken_over(&Control::default());
        mine.advance(at(10));
        assert_eq!(mine, basis(10, 0), "it has not heard of the hold that the other knew");
        assert_eq!(basis(9, 2).taken_over(&held), basis(9, 2));
    }

    /// What happens to a list, and to one who derives rows by what it has learnt of it.
    #[derive(Clone, Debug)]
    enum Step {
        Hold(u64),
        Change(u64),
        Release,
        /// One row further, unless it waits.
        Row,
        Learn,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0u64..40).prop_map(Step::Hold),
            (0u64..5).prop_map(Step::Change),
            Just(Step::Release),
            Just(Step::Row),
            Just(Step::Row),
            Just(Step::Row),
            Just(Step::Learn),
        ]
    }

    proptest! {
        /// Invariants 1 to 3. Changes are made whether or not anybody has gone beyond them: whoever has
        /// derived a row by another number of changes than it has in the end does not stand.
        #[test]
        fn what_stands_was_derived_by_the_changes_there_are(
            steps in proptest::collection::vec(step(), 1..120),
        ) {
            let (mut list, mut hold, mut number) = (Vec::new(), None::<Hold>, 0);
            let (mut known, mut mine) = (Control::default(), Basis::default());
            // How many changes each of the rows at 1, 2, ... was derived by.
            let mut rows: Vec<usize> = Vec::new();
            let mut fell = None;
            for step in steps {
                match step {
                    Step::Hold(nanos) if hold.is_none() => {
                        number += 1;
                        hold = Some(Hold { at: at(nanos), number });
                    }
                    Step::Change(later) => if let Some(hold) = hold {
                        list.push(made(hold.at.as_nanos() + later, 1.0, hold.number));
                    },
                    Step::Release => hold = None,
                    Step::Row => {
                        let next = at(rows.len() as u64 + 1);
                        if !known.is_held(next) {
                            rows.push(known.count_at(next));
                            mine.advance(next);
                        }
                    }
                    Step::Learn => {
                        known = Control::new(list.clone(), number, hold);
                        let stands = mine.learn(&known);
                        prop_assert!(!stands || fell.is_none(), "it had fallen");
                        fell = fell.or((!stands).then_some(mine));
                    }
                    Step::Hold(_) => {}
                }
            }
            let all = Control::new(list, number, hold);
            let is_right = rows.iter().zip(1..).all(|(&count, row)| count == all.count_at(at(row)));
            prop_assert!(is_right || !all.stands(mine), "{:?} {:?}", rows, all);
            // And one whose rows are all before the first change stands.
            if all.changes().first().is_none_or(|first| first.at > mine.until) {
                prop_assert!(all.stands(mine));
            }
        }
    }
}
