//! The order router actor: takes approved orders to the broker that is active.
//!
//! ```text
//! risk ── Step ──▶ Router ──▶ BrokerStep ──▶ brokers
//!      ◀─ StepDone ───────── BrokerDone ◀──┘
//! ```
//!
//! *Failover.* Its state is part of exec's checkpoint. A router that has just started is blank until
//! risk begins a new epoch.
//!
//! *Delivery.* In lockstep with risk, see [`crate::kit::exec`].

use std::fmt;
use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use ractor_cluster::RactorMessage;
use serde::{Deserialize, Serialize};
use tickwright_core::domain::{
    BrokerEvent, BrokerEventKind, BrokerId, OrderId, Placement, Span, TickBatch, Timestamp,
};
use tickwright_core::pipeline::router::{Router, RouterConfig, RouterCounters, RouterEffect};
use tickwright_core::stream::Run;

use crate::kit::exec::{BrokerDone, BrokerStep, Epoch, RouterInput, Step, StepDone, Want};
use crate::kit::{Chaos, Directory, Outlet, wire};

/// The router's role.
pub const ROLE: &str = "router";

/// How many brokers there are: the primary and the backup.
pub const BROKERS: usize = 2;

/// Everything the mailbox holds.
#[derive(Debug, RactorMessage)]
pub enum RouterMessage {
    /// From risk: begin this epoch with this state, or with none.
    Restore(Epoch, Option<Vec<u8>>),
    /// From risk.
    Step(Box<Step>),
    /// From a broker.
    Done(BrokerDone),
    /// What has been routed?
    Report(RpcReplyPort<RouterCounters>),
}

/// What the actor is started with.
pub struct RouterArguments {
    /// How brokers are judged.
    pub config: RouterConfig,
    /// The least that any broker takes to answer.
    pub latency_min: Span,
    /// Faults on command.
    pub chaos: Chaos,
    /// Where to register.
    pub directory: Directory,
    /// Reaches each broker.
    pub brokers: [Outlet<BrokerStep>; BROKERS],
    /// Begins an epoch at each broker.
    pub restore_brokers: [Outlet<(Epoch, Option<Vec<u8>>)>; BROKERS],
    /// Reaches risk.
    pub done: Outlet<(Epoch, StepDone)>,
    /// Tells risk that this actor has started.
    pub hello: Outlet<()>,
}

impl fmt::Debug for RouterArguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouterArguments").field("config", &self.config).finish_non_exhaustive()
    }
}

/// The actor.
#[derive(Debug)]
pub struct RouterActor;

/// What the actor owns while it runs.
#[derive(Debug)]
pub struct RouterState {
    arguments: RouterArguments,
    epoch: Epoch,
    router: Router,
    /// When the next order arrives at each broker, as far as it is known.
    next_arrival: [Option<Timestamp>; BROKERS],
    /// Orders routed so far.
    orders: u64,
    /// Rows beyond what the brokers may see before the next verdict. Not in the checkpoint: risk has
    /// not come so far either, and sends them again.
    held: Vec<Run<TickBatch>>,
    waiting: Option<Waiting>,
    /// Whether brokers were told that what happens is new.
    is_settled: bool,
}

/// An answer in the making.
#[derive(Debug)]
struct Waiting {
    to: Timestamp,
    wants_state: bool,
    missing: usize,
    events: Vec<BrokerEvent>,
    states: [Vec<u8>; BROKERS],
}

/// What survives: the router's part of exec's checkpoint, the brokers' included.
#[derive(Serialize, Deserialize)]
struct Checkpoint {
    router: Router,
    orders: u64,
    next_arrival: [Option<Timestamp>; BROKERS],
    brokers: [Vec<u8>; BROKERS],
}

impl Actor for RouterActor {
    type Msg = RouterMessage;
    type State = RouterState;
    type Arguments = RouterArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<RouterMessage>,
        arguments: RouterArguments,
    ) -> Result<RouterState, ActorProcessingErr> {
        let router = Router::new(arguments.config);
        arguments.directory.register(ROLE, &myself);
        // Risk is not there yet at the first start; then it begins the epoch by itself.
        let _ = arguments.hello.send(());
        let next_arrival = [None; BROKERS];
        Ok(RouterState {
            arguments,
            epoch: 0,
            router,
            next_arrival,
            orders: 0,
            held: Vec::new(),
            waiting: None,
            is_settled: false,
        })
    }

    async fn handle(
        &self,
        _myself: ActorRef<RouterMessage>,
        message: RouterMessage,
        state: &mut RouterState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            RouterMessage::Restore(epoch, bytes) => state.restore(epoch, bytes)?,
            RouterMessage::Step(step) if step.epoch == state.epoch => state.step(*step),
            RouterMessage::Done(done) if done.epoch == state.epoch => state.on_done(done),
            // Left over from an epoch that has ended.
            RouterMessage::Step(_) | RouterMessage::Done(_) => {}
            RouterMessage::Report(reply) => {
                // A caller that stopped waiting is its own affair.
                let _ = reply.send(*state.router.counters());
            }
        }
        Ok(())
    }
}

impl RouterState {
    fn restore(&mut self, epoch: Epoch, bytes: Option<Vec<u8>>) -> Result<(), ActorProcessingErr> {
        self.epoch = epoch;
        self.held.clear();
        self.waiting = None;
        self.is_settled = false;
        let mut brokers = [None, None];
        match bytes {
            Some(bytes) => {
                let checkpoint: Checkpoint = wire::decode(&bytes)?;
                self.router = checkpoint.router;
                self.orders = checkpoint.orders;
                self.next_arrival = checkpoint.next_arrival;
                brokers = checkpoint.brokers.map(Some);
            }
            None => {
                self.router = Router::new(self.arguments.config);
                self.orders = 0;
                self.next_arrival = [None; BROKERS];
            }
        }
        for (outlet, bytes) in self.arguments.restore_brokers.iter().zip(brokers) {
            // A broker that is not there says hello when it is, and another epoch begins.
            let _ = outlet.send((epoch, bytes));
        }
        Ok(())
    }

    fn step(&mut self, step: Step) {
        let Step { epoch, listings, inputs, runs, want, is_settled } = step;
        let mut placements: [Vec<(Placement, u64)>; BROKERS] = Default::default();
        let mut cancels: [Vec<(OrderId, Timestamp)>; BROKERS] = Default::default();
        let mut stopped = None;
        let mut verdict = Vec::new();
        let mut effects = Vec::new();
        for input in inputs {
            match input {
                RouterInput::Order { approved, at, origin_nanos } => {
                    self.orders += 1;
                    if let Some((broker, placement)) = self.router.route(&approved, at) {
                        self.place(&mut placements, broker, placement, origin_nanos);
                    }
                }
                RouterInput::Cancel(order, at) => {
                    if let Some(broker) = self.router.cancel(order) {
                        cancels[usize::from(broker.0).min(BROKERS - 1)].push((order, at));
                    }
                }
                RouterInput::Stopped(scopes) => stopped = Some(Arc::new(scopes)),
                RouterInput::Event { event, top } => {
                    effects.clear();
                    self.router.on_event(&event, |_| top, &mut effects);
                    for effect in effects.drain(..) {
                        match effect {
                            // Risk has taken this one in already.
                            RouterEffect::Forward(same) if same == event && !is_refusal(&event) => {
                            }
                            RouterEffect::Forward(event) => verdict.push(event),
                            RouterEffect::Place { broker, placement } => {
                                self.place(&mut placements, broker, placement, 0);
                            }
                        }
                    }
                }
            }
        }
        self.arguments.chaos.strike("router", 0, self.orders);
        let to_brokers = match want {
            Want::Nothing | Want::Verdict => Want::Nothing,
            Want::Advance(to) => Want::Advance(self.limit(to)),
            Want::Expire | Want::State => want,
        };
        let runs = self.due_rows(runs, to_brokers);
        let settles = is_settled && !std::mem::replace(&mut self.is_settled, is_settled);
        let is_for_all = settles
            || stopped.is_some()
            || !runs.is_empty()
            || !listings.is_empty()
            || to_brokers != Want::Nothing;
        let (listings, runs) = (Arc::new(listings), Arc::new(runs));
        // The primary last, as whoever is woken last runs next.
        let parts = placements.into_iter().zip(cancels);
        for (outlet, (placements, cancels)) in self.arguments.brokers.iter().zip(parts).rev() {
            if !is_for_all && placements.is_empty() && cancels.is_empty() {
                continue;
            }
            let (listings, runs) = (Arc::clone(&listings), Arc::clone(&runs));
            let step = BrokerStep {
                epoch,
                listings,
                placements,
                cancels,
                stopped: stopped.clone(),
                runs,
                want: to_brokers,
                is_settled,
            };
            // A broker that is not there says hello when it is, and another epoch begins.
            let _ = outlet.send(step);
        }
        match to_brokers {
            Want::Nothing if want == Want::Verdict => self.answer(StepDone::Verdict(verdict)),
            Want::Nothing | Want::Verdict => {}
            Want::Advance(to) => self.wait(to, false),
            Want::Expire => self.wait(Timestamp::from_nanos(u64::MAX), false),
            Want::State => self.wait(Timestamp::from_nanos(0), true),
        }
    }

    /// The rows that brokers may be fed now. A row later than what they may advance to would move
    /// their time past the arrival of an order that is yet to be offered again.
    fn due_rows(&mut self, runs: Vec<Run<TickBatch>>, want: Want) -> Vec<Run<TickBatch>> {
        let until = match want {
            Want::Advance(to) => to,
            Want::Expire => Timestamp::from_nanos(u64::MAX),
            // Rows that risk has done; those held are later.
            Want::Nothing | Want::Verdict | Want::State => return runs,
        };
        self.held.extend(runs);
        let mut due = Vec::with_capacity(self.held.len());
        for run in std::mem::take(&mut self.held) {
            let (head, rest) = run.split_until(until);
            due.extend((!head.rows.is_empty()).then_some(head));
            self.held.extend((!rest.rows.is_empty()).then_some(rest));
        }
        due
    }

    fn place(
        &mut self,
        placements: &mut [Vec<(Placement, u64)>; BROKERS],
        broker: BrokerId,
        placement: Placement,
        origin_nanos: u64,
    ) {
        let index = usize::from(broker.0).min(BROKERS - 1);
        let arrives = placement.at.frontier.after(self.arguments.latency_min);
        let next = &mut self.next_arrival[index];
        *next = Some(next.map_or(arrives, |next| next.min(arrives)));
        placements[index].push((placement, origin_nanos));
    }

    /// How far the brokers may go before what they say must have been routed: an order that arrives
    /// may be refused, and then arrives at the other broker no sooner than `latency_min` later.
    fn limit(&self, to: Timestamp) -> Timestamp {
        if !self.arguments.config.has_backup {
            return to;
        }
        let ahead = self.arguments.latency_min.saturating_sub(Span::from_nanos(1));
        let arrivals = self.next_arrival.iter().flatten();
        arrivals.map(|arrival| arrival.after(ahead)).fold(to, Timestamp::min)
    }

    fn wait(&mut self, to: Timestamp, wants_state: bool) {
        let states = Default::default();
        let (missing, events) = (BROKERS, Vec::new());
        self.waiting = Some(Waiting { to, wants_state, missing, events, states });
    }

    fn on_done(&mut self, done: BrokerDone) {
        let index = usize::from(done.broker.0).min(BROKERS - 1);
        self.next_arrival[index] = done.next_arrival;
        let Some(waiting) = &mut self.waiting else { return };
        waiting.events.extend(done.events);
        waiting.states[index] = done.state.unwrap_or_default();
        waiting.missing -= 1;
        if waiting.missing > 0 {
            return;
        }
        let Some(Waiting { to, wants_state, mut events, states, .. }) = self.waiting.take() else {
            return;
        };
        if wants_state {
            let checkpoint = Checkpoint {
                router: self.router.clone(),
                orders: self.orders,
                next_arrival: self.next_arrival,
                brokers: states,
            };
            return self.answer(StepDone::State(wire::encode(&checkpoint)));
        }
        events.sort_by_key(BrokerEvent::sort_key);
        self.answer(StepDone::Advanced { to, events });
    }

    fn answer(&self, done: StepDone) {
        // If risk has gone, its successor begins another epoch.
        let _ = self.arguments.done.send((self.epoch, done));
    }
}

fn is_refusal(event: &BrokerEvent) -> bool {
    matches!(event.kind, BrokerEventKind::Refused(_))
}
