//! What is best anywhere: a set that every node joins with every other's.
//!
//! ```text
//! top       the k best trials by score                       ┐ each a join semilattice,
//! champions the best trial of each cell of the objectives    ┘ so is the pair
//! front     of the champions, those that no other beats in everything: a view
//! ```
//!
//! A bounded Pareto front is no semilattice by itself: what was cut off for want of room could belong to
//! it once what took its place has been beaten. So the space of profit rate, Sharpe ratio and drawdown is
//! cut into cells, and each keeps the trial with the best score in it, as in MAP-Elites (J.-B. Mouret and
//! J. Clune, 2015). The maximum by cell is a semilattice and bounded by the number of cells. The front
//! that is read from it is exact up to a cell: a trial of it is missing only where another of the same
//! cell scores higher.
//!
//! # Invariants
//!
//! 1. Join is associative, commutative and idempotent.
//! 2. What is in it is there once by id.
//! 3. It holds at most k + [`CELLS`] trials.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Trial;

/// Cells along each objective.
const STEPS: u8 = 8;
/// Cells there are.
pub const CELLS: usize = STEPS as usize * STEPS as usize * STEPS as usize;

/// The best trials of one (strategy, data hash).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BestSet {
    top_max: usize,
    /// Best first.
    top: Vec<Trial>,
    /// By cell.
    champions: BTreeMap<[u8; 3], Trial>,
}

impl BestSet {
    /// A set of nothing that will hold the `top_max` best.
    pub fn new(top_max: usize) -> Self {
        Self { top_max: top_max.max(1), top: Vec::new(), champions: BTreeMap::new() }
    }

    /// Takes in a trial; returns whether anything is better for it.
    pub fn add(&mut self, trial: &Trial) -> bool {
        // Of what is no number there is no best.
        if !trial.score.is_finite() || trial.metrics.objectives().iter().any(|it| !it.is_finite()) {
            return false;
        }
        let mut is_news = self.add_to_top(trial);
        let cell = cell(trial);
        let is_better = |champion: &Trial| trial.order(champion).is_lt();
        if self.champions.get(&cell).is_none_or(is_better) {
            self.champions.insert(cell, trial.clone());
            is_news = true;
        }
        is_news
    }

    fn add_to_top(&mut self, trial: &Trial) -> bool {
        // Of two that say they are the same, the first by order stays.
        let id = trial.id();
        if let Some(at) = self.top.iter().position(|other| other.id() == id) {
            if !trial.order(&self.top[at]).is_lt() {
                return false;
            }
            self.top.remove(at);
        }
        let at = self.top.partition_point(|other| other.order(trial).is_lt());
        if at >= self.top_max {
            return false;
        }
        self.top.insert(at, trial.clone());
        self.top.truncate(self.top_max);
        true
    }

    /// Takes in all that another set holds; returns whether anything is better for it.
    pub fn join(&mut self, other: &Self) -> bool {
        let mut is_news = false;
        for trial in other.trials() {
            is_news |= self.add(trial);
        }
        is_news
    }

    /// The best, best first.
    pub fn top(&self) -> &[Trial] {
        &self.top
    }

    /// The best of all.
    pub fn best(&self) -> Option<&Trial> {
        self.top.first()
    }

    /// Everything that it holds; some of it twice.
    pub fn trials(&self) -> impl Iterator<Item = &Trial> {
        self.top.iter().chain(self.champions.values())
    }

    /// The champions that no other beats in everything, best score first.
    pub fn front(&self) -> Vec<&Trial> {
        let beats = |a: &Trial, b: &Trial| {
            let (a, b) = (a.metrics.objectives(), b.metrics.objectives());
            a.iter().zip(&b).all(|(a, b)| a >= b) && a.iter().zip(&b).any(|(a, b)| a > b)
        };
        let champions = || self.champions.values();
        let mut front: Vec<&Trial> =
            champions().filter(|trial| !champions().any(|other| beats(other, trial))).collect();
        front.sort_by(|a, b| a.order(b));
        front
    }
}

/// The cell of a trial's objectives, each squashed to 0 … 1.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "from 0 to below the number of steps"
)]
fn cell(trial: &Trial) -> [u8; 3] {
    let [profit, sharpe, drawdown] = trial.metrics.objectives();
    let step = |value: f64, halfway: f64| {
        let squashed = 0.5 + 0.5 * value / (halfway + value.abs());
        ((squashed * f64::from(STEPS)) as u8).min(STEPS - 1)
    };
    // A drawdown is never above 0, so all steps are for what is below.
    let fall = (1.0 + drawdown / (0.05 + drawdown.abs())).clamp(0.0, 1.0) * f64::from(STEPS);
    [step(profit, 0.05), step(sharpe, 1.0), (fall as u8).min(STEPS - 1)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::optimise::trial::tests::trial;

    const TOP: usize = 3;

    fn set(trials: &[Trial]) -> BestSet {
        let mut set = BestSet::new(TOP);
        trials.iter().for_each(|trial| {
            set.add(trial);
        });
        set
    }

    fn joined(a: &BestSet, b: &BestSet) -> BestSet {
        let mut joined = a.clone();
        joined.join(b);
        joined
    }

    #[test]
    fn the_best_come_first_and_the_same_is_there_once() {
        let trials: Vec<Trial> =
            (0..6).map(|n| trial("a", n, n as f64, [n as f64 * 0.01, 1.0, 0.05])).collect();
        let mut set = set(&trials);
        let numbers = |set: &BestSet| set.top().iter().map(|it| it.number).collect::<Vec<_>>();
        assert_eq!(numbers(&set), [5, 4, 3]);
        assert!(!set.add(&trials[5]));
        assert_eq!(numbers(&set), [5, 4, 3]);
    }

    #[test]
    fn the_front_keeps_what_is_best_in_something() {
        let bold = trial("a", 0, 1.0, [0.5, 0.5, 0.6]);
        let careful = trial("a", 1, 2.0, [0.02, 2.0, 0.001]);
        let worse = trial("a", 2, 3.0, [0.01, 0.1, 0.7]);
        let set = set(&[bold.clone(), careful.clone(), worse]);
        let front: Vec<u64> = set.front().iter().map(|trial| trial.number).collect();
        assert_eq!(front.len(), 2);
        assert!(front.contains(&bold.number) && front.contains(&careful.number));
    }

    #[test]
    fn what_is_no_number_never_comes_in() {
        let mut set = BestSet::new(TOP);
        assert!(!set.add(&Trial { score: f64::NAN, ..trial("a", 0, 1.0, [0.1, 0.1, 0.1]) }));
        assert!(!set.add(&trial("a", 0, 1.0, [f64::INFINITY, 0.1, 0.1])));
        assert_eq!(set.best(), None);
    }

    /// Trials of few things, so that ids and scores meet; some claim other results for the same thing.
    fn any_trials() -> impl Strategy<Value = Vec<Trial>> {
        let rates = (0u8..5, 0u8..5, 0u8..5);
        let one = ("[ab]", 0u64..3, 0u8..8, rates).prop_map(|(node, number, parameter, rates)| {
            let (profit, sharpe, fall) = rates;
            let rates =
                [f64::from(profit) * 0.1 - 0.2, f64::from(sharpe) - 2.0, f64::from(fall) * 0.1];
            trial(&node, number, f64::from(parameter), rates)
        });
        prop::collection::vec(one, 0..14)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn join_is_associative(a in any_trials(), b in any_trials(), c in any_trials()) {
            let [a, b, c] = [a, b, c].map(|trials| set(&trials));
            prop_assert_eq!(joined(&joined(&a, &b), &c), joined(&a, &joined(&b, &c)));
        }

        #[test]
        fn join_is_commutative(a in any_trials(), b in any_trials()) {
            let [a, b] = [a, b].map(|trials| set(&trials));
            prop_assert_eq!(joined(&a, &b), joined(&b, &a));
        }

        #[test]
        fn join_is_idempotent_and_says_when_it_is_news(a in any_trials(), b in any_trials()) {
            let [mut a, b] = [a, b].map(|trials| set(&trials));
            let before = a.clone();
            prop_assert_eq!(a.join(&b), a != before);
            prop_assert!(!a.join(&b));
        }

        #[test]
        fn a_set_does_not_depend_on_the_order_in_which_trials_came(
            trials in any_trials(), seed in any::<u64>(),
        ) {
            let mut shuffled = trials.clone();
            let mut random = crate::optimise::Random::new(seed, 0);
            for at in (1..shuffled.len()).rev() {
                shuffled.swap(at, random.below(at + 1));
            }
            prop_assert_eq!(set(&trials), set(&shuffled));
        }

        #[test]
        fn it_holds_each_thing_once_and_no_more_than_it_may(trials in any_trials()) {
            let set = set(&trials);
            prop_assert!(set.top().len() <= TOP && set.champions.len() <= CELLS);
            let ids: std::collections::BTreeSet<_> = set.top().iter().map(Trial::id).collect();
            prop_assert_eq!(ids.len(), set.top().len());
            prop_assert!(set.top().is_sorted_by(|a, b| a.order(b).is_lt()));
        }
    }
}
