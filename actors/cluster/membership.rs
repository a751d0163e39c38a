//! The membership actor: finds the cluster, gives signs of life, and judges silences.
//!
//! ```text
//! gateway ── beats ──▶ Membership ──▶ beats to all linked peers
//! links ── linked, lost ─▶  Join   ──▶ links: seeds, members
//!                             └──────▶ memory, events, the view that everybody reads
//! ```
//!
//! Decisions are in [`tickwright_core::cluster::Membership`] and [`tickwright_core::cluster::Join`].
//!
//! *Failover.* Starts again as a node that looks for its cluster, under the same incarnation; its peers
//! bring it up to date with their first beats. *Delivery.* A lost beat is followed by the next.

use std::collections::BTreeSet;
use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use ractor_cluster::RactorMessage;
use tickwright_core::cluster::{
    Answer, Beat, Claim, Join, JoinConfig, JoinEffect, MemberView, Membership, MembershipEffect,
    Peer, Profile, Status, Timings,
};
use tickwright_core::domain::{Backoff, Incarnation, NodeAddress, NodeId, Span, Timestamp};
use tokio::sync::watch;

use super::links::LinksMessage;
use super::memory::Memory;
use super::network::Network;
use super::{ClusterEvent, now};
use crate::kit::{Directory, Outlet};

/// The role of the membership among the services of its own node.
pub(super) const ROLE: &str = "cluster/membership";

/// For how long a first seed that remembers nobody waits to be dialled: members dial each second whom they think down.
const LISTEN: Span = Span::from_millis(1_500);

/// How long a seed may be silent before the next one is dialled as well.
const STAGGER: Span = Span::from_millis(250);

/// Everything the mailbox holds.
#[derive(Debug, RactorMessage)]
pub(super) enum MembershipMessage {
    /// Our own timer: a sign of life is due.
    BeatDue,
    /// Our own timer: silences are to be judged.
    LookDue,
    /// Our own timer: the search goes on.
    JoinWake,
    /// Gateway: a sign of life of a peer.
    Beat(Peer, Beat),
    /// Links: there is a link.
    Linked(Peer),
    /// Links: there is none any more.
    LinkLost(Peer),
    /// Links: dialling an address came to a link with this node, or to nothing.
    SeedAnswered(NodeAddress, Option<NodeId>),
    /// This node serves other roles now.
    ServicesChanged,
    /// The highest beat of a node, and of which life.
    BeatOf(NodeId, RpcReplyPort<Option<(Incarnation, u64)>>),
    /// Say goodbye; answered once every linked peer knows.
    Leave(RpcReplyPort<()>),
}

/// What everybody may look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Whether this node is in a cluster.
    pub is_member: bool,
    /// Everybody, by name.
    pub members: Vec<MemberView>,
    /// By how much this node stretches its time-outs, being late itself; 1 when it is well.
    pub stretch: u32,
}

/// What the actor is started with.
#[derive(Clone, Debug)]
pub(super) struct MembershipArguments {
    pub(super) profile: Profile,
    pub(super) seeds: Vec<NodeAddress>,
    pub(super) timings: Timings,
    pub(super) handshake_timeout: Span,
    pub(super) redial: Backoff,
    pub(super) network: Network,
    pub(super) memory: Memory,
    pub(super) directory: Directory,
    pub(super) links: Outlet<LinksMessage>,
    pub(super) events: Outlet<ClusterEvent>,
    pub(super) view: Arc<watch::Sender<View>>,
}

/// The actor.
#[derive(Debug)]
pub(super) struct MembershipActor;

/// What the actor owns while it runs.
pub(super) struct MembershipState {
    myself: ActorRef<MembershipMessage>,
    arguments: MembershipArguments,
    membership: Membership,
    join: Join,
    /// When the search goes on; an earlier wake-up is one that was overtaken.
    join_wake_at: Timestamp,
    /// The shape of the view when peers were last told.
    told: u64,
    leaving: Vec<RpcReplyPort<()>>,
}

impl Actor for MembershipActor {
    type Msg = MembershipMessage;
    type State = MembershipState;
    type Arguments = MembershipArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<MembershipMessage>,
        arguments: MembershipArguments,
    ) -> Result<MembershipState, ActorProcessingErr> {
        let now = now();
        let remembered = arguments.memory.members();
        let mut seeds = arguments.seeds.clone();
        for address in remembered.values().filter(|&address| !arguments.seeds.contains(address)) {
            seeds.push(address.clone());
        }
        let own = arguments.profile.id.clone();
        let join = Join::new(JoinConfig {
            own: own.clone(),
            own_address: arguments.profile.address.clone(),
            seeds,
            remembered: remembered.into_keys().filter(|id| *id != own).collect::<BTreeSet<_>>(),
            backoff: arguments.redial,
            stagger: STAGGER,
            round: arguments.handshake_timeout * 2,
            listen: LISTEN,
        });
        let mut profile = arguments.profile.clone();
        profile.services = arguments.network.services();
        let membership = Membership::new(profile, arguments.timings, now);
        arguments.directory.register(ROLE, &myself);
        myself.send_interval(arguments.timings.heartbeat, || MembershipMessage::BeatDue);
        myself.send_interval(arguments.timings.judge, || MembershipMessage::LookDue);
        myself.send_after(Span::ZERO, || MembershipMessage::JoinWake);
        let changes = arguments.network.clone();
        let listener = myself.clone();
        tokio::spawn(async move {
            loop {
                changes.services_changed().await;
                if listener.cast(MembershipMessage::ServicesChanged).is_err() {
                    return;
                }
            }
        });
        let told = membership.shape();
        let mut state = MembershipState {
            myself,
            arguments,
            membership,
            join,
            join_wake_at: now,
            told,
            leaving: Vec::new(),
        };
        state.tell_own();
        Ok(state)
    }

    async fn handle(
        &self,
        _myself: ActorRef<MembershipMessage>,
        message: MembershipMessage,
        state: &mut MembershipState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            MembershipMessage::BeatDue => state.beat(),
            MembershipMessage::LookDue => state.look(),
            MembershipMessage::JoinWake if now() >= state.join_wake_at => {
                let effects = state.join.on_wake(now());
                state.carry_out_join(effects);
            }
            MembershipMessage::JoinWake => {}
            MembershipMessage::Beat(from, beat) => state.on_beat(&from, beat),
            MembershipMessage::Linked(peer) => {
                tracing::info!(peer = %peer.id, incarnation = %peer.incarnation, "linked");
                state.beat();
            }
            MembershipMessage::LinkLost(peer) => state.on_link_lost(&peer),
            MembershipMessage::SeedAnswered(seed, id) => {
                let answer = id.map_or(Answer::Failed, Answer::Linked);
                let effects = state.join.on_answer(&seed, answer, now());
                state.carry_out_join(effects);
            }
            MembershipMessage::ServicesChanged => {
                state.membership.on_own_services(state.arguments.network.services());
                state.tell_own();
                // Whoever takes a unit over is waited for: not until the next beat.
                state.beat();
            }
            MembershipMessage::BeatOf(id, reply) => {
                let found = state.membership.profile(&id);
                let _ = reply.send(found.map(|(profile, beat)| (profile.incarnation, beat)));
            }
            MembershipMessage::Leave(reply) => {
                state.leaving.push(reply);
                let effects = state.membership.on_own_claim(Claim::Left, now());
                state.carry_out(effects);
                state.beat();
                state.answer_leaving();
            }
        }
        Ok(())
    }
}

impl MembershipState {
    fn on_beat(&mut self, from: &Peer, beat: Beat) {
        let known = self.membership.profile(&from.id).map(|(profile, _)| profile.incarnation);
        if known.is_some_and(|known| known > from.incarnation) {
            return;
        }
        let effects = self.membership.on_beat(&from.id, beat, now());
        self.carry_out(effects);
        if !self.join.is_done() {
            let is_member = self.membership.status(&from.id) == Some(Status::Up);
            let address = self.membership.profile(&from.id).map(|(profile, _)| &profile.address);
            if let Some(address) = address {
                let effects = self.join.on_peer(&from.id, address, is_member, now());
                self.carry_out_join(effects);
            }
        }
        self.publish();
        self.answer_leaving();
    }

    fn on_link_lost(&mut self, peer: &Peer) {
        tracing::info!(peer = %peer.id, incarnation = %peer.incarnation, "link lost");
        let effects = self.membership.on_link_lost(&peer.id, peer.incarnation, now());
        self.carry_out(effects);
        let effects = self.join.on_peer_gone(&peer.id, now());
        self.carry_out_join(effects);
        self.answer_leaving();
    }

    fn beat(&mut self) {
        self.told = self.membership.shape();
        let linked = self.arguments.network.linked();
        for (peer, beat) in self.membership.on_beat_due(&linked, now()) {
            self.arguments.network.send_beat(&peer, &beat);
        }
    }

    fn look(&mut self) {
        let effects = self.membership.on_look(now());
        self.carry_out(effects);
        // News need not wait for the next beat.
        if self.membership.shape() != self.told {
            self.beat();
        }
        self.publish();
    }

    fn carry_out_join(&mut self, effects: Vec<JoinEffect>) {
        for effect in effects {
            match effect {
                JoinEffect::Dial(seed) => {
                    // Links that start anew are asked again in the next round.
                    let _ = self.arguments.links.send(LinksMessage::Seed(seed));
                }
                JoinEffect::WakeAt(at) => {
                    self.join_wake_at = at;
                    self.myself.send_after(at.since(now()), || MembershipMessage::JoinWake);
                }
                JoinEffect::Joined(through) => {
                    self.enter(ClusterEvent::Joined { through });
                }
                JoinEffect::Found => self.enter(ClusterEvent::Founded),
            }
        }
    }

    fn enter(&mut self, event: ClusterEvent) {
        let effects = self.membership.on_own_claim(Claim::Up, now());
        self.carry_out(effects);
        self.beat();
        self.publish();
        let _ = self.arguments.events.send(event);
    }

    fn carry_out(&mut self, effects: Vec<MembershipEffect>) {
        for effect in effects {
            match effect {
                MembershipEffect::Changed { id, incarnation, before, now } => {
                    self.on_changed(id, incarnation, before, now);
                }
                MembershipEffect::Replaced { by } => {
                    let _ = self.arguments.events.send(ClusterEvent::Replaced { by });
                }
                MembershipEffect::TooMany { id } => {
                    tracing::error!(%id, "there are more members than can be kept");
                }
            }
        }
    }

    fn on_changed(
        &mut self,
        id: NodeId,
        incarnation: Incarnation,
        before: Option<Status>,
        status: Status,
    ) {
        let Some((profile, _)) = self.membership.profile(&id) else { return };
        let (address, services) = (profile.address.clone(), profile.services.clone());
        let peer = Peer { id, incarnation };
        if status == Status::Down {
            // Before anyone hears that its work is to be taken over.
            self.arguments.network.fence(&peer);
        }
        self.arguments.network.on_member(&peer.id, status, &services);
        if peer.id != self.arguments.profile.id {
            let _ = self.arguments.links.send(LinksMessage::Member(
                peer.clone(),
                address.clone(),
                status,
            ));
            let remembered = (status != Status::Left).then_some(&address);
            if self.arguments.memory.on_member(&peer.id, remembered) {
                self.save();
            }
        }
        if before != Some(status) {
            let changed = ClusterEvent::Member { peer, address, before, status };
            let _ = self.arguments.events.send(changed);
        }
        self.publish();
    }

    fn save(&self) {
        let memory = self.arguments.memory.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = memory.save() {
                tracing::error!(%error, "whom this node has seen cannot be remembered");
            }
        });
    }

    fn tell_own(&mut self) {
        let own = self.arguments.profile.id.clone();
        if let (Some(status), Some((profile, _))) =
            (self.membership.status(&own), self.membership.profile(&own))
        {
            self.arguments.network.on_member(&own, status, &profile.services);
        }
        self.publish();
    }

    fn publish(&self) {
        let view = View {
            is_member: self.join.is_done(),
            members: self.membership.members(now()),
            stretch: self.membership.stretch(),
        };
        self.arguments.view.send_replace(view);
    }

    fn answer_leaving(&mut self) {
        if self.leaving.is_empty() {
            return;
        }
        if self.membership.is_shared_by(&self.arguments.network.linked()) {
            for reply in self.leaving.drain(..) {
                let _ = reply.send(());
            }
        }
    }
}
