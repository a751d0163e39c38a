//! A steady-state genetic algorithm: one child at a time, of two parents from the best so far.
//!
//! D. Whitley, "The GENITOR Algorithm and Selection Pressure", ICGA 3 (1989), with tournaments for
//! ranks: each parent is the better of two drawn from the best [`POPULATION`]. A child takes each number
//! from either parent, or one between both (G. Syswerda, "Uniform Crossover in Genetic Algorithms",
//! the same conference), and each number then moves with a chance of one in the number of dimensions.
//!
//! *Departures.* A generation need not end before the next begins, so that many can evaluate at once.

use super::ranked;
use crate::optimise::space::Domain;
use crate::optimise::{Point, Random, Space};

/// Points drawn evenly before there are parents, and how many of the best are parents.
const POPULATION: usize = 20;
/// How far a number moves, as a share of its domain: one deviation.
const MOVE: f64 = 0.1;

/// A point to try after what was `told`.
pub(super) fn propose(space: &Space, told: &[(Point, f64)], random: &mut Random) -> Option<Point> {
    if told.len() < POPULATION {
        return space.draw(random);
    }
    let mut places = ranked(told);
    places.truncate(POPULATION);
    let mut parent = || {
        let (first, second) = (random.below(places.len()), random.below(places.len()));
        space.units(&told[places[first.min(second)]].0)
    };
    let (mother, father) = (parent(), parent());
    let dimensions = space.dimensions();
    let child = (0..dimensions.len()).map(|at| {
        let is_list = matches!(dimensions[at].domain, Domain::Choice(_));
        let mut unit = match random.below(3) {
            0 => mother[at],
            1 => father[at],
            _ if is_list => mother[at],
            _ => mother[at] + (father[at] - mother[at]) * random.unit(),
        };
        if random.below(dimensions.len()) == 0 {
            if is_list {
                unit = random.unit();
            } else {
                unit += MOVE * random.normal();
                // What would leave is reflected.
                unit = if unit < 0.0 { -unit } else { unit };
                unit = if unit > 1.0 { 2.0 - unit } else { unit };
            }
        }
        unit
    });
    let units: Vec<f64> = child.collect();
    space.at(&units)
}
