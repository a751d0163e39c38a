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
//!
//! In a cluster each source, each shard and exec is a [`Unit`] that may be on any node; then a node has
//! one such tree for each unit of its own, see [`Units`].

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use ractor::{Actor, ActorRef, Message, SpawnErr};
use tickwright_core::cluster::Unit;
use tickwright_core::config::{Config, Kinds, Merge, Speed, Subtree};
use tickwright_core::domain::{BrokerId, FactorLayout, SourceId, TickBatch};
use tickwright_core::pipeline::factors::{FactorEngine, FactorError};
use tickwright_core::pipeline::ingest::IngesterConfig;
use tickwright_core::pipeline::strategy::{StrategyNeeds, StrategySpec};
use tickwright_core::stream::{Merging, SignalBatch};
use tickwright_core::supervision::{PolicyConfig, Restart, Strategy};
use tokio::sync::mpsc::UnboundedReceiver;

mod counts;
mod exchanges;
mod parameters;
mod report;
mod risk_tool;
mod streams;
mod tuning;
pub(crate) mod units;

pub(crate) use parameters::Controlled;
pub use report::NodeReport;
pub use streams::{Standing, StreamEnd};
pub use units::{NodePart, UnitPart, Units};

use crate::broker::{self, BrokerActor, BrokerArguments};
use crate::cleaner::{self, CleanStream, CleanerActor, CleanerArguments, CleanerMessage};
use crate::cluster::{Edge, Transport, WireBlock};
use crate::factors::{self, FactorsActor, FactorsArguments, FactorsMessage};
use crate::ingester::{self, IngesterActor, IngesterArguments, IngesterMessage, OpenSource};
use crate::kit::{
    ArrivalLog, Chaos, ChildSpec, Clock, Closed, ControlLog, Demand, Directory, LiveValues, Outlet,
    Secrets, StageLinks, StageSettings, Store, SupervisionStatistics, Supervisor,
    SupervisorArguments, SupervisorMessage,
};
use crate::ledger::LedgerClient;
use crate::live_ingester::{LiveIngesterActor, LiveIngesterArguments};
use crate::locks::LockBackend;
use crate::parameters::Parameters;
use crate::positions::{self, PositionsActor, PositionsArguments, PositionsMessage};
use crate::records::Records;
use crate::risk::{self, RiskActor, RiskArguments, RiskMessage};
use crate::router::{self, RouterActor, RouterArguments, RouterMessage};
use crate::source::SourceError;
use crate::source::feed::Feed;
use crate::source::live::LiveConfig;
use crate::strategy::{self, StrategyActor, StrategyArguments, StrategyMessage};
use crate::switchboard::{
    self, OwnSwitches, SwitchKeeper, SwitchboardActor, SwitchboardArguments, SwitchboardMessage,
};
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
    /// What must be agreed on, where there is a cluster: exchanges need it.
    pub ledger: Option<LedgerClient>,
    /// Where kill switches are kept, if there is no cluster; none, if nobody can turn one.
    pub switches: Option<OwnSwitches>,
    /// Who keeps locks, where there is a cluster.
    pub locks: Option<Arc<dyn LockBackend>>,
    /// Where it is recorded what happens, if it is.
    pub records: Option<Records>,
    /// What may change while it runs; none, if that is what the configuration says.
    pub live: Option<LiveValues>,
    /// What brokers may need to be let in.
    pub secrets: Secrets,
}

impl NodeArguments {
    /// A process by itself: no cluster to agree with, nothing recorded, no faults.
    pub fn alone(config: Config, sources: Vec<NodeSource>, store: Store) -> Self {
        Self {
            config,
            kinds: Kinds::default(),
            sources,
            store,
            chaos: Chaos::default(),
            clock: Clock::system(),
            ledger: None,
            switches: None,
            locks: None,
            records: None,
            live: None,
            secrets: Secrets::default(),
        }
    }
}

/// One source of a node.
#[derive(Clone)]
pub enum NodeSource {
    /// One that can be read again from any place: a file, the simulated market.
    Readable(OpenSource),
    /// One that cannot: it is journaled before anything else sees it.
    Feed(Feed),
    /// Such a one that is connected to only where its unit runs.
    Venue(Box<LiveConfig>),
}

impl std::fmt::Debug for NodeSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Readable(_) => f.write_str("Readable"),
            Self::Feed(feed) => f.debug_tuple("Feed").field(feed).finish(),
            Self::Venue(config) => f.debug_tuple("Venue").field(&config.url).finish(),
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
    parameters: Parameters,
    wiring: Wiring,
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
    /// How units on other nodes are reached; none, when all are here.
    transport: Option<Transport>,
    ledger: Option<LedgerClient>,
    switches: Option<SwitchKeeper>,
    secrets: Secrets,
    locks: Option<Arc<dyn LockBackend>>,
    records: Option<Records>,
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
    let clock = arguments.clock.clone();
    let wiring = Wiring::new(arguments, None)?;
    let (finished_outlet, finished) = Outlet::to_channel();
    let (fatal_outlet, fatal) = Outlet::to_channel();
    let (samples_outlet, samples) = Outlet::to_channel();

    let mut children = vec![
        wiring.telemetry(samples_outlet),
        wiring.data(&fatal_outlet),
        wiring.calc(),
        wiring.exec(&finished_outlet),
    ];
    children.extend(wiring.tuner());
    let arguments = SupervisorArguments {
        name: "node".into(),
        policy: wiring.config.policy(Subtree::Node),
        children,
        clock,
        statistics: wiring.statistics.clone(),
    };
    let (supervisor, _) = Supervisor::spawn(None, Supervisor, arguments).await?;
    let (directory, statistics) = (wiring.directory.clone(), wiring.statistics.clone());
    let (sources, shards) = (wiring.sources.len(), wiring.shards);
    let node = Node {
        supervisor,
        directory,
        statistics,
        finished,
        fatal,
        samples,
        sources,
        shards,
        parameters: parameters::here(&wiring),
        wiring,
    };
    Ok(node)
}

impl Wiring {
    fn new(arguments: NodeArguments, transport: Option<Transport>) -> Result<Self, SpawnErr> {
        let NodeArguments {
            config,
            kinds,
            sources,
            store,
            chaos,
            clock,
            ledger,
            switches,
            locks,
            records,
            live,
            secrets,
        } = arguments;
        let live = live.unwrap_or_else(|| LiveValues::new(&config));
        store.follow(&live);
        let fail = |error: Box<dyn std::error::Error + Send + Sync>| SpawnErr::StartupFailed(error);
        let strategies: Vec<StrategySpec> =
            config.strategies.iter().map(|each| each.spec()).collect();
        let needs = StrategyNeeds::new(&kinds.strategies, &strategies)
            .map_err(|error| fail(Box::new(error)))?;
        let engine =
            factor_engine(&config, &kinds, &needs).map_err(|error| fail(Box::new(error)))?;
        let settings = StageSettings {
            credit: u32::try_from(config.stream.credit_ticks).unwrap_or(u32::MAX),
            retained: config.stream.retained_ticks,
            spacing: config.stream.checkpoint_ticks as u64,
            live,
            store,
            copies: None,
            closed: Closed::default(),
            log: None,
            chaos: chaos.clone(),
        };
        let control = match &transport {
            Some(_) => Ok(ControlLog::agreed()),
            None => ControlLog::open(&settings.store),
        };
        let control = control.map_err(|error| fail(Box::new(error)))?;
        // In a cluster what is here may be another's copy: whoever begins exec opens it.
        let arrivals = match &transport {
            Some(_) => ArrivalLog::open(&Store::in_memory(), false, None),
            None => ArrivalLog::open(&settings.store, config.journal.keep_arrivals, None),
        };
        let arrivals = arrivals.map_err(|error| fail(Box::new(error)))?;
        let shards = config.pipeline.shards;
        Ok(Self {
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
            clock,
            directory: Directory::default(),
            statistics: SupervisionStatistics::default(),
            shards,
            transport,
            switches: match &ledger {
                Some(ledger) => Some(SwitchKeeper::Ledger(ledger.clone())),
                None => switches.map(SwitchKeeper::Own),
            },
            ledger,
            secrets,
            locks,
            records,
        })
    }
}

/// A place as units are numbered; there are never so many.
fn number(place: usize) -> u16 {
    u16::try_from(place).unwrap_or(u16::MAX)
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

    /// What ties a stage from streams to streams to the rest.
    fn links<B>(
        &self,
        role: &str,
        progress: Arc<AtomicU64>,
        producers: Vec<Outlet<Demand<B>>>,
        hellos: Vec<Outlet<()>>,
    ) -> StageLinks<B> {
        StageLinks {
            role: role.to_owned(),
            settings: self.settings.clone(),
            progress,
            directory: self.directory.clone(),
            control: None,
            producers,
            hellos,
            barrier: None,
        }
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

    // --- streams between units --------------------------------------------------------------------

    /// Clean rows of a source, for a shard or for exec.
    fn ticks(&self, source: usize, to: Unit) -> Edge<TickBatch> {
        let (stream, hello) = match to {
            Unit::Shard(shard) => {
                let shard = usize::from(shard);
                let is_back = move |()| FactorsMessage::ProducerIsBack(source);
                (CleanStream::Shard(shard), self.to(&factors::role(shard), is_back))
            }
            Unit::Exec | Unit::Source(_) => {
                let is_back = move |()| RiskMessage::CleanerIsBack(source);
                (CleanStream::All, self.to(risk::ROLE, is_back))
            }
        };
        let demand = move |demand| CleanerMessage::Demand(stream.output(), demand);
        let demand = self.to(&cleaner::role(source), demand);
        Edge { from: Unit::Source(number(source)), to, demand, hello }
    }

    /// Signals of a shard, for exec.
    fn signals(&self, shard: usize) -> Edge<SignalBatch> {
        let demand = |demand| StrategyMessage::Demand(0, demand);
        let demand = self.to(&strategy::role(shard), demand);
        let hello = self.to(risk::ROLE, move |()| RiskMessage::StrategyIsBack(shard));
        Edge { from: Unit::Shard(number(shard)), to: Unit::Exec, demand, hello }
    }

    /// What reaches the producer of a stream, wherever it is.
    fn consume<B: WireBlock>(&self, edge: Edge<B>) -> Outlet<Demand<B>> {
        match &self.transport {
            Some(transport) => transport.consume(edge),
            None => edge.demand,
        }
    }

    /// What reaches the consumer of a stream, wherever it is.
    fn produce<B: WireBlock>(&self, edge: Edge<B>) -> Outlet<()> {
        match &self.transport {
            Some(transport) => transport.produce(edge),
            None => edge.hello,
        }
    }

    fn telemetry(&self, samples: Outlet<Sample>) -> ChildSpec {
        let interval = self.config.telemetry.progress;
        let (directory, sources) = (self.directory.clone(), self.sources.len());
        ChildSpec::new("telemetry", Restart::Permanent, move |parent| {
            let directory = directory.clone();
            let probe: telemetry::Probe = Box::new(move || {
                let directory = directory.clone();
                Box::pin(async move { report::sample(&directory, 0..sources).await })
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
        let hello = self.to(&cleaner::role(source), |()| CleanerMessage::ProducerIsBack(0));
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
            NodeSource::Venue(_) => unreachable!("`Units` connects it before its unit starts"),
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
        let role = cleaner::role(source);
        self.stage(role.clone(), CleanerActor::default, progress, move |progress| {
            let (rules, shards) = (wiring.config.clean_rules(), wiring.shards);
            let instruments = wiring.config.instruments();
            let ingester = wiring.to(&ingester::role(source), IngesterMessage::Demand);
            // In the order of `CleanStream::output`.
            let consumers = (0..shards).map(|shard| Unit::Shard(number(shard)));
            let hellos = std::iter::once(Unit::Exec).chain(consumers);
            let hellos = hellos.map(|to| wiring.produce(wiring.ticks(source, to))).collect();
            let links = wiring.links(&role, progress, vec![ingester], hellos);
            (CleanerArguments { source, rules, shards, instruments }, links)
        })
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
        let role = factors::role(shard);
        let begin_anew = self.to(&role, |()| FactorsMessage::RecordsAreBack);
        let records = self.records.as_ref();
        let recording = records.and_then(|records| records.factor_recording(shard, begin_anew));
        self.stage(role.clone(), FactorsActor::default, progress, move |progress| {
            let arguments = FactorsArguments {
                shard,
                config: wiring.config.factors(),
                registry: wiring.kinds.factors.clone(),
                needs: wiring.needs.clone(),
                also: wiring.config.factors_also(),
                recording: recording.as_ref().map(|recording| recording.factors.clone()),
            };
            let cleaner = |source| wiring.consume(wiring.ticks(source, Unit::Shard(number(shard))));
            let cleaners = (0..wiring.sources.len()).map(cleaner).collect();
            let hello = wiring.to(&strategy::role(shard), |()| StrategyMessage::ProducerIsBack(0));
            let links = wiring.links(&role, progress, cleaners, vec![hello]);
            let barrier = recording.as_ref().map(|recording| recording.barrier.clone());
            (arguments, StageLinks { control: Some(wiring.control.clone()), barrier, ..links })
        })
    }

    fn strategy(&self, shard: usize, progress: Arc<AtomicU64>) -> ChildSpec {
        let wiring = self.clone();
        let role = strategy::role(shard);
        self.stage(role.clone(), StrategyActor::default, progress, move |progress| {
            let arguments = StrategyArguments {
                shard,
                registry: wiring.kinds.strategies.clone(),
                specs: wiring.strategies.to_vec(),
                layout: Arc::clone(&wiring.layout),
            };
            let demand = |demand| FactorsMessage::Demand(0, demand);
            let factors = wiring.to(&factors::role(shard), demand);
            let hello = wiring.produce(wiring.signals(shard));
            let links = wiring.links(&role, progress, vec![factors], vec![hello]);
            (arguments, StageLinks { control: Some(wiring.control.clone()), ..links })
        })
    }

    // --- exec: clean rows and signals ──▶ risk ──▶ router ──▶ brokers; risk ──▶ positions ---------

    fn exec(&self, finished: &Outlet<()>) -> ChildSpec {
        let (wiring, finished) = (self.clone(), finished.clone());
        let progress: Arc<AtomicU64> = Arc::default();
        if let Some(records) = &self.records {
            let room = self.to(risk::ROLE, |()| RiskMessage::Rows);
            records.tell_exec(self.member_is_back(), room);
        }
        self.subtree("exec", self.config.policy(Subtree::Exec), move || {
            // Those who are told before those who tell.
            let mut children = vec![
                wiring.positions(&progress),
                wiring.any_broker(0, &progress),
                wiring.any_broker(1, &progress),
                wiring.router(&progress),
                wiring.risk(&progress, &finished),
            ];
            children.extend(wiring.switchboard());
            children
        })
    }

    /// Where it is kept nowhere, nobody could turn a switch.
    fn switchboard(&self) -> Option<ChildSpec> {
        let arguments = SwitchboardArguments {
            config: Arc::clone(&self.config),
            keeper: self.switches.clone()?,
            directory: self.directory.clone(),
            risk: self.to(risk::ROLE, RiskMessage::Switch),
            told: self.to(risk::ROLE, |()| RiskMessage::SwitchesTold),
            is_strict: self.has_exchange(),
        };
        let arguments = move |_| arguments.clone();
        Some(self.stage(switchboard::ROLE.into(), || SwitchboardActor, Arc::default(), arguments))
    }

    /// Asks the switchboard how all switches stand, if there is one.
    fn ask_switches(&self) -> Option<Outlet<()>> {
        self.switches.as_ref()?;
        Some(self.to(switchboard::ROLE, |()| SwitchboardMessage::RiskIsBack))
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
                recording: wiring
                    .records
                    .as_ref()
                    .map(|records| records.recording().after(&wiring.arrivals)),
            },
        )
    }

    /// A broker of the kind that is configured.
    fn any_broker(&self, broker: u8, progress: &Arc<AtomicU64>) -> ChildSpec {
        match self.exchange(broker) {
            Some(exchange) => self.exchange_broker(broker, exchange, progress),
            None => self.broker(broker, progress),
        }
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
            move |_| RouterArguments {
                config: wiring.config.router(),
                latency_min,
                chaos: wiring.chaos.clone(),
                directory: wiring.directory.clone(),
                brokers: [0, 1].map(|broker| wiring.to_broker(broker)),
                restore_brokers: [0, 1].map(|broker| wiring.to_restore(broker)),
                done: wiring.to(risk::ROLE, |(epoch, done)| RiskMessage::Done(epoch, done)),
                hello: wiring.member_is_back(),
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
                let cleaner = |source| wiring.consume(wiring.ticks(source, Unit::Exec));
                let strategy = |shard| wiring.consume(wiring.signals(shard));
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
                    heard: [0, 1].map(|broker| wiring.to_heard(broker)).into(),
                    finished: finished.clone(),
                    recording: wiring.records.as_ref().map(Records::recording),
                    control: wiring.control.clone(),
                    ask_switches: wiring.ask_switches(),
                }
            },
        )
    }

    /// By what exec orders its inputs.
    fn merging(&self) -> Merging {
        let is_live = |source: &NodeSource| match source {
            NodeSource::Readable(_) => false,
            NodeSource::Feed(feed) => feed.is_live(),
            NodeSource::Venue(_) => true,
        };
        match self.config.pipeline.merge {
            Merge::Arrival => Merging::Arrival,
            Merge::Auto if self.sources.iter().any(is_live) => Merging::Arrival,
            Merge::Auto | Merge::Key => Merging::Key,
        }
    }

    /// The least that any broker takes to answer.
    fn latency_min(&self) -> Duration {
        if self.config.has_exchange() {
            // What one outside says is due when it comes: it need not be asked.
            return Duration::MAX;
        }
        let of = |broker| self.config.paper_broker(BrokerId(broker)).latency_min();
        of(0).min(of(1))
    }
}
