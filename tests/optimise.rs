//! A search for parameters: what was found is found again, by anybody, and survives `kill -9`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Scratch, bars};
use serde_json::Value;
use tickwright::backtest::record;
use tickwright_core::config::Kinds;
use tickwright_core::optimise::report::OptimiseReport;
use tickwright_core::optimise::{BestSet, Study, Trial};

mod common;

const PATIENCE: Duration = Duration::from_secs(120);

/// `optimize` over `data`, with its journal and its report in `scratch`.
fn arguments<'a>(data: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    [&["optimize", "--strategy", "crossing", "--data", data.to_str().unwrap()], more].concat()
}

fn optimised(scratch: &Scratch, data: &Path, more: &[&str]) -> (OptimiseReport, String) {
    let (directory, report) = (scratch.path("data"), scratch.path("found.json"));
    let own = ["--data-dir", directory.to_str().unwrap(), "--report", report.to_str().unwrap()];
    let ended = scratch.run(&arguments(data, &[more, &own].concat()));
    assert_eq!(ended.code(), 0, "{ended:?}");
    ended.civil();
    let text = std::fs::read_to_string(report).unwrap();
    (serde_json::from_str(&text).unwrap(), ended.stderr)
}

/// Trials that a process says are finished, in its last line about it.
fn said_finished(stderr: &str) -> u64 {
    let mut counts =
        stderr.lines().filter_map(|line| line.split_once(" of ")?.0.replace(',', "").parse().ok());
    counts.next_back().unwrap_or(0)
}

#[test]
fn a_search_that_is_killed_goes_on_with_all_it_had_finished() {
    let scratch = Scratch::new();
    let data = bars(&scratch, 4_000);
    let directory = scratch.path("data");
    let more = [
        "--data-dir",
        directory.to_str().unwrap(),
        "--workers",
        "2",
        "--trials",
        "100000",
        "--set",
        "optimise.patience=0",
        "--search",
        "random",
    ];
    let mut process = scratch.start(scratch.command(&arguments(&data, &more)));
    let deadline = Instant::now() + PATIENCE;
    let seen = loop {
        let ended = process.ends_within(Duration::from_millis(20));
        assert!(ended.is_none(), "{:?}", process.said());
        let finished = said_finished(&process.said().1);
        if finished > 3 {
            break finished;
        }
        assert!(Instant::now() < deadline, "nothing was finished: {:?}", process.said());
    };
    process.kill();
    // As many more as it says at least; the rest of what was finished counts as well.
    let budget_count = seen * 2 + 50;
    let budget = budget_count.to_string();
    let more = [
        "--workers",
        "2",
        "--trials",
        &budget,
        "--set",
        "optimise.patience=0",
        "--search",
        "random",
    ];
    let (report, _) = optimised(&scratch, &data, &more);
    println!("killed after {seen} trials or more, {} were found again", report.trials_resumed);
    assert!(report.trials_resumed >= seen, "{} of {seen}", report.trials_resumed);
    assert!(report.trials >= budget_count, "{} of {budget}", report.trials);
    let numbers: BTreeSet<u64> = report.scores.iter().map(|trial| trial.number).collect();
    let points: BTreeSet<Vec<u64>> = report
        .scores
        .iter()
        .map(|trial| trial.values.iter().map(|value| value.to_bits()).collect())
        .collect();
    assert_eq!(numbers.len(), report.scores.len(), "a trial counts twice");
    assert_eq!(points.len(), report.scores.len(), "a point was tried twice");
    assert_eq!(report.scores.len() as u64 + report.trials_failed, report.trials);
    // Nothing is left to do, and it is not done again.
    let (again, _) = optimised(&scratch, &data, &more);
    assert_eq!((again.trials, again.trials_resumed), (report.trials, report.trials));
    assert_eq!(again.best, report.best);
}

/// A search that is killed has what is left of its time when it goes on; one that came to its end has all of it again.
#[test]
fn the_time_of_a_search_is_that_of_all_its_lives() {
    const SECONDS: f64 = 6.0;
    let scratch = Scratch::new();
    let data = bars(&scratch, 4_000);
    let directory = scratch.path("data");
    let budget = format!("{SECONDS}s");
    let more = ["--time", &budget, "--trials", "1000000", "--search", "random", "--set"];
    let more = [&more[..], &["optimise.patience=0"]].concat();
    let own = ["--data-dir", directory.to_str().unwrap()];
    let mut process =
        scratch.start(scratch.command(&arguments(&data, &[&more[..], &own].concat())));
    let deadline = Instant::now() + PATIENCE;
    while said_finished(&process.said().1) == 0 {
        assert!(Instant::now() < deadline, "nothing was finished: {:?}", process.said());
        assert!(process.ends_within(Duration::from_millis(20)).is_none(), "{:?}", process.said());
    }
    assert!(process.ends_within(Duration::from_secs(3)).is_none(), "{:?}", process.said());
    process.kill();
    let (second, _) = optimised(&scratch, &data, &more);
    assert_eq!(second.stopped, "time");
    assert!(second.trials_resumed > 0);
    let (third, _) = optimised(&scratch, &data, &more);
    println!("{:.1} s of {SECONDS} were left, then {:.1}", second.seconds, third.seconds);
    assert!(second.seconds < SECONDS - 1.0, "{} s", second.seconds);
    // What is measured begins a little after what is given.
    assert!(third.seconds > SECONDS - 0.5, "{} s", third.seconds);
}

#[test]
fn another_search_of_the_same_data_begins_with_the_best_of_the_first() {
    let scratch = Scratch::new();
    let data = bars(&scratch, 2_000);
    let (first, said) = optimised(&scratch, &data, &["--trials", "30", "--search", "random"]);
    assert!(first.adopted.is_none() && !said.contains("adopted"), "{said}");
    let (second, said) = optimised(&scratch, &data, &["--trials", "30", "--search", "genetic"]);
    assert!(said.contains("adopted the best of an earlier search"), "{said}");
    assert_eq!(second.adopted.as_ref().unwrap().parameters, first.best[0].parameters);
    assert_eq!((second.trials, second.trials_resumed), (30, 0));
    assert!(second.best[0].in_sample.score >= first.best[0].in_sample.score);
    // Other rows are other data.
    let other = bars(&scratch, 1_500);
    let (third, _) = optimised(&scratch, &other, &["--trials", "10"]);
    assert!(third.adopted.is_none() && third.data_hash != first.data_hash);
}

/// What the script of a page draws.
fn drawn(page: &Path) -> Value {
    let page = std::fs::read_to_string(page).unwrap();
    let (_, data) = page.split_once("id=\"report\">").unwrap();
    serde_json::from_str(data.split_once("</script>").unwrap().0).unwrap()
}

/// What is drawn is the report, under the names by which the script asks for it.
fn assert_drawn(drawn: Value, report: &OptimiseReport) {
    let parameters = drawn["best"][0]["parameters"].as_array().unwrap();
    let names: Vec<&str> = parameters.iter().map(|pair| pair[0].as_str().unwrap()).collect();
    assert_eq!(names, ["fast", "slow"]);
    assert!(parameters.iter().all(|pair| pair[1].is_number()), "{parameters:?}");
    let scores = drawn["scores"].as_array().unwrap();
    assert_eq!(scores.len() as u64 + report.trials_failed, report.trials);
    for trial in scores {
        let values = trial["values"].as_array().unwrap();
        let is_known = trial["number"].is_u64() && trial["score"].is_number();
        assert!(is_known && values.len() == names.len(), "{trial}");
    }
    let samples = drawn["equity"]["USD"]["samples"].as_array().unwrap();
    let is_later = |pair: &[Value]| pair[0]["time_ns"].as_u64() < pair[1]["time_ns"].as_u64();
    assert!(samples.len() > 10 && samples.windows(2).all(is_later), "{samples:?}");
    let equity = |sample: &Value| sample["equity"].as_str().unwrap().parse::<f64>().unwrap();
    assert!(samples.iter().any(|sample| equity(sample) != 0.0), "{samples:?}");
    assert_eq!(serde_json::from_value::<OptimiseReport>(drawn).unwrap(), *report);
}

#[test]
fn a_search_reports_what_came_after_and_what_mattered() {
    let scratch = Scratch::new();
    let data = bars(&scratch, 3_000);
    let page = scratch.path("found.html");
    let more = ["--trials", "60", "--html", page.to_str().unwrap(), "--set", "optimise.folds=2"];
    let (report, said) = optimised(&scratch, &data, &more);
    assert!(said.contains("of 60 trials"), "{said}");
    assert_eq!((report.trials, report.stopped.as_str()), (60, "budget"));
    assert!(report.best.is_sorted_by(|a, b| a.in_sample.score >= b.in_sample.score));
    assert!(report.best.iter().all(|judged| judged.out_of_sample.is_some()));
    assert!(report.best[0].in_sample.score > report.configured.as_ref().unwrap().in_sample.score);
    assert_eq!(report.walk_forward.len(), 2);
    assert_eq!(report.walk_forward[0].judged_on.1, report.walk_forward[1].judged_on.0);
    assert_eq!(report.walk_forward[1].judged_on.1, report.rows);
    let names: Vec<&str> = report.importance.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["fast", "slow"]);
    assert!(report.equity.contains_key("USD"), "{:?}", report.equity.keys());
    assert_drawn(drawn(&page), &report);
}

#[test]
fn what_cannot_be_searched_is_refused_with_what_to_do() {
    let scratch = Scratch::new();
    let data = bars(&scratch, 50);
    let run = |more: &[&str]| {
        scratch.run(&[&["optimize", "--data", data.to_str().unwrap()], more].concat())
    };
    let refused = |more: &[&str]| run(more).refused().to_owned();
    assert!(refused(&["--strategy", "none-such"]).contains("there are: reversion, crossing"));
    assert!(refused(&["--search", "best"]).contains("optimise.search"));
    let space = "optimise.space=[\"speed = real 0..1\"]";
    assert!(refused(&["--set", space]).contains("`speed` is no parameter of it"));
    let nowhere = scratch.path("nowhere.csv");
    let directory = scratch.path("data");
    let arguments = ["optimize", "--data", nowhere.to_str().unwrap(), "--nodes", "2", "--data-dir"];
    let ended = scratch.run(&[&arguments[..], &[directory.to_str().unwrap()]].concat());
    assert!(ended.refused().contains("nowhere.csv"), "{ended:?}");
}

/// What a node has that read `paths`.
fn study(paths: &[PathBuf], node: &str) -> Study {
    study_of("reversion", paths, node)
}

/// The same of one that searches for another strategy.
fn study_of(strategy: &str, paths: &[PathBuf], node: &str) -> Study {
    let config = common::config(&[("optimise.strategy", strategy)]).searched().unwrap();
    let kinds = Kinds::default();
    let recorded = record(&config, &kinds, paths, u64::MAX).unwrap();
    Study {
        config: config.backtest(&kinds),
        accounts: config.account_terms(),
        recorded: Arc::new(recorded),
        weights: config.optimise.weights,
        terms: config.fingerprint(),
        node: node.to_owned(),
    }
}

fn parameters(period: f64) -> Vec<(String, f64)> {
    vec![("period".to_owned(), period), ("width".to_owned(), 1.5)]
}

#[test]
fn two_nodes_agree_on_the_best_and_a_forged_one_is_refused() {
    let scratch = Scratch::new();
    let data = [bars(&scratch, 1_500)];
    let (one, other) = (study(&data, "one"), study(&data, "other"));
    let trials = |study: &Study, periods: [f64; 3]| -> Vec<Trial> {
        let rows = study.recorded.rows();
        let of = |period| study.trial(&parameters(period), 0..rows, 0).unwrap();
        periods.map(of).to_vec()
    };
    let set = |trials: &[Trial]| {
        let mut set = BestSet::new(4);
        trials.iter().for_each(|trial| {
            set.add(trial);
        });
        set
    };
    let (ours, theirs) = (trials(&one, [5.0, 20.0, 60.0]), trials(&other, [20.0, 90.0, 140.0]));
    assert!(ours.iter().any(|trial| trial.metrics.trades > 0), "{ours:?}");
    let (mut left, mut right) = (set(&ours), set(&theirs));
    let before = left.clone();
    left.join(&right);
    right.join(&before);
    assert_eq!(left, right);
    let best = left.best().unwrap().clone();
    for node in [&one, &other] {
        assert!(left.trials().all(|trial| node.is_true(trial)));
        for forged in [
            Trial { score: 0.99, ..best.clone() },
            Trial { parameters: parameters(33.0), ..best.clone() },
            Trial { digest: "0".repeat(64), ..best.clone() },
            Trial { rows: (0, best.rows.1 / 2), ..best.clone() },
            Trial { rows: (0, u64::MAX), ..best.clone() },
            Trial { terms: [0; 32], ..best.clone() },
        ] {
            assert!(!node.is_true(&forged), "{forged:?}");
        }
    }
    let elsewhere = study(&[bars(&Scratch::new(), 900)], "elsewhere");
    assert!(!elsewhere.is_true(&best), "the data is not its own");
}

/// Rows of more than a day, halves of which are less than one: both are measured like the whole.
#[test]
fn sharpe_ratios_of_all_stretches_of_a_search_are_of_the_same() {
    let scratch = Scratch::new();
    let ratio = |study: &Study, rows: std::ops::Range<u64>| {
        let metrics = study.trial(&parameters(20.0), rows, 0).unwrap().metrics;
        assert!(metrics.sharpe_per_return != 0.0, "{metrics:?}");
        metrics.sharpe / metrics.sharpe_per_return
    };
    let day = study(&[bars(&scratch, 2_000)], "one");
    let rows = day.recorded.rows();
    for stretch in [0..rows, 0..rows / 2, rows / 2..rows] {
        let ratio = ratio(&day, stretch.clone());
        assert!(ratio > 100.0, "{stretch:?}: {ratio} is not that of a year");
    }
    let hours = study(&[bars(&Scratch::new(), 1_000)], "one");
    assert_eq!(ratio(&hours, 0..hours.recorded.rows()), 1.0);
}

/// Over a quarter of the rows, so that the test stays short. Whoever computes the best again has seen nothing of the
/// search.
#[test]
fn real_bars_are_searched_and_the_best_comes_out_again() {
    let Some(root) = common::market_data() else { return };
    let files = [root.join("bars/btcperp_m1_2022-01_part1.csv.gz")];
    let more = ["--trials", "12", "--search", "random", "--set", "optimise.data_percent=25"];
    let (report, _) = optimised(&Scratch::new(), &files[0], &more);
    assert_eq!((report.trials, report.trials_failed), (12, 0));
    let best = &report.best[0];
    let in_sample = &best.in_sample;
    assert!(in_sample.metrics.trades > 0, "{in_sample:?}");
    assert!(report.scores.iter().all(|trial| trial.score <= in_sample.score), "{report:?}");
    assert!(report.scores.iter().any(|trial| trial.score < in_sample.score), "{report:?}");

    let other = study_of("crossing", &files, "other");
    assert_eq!(report.data_hash, blake3::Hash::from(*other.recorded.hash()).to_hex().as_str());
    assert_eq!(report.rows, other.recorded.rows() / 4);
    let again = other.trial(&best.parameters, 0..report.rows_in_sample, 0).unwrap();
    assert_eq!(again.digest, in_sample.digest);
    // What has been through JSON may be off in its last place.
    assert!((again.score - in_sample.score).abs() < 1e-12, "{again:?}: {in_sample:?}");
    let one = study_of("crossing", &files, "one");
    assert!(one.is_true(&again));
    assert!(!one.is_true(&Trial { score: again.score + 1e-9, ..again }));
}

#[test]
fn nodes_search_over_the_simulated_market_by_its_name() {
    let scratch = Scratch::new();
    let more = [
        "--nodes",
        "2",
        "--trials",
        "20",
        "--search",
        "random",
        "--workers",
        "1",
        "--set",
        "optimise.patience=0",
        "--set",
        "simulator.ticks=2000",
    ];
    let (report, _) = optimised(&scratch, Path::new("simulator"), &more);
    assert_eq!(report.nodes.values().sum::<u64>() + report.trials_failed, 20, "{report:?}");
}
