//! Bad input at the level of the program: what a user sees, and what the process ends with.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::{
    Case, Ended, HEADER, PATIENCE, Scratch, copy_directory, csv_market, draw, essence, finish,
    json_essence,
};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;
use tickwright::kit::{DiskFaults, StoreError};
use tickwright::run::RunError;

const TIME: &str = "1700000000000000000";

/// What every refusal holds: the file, and after a semicolon what to do.
fn refused(ended: &Ended, file: &Path) -> String {
    let message = ended.refused().to_owned();
    let name = file.file_name().unwrap().to_str().unwrap();
    assert!(message.contains(name), "the message names {name}: {message}");
    assert!(message.contains("; "), "the message says what to do: {message}");
    message
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// A file of 2,000 good rows with `row` as line 1,001.
fn with_row(scratch: &Scratch, row: &str) -> PathBuf {
    let good = csv_market(scratch.directory.path(), 1, 2_000, 9);
    let text = std::fs::read_to_string(&good[0]).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    lines.insert(1_000, row);
    scratch.file("bad.csv", lines.join("\n") + "\n")
}

#[test]
fn a_bad_row_is_counted_and_skipped_or_stops_a_strict_run() {
    let long = "A".repeat(10_000);
    let row = |symbol: &str, kind: &str, price: &str| {
        format!("{TIME},{symbol},{kind},{price},100,,,,,,,")
    };
    let cases = [
        ("too few columns", format!("{TIME},A,trade"), "line 1001, column 4"),
        ("text", row("A", "trade", "abc"), "line 1001, column 4 (price): \"abc\" is not a number"),
        ("NaN", row("A", "trade", "NaN"), "column 4 (price): \"NaN\" is not a finite"),
        ("infinity", row("A", "trade", "inf"), "column 4 (price): \"inf\" is not a finite"),
        ("range", row("A", "trade", "1e30"), "column 4 (price): \"1e30\" is out of range"),
        ("kind", row("A", "swap", "1"), "column 3 (kind): \"swap\" is not one of"),
        ("long symbol", row(&long, "trade", "1"), "line 1001, column 2 (symbol): \"AAAAAAAA"),
    ];
    for (case, row, expected) in cases {
        let scratch = Scratch::new();
        let file = with_row(&scratch, &row);
        let ended = scratch.run_file(&file, &[]);
        assert_eq!(ended.code(), 0, "{case}: {ended:?}");
        ended.civil();
        let report = scratch.report();
        assert_eq!(report["ticks_in"], 2_001, "{case}");
        assert_eq!(report["ticks_rejected"]["malformed"], 1, "{case}");
        assert_eq!(report["lost_ticks"], 0, "{case}");
        let named = &report["sources"][0]["malformed_rows"][0];
        assert_eq!(named["line"], 1_001, "{case}");
        let problem = named["problem"].as_str().unwrap();
        assert!(problem.contains(expected), "{case}: {problem}");
        assert!(ended.stdout.contains("malformed"), "{case}: the summary says so: {ended:?}");

        let ended = scratch.run_file(&file, &["--strict"]);
        let message = refused(&ended, &file);
        assert!(message.contains(expected), "{case}: {message}");
        assert!(message.contains("--strict"), "{case}: {message}");
        assert!(message.len() < 1_000, "{case}: {message}");
    }
}

/// No rule or step of price is made for such symbols, so whoever runs this has to know.
#[test]
fn a_venue_of_which_nothing_is_known_is_spoken_of_once() {
    let scratch = Scratch::new();
    let rows: String = (0..3_000u64)
        .flat_map(|row| ["A.NOWHERE", "B.NOWHERE", "IBM.US"].map(|symbol| (row, symbol)))
        .map(|(row, symbol)| {
            format!(
                "{},{symbol},trade,100,100,,,,,,,\n",
                1_700_000_000_000_000_000 + row * 1_000_000
            )
        })
        .collect();
    let file = scratch.file("rows.csv", format!("{HEADER}{rows}"));
    let ended = scratch.run_file(&file, &[]);
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert_eq!(ended.stderr.matches("[instruments.venues]").count(), 1, "{ended:?}");
    assert!(ended.stderr.contains("NOWHERE"), "{ended:?}");
    let chosen = ["--set", "instruments.venues.NOWHERE=generic"];
    let ended = Scratch::new().run_file(&file, &chosen);
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert!(!ended.stderr.contains("instruments.venues"), "{ended:?}");
}

#[test]
fn a_file_that_cannot_be_read_is_named_with_what_to_do() {
    let scratch = Scratch::new();
    let rows: String = (0..30_000u64)
        .map(|n| format!("{},A,trade,{}.01,100,,,,,,,\n", 1_700_000_000_000_000_000 + n, n + 1))
        .collect();
    let packed = gzip(format!("{HEADER}{rows}").as_bytes());
    let cases = [
        (scratch.path("nowhere.csv"), "does not exist"),
        (scratch.file("cut.csv.gz", &packed[..packed.len() / 2]), "cut off"),
        (scratch.file("stub.csv.gz", &packed[..5]), "cut off"),
        (scratch.file("empty.csv", ""), "is empty"),
        (scratch.file("empty.csv.gz", gzip(b"")), "is empty"),
        (scratch.file("header.csv", HEADER), "header on line 1 but no rows"),
        (scratch.file("bars.csv", "open,high,low,close\n1,2,0,1\n"), "open,high,low,close"),
    ];
    for (file, expected) in cases {
        let message = refused(&scratch.run_file(&file, &[]), &file);
        assert!(message.contains(expected), "{message}\ndoes not say\n{expected}");
        assert!(!message.contains("the node gave up"), "{message}");
    }
    // A good file beside a bad one does not hide it.
    let good = csv_market(scratch.directory.path(), 1, 500, 1);
    let missing = scratch.path("nowhere.csv");
    let ended =
        scratch.run(&["run", "--data", good[0].to_str().unwrap(), missing.to_str().unwrap()]);
    refused(&ended, &missing);
}

#[test]
fn a_wrong_configuration_is_refused_with_what_would_be_right() {
    let scratch = Scratch::new();
    let ended = scratch.run(&["demo", "--set", "pipeline.batch_tick=1"]);
    let message = ended.refused();
    assert!(message.contains("did you mean pipeline.batch_ticks?"), "{message}");

    let ended = scratch.run(&["demo", "--set", "risk.position_max_lots=-5"]);
    let message = ended.refused();
    assert!(message.contains("risk.position_max_lots: -5 is below"), "{message}");

    let text = "[pipeline]\nbatch_ticks = 16\n\n[risk]\norder_value_max = -1\ndayly_loss_max = 1\n";
    let file = scratch.file("mine.toml", text);
    let ended = scratch.run(&["demo", "--config", file.to_str().unwrap()]);
    let message = ended.refused();
    assert!(message.contains("mine.toml:5:"), "{message}");
    assert!(message.contains("mine.toml:6:"), "all problems at once: {message}");
    assert!(message.contains("did you mean") && message.contains("daily_loss_max"), "{message}");
}

#[test]
fn chaos_that_is_unknown_or_never_strikes_fails_the_run() {
    let scratch = Scratch::new();
    let ended = scratch.run(&["demo", "--chaos", "panic:nobody@5"]);
    assert!(ended.refused().contains("there is no actor \"nobody\""), "{ended:?}");
    let ended =
        scratch.run(&["demo", "--ticks", "5000", "--chaos", "panic:cleaner@2000,panic:risk@90000"]);
    assert_eq!(ended.code(), 1, "{ended:?}");
    assert!(ended.stderr.contains("panic:risk@90000"), "{ended:?}");
    ended.civil();
    let chaos = scratch.report()["chaos"].clone();
    assert_eq!(chaos[0]["fired"], true, "{chaos}");
    assert_eq!(chaos[1]["fired"], false, "{chaos}");
}

// --- damaged journals ---------------------------------------------------------------------------

/// A run that is interrupted and repeated.
const RUN: &[&str] =
    &["demo", "--ticks", "150000", "--set", "stream.checkpoint_ticks=1000", "--speed", "max"];

/// As [`RUN`], at a pace at which it is always interrupted before its end.
fn interrupted() -> Scratch {
    let scratch = Scratch::new();
    scratch.begin_and_kill(RUN);
    scratch
}

fn undisturbed() -> &'static Value {
    static REPORT: std::sync::OnceLock<Value> = std::sync::OnceLock::new();
    REPORT.get_or_init(|| {
        let scratch = Scratch::new();
        let ended = scratch.run(RUN);
        assert_eq!(ended.code(), 0, "{ended:?}");
        scratch.report()
    })
}

/// Damages the log in one of many ways; says which.
fn damage(bytes: &mut Vec<u8>, way: u64, chance: &mut u64) -> String {
    // sled writes whole segments; what was used of them is at the beginning.
    let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let mut place = |below: usize| usize::try_from(draw(chance) % (below.max(1) as u64)).unwrap();
    match way % 6 {
        0 => {
            let at = place(used);
            bytes[at] ^= 1 << (way % 8);
            format!("a bit at {at} of {used}")
        }
        1 => {
            let at = place(used);
            bytes.truncate(at);
            format!("cut at {at} of {used}")
        }
        2 => {
            let (from, length) = (place(used), place(20_000) + 1);
            let to = (from + length).min(used);
            bytes[from..to].iter_mut().for_each(|byte| *byte = byte.wrapping_mul(31) ^ 0xa5);
            format!("garbage in {from}..{to} of {used}")
        }
        3 => {
            let (from, to) = (used / 50, used / 2);
            bytes[from..to].iter_mut().for_each(|byte| *byte ^= 0xa5);
            format!("garbage in {from}..{to} of {used}")
        }
        4 => {
            bytes.iter_mut().enumerate().for_each(|(at, byte)| *byte = at.to_le_bytes()[0]);
            "nothing but garbage".to_owned()
        }
        _ => {
            let (from, length) = (place(used), place(60_000) + 1);
            let to = (from + length).min(used);
            bytes[from..to].fill(0);
            format!("zeros in {from}..{to} of {used}")
        }
    }
}

#[test]
fn a_damaged_journal_is_set_aside_or_survived_and_never_crashes() {
    let mut chance = 20_261_120;
    let source = interrupted();
    let mut set_aside = 0;
    for way in 0..18 {
        let scratch = Scratch::new();
        copy_directory(&source.path("data"), &scratch.path("data"));
        let log = scratch.path("data/journal/db");
        let mut bytes = std::fs::read(&log).unwrap();
        let what = damage(&mut bytes, way, &mut chance);
        std::fs::write(&log, &bytes).unwrap();
        let ended = scratch.run(RUN);
        assert_eq!(ended.code(), 0, "{what}: {ended:?}");
        ended.civil();
        assert_eq!(json_essence(&scratch.report()), json_essence(undisturbed()), "{what}");
        let aside = scratch.path("data/journal.damaged-1");
        if aside.try_exists().unwrap() {
            set_aside += 1;
            assert!(ended.stderr.contains("damaged journal"), "{what}: it is said so: {ended:?}");
            assert!(ended.stderr.contains("journal.damaged-1"), "{what}: {ended:?}");
            assert!(aside.join("db").try_exists().unwrap(), "{what}");
        }
        println!("{what}: set aside: {}", aside.try_exists().unwrap());
    }
    assert!(set_aside >= 3, "only {set_aside} were ever noticed");
}

#[test]
fn a_damaged_configuration_of_the_journal_is_set_aside() {
    for name in ["conf", "blobs"] {
        let scratch = interrupted();
        let file = scratch.path("data/journal").join(name);
        if file.is_dir() {
            std::fs::remove_dir_all(&file).unwrap();
        }
        std::fs::write(&file, b"\x00\xffgarbage").unwrap();
        let ended = scratch.run(RUN);
        assert_eq!(ended.code(), 0, "{name}: {ended:?}");
        ended.civil();
        assert_eq!(json_essence(&scratch.report()), json_essence(undisturbed()), "{name}");
    }
}

// --- a full disk --------------------------------------------------------------------------------

#[test]
fn a_disk_that_fills_in_mid_run_stops_it_and_is_resumed_when_there_is_room() {
    let expected = Case::simulated(60_000).run();
    let directory = tempfile::tempdir().unwrap();
    let journaled =
        Case::simulated(60_000).journal(directory.path()).set("stream.checkpoint_ticks", "1000");
    for full_after_bytes in [0, 5_000, 30_000] {
        let mut full = journaled.clone();
        full.disk = DiskFaults { full_after_bytes: Some(full_after_bytes) };
        let begun = Instant::now();
        let error = patiently(|| full.try_run().map(|report| essence(&report))).unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
        let message = error.to_string();
        assert!(message.contains(directory.path().to_str().unwrap()), "{message}");
        assert!(message.contains("no space left"), "{message}");
        assert!(message.contains("free some space or give another --data-dir"), "{message}");
    }
    let resumed = patiently(|| journaled.try_run()).unwrap();
    assert!(resumed.resumed);
    assert_eq!(essence(&resumed), essence(&expected));
}

/// Runs again while the run before, in this process, still lets go of its directory.
fn patiently<T>(mut run: impl FnMut() -> Result<T, RunError>) -> Result<T, RunError> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match run() {
            Err(RunError::Store(StoreError::InUse(_))) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(20));
            }
            ended => return ended,
        }
    }
}

/// The program under a limit on the size of a file, in blocks of 512 bytes.
fn limited(scratch: &Scratch, blocks: u64) -> Command {
    let program = scratch.command(RUN);
    let mut shell = Command::new("sh");
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
    shell.arg("-c").arg(script).arg(program.get_program()).args(program.get_args());
    shell.env_remove("RUST_LOG").env_remove("RUST_BACKTRACE");
    shell
}

#[test]
fn a_limit_on_the_size_of_files_stops_the_run_and_is_no_damage() {
    for blocks in [8, 64, 256] {
        let scratch = Scratch::new();
        let begun = Instant::now();
        let ended = finish(scratch.start(limited(&scratch, blocks)));
        let took = begun.elapsed();
        assert!(took < PATIENCE / 2, "{took:?}");
        let message = ended.refused();
        assert!(message.contains(scratch.path("data").to_str().unwrap()), "{message}");
        assert!(message.contains("File too large"), "{blocks}: {message}");
        assert!(message.contains("--data-dir"), "{blocks}: {message}");
        // The same once the limit is lifted.
        let ended = scratch.run(RUN);
        assert_eq!(ended.code(), 0, "{blocks}: {ended:?}");
        ended.civil();
        assert!(
            !scratch.path("data/journal.damaged-1").try_exists().unwrap(),
            "{blocks}: {ended:?}"
        );
        let report = scratch.report();
        assert_eq!(json_essence(&report), json_essence(undisturbed()), "{blocks}");
        println!("{blocks} blocks: ended after {took:?}, resumed: {}", report["resumed"]);
    }
}
