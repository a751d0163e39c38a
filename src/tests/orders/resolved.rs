//! How soon it is known what became of an intent, once faults have stopped.
//!
//! It is when a core has the exchange's word: the order is there, or never will be. (Its trades are asked for and the end of
//! its slot is committed after that, behind what other orders have to commit.) The bound is the deadline and the time to
//! settle after an error, both by the exchange's clock, then two round trips and a second. It follows for
//!
//! - an intent that is committed after faults have stopped, by a core that goes on: half a round trip later the core
//!   hears of the commit and sends, one more later it has an answer, and if that is that the name is known, another
//!   later the order. It waits for no deadline, and so is not given the time to;
//! - any other, where there are deadlines. It may be nobody's, or its core may wait for a message that is a minute late.
//!   So it is timed from when the last of those has come and everybody has been told to read the slots again
//!   (`Event::Reconcile`); and since a core that has yet to open an order of the same signal learns of the intent only
//!   when the ledger refuses that, after as long as it takes to commit what may be queued before it, three times for
//!   each order: by a wrong guess of its generation, by the right one, and by another after somebody was faster. From
//!   then on the core waits until what it knows of the exchange's clock, which lags by
//!   half a round trip and a thousandth of a second, shows the time; one question for the time may have been put too early,
//!   another is answered, and then that for the order is: three round trips and a half, and 0.56 s are less than
//!   1.32 s. An earlier attempt may have had a later deadline, where the exchange's time was not known: the last counts.
//!
//! Without deadlines such an intent is judged at the end alone: who is slower to begin a session begins another one, and
//! what may be sent again is so only while somebody wants it.

use std::collections::BTreeMap;

use tickwright_core::domain::{SlotCommand, SlotDone, SlotKey, SlotRefusal, SlotState, Timestamp};
use tickwright_core::pipeline::orders::{OrderStanding, Orders, Resolution};

use crate::world::{MILLISECOND, SECOND, SETTLE_AFTER_ERROR, WAY_MS, World};

/// There and back, at most, once faults have stopped.
const ROUND_TRIP: u64 = 2 * WAY_MS * MILLISECOND;

/// How often each order may be committed to be opened before one that waits behind it.
const OPENINGS: u64 = 3;

/// A slot, which use of it, and which attempt.
type Attempt = (SlotKey, u64, u32);

/// What may not be known yet.
#[derive(Debug, Default)]
pub(crate) struct Intents {
    unresolved: BTreeMap<Attempt, Unresolved>,
    /// The last deadline of any attempt, by the exchange's clock.
    deadlines: BTreeMap<(SlotKey, u64), Timestamp>,
    pub(crate) timed: Timed,
}

#[derive(Clone, Copy, Debug)]
struct Unresolved {
    account: usize,
    /// From when on it is timed.
    since: u64,
    /// How long it may take.
    bound: u64,
}

/// What was timed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Timed {
    pub(crate) intents: u64,
    slowest_ms: u64,
    /// The slowest again, in percent of what it was given.
    slowest_percent: u64,
}

impl Timed {
    pub(crate) fn add(&mut self, other: Self) {
        self.intents += other.intents;
        self.slowest_ms = self.slowest_ms.max(other.slowest_ms);
        self.slowest_percent = self.slowest_percent.max(other.slowest_percent);
    }
}

impl Intents {
    /// The ledger is lost, and every intent in it.
    pub(crate) fn forget(&mut self) {
        self.unresolved.clear();
        self.deadlines.clear();
    }
}

impl World {
    /// Takes note of the intents that the ledger has taken from a life of an executor.
    pub(crate) fn note_intents(
        &mut self,
        from: (usize, u64),
        commands: &[SlotCommand],
        results: &[Result<SlotDone, SlotRefusal>],
    ) {
        for (command, result) in commands.iter().zip(results) {
            let (slot, generation, attempt, deadline) = match command {
                SlotCommand::Open { slot, generation, intent, .. } => {
                    (slot, *generation, 1, intent.deadline)
                }
                SlotCommand::Retry { slot, generation, attempt, deadline, .. } => {
                    (slot, *generation, attempt + 1, *deadline)
                }
                _ => continue,
            };
            if result.is_err() {
                continue;
            }
            let last = self.intents.deadlines.entry((slot.clone(), generation)).or_default();
            *last = deadline.max(*last);
            let last = *last;
            if let Some(unresolved) = self.timing(from, last) {
                self.intents.unresolved.insert((slot.clone(), generation, attempt), unresolved);
            }
        }
    }

    /// How an intent is timed that is committed now; none, if that is for the end.
    fn timing(&self, (number, life): (usize, u64), deadline: Timestamp) -> Option<Unresolved> {
        let executor = &self.executors[number];
        let account = executor.account;
        let after = 2 * ROUND_TRIP + SECOND;
        if self.is_calm() && executor.life == life && executor.core.is_some() {
            return Some(Unresolved { account, since: self.now, bound: after });
        }
        if self.resolution() != Resolution::Deadline {
            return None;
        }
        let queued = OPENINGS * self.scenario.orders as u64 * ROUND_TRIP;
        let since = self.now.max(self.calm() + 61 * SECOND + queued);
        let settled = deadline.as_nanos() + SETTLE_AFTER_ERROR;
        let settled = settled.saturating_sub(self.exchanges[account].offset);
        Some(Unresolved { account, since, bound: settled.saturating_sub(since) + after })
    }

    /// Looks which intents are resolved by now. One that took too long breaks the property.
    pub(crate) fn judge_resolved(&mut self) -> Result<(), String> {
        for (key, intent) in std::mem::take(&mut self.intents.unresolved) {
            if !self.is_resolved(&key, intent) {
                self.intents.unresolved.insert(key, intent);
                continue;
            }
            let took = self.now.saturating_sub(intent.since);
            if took > intent.bound {
                return Err(too_late(&key, intent, &format!("resolved after {}", text(took))));
            }
            self.intents.timed.add(Timed {
                intents: 1,
                slowest_ms: took / MILLISECOND,
                slowest_percent: took * 100 / intent.bound,
            });
        }
        Ok(())
    }

    /// That none is left.
    pub(crate) fn judge_all_resolved(&self) -> Result<(), String> {
        let left = self.intents.unresolved.first_key_value();
        left.map_or(Ok(()), |(key, intent)| {
            let waited = self.now.saturating_sub(intent.since);
            Err(too_late(key, *intent, &format!("not resolved after {}", text(waited))))
        })
    }

    fn is_resolved(&self, (slot, generation, attempt): &Attempt, intent: Unresolved) -> bool {
        let held = self.slots.find(slot).filter(|held| held.generation == *generation);
        let state = held.map(|held| &held.state);
        let Some(SlotState::Intent { intent: held, attempt: last }) = state else { return true };
        let is_timed = self.now >= intent.since;
        last != attempt || is_timed && self.is_known(intent.account, held.client_id.as_str())
    }

    /// Whether a core of the account has the exchange's word of an order, or waits for a person's.
    pub(crate) fn is_known(&self, account: usize, client_id: &str) -> bool {
        let executors = self.executors.iter().filter(|executor| executor.account == account);
        let cores = executors.filter_map(|executor| executor.core.as_ref());
        cores.flat_map(Orders::standing).any(|it| it.client_id == client_id && has_word(&it))
    }
}

fn has_word(order: &OrderStanding) -> bool {
    let known = ["over; ", "it was not there; ", "nobody can find out "];
    order.exchange_order.is_some() || known.iter().any(|known| order.doing.starts_with(known))
}

fn too_late((slot, generation, attempt): &Attempt, intent: Unresolved, what: &str) -> String {
    let (since, bound) = (text(intent.since), text(intent.bound));
    format!(
        "(4) attempt {attempt} of {slot}#{generation}, timed from {since} on, is {what}, and not \
         within {bound}"
    )
}

fn text(nanoseconds: u64) -> String {
    format!("{} ms", nanoseconds / MILLISECOND)
}
