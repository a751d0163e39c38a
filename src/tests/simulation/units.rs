//! The parts of a small pipeline, each with the real ends of its streams: sources that deal rows out to
//! shards, shards that answer rows with signals, and an exec that takes both in lockstep. What each does
//! is a hash over all it has had, so that whatever is lost, twice or out of order shows in the digest.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tickwright_core::cluster::{Peer, Unit};
use tickwright_core::domain::{
    BrokerEvent, BrokerEventKind, BrokerId, Key, Kind, OrderId, Quantity, Side, Signal, SourceId,
    Span, StrategyId, SymbolId, Tick, TickBatch, Timestamp,
};
use tickwright_core::stream::{
    Block, Frame, Lockstep, LockstepSnapshot, Merge, Merging, Next, Outflow, Run, SignalBatch,
};

use crate::disk::Write;
use crate::faults::{FAULTS_UNTIL, Scenario};
use crate::mail::{Mail, Pump, Rows, Say};
use crate::random::mix;
use crate::world::{Broken, SECOND, What, World, note};

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

/// Brokers that close every order some time after it has left, and have seen some rows.
#[derive(Clone, Debug, Default)]
struct Brokers(Vec<(OrderId, Key)>, Vec<Key>);

impl Brokers {
    fn take(&mut self, runs: Vec<Run<TickBatch>>) {
        for run in runs {
            // Rows that were shipped ahead of a checkpoint come again.
            let last = self.1.last().copied().unwrap_or(Key::START);
            let keys = run.rows.map(|row| run.block.key(&run.block.rows[row]));
            self.1.extend(keys.filter(|&key| key > last));
        }
    }

    fn due(&mut self, to: u64) -> Vec<BrokerEvent> {
        let mut due = Vec::new();
        let rows = &self.1;
        self.0.retain(|(order, placed_at)| {
            let at = placed_at.frontier.as_nanos() + LATENCY;
            if at <= to {
                // A trace of every row the order could have traded against.
                let seen = |key: &&Key| *key > placed_at && key.frontier.as_nanos() < at;
                due.push(BrokerEvent {
                    due: Timestamp::from_nanos(at),
                    order: *order,
                    ordinal: u32::try_from(rows.iter().filter(seen).count()).unwrap(),
                    broker: BrokerId(0),
                    kind: BrokerEventKind::Closed { remaining: Quantity::ZERO },
                });
            }
            at > to
        });
        // No order that may still come can have been placed before these.
        let last = self.1.last().map_or(0, |key| key.frontier.as_nanos());
        self.1.retain(|key| key.frontier.as_nanos() + 4 * LATENCY >= last);
        due.sort_by_key(BrokerEvent::sort_key);
        due
    }
}

/// The rules of `actors/kit/checkpoints.rs`.
#[derive(Debug)]
struct Checkpoints {
    kept: Vec<Key>,
    spacing: u64,
    rows: u64,
    in_flight: Vec<Key>,
    abandoned: Vec<Key>,
    announced: Key,
}

impl Checkpoints {
    fn newest(&mut self, key: Key) -> Option<Key> {
        self.abandoned.append(&mut self.in_flight);
        let index = self.kept.partition_point(|&kept| kept <= key);
        index.checked_sub(1).map(|index| self.kept[index])
    }

    fn is_due(&mut self, rows: u64) -> bool {
        self.rows += rows;
        self.rows >= self.spacing && self.in_flight.is_empty() && self.abandoned.is_empty()
    }

    /// Whether there is something to write.
    fn put(&mut self, key: Key) -> bool {
        self.rows = 0;
        let is_new = self.kept.last() != Some(&key);
        self.in_flight.extend(is_new.then_some(key));
        is_new
    }

    fn on_stored(&mut self, key: Key) -> bool {
        if let Some(place) = self.abandoned.iter().position(|&abandoned| abandoned == key) {
            self.abandoned.remove(place);
            return false;
        }
        let Some(place) = self.in_flight.iter().position(|&written| written == key) else {
            return false;
        };
        self.in_flight.remove(place);
        let index = self.kept.partition_point(|&kept| kept < key);
        if self.kept.get(index) != Some(&key) {
            self.kept.insert(index, key);
        }
        true
    }

    /// What is stable upstream, if that is news, and which checkpoints are not needed any more.
    fn trim(&mut self, stable: Key) -> (Option<Key>, Vec<Key>) {
        let index = self.kept.partition_point(|&kept| kept <= stable);
        let Some(oldest) = index.checked_sub(1) else { return (None, Vec::new()) };
        let dropped: Vec<Key> = self.kept.drain(..oldest).collect();
        let key = self.kept[0];
        let is_news = key > self.announced;
        if is_news {
            self.announced = key;
        }
        (is_news.then_some(key), dropped)
    }

    fn last(&self) -> Key {
        self.kept.last().copied().unwrap_or(Key::START)
    }
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
        let at = format!("at {} kept {:?} pumps {:?}", self.position, self.checkpoints.kept, self.pumps);
        let of = |flow: &dyn Fn() -> (Key, Option<u64>, u64, bool)| format!("{:?}", flow());
        match &self.body {
            Body::Source(source) => {
                let outputs = source.outputs.iter().map(|output| {
                    let flow = &output.flow;
                    let state = of(&|| (flow.complete(), flow.session(), flow.credit(), flow.has_room()));
                    format!("\n        {}: {state} {:?}", output.to, output.way)
                });
                format!("row {} {at}{}", source.next, outputs.collect::<String>())
            }
            Body::Shard(shard) => {
                let flow = &shard.output.flow;
                let state = of(&|| (flow.complete(), flow.session(), flow.credit(), flow.has_room()));
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
    /// Ends what is not this node's any more, and starts what has become its.
    pub(crate) fn settle(&mut self, node: usize) {
        let own = self.nodes[node].name.clone();
        let owners = self.run_of(node).agreement.owners();
        let run = self.run_of(node);
        let is_wanted =
            |unit: &Unit, epoch: &u64| owners.get(unit) == Some(&(own.clone(), *epoch));
        let before = run.hosted.clone();
        run.hosted.retain(|unit, epoch| is_wanted(unit, epoch));
        let hosted = run.hosted.clone();
        run.actors.retain(|unit, _| hosted.contains_key(unit));
        for (&unit, (node, epoch)) in &owners {
            if *node == own {
                run.hosted.entry(unit).or_insert(*epoch);
                run.port.on_hosted(unit, *epoch);
            }
        }
        if run.hosted == before {
            return;
        }
        let started: Vec<(Unit, u64)> = run
            .hosted
            .iter()
            .filter(|&(unit, epoch)| before.get(unit) != Some(epoch))
            .map(|(&unit, &epoch)| (unit, epoch))
            .collect();
        for (unit, epoch) in started {
            let wait = self.random.range(100_000, SECOND / 5);
            self.after(node, Span::from_nanos(wait), What::Ready(unit, epoch));
        }
        self.on_services(node);
    }

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
        if run.hosted.get(&unit) != Some(&epoch) || run.actors.contains_key(&unit) {
            return Ok(());
        }
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
            let mail =
                Mail { from, to: output.to, spoken_at: own, meant_for: way.epoch, say };
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

    pub(crate) fn on_read_on(&mut self, node: usize, unit: Unit, serial: u64) -> Result<(), Broken> {
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

    fn put(&mut self, node: usize, actor: &mut Actor, key: Key, state: State) {
        if actor.checkpoints.put(key) {
            self.write(node, Write::Checkpoint(actor.unit, key, state));
        }
    }

    fn go_on(&mut self, node: usize, actor: &mut Actor) {
        match actor.unit {
            Unit::Source(source) => self.read_on(node, actor, source),
            Unit::Shard(shard) => self.answer(node, actor, u32::from(shard)),
            Unit::Exec => self.advance(node, actor),
        }
        self.return_credit(node, actor);
    }

    fn return_credit(&mut self, node: usize, actor: &mut Actor) {
        let credit = self.scenario.credit;
        let mut due = Vec::new();
        let workload = &self.workload;
        match &mut actor.body {
            Body::Shard(shard) => {
                for from in workload.sources() {
                    due.push((from, shard.merge.credit(number(from), credit / 4)));
                }
            }
            Body::Exec(exec) => {
                if exec.lockstep.ready_rows() < usize::try_from(credit).unwrap() {
                    for from in workload.sources() {
                        due.push((from, exec.lockstep.ticks().credit(number(from), credit / 4)));
                    }
                }
                for from in workload.shards() {
                    due.push((from, exec.lockstep.signals().credit(number(from), credit / 4)));
                }
            }
            Body::Source(_) => {}
        }
        for (from, credit) in due {
            if let Some((session, rows)) = credit {
                self.demand(node, actor, from, Demand::Credit { session, rows });
            }
        }
    }

    /// A source reads on, as far as its rows have come about.
    fn read_on(&mut self, node: usize, actor: &mut Actor, index: u16) {
        let workload = self.workload.clone();
        let total = workload.rows;
        let begun = 2 * SECOND;
        let come = self.now.saturating_sub(begun) * total / (FAULTS_UNTIL - begun);
        let come = come.min(total);
        let mut written = Vec::new();
        {
            let Body::Source(source) = &mut actor.body else { unreachable!("it is a source") };
            while actor.position != Key::END
                && source.outputs.iter().all(|output| output.flow.has_room())
                && (source.next < come || source.next == total)
            {
                let until = (source.next + self.scenario.batch).min(come);
                let mut all = TickBatch { source: SourceId(index), ..TickBatch::default() };
                let rows = until - source.next;
                let is_due = actor.checkpoints.is_due(rows);
                for row in source.next..until {
                    let (key, tick) = workload.row(index, row);
                    assert!(all.push(key, tick));
                    source.hash = mix(source.hash ^ u64::try_from(tick.price).unwrap());
                    let shards = source.dealt.len();
                    let own = usize::try_from(tick.symbol).unwrap() % shards;
                    let to = if tick.kind == Kind::Boundary as u8 { 0..shards } else { own..own + 1 };
                    for dealt in &mut source.dealt[to] {
                        dealt.source = SourceId(index);
                        assert!(dealt.push(key, tick));
                    }
                    actor.position = key;
                }
                source.next = until;
                if until == total && rows == 0 {
                    actor.position = Key::END;
                }
                let position = actor.position;
                let more = source.next < come && !is_due;
                source.outputs[0].flow.push(Arc::new(all), position, more);
                let (unit, epoch) = (actor.unit, actor.epoch);
                self.send_output(node, (unit, epoch), &mut source.outputs[0], Rows::Ticks);
                source.frames_waiting += 1;
                let has_room = source.outputs.iter().all(|output| output.flow.has_room());
                if !more || source.frames_waiting >= source.dealt.len() || !has_room {
                    source.frames_waiting = 0;
                    for shard in 0..source.dealt.len() {
                        let batch = std::mem::take(&mut source.dealt[shard]);
                        let output = &mut source.outputs[shard + 1];
                        output.flow.push(Arc::new(batch), position, false);
                        self.send_output(node, (unit, epoch), output, Rows::Ticks);
                    }
                }
                if is_due || position == Key::END {
                    written.push((position, State::Source { next: source.next, hash: source.hash }));
                    if position != Key::END && actor.checkpoints.put(position) {
                        let (key, state) = written.pop().expect("it was pushed");
                        self.write(node, Write::Checkpoint(unit, key, state));
                    }
                }
            }
            if !source.is_waiting && actor.position != Key::END {
                source.is_waiting = true;
                self.after(node, Span::from_millis(20), What::ReadOn(actor.unit, actor.serial));
            }
        }
        for (key, state) in written {
            if key == Key::END {
                self.put(node, actor, key, state);
            }
        }
    }

    /// A shard answers rows.
    fn answer(&mut self, node: usize, actor: &mut Actor, index: u32) {
        loop {
            let Body::Shard(shard) = &mut actor.body else { unreachable!("it is a shard") };
            if !shard.output.flow.has_room() {
                return;
            }
            let Some(run) = shard.merge.next_run() else { break };
            let is_due = actor.checkpoints.is_due(run.rows.len() as u64);
            let mut answers = SignalBatch::default();
            for row in &run.block.rows[run.rows.clone()] {
                let key = run.block.key(row);
                shard.hash = mix(shard.hash ^ u64::try_from(row.price).unwrap() ^ key.sequence);
                if shard.hash % 5 == 0 {
                    answers.signals.push(Signal {
                        id: OrderId { key, ordinal: index },
                        strategy: StrategyId(0),
                        symbol: SymbolId(row.symbol),
                        side: Side::Buy,
                        lots: u32::try_from(shard.hash >> 32).unwrap(),
                        reduce_only: false,
                        origin_nanos: 0,
                    });
                }
                actor.position = key;
            }
            let more = shard.merge.more();
            shard.output.flow.push(Arc::new(answers), actor.position, more);
            let from = (actor.unit, actor.epoch);
            self.send_output(node, from, &mut shard.output, Rows::Signals);
            let hash = shard.hash;
            if is_due {
                self.put(node, actor, actor.position, State::Shard { hash });
            }
        }
        let Body::Shard(shard) = &mut actor.body else { unreachable!("it is a shard") };
        let complete = shard.merge.complete();
        if !shard.merge.has_rows() && complete > actor.position {
            actor.position = complete;
            shard.output.flow.push(Arc::default(), complete, false);
            let from = (actor.unit, actor.epoch);
            self.send_output(node, from, &mut shard.output, Rows::Signals);
            let hash = shard.hash;
            if complete == Key::END {
                self.put(node, actor, Key::END, State::Shard { hash });
            }
        }
    }

    /// Exec takes whatever is next.
    fn advance(&mut self, node: usize, actor: &mut Actor) {
        let Body::Exec(exec) = &mut actor.body else { unreachable!("it is exec") };
        let mut due = None;
        exec.take_inbox();
        while !exec.lockstep.is_finished() {
            if exec.lockstep.is_between_keys()
                && actor.checkpoints.is_due(std::mem::take(&mut exec.rows))
            {
                let state = exec.snapshot();
                let key = exec.lockstep.position();
                if actor.checkpoints.put(key) {
                    self.write(node, Write::Checkpoint(Unit::Exec, key, state));
                }
            }
            match exec.lockstep.next_step() {
                Next::Rows(block, rows) => exec.on_rows(&block, rows),
                Next::Signal(signal, at) => exec.on_signal(&signal, at),
                Next::Event(event) => {
                    let of = event.due.as_nanos() ^ event.order.key.sequence ^ 7;
                    exec.fold(of.wrapping_add(u64::from(event.ordinal)));
                }
                Next::Advance { to, .. } => {
                    let runs = exec.lockstep.ship(to);
                    exec.brokers.take(runs);
                    let events = exec.brokers.due(to.as_nanos());
                    exec.lockstep.on_advanced(to, &events);
                }
                Next::Expire => {
                    let end = Timestamp::from_nanos(u64::MAX);
                    let runs = exec.lockstep.ship(end);
                    exec.brokers.take(runs);
                    let events = exec.brokers.due(u64::MAX);
                    exec.lockstep.on_advanced(end, &events);
                }
                Next::Finished => due = Some(exec.snapshot()),
                Next::Starved => {
                    if !exec.lockstep.wants_rows() {
                        break;
                    }
                    exec.is_awaited = exec.inbox.is_empty();
                    if exec.is_awaited {
                        break;
                    }
                    exec.take_inbox();
                }
            }
        }
        actor.position = exec.lockstep.position();
        if let Some(state) = due {
            // It may have been stored by an actor before this one.
            let is_stored = actor.checkpoints.last() == Key::END;
            let digest = exec.digest;
            self.put(node, actor, Key::END, state);
            if is_stored {
                self.finished.get_or_insert(digest);
            }
        }
    }

    /// (7): nothing holds more than it may.
    pub(crate) fn check_node(&mut self, node: usize) -> Result<(), Broken> {
        let Scenario { credit, batch, retained, .. } = self.scenario;
        let (credit, batch) = (usize::try_from(credit).unwrap(), usize::try_from(batch).unwrap());
        let Some(run) = &self.nodes[node].run else { return Ok(()) };
        let kept_max = retained + credit + 3 * batch;
        for (unit, actor) in &run.actors {
            let (kept, inbox) = match &actor.body {
                Body::Source(source) => {
                    (source.outputs.iter().map(|output| output.flow.kept_rows()).max(), 0)
                }
                Body::Shard(shard) => (Some(shard.output.flow.kept_rows()), 0),
                Body::Exec(exec) => {
                    let rows = exec.inbox.iter().map(|(_, _, frame)| frame.block.len()).sum();
                    (Some(exec.lockstep.ready_rows()), rows)
                }
            };
            // Exec has as much ready as it had credit for, and asks for more only below that.
            let max = if *unit == Unit::Exec {
                self.workload.sources * (2 * (credit + batch))
            } else {
                kept_max
            };
            if kept.is_some_and(|kept| kept > max) {
                return Err(format!("(7) {unit} keeps {kept:?} rows of {max}"));
            }
            if inbox > self.workload.sources * 3 * (credit + batch) {
                return Err(format!("(7) {inbox} rows wait for exec"));
            }
        }
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

impl Exec {
    fn take_inbox(&mut self) {
        for (input, session, frame) in std::mem::take(&mut self.inbox) {
            self.lockstep.on_ticks(input, session, frame);
        }
    }

    fn fold(&mut self, number: u64) {
        self.digest = mix(self.digest.rotate_left(7) ^ number);
    }

    fn on_rows(&mut self, block: &TickBatch, rows: std::ops::Range<usize>) {
        for row in &block.rows[rows] {
            let key = block.key(row);
            self.fold(u64::try_from(row.price).unwrap() ^ key.sequence << 1);
            self.rows += 1;
        }
    }

    fn on_signal(&mut self, signal: &Signal, at: Key) {
        self.fold(u64::from(signal.lots) ^ signal.id.key.sequence ^ 3);
        if signal.lots % 3 == 0 {
            self.brokers.0.push((signal.id, at));
            self.lockstep.on_order(at);
        }
    }

    fn snapshot(&mut self) -> State {
        let runs = self.lockstep.ship_processed();
        self.brokers.take(runs);
        State::Exec(Box::new(ExecState {
            lockstep: self.lockstep.snapshot(),
            brokers: self.brokers.clone(),
            digest: self.digest,
        }))
    }
}
