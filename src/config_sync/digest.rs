//! Hashes by which two nodes find out where they differ: one of everything, one for each shard of the
//! keys, one for each key.
//!
//! A dot stands for what was written, so the hash of a key is that of its siblings' dots. Contexts are
//! left out: they differ between nodes that hold the same values, and nothing that is read depends on
//! them.

use serde::{Deserialize, Serialize};

use super::Entry;

/// Shards of the keys.
pub const SHARDS: usize = 64;

/// A hash.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Digest(pub u128);

impl Digest {
    fn of(hasher: &blake3::Hasher) -> Self {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Self(u128::from_be_bytes(bytes))
    }

    /// The hash of one key; nothing, if no sibling is there.
    pub fn of_entry(key: &str, entry: &Entry) -> Self {
        if entry.siblings.is_empty() {
            return Self::default();
        }
        let mut hasher = blake3::Hasher::new();
        let mut field = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_be_bytes());
            hasher.update(bytes);
        };
        field(key.as_bytes());
        for dot in entry.siblings.keys() {
            field(dot.replica.node.0.as_bytes());
            field(&dot.replica.incarnation.0.to_be_bytes());
            field(&dot.counter.to_be_bytes());
        }
        Self::of(&hasher)
    }
}

/// The shard of a key.
pub(super) fn shard_of(key: &str) -> usize {
    usize::from(blake3::hash(key.as_bytes()).as_bytes()[0]) % SHARDS
}

/// The hashes of all shards; each changes with every change of a key, without looking at the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Digests([u128; SHARDS]);

impl Default for Digests {
    fn default() -> Self {
        Self([0; SHARDS])
    }
}

impl Digests {
    /// The hash of a key was `before` and is `after`.
    pub(super) fn change(&mut self, shard: usize, before: Digest, after: Digest) {
        self.0[shard] ^= before.0 ^ after.0;
    }

    pub(super) fn shards(&self) -> Vec<Digest> {
        self.0.iter().map(|&digest| Digest(digest)).collect()
    }

    pub(super) fn root(&self) -> Digest {
        let mut hasher = blake3::Hasher::new();
        for digest in &self.0 {
            hasher.update(&digest.to_be_bytes());
        }
        Digest::of(&hasher)
    }
}
