//! Names to numbers, fast and the same in every run.

use std::sync::Arc;

use super::Problem;
use crate::domain::{Instrument, Instruments, Symbol, SymbolId};

/// What a parser needs to know of a symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SymbolEntry {
    /// The number in this source.
    pub id: SymbolId,
    /// Decimals of its prices.
    pub price_decimals: u8,
    /// Decimals of its quantities.
    pub quantity_decimals: u8,
}

/// A symbol of the table.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) id: SymbolId,
    pub(super) instrument: Arc<Instrument>,
    hash: u64,
}

/// Symbols in order of first appearance, found by an open-addressed table over their text.
#[derive(Debug)]
pub struct SymbolTable {
    instruments: Arc<Instruments>,
    /// At most `count_max`.
    entries: Vec<Entry>,
    /// Positions in `entries` plus one; 0 is free. A power of two, at most half full.
    slots: Vec<u32>,
    count_max: usize,
}

impl SymbolTable {
    /// An empty table that resolves names by `instruments` and holds at most `count_max`.
    pub fn new(instruments: Arc<Instruments>, count_max: usize) -> Self {
        let count_max = count_max.min(1 << 30);
        Self { instruments, entries: Vec::new(), slots: vec![0; 64], count_max }
    }

    /// Symbols held.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn entry(&self, symbol: SymbolId) -> Option<SymbolEntry> {
        self.entries.get(symbol.index()).map(Entry::summary)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Fills an empty table with `symbols`, in their order.
    pub(super) fn restore(&mut self, symbols: &[Symbol]) {
        debug_assert!(self.entries.is_empty(), "only a new table is restored");
        for symbol in symbols {
            self.insert(symbol.clone(), hash(symbol.as_str().as_bytes()));
        }
    }

    #[inline]
    pub(super) fn intern(&mut self, name: &[u8]) -> Result<SymbolEntry, Problem> {
        let hash = hash(name);
        let mask = self.slots.len() - 1;
        let mut at = slot(hash, mask);
        loop {
            match self.slots[at] {
                0 => return self.intern_new(name, hash),
                position => {
                    let entry = &self.entries[position as usize - 1];
                    if entry.hash == hash && entry.instrument.symbol.as_str().as_bytes() == name {
                        return Ok(entry.summary());
                    }
                }
            }
            at = (at + 1) & mask;
        }
    }

    #[cold]
    fn intern_new(&mut self, name: &[u8], hash: u64) -> Result<SymbolEntry, Problem> {
        let symbol = match std::str::from_utf8(name) {
            Ok(text) => Symbol::new(text)?,
            Err(error) => {
                let byte = name[error.valid_up_to()];
                return Err(Problem::Symbol { reason: format!("holds byte 0x{byte:02x}") });
            }
        };
        if self.entries.len() >= self.count_max {
            return Err(Problem::SymbolCount { count: self.entries.len() as u64 + 1 });
        }
        Ok(self.insert(symbol, hash))
    }

    fn insert(&mut self, symbol: Symbol, hash: u64) -> SymbolEntry {
        if (self.entries.len() + 1) * 2 > self.slots.len() {
            self.slots = vec![0; self.slots.len() * 2];
            for position in 0..self.entries.len() {
                self.claim_slot(position);
            }
        }
        let position = self.entries.len();
        let id = SymbolId(u32::try_from(position).expect("symbols are bounded far below 2^32"));
        let instrument = Arc::new(self.instruments.resolve(&symbol));
        self.entries.push(Entry { id, instrument, hash });
        self.claim_slot(position);
        self.entries[position].summary()
    }

    fn claim_slot(&mut self, position: usize) {
        let mask = self.slots.len() - 1;
        let mut at = slot(self.entries[position].hash, mask);
        while self.slots[at] != 0 {
            at = (at + 1) & mask;
        }
        self.slots[at] = u32::try_from(position + 1).expect("symbols are bounded far below 2^32");
    }
}

impl Entry {
    #[inline]
    fn summary(&self) -> SymbolEntry {
        SymbolEntry {
            id: self.id,
            price_decimals: self.instrument.price_decimals,
            quantity_decimals: self.instrument.quantity_decimals,
        }
    }
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the upper bits are folded in first")]
const fn slot(hash: u64, mask: usize) -> usize {
    (hash ^ (hash >> 32)) as usize & mask
}

/// FNV-1a over words of eight bytes, the last one padded. The length goes in first: otherwise a name
/// and the same name with a zero byte would be one.
#[inline]
fn hash(name: &[u8]) -> u64 {
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325 ^ name.len() as u64;
    let (words, rest) = name.as_chunks::<8>();
    for word in words {
        hash = (hash ^ u64::from_le_bytes(*word)).wrapping_mul(PRIME);
        hash ^= hash >> 29;
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    hash = (hash ^ u64::from_le_bytes(last)).wrapping_mul(PRIME);
    hash ^ (hash >> 29)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_first_appearance_and_survive_growth() {
        let mut table = SymbolTable::new(Arc::new(Instruments::default()), 10_000);
        let name = |n: u32| format!("S{n}.US");
        for n in 0..5_000 {
            assert_eq!(table.intern(name(n).as_bytes()).unwrap().id, SymbolId(n));
        }
        for n in (0..5_000).rev() {
            assert_eq!(table.intern(name(n).as_bytes()).unwrap().id, SymbolId(n));
        }
    }

    #[test]
    fn one_symbol_too_many_is_refused_and_the_known_ones_stay() {
        let mut table = SymbolTable::new(Arc::new(Instruments::default()), 1);
        assert!(table.intern(b"A.US").is_ok());
        assert_eq!(table.intern(b"B.US"), Err(Problem::SymbolCount { count: 2 }));
        assert!(table.intern(b"A.US").is_ok());
    }

    #[test]
    fn what_is_no_symbol_is_refused() {
        let mut table = SymbolTable::new(Arc::new(Instruments::default()), 10);
        assert!(matches!(table.intern(b""), Err(Problem::Symbol { .. })));
        assert!(matches!(table.intern(&[b'A'; 10_000]), Err(Problem::Symbol { .. })));
        assert!(matches!(table.intern(b"A\xff"), Err(Problem::Symbol { .. })));
        assert!(table.is_empty());
    }
}
