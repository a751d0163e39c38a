//! The ledger's copy, as openraft writes and reads it.

use std::io::Cursor;
use std::ops::{Bound, RangeBounds};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError, RwLock};

use openraft::storage::{LogFlushed, RaftLogStorage, RaftStateMachine};
use openraft::{
    AnyError, EntryPayload, LogId, LogState, OptionalSend, RaftLogReader, RaftSnapshotBuilder,
    Snapshot, SnapshotMeta, StorageIOError, StoredMembership, Vote,
};
use tickwright_core::ledger::{Answer, Event, Ledger};
use tokio::sync::broadcast;

use super::file::{FileError, FileThread, die, snapshot_of};
use super::raft::{Entry, Replica, StorageError, TypeConfig};
use crate::kit::wire;

/// Events that a watcher may be behind before it misses some.
const EVENTS_MAX: usize = 4_096;

/// The log.
#[derive(Clone)]
pub(super) struct LogStore(pub(super) FileThread);

fn unreadable(error: FileError) -> StorageError {
    StorageIOError::read(AnyError::new(&error)).into()
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + std::fmt::Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let start = match range.start_bound() {
            Bound::Included(&start) => start,
            Bound::Excluded(&start) => start + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&end) => end + 1,
            Bound::Excluded(&end) => end,
            Bound::Unbounded => u64::MAX,
        };
        self.0.run(move |file| file.entries(start..end, false)).await.map_err(unreadable)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, StorageError> {
        self.0.run(move |file| file.entries(start..end, true)).await.map_err(unreadable)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        self.0.run(|file| file.state()).await.map_err(unreadable)
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Result<(), StorageError> {
        let vote = *vote;
        self.0.run(move |file| file.save_vote(&vote)).await;
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<u64>>, StorageError> {
        self.0.run(|file| file.vote()).await.map_err(unreadable)
    }

    async fn save_committed(&mut self, committed: Option<LogId<u64>>) -> Result<(), StorageError> {
        self.0.run(move |file| file.on_committed(committed)).await;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId<u64>>, StorageError> {
        self.0.run(|file| file.committed()).await.map_err(unreadable)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<TypeConfig>,
    ) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        self.0.run(move |file| file.append(&entries)).await;
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId<u64>) -> Result<(), StorageError> {
        self.0.run(move |file| file.truncate(log_id.index)).await;
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId<u64>) -> Result<(), StorageError> {
        self.0.run(move |file| file.purge(log_id)).await;
        Ok(())
    }
}

/// The ledger as far as this node has applied it; everybody on the node may look.
#[derive(Debug)]
pub(super) struct Shared {
    state: RwLock<Ledger>,
    events: broadcast::Sender<Event>,
}

impl Default for Shared {
    fn default() -> Self {
        Self { state: RwLock::default(), events: broadcast::channel(EVENTS_MAX).0 }
    }
}

impl Shared {
    pub(super) fn look<T>(&self, look: impl FnOnce(&Ledger) -> T) -> T {
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }
}

/// The state machine, with how far it is.
pub(super) struct Machine {
    file: FileThread,
    shared: Arc<Shared>,
    applied: Option<LogId<u64>>,
    membership: StoredMembership<u64, Replica>,
}

impl Machine {
    /// As it was at the last snapshot.
    pub(super) async fn open(file: FileThread, shared: Arc<Shared>) -> Result<Self, FileError> {
        let mut machine =
            Self { file, shared, applied: None, membership: StoredMembership::default() };
        if let Some((meta, data)) = machine.file.run(|file| file.snapshot()).await? {
            let damaged = |source| FileError::Record { record: "snapshot".into(), source };
            machine.put(&meta, wire::decode(&data).map_err(damaged)?);
        }
        Ok(machine)
    }

    fn put(&mut self, meta: &SnapshotMeta<u64, Replica>, ledger: Ledger) {
        *self.shared.state.write().unwrap_or_else(PoisonError::into_inner) = ledger;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
    }

    fn apply_one(&mut self, entry: Entry) -> Vec<Answer> {
        self.applied = Some(entry.log_id);
        match entry.payload {
            EntryPayload::Blank => Vec::new(),
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
                Vec::new()
            }
            EntryPayload::Normal(batch) => {
                let mut state = self.shared.state.write().unwrap_or_else(PoisonError::into_inner);
                let applied: Vec<_> = batch.0.iter().map(|command| state.apply(command)).collect();
                drop(state);
                let mut answers = Vec::with_capacity(applied.len());
                for one in applied {
                    for event in one.events {
                        // Nobody may be watching.
                        let _ = self.shared.events.send(event);
                    }
                    answers.push(one.answer);
                }
                answers
            }
        }
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotBuilder = Builder;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId<u64>>, StoredMembership<u64, Replica>), StorageError> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Vec<Answer>>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        // A panic here would leave the node a voter that never goes on.
        let apply = AssertUnwindSafe(|| {
            entries.into_iter().map(|entry| self.apply_one(entry)).collect::<Vec<_>>()
        });
        match catch_unwind(apply) {
            Ok(answers) => Ok(answers),
            Err(_) => die("the ledger has panicked on a command"),
        }
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            file: self.file.clone(),
            ledger: self.shared.look(Ledger::clone),
            applied: self.applied,
            membership: self.membership.clone(),
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<u64, Replica>,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError> {
        let data = snapshot.into_inner();
        let damaged = |error| StorageIOError::read_snapshot(None, AnyError::new(&error));
        let ledger: Ledger = wire::decode(&data).map_err(damaged)?;
        let kept = meta.clone();
        self.file.run(move |file| file.save_snapshot(&kept, &data)).await;
        self.put(meta, ledger);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError> {
        let found = self.file.run(|file| file.snapshot()).await.map_err(unreadable)?;
        Ok(found.map(|(meta, data)| snapshot_of(meta, data)))
    }
}

/// The ledger at one moment, to be kept.
pub(super) struct Builder {
    file: FileThread,
    ledger: Ledger,
    applied: Option<LogId<u64>>,
    membership: StoredMembership<u64, Replica>,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError> {
        let data = wire::encode(&self.ledger);
        let at = self.applied.map_or_else(String::new, |applied| applied.to_string());
        let meta = SnapshotMeta {
            last_log_id: self.applied,
            last_membership: self.membership.clone(),
            snapshot_id: format!("{at}-{}", data.len()),
        };
        let (kept, bytes) = (meta.clone(), data.clone());
        self.file.run(move |file| file.save_snapshot(&kept, &bytes)).await;
        Ok(snapshot_of(meta, data))
    }
}
