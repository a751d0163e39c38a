//! What comes from outside: words of brokers, kill switches, a database that takes no more. Inputs like any
//! other, taken as they arrive.
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
//! 3. A turn of a kill switch is taken once, and never after a later turn of it.
//! 4. That the records are full, or no longer, is taken when it is not so already.
//!
//! Where inputs are merged by key, nothing has a time of its own that others could find again: a kill switch
//! then takes effect at once, between two keys, and it is for the caller to put a checkpoint.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::{Lockstep, Merging, Next, Taken};
use crate::domain::{
    BrokerEvent, BrokerEventKind, BrokerId, Key, KillSwitch, OrderId, Scope, SourceId, Timestamp,
};

/// The input that stands for brokers outside.
pub(super) const OUTSIDE: u16 = u16::MAX;

/// Orders that have ended, and of which something may still be said again.
const ENDED_MAX: usize = 65_536;

/// A word from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum External {
    /// A broker says what became of an order.
    Broker(BrokerEvent),
    /// An operator turns a kill switch.
    Switch(KillSwitch),
    /// What happens can no longer be recorded, or can again.
    Records {
        /// Whether too much waits for the database.
        is_full: bool,
        /// When it takes effect: for exec to say.
        due: Timestamp,
    },
}

impl External {
    const fn due(&self) -> Timestamp {
        match self {
            Self::Broker(event) => event.due,
            Self::Switch(switch) => switch.due,
            Self::Records { due, .. } => *due,
        }
    }
}

/// What was taken of each order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Heard {
    /// Bounded by the live orders that risk allows.
    open: BTreeMap<(BrokerId, OrderId), HeardOrder>,
    /// At most [`ENDED_MAX`], oldest first.
    ended: VecDeque<(BrokerId, OrderId)>,
    ended_set: BTreeSet<(BrokerId, OrderId)>,
    /// The last turn of each kill switch, and whether it is on. As many as there are registers of them.
    switches: BTreeMap<Scope, (u64, bool)>,
    are_records_full: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct HeardOrder {
    is_accepted: bool,
    was_unknown: bool,
    /// By the exchange's numbers.
    trades: BTreeSet<u64>,
}

impl Heard {
    /// Takes in a word. Returns whether it is new.
    fn hear(&mut self, word: &External) -> bool {
        match word {
            External::Broker(event) => self.hear_broker(event),
            External::Switch(switch) => self.hear_switch(switch),
            External::Records { is_full, .. } => {
                std::mem::replace(&mut self.are_records_full, *is_full) != *is_full
            }
        }
    }

    fn hear_switch(&mut self, switch: &KillSwitch) -> bool {
        let (version, is_on) = self.switches.get(&switch.scope).copied().unwrap_or_default();
        let is_later = switch.version > version;
        if !is_later && (switch.version > 0 || !switch.is_on || is_on) {
            return false;
        }
        let turned = (version.max(switch.version), switch.is_on);
        self.switches.insert(switch.scope.clone(), turned);
        // One that was turned on before it was agreed on has had its effect. To turn off what is off has one: it
        // gives an account back what losses took from it.
        is_on != switch.is_on || !switch.is_on
    }

    fn hear_broker(&mut self, event: &BrokerEvent) -> bool {
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

/// Words from outside, from their arrival to their turn.
#[derive(Debug, Default)]
pub(super) struct Outside {
    heard: Heard,
    /// Said, and not taken yet: steps of before come first. Bounded as the live orders.
    said: VecDeque<External>,
    /// Taken, and not out yet.
    ready: VecDeque<External>,
    /// Of before, by number, to be taken again.
    replayed: BTreeMap<u64, External>,
    /// Taken since [`Lockstep::take_events`].
    noted: Vec<(u64, External)>,
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
        self.ready.front().map(External::due)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.said.is_empty() && self.ready.is_empty()
    }
}

impl Lockstep {
    /// A word from outside. When it is due is for exec to say.
    pub fn on_outside(&mut self, word: External) {
        self.outside.said.push_back(word);
        if self.merging == Merging::Arrival {
            self.take_arrived();
        }
    }

    /// The next kill switch, where inputs are merged by key: there it takes effect between two keys.
    pub(super) fn pop_switch(&mut self) -> Option<Next> {
        while let Some(word) = self.outside.said.pop_front() {
            if let External::Switch(switch) = word
                && self.outside.heard.hear_switch(&switch)
            {
                let due = self.position.frontier;
                return Some(Next::Switch(KillSwitch { due, ..switch }));
            }
        }
        None
    }

    /// Words from outside that were taken since this was last asked, with their numbers; those taken again
    /// left out.
    pub fn take_events(&mut self) -> Vec<(u64, External)> {
        std::mem::take(&mut self.outside.noted)
    }

    /// Events that steps of before refer to.
    pub(super) fn replay_events(&mut self, events: impl IntoIterator<Item = (u64, External)>) {
        self.outside.replayed = events.into_iter().collect();
    }

    /// Takes what has been said outside.
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
    fn take_event(&mut self, number: u64, mut word: External) -> External {
        self.outside.taken = number;
        let now = Timestamp::from_nanos(self.arrivals.last.frontier.as_nanos().saturating_add(1));
        self.arrivals.last = at(now);
        match &mut word {
            External::Broker(event) => {
                event.due = now;
                event.ordinal = u32::try_from(number & u64::from(u32::MAX)).unwrap_or(0);
            }
            External::Switch(KillSwitch { due, .. }) | External::Records { due, .. } => *due = now,
        }
        self.outside.ready.push_back(word.clone());
        word
    }

    /// The next word from outside has its turn.
    pub(super) fn pop_outside(&mut self) -> Next {
        let word = self.outside.ready.pop_front().expect("the caller saw it");
        self.arrivals.out.events += 1;
        self.position = self.position.max(at(word.due()));
        let mut event = match word {
            External::Broker(event) => event,
            External::Switch(switch) => return Next::Switch(switch),
            External::Records { is_full, .. } => return Next::Records { is_full },
        };
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
