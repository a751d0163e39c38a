//! Calls into `sled` that may panic, and what it says put into words.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Once;

use super::super::wire::{self, WireError};
use super::{BEGUN, mark};

/// What the engine keeps in memory. Records are written often and read once, at a start.
const CACHE_BYTES: u64 = 8 << 20;

/// Calls into sled, which says by panicking some of what it should return: above all that the disk is
/// full. An error comes back in words for a user.
pub(super) fn guarded<T>(call: impl FnOnce() -> sled::Result<T>) -> Result<T, String> {
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
pub(super) fn system_error(message: &str) -> Option<io::Error> {
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
pub(super) fn quieten_engine() {
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
pub(super) enum Unopened {
    InUse,
    Failed(io::Error),
    Damaged(String),
}

/// Opens the database, where sled 0.34 may panic on a torn log. A new one is written in segments of
/// `segment_bytes`; to change that of an old one, sled would have it thrown away.
pub(super) fn open_guarded(
    path: &Path,
    segment_bytes: usize,
    keeps_prefix: bool,
) -> Result<sled::Db, Unopened> {
    let open = || {
        let segment_bytes = match begun_with(path)? {
            Some(begun_with) => begun_with,
            None => segment_bytes,
        };
        let config = sled::Config::new().path(path).segment_size(segment_bytes);
        let config = config.flush_every_ms(None);
        let db = config.cache_capacity(CACHE_BYTES).open()?;
        if path.join(BEGUN).try_exists()? && db.tree_names().iter().all(|name| name != b"run") {
            let problem = "the log holds none of the records that were written to it";
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem).into());
        }
        if let Some(problem) = mark::shortened(path, &db)? {
            if !keeps_prefix {
                return Err(io::Error::new(io::ErrorKind::InvalidData, problem).into());
            }
            tracing::error!(journal = %path.display(), "{problem}; what is before them is gone on with");
            mark::begin_anew(path, &db)?;
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

/// The size of the segments of the database in `path`, if there is one. sled keeps it in a file of lines
/// `name: value`, with a checksum behind them.
fn begun_with(path: &Path) -> io::Result<Option<usize>> {
    let bytes = match std::fs::read(path.join("conf")) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let text = String::from_utf8_lossy(&bytes);
    let size = text.lines().find_map(|line| line.strip_prefix("segment_size: "));
    // What cannot be read here, sled finds damaged.
    Ok(size.and_then(|size| size.trim().parse().ok()))
}

fn is_lock(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
        || error.to_string().contains("could not acquire lock")
}

/// Moves a damaged directory to the first free name beside it.
pub(super) fn set_aside(path: &Path) -> io::Result<PathBuf> {
    for number in 1..10_000 {
        let aside = path.with_extension(format!("damaged-{number}"));
        if !aside.try_exists()? {
            std::fs::rename(path, &aside)?;
            return Ok(aside);
        }
    }
    Err(io::Error::other("ten thousand damaged journals beside it already"))
}
