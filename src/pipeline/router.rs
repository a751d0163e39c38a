//! The order router: which broker an order goes to, and what risk hears of it.
//!
//! ```text
//! route(approved) ─────────────▶ (broker, placement)
//! on_event(what a broker says) ─┬▶ Forward(event)               to risk and positions
//!                               └▶ Place { the other broker }   after a refusal by the broker's fault
//! ```
//!
//! Both come in the one order of exec: an event when it is due, before orders of its frontier. What
//! brokers were asked ahead of time waits with the caller.
//!
//! Orders go to the active broker: the primary, until it has failed definitely so often in a row
//! that the backup takes over. A definite failure is a refusal that speaks against the broker. A
//! refusal of the order itself, an unknown outcome, and whatever becomes of it, never are.
//!
//! # Invariants
//!
//! 1. Only approved orders are placed, each at most once with each broker, and at no second broker
//!    unless the first has refused it for certain.
//! 2. Every order that was placed ends, for risk, with exactly one `Closed`; a refusal that is final
//!    comes just before it, one that is not is not shown.
//! 3. Every fill is forwarded, whatever else the router makes of it.
//! 4. An order that was cancelled is offered to nobody else.
//! 5. The active broker changes at the `failover_threshold`th definite failure in a row, not before.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::{
    Approval, BrokerEvent, BrokerEventKind, BrokerId, InstrumentIndex, Key, Order, OrderId,
    Placement, Refusal, Span, Timestamp, TopOfBook,
};

/// The broker that orders go to at first.
pub const PRIMARY: BrokerId = BrokerId(0);

/// The broker that takes over.
pub const BACKUP: BrokerId = BrokerId(1);

/// When orders go back to the primary after the backup took over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReturnToPrimary {
    /// Only if the backup fails in its turn.
    Never,
    /// With the first order so long after.
    After(Span),
}

/// How the router judges brokers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouterConfig {
    /// Definite failures in a row at which the other broker takes over; at least 1.
    pub failover_threshold: u32,
    /// When the primary is tried again.
    pub return_to_primary: ReturnToPrimary,
    /// How many brokers an order is offered to: 1 never offers it a second time. More than the two
    /// that there are is as good as 2.
    pub attempts_max: u8,
    /// Whether there is a backup.
    pub has_backup: bool,
}

impl Default for RouterConfig {
    fn default() -> Self {
        Self {
            failover_threshold: 3,
            return_to_primary: ReturnToPrimary::Never,
            attempts_max: 2,
            has_backup: true,
        }
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouterEffect {
    /// Tell risk and positions.
    Forward(BrokerEvent),
    /// Offer the order to this broker.
    Place {
        /// With whom.
        broker: BrokerId,
        /// What.
        placement: Placement,
    },
}

/// What the router has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouterCounters {
    /// Placements, by broker.
    pub placed: [u64; 2],
    /// Definite failures, by broker.
    pub failures: [u64; 2],
    /// How often the active broker changed because it had failed.
    pub failovers: u64,
    /// How often the primary was taken up again after its time.
    pub returns: u64,
    /// Orders offered to a second broker.
    pub offered_again: u64,
    /// Orders that no broker would have, by the brokers' fault.
    pub given_up: u64,
    /// Orders not placed because they were in flight already.
    pub repeated: u64,
    /// Events of orders that are not in flight.
    pub stray: u64,
    /// Orders accepted although another broker had accepted them or might have. Anything but zero is
    /// a broken promise.
    pub accepted_twice: u64,
}

/// An order between its approval and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct InFlight {
    order: Order,
    broker: BrokerId,
    /// How often it was offered before.
    attempt: u8,
    /// Whether the broker has accepted it.
    is_accepted: bool,
    /// Whether its outcome is or was unknown: then no refusal counts, and nobody else gets it.
    was_unknown: bool,
    /// Whether it is not wanted any more: then nobody else gets it either.
    is_cancelled: bool,
}

/// The router. A snapshot of it, serialised, continues as the original would.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Router {
    config: RouterConfig,
    active: BrokerId,
    /// When the backup took over.
    left_primary_at: Timestamp,
    /// Definite failures in a row, by broker.
    failures: [u32; 2],
    /// Bounded by the live orders that risk allows.
    in_flight: BTreeMap<OrderId, InFlight>,
    counters: RouterCounters,
}

impl Router {
    /// A router that has seen nothing: the primary is active.
    pub fn new(config: RouterConfig) -> Self {
        Self {
            config,
            active: PRIMARY,
            left_primary_at: Timestamp::default(),
            failures: [0; 2],
            in_flight: BTreeMap::new(),
            counters: RouterCounters::default(),
        }
    }

    /// The broker that the next order goes to.
    pub const fn active(&self) -> BrokerId {
        self.active
    }

    /// What it has done so far.
    pub const fn counters(&self) -> &RouterCounters {
        &self.counters
    }

    /// How many orders are with a broker.
    pub fn in_flight_count(&self) -> usize {
        self.in_flight.len()
    }

    /// Which broker to place an order with that was approved at `at`, and what to place; none when
    /// the order is in flight already.
    pub fn route(&mut self, approved: &impl Approval, at: Key) -> Option<(BrokerId, Placement)> {
        let (order, top) = (*approved.order(), *approved.top());
        if self.in_flight.contains_key(&order.id) {
            self.counters.repeated += 1;
            return None;
        }
        self.consider_return(at.frontier);
        let broker = self.active;
        let in_flight = InFlight {
            order,
            broker,
            attempt: 0,
            is_accepted: false,
            was_unknown: false,
            is_cancelled: false,
        };
        self.in_flight.insert(order.id, in_flight);
        self.counters.placed[place_of(broker)] += 1;
        Some((broker, Placement { order, top, at, attempt: 0 }))
    }

    /// An order is not wanted any more. Returns the broker that has it; none, if it is over.
    pub fn cancel(&mut self, order: OrderId) -> Option<BrokerId> {
        let in_flight = self.in_flight.get_mut(&order)?;
        in_flight.is_cancelled = true;
        Some(in_flight.broker)
    }

    /// Tries the primary again when its time has come.
    fn consider_return(&mut self, now: Timestamp) {
        let ReturnToPrimary::After(span) = self.config.return_to_primary else { return };
        if self.active != PRIMARY && now >= self.left_primary_at.after(span) {
            self.active = PRIMARY;
            self.failures[place_of(PRIMARY)] = 0;
            self.counters.returns += 1;
        }
    }

    /// Judges what a broker says, and appends to `effects` what follows from it.
    ///
    /// `top` gives an instrument's book after all rows of a frontier before `event.due`, for an order
    /// that is offered to the other broker. The book of its approval would not do: brokers look a
    /// little ahead, and which newer rows one of them has seen differs between runs.
    pub fn on_event(
        &mut self,
        event: &BrokerEvent,
        top: impl FnOnce(InstrumentIndex) -> TopOfBook,
        effects: &mut Vec<RouterEffect>,
    ) {
        let known = self.in_flight.get_mut(&event.order);
        let Some(in_flight) = known.filter(|in_flight| in_flight.broker == event.broker) else {
            return self.on_stray(event, effects);
        };
        match event.kind {
            BrokerEventKind::Accepted => {
                self.counters.accepted_twice += u64::from(in_flight.is_accepted);
                in_flight.is_accepted = true;
                self.failures[place_of(event.broker)] = 0;
                effects.push(RouterEffect::Forward(*event));
            }
            BrokerEventKind::Filled(_) => effects.push(RouterEffect::Forward(*event)),
            BrokerEventKind::Unknown => {
                in_flight.was_unknown = true;
                effects.push(RouterEffect::Forward(*event));
            }
            BrokerEventKind::Closed { .. } => {
                self.in_flight.remove(&event.order);
                effects.push(RouterEffect::Forward(*event));
            }
            BrokerEventKind::Refused(refusal) => {
                let in_flight = *in_flight;
                let Some((broker, order)) = self.on_refused(event, refusal, &in_flight) else {
                    return self.give_up(event, &in_flight, effects);
                };
                // Before every row of that frontier, as the event itself.
                let at = Key { frontier: event.due, ..Key::START };
                let attempt = in_flight.attempt + 1;
                let placement = Placement { order, top: top(order.instrument), at, attempt };
                effects.push(RouterEffect::Place { broker, placement });
            }
        }
    }

    /// Counts a refusal; returns who else is to have the order, if anybody.
    fn on_refused(
        &mut self,
        event: &BrokerEvent,
        refusal: Refusal,
        in_flight: &InFlight,
    ) -> Option<(BrokerId, Order)> {
        if in_flight.was_unknown {
            // It may have cost a minute to find out, but it proves nothing against the broker.
            return None;
        }
        if !refusal.is_brokers_fault() {
            // A broker that judges orders is there.
            self.failures[place_of(event.broker)] = 0;
            return None;
        }
        self.count_failure(event.broker, event.due);
        let attempt = in_flight.attempt + 1;
        if in_flight.is_cancelled {
            return None;
        }
        if !self.config.has_backup || attempt >= self.config.attempts_max.min(2) {
            self.counters.given_up += 1;
            return None;
        }
        let broker = other(event.broker);
        self.in_flight.insert(event.order, InFlight { attempt, broker, ..*in_flight });
        self.counters.placed[place_of(broker)] += 1;
        self.counters.offered_again += 1;
        Some((broker, in_flight.order))
    }

    /// Nobody will trade the order any further: risk hears why, and that it is over.
    fn give_up(
        &mut self,
        event: &BrokerEvent,
        in_flight: &InFlight,
        effects: &mut Vec<RouterEffect>,
    ) {
        self.in_flight.remove(&event.order);
        let remaining = in_flight.order.quantity;
        let kind = BrokerEventKind::Closed { remaining };
        effects.push(RouterEffect::Forward(*event));
        let closed = BrokerEvent { ordinal: event.ordinal + 1, kind, ..*event };
        effects.push(RouterEffect::Forward(closed));
    }

    fn count_failure(&mut self, broker: BrokerId, at: Timestamp) {
        self.counters.failures[place_of(broker)] += 1;
        let failures = &mut self.failures[place_of(broker)];
        *failures = failures.saturating_add(1);
        if broker != self.active
            || !self.config.has_backup
            || *failures < self.config.failover_threshold.max(1)
        {
            return;
        }
        self.active = other(broker);
        // Either starts with a clean sheet: the one that takes over must fail as often again before
        // the first is called back, and the first as often again once it is.
        self.failures = [0; 2];
        self.counters.failovers += 1;
        if broker == PRIMARY {
            self.left_primary_at = at;
        }
    }

    /// An event of an order that is not, or no longer, with this broker.
    fn on_stray(&mut self, event: &BrokerEvent, effects: &mut Vec<RouterEffect>) {
        self.counters.stray += 1;
        match event.kind {
            // A fill is a fact, and moves the position whether we expected it or not.
            BrokerEventKind::Filled(_) => effects.push(RouterEffect::Forward(*event)),
            BrokerEventKind::Accepted => {
                if let Some(elsewhere) = self.in_flight.get_mut(&event.order) {
                    let may_be_accepted = elsewhere.is_accepted || elsewhere.was_unknown;
                    self.counters.accepted_twice += u64::from(may_be_accepted);
                    elsewhere.is_accepted = true;
                }
            }
            BrokerEventKind::Refused(_)
            | BrokerEventKind::Unknown
            | BrokerEventKind::Closed { .. } => {}
        }
    }
}

/// The broker's place in an array of two.
const fn place_of(broker: BrokerId) -> usize {
    if broker.0 == PRIMARY.0 { 0 } else { 1 }
}

/// The broker that is not `broker`.
const fn other(broker: BrokerId) -> BrokerId {
    if broker.0 == PRIMARY.0 { BACKUP } else { PRIMARY }
}

#[cfg(test)]
mod tests;
