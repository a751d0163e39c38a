//! The byte form of everything that gateways say to each other.
//!
//! ```text
//! version 1 | pass 16 | sequence 8 | header (bincode) | body, or a part of it
//! ```
//!
//! The pass tells who sends, see [`super::hello`]; the sequence counts the frames of one link. Damaged
//! bytes are a [`EnvelopeError`], counted and logged by the gateway, never a panic. Payloads are never
//! logged.

use bincode::config::Config;
use serde::{Deserialize, Serialize};
use tickwright_core::cluster::Part;

use super::hello::{Pass, VERSION};

/// Largest frame, header included. Longer messages travel in parts, so that none blocks a link for
/// long.
pub(super) const FRAME_MAX: usize = 1 << 20;

/// Most that a header may take.
const HEADER_MAX: usize = 8 << 10;

/// Longest part of a body in one frame.
pub(super) const PART_MAX: usize = FRAME_MAX - HEADER_MAX;

const FIXED: usize = 1 + 16 + 8;

/// What kinds of messages there are between roles, each with its version. A node whose list differs
/// is refused at the door, so a message that arrives can be read. Whoever adds a kind, or changes
/// what is in one, adds or raises its line here.
pub const SCHEMA: &[(&str, u16)] = &[
    ("envelope", 2),
    ("beat", 1),
    ("credit", 2),
    ("json", 1),
    ("ledger", 2),
    ("raft", 3),
    ("stream", 2),
    ("part", 1),
    ("reached", 1),
    ("copy", 1),
    ("report", 1),
    ("over", 1),
    ("hand_over", 2),
    ("hub", 1),
    ("sync", 1),
];

/// Whether messages of `kind` are listed.
pub(super) fn is_listed(kind: &str) -> bool {
    SCHEMA.iter().any(|(listed, _)| *listed == kind) || cfg!(test) && kind == "test"
}

/// A hash over [`SCHEMA`].
pub fn schema_hash() -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for (kind, version) in SCHEMA {
        hasher.update(kind.as_bytes());
        hasher.update(&[0]);
        hasher.update(&version.to_le_bytes());
    }
    *hasher.finalize().as_bytes()
}

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Purpose {
    /// For a role; no answer is awaited.
    Tell,
    /// For a role; an answer is awaited.
    Ask,
    /// The answer.
    Reply,
    /// Why there is none; the body is text.
    Failure,
    /// A sign of life.
    Beat,
    /// Bytes that have been worked off.
    Credit,
}

/// Everything about a message but its body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) purpose: Purpose,
    /// Which message, of all that its sender sends; of an answer, which question.
    pub(super) message: u64,
    /// Where in the body this part begins.
    pub(super) offset: u64,
    /// Bytes of the whole body.
    pub(super) length: u64,
    /// The epoch of the sender's work.
    pub(super) epoch: u64,
    /// How long the sender awaits an answer.
    pub(super) patience_ms: u64,
    /// For whom.
    pub(super) role: String,
    /// What it is, so that it can be decoded.
    pub(super) kind: String,
    /// Whether it has credit of its own, apart from bulk.
    pub(super) is_urgent: bool,
}

impl Header {
    pub(super) fn new(purpose: Purpose, message: u64) -> Self {
        Self {
            purpose,
            message,
            offset: 0,
            length: 0,
            epoch: 0,
            patience_ms: 0,
            role: String::new(),
            kind: String::new(),
            is_urgent: false,
        }
    }

    pub(super) fn part(&self) -> Part {
        Part { message: self.message, offset: self.offset, length: self.length }
    }
}

/// Why bytes are no frame.
#[derive(Debug, thiserror::Error)]
pub(super) enum EnvelopeError {
    #[error("{length} bytes are too few, or too many, for a frame")]
    Size { length: usize },
    #[error("frame version {found}, expected {VERSION}")]
    Version { found: u8 },
    #[error("the header is malformed")]
    Header,
}

/// A frame with room for its sequence, which is known only when it is its turn.
pub(super) fn encode(pass: Pass, header: &Header, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(FIXED + 64 + header.role.len() + body.len());
    frame.push(VERSION);
    frame.extend_from_slice(&pass.to_le_bytes());
    frame.extend_from_slice(&[0; 8]);
    bincode::serde::encode_into_std_write(header, &mut frame, format())
        .expect("derived `Serialize`s write to memory without error");
    frame.extend_from_slice(body);
    frame
}

pub(super) fn set_sequence(frame: &mut [u8], sequence: u64) {
    frame[17..FIXED].copy_from_slice(&sequence.to_le_bytes());
}

/// A frame that came.
#[derive(Debug)]
pub(super) struct Frame<'f> {
    pub(super) pass: Pass,
    pub(super) sequence: u64,
    pub(super) header: Header,
    pub(super) body: &'f [u8],
}

pub(super) fn decode(frame: &[u8]) -> Result<Frame<'_>, EnvelopeError> {
    if frame.len() < FIXED || frame.len() > FRAME_MAX {
        return Err(EnvelopeError::Size { length: frame.len() });
    }
    if frame[0] != VERSION {
        return Err(EnvelopeError::Version { found: frame[0] });
    }
    let mut pass = [0; 16];
    pass.copy_from_slice(&frame[1..17]);
    let mut sequence = [0; 8];
    sequence.copy_from_slice(&frame[17..FIXED]);
    let rest = &frame[FIXED..];
    let (header, read) = bincode::serde::decode_from_slice::<Header, _>(rest, format())
        .map_err(|_| EnvelopeError::Header)?;
    Ok(Frame {
        pass: u128::from_le_bytes(pass),
        sequence: u64::from_le_bytes(sequence),
        header,
        body: &rest[read..],
    })
}

/// The one configuration, so that no reader forgets the limit.
fn format() -> impl Config {
    bincode::config::standard().with_limit::<HEADER_MAX>()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> Header {
        Header { role: "risk/3".into(), kind: "json".into(), ..Header::new(Purpose::Ask, 300) }
    }

    /// The bytes on the wire are a contract with nodes that run last month's build.
    #[test]
    fn golden_bytes_of_a_frame() {
        let mut frame = encode(2, &header(), b"{}");
        set_sequence(&mut frame, 1);
        let mut expected = vec![1, 2];
        expected.extend([0; 15]);
        expected.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend([1, 251, 44, 1, 0, 0, 0, 0, 6]);
        expected.extend(b"risk/3\x04json\x00{}");
        assert_eq!(frame, expected);
        let read = decode(&frame).unwrap();
        assert_eq!((read.pass, read.sequence, read.body), (2, 1, &b"{}"[..]));
        assert_eq!(read.header, header());
    }

    /// Without the limit this does not fail but aborts: there is no memory to set aside.
    #[test]
    fn a_short_frame_that_claims_a_huge_role_is_refused() {
        let mut frame = encode(2, &Header::new(Purpose::Tell, 0), b"");
        let at = frame.len() - 3;
        frame.truncate(at);
        frame.push(253);
        frame.extend((1u64 << 60).to_le_bytes());
        assert!(matches!(decode(&frame), Err(EnvelopeError::Header)));
        assert!(matches!(decode(&[]), Err(EnvelopeError::Size { length: 0 })));
        frame[0] = 9;
        assert!(matches!(decode(&frame), Err(EnvelopeError::Version { found: 9 })));
        assert!(matches!(decode(&vec![1; FRAME_MAX + 1]), Err(EnvelopeError::Size { .. })));
    }

    #[test]
    fn the_largest_part_with_the_longest_names_fits_a_frame() {
        let header = Header { role: "r".repeat(512), kind: "k".repeat(512), ..header() };
        assert!(encode(2, &header, &vec![0; PART_MAX]).len() <= FRAME_MAX);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_frame_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut frame = vec![VERSION];
            frame.extend(bytes);
            let _ = decode(&frame);
        }
    }
}
