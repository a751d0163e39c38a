//! The adopter: has what was found taken over by the strategy that runs, and taken back if it does worse.
//!
//! ```text
//! Hub ── Found ─▶ Adopter ── what is in force? ─▶ parameters      (a role of the pipeline)
//!                    │ judged on a thread of its own
//!                    ├── SetParameters, AdoptParameters ─▶ parameters
//!                    └── every look: Earned ─▶ risk ─▶ live score
//! ctl ── Status, Confirm, Reject ─▶ adoption/NODE
//! ```
//!
//! What is decided is in `src/optimise/adoption.rs`. Of the nodes that search together the first by name adopts.
//!
//! What it judges by is what the whole run earns: exec counts by currency, over all accounts, and not by strategy.
//! Where other strategies trade beside the one that is searched for, it says so when it begins.
//!
//! *Failover.* It keeps nothing, and tells the hub that it has begun: once the search is over the hub tells it anew what
//! was found, so what was proposed is proposed again. What was adopted is in the record of changes that all nodes
//! agree on, with what was in force before and what that earned, and so is what was taken back; whoever is told what was
//! found after it, on another node or here, reads it there, goes on watching the one and does not try the other again.
//!
//! *Delivery.* Each change is asked for once; whether it was made is said by whoever makes it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use ractor_cluster::RactorMessage;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use tickwright_core::backtest::performance::Performance;
use tickwright_core::optimise::adopted::AdoptedRecord;
use tickwright_core::optimise::adoption::{AdoptionEffect, Candidate};
use tickwright_core::optimise::live_score::Sample;
use tickwright_core::optimise::{Adoption, AdoptionConfig, LiveScore, Trial};

use super::hub::adopter_began;
use super::judge::Judging;
use crate::cluster::{Message, Network, Reply, Request};
use crate::kit::Directory;

/// The role of the adopter among the actors of its own node.
pub(super) const ROLE: &str = "adopter";

/// Whom it asks about parameters.
const PARAMETERS: &str = "parameters";

/// Whom it asks what was earned.
const EXEC: &str = "risk";

/// What the reason of a change begins with that puts back what was before.
const TAKEN_BACK: &str = "taken back";

/// How long a question about parameters may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The role of the adopter of `node` in a cluster.
pub fn adoption_role(node: &str) -> String {
    format!("adoption/{node}")
}

/// What tools ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AdoptionCall {
    /// What is under way, and how earlier ones ended.
    Status,
    /// A person wants what is proposed.
    Confirm {
        /// Who.
        by: String,
        /// The hold under which it is to be adopted; none: as soon as may be.
        hold: Option<u64>,
    },
    /// A person does not want it.
    Reject {
        /// Who.
        by: String,
    },
}

/// Everything the mailbox holds.
#[derive(RactorMessage)]
pub(super) enum AdopterMessage {
    /// From the hub: a search has ended, and these are the best, best first.
    Found(Vec<Trial>),
    /// What is in force was adopted by somebody who may be gone.
    TakenOver(Vec<(String, f64)>, AdoptedRecord),
    /// These were adopted by somebody, and taken back for this reason.
    TakenBack(Vec<(String, f64)>, String),
    /// What that comes to beside what is in force.
    Judged(Result<Option<Box<Candidate>>, String>),
    /// The change was made, or could not be.
    Applied(Result<(), String>),
    /// It is time to look at the run.
    Look,
    /// What was seen, after so many changes.
    Looked(u64, Seen),
    /// From a tool.
    Call(AdoptionCall, Option<Reply>),
}

/// What was seen of the run; of each what could be asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// What it has earned.
    earned: Option<BTreeMap<String, Sample>>,
    /// What is in force, if that was asked.
    in_force: Option<Vec<(String, f64)>>,
}

impl fmt::Debug for AdopterMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Found(_) => "Found",
            Self::TakenOver(..) => "TakenOver",
            Self::TakenBack(..) => "TakenBack",
            Self::Judged(_) => "Judged",
            Self::Applied(_) => "Applied",
            Self::Look => "Look",
            Self::Looked(..) => "Looked",
            Self::Call(..) => "Call",
        })
    }
}

/// What the actor is started with.
#[derive(Clone)]
pub(super) struct AdopterArguments {
    pub node: String,
    pub config: AdoptionConfig,
    /// Between two looks at the run.
    pub look: Duration,
    pub network: Network,
    pub directory: Directory,
    pub judging: Arc<Judging>,
}

impl fmt::Debug for AdopterArguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdopterArguments").field("node", &self.node).finish_non_exhaustive()
    }
}

/// The actor.
#[derive(Debug)]
pub(super) struct AdopterActor;

/// What the actor owns while it runs.
#[derive(Debug)]
pub(super) struct AdopterState {
    arguments: AdopterArguments,
    adoption: Adoption,
    live: LiveScore,
    /// The hold under which the next change is made.
    hold: Option<u64>,
    is_looking: bool,
    /// Changes so far of what is looked at: what was seen before one says nothing of what came after it.
    changes: u64,
}

impl Actor for AdopterActor {
    type Msg = AdopterMessage;
    type State = AdopterState;
    type Arguments = AdopterArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<AdopterMessage>,
        arguments: AdopterArguments,
    ) -> Result<AdopterState, ActorProcessingErr> {
        arguments.directory.register(ROLE, &myself);
        arguments.network.register_actor(&adoption_role(&arguments.node), None, &myself, decode);
        let adoption = Adoption::new(arguments.config);
        if adoption.is_watching() {
            myself.send_interval(arguments.look, || AdopterMessage::Look);
            warn_of_others(&arguments.judging);
        }
        let live = LiveScore::default();
        adopter_began(&arguments.directory);
        Ok(AdopterState { arguments, adoption, live, hold: None, is_looking: false, changes: 0 })
    }

    async fn handle(
        &self,
        myself: ActorRef<AdopterMessage>,
        message: AdopterMessage,
        state: &mut AdopterState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            AdopterMessage::Found(trials) => state.judge(&myself, trials),
            AdopterMessage::TakenOver(parameters, record) => {
                state.take_over(parameters, record);
            }
            AdopterMessage::TakenBack(parameters, why) => state.adoption.on_known(parameters, why),
            AdopterMessage::Judged(Ok(None)) => {}
            AdopterMessage::Judged(Ok(Some(candidate))) => {
                let effects = state.adoption.on_found(*candidate);
                state.carry_out(&myself, effects);
            }
            AdopterMessage::Judged(Err(reason)) => {
                tracing::warn!(reason, "what was found cannot be judged beside what is in force");
            }
            AdopterMessage::Applied(outcome) => {
                state.forget_seen();
                state.hold = None;
                let effects = state.adoption.on_applied(outcome);
                state.carry_out(&myself, effects);
            }
            AdopterMessage::Look => state.look(&myself),
            AdopterMessage::Looked(changes, seen) => {
                state.is_looking = false;
                if changes == state.changes {
                    let effects = state.on_looked(seen);
                    state.carry_out(&myself, effects);
                }
            }
            AdopterMessage::Call(call, Some(reply)) => state.on_call(&myself, call, reply),
            // Whoever tells a question awaits nothing.
            AdopterMessage::Call(_, None) => {}
        }
        Ok(())
    }
}

fn decode(request: &mut Request) -> Result<AdopterMessage, String> {
    if request.kind != "json" {
        return Err("ask in JSON".into());
    }
    let call = serde_json::from_slice(&request.body).map_err(|error| {
        format!("{error}; ask \"Status\", {{\"Confirm\": {{\"by\": WHO, \"hold\": null}}}} or {{\"Reject\": {{\"by\": WHO}}}}")
    })?;
    Ok(AdopterMessage::Call(call, request.reply.take()))
}

/// Says whose results are mixed with those of the strategy that is searched for.
fn warn_of_others(judging: &Judging) {
    let others = judging.config.strategies_beside(&judging.name);
    if !others.is_empty() {
        tracing::warn!(
            strategy = judging.name,
            others = others.join(", "),
            "whether adopted parameters stay is judged by what all of these earn together: exec counts by \
             currency, and not by strategy"
        );
    }
}

/// Whether these are the parameters of `trial`, in any order.
fn is_same(trial: &Trial, parameters: &[(String, f64)]) -> bool {
    let bits = |all: &[(String, f64)]| -> BTreeMap<String, u64> {
        all.iter().map(|(name, value)| (name.clone(), value.to_bits())).collect()
    };
    bits(&trial.parameters) == bits(parameters)
}

/// What the pipeline says of a strategy.
struct InForce {
    parameters: Vec<(String, f64)>,
    /// What was changed last, if that was adopted.
    adopted: Option<(Vec<(String, f64)>, AdoptedRecord)>,
    /// What was adopted and taken back, and why.
    taken_back: Vec<(Vec<(String, f64)>, String)>,
}

impl InForce {
    /// What is in force for the strategy called `name`.
    async fn ask(network: &Network, name: &str) -> Result<Self, String> {
        let question = Message::json(PARAMETERS, "\"Parameters\"");
        let answer = network.ask(None, question, PATIENCE).await;
        let answer = answer.map_err(|error| error.to_string())?;
        let answer: Json = serde_json::from_slice(&answer).map_err(|error| error.to_string())?;
        let values = |row: &Json| -> Result<Vec<(String, f64)>, String> {
            let values: BTreeMap<String, f64> = serde_json::from_value(row["parameters"].clone())
                .map_err(|error| error.to_string())?;
            Ok(values.into_iter().collect())
        };
        let mut strategies = answer["strategies"].as_array().into_iter().flatten();
        let found = strategies.rfind(|row| row["strategy"] == name);
        let found = found.ok_or_else(|| format!("no strategy called {name} runs"))?;
        let adopted = |change: &Json| {
            let record = AdoptedRecord::parse(change["why"].as_str()?)?;
            Some((values(change).ok()?, record))
        };
        let changes = answer["changes"].as_array().into_iter().flatten();
        let changes: Vec<&Json> = changes.filter(|change| change["strategy"] == name).collect();
        let taken_back = changes.windows(2).filter_map(|pair| {
            let why = pair[1]["why"].as_str().filter(|why| why.starts_with(TAKEN_BACK))?;
            Some((adopted(pair[0])?.0, why.to_owned()))
        });
        Ok(Self {
            parameters: values(found)?,
            adopted: changes.last().and_then(|change| adopted(change)),
            taken_back: taken_back.collect(),
        })
    }
}

impl AdopterState {
    /// Works out what `trials` come to beside what is in force.
    fn judge(&self, myself: &ActorRef<AdopterMessage>, trials: Vec<Trial>) {
        if !self.adoption.is_watching() {
            return;
        }
        let (network, judging) =
            (self.arguments.network.clone(), Arc::clone(&self.arguments.judging));
        let myself = myself.clone();
        tokio::spawn(async move {
            let judged = async {
                let in_force = InForce::ask(&network, &judging.name).await?;
                let InForce { parameters, adopted, taken_back } = in_force;
                for (parameters, why) in taken_back {
                    // It may have ended.
                    let _ = myself.cast(AdopterMessage::TakenBack(parameters, why));
                }
                // What an earlier search has found gives way to this one.
                if let Some((in_force, record)) = adopted
                    && let Some(trial) = trials.iter().find(|trial| is_same(trial, &in_force))
                {
                    let parameters = trial.parameters.clone();
                    // It may have ended.
                    let _ = myself.cast(AdopterMessage::TakenOver(parameters, record));
                }
                let judge = move || judging.candidate(&trials, &parameters);
                let judged = tokio::task::spawn_blocking(judge).await;
                let judged = judged.map_err(|error| error.to_string())?;
                judged.map(|it| it.map(Box::new)).map_err(|error| error.to_string())
            };
            // It may have ended.
            let _ = myself.cast(AdopterMessage::Judged(judged.await));
        });
    }

    /// Goes on watching what was adopted, if nothing is under way here.
    fn take_over(&mut self, parameters: Vec<(String, f64)>, record: AdoptedRecord) {
        let stage = self.adoption.stage();
        self.adoption.on_taken_over(parameters, record.clone());
        if self.adoption.stage() != stage {
            self.forget_seen();
            tracing::info!(%record, "what was adopted is watched from here on");
        }
    }

    /// What was seen before was seen of other parameters.
    fn forget_seen(&mut self) {
        self.live.clear();
        self.changes += 1;
    }

    fn carry_out(&mut self, myself: &ActorRef<AdopterMessage>, effects: Vec<AdoptionEffect>) {
        for effect in effects {
            match effect {
                AdoptionEffect::Ask(candidate) => tracing::info!(
                    parameters = ?candidate.trial.parameters,
                    score = candidate.trial.score,
                    in_force = candidate.current_score,
                    "found better parameters: `tickwright ctl adopt` takes them over"
                ),
                AdoptionEffect::Apply { parameters, why } => self.apply(myself, &parameters, why),
                AdoptionEffect::Judge(trial) => self.judge(myself, vec![*trial]),
                AdoptionEffect::Ended(end) => tracing::info!(
                    parameters = ?end.parameters,
                    score = end.score,
                    adopted = end.is_adopted,
                    why = end.why,
                    "what was found has been dealt with"
                ),
            }
        }
    }

    /// Has the parameters changed.
    fn apply(&self, myself: &ActorRef<AdopterMessage>, parameters: &[(String, f64)], why: String) {
        tracing::info!(?parameters, why, "parameters are changed");
        let parameters: BTreeMap<&str, f64> =
            parameters.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        let (strategy, by) = (&self.arguments.judging.name, &self.arguments.node);
        let call = match self.hold {
            Some(number) => json!({ "AdoptParameters": {
                "number": number, "strategy": strategy, "parameters": parameters, "by": by, "why": why,
            } }),
            None => json!({ "SetParameters": {
                "strategy": strategy, "parameters": parameters, "at_ns": null, "by": by, "why": why,
                "patience_ms": u64::try_from(PATIENCE.as_millis()).unwrap_or(u64::MAX),
            } }),
        };
        let (network, myself, body) =
            (self.arguments.network.clone(), myself.clone(), call.to_string());
        tokio::spawn(async move {
            let asked = network.ask(None, Message::json(PARAMETERS, &body), PATIENCE * 2).await;
            let applied = asked.map(drop).map_err(|error| error.to_string());
            // It may have ended.
            let _ = myself.cast(AdopterMessage::Applied(applied));
        });
    }

    fn look(&mut self, myself: &ActorRef<AdopterMessage>) {
        if self.is_looking {
            return;
        }
        self.is_looking = true;
        let (network, myself) = (self.arguments.network.clone(), myself.clone());
        let patience = self.arguments.look.min(PATIENCE);
        let (changes, is_watched) = (self.changes, self.adoption.watched().is_some());
        let name = self.arguments.judging.name.clone();
        tokio::spawn(async move {
            let asked = network.ask(None, Message::json(EXEC, "\"Earned\""), patience).await;
            let earned = asked.ok().and_then(|body| {
                serde_json::from_slice::<BTreeMap<String, Performance>>(&body).ok()
            });
            let earned = earned.map(|earned| {
                earned.iter().map(|(currency, it)| (currency.clone(), Sample::of(it))).collect()
            });
            let in_force = match is_watched {
                true => InForce::ask(&network, &name).await.ok().map(|it| it.parameters),
                false => None,
            };
            // It may have ended.
            let _ = myself.cast(AdopterMessage::Looked(changes, Seen { earned, in_force }));
        });
    }

    fn on_looked(&mut self, seen: Seen) -> Vec<AdoptionEffect> {
        if let (Some(in_force), Some(watched)) = (&seen.in_force, self.adoption.watched()) {
            let is_in_force = |(name, value): &(String, f64)| {
                in_force.iter().any(|(it, held)| it == name && held.to_bits() == value.to_bits())
            };
            if !watched.iter().all(is_in_force) {
                let effects = self.adoption.on_changed();
                if self.adoption.watched().is_none() {
                    self.forget_seen();
                }
                return effects;
            }
        }
        let Some(sample) = seen.earned else { return Vec::new() };
        self.live.add(sample);
        let weights = &self.arguments.judging.config.optimise.weights;
        let score = self.live.score(self.adoption.config().looks, weights);
        score.map_or_else(Vec::new, |score| self.adoption.on_live_score(score))
    }

    fn on_call(&mut self, myself: &ActorRef<AdopterMessage>, call: AdoptionCall, reply: Reply) {
        let nothing =
            "nothing is proposed here just now; `tickwright ctl adoption` shows what is under way";
        match call {
            AdoptionCall::Status => {}
            AdoptionCall::Confirm { by, hold } => {
                let Some(effect) = self.adoption.on_confirmed() else {
                    return reply.refuse(nothing);
                };
                self.hold = hold;
                tracing::info!(by, "what was found is confirmed");
                self.carry_out(myself, vec![effect]);
            }
            AdoptionCall::Reject { by } => {
                let Some(effect) = self.adoption.on_rejected(&by) else {
                    return reply.refuse(nothing);
                };
                self.carry_out(myself, vec![effect]);
            }
        }
        let [proposed, adopted, taken_back] = self.adoption.counts();
        let looks = self.adoption.config().looks;
        let weights = &self.arguments.judging.config.optimise.weights;
        let answer = json!({
            "mode": self.adoption.config().mode,
            "stage": self.adoption.stage(),
            "proposal": self.adoption.proposal(),
            "proposed": proposed,
            "adopted": adopted,
            "taken_back": taken_back,
            "adoption_rate": (proposed > 0).then(|| adopted as f64 / proposed as f64),
            "live_score": self.live.score(looks, weights),
            "history": self.adoption.history().collect::<Vec<_>>(),
        });
        reply.answer(answer.to_string().into_bytes());
    }
}
