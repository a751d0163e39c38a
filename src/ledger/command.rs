//! What can be asked of the ledger, and what it says.

use serde::{Deserialize, Serialize};

use super::{ControlCommand, Coordinator, SessionId};
use crate::domain::{
    Incarnation, LockCommand, LockDone, LockEvent, LockRefusal, NodeId, SlotCommand, SlotDone,
    SlotRefusal, Timestamp,
};

/// Which command this is, so that one that is sent again takes effect once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OperationId {
    /// One life of one node.
    pub client: u64,
    /// Which of its commands.
    pub number: u64,
    /// A revision that the ledger had reached before the command was sent first. What the ledger still
    /// remembers reaches back to some revision; a command from before it is refused and not repeated.
    pub since: u64,
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// None for what does no harm when it is repeated.
    pub id: Option<OperationId>,
    /// What to do.
    pub operation: Operation,
}

/// What to do. The order of the variants is part of the format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    /// Write a register, or remove it, if it is at a certain version.
    Cas {
        /// Which.
        key: String,
        /// The version it must have; 0, if there must be none.
        expected: u64,
        /// What it is to hold; none removes it.
        value: Option<Vec<u8>>,
    },
    /// A node is there.
    OpenSession(Opening),
    /// It still is.
    RenewSession {
        /// Its session.
        session: SessionId,
    },
    /// Nobody has heard of it for too long.
    ExpireSession {
        /// Its session.
        session: SessionId,
        /// How often it had been renewed when that was found: a renewal meanwhile saves it.
        renewals: u64,
    },
    /// The node says goodbye.
    CloseSession {
        /// Its session.
        session: SessionId,
    },
    /// The coordinator gives a shard or role to a node, or takes it from all.
    Allocate {
        /// The coordinator's term.
        term: u64,
        /// What is given.
        resource: String,
        /// To whom.
        owner: Option<NodeId>,
    },
    /// A node will never come back: its copy of the ledger does not count any more.
    Forget {
        /// Which.
        node: NodeId,
    },
    /// A node is to coordinate before all others whenever it is there; none, nobody goes first.
    Promote {
        /// Which.
        node: Option<NodeId>,
    },
    /// Changes of order slots, each for itself; at most [`super::SLOT_COMMANDS_MAX`].
    Slots(Vec<SlotCommand>),
    /// Commands about locks, each for itself; at most [`super::LOCK_COMMANDS_MAX`].
    Locks(Vec<LockCommand>),
    /// About changes of parameters.
    Control(ControlCommand),
}

/// What a node says of itself when it opens a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// Its name.
    pub node: NodeId,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// Its copy of the ledger: another one after its disk was lost.
    pub replica: u64,
    /// Among nodes that could coordinate, the one with the highest does.
    pub priority: u32,
    /// Whether it does nothing but vote.
    pub is_witness: bool,
}

/// What came of a command.
pub type Answer = Result<Outcome, Refusal>;

/// It was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// A register was written or removed at this version.
    Written {
        /// Which it has from now on, if it was written.
        version: u64,
    },
    /// The node has this session.
    Opened {
        /// Which.
        session: SessionId,
    },
    /// The session goes on.
    Renewed,
    /// There is no such session any more.
    Ended,
    /// The resource has this epoch.
    Allocated {
        /// Which.
        epoch: u64,
    },
    /// The node is forgotten.
    Forgotten,
    /// The node goes before all others.
    Promoted {
        /// The coordinator's term.
        term: u64,
    },
    /// What came of each change of slots.
    Slots(Vec<Result<SlotDone, SlotRefusal>>),
    /// What came of each command about locks.
    Locks(Vec<Result<LockDone, LockRefusal>>),
    /// It was done.
    Controlled {
        /// The number of the last hold there was.
        number: u64,
    },
}

/// It was not done, and nothing changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Refusal {
    /// The register is at another version.
    #[error("the register is at version {version}, not at {expected}")]
    Conflict {
        /// Which was expected.
        expected: u64,
        /// Which it has; 0, if there is none.
        version: u64,
    },
    /// A name or value is too long.
    #[error("{bytes} bytes are more than the {limit} that are taken")]
    TooLarge {
        /// How long it is.
        bytes: u64,
        /// How long it may be.
        limit: u64,
    },
    /// There is no room.
    #[error("the ledger holds as many {what} as it can: {limit}")]
    Full {
        /// Of what.
        what: String,
        /// How much there may be.
        limit: u64,
    },
    /// There is no such session, or not any more.
    #[error("session {} has ended", .session.0)]
    SessionEnded {
        /// Which.
        session: SessionId,
    },
    /// The session was renewed meanwhile.
    #[error("session {} has been renewed", .session.0)]
    SessionRenewed {
        /// Which.
        session: SessionId,
    },
    /// A later life of the node has been seen.
    #[error("a later life of node {node} has been seen: {incarnation}")]
    LaterLife {
        /// Which node.
        node: NodeId,
        /// Which life.
        incarnation: Incarnation,
    },
    /// Whoever commands does not coordinate, or not any more.
    #[error("term {given} is not the coordinator's: {current}")]
    Term {
        /// The term of the command.
        given: u64,
        /// The term there is.
        current: u64,
    },
    /// The node has no session.
    #[error("node {node} has no session")]
    NoSession {
        /// Which.
        node: NodeId,
    },
    /// The node is there.
    #[error("node {node} has a session; stop it first")]
    HasSession {
        /// Which.
        node: NodeId,
    },
    /// The command may have been carried out before; the ledger does not remember back so far.
    #[error("the ledger does not remember whether this was done before; read what it holds")]
    TooOld,
    /// The node does nothing but vote.
    #[error("node {node} is a witness, which does nothing but vote")]
    Witness {
        /// Which.
        node: NodeId,
    },
    /// Somebody else is about to change parameters.
    #[error("parameters are being changed already, from {} ns on; ask again", .at.as_nanos())]
    Held {
        /// From when on.
        at: Timestamp,
        /// Who, as the session of its node.
        session: SessionId,
    },
    /// The pipeline is not held any more, or not by this.
    #[error("the pipeline is not held any more by hold {number}")]
    HoldEnded {
        /// Which.
        number: u64,
    },
    /// The pipeline is held from later on.
    #[error("the pipeline is held from {} ns on, not from {} ns", .held_at.as_nanos(), .at.as_nanos())]
    NotHeld {
        /// When parameters were to change.
        at: Timestamp,
        /// Where the pipeline is held.
        held_at: Timestamp,
    },
    /// A part of the pipeline has another life by now.
    #[error("{resource} has moved; it is at epoch {epoch}")]
    Moved {
        /// Which part.
        resource: String,
        /// Its epoch.
        epoch: u64,
    },
    /// Everything has been decided.
    #[error("the run is over")]
    RunOver,
}

/// What one command did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// For whoever sent it.
    pub answer: Answer,
    /// For whoever watches.
    pub events: Vec<Event>,
}

/// What has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A register.
    Register {
        /// Which.
        key: String,
        /// Its version now, or the one it was removed at.
        version: u64,
        /// What it holds; none, if it was removed.
        value: Option<Vec<u8>>,
    },
    /// A node is there.
    SessionOpened {
        /// Its session.
        session: SessionId,
        /// Which.
        node: NodeId,
    },
    /// A node is not there any more.
    SessionEnded {
        /// Its session.
        session: SessionId,
        /// Which.
        node: NodeId,
        /// Why.
        reason: EndReason,
    },
    /// Another node coordinates, or none.
    Coordinator(Coordinator),
    /// Another node goes before all others, or nobody does.
    Promoted {
        /// Which.
        node: Option<NodeId>,
    },
    /// A resource has another owner.
    Allocated {
        /// Which.
        resource: String,
        /// Who; none, if nobody.
        owner: Option<NodeId>,
        /// At which epoch.
        epoch: u64,
    },
    /// Of a lock.
    Lock(LockEvent),
    /// Parameters have changed, or are about to.
    Control,
}

impl Event {
    /// Whether it is a register whose key begins with `prefix`.
    pub fn is_register_under(&self, prefix: &str) -> bool {
        matches!(self, Self::Register { key, .. } if key.starts_with(prefix))
    }
}

/// Why a session has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// It was not renewed.
    Expired,
    /// Its node said goodbye.
    Closed,
    /// Its node has started again.
    Replaced,
}
