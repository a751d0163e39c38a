//! The strategy actor: one shard's symbols, from factor values to signals.
//!
//! ```text
//! factor rows ──▶ StrategyEngine ──▶ signals ──▶ risk
//! ```
//!
//! *Failover.* From a checkpoint on, the same rows give the same signals under the same ids, and exec
//! drops those it has. Changes of parameters hold from the same row again, see [`ControlLog`].
//!
//! *Delivery.* Streams, see [`tickwright_core::stream`].

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use ractor_cluster::RactorMessage;
use tickwright_core::domain::{FactorBatch, FactorLayout, Key};
use tickwright_core::pipeline::strategy::{
    StrategyCounts, StrategyEngine, StrategyRegistry, StrategySnapshot, StrategySpec,
};
use tickwright_core::stream::{Merge, Run, SignalBatch};

use crate::kit::{
    Checkpoints, Consumer, Control, ControlLog, Delivery, Demand, Directory, Outlet, Producer,
    StageReport, StageSettings, Stored,
};

/// The role of the strategies of `shard`.
pub fn role(shard: usize) -> String {
    format!("strategy/{shard}")
}

/// Everything the mailbox holds.
#[derive(Debug, RactorMessage)]
pub enum StrategyMessage {
    /// Factor rows.
    Rows(Delivery<FactorBatch>),
    /// The factor engine has started anew.
    FactorsAreBack,
    /// From risk.
    Demand(Demand<SignalBatch>),
    /// The control log has changed.
    Control,
    /// A checkpoint was written.
    Stored(Stored),
    /// What has been signalled?
    Report(RpcReplyPort<StageReport<Vec<StrategyCounts>>>),
}

/// What the actor is started with.
pub struct StrategyArguments {
    /// Which shard.
    pub shard: usize,
    /// Which strategies there are.
    pub registry: StrategyRegistry,
    /// Which run.
    pub specs: Vec<StrategySpec>,
    /// The factor engine's columns before any change.
    pub layout: Arc<FactorLayout>,
    /// Changes of parameters.
    pub control: ControlLog,
    /// What all stages share.
    pub settings: StageSettings,
    /// Counts checkpoints.
    pub progress: Arc<AtomicU64>,
    /// Where to register.
    pub directory: Directory,
    /// Reaches the factor engine.
    pub factors: Outlet<Demand<FactorBatch>>,
    /// Reaches risk.
    pub hello: Outlet<()>,
}

impl fmt::Debug for StrategyArguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StrategyArguments").field("shard", &self.shard).finish_non_exhaustive()
    }
}

/// The actor.
#[derive(Debug)]
pub struct StrategyActor;

/// What the actor owns while it runs.
#[derive(Debug)]
pub struct StrategyState {
    shard: usize,
    fresh: Fresh,
    engine: StrategyEngine,
    control_log: ControlLog,
    control: Control,
    input: Merge<FactorBatch>,
    /// Rows that wait for a change or for room.
    waiting: Option<Run<FactorBatch>>,
    factors: Consumer<FactorBatch>,
    output: Producer<SignalBatch>,
    position: Key,
    checkpoints: Checkpoints,
    settings: StageSettings,
    sink: Outlet<Delivery<FactorBatch>>,
}

/// What an engine that has seen nothing is made of.
#[derive(Debug)]
struct Fresh {
    registry: StrategyRegistry,
    specs: Vec<StrategySpec>,
    layout: Arc<FactorLayout>,
}

impl Fresh {
    fn engine(&self) -> Result<StrategyEngine, ActorProcessingErr> {
        Ok(StrategyEngine::new(&self.registry, &self.specs, &self.layout)?)
    }
}

impl Actor for StrategyActor {
    type Msg = StrategyMessage;
    type State = StrategyState;
    type Arguments = StrategyArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<StrategyMessage>,
        arguments: StrategyArguments,
    ) -> Result<StrategyState, ActorProcessingErr> {
        let StrategyArguments {
            shard,
            registry,
            specs,
            layout,
            control: control_log,
            settings,
            progress,
            directory,
            factors,
            hello,
        } = arguments;
        let stored = Outlet::to_actor(&myself, StrategyMessage::Stored);
        let checkpoints = settings.checkpoints(&role(shard), &progress, stored)?;
        let fresh = Fresh { registry, specs, layout };
        let mut state = StrategyState {
            shard,
            engine: fresh.engine()?,
            fresh,
            control: control_log.current(),
            control_log,
            input: Merge::new(1),
            waiting: None,
            factors: Consumer::new(vec![factors], settings.credit),
            output: Producer::new(Key::START, settings.retained, hello),
            position: Key::START,
            checkpoints,
            settings,
            sink: Outlet::to_actor(&myself, StrategyMessage::Rows),
        };
        state.go_back(Key::END)?;
        directory.register(&role(shard), &myself);
        state.subscribe();
        state.output.say_hello();
        Ok(state)
    }

    async fn handle(
        &self,
        _myself: ActorRef<StrategyMessage>,
        message: StrategyMessage,
        state: &mut StrategyState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            StrategyMessage::Rows((session, frame)) => {
                let block = Arc::clone(&frame.block);
                if state.input.accept(0, session, frame) {
                    for (source, definition) in &block.definitions {
                        state.engine.define(*source, definition)?;
                    }
                }
            }
            StrategyMessage::FactorsAreBack => state.subscribe(),
            StrategyMessage::Control => {}
            StrategyMessage::Demand(demand) => state.on_demand(demand)?,
            StrategyMessage::Stored(stored) => {
                state.checkpoints.on_stored(stored)?;
                state.announce_stable();
            }
            StrategyMessage::Report(reply) => {
                let counts = state.engine.counts().collect();
                // A caller that stopped waiting is its own affair.
                let _ = reply.send(StageReport { complete: state.position, counts });
            }
        }
        state.decide()
    }
}

impl StrategyState {
    fn on_demand(&mut self, demand: Demand<SignalBatch>) -> Result<(), ActorProcessingErr> {
        let is_stable = matches!(demand, Demand::Stable(_));
        if let Err(rewind) = self.output.on_demand(demand) {
            self.go_back(rewind.to)?;
            self.subscribe();
        }
        if is_stable {
            self.announce_stable();
        }
        Ok(())
    }

    /// Goes to the newest checkpoint not after `to`, or to the beginning.
    fn go_back(&mut self, to: Key) -> Result<(), ActorProcessingErr> {
        match self.checkpoints.newest::<StrategySnapshot>(to)? {
            Some((key, snapshot)) => {
                self.engine.restore(snapshot)?;
                self.position = key;
            }
            None => {
                self.engine = self.fresh.engine()?;
                self.position = Key::START;
            }
        }
        self.control_log.pass(self.position.frontier);
        self.output.rewind(self.position);
        Ok(())
    }

    /// Asks for what follows the rows done; those in hand are dropped.
    fn subscribe(&mut self) {
        self.waiting = None;
        self.factors.subscribe(&mut self.input, 0, self.position, self.sink.clone());
    }

    fn announce_stable(&mut self) {
        if let Some(key) = self.checkpoints.trim(self.output.flow().stable()) {
            self.factors.stable(key);
        }
    }

    /// Decides while there is room downstream, cutting runs where parameters change.
    fn decide(&mut self) -> Result<(), ActorProcessingErr> {
        self.control_log.refresh(&mut self.control);
        while self.output.flow().has_room() {
            let Some(run) = self.waiting.take().or_else(|| self.input.next_run()) else { break };
            let first = run.block.rows[run.rows.start].key.frontier;
            if self.control.is_held(first) {
                self.waiting = Some(run);
                break;
            }
            let changes = self.control.due(self.engine.layout_version(), first);
            if !changes.is_empty() {
                self.engine.change(changes, &run.block.layout)?;
            }
            let (run, rest) = match self.control.next_after(first) {
                Some(at) => run.split_before(at),
                None => (run, None),
            };
            self.waiting = rest;
            self.decide_run(&run);
        }
        let complete = self.input.complete();
        let has_rows = self.waiting.is_some() || self.input.has_rows();
        if !has_rows && complete > self.position && !self.control.is_held(complete.frontier) {
            // No rows, but time has passed.
            self.control_log.pass(complete.frontier);
            self.position = complete;
            self.output.push(Arc::default(), complete, false);
            if complete == Key::END {
                self.checkpoints.put(Key::END, &self.engine.snapshot());
            }
        }
        self.factors.return_credit(&mut self.input);
        Ok(())
    }

    fn decide_run(&mut self, run: &Run<FactorBatch>) {
        let last = run.block.rows[run.rows.end - 1].key;
        self.control_log.pass(last.frontier);
        let mut signals = Vec::new();
        self.engine.on_batch(&run.block, run.rows.clone(), &mut signals);
        // Several symbols may signal on one boundary; shards are merged by id.
        signals.sort_unstable_by_key(|signal| signal.id);
        self.position = last;
        let count = self.engine.counts().map(|counts| counts.signals).sum();
        self.settings.chaos.strike("strategy", self.shard, count);
        if self.checkpoints.is_due(run.rows.len() as u64) {
            self.checkpoints.put(self.position, &self.engine.snapshot());
        }
        let more = self.waiting.is_some() || self.input.more();
        self.output.push(Arc::new(SignalBatch { signals }), self.position, more);
    }
}
