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

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ractor::ActorProcessingErr;
use serde::{Deserialize, Serialize};
use tickwright_core::domain::{
    Control, Definition, Instruments, Key, Kind, RawBatch, SourceId, Symbol, Tick, TickBatch,
};
use tickwright_core::pipeline::clean::{CleanCounts, CleanRules, Cleaner};
use tickwright_core::stream::Run;

use crate::kit::{MessageOf, Stage, StageActor, Work};

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

impl CleanStream {
    /// Its place among the outputs.
    pub const fn output(self) -> usize {
        match self {
            Self::All => 0,
            Self::Shard(shard) => 1 + shard,
        }
    }
}

/// The actor.
pub type CleanerActor = StageActor<Cleaning>;

/// Everything the mailbox holds.
pub type CleanerMessage = MessageOf<Cleaning>;

/// What a cleaner has judged.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CleanerReport {
    /// By symbol.
    pub symbols: Vec<(Symbol, CleanCounts)>,
    /// Together.
    pub totals: CleanCounts,
}

/// What the actor is started with.
#[derive(Debug)]
pub struct CleanerArguments {
    /// The source's place among the sources.
    pub source: usize,
    /// What is let through.
    pub rules: CleanRules,
    /// How many shards rows are dealt out to.
    pub shards: usize,
    /// What is known of instruments.
    pub instruments: Instruments,
}

type CleanerStage = Stage<RawBatch, TickBatch>;

/// Venues that are spoken of at most.
const ANNOUNCED_MAX: usize = 16;

/// What the actor does.
#[derive(Debug)]
pub struct Cleaning {
    source: usize,
    rules: CleanRules,
    cleaner: Cleaner,
    /// Shard by symbol number.
    shard_of: Vec<usize>,
    /// Rows of each shard that wait for more of their kind; unused when there is one shard.
    dealt: Vec<TickBatch>,
    /// Symbols of which no row has been let through yet, by their number. A definition goes with the
    /// first row, neither before nor after: a consumer that has what follows some key then knows all
    /// that comes before it, also when the stage goes back and does not send it again.
    unmet: BTreeMap<u32, Definition>,
    /// Frames taken in since the shards were last sent theirs.
    frames_waiting: usize,
    rows: u64,
    instruments: Instruments,
    /// Venues of which it was said that nothing is known of them; at most [`ANNOUNCED_MAX`].
    announced: BTreeSet<String>,
}

/// What survives of a cleaner.
#[derive(Debug, Serialize, Deserialize)]
pub struct Checkpoint {
    cleaner: Cleaner,
    shard_of: Vec<usize>,
    unmet: BTreeMap<u32, Definition>,
    rows: u64,
}

impl Work for Cleaning {
    type Arguments = CleanerArguments;
    type Input = RawBatch;
    type Output = TickBatch;
    type Snapshot = Checkpoint;
    type Counts = CleanerReport;

    fn new(arguments: CleanerArguments) -> Result<Self, ActorProcessingErr> {
        let CleanerArguments { source, rules, shards, instruments } = arguments;
        Ok(Self {
            source,
            cleaner: Cleaner::new(rules.clone()),
            rules,
            shard_of: Vec::new(),
            dealt: (0..shards).map(|_| empty(source)).collect(),
            unmet: BTreeMap::new(),
            frames_waiting: 0,
            rows: 0,
            instruments,
            announced: BTreeSet::new(),
        })
    }

    fn go_back(
        &mut self,
        checkpoint: Option<Checkpoint>,
        _control: &Control,
    ) -> Result<(), ActorProcessingErr> {
        match checkpoint {
            Some(checkpoint) => {
                self.cleaner = checkpoint.cleaner;
                self.cleaner.set_rules(self.rules.clone());
                self.shard_of = checkpoint.shard_of;
                self.unmet = checkpoint.unmet;
                self.rows = checkpoint.rows;
            }
            None => {
                self.cleaner = Cleaner::new(self.rules.clone());
                self.shard_of.clear();
                self.unmet.clear();
                self.rows = 0;
            }
        }
        self.dealt.iter_mut().for_each(|batch| *batch = empty(self.source));
        self.frames_waiting = 0;
        Ok(())
    }

    fn snapshot(&self) -> Checkpoint {
        Checkpoint {
            cleaner: self.cleaner.clone(),
            shard_of: self.shard_of.clone(),
            unmet: self.unmet.clone(),
            rows: self.rows,
        }
    }

    fn counts(&self) -> CleanerReport {
        let symbols = self.cleaner.counts().map(|(symbol, counts)| (symbol.clone(), *counts));
        CleanerReport { symbols: symbols.collect(), totals: self.cleaner.totals() }
    }

    fn define(&mut self, block: &RawBatch) -> Result<(), ActorProcessingErr> {
        for definition in &block.definitions {
            self.announce(&definition.instrument.symbol);
            self.cleaner.define(definition);
            let shard = shard_of(&definition.instrument.symbol, self.dealt.len());
            let index = definition.id.index();
            if self.shard_of.len() <= index {
                self.shard_of.resize(index + 1, 0);
            }
            self.shard_of[index] = shard;
            self.unmet.insert(definition.id.0, definition.clone());
        }
        Ok(())
    }

    fn handle(
        &mut self,
        run: &Run<RawBatch>,
        stage: &mut CleanerStage,
    ) -> Result<(), ActorProcessingErr> {
        let raw = &run.block;
        let mut clean = empty(self.source);
        clean.origin_nanos = raw.origin_nanos;
        clean.rows.reserve_exact(run.rows.len());
        let mut passed = 0;
        for (key, row) in raw.keyed().skip(run.rows.start).take(run.rows.len()) {
            let is_boundary = row.kind == Kind::Boundary as u8;
            passed += u64::from(!is_boundary);
            if let Ok(tick) = self.cleaner.clean(key, row) {
                if !clean.push(key, tick) {
                    // Days lie between two rows: the batch cannot span them.
                    let before = std::mem::replace(&mut clean, empty(self.source));
                    clean.origin_nanos = raw.origin_nanos;
                    self.send(before, true, stage);
                    clean.push(key, tick);
                }
                if self.is_dealt() {
                    self.deal(key, tick, is_boundary, raw.origin_nanos, stage);
                }
                if !is_boundary && !self.unmet.is_empty() {
                    self.meet(tick.symbol, &mut clean);
                }
            }
            stage.advance(key);
        }
        self.rows += passed;
        stage.chaos().strike("cleaner", self.source, self.rows);
        let more = stage.more() && !stage.is_due();
        self.send(clean, more, stage);
        if self.is_dealt() {
            self.frames_waiting += 1;
            // Without room nothing more is taken in, and what waits could wait for ever.
            if !more || self.frames_waiting >= self.dealt.len() || !stage.has_room() {
                self.send_dealt(stage);
            }
        }
        Ok(())
    }

    fn flush(&mut self, stage: &mut CleanerStage) {
        if self.is_dealt() {
            self.send_dealt(stage);
        }
    }

    fn pass_time(&mut self, until: Key, stage: &mut CleanerStage) {
        // Time that passes without rows is told by boundary rows.
        if until == Key::END {
            stage.advance(Key::END);
            if self.is_dealt() {
                self.send_dealt(stage);
            }
            self.send(empty(self.source), false, stage);
        }
    }
}

impl Cleaning {
    /// Says once of each venue of which nothing is known what that means for its symbols.
    fn announce(&mut self, symbol: &Symbol) {
        let venue = symbol.venue();
        if self.announced.len() < ANNOUNCED_MAX
            && self.instruments.is_guessed(symbol)
            && self.announced.insert(venue.to_owned())
        {
            tracing::warn!(
                %symbol,
                "symbols of venue {venue:?} are taken for class \"generic\", with rules and terms of no particular \
                 market; name their class in [instruments.venues]"
            );
        }
    }

    /// Whether each shard gets rows of its own.
    fn is_dealt(&self) -> bool {
        self.dealt.len() > 1
    }

    /// A row of `symbol` has been let through: its definition goes with it, if it is the first.
    fn meet(&mut self, symbol: u32, clean: &mut TickBatch) {
        let Some(definition) = self.unmet.remove(&symbol) else { return };
        if self.is_dealt() {
            let shard = shard_of(&definition.instrument.symbol, self.dealt.len());
            self.dealt[shard].definitions.push(definition.clone());
        }
        clean.definitions.push(definition);
    }

    fn deal(
        &mut self,
        key: Key,
        tick: Tick,
        is_boundary: bool,
        origin_nanos: u64,
        stage: &mut CleanerStage,
    ) {
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
                stage.push(CleanStream::Shard(shard).output(), Arc::new(full), true);
                self.dealt[shard].push(key, tick);
            }
        }
    }

    /// Sends clean rows to exec, and to the factor engine if there is only one.
    fn send(&self, clean: TickBatch, more: bool, stage: &mut CleanerStage) {
        let clean = Arc::new(clean);
        stage.push(CleanStream::All.output(), Arc::clone(&clean), more);
        // Last, as whoever is woken last runs next: exec can do nothing before the signals come.
        if !self.is_dealt() {
            stage.push(CleanStream::Shard(0).output(), clean, more);
        }
    }

    fn send_dealt(&mut self, stage: &mut CleanerStage) {
        self.frames_waiting = 0;
        for (shard, batch) in self.dealt.iter_mut().enumerate() {
            let batch = std::mem::replace(batch, empty(self.source));
            stage.push(CleanStream::Shard(shard).output(), Arc::new(batch), false);
        }
    }
}

fn empty(source: usize) -> TickBatch {
    let source = SourceId(u16::try_from(source).expect("sources are counted in 16 bits"));
    TickBatch { source, ..TickBatch::default() }
}
