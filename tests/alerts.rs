//! What an operator hears of a cluster of real processes: once, in time, and when it is over.

#![allow(dead_code, reason = "helpers for several test files")]
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;
mod processes;

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::draw;
use processes::{Node, PROGRAM, alone, text, until};
use serde_json::Value;
use tickwright::ctl::CtlTask;

fn alerts(node: &Node) -> Value {
    node.ask(&CtlTask::Alerts, None).unwrap_or_default()
}

/// What stands about `about`, as `node` gathers it.
fn standing(node: &Node, about: &str) -> Vec<Value> {
    let all = alerts(node)["standing"].as_array().cloned().unwrap_or_default();
    all.into_iter().filter(|alert| alert["about"] == about).collect()
}

/// Who tells, once exactly one does.
fn teller(node: &Node) -> String {
    let mut told_by = String::new();
    until("one of them tells", || {
        let by = alerts(node)["told_by"].as_array().cloned().unwrap_or_default();
        told_by = by.first().and_then(Value::as_str).unwrap_or_default().to_owned();
        by.len() == 1
    });
    told_by
}

#[test]
fn a_node_that_is_killed_is_an_alert_once_and_is_none_when_it_is_back() {
    let _turn = alone();
    let directory = tempfile::tempdir().unwrap();
    let (program, heard) = pager(directory.path());
    let mut nodes: Vec<Node> = ["a", "b", "c"].iter().map(|name| Node::new(name)).collect();
    let seed = nodes[0].address();
    for node in &mut nodes {
        for (key, value) in [
            ("cluster.seeds", seed.as_str()),
            ("alerts.node_offline_ms", "3000"),
            ("alerts.hold_ms", "500"),
            ("alerts.look_ms", "200"),
            ("alerts.command", program.to_str().unwrap()),
        ] {
            node.options.extend(["--set".to_owned(), format!("{key}={value}")]);
        }
        node.start();
    }
    for node in &mut nodes {
        node.is_member();
    }
    let told_by = teller(&nodes[0]);
    for name in ["a", "b", "c"] {
        nodes.iter().for_each(|node| node.comes_to_see(name, "up"));
    }
    // One that does not coordinate, so that it is told by one node and by no successor again.
    let lost = nodes.iter().position(|node| node.name != told_by).unwrap();
    let asked = (lost + 1) % 3;
    let name = nodes[lost].name.clone();
    assert!(standing(&nodes[asked], &name).is_empty());

    nodes[lost].kill();
    let killed = Instant::now();
    until("it is an alert, told by that one", || {
        standing(&nodes[asked], &name).iter().any(|alert| alert["said_by"] == *told_by)
    });
    let took = killed.elapsed();
    println!("raised {took:?} after the kill, with a limit of 3 s");
    assert!(took > Duration::from_millis(2_000), "{took:?}");
    assert!(took < Duration::from_secs(8), "{took:?}");
    let alert = standing(&nodes[asked], &name).remove(0);
    assert_eq!(
        (&alert["kind"], &alert["said_by"]),
        (&"node_offline".into(), &told_by.as_str().into())
    );
    let line = format!("tickwright_alert{{kind=\"node_offline\",about=\"{name}\"}} 1.0");
    let has_line = |node: &Node| node.metrics().lines().any(|told| told == line);
    let telling: Vec<bool> =
        (0..3).filter(|&at| at != lost).map(|at| has_line(&nodes[at])).collect();
    assert_eq!(telling.iter().filter(|&&is_so| is_so).count(), 1, "one node has it: {telling:?}");
    let output = std::process::Command::new(PROGRAM)
        .args(["ctl", "--node", &format!("http://127.0.0.1:{}", nodes[asked].http), "alerts"])
        .output()
        .unwrap();
    let (code, told) = text(&output);
    assert!(
        code == 0 && told.contains(&format!("node {name} has not been heard of for")),
        "{told}"
    );

    nodes[lost].start().is_member();
    until("it is over", || standing(&nodes[asked], &name).is_empty());
    let over = alerts(&nodes[asked])["over"].as_array().cloned().unwrap();
    assert!(
        over.iter().any(|alert| alert["about"] == *name && alert["cleared_ms"].is_u64()),
        "{over:?}"
    );
    let lines = || fs::read_to_string(&heard).unwrap_or_default();
    until("the program has heard both", || lines().lines().count() >= 2);
    std::thread::sleep(Duration::from_millis(500));
    let told: Vec<Value> =
        lines().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let course: Vec<(&str, bool)> =
        told.iter().map(|it| (it["about"].as_str().unwrap(), it["cleared_ms"].is_null())).collect();
    assert_eq!(course, [(name.as_str(), true), (name.as_str(), false)], "{told:?}");
    let logs: usize =
        nodes.iter().map(|node| node.all_logs().matches("has not been heard of for").count()).sum();
    assert_eq!(logs, 1, "in one log, once");
}

/// Whoever coordinated is lost itself: its successor tells of it.
#[test]
fn the_loss_of_the_node_that_tells_is_told_by_its_successor() {
    let _turn = alone();
    let mut nodes: Vec<Node> = ["a", "b", "c"].iter().map(|name| Node::new(name)).collect();
    let seed = nodes[0].address();
    for node in &mut nodes {
        for (key, value) in [
            ("cluster.seeds", seed.as_str()),
            ("alerts.node_offline_ms", "2000"),
            ("alerts.look_ms", "200"),
        ] {
            node.options.extend(["--set".to_owned(), format!("{key}={value}")]);
        }
        node.start();
    }
    for node in &mut nodes {
        node.is_member();
    }
    for name in ["a", "b", "c"] {
        nodes.iter().for_each(|node| node.comes_to_see(name, "up"));
    }
    let told_by = teller(&nodes[0]);
    let lost = nodes.iter().position(|node| node.name == told_by).unwrap();
    nodes[lost].kill();
    let asked = (lost + 1) % 3;
    until("another one tells, and of that", || {
        let all = alerts(&nodes[asked]);
        let is_told =
            all["told_by"].as_array().is_some_and(|by| by.len() == 1 && by[0] != *told_by);
        is_told && standing(&nodes[asked], &told_by).len() == 1
    });
    until("it is in a log", || {
        let text = format!("node {told_by} has not been heard of for");
        nodes.iter().any(|node| node.all_logs().contains(&text))
    });
}

/// A program that keeps what it is told in a file.
fn pager(directory: &Path) -> (PathBuf, PathBuf) {
    let (program, heard) = (directory.join("page"), directory.join("heard"));
    fs::write(&program, format!("#!/bin/sh\ncat >> {}\n", heard.display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    (program, heard)
}

fn heard_of(heard: &Path, kind: &str) -> Vec<String> {
    let lines = fs::read_to_string(heard).unwrap_or_default();
    let told = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let of_kind = told.filter(|it| it["kind"] == kind && it["cleared_ms"].is_null());
    of_kind.map(|it| it["about"].as_str().unwrap().to_owned()).collect()
}

/// Bars of a wave that quick averages earn by, and from one on of noise by which they lose.
fn bars(path: &Path, count: u32, noise_from: u32) {
    let mut text = "ts_ns,symbol,open,high,low,close,volume\n".to_owned();
    let (mut before, mut chance) = (1_000.0_f64, 5);
    for minute in 1..=count {
        let phase = f64::from(minute) * std::f64::consts::TAU / 12.0;
        let random = (draw(&mut chance) % 1_000) as f64 / 1_000.0 - 0.5;
        let move_by = if minute < noise_from { phase.sin() } else { random };
        let close = 1_000.0 + 20.0 * move_by;
        let (high, low) = (before.max(close) + 0.1, before.min(close) - 0.1);
        let end = 1_640_991_600_000_000_000 + u64::from(minute) * 60_000_000_000;
        writeln!(text, "{end},ABC-USD.TEST,{before:.2},{high:.2},{low:.2},{close:.2},900").unwrap();
        before = close;
    }
    fs::write(path, text).unwrap();
}

/// Waits longer than for what a cluster does by itself: until a run has come so far.
fn comes(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(150), "{what} does not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_run_that_traded_well_and_does_not_any_more_is_an_alert_on_every_node_and_told_once() {
    let _turn = alone();
    let directory = tempfile::tempdir().unwrap();
    let (program, heard) = pager(directory.path());
    let data = directory.path().join("bars.csv");
    bars(&data, 20_000, 2_000);
    let roles =
        [("data-1", "data,control"), ("calc-1", "calc,control"), ("exec-1", "exec,control")];
    let mut nodes: Vec<Node> = roles.iter().map(|(name, _)| Node::new(name)).collect();
    let seeds: Vec<String> = nodes.iter().map(Node::address).collect();
    for (node, (_, roles)) in nodes.iter_mut().zip(roles) {
        for (key, value) in [
            ("cluster.seeds", seeds.join(",").as_str()),
            ("cluster.heartbeat_ms", "500"),
            ("node.roles", roles),
            ("allocation.nodes_min", "3"),
            ("pipeline.input", "files"),
            ("pipeline.data", data.to_str().unwrap()),
            // A bar of a minute in a fiftieth of a second.
            ("pipeline.speed", "3000x"),
            ("strategy.crossing.parameters.fast", "2"),
            ("strategy.crossing.parameters.slow", "4"),
            ("strategy.crossing.parameters.window_s", "0"),
            ("strategy.reversion.symbols", "NONE"),
            ("alerts.look_ms", "200"),
            ("alerts.command", program.to_str().unwrap()),
            ("optimise.looks", "8"),
            ("optimise.look_ms", "300"),
            // Only how many trades earned counts.
            ("optimise.weight_profit_rate", "0"),
            ("optimise.weight_sharpe", "0"),
            ("optimise.weight_drawdown", "0"),
            ("optimise.trades_min", "3"),
        ] {
            node.options.extend(["--set".to_owned(), format!("{key}={value}")]);
        }
        node.start();
    }
    for node in &mut nodes {
        node.is_member();
    }
    let earned = || {
        let task = CtlTask::Ask { role: "risk".into(), body: "\"Earned\"".into() };
        nodes[0].ask(&task, None).unwrap_or_default()["USD"].clone()
    };
    comes("the run trades well", || {
        let earned = earned();
        let trades = earned["trades_closed"].as_u64().unwrap_or(0);
        trades > 60 && earned["win_rate"].as_f64().is_some_and(|rate| rate > 0.9)
    });
    assert_eq!(heard_of(&heard, "quality_decline"), Vec::<String>::new(), "it does well");
    comes("every node says that it does worse", || {
        nodes.iter().all(|node| {
            let standing = standing(node, "main");
            standing.len() == 1 && standing[0]["kind"] == "quality_decline"
        })
    });
    println!("{} when {}", standing(&nodes[0], "main")[0]["text"], earned()["win_rate"]);
    let output = std::process::Command::new(PROGRAM)
        .args(["ctl", "--node", &format!("http://127.0.0.1:{}", nodes[2].http), "alerts"])
        .output()
        .unwrap();
    let (code, told) = text(&output);
    assert!(code == 0 && told.contains("the live score of main has fallen by"), "{told}");
    comes("the program hears of it", || !heard_of(&heard, "quality_decline").is_empty());
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(heard_of(&heard, "quality_decline"), ["main"], "once");
    let logs = nodes.iter().map(|node| node.all_logs().matches("the live score of main").count());
    assert_eq!(logs.sum::<usize>(), 1, "in one log, once");
}

#[test]
fn trials_that_fail_on_a_node_are_an_alert_about_it_on_every_node_and_told_once() {
    let _turn = alone();
    let directory = tempfile::tempdir().unwrap();
    let (program, heard) = pager(directory.path());
    let data = directory.path().join("bars.csv");
    bars(&data, 1_000, 1_000);
    let mut nodes: Vec<Node> = ["a", "b"].iter().map(|name| Node::new(name)).collect();
    let seed = nodes[0].address();
    for node in &mut nodes {
        for (key, value) in [
            ("cluster.seeds", seed.as_str()),
            ("pipeline.input", "none"),
            ("optimise.data", &format!("[{data:?}]")),
            ("optimise.strategy", "crossing"),
            ("optimise.search", "random"),
            // The strategy refuses a fast average that is slower than the slow one.
            ("optimise.space", "[\"fast = int 100..900\", \"slow = int 2..50\"]"),
            ("optimise.max_explorations", "200"),
            ("optimise.patience", "0"),
            ("optimise.workers", "1"),
            ("alerts.look_ms", "200"),
            ("alerts.command", program.to_str().unwrap()),
        ] {
            node.options.extend(["--set".to_owned(), format!("{key}={value}")]);
        }
        node.start();
    }
    for node in &mut nodes {
        node.is_member();
    }
    let is_told = |node: &Node, about: &str| {
        let standing = standing(node, about);
        standing.len() == 1 && standing[0]["kind"] == "trial_failures"
    };
    until("both nodes say so of both", || {
        nodes.iter().all(|node| is_told(node, "a") && is_told(node, "b"))
    });
    until("the program hears of both", || heard_of(&heard, "trial_failures").len() >= 2);
    std::thread::sleep(Duration::from_secs(2));
    let mut told = heard_of(&heard, "trial_failures");
    told.sort_unstable();
    assert_eq!(told, ["a", "b"], "each once");
}
