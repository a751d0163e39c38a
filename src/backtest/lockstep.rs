//! Every core in one plain loop: what a run over recorded data comes to, without actors.
//!
//! ```text
//! RawBatch ─▶ Cleaner ─▶ rows by key ─▶ FactorEngine ─▶ StrategyEngine ─▶ signals
//!                             │                                             │
//!                             ▼ each row: events due, the row, its signals  ▼
//!                        [ PaperBrokers ─▶ RiskChecker ─▶ Router ─▶ PaperBrokers ] ─▶ Positions
//! ```
//!
//! No queue, no checkpoint, no other thread: the limit that the actor pipeline is measured against,
//! and the evaluator of a search for parameters. Where the pipeline asks its brokers ahead, because a
//! question costs a message, this loop lets them advance row by row.
//!
//! # Invariants
//!
//! 1. Orders, fills and positions are those of the actor pipeline over the same rows, bit for bit.
//! 2. Nothing depends on how rows come in batches, nor on how the batches of several sources
//!    alternate.

use std::ops::Range;

use crate::domain::{
    Definition, FactorBatch, FactorSpec, InstrumentIndex, Price, RawBatch, Signal, SourceId,
    Symbol, TickBatch,
};
use crate::pipeline::clean::{CleanCounts, CleanRules, Cleaner};
use crate::pipeline::factors::{
    FactorConfig, FactorCounts, FactorEngine, FactorError, FactorRegistry,
};
use crate::pipeline::positions::{Positions, PositionsConfig};
use crate::pipeline::risk::{RiskChecker, RiskLimits};
use crate::pipeline::router::{Router, RouterConfig};
use crate::pipeline::strategy::{
    StrategyCounts, StrategyEngine, StrategyError, StrategyRegistry, StrategySpec,
};
use crate::pipeline::venue::{PaperBroker, PaperBrokerConfig};

use super::exec::{BROKERS, Exec};
use super::intake::Intake;
use super::recorded::Recorded;

/// What the cores are made from.
#[derive(Clone, Debug)]
pub struct BacktestConfig {
    /// What is let through.
    pub rules: CleanRules,
    /// How factors are computed.
    pub factors: FactorConfig,
    /// Which factors there are.
    pub factor_registry: FactorRegistry,
    /// Factors to compute beside those that strategies look at.
    pub factors_also: Vec<FactorSpec>,
    /// Which strategies there are.
    pub strategy_registry: StrategyRegistry,
    /// Which run.
    pub strategies: Vec<StrategySpec>,
    /// What orders are held to.
    pub limits: RiskLimits,
    /// How brokers are judged.
    pub router: RouterConfig,
    /// How the primary broker and the backup behave.
    pub brokers: [PaperBrokerConfig; BROKERS],
    /// How much is kept for charts.
    pub positions: PositionsConfig,
    /// What the brokers' chances are drawn from.
    pub seed: u64,
}

/// Why a backtest cannot be made, or cannot take a symbol.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BacktestError {
    /// A factor cannot be computed.
    #[error(transparent)]
    Factor(#[from] FactorError),
    /// A strategy cannot run.
    #[error(transparent)]
    Strategy(#[from] StrategyError),
}

/// A run over recorded data. Memory grows with symbols, not with rows, as long as whoever feeds
/// several sources heeds [`Backtest::wants`].
#[derive(Debug)]
pub struct Backtest {
    intake: Intake,
    cores: Cores,
}

/// All cores behind the cleaners.
#[derive(Debug)]
struct Cores {
    factors: FactorEngine,
    strategies: StrategyEngine,
    exec: Exec,
    values: FactorBatch,
    signals: Vec<Signal>,
}

impl Backtest {
    /// A run over `sources` sources that has seen nothing.
    ///
    /// # Errors
    ///
    /// [`BacktestError`] when a factor or a strategy is not known, or its parameters make no sense.
    pub fn new(config: BacktestConfig, sources: usize) -> Result<Self, BacktestError> {
        let intake = Intake::new(&config.rules, sources);
        Ok(Self { intake, cores: Cores::new(config)? })
    }

    /// The run over `rows`, counted from 0, of what was `recorded`, from its first row to its last. It
    /// knows nothing of the rows before.
    ///
    /// # Errors
    ///
    /// As [`Backtest::new`] and [`Backtest::on_batch`].
    pub fn over(
        config: BacktestConfig,
        recorded: &Recorded,
        rows: Range<u64>,
    ) -> Result<Self, BacktestError> {
        let mut backtest = Self::new(config, 0)?;
        for (source, definition) in recorded.definitions() {
            backtest.cores.define(*source, definition)?;
        }
        for (block, rows) in recorded.runs(rows) {
            backtest.cores.process(block, rows);
        }
        backtest.cores.exec.expire();
        Ok(backtest)
    }

    /// The source whose rows are needed next: until they come, no others can be handled. None when
    /// all have finished.
    pub fn wants(&self) -> Option<SourceId> {
        self.intake.wants()
    }

    /// Takes in the next rows of `batch.source`.
    ///
    /// # Errors
    ///
    /// [`BacktestError::Strategy`] when a strategy of the user's own refuses a symbol.
    ///
    /// # Panics
    ///
    /// When there is no such source.
    pub fn on_batch(&mut self, batch: &RawBatch) -> Result<(), BacktestError> {
        for definition in &batch.definitions {
            self.cores.define(batch.source, definition)?;
        }
        let Self { intake, cores } = self;
        intake.on_batch(batch, |block, rows| cores.process(block, rows));
        Ok(())
    }

    /// Takes in that `source` has ended. When all have, what is still open expires.
    ///
    /// # Panics
    ///
    /// When there is no such source.
    pub fn finish(&mut self, source: SourceId) {
        let Self { intake, cores } = self;
        if intake.finish(source, |block, rows| cores.process(block, rows)) {
            cores.exec.expire();
        }
    }

    /// What the cleaners have judged, by source.
    pub fn clean_counts(&self) -> impl Iterator<Item = CleanCounts> {
        self.intake.cleaners().map(Cleaner::totals)
    }

    /// What the cleaners have judged, by symbol.
    pub fn clean_counts_by_symbol(&self) -> impl Iterator<Item = (&Symbol, &CleanCounts)> {
        self.intake.cleaners().flat_map(Cleaner::counts)
    }

    /// What the factor engine did.
    pub fn factor_counts(&self) -> FactorCounts {
        self.cores.factors.counts()
    }

    /// What each strategy did.
    pub fn strategy_counts(&self) -> impl Iterator<Item = StrategyCounts> {
        self.cores.strategies.counts()
    }

    /// Clean rows with a market event.
    pub fn rows(&self) -> u64 {
        self.cores.exec.rows
    }

    /// Signals that came to risk.
    pub fn signals(&self) -> u64 {
        self.cores.exec.signals
    }

    /// Risk, with what it approved and denied.
    pub fn checker(&self) -> &RiskChecker {
        &self.cores.exec.checker
    }

    /// The router.
    pub fn router(&self) -> &Router {
        &self.cores.exec.router
    }

    /// The primary broker and the backup.
    pub fn brokers(&self) -> &[PaperBroker; BROKERS] {
        &self.cores.exec.brokers
    }

    /// What is held and was earned, and the digest of all orders and fills.
    pub fn positions(&self) -> &Positions {
        &self.cores.exec.positions
    }

    /// The price at which `index` was last valued.
    pub fn mark(&self, index: InstrumentIndex) -> Option<Price> {
        self.cores.exec.marks.get(index.index()).copied().flatten()
    }
}

impl Cores {
    fn new(config: BacktestConfig) -> Result<Self, BacktestError> {
        let mut specs = Vec::new();
        for strategy in &config.strategies {
            specs.extend(config.strategy_registry.needs(strategy)?);
        }
        specs.extend(config.factors_also);
        let factors = FactorEngine::new(config.factors, &config.factor_registry, &specs)?;
        let strategies =
            StrategyEngine::new(&config.strategy_registry, &config.strategies, factors.layout())?;
        let BacktestConfig { limits, router, brokers, positions, seed, .. } = config;
        let exec = Exec::new(limits, router, brokers, positions, seed);
        Ok(Self { factors, strategies, exec, values: FactorBatch::default(), signals: Vec::new() })
    }

    fn define(&mut self, source: SourceId, definition: &Definition) -> Result<(), BacktestError> {
        self.factors.define(source, definition);
        self.strategies.define(source, definition)?;
        self.exec.checker.define(source, definition);
        Ok(())
    }

    /// Handles rows that are next by key.
    fn process(&mut self, block: &TickBatch, rows: Range<usize>) {
        if rows.is_empty() {
            return;
        }
        self.values.rows.clear();
        self.values.values.clear();
        self.signals.clear();
        self.factors.on_rows(block, rows.clone(), &mut self.values);
        let count = self.values.rows.len();
        self.strategies.on_batch(&self.values, 0..count, &mut self.signals);
        // Several symbols may signal on one boundary.
        self.signals.sort_unstable_by_key(|signal| signal.id);
        self.exec.on_rows(block, rows, &self.signals);
    }
}
