//! The parts of a small pipeline, each with the real ends of its streams: sources that deal rows out to
//! shards, shards that answer rows with signals, and an exec that takes both in lockstep. What each does
//! is a hash over all it has had, so that whatever is lost, twice or out of order shows in the digest.

mod brokers;
mod checkpoints;
mod handover;
mod work;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tickwright_core::cluster::{Peer, Unit};
use tickwright_core::domain::{Key, Kind, Tick, TickBatch};
use tickwright_core::stream::{
    Block, Frame, Lockstep, LockstepSnapshot, Merge, Merging, Outflow, SignalBatch,
};

use brokers::Brokers;
use checkpoints::Checkpoints;

use crate::disk::Write;
use crate::faults::Scenario;
use crate::mail::{Mail, Pump, Rows, Say};
use crate::random::mix;
use crate::world::{Broken, World, note};

const LATENCY: u64 = 350;

/// What there is to be worked off.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    sources: usize,
    shards: usize,
    rows: u64,
}

impl Workload {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        Self { sources: scenario.sources, shards: scenario.shards, rows: scenario.rows }
    }

    pub(crate) fn units(&self) -> impl Iterator<Item = Unit> + use<> {
        Unit::all(self.sources, self.shards)
    }

    fn sources(&self) -> impl Iterator<Item = Unit> + use<> {
        self.units().filter(|unit| matches!(unit, Unit::Source(_)))
    }

    fn shards(&self) -> impl Iterator<Item = Unit> + use<> {
        self.units().filter(|unit| matches!(unit, Unit::Shard(_)))
    }

    /// The key and content of a row; `row` counts from 0.
    fn row(&self, source: u16, row: u64) -> (Key, Tick) {
        // Rows of all sources share frontiers, and some of one source do.
        let key = Key::of(1_000 + row / 2 * 100, source, row + 1);
        let value = mix(row * 16 + u64::from(source));
        let kind = if row % 12 == 11 { Kind::Boundary } else { Kind::Trade };
        let tick = Tick {
            price: i64::try_from(value >> 8).unwrap(),
            symbol: u32::try_from(value % 8).unwrap(),
            kind: kind as u8,
            ..Tick::default()
        };
        (key, tick)
    }
}

/// What a consumer tells its producer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Demand {
    Subscribe { session: u64, after: Key, credit: u32 },
    Credit { session: u64, rows: u32 },
    Stable(Key),
}

/// Where frames of a session go.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    /// By which link; none within the node.
    pub(crate) link: Option<usize>,
    /// Which actor of this node it was that subscribed.
    pub(crate) serial: Option<u64>,
    epoch: u64,
    number: u64,
    /// A frame could not be sent: nothing else will be.
    is_dead: bool,
}

/// One output.
#[derive(Debug)]
pub(crate) struct Output<B> {
    to: Unit,
    flow: Outflow<B>,
    way: Option<Way>,
}

/// What survives of an actor.
#[derive(Clone, Debug)]
pub(crate) enum State {
    Source { next: u64, hash: u64 },
    Shard { hash: u64 },
    Exec(Box<ExecState>),
}

#[derive(Clone, Debug)]
pub(crate) struct ExecState {
    lockstep: LockstepSnapshot,
    brokers: Brokers,
    digest: u64,
}

/// A unit that runs.
#[derive(Debug)]
pub(crate) struct Actor {
    pub(crate) unit: Unit,
    /// Tells actors of one process apart.
    pub(crate) serial: u64,
    epoch: u64,
    pub(crate) pumps: BTreeMap<Unit, Pump>,
    /// Who subscribed last, by consumer.
    pub(crate) last: BTreeMap<Unit, (Peer, u64)>,
    position: Key,
    checkpoints: Checkpoints,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Source(Source),
    Shard(Shard),
    Exec(Box<Exec>),
}

#[derive(Debug)]
struct Source {
    next: u64,
    hash: u64,
    dealt: Vec<TickBatch>,
    frames_waiting: usize,
    /// All rows for exec, then each shard's.
    outputs: Vec<Output<TickBatch>>,
    is_waiting: bool,
}

#[derive(Debug)]
struct Shard {
    merge: Merge<TickBatch>,
    hash: u64,
    output: Output<SignalBatch>,
}

#[derive(Debug)]
struct Exec {
    lockstep: Lockstep,
    brokers: Brokers,
    digest: u64,
    rows: u64,
    inbox: VecDeque<(usize, u64, Frame<TickBatch>)>,
    is_awaited: bool,
    is_done: bool,
}

impl Actor {
    pub(crate) fn tell(&self) -> String {
        let at =
            format!("at {} kept {:?} pumps {:?}", self.position, self.checkpoints.kept, self.pumps);
        let of = |flow: &dyn Fn() -> (Key, Option<u64>, u64, bool)| format!("{:?}", flow());
        match &self.body {
            Body::Source(source) => {
                let outputs = source.outputs.iter().map(|output| {
                    let flow = &output.flow;
                    let state =
                        of(&|| (flow.complete(), flow.session(), flow.credit(), flow.has_room()));
                    format!("\n        {}: {state} {:?}", output.to, output.way)
                });
                format!("row {} {at}{}", source.next, outputs.collect::<String>())
            }
            Body::Shard(shard) => {
                let flow = &shard.output.flow;
                let state =
                    of(&|| (flow.complete(), flow.session(), flow.credit(), flow.has_room()));
                format!("{at}\n        out {state} in {}", shard.merge.complete())
            }
            Body::Exec(exec) => format!(
                "{at}\n        ready {} inbox {} awaited {} wants rows {} at {}",
                exec.lockstep.ready_rows(),
                exec.inbox.len(),
                exec.is_awaited,
                exec.lockstep.wants_rows(),
                exec.lockstep.position()
            ),
        }
    }
}

fn number(unit: Unit) -> usize {
    match unit {
        Unit::Source(number) | Unit::Shard(number) => usize::from(number),
        Unit::Exec => 0,
    }
}

impl World {
    pub(crate) fn with_actor(
        &mut self,
        node: usize,
        unit: Unit,
        then: impl FnOnce(&mut Self, &mut Actor),
    ) {
        let Some(mut actor) = self.run_of(node).actors.remove(&unit) else { return };
        then(self, &mut actor);
        self.run_of(node).actors.insert(unit, actor);
    }

    pub(crate) fn on_ready(&mut self, node: usize, unit: Unit, epoch: u64) -> Result<(), Broken> {
        let run = self.run_of(node);
        if run.beginning.get(&unit) != Some(&epoch) {
            return Ok(());
        }
        run.beginning.remove(&unit);
        run.hosted.insert(unit, epoch);
        run.port.on_hosted(unit, epoch);
        self.on_services(node);
        let run = self.run_of(node);
        let serial = run.port.next_serial();
        let Scenario { retained, spacing, .. } = self.scenario;
        let workload = self.workload.clone();
        let output = |to| Output { to, flow: Outflow::new(Key::START, retained), way: None };
        let body = match unit {
            Unit::Source(_) => Body::Source(Source {
                next: 0,
                hash: 0,
                dealt: Vec::new(),
                frames_waiting: 0,
                outputs: [Unit::Exec].into_iter().chain(workload.shards()).map(output).collect(),
                is_waiting: false,
            }),
            Unit::Shard(_) => Body::Shard(Shard {
                merge: Merge::new(workload.sources),
                hash: 0,
                output: Output {
                    to: Unit::Exec,
                    flow: Outflow::new(Key::START, retained),
                    way: None,
                },
            }),
            Unit::Exec => Body::Exec(Box::new(Exec {
                lockstep: Lockstep::new(Merging::Key, LATENCY, workload.sources, workload.shards),
                brokers: Brokers::default(),
                digest: 0,
                rows: 0,
                inbox: VecDeque::new(),
                is_awaited: false,
                is_done: false,
            })),
        };
        let checkpoints = Checkpoints {
            kept: self.nodes[node].disk.keys(unit),
            spacing,
            rows: 0,
            in_flight: Vec::new(),
            abandoned: Vec::new(),
            announced: Key::START,
            is_closed: false,
        };
        let mut actor = Actor {
            unit,
            serial,
            epoch,
            pumps: BTreeMap::new(),
            last: BTreeMap::new(),
            position: Key::START,
            checkpoints,
            body,
        };
        self.go_back(node, &mut actor, Key::END);
        if unit == Unit::Exec {
            let before = self.exec_at.replace(node);
            self.exec_moves += u64::from(before.is_some_and(|before| before != node));
        }
        note!(self, "{unit} begins at {} on {}", actor.position, self.nodes[node].name);
        self.subscribe_all(node, &mut actor);
        let consumers: Vec<Unit> = match &actor.body {
            Body::Source(source) => source.outputs.iter().map(|output| output.to).collect(),
            Body::Shard(_) => vec![Unit::Exec],
            Body::Exec(_) => Vec::new(),
        };
        self.run_of(node).actors.insert(unit, actor);
        for to in consumers {
            self.hello(node, unit, to);
        }
        if matches!(unit, Unit::Exec | Unit::Source(_)) {
            self.with_actor(node, unit, |world, actor| world.go_on(node, actor));
        }
        Ok(())
    }

    fn go_back(&mut self, node: usize, actor: &mut Actor, to: Key) {
        let newest = actor.checkpoints.newest(to);
        let state = newest.map(|key| {
            self.nodes[node].disk.get(actor.unit, key).expect("it is kept until it is trimmed")
        });
        let position = newest.unwrap_or(Key::START);
        actor.position = position;
        self.rewinds += 1;
        match (&mut actor.body, state) {
            (Body::Source(source), state) => {
                (source.next, source.hash) = match state {
                    Some(State::Source { next, hash }) => (next, hash),
                    _ => (0, 0),
                };
                source.dealt = vec![TickBatch::default(); source.outputs.len() - 1];
                source.frames_waiting = 0;
                source.outputs.iter_mut().for_each(|output| output.flow.rewind(position));
            }
            (Body::Shard(shard), state) => {
                shard.hash = if let Some(State::Shard { hash }) = state { hash } else { 0 };
                shard.output.flow.rewind(position);
            }
            (Body::Exec(exec), Some(State::Exec(state))) => {
                exec.lockstep.restore(state.lockstep);
                exec.brokers = state.brokers;
                exec.digest = state.digest;
            }
            (Body::Exec(exec), _) => {
                exec.lockstep.restore(LockstepSnapshot::default());
                exec.brokers = Brokers::default();
                exec.digest = 0;
            }
        }
    }

    fn subscribe_all(&mut self, node: usize, actor: &mut Actor) {
        let producers: Vec<Unit> = match actor.unit {
            Unit::Source(_) => Vec::new(),
            Unit::Shard(_) => self.workload.sources().collect(),
            Unit::Exec => self.workload.sources().chain(self.workload.shards()).collect(),
        };
        for from in producers {
            self.subscribe(node, actor, from);
        }
    }

    /// A producer has started anew, or is reached by another way.
    pub(crate) fn producer_is_back(&mut self, node: usize, actor: &mut Actor, from: Unit) {
        self.subscribe(node, actor, from);
        self.go_on(node, actor);
    }

    fn subscribe(&mut self, node: usize, actor: &mut Actor, from: Unit) {
        let session = self.run_of(node).port.next_session();
        let credit = self.scenario.credit;
        let input = number(from);
        let demand = match (&mut actor.body, from) {
            (Body::Shard(shard), _) => {
                shard.merge.resume(input, session, actor.position);
                Demand::Subscribe { session, after: actor.position, credit }
            }
            (Body::Exec(exec), Unit::Source(_)) => {
                let held = exec.lockstep.ready_rows_of(input);
                let merge = exec.lockstep.ticks();
                let waiting = merge.reconnect(input, session, held);
                let (after, credit) = (merge.received(input), credit.saturating_sub(waiting));
                Demand::Subscribe { session, after, credit }
            }
            (Body::Exec(exec), _) => {
                let merge = exec.lockstep.signals();
                let waiting = merge.reconnect(input, session, 0);
                let (after, credit) = (merge.received(input), credit.saturating_sub(waiting));
                Demand::Subscribe { session, after, credit }
            }
            (Body::Source(_), _) => return,
        };
        self.demand(node, actor, from, demand);
    }

    /// A consumer says something to the producer `actor`.
    pub(crate) fn on_demand(
        &mut self,
        node: usize,
        actor: &mut Actor,
        to: Unit,
        demand: &Demand,
        by: Option<(usize, u64)>,
    ) {
        let serial = self.run_of(node).actors.get(&to).map(|consumer| consumer.serial);
        let way = Way {
            link: by.map(|(link, _)| link),
            serial,
            epoch: by.map_or(0, |(_, epoch)| epoch),
            number: 0,
            is_dead: false,
        };
        let rewind = match &mut actor.body {
            Body::Source(source) => {
                let output = source.outputs.iter_mut().find(|output| output.to == to);
                demanded(output.expect("only consumers demand"), demand, way)
            }
            Body::Shard(shard) => demanded(&mut shard.output, demand, way),
            Body::Exec(_) => None,
        };
        if let Some(to) = rewind {
            self.go_back(node, actor, to);
            self.subscribe_all(node, actor);
        }
        if matches!(demand, Demand::Stable(_)) {
            self.announce_stable(node, actor);
        }
        if rewind.is_none() {
            self.send(node, actor);
        }
        self.go_on(node, actor);
    }

    fn announce_stable(&mut self, node: usize, actor: &mut Actor) {
        let stable = match &actor.body {
            Body::Source(source) => {
                source.outputs.iter().map(|output| output.flow.stable()).min().expect("it has some")
            }
            Body::Shard(shard) => shard.output.flow.stable(),
            Body::Exec(_) => actor.checkpoints.last(),
        };
        let (news, dropped) = actor.checkpoints.trim(stable);
        if !dropped.is_empty() {
            self.write(node, Write::Remove(actor.unit, dropped));
        }
        let Some(key) = news else { return };
        let producers: Vec<Unit> = actor.pumps.keys().copied().collect();
        for from in producers {
            self.demand(node, actor, from, Demand::Stable(key));
        }
    }

    /// Sends what credit allows.
    fn send(&mut self, node: usize, actor: &mut Actor) {
        let (unit, epoch) = (actor.unit, actor.epoch);
        match &mut actor.body {
            Body::Source(source) => {
                for output in &mut source.outputs {
                    self.send_output(node, (unit, epoch), output, Rows::Ticks);
                }
            }
            Body::Shard(shard) => {
                self.send_output(node, (unit, epoch), &mut shard.output, Rows::Signals);
            }
            Body::Exec(_) => {}
        }
    }

    fn send_output<B: Block>(
        &mut self,
        node: usize,
        (from, own): (Unit, u64),
        output: &mut Output<B>,
        rows: impl Fn(Arc<B>) -> Rows,
    ) {
        let Some(session) = output.flow.session() else { return };
        while let Some(frame) = output.flow.next_frame() {
            let way = output.way.as_mut().expect("a session has a way");
            if way.is_dead {
                output.flow.disconnect();
                return;
            }
            let Frame { block, complete, more } = frame;
            let say = Say::Frame { session, number: way.number, complete, more, rows: rows(block) };
            way.number += 1;
            let mail = Mail { from, to: output.to, spoken_at: own, meant_for: way.epoch, say };
            let way = way.clone();
            let is_sent = self.send_frame(node, &way, mail);
            // The first frame after a link's end is swallowed; with the next it shows.
            output.way.as_mut().expect("it was there").is_dead = !is_sent;
        }
    }

    /// A frame has come from the unit `from` as it was at `spoken_at`.
    pub(crate) fn on_frame(
        &mut self,
        node: usize,
        actor: &mut Actor,
        from: Unit,
        spoken_at: u64,
        (session, complete, more): (u64, Key, bool),
        rows: Rows,
    ) -> Result<(), Broken> {
        let input = number(from);
        let is_taken = match (&mut actor.body, rows) {
            (Body::Shard(shard), Rows::Ticks(block)) => {
                shard.merge.accept(input, session, Frame { block, complete, more })
            }
            (Body::Exec(exec), Rows::Ticks(block)) => {
                exec.inbox.push_back((input, session, Frame { block, complete, more }));
                if !std::mem::take(&mut exec.is_awaited) {
                    return Ok(());
                }
                true
            }
            (Body::Exec(exec), Rows::Signals(block)) => {
                exec.lockstep.on_signals(input, session, Frame { block, complete, more })
            }
            (Body::Source(_) | Body::Shard(_), _) => unreachable!("no such stream"),
        };
        if is_taken {
            let who = (node, self.nodes[node].life, actor.unit, from);
            let latest = self.taken.entry(who).or_insert(spoken_at);
            if spoken_at < *latest {
                return Err(format!(
                    "(3) {} took a frame of {from} at epoch {spoken_at} after one at {latest}",
                    actor.unit
                ));
            }
            *latest = spoken_at;
        }
        self.go_on(node, actor);
        Ok(())
    }

    pub(crate) fn on_stored(&mut self, node: usize, unit: Unit, key: Key) -> Result<(), Broken> {
        let mut finished = None;
        self.with_actor(node, unit, |world, actor| {
            if actor.checkpoints.on_stored(key) {
                world.announce_stable(node, actor);
            }
            if let Body::Exec(exec) = &mut actor.body
                && actor.checkpoints.last() == Key::END
                && !std::mem::replace(&mut exec.is_done, true)
            {
                finished = Some(exec.digest);
            }
            world.go_on(node, actor);
        });
        if let Some(digest) = finished {
            note!(self, "exec has finished");
            if self.finished.is_some_and(|before| before != digest) {
                return Err("(4) exec came to two ends".into());
            }
            self.finished = Some(digest);
        }
        Ok(())
    }

    pub(crate) fn on_read_on(
        &mut self,
        node: usize,
        unit: Unit,
        serial: u64,
    ) -> Result<(), Broken> {
        self.with_actor(node, unit, |world, actor| {
            if actor.serial != serial {
                return;
            }
            if let Body::Source(source) = &mut actor.body {
                source.is_waiting = false;
            }
            world.go_on(node, actor);
        });
        Ok(())
    }
}

fn demanded<B: Block>(output: &mut Output<B>, demand: &Demand, way: Way) -> Option<Key> {
    match *demand {
        Demand::Subscribe { session, after, credit } => {
            output.way = Some(way);
            return output.flow.subscribe(session, after, credit).err().map(|rewind| rewind.to);
        }
        Demand::Credit { session, rows } => output.flow.on_credit(session, rows),
        Demand::Stable(key) => output.flow.on_stable(key),
    }
    None
}
