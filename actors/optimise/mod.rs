//! The search for better parameters, on one node or on many, and the judgement of what it found.
//!
//! ```text
//! files ─▶ record: read and cleaned once ─▶ Study, shared
//!                                              │
//! Supervisor ─┬ Hub ── leases ──▶ Explorer/0 … n ──▶ Pool: one thread each
//!             │  ├─ journal: every finished trial
//!             │  └─ hubs of other nodes, in a cluster
//!             ▼
//! top k ─▶ judged on the rows after ─▶ walk forward ─▶ OptimiseReport
//! ```
//!
//! `tickwright optimize` runs it in one process ([`optimise`]); a node of a cluster runs it beside its share of
//! the pipeline while `optimise.data` names files ([`OptimiseService`]).
//!
//! What is decided (what to try, what is better, when it is enough, what to doubt) is in
//! `src/optimise`.

mod adopter;
mod explorer;
mod hub;
mod journal;
mod judge;
mod pool;
mod search;
mod service;

use std::path::PathBuf;

use tickwright_core::config::{Config, Kinds};
use tickwright_core::domain::Timestamp;
use tickwright_core::optimise::report::OptimiseReport;
use tokio::task::JoinError;

use crate::backtest::{BacktestRunError, record};
use crate::kit::StoreError;
use search::{Prepared, Running, SearchEvent};

pub use adopter::{AdoptionCall, adoption_role};
pub use hub::{HubCall, SearchProgress, role};
pub use service::{OptimiseEnd, OptimiseService};

/// What is searched, and over what.
#[derive(Clone, Debug)]
pub struct OptimiseArguments {
    /// How.
    pub config: Config,
    /// What strategies and factors there are.
    pub kinds: Kinds,
    /// The files.
    pub data: Vec<PathBuf>,
}

/// What happens on the way.
#[derive(Clone, Debug)]
pub enum OptimiseEvent {
    /// Something to say.
    Line(String),
    /// So far it has come.
    Progress(SearchProgress),
}

/// Why a search came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum OptimiseError {
    /// What is searched makes no sense.
    #[error("{0}")]
    Space(String),
    /// The data cannot be read.
    #[error(transparent)]
    Data(#[from] BacktestRunError),
    /// Too few rows to choose on some and judge on others.
    #[error("{rows} clean rows are too few to choose on some and judge on others")]
    TooFewRows {
        /// How many.
        rows: u64,
    },
    /// The journal cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Threads or actors cannot be started.
    #[error("cannot start: {0}")]
    Start(String),
    /// The supervisor has given up.
    #[error("the search was given up: {0}")]
    GaveUp(String),
    /// Somebody stopped it.
    #[error("stopped after {finished} trials; the same command goes on from there")]
    Stopped {
        /// Trials that are kept.
        finished: u64,
    },
}

impl From<JoinError> for OptimiseError {
    fn from(error: JoinError) -> Self {
        Self::GaveUp(error.to_string())
    }
}

/// Event time of the first row that is not looked at when `percent` of the rows are.
///
/// # Errors
///
/// [`OptimiseError`] when the data cannot be read, or no row is left.
pub fn time_after(arguments: &OptimiseArguments, percent: u32) -> Result<Timestamp, OptimiseError> {
    let OptimiseArguments { config, kinds, data } = arguments;
    let recorded = record(config, kinds, data, config.optimise.rows_max)?;
    let rows = recorded.rows();
    let first = rows * u64::from(percent) / 100;
    recorded.time_of(first).ok_or(OptimiseError::TooFewRows { rows })
}

/// Searches until it is enough, or until `stop`; `show` is told how it goes.
///
/// # Errors
///
/// [`OptimiseError`]. What was found before is kept, unless nothing was to be written.
pub async fn optimise(
    arguments: OptimiseArguments,
    mut show: impl FnMut(OptimiseEvent),
    stop: impl Future<Output = ()>,
) -> Result<OptimiseReport, OptimiseError> {
    let prepared = tokio::task::spawn_blocking(move || Prepared::new(&arguments)).await??;
    let (mut running, lines) = Running::start(prepared, None).await?;
    lines.into_iter().for_each(|line| show(OptimiseEvent::Line(line)));
    let mut finished = 0;
    tokio::pin!(stop);
    let outcome = loop {
        tokio::select! {
            event = running.next() => match event {
                SearchEvent::Progress(progress) => {
                    finished = progress.finished;
                    show(OptimiseEvent::Progress(progress));
                }
                SearchEvent::Ended(outcome) => break Ok(*outcome),
                SearchEvent::GaveUp(reason) => break Err(OptimiseError::GaveUp(reason)),
            },
            () = &mut stop => break Err(OptimiseError::Stopped { finished }),
        }
    };
    let judging = running.stop().await;
    let outcome = outcome?;
    judging.keep(&outcome.best)?;
    show(OptimiseEvent::Line("judging the best on the rows that they were not chosen on".into()));
    tokio::task::spawn_blocking(move || judging.report(&outcome)).await?
}
