//! Shows every row of factors to the strategies of its symbol.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::registry::{
    FactorView, Strategy, StrategyError, StrategyFactory, StrategyRegistry, StrategySpec,
};
use super::{STRATEGY_COUNT_MAX, SYMBOL_COUNT_MAX};
use crate::domain::parameters::resolve;
use crate::domain::{
    Definition, FactorBatch, FactorRow, FactorSpec, Instrument, OrderId, Signal, SourceId,
    StrategyId, Symbol,
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
    /// By strategy: its name, every parameter in the order declared, and its counts.
    plans: Vec<(String, Vec<f64>, StrategyCounts)>,
    routes: Vec<Vec<u32>>,
    /// By symbol: what each strategy that trades it remembers.
    symbols: Vec<(Arc<Instrument>, Remembered)>,
}

/// What each strategy of a symbol remembers; none for one that does not trade it.
type Remembered = Vec<Option<Vec<u8>>>;

/// One strategy of the configuration.
struct Plan {
    name: String,
    factory: Arc<dyn StrategyFactory>,
    /// Every parameter, in the order declared.
    parameters: Vec<f64>,
    /// Where the factors it needs are in a row's values.
    columns: Vec<usize>,
    /// The symbols it trades, as patterns.
    symbols: Vec<String>,
    counts: StrategyCounts,
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan")
            .field("name", &self.name)
            .field("parameters", &self.parameters)
            .field("columns", &self.columns)
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
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
    /// By source: a symbol's number to its place; [`UNDEFINED`] for none.
    routes: Vec<Vec<u32>>,
    places: BTreeMap<Symbol, u32>,
    symbols: Vec<SymbolState>,
}

impl StrategyEngine {
    /// An engine that has seen nothing, for strategies that find the factors they need among
    /// `columns`, those of the factor engine.
    ///
    /// # Errors
    ///
    /// [`StrategyError`] when there are too many, a name is unknown, parameters make no sense, or a
    /// factor is missing.
    pub fn new(
        registry: &StrategyRegistry,
        specs: &[StrategySpec],
        columns: &[FactorSpec],
    ) -> Result<Self, StrategyError> {
        if specs.len() > STRATEGY_COUNT_MAX {
            return Err(StrategyError::TooMany { count: specs.len() });
        }
        let plan = |spec: &StrategySpec| {
            let (factory, parameters) = registry.resolve(spec)?;
            let columns = find(&spec.name, &*factory, &parameters, columns)?;
            let name = spec.name.clone();
            let (symbols, counts) = (spec.symbols.clone(), StrategyCounts::default());
            Ok(Plan { name, factory, parameters, columns, symbols, counts })
        };
        Ok(Self {
            plans: specs.iter().map(plan).collect::<Result<_, _>>()?,
            routes: Vec::new(),
            places: BTreeMap::new(),
            symbols: Vec::new(),
        })
    }

    /// What each strategy did so far.
    pub fn counts(&self) -> impl Iterator<Item = StrategyCounts> {
        self.plans.iter().map(|plan| plan.counts)
    }

    /// The name and every parameter of each strategy, as they are now.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, Vec<(&'static str, f64)>)> {
        self.plans.iter().map(|plan| {
            let names = plan.factory.parameters().iter().map(|&(name, _)| name);
            (plan.name.as_str(), names.zip(plan.parameters.iter().copied()).collect())
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
    /// When a row's symbol was not defined.
    #[inline]
    pub fn on_batch(&mut self, batch: &FactorBatch, rows: Range<usize>, out: &mut Vec<Signal>) {
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

    /// The factors that all strategies need once strategy `index` has other `parameters`: what to
    /// hand to the factor engine before [`set_parameters`](Self::set_parameters). Those not given
    /// stay as they are.
    ///
    /// # Errors
    ///
    /// [`StrategyError::Index`] and [`StrategyError::Parameters`].
    pub fn needs_with(
        &self,
        index: usize,
        parameters: &[(String, f64)],
    ) -> Result<Vec<FactorSpec>, StrategyError> {
        let changed = self.changed(index, parameters)?;
        let mut needs = Vec::new();
        for (other, plan) in self.plans.iter().enumerate() {
            let values = if other == index { &changed } else { &plan.parameters };
            let found = plan.factory.needs(values).map_err(|source| plan.wrong(source))?;
            for need in found {
                if !needs.contains(&need) {
                    needs.push(need);
                }
            }
        }
        Ok(needs)
    }

    /// Changes parameters of strategy `index` while running, for all symbols at once; those not given
    /// stay as they are. `columns` are those of the rows from here on: the same as before, unless the
    /// factor engine was given others.
    ///
    /// # Errors
    ///
    /// [`StrategyError`], and nothing changes, when there is no such strategy, the parameters make no
    /// sense, or a factor that any strategy needs is not among the columns.
    pub fn set_parameters(
        &mut self,
        index: usize,
        parameters: &[(String, f64)],
        columns: &[FactorSpec],
    ) -> Result<(), StrategyError> {
        let changed = self.changed(index, parameters)?;
        let mut found = Vec::new();
        for (other, plan) in self.plans.iter().enumerate() {
            let values = if other == index { &changed } else { &plan.parameters };
            found.push(find(&plan.name, &*plan.factory, values, columns)?);
        }
        let plan = &self.plans[index];
        for symbol in self.symbols.iter().filter(|symbol| symbol.strategies[index].is_some()) {
            // A factory that refuses does so before the first strategy has changed.
            plan.factory.make(&symbol.instrument, &changed).map_err(|source| plan.wrong(source))?;
        }
        for symbol in &mut self.symbols {
            if let Some(strategy) = &mut symbol.strategies[index] {
                strategy.set_parameters(&changed).map_err(|source| plan.wrong(source))?;
            }
        }
        self.plans[index].parameters = changed;
        for (plan, columns) in self.plans.iter_mut().zip(found) {
            plan.columns = columns;
        }
        Ok(())
    }

    /// Every parameter of strategy `index` once those given are changed.
    fn changed(
        &self,
        index: usize,
        parameters: &[(String, f64)],
    ) -> Result<Vec<f64>, StrategyError> {
        let count = self.plans.len();
        let plan = self.plans.get(index).ok_or(StrategyError::Index { index, count })?;
        let now: Vec<_> = plan
            .factory
            .parameters()
            .iter()
            .zip(&plan.parameters)
            .map(|(&(name, _), &value)| (name, value))
            .collect();
        resolve(&now, parameters).map_err(|source| plan.wrong(source))
    }

    /// Everything the engine has to remember.
    pub fn snapshot(&self) -> StrategySnapshot {
        let plan = |plan: &Plan| (plan.name.clone(), plan.parameters.clone(), plan.counts);
        let symbol = |symbol: &SymbolState| {
            let strategies = symbol.strategies.iter();
            let strategies =
                strategies.map(|strategy| strategy.as_ref().map(|strategy| strategy.snapshot()));
            (Arc::clone(&symbol.instrument), strategies.collect())
        };
        StrategySnapshot {
            plans: self.plans.iter().map(plan).collect(),
            routes: self.routes.clone(),
            symbols: self.symbols.iter().map(symbol).collect(),
        }
    }

    /// Becomes the engine that wrote `snapshot`, parameters included: they may have been changed
    /// while it ran. `columns` are those of the restored factor engine.
    ///
    /// # Errors
    ///
    /// [`StrategyError`] when the snapshot is of other strategies, and nothing changes.
    pub fn restore(
        &mut self,
        snapshot: StrategySnapshot,
        columns: &[FactorSpec],
    ) -> Result<(), StrategyError> {
        let damaged = |problem: String| StrategyError::Snapshot { problem };
        if snapshot.plans.len() != self.plans.len() {
            return Err(damaged("it has another number of strategies".to_owned()));
        }
        let mut restored = Self {
            plans: Vec::new(),
            routes: snapshot.routes,
            places: BTreeMap::new(),
            symbols: Vec::new(),
        };
        for (plan, (name, parameters, counts)) in self.plans.iter().zip(snapshot.plans) {
            if plan.name != name || plan.parameters.len() != parameters.len() {
                return Err(damaged(format!("it has `{name}` where `{}` belongs", plan.name)));
            }
            let factory = Arc::clone(&plan.factory);
            let columns = find(&name, &*factory, &parameters, columns)?;
            let symbols = plan.symbols.clone();
            restored.plans.push(Plan { name, factory, parameters, columns, symbols, counts });
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

    fn wrong(&self, source: crate::domain::ParameterError) -> StrategyError {
        StrategyError::Parameters { name: self.name.clone(), source }
    }
}

impl SymbolState {
    fn new(instrument: Arc<Instrument>, plans: &[Plan]) -> Result<Self, StrategyError> {
        let make = |plan: &Plan| {
            if !plan.trades(&instrument.symbol) {
                return Ok(None);
            }
            let made = plan.factory.make(&instrument, &plan.parameters);
            made.map(Some).map_err(|source| plan.wrong(source))
        };
        let strategies = plans.iter().map(make).collect::<Result<_, _>>()?;
        Ok(Self { instrument, strategies })
    }
}

/// Where in `columns` the factors are that a strategy needs.
fn find(
    name: &str,
    factory: &dyn StrategyFactory,
    parameters: &[f64],
    columns: &[FactorSpec],
) -> Result<Vec<usize>, StrategyError> {
    let needs = factory
        .needs(parameters)
        .map_err(|source| StrategyError::Parameters { name: name.to_owned(), source })?;
    let place = |spec: FactorSpec| {
        let found = columns.iter().position(|column| *column == spec);
        found.ok_or_else(|| StrategyError::Column { name: name.to_owned(), spec })
    };
    needs.into_iter().map(place).collect()
}
