//! The same answer: orders, fills and positions do not depend on how the pipeline is cut into batches
//! and shards, whether it journals, who restarts with whom, or who panics when.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::PathBuf;
use std::sync::OnceLock;

use common::{Case, csv_market, essence, market_data};
use proptest::prelude::*;
use tickwright_core::backtest::report::RunReport;

const ROWS: u64 = 40_000;

/// The simulated market, undisturbed.
fn undisturbed() -> &'static RunReport {
    static REPORT: OnceLock<RunReport> = OnceLock::new();
    REPORT.get_or_init(|| Case::simulated(ROWS).run())
}

/// Two files whose rows alternate and tie, and a symbol that is in both.
fn two_files() -> &'static (tempfile::TempDir, Vec<PathBuf>, RunReport) {
    static MARKET: OnceLock<(tempfile::TempDir, Vec<PathBuf>, RunReport)> = OnceLock::new();
    MARKET.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let files = csv_market(directory.path(), 2, 30_000, 5);
        let report = Case::files(&files).run();
        (directory, files, report)
    })
}

/// Panics of every actor, each some times in `rows` rows.
const PANICS: &str = "panic:ingester@9000,panic:cleaner@7000,panic:factors@8000,\
    panic:strategy@150,panic:risk@170,panic:router@60,panic:broker@70,panic:positions@50";

/// Restarts are what is tested here, not how many of them are borne.
const BORNE: &[(&str, &str)] =
    &[("supervision.backoff_first_ms", "0"), ("supervision.backoff_max_ms", "2")];

#[test]
fn a_run_that_is_repeated_comes_to_the_same() {
    Case::simulated(ROWS).same_as(undisturbed());
}

#[test]
fn another_seed_is_another_market() {
    let other = Case::simulated(ROWS).set("pipeline.seed", "2").run();
    assert_ne!(other.order_digest, undisturbed().order_digest);
}

#[test]
fn the_size_of_batches_changes_nothing() {
    for batch in ["1", "16", "256", "4096"] {
        Case::simulated(ROWS).set("pipeline.batch_ticks", batch).same_as(undisturbed());
    }
}

#[test]
fn the_number_of_shards_changes_nothing() {
    for shards in ["1", "2", "4", "64"] {
        Case::simulated(ROWS).set("pipeline.shards", shards).same_as(undisturbed());
    }
}

#[test]
fn little_credit_and_little_memory_change_nothing() {
    let tight = [
        ("stream.credit_ticks", "256"),
        ("stream.retained_ticks", "256"),
        ("pipeline.batch_ticks", "64"),
        ("stream.checkpoint_ticks", "200"),
    ];
    Case::simulated(ROWS).set_all(&tight).same_as(undisturbed());
}

#[test]
fn a_journal_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    for spacing in ["1000", "65536"] {
        let case = Case::simulated(ROWS).journal(directory.path());
        case.set("stream.checkpoint_ticks", spacing).same_as(undisturbed());
    }
}

#[test]
fn every_restart_strategy_recovers_from_panics_of_every_actor() {
    let mut restarts = 0;
    for strategy in ["one_for_one", "one_for_all", "rest_for_one"] {
        let all = [
            ("supervision.data.strategy", strategy),
            ("supervision.calc.strategy", strategy),
            ("supervision.exec.strategy", strategy),
        ];
        let case = Case::simulated(ROWS).set_all(&all).set_all(BORNE).chaos(PANICS);
        restarts += case.same_as(undisturbed()).restarts;
    }
    assert!(restarts > 30, "{restarts} restarts");
}

#[test]
fn panics_with_a_journal_and_shards_change_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let case = Case::simulated(ROWS).journal(directory.path()).set_all(BORNE);
    case.set("pipeline.shards", "4").chaos(PANICS).same_as(undisturbed());
}

#[test]
fn several_files_are_merged_by_key_and_nothing_else_matters() {
    let (_, files, expected) = two_files();
    let case = Case::files(files);
    case.same_as(expected);
    case.clone().set("pipeline.batch_ticks", "1").same_as(expected);
    case.clone().set("pipeline.batch_ticks", "4096").same_as(expected);
    case.clone().set("pipeline.shards", "4").same_as(expected);
    case.clone().set_all(BORNE).chaos(PANICS).same_as(expected);
    let directory = tempfile::tempdir().unwrap();
    case.journal(directory.path()).same_as(expected);
}

/// If taking rows as they come gave the same digest, the tests above would prove nothing.
#[test]
fn merging_by_arrival_gives_another_answer() {
    let (_, files, expected) = two_files();
    let arrival = |batch| {
        let case = Case::files(files).set("pipeline.merge", "arrival");
        case.set("pipeline.batch_ticks", batch).try_run().unwrap().order_digest
    };
    let digests = ["16", "256", "4096"].map(arrival);
    assert!(digests.iter().any(|digest| *digest != expected.order_digest), "{digests:?}");
}

#[test]
fn real_files_give_the_same_answer() {
    let Some(root) = market_data() else { return };
    for name in ["sse_30stocks_20211201", "tardis_BTCUSDT_usdm_20200222"] {
        let file = root.join(format!("ticks/{name}.csv.gz"));
        // Enough of each for orders, fills and denials.
        let case = Case::files(&[file]);
        let expected = case.run();
        eprintln!("{name}: {}", essence(&expected));
        let small = [("pipeline.batch_ticks", "16"), ("pipeline.shards", "4")];
        case.clone().set_all(&small).same_as(&expected);
        case.set_all(BORNE).chaos(PANICS_OF_FILES).same_as(&expected);
    }
}

/// As [`PANICS`], for files with few orders.
const PANICS_OF_FILES: &str = "panic:ingester@9000,panic:cleaner@7000,panic:factors@8000,\
    panic:strategy@50,panic:risk@60,panic:router@20,panic:broker@25,panic:positions@15";

/// Every actor, with the least and the most items between its panics. Of any four shards one has
/// enough for the most; and with the least the run does not take long.
const ACTORS: [(&str, u64, u64); 8] = [
    ("ingester", 1_000, 9_000),
    ("cleaner", 1_000, 9_000),
    ("factors", 600, 3_000),
    ("strategy", 20, 60),
    ("risk", 20, 100),
    ("router", 15, 50),
    ("broker", 15, 50),
    ("positions", 15, 50),
];

fn schedule() -> impl Strategy<Value = String> {
    let of = |(actor, least, most): (&'static str, u64, u64)| {
        (any::<bool>(), least..most)
            .prop_map(move |(is_in, every)| is_in.then(|| format!("panic:{actor}@{every}")))
    };
    let all: Vec<_> = ACTORS.into_iter().map(of).collect();
    all.prop_map(|specs| specs.into_iter().flatten().collect::<Vec<_>>().join(","))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5, max_shrink_iters: 8, ..ProptestConfig::default() })]

    #[test]
    fn no_schedule_of_panics_changes_the_answer(
        specs in schedule(),
        batch in prop::sample::select(vec!["1", "7", "64", "256", "1000"]),
        shards in prop::sample::select(vec!["1", "2", "4"]),
        strategy in prop::sample::select(vec!["one_for_one", "one_for_all", "rest_for_one"]),
        from_files in any::<bool>(),
    ) {
        static SHORT: OnceLock<RunReport> = OnceLock::new();
        let (case, expected) = if from_files {
            let (_, files, expected) = two_files();
            (Case::files(files), expected)
        } else {
            (Case::simulated(15_000), SHORT.get_or_init(|| Case::simulated(15_000).run()))
        };
        let case = case
            .set_all(BORNE)
            .set("pipeline.batch_ticks", batch)
            .set("pipeline.shards", shards)
            .set("supervision.data.strategy", strategy)
            .set("supervision.calc.strategy", strategy)
            .set("supervision.exec.strategy", strategy)
            .chaos(&specs);
        let _ = case.same_as(expected);
    }
}
