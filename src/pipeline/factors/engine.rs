//! Feeds every row to its symbol's factors.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::family::{Family, FamilySnapshot};
use super::input::{Book, FactorInput, Move, PriceRule, to_f64};
use super::plan::{FactorConfig, FamilyPlan, Plan};
use super::registry::{FactorError, FactorRegistry};
use super::windows::Windows;
use crate::domain::{
    Definition, FactorBatch, FactorRow, FactorSpec, Instrument, Key, Kind, SourceId, Symbol,
    SymbolId, Tick, TickBatch, Timestamp, decimal,
};

/// What an engine did so far; part of its snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FactorCounts {
    /// Rows seen, boundary rows among them.
    pub rows: u64,
    /// Values computed: one per column that advanced and had seen enough.
    pub factors: u64,
}

/// Where a source's symbols are kept: the symbol's number to its place; [`UNDEFINED`] for none.
type Routes = Vec<u32>;

const UNDEFINED: u32 = u32::MAX;

/// Everything an engine has to remember.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FactorSnapshot {
    columns: Vec<FactorSpec>,
    routes: Vec<Routes>,
    symbols: Vec<SymbolSnapshot>,
    counts: FactorCounts,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SymbolSnapshot {
    instrument: Arc<Instrument>,
    price: PriceRule,
    book: Book,
    windows: Windows,
    values: Vec<f64>,
    families: Vec<FamilySnapshot>,
}

/// One symbol, whichever sources it comes from.
#[derive(Debug)]
struct SymbolState {
    instrument: Arc<Instrument>,
    price: PriceRule,
    book: Book,
    windows: Windows,
    /// The latest value per column.
    values: Vec<f64>,
    /// In the order of the plan.
    families: Vec<Family>,
}

/// Computes factors; see the [module](super).
///
/// Grows with the number of symbols and columns, not with the number of rows.
#[derive(Debug)]
pub struct FactorEngine {
    config: FactorConfig,
    registry: FactorRegistry,
    plan: Plan,
    /// By source.
    routes: Vec<Routes>,
    /// By source: its symbols in the order of their text, with their places.
    by_text: Vec<Vec<(SymbolId, u32)>>,
    places: BTreeMap<Symbol, u32>,
    symbols: Vec<SymbolState>,
    counts: FactorCounts,
}

impl FactorEngine {
    /// An engine that has seen nothing, with one column per distinct spec, in order.
    ///
    /// # Errors
    ///
    /// [`FactorError`] when a spec names no factor, has parameters that make no sense or a window
    /// that no boundary closes.
    pub fn new(
        config: FactorConfig,
        registry: &FactorRegistry,
        specs: &[FactorSpec],
    ) -> Result<Self, FactorError> {
        let plan = Plan::new(&config, registry, specs)?;
        Ok(Self {
            config,
            registry: registry.clone(),
            plan,
            routes: Vec::new(),
            by_text: Vec::new(),
            places: BTreeMap::new(),
            symbols: Vec::new(),
            counts: FactorCounts::default(),
        })
    }

    /// The columns, canonical and distinct, in the order of a row's values.
    pub fn columns(&self) -> &[FactorSpec] {
        &self.plan.columns
    }

    /// What the engine did so far.
    pub const fn counts(&self) -> FactorCounts {
        self.counts
    }

    /// Learns what a symbol's number in `source` stands for; to be called before its first row. The
    /// caller passes the definition on to the strategies itself. Two sources of one symbol feed one
    /// state; a definition that is known changes nothing.
    pub fn define(&mut self, source: SourceId, definition: &Definition) {
        let symbol = &definition.instrument.symbol;
        let place = match self.places.get(symbol) {
            Some(&place) => place,
            None => {
                let place = index_to_u32(self.symbols.len());
                let instrument = Arc::clone(&definition.instrument);
                self.symbols.push(SymbolState::new(
                    instrument,
                    &self.config,
                    &self.plan,
                    &self.registry,
                ));
                self.places.insert(symbol.clone(), place);
                place
            }
        };
        self.route(source, definition.id, place);
    }

    fn route(&mut self, source: SourceId, id: SymbolId, place: u32) {
        let source = usize::from(source.0);
        if self.routes.len() <= source {
            self.routes.resize_with(source + 1, Vec::new);
            self.by_text.resize_with(source + 1, Vec::new);
        }
        let routes = &mut self.routes[source];
        if routes.len() <= id.index() {
            routes.resize(id.index() + 1, UNDEFINED);
        }
        if std::mem::replace(&mut routes[id.index()], place) != UNDEFINED {
            return;
        }
        let text = |place: u32| &self.symbols[place as usize].instrument.symbol;
        let by_text = &mut self.by_text[source];
        let at = by_text.partition_point(|&(_, other)| text(other) < text(place));
        by_text.insert(at, (id, place));
    }

    /// Takes in `rows` of `batch`, and appends to `out` one row per row that moved its symbol, and,
    /// on a boundary, one per symbol of that source with something in its window, in the order of
    /// their text. Sources are merged by the caller.
    ///
    /// Every row of `out` has all columns: those that did not advance keep their last value.
    ///
    /// # Panics
    ///
    /// When a row's symbol was not defined, or `out` holds rows of another number of columns.
    #[inline]
    pub fn on_rows(&mut self, batch: &TickBatch, rows: Range<usize>, out: &mut FactorBatch) {
        assert!(
            out.rows.is_empty() || out.columns == self.plan.columns.len(),
            "a batch of factors has one number of columns"
        );
        out.columns = self.plan.columns.len();
        self.counts.rows += rows.len() as u64;
        for row in &batch.rows[rows] {
            if row.kind == Kind::Boundary as u8 {
                self.on_boundary(batch.key(row), out);
            } else {
                self.on_tick(batch, row, out);
            }
        }
    }

    #[inline]
    fn on_tick(&mut self, batch: &TickBatch, row: &Tick, out: &mut FactorBatch) {
        let id = row.symbol();
        let place = self.routes[usize::from(batch.source.0)][id.index()];
        let symbol = &mut self.symbols[place as usize];
        symbol.book.on_row(row);
        let Some(moved) = symbol.price.on_row(row) else { return };
        if !self.plan.windows.is_empty() {
            symbol.windows.on_move(moved);
        }
        let key = batch.key(row);
        let Move { price, volume } = moved;
        let input = FactorInput {
            at: key.frontier,
            price,
            high: price,
            low: price,
            volume,
            turnover: price * volume,
            book: &symbol.book,
        };
        let count = self.plan.tick_count;
        let plans = &self.plan.families[..count];
        self.counts.factors +=
            advance(plans, &mut symbol.families[..count], &input, &mut symbol.values);
        out.rows.push(FactorRow { key, symbol: id, is_boundary: false, price });
        out.values.extend_from_slice(&symbol.values);
    }

    /// Closes the windows of every symbol of the boundary's source.
    #[inline(never)]
    fn on_boundary(&mut self, key: Key, out: &mut FactorBatch) {
        if self.plan.windows.is_empty() {
            return;
        }
        let step = key.frontier;
        let Some(by_text) = self.by_text.get(usize::from(key.source.0)) else { return };
        for &(id, place) in by_text {
            let symbol = &mut self.symbols[place as usize];
            if !symbol.windows.on_boundary(step.as_nanos(), self.config.window_nanos()) {
                continue;
            }
            let Some(price) = symbol.close_windows(step, &self.plan, &mut self.counts) else {
                continue;
            };
            out.rows.push(FactorRow { key, symbol: id, is_boundary: true, price });
            out.values.extend_from_slice(&symbol.values);
        }
    }

    /// Replaces the columns while running. Families that stay keep their state; new ones have seen
    /// nothing, and their columns are `NAN` until they have seen enough. A new column of a family
    /// that stays is `NAN` until the family's next step.
    ///
    /// # Errors
    ///
    /// [`FactorError`], and nothing changes.
    pub fn set_specs(&mut self, specs: &[FactorSpec]) -> Result<(), FactorError> {
        let plan = Plan::new(&self.config, &self.registry, specs)?;
        let before = std::mem::replace(&mut self.plan, plan);
        let plan = &self.plan;
        for symbol in &mut self.symbols {
            if plan.windows.is_empty() {
                // Nothing adds to the panes from here on; what is in them would be stale later.
                symbol.windows = Windows::new();
            }
            let mut families: Vec<Option<Family>> =
                std::mem::take(&mut symbol.families).into_iter().map(Some).collect();
            let is_same =
                |old: &FamilyPlan, new: &FamilyPlan| old.key == new.key && old.window == new.window;
            symbol.families = plan
                .families
                .iter()
                .map(|new| {
                    let old = before.families.iter().position(|old| is_same(old, new));
                    old.and_then(|old| families[old].take())
                        .unwrap_or_else(|| Family::new(&new.key, &self.registry))
                })
                .collect();
            let value_of = |spec| {
                let old = before.columns.iter().position(|old| old == spec);
                old.map_or(f64::NAN, |old| symbol.values[old])
            };
            symbol.values = plan.columns.iter().map(value_of).collect();
        }
        Ok(())
    }

    /// Everything the engine has to remember.
    pub fn snapshot(&self) -> FactorSnapshot {
        FactorSnapshot {
            columns: self.plan.columns.clone(),
            routes: self.routes.clone(),
            symbols: self.symbols.iter().map(SymbolState::snapshot).collect(),
            counts: self.counts,
        }
    }

    /// Becomes the engine that wrote `snapshot`, columns included: they may have been changed while
    /// it ran. Configuration and registry are this engine's own and must be equal to the other's.
    ///
    /// # Errors
    ///
    /// [`FactorError`] when the snapshot does not suit the registry, and nothing changes.
    pub fn restore(&mut self, snapshot: FactorSnapshot) -> Result<(), FactorError> {
        let plan = Plan::new(&self.config, &self.registry, &snapshot.columns)?;
        if plan.columns != snapshot.columns {
            return Err(damaged("its columns are not canonical"));
        }
        let mut restored = Self {
            config: self.config.clone(),
            registry: self.registry.clone(),
            plan,
            routes: Vec::new(),
            by_text: Vec::new(),
            places: BTreeMap::new(),
            symbols: Vec::with_capacity(snapshot.symbols.len()),
            counts: snapshot.counts,
        };
        for symbol in snapshot.symbols {
            let name = symbol.instrument.symbol.clone();
            let place = index_to_u32(restored.symbols.len());
            let symbol = SymbolState::restore(symbol, &restored.plan, &restored.registry)
                .map_err(|problem| damaged(&format!("{name}: {problem}")))?;
            restored.symbols.push(symbol);
            restored.places.insert(name, place);
        }
        for (source, routes) in (0..).map(SourceId).zip(&snapshot.routes) {
            for (id, &place) in (0..).map(SymbolId).zip(routes) {
                if place == UNDEFINED {
                    continue;
                }
                if place as usize >= restored.symbols.len() {
                    return Err(damaged("a symbol's number leads nowhere"));
                }
                restored.route(source, id, place);
            }
        }
        *self = restored;
        Ok(())
    }
}

impl SymbolState {
    fn new(
        instrument: Arc<Instrument>,
        config: &FactorConfig,
        plan: &Plan,
        registry: &FactorRegistry,
    ) -> Self {
        let price_unit = to_f64(decimal::POW10[usize::from(instrument.price_decimals)]);
        let quantity_unit = to_f64(decimal::POW10[usize::from(instrument.quantity_decimals)]);
        let source = config.prices[instrument.class.index()];
        Self {
            instrument,
            price: PriceRule::new(source, price_unit, quantity_unit),
            book: Book::new(price_unit, quantity_unit),
            windows: Windows::new(),
            values: vec![f64::NAN; plan.columns.len()],
            families: plan.families.iter().map(|plan| Family::new(&plan.key, registry)).collect(),
        }
    }

    /// Feeds every window that the step closed to the factors on it. The window's last price, if
    /// any had something in it.
    fn close_windows(
        &mut self,
        step: Timestamp,
        plan: &Plan,
        counts: &mut FactorCounts,
    ) -> Option<f64> {
        let mut last = None;
        for (length, range) in &plan.windows {
            let Some(window) = self.windows.window(*length) else { continue };
            let input = FactorInput {
                at: step,
                price: window.price,
                high: window.high,
                low: window.low,
                volume: window.volume,
                turnover: window.turnover,
                book: &self.book,
            };
            let plans = &plan.families[range.clone()];
            let families = &mut self.families[range.clone()];
            counts.factors += advance(plans, families, &input, &mut self.values);
            last = Some(window.price);
        }
        last
    }

    fn snapshot(&self) -> SymbolSnapshot {
        SymbolSnapshot {
            instrument: Arc::clone(&self.instrument),
            price: self.price,
            book: self.book,
            windows: self.windows.clone(),
            values: self.values.clone(),
            families: self.families.iter().map(Family::snapshot).collect(),
        }
    }

    fn restore(
        snapshot: SymbolSnapshot,
        plan: &Plan,
        registry: &FactorRegistry,
    ) -> Result<Self, String> {
        if snapshot.values.len() != plan.columns.len()
            || snapshot.families.len() != plan.families.len()
        {
            return Err("it has another number of factors".to_owned());
        }
        let families = plan.families.iter().zip(snapshot.families);
        Ok(Self {
            instrument: snapshot.instrument,
            price: snapshot.price,
            book: snapshot.book,
            windows: snapshot.windows,
            values: snapshot.values,
            families: families
                .map(|(plan, family)| Family::restore(&plan.key, registry, family))
                .collect::<Result<_, _>>()?,
        })
    }
}

/// Feeds one step to families and puts their values into their columns. How many there were.
#[inline]
fn advance(
    plans: &[FamilyPlan],
    families: &mut [Family],
    input: &FactorInput<'_>,
    values: &mut [f64],
) -> u64 {
    let mut count = 0;
    for (plan, family) in plans.iter().zip(families) {
        family.update(input);
        for &(output, column) in &plan.outputs {
            let value = family.value(output);
            values[column] = value;
            count += u64::from(!value.is_nan());
        }
    }
    count
}

fn damaged(problem: &str) -> FactorError {
    FactorError::Snapshot { problem: problem.to_owned() }
}

fn index_to_u32(index: usize) -> u32 {
    u32::try_from(index).expect("symbols are numbered with 32 bits")
}
