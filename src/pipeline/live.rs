//! A live feed: when to connect, when to give a connection up, what its frames are worth, and which
//! snapshots its books need.
//!
//! ```text
//! opened, failed, closed, frame, pong ─▶ Connection ─▶ connect, ping, disconnect
//! frame ─▶ FrameJudge ─▶ market frame (perhaps after a gap) · control · garbage
//! a book that waits, an answer ─▶ SnapshotRequests ─▶ fetch this symbol's snapshot
//! ```
//!
//! Nothing here waits or reads a clock; `actors/source/live.rs` has the socket.

mod connection;
mod frames;
mod snapshots;

pub use connection::{Connection, ConnectionEffect, ConnectionPolicy, DisconnectReason};
pub use frames::{FrameCounts, FrameJudge, FrameVerdict, Gap};
pub use snapshots::{
    SnapshotFailure, SnapshotPolicy, SnapshotRequests, is_snapshot, needs_snapshots, path_of,
};
