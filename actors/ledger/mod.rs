//! The ledger: what all nodes agree on, kept by some of them.
//!
//! ```text
//! the node, tools ─▶ LedgerClient ─▶ Batcher ─▶ openraft ─▶ copies of other nodes   (Peers)
//!                         │                        ├──────▶ log, vote, snapshot     (file, redb)
//!                         └──── reads ◀── state ◀──┘ apply
//! LedgerActor: this node's session; where it leads, who has expired and who votes
//! ```
//!
//! What it decides is in [`tickwright_core::ledger`]; [openraft](https://docs.rs/openraft) makes all
//! copies decide the same (Ongaro and Ousterhout: "In Search of an Understandable Consensus Algorithm",
//! 2014). A copy goes by a number that is drawn when its file is made, and is told apart from one that
//! replaces it after a loss: that one begins as a learner and has never voted.

mod actor;
mod allocation;
mod batcher;
mod canvass;
mod changes;
mod client;
mod file;
mod found;
mod peers;
mod raft;
mod service;
mod storage;
mod switches;
#[cfg(test)]
mod tests;
mod view;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ractor::{Actor, ActorRef, SpawnErr};
use tickwright_core::cluster::Timings;
use tickwright_core::domain::{Incarnation, NodeId, Timestamp};
use tickwright_core::ledger::{Keeper, LockExpiry};
use tokio::task::JoinHandle;

pub use allocation::{drained, given_up, leaving, owners};
pub use client::{LedgerClient, LedgerError, Watch};
pub use file::FileError;
pub use peers::{Asked, KIND_LEDGER, KIND_RAFT, PeerError, Peers};
pub use switches::{SwitchStanding, switches};
pub use view::LedgerView;

use crate::kit::{Outlet, monotonic_nanos};
use actor::{LedgerActor, LedgerArguments, LedgerMessage};
use batcher::Batcher;
use file::{FileThread, LedgerFile};
use peers::{About, Mesh, Own};
use service::Slot;
use storage::{LogStore, Machine, Shared};

/// The role under which every node answers for the ledger.
pub const ROLE: &str = "ledger";

/// Time for leases: it goes on while clocks are set, and while this process is stopped.
fn now() -> Timestamp {
    Timestamp::from_nanos(monotonic_nanos())
}

/// A number that nothing else has, from what nothing else is called.
fn draw(names: &[&str]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for name in names {
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(first).max(1)
}

/// How this node takes part.
#[derive(Clone, Debug)]
pub struct LedgerSettings {
    /// What the cluster is called.
    pub cluster: String,
    /// This node.
    pub node: NodeId,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// Every time-out.
    pub timings: Timings,
    /// Among nodes that could coordinate, the one with the highest does.
    pub priority: u32,
    /// Whether it does nothing but vote.
    pub is_witness: bool,
    /// How many vote; none for as many as there may be.
    pub voters: Option<usize>,
}

/// What happened, for whoever runs the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LedgerEvent {
    /// Most voters answer.
    QuorumFound {
        /// All of them.
        voters: Vec<String>,
    },
    /// They do not: what needs agreement is refused.
    QuorumLost {
        /// All of them.
        voters: Vec<String>,
    },
    /// Another node coordinates.
    Coordinator {
        /// Which.
        node: NodeId,
        /// Its term.
        term: u64,
    },
    /// What this node owned or coordinated may be another's.
    SessionLost,
    /// There is another ledger in this cluster, and this node's has to give way: its copy is to be set
    /// aside, and another one begun.
    GivesWay {
        /// To which.
        reason: String,
    },
    /// The ledger cannot go on here; the node has to end.
    Failed {
        /// Why, and what to do.
        reason: String,
    },
}

/// Why the ledger cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum LedgerStartError {
    /// Its copy cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// openraft.
    #[error("the ledger cannot start: {0}")]
    Raft(String),
    /// The actor.
    #[error("the ledger cannot start: {0}")]
    Spawn(#[from] SpawnErr),
}

/// This node's copy, which is opened before the node is in a cluster. Clones share it.
#[derive(Clone)]
pub struct LedgerCopy {
    file: FileThread,
    own: Arc<Own>,
    about: Arc<About>,
    slot: Slot,
}

impl std::fmt::Debug for LedgerCopy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LedgerCopy").field("own", &self.own).finish_non_exhaustive()
    }
}

impl LedgerCopy {
    /// Opens the copy in `directory`, or makes one. Blocks.
    ///
    /// # Errors
    ///
    /// [`FileError`], with the remedy.
    pub fn open(
        directory: &Path,
        node: &NodeId,
        incarnation: Incarnation,
    ) -> Result<Self, FileError> {
        let replica = draw(&["replica", &node.0, &incarnation.to_string()]);
        let (file, mut identity) = LedgerFile::open(directory, replica)?;
        let (state, vote) = (file.state()?, file.vote()?);
        if state.last_log_id.is_none() && vote.is_none() {
            // It has learnt nothing yet, and may as well be a copy of another ledger.
            identity.ledger = 0;
        }
        let about = About { ledger: identity.ledger, voters: 0 };
        let own = Own::new(node.clone(), identity.replica, identity.ledger);
        Ok(Self {
            file: FileThread::start(file)?,
            own: Arc::new(own),
            about: Arc::new(about),
            slot: Slot::default(),
        })
    }

    /// Moves the copy in `directory` out of the way, to be looked into; returns where it is. One that
    /// still runs goes on with what was moved.
    ///
    /// # Errors
    ///
    /// [`FileError`].
    pub fn set_aside(&self, directory: &Path) -> Result<PathBuf, FileError> {
        let mut name = directory.as_os_str().to_owned();
        name.push(format!("-aside-{:016x}", self.own.ledger()));
        let aside = PathBuf::from(name);
        match std::fs::rename(directory, &aside) {
            Ok(()) => Ok(aside),
            Err(error) => Err(FileError::Open { path: aside, message: error.to_string() }),
        }
    }

    /// Answers a message or question of another node, or of a tool.
    ///
    /// # Errors
    ///
    /// Why there is no answer.
    pub async fn serve(
        &self,
        kind: &str,
        body: &[u8],
        patience: Duration,
    ) -> Result<Vec<u8>, String> {
        match self.slot.get() {
            Some(client) => service::serve(client, kind, body, patience).await,
            None => service::serve_early(&self.about, kind, body),
        }
    }

    /// How the ledger is; none before it was started.
    pub fn view(&self) -> Option<LedgerView> {
        self.slot.get().map(LedgerClient::view)
    }

    /// Starts to take part, once this node is in a cluster; with `founds`, as the first of all, who remembers
    /// these members of an earlier cluster.
    ///
    /// # Errors
    ///
    /// [`LedgerStartError`].
    pub async fn start(
        &self,
        settings: LedgerSettings,
        peers: Arc<dyn Peers>,
        founds: Option<Vec<NodeId>>,
        events: Outlet<LedgerEvent>,
    ) -> Result<LedgerService, LedgerStartError> {
        let timings = settings.timings;
        let shared = Arc::new(Shared::default());
        let machine = Machine::open(self.file.clone(), Arc::clone(&shared)).await?;
        let mesh = Mesh { own: Arc::clone(&self.own), peers, pause: timings.ledger_heartbeat };
        let raft = raft::Raft::new(
            self.own.replica,
            raft::config(&settings.cluster, &timings),
            mesh.clone(),
            LogStore(self.file.clone()),
            machine,
        );
        let raft = raft.await.map_err(|error| LedgerStartError::Raft(error.to_string()))?;
        let inner = client::Inner {
            batcher: Batcher::start(raft.clone(), timings.session_ttl),
            raft,
            mesh,
            shared,
            file: self.file.clone(),
            keeper: Mutex::new(Keeper::new(timings.session_ttl, now())),
            locks: Mutex::new(LockExpiry::new(timings.session_ttl / 16)),
            trouble: Mutex::default(),
            conflict: Mutex::default(),
            client: draw(&["client", &settings.node.0, &settings.incarnation.to_string()]),
            number: AtomicU64::new(0),
            hint: Mutex::default(),
            pause: timings.ledger_heartbeat / 2,
            attempt: timings.session_ttl / 4,
            heard: Mutex::new(now()),
            leader_lease: timings.election_max,
        };
        let client = LedgerClient(Arc::new(inner));
        let arguments = LedgerArguments { client: client.clone(), settings, founds, events };
        let (actor, ended) = Actor::spawn(None, LedgerActor, arguments).await?;
        let _ = self.slot.set(client.clone());
        Ok(LedgerService { client, actor, ended })
    }
}

/// The running ledger of one node.
#[derive(Debug)]
pub struct LedgerService {
    client: LedgerClient,
    actor: ActorRef<LedgerMessage>,
    ended: JoinHandle<()>,
}

impl LedgerService {
    /// A handle on the ledger.
    pub fn client(&self) -> LedgerClient {
        self.client.clone()
    }

    /// Waits until it has ended by itself, which it does only when it cannot go on.
    pub async fn ended(&mut self) {
        let _ = (&mut self.ended).await;
    }

    /// Stops, without a word to others.
    pub async fn stop(self) {
        self.actor.stop(None);
        let stopped = self.client.0.raft.shutdown();
        if tokio::time::timeout(Duration::from_secs(2), stopped).await.is_err() {
            tracing::warn!("the ledger does not stop in time");
        }
    }

    /// Ends this node's session and stops.
    pub async fn leave(self, patience: Duration) {
        let left = self.actor.call(LedgerMessage::Leave, Some(patience)).await;
        if !matches!(left, Ok(ractor::rpc::CallResult::Success(()))) {
            tracing::warn!("the ledger has not heard that this node leaves");
        }
    }
}
