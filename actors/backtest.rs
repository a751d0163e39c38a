//! `tickwright backtest`: recorded ticks or bars through the live cores in one loop, without actors.
//!
//! ```text
//! files ─▶ Source, Ingester ─┬▶ Backtest ─▶ RunReport        as the pipeline would have left it
//!                            └▶ Recorder ─▶ Recorded         read and cleaned once, for many runs
//! ```
//!
//! What it comes to is what the pipeline comes to over the same files, bit for bit:
//! `tests/backtest_equals_pipeline.rs` holds it to that.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tickwright_core::backtest::report::{MalformedRow, RunReport, SourceReport};
use tickwright_core::backtest::{Backtest, BacktestError, Recorded, Recorder, TooManyRows};
use tickwright_core::config::{Config, Kinds};
use tickwright_core::domain::{SourceId, Span};
use tickwright_core::pipeline::ingest::{Ingester, IngesterConfig};

use crate::kit::{monotonic_nanos, process};
use crate::source::simulated::SimulatedSource;
use crate::source::{Progress, Source, SourceError, SourceOptions, open_all};

/// What stands for the simulated market where files are named.
pub const SIMULATOR: &str = "simulator";

/// Rows that are read at a time.
const BATCH_ROWS: usize = 4_096;

/// Why a backtest came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum BacktestRunError {
    /// A file cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The cores cannot be made, or refuse a symbol.
    #[error(transparent)]
    Backtest(#[from] BacktestError),
    /// More rows than are kept.
    #[error(transparent)]
    TooManyRows(#[from] TooManyRows),
}

/// Sources that are being read.
struct Feed {
    sources: Vec<(Box<dyn Source>, Ingester)>,
}

impl Feed {
    fn open(config: &Config, paths: &[PathBuf]) -> Result<Self, SourceError> {
        let options = SourceOptions { strict: config.pipeline.strict, ..SourceOptions::default() };
        let instruments = Arc::new(config.instruments());
        let numbered = |(index, source)| {
            let numbering = IngesterConfig {
                step: config.pipeline.window_step,
                window: config.pipeline.window,
                ..IngesterConfig::new(SourceId(index), Arc::clone(&instruments))
            };
            (source, Ingester::new(numbering))
        };
        let opened: Vec<Box<dyn Source>> = if paths == [Path::new(SIMULATOR)] {
            vec![Box::new(SimulatedSource::new(config.simulator(), config.pipeline.seed))]
        } else {
            open_all(paths, &options)?
        };
        let sources = (0..).zip(opened).map(numbered).collect();
        Ok(Self { sources })
    }

    /// Reads on in the source that is wanted; returns whether it has ended.
    fn read(&mut self, wanted: SourceId) -> Result<(&mut Ingester, bool), SourceError> {
        let (source, ingester) = &mut self.sources[usize::from(wanted.0)];
        ingester.begin_batch(BATCH_ROWS, 0);
        let is_over = source.read(ingester, BATCH_ROWS)? == Progress::Finished;
        Ok((ingester, is_over))
    }

    fn reports(&self) -> impl Iterator<Item = SourceReport> {
        self.sources.iter().map(|(source, ingester)| {
            let (described, format) = (source.describe(), source.format().to_string());
            let malformed = |row: &tickwright_core::pipeline::ingest::RowError| MalformedRow {
                line: row.line,
                column: row.column.as_ref().map(|column| column.name.clone()).unwrap_or_default(),
                problem: row.to_string(),
            };
            SourceReport {
                name: described
                    .strip_suffix(&format!(" ({format})"))
                    .unwrap_or(&described)
                    .to_owned(),
                format,
                rows: ingester.counters().rows,
                malformed: ingester.counters().malformed,
                malformed_rows: ingester.malformed_first().iter().map(malformed).collect(),
                live: None,
            }
        })
    }
}

/// Runs the cores over `paths`, and says what that came to.
///
/// # Errors
///
/// [`BacktestRunError`] when a file cannot be read, or a strategy refuses a symbol.
pub fn backtest(
    config: &Config,
    kinds: &Kinds,
    paths: &[PathBuf],
) -> Result<RunReport, BacktestRunError> {
    let began = monotonic_nanos();
    let mut feed = Feed::open(config, paths)?;
    let mut backtest = Backtest::new(config.backtest(kinds), feed.sources.len())?;
    while let Some(wanted) = backtest.wants() {
        let (ingester, is_over) = feed.read(wanted)?;
        backtest.on_batch(&ingester.take_batch())?;
        if is_over {
            backtest.finish(wanted);
        }
    }
    let mut report = backtest.report(&config.account_terms());
    report.sources = feed.reports().collect();
    let malformed: u64 = report.sources.iter().map(|source| source.malformed).sum();
    if malformed > 0 {
        report.ticks_rejected.insert("malformed".to_owned(), malformed);
    }
    report.ticks_in = report.sources.iter().map(|source| source.rows).sum();
    let instruments = config.instruments();
    for symbol in &mut report.symbols {
        if let Ok(name) = tickwright_core::domain::Symbol::new(&symbol.symbol) {
            symbol.class = instruments.resolve(&name).class.to_string();
        }
    }
    report.version = env!("CARGO_PKG_VERSION").to_owned();
    report.seed = config.pipeline.seed;
    report.config_fingerprint = blake3::Hash::from(config.fingerprint()).to_hex().to_string();
    report.set_duration(Span::from_nanos(monotonic_nanos().saturating_sub(began)), 0);
    report.peak_rss_bytes = process::peak_rss_bytes();
    report.rss_by_node = [(config.node.name.clone(), report.peak_rss_bytes)].into();
    Ok(report)
}

/// Reads and cleans `paths` once, for as many runs as are wanted.
///
/// # Errors
///
/// [`BacktestRunError`] when a file cannot be read, or there are more than `rows_max` clean rows.
pub fn record(
    config: &Config,
    kinds: &Kinds,
    paths: &[PathBuf],
    rows_max: u64,
) -> Result<Recorded, BacktestRunError> {
    let mut feed = Feed::open(config, paths)?;
    let rules = config.backtest(kinds).rules;
    let mut recorder = Recorder::new(&rules, feed.sources.len(), rows_max);
    while let Some(wanted) = recorder.wants() {
        let (ingester, is_over) = feed.read(wanted)?;
        recorder.on_batch(&ingester.take_batch())?;
        if is_over {
            recorder.finish(wanted);
        }
    }
    Ok(recorder.into_recorded())
}
