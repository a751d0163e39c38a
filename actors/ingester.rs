//! The ingester actor: reads one source and sends its rows on, numbered.
//!
//! ```text
//! Source ──▶ Ingester ──▶ raw rows ──▶ cleaner
//! ```
//!
//! *Failover.* A file can be read again from any position, so it is its own journal: a successor goes
//! to the newest checkpoint that its consumer can continue from, and reads on. Keys are the same.
//!
//! *Delivery.* A stream, see [`tickwright_core::stream`].

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use ractor_cluster::RactorMessage;
use serde::{Deserialize, Serialize};
use tickwright_core::domain::{Key, RawBatch, Timestamp};
use tickwright_core::pipeline::ingest::{
    IngestCounters, Ingester, IngesterConfig, IngesterSnapshot, Pace, RowError,
};

use crate::kit::{
    Checkpoints, Demand, Directory, Handover, LiveNumber, Outlet, Producer, StageReport,
    StageSettings, StageStreams, StoreError, Stored, monotonic_nanos,
};
use crate::source::{Progress, Source, SourceError};

/// The role of the ingester of `source`.
pub fn role(source: usize) -> String {
    format!("ingester/{source}")
}

/// Rows handed over in one turn, as long as there are more at once. Waking the next stage costs as much
/// as a small block's work, so it is woken for several together.
const YIELD_ROWS: u64 = 2_048;

/// How long a source that is held waits before it looks again.
const HELD: Duration = Duration::from_millis(5);

/// Everything the mailbox holds.
#[derive(Debug, RactorMessage)]
pub enum IngesterMessage {
    /// From the cleaner.
    Demand(Demand<RawBatch>),
    /// A checkpoint was written.
    Stored(Stored),
    /// Read on: our own timer, when rows are paced, or nothing may have come for a while.
    ReadOn,
    /// A feed has something to hand out, or has ended.
    FeedReady,
    /// A block has been journaled, or cannot be.
    Journaled(Result<(), StoreError>),
    /// What has been read?
    Report(RpcReplyPort<StageReport<IngesterReport>>),
    /// Where does its stream stand?
    Streams(RpcReplyPort<StageStreams>),
    /// Another node is to go on: put the last checkpoint, at this key or after it, and say where.
    HandOver(Key, RpcReplyPort<Key>),
}

/// What an ingester has read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IngesterReport {
    /// Path, or what it is.
    pub source: String,
    /// Its format, in words.
    pub format: String,
    /// The counts.
    pub counters: IngestCounters,
    /// The first malformed rows.
    pub malformed_first: Vec<RowError>,
    /// Bytes read of the file, packed as it is.
    pub bytes_read: u64,
    /// Bytes of the file.
    pub bytes_total: u64,
    /// Whether it is held until a fault has struck.
    pub is_held: bool,
    /// Of a live source: what became of its connections and frames.
    pub live: Option<LiveTotals>,
}

/// What became of a live source's connections and frames, over all processes of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveTotals {
    /// Connections that stood.
    pub connections: u64,
    /// Connections, and attempts at one, that ended.
    pub disconnects: u64,
    /// Frames that are not known.
    pub garbage: u64,
    /// Times messages were missing, by the venue's own ids.
    pub gaps: u64,
    /// Messages, or ids, missing in all of them.
    pub missing: u64,
    /// Messages whose id was not above the one before.
    pub repeated: u64,
    /// Times nothing was read because nothing could be taken in.
    pub stalls: u64,
}

/// Opens the source anew for each start.
pub type OpenSource = Arc<dyn Fn() -> Result<Box<dyn Source>, SourceError> + Send + Sync>;

/// How fast rows are let through.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Speed {
    /// As fast as they can be handled.
    Max,
    /// So many seconds of event time in a second.
    Times(f64),
}

/// What the actor is started with.
pub struct IngesterArguments {
    /// The source's place among the sources.
    pub source: usize,
    /// Opens it.
    pub open: OpenSource,
    /// How rows are numbered.
    pub config: IngesterConfig,
    /// How fast.
    pub speed: Speed,
    /// What all stages share.
    pub settings: StageSettings,
    /// Counts checkpoints.
    pub progress: Arc<AtomicU64>,
    /// Where to register.
    pub directory: Directory,
    /// Reaches the cleaner.
    pub hello: Outlet<()>,
    /// Where it is said that the source cannot be read at all.
    pub fatal: Outlet<SourceError>,
}

impl fmt::Debug for IngesterArguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IngesterArguments").field("source", &self.source).finish_non_exhaustive()
    }
}

/// The actor.
#[derive(Debug)]
pub struct IngesterActor;

/// What the actor owns while it runs.
pub struct IngesterState {
    index: usize,
    open: OpenSource,
    source: Box<dyn Source>,
    config: IngesterConfig,
    ingester: Ingester,
    output: Producer<RawBatch>,
    checkpoints: Checkpoints,
    batch_ticks: LiveNumber,
    settings: StageSettings,
    pace: Option<Pace>,
    /// When the first row of the batch in hand was due, if rows are paced.
    due: Option<u64>,
    /// A row was read before its time, and a timer is set for it.
    held: Option<Progress>,
    is_waiting: bool,
    finished: bool,
    fatal: Outlet<SourceError>,
    handover: Handover,
    position: Key,
}

impl fmt::Debug for IngesterState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IngesterState").field("source", &self.source).finish_non_exhaustive()
    }
}

/// What survives.
#[derive(Debug, Serialize, Deserialize)]
struct Checkpoint {
    ingester: IngesterSnapshot,
    finished: bool,
}

impl Actor for IngesterActor {
    type Msg = IngesterMessage;
    type State = IngesterState;
    type Arguments = IngesterArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<IngesterMessage>,
        arguments: IngesterArguments,
    ) -> Result<IngesterState, ActorProcessingErr> {
        let IngesterArguments {
            source: index,
            open,
            config,
            speed,
            settings,
            progress,
            directory,
            hello,
            fatal,
        } = arguments;
        let stored = Outlet::to_actor(&myself, IngesterMessage::Stored);
        let checkpoints = settings.checkpoints(&role(index), &progress, stored)?;
        let source = open()?;
        let mut state = IngesterState {
            index,
            open,
            source,
            ingester: Ingester::new(config.clone()),
            config,
            output: Producer::new(Key::START, settings.retained, hello),
            checkpoints,
            batch_ticks: settings.live.number("pipeline.batch_ticks", &role(index)),
            settings,
            pace: match speed {
                Speed::Max => None,
                Speed::Times(times) => Some(Pace::new(times)),
            },
            due: None,
            held: None,
            is_waiting: false,
            finished: false,
            fatal,
            handover: Handover::default(),
            position: Key::START,
        };
        state.go_back(Key::END)?;
        directory.register(&role(index), &myself);
        state.output.say_hello();
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<IngesterMessage>,
        message: IngesterMessage,
        state: &mut IngesterState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            IngesterMessage::Demand(demand) => state.on_demand(demand)?,
            IngesterMessage::Stored(stored) => state.checkpoints.on_stored(stored)?,
            IngesterMessage::ReadOn => state.is_waiting = false,
            // Only of a live source.
            IngesterMessage::FeedReady | IngesterMessage::Journaled(_) => {}
            IngesterMessage::Report(reply) => {
                // A caller that stopped waiting is its own affair.
                let _ = reply.send(state.report());
            }
            IngesterMessage::Streams(reply) => {
                let _ = reply.send(StageStreams::of_source(state.output.flow()));
            }
            IngesterMessage::HandOver(after, reply) => state.handover.begin(after, reply),
        }
        state.read_on(&myself).await?;
        if state.finished {
            // Its last checkpoint was put then.
            state.handover.is_due(state.position);
        }
        state.handover.answer(&state.checkpoints);
        Ok(())
    }
}

impl IngesterState {
    fn on_demand(&mut self, demand: Demand<RawBatch>) -> Result<(), ActorProcessingErr> {
        let is_stable = matches!(demand, Demand::Stable(_));
        if let Err(rewind) = self.output.on_demand(demand) {
            self.go_back(rewind.to)?;
        }
        if is_stable {
            let stable = self.output.flow().stable();
            // Nothing is upstream of a source that could forget; its checkpoints are trimmed alike.
            let _ = self.checkpoints.trim(stable);
        }
        Ok(())
    }

    /// Goes to the newest checkpoint not after `to`, or to the beginning.
    fn go_back(&mut self, to: Key) -> Result<(), ActorProcessingErr> {
        match self.checkpoints.newest::<Checkpoint>(to)? {
            Some((key, checkpoint)) => {
                self.source.seek(&checkpoint.ingester.position)?;
                self.ingester = Ingester::restore(self.config.clone(), &checkpoint.ingester);
                self.finished = checkpoint.finished;
                self.position = key;
            }
            None => {
                if self.position != Key::START {
                    self.source = (self.open)()?;
                }
                self.ingester = Ingester::new(self.config.clone());
                self.finished = false;
                self.position = Key::START;
            }
        }
        self.held = None;
        self.output.rewind(self.position);
        Ok(())
    }

    /// Reads while there is room downstream.
    async fn read_on(
        &mut self,
        myself: &ActorRef<IngesterMessage>,
    ) -> Result<(), ActorProcessingErr> {
        let mut handed = 0;
        while !self.finished && !self.is_waiting && self.output.flow().has_room() {
            if self.is_held() {
                self.is_waiting = true;
                myself.send_after(HELD, || IngesterMessage::ReadOn);
                return Ok(());
            }
            let progress = match self.held.take() {
                Some(progress) => progress,
                None => match self.read() {
                    Ok(progress) => progress,
                    Err(error) => {
                        // No restart mends a file: say so once, and stop here.
                        self.finished = true;
                        let _ = self.fatal.send(error);
                        return Ok(());
                    }
                },
            };
            if let Some(delay) = self.delay() {
                // The row that is early waits in the ingester's batch, alone.
                self.held = Some(progress);
                self.is_waiting = true;
                myself.send_after(delay, || IngesterMessage::ReadOn);
                return Ok(());
            }
            if let Some(due) = self.due {
                self.ingester.begin_batch(0, Pace::origin(due, monotonic_nanos()));
            }
            let counters = *self.ingester.counters();
            let batch = self.ingester.take_batch();
            self.finished = progress == Progress::Finished;
            if self.finished {
                self.position = Key::END;
            } else if !batch.rows.is_empty() {
                self.position = self.ingester.position();
            }
            self.settings.chaos.strike("ingester", self.index, counters.rows);
            let rows = batch.rows.len() as u64;
            // Only here is no row in hand that was read and not sent on.
            let is_last = self.handover.is_due(self.position);
            let is_due = self.checkpoints.is_due(rows) || self.finished;
            if (is_due || is_last) && self.position != Key::START {
                let ingester = self.ingester.snapshot(self.source.position());
                let checkpoint = Checkpoint { ingester, finished: self.finished };
                match is_last {
                    true => self.checkpoints.put_last(self.position, &checkpoint),
                    false => self.checkpoints.put(self.position, &checkpoint),
                }
            }
            let more = !self.finished
                && self.pace.is_none()
                && progress == Progress::More
                && self.output.flow().credit() > batch.rows.len() as u64;
            self.output.push(Arc::new(batch), self.position, more);
            handed += rows;
            if !more || handed >= YIELD_ROWS {
                handed = 0;
                // Lets the stages that were just given something run here, and this one elsewhere. Twice: now and then
                // the runtime wakes who has yielded while there is still something to run, and so does a demand from
                // the cleaner; a source that takes its time would then keep its own block from the rest of its way.
                tokio::task::yield_now().await;
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    fn is_held(&self) -> bool {
        let gate = self.settings.chaos.gate();
        !self.finished && gate.holds(self.source.bytes_read(), self.source.bytes_total())
    }

    fn read(&mut self) -> Result<Progress, SourceError> {
        let batch_ticks = self.batch_ticks.size();
        let rows = if self.pace.is_some() { 1 } else { batch_ticks };
        self.ingester.begin_batch(rows, monotonic_nanos());
        let mut progress = self.source.read(&mut self.ingester, rows)?;
        self.due = self.due_at(self.ingester.frontier());
        // What may go by now travels together, if the source can tell: a timer lets many rows go at
        // once, and each alone would cost every stage a block.
        while progress == Progress::More && self.ingester.batch_len() < batch_ticks {
            let next = self.source.next_time().map(Timestamp::from_nanos);
            let next = next.map(|next| next.max(self.ingester.frontier()));
            let due = next.and_then(|next| self.due_at(next));
            let is_early = |due| Pace::wait(due, monotonic_nanos()).is_some();
            if self.due.is_none() || due.is_none_or(is_early) {
                break;
            }
            progress = self.source.read(&mut self.ingester, 1)?;
        }
        Ok(progress)
    }

    /// When a row of that event time is due, if rows are paced.
    fn due_at(&mut self, event: Timestamp) -> Option<u64> {
        // Before the first row there is no time.
        let event = Some(event.as_nanos()).filter(|&event| event > 0)?;
        Some(self.pace.as_mut()?.due(event, monotonic_nanos()))
    }

    /// How long the row in hand is early, if rows are paced.
    fn delay(&self) -> Option<Duration> {
        Pace::wait(self.due?, monotonic_nanos())
    }

    fn report(&self) -> StageReport<IngesterReport> {
        let counts = IngesterReport {
            source: self.source.describe(),
            format: self.source.format().to_string(),
            counters: *self.ingester.counters(),
            malformed_first: self.ingester.malformed_first().to_vec(),
            bytes_read: self.source.bytes_read(),
            bytes_total: self.source.bytes_total(),
            is_held: self.is_held(),
            live: None,
        };
        StageReport { complete: self.position, counts }
    }
}
