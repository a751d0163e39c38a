//! How a unit comes from one node to another while both are there, so that nobody waits for it.
//!
//! ```text
//! ledger: it is B's now ─▶ B asks A ─▶ A puts the last checkpoint, and goes on with the rows
//!                          B brings the checkpoints, begins, and is found ─▶ A ends it
//! ```
//!
//! For a moment both run it. Whoever has heard of B's life of it refuses what A's says, and both say the
//! same under the same keys, so the overlap changes nothing but the pause. If A does not answer, because it
//! is gone or has ended the unit, B begins with what there is.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tickwright_core::cluster::{Owners, Unit};
use tokio::task::JoinSet;

use super::{Worker, role};
use crate::cluster::Message;
use crate::node::Units;
use crate::node::units::HAND_OVER;

/// How long the other node may take to put its last checkpoint. It is at work meanwhile.
const ASK_PATIENCE: Duration = Duration::from_secs(2);

/// How long a unit runs here that another node was given, and does not begin.
const OVERLAP_MAX: Duration = Duration::from_secs(10);

/// Units that another node was given and has not begun, and until when they run here. One entry per unit.
#[derive(Debug, Default)]
pub(super) struct Leaving(BTreeMap<Unit, Instant>);

impl Leaving {
    pub(super) fn contains(&self, unit: Unit) -> bool {
        self.0.contains_key(&unit)
    }

    pub(super) fn remove(&mut self, unit: Unit) {
        self.0.remove(&unit);
    }
}

impl Worker {
    /// Whether `unit`, which runs here since `epoch` and is not this node's any more, runs on until whoever
    /// has it has begun it.
    pub(super) fn lingers(&mut self, unit: Unit, epoch: u64, owners: &Owners) -> bool {
        let own = &self.network.own().id;
        let next = owners.get(&unit).filter(|&(node, later)| node != own && *later > epoch);
        let is_up = next.is_some_and(|(node, _)| self.network.is_up(&role(node)));
        let lingers = is_up && self.units.may_overlap(unit);
        if lingers {
            self.leaving.0.entry(unit).or_insert_with(|| Instant::now() + OVERLAP_MAX);
        }
        lingers
    }

    /// Ends what other nodes have begun by now.
    pub(super) async fn end_left(&mut self) {
        let own = &self.network.own().id;
        let is_elsewhere = |unit: Unit| {
            let route = self.network.route(&unit.to_string());
            route.is_some_and(|route| route.node != *own)
        };
        let now = Instant::now();
        let over =
            self.leaving.0.iter().filter(|&(&unit, &until)| now >= until || is_elsewhere(unit));
        let over: Vec<Unit> = over.map(|(&unit, _)| unit).collect();
        for unit in over.into_iter().rev() {
            self.leaving.remove(unit);
            self.units.stop(unit).await;
            self.retries.on_lost(unit);
        }
    }

    /// The units that are this node's and run here.
    pub(super) fn kept(&self) -> impl Iterator<Item = Unit> {
        self.units.here().filter(|&unit| !self.leaving.contains(unit))
    }

    /// Has the nodes that run `new` put their last checkpoints, as far as they do so soon.
    pub(super) async fn ask_for(&self, new: &[(Unit, u64)]) {
        let mut asked = JoinSet::new();
        for &(unit, own) in new.iter().filter(|(unit, _)| self.units.may_overlap(*unit)) {
            let name = unit.to_string();
            // One that has it since is not to give it up for what this node, which was cut off, only hears of now.
            let route = self.network.route(&name);
            let route = route.filter(|route| route.is_remote() && route.epoch < own);
            // Whoever is suspect may not answer at all, and must not hold up whoever takes its place.
            let Some(route) = route.filter(|_| self.network.is_up(&name)) else { continue };
            let network = self.network.clone();
            asked.spawn(async move {
                let (epoch, body) = (route.epoch, &own.to_le_bytes()[..]);
                let message =
                    Message { role: &name, kind: HAND_OVER, epoch, body, is_urgent: false };
                let answer = network.ask(Some(&route.node), message, ASK_PATIENCE).await;
                if let Err(error) = answer {
                    tracing::debug!(%unit, node = %route.node, %error, "it is not handed over");
                }
            });
        }
        while asked.join_next().await.is_some() {}
    }

    /// Brings here what other nodes keep of units that are about to begin here. Returns those that may.
    pub(super) async fn bring(&mut self, new: Vec<(Unit, u64)>) -> Vec<(Unit, u64)> {
        // Exec's checkpoints first: who has it still may put another, and the steps that led to one that was
        // brought must be in the log.
        let is_exec = |&(unit, _): &(Unit, u64)| unit == Unit::Exec;
        let exec: Vec<(Unit, u64)> = new.iter().copied().filter(is_exec).collect();
        self.gather(&exec).await;
        let new = self.bring_logs(new).await;
        let others: Vec<(Unit, u64)> = new.iter().copied().filter(|each| !is_exec(each)).collect();
        self.gather(&others).await;
        self.learn_changes(new).await
    }

    /// Brings here what cannot be derived again of units that are about to begin here. Returns those of
    /// which it is whole.
    async fn bring_logs(&mut self, new: Vec<(Unit, u64)>) -> Vec<(Unit, u64)> {
        let mut whole = Vec::new();
        for (unit, epoch) in new {
            let brought = match self.units.log_tree(unit) {
                Some(tree) => self.copies.gather_log(unit, epoch, &tree).await,
                None => Ok(()),
            };
            match brought {
                Ok(()) => whole.push((unit, epoch)),
                Err(reason) => {
                    self.on_failed(unit, epoch, format!("{unit} cannot begin: {reason}"))
                }
            }
        }
        whole
    }

    /// Brings here the checkpoints that other nodes keep of units that are about to begin here.
    async fn gather(&mut self, new: &[(Unit, u64)]) {
        let trees = |unit: Unit| Units::checkpoint_trees(unit);
        let all: Vec<String> = new.iter().flat_map(|&(unit, _)| trees(unit)).collect();
        if all.is_empty() {
            return;
        }
        self.copies.gather(new.to_vec(), all).await;
        for &(unit, _) in new {
            self.went_on.remove(&unit);
            if let Some(key) = self.copies.newest(trees(unit)).await {
                tracing::info!(%unit, %key, "goes on from a checkpoint");
                self.went_on.insert(unit, key);
            }
        }
    }
}
