//! A node that stands still under full load, or is slow, costs every other one a bounded amount of memory, and
//! nothing when it goes on.

mod common;
mod processes;

use std::time::{Duration, Instant};

use common::{Scratch, json_essence};
use processes::{FIVE, Node, ask_share, report_within, until};
use tickwright_core::domain::{Signal, Tick};

/// Nobody may take over from exec here: all others wait for it, with all that they may keep.
const STOPPED: usize = 3;

const TICKS: &str = "300000";

/// How long the run may take after the node has gone on.
const RUN_PATIENCE: Duration = Duration::from_secs(180);

/// Small, so that 15 seconds without a bound would be far more.
const SHARDS: u64 = 4;
const CREDIT_TICKS: u64 = 2_048;
const RETAINED_TICKS: u64 = 8_192;
const CREDIT_BYTES: u64 = 1 << 20;

/// Of urgent messages to one node, whatever is configured.
const URGENT_BYTES: u64 = 1 << 20;

/// What a node may take up beyond what it did when it was at work and nobody stood still.
fn growth_max() -> u64 {
    // A message is there twice: as it is sent, and on the way. One may go beyond each window.
    let links = (FIVE.len() as u64 - 1) * 2 * (CREDIT_BYTES + URGENT_BYTES);
    // A source has a stream to each shard and one to exec, a shard has one to exec; a node may have come
    // to have all of them. What is kept may have been sent and not been taken yet at the other end, too.
    let streams = 2 * SHARDS + 1;
    let row = 2 * size_of::<Tick>().max(size_of::<Signal>()) as u64;
    let kept = streams * (RETAINED_TICKS + 2 * CREDIT_TICKS) * row;
    // The allocator gives nothing back at once.
    (links + kept) * 5 / 4
}

fn five() -> Vec<Node> {
    processes::five(&[
        ("allocation.auto_failover", "false"),
        ("cluster.credit_bytes", &CREDIT_BYTES.to_string()),
        ("pipeline.shards", &SHARDS.to_string()),
        ("simulator.ticks", TICKS),
        ("stream.credit_ticks", &CREDIT_TICKS.to_string()),
        ("stream.retained_ticks", &RETAINED_TICKS.to_string()),
    ])
}

/// What all but the one that stands still take up.
fn resident(nodes: &[Node]) -> Vec<u64> {
    let others = nodes.iter().enumerate().filter(|&(place, _)| place != STOPPED);
    others.map(|(_, node)| node.resident_bytes()).collect()
}

/// How a node fails to keep up.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// It stands still.
    Stopped,
    /// It stands still for nine tenths of the time, too shortly for anybody to think it gone.
    Slow,
}

/// Has exec's node fail to keep up for so long; what the others take up beyond what they did has a bound, and the
/// run comes to what it does in one process.
fn is_borne(way: Way, span: Duration) {
    let nodes = five();
    until("exec is well under way", || {
        let orders = ask_share(&nodes[STOPPED], "Progress").and_then(|p| p["orders"].as_u64());
        orders.is_some_and(|orders| orders > 100)
    });
    let before = resident(&nodes);
    nodes[STOPPED].signal("-STOP");
    let begun = Instant::now();
    let mut most = before.clone();
    while begun.elapsed() < span {
        for (most, now) in most.iter_mut().zip(resident(&nodes)) {
            *most = now.max(*most);
        }
        std::thread::sleep(Duration::from_millis(90));
        if way == Way::Slow {
            nodes[STOPPED].signal("-CONT");
            std::thread::sleep(Duration::from_millis(10));
            nodes[STOPPED].signal("-STOP");
        }
    }
    assert!(
        ask_share(&nodes[0], "Progress").is_some_and(|p| p["has_report"] == false),
        "it is over"
    );
    nodes[STOPPED].signal("-CONT");
    let megabytes = |bytes: &[u64]| bytes.iter().map(|b| b / 1_000_000).collect::<Vec<_>>();
    println!(
        "for {span:?}: MB before {:?}, at most {:?}, allowed {} more",
        megabytes(&before),
        megabytes(&most),
        growth_max() / 1_000_000
    );
    for (before, most) in before.iter().zip(&most) {
        assert!(most - before < growth_max(), "{before} bytes, then {most}");
    }
    let begun = Instant::now();
    let report = report_within(RUN_PATIENCE, &nodes);
    println!("caught up after {:?}", begun.elapsed());
    let scratch = Scratch::new();
    let ended = scratch.run(&["demo", "--ticks", TICKS]);
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert_eq!(json_essence(&report), json_essence(&scratch.report()), "after it kept up again");
}

/// For 15 seconds, or as many as `TICKWRIGHT_STOP_S` says.
#[test]
fn a_stopped_node_costs_each_other_a_bounded_amount_of_memory() {
    let seconds = std::env::var("TICKWRIGHT_STOP_S").ok().and_then(|text| text.parse().ok());
    is_borne(Way::Stopped, Duration::from_secs(seconds.unwrap_or(15)));
}

#[test]
fn a_slow_node_costs_each_other_a_bounded_amount_of_memory() {
    is_borne(Way::Slow, Duration::from_secs(10));
}
