//! One node against several, with real processes.

mod common;

use common::Scratch;
use serde_json::Value;

/// The lightest plan that trades, so that it says something on a busy machine too.
const TINY: &[&str] = &[
    "compare",
    "--symbols",
    "4",
    "--strategies",
    "3",
    "--rates",
    "200",
    "--duration",
    "2",
    "--nodes",
    "3",
    "--bound-ms",
    "60000",
];

#[test]
fn one_node_and_three_are_measured_under_the_same_load() {
    let scratch = Scratch::new();
    let (data, report) = (scratch.path("data"), scratch.path("comparison.json"));
    let own = ["--data-dir", data.to_str().unwrap(), "--report", report.to_str().unwrap()];
    let ended = scratch.run(&[TINY, &own].concat());
    assert_eq!(ended.code(), 0, "{ended:?}");
    ended.civil();
    assert!(ended.stderr.starts_with("2 runs, rows come for 2 s in each: about "), "{ended:?}");
    assert!(ended.stdout.contains("What this cannot show"), "{ended:?}");

    let written: Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    let runs = written["runs"].as_array().unwrap();
    let nodes: Vec<u64> = runs.iter().map(|run| run["nodes"].as_u64().unwrap()).collect();
    assert_eq!(nodes, [1, 3]);
    for run in runs {
        let measured = &run["measured"];
        assert_eq!(run["verdict"], "sustained", "{run}");
        assert_eq!(measured["rows"], 1_600, "4 symbols, 200 a second, 2 s: {run}");
        assert!(measured["latency_p99_ms"].as_f64().unwrap() > 0.0, "{run}");
        assert!(measured["memory_bytes"].as_u64() >= measured["memory_node_bytes"].as_u64());
    }
    let orders = |run: usize| runs[run]["measured"]["orders"].as_u64().unwrap();
    assert_eq!(orders(0), orders(1), "the answer does not depend on the nodes");
    let memory = |run: usize| runs[run]["measured"]["memory_bytes"].as_u64().unwrap();
    assert!(memory(1) > memory(0), "three processes hold more than one");
    assert_eq!(written["factors"][0]["factor"], 1.0, "{written}");
    assert!(!data.join("compare").try_exists().unwrap(), "what the runs left behind is gone");
}

#[test]
fn options_that_make_no_sense_are_refused_with_what_to_do() {
    let scratch = Scratch::new();
    for (option, value, remedy) in [
        ("--symbols", "ten", "--symbols"),
        ("--nodes", "1", "2..=64"),
        ("--duration", "0", "90s or 5m"),
        ("--set", "pipeline.shard=2", "pipeline.shards"),
    ] {
        let ended = scratch.run(&["compare", option, value]);
        assert!(ended.refused().contains(remedy), "{ended:?}");
    }
}
