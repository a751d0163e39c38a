//! The actor: takes rows in, has them written, and lets go of what relies on them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use ractor_cluster::RactorMessage;
use tickwright_core::domain::{Backoff, Instrument, SourceId, SymbolId, Timestamp};
use tickwright_core::records::{Buffer, Drain, Numbered, Row, Sift, audit_row};

use super::aside::{Aside, AsideRow, Kept};
use super::spill::{Left, Spill};
use super::{CARRIED_ROWS_MAX, Database, DatabaseError, ROLE, RecordsSettings, Shared, lock};
use crate::kit::{
    Barrier, Carried, Clock, Directory, RecordedFactors, RecordedTicks, ResumedFrom, StoreError,
};

/// Between two attempts at a database that is away.
const RETRY: Backoff = Backoff { first: Duration::from_millis(100), max: Duration::from_secs(5) };

/// Everything the mailbox holds.
#[derive(Debug, RactorMessage)]
pub enum RecordsMessage {
    /// From positions, in exec's order.
    Happened(Vec<Numbered>),
    /// From exec, in its order.
    Ticks(RecordedTicks),
    /// Somebody did something: it is among the deeds.
    Noted,
    /// What factors came to.
    Factors(RecordedFactors),
    /// A checkpoint waits.
    Barrier(Barrier),
    /// Exec goes on from a checkpoint that these came with.
    Carried(Carried),
    /// Exec goes on from this.
    Resumed(ResumedFrom),
    /// What was to be spilled is on the disk, or is not.
    Spilled(Result<(), StoreError>),
    /// A batch is in the database, up to this number, or is not.
    Written(Result<u64, DatabaseError>),
    /// It is time to try again.
    Retry,
}

/// What the actor is started with.
#[derive(Clone, Debug)]
pub struct RecordsArguments {
    pub(super) settings: Arc<RecordsSettings>,
    pub(super) shared: Arc<Shared>,
    pub(super) spill: Spill,
    pub(super) aside: Aside,
    pub(super) directory: Directory,
}

/// The actor.
#[derive(Debug)]
pub struct RecordsActor;

/// What the actor owns while it runs.
#[derive(Debug)]
pub struct RecordsState {
    arguments: RecordsArguments,
    myself: ActorRef<RecordsMessage>,
    buffer: Buffer,
    /// What waits for rows up to a number. Bounded by exec, which waits for one at a time.
    barriers: VecDeque<(u64, Barrier)>,
    /// How often in a row the database could not be written.
    failures: u32,
    is_paused: bool,
    /// Whether the spill journal has anything.
    has_spilled: bool,
    /// When this life began, and how many deeds it has written down.
    begun: Timestamp,
    deeds: u64,
    /// What is traded, by source and its number there. One per symbol.
    instruments: BTreeMap<(SourceId, SymbolId), Arc<Instrument>>,
}

impl Actor for RecordsActor {
    type Msg = RecordsMessage;
    type State = RecordsState;
    type Arguments = RecordsArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<RecordsMessage>,
        arguments: RecordsArguments,
    ) -> Result<RecordsState, ActorProcessingErr> {
        let Left { written, durable } = arguments.spill.left()?;
        if durable > written {
            let rows = durable - written;
            tracing::info!(rows, "rows of an earlier life wait for the database");
        }
        let mut state = RecordsState {
            buffer: Buffer::new(arguments.settings.buffer, written, durable),
            arguments,
            myself: myself.clone(),
            barriers: VecDeque::new(),
            failures: 0,
            is_paused: false,
            has_spilled: durable > written,
            begun: Clock::system().now(),
            deeds: 0,
            instruments: BTreeMap::new(),
        };
        state.arguments.directory.register(ROLE, &myself);
        if state.arguments.shared.is_restart() {
            state.tell_exec();
        }
        let database = lock(&state.arguments.shared.database).clone();
        if let Some(database) = database {
            state.meet(&database);
        }
        state.go_on();
        Ok(state)
    }

    async fn handle(
        &self,
        _myself: ActorRef<RecordsMessage>,
        message: RecordsMessage,
        state: &mut RecordsState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            RecordsMessage::Happened(happened) => state.take(&happened),
            RecordsMessage::Ticks(ticks) => state.take_ticks(ticks),
            RecordsMessage::Factors(factors) => state.take_factors(&factors),
            RecordsMessage::Barrier(barrier) => state.take_barrier(barrier),
            RecordsMessage::Carried(carried) => state.take_carried(carried),
            RecordsMessage::Resumed(from) => state.on_resumed(from),
            RecordsMessage::Spilled(result) => state.on_spilled(result),
            RecordsMessage::Written(result) => state.on_written(result)?,
            // It is looked at below, as always.
            RecordsMessage::Noted => {}
            RecordsMessage::Retry => state.is_paused = false,
        }
        state.go_on();
        Ok(())
    }
}

impl RecordsState {
    fn take(&mut self, happened: &[Numbered]) {
        for each in happened {
            self.buffer.take(self.arguments.settings.names.row(each));
        }
    }

    fn take_ticks(&mut self, ticks: RecordedTicks) {
        let RecordedTicks { block, rows, listed } = ticks;
        let source = block.source;
        self.instruments.extend(listed.into_iter().map(|(of, id, it)| ((of, id), it)));
        let names = &self.arguments.settings.names;
        for row in rows {
            let symbol = block.rows.get(row).map(|tick| (source, SymbolId(tick.symbol)));
            let instrument = symbol.and_then(|symbol| self.instruments.get(&symbol));
            // One that this life never heard of is listed again with exec's next epoch.
            let row = instrument.and_then(|instrument| names.tick(&block, row, instrument));
            row.into_iter().for_each(|row| self.buffer.take(row));
        }
    }

    fn take_factors(&mut self, RecordedFactors { batch, symbols }: &RecordedFactors) {
        let names = &self.arguments.settings.names;
        for (index, symbol) in symbols.iter().enumerate() {
            let row = names.factors(batch, index, symbol);
            row.into_iter().for_each(|row| self.buffer.take(row));
        }
    }

    fn take_barrier(&mut self, barrier: Barrier) {
        if matches!(barrier, Barrier::Carrying(_)) {
            lock(&self.arguments.shared.past).on_checkpoint();
        }
        self.barriers.push_back((self.buffer.taken(), barrier));
    }

    /// Says so, if what was recorded before is not in the database.
    fn on_resumed(&self, from: ResumedFrom) {
        let (settings, shared) = (&self.arguments.settings, &self.arguments.shared);
        let Some(told) = lock(&shared.past).on_resumed(from) else { return };
        if !settings.database.url.is_of_a_server() {
            return shared.say(told);
        }
        // Since it was opened, another node may have recorded there.
        let Some(database) = lock(&shared.database).clone() else { return };
        let (run, shared) = (settings.names.run.clone(), Arc::clone(shared));
        tokio::spawn(async move {
            if Box::pin(database.has_nothing_of(&run)).await.unwrap_or(false) {
                shared.say(told);
            }
        });
    }

    /// Takes in what waited where exec was before, unless that was here. Rows that the database has by now are
    /// the same rows.
    fn take_carried(&mut self, carried: Carried) {
        if self.arguments.spill.has(&carried) {
            return;
        }
        let Carried { disk, rows, left } = carried;
        let node = disk.split('/').next().unwrap_or_default();
        tracing::info!(rows = rows.len(), node, "rows that wait for the database came with exec");
        rows.into_iter().for_each(|row| self.buffer.take(row));
        if left > 0 {
            self.arguments.shared.say(format!(
                "{left} rows wait for the database on the disk of node {node} alone, which had exec before: it \
                 writes them when it is back, and without that disk they are lost"
            ));
        }
    }

    /// What only memory had is lost, or the database is another one: exec is to derive again what followed
    /// its checkpoint.
    fn tell_exec(&self) {
        let shared = &self.arguments.shared;
        let exec = lock(&shared.exec).clone();
        // Exec and shards may be elsewhere, or have ended.
        let _ = exec.map(|exec| exec.send(()));
        for shard in lock(&shared.shards).values() {
            let _ = shard.send(());
        }
    }

    /// Has written whatever can be, lets go what may, and says how it stands.
    fn go_on(&mut self) {
        let deeds = std::mem::take(&mut *lock(&self.arguments.shared.deeds));
        // No checkpoint stands for these.
        let is_noted = !deeds.is_empty();
        for (deed, detail) in deeds {
            self.deeds += 1;
            let (node, begun) = (&self.arguments.settings.node, self.begun.as_nanos());
            let at = Clock::system().now();
            self.buffer.take(audit_row(node, begun, self.deeds, at, (&deed, &detail)));
        }
        let awaited = self.barriers.back().is_some_and(|(until, _)| *until > self.buffer.durable());
        if (awaited || is_noted || self.buffer.is_crowded())
            && let Some((rows, last)) = self.buffer.spill()
        {
            self.has_spilled = true;
            let myself = self.myself.clone();
            // An actor that has ended has a successor, which looks at what is there.
            let done = move |result| drop(myself.cast(RecordsMessage::Spilled(result)));
            self.arguments.spill.put(&rows, last, Box::new(done));
        }
        if !self.is_paused {
            self.drain();
        }
        while let Some((_, barrier)) =
            self.barriers.pop_front_if(|(until, _)| *until <= self.buffer.durable())
        {
            self.release(barrier);
        }
        self.show();
    }

    /// Lets go what waited for rows that are in the database or on the disk.
    fn release(&self, barrier: Barrier) {
        let give = match barrier {
            Barrier::Plain(done) => return done(),
            Barrier::Carrying(give) => give,
        };
        let (spill, shared) = (self.arguments.spill.clone(), Arc::clone(&self.arguments.shared));
        let (written, until) = (self.buffer.written(), self.buffer.durable());
        let carry = move || {
            let carried = spill.carried(written, until, CARRIED_ROWS_MAX);
            let carried = carried.unwrap_or_else(|error| {
                shared.say(format!("rows that wait for the database cannot be read: {error}"));
                // They may be after all, later: they are on this disk, and exec does not wait for that.
                spill.nothing_of(until - written)
            });
            shared.on_carried(carried.left);
            give(carried);
        };
        tokio::task::spawn_blocking(carry);
    }

    fn drain(&mut self) {
        let drain = self.buffer.drain();
        if drain == Drain::Nothing {
            return;
        }
        let arguments = self.arguments.clone();
        let myself = self.myself.clone();
        tokio::spawn(async move {
            let place = arguments.settings.database.url.to_string();
            let writing = tokio::spawn(async move { write(&arguments, drain).await });
            let written = writing.await.unwrap_or_else(|error| {
                // Whatever panicked there: the rows are still here.
                Err(DatabaseError::Failed { place, message: error.to_string() })
            });
            // As above.
            let _ = myself.cast(RecordsMessage::Written(written));
        });
    }

    fn on_spilled(&mut self, result: Result<(), StoreError>) {
        match result {
            Ok(()) => self.buffer.on_spilled(),
            Err(error) => {
                // The store takes nothing more in this life. Checkpoints wait until the database has the rows; that
                // is slower, and loses nothing.
                self.arguments.shared.say(format!(
                    "rows cannot wait on the disk any more: {error}; until this node is started again they wait in \
                     memory, and checkpoints wait for the database"
                ));
            }
        }
    }

    fn on_written(&mut self, result: Result<u64, DatabaseError>) -> Result<(), ActorProcessingErr> {
        match result {
            Ok(until) => {
                self.buffer.on_written(until);
                if self.failures > 0 {
                    tracing::info!("the database takes rows again");
                }
                self.failures = 0;
                if self.has_spilled {
                    self.arguments.spill.forget(until)?;
                    self.has_spilled = self.arguments.spill.left()? != Left::default();
                }
                let database = lock(&self.arguments.shared.database).clone();
                if let Some(database) = database {
                    self.meet(&database);
                }
                let mut status = lock(&self.arguments.shared.status);
                status.problem = None;
                status.is_connected = true;
            }
            Err(error) => {
                self.buffer.on_failed();
                if self.failures == 0 {
                    tracing::warn!(%error, "the database does not take rows: they wait");
                }
                let mut status = lock(&self.arguments.shared.status);
                status.problem = Some(error.to_string());
                status.is_connected = false;
                drop(status);
                let delay = RETRY.delay(self.failures);
                self.failures = self.failures.saturating_add(1);
                self.is_paused = true;
                let myself = self.myself.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    let _ = myself.cast(RecordsMessage::Retry);
                });
            }
        }
        Ok(())
    }

    /// Notices when the database is another one than rows went to before.
    fn meet(&mut self, database: &Database) {
        let known = self.arguments.spill.known_database();
        if known.as_deref() == Some(database.identity()) {
            return;
        }
        self.arguments.spill.know_database(database.identity());
        if known.is_none() {
            return;
        }
        self.arguments.shared.say(format!(
            "database {} is not the one that rows went to before: positions are written there again from \
             exec's checkpoint, and what followed that is derived again; orders and fills before it are in \
             the old one alone, and come back only by a run from the beginning over the same data, or by \
             `tickwright db copy` from a copy",
            database.place()
        ));
        self.tell_exec();
    }

    fn show(&self) {
        let shared = &self.arguments.shared;
        let mut status = lock(&shared.status);
        status.written = self.buffer.written();
        status.waiting = self.buffer.waiting();
        status.in_memory_alone = self.buffer.at_risk();
        status.set_aside = self.arguments.aside.count();
        let is_full = self.buffer.is_full();
        let was_full = std::mem::replace(&mut status.is_full, is_full);
        drop(status);
        shared.is_full.store(is_full, Ordering::Relaxed);
        if was_full && !is_full {
            let room = lock(&shared.room).clone();
            // Exec may be elsewhere, or have ended.
            let _ = room.map(|room| room.send(()));
        }
        if is_full != was_full {
            let waiting = self.buffer.waiting();
            shared.say(match is_full {
                true => format!(
                    "{waiting} rows wait for the database: no order opens or enlarges a position"
                ),
                false => format!("{waiting} rows wait for the database: orders may open again"),
            });
        }
        shared.changed.notify_waiters();
    }
}

/// Writes a batch, and returns the number of its last row. A database that failed is opened anew with the
/// next one.
async fn write(arguments: &RecordsArguments, drain: Drain) -> Result<u64, DatabaseError> {
    let (rows, until): (Vec<Row>, u64) = match drain {
        Drain::Nothing => return Ok(0),
        Drain::Memory(rows, until) => (rows, until),
        Drain::Journal(written) => match arguments.spill.after(written) {
            Ok(Some((first, rows))) => {
                let count = u64::try_from(rows.len()).unwrap_or(0);
                (rows, (first + count).saturating_sub(1))
            }
            Ok(None) => (Vec::new(), written),
            Err(error) => {
                let place = arguments.settings.database.url.to_string();
                let message = format!("rows that wait for it cannot be read: {error}");
                return Err(DatabaseError::Failed { place, message });
            }
        },
    };
    let open = lock(&arguments.shared.database).clone();
    let database = match open {
        Some(database) => database,
        None => {
            let database = Database::open(arguments.settings.database.clone()).await?;
            let (settings, shared) = (&arguments.settings, &arguments.shared);
            shared.look_back(settings, &arguments.spill, &database).await;
            *lock(&arguments.shared.database) = Some(database.clone());
            database
        }
    };
    let mut sift = Sift::new(rows);
    while let Some(rows) = sift.next_part() {
        match database.write(rows).await {
            Ok(()) => sift.on_written(),
            Err(DatabaseError::Refused { message, .. }) => {
                if let Some(row) = sift.on_refused() {
                    set_aside(arguments, row, message).await?;
                }
            }
            Err(error) => {
                *lock(&arguments.shared.database) = None;
                return Err(error);
            }
        }
    }
    Ok(until)
}

/// Keeps a row that the database will not have, so that those behind it go on.
async fn set_aside(
    arguments: &RecordsArguments,
    row: Row,
    reason: String,
) -> Result<(), DatabaseError> {
    let place = arguments.settings.database.url.to_string();
    let what = format!("a row of {} ({})", row.table.name(), row.name());
    let (aside, shared) = (arguments.aside.clone(), Arc::clone(&arguments.shared));
    let refused = AsideRow::new(row, reason.clone(), Clock::system().now());
    let keeping = tokio::task::spawn_blocking(move || aside.put(&refused)).await;
    let kept = keeping.map_err(|error| error.to_string());
    let kept = kept.and_then(|kept| kept.map_err(|error| error.to_string()));
    let message = match kept {
        Ok(Kept::New) => {
            shared.on_aside(arguments, format!("database {place} refuses {what}: {reason}"));
            return Ok(());
        }
        Ok(Kept::Known) => return Ok(()),
        Ok(Kept::NoRoom) => format!(
            "refuses {what}: {reason}; {} rows are set aside already, so it waits, with all behind it: see \
             `tickwright ctl db`",
            arguments.aside.count()
        ),
        Err(error) => format!("refuses {what}: {reason}; and it cannot be set aside: {error}"),
    };
    Err(DatabaseError::Failed { place, message })
}
