//! What brokers outside say: inputs like any other, taken as they arrive.
//!
//! A broker outside speaks when it likes, and again after a restart. What is new of it gets a number and a
//! time of exec's own, just after everything that was taken before, and is written down with the other
//! steps, so that a successor takes the same at the same place.
//!
//! # Invariants
//!
//! 1. An order is accepted, unknown, and ended once each, and a trade of it counts once, however often
//!    that is said.
//! 2. Nothing is taken of an order after its end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::{Lockstep, Next, Taken};
use crate::domain::{BrokerEvent, BrokerEventKind, BrokerId, Key, OrderId, SourceId, Timestamp};

/// The input that stands for brokers outside.
pub(super) const OUTSIDE: u16 = u16::MAX;

/// Orders that have ended, and of which something may still be said again.
const ENDED_MAX: usize = 65_536;

/// What was taken of each order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Heard {
    /// Bounded by the live orders that risk allows.
    open: BTreeMap<(BrokerId, OrderId), HeardOrder>,
    /// At most [`ENDED_MAX`], oldest first.
    ended: VecDeque<(BrokerId, OrderId)>,
    ended_set: BTreeSet<(BrokerId, OrderId)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct HeardOrder {
    is_accepted: bool,
    was_unknown: bool,
    /// By the exchange's numbers.
    trades: BTreeSet<u64>,
}

impl Heard {
    /// Takes in what is said. Returns whether it is new.
    fn hear(&mut self, event: &BrokerEvent) -> bool {
        let order = (event.broker, event.order);
        if self.ended_set.contains(&order) {
            return false;
        }
        let heard = self.open.entry(order).or_default();
        match &event.kind {
            BrokerEventKind::Accepted => !std::mem::replace(&mut heard.is_accepted, true),
            BrokerEventKind::Unknown => !std::mem::replace(&mut heard.was_unknown, true),
            BrokerEventKind::Filled(fill) => heard.trades.insert(fill.trade_id),
            BrokerEventKind::Refused(_) | BrokerEventKind::Closed { .. } => {
                self.open.remove(&order);
                self.ended.push_back(order);
                self.ended_set.insert(order);
                if self.ended.len() > ENDED_MAX
                    && let Some(oldest) = self.ended.pop_front()
                {
                    self.ended_set.remove(&oldest);
                }
                true
            }
        }
    }
}

/// Events of brokers outside, from their arrival to their turn.
#[derive(Debug, Default)]
pub(super) struct Outside {
    heard: Heard,
    /// Said, and not taken yet: steps of before come first. Bounded as the live orders.
    said: VecDeque<BrokerEvent>,
    /// Taken, and not out yet.
    ready: VecDeque<BrokerEvent>,
    /// Of before, by number, to be taken again.
    replayed: BTreeMap<u64, BrokerEvent>,
    /// Taken since [`Lockstep::take_events`].
    noted: Vec<(u64, BrokerEvent)>,
    /// Taken so far.
    taken: u64,
}

/// What survives of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OutsideSnapshot {
    heard: Heard,
}

impl Outside {
    pub(super) fn snapshot(&self) -> OutsideSnapshot {
        OutsideSnapshot { heard: self.heard.clone() }
    }

    pub(super) fn restored(snapshot: OutsideSnapshot, taken: u64) -> Self {
        Self { heard: snapshot.heard, taken, ..Self::default() }
    }

    /// When the next of them is due.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.ready.front().map(|event| event.due)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.said.is_empty() && self.ready.is_empty()
    }
}

impl Lockstep {
    /// A broker outside says something. When it is due is for exec to say.
    pub fn on_outside(&mut self, event: BrokerEvent) {
        self.outside.said.push_back(event);
        self.take_arrived();
    }

    /// Events of brokers outside that were taken since this was last asked, with their numbers; those
    /// taken again left out.
    pub fn take_events(&mut self) -> Vec<(u64, BrokerEvent)> {
        std::mem::take(&mut self.outside.noted)
    }

    /// Events that steps of before refer to.
    pub(super) fn replay_events(&mut self, events: impl IntoIterator<Item = (u64, BrokerEvent)>) {
        self.outside.replayed = events.into_iter().collect();
    }

    /// Takes what brokers outside have said.
    pub(super) fn take_outside(&mut self) {
        if self.finished {
            // No order was open then.
            self.outside.said.clear();
        }
        while let Some(event) = self.outside.said.pop_front() {
            if !self.outside.heard.hear(&event) {
                continue;
            }
            let number = self.outside.taken + 1;
            let event = self.take_event(number, event);
            self.outside.noted.push((number, event));
            let through = key_of(number);
            let now = self.arrivals.last.frontier;
            // One by one: a step of several could not be told from its last.
            self.arrivals.steps.push(Taken { input: OUTSIDE, through, now });
        }
    }

    /// Takes the event of a step of before. Returns whether there is one.
    pub(super) fn take_event_again(&mut self, step: Taken) -> bool {
        let number = step.through.sequence;
        let Some(event) = self.outside.replayed.remove(&number) else { return false };
        // Whether it was new was judged then.
        self.outside.heard.hear(&event);
        self.take_event(number, event);
        self.arrivals.last.frontier == step.now
    }

    /// Puts an event just after all that was taken.
    fn take_event(&mut self, number: u64, mut event: BrokerEvent) -> BrokerEvent {
        self.outside.taken = number;
        let now = Timestamp::from_nanos(self.arrivals.last.frontier.as_nanos().saturating_add(1));
        self.arrivals.last = at(now);
        event.due = now;
        event.ordinal = u32::try_from(number & u64::from(u32::MAX)).unwrap_or(0);
        self.outside.ready.push_back(event);
        event
    }

    /// The next event of a broker outside has its turn.
    pub(super) fn pop_outside(&mut self) -> Next {
        let mut event = self.outside.ready.pop_front().expect("the caller saw it");
        self.arrivals.out.events += 1;
        self.position = self.position.max(at(event.due));
        match &mut event.kind {
            BrokerEventKind::Closed { .. } => {
                self.open_orders = self.open_orders.saturating_sub(1);
            }
            // Exchanges number trades for each symbol; here they are told apart by their broker and account.
            BrokerEventKind::Filled(fill) => fill.trade_id = self.arrivals.out.events,
            BrokerEventKind::Accepted | BrokerEventKind::Refused(_) | BrokerEventKind::Unknown => {}
        }
        Next::Event(event)
    }
}

/// Before every row of that time, and after every one of an earlier time.
fn at(time: Timestamp) -> Key {
    Key { frontier: time, ..Key::START }
}

fn key_of(number: u64) -> Key {
    Key { frontier: Timestamp::default(), source: SourceId(OUTSIDE), sequence: number }
}
