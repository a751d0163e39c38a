//! What units do with their rows.

use std::sync::Arc;

use tickwright_core::cluster::Unit;
use tickwright_core::domain::{
    Key, Kind, OrderId, Side, Signal, SourceId, Span, StrategyId, SymbolId, TickBatch, Timestamp,
};
use tickwright_core::stream::Block as _;
use tickwright_core::stream::{Next, SignalBatch};

use super::{Actor, Body, Demand, Exec, ExecState, Source, State, number};
use crate::disk::Write;
use crate::faults::{FAULTS_UNTIL, Scenario};
use crate::mail::Rows;
use crate::random::mix;
use crate::world::{Broken, SECOND, What, World};

impl World {
    fn put(&mut self, node: usize, actor: &mut Actor, key: Key, state: State) {
        if actor.checkpoints.put(key) {
            self.write(node, Write::Checkpoint(actor.unit, key, state));
        }
    }

    pub(super) fn go_on(&mut self, node: usize, actor: &mut Actor) {
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
                    let to =
                        if tick.kind == Kind::Boundary as u8 { 0..shards } else { own..own + 1 };
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
                    self.send_dealt(node, (unit, epoch), source, position);
                }
                if is_due || position == Key::END {
                    written
                        .push((position, State::Source { next: source.next, hash: source.hash }));
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

    /// Sends each shard the rows that were held back for it.
    pub(super) fn send_dealt(
        &mut self,
        node: usize,
        own: (Unit, u64),
        source: &mut Source,
        position: Key,
    ) {
        source.frames_waiting = 0;
        for shard in 0..source.dealt.len() {
            let batch = std::mem::take(&mut source.dealt[shard]);
            let output = &mut source.outputs[shard + 1];
            output.flow.push(Arc::new(batch), position, false);
            self.send_output(node, own, output, Rows::Ticks);
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
                Next::Switch(_) | Next::Records { .. } => unreachable!("nobody says so here"),
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
        if signal.lots.is_multiple_of(3) {
            self.brokers.0.push((signal.id, at));
            self.lockstep.on_order(at);
        }
    }

    pub(super) fn snapshot(&mut self) -> State {
        let runs = self.lockstep.ship_processed();
        self.brokers.take(runs);
        State::Exec(Box::new(ExecState {
            lockstep: self.lockstep.snapshot(),
            brokers: self.brokers.clone(),
            digest: self.digest,
        }))
    }
}
