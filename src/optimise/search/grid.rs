//! Every combination of evenly spaced values.

use crate::optimise::space::Domain;
use crate::optimise::{Point, Space};

/// Levels of each dimension, gone through like the digits of a number, the last one fastest.
struct Grid {
    levels: Vec<u64>,
    next: u64,
}

/// The combinations of as many levels in each dimension as make about `trials` of them; no more than
/// `trials`.
pub(super) fn spaced(space: &Space, trials: u64) -> Vec<Point> {
    let product = |most: u64| {
        let levels = levels(space, most);
        levels.iter().fold(1_u64, |product, &count| product.saturating_mul(count))
    };
    // Once every value there is has a level of its own, more levels change nothing.
    let grows = |most: &u64| product(*most) <= trials && product(*most) > product(*most - 1);
    let most = (3..=trials.max(3)).take_while(grows).last().unwrap_or(2);
    let mut grid = Grid { levels: levels(space, most), next: 0 };
    let points = std::iter::from_fn(|| grid.next(space));
    points.take(usize::try_from(trials).unwrap_or(usize::MAX)).collect()
}

/// All points there are, if those can be counted and are no more than `max`.
pub(super) fn all(space: &Space, max: u64) -> Option<Vec<Point>> {
    let counts = space.dimensions().iter().map(|dimension| dimension.domain.count());
    let levels: Vec<u64> = counts.collect::<Option<_>>()?;
    let product = levels.iter().fold(1_u64, |product, &count| product.saturating_mul(count));
    let mut grid = (product <= max).then_some(Grid { levels, next: 0 })?;
    Some(std::iter::from_fn(|| grid.next(space)).collect())
}

impl Grid {
    fn next(&mut self, space: &Space) -> Option<Point> {
        loop {
            let mut rest = self.next;
            self.next += 1;
            let mut units = vec![0.0; self.levels.len()];
            for (at, dimension) in space.dimensions().iter().enumerate().rev() {
                let (levels, level) = (self.levels[at], rest % self.levels[at]);
                rest /= levels;
                units[at] = match dimension.domain {
                    // Both ends are tried.
                    Domain::Real(..) | Domain::Log(..) if levels > 1 => {
                        level as f64 / (levels - 1) as f64
                    }
                    Domain::Integer(..)
                    | Domain::LogInteger(..)
                    | Domain::Real(..)
                    | Domain::Log(..)
                    | Domain::Choice(_) => (level as f64 + 0.5) / levels as f64,
                };
            }
            if rest > 0 {
                return None;
            }
            if let Some(point) = space.at(&units) {
                return Some(point);
            }
        }
    }
}

fn levels(space: &Space, most: u64) -> Vec<u64> {
    let count = |domain: &Domain| domain.count().map_or(most, |count| count.min(most));
    space.dimensions().iter().map(|dimension| count(&dimension.domain)).collect()
}
