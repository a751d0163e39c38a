//! What three nodes find while their pipeline runs is adopted by itself on all of them, and taken back on all of
//! them when the strategy then earns less.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "helpers for several test files")]

mod common;
mod processes;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{Scratch, draw};
use processes::Node;
use serde_json::{Value, json};
use tickwright::ctl::{self, CtlTask};

/// As long as the search, and what is looked at before and after it, may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// A minute's bar in a fiftieth of a second.
const SPEED: &str = "3000x";

/// Bars of the run: more than are read until the test is over.
const BARS: u32 = 12_000;

/// How long the search goes on: by then it is known what the run earned before.
const SEARCH_S: &str = "15";

/// Bars of a wave with noise on it, from 2022 on.
fn wave(scratch: &Scratch, name: &str, bars: u32, (length, noise): (f64, f64)) -> PathBuf {
    let mut text = "ts_ns,symbol,open,high,low,close,volume\n".to_owned();
    let (mut before, mut chance) = (1_000.0_f64, 5);
    for minute in 1..=bars {
        let random = (draw(&mut chance) % 1_000) as f64 / 1_000.0 - 0.5;
        let phase = f64::from(minute) * std::f64::consts::TAU / length;
        let close = 1_000.0 + 20.0 * phase.sin() + noise * random;
        let (high, low) = (before.max(close) + 0.1, before.min(close) - 0.1);
        let end = 1_640_991_600_000_000_000 + u64::from(minute) * 60_000_000_000;
        writeln!(text, "{end},ABC-USD.TEST,{before:.2},{high:.2},{low:.2},{close:.2},900").unwrap();
        before = close;
    }
    scratch.file(name, text)
}

/// Three nodes that share a pipeline over `run`, where quick averages earn, and search over `searched`, where slow
/// ones do.
fn nodes(run: &Path, searched: &Path) -> Vec<Node> {
    let names =
        [("data-1", "data,control"), ("calc-1", "calc,control"), ("exec-1", "exec,control")];
    let mut nodes: Vec<Node> = names.iter().map(|(name, _)| Node::new(name)).collect();
    let seeds: Vec<String> = nodes.iter().map(Node::address).collect();
    for (node, (_, roles)) in nodes.iter_mut().zip(names) {
        for (key, value) in [
            ("cluster.seeds", seeds.join(",").as_str()),
            // All three search beside their work, with all that the machine has.
            ("cluster.heartbeat_ms", "500"),
            ("node.roles", roles),
            ("allocation.nodes_min", "3"),
            ("pipeline.input", "files"),
            ("pipeline.data", run.to_str().unwrap()),
            ("pipeline.speed", SPEED),
            ("strategy.crossing.parameters.fast", "2"),
            ("strategy.crossing.parameters.slow", "4"),
            ("strategy.crossing.parameters.window_s", "0"),
            ("strategy.reversion.symbols", "NONE"),
            ("optimise.data", &json!([searched]).to_string()),
            ("optimise.strategy", "crossing"),
            ("optimise.search", "random"),
            ("optimise.space", &json!(["fast = int 40..60", "slow = int 110..600"]).to_string()),
            ("optimise.max_explorations", "100000"),
            ("optimise.patience", "0"),
            ("optimise.time_max_s", SEARCH_S),
            ("optimise.workers", "1"),
            ("optimise.adopt", "auto"),
            ("optimise.looks", "5"),
            ("optimise.look_ms", "300"),
            // Only how many trades earned counts: that is one, or none.
            ("optimise.weight_profit_rate", "0"),
            ("optimise.weight_sharpe", "0"),
            ("optimise.weight_drawdown", "0"),
            ("optimise.trades_min", "3"),
        ] {
            node.options.extend(["--set".to_owned(), format!("{key}={value}")]);
        }
        node.start();
    }
    nodes
}

/// How what is adopted by the node called `adopter` stands.
fn adoption(node: &Node, adopter: &str) -> Value {
    let task = CtlTask::Ask { role: format!("adoption/{adopter}"), body: "\"Status\"".into() };
    node.ask(&task, None).unwrap_or_default()
}

/// What every node says that the strategy has: fast and slow.
fn in_force(nodes: &[Node]) -> Vec<[f64; 2]> {
    let of = |node: &Node| {
        let task = CtlTask::Ask { role: "parameters".into(), body: "\"Parameters\"".into() };
        let shown = node.ask(&task, Some(&node.name)).unwrap_or_default();
        let strategies = shown["strategies"].as_array().cloned().unwrap_or_default();
        let crossing = strategies.iter().find(|it| it["strategy"] == "crossing")?;
        let value = |name: &str| crossing["parameters"][name].as_f64();
        Some([value("fast")?, value("slow")?])
    };
    nodes.iter().filter_map(of).collect()
}

/// Waits for as long as the whole of it may take.
fn comes(what: &str, nodes: &[Node], mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(
            begun.elapsed() < PATIENCE,
            "{what}: {:#}",
            nodes[0].ask(&CtlTask::Adoption, None).unwrap_or_default()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Until it is known what the run earns with what is configured, and that this is much.
fn trades_well(nodes: &[Node], adopter: &str) {
    comes("the run trades well with what is configured", nodes, || {
        adoption(&nodes[0], adopter)["live_score"].as_f64().is_some_and(|score| score > 0.5)
    });
}

/// The nodes at work; of them the first by name adopts.
fn at_work(scratch: &Scratch) -> Vec<Node> {
    let run = wave(scratch, "run.csv", BARS, (12.0, 0.0));
    let searched = wave(scratch, "searched.csv", 6_000, (300.0, 16.0));
    let mut nodes = nodes(&run, &searched);
    for node in &mut nodes {
        node.is_member();
    }
    nodes
}

const ADOPTER: &str = "calc-1";

#[test]
fn what_is_adopted_by_itself_and_earns_less_is_taken_back_on_every_node() {
    let _alone = processes::alone();
    let scratch = Scratch::new();
    let nodes = at_work(&scratch);
    trades_well(&nodes, ADOPTER);
    assert_eq!(in_force(&nodes), [[2.0, 4.0]; 3]);
    assert_eq!(adoption(&nodes[0], ADOPTER)["adopted"], 0);

    let mut adopted = Vec::new();
    comes("what was found is adopted everywhere", &nodes, || {
        adopted = in_force(&nodes);
        adopted.len() == 3 && adopted.iter().all(|it| *it == adopted[0] && it[0] >= 40.0)
    });
    let shown = adoption(&nodes[0], ADOPTER);
    assert_eq!((&shown["proposed"], &shown["adopted"]), (&json!(1), &json!(1)), "{shown:#}");

    comes("it is taken back", &nodes, || adoption(&nodes[0], ADOPTER)["taken_back"] == 1);
    comes("all have what they had before", &nodes, || in_force(&nodes) == [[2.0, 4.0]; 3]);
    let shown = adoption(&nodes[0], ADOPTER);
    let end = &shown["history"][0];
    assert_eq!(end["is_adopted"], false, "{shown:#}");
    assert!(end["why"].as_str().unwrap().starts_with("taken back: live score -"), "{shown:#}");
    assert_eq!(end["parameters"], json!([["fast", adopted[0][0]], ["slow", adopted[0][1]]]));
    let all = nodes[2].ask(&CtlTask::Adoption, None).unwrap();
    let told = ctl::text(&CtlTask::Adoption, &all);
    assert!(told.contains("taken back: live score"), "{told}");
    // And the run does as well again as it did.
    trades_well(&nodes, ADOPTER);
    println!("adopted {:?}, {}", adopted[0], end["why"]);
}

/// Whoever adopts is lost before it has seen what comes of it: the next in order goes on from what the nodes agree
/// on, and takes it back.
#[test]
fn what_a_lost_node_has_adopted_is_watched_and_taken_back_by_its_successor() {
    let _alone = processes::alone();
    let scratch = Scratch::new();
    let mut nodes = at_work(&scratch);
    trades_well(&nodes, ADOPTER);
    let first = nodes.iter().position(|node| node.name == ADOPTER).unwrap();
    comes("it adopts what was found", &nodes, || {
        adoption(&nodes[first], ADOPTER)["stage"] == "watched"
    });
    let mut lost = nodes.remove(first);
    lost.kill();
    let successor = "data-1";
    comes("its successor takes it back", &nodes, || {
        adoption(&nodes[0], successor)["taken_back"] == 1
    });
    comes("all have what they had before", &nodes, || in_force(&nodes) == [[2.0, 4.0]; 2]);
    let shown = adoption(&nodes[0], successor);
    let why = shown["history"].as_array().unwrap().last().unwrap()["why"].clone();
    assert!(why.as_str().unwrap().starts_with("taken back: live score -"), "{shown:#}");
    println!("{why}");
}
