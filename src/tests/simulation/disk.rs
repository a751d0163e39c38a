//! A disk that keeps what has been synced, and of the rest, at a crash, any beginning.

use std::collections::{BTreeMap, VecDeque};

use tickwright_core::cluster::Unit;
use tickwright_core::domain::{Key, NodeAddress, NodeId, Span};

use crate::units::State;
use crate::world::{Broken, MILLISECOND, What, World};

/// One write. They reach the disk in order.
#[derive(Clone, Debug)]
pub(crate) enum Write {
    Remember(BTreeMap<NodeId, NodeAddress>),
    Checkpoint(Unit, Key, State),
    Remove(Unit, Vec<Key>),
}

#[derive(Debug, Default)]
pub(crate) struct Disk {
    remembered: BTreeMap<NodeId, NodeAddress>,
    checkpoints: BTreeMap<Unit, BTreeMap<Key, State>>,
    /// Written and not synced, by number.
    pending: VecDeque<(u64, Write)>,
    written: u64,
    is_syncing: bool,
    /// Commands of the ledger that the copy here is sure to have.
    pub(crate) applied: usize,
}

impl Disk {
    pub(crate) fn remembered(&self) -> &BTreeMap<NodeId, NodeAddress> {
        &self.remembered
    }

    /// Keys of the checkpoints of `unit`, as a process that starts finds them.
    pub(crate) fn keys(&self, unit: Unit) -> Vec<Key> {
        self.checkpoints.get(&unit).into_iter().flat_map(BTreeMap::keys).copied().collect()
    }

    pub(crate) fn get(&self, unit: Unit, key: Key) -> Option<State> {
        self.checkpoints.get(&unit)?.get(&key).cloned()
    }

    fn apply(&mut self, write: Write) {
        match write {
            Write::Remember(remembered) => self.remembered = remembered,
            Write::Checkpoint(unit, key, state) => {
                self.checkpoints.entry(unit).or_default().insert(key, state);
            }
            Write::Remove(unit, keys) => {
                let kept = self.checkpoints.entry(unit).or_default();
                keys.iter().for_each(|key| drop(kept.remove(key)));
            }
        }
    }

    /// The machine stops: of what was not synced, the first few writes may be there all the same.
    pub(crate) fn crash(&mut self, chance: u64) {
        let pending = std::mem::take(&mut self.pending);
        let survive = usize::try_from(chance).unwrap_or(usize::MAX) % (pending.len() + 1);
        pending.into_iter().take(survive).for_each(|(_, write)| self.apply(write));
        self.is_syncing = false;
    }
}

impl World {
    pub(crate) fn write(&mut self, node: usize, write: Write) {
        let disk = &mut self.nodes[node].disk;
        disk.written += 1;
        disk.pending.push_back((disk.written, write));
        self.sync(node);
    }

    fn sync(&mut self, node: usize) {
        let disk = &mut self.nodes[node].disk;
        if disk.is_syncing || disk.pending.is_empty() {
            return;
        }
        disk.is_syncing = true;
        let number = disk.written;
        // A disk now and then takes long.
        let slow = if self.random.percent(5) { 100 } else { 1 };
        let wait = Span::from_nanos(self.random.range(MILLISECOND / 2, 3 * MILLISECOND) * slow);
        self.after(node, wait, What::Synced(number));
    }

    /// Everything up to write `number` is on the disk.
    pub(crate) fn on_synced(&mut self, node: usize, number: u64) -> Result<(), Broken> {
        let disk = &mut self.nodes[node].disk;
        disk.is_syncing = false;
        let mut stored = Vec::new();
        while let Some((of, _)) = disk.pending.front()
            && *of <= number
        {
            let (_, write) = disk.pending.pop_front().expect("it was seen");
            if let Write::Checkpoint(unit, key, _) = &write {
                stored.push((*unit, *key));
            }
            disk.apply(write);
        }
        self.sync(node);
        for (unit, key) in stored {
            self.on_stored(node, unit, key)?;
        }
        Ok(())
    }
}
