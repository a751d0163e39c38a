//! Sliding sums of what cannot be negative: traded volume, and squared returns.

use serde::{Deserialize, Serialize};

/// Updates between two re-summations, at least; by count, so that it falls on the same row of a
/// symbol in every run.
const RESUM_INTERVAL_MIN: u32 = 64;

/// How much larger than the sum that remains a leaving value may be: what it rounded away stays in
/// the sum.
const LEAVING_RATIO_MAX: f64 = 1e4;

/// Average price of the last steps that traded, weighted by volume. Steps without volume pass it by.
///
/// Keeps the volume and the volume times the price's distance from an anchor, so that the price's
/// height costs no digits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Vwap {
    /// Average price and volume by step. Never longer than `period`.
    steps: Vec<(f64, f64)>,
    period: u32,
    /// Where the next step goes: the end, then the place of the oldest.
    next: u32,
    /// Updates since the sums were last taken anew.
    age: u32,
    anchor: f64,
    volume: f64,
    /// Of volume times distance from the anchor.
    moment: f64,
}

impl Vwap {
    pub(super) fn new(period: u32) -> Self {
        Self {
            steps: Vec::with_capacity(period as usize),
            period,
            next: 0,
            age: 0,
            anchor: 0.0,
            volume: 0.0,
            moment: 0.0,
        }
    }

    pub(super) const fn period(&self) -> u32 {
        self.period
    }

    #[inline]
    pub(super) fn update(&mut self, turnover: f64, volume: f64) {
        if volume <= 0.0 {
            return;
        }
        let price = turnover / volume;
        let Some(place) = self.steps.get_mut(self.next as usize) else {
            self.steps.push((price, volume));
            self.next += 1;
            if self.next == self.period {
                self.next = 0;
                self.resum();
            }
            return;
        };
        let (old_price, old_volume) = std::mem::replace(place, (price, volume));
        self.next = if self.next + 1 == self.period { 0 } else { self.next + 1 };
        self.age += 1;
        let left = old_volume * (old_price - self.anchor);
        self.volume += volume - old_volume;
        self.moment += volume * (price - self.anchor) - left;
        let is_stale = self.age >= self.period.max(RESUM_INTERVAL_MIN)
            || old_volume > LEAVING_RATIO_MAX * self.volume;
        if is_stale {
            self.resum();
        }
    }

    /// Takes the sums from the window itself, and its newest price as anchor.
    #[inline(never)]
    fn resum(&mut self) {
        let newest = self.next.checked_sub(1).map_or(self.steps.len() - 1, |last| last as usize);
        let anchor = self.steps[newest].0;
        let (mut total, mut moment) = (0.0, 0.0);
        for &(price, volume) in &self.steps {
            total += volume;
            moment += volume * (price - anchor);
        }
        (self.anchor, self.volume, self.moment, self.age) = (anchor, total, moment, 0);
    }

    /// The average; `NAN` until `period` steps have traded.
    #[inline]
    pub(super) fn value(&self) -> f64 {
        if self.steps.len() == self.period as usize {
            self.anchor + self.moment / self.volume
        } else {
            f64::NAN
        }
    }
}

/// Realised volatility: the root of the sum of squared log returns of the last steps. Not annualised:
/// 0.01 is one percent over the whole window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Volatility {
    /// Squared log returns. Never longer than `period`.
    squares: Vec<f64>,
    period: u32,
    /// Where the next square goes: the end, then the place of the oldest.
    next: u32,
    /// Updates since the sum was last taken anew.
    age: u32,
    last: f64,
    sum: f64,
}

impl Volatility {
    pub(super) fn new(period: u32) -> Self {
        Self {
            squares: Vec::with_capacity(period as usize),
            period,
            next: 0,
            age: 0,
            last: f64::NAN,
            sum: 0.0,
        }
    }

    pub(super) const fn period(&self) -> u32 {
        self.period
    }

    #[inline]
    pub(super) fn update(&mut self, price: f64) {
        let last = std::mem::replace(&mut self.last, price);
        // No price before this one, or none that has a logarithm.
        if last.is_nan() || price <= 0.0 || last <= 0.0 {
            return;
        }
        // Most steps of a slow market return to the same price; the logarithm is the dear part.
        let change = if price == last { 0.0 } else { log_ratio(price, last) };
        let square = change * change;
        let Some(place) = self.squares.get_mut(self.next as usize) else {
            self.squares.push(square);
            self.next += 1;
            if self.next == self.period {
                self.next = 0;
                self.resum();
            }
            return;
        };
        let leaving = std::mem::replace(place, square);
        self.next = if self.next + 1 == self.period { 0 } else { self.next + 1 };
        self.age += 1;
        self.sum += square - leaving;
        let is_stale = self.age >= self.period.max(RESUM_INTERVAL_MIN)
            || leaving > LEAVING_RATIO_MAX * self.sum;
        if is_stale {
            self.resum();
        }
    }

    #[inline(never)]
    fn resum(&mut self) {
        self.sum = self.squares.iter().sum();
        self.age = 0;
    }

    /// The volatility; `NAN` until there are `period` returns.
    #[inline]
    pub(super) fn value(&self) -> f64 {
        if self.squares.len() == self.period as usize { self.sum.sqrt() } else { f64::NAN }
    }
}

/// The logarithm of `price / last`, with the digits that the quotient of two close prices loses.
#[inline]
fn log_ratio(price: f64, last: f64) -> f64 {
    libm::log1p((price - last) / last)
}
