//! The factor engine actor: one shard's symbols, from clean rows to factor values.
//!
//! ```text
//! clean rows of each source ──▶ merged by key ──▶ FactorEngine ──▶ factor rows ──▶ strategy
//! ```
//!
//! Which factors are computed changes with the parameters of strategies, at the same row as those, see
//! [`ControlLog`]. A batch is cut there.
//!
//! *Failover.* From a checkpoint on, the same rows give the same values bit for bit. A checkpoint knows
//! which changes came before it.
//!
//! *Delivery.* Streams, see [`tickwright_core::stream`].

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use ractor_cluster::RactorMessage;
use tickwright_core::domain::{
    Definition, FactorBatch, FactorSpec, Key, SourceId, TickBatch, Timestamp,
};
use tickwright_core::pipeline::factors::{
    FactorConfig, FactorCounts, FactorEngine, FactorRegistry, FactorSnapshot,
};
use tickwright_core::pipeline::strategy::StrategyNeeds;
use tickwright_core::stream::{Merge, Run};

use crate::kit::{
    Checkpoints, Consumer, Control, ControlLog, Delivery, Demand, Directory, Outlet, Producer,
    StageReport, StageSettings, Stored,
};

/// The role of the factor engine of `shard`.
pub fn role(shard: usize) -> String {
    format!("factors/{shard}")
}

/// Everything the mailbox holds.
#[derive(Debug, RactorMessage)]
pub enum FactorsMessage {
    /// Clean rows of a source.
    Rows(usize, Delivery<TickBatch>),
    /// The cleaner of a source has started anew.
    CleanerIsBack(usize),
    /// From the strategy.
    Demand(Demand<FactorBatch>),
    /// The control log has changed.
    Control,
    /// A checkpoint was written.
    Stored(Stored),
    /// What has been computed?
    Report(RpcReplyPort<StageReport<FactorCounts>>),
}

/// What the actor is started with.
pub struct FactorsArguments {
    /// Which shard.
    pub shard: usize,
    /// How factors are computed.
    pub config: FactorConfig,
    /// Which there are.
    pub registry: FactorRegistry,
    /// Which the strategies look at.
    pub needs: StrategyNeeds,
    /// Which are wanted besides.
    pub also: Vec<FactorSpec>,
    /// Changes of the strategies' parameters.
    pub control: ControlLog,
    /// What all stages share.
    pub settings: StageSettings,
    /// Counts checkpoints.
    pub progress: Arc<AtomicU64>,
    /// Where to register.
    pub directory: Directory,
    /// Reaches each source's cleaner.
    pub cleaners: Vec<Outlet<Demand<TickBatch>>>,
    /// Reaches the strategy.
    pub hello: Outlet<()>,
}

impl fmt::Debug for FactorsArguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FactorsArguments").field("shard", &self.shard).finish_non_exhaustive()
    }
}

/// The actor.
#[derive(Debug)]
pub struct FactorsActor;

/// What the actor owns while it runs.
#[derive(Debug)]
pub struct FactorsState {
    myself: ActorRef<FactorsMessage>,
    shard: usize,
    fresh: Box<Fresh>,
    engine: FactorEngine,
    /// What the strategies look at now.
    needs: StrategyNeeds,
    control_log: ControlLog,
    control: Control,
    input: Merge<TickBatch>,
    /// Rows that wait for a change or for room.
    waiting: Option<Run<TickBatch>>,
    cleaners: Consumer<TickBatch>,
    output: Producer<FactorBatch>,
    /// Symbols to be made known with the next rows.
    definitions: Vec<(SourceId, Definition)>,
    position: Key,
    checkpoints: Checkpoints,
    settings: StageSettings,
}

/// What an engine that has seen nothing is made of.
#[derive(Debug)]
struct Fresh {
    config: FactorConfig,
    registry: FactorRegistry,
    needs: StrategyNeeds,
    also: Vec<FactorSpec>,
}

impl Fresh {
    fn engine(&self) -> Result<FactorEngine, ActorProcessingErr> {
        Ok(FactorEngine::new(self.config.clone(), &self.registry, &self.specs(&self.needs))?)
    }

    /// The columns when strategies have these `needs`.
    fn specs(&self, needs: &StrategyNeeds) -> Vec<FactorSpec> {
        needs.factors().chain(&self.also).cloned().collect()
    }
}

impl Actor for FactorsActor {
    type Msg = FactorsMessage;
    type State = FactorsState;
    type Arguments = FactorsArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<FactorsMessage>,
        arguments: FactorsArguments,
    ) -> Result<FactorsState, ActorProcessingErr> {
        let FactorsArguments {
            shard,
            config,
            registry,
            needs,
            also,
            control: control_log,
            settings,
            progress,
            directory,
            cleaners,
            hello,
        } = arguments;
        let stored = Outlet::to_actor(&myself, FactorsMessage::Stored);
        let checkpoints = settings.checkpoints(&role(shard), &progress, stored)?;
        let fresh = Box::new(Fresh { config, registry, needs, also });
        let mut state = FactorsState {
            myself: myself.clone(),
            shard,
            engine: fresh.engine()?,
            needs: fresh.needs.clone(),
            fresh,
            control: control_log.current(),
            control_log,
            input: Merge::new(cleaners.len()),
            waiting: None,
            cleaners: Consumer::new(cleaners, settings.credit),
            output: Producer::new(Key::START, settings.retained, hello),
            definitions: Vec::new(),
            position: Key::START,
            checkpoints,
            settings,
        };
        state.go_back(Key::END)?;
        directory.register(&role(shard), &myself);
        state.subscribe_all();
        state.output.say_hello();
        Ok(state)
    }

    async fn handle(
        &self,
        _myself: ActorRef<FactorsMessage>,
        message: FactorsMessage,
        state: &mut FactorsState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            FactorsMessage::Rows(source, (session, frame)) => {
                let block = Arc::clone(&frame.block);
                if state.input.accept(source, session, frame) {
                    state.define(&block);
                }
            }
            FactorsMessage::CleanerIsBack(source) => state.subscribe(source),
            FactorsMessage::Control => {}
            FactorsMessage::Demand(demand) => state.on_demand(demand)?,
            FactorsMessage::Stored(stored) => {
                state.checkpoints.on_stored(stored)?;
                state.announce_stable();
            }
            FactorsMessage::Report(reply) => {
                let counts = state.engine.counts();
                // A caller that stopped waiting is its own affair.
                let _ = reply.send(StageReport { complete: state.position, counts });
            }
        }
        state.compute()
    }
}

impl FactorsState {
    fn on_demand(&mut self, demand: Demand<FactorBatch>) -> Result<(), ActorProcessingErr> {
        let is_stable = matches!(demand, Demand::Stable(_));
        if let Err(rewind) = self.output.on_demand(demand) {
            self.go_back(rewind.to)?;
            self.subscribe_all();
        }
        if is_stable {
            self.announce_stable();
        }
        Ok(())
    }

    /// Goes to the newest checkpoint not after `to`, or to the beginning.
    fn go_back(&mut self, to: Key) -> Result<(), ActorProcessingErr> {
        match self.checkpoints.newest::<FactorSnapshot>(to)? {
            Some((key, snapshot)) => {
                self.engine.restore(snapshot)?;
                self.position = key;
            }
            None => {
                self.engine = self.fresh.engine()?;
                self.position = Key::START;
            }
        }
        self.control_log.refresh(&mut self.control);
        self.control_log.pass(self.position.frontier);
        self.needs = self.fresh.needs.clone();
        for change in self.control.first(self.engine.layout().version) {
            self.needs.change(change)?;
        }
        self.definitions.clear();
        self.output.rewind(self.position);
        Ok(())
    }

    fn subscribe_all(&mut self) {
        (0..self.cleaners.len()).for_each(|source| self.subscribe(source));
    }

    /// Asks a source for what follows the rows done; those in hand are dropped.
    fn subscribe(&mut self, source: usize) {
        if self.waiting.as_ref().is_some_and(|run| run.input == source) {
            self.waiting = None;
        }
        let sink = Outlet::to_actor(&self.myself, move |rows| FactorsMessage::Rows(source, rows));
        self.cleaners.subscribe(&mut self.input, source, self.position, sink);
    }

    fn announce_stable(&mut self) {
        if let Some(key) = self.checkpoints.trim(self.output.flow().stable()) {
            self.cleaners.stable(key);
        }
    }

    /// Computes while there is room downstream, cutting runs where columns change.
    fn compute(&mut self) -> Result<(), ActorProcessingErr> {
        self.control_log.refresh(&mut self.control);
        while self.output.flow().has_room() {
            let Some(run) = self.waiting.take().or_else(|| self.input.next_run()) else { break };
            let first = run.block.key(&run.block.rows[run.rows.start]).frontier;
            if self.control.is_held(first) {
                self.waiting = Some(run);
                break;
            }
            self.apply_changes(first)?;
            let (run, rest) = match self.control.next_after(first) {
                Some(at) => run.split_before(at),
                None => (run, None),
            };
            self.waiting = rest;
            self.compute_run(&run);
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
        self.cleaners.return_credit(&mut self.input);
        Ok(())
    }

    /// Takes over the changes that hold at `frontier`, each by itself: a factor that one of them drops
    /// and the next asks for begins anew.
    fn apply_changes(&mut self, frontier: Timestamp) -> Result<(), ActorProcessingErr> {
        for change in self.control.due(self.engine.layout().version, frontier) {
            self.needs.change(change)?;
            self.engine.set_specs(&self.fresh.specs(&self.needs))?;
        }
        Ok(())
    }

    /// Learns symbols. Their definitions go on with the next rows: no row of theirs can come before.
    fn define(&mut self, block: &TickBatch) {
        for definition in &block.definitions {
            self.engine.define(block.source, definition);
            self.definitions.push((block.source, definition.clone()));
        }
    }

    fn compute_run(&mut self, run: &Run<TickBatch>) {
        let block = &run.block;
        let rows = run.rows.len();
        let layout = Arc::clone(self.engine.layout());
        let mut out = FactorBatch {
            definitions: std::mem::take(&mut self.definitions),
            rows: Vec::with_capacity(rows),
            values: Vec::with_capacity(rows * layout.columns.len()),
            layout,
            origin_nanos: block.origin_nanos,
        };
        let last = block.key(&block.rows[run.rows.end - 1]);
        self.control_log.pass(last.frontier);
        self.engine.on_rows(block, run.rows.clone(), &mut out);
        self.position = last;
        self.settings.chaos.strike("factors", self.shard, self.engine.counts().rows);
        if self.checkpoints.is_due(rows as u64) {
            self.checkpoints.put(self.position, &self.engine.snapshot());
        }
        let more = self.waiting.is_some() || self.input.more();
        self.output.push(Arc::new(out), self.position, more);
    }
}
