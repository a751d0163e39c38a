//! Rows that the database will not have for what they are, set aside on this node's own disk.
//!
//! They are in the store of the rows that wait ([`super::spill`]), and stay until they are written after all or
//! a person drops them. A row that is set aside again is the same row.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tickwright_core::domain::Timestamp;
use tickwright_core::records::Row;

use super::{Database, DatabaseError};
use crate::kit::{Store, StoreError, wire};

/// Where they are in the store.
const TREE: &str = "aside";

/// Where it is noted how many there were.
const COUNT_TREE: &str = "aside_count";

/// Rows that are set aside at most. Those that come after them wait with all that is behind them.
pub(super) const ASIDE_MAX: usize = 10_000;

/// What they may take on the disk together.
pub(super) const ASIDE_BYTES_MAX: usize = 64 << 20;

/// A row that was set aside.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AsideRow {
    /// When, in nanoseconds since 1970.
    pub at_ns: u64,
    /// What the database said.
    pub reason: String,
    /// What it would not have.
    pub row: Row,
}

/// Whether a row is set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// Now.
    New,
    /// Since it was refused before.
    Known,
    /// No: there are as many as there may be.
    NoRoom,
}

/// What became of rows that were tried again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retried {
    /// The database has them.
    pub written: u64,
    /// It will not have them still.
    pub refused: u64,
}

/// Its name: it follows from the row.
type Id = [u8; 8];

/// See the module; clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Aside {
    store: Store,
    /// Bytes of each. At most [`ASIDE_MAX`].
    known: Arc<Mutex<BTreeMap<Id, usize>>>,
}

/// The name of a row, as a person types it.
fn text_of(id: &Id) -> String {
    let mut text = String::with_capacity(16);
    for byte in id {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn id_of(row: &Row) -> Id {
    let hash = blake3::hash(&wire::encode(row));
    let mut id = Id::default();
    id.copy_from_slice(&hash.as_bytes()[..8]);
    id
}

impl Aside {
    pub(super) fn open(store: Store) -> Result<Self, StoreError> {
        let mut known = BTreeMap::new();
        for key in store.keys(TREE)? {
            let bytes = store.get(TREE, &key)?.map_or(0, |value| value.len());
            known.extend(Id::try_from(key).ok().map(|id| (id, bytes)));
        }
        Ok(Self { store, known: Arc::new(Mutex::new(known)) })
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<Id, usize>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        u64::try_from(self.known().len()).unwrap_or(u64::MAX)
    }

    /// Sets a row aside; returns once it is on the disk.
    pub(super) fn put(&self, aside: &AsideRow) -> Result<Kept, StoreError> {
        let id = id_of(&aside.row);
        let value = wire::encode(aside);
        let known = self.known();
        if known.contains_key(&id) {
            return Ok(Kept::Known);
        }
        let bytes: usize = known.values().sum();
        if known.len() >= ASIDE_MAX || bytes.saturating_add(value.len()) > ASIDE_BYTES_MAX {
            return Ok(Kept::NoRoom);
        }
        drop(known);
        let length = value.len();
        self.store.put_and_wait(TREE, id.to_vec(), value)?;
        self.known().insert(id, length);
        Ok(Kept::New)
    }

    /// All of them by name, oldest first.
    pub(super) fn list(&self) -> Result<Vec<(String, AsideRow)>, StoreError> {
        let mut rows = Vec::new();
        let ids: Vec<Id> = self.known().keys().copied().collect();
        for id in ids {
            // One that was dropped meanwhile is none.
            let Some(value) = self.store.get(TREE, &id)? else { continue };
            let aside: Result<AsideRow, _> = wire::decode(&value);
            let aside =
                aside.map_err(|error| self.store.record_error(TREE, &id, &error.to_string()))?;
            rows.push((text_of(&id), aside));
        }
        rows.sort_by(|(one, a), (other, b)| (a.at_ns, one).cmp(&(b.at_ns, other)));
        Ok(rows)
    }

    /// Drops the row of this name, or all of them by the name `all`. Returns how many.
    pub(super) fn discard(&self, name: &str) -> u64 {
        let mut known = self.known();
        let is_meant = |id: &Id| name == "all" || text_of(id) == name;
        let ids: Vec<Id> = known.keys().filter(|id| is_meant(id)).copied().collect();
        for id in &ids {
            known.remove(id);
        }
        drop(known);
        let count = u64::try_from(ids.len()).unwrap_or(u64::MAX);
        if !ids.is_empty() {
            self.store.remove(TREE, ids.into_iter().map(Vec::from).collect());
        }
        count
    }

    /// Waits until what was dropped is so on the disk: removals come before what is stored after them.
    pub(super) fn settle(&self) -> Result<(), StoreError> {
        let count = self.count().to_be_bytes().to_vec();
        self.store.put_and_wait(COUNT_TREE, b"count".to_vec(), count)
    }

    /// Offers all of them to the database again, one by one.
    ///
    /// # Errors
    ///
    /// In words, when the disk or the database fails; what was written until then is written.
    pub(super) async fn retry(&self, database: &Database) -> Result<Retried, String> {
        let mut retried = Retried::default();
        for (name, aside) in self.list().map_err(|error| error.to_string())? {
            match database.write(std::slice::from_ref(&aside.row)).await {
                Ok(()) => retried.written += self.discard(&name),
                Err(DatabaseError::Refused { .. }) => retried.refused += 1,
                Err(error) => return Err(format!("{error}, after {} rows", retried.written)),
            }
        }
        Ok(retried)
    }
}

impl AsideRow {
    pub(super) fn new(row: Row, reason: String, now: Timestamp) -> Self {
        Self { at_ns: now.as_nanos(), reason, row }
    }
}

#[cfg(test)]
mod tests {
    use tickwright_core::records::{Table, Value};

    use super::*;

    fn aside(number: u64, text: &str) -> AsideRow {
        let values = vec![Value::unsigned(number), Value::Text(text.into())];
        let row = Row { table: Table::Orders, values };
        AsideRow::new(row, "no".into(), Timestamp::from_nanos(number))
    }

    #[test]
    fn a_row_is_set_aside_once_and_found_by_its_name_until_it_is_dropped() {
        let store = Store::in_memory();
        let rows = Aside::open(store.clone()).unwrap();
        assert_eq!(rows.put(&aside(2, "b")).unwrap(), Kept::New);
        assert_eq!(rows.put(&aside(1, "a")).unwrap(), Kept::New);
        assert_eq!(rows.put(&aside(2, "b")).unwrap(), Kept::Known);
        let again = Aside::open(store).unwrap();
        let listed = again.list().unwrap();
        let numbers: Vec<u64> = listed.iter().map(|(_, aside)| aside.at_ns).collect();
        assert_eq!((numbers, again.count()), (vec![1, 2], 2));
        assert_eq!(again.discard("nobody"), 0);
        assert_eq!(again.discard(&listed[0].0), 1);
        assert_eq!(again.list().unwrap(), listed[1..]);
        assert_eq!((again.discard("all"), again.count()), (1, 0));
    }

    #[test]
    fn there_is_an_end_to_rows_and_to_bytes() {
        let rows = Aside::open(Store::in_memory()).unwrap();
        let long = "x".repeat(ASIDE_BYTES_MAX / 2);
        assert_eq!(rows.put(&aside(1, &long)).unwrap(), Kept::New);
        assert_eq!(rows.put(&aside(2, &long)).unwrap(), Kept::NoRoom, "two halves and a little");
        assert_eq!(rows.put(&aside(3, "short")).unwrap(), Kept::New);
        rows.known().extend((0..ASIDE_MAX).map(|it| ((it as u64).to_be_bytes(), 0)));
        assert_eq!(rows.put(&aside(4, "short")).unwrap(), Kept::NoRoom);
    }
}
