//! What `tickwright check FILE` prints.

use std::fmt;

use tickwright_core::pipeline::ingest::IngestCounters;

use super::text;
use crate::source::FileSummary;

/// What is in a file, as lines for a terminal.
#[derive(Debug)]
pub struct FileText<'a>(pub &'a FileSummary);

impl fmt::Display for FileText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(file) = self;
        let IngestCounters { rows, malformed, skipped, gaps, .. } = file.counters;
        writeln!(f, "{}: {}", file.path.display(), file.format)?;
        writeln!(
            f,
            "  rows       {} ({} trades, {} quotes, {} snapshots, {} malformed)",
            text::count(rows),
            text::count(file.trades),
            text::count(file.quotes),
            text::count(file.snapshots),
            text::count(malformed)
        )?;
        if skipped + gaps > 0 {
            writeln!(f, "  messages   {skipped} without a row, {gaps} gaps in the numbering")?;
        }
        if let Some((first, last)) = file.span {
            let (first, last) = (first.as_nanos(), last.as_nanos());
            writeln!(
                f,
                "  event time {} to {} UTC, {} rows out of order",
                text::time(first),
                text::time(last),
                text::count(file.rows_older)
            )?;
        }
        for (symbol, class, rows) in &file.symbols {
            writeln!(f, "  {symbol:<32} {class:<14} {:>13}", text::count(*rows))?;
        }
        for error in &file.malformed_first {
            writeln!(f, "  malformed: {error}")?;
        }
        Ok(())
    }
}
