//! The factor engine actor: one shard's symbols, from clean rows to factor values.
//!
//! ```text
//! clean rows of each source ──▶ merged by key ──▶ FactorEngine ──▶ factor rows ──▶ strategy
//! ```
//!
//! Which factors are computed changes with the parameters of strategies, at the same row as those, see
//! [`ControlLog`](crate::kit::ControlLog). A batch is cut there.
//!
//! *Failover.* From a checkpoint on, the same rows give the same values bit for bit. A checkpoint knows
//! which changes came before it.
//!
//! *Delivery.* Streams, see [`tickwright_core::stream`].

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use ractor::ActorProcessingErr;
use tickwright_core::domain::{
    Control, Definition, FactorBatch, FactorRow, FactorSpec, Kind, SourceId, TickBatch,
};
use tickwright_core::pipeline::factors::{
    FactorConfig, FactorCounts, FactorEngine, FactorRegistry, FactorSnapshot,
};
use tickwright_core::pipeline::strategy::StrategyNeeds;
use tickwright_core::stream::Run;

use crate::kit::{MessageOf, Outlet, RecordedFactors, Stage, StageActor, Work};

/// The role of the factor engine of `shard`.
pub fn role(shard: usize) -> String {
    format!("factors/{shard}")
}

/// The actor.
pub type FactorsActor = StageActor<Factors>;

/// Everything the mailbox holds.
pub type FactorsMessage = MessageOf<Factors>;

/// What the actor is started with: what an engine that has seen nothing is made of.
#[derive(Debug)]
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
    /// Takes what they come to, if that is to be recorded.
    pub recording: Option<Outlet<RecordedFactors>>,
}

/// What the actor does.
#[derive(Debug)]
pub struct Factors {
    fresh: FactorsArguments,
    engine: FactorEngine,
    /// What the strategies look at now.
    needs: StrategyNeeds,
    /// Symbols of which no row has been handled yet. A definition goes with the first row, as it came.
    unmet: BTreeMap<(SourceId, u32), Definition>,
}

impl FactorsArguments {
    fn engine(&self) -> Result<FactorEngine, ActorProcessingErr> {
        Ok(FactorEngine::new(self.config.clone(), &self.registry, &self.specs(&self.needs))?)
    }

    /// The columns when strategies have these `needs`.
    fn specs(&self, needs: &StrategyNeeds) -> Vec<FactorSpec> {
        needs.factors().chain(&self.also).cloned().collect()
    }
}

impl Work for Factors {
    type Arguments = FactorsArguments;
    type Input = TickBatch;
    type Output = FactorBatch;
    type Snapshot = FactorSnapshot;
    type Counts = FactorCounts;

    fn new(fresh: FactorsArguments) -> Result<Self, ActorProcessingErr> {
        let (engine, needs) = (fresh.engine()?, fresh.needs.clone());
        Ok(Self { fresh, engine, needs, unmet: BTreeMap::new() })
    }

    fn go_back(
        &mut self,
        snapshot: Option<FactorSnapshot>,
        control: &Control,
    ) -> Result<(), ActorProcessingErr> {
        match snapshot {
            Some(snapshot) => self.engine.restore(snapshot)?,
            None => self.engine = self.fresh.engine()?,
        }
        self.needs = self.fresh.needs.clone();
        for change in control.first(self.engine.layout().version) {
            self.needs.change(change)?;
        }
        self.unmet.clear();
        Ok(())
    }

    fn snapshot(&self) -> FactorSnapshot {
        self.engine.snapshot()
    }

    fn counts(&self) -> FactorCounts {
        self.engine.counts()
    }

    fn define(&mut self, block: &TickBatch) -> Result<(), ActorProcessingErr> {
        for definition in &block.definitions {
            self.engine.define(block.source, definition);
            self.unmet.insert((block.source, definition.id.0), definition.clone());
        }
        Ok(())
    }

    fn handle(
        &mut self,
        run: &Run<TickBatch>,
        stage: &mut Stage<TickBatch, FactorBatch>,
    ) -> Result<(), ActorProcessingErr> {
        // Each by itself: a factor that one change drops and the next asks for begins anew.
        let frontier = run.first_key().frontier;
        for change in stage.control().due(self.engine.layout().version, frontier) {
            self.needs.change(change)?;
            self.engine.set_specs(&self.fresh.specs(&self.needs))?;
        }
        let rows = run.rows.len();
        let layout = Arc::clone(self.engine.layout());
        let mut out = FactorBatch {
            definitions: self.meet(&run.block, run.rows.clone()),
            rows: Vec::with_capacity(rows),
            values: Vec::with_capacity(rows * layout.columns.len()),
            layout,
            origin_nanos: run.block.origin_nanos,
        };
        self.engine.on_rows(&run.block, run.rows.clone(), &mut out);
        stage.chaos().strike("factors", self.fresh.shard, self.engine.counts().rows);
        stage.advance(run.last_key());
        let out = Arc::new(out);
        self.record(&out);
        stage.push(0, out, stage.more());
        Ok(())
    }
}

impl Factors {
    fn record(&self, batch: &Arc<FactorBatch>) {
        let Some(recording) = &self.fresh.recording else { return };
        let of = |row: &FactorRow| self.engine.symbol(row.key.source, row.symbol).cloned();
        // Each was defined, or there would be no row of it.
        let symbols = batch.rows.iter().filter_map(of).collect();
        // Whoever records and is not there has a successor, which has the stage begin anew.
        let _ = recording.send(RecordedFactors { batch: Arc::clone(batch), symbols });
    }

    /// The definitions of symbols whose first rows these are.
    fn meet(&mut self, block: &TickBatch, rows: Range<usize>) -> Vec<(SourceId, Definition)> {
        let mut definitions = Vec::new();
        for row in &block.rows[rows] {
            if self.unmet.is_empty() {
                break;
            }
            if row.kind != Kind::Boundary as u8
                && let Some(definition) = self.unmet.remove(&(block.source, row.symbol))
            {
                definitions.push((block.source, definition));
            }
        }
        definitions
    }
}
