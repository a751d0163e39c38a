//! Feeds every row to its symbol's factors.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::family::{Family, FamilySnapshot};
use super::input::{Book, FactorInput, Move, PriceRule, to_f64};
use super::plan::{FactorConfig, Plan};
use super::registry::{FactorError, FactorRegistry};
use super::windows::Windows;
use crate::domain::{
    Definition, FactorBatch, FactorLayout, FactorRow, FactorSpec, Instrument, Key, Kind, SourceId,
    Symbol, SymbolId, Tick, TickBatch, decimal,
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
    layout: Arc<FactorLayout>,
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
    families: Vec<FamilySnapshot>,
}

/// One symbol, whichever sources it comes from.
#[derive(Debug)]
struct SymbolState {
    instrument: Arc<Instrument>,
    price: PriceRule,
    book: Book,
    windows: Windows,
}

/// Computes factors; see the [module](super).
///
/// Grows with the number of symbols and columns, not with the number of rows.
#[derive(Debug)]
pub struct FactorEngine {
    config: FactorConfig,
    registry: FactorRegistry,
    plan: Plan,
    /// The columns of the plan, for the batches.
    layout: Arc<FactorLayout>,
    /// By source.
    routes: Vec<Routes>,
    /// By source: its symbols in the order of their text, with their places.
    by_text: Vec<Vec<(SymbolId, u32)>>,
    places: BTreeMap<Symbol, u32>,
    symbols: Vec<SymbolState>,
    /// By symbol, and within a symbol in the order of the plan.
    families: Vec<Family>,
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
            layout: Arc::new(FactorLayout { version: 0, columns: plan.columns.clone() }),
            plan,
            routes: Vec::new(),
            by_text: Vec::new(),
            places: BTreeMap::new(),
            symbols: Vec::new(),
            families: Vec::new(),
            counts: FactorCounts::default(),
        })
    }

    /// The columns of a row, and how often they were [set](Self::set_specs).
    pub fn layout(&self) -> &Arc<FactorLayout> {
        &self.layout
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
                self.symbols.push(SymbolState::new(instrument, &self.config));
                let plans = &self.plan.families;
                self.families
                    .extend(plans.iter().map(|plan| Family::new(&plan.key, &self.registry)));
                self.places.insert(symbol.clone(), place);
                place
            }
        };
        self.route(source, definition.id, place);
    }

    /// What the number `id` of `source` stands for; none, if it was not defined.
    pub fn symbol(&self, source: SourceId, id: SymbolId) -> Option<&Symbol> {
        let place = *self.routes.get(usize::from(source.0))?.get(id.index())?;
        Some(&self.symbols.get(place as usize)?.instrument.symbol)
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
    /// When a row's symbol was not defined, or `out` holds rows of another layout.
    #[inline]
    pub fn on_rows(&mut self, batch: &TickBatch, rows: Range<usize>, out: &mut FactorBatch) {
        if !Arc::ptr_eq(&out.layout, &self.layout) {
            assert!(
                out.rows.is_empty() || *out.layout == *self.layout,
                "a batch of factors has one layout"
            );
            out.layout = Arc::clone(&self.layout);
        }
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
        let place = self.routes[usize::from(batch.source.0)][id.index()] as usize;
        let symbol = &mut self.symbols[place];
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
        let families = &mut self.families[place * self.plan.families.len()..];
        for family in &mut families[..self.plan.tick_count] {
            family.update(&input);
        }
        out.rows.push(FactorRow { key, symbol: id, is_boundary: false, price });
        let ticking = 0..self.plan.tick_count;
        self.counts.factors += emit(&self.plan, families, ticking, &mut out.values);
    }

    /// Closes the windows of every symbol of the boundary's source.
    #[inline(never)]
    fn on_boundary(&mut self, key: Key, out: &mut FactorBatch) {
        if self.plan.windows.is_empty() {
            return;
        }
        let length_max = self.config.window_nanos();
        let Some(by_text) = self.by_text.get(usize::from(key.source.0)) else { return };
        for &(id, place) in by_text {
            let symbol = &mut self.symbols[place as usize];
            if !symbol.windows.on_boundary(key.frontier.as_nanos(), length_max) {
                continue;
            }
            let families = &mut self.families[place as usize * self.plan.families.len()..];
            let mut closed: Option<(f64, Range<usize>)> = None;
            // From the longest window down: if there is nothing in one, the shorter ones are empty.
            for (length, range) in self.plan.windows.iter().rev() {
                let Some(window) = symbol.windows.window(*length) else { break };
                let input = FactorInput {
                    at: key.frontier,
                    price: window.price,
                    high: window.high,
                    low: window.low,
                    volume: window.volume,
                    turnover: window.turnover,
                    book: &symbol.book,
                };
                for family in &mut families[range.clone()] {
                    family.update(&input);
                }
                // The windows that advanced are neighbours in the plan.
                let end = closed.map_or(range.end, |(_, longer)| longer.end);
                closed = Some((window.price, range.start..end));
            }
            let Some((price, range)) = closed else { continue };
            out.rows.push(FactorRow { key, symbol: id, is_boundary: true, price });
            self.counts.factors += emit(&self.plan, families, range, &mut out.values);
        }
    }

    /// Replaces the columns while running, which is the next version of the layout, even if they
    /// are the same. Families that stay keep their state; new ones have seen nothing, and their
    /// columns are `NAN` until they have seen enough.
    ///
    /// # Errors
    ///
    /// [`FactorError`], and nothing changes.
    pub fn set_specs(&mut self, specs: &[FactorSpec]) -> Result<(), FactorError> {
        let plan = Plan::new(&self.config, &self.registry, specs)?;
        let version = self.layout.version + 1;
        self.layout = Arc::new(FactorLayout { version, columns: plan.columns.clone() });
        let before = std::mem::replace(&mut self.plan, plan);
        let plan = &self.plan;
        if plan.windows.is_empty() {
            // Nothing adds to the panes from here on; what is in them would be stale later.
            self.symbols.iter_mut().for_each(|symbol| symbol.windows = Windows::new());
        }
        let mut old: Vec<Option<Family>> =
            std::mem::take(&mut self.families).into_iter().map(Some).collect();
        for symbol in 0..self.symbols.len() {
            for new in &plan.families {
                let same = before.families.iter().position(|old| old.is(&new.key, new.window));
                let kept = same.and_then(|at| old[symbol * before.families.len() + at].take());
                self.families.push(kept.unwrap_or_else(|| Family::new(&new.key, &self.registry)));
            }
        }
        Ok(())
    }

    /// Everything the engine has to remember.
    pub fn snapshot(&self) -> FactorSnapshot {
        FactorSnapshot {
            layout: Arc::clone(&self.layout),
            routes: self.routes.clone(),
            symbols: (0..self.symbols.len()).map(|place| self.snapshot_of(place)).collect(),
            counts: self.counts,
        }
    }

    fn snapshot_of(&self, place: usize) -> SymbolSnapshot {
        let symbol = &self.symbols[place];
        let count = self.plan.families.len();
        SymbolSnapshot {
            instrument: Arc::clone(&symbol.instrument),
            price: symbol.price,
            book: symbol.book,
            windows: symbol.windows.clone(),
            families: self.families[place * count..][..count]
                .iter()
                .map(Family::snapshot)
                .collect(),
        }
    }

    /// Becomes the engine that wrote `snapshot`, columns included: they may have been changed while
    /// it ran. Configuration and registry are this engine's own and must be equal to the other's.
    ///
    /// # Errors
    ///
    /// [`FactorError`] when the snapshot does not suit the registry, and nothing changes.
    pub fn restore(&mut self, snapshot: FactorSnapshot) -> Result<(), FactorError> {
        let plan = Plan::new(&self.config, &self.registry, &snapshot.layout.columns)?;
        if plan.columns != snapshot.layout.columns {
            return Err(damaged("its columns are not canonical"));
        }
        let mut restored = Self {
            config: self.config.clone(),
            registry: self.registry.clone(),
            plan,
            layout: snapshot.layout,
            routes: Vec::new(),
            by_text: Vec::new(),
            places: BTreeMap::new(),
            symbols: Vec::with_capacity(snapshot.symbols.len()),
            families: Vec::new(),
            counts: snapshot.counts,
        };
        for symbol in snapshot.symbols {
            let name = symbol.instrument.symbol.clone();
            let place = index_to_u32(restored.symbols.len());
            if symbol.families.len() != restored.plan.families.len() {
                return Err(damaged(&format!("{name} has another number of factors")));
            }
            for (plan, family) in restored.plan.families.iter().zip(symbol.families) {
                let family = Family::restore(&plan.key, &restored.registry, family)
                    .map_err(|problem| damaged(&format!("{name}: {problem}")))?;
                restored.families.push(family);
            }
            restored.symbols.push(SymbolState {
                instrument: symbol.instrument,
                price: symbol.price,
                book: symbol.book,
                windows: symbol.windows,
            });
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
    fn new(instrument: Arc<Instrument>, config: &FactorConfig) -> Self {
        let price_unit = to_f64(decimal::POW10[usize::from(instrument.price_decimals)]);
        let quantity_unit = to_f64(decimal::POW10[usize::from(instrument.quantity_decimals)]);
        let source = config.prices[instrument.class.index()];
        Self {
            instrument,
            price: PriceRule::new(source, price_unit, quantity_unit),
            book: Book::new(price_unit, quantity_unit),
            windows: Windows::new(),
        }
    }
}

/// Appends the latest value of every column. How many of them are from the families that `advanced`
/// and are known.
#[inline]
fn emit(plan: &Plan, families: &[Family], advanced: Range<usize>, values: &mut Vec<f64>) -> u64 {
    let families = &families[..plan.families.len()];
    let mut count = 0;
    values.extend(plan.outputs.iter().map(|&(family, output)| {
        let value = families[family].value(output);
        count += u64::from(!value.is_nan() && advanced.contains(&family));
        value
    }));
    count
}

fn damaged(problem: &str) -> FactorError {
    FactorError::Snapshot { problem: problem.to_owned() }
}

fn index_to_u32(index: usize) -> u32 {
    u32::try_from(index).expect("symbols are numbered with 32 bits")
}
