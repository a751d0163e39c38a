//! What joins a node's share of the pipeline to the rest of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ractor::ActorRef;
use tickwright_core::cluster::{AllocatorConfig, Owners, Status, Timings, Unit};
use tickwright_core::config::{Config, PipelineInput};
use tickwright_core::domain::NodeId;
use tickwright_core::supervision::Restart;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use super::parts::Parts;
use super::{NodeError, NodeTask};
use crate::allocator::{AllocatorActor, AllocatorArguments, GivenUpHere};
use crate::cluster::ClusterServices;
use crate::kit::{ChildSpec, LiveValues, Secrets, SupervisorMessage};
use crate::ledger::{LedgerClient, LedgerService, drained, leaving};
use crate::locks::LockBackend;
use crate::share::{Share, ShareEvent, ShareServices};

/// Between two looks at what is still to be handed over.
const LOOK: Duration = Duration::from_millis(20);

/// How long the allocator may take to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// The share of one node, and what decides on it.
pub(super) struct Pipeline {
    share: Share,
    allocator: Option<ActorRef<SupervisorMessage>>,
    /// Whose units are; none, if nothing moves.
    owners: Option<watch::Receiver<Owners>>,
}

impl Pipeline {
    /// Starts this node's share of the pipeline; none, if there is no pipeline.
    pub(super) async fn start(
        task: &NodeTask,
        (services, parts): (&ClusterServices, &Parts),
        ledger: &LedgerService,
        locks: Arc<dyn LockBackend>,
        (live, secrets): (LiveValues, Secrets),
    ) -> Result<Option<(Self, mpsc::UnboundedReceiver<ShareEvent>)>, NodeError> {
        let config = &task.config;
        let sources = match config.pipeline.input {
            PipelineInput::None => return Ok(None),
            PipelineInput::Files => config.pipeline.data.len(),
            PipelineInput::Simulator | PipelineInput::Live => 1,
        };
        let (given_up, heard) = watch::channel(GivenUpHere::new());
        let (owners, allocator) = match config.allocation.allocator {
            Some(allocator) => {
                let units = Unit::all(sources, config.pipeline.shards).collect();
                let (supervisor, owners) =
                    start_allocator(config, (allocator, units), (services, parts), ledger, heard)
                        .await?;
                (Some(owners), Some(supervisor))
            }
            None => (None, None),
        };
        let given = ShareServices {
            network: services.network(),
            loads: services.loads(),
            owners: owners.clone(),
            ledger: ledger.client(),
            locks,
            live,
            secrets,
            given_up,
        };
        match Share::start(config, task.kinds.clone(), &task.faults, given).await {
            Ok(Some((share, events))) => {
                let copies = share.copies().clone();
                let section = move || serde_json::to_value(copies.logs()).unwrap_or_default();
                services.show("logs", Arc::new(section));
                if let Some(records) = share.records().cloned() {
                    services.show_trees("records", records.statistics().clone());
                    let section =
                        move || serde_json::to_value(records.status()).unwrap_or_default();
                    services.show("records", Arc::new(section));
                }
                services.show_trees("pipeline", share.statistics().clone());
                Ok(Some((Self { share, allocator, owners }, events)))
            }
            Ok(None) => Ok(None),
            Err(error) => {
                if let Some(allocator) = allocator {
                    allocator.stop(None);
                }
                Err(error.into())
            }
        }
    }

    /// Has other nodes go on with what this one has, as far as they do so within `patience`; none, if
    /// there is nothing to hand over, or nobody.
    pub(super) async fn hand_over(
        &self,
        services: &ClusterServices,
        ledger: &LedgerClient,
        patience: Duration,
    ) -> Option<HandedOver> {
        let deadline = Instant::now() + patience;
        let owners = self.owners.as_ref().filter(|_| !self.share.is_over())?;
        let own = &services.introduction().id;
        let of_own = |(_, (node, _)): &(&Unit, &(NodeId, u64))| node == own;
        let mine = owners.borrow().iter().filter(of_own).map(|(&unit, _)| unit).collect::<Vec<_>>();
        if mine.is_empty() || !is_there_another(services, ledger) {
            return None;
        }
        if let Err(error) = ledger.set_leaving(patience / 4).await {
            tracing::warn!(%error, "nobody knows that this node leaves: others take its units when it has");
            return Some(HandedOver { units: 0, of: mine.len() });
        }
        let network = services.network();
        let is_elsewhere =
            |unit: &&Unit| network.route(&unit.to_string()).is_some_and(|route| route.node != *own);
        loop {
            let units = mine.iter().filter(is_elsewhere).count();
            let is_over = units == mine.len() || self.share.is_over();
            if is_over || Instant::now() >= deadline || !is_there_another(services, ledger) {
                return Some(HandedOver { units, of: mine.len() });
            }
            sleep(LOOK).await;
        }
    }

    /// Ends the share in order.
    pub(super) async fn stop(self) {
        if let Some(allocator) = self.allocator {
            // It may have ended.
            let _ = allocator.stop_and_wait(None, Some(STOP_PATIENCE)).await;
        }
        self.share.stop().await;
    }
}

/// How many units others have begun, of how many that were to be handed over.
pub(super) struct HandedOver {
    units: usize,
    of: usize,
}

impl HandedOver {
    /// What the user is told of it.
    pub(super) fn told(&self, own: &NodeId) -> String {
        let Self { units, of } = self;
        match units == of {
            true => format!("{own} has handed over what it had: {of}"),
            false => format!(
                "{own} has handed over {units} of {of} that it had; others take the rest when it has left"
            ),
        }
    }
}

/// Whether another node is there that may get work.
fn is_there_another(services: &ClusterServices, ledger: &LedgerClient) -> bool {
    let own = &services.introduction().id;
    let view = services.view();
    let members = view.borrow().members.clone();
    let up: BTreeSet<NodeId> = members
        .into_iter()
        .filter(|member| member.status == Status::Up && member.profile.id != *own)
        .map(|member| member.profile.id)
        .collect();
    ledger.local(|ledger| {
        let (drained, leaving) = (drained(ledger), leaving(ledger));
        let openings = ledger.sessions().values().map(|session| &session.opening);
        let mut others =
            openings.filter(|opening| !opening.is_witness).map(|opening| &opening.node);
        others.any(|node| up.contains(node) && !drained.contains(node) && !leaving.contains(node))
    })
}

async fn start_allocator(
    config: &Config,
    (allocator, units): (AllocatorConfig, Vec<Unit>),
    (services, parts): (&ClusterServices, &Parts),
    ledger: &LedgerService,
    given_up: watch::Receiver<GivenUpHere>,
) -> Result<(ActorRef<SupervisorMessage>, watch::Receiver<Owners>), NodeError> {
    let timings = Timings::from_heartbeat(config.cluster.heartbeat);
    let (sender, owners) = watch::channel(Owners::new());
    let arguments = AllocatorArguments {
        config: allocator,
        own: services.introduction().id.clone(),
        units,
        ledger: ledger.client(),
        view: services.view(),
        loads: services.loads().clone(),
        weights: config.allocation.weights.clone(),
        given_up,
        interval: timings.heartbeat / 2,
        patience: timings.session_ttl,
        owners: Arc::new(sender),
    };
    let child = ChildSpec::new("allocator", Restart::Permanent, move |parent| {
        let arguments = arguments.clone();
        async move { Ok(parent.spawn_linked(None, AllocatorActor, arguments).await?.0.get_cell()) }
    });
    let started = parts.start(("allocator", "allocation"), config, services, child).await;
    let supervisor = started.map_err(|error| NodeError::Allocator(error.to_string()))?;
    Ok((supervisor, owners))
}

/// The next thing that happens to a service of the node; waits for ever, if there is none.
pub(super) async fn next<T>(events: &mut Option<mpsc::UnboundedReceiver<T>>) -> Option<T> {
    match events {
        Some(events) => events.recv().await,
        None => std::future::pending().await,
    }
}

/// What the user is told of it.
pub(super) fn told(own: &NodeId, event: &ShareEvent) -> String {
    match event {
        ShareEvent::Has(units) if units.is_empty() => format!("{own} has no unit"),
        ShareEvent::Has(units) => {
            let units: Vec<String> = units.iter().map(ToString::to_string).collect();
            format!("{own} has {}", units.join(" "))
        }
        ShareEvent::Retries { unit, attempt, reason } => {
            format!("{own} begins {unit} again, attempt {attempt}: {reason}")
        }
        ShareEvent::GaveUp { unit, reason } => {
            format!("{own} has given {unit} up, and another node is to have it: {reason}")
        }
        ShareEvent::Finished => {
            format!("{own} has the report: `tickwright ctl ask run/{own} '\"Report\"'`")
        }
        ShareEvent::Failed(reason) => format!("{own} cannot go on: {reason}"),
    }
}
