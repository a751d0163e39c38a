//! Allocation that is written down, and that of a master with its standbys, over real nodes.

mod common;
mod processes;

use std::time::Duration;

use common::{Scratch, json_essence};
use processes::{Node, alone, ask_share, five, report_within, units, until};
use serde_json::Value;
use tickwright::ctl::CtlTask;

/// How long a run may take, whatever befalls it.
const RUN_PATIENCE: Duration = Duration::from_secs(120);

/// Rows enough to be at work still when the last fault strikes.
const TICKS: &str = "400000";

/// How long what takes several steps may take.
const DEED_PATIENCE: Duration = Duration::from_secs(60);

const SHARDS: [&str; 4] = ["shard/0", "shard/1", "shard/2", "shard/3"];

fn nodes(more: &[(&str, &str)]) -> Vec<Node> {
    // What is looked at is not what a busy machine does to sessions.
    five(&[&[("simulator.ticks", TICKS), ("cluster.heartbeat_ms", "500")], more].concat())
}

/// The run ends, with the same answer as one process gives.
fn assert_same_as_one_process(nodes: &[Node]) {
    let report = report_within(RUN_PATIENCE, nodes);
    assert_eq!((&report["lost_ticks"], &report["duplicate_orders"]), (&0.into(), &0.into()));
    assert!(report["orders"]["placed"].as_u64() > Some(0), "nothing was traded");
    let scratch = Scratch::new();
    let ended = scratch.run(&["demo", "--ticks", TICKS]);
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert_eq!(json_essence(&report), json_essence(&scratch.report()));
}

fn rows(node: &Node) -> u64 {
    ask_share(node, "Progress").as_ref().and_then(|told: &Value| told["rows"].as_u64()).unwrap_or(0)
}

#[test]
fn what_is_written_down_is_where_units_run_and_they_wait_for_their_node_when_it_is_lost() {
    let _turn = alone();
    let lines = "source/*=data-1,shard/2=calc-2,shard/*=calc-1,exec=exec-1";
    let mut nodes = nodes(&[("allocation.strategy", "static"), ("allocation.static", lines)]);
    let written: [&[&str]; 5] =
        [&["source/0"], &["shard/0", "shard/1", "shard/3"], &["shard/2"], &["exec"], &[]];
    for (node, written) in nodes.iter().zip(written) {
        until(&format!("{} has what is written", node.name), || units(node) == written);
    }
    until("the run gets on", || rows(&nodes[0]) > 20_000);
    nodes[2].kill();
    until("it is seen", || nodes[0].sees("calc-2") == "down");
    // Long after others would have had it.
    std::thread::sleep(Duration::from_secs(3));
    for place in [0, 1, 3, 4] {
        assert_eq!(units(&nodes[place]), written[place], "{}", nodes[place].name);
    }
    assert!(ask_share(&nodes[3], "Report").is_none(), "nobody has computed shard/2");
    nodes[2].start();
    until("calc-2 goes on", || units(&nodes[2]) == ["shard/2"]);
    assert_same_as_one_process(&nodes);
}

#[test]
fn a_master_has_all_of_a_kind_until_another_is_promoted_or_it_is_lost() {
    let _turn = alone();
    let settings = [("allocation.strategy", "master_standby"), ("allocation.settle_ms", "300")];
    let mut nodes = nodes(&settings);
    until("the first by name has all shards", || units(&nodes[1]) == SHARDS);
    assert_eq!(units(&nodes[2]), [""; 0], "it stands by");
    until("the run gets on", || rows(&nodes[0]) > 20_000);
    let promote = CtlTask::Promote { node: Some("calc-2".into()) };
    nodes[0].ask_within(DEED_PATIENCE, &promote, None).unwrap();
    until("the one that was promoted has all shards", || {
        units(&nodes[2]) == SHARDS && units(&nodes[1]).is_empty()
    });
    nodes[2].kill();
    until("the standby has all shards", || units(&nodes[1]) == SHARDS);
    let progress = ask_share(&nodes[1], "Progress").unwrap();
    for shard in SHARDS {
        assert!(progress["went_on"][shard].is_u64(), "{shard} began anew: {progress}");
    }
    assert_same_as_one_process(&nodes);
}
