//! kill -9 of the whole process, and another one that goes on from its data directory.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::time::{Duration, Instant};

use common::{PATIENCE, Scratch, csv_market, draw, finish, json_essence};
use serde_json::Value;

/// A run long enough to be killed in, with checkpoints close to each other.
const LONG: &[&str] = &[
    "demo",
    "--speed",
    "max",
    "--ticks",
    "200000",
    "--set",
    "stream.checkpoint_ticks=2000",
    "--set",
    "stream.credit_ticks=2048",
];

/// How often a run is killed in all.
const KILLS: usize = 20;

/// The report of an undisturbed run.
fn undisturbed(arguments: &[&str]) -> (Value, Duration) {
    let scratch = Scratch::new();
    let begun = Instant::now();
    let ended = scratch.run(arguments);
    assert_eq!(ended.code(), 0, "{ended:?}");
    (scratch.report(), begun.elapsed())
}

/// Starts the program again and again, kills it at random moments `kills` times, and lets it end.
/// Returns how many kills came before the end by themselves, and the final report.
fn killed(arguments: &[&str], kills: usize, longest: Duration, chance: &mut u64) -> (usize, Value) {
    let scratch = Scratch::new();
    let mut landed = 0;
    for _ in 0..kills {
        let longest = u64::try_from(longest.as_micros()).unwrap();
        let moment = Duration::from_micros(draw(chance) % longest);
        let mut process = scratch.start(scratch.command(arguments));
        match process.ends_within(moment) {
            None => {
                process.kill();
                landed += 1;
            }
            Some(status) => {
                // It had come to its end, and the next one begins anew.
                assert!(status.success(), "{:?}", process.said());
            }
        }
    }
    let ended = scratch.run(arguments);
    assert_eq!(ended.code(), 0, "{ended:?}");
    ended.civil();
    assert!(!ended.stderr.contains("damaged"), "a kill damages nothing: {ended:?}");
    (landed, scratch.report())
}

#[test]
fn a_run_killed_at_random_moments_goes_on_and_comes_to_the_same() {
    let seed = std::env::var("TICKWRIGHT_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| {
        let now = tickwright::kit::Clock::system().now();
        now.as_nanos() / 1_000_000_000 % 1_000_000
    });
    println!("TICKWRIGHT_TEST_SEED={seed}");
    let mut chance = seed;
    let (expected, took) = undisturbed(LONG);
    println!("undisturbed: {took:?}");
    let deadline = Instant::now() + 2 * PATIENCE;
    let (mut landed, mut resumed, mut runs) = (0, 0, 0);
    while landed < KILLS {
        // Some runs are killed once, some again and again.
        let kills = usize::try_from(draw(&mut chance) % 8 + 1).unwrap();
        let (hit, report) = killed(LONG, kills, took * 4 / 5, &mut chance);
        assert_eq!(json_essence(&report), json_essence(&expected), "seed {seed}, run {runs}");
        landed += hit;
        resumed += usize::from(report["resumed"] == Value::Bool(true));
        runs += 1;
        assert!(Instant::now() < deadline, "{landed} kills of {KILLS} within {PATIENCE:?}");
    }
    println!("{landed} kills in {runs} runs, of which {resumed} were resumed");
    assert!(resumed > 0, "no run was ever resumed");
}

#[test]
fn a_run_over_two_files_in_shards_is_resumed() {
    let scratch = Scratch::new();
    let files = csv_market(scratch.directory.path(), 2, 80_000, 11);
    let files: Vec<&str> = files.iter().map(|file| file.to_str().unwrap()).collect();
    let close = ["--set", "stream.checkpoint_ticks=2000", "--set", "pipeline.shards=4"];
    let arguments = [&["run", "--data"][..], &files, &close].concat();
    let (expected, took) = undisturbed(&arguments);
    let (mut chance, mut landed) = (3, 0);
    for _ in 0..3 {
        let (hit, report) = killed(&arguments, 2, took * 4 / 5, &mut chance);
        assert_eq!(json_essence(&report), json_essence(&expected));
        landed += hit;
    }
    assert!(landed > 0, "no run was killed before its end");
}

#[test]
fn an_unfinished_run_is_resumed_by_the_same_and_refused_to_others() {
    let scratch = Scratch::new();
    scratch.begin_and_kill(LONG);

    // Another configuration, and other inputs.
    let other = [LONG, &["--set", "risk.position_max_lots=7"]].concat();
    let ended = scratch.run(&other);
    let message = ended.refused();
    for words in ["data", "an unfinished run under another configuration", "another --data-dir"] {
        assert!(message.contains(words), "{words}: {message}");
    }
    let ended = scratch.run(&[LONG, &["--set", "pipeline.shards=4"]].concat());
    let message = ended.refused();
    assert!(message.contains("an unfinished run under pipeline.shards = 1"), "{message}");
    let files = csv_market(scratch.directory.path(), 1, 5_000, 1);
    let ended = scratch.run_file(&files[0], &[]);
    let message = ended.refused();
    assert!(message.contains("an unfinished run of other inputs"), "{message}");
    assert!(message.contains("delete the directory to give it up"), "{message}");

    // What does not alter the answer may differ.
    let operational =
        [LONG, &["--set", "pipeline.batch_ticks=64", "--set", "stream.credit_ticks=512"]].concat();
    let ended = scratch.run(&operational);
    assert_eq!(ended.code(), 0, "{ended:?}");
    let resumed = scratch.report();
    assert_eq!(resumed["resumed"], Value::Bool(true));

    // A finished run starts anew: the same again, or another.
    let ended = scratch.run(LONG);
    assert_eq!(ended.code(), 0, "{ended:?}");
    let anew = scratch.report();
    assert_eq!(anew["resumed"], Value::Bool(false));
    assert_eq!(json_essence(&resumed), json_essence(&anew));
    assert_eq!(scratch.run_file(&files[0], &[]).code(), 0);
}

#[test]
fn a_data_directory_in_use_is_refused_and_not_disturbed() {
    let scratch = Scratch::new();
    let first = scratch.start(scratch.command(LONG));
    let journal = scratch.path("data/journal/db");
    let deadline = Instant::now() + PATIENCE;
    while !journal.try_exists().unwrap() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(2));
    }
    let mut second = std::process::Command::new(env!("CARGO_BIN_EXE_tickwright"));
    second.args(LONG).arg("--data-dir").arg(scratch.path("data"));
    let other = Scratch::new();
    let refused = finish(other.start(second));
    let message = refused.refused();
    assert!(message.contains(scratch.path("data").to_str().unwrap()), "{message}");
    assert!(message.contains("is in use by another running process"), "{message}");
    assert!(message.contains("another --data-dir"), "{message}");
    let ended = finish(first);
    assert_eq!(ended.code(), 0, "{ended:?}");
}
