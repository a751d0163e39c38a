//! The tuner on real nodes: from a bad setting it gets to a better one, on all of them, and explains itself; the
//! node that decides may be lost at any moment.

#![allow(dead_code, reason = "helpers for several test files")]
#![allow(clippy::unwrap_used, reason = "a test")]

mod processes;

use processes::{Node, until};
use serde_json::Value;
use tickwright::ctl::{CtlTask, text};

/// What each node says of its tuner.
fn tuners(node: &Node) -> Vec<Value> {
    let answer = node.ask(&CtlTask::Tuner, None).unwrap_or_default();
    let all = answer.as_array().cloned().unwrap_or_default();
    // One that is lost is asked in vain.
    all.into_iter().filter(|each| each["answer"].is_object()).collect()
}

fn decider(node: &Node) -> Option<Value> {
    tuners(node).into_iter().find(|each| each["answer"]["decides"] == true)
}

fn kept(tuner: &Value) -> usize {
    let decisions = tuner["answer"]["decisions"].as_array().cloned().unwrap_or_default();
    decisions.iter().filter(|decision| decision["verdict"] == "kept").count()
}

#[test]
fn a_bad_setting_becomes_a_better_one_on_all_nodes_whoever_decides() {
    let names = ["data-1", "calc-1", "exec-1"];
    let mut nodes: Vec<Node> = names.iter().map(|name| Node::new(name)).collect();
    let seeds: Vec<String> = nodes.iter().map(Node::address).collect();
    for node in &mut nodes {
        let role = node.name.split('-').next().unwrap().to_owned();
        let sets = [
            format!("cluster.seeds={}", seeds.join(",")),
            format!("node.roles={role},control"),
            "pipeline.input=simulator".into(),
            // It is not over before the test is.
            "simulator.ticks=100000000".into(),
            "allocation.nodes_min=3".into(),
            "pipeline.batch_ticks=1".into(),
            "stream.credit_ticks=2".into(),
            "tuner.enabled=true".into(),
            "tuner.window_ms=40".into(),
            "tuner.stretch_windows=2".into(),
            "tuner.chance_max=0.01".into(),
            "tuner.gain_min=0.1".into(),
        ];
        node.options.extend(sets.into_iter().flat_map(|set| ["--set".to_owned(), set]));
        node.start();
    }
    let mut first = String::new();
    until("something is kept", || {
        let found = decider(&nodes[0]);
        first = found.as_ref().and_then(|it| it["node"].as_str()).unwrap_or_default().to_owned();
        found.is_some_and(|tuner| kept(&tuner) > 0)
    });
    let answer = nodes[1].ask(&CtlTask::Tuner, None).unwrap();
    println!("{}", text(&CtlTask::Tuner, &answer));
    assert_eq!(tuners(&nodes[0]).len(), 3, "the others watch");

    // Whoever decides is lost, with a trial under way or not: the next one goes on, and nobody keeps what was
    // only tried.
    let at = nodes.iter().position(|node| node.name == first).unwrap();
    nodes.remove(at);
    until("another decides, and all go by the same", || {
        let told = tuners(&nodes[0]);
        let settings: Vec<&Value> = told.iter().map(|each| &each["answer"]["settings"]).collect();
        let is_same = settings.len() == 2 && settings[0] == settings[1];
        is_same && decider(&nodes[0]).is_some_and(|tuner| tuner["node"] != first.as_str())
    });
    let settings = decider(&nodes[0]).unwrap()["answer"]["settings"].clone();
    let of = |key: &str| settings[key].as_i64().unwrap();
    assert!(of("pipeline.batch_ticks") > 1 || of("stream.credit_ticks") > 2, "{settings}");
}
