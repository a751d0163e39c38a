//! Tree-structured Parzen estimators: J. Bergstra, R. Bardenet, Y. Bengio and B. Kégl, "Algorithms for
//! Hyper-Parameter Optimization", NIPS 24 (2011), section 4.
//!
//! What was told is split into the best share γ and the rest. Each is a mixture of one narrow
//! distribution round every point and a wide one over all; l is that of the good, g that of the others.
//! Points are drawn from l, and the one with the largest l/g, which is where the expected improvement is
//! largest, is proposed.
//!
//! *Departures.* Dimensions are independent, since our spaces have no tree; a constraint that a drawn
//! point does not keep leaves it out. Scores are to be large. Widths are those of the paper (the larger
//! distance to a neighbour) but held between 1/min(100, n + 1) and 1 as its authors' implementation
//! does. The good are at most [`GOOD_MAX`], so that l stays sharp in a long search. Distributions are
//! cut off at the bounds of the unit interval and weighted for it. *Its limit:* a valley that runs at an
//! angle to the axes is not seen; on Rosenbrock's it does hardly better than chance.

use super::ranked;
use crate::optimise::space::Domain;
use crate::optimise::{Point, Random, Space};

/// Points drawn evenly before anything is estimated.
const DRAWN_FIRST: usize = 16;
/// The share of the good.
const GOOD_SHARE: f64 = 0.15;
/// The most that are good.
const GOOD_MAX: usize = 25;
/// Points drawn from the good, of which one is proposed.
const CANDIDATES: usize = 24;

/// A point to try after what was `told`.
pub(super) fn propose(space: &Space, told: &[(Point, f64)], random: &mut Random) -> Option<Point> {
    if told.len() < DRAWN_FIRST {
        return space.draw(random);
    }
    let places = ranked(told);
    let units: Vec<Vec<f64>> = places.iter().map(|&at| space.units(&told[at].0)).collect();
    let count = (1..=GOOD_MAX).find(|&count| count as f64 >= GOOD_SHARE * told.len() as f64);
    let (good, others) = units.split_at(count.unwrap_or(GOOD_MAX));
    let estimators: Vec<(Parzen, Parzen)> = space
        .dimensions()
        .iter()
        .enumerate()
        .map(|(at, dimension)| {
            let of = |units: &[Vec<f64>]| {
                Parzen::new(&dimension.domain, units.iter().map(|unit| unit[at]).collect())
            };
            (of(good), of(others))
        })
        .collect();
    let mut best: Option<(f64, Point)> = None;
    for _ in 0..CANDIDATES {
        let units: Vec<f64> = estimators.iter().map(|(good, _)| good.draw(random)).collect();
        let Some(point) = space.at(&units) else { continue };
        // Of values that can be counted, all of one share are one.
        let units = space.units(&point);
        let gain: f64 = estimators
            .iter()
            .zip(&units)
            .map(|((good, others), &unit)| {
                libm::log(good.density(unit)) - libm::log(others.density(unit))
            })
            .sum();
        if best.as_ref().is_none_or(|(most, _)| gain > *most) {
            best = Some((gain, point));
        }
    }
    best.map(|(_, point)| point)
}

/// A distribution over the unit interval.
enum Parzen {
    /// Normal distributions, each with mean, width, and its mass within the interval.
    Mixture(Vec<(f64, f64, f64)>),
    /// Weights of the values of a list.
    Weights(Vec<f64>),
}

impl Parzen {
    fn new(domain: &Domain, mut units: Vec<f64>) -> Self {
        if let Domain::Choice(values) = domain {
            // Each value counts once beforehand.
            let mut weights = vec![1.0; values.len()];
            for unit in units {
                weights[place(unit, values.len())] += 1.0;
            }
            return Self::Weights(weights);
        }
        units.sort_unstable_by(f64::total_cmp);
        let least = 1.0 / (units.len() as f64 + 1.0).min(100.0);
        let mut mixture = vec![weighted(0.5, 1.0)];
        for (at, &unit) in units.iter().enumerate() {
            let below = at.checked_sub(1).map_or(0.0, |at| units[at]);
            let above = units.get(at + 1).copied().unwrap_or(1.0);
            let width = (unit - below).max(above - unit).clamp(least, 1.0);
            mixture.push(weighted(unit, width));
        }
        Self::Mixture(mixture)
    }

    fn draw(&self, random: &mut Random) -> f64 {
        match self {
            Self::Mixture(mixture) => {
                let (mean, width, _) = mixture[random.below(mixture.len())];
                let drawn = (0..32).map(|_| mean + width * random.normal());
                let mut inside = drawn.filter(|unit| (0.0..=1.0).contains(unit));
                inside.next().unwrap_or(mean)
            }
            Self::Weights(weights) => {
                let mut left = random.unit() * weights.iter().sum::<f64>();
                let chosen = weights.iter().position(|weight| {
                    left -= weight;
                    left < 0.0
                });
                (chosen.unwrap_or(weights.len() - 1) as f64 + 0.5) / weights.len() as f64
            }
        }
    }

    fn density(&self, unit: f64) -> f64 {
        match self {
            Self::Mixture(mixture) => {
                let of = |&(mean, width, mass): &(f64, f64, f64)| {
                    let distance = (unit - mean) / width;
                    libm::exp(-0.5 * distance * distance) / (width * mass)
                };
                mixture.iter().map(of).sum::<f64>() / mixture.len() as f64 + f64::MIN_POSITIVE
            }
            Self::Weights(weights) => {
                weights[place(unit, weights.len())] / weights.iter().sum::<f64>()
            }
        }
    }
}

/// Mean, width and mass within the unit interval of a normal distribution.
fn weighted(mean: f64, width: f64) -> (f64, f64, f64) {
    let below = |at: f64| 0.5 * libm::erfc(-(at - mean) / (width * std::f64::consts::SQRT_2));
    (mean, width, (below(1.0) - below(0.0)).max(1e-12))
}

/// The place in a list of `count` values that `unit` stands for.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "from 0 to below the length of a list"
)]
fn place(unit: f64, count: usize) -> usize {
    ((unit * count as f64) as usize).min(count - 1)
}
