//! Where ticks come from: files of every format we know, read block by block.
//!
//! ```text
//! file ─▶ unpack ─▶ lines ─▶ parser (src/pipeline/ingest) ─▶ Ingester ─▶ RawBatch
//! ```
//!
//! A [`Source`] blocks: whoever drives it gives it a thread. It can be read again from any position
//! it has reported, so it is its own journal. [`open`] finds out the format by content.

pub mod feed;
pub mod live;
pub mod simulated;

mod bars;
#[cfg(feature = "parquet")]
mod columnar;
mod error;
mod inspect;
mod lines;
pub(crate) mod rest;
mod text;
mod zipped;

use std::fmt;
use std::path::{Path, PathBuf};

pub use error::SourceError;
pub use inspect::{FileSummary, inspect};
use lines::{Line, LineReader, Packing};
use text::LineSource;
use tickwright_core::pipeline::ingest::{
    Ingester, LineParser, SourcePosition, bars as bar_rows, binance, ctp, lean, normalised, tardis,
};

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

    /// The event time of the next row, unix nanoseconds, where that is known without reading it; a row
    /// of that time or an earlier one comes next.
    fn next_time(&self) -> Option<u64> {
        None
    }

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
    /// The same columns in Parquet.
    Parquet,
    /// Recorded WebSocket frames.
    Binance,
    /// CTP's depth market data.
    Ctp,
    /// A tick archive of QuantConnect's LEAN.
    Lean,
    /// Trades or quotes of tardis.dev.
    Tardis,
    /// Open, high, low and close of spans of time.
    Bars,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Simulated => "simulated market",
            Self::Normalised => "normalised tick CSV",
            Self::Parquet => "normalised ticks in Parquet",
            Self::Binance => "recorded Binance frames",
            Self::Ctp => "CTP tick CSV",
            Self::Lean => "LEAN ticks",
            Self::Tardis => "tardis CSV",
            Self::Bars => "bar CSV",
        })
    }
}

/// How sources are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceOptions {
    /// Stop at the first malformed row, rather than count it.
    pub strict: bool,
    /// The market that recorded Binance frames are from; without it each frame is asked.
    pub binance_market: Option<binance::Market>,
}

/// Opens `path`, whatever its format.
///
/// # Errors
///
/// [`SourceError`], with what to do, when there is no such file, its format is not known, or it
/// holds no rows.
pub fn open(path: &Path, options: &SourceOptions) -> Result<Box<dyn Source>, SourceError> {
    let (packing, member) = match container_of(path)? {
        Container::Text(packing, member) => (packing, member),
        #[cfg(feature = "parquet")]
        Container::Parquet => {
            return Ok(Box::new(columnar::ParquetSource::open(path, options.strict)?));
        }
        #[cfg(not(feature = "parquet"))]
        Container::Parquet => {
            let problem = "is Parquet, which this program was built without; \
                           build it with `--features parquet`, or convert the file to CSV";
            let problem = problem.to_owned();
            return Err(SourceError::Archive { path: path.to_owned(), problem });
        }
    };
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
    let bad = |problem| SourceError::Header { path: path.to_owned(), problem };
    let file = TextFile { path, lines, is_packed, strict: options.strict };
    if let Some(member) = member
        && let Some(parser) = lean::Parser::new(&member, zipped::provider(path).as_deref())
    {
        return file.without_header(Format::Lean, parser);
    }
    if bar_rows::Parser::recognises(header) {
        let parser = bar_rows::Parser::new(header).map_err(bad)?;
        let TextFile { path, lines, is_packed, strict } = file;
        return Ok(Box::new(bars::BarSource::open(path, lines, parser, is_packed, strict)?));
    }
    if normalised::Parser::recognises(header) {
        let parser = normalised::Parser::new(header).map_err(bad)?;
        return file.with_header(Format::Normalised, parser);
    }
    if ctp::Parser::recognises(header) {
        return file.with_header(Format::Ctp, ctp::Parser::new(header).map_err(bad)?);
    }
    if tardis::Parser::recognises(header) {
        return file.with_header(Format::Tardis, tardis::Parser::new(header).map_err(bad)?);
    }
    if binance::RecordingParser::recognises(header) {
        let parser = binance::RecordingParser::new(options.binance_market);
        return file.without_header(Format::Binance, parser);
    }
    let start = String::from_utf8_lossy(&header[..header.len().min(40)]);
    let start = start.escape_debug().to_string();
    Err(SourceError::UnknownFormat { path: path.to_owned(), start })
}

/// A file of text whose first line has been read.
struct TextFile<'path> {
    path: &'path Path,
    lines: LineReader,
    is_packed: bool,
    strict: bool,
}

impl TextFile<'_> {
    /// A source of the rows below the header; there must be some.
    fn with_header<P: LineParser + 'static>(
        mut self,
        format: Format,
        parser: P,
    ) -> Result<Box<dyn Source>, SourceError> {
        match self.lines.is_blank() {
            Ok(false) => Ok(self.source(format, parser)),
            Ok(true) => Err(SourceError::NoRows { path: self.path.to_owned() }),
            Err(error) => Err(SourceError::of_io(self.path, 1, self.is_packed, error)),
        }
    }

    /// A source of all lines: the first is a row already.
    fn without_header<P: LineParser + 'static>(
        mut self,
        format: Format,
        parser: P,
    ) -> Result<Box<dyn Source>, SourceError> {
        match self.lines.seek(0, 0) {
            Ok(_) => Ok(self.source(format, parser)),
            Err(error) => Err(SourceError::of_io(self.path, 0, self.is_packed, error)),
        }
    }

    fn source<P: LineParser + 'static>(self, format: Format, parser: P) -> Box<dyn Source> {
        let Self { path, lines, is_packed, strict } = self;
        Box::new(LineSource::new(path, format, lines, parser, is_packed, strict))
    }
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

/// What a file is on the outside.
enum Container {
    /// Text, and the name of the member if it lies in an archive.
    Text(Packing, Option<String>),
    /// Columns.
    Parquet,
}

/// What the file is, by its first bytes.
fn container_of(path: &Path) -> Result<Container, SourceError> {
    let fail = |error| SourceError::of_io(path, 0, false, error);
    let mut lines = LineReader::open(path, Packing::Plain).map_err(fail)?;
    let start = lines.peek().map_err(fail)?;
    Ok(match start {
        [] => return Err(SourceError::Empty { path: path.to_owned() }),
        [b'P', b'A', b'R', b'1', ..] => Container::Parquet,
        [b'P', b'K', ..] => {
            let (packing, name) = zipped::only_member(path)?;
            Container::Text(packing, Some(name))
        }
        [0x1f, 0x8b, ..] => Container::Text(Packing::Gzip, None),
        _ => Container::Text(Packing::Plain, None),
    })
}
