//! Kill switches and the tuner of a process that is in no cluster: tools reach them by `--tools`, a switch outlives
//! the process, and what losses have stopped is started again by an operator.

#![allow(dead_code, reason = "helpers for several test files")]
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;
mod processes;

use common::{Process, Scratch};
use processes::{free_port, until};
use serde_json::{Value, json};
use tickwright::ctl::{self, CtlTarget, CtlTask};

/// A run that tools may ask, which takes about a minute of rows.
struct Run {
    scratch: Scratch,
    target: CtlTarget,
    address: String,
    set: &'static [&'static str],
}

impl Run {
    fn new(set: &'static [&'static str]) -> Self {
        let address = format!("127.0.0.1:{}", free_port());
        let url = format!("http://{address}");
        let target = CtlTarget { url, on: None, patience: None, tls: None, token: None };
        Self { scratch: Scratch::new(), target, address, set }
    }

    fn start(&self) -> Process {
        let words = ["demo", "--ticks", "400000", "--speed", "60x", "--tools", &self.address];
        let mut command = self.scratch.command(&words);
        for set in self.set {
            command.args(["--set", set]);
        }
        let process = self.scratch.start(command);
        until("it lets tools in", || self.report().is_some());
        process
    }

    fn ask(&self, task: &CtlTask) -> Value {
        ctl::ask(task, &self.target).unwrap_or_else(|error| panic!("{task:?}: {error}"))
    }

    /// What exec has judged.
    fn report(&self) -> Option<Value> {
        let task = CtlTask::Ask { role: "risk".into(), body: "\"Report\"".into() };
        ctl::ask(&task, &self.target).ok()
    }

    fn count(&self, pointer: &str) -> u64 {
        let report = self.report().unwrap_or_default();
        report.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
    }

    /// Until more is counted there than is now.
    fn grows(&self, pointer: &str) {
        let before = self.count(pointer);
        until(&format!("{pointer} grows"), || self.count(pointer) > before);
    }
}

/// Orders denied because losses have halted an account.
const HALTED: &str = "/denied/state_halted";

fn kill(what: &str) -> CtlTask {
    CtlTask::Kill { what: what.into(), reason: "a test".into() }
}

fn rearm(what: &str) -> CtlTask {
    CtlTask::Rearm { what: what.into(), reason: "it is over".into() }
}

#[test]
fn a_switch_of_one_process_stops_what_it_does_outlives_it_and_is_turned_back_by_hand_alone() {
    let run = Run::new(&["tuner.enabled=true"]);
    let mut process = run.start();
    run.grows("/approved");
    // What is tuned explains itself.
    until("it decides", || run.ask(&CtlTask::Tuner)[0]["answer"]["decides"] == true);
    let killed = run.ask(&kill("all"));
    assert_eq!((&killed["is_agreed"], &killed["in_effect"]), (&true.into(), &true.into()));
    let approved = run.count("/approved");
    run.grows("/denied/kill_switch");
    assert_eq!(run.count("/approved"), approved);

    // Stored before anything else, so that what comes next goes by it from its first row on.
    process.kill();
    let mut process = run.start();
    let switches = run.ask(&CtlTask::Switches);
    let standing = [("what", "all".into()), ("is_on", json!(true)), ("reason", "a test".into())];
    standing.iter().for_each(|(field, value)| assert_eq!(switches[0][field], *value, "{switches}"));
    until("it goes by it", || run.ask(&CtlTask::Switches)[0]["in_effect"] == true);
    let approved = run.count("/approved");
    run.grows("/denied/kill_switch");
    assert_eq!(run.count("/approved"), approved);
    let said = process.said().1;
    assert!(said.contains("a kill switch is on"), "{said}");

    let armed = run.ask(&rearm("all"));
    assert_eq!(armed["in_effect"], true);
    run.grows("/approved");
    let again = ctl::ask(&rearm("all"), &run.target).unwrap_err().to_string();
    assert!(again.contains("not stopped"), "{again}");
    let unknown = ctl::ask(&kill("strategy:nobody"), &run.target).unwrap_err().to_string();
    assert!(unknown.contains("nobody"), "{unknown}");
    process.kill();
}

#[test]
fn an_account_that_losses_have_stopped_is_started_again_by_an_operator() {
    let run = Run::new(&["risk.drawdown_max=50", "risk.breach_state=halted"]);
    let mut process = run.start();
    until("losses stop it", || run.count(HALTED) > 3);
    // In the currency of the loss; in others it may go on.
    run.grows(HALTED);
    let switches = run.ask(&CtlTask::Switches);
    let (what, reason) = (switches[0]["what"].as_str().unwrap(), &switches[0]["reason"]);
    assert!(what.starts_with("account:"), "{switches}");
    assert!(reason.as_str().unwrap().contains("halted"), "{switches}");
    run.ask(&rearm(what));
    // What it loses counts from here, so it may be stopped again soon.
    until("nothing stops it", || {
        let switches = run.ask(&CtlTask::Switches);
        switches.as_array().unwrap().iter().all(|standing| standing["is_on"] == false)
    });
    process.kill();
}
