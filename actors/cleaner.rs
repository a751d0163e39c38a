//! The cleaner actor: lets through what a source's class allows, and deals rows out to the shards.
//!
//! ```text
//! raw rows ──▶ Cleaner ──┬▶ all clean rows ──▶ exec
//!                        └▶ by symbol ───────▶ one factor engine per shard
//! ```
//!
//! *Failover.* Verdicts depend on the rows alone, so a successor that starts from a checkpoint gives
//! the same rows under the same keys, and its consumers drop those they have.
//!
//! *Delivery.* Streams, see [`tickwright_core::stream`].

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use ractor_cluster::RactorMessage;
use serde::{Deserialize, Serialize};
use tickwright_core::domain::{Definition, Key, Kind, RawBatch, SourceId, Symbol, Tick, TickBatch};
use tickwright_core::pipeline::clean::{CleanCounts, CleanRules, Cleaner};
use tickwright_core::stream::{Merge, Run};

use crate::kit::{
    Checkpoints, Consumer, Delivery, Demand, Directory, Outlet, Producer, StageReport,
    StageSettings, Stored,
};

/// The role of the cleaner of `source`.
pub fn role(source: usize) -> String {
    format!("cleaner/{source}")
}

/// The shard of a symbol: BLAKE3 of its text, modulo the number of shards.
pub fn shard_of(symbol: &Symbol, shards: usize) -> usize {
    let hash = blake3::hash(symbol.as_str().as_bytes());
    let first = hash.as_bytes()[..8].try_into().expect("a hash has 32 bytes");
    let shards = u64::try_from(shards.max(1)).unwrap_or(1);
    usize::try_from(u64::from_le_bytes(first) % shards).unwrap_or(0)
}

/// One of the streams a cleaner gives out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CleanStream {
    /// Every clean row.
    All,
    /// The rows of one shard.
    Shard(usize),
}

/// Everything the mailbox holds.
#[derive(Debug, RactorMessage)]
pub enum CleanerMessage {
    /// Raw rows.
    Rows(Delivery<RawBatch>),
    /// The ingester has started anew.
    IngesterIsBack,
    /// From exec or a factor engine.
    Demand(CleanStream, Demand<TickBatch>),
    /// A checkpoint was written.
    Stored(Stored),
    /// What has been let through?
    Report(RpcReplyPort<StageReport<CleanerReport>>),
}

/// What a cleaner has judged.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CleanerReport {
    /// By symbol.
    pub symbols: Vec<(Symbol, CleanCounts)>,
    /// Together.
    pub totals: CleanCounts,
}

/// What the actor is started with.
pub struct CleanerArguments {
    /// The source's place among the sources.
    pub source: usize,
    /// What is let through.
    pub rules: CleanRules,
    /// How many shards rows are dealt out to.
    pub shards: usize,
    /// What all stages share.
    pub settings: StageSettings,
    /// Counts checkpoints.
    pub progress: Arc<AtomicU64>,
    /// Where to register.
    pub directory: Directory,
    /// Reaches the ingester.
    pub ingester: Outlet<Demand<RawBatch>>,
    /// Reaches exec.
    pub hello_exec: Outlet<()>,
    /// Reaches each factor engine.
    pub hello_shards: Vec<Outlet<()>>,
}

impl fmt::Debug for CleanerArguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CleanerArguments").field("source", &self.source).finish_non_exhaustive()
    }
}

/// The actor.
#[derive(Debug)]
pub struct CleanerActor;

/// What the actor owns while it runs.
#[derive(Debug)]
pub struct CleanerState {
    source: usize,
    rules: CleanRules,
    cleaner: Cleaner,
    /// Shard by symbol number.
    shard_of: Vec<usize>,
    input: Merge<RawBatch>,
    ingester: Consumer<RawBatch>,
    all: Producer<TickBatch>,
    shards: Vec<Producer<TickBatch>>,
    /// Rows of each shard that wait for more of their kind; unused when there is one shard.
    dealt: Vec<TickBatch>,
    /// Symbols to be made known with the next rows.
    definitions: Vec<Definition>,
    /// Frames taken in since the shards were last sent theirs.
    frames_waiting: usize,
    position: Key,
    rows: u64,
    checkpoints: Checkpoints,
    settings: StageSettings,
    sink: Outlet<Delivery<RawBatch>>,
}

/// What survives.
#[derive(Debug, Serialize, Deserialize)]
struct Checkpoint {
    cleaner: Cleaner,
    shard_of: Vec<usize>,
    rows: u64,
}

impl Actor for CleanerActor {
    type Msg = CleanerMessage;
    type State = CleanerState;
    type Arguments = CleanerArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<CleanerMessage>,
        arguments: CleanerArguments,
    ) -> Result<CleanerState, ActorProcessingErr> {
        let CleanerArguments {
            source,
            rules,
            shards,
            settings,
            progress,
            directory,
            ingester,
            hello_exec,
            hello_shards,
        } = arguments;
        let stored = Outlet::to_actor(&myself, CleanerMessage::Stored);
        let checkpoints = settings.checkpoints(&role(source), &progress, stored)?;
        let producer = |hello| Producer::new(Key::START, settings.retained, hello);
        let mut state = CleanerState {
            source,
            cleaner: Cleaner::new(rules.clone()),
            rules,
            shard_of: Vec::new(),
            input: Merge::new(1),
            ingester: Consumer::new(vec![ingester], settings.credit),
            all: producer(hello_exec),
            shards: hello_shards.into_iter().map(producer).collect(),
            dealt: (0..shards).map(|_| empty(source)).collect(),
            definitions: Vec::new(),
            frames_waiting: 0,
            position: Key::START,
            rows: 0,
            checkpoints,
            settings,
            sink: Outlet::to_actor(&myself, CleanerMessage::Rows),
        };
        state.go_back(Key::END)?;
        directory.register(&role(source), &myself);
        state.subscribe();
        state.all.say_hello();
        state.shards.iter().for_each(Producer::say_hello);
        Ok(state)
    }

    async fn handle(
        &self,
        _myself: ActorRef<CleanerMessage>,
        message: CleanerMessage,
        state: &mut CleanerState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            CleanerMessage::Rows((session, frame)) => {
                let block = Arc::clone(&frame.block);
                if state.input.accept(0, session, frame) {
                    block.definitions.iter().for_each(|definition| state.define(definition));
                }
            }
            CleanerMessage::IngesterIsBack => state.subscribe(),
            CleanerMessage::Demand(stream, demand) => state.on_demand(stream, demand)?,
            CleanerMessage::Stored(stored) => {
                state.checkpoints.on_stored(stored)?;
                state.announce_stable();
            }
            CleanerMessage::Report(reply) => {
                // A caller that stopped waiting is its own affair.
                let _ = reply.send(state.report());
            }
        }
        state.clean();
        Ok(())
    }
}

impl CleanerState {
    fn on_demand(
        &mut self,
        stream: CleanStream,
        demand: Demand<TickBatch>,
    ) -> Result<(), ActorProcessingErr> {
        let is_stable = matches!(demand, Demand::Stable(_));
        let output = match stream {
            CleanStream::All => &mut self.all,
            CleanStream::Shard(shard) => match self.shards.get_mut(shard) {
                Some(output) => output,
                None => return Err(format!("there is no shard {shard}").into()),
            },
        };
        if let Err(rewind) = output.on_demand(demand) {
            self.go_back(rewind.to)?;
            self.subscribe();
        }
        if is_stable {
            self.announce_stable();
        }
        Ok(())
    }

    /// Goes to the newest checkpoint not after `to`, or to the beginning.
    fn go_back(&mut self, to: Key) -> Result<(), ActorProcessingErr> {
        match self.checkpoints.newest::<Checkpoint>(to)? {
            Some((key, checkpoint)) => {
                self.cleaner = checkpoint.cleaner;
                self.cleaner.set_rules(self.rules.clone());
                self.shard_of = checkpoint.shard_of;
                self.rows = checkpoint.rows;
                self.position = key;
            }
            None => {
                self.cleaner = Cleaner::new(self.rules.clone());
                self.shard_of.clear();
                self.rows = 0;
                self.position = Key::START;
            }
        }
        self.dealt.iter_mut().for_each(|batch| *batch = empty(self.source));
        self.definitions.clear();
        self.frames_waiting = 0;
        self.all.rewind(self.position);
        self.shards.iter_mut().for_each(|shard| shard.rewind(self.position));
        Ok(())
    }

    /// Asks for what follows the rows done; those in hand are dropped.
    fn subscribe(&mut self) {
        self.ingester.subscribe(&mut self.input, 0, self.position, self.sink.clone());
    }

    fn announce_stable(&mut self) {
        let shards = self.shards.iter().map(|shard| shard.flow().stable());
        let stable = shards.fold(self.all.flow().stable(), Key::min);
        if let Some(key) = self.checkpoints.trim(stable) {
            self.ingester.stable(key);
        }
    }

    /// Cleans while there is room downstream.
    fn clean(&mut self) {
        while self.has_room() {
            let Some(run) = self.input.next_run() else { break };
            self.clean_run(&run);
        }
        if self.input.complete() == Key::END && self.position != Key::END && !self.input.has_rows()
        {
            self.finish();
        }
        self.ingester.return_credit(&mut self.input);
    }

    fn has_room(&self) -> bool {
        self.all.flow().has_room() && self.shards.iter().all(|shard| shard.flow().has_room())
    }

    fn clean_run(&mut self, run: &Run<RawBatch>) {
        let raw = &run.block;
        let mut clean = empty(self.source);
        clean.origin_nanos = raw.origin_nanos;
        clean.rows.reserve_exact(run.rows.len());
        let is_dealt = self.shards.len() > 1;
        clean.definitions = std::mem::take(&mut self.definitions);
        let mut passed = 0;
        for (key, row) in raw.keyed().skip(run.rows.start).take(run.rows.len()) {
            let is_boundary = row.kind == Kind::Boundary as u8;
            passed += u64::from(!is_boundary);
            if let Ok(tick) = self.cleaner.clean(key, row) {
                if !clean.push(key, tick) {
                    // Days lie between two rows: the batch cannot span them.
                    let before = std::mem::replace(&mut clean, empty(self.source));
                    clean.origin_nanos = raw.origin_nanos;
                    self.send(before, self.position, true);
                    clean.push(key, tick);
                }
                if is_dealt {
                    self.deal(key, tick, is_boundary, raw.origin_nanos);
                }
            }
            self.position = key;
        }
        self.rows += passed;
        self.settings.chaos.strike("cleaner", self.source, self.rows);
        let more = self.input.more();
        let due = self.checkpoints.is_due(run.rows.len() as u64);
        self.send(clean, self.position, more && !due);
        if is_dealt {
            self.frames_waiting += 1;
            if !more || due || self.frames_waiting >= self.shards.len() {
                self.send_dealt(self.position);
            }
        }
        if due {
            self.put_checkpoint();
        }
    }

    /// Learns a symbol. Its definition goes on with the next rows: no row of it can come before.
    fn define(&mut self, definition: &Definition) {
        self.cleaner.define(definition);
        let shard = shard_of(&definition.instrument.symbol, self.shards.len());
        let index = definition.id.index();
        if self.shard_of.len() <= index {
            self.shard_of.resize(index + 1, 0);
        }
        self.shard_of[index] = shard;
        self.definitions.push(definition.clone());
        if self.shards.len() > 1 {
            self.dealt[shard].definitions.push(definition.clone());
        }
    }

    fn deal(&mut self, key: Key, tick: Tick, is_boundary: bool, origin_nanos: u64) {
        let shards = if is_boundary {
            0..self.dealt.len()
        } else {
            let shard = self.shard_of.get(tick.symbol().index()).copied().unwrap_or(0);
            shard..shard + 1
        };
        for shard in shards {
            let batch = &mut self.dealt[shard];
            if batch.rows.is_empty() {
                batch.origin_nanos = origin_nanos;
            }
            if !batch.push(key, tick) {
                // As above. The stream is complete up to the row before this one.
                let full = std::mem::replace(batch, empty(self.source));
                self.dealt[shard].origin_nanos = origin_nanos;
                self.shards[shard].push(Arc::new(full), self.position, true);
                self.dealt[shard].push(key, tick);
            }
        }
    }

    /// Sends clean rows to exec, and to the factor engine if there is only one.
    fn send(&mut self, clean: TickBatch, complete: Key, more: bool) {
        let clean = Arc::new(clean);
        self.all.push(Arc::clone(&clean), complete, more);
        // Last, as whoever is woken last runs next: exec can do nothing before the signals come.
        if let [shard] = self.shards.as_mut_slice() {
            shard.push(clean, complete, more);
        }
    }

    fn send_dealt(&mut self, complete: Key) {
        self.frames_waiting = 0;
        let source = self.source;
        for (shard, batch) in self.shards.iter_mut().zip(&mut self.dealt) {
            let batch = std::mem::replace(batch, empty(source));
            shard.push(Arc::new(batch), complete, false);
        }
    }

    /// The source has ended: so do all streams.
    fn finish(&mut self) {
        self.position = Key::END;
        if self.shards.len() > 1 {
            self.send_dealt(Key::END);
        }
        self.send(empty(self.source), Key::END, false);
        self.put_checkpoint();
    }

    fn put_checkpoint(&mut self) {
        let checkpoint = Checkpoint {
            cleaner: self.cleaner.clone(),
            shard_of: self.shard_of.clone(),
            rows: self.rows,
        };
        self.checkpoints.put(self.position, &checkpoint);
    }

    fn report(&self) -> StageReport<CleanerReport> {
        let symbols = self.cleaner.counts().map(|(symbol, counts)| (symbol.clone(), *counts));
        let counts = CleanerReport { symbols: symbols.collect(), totals: self.cleaner.totals() };
        StageReport { complete: self.position, counts }
    }
}

fn empty(source: usize) -> TickBatch {
    let source = SourceId(u16::try_from(source).expect("sources are counted in 16 bits"));
    TickBatch { source, ..TickBatch::default() }
}
