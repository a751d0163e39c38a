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
use std::sync::Arc;

use crate::domain::{
    BrokerEvent, BrokerEventKind, BrokerId, FactorBatch, FactorSpec, InstrumentIndex, Key, Kind,
    Placement, Price, RawBatch, Signal, SourceId, Span, TickBatch, Timestamp, TopOfBook,
};
use crate::pipeline::clean::{CleanCounts, CleanRules, Cleaner};
use crate::pipeline::factors::{
    FactorConfig, FactorCounts, FactorEngine, FactorError, FactorRegistry,
};
use crate::pipeline::positions::{Positions, PositionsConfig};
use crate::pipeline::risk::{RiskChecker, RiskLimits};
use crate::pipeline::router::{Router, RouterConfig, RouterEffect};
use crate::pipeline::strategy::{
    StrategyCounts, StrategyEngine, StrategyError, StrategyRegistry, StrategySpec,
};
use crate::pipeline::venue::{PaperBroker, PaperBrokerConfig};
use crate::stream::{Frame, Merge};

/// The primary and the backup.
const BROKERS: usize = 2;

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

/// Where the rows of one source stand.
#[derive(Debug)]
struct Source {
    cleaner: Cleaner,
    is_finished: bool,
}

/// A run over recorded data. Memory grows with symbols, not with rows, as long as whoever feeds
/// several sources heeds [`Backtest::wants`].
#[derive(Debug)]
pub struct Backtest {
    sources: Vec<Source>,
    /// Unused when there is one source.
    merge: Merge<TickBatch>,
    factors: FactorEngine,
    strategies: StrategyEngine,
    exec: Exec,
    clean: TickBatch,
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
        let mut specs = Vec::new();
        for strategy in &config.strategies {
            specs.extend(config.strategy_registry.needs(strategy)?);
        }
        specs.extend(config.factors_also);
        let factors = FactorEngine::new(config.factors, &config.factor_registry, &specs)?;
        let strategies =
            StrategyEngine::new(&config.strategy_registry, &config.strategies, factors.layout())?;
        let source = || Source { cleaner: Cleaner::new(config.rules.clone()), is_finished: false };
        let [primary, backup] = config.brokers;
        let latency_min = primary.latency_min().min(backup.latency_min());
        Ok(Self {
            sources: std::iter::repeat_with(source).take(sources).collect(),
            merge: Merge::new(sources),
            factors,
            strategies,
            exec: Exec {
                checker: RiskChecker::new(config.limits),
                router: Router::new(config.router),
                has_backup: config.router.has_backup,
                brokers: [
                    PaperBroker::new(primary, BrokerId(0), config.seed),
                    PaperBroker::new(backup, BrokerId(1), config.seed),
                ],
                lookahead: latency_min.saturating_sub(Span::from_nanos(1)),
                positions: Positions::new(config.positions),
                marks: Vec::new(),
                open_orders: 0,
                fed: 0,
                sampled_at: Timestamp::default(),
                rows: 0,
                signals: 0,
                events: Vec::new(),
                effects: Vec::new(),
            },
            clean: TickBatch::default(),
            values: FactorBatch::default(),
            signals: Vec::new(),
        })
    }

    /// The source whose rows are needed next: until they come, no others can be handled. None when
    /// all have finished.
    pub fn wants(&self) -> Option<SourceId> {
        let waiting = (0..).zip(&self.sources).filter(|(_, source)| !source.is_finished);
        let furthest_behind =
            waiting.min_by_key(|&(index, _)| self.merge.received(usize::from(index)));
        furthest_behind.map(|(index, _)| SourceId(index))
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
        let index = usize::from(batch.source.0);
        for definition in &batch.definitions {
            self.sources[index].cleaner.define(definition);
            self.factors.define(batch.source, definition);
            self.strategies.define(batch.source, definition)?;
            self.exec.checker.define(batch.source, definition);
        }
        let is_alone = self.sources.len() == 1;
        let mut clean = std::mem::take(&mut self.clean);
        clean.rows.clear();
        clean.source = batch.source;
        clean.rows.reserve(batch.rows.len());
        let mut complete = self.merge.received(index);
        for (key, row) in batch.keyed() {
            if let Ok(tick) = self.sources[index].cleaner.clean(key, row)
                && !clean.push(key, tick)
            {
                // Days lie between two rows: a batch cannot span them.
                if is_alone {
                    self.process(&clean, 0..clean.rows.len());
                } else {
                    let full = std::mem::take(&mut clean);
                    self.hand_in(index, full, complete);
                    clean.source = batch.source;
                }
                clean.rows.clear();
                clean.push(key, tick);
            }
            complete = key;
        }
        if is_alone {
            self.process(&clean, 0..clean.rows.len());
            self.clean = clean;
        } else {
            self.hand_in(index, clean, complete);
        }
        Ok(())
    }

    /// Takes in that `source` has ended. When all have, what is still open expires.
    ///
    /// # Panics
    ///
    /// When there is no such source.
    pub fn finish(&mut self, source: SourceId) {
        let index = usize::from(source.0);
        if std::mem::replace(&mut self.sources[index].is_finished, true) {
            return;
        }
        self.hand_in(index, TickBatch { source, ..TickBatch::default() }, Key::END);
        if self.sources.iter().all(|source| source.is_finished) {
            self.exec.expire();
        }
    }

    /// Merges rows of one source of several with the others', and handles what is next.
    fn hand_in(&mut self, index: usize, clean: TickBatch, complete: Key) {
        let frame = Frame { block: Arc::new(clean), complete, more: false };
        self.merge.accept(index, 0, frame);
        while let Some(run) = self.merge.next_run() {
            self.process(&run.block, run.rows);
        }
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

    /// What the cleaners have judged, by source.
    pub fn clean_counts(&self) -> impl Iterator<Item = CleanCounts> {
        self.sources.iter().map(|source| source.cleaner.totals())
    }

    /// What the factor engine did.
    pub fn factor_counts(&self) -> FactorCounts {
        self.factors.counts()
    }

    /// What each strategy did.
    pub fn strategy_counts(&self) -> impl Iterator<Item = StrategyCounts> {
        self.strategies.counts()
    }

    /// Clean rows with a market event.
    pub fn rows(&self) -> u64 {
        self.exec.rows
    }

    /// Signals that came to risk.
    pub fn signals(&self) -> u64 {
        self.exec.signals
    }

    /// Risk, with what it approved and denied.
    pub fn checker(&self) -> &RiskChecker {
        &self.exec.checker
    }

    /// The router.
    pub fn router(&self) -> &Router {
        &self.exec.router
    }

    /// The primary broker and the backup.
    pub fn brokers(&self) -> &[PaperBroker; BROKERS] {
        &self.exec.brokers
    }

    /// What is held and was earned, and the digest of all orders and fills.
    pub fn positions(&self) -> &Positions {
        &self.exec.positions
    }

    /// The price at which `index` was last valued.
    pub fn mark(&self, index: InstrumentIndex) -> Option<Price> {
        self.exec.marks.get(index.index()).copied().flatten()
    }
}

/// Risk, router, brokers and positions.
#[derive(Debug)]
struct Exec {
    checker: RiskChecker,
    router: Router,
    has_backup: bool,
    brokers: [PaperBroker; BROKERS],
    /// How far past an order's arrival the brokers may go before what became of it was routed.
    lookahead: Span,
    positions: Positions,
    /// By instrument: the price at the last boundary that had one.
    marks: Vec<Option<Price>>,
    open_orders: u64,
    /// While an order is open: the first row of the block in hand that the brokers have not been fed.
    fed: usize,
    sampled_at: Timestamp,
    rows: u64,
    signals: u64,
    events: Vec<BrokerEvent>,
    effects: Vec<RouterEffect>,
}

impl Exec {
    /// `rows` of `block`, and the `signals` that answer them, in order.
    fn on_rows(&mut self, block: &TickBatch, rows: Range<usize>, signals: &[Signal]) {
        let mut signals = signals.iter();
        let mut signal = signals.next();
        self.fed = rows.start;
        for index in rows.clone() {
            let row = &block.rows[index];
            if self.open_orders > 0 {
                self.let_time_pass(block, index);
            }
            self.checker.on_tick(block, row);
            if row.kind == Kind::Boundary as u8 {
                self.on_boundary(block.frontier(row));
            } else {
                self.rows += 1;
            }
            let sequence = block.base_sequence + u64::from(row.sequence);
            while let Some(answer) = signal
                && answer.id.key.sequence == sequence
            {
                self.on_signal(answer, index);
                signal = signals.next();
            }
        }
        debug_assert!(signal.is_none(), "a signal answers a row");
        if self.open_orders > 0 {
            self.feed(block, rows.end);
        }
    }

    /// What is due by the frontier of row `index` takes effect.
    #[inline]
    fn let_time_pass(&mut self, block: &TickBatch, index: usize) {
        let frontier = block.frontier(&block.rows[index]);
        let [primary, backup] = &self.brokers;
        let is_due = primary.next_due().min(backup.next_due()) <= frontier;
        // An order that waits for a trade makes news of any row.
        if is_due || primary.is_waiting() || backup.is_waiting() {
            self.feed(block, index);
            self.advance(frontier);
        }
    }

    /// Gives the brokers the rows up to, and not including, `end`.
    fn feed(&mut self, block: &TickBatch, end: usize) {
        let rows = std::mem::replace(&mut self.fed, end)..end;
        for broker in &mut self.brokers {
            let resolve = |symbol| self.checker.index_of(block.source, symbol);
            broker.feed(block, rows.clone(), resolve, &mut self.events);
        }
        debug_assert!(self.events.is_empty(), "what was due by these rows has come out");
    }

    /// Lets the brokers' time reach `to`. An order that is refused on the way may be offered to the
    /// other broker, so neither goes further past an arrival than the next arrival can be.
    fn advance(&mut self, to: Timestamp) {
        loop {
            let mut until = to;
            if self.has_backup {
                for arrival in self.brokers.iter().filter_map(PaperBroker::next_arrival) {
                    until = until.min(arrival.after(self.lookahead));
                }
            }
            let mut events = std::mem::take(&mut self.events);
            for broker in &mut self.brokers {
                broker.advance(until, &mut events);
            }
            self.take_effect(&mut events);
            self.events = events;
            if until >= to {
                return;
            }
        }
    }

    fn take_effect(&mut self, events: &mut Vec<BrokerEvent>) {
        events.sort_unstable_by_key(BrokerEvent::sort_key);
        for event in events.drain(..) {
            self.on_event(&event);
        }
    }

    fn on_event(&mut self, event: &BrokerEvent) {
        let is_refusal = matches!(event.kind, BrokerEventKind::Refused(_));
        if !is_refusal {
            self.record(event);
        }
        let mut effects = std::mem::take(&mut self.effects);
        let checker = &self.checker;
        let top = |_| match is_refusal {
            true => top_of(checker, event),
            false => TopOfBook::default(),
        };
        self.router.on_event(event, top, &mut effects);
        for effect in effects.drain(..) {
            match effect {
                // Whether a refusal is final is for the router to say; the rest was known.
                RouterEffect::Forward(verdict) if is_refusal => self.record(&verdict),
                RouterEffect::Forward(_) => {}
                RouterEffect::Place { broker, placement } => self.place(broker, &placement),
            }
        }
        self.effects = effects;
    }

    fn record(&mut self, event: &BrokerEvent) {
        self.checker.on_event(event);
        match event.kind {
            BrokerEventKind::Filled(fill) => {
                let instrument = self.checker.instrument(fill.instrument);
                self.positions.on_fill(&fill, instrument, event.due);
            }
            BrokerEventKind::Closed { .. } => {
                self.open_orders = self.open_orders.saturating_sub(1);
            }
            BrokerEventKind::Accepted | BrokerEventKind::Refused(_) | BrokerEventKind::Unknown => {}
        }
    }

    /// `signal` answers row `index` of the block in hand.
    fn on_signal(&mut self, signal: &Signal, index: usize) {
        self.signals += 1;
        let at = signal.id.key;
        let Ok(approved) = self.checker.check(signal, at.frontier) else { return };
        let order = approved.order();
        self.positions.on_order(order, self.checker.instrument(order.instrument));
        if self.open_orders == 0 {
            // The order brings its book along; only what follows matters to its broker.
            self.fed = index + 1;
        }
        self.open_orders += 1;
        if let Some((broker, placement)) = self.router.route(&approved, at) {
            self.place(broker, &placement);
        }
    }

    fn place(&mut self, broker: BrokerId, placement: &Placement) {
        let instrument = self.checker.instrument(placement.order.instrument);
        let broker = usize::from(broker.0).min(BROKERS - 1);
        self.brokers[broker].place(placement, instrument);
    }

    /// A window step has passed in event time: everything is valued, once for all sources.
    fn on_boundary(&mut self, at: Timestamp) {
        if at <= self.sampled_at {
            return;
        }
        self.sampled_at = at;
        self.marks.resize(self.checker.instruments().len(), None);
        for (index, mark) in (0..).map(InstrumentIndex).zip(&mut self.marks) {
            // A symbol that has no price just now keeps the one it had.
            *mark = self.checker.top(index).mark().or(*mark);
        }
        let marks = &self.marks;
        self.positions.sample(at, |index| marks.get(index.index()).copied().flatten());
    }

    /// The data has ended: what is open ends too.
    fn expire(&mut self) {
        while self.open_orders > 0 {
            let mut events = std::mem::take(&mut self.events);
            for broker in &mut self.brokers {
                broker.finish(&mut events);
            }
            let is_over = events.is_empty();
            self.take_effect(&mut events);
            self.events = events;
            if is_over {
                debug_assert!(false, "an order is open that no broker has");
                return;
            }
        }
    }
}

/// The book of the instrument that `event` is about.
fn top_of(checker: &RiskChecker, event: &BrokerEvent) -> TopOfBook {
    let open = checker.open_orders().find(|open| open.approved().order().id == event.order);
    open.map(|open| checker.top(open.approved().order().instrument)).unwrap_or_default()
}
