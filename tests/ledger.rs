//! What nodes agree on, as processes that are killed, stopped, cut off, and lose their disks.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod common;
#[path = "../src/tests/simulation/history.rs"]
mod history;
mod networks;
mod processes;
mod registers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use history::{Entry, Saw};
use networks::Network;
use processes::{Done, Node, run, text, until};
use registers::{PROGRAMS, REGISTERS, operate, strikes, target, use_registers};
use serde_json::{Value, json};
use tickwright::ctl::{CtlError, CtlTarget, CtlTask};

/// The default: what is measured is what a user gets.
const HEARTBEAT_MS: &str = "500";

fn ask(node: &Node, call: &Value) -> Result<Value, CtlError> {
    node.ask(&CtlTask::Ask { role: "ledger".into(), body: call.to_string() }, Some(&node.name))
}

fn read(node: &Node, key: &str) -> Result<Value, CtlError> {
    ask(node, &json!({ "Read": { "key": key } }))
}

fn cas(node: &Node, key: &str, expected: u64, value: &str) -> Result<u64, CtlError> {
    let call = json!({ "Cas": { "key": key, "expected": expected, "value": value } });
    ask(node, &call).map(|answer| answer["version"].as_u64().unwrap())
}

/// How the ledger is, seen from `node`.
fn view(node: &Node) -> Value {
    node.status().map(|status| status["ledger"].clone()).unwrap_or_default()
}

fn names(list: &Value) -> BTreeSet<String> {
    let list = list.as_array().into_iter().flatten();
    list.map(|name| name.as_str().unwrap().to_owned()).collect()
}

fn prepare(mut node: Node, seed: &str) -> Node {
    node = node.seeds(&[seed]).set("cluster.heartbeat_ms", HEARTBEAT_MS);
    node
}

/// Nodes of which all vote.
fn voters(all: &[&str], with: impl Fn(&str, Node) -> Node) -> Vec<Node> {
    let nodes: Vec<Node> = all.iter().map(|name| with(name, Node::new(name))).collect();
    let seed = nodes[0].address();
    voting(nodes, &seed)
}

/// The same, of nodes that do not run yet.
fn voting(nodes: Vec<Node>, seed: &str) -> Vec<Node> {
    let mut nodes: Vec<Node> = nodes.into_iter().map(|node| prepare(node, seed)).collect();
    for node in &mut nodes {
        node.start();
    }
    all_vote(&nodes);
    nodes
}

fn all_vote(nodes: &[Node]) {
    let expected: BTreeSet<String> = nodes.iter().map(|node| node.name.clone()).collect();
    for node in nodes {
        until(&format!("{} sees everybody vote", node.name), || {
            let view = view(node);
            // A copy that was lost would make one name more.
            let count = view["voters"].as_array().map_or(0, Vec::len);
            view["has_quorum"] == true
                && count == expected.len()
                && names(&view["voters"]) == expected
                && view["learners"] == json!([])
                && view["absent"] == json!([])
                && !view["coordinator"].is_null()
        });
    }
}

fn leader(nodes: &[Node]) -> usize {
    let mut found = None;
    until("somebody leads", || {
        let leader = view(&nodes[0])["leader"].clone();
        found = nodes.iter().position(|node| leader == node.name.as_str());
        found.is_some()
    });
    found.unwrap()
}

/// Who acted as coordinator of which term.
#[derive(Default)]
struct Terms(BTreeMap<u64, BTreeSet<String>>);

impl Terms {
    fn look(&mut self, nodes: &[&Node]) {
        for node in nodes {
            let view = view(node);
            if view["acts"] == true {
                let term = view["term"].as_u64().unwrap();
                self.0.entry(term).or_default().insert(node.name.clone());
            }
        }
    }

    fn assert_one_each(&self) {
        assert!(self.0.values().all(|acting| acting.len() == 1), "{:?}", self.0);
    }
}

#[test]
fn a_killed_leader_costs_a_few_seconds_and_nothing_that_was_agreed_on() {
    let mut nodes = voters(&["a", "b", "c"], |_, node| node);
    let version = cas(&nodes[1], "k", 0, "before").unwrap();
    let at = leader(&nodes);
    let name = nodes[at].name.clone();
    let was = view(&nodes[(at + 1) % 3]);
    nodes[at].kill();
    let since = Instant::now();
    let other = &nodes[(at + 1) % 3];
    let mut written = None;
    until("a write succeeds", || {
        written = cas(other, "k", version, "after").ok();
        // The answer to the first that succeeded may have been lost.
        written.is_some() || read(other, "k").is_ok_and(|held| held["value"] == "after")
    });
    let gap = since.elapsed();
    eprintln!("from the leader's end to the next write: {gap:?}");
    assert!(gap < Duration::from_secs(5), "{gap:?}");
    if was["coordinator"] == name.as_str() {
        until("another one coordinates", || {
            let now = view(other);
            now["coordinator"] != name.as_str()
                && now["term"].as_u64().unwrap() > was["term"].as_u64().unwrap()
        });
        eprintln!("to the next coordinator: {:?}", since.elapsed());
    }
    nodes[at].start().is_member();
    until("it has a copy again", || {
        read(&nodes[at], "k").is_ok_and(|held| held["value"] == "after")
    });
    all_vote(&nodes);
}

#[test]
fn a_stopped_leader_reads_nothing_stale_and_two_never_coordinate_in_one_term() {
    let nodes = voters(&["a", "b", "c"], |_, node| node);
    let mut terms = Terms::default();
    let mut version = cas(&nodes[0], "k", 0, "0").unwrap();
    for value in 1..=3 {
        let at = leader(&nodes);
        let others: Vec<&Node> = nodes.iter().filter(|node| node.name != nodes[at].name).collect();
        terms.look(&nodes.iter().collect::<Vec<_>>());
        nodes[at].signal("-STOP");
        let since = Instant::now();
        until("the others write", || {
            terms.look(&others);
            if let Ok(written) = cas(others[0], "k", version, &value.to_string()) {
                version = written;
                return true;
            }
            // The answer to a write may have been lost.
            match read(others[1], "k") {
                Ok(held) if held["value"] == value.to_string().as_str() => {
                    version = held["version"].as_u64().unwrap();
                    true
                }
                _ => false,
            }
        });
        eprintln!("from the leader's stop to the next write: {:?}", since.elapsed());
        // Long enough for its session to expire.
        while since.elapsed() < Duration::from_secs(4) {
            terms.look(&others);
        }
        nodes[at].signal("-CONT");
        let mut fresh = 0;
        until("it reads again", || {
            terms.look(&nodes.iter().collect::<Vec<_>>());
            if let Ok(held) = read(&nodes[at], "k") {
                assert_eq!(held["value"], value.to_string().as_str(), "it is stale");
                fresh += 1;
            }
            fresh == 10
        });
        until("its session is back", || {
            terms.look(&nodes.iter().collect::<Vec<_>>());
            view(&nodes[at])["has_quorum"] == true
        });
    }
    terms.assert_one_each();
    assert!(terms.0.len() >= 2, "nobody took over: {:?}", terms.0);
}

#[test]
fn all_nodes_are_killed_and_come_back_with_what_they_agreed_on() {
    let mut nodes = voters(&["a", "b", "c"], |_, node| node);
    let version = cas(&nodes[2], "k", 0, "kept").unwrap();
    let term = view(&nodes[0])["term"].as_u64().unwrap();
    let ledger = view(&nodes[0])["ledger"].clone();
    for node in &mut nodes {
        node.kill();
    }
    for node in &mut nodes {
        node.start();
    }
    all_vote(&nodes);
    for node in &nodes {
        let held = json!({ "version": version, "value": "kept" });
        until("it reads", || read(node, "k").is_ok_and(|read| read == held));
        assert_eq!(view(node)["ledger"], ledger);
    }
    assert!(view(&nodes[0])["term"].as_u64().unwrap() > term, "each life is another coordinator");
}

#[test]
fn a_node_that_lost_its_disk_gets_another_copy_and_votes_with_that() {
    let mut nodes = voters(&["a", "b", "c"], |_, node| node);
    let version = cas(&nodes[0], "k", 0, "kept").unwrap();
    let lost = leader(&nodes);
    nodes[lost].kill();
    std::fs::remove_dir_all(nodes[lost].directory.path().join("data")).unwrap();
    nodes[lost].start().is_member();
    all_vote(&nodes);
    let held = json!({ "version": version, "value": "kept" });
    until("it reads", || read(&nodes[lost], "k").is_ok_and(|read| read == held));
    // Its new copy counts: without it there would be no majority.
    let other = (lost + 1) % 3;
    nodes[other].kill();
    until("it writes", || cas(&nodes[lost], "new", 0, "x").is_ok());
}

#[test]
fn a_side_without_quorum_says_so_and_refuses() {
    let mut nodes = voters(&["a", "b", "c"], |_, node| node);
    cas(&nodes[2], "k", 0, "x").unwrap();
    nodes[0].kill();
    nodes[1].kill();
    until("it knows", || view(&nodes[2])["has_quorum"] == false);
    let url = format!("http://127.0.0.1:{}", nodes[2].http);
    let (code, status) = text(&run(&["ctl", "--node", &url, "status"]));
    assert_eq!(code, 0, "{status}");
    assert!(status.contains("refuses what needs agreement"), "{status}");
    assert!(view(&nodes[2])["acts"] == false);
    let write = ["ctl", "--node", &url, "ask", "ledger"];
    let call = r#"{"Cas": {"key": "k", "expected": 1, "value": "y"}}"#;
    let (code, refused) = text(&run(&[&write[..], &[call]].concat()));
    assert_eq!(code, 2, "{refused}");
    assert!(refused.contains("nothing was done") || refused.contains("is not known"), "{refused}");
    let (code, refused) = text(&run(&[&write[..], &[r#"{"Read": {"key": "k"}}"#]].concat()));
    assert_eq!(code, 2, "{refused}");
    until("its user is told", || nodes[2].log().contains("it refuses what needs agreement"));
    nodes[0].start().is_member();
    until("two of three agree", || read(&nodes[2], "k").is_ok_and(|held| held["value"] == "x"));
}

#[test]
fn two_nodes_with_a_witness_survive_the_loss_of_either_and_the_witness_never_coordinates() {
    let mut nodes = voters(&["b", "c", "a"], |name, node| {
        if name == "a" { node.set("cluster.witness", "true") } else { node }
    });
    assert_eq!(view(&nodes[1])["coordinator"], "b", "though a is the first by name");
    cas(&nodes[1], "k", 0, "x").unwrap();
    nodes[0].kill();
    until("the other coordinates", || view(&nodes[1])["coordinator"] == "c");
    until("it writes", || cas(&nodes[1], "l", 0, "y").is_ok());
    let call = json!({ "Allocate": { "resource": "shard/3", "owner": "c" } });
    let refused = ask(&nodes[2], &call).unwrap_err().to_string();
    assert!(refused.contains("node c coordinates; ask it"), "{refused}");
    assert_eq!(ask(&nodes[1], &call).unwrap()["epoch"], 1);
}

#[test]
fn nodes_that_remember_a_cluster_wait_for_its_ledger_and_found_no_other() {
    let mut nodes: Vec<Node> = ["a", "b", "c"].iter().map(|name| Node::new(name)).collect();
    let seed = nodes[0].address();
    nodes = nodes.into_iter().map(|node| prepare(node, &seed)).collect();
    nodes[0].start().is_member();
    until("it founds the ledger", || view(&nodes[0])["has_quorum"] == true);
    let ledger = view(&nodes[0])["ledger"].clone();
    for node in &mut nodes[1..] {
        node.start().is_member();
    }
    for node in &nodes {
        for name in ["a", "b", "c"] {
            node.comes_to_see(name, "up");
        }
    }
    all_vote(&nodes);
    for node in &mut nodes {
        node.kill();
    }
    // As if they had never got a copy; only what they know of the cluster is left.
    for node in &mut nodes[1..] {
        std::fs::remove_dir_all(node.directory.path().join("data/ledger")).unwrap();
        node.start();
    }
    for node in &mut nodes[1..] {
        node.is_member();
    }
    thread::sleep(Duration::from_secs(3));
    for node in &nodes[1..] {
        let view = view(node);
        assert!(view["ledger"].is_null() && view["has_quorum"] == false, "{view}");
        assert!(view["note"].as_str().unwrap().contains("no copy of the ledger yet"), "{view}");
    }
    nodes[0].start().is_member();
    until("it has its copy", || view(&nodes[0])["ledger"] == ledger);
    assert_eq!(view(&nodes[0])["has_quorum"], false, "two of three voters are lost");
}

/// Writes of which all is known, at least: far fewer than a second without faults has.
const WRITES_MIN: usize = 30;

#[test]
fn histories_of_programs_are_linearizable_while_nodes_are_killed_stopped_and_cut_off() {
    let seed = std::env::var("TICKWRIGHT_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("TICKWRIGHT_SEED={seed}");
    let names = ["alpha", "beta", "gamma"];
    let mut network = Network::new(&names);
    let places = names.iter().enumerate();
    let nodes = places.map(|(place, name)| network.attach(place, Node::new(name))).collect();
    let mut nodes = voting(nodes, &network.address(0));
    let targets: Vec<CtlTarget> = nodes.iter().map(target).collect();
    let (is_over, since) = (AtomicBool::new(false), Instant::now());
    let mut history: Vec<Entry> = thread::scope(|scope| {
        let done = Done(&is_over);
        let (targets, is_over) = (&targets, &is_over);
        let start =
            |program| scope.spawn(move || use_registers(program, seed, targets, since, is_over));
        let programs: Vec<_> = (0..PROGRAMS).map(start).collect();
        for strike in strikes(seed) {
            println!("{:?}: {strike:?}", since.elapsed());
            strike.befall(&mut nodes, &network);
            nodes[strike.place].assert_runs();
        }
        all_vote(&nodes);
        drop(done);
        programs.into_iter().flat_map(|program| program.join().unwrap()).collect()
    });
    // At last every node has what there is.
    for target in &targets {
        for register in 0..REGISTERS {
            until("it reads", || {
                let entry = operate(target, register, None, since);
                let is_answered = entry.as_ref().is_some_and(|entry| entry.answered.is_some());
                history.extend(entry);
                is_answered
            });
        }
    }
    let count = |is_meant: fn(&Entry) -> bool| history.iter().filter(|it| is_meant(it)).count();
    let written = count(|entry| matches!(entry.saw, Saw::Written(_)));
    let read = count(|entry| matches!(entry.saw, Saw::Value(..)));
    let refused = count(|entry| matches!(entry.saw, Saw::Version(_)) && entry.value.is_some());
    let unknown = count(|entry| matches!(entry.saw, Saw::Nothing) && entry.value.is_some());
    println!("{written} writes, {read} reads, {refused} refused, {unknown} writes not known");
    assert!(written >= WRITES_MIN && read > 0 && refused > 0 && unknown > 0);
    assert_eq!(history::check(&history), Ok(()), "TICKWRIGHT_SEED={seed}");
    // A register that went back to where it began would be noticed.
    history.last_mut().unwrap().saw = Saw::Version(0);
    assert!(history::check(&history).is_err());
}
