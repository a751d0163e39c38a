//! The cluster's own services on one node.
//!
//! ```text
//! ClusterServices::start ─▶ cluster, one_for_all ─┬ gateway      what other nodes can reach
//!                                                 ├ links        connections to other nodes
//!                                                 ├ membership   who is there, who is alive
//!                                                 ├ listener     lets nodes introduce themselves
//!                                                 └ desk         answers questions about this node
//! ```
//!
//! Everything else on the node uses the handle that is returned: [`ClusterServices::members`],
//! [`ClusterServices::network`] to tell and ask any role on any node, and [`Network::register`] to
//! serve one. Decisions are in [`tickwright_core::cluster`].

mod admin;
mod copies;
mod cut;
mod deeds;
mod desk;
mod envelope;
mod gateway;
mod handshake;
mod hello;
mod links;
mod listener;
mod load;
mod lone;
mod membership;
mod memory;
mod metrics;
mod network;
mod peers;
mod stream;
mod tls;
mod transport;

use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use ractor::{Actor, ActorRef, SpawnErr};
use tickwright_core::cluster::{MemberView, Peer, Profile, Status, Timings};
use tickwright_core::config::{Config, Subtree};
use tickwright_core::domain::{Incarnation, NodeAddress, NodeId, Timestamp};
use tickwright_core::supervision::{Restart, Strategy};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

pub use admin::{Admin, AdminError};
pub use copies::{Copies, LogStatus};
pub use desk::{DeskCall, Note, Section, role as desk_role};
pub use envelope::{SCHEMA, schema_hash};
pub use hello::{Cookie, Introduction, Refusal};
pub use load::{LoadReport, Loads};
pub use lone::LoneDoor;
pub use membership::View;
pub use memory::{Memory, MemoryError, remembered};
pub use network::{
    DeliveryError, Handler, Message, Network, NetworkCounts, Receipt, Reply, Request, Route, Way,
};
pub use peers::PeerQueues;
pub use tls::{Identity, Tls, TlsError, node_name};
pub use transport::{Edge, KIND as STREAM_KIND, Transport, WireBlock};

use crate::kit::{
    ChildSpec, Clock, Directory, Outlet, SupervisionStatistics, Supervisor, SupervisorArguments,
    SupervisorMessage, monotonic_nanos,
};
use admin::Guard;
use desk::{DeskActor, DeskArguments, Sections};
use gateway::{GatewayActor, GatewayArguments};
use links::{Failures, LinksActor, LinksArguments, LinksMessage};
use listener::{ListenerActor, ListenerArguments};
use load::{LoadActor, LoadArguments};
use membership::{MembershipActor, MembershipArguments, MembershipMessage};
use network::ChoiceSettings;
#[cfg(test)]
pub(crate) use network::tests as network_tests;

/// Time for everything that is judged between nodes: it goes on while clocks are set.
fn now() -> Timestamp {
    Timestamp::from_nanos(monotonic_nanos())
}

/// What happened, for whoever runs the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterEvent {
    /// This node is in the cluster of `through`.
    Joined {
        /// The member that was reached first.
        through: NodeId,
    },
    /// This node is the first of a new cluster.
    Founded,
    /// A member is seen in another light.
    Member {
        /// Which life of whom.
        peer: Peer,
        /// Where it listens.
        address: NodeAddress,
        /// What it was; none, if it is new.
        before: Option<Status>,
        /// What it is.
        status: Status,
    },
    /// Another node refused this one for good.
    Refused {
        /// Where it listens.
        address: NodeAddress,
        /// Why.
        reason: String,
        /// The later life of this node that it has seen, if that is why.
        stale: Option<Incarnation>,
    },
    /// A node of this one's name, started later, is in the cluster.
    Replaced {
        /// Its incarnation.
        by: Incarnation,
    },
}

/// Why the services cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Nobody can listen there.
    #[error("cannot listen on {address}: {message}; give another cluster.bind")]
    Bind {
        /// Where.
        address: String,
        /// What the system said.
        message: String,
    },
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// What the node remembers.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The secret cannot be read.
    #[error("the secret `{}` cannot be read: {message}; see cluster.cookie_file", path.display())]
    Cookie {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// Nobody has let this node in.
    #[error("no member of the cluster has let this node in within {patience:?}: {reasons}")]
    NoMember {
        /// How long was waited.
        patience: Duration,
        /// What became of each seed.
        reasons: String,
    },
    /// An actor did not start.
    #[error("the cluster's services cannot start: {0}")]
    Spawn(#[from] SpawnErr),
}

/// The running services of one node.
#[derive(Debug)]
pub struct ClusterServices {
    network: Network,
    view: watch::Receiver<View>,
    directory: Directory,
    failures: Failures,
    sections: Sections,
    loads: Loads,
    supervisor: ActorRef<SupervisorMessage>,
    ended: JoinHandle<()>,
    tls: Option<Tls>,
    introduction: Introduction,
    tokens_file: Option<PathBuf>,
    ask_timeout: Duration,
    leave_timeout: Duration,
}

/// Where the services tell what happened.
pub type Events = mpsc::UnboundedReceiver<ClusterEvent>;

impl ClusterServices {
    /// Starts the services that `config` describes; they look for the cluster on their own.
    ///
    /// # Errors
    ///
    /// [`ClusterError`], with the remedy.
    pub async fn start(
        config: &Config,
        memory: Memory,
        clock: Clock,
    ) -> Result<(Self, Events), ClusterError> {
        let cluster = &config.cluster;
        let tls = match &cluster.tls {
            Some(files) => Some(Tls::open_for_node(files, &config.node.name)?),
            None => None,
        };
        let cookie = cookie(&cluster.name, cluster.cookie_file.as_deref())?;
        let listener = bind(&cluster.bind).map_err(|error| ClusterError::Bind {
            address: cluster.bind.clone(),
            message: error.to_string(),
        })?;
        let bound = listener.local_addr().map_or_else(|_| cluster.bind.clone(), |a| a.to_string());
        let address = NodeAddress(cluster.advertise.clone().unwrap_or(bound));
        let timings = Timings::from_heartbeat(cluster.heartbeat);
        let introduction = Introduction {
            cluster: cluster.name.clone(),
            id: NodeId(config.node.name.clone()),
            incarnation: memory.incarnation(),
            address: address.clone(),
            program: env!("CARGO_PKG_VERSION").into(),
            schema: schema_hash(),
            config: config.fingerprint(),
            gateway: 0,
        };
        let profile = Profile {
            id: introduction.id.clone(),
            incarnation: introduction.incarnation,
            address,
            http: config.node.http_bind.clone().unwrap_or_default(),
            duties: config.node.roles.iter().map(|&role| role.to_owned()).collect(),
            services: Vec::new(),
            version: 0,
        };
        let loads = Loads::new(config.allocation.load_report);
        let choice = ChoiceSettings {
            balancing: cluster.balancing,
            slow_start: config.allocation.slow_start,
            weights: config.allocation.weights.clone(),
            loads: loads.clone(),
        };
        let (credit, message_max) = (cluster.credit_bytes, cluster.message_bytes_max);
        let network = Network::new(introduction.peer(), credit, message_max, choice);
        let (events, received) = Outlet::to_channel();
        let (view_sender, view) = watch::channel(View::default());
        let directory = Directory::default();
        let failures = Failures::default();
        let sections = Sections::default();
        let statistics = SupervisionStatistics::default();
        let parts = Parts {
            desk: DeskArguments {
                introduction: introduction.clone(),
                http: profile.http.clone(),
                duties: profile.duties.clone(),
                timings,
                network: network.clone(),
                view: view.clone(),
                failures: Arc::clone(&failures),
                statistics: statistics.clone(),
                begun_nanos: monotonic_nanos(),
                sections: sections.clone(),
                loads: loads.clone(),
            },
            load: LoadArguments {
                network: network.clone(),
                loads: loads.clone(),
                weights: config.allocation.load_weights,
                memory_limit_bytes: config.allocation.memory_limit_bytes,
            },
            gateway: GatewayArguments {
                network: network.clone(),
                beats: Outlet::to_role(&directory, membership::ROLE, |(peer, beat)| {
                    MembershipMessage::Beat(peer, beat)
                }),
                directory: directory.clone(),
            },
            links: LinksArguments {
                introduction: introduction.clone(),
                cookie,
                tls: tls.clone(),
                timings,
                handshake_timeout: cluster.handshake_timeout,
                redial: cluster.redial,
                network: network.clone(),
                directory: directory.clone(),
                failures: Arc::clone(&failures),
                membership: Outlet::to_role(&directory, membership::ROLE, |message| message),
                events: events.clone(),
            },
            membership: MembershipArguments {
                profile,
                seeds: cluster.seeds.iter().cloned().map(NodeAddress).collect(),
                timings,
                handshake_timeout: cluster.handshake_timeout,
                redial: cluster.redial,
                network: network.clone(),
                memory,
                directory: directory.clone(),
                links: Outlet::to_role(&directory, links::ROLE, |message| message),
                events,
                view: Arc::new(view_sender),
            },
            listener: ListenerArguments {
                listener: Arc::new(listener),
                unproven_max: cluster.unproven_max,
                network: network.clone(),
                directory: directory.clone(),
            },
        };
        let mut policy = config.policy(Subtree::Control);
        policy.strategy = Strategy::OneForAll;
        let arguments = SupervisorArguments {
            name: "cluster".into(),
            policy,
            children: parts.children(),
            clock,
            statistics,
        };
        let (supervisor, ended) = Actor::spawn(None, Supervisor, arguments).await?;
        let services = Self {
            network,
            view,
            directory,
            failures,
            sections,
            loads,
            supervisor,
            ended,
            tls,
            introduction,
            tokens_file: config.node.tokens_file.as_ref().map(PathBuf::from),
            ask_timeout: cluster.ask_timeout,
            leave_timeout: cluster.leave_timeout,
        };
        Ok((services, received))
    }

    /// Joins the cluster of `config` as a node that has no part in its work, to tell and ask what runs
    /// there; returns once it is a member. `directory` is where it remembers the others. Its name must
    /// be its own, and what changes answers must be configured as it is everywhere. A process can be one node at a
    /// time: `ractor_cluster` has one register of actors for the whole process, so of two nodes each would find the
    /// other's peers. Another may begin once this one has [left](Self::leave).
    ///
    /// # Errors
    ///
    /// [`ClusterError`]; [`ClusterError::NoMember`] when none has let it in within `patience`.
    pub async fn observe(
        config: &Config,
        directory: &Path,
        patience: Duration,
    ) -> Result<Self, ClusterError> {
        let clock = Clock::system();
        let clock_ms = clock.now().as_nanos() / 1_000_000;
        let memory = Memory::open(directory, &config.cluster.name, clock_ms)?;
        let (services, _) = Self::start(config, memory, clock).await?;
        let mut view = services.view();
        let joined = tokio::time::timeout(patience, view.wait_for(|view| view.is_member)).await;
        if matches!(joined, Ok(Ok(_))) {
            drop(joined);
            return Ok(services);
        }
        let failures = services.failures();
        let reasons = failures.iter().map(|(address, reason)| format!("{address}: {reason}"));
        let reasons = reasons.collect::<Vec<_>>().join("; ");
        services.stop().await;
        Err(ClusterError::NoMember { patience, reasons })
    }

    /// Asks whoever serves `role`, as soon as it is known who does, and returns the answer; question and
    /// answer are JSON.
    ///
    /// # Errors
    ///
    /// [`DeliveryError`].
    pub async fn ask(
        &self,
        role: &str,
        question: &str,
        patience: Duration,
    ) -> Result<String, DeliveryError> {
        let mut routes = self.network.routes();
        let found =
            async { while self.network.route(role).is_none() && routes.changed().await.is_ok() {} };
        // Who it is will be said by the question.
        let _ = tokio::time::timeout(patience, found).await;
        let answer = self.network.ask(None, Message::json(role, question), patience).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// Tells and asks roles on any node, and serves them on this one.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Everybody that is known, by name.
    pub fn members(&self) -> Vec<MemberView> {
        self.view.borrow().members.clone()
    }

    /// The same and more, as it changes.
    pub fn view(&self) -> watch::Receiver<View> {
        self.view.clone()
    }

    /// Why addresses could not be reached, the last time each.
    pub fn failures(&self) -> BTreeMap<NodeAddress, String> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets another part of this node say in its status, under `name`, how it is.
    pub fn show(&self, name: &'static str, section: Section) {
        self.sections.add(name, section);
    }

    /// The same of each member.
    pub fn note_members(&self, name: &'static str, note: Note) {
        self.sections.add_note(name, note);
    }

    /// Shows the supervision trees of another part of this node beside those of the services.
    pub fn show_trees(&self, name: &'static str, statistics: SupervisionStatistics) {
        self.sections.add_tree(name, statistics);
    }

    /// The same of a tree that there will be.
    pub fn tree_shower(&self, name: &'static str) -> impl FnOnce(SupervisionStatistics) + use<> {
        let sections = self.sections.clone();
        move |statistics| sections.add_tree(name, statistics)
    }

    /// How loaded every node is.
    pub fn loads(&self) -> &Loads {
        &self.loads
    }

    /// What this node says of itself.
    pub fn introduction(&self) -> &Introduction {
        &self.introduction
    }

    /// Lets tools in at `address`; where there is a file of tokens, those that have one.
    ///
    /// # Errors
    ///
    /// [`AdminError`] when nobody can listen there, or the tokens cannot be read.
    pub async fn open_admin(&self, address: &str) -> Result<Admin, AdminError> {
        let (network, view) = (self.network.clone(), self.view.clone());
        let guard = self.tokens_file.as_deref().map(Guard::open).transpose()?;
        Admin::open(address, self.tls.clone(), guard, network, view, self.ask_timeout).await
    }

    /// Waits until the services have ended by themselves, which they do only when they give up.
    pub async fn ended(&mut self) {
        // A task that was cancelled has ended too.
        let _ = (&mut self.ended).await;
    }

    /// Leaves the cluster in order: lets nobody in any more, says goodbye, waits until every linked
    /// node has heard it, and ends all connections.
    pub async fn leave(self) {
        if let Some(links) = self.directory.serving(links::ROLE) {
            let _ = ActorRef::<LinksMessage>::from(links).cast(LinksMessage::Close);
        }
        if let Some(membership) = self.directory.serving(membership::ROLE) {
            let membership = ActorRef::<MembershipMessage>::from(membership);
            let left = membership.call(MembershipMessage::Leave, Some(self.leave_timeout)).await;
            if !matches!(left, Ok(ractor::rpc::CallResult::Success(()))) {
                tracing::warn!("not every node has heard that this one leaves");
            }
        }
        self.stop().await;
    }

    /// Ends the services without a word to others.
    pub async fn stop(self) {
        self.supervisor.stop(None);
        let _ = tokio::time::timeout(self.leave_timeout, self.ended).await;
    }
}

/// What each service is started with, however often.
struct Parts {
    gateway: GatewayArguments,
    links: LinksArguments,
    membership: MembershipArguments,
    listener: ListenerArguments,
    desk: DeskArguments,
    load: LoadArguments,
}

impl Parts {
    fn children(self) -> Vec<ChildSpec> {
        let Self { gateway, links, membership, listener, desk, load } = self;
        vec![
            child("gateway", GatewayActor, || GatewayActor, gateway),
            child("links", LinksActor, || LinksActor, links),
            child("membership", MembershipActor, || MembershipActor, membership),
            child("listener", ListenerActor, || ListenerActor, listener),
            child("desk", DeskActor, || DeskActor, desk),
            child("load", LoadActor, || LoadActor, load),
        ]
    }
}

/// A recipe for one service.
fn child<A>(name: &str, _kind: A, make: fn() -> A, arguments: A::Arguments) -> ChildSpec
where
    A: Actor,
    A::Arguments: Clone + Sync,
{
    ChildSpec::new(name, Restart::Permanent, move |parent| {
        let arguments = arguments.clone();
        async move {
            let (actor, _) = Actor::spawn_linked(None, make(), arguments, parent).await?;
            Ok(actor.get_cell())
        }
    })
}

fn bind(address: &str) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn cookie(cluster: &str, file: Option<&str>) -> Result<Cookie, ClusterError> {
    let Some(file) = file else { return Ok(Cookie::new(cluster, b"")) };
    let path = Path::new(file);
    let fail = |message: String| ClusterError::Cookie { path: path.into(), message };
    let secret = std::fs::read(path).map_err(|error| fail(error.to_string()))?;
    let secret = secret.trim_ascii();
    if secret.len() < 16 {
        return Err(fail("it holds fewer than 16 bytes, which could be guessed".into()));
    }
    Ok(Cookie::new(cluster, secret))
}
