//! A broker outside: takes orders to an exchange, by the order protocol, and says what became of them.
//!
//! ```text
//! router ── BrokerStep ──▶ Orders ─┬─▶ the ledger: intents, and what became of them
//!                                  ├─▶ the exchange: requests, questions
//! risk   ◀────── events ───────────┴──── what either of them says
//! ```
//!
//! There is one [`Orders`] for each account whose keys this broker has, see `desk`. Exec has one log of what is
//! said, whoever it is of, so one actor for all of them keeps one answer to a step and one part of a checkpoint.
//!
//! What it says has no time: exec gives it one, and writes it down, see
//! [`tickwright_core::stream::Lockstep::on_outside`].
//!
//! *Failover.* Its state is part of exec's checkpoint. Whoever goes on from there reads the ledger and the
//! exchange first, and says everything again that may not have been heard.
//!
//! *Delivery.* Orders come in lockstep with risk, see [`crate::kit::exec`]. What goes to the exchange is
//! sent once.

mod answers;
mod client;
mod desk;
mod locks;
mod open;
mod reach;
mod reconcile;
mod stream;
mod tasks;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use ractor_cluster::RactorMessage;
use serde_json::Value;
use tickwright_core::config::SecretPlace;
use tickwright_core::domain::{
    AccountId, BrokerEvent, BrokerEventKind, BrokerId, ClientOrderId, Histogram, Instrument,
    InstrumentIndex, Order, OrderId, Placement, Quantity, Scope, SignalIdentity, SlotDone,
    SlotRefusal, StrategyId, Symbol, Timestamp,
};
use tickwright_core::pipeline::orders::{
    Answer, Found, NewOrder, OrderReport, Orders, OrdersConfig, OrdersSnapshot, RefusalFound,
    SlotsFound, Stopped, TradeReport,
};
use tickwright_core::pipeline::venue::BrokerCounters;

use tokio::task::JoinSet;

use crate::kit::exec::{BrokerDone, BrokerReport, BrokerStep, Epoch, Want};
use crate::kit::{Clock, Directory, Outlet, ResumedFrom, Secrets, monotonic_nanos, wire};
use crate::ledger::LedgerClient;

use answers::ToldOrder;
use desk::Desk;
pub use locks::OrderLocks;
use open::OpenOrder;
pub use reach::Quiet;
pub use reconcile::{ADOPT_PATIENCE, RECONCILE_PATIENCE};

/// The role of a broker outside: 0 is the primary.
pub fn role(broker: usize) -> String {
    format!("exchange_broker/{broker}")
}

/// Between two looks at what is due.
const WAKE_EVERY: Duration = Duration::from_millis(20);

/// Everything the mailbox holds.
#[derive(Debug, RactorMessage)]
pub enum ExchangeBrokerMessage {
    /// From risk by way of the router: begin this epoch with this state, or with none.
    Restore(Epoch, Option<Vec<u8>>),
    /// From the router.
    Step(BrokerStep),
    /// From risk: this has taken effect.
    Heard(BrokerEvent),
    /// What has been done?
    Report(RpcReplyPort<BrokerReport>),
    /// From an operator: look through the whole of this account, and have positions take over what others have
    /// traded, if that is wanted.
    Reconcile(AccountId, bool, RpcReplyPort<Result<Value, String>>),
    /// From an operator, who has looked: the exchange has this order, or never will.
    Release(String, bool, RpcReplyPort<Result<Value, String>>),
    /// What has come back, to the life that asked, of an account.
    Back(u64, AccountId, Box<Back>),
    /// The exchange tells by itself how an order of an account stands.
    Told(AccountId, ToldOrder),
    /// Time has passed.
    Wake,
}

/// What was asked for has come, or has not.
#[derive(Debug)]
pub enum Back {
    /// From the ledger.
    Committed(Vec<Result<SlotDone, SlotRefusal>>),
    /// From the ledger; none, if it gave no answer.
    Slots(Option<SlotsFound>),
    /// The ledger cannot tell whether a command was carried out.
    Confused(String),
    /// Of a request.
    Answer(ClientOrderId, u32, Answer),
    /// Of a question about an order.
    Found(ClientOrderId, Found),
    /// Of a cancellation.
    Cancelled(ClientOrderId, Found),
    /// The exchange's time, and when it was asked for.
    Time(Timestamp, Option<Timestamp>),
    /// Of a symbol, and whether there are no more.
    Trades(Symbol, Option<(Vec<TradeReport>, bool)>),
    /// From the ledger: where an order was refused, see [`Orders::on_refusal`].
    Refusal(SignalIdentity, Option<RefusalFound>),
    /// Of one order, and whether there are no more.
    TradesOf(ClientOrderId, Option<(Vec<TradeReport>, bool)>),
    /// Of a symbol, and whether there are no more.
    History(Symbol, Option<(Vec<OrderReport>, bool)>),
    /// Whether a session has begun.
    Session(bool),
    /// All that is open in the account, or why it is not known.
    Open(Result<Vec<OpenOrder>, String>),
}

/// Where the exchange is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExchangeAddress {
    /// The base of its REST addresses.
    pub base_url: String,
    /// The base of the addresses of its streams; none, if orders are only asked about.
    pub stream_url: Option<String>,
    /// Certificates of those who vouch for it beside those that browsers believe, in PEM.
    pub tls_ca_file: Option<PathBuf>,
    /// How long an answer is waited for.
    pub patience: Duration,
}

/// An account there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExchangeAccount {
    /// Which.
    pub account: AccountId,
    /// One line, `KEY:SECRET`.
    pub keys: SecretPlace,
    /// The protocol.
    pub orders: OrdersConfig,
}

/// What the actor is started with.
pub struct ExchangeBrokerArguments {
    /// Which broker.
    pub broker: BrokerId,
    /// Where.
    pub address: ExchangeAddress,
    /// Whether it has asked to be left alone: that outlives the actor.
    pub quiet: Quiet,
    /// What opens the keys, if they are a secret of the shared configuration.
    pub secrets: Secrets,
    /// Whether a person says that nothing older is under way.
    pub assume_reconciled: bool,
    /// Whose orders leave from here.
    pub accounts: Vec<ExchangeAccount>,
    /// What the other broker's exchange is called, if there is another: orders that it refused come here.
    pub other: Option<String>,
    /// Which pipeline this is: its signals are used once.
    pub run: String,
    /// Names of strategies, by number.
    pub strategies: Vec<String>,
    /// What must be agreed on.
    pub ledger: LedgerClient,
    /// Who keeps the locks of orders; none, if there is one executor.
    pub locks: Option<OrderLocks>,
    /// For what is due.
    pub clock: Clock,
    /// Where to register.
    pub directory: Directory,
    /// Reaches the router.
    pub done: Outlet<BrokerDone>,
    /// Reaches risk.
    pub said: Outlet<BrokerEvent>,
    /// Tells risk that this actor has started.
    pub hello: Outlet<()>,
    /// Tells whoever records that positions are rebuilt from what an account has.
    pub resumed: Option<Outlet<ResumedFrom>>,
}

impl fmt::Debug for ExchangeBrokerArguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExchangeBrokerArguments")
            .field("broker", &self.broker)
            .field("address", &self.address.base_url)
            .finish_non_exhaustive()
    }
}

/// The actor.
#[derive(Debug)]
pub struct ExchangeBrokerActor;

/// What the actor owns while it runs.
#[derive(Debug)]
pub struct ExchangeBrokerState {
    myself: ActorRef<ExchangeBrokerMessage>,
    arguments: ExchangeBrokerArguments,
    /// One for each account.
    desks: BTreeMap<AccountId, Desk>,
    /// Ends with the actor.
    _listening: JoinSet<()>,
    epoch: Epoch,
    /// Counts epochs: what comes back for an earlier one is dropped.
    life: u64,
    /// By exec's number.
    instruments: BTreeMap<InstrumentIndex, Arc<Instrument>>,
    by_symbol: BTreeMap<Symbol, (InstrumentIndex, Arc<Instrument>)>,
    /// Orders whose last word was not heard. Bounded by the live orders that risk allows.
    orders: BTreeMap<OrderId, Order>,
    /// Whether this epoch goes on from a checkpoint.
    is_resumed: bool,
    /// Whoever waits until all orders are over.
    expiring: bool,
    /// Orders whose last word exec has heard again before it placed them again, and what had not traded then; none,
    /// if it was refused. Emptied when what happens is new.
    ended: BTreeMap<OrderId, Option<Quantity>>,
    is_settled: bool,
    counters: BrokerCounters,
    latency: Histogram,
}

impl Actor for ExchangeBrokerActor {
    type Msg = ExchangeBrokerMessage;
    type State = ExchangeBrokerState;
    type Arguments = ExchangeBrokerArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<ExchangeBrokerMessage>,
        arguments: ExchangeBrokerArguments,
    ) -> Result<ExchangeBrokerState, ActorProcessingErr> {
        let (desks, listening) = desk::open(&arguments, &myself).await?;
        arguments.directory.register(&role(usize::from(arguments.broker.0)), &myself);
        myself.send_interval(WAKE_EVERY, || ExchangeBrokerMessage::Wake);
        // Risk is not there yet at the first start; then it begins the epoch by itself.
        let _ = arguments.hello.send(());
        Ok(ExchangeBrokerState {
            myself,
            arguments,
            desks,
            _listening: listening,
            epoch: 0,
            life: 0,
            instruments: BTreeMap::new(),
            by_symbol: BTreeMap::new(),
            orders: BTreeMap::new(),
            is_resumed: false,
            expiring: false,
            ended: BTreeMap::new(),
            is_settled: false,
            counters: BrokerCounters::default(),
            latency: Histogram::default(),
        })
    }

    async fn handle(
        &self,
        _myself: ActorRef<ExchangeBrokerMessage>,
        message: ExchangeBrokerMessage,
        state: &mut ExchangeBrokerState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ExchangeBrokerMessage::Restore(epoch, bytes) => state.restore(epoch, bytes)?,
            ExchangeBrokerMessage::Step(step) if step.epoch == state.epoch => state.step(&step)?,
            // Left over from an epoch that has ended.
            ExchangeBrokerMessage::Step(_) => {}
            ExchangeBrokerMessage::Heard(event) => state.on_heard(&event),
            ExchangeBrokerMessage::Report(reply) => {
                let (counters, latency) = (state.counted(), state.latency.clone());
                // A caller that stopped waiting is its own affair.
                let _ = reply.send(BrokerReport { counters, latency });
            }
            ExchangeBrokerMessage::Reconcile(account, adopts, reply) => {
                state.reconcile(account, adopts, reply);
            }
            ExchangeBrokerMessage::Release(client_id, is_there, reply) => {
                let _ = reply.send(state.release(&client_id, is_there));
            }
            ExchangeBrokerMessage::Back(life, account, back) if life == state.life => {
                state.on_back(account, *back)?
            }
            ExchangeBrokerMessage::Back(..) => {}
            ExchangeBrokerMessage::Told(account, told) => state.on_told(account, &told),
            ExchangeBrokerMessage::Wake => state.with_all(Orders::on_wake),
        }
        state.consider_reconciled();
        state.tell_recovered();
        state.consider_expired();
        Ok(())
    }
}

/// What survives: this broker's part of exec's checkpoint.
#[derive(serde::Serialize, serde::Deserialize)]
struct Checkpoint {
    /// By the account's name.
    orders: BTreeMap<String, OrdersSnapshot>,
    placed: Vec<(OrderId, Order)>,
    instruments: Vec<(InstrumentIndex, Arc<Instrument>)>,
    counters: BrokerCounters,
}

impl ExchangeBrokerState {
    fn now(&self) -> Timestamp {
        self.arguments.clock.now()
    }

    fn restore(&mut self, epoch: Epoch, bytes: Option<Vec<u8>>) -> Result<(), ActorProcessingErr> {
        self.epoch = epoch;
        self.life += 1;
        self.is_resumed = bytes.is_some();
        self.expiring = false;
        self.give_up_adopting();
        self.instruments.clear();
        self.by_symbol.clear();
        let mut snapshots = BTreeMap::new();
        (self.orders, self.counters) = (BTreeMap::new(), BrokerCounters::default());
        if let Some(bytes) = bytes {
            let checkpoint: Checkpoint = wire::decode(&bytes)?;
            self.orders = checkpoint.placed.into_iter().collect();
            self.counters = checkpoint.counters;
            checkpoint.instruments.into_iter().for_each(|(index, of)| self.list(index, of));
            snapshots = checkpoint.orders;
        }
        desk::restore(&mut self.desks, snapshots, self.arguments.broker)?;
        self.ended.clear();
        self.is_settled = false;
        self.with_all(Orders::start);
        Ok(())
    }

    /// What was said so far, and what the cores have noticed, which is in their own parts of a checkpoint.
    fn counted(&self) -> BrokerCounters {
        let twice = self.desks.values().map(|desk| desk.core.counters().accepted_twice);
        BrokerCounters { accepted_twice: twice.sum(), ..self.counters }
    }

    fn list(&mut self, index: InstrumentIndex, instrument: Arc<Instrument>) {
        self.by_symbol.insert(instrument.symbol.clone(), (index, Arc::clone(&instrument)));
        self.instruments.insert(index, instrument);
    }

    fn step(&mut self, step: &BrokerStep) -> Result<(), ActorProcessingErr> {
        for listing in step.listings.iter() {
            self.list(listing.index, Arc::clone(&listing.instrument));
        }
        for (placement, origin_nanos) in &step.placements {
            self.place(placement)?;
            if *origin_nanos > 0 {
                self.latency.record(monotonic_nanos().saturating_sub(*origin_nanos));
            }
        }
        for (order, _) in &step.cancels {
            self.cancel(*order);
        }
        if step.is_settled && !self.is_settled {
            self.is_settled = true;
            self.ended.clear();
            self.with_all(Orders::settle);
        }
        if let Some(scopes) = &step.stopped {
            self.stop(scopes);
        }
        match step.want {
            Want::Nothing | Want::Verdict => {}
            Want::Advance(_) => self.answer(None),
            Want::State => {
                let checkpoint = Checkpoint {
                    orders: self
                        .desks
                        .values()
                        .map(|desk| (desk.config.venue.account.clone(), desk.core.snapshot()))
                        .collect(),
                    placed: self.orders.iter().map(|(id, order)| (*id, *order)).collect(),
                    instruments: self
                        .instruments
                        .iter()
                        .map(|(index, of)| (*index, Arc::clone(of)))
                        .collect(),
                    counters: self.counters,
                };
                self.answer(Some(wire::encode(&checkpoint)));
            }
            Want::Expire => self.expiring = true,
        }
        Ok(())
    }

    fn place(&mut self, placement: &Placement) -> Result<(), ActorProcessingErr> {
        let order = placement.order;
        let instrument = self.instruments.get(&order.instrument);
        let instrument = instrument.ok_or("an order for an instrument that was never listed")?;
        let signal = self.signal_of(&order, instrument);
        if !self.desks.contains_key(&order.account) {
            return Err("an order of an account whose keys are not here".into());
        }
        let new = NewOrder {
            symbol: instrument.symbol.clone(),
            side: order.side,
            quantity: order.quantity,
            limit_price: order.limit_price,
            was_refused: placement.attempt > 0 && self.arguments.other.is_some(),
            signal,
        };
        self.counters.placed += 1;
        let ended = self.ended.remove(&order.id);
        if ended.is_none() {
            self.orders.insert(order.id, order);
        }
        let signal = new.signal.clone();
        self.with(order.account, |core, now| core.place(new, now));
        if let Some(remaining) = ended {
            self.heard(&order, &signal, remaining);
        }
        Ok(())
    }

    fn cancel(&mut self, order: OrderId) {
        let Some(placed) = self.orders.get(&order) else { return };
        let Some(instrument) = self.instruments.get(&placed.instrument) else { return };
        let (account, signal) = (placed.account, self.signal_of(placed, instrument));
        self.with(account, |core, now| core.cancel(&signal, now));
    }

    /// What kill switches stop, as each account's core knows it.
    fn stop(&mut self, scopes: &[Scope]) {
        let accounts: Vec<AccountId> = self.desks.keys().copied().collect();
        for account in accounts {
            let mut stopped = Stopped::default();
            for scope in scopes {
                match scope {
                    Scope::All => stopped.all = true,
                    Scope::Account(of) => stopped.all |= *of == account,
                    Scope::Strategy(strategy) => {
                        stopped.strategies.insert(self.name_of(*strategy));
                    }
                    Scope::Symbol(symbol) => {
                        stopped.symbols.insert(symbol.clone());
                    }
                }
            }
            self.with(account, |core, now| core.stop(stopped, now));
        }
    }

    /// Exec has taken the last word on an order.
    fn heard(&mut self, order: &Order, signal: &SignalIdentity, remaining: Option<Quantity>) {
        let has_traded = remaining.is_some_and(|remaining| remaining < order.quantity);
        if let Some(desk) = self.desks.get_mut(&order.account) {
            desk.core.on_heard(signal, has_traded);
        }
    }

    fn signal_of(&self, order: &Order, instrument: &Instrument) -> SignalIdentity {
        SignalIdentity {
            run: self.arguments.run.clone(),
            strategy: self.name_of(order.strategy),
            symbol: instrument.symbol.clone(),
            id: order.id,
        }
    }

    fn name_of(&self, strategy: StrategyId) -> String {
        let place = usize::from(strategy.0);
        self.arguments.strategies.get(place).cloned().unwrap_or_else(|| place.to_string())
    }

    fn on_heard(&mut self, event: &BrokerEvent) {
        self.counters.count(&event.kind);
        if self.on_adopted(event) {
            return;
        }
        let remaining = match event.kind {
            BrokerEventKind::Refused(_) => None,
            BrokerEventKind::Closed { remaining } => Some(remaining),
            BrokerEventKind::Accepted | BrokerEventKind::Filled(_) | BrokerEventKind::Unknown => {
                return;
            }
        };
        let Some(placed) = self.orders.remove(&event.order) else {
            if !self.is_settled {
                self.ended.insert(event.order, remaining);
            }
            return;
        };
        if let Some(instrument) = self.instruments.get(&placed.instrument) {
            let signal = self.signal_of(&placed, instrument);
            self.heard(&placed, &signal, remaining);
        }
    }

    fn answer(&self, state: Option<Vec<u8>>) {
        let (epoch, broker) = (self.epoch, self.arguments.broker);
        let done = BrokerDone { epoch, broker, events: Vec::new(), next_arrival: None, state };
        // If the router has gone, another epoch begins.
        let _ = self.arguments.done.send(done);
    }

    /// The data has ended: answers once no order is under way.
    fn consider_expired(&mut self) {
        if self.expiring && self.desks.values().all(|desk| desk.core.is_idle()) {
            self.expiring = false;
            for Desk { config, core, .. } in self.desks.values() {
                let (venue, counters) = (&config.venue, core.counters());
                tracing::info!(%venue, ?counters, "no order is under way any more");
            }
            self.answer(None);
        }
    }
}
