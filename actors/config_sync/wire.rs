//! Messages between managers as bytes: compressed where that is worth it.
//!
//! One byte says how: 0, as it is; 1, an LZ4 frame. Then a record of [`crate::kit::wire`].

use std::io::{Read, Write};

use tickwright_core::config_sync::Message;

use crate::kit::wire;

/// Messages above this are compressed.
const PLAIN_MAX: usize = 512;

/// Largest message, as it was before it was compressed: a frame may claim anything.
const MESSAGE_MAX: u64 = 16 << 20;

const PLAIN: u8 = 0;
const FRAME: u8 = 1;

/// The bytes of `message`.
pub(super) fn encode(message: &Message) -> Vec<u8> {
    let record = wire::encode(message);
    if record.len() > PLAIN_MAX
        && let Some(frame) = compress(&record)
        && frame.len() < record.len()
    {
        return frame;
    }
    let mut bytes = Vec::with_capacity(1 + record.len());
    bytes.push(PLAIN);
    bytes.extend_from_slice(&record);
    bytes
}

fn compress(record: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = lz4_flex::frame::FrameEncoder::new(vec![FRAME]);
    encoder.write_all(record).ok()?;
    encoder.finish().ok()
}

/// The message that `bytes` are.
pub(super) fn decode(bytes: &[u8]) -> Result<Message, String> {
    let (how, rest) = bytes.split_first().ok_or("an empty message")?;
    match *how {
        PLAIN => wire::decode(rest).map_err(|error| error.to_string()),
        FRAME => {
            let mut record = Vec::new();
            let decoder = lz4_flex::frame::FrameDecoder::new(rest);
            let read = decoder.take(MESSAGE_MAX + 1).read_to_end(&mut record);
            read.map_err(|error| format!("a damaged frame: {error}"))?;
            if record.len() as u64 > MESSAGE_MAX {
                return Err(format!("a message of more than {MESSAGE_MAX} bytes"));
            }
            wire::decode(&record).map_err(|error| error.to_string())
        }
        other => Err(format!("a message of form {other}")),
    }
}

#[cfg(test)]
mod tests {
    use tickwright_core::config_sync::{Body, Digest, Header, Replica, VersionVector};
    use tickwright_core::domain::{Incarnation, Timestamp};

    use super::*;

    fn message(body: Body) -> Message {
        let replica = Replica { node: "a".into(), incarnation: Incarnation(1) };
        let header = Header {
            replica,
            is_fresh: false,
            seen: VersionVector::default(),
            forgotten: VersionVector::default(),
            wall: Timestamp::from_nanos(1),
        };
        Message { header, body }
    }

    #[test]
    fn what_is_small_goes_as_it_is_and_what_is_large_compressed() {
        let small = message(Body::Beat { root: Digest(7) });
        let large = message(Body::Shards(vec![Digest(0); 4_000]));
        for (message, how) in [(small, PLAIN), (large, FRAME)] {
            let bytes = encode(&message);
            assert_eq!(bytes[0], how);
            assert_eq!(decode(&bytes), Ok(message));
        }
        assert!(encode(&message(Body::Shards(vec![Digest(0); 4_000]))).len() < 1_000);
    }

    #[test]
    fn damage_and_bombs_are_refused() {
        assert!(decode(&[]).is_err());
        assert!(decode(&[9, 1, 2, 3]).is_err());
        assert!(decode(&[FRAME, 1, 2, 3]).is_err());
        let mut bytes = encode(&message(Body::Shards(vec![Digest(0); 4_000])));
        let half = bytes.len() / 2;
        bytes.truncate(half);
        assert!(decode(&bytes).is_err());
        let bomb = compress(&vec![0; usize::try_from(MESSAGE_MAX).unwrap() + 10]).unwrap();
        assert!(bomb.len() < 1 << 20);
        assert!(decode(&bomb).unwrap_err().contains("more than"));
    }
}
