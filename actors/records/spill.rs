//! The spill journal: rows that the database has not got yet, on this node's own disk.
//!
//! A directory of its own, `records` in `node.data_dir`: it outlives the run that the rows are of.

use std::path::Path;

use tickwright_core::domain::Timestamp;
use tickwright_core::records::{Row, Table};

use super::aside::Aside;
use crate::kit::{Carried, DiskFaults, Done, Store, StoreError, StoreOptions, wire};

/// Chunks of rows, each under the number of its last.
const ROWS: &str = "rows";

/// What is known of the database.
const ABOUT: &str = "about";

/// Where the name of the disk is among that.
const IDENTITY: &[u8] = b"disk";

/// Rows of a chunk: small beside a segment of the store.
const CHUNK: usize = 500;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Spill {
    store: Store,
    /// Tells this disk from all others.
    identity: String,
}

/// What an earlier life left: rows after `written` up to `durable`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Left {
    pub(super) written: u64,
    pub(super) durable: u64,
}

/// Rows, and the number of the first.
type Chunk = (u64, Vec<Row>);

impl Spill {
    /// The journal in `data_dir` of the node called `node`; one that is begun now has its name by `now`.
    pub(super) fn open(data_dir: &Path, node: &str, now: Timestamp) -> Result<Self, StoreError> {
        let directory = data_dir.join("records");
        // Rows before a cut are whole, and are for the database.
        let faults = DiskFaults::default();
        let options = StoreOptions { keeps_prefix: true, faults, ..StoreOptions::default() };
        let (store, opened) = Store::open(&directory, options)?;
        if let crate::kit::Opened::SetAside(path) = opened {
            let path = path.display();
            tracing::error!(
                %path,
                "the journal of rows that wait for the database was damaged and is set aside: those that no \
                 checkpoint comes before are derived again, others are in there alone"
            );
        }
        Self::named(store, node, now)
    }

    /// What `store` is called; it gets a name, if it has none.
    fn named(store: Store, node: &str, now: Timestamp) -> Result<Self, StoreError> {
        let known = store.get(ABOUT, IDENTITY)?;
        let known = known.and_then(|bytes| String::from_utf8(bytes).ok());
        let identity = known.unwrap_or_else(|| {
            let identity = format!("{node}/{}", now.as_nanos());
            // Before any row: they are committed in order.
            store.put(ABOUT, IDENTITY.to_vec(), identity.clone().into_bytes(), Box::new(|_| {}));
            identity
        });
        Ok(Self { store, identity })
    }

    /// What is set aside in the same store.
    pub(super) fn aside(&self) -> Result<Aside, StoreError> {
        Aside::open(self.store.clone())
    }

    #[cfg(test)]
    pub(super) fn in_memory() -> Self {
        Self::named(Store::in_memory(), "here", Timestamp::from_nanos(1)).unwrap()
    }

    fn lasts(&self) -> Result<Vec<u64>, StoreError> {
        let keys = self.store.keys(ROWS)?;
        Ok(keys.into_iter().filter_map(|key| key.try_into().ok().map(u64::from_be_bytes)).collect())
    }

    pub(super) fn left(&self) -> Result<Left, StoreError> {
        let lasts = self.lasts()?;
        let Some(&durable) = lasts.last() else { return Ok(Left::default()) };
        let first = self.after(0)?.map_or(durable + 1, |(first, _)| first);
        Ok(Left { written: first.saturating_sub(1), durable })
    }

    /// Stores `rows`, of which the last is number `last`; calls `done` once all of them are on the disk.
    pub(super) fn put(&self, rows: &[Row], last: u64, done: Done) {
        let count = u64::try_from(rows.len()).unwrap_or(0);
        let mut first = last + 1 - count;
        let mut done = Some(done);
        let chunks = rows.chunks(CHUNK).count();
        for (at, rows) in rows.chunks(CHUNK).enumerate() {
            let of_chunk = u64::try_from(rows.len()).unwrap_or(0);
            let last_of_chunk = first + of_chunk - 1;
            let value = wire::encode(&(first, rows));
            // They are committed in order, and nothing is after one that failed.
            let told: Done = match done.take_if(|_| at + 1 == chunks) {
                Some(done) => done,
                None => Box::new(|_| {}),
            };
            self.store.put(ROWS, last_of_chunk.to_be_bytes().to_vec(), value, told);
            first += of_chunk;
        }
        self.store.hurry();
    }

    /// The rows behind number `written`, as many as are kept together, and the number of the first.
    pub(super) fn after(&self, written: u64) -> Result<Option<Chunk>, StoreError> {
        let Some((key, value)) = self.store.next(ROWS, &(written + 1).to_be_bytes())? else {
            return Ok(None);
        };
        let chunk: Result<Chunk, _> = wire::decode(&value);
        let (first, mut rows) =
            chunk.map_err(|error| self.store.record_error(ROWS, &key, &error.to_string()))?;
        let done = usize::try_from((written + 1).saturating_sub(first)).unwrap_or(usize::MAX);
        rows.drain(..done.min(rows.len()));
        Ok(Some((first.max(written + 1), rows)))
    }

    /// What is to go with a checkpoint that comes after all rows up to `until`, of which the database has those up
    /// to `written`: at most `rows_max` of what exec does and operators do. Ticks and factors stay: they are many,
    /// and read again from where they came.
    pub(super) fn carried(
        &self,
        mut written: u64,
        until: u64,
        rows_max: usize,
    ) -> Result<Carried, StoreError> {
        let mut carried = self.nothing_of(0);
        while written < until
            && carried.rows.len() < rows_max
            && let Some((first, mut rows)) = self.after(written)?
        {
            rows.truncate(usize::try_from((until + 1).saturating_sub(first)).unwrap_or(usize::MAX));
            written = (first + u64::try_from(rows.len()).unwrap_or(0)).saturating_sub(1);
            rows.retain(|row| Table::LASTING.contains(&row.table));
            let room = rows_max - carried.rows.len();
            carried.left += u64::try_from(rows.len().saturating_sub(room)).unwrap_or(0);
            carried.rows.extend(rows.into_iter().take(room));
        }
        // What is behind a full load is not read for its kind: there may be millions, at every checkpoint.
        if carried.rows.len() >= rows_max {
            carried.left += until.saturating_sub(written);
        }
        Ok(carried)
    }

    /// So many rows are here, and none of them goes along.
    pub(super) fn nothing_of(&self, left: u64) -> Carried {
        Carried { disk: self.identity.clone(), rows: Vec::new(), left }
    }

    /// Whether what was carried waits here anyway.
    pub(super) fn has(&self, carried: &Carried) -> bool {
        carried.disk == self.identity
    }

    /// Forgets what the database has: chunks whose last row is not after `written`.
    pub(super) fn forget(&self, written: u64) -> Result<(), StoreError> {
        let lasts = self.lasts()?.into_iter().take_while(|last| *last <= written);
        let keys: Vec<Vec<u8>> = lasts.map(|last| last.to_be_bytes().to_vec()).collect();
        if !keys.is_empty() {
            self.store.remove(ROWS, keys);
        }
        Ok(())
    }

    /// The database that rows went to before, if any did.
    pub(super) fn known_database(&self) -> Option<String> {
        let found = self.store.get(ABOUT, b"database").ok()??;
        String::from_utf8(found).ok()
    }

    pub(super) fn know_database(&self, identity: &str) {
        let value = identity.as_bytes().to_vec();
        self.store.put(ABOUT, b"database".to_vec(), value, Box::new(|_| {}));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use tickwright_core::records::{Day, Value};

    use super::*;

    fn rows(numbers: std::ops::RangeInclusive<u64>) -> Vec<Row> {
        let row = |number| Row { table: Table::Orders, values: vec![Value::unsigned(number)] };
        numbers.map(row).collect()
    }

    #[test]
    fn rows_are_found_behind_any_number_and_forgotten_once_they_are_written() {
        let spill = Spill::in_memory();
        assert_eq!(spill.left().unwrap(), Left::default());
        let (told, heard) = channel();
        spill.put(&rows(11..=1_210), 1_210, Box::new(move |done| told.send(done.is_ok()).unwrap()));
        assert_eq!(heard.try_iter().collect::<Vec<_>>(), [true], "told once, at the end");
        assert_eq!(spill.left().unwrap(), Left { written: 10, durable: 1_210 });
        assert_eq!(spill.after(10).unwrap(), Some((11, rows(11..=510))));
        assert_eq!(spill.after(509).unwrap(), Some((510, rows(510..=510))));
        assert_eq!(spill.after(510).unwrap(), Some((511, rows(511..=1_010))));
        assert_eq!(spill.after(1_210).unwrap(), None);
        spill.forget(600).unwrap();
        assert_eq!(spill.left().unwrap(), Left { written: 510, durable: 1_210 });
    }

    #[test]
    fn it_survives_the_process() {
        let directory = tempfile::tempdir().unwrap();
        let (told, heard) = channel();
        let open = |nanos| Spill::open(directory.path(), "node", Timestamp::from_nanos(nanos));
        let spill = open(1).unwrap();
        spill.know_database("x");
        spill.put(&rows(1..=3), 3, Box::new(move |done| told.send(done.is_ok()).unwrap()));
        assert!(heard.recv_timeout(std::time::Duration::from_secs(30)).unwrap());
        drop(spill);
        // The thread that writes ends soon after the last handle.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        let spill = loop {
            match open(2) {
                Ok(spill) => break spill,
                Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
            }
            std::thread::yield_now();
        };
        assert_eq!(spill.left().unwrap(), Left { written: 0, durable: 3 });
        assert_eq!(spill.known_database().as_deref(), Some("x"));
        let carried = spill.carried(0, 3, 9).unwrap();
        assert_eq!((carried.disk.as_str(), spill.has(&carried)), ("node/1", true), "its name too");
        assert!(!Spill::in_memory().has(&carried), "another disk");
    }

    #[test]
    fn what_the_database_has_not_goes_with_a_checkpoint_up_to_a_bound() {
        let spill = Spill::in_memory();
        let mut all = rows(1..=1_200);
        all[700].table = Table::Ticks(Day(20_000));
        spill.put(&all, 1_200, Box::new(|_| {}));
        let carried = |written, until, max| {
            let Carried { rows, left, .. } = spill.carried(written, until, max).unwrap();
            (rows, left)
        };
        assert_eq!(carried(1_200, 1_200, 9), (Vec::new(), 0), "it has all");
        assert_eq!(carried(10, 600, 9_999), (rows(11..=600), 0));
        assert_eq!(carried(10, 600, 100), (rows(11..=110), 490), "the oldest, and a count");
        all.remove(700);
        assert_eq!(carried(0, 1_200, 9_999), (all, 0), "ticks are not among them");
    }
}
