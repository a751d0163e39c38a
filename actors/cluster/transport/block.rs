//! The byte form of a stream's messages.
//!
//! ```text
//! length of the head 4 | head (bincode) | rows as they lie in memory, little endian
//! ```
//!
//! Nodes of one cluster have the same schema, see [`SCHEMA`](crate::cluster::SCHEMA); damaged bytes are
//! an error, never a panic, and no length is believed before the bytes are there.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tickwright_core::cluster::Unit;
use tickwright_core::domain::{
    Definition, Key, Kind, Signal, SourceId, Tick, TickBatch, Timestamp,
};
use tickwright_core::stream::{Block, Frame, SignalBatch};

const _: () = assert!(cfg!(target_endian = "little"), "rows cross nodes as they lie in memory");

/// Most that a head may take, in bytes: a block of signals, or the definitions of many symbols.
const HEAD_MAX: usize = 64 << 20;

/// Symbols that a source may have: a number beyond it is damage, and would cost its size in memory.
const SYMBOLS_MAX: usize = 1 << 24;

/// What one end of a stream says to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Speech {
    /// Producer: I have started anew.
    Hello,
    /// Consumer: send me what follows.
    Subscribe { session: u64, after: Key, credit: u32 },
    /// Consumer: as many more rows may be sent.
    Credit { session: u64, rows: u32 },
    /// Consumer: nothing up to here will be asked for again.
    Stable(Key),
    /// Producer: rows, or how far there are none. Frames of a session are numbered from 0.
    Frame { session: u64, number: u64, complete: Key, more: bool },
}

/// A message of a stream, but for its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// The producing unit.
    pub(super) from: Unit,
    /// The consuming one.
    pub(super) to: Unit,
    /// The epoch of the unit that speaks.
    pub(super) epoch: u64,
    pub(super) speech: Speech,
}

/// A block that can cross nodes.
pub trait WireBlock: Block + Default + Send + Sync + 'static {
    /// Whether the block holds nothing at all, not even a definition.
    fn is_blank(&self) -> bool;

    /// Appends the block to `bytes`.
    fn write(&self, bytes: &mut Vec<u8>);

    /// Reads a block that takes all of `bytes`.
    ///
    /// # Errors
    ///
    /// What is wrong with them.
    fn read(bytes: &[u8]) -> Result<Self, String>;
}

#[derive(Serialize, Deserialize)]
struct TicksHead {
    source: SourceId,
    base_sequence: u64,
    base_frontier: Timestamp,
    origin_nanos: u64,
    definitions: Vec<Definition>,
}

impl WireBlock for TickBatch {
    fn is_blank(&self) -> bool {
        self.rows.is_empty() && self.definitions.is_empty()
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        let head = TicksHead {
            source: self.source,
            base_sequence: self.base_sequence,
            base_frontier: self.base_frontier,
            origin_nanos: self.origin_nanos,
            definitions: self.definitions.clone(),
        };
        write_head(&head, bytes);
        bytes.extend_from_slice(bytemuck::cast_slice(&self.rows));
    }

    fn read(bytes: &[u8]) -> Result<Self, String> {
        let (head, rest) = read_head::<TicksHead>(bytes)?;
        if !rest.len().is_multiple_of(size_of::<Tick>()) {
            return Err(format!("{} bytes are no whole number of rows", rest.len()));
        }
        let rows = rest.chunks_exact(size_of::<Tick>()).map(bytemuck::pod_read_unaligned);
        let rows: Vec<Tick> = rows.collect();
        if rows.iter().any(|row| Kind::from_byte(row.kind).is_none()) {
            return Err("a row is of no known kind".into());
        }
        let place = |row: &Tick| (row.frontier_offset(), row.sequence);
        if !rows.is_sorted_by(|a, b| place(a) < place(b)) {
            return Err("the rows are not in order".into());
        }
        let last = rows.last().copied().unwrap_or_default();
        let is_too_far = head.base_sequence.checked_add(u64::from(last.sequence)).is_none()
            || head.base_frontier.as_nanos().checked_add(last.frontier_offset()).is_none();
        if is_too_far {
            return Err("a row is beyond every key".into());
        }
        if head.definitions.iter().any(|definition| definition.id.index() >= SYMBOLS_MAX) {
            return Err(format!("a symbol has a number above {SYMBOLS_MAX}"));
        }
        let TicksHead { source, base_sequence, base_frontier, origin_nanos, definitions } = head;
        Ok(Self { source, base_sequence, base_frontier, definitions, rows, origin_nanos })
    }
}

impl WireBlock for SignalBatch {
    fn is_blank(&self) -> bool {
        self.signals.is_empty() && self.known == 0
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        write_head(&(&self.signals, self.known), bytes);
    }

    fn read(bytes: &[u8]) -> Result<Self, String> {
        let ((signals, known), rest) = read_head::<(Vec<Signal>, u64)>(bytes)?;
        if rest.is_empty() {
            Ok(Self { signals, known })
        } else {
            Err("bytes are left over".into())
        }
    }
}

/// A message without rows.
pub(super) fn encode(head: &Head) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    write_head(head, &mut bytes);
    bytes
}

/// A frame.
pub(super) fn encode_frame<B: WireBlock>(head: &Head, frame: &Frame<B>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(128 + frame.block.len() * size_of::<Tick>());
    write_head(head, &mut bytes);
    // Most of what an idle stream says is that nothing came.
    if !frame.block.is_blank() {
        frame.block.write(&mut bytes);
    }
    bytes
}

/// The block of a frame: what follows its head.
pub(super) fn decode_block<B: WireBlock>(bytes: &[u8]) -> Result<Arc<B>, String> {
    if bytes.is_empty() { Ok(Arc::default()) } else { B::read(bytes).map(Arc::new) }
}

/// A message's head, and what follows it.
pub(super) fn decode(bytes: &[u8]) -> Result<(Head, &[u8]), String> {
    read_head(bytes)
}

fn write_head<T: Serialize>(head: &T, bytes: &mut Vec<u8>) {
    let at = bytes.len();
    bytes.extend_from_slice(&[0; 4]);
    bincode::serde::encode_into_std_write(head, bytes, bincode::config::standard())
        .expect("derived `Serialize`s write to memory without error");
    let length = u32::try_from(bytes.len() - at - 4).expect("a block has a bound");
    bytes[at..at + 4].copy_from_slice(&length.to_le_bytes());
}

fn read_head<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, &[u8]), String> {
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or("no head")?;
    let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    if length > rest.len() {
        return Err(format!("a head of {length} bytes in {}", rest.len()));
    }
    let (head, rest) = rest.split_at(length);
    let config = bincode::config::standard().with_limit::<HEAD_MAX>();
    let (value, read) =
        bincode::serde::decode_from_slice(head, config).map_err(|error| error.to_string())?;
    if read == length { Ok((value, rest)) } else { Err("a head is too long".into()) }
}
