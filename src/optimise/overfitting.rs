//! Whether the best of many is good, or the luckiest.
//!
//! The best of N strategies without any skill has a Sharpe ratio that grows with N. The *deflated Sharpe
//! ratio* is the probability that the true ratio is above what the best of N lucky ones would show:
//! D. Bailey and M. López de Prado, "The Deflated Sharpe Ratio: Correcting for Selection Bias, Backtest
//! Overfitting, and Non-Normality", Journal of Portfolio Management 40 (2014).
//!
//! ```text
//! SR0 = sqrt(V) · ((1 - γ) · Z(1 - 1/N) + γ · Z(1 - 1/(N·e)))        γ: Euler-Mascheroni constant
//! DSR = Φ( (SR - SR0) · sqrt(T - 1) / sqrt(1 - skewness · SR + (kurtosis - 1) / 4 · SR²) )
//! ```
//!
//! SR is the ratio of each return, not of a year; V its variance over the trials; T the returns. N counts
//! all trials as if they were independent. They are not, so it errs on the side of warning.

/// Below this the best is not told from the luckiest.
pub const CONFIDENCE: f64 = 0.95;

const EULER: f64 = 0.577_215_664_901_532_9;

/// The best trial, and the trials it was chosen from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chosen {
    /// Its Sharpe ratio of each return.
    pub sharpe: f64,
    /// Returns behind it.
    pub returns: u64,
    /// Their skewness.
    pub skewness: f64,
    /// Their kurtosis.
    pub kurtosis: f64,
    /// Trials it was chosen from.
    pub trials: u64,
    /// Variance of their Sharpe ratios.
    pub variance: f64,
}

impl Chosen {
    /// The Sharpe ratio that the best of as many without any skill would be expected to show.
    pub fn expected_of_luck(&self) -> f64 {
        if self.trials < 2 {
            return 0.0;
        }
        let count = self.trials as f64;
        let first = quantile(1.0 - 1.0 / count);
        let second = quantile(1.0 - 1.0 / (count * std::f64::consts::E));
        self.variance.max(0.0).sqrt() * ((1.0 - EULER) * first + EULER * second)
    }

    /// The deflated Sharpe ratio, a probability; none where there are too few returns to say.
    pub fn deflated(&self) -> Option<f64> {
        if self.returns < 3 {
            return None;
        }
        let sharpe = self.sharpe;
        let spread = 1.0 - self.skewness * sharpe + (self.kurtosis - 1.0) / 4.0 * sharpe * sharpe;
        let distance = (sharpe - self.expected_of_luck()) * (self.returns as f64 - 1.0).sqrt();
        let probability = normal(distance / spread.sqrt());
        (spread > 0.0 && probability.is_finite()).then_some(probability)
    }
}

/// The variance of `values`, which are a sample; 0 of fewer than two.
pub fn variance(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    values.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / (count - 1.0)
}

/// The share of a normal distribution below `at`.
fn normal(at: f64) -> f64 {
    0.5 * libm::erfc(-at / std::f64::consts::SQRT_2)
}

/// Below what a normal distribution has this share: by bisection, for it is asked for twice a report.
fn quantile(share: f64) -> f64 {
    let (mut low, mut high) = (-40.0, 40.0);
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if normal(middle) < share { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::optimise::Random;

    #[test]
    fn it_agrees_with_the_numbers_of_the_paper() {
        // Section "A numerical example": 100 trials, annualised variance 0.5, five years of days, an
        // annualised ratio of 2.5, skewness -3, kurtosis 10.
        let chosen = Chosen {
            sharpe: 2.5 / 250.0f64.sqrt(),
            returns: 1_250,
            skewness: -3.0,
            kurtosis: 10.0,
            trials: 100,
            variance: 0.5 / 250.0,
        };
        assert!((chosen.expected_of_luck() - 0.1132).abs() < 5e-5, "{}", chosen.expected_of_luck());
        assert!((chosen.deflated().unwrap() - 0.9004).abs() < 5e-5, "{:?}", chosen.deflated());
    }

    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (share, expected) in
            [(0.5, 0.0), (0.975, 1.959_964), (0.99, 2.326_348), (0.999, 3.090_232)]
        {
            assert!((quantile(share) - expected).abs() < 1e-6, "{share}");
        }
    }

    /// Strategies without skill: how often the best of many passes for good.
    #[test]
    fn the_luckiest_of_many_is_seldom_taken_for_good() {
        let (mut naive, mut deflated) = (0, 0);
        for seed in 0..100 {
            let mut random = Random::new(seed, 0);
            let sharpes: Vec<f64> = (0..50)
                .map(|_| {
                    let returns: Vec<f64> = (0..250).map(|_| random.normal()).collect();
                    returns.iter().sum::<f64>() / 250.0 / variance(&returns).sqrt()
                })
                .collect();
            let best = sharpes.iter().copied().fold(f64::MIN, f64::max);
            let chosen = Chosen {
                sharpe: best,
                returns: 250,
                skewness: 0.0,
                kurtosis: 3.0,
                trials: 50,
                variance: variance(&sharpes),
            };
            let alone = Chosen { trials: 1, ..chosen };
            naive += u32::from(alone.deflated().unwrap() > CONFIDENCE);
            deflated += u32::from(chosen.deflated().unwrap() > CONFIDENCE);
        }
        assert!(naive > 80 && deflated < 10, "{naive} {deflated}");
    }

    proptest! {
        #[test]
        fn more_trials_never_make_the_best_more_credible(
            sharpe in -0.5..0.5f64, variance in 0.0..0.1f64, trials in 2u64..5_000, more in 1u64..5_000,
        ) {
            let few = Chosen { sharpe, returns: 500, skewness: 0.0, kurtosis: 3.0, trials, variance };
            let many = Chosen { trials: trials + more, ..few };
            prop_assert!(many.deflated().unwrap() <= few.deflated().unwrap());
        }
    }
}
