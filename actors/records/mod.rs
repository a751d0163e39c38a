//! What is recorded of a run, on its way to the database.
//!
//! ```text
//! positions ── Happened ─▶ RecordsActor ─▶ Buffer ─▶ a task per batch ─▶ Database
//!    risk ───── Ticks ────▶     │            └▶ Spill, on the disk ────▶
//!  factors ──── Factors ──▶     │
//!    tools ──── Question ───────┴──────────────────────────────────────▶ asked beside it
//! ```
//!
//! *Off the hot path.* Whoever feeds it sends a message and goes on. The actor never waits for the database,
//! nor for the disk: batches and the spill journal are written by others, one at a time each.
//!
//! *Failover.* A checkpoint of exec counts only once every row that came before it is in the database or in
//! the spill journal ([`crate::kit::Barrier`]). So after any crash the rows that only memory had are derived again with
//! the orders themselves, and those that were written meanwhile are the same rows: writing is idempotent.
//! What waits on the disk goes with exec's checkpoint to wherever that is kept, up to `CARRIED_ROWS_MAX` rows of
//! what exec does ([`crate::kit::Carried`]): a successor on another node takes them in before it goes on.
//! When this actor itself starts anew it tells exec, which goes back to its checkpoint.
//!
//! *Delivery.* In the order of exec, at least once; in the database, once.
//!
//! *Bounds.* `buffer_rows` in memory, the disk for what is more, and the mailbox by exec, which has no
//! checkpoint before its rows are taken in. Past `spill_rows_max` [`Recording::is_full`] says so, and risk lets
//! nothing be opened.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ractor::{Actor, ActorRef};
use serde::Serialize;
use serde_json::json;
use tickwright_core::config::{Config, DatabaseConfig, Subtree};
use tickwright_core::records::{BufferConfig, Names, Question, Value};
use tickwright_core::supervision::Restart;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

mod actor;
mod aside;
pub mod database;
mod past;
mod spill;
pub mod tool;

pub use actor::{RecordsActor, RecordsMessage};
pub use aside::{AsideRow, Retried};
pub use database::{Answer, Database, DatabaseError, DatabaseSettings, DatabaseUrl, Origin};

use crate::kit::{
    ChildSpec, Clock, Directory, FactorRecording, Outlet, Recording, StoreError,
    SupervisionStatistics, Supervisor, SupervisorArguments, SupervisorMessage,
};
use aside::Aside;
use past::Past;
use spill::Spill;

/// The role of records, on this node and among nodes.
pub const ROLE: &str = "records";

/// Rows that go with a checkpoint at most: about a megabyte, which is sent and stored with each while the database
/// is away.
pub(crate) const CARRIED_ROWS_MAX: usize = 4_000;

/// Deeds that wait to be written down, at most.
const DEEDS_MAX: usize = 1_024;

/// What to do about rows that were set aside.
const ASIDE_REMEDY: &str = "`tickwright ctl db` shows them with the reason, `ctl db --retry` offers them again once \
    that is gone (without a node: `tickwright db aside`, `db retry`)";

/// How long its supervisor may take to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// Why nothing can be recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// The database cannot be used at all.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The journal of rows that wait cannot be used.
    #[error(transparent)]
    Spill(#[from] StoreError),
    /// The actor could not be started.
    #[error("the records cannot be started: {0}")]
    Start(String),
}

/// What is recorded, and where.
#[derive(Clone, Debug)]
pub struct RecordsSettings {
    /// The database.
    pub database: DatabaseSettings,
    /// How much may wait.
    pub buffer: BufferConfig,
    /// Whether clean rows are recorded.
    pub ticks: bool,
    /// Whether what factors come to is.
    pub factors: bool,
    /// How long what is left at the end is waited for.
    pub drain: Duration,
    /// Where the spill journal is.
    pub data_dir: PathBuf,
    /// What numbers stand for.
    pub names: Names,
    /// What this node is called.
    pub node: String,
}

impl RecordsSettings {
    /// As `config` has it; `run` tells this run from all others. None, if nothing is to be recorded.
    ///
    /// # Errors
    ///
    /// [`DatabaseError`], when it is not known where the database is.
    pub fn of(config: &Config, run: String) -> Result<Option<Self>, DatabaseError> {
        let section = &config.database;
        let Some(database) = database_settings(section, &config.node.data_dir)? else {
            return Ok(None);
        };
        let names = Names {
            run,
            strategies: config.strategies.iter().map(|it| it.name.clone()).collect(),
            accounts: config.accounts.iter().map(|it| it.name.clone()).collect(),
            brokers: tickwright_core::config::BROKERS.map(str::to_owned).to_vec(),
        };
        Ok(Some(Self {
            database,
            buffer: section.buffer,
            ticks: section.ticks,
            factors: section.factors,
            drain: section.drain,
            data_dir: PathBuf::from(&config.node.data_dir),
            names,
            node: config.node.name.clone(),
        }))
    }
}

/// How the database that `section` names is used; none, if it names none.
///
/// # Errors
///
/// [`DatabaseError`], when it is not known where it is.
pub fn database_settings(
    section: &DatabaseConfig,
    data_dir: &str,
) -> Result<Option<DatabaseSettings>, DatabaseError> {
    let url = DatabaseUrl::of(section, data_dir)?;
    Ok(url.map(|url| DatabaseSettings {
        url,
        connections_max: section.connections_max,
        timeout: section.timeout,
        days_max: section.days_max,
    }))
}

/// How the records stand, for tools.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RecordsStatus {
    /// Where the database is, without a password.
    pub database: String,
    /// Whether it takes rows.
    pub is_connected: bool,
    /// Rows that it has of this process.
    pub written: u64,
    /// Rows that wait for it.
    pub waiting: u64,
    /// Of those, rows that only memory has.
    pub in_memory_alone: u64,
    /// Of those, rows that would be lost with this node's disk: more wait than go with exec's checkpoint.
    pub on_disk_alone: u64,
    /// Whether so many wait that nothing may be opened.
    pub is_full: bool,
    /// Rows that the database will not have, and that are kept on this node's disk.
    pub set_aside: u64,
    /// What went wrong last.
    pub problem: Option<String>,
    /// What an operator should know.
    pub notices: Vec<String>,
}

/// What the actor and those who ask it share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    status: Mutex<RecordsStatus>,
    is_full: Arc<AtomicBool>,
    /// Told when something was written, or could not be.
    changed: Notify,
    database: Mutex<Option<Database>>,
    /// Whom to tell when the actor has started anew.
    exec: Mutex<Option<Outlet<()>>>,
    /// Whom else, by shard.
    shards: Mutex<BTreeMap<usize, Outlet<()>>>,
    /// Whom to tell when there is room again.
    room: Mutex<Option<Outlet<()>>>,
    starts: AtomicU64,
    /// Whether it was told that rows are set aside.
    is_aside_told: AtomicBool,
    /// Whether what was recorded before is missing.
    past: Mutex<Past>,
    /// What is to be written down beside what exec does. At most [`DEEDS_MAX`].
    deeds: Mutex<Vec<(String, String)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The running service of a node; clones reach the same.
#[derive(Clone)]
pub struct Records {
    settings: Arc<RecordsSettings>,
    shared: Arc<Shared>,
    aside: Aside,
    directory: Directory,
    supervisor: ActorRef<SupervisorMessage>,
    statistics: SupervisionStatistics,
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Records {
    /// Starts what records for this node. A database that is away is no reason not to start; one that a
    /// later version has been at is.
    ///
    /// # Errors
    ///
    /// [`RecordsError`].
    pub async fn start(config: &Config, settings: RecordsSettings) -> Result<Self, RecordsError> {
        let now = Clock::system().now();
        let spill = Spill::open(&settings.data_dir, &settings.node, now)?;
        let aside = spill.aside()?;
        if aside.count() > 0 {
            let (rows, place) = (aside.count(), settings.database.url.to_string());
            tracing::warn!(
                "{rows} rows are set aside that database {place} refused: {ASIDE_REMEDY}"
            );
        }
        let shared = Arc::new(Shared::default());
        lock(&shared.status).database = settings.database.url.to_string();
        match Database::open(settings.database.clone()).await {
            Ok(database) => {
                shared.look_back(&settings, &spill, &database).await;
                *lock(&shared.database) = Some(database);
            }
            Err(
                error @ (DatabaseError::Newer { .. } | DatabaseError::Url | DatabaseError::Kind),
            ) => {
                return Err(error.into());
            }
            Err(error) => {
                tracing::warn!(%error, "the database is away: rows wait on the disk for it");
                lock(&shared.status).problem = Some(error.to_string());
            }
        }
        let run = settings.names.run.clone();
        lock(&shared.deeds).push(("start".into(), run));
        let settings = Arc::new(settings);
        let directory = Directory::default();
        let statistics = SupervisionStatistics::default();
        let given = actor::RecordsArguments {
            settings: Arc::clone(&settings),
            shared: Arc::clone(&shared),
            spill,
            aside: aside.clone(),
            directory: directory.clone(),
        };
        let child = ChildSpec::new(ROLE, Restart::Permanent, move |parent| {
            let given = given.clone();
            async move { Ok(parent.spawn_linked(None, RecordsActor, given).await?.0.get_cell()) }
        });
        let arguments = SupervisorArguments {
            name: ROLE.into(),
            policy: config.policy(Subtree::Control),
            children: vec![child],
            clock: Clock::system(),
            statistics: statistics.clone(),
        };
        let spawned = Supervisor::spawn(None, Supervisor, arguments).await;
        let (supervisor, _) = spawned.map_err(|error| RecordsError::Start(error.to_string()))?;
        Ok(Self { settings, shared, aside, directory, supervisor, statistics })
    }

    /// Takes what is to be recorded.
    pub fn recording(&self) -> Recording {
        let ticks = || Outlet::to_role(&self.directory, ROLE, RecordsMessage::Ticks);
        Recording {
            happened: Outlet::to_role(&self.directory, ROLE, RecordsMessage::Happened),
            barrier: Outlet::to_role(&self.directory, ROLE, RecordsMessage::Barrier),
            carried: Outlet::to_role(&self.directory, ROLE, RecordsMessage::Carried),
            resumed: Outlet::to_role(&self.directory, ROLE, RecordsMessage::Resumed),
            ticks: self.settings.ticks.then(ticks),
            is_full: Arc::clone(&self.shared.is_full),
        }
    }

    /// Takes what the factors of `shard` come to, if that is to be recorded, and tells `begin_anew` whenever what
    /// only memory had is lost.
    pub fn factor_recording(
        &self,
        shard: usize,
        begin_anew: Outlet<()>,
    ) -> Option<FactorRecording> {
        if !self.settings.factors {
            return None;
        }
        lock(&self.shared.shards).insert(shard, begin_anew);
        Some(FactorRecording {
            factors: Outlet::to_role(&self.directory, ROLE, RecordsMessage::Factors),
            barrier: Outlet::to_role(&self.directory, ROLE, RecordsMessage::Barrier),
        })
    }

    /// Tells `exec` whenever what only memory had is lost, and is to be derived again; tells it by `room` when
    /// no longer too much waits.
    pub fn tell_exec(&self, exec: Outlet<()>, room: Outlet<()>) {
        *lock(&self.shared.exec) = Some(exec);
        *lock(&self.shared.room) = Some(room);
    }

    /// How it stands.
    pub fn status(&self) -> RecordsStatus {
        lock(&self.shared.status).clone()
    }

    /// What its supervisor has seen.
    pub fn statistics(&self) -> &SupervisionStatistics {
        &self.statistics
    }

    /// Writes down what somebody did.
    ///
    /// # Errors
    ///
    /// When too many of them wait already.
    pub fn note(&self, deed: String, detail: String) -> Result<(), String> {
        let mut deeds = lock(&self.shared.deeds);
        if deeds.len() >= DEEDS_MAX {
            return Err(format!("{DEEDS_MAX} deeds wait to be written down"));
        }
        deeds.push((deed, detail));
        drop(deeds);
        let noted = Outlet::to_role(&self.directory, ROLE, |()| RecordsMessage::Noted);
        // One that has ended has a successor, which looks at what is there.
        let _ = noted.send(());
        Ok(())
    }

    /// Asks the database.
    ///
    /// # Errors
    ///
    /// Why there is no answer, in words.
    pub async fn ask(&self, question: &Question) -> Result<Answer, String> {
        let database = lock(&self.shared.database).clone();
        let Some(database) = database else {
            let RecordsStatus { database, waiting, problem, .. } = self.status();
            let problem = problem.unwrap_or_else(|| "no connection yet".into());
            return Err(format!("database {database} is away, and {waiting} rows wait: {problem}"));
        };
        let mut answer = database.ask(question).await.map_err(|error| error.to_string())?;
        answer.origin = Some(Origin {
            node: self.settings.node.clone(),
            place: database.place(),
            is_own: !self.settings.database.url.is_of_a_server(),
        });
        Ok(answer)
    }

    /// The rows that were set aside, by name, oldest first, as they are now.
    ///
    /// # Errors
    ///
    /// In words, when the disk fails.
    pub fn set_aside(&self) -> Result<Vec<(String, AsideRow)>, String> {
        self.aside.list().map_err(|error| error.to_string())
    }

    /// Offers the rows that were set aside to the database again.
    ///
    /// # Errors
    ///
    /// Why not all of them were offered, in words.
    pub async fn retry_aside(&self) -> Result<Retried, String> {
        let database = lock(&self.shared.database).clone();
        let database = database.ok_or("the database is away")?;
        let retried = self.aside.retry(&database).await;
        self.shared.show_aside(self.aside.count());
        retried
    }

    /// Drops the row of this name that was set aside, or all of them by the name `all`; returns how many.
    pub fn discard_aside(&self, name: &str) -> u64 {
        let count = self.aside.discard(name);
        self.shared.show_aside(self.aside.count());
        count
    }

    /// Waits until nothing waits any more, for as long as `database.drain_ms` says; returns how many rows
    /// still do.
    pub async fn drained(&self) -> u64 {
        let deadline = Instant::now() + self.settings.drain;
        loop {
            let changed = self.shared.changed.notified();
            let waiting = lock(&self.shared.status).waiting;
            if waiting == 0 || timeout_at(deadline, changed).await.is_err() {
                return lock(&self.shared.status).waiting;
            }
        }
    }

    /// Ends it in order once everything is in the database, or the time for that is over. Returns what the
    /// operator must know.
    pub async fn end(&self) -> Option<String> {
        let waiting = self.drained().await;
        let RecordsStatus { database, problem, .. } = self.status();
        self.stop().await;
        let directory = self.settings.data_dir.join("records");
        let aside = self.aside.count();
        let refused = (aside > 0).then(|| {
            format!(
                "{aside} rows are set aside in `{}` that database {database} refused: {ASIDE_REMEDY}",
                directory.display()
            )
        });
        let waiting = (waiting > 0).then(|| {
            format!(
                "{waiting} rows are not in database {database}: {}; they are in `{}`, and go there with the \
                 next start, or by `tickwright db flush`",
                problem.unwrap_or_else(|| "the time for it was over".into()),
                directory.display()
            )
        });
        let left: Vec<String> = waiting.into_iter().chain(refused).collect();
        (!left.is_empty()).then(|| left.join("; "))
    }

    /// Ends it in order. What waits is in the spill journal, if a checkpoint relies on it.
    pub async fn stop(&self) {
        if let Err(error) = self.supervisor.stop_and_wait(None, Some(STOP_PATIENCE)).await {
            tracing::debug!(%error, "the records had ended");
        }
        let database = lock(&self.shared.database).take();
        if let Some(database) = database {
            database.close().await;
        }
    }
}

/// Rows that were set aside as a table, for tools.
pub(crate) fn aside_to_json(rows: &[(String, AsideRow)]) -> serde_json::Value {
    let row = |(id, aside): &(String, AsideRow)| {
        let table = aside.row.table.name();
        json!([id, aside.at_ns, table, aside.row.name(), aside.reason])
    };
    let rows: Vec<serde_json::Value> = rows.iter().map(row).collect();
    json!({ "columns": ["id", "at_ns", "table", "key", "reason"], "rows": rows })
}

impl Answer {
    /// Columns, rows, and whose database it was, for tools.
    pub fn to_json(&self) -> serde_json::Value {
        let columns: Vec<&str> = self.columns.iter().map(|column| column.name).collect();
        let value = |value: &Value| match value {
            Value::Null => serde_json::Value::Null,
            Value::Integer(number) => json!(number),
            Value::Float(number) => json!(number),
            Value::Text(text) => json!(text),
        };
        let rows: Vec<Vec<serde_json::Value>> =
            self.rows.iter().map(|row| row.iter().map(value).collect()).collect();
        let mut answer = json!({ "columns": columns, "rows": rows });
        if let Some(Origin { node, place, is_own }) = &self.origin {
            answer["node"] = json!(node);
            answer["database"] = json!(place);
            answer["is_own"] = json!(is_own);
        }
        answer
    }
}

impl Shared {
    /// Looks whether a database of which this disk knows nothing has anything of the run, before this life writes
    /// there.
    async fn look_back(&self, settings: &RecordsSettings, spill: &Spill, database: &Database) {
        if spill.known_database().is_some() {
            return;
        }
        let looking = Box::pin(database.has_nothing_of(&settings.names.run));
        // Without an answer nothing is known, nor said.
        if looking.await.unwrap_or(false) {
            let told = lock(&self.past).on_bare(database.place());
            told.into_iter().for_each(|notice| self.say(notice));
        }
    }

    fn say(&self, notice: String) {
        tracing::warn!("{notice}");
        self.keep(notice);
    }

    /// Has a notice shown to whoever asks, and written down.
    fn keep(&self, notice: String) {
        lock(&self.deeds).push(("notice".into(), notice.clone()));
        let mut status = lock(&self.status);
        // An operator reads the last ones.
        if status.notices.len() == 8 {
            status.notices.remove(0);
        }
        status.notices.push(notice);
    }

    /// A row was set aside: the first time that is told aloud.
    fn on_aside(&self, arguments: &actor::RecordsArguments, what: String) {
        self.show_aside(arguments.aside.count());
        if self.is_aside_told.swap(true, Ordering::Relaxed) {
            tracing::debug!("{what}");
            return;
        }
        let directory = arguments.settings.data_dir.join("records");
        let notice = format!(
            "{what}; it is set aside in `{}`, like all that follow, and what is behind goes on: {ASIDE_REMEDY}",
            directory.display()
        );
        tracing::error!("{notice}");
        self.keep(notice);
    }

    fn show_aside(&self, count: u64) {
        lock(&self.status).set_aside = count;
    }

    /// So many rows more wait than went with a checkpoint: that is told when it begins, and when it is over.
    fn on_carried(&self, left: u64) {
        let had = std::mem::replace(&mut lock(&self.status).on_disk_alone, left);
        if (had > 0) == (left > 0) {
            return;
        }
        self.say(match left {
            0 => "no row that waits for the database is on this node's disk alone any more".into(),
            _ => format!(
                "more than {CARRIED_ROWS_MAX} rows wait for the database: those behind them are on this node's \
                 disk alone until it takes rows again (`on_disk_alone` in `tickwright ctl db`)"
            ),
        });
    }

    fn is_restart(&self) -> bool {
        self.starts.fetch_add(1, Ordering::Relaxed) > 0
    }
}
