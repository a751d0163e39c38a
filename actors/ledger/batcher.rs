//! Puts what is to be written together: each entry of the log costs a sync on every voter.
//!
//! ```text
//! commands of this node, and of others ──▶ Batcher ── one entry at a time ──▶ openraft
//! ```
//!
//! While one entry is under way the next is gathered, so its size follows the load.

use std::time::Duration;

use tickwright_core::ledger::{Answer, Command, Operation};
use tokio::sync::{mpsc, oneshot};

use super::raft::{Batch, Raft};

/// Commands in one entry.
pub(super) const BATCH_COMMANDS_MAX: usize = 256;

/// Bytes of keys and values in one entry, unless one command alone has more.
const BATCH_BYTES_MAX: usize = 256 << 10;

/// Requests that wait.
const QUEUE_MAX: usize = 4_096;

/// Why commands were not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WriteError {
    /// They may have been carried out, may be later, or never.
    Unknown(String),
    /// There is too much to do; nothing was done.
    Busy,
}

struct Request {
    commands: Vec<Command>,
    answer: oneshot::Sender<Result<Vec<Answer>, WriteError>>,
}

/// Clones share one queue.
#[derive(Clone)]
pub(super) struct Batcher(mpsc::Sender<Request>);

impl Batcher {
    /// Writes to `raft`, and waits for each entry for `patience` at most.
    pub(super) fn start(raft: Raft, patience: Duration) -> Self {
        let (sender, requests) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(work(raft, requests, patience));
        Self(sender)
    }

    /// Writes up to [`BATCH_COMMANDS_MAX`] commands as part of one entry.
    pub(super) async fn write(&self, commands: Vec<Command>) -> Result<Vec<Answer>, WriteError> {
        let (answer, answered) = oneshot::channel();
        let request = Request { commands, answer };
        self.0.try_send(request).map_err(|_| WriteError::Busy)?;
        let gone = || WriteError::Unknown("the ledger is stopping".into());
        answered.await.unwrap_or_else(|_| Err(gone()))
    }
}

async fn work(raft: Raft, mut requests: mpsc::Receiver<Request>, patience: Duration) {
    let mut next = None;
    loop {
        let first = match next.take() {
            Some(request) => request,
            None => match requests.recv().await {
                Some(request) => request,
                None => return,
            },
        };
        let (mut commands, mut bytes) = (first.commands.len(), size(&first.commands));
        let mut gathered = vec![first];
        while let Ok(request) = requests.try_recv() {
            commands += request.commands.len();
            bytes += size(&request.commands);
            if commands > BATCH_COMMANDS_MAX || bytes > BATCH_BYTES_MAX {
                next = Some(request);
                break;
            }
            gathered.push(request);
        }
        write(&raft, gathered, patience).await;
    }
}

async fn write(raft: &Raft, requests: Vec<Request>, patience: Duration) {
    let mut batch = Vec::new();
    let mut waiting = Vec::with_capacity(requests.len());
    for request in requests {
        waiting.push((request.commands.len(), request.answer));
        batch.extend(request.commands);
    }
    // A leader that is cut off would wait for ever.
    let written = tokio::time::timeout(patience, raft.client_write(Batch(batch))).await;
    let answers = match written {
        Ok(Ok(written)) => Ok(written.data),
        // Even if another node leads by now: it may have the entry already, and keep it.
        Ok(Err(error)) => Err(WriteError::Unknown(error.to_string())),
        Err(_) => {
            Err(WriteError::Unknown(format!("not agreed on by most voters within {patience:?}")))
        }
    };
    let mut answers = answers.map(Vec::into_iter);
    for (count, answer) in waiting {
        let part = match &mut answers {
            Ok(answers) => Ok(answers.take(count).collect()),
            Err(error) => Err(error.clone()),
        };
        // Whoever asked may have given up.
        let _ = answer.send(part);
    }
}

/// About as much as a change of a slot, or a command about a lock or about parameters, takes.
const SLOT_BYTES: usize = 512;

fn size(commands: &[Command]) -> usize {
    let of = |command: &Command| match &command.operation {
        Operation::Cas { key, value, .. } => key.len() + value.as_ref().map_or(0, Vec::len),
        Operation::Allocate { resource, .. } => resource.len(),
        Operation::Slots(commands) => commands.len() * SLOT_BYTES,
        Operation::Locks(commands) => commands.len() * SLOT_BYTES,
        Operation::Control(_) => SLOT_BYTES,
        Operation::OpenSession(_)
        | Operation::RenewSession { .. }
        | Operation::ExpireSession { .. }
        | Operation::CloseSession { .. }
        | Operation::Forget { .. }
        | Operation::Promote { .. } => 64,
    };
    commands.iter().map(of).sum()
}
