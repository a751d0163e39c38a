//! An exploration: which trials are out, which have come back, and when it is enough.
//!
//! ```text
//! lease() ─▶ number, point ──▶ whoever evaluates ──▶ on_finished(number, score)
//!    ▲                                │
//!    └── given out again, first ◀── on_lost(number)
//! ```
//!
//! # Invariants
//!
//! 1. A number stands for one point, whoever evaluates it and however often.
//! 2. A number counts once: what comes a second time is dropped.
//! 3. What was lost is given out again before anything new.
//! 4. No more are given out than may be explored.

use std::collections::{BTreeMap, BTreeSet};

use super::{Point, Search};

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// The number that the next new trial gets.
    next: u64,
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
    pub const fn new(search: Search, limits: Limits) -> Self {
        Self {
            search,
            limits,
            next: 0,
            leased: BTreeMap::new(),
            lost: BTreeMap::new(),
            finished: BTreeSet::new(),
            best: None,
            idle: 0,
            stopped: None,
        }
    }

    /// Takes in a trial of an earlier life, in the order of the numbers; returns whether it counts.
    pub fn restore(&mut self, number: u64, point: &[f64], score: f64) -> bool {
        if self.finished.contains(&number) || !self.search.space().contains(point) {
            return false;
        }
        self.next = self.next.max(number + 1);
        self.finish(number, point, score);
        true
    }

    /// Takes in what somebody else found, before anything is given out: it is not tried again, and what
    /// is found here must be better to be better. It counts as no trial.
    pub fn adopt(&mut self, point: &[f64], score: f64) {
        self.search.tell(point, score);
        self.best = Some(self.best.map_or(score, |best| best.max(score)));
    }

    /// The next trial to run; none for now when all there may be are out, and for ever once it has
    /// [stopped](Exploration::stopped).
    pub fn lease(&mut self) -> Option<Lease> {
        if self.stopped.is_some() {
            return None;
        }
        if let Some((number, point)) = self.lost.pop_first() {
            self.leased.insert(number, point.clone());
            return Some(Lease { number, point });
        }
        let out = self.finished.len() as u64 + self.leased.len() as u64;
        if out >= self.limits.trials_max {
            return None;
        }
        let Some(point) = self.search.ask() else {
            if self.leased.is_empty() {
                self.stopped = Some(StopReason::Exhausted);
            }
            return None;
        };
        let number = self.next;
        self.next += 1;
        self.leased.insert(number, point.clone());
        Some(Lease { number, point })
    }

    /// Takes in what a trial came to; returns whether it counts.
    pub fn on_finished(&mut self, number: u64, score: f64) -> bool {
        let Some(point) = self.leased.remove(&number).or_else(|| self.lost.remove(&number)) else {
            return false;
        };
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
        let is_over = self.finished.len() as u64 >= self.limits.trials_max;
        let is_idle = self.limits.patience > 0 && self.idle >= self.limits.patience;
        if self.stopped.is_none() {
            self.stopped = match (is_over, is_idle) {
                (true, _) => Some(StopReason::Budget),
                (false, true) => Some(StopReason::Converged),
                (false, false) => None,
            };
        }
    }

    /// Whoever had a trial is gone.
    pub fn on_lost(&mut self, number: u64) {
        if let Some(point) = self.leased.remove(&number) {
            self.lost.insert(number, point);
        }
    }

    /// The time is up: nothing more is given out.
    pub fn on_time(&mut self) {
        self.stopped = self.stopped.or(Some(StopReason::Time));
    }

    /// Why nothing more is given out, once that is so.
    pub const fn stopped(&self) -> Option<StopReason> {
        self.stopped
    }

    /// Trials that are out.
    pub fn leased(&self) -> usize {
        self.leased.len()
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

    #[test]
    fn it_stops_when_the_budget_is_spent() {
        let mut it = exploration(Limits { trials_max: 3, patience: 0, gain_min: 0.0 });
        let leases: Vec<Lease> = std::iter::from_fn(|| it.lease()).collect();
        assert_eq!((leases.len(), it.stopped()), (3, None));
        leases.iter().for_each(|lease| assert!(it.on_finished(lease.number, 0.5)));
        assert_eq!(it.stopped(), Some(StopReason::Budget));
    }

    #[test]
    fn it_stops_when_nothing_gets_better_for_long() {
        let mut it = exploration(Limits { trials_max: 100, patience: 4, gain_min: 0.1 });
        for score in [0.0, 0.5, 0.55, 0.51, 0.2] {
            let number = it.lease().unwrap().number;
            it.on_finished(number, score);
        }
        assert_eq!(it.stopped(), None);
        let number = it.lease().unwrap().number;
        it.on_finished(number, 0.59);
        assert_eq!((it.stopped(), it.lease()), (Some(StopReason::Converged), None));
    }

    #[test]
    fn a_small_space_is_exhausted_and_time_ends_what_nothing_else_does() {
        let space = space(&[("a", "int 1..4")], &[]);
        let search = Search::new(space, SearchKind::Random, 1, 9);
        let mut it = Exploration::new(search, Limits { patience: 0, ..Limits::default() });
        while let Some(lease) = it.lease() {
            it.on_finished(lease.number, 0.0);
        }
        assert_eq!((it.stopped(), it.finished()), (Some(StopReason::Exhausted), 4));
        let mut it = exploration(Limits::default());
        it.on_time();
        assert_eq!((it.lease(), it.stopped()), (None, Some(StopReason::Time)));
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
                        if let Some(lease) = it.lease() {
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
                prop_assert!(it.finished() + it.leased() as u64 <= trials_max);
            }
        }
    }
}
