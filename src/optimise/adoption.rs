//! Whether what was found is taken over by the strategy that runs, and whether it stays.
//!
//! ```text
//! found ─▶ validated ─┬─ no better ─▶ refused, with the reason
//!                     └─▶ Proposed ── by a person, or at once ─▶ Applying ─▶ Watched ─┬─▶ kept, and watched on
//!                                                                                     └─▶ taken back
//! ```
//!
//! Validated is what beats the parameters that are in force, where it was chosen and on the rows after that. It
//! is watched for as long as it is in force, one stretch of looks after the other: when its live score is below
//! that of the parameters of before by more than what may be lost, those are put back. Where that is not known,
//! what it earns itself in its first stretch stands for it. What was taken back is not proposed again. What
//! somebody else adopted who is gone is watched from what it said of it in the record of changes
//! ([`AdoptedRecord`]). What is found before the first stretch is judged waits for that, the last one of all, and
//! is then judged anew beside what is in force.
//!
//! # Invariants
//!
//! 1. At most one change is under way, and none before the one before it has been judged.
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
    /// Looks at a live run that make a stretch, after which it is judged.
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
    /// This was found while something else was not judged yet: it is to be judged beside what is in force by now,
    /// for [`Adoption::on_found`].
    Judge(Box<Trial>),
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
}

/// What was adopted and is in force.
#[derive(Clone, Debug, PartialEq)]
struct Watch {
    candidate: Box<Candidate>,
    /// The live score before, or else that of its own first stretch; none until that is over.
    reference: Option<f64>,
    /// Whether its first stretch is over.
    is_judged: bool,
    /// Live scores until one has no look in common with the one that was judged last.
    scores_left: usize,
}

/// The course of adoptions.
#[derive(Clone, Debug)]
pub struct Adoption {
    config: AdoptionConfig,
    state: State,
    watch: Option<Watch>,
    /// What was found last before that was judged.
    waiting: Option<Box<Trial>>,
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
            watch: None,
            waiting: None,
            live: None,
            history: VecDeque::new(),
            adopted: 0,
            taken_back: 0,
            proposed: 0,
        }
    }

    /// Something was found, and judged. It waits, if something else is not judged yet.
    pub fn on_found(&mut self, candidate: Candidate) -> Vec<AdoptionEffect> {
        let parameters = &candidate.trial.parameters;
        let is_known = self.is_known(parameters)
            || self.watched().is_some_and(|watched| is_same(watched, parameters));
        if self.config.mode == AdoptionMode::Off || is_known {
            return Vec::new();
        }
        let is_unjudged = self.watch.as_ref().is_some_and(|watch| !watch.is_judged);
        if is_unjudged || matches!(self.state, State::Applying { .. }) {
            self.waiting = Some(Box::new(candidate.trial));
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
        let end = match (outcome, is_back) {
            (Ok(()), None) => {
                self.adopted += 1;
                let reference = self.live.take();
                self.watch = Some(Watch { candidate, reference, is_judged: false, scores_left: 0 });
                return Vec::new();
            }
            (Ok(()), Some(why)) => {
                self.taken_back += 1;
                (self.live, self.watch) = (None, None);
                self.end(&candidate, false, why)
            }
            (Err(reason), None) => {
                self.end(&candidate, false, format!("it could not be applied: {reason}"))
            }
            // They are in force still, and it is tried again after another stretch that is as bad.
            (Err(reason), Some(why)) => {
                let why = format!("{why}; but they could not be put back: {reason}");
                self.end(&candidate, true, why)
            }
        };
        self.and_what_waits(end)
    }

    /// `end`, and what waited for it.
    fn and_what_waits(&mut self, end: AdoptionEffect) -> Vec<AdoptionEffect> {
        [end].into_iter().chain(self.waiting.take().map(AdoptionEffect::Judge)).collect()
    }

    /// Another adopted `parameters`, which are in force, and is not there any more: they are watched as it watched
    /// them, also if it was content with them by then. Nothing, if something is under way here.
    pub fn on_taken_over(&mut self, parameters: Vec<(String, f64)>, record: AdoptedRecord) {
        let AdoptedRecord { number, node, score, before, live: reference } = record;
        let is_known = self.is_known(&parameters);
        let is_busy = self.state != State::Idle || self.watch.is_some();
        if self.config.mode == AdoptionMode::Off || is_busy || is_known {
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
        self.watch = Some(Watch { candidate, reference, is_judged: false, scores_left: 0 });
    }

    /// Another adopted these, and took them back: they are not proposed again.
    pub fn on_known(&mut self, parameters: Vec<(String, f64)>, why: String) {
        if self.config.mode != AdoptionMode::Off && !self.is_known(&parameters) {
            self.keep(AdoptionEnd { parameters, score: 0.0, is_adopted: false, why });
        }
    }

    /// What was adopted is not in force any more: somebody else has changed it.
    pub fn on_changed(&mut self) -> Vec<AdoptionEffect> {
        if matches!(self.state, State::Applying { .. }) {
            return Vec::new();
        }
        let Some(watch) = self.watch.take() else { return Vec::new() };
        self.live = None;
        if watch.is_judged {
            return Vec::new();
        }
        let why = "somebody else has changed them before they were judged".to_owned();
        let end = self.end(&watch.candidate, true, why);
        self.and_what_waits(end)
    }

    /// The live score of the last looks, once there were enough since the last change.
    pub fn on_live_score(&mut self, score: f64) -> Vec<AdoptionEffect> {
        self.live = Some(score);
        let Some(watch) = &mut self.watch else { return Vec::new() };
        if matches!(self.state, State::Applying { .. }) {
            return Vec::new();
        }
        watch.scores_left = watch.scores_left.saturating_sub(1);
        if watch.scores_left > 0 {
            return Vec::new();
        }
        watch.scores_left = self.config.looks.max(1);
        let was_judged = std::mem::replace(&mut watch.is_judged, true);
        let candidate = watch.candidate.clone();
        let Some(before) = watch.reference else {
            watch.reference = Some(score);
            let why = format!(
                "live score {score:.4}, and none before: what follows is compared with that"
            );
            let end = self.end(&candidate, true, why);
            return self.and_what_waits(end);
        };
        if before - score <= self.config.decline_max {
            if was_judged {
                return Vec::new();
            }
            let why = format!("live score {score:.4}, before {before:.4}");
            let end = self.end(&candidate, true, why);
            return self.and_what_waits(end);
        }
        // It was judged beside what is being taken back.
        if let State::Proposed(proposed) = &self.state {
            self.waiting = Some(Box::new(proposed.trial.clone()));
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
        self.keep(end.clone());
        AdoptionEffect::Ended(end)
    }

    fn is_known(&self, parameters: &[(String, f64)]) -> bool {
        self.history.iter().any(|end| is_same(&end.parameters, parameters))
    }

    fn keep(&mut self, end: AdoptionEnd) {
        if self.history.len() == HISTORY_MAX {
            self.history.pop_front();
        }
        self.history.push_back(end);
    }

    /// Whether live looks are to be taken.
    pub fn is_watching(&self) -> bool {
        self.config.mode != AdoptionMode::Off
    }

    /// What waits for a person, if anything does.
    pub fn proposal(&self) -> Option<&Candidate> {
        match &self.state {
            State::Proposed(candidate) => Some(candidate),
            State::Idle | State::Applying { .. } => None,
        }
    }

    /// What was adopted and is in force, as far as is known here.
    pub fn watched(&self) -> Option<&[(String, f64)]> {
        self.watch.as_ref().map(|watch| watch.candidate.trial.parameters.as_slice())
    }

    /// In a word, what is under way.
    pub const fn stage(&self) -> &'static str {
        match (&self.state, &self.watch) {
            (State::Idle, None) => "idle",
            (State::Idle, Some(_)) => "watched",
            (State::Proposed(_), _) => "proposed",
            (State::Applying { .. }, _) => "applying",
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

/// Whether these are the same parameters, in any order.
fn is_same(some: &[(String, f64)], others: &[(String, f64)]) -> bool {
    let is_there = |(name, value): &(String, f64)| {
        others.iter().any(|(it, other)| it == name && other.to_bits() == value.to_bits())
    };
    some.len() == others.len() && some.iter().all(is_there)
}

#[cfg(test)]
mod tests;
