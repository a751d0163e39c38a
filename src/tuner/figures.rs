//! Windows summed up, and compared.

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

use super::Window;

/// What some windows came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Windows.
    pub count: usize,
    /// Mean of the throughput, rows per second: windows are equally long, so it is what came through in all of them.
    pub throughput: f64,
    /// Sample standard deviation of it, as a share of the mean.
    pub deviation: f64,
    /// Median of the 99th percentiles, microseconds; 0 if nothing was timed.
    pub p99_us: f64,
}

impl Figures {
    /// Of `windows`, whose throughput is above zero.
    pub(super) fn of(windows: &[Window]) -> Self {
        let count = windows.len();
        if count == 0 {
            return Self::default();
        }
        // Not of the logarithms: a window in which next to nothing came would count for more than all others.
        let rates = || windows.iter().map(|window| window.throughput);
        let mean = rates().sum::<f64>() / to_f64(count);
        let squares: f64 = rates().map(|rate| (rate / mean - 1.0).powi(2)).sum();
        let tails = windows.iter().map(|window| window.p99_us);
        let mut tails: Vec<f64> = tails.filter(|tail| tail.is_finite()).collect();
        tails.sort_by(f64::total_cmp);
        Self {
            count,
            throughput: mean,
            deviation: (squares / to_f64(count.saturating_sub(1).max(1))).sqrt(),
            p99_us: tails.get(tails.len() / 2).copied().unwrap_or(0.0),
        }
    }

    /// Of all windows of some stretches.
    pub(super) fn of_all<'a>(stretches: impl Iterator<Item = &'a Vec<Window>>) -> Self {
        Self::of(&stretches.flatten().copied().collect::<Vec<_>>())
    }

    /// By how much more flows than in `other`, as a share of that.
    pub fn gain_over(&self, other: &Self) -> f64 {
        self.throughput / other.throughput - 1.0
    }
}

/// One comparison: a stretch with a change, and those before and after it without.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Round {
    pub(super) before: Vec<Window>,
    pub(super) with: Vec<Window>,
    pub(super) after: Vec<Window>,
}

impl Round {
    /// By how much the logarithm of the throughput is larger with the change than beside it, on average: what grows
    /// or falls steadily does not show.
    pub(super) fn difference(&self) -> f64 {
        self.compared(|stretch| stretch.throughput.ln())
    }

    /// By how much the logarithm of the tail of the latency is smaller, likewise; not finite where no order was timed.
    pub(super) fn relief(&self) -> f64 {
        self.compared(|stretch| -stretch.p99_us.ln())
    }

    /// By how much the load differs before and after, beyond what may be noise.
    pub(super) fn drift(&self) -> f64 {
        drift_of(&self.before, &self.after)
    }

    fn compared(&self, of: impl Fn(&Figures) -> f64) -> f64 {
        let of = |windows: &[Window]| of(&Figures::of(windows));
        of(&self.with) - f64::midpoint(of(&self.before), of(&self.after))
    }
}

/// Standard errors by which two stretches of the same load may well lie apart.
const NOISE: f64 = 3.0;

/// By how much the logarithm of the throughput differs between two stretches, beyond what may be the noise in them.
pub(super) fn drift_of(before: &[Window], after: &[Window]) -> f64 {
    let (before, after) = (Figures::of(before), Figures::of(after));
    let variance = |of: &Figures| of.deviation.powi(2) / to_f64(of.count.max(1));
    let apart = (after.throughput.ln() - before.throughput.ln()).abs();
    apart - NOISE * (variance(&before) + variance(&after)).sqrt()
}

/// The longest tail of the latency of any of `windows`, microseconds.
pub(super) fn longest(windows: &[Window]) -> f64 {
    windows.iter().map(|window| window.p99_us).fold(0.0, f64::max)
}

/// The shortest one, microseconds.
pub(super) fn shortest(windows: &[Window]) -> f64 {
    windows.iter().map(|window| window.p99_us).fold(f64::INFINITY, f64::min)
}

/// What `differences` come to as a share.
pub(super) fn gain_of(differences: &[f64]) -> f64 {
    mean_of(differences).exp() - 1.0
}

/// The chance with which noise alone would make `differences` look at least so good: the one-sided p-value of
/// Student's test. 1 if there is too little to say.
pub(super) fn chance_of(differences: &[f64]) -> f64 {
    let count = to_f64(differences.len());
    if differences.len() < 2 {
        return 1.0;
    }
    let mean = mean_of(differences);
    let squares: f64 = differences.iter().map(|it| (it - mean).powi(2)).sum();
    // Two that follow each other share the stretch between them: of their variance, which is one and a half
    // times that of a stretch, they have a sixth in common, and the mean of many varies by a third more.
    let variance = squares / (count - 1.0) / count * (4.0 / 3.0);
    if variance <= 0.0 {
        return if mean > 0.0 { 0.0 } else { 1.0 };
    }
    let Ok(distribution) = StudentsT::new(0.0, 1.0, count - 1.0) else { return 1.0 };
    distribution.sf(mean / variance.sqrt())
}

fn mean_of(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / to_f64(values.len().max(1))
}

#[expect(clippy::cast_precision_loss, reason = "a count of windows")]
const fn to_f64(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(throughputs: &[f64]) -> Figures {
        let window = |&throughput: &f64| Window { throughput, p99_us: 1.0 };
        Figures::of(&throughputs.iter().map(window).collect::<Vec<_>>())
    }

    /// A mean of 0.3 and a standard deviation of 0.1 of four: t is 6 by itself, and 5.196 with what is shared;
    /// the tables have 0.0069 for three degrees of freedom.
    #[test]
    fn the_chance_is_that_of_students_test() {
        let spread = 0.1 * (3.0f64 / 4.0).sqrt();
        let differences = [0.3 - spread, 0.3 + spread, 0.3 - spread, 0.3 + spread];
        let chance = chance_of(&differences);
        assert!((chance - 0.0069).abs() < 0.0001, "{chance}");
        let against: Vec<f64> = differences.iter().map(|it| -it).collect();
        assert!((chance + chance_of(&against) - 1.0).abs() < 1e-9);
        assert!((gain_of(&differences) - (0.3f64.exp() - 1.0)).abs() < 1e-9);
    }

    #[test]
    fn what_grows_steadily_is_no_difference() {
        let stretch = |log: f64| vec![Window { throughput: log.exp(), p99_us: 1.0 }];
        let [before, with, after] = [1.0, 1.1, 1.2].map(stretch);
        assert!(Round { before, with, after }.difference().abs() < 1e-9);
    }

    /// As when another program had the processor.
    #[test]
    fn a_window_in_which_next_to_nothing_came_counts_as_one() {
        let paused = figures(&[100.0, 100.0, 0.001, 100.0]);
        assert!((paused.throughput - 75.0).abs() < 0.01, "{paused:?}");
        assert!(paused.deviation < 1.0, "{paused:?}");
    }

    #[test]
    fn what_noise_explains_is_no_drift() {
        let stretch = |rates: &[f64]| -> Vec<Window> {
            rates.iter().map(|&throughput| Window { throughput, p99_us: 1.0 }).collect()
        };
        let (noisy, higher) = (stretch(&[80.0, 100.0, 125.0]), stretch(&[100.0, 125.0, 156.0]));
        assert!(drift_of(&noisy, &higher) <= 0.0);
        let (still, risen) = (stretch(&[100.0, 101.0, 99.0]), stretch(&[130.0, 131.0, 129.0]));
        assert!(drift_of(&still, &risen) > 0.2, "{}", drift_of(&still, &risen));
    }

    #[test]
    fn too_little_and_no_noise_at_all_have_their_answers() {
        assert_eq!(
            [chance_of(&[0.5]), chance_of(&[0.5, 0.5]), chance_of(&[-0.5, -0.5])],
            [1.0, 0.0, 1.0]
        );
        assert!((figures(&[5.0, 5.0]).gain_over(&figures(&[4.0])) - 0.25).abs() < 1e-9);
    }
}
