//! This node's share of a pipeline that spans the cluster: which units it runs, how far they have come,
//! and, where exec is, the report of the whole.
//!
//! ```text
//! owners ─▶ Share ─▶ Units (trees of actors) ─▶ finished, failed
//!             └─ serves run/NODE: Progress, Counts, Report, Streams, Open ◀─ tools, other nodes
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::json;
use tickwright_core::backtest::report::RunReport;
use tickwright_core::cluster::{Owners, Retries, Unit, fixed, queue_share};
use tickwright_core::config::{
    Chaos as Faults, ChaosKind, ChaosSpec, Config, Kinds, PipelineInput, Subtree,
};
use tickwright_core::domain::{Backoff, Key, NodeId, Span};
use tickwright_core::records::Question;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::interval;

use crate::allocator::GivenUpHere;
use crate::cluster::{Copies, Loads, Network, Reply, Request, Transport};
use crate::kit::{
    Chaos, Clock, DiskFaults, Gate, LiveValues, Secrets, Store, SupervisionStatistics,
};
use crate::ledger::LedgerClient;
use crate::locks::LockBackend;
use crate::node::units::{PART, UnitEvents};
use crate::node::{Controlled, NodeArguments, Units};
use crate::parameters::{self as door, Parameters};
use crate::records::{self, Records};
use crate::run::{
    FAILURE_INTERVAL, Input, RunError, node_faults, open_sources, panics, prepare_store, run_id,
    start_error, start_records, unconnected,
};
use crate::source::live::LiveConfig;

mod handover;
mod over;
mod parameters;
mod retry;
mod tuning;
mod whole;

use handover::Leaving;
use over::{Over, RunId, Telling};
use retry::Trouble;

/// Between two attempts to begin a unit that was given up here.
const RETRY: Backoff = Backoff { first: Span::from_millis(200), max: Span::from_secs(5) };

/// How long one question to another node may take.
const ASK_PATIENCE: Duration = Duration::from_secs(5);

/// Between two looks at a unit that has not come to its end.
const AGAIN: Duration = Duration::from_millis(10);

/// Questions that wait to be answered, at most.
const CALLS_MAX: usize = 64;

/// The kind of message that says that the run is over.
const OVER: &str = "over";

/// The role under which `node` answers for its share.
pub fn role(node: &NodeId) -> String {
    format!("{ROLE_PREFIX}{node}")
}

const ROLE_PREFIX: &str = "run/";

/// What can be asked or told, as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShareCall {
    /// How far has this node come?
    Progress,
    /// The report of the run; only where exec is, once it is over.
    Report,
    /// Sources may pass the first so many places at which they are held.
    Open(usize),
    /// A live source here is declared finished: what it has said is worked through.
    Finish,
    /// This node is cut off from all others for so many milliseconds; only if that was ordered when it
    /// was started.
    CutOff(u64),
    /// Where do the streams stand whose ends are here?
    Streams,
    /// What have the units here counted so far?
    Counts,
}

/// How far a node has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareProgress {
    /// The units that run here.
    pub units: Vec<String>,
    /// Since which epoch each of them does. A node that slept may still have one that is another's.
    #[serde(default)]
    pub epochs: BTreeMap<String, u64>,
    /// Bytes read of the sources here.
    pub bytes_read: u64,
    /// Bytes of them.
    pub bytes_total: u64,
    /// Rows read of the sources here.
    pub rows: u64,
    /// Orders let through here.
    pub orders: u64,
    /// Sources here that are held until a fault has struck.
    pub held: usize,
    /// Messages refused because they came from units that have a later life elsewhere.
    pub stale: u64,
    /// The units here that went on from a checkpoint when they began here, and its event time in
    /// nanoseconds.
    #[serde(default)]
    pub went_on: BTreeMap<String, u64>,
    /// Checkpoints of units here that fewer nodes keep than `stream.replicas`, for want of nodes.
    #[serde(default)]
    pub copies_short: u64,
    /// Whether this node knows that the run is over, and its directory says so.
    #[serde(default)]
    pub is_over: bool,
    /// Whether the report can be had here.
    pub has_report: bool,
    /// Why this node's share has ended before its time.
    pub failure: Option<String>,
}

/// What happened, for whoever runs the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShareEvent {
    /// These units run here now.
    Has(Vec<Unit>),
    /// This unit was given up here and is begun again.
    Retries {
        /// Which.
        unit: Unit,
        /// For the how manieth time.
        attempt: u32,
        /// Why it was given up.
        reason: String,
    },
    /// This unit was given up here as often as it may be: another node is to have it.
    GaveUp {
        /// Which.
        unit: Unit,
        /// Why.
        reason: String,
    },
    /// The run is over, and the report is here.
    Finished,
    /// This node's share has ended before its time.
    Failed(String),
}

/// Why a node has no share.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// The sources, or what an earlier process left.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Some units are nobody's.
    #[error(
        "no node has {}: name one in allocation.static, as in \"source/*=data-1\", \
         \"shard/*=calc-1\", \"exec=exec-1\"", list(.0)
    )]
    Nobody(Vec<Unit>),
    /// It is not said what is to be listened to.
    #[error("pipeline.input = \"live\" needs live.url, as in \"wss://stream.binance.com:9443\"")]
    NoVenue,
    /// Only a run of one process can follow another.
    #[error(
        "pipeline.follow is for a run of one process, and this is a node of a cluster; leave it out, or \
         use `tickwright run` without --nodes"
    )]
    Follows,
}

fn list(units: &[Unit]) -> String {
    let units: Vec<String> = units.iter().map(ToString::to_string).collect();
    units.join(", ")
}

/// What a share has of its node.
pub struct ShareServices<'s> {
    /// The other nodes.
    pub network: &'s Network,
    /// Where it says how full its queues are.
    pub loads: &'s Loads,
    /// Whose units are; none, if that is written down.
    pub owners: Option<watch::Receiver<Owners>>,
    /// Where it is certain whose they are.
    pub ledger: LedgerClient,
    /// Who keeps locks.
    pub locks: Arc<dyn LockBackend>,
    /// What may change while it runs.
    pub live: LiveValues,
    /// What brokers may need to be let in.
    pub secrets: Secrets,
    /// Where it says what it has and cannot keep.
    pub given_up: watch::Sender<GivenUpHere>,
}

impl fmt::Debug for ShareServices<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShareServices").field("network", &self.network).finish_non_exhaustive()
    }
}

/// A running share.
pub struct Share {
    statistics: SupervisionStatistics,
    is_over: Arc<AtomicBool>,
    copies: Copies,
    records: Option<Records>,
    parameters: Parameters,
    network: Network,
    /// Learns of changes of parameters.
    follower: JoinHandle<()>,
    /// Ends with the share.
    _tuning: Option<tuning::Tuning>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Share").finish_non_exhaustive()
    }
}

impl Share {
    /// Starts this node's units of the pipeline that `config` describes; none, if it describes none.
    ///
    /// # Errors
    ///
    /// [`ShareError`], with the remedy.
    pub async fn start(
        config: &Config,
        kinds: Kinds,
        faults: &Faults,
        services: ShareServices<'_>,
    ) -> Result<Option<(Self, mpsc::UnboundedReceiver<ShareEvent>)>, ShareError> {
        let input = match config.pipeline.input {
            PipelineInput::None => return Ok(None),
            PipelineInput::Simulator => Input::Simulated,
            PipelineInput::Files => {
                Input::Files(config.pipeline.data.iter().map(PathBuf::from).collect())
            }
            PipelineInput::Live => Input::Live(LiveConfig::of(config).ok_or(ShareError::NoVenue)?),
        };
        if config.pipeline.follow.is_some() {
            return Err(ShareError::Follows);
        }
        let ShareServices { network, loads, owners, ledger, locks, live, secrets, given_up } =
            services;
        let begun = Instant::now();
        let readable = open_sources(config, &input)?;
        let (store, resumed, set_aside) = prepare_store(config, &input, DiskFaults::default())?;
        let run = run_id(config, &input)?;
        let sources = unconnected(readable, &input);
        let places = node_faults(faults).map(|(_, percent)| percent).collect();
        let chaos = Chaos::new(panics(faults)).with_gate(Gate::new(places));
        if !faults.specs.is_empty() {
            Chaos::quieten_panics();
        }
        let records = start_records(config, &input).await?;
        let arguments = NodeArguments {
            config: config.clone(),
            kinds,
            sources,
            store: store.clone(),
            chaos: chaos.clone(),
            clock: Clock::system(),
            ledger: Some(ledger.clone()),
            switches: None,
            locks: Some(locks),
            records: records.clone(),
            live: Some(live.clone()),
            secrets,
        };
        if let Some(records) = &records {
            serve_records(network, records.clone());
        }
        let transport = Transport::new(network.clone());
        let copies = Copies::start(network.clone(), store.clone(), config.stream.replicas);
        let (units, unit_events) = Units::new(arguments, transport)
            .map_err(|error| ShareError::Run(start_error(&error, &store)))?;
        // Kept for as long as nothing else allocates: a channel without a sender has ended.
        let (fixed, owners) = match owners {
            Some(owners) => (None, owners),
            None => {
                let (sender, receiver) =
                    watch::channel(fixed_owners(config, &units, &network.own().id)?);
                (Some(sender), receiver)
            }
        };
        let (events, received) = mpsc::unbounded_channel();
        let (sender, calls) = mpsc::channel(CALLS_MAX);
        network.register(&role(&network.own().id), None, Arc::new(take_call(sender)));
        let is_fixed = fixed.is_some();
        let well = config.policy(Subtree::Node).window;
        let statistics = units.statistics().clone();
        let controlled = units.controlled();
        let follower = parameters::follow(ledger.clone(), controlled.clone());
        let changing = units.parameters(ledger.clone());
        door::serve(network, changing.clone());
        let worker = Worker {
            config: config.clone(),
            network: network.clone(),
            units,
            copies: copies.clone(),
            controlled,
            went_on: BTreeMap::new(),
            leaving: Leaving::default(),
            loads: loads.clone(),
            retries: Retries::new(config.allocation.retry_attempts_max, RETRY, well),
            troubles: BTreeMap::new(),
            given_up,
            ledger,
            is_fixed,
            store,
            chaos,
            events,
            begun,
            run,
            resumed,
            set_aside,
            cuts: cuts_of(faults, &network.own().id),
            is_over: Arc::default(),
            ending: None,
            report: None,
            telling: None,
            failure: None,
            _fixed: fixed,
        };
        let is_over = Arc::clone(&worker.is_over);
        let tuned = (worker.ledger.clone(), live);
        let tuning = tuning::Tuning::start(config, network, tuned).await;
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(worker.run(owners, unit_events, calls, stopped));
        let share = Self {
            statistics,
            copies,
            records,
            parameters: changing,
            network: network.clone(),
            follower,
            is_over,
            _tuning: tuning,
            stop,
            task,
        };
        Ok(Some((share, received)))
    }

    /// What its supervisors have seen.
    pub fn statistics(&self) -> &SupervisionStatistics {
        &self.statistics
    }

    /// Whether the run is over: nobody needs what this node has.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// What records what happens here, if anything does.
    pub fn records(&self) -> Option<&Records> {
        self.records.as_ref()
    }

    /// The parameters of the strategies, to be seen and changed.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// What other nodes keep of the units here.
    pub fn copies(&self) -> &Copies {
        &self.copies
    }

    /// Ends the units in order. What they have stored stays.
    pub async fn stop(self) {
        self.network.unregister(door::ROLE);
        self.follower.abort();
        // It may have ended by itself.
        let _ = self.stop.send(());
        let _ = self.task.await;
        if let Some(records) = self.records
            && let Some(left) = Box::pin(records.end()).await
        {
            tracing::warn!("{left}");
        }
    }
}

/// What can be asked of the records, as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum RecordsCall {
    /// What is in the database?
    Ask(Question),
    /// How do the records stand?
    Status,
    /// Write down what an operator did.
    Note { deed: String, detail: String },
    /// Which rows were set aside?
    Aside,
    /// Offer them to the database again.
    RetryAside,
    /// Drop one of them, or all.
    DiscardAside { id: String },
}

/// Lets tools on any node ask the database of this one.
pub(crate) fn serve_records(network: &Network, records: Records) {
    let handler = move |mut request: Request| {
        let Some(reply) = request.reply.take() else {
            return Err("the records answer questions; they are told nothing".to_owned());
        };
        let call: RecordsCall = match serde_json::from_slice(&request.body) {
            Ok(call) => call,
            Err(error) => {
                reply.refuse(format!("not a question for the records: {error}"));
                return Err(error.to_string());
            }
        };
        let records = records.clone();
        tokio::spawn(async move {
            // It holds its credit until it is answered: that is what bounds these tasks.
            let _request = request;
            match call {
                RecordsCall::Ask(question) => match records.ask(&question).await {
                    Ok(answer) => reply.answer(answer.to_json().to_string().into_bytes()),
                    Err(reason) => reply.refuse(reason),
                },
                RecordsCall::Note { deed, detail } => match records.note(deed, detail) {
                    Ok(()) => reply.answer(b"true".to_vec()),
                    Err(reason) => reply.refuse(reason),
                },
                RecordsCall::Aside => match records.set_aside() {
                    Ok(rows) => {
                        reply.answer(records::aside_to_json(&rows).to_string().into_bytes());
                    }
                    Err(reason) => reply.refuse(reason),
                },
                RecordsCall::RetryAside => match records.retry_aside().await {
                    Ok(retried) => reply.answer(json!(retried).to_string().into_bytes()),
                    Err(reason) => reply.refuse(reason),
                },
                RecordsCall::DiscardAside { id } => {
                    let discarded = records.discard_aside(&id);
                    reply.answer(json!({ "discarded": discarded }).to_string().into_bytes());
                }
                RecordsCall::Status => {
                    reply.answer(json!(records.status()).to_string().into_bytes());
                }
            }
        });
        Ok(())
    };
    network.register(records::ROLE, None, Arc::new(handler));
}

/// The allocation that is written down: a cluster of one needs no lines.
fn fixed_owners(config: &Config, units: &Units, own: &NodeId) -> Result<Owners, ShareError> {
    let lines = &config.allocation.assignments;
    if lines.is_empty() && config.cluster.seeds.is_empty() {
        return Ok(units.all().map(|unit| (unit, (own.clone(), FIXED_EPOCH))).collect());
    }
    let owners = fixed(lines, units.all()).map_err(ShareError::Nobody)?;
    Ok(owners.into_iter().map(|(unit, node)| (unit, (node, FIXED_EPOCH))).collect())
}

/// A unit that never moves has one life.
const FIXED_EPOCH: u64 = 1;

/// The times in milliseconds for which `node` is to be cut off.
fn cuts_of(faults: &Faults, node: &NodeId) -> BTreeSet<u64> {
    let cut = |spec: &ChaosSpec| match &spec.kind {
        ChaosKind::Cut { node: name, millis, .. } if *name == node.0 => Some(*millis),
        ChaosKind::Cut { .. }
        | ChaosKind::Panic { .. }
        | ChaosKind::Kill { .. }
        | ChaosKind::Restart { .. }
        | ChaosKind::Pause { .. } => None,
    };
    faults.specs.iter().filter_map(cut).collect()
}

enum Call {
    Asked(ShareCall, Option<Reply>),
    Part(Reply),
    Over(Over, Option<Reply>),
}

/// What takes in messages for the role of a share.
fn take_call(calls: mpsc::Sender<Call>) -> impl Fn(Request) -> Result<(), String> {
    move |mut request| {
        let reply = request.reply.take();
        let call = match request.kind.as_str() {
            "json" => match serde_json::from_slice(&request.body) {
                Ok(call) => Call::Asked(call, reply),
                Err(error) => {
                    let reason =
                        format!("{error}; ask \"Progress\", \"Counts\", \"Streams\" or \"Report\"");
                    return refuse(reply, reason);
                }
            },
            PART => match reply {
                Some(reply) => Call::Part(reply),
                None => return Err("nobody awaits an answer".into()),
            },
            OVER => match Over::decode(&request.body) {
                Some(over) => Call::Over(over, reply),
                None => return refuse(reply, "it is not said which run is over".to_owned()),
            },
            kind => return refuse(reply, format!("messages of kind {kind} are not understood")),
        };
        calls.try_send(call).map_err(|_| "too many questions wait".to_owned())
    }
}

fn refuse(reply: Option<Reply>, reason: String) -> Result<(), String> {
    if let Some(reply) = reply {
        reply.refuse(reason.clone());
    }
    Err(reason)
}

/// What the task of a share owns.
struct Worker {
    config: Config,
    network: Network,
    units: Units,
    copies: Copies,
    /// What of it has to know of changes of parameters.
    controlled: Controlled,
    /// From where units here went on.
    went_on: BTreeMap<Unit, Key>,
    leaving: Leaving,
    loads: Loads,
    retries: Retries,
    /// Units that were given up here. One entry per unit.
    troubles: BTreeMap<Unit, Trouble>,
    given_up: watch::Sender<GivenUpHere>,
    ledger: LedgerClient,
    /// Whether nothing moves.
    is_fixed: bool,
    store: Store,
    chaos: Chaos,
    events: mpsc::UnboundedSender<ShareEvent>,
    begun: Instant,
    run: RunId,
    resumed: bool,
    set_aside: Option<PathBuf>,
    /// For how many milliseconds this node may be cut off, each time.
    cuts: BTreeSet<u64>,
    is_over: Arc<AtomicBool>,
    /// Exec has handled everything here: until when the report must be had.
    ending: Option<Instant>,
    report: Option<Box<RunReport>>,
    /// Tells others that the run is over, once it is.
    telling: Option<Telling>,
    failure: Option<String>,
    _fixed: Option<watch::Sender<Owners>>,
}

impl Worker {
    async fn run(
        mut self,
        mut owners: watch::Receiver<Owners>,
        mut unit_events: UnitEvents,
        mut calls: mpsc::Receiver<Call>,
        mut stop: oneshot::Receiver<()>,
    ) {
        let own = self.network.own().id.clone();
        // What there is by now is news as well.
        owners.mark_changed();
        let mut look = interval(FAILURE_INTERVAL);
        let mut measure = interval(self.loads.interval());
        let mut routes = self.network.routes();
        loop {
            tokio::select! {
                biased;
                // Whoever could stop it is gone.
                _ = &mut stop => break,
                Some(error) = unit_events.fatal.recv() => self.fail(error.to_string()),
                Some(unit) = unit_events.ended.recv() => self.on_ended(unit).await,
                Some(()) = unit_events.finished.recv() => self.on_finished().await,
                Ok(()) = owners.changed() => {
                    let wanted = owners.borrow_and_update().clone();
                    self.settle(&wanted).await;
                }
                Some(call) = calls.recv() => self.on_call(call).await,
                Ok(()) = routes.changed() => self.end_left().await,
                _ = look.tick() => {
                    // No restart makes room on a disk.
                    if let Some(failure) = self.store.failure() {
                        self.fail(failure.to_string());
                    }
                    self.retry_due().await;
                    self.end_left().await;
                    self.conclude().await;
                }
                _ = measure.tick() => self.measure(),
            }
        }
        self.network.unregister(&role(&own));
        self.copies.stop();
        // What was said last must not be lost: another run could not begin here.
        while let Ok(call) = calls.try_recv() {
            if let Call::Over(over, reply) = call {
                self.on_over(over, reply);
            }
        }
        let here: Vec<Unit> = self.units.here().collect();
        for unit in here.into_iter().rev() {
            self.units.stop(unit).await;
        }
    }

    /// Ends what is not this node's any more, and starts what has become its.
    async fn settle(&mut self, owners: &Owners) {
        let own = self.network.own().id.clone();
        let is_wanted = |unit: Unit, epoch: u64| {
            owners.get(&unit).is_some_and(|(node, at)| *node == own && *at == epoch)
        };
        let here_since: Vec<(Unit, u64)> = self.units.here_since().collect();
        let lost = here_since.into_iter().filter(|&(unit, epoch)| !is_wanted(unit, epoch));
        let lost: Vec<(Unit, u64)> = lost.collect();
        let mut is_changed = !lost.is_empty() || owners.is_empty();
        for (unit, epoch) in lost.into_iter().rev() {
            if !self.lingers(unit, epoch, owners) {
                self.leaving.remove(unit);
                self.units.stop(unit).await;
                self.retries.on_lost(unit);
            }
        }
        self.settle_troubles(owners);
        let mine = owners.iter().filter(|(_, (node, _))| *node == own);
        let mine: Vec<(Unit, u64)> = mine.map(|(&unit, &(_, epoch))| (unit, epoch)).collect();
        let here: BTreeSet<Unit> = self.units.here().collect();
        let new: Vec<(Unit, u64)> = mine
            .into_iter()
            .filter(|(unit, epoch)| !here.contains(unit) && !self.is_in_trouble(*unit, *epoch))
            .collect();
        self.ask_for(&new).await;
        let new = self.bring(new).await;
        for (unit, epoch) in new {
            is_changed = true;
            self.begin(unit, epoch).await;
        }
        if is_changed {
            self.tell(ShareEvent::Has(self.kept().collect()));
        }
    }

    fn tell(&self, event: ShareEvent) {
        // Whoever listened may be gone.
        let _ = self.events.send(event);
    }

    fn fail(&mut self, reason: String) {
        if self.failure.is_none() {
            self.failure = Some(reason.clone());
            self.tell(ShareEvent::Failed(reason));
        }
    }

    async fn on_call(&mut self, call: Call) {
        match call {
            Call::Part(reply) => {
                let part = self.units.part();
                let body = bincode::serde::encode_to_vec(&part, bincode::config::standard())
                    .expect("derived `Serialize`s write to memory without error");
                reply.answer(body);
            }
            Call::Over(over, reply) => self.on_over(over, reply),
            Call::Asked(ShareCall::Open(count), reply) => {
                self.chaos.gate().open(count);
                if let Some(reply) = reply {
                    reply.answer(json!({ "open": count }).to_string().into_bytes());
                }
            }
            Call::Asked(ShareCall::Finish, reply) => {
                let count = self.units.finish_feeds();
                if let Some(reply) = reply {
                    reply.answer(json!({ "finished": count }).to_string().into_bytes());
                }
            }
            Call::Asked(ShareCall::CutOff(millis), Some(reply)) => {
                if self.cuts.contains(&millis) {
                    self.network.cut_off_for(Duration::from_millis(millis));
                    reply.answer(json!({ "cut_off_ms": millis }).to_string().into_bytes());
                } else {
                    reply.refuse("this node was not started with such a --chaos cut:NODE");
                }
            }
            Call::Asked(ShareCall::Progress, Some(reply)) => {
                let progress = self.progress().await;
                reply.answer(json!(progress).to_string().into_bytes());
            }
            Call::Asked(ShareCall::Report, Some(reply)) => match &self.report {
                Some(report) => reply.answer(report.to_json().into_bytes()),
                None => reply.refuse("the run is not over, or exec is on another node"),
            },
            Call::Asked(ShareCall::Streams, Some(reply)) => {
                let ends = self.units.streams();
                tokio::spawn(async move {
                    reply.answer(json!(ends.await).to_string().into_bytes());
                });
            }
            Call::Asked(ShareCall::Counts, Some(reply)) => {
                let counts = self.units.counts();
                tokio::spawn(async move {
                    reply.answer(counts.await.to_string().into_bytes());
                });
            }
            // Whoever tells a question awaits nothing.
            Call::Asked(
                ShareCall::Progress
                | ShareCall::Report
                | ShareCall::CutOff(_)
                | ShareCall::Streams
                | ShareCall::Counts,
                None,
            ) => {}
        }
    }

    /// Another node says that a run is over.
    fn on_over(&mut self, over: Over, reply: Option<Reply>) {
        let is_concerned = over.concerns(self.run, self.begun.elapsed(), self.resumed);
        let marked = if is_concerned { self.mark_finished() } else { Ok(()) };
        match (marked, reply) {
            (Ok(()), Some(reply)) => reply.answer(Vec::new()),
            (Ok(()), None) => {}
            (Err(reason), reply) => {
                if let Some(reply) = reply {
                    reply.refuse(reason.clone());
                }
                self.fail(reason);
            }
        }
    }

    /// From where the units here went on.
    fn went_on(&self) -> BTreeMap<String, u64> {
        let here = self.kept();
        let from = here.filter_map(|unit| Some((unit, self.went_on.get(&unit)?)));
        from.map(|(unit, key)| (unit.to_string(), key.frontier.as_nanos())).collect()
    }

    /// Says how full the queues here are.
    fn measure(&self) {
        let (ends, loads) = (self.units.streams(), self.loads.clone());
        let bound = self.config.stream.credit_ticks as u64;
        tokio::spawn(async move {
            let ends = ends.await;
            let waiting = ends.iter().filter_map(|end| end.waiting_rows());
            loads.set_queue(queue_share(waiting.map(|rows| (rows, bound))));
        });
    }

    async fn progress(&self) -> ShareProgress {
        let sample = self.units.sample().await;
        ShareProgress {
            units: self.kept().map(|unit| unit.to_string()).collect(),
            epochs: self.units.here_since().map(|(unit, at)| (unit.to_string(), at)).collect(),
            bytes_read: sample.bytes,
            bytes_total: self.units.bytes_total().await,
            rows: sample.rows,
            orders: sample.orders,
            held: sample.held,
            stale: self.units.stale(),
            went_on: self.went_on(),
            copies_short: self.copies.short(),
            is_over: self.is_over.load(Ordering::Relaxed),
            has_report: self.report.is_some(),
            failure: self.failure.clone(),
        }
    }
}
