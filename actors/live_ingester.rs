//! The live ingester actor: journals what a feed says, then sends it on.
//!
//! ```text
//! Feed ──▶ parser, Ingester ──▶ journal ──▶ raw rows, once they are on the disk ──▶ cleaner
//!                                  └── read again for a consumer that goes back
//! ```
//!
//! *Failover.* Each record of the journal holds, beside its rows, what its writer knew after them; a
//! successor goes on from the newest record, and with the first item of the feed that is not in it.
//! After the process died the feed is another one: what the dead process had heard and not journaled
//! is lost, and shows as a gap in the venue's own numbers.
//!
//! *Delivery.* A stream, see [`tickwright_core::stream`]. A block is cut when it is full, or when
//! nothing more waits and no other block is being written: so blocks are small when rows are few, and
//! one write to the disk serves many rows when they are many.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde::{Deserialize, Serialize};
use tickwright_core::domain::{Key, Kind, RawBatch, SourceId, SymbolId, Timestamp};
use tickwright_core::pipeline::ingest::binance::{FrameOutcome, FrameParser};
use tickwright_core::pipeline::ingest::{
    EVENT_TIME_END, EVENT_TIME_MIN, Ingester, IngesterConfig, IngesterSnapshot, ParserState,
    Problem, RowError, SourcePosition,
};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::ingester::{IngesterMessage, IngesterReport, LiveTotals, role};
use crate::kit::{
    Demand, Directory, Journal, JournalError, LiveNumber, Outlet, Producer, StageReport,
    StageSettings, StageStreams, StoreError, monotonic_nanos,
};
use crate::source::SourceError;
use crate::source::feed::{Feed, FeedItem, FeedRows};
use crate::source::live::LiveFrame;

/// Blocks that are being written at a time: what shares a commit, and as many that gather meanwhile for
/// the next one, so that the disk does not wait.
const IN_FLIGHT_MAX: usize = 128;

/// Items without a row after which a block is cut all the same, so that they can be forgotten.
const ITEMS_WITHOUT_ROW_MAX: u64 = 4_096;

/// What the actor is started with.
pub struct LiveIngesterArguments {
    /// The source's place among the sources.
    pub source: usize,
    /// What is listened to.
    pub feed: Feed,
    /// How rows are numbered.
    pub config: IngesterConfig,
    /// How often to look whether time has passed without a row.
    pub idle: Duration,
    /// Bound of the journal.
    pub journal_bytes_max: u64,
    /// What all stages share.
    pub settings: StageSettings,
    /// Counts journaled blocks.
    pub progress: Arc<AtomicU64>,
    /// Where to register.
    pub directory: Directory,
    /// Reaches the cleaner.
    pub hello: Outlet<()>,
    /// Where it is said that the source cannot be kept at all.
    pub fatal: Outlet<SourceError>,
}

impl fmt::Debug for LiveIngesterArguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveIngesterArguments")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

/// The actor.
#[derive(Debug)]
pub struct LiveIngesterActor;

/// What is noted with each block: everything a successor needs to go on after it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Note {
    ingester: Option<IngesterSnapshot>,
    /// Which feed.
    feed: u64,
    /// Items of that feed that are in this block or an earlier one.
    items: u64,
    /// The connection that brought the last frame.
    connection: u64,
    /// Of all feeds together, and of those before this one.
    totals: LiveTotals,
    totals_before: LiveTotals,
    bytes: u64,
    bytes_before: u64,
    /// Nothing will follow.
    finished: bool,
}

/// A block on its way to the disk.
#[derive(Debug)]
struct InFlight {
    block: Arc<RawBatch>,
    items: u64,
    finished: bool,
}

/// What the actor owns while it runs.
#[derive(Debug)]
pub struct LiveIngesterState {
    index: usize,
    feed: Feed,
    puller: Puller,
    parser: FrameParser,
    /// Books whose snapshot was asked for and has not come. At most one of each symbol.
    wanted: BTreeSet<SymbolId>,
    ingester: Ingester,
    journal: Journal<Note>,
    journaled: Outlet<Result<(), StoreError>>,
    output: Producer<RawBatch>,
    /// In the order they were given to the journal.
    in_flight: VecDeque<InFlight>,
    rows_in_flight: usize,
    /// The last row that is on the disk.
    committed: Key,
    /// The sequence number of the next row to send on.
    send_next: u64,
    /// The end of the source is on the disk.
    is_end_committed: bool,
    /// The end of the source was sent on.
    is_end_sent: bool,
    /// Nothing more is taken in: the source has ended, or cannot be kept.
    is_closed: bool,
    /// Items of the feed taken in, and of those the ones in blocks.
    items: u64,
    items_cut: u64,
    connection: u64,
    /// Of feeds before this one.
    totals_before: LiveTotals,
    bytes_before: u64,
    /// When the last row came, and the frontier then: boundary rows of a silence lift the frontier further.
    row_at: Instant,
    row_frontier: Timestamp,
    idle: Duration,
    batch_ticks: LiveNumber,
    settings: StageSettings,
    progress: Arc<AtomicU64>,
    fatal: Outlet<SourceError>,
}

/// Waits for the feed on behalf of one actor.
#[derive(Debug)]
struct Puller {
    go_on: Arc<Notify>,
    /// Whether it has been asked and has not yet answered.
    is_asked: bool,
    task: JoinHandle<()>,
}

impl Drop for Puller {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Puller {
    fn start(feed: Feed, actor: ActorRef<IngesterMessage>) -> Self {
        let go_on = Arc::new(Notify::new());
        let asked = Arc::clone(&go_on);
        let task = tokio::spawn(async move {
            while !feed.has_ended() {
                asked.notified().await;
                feed.fill().await;
                if actor.cast(IngesterMessage::FeedReady).is_err() {
                    return;
                }
            }
        });
        Self { go_on, is_asked: false, task }
    }

    fn ask(&mut self) {
        if !self.is_asked {
            self.is_asked = true;
            self.go_on.notify_one();
        }
    }
}

impl Actor for LiveIngesterActor {
    type Msg = IngesterMessage;
    type State = LiveIngesterState;
    type Arguments = LiveIngesterArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<IngesterMessage>,
        arguments: LiveIngesterArguments,
    ) -> Result<LiveIngesterState, ActorProcessingErr> {
        let LiveIngesterArguments {
            source: index,
            feed,
            config,
            idle,
            journal_bytes_max,
            settings,
            progress,
            directory,
            hello,
            fatal,
        } = arguments;
        let journal = settings.journal(index, journal_bytes_max).await?;
        let mut state = LiveIngesterState {
            index,
            puller: Puller::start(feed.clone(), myself.clone()),
            parser: FrameParser::new(None),
            wanted: BTreeSet::new(),
            ingester: Ingester::new(config.clone()),
            journal,
            journaled: Outlet::to_actor(&myself, IngesterMessage::Journaled),
            output: Producer::new(Key::START, settings.retained, hello),
            in_flight: VecDeque::new(),
            rows_in_flight: 0,
            committed: Key::START,
            send_next: 1,
            is_end_committed: false,
            is_end_sent: false,
            is_closed: false,
            items: 0,
            items_cut: 0,
            connection: 0,
            totals_before: LiveTotals::default(),
            bytes_before: 0,
            row_at: Instant::now(),
            row_frontier: Timestamp::default(),
            idle,
            batch_ticks: settings.live.number("pipeline.batch_ticks", &role(index)),
            settings,
            progress,
            fatal,
            feed,
        };
        state.restore(config)?;
        if state.feed.is_live() {
            myself.send_interval(idle, || IngesterMessage::ReadOn);
        }
        directory.register(&role(index), &myself);
        state.output.say_hello();
        // What waits in the feed does not wait for a consumer.
        myself.cast(IngesterMessage::FeedReady)?;
        Ok(state)
    }

    async fn handle(
        &self,
        _myself: ActorRef<IngesterMessage>,
        message: IngesterMessage,
        state: &mut LiveIngesterState,
    ) -> Result<(), ActorProcessingErr> {
        let outcome = match message {
            IngesterMessage::Demand(demand) => state.on_demand(demand),
            IngesterMessage::Journaled(result) => state.on_journaled(result),
            IngesterMessage::FeedReady => {
                state.puller.is_asked = false;
                Ok(())
            }
            IngesterMessage::ReadOn => {
                state.on_idle();
                Ok(())
            }
            // Its checkpoints are in the journal.
            IngesterMessage::Stored(_) => Ok(()),
            IngesterMessage::Report(reply) => {
                // A caller that stopped waiting is its own affair.
                let _ = reply.send(state.report());
                return Ok(());
            }
            IngesterMessage::Streams(reply) => {
                let _ = reply.send(StageStreams::of_source(state.output.flow()));
                return Ok(());
            }
            // What it hears cannot be heard by two: it ends before another begins.
            IngesterMessage::HandOver(..) => return Ok(()),
        };
        let outcome = match outcome {
            Ok(()) => state.go_on().await,
            Err(error) => Err(error),
        };
        if let Err(error) = outcome {
            // No restart mends a disk: say so once, and take in nothing more.
            state.is_closed = true;
            let _ = state.fatal.send(error);
        }
        Ok(())
    }
}

impl LiveIngesterState {
    /// Goes on where the newest record ends.
    fn restore(&mut self, config: IngesterConfig) -> Result<(), JournalError> {
        if let Some(entry) = self.journal.last()? {
            let note = entry.note;
            if let Some(snapshot) = &note.ingester {
                self.ingester = Ingester::restore(config, snapshot);
                if let ParserState::Frames(state) = &snapshot.position.parser {
                    self.parser.restore(state.clone());
                }
            }
            let last = entry.block.keyed().last().map(|(key, _)| key);
            self.committed = last.unwrap_or_else(|| self.key_before(&entry.block));
            self.send_next = self.committed.sequence + 1;
            self.is_end_committed = note.finished;
            self.is_closed = note.finished;
            if note.feed == self.feed.id() {
                self.items = note.items;
                self.connection = note.connection;
                self.totals_before = note.totals_before;
                self.bytes_before = note.bytes_before;
                self.feed.release(note.items);
            } else {
                self.totals_before = note.totals;
                self.bytes_before = note.bytes;
            }
        }
        self.items_cut = self.items;
        self.row_frontier = self.ingester.frontier();
        self.feed.rewind();
        self.output.rewind(self.committed);
        Ok(())
    }

    /// The key of the row before `block`.
    fn key_before(&self, block: &RawBatch) -> Key {
        if block.first_sequence <= 1 {
            return Key::START;
        }
        let source = SourceId(u16::try_from(self.index).unwrap_or(u16::MAX));
        Key { frontier: block.frontier_before, source, sequence: block.first_sequence - 1 }
    }

    fn on_demand(&mut self, demand: Demand<RawBatch>) -> Result<(), SourceError> {
        let is_stable = matches!(demand, Demand::Stable(_));
        if let Err(rewind) = self.output.on_demand(demand) {
            self.go_back(rewind.to)?;
        }
        if is_stable {
            self.journal.trim(self.output.flow().stable().sequence);
        }
        Ok(())
    }

    /// Sends again what follows `to`.
    fn go_back(&mut self, to: Key) -> Result<(), JournalError> {
        if to == Key::END {
            return Ok(());
        }
        let mut position = self.committed;
        if to.sequence < self.committed.sequence {
            position = self.key_before(&self.journal.read(to.sequence + 1)?.block);
        }
        self.send_next = position.sequence + 1;
        self.is_end_sent = false;
        self.output.rewind(position);
        Ok(())
    }

    fn on_journaled(&mut self, result: Result<(), StoreError>) -> Result<(), SourceError> {
        result.map_err(JournalError::from)?;
        let Some(InFlight { block, items, finished }) = self.in_flight.pop_front() else {
            return Ok(());
        };
        self.progress.fetch_add(1, Ordering::Relaxed);
        self.feed.release(items);
        self.is_end_committed |= finished;
        self.rows_in_flight -= block.rows.len();
        if let Some((last, _)) = block.keyed().last() {
            self.committed = last;
            // Otherwise the consumer has gone back, and gets it from the journal in its turn.
            if self.send_next == block.first_sequence {
                self.send(block, last);
            }
        }
        Ok(())
    }

    fn send(&mut self, block: Arc<RawBatch>, last: Key) {
        self.send_next = last.sequence + 1;
        let more =
            !self.in_flight.is_empty() && self.output.flow().credit() > block.rows.len() as u64;
        self.output.push(block, last, more);
    }

    async fn go_on(&mut self) -> Result<(), SourceError> {
        self.send_again()?;
        self.take_in().await
    }

    /// Sends what is journaled and was not sent, while there is room.
    fn send_again(&mut self) -> Result<(), JournalError> {
        while self.send_next <= self.committed.sequence && self.output.flow().has_room() {
            let entry = self.journal.read(self.send_next)?;
            let last = entry.block.keyed().last().map_or(self.committed, |(last, _)| last);
            self.send(Arc::new(entry.block), last);
        }
        let is_all_sent = self.send_next > self.committed.sequence && self.in_flight.is_empty();
        if self.is_end_committed && is_all_sent && !self.is_end_sent {
            self.is_end_sent = true;
            self.output.push(Arc::default(), Key::END, false);
        }
        Ok(())
    }

    /// Takes in what the feed has, while there is room downstream and on the way to the disk.
    async fn take_in(&mut self) -> Result<(), SourceError> {
        while !self.is_closed && self.has_room() {
            let Some((count, item)) = self.feed.next() else {
                return self.on_nothing_more();
            };
            if self.ingester.batch_len() == 0 {
                let batch_ticks = self.batch_ticks.size();
                self.ingester.begin_batch(batch_ticks, monotonic_nanos());
            }
            self.items = count;
            let rows_before = self.ingester.sequence_next();
            match &*item {
                FeedItem::Frame(frame) => self.take_frame(frame, count),
                FeedItem::Rows(rows) => self.take_rows(rows),
            }
            if self.ingester.sequence_next() != rows_before {
                self.row_at = Instant::now();
                self.row_frontier = self.ingester.frontier();
            }
            let is_full = self.ingester.batch_len() >= self.batch_ticks.size();
            if is_full || self.items - self.items_cut >= ITEMS_WITHOUT_ROW_MAX {
                self.cut(false)?;
                // Lets the stages that were just given something run here.
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    /// The feed has nothing to hand out just now.
    fn on_nothing_more(&mut self) -> Result<(), SourceError> {
        if self.feed.is_exhausted() {
            if !self.feed.is_finished() {
                return Err(SourceError::Deaf { name: self.feed.name().to_owned() });
            }
            self.is_closed = true;
            return Ok(self.cut(true)?);
        }
        self.puller.ask();
        if self.ingester.batch_len() > 0 && self.in_flight.is_empty() {
            self.cut(false)?;
        }
        Ok(())
    }

    fn take_frame(&mut self, frame: &LiveFrame, count: u64) {
        if frame.connection != self.connection {
            self.connection = frame.connection;
            self.parser.on_reconnect();
            self.wanted.clear();
        }
        let (bytes, time) = (&frame.bytes, frame.receive_time.as_nanos());
        let ingester = &mut self.ingester;
        let read = match &frame.snapshot_of {
            None => self.parser.frame(bytes, time, count, ingester),
            Some(symbol) => match ingester.intern(symbol.as_str().as_bytes()) {
                Ok(entry) => {
                    self.wanted.remove(&entry.id);
                    self.parser.snapshot(bytes, entry.id, time, count, ingester)
                }
                Err(problem) => {
                    Err(RowError::new(count, 1, "symbol", symbol.as_str().as_bytes(), problem))
                }
            },
        };
        match read {
            Ok(FrameOutcome::SnapshotWanted(symbol)) => self.want_snapshot(symbol),
            Ok(FrameOutcome::Read) => {}
            Err(error) => self.ingester.malformed(*error),
        }
    }

    /// Asks for the snapshot that a book waits for, once.
    fn want_snapshot(&mut self, symbol: SymbolId) {
        if self.wanted.contains(&symbol) {
            return;
        }
        let name = self.ingester.symbol(symbol).cloned();
        if name.is_some_and(|name| self.feed.want_snapshot(&name)) {
            self.wanted.insert(symbol);
        }
    }

    fn take_rows(&mut self, block: &FeedRows) {
        for symbol in &block.symbols {
            // One symbol too many leaves its rows without a name: they are not taken in.
            if let Err(problem) = self.ingester.intern(symbol.as_str().as_bytes()) {
                tracing::error!(%symbol, %problem, "a symbol of decoded rows is refused");
            }
        }
        for row in &block.rows {
            let is_known = self.ingester.entry(SymbolId(row.symbol)).is_some();
            let is_believed = (EVENT_TIME_MIN..EVENT_TIME_END).contains(&row.event_time);
            if is_known && is_believed && row.kind < Kind::Boundary as u8 {
                self.ingester.push(*row);
            } else {
                let (column, problem) = (None, Problem::OutOfRange);
                let (line, excerpt) = (self.items, format!("row {}", row.id));
                self.ingester.malformed(RowError { line, column, excerpt, problem });
            }
        }
    }

    fn has_room(&self) -> bool {
        let flow = self.output.flow();
        // What comes back from the disk may go beyond the credit by as much again, and waits here.
        let rows_max = (self.settings.credit as usize).max(self.ingester.batch_len()) * 4;
        flow.has_room() && self.in_flight.len() < IN_FLIGHT_MAX && self.rows_in_flight < rows_max
    }

    /// Gives what was taken in to the journal.
    fn cut(&mut self, finished: bool) -> Result<(), JournalError> {
        let rows = self.ingester.counters().rows;
        let block = Arc::new(self.ingester.take_batch());
        self.settings.chaos.strike("ingester", self.index, rows);
        let position = SourcePosition {
            offset: self.bytes(),
            line: self.items,
            parser: ParserState::Frames(self.parser.state().clone()),
        };
        let note = Note {
            ingester: Some(self.ingester.snapshot(position)),
            feed: self.feed.id(),
            items: self.items,
            connection: self.connection,
            totals: self.totals(),
            totals_before: self.totals_before,
            bytes: self.bytes(),
            bytes_before: self.bytes_before,
            finished,
        };
        let journaled = self.journaled.clone();
        // An actor that ended meanwhile finds the block when it starts again.
        let done = Box::new(move |result| drop(journaled.send(result)));
        self.journal.append(&block, note, done)?;
        self.items_cut = self.items;
        self.rows_in_flight += block.rows.len();
        self.in_flight.push_back(InFlight { block, items: self.items, finished });
        Ok(())
    }

    /// Puts in the boundary rows of the time that has passed since the last row, so that windows
    /// close. The venue's clock is not ours: what counts is how much time has passed.
    fn on_idle(&mut self) {
        let passed = self.row_at.elapsed().saturating_sub(self.idle);
        if self.puller.is_asked && !self.is_closed && self.has_room() && passed > Duration::ZERO {
            let now = self.row_frontier.after(passed);
            self.ingester.on_idle(now);
        }
    }

    fn feed_totals(&self) -> LiveTotals {
        let counts = self.feed.counts();
        LiveTotals {
            connections: counts.connections,
            disconnects: counts.disconnects,
            garbage: counts.frames.garbage,
            gaps: counts.frames.gaps,
            missing: counts.frames.missing,
            repeated: counts.frames.repeated,
            stalls: counts.stalls,
        }
    }

    fn totals(&self) -> LiveTotals {
        let (before, now) = (self.totals_before, self.feed_totals());
        LiveTotals {
            connections: before.connections + now.connections,
            disconnects: before.disconnects + now.disconnects,
            garbage: before.garbage + now.garbage,
            gaps: before.gaps + now.gaps,
            missing: before.missing + now.missing,
            repeated: before.repeated + now.repeated,
            stalls: before.stalls + now.stalls,
        }
    }

    fn bytes(&self) -> u64 {
        self.bytes_before + self.feed.bytes()
    }

    fn report(&self) -> StageReport<IngesterReport> {
        let is_live = self.feed.is_live();
        let format = if is_live { "live Binance frames" } else { "decoded rows" };
        let counts = IngesterReport {
            source: self.feed.name().to_owned(),
            format: format.to_owned(),
            counters: *self.ingester.counters(),
            malformed_first: self.ingester.malformed_first().to_vec(),
            bytes_read: self.bytes(),
            bytes_total: 0,
            is_held: false,
            live: is_live.then(|| self.totals()),
        };
        let complete = if self.is_end_sent { Key::END } else { self.committed };
        StageReport { complete, counts }
    }
}
