//! Where ticks come from: files of every format we know, read block by block.
//!
//! ```text
//! file ─▶ unpack ─▶ lines ─▶ parser (src/pipeline/ingest) ─▶ Ingester ─▶ RawBatch
//! ```
//!
//! A [`Source`] blocks: whoever drives it gives it a thread. It can be read again from any position
//! it has reported, so it is its own journal. [`open`] finds out the format by content.

pub mod live;
pub mod simulated;

mod error;
mod lines;
mod text;

use std::fmt;
use std::path::{Path, PathBuf};

pub use error::SourceError;
use lines::{Line, LineReader, Packing};
use text::LineSource;
use tickwright_core::pipeline::ingest::{Ingester, LineParser, SourcePosition, normalised};

/// What a call to [`Source::read`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is more to read now.
    More,
    /// Nothing at the moment; a live source may have more later.
    Idle,
    /// Nothing, for ever.
    Finished,
}

/// Something that ticks can be read from.
pub trait Source: Send + fmt::Debug {
    /// Reads on until about `rows_max` more rows are in the ingester's batch, and possibly fewer.
    /// The rows do not depend on `rows_max`, only where they are cut.
    ///
    /// # Errors
    ///
    /// When the source cannot be read on; rows before that are in the ingester. A malformed row is
    /// an error only in strict mode; otherwise it is counted.
    fn read(&mut self, ingester: &mut Ingester, rows_max: usize) -> Result<Progress, SourceError>;

    /// Where the next row begins.
    fn position(&self) -> SourcePosition;

    /// Goes to a position that a source of the same file reported.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or has become too short.
    fn seek(&mut self, position: &SourcePosition) -> Result<(), SourceError>;

    /// Bytes read so far of [`Source::bytes_total`].
    fn bytes_read(&self) -> u64;

    /// Bytes of the file, packed as it is; 0 when there is no end.
    fn bytes_total(&self) -> u64;

    /// A name for people: path and format.
    fn describe(&self) -> String;

    /// The format it was recognised as.
    fn format(&self) -> Format;
}

/// Formats of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// No file: a market made of a seed.
    Simulated,
    /// One row per source message, named columns.
    Normalised,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Simulated => "simulated market",
            Self::Normalised => "normalised tick CSV",
        })
    }
}

/// How sources are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceOptions {
    /// Stop at the first malformed row, rather than count it.
    pub strict: bool,
}

/// Opens `path`, whatever its format.
///
/// # Errors
///
/// [`SourceError`], with what to do, when there is no such file, its format is not known, or it
/// holds no rows.
pub fn open(path: &Path, options: &SourceOptions) -> Result<Box<dyn Source>, SourceError> {
    let packing = packing_of(path)?;
    let is_packed = packing != Packing::Plain;
    let fail = |line, error| SourceError::of_io(path, line, is_packed, error);
    let mut lines = LineReader::open(path, packing).map_err(|error| fail(0, error))?;
    let header = loop {
        match lines.next_line().map_err(|error| fail(0, error))? {
            Line::Text([]) => {}
            Line::Text(text) | Line::TooLong(text) => break text.to_vec(),
            Line::End => return Err(SourceError::Empty { path: path.to_owned() }),
        }
    };
    // Some editors begin a file with a byte order mark.
    let header = header.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&header);
    if normalised::Parser::recognises(header) {
        let parser = normalised::Parser::new(header)
            .map_err(|problem| SourceError::Header { path: path.to_owned(), problem })?;
        return with_header(path, Format::Normalised, lines, parser, is_packed, options);
    }
    let start = String::from_utf8_lossy(&header[..header.len().min(40)]);
    let start = start.escape_debug().to_string();
    Err(SourceError::UnknownFormat { path: path.to_owned(), start })
}

/// A source of the rows below a header that has been read; there must be some.
fn with_header<P: LineParser + 'static>(
    path: &Path,
    format: Format,
    mut lines: LineReader,
    parser: P,
    is_packed: bool,
    options: &SourceOptions,
) -> Result<Box<dyn Source>, SourceError> {
    match lines.is_blank() {
        Ok(false) => {}
        Ok(true) => return Err(SourceError::NoRows { path: path.to_owned() }),
        Err(error) => return Err(SourceError::of_io(path, 1, is_packed, error)),
    }
    Ok(Box::new(LineSource::new(path, format, lines, parser, is_packed, options.strict)))
}

/// Opens every path, each as a source of its own, in the order given.
///
/// # Errors
///
/// As [`open`], and when two paths lead to one file.
pub fn open_all(
    paths: &[PathBuf],
    options: &SourceOptions,
) -> Result<Vec<Box<dyn Source>>, SourceError> {
    let mut known: Vec<(PathBuf, &PathBuf)> = Vec::new();
    let mut sources = Vec::new();
    for path in paths {
        let real = std::fs::canonicalize(path)
            .map_err(|error| SourceError::of_io(path, 0, false, error))?;
        if let Some((_, first)) = known.iter().find(|(other, _)| *other == real) {
            return Err(SourceError::Twice { path: path.clone(), first: (*first).clone() });
        }
        known.push((real, path));
        sources.push(open(path, options)?);
    }
    Ok(sources)
}

/// How the text lies in the file, by its first bytes.
fn packing_of(path: &Path) -> Result<Packing, SourceError> {
    let fail = |error| SourceError::of_io(path, 0, false, error);
    let mut lines = LineReader::open(path, Packing::Plain).map_err(fail)?;
    let start = lines.peek().map_err(fail)?;
    if start.is_empty() {
        return Err(SourceError::Empty { path: path.to_owned() });
    }
    Ok(if start.starts_with(&[0x1f, 0x8b]) { Packing::Gzip } else { Packing::Plain })
}
