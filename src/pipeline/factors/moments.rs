//! Mean and deviation of the last prices: SMA, Bollinger bands and z-score share one window.

use serde::{Deserialize, Serialize};

/// Updates between two plain re-summations, at least. By count, so that it falls on the same row of
/// a symbol in every run.
const RESUM_INTERVAL_MIN: u32 = 64;

/// How far the sums may stand from the window they describe, as a ratio of squares, before they are
/// taken anew. Rounding errors grow by this factor: 1e-16 becomes 1e-14.
const ANCHOR_RATIO_MAX: f64 = 64.0;

/// How much larger than all of the remaining spread a leaving price's square may be: what it
/// rounded away stays in the sums.
const LEAVING_RATIO_MAX: f64 = 1e4;

/// Mean and population deviation of a sliding window of prices.
///
/// Keeps the sums of the prices' distances from an anchor, and of their squares (Chan, Golub and
/// LeVeque, "Algorithms for computing the sample variance", 1983, section 3: shifted data). The
/// anchor is the price of the window that is nearest to its mean. Sums and anchor are taken anew by
/// count, and at once when the prices have moved far from the anchor or an outlier leaves. A window
/// of equal prices therefore has a deviation of exactly zero.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Moments {
    /// The window. Never longer than `period`.
    prices: Vec<f64>,
    period: u32,
    /// Where the next price goes: the end, then the place of the oldest.
    next: u32,
    /// Updates since the sums were last taken anew.
    age: u32,
    anchor: f64,
    /// Of distances from `anchor`.
    sum: f64,
    /// Of squared distances from `anchor`.
    squares: f64,
    mean: f64,
    deviation: f64,
    /// One over `period`: divisions are dear, and this one's rounding is harmless next to the sums'.
    share: f64,
}

impl Moments {
    pub(super) fn new(period: u32) -> Self {
        Self {
            prices: Vec::with_capacity(period as usize),
            period,
            next: 0,
            age: 0,
            anchor: 0.0,
            sum: 0.0,
            squares: 0.0,
            mean: f64::NAN,
            deviation: f64::NAN,
            share: 1.0 / f64::from(period),
        }
    }

    pub(super) const fn period(&self) -> u32 {
        self.period
    }

    #[inline]
    pub(super) fn update(&mut self, price: f64) {
        let period = self.period;
        let Some(place) = self.prices.get_mut(self.next as usize) else {
            return self.fill(price);
        };
        let leaving = std::mem::replace(place, price);
        self.next = if self.next + 1 == period { 0 } else { self.next + 1 };
        let (came, left) = (price - self.anchor, leaving - self.anchor);
        self.sum += came - left;
        self.squares += (price - leaving) * (came + left);
        self.age += 1;

        let shift = self.sum * self.share;
        let spread = self.squares - self.sum * shift;
        let is_stale = self.age >= period.max(RESUM_INTERVAL_MIN)
            || self.sum * shift > ANCHOR_RATIO_MAX * spread
            || left * left > LEAVING_RATIO_MAX * spread;
        if is_stale {
            self.resum();
        } else {
            self.mean = self.anchor + shift;
            self.deviation = (spread * self.share).sqrt();
        }
    }

    /// The window is not full yet. A full one starts with fresh sums.
    #[cold]
    fn fill(&mut self, price: f64) {
        self.prices.push(price);
        self.next += 1;
        if self.next == self.period {
            self.next = 0;
            self.anchor = self.prices[0];
            self.resum();
        }
    }

    /// Takes anchor and sums from the window itself.
    #[inline(never)]
    fn resum(&mut self) {
        let distances: f64 = self.prices.iter().map(|price| price - self.anchor).sum();
        let mean = self.anchor + distances * self.share;
        let mut anchor = self.prices[0];
        for &price in &self.prices {
            if (price - mean).abs() < (anchor - mean).abs() {
                anchor = price;
            }
        }
        let (mut sum, mut squares) = (0.0, 0.0);
        for price in &self.prices {
            let distance = price - anchor;
            sum += distance;
            squares += distance * distance;
        }
        (self.anchor, self.sum, self.squares, self.age) = (anchor, sum, squares, 0);
        let shift = sum * self.share;
        self.mean = anchor + shift;
        self.deviation = ((squares - sum * shift).max(0.0) * self.share).sqrt();
    }

    /// The mean; `NAN` until the window is full.
    #[inline]
    pub(super) const fn mean(&self) -> f64 {
        self.mean
    }

    /// The population deviation (divided by the count, as TA-Lib does); `NAN` until the window is
    /// full.
    #[inline]
    pub(super) const fn deviation(&self) -> f64 {
        self.deviation
    }

    /// The newest price's distance from the mean, in deviations; zero where there is no deviation.
    #[inline]
    pub(super) fn score(&self) -> f64 {
        if self.deviation.is_nan() {
            return f64::NAN;
        }
        if self.deviation == 0.0 {
            return 0.0;
        }
        let newest = if self.next == 0 { self.period } else { self.next } - 1;
        (self.prices[newest as usize] - self.mean) / self.deviation
    }
}
