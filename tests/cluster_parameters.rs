//! Parameters of strategies that are changed while a pipeline runs on three nodes: from the same row on,
//! everywhere, whoever is lost on the way.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "helpers for several test files")]

mod common;
mod gated;
mod processes;

use std::collections::BTreeMap;
use std::time::Duration;

use processes::{Node, report_within, units, until};
use serde_json::{Value, json};
use tickwright::ctl::{self, CtlError, CtlTarget, CtlTask, ParameterSetting};
use tickwright::kit::Store;
use tickwright_core::domain::Timestamp;

const RUN_PATIENCE: Duration = Duration::from_secs(120);

/// How long a change may take.
const CHANGE_PATIENCE: Duration = Duration::from_secs(20);

/// Ten minutes of market time from 2024-08-08 01:32:00 on, in which there is time for all that is done.
const TICKS: u64 = 250_000;
const SPEED: &str = "30x";

/// Five minutes into the run.
const AT: Timestamp = Timestamp::from_nanos(1_723_081_020_000_000_000);

/// Half-way to that.
const EARLIER: Timestamp = Timestamp::from_nanos(1_723_080_870_000_000_000);

const WIDTH: (&str, f64) = ("width", 2.5);
const PERIOD: (&str, f64) = ("period", 30.0);

fn nodes() -> Vec<Node> {
    let names =
        [("data-1", "data,control"), ("calc-1", "calc,control"), ("exec-1", "exec,control")];
    let mut nodes: Vec<Node> = names.iter().map(|(name, _)| Node::new(name)).collect();
    let seeds: Vec<String> = nodes.iter().map(Node::address).collect();
    let (seeds, ticks) = (seeds.join(","), TICKS.to_string());
    for (node, (_, roles)) in nodes.iter_mut().zip(names) {
        for (key, value) in [
            ("cluster.seeds", seeds.as_str()),
            ("node.roles", roles),
            ("pipeline.input", "simulator"),
            ("pipeline.shards", "3"),
            ("simulator.ticks", ticks.as_str()),
            ("pipeline.speed", SPEED),
            ("stream.checkpoint_ticks", "2000"),
            ("allocation.nodes_min", "3"),
        ] {
            node.options.extend(["--set".to_owned(), format!("{key}={value}")]);
        }
        node.start();
    }
    nodes
}

fn set(
    node: &Node,
    strategy: &str,
    (name, value): (&str, f64),
    at: Option<Timestamp>,
) -> Result<Value, CtlError> {
    let setting = ParameterSetting {
        strategy: strategy.into(),
        parameters: BTreeMap::from([(name.to_owned(), value)]),
        at,
        why: "a test".into(),
    };
    node.ask_within(CHANGE_PATIENCE, &CtlTask::SetParameters(setting), None)
}

fn ask(node: &Node, question: &Value, on: Option<&str>) -> Result<Value, CtlError> {
    let body = question.to_string();
    node.ask_within(CHANGE_PATIENCE, &CtlTask::Ask { role: "parameters".into(), body }, on)
}

/// How far exec is in event time.
fn time(node: &Node) -> Option<Timestamp> {
    let task = CtlTask::Ask { role: "risk".into(), body: "\"Report\"".into() };
    node.ask(&task, None).ok()?["time_ns"].as_u64().map(Timestamp::from_nanos)
}

fn held_from(node: &Node) -> Option<u64> {
    node.ask(&CtlTask::Parameters, None).ok()?["held_from_ns"].as_u64()
}

/// The digest of a run in one process that is given these changes before its first row.
fn alone(changes: &[((&str, f64), Timestamp)]) -> String {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.unwrap();
    let digest = runtime.block_on(async {
        let (node, gate) = gated::start_over(TICKS, "", &[], Store::in_memory()).await;
        for &((name, value), at) in changes {
            let parameters = [(name.to_owned(), value)];
            node.set_parameters(0, &parameters, Some(at), gated::PATIENCE).await.unwrap();
        }
        gate.open();
        gated::finish(node).await.0
    });
    runtime.shutdown_background();
    digest
}

/// The node is lost with all it knows.
fn lose(node: &mut Node) {
    node.kill();
    std::fs::remove_dir_all(node.directory.path().join("data")).unwrap();
}

#[test]
fn a_change_holds_from_the_same_row_as_in_one_process_though_nodes_are_lost_with_their_disks() {
    let expected = alone(&[(WIDTH, EARLIER), (PERIOD, AT)]);
    let mut nodes = nodes();
    until("exec is at work", || time(&nodes[0]) > Some(Timestamp::default()));
    let strategy = {
        let shown = nodes[1].ask(&CtlTask::Parameters, None).unwrap();
        assert_eq!(shown["changes"], json!([]));
        assert_eq!(shown["strategies"][0]["parameters"]["width"], 2.0, "{shown}");
        shown["strategies"][0]["strategy"].as_str().unwrap().to_owned()
    };
    for (name, parameter, problem) in [
        ("nobody", WIDTH, "there is no strategy `nobody`; there are: "),
        (strategy.as_str(), ("widht", 2.0), "has no parameter `widht`"),
        (&strategy, ("period", 1.0), "it must be a whole number from 2 to 100000"),
    ] {
        let refused = set(&nodes[2], name, parameter, None).unwrap_err().to_string();
        assert!(refused.contains(problem), "{refused}");
    }
    let refused = set(&nodes[0], &strategy, WIDTH, Some(Timestamp::from_nanos(1))).unwrap_err();
    assert!(refused.to_string().contains("event time has reached"), "{refused}");

    // Between two rows, far before either is reached, through two nodes.
    let done = set(&nodes[0], &strategy, PERIOD, Some(AT)).unwrap();
    assert_eq!(done["from_ns"], AT.as_nanos());
    set(&nodes[2], &strategy, WIDTH, Some(EARLIER)).unwrap();
    let reached = time(&nodes[0]);
    assert!(reached < Some(EARLIER), "the run is too fast for this test: {reached:?}");

    // Who has the shards is lost, and whoever follows begins before the changes.
    until("calc-1 has shards", || !units(&nodes[1]).is_empty());
    let lost = units(&nodes[1]);
    lose(&mut nodes[1]);
    until("others take them over", || {
        let there = [units(&nodes[0]), units(&nodes[2])].concat();
        lost.iter().all(|unit| there.contains(unit))
    });
    nodes[1].start().is_member();
    until("the first change holds", || time(&nodes[0]) > Some(EARLIER));
    until("calc-1 has shards again", || !units(&nodes[1]).is_empty());
    lose(&mut nodes[1]);
    let shown = nodes[0].ask(&CtlTask::Parameters, None).unwrap();
    let told = tickwright::ctl::text(&CtlTask::Parameters, &shown);
    assert!(told.contains("width=2.5") && told.contains("a test"), "{told}");

    let report = report_within(RUN_PATIENCE, &nodes);
    assert_eq!(report["order_digest"], expected);
    assert_eq!((&report["lost_ticks"], &report["duplicate_orders"]), (&0.into(), &0.into()));
    let changes = report["parameter_changes"].as_array().unwrap();
    let shown: Vec<_> = changes.iter().map(|it| (&it["from_ns"], &it["parameters"])).collect();
    let (first, second) = (json!({ "width": 2.5 }), json!({ "period": 30.0 }));
    let (earlier, later) = (json!(EARLIER.as_nanos()), json!(AT.as_nanos()));
    assert_eq!(shown, [(&earlier, &first), (&later, &second)]);
    assert_eq!((&changes[0]["strategy"], &changes[0]["why"]), (&json!(strategy), &json!("a test")));
    until("nothing is changed any more", || {
        let refused = set(&nodes[0], &strategy, WIDTH, None).unwrap_err().to_string();
        refused.contains("the run is over")
    });
}

/// First one who lives and does not renew, then one who is killed before it records: nobody stands still for ever,
/// and nothing has changed.
#[test]
fn who_dies_with_the_pipeline_held_does_not_stop_it_for_ever() {
    let unchanged = alone(&[]);
    let mut nodes = nodes();
    until("exec is at work", || time(&nodes[0]) > Some(Timestamp::default()));
    let hold = |node: &Node, at: Timestamp, lease_ms: u64, on: &str| {
        let hold = json!({ "at_ns": at.as_nanos(), "lease_ms": lease_ms });
        ask(node, &json!({ "HoldPipeline": hold }), Some(on)).unwrap()
    };
    hold(&nodes[0], EARLIER, 500, "data-1");
    until("the lease is over", || held_from(&nodes[0]).is_none());

    let number = hold(&nodes[0], AT, 600_000, "calc-1")["number"].clone();
    let late = json!({ "HoldPipeline": { "at_ns": 1, "lease_ms": 500 } });
    // While voters change there may be no answer in time.
    until("another one is refused", || {
        let refused = ask(&nodes[0], &late, None).unwrap_err().to_string();
        refused.contains("somebody else holds the pipeline")
    });
    // All that may pass has passed once nothing has moved for many looks.
    let mut last = (None, 0);
    until("everybody waits", || {
        let now = time(&nodes[0]);
        last = if now.is_some() && now == last.0 { (now, last.1 + 1) } else { (now, 0) };
        last.1 > 40
    });
    assert!(last.0 < Some(AT), "{:?} was passed: {AT:?}", last.0);
    assert_eq!(held_from(&nodes[2]), Some(AT.as_nanos()));
    nodes[1].kill();
    until("the pipeline goes on", || time(&nodes[0]) > Some(AT));
    let adopt = json!({ "AdoptParameters": {
        "number": number, "strategy": "reversion", "parameters": { "width": 2.5 },
        "by": "a test", "why": "too late",
    } });
    let refused = ask(&nodes[0], &adopt, None).unwrap_err().to_string();
    assert!(refused.contains("the pipeline is not held any more"), "{refused}");
    let report = report_within(RUN_PATIENCE, &nodes);
    assert_eq!(report["order_digest"], unchanged);
    assert_eq!(report["parameter_changes"], json!([]));
}

#[test]
fn tools_change_parameters_of_a_run_of_one_process_as_well() {
    let (scratch, port) = (common::Scratch::new(), processes::free_port());
    let address = format!("127.0.0.1:{port}");
    // Four minutes of market time in some seconds.
    let words = ["demo", "--ticks", "100000", "--speed", "60x", "--tools", &address];
    let process = scratch.start(scratch.command(&words));
    let target = CtlTarget {
        url: format!("http://{address}"),
        on: None,
        patience: Some(CHANGE_PATIENCE),
        tls: None,
        token: None,
    };
    until("it lets tools in", || ctl::ask(&CtlTask::Parameters, &target).is_ok());
    let setting = ParameterSetting {
        strategy: "reversion".into(),
        parameters: BTreeMap::from([("width".to_owned(), 2.5)]),
        at: None,
        why: "a test".into(),
    };
    let done = ctl::ask(&CtlTask::SetParameters(setting), &target).unwrap();
    // And it says what it has counted.
    let mut metrics = String::new();
    until("rows are counted", || {
        metrics = processes::metrics_at(port);
        let mut rows =
            metrics.lines().filter_map(|line| line.strip_prefix("tickwright_exec_rows "));
        rows.next().is_some_and(|rows| rows.parse::<f64>().unwrap() > 0.0)
    });
    assert!(metrics.contains("tickwright_source_clean_rows{unit=\"source/0\""), "{metrics}");
    let ended = common::finish(process);
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert!(ended.stdout.contains("Parameters changed"), "{ended:?}");
    let changes = &scratch.report()["parameter_changes"];
    assert_eq!(changes[0]["from_ns"], done["from_ns"], "{changes}");
    assert_eq!(changes[0]["parameters"], json!({ "width": 2.5 }));
    let refused = scratch.run(&["demo", "--nodes", "2", "--tools", &address]);
    assert!(refused.refused().contains("--tools is for one process"), "{refused:?}");
}
