//! The strategy actor: one shard's symbols, from factor values to signals.
//!
//! ```text
//! factor rows ──▶ StrategyEngine ──▶ signals ──▶ risk
//! ```
//!
//! *Failover.* From a checkpoint on, the same rows give the same signals under the same ids, and exec
//! drops those it has. Changes of parameters hold from the same row again, see [`ControlLog`](crate::kit::ControlLog).
//!
//! *Delivery.* Streams, see [`tickwright_core::stream`].

use std::sync::Arc;

use ractor::ActorProcessingErr;
use tickwright_core::domain::{Control, FactorBatch, FactorLayout, Key};
use tickwright_core::pipeline::strategy::{
    StrategyCounts, StrategyEngine, StrategyRegistry, StrategySnapshot, StrategySpec,
};
use tickwright_core::stream::{Run, SignalBatch};

use crate::kit::{MessageOf, Stage, StageActor, Work};

/// The role of the strategies of `shard`.
pub fn role(shard: usize) -> String {
    format!("strategy/{shard}")
}

/// The actor.
pub type StrategyActor = StageActor<Strategies>;

/// Everything the mailbox holds.
pub type StrategyMessage = MessageOf<Strategies>;

/// What the actor is started with: what an engine that has seen nothing is made of.
#[derive(Debug)]
pub struct StrategyArguments {
    /// Which shard.
    pub shard: usize,
    /// Which strategies there are.
    pub registry: StrategyRegistry,
    /// Which run.
    pub specs: Vec<StrategySpec>,
    /// The factor engine's columns before any change.
    pub layout: Arc<FactorLayout>,
}

/// What the actor does.
#[derive(Debug)]
pub struct Strategies {
    fresh: StrategyArguments,
    engine: StrategyEngine,
}

impl StrategyArguments {
    fn engine(&self) -> Result<StrategyEngine, ActorProcessingErr> {
        Ok(StrategyEngine::new(&self.registry, &self.specs, &self.layout)?)
    }
}

impl Work for Strategies {
    type Arguments = StrategyArguments;
    type Input = FactorBatch;
    type Output = SignalBatch;
    type Snapshot = StrategySnapshot;
    type Counts = Vec<StrategyCounts>;

    fn new(fresh: StrategyArguments) -> Result<Self, ActorProcessingErr> {
        Ok(Self { engine: fresh.engine()?, fresh })
    }

    fn go_back(
        &mut self,
        snapshot: Option<StrategySnapshot>,
        _control: &Control,
    ) -> Result<(), ActorProcessingErr> {
        match snapshot {
            Some(snapshot) => self.engine.restore(snapshot)?,
            None => self.engine = self.fresh.engine()?,
        }
        Ok(())
    }

    fn snapshot(&self) -> StrategySnapshot {
        self.engine.snapshot()
    }

    fn counts(&self) -> Vec<StrategyCounts> {
        self.engine.counts().collect()
    }

    fn define(&mut self, block: &FactorBatch) -> Result<(), ActorProcessingErr> {
        for (source, definition) in &block.definitions {
            self.engine.define(*source, definition)?;
        }
        Ok(())
    }

    fn handle(
        &mut self,
        run: &Run<FactorBatch>,
        stage: &mut Stage<FactorBatch, SignalBatch>,
    ) -> Result<(), ActorProcessingErr> {
        let frontier = run.first_key().frontier;
        let changes = stage.control().due(self.engine.layout_version(), frontier);
        if !changes.is_empty() {
            self.engine.change(changes, &run.block.layout)?;
        }
        let mut signals = Vec::new();
        self.engine.on_batch(&run.block, run.rows.clone(), &mut signals);
        // Several symbols may signal on one boundary; shards are merged by id.
        signals.sort_unstable_by_key(|signal| signal.id);
        let count = self.engine.counts().map(|counts| counts.signals).sum();
        stage.chaos().strike("strategy", self.fresh.shard, count);
        stage.advance(run.last_key());
        let known = stage.basis().known;
        stage.push(0, Arc::new(SignalBatch { signals, known }), stage.more());
        Ok(())
    }

    fn pass_time(&mut self, until: Key, stage: &mut Stage<FactorBatch, SignalBatch>) {
        stage.advance(until);
        let known = stage.basis().known;
        stage.push(0, Arc::new(SignalBatch { signals: Vec::new(), known }), false);
    }
}
