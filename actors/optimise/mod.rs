//! `tickwright optimize` on one node: a search for better parameters, and the judgement of what it found.
//!
//! ```text
//! files ─▶ record: read and cleaned once ─▶ Study, shared
//!                                              │
//! Supervisor ─┬ Optimizer ── leases ──▶ Explorer/0 … n ──▶ Pool: one thread each
//!             └ journal: every finished trial          │
//!                                                       ▼
//! top k ─▶ judged on the rows after ─▶ walk forward ─▶ OptimiseReport
//! ```
//!
//! What is decided (what to try, what is better, when it is enough, what to doubt) is in
//! `src/optimise`.

mod explorer;
mod journal;
mod judge;
mod optimizer;
mod pool;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ractor::Actor;
use tickwright_core::config::{Config, Kinds, Subtree};
use tickwright_core::optimise::report::OptimiseReport;
use tickwright_core::optimise::walk_forward::folds;
use tickwright_core::optimise::{Space, Study, Trial};
use tickwright_core::pipeline::positions::PositionsConfig;
use tickwright_core::supervision::Restart;
use tokio::task::JoinError;

use crate::backtest::{BacktestRunError, record};
use crate::kit::{
    ChildSpec, Clock, Directory, Opened, Outlet, StoreError, SupervisionStatistics, Supervisor,
    SupervisorArguments, monotonic_nanos,
};
use explorer::{ExplorerActor, ExplorerArguments};
use journal::SearchJournal;
use optimizer::{OptimizerActor, OptimizerArguments, SearchOutcome, end_by_time, heard_by};
use pool::Pool;

pub use optimizer::SearchProgress;

/// What a run needs to keep of its curve where only its measures count.
const MEASURED: PositionsConfig =
    PositionsConfig { curve_points_max: 2, charts_max: 1, chart_points_max: 2 };

/// How long the actors may take to end.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

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

/// What was prepared before anything is tried.
struct Prepared {
    /// The strategy's name in the configuration.
    name: String,
    study: Arc<Study>,
    space: Space,
    in_sample: u64,
    workers: usize,
    /// Hash of the search, and of all searches of the same strategy, data and terms.
    hashes: ([u8; 32], [u8; 32]),
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
    let config = arguments.config.clone();
    let prepared = tokio::task::spawn_blocking(move || prepare(&arguments)).await??;
    let (search, family) = prepared.hashes;
    let journal = if config.journal.enabled {
        let directory = PathBuf::from(&config.node.data_dir).join("optimise");
        let (journal, opened) = SearchJournal::open(&directory, search, family)?;
        if let Opened::SetAside(path) = opened {
            let path = path.display();
            show(OptimiseEvent::Line(format!("a damaged journal was moved to {path}")));
        }
        journal
    } else {
        SearchJournal::in_memory(search, family)
    };
    let adopted = adopt(&prepared, &journal, &mut show).await?;
    let began = monotonic_nanos();
    let outcome = explore(&config, &prepared, &journal, adopted.clone(), &mut show, stop).await?;
    let seconds = Duration::from_nanos(monotonic_nanos().saturating_sub(began)).as_secs_f64();
    journal.put_best(&outcome.best)?;
    let judging = judge::Judging {
        config,
        name: prepared.name,
        study: prepared.study,
        space: prepared.space,
        in_sample: prepared.in_sample,
        workers: prepared.workers,
        adopted,
        outcome,
        seconds,
    };
    show(OptimiseEvent::Line("judging the best on the rows that they were not chosen on".into()));
    tokio::task::spawn_blocking(move || judging.report()).await?
}

fn prepare(arguments: &OptimiseArguments) -> Result<Prepared, OptimiseError> {
    let OptimiseArguments { config, kinds, data } = arguments;
    let searched = config.searched().map_err(OptimiseError::Space)?;
    let strategy = &searched.strategies[0];
    let space = config.search_space(&strategy.kind).map_err(OptimiseError::Space)?;
    let known: Vec<&str> = strategy.parameters.keys().map(String::as_str).collect();
    if let Some(unknown) = space.dimensions().iter().find(|it| !known.contains(&it.name.as_str())) {
        let (name, known) = (&unknown.name, known.join(", "));
        let problem = format!("optimise.space: `{name}` is no parameter of it; there are: {known}");
        return Err(OptimiseError::Space(problem));
    }
    let recorded = record(&searched, kinds, data, config.optimise.rows_max)?;
    let rows = recorded.rows();
    let cut = folds(rows, config.optimise.folds, config.optimise.in_sample_percent);
    let in_sample = cut.first().ok_or(OptimiseError::TooFewRows { rows })?.chosen_on.end;
    let terms = terms(config, &strategy.name);
    let mut backtest = searched.backtest(kinds);
    backtest.positions = MEASURED;
    let study = Study {
        config: backtest,
        accounts: config.account_terms(),
        recorded: Arc::new(recorded),
        weights: config.optimise.weights,
        terms,
        node: config.node.name.clone(),
    };
    let workers = config.optimise.workers.map_or_else(
        || std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        |workers| usize::try_from(workers).unwrap_or(usize::MAX),
    );
    let hashes = hashes(config, &study, &space, in_sample);
    let name = strategy.name.clone();
    Ok(Prepared { name, study: Arc::new(study), space, in_sample, workers, hashes })
}

/// BLAKE3 over everything but rows and searched parameters that a score follows from.
fn terms(config: &Config, strategy: &str) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let weights = &config.optimise.weights;
    hasher.update(env!("CARGO_PKG_VERSION").as_bytes()).update(&[0]);
    hasher.update(&config.fingerprint()).update(strategy.as_bytes()).update(&[0]);
    for weight in [weights.profit_rate, weights.sharpe, weights.drawdown, weights.win_rate] {
        hasher.update(&weight.to_bits().to_le_bytes());
    }
    hasher.update(&weights.trades_min.to_le_bytes());
    *hasher.finalize().as_bytes()
}

fn hashes(config: &Config, study: &Study, space: &Space, in_sample: u64) -> ([u8; 32], [u8; 32]) {
    let mut family = blake3::Hasher::new();
    family.update(study.strategy().as_bytes()).update(&[0]);
    family.update(study.recorded.hash()).update(&study.terms).update(&in_sample.to_le_bytes());
    let mut search = family.clone();
    let kind = config.optimise.search.to_string();
    search.update(format!("{space:?}").as_bytes()).update(kind.as_bytes());
    search.update(&config.pipeline.seed.to_le_bytes());
    (*search.finalize().as_bytes(), *family.finalize().as_bytes())
}

/// The best of earlier searches, computed again before it is believed.
async fn adopt(
    prepared: &Prepared,
    journal: &SearchJournal,
    show: &mut impl FnMut(OptimiseEvent),
) -> Result<Option<Trial>, OptimiseError> {
    let Some(best) = journal.best()?.and_then(|best| best.best().cloned()) else { return Ok(None) };
    let (study, claimed) = (Arc::clone(&prepared.study), best.clone());
    let is_true = tokio::task::spawn_blocking(move || study.is_true(&claimed)).await?;
    if is_true && best.rows == (0, prepared.in_sample) {
        show(OptimiseEvent::Line(format!(
            "adopted the best of an earlier search of the same data: score {:.4}",
            best.score
        )));
        return Ok(Some(best));
    }
    show(OptimiseEvent::Line(
        "the best of an earlier search does not come out again: refused".into(),
    ));
    Ok(None)
}

/// Runs the actors until the search is over.
async fn explore(
    config: &Config,
    prepared: &Prepared,
    journal: &SearchJournal,
    adopted: Option<Trial>,
    show: &mut impl FnMut(OptimiseEvent),
    stop: impl Future<Output = ()>,
) -> Result<SearchOutcome, OptimiseError> {
    let start = |error: &dyn std::fmt::Display| OptimiseError::Start(error.to_string());
    let directory = Directory::default();
    let (progress, mut told) = Outlet::to_channel();
    let (ended, mut outcomes) = Outlet::to_channel();
    let optimizer = OptimizerArguments {
        space: prepared.space.clone(),
        kind: config.optimise.search,
        seed: config.pipeline.seed,
        limits: config.optimise.limits,
        top_max: config.optimise.top_max,
        journal: journal.clone(),
        adopted,
        directory: directory.clone(),
        progress,
        ended,
    };
    let pool = Pool::new(prepared.workers).map_err(|error| start(&error))?;
    let mut children = vec![ChildSpec::new("optimizer", Restart::Permanent, move |parent| {
        let arguments = optimizer.clone();
        async move { Ok(parent.spawn_linked(None, OptimizerActor, arguments).await?.0.get_cell()) }
    })];
    for slot in 0..prepared.workers {
        let arguments = ExplorerArguments {
            slot,
            study: Arc::clone(&prepared.study),
            rows: 0..prepared.in_sample,
            pool: pool.clone(),
            heard: heard_by(&directory),
        };
        children.push(ChildSpec::new(
            format!("explorer/{slot}"),
            Restart::Permanent,
            move |parent| {
                let arguments = arguments.clone();
                async move {
                    Ok(parent.spawn_linked(None, ExplorerActor, arguments).await?.0.get_cell())
                }
            },
        ));
    }
    let statistics = SupervisionStatistics::default();
    let mut policy = config.policy(Subtree::Control);
    // Explorers know the optimizer that they started after.
    policy.strategy = tickwright_core::supervision::Strategy::RestForOne;
    let arguments = SupervisorArguments {
        name: "optimise".into(),
        policy,
        children,
        clock: Clock::system(),
        statistics: statistics.clone(),
    };
    let spawned = Supervisor::spawn(None, Supervisor, arguments).await;
    let (supervisor, mut gave_up) = spawned.map_err(|error| start(&error))?;
    let time_max = config.optimise.time_max;
    let is_late = async {
        match time_max {
            Some(span) => tokio::time::sleep(span).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(is_late, stop);
    let (mut finished, mut is_timed) = (0, time_max.is_some());
    let outcome = loop {
        tokio::select! {
            Some(progress) = told.recv() => {
                finished = progress.finished;
                show(OptimiseEvent::Progress(progress));
            }
            Some(outcome) = outcomes.recv() => break Ok(outcome),
            () = &mut is_late, if is_timed => {
                is_timed = false;
                end_by_time(&directory);
            }
            () = &mut stop => break Err(OptimiseError::Stopped { finished }),
            _ = &mut gave_up => {
                break Err(OptimiseError::GaveUp(statistics.failures().join("; ")));
            }
        }
    };
    // It may have ended.
    let _ = supervisor.stop_and_wait(None, Some(STOP_PATIENCE)).await;
    outcome
}
