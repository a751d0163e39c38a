//! Exec's checkpoint: its parts gathered, stored, and gone back to.

use std::sync::Arc;

use ractor::{ActorProcessingErr, RpcReplyPort};
use serde::{Deserialize, Serialize};
use tickwright_core::domain::{Basis, InstrumentIndex, Key, SourceId, SymbolId, Timestamp};
use tickwright_core::pipeline::risk::{RiskChecker, RiskState as Checked};
use tickwright_core::stream::{LockstepSnapshot, Positions};

use super::{Phase, RiskState};
use crate::kit::Stored;
use crate::kit::exec::Want;

/// What survives: all of exec.
#[derive(Serialize, Deserialize)]
struct Checkpoint {
    /// Under which changes the signals were derived that have come.
    basis: Basis,
    lockstep: LockstepSnapshot,
    checked: Checked,
    listed: Vec<(SourceId, SymbolId, InstrumentIndex)>,
    sampled_at: Timestamp,
    router: Vec<u8>,
    positions: Vec<u8>,
}

impl RiskState {
    /// Goes back, with router, brokers and positions, to the last checkpoint, or to the beginning.
    pub(super) fn begin_epoch(&mut self) -> Result<(), ActorProcessingErr> {
        self.epoch += 1;
        self.inputs.clear();
        self.entries.clear();
        self.listed.clear();
        self.unlisted_router.clear();
        self.unlisted_positions.clear();
        self.rows_since = 0;
        self.phase = Phase::Running;
        self.inputs_at.clear();
        self.arrivals.awaited = None;
        self.is_settled = false;
        self.outside.begin_epoch();
        let mut reached = Positions::default();
        let judge = |checkpoint: &Checkpoint| self.changes.judge(checkpoint.basis);
        let (router, positions) = match self.checkpoints.newest_that(Key::END, judge)? {
            Some((_, checkpoint)) => {
                self.changes.go_back(checkpoint.basis);
                reached.clone_from(&checkpoint.lockstep.inputs);
                self.checker = RiskChecker::restore(self.limits.clone(), checkpoint.checked);
                self.lockstep.restore(checkpoint.lockstep);
                self.listed = checkpoint.listed;
                self.sampled_at = checkpoint.sampled_at;
                (Some(checkpoint.router), Some(checkpoint.positions))
            }
            None => {
                self.changes.go_back(Basis::default());
                self.checker = RiskChecker::new(self.limits.clone());
                self.lockstep.restore(LockstepSnapshot::default());
                self.sampled_at = Timestamp::default();
                (None, None)
            }
        };
        self.unlisted_ticks.clear();
        if self.records_ticks() {
            let instrument = |index| Arc::clone(self.checker.instrument(index));
            let listed = self.listed.iter().map(|&(source, id, it)| (source, id, instrument(it)));
            self.unlisted_ticks = listed.collect();
        }
        if self.arrivals.is_used {
            self.arrivals.log.goes_on_from(&reached)?;
            let arrived = self.arrivals.log.arrived();
            self.lockstep.replay(arrived.steps, arrived.events);
        }
        self.changes.takes_again(self.lockstep.signals_reached());
        // Whoever is not there says so when it is, and another epoch begins.
        let _ = self.restore_router.send((self.epoch, router));
        let _ = self.restore_positions.send((self.epoch, positions));
        self.subscribe();
        Ok(())
    }

    pub(super) fn on_positions_state(&mut self, part: Vec<u8>) {
        if let Phase::Gathering { positions, .. } = &mut self.phase {
            *positions = Some(part);
        }
        self.store_if_gathered();
    }

    /// Another node is to go on from a last checkpoint, which is put as soon as it can be.
    pub(super) fn hand_over(&mut self, reply: RpcReplyPort<Key>) {
        self.handover.begin(Key::START, reply);
        if matches!(self.phase, Phase::Finished) {
            // There is one at the very end.
            self.handover.is_due(Key::END);
        }
    }

    pub(super) fn is_checkpoint_due(&mut self) -> bool {
        let is_due = self.checkpoints.is_due(std::mem::take(&mut self.rows_since));
        is_due || self.handover.is_wanted() || self.is_checkpoint_wanted
    }

    /// Begins a checkpoint: asks the others for their parts.
    pub(super) fn gather(&mut self) {
        self.is_checkpoint_wanted = false;
        let runs = self.lockstep.ship_processed();
        self.send(runs, Want::State);
        self.send_ledger(true);
        self.phase = Phase::Gathering { router: None, positions: None };
    }

    pub(super) fn store_if_gathered(&mut self) {
        let Phase::Gathering { router: Some(router), positions: Some(positions) } = &mut self.phase
        else {
            return;
        };
        let checkpoint = Checkpoint {
            basis: self.changes.basis(self.lockstep.signals_reached()),
            lockstep: self.lockstep.snapshot(),
            checked: self.checker.state().clone(),
            listed: self.listed.clone(),
            sampled_at: self.sampled_at,
            router: std::mem::take(router),
            positions: std::mem::take(positions),
        };
        let is_finished = self.lockstep.is_finished();
        let key = if is_finished { Key::END } else { self.lockstep.position() };
        self.phase = if is_finished { Phase::Finished } else { Phase::Running };
        if self.arrivals.is_used {
            // The brokers may have seen rows that were taken and have not come out.
            self.arrivals.log.flush(is_finished);
            self.inputs_at.push_back((key, checkpoint.lockstep.inputs.clone()));
        }
        if self.handover.is_due(key) {
            self.checkpoints.put_last(key, &checkpoint);
        } else {
            self.checkpoints.put(key, &checkpoint);
        }
        if is_finished && self.checkpoints.last() == Key::END {
            // It was stored by an actor before this one.
            self.announce_finished();
        }
    }

    pub(super) fn on_stored(&mut self, stored: Stored) -> Result<(), ActorProcessingErr> {
        self.checkpoints.on_stored(stored)?;
        let last = self.checkpoints.last();
        if let Some(stable) = self.checkpoints.trim(last) {
            if self.arrivals.is_used {
                self.announce_stable(stable);
            } else {
                self.cleaners.stable(stable);
                self.strategies.stable(stable);
            }
        }
        if last == Key::END {
            self.announce_finished();
        }
        Ok(())
    }

    /// Tells each input up to where it was done at the checkpoint at `stable`.
    fn announce_stable(&mut self, stable: Key) {
        while self.inputs_at.front().is_some_and(|(key, _)| *key <= stable) {
            let Some((key, inputs)) = self.inputs_at.pop_front() else { return };
            if key == stable {
                self.cleaners.stable_each(&inputs.ticks);
                self.strategies.stable_each(&inputs.signals);
                self.arrivals.log.trim(&inputs);
            }
        }
    }

    fn announce_finished(&mut self) {
        if !std::mem::replace(&mut self.is_announced, true) {
            let _ = self.finished.send(());
        }
    }
}
