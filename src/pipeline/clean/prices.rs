//! What a symbol's price was lately, to tell an error from a move.

use serde::{Deserialize, Serialize};

use super::rules::OutlierRules;

const WINDOW: usize = OutlierRules::WINDOW_MAX;

/// The last prices of one symbol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Prices {
    /// The newest; 0 before the first.
    last: i64,
    /// Prices since the last fresh start.
    count: u32,
    /// Where the next one goes.
    at: u32,
    /// When the newest came, by the source's frontier; unix nanoseconds.
    frontier: u64,
    /// Rows refused in a row that agreed with each other.
    suspects: u32,
    /// The price of the last of them.
    suspect: i64,
    /// Lowest and highest price that need no judging, `last` among them; see
    /// [`calm_down`](Self::calm_down).
    calm: (i64, i64),
    window: [i64; WINDOW],
}

/// What a row's prices are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// What one would expect.
    Usual,
    /// Far off, but so were the rows before.
    NewLevel,
    /// Far off.
    Outlier,
}

impl Prices {
    /// Judges a row whose lowest and highest price these are. `move_max_ppm` is the rule's, or a
    /// wider one.
    #[inline]
    pub(super) fn judge(
        &mut self,
        rules: &OutlierRules,
        move_max_ppm: u32,
        (low, high): (i64, i64),
        frontier: u64,
    ) -> Judgement {
        if low >= self.calm.0 && high <= self.calm.1 {
            return Judgement::Usual;
        }
        self.judge_move(rules, move_max_ppm, (low, high), frontier)
    }

    /// Takes in the price of a row that was let through.
    #[inline]
    pub(super) fn push(&mut self, rules: &OutlierRules, price: i64, frontier: u64) {
        self.last = price;
        self.frontier = frontier;
        self.suspects = 0;
        self.count = self.count.saturating_add(1);
        self.window[self.at as usize % WINDOW] = price;
        self.at += 1;
        if self.at >= rules.window.min(32) {
            self.at = 0;
        }
        if price < self.calm.0 || price > self.calm.1 {
            self.calm_down(rules, price);
        }
    }

    /// Centres `calm` on `price`, a quarter of the allowed move to each side. Any two prices within
    /// it differ by half a move at most, and the lower is at least three quarters of the centre; so
    /// neither is beyond a move from the other, and there is nothing to judge.
    #[cold]
    fn calm_down(&mut self, rules: &OutlierRules, price: i64) {
        let quarter = i128::from(price) * i128::from(rules.move_max_ppm.min(1_000_000)) / 4_000_000;
        let quarter = i64::try_from(quarter).unwrap_or(0);
        self.calm = (price - quarter, price.saturating_add(quarter));
    }

    /// Lets nothing pass unjudged until the next price, because the rules may have changed.
    pub(super) fn follow(&mut self) {
        self.calm = (1, 0);
        if self.at as usize >= WINDOW {
            self.at = 0;
        }
    }

    /// Forgets what was usual: another day, another level.
    pub(super) fn start_afresh(&mut self) {
        *self = Self::default();
    }

    #[cold]
    fn judge_move(
        &mut self,
        rules: &OutlierRules,
        move_max_ppm: u32,
        (low, high): (i64, i64),
        frontier: u64,
    ) -> Judgement {
        let usual = !beyond(low, self.last, move_max_ppm) && !beyond(high, self.last, move_max_ppm);
        if usual || self.count < rules.count_min.max(1) {
            return Judgement::Usual;
        }
        if frontier.saturating_sub(self.frontier) > rules.gap_ns {
            self.start_afresh();
            return Judgement::Usual;
        }
        let mut window = self.window;
        let length = (self.count.min(rules.window).clamp(1, 32)) as usize;
        let prices = &mut window[..length];
        let median = middle(prices);
        for price in prices.iter_mut() {
            *price = distance(*price, median).min(i64::MAX.cast_unsigned()).cast_signed();
        }
        let deviation = middle(prices);
        let away = distance(low, median).max(distance(high, median));
        // Scaled to a standard deviation, then by the factor in thousandths.
        let explained = u128::from(deviation.cast_unsigned())
            * 14_826
            * u128::from(rules.deviation_factor_milli);
        let far = beyond(low, median, move_max_ppm) || beyond(high, median, move_max_ppm);
        if !far || u128::from(away) * 10_000_000 <= explained {
            return Judgement::Usual;
        }
        let price = if distance(low, self.last) > distance(high, self.last) { low } else { high };
        let agrees = self.suspects > 0 && !beyond(price, self.suspect, rules.move_max_ppm);
        self.suspects = if agrees { self.suspects + 1 } else { 1 };
        self.suspect = price;
        if rules.confirm_count > 0 && self.suspects >= rules.confirm_count {
            self.start_afresh();
            return Judgement::NewLevel;
        }
        Judgement::Outlier
    }
}

/// Whether `price` is further from `reference` than `ppm` parts per million of it.
#[inline]
pub(super) fn beyond(price: i64, reference: i64, ppm: u32) -> bool {
    let allowed = u128::from(reference.unsigned_abs()) * u128::from(ppm);
    u128::from(distance(price, reference)) * 1_000_000 > allowed
}

#[inline]
const fn distance(left: i64, right: i64) -> u64 {
    left.abs_diff(right)
}

/// The median of `values`, the upper one of two; they are left in another order.
fn middle(values: &mut [i64]) -> i64 {
    let at = values.len() / 2;
    *values.select_nth_unstable(at).1
}
