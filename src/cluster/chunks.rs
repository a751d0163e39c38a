//! Large messages in parts, so that none blocks a link for long and none tears it down.
//!
//! # Invariants
//!
//! 1. What is put together is what was taken apart, or nothing.
//! 2. Parts that wait for others never hold more than the limit together, whatever a peer sends.
//! 3. A message that is given up by whoever sends it does not stand in the way of others: where there is no room, the
//!    one of which nothing came for longest is forgotten.

use std::collections::BTreeMap;

/// Messages that may be incomplete at once, per link.
const MESSAGES_MAX: usize = 64;

/// Where a part belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Which message, of those on one link.
    pub message: u64,
    /// Where in the message the part begins, in bytes.
    pub offset: u64,
    /// Bytes of the whole message.
    pub length: u64,
}

/// Why a part is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// The whole would be larger than is allowed.
    #[error("a message of {length} bytes is larger than the {limit} that are taken")]
    TooLarge {
        /// Bytes of the message.
        length: u64,
        /// Bytes that are taken.
        limit: u64,
    },
    /// A part does not follow the one before.
    #[error("a part begins at byte {found}, expected {expected}")]
    Gap {
        /// Where it begins.
        found: u64,
        /// Where it should.
        expected: u64,
    },
}

/// The ranges in which a message of `length` bytes is sent, none longer than `part_max`. An empty
/// message is one empty part.
pub fn parts(length: usize, part_max: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let part_max = part_max.max(1);
    (0..length.div_ceil(part_max).max(1))
        .map(move |part| part * part_max..((part + 1) * part_max).min(length))
}

/// Messages of one link that are not complete yet.
#[derive(Debug)]
pub struct Assembly {
    /// Bytes of one message, and of all incomplete ones together, at most.
    limit: u64,
    incomplete: BTreeMap<u64, Incomplete>,
    /// Parts so far.
    count: u64,
}

#[derive(Debug)]
struct Incomplete {
    bytes: Vec<u8>,
    length: u64,
    /// Which part came last.
    touched: u64,
}

impl Assembly {
    /// Takes messages of up to `limit` bytes.
    pub fn new(limit: u64) -> Self {
        Self { limit, incomplete: BTreeMap::new(), count: 0 }
    }

    /// A part came. Returns the message once it is whole.
    ///
    /// # Errors
    ///
    /// [`ChunkError`]; the message it belongs to is forgotten.
    pub fn on_part(&mut self, part: Part, bytes: &[u8]) -> Result<Option<Vec<u8>>, ChunkError> {
        let Part { message, offset, length } = part;
        let arrived = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if length > self.limit || arrived > length {
            self.incomplete.remove(&message);
            return Err(ChunkError::TooLarge { length: length.max(arrived), limit: self.limit });
        }
        if offset == 0 && arrived == length {
            return Ok(Some(bytes.to_vec()));
        }
        let known = self.incomplete.remove(&message);
        let mut incomplete = known.unwrap_or(Incomplete { bytes: Vec::new(), length, touched: 0 });
        let expected = u64::try_from(incomplete.bytes.len()).unwrap_or(u64::MAX);
        if offset != expected || incomplete.length != length || expected + arrived > length {
            return Err(ChunkError::Gap { found: offset, expected });
        }
        self.count += 1;
        incomplete.touched = self.count;
        self.make_room(expected + arrived);
        incomplete.bytes.extend_from_slice(bytes);
        if expected + arrived == length {
            return Ok(Some(incomplete.bytes));
        }
        self.incomplete.insert(message, incomplete);
        Ok(None)
    }

    /// Forgets what has stood still for longest, until so many bytes more may wait.
    fn make_room(&mut self, bytes: u64) {
        while self.incomplete.len() >= MESSAGES_MAX || self.held() + bytes > self.limit {
            let oldest = self.incomplete.iter().min_by_key(|(_, incomplete)| incomplete.touched);
            let Some((&message, _)) = oldest else { return };
            self.incomplete.remove(&message);
        }
    }

    /// Bytes that wait for others.
    pub fn held(&self) -> u64 {
        self.incomplete.values().map(|incomplete| incomplete.bytes.len() as u64).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part(message: u64, offset: u64, length: u64) -> Part {
        Part { message, offset, length }
    }

    #[test]
    fn parts_cover_a_message_once() {
        assert_eq!(parts(10, 4).collect::<Vec<_>>(), [0..4, 4..8, 8..10]);
        assert_eq!(parts(8, 4).collect::<Vec<_>>(), [0..4, 4..8]);
        assert!(parts(0, 4).eq(std::iter::once(0..0)));
    }

    #[test]
    fn a_lost_or_repeated_part_loses_the_message_and_nothing_else() {
        let mut assembly = Assembly::new(100);
        assert_eq!(assembly.on_part(part(1, 0, 6), b"abc"), Ok(None));
        assert_eq!(assembly.on_part(part(2, 0, 4), b"ab"), Ok(None));
        let gap = Err(ChunkError::Gap { found: 0, expected: 3 });
        assert_eq!(assembly.on_part(part(1, 0, 6), b"abc"), gap);
        assert_eq!(assembly.on_part(part(2, 2, 4), b"cd"), Ok(Some(b"abcd".to_vec())));
        assert_eq!(assembly.held(), 0);
    }

    #[test]
    fn claims_beyond_the_limit_are_refused_before_anything_is_kept() {
        let mut assembly = Assembly::new(100);
        let refused = assembly.on_part(part(1, 0, 101), b"a");
        assert_eq!(refused, Err(ChunkError::TooLarge { length: 101, limit: 100 }));
        assert_eq!(assembly.on_part(part(1, 0, 100), &[0; 60]), Ok(None));
        assert_eq!(assembly.held(), 60);
    }

    /// As an answer that nobody waits for any more, or one whose sender ran out of time between two parts.
    #[test]
    fn messages_that_were_given_up_make_room_for_others() {
        let mut assembly = Assembly::new(100);
        for message in 0..1_000 {
            assert_eq!(assembly.on_part(part(message, 0, 4), b"ab"), Ok(None));
            assert!(assembly.held() <= 100);
        }
        assert_eq!(assembly.on_part(part(1_000, 0, 100), &[7; 60]), Ok(None));
        // What goes on stays, and what stands still goes.
        assert_eq!(assembly.on_part(part(999, 2, 4), b"cd"), Ok(Some(b"abcd".to_vec())));
        for message in 1_001..1_020 {
            assert_eq!(assembly.on_part(part(message, 0, 4), b"ab"), Ok(None));
        }
        assert_eq!(assembly.on_part(part(1_000, 60, 100), &[7; 40]), Ok(Some(vec![7; 100])));
        let gone = assembly.on_part(part(990, 2, 4), b"cd");
        assert_eq!(gone, Err(ChunkError::Gap { found: 2, expected: 0 }));
    }

    proptest! {
        #[test]
        fn interleaved_messages_come_out_as_they_went_in(
            sizes in proptest::collection::vec(0usize..200, 1..8),
            part_max in 1usize..50,
            picks in proptest::collection::vec(any::<usize>(), 1..2_000),
        ) {
            let body = |message: usize, length: usize| -> Vec<u8> {
                (0..length).map(|at| u8::try_from((at * 7 + message) % 251).unwrap()).collect()
            };
            let mut assembly = Assembly::new(1_000_000);
            let mut left: Vec<_> = sizes
                .iter()
                .map(|&length| parts(length, part_max).collect::<std::collections::VecDeque<_>>())
                .collect();
            let mut whole = 0;
            for pick in picks.into_iter().chain(std::iter::repeat(0)) {
                let open: Vec<usize> = (0..left.len()).filter(|&m| !left[m].is_empty()).collect();
                let Some(&message) = open.get(pick % open.len().max(1)) else { break };
                let range = left[message].pop_front().unwrap();
                let bytes = body(message, sizes[message]);
                let at = part(message as u64, range.start as u64, sizes[message] as u64);
                if let Some(done) = assembly.on_part(at, &bytes[range]).unwrap() {
                    prop_assert_eq!(done, bytes);
                    whole += 1;
                }
            }
            prop_assert_eq!(whole, sizes.len());
            prop_assert_eq!(assembly.held(), 0);
        }
    }
}
