//! The optimizer actor: gives trials out, writes what comes back down, and says when it is enough.
//!
//! ```text
//!              ┌── Lease ──▶ Explorer, one per thread
//! Optimizer ◀──┴── Heard ───┘
//!     │ put ▶ journal ── Stored ──▶ Optimizer: only now does it count
//!     └──▶ progress; at the end the outcome
//! ```
//!
//! *Failover.* Everything that counts is in the journal before it counts. A successor reads it, and goes on
//! with the next number; trials that were out are evaluated under other numbers, and none counts twice.
//!
//! *Delivery.* Explorers start after it and are started anew with it. What an explorer had when it ended is
//! given out again, before anything new; a trial that has ended [`LOSSES_MAX`] explorers is given up and
//! counts as the worst.

use std::collections::BTreeMap;
use std::fmt;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use ractor_cluster::RactorMessage;
use tickwright_core::optimise::{
    BestSet, Exploration, Limits, Search, SearchKind, Space, StopReason, Trial,
};

use super::explorer::{ExplorerMessage, Heard, Lease, Outcome};
use super::journal::{Finished, SearchJournal};
use crate::kit::{Directory, Outlet, StoreError};

/// The role of the optimizer.
pub(super) const ROLE: &str = "optimizer";

/// Explorers that one trial may end before it is given up.
const LOSSES_MAX: u32 = 3;

/// Everything the mailbox holds.
#[derive(RactorMessage)]
pub(super) enum OptimizerMessage {
    /// From an explorer.
    Heard(Heard),
    /// From the journal.
    Stored(Result<(), StoreError>, Box<Finished>),
    /// The time is up.
    Time,
}

impl fmt::Debug for OptimizerMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Heard(heard) => f.debug_tuple("Heard").field(heard).finish(),
            Self::Stored(result, finished) => {
                f.debug_tuple("Stored").field(result).field(&finished.number).finish()
            }
            Self::Time => f.write_str("Time"),
        }
    }
}

/// How far a search has come.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SearchProgress {
    /// Trials that count.
    pub finished: u64,
    /// Of them, those of earlier runs.
    pub resumed: u64,
    /// Trials there may be.
    pub trials_max: u64,
    /// The best score so far, and what it is of.
    pub best: Option<(f64, Vec<(String, f64)>)>,
}

/// What a search came to.
#[derive(Clone, Debug)]
pub(super) struct SearchOutcome {
    pub stopped: StopReason,
    /// In the order of their numbers; those that were given up are not among them.
    pub trials: Vec<Trial>,
    pub resumed: u64,
    pub failed: u64,
    pub best: BestSet,
}

/// What the actor is started with.
#[derive(Clone, Debug)]
pub(super) struct OptimizerArguments {
    pub space: Space,
    pub kind: SearchKind,
    pub seed: u64,
    pub limits: Limits,
    pub top_max: usize,
    pub journal: SearchJournal,
    /// The best of an earlier search, which has been computed again.
    pub adopted: Option<Trial>,
    pub directory: Directory,
    pub progress: Outlet<SearchProgress>,
    pub ended: Outlet<SearchOutcome>,
}

/// The actor.
#[derive(Debug)]
pub(super) struct OptimizerActor;

/// What the actor owns while it runs.
#[derive(Debug)]
pub(super) struct OptimizerState {
    arguments: OptimizerArguments,
    exploration: Exploration,
    trials: BTreeMap<u64, Trial>,
    best: BestSet,
    resumed: u64,
    failed: u64,
    /// The explorers that are there, and what each is at.
    explorers: BTreeMap<usize, (ActorRef<ExplorerMessage>, Option<u64>)>,
    /// How many explorers each trial has ended. At most one entry per trial that is out.
    losses: BTreeMap<u64, u32>,
    /// What each trial that is out is of.
    parameters: BTreeMap<u64, Vec<(String, f64)>>,
    has_ended: bool,
}

impl Actor for OptimizerActor {
    type Msg = OptimizerMessage;
    type State = OptimizerState;
    type Arguments = OptimizerArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<OptimizerMessage>,
        arguments: OptimizerArguments,
    ) -> Result<OptimizerState, ActorProcessingErr> {
        let OptimizerArguments { space, kind, seed, limits, .. } = &arguments;
        let search = Search::new(space.clone(), *kind, *seed, limits.trials_max);
        let mut exploration = Exploration::new(search, *limits);
        let mut best = arguments.journal.best()?.unwrap_or_else(|| BestSet::new(arguments.top_max));
        let (mut trials, mut failed) = (BTreeMap::new(), 0);
        if let Some(adopted) = &arguments.adopted
            && let Some(point) = space.point(&adopted.parameters)
        {
            exploration.adopt(&point, adopted.score);
        }
        for Finished { number, parameters, trial } in arguments.journal.trials()? {
            let Some(point) = space.point(&parameters) else { continue };
            let score = trial.as_ref().map_or(f64::MIN, |trial| trial.score);
            if exploration.restore(number, &point, score) {
                failed += u64::from(trial.is_none());
                if let Some(trial) = trial {
                    best.add(&trial);
                    trials.insert(number, trial);
                }
            }
        }
        let resumed = exploration.finished();
        arguments.directory.register(ROLE, &myself);
        let mut state = OptimizerState {
            arguments,
            exploration,
            trials,
            best,
            resumed,
            failed,
            explorers: BTreeMap::new(),
            losses: BTreeMap::new(),
            parameters: BTreeMap::new(),
            has_ended: false,
        };
        state.tell();
        state.end_if_over();
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<OptimizerMessage>,
        message: OptimizerMessage,
        state: &mut OptimizerState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            OptimizerMessage::Heard(Heard::Ready(slot, explorer)) => {
                state.on_ready(&myself, slot, explorer);
            }
            OptimizerMessage::Heard(Heard::Evaluated(slot, number, outcome)) => {
                state.on_evaluated(&myself, slot, number, outcome);
            }
            OptimizerMessage::Stored(result, finished) => {
                result?;
                state.on_stored(*finished);
            }
            OptimizerMessage::Time => state.exploration.on_time(),
        }
        state.offer();
        state.end_if_over();
        Ok(())
    }
}

impl OptimizerState {
    fn on_ready(
        &mut self,
        myself: &ActorRef<OptimizerMessage>,
        slot: usize,
        explorer: ActorRef<ExplorerMessage>,
    ) {
        let before = self.explorers.insert(slot, (explorer, None));
        let Some((_, Some(number))) = before else { return };
        let losses = self.losses.entry(number).or_default();
        *losses += 1;
        if *losses >= LOSSES_MAX {
            tracing::warn!(trial = number, "given up: it has ended {LOSSES_MAX} explorers");
            self.put(myself, number, None);
        } else {
            self.exploration.on_lost(number);
        }
    }

    fn on_evaluated(
        &mut self,
        myself: &ActorRef<OptimizerMessage>,
        slot: usize,
        number: u64,
        outcome: Outcome,
    ) {
        if let Some((_, at)) = self.explorers.get_mut(&slot) {
            *at = None;
        }
        let trial = outcome.map_err(|error| tracing::warn!(trial = number, error, "failed")).ok();
        self.put(myself, number, trial.map(|trial| *trial));
    }

    /// Writes down what a trial came to; it counts once that is on the disk.
    fn put(&mut self, myself: &ActorRef<OptimizerMessage>, number: u64, trial: Option<Trial>) {
        let Some(parameters) = self.parameters.get(&number).cloned() else { return };
        let finished = Finished { number, parameters, trial };
        let (stored, myself) = (finished.clone(), myself.clone());
        let done = move |result| {
            // Whoever comes after this actor reads the journal.
            let _ = myself.cast(OptimizerMessage::Stored(result, Box::new(stored)));
        };
        self.arguments.journal.put(&finished, Box::new(done));
    }

    fn on_stored(&mut self, finished: Finished) {
        let Finished { number, trial, .. } = finished;
        let score = trial.as_ref().map_or(f64::MIN, |trial| trial.score);
        if !self.exploration.on_finished(number, score) {
            return;
        }
        self.losses.remove(&number);
        self.parameters.remove(&number);
        self.failed += u64::from(trial.is_none());
        if let Some(trial) = trial {
            let was_best = self.best.best().map(Trial::id);
            self.best.add(&trial);
            if self.best.best().map(Trial::id) != was_best {
                self.arguments.journal.put_best_soon(&self.best);
            }
            self.trials.insert(number, trial);
        }
        self.tell();
    }

    /// Gives every idle explorer something to do.
    fn offer(&mut self) {
        for (explorer, at) in self.explorers.values_mut().filter(|(_, at)| at.is_none()) {
            let Some(lease) = self.exploration.lease() else { return };
            let number = lease.number;
            let parameters = self.arguments.space.parameters(&lease.point);
            self.parameters.insert(number, parameters.clone());
            *at = Some(number);
            // One that has just ended is started anew, and what it was to have is given out again.
            let _ = explorer.cast(ExplorerMessage::Lease(Lease { number, parameters }));
        }
    }

    fn tell(&self) {
        let best = self.best.best().map(|trial| (trial.score, trial.parameters.clone()));
        // Nobody may look.
        let _ = self.arguments.progress.send(SearchProgress {
            finished: self.exploration.finished(),
            resumed: self.resumed,
            trials_max: self.arguments.limits.trials_max,
            best,
        });
    }

    fn end_if_over(&mut self) {
        let Some(stopped) = self.exploration.stopped() else { return };
        if self.has_ended || self.exploration.leased() > 0 {
            return;
        }
        self.has_ended = true;
        let outcome = SearchOutcome {
            stopped,
            trials: self.trials.values().cloned().collect(),
            resumed: self.resumed,
            failed: self.failed,
            best: self.best.clone(),
        };
        // Whoever waited has gone.
        let _ = self.arguments.ended.send(outcome);
    }
}

/// An outlet to the optimizer, looked up each time.
pub(super) fn heard_by(directory: &Directory) -> Outlet<Heard> {
    Outlet::to_role(directory, ROLE, OptimizerMessage::Heard)
}

/// Tells the optimizer that the time is up.
pub(super) fn end_by_time(directory: &Directory) {
    // It has ended already.
    let _ = directory.tell(ROLE, OptimizerMessage::Time);
}

#[cfg(test)]
mod tests;
