//! What a user sees of a run: progress while it goes, a summary at its end, and files to keep.
//!
//! ```text
//! samples ──▶ Progress ──▶ standard error: a bar on a terminal, plain lines elsewhere
//! RunReport ─┬▶ summary    ──▶ text for the terminal
//!            ├▶ write_json ──▶ `--report FILE`
//!            └▶ write_html ──▶ `--html FILE`, one page that needs no network
//! ```
//!
//! Nothing here computes a result: that is [`tickwright_core::backtest`]'s work.

mod file;
mod html;
mod out_of_sample;
mod progress;
mod search;
mod summary;
mod text;

use std::fs;
use std::path::{Path, PathBuf};

use tickwright_core::backtest::report::RunReport;

pub use file::FileText;
pub use html::page;
pub use progress::{Progress, ProgressSample, SearchLine};
pub use search::{parameters, search_page, search_summary, write_search_html, write_search_json};
pub use summary::{Style, summary};

/// Why a report could not be left behind.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The file system refused.
    #[error("cannot write the report to `{}`", path.display())]
    Write {
        /// Where to.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Writes `report` to `path` as JSON. What was there before is replaced.
///
/// # Errors
///
/// [`ReportError::Write`].
pub fn write_json(report: &RunReport, path: &Path) -> Result<(), ReportError> {
    write(path, &report.to_json())
}

/// Writes `report` to `path` as one self-contained page. What was there before is replaced.
///
/// # Errors
///
/// [`ReportError::Write`].
pub fn write_html(report: &RunReport, path: &Path) -> Result<(), ReportError> {
    write(path, &page(report))
}

fn write(path: &Path, text: &str) -> Result<(), ReportError> {
    fs::write(path, text).map_err(|source| ReportError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
