//! The world: nodes with their copies of the ledger, lives of shards and of exec, proposers.

use std::collections::BTreeMap;

use tickwright_core::domain::{Basis, Control, NodeId, ParameterChange, Span, Timestamp};
use tickwright_core::ledger::{
    AgreedChange, Command, ControlCommand, Ledger, Opening, Operation, Outcome, Refusal, SessionId,
};

use super::random::Random;

const NODES: usize = 4;
const SHARDS: usize = 2;
/// The place of exec among the units.
const EXEC: usize = SHARDS;
const ROWS: u64 = 60;
/// Steps in which anything may happen; then all that is harmed is well again.
const STEPS: u64 = 700;
/// Steps that a pipeline which is well may take to its end.
const REST: u64 = 4_000;

/// What can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Exec takes no rows beyond a hold from who did not know it.
    Refuse,
    /// Nobody goes on from a checkpoint that does not stand.
    Checkpoints,
    /// Who goes on from a checkpoint knows no more than before.
    TakeOver,
    /// A unit begins only once it has read what was agreed on.
    FreshRead,
    /// Nobody passes a hold.
    Hold,
    /// A change is refused where somebody was further.
    Late,
    /// A change is refused if a part of the pipeline has another life than the one that was asked.
    Lives,
    /// A hold that is not renewed ends.
    Lease,
}

impl Rule {
    pub(crate) const ALL: [Self; 8] = [
        Self::Refuse,
        Self::Checkpoints,
        Self::TakeOver,
        Self::FreshRead,
        Self::Hold,
        Self::Late,
        Self::Lives,
        Self::Lease,
    ];
}

/// What has happened, over all histories.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) changes: u64,
    pub(crate) late: u64,
    pub(crate) moved: u64,
    pub(crate) refused: u64,
    pub(crate) fallen: u64,
    pub(crate) dropped: u64,
    pub(crate) lapsed: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        self.changes += other.changes;
        self.late += other.late;
        self.moved += other.moved;
        self.refused += other.refused;
        self.fallen += other.fallen;
        self.dropped += other.dropped;
        self.lapsed += other.lapsed;
    }
}

/// What a shard made of a row: how many changes it knew, and the last hold.
type Made = (usize, u64);

/// One life of one unit on one node.
#[derive(Clone, Debug)]
struct Life {
    unit: usize,
    epoch: u64,
    node: usize,
    /// What it has learnt of changes.
    known: Control,
    basis: Basis,
    /// The hold before which it has said that it is.
    promised: u64,
    /// The furthest that it has come, also before it crashed.
    passed: u64,
    /// By shard, what is there of its rows; a shard has its own alone.
    rows: Vec<Vec<Made>>,
}

/// What can be gone on from.
#[derive(Clone, Debug)]
struct Checkpoint {
    basis: Basis,
    rows: Vec<Vec<Made>>,
    /// The nodes that keep it.
    on: Vec<usize>,
}

/// Someone who changes parameters.
#[derive(Debug)]
struct Proposer {
    node: usize,
    number: u64,
    at: u64,
    /// By unit: in which epoch it was asked, once it has answered.
    asked: BTreeMap<usize, u64>,
    is_late: bool,
    /// Steps since it last did something.
    idle: u64,
    is_dead: bool,
}

pub(crate) struct World {
    chance: Random,
    /// Whether lives crash often.
    is_restless: bool,
    left_out: Option<Rule>,
    ledger: Ledger,
    sessions: Vec<SessionId>,
    /// What the ledger held after each command that changed something here.
    history: Vec<Control>,
    /// How much of that each node has.
    seen: Vec<usize>,
    lives: Vec<Life>,
    /// The epoch of each unit.
    epochs: Vec<u64>,
    /// The latest life of each shard that exec has heard of, by life of exec (its epoch).
    heard: BTreeMap<u64, Vec<u64>>,
    checkpoints: Vec<Vec<Checkpoint>>,
    proposer: Option<Proposer>,
    /// A change that should not have been made.
    broken: Option<String>,
    pub(crate) counts: Counts,
    pub(crate) log: Vec<String>,
}

fn at(row: u64) -> Timestamp {
    Timestamp::from_nanos(row)
}

fn name(unit: usize) -> String {
    if unit == EXEC { "exec".into() } else { format!("shard/{unit}") }
}

impl World {
    pub(crate) fn new(seed: u64, left_out: Option<Rule>) -> Self {
        let mut world = Self {
            chance: Random::new(seed),
            is_restless: seed.is_multiple_of(2),
            left_out,
            ledger: Ledger::default(),
            sessions: Vec::new(),
            history: vec![Control::default()],
            seen: vec![0; NODES],
            lives: Vec::new(),
            epochs: vec![0; SHARDS + 1],
            heard: BTreeMap::new(),
            checkpoints: vec![Vec::new(); SHARDS + 1],
            proposer: None,
            broken: None,
            counts: Counts::default(),
            log: Vec::new(),
        };
        for node in 0..NODES {
            let opening = Opening {
                node: NodeId(format!("n{node}")),
                incarnation: Default::default(),
                replica: node as u64 + 1,
                priority: 0,
                is_witness: false,
            };
            match world.ledger.apply(&of(Operation::OpenSession(opening))).answer {
                Ok(Outcome::Opened { session }) => world.sessions.push(session),
                other => panic!("{other:?}"),
            }
        }
        for unit in 0..=SHARDS {
            let node = world.chance.index(NODES);
            world.give(unit, node);
        }
        world
    }

    fn has(&self, rule: Rule) -> bool {
        self.left_out != Some(rule)
    }

    fn tell(&mut self, what: impl FnOnce() -> String) {
        self.log.push(what());
    }

    fn latest(&self) -> &Control {
        &self.history[self.history.len() - 1]
    }

    fn control(&mut self, command: ControlCommand) -> Result<u64, Refusal> {
        let applied = self.ledger.apply(&of(Operation::Control(command)));
        if !applied.events.is_empty() {
            self.history.push(self.ledger.changes().control());
        }
        let Outcome::Controlled { number } = applied.answer? else { panic!("another answer") };
        Ok(number)
    }

    /// The coordinator gives `unit` to `node`, where it begins; its life before may go on.
    fn give(&mut self, unit: usize, node: usize) {
        let term = self.ledger.coordinator().term;
        // Twice, so that one which comes back to the same node has another epoch.
        for owner in [None, Some(NodeId(format!("n{node}")))] {
            let operation = Operation::Allocate { term, resource: name(unit), owner };
            match self.ledger.apply(&of(operation)).answer {
                Ok(Outcome::Allocated { epoch }) => self.epochs[unit] = epoch,
                other => panic!("{other:?}"),
            }
        }
        if self.has(Rule::FreshRead) {
            self.seen[node] = self.history.len() - 1;
        }
        let epoch = self.epochs[unit];
        if unit == EXEC {
            self.heard.insert(epoch, vec![0; SHARDS]);
        }
        let known = self.history[self.seen[node]].clone();
        let (basis, rows, promised, passed) = (Basis::default(), Vec::new(), 0, 0);
        let mut life = Life { unit, epoch, node, known, basis, promised, passed, rows };
        self.begin(&mut life);
        self.tell(|| format!("{} begins on n{node} at {epoch}, {:?}", name(unit), life.basis));
        self.lives.push(life);
    }

    /// Goes on from the newest checkpoint that is found and stands.
    fn begin(&mut self, life: &mut Life) {
        life.known = self.history[self.seen[life.node]].clone();
        let kept = std::mem::take(&mut self.checkpoints[life.unit]);
        let mut found: Option<&Checkpoint> = None;
        for checkpoint in &kept {
            // Other nodes may not be there to give theirs.
            let is_here = checkpoint.on.contains(&life.node) || self.chance.percent(50);
            let stands =
                !self.has(Rule::Checkpoints) || life.known.stands_whatever_comes(checkpoint.basis);
            self.counts.dropped += u64::from(is_here && !stands);
            if is_here
                && stands
                && found.is_none_or(|best| best.basis.until < checkpoint.basis.until)
            {
                found = Some(checkpoint);
            }
        }
        (life.basis, life.rows) = match found {
            Some(checkpoint) => (checkpoint.basis, checkpoint.rows.clone()),
            None => (Basis::default(), vec![Vec::new(); SHARDS]),
        };
        self.checkpoints[life.unit] = kept;
        if self.has(Rule::TakeOver) {
            life.basis = life.basis.taken_over(&life.known);
        }
        let _ = life.basis.learn(&life.known);
    }

    /// Learns what its node knows; whoever does not stand any more begins anew.
    fn learn(&mut self, place: usize) {
        let mut life = self.lives[place].clone();
        life.known = self.history[self.seen[life.node]].clone();
        if !life.basis.learn(&life.known) {
            self.counts.fallen += 1;
            self.tell(|| format!("{} falls at {}", name(life.unit), life.epoch));
            self.begin(&mut life);
        }
        self.lives[place] = life;
    }

    /// A shard derives its next row, unless it has to wait.
    fn derive(&mut self, place: usize) {
        let holds = self.has(Rule::Hold);
        let life = &mut self.lives[place];
        let row = life.rows[life.unit].len() as u64 + 1;
        if row > ROWS || (holds && life.known.is_held(at(row))) {
            return;
        }
        life.basis.advance(at(row));
        let made = (life.known.count_at(at(row)), life.basis.known);
        life.rows[life.unit].push(made);
    }

    /// A life of exec takes the next row from some life of a shard.
    fn take(&mut self, place: usize) {
        let shard = self.chance.index(SHARDS);
        let epoch = self.lives[place].epoch;
        let heard = self.heard[&epoch][shard];
        let from: Vec<usize> = (0..self.lives.len())
            .filter(|&other| self.lives[other].unit == shard && self.lives[other].epoch >= heard)
            .collect();
        if from.is_empty() {
            return;
        }
        let from = &self.lives[from[self.chance.index(from.len())]];
        let (speaker, have) = (from.epoch, self.lives[place].rows[shard].len());
        let Some(&made) = from.rows[shard].get(have) else { return };
        self.heard.get_mut(&epoch).unwrap()[shard] = speaker;
        let until = at(have as u64 + 1);
        let life = &self.lives[place];
        if self.has(Rule::Refuse)
            && !life.known.stands_whatever_comes(Basis { until, known: made.1 })
        {
            self.counts.refused += 1;
            return;
        }
        let life = &mut self.lives[place];
        life.rows[shard].push(made);
        life.basis.advance(until);
        life.passed = life.passed.max(until.as_nanos());
    }

    fn put_checkpoint(&mut self, place: usize) {
        let Life { unit, node, basis, rows, .. } = self.lives[place].clone();
        let other = self.chance.index(NODES);
        self.checkpoints[unit].push(Checkpoint { basis, rows, on: vec![node, other] });
        if self.checkpoints[unit].len() > 6 {
            self.checkpoints[unit].remove(0);
        }
    }

    /// The place of the life that the ledger names.
    fn current(&self, unit: usize) -> Option<usize> {
        self.lives.iter().position(|life| life.unit == unit && life.epoch == self.epochs[unit])
    }

    fn propose(&mut self) {
        let Some(mut proposer) = self.proposer.take() else {
            let exec = self.current(EXEC).map_or(0, |place| self.reached(place));
            let (node, row) = (self.chance.index(NODES), exec + self.chance.range(0, 12));
            let (session, at_row) = (self.sessions[node], row.max(1));
            let command =
                ControlCommand::Hold { session, at: at(at_row), lease: Span::from_secs(1) };
            if let Ok(number) = self.control(command) {
                self.tell(|| format!("n{node} holds {at_row} as {number}"));
                let asked = BTreeMap::new();
                let (is_late, is_dead) = (false, false);
                self.proposer =
                    Some(Proposer { node, number, at: at_row, asked, is_late, idle: 0, is_dead });
            }
            return;
        };
        if proposer.is_dead {
            self.proposer = Some(proposer);
            return;
        }
        proposer.idle = 0;
        let number = proposer.number;
        if proposer.is_late {
            self.counts.late += 1;
            self.tell(|| format!("{number} is late"));
            let _ = self.control(ControlCommand::Release { number });
            return;
        }
        if proposer.asked.len() == SHARDS + 1 {
            let parameters = vec![("p".to_owned(), 1.0)];
            let later = self.chance.range(0, 3);
            let change = ParameterChange { at: at(proposer.at + later), strategy: 0, parameters };
            let change = AgreedChange::new(&change, "", "");
            let epoch = |unit: usize, asked: u64| {
                if self.has(Rule::Lives) { asked } else { self.epochs[unit] }
            };
            let asked = proposer.asked.iter();
            let asked = asked.map(|(&unit, &asked)| (name(unit), epoch(unit, asked))).collect();
            let command = ControlCommand::Record { number, change, asked, releases: true };
            match self.control(command) {
                Ok(_) => {
                    self.counts.changes += 1;
                    let exec = self.current(EXEC).map_or(0, |place| self.lives[place].passed);
                    if proposer.at + later <= exec {
                        self.broken =
                            Some(format!("{number} changes what exec had passed: {exec}"));
                    }
                    self.tell(|| format!("{number} changes from {} on", proposer.at + later));
                }
                Err(Refusal::Moved { .. }) => {
                    self.counts.moved += 1;
                    proposer.asked.clear();
                    self.proposer = Some(proposer);
                }
                Err(refusal) => self.tell(|| format!("{number}: {refusal}")),
            }
            return;
        }
        let unit = (0..=SHARDS).find(|unit| !proposer.asked.contains_key(unit)).unwrap();
        // By what its node knows of who has which unit, which may be old.
        let all: Vec<usize> =
            (0..self.lives.len()).filter(|&place| self.lives[place].unit == unit).collect();
        if !all.is_empty() {
            let any = all[self.chance.index(all.len())];
            let is_known = self.chance.percent(60);
            let place = self.current(unit).filter(|_| is_known).unwrap_or(any);
            let (node, epoch) = (self.lives[place].node, self.lives[place].epoch);
            // Whoever is asked has heard of the hold, or does not answer.
            if self.history[self.seen[node]].known() >= number {
                self.learn(place);
                let is_late = self.reached(place) >= proposer.at;
                proposer.is_late |= is_late && self.has(Rule::Late);
                if !is_late {
                    self.lives[place].promised = number;
                }
                proposer.asked.insert(unit, epoch);
            }
        }
        self.proposer = Some(proposer);
    }

    /// How far a life is.
    fn reached(&self, place: usize) -> u64 {
        let life = &self.lives[place];
        life.basis.until.as_nanos().max(life.passed)
    }

    /// What happens to a hold while nobody renews it.
    fn wait_for_proposer(&mut self) {
        let lapses = self.has(Rule::Lease);
        let Some(proposer) = &mut self.proposer else { return };
        proposer.idle += 1;
        if proposer.idle < 60 || !lapses {
            return;
        }
        let number = proposer.number;
        self.counts.lapsed += 1;
        self.tell(|| format!("{number} lapses"));
        let _ = self.control(ControlCommand::Expire { number, renewals: 0 });
        // It may still try to record, and finds that it cannot.
        if self.proposer.as_ref().is_some_and(|proposer| proposer.is_dead) {
            self.proposer = None;
        } else if let Some(proposer) = &mut self.proposer {
            proposer.idle = 0;
        }
    }

    /// A life begins again where it is, by what its node knows.
    fn restart(&mut self, place: usize) {
        let mut life = self.lives[place].clone();
        self.begin(&mut life);
        self.lives[place] = life;
    }

    fn step(&mut self, is_harmed: bool) {
        let place = self.chance.index(self.lives.len());
        if is_harmed && self.is_restless && self.chance.percent(10) {
            return self.restart(place);
        }
        match self.chance.range(0, if is_harmed { 100 } else { 80 }) {
            0..=29 => self.work(place),
            30..=35 => {
                let node = self.chance.index(NODES);
                self.seen[node] = self.history.len() - 1;
            }
            36..=39 => self.put_checkpoint(place),
            40..=54 => self.learn(place),
            55..=69 => {
                let exec = self.current(EXEC).unwrap_or(place);
                self.work(exec);
            }
            70..=75 => self.put_checkpoint(place),
            76..=79 => self.wait_for_proposer(),
            80..=90 => self.propose(),
            91..=93 => {
                let (unit, node) = (self.chance.index(SHARDS + 1), self.chance.index(NODES));
                // A life that is followed sleeps on, or ends.
                if self.chance.percent(30) {
                    self.lives.retain(|life| life.unit != unit);
                }
                self.give(unit, node);
            }
            94..=97 => self.restart(place),
            98 => {
                if let Some(proposer) = &mut self.proposer {
                    proposer.is_dead = true;
                    let node = proposer.node;
                    self.tell(|| format!("the proposer on n{node} dies"));
                }
            }
            99 if self.lives.len() > SHARDS + 1 => {
                let life = &self.lives[place];
                if life.epoch != self.epochs[life.unit] {
                    self.lives.remove(place);
                }
            }
            _ => self.work(place),
        }
    }

    fn work(&mut self, place: usize) {
        if self.lives[place].unit == EXEC { self.take(place) } else { self.derive(place) }
    }

    /// Property 1, and what the rows of 2 are.
    fn check(&self) -> Result<(), String> {
        if let Some(broken) = &self.broken {
            return Err(broken.clone());
        }
        let Some(exec) = self.current(EXEC) else { return Ok(()) };
        for (shard, rows) in self.lives[exec].rows.iter().enumerate() {
            for (&(count, known), row) in rows.iter().zip(1..) {
                let agreed = self.latest().count_at(at(row));
                if count != agreed {
                    return Err(format!(
                        "row {row} of shard {shard} was derived by {count} changes, who knew {known}; \
                         {agreed} were agreed on"
                    ));
                }
            }
        }
        Ok(())
    }

    pub(crate) fn run(&mut self) -> Result<(), String> {
        for _ in 0..STEPS {
            self.step(true);
            self.check()?;
        }
        // From here on all is well: who is not named by the ledger has gone, and proposers too.
        let epochs = self.epochs.clone();
        self.lives.retain(|life| life.epoch == epochs[life.unit]);
        for unit in 0..=SHARDS {
            if self.current(unit).is_none() {
                let node = self.chance.index(NODES);
                self.give(unit, node);
            }
        }
        if let Some(proposer) = &mut self.proposer {
            proposer.is_dead = true;
        }
        for _ in 0..REST {
            self.step(false);
            self.check()?;
        }
        let exec = self.current(EXEC).ok_or("there is no exec")?;
        let have: Vec<usize> = self.lives[exec].rows.iter().map(Vec::len).collect();
        let is_whole = have.iter().all(|&rows| rows as u64 == ROWS);
        if is_whole { Ok(()) } else { Err(format!("exec has {have:?} rows of {ROWS} in the end")) }
    }
}

fn of(operation: Operation) -> Command {
    Command { id: None, operation }
}
