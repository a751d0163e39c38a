//! A journal of raw blocks: what a source that cannot be read again has said, before anything else
//! sees it.
//!
//! ```text
//! block ─▶ append ─▶ store (group commit) ─▶ done: only now may the block go on
//!                      └── read, from any row that is not yet stable downstream
//! ```
//!
//! # Format
//!
//! One tree a source, one record a block, under the block's first sequence number in eight bytes, big
//! endian. A record is [`wire::seal`]ed: the length of the header in four bytes, the header (again a
//! [`wire`] record), then the rows as they lie in memory.
//!
//! # Invariants
//!
//! 1. Records are contiguous: each begins where the one before ends. Reading verifies it.
//! 2. The newest record is never trimmed: it tells where a successor goes on.
//! 3. No record is written that makes the journal larger than its bound.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tickwright_core::domain::{Definition, RawBatch, RawTick, SourceId, Timestamp};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::log_copy::{LogCopy, LogOutlet, append_to_log};
use super::monotonic_nanos;
use super::store::{Done, Store, StoreError};
use super::wire;

/// Records that are trimmed together, at least.
const TRIM_MIN: usize = 32;

/// How long writes of a predecessor may take to reach the disk.
const FENCE_PATIENCE: Duration = Duration::from_secs(30);

/// How long it may take until other nodes have what a predecessor has written. While most members are
/// out of reach they cannot have it; then it is tried again.
const COPY_PATIENCE: Duration = Duration::from_secs(60);

/// The tree with the journal of `source`.
pub fn journal_tree(source: usize) -> String {
    format!("journal/{source}")
}

/// Why a journal cannot be read or written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JournalError {
    /// The store failed, or a record is damaged.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no room left.
    #[error(
        "the journal `{tree}` is full: {bytes} bytes, and journal.size_max_bytes is {bytes_max}; \
         ingestion has stopped, and what was journaled is kept: raise journal.size_max_bytes, or \
         lower stream.checkpoint_ticks so that it is trimmed sooner, and start again"
    )]
    Full {
        /// Which journal.
        tree: String,
        /// Its size.
        bytes: u64,
        /// Its bound.
        bytes_max: u64,
    },
    /// Other nodes do not have what is there.
    #[error(
        "the journal `{tree}` has not been copied to other nodes within {COPY_PATIENCE:?}; \
         `tickwright ctl status` says what it waits for"
    )]
    Uncopied {
        /// Which journal.
        tree: String,
    },
    /// Writes that were under way do not end.
    #[error("the journal `{tree}` has not been written within {FENCE_PATIENCE:?}; check the disk")]
    Stuck {
        /// Which journal.
        tree: String,
    },
}

/// A block and what was noted with it.
#[derive(Debug)]
pub struct Entry<N> {
    /// The rows and the symbols that are new in them.
    pub block: RawBatch,
    /// Whatever the writer needs to go on after this block.
    pub note: N,
}

/// What stands before the rows.
#[derive(Serialize, Deserialize)]
struct Header<N> {
    source: SourceId,
    first_sequence: u64,
    frontier_before: Timestamp,
    definitions: Vec<Definition>,
    rows: u64,
    note: N,
}

/// The journal of one source.
#[derive(Debug)]
pub struct Journal<N> {
    store: Store,
    tree: String,
    /// First sequence number and size of every record, in order.
    records: VecDeque<(u64, u64)>,
    bytes: u64,
    bytes_max: u64,
    /// Who keeps copies of it elsewhere.
    copies: Option<LogOutlet>,
    note: PhantomData<fn() -> N>,
}

impl<N: Serialize + DeserializeOwned> Journal<N> {
    /// The journal of `source` as earlier writers left it, once their last writes have ended, and have
    /// been copied to wherever `copies` has them kept.
    ///
    /// # Errors
    ///
    /// [`JournalError`].
    pub async fn open(
        store: &Store,
        source: usize,
        bytes_max: u64,
        copies: Option<LogOutlet>,
    ) -> Result<Self, JournalError> {
        let tree = journal_tree(source);
        // Writes keep their order: once this one is done, those of a predecessor are.
        let (sender, receiver) = oneshot::channel();
        let done: Done = Box::new(move |result| drop(sender.send(result)));
        store.put("journal-fence", tree.clone().into_bytes(), Vec::new(), done);
        store.hurry();
        match timeout(FENCE_PATIENCE, receiver).await {
            Ok(Ok(result)) => result?,
            Ok(Err(_)) | Err(_) => return Err(JournalError::Stuck { tree }),
        }
        if let Some(copies) = &copies {
            let (sender, receiver) = oneshot::channel();
            let done: Done = Box::new(move |result| drop(sender.send(result)));
            // Whoever keeps copies is there as long as the unit is; without it nobody waits.
            let _ = copies.send(LogCopy::Begin(done));
            match timeout(COPY_PATIENCE, receiver).await {
                Ok(Ok(result)) => result?,
                Ok(Err(_)) | Err(_) => return Err(JournalError::Uncopied { tree }),
            }
        }
        let mut journal = Self {
            store: store.clone(),
            tree,
            records: VecDeque::new(),
            bytes: 0,
            bytes_max,
            copies,
            note: PhantomData,
        };
        let mut from = vec![0; 8];
        while let Some((key, value)) = store.next(&journal.tree, &from)? {
            let sequence = sequence_of(&key)
                .ok_or_else(|| store.record_error(&journal.tree, &key, "not a row's number"))?;
            journal.note_record(sequence, key.len() + value.len());
            from = (sequence + 1).to_be_bytes().to_vec();
        }
        Ok(journal)
    }

    /// Appends `block`, with `note`; `done` is called once it is on the disk. A block without rows
    /// only leaves its note, until the next block takes its place.
    ///
    /// # Errors
    ///
    /// [`JournalError::Full`]; nothing is then written.
    pub fn append(&mut self, block: &RawBatch, note: N, done: Done) -> Result<(), JournalError> {
        let header = wire::encode(&Header {
            source: block.source,
            first_sequence: block.first_sequence,
            frontier_before: block.frontier_before,
            definitions: block.definitions.clone(),
            rows: block.rows.len() as u64,
            note,
        });
        let rows: &[u8] = bytemuck::cast_slice(&block.rows);
        let length = u32::try_from(header.len()).expect("headers are bounded far below 4 GiB");
        let payload = [&length.to_le_bytes()[..], &header, rows].concat();
        let record = wire::seal(&payload);
        let key = block.first_sequence.to_be_bytes().to_vec();
        let bytes = self.bytes + (key.len() + record.len()) as u64;
        if bytes > self.bytes_max {
            let (tree, bytes_max) = (self.tree.clone(), self.bytes_max);
            return Err(JournalError::Full { tree, bytes: self.bytes, bytes_max });
        }
        self.note_record(block.first_sequence, key.len() + record.len());
        let copies = self.copies.as_ref();
        append_to_log(&self.store, copies, &self.tree, block.first_sequence, record, done);
        Ok(())
    }

    /// The newest record.
    ///
    /// # Errors
    ///
    /// [`StoreError::Record`] when it is damaged or another version's.
    pub fn last(&self) -> Result<Option<Entry<N>>, StoreError> {
        self.records.back().map(|&(first, _)| self.decode(first)).transpose()
    }

    /// The record that holds row `sequence`, which has been written.
    ///
    /// # Errors
    ///
    /// [`StoreError::Record`] when it is damaged, another version's, not there any more, or does not
    /// end where the next begins.
    pub fn read(&self, sequence: u64) -> Result<Entry<N>, StoreError> {
        let index = self.records.partition_point(|&(first, _)| first <= sequence);
        let Some(&(first, _)) = index.checked_sub(1).and_then(|index| self.records.get(index))
        else {
            let message = "it has been trimmed, and is asked for again";
            return Err(self.store.record_error(&self.tree, &sequence.to_be_bytes(), message));
        };
        let entry = self.decode(first)?;
        let end = first + entry.block.rows.len() as u64;
        let next = self.records.get(index).map_or(end, |&(next, _)| next);
        if end != next || sequence >= end {
            let message = format!("it ends before row {end}, and row {next} follows");
            return Err(self.store.record_error(&self.tree, &first.to_be_bytes(), &message));
        }
        Ok(entry)
    }

    /// Drops records that hold nothing after row `stable`, some time soon; the newest one is kept.
    pub fn trim(&mut self, stable: u64) {
        // A record ends where the next begins.
        let droppable =
            self.records.partition_point(|&(first, _)| first <= stable.saturating_add(1));
        let droppable = droppable.saturating_sub(1);
        if droppable < TRIM_MIN {
            return;
        }
        let mut keys = Vec::with_capacity(droppable);
        for (first, bytes) in self.records.drain(..droppable) {
            self.bytes -= bytes;
            keys.push(first.to_be_bytes().to_vec());
        }
        self.store.remove(&self.tree, keys);
        if let (Some(copies), Some(&(oldest, _))) = (&self.copies, self.records.front()) {
            let _ = copies.send(LogCopy::Trim(oldest));
        }
    }

    /// Bytes of all records.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many records.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Counts a record; one of the same number is replaced.
    fn note_record(&mut self, first: u64, length: usize) {
        let length = length as u64;
        if let Some(&(last, bytes)) = self.records.back()
            && last == first
        {
            self.records.pop_back();
            self.bytes -= bytes;
        }
        self.records.push_back((first, length));
        self.bytes += length;
    }

    fn decode(&self, first: u64) -> Result<Entry<N>, StoreError> {
        let key = first.to_be_bytes();
        let fail = |message: &str| self.store.record_error(&self.tree, &key, message);
        let record = self.store.get(&self.tree, &key)?.ok_or_else(|| fail("it is gone"))?;
        let payload = wire::open(&record).map_err(|error| fail(&error.to_string()))?;
        let (length, rest) = payload.split_first_chunk().ok_or_else(|| fail("it has no header"))?;
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let (header, rows) =
            rest.split_at_checked(length).ok_or_else(|| fail("its header is cut off"))?;
        let header: Header<N> = wire::decode(header).map_err(|error| fail(&error.to_string()))?;
        let row_size = size_of::<RawTick>();
        let is_whole = header.first_sequence == first
            && rows.len() % row_size == 0
            && header.rows == (rows.len() / row_size) as u64;
        if !is_whole {
            return Err(fail("its rows are not those of its header"));
        }
        // Copied, for bytes of a record lie at any address.
        let mut ticks = vec![RawTick::default(); rows.len() / row_size];
        bytemuck::cast_slice_mut::<RawTick, u8>(&mut ticks).copy_from_slice(rows);
        let block = RawBatch {
            source: header.source,
            first_sequence: first,
            frontier_before: header.frontier_before,
            definitions: header.definitions,
            rows: ticks,
            origin_nanos: monotonic_nanos(),
        };
        Ok(Entry { block, note: header.note })
    }
}

fn sequence_of(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(first: u64, rows: u64) -> RawBatch {
        let row = |sequence| RawTick { event_time: sequence, id: sequence, ..RawTick::default() };
        RawBatch {
            first_sequence: first,
            rows: (first..first + rows).map(row).collect(),
            ..RawBatch::default()
        }
    }

    async fn open(store: &Store) -> Journal<u64> {
        Journal::open(store, 0, 1 << 20, None).await.unwrap()
    }

    fn append(journal: &mut Journal<u64>, first: u64, rows: u64) -> Result<(), JournalError> {
        journal.append(&block(first, rows), first, Box::new(|result| result.unwrap()))
    }

    #[tokio::test]
    async fn blocks_come_back_by_any_of_their_rows() {
        let store = Store::in_memory();
        let mut journal = open(&store).await;
        assert!(journal.last().unwrap().is_none());
        for (first, rows) in [(1, 10), (11, 1), (12, 300)] {
            append(&mut journal, first, rows).unwrap();
        }
        for journal in [journal, open(&store).await] {
            for (sequence, first) in [(1, 1), (10, 1), (11, 11), (12, 12), (311, 12)] {
                let entry = journal.read(sequence).unwrap();
                assert_eq!((entry.block.first_sequence, entry.note), (first, first));
                assert_eq!(entry.block.rows, block(first, entry.block.rows.len() as u64).rows);
            }
            assert!(journal.read(312).is_err(), "nobody wrote it");
            assert_eq!(journal.last().unwrap().unwrap().note, 12);
        }
    }

    #[tokio::test]
    async fn a_block_without_rows_gives_its_place_to_the_next() {
        let store = Store::in_memory();
        let mut journal = open(&store).await;
        append(&mut journal, 1, 5).unwrap();
        append(&mut journal, 6, 0).unwrap();
        append(&mut journal, 6, 0).unwrap();
        append(&mut journal, 6, 5).unwrap();
        assert_eq!(journal.len(), 2);
        assert_eq!(journal.bytes(), open(&store).await.bytes());
        assert_eq!(open(&store).await.read(8).unwrap().block.rows.len(), 5);
    }

    #[tokio::test]
    async fn what_is_stable_is_trimmed_and_the_newest_record_stays() {
        let store = Store::in_memory();
        let mut journal = open(&store).await;
        for at in 0..100 {
            append(&mut journal, 1 + 10 * at, 10).unwrap();
        }
        journal.trim(100);
        assert_eq!(journal.len(), 100, "too few to be worth it");
        journal.trim(505);
        assert_eq!(store.keys("journal/0").unwrap().len(), 50);
        assert!(journal.read(500).unwrap_err().to_string().contains("trimmed"));
        assert_eq!(journal.read(505).unwrap().note, 501);
        journal.trim(u64::MAX);
        assert_eq!((journal.len(), journal.last().unwrap().unwrap().note), (1, 991));
        assert_eq!(journal.bytes(), open(&store).await.bytes());
    }

    #[tokio::test]
    async fn a_full_journal_writes_nothing_and_says_what_to_do() {
        let store = Store::in_memory();
        let mut journal: Journal<u64> = Journal::open(&store, 0, 3_000, None).await.unwrap();
        append(&mut journal, 1, 20).unwrap();
        let error = append(&mut journal, 21, 20).unwrap_err().to_string();
        assert!(error.contains("raise journal.size_max_bytes"), "{error}");
        assert_eq!(store.keys("journal/0").unwrap().len(), 1);
    }

    #[tokio::test]
    async fn damage_and_holes_are_errors_that_name_the_record() {
        let store = Store::in_memory();
        let mut journal = open(&store).await;
        append(&mut journal, 1, 10).unwrap();
        append(&mut journal, 11, 10).unwrap();
        append(&mut journal, 21, 10).unwrap();
        let key = 11u64.to_be_bytes();
        let sound = store.get("journal/0", &key).unwrap().unwrap();
        for at in (0..sound.len()).step_by(37) {
            let mut damaged = sound.clone();
            damaged[at] ^= 1;
            store.put_and_wait("journal/0", key.to_vec(), damaged).unwrap();
            let error = journal.read(15).unwrap_err().to_string();
            assert!(error.contains("record 000000000000000b of `journal/0`"), "{error}");
        }
        store.remove("journal/0", vec![key.to_vec()]);
        let error = open(&store).await.read(5).unwrap_err().to_string();
        assert!(error.contains("ends before row 11, and row 21 follows"), "{error}");
    }
}
