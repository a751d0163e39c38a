//! Orders of ours that are open at the exchange and that nobody here has asked for.
//!
//! ```text
//! History ─▶ found ── ReadSlots ─┬─ a slot holds it ─▶ under way, as any other that was found
//!                                └─ none does ─▶ Cancel, again and again, until it is over
//! ```
//!
//! While the ledger is there, every order that is open is in a slot, and the slot keeps others out. A ledger that
//! is founded anew knows nothing of those that rest at the exchange. So nothing is opened in a symbol while
//! one of ours is open there outside of a slot: one that somebody asks for again is awaited, and the rest is
//! cancelled, for nobody knows any more how long it was to rest, nor would any kill switch reach it.

use super::{Found, Live, NewOrder, OrderReport, Orders, OrdersEffect, Remedy};
use crate::domain::{ClientOrderId, Quantity, SignalIdentity, SignalTag, Symbol, Timestamp};

/// An order that was open when the account was looked through.
#[derive(Clone, Debug)]
pub(super) struct Stray {
    pub(super) symbol: Symbol,
    /// What had asked for it.
    tag: SignalTag,
    /// The exchange's number of it.
    pub(super) order: u64,
    pub(super) executed: Quantity,
    stage: StrayStage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StrayStage {
    /// Somebody may have opened it after the slots were read.
    Found,
    /// They are being read again.
    Reading,
    /// No slot holds it; it is cancelled at this time of our own clock, and again after that.
    Cancelling { at: Timestamp },
}

impl Stray {
    /// The slots are asked for.
    pub(super) fn on_reading(&mut self) {
        if self.stage == StrayStage::Found {
            self.stage = StrayStage::Reading;
        }
    }

    /// What is being done about it.
    pub(super) const fn doing(&self) -> &'static str {
        match self.stage {
            StrayStage::Found | StrayStage::Reading => {
                "at the exchange; nobody asks for it, and the ledger is read"
            }
            StrayStage::Cancelling { .. } => {
                "at the exchange, in no slot, and nobody asks for it; is being cancelled"
            }
        }
    }
}

impl Orders {
    /// The account has an open order of ours that is not under way here.
    pub(super) fn on_stray_found(
        &mut self,
        (client_id, tag): (ClientOrderId, SignalTag),
        report: &OrderReport,
        now: Timestamp,
    ) {
        self.counters.strays += 1;
        let (symbol, order, executed) = (report.symbol.clone(), report.order, report.executed);
        let stray = Stray { symbol, tag, order, executed, stage: StrayStage::Found };
        self.recovery.strays.insert(client_id, stray);
        // By now a slot may hold it, and then it is somebody's.
        self.recovery.adopts = true;
        self.recovery.read_again_at = now;
    }

    /// A slot holds it: it is under way.
    pub(super) fn take_in_stray(&mut self, signal: &SignalIdentity, client_id: &ClientOrderId) {
        let Some(stray) = self.recovery.strays.remove(client_id) else { return };
        self.recovery.spent.remove(&stray.tag);
        self.claim(signal, stray.order);
    }

    /// The slots were read, and those that they hold are under way.
    pub(super) fn check_strays(&mut self, now: Timestamp) {
        for stray in self.recovery.strays.values_mut() {
            if stray.stage == StrayStage::Reading {
                stray.stage = StrayStage::Cancelling { at: now };
            }
        }
    }

    /// Has those cancelled that are in no slot.
    pub(super) fn cancel_strays(&mut self, now: Timestamp) {
        for (client_id, stray) in &mut self.recovery.strays {
            if matches!(stray.stage, StrayStage::Cancelling { at } if at <= now) {
                stray.stage = StrayStage::Cancelling { at: now.after(self.config.poll) };
                self.recovered.treat(client_id, Remedy::Cancelled);
                let (client_id, symbol) = (client_id.clone(), stray.symbol.clone());
                self.effects.push(OrdersEffect::Cancel { client_id, symbol });
            }
        }
    }

    /// What the exchange says to a cancellation.
    pub(super) fn on_stray_cancelled(&mut self, client_id: &ClientOrderId, found: &Found) {
        match found {
            Found::Order(report) => self.on_stray_seen(client_id, report),
            Found::Nothing => {
                if let Some(stray) = self.recovery.strays.get(client_id) {
                    let (client_id, symbol) = (client_id.clone(), stray.symbol.clone());
                    self.effects.push(OrdersEffect::Query { client_id, symbol });
                }
            }
            // It is cancelled again in its time.
            Found::Failed => {}
        }
    }

    /// What the exchange says to a question.
    pub(super) fn on_stray_asked(&mut self, client_id: &ClientOrderId, found: &Found) {
        match found {
            Found::Order(report) => self.on_stray_seen(client_id, report),
            // It was there, and is not any more.
            Found::Nothing => {
                if let Some(stray) = self.recovery.strays.remove(client_id) {
                    self.recovered.end(client_id, stray.executed);
                }
            }
            Found::Failed => {}
        }
    }

    /// The exchange shows how it stands.
    pub(super) fn on_stray_seen(&mut self, client_id: &ClientOrderId, report: &OrderReport) {
        self.note_accepted(report);
        self.recovered.see(report);
        let Some(stray) = self.recovery.strays.get_mut(client_id) else { return };
        stray.executed = stray.executed.max(report.executed);
        if let Some(spent) = self.recovery.spent.get_mut(&stray.tag)
            && spent.order == report.order
        {
            spent.clone_from(report);
        }
        if report.is_over {
            let (symbol, executed) = (stray.symbol.clone(), stray.executed);
            self.recovery.strays.remove(client_id);
            self.recovered.end(client_id, executed);
            self.page(&symbol);
        }
    }

    /// Whether an order has to be opened, if it is to be placed: nothing of it is under way, nor over.
    pub(super) fn needs_slot(&self, order: &NewOrder) -> bool {
        let (signal, recovery) = (&order.signal, &self.recovery);
        !(self.over.contains_key(signal)
            || self.live.contains_key(signal)
            || recovery.spent.contains_key(&signal.tag())
            || recovery.heard.contains_key(signal)
            || recovery.unwanted.contains(signal))
    }

    /// Whether one of ours may be open in a symbol that no slot keeps others away from.
    pub(super) fn has_slotless(&self, symbol: &Symbol) -> bool {
        let is_open = |live: &Live| {
            live.slot.is_none() && live.is_named && !live.is_over && live.symbol == *symbol
        };
        self.recovery.strays.values().any(|stray| stray.symbol == *symbol)
            || self.live.values().any(is_open)
    }
}
