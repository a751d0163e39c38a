//! Who has written what, in a chain that shows when somebody has changed it.
//!
//! Each record holds the hash of the one before it, so a record that was changed, left out or put in
//! breaks the chain behind it; unless all that follows was made anew, which whoever has kept a later
//! hash sees. Each node has a chain of the writes it was asked for.

use serde::{Deserialize, Serialize};

/// A write that a node was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When, in milliseconds since 1970, by the node's clock.
    pub at_ms: u64,
    /// Who, as they call themselves.
    pub author: String,
    /// Which key, with whom it is for.
    pub key: String,
    /// What was written; none for a removal.
    pub value: Option<String>,
    /// Under which name nodes know the write.
    pub dot: String,
}

/// A link of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    /// Its place, from 1.
    pub number: u64,
    /// What happened.
    pub entry: AuditEntry,
    /// The hash of the record before; zeros for the first.
    pub previous: [u8; 32],
    /// The hash of this one.
    pub hash: [u8; 32],
}

impl AuditRecord {
    /// The record of `entry` after `last`, if there is one.
    pub fn after(last: Option<&Self>, entry: AuditEntry) -> Self {
        let (number, previous) = last.map_or((1, [0; 32]), |last| (last.number + 1, last.hash));
        let hash = hash(number, &entry, &previous);
        Self { number, entry, previous, hash }
    }
}

fn hash(number: u64, entry: &AuditEntry, previous: &[u8; 32]) -> [u8; 32] {
    let AuditEntry { at_ms, author, key, value, dot } = entry;
    let mut hasher = blake3::Hasher::new();
    hasher.update(previous);
    hasher.update(&number.to_be_bytes());
    hasher.update(&at_ms.to_be_bytes());
    hasher.update(&[u8::from(value.is_some())]);
    let value = value.as_deref().unwrap_or_default();
    for text in [author.as_str(), key, value, dot] {
        hasher.update(&(text.len() as u64).to_be_bytes());
        hasher.update(text.as_bytes());
    }
    *hasher.finalize().as_bytes()
}

/// What is checked of a chain, record by record, in order.
#[derive(Clone, Debug)]
pub struct AuditChain {
    /// The most that are kept: older ones may be gone.
    kept_max: u64,
    /// The number of the first that was checked.
    first: Option<u64>,
    last: Option<AuditRecord>,
    count: u64,
    broken: Option<u64>,
}

impl AuditChain {
    /// Nothing so far of a chain of which the last `kept_max` are kept.
    pub const fn new(kept_max: u64) -> Self {
        Self { kept_max, first: None, last: None, count: 0, broken: None }
    }

    /// The next record that there is.
    pub fn add(&mut self, record: &AuditRecord) {
        let follows = self
            .last
            .as_ref()
            .is_none_or(|last| record.number == last.number + 1 && record.previous == last.hash);
        let is_first_sound = record.number != 1 || record.previous == [0; 32];
        let is_sound = record.hash == hash(record.number, &record.entry, &record.previous);
        if !(follows && is_first_sound && is_sound) {
            self.broken.get_or_insert(record.number);
        }
        self.first.get_or_insert(record.number);
        self.count += 1;
        self.last = Some(record.clone());
    }

    /// All that were checked so far are gone by now, because they were the oldest: what comes next is the first.
    pub fn begin_anew(&mut self) {
        *self = Self::new(self.kept_max);
    }

    /// The last that was checked.
    pub const fn last(&self) -> Option<&AuditRecord> {
        self.last.as_ref()
    }

    /// How many were checked.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The number of the first that is not as it was written, or before which some are missing; none, if all are
    /// there as they were written.
    pub fn first_broken(&self) -> Option<u64> {
        let (first, last) = (self.first?, self.last.as_ref()?.number);
        let is_cut = first > last.saturating_sub(self.kept_max) + 1;
        is_cut.then_some(first).or(self.broken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain() -> Vec<AuditRecord> {
        let mut records: Vec<AuditRecord> = Vec::new();
        for number in 0..5 {
            let entry = AuditEntry {
                at_ms: number,
                author: "ann".into(),
                key: "user.k".into(),
                value: (number > 0).then(|| number.to_string()),
                dot: format!("a.1:{number}"),
            };
            records.push(AuditRecord::after(records.last(), entry));
        }
        records
    }

    fn first_broken_of(kept_max: u64, records: &[AuditRecord]) -> Option<u64> {
        let mut chain = AuditChain::new(kept_max);
        records.iter().for_each(|record| chain.add(record));
        assert_eq!(chain.count(), records.len() as u64);
        chain.first_broken()
    }

    fn first_broken(records: &[AuditRecord]) -> Option<u64> {
        first_broken_of(100, records)
    }

    #[test]
    fn a_chain_as_it_was_written_is_whole_from_where_it_may_begin() {
        let chain = chain();
        assert_eq!(first_broken(&chain), None);
        assert_eq!(first_broken(&[]), None);
        assert_eq!(first_broken_of(3, &chain[2..]), None);
        assert_eq!(first_broken_of(4, &chain[2..]), Some(3), "one more is kept");
        assert_eq!(first_broken(&chain[1..]), Some(2), "nothing of it may be gone yet");
    }

    #[test]
    fn whatever_is_changed_left_out_or_put_in_breaks_it_there() {
        let mut changed = chain();
        changed[2].entry.author = "bob".into();
        assert_eq!(first_broken(&changed), Some(3));
        let mut none = chain();
        none[1].entry.value = None;
        assert_eq!(first_broken(&none), Some(2));
        let mut left_out = chain();
        left_out.remove(3);
        assert_eq!(first_broken(&left_out), Some(5));
        let mut put_in = chain();
        let forged = AuditRecord::after(Some(&put_in[1]), put_in[3].entry.clone());
        put_in[2] = forged;
        assert_eq!(first_broken(&put_in), Some(4));
    }
}
