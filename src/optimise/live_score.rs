//! How well a run does while it goes on, in the terms of a search.
//!
//! ```text
//! net profit, what is held, trades closed: looked at every so often ─▶ samples ─▶ score of a stretch of them
//! ```
//!
//! The measures are those of [`score`](super::score), from what changed within the stretch: what was earned over
//! the most that was held, the ratio of mean to deviation of what was earned from sample to sample, the largest
//! fall, the share of closed trades that earned. A stretch of a live run is not the stretch that parameters were
//! chosen on, so its score is compared with that of another stretch as long, and with nothing else. It is of all
//! that the run trades: where several strategies do, what one of them earns is mixed with what the others do.

use std::collections::{BTreeMap, VecDeque};

use super::{Metrics, Weights};
use crate::backtest::performance::Performance;

/// Samples that are kept.
const SAMPLES_MAX: usize = 4_096;

/// What a currency had come to when it was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Profit after fees since the run began.
    pub net: f64,
    /// The most that was ever held.
    pub held_max: f64,
    /// Trades that were closed.
    pub closed: u64,
    /// Of them, those that earned.
    pub won: f64,
}

impl Sample {
    /// What `performance` says.
    pub fn of(performance: &Performance) -> Self {
        let closed = performance.trades_closed;
        Self {
            net: performance.net.0.0 as f64,
            held_max: performance.exposure_max.0.0 as f64,
            closed,
            won: performance.win_rate.unwrap_or(0.0) * closed as f64,
        }
    }
}

/// What was seen of a run, by currency.
#[derive(Clone, Debug, Default)]
pub struct LiveScore(VecDeque<BTreeMap<String, Sample>>);

impl LiveScore {
    /// Takes in a look.
    pub fn add(&mut self, sample: BTreeMap<String, Sample>) {
        if self.0.len() == SAMPLES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(sample);
    }

    /// Forgets what was seen.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The score of the last `count` steps between looks; none when there are not so many, or when fewer
    /// trades were closed than a score needs.
    pub fn score(&self, count: usize, weights: &Weights) -> Option<f64> {
        let from = self.0.len().checked_sub(count + 1).filter(|_| count > 0)?;
        let stretch: Vec<&BTreeMap<String, Sample>> = self.0.iter().skip(from).collect();
        let currencies: Vec<&String> = stretch.last()?.keys().collect();
        let of = |currency: &&String| measured(&stretch, currency);
        let measured: Vec<Metrics> = currencies.iter().map(of).collect();
        let trades: u64 = measured.iter().map(|it| it.trades).sum();
        if measured.is_empty() || trades < weights.trades_min {
            return None;
        }
        // Each currency counts alike, as in a search.
        let all = measured.len() as f64;
        let mean = |measure: fn(&Metrics) -> f64| measured.iter().map(measure).sum::<f64>() / all;
        let metrics = Metrics {
            profit_rate: mean(|it| it.profit_rate),
            sharpe: mean(|it| it.sharpe),
            drawdown_rate: mean(|it| it.drawdown_rate),
            win_rate: mean(|it| it.win_rate),
            trades,
            ..Metrics::default()
        };
        Some(metrics.score(weights))
    }
}

fn measured(stretch: &[&BTreeMap<String, Sample>], currency: &str) -> Metrics {
    let at = |sample: &BTreeMap<String, Sample>| sample.get(currency).copied().unwrap_or_default();
    let samples: Vec<Sample> = stretch.iter().map(|sample| at(sample)).collect();
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else {
        return Metrics::default();
    };
    let returns: Vec<f64> = samples.windows(2).map(|pair| pair[1].net - pair[0].net).collect();
    let count = returns.len() as f64;
    let mean = returns.iter().sum::<f64>() / count;
    let spread = returns.iter().map(|it| (it - mean) * (it - mean)).sum::<f64>();
    let deviation = if count > 1.0 { libm::sqrt(spread / (count - 1.0)) } else { 0.0 };
    let (mut peak, mut fall) = (first.net, 0.0_f64);
    for sample in &samples {
        peak = peak.max(sample.net);
        fall = fall.max(peak - sample.net);
    }
    let over = |amount: f64| if last.held_max > 0.0 { amount / last.held_max } else { 0.0 };
    let trades = last.closed.saturating_sub(first.closed);
    Metrics {
        profit_rate: over(last.net - first.net),
        sharpe: if deviation > 0.0 { mean / deviation } else { 0.0 },
        drawdown_rate: over(fall),
        win_rate: if trades > 0 { (last.won - first.won) / trades as f64 } else { 0.0 },
        trades,
        ..Metrics::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEIGHTS: Weights =
        Weights { profit_rate: 0.4, sharpe: 0.3, drawdown: 0.2, win_rate: 0.1, trades_min: 4 };

    fn run(nets: &[f64]) -> LiveScore {
        let mut live = LiveScore::default();
        for (at, &net) in nets.iter().enumerate() {
            let closed = at as u64 * 2;
            let sample = Sample { net, held_max: 100.0, closed, won: closed as f64 / 2.0 };
            live.add([("USD".to_owned(), sample)].into());
        }
        live
    }

    #[test]
    fn what_rises_scores_above_what_falls_and_too_little_has_no_score() {
        let rising = run(&[0.0, 1.0, 3.0, 4.0]);
        let falling = run(&[0.0, -1.0, -3.0, -4.0]);
        assert!(rising.score(3, &WEIGHTS).unwrap() > 0.1);
        assert!(falling.score(3, &WEIGHTS).unwrap() < -0.1);
        assert_eq!(rising.score(4, &WEIGHTS), None, "there are not so many");
        assert_eq!(rising.score(1, &WEIGHTS), None, "two trades are too few");
        assert_eq!(rising.score(0, &WEIGHTS), None);
    }

    #[test]
    fn only_the_stretch_counts() {
        let live = run(&[0.0, -50.0, -20.0, -19.0, -17.0, -16.0]);
        let late = run(&[0.0, 1.0, 3.0, 4.0]);
        let (score, same) = (live.score(3, &WEIGHTS).unwrap(), late.score(3, &WEIGHTS).unwrap());
        assert!((score - same).abs() < 1e-12, "{score} {same}");
    }
}
