//! What was found, judged on rows it was not chosen on.
//!
//! The candidates are the best of the search, which saw nothing but the first stretch of the rows. So each
//! may be judged on all rows after it, and the best of them be chosen anew before each stretch of those on
//! what had been seen until then, without anything being known beforehand.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use tickwright_core::backtest::BacktestError;
use tickwright_core::config::Config;
use tickwright_core::domain::Timestamp;
use tickwright_core::optimise::adoption::Candidate;
use tickwright_core::optimise::importance::importance;
use tickwright_core::optimise::report::{
    FoldReport, HeldBack, Importance, Judged, OptimiseReport, Outcome, Overfitting, TrialScore,
};
use tickwright_core::optimise::walk_forward::folds;
use tickwright_core::optimise::{BestSet, Space, Study, Trial};

use super::OptimiseError;
use super::hub::SearchOutcome;
use super::journal::SearchJournal;
use crate::backtest::BacktestRunError;
use crate::kit::StoreError;

/// Everything that a report follows from, but for what was found.
#[derive(Debug)]
pub(super) struct Judging {
    pub config: Config,
    pub name: String,
    pub study: Arc<Study>,
    pub space: Space,
    pub in_sample: u64,
    /// Rows that are looked at: the first ones.
    pub rows: u64,
    pub workers: usize,
    pub adopted: Option<Trial>,
    pub journal: SearchJournal,
    /// Hash of the search, and of all searches of the same strategy, data and terms.
    pub hashes: ([u8; 32], [u8; 32]),
}

impl Judging {
    /// The report. It takes as long as some trials more.
    pub(super) fn report(&self, outcome: &SearchOutcome) -> Result<OptimiseReport, OptimiseError> {
        self.judge(outcome).map_err(|error| OptimiseError::Data(BacktestRunError::Backtest(error)))
    }

    /// The best of `trials`, best first, that does no worse than what is in force on the rows after, else the
    /// best; and what it comes to beside that. None, if there are no trials.
    pub(super) fn candidate(
        &self,
        trials: &[Trial],
        current: &[(String, f64)],
    ) -> Result<Option<Candidate>, BacktestError> {
        let Some(best) = trials.first() else { return Ok(None) };
        let is_searched = |(name, _): &&(String, f64)| {
            best.parameters.iter().any(|(searched, _)| searched == name)
        };
        let current: Vec<(String, f64)> = current.iter().filter(is_searched).cloned().collect();
        let before = self.study.trial(&current, 0..self.in_sample, 0)?;
        let before = self.judged(&before)?;
        let all: Vec<Judged> =
            trials.iter().map(|trial| self.judged(trial)).collect::<Result<_, _>>()?;
        let place = chosen(&all, &before).and_then(|chosen| {
            all.iter().position(|judged| judged.parameters == chosen.parameters)
        });
        let place = place.unwrap_or(0);
        Ok(Some(Candidate {
            trial: trials[place].clone(),
            after: all[place].out_of_sample.as_ref().map(|after| after.score),
            current_score: before.in_sample.score,
            current_after: before.out_of_sample.map(|after| after.score),
            current,
        }))
    }

    /// Writes the best down for later searches.
    pub(super) fn keep(&self, best: &BestSet) -> Result<(), StoreError> {
        self.journal.put_best(best)
    }

    fn judge(&self, outcome: &SearchOutcome) -> Result<OptimiseReport, BacktestError> {
        let SearchOutcome { stopped, trials, resumed, failed, best, flagged, alerts, seconds } =
            outcome;
        let mut by_node: BTreeMap<String, u64> = BTreeMap::new();
        for trial in trials {
            *by_node.entry(trial.node.clone()).or_default() += 1;
        }
        let rows = self.rows;
        // The set may hold trials of other rows, if so many were asked for in an earlier search.
        let is_ours = |trial: &&Trial| trial.rows == (0, self.in_sample);
        let candidates: Vec<&Trial> = best.top().iter().filter(is_ours).collect();
        let candidates = &candidates[..candidates.len().min(self.config.optimise.top_max)];
        let judged = candidates.iter().map(|trial| self.judged(trial));
        let judged: Vec<Judged> = judged.collect::<Result<_, _>>()?;
        let front = best.front().into_iter().filter(is_ours).map(|trial| self.judged(trial));
        let configured = self.study.trial(&self.configured(), 0..self.in_sample, 0)?;
        let configured = self.judged(&configured)?;
        let tried = trials.len() as u64 + failed;
        let now = tried.saturating_sub(*resumed);
        let units: Vec<Vec<f64>> = trials.iter().filter_map(|trial| self.units(trial)).collect();
        let scores: Vec<f64> = trials.iter().map(|trial| trial.score).collect();
        let shares = importance(&units, &scores).into_iter();
        let names = self.space.dimensions().iter().map(|dimension| dimension.name.clone());
        let importance = names.zip(shares).map(|(name, share)| Importance { name, share });
        Ok(OptimiseReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            name: self.name.clone(),
            strategy: self.study.strategy().to_owned(),
            search: self.config.optimise.search.to_string(),
            data_hash: blake3::Hash::from(*self.study.recorded.hash()).to_hex().to_string(),
            rows,
            rows_in_sample: self.in_sample,
            trials: tried,
            trials_resumed: *resumed,
            trials_failed: *failed,
            stopped: stopped.name().to_owned(),
            workers: u32::try_from(self.workers).unwrap_or(u32::MAX),
            nodes: by_node,
            flagged: flagged.clone(),
            alerts: alerts.clone(),
            seconds: *seconds,
            trials_per_second: if *seconds > 0.0 { now as f64 / seconds } else { 0.0 },
            adopted: self.adopted.as_ref().map(|trial| self.judged(trial)).transpose()?,
            overfitting: Overfitting::of(judged.first(), Some(&configured), trials),
            walk_forward: self.walk_forward(candidates)?,
            scores: trials.iter().map(score).collect(),
            equity: self.equity(candidates.first())?,
            held_back: self.held_back(chosen(&judged, &configured))?,
            out_of_sample_from_ns: self
                .study
                .recorded
                .time_of(self.in_sample)
                .map(Timestamp::as_nanos),
            best: judged,
            front: front.collect::<Result<_, _>>()?,
            importance: importance.collect(),
            configured: Some(configured),
        })
    }

    fn judged(&self, trial: &Trial) -> Result<Judged, BacktestError> {
        let rest = self.in_sample..self.rows;
        let after = match rest.is_empty() {
            true => None,
            false => Some(self.study.trial(&trial.parameters, rest, trial.number)?),
        };
        Ok(Judged {
            parameters: trial.parameters.clone(),
            in_sample: Outcome::from(trial),
            out_of_sample: after.as_ref().map(Outcome::from),
        })
    }

    /// The parameters that are configured, of those that are searched.
    fn configured(&self) -> Vec<(String, f64)> {
        let strategy = self.study.config.strategies.first();
        let configured = strategy.map_or(&[][..], |strategy| &strategy.parameters);
        let is_searched = |name: &str| self.space.dimensions().iter().any(|it| it.name == name);
        configured.iter().filter(|(name, _)| is_searched(name)).cloned().collect()
    }

    fn units(&self, trial: &Trial) -> Option<Vec<f64>> {
        self.space.point(&trial.parameters).map(|point| self.space.units(&point))
    }

    fn walk_forward(&self, candidates: &[&Trial]) -> Result<Vec<FoldReport>, BacktestError> {
        let settings = &self.config.optimise;
        let rows = self.rows;
        let mut reports = Vec::new();
        for (at, fold) in folds(rows, settings.folds, settings.in_sample_percent).iter().enumerate()
        {
            let Range { start, end } = fold.chosen_on;
            let again = |trial: &&Trial| match at {
                // That is what the search has seen.
                0 => Ok((*trial).clone()),
                _ => self.study.trial(&trial.parameters, start..end, trial.number),
            };
            let chosen = candidates.iter().map(again).collect::<Result<Vec<Trial>, _>>()?;
            let Some(chosen) = chosen.into_iter().min_by(Trial::order) else { break };
            let of = |parameters: &[(String, f64)]| {
                self.study.trial(parameters, fold.judged_on.clone(), chosen.number)
            };
            reports.push(FoldReport {
                chosen_on: (start, end),
                judged_on: (fold.judged_on.start, fold.judged_on.end),
                configured: Some(Outcome::from(&of(&self.configured())?)),
                judged: Judged {
                    parameters: chosen.parameters.clone(),
                    in_sample: Outcome::from(&chosen),
                    out_of_sample: Some(Outcome::from(&of(&chosen.parameters)?)),
                },
            });
        }
        Ok(reports)
    }

    /// What the best came to on rows that nobody has looked at, and on all before them, beside the parameters
    /// of the configuration.
    fn held_back(&self, chosen: Option<&Judged>) -> Result<Option<HeldBack>, BacktestError> {
        let (first, rest) = (0..self.rows, self.rows..self.study.recorded.rows());
        let Some(chosen) = chosen.filter(|_| !rest.is_empty()) else { return Ok(None) };
        let of = |parameters: &[(String, f64)], rows: &Range<u64>| {
            self.study.trial(parameters, rows.clone(), 0).map(|it| Outcome::from(&it))
        };
        let (parameters, configured) = (chosen.parameters.clone(), self.configured());
        Ok(Some(HeldBack {
            rows: (rest.start, rest.end),
            from_ns: self.study.recorded.time_of(rest.start).map(Timestamp::as_nanos),
            chosen: of(&parameters, &rest)?,
            configured: of(&configured, &rest)?,
            chosen_before: of(&parameters, &first)?,
            configured_before: of(&configured, &first)?,
            parameters,
        }))
    }

    /// The curve of the best over all rows.
    fn equity(
        &self,
        best: Option<&&Trial>,
    ) -> Result<BTreeMap<String, tickwright_core::backtest::report::EquityReport>, BacktestError>
    {
        let Some(best) = best else { return Ok(BTreeMap::new()) };
        let mut study = (*self.study).clone();
        study.config.positions = self.config.positions();
        let run = study.run(&best.parameters, 0..study.recorded.rows())?;
        Ok(run.report(&study.accounts).equity)
    }
}

/// The first of `judged`, best first, that does no worse than `configured` where it was judged; else the best.
fn chosen<'j>(judged: &'j [Judged], configured: &Judged) -> Option<&'j Judged> {
    let after = |judged: &Judged| judged.out_of_sample.as_ref().map(|after| after.score);
    let least = after(configured);
    let is_no_worse = |judged: &&Judged| match (after(judged), least) {
        (Some(after), Some(least)) => after >= least,
        _ => true,
    };
    judged.iter().find(is_no_worse).or_else(|| judged.first())
}

fn score(trial: &Trial) -> TrialScore {
    let values = trial.parameters.iter().map(|(_, value)| *value).collect();
    TrialScore { number: trial.number, values, score: trial.score }
}
