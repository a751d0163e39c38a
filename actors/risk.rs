//! The risk actor: puts ticks, signals and fills in one order, and lets through what it may.
//!
//! ```text
//! clean rows ─┐                ┌─▶ Step ───▶ router (and brokers behind it)
//! signals ────┼─▶ Lockstep ─▶ RiskChecker
//! events ─────┘                └─▶ Ledger ─▶ positions
//! ```
//!
//! Decisions are in [`tickwright_core::stream::Lockstep`] and [`tickwright_core::pipeline::risk`].
//!
//! *Failover.* Risk, router, brokers and positions have one checkpoint, at one key. Whichever of them
//! starts anew, all go back to it together: a new epoch. Rows and signals after that key are asked for
//! again, and everything follows as it did before. Where inputs are taken as they arrive, the order
//! taken is in the [`ArrivalLog`], and is followed first; no order leaves before what it follows from
//! is on the disk.
//!
//! *Delivery.* Rows and signals by streams, see [`tickwright_core::stream`]; the rest in lockstep, see
//! [`crate::kit::exec`].

mod arrivals;
mod checkpoint;
mod control;
mod outside;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use ractor_cluster::RactorMessage;
use tickwright_core::domain::{
    AccountId, BrokerEvent, BrokerEventKind, Definition, Instrument, InstrumentIndex, Key,
    KillSwitch, Kind, Price, Quantity, Scope, Signal, SourceId, Symbol, SymbolId, TickBatch,
    Timestamp, TopOfBook,
};
use tickwright_core::pipeline::risk::{DenialCode, RiskChecker, RiskLimits, TradingState};
use tickwright_core::stream::{External, Lockstep, Merging, Next, Positions, Run, SignalBatch};

use crate::kit::exec::{Epoch, Ledger, LedgerEntry, Listing, RouterInput, Step, StepDone, Want};
use crate::kit::{
    ArrivalLog, ArrivalsStored, Checkpoints, Consumer, ControlLog, Delivery, Demand, Directory,
    Handover, Inbox, Outlet, RecordedTicks, Recording, StageReport, StageSettings, StageStreams,
    Stored,
};

use arrivals::Arrivals;
use control::Changes;
use outside::Outside;

/// The role of risk, and the name of exec's checkpoints.
pub const ROLE: &str = "risk";

/// Inputs that are sent to the router together, at the most.
const INPUTS_MAX: usize = 64;

/// Lines of the ledger that may wait for a moment in which the router has nothing to do.
const ENTRIES_MAX: usize = 64;

/// Everything the mailbox holds.
#[derive(Debug, RactorMessage)]
pub enum RiskMessage {
    /// Clean rows have come that were waited for, or what is recorded has room again.
    Rows,
    /// Signals of a shard.
    Signals(usize, Delivery<SignalBatch>),
    /// The cleaner of a source has started anew.
    CleanerIsBack(usize),
    /// The strategies of a shard have started anew.
    StrategyIsBack(usize),
    /// From the router.
    Done(Epoch, StepDone),
    /// From positions.
    PositionsState(Epoch, Vec<u8>),
    /// A broker outside says something.
    Said(BrokerEvent),
    /// An operator turns a kill switch. May be said again.
    Switch(KillSwitch),
    /// How every kill switch stands has been said.
    SwitchesTold,
    /// What does each account hold of each symbol, and with how many decimals?
    Held(RpcReplyPort<Vec<(AccountId, Symbol, Quantity, u8)>>),
    /// Parameters have changed, or are about to.
    Control,
    /// How far have signals come, of any shard?
    Reached(RpcReplyPort<Timestamp>),
    /// What is stopped just now?
    Stopped(RpcReplyPort<Vec<Scope>>),
    /// Which accounts may do less than others?
    Restricted(RpcReplyPort<Vec<(AccountId, TradingState)>>),
    /// One of router, brokers and positions has started and is blank.
    MemberIsBack,
    /// A checkpoint was written.
    Stored(Stored),
    /// The order in which inputs were taken was written.
    ArrivalsStored(ArrivalsStored),
    /// What has been judged?
    Report(RpcReplyPort<StageReport<RiskReport>>),
    /// Where do its streams stand?
    Streams(RpcReplyPort<StageStreams>),
    /// Another node is to go on: put the last checkpoint, and say where.
    HandOver(RpcReplyPort<Key>),
}

/// What risk has judged.
#[derive(Clone, Debug, Default)]
pub struct RiskReport {
    /// Distinct clean rows that came here.
    pub rows: u64,
    /// Signals that came here.
    pub signals: u64,
    /// Orders let through.
    pub approved: u64,
    /// Signals denied, by reason.
    pub denied: Vec<(DenialCode, u64)>,
    /// Orders that are open.
    pub open: usize,
}

/// What the actor is started with.
pub struct RiskArguments {
    /// What orders are held to.
    pub limits: RiskLimits,
    /// By what inputs are ordered.
    pub merging: Merging,
    /// Where it is written down in which order they arrived.
    pub arrivals: ArrivalLog,
    /// The least that any broker takes to answer, in nanoseconds.
    pub latency_min: u64,
    /// What all stages share.
    pub settings: StageSettings,
    /// Counts checkpoints.
    pub progress: Arc<AtomicU64>,
    /// Where to register.
    pub directory: Directory,
    /// Reaches each source's cleaner.
    pub cleaners: Vec<Outlet<Demand<TickBatch>>>,
    /// Reaches each shard's strategies.
    pub strategies: Vec<Outlet<Demand<SignalBatch>>>,
    /// Reaches the router.
    pub router: Outlet<Step>,
    /// Begins an epoch at router and brokers.
    pub restore_router: Outlet<(Epoch, Option<Vec<u8>>)>,
    /// Reaches positions.
    pub positions: Outlet<Ledger>,
    /// Begins an epoch at positions.
    pub restore_positions: Outlet<(Epoch, Option<Vec<u8>>)>,
    /// Reaches each broker outside: what it said has taken effect.
    pub heard: Vec<Option<Outlet<BrokerEvent>>>,
    /// Told once everything has been handled and stored.
    pub finished: Outlet<()>,
    /// Takes what is to be recorded, if anything is.
    pub recording: Option<Recording>,
    /// Changes of parameters.
    pub control: ControlLog,
    /// Asks how all kill switches stand, where there are any: nothing new is taken before that is said.
    pub ask_switches: Option<Outlet<()>>,
}

impl fmt::Debug for RiskArguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RiskArguments").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// The actor.
#[derive(Debug)]
pub struct RiskActor;

/// What the actor owns while it runs.
#[derive(Debug)]
pub struct RiskState {
    myself: ActorRef<RiskMessage>,
    limits: RiskLimits,
    checker: RiskChecker,
    lockstep: Lockstep,
    /// Clean rows that have come.
    inbox: Inbox<TickBatch>,
    cleaners: Consumer<TickBatch>,
    strategies: Consumer<SignalBatch>,
    router: Outlet<Step>,
    restore_router: Outlet<(Epoch, Option<Vec<u8>>)>,
    positions: Outlet<Ledger>,
    restore_positions: Outlet<(Epoch, Option<Vec<u8>>)>,
    heard: Vec<Option<Outlet<BrokerEvent>>>,
    finished: Outlet<()>,
    recording: Option<Recording>,
    checkpoints: Checkpoints,
    /// Up to where each input was done at checkpoints that are not trimmed yet. As many as those.
    inputs_at: VecDeque<(Key, Positions)>,
    handover: Handover,
    arrivals: Arrivals,
    outside: Outside,
    changes: Changes,
    settings: StageSettings,
    epoch: Epoch,
    phase: Phase,
    /// Every symbol listed in this epoch, for the checkpoint.
    listed: Vec<(SourceId, SymbolId, InstrumentIndex)>,
    /// Symbols that the router has not been told of, and positions neither.
    unlisted_router: Vec<Listing>,
    unlisted_positions: Vec<Listing>,
    /// Nor whoever records rows.
    unlisted_ticks: Vec<(SourceId, SymbolId, Arc<Instrument>)>,
    /// For the router, not sent yet.
    inputs: Vec<RouterInput>,
    /// For positions, not sent yet.
    entries: Vec<LedgerEntry>,
    /// Whether the router was sent something since the ledger was last looked at.
    is_router_told: bool,
    /// The last boundary at which everything was valued.
    sampled_at: Timestamp,
    /// Distinct clean rows since the last checkpoint.
    rows_since: u64,
    /// Whether a checkpoint is to be put as soon as one can be.
    is_checkpoint_wanted: bool,
    /// Whether what happens is new, and not a repetition of what happened before a restart.
    is_settled: bool,
    is_announced: bool,
}

/// What the actor waits for, if anything.
#[derive(Debug)]
enum Phase {
    /// Nothing: it takes what comes.
    Running,
    /// The disk: an order follows from what is not on it yet.
    Writing,
    /// The router's answer.
    Waiting,
    /// The parts of a checkpoint.
    Gathering { router: Option<Vec<u8>>, positions: Option<Vec<u8>> },
    /// Everything has been handled.
    Finished,
}

impl Actor for RiskActor {
    type Msg = RiskMessage;
    type State = RiskState;
    type Arguments = RiskArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<RiskMessage>,
        arguments: RiskArguments,
    ) -> Result<RiskState, ActorProcessingErr> {
        let RiskArguments {
            limits,
            merging,
            arrivals: log,
            latency_min,
            settings,
            progress,
            directory,
            cleaners,
            strategies,
            router,
            restore_router,
            positions,
            restore_positions,
            heard,
            finished,
            recording,
            control,
            ask_switches,
        } = arguments;
        let stored = Outlet::to_actor(&myself, RiskMessage::Stored);
        let checkpoints = settings.checkpoints(ROLE, &progress, stored)?;
        log.tell(Outlet::to_actor(&myself, RiskMessage::ArrivalsStored));
        let arrivals = Arrivals { is_used: merging == Merging::Arrival, log, awaited: None };
        let mut state = RiskState {
            myself: myself.clone(),
            checker: RiskChecker::new(limits.clone()),
            limits,
            lockstep: Lockstep::new(merging, latency_min, cleaners.len(), strategies.len()),
            inbox: Inbox::default(),
            cleaners: settings.consumer(cleaners, "risk, of cleaners"),
            strategies: settings.consumer(strategies, "risk, of strategies"),
            router,
            restore_router,
            positions,
            restore_positions,
            heard,
            finished,
            recording,
            checkpoints,
            inputs_at: VecDeque::new(),
            handover: Handover::default(),
            arrivals,
            outside: Outside::new(ask_switches),
            changes: Changes::new(control),
            settings,
            // Distinct from every epoch of an actor before this one.
            epoch: crate::kit::monotonic_nanos(),
            phase: Phase::Running,
            listed: Vec::new(),
            unlisted_router: Vec::new(),
            unlisted_positions: Vec::new(),
            unlisted_ticks: Vec::new(),
            inputs: Vec::new(),
            entries: Vec::new(),
            is_router_told: false,
            sampled_at: Timestamp::default(),
            rows_since: 0,
            is_checkpoint_wanted: false,
            is_settled: false,
            is_announced: false,
        };
        directory.register(ROLE, &myself);
        state.begin_epoch()?;
        Ok(state)
    }

    async fn handle(
        &self,
        _myself: ActorRef<RiskMessage>,
        message: RiskMessage,
        state: &mut RiskState,
    ) -> Result<(), ActorProcessingErr> {
        state.look_at_changes()?;
        match message {
            // They are taken below, as always.
            RiskMessage::Rows => {}
            RiskMessage::Signals(shard, delivery) => state.on_signals(shard, delivery),
            // Who awaits the switches goes to all of its inputs after that.
            RiskMessage::CleanerIsBack(_) | RiskMessage::StrategyIsBack(_)
                if state.awaits_switches() => {}
            RiskMessage::CleanerIsBack(source) => state.subscribe_ticks(source),
            RiskMessage::StrategyIsBack(shard) => state.subscribe_signals(shard),
            RiskMessage::Done(epoch, done) if epoch == state.epoch => state.on_done(done),
            RiskMessage::PositionsState(epoch, part) if epoch == state.epoch => {
                state.on_positions_state(part);
            }
            // Left over from an epoch that has ended.
            RiskMessage::Done(..) | RiskMessage::PositionsState(..) => {}
            RiskMessage::Said(event) => state.on_outside(External::Broker(event))?,
            RiskMessage::Switch(switch) => state.on_outside(External::Switch(switch))?,
            RiskMessage::SwitchesTold => state.on_switches_told(),
            RiskMessage::Held(reply) => {
                let held = state.checker.exposures().map(|(account, index, exposure)| {
                    let of = state.checker.instrument(index);
                    (account, of.symbol.clone(), exposure.position.quantity, of.quantity_decimals)
                });
                let _ = reply.send(held.collect());
            }
            // It is looked at below, as always.
            RiskMessage::Control => {}
            RiskMessage::Reached(reply) => {
                let _ = reply.send(state.reached());
            }
            RiskMessage::Stopped(reply) => {
                // A caller that stopped waiting is its own affair.
                let _ = reply.send(state.checker.tripped());
            }
            RiskMessage::Restricted(reply) => {
                let _ = reply.send(state.checker.restricted());
            }
            RiskMessage::MemberIsBack => state.begin_epoch()?,
            RiskMessage::Stored(stored) => state.on_stored(stored)?,
            RiskMessage::ArrivalsStored(result) => state.on_arrivals_stored(result)?,
            RiskMessage::Report(reply) => {
                // A caller that stopped waiting is its own affair.
                let _ = reply.send(state.report());
            }
            RiskMessage::Streams(reply) => {
                let _ = reply.send(state.streams());
            }
            RiskMessage::HandOver(reply) => state.hand_over(reply),
        }
        state.go_on()?;
        state.handover.answer(&state.checkpoints);
        Ok(())
    }
}

impl RiskState {
    /// Asks a source for what follows the rows in hand or done.
    fn subscribe_ticks(&mut self, source: usize) {
        let sink = Outlet::to_inbox(&self.inbox, source, &self.myself, || RiskMessage::Rows);
        let held = self.lockstep.ready_rows_of(source);
        self.cleaners.reconnect(self.lockstep.ticks(), source, held, sink);
    }

    /// Asks a shard for what follows the signals in hand or done.
    fn subscribe_signals(&mut self, shard: usize) {
        self.changes.asks_again(shard);
        let sink = Outlet::to_actor(&self.myself, move |rows| RiskMessage::Signals(shard, rows));
        self.strategies.reconnect(self.lockstep.signals(), shard, 0, sink);
    }

    /// Takes in the rows that have come.
    fn take_rows(&mut self) -> Result<(), ActorProcessingErr> {
        for (source, (session, frame)) in self.inbox.take() {
            let block = Arc::clone(&frame.block);
            if self.lockstep.on_ticks(source, session, frame) {
                self.list(&block);
            }
        }
        if self.arrivals.is_used { self.note_arrivals() } else { Ok(()) }
    }

    /// Whether there is nothing to do before the next message. One that waits for rows is sent one.
    fn sleeps(&self) -> bool {
        !self.lockstep.wants_rows() || self.inbox.wait()
    }

    /// Learns the symbols that are new in `block`.
    fn list(&mut self, block: &TickBatch) {
        for definition in &block.definitions {
            self.list_one(block.source, definition);
        }
    }

    fn list_one(&mut self, source: SourceId, definition: &Definition) {
        let symbol = definition.id;
        if self.checker.index_of(source, symbol).is_some() {
            return;
        }
        let index = self.checker.define(source, definition);
        self.listed.push((source, symbol, index));
        let instrument = Arc::clone(self.checker.instrument(index));
        if self.records_ticks() {
            self.unlisted_ticks.push((source, symbol, Arc::clone(&instrument)));
        }
        let listing = Listing { source, symbol, index, instrument };
        self.unlisted_router.push(listing.clone());
        self.unlisted_positions.push(listing);
    }

    /// Handles whatever is next until there is something to wait for.
    fn go_on(&mut self) -> Result<(), ActorProcessingErr> {
        self.look_at_records()?;
        self.take_rows()?;
        while matches!(self.phase, Phase::Running) {
            if self.awaits_records() {
                break;
            }
            if self.awaits_disk() {
                self.phase = Phase::Writing;
                return Ok(());
            }
            if !self.is_settled && self.lockstep.is_settled() {
                // What went before is sent before.
                self.send(Vec::new(), Want::Nothing);
                self.is_settled = true;
                self.tell_stopped();
                self.send(Vec::new(), Want::Nothing);
            }
            // Not only when there is nothing to do: a busy exec would have no checkpoint to return to.
            if self.lockstep.is_between_keys() && self.is_checkpoint_due() {
                self.gather();
                break;
            }
            match self.lockstep.next_step() {
                Next::Rows(block, rows) => self.on_rows(&block, rows),
                Next::Signal(signal, at) => self.on_signal(&signal, at),
                Next::Event(event) => self.on_event(event),
                Next::Switch(switch) => self.on_switch(&switch),
                Next::Records { is_full } => self.on_records(is_full),
                Next::Advance { to, .. } => {
                    let runs = self.lockstep.ship(to);
                    self.ask(runs, Want::Advance(to));
                }
                Next::Expire => {
                    let runs = self.lockstep.ship(Timestamp::from_nanos(u64::MAX));
                    self.ask(runs, Want::Expire);
                }
                Next::Finished => self.gather(),
                Next::Starved if self.sleeps() => break,
                Next::Starved => self.take_rows()?,
            }
            if self.inputs.len() >= INPUTS_MAX {
                self.send(Vec::new(), Want::Nothing);
            }
        }
        if matches!(self.phase, Phase::Writing) {
            return Ok(());
        }
        self.send_if_any();
        // What comes while exec waits for its members would pile up here.
        if matches!(self.phase, Phase::Running) {
            if self.lockstep.ready_rows()
                < usize::try_from(self.cleaners.credit()).unwrap_or(usize::MAX)
            {
                self.cleaners.return_credit(self.lockstep.ticks());
            }
            self.strategies.return_credit(self.lockstep.signals());
        }
        Ok(())
    }

    fn records_ticks(&self) -> bool {
        self.recording.as_ref().is_some_and(|recording| recording.ticks.is_some())
    }

    fn on_rows(&mut self, block: &Arc<TickBatch>, rows: std::ops::Range<usize>) {
        if let Some(ticks) = self.recording.as_ref().and_then(|recording| recording.ticks.as_ref())
        {
            let listed = std::mem::take(&mut self.unlisted_ticks);
            let (block, rows) = (Arc::clone(block), rows.clone());
            // Whoever is not there says so when it is, and another epoch begins.
            let _ = ticks.send(RecordedTicks { block, rows, listed });
        }
        let mut count = 0;
        for row in &block.rows[rows] {
            self.checker.on_tick(block, row);
            if row.kind == Kind::Boundary as u8 {
                self.on_boundary(block.frontier(row));
            } else {
                count += 1;
            }
        }
        self.rows_since += count;
        self.lockstep.count_rows(count);
    }

    /// A window step has passed in event time: everything is valued, once for all sources.
    fn on_boundary(&mut self, at: Timestamp) {
        if at <= self.sampled_at {
            return;
        }
        self.sampled_at = at;
        let indexes = (0u32..).map(InstrumentIndex).take(self.checker.instruments().len());
        let marks = indexes.filter_map(|index| Some((index, self.checker.top(index).mark()?)));
        let marks: Vec<(InstrumentIndex, Price)> = marks.collect();
        self.entries.push(LedgerEntry::Sample(at, marks));
    }

    fn on_signal(&mut self, signal: &Signal, at: Key) {
        match self.checker.check(signal, at.frontier) {
            Ok(approved) => {
                self.lockstep.on_order(at);
                self.entries.push(LedgerEntry::Order(*approved.order()));
                let origin_nanos = signal.origin_nanos;
                self.inputs.push(RouterInput::Order { approved, at, origin_nanos });
                if self.arrivals.is_used {
                    let number = self.arrivals.log.flush(true);
                    self.arrivals.awaited = Some(number);
                }
            }
            Err(denial) => tracing::debug!(%denial, key = %at, "signal denied"),
        }
        self.settings.chaos.strike("risk", 0, self.lockstep.signals_seen());
    }

    fn on_event(&mut self, event: BrokerEvent) {
        if let Some(Some(heard)) = self.heard.get(usize::from(event.broker.0)) {
            // One that has ended knows it by its checkpoint.
            let _ = heard.send(event);
        }
        if matches!(event.kind, BrokerEventKind::Refused(_)) {
            // Whether it is final is for the router to say.
            let top = self.top_of(&event);
            self.inputs.push(RouterInput::Event { event, top });
            self.ask(Vec::new(), Want::Verdict);
            return;
        }
        self.take_effect(&event);
        self.inputs.push(RouterInput::Event { event, top: TopOfBook::default() });
    }

    fn top_of(&self, event: &BrokerEvent) -> TopOfBook {
        let open =
            self.checker.open_orders().find(|open| open.approved().order().id == event.order);
        open.map(|open| self.checker.top(open.approved().order().instrument)).unwrap_or_default()
    }

    fn take_effect(&mut self, event: &BrokerEvent) {
        // A refusal that takes effect ends the order as well: what is told as its end finds it open no more.
        let (is_over, remaining) = match event.kind {
            BrokerEventKind::Closed { remaining } => (true, Some(remaining)),
            BrokerEventKind::Refused(_) => (true, None),
            BrokerEventKind::Accepted | BrokerEventKind::Filled(_) | BrokerEventKind::Unknown => {
                (false, None)
            }
        };
        if self.recording.is_some() && is_over {
            let mut open = self.checker.open_orders();
            if let Some(open) = open.find(|open| open.approved().order().id == event.order) {
                let (instrument, at) = (open.approved().order().instrument, event.due);
                let remaining = remaining.unwrap_or(open.remaining());
                self.entries.push(LedgerEntry::Closed(event.order, instrument, remaining, at));
            }
        }
        self.checker.on_event(event);
        if let BrokerEventKind::Filled(fill) = event.kind {
            self.entries.push(LedgerEntry::Fill(fill, event.due));
        }
    }

    fn on_done(&mut self, done: StepDone) {
        match done {
            StepDone::Verdict(events) => {
                self.phase = Phase::Running;
                for event in events {
                    self.take_effect(&event);
                    if matches!(event.kind, BrokerEventKind::Closed { .. }) {
                        self.lockstep.on_closed();
                    }
                }
            }
            StepDone::Advanced { to, events } => {
                self.phase = Phase::Running;
                self.lockstep.on_advanced(to, &events);
            }
            StepDone::State(part) => {
                if let Phase::Gathering { router, .. } = &mut self.phase {
                    *router = Some(part);
                }
                self.store_if_gathered();
            }
        }
    }

    fn ask(&mut self, runs: Vec<Run<TickBatch>>, want: Want) {
        self.send(runs, want);
        self.phase = Phase::Waiting;
    }

    fn send_if_any(&mut self) {
        // A broker outside may have found orders of a symbol under way before exec sees a row of it.
        let lists = self.arrivals.is_used && !self.unlisted_router.is_empty();
        if lists || !self.inputs.is_empty() {
            self.send(Vec::new(), Want::Nothing);
        }
        // Orders are not to wait for the books: what is sent later would be handled first.
        let is_router_busy = std::mem::take(&mut self.is_router_told);
        let can_wait = is_router_busy && self.entries.len() < ENTRIES_MAX;
        if !self.entries.is_empty() && !can_wait {
            self.send_ledger(false);
        }
    }

    fn send(&mut self, runs: Vec<Run<TickBatch>>, want: Want) {
        let step = Step {
            epoch: self.epoch,
            listings: std::mem::take(&mut self.unlisted_router),
            inputs: std::mem::take(&mut self.inputs),
            runs,
            want,
            is_settled: self.is_settled,
        };
        self.is_router_told = true;
        // A router that is not there says hello when it is, and another epoch begins.
        let _ = self.router.send(step);
    }

    fn send_ledger(&mut self, want_state: bool) {
        let ledger = Ledger {
            epoch: self.epoch,
            listings: std::mem::take(&mut self.unlisted_positions),
            entries: std::mem::take(&mut self.entries),
            want_state,
        };
        // As above.
        let _ = self.positions.send(ledger);
    }

    /// Those of clean rows, then those of signals. Rows that wait for their signals count as waiting.
    fn streams(&mut self) -> StageStreams {
        let mut inputs = StageStreams::of_inputs(self.lockstep.ticks());
        for (source, input) in inputs.iter_mut().enumerate() {
            input.waiting_rows += u64::from(self.lockstep.ready_rows_of(source));
        }
        inputs.extend(StageStreams::of_inputs(self.lockstep.signals()));
        StageStreams { inputs, outputs: Vec::new() }
    }

    fn report(&self) -> StageReport<RiskReport> {
        let counts = RiskReport {
            rows: self.lockstep.rows(),
            signals: self.lockstep.signals_seen(),
            approved: self.checker.approved(),
            denied: self.checker.denied_by_code().collect(),
            open: self.checker.open_orders().len(),
        };
        StageReport { complete: self.lockstep.position(), counts }
    }
}
