//! What nodes tell each other about the configuration.

use serde::{Deserialize, Serialize};

use super::{Digest, Entry, Replica, VersionVector};
use crate::domain::Timestamp;

/// What a sender says of itself with every message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Which replica sends.
    pub replica: Replica,
    /// It has not had everything that any other node has, yet.
    pub is_fresh: bool,
    /// Writes that it has taken in, all of them up to these.
    pub seen: VersionVector,
    /// Removals up to here may have been forgotten somewhere.
    pub forgotten: VersionVector,
    /// What its clock on the wall says.
    pub wall: Timestamp,
}

/// A message from node to node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Of whom.
    pub header: Header,
    /// What.
    pub body: Body,
}

/// What a message is about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Body {
    /// With every heartbeat: the hash of everything.
    Beat {
        /// The hash.
        root: Digest,
    },
    /// Something has changed here.
    Push {
        /// For the answer.
        number: u64,
        /// What.
        entries: Vec<(String, Entry)>,
    },
    /// A push was taken in.
    Taken {
        /// Which.
        number: u64,
    },
    /// The hash of everything is another here: these are those of the shards.
    Shards(Vec<Digest>),
    /// These shards differ: their keys are these, with their hashes.
    Keys(Vec<(u8, Vec<(String, Digest)>)>),
    /// What the receiver does not have, or has otherwise, and what it is asked for in return.
    Entries {
        /// What it does not have so.
        entries: Vec<(String, Entry)>,
        /// Keys that it has and the sender has not, or has otherwise.
        wanted: Vec<String>,
    },
}

impl Body {
    /// What it is called in counts.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Beat { .. } => "beat",
            Self::Push { .. } => "push",
            Self::Taken { .. } => "taken",
            Self::Shards(_) => "shards",
            Self::Keys(_) => "keys",
            Self::Entries { .. } => "entries",
        }
    }
}
