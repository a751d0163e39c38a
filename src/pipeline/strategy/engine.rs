//! Shows every row of factors to the strategies of its symbol.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::needs::Configured;
use super::registry::{FactorView, Strategy, StrategyError, StrategyRegistry, StrategySpec};
use super::{STRATEGY_COUNT_MAX, SYMBOL_COUNT_MAX};
use crate::domain::{
    Definition, FactorBatch, FactorLayout, FactorRow, Instrument, OrderId, ParameterChange, Signal,
    SourceId, StrategyId, Symbol,
};

/// What one strategy did so far, over all symbols; part of the snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StrategyCounts {
    /// Rows of factors it was shown.
    pub rows: u64,
    /// Signals it gave.
    pub signals: u64,
}

const UNDEFINED: u32 = u32::MAX;

/// Everything an engine has to remember.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StrategySnapshot {
    layout: Arc<FactorLayout>,
    /// By strategy: its name, every parameter in the order declared, and its counts.
    plans: Vec<(String, Vec<f64>, StrategyCounts)>,
    routes: Vec<Vec<u32>>,
    /// By symbol: what each strategy that trades it remembers.
    symbols: Vec<(Arc<Instrument>, Remembered)>,
}

/// What each strategy of a symbol remembers; none for one that does not trade it.
type Remembered = Vec<Option<Vec<u8>>>;

/// One strategy of the configuration.
#[derive(Debug)]
struct Plan {
    configured: Configured,
    /// Where the factors it needs are in a row's values.
    columns: Vec<usize>,
    /// The symbols it trades, as patterns.
    symbols: Vec<String>,
    counts: StrategyCounts,
}

/// One symbol, whichever sources it comes from.
struct SymbolState {
    instrument: Arc<Instrument>,
    /// In the order of the plans; none where a strategy does not trade the symbol.
    strategies: Vec<Option<Box<dyn Strategy>>>,
}

impl fmt::Debug for SymbolState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SymbolState").field("instrument", &self.instrument).finish_non_exhaustive()
    }
}

/// Runs strategies; see the [module](super).
///
/// Grows with the number of symbols and strategies, not with the number of rows.
#[derive(Debug)]
pub struct StrategyEngine {
    plans: Vec<Plan>,
    /// What rows have to look like.
    layout: Arc<FactorLayout>,
    /// By source: a symbol's number to its place; [`UNDEFINED`] for none.
    routes: Vec<Vec<u32>>,
    places: BTreeMap<Symbol, u32>,
    symbols: Vec<SymbolState>,
}

impl StrategyEngine {
    /// An engine that has seen nothing, for strategies that find the factors they need in `layout`,
    /// that of the factor engine.
    ///
    /// # Errors
    ///
    /// [`StrategyError`] when there are too many, a name is unknown, parameters make no sense, or a
    /// factor is missing.
    pub fn new(
        registry: &StrategyRegistry,
        specs: &[StrategySpec],
        layout: &Arc<FactorLayout>,
    ) -> Result<Self, StrategyError> {
        if specs.len() > STRATEGY_COUNT_MAX {
            return Err(StrategyError::TooMany { count: specs.len() });
        }
        let plan = |spec: &StrategySpec| {
            let configured = Configured::new(registry, spec)?;
            let columns = configured.find(layout)?;
            let (symbols, counts) = (spec.symbols.clone(), StrategyCounts::default());
            Ok(Plan { configured, columns, symbols, counts })
        };
        Ok(Self {
            plans: specs.iter().map(plan).collect::<Result<_, _>>()?,
            layout: Arc::clone(layout),
            routes: Vec::new(),
            places: BTreeMap::new(),
            symbols: Vec::new(),
        })
    }

    /// What each strategy did so far.
    pub fn counts(&self) -> impl Iterator<Item = StrategyCounts> {
        self.plans.iter().map(|plan| plan.counts)
    }

    /// How many changes of parameters it has taken over.
    pub fn layout_version(&self) -> u64 {
        self.layout.version
    }

    /// The name and every parameter of each strategy, as they are now.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, Vec<(&'static str, f64)>)> {
        self.plans.iter().map(|Plan { configured, .. }| {
            let names = configured.factory.parameters().iter().map(|&(name, _)| name);
            let parameters = names.zip(configured.parameters.iter().copied()).collect();
            (configured.name.as_str(), parameters)
        })
    }

    /// Learns what a symbol's number in `source` stands for; to be called before its first row. Two
    /// sources of one symbol feed one strategy; a definition that is known changes nothing.
    ///
    /// # Errors
    ///
    /// [`StrategyError::Parameters`] when a factory of the user's own refuses this instrument.
    ///
    /// # Panics
    ///
    /// When the number does not fit a signal's ordinal: more than 16 million symbols in a source.
    pub fn define(
        &mut self,
        source: SourceId,
        definition: &Definition,
    ) -> Result<(), StrategyError> {
        assert!(definition.id.0 < SYMBOL_COUNT_MAX, "symbols of a source fit an ordinal");
        let symbol = &definition.instrument.symbol;
        let place = match self.places.get(symbol) {
            Some(&place) => place,
            None => {
                let state = SymbolState::new(Arc::clone(&definition.instrument), &self.plans)?;
                self.add(state)
            }
        };
        let source = usize::from(source.0);
        if self.routes.len() <= source {
            self.routes.resize_with(source + 1, Vec::new);
        }
        let routes = &mut self.routes[source];
        if routes.len() <= definition.id.index() {
            routes.resize(definition.id.index() + 1, UNDEFINED);
        }
        routes[definition.id.index()] = place;
        Ok(())
    }

    fn add(&mut self, symbol: SymbolState) -> u32 {
        let place = u32::try_from(self.symbols.len()).expect("symbols are numbered with 32 bits");
        self.places.insert(symbol.instrument.symbol.clone(), place);
        self.symbols.push(symbol);
        place
    }

    /// Shows `rows` of `batch` to the strategies of their symbols, and appends to `out` what they
    /// want: row by row, and within a row in the order of the strategies.
    ///
    /// # Panics
    ///
    /// When a row's symbol was not defined, or the rows' layout is not the one of the last
    /// [`change`](Self::change).
    #[inline]
    pub fn on_batch(&mut self, batch: &FactorBatch, rows: Range<usize>, out: &mut Vec<Signal>) {
        if !Arc::ptr_eq(&batch.layout, &self.layout) {
            assert!(*batch.layout == *self.layout, "rows have the layout strategies know");
            self.layout = Arc::clone(&batch.layout);
        }
        for index in rows {
            self.on_row(&batch.rows[index], batch.values_of(index), batch.origin_nanos, out);
        }
    }

    #[inline]
    fn on_row(
        &mut self,
        row: &FactorRow,
        values: &[f64],
        origin_nanos: u64,
        out: &mut Vec<Signal>,
    ) {
        let place = self.routes[usize::from(row.key.source.0)][row.symbol.index()];
        let symbol = &mut self.symbols[place as usize];
        let both = self.plans.iter_mut().zip(&mut symbol.strategies);
        for (index, (plan, strategy)) in (0u16..).zip(both) {
            let Some(strategy) = strategy else { continue };
            plan.counts.rows += 1;
            let view = FactorView {
                key: row.key,
                price: row.price,
                is_boundary: row.is_boundary,
                values,
                columns: &plan.columns,
                parameters: &plan.configured.parameters,
            };
            let Some(intent) = strategy.on_row(&view) else { continue };
            if intent.lots == 0 {
                continue;
            }
            plan.counts.signals += 1;
            out.push(Signal {
                id: OrderId { key: row.key, ordinal: row.symbol.0 << 8 | u32::from(index) },
                strategy: StrategyId(index),
                symbol: row.symbol,
                side: intent.side,
                lots: intent.lots,
                reduce_only: intent.reduce_only,
                origin_nanos,
            });
        }
    }

    /// Takes over `changes`, one after the other, for all symbols at once. `layout` is that of the
    /// rows from here on: it has the factors that the strategies need after the last of them, and
    /// its version is greater by their number.
    ///
    /// # Errors
    ///
    /// [`StrategyError`], and nothing changes, when there is no such strategy, parameters make no
    /// sense, or a factor that any strategy needs is not in the layout.
    pub fn change(
        &mut self,
        changes: &[ParameterChange],
        layout: &Arc<FactorLayout>,
    ) -> Result<(), StrategyError> {
        let after = self.layout.version + changes.len() as u64;
        if layout.version != after {
            return Err(StrategyError::Layout { version: layout.version, after });
        }
        let mut configured: Vec<Configured> =
            self.plans.iter().map(|plan| plan.configured.clone()).collect();
        let mut steps = Vec::with_capacity(changes.len());
        for change in changes {
            let (index, count) = (change.strategy, configured.len());
            let known = configured.get(index).ok_or(StrategyError::Index { index, count })?;
            let changed = known.changed(&change.parameters)?;
            for symbol in self.symbols.iter().filter(|it| it.strategies[index].is_some()) {
                // A factory that refuses does so before the first strategy has changed.
                let made = changed.factory.make(&symbol.instrument, &changed.parameters);
                made.map_err(|source| changed.wrong(source))?;
            }
            steps.push((index, changed.parameters.clone()));
            configured[index] = changed;
        }
        let found: Vec<Vec<usize>> =
            configured.iter().map(|it| it.find(layout)).collect::<Result<_, _>>()?;
        // Step by step even where one undoes another: a strategy may begin anew at each.
        for (index, parameters) in steps {
            for symbol in &mut self.symbols {
                if let Some(strategy) = &mut symbol.strategies[index] {
                    strategy
                        .set_parameters(&parameters)
                        .map_err(|source| configured[index].wrong(source))?;
                }
            }
        }
        for (plan, (configured, columns)) in
            self.plans.iter_mut().zip(configured.into_iter().zip(found))
        {
            (plan.configured, plan.columns) = (configured, columns);
        }
        self.layout = Arc::clone(layout);
        Ok(())
    }

    /// Everything the engine has to remember.
    pub fn snapshot(&self) -> StrategySnapshot {
        let plan = |plan: &Plan| {
            (plan.configured.name.clone(), plan.configured.parameters.clone(), plan.counts)
        };
        let symbol = |symbol: &SymbolState| {
            let strategies = symbol.strategies.iter();
            let strategies =
                strategies.map(|strategy| strategy.as_ref().map(|strategy| strategy.snapshot()));
            (Arc::clone(&symbol.instrument), strategies.collect())
        };
        StrategySnapshot {
            layout: Arc::clone(&self.layout),
            plans: self.plans.iter().map(plan).collect(),
            routes: self.routes.clone(),
            symbols: self.symbols.iter().map(symbol).collect(),
        }
    }

    /// Becomes the engine that wrote `snapshot`, parameters and layout included: they may have been
    /// changed while it ran.
    ///
    /// # Errors
    ///
    /// [`StrategyError`] when the snapshot is of other strategies, and nothing changes.
    pub fn restore(&mut self, snapshot: StrategySnapshot) -> Result<(), StrategyError> {
        let damaged = |problem: String| StrategyError::Snapshot { problem };
        if snapshot.plans.len() != self.plans.len() {
            return Err(damaged("it has another number of strategies".to_owned()));
        }
        let mut restored = Self {
            plans: Vec::new(),
            layout: snapshot.layout,
            routes: snapshot.routes,
            places: BTreeMap::new(),
            symbols: Vec::new(),
        };
        for (plan, (name, parameters, counts)) in self.plans.iter().zip(snapshot.plans) {
            let Configured { name: known, factory, parameters: as_now, .. } = &plan.configured;
            if *known != name || as_now.len() != parameters.len() {
                return Err(damaged(format!("it has `{name}` where `{known}` belongs")));
            }
            let configured = Configured::with(name, Arc::clone(factory), parameters)?;
            let columns = configured.find(&restored.layout)?;
            let symbols = plan.symbols.clone();
            restored.plans.push(Plan { configured, columns, symbols, counts });
        }
        for (instrument, states) in snapshot.symbols {
            let mut symbol = SymbolState::new(instrument, &restored.plans)?;
            if states.len() != symbol.strategies.len() {
                return Err(damaged("a symbol has another number of strategies".to_owned()));
            }
            for (strategy, state) in symbol.strategies.iter_mut().zip(states) {
                match (strategy, state) {
                    (Some(strategy), Some(bytes)) => strategy.restore(&bytes).map_err(damaged)?,
                    (None, None) => {}
                    (Some(_), None) | (None, Some(_)) => {
                        return Err(damaged("a strategy traded other symbols".to_owned()));
                    }
                }
            }
            restored.add(symbol);
        }
        let count = restored.symbols.len();
        let leads_nowhere = |&place: &u32| place != UNDEFINED && place as usize >= count;
        if restored.routes.iter().flatten().any(leads_nowhere) {
            return Err(damaged("a symbol's number leads nowhere".to_owned()));
        }
        *self = restored;
        Ok(())
    }
}

impl Plan {
    fn trades(&self, symbol: &Symbol) -> bool {
        self.symbols.iter().any(|pattern| symbol.matches(pattern))
    }
}

impl SymbolState {
    fn new(instrument: Arc<Instrument>, plans: &[Plan]) -> Result<Self, StrategyError> {
        let make = |plan: &Plan| {
            if !plan.trades(&instrument.symbol) {
                return Ok(None);
            }
            let Plan { configured, .. } = plan;
            let made = configured.factory.make(&instrument, &configured.parameters);
            made.map(Some).map_err(|source| configured.wrong(source))
        };
        let strategies = plans.iter().map(make).collect::<Result<_, _>>()?;
        Ok(Self { instrument, strategies })
    }
}
