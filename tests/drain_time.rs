//! How long the pipeline stands still while a node that computes is emptied: less than a second.
//!
//! Rows come at the pace of a market that is busy, at settings as they are, except that work comes back
//! sooner: units come one after the other, and the last of six would be waited for a minute. Exec takes no
//! row before it has the signals of every shard up to there, so it stands still while a shard is between two
//! nodes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod processes;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use processes::{Done, Measured, Node, alone, assert_most_within, five, units, until};
use tickwright::ctl::CtlTask;

/// Longest that exec may stand still.
const LIMIT: Duration = Duration::from_secs(1);

/// How long a drain may take in all.
const DRAIN_PATIENCE: Duration = Duration::from_secs(60);

/// Other processes may have the machine to themselves for a while: most of so many count.
const ROUNDS: usize = 5;

/// The same of exec, for which units that were handed over before it may have to come back first.
const EXEC_ROUNDS: usize = 3;

/// Rows that exec has taken.
fn rows(exec: &Node) -> Option<u64> {
    let task = CtlTask::Ask { role: "risk".into(), body: "\"Report\"".into() };
    exec.ask(&task, None).ok()?["rows"].as_u64()
}

/// The longest time in which exec took nothing while `deed` was done.
fn stand_still(exec: &Node, deed: impl FnOnce()) -> Duration {
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let (mut last, mut since) = (rows(exec), Instant::now());
            let mut longest = Duration::ZERO;
            while !is_done.load(Ordering::Relaxed) {
                let now = rows(exec);
                if now > last {
                    longest = longest.max(since.elapsed());
                    (last, since) = (now, Instant::now());
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            longest.max(since.elapsed())
        });
        let done = Done(&is_done);
        deed();
        drop(done);
        watch.join().unwrap()
    })
}

/// A cluster at work as a market that is busy keeps it.
fn at_work() -> Vec<Node> {
    let nodes = five(&[
        ("cluster.heartbeat_ms", "500"),
        ("allocation.settle_ms", "2000"),
        ("stream.checkpoint_ticks", "65536"),
        ("simulator.ticks", "none"),
        ("simulator.ticks_per_second", "200"),
        ("pipeline.speed", "real"),
    ]);
    until("exec is at work", || rows(&nodes[3]) > Some(8_000));
    let quiet = stand_still(&nodes[3], || std::thread::sleep(Duration::from_secs(2)));
    println!("while nothing is done exec takes nothing for {quiet:?}");
    nodes
}

fn drain(name: &str, undo: bool) -> CtlTask {
    CtlTask::Drain { node: name.to_owned(), undo, waits: true }
}

/// Drains the node at `place`, and lets it have work again. Returns how long exec stood still.
fn drained(nodes: &[Node], place: usize) -> Measured {
    let (node, exec) = (&nodes[place], &nodes[3]);
    until("it has something to hand over", || !units(node).is_empty());
    let had = units(node);
    let stood = Measured::of(|| {
        stand_still(exec, || {
            let told = exec.ask_within(DRAIN_PATIENCE, &drain(&node.name, false), None).unwrap();
            println!("{}", told["told"]);
        })
    });
    until("it is empty", || units(node).is_empty());
    println!("{} handed over {had:?}; how long exec took nothing, at most: {stood:?}", node.name);
    exec.ask_within(DRAIN_PATIENCE, &drain(&node.name, true), None).unwrap();
    stood
}

#[test]
fn a_node_is_drained_without_a_pause() {
    let _turn = alone();
    let nodes = at_work();
    // One that computes; after it, the one with the source.
    for places in [[1, 2], [0, 0]] {
        assert_most_within(LIMIT, ROUNDS, |round| drained(&nodes, places[round % 2]));
    }
    // And the one with exec.
    assert_most_within(LIMIT, EXEC_ROUNDS, |_| drained(&nodes, 3));
}

#[test]
fn a_node_that_is_told_to_end_hands_over_what_it_has_and_leaves() {
    let _turn = alone();
    let mut nodes = at_work();
    let mut whole = 0;
    assert_most_within(LIMIT, ROUNDS, |round| {
        let place = [1, 2][round % 2];
        until("it has something to hand over", || !units(&nodes[place]).is_empty());
        let had = units(&nodes[place]);
        let mut node = nodes.remove(place);
        let stood = Measured::of(|| {
            stand_still(&nodes[2], || {
                node.signal("-TERM");
                assert_eq!(node.wait_end().code(), Some(0));
            })
        });
        println!("{} left {had:?}; how long exec took nothing, at most: {stood:?}", node.name);
        let handed = format!("{} has handed over what it had: {}", node.name, had.len());
        // What a busy machine does not get done within `leave_timeout_ms` is taken over after that.
        whole += usize::from(node.log().contains(&handed));
        // Whoever comes back gets work again.
        node.start();
        nodes.insert(place, node);
        stood
    });
    assert!(whole > 0, "nobody has handed over all that it had");
}
