//! What goes wrong, and when: drawn from the seed.

use std::collections::BTreeSet;

use tickwright_core::domain::Incarnation;

use crate::disk::Disk;
use crate::random::Random;
use crate::world::{MILLISECOND, Node, SECOND, What, World, note};

/// One fault.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) at: u64,
    pub(crate) kind: Kind,
    /// How long it lasts, in nanoseconds.
    pub(crate) lasts: u64,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Crash {
        node: usize,
        forgets: bool,
    },
    Pause(usize),
    Cut(Vec<(usize, usize)>),
    /// An operator wants a node empty for a while.
    Drain(usize),
    /// The ledger's leader steps down.
    Depose,
}

/// The world that a seed makes.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) names: Vec<&'static str>,
    /// The first may found.
    pub(crate) seeds: Vec<usize>,
    pub(crate) heartbeat_ms: u64,
    pub(crate) delay: (u64, u64),
    pub(crate) loss: u64,
    pub(crate) twice: u64,
    pub(crate) sources: usize,
    pub(crate) shards: usize,
    pub(crate) rows: u64,
    pub(crate) batch: u64,
    pub(crate) credit: u32,
    pub(crate) retained: usize,
    pub(crate) spacing: u64,
    pub(crate) faults: usize,
    /// Units that may be under way between two nodes at once.
    pub(crate) handovers_max: usize,
    /// In how many of a hundred crashes the disk goes as well.
    pub(crate) forgets: u64,
    /// How long after the last fault everything must be well again.
    pub(crate) patience: u64,
    /// Whether what happens is written down.
    pub(crate) is_told: bool,
    /// Instead of those drawn.
    pub(crate) fixed: Option<Vec<Fault>>,
}

pub(crate) const FAULTS_FROM: u64 = 3 * SECOND;
pub(crate) const FAULTS_UNTIL: u64 = 18 * SECOND;

impl Scenario {
    pub(crate) fn of(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0xabcd);
        let small = random.percent(25);
        let names = if small {
            vec!["data-1", "calc-1", "exec-1"]
        } else {
            vec!["control-1", "data-1", "calc-1", "calc-2", "exec-1"]
        };
        let fast = random.percent(50);
        Self {
            seeds: vec![0, 1],
            names,
            heartbeat_ms: [100, 250, 500][random.index(3)],
            delay: if fast { (50_000, 2 * MILLISECOND) } else { (MILLISECOND, 20 * MILLISECOND) },
            loss: [0, 2, 10][random.index(3)],
            twice: [0, 5, 10][random.index(3)],
            // What is run over what is drawn apart, so that few undisturbed runs serve all seeds.
            sources: 1 + random.index(2),
            shards: 2 + random.index(2),
            rows: 400,
            batch: [7, 16, 40][random.index(3)],
            credit: [16, 64, 200][random.index(3)],
            retained: [0, 50, 1_000][random.index(3)],
            spacing: [20, 60, 150][random.index(3)],
            faults: random.index(7),
            handovers_max: [1, 1, 3][random.index(3)],
            forgets: [0, 20, 50][random.index(3)],
            patience: 120 * SECOND,
            is_told: false,
            fixed: None,
        }
    }

    /// The same world with nothing going wrong.
    pub(crate) fn calm(&self) -> Self {
        Self { faults: 0, loss: 0, twice: 0, fixed: Some(Vec::new()), ..self.clone() }
    }

    pub(crate) fn draw(&self, random: &mut Random) -> (Vec<Node>, Vec<Fault>, u64) {
        let nodes = self.names.iter().map(|name| Node {
            name: (*name).into(),
            duties: vec![name.split('-').next().unwrap_or_default().to_owned()],
            life: 0,
            incarnation: Incarnation(0),
            paused_until: 0,
            // Clocks are hours apart, and up to two in a hundred fast or slow.
            clock: 1_700_000_000 * SECOND + random.range(0, 10_000) * SECOND,
            rate: random.range(980_000, 1_020_000),
            disk: Disk::default(),
            run: None,
        });
        let nodes: Vec<Node> = nodes.collect();
        let faults = match &self.fixed {
            Some(faults) => faults.clone(),
            None => (0..self.faults).map(|_| self.fault(random)).collect(),
        };
        let over = faults.iter().map(|fault| fault.at + fault.lasts).max().unwrap_or(FAULTS_FROM);
        // Connections that are given up late are a fault that lasts, and so is a pause's end.
        (nodes, faults, over + 200 * MILLISECOND)
    }

    fn fault(&self, random: &mut Random) -> Fault {
        let count = self.names.len();
        let node = random.index(count);
        let kind = match random.index(12) {
            0..=3 => {
                // The first seed remembers nobody without its disk, and would found again.
                let forgets = node != self.seeds[0] && random.percent(self.forgets);
                Kind::Crash { node, forgets }
            }
            4 | 5 => Kind::Pause(node),
            6..=8 => Kind::Cut(cut(random, count)),
            9 | 10 => Kind::Drain(node),
            _ => Kind::Depose,
        };
        let at = random.range(FAULTS_FROM, FAULTS_UNTIL);
        Fault { at, kind, lasts: lasting(random) }
    }
}

/// From a blink to much longer than any time-out.
fn lasting(random: &mut Random) -> u64 {
    let most = [200, 1_000, 4_000, 12_000][random.index(4)];
    random.range(20, most) * MILLISECOND
}

fn cut(random: &mut Random, count: usize) -> Vec<(usize, usize)> {
    if random.percent(50) {
        // Two alone, both linked to the rest: one may long not hear what all others know.
        let one = random.index(count);
        let other = (one + 1 + random.index(count - 1)) % count;
        return vec![(one, other), (other, one)];
    }
    let side: BTreeSet<usize> = (0..count).filter(|_| random.percent(40)).collect();
    let (out, back) = [(true, true), (true, true), (true, false), (false, true)][random.index(4)];
    let mut ways = Vec::new();
    for one in 0..count {
        for other in 0..count {
            if side.contains(&one) && !side.contains(&other) {
                ways.extend(out.then_some((one, other)));
                ways.extend(back.then_some((other, one)));
            }
        }
    }
    ways
}

impl World {
    pub(crate) fn strike(&mut self, fault: usize) {
        let Fault { kind, lasts, .. } = self.faults[fault].clone();
        match kind {
            Kind::Crash { node, forgets } => {
                self.crash(node, forgets);
                self.at_world(self.now + lasts, What::Start(node));
            }
            Kind::Pause(node) => {
                note!(self, "{} stands still for {lasts} ns", self.nodes[node].name);
                let until = self.now + lasts;
                self.nodes[node].paused_until = self.nodes[node].paused_until.max(until);
            }
            Kind::Cut(ways) => {
                note!(self, "cut {ways:?}");
                ways.iter().for_each(|&(from, to)| self.cut(from, to));
                self.at_world(self.now + lasts, What::Heal(ways));
            }
            Kind::Drain(node) => {
                let name = self.nodes[node].name.clone();
                note!(self, "{name} is drained for {lasts} ns");
                self.drained.insert(name);
                self.at_world(self.now + lasts, What::Undrain(node));
            }
            Kind::Depose => self.depose(),
        }
    }
}
