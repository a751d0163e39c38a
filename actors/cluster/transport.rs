//! Streams whose two ends are on different nodes: the [`Demand`]s and frames of
//! [`kit`](crate::kit), as messages between gateways.
//!
//! ```text
//! consumer ─ Demand ─▶ Outlet ─┬─▶ the producer, if its unit is here
//!                              └─▶ pump ─▶ Network ─▶ Transport there ─▶ Outlet ─▶ producer
//! consumer ◀─ Sink ◀─ Transport here ◀─ Network ◀─ forward ◀─ Sink ◀───────────────┘
//! ```
//!
//! The two ends notice nothing of it. Where a unit is may change at any time, and links break: whenever
//! the way to a producer is another than the one by which its consumer subscribed, the consumer is told
//! as if the producer had started anew, and subscribes again from where it stands.
//!
//! *Fencing.* A message carries the epochs of both units. One for an older life of the unit that gets
//! it is refused by [`Network`], one from an older life than has been heard of is refused here.
//!
//! *Nothing in between is missing.* A session lives and ends with the link by which its consumer
//! subscribed, and its frames are numbered: one that is not the next ends it as well.
//!
//! *Bounds.* Rows under way are bounded by the credit of the stream at either end; a node that takes
//! nothing in costs that, and the bytes of credit of its link.

mod block;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock, Weak};
use std::time::Duration;

use tickwright_core::cluster::{EpochFence, Peer, Unit};
use tickwright_core::domain::Key;
use tickwright_core::stream::Frame;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};

pub use block::WireBlock;
use block::{Head, Speech, decode, decode_block, encode, encode_frame};

use super::network::{DeliveryError, Message, Network, Request, Route, Way, lock, read, write};
use crate::kit::{Delivery, Demand, Outlet, Sink};

/// The kind of every message of a stream.
pub const KIND: &str = "stream";

/// How long a message may wait for credit of a link. A peer that stands still is suspected long before,
/// and then the link ends.
const PATIENCE: Duration = Duration::from_secs(600);

/// How long to wait before a producer is asked again that could not be.
const RETRY: Duration = Duration::from_millis(100);

/// How long it is waited for a way to the consumer of a stream.
const WAY_PATIENCE: Duration = Duration::from_secs(60);

/// A stream, and how its two ends are reached when both units are here.
#[derive(Debug)]
pub struct Edge<B> {
    /// The producing unit.
    pub from: Unit,
    /// The consuming one.
    pub to: Unit,
    /// Reaches the producer.
    pub demand: Outlet<Demand<B>>,
    /// Tells the consumer that the producer has started anew.
    pub hello: Outlet<()>,
}

type Name = (Unit, Unit);

/// Takes in what the other end of one stream says; the bytes are the rows of a frame.
type Port = Arc<dyn Fn(&Request, Head, &[u8]) -> Result<(), String> + Send + Sync>;

/// See the module. Clones share everything.
#[derive(Clone)]
pub struct Transport(Arc<Shared>);

struct Shared {
    network: Network,
    /// Units that run here, and their epochs.
    hosted: RwLock<BTreeMap<Unit, u64>>,
    /// Refuses what units of an older epoch than has been heard say.
    heard: Mutex<EpochFence>,
    /// For streams whose producer is here: takes in what its consumer says.
    producers: RwLock<BTreeMap<Name, Port>>,
    /// For streams whose consumer is here: takes in what its producer says.
    consumers: RwLock<BTreeMap<Name, Port>>,
    stale: AtomicU64,
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").field("network", &self.0.network).finish_non_exhaustive()
    }
}

impl Transport {
    /// The transport of one node.
    pub fn new(network: Network) -> Self {
        Self(Arc::new(Shared {
            network,
            hosted: RwLock::default(),
            heard: Mutex::default(),
            producers: RwLock::default(),
            consumers: RwLock::default(),
            stale: AtomicU64::new(0),
        }))
    }

    /// What it goes by.
    pub fn network(&self) -> &Network {
        &self.0.network
    }

    /// From now on `unit` runs here, since `epoch`: streams of its are taken in, and other nodes learn
    /// of it. `other` takes in messages that are not of a stream.
    pub fn host(
        &self,
        unit: Unit,
        epoch: u64,
        other: impl Fn(Request) -> Result<(), String> + Send + Sync + 'static,
    ) {
        // What other units here hear of it does not come by the network; once it has gone elsewhere,
        // they take nothing of a node that had it before.
        let _ = lock(&self.0.heard).admit(unit, epoch);
        write(&self.0.hosted).insert(unit, epoch);
        let shared = Arc::downgrade(&self.0);
        let handler = move |request: Request| {
            if request.kind != KIND {
                return other(request);
            }
            let shared = shared.upgrade().ok_or("this node is about to stop")?;
            shared.take_in(&request)
        };
        self.0.network.register(&unit.to_string(), Some(epoch), Arc::new(handler));
    }

    /// `unit` does not run here any more.
    pub fn release(&self, unit: Unit) {
        write(&self.0.hosted).remove(&unit);
        self.0.network.unregister(&unit.to_string());
        write(&self.0.producers).retain(|&(from, _), _| from != unit);
        write(&self.0.consumers).retain(|&(_, to), _| to != unit);
    }

    /// Messages that came from units which have a later life elsewhere.
    pub fn stale(&self) -> u64 {
        self.0.stale.load(Ordering::Relaxed)
    }

    /// The consuming end of a stream: takes what is to be said to the producer, wherever it is.
    pub fn consume<B: WireBlock>(&self, edge: Edge<B>) -> Outlet<Demand<B>> {
        let name = (edge.from, edge.to);
        let sink: Arc<Mutex<Option<Open<B>>>> = Arc::default();
        let (hello, frames) = (edge.hello.clone(), Arc::clone(&sink));
        let port = move |_: &Request, head: Head, rows: &[u8]| match head.speech {
            Speech::Hello => {
                // A consumer that is not there subscribes when it is.
                let _ = hello.send(());
                Ok(())
            }
            Speech::Frame { session, number, complete, more } => {
                let mut sink = lock(&frames);
                let Some(open) = sink.as_mut().filter(|open| open.session == session) else {
                    return Ok(());
                };
                let block = if open.next == number {
                    decode_block(rows)
                } else {
                    Err(format!("frame {number} came instead of {}", open.next))
                };
                match block {
                    Ok(block) => {
                        open.next += 1;
                        // A consumer that is gone has a successor, and that subscribes.
                        let _ = open.sink.send((session, Frame { block, complete, more }));
                        Ok(())
                    }
                    Err(reason) => {
                        // Nothing may come after what is missing: the consumer asks for it anew.
                        *sink = None;
                        let _ = hello.send(());
                        Err(reason)
                    }
                }
            }
            Speech::Subscribe { .. } | Speech::Credit { .. } | Speech::Stable(_) => {
                Err("a producer does not demand".into())
            }
        };
        write(&self.0.consumers).insert(name, Arc::new(port));
        let (outlet, demands) = Outlet::to_channel();
        let pump = Pump {
            shared: Arc::clone(&self.0),
            edge,
            demands,
            sink,
            route: None,
            told: None,
            stable: Key::START,
        };
        tokio::spawn(pump.run());
        outlet
    }

    /// The producing end of a stream: lets its consumer in, wherever that is, and returns what tells it
    /// that the producer has started anew.
    pub fn produce<B: WireBlock>(&self, edge: Edge<B>) -> Outlet<()> {
        let Edge { from, to, demand, hello } = edge;
        let latest = Arc::new(AtomicU64::new(0));
        let answered = Arc::clone(&latest);
        let shared = Arc::downgrade(&self.0);
        let say_hello = Outlet::to_function("hello", move |()| {
            let Some(shared) = shared.upgrade() else { return Ok(()) };
            if shared.is_here(to) {
                return hello.send(());
            }
            // A later hello says as much.
            let turn = latest.fetch_add(1, Ordering::Relaxed) + 1;
            let latest = Arc::clone(&latest);
            tokio::spawn(async move {
                let is_latest = || latest.load(Ordering::Relaxed) == turn;
                shared.hello((from, to), is_latest).await;
            });
            Ok(())
        });
        let (shared, hello) = (Arc::downgrade(&self.0), say_hello.clone());
        let last: Mutex<Option<(Peer, u64)>> = Mutex::default();
        let port = move |request: &Request, head: Head, _: &[u8]| {
            let demanded = match head.speech {
                Speech::Subscribe { session, after, credit } => {
                    let way = request.way.clone().ok_or("the consumer is on this node")?;
                    {
                        // What a predecessor of the consumer had left to say may come after what
                        // that says itself.
                        let mut last = lock(&last);
                        let known = last.as_ref().filter(|(peer, _)| *peer == request.from);
                        if known.is_some_and(|&(_, known)| session < known) {
                            return Ok(());
                        }
                        *last = Some((request.from.clone(), session));
                    }
                    let (sink, frames) = Outlet::to_channel();
                    let consumer = Consumer {
                        shared: shared.clone(),
                        name: (from, to),
                        way,
                        epoch: head.epoch,
                        hello: hello.clone(),
                    };
                    tokio::spawn(consumer.forward(frames));
                    let demanded = demand.send(Demand::Subscribe { session, after, credit, sink });
                    if demanded.is_ok() {
                        // It knows: no hello is on its way any more.
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                    demanded
                }
                Speech::Credit { session, rows } => demand.send(Demand::Credit { session, rows }),
                Speech::Stable(key) => demand.send(Demand::Stable(key)),
                Speech::Hello | Speech::Frame { .. } => {
                    return Err("a consumer sends no rows".into());
                }
            };
            // A producer that is not there says hello when it is.
            let _ = demanded;
            Ok(())
        };
        write(&self.0.producers).insert((from, to), Arc::new(port));
        say_hello
    }
}

impl Shared {
    fn is_here(&self, unit: Unit) -> bool {
        read(&self.hosted).contains_key(&unit)
    }

    /// The epoch of a unit here. What is not here any more has nothing to say, and 0 is older than every
    /// epoch.
    fn epoch(&self, unit: Unit) -> u64 {
        read(&self.hosted).get(&unit).copied().unwrap_or(0)
    }

    /// How `unit` is reached.
    fn route(&self, unit: Unit) -> Option<Route> {
        self.network.route(&unit.to_string())
    }

    /// A message for one end of a stream has come.
    fn take_in(&self, request: &Request) -> Result<(), String> {
        let (head, rows) = decode(&request.body)?;
        let from_producer = matches!(head.speech, Speech::Hello | Speech::Frame { .. });
        let speaker = if from_producer { head.from } else { head.to };
        if let Err(stale) = lock(&self.heard).admit(speaker, head.epoch) {
            self.stale.fetch_add(1, Ordering::Relaxed);
            return Err(stale.to_string());
        }
        let ports = if from_producer { &self.consumers } else { &self.producers };
        let port = read(ports).get(&(head.from, head.to)).map(Arc::clone);
        let Some(port) = port else {
            // Its unit is starting, and says so when it has.
            tracing::debug!(from = %head.from, to = %head.to, "there is no such stream here");
            return Ok(());
        };
        port(request, head, rows)
    }

    /// Says something to `unit`, which was last reached by `route`.
    async fn say(
        &self,
        unit: Unit,
        route: &Route,
        speaker: Unit,
        body: impl FnOnce(u64) -> Vec<u8>,
    ) -> Result<(), DeliveryError> {
        let role = unit.to_string();
        let body = body(self.epoch(speaker));
        let message =
            Message { role: &role, kind: KIND, epoch: route.epoch, body: &body, is_urgent: false };
        self.network.tell(Some(&route.node), message, PATIENCE).await
    }

    /// Tells a consumer elsewhere that its producer has started anew, as long as `is_wanted`, and again
    /// whenever the way to it changes. It may have started anew itself meanwhile, and what it asked
    /// for before this end was there has been lost, as has what this end said to its life before.
    async fn hello(&self, (from, to): Name, is_wanted: impl Fn() -> bool) {
        let deadline = Instant::now() + WAY_PATIENCE;
        let mut routes = self.network.routes();
        let mut told = None;
        while is_wanted() && Instant::now() < deadline {
            let route = self.route(to).filter(|route| told.as_ref() != Some(route));
            if let Some(route) = route {
                let head = |epoch| Head { from, to, epoch, speech: Speech::Hello };
                match self.say(to, &route, from, |epoch| encode(&head(epoch))).await {
                    Ok(()) => told = Some(route),
                    Err(_) => sleep(RETRY).await,
                }
            } else if !matches!(timeout_at(deadline, routes.changed()).await, Ok(Ok(()))) {
                return;
            }
        }
    }
}

/// Where frames of the current session go.
struct Open<B> {
    session: u64,
    /// The number of the next frame.
    next: u64,
    sink: Sink<B>,
}

/// A consumer on another node, for the length of one session.
struct Consumer {
    shared: Weak<Shared>,
    name: Name,
    /// The link by which it has subscribed. The session ends with it: of what was under way nobody knows
    /// how much has arrived.
    way: Way,
    /// Its life that has subscribed.
    epoch: u64,
    hello: Outlet<()>,
}

impl Consumer {
    /// Sends frames until the session has ended, or they cannot be sent.
    async fn forward<B: WireBlock>(self, mut frames: mpsc::UnboundedReceiver<Delivery<B>>) {
        let Self { shared, name: (from, to), way, epoch, hello } = self;
        let role = to.to_string();
        let mut number = 0;
        while let Some((session, frame)) = frames.recv().await {
            let Some(own) = shared.upgrade().map(|shared| shared.epoch(from)) else { return };
            let (complete, more) = (frame.complete, frame.more);
            let speech = Speech::Frame { session, number, complete, more };
            number += 1;
            let body = encode_frame(&Head { from, to, epoch: own, speech }, &frame);
            let message = Message { role: &role, kind: KIND, epoch, body: &body, is_urgent: false };
            match way.tell(message, PATIENCE).await {
                Ok(()) => {}
                // The consumer subscribes by the next link.
                Err(DeliveryError::Ended(_)) => return,
                Err(error) => {
                    tracing::warn!(%from, %to, %error, "a frame was not delivered");
                    sleep(RETRY).await;
                    let _ = hello.send(());
                    return;
                }
            }
        }
    }
}

/// Carries what a consumer says to its producer, and watches where that is.
struct Pump<B> {
    shared: Arc<Shared>,
    edge: Edge<B>,
    demands: mpsc::UnboundedReceiver<Demand<B>>,
    sink: Arc<Mutex<Option<Open<B>>>>,
    /// The way by which the consumer has subscribed.
    route: Option<Route>,
    /// The way of which the consumer was told.
    told: Option<Route>,
    stable: Key,
}

impl<B: WireBlock> Pump<B> {
    async fn run(mut self) {
        let mut routes = self.shared.network.routes();
        loop {
            tokio::select! {
                demand = self.demands.recv() => match demand {
                    Some(demand) => self.on_demand(demand).await,
                    // The consumer has a successor, with a pump of its own.
                    None => return,
                },
                changed = routes.changed() => if changed.is_err() { return },
            }
            let now = self.shared.route(self.edge.from);
            if now.is_some() && now != self.route && now != self.told {
                self.told = now;
                let _ = self.edge.hello.send(());
            }
        }
    }

    async fn on_demand(&mut self, demand: Demand<B>) {
        let now = self.shared.route(self.edge.from);
        match &demand {
            Demand::Subscribe { session, sink, .. } => {
                let open = Open { session: *session, next: 0, sink: sink.clone() };
                *lock(&self.sink) = Some(open);
                self.route = now;
                self.told = None;
            }
            Demand::Stable(key) => self.stable = *key,
            Demand::Credit { .. } => {}
        }
        let Some(route) = self.route.clone() else { return };
        if !route.is_remote() {
            let to = self.edge.to;
            if lock(&self.shared.heard).admit(to, self.shared.epoch(to)).is_err() {
                // Its later life elsewhere has the stream now, and must not lose it to this one.
                return;
            }
            // A producer that is not there says hello when it is.
            let _ = self.edge.demand.send(demand);
            return;
        }
        let (speech, is_new) = match demand {
            Demand::Subscribe { session, after, credit, .. } => {
                (Speech::Subscribe { session, after, credit }, true)
            }
            Demand::Credit { session, rows } => (Speech::Credit { session, rows }, false),
            Demand::Stable(key) => (Speech::Stable(key), false),
        };
        let mut said = self.say(&route, speech).await;
        if said.is_ok() && is_new && self.stable != Key::START {
            // What was said before may have been lost.
            said = self.say(&route, Speech::Stable(self.stable)).await;
        }
        if said.is_err() {
            sleep(RETRY).await;
            self.route = None;
            self.told = None;
        }
    }

    async fn say(&self, route: &Route, speech: Speech) -> Result<(), DeliveryError> {
        let (from, to) = (self.edge.from, self.edge.to);
        let body = |epoch| encode(&Head { from, to, epoch, speech });
        self.shared.say(from, route, to, body).await
    }
}
