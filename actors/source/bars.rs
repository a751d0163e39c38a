//! Files of bars, whose rows are put in order of time before the first of them is given.
//!
//! What a bar becomes is decided in `src/pipeline/ingest/bars.rs`. The text of the whole file stays in
//! memory, since many files hold one symbol after the other: a year of minutes of ten symbols is some
//! 200 MB. [`BYTES_MAX`] bounds it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use tickwright_core::pipeline::ingest::bars::{BarEvent, Label, Parser, schedule};
use tickwright_core::pipeline::ingest::{Ingester, ParserState, Problem, RowError, SourcePosition};

use super::lines::{Line, LineReader};
use super::{Format, Progress, Source, SourceError};

/// The longest text of bars that is read.
const BYTES_MAX: usize = 1 << 30;

/// A line of the file that is a bar.
#[derive(Clone, Debug)]
struct Bar {
    /// Where it is in the text.
    at: Range<usize>,
    /// From 1, as an editor counts.
    number: u64,
}

/// A file of bars.
pub(super) struct BarSource {
    path: PathBuf,
    parser: Parser,
    text: Vec<u8>,
    bars: Vec<Bar>,
    /// Lines that are no bars, in the order of the file: they are counted before the first row.
    malformed: Vec<RowError>,
    events: Vec<BarEvent>,
    /// How many of `malformed` and then of `events` have been given.
    given: usize,
    bytes_total: u64,
    strict: bool,
}

impl std::fmt::Debug for BarSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BarSource")
            .field("path", &self.path)
            .field("bars", &self.bars.len())
            .field("given", &self.given)
            .finish_non_exhaustive()
    }
}

impl BarSource {
    /// Reads all that `lines` gives below the header.
    pub(super) fn open(
        path: &Path,
        mut lines: LineReader,
        mut parser: Parser,
        is_packed: bool,
        strict: bool,
    ) -> Result<Self, SourceError> {
        let (mut text, mut bars, mut labels, mut malformed) = (vec![], vec![], vec![], vec![]);
        let mut symbols: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
        loop {
            let before = lines.line();
            let number = before + 1;
            let line = match lines.next_line() {
                Ok(Line::Text([])) => continue,
                Ok(Line::Text(line)) => line,
                Ok(Line::TooLong(start)) => {
                    let limit = LineReader::LINE_BYTES_MAX as u64;
                    let problem = Problem::LineTooLong { limit };
                    malformed.push(*RowError::new(number, 0, "", start, problem));
                    continue;
                }
                Ok(Line::End) => break,
                Err(error) => return Err(SourceError::of_io(path, before, is_packed, error)),
            };
            if text.len() + line.len() > BYTES_MAX {
                let problem = format!("holds more than {BYTES_MAX} bytes of bars; split it");
                return Err(SourceError::Archive { path: path.to_owned(), problem });
            }
            match parser.label(line, number) {
                Ok((end, name)) => {
                    let symbol = match symbols.get(name) {
                        Some(&symbol) => symbol,
                        None => {
                            let next = u32::try_from(symbols.len()).unwrap_or(u32::MAX);
                            *symbols.entry(name.to_vec()).or_insert(next)
                        }
                    };
                    labels.push(Label { end, symbol });
                    bars.push(Bar { at: text.len()..text.len() + line.len(), number });
                    text.extend_from_slice(line);
                }
                Err(error) => malformed.push(*error),
            }
        }
        if bars.is_empty() && malformed.is_empty() {
            return Err(SourceError::NoRows { path: path.to_owned() });
        }
        let events = schedule(&labels);
        let bytes_total = lines.packed_bytes_total();
        let path = path.to_owned();
        Ok(Self { path, parser, text, bars, malformed, events, given: 0, bytes_total, strict })
    }

    fn len(&self) -> usize {
        self.malformed.len() + self.events.len()
    }
}

impl Source for BarSource {
    fn read(&mut self, ingester: &mut Ingester, rows_max: usize) -> Result<Progress, SourceError> {
        let full = ingester.batch_len() + rows_max;
        for _ in 0..rows_max.saturating_mul(4) {
            if ingester.batch_len() >= full {
                break;
            }
            let at = self.given;
            if at == self.len() {
                return Ok(Progress::Finished);
            }
            self.given += 1;
            let outcome = match self.malformed.get(at) {
                Some(error) => Err(Box::new(error.clone())),
                None => {
                    let event = self.events[at - self.malformed.len()];
                    let Bar { at, number } = self.bars[event.bar as usize].clone();
                    self.parser.row(&self.text[at], number, event, ingester)
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
        let given = self.given as u64;
        SourcePosition { offset: given, line: given, parser: ParserState::Stateless }
    }

    fn seek(&mut self, position: &SourcePosition) -> Result<(), SourceError> {
        let SourcePosition { offset, line, .. } = *position;
        match usize::try_from(offset).ok().filter(|&given| given <= self.len()) {
            Some(given) => {
                self.given = given;
                Ok(())
            }
            None => Err(SourceError::Position { path: self.path.clone(), offset, line }),
        }
    }

    fn next_time(&self) -> Option<u64> {
        let at = self.given.saturating_sub(self.malformed.len());
        self.events.get(at).map(|event| event.at)
    }

    fn bytes_read(&self) -> u64 {
        // Rows stand in for bytes: the file was read when it was opened.
        let share = u128::from(self.bytes_total) * self.given as u128;
        u64::try_from(share / self.len().max(1) as u128).unwrap_or(self.bytes_total)
    }

    fn bytes_total(&self) -> u64 {
        self.bytes_total
    }

    fn describe(&self) -> String {
        format!("{} ({})", self.path.display(), self.format())
    }

    fn format(&self) -> Format {
        Format::Bars
    }
}
