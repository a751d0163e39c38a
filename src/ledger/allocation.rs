//! Which node owns a shard or role, at which epoch.
//!
//! Frames, acknowledgements and checkpoints of an owner carry its epoch; any other is refused. So an
//! owner that was cut off can do no harm, whatever it still believes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::registers::check_length;
use super::{Answer, Event, NAME_BYTES_MAX, Outcome, Refusal, SessionId};
use crate::domain::NodeId;

/// Resources there may be. They are never removed, or their epochs would begin again.
const RESOURCES_MAX: usize = 4_096;

/// Whose a resource is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Which node.
    pub node: NodeId,
    /// The session that it had then. When that has ended the resource waits for another owner, and the
    /// same node, back again, is another one.
    pub session: SessionId,
}

/// One resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocation {
    /// Who; none, if nobody.
    pub owner: Option<Owner>,
    /// Grows with every change of owner.
    pub epoch: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Allocations {
    /// At most [`RESOURCES_MAX`].
    all: BTreeMap<String, Allocation>,
}

impl Allocations {
    pub(super) fn get(&self, resource: &str) -> Option<&Allocation> {
        self.all.get(resource)
    }

    pub(super) fn all(&self) -> &BTreeMap<String, Allocation> {
        &self.all
    }

    pub(super) fn allocate(
        &mut self,
        resource: &str,
        owner: Option<Owner>,
        events: &mut Vec<Event>,
    ) -> Answer {
        check_length(resource.len(), NAME_BYTES_MAX)?;
        if !self.all.contains_key(resource) && self.all.len() >= RESOURCES_MAX {
            let limit = RESOURCES_MAX as u64;
            return Err(Refusal::Full { what: "allocations".into(), limit });
        }
        let allocation = self.all.entry(resource.to_owned()).or_default();
        if allocation.epoch == 0 || allocation.owner != owner {
            allocation.owner = owner;
            allocation.epoch += 1;
            events.push(Event::Allocated {
                resource: resource.to_owned(),
                owner: allocation.owner.as_ref().map(|owner| owner.node.clone()),
                epoch: allocation.epoch,
            });
        }
        Ok(Outcome::Allocated { epoch: allocation.epoch })
    }
}
