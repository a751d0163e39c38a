//! Where an order was refused that is offered here next: the right by which it may be opened.
//!
//! The refusal is on record before anybody hears of it, though perhaps by way of another node. So it is read of
//! what most voters have agreed on, before the order is opened: one that is opened as if its signal were
//! new is refused as used, and would then be tried nowhere.

use super::{NewOrder, Orders, OrdersEffect, RefusalFound};
use crate::domain::{SignalIdentity, Timestamp};

/// How much is known of a refusal elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It is being read.
    Asked,
    /// There was no answer; to be read again at this time of our own clock.
    Failed { at: Timestamp },
    /// This is on record.
    Known(RefusalFound),
}

impl Orders {
    /// Where an order of this signal was refused for good; none, if there was no answer.
    pub fn on_refusal(
        &mut self,
        signal: &SignalIdentity,
        refused: Option<RefusalFound>,
        now: Timestamp,
    ) -> Vec<OrdersEffect> {
        if self.recovery.is_pending(signal) {
            let at = now.after(self.config.poll);
            let known = refused.map_or(Refused::Failed { at }, Refused::Known);
            self.recovery.refusals.insert(signal.clone(), known);
        }
        self.go_on(now)
    }

    /// Whether it is known by what right an order may be opened; otherwise it is asked for.
    pub(super) fn knows_right(&mut self, order: &NewOrder, now: Timestamp) -> bool {
        if !order.was_refused {
            return true;
        }
        match self.recovery.refusals.get(&order.signal) {
            Some(Refused::Known(_)) => true,
            Some(Refused::Asked) => false,
            Some(Refused::Failed { at }) if *at > now => false,
            Some(Refused::Failed { .. }) | None => {
                self.recovery.refusals.insert(order.signal.clone(), Refused::Asked);
                self.effects.push(OrdersEffect::ReadRefusal(order.signal.clone()));
                false
            }
        }
    }
}
