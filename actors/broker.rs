//! A paper broker as an actor: takes orders and says what became of them, when it is due.
//!
//! ```text
//! router ── BrokerStep ──▶ PaperBroker ──▶ BrokerDone ──▶ router
//! ```
//!
//! *Failover.* Its state is part of exec's checkpoint. A broker that has just started is blank until
//! risk begins a new epoch.
//!
//! *Delivery.* In lockstep with risk, see [`crate::kit::exec`].

use std::fmt;
use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use ractor_cluster::RactorMessage;
use serde::{Deserialize, Serialize};
use tickwright_core::domain::Histogram;
use tickwright_core::domain::{BrokerId, Instrument, InstrumentIndex};
use tickwright_core::pipeline::venue::{PaperBroker, PaperBrokerConfig};

pub use crate::kit::exec::BrokerReport;

use crate::kit::exec::{BrokerDone, BrokerStep, Epoch, Listing, Want};
use crate::kit::{Chaos, Directory, Outlet, monotonic_nanos, wire};

/// The role of a broker: 0 is the primary.
pub fn role(broker: usize) -> String {
    format!("broker/{broker}")
}

/// Everything the mailbox holds.
#[derive(Debug, RactorMessage)]
pub enum BrokerMessage {
    /// From risk by way of the router: begin this epoch with this state, or with none.
    Restore(Epoch, Option<Vec<u8>>),
    /// From the router.
    Step(BrokerStep),
    /// What has been done?
    Report(RpcReplyPort<BrokerReport>),
}

/// What the actor is started with.
pub struct BrokerArguments {
    /// Which broker.
    pub broker: BrokerId,
    /// How it behaves.
    pub config: PaperBrokerConfig,
    /// What its chances are drawn from.
    pub seed: u64,
    /// Faults on command.
    pub chaos: Chaos,
    /// Where to register.
    pub directory: Directory,
    /// Reaches the router.
    pub done: Outlet<BrokerDone>,
    /// Tells risk that this actor has started.
    pub hello: Outlet<()>,
}

impl fmt::Debug for BrokerArguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerArguments").field("broker", &self.broker).finish_non_exhaustive()
    }
}

/// The actor.
#[derive(Debug)]
pub struct BrokerActor;

/// What the actor owns while it runs.
#[derive(Debug)]
pub struct BrokerState {
    arguments: BrokerArguments,
    epoch: Epoch,
    broker: PaperBroker,
    listings: Listings,
    latency: Histogram,
}

/// Symbols of sources, in exec's own numbering.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Listings {
    /// By source, then symbol.
    indexes: Vec<Vec<Option<InstrumentIndex>>>,
    /// By exec's number.
    instruments: Vec<Option<Arc<Instrument>>>,
}

impl Listings {
    fn add(&mut self, listing: &Listing) {
        let source = usize::from(listing.source.0);
        if self.indexes.len() <= source {
            self.indexes.resize_with(source + 1, Vec::new);
        }
        let symbols = &mut self.indexes[source];
        if symbols.len() <= listing.symbol.index() {
            symbols.resize(listing.symbol.index() + 1, None);
        }
        symbols[listing.symbol.index()] = Some(listing.index);
        if self.instruments.len() <= listing.index.index() {
            self.instruments.resize(listing.index.index() + 1, None);
        }
        self.instruments[listing.index.index()] = Some(Arc::clone(&listing.instrument));
    }
}

/// What survives: a broker's part of exec's checkpoint.
#[derive(Serialize, Deserialize)]
struct Checkpoint {
    broker: PaperBroker,
    listings: Listings,
    latency: Histogram,
}

impl Actor for BrokerActor {
    type Msg = BrokerMessage;
    type State = BrokerState;
    type Arguments = BrokerArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<BrokerMessage>,
        arguments: BrokerArguments,
    ) -> Result<BrokerState, ActorProcessingErr> {
        let BrokerArguments { broker: id, config, seed, directory, hello, .. } = &arguments;
        let broker = PaperBroker::new(config.clone(), *id, *seed);
        directory.register(&role(usize::from(id.0)), &myself);
        // Risk is not there yet at the first start; then it begins the epoch by itself.
        let _ = hello.send(());
        let (listings, latency) = (Listings::default(), Histogram::default());
        Ok(BrokerState { arguments, epoch: 0, broker, listings, latency })
    }

    async fn handle(
        &self,
        _myself: ActorRef<BrokerMessage>,
        message: BrokerMessage,
        state: &mut BrokerState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            BrokerMessage::Restore(epoch, bytes) => state.restore(epoch, bytes)?,
            BrokerMessage::Step(step) if step.epoch == state.epoch => state.step(&step)?,
            // Left over from an epoch that has ended.
            BrokerMessage::Step(_) => {}
            BrokerMessage::Report(reply) => {
                let (counters, latency) = (*state.broker.counters(), state.latency.clone());
                // A caller that stopped waiting is its own affair.
                let _ = reply.send(BrokerReport { counters, latency });
            }
        }
        Ok(())
    }
}

impl BrokerState {
    fn restore(&mut self, epoch: Epoch, bytes: Option<Vec<u8>>) -> Result<(), ActorProcessingErr> {
        self.epoch = epoch;
        let BrokerArguments { broker, config, seed, .. } = &self.arguments;
        match bytes {
            Some(bytes) => {
                let checkpoint: Checkpoint = wire::decode(&bytes)?;
                self.broker = checkpoint.broker;
                self.listings = checkpoint.listings;
                // What is repeated from here is timed again, and counted once.
                self.latency = checkpoint.latency;
            }
            None => {
                self.broker = PaperBroker::new(config.clone(), *broker, *seed);
                self.listings = Listings::default();
                self.latency = Histogram::default();
            }
        }
        Ok(())
    }

    fn step(&mut self, step: &BrokerStep) -> Result<(), ActorProcessingErr> {
        step.listings.iter().for_each(|listing| self.listings.add(listing));
        for (placement, origin_nanos) in &step.placements {
            let index = placement.order.instrument.index();
            let instrument = self.listings.instruments.get(index).and_then(Option::as_ref);
            let instrument =
                instrument.ok_or("an order for an instrument that was never listed")?;
            self.broker.place(placement, instrument);
            if *origin_nanos > 0 {
                self.latency.record(monotonic_nanos().saturating_sub(*origin_nanos));
            }
        }
        for &(order, at) in &step.cancels {
            self.broker.cancel(order, at);
        }
        let mut events = Vec::new();
        for run in step.runs.iter() {
            let source = usize::from(run.block.source.0);
            let symbols = self.listings.indexes.get(source).map_or(&[][..], Vec::as_slice);
            let resolve = |symbol: tickwright_core::domain::SymbolId| {
                symbols.get(symbol.index()).copied().flatten()
            };
            self.broker.feed(&run.block, run.rows.clone(), resolve, &mut events);
        }
        match step.want {
            Want::Advance(to) => self.broker.advance(to, &mut events),
            Want::Expire => self.broker.finish(&mut events),
            Want::Nothing | Want::Verdict | Want::State => {}
        }
        let BrokerArguments { broker, chaos, done, .. } = &self.arguments;
        chaos.strike("broker", usize::from(broker.0), self.broker.counters().placed);
        let is_asked = matches!(step.want, Want::Advance(_) | Want::Expire | Want::State);
        if !is_asked {
            debug_assert!(events.is_empty(), "what is due was asked for before");
            return Ok(());
        }
        let state = (step.want == Want::State).then(|| {
            let listings = self.listings.clone();
            let (broker, latency) = (self.broker.clone(), self.latency.clone());
            wire::encode(&Checkpoint { broker, listings, latency })
        });
        let next_arrival = self.broker.next_arrival();
        let (epoch, broker) = (self.epoch, *broker);
        // If the router has gone, another epoch begins.
        let _ = done.send(BrokerDone { epoch, broker, events, next_arrival, state });
        Ok(())
    }
}
