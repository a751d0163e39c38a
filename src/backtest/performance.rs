//! How well a run traded: returns, Sharpe ratio, drawdown, win rate.
//!
//! | Measure        | Definition                                                                         |
//! |----------------|------------------------------------------------------------------------------------|
//! | return         | the change of equity from one sample to the next, in money. Equity is realised plus unrealised profit less fees, so it starts at 0 |
//! | Sharpe ratio   | mean return over the sample standard deviation (n - 1) of the returns, risk-free rate 0: W. F. Sharpe, "The Sharpe Ratio", Journal of Portfolio Management 21 (1994), equation 6. On a fixed capital the capital cancels, so none is needed |
//! | annualised     | the same times the square root of the returns in a year of 365 days, at the rate at which they were observed; hours without data thus need no rule of their own. None below one day of data: minutes say nothing about a year |
//! | drawdown       | the largest fall of equity below an earlier peak, the start at 0 included: M. Magdon-Ismail and A. Atiya, "Maximum Drawdown", Risk 17 (2004) |
//! | win rate       | closing trades that earned over all closing trades, before fees                    |
//! | profit factor  | what winning trades earned over what losing trades lost, before fees                |
//!
//! All of them see the equity only at its samples: a fall that recovers between two is not seen.

use serde::{Deserialize, Serialize};

use crate::domain::{ClosedTrades, Money, Span, Timestamp};

use super::report::MoneyText;

/// A year of 365 days, in nanoseconds.
const YEAR_NANOS: f64 = 365.0 * 86_400.0 * 1e9;
/// The least that is projected to a year.
const DAY: Span = Span::from_secs(86_400);

/// The measures of one currency. `None` where there is nothing to divide by.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Performance {
    /// Equity at the end: profit after fees.
    pub net: MoneyText,
    /// Returns the ratios are made of.
    pub returns: u64,
    /// Sharpe ratio per return; 1.0 earns one standard deviation each time.
    pub sharpe: Option<f64>,
    /// Sharpe ratio per year; none for less than a day of data.
    pub sharpe_annualised: Option<f64>,
    /// Largest fall below an earlier peak, as a positive amount.
    pub drawdown_max: MoneyText,
    /// When the deepest point was reached, unix nanoseconds; none when equity never fell.
    pub drawdown_max_at_ns: Option<u64>,
    /// Trades that closed something.
    pub trades_closed: u64,
    /// Share of them that earned: 1.0 is all.
    pub win_rate: Option<f64>,
    /// Earned by winners over lost by losers.
    pub profit_factor: Option<f64>,
}

/// Measures the equity `samples`, in time order, and the `closed` trades of one currency.
pub fn measure(samples: &[(Timestamp, Money)], closed: &ClosedTrades) -> Performance {
    let (sharpe, sharpe_annualised) = sharpe(samples);
    let (drawdown_max, deepest) = drawdown(samples);
    Performance {
        net: samples.last().map_or(Money::ZERO, |&(_, equity)| equity).into(),
        returns: samples.len().saturating_sub(1) as u64,
        sharpe,
        sharpe_annualised,
        drawdown_max: drawdown_max.into(),
        drawdown_max_at_ns: deepest.map(Timestamp::as_nanos),
        trades_closed: closed.count(),
        win_rate: ratio(count_to_f64(closed.wins), count_to_f64(closed.count())),
        profit_factor: ratio(closed.earned.to_f64(), closed.lost.to_f64()),
    }
}

/// The Sharpe ratio per return, and per year.
fn sharpe(samples: &[(Timestamp, Money)]) -> (Option<f64>, Option<f64>) {
    let returns: Vec<f64> =
        samples.windows(2).map(|pair| (pair[1].1 - pair[0].1).to_f64()).collect();
    if returns.len() < 2 {
        return (None, None);
    }
    let count = count_to_f64(returns.len() as u64);
    let mean = returns.iter().sum::<f64>() / count;
    let squares: f64 = returns.iter().map(|value| (value - mean) * (value - mean)).sum();
    let sharpe = ratio(mean, (squares / (count - 1.0)).sqrt());
    let span = samples[samples.len() - 1].0.since(samples[0].0);
    let years = span.as_secs_f64() * 1e9 / YEAR_NANOS;
    let rate = if span < DAY { None } else { ratio(count, years) };
    let annualised = sharpe.zip(rate).map(|(sharpe, rate)| sharpe * rate.sqrt());
    (sharpe, annualised)
}

/// The largest fall below an earlier peak, and when it was deepest.
pub fn drawdown(samples: &[(Timestamp, Money)]) -> (Money, Option<Timestamp>) {
    let (mut peak, mut deepest, mut when) = (Money::ZERO, Money::ZERO, None);
    for &(at, equity) in samples {
        peak = peak.max(equity);
        if peak - equity > deepest {
            (deepest, when) = (peak - equity, Some(at));
        }
    }
    (deepest, when)
}

/// The quotient, if it is a number.
fn ratio(dividend: f64, divisor: f64) -> Option<f64> {
    let quotient = dividend / divisor;
    (divisor > 0.0 && quotient.is_finite()).then_some(quotient)
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
const fn count_to_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A sample a day.
    fn daily(equity: &[i64]) -> Vec<(Timestamp, Money)> {
        let day = |index: usize| Timestamp::from_nanos(86_400_000_000_000 * (index as u64 + 1));
        equity.iter().enumerate().map(|(at, &units)| (day(at), Money::from_units(units))).collect()
    }

    #[test]
    fn a_year_of_days_scales_by_the_root_of_365() {
        // Returns 1, 3, 1, 3: mean 2, deviation sqrt(4/3).
        let measured = measure(&daily(&[0, 1, 4, 5, 8]), &ClosedTrades::default());
        let sharpe = 2.0 / (4.0f64 / 3.0).sqrt();
        assert!((measured.sharpe.unwrap() - sharpe).abs() < 1e-12);
        assert!((measured.sharpe_annualised.unwrap() - sharpe * 365.0f64.sqrt()).abs() < 1e-9);
        assert_eq!(measured.net.0, Money::from_units(8));
    }

    #[test]
    fn less_than_a_day_is_not_projected_to_a_year() {
        let hourly =
            |(at, equity): (Timestamp, Money)| (Timestamp::from_nanos(at.as_nanos() / 24), equity);
        let samples: Vec<_> = daily(&[0, 1, 4, 5, 8]).into_iter().map(hourly).collect();
        let measured = measure(&samples, &ClosedTrades::default());
        assert!(measured.sharpe.is_some() && measured.sharpe_annualised.is_none());
    }

    #[test]
    fn what_cannot_be_divided_is_none() {
        for equity in [&[][..], &[5], &[5, 6], &[1, 2, 3]] {
            let measured = measure(&daily(equity), &ClosedTrades::default());
            assert_eq!((measured.sharpe, measured.win_rate), (None, None), "{equity:?}");
        }
    }

    #[test]
    fn a_fall_from_the_start_is_a_drawdown_too() {
        let (fall, at) = drawdown(&daily(&[-3, 4, 1, -2, 6, 5]));
        assert_eq!((fall, at), (Money::from_units(6), Some(daily(&[0; 4])[3].0)));
        assert_eq!(drawdown(&daily(&[1, 2, 3])), (Money::ZERO, None));
    }

    #[test]
    fn wins_losses_and_ties_are_told_apart() {
        let mut closed = ClosedTrades::default();
        [5, -2, 0, 4].into_iter().for_each(|units| closed.on_realised(Money::from_units(units)));
        let measured = measure(&[], &closed);
        assert_eq!((measured.trades_closed, measured.win_rate), (4, Some(0.5)));
        assert_eq!(measured.profit_factor, Some(4.5));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn drawdown_is_the_worst_of_all_pairs(equity in prop::collection::vec(-1_000i64..1_000, 0..60)) {
            let mut worst = 0;
            for (at, &low) in equity.iter().enumerate() {
                worst = equity[..at].iter().map(|&high| high - low).chain([worst, -low]).max().unwrap();
            }
            prop_assert_eq!(drawdown(&daily(&equity)).0, Money::from_units(worst));
        }

        /// By the sums of powers, which is another way to the same number.
        #[test]
        fn sharpe_agrees_with_the_sums_of_powers(equity in prop::collection::vec(-1_000i64..1_000, 3..60)) {
            let returns: Vec<f64> = equity.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
            let count = returns.len() as f64;
            let (sum, squares) =
                returns.iter().fold((0.0, 0.0), |(sum, squares), r| (sum + r, squares + r * r));
            let variance = (squares - sum * sum / count) / (count - 1.0);
            let measured = measure(&daily(&equity), &ClosedTrades::default());
            prop_assume!(variance > 1e-6);
            prop_assert!((measured.sharpe.unwrap() - sum / count / variance.sqrt()).abs() < 1e-9);
        }
    }
}
