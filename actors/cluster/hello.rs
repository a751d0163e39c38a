//! How two nodes introduce themselves, before `ractor_cluster` sees the connection.
//!
//! ```text
//! dialler                              acceptor
//!    │── Hello {who, of what, nonce} ─────▶│   version, cluster, schema, configuration, name
//!    │◀── Welcome {who, nonce, proof} ─────│   or Refused {why}
//!    │── Go {proof} ──────────────────────▶│
//! ```
//!
//! The proofs show that both hold the cluster's secret, without showing it. Each side draws a *pass*
//! for the other: a number that every later message of this connection carries. It is known to these
//! two only, so it tells who sent a message, whatever the message says; and once the connection is
//! fenced the pass is void, so that nothing can arrive late.
//!
//! A frame is `TWRK`, a version byte, a length in four bytes, and that many bytes. Magic and version
//! never change, so that any two versions can tell each other why they do not talk.

use std::io;

use bincode::config::Config;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tickwright_core::cluster::Peer;
use tickwright_core::domain::{Incarnation, NodeAddress, NodeId};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The version of everything that nodes say to each other.
pub(super) const VERSION: u8 = 1;

const MAGIC: [u8; 4] = *b"TWRK";

/// Largest introduction, in bytes.
const SIZE_MAX: usize = 16 << 10;

/// Who sends a message, as only these two know.
pub(super) type Pass = u128;

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Introduction {
    /// The cluster it belongs to.
    pub cluster: String,
    /// What it is called.
    pub id: NodeId,
    /// Which life of it.
    pub incarnation: Incarnation,
    /// Where others reach it.
    pub address: NodeAddress,
    /// The version of the program.
    pub program: String,
    /// A hash over all that it can say to others.
    pub schema: [u8; 32],
    /// A hash over the configuration, as far as it changes answers.
    pub config: [u8; 32],
    /// Its gateway's number among its actors.
    pub gateway: u64,
}

impl Introduction {
    /// Which life of which node.
    pub fn peer(&self) -> Peer {
        Peer { id: self.id.clone(), incarnation: self.incarnation }
    }

    /// Why `other` and this node cannot work together, if they cannot.
    pub fn refusal_of(&self, other: &Self) -> Option<Refusal> {
        if self.cluster != other.cluster {
            return Some(Refusal::Cluster { expected: self.cluster.clone() });
        }
        if self.schema != other.schema {
            return Some(Refusal::Schema { program: self.program.clone() });
        }
        if self.config != other.config {
            return Some(Refusal::Config);
        }
        None
    }
}

/// The dialler's first word.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) introduction: Introduction,
    pub(super) nonce: [u8; 32],
}

/// The acceptor's answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum HelloAnswer {
    Welcome(Box<Welcome>),
    Refused(Refusal),
}

/// Come in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Welcome {
    pub(super) introduction: Introduction,
    pub(super) nonce: [u8; 32],
    pub(super) proof: [u8; 32],
    /// What the dialler's messages are to carry.
    pub(super) pass: Pass,
}

/// The dialler's last word.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Go {
    pub(super) proof: [u8; 32],
    /// What the acceptor's messages are to carry.
    pub(super) pass: Pass,
}

/// Why a node is not let in. Variants are added at the end and never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// It was reached by itself.
    #[error("it is this node itself")]
    IsOneself,
    /// Its name belongs to a node that is alive.
    #[error(
        "the name {id} belongs to a node that is running at {address}; give this one another name \
         (--name, or node.name), or stop that one"
    )]
    NameInUse {
        /// The name.
        id: NodeId,
        /// Where the other one is.
        address: NodeAddress,
    },
    /// A later life of it has been seen.
    #[error("a later start of this node ({known}) has been seen")]
    Stale {
        /// That life.
        known: Incarnation,
    },
    /// It belongs to another cluster.
    #[error("the node there belongs to cluster {expected}; correct cluster.name or cluster.seeds")]
    Cluster {
        /// The cluster of the one that refuses.
        expected: String,
    },
    /// It speaks another version.
    #[error(
        "the node there runs version {program}, which has other messages than this one \
         ({}); run the same version everywhere", env!("CARGO_PKG_VERSION")
    )]
    Schema {
        /// The version of the one that refuses.
        program: String,
    },
    /// Its configuration would give other answers.
    #[error(
        "the node there has a configuration that gives other answers; use the same file everywhere \
         (keys marked _operational_ may differ)"
    )]
    Config,
    /// It does not hold the secret.
    #[error("the secrets differ; give every node the same cluster.cookie_file")]
    Cookie,
    /// Its certificate is not one of a node, or not of the node it says it is.
    #[error(
        "this node's certificate is not for the name {claimed}; `tickwright certs node {claimed}` \
         makes one"
    )]
    Certificate {
        /// What it calls itself.
        claimed: NodeId,
    },
    /// The one that refuses is about to leave.
    #[error("the node there is leaving the cluster")]
    Leaving,
}

impl Refusal {
    /// Whether trying again is of no use.
    pub fn is_final(&self) -> bool {
        match self {
            Self::NameInUse { .. }
            | Self::Cluster { .. }
            | Self::Schema { .. }
            | Self::Config
            | Self::Cookie
            | Self::Certificate { .. }
            | Self::Stale { .. } => true,
            Self::IsOneself | Self::Leaving => false,
        }
    }
}

/// Why an introduction failed on the way.
#[derive(Debug, thiserror::Error)]
pub(super) enum HelloError {
    #[error("connection: {0}")]
    Connection(#[from] io::Error),
    #[error("what came is no introduction of a node; does only one of the two use certificates?")]
    Garbage,
    #[error("whoever is there hung up without a word; does only one of the two use certificates?")]
    HungUp,
    #[error("the node there speaks version {found}, this one {VERSION}; run the same version")]
    Version { found: u8 },
}

pub(super) async fn write<T: Serialize>(
    stream: &mut (impl AsyncWrite + Unpin),
    value: &T,
) -> io::Result<()> {
    let payload = bincode::serde::encode_to_vec(value, format())
        .expect("derived `Serialize`s write to memory without error");
    let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
    let mut frame = MAGIC.to_vec();
    frame.push(VERSION);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&payload);
    stream.write_all(&frame).await?;
    stream.flush().await
}

pub(super) async fn read<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<T, HelloError> {
    let mut head = [0; 9];
    let hung_up = [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset];
    match stream.read_exact(&mut head).await {
        Ok(_) => {}
        Err(error) if hung_up.contains(&error.kind()) => return Err(HelloError::HungUp),
        Err(error) => return Err(error.into()),
    }
    if head[..4] != MAGIC {
        return Err(HelloError::Garbage);
    }
    if head[4] != VERSION {
        return Err(HelloError::Version { found: head[4] });
    }
    let length = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    let length = usize::try_from(length).map_err(|_| HelloError::Garbage)?;
    if length > SIZE_MAX {
        return Err(HelloError::Garbage);
    }
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await?;
    match bincode::serde::decode_from_slice(&payload, format()) {
        Ok((value, read)) if read == payload.len() => Ok(value),
        Ok(_) | Err(_) => Err(HelloError::Garbage),
    }
}

fn format() -> impl Config {
    bincode::config::standard().with_limit::<SIZE_MAX>()
}

/// The secret that all nodes of a cluster share.
#[derive(Clone)]
pub struct Cookie([u8; 32]);

impl std::fmt::Debug for Cookie {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cookie")
    }
}

impl Cookie {
    /// The cookie that `secret`, whatever its length, stands for in `cluster`.
    pub fn new(cluster: &str, secret: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("tickwright 2026 cluster cookie");
        hasher.update(&(cluster.len() as u64).to_le_bytes());
        hasher.update(cluster.as_bytes());
        hasher.update(secret);
        Self(*hasher.finalize().as_bytes())
    }

    /// What `ractor_cluster` is given as its cookie: derived, so that neither gives the other away.
    pub(super) fn for_transport(&self) -> String {
        blake3::keyed_hash(&self.0, b"transport").to_hex().to_string()
    }

    /// Shows that whoever says `word`, of `by` to `to`, holds the cookie.
    pub(super) fn proof(
        &self,
        word: &str,
        by: &Introduction,
        to: &Introduction,
        nonces: [&[u8; 32]; 2],
    ) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        for part in [word, &by.id.0, &to.id.0] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        for nonce in nonces {
            hasher.update(nonce);
        }
        *hasher.finalize().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn introduction(id: &str) -> Introduction {
        Introduction {
            cluster: "c".into(),
            id: id.into(),
            incarnation: Incarnation(1),
            address: "a:1".into(),
            program: "0".into(),
            schema: [0; 32],
            config: [0; 32],
            gateway: 7,
        }
    }

    #[tokio::test]
    async fn an_introduction_arrives_as_it_was_said() {
        let hello = Hello { introduction: introduction("a"), nonce: [9; 32] };
        let mut bytes = Vec::new();
        write(&mut bytes, &hello).await.unwrap();
        let read: Hello = read(&mut bytes.as_slice()).await.unwrap();
        assert_eq!((read.introduction, read.nonce), (hello.introduction, hello.nonce));
    }

    #[tokio::test]
    async fn other_versions_garbage_and_claims_are_told_apart() {
        let mut bytes = Vec::new();
        write(&mut bytes, &7u32).await.unwrap();
        let with = |at: usize, byte: u8| {
            let mut bytes = bytes.clone();
            bytes[at] = byte;
            bytes
        };
        let of = async |bytes: Vec<u8>| read::<u32>(&mut bytes.as_slice()).await.unwrap_err();
        assert!(matches!(of(with(0, b'G')).await, HelloError::Garbage));
        assert!(matches!(of(with(4, 9)).await, HelloError::Version { found: 9 }));
        assert!(matches!(of(with(5, 255)).await, HelloError::Garbage), "a claim of 4 GB");
        assert!(matches!(of(bytes[..8].to_vec()).await, HelloError::HungUp));
        assert!(matches!(of(bytes[..9].to_vec()).await, HelloError::Connection(_)));
    }

    #[test]
    fn nodes_that_cannot_work_together_say_why() {
        let own = introduction("a");
        let other = |change: fn(&mut Introduction)| {
            let mut other = introduction("b");
            change(&mut other);
            own.refusal_of(&other)
        };
        assert_eq!(other(|_| {}), None);
        assert_eq!(
            other(|b| b.cluster = "d".into()),
            Some(Refusal::Cluster { expected: "c".into() })
        );
        assert_eq!(other(|b| b.schema = [1; 32]), Some(Refusal::Schema { program: "0".into() }));
        assert_eq!(other(|b| b.config = [1; 32]), Some(Refusal::Config));
    }

    #[test]
    fn a_proof_holds_for_one_secret_one_word_one_pair_and_one_connection() {
        let (a, b) = (introduction("a"), introduction("b"));
        let cookie = Cookie::new("c", b"secret");
        let proof = cookie.proof("go", &a, &b, [&[1; 32], &[2; 32]]);
        assert_eq!(proof, Cookie::new("c", b"secret").proof("go", &a, &b, [&[1; 32], &[2; 32]]));
        for other in [
            Cookie::new("c", b"secreT").proof("go", &a, &b, [&[1; 32], &[2; 32]]),
            Cookie::new("d", b"secret").proof("go", &a, &b, [&[1; 32], &[2; 32]]),
            cookie.proof("welcome", &a, &b, [&[1; 32], &[2; 32]]),
            cookie.proof("go", &b, &a, [&[1; 32], &[2; 32]]),
            cookie.proof("go", &a, &b, [&[2; 32], &[1; 32]]),
        ] {
            assert_ne!(proof, other);
        }
    }
}
