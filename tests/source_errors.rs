//! Bad input at the level of files: what is wrong, where, and what to do about it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use tickwright::source::{Progress, SourceError, SourceOptions, open, open_all};
use tickwright_core::domain::{Instruments, SourceId};
use tickwright_core::pipeline::ingest::{IngestCounters, Ingester, IngesterConfig};

const HEADER: &str =
    "ts_ns,symbol,kind,price,volume,bid1,ask1,bid_vol1,ask_vol1,recv_ns,cum_volume,flags\n";
const TRADE: &str = "1381132800054000000,IBM.US,trade,180.01,100,,,,,,,\n";

/// A directory with one file in it.
struct Scratch {
    directory: tempfile::TempDir,
}

impl Scratch {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// Reads `path` to its end, or to its first error.
fn read(path: &Path, strict: bool) -> (Result<(), SourceError>, Option<Ingester>) {
    let mut source = match open(path, &SourceOptions { strict, ..SourceOptions::default() }) {
        Ok(source) => source,
        Err(error) => return (Err(error), None),
    };
    let config = IngesterConfig::new(SourceId(0), Arc::new(Instruments::default()));
    let mut ingester = Ingester::new(config);
    loop {
        match source.read(&mut ingester, 1_000) {
            Ok(Progress::Finished) => return (Ok(()), Some(ingester)),
            Ok(Progress::More | Progress::Idle) => {}
            Err(error) => return (Err(error), Some(ingester)),
        }
    }
}

/// What is said of a file that cannot be read.
fn refusal(path: &Path) -> String {
    let message = read(path, false).0.unwrap_err().to_string();
    let name = path.file_name().unwrap().to_str().unwrap();
    assert!(message.contains(name), "the message names the file: {message}");
    assert!(message.contains(';'), "the message says what to do: {message}");
    message
}

/// Counters and the message of the only malformed row of a file that has `row` between good ones.
fn malformed(row: &str) -> (IngestCounters, String) {
    let scratch = Scratch::new();
    let path = scratch.file("bad.csv", format!("{HEADER}{TRADE}{row}\n{TRADE}").as_bytes());
    let (outcome, ingester) = read(&path, false);
    outcome.unwrap();
    let ingester = ingester.unwrap();
    let counted = ingester.malformed_first()[0].to_string();
    // The strict reading stops there with the same words.
    let (outcome, ingester) = read(&path, true);
    let message = outcome.unwrap_err().to_string();
    assert!(message.contains("bad.csv") && message.contains(&counted), "{message}");
    assert!(message.contains("--strict"), "{message}");
    assert_eq!(ingester.unwrap().counters().rows, 2, "one good row and the bad one");
    let counters = *read(&path, false).1.unwrap().counters();
    (counters, counted)
}

#[test]
fn a_missing_file_is_named() {
    let scratch = Scratch::new();
    let message = refusal(&scratch.directory.path().join("nowhere.csv"));
    assert!(message.contains("does not exist"), "{message}");
}

#[test]
fn a_directory_is_no_file() {
    let scratch = Scratch::new();
    let message = read(scratch.directory.path(), false).0.unwrap_err().to_string();
    assert!(message.contains("is a directory; name its files"), "{message}");
}

#[test]
fn an_empty_file_is_refused_plain_or_packed() {
    let scratch = Scratch::new();
    assert!(refusal(&scratch.file("empty.csv", b"")).contains("is empty"));
    assert!(refusal(&scratch.file("empty.csv.gz", &gzip(b""))).contains("is empty"));
    assert!(refusal(&scratch.file("blank.csv", b"\n\n")).contains("is empty"));
}

#[test]
fn a_header_without_rows_is_refused() {
    let scratch = Scratch::new();
    let message = refusal(&scratch.file("header.csv", HEADER.as_bytes()));
    assert!(message.contains("header on line 1 but no rows"), "{message}");
    refusal(&scratch.file("header.csv.gz", &gzip(HEADER.trim_end().as_bytes())));
}

#[test]
fn a_truncated_gzip_names_the_last_line_read() {
    let scratch = Scratch::new();
    // Rows that differ, so that packing cannot fold them into nothing.
    let rows: String = (0..50_000u64)
        .map(|n| format!("{},IBM.US,trade,{}.01,100,,,,,,,\n", 1_381_132_800_054_000_000 + n, n))
        .collect();
    let packed = gzip(format!("{HEADER}{rows}").as_bytes());
    let path = scratch.file("cut.csv.gz", &packed[..packed.len() / 2]);
    let (outcome, ingester) = read(&path, false);
    let message = outcome.unwrap_err().to_string();
    let rows = ingester.unwrap().counters().rows;
    assert!(rows > 1_000, "what could be unpacked was read: {rows}");
    let line = format!("after line {}", rows + 1);
    assert!(message.contains(&line) && message.contains("cut off"), "{message}");
    // Only the checksum at the end is missing.
    let message = refusal(&scratch.file("almost.csv.gz", &packed[..packed.len() - 4]));
    assert!(message.contains("cut off"), "{message}");
    let message = refusal(&scratch.file("stub.csv.gz", &packed[..5]));
    assert!(message.contains("cut off"), "{message}");
}

#[test]
fn a_damaged_gzip_is_not_read_over() {
    let scratch = Scratch::new();
    let mut packed = gzip(format!("{HEADER}{}", TRADE.repeat(10)).as_bytes());
    let checksum = packed.len() - 6;
    packed[checksum] ^= 1;
    let message = refusal(&scratch.file("flipped.csv.gz", &packed));
    assert!(message.contains("is damaged"), "{message}");
}

#[test]
fn an_unknown_format_lists_the_known_ones() {
    let scratch = Scratch::new();
    let message = refusal(&scratch.file("bars.csv", b"open,high,low,close\n1,2,0,1\n"));
    assert!(message.contains("open,high,low,close") && message.contains("CTP"), "{message}");
    let message = refusal(&scratch.file("noise.bin", &[0xfe, 0x00, 0x9c].repeat(100_000)));
    assert!(message.len() < 1_000, "{message}");
}

#[test]
fn a_header_with_a_misspelled_column_says_which() {
    let scratch = Scratch::new();
    let header = HEADER.replace("ts_ns", "time");
    let message = refusal(&scratch.file("typo.csv", format!("{header}{TRADE}").as_bytes()));
    assert!(message.contains("line 1: the header lacks the column `ts_ns`"), "{message}");
}

#[test]
fn the_same_file_twice_is_refused_whatever_its_spelling() {
    let scratch = Scratch::new();
    let path = scratch.file("a.csv", format!("{HEADER}{TRADE}").as_bytes());
    let again = scratch.directory.path().join(".").join("a.csv");
    let message = open_all(&[path, again], &SourceOptions::default()).unwrap_err().to_string();
    assert!(message.contains("is given twice"), "{message}");
}

#[test]
fn a_file_that_has_shrunk_cannot_be_resumed() {
    let scratch = Scratch::new();
    for (name, pack) in [("a.csv", None), ("a.csv.gz", Some(gzip as fn(&[u8]) -> Vec<u8>))] {
        let store = |rows: usize| {
            let text = format!("{HEADER}{}", TRADE.repeat(rows));
            scratch
                .file(name, &pack.map_or(text.clone().into_bytes(), |pack| pack(text.as_bytes())))
        };
        let path = store(100);
        let mut source = open(&path, &SourceOptions::default()).unwrap();
        let config = IngesterConfig::new(SourceId(0), Arc::new(Instruments::default()));
        source.read(&mut Ingester::new(config), 50).unwrap();
        let position = source.position();
        assert_eq!(position.line, 51);
        let path = {
            store(10);
            path
        };
        let mut source = open(&path, &SourceOptions::default()).unwrap();
        let message = source.seek(&position).unwrap_err().to_string();
        assert!(message.contains("line 51") && message.contains("put the whole file"), "{message}");
    }
}

#[test]
fn a_malformed_row_is_counted_and_named_and_stops_a_strict_run() {
    let long = "A".repeat(10_000);
    let row = |time: &str, symbol: &str, kind: &str, price: &str| {
        malformed(&format!("{time},{symbol},{kind},{price},100,,,,,,,"))
    };
    let (time, symbol) = ("1381132800054000000", "IBM.US");
    let cases = [
        (row(time, symbol, "trade", "abc"), "line 3, column 4 (price): \"abc\" is not a number"),
        (row(time, symbol, "trade", "NaN"), "line 3, column 4 (price): \"NaN\" is not a finite"),
        (row(time, symbol, "trade", "-inf"), "line 3, column 4 (price): \"-inf\" is not a finite"),
        (row(time, symbol, "trade", "1e30"), "line 3, column 4 (price): \"1e30\" is out of range"),
        (row(time, symbol, "swap", "1"), "line 3, column 3 (kind): \"swap\" is not one of"),
        (row("7", symbol, "trade", "1"), "line 3, column 1 (ts_ns): \"7\" is not between"),
        (row(time, &long, "trade", "1"), "line 3, column 2 (symbol): \"AAAAAAAA"),
        (malformed("1381132800054000000,IBM.US,trade"), "line 3, column 4 (the row): \"13811328"),
        (malformed("\u{0}\u{1}\u{2}"), "line 3, column 2 (the row): \"\\x00\\x01\\x02\" has 1"),
    ];
    for ((counters, message), expected) in cases {
        assert!(message.contains(expected), "{message}\ndoes not say\n{expected}");
        assert!(message.contains("; "), "{message} has a remedy");
        assert!(message.len() < 300, "{message}");
        assert_eq!((counters.rows, counters.malformed), (3, 1), "{message}");
    }
}
