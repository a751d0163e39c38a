//! Starts children in order, restarts them as [`Policy`] decides, stops them in reverse.
//!
//! A child is a recipe, not an instance: [`ChildSpec`] builds it afresh each time, gathering its
//! configuration and replaying its journal, because a restarted `ractor` actor has a new mailbox and
//! keeps nothing.
//!
//! A child that cannot start counts as one that crashed. At boot that fails the supervisor, so a
//! node with a bad configuration stops at once instead of retrying it.
//!
//! A child that has stored something since its last crash is getting on: its earlier crashes are
//! forgiven. What it has stored is counted by whoever built it, in [`ChildSpec::progress`].

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, Signal, SpawnErr, SupervisionEvent};
use ractor_cluster::RactorMessage;

use super::Clock;
use tickwright_core::supervision::{Child, Decision, Exit, Policy, PolicyConfig, Restart};
pub use tree::{Branch, KillError};
use tree::{Member, Trees};

/// How to build one child.
pub struct ChildSpec {
    name: String,
    restart: Restart,
    /// Counts what the child, and those below it, have stored.
    progress: Vec<Arc<AtomicU64>>,
    /// How many levels of supervisors are below: each needs its own time to stop.
    depth: u32,
    start: Box<StartFn>,
}

/// What the supervisors of a node have seen, for its report.
#[derive(Clone, Debug, Default)]
pub struct SupervisionStatistics {
    restarts: Arc<AtomicU64>,
    /// By the child whose end was the reason. One entry per child.
    by_child: Arc<Mutex<BTreeMap<String, u64>>>,
    /// Why the tree gave up, the innermost reason first.
    failures: Arc<Mutex<Vec<String>>>,
    trees: Trees,
}

impl SupervisionStatistics {
    /// Children restarted so far.
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// Restarts by the child whose end was the reason.
    pub fn restarts_by_child(&self) -> BTreeMap<String, u64> {
        self.by_child.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The trees as they stand.
    pub fn branches(&self) -> Vec<Branch> {
        self.trees.branches(&self.restarts_by_child())
    }

    /// Ends the actor called `name` as a crash would; its supervisor sees to it.
    ///
    /// # Errors
    ///
    /// [`KillError`], when there is none, or it supervises others.
    pub fn kill(&self, name: &str) -> Result<(), KillError> {
        self.trees.kill(name)
    }

    fn note_restart(&self, child: &str) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
        let mut by_child = self.by_child.lock().unwrap_or_else(PoisonError::into_inner);
        *by_child.entry(child.to_owned()).or_default() += 1;
    }

    /// The last reasons for which children ended, oldest first; at most 16.
    pub fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note_failure(&self, reason: String) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() == 16 {
            failures.remove(0);
        }
        failures.push(reason);
    }
}

type StartFn = dyn Fn(ActorCell) -> BoxFuture<Result<ActorCell, SpawnErr>> + Send + Sync;
type BoxFuture<T> = std::pin::Pin<Box<dyn Future<Output = T> + Send>>;

impl ChildSpec {
    /// A child called `name`, built by `start`, which is handed the supervisor to link to.
    pub fn new<F, Fut>(name: impl Into<String>, restart: Restart, start: F) -> Self
    where
        F: Fn(ActorCell) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<ActorCell, SpawnErr>> + Send + 'static,
    {
        let start = Box::new(move |parent| Box::pin(start(parent)) as BoxFuture<_>);
        Self { name: name.into(), restart, progress: Vec::new(), depth: 0, start }
    }

    /// With a counter of what the child has stored.
    #[must_use]
    pub fn with_progress(mut self, progress: impl IntoIterator<Item = Arc<AtomicU64>>) -> Self {
        self.progress.extend(progress);
        self
    }

    /// A supervisor as a child: a subtree with a policy of its own. `children` builds its children anew
    /// whenever the subtree restarts.
    pub fn subtree(
        name: impl Into<String>,
        policy: PolicyConfig,
        clock: Clock,
        statistics: SupervisionStatistics,
        children: impl Fn() -> Vec<Self> + Send + Sync + 'static,
    ) -> Self {
        let name = name.into();
        let sample = children();
        let progress: Vec<_> =
            sample.iter().flat_map(|child| child.progress.iter().map(Arc::clone)).collect();
        let depth = 1 + sample.iter().map(|child| child.depth).max().unwrap_or(0);
        let path = name.clone();
        let start = move |parent: ActorCell| {
            let arguments = SupervisorArguments {
                name: path.clone(),
                policy,
                children: children(),
                clock: clock.clone(),
                statistics: statistics.clone(),
            };
            async move { Ok(parent.spawn_linked(None, Supervisor, arguments).await?.0.get_cell()) }
        };
        let mut spec = Self::new(name, Restart::Permanent, start).with_progress(progress);
        spec.depth = depth;
        spec
    }
}

impl ChildSpec {
    /// What the child and those below it have stored so far.
    fn stored(&self) -> u64 {
        self.progress.iter().map(|progress| progress.load(Ordering::Relaxed)).sum()
    }
}

impl fmt::Debug for ChildSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildSpec").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The supervising actor.
#[derive(Debug)]
pub struct Supervisor;

/// What a supervisor starts with.
#[derive(Debug)]
pub struct SupervisorArguments {
    /// What the subtree is called in logs and messages.
    pub name: String,
    /// Who restarts together, how often, how soon.
    pub policy: PolicyConfig,
    /// The children, in start order.
    pub children: Vec<ChildSpec>,
    /// Dates the restarts.
    pub clock: Clock,
    /// Where restarts are counted.
    pub statistics: SupervisionStatistics,
}

/// A supervisor talks only to itself.
#[derive(Debug, RactorMessage)]
pub enum SupervisorMessage {
    /// The delay before a restart has passed.
    StartDue(Vec<(Child, Round)>),
}

/// Counts the restarts planned for a child, so that a newer plan cancels an older one.
type Round = u64;

/// The children and what became of them.
#[derive(Debug)]
pub struct SupervisorState {
    name: String,
    config: PolicyConfig,
    policy: Policy,
    children: Vec<Slot>,
    clock: Clock,
    statistics: SupervisionStatistics,
    /// The state of a splitmix64 generator, for jitter.
    chance: u64,
}

#[derive(Debug)]
struct Slot {
    spec: ChildSpec,
    running: Option<ActorCell>,
    round: Round,
    /// What had been stored at the last crash.
    progress: u64,
}

impl Actor for Supervisor {
    type Msg = SupervisorMessage;
    type State = SupervisorState;
    type Arguments = SupervisorArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: SupervisorArguments,
    ) -> Result<SupervisorState, ActorProcessingErr> {
        let SupervisorArguments { name, policy, children, clock, statistics } = arguments;
        let restarts = children.iter().map(|child| child.restart).collect();
        let mut slots = Vec::with_capacity(children.len());
        for spec in children {
            let started = (spec.start)(myself.get_cell()).await;
            let actor =
                started.map_err(|error| format!("`{}` cannot start: {error}", spec.name))?;
            let progress = spec.stored();
            slots.push(Slot { spec, running: Some(actor), round: 0, progress });
        }
        let chance = clock.now().as_nanos();
        let (config, policy) = (policy, Policy::new(policy, restarts));
        let state =
            SupervisorState { name, config, policy, children: slots, clock, statistics, chance };
        state.publish();
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: SupervisorMessage,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SupervisorMessage::StartDue(children) => {
                state.start(&myself, children).await?;
                state.publish();
                Ok(())
            }
        }
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        let (actor, exit, reason) = match event {
            SupervisionEvent::ActorFailed(actor, error) => {
                (actor, Exit::Crashed, error.to_string())
            }
            SupervisionEvent::ActorTerminated(actor, last_state, reason) => {
                let reason = reason.unwrap_or_default();
                // Only the reason tells a kill from a stop; a cancelled task leaves no state.
                let killed = reason == Signal::Kill.to_string() || last_state.is_none();
                (actor, if killed { Exit::Crashed } else { Exit::Normal }, reason)
            }
            SupervisionEvent::ActorStarted(_)
            | SupervisionEvent::ProcessGroupChanged(_)
            | SupervisionEvent::PidLifecycleEvent(_) => return Ok(()),
        };
        // A child this supervisor stopped itself has left its slot already.
        let Some(child) = state.child(&actor) else { return Ok(()) };
        state.children[child].running = None;
        let name = &state.children[child].spec.name;
        tracing::debug!(supervisor = state.name, child = name, ?exit, reason, "child ended");
        if exit == Exit::Crashed {
            state.statistics.note_failure(format!("{name}: {reason}"));
        }
        state.publish();
        state.on_exit(&myself, child, exit).await?;
        state.publish();
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<Self::Msg>,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        for child in (0..state.children.len()).rev() {
            state.stop(child).await;
        }
        state.statistics.trees.remove(&state.name);
        Ok(())
    }
}

impl SupervisorState {
    /// Shows who runs.
    fn publish(&self) {
        let member =
            |slot: &Slot| Member { name: slot.spec.name.clone(), actor: slot.running.clone() };
        let children = self.children.iter().map(member).collect();
        self.statistics.trees.publish(&self.name, self.config.strategy, children);
    }

    fn child(&self, actor: &ActorCell) -> Option<Child> {
        self.children.iter().position(|slot| slot.running.as_ref() == Some(actor))
    }

    async fn on_exit(
        &mut self,
        myself: &ActorRef<SupervisorMessage>,
        child: Child,
        exit: Exit,
    ) -> Result<(), ActorProcessingErr> {
        let slot = &mut self.children[child];
        let stored = slot.spec.stored();
        let progressed = stored > slot.progress;
        slot.progress = stored;
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let chance = (self.chance ^ (self.chance >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32;
        let now = self.clock.now();
        let (stop, start, after) = match self.policy.on_exit(child, exit, progressed, now, chance) {
            Decision::Ignore => return Ok(()),
            Decision::Escalate { restarts } => {
                let name = &self.children[child].spec.name;
                let window = self.config.window;
                let reason = format!(
                    "`{}` gave up: `{name}` ended {restarts} times within {window:?} without progress",
                    self.name
                );
                self.statistics.note_failure(reason.clone());
                return Err(reason.into());
            }
            Decision::Restart { stop, start, after } => (stop, start, after),
        };
        for child in stop {
            self.stop(child).await;
        }
        self.statistics.note_restart(&self.children[child].spec.name);
        let mut due = Vec::with_capacity(start.len());
        for child in start {
            self.children[child].round += 1;
            due.push((child, self.children[child].round));
        }
        myself.send_after(after, move || SupervisorMessage::StartDue(due));
        Ok(())
    }

    async fn start(
        &mut self,
        myself: &ActorRef<SupervisorMessage>,
        due: Vec<(Child, Round)>,
    ) -> Result<(), ActorProcessingErr> {
        for (child, round) in due {
            let slot = &mut self.children[child];
            if slot.round != round {
                continue;
            }
            match (slot.spec.start)(myself.get_cell()).await {
                Ok(actor) => {
                    tracing::debug!(child = slot.spec.name, round, "child restarted");
                    slot.running = Some(actor);
                }
                Err(error) => {
                    tracing::warn!(child = slot.spec.name, round, %error, "child did not start");
                    let reason = format!("{}: {error}", slot.spec.name);
                    self.statistics.note_failure(reason);
                    return self.on_exit(myself, child, Exit::Crashed).await;
                }
            }
        }
        Ok(())
    }

    /// Stops `child` if it runs: after the messages it has accepted, else after the one it is at,
    /// else at once.
    async fn stop(&mut self, child: Child) {
        let slot = &mut self.children[child];
        let Some(actor) = slot.running.take() else { return };
        // A supervisor below must have time for all of its own children.
        let times = 1 + 4 * slot.spec.depth;
        let (drain, stop) = (self.config.drain * times, self.config.stop * times);
        if actor.drain_and_wait(Some(drain)).await.is_ok() {
            return;
        }
        if actor.stop_and_wait(None, Some(stop)).await.is_err() {
            tracing::warn!(child = slot.spec.name, "child killed");
            actor.kill();
            let _ = actor.wait(Some(Duration::from_secs(1))).await;
        }
    }
}

#[cfg(test)]
mod tests;
mod tree;
