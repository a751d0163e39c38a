//! The configuration that all nodes share, by real processes: written anywhere, read everywhere.

#![allow(dead_code, reason = "helpers for several test files")]

mod processes;

use std::time::{Duration, Instant};

use processes::{Node, alone, cluster, until};
use serde_json::Value;
use tickwright::config_sync::{ConfigCall, ConfigFileTask, ConfigPlace};
use tickwright::ctl::{CtlError, CtlTask};

/// What `node.command` sets.
const HEARTBEAT: Duration = Duration::from_millis(200);

fn ask(node: &Node, call: ConfigCall) -> Result<Value, CtlError> {
    node.ask(&CtlTask::Config(call), None)
}

fn set_at(node: &Node, place: ConfigPlace, value: &str) -> Result<Value, CtlError> {
    let (value, merge, author) = (value.to_owned(), "latest".into(), "test".into());
    ask(node, ConfigCall::Set { place, value, priority: 0, merge, author })
}

fn set(node: &Node, key: &str, value: &str) -> Result<Value, CtlError> {
    set_at(node, ConfigPlace::base(key), value)
}

fn get(node: &Node, key: &str) -> Value {
    let answer = ask(node, ConfigCall::Get { key: key.into() }).unwrap_or_default();
    answer["value"].clone()
}

fn status(node: &Node) -> Value {
    ask(node, ConfigCall::Status).unwrap_or_default()
}

/// Every node has heard of `others` others, and has what they have.
fn come_to_agree(nodes: &[&Node]) {
    until("all have the same configuration", || {
        let all: Vec<Value> = nodes.iter().map(|node| status(node)).collect();
        all.iter().all(|status| {
            let heard = status["members"].as_array().map_or(0, Vec::len);
            status["is_equal"] == true
                && heard >= nodes.len() - 1
                && status["root"] == all[0]["root"]
        })
    });
}

#[test]
fn what_is_written_on_any_of_five_nodes_is_read_on_all() {
    let _turn = alone();
    let nodes = cluster(&["a", "b", "c", "d", "e"]);
    come_to_agree(&nodes.iter().collect::<Vec<_>>());
    let mut spreads = Vec::new();
    for round in 0..40 {
        let (key, value) = (format!("user.key_{}", round % 7), round.to_string());
        let writer = &nodes[round % nodes.len()];
        set(writer, &key, &value).unwrap();
        let written = Instant::now();
        for node in &nodes {
            until(&format!("{} reads {key}", node.name), || get(node, &key) == round as u64);
        }
        spreads.push(written.elapsed());
    }
    spreads.sort();
    let (median, slowest) = (spreads[spreads.len() / 2], spreads[spreads.len() - 1]);
    println!(
        "seen on all of 5 nodes: of {} writes the median took {median:?}, the slowest {slowest:?} \
         (heartbeat {HEARTBEAT:?}); asking included",
        spreads.len()
    );
    assert!(slowest <= 2 * HEARTBEAT, "{spreads:?}");
    let pushed = &status(&nodes[0])["delays"];
    println!("from a write until another node has stored it, by its answer: {pushed}");
    assert!(pushed["count"].as_u64().unwrap() > 0, "pushes are answered");
    come_to_agree(&nodes.iter().collect::<Vec<_>>());
}

#[test]
fn a_node_that_is_killed_comes_back_with_what_it_had_and_gets_what_it_missed() {
    let _turn = alone();
    let mut nodes = cluster(&["a", "b", "c"]);
    come_to_agree(&nodes.iter().collect::<Vec<_>>());
    set(&nodes[2], "user.before", "1").unwrap();
    set(&nodes[2], "user.gone", "1").unwrap();
    come_to_agree(&nodes.iter().collect::<Vec<_>>());
    nodes[2].kill();
    set(&nodes[0], "user.meanwhile", "2").unwrap();
    let place = ConfigPlace::base("user.gone");
    ask(&nodes[1], ConfigCall::Unset { place, author: "test".into() }).unwrap();
    nodes[2].start().is_member();
    come_to_agree(&nodes.iter().collect::<Vec<_>>());
    let back = &nodes[2];
    assert_eq!(get(back, "user.before"), 1);
    assert_eq!(get(back, "user.meanwhile"), 2);
    assert_eq!(get(back, "user.gone"), Value::Null, "what was removed stays so");
    // All at once, and nobody is left to ask.
    for node in &mut nodes {
        node.kill();
    }
    for node in &mut nodes {
        node.start();
    }
    for node in &mut nodes {
        node.is_member();
    }
    come_to_agree(&nodes.iter().collect::<Vec<_>>());
    assert_eq!(get(&nodes[0], "user.before"), 1);
    assert_eq!(get(&nodes[1], "user.meanwhile"), 2);
}

/// Three nodes at work on the simulated market, at the pace of its own clock; or without rows, if they
/// may be cut off on command.
fn at_work(is_cut: bool) -> Vec<Node> {
    let names =
        [("data-1", "data,calc,control"), ("calc-1", "calc,control"), ("exec-1", "exec,control")];
    let mut nodes: Vec<Node> = names.iter().map(|(name, _)| Node::new(name)).collect();
    let seeds: Vec<String> = nodes.iter().map(Node::address).collect();
    let seeds = seeds.join(",");
    for (node, (_, roles)) in nodes.iter_mut().zip(names) {
        for (key, value) in [
            ("cluster.seeds", seeds.as_str()),
            ("node.roles", roles),
            ("pipeline.input", "simulator"),
            ("pipeline.speed", "1x"),
            ("simulator.ticks", "none"),
            ("stream.checkpoint_ticks", "500"),
            ("allocation.nodes_min", "3"),
        ] {
            node.options.extend(["--set".to_owned(), format!("{key}={value}")]);
        }
        if is_cut {
            // Sources are held where that is to be.
            let chaos = format!("cut:{}@99%:3s", node.name);
            node.options.extend(["--chaos".to_owned(), chaos]);
        }
        node.start();
    }
    for node in &mut nodes {
        node.is_member();
    }
    come_to_agree(&nodes.iter().collect::<Vec<_>>());
    nodes
}

/// How `key` stands on `node`.
fn standing(node: &Node, key: &str) -> Value {
    let status = status(node);
    let all = status["live"].as_array().cloned().unwrap_or_default();
    all.into_iter().find(|standing| standing["key"] == key).unwrap_or_default()
}

/// Actors on `node` that go by the present value of `key`, if that is `value`, and whether all do.
fn applied(node: &Node, key: &str, value: u64) -> (Vec<String>, bool) {
    let standing = standing(node, key);
    if standing["value"] != value {
        return (Vec::new(), false);
    }
    let readers = standing["applied"].as_object().cloned().unwrap_or_default();
    let (is_now, late): (Vec<_>, Vec<_>) =
        readers.into_iter().partition(|(_, version)| *version == standing["version"]);
    (is_now.into_iter().map(|(reader, _)| reader).collect(), late.is_empty())
}

#[test]
fn actors_at_work_take_new_values_over_and_say_so() {
    let _turn = alone();
    let nodes = at_work(false);
    until("the ingester goes by what is configured", || {
        applied(&nodes[0], "pipeline.batch_ticks", 256).0.contains(&"ingester/0".to_owned())
    });
    set(&nodes[2], "pipeline.batch_ticks", "16").unwrap();
    set(&nodes[1], "stream.credit_ticks", "128").unwrap();
    set(&nodes[0], "stream.checkpoint_ticks", "250").unwrap();
    set(&nodes[2], "journal.commit_ms", "1").unwrap();
    let all = |key: &str, value: u64, reader: &str| {
        until(&format!("{reader} goes by {key} = {value}, as all do"), || {
            let standing: Vec<_> = nodes.iter().map(|node| applied(node, key, value)).collect();
            let has_reader = standing.iter().any(|(now, _)| now.iter().any(|now| now == reader));
            has_reader && standing.iter().all(|(_, is_all)| *is_all)
        });
    };
    all("pipeline.batch_ticks", 16, "ingester/0");
    all("stream.credit_ticks", 128, "cleaner/0");
    all("stream.credit_ticks", 128, "risk, of cleaners");
    all("stream.checkpoint_ticks", 250, "cleaner/0");
    all("journal.commit_ms", 1, "journal");
    let place = ConfigPlace::base("pipeline.batch_ticks");
    ask(&nodes[1], ConfigCall::Unset { place, author: "test".into() }).unwrap();
    all("pipeline.batch_ticks", 256, "ingester/0");
}

#[test]
fn both_sides_of_a_cut_write_and_agree_when_it_is_whole_again() {
    let _turn = alone();
    let nodes = at_work(true);
    set(&nodes[0], "user.k", "0").unwrap();
    come_to_agree(&nodes.iter().collect::<Vec<_>>());
    let role = format!("run/{}", nodes[2].name);
    let cut = CtlTask::Ask { role, body: "{\"CutOff\":3000}".into() };
    until("it is cut off", || nodes[2].ask(&cut, None).is_ok());
    set(&nodes[0], "user.k", "1").unwrap();
    set(&nodes[2], "user.k", "2").unwrap();
    set(&nodes[2], "user.only", "3").unwrap();
    assert_eq!(get(&nodes[0], "user.k"), 1);
    assert_eq!(get(&nodes[2], "user.k"), 2);
    come_to_agree(&nodes.iter().collect::<Vec<_>>());
    assert_eq!(get(&nodes[1], "user.only"), 3);
    assert_eq!(get(&nodes[0], "user.k"), 2, "the later of two that did not know of each other");
    let conflicts = ask(&nodes[1], ConfigCall::Conflicts).unwrap();
    let siblings = conflicts[0]["siblings"].as_array().unwrap();
    assert_eq!(siblings.len(), 2, "{conflicts}");
    let right = siblings.iter().find(|sibling| sibling["value"] == 1).unwrap();
    let (place, dot) = (ConfigPlace::base("user.k"), right["dot"].as_str().unwrap().to_owned());
    ask(&nodes[1], ConfigCall::Resolve { place, dot, author: "test".into() }).unwrap();
    come_to_agree(&nodes.iter().collect::<Vec<_>>());
    assert_eq!(get(&nodes[2], "user.k"), 1);
    assert_eq!(ask(&nodes[0], ConfigCall::Conflicts).unwrap(), serde_json::json!([]));
}

#[test]
fn tools_are_refused_with_the_bound_and_values_are_rolled_back_watched_and_scoped() {
    let mut node = Node::new("a").set("config.environment", "test");
    node.start().is_member();
    let refused = |key: &str, value: &str| set(&node, key, value).unwrap_err().to_string();
    until("it answers", || status(&node)["node"] == "a");
    let below = refused("pipeline.batch_ticks", "0");
    assert!(below.contains("0 is below 1") && below.contains("65536"), "{below}");
    assert!(refused("pipeline.shards", "2").contains("only when a node starts"));
    assert!(refused("pipeline.batch_tick", "2").contains("did you mean pipeline.batch_ticks?"));
    let key = "pipeline.batch_ticks";
    assert_eq!(get(&node, key), 256, "what cluster.toml says");
    let since = ask(&node, ConfigCall::Watch { prefix: String::new(), since: None, wait_ms: 0 });
    let since = since.unwrap()["since"].as_u64();
    set(&node, key, "16").unwrap();
    set(&node, key, "32").unwrap();
    let watched = ConfigCall::Watch { prefix: "pipeline".into(), since, wait_ms: 1_000 };
    let changes = ask(&node, watched).unwrap()["changes"].clone();
    let values: Vec<&Value> = changes.as_array().unwrap().iter().map(|c| &c["value"]).collect();
    assert_eq!(values, [16, 32]);
    // A number of an earlier life, in which there were more.
    let early = Some(since.unwrap() + 1_000);
    let watched = ConfigCall::Watch { prefix: String::new(), since: early, wait_ms: 60_000 };
    assert_eq!(ask(&node, watched).unwrap()["missed"], true);
    let place = ConfigPlace::base(key);
    let back = ConfigCall::Rollback { place: place.clone(), steps: 1, author: "test".into() };
    ask(&node, back).unwrap();
    assert_eq!(get(&node, key), 16);
    let history = ask(&node, ConfigCall::History { place: place.clone() }).unwrap();
    assert_eq!(history.as_array().unwrap().len(), 3, "{history}");
    // The nearer scope counts.
    let of = |node: Option<&str>, environment: Option<&str>| ConfigPlace {
        node: node.map(str::to_owned),
        environment: environment.map(str::to_owned),
        ..place.clone()
    };
    set_at(&node, of(None, Some("other")), "99").unwrap();
    assert_eq!(get(&node, key), 16);
    // What is set for all has no effect where something else is set in particular.
    let is_particular = || standing(&node, key)["is_particular"] == true;
    assert!(!is_particular());
    set_at(&node, of(None, Some("test")), "17").unwrap();
    assert!(is_particular());
    assert_eq!(get(&node, key), 17);
    set_at(&node, of(Some("a"), None), "18").unwrap();
    assert_eq!(get(&node, key), 18);
    let diff = ask(&node, ConfigCall::Diff).unwrap();
    assert_eq!((&diff[0]["cluster_toml"], &diff[0]["value"]), (&256.into(), &18.into()));
    for place in [of(Some("a"), None), of(None, Some("test")), of(None, None)] {
        ask(&node, ConfigCall::Unset { place, author: "test".into() }).unwrap();
    }
    assert_eq!(get(&node, key), 256);
    assert!(!is_particular());
    let audit = ask(&node, ConfigCall::Audit { count: 100 }).unwrap();
    assert_eq!(audit["first_broken"], Value::Null, "the chain is whole");
    assert_eq!(audit["writes"].as_array().unwrap().len(), 9, "{audit}");
    let two = ask(&node, ConfigCall::Audit { count: 2 }).unwrap();
    assert_eq!((two["writes"].as_array().unwrap().len(), &two["verified"]), (2, &9.into()));
    let metrics = node.metrics();
    for line in ["tickwright_config_keys 1.0", "tickwright_config_writes_count_total 9"] {
        assert!(metrics.lines().any(|told| told == line), "{line} is not in\n{metrics}");
    }
}

#[test]
fn what_is_set_is_kept_in_a_file_and_brought_back() {
    let mut node = Node::new("a");
    node.start().is_member();
    until("it answers", || status(&node)["node"] == "a");
    set(&node, "pipeline.batch_ticks", "64").unwrap();
    set(&node, "user.model", "momentum").unwrap();
    set_at(
        &node,
        ConfigPlace { node: Some("a".into()), ..ConfigPlace::base("user.model") },
        "mean",
    )
    .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("kept.toml");
    let by = |task| node.ask(&CtlTask::ConfigFile(task, "test".into()), None);
    by(ConfigFileTask::Backup(file.clone())).unwrap();
    let kept = std::fs::read_to_string(&file).unwrap();
    let lines = ["[all]", "\"pipeline.batch_ticks\" = 64", "\"user.model\" = \"momentum\""];
    let all: Vec<&str> =
        lines.into_iter().chain(["[\"node a\"]", "\"user.model\" = \"mean\""]).collect();
    assert_eq!(kept.lines().collect::<Vec<_>>(), all);
    let again = by(ConfigFileTask::Backup(file.clone())).unwrap_err().to_string();
    assert!(again.contains("kept.toml"), "nothing is written over: {again}");

    // What the tuner is trying is in no file, and one that has it brings it back to nobody.
    let trying = "[[\"pipeline.batch_ticks\", 64]]";
    set(&node, "user.tuner.trial", &Value::from(trying).to_string()).unwrap();
    set(&node, "pipeline.batch_ticks", "96").unwrap();
    assert_eq!(by(ConfigFileTask::Export).unwrap()["told"], kept.as_str());
    let old = directory.path().join("old.toml");
    let trial = "\"user.tuner.trial\" = \"[[\\\"pipeline.batch_ticks\\\", 9]]\"\n";
    std::fs::write(&old, kept.replacen("[all]\n", &format!("[all]\n{trial}"), 1)).unwrap();
    assert_eq!(by(ConfigFileTask::Restore(old)).unwrap()["changed"], 1);
    assert_eq!(get(&node, "pipeline.batch_ticks"), 64);
    assert_eq!(get(&node, "user.tuner.trial"), trying);

    set(&node, "pipeline.batch_ticks", "128").unwrap();
    set(&node, "user.more", "1").unwrap();
    let imported = by(ConfigFileTask::Import(file.clone())).unwrap();
    assert_eq!(imported["changed"], 1, "{imported}");
    assert_eq!(
        (get(&node, "pipeline.batch_ticks"), get(&node, "user.more")),
        (64.into(), 1.into())
    );
    let restored = by(ConfigFileTask::Restore(file.clone())).unwrap();
    assert_eq!(restored["changed"], 1, "{restored}");
    assert_eq!(by(ConfigFileTask::Export).unwrap()["told"], kept.as_str());

    // One line that is wrong, and nothing is done.
    std::fs::write(&file, "[all]\n\"user.model\" = \"x\"\n\"pipeline.batch_ticks\" = 0\n").unwrap();
    let refused = by(ConfigFileTask::Restore(file)).unwrap_err().to_string();
    assert!(refused.contains("65536"), "{refused}");
    assert_eq!(by(ConfigFileTask::Export).unwrap()["told"], kept.as_str());
}
