//! Sources whose rows are lines of text.

use std::path::{Path, PathBuf};

use tickwright_core::pipeline::ingest::{Ingester, LineParser, Problem, RowError, SourcePosition};

use super::lines::{Line, LineReader};
use super::{Format, Progress, Source, SourceError};

/// A file of lines and the parser that understands them.
#[derive(Debug)]
pub(super) struct LineSource<P> {
    path: PathBuf,
    format: Format,
    lines: LineReader,
    parser: P,
    is_packed: bool,
    bytes_total: u64,
    strict: bool,
}

impl<P: LineParser> LineSource<P> {
    /// A source of what `lines` gives from here on.
    pub(super) fn new(
        path: &Path,
        format: Format,
        lines: LineReader,
        parser: P,
        is_packed: bool,
        strict: bool,
    ) -> Self {
        let bytes_total = lines.packed_bytes_total();
        Self { path: path.to_owned(), format, lines, parser, is_packed, bytes_total, strict }
    }
}

impl<P: LineParser> Source for LineSource<P> {
    fn read(&mut self, ingester: &mut Ingester, rows_max: usize) -> Result<Progress, SourceError> {
        let full = ingester.batch_len() + rows_max;
        // Lines that give no row count too: a file of garbage must not hold its reader for ever.
        for _ in 0..rows_max.saturating_mul(4) {
            if ingester.batch_len() >= full {
                break;
            }
            let line = self.lines.line();
            let number = line + 1;
            let outcome = match self.lines.next_line() {
                Ok(Line::Text([])) => continue,
                Ok(Line::Text(text)) => self.parser.row(text, number, ingester),
                Ok(Line::TooLong(start)) => {
                    let limit = LineReader::LINE_BYTES_MAX as u64;
                    Err(RowError::new(number, 0, "", start, Problem::LineTooLong { limit }))
                }
                Ok(Line::End) => return Ok(Progress::Finished),
                Err(error) => {
                    return Err(SourceError::of_io(&self.path, line, self.is_packed, error));
                }
            };
            if let Err(error) = outcome {
                ingester.malformed((*error).clone());
                if self.strict {
                    return Err(SourceError::Row { path: self.path.clone(), error });
                }
            }
        }
        Ok(Progress::More)
    }

    fn position(&self) -> SourcePosition {
        SourcePosition {
            offset: self.lines.offset(),
            line: self.lines.line(),
            parser: self.parser.state(),
        }
    }

    fn seek(&mut self, position: &SourcePosition) -> Result<(), SourceError> {
        let SourcePosition { offset, line, parser } = position;
        match self.lines.seek(*offset, *line) {
            Ok(true) => {
                self.parser.restore(parser);
                Ok(())
            }
            Ok(false) => {
                let path = self.path.clone();
                Err(SourceError::Position { path, offset: *offset, line: *line })
            }
            Err(error) => Err(SourceError::of_io(&self.path, *line, self.is_packed, error)),
        }
    }

    fn bytes_read(&self) -> u64 {
        self.lines.packed_bytes()
    }

    fn bytes_total(&self) -> u64 {
        self.bytes_total
    }

    fn describe(&self) -> String {
        format!("{} ({})", self.path.display(), self.format)
    }

    fn format(&self) -> Format {
        self.format
    }
}
