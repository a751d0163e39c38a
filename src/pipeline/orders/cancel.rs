//! Orders that are not wanted any more.
//!
//! One that has not left does not leave. One of which nobody knows is found out about first. One that the
//! exchange has is cancelled, again and again until the exchange shows that it is over; to cancel it
//! twice is to cancel it once. Nothing has to be agreed on for that: whoever can reach the exchange may
//! cancel. The slot says that it is closing, so that whoever takes over goes on with it.

use super::{Found, NewOrder, OrderReport, Orders, OrdersEffect, Remedy, Said, Stage};
use crate::domain::{ClientOrderId, SignalIdentity, SlotCommand, Timestamp};

impl Orders {
    /// An order is not wanted any more. Whatever it has traded meanwhile, its last word comes as always.
    pub fn cancel(&mut self, signal: &SignalIdentity, now: Timestamp) -> Vec<OrdersEffect> {
        if self.recovery.is_pending(signal) {
            // Whether the exchange has it already, from an earlier life, is looked at first.
            self.recovery.unwanted.insert(signal.clone());
        } else {
            self.give_up(signal);
        }
        self.go_on(now)
    }

    /// An order under way is not wanted any more.
    pub(super) fn give_up(&mut self, signal: &SignalIdentity) {
        let Some(live) = self.live.get_mut(signal).filter(|live| !live.is_unwanted) else { return };
        live.is_unwanted = true;
        self.counters.cancelled += 1;
        if matches!(live.stage, Stage::Placed { .. }) {
            self.consider_cancel(signal);
        }
    }

    /// Takes back an order that has no slot and is not at the exchange. Its signal is not used up.
    pub(super) fn take_back(&mut self, order: &NewOrder) {
        self.counters.cancelled += 1;
        let said = Said::Closed { remaining: order.quantity };
        self.over.insert(order.signal.clone(), vec![said.clone()]);
        self.effects.push(OrdersEffect::Tell(order.signal.clone(), said));
    }

    /// Has an order cancelled that the exchange has and nobody wants; returns whether that is so.
    pub(super) fn consider_cancel(&mut self, signal: &SignalIdentity) -> bool {
        let Some(live) = self.live.get_mut(signal) else { return false };
        if !live.is_unwanted || live.is_over || live.exchange_order.is_none() {
            return false;
        }
        let (client_id, symbol) = (live.client_id.clone(), live.symbol.clone());
        if !std::mem::replace(&mut live.is_closing, true)
            && let Some((slot, generation)) = live.slot.clone()
        {
            let command = SlotCommand::Close { slot, generation };
            self.queue.push_back((signal.clone(), command, None));
        }
        self.recovered.treat(&client_id, Remedy::Cancelled);
        self.effects.push(OrdersEffect::Cancel { client_id, symbol });
        true
    }

    /// What the exchange says to a cancellation: how the order stands now, or that it has none that is
    /// open, or nothing.
    pub fn on_cancelled(
        &mut self,
        client_id: &ClientOrderId,
        found: &Found,
        now: Timestamp,
    ) -> Vec<OrdersEffect> {
        let Some(signal) = self.by_client_id.get(client_id).cloned() else {
            self.on_stray_cancelled(client_id, found);
            return self.go_on(now);
        };
        match found {
            Found::Order(report) => self.on_seen(&signal, report, now),
            // It is over, or was never taken: which of the two is asked for.
            Found::Nothing => self.query(&signal),
            // It is cancelled again in its time.
            Found::Failed => {}
        }
        self.go_on(now)
    }

    /// The exchange tells by itself how an order stands. That may come late or never, so nothing relies on
    /// it.
    pub fn on_told(&mut self, report: &OrderReport, now: Timestamp) -> Vec<OrdersEffect> {
        let Some(client_id) = ClientOrderId::parse(&report.client_id) else {
            return self.go_on(now);
        };
        if let Some(signal) = self.by_client_id.get(&client_id).cloned() {
            self.counters.told += 1;
            self.on_seen(&signal, report, now);
        } else {
            self.on_stray_seen(&client_id, report);
        }
        self.go_on(now)
    }
}
