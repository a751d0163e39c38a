//! Nodes that trade at a simulated exchange, and what they hold beside what it has.
#![allow(dead_code, reason = "every test file uses another part of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tickwright::ctl::CtlTask;

use crate::market::Market;
use crate::processes::{Node, PATIENCE};

/// Nodes of these names and duties that share the pipeline of `market`, each with more options; started.
pub(crate) fn nodes(
    market: &Market,
    names: &[(&str, &str)],
    mut more: impl FnMut(&str) -> Vec<String>,
) -> Vec<Node> {
    let mut nodes: Vec<Node> = names.iter().map(|(name, _)| Node::new(name)).collect();
    let seeds: Vec<String> = nodes.iter().map(Node::address).collect();
    let (seeds, config) = (seeds.join(","), market.scratch.path("cluster.toml"));
    let count = names.len().to_string();
    for (node, (name, roles)) in nodes.iter_mut().zip(names) {
        node.options.extend(["--config".to_owned(), config.display().to_string()]);
        for (key, value) in [
            ("cluster.seeds", seeds.as_str()),
            ("node.roles", roles),
            ("pipeline.input", "files"),
            ("pipeline.data", market.data.to_str().unwrap()),
            ("allocation.nodes_min", &count),
        ] {
            node.options.extend(["--set".to_owned(), format!("{key}={value}")]);
        }
        node.options.extend(more(name));
        node.start();
    }
    nodes
}

pub(crate) fn ask_risk(node: &Node, question: &Value) -> Option<Value> {
    let task = CtlTask::Ask { role: "risk".into(), body: question.to_string() };
    node.ask(&task, None).ok()
}

/// What the account has bought less what it has sold, by the exchange's name of each symbol.
pub(crate) fn net(market: &Market) -> BTreeMap<String, f64> {
    let mut net = BTreeMap::new();
    for fill in market.events().iter().filter(|event| event["event"] == "fill") {
        let quantity: f64 = fill["quantity"].as_str().unwrap().parse().unwrap();
        let of = net.entry(fill["symbol"].as_str().unwrap().to_owned()).or_insert(0.0);
        *of += if fill["buyer"].is_null() { -quantity } else { quantity };
    }
    net.retain(|_, quantity| *quantity != 0.0);
    net
}

/// The same of one of the exchange's accounts.
pub(crate) fn net_of(market: &Market, account: &str) -> BTreeMap<String, f64> {
    let orders = market.orders_of(account).into_iter();
    let orders: BTreeSet<u64> = orders.filter_map(|order| order["order_id"].as_u64()).collect();
    let mut net = BTreeMap::new();
    for fill in market.events().iter().filter(|event| event["event"] == "fill") {
        let quantity: f64 = fill["quantity"].as_str().unwrap().parse().unwrap();
        let of = net.entry(fill["symbol"].as_str().unwrap().to_owned()).or_insert(0.0);
        for (side, signed) in [("buyer", quantity), ("seller", -quantity)] {
            let is_of = fill[side]["order_id"].as_u64().is_some_and(|id| orders.contains(&id));
            *of += if is_of { signed } else { 0.0 };
        }
    }
    net.retain(|_, quantity| *quantity != 0.0);
    net
}

/// What exec holds for the one account that trades, by the same names.
pub(crate) fn held(answer: &Value) -> BTreeMap<String, f64> {
    held_by(answer, "main")
}

/// What exec holds for an account, by the same names.
pub(crate) fn held_by(answer: &Value, account: &str) -> BTreeMap<String, f64> {
    let mut accounts = answer["accounts"].as_array().unwrap().iter();
    let of = accounts.find(|of| of["name"] == account).unwrap();
    let held = of["held"].as_object().unwrap().iter();
    let held = held.map(|(symbol, quantity)| {
        let name = symbol.split('.').next().unwrap().to_owned();
        (name, quantity.as_str().unwrap().parse().unwrap())
    });
    held.filter(|(_, quantity)| *quantity != 0.0).collect()
}

/// That exec comes to hold what the account has traded, and lacks nothing of it.
pub(crate) fn assert_positions(node: &Node, market: &Market) {
    let task = CtlTask::Reconcile { adopt: false };
    let begun = Instant::now();
    let last = loop {
        // Exec may be on its way to another node just now, and nobody answers for it.
        let told = node.ask_within(Duration::from_secs(30), &task, None);
        match told {
            Ok(last)
                if last["accounts"][0]["is_complete"] == true && held(&last) == net(market) =>
            {
                break last;
            }
            told => {
                let traded = net(market);
                assert!(
                    begun.elapsed() < PATIENCE,
                    "the account has traded {traded:?}, and known is {told:#?}"
                );
            }
        }
        thread::sleep(Duration::from_millis(100));
    };
    let guarantee = last["accounts"][0]["guarantee"].as_str().unwrap();
    assert!(guarantee.starts_with("no order twice"), "{guarantee}");
    for row in last["accounts"][0]["traded"].as_array().unwrap() {
        let missing: f64 = row["missing"].as_str().unwrap().parse().unwrap();
        assert_eq!(missing, 0.0, "{row}");
    }
}
