//! Which nodes are there, and which of them coordinates.
//!
//! A node that is there has a session; one that was there, and has a copy of the ledger, is a member
//! until it is forgotten. The coordinator is, among those with a session, the node that was promoted, if
//! any was; else the one with the highest priority; of several, the first by name. A witness never is.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::registers::check_length;
use super::{Answer, EndReason, Event, NAME_BYTES_MAX, Opening, Outcome, Refusal};
use crate::domain::{Incarnation, NodeId};

/// Members there may be.
const MEMBERS_MAX: usize = 256;

/// A session: the revision it was opened at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(pub u64);

/// A node that is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// What it said when it came.
    pub opening: Opening,
    /// How often it has been renewed.
    pub renewals: u64,
}

/// A node that has a copy of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its last life.
    pub incarnation: Incarnation,
    /// Its copy.
    pub replica: u64,
    /// Whether it does nothing but vote.
    pub is_witness: bool,
    /// Its session, while it is there.
    pub session: Option<SessionId>,
}

/// Who coordinates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coordinator {
    /// Grows with every coordinator. Whoever has seen one refuses commands of lower ones.
    pub term: u64,
    /// Who; none, if nobody can.
    pub holder: Option<(NodeId, SessionId)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sessions {
    /// At most one per member.
    open: BTreeMap<SessionId, Session>,
    /// At most [`MEMBERS_MAX`].
    members: BTreeMap<NodeId, Member>,
    coordinator: Coordinator,
    /// Who goes before all others, whether or not it is there just now.
    promoted: Option<NodeId>,
}

impl Sessions {
    pub(super) fn open_ones(&self) -> &BTreeMap<SessionId, Session> {
        &self.open
    }

    pub(super) fn members(&self) -> &BTreeMap<NodeId, Member> {
        &self.members
    }

    pub(super) fn coordinator(&self) -> &Coordinator {
        &self.coordinator
    }

    pub(super) fn promoted(&self) -> Option<&NodeId> {
        self.promoted.as_ref()
    }

    /// From now on `node` goes before all others; or nobody does.
    pub(super) fn promote(&mut self, node: Option<&NodeId>, events: &mut Vec<Event>) -> Answer {
        if let Some(node) = node {
            let member = self.members.get(node).filter(|member| member.session.is_some());
            let member = member.ok_or_else(|| Refusal::NoSession { node: node.clone() })?;
            if member.is_witness {
                return Err(Refusal::Witness { node: node.clone() });
            }
        }
        if self.promoted.as_ref() != node {
            self.promoted = node.cloned();
            events.push(Event::Promoted { node: self.promoted.clone() });
            self.elect(events);
        }
        Ok(Outcome::Promoted { term: self.coordinator.term })
    }

    /// The session of `node`.
    pub(super) fn of(&self, node: &NodeId) -> Option<SessionId> {
        self.members.get(node)?.session
    }

    pub(super) fn open(
        &mut self,
        opening: &Opening,
        revision: u64,
        events: &mut Vec<Event>,
    ) -> Answer {
        let node = &opening.node;
        check_length(node.0.len(), NAME_BYTES_MAX)?;
        if let Some(member) = self.members.get(node) {
            if member.incarnation > opening.incarnation {
                let incarnation = member.incarnation;
                return Err(Refusal::LaterLife { node: node.clone(), incarnation });
            }
            if let Some(session) = member.session {
                // The answer to the first request may have been lost.
                let open = self.open.get_mut(&session);
                if let Some(open) = open.filter(|open| open.opening == *opening) {
                    open.renewals += 1;
                    return Ok(Outcome::Opened { session });
                }
                self.end(session, EndReason::Replaced, events);
            }
        } else if self.members.len() >= MEMBERS_MAX {
            return Err(Refusal::Full { what: "nodes".into(), limit: MEMBERS_MAX as u64 });
        }
        let session = SessionId(revision);
        let Opening { incarnation, replica, is_witness, .. } = *opening;
        let member = Member { incarnation, replica, is_witness, session: Some(session) };
        self.members.insert(node.clone(), member);
        self.open.insert(session, Session { opening: opening.clone(), renewals: 0 });
        events.push(Event::SessionOpened { session, node: node.clone() });
        self.elect(events);
        Ok(Outcome::Opened { session })
    }

    pub(super) fn renew(&mut self, session: SessionId) -> Answer {
        let open = self.open.get_mut(&session).ok_or(Refusal::SessionEnded { session })?;
        open.renewals += 1;
        Ok(Outcome::Renewed)
    }

    pub(super) fn expire(
        &mut self,
        session: SessionId,
        renewals: u64,
        events: &mut Vec<Event>,
    ) -> Answer {
        if self.open.get(&session).is_some_and(|open| open.renewals != renewals) {
            return Err(Refusal::SessionRenewed { session });
        }
        self.end(session, EndReason::Expired, events);
        self.elect(events);
        Ok(Outcome::Ended)
    }

    pub(super) fn close(&mut self, session: SessionId, events: &mut Vec<Event>) -> Answer {
        self.end(session, EndReason::Closed, events);
        self.elect(events);
        Ok(Outcome::Ended)
    }

    pub(super) fn forget(&mut self, node: &NodeId) -> Answer {
        if self.of(node).is_some() {
            return Err(Refusal::HasSession { node: node.clone() });
        }
        self.members.remove(node);
        self.promoted.take_if(|promoted| promoted == node);
        Ok(Outcome::Forgotten)
    }

    fn end(&mut self, session: SessionId, reason: EndReason, events: &mut Vec<Event>) {
        let Some(ended) = self.open.remove(&session) else { return };
        let node = ended.opening.node;
        if let Some(member) = self.members.get_mut(&node) {
            member.session = None;
        }
        events.push(Event::SessionEnded { session, node, reason });
    }

    fn elect(&mut self, events: &mut Vec<Event>) {
        let candidates = self.open.iter().filter(|(_, open)| !open.opening.is_witness);
        let best = candidates
            .max_by_key(|(_, open)| {
                let Opening { node, priority, .. } = &open.opening;
                (self.promoted.as_ref() == Some(node), *priority, Reverse(node))
            })
            .map(|(&session, open)| (open.opening.node.clone(), session));
        if best == self.coordinator.holder {
            return;
        }
        if best.is_some() {
            self.coordinator.term += 1;
        }
        self.coordinator.holder = best;
        events.push(Event::Coordinator(self.coordinator.clone()));
    }
}
