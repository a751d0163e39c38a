//! A run of the whole pipeline over its sources, from the data directory to the report.
//!
//! A data directory with an unfinished run of the same inputs and configuration resumes it; a finished
//! one starts anew; anything else is refused, with what to do.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tickwright_core::config::{Chaos as Faults, ChaosKind, ChaosSpec, Config, DatabaseKind, Kinds};
use tickwright_core::domain::{Key, NodeId};

use crate::cluster::{AdminError, LoneDoor};
use crate::ingester::OpenSource;
use crate::kit::{
    ArrivalLog, Chaos, Clock, DiskFaults, Opened, Store, StoreError, StoreOptions, process, wire,
};
use crate::node::{self, Node, NodeArguments, NodeReport, NodeSource};
use crate::parameters;
use crate::records::{Records, RecordsError, RecordsSettings};
use crate::share::{self, serve_records};
use crate::source::feed::Feed;
use crate::source::live::{LiveConfig, LiveError};
use crate::source::{SourceError, SourceOptions, open, simulated::SimulatedSource};
use crate::switchboard::{OwnSwitches, SwitchesError};
use crate::telemetry::Sample;
use crate::tuner;

mod inputs;

pub(crate) use inputs::run_id;
use inputs::{InputId, identify};

/// How long a stage may take to say what it has counted once the run is over.
pub(crate) const REPORT_PATIENCE: Duration = Duration::from_secs(60);

/// How long the tree may take to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// How often it is looked whether the store can still be written.
pub(crate) const FAILURE_INTERVAL: Duration = Duration::from_millis(100);

/// The tree and key of the record that says what a data directory belongs to.
const RECORD: (&str, &[u8]) = ("run", b"record");

/// Why a run did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Orders would leave without anybody having agreed to it.
    #[error(
        "an exchange needs the ledger of a cluster: use `--nodes 3`, to survive the loss of one, or \
         `tickwright node`"
    )]
    NoLedger,
    /// A source cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The data directory cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The data directory holds something else.
    #[error(
        "data directory `{}` holds an unfinished run {difference}; give the same again to resume \
         it, another --data-dir to keep it, or delete the directory to give it up", path.display()
    )]
    OtherRun {
        /// Which directory.
        path: PathBuf,
        /// In what it differs.
        difference: String,
    },
    /// The supervision tree could not be started.
    #[error("the node cannot start: {0}")]
    Start(String),
    /// The supervision tree gave up.
    #[error("the node gave up: {}", .0.join("; "))]
    GaveUp(Vec<String>),
    /// Nobody knows what is stopped.
    #[error(transparent)]
    Switches(#[from] SwitchesError),
    /// A feed cannot be listened to.
    #[error(transparent)]
    Live(#[from] LiveError),
    /// The run was stopped before the end of its sources.
    #[error("stopped before the end; {remedy}")]
    Stopped {
        /// How to go on.
        remedy: &'static str,
    },
    /// There is no order of arrival to follow.
    #[error("pipeline.follow = \"{}\" cannot be followed: {reason}", path.display())]
    Follow {
        /// The data directory named.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Nothing can be recorded.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// Tools cannot be let in.
    #[error(transparent)]
    Tools(#[from] AdminError),
    /// A stage did not answer.
    #[error("the run is over, but {0}")]
    Unanswered(String),
}

/// What a run reads.
#[expect(clippy::large_enum_variant, reason = "there is one of it in a run")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Files, each a source of its own.
    Files(Vec<PathBuf>),
    /// The market that a seed makes.
    Simulated,
    /// A venue, listened to until the run is stopped.
    Live(LiveConfig),
}

/// What a run is made of.
#[derive(Clone, Debug)]
pub struct RunArguments {
    /// `cluster.toml`.
    pub config: Config,
    /// The strategies and factors there are.
    pub kinds: Kinds,
    /// What is read.
    pub input: Input,
    /// Faults to inject.
    pub faults: Faults,
    /// Faults of the disk, for tests.
    pub disk: DiskFaults,
    /// Where tools are let in to see and change parameters, if they are.
    pub tools: Option<String>,
}

/// What a run came to.
#[derive(Debug)]
pub struct Outcome {
    /// What every stage has counted.
    pub report: NodeReport,
    /// How long it took.
    pub duration: Duration,
    /// Whether it went on from an earlier process.
    pub resumed: bool,
    /// What the operator must know of the records.
    pub unrecorded: Option<String>,
    /// A damaged journal that was set aside.
    pub set_aside: Option<PathBuf>,
    /// Rows that an earlier process had read.
    pub resumed_rows: u64,
    /// Children restarted, by this process.
    pub restarts: u64,
    /// The same, by the child whose end was the reason.
    pub restarts_by_child: BTreeMap<String, u64>,
    /// Each fault and how often it struck.
    pub fired: Vec<(String, u64)>,
    /// The most memory that each node has had, in bytes.
    pub rss_by_node: BTreeMap<String, u64>,
}

/// What a data directory belongs to.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    fingerprint: [u8; 32],
    /// By source.
    inputs: Vec<InputId>,
    /// Checkpoints of exec, cleaners and shards speak of so many streams.
    shards: usize,
    finished: bool,
}

/// Runs the pipeline to the end of its sources. `progress` is shown how far it has come.
///
/// # Errors
///
/// [`RunError`]. What was stored by then is kept, and the same run can be resumed.
pub async fn run(
    arguments: RunArguments,
    progress: impl FnMut(&Sample),
) -> Result<Outcome, RunError> {
    run_until(arguments, progress, std::future::pending()).await
}

/// As [`run`], until `stop`: then a live source is declared finished, and what it has said is worked
/// through; over other sources the run ends before their end.
///
/// # Errors
///
/// As [`run`], and [`RunError::Stopped`].
pub async fn run_until(
    arguments: RunArguments,
    mut progress: impl FnMut(&Sample),
    stop: impl Future<Output = ()>,
) -> Result<Outcome, RunError> {
    let RunArguments { config, kinds, input, faults, disk, tools } = arguments;
    if config.has_exchange() {
        return Err(RunError::NoLedger);
    }
    let begun = Instant::now();
    let name = config.node.name.clone();
    let sources = open_sources(&config, &input)?;
    let (store, resumed, set_aside) = prepare_store(&config, &input, disk)?;
    let switches = own_switches(&config, set_aside.as_deref())?;
    let is_tuned = config.tuner.is_enabled;
    let (sources, feeds) = with_feeds(sources, &input)?;
    let chaos = Chaos::new(panics(&faults));
    if !faults.specs.is_empty() {
        Chaos::quieten_panics();
    }
    let door = match &tools {
        Some(address) => Some(Box::pin(LoneDoor::open(&config, address)).await?),
        None => None,
    };
    let records = start_records(&config, &input).await?;
    let arguments = NodeArguments {
        kinds,
        chaos: chaos.clone(),
        records: records.clone(),
        switches: Some(switches.clone()),
        ..NodeArguments::alone(config, sources, store.clone())
    };
    let node =
        Box::pin(node::start(arguments)).await.map_err(|error| start_error(&error, &store))?;
    let mut node = node;
    if let Some(door) = &door {
        parameters::serve(door.network(), node.parameters());
        node.serve_counts(door.network(), &share::role(&NodeId(name.clone())));
        node.serve_exec(door.network());
        switches.serve(door.network());
        if is_tuned {
            tuner::serve(door.network(), node.directory.clone());
        }
        if let Some(records) = &records {
            serve_records(door.network(), records.clone());
        }
    }
    let resumed_rows = if resumed { node.rows_read(REPORT_PATIENCE).await } else { 0 };
    let finished = wait(&mut node, &store, &mut progress, &feeds, stop).await;
    let report = match finished {
        Ok(()) => complete_report(&node).await,
        Err(error) => Err(error),
    };
    let stopped = node.supervisor.stop_and_wait(None, Some(STOP_PATIENCE)).await;
    if let Err(error) = stopped {
        tracing::debug!(%error, "the tree had ended");
    }
    let unrecorded = match &records {
        Some(records) => Box::pin(records.end()).await,
        None => None,
    };
    let report = report?;
    mark_finished(&store)?;
    Ok(Outcome {
        unrecorded,
        report,
        duration: begun.elapsed(),
        resumed,
        set_aside,
        resumed_rows,
        restarts: node.statistics.restarts(),
        restarts_by_child: node.statistics.restarts_by_child(),
        fired: chaos.fired(),
        rss_by_node: BTreeMap::from([(name, process::peak_rss_bytes())]),
    })
}

/// The kill switches, as they were left. Whoever turned one on may have forgotten it.
fn own_switches(config: &Config, set_aside: Option<&Path>) -> Result<OwnSwitches, RunError> {
    let data_dir = config.journal.enabled.then_some(Path::new(&config.node.data_dir));
    let switches = OwnSwitches::open(data_dir, set_aside)?;
    for standing in switches.standing().iter().filter(|standing| standing.is_on) {
        let (what, by, reason) = (&standing.what, &standing.by, &standing.reason);
        tracing::warn!(
            what,
            by,
            reason,
            "a kill switch is on: `tickwright ctl rearm` lets it trade again, in a run with --tools"
        );
    }
    Ok(switches)
}

/// What records this run, if anything is to be recorded.
pub(crate) async fn start_records(
    config: &Config,
    input: &Input,
) -> Result<Option<Records>, RunError> {
    if config.database.kind == DatabaseKind::None {
        return Ok(None);
    }
    // Rows of other inputs, or of another configuration, are not the same rows.
    let mut hasher = blake3::Hasher::new();
    hasher.update(&config.fingerprint());
    for (name, hash) in identify(config, input)? {
        hasher.update(name.as_bytes());
        hasher.update(&hash);
    }
    let run = format!("{}-{}", config.pipeline.run, &hasher.finalize().to_hex()[..8]);
    let settings = RecordsSettings::of(config, run).map_err(RecordsError::from)?;
    Ok(match settings {
        Some(settings) => Some(Box::pin(Records::start(config, settings)).await?),
        None => None,
    })
}

pub(crate) fn start_error(error: &ractor::SpawnErr, store: &Store) -> RunError {
    match store.failure() {
        Some(failure) => RunError::Store(failure),
        None => RunError::Start(error.to_string()),
    }
}

/// Waits until everything has been handled and stored, or cannot be.
async fn wait(
    node: &mut Node,
    store: &Store,
    progress: &mut impl FnMut(&Sample),
    feeds: &[Feed],
    stop: impl Future<Output = ()>,
) -> Result<(), RunError> {
    tokio::pin!(stop);
    let mut is_stopping = false;
    let supervisor = node.supervisor.get_cell();
    let ended = async move { supervisor.wait(None).await };
    tokio::pin!(ended);
    let mut look = tokio::time::interval(FAILURE_INTERVAL);
    loop {
        tokio::select! {
            biased;
            Some(error) = node.fatal.recv() => return Err(error.into()),
            Some(()) = node.finished.recv() => return Ok(()),
            _ = &mut ended => {
                return Err(match store.failure() {
                    Some(failure) => failure.into(),
                    None => RunError::GaveUp(node.statistics.failures()),
                });
            }
            Some(sample) = node.samples.recv() => progress(&sample),
            // No restart makes room on a disk.
            _ = look.tick() => {
                if let Some(failure) = store.failure() {
                    return Err(failure.into());
                }
            }
            () = &mut stop, if !is_stopping => {
                is_stopping = true;
                if feeds.is_empty() {
                    let remedy = if store.is_durable() {
                        "the same command goes on from here"
                    } else {
                        "nothing was kept, for journal.enabled is false"
                    };
                    return Err(RunError::Stopped { remedy });
                }
                feeds.iter().for_each(Feed::finish);
            }
        }
    }
}

/// The counts of all stages once each has come to its end. Exec may finish before a stage that was
/// restarted has caught up with what it had sent before.
async fn complete_report(node: &Node) -> Result<NodeReport, RunError> {
    let deadline = Instant::now() + REPORT_PATIENCE;
    loop {
        let report = node.report(REPORT_PATIENCE).await.map_err(RunError::Unanswered)?;
        let stages = report.ingesters.iter().map(|stage| stage.complete);
        let stages = stages.chain(report.cleaners.iter().map(|stage| stage.complete));
        let stages = stages.chain(report.factors.iter().map(|stage| stage.complete));
        let mut stages = stages.chain(report.strategies.iter().map(|stage| stage.complete));
        if stages.all(|complete| complete == Key::END) {
            return Ok(report);
        }
        if Instant::now() >= deadline {
            let problem = format!("a stage has not caught up within {REPORT_PATIENCE:?}");
            return Err(RunError::Unanswered(problem));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// How each source is opened. Each is opened once now, so that what is wrong is said before anything
/// starts.
pub(crate) fn open_sources(config: &Config, input: &Input) -> Result<Vec<OpenSource>, RunError> {
    match input {
        Input::Files(paths) => {
            let options =
                SourceOptions { strict: config.pipeline.strict, ..SourceOptions::default() };
            drop(crate::source::open_all(paths, &options)?);
            let opener = |path: &PathBuf| -> OpenSource {
                let path = path.clone();
                Arc::new(move || open(&path, &options))
            };
            Ok(paths.iter().map(opener).collect())
        }
        Input::Simulated => {
            let (market, seed) = (config.simulator(), config.pipeline.seed);
            Ok(vec![Arc::new(move || Ok(Box::new(SimulatedSource::new(market.clone(), seed))))])
        }
        Input::Live(live) => {
            live.address()?;
            live.believed()?;
            Ok(Vec::new())
        }
    }
}

/// The sources with the feeds among them, which are connected now.
pub(crate) fn with_feeds(
    readable: Vec<OpenSource>,
    input: &Input,
) -> Result<(Vec<NodeSource>, Vec<Feed>), RunError> {
    let mut sources: Vec<NodeSource> = readable.into_iter().map(NodeSource::from).collect();
    let mut feeds = Vec::new();
    if let Input::Live(live) = input {
        let feed = Feed::live(live.clone(), Clock::system())?;
        sources.push(feed.clone().into());
        feeds.push(feed);
    }
    Ok((sources, feeds))
}

/// The same, for a node that may never have their units: a feed is connected to only where its unit is.
pub(crate) fn unconnected(readable: Vec<OpenSource>, input: &Input) -> Vec<NodeSource> {
    let mut sources: Vec<NodeSource> = readable.into_iter().map(NodeSource::from).collect();
    if let Input::Live(live) = input {
        sources.push(NodeSource::Venue(Box::new(live.clone())));
    }
    sources
}

/// Opens the data directory and finds out whether it holds a run to go on with.
pub(crate) fn prepare_store(
    config: &Config,
    input: &Input,
    disk: DiskFaults,
) -> Result<(Store, bool, Option<PathBuf>), RunError> {
    if !config.journal.enabled {
        let store = Store::in_memory();
        follow(config, input, &store)?;
        return Ok((store, false, None));
    }
    let directory = PathBuf::from(&config.node.data_dir);
    let (store, opened) = Store::open(&directory, StoreOptions::new(&config.journal, disk))?;
    let set_aside = match opened {
        Opened::Sound => None,
        Opened::SetAside(path) => Some(path),
    };
    let record = Record {
        fingerprint: config.fingerprint(),
        inputs: identify(config, input)?,
        shards: config.pipeline.shards,
        finished: false,
    };
    let (tree, key) = RECORD;
    let found =
        match store.get(tree, key)? {
            Some(bytes) => Some(wire::decode::<Record>(&bytes).map_err(|error| {
                RunError::Store(store.record_error(tree, key, &error.to_string()))
            })?),
            None => None,
        };
    let resumed = match found {
        Some(found) if !found.finished => {
            let difference = if found.inputs != record.inputs {
                Some("of other inputs".to_owned())
            } else if found.fingerprint != record.fingerprint {
                Some("under another configuration".to_owned())
            } else if found.shards != record.shards {
                Some(format!("under pipeline.shards = {}", found.shards))
            } else {
                None
            };
            if let Some(difference) = difference {
                return Err(RunError::OtherRun { path: directory, difference });
            }
            true
        }
        Some(_) | None => {
            store.clear()?;
            follow(config, input, &store)?;
            false
        }
    };
    store.put_and_wait(tree, key.to_vec(), wire::encode(&record))?;
    store.mark_begun()?;
    Ok((store, resumed, set_aside))
}

/// Gives `store` the order of arrival of the run that is to be followed, if one is.
fn follow(config: &Config, input: &Input, store: &Store) -> Result<(), RunError> {
    let Some(path) = config.pipeline.follow.as_ref().map(PathBuf::from) else { return Ok(()) };
    let fail = |reason: &str| RunError::Follow { path: path.clone(), reason: reason.to_owned() };
    if !path.join("journal").is_dir() {
        return Err(fail("it is not the data directory of a run"));
    }
    let options = StoreOptions::new(&config.journal, DiskFaults::default());
    let (other, opened) = Store::open(&path, options)?;
    if let Opened::SetAside(aside) = opened {
        return Err(fail(&format!(
            "its journal is damaged, and was set aside as {}",
            aside.display()
        )));
    }
    let (tree, key) = RECORD;
    let record = other.get(tree, key)?.ok_or_else(|| fail("no run was recorded there"))?;
    let record: Record =
        wire::decode(&record).map_err(|error| other.record_error(tree, key, &error.to_string()))?;
    if record.inputs != identify(config, input)? {
        return Err(fail("that run had other inputs"));
    }
    if record.shards != config.pipeline.shards {
        return Err(fail(&format!("that run had pipeline.shards = {}", record.shards)));
    }
    if ArrivalLog::copy(&other, store)? == 0 {
        return Err(fail("that run kept no order: it needs journal.keep_arrivals = true"));
    }
    Ok(())
}

pub(crate) fn mark_finished(store: &Store) -> Result<(), RunError> {
    let (tree, key) = RECORD;
    if let Some(bytes) = store.get(tree, key)? {
        let record: Record = wire::decode(&bytes)
            .map_err(|error| store.record_error(tree, key, &error.to_string()))?;
        let record = Record { finished: true, ..record };
        store.put_and_wait(tree, key.to_vec(), wire::encode(&record))?;
    }
    Ok(())
}

/// Says in `directory` that its run is over, if there is one that is not finished there: whoever had it could
/// not be told. Nothing else may have it open.
pub(crate) fn finish_directory(config: &Config, directory: &Path) -> Result<(), RunError> {
    if !config.journal.enabled || !directory.join("journal").is_dir() {
        return Ok(());
    }
    let options = StoreOptions::new(&config.journal, DiskFaults::default());
    let (store, _) = Store::open(directory, options)?;
    mark_finished(&store)
}

/// The panics among the faults, as the actors know them.
pub(crate) fn panics(faults: &Faults) -> Vec<(String, String, u64)> {
    let panic = |spec: &ChaosSpec| match &spec.kind {
        ChaosKind::Panic { actor, every } => {
            Some((spec.text.clone(), actor.name().to_owned(), *every))
        }
        ChaosKind::Kill { .. }
        | ChaosKind::Restart { .. }
        | ChaosKind::Pause { .. }
        | ChaosKind::Cut { .. } => None,
    };
    faults.specs.iter().filter_map(panic).collect()
}

/// The faults that befall nodes: which, and at how many percent of the input.
pub(crate) fn node_faults(faults: &Faults) -> impl Iterator<Item = (&ChaosSpec, u8)> {
    let percent = |spec: &ChaosSpec| match spec.kind {
        ChaosKind::Panic { .. } => None,
        ChaosKind::Kill { percent, .. }
        | ChaosKind::Restart { percent, .. }
        | ChaosKind::Pause { percent, .. }
        | ChaosKind::Cut { percent, .. } => Some(percent),
    };
    faults.specs.iter().filter_map(move |spec| Some((spec, percent(spec)?)))
}
