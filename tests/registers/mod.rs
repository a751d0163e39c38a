//! Programs that use registers of the ledger by way of real nodes and write down what they see, and what befalls
//! the nodes meanwhile.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tickwright::ctl::{CtlError, CtlTarget, CtlTask};

use crate::common::draw;
use crate::history::{Entry, Saw};
use crate::networks::Network;
use crate::processes::Node;

/// Programs that use the registers at once.
pub(crate) const PROGRAMS: u64 = 5;

/// Registers that they share.
pub(crate) const REGISTERS: usize = 3;

/// For how long at least nodes are struck.
const STRUCK: Duration = Duration::from_secs(8);

/// What befalls a node.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// It is killed, and started again.
    Killed,
    /// It stands still.
    Stopped,
    /// It and the others do not reach each other.
    Cut,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Strike {
    /// How long after the one before.
    after: Duration,
    pub(crate) place: usize,
    fault: Fault,
    lasts: Duration,
}

impl Strike {
    pub(crate) fn befall(self, nodes: &mut [Node], network: &Network) {
        let count = nodes.len();
        let node = &mut nodes[self.place];
        thread::sleep(self.after);
        match self.fault {
            Fault::Killed => node.kill(),
            Fault::Stopped => node.signal("-STOP"),
            Fault::Cut => network.part(&[self.place], count, false),
        }
        thread::sleep(self.lasts);
        match self.fault {
            Fault::Killed => {
                node.start();
            }
            Fault::Stopped => node.signal("-CONT"),
            Fault::Cut => network.part(&[self.place], count, true),
        }
    }
}

fn index(chance: &mut u64, count: usize) -> usize {
    usize::try_from(draw(chance) % count as u64).unwrap()
}

/// Strikes of each kind in turn, one after the other.
pub(crate) fn strikes(seed: u64) -> Vec<Strike> {
    let mut chance = seed;
    let faults = [Fault::Killed, Fault::Stopped, Fault::Cut];
    let first = index(&mut chance, faults.len());
    let (mut strikes, mut end) = (Vec::new(), Duration::ZERO);
    while end < STRUCK {
        let fault = faults[(first + strikes.len()) % faults.len()];
        let mut between =
            |low: u64, high: u64| Duration::from_millis(low + draw(&mut chance) % (high - low));
        let after = between(200, 800);
        let lasts = match fault {
            Fault::Killed => between(100, 600),
            Fault::Stopped | Fault::Cut => between(1_000, 2_000),
        };
        let place = index(&mut chance, 3);
        strikes.push(Strike { after, place, fault, lasts });
        end += after + lasts;
    }
    strikes
}

/// How a program reaches a node, whatever becomes of that meanwhile.
pub(crate) fn target(node: &Node) -> CtlTarget {
    let (on, patience) = (Some(node.name.clone()), Some(Duration::from_secs(2)));
    let url = format!("http://127.0.0.1:{}", node.http);
    let own = node.tools.clone().unwrap_or(CtlTarget {
        url,
        on: None,
        patience: None,
        tls: None,
        token: None,
    });
    CtlTarget { on, patience, ..own }
}

/// What an answer says of a register; none, if it says that nothing was done.
fn seen(answer: &Result<Value, CtlError>) -> Option<Saw> {
    let told = match answer {
        Ok(Value::Null) => return Some(Saw::Version(0)),
        Ok(held) => {
            let version = held["version"].as_u64().unwrap();
            let value = held["value"].as_str().map(|value| value.as_bytes().to_vec());
            return Some(match value {
                Some(value) => Saw::Value(version, value),
                None => Saw::Written(version),
            });
        }
        Err(error) => error.to_string(),
    };
    if let Some((_, rest)) = told.split_once("the register is at version ") {
        let version = rest.split(',').next().unwrap();
        return Some(Saw::Version(version.parse().unwrap()));
    }
    // Whoever is told so may rely on it: what was done all the same, nobody has written.
    (!told.contains("nothing was done")).then_some(Saw::Nothing)
}

/// Reads a register by way of a node, or writes this value where this version is expected.
pub(crate) fn operate(
    target: &CtlTarget,
    register: usize,
    write: Option<(u64, String)>,
    since: Instant,
) -> Option<Entry> {
    let key = format!("register/{register}");
    let (call, expected, value) = match write {
        Some((expected, value)) => {
            let call = json!({ "Cas": { "key": key, "expected": expected, "value": value } });
            (call, expected, Some(value.into_bytes()))
        }
        None => (json!({ "Read": { "key": key } }), 0, None),
    };
    let task = CtlTask::Ask { role: "ledger".into(), body: call.to_string() };
    let now = || u64::try_from(since.elapsed().as_nanos()).unwrap();
    let asked = now();
    let answer = tickwright::ctl::ask(&task, target);
    let at = now();
    let saw = seen(&answer)?;
    let answered = (!matches!(saw, Saw::Nothing)).then_some(at);
    let register = u64::try_from(register).unwrap();
    Some(Entry { register, expected, value, asked, answered, saw })
}

/// A program that reads and writes registers by way of whichever node; what it saw.
pub(crate) fn use_registers(
    program: u64,
    seed: u64,
    targets: &[CtlTarget],
    since: Instant,
    is_over: &AtomicBool,
) -> Vec<Entry> {
    let mut chance = seed.wrapping_mul(PROGRAMS).wrapping_add(program);
    let (mut known, mut number, mut history) = ([0; REGISTERS], 0, Vec::new());
    while !is_over.load(Ordering::Relaxed) {
        let target = &targets[index(&mut chance, targets.len())];
        let register = index(&mut chance, REGISTERS);
        number += 1;
        let is_write = draw(&mut chance) % 100 < 60;
        let write = is_write.then(|| (known[register], format!("{program}/{number}")));
        if let Some(entry) = operate(target, register, write, since) {
            known[register] = entry.version().unwrap_or(known[register]);
            history.push(entry);
        }
        thread::sleep(Duration::from_millis(10 + draw(&mut chance) % 40));
    }
    history
}
