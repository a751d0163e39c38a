//! What went through a network, and what went wrong.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// Counts what went wrong and what went through.
#[derive(Debug, Default)]
pub(super) struct Statistics {
    pub(super) frames_sent: AtomicU64,
    pub(super) frames_received: AtomicU64,
    pub(super) bytes_sent: AtomicU64,
    pub(super) bytes_received: AtomicU64,
    pub(super) undecodable: AtomicU64,
    pub(super) stale_passes: AtomicU64,
    pub(super) out_of_order: AtomicU64,
    pub(super) stale_epochs: AtomicU64,
    pub(super) undelivered: AtomicU64,
    pub(super) stalls: AtomicU64,
    pub(super) connections_dropped: AtomicU64,
    pub(super) introductions_failed: AtomicU64,
}

/// What a network had counted at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NetworkCounts {
    /// Frames to peers.
    pub frames_sent: u64,
    /// Frames from peers.
    pub frames_received: u64,
    /// Bytes of them.
    pub bytes_sent: u64,
    /// Bytes of them.
    pub bytes_received: u64,
    /// Frames and messages that could not be decoded.
    pub undecodable: u64,
    /// Frames of links that are fenced, or of nobody we know.
    pub stale_passes: u64,
    /// Frames that were not the next of their link.
    pub out_of_order: u64,
    /// Messages of an epoch that the role does not accept.
    pub stale_epochs: u64,
    /// Messages for roles that nobody serves here.
    pub undelivered: u64,
    /// Times that a sender had to wait for credit.
    pub stalls: u64,
    /// Connections dropped because too many had not proved themselves.
    pub connections_dropped: u64,
    /// Connections that failed to introduce themselves.
    pub introductions_failed: u64,
}

impl Statistics {
    pub(super) fn counts(&self) -> NetworkCounts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        NetworkCounts {
            frames_sent: of(&self.frames_sent),
            frames_received: of(&self.frames_received),
            bytes_sent: of(&self.bytes_sent),
            bytes_received: of(&self.bytes_received),
            undecodable: of(&self.undecodable),
            stale_passes: of(&self.stale_passes),
            out_of_order: of(&self.out_of_order),
            stale_epochs: of(&self.stale_epochs),
            undelivered: of(&self.undelivered),
            stalls: of(&self.stalls),
            connections_dropped: of(&self.connections_dropped),
            introductions_failed: of(&self.introductions_failed),
        }
    }
}
