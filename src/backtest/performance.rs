//! How well a run traded: profit, returns, Sharpe and Sortino ratio, drawdown, win rate, exposure.
//!
//! | Measure        | Definition                                                                         |
//! |----------------|------------------------------------------------------------------------------------|
//! | return         | the change of equity from one sample to the next, in money. Equity is realised plus unrealised profit less fees, so it starts at 0. Returns count from the first sample that moved to the last |
//! | total return   | net profit over the money that the accounts were given in this currency (`[[account]] cash`); none where they were given none |
//! | profit rate    | net profit over the most that was held at any sample, long and short alike: what each unit of money that was ever at work has earned. It needs no assumption of a capital, and is what a search for parameters scores by |
//! | Sharpe ratio   | mean return over the sample standard deviation (n - 1) of the returns, risk-free rate 0: W. F. Sharpe, "The Sharpe Ratio", Journal of Portfolio Management 21 (1994), equation 6. On a fixed capital the capital cancels, so none is needed |
//! | Sortino ratio  | mean return over the downside deviation, the root of the mean over *all* returns of the squares of those below the target, which is 0: F. Sortino and L. Price, "Performance Measurement in a Downside Risk Framework", Journal of Investing 3 (1994) |
//! | annualised     | either times the square root of the returns in a year of 365 days, at the rate at which they were observed; hours without data thus need no rule of their own. None below one day of data: minutes say nothing about a year |
//! | skewness, kurtosis | third and fourth central moment of the returns over the power of their deviation (n): what the deflated Sharpe ratio needs to know of their shape; 0 and 3 for a normal distribution |
//! | drawdown       | the largest fall of equity below an earlier peak, the start at 0 included: M. Magdon-Ismail and A. Atiya, "Maximum Drawdown", Risk 17 (2004) |
//! | win rate       | closing trades that earned over all closing trades, before fees                    |
//! | profit factor  | what winning trades earned over what losing trades lost, before fees                |
//! | exposure       | share of the samples since the first trade at which something was held; and the mean and the most of what was held, long and short alike |
//! | turnover       | value of everything that was traded, bought and sold alike                          |
//!
//! All of them see the equity only at its samples, one a window step: a fall that recovers between two
//! is not seen. None depends on how much is kept for charts.

use serde::{Deserialize, Serialize};

use crate::domain::{ClosedTrades, Money, Span, Timestamp};
use crate::pipeline::positions::Course;

use super::report::MoneyText;

/// A year of 365 days, in nanoseconds.
const YEAR_NANOS: f64 = 365.0 * 86_400.0 * 1e9;
/// The least that is projected to a year.
pub const YEARLY_MIN: Span = Span::from_secs(86_400);

/// The measures of one currency, or of one instrument. `None` where there is nothing to divide by.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Performance {
    /// Equity at the end: profit after fees.
    pub net: MoneyText,
    /// Returns the ratios are made of.
    pub returns: u64,
    /// As many as a year would have at the rate at which they were observed, for however short a time.
    #[serde(default)]
    pub returns_per_year: Option<f64>,
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
    /// Net profit over the money given; 1.0 doubled it.
    pub total_return: Option<f64>,
    /// Net profit over the most that was ever held; 1.0 earned as much as that.
    pub profit_rate: Option<f64>,
    /// Sortino ratio per return; none when no return was below zero.
    pub sortino: Option<f64>,
    /// Sortino ratio per year; none for less than a day of data.
    pub sortino_annualised: Option<f64>,
    /// Skewness of the returns; 0 for a symmetric distribution.
    pub skewness: Option<f64>,
    /// Kurtosis of the returns; 3 for a normal distribution.
    pub kurtosis: Option<f64>,
    /// Largest fall over the most that was ever held.
    pub drawdown_rate: Option<f64>,
    /// Share of the samples since the first trade at which something was held.
    pub exposure: Option<f64>,
    /// What was held on average over them, long and short alike.
    pub exposure_mean: MoneyText,
    /// The most that was held at any.
    pub exposure_max: MoneyText,
    /// Value of everything traded.
    pub turnover: MoneyText,
}

/// The measures of one instrument, over all accounts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SymbolPerformance {
    /// Who.
    pub symbol: String,
    /// What its money is in.
    pub currency: String,
    /// How well.
    pub performance: Performance,
}

/// Measures a `course` of equity that ended at `net`; `given` is what the accounts had at the start.
pub fn measure(course: &Course, net: Money, given: Option<Money>) -> Performance {
    let count = count_to_f64(course.returns);
    let mean = course.sum / count;
    // Returns lie about zero and not far from it, so little is lost in this difference.
    let variance = (course.squares - course.sum * mean) / (count - 1.0);
    let has_ratio = course.returns >= 2;
    // What is left of rounding where all returns are equal is no deviation.
    let is_spread = variance > course.squares * 1e-14;
    let sharpe = (has_ratio && is_spread).then(|| ratio(mean, variance.sqrt())).flatten();
    let (skewness, kurtosis) = shape(course, is_spread);
    let downside = (course.downside / count).sqrt();
    let sortino = has_ratio.then(|| ratio(mean, downside)).flatten();
    let span = course.from.zip(course.to).map_or(Span::ZERO, |(from, to)| to.since(from));
    let rate = ratio(count, span.as_secs_f64() * 1e9 / YEAR_NANOS);
    let annualised = |per_return: Option<f64>| {
        let rate = rate.filter(|_| span >= YEARLY_MIN)?;
        per_return.map(|it| it * rate.sqrt())
    };
    // The curve ends at the last sample, and the run with what is held then.
    let drawdown_max = course.drawdown_max.max(course.equity_max - net);
    let (earned, gross_max) = (net.to_f64(), course.gross_max.to_f64());
    let closed = &course.closed;
    let samples = i128::from(course.samples.max(1));
    Performance {
        net: net.into(),
        returns: course.returns,
        returns_per_year: rate,
        sharpe,
        sharpe_annualised: annualised(sharpe),
        drawdown_max: drawdown_max.into(),
        drawdown_max_at_ns: course.drawdown_max_at.map(Timestamp::as_nanos),
        trades_closed: closed.count(),
        win_rate: ratio(count_to_f64(closed.wins), count_to_f64(closed.count())),
        profit_factor: ratio(closed.earned.to_f64(), closed.lost.to_f64()),
        total_return: given.and_then(|given| ratio(earned, given.to_f64())),
        profit_rate: ratio(earned, gross_max),
        sortino,
        sortino_annualised: annualised(sortino),
        skewness,
        kurtosis,
        drawdown_rate: ratio(drawdown_max.to_f64(), gross_max),
        exposure: ratio(count_to_f64(course.held), count_to_f64(course.samples)),
        exposure_mean: Money(course.gross_sum.0 / samples).into(),
        exposure_max: course.gross_max.into(),
        turnover: course.turnover.into(),
    }
}

/// Skewness and kurtosis, by the central moments that follow from the sums of powers.
fn shape(course: &Course, is_spread: bool) -> (Option<f64>, Option<f64>) {
    let count = count_to_f64(course.returns);
    if course.returns < 2 || !is_spread {
        return (None, None);
    }
    let powers = [course.sum, course.squares, course.cubes, course.fourths];
    let [mean, second, third, fourth] = powers.map(|sum| sum / count);
    let variance = second - mean * mean;
    let square = mean * mean;
    let of_third = third - 3.0 * mean * second + 2.0 * mean * square;
    let of_fourth = fourth - 4.0 * mean * third + 6.0 * square * second - 3.0 * square * square;
    (ratio(of_third, variance * variance.sqrt()), ratio(of_fourth, variance * variance))
}

/// Measures equity `samples` alone, in time order, and `closed` trades: of a curve that was kept
/// somewhere. The first sample is where it starts.
pub fn measure_curve(samples: &[(Timestamp, Money)], closed: &ClosedTrades) -> Performance {
    let (mut course, mut before) = (Course::default(), None);
    course.closed = *closed;
    for &(at, equity) in samples {
        if before.is_none() {
            course.equity = equity;
            course.equity_max = equity.max(Money::ZERO);
            course.drawdown_max = course.equity_max - equity;
            course.drawdown_max_at = (equity < Money::ZERO).then_some(at);
        } else {
            course.sample(before, at, equity, Money::ZERO);
        }
        before = Some(at);
    }
    measure(&course, course.equity, None)
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

    fn day(index: usize) -> Timestamp {
        Timestamp::from_nanos(86_400_000_000_000 * (index as u64 + 1))
    }

    /// A sample a day.
    fn daily(equity: &[i64]) -> Vec<(Timestamp, Money)> {
        equity.iter().enumerate().map(|(at, &units)| (day(at), Money::from_units(units))).collect()
    }

    fn of_curve(equity: &[i64]) -> Performance {
        measure_curve(&daily(equity), &ClosedTrades::default())
    }

    #[test]
    fn a_year_of_days_scales_by_the_root_of_365() {
        // Returns 1, 3, 1, 3: mean 2, deviation sqrt(4/3).
        let measured = of_curve(&[0, 1, 4, 5, 8]);
        let sharpe = 2.0 / (4.0f64 / 3.0).sqrt();
        assert!((measured.sharpe.unwrap() - sharpe).abs() < 1e-12);
        assert!((measured.sharpe_annualised.unwrap() - sharpe * 365.0f64.sqrt()).abs() < 1e-9);
        assert_eq!(measured.net.0, Money::from_units(8));
    }

    #[test]
    fn only_falls_count_as_risk_for_the_sortino_ratio() {
        // Returns 3, -1, 2, -2: mean 0.5, downside sqrt((1 + 4) / 4).
        let measured = of_curve(&[0, 3, 2, 4, 2]);
        let sortino = 0.5 / 1.25f64.sqrt();
        assert!((measured.sortino.unwrap() - sortino).abs() < 1e-12);
        assert!((measured.sortino_annualised.unwrap() - sortino * 365.0f64.sqrt()).abs() < 1e-9);
        assert_eq!(of_curve(&[0, 1, 4]).sortino, None, "nothing fell");
    }

    #[test]
    fn less_than_a_day_is_not_projected_to_a_year() {
        let hourly =
            |(at, equity): (Timestamp, Money)| (Timestamp::from_nanos(at.as_nanos() / 24), equity);
        let samples: Vec<_> = daily(&[0, 1, 4, 3, 8]).into_iter().map(hourly).collect();
        let measured = measure_curve(&samples, &ClosedTrades::default());
        assert!(measured.sharpe.is_some() && measured.sharpe_annualised.is_none());
        assert!(measured.sortino.is_some() && measured.sortino_annualised.is_none());
    }

    #[test]
    fn what_cannot_be_divided_is_none() {
        for equity in [&[][..], &[5], &[5, 6], &[1, 2, 3], &[7, 7, 7, 7]] {
            let measured = of_curve(equity);
            assert_eq!((measured.sharpe, measured.win_rate), (None, None), "{equity:?}");
            assert_eq!((measured.total_return, measured.profit_rate), (None, None), "{equity:?}");
        }
    }

    #[test]
    fn time_before_the_first_and_after_the_last_move_says_nothing() {
        let moving = of_curve(&[0, 1, 1, 4, 2]);
        let idle = of_curve(&[0, 0, 0, 1, 1, 4, 2, 2, 2, 2]);
        assert_eq!((idle.returns, idle.sharpe, idle.sortino), (4, moving.sharpe, moving.sortino));
        assert_eq!(idle.sharpe_annualised, moving.sharpe_annualised);
    }

    #[test]
    fn a_fall_from_the_start_is_a_drawdown_too() {
        let measured = of_curve(&[-3, 4, 1, -2, 6, 5]);
        let deepest = (measured.drawdown_max.0, measured.drawdown_max_at_ns);
        assert_eq!(deepest, (Money::from_units(6), Some(day(3).as_nanos())));
        let measured = of_curve(&[1, 2, 3]);
        assert_eq!((measured.drawdown_max.0, measured.drawdown_max_at_ns), (Money::ZERO, None));
    }

    #[test]
    fn wins_losses_and_ties_are_told_apart() {
        let mut closed = ClosedTrades::default();
        [5, -2, 0, 4].into_iter().for_each(|units| closed.on_realised(Money::from_units(units)));
        let measured = measure_curve(&[], &closed);
        assert_eq!((measured.trades_closed, measured.win_rate), (4, Some(0.5)));
        assert_eq!(measured.profit_factor, Some(4.5));
    }

    #[test]
    fn rates_are_of_what_was_given_and_of_what_was_at_work() {
        let units = Money::from_units;
        let mut course = Course::default();
        for (at, (equity, gross)) in
            [(0, 100), (10, 400), (5, 0), (20, 200)].into_iter().enumerate()
        {
            let before = at.checked_sub(1).map(day);
            course.sample(before, day(at), units(equity), units(gross));
        }
        let measured = measure(&course, units(20), Some(units(1_000)));
        assert_eq!((measured.total_return, measured.profit_rate), (Some(0.02), Some(0.05)));
        assert_eq!((measured.exposure, measured.exposure_max.0), (Some(0.75), units(400)));
        assert_eq!(measured.exposure_mean.0, units(175));
        assert_eq!((measured.drawdown_max.0, measured.drawdown_rate), (units(5), Some(0.0125)));
        let fell = measure(&course, units(-20), None);
        assert_eq!(fell.drawdown_max.0, units(40), "the end counts, sampled or not");
    }

    /// The definitions again, each by itself and with all samples at hand.
    mod naive {
        /// Without what stands still at either end.
        pub(super) fn returns(equity: &[i64]) -> Vec<f64> {
            let mut returns: Vec<f64> =
                equity.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
            while returns.last() == Some(&0.0) {
                returns.pop();
            }
            let first = returns.iter().position(|&it| it != 0.0).unwrap_or(returns.len());
            returns.split_off(first)
        }

        fn mean(values: &[f64]) -> f64 {
            values.iter().sum::<f64>() / values.len() as f64
        }

        pub(super) fn sharpe(returns: &[f64]) -> f64 {
            let mean = mean(returns);
            let squares: f64 = returns.iter().map(|it| (it - mean).powi(2)).sum();
            mean / (squares / (returns.len() - 1) as f64).sqrt()
        }

        pub(super) fn sortino(returns: &[f64]) -> f64 {
            let falls: Vec<f64> = returns.iter().map(|it| it.min(0.0).powi(2)).collect();
            mean(returns) / self::mean(&falls).sqrt()
        }

        /// The `power`th central moment over that power of the deviation.
        pub(super) fn shape(returns: &[f64], power: i32) -> f64 {
            let mean = mean(returns);
            let moment = |power: i32| {
                let powers: Vec<f64> = returns.iter().map(|it| (it - mean).powi(power)).collect();
                self::mean(&powers)
            };
            moment(power) / moment(2).sqrt().powi(power)
        }

        pub(super) fn drawdown(equity: &[i64]) -> i64 {
            let mut worst = 0;
            for (at, &low) in equity.iter().enumerate() {
                let highs = equity[..at].iter().map(|&high| high - low);
                worst = highs.chain([worst, -low]).max().unwrap();
            }
            worst
        }
    }

    fn near(found: Option<f64>, expected: f64) -> bool {
        match found {
            Some(found) => (found - expected).abs() <= 1e-9 * (1.0 + expected.abs()),
            None => !expected.is_finite() || expected.abs() > 1e6,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn every_measure_agrees_with_its_definition(
            equity in prop::collection::vec(-50i64..50, 0..60),
        ) {
            let measured = of_curve(&equity);
            let returns = naive::returns(&equity);
            prop_assert_eq!(measured.returns, returns.len() as u64);
            prop_assert_eq!(measured.drawdown_max.0, Money::from_units(naive::drawdown(&equity)));
            if returns.len() >= 2 {
                let (sharpe, sortino) = (naive::sharpe(&returns), naive::sortino(&returns));
                prop_assert!(near(measured.sharpe, sharpe), "{:?} {}", measured.sharpe, sharpe);
                prop_assert!(near(measured.sortino, sortino), "{:?} {}", measured.sortino, sortino);
                if measured.sharpe.is_some() {
                    let (third, fourth) = (naive::shape(&returns, 3), naive::shape(&returns, 4));
                    prop_assert!((measured.skewness.unwrap() - third).abs() < 1e-6);
                    prop_assert!((measured.kurtosis.unwrap() - fourth).abs() < 1e-6);
                }
            } else {
                prop_assert_eq!((measured.sharpe, measured.sortino), (None, None));
            }
        }
    }
}
