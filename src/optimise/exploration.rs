//! An exploration: which trials are out, which have come back, and when it is enough.
//!
//! ```text
//! lease(slots) ─▶ number, point ──▶ whoever evaluates ──▶ on_finished(number, score)
//!    ▲                                │                            ▲
//!    └── given out again, first ◀── on_lost(number)                │
//!                                  what other nodes ran ── restore(number, point, score)
//! ```
//!
//! There is one number for each trial that there may be, from 0. Each falls into one of [`SLOTS`] slots, and
//! nodes that search together each take numbers of their own slots ([`slots_of`]). Whoever has none left
//! takes the last of others': at worst a trial is run twice, and counts once.
//!
//! # Invariants
//!
//! 1. A number stands for one point, whoever evaluates it here and however often.
//! 2. A number counts once: what comes a second time is dropped.
//! 3. What was lost is given out again before anything new.
//! 4. No more are given out than may be explored.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Point, Search};
use crate::cluster::ranked;
use crate::domain::NodeId;

/// Slots that numbers fall into.
pub const SLOTS: u64 = 64;

/// The slots of `own` among the nodes that are there; all, if it is the only one. Each node has as many as
/// any other, but for one, and few change hands when a node comes or goes.
pub fn slots_of<'n>(own: &'n NodeId, nodes: impl IntoIterator<Item = &'n NodeId>) -> BTreeSet<u64> {
    let nodes: BTreeSet<&NodeId> = nodes.into_iter().chain([own]).collect();
    let most = SLOTS.div_ceil(nodes.len() as u64);
    let mut counts: BTreeMap<&NodeId, u64> = BTreeMap::new();
    let mut slots = BTreeSet::new();
    for slot in 0..SLOTS {
        let by_rank = ranked(slot, nodes.iter().map(|&node| (node, 1.0)));
        let free = by_rank.into_iter().find(|node| counts.get(node).is_none_or(|had| *had < most));
        let Some(node) = free else { continue };
        *counts.entry(node).or_default() += 1;
        if node == own {
            slots.insert(slot);
        }
    }
    slots
}

/// When it is enough.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Trials at most.
    pub trials_max: u64,
    /// Trials in a row without a better one, after which nothing more is expected; 0 goes on.
    pub patience: u64,
    /// How much better a score must be to be better.
    pub gain_min: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { trials_max: 200, patience: 100, gain_min: 1e-6 }
    }
}

/// Why nothing more is given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopReason {
    /// As many trials as there may be.
    Budget,
    /// No better one for a long time.
    Converged,
    /// Every point was tried.
    Exhausted,
    /// Whoever runs it said so: the time is up.
    Time,
}

impl StopReason {
    /// In a word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Budget => "budget",
            Self::Converged => "converged",
            Self::Exhausted => "exhausted",
            Self::Time => "time",
        }
    }
}

/// A trial to run.
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    /// Its number, from 0.
    pub number: u64,
    /// What to try.
    pub point: Point,
}

/// The state of an exploration. Memory grows with trials.
#[derive(Clone, Debug)]
pub struct Exploration {
    search: Search,
    limits: Limits,
    /// Numbers there are.
    numbers: u64,
    /// In each slot, where the next number to give out may be.
    next: Vec<u64>,
    /// Given out and not back.
    leased: BTreeMap<u64, Point>,
    /// To be given out again.
    lost: BTreeMap<u64, Point>,
    finished: BTreeSet<u64>,
    best: Option<f64>,
    /// Trials since the last better one.
    idle: u64,
    stopped: Option<StopReason>,
}

impl Exploration {
    /// One that has tried nothing.
    pub fn new(search: Search, limits: Limits) -> Self {
        let numbers = search.numbers().map_or(limits.trials_max, |all| all.min(limits.trials_max));
        Self {
            search,
            limits,
            numbers,
            next: (0..SLOTS).collect(),
            leased: BTreeMap::new(),
            lost: BTreeMap::new(),
            finished: BTreeSet::new(),
            best: None,
            idle: 0,
            stopped: None,
        }
    }

    /// Takes in a trial of an earlier life, or of another node; returns whether it counts.
    pub fn restore(&mut self, number: u64, point: &[f64], score: f64) -> bool {
        if number >= self.numbers
            || self.finished.contains(&number)
            || !self.search.space().contains(point)
        {
            return false;
        }
        // Whoever evaluates it here as well comes too late.
        self.lost.remove(&number);
        self.finish(number, point, score);
        true
    }

    /// Takes in what somebody else found: what is found here must be better to be better. It counts as no
    /// trial, and is not tried again, but by a grid.
    pub fn adopt(&mut self, point: &[f64], score: f64) {
        self.search.tell(point, score);
        self.best = Some(self.best.map_or(score, |best| best.max(score)));
    }

    /// What was said of a number is not so: it is to be tried again.
    pub fn forget(&mut self, number: u64, point: &[f64]) {
        if !self.finished.remove(&number) {
            return;
        }
        self.search.forget(point);
        self.best = self.search.best();
        // That nothing was better than a lie, or than what was tried beside one, says nothing.
        self.idle = 0;
        let next = &mut self.next[slot(number)];
        *next = (*next).min(number);
        // Only what whoever runs it has said stands, whatever was tried.
        if self.stopped != Some(StopReason::Time) {
            self.stopped = None;
        }
    }

    /// The next trial to run, of these slots, or else of others, but none of those `taken` by other nodes;
    /// none for now when all there may be are out, and for ever once it has
    /// [stopped](Exploration::stopped).
    pub fn lease(&mut self, slots: &BTreeSet<u64>, taken: &BTreeSet<u64>) -> Option<Lease> {
        if self.stopped.is_some() {
            return None;
        }
        if let Some((number, point)) = self.lost.pop_first() {
            self.leased.insert(number, point.clone());
            return Some(Lease { number, point });
        }
        let number = self.number(slots, taken)?;
        let Some(point) = self.search.ask(number) else {
            if self.leased.is_empty() {
                self.stopped = Some(StopReason::Exhausted);
            }
            return None;
        };
        self.leased.insert(number, point.clone());
        Some(Lease { number, point })
    }

    /// The first number of these slots that is not out or back, or else the last of any.
    fn number(&mut self, slots: &BTreeSet<u64>, taken: &BTreeSet<u64>) -> Option<u64> {
        for &slot in slots {
            let next = &mut self.next[slot_place(slot)];
            while self.finished.contains(next) || self.leased.contains_key(next) {
                *next += SLOTS;
            }
        }
        let is_free = |number: &u64| {
            let is_known = self.finished.contains(number) || self.leased.contains_key(number);
            *number < self.numbers && !is_known && !taken.contains(number)
        };
        let own = slots.iter().map(|&slot| self.next[slot_place(slot)]).filter(is_free).min();
        own.or_else(|| (0..self.numbers).rev().find(is_free))
    }

    /// Takes in what a trial came to; returns whether it counts.
    pub fn on_finished(&mut self, number: u64, score: f64) -> bool {
        let Some(point) = self.leased.remove(&number).or_else(|| self.lost.remove(&number)) else {
            return false;
        };
        // Another node may have been first.
        if self.finished.contains(&number) {
            return false;
        }
        self.finish(number, &point, score);
        true
    }

    fn finish(&mut self, number: u64, point: &[f64], score: f64) {
        self.finished.insert(number);
        self.search.tell(point, score);
        if self.best.is_none_or(|best| score > best + self.limits.gain_min) {
            self.best = Some(score);
            self.idle = 0;
        } else {
            self.idle += 1;
        }
        let is_over = self.finished.len() as u64 >= self.numbers;
        let is_idle = self.limits.patience > 0 && self.idle >= self.limits.patience;
        if self.stopped.is_none() {
            self.stopped = match (is_over, is_idle) {
                (true, _) if self.numbers < self.limits.trials_max => Some(StopReason::Exhausted),
                (true, _) => Some(StopReason::Budget),
                (false, true) => Some(StopReason::Converged),
                (false, false) => None,
            };
        }
    }

    /// Whoever had a trial is gone.
    pub fn on_lost(&mut self, number: u64) {
        if let Some(point) = self.leased.remove(&number)
            && !self.finished.contains(&number)
        {
            self.lost.insert(number, point);
        }
    }

    /// Enough: nothing more is given out.
    pub fn stop(&mut self, reason: StopReason) {
        self.stopped = self.stopped.or(Some(reason));
    }

    /// Why nothing more is given out, once that is so.
    pub const fn stopped(&self) -> Option<StopReason> {
        self.stopped
    }

    /// Numbers that are out.
    pub fn leased(&self) -> impl Iterator<Item = u64> {
        self.leased.keys().copied()
    }

    /// Trials that have come back.
    pub fn finished(&self) -> u64 {
        self.finished.len() as u64
    }

    /// What is searched.
    pub const fn search(&self) -> &Search {
        &self.search
    }
}

fn slot(number: u64) -> usize {
    slot_place(number % SLOTS)
}

fn slot_place(slot: u64) -> usize {
    usize::try_from(slot).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::optimise::SearchKind;
    use crate::optimise::space::tests::space;

    fn exploration(limits: Limits) -> Exploration {
        let space = space(&[("a", "int 1..40"), ("b", "real 0..1")], &[]);
        Exploration::new(Search::new(space, SearchKind::Random, 4, limits.trials_max), limits)
    }

    fn all() -> BTreeSet<u64> {
        (0..SLOTS).collect()
    }

    fn none() -> BTreeSet<u64> {
        BTreeSet::new()
    }

    #[test]
    fn it_stops_when_the_budget_is_spent() {
        let mut it = exploration(Limits { trials_max: 3, patience: 0, gain_min: 0.0 });
        let leases: Vec<Lease> = std::iter::from_fn(|| it.lease(&all(), &none())).collect();
        assert_eq!((leases.len(), it.stopped()), (3, None));
        leases.iter().for_each(|lease| assert!(it.on_finished(lease.number, 0.5)));
        assert_eq!(it.stopped(), Some(StopReason::Budget));
    }

    #[test]
    fn it_stops_when_nothing_gets_better_for_long() {
        let mut it = exploration(Limits { trials_max: 100, patience: 4, gain_min: 0.1 });
        for score in [0.0, 0.5, 0.55, 0.51, 0.2] {
            let number = it.lease(&all(), &none()).unwrap().number;
            it.on_finished(number, score);
        }
        assert_eq!(it.stopped(), None);
        let number = it.lease(&all(), &none()).unwrap().number;
        it.on_finished(number, 0.59);
        assert_eq!((it.stopped(), it.lease(&all(), &none())), (Some(StopReason::Converged), None));
    }

    #[test]
    fn a_small_space_is_exhausted_and_time_ends_what_nothing_else_does() {
        let space = space(&[("a", "int 1..4")], &[]);
        let search = Search::new(space, SearchKind::Random, 1, 9);
        let mut it = Exploration::new(search, Limits { patience: 0, ..Limits::default() });
        while let Some(lease) = it.lease(&all(), &none()) {
            it.on_finished(lease.number, 0.0);
        }
        assert_eq!((it.stopped(), it.finished()), (Some(StopReason::Exhausted), 4));
        let mut it = exploration(Limits::default());
        it.stop(StopReason::Time);
        assert_eq!((it.lease(&all(), &none()), it.stopped()), (None, Some(StopReason::Time)));
    }

    #[test]
    fn nodes_take_their_own_numbers_first_and_then_the_last_of_others() {
        let names: Vec<NodeId> = ["a", "b", "c"].into_iter().map(NodeId::from).collect();
        let slots: Vec<BTreeSet<u64>> = names.iter().map(|own| slots_of(own, &names)).collect();
        let all: BTreeSet<u64> = slots.iter().flatten().copied().collect();
        assert_eq!((all, slots.iter().map(BTreeSet::len).sum()), (self::all(), 64));
        assert!(slots.iter().all(|slots| (20..=22).contains(&slots.len())), "{slots:?}");
        // When one goes, what the others have they keep.
        let left = slots_of(&names[0], &names[..2]);
        assert!(left.intersection(&slots[0]).count() >= 20, "{left:?} {:?}", slots[0]);
        let mut it = exploration(Limits { trials_max: 64, patience: 0, gain_min: 0.0 });
        let taken: Vec<u64> =
            std::iter::from_fn(|| it.lease(&slots[1], &none())).map(|it| it.number).collect();
        let (own, others) = taken.split_at(slots[1].len());
        assert_eq!(own, slots[1].iter().copied().collect::<Vec<u64>>());
        assert!(others.is_sorted_by(|a, b| a > b) && taken.len() == 64, "{taken:?}");
        let mut it = exploration(Limits { trials_max: 64, patience: 0, gain_min: 0.0 });
        let taken = (1..64).collect();
        assert_eq!(it.lease(&slots[1], &taken).map(|it| it.number), Some(0));
        assert_eq!(it.lease(&slots[1], &taken), None, "others are at it");
    }

    #[test]
    fn what_is_not_so_is_tried_again() {
        let mut it = exploration(Limits { trials_max: 2, patience: 0, gain_min: 0.0 });
        let first = it.lease(&all(), &none()).unwrap();
        assert!(it.restore(1, &[7.0, 0.5], 0.9));
        assert!(it.on_finished(first.number, 0.1));
        assert_eq!(it.stopped(), Some(StopReason::Budget));
        it.forget(1, &[7.0, 0.5]);
        assert_eq!((it.stopped(), it.search().best()), (None, Some(0.1)));
        assert_eq!(it.lease(&all(), &none()).unwrap().number, 1);
    }

    #[test]
    fn what_was_idle_beside_a_lie_does_not_end_the_search() {
        let mut it = exploration(Limits { trials_max: 100, patience: 3, gain_min: 0.0 });
        assert!(it.restore(99, &[7.0, 0.5], 0.9));
        for score in [0.1, 0.2, 0.3] {
            let number = it.lease(&all(), &none()).unwrap().number;
            it.on_finished(number, score);
        }
        assert_eq!(it.stopped(), Some(StopReason::Converged));
        it.forget(99, &[7.0, 0.5]);
        assert_eq!(it.stopped(), None);
        // As many as ever are tried without a better one before it is enough.
        for score in [0.3, 0.2] {
            let number = it.lease(&all(), &none()).unwrap().number;
            it.on_finished(number, score);
        }
        assert_eq!(it.stopped(), None);
        let number = it.lease(&all(), &none()).unwrap().number;
        it.on_finished(number, 0.1);
        assert_eq!(it.stopped(), Some(StopReason::Converged));
        // The time is up, whoever lied.
        let mut it = exploration(Limits::default());
        assert!(it.restore(99, &[7.0, 0.5], 0.9));
        it.stop(StopReason::Time);
        it.forget(99, &[7.0, 0.5]);
        assert_eq!(it.stopped(), Some(StopReason::Time));
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Lease,
        Finish(prop::sample::Index),
        Lose(prop::sample::Index),
        Restart,
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Lease),
            3 => any::<prop::sample::Index>().prop_map(Step::Finish),
            2 => any::<prop::sample::Index>().prop_map(Step::Lose),
            1 => Just(Step::Restart),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// All invariants, after any history of workers that vanish and processes that start anew.
        #[test]
        fn every_number_is_one_point_and_counts_once(
            steps in prop::collection::vec(any_step(), 1..120), trials_max in 1u64..30,
        ) {
            let limits = Limits { trials_max, patience: 0, gain_min: 0.0 };
            let mut it = exploration(limits);
            let mut points: BTreeMap<u64, Point> = BTreeMap::new();
            let mut given: Vec<Lease> = vec![];
            let mut journal: BTreeMap<u64, (Point, f64)> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Lease => {
                        if let Some(lease) = it.lease(&all(), &none()) {
                            let known = points.insert(lease.number, lease.point.clone());
                            prop_assert!(known.is_none_or(|point| point == lease.point));
                            prop_assert!(!journal.contains_key(&lease.number));
                            given.push(lease);
                        }
                    }
                    Step::Finish(at) if !given.is_empty() => {
                        let lease = at.get(&given).clone();
                        let score = lease.point[0];
                        let counts = it.on_finished(lease.number, score);
                        prop_assert!(!(counts && journal.contains_key(&lease.number)));
                        if counts {
                            journal.insert(lease.number, (lease.point, score));
                        }
                    }
                    Step::Lose(at) if !given.is_empty() => it.on_lost(at.get(&given).number),
                    Step::Finish(_) | Step::Lose(_) => {}
                    Step::Restart => {
                        it = exploration(limits);
                        for (number, (point, score)) in &journal {
                            prop_assert!(it.restore(*number, point, *score));
                            prop_assert!(!it.restore(*number, point, *score));
                        }
                        // What was out and did not come back is unknown to the new life.
                        points.retain(|number, _| journal.contains_key(number));
                        given.clear();
                    }
                }
                prop_assert_eq!(it.finished(), journal.len() as u64);
                prop_assert!(it.finished() + it.leased().count() as u64 <= trials_max);
            }
        }
    }
}
