//! Inputs taken as they arrive: the order is another one in every run, and can be followed exactly.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{Case, PATIENCE, Scratch, csv_market, draw, essence, json_essence};
use serde_json::Value;
use tickwright::run::RunError;
use tickwright_core::backtest::report::RunReport;

const SOURCES: usize = 3;

/// A market of several files, and the answer by key.
fn market(directory: &Path, rows: usize) -> Vec<PathBuf> {
    csv_market(directory, SOURCES, rows, 17)
}

/// Read as fast as they can be, files run far ahead of each other, and then all signals are stale.
fn files_of(files: &[PathBuf]) -> Case {
    Case::files(files).set("risk.stale_ms", "none")
}

/// A run that takes inputs as they arrive and keeps the order.
fn arriving(files: &[PathBuf], directory: &Path) -> Case {
    files_of(files)
        .journal(directory)
        .set("pipeline.merge", "arrival")
        .set("journal.keep_arrivals", "true")
        .set("pipeline.batch_ticks", "32")
        .set("stream.credit_ticks", "512")
        .set("stream.checkpoint_ticks", "700")
}

/// The same inputs, in the order that the run in `directory` took.
fn following(files: &[PathBuf], directory: &Path) -> Case {
    files_of(files)
        .set("pipeline.merge", "arrival")
        .set("pipeline.follow", directory.to_str().unwrap())
}

/// What holds for every run, in whatever order.
fn assert_whole(report: &RunReport) {
    assert_eq!(report.violations(), []);
    assert_eq!((report.lost_ticks, report.duplicate_orders), (0, 0));
    assert_eq!(report.ticks_in, report.ticks_clean + report.rejected_total());
    assert!(report.fills > 0, "an equal digest over no fills proves nothing");
}

const BORNE: &[(&str, &str)] = &[
    ("supervision.restarts_max", "100000"),
    ("supervision.node.restarts_max", "100000"),
    ("supervision.exec.restarts_max", "100000"),
    ("supervision.backoff_first_ms", "0"),
    ("supervision.backoff_max_ms", "5"),
];

#[test]
fn the_order_taken_under_panics_gives_the_same_answer_again() {
    let scratch = tempfile::tempdir().unwrap();
    let files = market(scratch.path(), 30_000);
    let by_key = files_of(&files).set("pipeline.merge", "key").run();
    let mut digests = Vec::new();
    for (number, chaos) in [
        "panic:risk@37",
        "panic:router@23,panic:broker@31",
        "panic:positions@29,panic:risk@90,panic:cleaner@3000",
        "panic:ingester@2500,panic:factors@2100,panic:strategy@50,panic:risk@70",
    ]
    .into_iter()
    .enumerate()
    {
        let directory = scratch.path().join(format!("run-{number}"));
        let case = arriving(&files, &directory).set_all(BORNE).chaos(chaos);
        let report = case.try_run().unwrap_or_else(|error| panic!("{error}"));
        assert_whole(&report);
        assert!(report.restarts > 0, "{chaos}");
        assert_eq!(report.ticks_in, by_key.ticks_in);
        assert_eq!(report.signals, by_key.signals, "signals do not depend on the order");
        // Undisturbed, and in pieces of another size.
        let follower = following(&files, &directory);
        for batch in ["17", "256"] {
            let again = follower.clone().set("pipeline.batch_ticks", batch).try_run().unwrap();
            assert_eq!(essence(&again), essence(&report), "{chaos}");
        }
        digests.push(report.order_digest);
    }
    assert!(digests.iter().all(|digest| *digest != by_key.order_digest), "{digests:?}");
    digests.dedup();
    assert!(digests.len() > 1, "the order is always the same: nothing is proved");
}

/// The program over `files`, with the journal of [`Scratch`].
fn program(scratch: &Scratch, files: &[PathBuf]) -> std::process::Command {
    let files = files.iter().map(|file| file.to_str().unwrap());
    let mut command = scratch.command(&["run"]);
    command.arg("--data").args(files);
    for (key, value) in &arriving(&[], Path::new("")).overrides {
        if key != "node.data_dir" {
            command.arg("--set").arg(format!("{key}={value}"));
        }
    }
    command
}

#[test]
fn a_run_killed_at_random_moments_took_an_order_that_can_be_followed() {
    let seed = std::env::var("TICKWRIGHT_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let mut chance: u64 = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("TICKWRIGHT_TEST_SEED={chance}");
    let inputs = tempfile::tempdir().unwrap();
    let files = market(inputs.path(), 60_000);
    let scratch = Scratch::new();
    let begun = Instant::now();
    let ended = common::finish(scratch.start(program(&scratch, &files)));
    assert_eq!(ended.code(), 0, "{ended:?}");
    let took = u64::try_from(begun.elapsed().as_micros()).unwrap() * 4 / 5;
    let deadline = Instant::now() + PATIENCE;
    let (mut landed, mut resumed) = (0, 0);
    while landed < 12 {
        let scratch = Scratch::new();
        for _ in 0..=draw(&mut chance) % 5 {
            let moment = Duration::from_micros(draw(&mut chance) % took);
            let mut process = scratch.start(program(&scratch, &files));
            if process.ends_within(moment).is_none() {
                process.kill();
                landed += 1;
            }
        }
        let ended = common::finish(scratch.start(program(&scratch, &files)));
        assert_eq!(ended.code(), 0, "{ended:?}");
        ended.civil();
        let report = scratch.report();
        resumed += usize::from(report["resumed"] == Value::Bool(true));
        assert_eq!((&report["lost_ticks"], &report["duplicate_orders"]), (&0.into(), &0.into()));

        let follower = Scratch::new();
        let data = scratch.path("data");
        let mut command = program(&follower, &files);
        command.arg("--set").arg(format!("pipeline.follow={}", data.to_str().unwrap()));
        let ended = common::finish(follower.start(command));
        assert_eq!(ended.code(), 0, "{ended:?}");
        assert_eq!(json_essence(&follower.report()), json_essence(&report));
        assert!(Instant::now() < deadline, "{landed} kills within {PATIENCE:?}");
    }
    println!("{landed} kills, {resumed} resumed");
    assert!(resumed > 0, "no run was ever resumed");
}

/// That nothing was opened while the database took nothing is an input like others: whoever goes on after a
/// crash, and whoever follows without any database, denies the same.
#[test]
fn what_was_denied_as_it_could_not_be_recorded_is_denied_again() {
    let inputs = tempfile::tempdir().unwrap();
    let files = market(inputs.path(), 60_000);
    let scratch = Scratch::new();
    let url = inputs.path().join("url");
    // Nobody listens there.
    std::fs::write(&url, "postgres://tickwright:secret@127.0.0.1:1/records").unwrap();
    let recording = || {
        let mut command = program(&scratch, &files);
        let file = format!("database.url_file={}", url.display());
        let sets = ["database.kind=postgres", &file, "database.spill_rows_max=40"];
        let sets = sets.iter().chain(&["database.drain_ms=0", "database.timeout_ms=200"]);
        for set in sets {
            command.arg("--set").arg(set);
        }
        command
    };
    let mut process = scratch.start(recording());
    let deadline = Instant::now() + PATIENCE;
    while !process.said().1.contains("nothing is opened") {
        assert!(process.ends_within(Duration::from_millis(5)).is_none(), "{:?}", process.said());
        assert!(Instant::now() < deadline, "{:?}", process.said());
    }
    process.kill();
    let ended = common::finish(scratch.start(recording()));
    assert_eq!(ended.code(), 0, "{ended:?}");
    let report = scratch.report();
    let denied = report["orders"]["rejected"]["records_full"].as_u64();
    assert!(denied.is_some_and(|denied| denied > 10), "{report}");
    assert!(report["fills"].as_u64().is_some_and(|fills| fills > 0), "{report}");

    let follower = Scratch::new();
    let data = scratch.path("data");
    let mut command = program(&follower, &files);
    command.arg("--set").arg(format!("pipeline.follow={}", data.to_str().unwrap()));
    let ended = common::finish(follower.start(command));
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert_eq!(json_essence(&follower.report()), json_essence(&report));
}

#[test]
fn what_cannot_be_followed_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let files = market(scratch.path(), 6_000);
    let refused = |case: Case, words: &str| match case.try_run() {
        Err(error @ RunError::Follow { .. }) => {
            assert!(error.to_string().contains(words), "{error}");
        }
        other => panic!("{words}: {:?}", other.map(|report| report.order_digest)),
    };
    let directory = scratch.path().join("run");
    refused(following(&files, &directory), "it is not the data directory of a run");
    arriving(&files, &directory).set("journal.keep_arrivals", "false").try_run().unwrap();
    refused(following(&files, &directory), "journal.keep_arrivals = true");
    arriving(&files, &directory).try_run().unwrap();
    refused(following(&files[..2], &directory), "that run had other inputs");
    refused(
        following(&files, &directory).set("pipeline.shards", "2"),
        "that run had pipeline.shards = 1",
    );
    following(&files, &directory).try_run().unwrap();
}

#[test]
fn the_order_is_forgotten_once_checkpoints_cover_it() {
    let scratch = tempfile::tempdir().unwrap();
    let files = market(scratch.path(), 30_000);
    let directory = scratch.path().join("run");
    let records = |keep: &str| {
        arriving(&files, &directory).set("journal.keep_arrivals", keep).try_run().unwrap();
        let deadline = Instant::now() + PATIENCE;
        let store = loop {
            let options = tickwright::kit::StoreOptions::default();
            match tickwright::kit::Store::open(&directory, options) {
                Ok((store, _)) => break store,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        store.keys("arrivals").unwrap().len()
    };
    let kept = records("true");
    let left = records("false");
    assert!(kept > 20, "{kept}");
    assert!(left < kept / 4, "{left} of {kept}");
}
