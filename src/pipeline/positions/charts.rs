//! Orders and fills over price, for the busiest instruments.

use serde::{Deserialize, Serialize};

use crate::domain::{InstrumentIndex, Price, Quantity, Side, Symbol, Timestamp};

use super::sampled::Sampled;

/// An order or a fill on a chart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChartPoint {
    /// When.
    pub at: Timestamp,
    /// Which way.
    pub side: Side,
    /// The limit of an order, the price of a fill.
    pub price: Price,
    /// How much.
    pub quantity: Quantity,
}

/// What is kept of one instrument for its chart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chart {
    /// Which.
    pub instrument: InstrumentIndex,
    /// Its name.
    pub symbol: Symbol,
    /// How often it has traded.
    pub fill_count: u64,
    /// Orders, evenly thinned.
    pub orders: Sampled<ChartPoint>,
    /// Fills, evenly thinned.
    pub fills: Sampled<ChartPoint>,
    /// Marks at the times of the equity curve, evenly thinned.
    pub prices: Sampled<(Timestamp, Price)>,
}

/// Charts of the busiest instruments. An instrument that is not charted takes the place of the
/// quietest once it has traded clearly more often, so that places do not change hands at every fill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Charts {
    charts_max: usize,
    points_max: usize,
    /// At most `charts_max`.
    charts: Vec<Chart>,
    /// Fills by instrument. One number per instrument.
    fill_counts: Vec<u64>,
}

impl Charts {
    pub(super) fn new(charts_max: usize, points_max: usize) -> Self {
        Self { charts_max, points_max, charts: Vec::new(), fill_counts: Vec::new() }
    }

    pub(super) fn charts(&self) -> &[Chart] {
        &self.charts
    }

    fn find(&mut self, instrument: InstrumentIndex) -> Option<&mut Chart> {
        self.charts.iter_mut().find(|chart| chart.instrument == instrument)
    }

    pub(super) fn on_order(
        &mut self,
        instrument: InstrumentIndex,
        symbol: &Symbol,
        point: ChartPoint,
    ) {
        if self.find(instrument).is_none() && self.charts.len() < self.charts_max {
            self.open(instrument, symbol, 0);
        }
        if let Some(chart) = self.find(instrument) {
            chart.orders.push(point);
        }
    }

    pub(super) fn on_fill(
        &mut self,
        instrument: InstrumentIndex,
        symbol: &Symbol,
        point: ChartPoint,
    ) {
        if self.fill_counts.len() <= instrument.index() {
            self.fill_counts.resize(instrument.index() + 1, 0);
        }
        self.fill_counts[instrument.index()] += 1;
        let fill_count = self.fill_counts[instrument.index()];
        if self.find(instrument).is_none() {
            self.make_room(fill_count);
            if self.charts.len() < self.charts_max {
                self.open(instrument, symbol, fill_count);
            }
        }
        if let Some(chart) = self.find(instrument) {
            chart.fill_count = fill_count;
            chart.fills.push(point);
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

    fn open(&mut self, instrument: InstrumentIndex, symbol: &Symbol, fill_count: u64) {
        self.charts.push(Chart {
            instrument,
            symbol: symbol.clone(),
            fill_count,
            orders: Sampled::new(self.points_max),
            fills: Sampled::new(self.points_max),
            prices: Sampled::new(self.points_max),
        });
    }

    pub(super) fn sample(
        &mut self,
        at: Timestamp,
        marks: impl Fn(InstrumentIndex) -> Option<Price>,
    ) {
        for chart in &mut self.charts {
            if let Some(price) = marks(chart.instrument) {
                chart.prices.push((at, price));
            }
        }
    }
}
