//! Order slots and used signals, see [`crate::domain::Slot`].
//!
//! # Invariants
//!
//! 1. A generation of a slot has at most one intent, ever.
//! 2. A signal of an account has at most one intent, and one more, elsewhere, for each refusal of it on record.
//! 3. A generation ends before the next begins, and generations of a slot only grow.
//! 4. Without a reconciliation in this ledger no intent is written.
//! 5. What is done for one account uses no signal of another up, nor a refusal.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::{
    EndedIntent, OrderId, OrderIntent, SignalIdentity, Slot, SlotCommand, SlotDone, SlotKey,
    SlotOutcome, SlotRefusal, SlotRight, SlotState, Symbol, VenueAccount,
};

/// Orders that may be under way, over all accounts.
const OPEN_MAX: usize = 16_384;

/// Slots that are free and remembered. One that is forgotten begins again at a generation that no
/// forgotten one had reached.
const FREE_MAX: usize = 4_096;

/// Accounts there may be.
const VENUES_MAX: usize = 64;

/// Symbols of accounts of runs whose last used signal is remembered.
const LANES_MAX: usize = 65_536;

/// Longest name of an exchange, account, run or strategy, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// An account, since this ledger began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VenueStanding {
    /// Whether what the exchange has is known.
    pub is_reconciled: bool,
    /// The last session at the exchange that was given out; 0, if none was.
    pub session: u64,
}

/// Within which signals are used in their order: a run, an account, a symbol. An account's orders are committed
/// beside those of others, so that what one has used says nothing of the next.
type Lane = (String, String, Symbol);

/// All slots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slots {
    cluster: Option<u64>,
    /// At most [`VENUES_MAX`].
    venues: BTreeMap<VenueAccount, VenueStanding>,
    /// Those with an order; at most [`OPEN_MAX`].
    open: BTreeMap<SlotKey, Slot>,
    /// Those without, and which end of an order freed each; at most [`FREE_MAX`].
    free: BTreeMap<SlotKey, (Slot, u64)>,
    /// The free ones, longest free first.
    freed: BTreeMap<u64, SlotKey>,
    /// Orders that have ended.
    ended: u64,
    /// Where a slot that is not remembered begins.
    generation_new: u64,
    /// The last signal used in each; at most [`LANES_MAX`].
    used: BTreeMap<Lane, OrderId>,
}

impl Slots {
    /// The number of these slots; none, if they have not been founded.
    pub fn cluster(&self) -> Option<u64> {
        self.cluster
    }

    /// How an account stands.
    pub fn venue(&self, venue: &VenueAccount) -> VenueStanding {
        self.venues.get(venue).copied().unwrap_or_default()
    }

    /// The generation at which an intent in `slot` can be written, or is.
    pub fn generation(&self, slot: &SlotKey) -> u64 {
        self.find(slot).map_or(self.generation_new, |slot| slot.generation)
    }

    /// What is remembered of `slot`.
    pub fn find(&self, slot: &SlotKey) -> Option<&Slot> {
        self.open.get(slot).or_else(|| self.free.get(slot).map(|(slot, _)| slot))
    }

    /// The slots that hold an order, in order.
    pub fn open(&self) -> impl Iterator<Item = (&SlotKey, &Slot)> {
        self.open.iter()
    }

    /// The slots that hold an order of an account.
    pub fn open_of<'s>(
        &'s self,
        venue: &'s VenueAccount,
    ) -> impl Iterator<Item = (&'s SlotKey, &'s Slot)> {
        self.open.iter().filter(move |(key, _)| key.venue == *venue)
    }

    /// Which use of which slot of an account was refused for good, if that was an order of this signal.
    pub fn refused(&self, venue: &VenueAccount, signal: &SignalIdentity) -> Option<(SlotKey, u64)> {
        let free = self.free.iter().map(|(key, (slot, _))| (key, slot));
        // The next order may have its slot already.
        let of_venue = free.chain(&self.open).filter(|(key, _)| key.venue == *venue);
        let mut refused = of_venue.filter_map(|(key, slot)| Some((key, slot.last.as_ref()?)));
        let (key, last) = refused.find(|(_, last)| {
            last.signal == *signal && last.outcome == SlotOutcome::Refused && !last.is_passed_on
        })?;
        Some((key.clone(), last.generation))
    }

    /// Whether a signal, or a later one of its symbol, was used for an account.
    pub fn is_used(&self, account: &str, signal: &SignalIdentity) -> bool {
        self.used.get(&lane(account, signal)).is_some_and(|&last| signal.id <= last)
    }

    /// Carries out one change.
    ///
    /// # Errors
    ///
    /// [`SlotRefusal`]; nothing changed then.
    pub fn apply(&mut self, command: &SlotCommand) -> Result<SlotDone, SlotRefusal> {
        match command {
            SlotCommand::Found { cluster } => {
                Ok(SlotDone::Cluster(*self.cluster.get_or_insert(*cluster)))
            }
            SlotCommand::Reconciled { venue } => {
                self.venue_mut(venue)?.is_reconciled = true;
                Ok(SlotDone::Done)
            }
            SlotCommand::Seal { venue } => {
                let standing = self.venue_mut(venue)?;
                standing.session += 1;
                Ok(SlotDone::Sealed(standing.session))
            }
            SlotCommand::Open { slot, generation, intent, right } => {
                self.open_intent(slot, *generation, intent, right)
            }
            SlotCommand::Retry { slot, generation, attempt, deadline, request } => {
                let state = &mut self.at(slot, *generation)?.state;
                match state {
                    SlotState::Intent { intent, attempt: last } if last == attempt => {
                        *last = last.saturating_add(1);
                        (intent.deadline, intent.request) = (*deadline, *request);
                        Ok(SlotDone::Done)
                    }
                    SlotState::Free
                    | SlotState::Intent { .. }
                    | SlotState::Placed { .. }
                    | SlotState::Closing { .. }
                    | SlotState::Quarantine { .. } => Err(self.conflict(slot)),
                }
            }
            SlotCommand::Placed { slot, generation } => {
                let state = &mut self.at(slot, *generation)?.state;
                if let SlotState::Intent { intent, .. } | SlotState::Quarantine { intent, .. } =
                    state
                {
                    *state = SlotState::Placed { intent: intent.clone() };
                }
                Ok(SlotDone::Done)
            }
            SlotCommand::End { slot, generation, attempt, outcome } => {
                self.end(slot, *generation, *attempt, *outcome)
            }
            SlotCommand::Quarantine { slot, generation } => {
                let state = &mut self.at(slot, *generation)?.state;
                if let SlotState::Intent { intent, attempt } = state {
                    let (intent, attempt) = (intent.clone(), *attempt);
                    *state = SlotState::Quarantine { intent, attempt };
                }
                Ok(SlotDone::Done)
            }
            SlotCommand::Close { slot, generation } => {
                let state = &mut self.at(slot, *generation)?.state;
                // Of one that is not known to be there, that is found out first.
                if let SlotState::Placed { intent } = state {
                    *state = SlotState::Closing { intent: intent.clone() };
                }
                Ok(SlotDone::Done)
            }
        }
    }

    fn venue_mut(&mut self, venue: &VenueAccount) -> Result<&mut VenueStanding, SlotRefusal> {
        check_names([&venue.exchange, &venue.account])?;
        if !self.venues.contains_key(venue) {
            check_room(self.venues.len(), VENUES_MAX, "accounts")?;
        }
        Ok(self.venues.entry(venue.clone()).or_default())
    }

    fn open_intent(
        &mut self,
        slot: &SlotKey,
        generation: u64,
        intent: &OrderIntent,
        right: &SlotRight,
    ) -> Result<SlotDone, SlotRefusal> {
        let signal = &intent.signal;
        check_names([&slot.venue.exchange, &slot.venue.account, &signal.run, &signal.strategy])?;
        if !self.venue(&slot.venue).is_reconciled {
            return Err(SlotRefusal::NotReconciled);
        }
        // Before the slot: whoever asks again for what is under way is to hear that it is.
        let account = &slot.venue.account;
        if *right == SlotRight::NewSignal && self.is_used(account, signal) {
            return Err(SlotRefusal::Consumed);
        }
        if self.open.contains_key(slot) || self.generation(slot) != generation {
            return Err(self.conflict(slot));
        }
        check_room(self.open.len(), OPEN_MAX, "orders")?;
        match right {
            SlotRight::NewSignal => {
                let lane = lane(account, signal);
                if !self.used.contains_key(&lane) {
                    check_room(self.used.len(), LANES_MAX, "symbols of accounts of runs")?;
                }
                self.used.insert(lane, signal.id);
            }
            SlotRight::RefusedBy { slot: other, generation } => {
                let free = self.free.get_mut(other).map(|(slot, _)| slot);
                let slot = free.or_else(|| self.open.get_mut(other));
                let refused = slot.and_then(|slot| slot.last.as_mut());
                let refused = refused.filter(|last| {
                    other.venue.account == *account
                        && last.generation == *generation
                        && last.signal == *signal
                        && last.outcome == SlotOutcome::Refused
                        && !last.is_passed_on
                });
                refused.ok_or(SlotRefusal::NotRefused)?.is_passed_on = true;
            }
        }
        let last = self.take_free(slot).and_then(|slot| slot.last);
        let state = SlotState::Intent { intent: intent.clone(), attempt: 1 };
        self.open.insert(slot.clone(), Slot { generation, state, last });
        Ok(SlotDone::Done)
    }

    fn end(
        &mut self,
        key: &SlotKey,
        generation: u64,
        attempt: Option<u32>,
        outcome: SlotOutcome,
    ) -> Result<SlotDone, SlotRefusal> {
        let slot = self.at(key, generation)?;
        let is_meant = match (&slot.state, attempt) {
            (SlotState::Free, _) => false,
            (_, None) => true,
            (SlotState::Intent { attempt: last, .. }, Some(attempt)) => *last == attempt,
            (
                SlotState::Placed { .. } | SlotState::Closing { .. } | SlotState::Quarantine { .. },
                Some(_),
            ) => false,
        };
        let intent = slot.intent().filter(|_| is_meant);
        let Some(signal) = intent.map(|intent| intent.signal.clone()) else {
            return Err(self.conflict(key));
        };
        self.open.remove(key);
        let last = Some(EndedIntent { generation, signal, outcome, is_passed_on: false });
        let slot = Slot { generation: generation + 1, state: SlotState::Free, last };
        self.ended += 1;
        self.freed.insert(self.ended, key.clone());
        self.free.insert(key.clone(), (slot, self.ended));
        if self.free.len() > FREE_MAX
            && let Some((_, oldest)) = self.freed.pop_first()
            && let Some((slot, _)) = self.free.remove(&oldest)
        {
            self.generation_new = self.generation_new.max(slot.generation);
        }
        Ok(SlotDone::Done)
    }

    /// Takes a slot out of the free ones.
    fn take_free(&mut self, key: &SlotKey) -> Option<Slot> {
        let (slot, ended) = self.free.remove(key)?;
        self.freed.remove(&ended);
        Some(slot)
    }

    /// The open slot at `generation`.
    fn at(&mut self, key: &SlotKey, generation: u64) -> Result<&mut Slot, SlotRefusal> {
        let refusal = self.conflict(key);
        let slot = self.open.get_mut(key).filter(|slot| slot.generation == generation);
        slot.ok_or(refusal)
    }

    fn conflict(&self, key: &SlotKey) -> SlotRefusal {
        let attempt = self.find(key).map_or(0, |slot| match &slot.state {
            SlotState::Free => 0,
            SlotState::Intent { attempt, .. } | SlotState::Quarantine { attempt, .. } => *attempt,
            SlotState::Placed { .. } | SlotState::Closing { .. } => u32::MAX,
        });
        SlotRefusal::Conflict { generation: self.generation(key), attempt }
    }
}

fn lane(account: &str, signal: &SignalIdentity) -> Lane {
    (signal.run.clone(), account.to_owned(), signal.symbol.clone())
}

fn check_names<const N: usize>(names: [&String; N]) -> Result<(), SlotRefusal> {
    let is_long = names.iter().any(|name| name.len() > NAME_BYTES_MAX);
    let limit = NAME_BYTES_MAX as u64;
    if is_long { Err(SlotRefusal::TooLong { limit }) } else { Ok(()) }
}

fn check_room(count: usize, limit: usize, what: &str) -> Result<(), SlotRefusal> {
    if count < limit {
        return Ok(());
    }
    Err(SlotRefusal::Full { what: what.to_owned(), limit: limit as u64 })
}

#[cfg(test)]
mod tests;
