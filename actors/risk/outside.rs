//! What comes from outside: brokers' words, kill switches, whether what happens can still be recorded.

use ractor::ActorProcessingErr;
use tickwright_core::domain::KillSwitch;
use tickwright_core::stream::External;

use super::RiskState;
use crate::kit::exec::RouterInput;
use crate::kit::{Outlet, Recording};

/// How risk stands to what comes from outside.
#[derive(Debug)]
pub(super) struct Outside {
    /// Asks how all kill switches stand, where there are any.
    ask_switches: Option<Outlet<()>>,
    /// Whether that has not been said yet.
    awaits_switches: bool,
    /// What was last said of the records, in this epoch.
    are_records_full: Option<bool>,
}

impl Outside {
    pub(super) fn new(ask_switches: Option<Outlet<()>>) -> Self {
        let awaits_switches = ask_switches.is_some();
        Self { ask_switches, awaits_switches, are_records_full: None }
    }

    /// What was said may not have been taken by whoever goes back.
    pub(super) const fn begin_epoch(&mut self) {
        self.are_records_full = None;
    }
}

impl RiskState {
    /// Goes to its inputs, unless it is yet to be said what is stopped: an order must not pass before that.
    pub(super) fn subscribe(&mut self) {
        if let Some(ask) =
            self.outside.ask_switches.as_ref().filter(|_| self.outside.awaits_switches)
        {
            // A switchboard that is not there says so when it is.
            let _ = ask.send(());
            return;
        }
        (0..self.cleaners.len()).for_each(|source| self.subscribe_ticks(source));
        (0..self.strategies.len()).for_each(|shard| self.subscribe_signals(shard));
    }

    /// Whether nothing may be taken in yet.
    pub(super) const fn awaits_switches(&self) -> bool {
        self.outside.awaits_switches
    }

    pub(super) fn on_switches_told(&mut self) {
        if std::mem::take(&mut self.outside.awaits_switches) {
            self.subscribe();
        }
    }

    /// A word from outside.
    pub(super) fn on_outside(&mut self, word: External) -> Result<(), ActorProcessingErr> {
        self.lockstep.on_outside(word);
        if self.arrivals.is_used { self.note_arrivals() } else { Ok(()) }
    }

    /// A kill switch takes effect.
    pub(super) fn on_switch(&mut self, switch: &KillSwitch) {
        // By key, nothing else says when it was turned: whoever goes on does so from here.
        self.is_checkpoint_wanted |= !self.arrivals.is_used;
        if !switch.is_on {
            tracing::warn!(scope = ?switch.scope, "a kill switch is off again");
            self.checker.rearm(&switch.scope);
            return self.tell_stopped();
        }
        let orders = self.checker.trip(&switch.scope);
        tracing::warn!(scope = ?switch.scope, orders = orders.len(), "a kill switch is on");
        for order in orders {
            if self.checker.cancel(order.id, switch.due).is_ok() {
                self.inputs.push(RouterInput::Cancel(order.id, switch.due));
            }
        }
        self.tell_stopped();
    }

    /// Brokers may have orders that exec knows nothing of. While what happens is a repetition they are not told: what
    /// is stopped in it may not be any more.
    pub(super) fn tell_stopped(&mut self) {
        if self.is_settled {
            self.inputs.push(RouterInput::Stopped(self.checker.tripped()));
        }
    }

    fn are_records_full(&self) -> bool {
        self.recording.as_ref().is_some_and(Recording::is_full)
    }

    /// Whether exec stands still until the database has taken more. Where inputs are taken by key nothing is
    /// denied: whoever ran the same again would come to another answer.
    pub(super) fn awaits_records(&self) -> bool {
        !self.arrivals.is_used && self.are_records_full()
    }

    /// Where inputs are taken as they arrive, that the records are full is one of them.
    pub(super) fn look_at_records(&mut self) -> Result<(), ActorProcessingErr> {
        let is_full = self.are_records_full();
        if !self.arrivals.is_used || self.outside.are_records_full == Some(is_full) {
            return Ok(());
        }
        self.outside.are_records_full = Some(is_full);
        self.on_outside(External::Records { is_full, due: Default::default() })
    }

    /// From here on what happens cannot be recorded, or can again.
    pub(super) fn on_records(&mut self, is_full: bool) {
        match is_full {
            true => tracing::warn!("too much waits for the database: nothing is opened"),
            false => tracing::info!("the database has taken enough: positions may be opened again"),
        }
        self.checker.deny_opening(is_full);
    }
}
