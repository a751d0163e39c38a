//! What joins the configuration that all nodes share to the rest of a node.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ractor::ActorRef;
use tickwright_core::cluster::{MemberView, Status};
use tickwright_core::config::Config;
use tickwright_core::domain::NodeId;
use tickwright_core::supervision::Restart;

use super::NodeError;
use super::parts::Parts;
use crate::cluster::{ClusterServices, Memory};
use crate::config_sync::{ConfigSyncActor, ConfigSyncArguments, KnownMembers, role};
use crate::kit::{
    ChildSpec, Clock, LiveValues, Opened, Secrets, Store, StoreOptions, SupervisorMessage,
};

/// How long the actor may take to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// The shared configuration, as one node has it.
pub(super) struct ConfigService {
    live: LiveValues,
    secrets: Secrets,
    supervisor: ActorRef<SupervisorMessage>,
}

/// Where `config` has this node keep what is set.
pub(super) fn open_store(config: &Config) -> Result<Store, NodeError> {
    let directory = Path::new(&config.node.data_dir).join("config");
    let (store, opened) = Store::open(&directory, StoreOptions::default())?;
    if let Opened::SetAside(path) = opened {
        tracing::warn!(path = %path.display(), "the configuration kept here was damaged; it comes from the others");
    }
    Ok(store)
}

/// Who belongs to the cluster, and who of them can be reached. Programs that only ask have no manager: they
/// keep nothing, and nobody waits for them.
fn members(services: &ClusterServices, memory: Memory) -> KnownMembers {
    let (view, network) = (services.view(), services.network().clone());
    let own = services.introduction().id.clone();
    Arc::new(move || {
        let view = view.borrow();
        let has_manager = |member: &&MemberView| {
            let name = role(&member.profile.id.0);
            member.profile.services.iter().any(|service| service.role == name)
        };
        let name = |member: &MemberView| member.profile.id.clone();
        let seen: BTreeSet<NodeId> = view.members.iter().map(name).collect();
        let there = view.members.iter().filter(|member| member.status != Status::Left);
        let there: BTreeSet<NodeId> = there.filter(has_manager).map(name).collect();
        let linked = network.linked().into_iter().filter(|node| there.contains(node));
        let up = linked.collect();
        // Those of before the start, until they are heard of.
        let remembered = memory.members().into_keys().filter(|node| !seen.contains(node));
        let known = there.iter().cloned().chain(remembered).chain([own.clone()]).collect();
        (known, up)
    })
}

impl ConfigService {
    /// Starts to share the configuration.
    pub(super) async fn start(
        config: &Config,
        services: &ClusterServices,
        store: Store,
        memory: Memory,
        parts: &Parts,
    ) -> Result<Self, NodeError> {
        let own = services.introduction();
        let (live, secrets) = (LiveValues::new(config), Secrets::new(config.secrets.clone()));
        let arguments = ConfigSyncArguments {
            node: own.id.clone(),
            life: own.incarnation,
            environment: config.environment.clone(),
            heartbeat: config.cluster.heartbeat,
            store,
            members: members(services, memory),
            network: services.network().clone(),
            live: live.clone(),
            secrets: secrets.clone(),
            clock: Clock::system(),
        };
        let child = ChildSpec::new("config", Restart::Permanent, move |parent| {
            let arguments = arguments.clone();
            async move { Ok(parent.spawn_linked(None, ConfigSyncActor, arguments).await?.0.get_cell()) }
        });
        let started = parts.start(("config", "configuration"), config, services, child).await;
        let supervisor = started.map_err(|error| NodeError::Config(error.to_string()))?;
        Ok(Self { live, secrets, supervisor })
    }

    /// What running actors go by.
    pub(super) fn live(&self) -> LiveValues {
        self.live.clone()
    }

    /// The secrets that count here.
    pub(super) fn secrets(&self) -> Secrets {
        self.secrets.clone()
    }

    /// Shares nothing more.
    pub(super) async fn stop(self) {
        // It may have ended.
        let _ = self.supervisor.stop_and_wait(None, Some(STOP_PATIENCE)).await;
    }
}

impl Drop for ConfigService {
    fn drop(&mut self) {
        self.supervisor.stop(None);
    }
}
