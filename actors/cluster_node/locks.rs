//! What joins locks to the rest of a node.

use std::sync::Arc;
use std::time::Duration;

use ractor::ActorRef;
use tickwright_core::config::{Config, LockKeeping, SecretPlace};
use tickwright_core::supervision::Restart;

use super::NodeError;
use super::parts::Parts;
use crate::cluster::ClusterServices;
use crate::kit::{ChildSpec, Secrets, SupervisorMessage};
use crate::ledger::LedgerClient;
use crate::locks::{
    FallbackLocks, LedgerLocks, LocalLocks, LockBackend, LocksActor, LocksArguments, RedisAddress,
    RedisSettings,
};

/// How long the actor may take to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// The one line of a file, or of a secret.
async fn password(place: SecretPlace, secrets: Secrets) -> Result<String, NodeError> {
    let read = tokio::task::spawn_blocking(move || secrets.read(&place)).await;
    let text = read.map_err(|error| NodeError::Locks(error.to_string()))?;
    let text = text.map_err(|error| NodeError::Locks(format!("the password of Redis: {error}")))?;
    Ok(text.reveal().trim_end_matches(['\r', '\n']).to_owned())
}

/// The locks of one node.
pub(super) struct LockService {
    backend: Arc<dyn LockBackend>,
    supervisor: ActorRef<SupervisorMessage>,
}

impl LockService {
    /// Starts to answer for locks.
    pub(super) async fn start(
        config: &Config,
        services: &ClusterServices,
        ledger: LedgerClient,
        secrets: Secrets,
        parts: &Parts,
    ) -> Result<Self, NodeError> {
        let node = services.introduction().id.0.clone();
        let backend: Arc<dyn LockBackend> = match &config.locks.keeping {
            LockKeeping::None => Arc::new(LocalLocks::new(&node)),
            LockKeeping::Ledger => Arc::new(LedgerLocks::new(ledger, config.locks.command)),
            LockKeeping::Redis(redis) => {
                let own = services.introduction();
                let password = match redis.password.clone() {
                    Some(place) => Some(password(place, secrets).await?),
                    None => None,
                };
                let address = RedisAddress {
                    urls: redis.urls.clone(),
                    password,
                    patience: config.locks.command,
                };
                let settings = RedisSettings {
                    address,
                    prefix: format!("tickwright:{}:", own.cluster),
                    node: node.clone(),
                    life: own.incarnation.0,
                };
                Arc::new(FallbackLocks::new(settings, redis.when_away.clone(), redis.look))
            }
        };
        let arguments = LocksArguments {
            node,
            backend: Arc::clone(&backend),
            ttl: config.locks.ttl,
            // So that whoever waits hears that it was in vain.
            wait_max: config.cluster.ask_timeout * 4 / 5,
            network: services.network().clone(),
        };
        let child = ChildSpec::new("locks", Restart::Permanent, move |parent| {
            let arguments = arguments.clone();
            async move { Ok(parent.spawn_linked(None, LocksActor, arguments).await?.0.get_cell()) }
        });
        let started = parts.start(("locks", "locking"), config, services, child).await;
        let supervisor = started.map_err(|error| NodeError::Locks(error.to_string()))?;
        Ok(Self { backend, supervisor })
    }

    /// Who keeps the locks.
    pub(super) fn backend(&self) -> Arc<dyn LockBackend> {
        Arc::clone(&self.backend)
    }

    /// Answers no more, in order. Locks that are held end with the session, or when their time is over.
    pub(super) async fn stop(self) {
        // It may have ended.
        let _ = self.supervisor.stop_and_wait(None, Some(STOP_PATIENCE)).await;
    }
}

impl Drop for LockService {
    fn drop(&mut self) {
        self.supervisor.stop(None);
    }
}
