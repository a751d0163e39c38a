//! Changes settings of a running pipeline when that measurably helps, one at a time.
//!
//! ```text
//! windows of metrics ──▶ AutoTuner ──▶ Set(settings)      measure ▸ change ▸ measure ▸ back ▸ measure ▸ keep?
//!                            └───────▶ Decided(decision)             ╰─────── once more ──────╯
//! ```
//!
//! A search along one setting at a time, in steps of a factor (a pattern search: R. Hooke and T. A. Jeeves,
//! "Direct Search Solution of Numerical and Statistical Problems", Journal of the ACM 8, 1961), with a
//! measurement where that has a comparison. Settings that hold each other back are also moved together.
//! A change is switched on and off again, and each short stretch with it is compared with those beside it, so that
//! a load that only drifts is not taken for its effect. It is kept when Student's test of these differences, of the
//! logarithms of the throughput, says that it helps ("The Probable Error of a Mean", Biometrika 6, 1908); what seems
//! to and may as well be noise is measured some times more. A round in which the load itself changed by more than the
//! change shows is thrown away and measured again.
//!
//! # Invariants
//!
//! 1. Settings stay within their bounds, and at most one change is being tried.
//! 2. What was tried and not kept is taken back, also when whoever decides changes in between.
//! 3. Nothing is tried of which the tail of the latency is expected beyond its bound, and what turns out so is
//!    taken back with the first window that shows it. A tail that is beyond its bound already has nothing to
//!    lose by a trial but what makes it longer still; what brings it down is kept for that alone.
//! 4. What did not help is tried again ever more rarely, until something else has.
//! 5. An operator's hand comes first: a setting that somebody else changed is the new beginning, and what is set in
//!    particular for the node that measures is left alone.
//! 6. A window counts for the settings under which its rows set out: those that leave now came as long ago as the
//!    tail of the latency says, and for that long after a change windows are left out.

mod figures;
mod moves;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

pub use figures::Figures;
use figures::{Round, chance_of, gain_of, longest, shortest};
use moves::{Move, Moves};

/// Decisions that are remembered for whoever asks.
const DECISIONS_MAX: usize = 256;

/// A change of the load between two stretches with the same settings that makes what lies between worthless, unless
/// that shows even more: of the logarithm of the throughput, beyond what their noise explains.
const DRIFT_MAX: f64 = 0.2;

/// Rounds of one trial in which the load may change: they do not count, and one more ends the trial.
const DISTURBED_MAX: usize = 6;

/// By how much longer a tail may become under trial that is beyond its bound already: room for its noise.
const LONGER_MAX: f64 = 1.5;

/// Windows that are left out at most for rows that were under way before a change.
const UNDER_WAY_MAX: f64 = 64.0;

/// Stretches after which one is taken for a beginning although the tail of the latency is not steady in it.
const UNSTEADY_MAX: u32 = 8;

/// What is left with each window of the longest tail seen.
const TAIL_FADES: f64 = 0.9;

/// Times that a change is measured, at least and at most.
const ROUNDS: (usize, usize) = (3, 24);

/// A setting that may be changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Knob {
    /// Its key in the configuration.
    pub name: String,
    /// The least that it may be; at least 1.
    pub min: i64,
    /// The most that it may be.
    pub max: i64,
    /// What it is.
    pub value: i64,
}

/// How settings are tuned.
#[derive(Clone, Debug, PartialEq)]
pub struct TunerConfig {
    /// Windows of one stretch with a change, or without it.
    pub windows: usize,
    /// Windows that are left out after each change, while it takes effect; besides those in which rows come out
    /// that were under way before.
    pub settling_windows: usize,
    /// How long a window is, microseconds.
    pub window_us: f64,
    /// The chance, at the most, with which noise alone would look like what was measured.
    pub chance_max: f64,
    /// The least gain in throughput that is worth a change, as a share.
    pub gain_min: f64,
    /// Bound of the 99th percentile of the latency in a window, microseconds.
    pub p99_max_us: f64,
    /// Windows before something that did not help is tried again; twice as many each time after.
    pub cool_down_windows: u64,
}

/// What was measured in one window.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Rows per second.
    pub throughput: f64,
    /// 99th percentile of the latency, microseconds; not a number, if nothing was timed.
    pub p99_us: f64,
}

/// What a trial came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It helps, and stays.
    Kept,
    /// It brings down a tail of the latency that was beyond its bound, and stays.
    Relieved,
    /// It does not help by as much as is worth it.
    NotBetter,
    /// It may help, and what was measured may as well be noise.
    Noise,
    /// The tail of the latency went beyond its bound, or further beyond.
    Latency,
    /// The load was another one after than before.
    LoadChanged,
    /// Somebody else changed a setting, took over, or nothing flowed.
    Interrupted,
}

impl Verdict {
    /// Whether what was tried is in force from now on.
    pub const fn stays(self) -> bool {
        matches!(self, Self::Kept | Self::Relieved)
    }
}

/// A trial, and why it ended as it did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Windows seen when it was made.
    pub window: u64,
    /// What was tried: setting, from, to.
    pub changed: Vec<(String, i64, i64)>,
    /// What was measured without it, before and after.
    pub without: Figures,
    /// With it.
    pub with: Figures,
    /// The chance with which noise alone would look as good.
    pub chance: Option<f64>,
    /// What came of it.
    pub verdict: Verdict,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// These settings have these values from now on. `is_trial`: they are taken back unless it is said
    /// otherwise, also by whoever decides next.
    Set {
        /// Setting and value.
        values: Vec<(String, i64)>,
        /// Whether it is not decided yet that they stay.
        is_trial: bool,
    },
    /// A trial is over.
    Decided(Decision),
}

/// What is being measured.
#[derive(Clone, Debug, PartialEq)]
enum Phase {
    /// The settings as they are.
    Before,
    /// A change.
    With(Trial),
    /// The settings as they were before it.
    After(Trial),
}

/// A change under trial.
#[derive(Clone, Debug, PartialEq)]
struct Trial {
    place: usize,
    /// By place of the knob: from, to.
    values: Vec<(usize, i64, i64)>,
    /// Rounds that count.
    rounds: Vec<Round>,
    /// Rounds that do not, for the load changed in them.
    disturbed: usize,
    /// The stretch without it before the round that is being measured.
    before: Vec<Window>,
    /// The one with it in that round.
    with: Vec<Window>,
    /// Beyond this tail of the latency it is taken back, microseconds.
    limit_us: f64,
}

impl Trial {
    /// With the change, and without it.
    fn figures(&self) -> (Figures, Figures) {
        let rounds = self.rounds.iter();
        let with = rounds.clone().map(|round| &round.with).chain([&self.with]);
        // What is after one round is before the next.
        let without = rounds.map(|round| &round.before).chain([&self.before]);
        (Figures::of_all(with), Figures::of_all(without))
    }
}

/// Decides which settings to try, and what to keep.
#[derive(Clone, Debug)]
pub struct AutoTuner {
    config: TunerConfig,
    knobs: Vec<Knob>,
    /// Places of knobs of which none may be larger than the one after it.
    together: Vec<Vec<usize>>,
    /// Places of knobs that are left alone.
    pinned: BTreeSet<usize>,
    moves: Moves,
    phase: Phase,
    /// Windows that are still left out.
    settling: usize,
    measured: Vec<Window>,
    /// Windows in a row in which nothing came.
    empty: usize,
    /// Stretches in a row with settings as they are in which the tail was not steady.
    unsteady: u32,
    /// The longest tail of the latency of late, microseconds: a long one fades within some tens of windows.
    tail_us: f64,
    is_active: bool,
    windows: u64,
    /// At most [`DECISIONS_MAX`].
    decisions: VecDeque<Decision>,
}

impl AutoTuner {
    /// One that watches `knobs` and changes nothing until it is told to. Those that are in one group of
    /// `together`, by their places, are also moved together, and none is made larger than the one after it.
    pub fn new(config: TunerConfig, knobs: Vec<Knob>, together: &[Vec<usize>]) -> Self {
        let moves = Moves::new(knobs.len(), together);
        let settling = config.settling_windows;
        Self {
            config,
            knobs,
            together: together.to_vec(),
            pinned: BTreeSet::new(),
            moves,
            phase: Phase::Before,
            settling,
            measured: Vec::new(),
            empty: 0,
            unsteady: 0,
            tail_us: 0.0,
            is_active: false,
            windows: 0,
            decisions: VecDeque::new(),
        }
    }

    /// The settings as they are, trials included.
    pub fn knobs(&self) -> &[Knob] {
        &self.knobs
    }

    /// Whether it decides, and does not only watch.
    pub const fn is_active(&self) -> bool {
        self.is_active
    }

    /// What was decided lately, oldest first.
    pub fn decisions(&self) -> impl Iterator<Item = &Decision> {
        self.decisions.iter()
    }

    /// What is being tried: setting, from, to.
    pub fn trial(&self) -> Option<Vec<(String, i64, i64)>> {
        match &self.phase {
            Phase::Before => None,
            Phase::With(trial) | Phase::After(trial) => Some(self.named(trial)),
        }
    }

    /// Decides from now on. `unfinished` is what another that decided was trying, setting and value before:
    /// it is taken back.
    pub fn activate(&mut self, unfinished: &[(String, i64)]) -> Vec<Effect> {
        if std::mem::replace(&mut self.is_active, true) {
            return Vec::new();
        }
        self.begin();
        self.take_back(unfinished)
    }

    /// Takes back what another that decided was trying, setting and value before; nothing is being tried here.
    pub fn take_back(&mut self, unfinished: &[(String, i64)]) -> Vec<Effect> {
        let mut values = Vec::new();
        for (name, value) in unfinished {
            let Some(knob) = self.knobs.iter_mut().find(|knob| knob.name == *name) else {
                continue;
            };
            knob.value = (*value).clamp(knob.min, knob.max);
            values.push((name.clone(), knob.value));
        }
        if values.is_empty() { Vec::new() } else { vec![Effect::Set { values, is_trial: false }] }
    }

    /// Only watches from now on; what is being tried is taken back.
    pub fn deactivate(&mut self) -> Vec<Effect> {
        if !std::mem::take(&mut self.is_active) {
            return Vec::new();
        }
        self.interrupt()
    }

    /// A setting was changed by somebody else.
    pub fn on_setting(&mut self, name: &str, value: i64) -> Vec<Effect> {
        let Some(place) = self.knobs.iter().position(|knob| knob.name == name) else {
            return Vec::new();
        };
        if self.knobs[place].value == value {
            return Vec::new();
        }
        // What is taken back leaves alone what somebody else has set.
        let effects = self.interrupt_but(Some(place));
        self.knobs[place].value = value;
        self.moves.begin_anew();
        effects
    }

    /// Leaves the settings in `names` alone from now on, and no others: what is decided here does not reach
    /// them. What is being tried with one of them is taken back.
    pub fn pin(&mut self, names: &BTreeSet<String>) -> Vec<Effect> {
        let of = |(place, knob): (usize, &Knob)| names.contains(&knob.name).then_some(place);
        let pinned: BTreeSet<usize> = self.knobs.iter().enumerate().filter_map(of).collect();
        if pinned == self.pinned {
            return Vec::new();
        }
        self.pinned = pinned;
        let is_tried = match &self.phase {
            Phase::Before => false,
            Phase::With(trial) | Phase::After(trial) => self.is_pinned(&trial.values),
        };
        if is_tried { self.interrupt() } else { Vec::new() }
    }

    fn is_pinned(&self, values: &[(usize, i64, i64)]) -> bool {
        values.iter().any(|(place, ..)| self.pinned.contains(place))
    }

    /// A window has passed.
    pub fn on_window(&mut self, window: Window) -> Vec<Effect> {
        self.windows += 1;
        let is_usable = window.throughput.is_finite() && window.throughput > 0.0;
        if !self.is_active {
            return Vec::new();
        }
        if !is_usable {
            return self.on_empty();
        }
        self.empty = 0;
        self.tail_us = (self.tail_us * TAIL_FADES).max(window.p99_us);
        if matches!(&self.phase, Phase::With(trial) if window.p99_us > trial.limit_us) {
            return self.end_early(window);
        }
        if self.settling > 0 {
            self.settling -= 1;
            return Vec::new();
        }
        self.measured.push(window);
        if self.measured.len() < self.config.windows.max(1) {
            return Vec::new();
        }
        let measured = std::mem::take(&mut self.measured);
        match std::mem::replace(&mut self.phase, Phase::Before) {
            Phase::Before => self.propose(measured),
            Phase::With(trial) => self.look_again(trial, measured),
            Phase::After(trial) => self.conclude(trial, measured),
        }
    }

    /// Nothing came in a window: the stretch begins anew, and the trial is over once that goes on.
    fn on_empty(&mut self) -> Vec<Effect> {
        self.empty += 1;
        self.measured.clear();
        let patience = self.config.windows + self.config.settling_windows;
        // There is nothing to measure, and nothing to gain.
        if self.empty > patience { self.interrupt() } else { Vec::new() }
    }

    /// Tries what seems worth it.
    fn propose(&mut self, without: Vec<Window>) -> Vec<Effect> {
        let bound = self.config.p99_max_us;
        // A queue that is filling, say: what it comes to is not to be laid at a trial's door.
        if self.unsteady < UNSTEADY_MAX && longest(&without) > shortest(&without) * LONGER_MAX {
            self.unsteady += 1;
            return Vec::new();
        }
        self.unsteady = 0;
        // Where no order was timed, what is known from before.
        let is_timed = without.iter().any(|window| window.p99_us.is_finite());
        let p99_us = if is_timed { Figures::of(&without).p99_us } else { self.tail_us };
        let is_beyond = p99_us > bound;
        let limit_us = if is_beyond { longest(&without).max(p99_us) * LONGER_MAX } else { bound };
        let chosen = self.moves.choose(self.windows, |place, one, factor| {
            let values = values_of(&self.knobs, one, factor);
            let &(_, from, to) = values.first()?;
            if !self.is_ordered(&values) || self.is_pinned(&values) {
                return None;
            }
            let expected = self.moves.expected_p99(place, p99_us, (from, to));
            // Beyond the bound what nothing is known of may as well bring the tail down.
            let is_safe = expected <= limit_us || is_beyond && !self.moves.is_tail_known(place);
            is_safe.then_some(values)
        });
        let Some((place, values)) = chosen else { return Vec::new() };
        let (rounds, before, with) = (Vec::new(), without, Vec::new());
        self.try_out(Trial { place, values, rounds, disturbed: 0, before, with, limit_us })
    }

    /// Whether no setting comes to be larger than what it is not to be larger than, or none by more than it is.
    fn is_ordered(&self, values: &[(usize, i64, i64)]) -> bool {
        let of = |place: usize| {
            let changed = values.iter().find(|&&(changed, ..)| changed == place);
            changed.map_or(self.knobs[place].value, |&(.., to)| to)
        };
        self.together.iter().flat_map(|group| group.windows(2)).all(|pair| {
            let is = self.knobs[pair[0]].value.saturating_sub(self.knobs[pair[1]].value);
            of(pair[0]).saturating_sub(of(pair[1])) <= is.max(0)
        })
    }

    fn try_out(&mut self, trial: Trial) -> Vec<Effect> {
        let effect = self.set(&trial, true);
        self.phase = Phase::With(trial);
        vec![effect]
    }

    fn look_again(&mut self, mut trial: Trial, measured: Vec<Window>) -> Vec<Effect> {
        trial.with = measured;
        let (with, without) = trial.figures();
        self.note_p99(&trial, with.p99_us - without.p99_us);
        let back = self.set(&trial, false);
        self.phase = Phase::After(trial);
        vec![back]
    }

    fn conclude(&mut self, mut trial: Trial, measured: Vec<Window>) -> Vec<Effect> {
        let (before, with) = (std::mem::take(&mut trial.before), std::mem::take(&mut trial.with));
        trial.before.clone_from(&measured);
        let round = Round { before, with, after: measured };
        // Whenever within a round the load changed, the comparison is wrong by half of that at most.
        if round.drift() > DRIFT_MAX.max(round.difference().abs()) {
            trial.disturbed += 1;
            if trial.disturbed <= DISTURBED_MAX {
                return self.try_out(trial);
            }
            // What is shown of it is this round.
            (trial.before, trial.with) = (round.before, round.with);
            return vec![self.decide(&trial, None, Verdict::LoadChanged)];
        }
        trial.rounds.push(round);
        let differences: Vec<f64> = trial.rounds.iter().map(Round::difference).collect();
        let (mut chance, gain) = (chance_of(&differences), gain_of(&differences));
        let is_beyond = trial.limit_us > self.config.p99_max_us;
        let relief = is_beyond
            .then(|| trial.rounds.iter().map(Round::relief).filter(|it| it.is_finite()).collect())
            .filter(|of: &Vec<f64>| gain_of(of) >= self.config.gain_min && gain > -DRIFT_MAX);
        let rounds = trial.rounds.len();
        let verdict = if rounds < ROUNDS.0 {
            return self.try_out(trial);
        } else if gain >= self.config.gain_min && chance <= self.config.chance_max {
            Verdict::Kept
        } else if let Some(relief) = relief.as_ref().map(|it| chance_of(it))
            && relief <= self.config.chance_max
        {
            chance = relief;
            Verdict::Relieved
        } else if gain < self.config.gain_min && relief.is_none() {
            Verdict::NotBetter
        } else if rounds < ROUNDS.1 {
            return self.try_out(trial);
        } else {
            Verdict::Noise
        };
        let mut effects = Vec::new();
        if verdict.stays() {
            effects.push(Effect::Set { values: self.apply(&trial, true), is_trial: false });
            self.settle();
        }
        effects.push(self.decide(&trial, Some(chance), verdict));
        effects
    }

    /// The tail of the latency is beyond its bound.
    fn end_early(&mut self, window: Window) -> Vec<Effect> {
        let phase = std::mem::replace(&mut self.phase, Phase::Before);
        let (Phase::With(mut trial) | Phase::After(mut trial)) = phase else { return Vec::new() };
        let mut measured = std::mem::take(&mut self.measured);
        measured.push(window);
        trial.with = measured;
        // While it takes effect, this may be of rows from before: it is over all the same, and nothing is learnt.
        if self.settling == 0 {
            self.note_p99(&trial, window.p99_us - trial.figures().1.p99_us);
        }
        let back = self.set(&trial, false);
        vec![back, self.decide(&trial, None, Verdict::Latency)]
    }

    fn note_p99(&mut self, trial: &Trial, growth_us: f64) {
        if let Some(&(_, from, to)) = trial.values.first() {
            self.moves.note_p99(trial.place, (from, to), growth_us);
        }
    }

    fn interrupt(&mut self) -> Vec<Effect> {
        self.interrupt_but(None)
    }

    /// Takes back what is being tried, but for the knob at `kept`.
    fn interrupt_but(&mut self, kept: Option<usize>) -> Vec<Effect> {
        let phase = std::mem::replace(&mut self.phase, Phase::Before);
        let measured = std::mem::take(&mut self.measured);
        self.settle();
        let (mut trial, is_set) = match phase {
            Phase::Before => return Vec::new(),
            Phase::With(mut trial) => {
                trial.with = measured;
                (trial, true)
            }
            Phase::After(trial) => (trial, false),
        };
        let decided = self.decide(&trial, None, Verdict::Interrupted);
        if !is_set {
            return vec![decided];
        }
        trial.values.retain(|&(place, ..)| Some(place) != kept);
        vec![self.set(&trial, false), decided]
    }

    fn begin(&mut self) {
        self.phase = Phase::Before;
        self.measured.clear();
        self.settle();
        self.moves.begin_anew();
    }

    /// Leaves out what comes next, while rows come out that set out under other settings.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most 64")]
    fn settle(&mut self) {
        // The rest of a window is among those that are left out anyhow.
        let windows = self.tail_us / self.config.window_us.max(1.0);
        let under_way = windows.clamp(0.0, UNDER_WAY_MAX) as usize;
        self.settling = self.config.settling_windows + under_way;
    }

    /// Has the change take effect, or takes it back.
    fn set(&mut self, trial: &Trial, is_trial: bool) -> Effect {
        self.settle();
        Effect::Set { values: self.apply(trial, is_trial), is_trial }
    }

    fn apply(&mut self, trial: &Trial, is_changed: bool) -> Vec<(String, i64)> {
        let set = |&(place, from, to): &(usize, i64, i64)| {
            let knob = &mut self.knobs[place];
            knob.value = if is_changed { to } else { from };
            (knob.name.clone(), knob.value)
        };
        trial.values.iter().map(set).collect()
    }

    fn named(&self, trial: &Trial) -> Vec<(String, i64, i64)> {
        let name = |place: usize| self.knobs[place].name.clone();
        trial.values.iter().map(|&(place, from, to)| (name(place), from, to)).collect()
    }

    fn decide(&mut self, trial: &Trial, chance: Option<f64>, verdict: Verdict) -> Effect {
        let (with, without) = trial.figures();
        let (window, changed) = (self.windows, self.named(trial));
        let decision = Decision { window, changed, without, with, chance, verdict };
        let cool_down = self.config.cool_down_windows;
        match verdict {
            Verdict::Kept | Verdict::Relieved => self.moves.on_success(trial.place),
            Verdict::NotBetter | Verdict::Noise | Verdict::Latency => {
                let step = trial.values.first().map_or((1, 1), |&(_, from, to)| (from, to));
                self.moves.on_failure(trial.place, step, self.windows, cool_down);
            }
            // Nothing was learnt of it.
            Verdict::LoadChanged => self.moves.put_off(trial.place, self.windows, cool_down),
            Verdict::Interrupted => {}
        }
        if self.decisions.len() >= DECISIONS_MAX {
            self.decisions.pop_front();
        }
        self.decisions.push_back(decision.clone());
        Effect::Decided(decision)
    }
}

/// What `one` makes of the settings, by place: from, to. Nothing, if they are at their bounds.
fn values_of(knobs: &[Knob], one: &Move, factor: f64) -> Vec<(usize, i64, i64)> {
    let of = |&(place, is_up): &(usize, bool)| {
        let Knob { value, min, max, .. } = knobs[place];
        let to = moved(value, if is_up { factor } else { factor.recip() });
        (place, value, to.clamp(min, max))
    };
    let values: Vec<_> = one.0.iter().map(of).collect();
    // One that cannot move makes of moving together a move of the others, which is tried by itself.
    if values.iter().any(|&(_, from, to)| from == to) { Vec::new() } else { values }
}

/// `value` times `factor`, and another than it.
#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "it is clamped")]
fn moved(value: i64, factor: f64) -> i64 {
    let to = (value as f64 * factor).round() as i64;
    if factor > 1.0 { to.max(value.saturating_add(1)) } else { to.min(value - 1) }
}
