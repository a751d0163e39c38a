//! Exec moves: whatever befalls the node that has it, the orders are those of one undisturbed process.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::thread;
use std::time::{Duration, Instant};

use common::{PATIENCE, Scratch, assert_one_coordinator_a_term, draw, json_essence, market_data};
use serde_json::Value;

/// Schedules, unless `TICKWRIGHT_SCHEDULES` says otherwise; 70 are run before a release, of which 50 kill exec's node
/// over recorded data.
const SCHEDULES: u64 = 14;

/// Rows enough for checkpoints and orders on the way, and few enough for a debug build.
const SIMULATED: [&str; 5] = ["demo", "--ticks", "30000", "--set", "stream.checkpoint_ticks=2000"];

/// The smallest file, where there is recorded data.
const FILE: &str = "ticks/tardis_BTCUSDT_usdm_20200222.csv.gz";

/// What befalls exec's node, in turn, and whether that is over recorded data, where there is any. `wipe` is a
/// restart without the disk. What is no kill changes its input from round to round.
const KINDS: [(&str, bool); 14] = [
    ("kill", true),
    ("wipe", true),
    ("kill", true),
    ("pause", false),
    ("kill", true),
    ("kill", true),
    ("cut", true),
    ("kill", true),
    ("kill", true),
    ("restart", false),
    ("kill", true),
    ("wipe", true),
    ("kill", true),
    ("kill", false),
];

/// Of those, kills over recorded data, with the disk or without.
const KILLS: u64 = 10;

/// The other nodes of three, and of five.
const OTHERS: [&[&str]; 2] = [&["data-1", "calc-1"], &["data-1", "calc-1", "calc-2", "control-1"]];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// One run that goes wrong.
#[derive(Debug)]
struct Schedule {
    nodes: &'static str,
    specs: Vec<String>,
    /// Whether exec's node loses its disk.
    is_wiped: bool,
}

impl Schedule {
    /// A fault of this kind of exec's node, and in every other one something that befalls another node
    /// after it, when that may have exec.
    fn drawn(kind: &str, chance: &mut u64) -> Self {
        let mut draw = |from: u64, until: u64| from + draw(chance) % (until - from);
        let size = usize::try_from(draw(0, 2)).unwrap();
        let at = draw(5, 90);
        let first = match kind {
            "kill" => format!("kill:exec-1@{at}%"),
            "wipe" => format!("restart:exec-1@{at}%:{}ms", draw(500, 4_000)),
            _ => format!("{kind}:exec-1@{at}%:{}ms", draw(100, 6_000)),
        };
        let mut specs = vec![first];
        if draw(0, 2) == 0 {
            let others = OTHERS[size];
            let node = others[usize::try_from(draw(0, others.len() as u64)).unwrap()];
            let kind = ["restart", "pause", "cut"][usize::try_from(draw(0, 3)).unwrap()];
            specs.push(format!("{kind}:{node}@{}%:{}ms", draw(at, 95), draw(100, 3_000)));
        }
        Self { nodes: ["3", "5"][size], specs, is_wiped: kind == "wipe" }
    }

    /// Runs `input` while this happens, and returns the report.
    fn befalls(&self, input: &[&str]) -> Value {
        let scratch = Scratch::new();
        let chaos = self.specs.join(",");
        let options = ["--nodes", self.nodes, "--chaos", &chaos];
        let mut command = scratch.command(&[input, &options].concat());
        // So that nodes say when they act for all.
        command.env("RUST_LOG", "error,tickwright=info").env("NO_COLOR", "1");
        let begun = Instant::now();
        let mut process = scratch.start(command);
        if self.is_wiped {
            let struck = format!("struck: {}", self.specs[0]);
            while !process.said().1.contains(&struck) {
                assert!(begun.elapsed() < PATIENCE, "{chaos}: {:?}", process.said());
                thread::sleep(Duration::from_millis(10));
            }
            std::fs::remove_dir_all(scratch.path("data").join("exec-1")).unwrap();
        }
        let status = process.ends_within(PATIENCE);
        let said = process.said();
        let logs = std::fs::read_dir(scratch.path("data/logs")).unwrap();
        let logs = logs.map(|log| std::fs::read_to_string(log.unwrap().path()).unwrap());
        if !status.is_some_and(|status| status.success()) {
            // What was not seen before is not easily seen again.
            logs.for_each(|log| println!("--- a node\n{log}"));
            panic!("{chaos}: {said:?}");
        }
        assert_one_coordinator_a_term(logs, &chaos);
        let report = scratch.report();
        println!(
            "{:>5.1} s  {} nodes  {} moved  {chaos}{}",
            begun.elapsed().as_secs_f64(),
            self.nodes,
            report["failovers"],
            if self.is_wiped { " without its disk" } else { "" }
        );
        report
    }
}

fn alone(input: &[&str]) -> Value {
    let scratch = Scratch::new();
    let ended = scratch.run(input);
    assert_eq!(ended.code(), 0, "{ended:?}");
    let report = scratch.report();
    assert!(report["orders"]["placed"].as_u64().unwrap() > 0, "nothing was traded");
    report
}

/// Schedules drawn anew in every run, each kind in its turn; a failure prints its seed.
#[test]
fn whatever_befalls_the_node_with_exec_changes_nothing() {
    let mut chance = number("TICKWRIGHT_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("TICKWRIGHT_SEED={chance}");
    let file = market_data().map(|directory| directory.join(FILE).display().to_string());
    let recorded = file
        .as_deref()
        .map(|file| vec!["run", "--set", "stream.checkpoint_ticks=2000", "--data", file]);
    let inputs: Vec<Vec<&str>> = [SIMULATED.to_vec()].into_iter().chain(recorded).collect();
    let expected: Vec<Value> = inputs.iter().map(|input| alone(input)).collect();
    let mut over_recorded = 0;
    for (turn, (kind, is_recorded)) in
        (0..number("TICKWRIGHT_SCHEDULES").unwrap_or(SCHEDULES)).zip(KINDS.into_iter().cycle())
    {
        let is_odd_round = turn / KINDS.len() as u64 % 2 == 1;
        let is_kill = matches!(kind, "kill" | "wipe");
        let is_recorded = is_recorded != (is_odd_round && !is_kill);
        let input = usize::from(is_recorded && inputs.len() > 1);
        over_recorded += u64::from(input == 1 && is_kill);
        let schedule = Schedule::drawn(kind, &mut chance);
        let report = schedule.befalls(&inputs[input]);
        assert_eq!(json_essence(&report), json_essence(&expected[input]), "{schedule:?}");
        assert_eq!((&report["lost_ticks"], &report["duplicate_orders"]), (&0.into(), &0.into()));
        for told in report["chaos"].as_array().unwrap() {
            assert_eq!(told["fired"], true, "{told}");
        }
        if kind == "kill" {
            assert!(report["failovers"].as_u64() >= Some(1), "{schedule:?}: nobody took over");
        }
    }
    println!("{over_recorded} kills over recorded data");
    let rounds = number("TICKWRIGHT_SCHEDULES").unwrap_or(SCHEDULES) / KINDS.len() as u64;
    assert!(inputs.len() == 1 || over_recorded >= rounds * KILLS, "{over_recorded}");
}
