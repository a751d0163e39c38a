//! What copies of the ledger say to each other, and through whom.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft::error::{
    InstallSnapshotError, RPCError, RaftError, RemoteError, SnapshotMismatch, Unreachable,
};
use openraft::network::{Backoff, RPCOption};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use openraft::{AnyError, LogId, RaftNetwork, RaftNetworkFactory};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tickwright_core::domain::NodeId;
use tickwright_core::ledger::{Answer, Command};

use super::raft::{Replica, TypeConfig};

/// Most that a message may take to read: a part of a snapshot, or a few batches.
const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// Messages between copies.
pub const KIND_RAFT: &str = "raft";

/// Questions of nodes to whoever leads.
pub const KIND_LEDGER: &str = "ledger";

/// Why a peer gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PeerError(pub String);

/// An answer that is on its way.
pub type Asked<'p> = Pin<Box<dyn Future<Output = Result<Vec<u8>, PeerError>> + Send + 'p>>;

/// How other nodes are reached. What is sent must not have to wait for bulk.
pub trait Peers: Send + Sync + 'static {
    /// Asks the ledger of `node`; fails once `patience` is over.
    fn ask<'p>(
        &'p self,
        node: &'p NodeId,
        kind: &'static str,
        body: &'p [u8],
        patience: Duration,
    ) -> Asked<'p>;

    /// Whom there are links to.
    fn linked(&self) -> Vec<NodeId>;
}

/// Which copy this is, and of which ledger.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) node: NodeId,
    pub(super) replica: u64,
    /// 0 while that is not known.
    ledger: AtomicU64,
}

impl Own {
    pub(super) fn new(node: NodeId, replica: u64, ledger: u64) -> Self {
        Self { node, replica, ledger: AtomicU64::new(ledger) }
    }

    pub(super) fn ledger(&self) -> u64 {
        self.ledger.load(Ordering::Acquire)
    }

    pub(super) fn set_ledger(&self, ledger: u64) {
        self.ledger.store(ledger, Ordering::Release);
    }
}

/// From copy to copy. A message for a copy that was lost must not be taken by its successor, nor one of
/// another ledger by anyone.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RaftMessage {
    pub(super) ledger: u64,
    pub(super) to: u64,
    pub(super) call: RaftCall,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum RaftCall {
    Append(AppendEntriesRequest<TypeConfig>),
    Vote(VoteRequest<u64>),
    Snapshot(InstallSnapshotRequest<TypeConfig>),
    /// Would you vote for one whose log goes as far as this?
    Canvass(Option<LogId<u64>>),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum RaftReply {
    Append(AppendEntriesResponse<u64>),
    Vote(VoteResponse<u64>),
    Snapshot(Result<InstallSnapshotResponse<u64>, SnapshotMismatch>),
    Canvass(bool),
}

/// From a node to another one that may lead.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Question {
    /// 0 if the node does not know yet.
    pub(super) ledger: u64,
    pub(super) call: Call,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Call {
    /// What do you have?
    About,
    /// Do these.
    Submit(Vec<Command>),
    /// What has to be applied before a read can be answered?
    ReadIndex,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Said {
    About(About),
    /// What came of the commands, and in which ledger.
    Answers {
        ledger: u64,
        answers: Vec<Answer>,
    },
    /// The index in the log; none while the log is empty.
    ReadIndex(Option<u64>),
    /// Ask another one.
    NotLeader(Option<NodeId>),
    /// The commands may have been carried out or not.
    Unknown(String),
    /// Nothing was done.
    Refused(String),
}

/// What a node has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct About {
    /// Which ledger; 0 for none.
    pub(super) ledger: u64,
    /// How many vote, as far as it knows.
    pub(super) voters: u64,
}

pub(super) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    bincode::serde::encode_to_vec(value, bincode::config::standard())
        .expect("derived `Serialize`s write to memory without error")
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, PeerError> {
    let config = bincode::config::standard().with_limit::<MESSAGE_BYTES_MAX>();
    match bincode::serde::decode_from_slice(bytes, config) {
        Ok((value, read)) if read == bytes.len() => Ok(value),
        Ok(_) => Err(PeerError("bytes after the end of a message".into())),
        Err(error) => Err(PeerError(format!("a message cannot be read: {error}"))),
    }
}

/// Reaches the other copies.
#[derive(Clone)]
pub(super) struct Mesh {
    pub(super) own: Arc<Own>,
    pub(super) peers: Arc<dyn Peers>,
    /// How long to leave a copy alone that was not reached.
    pub(super) pause: Duration,
}

/// Reaches one of them.
pub(super) struct Path {
    mesh: Mesh,
    to: u64,
    node: NodeId,
}

impl RaftNetworkFactory<TypeConfig> for Mesh {
    type Network = Path;

    async fn new_client(&mut self, to: u64, replica: &Replica) -> Path {
        Path { mesh: self.clone(), to, node: NodeId(replica.node.clone()) }
    }
}

type Failed<E> = RPCError<u64, Replica, RaftError<u64, E>>;

impl Path {
    async fn ask(&self, call: RaftCall, patience: Duration) -> Result<RaftReply, Unreachable> {
        let message = RaftMessage { ledger: self.mesh.own.ledger(), to: self.to, call };
        let body = encode(&message);
        let answer = self.mesh.peers.ask(&self.node, KIND_RAFT, &body, patience).await;
        answer.and_then(|answer| decode(&answer)).map_err(|error| Unreachable::new(&error))
    }
}

/// An answer to another question than was asked.
fn confused() -> Unreachable {
    Unreachable::new(&AnyError::error("the answer is to another question"))
}

impl RaftNetwork<TypeConfig> for Path {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RPCError<u64, Replica, RaftError<u64>>> {
        match self.ask(RaftCall::Append(request), option.hard_ttl()).await? {
            RaftReply::Append(answer) => Ok(answer),
            RaftReply::Vote(_) | RaftReply::Snapshot(_) | RaftReply::Canvass(_) => {
                Err(confused().into())
            }
        }
    }

    async fn install_snapshot(
        &mut self,
        request: InstallSnapshotRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<InstallSnapshotResponse<u64>, Failed<InstallSnapshotError>> {
        match self.ask(RaftCall::Snapshot(request), option.hard_ttl()).await? {
            RaftReply::Snapshot(Ok(answer)) => Ok(answer),
            RaftReply::Snapshot(Err(mismatch)) => {
                let error = RaftError::APIError(InstallSnapshotError::SnapshotMismatch(mismatch));
                Err(RPCError::RemoteError(RemoteError::new(self.to, error)))
            }
            RaftReply::Append(_) | RaftReply::Vote(_) | RaftReply::Canvass(_) => {
                Err(confused().into())
            }
        }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<u64>,
        option: RPCOption,
    ) -> Result<VoteResponse<u64>, RPCError<u64, Replica, RaftError<u64>>> {
        match self.ask(RaftCall::Vote(request), option.hard_ttl()).await? {
            RaftReply::Vote(answer) => Ok(answer),
            RaftReply::Append(_) | RaftReply::Snapshot(_) | RaftReply::Canvass(_) => {
                Err(confused().into())
            }
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(self.mesh.pause))
    }
}
