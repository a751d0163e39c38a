//! The byte form of what is kept on disk.
//!
//! # Format
//!
//! One version byte ([`VERSION`]), the first eight bytes of the payload's BLAKE3 hash, then the payload:
//! [bincode](https://github.com/bincode-org/bincode) 2.0.1's standard configuration. It is positional
//! and says nothing about itself: a field added, removed or moved takes a new version.
//!
//! Damaged bytes are a [`WireError`], never a panic: a length is checked against [`SIZE_MAX`] before
//! memory is set aside for it.

use bincode::config::Config;
use bincode::error::DecodeError;
use serde::{Serialize, de::DeserializeOwned};

/// First byte of every record.
pub const VERSION: u8 = 9;

/// Most a value may take to read.
pub const SIZE_MAX: usize = 256 << 20;

const CHECKSUM_LEN: usize = 8;

/// Why bytes from disk are not a value.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// Too few bytes to be a record at all.
    #[error("{length} bytes are too few for a record")]
    Short {
        /// Bytes found.
        length: usize,
    },
    /// Written by another version of the program.
    #[error("record version {found}, this program reads {VERSION}")]
    Version {
        /// The version byte found.
        found: u8,
    },
    /// The bytes are not those that were written.
    #[error("checksum does not match")]
    Checksum,
    /// The version fits but the bytes do not.
    #[error("malformed record")]
    Malformed(#[from] DecodeError),
    /// A value was read and bytes were left over.
    #[error("{count} bytes after the end of the value")]
    Trailing {
        /// How many.
        count: usize,
    },
}

/// Writes `value` as a record.
///
/// # Panics
///
/// When `T`'s `Serialize` fails; the derived ones do not.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let payload = bincode::serde::encode_to_vec(value, format())
        .expect("derived `Serialize`s write to memory without error");
    seal(&payload)
}

/// Reads back what [`encode`] wrote, and nothing else.
///
/// # Errors
///
/// [`WireError`] when the bytes are too few, of another version, damaged, or too many.
pub fn decode<T: DeserializeOwned>(record: &[u8]) -> Result<T, WireError> {
    let payload = open(record)?;
    let (value, read) = bincode::serde::decode_from_slice(payload, format())?;
    let count = payload.len() - read;
    if count == 0 { Ok(value) } else { Err(WireError::Trailing { count }) }
}

/// `payload` with its version and checksum before it.
pub fn seal(payload: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(1 + CHECKSUM_LEN + payload.len());
    record.push(VERSION);
    record.extend_from_slice(&checksum(payload));
    record.extend_from_slice(payload);
    record
}

/// The payload of a record that [`seal`] made.
///
/// # Errors
///
/// [`WireError`] when the bytes are too few, of another version, or damaged.
pub fn open(record: &[u8]) -> Result<&[u8], WireError> {
    if record.len() < 1 + CHECKSUM_LEN {
        return Err(WireError::Short { length: record.len() });
    }
    if record[0] != VERSION {
        return Err(WireError::Version { found: record[0] });
    }
    let payload = &record[1 + CHECKSUM_LEN..];
    if checksum(payload) != record[1..1 + CHECKSUM_LEN] {
        return Err(WireError::Checksum);
    }
    Ok(payload)
}

fn checksum(payload: &[u8]) -> [u8; CHECKSUM_LEN] {
    let mut first = [0; CHECKSUM_LEN];
    first.copy_from_slice(&blake3::hash(payload).as_bytes()[..CHECKSUM_LEN]);
    first
}

/// The one configuration, so that no reader forgets the limit.
fn format() -> impl Config {
    bincode::config::standard().with_limit::<SIZE_MAX>()
}

#[cfg(test)]
mod tests {
    use tickwright_core::domain::Key;

    use super::*;

    #[test]
    fn a_record_comes_back_and_any_changed_byte_is_noticed() {
        let key = Key::of(7, 1, 9);
        let record = encode(&key);
        assert_eq!(decode::<Key>(&record).unwrap(), key);
        for at in 0..record.len() {
            let mut damaged = record.clone();
            damaged[at] ^= 0x40;
            assert!(decode::<Key>(&damaged).is_err(), "byte {at}");
        }
        assert!(matches!(decode::<Key>(&record[..5]), Err(WireError::Short { length: 5 })));
    }

    #[test]
    fn a_record_of_another_version_is_named() {
        let mut record = encode(&7u32);
        record[0] = VERSION + 1;
        let refused = decode::<u32>(&record);
        assert!(matches!(refused, Err(WireError::Version { found }) if found == VERSION + 1));
    }

    /// Without the limit this does not fail but aborts: there is no memory to set aside.
    #[test]
    fn a_short_record_that_claims_a_huge_length_is_refused() {
        let mut payload = vec![253]; // the length follows, in eight bytes
        payload.extend((1u64 << 60).to_le_bytes());
        let refused = decode::<String>(&seal(&payload));
        assert!(matches!(refused, Err(WireError::Malformed(_))));
    }
}
