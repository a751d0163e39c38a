//! Recorded bars become rows in order of time, and what contradicts itself is counted.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::Arc;

use tickwright::source::{Progress, SourceOptions, inspect, open};
use tickwright_core::domain::{Instruments, RawTick, SourceId};
use tickwright_core::pipeline::ingest::{Ingester, IngesterConfig};

mod common;

fn ingester_config() -> IngesterConfig {
    IngesterConfig::new(SourceId(0), Arc::new(Instruments::default()))
}

/// All rows, read `rows_max` at a time, and from a new source after every `restart_after` reads.
fn rows(path: &Path, rows_max: usize, restart_after: usize) -> Vec<RawTick> {
    let open = || open(path, &SourceOptions::default()).unwrap();
    let (mut source, mut ingester) = (open(), Ingester::new(ingester_config()));
    let mut rows = vec![];
    for reads in 1.. {
        let progress = source.read(&mut ingester, rows_max).unwrap();
        rows.extend(ingester.take_batch().rows);
        if progress == Progress::Finished {
            assert_eq!(source.bytes_read(), source.bytes_total());
            break;
        }
        if reads % restart_after == 0 {
            let snapshot = ingester.snapshot(source.position());
            source = open();
            source.seek(&snapshot.position).unwrap();
            ingester = Ingester::restore(ingester_config(), &snapshot);
        }
    }
    rows
}

#[test]
fn symbols_one_after_the_other_come_by_time_however_they_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bars.csv");
    let mut text = "ts_ns,symbol,open,high,low,close,volume\n".to_owned();
    for symbol in ["rb.SHFE", "i.DCE", "a.DCE"] {
        for minute in 1..200_u64 {
            let end = 1_564_578_300_000_000_000 + minute * 60_000_000_000;
            // Every seventh bar is not one.
            let high = if minute % 7 == 0 { 99 } else { 103 };
            text += &format!("{end},{symbol},100,{high},98,101,{}\n", minute % 5);
        }
        text += "x,rb.SHFE,1,1,1,1,1\n";
    }
    std::fs::write(&path, text).unwrap();
    let straight = rows(&path, 1_000_000, usize::MAX);
    assert!(straight.is_sorted_by_key(|row| row.event_time));
    assert!(rows(&path, 64, 3) == straight);
    assert!(rows(&path, 1, 50) == straight);
    let found = inspect(&path, &SourceOptions::default(), Instruments::default().into()).unwrap();
    let trades = 3 * (1..200).filter(|minute| minute % 7 != 0 && minute % 5 != 0).count() as u64;
    assert_eq!(found.trades, 2 * trades);
    // What contradicts itself is malformed whatever its volume.
    assert_eq!(found.counters.malformed, 3 * 28 + 3);
    assert_eq!(found.counters.skipped, 3 * (199 - 28) - trades);
    let first = &found.malformed_first[0];
    assert_eq!((first.line, first.column.as_ref().unwrap().name.as_str()), (201, "ts_ns"));
}

#[test]
fn every_recorded_bar_gives_two_rows_or_a_reason() {
    let Some(root) = common::market_data() else { return };
    // As the documentation of the data tells: bars, those without volume, those that are none. Two of
    // ru1901 are both.
    for (file, bars, empty, malformed) in [
        ("cn_futures_m5_9sym_20190731_20200807", 131_850, None, 0),
        ("cffex_IF_m5_2014_2017", 46_833, None, 0),
        ("btcperp_m1_2022-01_part1", 30_299, None, 0),
        ("fx_gbpusd_m1_bidask_2012-02", 30_117, Some(0), 0),
        ("shfe_ru1901_m1_2018-01_2018-08", 52_517, Some(4_113), 4),
    ] {
        let path = root.join("bars").join(format!("{file}.csv.gz"));
        let instruments = Instruments::default().into();
        let found = inspect(&path, &SourceOptions::default(), instruments).unwrap();
        let counters = found.counters;
        let told = (found.trades + found.quotes) / 2 + counters.skipped + counters.malformed;
        assert_eq!(told, bars, "{file}: {counters:?}");
        assert_eq!(counters.malformed, malformed, "{file}: {:?}", found.malformed_first);
        assert!(empty.is_none_or(|empty| empty == counters.skipped), "{file}: {counters:?}");
        assert_eq!(found.rows_older, 0, "{file}");
        println!("{file}: {} rows, {} skipped", found.trades + found.quotes, counters.skipped);
    }
}
