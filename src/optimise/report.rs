//! What a search found, in numbers: the contract behind `tickwright optimize --report FILE`.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::overfitting::{CONFIDENCE, Chosen, variance};
use super::{Metrics, Trial};
use crate::backtest::report::{
    EquityReport, OutOfSampleReport, ParameterChangeReport, ScoreReport, StretchReport, Verdict,
};

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
    /// What was chosen, on all rows before.
    #[serde(default)]
    pub chosen_before: Outcome,
    /// The parameters of the configuration, on the same.
    #[serde(default)]
    pub configured_before: Outcome,
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
    /// Whether what was found helped on the rows that were held back, for the report of the run that made
    /// `changes` beside the search; none where no rows were held back.
    pub fn out_of_sample(&self, changes: &[ParameterChangeReport]) -> Option<OutOfSampleReport> {
        let held = self.held_back.as_ref()?;
        let (adopted_from_ns, adopted_until_ns) = self.in_force(&held.parameters, changes);
        let score =
            |of: &Outcome| ScoreReport { score: of.score, profit_rate: of.metrics.profit_rate };
        let verdict = match held.chosen.score.partial_cmp(&held.configured.score) {
            Some(Ordering::Greater) => Verdict::Better,
            Some(Ordering::Less) => Verdict::Worse,
            Some(Ordering::Equal) | None => Verdict::AsGood,
        };
        Some(OutOfSampleReport {
            strategy: self.name.clone(),
            parameters: held.parameters.iter().cloned().collect(),
            is_adopted: adopted_from_ns.is_some(),
            adopted_from_ns,
            adopted_until_ns,
            held_back_from_ns: held.from_ns,
            found_on: StretchReport {
                rows: (0, held.rows.0),
                chosen: score(&held.chosen_before),
                configured: score(&held.configured_before),
            },
            held_back: StretchReport {
                rows: held.rows,
                chosen: score(&held.chosen),
                configured: score(&held.configured),
            },
            verdict,
        })
    }

    /// From when until when the strategy had all of `wanted`, bit for bit, by `changes`. A change may leave out
    /// what stays.
    fn in_force(
        &self,
        wanted: &[(String, f64)],
        changes: &[ParameterChangeReport],
    ) -> (Option<u64>, Option<u64>) {
        let configured = self.configured.iter().flat_map(|judged| &judged.parameters);
        let mut values: BTreeMap<&str, f64> =
            configured.map(|(name, value)| (name.as_str(), *value)).collect();
        let (mut from, mut until): (Option<u64>, Option<u64>) = (None, None);
        for change in changes.iter().filter(|change| change.strategy == self.name) {
            values.extend(change.parameters.iter().map(|(name, value)| (name.as_str(), *value)));
            let is_held = |(name, value): &(String, f64)| {
                values.get(name.as_str()).is_some_and(|held| held.to_bits() == value.to_bits())
            };
            match (from, wanted.iter().all(is_held)) {
                (None, true) => from = Some(change.from_ns),
                (Some(_), false) => until = until.or(Some(change.from_ns)),
                (None, false) | (Some(_), true) => {}
            }
        }
        (from, until)
    }

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

    /// Two parameters of which one was searched away from what is configured, and what that came to.
    fn searched(score: f64) -> OptimiseReport {
        let outcome = |score: f64| Outcome {
            score,
            metrics: Metrics { profit_rate: score / 2.0, ..Metrics::default() },
            ..Outcome::default()
        };
        let parameters = |fast: f64| vec![("fast".to_owned(), fast), ("slow".to_owned(), 26.0)];
        OptimiseReport {
            name: "crossing".into(),
            configured: Some(Judged { parameters: parameters(12.0), ..Judged::default() }),
            held_back: Some(HeldBack {
                rows: (50, 100),
                from_ns: Some(7),
                parameters: parameters(5.0),
                chosen: outcome(score),
                configured: outcome(0.125),
                chosen_before: outcome(0.5),
                configured_before: outcome(0.25),
            }),
            ..OptimiseReport::default()
        }
    }

    fn change(from_ns: u64, strategy: &str, fast: f64) -> ParameterChangeReport {
        ParameterChangeReport {
            from_ns,
            strategy: strategy.into(),
            parameters: [("fast".to_owned(), fast)].into(),
            ..ParameterChangeReport::default()
        }
    }

    #[test]
    fn what_was_adopted_is_told_with_both_halves_and_whether_it_helped() {
        let near = change(6, "crossing", 5.000_000_000_000_001);
        let told = searched(0.5).out_of_sample(&[near, change(7, "crossing", 5.0)]);
        let found_on = serde_json::json!({
            "rows": [0, 50],
            "chosen": { "score": 0.5, "profit_rate": 0.25 },
            "configured": { "score": 0.25, "profit_rate": 0.125 },
        });
        let held_back = serde_json::json!({
            "rows": [50, 100],
            "chosen": { "score": 0.5, "profit_rate": 0.25 },
            "configured": { "score": 0.125, "profit_rate": 0.0625 },
        });
        assert_eq!(
            serde_json::to_value(told).unwrap(),
            serde_json::json!({
                "strategy": "crossing",
                "parameters": { "fast": 5.0, "slow": 26.0 },
                "is_adopted": true,
                "adopted_from_ns": 7,
                "adopted_until_ns": null,
                "held_back_from_ns": 7,
                "found_on": found_on,
                "held_back": held_back,
                "verdict": "better",
            })
        );
    }

    #[test]
    fn what_was_not_adopted_did_harm_or_was_taken_back_is_told_so() {
        let others = [change(7, "reversion", 5.0), change(8, "crossing", 6.0)];
        let told = searched(-0.5).out_of_sample(&others).unwrap();
        assert_eq!((told.is_adopted, told.adopted_from_ns), (false, None));
        assert_eq!(told.verdict, Verdict::Worse);
        let back = [change(7, "crossing", 5.0), change(9, "crossing", 12.0)];
        let told = searched(0.125).out_of_sample(&back).unwrap();
        assert_eq!((told.adopted_from_ns, told.adopted_until_ns), (Some(7), Some(9)));
        assert_eq!(told.verdict, Verdict::AsGood);
        assert_eq!(OptimiseReport::default().out_of_sample(&back), None);
    }
}
