//! Five nodes at work, on a network that is parted, cut in one direction and slow, with clocks that differ.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
mod networks;
mod processes;

use std::time::{Duration, Instant};

use common::{Scratch, assert_one_coordinator_a_term, json_essence};
use networks::Network;
use processes::{Node, open, until};
use serde_json::{Value, json};
use tickwright::ctl::{CtlError, CtlTask};
use tickwright::kit::Clock;

const NAMES: [&str; 5] = ["data-1", "calc-1", "calc-2", "exec-1", "control-1"];
const DUTIES: [&str; 5] =
    ["data,control", "calc,control", "calc,control", "exec,control", "control"];

/// By how much the clock of each is wrong: hours, minutes, days.
const CLOCKS_MS: [i64; 5] = [-3_600_000, 3_600_000, 90_000, 0, -432_000_000];

/// The sides of a parting.
const TWO: [usize; 2] = [0, 2];
const THREE: [usize; 3] = [1, 3, 4];

const TICKS: &str = "600000";

/// Where the source is held until the next fault strikes, in percent of the rows: so each strikes a run that has rows
/// to work on, and after the last one some are left.
const PLACES: [u8; 3] = [30, 60, 90];

/// How long the link is slow, and how many bytes a second pass it: some thousand rows to exec, and as many to shards.
const SLOW: Duration = Duration::from_secs(5);
const SLOW_BYTES: u64 = 512 << 10;

/// Rows that come to exec meanwhile, at least.
const SLOW_ROWS_MIN: u64 = 1_000;

/// The default.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// Nodes that are thought down are dialled every second; so two are enough to find each other.
const RELINK: Duration = Duration::from_secs(2);

/// Three round trips here take less than a millisecond each.
const ROUND_TRIPS: Duration = Duration::from_millis(3);

/// What a machine may take away that has two cores for five nodes at work in a debug build, their test
/// and other tests; and what one look at all nodes takes.
const BUSY: Duration = Duration::from_secs(2);

/// How long a run may take, whatever befalls it.
const RUN_PATIENCE: Duration = Duration::from_secs(180);

fn five(network: &mut Network) -> Vec<Node> {
    let seeds: Vec<String> = (0..NAMES.len()).map(|place| network.address(place)).collect();
    // Nobody is cut off by these: the places are what is wanted.
    let places = PLACES.map(|percent| format!("cut:{}@{percent}%:1ms", NAMES[0])).join(",");
    let mut nodes = Vec::new();
    for (place, name) in NAMES.into_iter().enumerate() {
        let clock = CLOCKS_MS[place].to_string();
        let mut node = network
            .attach(place, Node::new(name))
            .set("cluster.seeds", &seeds.join(","))
            .set("cluster.heartbeat_ms", &HEARTBEAT.as_millis().to_string())
            .set("node.roles", DUTIES[place])
            .set("node.clock_offset_ms", &clock)
            .set("pipeline.input", "simulator")
            .set("pipeline.shards", "4")
            .set("simulator.ticks", TICKS)
            .set("stream.checkpoint_ticks", "2000")
            .set("allocation.nodes_min", "5")
            .set("telemetry.log", "error,tickwright=info,openraft=off");
        node.options.extend(["--chaos".to_owned(), places.clone()]);
        node.start();
        nodes.push(node);
    }
    nodes
}

fn ask(node: &Node, role: &str, call: &Value) -> Result<Value, CtlError> {
    let task = CtlTask::Ask { role: role.into(), body: call.to_string() };
    // The ledger says why there is no answer after four seconds.
    node.ask_within(Duration::from_secs(6), &task, Some(&node.name))
}

fn write(node: &Node, key: &str) -> Result<Value, CtlError> {
    ask(node, "ledger", &json!({ "Cas": { "key": key, "expected": 0, "value": "x" } }))
}

/// Whether all see all others.
fn see_each_other(nodes: &[Node]) -> bool {
    nodes.iter().all(|node| {
        let members = node.ask(&CtlTask::Members, None).unwrap_or_default();
        let members = members.as_array().into_iter().flatten();
        members.filter(|member| member["status"] == "up").count() == NAMES.len()
    })
}

/// Whether all know of the same coordinator, and reach most voters.
fn agree(nodes: &[Node]) -> bool {
    let view = |node: &Node| {
        let ledger = node.status().ok()?["ledger"].clone();
        let has_quorum = ledger["has_quorum"] == true;
        has_quorum.then(|| (ledger["coordinator"].clone(), ledger["term"].clone()))
    };
    let views: Vec<_> = nodes.iter().map(view).collect();
    views[0].is_some() && views.iter().all(|view| *view == views[0])
}

fn linked(node: &Node) -> usize {
    node.status().ok().and_then(|status| Some(status["linked"].as_array()?.len())).unwrap_or(0)
}

/// How long it takes from now on until every node is linked to every other, until all see all others up, and
/// until the ledger has one coordinator for all.
fn assert_heals(nodes: &[Node], what: &str) {
    let since = Instant::now();
    until("all are linked", || nodes.iter().all(|node| linked(node) == NAMES.len() - 1));
    let links = since.elapsed();
    until("all see each other", || see_each_other(nodes));
    let seen = since.elapsed();
    until("all know one coordinator", || agree(nodes));
    let agreed = since.elapsed();
    println!("{what}: links after {links:?}, all see all {seen:?}, one coordinator {agreed:?}");
    assert!(links < RELINK + BUSY, "{links:?}");
    assert!(seen < links + 2 * HEARTBEAT + ROUND_TRIPS + BUSY, "{seen:?}");
    assert!(agreed < links + 2 * HEARTBEAT + ROUND_TRIPS + BUSY, "{agreed:?}");
}

/// The units that run on `node`, if it says so.
fn units(node: &Node) -> Vec<String> {
    let progress = ask(node, &format!("run/{}", node.name), &json!("Progress")).unwrap_or_default();
    let units = progress["units"].as_array().cloned().unwrap_or_default();
    units.iter().map(|unit| unit.as_str().unwrap().to_owned()).collect()
}

/// Three go on, and take over; two refuse what needs agreement, and say so.
fn part_and_heal(network: &Network, nodes: &[Node]) {
    let lost: Vec<String> = TWO.iter().flat_map(|&place| units(&nodes[place])).collect();
    assert!(!lost.is_empty(), "the two have nothing to lose");
    network.part(&TWO, NAMES.len(), false);
    let since = Instant::now();
    for place in TWO {
        let node = &nodes[place];
        until("the two know", || {
            node.status().is_ok_and(|status| {
                let ledger = &status["ledger"];
                ledger["has_quorum"] == false
                    && ledger["acts"] == false
                    && ledger.to_string().contains("refuses what needs agreement")
            })
        });
        let refused = write(node, "of the two").unwrap_err().to_string();
        let is_plain = refused.contains("nothing was done") || refused.contains("is not known");
        assert!(is_plain, "{refused}");
    }
    println!("the two know after {:?}", since.elapsed());
    until("the three agree", || {
        THREE.iter().all(|&place| {
            write(&nodes[place], &format!("of {place}")).is_ok()
                || ask(
                    &nodes[place],
                    "ledger",
                    &json!({ "Read": { "key": format!("of {place}") } }),
                )
                .is_ok_and(|held| held["value"] == "x")
        })
    });
    until("the three take over", || {
        let taken: Vec<String> = THREE.iter().flat_map(|&place| units(&nodes[place])).collect();
        lost.iter().all(|unit| taken.contains(unit))
    });
    println!("the three have taken over {lost:?} after {:?}", since.elapsed());
    for place in TWO {
        assert_eq!(nodes[place].status().unwrap()["ledger"]["has_quorum"], false);
    }
    network.part(&TWO, NAMES.len(), true);
    assert_heals(nodes, "healed");
    // What the two refused has not happened after all, or all know that it has.
    let held = ask(&nodes[0], "ledger", &json!({ "Read": { "key": "of the two" } }));
    let elsewhere = ask(&nodes[3], "ledger", &json!({ "Read": { "key": "of the two" } }));
    assert_eq!(held.unwrap(), elsewhere.unwrap());
}

/// One node does not hear another, which hears it; both are linked to all others meanwhile.
fn cut_one_way_and_heal(network: &Network, nodes: &[Node]) {
    let (deaf, mute) = (3, 1);
    network.pass(mute, deaf, false);
    let since = Instant::now();
    for (place, other) in [(deaf, mute), (mute, deaf)] {
        until("they lose their link", || {
            nodes[place].status().is_ok_and(|status| {
                let linked = status["linked"].as_array().unwrap();
                !linked.iter().any(|name| name == NAMES[other])
            })
        });
    }
    println!("the link is lost after {:?}", since.elapsed());
    until("others go on", || write(&nodes[4], "one way").is_ok());
    network.pass(mute, deaf, true);
    assert_heals(nodes, "healed from one way");
}

/// Rows that have come to exec, which is on `node`.
fn rows(node: &Node) -> u64 {
    let report = ask(node, "risk", &json!("Report")).unwrap_or_default();
    report["rows"].as_u64().unwrap_or(0)
}

/// A link that is much too slow for the work: the run goes on, as fast as that lets it, and whoever is behind that link
/// is a member all the same, for there is somebody who hears of it.
fn slow_down(network: &Network, nodes: &[Node]) {
    until("rows come to exec", || rows(&nodes[3]) > 0);
    let before = rows(&nodes[3]);
    network.slow(0, Some(SLOW_BYTES));
    let since = Instant::now();
    let (mut looks, mut seen_down) = (0, 0);
    while since.elapsed() < SLOW {
        looks += 1;
        seen_down += u32::from(nodes[3].sees(NAMES[0]) == "down");
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut after = 0;
    until("exec says how far it is", || {
        after = rows(&nodes[3]);
        after > 0
    });
    let more = after.saturating_sub(before);
    println!("slow for {SLOW:?}: {more} rows, seen down {seen_down} times of {looks}");
    network.slow(0, None);
    assert!(more >= SLOW_ROWS_MIN, "{more} rows in {SLOW:?}");
    assert!(seen_down * 5 <= looks, "seen down {seen_down} times of {looks}");
    until("all agree after the slow link", || see_each_other(nodes) && agree(nodes));
}

#[test]
fn three_of_five_go_on_and_all_agree_when_healed() {
    let mut network = Network::new(&NAMES);
    let mut nodes = five(&mut network);
    until("all agree", || see_each_other(&nodes) && agree(&nodes));
    for (node, offset) in nodes.iter_mut().zip(CLOCKS_MS) {
        node.assert_runs();
        let incarnation = node.status().unwrap()["incarnation"].as_i64().unwrap();
        let apart = incarnation - now_ms() - offset;
        assert!(apart.abs() < 60_000, "{}: {apart} ms from where its clock is", node.name);
    }
    until("exec begins", || units(&nodes[3]) == ["exec"]);
    // Exec may be on any of them by then.
    let report_of = |node: &Node| ask(node, &format!("run/{}", node.name), &json!("Report")).ok();
    let assert_goes_on = |when: &str| {
        let is_over = nodes.iter().any(|node| report_of(node).is_some());
        assert!(!is_over, "the run is over {when}");
    };
    let faults: [fn(&Network, &[Node]); PLACES.len()] =
        [slow_down, part_and_heal, cut_one_way_and_heal];
    for (fault, befalls) in faults.into_iter().enumerate() {
        until("the source may go on", || open(&nodes, fault));
        assert_goes_on("before the next fault");
        befalls(&network, &nodes);
    }
    assert_goes_on("before the last fault is");
    until("the source may go on to its end", || open(&nodes, PLACES.len()));
    let since = Instant::now();
    let report = loop {
        match nodes.iter().find_map(report_of) {
            Some(report) => break report,
            None => std::thread::sleep(Duration::from_millis(50)),
        }
        assert!(since.elapsed() < RUN_PATIENCE, "the run does not end");
    };
    assert_one_coordinator_a_term(nodes.iter().map(Node::all_logs), "parted");
    assert_eq!(json_essence(&report), json_essence(&alone()), "after partings");
}

fn now_ms() -> i64 {
    i64::try_from(Clock::system().now().as_nanos() / 1_000_000).unwrap()
}

fn alone() -> Value {
    let scratch = Scratch::new();
    let ended = scratch.run(&["demo", "--ticks", TICKS]);
    assert_eq!(ended.code(), 0, "{ended:?}");
    scratch.report()
}
