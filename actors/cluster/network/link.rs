//! One connection to one peer, as senders and the gateway use it.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use ractor::ActorRef;
use tickwright_core::cluster::{Assembly, Peer, ReceiveCredit, SendCredit};
use tokio::sync::Notify;

use crate::cluster::hello::Pass;
use crate::cluster::stream::Fence;

/// One connection to one peer.
pub(in crate::cluster) struct Link {
    /// Tells the link from every other of this node, also from those before its links started anew.
    pub(super) serial: u64,
    /// When it began.
    pub(super) since: Instant,
    pub(in crate::cluster) peer: Peer,
    pub(super) fence: Fence,
    /// The peer's gateway, once the session is ready. Messages of the peer may come before.
    pub(super) gateway: OnceLock<ActorRef<Vec<u8>>>,
    /// What our messages carry.
    pub(super) pass: Pass,
    /// What the peer's messages carry.
    pub(super) peer_pass: Pass,
    pub(super) send: Mutex<Sending>,
    pub(super) receive: Mutex<Receiving>,
    /// Credit came back, or the link is gone.
    pub(super) credit: Notify,
}

/// Bytes of urgent messages that may be on the way to a peer.
const URGENT_BYTES: u64 = 1 << 20;

pub(super) struct Sending {
    pub(super) sequence: u64,
    bulk: SendCredit,
    urgent: SendCredit,
}

impl Sending {
    pub(super) fn credit(&mut self, is_urgent: bool) -> &mut SendCredit {
        if is_urgent { &mut self.urgent } else { &mut self.bulk }
    }
}

pub(super) struct Receiving {
    /// The next expected.
    pub(super) sequence: u64,
    bulk: ReceiveCredit,
    urgent: ReceiveCredit,
    pub(super) assembly: Assembly,
}

impl Receiving {
    pub(super) fn credit(&mut self, is_urgent: bool) -> &mut ReceiveCredit {
        if is_urgent { &mut self.urgent } else { &mut self.bulk }
    }
}

/// What it takes to use a connection.
pub(in crate::cluster) struct LinkParts {
    pub(in crate::cluster) peer: Peer,
    pub(in crate::cluster) fence: Fence,
    pub(in crate::cluster) pass: Pass,
    pub(in crate::cluster) peer_pass: Pass,
}

impl Link {
    pub(super) fn new(
        parts: LinkParts,
        serial: u64,
        credit_bytes: u64,
        message_bytes_max: u64,
    ) -> Arc<Self> {
        let LinkParts { peer, fence, pass, peer_pass } = parts;
        Arc::new(Self {
            serial,
            since: Instant::now(),
            peer,
            fence,
            gateway: OnceLock::new(),
            pass,
            peer_pass,
            send: Mutex::new(Sending {
                sequence: 0,
                bulk: SendCredit::new(credit_bytes),
                urgent: SendCredit::new(URGENT_BYTES),
            }),
            receive: Mutex::new(Receiving {
                sequence: 0,
                bulk: ReceiveCredit::new(credit_bytes),
                urgent: ReceiveCredit::new(URGENT_BYTES),
                assembly: Assembly::new(message_bytes_max),
            }),
            credit: Notify::new(),
        })
    }

    /// Waits until at least half of the credit for bulk is free, and says whether it was in time.
    pub(super) async fn is_idle_by(&self, until: tokio::time::Instant) -> bool {
        loop {
            let freed = self.credit.notified();
            tokio::pin!(freed);
            // Registered before the credit is looked at, or what comes back in between is missed.
            freed.as_mut().enable();
            let is_idle = super::lock(&self.send).credit(false).is_half_free();
            if is_idle || self.fence.is_closed() {
                return true;
            }
            if tokio::time::timeout_at(until, freed).await.is_err() {
                return false;
            }
        }
    }
}
