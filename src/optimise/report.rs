//! What a search found, in numbers: the contract behind `tickwright optimize --report FILE`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::overfitting::{CONFIDENCE, Chosen, variance};
use super::{Metrics, Trial};
use crate::backtest::report::EquityReport;

/// Most reasons to doubt that are told.
const DOUBTS_MAX: usize = 4;

/// What a search found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OptimiseReport {
    /// The program's version.
    pub version: String,
    /// The strategy's name in the configuration.
    pub name: String,
    /// Its kind.
    pub strategy: String,
    /// How it was searched.
    pub search: String,
    /// BLAKE3 over the clean rows, in hexadecimal.
    pub data_hash: String,
    /// Clean rows, window steps among them.
    pub rows: u64,
    /// Of them, those that parameters were chosen on: the first ones.
    pub rows_in_sample: u64,
    /// Trials that count.
    pub trials: u64,
    /// Of them, those of earlier runs of the same search.
    pub trials_resumed: u64,
    /// Of them, those that failed.
    pub trials_failed: u64,
    /// Why it ended.
    pub stopped: String,
    /// Threads that evaluated, on each node.
    pub workers: u32,
    /// Of the trials that count and came to something, how many each node ran.
    pub nodes: BTreeMap<String, u64>,
    /// How often each node said what did not come out again; nothing that it ran counts.
    pub flagged: BTreeMap<String, u64>,
    /// Alerts that were raised meanwhile on the node that says this, or were over, as people read them.
    pub alerts: Vec<String>,
    /// Wall time of this run's trials.
    pub seconds: f64,
    /// Trials of this run for each second of it.
    pub trials_per_second: f64,
    /// The best of an earlier search of the same data, if there was one: where this one began.
    pub adopted: Option<Judged>,
    /// The parameters of the configuration.
    pub configured: Option<Judged>,
    /// The best, best in-sample score first.
    pub best: Vec<Judged>,
    /// Those that no other beats in profit rate, Sharpe ratio and drawdown at once.
    pub front: Vec<Judged>,
    /// Share of the scores' variance that each parameter explains by itself.
    pub importance: Vec<Importance>,
    /// Whether the best is told from the luckiest.
    pub overfitting: Overfitting,
    /// The best of the candidates chosen anew before each stretch, and what it came to there.
    pub walk_forward: Vec<FoldReport>,
    /// Every trial, in the order of their numbers.
    pub scores: Vec<TrialScore>,
    /// Equity of the best over all rows, by currency.
    pub equity: BTreeMap<String, EquityReport>,
    /// The first out-of-sample time, unix nanoseconds.
    pub out_of_sample_from_ns: Option<u64>,
    /// Rows that neither were chosen on nor judged on, if some were held back.
    pub held_back: Option<HeldBack>,
}

/// What the best comes to on rows that were held back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HeldBack {
    /// Which: from the first to before the second.
    pub rows: (u64, u64),
    /// Event time of the first, unix nanoseconds.
    pub from_ns: Option<u64>,
    /// What was chosen: the best of those that do no worse than the configuration where they were judged.
    pub parameters: Vec<(String, f64)>,
    /// What that came to.
    pub chosen: Outcome,
    /// What the parameters of the configuration came to.
    pub configured: Outcome,
}

/// Parameters, and what they came to where they were chosen and afterwards.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// Names and values.
    pub parameters: Vec<(String, f64)>,
    /// Where they were chosen.
    pub in_sample: Outcome,
    /// On the rows after that; none where there are none.
    pub out_of_sample: Option<Outcome>,
}

/// A score and what it is made of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// From -1 to 1.
    pub score: f64,
    /// What was measured.
    pub metrics: Metrics,
    /// The digest of the orders and fills.
    pub digest: String,
}

impl From<&Trial> for Outcome {
    fn from(trial: &Trial) -> Self {
        Self { score: trial.score, metrics: trial.metrics, digest: trial.digest.clone() }
    }
}

/// What one parameter explains.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Importance {
    /// The parameter.
    pub name: String,
    /// Share of the variance, from 0 to 1.
    pub share: f64,
}

/// One stretch of a walk forward.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FoldReport {
    /// The rows chosen on.
    pub chosen_on: (u64, u64),
    /// The rows judged on.
    pub judged_on: (u64, u64),
    /// What was chosen, and what came of it.
    pub judged: Judged,
    /// What the parameters of the configuration came to on the rows judged on.
    pub configured: Option<Outcome>,
}

/// One trial of all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TrialScore {
    /// Its number.
    pub number: u64,
    /// The values, in the order of the first best's parameters.
    pub values: Vec<f64>,
    /// Its score.
    pub score: f64,
}

/// Whether the best is told from the luckiest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Overfitting {
    /// The deflated Sharpe ratio: the probability that the best has any skill; none where too few
    /// returns say.
    pub deflated_sharpe: Option<f64>,
    /// The Sharpe ratio of a return that the best of as many lucky ones would show.
    pub sharpe_of_luck: f64,
    /// Reasons to doubt the best; empty where there are none.
    pub doubts: Vec<String>,
}

impl Overfitting {
    /// What speaks against the first of `best`, of these `trials`.
    pub fn of(best: Option<&Judged>, configured: Option<&Judged>, trials: &[Trial]) -> Self {
        let Some(best) = best else { return Self::default() };
        let metrics = &best.in_sample.metrics;
        let traded = trials.iter().filter(|trial| trial.metrics.trades > 0);
        let sharpes: Vec<f64> = traded.map(|trial| trial.metrics.sharpe_per_return).collect();
        let chosen = Chosen {
            sharpe: metrics.sharpe_per_return,
            returns: metrics.returns,
            skewness: metrics.skewness,
            kurtosis: metrics.kurtosis,
            trials: sharpes.len() as u64,
            variance: variance(&sharpes),
        };
        let deflated_sharpe = chosen.deflated();
        let mut doubts = Vec::new();
        match deflated_sharpe {
            Some(probability) if probability < CONFIDENCE => doubts.push(format!(
                "the best of {} lucky ones would do as well: deflated Sharpe ratio {probability:.3}, \
                 below {CONFIDENCE}",
                sharpes.len()
            )),
            Some(_) => {}
            None => doubts.push("too few returns to tell skill from luck".to_owned()),
        }
        match &best.out_of_sample {
            None => doubts.push("there are no rows that it was not chosen on".to_owned()),
            Some(after) => {
                if after.metrics.profit_rate <= 0.0 && metrics.profit_rate > 0.0 {
                    doubts.push("it earns where it was chosen and not afterwards".to_owned());
                } else if after.score < best.in_sample.score / 2.0 {
                    doubts
                        .push("its score is less than half of what it was, afterwards".to_owned());
                }
                let before = configured.and_then(|judged| judged.out_of_sample.as_ref());
                if before.is_some_and(|before| before.score >= after.score) {
                    doubts.push(
                        "the parameters of the configuration do as well afterwards".to_owned(),
                    );
                }
            }
        }
        doubts.truncate(DOUBTS_MAX);
        Self { deflated_sharpe, sharpe_of_luck: chosen.expected_of_luck(), doubts }
    }
}

impl OptimiseReport {
    /// The report as indented JSON with a newline at the end.
    ///
    /// # Panics
    ///
    /// Never: every map has text for keys.
    pub fn to_json(&self) -> String {
        let mut json = serde_json::to_string_pretty(self).expect("every key is text");
        json.push('\n');
        json
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimise::trial::tests::trial;

    fn judged(before: [f64; 3], after: Option<[f64; 3]>) -> Judged {
        let outcome = |rates| {
            let mut trial = trial("a", 0, 1.0, rates);
            trial.metrics.sharpe_per_return = rates[1] / 20.0;
            trial.metrics.returns = 2_000;
            trial.metrics.kurtosis = 3.0;
            Outcome::from(&trial)
        };
        Judged { parameters: vec![], in_sample: outcome(before), out_of_sample: after.map(outcome) }
    }

    fn trials(spread: f64) -> Vec<Trial> {
        let one = |at: u64| {
            let mut trial = trial("a", at, at as f64, [0.1, 1.0, 0.1]);
            trial.metrics.sharpe_per_return = spread * (at as f64 / 50.0 - 1.0);
            trial
        };
        (0..100).map(one).collect()
    }

    #[test]
    fn a_best_that_holds_up_is_not_doubted() {
        let best = judged([0.2, 4.0, 0.05], Some([0.2, 4.0, 0.05]));
        let found = Overfitting::of(Some(&best), None, &trials(0.01));
        assert!(found.doubts.is_empty(), "{found:?}");
        assert!(found.deflated_sharpe.is_some_and(|it| it > 0.99), "{found:?}");
    }

    #[test]
    fn luck_and_what_does_not_last_are_named() {
        let best = judged([0.2, 1.0, 0.05], Some([-0.1, -1.0, 0.3]));
        let configured = judged([0.0, 0.0, 0.1], Some([0.1, 1.0, 0.1]));
        let found = Overfitting::of(Some(&best), Some(&configured), &trials(0.5));
        let said = found.doubts.join("; ");
        for word in ["lucky", "not afterwards", "configuration"] {
            assert!(said.contains(word), "{said}");
        }
        let found = Overfitting::of(Some(&judged([0.2, 4.0, 0.05], None)), None, &trials(0.01));
        assert!(found.doubts.join("").contains("no rows"), "{found:?}");
        assert_eq!(Overfitting::of(None, None, &[]), Overfitting::default());
    }
}
