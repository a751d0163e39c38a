//! What is asked for, and what is refused.

use clap::CommandFactory;
use tickwright_core::config::{ChaosActor, Speed};

use super::*;

fn prepare(arguments: &[&str]) -> Result<Prepared, Refusal> {
    let all = [&["tickwright"], arguments].concat();
    CommandLine::try_parse_from(all).expect("usage is right").prepare(Kinds::default())
}

/// The exit code and the problems of a command line that is refused.
fn refused(arguments: &[&str]) -> (u8, String) {
    let refusal = prepare(arguments).unwrap_err();
    (refusal.exit_code, refusal.to_string())
}

fn run(arguments: &[&str]) -> (Config, RunTask) {
    match prepare(arguments).unwrap() {
        Prepared { config, task: Task::Run(task), .. } => (config, task),
        other => panic!("not a run: {other:?}"),
    }
}

#[test]
fn the_definitions_are_consistent() {
    CommandLine::command().debug_assert();
}

#[test]
fn several_files_follow_one_option_and_others_come_after() {
    let (_, task) = run(&["run", "--data", "a.csv", "b.csv.gz", "--report", "r.json"]);
    assert_eq!(task.data, [PathBuf::from("a.csv"), PathBuf::from("b.csv.gz")]);
    assert_eq!(task.report, Some("r.json".into()));
    assert!(!task.is_demo);
}

#[test]
fn short_options_are_keys_of_the_configuration() {
    let (config, task) = run(&[
        "demo",
        "--seed",
        "7",
        "--data-dir",
        "here",
        "--speed",
        "10x",
        "--strict",
        "--ticks",
        "500",
        "--symbols",
        "3",
        "--set",
        "pipeline.shards=4",
        "--chaos",
        "panic:factors@5000,panic:router@700",
    ]);
    assert_eq!((config.pipeline.seed, config.pipeline.shards), (7, 4));
    assert_eq!((config.pipeline.speed, config.pipeline.strict), (Speed::Times(10), true));
    assert_eq!(config.node.data_dir, "here");
    assert_eq!(config.simulator().rows, Some(500));
    assert_eq!(task.chaos.panics(ChaosActor::Router), [700]);
    assert!(task.is_demo);
}

#[test]
fn options_of_every_command_may_stand_before_or_after_it() {
    for arguments in [["--seed", "9", "demo"], ["demo", "--seed", "9"]] {
        assert_eq!(run(&arguments).0.pipeline.seed, 9);
    }
    assert_eq!(run(&["demo"]).0.pipeline.seed, 1);
}

#[test]
fn every_problem_of_every_option_is_told_at_once() {
    let (exit_code, problems) = refused(&[
        "run",
        "--chaos",
        "panic:nobody@1",
        "--set",
        "pipeline.shards",
        "--set",
        "pipeline.batch_tick=1",
        "--seed",
        "-1",
        "--speed",
        "fast",
    ]);
    assert_eq!(exit_code, EXIT_USAGE);
    for words in [
        "run needs data: --data FILE...",
        "--chaos panic:nobody@1: there is no actor \"nobody\"",
        "--set pipeline.shards: has no value; write it as KEY=VALUE",
        "--set pipeline.batch_tick: is not a known key; did you mean pipeline.batch_ticks?",
        "pipeline.seed: -1 is below 0",
        "pipeline.speed: \"fast\" is not a speed",
    ] {
        assert!(problems.contains(words), "{words}\n{problems}");
    }
}

#[test]
fn a_venue_is_listened_to_by_several_nodes_but_has_no_shares_to_strike_at() {
    let live = ["run", "--live", "ws://127.0.0.1:1", "--streams", "btcusdt@trade", "--nodes", "3"];
    let Task::Run(task) = prepare(&live).unwrap().task else { panic!("no run") };
    assert!(task.live.is_some() && task.nodes == 3);
    let (exit_code, problems) = refused(&[&live[..], &["--chaos", "kill:calc-1@50%"]].concat());
    assert_eq!(exit_code, EXIT_USAGE);
    assert!(problems.contains("a venue has no end"), "{problems}");
    let (_, problems) = refused(&["node", "--set", "pipeline.input=live"]);
    assert!(problems.contains("say in live.url where it is"), "{problems}");
}

#[test]
fn a_comparison_is_of_the_loads_that_are_asked_for() {
    let plan = |arguments: &[&str]| {
        let task = prepare(arguments).unwrap().task;
        let Task::Compare(task) = task else { panic!("no comparison: {task:?}") };
        task.plan
    };
    assert_eq!(plan(&["compare"]).len(), 128, "4 symbols, 4 strategies, 4 rates, on 1 and on 3");
    let some = ["compare", "--symbols", "50,10", "--strategies", "2", "--rates", "100,200"];
    let short = [&some[..], &["--duration", "90s", "--nodes", "5"]].concat();
    assert_eq!(plan(&short).options().symbols, [10, 50]);
    assert_eq!((plan(&short).options().duration_seconds, plan(&short).len()), (90, 8));
    let wrong = [&some[..], &["--set", "pipeline.shard=2"]].concat();
    let (exit_code, problems) = refused(&wrong);
    assert!(exit_code == EXIT_USAGE && problems.contains("pipeline.shards"), "{problems}");
    for (option, value, remedy) in [
        ("--symbols", "0", "is not in 1..=100000"),
        ("--rates", "100,x", "invalid digit"),
        ("--nodes", "1", "is not in 2..=64"),
        ("--duration", "2h", "is not a span such as 300, 90s or 5m, of an hour at most"),
        ("--duration", "0", "is not a span such as"),
    ] {
        let wrong = ["tickwright", "compare", option, value];
        let error = CommandLine::try_parse_from(wrong).unwrap_err();
        assert_eq!(error.exit_code(), i32::from(EXIT_USAGE));
        assert!(error.to_string().contains(remedy), "{error}");
    }
}

#[test]
fn a_node_takes_its_name_and_a_question_is_json() {
    let prepared = prepare(&["node", "--name", "calc-1", "--data-dir", "d"]).unwrap();
    assert!(matches!(prepared.task, Task::Node(_)));
    assert_eq!(
        (prepared.config.node.name.as_str(), prepared.config.node.data_dir.as_str()),
        ("calc-1", "d")
    );
    let asked = prepare(&["ctl", "ask", "risk/3", "{\"Exposure\":\"BTC\"}", "--on", "a"]);
    let Task::Ctl(options) = asked.unwrap().task else { panic!("not ctl") };
    assert_eq!(options.on, Some("a".into()));
    let bare = ["tickwright", "ctl", "ask", "risk/3", "Status"];
    let error = CommandLine::try_parse_from(bare).unwrap_err().to_string();
    assert!(error.contains("a text needs its quotes"), "{error}");
}

#[test]
fn a_wrong_configuration_comes_before_what_does_not_exist_yet() {
    assert_eq!(refused(&["demo", "--nodes", "3", "--set", "risk.x=1"]).0, EXIT_USAGE);
}

#[test]
fn configuration_files_are_read_and_their_problems_named() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &[u8]| {
        let file = directory.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.display().to_string()
    };
    let good = write("good.toml", b"[pipeline]\nbatch_ticks = 16\n");
    assert_eq!(run(&["demo", "--config", &good]).0.pipeline.batch_ticks, 16);
    let wrong = write("wrong.toml", b"[pipeline]\nbatch_ticks = 0\n");
    let message = format!("{wrong}:2:15: pipeline.batch_ticks: 0 is below 1");
    assert!(refused(&["demo", "--config", &wrong]).1.starts_with(&message));
    assert!(refused(&["check", &wrong]).1.starts_with(&message));
    let binary = write("binary.toml", b"a = \xff");
    assert!(refused(&["check", &binary]).1.contains("is not text (byte 4); save it as UTF-8"));
    let large = write("large.toml", &vec![b'#'; 1 << 20 | 1]);
    assert!(refused(&["check", &large]).1.contains("is larger than 1048576 bytes"));
    let (exit_code, missing) = refused(&["demo", "--config", "/nowhere/at/all.toml"]);
    assert!(exit_code == EXIT_USAGE && missing.starts_with("/nowhere/at/all.toml: cannot be read"));
    assert!(matches!(prepare(&["check", &good]).unwrap().task, Task::CheckedConfig(_)));
    assert!(matches!(prepare(&["check", "a.csv"]).unwrap().task, Task::CheckData(_)));
    assert!(matches!(prepare(&["check", "--keys"]).unwrap().task, Task::ListKeys));
}

#[test]
fn wrong_usage_ends_with_the_code_of_usage() {
    for arguments in
        [&["tickwright", "fly"][..], &["tickwright", "run", "--nodes", "0"], &["tickwright"]]
    {
        let error = CommandLine::try_parse_from(arguments).unwrap_err();
        assert_eq!(error.exit_code(), i32::from(EXIT_USAGE), "{arguments:?}");
    }
    assert_eq!(CommandLine::try_parse_from(["tickwright", "--help"]).unwrap_err().exit_code(), 0);
}

#[test]
fn the_list_of_keys_is_for_people_and_for_programs() {
    assert!(key_list(false).contains("pipeline.batch_ticks = 256\n"));
    let parsed: serde_json::Value = serde_json::from_str(&key_list(true)).unwrap();
    assert!(parsed.as_array().is_some_and(|keys| keys.len() > 150));
}
