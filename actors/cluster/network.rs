//! What every sender on this node shares: the links there are, the roles served here and elsewhere,
//! and the questions that await an answer.
//!
//! ```text
//! tell, ask ──▶ Network ──▶ credit ──▶ the peer's gateway      (a role on another node)
//!                  └──────────────────▶ the role's handler      (a role on this one)
//! frames of peers ──▶ gateway ──▶ Network ──▶ the role's handler, or whoever asked
//! ```
//!
//! *Delivery* is at most once. A question that fails after it was sent has an unknown outcome. Nothing
//! is sent without credit, so a peer that stands still costs a window of memory and no more. Urgent
//! messages, which are few and small, have a window of their own: however much bulk a peer leaves
//! lying, they pass.

mod choice;
mod counts;
mod delivery;
mod link;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use ractor::ActorRef;
use tickwright_core::cluster::{Beat, Directory, Peer, Service, Status, parts};
use tickwright_core::domain::NodeId;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;

use super::cut::Cut;
use super::envelope::{self, FRAME_MAX, Header, PART_MAX, Purpose, is_listed};
use super::hello::Pass;
pub(super) use choice::ChoiceSettings;
use choice::Chooser;
pub use counts::NetworkCounts;
use counts::Statistics;
use delivery::ReplyTo;
pub use delivery::{DeliveryError, Handler, Message, Receipt, Reply, Request, Way};
pub(super) use link::{Link, LinkParts};

/// Questions of this node that may await their answers at once.
const ASKS_MAX: usize = 65_536;

/// Longest name of a role or a kind.
const NAME_MAX: usize = 256;

macro_rules! count {
    ($network:expr, $field:ident) => {
        count!($network, $field, 1)
    };
    ($network:expr, $field:ident, $by:expr) => {
        $network.0.statistics.$field.fetch_add($by, Ordering::Relaxed)
    };
}

struct PendingAsk {
    /// The serial of the link it went by, and by which its answer comes.
    link: u64,
    role: String,
    answer: oneshot::Sender<Result<Vec<u8>, DeliveryError>>,
}

struct Local {
    /// The only epoch that is accepted; none accepts all.
    epoch: Option<u64>,
    handler: Handler,
}

/// How a role is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where it is served.
    pub node: NodeId,
    /// Since which epoch of the allocation; 0 where there are none.
    pub epoch: u64,
    /// By which link; none, if it is served here. What was sent by another may have been lost.
    link: Option<u64>,
}

impl Route {
    /// Whether the role is served by another node.
    pub fn is_remote(&self) -> bool {
        self.link.is_some()
    }
}

/// See the module. Clones share everything.
#[derive(Clone)]
pub struct Network(Arc<Shared>);

pub(super) struct Shared {
    own: Peer,
    credit_bytes: u64,
    message_bytes_max: u64,
    links: RwLock<BTreeMap<NodeId, Arc<Link>>>,
    passes: RwLock<BTreeMap<Pass, Arc<Link>>>,
    local: RwLock<BTreeMap<String, Local>>,
    directory: RwLock<Directory>,
    chooser: Chooser,
    asks: Mutex<BTreeMap<u64, PendingAsk>>,
    next_message: AtomicU64,
    statistics: Statistics,
    /// Roles served here have changed.
    services_changed: Notify,
    /// Counts what may change how a role is reached: links, and who serves what.
    routes: watch::Sender<u64>,
    /// Cuts this node off.
    cut: Cut,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("own", &self.0.own).finish_non_exhaustive()
    }
}

impl Network {
    /// A node without links.
    pub(super) fn new(
        own: Peer,
        credit_bytes: u64,
        message_bytes_max: u64,
        choice: ChoiceSettings,
    ) -> Self {
        Self(Arc::new(Shared {
            own,
            credit_bytes,
            message_bytes_max,
            links: RwLock::default(),
            passes: RwLock::default(),
            local: RwLock::default(),
            directory: RwLock::default(),
            chooser: Chooser::new(choice),
            asks: Mutex::default(),
            next_message: AtomicU64::new(1),
            statistics: Statistics::default(),
            services_changed: Notify::new(),
            routes: watch::channel(0).0,
            cut: Cut::default(),
        }))
    }

    /// This node.
    pub fn own(&self) -> &Peer {
        &self.0.own
    }

    /// Cuts this node off from all others for so long, as a fault: connections stay open and silent.
    /// Tools still reach it.
    pub fn cut_off_for(&self, time: Duration) {
        tracing::warn!(?time, "this node is cut off, as ordered");
        self.0.cut.cut_for(time);
    }

    /// What every connection to another node goes through.
    pub(super) fn line(&self) -> &Cut {
        &self.0.cut
    }

    /// From now on `handler` serves `role` here; any epoch but `epoch`, if one is given, is refused.
    /// Every node learns of it with the next beats.
    pub fn register(&self, role: &str, epoch: Option<u64>, handler: Handler) {
        let local = Local { epoch, handler };
        write(&self.0.local).insert(role.to_owned(), local);
        self.0.services_changed.notify_one();
        self.reroute();
    }

    /// The same for an actor: `decode` makes its message of a request, or says why it cannot.
    pub fn register_actor<M: ractor::Message>(
        &self,
        role: &str,
        epoch: Option<u64>,
        actor: &ActorRef<M>,
        decode: fn(&mut Request) -> Result<M, String>,
    ) {
        let (actor, name) = (actor.clone(), role.to_owned());
        let handler = move |mut request: Request| match decode(&mut request) {
            Ok(message) => actor.cast(message).map_err(|_| format!("`{name}` is starting anew")),
            Err(reason) => {
                if let Some(reply) = request.reply.take() {
                    reply.refuse(reason.clone());
                }
                Err(reason)
            }
        };
        self.register(role, epoch, Arc::new(handler));
    }

    /// Nobody serves `role` here any more.
    pub fn unregister(&self, role: &str) {
        write(&self.0.local).remove(role);
        self.0.services_changed.notify_one();
        self.reroute();
    }

    /// What is served here.
    pub(super) fn services(&self) -> Vec<Service> {
        let local = read(&self.0.local);
        let of = |(role, local): (&String, &Local)| Service {
            role: role.clone(),
            epoch: local.epoch.unwrap_or(0),
        };
        local.iter().map(of).collect()
    }

    pub(super) async fn services_changed(&self) {
        self.0.services_changed.notified().await;
    }

    /// What the membership knows of a node's services.
    pub(super) fn on_member(&self, node: &NodeId, status: Status, services: &[Service]) {
        write(&self.0.directory).on_member(node, status, services);
        self.reroute();
    }

    /// The node that serves `role`.
    pub fn serving(&self, role: &str) -> Option<NodeId> {
        self.owner(role).map(|(node, _)| node)
    }

    /// Whether a node that is up, and not suspect, serves `role`.
    pub fn is_up(&self, role: &str) -> bool {
        read(&self.0.directory).is_up(role)
    }

    /// How `role` is reached now, if it is.
    pub fn route(&self, role: &str) -> Option<Route> {
        let (node, epoch) = self.owner(role)?;
        let link = if node == self.0.own.id {
            None
        } else {
            Some(read(&self.0.links).get(&node).map(|link| link.serial)?)
        };
        Some(Route { node, epoch, link })
    }

    fn owner(&self, role: &str) -> Option<(NodeId, u64)> {
        let own = &self.0.own.id;
        let here = read(&self.0.local).get(role).map(|local| local.epoch);
        let directory = read(&self.0.directory);
        let known = directory.serving(role, own).map(|(node, epoch)| (node.clone(), epoch));
        match (here, known) {
            // Another node may own it by a newer epoch and this one not know yet that it lost it.
            (Some(Some(epoch)), Some(newer)) if newer.1 > epoch => Some(newer),
            (Some(epoch), _) => Some((own.clone(), epoch.unwrap_or(0))),
            // What this node itself once announced is not what it serves now.
            (None, known) => known.filter(|(node, _)| node != own),
        }
    }

    /// Changes whenever a role may be reached in another way than before.
    pub fn routes(&self) -> watch::Receiver<u64> {
        self.0.routes.subscribe()
    }

    fn reroute(&self) {
        self.0.routes.send_modify(|count| *count += 1);
    }

    /// Every role that is served anywhere, with its nodes.
    pub fn roles(&self) -> Vec<(String, Vec<NodeId>)> {
        let directory = read(&self.0.directory);
        directory.roles().map(|(role, nodes)| (role.to_owned(), nodes.cloned().collect())).collect()
    }

    /// Whom there are links to.
    pub fn linked(&self) -> Vec<NodeId> {
        read(&self.0.links).keys().cloned().collect()
    }

    /// What went through and what went wrong.
    pub fn counts(&self) -> NetworkCounts {
        self.0.statistics.counts()
    }

    pub(super) fn count_dropped_connection(&self) {
        count!(self, connections_dropped);
    }

    pub(super) fn count_failed_introduction(&self) {
        count!(self, introductions_failed);
    }

    /// A connection was established: what comes on it is taken in from now on.
    pub(super) fn add_link(&self, parts: LinkParts) -> Arc<Link> {
        let peer_pass = parts.peer_pass;
        let serial = self.next_message();
        let link = Link::new(parts, serial, self.0.credit_bytes, self.0.message_bytes_max);
        write(&self.0.passes).insert(peer_pass, Arc::clone(&link));
        link
    }

    /// The session on a connection is ready: messages to the peer go there from now on.
    pub(super) fn open_link(&self, link: &Arc<Link>, gateway: ActorRef<Vec<u8>>) {
        // Set once: a session becomes ready once.
        let _ = link.gateway.set(gateway);
        link.credit.notify_waiters();
        let before = write(&self.0.links).insert(link.peer.id.clone(), Arc::clone(link));
        // What the peer sent before now was worked off, and its credit could not be returned.
        for is_urgent in [false, true] {
            self.return_credit(link, 0, is_urgent);
        }
        if let Some(before) = before.filter(|before| before.serial != link.serial) {
            self.cut(&before);
        }
        self.reroute();
    }

    /// Nothing passes a link after this.
    pub(super) fn close_link(&self, link: &Link) {
        {
            let mut links = write(&self.0.links);
            if links.get(&link.peer.id).is_some_and(|found| found.serial == link.serial) {
                links.remove(&link.peer.id);
            }
        }
        self.cut(link);
        self.reroute();
    }

    /// Nothing passes between this node and that life of `id` any more.
    pub(super) fn fence(&self, peer: &Peer) {
        let found: Vec<Arc<Link>> = read(&self.0.passes)
            .values()
            .filter(|link| link.peer == *peer)
            .map(Arc::clone)
            .collect();
        for link in found {
            self.close_link(&link);
        }
    }

    fn cut(&self, link: &Link) {
        link.fence.close();
        write(&self.0.passes).remove(&link.peer_pass);
        link.credit.notify_waiters();
        let mut asks = lock(&self.0.asks);
        let lost: Vec<u64> = asks
            .iter()
            .filter(|(_, ask)| ask.link == link.serial)
            .map(|(&message, _)| message)
            .collect();
        for message in lost {
            if let Some(PendingAsk { role, answer, .. }) = asks.remove(&message) {
                let _ = answer.send(Err(DeliveryError::Ended(role)));
            }
        }
    }

    /// Sends `body` to `role` on `node`, or wherever it is served. Delivery is at most once, and `Ok`
    /// means that it is under way. `patience` is how long to wait for credit.
    ///
    /// # Errors
    ///
    /// [`DeliveryError`].
    pub async fn tell(
        &self,
        node: Option<&NodeId>,
        message: Message<'_>,
        patience: Duration,
    ) -> Result<(), DeliveryError> {
        let node = self.destination(node, &message)?;
        if node == self.0.own.id {
            return self.deliver_here(message, None);
        }
        let header = message.header(Purpose::Tell, self.next_message(), Duration::ZERO);
        let link = self.link(&node)?;
        self.send(&link, header, message.body, Instant::now() + patience).await
    }

    /// Sends `body` to `role` on `node`, or wherever it is served, and awaits the answer.
    ///
    /// # Errors
    ///
    /// [`DeliveryError`]; see [`DeliveryError::is_outcome_unknown`].
    pub async fn ask(
        &self,
        node: Option<&NodeId>,
        message: Message<'_>,
        patience: Duration,
    ) -> Result<Vec<u8>, DeliveryError> {
        let node = self.destination(node, &message)?;
        let until = Instant::now() + patience;
        let role = message.role.to_owned();
        let timeout = || DeliveryError::Timeout { role: role.clone(), patience };
        let (sender, answer) = oneshot::channel();
        if node == self.0.own.id {
            let reply = Reply { role: role.clone(), to: Some(ReplyTo::Here(sender)) };
            self.deliver_here(message, Some(reply))?;
            return match tokio::time::timeout_at(until, answer).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) => Err(DeliveryError::Ended(role)),
                Err(_) => Err(timeout()),
            };
        }
        let number = self.next_message();
        self.0.chooser.on_asked(&node);
        let pending = Pending { network: self, number, node: node.clone() };
        let link = self.link(&node)?;
        {
            let mut asks = lock(&self.0.asks);
            if asks.len() >= ASKS_MAX {
                return Err(DeliveryError::TooMany);
            }
            let (link, role) = (link.serial, role.clone());
            asks.insert(number, PendingAsk { link, role, answer: sender });
        }
        let header = message.header(Purpose::Ask, number, patience);
        let answered = async {
            self.send(&link, header, message.body, until).await?;
            answer.await.unwrap_or_else(|_| Err(DeliveryError::Ended(role.clone())))
        };
        let answer = tokio::time::timeout_at(until, answered).await;
        drop(pending);
        answer.unwrap_or_else(|_| Err(timeout()))
    }

    /// Waits while the link to a node is busy with other things, at most for `patience`: for what is in no hurry. Says
    /// whether it is not busy.
    pub async fn yields(&self, node: &NodeId, patience: Duration) -> bool {
        match self.link(node) {
            Ok(link) => link.is_idle_by(Instant::now() + patience).await,
            Err(_) => true,
        }
    }

    fn link(&self, node: &NodeId) -> Result<Arc<Link>, DeliveryError> {
        let link = read(&self.0.links).get(node).map(Arc::clone);
        link.ok_or_else(|| DeliveryError::Unlinked(node.clone()))
    }

    fn next_message(&self) -> u64 {
        self.0.next_message.fetch_add(1, Ordering::Relaxed)
    }

    fn destination(
        &self,
        node: Option<&NodeId>,
        message: &Message<'_>,
    ) -> Result<NodeId, DeliveryError> {
        debug_assert!(is_listed(message.kind), "SCHEMA has no line for `{}`", message.kind);
        self.check_size(message)?;
        let found = || self.chosen(message.role);
        node.cloned().or_else(found).ok_or_else(|| DeliveryError::Nobody(message.role.to_owned()))
    }

    fn check_size(&self, message: &Message<'_>) -> Result<(), DeliveryError> {
        let names = message.role.len().max(message.kind.len());
        if names > NAME_MAX {
            return Err(too_large(names, NAME_MAX as u64));
        }
        if message.body.len() as u64 > self.0.message_bytes_max {
            return Err(too_large(message.body.len(), self.0.message_bytes_max));
        }
        Ok(())
    }

    fn deliver_here(
        &self,
        message: Message<'_>,
        reply: Option<Reply>,
    ) -> Result<(), DeliveryError> {
        self.hand_over(Request {
            from: self.0.own.clone(),
            role: message.role.to_owned(),
            kind: message.kind.to_owned(),
            epoch: message.epoch,
            body: message.body.to_vec(),
            reply,
            receipt: None,
            way: None,
        })
    }

    /// Gives a message to the role it is for.
    fn hand_over(&self, mut request: Request) -> Result<(), DeliveryError> {
        let found = read(&self.0.local)
            .get(&request.role)
            .map(|local| (local.epoch, Arc::clone(&local.handler)));
        let Some((epoch, handler)) = found else {
            count!(self, undelivered);
            let role = request.role.clone();
            let reason = format!("node {} does not serve `{role}`", self.0.own.id);
            if let Some(reply) = request.reply.take() {
                reply.refuse(reason);
            }
            return Err(DeliveryError::Nobody(role));
        };
        if let Some(epoch) = epoch.filter(|&epoch| epoch != request.epoch) {
            count!(self, stale_epochs);
            let reason = format!(
                "`{}` is at epoch {epoch}, and the message is of epoch {}",
                request.role, request.epoch
            );
            if let Some(reply) = request.reply.take() {
                reply.refuse(reason.clone());
            }
            return Err(DeliveryError::Refused(reason));
        }
        let (from, role, kind) =
            (request.from.id.clone(), request.role.clone(), request.kind.clone());
        handler(request).map_err(|reason| {
            count!(self, undecodable);
            tracing::warn!(%from, role, kind, reason, "a message could not be taken in");
            DeliveryError::Refused(reason)
        })
    }

    /// Sends a message in as many parts as it takes, each when there is credit for it.
    async fn send(
        &self,
        link: &Link,
        mut header: Header,
        body: &[u8],
        until: Instant,
    ) -> Result<(), DeliveryError> {
        header.length = body.len() as u64;
        for range in parts(body.len(), PART_MAX) {
            header.offset = range.start as u64;
            let mut frame = envelope::encode(link.pass, &header, &body[range]);
            loop {
                let freed = link.credit.notified();
                tokio::pin!(freed);
                // Registered before the credit is looked at, or what comes back in between is missed.
                freed.as_mut().enable();
                match self.try_send(link, frame, Some(header.is_urgent)) {
                    Ok(()) => break,
                    Err(Some(unsent)) => frame = unsent,
                    Err(None) => return Err(DeliveryError::Ended(header.role)),
                }
                count!(self, stalls);
                if tokio::time::timeout_at(until, freed).await.is_err() {
                    return Err(DeliveryError::Stalled(link.peer.id.clone()));
                }
            }
        }
        Ok(())
    }

    /// Queues a frame, with credit for urgent messages or for bulk, or without. `Err(Some)` gives it back for want of credit, `Err(None)` says that the link is
    /// gone.
    fn try_send(
        &self,
        link: &Link,
        mut frame: Vec<u8>,
        credit: Option<bool>,
    ) -> Result<(), Option<Vec<u8>>> {
        if link.fence.is_closed() {
            return Err(None);
        }
        let Some(gateway) = link.gateway.get() else { return Err(Some(frame)) };
        let bytes = frame.len() as u64;
        // Held while the frame is queued: the order of sequences is the order on the wire.
        let mut send = lock(&link.send);
        if credit.is_some_and(|is_urgent| !send.credit(is_urgent).take(bytes)) {
            return Err(Some(frame));
        }
        envelope::set_sequence(&mut frame, send.sequence);
        gateway.cast(frame).map_err(|_| None)?;
        send.sequence += 1;
        drop(send);
        count!(self, frames_sent);
        count!(self, bytes_sent, bytes);
        Ok(())
    }

    /// A sign of life goes without credit: it is small, and stops soon where nobody listens.
    pub(super) fn send_beat(&self, node: &NodeId, beat: &Beat) {
        let body = bincode::serde::encode_to_vec(beat, bincode::config::standard())
            .expect("derived `Serialize`s write to memory without error");
        let Some(link) = read(&self.0.links).get(node).map(Arc::clone) else { return };
        if body.len() > PART_MAX {
            tracing::error!(bytes = body.len(), "this node serves more than a beat can tell");
            return;
        }
        let mut header = Header::new(Purpose::Beat, 0);
        header.length = body.len() as u64;
        let _ = self.try_send(&link, envelope::encode(link.pass, &header, &body), None);
    }

    /// `bytes` from the peer have been worked off. Before the peer's gateway is known nothing can be
    /// returned: then [`Network::open_link`] does it.
    fn return_credit(&self, link: &Arc<Link>, bytes: u64, is_urgent: bool) {
        let mut due = lock(&link.receive).credit(is_urgent).on_worked_off(bytes);
        while let Some(bytes) = due.take() {
            let header = Header { is_urgent, ..Header::new(Purpose::Credit, bytes) };
            let frame = envelope::encode(link.pass, &header, &[]);
            if let Err(Some(_)) = self.try_send(link, frame, None) {
                lock(&link.receive).credit(is_urgent).put_back(bytes);
                // The gateway may have become known since, and whoever opened the link have found nothing.
                if link.gateway.get().is_some() {
                    due = lock(&link.receive).credit(is_urgent).on_worked_off(0);
                }
            }
        }
    }

    /// A frame came from some peer. Returns the sign of life, if it was one.
    pub(super) fn on_frame(&self, bytes: &[u8]) -> Option<(Peer, Beat)> {
        count!(self, frames_received);
        count!(self, bytes_received, bytes.len() as u64);
        let frame = match envelope::decode(bytes) {
            Ok(frame) => frame,
            Err(error) => {
                self.count_undecodable(&"unknown", &error);
                return None;
            }
        };
        let Some(link) = read(&self.0.passes).get(&frame.pass).map(Arc::clone) else {
            count!(self, stale_passes);
            return None;
        };
        let header = frame.header;
        let size = bytes.len() as u64;
        let whole = {
            let mut receive = lock(&link.receive);
            if frame.sequence < receive.sequence {
                count!(self, out_of_order);
                return None;
            }
            if frame.sequence > receive.sequence {
                count!(self, out_of_order);
                tracing::warn!(peer = %link.peer.id, "frames are missing");
            }
            receive.sequence = frame.sequence + 1;
            let is_message = header.purpose != Purpose::Credit;
            is_message.then(|| receive.assembly.on_part(header.part(), frame.body))
        };
        match whole {
            None => {
                lock(&link.send).credit(header.is_urgent).on_returned(header.message);
                link.credit.notify_waiters();
                None
            }
            Some(Ok(Some(body))) => self.on_message(&link, header, body, size),
            Some(Ok(None)) => {
                self.return_credit(&link, size, header.is_urgent);
                None
            }
            Some(Err(error)) => {
                self.count_undecodable(&link.peer.id, &error);
                self.return_credit(&link, size, header.is_urgent);
                None
            }
        }
    }

    fn count_undecodable(&self, from: &dyn fmt::Display, error: &dyn fmt::Display) {
        count!(self, undecodable);
        tracing::warn!(%from, %error, "a frame cannot be decoded");
    }

    fn on_message(
        &self,
        link: &Arc<Link>,
        header: Header,
        body: Vec<u8>,
        size: u64,
    ) -> Option<(Peer, Beat)> {
        let from = link.peer.clone();
        if header.purpose == Purpose::Beat {
            let config = bincode::config::standard().with_limit::<FRAME_MAX>();
            return match bincode::serde::decode_from_slice(&body, config) {
                Ok((beat, _)) => Some((from, beat)),
                Err(error) => {
                    self.count_undecodable(&from.id, &error);
                    None
                }
            };
        }
        let is_urgent = header.is_urgent;
        let receipt = Receipt {
            network: Arc::downgrade(&self.0),
            link: Arc::downgrade(link),
            bytes: size,
            is_urgent,
        };
        let answer = match header.purpose {
            Purpose::Tell | Purpose::Ask => {
                let is_ask = header.purpose == Purpose::Ask;
                let patience = Duration::from_millis(header.patience_ms);
                let to = ReplyTo::There {
                    network: self.clone(),
                    link: Arc::clone(link),
                    message: header.message,
                    is_urgent,
                    until: Instant::now() + patience,
                };
                let reply = is_ask.then(|| Reply { role: header.role.clone(), to: Some(to) });
                let Header { role, kind, epoch, .. } = header;
                let receipt = Some(receipt);
                // Counted and logged where it fails; the sender of a question has been told.
                let way = Some(Way { network: Arc::downgrade(&self.0), link: Arc::clone(link) });
                let _ =
                    self.hand_over(Request { from, role, kind, epoch, body, reply, receipt, way });
                return None;
            }
            Purpose::Reply => Ok(body),
            Purpose::Failure => {
                Err(DeliveryError::Refused(String::from_utf8_lossy(&body).into_owned()))
            }
            Purpose::Beat | Purpose::Credit => return None,
        };
        let mut asks = lock(&self.0.asks);
        // Only the one that was asked may answer.
        if asks.get(&header.message).is_some_and(|ask| ask.link == link.serial)
            && let Some(ask) = asks.remove(&header.message)
        {
            let _ = ask.answer.send(answer);
        }
        None
    }
}

/// Forgets a question when whoever asked goes away.
struct Pending<'n> {
    network: &'n Network,
    number: u64,
    node: NodeId,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        lock(&self.network.0.asks).remove(&self.number);
        self.network.0.chooser.on_answered(&self.node);
    }
}

fn too_large(length: usize, limit: u64) -> DeliveryError {
    DeliveryError::TooLarge { length: length as u64, limit }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
