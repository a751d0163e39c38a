//! The cleaner over real market data: `TICKWRIGHT_DATA`, or `../shared/data`. Without the data these
//! tests say so and pass. `docs/data-quality.md` says why each of these numbers is right.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tickwright::source::{Progress, SourceOptions, open};
use tickwright_core::domain::{Instruments, SourceId};
use tickwright_core::pipeline::clean::{CleanCounts, CleanRules, Cleaner, Note, Reason};
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

/// Cleans a file under the built-in rules, read in batches of `rows_max`.
fn clean(path: &Path, rows_max: usize) -> Cleaner {
    let mut source = open(path, &SourceOptions::default()).unwrap();
    let config = IngesterConfig::new(SourceId(0), Arc::new(Instruments::default()));
    let mut ingester = Ingester::new(config);
    let mut cleaner = Cleaner::new(CleanRules::default());
    loop {
        let progress = source.read(&mut ingester, rows_max).unwrap();
        let batch = ingester.take_batch();
        for definition in &batch.definitions {
            cleaner.define(definition);
        }
        for (key, row) in batch.keyed() {
            let _ = cleaner.clean(key, row);
        }
        if progress == Progress::Finished {
            return cleaner;
        }
    }
}

type File = (&'static str, u64, &'static [(Reason, u64)], &'static [(Note, u64)]);

/// Each file with its rows accepted, rejected and noted. What is not named here is 0.
const FILES: [File; 8] = [
    ("binance_6sym_20240808T2354Z", 262_416, &[], &[]),
    ("cffex_IF2101_20210104_0106", 84_339, &[(Reason::StaleSession, 8)], &[]),
    (
        "ctp_AP010_AP101_20200803_20200807",
        102_780,
        &[(Reason::StaleSession, 10), (Reason::Duplicate, 10)],
        &[],
    ),
    ("fx_EURUSD_NZDUSD_20140502", 246_637, &[(Reason::Crossed, 14_214)], &[(Note::Locked, 14_486)]),
    (
        "sse_30stocks_20211201",
        32_963,
        &[(Reason::Duplicate, 9)],
        &[
            (Note::Locked, 1_186),
            (Note::NoPriceYet, 1_200),
            (Note::NoSide, 11),
            (Note::Indicative, 1_197),
            (Note::VolumeDerived, 32_963),
        ],
    ),
    ("tardis_BTCUSDT_usdm_20200222", 19_998, &[], &[]),
    (
        "us_IBM_20131008",
        144_246,
        &[(Reason::Suspicious, 1), (Reason::Duplicate, 14_884)],
        &[(Note::IdenticalTrade, 2_059)],
    ),
    (
        "us_IBM_BAC_20131007",
        568_566,
        &[(Reason::Suspicious, 1), (Reason::Duplicate, 129_820)],
        &[(Note::IdenticalTrade, 7_630)],
    ),
];

#[test]
fn every_file_has_the_dirt_that_is_documented_and_no_other() {
    let Some(root) = data() else { return };
    for (name, accepted, rejected, noted) in FILES {
        let mut expected = CleanCounts { accepted, ..CleanCounts::default() };
        for (reason, count) in rejected {
            expected.rejected[reason.index()] = *count;
        }
        for (note, count) in noted {
            expected.noted[note.index()] = *count;
        }
        let path = root.join(format!("ticks/{name}.csv.gz"));
        assert_eq!(clean(&path, 4_096).totals(), expected, "{name}");
    }
}

#[test]
fn the_size_of_batches_changes_nothing() {
    let Some(root) = data() else { return };
    let path = root.join("ticks/ctp_AP010_AP101_20200803_20200807.csv.gz");
    assert_eq!(clean(&path, 1), clean(&path, 100_000));
}
