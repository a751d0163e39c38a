//! What an operator hears of a cluster of real processes: once, in time, and when it is over.

#![allow(dead_code, reason = "helpers for several test files")]
#![allow(clippy::unwrap_used, reason = "a test")]

mod processes;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

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

fn metrics(node: &Node) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", node.http)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_node_that_is_killed_is_an_alert_once_and_is_none_when_it_is_back() {
    let _turn = alone();
    let directory = tempfile::tempdir().unwrap();
    let (program, heard) = (directory.path().join("page"), directory.path().join("heard"));
    fs::write(&program, format!("#!/bin/sh\ncat >> {}\n", heard.display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
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
    let has_line = |node: &Node| metrics(node).lines().any(|told| told == line);
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
