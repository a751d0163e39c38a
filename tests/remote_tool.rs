//! The example of a program that joins a cluster to ask it something.

#![allow(dead_code, reason = "of the example and the helpers only some is used")]

#[path = "../examples/remote_tool.rs"]
#[expect(unreachable_pub, reason = "in an example, as in a program, `pub` costs nothing")]
mod remote_tool;

mod processes;

use processes::{Node, until};
use serde_json::Value;
use tickwright::ctl::CtlTask;

const PIPELINE: &str = "[pipeline]\ninput = \"simulator\"\n[simulator]\nticks = 20000\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_program_joins_by_the_seeds_and_asks_risk() {
    let mut nodes: Vec<Node> = ["exec-1", "calc-1"].into_iter().map(Node::new).collect();
    let seed = nodes[0].address();
    for (node, roles) in nodes.iter_mut().zip(["data,exec,control", "calc,control"]) {
        let sets = [
            format!("cluster.seeds={seed}"),
            format!("node.roles={roles}"),
            "pipeline.input=simulator".to_owned(),
            "simulator.ticks=20000".to_owned(),
            "allocation.nodes_min=2".to_owned(),
        ];
        node.options.extend(sets.into_iter().flat_map(|set| ["--set".to_owned(), set]));
        node.start();
    }
    let report = || {
        let task = CtlTask::Ask { role: "run/exec-1".into(), body: "\"Report\"".into() };
        nodes[1].ask(&task, None).ok()
    };
    until("the run is over", || report().is_some());
    let report = report().unwrap();

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
