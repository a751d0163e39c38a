//! The tuner of a pipeline over nodes: settings are changed by the configuration that all nodes share, by the
//! node that coordinates.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ractor::{Actor, ActorRef};
use serde::Deserialize;
use serde_json::{Value, json};
use tickwright_core::config::{Config, Subtree};
use tickwright_core::domain::Histogram;

use crate::cluster::{Message, Network};
use crate::config_sync::{self, ConfigCall, ConfigPlace, DECISIONS_KEY, TRIAL_KEY};
use crate::kit::{
    Clock, Directory, LiveValues, SupervisionStatistics, Supervisor, SupervisorArguments,
    SupervisorMessage,
};
use crate::ledger::LedgerClient;
use crate::risk;
use crate::tuner::{self, Asked, Measure, Measured, Settings, TunerArguments};

/// Who writes it.
const AUTHOR: &str = "tuner";

/// How long a question may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// The settings that all nodes share.
#[derive(Clone)]
struct Shared {
    network: Network,
    live: LiveValues,
    ledger: LedgerClient,
    /// Whether something is said to be under trial.
    is_trying: Arc<AtomicBool>,
}

impl Shared {
    async fn ask(&self, call: &ConfigCall) -> Result<Value, String> {
        let own = self.network.own().id.clone();
        let body = json!(call).to_string();
        let role = config_sync::role(&own.0);
        let answer = self.network.ask(Some(&own), Message::json(&role, &body), PATIENCE).await;
        let answer = answer.map_err(|error| error.to_string())?;
        serde_json::from_slice(&answer).map_err(|error| error.to_string())
    }

    async fn write(&self, key: &str, value: String) -> Result<(), String> {
        let (place, author, merge) =
            (ConfigPlace::base(key), AUTHOR.to_owned(), "latest".to_owned());
        let call = ConfigCall::Set { place, value, priority: 0, merge, author };
        self.ask(&call).await.map(drop)
    }

    /// Says what is being tried, as it was without it.
    async fn write_trial(&self, unfinished: &[(String, i64)]) -> Result<(), String> {
        // Text within TOML.
        self.write(TRIAL_KEY, json!(json!(unfinished).to_string()).to_string()).await?;
        self.is_trying.store(!unfinished.is_empty(), Ordering::Relaxed);
        Ok(())
    }
}

impl Settings for Shared {
    fn values(&self) -> Vec<(String, i64)> {
        tuner::standing(&self.live)
    }

    fn particular(&self) -> BTreeSet<String> {
        let of = self.live.standing().into_iter().filter(|standing| standing.is_particular);
        of.map(|standing| standing.key.to_owned()).collect()
    }

    fn unfinished(&self) -> Asked<Result<Vec<(String, i64)>, String>> {
        let shared = self.clone();
        Box::pin(async move {
            let answer = shared.ask(&ConfigCall::Get { key: TRIAL_KEY.to_owned() }).await?;
            let text = answer["value"].as_str().unwrap_or_default();
            // Nobody has tried anything yet; or what is there is nothing that a tuner has written.
            let unfinished: Vec<(String, i64)> = serde_json::from_str(text).unwrap_or_default();
            if !unfinished.is_empty() {
                shared.is_trying.store(true, Ordering::Relaxed);
            }
            Ok(unfinished)
        })
    }

    fn decided(&self) -> Asked<Result<Vec<Value>, String>> {
        let shared = self.clone();
        Box::pin(async move {
            let answer = shared.ask(&ConfigCall::Get { key: DECISIONS_KEY.to_owned() }).await?;
            Ok(serde_json::from_str(answer["value"].as_str().unwrap_or_default())
                .unwrap_or_default())
        })
    }

    fn keep_decided(&self, decisions: Vec<Value>) -> Asked<Result<(), String>> {
        let shared = self.clone();
        // Text within TOML.
        let text = json!(json!(decisions).to_string()).to_string();
        Box::pin(async move { shared.write(DECISIONS_KEY, text).await })
    }

    fn decides(&self) -> bool {
        self.ledger.term().is_some()
    }

    fn set(
        &self,
        values: Vec<(String, i64)>,
        unfinished: Vec<(String, i64)>,
    ) -> Asked<Result<(), String>> {
        let shared = self.clone();
        Box::pin(async move {
            // First what it was without it: whoever comes next takes back what it finds there.
            if !unfinished.is_empty() {
                shared.write_trial(&unfinished).await?;
            }
            for (key, value) in values {
                shared.write(&key, value.to_string()).await?;
            }
            if unfinished.is_empty() && shared.is_trying.load(Ordering::Relaxed) {
                shared.write_trial(&unfinished).await?;
            }
            Ok(())
        })
    }
}

/// What exec has said.
#[derive(Deserialize)]
struct Said {
    rows: u64,
    latency: Histogram,
}

/// The tuner of this node, with its supervisor. Ends when it is dropped.
pub(super) struct Tuning {
    supervisor: ActorRef<SupervisorMessage>,
    network: Network,
    role: String,
}

impl Drop for Tuning {
    fn drop(&mut self) {
        self.network.unregister(&self.role);
        self.supervisor.stop(None);
    }
}

impl Tuning {
    /// Starts it, if that is wanted.
    pub(super) async fn start(
        config: &Config,
        network: &Network,
        (ledger, live): (LedgerClient, LiveValues),
    ) -> Option<Self> {
        if !config.tuner.is_enabled {
            return None;
        }
        let (asked, directory) = (network.clone(), Directory::default());
        let measure: Measure = Arc::new(move || {
            let network = asked.clone();
            Box::pin(async move {
                let question = Message::json(risk::ROLE, "\"Measured\"");
                let answer = network.ask(None, question, PATIENCE).await.ok()?;
                let Said { rows, latency } = serde_json::from_slice(&answer).ok()?;
                Some(Measured { rows, latency })
            })
        });
        let settings = Arc::new(Shared {
            network: network.clone(),
            live,
            ledger,
            // Of whoever decided before.
            is_trying: Arc::new(AtomicBool::new(true)),
        });
        let child = tuner::child(TunerArguments {
            section: config.tuner.clone(),
            measure,
            settings,
            directory: directory.clone(),
        });
        let arguments = SupervisorArguments {
            name: "tuning".into(),
            policy: config.policy(Subtree::Control),
            children: vec![child],
            clock: Clock::system(),
            statistics: SupervisionStatistics::default(),
        };
        let supervisor = match Supervisor::spawn(None, Supervisor, arguments).await {
            Ok((supervisor, _)) => supervisor,
            Err(error) => {
                tracing::error!(%error, "nothing is tuned");
                return None;
            }
        };
        let role = tuner::serve(network, directory);
        Some(Self { supervisor, network: network.clone(), role })
    }
}
