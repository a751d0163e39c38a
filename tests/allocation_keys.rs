//! Keys of `[allocation]` that say what becomes of units whose node cannot keep them, and keys that say which node is
//! to have how much, and which is to speak for all, on real nodes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod processes;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use processes::{Node, alone, five, units, until};
use serde_json::{Value, json};
use tickwright::ctl::CtlTask;

/// How long what takes several steps may take.
const DEED_PATIENCE: Duration = Duration::from_secs(60);

/// A cluster at work at the pace of a market.
fn at_work(more: &[(&str, &str)]) -> Vec<Node> {
    let paced = [("simulator.ticks", "none"), ("pipeline.speed", "2x")];
    let nodes = five(&[&paced, more].concat());
    until("exec is at work", || rows(&nodes[3]) > Some(200));
    until("both that compute have something", || {
        !units(&nodes[1]).is_empty() && !units(&nodes[2]).is_empty()
    });
    nodes
}

fn ask(node: &Node, role: &str, question: &Value) -> Option<Value> {
    node.ask(&CtlTask::Ask { role: role.into(), body: question.to_string() }, None).ok()
}

/// Rows that exec has taken.
fn rows(node: &Node) -> Option<u64> {
    ask(node, "risk", &json!("Report"))?["rows"].as_u64()
}

/// The units that the ledger says `name` has.
fn owned(node: &Node, name: &str) -> BTreeSet<String> {
    let shards = node.ask(&CtlTask::Shards, None).unwrap_or_default();
    let of = |row: &Value| row["resource"].as_str().unwrap().to_owned();
    shards.as_array().into_iter().flatten().filter(|row| row["owner"] == name).map(of).collect()
}

/// The units that wait for a node, as the status of `node` says.
fn waiting(node: &Node) -> BTreeSet<String> {
    let status = node.status().unwrap_or_default();
    let waiting = status["ledger"]["waiting"].as_array().cloned().unwrap_or_default();
    waiting.iter().map(|unit| unit.as_str().unwrap().to_owned()).collect()
}

#[test]
fn without_failover_units_wait_for_an_operator_who_drains_their_node() {
    let _turn = alone();
    let settings = [
        ("cluster.heartbeat_ms", "500"),
        ("allocation.auto_failover", "false"),
        ("allocation.slow_start_ms", "0"),
        ("cluster.balance", "round_robin"),
    ];
    let mut nodes = at_work(&settings);
    // Every node serves the ledger: each is asked in its turn.
    let mut sessions: BTreeSet<u64> = BTreeSet::new();
    until("every node was asked", || {
        let told = ask(&nodes[0], "ledger", &json!("Status")).unwrap_or_default();
        sessions.extend(told["session"].as_u64());
        sessions.len() >= nodes.len()
    });

    let lost = owned(&nodes[0], "calc-1");
    nodes[1].kill();
    until("the status says what waits", || waiting(&nodes[3]) == lost);
    // Long after others would have had them.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!((owned(&nodes[0], "calc-1"), waiting(&nodes[0])), (lost.clone(), lost.clone()));
    let before = rows(&nodes[3]);
    let drain = CtlTask::Drain { node: "calc-1".into(), undo: false, waits: true };
    let drained = nodes[0].ask_within(DEED_PATIENCE, &drain, None).unwrap();
    assert_eq!(drained["moved"].as_array().unwrap().len(), lost.len(), "{drained}");
    assert_eq!(waiting(&nodes[3]), BTreeSet::new());
    until("exec goes on", || rows(&nodes[3]) > before);
    let status = nodes[0].status().unwrap();
    assert_eq!(status["ledger"]["drained"], json!(["calc-1"]));
    // Whoever comes back stays empty until somebody says otherwise.
    nodes[1].start();
    until("calc-1 is there", || nodes[0].sees("calc-1") == "up");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(owned(&nodes[0], "calc-1"), BTreeSet::new());
}

#[test]
fn a_unit_is_begun_again_so_often_and_a_lost_node_is_waited_for_so_long() {
    let _turn = alone();
    let mut nodes = at_work(&[
        ("cluster.heartbeat_ms", "500"),
        ("supervision.restarts_max", "0"),
        ("allocation.max_retry_attempts", "1"),
        ("allocation.failover_timeout_ms", "3000"),
        ("allocation.settle_ms", "60000"),
    ]);
    let shard = owned(&nodes[0], "calc-1").into_iter().next().unwrap();
    let actor = shard.replace("shard", "factors");
    let kill = || ask(&nodes[0], "node/calc-1", &json!({ "KillActor": actor })).is_some();
    until("an actor is ended", kill);
    let again = format!("calc-1 begins {shard} again, attempt 1");
    until("it is begun again", || nodes[1].log().contains(&again) && kill());
    let gave_up = format!("calc-1 has given {shard} up, and another node is to have it");
    until("it is given up", || nodes[1].log().contains(&gave_up));
    until("calc-2 has it", || units(&nodes[2]).contains(&shard));
    let before = rows(&nodes[3]);
    until("exec goes on", || rows(&nodes[3]) > before);

    let lost = owned(&nodes[0], "calc-2");
    nodes[2].kill();
    let begun = Instant::now();
    until("calc-1 has the rest", || {
        let now = owned(&nodes[0], "calc-1");
        lost.iter().filter(|unit| **unit != shard).all(|unit| now.contains(unit))
    });
    assert!(begun.elapsed() >= Duration::from_secs(3), "{:?}", begun.elapsed());
    // It has given that one up for good, and somebody else stands in.
    until("another node has it", || {
        nodes.iter().any(|node| {
            !["calc-1", "calc-2"].contains(&node.name.as_str()) && units(node).contains(&shard)
        })
    });
}

/// The names of three nodes, each with its duties.
const THREE: [(&str, &str); 3] =
    [("a", "data,calc,control"), ("b", "calc,control"), ("c", "calc,exec,control")];

/// By name alone a would have half of them.
const SHARDS: usize = 8;

#[test]
fn a_node_has_units_by_its_weight_and_coordinates_by_its_priority_and_as_many_vote_as_are_to() {
    let _turn = alone();
    let mut nodes: Vec<Node> = THREE.iter().map(|(name, _)| Node::new(name)).collect();
    let seeds: Vec<String> = nodes.iter().map(Node::address).collect();
    let (seeds, shards) = (seeds.join(","), SHARDS.to_string());
    for (node, (name, roles)) in nodes.iter_mut().zip(THREE) {
        for (key, value) in [
            ("allocation.nodes_min", "3"),
            ("allocation.weights", "b=3"),
            ("cluster.coordinator_priority", if name == "c" { "7" } else { "0" }),
            ("cluster.heartbeat_ms", "500"),
            ("cluster.seeds", &seeds),
            ("cluster.voters", "1"),
            ("node.roles", roles),
            ("pipeline.input", "simulator"),
            ("pipeline.shards", &shards),
            ("pipeline.speed", "2x"),
            ("simulator.ticks", "none"),
        ] {
            node.options.extend(["--set".to_owned(), format!("{key}={value}")]);
        }
        node.start();
    }
    until("exec is at work", || rows(&nodes[2]) > Some(100));
    let shards_of = |name: &str| {
        owned(&nodes[0], name).iter().filter(|unit| unit.starts_with("shard/")).count()
    };
    until("every shard has a node", || {
        THREE.iter().map(|(name, _)| shards_of(name)).sum::<usize>() == SHARDS
    });
    let [a, b, c] = THREE.map(|(name, _)| shards_of(name));
    assert!(b > a + c, "{a}, {b} and {c} of {SHARDS}");

    let ledger = |node: &Node| node.status().unwrap_or_default()["ledger"].clone();
    until("c coordinates", || {
        nodes.iter().all(|node| ledger(node)["coordinator"] == "c")
            && ledger(&nodes[2])["acts"] == true
    });
    let count = |list: &Value| list.as_array().map(Vec::len);
    until("the others have copies", || count(&ledger(&nodes[0])["learners"]) == Some(2));
    // Long after they would have come to vote.
    std::thread::sleep(Duration::from_secs(2));
    for node in &nodes {
        let ledger = ledger(node);
        let counts = (count(&ledger["voters"]), count(&ledger["learners"]));
        assert_eq!(counts, (Some(1), Some(2)), "{}: {ledger}", node.name);
    }
}
