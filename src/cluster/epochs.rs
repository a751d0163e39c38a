//! Which life of a unit may still speak.
//!
//! A node that was stopped, or cut off, does not know that its unit was given to another. What it still
//! says comes under an older epoch than has been heard meanwhile, and is refused.
//!
//! # Invariants
//!
//! 1. Once something of an epoch was let in, nothing of an older one is.

use std::collections::BTreeMap;

use super::Unit;

/// The latest epoch of each unit that one node has heard of.
#[derive(Clone, Debug, Default)]
pub struct EpochFence {
    /// At most one for each unit of the pipeline.
    latest: BTreeMap<Unit, u64>,
}

/// What was said comes from a unit that has a later life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{unit}` is at epoch {latest}, and the message is of its epoch {epoch}")]
pub struct StaleEpoch {
    /// Which unit.
    pub unit: Unit,
    /// The epoch of the message.
    pub epoch: u64,
    /// The latest that was heard.
    pub latest: u64,
}

impl EpochFence {
    /// The latest epoch of `unit` that was heard of.
    pub fn latest(&self, unit: Unit) -> Option<u64> {
        self.latest.get(&unit).copied()
    }

    /// Lets in something that `unit` says at `epoch`.
    ///
    /// # Errors
    ///
    /// [`StaleEpoch`] when a later epoch was heard; and for epoch 0, which no unit has.
    pub fn admit(&mut self, unit: Unit, epoch: u64) -> Result<(), StaleEpoch> {
        let latest = self.latest.entry(unit).or_insert(1);
        if epoch < *latest {
            return Err(StaleEpoch { unit, epoch, latest: *latest });
        }
        *latest = epoch;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_life_is_refused_once_a_later_one_was_heard() {
        let mut fence = EpochFence::default();
        let shard = Unit::Shard(3);
        assert_eq!(fence.admit(shard, 0), Err(StaleEpoch { unit: shard, epoch: 0, latest: 1 }));
        assert_eq!(fence.admit(shard, 2), Ok(()));
        assert_eq!(fence.admit(shard, 2), Ok(()));
        assert_eq!(fence.admit(shard, 1), Err(StaleEpoch { unit: shard, epoch: 1, latest: 2 }));
        assert_eq!(fence.admit(Unit::Exec, 1), Ok(()), "each unit has epochs of its own");
        assert_eq!(fence.latest(shard), Some(2));
        assert_eq!(fence.latest(Unit::Shard(4)), None);
    }
}
