//! Changes of parameters, as they concern exec: it takes no signals from a shard that went beyond a hold
//! without knowing it.
//!
//! Such a shard is an earlier life of one that is elsewhere by now, or one that had gone there before the
//! hold began. What it sent in between is refused until it is known what comes of the hold.

use std::collections::BTreeSet;

use ractor::ActorProcessingErr;
use tickwright_core::domain::{Basis, Timestamp};
use tickwright_core::stream::SignalBatch;

use super::{ROLE, RiskState};
use crate::kit::{ControlLog, ControlView, Delivery, Verdict};

/// What exec knows of changes.
#[derive(Debug)]
pub(super) struct Changes {
    log: ControlLog,
    view: ControlView,
    /// How far signals have come, and which hold was known then.
    basis: Basis,
    /// Shards of which nothing is taken before they are asked again.
    refused: BTreeSet<usize>,
}

impl Changes {
    pub(super) fn new(log: ControlLog) -> Self {
        let mut view = ControlView::default();
        log.refresh(&mut view);
        Self { log, view, basis: Basis::default(), refused: BTreeSet::new() }
    }

    /// Whether exec may go on from what has this basis.
    pub(super) fn judge(&self, basis: Basis) -> Verdict {
        Verdict::of(basis, &self.view.control, self.log.has_promised(ROLE))
    }

    /// Exec goes on from what has this basis.
    pub(super) fn go_back(&mut self, basis: Basis) {
        self.basis = basis.taken_over(&self.view.control);
        self.refused.clear();
    }

    /// What is taken again has come as far as `reached`.
    pub(super) fn takes_again(&mut self, reached: Timestamp) {
        self.basis.advance(reached);
        self.log.pass(reached);
        // Where it does not stand, word of a change is on its way, or exec would not be here.
        let _ = self.basis.learn(&self.view.control);
    }

    /// The basis of what has been taken in by now.
    pub(super) fn basis(&mut self, reached: Timestamp) -> Basis {
        self.basis.advance(reached);
        self.basis
    }

    pub(super) fn asks_again(&mut self, shard: usize) {
        self.refused.remove(&shard);
    }
}

impl RiskState {
    /// Learns what has changed. What was done without knowing it has to be done anew.
    pub(super) fn look_at_changes(&mut self) -> Result<(), ActorProcessingErr> {
        let changes = &mut self.changes;
        if !changes.log.refresh(&mut changes.view) {
            return Ok(());
        }
        changes.basis.advance(self.lockstep.signals_reached());
        if !changes.basis.learn(&changes.view.control) {
            return Err(
                "parameters have changed at a time that exec passed without knowing it".into()
            );
        }
        for shard in std::mem::take(&mut self.changes.refused) {
            self.subscribe_signals(shard);
        }
        Ok(())
    }

    /// How far signals have come, also before a crash. Before a hold exec stays, and so does a successor.
    pub(super) fn reached(&self) -> Timestamp {
        let Changes { log, view, .. } = &self.changes;
        let reached = self.lockstep.signals_reached().max(log.passed());
        if !view.control.is_held(reached) {
            log.promise(ROLE);
        }
        reached
    }

    /// Takes in signals, if they were derived by the changes there are.
    pub(super) fn on_signals(&mut self, shard: usize, (session, frame): Delivery<SignalBatch>) {
        let changes = &mut self.changes;
        let is_current = self.lockstep.signals().is_current(shard, session);
        if !is_current || changes.refused.contains(&shard) {
            return;
        }
        let basis = Basis { until: frame.complete.frontier, known: frame.block.known };
        if !changes.view.control.stands_whatever_comes(basis) {
            tracing::info!(shard, until = %frame.complete, "signals beyond a hold are refused");
            changes.refused.insert(shard);
            return;
        }
        changes.log.pass(basis.until);
        self.lockstep.on_signals(shard, session, frame);
    }
}
