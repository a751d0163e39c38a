//! What is known of every member, and how two views become one.
//!
//! Every node keeps, for every member, the highest *beat* it has heard of: a number that the member
//! itself raises with each sign of life. Views are exchanged with each beat and merged by taking the
//! higher number, so a sign of life that reached anyone reaches everyone, and a node is suspected
//! only when nobody hears it. (Van Renesse, Minsky, Hayden: "A Gossip-Style Failure Detection
//! Service", 1998; suspicion itself is [`Arrivals`].) Each node judges by its own clock; nobody's
//! verdict is taken over, except of members that one hears of for the first time.
//!
//! ```text
//! Joining ──▶ Up ◀──heard──▶ Suspect ──silent──▶ Down ──heard──▶ Up      (per incarnation)
//!    └────────┴── said so itself ──▶ Left
//! ```
//!
//! A node that starts again has a higher incarnation, which replaces whatever was known of the lower
//! one.
//!
//! # Invariants
//!
//! 1. What is known of a member only grows: (incarnation, version, claim, beat) never falls.
//! 2. Views merge in any order and any number of times to the same.
//! 3. A member that left never comes back under the same incarnation.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Arrivals, LocalHealth, SUSPICION_PHI, Service, Timings};
use crate::domain::{Incarnation, NodeAddress, NodeId, Span, Timestamp};

/// Members that are known at once; beyond it the longest down or left are forgotten.
const MEMBERS_MAX: usize = 64;

/// Services that one node may announce.
const SERVICES_MAX: usize = 4_096;

/// How a member is, as one node sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It is there and not in the cluster yet.
    Joining,
    /// It is in the cluster and heard of.
    Up,
    /// Nobody has heard of it for longer than can be chance.
    Suspect,
    /// It has been suspect for so long that others take over its work.
    Down,
    /// It said goodbye.
    Left,
}

impl Status {
    /// As users read it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Up => "up",
            Self::Suspect => "suspect",
            Self::Down => "down",
            Self::Left => "left",
        }
    }
}

/// What a member says of itself; only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Claim {
    /// I am looking for the cluster.
    Joining,
    /// I am in the cluster.
    Up,
    /// I have left it.
    Left,
}

/// Who a member is and what it does, as it says itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// What it is called.
    pub id: NodeId,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// Where other nodes reach it.
    pub address: NodeAddress,
    /// Where tools reach it, as `host:port`; empty when they do not.
    pub http: String,
    /// What it may do: data, calc, exec, control.
    pub duties: Vec<String>,
    /// What it does.
    pub services: Vec<Service>,
    /// Grows with every change of what stands above.
    pub version: u64,
}

/// What one node tells another about a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What the member says of itself.
    pub profile: Profile,
    /// Whether it says it is in.
    pub claim: Claim,
    /// The highest beat that the teller knows.
    pub beat: u64,
    /// What the teller thinks of it; counts only for one that does not know the member at all.
    pub verdict: Status,
}

/// A sign of life, and with it the sender's view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// The sender's own beat.
    pub beat: u64,
    /// A hash over everything but the beats in the sender's view.
    pub shape: u64,
    /// Whom the sender has links to.
    pub linked: Vec<NodeId>,
    /// The view.
    pub body: BeatBody,
}

/// A view, in full or as far as it changes all the time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BeatBody {
    /// Everything.
    Full(Vec<Record>),
    /// The beats of all members by the order of their names; means something only to a node whose
    /// view has the same shape.
    Compact(Vec<u64>),
}

/// What others have to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MembershipEffect {
    /// A member is seen in another light, or has told something new of itself.
    Changed {
        /// Who.
        id: NodeId,
        /// Which life of it.
        incarnation: Incarnation,
        /// What it was before; none, if this life of it was unknown.
        before: Option<Status>,
        /// What it is now.
        now: Status,
    },
    /// Another node, started later, has this node's name.
    Replaced {
        /// That node's incarnation.
        by: Incarnation,
    },
    /// There are more members than can be kept.
    TooMany {
        /// The one that was not taken up.
        id: NodeId,
    },
}

/// A member, for users.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemberView {
    /// What it says of itself.
    pub profile: Profile,
    /// How it is.
    pub status: Status,
    /// How long ago it was heard of; zero for the node itself.
    pub silence: Span,
    /// Its highest known beat.
    pub beat: u64,
    /// Whom it has links to, as it told this node.
    pub linked: Vec<NodeId>,
}

/// One node's view of all.
#[derive(Debug)]
pub struct Membership {
    own: NodeId,
    timings: Timings,
    health: LocalHealth,
    /// Always holds `own`. At most `members_max`.
    members: BTreeMap<NodeId, Member>,
    members_max: usize,
    /// The last shape that each linked peer said its view has.
    shapes: BTreeMap<NodeId, u64>,
    is_replaced: bool,
}

#[derive(Debug)]
struct Member {
    profile: Profile,
    claim: Claim,
    beat: u64,
    arrivals: Arrivals,
    suspected_at: Option<Timestamp>,
    status: Status,
    linked: Vec<NodeId>,
}

impl Membership {
    /// The view of a node that knows only itself and is looking for others.
    pub fn new(own: Profile, timings: Timings, now: Timestamp) -> Self {
        let id = own.id.clone();
        let member = Member::new(own, Claim::Joining, 0, Status::Joining, timings, now);
        Self {
            own: id.clone(),
            timings,
            health: LocalHealth::new(timings.judge),
            members: BTreeMap::from([(id, member)]),
            members_max: MEMBERS_MAX,
            shapes: BTreeMap::new(),
            is_replaced: false,
        }
    }

    /// The same with room for more than the 64 members that a node keeps, to learn what they would cost.
    #[must_use]
    pub fn with_room_for(self, members_max: usize) -> Self {
        Self { members_max, ..self }
    }

    /// This node is in the cluster now, or has left it.
    pub fn on_own_claim(&mut self, claim: Claim, now: Timestamp) -> Vec<MembershipEffect> {
        let own = self.own_mut();
        own.claim = own.claim.max(claim);
        let own = self.own.clone();
        self.judge(&own, now).into_iter().collect()
    }

    /// This node serves other roles now.
    pub fn on_own_services(&mut self, services: Vec<Service>) {
        let own = self.own_mut();
        if own.profile.services != services {
            own.profile.services = services;
            own.profile.services.truncate(SERVICES_MAX);
            own.profile.version += 1;
        }
    }

    /// It is time for a sign of life: what to tell each of `linked`.
    pub fn on_beat_due(&mut self, linked: &[NodeId], now: Timestamp) -> Vec<(NodeId, Beat)> {
        let own = self.own_mut();
        // A node whose actors were restarted must not fall behind what it has told already.
        own.beat = (own.beat + 1).max(now.as_nanos() / 1_000_000);
        own.linked = linked.to_vec();
        let beat = own.beat;
        self.shapes.retain(|id, _| linked.contains(id));
        let shape = self.shape();
        let body = |peer: &NodeId| {
            if self.shapes.get(peer) == Some(&shape) {
                BeatBody::Compact(self.members.values().map(|member| member.beat).collect())
            } else {
                BeatBody::Full(self.members.values().map(Member::record).collect())
            }
        };
        linked
            .iter()
            .map(|peer| {
                let beat = Beat { beat, shape, linked: linked.to_vec(), body: body(peer) };
                (peer.clone(), beat)
            })
            .collect()
    }

    /// A linked peer gave a sign of life.
    pub fn on_beat(&mut self, from: &NodeId, beat: Beat, now: Timestamp) -> Vec<MembershipEffect> {
        let mut effects = Vec::new();
        match beat.body {
            BeatBody::Full(records) => {
                for record in records.into_iter().take(self.members_max) {
                    self.merge(from, record, now, &mut effects);
                }
            }
            BeatBody::Compact(beats) if beat.shape == self.shape() => {
                let ids: Vec<NodeId> = self.members.keys().cloned().collect();
                for (id, beat) in ids.iter().zip(beats) {
                    self.hear(id, beat, now, &mut effects);
                }
            }
            BeatBody::Compact(_) => {}
        }
        self.hear(from, beat.beat, now, &mut effects);
        if let Some(member) = self.members.get_mut(from) {
            member.linked = beat.linked;
            member.linked.truncate(self.members_max);
        }
        self.shapes.insert(from.clone(), beat.shape);
        effects
    }

    /// The connection to a peer broke: if anyone still hears it, its beats will tell.
    pub fn on_link_lost(
        &mut self,
        id: &NodeId,
        incarnation: Incarnation,
        now: Timestamp,
    ) -> Vec<MembershipEffect> {
        self.shapes.remove(id);
        let Some(member) = self.members.get_mut(id) else { return Vec::new() };
        if member.profile.incarnation == incarnation && member.claim != Claim::Left {
            member.suspected_at.get_or_insert(now);
        }
        self.judge(id, now).into_iter().collect()
    }

    /// It is time to look who has been silent for too long.
    pub fn on_look(&mut self, now: Timestamp) -> Vec<MembershipEffect> {
        let away = self.health.on_look(now);
        if away > Span::ZERO {
            for member in self.members.values_mut() {
                member.arrivals.on_observer_away(away, now);
                member.suspected_at = member.suspected_at.map(|at| at.after(away).min(now));
            }
        }
        let ids: Vec<NodeId> = self.members.keys().cloned().collect();
        ids.iter().filter_map(|id| self.judge(id, now)).collect()
    }

    /// How `id` is.
    pub fn status(&self, id: &NodeId) -> Option<Status> {
        self.members.get(id).map(|member| member.status)
    }

    /// What `id` says of itself, and its highest known beat.
    pub fn profile(&self, id: &NodeId) -> Option<(&Profile, u64)> {
        self.members.get(id).map(|member| (&member.profile, member.beat))
    }

    /// By how much this node stretches its time-outs, being late itself; 1 when it is well.
    pub fn stretch(&self) -> u32 {
        self.health.stretch()
    }

    /// Everybody, by name.
    pub fn members(&self, now: Timestamp) -> Vec<MemberView> {
        let view = |member: &Member| MemberView {
            profile: member.profile.clone(),
            status: member.status,
            beat: member.beat,
            silence: if member.profile.id == self.own {
                Span::ZERO
            } else {
                now.since(member.arrivals.heard_at())
            },
            linked: member.linked.clone(),
        };
        self.members.values().map(view).collect()
    }

    fn own_mut(&mut self) -> &mut Member {
        self.members.get_mut(&self.own).expect("a node always knows itself")
    }

    /// Whether all of `linked` have said that they know what this node knows.
    pub fn is_shared_by(&self, linked: &[NodeId]) -> bool {
        let shape = self.shape();
        linked.iter().all(|id| self.shapes.get(id) == Some(&shape))
    }

    /// A hash over who is known, in which life, with which profile and claim.
    pub fn shape(&self) -> u64 {
        let mut hasher = blake3::Hasher::new();
        for (id, member) in &self.members {
            hasher.update(&(id.0.len() as u64).to_le_bytes());
            hasher.update(id.0.as_bytes());
            hasher.update(&member.profile.incarnation.0.to_le_bytes());
            hasher.update(&member.profile.version.to_le_bytes());
            hasher.update(&[member.claim as u8]);
        }
        let mut first = [0; 8];
        first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        u64::from_le_bytes(first)
    }

    fn merge(
        &mut self,
        from: &NodeId,
        record: Record,
        now: Timestamp,
        effects: &mut Vec<MembershipEffect>,
    ) {
        let Record { mut profile, claim, beat, verdict } = record;
        profile.services.truncate(SERVICES_MAX);
        let id = profile.id.clone();
        if id == self.own {
            let own = self.own_mut().profile.incarnation;
            if profile.incarnation > own && !self.is_replaced {
                self.is_replaced = true;
                effects.push(MembershipEffect::Replaced { by: profile.incarnation });
            }
            return;
        }
        let is_new = match self.members.get(&id) {
            None => true,
            Some(known) => profile.incarnation > known.profile.incarnation,
        };
        if is_new {
            if !self.members.contains_key(&id) && !self.has_room() {
                effects.push(MembershipEffect::TooMany { id });
                return;
            }
            // Of itself a node brings life; of others it brings what it thinks.
            let is_gone = id != *from && matches!(verdict, Status::Down | Status::Suspect);
            let incarnation = profile.incarnation;
            let mut member = Member::new(profile, claim, beat, Status::Joining, self.timings, now);
            if is_gone {
                member.suspected_at = Some(now);
                if verdict == Status::Down {
                    member.status = Status::Down;
                }
            }
            let status = member.judge(now, self.health.stretch());
            member.status = status;
            self.members.insert(id.clone(), member);
            effects.push(MembershipEffect::Changed { id, incarnation, before: None, now: status });
            return;
        }
        let known = self.members.get_mut(&id).expect("it is not new");
        if profile.incarnation < known.profile.incarnation {
            return;
        }
        let mut has_news = false;
        if profile.version > known.profile.version {
            known.profile = profile;
            has_news = true;
        }
        known.claim = known.claim.max(claim);
        let before = effects.len();
        self.hear(&id, beat, now, effects);
        if effects.len() == before {
            effects.extend(self.judge(&id, now));
        }
        if has_news && effects.len() == before {
            let known = &self.members[&id];
            effects.push(MembershipEffect::Changed {
                id,
                incarnation: known.profile.incarnation,
                before: Some(known.status),
                now: known.status,
            });
        }
    }

    /// Whether another member can be taken up, if need be for one that is gone.
    fn has_room(&mut self) -> bool {
        if self.members.len() < self.members_max {
            return true;
        }
        let gone = self
            .members
            .iter()
            .filter(|(_, member)| matches!(member.status, Status::Down | Status::Left))
            .min_by_key(|(id, member)| (member.arrivals.heard_at(), (*id).clone()))
            .map(|(id, _)| id.clone());
        gone.is_some_and(|gone| self.members.remove(&gone).is_some())
    }

    fn hear(
        &mut self,
        id: &NodeId,
        beat: u64,
        now: Timestamp,
        effects: &mut Vec<MembershipEffect>,
    ) {
        if *id == self.own {
            return;
        }
        let Some(member) = self.members.get_mut(id) else { return };
        if beat > member.beat {
            member.beat = beat;
            member.arrivals.on_heard(now);
            member.suspected_at = None;
            effects.extend(self.judge(id, now));
        }
    }

    fn judge(&mut self, id: &NodeId, now: Timestamp) -> Option<MembershipEffect> {
        let stretch = self.health.stretch();
        let is_own = *id == self.own;
        let member = self.members.get_mut(id)?;
        let before = member.status;
        member.status = if is_own { member.claimed() } else { member.judge(now, stretch) };
        (member.status != before).then(|| MembershipEffect::Changed {
            id: id.clone(),
            incarnation: member.profile.incarnation,
            before: Some(before),
            now: member.status,
        })
    }
}

impl Member {
    fn new(
        profile: Profile,
        claim: Claim,
        beat: u64,
        status: Status,
        timings: Timings,
        now: Timestamp,
    ) -> Self {
        Self {
            profile,
            claim,
            beat,
            arrivals: Arrivals::new(timings, now),
            suspected_at: None,
            status,
            linked: Vec::new(),
        }
    }

    fn claimed(&self) -> Status {
        match self.claim {
            Claim::Joining => Status::Joining,
            Claim::Up => Status::Up,
            Claim::Left => Status::Left,
        }
    }

    fn judge(&mut self, now: Timestamp, stretch: u32) -> Status {
        if self.claim == Claim::Left {
            return Status::Left;
        }
        if self.suspected_at.is_none() && self.arrivals.phi(now, stretch) >= SUSPICION_PHI {
            self.suspected_at = Some(now);
        }
        match self.suspected_at {
            None => self.claimed(),
            Some(_) if self.status == Status::Down => Status::Down,
            Some(at) if now.since(at) >= self.arrivals.suspicion() * stretch => Status::Down,
            Some(_) => Status::Suspect,
        }
    }

    fn record(&self) -> Record {
        Record {
            profile: self.profile.clone(),
            claim: self.claim,
            beat: self.beat,
            verdict: self.status,
        }
    }
}

#[cfg(test)]
mod tests;
