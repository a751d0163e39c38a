//! Nodes of a cluster that are killed, stopped and started again while they are at work, at moments that
//! nobody has prepared for.

#![allow(dead_code, reason = "helpers for several test files")]

mod common;
mod processes;

use std::time::{Duration, Instant};

use common::{Scratch, assert_one_coordinator_a_term, draw, json_essence};
use processes::{Node, ask_share, open, report_within, units, until};
use serde_json::Value;

/// How long a run may take, whatever befalls it.
const RUN_PATIENCE: Duration = Duration::from_secs(120);

const TICKS: &str = "500000";

/// Faults that strike one run.
const FAULTS: usize = 6;

/// Between two places at which the source is held until the next fault is near, in percent of the rows: so each
/// strikes a run that has rows to work on, and after the last one some are left.
const STEP_PERCENT: usize = 13;

fn alone() -> Value {
    let scratch = Scratch::new();
    let ended = scratch.run(&["demo", "--ticks", TICKS]);
    assert_eq!(ended.code(), 0, "{ended:?}");
    scratch.report()
}

fn five() -> Vec<Node> {
    processes::five(&[("simulator.ticks", TICKS)])
}

fn assert_same(report: &Value, alone: &Value, what: &str) {
    assert_eq!(json_essence(report), json_essence(alone), "{what}");
}

/// Kills and stops at random, without waiting for anything. A failure prints its seed.
#[test]
fn nodes_that_are_killed_or_stopped_under_load_change_nothing() {
    let alone = alone();
    let seed = std::env::var("TICKWRIGHT_SEED").ok().and_then(|seed| seed.parse().ok());
    let mut chance = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("TICKWRIGHT_SEED={chance}");
    // Nobody is cut off: the places are what is wanted.
    let places = (1..=FAULTS + 1).map(|place| format!("cut:data-1@{}%:1ms", place * STEP_PERCENT));
    let places: Vec<String> = places.collect();
    let mut nodes = processes::five_under(&[("simulator.ticks", TICKS)], &places.join(","));
    until("exec begins", || units(&nodes[3]) == ["exec"]);
    for fault in 0..FAULTS {
        // Whoever has come back since does not know what was opened before.
        open(&nodes, fault + 1);
        let node = usize::try_from(draw(&mut chance) % 5).unwrap();
        let [before, during] = [draw(&mut chance) % 900, draw(&mut chance) % 4_000];
        std::thread::sleep(Duration::from_millis(before));
        let is_over = nodes.iter().any(|node| ask_share(node, "Report").is_some());
        assert!(!is_over, "the run is over before fault {fault}");
        let is_kill = draw(&mut chance).is_multiple_of(2);
        println!("{} {} for {during} ms", if is_kill { "kill" } else { "stop" }, nodes[node].name);
        if is_kill {
            nodes[node].kill();
            std::thread::sleep(Duration::from_millis(during));
            nodes[node].start();
        } else {
            nodes[node].signal("-STOP");
            std::thread::sleep(Duration::from_millis(during));
            nodes[node].signal("-CONT");
        }
    }
    // Until all have come back, and know it.
    until("all may go on to the end", || open(&nodes, FAULTS + 1));
    let report = report_within(RUN_PATIENCE, &nodes);
    assert_one_coordinator_a_term(nodes.iter().map(Node::all_logs), "after six faults");
    assert_same(&report, &alone, "after six faults");
    assert_eq!((&report["lost_ticks"], &report["duplicate_orders"]), (&0.into(), &0.into()));
}

/// A lost node's units are taken over by the others, and one that comes back finds them taken.
#[test]
fn the_units_of_a_lost_node_are_taken_over_and_it_does_no_harm_when_it_wakes() {
    let nodes = five();
    until("calc-1 has shards", || !units(&nodes[1]).is_empty());
    let rows =
        || ask_share(&nodes[0], "Progress").unwrap_or_default()["rows"].as_u64().unwrap_or(0);
    // Long after the first checkpoints.
    until("the run gets on", || rows() > 60_000);
    let lost = units(&nodes[1]);
    nodes[1].signal("-STOP");
    let begun = Instant::now();
    until("calc-2 takes them over", || {
        let there = units(&nodes[2]);
        lost.iter().all(|unit| there.contains(unit))
    });
    // Ten busy processes share the machine with this one: how long it takes is told, not held to.
    println!("taken over after {:?}", begun.elapsed());
    // Not from the beginning: copies of the checkpoints were on other nodes.
    let progress = ask_share(&nodes[2], "Progress").unwrap();
    for unit in &lost {
        assert!(progress["went_on"][unit].is_u64(), "{unit} began anew: {progress}");
    }
    nodes[1].signal("-CONT");
    until("calc-1 gives them up", || {
        ask_share(&nodes[1], "Progress").is_some()
            && !units(&nodes[1]).iter().any(|u| lost.contains(u))
    });
    let report = report_within(RUN_PATIENCE, &nodes);
    assert_one_coordinator_a_term(nodes.iter().map(Node::all_logs), "after a node slept");
    assert_same(&report, &alone(), "after a node slept");
}
