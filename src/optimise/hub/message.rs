//! What hubs tell each other.

use serde::{Deserialize, Serialize};

use super::log::{Author, Entry, Lengths};
use crate::optimise::{StopReason, Trial};

/// A message from one hub to another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum HubMessage {
    /// How far its sender is; said again and again.
    Summary(Summary),
    /// What was tried.
    Entries(Vec<Entry>),
    /// Whoever sends this has so much, and asks for what lies beyond.
    Want(Lengths),
    /// The best that its sender believes, for whoever searches for the same in another way.
    Best(Vec<Trial>),
}

/// How far a hub is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Who says this, and in which life.
    pub own: Author,
    /// What is searched for: strategy, data and terms. Nothing is heard from those who search for another.
    pub family: [u8; 32],
    /// And how: space, kind and seed. Only those who search in the same way share numbers.
    pub search: [u8; 32],
    /// What it has.
    pub lengths: Lengths,
    /// Numbers that are out at its explorers.
    pub leased: Vec<u64>,
    /// Why it gives nothing more out.
    pub stopped: Option<StopReason>,
    /// The best that it believes.
    pub best: Option<[u8; 32]>,
}
