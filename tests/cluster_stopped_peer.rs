//! A node that stands still under full load, or is slow, costs every other one a bounded amount of memory, and
//! nothing when it goes on.

mod common;
mod processes;

use std::time::{Duration, Instant};

use common::{Scratch, json_essence};
use processes::{FIVE, Node, ask_share, report_within, until};
use tickwright::ctl::CtlTask;
use tickwright_core::domain::{Signal, Tick};

/// Nobody may take over from exec here: all others wait for it, with all that they may keep.
const STOPPED: usize = 3;

/// So many that the source would have read them all long before the test looks, were it not held up, and that
/// nobody could keep them within what is allowed.
const TICKS: u64 = 400_000;

/// How long the run may take after the node has gone on.
const RUN_PATIENCE: Duration = Duration::from_secs(180);

/// Small, so that all rows would be far more.
const SHARDS: u64 = 4;
const CREDIT_TICKS: u64 = 2_048;
const RETAINED_TICKS: u64 = 4_096;
const CHECKPOINT_TICKS: u64 = 2_000;
const CREDIT_BYTES: u64 = 1 << 18;
const SEGMENT_BYTES: u64 = 1 << 20;

/// Rows of a block, as it is.
const BATCH_TICKS: u64 = 256;

/// Rows that the source may read and exec does not take. There are two streams between them, each with a window that
/// one block may overdraw; the cleaner, in the middle, has some in hand.
const AHEAD_MAX: u64 = 3 * (CREDIT_TICKS + BATCH_TICKS);

/// Of urgent messages to one node, whatever is configured.
const URGENT_BYTES: u64 = 1 << 20;

/// What the store keeps in memory of what was written: its cache, a segment that is written, and one that is filled.
const STORE_BYTES: u64 = (8 << 20) + 2 * SEGMENT_BYTES;

/// How a node fails to keep up.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// It stands still.
    Stopped,
    /// It stands still for nine tenths of the time, too shortly for anybody to think it gone.
    Slow,
}

/// What a node may take up beyond what it did when it was at work and everybody kept up.
fn growth_max(way: Way, is_behind: bool) -> u64 {
    // Every other node fills its link to the one that is behind. At the sending end a message is there twice: as it
    // is sent, and on the way.
    let windows = if is_behind { FIVE.len() as u64 - 1 } else { 2 };
    let links = windows * (CREDIT_BYTES + URGENT_BYTES);
    // A source has a stream to each shard and one to exec, a shard has one to exec; a node may have come
    // to have all of them. What is kept may have been sent and not been taken yet at the other end, too.
    let streams = 2 * SHARDS + 1;
    let row = size_of::<Tick>().max(size_of::<Signal>()) as u64;
    let kept = streams * (RETAINED_TICKS + 2 * CREDIT_TICKS) * row;
    let stored = match way {
        Way::Stopped => 0,
        // The run goes on, and checkpoints are written.
        Way::Slow => STORE_BYTES,
    };
    // The allocator gives nothing back at once.
    (links + kept + stored) * 5 / 4
}

fn five() -> Vec<Node> {
    processes::five(&[
        ("allocation.auto_failover", "false"),
        ("cluster.credit_bytes", &CREDIT_BYTES.to_string()),
        ("journal.segment_bytes", &SEGMENT_BYTES.to_string()),
        ("pipeline.batch_ticks", &BATCH_TICKS.to_string()),
        ("pipeline.shards", &SHARDS.to_string()),
        ("simulator.ticks", &TICKS.to_string()),
        ("stream.checkpoint_ticks", &CHECKPOINT_TICKS.to_string()),
        ("stream.credit_ticks", &CREDIT_TICKS.to_string()),
        ("stream.retained_ticks", &RETAINED_TICKS.to_string()),
    ])
}

/// What each takes up.
fn resident(nodes: &[Node]) -> Vec<u64> {
    nodes.iter().map(Node::resident_bytes).collect()
}

/// Rows that the source has read.
fn rows_read(nodes: &[Node]) -> u64 {
    let mut rows = 0;
    until("the source says how far it is", || {
        let progress = ask_share(&nodes[0], "Progress").unwrap_or_default();
        rows = progress["rows"].as_u64().unwrap_or(0);
        rows > 0
    });
    rows
}

/// Clean rows that have come to exec.
fn rows_at_exec(nodes: &[Node]) -> u64 {
    let task = CtlTask::Ask { role: "risk".into(), body: "\"Report\"".into() };
    let mut rows = 0;
    until("exec says how far it is", || {
        let report = nodes[STOPPED].ask(&task, None).unwrap_or_default();
        rows = report["rows"].as_u64().unwrap_or(0);
        rows > 0
    });
    rows
}

/// Has exec's node fail to keep up for so long; the source waits for it, what the nodes take up beyond what they did
/// has a bound, and the run comes to what it does in one process.
fn is_borne(way: Way, span: Duration) {
    let nodes = five();
    until("exec is well under way", || {
        let orders = ask_share(&nodes[STOPPED], "Progress").and_then(|p| p["orders"].as_u64());
        orders.is_some_and(|orders| orders > 100)
    });
    let before = resident(&nodes);
    nodes[STOPPED].signal("-STOP");
    let begun = Instant::now();
    let first = rows_read(&nodes);
    let unread_bytes = (TICKS - first) * size_of::<Tick>() as u64;
    let allowed = growth_max(Way::Stopped, false);
    assert!(unread_bytes > allowed, "{unread_bytes} bytes are left, and {allowed} are allowed");
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
    let last = rows_read(&nodes);
    nodes[STOPPED].signal("-CONT");
    // By then it has taken some more: that only hides what it takes in a moment.
    let taken = rows_at_exec(&nodes);
    println!("{way:?}: rows read {first}, then {last}, of which {taken} have come to exec");
    assert!(last < TICKS, "the source is at its end, and nothing was held up");
    if way == Way::Stopped {
        let more = last.saturating_sub(first);
        assert!(more <= AHEAD_MAX, "the source reads on: {first}, then {last}");
    }
    // One row in a hundred is dirt, which the cleaner keeps back. Exec may have begun anew, from a checkpoint that
    // others have.
    let ahead_max = AHEAD_MAX + 2 * CHECKPOINT_TICKS + last / 50;
    assert!(last.saturating_sub(taken) <= ahead_max, "{last} are read, and {taken} have come");
    let megabytes = |bytes: &[u64]| bytes.iter().map(|b| b / 1_000_000).collect::<Vec<_>>();
    println!(
        "for {span:?}: MB before {:?}, at most {:?}, allowed {} more",
        megabytes(&before),
        megabytes(&most),
        growth_max(way, false) / 1_000_000
    );
    for (place, (before, most)) in before.iter().zip(&most).enumerate() {
        let allowed = growth_max(way, place == STOPPED);
        let name = &nodes[place].name;
        assert!(most - before < allowed, "{name}: {before} bytes, then {most}");
    }
    let begun = Instant::now();
    let report = report_within(RUN_PATIENCE, &nodes);
    println!("caught up after {:?}", begun.elapsed());
    let scratch = Scratch::new();
    let ended = scratch.run(&["demo", "--ticks", &TICKS.to_string()]);
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert_eq!(json_essence(&report), json_essence(&scratch.report()), "after it kept up again");
}

/// For 10 seconds, or as many as `TICKWRIGHT_STOP_S` says.
#[test]
fn a_stopped_node_costs_each_other_a_bounded_amount_of_memory() {
    let seconds = std::env::var("TICKWRIGHT_STOP_S").ok().and_then(|text| text.parse().ok());
    is_borne(Way::Stopped, Duration::from_secs(seconds.unwrap_or(10)));
}

#[test]
fn a_slow_node_costs_itself_and_each_other_a_bounded_amount_of_memory() {
    is_borne(Way::Slow, Duration::from_secs(10));
}
