//! What the seeds have seen: a property that nothing has put to the test is kept by anybody.

use std::collections::BTreeMap;

use crate::faults::Kind;
use crate::history::{Entry, SLOTS, Saw};
use crate::world::World;

/// Seeds in which everything comes about; in fewer some of it may not, by chance.
const ENOUGH: usize = 250;

/// What can go wrong.
const FAULTS: [&str; 6] =
    ["crash", "crash without its disk", "pause", "cut", "drain", "leader deposed"];

/// What programs can hear of what they do with registers and slots.
const ANSWERS: [&str; 7] = [
    "register written",
    "register refused",
    "register read",
    "register without an answer",
    "slot written",
    "slot refused",
    "slot without an answer",
];

/// What all seeds together have seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    events: u64,
    rewinds: u64,
    stale_frames: u64,
    handovers: u64,
    exec_moves: u64,
    faults: BTreeMap<&'static str, u64>,
    answers: BTreeMap<&'static str, u64>,
}

impl Seen {
    pub(crate) fn add(&mut self, world: &World) {
        self.events += world.events;
        self.rewinds += world.rewinds;
        self.stale_frames += world.stale_frames;
        self.handovers += world.handovers;
        self.exec_moves += world.exec_moves;
        for fault in world.faults.iter().filter(|fault| fault.at <= world.now) {
            *self.faults.entry(name(&fault.kind)).or_default() += 1;
        }
        for entry in &world.service.history {
            *self.answers.entry(answer(entry)).or_default() += 1;
        }
    }

    /// Tells it; of enough seeds, that everything there is to be seen was.
    pub(crate) fn check(&self, ran: usize) {
        println!("{ran} seeds: {self:?}");
        if ran < ENOUGH {
            return;
        }
        let missing = |all: &[&'static str], seen: &BTreeMap<&'static str, u64>| {
            all.iter().copied().filter(|name| !seen.contains_key(name)).collect::<Vec<_>>()
        };
        let missing = [missing(&FAULTS, &self.faults), missing(&ANSWERS, &self.answers)].concat();
        assert!(missing.is_empty(), "never seen: {missing:?}");
        let moved = [self.rewinds, self.handovers, self.exec_moves];
        assert!(moved.iter().all(|&count| count > 0), "{self:?}");
    }
}

fn name(kind: &Kind) -> &'static str {
    match kind {
        Kind::Crash { forgets: false, .. } => FAULTS[0],
        Kind::Crash { forgets: true, .. } => FAULTS[1],
        Kind::Pause(_) => FAULTS[2],
        Kind::Cut(_) => FAULTS[3],
        Kind::Drain(_) => FAULTS[4],
        Kind::Depose => FAULTS[5],
    }
}

fn answer(entry: &Entry) -> &'static str {
    let is_slot = entry.register >= SLOTS;
    match (&entry.saw, is_slot) {
        (Saw::Written(_), false) => ANSWERS[0],
        (Saw::Version(_), false) if entry.value.is_some() => ANSWERS[1],
        // One that was never written.
        (Saw::Version(_) | Saw::Value(..), false) => ANSWERS[2],
        (Saw::Nothing, false) => ANSWERS[3],
        (Saw::Written(_), true) => ANSWERS[4],
        (Saw::Version(_) | Saw::Value(..), true) => ANSWERS[5],
        (Saw::Nothing, true) => ANSWERS[6],
    }
}
