//! The threads that write. One inserts, and gathers what shares a commit; the other makes a group
//! durable, by one flush and one fsync, while the first inserts the next.
//!
//! ```text
//! Put, Remove ──▶ inserter ── a group, once the syncer is free ──▶ syncer: flush, fsync ──▶ done
//! ```

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded, select};

use super::engine::guarded;
use super::mark::{self, Numbers};
use super::{DiskFaults, Done, StoreError, ended, write_error};
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

/// Starts the threads. They write until every [`Store`](super::Store) is gone, and with it the other end
/// of `queue`. The first failure is left in `failed`.
pub(super) fn start(
    path: &Path,
    db: &sled::Db,
    policy: CommitPolicy,
    faults: DiskFaults,
    failed: &Failure,
    queue: Receiver<Write>,
) -> io::Result<()> {
    let numbers = guarded(|| Numbers::open(db)).map_err(io::Error::other)?;
    let (groups, gathered) = bounded(1);
    let (free, is_free) = bounded(1);
    let inserter = Inserter {
        path: path.to_owned(),
        policy,
        live: None,
        faults,
        written: 0,
        numbers,
        listed: BTreeSet::new(),
        failed: Arc::clone(failed),
        groups,
        is_free,
        knows_free: false,
    };
    let (path, db, failed) = (path.to_owned(), db.clone(), Arc::clone(failed));
    let syncer = Syncer { path, db, failed, gathered, free };
    std::thread::Builder::new().name("committer".into()).spawn(move || inserter.run(&queue))?;
    std::thread::Builder::new().name("syncer".into()).spawn(move || syncer.run())?;
    Ok(())
}

/// The first failure, once there is one: nothing is written any more.
pub(super) type Failure = Arc<Mutex<Option<StoreError>>>;

fn failure_in(failed: &Failure) -> Option<StoreError> {
    failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Leaves `error`, if nothing failed before; what failed first.
pub(super) fn fail(failed: &Failure, error: StoreError) -> StoreError {
    failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error).clone()
}

/// Records that become durable together.
struct Group {
    waiting: Vec<Done>,
    /// The files of large records that are new, and the number of the commit; or why not all records were inserted.
    inserted: Result<(Vec<OsString>, u64), StoreError>,
}

struct Inserter {
    path: PathBuf,
    policy: CommitPolicy,
    live: Option<LiveNumber>,
    faults: DiskFaults,
    written: u64,
    numbers: Numbers,
    /// Files of large records that were in a group; as many as there are such records.
    listed: BTreeSet<OsString>,
    failed: Failure,
    groups: Sender<Group>,
    /// Says so each time the syncer has nothing to do.
    is_free: Receiver<()>,
    /// Whether it has said so, and was given nothing since.
    knows_free: bool,
}

impl Inserter {
    fn run(mut self, queue: &Receiver<Write>) {
        while let Ok(first) = queue.recv() {
            if let Some(error) = failure_in(&self.failed) {
                // After the first failure nothing more is written: a gap would look like a record.
                if let Write::Put { done, .. } = first {
                    done(Err(error));
                }
                continue;
            }
            let mut waiting = Vec::new();
            let gathered = self.gather(first, queue, &mut waiting);
            if waiting.is_empty() && gathered.is_ok() {
                // What was only removed goes to the disk with the next record.
                continue;
            }
            let inserted = gathered.and_then(|()| Ok((self.new_files()?, self.number()?)));
            let inserted = inserted.map_err(|error| fail(&self.failed, error));
            // A syncer that is gone frees nothing, and takes nothing.
            self.knows_free = self.knows_free || self.is_free.recv().is_ok();
            if let Err(unsent) = self.groups.send(Group { waiting, inserted }) {
                unsent.0.waiting.into_iter().for_each(|done| done(Err(ended(&self.path))));
            }
            self.knows_free = false;
        }
    }

    /// Inserts what shares a commit with `first`: what comes until its time is up and the group before
    /// is on the disk, but no more than one commit may have.
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
                Err(TryRecvError::Empty) => self.wait(queue, deadline),
                Err(TryRecvError::Disconnected) => None,
            };
        }
        Ok(())
    }

    /// The write that comes before the group has to go.
    fn wait(&mut self, queue: &Receiver<Write>, deadline: Instant) -> Option<Write> {
        match queue.recv_deadline(deadline) {
            Ok(write) => return Some(write),
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) if self.knows_free => return None,
            Err(RecvTimeoutError::Timeout) => {}
        }
        select! {
            recv(queue) -> write => write.ok(),
            recv(self.is_free) -> said => {
                self.knows_free = said.is_ok();
                None
            }
        }
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

    fn number(&mut self) -> Result<u64, StoreError> {
        let numbers = &mut self.numbers;
        guarded(|| numbers.next()).map_err(|message| write_error(&self.path, &message))
    }

    /// Records of more than a quarter of a segment lie in files of their own, which sled never syncs.
    /// They are listed by the thread that writes them: so each that is found is whole.
    fn new_files(&mut self) -> Result<Vec<OsString>, StoreError> {
        let found = large_records(&self.path);
        let found = found.map_err(|error| write_error(&self.path, &error.to_string()))?;
        let new = found.difference(&self.listed).cloned().collect();
        self.listed = found;
        Ok(new)
    }
}

struct Syncer {
    path: PathBuf,
    db: sled::Db,
    failed: Failure,
    gathered: Receiver<Group>,
    free: Sender<()>,
}

impl Syncer {
    fn run(self) {
        let mut result = Ok(());
        while self.free.send(()).is_ok()
            && let Ok(Group { waiting, inserted }) = self.gathered.recv()
        {
            // A group may have been on its way when the one before failed: it fails as well.
            result = result.and(inserted).and_then(|(files, number)| {
                sync(&self.db, &self.path, &files)?;
                if let Err(error) = mark::note(&self.path, number) {
                    // It is only missed if the log is cut off later.
                    tracing::debug!(%error, "how far the journal is on the disk is not noted");
                }
                Ok(())
            });
            if let Err(error) = &result {
                fail(&self.failed, error.clone());
            }
            for done in waiting {
                done(result.clone());
            }
        }
    }
}

/// Makes what was inserted before survive a power cut, and files of large records.
fn sync(db: &sled::Db, path: &Path, files: &[OsString]) -> Result<(), StoreError> {
    guarded(|| db.flush().map(drop)).map_err(|message| write_error(path, &message))?;
    let synced = sync_files(&path.join(LARGE_RECORDS), files);
    let synced = synced.and_then(|()| File::open(path.join("db"))?.sync_all());
    synced.map_err(|error| write_error(path, &error.to_string()))
}

/// Makes everything survive a power cut.
pub(super) fn sync_all(db: &sled::Db, path: &Path) -> Result<(), StoreError> {
    let files = large_records(path).map_err(|error| write_error(path, &error.to_string()))?;
    sync(db, path, &Vec::from_iter(files))
}

fn sync_files(directory: &Path, names: &[OsString]) -> io::Result<()> {
    for name in names {
        match File::open(directory.join(name)) {
            Ok(file) => file.sync_all()?,
            // Its record was replaced or removed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    if !names.is_empty() {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// Where sled keeps them.
const LARGE_RECORDS: &str = "blobs";

fn large_records(path: &Path) -> io::Result<BTreeSet<OsString>> {
    let entries = std::fs::read_dir(path.join(LARGE_RECORDS))?;
    entries.map(|entry| Ok(entry?.file_name())).collect()
}
