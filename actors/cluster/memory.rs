//! What a node remembers of its cluster: which life it is in, and whom it has seen.
//!
//! A small file of its own, `DATA/cluster/known.json`, readable by people: a node that remembers others
//! never founds a cluster alone, and an operator who knows better deletes the file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tickwright_core::domain::{Incarnation, NodeAddress, NodeId};

use crate::kit::write_whole;

/// Why a node cannot remember.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// Another process holds the directory.
    #[error(
        "data directory `{}` is in use by another running node; stop it, or give this one another \
         --data-dir", .0.display()
    )]
    InUse(PathBuf),
    /// The file cannot be read or written.
    #[error("`{}` cannot be used: {message}; what it remembers is who is in the cluster", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
}

/// The file's content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    /// The cluster that is remembered.
    cluster: String,
    /// The last life of this node.
    incarnation: u64,
    /// Other members that have not left, and where they listen.
    members: BTreeMap<NodeId, NodeAddress>,
}

/// The memory of one node. Clones share it.
#[derive(Clone, Debug)]
pub struct Memory {
    path: PathBuf,
    known: Arc<Mutex<Known>>,
    /// Held for as long as the node runs.
    _lock: Arc<File>,
}

/// The other members that the node with `data_dir` remembers; none, if it remembers nothing that can be read.
pub fn remembered(data_dir: &Path) -> BTreeSet<NodeId> {
    let bytes = fs::read(data_dir.join("cluster").join("known.json")).unwrap_or_default();
    let known = serde_json::from_slice::<Known>(&bytes).unwrap_or_default();
    known.members.into_keys().collect()
}

impl Memory {
    /// Opens what the node with `data_dir` remembers of `cluster`, and begins a new life, which is later
    /// than any that is remembered and, unless a clock was set back, than any that was forgotten.
    ///
    /// # Errors
    ///
    /// [`MemoryError`].
    pub fn open(data_dir: &Path, cluster: &str, clock_ms: u64) -> Result<Self, MemoryError> {
        let directory = data_dir.join("cluster");
        let path = directory.join("known.json");
        let fail = |path: &Path, error: &dyn std::fmt::Display| MemoryError::File {
            path: path.into(),
            message: error.to_string(),
        };
        fs::create_dir_all(&directory).map_err(|error| fail(&directory, &error))?;
        let lock_path = directory.join("lock");
        let lock = File::create(&lock_path).map_err(|error| fail(&lock_path, &error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(MemoryError::InUse(data_dir.into())),
            Err(TryLockError::Error(error)) => return Err(fail(&lock_path, &error)),
        }
        let mut known = match fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice::<Known>(&bytes).map_err(|error| fail(&path, &error))?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Known::default(),
            Err(error) => return Err(fail(&path, &error)),
        };
        if known.cluster != cluster {
            known = Known { incarnation: known.incarnation, ..Known::default() };
            cluster.clone_into(&mut known.cluster);
        }
        known.incarnation = (known.incarnation + 1).max(clock_ms);
        let memory = Self { path, known: Arc::new(Mutex::new(known)), _lock: Arc::new(lock) };
        memory.save()?;
        Ok(memory)
    }

    /// Which life this is.
    pub fn incarnation(&self) -> Incarnation {
        Incarnation(self.known.lock().unwrap_or_else(PoisonError::into_inner).incarnation)
    }

    /// A later life than this was seen by others: begin one that is later still.
    ///
    /// # Errors
    ///
    /// [`MemoryError`].
    pub fn begin_after(&self, seen: Incarnation) -> Result<(), MemoryError> {
        {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.incarnation = known.incarnation.max(seen.0) + 1;
        }
        self.save()
    }

    /// Other members that have not left, and where they listen.
    pub fn members(&self) -> BTreeMap<NodeId, NodeAddress> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).members.clone()
    }

    /// A member was seen at `address`, or has left. Returns whether that is news, to be
    /// [saved](Self::save).
    pub fn on_member(&self, id: &NodeId, address: Option<&NodeAddress>) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match address {
            Some(address) => {
                known.members.insert(id.clone(), address.clone()).as_ref() != Some(address)
            }
            None => known.members.remove(id).is_some(),
        }
    }

    /// Writes the file anew, whole or not at all. Blocks.
    ///
    /// # Errors
    ///
    /// [`MemoryError`].
    pub fn save(&self) -> Result<(), MemoryError> {
        let write = || -> io::Result<()> {
            // Held while writing: the last to write is the last to have looked.
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            write_whole(&self.path, &serde_json::to_vec_pretty(&*known)?)
        };
        write().map_err(|error| MemoryError::File {
            path: self.path.clone(),
            message: error.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_remembers_whom_it_saw_and_every_life_is_later() {
        let directory = tempfile::tempdir().unwrap();
        let open = |clock| Memory::open(directory.path(), "c", clock);
        let memory = open(1_000).unwrap();
        assert_eq!(memory.incarnation(), Incarnation(1_000));
        assert!(memory.on_member(&"b".into(), Some(&"b:1".into())));
        assert!(!memory.on_member(&"b".into(), Some(&"b:1".into())), "no news");
        assert!(memory.on_member(&"d".into(), Some(&"d:1".into())));
        assert!(memory.on_member(&"d".into(), None), "it left");
        memory.save().unwrap();
        assert!(matches!(open(1), Err(MemoryError::InUse(_))));
        drop(memory);
        let again = open(500).unwrap();
        assert_eq!(again.incarnation(), Incarnation(1_001), "though the clock was set back");
        assert_eq!(again.members(), BTreeMap::from([("b".into(), "b:1".into())]));
        again.begin_after(Incarnation(9_000)).unwrap();
        drop(again);
        let other = Memory::open(directory.path(), "other", 1).unwrap();
        assert_eq!(other.incarnation(), Incarnation(9_002));
        assert!(other.members().is_empty(), "of another cluster");
    }

    #[test]
    fn a_damaged_file_is_named_and_not_taken_for_a_fresh_start() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("cluster")).unwrap();
        fs::write(directory.path().join("cluster/known.json"), b"{").unwrap();
        let error = Memory::open(directory.path(), "c", 1).unwrap_err().to_string();
        assert!(error.contains("known.json` cannot be used"), "{error}");
    }
}
