//! Rows a second of each file format, beside a bare `csv` byte-record loop over the same file.
//!
//! `cargo bench --bench formats [DIR]`: files come from DIR, `TICKWRIGHT_DATA` or `../shared/data`.
//! Text is unpacked to a temporary directory first where the ratio to the bare loop is asked for, so
//! that parsing is measured, and not inflating.

#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![expect(clippy::cast_precision_loss, reason = "rates are for people")]

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use tickwright::source::{Progress, SourceOptions, open};
use tickwright_core::domain::{Instruments, SourceId};
use tickwright_core::pipeline::ingest::{Ingester, IngesterConfig};

/// Best of this many passes: the others were disturbed.
const PASSES: usize = 7;

fn main() {
    let root = std::env::args_os()
        .skip(1)
        .find(|argument| !argument.to_string_lossy().starts_with('-'))
        .or_else(|| std::env::var_os("TICKWRIGHT_DATA"))
        .map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
            PathBuf::from,
        );
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    if files.is_empty() {
        println!("no files at {}; name a directory or set TICKWRIGHT_DATA", root.display());
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    println!(
        "{:<58} {:>9} {:>9} {:>9} {:>9} {:>7}",
        "file", "rows", "Mrow/s", "ns/row", "csv ns", "ratio"
    );
    for path in files {
        let name = path.strip_prefix(&root).unwrap_or(&path).display().to_string();
        let Ok(source) = open(&path, &SourceOptions::default()) else { continue };
        let format = source.format();
        drop(source);
        report(&name, &path, name.ends_with(".csv"));
        if name.ends_with(".csv.gz") {
            let plain = scratch.path().join("plain.csv");
            let mut text = Vec::new();
            flate2::read::MultiGzDecoder::new(File::open(&path).unwrap())
                .read_to_end(&mut text)
                .unwrap();
            std::fs::write(&plain, text).unwrap();
            report(&format!("  unpacked ({format})"), &plain, true);
        }
    }
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() { collect(&path, files) } else { files.push(path) }
    }
}

/// Prints the fastest of several passes over `path`, and of the bare loop if it is to be compared;
/// the passes alternate, so that a disturbance meets both.
fn report(name: &str, path: &Path, is_compared: bool) {
    let (mut rows, mut ours, mut bare) = (0, f64::INFINITY, f64::INFINITY);
    for _ in 0..PASSES {
        let (count, seconds) = timed(|| read_all(path));
        rows = count;
        ours = ours.min(seconds);
        if is_compared {
            bare = bare.min(timed(|| bare_csv_loop(path)).1);
        }
    }
    let nanos = |seconds: f64| seconds * 1e9 / rows as f64;
    print!("{name:<58} {rows:>9} {:>9.2} {:>9.0}", 1e3 / nanos(ours), nanos(ours));
    if is_compared {
        print!(" {:>9.0} {:>7.2}", nanos(bare), ours / bare);
    }
    println!();
}

/// What `pass` counts, and its seconds.
fn timed(pass: impl Fn() -> u64) -> (u64, f64) {
    let start = Instant::now();
    let count = pass();
    (count, start.elapsed().as_secs_f64())
}

fn read_all(path: &Path) -> u64 {
    let mut source = open(path, &SourceOptions::default()).unwrap();
    let config = IngesterConfig::new(SourceId(0), Arc::new(Instruments::default()));
    let mut ingester = Ingester::new(config);
    loop {
        ingester.begin_batch(256, 0);
        let progress = source.read(&mut ingester, 256).unwrap();
        std::hint::black_box(ingester.take_batch());
        if progress == Progress::Finished {
            return ingester.counters().rows;
        }
    }
}

/// The yardstick: cut into records and fields, and nothing else.
fn bare_csv_loop(path: &Path) -> u64 {
    let mut reader = csv::Reader::from_path(path).unwrap();
    let mut record = csv::ByteRecord::new();
    let mut rows = 0;
    while reader.read_byte_record(&mut record).unwrap() {
        std::hint::black_box(&record);
        rows += 1;
    }
    rows
}
