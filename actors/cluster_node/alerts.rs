//! What joins alerts to the rest of a node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ractor::ActorRef;
use tickwright_core::backtest::performance::Performance;
use tickwright_core::cluster::Status;
use tickwright_core::config::Config;
use tickwright_core::optimise::live_score::Sample;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::NodeError;
use super::parts::Parts;
use crate::alerts::{
    self, AlertSources, AlertsArguments, AlertsMessage, Asked, EarnedSeen, TrialsSeen,
};
use crate::cluster::{ClusterServices, Message, Network, Request, View};
use crate::config_sync;
use crate::kit::{Clock, Directory, LiveValues, SupervisorMessage};
use crate::ledger::LedgerClient;
use crate::optimise::{self, SearchProgress};

/// How long a question may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a node may be silent until others do for it, if the configuration has no limit.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// How long the actor may take to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// What one node sees of all.
struct Sources {
    network: Network,
    view: watch::Receiver<View>,
    ledger: LedgerClient,
    /// How long a node may be silent until others do for it.
    limit: Duration,
    /// Whether nodes search.
    searches: bool,
    /// Whether there is a pipeline.
    trades: bool,
}

/// A question to a role, and its answer from JSON.
async fn asked<T: serde::de::DeserializeOwned>(
    network: &Network,
    role: &str,
    question: &str,
) -> Option<T> {
    let answer = network.ask(None, Message::json(role, question), PATIENCE).await.ok()?;
    serde_json::from_slice(&answer).ok()
}

impl AlertSources for Sources {
    fn tells(&self) -> bool {
        // Whom the ledger has as coordinator, and not who may act as one at this very moment: a lease that is renewed
        // late is no reason to tell everything again.
        let holder = self.ledger.local(|ledger| ledger.coordinator().holder.clone());
        let holder = holder.map(|(node, _)| node.0);
        let own = &self.network.own().id.0;
        tickwright_core::alerts::tells(own, holder.as_deref(), &self.nodes(), self.limit)
    }

    fn nodes(&self) -> Vec<(String, Duration)> {
        let view = self.view.borrow();
        let members = view.members.iter().filter(|member| {
            let name = config_sync::role(&member.profile.id.0);
            // Programs that only ask come and go.
            let is_node = member.profile.services.iter().any(|service| service.role == name);
            is_node && member.status != Status::Left
        });
        members.map(|member| (member.profile.id.0.clone(), member.silence)).collect()
    }

    fn trials(&self) -> Asked<Vec<TrialsSeen>> {
        if !self.searches {
            return Box::pin(async { Vec::new() });
        }
        let (network, nodes) = (self.network.clone(), self.nodes());
        Box::pin(async move {
            let mut asking = JoinSet::new();
            for (node, _) in nodes {
                let network = network.clone();
                asking.spawn(async move {
                    let role = optimise::role(&node);
                    let progress: SearchProgress = asked(&network, &role, "\"Status\"").await?;
                    let (failed, trials) = progress.recent;
                    Some(TrialsSeen { node, failed, trials })
                });
            }
            let mut seen = Vec::new();
            while let Some(answer) = asking.join_next().await {
                // A node that does not search, or does not answer, has nothing to say of trials.
                seen.extend(answer.ok().flatten());
            }
            seen
        })
    }

    fn earned(&self) -> Asked<Option<EarnedSeen>> {
        let (network, trades) = (self.network.clone(), self.trades);
        Box::pin(async move {
            if !trades {
                return None;
            }
            let earned: BTreeMap<String, Performance> =
                asked(&network, "risk", "\"Earned\"").await?;
            let parameters: serde_json::Value =
                asked(&network, "parameters", "\"Parameters\"").await?;
            let earned = earned.iter().map(|(name, it)| (name.clone(), Sample::of(it))).collect();
            Some(EarnedSeen { under: parameters["strategies"].to_string(), earned })
        })
    }
}

/// The alerts of one node.
pub(super) struct AlertsService {
    supervisor: ActorRef<SupervisorMessage>,
    network: Network,
    role: String,
}

impl AlertsService {
    /// Starts to look for what an operator is to hear of.
    pub(super) async fn start(
        config: &Config,
        services: &ClusterServices,
        ledger: LedgerClient,
        live_values: LiveValues,
        parts: &Parts,
    ) -> Result<Self, NodeError> {
        let (network, directory) = (services.network().clone(), Directory::default());
        let node = services.introduction().id.0.clone();
        let sources = Sources {
            network: network.clone(),
            view: services.view(),
            ledger,
            limit: config.alerts.rules.offline.unwrap_or(SILENCE_MAX),
            searches: !config.optimise.data.is_empty(),
            trades: config.pipeline.input != tickwright_core::config::PipelineInput::None,
        };
        let child = alerts::child(AlertsArguments {
            node: node.clone(),
            run: config.pipeline.run.clone(),
            section: config.alerts.clone(),
            live_values,
            weights: config.optimise.weights,
            look_earned: config.optimise.look,
            sources: Arc::new(sources),
            directory: directory.clone(),
            clock: Clock::system(),
        });
        let started = parts.start(("alerts", "alerting"), config, services, child).await;
        let supervisor = started.map_err(|error| NodeError::Alerts(error.to_string()))?;
        let role = alerts::role(&node);
        network.register(&role, None, Arc::new(move |request| answer(&directory, request)));
        Ok(Self { supervisor, network, role })
    }

    /// Looks no more.
    pub(super) async fn stop(self) {
        // It may have ended.
        let _ = self.supervisor.stop_and_wait(None, Some(STOP_PATIENCE)).await;
    }
}

impl Drop for AlertsService {
    fn drop(&mut self) {
        self.network.unregister(&self.role);
        self.supervisor.stop(None);
    }
}

/// Answers a tool.
fn answer(directory: &Directory, mut request: Request) -> Result<(), String> {
    let Some(reply) = request.reply.take() else { return Err("alerts are told nothing".into()) };
    let Some(actor) = directory.serving(alerts::ROLE) else {
        reply.refuse("alerts are being restarted; ask again");
        return Ok(());
    };
    let actor = ActorRef::<AlertsMessage>::from(actor);
    tokio::spawn(async move {
        // It holds its credit until it is answered.
        let _request = request;
        match actor.call(AlertsMessage::Report, Some(PATIENCE)).await {
            Ok(ractor::rpc::CallResult::Success(report)) => {
                reply.answer(report.to_string().into_bytes());
            }
            _ => reply.refuse("the alerts gave no answer"),
        }
    });
    Ok(())
}
