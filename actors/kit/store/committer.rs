//! The thread that writes: records that wait are written together, and one flush and one fsync make
//! all of them durable.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, TryRecvError};

use super::engine::guarded;
use super::{DiskFaults, Done, StoreError, write_error};
use crate::kit::LiveNumber;

/// What the committer is asked to do, in order.
pub(super) enum Write {
    Put {
        tree: sled::Tree,
        key: Vec<u8>,
        value: Vec<u8>,
        done: Done,
    },
    Remove {
        tree: sled::Tree,
        keys: Vec<Vec<u8>>,
    },
    /// Somebody waits for what was put before: it is not to wait for more.
    Hurry,
    /// From now on the first record waits for others for so many milliseconds.
    Follow(LiveNumber),
}

/// How records are gathered for one commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitPolicy {
    /// Records of one commit, at the most.
    pub records_max: usize,
    /// How long the first record waits for others. With zero, only what has come while the commit
    /// before was running shares the next.
    pub wait: Duration,
}

pub(super) struct Committer {
    path: PathBuf,
    db: sled::Db,
    policy: CommitPolicy,
    live: Option<LiveNumber>,
    faults: DiskFaults,
    written: u64,
    synced: Blobs,
    failed: Arc<Mutex<Option<StoreError>>>,
}

impl Committer {
    pub(super) fn new(
        path: PathBuf,
        db: sled::Db,
        policy: CommitPolicy,
        faults: DiskFaults,
        failed: Arc<Mutex<Option<StoreError>>>,
    ) -> Self {
        Self { path, db, policy, live: None, faults, written: 0, synced: Blobs::default(), failed }
    }

    /// Writes until every [`Store`](super::Store) is gone.
    pub(super) fn run(mut self, queue: &Receiver<Write>) {
        let mut result = Ok(());
        while let Ok(first) = queue.recv() {
            if result.is_err() {
                // After the first failure nothing more is written: a gap would look like a record.
                if let Write::Put { done, .. } = first {
                    done(result.clone());
                }
                continue;
            }
            let mut waiting = Vec::new();
            result = self.gather(first, queue, &mut waiting);
            result = result.and_then(|()| commit(&self.db, &self.path, &mut self.synced));
            if let Err(error) = &result {
                let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
                failed.get_or_insert_with(|| error.clone());
            }
            for done in waiting {
                done(result.clone());
            }
        }
    }

    /// Inserts what shares a commit with `first`.
    fn gather(
        &mut self,
        first: Write,
        queue: &Receiver<Write>,
        waiting: &mut Vec<Done>,
    ) -> Result<(), StoreError> {
        if let Some(live) = &mut self.live {
            self.policy.wait = Duration::from_millis(live.get());
        }
        let mut deadline = Instant::now() + self.policy.wait;
        let mut next = Some(first);
        while let Some(write) = next {
            if matches!(write, Write::Hurry) {
                deadline = Instant::now();
            }
            self.apply(write, waiting)?;
            if waiting.len() >= self.policy.records_max {
                break;
            }
            // Looking at the clock costs more than what is there already.
            next = match queue.try_recv() {
                Ok(write) => Some(write),
                Err(TryRecvError::Empty) => queue.recv_deadline(deadline).ok(),
                Err(TryRecvError::Disconnected) => None,
            };
        }
        Ok(())
    }

    fn apply(&mut self, write: Write, waiting: &mut Vec<Done>) -> Result<(), StoreError> {
        match write {
            Write::Put { tree, key, value, done } => {
                waiting.push(done);
                self.written += (key.len() + value.len()) as u64;
                if self.faults.full_after_bytes.is_some_and(|limit| self.written > limit) {
                    return Err(write_error(&self.path, "no space left on device (injected)"));
                }
                let inserted = guarded(|| tree.insert(key, value).map(drop));
                inserted.map_err(|message| write_error(&self.path, &message))
            }
            Write::Remove { tree, keys } => {
                let remove = || keys.iter().try_for_each(|key| tree.remove(key).map(drop));
                guarded(remove).map_err(|message| write_error(&self.path, &message))
            }
            Write::Hurry => Ok(()),
            Write::Follow(live) => {
                self.live = Some(live);
                Ok(())
            }
        }
    }
}

/// Makes what was inserted survive a power cut.
pub(super) fn commit(db: &sled::Db, path: &Path, blobs: &mut Blobs) -> Result<(), StoreError> {
    guarded(|| db.flush().map(drop)).map_err(|message| write_error(path, &message))?;
    let synced = blobs.sync(path);
    let synced = synced.and_then(|()| File::open(path.join("db"))?.sync_all());
    synced.map_err(|error| write_error(path, &error.to_string()))
}

/// Records of more than a quarter of a segment lie in files of their own, which sled never syncs.
#[derive(Debug, Default)]
pub(super) struct Blobs {
    /// Files that are on the disk; as many as there are large records.
    synced: BTreeSet<OsString>,
}

impl Blobs {
    /// Syncs files that have not been yet.
    fn sync(&mut self, path: &Path) -> io::Result<()> {
        let directory = path.join("blobs");
        let mut found = BTreeSet::new();
        let mut has_new = false;
        for entry in std::fs::read_dir(&directory)? {
            let name = entry?.file_name();
            if !self.synced.contains(&name) {
                match File::open(directory.join(&name)) {
                    Ok(file) => file.sync_all()?,
                    // Its record was replaced or removed meanwhile.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                }
                has_new = true;
            }
            found.insert(name);
        }
        if has_new {
            File::open(&directory)?.sync_all()?;
        }
        self.synced = found;
        Ok(())
    }
}
