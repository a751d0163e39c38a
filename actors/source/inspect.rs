//! What is in a file, without running anything: for `tickwright check FILE`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use tickwright_core::domain::{Instruments, Kind, SourceId, Timestamp};
use tickwright_core::pipeline::ingest::{IngestCounters, Ingester, IngesterConfig, RowError};

use super::{Progress, SourceError, SourceOptions, open};

/// What is in a file.
#[derive(Clone, Debug, Serialize)]
pub struct FileSummary {
    /// The file.
    pub path: PathBuf,
    /// Its format, in words.
    pub format: String,
    /// Rows, malformed ones among them.
    pub counters: IngestCounters,
    /// Trades.
    pub trades: u64,
    /// Quotes.
    pub quotes: u64,
    /// Snapshots.
    pub snapshots: u64,
    /// First and last event time; None without a row.
    pub span: Option<(Timestamp, Timestamp)>,
    /// Rows older than one before them, over all symbols. Common where a source mixes clocks.
    pub rows_older: u64,
    /// Symbols with their class and rows, by name.
    pub symbols: Vec<(String, String, u64)>,
    /// The first malformed rows.
    pub malformed_first: Vec<RowError>,
}

/// Reads `path` from end to end and says what is in it.
///
/// # Errors
///
/// [`SourceError`] when it cannot be opened or read; in strict mode at the first malformed row.
pub fn inspect(
    path: &Path,
    options: &SourceOptions,
    instruments: Arc<Instruments>,
) -> Result<FileSummary, SourceError> {
    let mut source = open(path, options)?;
    let mut ingester = Ingester::new(IngesterConfig::new(SourceId(0), instruments));
    let mut kinds = [0; 4];
    let mut rows_by_symbol: Vec<u64> = Vec::new();
    let mut span: Option<(u64, u64)> = None;
    let mut rows_older = 0;
    loop {
        let progress = source.read(&mut ingester, 4_096)?;
        for row in ingester.take_batch().rows {
            kinds[usize::from(row.kind)] += 1;
            if row.kind == Kind::Boundary as u8 {
                continue;
            }
            let symbol = row.symbol as usize;
            if rows_by_symbol.len() <= symbol {
                rows_by_symbol.resize(symbol + 1, 0);
            }
            rows_by_symbol[symbol] += 1;
            let (first, last) = span.unwrap_or((row.event_time, row.event_time));
            rows_older += u64::from(row.event_time < last);
            span = Some((first.min(row.event_time), last.max(row.event_time)));
        }
        if progress == Progress::Finished {
            break;
        }
    }
    let mut symbols: Vec<(String, String, u64)> = ingester
        .definitions()
        .into_iter()
        .map(|known| {
            let rows = rows_by_symbol.get(known.id.index()).copied().unwrap_or(0);
            let instrument = &known.instrument;
            (instrument.symbol.to_string(), instrument.class.to_string(), rows)
        })
        .collect();
    symbols.sort();
    let instant = Timestamp::from_nanos;
    Ok(FileSummary {
        path: path.to_owned(),
        format: source.format().to_string(),
        counters: *ingester.counters(),
        trades: kinds[Kind::Trade as usize],
        quotes: kinds[Kind::Quote as usize],
        snapshots: kinds[Kind::Snapshot as usize],
        span: span.map(|(first, last)| (instant(first), instant(last))),
        rows_older,
        symbols,
        malformed_first: ingester.malformed_first().to_vec(),
    })
}
