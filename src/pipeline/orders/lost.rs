//! Orders whose slot somebody else has changed: what the ledger, and then the exchange, says of them.
//!
//! ```text
//! refused by the ledger ─▶ lost ── ReadSlots ─┬─ a slot holds it ─▶ taken over, as it stands
//!                                             └─ none does ─▶ searched for: Query, or History
//! ```

use super::{Live, Orders, Remedy, Resolution, Said, Stage};
use crate::domain::{
    Refusal, SignalIdentity, Slot, SlotKey, SlotOutcome, SlotState, Symbol, Timestamp,
};

impl Orders {
    /// Somebody else has changed the slot of an order. How it stands is read, from now on: what was asked for
    /// before may be of a time at which no slot held it yet.
    pub(super) fn lose(&mut self, signal: &SignalIdentity) {
        if let Some(live) = self.live.get_mut(signal) {
            live.stage = Stage::Lost;
            self.note_changed(signal);
        }
    }

    /// What is being read may be older than what happened to the order.
    pub(super) fn note_changed(&mut self, signal: &SignalIdentity) {
        if self.is_reading {
            self.changed.insert(signal.clone());
        }
    }

    /// Orders that are under way and that nobody here has asked for.
    pub(super) fn adopt_orphans(&mut self, open: &[(SlotKey, Slot)]) {
        for (key, slot) in open {
            let Some(intent) = slot.intent() else { continue };
            if self.changed.contains(&intent.signal) {
                continue;
            }
            if let Some(live) = self.live.get_mut(&intent.signal) {
                // One that was known from the exchange alone.
                if live.slot.is_none() && live.is_named && live.client_id == intent.client_id {
                    live.slot = Some((key.clone(), slot.generation));
                }
                continue;
            }
            self.counters.orphans += 1;
            let (symbol, client_id) = (key.symbol.clone(), intent.client_id.clone());
            let mut live = Live::new(symbol, client_id, intent.quantity, Stage::Lost);
            live.slot = Some((key.clone(), slot.generation));
            live.deadline = intent.deadline;
            live.is_named = true;
            self.by_client_id.insert(intent.client_id.clone(), intent.signal.clone());
            self.live.insert(intent.signal.clone(), live);
            self.take_in_stray(&intent.signal, &intent.client_id);
            if self.stopped.has(&intent.signal) {
                self.give_up(&intent.signal);
            }
        }
    }

    /// Whether the slot of an order may say something new: it was lost, or somebody may have released it.
    pub(super) fn is_to_read_for(&self, live: &Live, now: Timestamp) -> bool {
        match live.stage {
            Stage::Lost => true,
            Stage::Quarantined => now >= self.recovery.read_again_at,
            // What was found under way may have ended just before it was read.
            Stage::AskingAgain { .. } => live.order.is_none() && now >= self.recovery.read_again_at,
            Stage::Opening
            | Stage::Retrying
            | Stage::Sent
            | Stage::Waiting { .. }
            | Stage::Asking { .. }
            | Stage::Placed { .. }
            | Stage::Ending { .. }
            | Stage::Searching => false,
        }
    }

    /// Orders that wait for a person, or for somebody to ask for them, and whose slot holds them no more.
    pub(super) fn find_released(&mut self, open: &[(SlotKey, Slot)]) {
        for (signal, live) in &mut self.live {
            let waits = match live.stage {
                Stage::Quarantined => true,
                Stage::AskingAgain { .. } => live.order.is_none(),
                Stage::Opening
                | Stage::Retrying
                | Stage::Sent
                | Stage::Waiting { .. }
                | Stage::Asking { .. }
                | Stage::Placed { .. }
                | Stage::Ending { .. }
                | Stage::Lost
                | Stage::Searching => false,
            };
            let is_held = |(_, slot): &(SlotKey, Slot)| match &slot.state {
                SlotState::Quarantine { intent, .. } | SlotState::Intent { intent, .. } => {
                    intent.client_id == live.client_id
                }
                SlotState::Free | SlotState::Placed { .. } | SlotState::Closing { .. } => false,
            };
            if waits && !self.changed.contains(signal) && !open.iter().any(is_held) {
                live.stage = Stage::Lost;
            }
        }
    }

    /// Finds the slots of orders that have lost theirs.
    pub(super) fn find_lost(&mut self, open: &[(SlotKey, Slot)]) {
        let lost = self.live.iter();
        let lost = lost.filter(|(_, live)| live.stage == Stage::Lost);
        let lost = lost.filter(|(signal, _)| !self.changed.contains(signal));
        let lost: Vec<SignalIdentity> = lost.map(|(signal, _)| signal.clone()).collect();
        for signal in lost {
            let found = open
                .iter()
                .find(|(_, slot)| slot.intent().is_some_and(|intent| intent.signal == signal));
            match found {
                Some((key, slot)) => self.take_over(&signal, key, slot),
                None => self.search(&signal),
            }
        }
    }

    fn take_over(&mut self, signal: &SignalIdentity, key: &SlotKey, slot: &Slot) {
        let settle = self.config.settle_after_error;
        let Some(live) = self.live.get_mut(signal) else { return };
        let Some(intent) = slot.intent() else { return };
        self.by_client_id.remove(&live.client_id);
        self.by_client_id.insert(intent.client_id.clone(), signal.clone());
        live.client_id = intent.client_id.clone();
        live.is_named = true;
        live.slot = Some((key.clone(), slot.generation));
        live.deadline = intent.deadline;
        self.recovered.begin(&live.symbol, &live.client_id, Remedy::TakenOver);
        match &slot.state {
            SlotState::Free => {}
            SlotState::Intent { attempt, .. } => {
                live.attempt = *attempt;
                self.counters.unknown += 1;
                let until = intent.deadline.after(settle);
                match self.config.capabilities.resolution() {
                    Resolution::Deadline => live.stage = Stage::Waiting { until },
                    Resolution::Seal => {
                        live.stage = Stage::Waiting { until: Timestamp::default() };
                        self.recovery.wants_seal = true;
                    }
                    Resolution::Repeat => self.ask(signal, true),
                    Resolution::Quarantine => self.quarantine(signal),
                }
                self.say(signal, Said::Unknown);
            }
            SlotState::Placed { .. } => {
                live.stage = Stage::Placed { poll_at: Timestamp::default() };
            }
            SlotState::Closing { .. } => {
                live.stage = Stage::Placed { poll_at: Timestamp::default() };
                (live.is_unwanted, live.is_closing) = (true, true);
            }
            SlotState::Quarantine { attempt, .. } => {
                live.attempt = *attempt;
                live.stage = Stage::Quarantined;
                self.recovered.treat(&live.client_id, Remedy::Left);
            }
        }
    }

    /// An order whose slot has ended, or never began: only the exchange knows what became of it.
    fn search(&mut self, signal: &SignalIdentity) {
        let Some(live) = self.live.get_mut(signal) else { return };
        if live.is_named {
            live.slot = None;
            self.recovered.begin(&live.symbol, &live.client_id, Remedy::TakenOver);
            return self.ask(signal, true);
        }
        live.slot = None;
        live.stage = Stage::Searching;
        let symbol = live.symbol.clone();
        self.recovery.look_again(&symbol);
    }

    /// Orders that were searched for: the exchange has them, or never will.
    pub(super) fn end_search(&mut self, symbol: &Symbol, now: Timestamp) {
        let searched = self.live.iter();
        let searched =
            searched.filter(|(_, live)| live.stage == Stage::Searching && live.symbol == *symbol);
        let searched: Vec<SignalIdentity> = searched.map(|(signal, _)| signal.clone()).collect();
        for signal in searched {
            match self.recovery.spent.remove(&signal.tag()) {
                Some(report) => {
                    let Some(live) = self.remove(&signal) else { continue };
                    if let Some(order) = live.order {
                        self.attach(order, report, now);
                    }
                }
                None => {
                    self.counters.spent += 1;
                    if let Some(live) = self.live.get(&signal) {
                        self.recovered.begin(&live.symbol, &live.client_id, Remedy::GivenUp);
                    }
                    self.end(&signal, SlotOutcome::NotPlaced, Some(Refusal::Order));
                }
            }
        }
    }
}
