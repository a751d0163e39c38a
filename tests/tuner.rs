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

fn decisions(tuner: &Value) -> Vec<Value> {
    tuner["answer"]["decisions"].as_array().cloned().unwrap_or_default()
}

fn stays(decision: &Value) -> bool {
    decision["verdict"] == "kept" || decision["verdict"] == "relieved"
}

/// What is being tried: setting, from, to.
fn trying(tuner: &Value) -> Vec<(String, i64, i64)> {
    serde_json::from_value(tuner["answer"]["trying"].clone()).unwrap_or_default()
}

/// The settings as `tuner` has them, but for what is only being tried.
fn standing(tuner: &Value) -> Value {
    let mut settings = tuner["answer"]["settings"].clone();
    for (key, from, _) in trying(tuner) {
        settings[key] = from.into();
    }
    settings
}

/// What `tuner` has with nothing kept since `before` but what was decided to be.
fn expected(before: &Value, tuner: &Value) -> Value {
    let name = |decision: &Value| (decision["window"].clone(), decision["changed"].clone());
    let known: Vec<_> = decisions(before).iter().map(name).collect();
    let mut settings = standing(before);
    let is_new = |decision: &Value| stays(decision) && !known.contains(&name(decision));
    for decision in decisions(tuner).into_iter().filter(is_new) {
        for change in decision["changed"].as_array().unwrap() {
            settings[change[0].as_str().unwrap()] = change[2].clone();
        }
    }
    settings
}

/// Whoever decides, just after a trial has begun that has taken effect: far from its end.
fn at_the_beginning_of_a_trial(node: &Node) -> Value {
    let (mut before, mut found) = (None, Value::Null);
    until("a trial begins", || {
        let Some(tuner) = decider(node) else { return false };
        let tried = trying(&tuner);
        let is_other = before.replace(tried.clone()).is_some_and(|before| before != tried);
        let settings = &tuner["answer"]["settings"];
        let is_set = tried.iter().all(|(key, _, to)| settings[key] == *to);
        let has_begun = is_other && is_set && !tried.is_empty();
        found = tuner;
        has_begun
    });
    found
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
    until("something is kept", || {
        decider(&nodes[0]).is_some_and(|tuner| decisions(&tuner).iter().any(stays))
    });
    let answer = nodes[1].ask(&CtlTask::Tuner, None).unwrap();
    println!("{}", text(&CtlTask::Tuner, &answer));
    assert_eq!(tuners(&nodes[0]).len(), 3, "the others watch");
    let mut looks = 0;
    until("all have been asked some times", || {
        let told = tuners(&nodes[0]);
        let deciders = told.iter().filter(|each| each["answer"]["decides"] == true).count();
        // One that has not answered in time may be the one that decides.
        assert!(deciders == 1 || deciders == 0 && told.len() < 3, "{told:?}");
        looks += deciders;
        looks == 20
    });

    // Whoever decides is lost with a trial under way: the next one goes on, and what was only tried is taken back.
    let before = at_the_beginning_of_a_trial(&nodes[0]);
    let first = before["node"].as_str().unwrap().to_owned();
    let at = nodes.iter().position(|node| node.name == first).unwrap();
    nodes.remove(at);
    println!("{first} is lost while it tries {:?}", trying(&before));
    until("another decides, and nothing is kept that was only tried", || {
        let found = decider(&nodes[0]).filter(|tuner| tuner["node"] != first.as_str());
        found.is_some_and(|tuner| {
            let (found, expected) = (standing(&tuner), expected(&before, &tuner));
            if found != expected {
                println!("{found} is not {expected} yet");
            }
            found == expected
        })
    });
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
