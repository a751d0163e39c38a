//! `tickwright node`: a member of a cluster, from joining to leaving in order, and its share of the
//! pipeline meanwhile.
//!
//! ```text
//! Memory, LedgerCopy ─▶ ClusterServices ─▶ Admin
//!      joined, or founded one ─▶ LedgerService ─▶ Share ─▶ until Ctrl-C, or until it cannot go on
//! ```

use std::path::Path;
use std::time::Duration;

use tickwright_core::cluster::Status;
use tickwright_core::config::{Chaos as Faults, Config, Kinds};
use tickwright_core::domain::{Incarnation, NodeId};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::cluster::{AdminError, ClusterError, ClusterEvent, ClusterServices, Events, Memory};
use crate::kit::{Clock, Outlet, SecretError, Store, StoreError};
use crate::ledger::{FileError, LedgerCopy, LedgerEvent, LedgerService, LedgerStartError};
use crate::optimise::{OptimiseEnd, OptimiseService};
use crate::share::{ShareError, ShareEvent};

mod alerts;
mod config;
mod ledger;
mod locks;
mod parts;
mod pipeline;

use alerts::AlertsService;
use config::ConfigService;
use ledger::{serve_ledger, start_ledger};
use locks::LockService;
use parts::Parts;
use pipeline::Pipeline;

/// How often a node that finds no cluster says so.
const WAITING: Duration = Duration::from_secs(5);

/// How often a node may begin a later life because its last one was seen already.
const LIVES_MAX: u32 = 3;

/// Why a node is not a member any more.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The services cannot be started.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// Tools cannot be let in.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// Its share of the pipeline cannot begin.
    #[error(transparent)]
    Share(#[from] ShareError),
    /// A member will not have this node.
    #[error("refused by the node at {address}: {reason}")]
    Refused {
        /// Where it listens.
        address: String,
        /// Why.
        reason: String,
    },
    /// Another node has its name.
    #[error(
        "another node called {name} was started later and has taken its place; give one of them \
         another name (--name, or node.name)"
    )]
    Replaced {
        /// The name.
        name: String,
    },
    /// This node's copy of the ledger cannot be used.
    #[error(transparent)]
    Copy(#[from] FileError),
    /// The ledger cannot be started.
    #[error(transparent)]
    Ledger(#[from] LedgerStartError),
    /// What decides who does what cannot be started.
    #[error("the allocator cannot start: {0}")]
    Allocator(String),
    /// What answers for locks cannot be started.
    #[error("the locks cannot start: {0}")]
    Locks(String),
    /// What is set for all nodes cannot be kept here.
    #[error(transparent)]
    ConfigStore(#[from] StoreError),
    /// What looks for alerts cannot be started.
    #[error("the alerts cannot start: {0}")]
    Alerts(String),
    /// What shares the configuration cannot be started.
    #[error("the shared configuration cannot start: {0}")]
    Config(String),
    /// A secret that the configuration names is not there.
    #[error("{0}; config.secrets_wait_ms says how long a node waits for it")]
    Secrets(#[from] SecretError),
    /// The ledger cannot go on.
    #[error("{0}")]
    LedgerEnded(String),
    /// A part that a node cannot do without was restarted too often.
    #[error(
        "`{0}` could not be kept running and this node is none without it; the log says why it failed"
    )]
    PartEnded(&'static str),
    /// The services gave up.
    #[error("the cluster's services have ended; the log says why")]
    Ended,
}

enum End {
    Stopped,
    BeginAfter(Incarnation),
    GaveWay,
}

/// What a node is made of.
#[derive(Clone, Debug)]
pub struct NodeTask {
    /// `cluster.toml`.
    pub config: Config,
    /// The strategies and factors there are.
    pub kinds: Kinds,
    /// Faults to inject.
    pub faults: Faults,
}

/// Runs a node until `stop` is over. What happens goes to `tell`, a line at a time.
///
/// # Errors
///
/// [`NodeError`], with the remedy.
pub async fn run_node(
    task: &NodeTask,
    stop: impl Future<Output = ()>,
    mut tell: impl FnMut(String),
) -> Result<(), NodeError> {
    let config = &task.config;
    let clock = Clock::system();
    let clock_ms = clock.now().as_nanos() / 1_000_000;
    let memory = Memory::open(Path::new(&config.node.data_dir), &config.cluster.name, clock_ms)
        .map_err(ClusterError::from)?;
    let name = NodeId(config.node.name.clone());
    let directory = Path::new(&config.node.data_dir).join("ledger");
    let mut copy = LedgerCopy::open(&directory, &name, memory.incarnation())?;
    let settings = config::open_store(config)?;
    tokio::pin!(stop);
    for _ in 0..LIVES_MAX {
        // Others of a cluster that is remembered may hold its ledger, and come later.
        let remembered: Vec<NodeId> = memory.members().into_keys().collect();
        let (services, events) =
            ClusterServices::start(config, memory.clone(), clock.clone()).await?;
        serve_ledger(config, &services, &copy);
        let began = Began { copy: &copy, remembered, memory: &memory, settings: &settings };
        match live(task, services, events, began, stop.as_mut(), &mut tell).await? {
            End::Stopped => return Ok(()),
            End::BeginAfter(seen) => memory.begin_after(seen).map_err(ClusterError::from)?,
            End::GaveWay => {
                let aside = copy.set_aside(&directory)?;
                tell(format!(
                    "what this node's ledger held is in {}; it begins another copy",
                    aside.display()
                ));
                memory.begin_after(memory.incarnation()).map_err(ClusterError::from)?;
                copy = LedgerCopy::open(&directory, &name, memory.incarnation())?;
            }
        }
    }
    Err(NodeError::Replaced { name: config.node.name.clone() })
}

/// What a life begins with.
struct Began<'b> {
    copy: &'b LedgerCopy,
    remembered: Vec<NodeId>,
    memory: &'b Memory,
    settings: &'b Store,
}

async fn live(
    task: &NodeTask,
    mut services: ClusterServices,
    mut events: Events,
    Began { copy, remembered, memory, settings }: Began<'_>,
    mut stop: std::pin::Pin<&mut impl Future<Output = ()>>,
    tell: &mut impl FnMut(String),
) -> Result<End, NodeError> {
    let config = &task.config;
    let admin = match &config.node.http_bind {
        Some(address) => match services.open_admin(address).await {
            Ok(admin) => Some(admin),
            Err(error) => {
                services.stop().await;
                return Err(error.into());
            }
        },
        None => None,
    };
    let own = services.introduction().clone();
    let tools = admin.as_ref().map(|admin| format!(", tools at {}", admin.address()));
    tell(format!("{} listens on {}{}", own.id, own.address, tools.unwrap_or_default()));
    let (outlet, mut ledger_events) = Outlet::to_channel();
    let (parts, mut parts_ended) = Parts::new();
    let mut ledger: Option<LedgerService> = None;
    let mut locks: Option<LockService> = None;
    let mut alerting: Option<AlertsService> = None;
    let mut shared: Option<ConfigService> = None;
    let mut waiting = tokio::time::interval(WAITING);
    waiting.tick().await;
    let mut pipeline: Option<Pipeline> = None;
    let mut share_events: Option<UnboundedReceiver<ShareEvent>> = None;
    // What this node's configuration names has to be there before anything works by it.
    let needed = config.secrets_needed();
    let mut awaited: Option<Awaited> = None;
    let mut search: Option<OptimiseService> = None;
    let mut search_ends: Option<UnboundedReceiver<OptimiseEnd>> = None;
    loop {
        let event = tokio::select! {
            () = stop.as_mut() => {
                tell(format!("{} leaves", own.id));
                if let Some(search) = search {
                    search.stop().await;
                }
                if let Some(pipeline) = pipeline {
                    if let Some(ledger) = &ledger {
                        let (client, patience) = (ledger.client(), config.cluster.leave_timeout);
                        let handed = pipeline.hand_over(&services, &client, patience).await;
                        if let Some(line) = handed.map(|handed| handed.told(&own.id)) {
                            tell(line);
                        }
                    }
                    pipeline.stop().await;
                }
                if let Some(alerting) = alerting {
                    alerting.stop().await;
                }
                if let Some(locks) = locks {
                    locks.stop().await;
                }
                if let Some(shared) = shared {
                    shared.stop().await;
                }
                if let Some(ledger) = ledger {
                    ledger.leave(config.cluster.leave_timeout).await;
                }
                services.leave().await;
                return Ok(End::Stopped);
            }
            Some(end) = pipeline::next(&mut search_ends) => {
                tell(search_told(&own.id, &end));
                continue;
            }
            Some(event) = pipeline::next(&mut share_events) => {
                tell(pipeline::told(&own.id, &event));
                continue;
            }
            secrets = ready(&mut awaited) => {
                awaited = None;
                let work = match (secrets, &ledger, &shared) {
                    (Ok(()), Some(ledger), Some(shared)) => {
                        begin_work(task, (&services, &parts), ledger, shared).await
                    }
                    // It is waited for secrets only once both are there.
                    (Ok(()), ..) => continue,
                    (Err(error), ..) => Err(error.into()),
                };
                match work {
                    Ok((locking, None)) => locks = Some(locking),
                    Ok((locking, Some((begun, events)))) => {
                        locks = Some(locking);
                        (pipeline, share_events) = (Some(begun), Some(events));
                    }
                    Err(error) => {
                        if let Some(ledger) = ledger {
                            ledger.leave(config.cluster.leave_timeout).await;
                        }
                        services.leave().await;
                        return Err(error);
                    }
                }
                continue;
            }
            () = services.ended() => return Err(NodeError::Ended),
            Some(part) = parts_ended.recv() => {
                services.stop().await;
                return Err(NodeError::PartEnded(part));
            }
            event = ledger_events.recv() => {
                if let Some(LedgerEvent::GivesWay { reason }) = &event {
                    tell(reason.clone());
                    if let Some(ledger) = ledger {
                        ledger.stop().await;
                    }
                    services.stop().await;
                    return Ok(End::GaveWay);
                }
                match event.map(|event| ledger::told(&own.id, event)) {
                    Some(Ok(line)) => tell(line),
                    Some(Err(reason)) => {
                        services.stop().await;
                        return Err(NodeError::LedgerEnded(reason));
                    }
                    None => {}
                }
                continue;
            }
            () = ended(&mut ledger) => {
                services.stop().await;
                let reason = "the ledger has ended; the log says why".to_owned();
                return Err(NodeError::LedgerEnded(reason));
            }
            _ = waiting.tick() => {
                if !services.view().borrow().is_member {
                    tell(why_waiting(config, &services));
                }
                continue;
            }
            event = events.recv() => match event {
                Some(event) => event,
                None => return Err(NodeError::Ended),
            },
        };
        let is_member = services.view().borrow().is_member;
        let founds = (event == ClusterEvent::Founded).then(|| remembered.clone());
        let enters = matches!(event, ClusterEvent::Founded | ClusterEvent::Joined { .. });
        match event {
            ClusterEvent::Founded => tell(format!("{} founded cluster {}", own.id, own.cluster)),
            ClusterEvent::Joined { through } => {
                tell(format!("{} joined cluster {} through {through}", own.id, own.cluster));
            }
            ClusterEvent::Member { peer, .. } if peer.id == own.id => {}
            ClusterEvent::Member { peer, address, status, .. } => {
                // A suspicion is often over before anyone has read of it.
                if status != Status::Suspect {
                    tell(format!("{} at {address} is {}", peer.id, status.name()));
                }
            }
            ClusterEvent::Refused { stale: Some(known), .. } if !is_member => {
                services.stop().await;
                return Ok(End::BeginAfter(known));
            }
            ClusterEvent::Refused { address, reason, .. } if !is_member => {
                services.stop().await;
                return Err(NodeError::Refused { address: address.0, reason });
            }
            ClusterEvent::Refused { address, reason, .. } => {
                tracing::warn!(%address, reason, "a node refuses this one");
            }
            ClusterEvent::Replaced { .. } => {
                services.stop().await;
                return Err(NodeError::Replaced { name: own.id.0 });
            }
        }
        if enters && ledger.is_none() {
            let begun = start_ledger(config, &services, copy, founds, outlet.clone()).await?;
            let (settings, memory) = (settings.clone(), memory.clone());
            let sharing = ConfigService::start(config, &services, settings, memory, &parts).await?;
            let secrets = sharing.secrets();
            for (key, name) in secrets.missing(&needed) {
                tell(format!(
                    "{} waits for secret.{name}, which {key} names: `tickwright ctl config set \
                     secret.{name} --value-file FILE` sets it",
                    own.id
                ));
            }
            let needed = needed.clone();
            awaited = Some(Box::pin(async move { secrets.wait_for(&needed).await }));
            let (client, values) = (begun.client(), sharing.live());
            alerting = Some(AlertsService::start(config, &services, client, values, &parts).await?);
            (ledger, shared) = (Some(begun), Some(sharing));
            let show = services.tree_shower("optimise");
            let network = services.network().clone();
            if let Some((begun, ends)) = OptimiseService::start(config, &task.kinds, network, show)
            {
                (search, search_ends) = (Some(begun), Some(ends));
            }
        }
    }
}

/// Secrets that are waited for.
type Awaited = std::pin::Pin<Box<dyn Future<Output = Result<(), SecretError>> + Send>>;

/// What is awaited, once it is over; never, if nothing is.
async fn ready(awaited: &mut Option<Awaited>) -> Result<(), SecretError> {
    match awaited {
        Some(awaited) => awaited.await,
        None => std::future::pending().await,
    }
}

/// Starts what may need secrets: locks, and this node's share of the pipeline, if there is one.
async fn begin_work(
    task: &NodeTask,
    (services, parts): (&ClusterServices, &Parts),
    ledger: &LedgerService,
    shared: &ConfigService,
) -> Result<(LockService, Option<(Pipeline, UnboundedReceiver<ShareEvent>)>), NodeError> {
    let (live, secrets) = (shared.live(), shared.secrets());
    let given = secrets.clone();
    let locks = LockService::start(&task.config, services, ledger.client(), given, parts).await?;
    let backend = locks.backend();
    let share = Pipeline::start(task, (services, parts), ledger, backend, (live, secrets)).await?;
    Ok((locks, share))
}

/// What the user is told of a search.
fn search_told(own: &NodeId, end: &OptimiseEnd) -> String {
    match end {
        OptimiseEnd::Line(line) => format!("{own}: {line}"),
        OptimiseEnd::Failed(reason) => format!("{own} does not search: {reason}"),
        OptimiseEnd::Over { reason, best: None } => {
            format!("{own} has ended its search, {reason}, and found nothing")
        }
        OptimiseEnd::Over { reason, best: Some((score, parameters)) } => {
            let parameters = crate::report::parameters(parameters);
            format!("{own} has ended its search, {reason}: score {score:.4} of {parameters}")
        }
    }
}

/// Waits until the ledger, if it runs, has ended by itself.
async fn ended(ledger: &mut Option<LedgerService>) {
    match ledger {
        Some(ledger) => ledger.ended().await,
        None => std::future::pending().await,
    }
}

fn why_waiting(config: &Config, services: &ClusterServices) -> String {
    let mut text = "looking for a member of the cluster".to_owned();
    for (address, reason) in services.failures() {
        text.push_str(&format!("\n  {address}: {reason}"));
    }
    let members = services.members();
    let others = members.iter().filter(|member| member.silence > Duration::ZERO);
    let joining: Vec<&str> = others
        .filter(|member| member.status == Status::Joining)
        .map(|member| member.profile.id.0.as_str())
        .collect();
    if !joining.is_empty() {
        text.push_str(&format!("\n  also looking: {}", joining.join(", ")));
    }
    text.push_str(&format!(
        "\n  the first of cluster.seeds founds one; a node that has seen others waits for more than \
         half of them, unless {}/cluster/known.json is deleted",
        config.node.data_dir
    ));
    text
}
