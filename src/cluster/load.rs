//! How loaded a node is, as one number that all nodes compare.

use serde::{Deserialize, Serialize};

/// What has been measured of a node, each from 0 (idle) to 1 (full).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LoadSample {
    /// Memory in use, of what the process may have.
    pub memory: f64,
    /// Rows that wait in its streams, of what may wait there.
    pub queue: f64,
    /// Processor time, of what the machine has.
    pub cpu: f64,
}

/// How much each counts for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoadWeights {
    /// Memory.
    pub memory: f64,
    /// Rows that wait.
    pub queue: f64,
    /// Processor time.
    pub cpu: f64,
}

impl LoadWeights {
    /// The mean of a sample by these weights, from 0 to 1; 0 if nothing counts. What is not a number
    /// counts as idle, and what is beyond full as full.
    pub fn score(&self, sample: &LoadSample) -> f64 {
        let part = |share: f64| if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) };
        let total = self.memory + self.queue + self.cpu;
        if total <= 0.0 {
            return 0.0;
        }
        let sum = self.memory * part(sample.memory)
            + self.queue * part(sample.queue)
            + self.cpu * part(sample.cpu);
        sum / total
    }
}

/// How full queues are together: the mean over them, of rows that wait and rows that may. None is idle.
pub fn queue_share(queues: impl IntoIterator<Item = (u64, u64)>) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    for (rows, bound) in queues {
        #[expect(clippy::cast_precision_loss, reason = "a share needs no 53 bits")]
        let share = rows as f64 / bound.max(1) as f64;
        sum += share.min(1.0);
        count += 1.0;
    }
    if count > 0.0 { sum / count } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const USUAL: LoadWeights = LoadWeights { memory: 0.4, queue: 0.6, cpu: 0.0 };

    #[test]
    fn each_part_counts_for_its_weight() {
        let near = |sample, expected: f64| (USUAL.score(&sample) - expected).abs() < 1e-12;
        assert!(near(LoadSample { memory: 0.5, queue: 0.0, cpu: 1.0 }, 0.2));
        assert!(near(LoadSample { memory: 0.0, queue: 0.5, cpu: 1.0 }, 0.3));
        assert!(near(LoadSample { memory: 1.0, queue: 1.0, cpu: 0.0 }, 1.0));
        let only_cpu = LoadWeights { memory: 0.0, queue: 0.0, cpu: 3.0 };
        let sample = LoadSample { memory: 1.0, queue: 1.0, cpu: 0.25 };
        assert!((only_cpu.score(&sample) - 0.25).abs() < 1e-12, "weights need not add up to one");
        let nothing = LoadWeights { memory: 0.0, queue: 0.0, cpu: 0.0 };
        assert!(nothing.score(&sample).abs() < 1e-12);
    }

    #[test]
    fn queues_count_alike_however_long_they_may_be() {
        assert!((queue_share([(5, 10), (0, 1_000)]) - 0.25).abs() < 1e-12);
        assert!((queue_share([(50, 10)]) - 1.0).abs() < 1e-12, "what is beyond the bound is full");
        assert!(queue_share([]).abs() < 1e-12);
        assert!(queue_share([(0, 0)]).abs() < 1e-12);
    }

    proptest! {
        #[test]
        fn a_score_is_between_idle_and_full_and_grows_with_every_part(
            parts in proptest::array::uniform3(proptest::num::f64::ANY),
            weights in proptest::array::uniform3(0.0f64..10.0),
            more in 0.0f64..1.0,
        ) {
            let [memory, queue, cpu] = parts;
            let sample = LoadSample { memory, queue, cpu };
            let [memory, queue, cpu] = weights;
            let weights = LoadWeights { memory, queue, cpu };
            let score = weights.score(&sample);
            prop_assert!((0.0..=1.0 + 1e-12).contains(&score), "{score}");
            let sample = LoadSample { queue: more, ..sample };
            let fuller = LoadSample { queue: (more + 0.1).min(1.0), ..sample };
            prop_assert!(weights.score(&fuller) >= weights.score(&sample) - 1e-12);
        }
    }
}
