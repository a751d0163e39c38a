//! The ledger's copy on disk: log, vote, snapshot, and whose copy it is.
//!
//! One thread owns the database. Everything that an answer to others rests on is synced before it
//! counts: votes, entries, truncations, purges, snapshots. How far the log is committed is not, for it
//! can be found out again; it rides on the next write. If a write fails nobody can say what is on the
//! disk, so the process ends (see Rebello et al., "Can Applications Recover from fsync Failures?",
//! 2020): there is no second try after a failed fsync.

use std::fs::{self, File};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use openraft::{LogId, LogState, Snapshot, SnapshotMeta, Vote};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::sync::oneshot;

use super::raft::{Entry, Replica, TypeConfig};
use crate::kit::wire::{self, WireError};

const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

const IDENTITY: &str = "identity";
const VOTE: &str = "vote";
const COMMITTED: &str = "committed";
const PURGED: &str = "purged";
const SNAPSHOT: &str = "snapshot";

/// Memory for pages.
const CACHE_BYTES: usize = 16 << 20;

/// Bytes of entries that are read at once for another node: with one entry more, well below the
/// smallest limit of a message.
const READ_BYTES_MAX: usize = 512 << 10;

/// Why a copy cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be opened.
    #[error(
        "the ledger's copy `{}` cannot be opened: {message}; if other nodes have copies, delete the \
         directory it is in, and this node gets a new one from them", path.display()
    )]
    Open {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// What is in it cannot be read.
    #[error("the ledger's copy cannot be read: {0}")]
    Read(#[from] redb::Error),
    /// A record in it is damaged, or of another version.
    #[error("the ledger's copy holds a damaged record, `{record}`: {source}")]
    Record {
        /// Which.
        record: String,
        /// What is wrong.
        source: WireError,
    },
}

/// Whose copy it is, and of which ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    /// Drawn when the file was made: a copy that was lost is not the one that replaces it.
    pub(super) replica: u64,
    /// Which ledger; 0 while that is not known.
    pub(super) ledger: u64,
}

/// The database. Every call blocks.
pub(super) struct LedgerFile {
    database: Database,
    /// To be written with the next write.
    committed: Option<Option<LogId<u64>>>,
}

type Meta = SnapshotMeta<u64, Replica>;

impl LedgerFile {
    /// Opens the copy in `directory`, or makes one that calls itself `replica`.
    pub(super) fn open(directory: &Path, replica: u64) -> Result<(Self, Identity), FileError> {
        let path = directory.join("ledger.redb");
        let fail = |message: String| FileError::Open { path: path.clone(), message };
        let make = || -> Result<Database, String> {
            fs::create_dir_all(directory).map_err(|error| error.to_string())?;
            // A damaged file may be noticed by a panic.
            let open = || Database::builder().set_cache_size(CACHE_BYTES).create(&path);
            let database = catch_unwind(AssertUnwindSafe(open));
            let database = database.map_err(|_| "it is damaged".to_owned())?;
            let database = database.map_err(|error| error.to_string())?;
            for made in [Some(directory), directory.parent()].into_iter().flatten() {
                let synced = File::open(made).and_then(|made| made.sync_all());
                synced.map_err(|error| error.to_string())?;
            }
            Ok(database)
        };
        let mut file = Self { database: make().map_err(fail)?, committed: None };
        file.write(|write| {
            // Reading a table that was never made fails.
            write.open_table(LOG)?;
            write.open_table(META)?;
            Ok(())
        });
        let identity = match file.meta(IDENTITY)? {
            Some(identity) => identity,
            None => {
                let identity = Identity { replica, ledger: 0 };
                file.save_identity(identity);
                identity
            }
        };
        Ok((file, identity))
    }

    pub(super) fn save_identity(&mut self, identity: Identity) {
        self.put(IDENTITY, &identity);
    }

    pub(super) fn vote(&self) -> Result<Option<Vote<u64>>, FileError> {
        self.meta(VOTE)
    }

    pub(super) fn save_vote(&mut self, vote: &Vote<u64>) {
        self.put(VOTE, vote);
    }

    pub(super) fn committed(&self) -> Result<Option<LogId<u64>>, FileError> {
        Ok(self.meta(COMMITTED)?.flatten())
    }

    pub(super) fn on_committed(&mut self, committed: Option<LogId<u64>>) {
        self.committed = Some(committed);
    }

    pub(super) fn state(&self) -> Result<LogState<TypeConfig>, FileError> {
        let last_purged_log_id = self.meta(PURGED)?;
        let read = self.database.begin_read().map_err(redb::Error::from)?;
        let log = read.open_table(LOG).map_err(redb::Error::from)?;
        let last = log.last().map_err(redb::Error::from)?;
        let last_log_id = match last {
            Some((index, record)) => Some(entry(index.value(), record.value())?.log_id),
            None => last_purged_log_id,
        };
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    /// The entries with these indices, or the first of them if they are `limited`.
    pub(super) fn entries(
        &self,
        range: Range<u64>,
        limited: bool,
    ) -> Result<Vec<Entry>, FileError> {
        let read = self.database.begin_read().map_err(redb::Error::from)?;
        let log = read.open_table(LOG).map_err(redb::Error::from)?;
        let mut entries = Vec::new();
        let mut bytes = 0;
        if range.is_empty() {
            return Ok(entries);
        }
        for found in log.range(range).map_err(redb::Error::from)? {
            let (index, record) = found.map_err(redb::Error::from)?;
            entries.push(entry(index.value(), record.value())?);
            bytes += record.value().len();
            if limited && bytes >= READ_BYTES_MAX {
                break;
            }
        }
        Ok(entries)
    }

    pub(super) fn append(&mut self, entries: &[Entry]) {
        self.write(|write| {
            let mut log = write.open_table(LOG)?;
            for entry in entries {
                log.insert(entry.log_id.index, wire::encode(entry).as_slice())?;
            }
            Ok(())
        });
    }

    /// Removes `from` and everything after it.
    pub(super) fn truncate(&mut self, from: u64) {
        self.write(|write| {
            write.open_table(LOG)?.retain_in(from.., |_, _| false)?;
            Ok(())
        });
    }

    /// Removes `upto` and everything before it.
    pub(super) fn purge(&mut self, upto: LogId<u64>) {
        self.write(|write| {
            write.open_table(LOG)?.retain_in(..=upto.index, |_, _| false)?;
            write.open_table(META)?.insert(PURGED, wire::encode(&upto).as_slice())?;
            Ok(())
        });
    }

    pub(super) fn snapshot(&self) -> Result<Option<(Meta, Vec<u8>)>, FileError> {
        self.meta(SNAPSHOT)
    }

    pub(super) fn save_snapshot(&mut self, meta: &Meta, data: &[u8]) {
        self.put(SNAPSHOT, &(meta, data));
    }

    fn meta<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, FileError> {
        let read = self.database.begin_read().map_err(redb::Error::from)?;
        let meta = read.open_table(META).map_err(redb::Error::from)?;
        let Some(record) = meta.get(name).map_err(redb::Error::from)? else { return Ok(None) };
        let value = wire::decode(record.value());
        value.map(Some).map_err(|source| FileError::Record { record: name.to_owned(), source })
    }

    fn put<T: Serialize>(&mut self, name: &str, value: &T) {
        self.write(|write| {
            write.open_table(META)?.insert(name, wire::encode(value).as_slice())?;
            Ok(())
        });
    }

    /// One transaction, synced when this returns.
    fn write(&mut self, change: impl FnOnce(&redb::WriteTransaction) -> Result<(), redb::Error>) {
        let committed = self.committed.take();
        let written = || -> Result<(), redb::Error> {
            let write = self.database.begin_write()?;
            change(&write)?;
            if let Some(committed) = committed {
                write.open_table(META)?.insert(COMMITTED, wire::encode(&committed).as_slice())?;
            }
            write.commit()?;
            Ok(())
        };
        if let Err(error) = written() {
            die(&format!("the ledger's copy cannot be written: {error}"));
        }
    }
}

fn entry(index: u64, record: &[u8]) -> Result<Entry, FileError> {
    let fail = |source| FileError::Record { record: format!("log {index}"), source };
    wire::decode(record).map_err(fail)
}

/// Ends the process at once: going on would put at risk what others rely on.
pub(super) fn die(reason: &str) -> ! {
    tracing::error!(reason, "the process ends");
    eprintln!("{reason}; the process ends, and can be started again when the cause is removed");
    std::process::abort()
}

type Job = Box<dyn FnOnce(&mut LedgerFile) + Send>;

/// The thread that owns the database. It ends with the last clone.
#[derive(Clone)]
pub(super) struct FileThread {
    /// Bounded by whoever waits: every job is waited for.
    jobs: mpsc::Sender<Job>,
}

impl FileThread {
    pub(super) fn start(mut file: LedgerFile) -> Result<Self, FileError> {
        let (jobs, received) = mpsc::channel::<Job>();
        let work = move || {
            let work = AssertUnwindSafe(|| {
                for job in received {
                    job(&mut file);
                }
            });
            if catch_unwind(work).is_err() {
                die("the thread of the ledger's copy has panicked");
            }
        };
        let thread = std::thread::Builder::new().name("ledger-file".into()).spawn(work);
        match thread {
            Ok(_) => Ok(Self { jobs }),
            Err(error) => Err(FileError::Open { path: PathBuf::new(), message: error.to_string() }),
        }
    }

    /// Has `job` done, and waits for it.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut LedgerFile) -> T + Send + 'static,
    ) -> T {
        let (sender, done) = oneshot::channel();
        let job: Job = Box::new(move |file| {
            // Whoever asked may have gone.
            let _ = sender.send(job(file));
        });
        if self.jobs.send(job).is_err() {
            die("the thread of the ledger's copy has ended");
        }
        match done.await {
            Ok(result) => result,
            Err(_) => die("the thread of the ledger's copy has ended"),
        }
    }
}

/// A snapshot as openraft wants it.
pub(super) fn snapshot_of(meta: Meta, data: Vec<u8>) -> Snapshot<TypeConfig> {
    Snapshot { meta, snapshot: Box::new(std::io::Cursor::new(data)) }
}

#[cfg(test)]
mod tests {
    use openraft::{CommittedLeaderId, EntryPayload};

    use super::*;

    fn log_id(index: u64) -> LogId<u64> {
        LogId::new(CommittedLeaderId::new(1, 7), index)
    }

    fn entries(range: Range<u64>) -> Vec<Entry> {
        range.map(|index| Entry { log_id: log_id(index), payload: EntryPayload::Blank }).collect()
    }

    #[test]
    fn what_was_written_is_there_when_the_file_is_opened_again() {
        let directory = tempfile::tempdir().unwrap();
        let (mut file, identity) = LedgerFile::open(directory.path(), 5).unwrap();
        assert_eq!(identity, Identity { replica: 5, ledger: 0 });
        file.save_identity(Identity { ledger: 9, ..identity });
        file.save_vote(&Vote::new(3, 5));
        file.append(&entries(0..10));
        file.truncate(8);
        assert_eq!(file.state().unwrap().last_log_id, Some(log_id(7)));
        file.purge(log_id(2));
        file.on_committed(Some(log_id(6)));
        assert_eq!(file.committed().unwrap(), None, "it rides on the next write");
        file.append(&entries(8..9));
        file.save_snapshot(&Meta::default(), b"state");
        drop(file);
        let (file, identity) = LedgerFile::open(directory.path(), 6).unwrap();
        assert_eq!(identity, Identity { replica: 5, ledger: 9 }, "the copy keeps its number");
        assert_eq!(file.vote().unwrap(), Some(Vote::new(3, 5)));
        assert_eq!(file.committed().unwrap(), Some(log_id(6)));
        let state = file.state().unwrap();
        assert_eq!(state.last_purged_log_id, Some(log_id(2)));
        assert_eq!(state.last_log_id, Some(log_id(8)));
        let found: Vec<u64> =
            file.entries(0..99, false).unwrap().iter().map(|entry| entry.log_id.index).collect();
        assert_eq!(found, [3, 4, 5, 6, 7, 8]);
        assert_eq!(file.snapshot().unwrap().unwrap().1, b"state");
    }

    #[test]
    fn a_damaged_file_is_named_with_the_remedy() {
        let directory = tempfile::tempdir().unwrap();
        drop(LedgerFile::open(directory.path(), 5).unwrap());
        fs::write(directory.path().join("ledger.redb"), vec![7; 100_000]).unwrap();
        let Err(error) = LedgerFile::open(directory.path(), 5) else { panic!("it was opened") };
        let error = error.to_string();
        assert!(error.contains("ledger.redb` cannot be opened"), "{error}");
        assert!(error.contains("delete the directory"), "{error}");
    }
}
