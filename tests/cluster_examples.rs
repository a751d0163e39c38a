//! Every example of a cluster starts, and its nodes find each other.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod processes;

use std::path::{Path, PathBuf};

use processes::{Node, until};
use tickwright::ctl::CtlTask;
use tickwright_core::config::Config;

/// The nodes of `examples/NAME`, on ports that are free, in the order of their seeds.
fn example(name: &str) -> Vec<Node> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let parsed = files.iter().map(|file| {
        let text = std::fs::read_to_string(file).unwrap();
        let config = Config::parse(&text, &file.display().to_string());
        (file, config.unwrap_or_else(|problems| panic!("{problems}")))
    });
    let mut members: Vec<(Node, Config)> = parsed
        .map(|(file, config)| {
            let mut node = Node::new(&config.node.name);
            node.options.extend(["--config".to_owned(), file.display().to_string()]);
            // Fewer than a user would like to see.
            node.options.extend(["--set".to_owned(), "simulator.ticks=5000".to_owned()]);
            (node, config)
        })
        .collect();
    // The addresses in the files may be in use; what they mean stays.
    let ports: Vec<(String, u16)> =
        members.iter().map(|(node, config)| (config.cluster.bind.clone(), node.port)).collect();
    let moved = |seed: &String| {
        let found = ports.iter().find(|(address, _)| address == seed);
        let port = found.map_or_else(|| panic!("{seed} is nobody's address"), |(_, port)| port);
        format!("127.0.0.1:{port}")
    };
    for (node, config) in &mut members {
        let seeds: Vec<String> = config.cluster.seeds.iter().map(moved).collect();
        node.options.extend(["--set".to_owned(), format!("cluster.seeds={}", seeds.join(","))]);
    }
    members.into_iter().map(|(node, _)| node).collect()
}

fn starts(name: &str, expected: usize) {
    let mut nodes = example(name);
    assert_eq!(nodes.len(), expected);
    for node in &mut nodes {
        node.start();
    }
    for node in &mut nodes {
        node.is_member();
    }
    let names: Vec<String> = nodes.iter().map(|node| node.name.clone()).collect();
    for node in &nodes {
        for other in &names {
            node.comes_to_see(other, "up");
        }
        until("it is linked to all others", || {
            node.status()
                .is_ok_and(|status| status["linked"].as_array().unwrap().len() == expected - 1)
        });
    }
    let report = |node: &Node| {
        let role = format!("run/{}", node.name);
        node.ask(&CtlTask::Ask { role, body: "\"Report\"".into() }, None).ok()
    };
    until("the run has a report", || nodes.iter().any(|node| report(node).is_some()));
    let report = nodes.iter().find_map(report).unwrap();
    assert_eq!(report["ticks_in"], 5_000);
    assert_eq!(report["nodes"], expected);
    assert_eq!((&report["lost_ticks"], &report["duplicate_orders"]), (&0.into(), &0.into()));
}

#[test]
fn one_node() {
    starts("cluster-one", 1);
}

#[test]
fn three_nodes() {
    starts("cluster-three", 3);
}

#[test]
fn five_nodes() {
    starts("cluster-five", 5);
}
