//! The explorer actor: evaluates one leased trial after the other.
//!
//! ```text
//! optimizer ── Lease ──▶ Explorer ── job ──▶ pool ── Evaluated ──▶ Explorer ── Heard ──▶ optimizer
//! ```
//!
//! *Failover.* It keeps nothing. One that has just started asks for work; what its predecessor had is
//! then given out again.
//!
//! *Delivery.* At most once. An evaluation that panics ends the explorer, and its supervisor starts
//! another.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use ractor_cluster::RactorMessage;
use tickwright_core::optimise::{Study, Trial};

use super::pool::Pool;
use crate::kit::Outlet;

/// What a trial came to, or why it came to nothing.
pub(super) type Outcome = Result<Box<Trial>, String>;

/// What an explorer tells the optimizer.
#[derive(Debug)]
pub(super) enum Heard {
    /// This explorer has just started, and has nothing to do.
    Ready(usize, ActorRef<ExplorerMessage>),
    /// It has evaluated this one.
    Evaluated(usize, u64, Outcome),
}

/// A trial to evaluate.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub number: u64,
    pub parameters: Vec<(String, f64)>,
}

/// Everything the mailbox holds.
#[derive(RactorMessage)]
pub(super) enum ExplorerMessage {
    /// From the optimizer: evaluate this.
    Lease(Lease),
    /// From the pool: it came to this; to nothing if that panicked.
    Evaluated(u64, Option<Outcome>),
}

impl fmt::Debug for ExplorerMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lease(lease) => f.debug_tuple("Lease").field(lease).finish(),
            Self::Evaluated(number, _) => f.debug_tuple("Evaluated").field(number).finish(),
        }
    }
}

/// What the actor is started with.
#[derive(Clone, Debug)]
pub(super) struct ExplorerArguments {
    /// Its place among the explorers.
    pub slot: usize,
    /// What is evaluated.
    pub study: Arc<Study>,
    /// Over which rows.
    pub rows: Range<u64>,
    /// Who evaluates.
    pub pool: Pool,
    /// The optimizer.
    pub heard: Outlet<Heard>,
}

/// The actor.
#[derive(Debug)]
pub(super) struct ExplorerActor;

impl Actor for ExplorerActor {
    type Msg = ExplorerMessage;
    type State = ExplorerArguments;
    type Arguments = ExplorerArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<ExplorerMessage>,
        arguments: ExplorerArguments,
    ) -> Result<ExplorerArguments, ActorProcessingErr> {
        arguments.heard.send(Heard::Ready(arguments.slot, myself))?;
        Ok(arguments)
    }

    async fn handle(
        &self,
        myself: ActorRef<ExplorerMessage>,
        message: ExplorerMessage,
        state: &mut ExplorerArguments,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ExplorerMessage::Lease(lease) => state.evaluate(myself, lease)?,
            ExplorerMessage::Evaluated(number, Some(outcome)) => {
                state.heard.send(Heard::Evaluated(state.slot, number, outcome))?;
            }
            ExplorerMessage::Evaluated(number, None) => {
                return Err(format!("trial {number} panicked").into());
            }
        }
        Ok(())
    }
}

impl ExplorerArguments {
    fn evaluate(
        &self,
        myself: ActorRef<ExplorerMessage>,
        lease: Lease,
    ) -> Result<(), ActorProcessingErr> {
        let (study, rows) = (Arc::clone(&self.study), self.rows.clone());
        let answer = Answer { explorer: myself, number: lease.number, outcome: None };
        let job = Box::new(move || {
            // All of it goes along, so that it answers when the job ends, in whatever way.
            let mut answer = answer;
            let trial = study.trial(&lease.parameters, rows, lease.number);
            answer.outcome = Some(trial.map(Box::new).map_err(|error| error.to_string()));
        });
        // Each explorer has one job at a time, and the queue has room for all of them.
        self.pool.submit(job).map_err(|_| "the pool takes nothing")?;
        Ok(())
    }
}

/// Tells the explorer when it is dropped, evaluated or not.
struct Answer {
    explorer: ActorRef<ExplorerMessage>,
    number: u64,
    outcome: Option<Outcome>,
}

impl Drop for Answer {
    fn drop(&mut self) {
        // One that has ended since waits for no answer.
        let answer = ExplorerMessage::Evaluated(self.number, self.outcome.take());
        let _ = self.explorer.cast(answer);
    }
}
