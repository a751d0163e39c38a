//! Orders over price, for the busiest instruments.

use serde::{Deserialize, Serialize};

use crate::domain::{
    Fill, InstrumentIndex, Order, OrderId, Price, Quantity, Side, Symbol, Timestamp,
};

use super::sampled::Sampled;
use super::slot;

/// Orders among which a fill looks for its own: fills follow their order closely.
const RECENT_ORDERS: usize = 64;

/// An order on a chart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChartOrder {
    /// Which.
    pub id: OrderId,
    /// Which way.
    pub side: Side,
    /// Its limit.
    pub price: Price,
    /// How much was wanted.
    pub quantity: Quantity,
    /// How much traded.
    pub filled: Quantity,
}

/// What is kept of one instrument for its chart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chart {
    /// Which.
    pub instrument: InstrumentIndex,
    /// Its name.
    pub symbol: Symbol,
    /// How many orders there were, those before the chart included.
    pub order_count: u64,
    /// How often it has traded, likewise.
    pub fill_count: u64,
    /// Orders, evenly thinned.
    pub orders: Sampled<ChartOrder>,
    /// Marks at the times of the equity curve, evenly thinned. While a mark stays as it is only the
    /// ends of that time are there.
    pub prices: Sampled<(Timestamp, Price)>,
    /// The last mark, and when it was seen last.
    mark: Option<(Timestamp, Price)>,
}

/// How often an instrument was ordered and traded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Counts {
    orders: u64,
    fills: u64,
}

/// Charts of the busiest instruments. An instrument that is not charted takes the place of the
/// quietest once it has traded clearly more often, so that places do not change hands at every fill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Charts {
    charts_max: usize,
    points_max: usize,
    /// At most `charts_max`.
    charts: Vec<Chart>,
    /// By instrument.
    counts: Vec<Counts>,
}

impl Charts {
    pub(super) fn new(charts_max: usize, points_max: usize) -> Self {
        Self { charts_max, points_max, charts: Vec::new(), counts: Vec::new() }
    }

    pub(super) fn charts(&self) -> &[Chart] {
        &self.charts
    }

    fn find(&mut self, instrument: InstrumentIndex) -> Option<&mut Chart> {
        self.charts.iter_mut().find(|chart| chart.instrument == instrument)
    }

    pub(super) fn on_order(&mut self, order: &Order, symbol: &Symbol) {
        let counts = slot(&mut self.counts, order.instrument.index());
        counts.orders += 1;
        let counts = *counts;
        if self.find(order.instrument).is_none() && self.charts.len() < self.charts_max {
            self.open(order.instrument, symbol);
        }
        if let Some(chart) = self.find(order.instrument) {
            chart.order_count = counts.orders;
            chart.orders.push(ChartOrder {
                id: order.id,
                side: order.side,
                price: order.limit_price,
                quantity: order.quantity,
                filled: Quantity::ZERO,
            });
        }
    }

    pub(super) fn on_fill(&mut self, fill: &Fill, symbol: &Symbol) {
        let counts = slot(&mut self.counts, fill.instrument.index());
        counts.fills += 1;
        let counts = *counts;
        if self.find(fill.instrument).is_none() {
            self.make_room(counts.fills);
            if self.charts.len() < self.charts_max {
                self.open(fill.instrument, symbol);
            }
        }
        if let Some(chart) = self.find(fill.instrument) {
            (chart.order_count, chart.fill_count) = (counts.orders, counts.fills);
            let mut recent = chart.orders.recent_mut().take(RECENT_ORDERS);
            if let Some(order) = recent.find(|order| order.id == fill.order) {
                order.filled = order.filled.saturating_add(fill.quantity);
            }
        }
    }

    /// Gives up the quietest chart if an instrument that has traded `fill_count` times deserves it
    /// more.
    fn make_room(&mut self, fill_count: u64) {
        if self.charts.len() < self.charts_max {
            return;
        }
        let quietest = self.charts.iter().enumerate().min_by_key(|(_, chart)| chart.fill_count);
        if let Some((at, chart)) = quietest
            && fill_count > 2 * chart.fill_count + 8
        {
            self.charts.remove(at);
        }
    }

    fn open(&mut self, instrument: InstrumentIndex, symbol: &Symbol) {
        self.charts.push(Chart {
            instrument,
            symbol: symbol.clone(),
            order_count: 0,
            fill_count: 0,
            orders: Sampled::new(self.points_max),
            prices: Sampled::new(self.points_max),
            mark: None,
        });
    }

    pub(super) fn sample(
        &mut self,
        at: Timestamp,
        marks: impl Fn(InstrumentIndex) -> Option<Price>,
    ) {
        for chart in &mut self.charts {
            if let Some(price) = marks(chart.instrument) {
                chart.on_mark(at, price);
            }
        }
    }
}

impl Chart {
    /// A symbol whose data has ended keeps its mark for the rest of the run: that takes no points.
    fn on_mark(&mut self, at: Timestamp, price: Price) {
        let newest = self.prices.iter().last().copied();
        if let Some(last) = self.mark.replace((at, price)) {
            if last.1 == price {
                return;
            }
            if newest.is_some_and(|newest| newest.0 < last.0) {
                self.prices.push(last);
            }
        }
        self.prices.push((at, price));
    }
}
