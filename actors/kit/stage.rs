//! What every stage of the pipeline is started with, and the actor of those that turn streams of rows
//! into streams of rows: cleaner, factor engine, strategy.
//!
//! ```text
//! frames ──▶ Merge ──▶ Work, run by run ──▶ Producers
//! ```
//!
//! A stage's own file says what it does with rows, as its [`Work`]. The rest is alike and here: whom it
//! subscribes to, where it goes back to, what is stable upstream, when a checkpoint is due, and that it
//! takes nothing in without room downstream.
//!
//! *Failover.* A successor goes on from the newest checkpoint; a consumer that needs older rows takes the
//! stage back to an older one, see [`Checkpoints`].
//!
//! *Delivery.* Streams, see [`tickwright_core::stream`].

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tickwright_core::domain::{Basis, Control, Key, Timestamp};
use tickwright_core::stream::{Block, Merge, Run};

use super::{
    Barrier, Chaos, Checkpoints, Closed, Consumer, ControlLog, ControlView, CopyOutlet, Delivery,
    Demand, Directory, Handover, Journal, JournalError, LiveValues, LogOutlet, Outlet, Producer,
    Sink, StageStreams, Store, StoreError, Stored, Verdict,
};

/// Settings and services that all stages share.
#[derive(Clone, Debug)]
pub struct StageSettings {
    /// Rows that may be on the way between two stages.
    pub credit: u32,
    /// Rows a stage keeps after they were sent, so that a consumer can come back for them.
    pub retained: usize,
    /// Rows between two checkpoints.
    pub spacing: u64,
    /// What of this may change while stages run, and more.
    pub live: LiveValues,
    /// Where checkpoints go.
    pub store: Store,
    /// Who keeps copies of them elsewhere.
    pub copies: Option<CopyOutlet>,
    /// Which stages have put the last one, because another node is to go on from there.
    pub closed: Closed,
    /// Who keeps copies of the unit's log elsewhere, if it has one.
    pub log: Option<LogOutlet>,
    /// Faults on command.
    pub chaos: Chaos,
}

impl StageSettings {
    /// The checkpoints of the stage called `name`. They come closer than the faults that are ordered,
    /// or a stage that panics every thousand rows would never get on.
    ///
    /// # Errors
    ///
    /// [`StoreError::Record`].
    pub fn checkpoints(
        &self,
        name: &str,
        progress: &Arc<AtomicU64>,
        stored: Outlet<Stored>,
    ) -> Result<Checkpoints, StoreError> {
        let at_most = self.chaos.spacing_of_any().map_or(u64::MAX, |every| (every / 2).max(1));
        let spacing = self.spacing.min(at_most);
        let opened = Checkpoints::open(&self.store, name, spacing, Arc::clone(progress), stored)?;
        let opened = opened.out_of_step(name);
        let live = self.live.number("stream.checkpoint_ticks", name);
        let opened = opened.with_copies(self.copies.clone()).with_live_spacing(live, at_most);
        Ok(opened.open_while_not(self.closed.of(name)))
    }

    /// The consuming ends of the stage called `name`.
    pub fn consumer<B: Block + Send + Sync + 'static>(
        &self,
        producers: Vec<Outlet<Demand<B>>>,
        name: &str,
    ) -> Consumer<B> {
        let live = self.live.number("stream.credit_ticks", name);
        Consumer::new(producers, self.credit).with_live_credit(live)
    }

    /// The journal of `source`, of at most so many bytes.
    ///
    /// # Errors
    ///
    /// [`JournalError`].
    pub async fn journal<N: Serialize + DeserializeOwned>(
        &self,
        source: usize,
        bytes_max: u64,
    ) -> Result<Journal<N>, JournalError> {
        Journal::open(&self.store, source, bytes_max, self.log.clone()).await
    }
}

/// How far a stage has come and what it has counted, for whoever asks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StageReport<T> {
    /// Everything up to here is done.
    pub complete: Key,
    /// The counts.
    pub counts: T,
}

/// Rows that stages send each other.
pub trait Rows: Block + fmt::Debug + Send + Sync + 'static {}

impl<B: Block + fmt::Debug + Send + Sync + 'static> Rows for B {}

/// What one kind of stage does with its rows. The same rows after the same snapshot must give the same.
pub trait Work: Sized + Send + 'static {
    /// What the stage is started with.
    type Arguments: Send + 'static;
    /// What it takes in.
    type Input: Rows;
    /// What it gives out.
    type Output: Rows + Default;
    /// What survives.
    type Snapshot: Serialize + DeserializeOwned;
    /// What it counts.
    type Counts: fmt::Debug + Send + 'static;

    /// Work before its first row.
    ///
    /// # Errors
    ///
    /// When the arguments do not fit each other.
    fn new(arguments: Self::Arguments) -> Result<Self, ActorProcessingErr>;

    /// Goes back to a snapshot, or to the beginning. `control` holds at least the changes of parameters
    /// before it.
    ///
    /// # Errors
    ///
    /// When the snapshot does not fit.
    fn go_back(
        &mut self,
        snapshot: Option<Self::Snapshot>,
        control: &Control,
    ) -> Result<(), ActorProcessingErr>;

    /// What [`Work::go_back`] takes.
    fn snapshot(&self) -> Self::Snapshot;

    /// What has been counted.
    fn counts(&self) -> Self::Counts;

    /// Learns the symbols of a block that has come. No row of theirs came before.
    ///
    /// # Errors
    ///
    /// When a symbol does not fit those before it.
    fn define(&mut self, block: &Self::Input) -> Result<(), ActorProcessingErr>;

    /// Handles rows between two changes of parameters: advances `stage` and pushes what comes of them.
    ///
    /// # Errors
    ///
    /// When a change does not fit the work.
    fn handle(
        &mut self,
        run: &Run<Self::Input>,
        stage: &mut Stage<Self::Input, Self::Output>,
    ) -> Result<(), ActorProcessingErr>;

    /// Sends on what was held back to go with what follows: whoever goes on from a checkpoint that is put
    /// now would have to go back for it. Where [`Stage::is_due`] says so, [`Work::handle`] holds nothing
    /// back.
    fn flush(&mut self, _stage: &mut Stage<Self::Input, Self::Output>) {}

    /// No rows, but time has passed, or the input has ended.
    fn pass_time(&mut self, until: Key, stage: &mut Stage<Self::Input, Self::Output>) {
        stage.advance(until);
        stage.push(0, Arc::default(), false);
    }
}

/// What ties a stage to the rest.
#[derive(Debug)]
pub struct StageLinks<I> {
    /// The role it serves, and the name of its checkpoints.
    pub role: String,
    /// What all stages share.
    pub settings: StageSettings,
    /// Counts checkpoints.
    pub progress: Arc<AtomicU64>,
    /// Where to register.
    pub directory: Directory,
    /// Changes of parameters, if they concern it.
    pub control: Option<ControlLog>,
    /// Reaches the producer of each input.
    pub producers: Vec<Outlet<Demand<I>>>,
    /// Reaches the consumer of each output.
    pub hellos: Vec<Outlet<()>>,
    /// What its checkpoints wait for, if anything.
    pub barrier: Option<Outlet<Barrier>>,
}

/// Everything the mailbox holds.
#[derive(Debug)]
pub enum StageMessage<I, O, C> {
    /// Rows of an input.
    Rows(usize, Delivery<I>),
    /// The producer of an input has started anew.
    ProducerIsBack(usize),
    /// From the consumer of an output.
    Demand(usize, Demand<O>),
    /// The control log has changed.
    Control,
    /// What was recorded since the last checkpoint may be lost.
    RecordsAreBack,
    /// A checkpoint was written.
    Stored(Stored),
    /// How far has it come, and what has it counted?
    Report(RpcReplyPort<StageReport<C>>),
    /// How far is it, given that it goes no further than a hold that is known by now?
    Reached(RpcReplyPort<Timestamp>),
    /// Where do its streams stand?
    Streams(RpcReplyPort<StageStreams>),
    /// Another node is to go on: put the last checkpoint, at this key or after it, and say where.
    HandOver(Key, RpcReplyPort<Key>),
}

impl<I: Rows, O: Rows, C: Send + 'static> ractor::Message for StageMessage<I, O, C> {}

/// The mailbox of the stage that does `W`.
pub type MessageOf<W> = StageMessage<<W as Work>::Input, <W as Work>::Output, <W as Work>::Counts>;

/// The actor of a stage that does `W`.
pub struct StageActor<W>(PhantomData<fn() -> W>);

impl<W> Default for StageActor<W> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<W> fmt::Debug for StageActor<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StageActor")
    }
}

impl<W: Work> Actor for StageActor<W> {
    type Msg = MessageOf<W>;
    type State = (W, Stage<W::Input, W::Output>);
    type Arguments = (W::Arguments, StageLinks<W::Input>);

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        (arguments, links): Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let mut work = W::new(arguments)?;
        let StageLinks { role, settings, progress, directory, control, producers, hellos, barrier } =
            links;
        let stored = Outlet::to_actor(&myself, StageMessage::Stored);
        let sink = |input| Outlet::to_actor(&myself, move |rows| StageMessage::Rows(input, rows));
        let output = |hello| Producer::new(Key::START, settings.retained, hello);
        let mut stage = Stage {
            role: role.clone(),
            input: Merge::new(producers.len()),
            sinks: (0..producers.len()).map(sink).collect(),
            producers: settings.consumer(producers, &role),
            waiting: None,
            outputs: hellos.into_iter().map(output).collect(),
            control: ControlView::default(),
            control_log: control,
            basis: Basis::default(),
            position: Key::START,
            checkpoints: settings.checkpoints(&role, &progress, stored)?.after(barrier),
            is_due: false,
            handover: Handover::default(),
            chaos: settings.chaos,
        };
        stage.go_back(Key::END, &mut work)?;
        directory.register(&role, &myself);
        stage.subscribe_all();
        stage.outputs.iter().for_each(Producer::say_hello);
        Ok((work, stage))
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        (work, stage): &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            StageMessage::Rows(input, (session, frame)) => {
                let block = Arc::clone(&frame.block);
                if stage.input.accept(input, session, frame) {
                    work.define(&block)?;
                }
            }
            StageMessage::ProducerIsBack(input) => stage.subscribe(input),
            StageMessage::Demand(output, demand) => stage.on_demand(output, demand, work)?,
            // It is looked at below, as always.
            StageMessage::Control => {}
            // Its successor derives it again.
            StageMessage::RecordsAreBack => return Err("what records has begun anew".into()),
            StageMessage::Stored(stored) => {
                stage.checkpoints.on_stored(stored)?;
                stage.announce_stable();
            }
            StageMessage::Report(reply) => {
                // A caller that stopped waiting is its own affair.
                let report = StageReport { complete: stage.position, counts: work.counts() };
                let _ = reply.send(report);
            }
            StageMessage::Reached(reply) => {
                let _ = reply.send(stage.reached()?);
            }
            StageMessage::Streams(reply) => {
                let _ = reply.send(stage.streams());
            }
            StageMessage::HandOver(after, reply) => stage.handover.begin(after, reply),
        }
        stage.go_on(work)?;
        stage.hand_over(work);
        Ok(())
    }
}

/// Where a stage stands, and the ends of its streams.
#[derive(Debug)]
pub struct Stage<I, O> {
    role: String,
    input: Merge<I>,
    producers: Consumer<I>,
    /// Where frames of each input come in.
    sinks: Vec<Sink<I>>,
    /// Rows that wait for a change or for room.
    waiting: Option<Run<I>>,
    outputs: Vec<Producer<O>>,
    control_log: Option<ControlLog>,
    control: ControlView,
    /// Under which changes what is done was derived.
    basis: Basis,
    /// Everything up to here is done.
    position: Key,
    checkpoints: Checkpoints,
    /// Whether a checkpoint follows the rows that are being handled.
    is_due: bool,
    handover: Handover,
    chaos: Chaos,
}

impl<I: Rows, O: Rows> Stage<I, O> {
    /// Everything up to `position` is done.
    pub fn advance(&mut self, position: Key) {
        self.position = position;
    }

    /// Sends rows to the consumer of an output, whose stream is then complete up to the position. `more`
    /// says that it may wait for what follows at once.
    pub fn push(&mut self, output: usize, block: Arc<O>, more: bool) {
        self.outputs[output].push(block, self.position, more);
    }

    /// Whether more rows follow those being handled at once.
    pub fn more(&self) -> bool {
        self.waiting.is_some() || self.input.more()
    }

    /// Whether a checkpoint follows the rows that are being handled.
    pub fn is_due(&self) -> bool {
        self.is_due
    }

    /// Whether what follows the rows that are being handled can be sent on.
    pub fn has_room(&self) -> bool {
        self.outputs.iter().all(|output| output.flow().has_room())
    }

    fn streams(&self) -> StageStreams {
        StageStreams {
            inputs: StageStreams::of_inputs(&self.input),
            outputs: self.outputs.iter().map(|output| output.flow().standing()).collect(),
        }
    }

    /// Changes of parameters.
    pub fn control(&self) -> &Control {
        &self.control.control
    }

    /// Under which changes what is sent on was derived.
    pub fn basis(&self) -> Basis {
        self.basis
    }

    /// Faults on command.
    pub fn chaos(&self) -> &Chaos {
        &self.chaos
    }

    fn on_demand<W: Work<Input = I, Output = O>>(
        &mut self,
        output: usize,
        demand: Demand<O>,
        work: &mut W,
    ) -> Result<(), ActorProcessingErr> {
        let is_stable = matches!(demand, Demand::Stable(_));
        let producer = self.outputs.get_mut(output);
        let producer = producer.ok_or_else(|| format!("there is no output {output}"))?;
        if let Err(rewind) = producer.on_demand(demand) {
            self.go_back(rewind.to, work)?;
            self.subscribe_all();
        }
        if is_stable {
            self.announce_stable();
        }
        Ok(())
    }

    /// Goes to the newest checkpoint not after `to`, or to the beginning.
    fn go_back<W: Work<Input = I>>(
        &mut self,
        to: Key,
        work: &mut W,
    ) -> Result<(), ActorProcessingErr> {
        if let Some(log) = &self.control_log {
            log.refresh(&mut self.control);
        }
        let control = &self.control.control;
        let log = self.control_log.as_ref();
        let has_promised = log.is_some_and(|log| log.has_promised(&self.role));
        let judge = |(basis, _): &(Basis, W::Snapshot)| Verdict::of(*basis, control, has_promised);
        let (position, stored) = self.checkpoints.newest_that(to, judge)?.unzip();
        let (basis, snapshot) = stored.unzip();
        self.position = position.unwrap_or(Key::START);
        self.basis = basis.unwrap_or_default().taken_over(control);
        // It stands, or it would not have been found.
        let _ = self.basis.learn(control);
        work.go_back(snapshot, control)?;
        self.outputs.iter_mut().for_each(|output| output.rewind(self.position));
        Ok(())
    }

    /// Puts the last checkpoint, if that is asked for, and says so once it is stored. Rows are handled
    /// all the same: nobody waits for the other node to be ready.
    fn hand_over<W: Work<Input = I, Output = O>>(&mut self, work: &mut W) {
        if self.handover.is_due(self.position) {
            work.flush(self);
            self.checkpoints.put_last(self.position, &(self.basis, work.snapshot()));
        }
        self.handover.answer(&self.checkpoints);
    }

    fn subscribe_all(&mut self) {
        (0..self.sinks.len()).for_each(|input| self.subscribe(input));
    }

    /// Asks a producer for what follows the rows done; those in hand are dropped.
    fn subscribe(&mut self, input: usize) {
        if self.waiting.as_ref().is_some_and(|run| run.input == input) {
            self.waiting = None;
        }
        let sink = self.sinks[input].clone();
        self.producers.subscribe(&mut self.input, input, self.position, sink);
    }

    fn announce_stable(&mut self) {
        let stable = self.outputs.iter().map(|output| output.flow().stable()).min();
        if let Some(key) = stable.and_then(|stable| self.checkpoints.trim(stable)) {
            self.producers.stable(key);
        }
    }

    /// Handles what there is while there is room downstream.
    fn go_on<W: Work<Input = I, Output = O>>(
        &mut self,
        work: &mut W,
    ) -> Result<(), ActorProcessingErr> {
        self.refresh_control()?;
        while let Some(run) = self.next_run() {
            self.basis.advance(run.last_key().frontier);
            self.is_due = self.checkpoints.is_due(run.rows.len() as u64);
            work.handle(&run, self)?;
            if self.is_due {
                self.checkpoints.put(self.position, &(self.basis, work.snapshot()));
            }
        }
        let complete = self.input.complete();
        let has_rows = self.waiting.is_some() || self.input.has_rows();
        if !has_rows && complete > self.position && !self.control().is_held(complete.frontier) {
            self.basis.advance(complete.frontier);
            work.pass_time(complete, self);
            if self.position == Key::END {
                self.checkpoints.put(Key::END, &(self.basis, work.snapshot()));
            }
        }
        self.producers.return_credit(&mut self.input);
        Ok(())
    }

    /// The rows that are next, cut where something changes; none while they are held.
    fn next_run(&mut self) -> Option<Run<I>> {
        if !self.has_room() || self.checkpoints.is_behind() {
            return None;
        }
        let run = self.waiting.take().or_else(|| self.input.next_run())?;
        let first = run.first_key().frontier;
        if self.control().is_held(first) {
            self.waiting = Some(run);
            return None;
        }
        let (run, rest) = match self.control().next_after(first) {
            Some(at) => run.split_before(at),
            None => (run, None),
        };
        self.waiting = rest;
        Some(run)
    }

    /// How far it is. Before a hold it stays, and so does a successor.
    fn reached(&mut self) -> Result<Timestamp, ActorProcessingErr> {
        self.refresh_control()?;
        let reached = self.position.frontier;
        if let Some(log) = &self.control_log
            && !self.control().is_held(reached)
        {
            log.promise(&self.role);
        }
        Ok(reached)
    }

    /// Learns what has changed. What was derived without knowing it has to be derived anew.
    fn refresh_control(&mut self) -> Result<(), ActorProcessingErr> {
        if let Some(log) = &self.control_log
            && log.refresh(&mut self.control)
            && !self.basis.learn(&self.control.control)
        {
            return Err(
                "parameters have changed at a time that was passed without knowing it".into()
            );
        }
        Ok(())
    }
}
