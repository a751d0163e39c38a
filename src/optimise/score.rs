//! How good a trial was, in one number.
//!
//! Each measure is first mapped to -1 … 1 by x / (c + |x|), where c is what counts as halfway good, so
//! that no measure drowns the others whatever its size, and more is always better. Then
//!
//! ```text
//!           w_profit · f(profit rate, 0.05) + w_sharpe · f(Sharpe ratio a year, 1)
//!         - w_drawdown · f(drawdown rate, 0.05) + w_win · (2 · win rate - 1)
//! score = ─────────────────────────────────────────────────────────────────────────
//!                       w_profit + w_sharpe + w_drawdown + w_win
//! ```
//!
//! The weights are 0.4, 0.3, 0.2 and 0.1 unless configuration says otherwise. The rates are those of
//! [`performance`](crate::backtest::performance): over the most that was ever held. Where several
//! currencies were traded, each counts alike: every measure is a ratio, so their mean has a meaning,
//! where that of money would not. A trial that closed fewer trades than it must has the score -1:
//! nothing was shown. Rows of less than a day say nothing about a year, and there the Sharpe ratio is that of
//! each return; which of the two is decided once for all rows that are searched ([`SharpeScale`]), so that
//! trials of one search, and what they came to on the rows after, are measured alike.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::backtest::performance::{Performance, YEARLY_MIN};
use crate::domain::Span;

/// A profit rate, or a drawdown rate, that is halfway good or bad.
const RATE: f64 = 0.05;
/// A Sharpe ratio a year that is halfway good.
const SHARPE: f64 = 1.0;

/// What a Sharpe ratio is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharpeScale {
    /// A year.
    Year,
    /// Each return.
    Return,
}

impl SharpeScale {
    /// What makes sense for rows over such a time.
    pub fn of(span: Span) -> Self {
        if span < YEARLY_MIN { Self::Return } else { Self::Year }
    }

    fn sharpe(self, of: &Performance) -> Option<f64> {
        match self {
            Self::Year => of.sharpe.zip(of.returns_per_year).map(|(it, rate)| it * rate.sqrt()),
            Self::Return => of.sharpe,
        }
    }
}

/// What each measure counts for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Weights {
    /// Of the profit rate.
    pub profit_rate: f64,
    /// Of the Sharpe ratio.
    pub sharpe: f64,
    /// Of the drawdown.
    pub drawdown: f64,
    /// Of the win rate.
    pub win_rate: f64,
    /// Closing trades that a trial must have to count for anything.
    pub trades_min: u64,
}

impl Default for Weights {
    fn default() -> Self {
        Self { profit_rate: 0.4, sharpe: 0.3, drawdown: 0.2, win_rate: 0.1, trades_min: 10 }
    }
}

/// What a trial measured, over all currencies. 1.0 of a rate is the whole of what was at work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Net profit over the most that was held.
    pub profit_rate: f64,
    /// Sharpe ratio a year; that of each return where less than a day of data is searched.
    pub sharpe: f64,
    /// Sharpe ratio of each return.
    pub sharpe_per_return: f64,
    /// Largest fall of equity over the most that was held.
    pub drawdown_rate: f64,
    /// Share of closing trades that earned.
    pub win_rate: f64,
    /// Profit rate over drawdown rate: what was earned for each unit of the worst that was borne
    /// (T. Young, "Calmar Ratio", Futures 1991, over the whole time and not by year).
    pub risk_adjusted: f64,
    /// Closing trades.
    pub trades: u64,
    /// Returns behind the Sharpe ratio.
    pub returns: u64,
    /// Skewness of the returns.
    pub skewness: f64,
    /// Kurtosis of the returns.
    pub kurtosis: f64,
}

impl Metrics {
    /// The mean of what was measured in each currency.
    pub fn of(performances: &BTreeMap<String, Performance>, scale: SharpeScale) -> Self {
        let count = performances.len().max(1) as f64;
        let mean = |measure: &dyn Fn(&Performance) -> Option<f64>| -> f64 {
            performances.values().filter_map(measure).sum::<f64>() / count
        };
        let profit_rate = mean(&|it| it.profit_rate);
        let drawdown_rate = mean(&|it| it.drawdown_rate);
        // Without any fall there is nothing to divide by; a tenth of a thousandth stands for it.
        let risk_adjusted = profit_rate / drawdown_rate.max(1e-4);
        Self {
            profit_rate,
            sharpe: mean(&|it| scale.sharpe(it)),
            sharpe_per_return: mean(&|it| it.sharpe),
            drawdown_rate,
            win_rate: mean(&|it| it.win_rate),
            risk_adjusted,
            trades: performances.values().map(|it| it.trades_closed).sum(),
            returns: performances.values().map(|it| it.returns).sum(),
            skewness: mean(&|it| it.skewness),
            kurtosis: mean(&|it| it.kurtosis),
        }
    }

    /// The score, from -1 to 1.
    pub fn score(&self, weights: &Weights) -> f64 {
        let Weights { profit_rate, sharpe, drawdown, win_rate, trades_min } = *weights;
        let sum = profit_rate + sharpe + drawdown + win_rate;
        if self.trades < trades_min || sum <= 0.0 {
            return -1.0;
        }
        let weighted = profit_rate * squash(self.profit_rate, RATE)
            + sharpe * squash(self.sharpe, SHARPE)
            - drawdown * squash(self.drawdown_rate, RATE)
            + win_rate * (2.0 * self.win_rate - 1.0);
        weighted / sum
    }

    /// What a Pareto front compares, each to be large.
    pub const fn objectives(&self) -> [f64; 3] {
        [self.profit_rate, self.sharpe, -self.drawdown_rate]
    }
}

fn squash(value: f64, halfway: f64) -> f64 {
    value / (halfway + value.abs())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn metrics(profit_rate: f64, sharpe: f64, drawdown_rate: f64, win_rate: f64) -> Metrics {
        Metrics { profit_rate, sharpe, drawdown_rate, win_rate, trades: 10, ..Metrics::default() }
    }

    #[test]
    fn a_halfway_good_trial_scores_half_of_each_weight() {
        let score = metrics(0.05, 1.0, 0.05, 0.75).score(&Weights::default());
        assert!((score - (0.2 + 0.15 - 0.1 + 0.05)).abs() < 1e-12, "{score}");
    }

    #[test]
    fn too_few_trades_show_nothing() {
        let few = Metrics { trades: 9, ..metrics(9.0, 9.0, 0.0, 1.0) };
        assert_eq!(few.score(&Weights::default()), -1.0);
    }

    #[test]
    fn currencies_count_alike() {
        let of = |profit_rate: f64| Performance {
            profit_rate: Some(profit_rate),
            drawdown_rate: Some(0.1),
            trades_closed: 4,
            ..Performance::default()
        };
        let both = [("EUR".to_owned(), of(0.3)), ("USD".to_owned(), of(-0.1))].into();
        let metrics = Metrics::of(&both, SharpeScale::Year);
        assert!((metrics.profit_rate - 0.1).abs() < 1e-12);
        assert!((metrics.risk_adjusted - 1.0).abs() < 1e-12);
        assert_eq!((metrics.trades, metrics.win_rate), (8, 0.0));
        assert_eq!(Metrics::of(&BTreeMap::new(), SharpeScale::Year).trades, 0);
    }

    #[test]
    fn a_day_of_data_has_a_year_and_less_has_not() {
        let hours = |hours: u64| SharpeScale::of(Span::from_secs(hours * 3_600));
        assert_eq!([hours(23), hours(24)], [SharpeScale::Return, SharpeScale::Year]);
    }

    proptest! {
        #[test]
        fn scores_lie_between_minus_one_and_one_and_grow_with_every_measure(
            it in (-9.0..9.0f64, -9.0..9.0f64, 0.0..9.0f64, 0.0..1.0f64), more in 0.001..1.0f64,
        ) {
            let weights = Weights::default();
            let (profit, sharpe, drawdown, wins) = it;
            let score = metrics(profit, sharpe, drawdown, wins).score(&weights);
            prop_assert!((-1.0..=1.0).contains(&score));
            for better in [
                metrics(profit + more, sharpe, drawdown, wins),
                metrics(profit, sharpe + more, drawdown, wins),
                metrics(profit, sharpe, drawdown - more.min(drawdown / 2.0) - 1e-9, wins),
                metrics(profit, sharpe, drawdown, wins + more),
            ] {
                prop_assert!(better.score(&weights) > score);
            }
        }
    }
}
