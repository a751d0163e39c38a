//! Exponential averages, and what is built from two of them.

use serde::{Deserialize, Serialize};

/// Below this an average of sizes is nothing. Wilder's averages of a market that stands still would
/// otherwise shrink into the subnormal numbers, where a processor is a hundred times slower.
const NOTHING: f64 = 1e-290;

/// An exponential average that starts, as TA-Lib's do, from the plain mean of the first `period`
/// values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Average {
    period: u32,
    /// Values seen, up to `period`.
    seen: u32,
    /// The weight of a new value.
    weight: f64,
    /// The sum of the first values, then the average.
    state: f64,
}

impl Average {
    /// Weight `2 / (period + 1)`: the usual EMA.
    pub(super) fn exponential(period: u32) -> Self {
        Self { period, seen: 0, weight: 2.0 / (f64::from(period) + 1.0), state: 0.0 }
    }

    /// Weight `1 / period`: J. Welles Wilder, "New Concepts in Technical Trading Systems", 1978.
    pub(super) fn wilder(period: u32) -> Self {
        Self { period, seen: 0, weight: 1.0 / f64::from(period), state: 0.0 }
    }

    pub(super) const fn period(&self) -> u32 {
        self.period
    }

    #[inline]
    pub(super) fn update(&mut self, value: f64) {
        if self.seen == self.period {
            self.state += self.weight * (value - self.state);
            if self.state.abs() < NOTHING {
                self.state = 0.0;
            }
        } else {
            self.state += value;
            self.seen += 1;
            if self.seen == self.period {
                self.state /= f64::from(self.period);
            }
        }
    }

    /// The average; `NAN` before `period` values.
    #[inline]
    pub(super) fn value(&self) -> f64 {
        if self.seen == self.period { self.state } else { f64::NAN }
    }
}

/// Moving average convergence/divergence: the fast EMA less the slow one, the EMA of that, and the
/// distance between the two.
///
/// Each EMA starts from its own first values. TA-Lib starts the fast one later, from the prices just
/// before the slow one's first value; the difference dies out as `(1 - weight)^n`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Macd {
    fast: Average,
    slow: Average,
    signal: Average,
}

impl Macd {
    pub(super) fn new(fast: u32, slow: u32, signal: u32) -> Self {
        Self {
            fast: Average::exponential(fast),
            slow: Average::exponential(slow),
            signal: Average::exponential(signal),
        }
    }

    pub(super) const fn periods(&self) -> (u32, u32, u32) {
        (self.fast.period, self.slow.period, self.signal.period)
    }

    #[inline]
    pub(super) fn update(&mut self, price: f64) {
        self.fast.update(price);
        self.slow.update(price);
        let line = self.line();
        if !line.is_nan() {
            self.signal.update(line);
        }
    }

    #[inline]
    pub(super) fn line(&self) -> f64 {
        self.fast.value() - self.slow.value()
    }

    #[inline]
    pub(super) fn signal(&self) -> f64 {
        self.signal.value()
    }

    #[inline]
    pub(super) fn histogram(&self) -> f64 {
        self.line() - self.signal()
    }
}

/// Relative strength index: Wilder's average rise as a share of average rise and fall, from 0 to
/// 100. A market that has not moved at all has no direction: 50 (TA-Lib says 0).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Rsi {
    last: f64,
    rise: Average,
    fall: Average,
}

impl Rsi {
    pub(super) fn new(period: u32) -> Self {
        Self { last: f64::NAN, rise: Average::wilder(period), fall: Average::wilder(period) }
    }

    pub(super) const fn period(&self) -> u32 {
        self.rise.period
    }

    #[inline]
    pub(super) fn update(&mut self, price: f64) {
        let change = price - self.last;
        self.last = price;
        if !change.is_nan() {
            self.rise.update(change.max(0.0));
            self.fall.update((-change).max(0.0));
        }
    }

    #[inline]
    pub(super) fn value(&self) -> f64 {
        let (rise, fall) = (self.rise.value(), self.fall.value());
        if rise + fall == 0.0 { 50.0 } else { 100.0 * rise / (rise + fall) }
    }
}

/// Average true range, by Wilder: how far prices go from one step to the next. The true range of a
/// window reaches from the lower of its low and the close before to the higher of its high and the
/// close before; that of a tick is its distance from the tick before. The first step has no close
/// before it and counts for nothing, as in TA-Lib.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Atr {
    last: f64,
    range: Average,
}

impl Atr {
    pub(super) fn new(period: u32) -> Self {
        Self { last: f64::NAN, range: Average::wilder(period) }
    }

    pub(super) const fn period(&self) -> u32 {
        self.range.period
    }

    #[inline]
    pub(super) fn update(&mut self, price: f64, high: f64, low: f64) {
        let last = std::mem::replace(&mut self.last, price);
        if !last.is_nan() {
            self.range.update(high.max(last) - low.min(last));
        }
    }

    #[inline]
    pub(super) fn value(&self) -> f64 {
        self.range.value()
    }
}
