//! The OptimizationHub: gives trials out, writes what comes back down, tells other nodes and hears them, and
//! says when it is enough.
//!
//! ```text
//!            ┌── Lease ──▶ Explorer, one per thread
//! Hub ◀──────┴── Heard ───┘
//!  │ put ▶ journal ── Stored ──▶ Hub: only now does it count, and is told ─▶ optimise/NODE of every other node
//!  └──▶ progress; at the end the outcome                    what they ran ◀─┘
//! ```
//!
//! What is decided is in `src/optimise/hub`.
//!
//! *Failover.* Everything that counts is in the journal before it counts. A successor reads it, and goes on
//! with what is left; trials that were out are evaluated anew, and none counts twice. While this node is
//! away others take its trials over.
//!
//! *Delivery.* Explorers start after it and are started anew with it. What an explorer had when it ended is
//! given out again, before anything new; a trial that has ended [`LOSSES_MAX`] explorers is given up and
//! counts as the worst. Between nodes at most once, through bounded queues: what is lost is asked for again
//! within [`BEAT`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use ractor_cluster::RactorMessage;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use tickwright_core::alerts::AlertsConfig;
use tickwright_core::domain::NodeId;
use tickwright_core::optimise::hub::{Author, Entry, Finished, Propagation, Task};
use tickwright_core::optimise::report::OptimiseReport;
use tickwright_core::optimise::{
    BestSet, Hub, HubConfig, HubEffect, HubMessage, Limits, Search, SearchKind, Space, StopReason,
    Trial,
};

use self::recent::Recent;
use super::explorer::{ExplorerMessage, Heard, Lease, Outcome};
use super::journal::SearchJournal;
use crate::cluster::{Network, PeerQueues, Receipt, Reply, Request};
use crate::kit::{Clock, Directory, Outlet, StoreError, wire};

mod recent;

/// The role of the hub among the actors of its own node.
pub(super) const ROLE: &str = "hub";

/// The kind of what hubs tell each other.
const KIND: &str = "hub";

/// Explorers that one trial may end before it is given up.
const LOSSES_MAX: u32 = 3;

/// Between two times that a hub says how far it is.
pub(super) const BEAT: Duration = Duration::from_millis(250);

/// Beats after the end of a search until the first of the nodes has what was found adopted.
const ENDED_BEATS: u32 = 8;

/// The role of the hub of `node` in a cluster.
pub fn role(node: &str) -> String {
    format!("optimise/{node}")
}

/// What tools ask a hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HubCall {
    /// How far it is, and what it believes.
    Status,
    /// What was found, judged; `{"pending": why}` until the search is over and that is done.
    Report,
}

/// Makes a report of what a search came to. It takes a while.
pub(super) type Judge = Arc<dyn Fn(SearchOutcome) -> Result<OptimiseReport, String> + Send + Sync>;

/// Other nodes that search.
#[derive(Clone)]
pub(super) struct Peers {
    pub network: Network,
    pub judge: Judge,
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").finish_non_exhaustive()
    }
}

/// Everything the mailbox holds.
#[derive(RactorMessage)]
pub(super) enum HubActorMessage {
    /// From an explorer.
    Heard(Heard),
    /// From the journal.
    Stored(Result<(), StoreError>, Box<Entry>),
    /// The time is up.
    Time,
    /// From the hub of another node.
    Peer(NodeId, Box<HubMessage>, Option<Receipt>),
    /// From a tool.
    Call(HubCall, Option<Reply>),
    /// It is time to say how far it is.
    Beat,
    /// What was found, judged, and how many trials that was.
    Judged(u64, Result<String, String>),
    /// The adopter has begun anew, and knows nothing of what was found.
    AdopterBegan,
}

impl fmt::Debug for HubActorMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Heard(heard) => f.debug_tuple("Heard").field(heard).finish(),
            Self::Stored(result, entry) => {
                f.debug_tuple("Stored").field(result).field(&entry.finished.number).finish()
            }
            Self::Time => f.write_str("Time"),
            Self::Peer(from, ..) => f.debug_tuple("Peer").field(from).finish(),
            Self::Call(call, _) => f.debug_tuple("Call").field(call).finish(),
            Self::Beat => f.write_str("Beat"),
            Self::Judged(finished, _) => f.debug_tuple("Judged").field(finished).finish(),
            Self::AdopterBegan => f.write_str("AdopterBegan"),
        }
    }
}

/// How far a search has come.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SearchProgress {
    /// Trials that count, wherever they were run.
    pub finished: u64,
    /// Of them, those of earlier runs.
    pub resumed: u64,
    /// Trials that this node has run itself since it was started.
    #[serde(default)]
    pub own: u64,
    /// Trials there may be.
    pub trials_max: u64,
    /// The best score so far, and what it is of.
    pub best: Option<(f64, Vec<(String, f64)>)>,
    /// Why it is over, once it is.
    pub ended: Option<String>,
    /// Why this node does not search any more, if it has failed.
    pub failed: Option<String>,
    /// Other nodes that search for the same in the same way just now.
    pub beside: Vec<String>,
    /// How often each node said what does not come out again.
    pub flagged: BTreeMap<String, u64>,
    /// Of the last trials that this node has run, how many failed, and how many those last ones are.
    #[serde(default)]
    pub recent: (u32, u32),
    /// Alerts that were raised for that, or were over, as people read them.
    #[serde(default)]
    pub alerts: Vec<String>,
}

/// What a search came to.
#[derive(Clone, Debug)]
pub(super) struct SearchOutcome {
    pub stopped: StopReason,
    /// In the order of their numbers; those that were given up are not among them.
    pub trials: Vec<Trial>,
    pub resumed: u64,
    pub failed: u64,
    pub best: BestSet,
    pub flagged: BTreeMap<String, u64>,
    pub alerts: Vec<String>,
    /// How long it took.
    pub seconds: f64,
}

/// What the actor is started with.
#[derive(Clone, Debug)]
pub(super) struct HubArguments {
    pub node: String,
    pub space: Space,
    pub kind: SearchKind,
    pub seed: u64,
    pub limits: Limits,
    pub top_max: usize,
    /// When it is an alert that trials fail.
    pub alerts: AlertsConfig,
    pub propagation: Propagation,
    /// Hash of the search, and of all searches of the same strategy, data and terms.
    pub hashes: ([u8; 32], [u8; 32]),
    /// What a trial must be of.
    pub like: Trial,
    pub journal: SearchJournal,
    /// The best of an earlier search, which has been computed again.
    pub adopted: Option<Trial>,
    pub directory: Directory,
    pub progress: Outlet<SearchProgress>,
    pub ended: Outlet<SearchOutcome>,
    /// Takes the best of a search that has ended, best first, on the first of the nodes that search; again, when
    /// that was found to be another.
    pub found: Outlet<Vec<Trial>>,
    pub clock: Clock,
    /// When its time is up, if it is ever.
    pub until: Option<tokio::time::Instant>,
    pub peers: Option<Peers>,
}

/// The actor.
#[derive(Debug)]
pub(super) struct HubActor;

/// What an explorer can lose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Loss {
    Trial(u64),
    Check([u8; 32]),
}

/// What the actor owns while it runs.
#[derive(Debug)]
pub(super) struct HubState {
    arguments: HubArguments,
    hub: Hub,
    resumed: u64,
    /// The explorers that are there, and what each is at.
    explorers: BTreeMap<usize, (ActorRef<ExplorerMessage>, Option<Task>)>,
    /// How many explorers each trial has ended. At most one entry per trial that is out.
    losses: BTreeMap<Loss, u32>,
    queues: Option<PeerQueues>,
    began: tokio::time::Instant,
    /// How long it took, once it is over.
    took: Option<f64>,
    /// Beats since then.
    ended_for: u32,
    /// The best that the adopter was told of.
    told: Option<[u8; 32]>,
    /// What was judged last, and how many trials that was; nothing while it is being judged.
    judged: Option<(u64, Option<Result<String, String>>)>,
    recent: Recent,
}

impl Actor for HubActor {
    type Msg = HubActorMessage;
    type State = HubState;
    type Arguments = HubArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<HubActorMessage>,
        arguments: HubArguments,
    ) -> Result<HubState, ActorProcessingErr> {
        let HubArguments { space, kind, seed, limits, journal, .. } = &arguments;
        let (search_hash, family) = arguments.hashes;
        // What a predecessor has put is read, and does not come later.
        let settled = journal.clone();
        tokio::task::spawn_blocking(move || settled.settle()).await??;
        let entries = journal.entries()?;
        // Later than any life of this node that anybody has heard of, even if its disk is lost.
        let ours = entries.iter().filter(|entry| entry.author.node == arguments.node);
        let before = ours.map(|entry| entry.author.life).max().unwrap_or(0);
        let life = arguments.clock.now().as_nanos().max(before + 1);
        let config = HubConfig {
            own: Author { node: arguments.node.clone(), life },
            family,
            search_hash,
            like: arguments.like.clone(),
            search: Search::new(space.clone(), *kind, *seed, limits.trials_max),
            limits: *limits,
            top_max: arguments.top_max,
            propagation: arguments.propagation,
        };
        let mut hub = Hub::new(config, arguments.adopted.as_ref(), journal.best()?.as_ref());
        hub.restore(entries);
        // A predecessor was told, and nobody tells it again.
        if arguments.until.is_some_and(|until| tokio::time::Instant::now() >= until) {
            hub.stop(StopReason::Time);
        }
        let resumed = hub.finished();
        arguments.directory.register(ROLE, &myself);
        let queues = arguments.peers.as_ref().map(|peers| {
            peers.network.register_actor(&role(&arguments.node), None, &myself, decode);
            myself.send_interval(BEAT, || HubActorMessage::Beat);
            PeerQueues::new(peers.network.clone(), role, KIND)
        });
        let recent = Recent::new(&arguments.node, arguments.alerts.clone());
        let mut state = HubState {
            arguments,
            hub,
            resumed,
            explorers: BTreeMap::new(),
            losses: BTreeMap::new(),
            queues,
            began: tokio::time::Instant::now(),
            took: None,
            ended_for: 0,
            told: None,
            judged: None,
            recent,
        };
        state.tell();
        state.end_if_over();
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<HubActorMessage>,
        message: HubActorMessage,
        state: &mut HubState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            HubActorMessage::Heard(Heard::Ready(slot, explorer)) => {
                state.on_ready(&myself, slot, explorer);
            }
            HubActorMessage::Heard(Heard::Evaluated(slot, number, outcome)) => {
                state.on_evaluated(&myself, slot, number, outcome);
            }
            HubActorMessage::Stored(result, entry) => {
                result?;
                state.losses.remove(&Loss::Trial(entry.finished.number));
                let effects = state.hub.on_stored(*entry);
                state.carry_out(effects);
                state.tell();
            }
            HubActorMessage::Time => state.hub.stop(StopReason::Time),
            HubActorMessage::Peer(from, message, receipt) => {
                let effects = state.hub.on_message(&from.0, *message);
                let is_news = effects.iter().any(|it| matches!(it, HubEffect::Keep(_)));
                state.carry_out(effects);
                if is_news {
                    state.tell();
                }
                drop(receipt);
            }
            HubActorMessage::Call(call, Some(reply)) => state.on_call(&myself, call, reply),
            // Whoever tells a question awaits nothing.
            HubActorMessage::Call(_, None) => {}
            HubActorMessage::Beat => state.on_beat(),
            HubActorMessage::Judged(finished, report) => {
                state.judged = Some((finished, Some(report)));
            }
            HubActorMessage::AdopterBegan => state.told = None,
        }
        state.offer();
        state.end_if_over();
        Ok(())
    }
}

fn decode(request: &mut Request) -> Result<HubActorMessage, String> {
    match request.kind.as_str() {
        KIND => {
            let message = wire::decode(&request.body).map_err(|error| error.to_string())?;
            let from = request.from.id.clone();
            Ok(HubActorMessage::Peer(from, Box::new(message), request.receipt.take()))
        }
        "json" => {
            let call = serde_json::from_slice(&request.body)
                .map_err(|error| format!("{error}; ask for \"Status\" or \"Report\""))?;
            Ok(HubActorMessage::Call(call, request.reply.take()))
        }
        other => Err(format!("messages of kind {other} are not understood here")),
    }
}

impl HubState {
    fn on_ready(
        &mut self,
        myself: &ActorRef<HubActorMessage>,
        slot: usize,
        explorer: ActorRef<ExplorerMessage>,
    ) {
        let before = self.explorers.insert(slot, (explorer, None));
        let Some((_, Some(task))) = before else { return };
        let lost = match &task {
            Task::Trial(lease) => Loss::Trial(lease.number),
            Task::Check(claim) => Loss::Check(claim.id()),
        };
        let losses = self.losses.entry(lost).or_default();
        *losses += 1;
        if *losses < LOSSES_MAX {
            return self.hub.on_lost(&task);
        }
        tracing::warn!(?lost, "given up: it has ended {LOSSES_MAX} explorers");
        self.conclude(myself, task, None);
    }

    fn on_evaluated(
        &mut self,
        myself: &ActorRef<HubActorMessage>,
        slot: usize,
        number: u64,
        outcome: Outcome,
    ) {
        let Some((_, at)) = self.explorers.get_mut(&slot) else { return };
        let Some(task) = at.take() else { return };
        let trial = outcome.map_err(|error| tracing::warn!(trial = number, error, "failed")).ok();
        self.conclude(myself, task, trial.map(|trial| *trial));
    }

    /// What a task came to. A trial counts once that is on the disk.
    fn conclude(&mut self, myself: &ActorRef<HubActorMessage>, task: Task, trial: Option<Trial>) {
        match task {
            Task::Check(claim) => {
                self.losses.remove(&Loss::Check(claim.id()));
                let effects = self.hub.on_checked(&claim, trial.as_ref());
                self.carry_out(effects);
                self.tell();
            }
            Task::Trial(lease) => {
                self.recent.note(trial.is_none(), self.arguments.clock.now());
                let parameters = self.arguments.space.parameters(&lease.point);
                let entry = self.hub.enter(Finished { number: lease.number, parameters, trial });
                let (stored, myself) = (entry.clone(), myself.clone());
                let done = move |result| {
                    // Whoever comes after this actor reads the journal.
                    let _ = myself.cast(HubActorMessage::Stored(result, Box::new(stored)));
                };
                self.arguments.journal.put(&entry, Box::new(done));
            }
        }
    }

    fn carry_out(&mut self, effects: Vec<HubEffect>) {
        for effect in effects {
            match effect {
                HubEffect::Send(to, message) => {
                    if let Some(queues) = &mut self.queues {
                        queues.send(NodeId(to), wire::encode(&message));
                    }
                }
                HubEffect::Keep(entries) => self.arguments.journal.keep(&entries),
                HubEffect::Flag(peer, trial) => tracing::warn!(
                    node = peer,
                    parameters = ?trial.parameters,
                    score = trial.score,
                    "this node says what does not come out again: nothing that it ran counts here, and \
                     nothing more is heard from it before this node starts anew"
                ),
                HubEffect::Better(_) => self.arguments.journal.put_best_soon(self.hub.best()),
            }
        }
    }

    /// Looks who is there, and says how far this node is.
    fn on_beat(&mut self) {
        let (Some(peers), Some(queues)) = (&self.arguments.peers, &mut self.queues) else { return };
        let linked: BTreeSet<NodeId> = peers.network.linked().into_iter().collect();
        let mut there: BTreeSet<String> = BTreeSet::new();
        for (name, nodes) in peers.network.roles() {
            let serves = |node: &&NodeId| name == role(&node.0) && linked.contains(*node);
            there.extend(nodes.iter().filter(serves).map(|node| node.0.clone()));
        }
        queues.retain(|node| there.contains(&node.0));
        let is_first = self.hub.searching().iter().all(|other| self.arguments.node < *other);
        self.ended_for = if self.took.is_some() { self.ended_for.saturating_add(1) } else { 0 };
        // By then the others have been heard of.
        let best = self.hub.best().best().map(Trial::id);
        if self.ended_for >= ENDED_BEATS && is_first && best.is_some() && best != self.told {
            // While it is being started anew, it is told with a later beat.
            if self.arguments.found.send(self.hub.best().top().to_vec()).is_ok() {
                self.told = best;
            }
        }
        let mut effects = self.hub.on_peers(there);
        effects.extend(self.hub.on_time());
        self.carry_out(effects);
    }

    fn on_call(&mut self, myself: &ActorRef<HubActorMessage>, call: HubCall, reply: Reply) {
        match call {
            HubCall::Status => {
                let mut answer = json!(self.progress());
                let of = |trial: &Trial| {
                    json!({
                        "score": trial.score, "parameters": trial.parameters, "node": trial.node,
                        "number": trial.number, "digest": trial.digest,
                        "risk_adjusted": trial.metrics.risk_adjusted,
                    })
                };
                answer["top"] = self.hub.best().top().iter().map(of).collect::<Json>();
                reply.answer(answer.to_string().into_bytes());
            }
            HubCall::Report => self.report(myself, reply),
        }
    }

    /// Answers with what was found, judged, or has it judged.
    fn report(&mut self, myself: &ActorRef<HubActorMessage>, reply: Reply) {
        let pending = |why: String| json!({ "pending": why }).to_string().into_bytes();
        let (Some(outcome), Some(peers)) = (self.outcome(), &self.arguments.peers) else {
            let SearchProgress { finished, trials_max, .. } = self.progress();
            return reply.answer(pending(format!("{finished} of {trials_max} trials")));
        };
        // Others may have told more since.
        let finished = self.hub.finished();
        match &self.judged {
            Some((of, Some(Ok(report)))) if *of == finished => {
                reply.answer(report.clone().into_bytes())
            }
            Some((of, Some(Err(reason)))) if *of == finished => reply.refuse(reason.clone()),
            Some((of, None)) if *of == finished => {
                reply.answer(pending("it is being judged".into()))
            }
            _ => {
                self.judged = Some((finished, None));
                let (judge, myself) = (Arc::clone(&peers.judge), myself.clone());
                // As long as some trials; nobody waits for it here.
                tokio::task::spawn_blocking(move || {
                    let report = judge(outcome).map(|report| report.to_json());
                    // It may have ended.
                    let _ = myself.cast(HubActorMessage::Judged(finished, report));
                });
                reply.answer(pending("it is being judged".into()));
            }
        }
    }

    /// Gives every idle explorer something to do.
    fn offer(&mut self) {
        for (explorer, at) in self.explorers.values_mut().filter(|(_, at)| at.is_none()) {
            let Some(task) = self.hub.take() else { return };
            let lease = match &task {
                Task::Trial(lease) => Lease {
                    number: lease.number,
                    parameters: self.arguments.space.parameters(&lease.point),
                },
                Task::Check(claim) => {
                    Lease { number: claim.number, parameters: claim.parameters.clone() }
                }
            };
            *at = Some(task);
            // One that has just ended is started anew, and what it was to have is given out again.
            let _ = explorer.cast(ExplorerMessage::Lease(lease));
        }
    }

    fn progress(&self) -> SearchProgress {
        let best = self.hub.best().best().map(|trial| (trial.score, trial.parameters.clone()));
        SearchProgress {
            finished: self.hub.finished(),
            resumed: self.resumed,
            own: self.hub.own(),
            trials_max: self.arguments.limits.trials_max,
            best,
            ended: self.hub.ended().filter(|_| self.took.is_some()).map(|it| it.name().to_owned()),
            failed: None,
            beside: self.hub.searching(),
            flagged: self.hub.flagged().clone(),
            recent: self.recent.counts(),
            alerts: self.recent.alerts().to_vec(),
        }
    }

    fn tell(&self) {
        // Nobody may look.
        let _ = self.arguments.progress.send(self.progress());
    }

    /// What it came to, if it is over.
    fn outcome(&self) -> Option<SearchOutcome> {
        let (stopped, seconds) = (self.hub.ended()?, self.took?);
        let trials = self.hub.counted().filter_map(|it| it.trial.clone()).collect::<Vec<Trial>>();
        Some(SearchOutcome {
            stopped,
            resumed: self.resumed,
            failed: self.hub.finished().saturating_sub(trials.len() as u64),
            trials,
            best: self.hub.best().clone(),
            flagged: self.hub.flagged().clone(),
            alerts: self.recent.alerts().to_vec(),
            seconds,
        })
    }

    fn end_if_over(&mut self) {
        if self.took.is_some() || self.hub.ended().is_none() {
            return;
        }
        self.took = Some(self.began.elapsed().as_secs_f64());
        self.arguments.journal.put_best_soon(self.hub.best());
        self.tell();
        if let Some(outcome) = self.outcome() {
            // Whoever waited has gone.
            let _ = self.arguments.ended.send(outcome);
        }
    }
}

/// An outlet to the hub, looked up each time.
pub(super) fn heard_by(directory: &Directory) -> Outlet<Heard> {
    Outlet::to_role(directory, ROLE, HubActorMessage::Heard)
}

/// Tells the hub that the adopter has begun: what it was told before is gone.
pub(super) fn adopter_began(directory: &Directory) {
    // A hub that is being started anew knows nothing of an adopter, and tells this one.
    let _ = directory.tell(ROLE, HubActorMessage::AdopterBegan);
}

/// Tells the hub that the time is up.
pub(super) fn end_by_time(directory: &Directory) {
    // It has ended already.
    let _ = directory.tell(ROLE, HubActorMessage::Time);
}

#[cfg(test)]
mod tests;
