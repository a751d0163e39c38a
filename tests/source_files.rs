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

/// Rows without what two formats cannot agree on: numbers of symbols, and keys.
fn content(rows: &[(Key, RawTick)]) -> Vec<RawTick> {
    rows.iter()
        .filter(|(_, row)| row.kind != Kind::Boundary as u8)
        .map(|(_, row)| RawTick { symbol: 0, ..*row })
        .collect()
}

/// The rows of `symbol` in a normalised file.
fn normalised_rows(path: &Path, symbol: &str) -> Vec<RawTick> {
    let (ingester, rows) = read(path);
    let definitions = ingester.definitions();
    let known = definitions.iter().find(|known| known.instrument.symbol.as_str() == symbol);
    let id = known.expect("the symbol is in the file").id;
    let of_symbol: Vec<_> = rows.into_iter().filter(|(_, row)| row.symbol == id.0).collect();
    content(&of_symbol)
}

#[test]
fn recorded_binance_frames_give_the_normalised_rows() {
    let Some(root) = data() else { return };
    let normalised = root.join("ticks/binance_6sym_20240808T2354Z.csv.gz");
    for (file, symbol) in [
        ("spot_btcusdt_20240808", "BTCUSDT.BINANCE_SPOT"),
        ("spot_ethusdt_20240808", "ETHUSDT.BINANCE_SPOT"),
        ("usdm_btcusdt_20240808_first20000", "BTCUSDT.BINANCE_USDM"),
        ("coinm_ethusd_perp_20240808_first8000", "ETHUSD_PERP.BINANCE_COINM"),
    ] {
        let (ingester, rows) = read(&root.join(format!("native/binance_ws/{file}.ndjson.gz")));
        let counters = ingester.counters();
        assert_eq!((counters.malformed, counters.gaps), (0, 0), "{file}");
        assert!(counters.skipped > 0, "{file} has depth beside its tickers");
        let native = content(&rows);
        // Of the long recordings only the start is here.
        let expected = normalised_rows(&normalised, symbol);
        assert_eq!(native[..], expected[..native.len()], "{file}");
        assert!(native.len() > 4_000, "{file}: {}", native.len());
    }
}

#[test]
fn a_cryptofeed_recording_is_read_whole() {
    let Some(root) = data() else { return };
    let (ingester, rows) = read(&root.join("native/cryptofeed/BINANCE_FUTURES.ws.1.0.gz"));
    let counters = ingester.counters();
    assert_eq!((counters.malformed, counters.rows), (0, 91 + 613), "aggregated trades and tickers");
    assert_eq!(counters.skipped, 764 + 67 + 1, "depth, candles, and the address");
    assert_eq!(ingester.definitions().len(), 4);
    assert!(rows.iter().all(|(_, row)| row.kind == 3 || row.receive_time > row.event_time));
}

#[test]
fn ctp_rows_are_the_normalised_rows_of_their_day() {
    let Some(root) = data() else { return };
    let normalised = root.join("ticks/ctp_AP010_AP101_20200803_20200807.csv.gz");
    for (instrument, rows_expected) in [("AP010", 61_900), ("AP101", 40_900)] {
        let mut native = Vec::new();
        for day in 20_200_803..=20_200_807 {
            let file = format!("native/ctp/{instrument}.{day}.tick-ctp.csv.gz");
            let (ingester, rows) = read(&root.join(file));
            assert_eq!(ingester.counters().malformed, 0);
            native.extend(content(&rows));
        }
        assert_eq!(native.len(), rows_expected);
        let expected = normalised_rows(&normalised, &format!("{instrument}.CZCE"));
        assert_eq!(native, expected, "{instrument}");
    }
}

#[test]
fn tardis_rows_are_the_normalised_rows_of_their_kind() {
    let Some(root) = data() else { return };
    let normalised = root.join("ticks/tardis_BTCUSDT_usdm_20200222.csv.gz");
    let expected = normalised_rows(&normalised, "BTCUSDT.BINANCE_USDM");
    for (kind, name) in [(Kind::Trade, "trades"), (Kind::Quote, "quotes")] {
        let file = format!("native/tardis/binance-futures_{name}_2020-02-22_BTCUSDT.csv.gz");
        let (ingester, rows) = read(&root.join(file));
        assert_eq!(ingester.counters().malformed, 0);
        let of_kind: Vec<RawTick> =
            expected.iter().filter(|row| row.kind == kind as u8).copied().collect();
        assert_eq!(content(&rows), of_kind, "{name}");
    }
}

#[test]
fn lean_archives_give_the_normalised_rows() {
    let Some(root) = data() else { return };
    let shares = normalised_rows(&root.join("ticks/us_IBM_BAC_20131007.csv.gz"), "IBM.US");
    let currencies =
        normalised_rows(&root.join("ticks/fx_EURUSD_NZDUSD_20140502.csv.gz"), "EURUSD.FXCM");
    for (file, kind, normalised) in [
        ("ibm_20131007_quote", Kind::Quote, &shares),
        ("ibm_20131007_trade", Kind::Trade, &shares),
        ("fxcm_eurusd_20140502_quote", Kind::Quote, &currencies),
    ] {
        let (ingester, rows) = read(&root.join(format!("native/lean/{file}.zip")));
        assert_eq!(ingester.counters().malformed, 0, "{file}");
        let native = content(&rows);
        let expected: Vec<RawTick> =
            normalised.iter().filter(|row| row.kind == kind as u8).copied().collect();
        assert_eq!(native.len(), expected.len(), "{file}");
        let difference = native.iter().zip(&expected).find(|(native, other)| native != other);
        assert_eq!(difference, None, "{file}");
    }
}
