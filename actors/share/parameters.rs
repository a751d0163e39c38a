//! Changes of parameters, as a share learns of them: from the ledger, as soon as this node's copy does, and for
//! certain before a unit begins here.
//!
//! ```text
//! ledger ─ events ─▶ follower ─▶ control log ─▶ stages here
//! a unit is to begin here ─▶ read, as most voters have it ─▶ control log ─▶ it begins
//! ```
//!
//! A unit that began by what this node knew might pass a hold, or a change, that others have agreed on since.

use std::time::{Duration, Instant};

use tickwright_core::cluster::Unit;
use tickwright_core::ledger::{ControlCommand, Event, Ledger};
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;

use super::Worker;
use super::retry::Trouble;
use crate::ledger::LedgerClient;
use crate::node::Controlled;

/// How long it is tried to learn what was agreed on; other units wait meanwhile.
const PATIENCE: Duration = Duration::from_secs(1);

/// When it is tried again.
const AGAIN: Duration = Duration::from_millis(200);

/// Shows the stages here what the ledger holds, until it is aborted.
pub(super) fn follow(ledger: LedgerClient, parts: Controlled) -> JoinHandle<()> {
    let mut events = ledger.events();
    tokio::spawn(async move {
        loop {
            show(&ledger, &parts);
            loop {
                match events.recv().await {
                    Ok(Event::Control) | Err(RecvError::Lagged(_)) => break,
                    Ok(_) => {}
                    Err(RecvError::Closed) => return,
                }
            }
        }
    })
}

fn show(ledger: &LedgerClient, parts: &Controlled) {
    let (revision, control) = ledger.local(seen);
    parts.show(revision, control);
}

fn seen(ledger: &Ledger) -> (u64, tickwright_core::domain::Control) {
    (ledger.revision(), ledger.changes().control())
}

impl Worker {
    /// Learns for certain what was agreed on, if that concerns any of `new`. Returns those that may begin.
    pub(super) async fn learn_changes(&mut self, new: Vec<(Unit, u64)>) -> Vec<(Unit, u64)> {
        let is_concerned = |unit: Unit| !matches!(unit, Unit::Source(_));
        if !new.iter().any(|&(unit, _)| is_concerned(unit)) {
            return new;
        }
        let Err(reason) = self.try_to_learn().await else { return new };
        let (waiting, free): (Vec<_>, Vec<_>) =
            new.into_iter().partition(|&(unit, _)| is_concerned(unit));
        for (unit, epoch) in waiting {
            tracing::warn!(%unit, reason, "it waits to know how parameters were changed");
            let due = Some(Instant::now() + AGAIN);
            self.troubles.insert(unit, Trouble { epoch, reason: reason.clone(), due });
        }
        free
    }

    async fn try_to_learn(&mut self) -> Result<(), String> {
        let look = |ledger: &Ledger| {
            let changes = ledger.changes();
            let over = changes.is_over().then(|| changes.run());
            (seen(ledger), over)
        };
        let unknown =
            |error| format!("it could not be learnt how parameters were changed: {error}");
        let ((revision, control), over) =
            self.ledger.read(PATIENCE, look).await.map_err(unknown)?;
        let Some(run) = over.filter(|_| self.is_new_run()) else {
            self.controlled.show(revision, control);
            return Ok(());
        };
        // What was changed in the run before does not concern this one.
        self.ledger.control(ControlCommand::Begin { run }, PATIENCE).await.map_err(unknown)?;
        let (revision, control) = self.ledger.read(PATIENCE, seen).await.map_err(unknown)?;
        self.controlled.show(revision, control);
        Ok(())
    }

    /// Whether this node begins a run, and does not go on with one that may be over elsewhere.
    fn is_new_run(&self) -> bool {
        !self.resumed && !self.is_over.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Nothing changes any more in the run that is over. False: it could not be agreed on.
    pub(super) async fn end_changes(&self) -> Result<(), String> {
        let run = self.ledger.local(|ledger| ledger.changes().run());
        let ended = self.ledger.control(ControlCommand::End { run }, PATIENCE).await;
        ended.map(drop).map_err(|error| format!("it could not be agreed that it is over: {error}"))
    }
}
