//! What survives the process: `sled`, with the care it needs.
//!
//! ```text
//! Put, Remove ──▶ committer thread ── insert, flush, fsync ──▶ done
//! ```
//!
//! # What sled 0.34.7 does not do by itself
//!
//! `flush()` does not call fsync on Linux: after a simulated power cut acknowledged records were lost
//! in 80 of 100 trials, and opening *panicked* in 19. With segments of 8 MiB (larger values would go
//! to blob files that are never synced) and an fsync of the log after each flush, 150 of 150 cuts were
//! survived. So a record counts as stored only after both; several records share one commit.
//!
//! A store without a directory keeps everything in memory: it survives its actors, not the process.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};

use super::wire::{self, WireError};

/// Records that share one commit at the most.
const COMMIT_RECORDS_MAX: usize = 64;

/// Writes that may wait for the committer; the writer blocks beyond.
const QUEUE_MAX: usize = 1_024;

/// Why the store cannot be opened or written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process holds the lock.
    #[error(
        "data directory `{}` is in use by another running process; stop it, or give this one \
         another --data-dir", .0.display()
    )]
    InUse(PathBuf),
    /// The directory cannot be made or read.
    #[error(
        "data directory `{}` cannot be used: {message}; free some space and let it be read and \
         written, or give another --data-dir: what was stored is kept", path.display()
    )]
    Directory {
        /// Which.
        path: PathBuf,
        /// What the system said.
        message: String,
    },
    /// A write did not reach the disk.
    #[error(
        "the journal in `{}` cannot be written: {message}; free some space or give another \
         --data-dir, then start again: what was stored is kept", path.display()
    )]
    Write {
        /// Which directory.
        path: PathBuf,
        /// What the system said.
        message: String,
    },
    /// A record is damaged or another version wrote it.
    #[error(
        "record {key} of `{tree}` in data directory `{}` cannot be read: {message}; move the \
         directory away to start afresh, or run the version that wrote it", path.display()
    )]
    Record {
        /// Which directory.
        path: PathBuf,
        /// Which tree of records.
        tree: String,
        /// Which record, in hexadecimal.
        key: String,
        /// What is wrong.
        message: String,
    },
}

/// What the engine keeps in memory. Records are written often and read once, at a start.
const CACHE_BYTES: u64 = 8 << 20;

/// The file that says that a run was recorded here. sled takes a log that is nothing but garbage for an
/// empty one; this tells the two apart.
const BEGUN: &str = "begun";

/// Called when a write is on the disk, or failed.
pub type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Trees of records, each an ordered map from bytes to bytes.
#[derive(Clone)]
pub struct Store {
    backend: Arc<Backend>,
}

/// One tree in memory.
type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// A key and its value.
pub type Record = (Vec<u8>, Vec<u8>);

enum Backend {
    Memory(Mutex<BTreeMap<String, Records>>),
    Sled {
        path: PathBuf,
        db: sled::Db,
        writes: Sender<Write>,
        failed: Arc<Mutex<Option<StoreError>>>,
    },
}

enum Write {
    Put { tree: sled::Tree, key: Vec<u8>, value: Vec<u8>, done: Done },
    Remove { tree: sled::Tree, keys: Vec<Vec<u8>> },
}

/// What was found when the store was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// A sound directory, new or old.
    Sound,
    /// A damaged one: it was moved to the path given, and a new one begun.
    SetAside(PathBuf),
}

/// Faults of the disk, for tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskFaults {
    /// After this many bytes every write fails as if the disk were full.
    pub full_after_bytes: Option<u64>,
}

impl Store {
    /// A store in memory.
    pub fn in_memory() -> Self {
        Self { backend: Arc::new(Backend::Memory(Mutex::default())) }
    }

    /// The store in `directory`, made if it is not there. A damaged one is set aside under a new name.
    ///
    /// # Errors
    ///
    /// [`StoreError::InUse`], [`StoreError::Directory`].
    pub fn open(directory: &Path, faults: DiskFaults) -> Result<(Self, Opened), StoreError> {
        let path = directory.join("journal");
        let problem = |error: &io::Error| StoreError::Directory {
            path: directory.to_owned(),
            message: error.to_string(),
        };
        quieten_engine();
        std::fs::create_dir_all(&path).map_err(|error| problem(&error))?;
        let mut opened = Opened::Sound;
        let db = match open_guarded(&path) {
            Ok(db) => db,
            Err(Unopened::InUse) => return Err(StoreError::InUse(directory.to_owned())),
            Err(Unopened::Failed(error)) => return Err(problem(&error)),
            Err(Unopened::Damaged(message)) => {
                let aside = set_aside(&path).map_err(|error| problem(&error))?;
                tracing::warn!(message, aside = %aside.display(), "damaged journal set aside");
                opened = Opened::SetAside(aside);
                std::fs::create_dir_all(&path).map_err(|error| problem(&error))?;
                match open_guarded(&path) {
                    Ok(db) => db,
                    Err(Unopened::InUse) => return Err(StoreError::InUse(directory.to_owned())),
                    Err(Unopened::Failed(error)) => return Err(problem(&error)),
                    Err(Unopened::Damaged(message)) => {
                        return Err(StoreError::Directory { path: directory.to_owned(), message });
                    }
                }
            }
        };
        // A directory entry is not on the disk before its directory is.
        for synced in [path.as_path(), directory] {
            File::open(synced).and_then(|file| file.sync_all()).map_err(|error| problem(&error))?;
        }
        let (writes, queue) = bounded(QUEUE_MAX);
        let failed = Arc::new(Mutex::new(None));
        let committer = Committer {
            path: path.clone(),
            db: db.clone(),
            faults,
            written: 0,
            failed: Arc::clone(&failed),
        };
        std::thread::Builder::new()
            .name("committer".into())
            .spawn(move || committer.run(&queue))
            .map_err(|error| problem(&error))?;
        Ok((Self { backend: Arc::new(Backend::Sled { path, db, writes, failed }) }, opened))
    }

    /// Says that this directory has records from now on: found without any, it is damaged.
    ///
    /// # Errors
    ///
    /// [`StoreError::Write`].
    pub fn mark_begun(&self) -> Result<(), StoreError> {
        match &*self.backend {
            Backend::Memory(_) => Ok(()),
            Backend::Sled { path, .. } => {
                let marked = File::create(path.join(BEGUN)).and_then(|file| file.sync_all());
                let marked = marked.and_then(|()| File::open(path)?.sync_all());
                marked.map_err(|error| write_error(path, &error.to_string()))
            }
        }
    }

    /// Whether what is stored survives the process.
    pub fn is_durable(&self) -> bool {
        matches!(*self.backend, Backend::Sled { .. })
    }

    /// Stores `value` under `key`; calls `done` once it is on the disk, or could not be.
    pub fn put(&self, tree: &str, key: Vec<u8>, value: Vec<u8>, done: Done) {
        match &*self.backend {
            Backend::Memory(trees) => {
                let mut trees = trees.lock().unwrap_or_else(PoisonError::into_inner);
                trees.entry(tree.to_owned()).or_default().insert(key, value);
                drop(trees);
                done(Ok(()));
            }
            Backend::Sled { path, db, writes, failed } => {
                let failure = failed.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if let Some(error) = failure {
                    return done(Err(error));
                }
                match guarded(|| db.open_tree(tree)) {
                    Ok(tree) => {
                        if let Err(unsent) = writes.send(Write::Put { tree, key, value, done })
                            && let Write::Put { done, .. } = unsent.0
                        {
                            done(Err(ended(path)));
                        }
                    }
                    Err(message) => {
                        let error = write_error(path, &message);
                        let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                        let error = failed.get_or_insert(error).clone();
                        drop(failed);
                        done(Err(error));
                    }
                }
            }
        }
    }

    /// Stores `value` under `key` and waits until it is on the disk.
    ///
    /// # Errors
    ///
    /// [`StoreError::Write`].
    pub fn put_and_wait(&self, tree: &str, key: Vec<u8>, value: Vec<u8>) -> Result<(), StoreError> {
        let (sender, receiver) = bounded(1);
        self.put(tree, key, value, Box::new(move |result| drop(sender.send(result))));
        match receiver.recv_timeout(Duration::from_secs(30)) {
            Ok(result) => result,
            Err(_) => Err(write_error(&self.path(), "no answer from the disk within 30 s")),
        }
    }

    /// Removes records, some time soon. What is removed twice, or not at all after a crash, is no harm.
    pub fn remove(&self, tree: &str, keys: Vec<Vec<u8>>) {
        match &*self.backend {
            Backend::Memory(trees) => {
                let mut trees = trees.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(tree) = trees.get_mut(tree) {
                    keys.iter().for_each(|key| drop(tree.remove(key)));
                }
            }
            Backend::Sled { db, writes, .. } => {
                // What cannot be removed now is removed with the next run's start.
                if let Ok(tree) = guarded(|| db.open_tree(tree)) {
                    let _ = writes.send(Write::Remove { tree, keys });
                }
            }
        }
    }

    /// The record under `key`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Record`] when the disk fails.
    pub fn get(&self, tree: &str, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        match &*self.backend {
            Backend::Memory(trees) => {
                let trees = trees.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(trees.get(tree).and_then(|tree| tree.get(key)).cloned())
            }
            Backend::Sled { db, .. } => {
                let read = guarded(|| db.open_tree(tree).and_then(|tree| tree.get(key)));
                let read = read.map_err(|message| self.record_error(tree, key, &message))?;
                Ok(read.map(|value| value.to_vec()))
            }
        }
    }

    /// The keys of `tree`, in order.
    ///
    /// # Errors
    ///
    /// [`StoreError::Record`] when the disk fails.
    pub fn keys(&self, tree: &str) -> Result<Vec<Vec<u8>>, StoreError> {
        match &*self.backend {
            Backend::Memory(trees) => {
                let trees = trees.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(trees.get(tree).map(|tree| tree.keys().cloned().collect()).unwrap_or_default())
            }
            Backend::Sled { db, .. } => {
                let keys =
                    || db.open_tree(tree)?.iter().keys().map(|key| Ok(key?.to_vec())).collect();
                guarded(keys).map_err(|message| self.record_error(tree, &[], &message))
            }
        }
    }

    /// The first record of `tree` whose key is not before `from`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Record`] when the disk fails.
    pub fn next(&self, tree: &str, from: &[u8]) -> Result<Option<Record>, StoreError> {
        match &*self.backend {
            Backend::Memory(trees) => {
                let trees = trees.lock().unwrap_or_else(PoisonError::into_inner);
                let next = trees.get(tree).and_then(|tree| tree.range(from.to_vec()..).next());
                Ok(next.map(|(key, value)| (key.clone(), value.clone())))
            }
            Backend::Sled { db, .. } => {
                let next = || db.open_tree(tree)?.range(from.to_vec()..).next().transpose();
                let next =
                    guarded(next).map_err(|message| self.record_error(tree, from, &message))?;
                Ok(next.map(|(key, value)| (key.to_vec(), value.to_vec())))
            }
        }
    }

    /// Removes every record.
    ///
    /// # Errors
    ///
    /// [`StoreError::Write`].
    pub fn clear(&self) -> Result<(), StoreError> {
        match &*self.backend {
            Backend::Memory(trees) => {
                trees.lock().unwrap_or_else(PoisonError::into_inner).clear();
                Ok(())
            }
            Backend::Sled { path, db, .. } => {
                match std::fs::remove_file(path.join(BEGUN)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(write_error(path, &error.to_string()));
                    }
                    Ok(()) | Err(_) => {}
                }
                let clear = || {
                    for name in db.tree_names() {
                        if name != b"__sled__default" {
                            db.drop_tree(name)?;
                        }
                    }
                    Ok(())
                };
                guarded(clear).map_err(|message| write_error(path, &message))?;
                commit(db, path)
            }
        }
    }

    /// What is wrong with a record, told with its place.
    pub fn record_error(&self, tree: &str, key: &[u8], message: &str) -> StoreError {
        let key = key.iter().map(|byte| format!("{byte:02x}")).collect();
        let (path, tree, message) = (self.path(), tree.to_owned(), message.to_owned());
        StoreError::Record { path, tree, key, message }
    }

    /// The error that stopped writing, if any.
    pub fn failure(&self) -> Option<StoreError> {
        match &*self.backend {
            Backend::Memory(_) => None,
            Backend::Sled { failed, .. } => {
                failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
            }
        }
    }

    fn path(&self) -> PathBuf {
        match &*self.backend {
            Backend::Memory(_) => PathBuf::from("memory"),
            Backend::Sled { path, .. } => path.clone(),
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("path", &self.path()).finish_non_exhaustive()
    }
}

/// The thread that writes.
struct Committer {
    path: PathBuf,
    db: sled::Db,
    faults: DiskFaults,
    written: u64,
    failed: Arc<Mutex<Option<StoreError>>>,
}

impl Committer {
    /// Writes until every [`Store`] is gone.
    fn run(mut self, queue: &Receiver<Write>) {
        let mut result = Ok(());
        while let Ok(first) = queue.recv() {
            let mut waiting = Vec::new();
            if result.is_err() {
                // After the first failure nothing more is written: a gap would look like a record.
                if let Write::Put { done, .. } = first {
                    done(result.clone());
                }
                continue;
            }
            result = self.apply(first, &mut waiting);
            // Whatever came while the last commit ran shares this one.
            while waiting.len() < COMMIT_RECORDS_MAX
                && result.is_ok()
                && let Ok(write) = queue.try_recv()
            {
                result = self.apply(write, &mut waiting);
            }
            result = result.and_then(|()| commit(&self.db, &self.path));
            if let Err(error) = &result {
                let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
                failed.get_or_insert_with(|| error.clone());
            }
            for done in waiting {
                done(result.clone());
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
        }
    }
}

/// Makes what was inserted survive a power cut.
fn commit(db: &sled::Db, path: &Path) -> Result<(), StoreError> {
    guarded(|| db.flush().map(drop)).map_err(|message| write_error(path, &message))?;
    let synced = File::open(path.join("db")).and_then(|file| file.sync_all());
    synced.map_err(|error| write_error(path, &error.to_string()))
}

/// Calls into sled, which says by panicking some of what it should return: above all that the disk is
/// full. An error comes back in words for a user.
fn guarded<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T, String> {
    let message = match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => error.to_string(),
        Err(panic) => panic_message(&*panic),
    };
    Err(system_error(&message).map_or(message, |error| error.to_string()))
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let message = panic.downcast_ref::<String>().map(String::as_str);
    let message = message.or_else(|| panic.downcast_ref::<&str>().copied());
    message.unwrap_or("the storage engine gave up").to_owned()
}

/// The error of the system in what sled says, where the disk and not its content is at fault. sled
/// often keeps only its text: `Os { code: 28, .. }`, or `.. (os error 28)`.
fn system_error(message: &str) -> Option<io::Error> {
    use io::ErrorKind as Kind;
    // Input or output, and too many open files, which have no kind of their own.
    const EIO: i32 = 5;
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    let after = |mark| message.split_once(mark).map(|(_, rest)| rest);
    let rest = after("code: ").or_else(|| after("(os error "))?;
    let digits = rest.find(|next: char| !next.is_ascii_digit()).map_or(rest, |end| &rest[..end]);
    let code = digits.parse().ok()?;
    let error = io::Error::from_raw_os_error(code);
    let at_fault = [
        Kind::StorageFull,
        Kind::FileTooLarge,
        Kind::QuotaExceeded,
        Kind::ReadOnlyFilesystem,
        Kind::PermissionDenied,
        Kind::OutOfMemory,
    ];
    (at_fault.contains(&error.kind()) || [EIO, ENFILE, EMFILE].contains(&code)).then_some(error)
}

/// Keeps the engine's panics, also those of its own threads, from being printed: they are caught, and
/// told in words. Everybody else's still are.
fn quieten_engine() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let file = info.location().map_or("", |location| location.file());
            if file.contains("sled-0.34") {
                tracing::debug!(%info, "the storage engine panicked");
            } else {
                print(info);
            }
        }));
    });
}

fn write_error(path: &Path, message: &str) -> StoreError {
    StoreError::Write { path: path.to_owned(), message: message.to_owned() }
}

fn ended(path: &Path) -> StoreError {
    write_error(path, "the committer has ended")
}

enum Unopened {
    InUse,
    Failed(io::Error),
    Damaged(String),
}

/// Opens the database, where sled 0.34 may panic on a torn log.
fn open_guarded(path: &Path) -> Result<sled::Db, Unopened> {
    let open = || {
        let config = sled::Config::new().path(path).segment_size(8 << 20).flush_every_ms(None);
        let db = config.cache_capacity(CACHE_BYTES).open()?;
        if path.join(BEGUN).try_exists()? && db.tree_names().iter().all(|name| name != b"run") {
            let problem = "the log holds none of the records that were written to it";
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem).into());
        }
        // Reading everything once finds damage now and not in mid-run.
        for name in db.tree_names() {
            let is_sealed = name == b"run" || name.starts_with(b"checkpoint/");
            for record in db.open_tree(&name)?.iter() {
                let (_, value) = record?;
                // A record of another version is whole; its reader says what to do about it.
                if is_sealed && matches!(wire::open(&value), Err(WireError::Checksum)) {
                    let name = String::from_utf8_lossy(&name);
                    let problem = format!("a record of `{name}` does not match its checksum");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, problem).into());
                }
            }
        }
        Ok(db)
    };
    let message = match catch_unwind(AssertUnwindSafe(open)) {
        Ok(Ok(db)) => return Ok(db),
        Ok(Err(sled::Error::Io(error))) if is_lock(&error) => return Err(Unopened::InUse),
        Ok(Err(sled::Error::Io(error))) if system_error(&format!("{error:?}")).is_some() => {
            format!("{error:?}")
        }
        Ok(Err(error)) => error.to_string(),
        Err(panic) => panic_message(&*panic),
    };
    // A full disk damages nothing: what is there must stay where it is.
    Err(system_error(&message).map_or(Unopened::Damaged(message), Unopened::Failed))
}

fn is_lock(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
        || error.to_string().contains("could not acquire lock")
}

/// Moves a damaged directory to the first free name beside it.
fn set_aside(path: &Path) -> io::Result<PathBuf> {
    for number in 1..10_000 {
        let aside = path.with_extension(format!("damaged-{number}"));
        if !aside.try_exists()? {
            std::fs::rename(path, &aside)?;
            return Ok(aside);
        }
    }
    Err(io::Error::other("ten thousand damaged journals beside it already"))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn open(directory: &Path) -> Store {
        let deadline = Instant::now() + Duration::from_secs(10);
        // The committer of a store that was just dropped may still hold the lock for a moment.
        loop {
            match Store::open(directory, DiskFaults::default()) {
                Ok((store, _)) => return store,
                Err(StoreError::InUse(_)) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn what_was_stored_is_there_after_reopening() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path());
        store.put_and_wait("a", vec![1], vec![10]).unwrap();
        store.put_and_wait("a", vec![3], vec![30]).unwrap();
        drop(store);
        let store = open(directory.path());
        assert_eq!(store.get("a", &[1]).unwrap(), Some(vec![10]));
        assert_eq!(store.next("a", &[2]).unwrap(), Some((vec![3], vec![30])));
        assert_eq!(store.keys("a").unwrap(), [vec![1], vec![3]]);
    }

    #[test]
    fn a_directory_in_use_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let _store = open(directory.path());
        let second = Store::open(directory.path(), DiskFaults::default());
        assert!(matches!(second, Err(StoreError::InUse(_))));
    }

    #[test]
    fn a_full_disk_is_an_error_that_says_so_and_stays() {
        let directory = tempfile::tempdir().unwrap();
        let faults = DiskFaults { full_after_bytes: Some(100) };
        let (store, _) = Store::open(directory.path(), faults).unwrap();
        store.put_and_wait("a", vec![1], vec![0; 50]).unwrap();
        let error = store.put_and_wait("a", vec![2], vec![0; 60]).unwrap_err();
        assert!(error.to_string().contains("no space left"), "{error}");
        assert!(store.put_and_wait("a", vec![3], vec![0]).is_err());
        assert_eq!(store.get("a", &[1]).unwrap(), Some(vec![0; 50]));
    }

    #[test]
    fn what_the_system_says_of_the_disk_is_told_from_damage() {
        let full = system_error("Os { code: 28, kind: StorageFull, message: \"No space left\" }");
        assert_eq!(full.unwrap().kind(), io::ErrorKind::StorageFull);
        let large = system_error("IO error: File too large (os error 27)").unwrap();
        assert_eq!(large.kind(), io::ErrorKind::FileTooLarge);
        // A read at an offset that a damaged record named.
        assert!(system_error("Os { code: 22, kind: InvalidInput, message: \"\" }").is_none());
        assert!(system_error("Read corrupted data at file offset 7").is_none());
    }

    #[test]
    fn a_damaged_journal_is_set_aside_and_a_new_one_begun() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path());
        for number in 0..200u8 {
            store.put_and_wait("a", vec![number], vec![number; 1_000]).unwrap();
        }
        drop(store);
        let log = directory.path().join("journal/db");
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut bytes = loop {
            // Wait for the lock to be given back before the file is changed.
            if let Ok((store, _)) = Store::open(directory.path(), DiskFaults::default()) {
                drop(store);
                std::thread::sleep(Duration::from_millis(200));
                break std::fs::read(&log).unwrap();
            }
            assert!(Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(5));
        };
        let (from, to) = (bytes.len() / 200, bytes.len() / 2);
        for byte in &mut bytes[from..to] {
            *byte ^= 0xa5;
        }
        std::fs::write(&log, bytes).unwrap();
        let (store, opened) = Store::open(directory.path(), DiskFaults::default()).unwrap();
        let intact = store.keys("a").unwrap().len();
        match opened {
            Opened::SetAside(aside) => assert!(aside.try_exists().unwrap()),
            Opened::Sound => assert!(intact < 200, "the damage went unnoticed"),
        }
    }
}
