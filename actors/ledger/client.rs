//! How the rest of the node, and tools, use the ledger.
//!
//! A command goes to whoever leads, and again to whoever leads then if there is no answer, under the
//! same number, until its time is over. A read asks the leader how far it must wait, and then looks at
//! this node's own copy: without that, a leader that had been stopped, or cut off, would answer from
//! what it last knew.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openraft::LogIdOptionExt;
use tickwright_core::domain::{NodeId, Span, Timestamp};
use tickwright_core::ledger::{
    Answer, Command, Event, Keeper, Ledger, LockExpiry, Operation, OperationId, Outcome, Refusal,
    SessionId,
};
use tokio::sync::broadcast;
use tokio::time::Instant;

use super::batcher::{Batcher, WriteError};
use super::file::{FileThread, Identity};
use super::now;
use super::peers::{Call, KIND_LEDGER, Mesh, PeerError, Question, Said, decode, encode};
use super::raft::{Raft, Replica};
use super::storage::Shared;

/// How long whoever waits for an answer in any case asks before it says that there is none.
const ROUND: Duration = Duration::from_secs(10);

/// Why the ledger did not do as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// It says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Nothing was done.
    #[error("{0}; nothing was done")]
    Unavailable(String),
    /// It may have been done or not, and may be yet; ask again under the same number, or read.
    #[error("{0}; whether it was done is not known")]
    Unknown(String),
    /// This node does not coordinate.
    #[error("{}", match .0 {
        Some(node) => format!("node {node} coordinates; ask it"),
        None => "nobody coordinates just now".into(),
    })]
    NotCoordinator(Option<NodeId>),
    /// No node of that name was ever seen.
    #[error("there is no node {node}; there are: {}", names(.known))]
    NoSuchNode {
        /// The name.
        node: NodeId,
        /// Those there are.
        known: Vec<NodeId>,
    },
}

fn names(nodes: &[NodeId]) -> String {
    nodes.iter().map(|node| node.0.as_str()).collect::<Vec<_>>().join(", ")
}

/// A handle on the ledger. Clones share everything.
#[derive(Clone)]
pub struct LedgerClient(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) raft: Raft,
    pub(super) batcher: Batcher,
    pub(super) mesh: Mesh,
    pub(super) shared: Arc<Shared>,
    pub(super) file: FileThread,
    /// This node's session.
    pub(super) keeper: Mutex<Keeper>,
    /// What this node has seen of locks.
    pub(super) locks: Mutex<LockExpiry>,
    /// Why the ledger last failed to answer.
    pub(super) trouble: Mutex<String>,
    /// Which other ledger was last found in the cluster, and what to do.
    pub(super) conflict: Mutex<String>,
    /// One life of this node, for the numbers of commands.
    pub(super) client: u64,
    pub(super) number: AtomicU64,
    /// Who was last said to lead.
    pub(super) hint: Mutex<Option<NodeId>>,
    /// Between two attempts.
    pub(super) pause: Duration,
    /// How long one may take: whoever is asked may have stopped, and another lead by now.
    pub(super) attempt: Duration,
    /// When a leader was last heard, or this life began.
    pub(super) heard: Mutex<Timestamp>,
    /// How long after that it is not missed yet; openraft keeps to the same.
    pub(super) leader_lease: Span,
}

impl std::fmt::Debug for LedgerClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LedgerClient").field("own", &self.0.mesh.own).finish_non_exhaustive()
    }
}

/// Hears of registers that change.
#[derive(Debug)]
pub struct Watch {
    prefix: String,
    events: broadcast::Receiver<Event>,
}

impl Watch {
    /// The next change of a register under the prefix; none, if some were missed because they came
    /// faster than they were asked for, and the registers have to be read again.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            match self.events.recv().await {
                Ok(event) if event.is_register_under(&self.prefix) => return Some(event),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }
}

/// What an attempt came to.
enum Attempt<T> {
    Done(T),
    /// It was not taken up.
    Not(String),
    /// It may have been.
    Maybe(String),
}

impl LedgerClient {
    /// Has `operation` carried out once, however often it has to be sent; waits for `patience`.
    ///
    /// # Errors
    ///
    /// [`LedgerError`].
    pub async fn submit(
        &self,
        operation: Operation,
        patience: Duration,
    ) -> Result<Outcome, LedgerError> {
        let command = Command { id: Some(self.new_id()), operation };
        self.submit_command(command, patience).await?.map_err(LedgerError::Refused)
    }

    /// Has `operation` carried out once, and asks until it is known what came of it.
    ///
    /// # Errors
    ///
    /// What the ledger refuses.
    pub async fn submit_until_answered(&self, operation: Operation) -> Result<Outcome, Refusal> {
        let command = Command { id: Some(self.new_id()), operation };
        loop {
            match self.submit_command(command.clone(), ROUND).await {
                Ok(answer) => return answer,
                Err(LedgerError::Refused(refusal)) => return Err(refusal),
                Err(error) => tracing::warn!(%error, "the ledger is asked again"),
            }
        }
    }

    /// A number that nobody else draws.
    pub fn draw_number(&self) -> u64 {
        let number = self.0.number.fetch_add(1, Ordering::Relaxed);
        super::draw(&["number", &self.0.client.to_string(), &number.to_string()])
    }

    fn new_id(&self) -> OperationId {
        OperationId {
            client: self.0.client,
            number: self.0.number.fetch_add(1, Ordering::Relaxed),
            since: self.local(Ledger::revision),
        }
    }

    /// The same for a command that has its number already, or needs none.
    pub(super) async fn submit_command(
        &self,
        command: Command,
        patience: Duration,
    ) -> Result<Answer, LedgerError> {
        let until = Instant::now() + patience;
        let mut maybe = None;
        loop {
            let left = until.saturating_duration_since(Instant::now()).min(self.0.attempt);
            let attempt = match self.target() {
                None => Attempt::Not("no node of the cluster is known to lead the ledger".into()),
                Some(node) if node == self.0.mesh.own.node => {
                    let written = tokio::time::timeout(left, self.write_here(&command)).await;
                    let waited = || format!("not agreed on by most voters within {left:?}");
                    written.unwrap_or_else(|_| Attempt::Maybe(waited()))
                }
                Some(node) => self.write_there(&node, &command, left).await,
            };
            let reason = match attempt {
                Attempt::Done(answer) => return Ok(answer),
                Attempt::Not(reason) => reason,
                Attempt::Maybe(reason) => {
                    maybe = Some(reason.clone());
                    reason
                }
            };
            if Instant::now() + self.0.pause >= until {
                return Err(match maybe {
                    Some(reason) => LedgerError::Unknown(reason),
                    None => LedgerError::Unavailable(reason),
                });
            }
            tokio::time::sleep(self.0.pause).await;
        }
    }

    async fn write_here(&self, command: &Command) -> Attempt<Answer> {
        match self.write(vec![command.clone()]).await {
            Ok(mut answers) => match answers.pop() {
                Some(answer) => Attempt::Done(answer),
                None => Attempt::Maybe("there was no answer".into()),
            },
            Err(WriteError::Busy) => Attempt::Not("the ledger has too much to do".into()),
            Err(WriteError::Unknown(reason)) => Attempt::Maybe(reason),
        }
    }

    pub(super) async fn write(&self, commands: Vec<Command>) -> Result<Vec<Answer>, WriteError> {
        self.0.batcher.write(commands).await
    }

    async fn write_there(
        &self,
        node: &NodeId,
        command: &Command,
        patience: Duration,
    ) -> Attempt<Answer> {
        let own = &self.0.mesh.own;
        match self.ask(node, Call::Submit(vec![command.clone()]), patience).await {
            Ok(Said::Answers { ledger, mut answers }) => {
                if own.ledger() == 0 {
                    self.adopt(ledger).await;
                }
                match answers.pop() {
                    Some(answer) if own.ledger() == ledger => Attempt::Done(answer),
                    _ => Attempt::Not(format!("node {node} has another ledger")),
                }
            }
            Ok(Said::NotLeader(leader)) => {
                let reason = format!("node {node} does not lead the ledger");
                self.set_hint(leader.filter(|leader| leader != node));
                Attempt::Not(reason)
            }
            Ok(Said::Refused(reason)) => Attempt::Not(reason),
            Ok(Said::Unknown(reason)) => Attempt::Maybe(reason),
            Ok(Said::About(_) | Said::ReadIndex(_)) => Attempt::Maybe("a confused answer".into()),
            Err(error) => {
                self.set_hint(None);
                Attempt::Maybe(format!("node {node}: {error}"))
            }
        }
    }

    pub(super) async fn ask(
        &self,
        node: &NodeId,
        call: Call,
        patience: Duration,
    ) -> Result<Said, PeerError> {
        let question = Question { ledger: self.0.mesh.own.ledger(), call };
        let body = encode(&question);
        decode(&self.0.mesh.peers.ask(node, KIND_LEDGER, &body, patience).await?)
    }

    fn set_hint(&self, hint: Option<NodeId>) {
        *self.0.hint.lock().unwrap_or_else(PoisonError::into_inner) = hint;
    }

    /// Whom to ask: the leader, or someone who may know it.
    fn target(&self) -> Option<NodeId> {
        let linked = self.0.mesh.peers.linked();
        // One that cannot be reached may lead no more, and others know.
        let is_reached = |node: &NodeId| *node == self.0.mesh.own.node || linked.contains(node);
        if let Some(leader) = self.leader().filter(is_reached) {
            return Some(leader);
        }
        let hint = self.0.hint.lock().unwrap_or_else(PoisonError::into_inner).clone();
        hint.filter(|hint| linked.contains(hint)).or_else(|| {
            let turn = self.0.number.fetch_add(1, Ordering::Relaxed);
            let at = usize::try_from(turn).unwrap_or(0) % linked.len().max(1);
            linked.get(at).cloned()
        })
    }

    /// Who leads, as far as this node's copy knows. It need not be true any more.
    pub(super) fn leader(&self) -> Option<NodeId> {
        let metrics = self.0.raft.metrics();
        let metrics = metrics.borrow();
        let leader = metrics.current_leader?;
        let replica: Option<&Replica> = metrics.membership_config.membership().get_node(&leader);
        Some(NodeId(replica?.node.clone()))
    }

    /// Whether this node's copy believes that it leads.
    pub(super) fn leads(&self) -> bool {
        self.0.raft.metrics().borrow().current_leader == Some(self.0.mesh.own.replica)
    }

    /// The index that has to be applied before a read, asked of most voters.
    pub(super) async fn read_index_here(&self) -> Result<Option<u64>, String> {
        match self.0.raft.get_read_log_id().await {
            Ok((index, _)) => Ok(index.index()),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn read_index(&self, patience: Duration) -> Attempt<Option<u64>> {
        let node = match self.target() {
            None => return Attempt::Not("no node is known to lead the ledger".into()),
            Some(node) if node == self.0.mesh.own.node => {
                return match self.read_index_here().await {
                    Ok(index) => Attempt::Done(index),
                    Err(reason) => Attempt::Not(reason),
                };
            }
            Some(node) => node,
        };
        match self.ask(&node, Call::ReadIndex, patience).await {
            Ok(Said::ReadIndex(index)) => Attempt::Done(index),
            Ok(Said::NotLeader(leader)) => {
                self.set_hint(leader.filter(|leader| *leader != node));
                Attempt::Not(format!("node {node} does not lead the ledger"))
            }
            Ok(Said::Refused(reason) | Said::Unknown(reason)) => Attempt::Not(reason),
            Ok(Said::About(_) | Said::Answers { .. }) => Attempt::Not("a confused answer".into()),
            Err(error) => {
                self.set_hint(None);
                Attempt::Not(format!("node {node}: {error}"))
            }
        }
    }

    /// What `look` sees in a ledger that holds everything whose answer had come, anywhere, before this
    /// was called.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Unavailable`] when most voters cannot be asked within `patience`, or this node's
    /// copy is behind.
    pub async fn read<T>(
        &self,
        patience: Duration,
        look: impl FnOnce(&Ledger) -> T,
    ) -> Result<T, LedgerError> {
        let until = Instant::now() + patience;
        let index = loop {
            let left = until.saturating_duration_since(Instant::now()).min(self.0.attempt);
            let asked = tokio::time::timeout(left, self.read_index(left)).await;
            let reason = match asked {
                Ok(Attempt::Done(index)) => break index,
                Ok(Attempt::Not(reason) | Attempt::Maybe(reason)) => reason,
                Err(_) => format!("most voters of the ledger gave no answer within {left:?}"),
            };
            if Instant::now() + self.0.pause >= until {
                return Err(LedgerError::Unavailable(reason));
            }
            tokio::time::sleep(self.0.pause).await;
        };
        let left = until.saturating_duration_since(Instant::now());
        let applied = self.0.raft.wait(Some(left)).applied_index_at_least(index, "read").await;
        match applied {
            Ok(_) => Ok(self.local(look)),
            Err(error) => {
                Err(LedgerError::Unavailable(format!("this node's copy is behind: {error}")))
            }
        }
    }

    /// This node.
    pub fn own(&self) -> NodeId {
        self.0.mesh.own.node.clone()
    }

    /// What this node's copy holds, which may be old.
    pub fn local<T>(&self, look: impl FnOnce(&Ledger) -> T) -> T {
        self.0.shared.look(look)
    }

    /// Hears of registers under `prefix` that change from now on, as this node's copy learns of them.
    pub fn watch(&self, prefix: &str) -> Watch {
        Watch { prefix: prefix.to_owned(), events: self.0.shared.events() }
    }

    /// Everything that changes from now on, as this node's copy learns of it.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.0.shared.events()
    }

    /// The term under which this node may act as coordinator at this moment.
    pub fn term(&self) -> Option<u64> {
        let coordinator = self.local(|ledger| ledger.coordinator().clone());
        self.keeper(|keeper| keeper.term(&coordinator, now()))
    }

    pub(super) fn keeper<T>(&self, with: impl FnOnce(&mut Keeper) -> T) -> T {
        with(&mut self.0.keeper.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The session that this node has and may rely on at this moment.
    pub fn session(&self) -> Option<SessionId> {
        self.keeper(|keeper| keeper.session(now()))
    }

    /// The time, and what says when a grant of a lock, or a wait, was first seen here and when it will be
    /// over, given its token or ticket and how long it lives.
    pub fn lock_lives(
        &self,
    ) -> (Timestamp, impl Fn(u64, Span) -> Option<(Timestamp, Timestamp)> + use<>) {
        let seen = self.lock_expiry(|expiry| expiry.clone());
        let life = move |number: u64, lives: Span| {
            seen.seen(number).map(|(first, last)| (first, last.after(lives)))
        };
        (now(), life)
    }

    pub(super) fn lock_expiry<T>(&self, with: impl FnOnce(&mut LockExpiry) -> T) -> T {
        with(&mut self.0.locks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// This node's copy is of `ledger` from now on.
    pub(super) async fn adopt(&self, ledger: u64) {
        let own = &self.0.mesh.own;
        let identity = Identity { replica: own.replica, ledger };
        self.0.file.run(move |file| file.save_identity(identity)).await;
        own.set_ledger(ledger);
    }

    /// Gives `resource` to `owner`, or to nobody; returns its epoch. Only the coordinator may.
    ///
    /// # Errors
    ///
    /// [`LedgerError`].
    pub async fn allocate(
        &self,
        resource: &str,
        owner: Option<NodeId>,
        patience: Duration,
    ) -> Result<u64, LedgerError> {
        let Some(term) = self.term() else {
            let holder = self.local(|ledger| ledger.coordinator().holder.clone());
            return Err(LedgerError::NotCoordinator(holder.map(|(node, _)| node)));
        };
        let operation = Operation::Allocate { term, resource: resource.to_owned(), owner };
        let Outcome::Allocated { epoch } = self.submit(operation, patience).await? else {
            return Err(LedgerError::Unknown("a confused answer".into()));
        };
        Ok(epoch)
    }
}
