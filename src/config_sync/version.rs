//! Who has written what: dots, and vectors of them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::domain::{Incarnation, NodeId};

/// One store of entries: a node, and in which of its lives the store was made. A node that starts again
/// on its disk goes on with its replica; one that has lost its disk begins another, so that a dot is
/// never given twice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Replica {
    /// Whose.
    pub node: NodeId,
    /// Made in which life.
    pub incarnation: Incarnation,
}

impl fmt::Display for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.node, self.incarnation)
    }
}

/// One write, whichever key it was of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Dot {
    /// Who wrote.
    pub replica: Replica,
    /// The how-manieth write there, from 1.
    pub counter: u64,
}

impl fmt::Display for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.replica, self.counter)
    }
}

/// Of each replica, its writes up to one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionVector(BTreeMap<Replica, u64>);

impl VersionVector {
    /// Whether `dot` is among them.
    pub fn covers(&self, dot: &Dot) -> bool {
        self.get(&dot.replica) >= dot.counter
    }

    /// Up to which write of `replica`; 0 for none.
    pub fn get(&self, replica: &Replica) -> u64 {
        self.0.get(replica).copied().unwrap_or(0)
    }

    /// Takes `dot` in, and every earlier one of its replica.
    pub fn raise(&mut self, dot: &Dot) {
        if self.get(&dot.replica) < dot.counter {
            self.0.insert(dot.replica.clone(), dot.counter);
        }
    }

    /// Takes in everything that `other` has.
    pub fn join(&mut self, other: &Self) {
        for (replica, &counter) in &other.0 {
            if self.get(replica) < counter {
                self.0.insert(replica.clone(), counter);
            }
        }
    }

    /// Whether `other` has nothing that this has not.
    pub fn dominates(&self, other: &Self) -> bool {
        other.0.iter().all(|(replica, &counter)| self.get(replica) >= counter)
    }

    /// Each replica with its last write.
    pub fn iter(&self) -> impl Iterator<Item = (&Replica, u64)> {
        self.0.iter().map(|(replica, &counter)| (replica, counter))
    }

    /// How many replicas.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'d> FromIterator<&'d Dot> for VersionVector {
    fn from_iter<I: IntoIterator<Item = &'d Dot>>(dots: I) -> Self {
        let mut vector = Self::default();
        dots.into_iter().for_each(|dot| vector.raise(dot));
        vector
    }
}
