//! One connection to one peer, as senders and the gateway use it.

use std::sync::{Arc, Mutex, OnceLock};

use ractor::ActorRef;
use tickwright_core::cluster::{Assembly, LinkNumber, Peer, ReceiveCredit, SendCredit};
use tokio::sync::Notify;

use crate::cluster::hello::Pass;
use crate::cluster::stream::Fence;

/// One connection to one peer.
pub(in crate::cluster) struct Link {
    pub(in crate::cluster) number: LinkNumber,
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

pub(super) struct Sending {
    pub(super) sequence: u64,
    pub(super) credit: SendCredit,
}

pub(super) struct Receiving {
    /// The next expected.
    pub(super) sequence: u64,
    pub(super) credit: ReceiveCredit,
    pub(super) assembly: Assembly,
}

/// What it takes to use a connection.
pub(in crate::cluster) struct LinkParts {
    pub(in crate::cluster) number: LinkNumber,
    pub(in crate::cluster) peer: Peer,
    pub(in crate::cluster) fence: Fence,
    pub(in crate::cluster) pass: Pass,
    pub(in crate::cluster) peer_pass: Pass,
}

impl Link {
    pub(super) fn new(parts: LinkParts, credit_bytes: u64, message_bytes_max: u64) -> Arc<Self> {
        let LinkParts { number, peer, fence, pass, peer_pass } = parts;
        Arc::new(Self {
            number,
            peer,
            fence,
            gateway: OnceLock::new(),
            pass,
            peer_pass,
            send: Mutex::new(Sending { sequence: 0, credit: SendCredit::new(credit_bytes) }),
            receive: Mutex::new(Receiving {
                sequence: 0,
                credit: ReceiveCredit::new(credit_bytes),
                assembly: Assembly::new(message_bytes_max),
            }),
            credit: Notify::new(),
        })
    }
}
