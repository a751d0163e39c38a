//! A live feed: when to connect, when to give a connection up, and what its frames are worth.
//!
//! ```text
//! opened, failed, closed, frame, pong ─▶ Connection ─▶ connect, ping, disconnect
//! frame ─▶ FrameJudge ─▶ market frame (perhaps after a gap) · control · garbage
//! ```
//!
//! Nothing here waits or reads a clock; `actors/source/live.rs` has the socket.

mod connection;
mod frames;

pub use connection::{Connection, ConnectionEffect, ConnectionPolicy, DisconnectReason};
pub use frames::{FrameCounts, FrameJudge, FrameVerdict, Gap};
