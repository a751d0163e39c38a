//! What is searched, worked out once, and the actors that search.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorRef};
use tickwright_core::config::{Config, Subtree};
use tickwright_core::optimise::walk_forward::folds;
use tickwright_core::optimise::{Metrics, Space, Study, Trial};
use tickwright_core::pipeline::positions::PositionsConfig;
use tickwright_core::supervision::Restart;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::adopter::{self, AdopterActor, AdopterArguments, AdopterMessage};
use super::explorer::{ExplorerActor, ExplorerArguments};
use super::hub::{
    HubActor, HubArguments, Judge, Peers, SearchOutcome, SearchProgress, end_by_time, heard_by,
};
use super::journal::SearchJournal;
use super::judge::Judging;
use super::pool::Pool;
use super::{OptimiseArguments, OptimiseError};
use crate::backtest::record;
use crate::cluster::Network;
use crate::kit::{
    ChildSpec, Clock, Directory, Opened, Outlet, SupervisionStatistics, Supervisor,
    SupervisorArguments, SupervisorMessage,
};

/// What a run needs to keep of its curve where only its measures count.
const MEASURED: PositionsConfig =
    PositionsConfig { curve_points_max: 2, charts_max: 1, chart_points_max: 2 };

/// How long the actors may take to end.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// How often it is written down how long a search has taken.
const NOTE_TIME_EVERY: Duration = Duration::from_secs(1);

/// What was prepared before anything is tried.
pub(super) struct Prepared {
    config: Config,
    /// The strategy's name in the configuration.
    name: String,
    study: Arc<Study>,
    space: Space,
    in_sample: u64,
    rows: u64,
    workers: usize,
    /// Hash of the search, and of all searches of the same strategy, data and terms.
    hashes: ([u8; 32], [u8; 32]),
}

impl Prepared {
    /// Reads the data, once, and works out what is searched. It takes a while.
    pub(super) fn new(arguments: &OptimiseArguments) -> Result<Self, OptimiseError> {
        let OptimiseArguments { config, kinds, data } = arguments;
        let searched = config.searched().map_err(OptimiseError::Space)?;
        let strategy = &searched.strategies[0];
        let space = config.search_space(&strategy.kind).map_err(OptimiseError::Space)?;
        let known: Vec<&str> = strategy.parameters.keys().map(String::as_str).collect();
        let mut dimensions = space.dimensions().iter();
        if let Some(unknown) = dimensions.find(|it| !known.contains(&it.name.as_str())) {
            let (name, known) = (&unknown.name, known.join(", "));
            let problem =
                format!("optimise.space: `{name}` is no parameter of it; there are: {known}");
            return Err(OptimiseError::Space(problem));
        }
        let recorded = record(&searched, kinds, data, config.optimise.rows_max)?;
        let rows = recorded.rows() * u64::from(config.optimise.data_percent) / 100;
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
        let (config, name, study) = (config.clone(), strategy.name.clone(), Arc::new(study));
        Ok(Self { config, name, study, space, in_sample, rows, workers, hashes })
    }

    /// What a trial of this search is of, whatever its parameters and whatever came of it.
    fn like(&self) -> Trial {
        let names = self.space.dimensions().iter().map(|dimension| dimension.name.clone());
        Trial {
            strategy: self.study.strategy().to_owned(),
            parameters: names.map(|name| (name, 0.0)).collect(),
            seed: self.study.config.seed,
            data: *self.study.recorded.hash(),
            terms: self.study.terms,
            rows: (0, self.in_sample),
            metrics: Metrics::default(),
            score: 0.0,
            digest: String::new(),
            number: 0,
            node: self.study.node.clone(),
        }
    }
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
    if config.optimise.search == tickwright_core::optimise::SearchKind::Grid {
        // What a number stands for depends on how many there are.
        search.update(&config.optimise.limits.trials_max.to_le_bytes());
    }
    (*search.finalize().as_bytes(), *family.finalize().as_bytes())
}

/// What happens to a search.
#[derive(Debug)]
pub(super) enum SearchEvent {
    /// So far it has come.
    Progress(SearchProgress),
    /// It has come to this.
    Ended(Box<SearchOutcome>),
    /// The supervisor has given up.
    GaveUp(String),
}

/// The actors of a search.
pub(super) struct Running {
    judging: Arc<Judging>,
    directory: Directory,
    supervisor: ActorRef<SupervisorMessage>,
    gave_up: JoinHandle<()>,
    statistics: SupervisionStatistics,
    progress: UnboundedReceiver<SearchProgress>,
    ended: UnboundedReceiver<SearchOutcome>,
    /// When it is to end by time, if it is.
    until: Option<Instant>,
    spent: Spent,
}

/// How long a search has taken: one that is killed goes on with what is left of its time.
struct Spent {
    journal: SearchJournal,
    /// In runs before, that did not come to an end.
    before: Duration,
    began: Instant,
    noted: Duration,
}

impl Spent {
    fn new(journal: &SearchJournal) -> Result<Self, OptimiseError> {
        let (journal, before) = (journal.clone(), journal.spent()?);
        Ok(Self { journal, before, began: Instant::now(), noted: before })
    }

    /// Writes it down, once in a while.
    fn note(&mut self) {
        let spent = self.before + self.began.elapsed();
        if spent >= self.noted + NOTE_TIME_EVERY {
            self.journal.put_spent_soon(spent);
            self.noted = spent;
        }
    }

    /// The search has come to an end: the next run of it has all of its time.
    fn forget(&self) {
        self.journal.put_spent_soon(Duration::ZERO);
    }
}

impl Running {
    /// Starts them, beside those of other nodes if `network` is given; returns what there is to say of it.
    pub(super) async fn start(
        prepared: Prepared,
        network: Option<Network>,
    ) -> Result<(Self, Vec<String>), OptimiseError> {
        let like = prepared.like();
        let Prepared { config, name, study, space, in_sample, rows, workers, hashes } = prepared;
        let (search, family) = hashes;
        let mut lines = Vec::new();
        let journal = if config.journal.enabled {
            let directory = PathBuf::from(&config.node.data_dir).join("optimise");
            let (journal, opened) = SearchJournal::open(&directory, search, family)?;
            if let Opened::SetAside(path) = opened {
                lines.push(format!("a damaged journal was moved to {}", path.display()));
            }
            journal
        } else {
            SearchJournal::in_memory(search, family)
        };
        let adopted = adopt(&study, &like, &journal, &mut lines).await?;
        let judging = Judging {
            config,
            name,
            study,
            space,
            in_sample,
            rows,
            workers,
            adopted,
            journal,
            hashes,
        };
        let judging = Arc::new(judging);
        let running = Self::start_actors(judging, like, network).await?;
        Ok((running, lines))
    }

    async fn start_actors(
        judging: Arc<Judging>,
        like: Trial,
        network: Option<Network>,
    ) -> Result<Self, OptimiseError> {
        let start = |error: &dyn std::fmt::Display| OptimiseError::Start(error.to_string());
        let config = &judging.config;
        let directory = Directory::default();
        let (told, progress) = Outlet::to_channel();
        let (outcomes, ended) = Outlet::to_channel();
        let judge: Judge = {
            let judging = Arc::clone(&judging);
            Arc::new(move |outcome| judging.report(&outcome).map_err(|error| error.to_string()))
        };
        let spent = Spent::new(&judging.journal)?;
        let left = |span: Duration| spent.began + span.saturating_sub(spent.before);
        let until = config.optimise.time_max.map(left);
        let hub = HubArguments {
            node: config.node.name.clone(),
            space: judging.space.clone(),
            kind: config.optimise.search,
            seed: config.pipeline.seed,
            limits: config.optimise.limits,
            top_max: config.optimise.top_max,
            alerts: config.alerts.rules.clone(),
            propagation: config.optimise.propagation,
            hashes: judging.hashes,
            like,
            journal: judging.journal.clone(),
            adopted: judging.adopted.clone(),
            directory: directory.clone(),
            progress: told,
            ended: outcomes,
            clock: Clock::system(),
            until,
            found: Outlet::to_role(&directory, adopter::ROLE, AdopterMessage::Found),
            peers: network.clone().map(|network| Peers { network, judge }),
        };
        let pool = Pool::new(judging.workers).map_err(|error| start(&error))?;
        let mut children = vec![ChildSpec::new("hub", Restart::Permanent, move |parent| {
            let arguments = hub.clone();
            async move { Ok(parent.spawn_linked(None, HubActor, arguments).await?.0.get_cell()) }
        })];
        for slot in 0..judging.workers {
            let arguments = ExplorerArguments {
                slot,
                study: Arc::clone(&judging.study),
                rows: 0..judging.in_sample,
                pool: pool.clone(),
                heard: heard_by(&directory),
            };
            let name = format!("explorer/{slot}");
            children.push(ChildSpec::new(name, Restart::Permanent, move |parent| {
                let arguments = arguments.clone();
                async move {
                    Ok(parent.spawn_linked(None, ExplorerActor, arguments).await?.0.get_cell())
                }
            }));
        }
        if let Some(network) = network {
            let arguments = AdopterArguments {
                node: config.node.name.clone(),
                config: config.optimise.adoption,
                look: config.optimise.look,
                network,
                directory: directory.clone(),
                judging: Arc::clone(&judging),
            };
            children.push(ChildSpec::new("adopter", Restart::Permanent, move |parent| {
                let arguments = arguments.clone();
                async move {
                    Ok(parent.spawn_linked(None, AdopterActor, arguments).await?.0.get_cell())
                }
            }));
        }
        let statistics = SupervisionStatistics::default();
        let mut policy = config.policy(Subtree::Control);
        // Explorers know the hub that they started after.
        policy.strategy = tickwright_core::supervision::Strategy::RestForOne;
        let arguments = SupervisorArguments {
            name: "optimise".into(),
            policy,
            children,
            clock: Clock::system(),
            statistics: statistics.clone(),
        };
        let spawned = Supervisor::spawn(None, Supervisor, arguments).await;
        let (supervisor, gave_up) = spawned.map_err(|error| start(&error))?;
        Ok(Self {
            judging,
            directory,
            supervisor,
            gave_up,
            statistics,
            progress,
            ended,
            until,
            spent,
        })
    }

    /// What happens next.
    pub(super) async fn next(&mut self) -> SearchEvent {
        loop {
            let until = self.until;
            let is_late = async {
                match until {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(progress) = self.progress.recv() => {
                    self.spent.note();
                    return SearchEvent::Progress(progress);
                }
                Some(outcome) = self.ended.recv() => {
                    self.spent.forget();
                    return SearchEvent::Ended(Box::new(outcome));
                }
                () = is_late => {
                    self.until = None;
                    end_by_time(&self.directory);
                }
                _ = &mut self.gave_up => {
                    return SearchEvent::GaveUp(self.statistics.failures().join("; "));
                }
            }
        }
    }

    /// What its supervisor has counted.
    pub(super) const fn statistics(&self) -> &SupervisionStatistics {
        &self.statistics
    }

    /// Ends the actors; returns what judges their outcome.
    pub(super) async fn stop(self) -> Arc<Judging> {
        // It may have ended.
        let _ = self.supervisor.stop_and_wait(None, Some(STOP_PATIENCE)).await;
        self.judging
    }
}

/// The best of earlier searches, computed again before it is believed.
async fn adopt(
    study: &Arc<Study>,
    like: &Trial,
    journal: &SearchJournal,
    lines: &mut Vec<String>,
) -> Result<Option<Trial>, OptimiseError> {
    let Some(best) = journal.best()?.and_then(|best| best.best().cloned()) else { return Ok(None) };
    let (study, claimed) = (Arc::clone(study), best.clone());
    let is_true = tokio::task::spawn_blocking(move || study.is_true(&claimed)).await?;
    if is_true && best.rows == like.rows {
        lines.push(format!(
            "adopted the best of an earlier search of the same data: score {:.4}",
            best.score
        ));
        return Ok(Some(best));
    }
    lines.push("the best of an earlier search does not come out again: refused".into());
    Ok(None)
}

#[cfg(test)]
mod tests;
