//! Inputs taken as they arrive: the order is on the disk before an order leaves that follows from it.

use ractor::ActorProcessingErr;

use super::{Phase, RiskState};
use crate::kit::{ArrivalLog, ArrivalsStored, Arrived};

/// The order in which inputs arrive, on its way to the disk.
#[derive(Debug)]
pub(super) struct Arrivals {
    pub(super) is_used: bool,
    pub(super) log: ArrivalLog,
    /// What must be durable before the orders in hand may leave.
    pub(super) awaited: Option<u64>,
}

impl RiskState {
    /// Writes down in which order inputs were taken.
    pub(super) fn note_arrivals(&mut self) -> Result<(), ActorProcessingErr> {
        if let Some(mismatch) = self.lockstep.mismatch() {
            return Err(mismatch.into());
        }
        let (steps, events) = (self.lockstep.take_steps(), self.lockstep.take_events());
        if !steps.is_empty() {
            self.arrivals.log.append(Arrived { steps, events });
        }
        Ok(())
    }

    /// Whether an order in hand follows from what is not on the disk yet.
    pub(super) fn awaits_disk(&mut self) -> bool {
        let Some(number) = self.arrivals.awaited else { return false };
        if self.arrivals.log.is_durable(number) {
            self.arrivals.awaited = None;
        }
        self.arrivals.awaited.is_some()
    }

    pub(super) fn on_arrivals_stored(
        &mut self,
        result: ArrivalsStored,
    ) -> Result<(), ActorProcessingErr> {
        result?;
        self.arrivals.log.on_stored();
        if matches!(self.phase, Phase::Writing) {
            self.phase = Phase::Running;
        }
        Ok(())
    }
}
