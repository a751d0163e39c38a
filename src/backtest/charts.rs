//! What is kept of a run to draw it afterwards: one value per stretch of time, in bounded memory.
//!
//! A [`Samples`] starts with fine stretches; when it is full it joins them in pairs and goes on with
//! stretches twice as long. So any length of data ends as at most `limit` samples, evenly spread over
//! event time, and which ones are kept depends on the data alone.
//!
//! # Invariants
//!
//! 1. At most `limit` samples; times ascend; the newest value is always among them.
//! 2. A sample is the last value of its stretch of time, as if the stretches had had their present
//!    length from the beginning.

use serde::{Deserialize, Serialize};

use crate::domain::{Instrument, OrderId, Price, Quantity, Side, Timestamp};

use super::report::{OrderMark, PriceSample, SymbolChart};

/// The last value of each stretch of time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Samples<T> {
    /// Completed stretches, ascending; at most `limit - 1`.
    kept: Vec<(Timestamp, T)>,
    /// The newest value, in the stretch that is still open.
    newest: Option<(Timestamp, T)>,
    /// Where the open stretch ends, in nanoseconds. A later value closes it.
    end_nanos: u64,
    /// How long a stretch is, in nanoseconds; a power of two times what it was at first.
    stretch_nanos: u64,
    /// Most samples.
    limit: u32,
}

impl<T: Copy> Samples<T> {
    /// Empty, for at most `limit` samples, `stretch_nanos` apart for as long as they fit.
    ///
    /// # Panics
    ///
    /// When `limit` is below two or `stretch_nanos` is zero.
    pub fn new(limit: u32, stretch_nanos: u64) -> Self {
        assert!(limit >= 2 && stretch_nanos > 0, "two samples, some time apart, are the least");
        Self { kept: Vec::new(), newest: None, end_nanos: 0, stretch_nanos, limit }
    }

    /// Takes in what holds from `at` on. A time before the newest counts as the newest.
    #[inline]
    pub fn push(&mut self, at: Timestamp, value: T) {
        match &mut self.newest {
            Some(newest) if at.as_nanos() < self.end_nanos => {
                *newest = (at.max(newest.0), value);
            }
            _ => self.open_stretch(at, value),
        }
    }

    /// Closes the open stretch, if there is one, and opens that of `at`.
    #[cold]
    fn open_stretch(&mut self, at: Timestamp, value: T) {
        self.kept.extend(self.newest.replace((at, value)));
        while self.kept.len() + 1 > self.limit as usize {
            self.stretch_nanos = self.stretch_nanos.saturating_mul(2);
            self.join();
        }
        let start = at.as_nanos() / self.stretch_nanos * self.stretch_nanos;
        self.end_nanos = start.saturating_add(self.stretch_nanos);
    }

    /// Keeps only the last sample of each stretch, and none of the open one's.
    fn join(&mut self) {
        let stretch_of = |at: Timestamp| at.as_nanos() / self.stretch_nanos;
        let open = self.newest.map(|(at, _)| stretch_of(at));
        let mut kept: Vec<(Timestamp, T)> = Vec::with_capacity(self.kept.len());
        for &(at, value) in &self.kept {
            let stretch = Some(stretch_of(at));
            if stretch == open {
                continue;
            }
            match kept.last_mut() {
                Some(last) if Some(stretch_of(last.0)) == stretch => *last = (at, value),
                _ => kept.push((at, value)),
            }
        }
        self.kept = kept;
    }

    /// Every sample, in time order.
    pub fn iter(&self) -> impl Iterator<Item = (Timestamp, T)> + '_ {
        self.kept.iter().copied().chain(self.newest)
    }

    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.kept.len() + usize::from(self.newest.is_some())
    }

    /// Whether nothing was taken in yet.
    pub const fn is_empty(&self) -> bool {
        self.newest.is_none()
    }

    /// How long a stretch is now.
    pub const fn stretch_nanos(&self) -> u64 {
        self.stretch_nanos
    }
}

/// Most samples of a price.
pub const PRICES_MAX: u32 = 1_000;
/// Most orders marked in one chart.
pub const MARKS_MAX: usize = 400;
/// Most instruments recorded: 64 of them take about 2 MiB.
pub const RECORDED_MAX: usize = 64;
/// A price sample a second, to begin with.
const PRICE_STRETCH_NANOS: u64 = 1_000_000_000;

/// Prices and orders of the instruments that trade, for drawing.
///
/// Recording of an instrument begins with [`watch`](Self::watch), at its first signal, say; the first
/// [`RECORDED_MAX`] are taken. Part of exec's checkpoint, like everything else that a restart must
/// not lose.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ChartRecorder {
    /// Each instrument's place in `charts`, by its index, plus one; zero means it is not watched.
    places: Vec<u32>,
    charts: Vec<Recorded>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Recorded {
    instrument: u32,
    prices: Samples<Price>,
    /// Orders so far.
    orders: u64,
    /// Every `stride`-th order, at most [`MARKS_MAX`].
    marks: Vec<Mark>,
    stride: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    id: OrderId,
    at: Timestamp,
    side: Side,
    price: Price,
    quantity: Quantity,
    filled: Quantity,
}

impl ChartRecorder {
    /// Nothing watched.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins to record instrument number `instrument`, unless it is recorded or there are too many.
    pub fn watch(&mut self, instrument: u32) {
        if self.charts.len() >= RECORDED_MAX || self.chart(instrument).is_some() {
            return;
        }
        if self.places.len() <= instrument as usize {
            self.places.resize(instrument as usize + 1, 0);
        }
        self.charts.push(Recorded {
            instrument,
            prices: Samples::new(PRICES_MAX, PRICE_STRETCH_NANOS),
            orders: 0,
            marks: Vec::new(),
            stride: 1,
        });
        let place = u32::try_from(self.charts.len()).expect("bounded by RECORDED_MAX");
        self.places[instrument as usize] = place;
    }

    #[inline]
    fn chart(&mut self, instrument: u32) -> Option<&mut Recorded> {
        let place = *self.places.get(instrument as usize)?;
        self.charts.get_mut((place as usize).wrapping_sub(1))
    }

    /// The price of `instrument` is now `price`. Cheap for instruments nobody watches.
    #[inline]
    pub fn on_price(&mut self, instrument: u32, at: Timestamp, price: Price) {
        if let Some(chart) = self.chart(instrument) {
            chart.prices.push(at, price);
        }
    }

    /// An order left for a broker. Watches its instrument.
    pub fn on_order(
        &mut self,
        instrument: u32,
        at: Timestamp,
        id: OrderId,
        side: Side,
        price: Price,
        quantity: Quantity,
    ) {
        self.watch(instrument);
        let Some(chart) = self.chart(instrument) else { return };
        if chart.orders.is_multiple_of(chart.stride) {
            if chart.marks.len() >= MARKS_MAX {
                // Every second one goes, and from here on every second one comes.
                let mut place = 0u64;
                chart.marks.retain(|_| {
                    place += 1;
                    place % 2 == 1
                });
                chart.stride *= 2;
            }
            if chart.orders.is_multiple_of(chart.stride) {
                chart.marks.push(Mark { id, at, side, price, quantity, filled: Quantity::ZERO });
            }
        }
        chart.orders += 1;
    }

    /// A part of an order traded.
    pub fn on_fill(&mut self, instrument: u32, id: OrderId, quantity: Quantity) {
        let Some(chart) = self.chart(instrument) else { return };
        // Fills follow their order closely, so only the last marks are looked at.
        if let Some(mark) = chart.marks.iter_mut().rev().take(64).find(|mark| mark.id == id) {
            mark.filled = mark.filled.saturating_add(quantity);
        }
    }

    /// The `count` charts with the most orders, busiest first, ties by name.
    pub fn busiest<'a>(
        &self,
        count: usize,
        instrument: impl Fn(u32) -> &'a Instrument,
    ) -> Vec<SymbolChart> {
        let mut charts: Vec<&Recorded> =
            self.charts.iter().filter(|chart| chart.orders > 0).collect();
        charts.sort_by_key(|chart| {
            (std::cmp::Reverse(chart.orders), instrument(chart.instrument).symbol.clone())
        });
        charts.truncate(count);
        charts.into_iter().map(|chart| chart.draw(instrument(chart.instrument))).collect()
    }
}

impl Recorded {
    fn draw(&self, instrument: &Instrument) -> SymbolChart {
        let mark = |mark: &Mark| OrderMark {
            time_ns: mark.at.as_nanos(),
            side: mark.side,
            price: instrument.price_to_f64(mark.price),
            quantity: instrument.quantity_to_f64(mark.quantity),
            filled: instrument.quantity_to_f64(mark.filled),
        };
        let price = |(at, price): (Timestamp, Price)| PriceSample {
            time_ns: at.as_nanos(),
            price: instrument.price_to_f64(price),
        };
        SymbolChart {
            symbol: instrument.symbol.as_str().to_owned(),
            currency: instrument.currency.clone(),
            orders_total: self.orders,
            prices: self.prices.iter().map(price).collect(),
            orders: self.marks.iter().map(mark).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::{Class, Key, Session, Symbol};

    fn at(nanos: u64) -> Timestamp {
        Timestamp::from_nanos(nanos)
    }

    #[test]
    fn values_of_one_stretch_leave_only_the_last() {
        let mut samples = Samples::new(10, 100);
        for (nanos, value) in [(5, 'a'), (99, 'b'), (100, 'c'), (350, 'd'), (399, 'e')] {
            samples.push(at(nanos), value);
        }
        let kept: Vec<_> = samples.iter().map(|(at, value)| (at.as_nanos(), value)).collect();
        assert_eq!(kept, [(99, 'b'), (100, 'c'), (399, 'e')]);
    }

    #[test]
    fn a_clock_stepping_back_does_not_turn_samples_round() {
        let mut samples = Samples::new(4, 10);
        samples.push(at(105), 1);
        samples.push(at(50), 2);
        assert_eq!(samples.iter().collect::<Vec<_>>(), [(at(105), 2)]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// Invariants 1 and 2, against keeping everything.
        #[test]
        fn samples_are_the_last_values_of_even_stretches(
            steps in prop::collection::vec(0u64..2_000, 1..400),
            limit in 2u32..40,
        ) {
            let mut samples = Samples::new(limit, 16);
            let (mut now, mut all) = (1_000_000u64, Vec::new());
            for (value, step) in steps.into_iter().enumerate() {
                now += step;
                samples.push(at(now), value);
                all.push((now, value));
            }
            let stretch = samples.stretch_nanos();
            let last: BTreeMap<u64, (u64, usize)> =
                all.iter().map(|&(now, value)| (now / stretch, (now, value))).collect();
            let kept: Vec<_> = samples.iter().map(|(at, value)| (at.as_nanos(), value)).collect();
            prop_assert_eq!(kept, last.into_values().collect::<Vec<_>>());
            prop_assert!(samples.len() <= limit as usize);
        }
    }

    fn share(name: &str) -> Instrument {
        Instrument {
            symbol: Symbol::new(name).unwrap(),
            class: Class::EquityUs,
            currency: "USD".into(),
            price_decimals: 2,
            quantity_decimals: 0,
            tick_size: Price(1),
            lot: Quantity(1),
            quantity_min: Quantity(1),
            quantity_max: Quantity(1_000),
            multiplier: 1,
            inverse: false,
            session: Session::default(),
        }
    }

    fn id(ordinal: u32) -> OrderId {
        OrderId { key: Key::default(), ordinal }
    }

    #[test]
    fn the_busiest_symbols_come_first_with_fills_on_their_orders() {
        let instruments = [share("A.US"), share("B.US"), share("C.US")];
        let mut recorder = ChartRecorder::new();
        recorder.on_price(1, at(1), Price(100)); // nobody watches yet
        recorder.on_order(1, at(2), id(0), Side::Buy, Price(101), Quantity(5));
        recorder.on_order(2, at(2), id(1), Side::Sell, Price(99), Quantity(5));
        recorder.on_order(1, at(3), id(2), Side::Sell, Price(102), Quantity(7));
        recorder.on_price(1, at(4), Price(103));
        recorder.on_fill(1, id(2), Quantity(3));
        recorder.on_fill(1, id(2), Quantity(4));
        recorder.on_fill(0, id(2), Quantity(4)); // not watched

        let charts = recorder.busiest(5, |index| &instruments[index as usize]);
        assert_eq!(charts.len(), 2);
        assert_eq!((charts[0].symbol.as_str(), charts[0].orders_total), ("B.US", 2));
        let filled: Vec<f64> = charts[0].orders.iter().map(|order| order.filled).collect();
        assert_eq!(filled, [0.0, 7.0]);
        assert_eq!(charts[0].prices, [PriceSample { time_ns: 4, price: 1.03 }]);
        assert_eq!(recorder.busiest(1, |index| &instruments[index as usize]).len(), 1);
    }

    #[test]
    fn orders_beyond_the_limit_are_thinned_evenly() {
        let share = share("A.US");
        let mut recorder = ChartRecorder::new();
        let total = u32::try_from(10 * MARKS_MAX).unwrap();
        for order in 0..total {
            recorder.on_order(0, at(order.into()), id(order), Side::Buy, Price(1), Quantity(1));
        }
        let chart = &recorder.busiest(1, |_| &share)[0];
        assert_eq!(chart.orders_total, u64::from(total));
        assert!(chart.orders.len() > MARKS_MAX / 2 - 1 && chart.orders.len() <= MARKS_MAX);
        let steps: Vec<u64> =
            chart.orders.windows(2).map(|pair| pair[1].time_ns - pair[0].time_ns).collect();
        assert!(steps.iter().all(|&step| step == steps[0]), "{steps:?}");
    }

    #[test]
    fn no_more_than_so_many_instruments_are_recorded() {
        let mut recorder = ChartRecorder::new();
        (0..200).for_each(|instrument| recorder.watch(instrument));
        assert_eq!(recorder.charts.len(), RECORDED_MAX);
    }
}
