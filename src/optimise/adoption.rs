//! Whether what was found is taken over by the strategy that runs, and whether it stays.
//!
//! ```text
//! found ─▶ validated ─┬─ no better ─▶ refused, with the reason
//!                     └─▶ Proposed ── by a person, or at once ─▶ Applying ─▶ Watched ─┬─▶ kept
//!                                                                                     └─▶ taken back
//! ```
//!
//! Validated is what beats the parameters that are in force, where it was chosen and on the rows after that. It
//! is watched for as many looks as its predecessor was; when its live score is below that by more than what may
//! be lost, the parameters of before are put back. What was taken back is not proposed again. What somebody else
//! adopted who is gone is watched from what it said of it in the record of changes ([`AdoptedRecord`]).
//!
//! # Invariants
//!
//! 1. At most one change is under way.
//! 2. What is applied was validated, and confirmed where that is asked for.
//! 3. What is taken back goes to the parameters that were in force before.
//! 4. Every end of a proposal is kept with its reason.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::adopted::AdoptedRecord;
use super::{Metrics, Trial};

/// Ends of proposals that are kept.
const HISTORY_MAX: usize = 64;

/// Who decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AdoptionMode {
    /// Nobody: nothing is adopted.
    #[default]
    Off,
    /// A person confirms each.
    Confirm,
    /// What was validated is adopted at once.
    Auto,
}

/// What is asked of an adoption.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdoptionConfig {
    /// Who decides.
    pub mode: AdoptionMode,
    /// By how much a score must be better.
    pub gain_min: f64,
    /// By how much a live score may be worse than the one before.
    pub decline_max: f64,
    /// Looks at a live run before it is judged.
    pub looks: usize,
}

/// Parameters, and what they come to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// What was found.
    pub trial: Trial,
    /// Its score on the rows after; none where there are none.
    pub after: Option<f64>,
    /// Those in force.
    pub current: Vec<(String, f64)>,
    /// Their score where the other was chosen.
    pub current_score: f64,
    /// And on the rows after.
    pub current_after: Option<f64>,
}

/// How a proposal ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdoptionEnd {
    /// What was proposed.
    pub parameters: Vec<(String, f64)>,
    /// Its score.
    pub score: f64,
    /// Whether it was adopted.
    pub is_adopted: bool,
    /// Why it ended so.
    pub why: String,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum AdoptionEffect {
    /// A person is to confirm it.
    Ask(Box<Candidate>),
    /// The strategy that runs is to have these from now on: [`Adoption::on_applied`].
    Apply {
        /// Names and values.
        parameters: Vec<(String, f64)>,
        /// Why, for whoever reads the report.
        why: String,
    },
    /// Something ended.
    Ended(AdoptionEnd),
}

#[derive(Clone, Debug, PartialEq)]
enum State {
    Idle,
    Proposed(Box<Candidate>),
    Applying {
        candidate: Box<Candidate>,
        /// Whether it is being taken back.
        is_back: Option<String>,
    },
    Watched {
        candidate: Box<Candidate>,
        /// The live score before.
        before: Option<f64>,
    },
}

/// The course of adoptions.
#[derive(Clone, Debug)]
pub struct Adoption {
    config: AdoptionConfig,
    state: State,
    /// The last live score, for what comes next.
    live: Option<f64>,
    /// At most [`HISTORY_MAX`].
    history: VecDeque<AdoptionEnd>,
    adopted: u64,
    taken_back: u64,
    proposed: u64,
}

impl Adoption {
    /// One with nothing under way.
    pub const fn new(config: AdoptionConfig) -> Self {
        Self {
            config,
            state: State::Idle,
            live: None,
            history: VecDeque::new(),
            adopted: 0,
            taken_back: 0,
            proposed: 0,
        }
    }

    /// Something was found, and judged.
    pub fn on_found(&mut self, candidate: Candidate) -> Vec<AdoptionEffect> {
        let is_busy = matches!(self.state, State::Applying { .. } | State::Watched { .. });
        let parameters = &candidate.trial.parameters;
        let is_known = self.history.iter().any(|end| end.parameters == *parameters);
        if self.config.mode == AdoptionMode::Off || is_busy || is_known {
            return Vec::new();
        }
        self.proposed += 1;
        if let Err(why) = self.validate(&candidate) {
            return vec![self.end(&candidate, false, why)];
        }
        if self.config.mode == AdoptionMode::Confirm {
            self.state = State::Proposed(Box::new(candidate.clone()));
            return vec![AdoptionEffect::Ask(Box::new(candidate))];
        }
        vec![self.apply(candidate)]
    }

    fn validate(&self, candidate: &Candidate) -> Result<(), String> {
        let Candidate { trial, after, current, current_score, current_after } = candidate;
        let is_same = |(name, value): &(String, f64)| {
            current.iter().any(|(known, held)| known == name && held.to_bits() == value.to_bits())
        };
        if trial.parameters.iter().all(is_same) {
            return Err("they are in force already".into());
        }
        let least = current_score + self.config.gain_min;
        if trial.score <= least {
            return Err(format!(
                "score {:.4}: no better than that of those in force, {current_score:.4}",
                trial.score
            ));
        }
        match (after, current_after) {
            (Some(after), Some(current)) if after < current => Err(format!(
                "score {after:.4} on the rows after: worse than that of those in force, {current:.4}"
            )),
            _ => Ok(()),
        }
    }

    /// A person says yes; nothing, if nothing was proposed.
    pub fn on_confirmed(&mut self) -> Option<AdoptionEffect> {
        let candidate = self.proposal().cloned()?;
        Some(self.apply(candidate))
    }

    /// A person says no; nothing, if nothing was proposed.
    pub fn on_rejected(&mut self, by: &str) -> Option<AdoptionEffect> {
        let candidate = self.proposal().cloned()?;
        self.state = State::Idle;
        Some(self.end(&candidate, false, format!("{by} would not have it")))
    }

    fn apply(&mut self, candidate: Candidate) -> AdoptionEffect {
        let Trial { parameters, node, number, score, .. } = &candidate.trial;
        let searched = |(name, _): &&(String, f64)| parameters.iter().any(|(it, _)| it == name);
        let record = AdoptedRecord {
            number: *number,
            node: node.clone(),
            score: *score,
            before: candidate.current.iter().filter(searched).cloned().collect(),
            live: self.live,
        };
        let (parameters, why) = (parameters.clone(), record.to_string());
        self.state = State::Applying { candidate: Box::new(candidate), is_back: None };
        AdoptionEffect::Apply { parameters, why }
    }

    /// What was to be applied is, or could not be.
    pub fn on_applied(&mut self, outcome: Result<(), String>) -> Vec<AdoptionEffect> {
        let State::Applying { candidate, is_back } =
            std::mem::replace(&mut self.state, State::Idle)
        else {
            return Vec::new();
        };
        match (outcome, is_back) {
            (Ok(()), None) => {
                self.adopted += 1;
                let before = self.live.take();
                self.state = State::Watched { candidate, before };
                Vec::new()
            }
            (Ok(()), Some(why)) => {
                self.taken_back += 1;
                self.live = None;
                vec![self.end(&candidate, false, why)]
            }
            (Err(reason), None) => {
                vec![self.end(&candidate, false, format!("it could not be applied: {reason}"))]
            }
            (Err(reason), Some(why)) => {
                let why = format!("{why}; but they could not be put back: {reason}");
                vec![self.end(&candidate, true, why)]
            }
        }
    }

    /// Another adopted `parameters`, which are in force, and is not there any more: they are watched as it watched
    /// them, also if it was content with them by then. Nothing, if something is under way here, or it did not know
    /// what there was to compare with.
    pub fn on_taken_over(&mut self, parameters: Vec<(String, f64)>, record: AdoptedRecord) {
        let AdoptedRecord { number, node, score, before, live: Some(live) } = record else {
            return;
        };
        let is_known = self.history.iter().any(|end| end.parameters == parameters);
        if self.config.mode == AdoptionMode::Off || self.state != State::Idle || is_known {
            return;
        }
        // Of the trial nothing more is asked for than how it is told.
        let trial = Trial {
            strategy: String::new(),
            parameters,
            seed: 0,
            data: [0; 32],
            terms: [0; 32],
            rows: (0, 0),
            metrics: Metrics::default(),
            score,
            digest: String::new(),
            number,
            node,
        };
        let candidate = Box::new(Candidate {
            trial,
            after: None,
            current: before,
            current_score: 0.0,
            current_after: None,
        });
        self.proposed += 1;
        self.adopted += 1;
        self.live = None;
        self.state = State::Watched { candidate, before: Some(live) };
    }

    /// The live score of the last looks, once there were enough since the last change.
    pub fn on_live_score(&mut self, score: f64) -> Vec<AdoptionEffect> {
        self.live = Some(score);
        let State::Watched { candidate, before } = &self.state else { return Vec::new() };
        let (candidate, before) = (candidate.clone(), *before);
        let Some(before) = before else {
            self.state = State::Idle;
            let why = format!("live score {score:.4}, and none before to compare it with");
            return vec![self.end(&candidate, true, why)];
        };
        if before - score <= self.config.decline_max {
            self.state = State::Idle;
            let why = format!("live score {score:.4}, before {before:.4}");
            return vec![self.end(&candidate, true, why)];
        }
        let why = format!("taken back: live score {score:.4}, before {before:.4}");
        let searched = |(name, _): &&(String, f64)| {
            candidate.trial.parameters.iter().any(|(changed, _)| changed == name)
        };
        let parameters = candidate.current.iter().filter(searched).cloned().collect();
        self.state = State::Applying { candidate, is_back: Some(why.clone()) };
        vec![AdoptionEffect::Apply { parameters, why }]
    }

    fn end(&mut self, candidate: &Candidate, is_adopted: bool, why: String) -> AdoptionEffect {
        let Trial { parameters, score, .. } = &candidate.trial;
        let (parameters, score) = (parameters.clone(), *score);
        let end = AdoptionEnd { parameters, score, is_adopted, why };
        if self.history.len() == HISTORY_MAX {
            self.history.pop_front();
        }
        self.history.push_back(end.clone());
        AdoptionEffect::Ended(end)
    }

    /// Whether live looks are to be taken.
    pub fn is_watching(&self) -> bool {
        self.config.mode != AdoptionMode::Off
    }

    /// What waits for a person, if anything does.
    pub fn proposal(&self) -> Option<&Candidate> {
        match &self.state {
            State::Proposed(candidate) => Some(candidate),
            State::Idle | State::Applying { .. } | State::Watched { .. } => None,
        }
    }

    /// In a word, what is under way.
    pub const fn stage(&self) -> &'static str {
        match &self.state {
            State::Idle => "idle",
            State::Proposed(_) => "proposed",
            State::Applying { .. } => "applying",
            State::Watched { .. } => "watched",
        }
    }

    /// How proposals ended, the oldest first.
    pub fn history(&self) -> impl Iterator<Item = &AdoptionEnd> {
        self.history.iter()
    }

    /// Those that were proposed, adopted, and taken back again.
    pub const fn counts(&self) -> [u64; 3] {
        [self.proposed, self.adopted, self.taken_back]
    }

    /// How it is asked for.
    pub const fn config(&self) -> &AdoptionConfig {
        &self.config
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::optimise::trial::tests::trial;

    fn adoption(mode: AdoptionMode) -> Adoption {
        Adoption::new(AdoptionConfig { mode, gain_min: 0.01, decline_max: 0.1, looks: 3 })
    }

    fn candidate(parameter: f64, score: f64, after: f64) -> Candidate {
        let trial = Trial { score, ..trial("b", 17, parameter, [0.1, 1.0, 0.05]) };
        Candidate {
            trial,
            after: Some(after),
            current: vec![("fast".into(), 12.0), ("slow".into(), 26.0)],
            current_score: 0.2,
            current_after: Some(0.1),
        }
    }

    fn why(effects: &[AdoptionEffect]) -> &str {
        match effects {
            [AdoptionEffect::Ended(end)] => &end.why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_no_better_is_refused_with_the_reason_and_not_looked_at_again() {
        let mut it = adoption(AdoptionMode::Auto);
        assert!(why(&it.on_found(candidate(5.0, 0.205, 0.5))).contains("no better"));
        assert!(why(&it.on_found(candidate(6.0, 0.5, 0.05))).contains("worse"));
        assert!(why(&it.on_found(candidate(12.0, 0.5, 0.5))).contains("in force already"));
        assert!(it.on_found(candidate(5.0, 0.205, 0.5)).is_empty());
        assert_eq!(it.counts(), [3, 0, 0]);
        assert!(adoption(AdoptionMode::Off).on_found(candidate(5.0, 0.9, 0.9)).is_empty());
    }

    #[test]
    fn a_person_confirms_or_rejects() {
        let mut it = adoption(AdoptionMode::Confirm);
        let effects = it.on_found(candidate(5.0, 0.5, 0.5));
        assert!(matches!(effects[..], [AdoptionEffect::Ask(_)]), "{effects:?}");
        assert!(it.proposal().is_some());
        let applied = it.on_confirmed().unwrap();
        let AdoptionEffect::Apply { parameters, why } = applied else { panic!("{applied:?}") };
        assert_eq!(parameters, [("fast".to_owned(), 5.0)]);
        assert_eq!(why, "adopted: trial 17 of b, score 0.5000; instead of fast=12");
        assert_eq!(it.on_confirmed(), None, "once");
        assert!(it.on_applied(Ok(())).is_empty());
        assert_eq!((it.stage(), it.counts()), ("watched", [1, 1, 0]));
        let mut it = adoption(AdoptionMode::Confirm);
        it.on_found(candidate(5.0, 0.5, 0.5));
        assert!(matches!(it.on_rejected("alice"), Some(AdoptionEffect::Ended(_))));
        assert_eq!((it.stage(), it.on_rejected("alice")), ("idle", None));
    }

    #[test]
    fn what_does_worse_live_is_taken_back_to_what_was_in_force() {
        let mut it = adoption(AdoptionMode::Auto);
        it.on_live_score(0.3);
        it.on_found(candidate(5.0, 0.5, 0.5));
        it.on_applied(Ok(()));
        assert!(it.on_found(candidate(7.0, 0.9, 0.9)).is_empty(), "one at a time");
        let effects = it.on_live_score(0.1);
        let [AdoptionEffect::Apply { parameters, why }] = &effects[..] else {
            panic!("{effects:?}");
        };
        assert_eq!(parameters, &[("fast".to_owned(), 12.0)]);
        assert!(why.contains("taken back: live score 0.1000, before 0.3000"), "{why}");
        it.on_applied(Ok(()));
        assert_eq!((it.stage(), it.counts()), ("idle", [1, 1, 1]));
        assert!(it.on_found(candidate(5.0, 0.5, 0.5)).is_empty(), "not the same again");
    }

    #[test]
    fn what_another_adopted_is_watched_by_whoever_takes_over() {
        let mut first = adoption(AdoptionMode::Auto);
        first.on_live_score(0.3);
        let effects = first.on_found(candidate(5.0, 0.5, 0.5));
        let [AdoptionEffect::Apply { parameters, why }] = &effects[..] else {
            panic!("{effects:?}");
        };
        let record = AdoptedRecord::parse(why).unwrap();
        let mut it = adoption(AdoptionMode::Auto);
        it.on_taken_over(parameters.clone(), record.clone());
        assert_eq!((it.stage(), it.counts()), ("watched", [1, 1, 0]));
        assert!(it.on_found(candidate(5.0, 0.5, 0.5)).is_empty(), "it is in force");
        let effects = it.on_live_score(0.1);
        let [AdoptionEffect::Apply { parameters: back, .. }] = &effects[..] else {
            panic!("{effects:?}");
        };
        assert_eq!(back, &[("fast".to_owned(), 12.0)]);
        it.on_applied(Ok(()));
        assert_eq!((it.stage(), it.counts()), ("idle", [1, 1, 1]));
        it.on_taken_over(parameters.clone(), record.clone());
        assert_eq!(it.stage(), "idle", "once");
        // Without anything to compare with there is nothing to watch for, nor where nobody adopts.
        let mut it = adoption(AdoptionMode::Auto);
        it.on_taken_over(parameters.clone(), AdoptedRecord { live: None, ..record.clone() });
        assert_eq!(it.stage(), "idle");
        let mut it = adoption(AdoptionMode::Off);
        it.on_taken_over(parameters.clone(), record);
        assert_eq!(it.stage(), "idle");
    }

    #[test]
    fn what_does_as_well_stays() {
        let mut it = adoption(AdoptionMode::Auto);
        it.on_live_score(0.3);
        it.on_found(candidate(5.0, 0.5, 0.5));
        it.on_applied(Ok(()));
        assert!(why(&it.on_live_score(0.21)).contains("live score 0.2100, before 0.3000"));
        assert!(it.history().last().unwrap().is_adopted);
        // And what cannot be applied is said.
        it.on_found(candidate(6.0, 0.6, 0.5));
        let effects = it.on_applied(Err("the run is over".into()));
        assert!(why(&effects).contains("the run is over"));
    }

    proptest! {
        /// Invariants 1 to 4.
        #[test]
        fn one_change_at_a_time_and_each_of_them_has_an_end(
            steps in prop::collection::vec((0u8..5, 0.0..1.0f64, any::<bool>()), 1..80),
            is_auto in any::<bool>(),
        ) {
            let mode = if is_auto { AdoptionMode::Auto } else { AdoptionMode::Confirm };
            let mut it = adoption(mode);
            let mut in_force = 12.0;
            let mut wanted: Option<f64> = None;
            for (at, (step, score, is_well)) in steps.into_iter().enumerate() {
                let effects = match step {
                    0 | 1 => {
                        let mut found = candidate(20.0 + at as f64, score, score);
                        found.current[0].1 = in_force;
                        it.on_found(found)
                    }
                    2 => it.on_confirmed().into_iter().collect(),
                    3 => {
                        let outcome = if is_well { Ok(()) } else { Err("no".to_owned()) };
                        if let Some(value) = wanted.take().filter(|_| is_well) {
                            in_force = value;
                        }
                        it.on_applied(outcome)
                    }
                    _ => it.on_live_score(score),
                };
                for effect in effects {
                    if let AdoptionEffect::Apply { parameters, .. } = effect {
                        prop_assert!(wanted.is_none(), "two at once");
                        wanted = Some(parameters[0].1);
                    }
                }
                prop_assert_eq!(wanted.is_some(), it.stage() == "applying");
                let [proposed, adopted, taken_back] = it.counts();
                prop_assert!(taken_back <= adopted && adopted <= proposed);
            }
        }
    }
}
