//! What all nodes must agree on, as one small replicated state machine.
//!
//! ```text
//! Command ──▶ Ledger::apply ──▶ Outcome or Refusal, and Events        (in the order of the log)
//! ```
//!
//! The same commands in the same order make the same ledger, on every node. It reads no clock: that a
//! session has expired is a command, which the leader of the log proposes by its own clock ([`Expiry`]).
//!
//! | Part            | Holds                                                            |
//! |-----------------|------------------------------------------------------------------|
//! | registers       | values by key, each with the version it was written at           |
//! | sessions        | which nodes are there, and which of them coordinates             |
//! | allocation      | which node owns a shard or role, at which epoch                  |
//! | [`ChangeList`]  | changes of parameters while the pipeline runs                    |
//! | [`Slots`]       | orders that are under way at exchanges, and signals that are used |
//! | [`Locks`]       | who is at work on what, so that others need not try              |
//! | [`Keeper`]      | a node's own session: when to renew it, when it counts as lost   |
//! | [`Expiry`]      | whose session has been silent for too long                       |
//! | [`LockExpiry`]  | whose lock has lived for too long                                |
//! | [`Canvass`]     | whether a voter may stand for election                           |
//! | [`HoldExpiry`]  | whether the pipeline was held for too long                       |
//! | [`plan_voters`] | who votes                                                        |
//!
//! # Invariants
//!
//! 1. Equal histories make equal ledgers, and a snapshot restores one.
//! 2. A command that is repeated under the same [`OperationId`] takes effect once, and is answered alike.
//! 3. Revisions, versions, terms and epochs only grow; a version is never used twice.
//! 4. The coordinator is the best of the nodes that have a session; each new one has a term of its own.
//! 5. Whatever is applied, nothing panics and nothing grows beyond its bound.

mod allocation;
mod canvass;
mod changes;
mod command;
mod expiry;
mod keeper;
mod locks;
mod registers;
mod repeats;
mod sessions;
mod slots;
#[cfg(test)]
mod tests;
mod voters;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use allocation::{Allocation, Owner};
pub use canvass::{Canvass, Standpoint, would_vote};
pub use changes::{AgreedChange, AgreedHold, ChangeList, ControlCommand, HoldExpiry};
pub use command::{
    Answer, Applied, Command, EndReason, Event, Opening, Operation, OperationId, Outcome, Refusal,
};
pub use expiry::Expiry;
pub use keeper::{Keeper, KeeperEffect};
pub use locks::{
    KeeperHealth, LOCK_KEY_BYTES_MAX, LOCK_OWNER_BYTES_MAX, Lock, LockExpiry, LockHold, LockTable,
    LockWaiter, Locks, WhenAway,
};
pub use registers::Register;
pub use sessions::{Coordinator, Member, Session, SessionId};
pub use slots::{Slots, VenueStanding};
pub use voters::{Standing, VoterChange, is_caught_up, plan_voters, voters_of};

use crate::domain::{
    LockCommand, LockDone, LockEvent, LockOwner, LockRefusal, NodeId, SlotCommand,
};
use allocation::Allocations;
use registers::Registers;
use repeats::Repeats;
use sessions::Sessions;

/// Longest key of a register and longest name of a resource, in bytes.
pub const NAME_BYTES_MAX: usize = 512;

/// Largest value of a register, in bytes.
pub const VALUE_BYTES_MAX: usize = 64 << 10;

/// Most changes of slots in one command.
pub const SLOT_COMMANDS_MAX: usize = 64;

/// Most commands about locks in one command.
pub const LOCK_COMMANDS_MAX: usize = 64;

/// The state machine. Clones are snapshots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Commands applied so far.
    revision: u64,
    registers: Registers,
    sessions: Sessions,
    allocations: Allocations,
    slots: Slots,
    repeats: Repeats,
    locks: Locks,
    changes: ChangeList,
}

impl Ledger {
    /// Carries out the next command of the log.
    pub fn apply(&mut self, command: &Command) -> Applied {
        self.revision += 1;
        if let Some(id) = &command.id
            && let Some(answer) = self.repeats.find(id)
        {
            return Applied { answer, events: Vec::new() };
        }
        let mut events = Vec::new();
        let answer = self.carry_out(&command.operation, &mut events);
        self.end_sessions(&mut events);
        if let Some(id) = &command.id {
            self.repeats.remember(id, self.revision, &answer);
        }
        Applied { answer, events }
    }

    fn carry_out(&mut self, operation: &Operation, events: &mut Vec<Event>) -> Answer {
        let revision = self.revision;
        match operation {
            Operation::Cas { key, expected, value } => {
                self.registers.cas(key, *expected, value.as_deref(), revision, events)
            }
            Operation::OpenSession(opening) => self.sessions.open(opening, revision, events),
            Operation::RenewSession { session } => self.sessions.renew(*session),
            Operation::ExpireSession { session, renewals } => {
                self.sessions.expire(*session, *renewals, events)
            }
            Operation::CloseSession { session } => self.sessions.close(*session, events),
            Operation::Allocate { term, resource, owner } => {
                let owner = self.owner(*term, owner.as_ref())?;
                self.allocations.allocate(resource, owner, events)
            }
            Operation::Forget { node } => self.sessions.forget(node),
            Operation::Promote { node } => self.sessions.promote(node.as_ref(), events),
            Operation::Slots(commands) => self.change_slots(commands),
            Operation::Locks(commands) => self.change_locks(commands, events),
            Operation::Control(command) => {
                let ControlCommand::Hold { session, .. } = command else {
                    return self.changes.apply(
                        command,
                        (revision, true),
                        &self.allocations,
                        events,
                    );
                };
                let has_session = self.sessions().contains_key(session);
                self.changes.apply(command, (revision, has_session), &self.allocations, events)
            }
        }
    }

    /// Takes their locks, and the hold, from the sessions that have ended.
    fn end_sessions(&mut self, events: &mut Vec<Event>) {
        let (mut happened, mut ended) = (Vec::new(), Vec::new());
        for event in &*events {
            if let Event::SessionEnded { session, .. } = event {
                self.locks.end_session(session.0, &mut happened);
                ended.push(*session);
            }
        }
        events.extend(happened.into_iter().map(Event::Lock));
        ended.into_iter().for_each(|session| self.changes.end_session(session, events));
    }

    /// Each for itself, as with slots.
    fn change_locks(&mut self, commands: &[LockCommand], events: &mut Vec<Event>) -> Answer {
        if commands.len() > LOCK_COMMANDS_MAX {
            let limit = LOCK_COMMANDS_MAX as u64;
            return Err(Refusal::Full {
                what: "commands about locks in one command".into(),
                limit,
            });
        }
        let mut happened = Vec::new();
        let results =
            commands.iter().map(|command| self.change_lock(command, &mut happened)).collect();
        events.extend(happened.into_iter().map(Event::Lock));
        Ok(Outcome::Locks(results))
    }

    fn change_lock(
        &mut self,
        command: &LockCommand,
        happened: &mut Vec<LockEvent>,
    ) -> Result<LockDone, LockRefusal> {
        if let LockCommand::Acquire { owner: LockOwner { session, .. }, .. } = command
            && !self.sessions().contains_key(&SessionId(*session))
        {
            return Err(LockRefusal::SessionEnded { session: *session });
        }
        self.locks.apply(command, self.revision, happened)
    }

    /// Each for itself: one that is refused keeps none of the others from being carried out.
    fn change_slots(&mut self, commands: &[SlotCommand]) -> Answer {
        if commands.len() > SLOT_COMMANDS_MAX {
            let limit = SLOT_COMMANDS_MAX as u64;
            return Err(Refusal::Full { what: "changes of slots in one command".into(), limit });
        }
        Ok(Outcome::Slots(commands.iter().map(|command| self.slots.apply(command)).collect()))
    }

    /// The owner that the coordinator of `term` means.
    fn owner(&self, term: u64, owner: Option<&NodeId>) -> Result<Option<Owner>, Refusal> {
        let coordinator = self.sessions.coordinator();
        if coordinator.term != term || coordinator.holder.is_none() {
            return Err(Refusal::Term { given: term, current: coordinator.term });
        }
        let Some(node) = owner else { return Ok(None) };
        let session = self.sessions.of(node);
        let session = session.ok_or_else(|| Refusal::NoSession { node: node.clone() })?;
        Ok(Some(Owner { node: node.clone(), session }))
    }

    /// Commands applied so far.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The register called `key`.
    pub fn read(&self, key: &str) -> Option<&Register> {
        self.registers.read(key)
    }

    /// The registers whose keys begin with `prefix`, by key.
    pub fn list<'l>(&'l self, prefix: &'l str) -> impl Iterator<Item = (&'l str, &'l Register)> {
        self.registers.list(prefix)
    }

    /// Who coordinates.
    pub fn coordinator(&self) -> &Coordinator {
        self.sessions.coordinator()
    }

    /// Who goes before all others, whether or not it is there just now; none, if nobody was promoted.
    pub fn promoted(&self) -> Option<&NodeId> {
        self.sessions.promoted()
    }

    /// The sessions that are open, oldest first.
    pub fn sessions(&self) -> &BTreeMap<SessionId, Session> {
        self.sessions.open_ones()
    }

    /// Every node that has a copy of the ledger, whether or not it is there just now.
    pub fn members(&self) -> &BTreeMap<NodeId, Member> {
        self.sessions.members()
    }

    /// Who owns `resource`; none, if it was never allocated.
    pub fn allocation(&self, resource: &str) -> Option<&Allocation> {
        self.allocations.get(resource)
    }

    /// Orders that are under way, and signals that are used.
    pub fn slots(&self) -> &Slots {
        &self.slots
    }

    /// Changes of parameters of the run there is.
    pub fn changes(&self) -> &ChangeList {
        &self.changes
    }

    /// Who is at work on what.
    pub fn locks(&self) -> &Locks {
        &self.locks
    }

    /// Who owns what, by name.
    pub fn allocations(&self) -> &BTreeMap<String, Allocation> {
        self.allocations.all()
    }
}
