//! Sources over real market data: `TICKWRIGHT_DATA`, or `../shared/data`. Without the data these
//! tests say so and pass.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tickwright::source::{Progress, Source, SourceOptions, open};
use tickwright_core::domain::{Instruments, Key, Kind, RawTick, SourceId};
use tickwright_core::pipeline::ingest::{Ingester, IngesterConfig};

fn data() -> Option<PathBuf> {
    let root = std::env::var_os("TICKWRIGHT_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
        PathBuf::from,
    );
    if root.join("MANIFEST.csv").is_file() {
        return Some(root);
    }
    eprintln!("SKIPPED: no market data at {}; set TICKWRIGHT_DATA", root.display());
    None
}

fn ingester() -> Ingester {
    Ingester::new(IngesterConfig::new(SourceId(0), Arc::new(Instruments::default())))
}

/// Everything that is left in `source`, with keys, read in batches of `rows_max`.
fn rest(source: &mut dyn Source, ingester: &mut Ingester, rows_max: usize) -> Vec<(Key, RawTick)> {
    let mut rows = Vec::new();
    loop {
        let progress = source.read(ingester, rows_max).unwrap();
        rows.extend(ingester.take_batch().keyed().map(|(key, row)| (key, *row)));
        if progress == Progress::Finished {
            return rows;
        }
    }
}

fn read(path: &Path) -> (Ingester, Vec<(Key, RawTick)>) {
    let mut source = open(path, &SourceOptions::default()).unwrap();
    let mut ingester = ingester();
    let rows = rest(source.as_mut(), &mut ingester, 4096);
    assert_eq!(source.bytes_read(), source.bytes_total(), "{}", path.display());
    (ingester, rows)
}

#[test]
fn every_tick_file_has_the_rows_that_the_manifest_counts() {
    let Some(root) = data() else { return };
    let manifest = std::fs::read_to_string(root.join("MANIFEST.csv")).unwrap();
    let mut files = 0;
    for line in manifest.lines().filter(|line| line.starts_with("ticks/")) {
        let (path, rest) = line.split_once(',').unwrap();
        let expected: u64 = rest.split(',').next().unwrap().parse().unwrap();
        let (ingester, rows) = read(&root.join(path));
        let counters = ingester.counters();
        assert_eq!((counters.rows, counters.malformed), (expected, 0), "{path}");
        let boundaries = rows.iter().filter(|(_, row)| row.kind == Kind::Boundary as u8).count();
        assert_eq!(rows.len() as u64, expected + counters.boundaries);
        assert_eq!(boundaries as u64, counters.boundaries);
        assert!(boundaries > 0 && rows.is_sorted_by_key(|(key, _)| *key), "{path}");
        files += 1;
    }
    assert_eq!(files, 8);
}

#[test]
fn a_source_resumed_anywhere_gives_the_same_rows() {
    let Some(root) = data() else { return };
    let path = root.join("ticks/tardis_BTCUSDT_usdm_20200222.csv.gz");
    let (_, whole) = read(&path);
    for stop in [0, 1, 7_777, 19_998, 30_000] {
        let mut source = open(&path, &SourceOptions::default()).unwrap();
        let mut first = ingester();
        source.read(&mut first, stop).unwrap();
        let mut rows: Vec<_> = first.take_batch().keyed().map(|(key, row)| (key, *row)).collect();
        let snapshot = first.snapshot(source.position());
        drop(source);
        let mut source = open(&path, &SourceOptions::default()).unwrap();
        source.seek(&snapshot.position).unwrap();
        let mut second = Ingester::restore(first.config().clone(), &snapshot);
        rows.extend(rest(source.as_mut(), &mut second, 100));
        assert_eq!(rows, whole, "stopped after {stop} rows");
    }
}
