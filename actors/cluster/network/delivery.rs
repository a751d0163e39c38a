//! What is delivered: messages, requests, and the answers to them.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tickwright_core::cluster::Peer;
use tickwright_core::domain::NodeId;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::link::Link;
use super::{Network, Shared};
use crate::cluster::envelope::{Header, Purpose};

/// Why a message was not delivered. Unless said otherwise it may have been acted on all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// No node that is known serves the role. It was not sent.
    #[error("nobody serves `{0}`")]
    Nobody(String),
    /// There is no link to the node. It was not sent.
    #[error("there is no link to node {0}")]
    Unlinked(NodeId),
    /// The node takes nothing in just now. It was not sent, or not whole.
    #[error("node {0} takes nothing in")]
    Stalled(NodeId),
    /// The message is too large, or its names are. It was not sent.
    #[error("a message of {length} bytes is larger than {limit}")]
    TooLarge {
        /// Bytes of it.
        length: u64,
        /// Bytes that are taken.
        limit: u64,
    },
    /// Too many questions await their answers. It was not sent.
    #[error("too many questions await their answers")]
    TooMany,
    /// The one asked has refused, with this reason.
    #[error("{0}")]
    Refused(String),
    /// The link broke, or the one asked ended, before there was an answer.
    #[error("the connection to `{0}` ended before it answered")]
    Ended(String),
    /// No answer in time.
    #[error("`{role}` gave no answer within {patience:?}")]
    Timeout {
        /// Who was asked.
        role: String,
        /// How long was waited.
        patience: Duration,
    },
}

impl DeliveryError {
    /// Whether the message may have been acted on although this is all there is to tell.
    pub fn is_outcome_unknown(&self) -> bool {
        matches!(self, Self::Ended(_) | Self::Timeout { .. })
    }
}

/// A message for a role on this node.
#[derive(Debug)]
pub struct Request {
    /// Who sends it; taken from the link it came on.
    pub from: Peer,
    /// For whom.
    pub role: String,
    /// What it is.
    pub kind: String,
    /// The epoch of the sender's work.
    pub epoch: u64,
    /// Its bytes.
    pub body: Vec<u8>,
    /// Where an answer goes, if one is awaited.
    pub reply: Option<Reply>,
    /// Returns the sender's credit when it is dropped: keep it for as long as the message takes room.
    pub receipt: Option<Receipt>,
    /// By which more can be sent to the sender; none, if that is this node.
    pub way: Option<Way>,
}

/// The link by which a message came, for as long as it lives: what is sent by it arrives in order, and
/// nothing in between is missing.
#[derive(Clone)]
pub struct Way {
    pub(super) network: Weak<Shared>,
    pub(super) link: Arc<Link>,
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Way").field("peer", &self.link.peer).finish_non_exhaustive()
    }
}

impl Way {
    /// Sends `message` by this link; `patience` is how long to wait for credit.
    ///
    /// # Errors
    ///
    /// [`DeliveryError`]; [`DeliveryError::Ended`] once the link has ended.
    pub async fn tell(
        &self,
        message: Message<'_>,
        patience: Duration,
    ) -> Result<(), DeliveryError> {
        let ended = || DeliveryError::Ended(message.role.to_owned());
        let network = Network(self.network.upgrade().ok_or_else(ended)?);
        network.check_size(&message)?;
        let header = message.header(Purpose::Tell, network.next_message(), Duration::ZERO);
        network.send(&self.link, header, message.body, Instant::now() + patience).await
    }
}

/// A message for a role.
#[derive(Clone, Copy, Debug)]
pub struct Message<'m> {
    /// For whom.
    pub role: &'m str,
    /// What it is, so that it can be decoded.
    pub kind: &'m str,
    /// The epoch of the sender's work; 0 where there are none.
    pub epoch: u64,
    /// Its bytes.
    pub body: &'m [u8],
    /// Whether it must not wait for bulk: it has a window of its own, and so has the answer.
    pub is_urgent: bool,
}

impl<'m> Message<'m> {
    /// A message as JSON, for roles that understand it.
    pub fn json(role: &'m str, body: &'m str) -> Self {
        Self { role, kind: "json", epoch: 0, body: body.as_bytes(), is_urgent: false }
    }

    pub(super) fn header(&self, purpose: Purpose, message: u64, patience: Duration) -> Header {
        let patience_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        Header {
            epoch: self.epoch,
            patience_ms,
            role: self.role.to_owned(),
            kind: self.kind.to_owned(),
            is_urgent: self.is_urgent,
            ..Header::new(purpose, message)
        }
    }
}

/// Takes a message in, or says why not.
pub type Handler = Arc<dyn Fn(Request) -> Result<(), String> + Send + Sync>;

/// Returns the credit of one message to its sender, once.
pub struct Receipt {
    pub(super) network: Weak<Shared>,
    pub(super) link: Weak<Link>,
    pub(super) bytes: u64,
    pub(super) is_urgent: bool,
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receipt").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let (Some(shared), Some(link)) = (self.network.upgrade(), self.link.upgrade()) {
            Network(shared).return_credit(&link, self.bytes, self.is_urgent);
        }
    }
}

/// Where the answer to one question goes.
pub struct Reply {
    pub(super) role: String,
    pub(super) to: Option<ReplyTo>,
}

pub(super) enum ReplyTo {
    Here(oneshot::Sender<Result<Vec<u8>, DeliveryError>>),
    There { network: Network, link: Arc<Link>, message: u64, is_urgent: bool, until: Instant },
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("role", &self.role).finish_non_exhaustive()
    }
}

impl Reply {
    /// Answers.
    pub fn answer(mut self, body: Vec<u8>) {
        self.send(Ok(body));
    }

    /// Says why there is no answer.
    pub fn refuse(mut self, reason: impl Into<String>) {
        self.send(Err(reason.into()));
    }

    fn send(&mut self, answer: Result<Vec<u8>, String>) {
        match self.to.take() {
            None => {}
            Some(ReplyTo::Here(sender)) => {
                // Whoever asked may have given up.
                let _ = sender.send(answer.map_err(DeliveryError::Refused));
            }
            Some(ReplyTo::There { network, link, message, is_urgent, until }) => {
                let (purpose, body) = match answer {
                    Ok(body) => (Purpose::Reply, body),
                    Err(reason) => (Purpose::Failure, reason.into_bytes()),
                };
                tokio::spawn(async move {
                    let header = Header { is_urgent, ..Header::new(purpose, message) };
                    if let Err(error) = network.send(&link, header, &body, until).await {
                        let peer = &link.peer.id;
                        tracing::debug!(%peer, %error, "an answer was not delivered");
                    }
                });
            }
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        let reason = format!("`{}` ended before it answered", self.role);
        self.send(Err(reason));
    }
}
