//! What tools do to a pipeline at work: three nodes, asked and told through each of them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "helpers for several test files")]

mod common;
mod processes;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::{Scratch, json_essence};
use processes::{Node, run, text, until};
use serde_json::{Value, json};
use tickwright::ctl::{CtlError, CtlTask};

/// How long a run may take, whatever is done to it.
const RUN_PATIENCE: Duration = Duration::from_secs(120);

/// How long what takes several steps may take.
const DEED_PATIENCE: Duration = Duration::from_secs(60);

const NAMES: [(&str, &str); 3] =
    [("data-1", "data,calc,control"), ("calc-1", "calc,control"), ("exec-1", "exec,calc,control")];

/// Rows enough to be at work still when all is done.
const TICKS: &str = "1000000";

const SHARDS: usize = 6;

fn nodes(more: &[(&str, &str)]) -> Vec<Node> {
    let mut nodes: Vec<Node> = NAMES.iter().map(|(name, _)| Node::new(name)).collect();
    let seeds: Vec<String> = nodes.iter().map(Node::address).collect();
    let (seeds, shards) = (seeds.join(","), SHARDS.to_string());
    for (node, (_, roles)) in nodes.iter_mut().zip(NAMES) {
        let sets = [
            ("cluster.seeds", seeds.as_str()),
            ("node.roles", roles),
            ("pipeline.input", "simulator"),
            ("pipeline.shards", &shards),
            ("simulator.ticks", TICKS),
            ("stream.checkpoint_ticks", "2000"),
            ("allocation.nodes_min", "3"),
            ("allocation.strategy", "balanced"),
            ("allocation.settle_ms", "300"),
            ("allocation.load_report_ms", "200"),
            // What is looked at is not what a busy machine does to sessions.
            ("cluster.heartbeat_ms", "500"),
        ];
        for (key, value) in sets.iter().chain(more) {
            node.options.extend(["--set".to_owned(), format!("{key}={value}")]);
        }
        node.start();
    }
    nodes
}

fn ask(node: &Node, role: &str, question: &str) -> Result<Value, CtlError> {
    node.ask(&CtlTask::Ask { role: role.into(), body: format!("{question:?}") }, None)
}

/// Rows that exec has taken.
fn rows(node: &Node) -> Option<u64> {
    ask(node, "risk", "Report").ok()?["rows"].as_u64()
}

/// The units that the ledger says `name` has.
fn units(node: &Node, name: &str) -> BTreeSet<String> {
    let shards = node.ask(&CtlTask::Shards, None).unwrap_or_default();
    let of = |row: &Value| row["resource"].as_str().unwrap().to_owned();
    shards.as_array().into_iter().flatten().filter(|row| row["owner"] == name).map(of).collect()
}

fn report(nodes: &[Node]) -> Value {
    let begun = Instant::now();
    loop {
        let of = |node: &Node| ask(node, &format!("run/{}", node.name), "Report").ok();
        if let Some(report) = nodes.iter().find_map(of) {
            return report;
        }
        assert!(begun.elapsed() < RUN_PATIENCE, "the run does not end");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The longest time in which exec took nothing while `deed` was done, and what came of it.
fn longest_pause<T>(node: &Node, deed: impl FnOnce() -> T) -> (Duration, T) {
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let (mut last, mut since) = (rows(node).unwrap_or(0), Instant::now());
            let mut longest = Duration::ZERO;
            while !is_done.load(Ordering::Relaxed) {
                if let Some(now) = rows(node).filter(|&now| now > last) {
                    longest = longest.max(since.elapsed());
                    (last, since) = (now, Instant::now());
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            longest.max(since.elapsed())
        });
        let done = deed();
        is_done.store(true, Ordering::Relaxed);
        (watch.join().unwrap(), done)
    })
}

fn deed(node: &Node, task: &CtlTask, on: Option<&str>) -> Result<Value, CtlError> {
    node.ask_within(DEED_PATIENCE, task, on)
}

fn drain(name: &str, undo: bool) -> CtlTask {
    CtlTask::Drain { node: name.into(), undo, waits: true }
}

/// Whether the tree of `name` holds an actor of this name, and how often it was started again.
fn restarts(node: &Node, name: &str, actor: &str) -> Option<u64> {
    fn find<'v>(branches: &'v Value, actor: &str) -> Option<&'v Value> {
        branches.as_array()?.iter().find_map(|branch| {
            if branch["name"] == actor { Some(branch) } else { find(&branch["children"], actor) }
        })
    }
    let tree = node.ask(&CtlTask::Tree, None).ok()?;
    let answer = tree.as_array()?.iter().find(|answer| answer["node"] == name)?;
    find(&answer["answer"]["trees"], actor)?["restarts"].as_u64()
}

#[test]
fn a_pipeline_at_work_is_looked_at_drained_promoted_and_harmed_and_answers_the_same() {
    let alone = {
        let scratch = Scratch::new();
        let ended = scratch.run(&["demo", "--ticks", TICKS]);
        assert_eq!(ended.code(), 0, "{ended:?}");
        scratch.report()
    };
    let nodes = nodes(&[]);
    let [data, calc, exec] = &nodes[..] else { unreachable!() };
    until("exec is at work", || rows(exec) > Some(2_000));
    until("nobody has two more than another", || {
        let counts: Vec<usize> = NAMES.iter().map(|(name, _)| units(data, name).len()).collect();
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        // With the source and exec.
        counts.iter().sum::<usize>() == SHARDS + 2 && most - least <= 1
    });

    // Looked at, through any node.
    let streams = calc.ask(&CtlTask::Streams, None).unwrap();
    let edge = |from: &str, to: &str| {
        let rows = streams.as_array().unwrap();
        rows.iter().find(|row| row["from"] == from && row["to"] == to).cloned().unwrap_or_default()
    };
    for shard in 0..SHARDS {
        let (factors, strategy) = (format!("factors/{shard}"), format!("strategy/{shard}"));
        let ticks = edge("cleaner/0", &factors);
        assert_eq!(ticks["on"], "data-1", "{streams}");
        assert!(ticks["received"].is_string() && ticks["stable"].is_string(), "{ticks}");
        assert!(ticks["session"].is_string() && ticks["epochs"].is_string(), "{ticks}");
        assert!(ticks["credit"].is_u64() && ticks["kept_rows"].is_u64(), "{ticks}");
        assert_eq!(edge(&strategy, "risk")["at"], "exec-1", "{streams}");
    }
    let shown = tickwright::ctl::text(&CtlTask::Streams, &streams);
    assert!(shown.contains("ingester/0") && shown.contains("waiting_rows"), "{shown}");
    // As a scraper sees what the units have counted, each where it is.
    let told = |node: &Node, series: &str| {
        let metrics = node.metrics();
        let of = metrics.lines().filter(|line| line.starts_with(series));
        of.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum::<f64>()
    };
    until("signals are counted", || told(exec, "tickwright_exec_signals ") > 0.0);
    assert!(told(exec, "tickwright_exec_rows ") > 2_000.0 && told(calc, "tickwright_exec_") == 0.0);
    let clean = told(data, "tickwright_source_clean_rows{");
    let read = told(data, "tickwright_source_rows{");
    assert!(clean > 0.0 && read >= clean, "{read} {clean}: {}", data.metrics());
    assert!(told(calc, "tickwright_shard_factor_values{unit=\"shard/") > 0.0, "{}", calc.metrics());
    let one = calc.ask(&CtlTask::Streams, Some("data-1")).unwrap();
    assert!(one.as_array().unwrap().len() < streams.as_array().unwrap().len(), "of one node");
    let load = |name: &str| {
        let members = data.ask(&CtlTask::Members, None).unwrap_or_default();
        let found = members.as_array().unwrap().iter().find(|each| each["id"] == name).cloned();
        found.unwrap_or_default()["load"].as_f64()
    };
    until("loads are known", || NAMES.iter().all(|(name, _)| load(name).is_some()));
    let status = data.status().unwrap();
    assert!(status["load"]["rss_bytes"].as_u64() > Some(1 << 20), "{}", status["load"]);

    // An actor is ended on whichever node has it.
    let shard = units(data, "calc-1").into_iter().find(|unit| unit.starts_with("shard/")).unwrap();
    let actor = shard.replace("shard", "factors");
    assert_eq!(restarts(data, "calc-1", &actor), Some(0));
    let killed = deed(data, &CtlTask::KillActor { actor: actor.clone() }, None).unwrap();
    assert_eq!((&killed["node"], &killed["restarts"]), (&json!("calc-1"), &json!(1)), "{killed}");
    assert_eq!(restarts(exec, "calc-1", &actor), Some(1));
    let killed = deed(calc, &CtlTask::KillActor { actor: "risk".into() }, Some("exec-1")).unwrap();
    assert_eq!(killed["killed"], "risk");
    let refused = |task: &CtlTask, on| deed(data, task, on).unwrap_err().to_string();
    let told = refused(&CtlTask::KillActor { actor: "gateway".into() }, None);
    assert!(told.contains("calc-1, data-1, exec-1; say which by --on"), "{told}");
    let told = refused(&CtlTask::KillActor { actor: "factors/99".into() }, Some("calc-1"));
    assert!(
        told.contains("there is no actor `factors/99` here; there are: ") && told.contains("desk")
    );
    let told = refused(&CtlTask::KillActor { actor: "exec".into() }, Some("exec-1"));
    assert!(told.contains("is a supervisor; end one of its actors: positions"), "{told}");

    // A node is drained, through another one.
    let had = units(data, "calc-1");
    let (pause, drained) = longest_pause(exec, || deed(exec, &drain("calc-1", false), None));
    let drained = drained.unwrap();
    println!("exec took nothing for {pause:?} at most while calc-1 was drained: {drained}");
    assert_eq!(drained["moved"].as_array().unwrap().len(), had.len(), "{drained}");
    assert_eq!(units(calc, "calc-1"), BTreeSet::new());
    let drained = deed(calc, &drain("data-1", false), None).unwrap();
    let moved = drained["moved"].as_array().unwrap();
    assert!(moved.contains(&json!("source/0")), "{drained}");
    deed(calc, &drain("data-1", true), None).unwrap();
    assert!(rows(exec) > Some(0) && ask(exec, "run/exec-1", "Report").is_err(), "it goes on");
    let has_note = |name: &str| {
        let members = data.ask(&CtlTask::Members, None).unwrap_or_default();
        members.as_array().unwrap().iter().any(|m| m["id"] == name && m["is_drained"] == true)
    };
    until("everybody knows", || has_note("calc-1"));
    let told = refused(&drain("calc-9", false), None);
    assert!(told.contains("there is no node calc-9; there are: calc-1, data-1, exec-1"), "{told}");
    // Exec is handed over as well.
    let drained = deed(calc, &drain("exec-1", false), None).unwrap();
    assert!(drained["moved"].as_array().unwrap().contains(&json!("exec")), "{drained}");
    assert_eq!(units(data, "exec-1"), BTreeSet::new());
    let has_exec = data.status().unwrap()["ledger"]["exec"].as_str().unwrap().to_owned();
    assert!(units(data, &has_exec).contains("exec") && has_exec != "exec-1", "{has_exec}");
    deed(data, &drain("exec-1", true), None).unwrap();
    until("exec is brought back", || units(data, "exec-1").contains("exec"));
    let undone = deed(data, &drain("calc-1", true), None).unwrap();
    assert_eq!((&undone["is_drained"], &undone["is_news"]), (&json!(false), &json!(true)));

    // Another node coordinates.
    let coordinator = |node: &Node| node.status().unwrap()["ledger"]["coordinator"].clone();
    assert_eq!(coordinator(data), "calc-1", "the first by name");
    let promoted = deed(data, &CtlTask::Promote { node: Some("exec-1".into()) }, None).unwrap();
    assert_eq!(promoted["coordinator"], "exec-1", "{promoted}");
    until("all know it", || nodes.iter().all(|node| coordinator(node) == "exec-1"));
    let told = refused(&CtlTask::Promote { node: Some("calc-9".into()) }, None);
    assert!(told.contains("node calc-9 has no session"), "{told}");
    let undone = deed(data, &CtlTask::Promote { node: None }, Some("calc-1")).unwrap();
    assert_eq!(undone["coordinator"], "calc-1", "{undone}");

    // By the program, as a user types it; and when nobody is there.
    let url = format!("http://127.0.0.1:{}", data.http);
    let ctl = |words: &[&str]| text(&run(&[&["ctl", "--node", &url], words].concat()));
    let (code, told) = ctl(&["tree", "--on", "exec-1"]);
    assert_eq!(code, 0, "{told}");
    assert!(told.starts_with("exec-1\n") && told.contains("one_for_all"), "{told}");
    assert!(told.lines().any(|line| line.trim_start().starts_with("risk ")), "{told}");
    let (code, told) = ctl(&["--json", "streams"]);
    assert!(code == 0 && serde_json::from_str::<Value>(&told).unwrap().is_array(), "{told}");
    let (code, told) = ctl(&["drain", "calc-7"]);
    assert!(code == 2 && told.contains("there is no node calc-7"), "{code} {told}");
    for words in
        [["tree", "--on", "calc-7"], ["streams", "--on", "calc-7"], ["status", "--on", "calc-7"]]
    {
        let (code, told) = ctl(&words);
        let known = "there is no node calc-7; there are: calc-1, data-1, exec-1";
        assert!(code == 2 && told.contains(known), "{words:?}: {code} {told}");
    }
    let (code, told) = ctl(&["ask", "rsk", "\"Report\""]);
    assert!(code == 2 && told.contains("nobody serves `rsk`; there are: "), "{code} {told}");
    assert!(told.contains("node/*, parameters, risk, run/*, shard/*"), "{told}");
    let (code, told) = ctl(&["parameters", "set", "reversion", "width=2", "width=3"]);
    assert!(code == 2 && told.contains("width is given twice"), "{code} {told}");
    let (code, told) = ctl(&["kill-actor", "factors/99"]);
    assert!(code == 2 && told.contains("no node has an actor `factors/99`"), "{code} {told}");
    let nowhere = ["ctl", "--node", "http://127.0.0.1:1", "drain", "calc-1"];
    let (code, told) = text(&run(&nowhere));
    assert!(code == 2 && told.contains("`tickwright node` starts one"), "{code} {told}");

    let report = report(&nodes);
    assert_eq!(json_essence(&report), json_essence(&alone));
    assert_eq!((&report["lost_ticks"], &report["duplicate_orders"]), (&json!(0), &json!(0)));
}

/// The services of a node are begun anew together, and do no harm to what runs; a part that cannot be kept running
/// takes its node with it, and others have its units.
#[test]
fn services_that_fail_begin_anew_and_a_part_that_gives_up_ends_its_node() {
    const FEW: &str = "600000";
    let alone = {
        let scratch = Scratch::new();
        let ended = scratch.run(&["demo", "--ticks", FEW]);
        assert_eq!(ended.code(), 0, "{ended:?}");
        scratch.report()
    };
    let mut nodes = nodes(&[("simulator.ticks", FEW)]);
    until("exec is at work", || rows(&nodes[2]) > Some(2_000));
    let linked = |node: &Node| {
        let status = node.status().unwrap_or_default();
        status["linked"].as_array().map_or(0, Vec::len)
    };
    for actor in ["links", "membership", "gateway", "listener"] {
        let before = restarts(&nodes[1], "calc-1", actor).unwrap();
        // Whoever would answer may be among those that begin anew.
        let _ = nodes[1].ask(&CtlTask::KillActor { actor: actor.into() }, Some("calc-1"));
        until("it begins anew", || restarts(&nodes[1], "calc-1", actor) > Some(before));
        until("all are linked", || nodes.iter().all(|node| linked(node) == NAMES.len() - 1));
    }
    nodes[1].assert_runs();
    // It coordinates, and has not taken what others have because it knew nobody for a moment.
    assert!(units(&nodes[0], "exec-1").contains("exec"), "{}", nodes[1].log());
    let lost = units(&nodes[0], "calc-1");
    let since = Instant::now();
    while nodes[1].status().is_ok() {
        let _ = nodes[1].ask(&CtlTask::KillActor { actor: "config".into() }, Some("calc-1"));
        assert!(since.elapsed() < DEED_PATIENCE, "it goes on without: {}", nodes[1].log());
    }
    let status = nodes[1].wait_end();
    assert!(!status.success(), "{status}");
    let log = nodes[1].log();
    assert!(log.contains("`config` could not be kept running"), "{log}");
    nodes.remove(1);
    until("others have its units", || {
        let now: BTreeSet<String> =
            ["data-1", "exec-1"].iter().flat_map(|name| units(&nodes[0], name)).collect();
        lost.is_subset(&now)
    });
    let report = report(&nodes);
    assert_eq!(json_essence(&report), json_essence(&alone));
}
