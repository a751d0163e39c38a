//! Whom to dial, and which of two connections to one peer stays.
//!
//! Whoever has no link to a member dials it, so both sides do at once quite often. One connection
//! must be chosen by both alike, and neither may close the one that the other keeps:
//!
//! ```text
//! dialler                         acceptor
//!    │── Hello ─────────────────────▶│ on_hello: a ticket, or a reason why not
//!    │◀───────────────────── Welcome │   (an older connection is still in use)
//!    │ on_welcome: go on, or leave it│
//!    │── Go ────────────────────────▶│ on_go: does the ticket still hold?
//!    │ on_established                │ on_established: the older connection is fenced now
//! ```
//!
//! A dialler that has welcomed the same peer meanwhile goes on only if its own name is the greater,
//! and then the tickets it gave that peer are void: exactly one of the two connections stays. A peer that dials although there is a link
//! has lost it, so the newest connection of one incarnation wins. Another incarnation under a name
//! whose owner was alive a moment ago is a name used twice, or a quick restart: the owner is given a
//! moment to show a sign of life (*probe*).
//!
//! # Invariants
//!
//! 1. There is at most one link per peer; a second one is established only with the first fenced.
//! 2. A member without a link is being dialled, or its next dial is due at some time.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::{Backoff, Incarnation, NodeAddress, NodeId, Span, Timestamp};

use super::Status;

/// Counts the links of one node, for ever.
pub type LinkNumber = u64;

/// A connection that was welcomed.
pub type Ticket = u64;

/// Addresses that are dialled, at most.
const TARGETS_MAX: usize = 256;

/// One life of one node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    /// Who.
    pub id: NodeId,
    /// Which life.
    pub incarnation: Incarnation,
}

/// How a node dials.
#[derive(Clone, Debug)]
pub struct LinksConfig {
    /// This node.
    pub own: Peer,
    /// Where it listens.
    pub own_address: NodeAddress,
    /// Between two attempts to reach a node.
    pub backoff: Backoff,
    /// The same, at most, for a member, from the start of one attempt to that of the next: when a
    /// partition heals, links shall be back soon.
    pub member_retry: Span,
    /// What jitter is drawn from.
    pub seed: u64,
}

/// What the actor must do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinksEffect {
    /// Dial, and report [`Links::on_dialled`].
    Dial {
        /// Where.
        address: NodeAddress,
        /// How long the connection may take to come about; introductions have a deadline of their own.
        patience: Span,
    },
}

/// What to answer to a peer that introduced itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HelloVerdict {
    /// It is welcome; await its word that it goes on, or [`Links::on_inbound_ended`].
    Welcome(Ticket),
    /// Its name is in use: see whether the owner shows a sign of life, then call
    /// [`Links::on_probed`].
    Probe,
    /// It is this very node.
    IsOneself,
    /// Its name belongs to a node that is alive.
    NameInUse,
    /// It is an older life of a node that has started again since.
    Stale {
        /// The newest life that is known.
        known: Incarnation,
    },
}

/// Targets and links of one node.
#[derive(Debug)]
pub struct Links {
    config: LinksConfig,
    chance: u64,
    /// At most [`TARGETS_MAX`].
    targets: BTreeMap<NodeAddress, Target>,
    /// Peers that are linked, welcomed, or known from the membership.
    peers: BTreeMap<NodeId, Known>,
    next_ticket: Ticket,
}

#[derive(Debug)]
struct Target {
    /// Who answered there, or is said to.
    id: Option<NodeId>,
    failures: u32,
    /// When it was dialled last.
    begun_at: Timestamp,
    next_at: Timestamp,
    is_dialling: bool,
    is_member: bool,
}

#[derive(Debug)]
struct Known {
    incarnation: Incarnation,
    /// Whether the membership takes it for alive.
    is_alive: bool,
    link: Option<(LinkNumber, Incarnation)>,
    /// Welcomed connections from it that have not gone on yet. Bounded by their deadlines and by what
    /// admission lets in.
    inbound: BTreeSet<Ticket>,
}

impl Links {
    /// A node without links.
    pub fn new(config: LinksConfig) -> Self {
        let chance = config.seed;
        Self { config, chance, targets: BTreeMap::new(), peers: BTreeMap::new(), next_ticket: 0 }
    }

    /// A seed is to be dialled now, unless it is linked. Returns who is, in that case.
    pub fn on_seed(&mut self, address: &NodeAddress, now: Timestamp) -> Option<NodeId> {
        let target = self.target(address, None, now)?;
        target.next_at = target.next_at.min(now);
        let id = target.id.clone()?;
        self.is_linked(&id).then_some(id)
    }

    /// The membership knows a node, or sees it in another light.
    pub fn on_member(
        &mut self,
        peer: &Peer,
        address: &NodeAddress,
        status: Status,
        now: Timestamp,
    ) {
        if peer.id == self.config.own.id {
            return;
        }
        let known = self.known(&peer.id);
        known.incarnation = known.incarnation.max(peer.incarnation);
        known.is_alive = matches!(status, Status::Joining | Status::Up | Status::Suspect);
        // A node may come back at another address.
        self.targets.retain(|at, target| target.id.as_ref() != Some(&peer.id) || at == address);
        if status == Status::Left {
            self.targets.remove(address);
            return;
        }
        let retry = self.config.member_retry;
        if let Some(target) = self.target(address, Some(&peer.id), now) {
            target.id = Some(peer.id.clone());
            target.is_member = true;
            target.next_at = target.next_at.min(now.after(retry));
        }
    }

    /// Dials whoever is due.
    pub fn on_wake(&mut self, now: Timestamp) -> Vec<LinksEffect> {
        let (peers, patience) = (&self.peers, self.config.member_retry);
        let is_linked = |id: &NodeId| peers.get(id).is_some_and(|known| known.link.is_some());
        let mut effects = Vec::new();
        for (address, target) in &mut self.targets {
            let is_due = !target.is_dialling && target.next_at <= now;
            if is_due && !target.id.as_ref().is_some_and(is_linked) {
                (target.is_dialling, target.begun_at) = (true, now);
                // A packet that was swallowed by a partition is sent again by the system only after
                // seconds; a fresh attempt every second finds the way sooner.
                effects.push(LinksEffect::Dial { address: address.clone(), patience });
            }
        }
        effects
    }

    /// When [`Links::on_wake`] has something to do next.
    pub fn next_wake(&self) -> Option<Timestamp> {
        let is_linked = |target: &Target| target.id.as_ref().is_some_and(|id| self.is_linked(id));
        let waiting = self.targets.values().filter(|&t| !t.is_dialling && !is_linked(t));
        waiting.map(|target| target.next_at).min()
    }

    /// Dialling ended, with a link to `reached` or without. `is_oneself` says that this node answered.
    pub fn on_dialled(
        &mut self,
        address: &NodeAddress,
        reached: Option<NodeId>,
        is_oneself: bool,
        now: Timestamp,
    ) {
        if is_oneself {
            self.targets.remove(address);
            return;
        }
        let chance = self.draw();
        let LinksConfig { backoff, member_retry, .. } = self.config;
        let Some(target) = self.targets.get_mut(address) else { return };
        target.is_dialling = false;
        match reached {
            Some(id) => {
                target.id = Some(id);
                target.failures = 0;
            }
            None => target.failures = target.failures.saturating_add(1),
        }
        let full = backoff.delay(target.failures.saturating_sub(1));
        let full = if target.is_member { full.min(member_retry) } else { full };
        // Between half and all of it, or nodes that lost each other at once would meet for ever.
        let jittered = full / 2 + full.mul_f64(f64::from(chance) / f64::from(u32::MAX) / 2.0);
        // An attempt that hung until its end has been wait enough.
        target.next_at = target.begun_at.after(jittered).max(now);
    }

    /// Whether there is a link to `id`.
    pub fn is_linked(&self, id: &NodeId) -> bool {
        self.peers.get(id).is_some_and(|known| known.link.is_some())
    }

    /// A peer introduced itself to us.
    pub fn on_hello(&mut self, peer: &Peer) -> HelloVerdict {
        let own = &self.config.own;
        if peer.id == own.id {
            let is_same = peer.incarnation == own.incarnation;
            return if is_same { HelloVerdict::IsOneself } else { HelloVerdict::NameInUse };
        }
        let known = self.known(&peer.id);
        if peer.incarnation < known.incarnation {
            return HelloVerdict::Stale { known: known.incarnation };
        }
        if peer.incarnation > known.incarnation && (known.is_alive || known.link.is_some()) {
            return HelloVerdict::Probe;
        }
        self.welcome(&peer.id)
    }

    /// The owner of the peer's name has, or has not, shown a sign of life.
    pub fn on_probed(&mut self, peer: &Peer, is_owner_alive: bool) -> HelloVerdict {
        let known = self.known(&peer.id);
        if peer.incarnation < known.incarnation {
            return HelloVerdict::Stale { known: known.incarnation };
        }
        if is_owner_alive && peer.incarnation > known.incarnation {
            return HelloVerdict::NameInUse;
        }
        self.welcome(&peer.id)
    }

    fn welcome(&mut self, id: &NodeId) -> HelloVerdict {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.known(id).inbound.insert(ticket);
        HelloVerdict::Welcome(ticket)
    }

    /// A peer that we dialled has welcomed us. Whether to go on.
    pub fn on_welcome(&mut self, peer: &Peer) -> bool {
        if peer.id == self.config.own.id {
            return false;
        }
        let is_greater = self.config.own.id > peer.id;
        let known = self.known(&peer.id);
        let is_linked = known.link.is_some_and(|(_, incarnation)| incarnation == peer.incarnation);
        let goes_on = peer.incarnation >= known.incarnation
            && !is_linked
            && (known.inbound.is_empty() || is_greater);
        if goes_on {
            known.inbound.clear();
        }
        goes_on
    }

    /// A peer that was welcomed goes on. Whether its connection is to be established.
    pub fn on_go(&mut self, id: &NodeId, ticket: Ticket) -> bool {
        self.known(id).inbound.remove(&ticket)
    }

    /// A connection that was welcomed is gone.
    pub fn on_inbound_ended(&mut self, id: &NodeId, ticket: Ticket) {
        self.known(id).inbound.remove(&ticket);
    }

    /// A connection to `peer` has become link `number`. Returns the link to fence first.
    pub fn on_established(&mut self, number: LinkNumber, peer: &Peer) -> Option<LinkNumber> {
        let known = self.known(&peer.id);
        known.incarnation = known.incarnation.max(peer.incarnation);
        let before = known.link.replace((number, peer.incarnation));
        before.map(|(number, _)| number)
    }

    /// A link is gone. Returns whose it was, unless another had taken its place.
    pub fn on_lost(&mut self, number: LinkNumber, now: Timestamp) -> Option<Peer> {
        let (id, known) = self
            .peers
            .iter_mut()
            .find(|(_, known)| known.link.is_some_and(|(link, _)| link == number))?;
        let (_, incarnation) = known.link.take()?;
        let id = id.clone();
        for target in self.targets.values_mut().filter(|target| target.id.as_ref() == Some(&id)) {
            target.failures = 0;
            target.next_at = now;
        }
        Some(Peer { id, incarnation })
    }

    fn target(
        &mut self,
        address: &NodeAddress,
        id: Option<&NodeId>,
        now: Timestamp,
    ) -> Option<&mut Target> {
        if *address == self.config.own_address {
            return None;
        }
        if self.targets.len() >= TARGETS_MAX && !self.targets.contains_key(address) {
            return None;
        }
        Some(self.targets.entry(address.clone()).or_insert_with(|| Target {
            id: id.cloned(),
            failures: 0,
            begun_at: now,
            next_at: now,
            is_dialling: false,
            is_member: false,
        }))
    }

    fn known(&mut self, id: &NodeId) -> &mut Known {
        // Only names that were proved by a certificate or told by a member come here.
        self.peers.entry(id.clone()).or_insert(Known {
            incarnation: Incarnation(0),
            is_alive: false,
            link: None,
            inbound: BTreeSet::new(),
        })
    }

    /// The next of a row of random numbers (splitmix64).
    fn draw(&mut self) -> u32 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.chance;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u32::try_from((z ^ (z >> 31)) >> 32).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests;
