//! The example of a program that joins a cluster to ask it something.

#![allow(dead_code, reason = "of the example and the helpers only some is used")]
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "../examples/remote_tool.rs"]
#[expect(unreachable_pub, reason = "in an example, as in a program, `pub` costs nothing")]
mod remote_tool;

mod processes;

use std::time::Duration;

use processes::{Node, alone, until};
use serde_json::Value;
use tickwright::cluster::{ClusterServices, Message};
use tickwright::ctl::CtlTask;
use tickwright_core::config::{Config, ConfigInput};

const PATIENCE: Duration = Duration::from_secs(10);

const PIPELINE: &str = "[pipeline]\ninput = \"simulator\"\n[simulator]\nticks = 20000\n";

/// Two nodes at work on so many rows, and the address of the first.
fn two(ticks: u32) -> (Vec<Node>, String) {
    let mut nodes: Vec<Node> = ["exec-1", "calc-1"].into_iter().map(Node::new).collect();
    let seed = nodes[0].address();
    for (node, roles) in nodes.iter_mut().zip(["data,exec,control", "calc,control"]) {
        let sets = [
            format!("cluster.seeds={seed}"),
            format!("node.roles={roles}"),
            "pipeline.input=simulator".to_owned(),
            format!("simulator.ticks={ticks}"),
            "allocation.nodes_min=2".to_owned(),
        ];
        node.options.extend(sets.into_iter().flat_map(|set| ["--set".to_owned(), set]));
        node.start();
    }
    (nodes, seed)
}

fn in_runtime(work: impl Future<Output = ()>) {
    tokio::runtime::Runtime::new().unwrap().block_on(work);
}

/// The report, once the run is over.
fn report_of(node: &Node) -> Value {
    let mut report = None;
    until("the run is over", || {
        let task = CtlTask::Ask { role: "run/exec-1".into(), body: "\"Report\"".into() };
        report = node.ask(&task, None).ok();
        report.is_some()
    });
    report.unwrap()
}

/// A node that was cut off hears late of a unit that was its own, and is not any more.
#[test]
fn whoever_asks_for_a_unit_by_an_epoch_that_is_over_does_not_stop_who_has_it_since() {
    let _alone = alone();
    in_runtime(ask_late());
}

async fn ask_late() {
    const TICKS: u32 = 100_000;
    let (nodes, seed) = two(TICKS);
    let scratch = tempfile::tempdir().unwrap();
    let sets = [("node.name", "late"), ("cluster.bind", "127.0.0.1:0"), ("cluster.seeds", &seed)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
    let ticks =
        [("pipeline.input", "simulator".to_owned()), ("simulator.ticks", TICKS.to_string())]
            .map(|(key, value)| (key.to_owned(), value));
    let overrides = [&sets[..], &ticks[..]].concat();
    let input = ConfigInput { overrides: &overrides, ..ConfigInput::default() };
    let config = Config::load(&input).unwrap();
    let late = ClusterServices::observe(&config, scratch.path(), PATIENCE).await.unwrap();
    let network = late.network();
    let mut refused = 0;
    for unit in ["exec", "shard/0", "source/0"] {
        let mut route = None;
        until("somebody has it", || {
            route = network.route(unit).filter(|route| route.epoch > 0);
            route.is_some()
        });
        let (epoch, mut told) = (route.unwrap().epoch, String::new());
        for asked in [0, epoch] {
            let body = asked.to_le_bytes();
            let message =
                Message { role: unit, kind: "hand_over", epoch, body: &body, is_urgent: false };
            told = network.ask(None, message, PATIENCE).await.unwrap_err().to_string();
            refused += u32::from(told.contains(&format!("is here since epoch {epoch}")));
        }
        println!("{told}");
    }
    late.leave().await;
    assert_eq!(refused, 6);
    assert_eq!(report_of(&nodes[1])["ticks_in"], TICKS);
}

#[test]
fn a_program_joins_by_the_seeds_and_asks_risk() {
    let _alone = alone();
    in_runtime(join_and_ask());
}

async fn join_and_ask() {
    let (nodes, seed) = two(20_000);
    let report = report_of(&nodes[1]);

    let text = format!("[cluster]\nseeds = [\"{seed}\"]\nheartbeat_ms = 200\n{PIPELINE}");
    let answer = remote_tool::ask(&text, "risk", "\"Report\"").await.unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["rows"], report["ticks_clean"]);
    assert_eq!(answer["approved"], report["orders"]["approved"]);
    assert!(answer["approved"].as_u64().unwrap() > 0);

    let refused = remote_tool::ask(&text, "risk", "\"Money\"").await.unwrap_err().to_string();
    assert!(refused.contains("ask \"Report\""), "{refused}");

    // The same by a tool, through a node that has no part in it; and who has what.
    let task = CtlTask::Ask { role: "risk".into(), body: "\"Report\"".into() };
    assert_eq!(nodes[1].ask(&task, None).unwrap(), answer);
    let shards = nodes[1].ask(&CtlTask::Shards, None).unwrap();
    let owner = |unit: &str| {
        let found = shards.as_array().unwrap().iter().find(|row| row["resource"] == unit).cloned();
        found.unwrap()["owner"].clone()
    };
    assert_eq!((owner("exec"), owner("shard/0")), ("exec-1".into(), "calc-1".into()));
    let text = tickwright::ctl::text(&CtlTask::Shards, &shards);
    assert!(text.contains("shard/0") && text.contains("calc-1"), "{text}");
}
