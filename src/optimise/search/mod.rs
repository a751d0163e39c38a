//! What to try next: ask for a point, tell how good it was.
//!
//! | Search    | What it does                                                                        |
//! |-----------|-------------------------------------------------------------------------------------|
//! | `grid`    | every combination of evenly spaced values, in order                                 |
//! | `random`  | points drawn evenly: J. Bergstra and Y. Bengio, "Random Search for Hyper-Parameter Optimization", JMLR 13 (2012) |
//! | `tpe`     | points like the good ones and unlike the others; see `tpe.rs`                       |
//! | `genetic` | children of good points; see `genetic.rs`                                            |
//!
//! Several points may be out at once: whoever asks need not wait for what was asked before. No point
//! is given out twice. Whoever asks names the number of the trial, and what is drawn for it is drawn from
//! a stream of its own: a search that is begun anew, and told what was found before, goes on as one that
//! never ended would with the same knowledge. Nodes that search together have one seed, which is part of what
//! makes it the same search; as each takes other numbers, each draws other points, as by a seed of its own.

mod genetic;
mod grid;
mod tpe;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Point, Random, Space};

/// How often a point that was given out before is proposed anew.
const PROPOSALS_MAX: u32 = 64;

/// The most points that are gone through for one that was not given out yet.
const ENUMERATED_MAX: u64 = 100_000;

/// A way to search.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SearchKind {
    /// Every combination.
    Grid,
    /// Evenly at random.
    Random,
    /// Tree-structured Parzen estimators.
    #[default]
    Tpe,
    /// A genetic algorithm.
    Genetic,
}

impl SearchKind {
    /// All of them, with their names.
    pub const ALL: [(&'static str, Self); 4] = [
        ("tpe", Self::Tpe),
        ("grid", Self::Grid),
        ("random", Self::Random),
        ("genetic", Self::Genetic),
    ];

    /// The search with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, kind)| kind)
    }
}

impl fmt::Display for SearchKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name =
            Self::ALL.into_iter().find(|(_, kind)| kind == self).map_or("", |(name, _)| name);
        f.pad(name)
    }
}

/// A search through a space. Memory grows with the points given out.
#[derive(Clone, Debug)]
pub struct Search {
    space: Space,
    kind: SearchKind,
    seed: u64,
    /// The bits of their values.
    seen: BTreeSet<Vec<u64>>,
    /// Points and scores; higher is better.
    told: Vec<(Point, f64)>,
    /// What a grid is made of; nothing for other kinds.
    grid: Vec<Point>,
}

impl Search {
    /// A search of `space` that has seen nothing. A grid spaces its values so that there are about
    /// `trials` combinations.
    pub fn new(space: Space, kind: SearchKind, seed: u64, trials: u64) -> Self {
        let grid = match kind {
            SearchKind::Grid => grid::spaced(&space, trials),
            SearchKind::Random | SearchKind::Tpe | SearchKind::Genetic => Vec::new(),
        };
        Self { space, kind, seed, seen: BTreeSet::new(), told: Vec::new(), grid }
    }

    /// The space.
    pub const fn space(&self) -> &Space {
        &self.space
    }

    /// How many numbers stand for a point, if that is known beforehand.
    pub fn numbers(&self) -> Option<u64> {
        (self.kind == SearchKind::Grid).then_some(self.grid.len() as u64)
    }

    /// The point to try under `number`; none when there is none left that was not given out. A grid's is
    /// the same however often it is asked for.
    pub fn ask(&mut self, number: u64) -> Option<Point> {
        let mut random = Random::new(self.seed, number);
        let point = match self.kind {
            SearchKind::Grid => {
                usize::try_from(number).ok().and_then(|at| self.grid.get(at).cloned())
            }
            SearchKind::Random | SearchKind::Tpe | SearchKind::Genetic => {
                self.unseen(&mut random).or_else(|| self.any_left(&mut random))
            }
        }?;
        self.seen.insert(bits(&point));
        Some(point)
    }

    fn unseen(&self, random: &mut Random) -> Option<Point> {
        for attempt in 0..PROPOSALS_MAX {
            // Where good points have all been tried, look elsewhere.
            let is_stuck = attempt * 2 >= PROPOSALS_MAX;
            let point = match self.kind {
                SearchKind::Tpe if !is_stuck => tpe::propose(&self.space, &self.told, random),
                SearchKind::Genetic if !is_stuck => {
                    genetic::propose(&self.space, &self.told, random)
                }
                SearchKind::Grid | SearchKind::Random | SearchKind::Tpe | SearchKind::Genetic => {
                    self.space.draw(random)
                }
            };
            if let Some(point) = point.filter(|point| !self.seen.contains(&bits(point))) {
                return Some(point);
            }
        }
        None
    }

    /// Goes through a small space for the points that were not given out, and draws one.
    fn any_left(&self, random: &mut Random) -> Option<Point> {
        let all = grid::all(&self.space, ENUMERATED_MAX)?;
        let is_left = |point: &&Point| !self.seen.contains(&bits(point));
        let left: Vec<&Point> = all.iter().filter(is_left).collect();
        (!left.is_empty()).then(|| left[random.below(left.len())].clone())
    }

    /// Takes in how good `point` was. Higher is better; what is no number is the worst there is.
    pub fn tell(&mut self, point: &[f64], score: f64) {
        let score = if score.is_finite() { score } else { f64::MIN };
        self.seen.insert(bits(point));
        self.told.push((point.to_vec(), score));
    }

    /// What was told of `point` is not so: it is as one that was never tried.
    pub fn forget(&mut self, point: &[f64]) {
        self.seen.remove(&bits(point));
        self.told.retain(|(told, _)| told != point);
    }

    /// The best score that it was told.
    pub fn best(&self) -> Option<f64> {
        self.told.iter().map(|(_, score)| *score).max_by(f64::total_cmp)
    }

    /// Whether `point` was given out or told of.
    pub fn has_seen(&self, point: &[f64]) -> bool {
        self.seen.contains(&bits(point))
    }
}

fn bits(point: &[f64]) -> Vec<u64> {
    // Both zeros are one value.
    point.iter().map(|value| (value + 0.0).to_bits()).collect()
}

/// The places of `told`, best first; among equals what was told first.
fn ranked(told: &[(Point, f64)]) -> Vec<usize> {
    let mut places: Vec<usize> = (0..told.len()).collect();
    places.sort_by(|&a, &b| told[b].1.total_cmp(&told[a].1).then(a.cmp(&b)));
    places
}
