//! A live source over five nodes: whoever takes it over has every row that anybody has seen.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
mod processes;
mod venue;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{
    Case, Scratch, assert_one_coordinator_a_term, copy_directory, draw, frames, json_essence,
};
use processes::{FIVE, Node, ask_share, report_within, units, until};
use serde_json::Value;
use tickwright::ctl::CtlTask;
use tickwright::kit::{Store, StoreOptions, wire};
use tickwright::run::{Input, run_until};
use tickwright::source::live::LiveConfig;
use tickwright_core::domain::{Kind, RawTick};
use venue::Venue;

const RUN_PATIENCE: Duration = Duration::from_secs(120);

/// Nothing is trimmed, so that at the end the journal can be looked at, and no boundary comes by the clock,
/// so that the answer is a function of the rows.
const COMMON: [(&str, &str); 6] = [
    ("pipeline.input", "live"),
    ("pipeline.batch_ticks", "64"),
    ("stream.idle_ms", "60000"),
    ("live.backoff_first_ms", "20"),
    ("live.backoff_max_ms", "100"),
    ("risk.stale_ms", "none"),
];

fn five(venue: &Venue, settings: &[(&str, &str)]) -> Vec<Node> {
    let mut all = COMMON.to_vec();
    all.push(("live.url", venue.url.as_str()));
    all.extend(settings);
    // Each may be cut off when a test says so.
    let cuts: Vec<String> = FIVE.map(|(name, _)| format!("cut:{name}@50%:3s")).into();
    processes::five_under(&all, &cuts.join(","))
}

/// The place of the node that has `unit`.
fn owner(nodes: &[Node], unit: &str) -> Option<usize> {
    nodes.iter().position(|node| units(node).iter().any(|there| there == unit))
}

fn rows(nodes: &[Node]) -> u64 {
    let rows = |node| ask_share(node, "Progress").unwrap_or_default()["rows"].as_u64();
    nodes.iter().filter_map(rows).max().unwrap_or(0)
}

/// How the log called `tree` is kept, as the node that has it says.
fn log_status(node: &Node, tree: &str) -> Value {
    node.status().unwrap_or_default()["logs"][tree].clone()
}

/// The node is lost with all it knows.
fn lose(node: &mut Node) {
    node.kill();
    std::fs::remove_dir_all(node.directory.path().join("data")).unwrap();
}

/// Waits until everything that the venue has sent has come in.
fn wait_all(nodes: &[Node], venue: &Venue) {
    let begun = Instant::now();
    while !venue.is_done() {
        assert!(begun.elapsed() < RUN_PATIENCE, "only {} frames were sent", venue.sent());
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut last = (0, Instant::now());
    until("everything has come in", || {
        let now = rows(nodes);
        if now != last.0 {
            last = (now, Instant::now());
        }
        now > 0 && last.1.elapsed() > Duration::from_secs(1)
    });
}

/// Declares the feed finished, and waits for the report.
fn finish(nodes: &[Node]) -> Value {
    let begun = Instant::now();
    while !nodes
        .iter()
        .any(|node| ask_share(node, "Finish").is_some_and(|answer| answer["finished"] == 1))
    {
        assert!(begun.elapsed() < RUN_PATIENCE, "nobody has the source");
        std::thread::sleep(Duration::from_millis(50));
    }
    report_within(RUN_PATIENCE, nodes)
}

/// The market rows in the journal of source 0 of a node that stands still for a moment meanwhile.
fn journal_of(node: &Node) -> Vec<RawTick> {
    let scratch = tempfile::tempdir().unwrap();
    node.signal("-STOP");
    copy_directory(&node.directory.path().join("data/journal"), &scratch.path().join("journal"));
    node.signal("-CONT");
    journal(scratch.path())
}

/// The market rows in the journal of source 0 in this data directory.
fn journal(data: &Path) -> Vec<RawTick> {
    let begun = Instant::now();
    let store = loop {
        match Store::open(data, StoreOptions::default()) {
            Ok((store, _)) => break store,
            Err(error) => assert!(begun.elapsed() < RUN_PATIENCE, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let mut rows: Vec<RawTick> = Vec::new();
    let mut next = 1u64;
    for key in store.keys("journal/0").unwrap() {
        let record = store.get("journal/0", &key).unwrap().unwrap();
        let payload = wire::open(&record).unwrap();
        let (length, rest) = payload.split_first_chunk().unwrap();
        let bytes = &rest[usize::try_from(u32::from_le_bytes(*length)).unwrap()..];
        let mut ticks = vec![RawTick::default(); bytes.len() / size_of::<RawTick>()];
        bytemuck::cast_slice_mut::<RawTick, u8>(&mut ticks).copy_from_slice(bytes);
        let first = u64::from_be_bytes(key.try_into().unwrap());
        assert_eq!(first, next, "the journal has a hole");
        next += ticks.len() as u64;
        rows.extend(ticks);
    }
    rows.retain(|row| row.kind != Kind::Boundary as u8);
    rows
}

/// The answer of one process that hears these frames from a venue at `address`.
fn alone(address: &str, sent: &[String], settings: &[(&str, &str)]) -> Value {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let venue = Venue::start_at(address, sent.to_vec(), 50, Duration::from_millis(1));
    let mut case = Case::simulated(1).set("telemetry.progress_ms", "50");
    for (key, value) in COMMON.iter().chain(settings).filter(|(key, _)| *key != "pipeline.input") {
        case = case.set(key, value);
    }
    let mut arguments = case.arguments();
    let config = arguments.config.clone();
    let mut live = LiveConfig::of(&case.set("live.url", &venue.url).config()).unwrap();
    live.seed = 1;
    arguments.input = Input::Live(live);
    let count = sent.len() as u64;
    let (all_in, mut all) = tokio::sync::watch::channel(0);
    let ended = runtime.block_on(async {
        let came = async move {
            let _ = all.wait_for(|&rows| rows >= count).await;
        };
        let run =
            run_until(arguments, |sample| all_in.send_modify(|rows| *rows = sample.rows), came);
        tokio::time::timeout(RUN_PATIENCE, run).await.expect("it ends").unwrap()
    });
    runtime.shutdown_background();
    serde_json::from_str(&tickwright::outcome::report(&ended, &config).to_json()).unwrap()
}

/// What holds for every run: nothing lost, nothing twice, and whoever had the source at the end has every
/// row that exec took, as it took it: one process that hears these rows gives the same answer.
fn check(report: &Value, rows: &[RawTick], sent: &[String], settings: &[(&str, &str)]) {
    assert_eq!((&report["lost_ticks"], &report["duplicate_orders"]), (&0.into(), &0.into()));
    assert!(report["fills"].as_u64().unwrap() > 0, "{report}");
    assert_eq!(report["ticks_in"], rows.len() as u64);
    let ids: Vec<u64> = rows.iter().map(|row| row.id).collect();
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "out of order");
    let heard: Vec<String> =
        ids.iter().map(|&id| sent[usize::try_from(id).unwrap() - 1].clone()).collect();
    assert_eq!(json_essence(report), json_essence(&alone("127.0.0.1:0", &heard, settings)));
}

fn seed() -> u64 {
    let seed = std::env::var("TICKWRIGHT_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("TICKWRIGHT_SEED={seed}");
    seed
}

/// Nothing is trimmed, and the answer is a function of the rows.
const WHOLE: [(&str, &str); 2] = [("pipeline.merge", "key"), ("stream.checkpoint_ticks", "60000")];

/// Its journal is gone with it; what exec has seen is in the copies.
#[test]
fn a_live_source_outlives_its_node_and_its_disk() {
    let mut chance = seed();
    let sent = frames(12_000);
    let venue = Venue::start(sent.clone(), 4, Duration::from_millis(4));
    let mut nodes = five(&venue, &WHOLE);
    until("exec gets rows", || rows(&nodes) > 1_000);
    std::thread::sleep(Duration::from_millis(draw(&mut chance) % 2_000));
    let first = owner(&nodes, "source/0").unwrap();
    println!("{} of {} frames were sent", venue.sent(), sent.len());
    let begun = Instant::now();
    lose(&mut nodes[first]);
    until("another node has the source", || owner(&nodes, "source/0").is_some());
    println!("taken over after {:?}, {} sent", begun.elapsed(), venue.sent());
    assert_ne!(owner(&nodes, "source/0"), Some(first));
    // It comes back as one that knows nothing, and is given the source again.
    nodes[first].start();
    wait_all(&nodes, &venue);
    let rows = journal_of(&nodes[owner(&nodes, "source/0").unwrap()]);
    println!("{} of {} frames are rows", rows.len(), sent.len());
    let report = finish(&nodes);
    nodes.iter_mut().for_each(Node::kill);
    assert_one_coordinator_a_term(nodes.iter().map(Node::all_logs), "after the source was lost");
    check(&report, &rows, &sent, &WHOLE);
}

/// Who keeps the copies of the journal just now, by the place among the nodes.
fn keeper(nodes: &[Node]) -> usize {
    let mut found = None;
    until("somebody keeps a copy", || {
        let first = owner(nodes, "source/0").map(|owner| log_status(&nodes[owner], "journal/0"));
        let name = first.and_then(|status| status["copies"][0].as_str().map(str::to_owned));
        found = name.and_then(|name| nodes.iter().position(|node| node.name == name));
        found.is_some()
    });
    found.unwrap()
}

/// Rows go on for a while.
fn goes_on(nodes: &[Node], what: &str) {
    let (begun, before) = (Instant::now(), rows(nodes));
    until(&format!("rows go on while {what}"), || rows(nodes) > before + 300);
    println!("{what}: 300 rows after {:?}", begun.elapsed());
}

#[test]
fn whoever_keeps_the_copies_may_be_stopped_cut_off_or_lost() {
    let sent = frames(24_000);
    let venue = Venue::start(sent.clone(), 4, Duration::from_millis(4));
    let mut nodes = five(&venue, &WHOLE);
    until("exec gets rows", || rows(&nodes) > 500);
    let stopped = keeper(&nodes);
    nodes[stopped].signal("-STOP");
    goes_on(&nodes, "it is stopped");
    assert_ne!(keeper(&nodes), stopped, "another took its place");
    nodes[stopped].signal("-CONT");
    until("it is back", || nodes[stopped].status().is_ok_and(|status| status["is_member"] == true));
    let cut = keeper(&nodes);
    let (name, task) = (nodes[cut].name.clone(), "{\"CutOff\":3000}".to_owned());
    let task = CtlTask::Ask { role: format!("run/{name}"), body: task };
    nodes[cut].ask(&task, None).unwrap();
    goes_on(&nodes, "it is cut off");
    std::thread::sleep(Duration::from_secs(3));
    let lost = keeper(&nodes);
    lose(&mut nodes[lost]);
    goes_on(&nodes, "it is lost");
    nodes[lost].start();
    wait_all(&nodes, &venue);
    let rows = journal_of(&nodes[owner(&nodes, "source/0").unwrap()]);
    let report = finish(&nodes);
    nodes.iter_mut().for_each(Node::kill);
    assert_one_coordinator_a_term(nodes.iter().map(Node::all_logs), "after copies were lost");
    check(&report, &rows, &sent, &WHOLE);
}

/// The order in which exec took its inputs, and its checkpoints, are in the copies: another process that
/// takes the same order comes to the same answer.
fn exec_is_lost_with_its_disk(comes_back: bool) {
    let mut chance = seed();
    let settings = [
        ("pipeline.merge", "arrival"),
        ("journal.keep_arrivals", "true"),
        ("stream.checkpoint_ticks", "1500"),
    ];
    let sent = frames(12_000);
    let venue = Venue::start(sent.clone(), 4, Duration::from_millis(4));
    let mut nodes = five(&venue, &settings);
    until("exec gets rows", || rows(&nodes) > 3_000);
    std::thread::sleep(Duration::from_millis(draw(&mut chance) % 1_500));
    let exec = owner(&nodes, "exec").unwrap();
    let orders = || ask_share(&nodes[exec], "Progress").unwrap_or_default()["orders"].as_u64();
    let before = orders().unwrap();
    println!("{before} orders, {} frames sent", venue.sent());
    assert!(before > 0);
    lose(&mut nodes[exec]);
    if comes_back {
        std::thread::sleep(Duration::from_millis(draw(&mut chance) % 1_500));
        nodes[exec].start();
    }
    let mut went_on = false;
    until("exec goes on from where it was", || {
        let Some(exec) = owner(&nodes, "exec") else { return false };
        let progress = ask_share(&nodes[exec], "Progress").unwrap_or_default();
        went_on = progress["went_on"]["exec"].is_u64();
        progress["units"].as_array().is_some_and(|units| units.contains(&"exec".into()))
    });
    assert!(went_on, "it began anew");
    wait_all(&nodes, &venue);
    let report = finish(&nodes);
    let address = venue.address().to_owned();
    drop(venue);
    let last = nodes.iter().position(|node| ask_share(node, "Report").is_some()).unwrap();
    assert!(comes_back || last != exec);
    let data = nodes[last].directory.path().join("data");
    let running = nodes.iter_mut().enumerate().filter(|&(place, _)| comes_back || place != exec);
    running.for_each(|(_, node)| node.kill());
    assert_one_coordinator_a_term(nodes.iter().map(Node::all_logs), "after exec was lost");
    assert_eq!((&report["lost_ticks"], &report["duplicate_orders"]), (&0.into(), &0.into()));
    assert_eq!(report["ticks_in"], sent.len());
    assert!(report["fills"].as_u64().unwrap() > 0, "{report}");
    let follow = [
        ("pipeline.merge", "arrival"),
        ("pipeline.shards", "4"),
        ("pipeline.follow", data.to_str().unwrap()),
    ];
    let again = alone(&address, &sent, &follow);
    assert_eq!(json_essence(&report), json_essence(&again));
}

#[test]
fn exec_goes_on_after_its_disk_is_lost() {
    exec_is_lost_with_its_disk(true);
}

#[test]
fn another_node_goes_on_with_exec_in_the_order_that_it_took() {
    exec_is_lost_with_its_disk(false);
}

/// How long the program listens.
const LISTENING: Duration = Duration::from_secs(3);

/// The program starts the nodes, and Ctrl-C ends the feed and not the run. Prints how fast the rows go.
#[test]
fn a_run_listens_with_several_nodes_until_it_is_stopped() {
    let sent = frames(40_000);
    for replicas in ["1", "2"] {
        let venue = Venue::start(sent.clone(), 1_000, Duration::ZERO);
        let scratch = Scratch::new();
        let mut command = scratch.command(&["run", "--live", &venue.url, "--nodes", "3"]);
        command.args(["--set", &format!("stream.replicas={replicas}")]);
        let process = scratch.start(command);
        let begun = Instant::now();
        while venue.sent() == 0 {
            assert!(begun.elapsed() < RUN_PATIENCE, "nobody listens: {:?}", process.said());
            std::thread::sleep(Duration::from_millis(2));
        }
        std::thread::sleep(LISTENING);
        let id = process.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
        let ended = common::finish(process);
        assert_eq!(ended.code(), 0, "{ended:?}");
        let report = scratch.report();
        assert_eq!((&report["lost_ticks"], &report["duplicate_orders"]), (&0.into(), &0.into()));
        assert_eq!(report["nodes"], 3);
        // What was still between the venue and the node is not heard any more.
        let rows = report["ticks_in"].as_u64().unwrap();
        println!("replicas {replicas}: {rows} rows in {LISTENING:?}");
        assert!(rows > 0 && rows <= sent.len() as u64, "{rows}");
    }
}
