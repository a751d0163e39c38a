//! The whole pipeline with its defaults over every file of recorded ticks, alone and together:
//! `TICKWRIGHT_DATA`, or `../shared/data`. Without the data these tests say so and pass.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use common::{Case, market_data};
use flate2::read::MultiGzDecoder;
use tickwright_core::backtest::report::RunReport;

/// Every file there is; none, if there is no data.
fn files() -> Vec<PathBuf> {
    let Some(root) = market_data() else {
        eprintln!("SKIPPED over recorded data: there is none; see TICKWRIGHT_DATA");
        return Vec::new();
    };
    let entries = std::fs::read_dir(root.join("ticks")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        paths.filter(|path| path.to_str().unwrap().ends_with(".csv.gz")).collect();
    files.sort();
    assert_eq!(files.len(), 8, "{files:?}");
    files
}

/// Lines of `path` but the header, counted without the reader under test.
fn rows_of(path: &Path) -> u64 {
    let lines = BufReader::new(MultiGzDecoder::new(File::open(path).unwrap())).split(b'\n');
    let mut rows = 0;
    for line in lines.skip(1) {
        rows += u64::from(!line.unwrap().is_empty());
    }
    rows
}

/// What must hold of a run over `rows` rows; `Case::run` has looked at what holds of any.
fn check(report: &RunReport, rows: u64, what: &str) {
    assert_eq!(report.ticks_in, rows, "{what}");
    assert_eq!(report.ticks_clean + report.rejected_total(), rows, "{what}");
    assert_eq!((report.lost_ticks, report.duplicate_orders), (0, 0), "{what}");
    let denied: u64 = report.orders.rejected.values().sum();
    let traded = [report.signals, report.orders.placed, report.fills, denied];
    assert!(traded.iter().all(|&count| count > 0), "{what}: {traded:?}");
    println!("{what}: {rows} rows, signals, orders, fills and denials {traded:?}");
}

#[test]
fn every_file_alone_yields_orders_fills_and_denials_and_each_of_its_rows_is_accounted_for() {
    for path in files() {
        let report = Case::files(std::slice::from_ref(&path)).run();
        check(&report, rows_of(&path), path.file_name().unwrap().to_str().unwrap());
    }
}

#[test]
fn all_files_together_are_one_run_in_which_each_row_of_each_is_accounted_for() {
    let files = files();
    if files.is_empty() {
        return;
    }
    let rows: Vec<u64> = files.iter().map(|path| rows_of(path)).collect();
    let report = Case::files(&files).run();
    check(&report, rows.iter().sum(), "together");
    let by_source: Vec<u64> = report.sources.iter().map(|source| source.rows).collect();
    assert_eq!(by_source, rows);
}
