//! The node: every actor, what it is given, and who sends to whom.
//!
//! This is the one file that knows all actors. Read it top to bottom to follow the data.
//!
//! ```text
//! node                rest_for_one
//! ├── telemetry
//! ├── data            one_for_one     per source: ingester, cleaner
//! ├── calc            one_for_one     per shard: factor engine, strategies
//! └── exec            one_for_all     positions, brokers, router, risk
//! ```

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use ractor::rpc::CallResult;
use ractor::{Actor, ActorRef, Message, RpcReplyPort, SpawnErr};
use tickwright_core::config::{Config, Kinds, Merge, Speed, Subtree};
use tickwright_core::domain::{BrokerId, FactorLayout, Key, ParameterChange, SourceId, Timestamp};
use tickwright_core::pipeline::factors::{FactorEngine, FactorError};
use tickwright_core::pipeline::ingest::IngesterConfig;
use tickwright_core::pipeline::router::RouterCounters;
use tickwright_core::pipeline::strategy::{
    StrategyCounts, StrategyError, StrategyNeeds, StrategySpec,
};
use tickwright_core::stream::Merging;
use tickwright_core::supervision::{PolicyConfig, Restart, Strategy};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::broker::{self, BrokerActor, BrokerArguments, BrokerMessage, BrokerReport};
use crate::cleaner::{
    self, CleanStream, CleanerActor, CleanerArguments, CleanerMessage, CleanerReport,
};
use crate::factors::{self, FactorsActor, FactorsArguments, FactorsMessage};
use crate::ingester::{
    self, IngesterActor, IngesterArguments, IngesterMessage, IngesterReport, OpenSource,
};
use crate::kit::{
    ArrivalLog, CHANGE_COUNT_MAX, Chaos, ChildSpec, Clock, ControlLog, Directory, Outlet,
    StageReport, StageSettings, Store, StoreError, SupervisionStatistics, Supervisor,
    SupervisorArguments, SupervisorMessage,
};
use crate::live_ingester::{LiveIngesterActor, LiveIngesterArguments};
use crate::positions::{
    self, PositionsActor, PositionsArguments, PositionsMessage, PositionsReport,
};
use crate::risk::{self, RiskActor, RiskArguments, RiskMessage, RiskReport};
use crate::router::{self, RouterActor, RouterArguments, RouterMessage};
use crate::source::SourceError;
use crate::source::feed::Feed;
use crate::strategy::{self, StrategyActor, StrategyArguments, StrategyMessage};
use crate::telemetry::{self, Sample, TelemetryActor, TelemetryArguments};

/// What a node is built from.
pub struct NodeArguments {
    /// `cluster.toml`.
    pub config: Config,
    /// The strategies and factors there are.
    pub kinds: Kinds,
    /// What is read.
    pub sources: Vec<NodeSource>,
    /// Where checkpoints go.
    pub store: Store,
    /// Faults on command.
    pub chaos: Chaos,
    /// Dates restarts.
    pub clock: Clock,
}

/// One source of a node.
#[derive(Clone)]
pub enum NodeSource {
    /// One that can be read again from any place: a file, the simulated market.
    Readable(OpenSource),
    /// One that cannot: it is journaled before anything else sees it.
    Feed(Feed),
}

impl std::fmt::Debug for NodeSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Readable(_) => f.write_str("Readable"),
            Self::Feed(feed) => f.debug_tuple("Feed").field(feed).finish(),
        }
    }
}

impl From<OpenSource> for NodeSource {
    fn from(open: OpenSource) -> Self {
        Self::Readable(open)
    }
}

impl From<Feed> for NodeSource {
    fn from(feed: Feed) -> Self {
        Self::Feed(feed)
    }
}

impl std::fmt::Debug for NodeArguments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeArguments")
            .field("sources", &self.sources.len())
            .finish_non_exhaustive()
    }
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    /// The root of the supervision tree.
    pub supervisor: ActorRef<SupervisorMessage>,
    /// Who does which job.
    pub directory: Directory,
    /// What the supervisors have seen.
    pub statistics: SupervisionStatistics,
    /// Told once when every row of every source has been handled and stored.
    pub finished: UnboundedReceiver<()>,
    /// Told when a source cannot be read at all.
    pub fatal: UnboundedReceiver<SourceError>,
    /// How far the run has come, now and then.
    pub samples: UnboundedReceiver<Sample>,
    sources: usize,
    shards: usize,
    wiring: Wiring,
}

/// Why parameters were not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// They make no sense.
    #[error(transparent)]
    Strategy(#[from] StrategyError),
    /// They need a factor that cannot be computed.
    #[error(transparent)]
    Factor(#[from] FactorError),
    /// There were too many changes in this run.
    #[error("{CHANGE_COUNT_MAX} changes of parameters are the most that a run can take")]
    TooMany,
    /// Event time is there already.
    #[error("event time has reached {} ns; name a later time than {} ns", reached.as_nanos(), at.as_nanos())]
    Late {
        /// When they were to hold.
        at: Timestamp,
        /// How far a shard has come.
        reached: Timestamp,
    },
    /// Everything has been decided.
    #[error("the run is over")]
    Over,
    /// A shard does not answer.
    #[error("{0}")]
    Unanswered(String),
    /// The change cannot be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Keeps every shard before a time, until it is dropped.
struct Hold<'a>(&'a Node);

impl Drop for Hold<'_> {
    fn drop(&mut self) {
        self.0.wiring.control.release();
        for shard in 0..self.0.shards {
            // One that is being restarted looks by itself.
            let _ = self.0.directory.tell(&factors::role(shard), FactorsMessage::Control);
            let _ = self.0.directory.tell(&strategy::role(shard), StrategyMessage::Control);
        }
    }
}

/// What every stage has counted.
#[derive(Debug)]
pub struct NodeReport {
    /// By source.
    pub ingesters: Vec<StageReport<IngesterReport>>,
    /// By source.
    pub cleaners: Vec<StageReport<CleanerReport>>,
    /// By shard: factor values computed.
    pub factors: Vec<StageReport<tickwright_core::pipeline::factors::FactorCounts>>,
    /// By shard, then strategy.
    pub strategies: Vec<StageReport<Vec<StrategyCounts>>>,
    /// Risk.
    pub risk: StageReport<RiskReport>,
    /// The router.
    pub router: RouterCounters,
    /// The brokers, the primary first.
    pub brokers: Vec<BrokerReport>,
    /// Positions.
    pub positions: PositionsReport,
}

/// Builds and wires the actors of one node.
#[derive(Clone)]
struct Wiring {
    config: Arc<Config>,
    kinds: Kinds,
    sources: Arc<Vec<NodeSource>>,
    /// What strategies look at before any change.
    needs: StrategyNeeds,
    layout: Arc<FactorLayout>,
    strategies: Arc<Vec<StrategySpec>>,
    control: ControlLog,
    arrivals: ArrivalLog,
    settings: StageSettings,
    chaos: Chaos,
    clock: Clock,
    directory: Directory,
    statistics: SupervisionStatistics,
    shards: usize,
}

impl std::fmt::Debug for Wiring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wiring").field("control", &self.control).finish_non_exhaustive()
    }
}

/// Starts the supervision tree.
///
/// # Errors
///
/// [`SpawnErr`] from the first actor that could not start; none is left running.
pub async fn start(arguments: NodeArguments) -> Result<Node, SpawnErr> {
    let NodeArguments { config, kinds, sources, store, chaos, clock } = arguments;
    let fail = |error: Box<dyn std::error::Error + Send + Sync>| SpawnErr::StartupFailed(error);
    let strategies: Vec<StrategySpec> = config.strategies.iter().map(|each| each.spec()).collect();
    let needs = StrategyNeeds::new(&kinds.strategies, &strategies)
        .map_err(|error| fail(Box::new(error)))?;
    let engine = factor_engine(&config, &kinds, &needs).map_err(|error| fail(Box::new(error)))?;
    let settings = StageSettings {
        credit: u32::try_from(config.stream.credit_ticks).unwrap_or(u32::MAX),
        retained: config.stream.retained_ticks,
        spacing: config.stream.checkpoint_ticks as u64,
        batch_ticks: config.pipeline.batch_ticks,
        store,
        chaos: chaos.clone(),
    };
    let control = ControlLog::open(&settings.store).map_err(|error| fail(Box::new(error)))?;
    let arrivals = ArrivalLog::open(&settings.store, config.journal.keep_arrivals)
        .map_err(|error| fail(Box::new(error)))?;
    let (shards, source_count) = (config.pipeline.shards, sources.len());
    let wiring = Wiring {
        config: Arc::new(config),
        kinds,
        sources: Arc::new(sources),
        needs,
        layout: Arc::clone(engine.layout()),
        strategies: Arc::new(strategies),
        control,
        arrivals,
        settings,
        chaos,
        clock: clock.clone(),
        directory: Directory::default(),
        statistics: SupervisionStatistics::default(),
        shards,
    };
    let (finished_outlet, finished) = Outlet::to_channel();
    let (fatal_outlet, fatal) = Outlet::to_channel();
    let (samples_outlet, samples) = Outlet::to_channel();

    let children = vec![
        wiring.telemetry(samples_outlet),
        wiring.data(&fatal_outlet),
        wiring.calc(),
        wiring.exec(&finished_outlet),
    ];
    let arguments = SupervisorArguments {
        name: "node".into(),
        policy: wiring.config.policy(Subtree::Node),
        children,
        clock,
        statistics: wiring.statistics.clone(),
    };
    let (supervisor, _) = Supervisor::spawn(None, Supervisor, arguments).await?;
    let (directory, statistics) = (wiring.directory.clone(), wiring.statistics.clone());
    let sources = source_count;
    let node = Node {
        supervisor,
        directory,
        statistics,
        finished,
        fatal,
        samples,
        sources,
        shards,
        wiring,
    };
    Ok(node)
}

/// An engine of the columns that strategies with these `needs` look at, and of those that are wanted
/// besides.
fn factor_engine(
    config: &Config,
    kinds: &Kinds,
    needs: &StrategyNeeds,
) -> Result<FactorEngine, FactorError> {
    let specs: Vec<_> = needs.factors().cloned().chain(config.factors_also()).collect();
    FactorEngine::new(config.factors(), &kinds.factors, &specs)
}

impl Wiring {
    /// An outlet to `role`.
    fn to<T: Send + 'static, M: Message>(
        &self,
        role: &str,
        wrap: impl Fn(T) -> M + Send + Sync + 'static,
    ) -> Outlet<T> {
        Outlet::to_role(&self.directory, role, wrap)
    }

    /// A child that `spawn` starts, with its count of checkpoints.
    fn stage<A>(
        &self,
        name: String,
        actor: fn() -> A,
        progress: Arc<AtomicU64>,
        arguments: impl Fn(Arc<AtomicU64>) -> A::Arguments + Send + Sync + 'static,
    ) -> ChildSpec
    where
        A: Actor,
    {
        let counter = Arc::clone(&progress);
        let start = move |parent: ractor::ActorCell| {
            let arguments = arguments(Arc::clone(&counter));
            async move { Ok(parent.spawn_linked(None, actor(), arguments).await?.0.get_cell()) }
        };
        ChildSpec::new(name, Restart::Permanent, start).with_progress([progress])
    }

    fn subtree(
        &self,
        name: &str,
        policy: PolicyConfig,
        children: impl Fn() -> Vec<ChildSpec> + Send + Sync + 'static,
    ) -> ChildSpec {
        let (clock, statistics) = (self.clock.clone(), self.statistics.clone());
        ChildSpec::subtree(name, policy, clock, statistics, children)
    }

    /// How the groups of a subtree are treated as a whole: each on its own.
    fn independent(&self, subtree: Subtree) -> PolicyConfig {
        PolicyConfig { strategy: Strategy::OneForOne, ..self.config.policy(subtree) }
    }

    fn telemetry(&self, samples: Outlet<Sample>) -> ChildSpec {
        let interval = self.config.telemetry.progress;
        let (directory, sources) = (self.directory.clone(), self.sources.len());
        ChildSpec::new("telemetry", Restart::Permanent, move |parent| {
            let directory = directory.clone();
            let probe: telemetry::Probe = Box::new(move || {
                let directory = directory.clone();
                Box::pin(async move { sample(&directory, sources).await })
            });
            let arguments = TelemetryArguments { interval, probe, samples: samples.clone() };
            async move { Ok(parent.spawn_linked(None, TelemetryActor, arguments).await?.0.get_cell()) }
        })
    }

    // --- data: source ──▶ ingester ──▶ cleaner ----------------------------------------------------

    fn data(&self, fatal: &Outlet<SourceError>) -> ChildSpec {
        let (wiring, fatal) = (self.clone(), fatal.clone());
        self.subtree("data", self.independent(Subtree::Data), move || {
            (0..wiring.sources.len()).map(|source| wiring.source(source, &fatal)).collect()
        })
    }

    fn source(&self, source: usize, fatal: &Outlet<SourceError>) -> ChildSpec {
        let (wiring, fatal) = (self.clone(), fatal.clone());
        let progress = [Arc::default(), Arc::default()];
        self.subtree(&format!("source/{source}"), self.config.policy(Subtree::Data), move || {
            let [ingester, cleaner] = progress.clone();
            vec![wiring.ingester(source, ingester, &fatal), wiring.cleaner(source, cleaner)]
        })
    }

    fn ingester(
        &self,
        source: usize,
        progress: Arc<AtomicU64>,
        fatal: &Outlet<SourceError>,
    ) -> ChildSpec {
        let role = ingester::role(source);
        let id = SourceId(u16::try_from(source).unwrap_or(u16::MAX));
        let pipeline = &self.config.pipeline;
        let config = IngesterConfig {
            step: pipeline.window_step,
            window: pipeline.window,
            ..IngesterConfig::new(id, Arc::new(self.config.instruments()))
        };
        let hello = self.to(&cleaner::role(source), |()| CleanerMessage::IngesterIsBack);
        let (wiring, fatal) = (self.clone(), fatal.clone());
        match &self.sources[source] {
            NodeSource::Readable(open) => {
                let open = Arc::clone(open);
                let speed = match pipeline.speed {
                    Speed::Max => ingester::Speed::Max,
                    Speed::Times(times) => ingester::Speed::Times(f64::from(times)),
                };
                let arguments = move |progress| IngesterArguments {
                    source,
                    open: Arc::clone(&open),
                    config: config.clone(),
                    speed,
                    settings: wiring.settings.clone(),
                    progress,
                    directory: wiring.directory.clone(),
                    hello: hello.clone(),
                    fatal: fatal.clone(),
                };
                self.stage(role, || IngesterActor, progress, arguments)
            }
            NodeSource::Feed(feed) => {
                let feed = feed.clone();
                let arguments = move |progress| LiveIngesterArguments {
                    source,
                    feed: feed.clone(),
                    config: config.clone(),
                    idle: wiring.config.stream.idle,
                    journal_bytes_max: wiring.config.journal.size_max_bytes,
                    settings: wiring.settings.clone(),
                    progress,
                    directory: wiring.directory.clone(),
                    hello: hello.clone(),
                    fatal: fatal.clone(),
                };
                self.stage(role, || LiveIngesterActor, progress, arguments)
            }
        }
    }

    fn cleaner(&self, source: usize, progress: Arc<AtomicU64>) -> ChildSpec {
        let wiring = self.clone();
        self.stage(
            cleaner::role(source),
            || CleanerActor,
            progress,
            move |progress| {
                let hello_shard = |shard| {
                    wiring
                        .to(&factors::role(shard), move |()| FactorsMessage::CleanerIsBack(source))
                };
                CleanerArguments {
                    source,
                    rules: wiring.config.clean_rules(),
                    shards: wiring.shards,
                    settings: wiring.settings.clone(),
                    progress,
                    directory: wiring.directory.clone(),
                    ingester: wiring.to(&ingester::role(source), IngesterMessage::Demand),
                    hello_exec: wiring.to(risk::ROLE, move |()| RiskMessage::CleanerIsBack(source)),
                    hello_shards: (0..wiring.shards).map(hello_shard).collect(),
                }
            },
        )
    }

    // --- calc: clean rows ──▶ factors ──▶ strategy ------------------------------------------------

    fn calc(&self) -> ChildSpec {
        let wiring = self.clone();
        self.subtree("calc", self.independent(Subtree::Calc), move || {
            (0..wiring.shards).map(|shard| wiring.shard(shard)).collect()
        })
    }

    fn shard(&self, shard: usize) -> ChildSpec {
        let wiring = self.clone();
        let progress = [Arc::default(), Arc::default()];
        self.subtree(&format!("shard/{shard}"), self.config.policy(Subtree::Calc), move || {
            let [factors, strategy] = progress.clone();
            vec![wiring.factors(shard, factors), wiring.strategy(shard, strategy)]
        })
    }

    fn factors(&self, shard: usize, progress: Arc<AtomicU64>) -> ChildSpec {
        let wiring = self.clone();
        self.stage(
            factors::role(shard),
            || FactorsActor,
            progress,
            move |progress| {
                let cleaner = |source| {
                    wiring.to(&cleaner::role(source), move |demand| {
                        CleanerMessage::Demand(CleanStream::Shard(shard), demand)
                    })
                };
                FactorsArguments {
                    shard,
                    config: wiring.config.factors(),
                    registry: wiring.kinds.factors.clone(),
                    needs: wiring.needs.clone(),
                    also: wiring.config.factors_also(),
                    control: wiring.control.clone(),
                    settings: wiring.settings.clone(),
                    progress,
                    directory: wiring.directory.clone(),
                    cleaners: (0..wiring.sources.len()).map(cleaner).collect(),
                    hello: wiring.to(&strategy::role(shard), |()| StrategyMessage::FactorsAreBack),
                }
            },
        )
    }

    fn strategy(&self, shard: usize, progress: Arc<AtomicU64>) -> ChildSpec {
        let wiring = self.clone();
        self.stage(
            strategy::role(shard),
            || StrategyActor,
            progress,
            move |progress| StrategyArguments {
                shard,
                registry: wiring.kinds.strategies.clone(),
                specs: wiring.strategies.to_vec(),
                layout: Arc::clone(&wiring.layout),
                control: wiring.control.clone(),
                settings: wiring.settings.clone(),
                progress,
                directory: wiring.directory.clone(),
                factors: wiring.to(&factors::role(shard), FactorsMessage::Demand),
                hello: wiring.to(risk::ROLE, move |()| RiskMessage::StrategyIsBack(shard)),
            },
        )
    }

    // --- exec: clean rows and signals ──▶ risk ──▶ router ──▶ brokers; risk ──▶ positions ---------

    fn exec(&self, finished: &Outlet<()>) -> ChildSpec {
        let (wiring, finished) = (self.clone(), finished.clone());
        let progress: Arc<AtomicU64> = Arc::default();
        self.subtree("exec", self.config.policy(Subtree::Exec), move || {
            // Those who are told before those who tell.
            vec![
                wiring.positions(&progress),
                wiring.broker(0, &progress),
                wiring.broker(1, &progress),
                wiring.router(&progress),
                wiring.risk(&progress, &finished),
            ]
        })
    }

    /// Tells risk that one of the others has started.
    fn member_is_back(&self) -> Outlet<()> {
        self.to(risk::ROLE, |()| RiskMessage::MemberIsBack)
    }

    fn positions(&self, progress: &Arc<AtomicU64>) -> ChildSpec {
        let wiring = self.clone();
        let progress = Arc::clone(progress);
        self.stage(
            positions::ROLE.into(),
            || PositionsActor,
            progress,
            move |_| PositionsArguments {
                config: wiring.config.positions(),
                chaos: wiring.chaos.clone(),
                directory: wiring.directory.clone(),
                state: wiring
                    .to(risk::ROLE, |(epoch, state)| RiskMessage::PositionsState(epoch, state)),
                hello: wiring.member_is_back(),
            },
        )
    }

    fn broker(&self, broker: u8, progress: &Arc<AtomicU64>) -> ChildSpec {
        let wiring = self.clone();
        let (role, id) = (broker::role(usize::from(broker)), BrokerId(broker));
        let progress = Arc::clone(progress);
        self.stage(
            role,
            || BrokerActor,
            progress,
            move |_| BrokerArguments {
                broker: id,
                config: wiring.config.paper_broker(id),
                seed: wiring.config.pipeline.seed,
                chaos: wiring.chaos.clone(),
                directory: wiring.directory.clone(),
                done: wiring.to(router::ROLE, RouterMessage::Done),
                hello: wiring.member_is_back(),
            },
        )
    }

    fn router(&self, progress: &Arc<AtomicU64>) -> ChildSpec {
        let wiring = self.clone();
        let progress = Arc::clone(progress);
        let latency_min = self.latency_min();
        self.stage(
            router::ROLE.into(),
            || RouterActor,
            progress,
            move |_| {
                let broker = |index| wiring.to(&broker::role(index), BrokerMessage::Step);
                let restore = |index| {
                    wiring.to(&broker::role(index), |(epoch, state)| {
                        BrokerMessage::Restore(epoch, state)
                    })
                };
                RouterArguments {
                    config: wiring.config.router(),
                    latency_min,
                    chaos: wiring.chaos.clone(),
                    directory: wiring.directory.clone(),
                    brokers: [broker(0), broker(1)],
                    restore_brokers: [restore(0), restore(1)],
                    done: wiring.to(risk::ROLE, |(epoch, done)| RiskMessage::Done(epoch, done)),
                    hello: wiring.member_is_back(),
                }
            },
        )
    }

    fn risk(&self, progress: &Arc<AtomicU64>, finished: &Outlet<()>) -> ChildSpec {
        let (wiring, finished) = (self.clone(), finished.clone());
        let latency_min = u64::try_from(self.latency_min().as_nanos()).unwrap_or(u64::MAX);
        let progress = Arc::clone(progress);
        self.stage(
            risk::ROLE.into(),
            || RiskActor,
            progress,
            move |progress| {
                let cleaner = |source| {
                    wiring.to(&cleaner::role(source), |demand| {
                        CleanerMessage::Demand(CleanStream::All, demand)
                    })
                };
                let strategy = |shard| wiring.to(&strategy::role(shard), StrategyMessage::Demand);
                RiskArguments {
                    limits: wiring.config.risk_limits(),
                    merging: wiring.merging(),
                    arrivals: wiring.arrivals.clone(),
                    latency_min,
                    settings: wiring.settings.clone(),
                    progress,
                    directory: wiring.directory.clone(),
                    cleaners: (0..wiring.sources.len()).map(cleaner).collect(),
                    strategies: (0..wiring.shards).map(strategy).collect(),
                    router: wiring.to(router::ROLE, |step| RouterMessage::Step(Box::new(step))),
                    restore_router: wiring
                        .to(router::ROLE, |(epoch, state)| RouterMessage::Restore(epoch, state)),
                    positions: wiring.to(positions::ROLE, PositionsMessage::Ledger),
                    restore_positions: wiring.to(positions::ROLE, |(epoch, state)| {
                        PositionsMessage::Restore(epoch, state)
                    }),
                    finished: finished.clone(),
                }
            },
        )
    }

    /// By what exec orders its inputs.
    fn merging(&self) -> Merging {
        let is_live =
            |source: &NodeSource| matches!(source, NodeSource::Feed(feed) if feed.is_live());
        match self.config.pipeline.merge {
            Merge::Arrival => Merging::Arrival,
            Merge::Auto if self.sources.iter().any(is_live) => Merging::Arrival,
            Merge::Auto | Merge::Key => Merging::Key,
        }
    }

    /// The least that any broker takes to answer.
    fn latency_min(&self) -> Duration {
        let of = |broker| self.config.paper_broker(BrokerId(broker)).latency_min();
        of(0).min(of(1))
    }
}

/// How far the run has come. What does not answer soon counts as nothing.
async fn sample(directory: &Directory, sources: usize) -> Sample {
    let mut sample = Sample::default();
    for source in 0..sources {
        let role = ingester::role(source);
        let report = ask(directory, &role, IngesterMessage::Report, telemetry::PATIENCE).await;
        if let Ok(report) = report {
            sample.bytes += report.counts.bytes_read;
            sample.rows += report.counts.counters.rows;
        }
    }
    let risk = ask(directory, risk::ROLE, RiskMessage::Report, telemetry::PATIENCE).await;
    sample.orders = risk.map_or(0, |risk| risk.counts.approved);
    sample
}

impl Node {
    /// Rows read so far, over all sources. What does not answer within `patience` counts as nothing.
    pub async fn rows_read(&self, patience: Duration) -> u64 {
        let mut rows = 0;
        for source in 0..self.sources {
            let role = ingester::role(source);
            let report = ask(&self.directory, &role, IngesterMessage::Report, patience).await;
            rows += report.map_or(0, |report| report.counts.counters.rows);
        }
        rows
    }

    /// Changes parameters of a strategy while it runs; returns the event time from which they hold:
    /// `at`, or as soon as may be. They hold from the same row after a restart, and in every run that
    /// is given the same change at the same time. Those not given stay as they are.
    ///
    /// Factors that are needed from then on begin at the first row that the change holds for, and are
    /// unknown until they have seen enough; those that nobody needs any longer end there, and the
    /// others go on.
    ///
    /// # Errors
    ///
    /// [`ChangeError`], and nothing has changed.
    pub async fn set_parameters(
        &self,
        strategy: usize,
        parameters: &[(String, f64)],
        at: Option<Timestamp>,
        patience: Duration,
    ) -> Result<Timestamp, ChangeError> {
        let control = &self.wiring.control;
        let _turn = control.turn().await;
        let mut reached = self.decided(patience).await?;
        let mut lead = Duration::from_secs(1);
        loop {
            let at_or_soon = at.unwrap_or_else(|| reached.after(lead));
            let change =
                ParameterChange { at: at_or_soon, strategy, parameters: parameters.to_vec() };
            self.try_change(&change)?;
            control.hold(change.at);
            let hold = Hold(self);
            reached = self.decided(patience).await?;
            if reached < change.at {
                // Blocks for one write: were this to be waited for, and the waiting given up, the
                // hold would be lifted before it is known whether the change was stored.
                control.record(change)?;
                return Ok(at_or_soon);
            }
            drop(hold);
            if reached == Key::END.frontier {
                return Err(ChangeError::Over);
            }
            if let Some(at) = at {
                return Err(ChangeError::Late { at, reached });
            }
            lead *= 4;
        }
    }

    /// The furthest that a shard, or exec by what it got from one, has come, ever.
    async fn decided(&self, patience: Duration) -> Result<Timestamp, ChangeError> {
        // Whoever answers has seen a hold that was set before, and says in the log how far it was.
        for shard in 0..self.shards {
            let role = factors::role(shard);
            let report = ask(&self.directory, &role, FactorsMessage::Report, patience).await;
            report.map_err(ChangeError::Unanswered)?;
            let role = strategy::role(shard);
            let report = ask(&self.directory, &role, StrategyMessage::Report, patience).await;
            report.map_err(ChangeError::Unanswered)?;
        }
        // Its checkpoint may be ahead of those of the shards.
        let risk = ask(&self.directory, risk::ROLE, RiskMessage::Report, patience).await;
        let reached = risk.map_err(ChangeError::Unanswered)?.complete.frontier;
        Ok(reached.max(self.wiring.control.passed()))
    }

    /// Finds out, away from the shards, whether `change` can be taken over.
    fn try_change(&self, change: &ParameterChange) -> Result<(), ChangeError> {
        let Wiring { config, kinds, needs, control, .. } = &self.wiring;
        let known = control.current();
        if known.changes.len() >= CHANGE_COUNT_MAX {
            return Err(ChangeError::TooMany);
        }
        let mut needs = needs.clone();
        let (before, after) = known.changes.split_at(known.count_at(change.at));
        before.iter().try_for_each(|change| needs.change(change))?;
        for change in [change].into_iter().chain(after) {
            needs.change(change)?;
            factor_engine(config, kinds, &needs)?;
        }
        Ok(())
    }

    /// Everything the stages have counted. A stage that is being restarted is asked again.
    ///
    /// # Errors
    ///
    /// Which stage gave no answer within `patience`.
    pub async fn report(&self, patience: Duration) -> Result<NodeReport, String> {
        let directory = &self.directory;
        let mut report = NodeReport {
            ingesters: Vec::new(),
            cleaners: Vec::new(),
            factors: Vec::new(),
            strategies: Vec::new(),
            risk: ask(directory, risk::ROLE, RiskMessage::Report, patience).await?,
            router: ask(directory, router::ROLE, RouterMessage::Report, patience).await?,
            brokers: Vec::new(),
            positions: ask(directory, positions::ROLE, PositionsMessage::Report, patience).await?,
        };
        for source in 0..self.sources {
            let role = ingester::role(source);
            report.ingesters.push(ask(directory, &role, IngesterMessage::Report, patience).await?);
            let role = cleaner::role(source);
            report.cleaners.push(ask(directory, &role, CleanerMessage::Report, patience).await?);
        }
        for shard in 0..self.shards {
            let role = factors::role(shard);
            report.factors.push(ask(directory, &role, FactorsMessage::Report, patience).await?);
            let role = strategy::role(shard);
            let strategies = ask(directory, &role, StrategyMessage::Report, patience).await?;
            report.strategies.push(strategies);
        }
        for broker in 0..router::BROKERS {
            let role = broker::role(broker);
            report.brokers.push(ask(directory, &role, BrokerMessage::Report, patience).await?);
        }
        Ok(report)
    }
}

/// Asks whoever serves `role`, again after a restart, until `patience` is over.
async fn ask<M: Message, R: Send + 'static>(
    directory: &Directory,
    role: &str,
    question: impl Fn(RpcReplyPort<R>) -> M,
    patience: Duration,
) -> Result<R, String> {
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        if let Some(actor) = directory.serving(role) {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            let actor = ActorRef::<M>::from(actor);
            let call = actor.call(&question, Some(left)).await;
            if let Ok(CallResult::Success(answer)) = call {
                return Ok(answer);
            }
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(format!("`{role}` gave no answer within {patience:?}"));
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
