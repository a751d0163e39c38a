//! Units of a pipeline that spans a cluster: those which run on this node.
//!
//! A unit is a supervision tree of its own. Where the others are is the business of
//! [`Transport`]; who has which is decided elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorRef, SpawnErr};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tickwright_core::cluster::Unit;
use tickwright_core::config::Subtree;
use tickwright_core::domain::Key;
use tickwright_core::pipeline::factors::FactorCounts;
use tickwright_core::pipeline::strategy::StrategyCounts;
use tickwright_core::stream::Merging;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;

use super::counts::counts;
use super::parameters::{Controlled, reached_by_exec, reached_by_shard};
use super::report::{NodeReport, ask, report_of_exec, sample};
use super::streams::{StreamEnd, ends};
use super::{NodeArguments, NodeSource, Wiring, risk_tool};
use crate::cleaner::{self, CleanerMessage, CleanerReport};
use crate::cluster::{Request, Transport};
use crate::factors::{self, FactorsMessage};
use crate::ingester::{self, IngesterMessage, IngesterReport};
use crate::kit::{
    ARRIVALS_TREE, ArrivalLog, Closed, ControlLog, CopyOutlet, Directory, LogOutlet, Outlet,
    StageReport, SupervisionStatistics, Supervisor, SupervisorArguments, SupervisorMessage,
    checkpoint_tree, journal_tree, process,
};
use crate::ledger::LedgerClient;
use crate::parameters::{Agreed, Parameters, REACHED, reached_of};
use crate::risk::{self, RiskMessage};
use crate::source::SourceError;
use crate::source::feed::Feed;
use crate::strategy::{self, StrategyMessage};
use crate::telemetry::{self, Sample};

/// The kind of question that is answered with a [`UnitPart`].
pub(crate) const PART: &str = "part";

/// The kind of question that is answered once `unit` has put its last checkpoint here, for another node to
/// go on from.
pub(crate) const HAND_OVER: &str = "hand_over";

/// How long a tree may take to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// How long a stage may take to put its last checkpoint; whoever asked has gone on without it by then.
const LAST_PATIENCE: Duration = Duration::from_secs(2);

/// How long a node may take to hear of a hold that was agreed on.
const LEARN_PATIENCE: Duration = Duration::from_secs(1);

/// What a unit outside exec has counted; what crosses nodes of a report.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum UnitPart {
    /// Of a source.
    Source(Box<StageReport<IngesterReport>>, Box<StageReport<CleanerReport>>),
    /// Of a shard.
    Shard(StageReport<FactorCounts>, StageReport<Vec<StrategyCounts>>),
}

impl UnitPart {
    /// Whether every row has been handled.
    pub fn is_complete(&self) -> bool {
        match self {
            Self::Source(ingester, cleaner) => {
                ingester.complete == Key::END && cleaner.complete == Key::END
            }
            Self::Shard(factors, strategies) => {
                factors.complete == Key::END && strategies.complete == Key::END
            }
        }
    }
}

/// What a process has counted, beside its units.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct NodePart {
    /// Children restarted, by the child whose end was the reason.
    pub restarts_by_child: BTreeMap<String, u64>,
    /// Each injected fault, and how often it struck here.
    pub fired: Vec<(String, u64)>,
    /// The most memory that it has had, in bytes.
    pub peak_rss_bytes: u64,
}

/// The units that run on this node.
#[derive(Debug)]
pub struct Units {
    wiring: Wiring,
    transport: Transport,
    running: BTreeMap<Unit, Running>,
    /// Those of the live sources among them.
    feeds: BTreeMap<Unit, Feed>,
    finished: Outlet<()>,
    fatal: Outlet<SourceError>,
    ended: Outlet<Unit>,
}

/// Who keeps elsewhere what a unit stores.
#[derive(Clone, Debug, Default)]
pub struct UnitCopies {
    /// Its checkpoints.
    pub checkpoints: Option<CopyOutlet>,
    /// What is appended to its log, if it has one.
    pub log: Option<LogOutlet>,
}

#[derive(Debug)]
struct Running {
    epoch: u64,
    supervisor: ActorRef<SupervisorMessage>,
    /// Tells when the tree has given up.
    watch: JoinHandle<()>,
}

/// What units tell whoever runs them.
#[derive(Debug)]
pub struct UnitEvents {
    /// Exec has handled and stored everything.
    pub finished: UnboundedReceiver<()>,
    /// A source cannot be read at all.
    pub fatal: UnboundedReceiver<SourceError>,
    /// A unit's tree has given up.
    pub ended: UnboundedReceiver<Unit>,
}

impl Units {
    /// A node that runs no unit yet.
    ///
    /// # Errors
    ///
    /// [`SpawnErr`] when the pipeline cannot be built as configured.
    pub fn new(
        arguments: NodeArguments,
        transport: Transport,
    ) -> Result<(Self, UnitEvents), SpawnErr> {
        let (finished_outlet, finished) = Outlet::to_channel();
        let (fatal_outlet, fatal) = Outlet::to_channel();
        let (ended_outlet, ended) = Outlet::to_channel();
        let units = Self {
            wiring: Wiring::new(arguments, Some(transport.clone()))?,
            transport,
            running: BTreeMap::new(),
            feeds: BTreeMap::new(),
            finished: finished_outlet,
            fatal: fatal_outlet,
            ended: ended_outlet,
        };
        Ok((units, UnitEvents { finished, fatal, ended }))
    }

    /// Every unit of the pipeline.
    pub fn all(&self) -> impl Iterator<Item = Unit> + use<> {
        Unit::all(self.wiring.sources.len(), self.wiring.shards)
    }

    /// Those that run here.
    pub fn here(&self) -> impl Iterator<Item = Unit> {
        self.running.keys().copied()
    }

    /// Those that run here, each with its epoch.
    pub fn here_since(&self) -> impl Iterator<Item = (Unit, u64)> {
        self.running.iter().map(|(&unit, running)| (unit, running.epoch))
    }

    /// What here has to know of changes of parameters.
    pub(crate) fn controlled(&self) -> Controlled {
        self.wiring.controlled()
    }

    /// The parameters of the strategies, changed by agreement in `ledger`.
    pub fn parameters(&self, ledger: LedgerClient) -> Parameters {
        let network = self.transport.network().clone();
        let agreed = Agreed { network, ledger, shards: self.wiring.shards };
        Parameters::new(self.wiring.plan(), Arc::new(agreed))
    }

    /// Messages refused because they came from units that have a later life elsewhere.
    pub fn stale(&self) -> u64 {
        self.transport.stale()
    }

    /// What the supervisors have seen.
    pub fn statistics(&self) -> &SupervisionStatistics {
        &self.wiring.statistics
    }

    /// The trees with the checkpoints of `unit`, which another node can go on from.
    pub fn checkpoint_trees(unit: Unit) -> Vec<String> {
        let stages = match unit {
            Unit::Source(source) => {
                vec![ingester::role(usize::from(source)), cleaner::role(usize::from(source))]
            }
            Unit::Shard(shard) => {
                vec![factors::role(usize::from(shard)), strategy::role(usize::from(shard))]
            }
            Unit::Exec => vec![risk::ROLE.to_owned()],
        };
        stages.iter().map(|stage| checkpoint_tree(stage)).collect()
    }

    /// The tree with what `unit` cannot derive again, if there is such a thing: what a source that cannot
    /// be read again has said, or the order in which exec took its inputs.
    pub fn log_tree(&self, unit: Unit) -> Option<String> {
        match unit {
            Unit::Source(source) => {
                let source = usize::from(source);
                let is_live = !matches!(self.wiring.sources[source], NodeSource::Readable(_));
                is_live.then(|| journal_tree(source))
            }
            Unit::Exec => {
                let is_used = self.wiring.merging() == Merging::Arrival;
                is_used.then(|| ARRIVALS_TREE.to_owned())
            }
            Unit::Shard(_) => None,
        }
    }

    /// Declares live sources that run here finished. Returns how many there are.
    pub fn finish_feeds(&self) -> usize {
        self.feeds.values().for_each(Feed::finish);
        self.feeds.len()
    }

    /// Starts `unit`, whose epoch is `epoch`. What it stores is kept elsewhere too by whoever is behind
    /// `copies`.
    ///
    /// # Errors
    ///
    /// [`SpawnErr`] from the first actor that could not start.
    pub async fn start(
        &mut self,
        unit: Unit,
        epoch: u64,
        copies: UnitCopies,
    ) -> Result<(), SpawnErr> {
        let mut wiring = self.wiring.clone();
        // What an earlier life of it here has handed over is this one's again.
        wiring.settings.closed = Closed::default();
        wiring.settings.copies = copies.checkpoints;
        wiring.settings.log = copies.log;
        self.open_own(unit, &mut wiring)?;
        let child = match unit {
            Unit::Source(source) => wiring.source(usize::from(source), &self.fatal),
            Unit::Shard(shard) => wiring.shard(usize::from(shard)),
            Unit::Exec => wiring.exec(&self.finished),
        };
        let arguments = SupervisorArguments {
            name: format!("unit {unit}"),
            policy: wiring.config.policy(Subtree::Node),
            children: vec![child],
            clock: wiring.clock.clone(),
            statistics: wiring.statistics.clone(),
        };
        // Known before its actors are: they say hello, and are asked at once.
        let (directory, control) = (wiring.directory.clone(), wiring.control.clone());
        self.transport.host(unit, epoch, move |request| {
            answer((&directory, &control), (unit, epoch), request)
        });
        let (supervisor, ended) = match Supervisor::spawn(None, Supervisor, arguments).await {
            Ok(spawned) => spawned,
            Err(error) => {
                self.transport.release(unit);
                return Err(error);
            }
        };
        let outlet = self.ended.clone();
        let watch = tokio::spawn(async move {
            // A task that was cancelled has ended too.
            let _ = ended.await;
            let _ = outlet.send(unit);
        });
        if unit == Unit::Exec {
            let directory = wiring.directory.clone();
            let config = Arc::clone(&wiring.config);
            // Tools know no epochs.
            let handler = move |request| risk_tool::answer(&directory, &config, request);
            self.transport.network().register(risk::ROLE, None, Arc::new(handler));
        }
        self.running.insert(unit, Running { epoch, supervisor, watch });
        Ok(())
    }

    /// Whether `unit` may run on two nodes for a moment, of which the others hear the later one. What a
    /// live source says cannot be heard by two, and the order in which inputs arrive cannot be taken by two.
    pub fn may_overlap(&self, unit: Unit) -> bool {
        match unit {
            Unit::Source(source) => {
                let source = self.wiring.sources.get(usize::from(source));
                source.is_some_and(|source| matches!(source, NodeSource::Readable(_)))
            }
            Unit::Shard(_) => true,
            Unit::Exec => self.log_tree(unit).is_none(),
        }
    }

    /// Opens what only the node that has `unit` has open.
    fn open_own(&mut self, unit: Unit, wiring: &mut Wiring) -> Result<(), SpawnErr> {
        if unit == Unit::Exec {
            // What other nodes kept of it may have come here since this process started.
            let (store, log) = (&wiring.settings.store, wiring.settings.log.clone());
            let opened = ArrivalLog::open(store, wiring.config.journal.keep_arrivals, log);
            wiring.arrivals = opened.map_err(|error| SpawnErr::StartupFailed(Box::new(error)))?;
            let copies = wiring.settings.copies.take();
            wiring.settings.copies = copies.map(|copies| after_arrivals(&wiring.arrivals, copies));
        }
        if let Unit::Source(source) = unit
            && let NodeSource::Venue(venue) = &wiring.sources[usize::from(source)]
        {
            let feed = Feed::live((**venue).clone(), wiring.clock.clone());
            let feed = feed.map_err(|error| SpawnErr::StartupFailed(Box::new(error)))?;
            self.feeds.insert(unit, feed.clone());
            Arc::make_mut(&mut wiring.sources)[usize::from(source)] = NodeSource::Feed(feed);
        }
        Ok(())
    }

    /// Ends `unit` here. What it has stored stays.
    pub async fn stop(&mut self, unit: Unit) {
        self.feeds.remove(&unit);
        let Some(Running { supervisor, watch, .. }) = self.running.remove(&unit) else { return };
        watch.abort();
        self.transport.release(unit);
        if unit == Unit::Exec {
            self.transport.network().unregister(risk::ROLE);
        }
        let stopped = supervisor.stop_and_wait(None, Some(STOP_PATIENCE)).await;
        if let Err(error) = stopped {
            tracing::debug!(%unit, %error, "the tree had ended");
        }
    }

    /// How far the sources here have come, and exec, if it is here.
    pub async fn sample(&self) -> Sample {
        sample(&self.wiring.directory, sources(self.here())).await
    }

    /// Bytes of all sources that run here.
    pub async fn bytes_total(&self) -> u64 {
        let mut bytes = 0;
        for source in sources(self.here()) {
            let role = ingester::role(source);
            let directory = &self.wiring.directory;
            let report = ask(directory, &role, IngesterMessage::Report, telemetry::PATIENCE).await;
            bytes += report.map_or(0, |report| report.counts.bytes_total);
        }
        bytes
    }

    /// Where the streams stand whose ends are here. The future needs nothing of this.
    pub fn streams(&self) -> impl Future<Output = Vec<StreamEnd>> + Send + use<> {
        let (wiring, network) = (self.wiring.clone(), self.transport.network().clone());
        let units: Vec<(Unit, u64)> = self.here_since().collect();
        async move {
            let node_of = |unit: Unit| Some(network.route(&unit.to_string())?.node.0);
            let counts = (wiring.sources.len(), wiring.shards);
            ends(&wiring.directory, &units, counts, node_of).await
        }
    }

    /// What the units here have counted so far, as JSON. The future needs nothing of this.
    pub fn counts(&self) -> impl Future<Output = Value> + Send + use<> {
        let (wiring, units) = (self.wiring.clone(), self.here().collect::<Vec<Unit>>());
        async move { counts(&wiring, units.into_iter()).await }
    }

    /// What this process has counted.
    pub fn part(&self) -> NodePart {
        NodePart {
            restarts_by_child: self.wiring.statistics.restarts_by_child(),
            fired: self.wiring.chaos.fired(),
            peak_rss_bytes: process::peak_rss_bytes(),
        }
    }

    /// The report of the whole pipeline, of which exec is here: `parts` are those of all other units.
    ///
    /// # Errors
    ///
    /// Which stage gave no answer within `patience`.
    pub async fn report(
        &self,
        parts: impl Iterator<Item = UnitPart>,
        patience: Duration,
    ) -> Result<NodeReport, String> {
        let changes = self.wiring.control.current();
        let mut report = report_of_exec(&self.wiring.directory, changes, patience).await?;
        for part in parts {
            match part {
                UnitPart::Source(ingester, cleaner) => {
                    report.ingesters.push(*ingester);
                    report.cleaners.push(*cleaner);
                }
                UnitPart::Shard(factors, strategies) => {
                    report.factors.push(factors);
                    report.strategies.push(strategies);
                }
            }
        }
        Ok(report)
    }
}

/// Where checkpoints of exec go to be kept elsewhere: each after the steps that led to it, for its brokers may
/// have seen rows that were taken and have not come out. Whoever finds it must find those.
fn after_arrivals(arrivals: &ArrivalLog, copies: CopyOutlet) -> CopyOutlet {
    let arrivals = arrivals.clone();
    Outlet::to_function("copies", move |copy| {
        let copies = copies.clone();
        // Whoever keeps copies is there for as long as the unit is.
        arrivals.when_durable(Box::new(move || drop(copies.send(copy))));
        Ok(())
    })
}

fn sources(units: impl Iterator<Item = Unit>) -> impl Iterator<Item = usize> {
    units.filter_map(|unit| match unit {
        Unit::Source(source) => Some(usize::from(source)),
        Unit::Shard(_) | Unit::Exec => None,
    })
}

/// Takes in a message for `unit` that is not of a stream.
fn answer(
    (directory, control): (&Directory, &ControlLog),
    (unit, epoch): (Unit, u64),
    mut request: Request,
) -> Result<(), String> {
    if request.kind == HAND_OVER {
        return answer_hand_over(directory, (unit, epoch), request);
    }
    if request.kind == REACHED {
        return answer_reached((directory, control), unit, request);
    }
    if request.kind != PART {
        let refusal = format!("`{unit}` does not understand messages of kind {}", request.kind);
        if let Some(reply) = request.reply.take() {
            reply.refuse(refusal.clone());
        }
        return Err(refusal);
    }
    let Some(reply) = request.reply.take() else { return Err("nobody awaits an answer".into()) };
    let directory = directory.clone();
    tokio::spawn(async move {
        match part(&directory, unit).await {
            Ok(part) => {
                let body = bincode::serde::encode_to_vec(&part, bincode::config::standard())
                    .expect("derived `Serialize`s write to memory without error");
                reply.answer(body);
            }
            Err(reason) => reply.refuse(reason),
        }
    });
    Ok(())
}

/// Answers whoever is about to change parameters: how far `unit` is, once it knows of the hold.
fn answer_reached(
    (directory, control): (&Directory, &ControlLog),
    unit: Unit,
    mut request: Request,
) -> Result<(), String> {
    let Some(reply) = request.reply.take() else { return Err("nobody awaits an answer".into()) };
    let number = match reached_of(&request.body) {
        Ok(number) => number,
        Err(reason) => {
            reply.refuse(reason.clone());
            return Err(reason);
        }
    };
    let (directory, control) = (directory.clone(), control.clone());
    tokio::spawn(async move {
        // It holds its credit until it is answered: that is what bounds these tasks.
        let _request = request;
        if !control.learns_of(number, LEARN_PATIENCE).await {
            return reply.refuse("its node has not heard of the hold yet");
        }
        let reached = match unit {
            Unit::Shard(shard) => {
                reached_by_shard(&directory, usize::from(shard), LAST_PATIENCE).await
            }
            Unit::Exec => reached_by_exec(&directory, LAST_PATIENCE).await,
            Unit::Source(_) => Err("a source has no parameters".into()),
        };
        match reached {
            Ok(reached) => reply.answer(reached.as_nanos().to_le_bytes().to_vec()),
            Err(reason) => reply.refuse(reason),
        }
    });
    Ok(())
}

/// Answers whoever is to go on with `unit`, which is here since `epoch`, once there is something fresh to go on
/// from. Whoever has it by an epoch that is over, and hears of that late, is not to stop the one that has it since.
fn answer_hand_over(
    directory: &Directory,
    (unit, epoch): (Unit, u64),
    mut request: Request,
) -> Result<(), String> {
    let Some(reply) = request.reply.take() else { return Err("nobody awaits an answer".into()) };
    let asked: Option<[u8; 8]> = request.body.as_slice().try_into().ok();
    let asked = asked.map(u64::from_le_bytes);
    if asked.is_none_or(|asked| asked <= epoch) {
        let refusal = format!("{unit} is here since epoch {epoch}, and was asked for by {asked:?}");
        reply.refuse(refusal.clone());
        return Err(refusal);
    }
    let directory = directory.clone();
    tokio::spawn(async move {
        match hand_over(&directory, unit).await {
            Ok(key) => {
                tracing::info!(%unit, %key, "another node goes on from here");
                reply.answer(Vec::new());
            }
            Err(reason) => reply.refuse(reason),
        }
    });
    Ok(())
}

/// Has the stages of `unit` put their last checkpoints, the later stage one that is not before the earlier
/// one's: the earlier would else have to go back for it.
async fn hand_over(directory: &Directory, unit: Unit) -> Result<Key, String> {
    let (patience, start) = (LAST_PATIENCE, Key::START);
    match unit {
        Unit::Source(source) => {
            let role = ingester::role(usize::from(source));
            let first = |reply| IngesterMessage::HandOver(start, reply);
            let after = ask(directory, &role, first, patience).await?;
            let role = cleaner::role(usize::from(source));
            ask(directory, &role, |reply| CleanerMessage::HandOver(after, reply), patience).await
        }
        Unit::Shard(shard) => {
            let role = factors::role(usize::from(shard));
            let first = |reply| FactorsMessage::HandOver(start, reply);
            let after = ask(directory, &role, first, patience).await?;
            let role = strategy::role(usize::from(shard));
            ask(directory, &role, |reply| StrategyMessage::HandOver(after, reply), patience).await
        }
        Unit::Exec => ask(directory, risk::ROLE, RiskMessage::HandOver, patience).await,
    }
}

pub(super) async fn part(directory: &Directory, unit: Unit) -> Result<UnitPart, String> {
    let patience = telemetry::PATIENCE;
    match unit {
        Unit::Source(source) => {
            let role = ingester::role(usize::from(source));
            let ingester = ask(directory, &role, IngesterMessage::Report, patience).await?;
            let role = cleaner::role(usize::from(source));
            let cleaner = ask(directory, &role, CleanerMessage::Report, patience).await?;
            Ok(UnitPart::Source(Box::new(ingester), Box::new(cleaner)))
        }
        Unit::Shard(shard) => {
            let role = factors::role(usize::from(shard));
            let factors = ask(directory, &role, FactorsMessage::Report, patience).await?;
            let role = strategy::role(usize::from(shard));
            let strategies = ask(directory, &role, StrategyMessage::Report, patience).await?;
            Ok(UnitPart::Shard(factors, strategies))
        }
        Unit::Exec => Err("what exec has counted does not leave its node".into()),
    }
}
