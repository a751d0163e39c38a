//! The links actor: dials, receives and watches over the connections to other nodes.
//!
//! ```text
//! membership ─▶ seeds, members ─┐              ┌─▶ NodeServer (ractor_cluster) ─▶ sessions
//! listener ──▶ introductions ───┼─▶ Links ─────┤
//! sessions ──▶ ready, lost ─────┘              └─▶ membership: linked, lost, seed answered
//! ```
//!
//! Decisions are in [`tickwright_core::cluster::Links`]. `ractor_cluster` sees a connection only after
//! both sides have introduced themselves; its own listener is on a loopback port that nobody is told.
//!
//! *Failover.* A restart ends all connections; peers dial again. *Delivery.* See [`super::network`].

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ractor::rpc::CallResult;
use ractor::{
    Actor, ActorId, ActorProcessingErr, ActorRef, MessagingErr, RpcReplyPort, SupervisionEvent, pg,
};
use ractor_cluster::node::{NodeConnectionMode, NodeServerSessionInformation};
use ractor_cluster::{NodeEventSubscription, NodeServer, NodeServerMessage, RactorMessage};
use tickwright_core::cluster::{
    HelloVerdict, LinkNumber, Links, LinksConfig, LinksEffect, Peer, Status, Ticket, Timings,
};
use tickwright_core::domain::{Backoff, Incarnation, NodeAddress, NodeId, Timestamp};

use super::envelope::FRAME_MAX;
use super::handshake::{DialError, Established, Introducer};
use super::hello::{Cookie, Introduction, Refusal};
use super::membership::MembershipMessage;
use super::network::{Link, LinkParts, Network};
use super::stream::{Fence, Fenced};
use super::tls::Tls;
use super::{ClusterEvent, gateway, now};
use crate::kit::{Directory, Outlet};

/// The role of the links among the services of their own node.
pub(super) const ROLE: &str = "cluster/links";

/// A member without a link is dialled as often as this.
const MEMBER_RETRY: Duration = Duration::from_secs(1);

/// How long a fenced session may take to end before its successor goes on without waiting.
const FENCED_END: Duration = Duration::from_secs(2);

/// What a frame of `ractor_cluster` has around ours.
const TRANSPORT_OVERHEAD: u64 = 4 << 10;

/// Everything the mailbox holds.
#[derive(Debug, RactorMessage)]
pub(super) enum LinksMessage {
    /// Something is due.
    Wake,
    /// Membership: dial this seed.
    Seed(NodeAddress),
    /// Membership: a node, as it is seen now.
    Member(Peer, NodeAddress, Status),
    /// A dial ended.
    Dialled(NodeAddress, Result<Box<Established>, DialError>),
    /// A peer introduces itself: a ticket, or why not.
    Hello(Peer, RpcReplyPort<Result<Ticket, Refusal>>),
    /// Its name was in use; whether the owner is alive.
    Probed(Peer, bool, RpcReplyPort<Result<Ticket, Refusal>>),
    /// A peer that was dialled has welcomed us: whether to go on.
    Welcomed(Peer, RpcReplyPort<bool>),
    /// A peer that was welcomed goes on: whether its ticket holds.
    Go(Peer, Ticket, RpcReplyPort<bool>),
    /// A connection that was welcomed failed.
    InboundEnded(Peer, Ticket),
    /// The listener has introduced a peer.
    Received(Box<Established>),
    /// The session of a connection can be used; `ractor_cluster`'s number for the node.
    Ready(LinkNumber, u64),
    /// The session of a connection ended.
    Lost(LinkNumber),
    /// A connection has not become ready in time, or its predecessor has not ended in time.
    Overdue(LinkNumber),
    /// From now on nobody is let in.
    Close,
    /// Who this node is, for introductions; none while it leaves.
    Introducer(RpcReplyPort<Option<Introducer>>),
}

/// Why addresses could not be reached, for users.
pub(super) type Failures = Arc<Mutex<BTreeMap<NodeAddress, String>>>;

/// What the actor is started with.
#[derive(Clone, Debug)]
pub(super) struct LinksArguments {
    pub(super) introduction: Introduction,
    pub(super) cookie: Cookie,
    pub(super) tls: Option<Tls>,
    pub(super) timings: Timings,
    pub(super) handshake_timeout: Duration,
    pub(super) redial: Backoff,
    pub(super) network: Network,
    pub(super) directory: Directory,
    pub(super) failures: Failures,
    pub(super) membership: Outlet<MembershipMessage>,
    pub(super) events: Outlet<ClusterEvent>,
}

/// The actor.
#[derive(Debug)]
pub(super) struct LinksActor;

/// What the actor owns while it runs.
pub(super) struct LinksState {
    myself: ActorRef<LinksMessage>,
    arguments: LinksArguments,
    links: Links,
    introducer: Introducer,
    server: ActorRef<NodeServerMessage>,
    next_link: LinkNumber,
    /// Every connection that has been established and not ended. At most two per peer.
    sessions: BTreeMap<LinkNumber, Session>,
    is_closed: bool,
    /// When the next wake-up comes.
    wake_at: Option<Timestamp>,
}

struct Session {
    peer: Peer,
    /// Where the peer listens.
    address: NodeAddress,
    link: Arc<Link>,
    fence: Fence,
    phase: Phase,
    is_dialled: bool,
}

enum Phase {
    /// Until the session that it replaces has ended.
    Waiting {
        after: LinkNumber,
        established: Box<Established>,
    },
    /// `ractor_cluster` has it.
    Opening,
    Ready,
}

impl Actor for LinksActor {
    type Msg = LinksMessage;
    type State = LinksState;
    type Arguments = LinksArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<LinksMessage>,
        arguments: LinksArguments,
    ) -> Result<LinksState, ActorProcessingErr> {
        let mut introduction = arguments.introduction.clone();
        let gateway = arguments.directory.serving(gateway::ROLE).ok_or("there is no gateway")?;
        introduction.gateway = gateway.get_id().pid();
        let peer = introduction.peer();
        // The incarnation is part of the name, so that what is left of an earlier life does not keep
        // this one out. The address stands for the host: two nodes that called their hosts the same
        // could take each other for themselves.
        let name = format!("{}.{}", peer.id, peer.incarnation);
        let server = NodeServer::new(
            0,
            arguments.cookie.for_transport(),
            name,
            introduction.address.0.clone(),
            None,
            Some(NodeConnectionMode::Isolated),
        )
        .with_listen_addr(IpAddr::V4(Ipv4Addr::LOCALHOST))
        .with_max_inbound_frame_size(FRAME_MAX as u64 + TRANSPORT_OVERHEAD);
        let (server, _) = Actor::spawn_linked(None, server, (), myself.get_cell()).await?;
        let subscription = Box::new(Sessions(myself.clone()));
        server
            .cast(NodeServerMessage::SubscribeToEvents { id: "tickwright".into(), subscription })?;
        let links = Links::new(LinksConfig {
            own: peer.clone(),
            own_address: introduction.address.clone(),
            backoff: arguments.redial,
            member_retry: MEMBER_RETRY,
            seed: peer.incarnation.0 ^ now().as_nanos(),
        });
        let introducer = Introducer {
            introduction,
            cookie: arguments.cookie.clone(),
            tls: arguments.tls.clone(),
            timings: arguments.timings,
            patience: arguments.handshake_timeout,
            links: myself.clone(),
            cut: arguments.network.line().clone(),
        };
        arguments.directory.register(ROLE, &myself);
        Ok(LinksState {
            myself,
            arguments,
            links,
            introducer,
            server,
            next_link: 1,
            sessions: BTreeMap::new(),
            is_closed: false,
            wake_at: None,
        })
    }

    async fn handle(
        &self,
        _myself: ActorRef<LinksMessage>,
        message: LinksMessage,
        state: &mut LinksState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            LinksMessage::Wake => state.wake_at = None,
            LinksMessage::Seed(address) => state.on_seed(address),
            LinksMessage::Member(peer, address, status) => {
                state.links.on_member(&peer, &address, status, now());
            }
            LinksMessage::Dialled(address, outcome) => state.on_dialled(address, outcome)?,
            LinksMessage::Hello(peer, reply) => state.on_hello(peer, reply),
            LinksMessage::Probed(peer, is_alive, reply) => state.on_probed(peer, is_alive, reply),
            LinksMessage::Welcomed(peer, reply) => {
                let goes_on = !state.is_closed && state.links.on_welcome(&peer);
                let _ = reply.send(goes_on);
            }
            LinksMessage::Go(peer, ticket, reply) => {
                let _ = reply.send(state.links.on_go(&peer.id, ticket) && !state.is_closed);
            }
            LinksMessage::InboundEnded(peer, ticket) => {
                state.links.on_inbound_ended(&peer.id, ticket);
            }
            LinksMessage::Received(established) => state.on_established(established)?,
            LinksMessage::Ready(link, node) => state.on_ready(link, node),
            LinksMessage::Lost(link) => state.on_lost(link)?,
            LinksMessage::Overdue(link) => state.on_overdue(link)?,
            LinksMessage::Close => state.is_closed = true,
            LinksMessage::Introducer(reply) => {
                let _ = reply.send((!state.is_closed).then(|| state.introducer.clone()));
            }
        }
        state.dial_whoever_is_due();
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<LinksMessage>,
        event: SupervisionEvent,
        state: &mut LinksState,
    ) -> Result<(), ActorProcessingErr> {
        let ended = match event {
            SupervisionEvent::ActorFailed(actor, _)
            | SupervisionEvent::ActorTerminated(actor, ..) => actor.get_id(),
            SupervisionEvent::ActorStarted(_)
            | SupervisionEvent::ProcessGroupChanged(_)
            | SupervisionEvent::PidLifecycleEvent(_) => return Ok(()),
        };
        if ended == state.server.get_id() {
            return Err("the server of sessions has ended".into());
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<LinksMessage>,
        state: &mut LinksState,
    ) -> Result<(), ActorProcessingErr> {
        for session in state.sessions.values() {
            state.arguments.network.close_link(&session.link);
        }
        state.server.stop(None);
        let _ = state.server.wait(Some(FENCED_END)).await;
        Ok(())
    }
}

impl LinksState {
    fn on_seed(&mut self, address: NodeAddress) {
        if let Some(id) = self.links.on_seed(&address, now()) {
            let answered = MembershipMessage::SeedAnswered(address, Some(id));
            let _ = self.arguments.membership.send(answered);
        }
    }

    fn dial_whoever_is_due(&mut self) {
        if self.is_closed {
            return;
        }
        for LinksEffect::Dial { address, patience } in self.links.on_wake(now()) {
            let (introducer, myself) = (self.introducer.clone(), self.myself.clone());
            tokio::spawn(async move {
                let outcome = introducer.dial(&address, patience).await.map(Box::new);
                let _ = myself.cast(LinksMessage::Dialled(address, outcome));
            });
        }
        let Some(next) = self.links.next_wake() else { return };
        if self.wake_at.is_none_or(|at| next < at) {
            self.wake_at = Some(next);
            self.myself.send_after(next.since(now()), || LinksMessage::Wake);
        }
    }

    fn on_dialled(
        &mut self,
        address: NodeAddress,
        outcome: Result<Box<Established>, DialError>,
    ) -> Result<(), ActorProcessingErr> {
        let mut failures = self.arguments.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.remove(&address);
        let mut reached = None;
        let mut is_oneself = false;
        let mut established = None;
        match outcome {
            Ok(connection) => {
                reached = Some(connection.introduction.id.clone());
                established = Some(connection);
            }
            Err(DialError::Abandoned(peer)) if peer.id == self.introducer.introduction.id => {
                is_oneself = true;
            }
            Err(DialError::Refused(Refusal::IsOneself)) => is_oneself = true,
            Err(DialError::Abandoned(peer)) => reached = Some(peer.id),
            Err(error) => {
                tracing::debug!(%address, %error, "a node was not reached");
                failures.insert(address.clone(), error.to_string());
                if error.is_final() {
                    let stale = error.stale();
                    let reason = error.to_string();
                    let refused = ClusterEvent::Refused { address: address.clone(), reason, stale };
                    let _ = self.arguments.events.send(refused);
                }
            }
        }
        drop(failures);
        self.links.on_dialled(&address, reached.clone(), is_oneself, now());
        let answered = MembershipMessage::SeedAnswered(address, reached);
        let _ = self.arguments.membership.send(answered);
        established.map_or(Ok(()), |established| self.on_established(established))
    }

    fn on_hello(&mut self, peer: Peer, reply: RpcReplyPort<Result<Ticket, Refusal>>) {
        if self.is_closed {
            let _ = reply.send(Err(Refusal::Leaving));
            return;
        }
        let verdict = self.links.on_hello(&peer);
        if verdict == HelloVerdict::Probe {
            self.probe(peer, reply);
        } else {
            self.answer_hello(&peer, verdict, reply);
        }
    }

    fn on_probed(
        &mut self,
        peer: Peer,
        is_alive: bool,
        reply: RpcReplyPort<Result<Ticket, Refusal>>,
    ) {
        let verdict = self.links.on_probed(&peer, is_alive);
        self.answer_hello(&peer, verdict, reply);
    }

    fn answer_hello(
        &self,
        peer: &Peer,
        verdict: HelloVerdict,
        reply: RpcReplyPort<Result<Ticket, Refusal>>,
    ) {
        let answer = match verdict {
            HelloVerdict::Welcome(ticket) => Ok(ticket),
            HelloVerdict::IsOneself => Err(Refusal::IsOneself),
            HelloVerdict::Stale { known } => Err(Refusal::Stale { known }),
            HelloVerdict::NameInUse | HelloVerdict::Probe => {
                let session = self.sessions.values().find(|session| session.peer.id == peer.id);
                let address = session.map_or(&self.introducer.introduction.address, |s| &s.address);
                Err(Refusal::NameInUse { id: peer.id.clone(), address: address.clone() })
            }
        };
        let _ = reply.send(answer);
    }

    /// Finds out whether the owner of a name shows a sign of life.
    fn probe(&self, peer: Peer, reply: RpcReplyPort<Result<Ticket, Refusal>>) {
        let (directory, myself) = (self.arguments.directory.clone(), self.myself.clone());
        let wait = self.arguments.timings.name_probe;
        tokio::spawn(async move {
            let before = beat_of(&directory, &peer.id).await;
            tokio::time::sleep(wait).await;
            let after = beat_of(&directory, &peer.id).await;
            // The same life, and a later beat of it.
            let is_alive = matches!((before, after), (Some((life, beat)), Some((same, later)))
                if life == same && later > beat);
            let _ = myself.cast(LinksMessage::Probed(peer, is_alive, reply));
        });
    }

    fn on_established(&mut self, established: Box<Established>) -> Result<(), ActorProcessingErr> {
        if self.is_closed {
            return Ok(());
        }
        let number = self.next_link;
        self.next_link += 1;
        let peer = established.introduction.peer();
        let before = self.links.on_established(number, &peer);
        let fence = Fence::default();
        let link = self.arguments.network.add_link(LinkParts {
            peer: peer.clone(),
            fence: fence.clone(),
            pass: established.pass,
            peer_pass: established.peer_pass,
        });
        let (is_dialled, address) =
            (established.is_dialled, established.introduction.address.clone());
        let after = before.filter(|before| self.sessions.contains_key(before));
        if let Some(before) = after.and_then(|before| self.sessions.get(&before)) {
            self.arguments.network.close_link(&before.link);
        }
        // One that was waiting itself has nothing to end; its own predecessor has.
        let after = after.and_then(|before| match self.sessions.get(&before)?.phase {
            Phase::Waiting { after, .. } => {
                self.sessions.remove(&before);
                Some(after)
            }
            Phase::Opening | Phase::Ready => Some(before),
        });
        let (phase, opened, deadline) = match after {
            Some(after) => (Phase::Waiting { after, established }, None, FENCED_END),
            None => (Phase::Opening, Some(established), self.arguments.handshake_timeout),
        };
        self.myself.send_after(deadline, move || LinksMessage::Overdue(number));
        self.sessions.insert(number, Session { peer, address, link, fence, phase, is_dialled });
        opened.map_or(Ok(()), |established| self.open(number, established))
    }

    /// Hands a connection to `ractor_cluster`.
    fn open(
        &mut self,
        number: LinkNumber,
        established: Box<Established>,
    ) -> Result<(), ActorProcessingErr> {
        let Some(session) = self.sessions.get_mut(&number) else { return Ok(()) };
        session.phase = Phase::Opening;
        let stream = Box::new(Fenced {
            inner: established.connection,
            fence: session.fence.clone(),
            label: number.to_string(),
        });
        let is_server = !session.is_dialled;
        let opened = NodeServerMessage::ConnectionOpenedExternal { stream, is_server };
        self.server.cast(opened).map_err(|error| match error {
            MessagingErr::ChannelClosed | MessagingErr::InvalidActorType => {
                "the server of sessions has ended".into()
            }
            MessagingErr::SendErr(_) => "the server of sessions takes nothing in".into(),
        })
    }

    fn on_ready(&mut self, number: LinkNumber, node: u64) {
        let Some(session) = self.sessions.get_mut(&number) else { return };
        let found = pg::get_members(&gateway::GROUP.to_owned()).into_iter().find(
            |member| matches!(member.get_id(), ActorId::Remote { node_id, .. } if node_id == node),
        );
        let Some(found) = found else {
            tracing::warn!(peer = %session.peer.id, "the node shows no gateway");
            self.arguments.network.close_link(&session.link);
            return;
        };
        session.phase = Phase::Ready;
        self.arguments.network.open_link(&session.link, found.into());
        let linked = MembershipMessage::Linked(session.peer.clone());
        let _ = self.arguments.membership.send(linked);
    }

    fn on_lost(&mut self, number: LinkNumber) -> Result<(), ActorProcessingErr> {
        let Some(session) = self.sessions.remove(&number) else { return Ok(()) };
        self.arguments.network.close_link(&session.link);
        if let Some(peer) = self.links.on_lost(number, now()) {
            let _ = self.arguments.membership.send(MembershipMessage::LinkLost(peer));
        }
        let is_next = |session: &Session| match session.phase {
            Phase::Waiting { after, .. } => after == number,
            Phase::Opening | Phase::Ready => false,
        };
        let successor = self.sessions.iter().find(|(_, session)| is_next(session));
        let successor = successor.map(|(&number, _)| number);
        successor.map_or(Ok(()), |successor| self.open_waiting(successor))
    }

    /// The predecessor has ended, or has had its time.
    fn open_waiting(&mut self, number: LinkNumber) -> Result<(), ActorProcessingErr> {
        let Some(session) = self.sessions.get_mut(&number) else { return Ok(()) };
        match std::mem::replace(&mut session.phase, Phase::Opening) {
            Phase::Waiting { established, .. } => {
                let deadline = self.arguments.handshake_timeout;
                self.myself.send_after(deadline, move || LinksMessage::Overdue(number));
                self.open(number, established)
            }
            phase @ (Phase::Opening | Phase::Ready) => {
                session.phase = phase;
                Ok(())
            }
        }
    }

    fn on_overdue(&mut self, number: LinkNumber) -> Result<(), ActorProcessingErr> {
        let Some(session) = self.sessions.get(&number) else { return Ok(()) };
        match session.phase {
            Phase::Waiting { .. } => self.open_waiting(number),
            Phase::Opening => {
                tracing::warn!(peer = %session.peer.id, "a session was not ready in time");
                self.arguments.network.close_link(&session.link);
                Ok(())
            }
            Phase::Ready => Ok(()),
        }
    }
}

/// Tells the links actor what becomes of sessions.
struct Sessions(ActorRef<LinksMessage>);

impl Sessions {
    fn tell(
        &self,
        session: &NodeServerSessionInformation,
        of: impl Fn(LinkNumber) -> LinksMessage,
    ) {
        // Only connections that we handed over have a number for a label.
        if let Ok(number) = session.peer_addr.parse() {
            let _ = self.0.cast(of(number));
        }
    }
}

impl NodeEventSubscription for Sessions {
    fn node_session_opened(&self, _session: NodeServerSessionInformation) {}

    fn node_session_authenticated(&self, _session: NodeServerSessionInformation) {}

    fn node_session_ready(&self, session: NodeServerSessionInformation) {
        self.tell(&session, |link| LinksMessage::Ready(link, session.node_id));
    }

    fn node_session_disconnected(&self, session: NodeServerSessionInformation) {
        self.tell(&session, LinksMessage::Lost);
    }
}

/// The highest beat that the membership knows of a node, and of which life of it.
async fn beat_of(directory: &Directory, id: &NodeId) -> Option<(Incarnation, u64)> {
    let actor = directory.serving(super::membership::ROLE)?;
    let membership = ActorRef::<MembershipMessage>::from(actor);
    let question = |reply| MembershipMessage::BeatOf(id.clone(), reply);
    match membership.call(question, Some(MEMBER_RETRY)).await {
        Ok(CallResult::Success(answer)) => answer,
        Ok(CallResult::Timeout | CallResult::SenderError) | Err(_) => None,
    }
}
