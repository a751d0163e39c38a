//! Why a source cannot be opened or read on.

use std::io;
use std::path::{Path, PathBuf};

use tickwright_core::pipeline::ingest::{HeaderError, RowError};

use crate::kit::JournalError;

/// Why a source cannot be opened or read on. Every message names the file and what to do.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "`path` is the file and `line` the line, from 1, in every variant")]
pub enum SourceError {
    /// The simulated market cannot be gone on with.
    #[error("the simulated market cannot go on where it was: {problem}; use a new data directory")]
    Simulated { problem: String },
    /// There is no such file.
    #[error("`{path}` does not exist; check the name, and that the shell expanded any `*`")]
    Missing { path: PathBuf },
    /// A directory, not a file.
    #[error("`{path}` is a directory; name its files, such as {path}/*.csv.gz")]
    Directory { path: PathBuf },
    /// The file cannot be opened or read.
    #[error("`{path}` cannot be read after line {line}; check the disk and the file's permissions")]
    Unreadable {
        path: PathBuf,
        line: u64,
        #[source]
        source: io::Error,
    },
    /// No byte in it.
    #[error("`{path}` is empty; give a file with a header and rows, or leave it out")]
    Empty { path: PathBuf },
    /// A header and nothing behind it.
    #[error("`{path}` has a header on line 1 but no rows; add rows below it, or leave it out")]
    NoRows { path: PathBuf },
    /// Nothing that is known.
    #[error(
        "`{path}` has a format that is not known: line 1 begins with \"{start}\"; known are {}",
        KNOWN
    )]
    UnknownFormat { path: PathBuf, start: String },
    /// A column is missing or there twice.
    #[error("`{path}`, line 1: {problem}")]
    Header { path: PathBuf, problem: HeaderError },
    /// Packed data that stop in the middle.
    #[error(
        "`{path}` is cut off: its packed data end in the middle, after line {line}; copy or download it again"
    )]
    Truncated { path: PathBuf, line: u64 },
    /// Packed data that cannot be unpacked.
    #[error(
        "`{path}` is damaged: it cannot be unpacked after line {line} ({reason}); copy or download it again"
    )]
    Damaged { path: PathBuf, line: u64, reason: String },
    /// A malformed row under `--strict`.
    #[error("`{path}`, {error} (without --strict, malformed rows are counted and skipped)")]
    Row { path: PathBuf, error: Box<RowError> },
    /// The same file given again.
    #[error(
        "`{path}` is given twice (also as `{first}`); each file is one source, so name it once"
    )]
    Twice { path: PathBuf, first: PathBuf },
    /// A file that has become shorter since a checkpoint was written.
    #[error(
        "`{path}` ends before byte {offset}, line {line}, where an earlier run stopped; put the whole file back, or use a new data directory"
    )]
    Position { path: PathBuf, offset: u64, line: u64 },
    /// An archive that does not hold what it should.
    #[error("`{path}` {problem}")]
    Archive { path: PathBuf, problem: String },
    /// What a source that cannot be read again said cannot be kept, or read back.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The task that listens to a venue has ended by itself.
    #[error("nobody listens to `{name}` any more; start again, what was journaled is kept")]
    Deaf { name: String },
}

/// The formats that are known, for a message.
pub(super) const KNOWN: &str = "normalised tick CSV (header `ts_ns,symbol,kind,price,...`; also \
.gz and .parquet), bar CSV (header `ts_ns,symbol,open,high,low,close,...`), recorded Binance frames (`<recv_ns> {...}` or `{...}` a line), cryptofeed \
recordings, CTP tick CSV (header `TradingDay,InstrumentID,...`), LEAN .zip, and tardis.dev trades \
and quotes (header `exchange,symbol,timestamp,...`)";

impl SourceError {
    /// Sorts out what opening or reading `path` met after `line` lines.
    pub(crate) fn of_io(path: &Path, line: u64, is_packed: bool, error: io::Error) -> Self {
        let path = path.to_owned();
        if error.kind() == io::ErrorKind::NotFound {
            return Self::Missing { path };
        }
        if error.kind() == io::ErrorKind::IsADirectory {
            return Self::Directory { path };
        }
        if is_packed && error.kind() == io::ErrorKind::UnexpectedEof {
            return Self::Truncated { path, line };
        }
        // The operating system's own errors carry a number; those of a decoder do not.
        if is_packed && error.raw_os_error().is_none() {
            return Self::Damaged { path, line, reason: error.to_string() };
        }
        Self::Unreadable { path, line, source: error }
    }
}
