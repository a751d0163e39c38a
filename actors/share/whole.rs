//! The end of a run, where exec is: the report of all nodes together, and the word that it is over.
//!
//! A node that slept while exec was given to another may come to the end as well, and must not speak for the
//! run: so it is for the ledger to say, at the end, whose exec is.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tickwright_core::backtest::report::RunReport;
use tickwright_core::cluster::Unit;
use tickwright_core::domain::NodeId;
use tokio::time::sleep;

use super::over::{Telling, partners};
use super::{AGAIN, ASK_PATIENCE, ShareEvent, Worker, role};
use crate::cluster::Message;
use crate::ledger::owners;
use crate::node::units::PART;
use crate::node::{NodePart, UnitPart};
use crate::outcome;
use crate::run::{Outcome, REPORT_PATIENCE, mark_finished};

/// How long one attempt waits for a unit, or for the ledger: this node may have to take units over meanwhile.
const ATTEMPT: Duration = Duration::from_secs(1);

impl Worker {
    /// Exec, which is here, has handled everything.
    pub(super) async fn on_finished(&mut self) {
        self.ending = Some(Instant::now() + REPORT_PATIENCE);
        self.conclude().await;
    }

    /// Ends the run, if exec has come to its end here, and is still this node's.
    pub(super) async fn conclude(&mut self) {
        let Some(until) = self.ending else { return };
        if !self.kept().any(|unit| unit == Unit::Exec) {
            // Whoever has it comes to the end itself.
            self.ending = None;
            return;
        }
        match self.whole_report().await {
            Ok(Some(report)) => {
                if let Err(reason) = self.end_changes().await {
                    if Instant::now() < until {
                        tracing::debug!(reason, "the run does not end yet");
                        return;
                    }
                    // Whoever begins another run then finds the changes of this one.
                    tracing::warn!(reason, "the run ends all the same");
                }
                self.ending = None;
                self.report = Some(Box::new(report));
                if let Err(reason) = self.mark_finished() {
                    self.fail(reason);
                }
                self.telling = Some(Telling::start(self.network.clone(), self.run).await);
                self.tell(ShareEvent::Finished);
            }
            Ok(None) => self.ending = None,
            Err(reason) if Instant::now() >= until => {
                self.ending = None;
                self.fail(format!("the run is over, but {reason} within {REPORT_PATIENCE:?}"));
            }
            Err(reason) => tracing::debug!(reason, "the report is not complete yet"),
        }
    }

    /// Whether exec, which runs here, is this node's still.
    async fn has_exec(&self) -> Result<bool, String> {
        if self.is_fixed {
            return Ok(true);
        }
        let own = (self.network.own().id.clone(), self.exec_epoch());
        let found = self.ledger.read(ATTEMPT, |ledger| owners(ledger).get(&Unit::Exec).cloned());
        match found.await {
            Ok(owner) => Ok(owner == Some(own)),
            Err(error) => Err(format!("it could not be learnt whose exec is: {error}")),
        }
    }

    fn exec_epoch(&self) -> u64 {
        let exec = self.units.here_since().find(|&(unit, _)| unit == Unit::Exec);
        exec.map_or(0, |(_, epoch)| epoch)
    }

    /// The run is over, and the directory of this node says so.
    pub(super) fn mark_finished(&self) -> Result<(), String> {
        let marked = mark_finished(&self.store).map_err(|error| error.to_string());
        self.is_over.store(true, Ordering::Relaxed);
        marked
    }

    /// The report of all nodes together; none, if exec is another node's by now.
    async fn whole_report(&self) -> Result<Option<RunReport>, String> {
        let deadline = Instant::now() + ATTEMPT;
        let mut parts = Vec::new();
        for unit in self.units.all().filter(|&unit| unit != Unit::Exec) {
            parts.push(self.unit_part(unit, deadline).await?);
        }
        let report = self.units.report(parts.into_iter(), ATTEMPT).await?;
        let own = self.network.own().id.clone();
        let mut nodes = BTreeMap::from([(own, self.units.part())]);
        for node in partners(&self.network) {
            match self.ask::<NodePart>(&role(&node), Some(&node), 0).await {
                Ok(part) => drop(nodes.insert(node, part)),
                // Its rows have been counted; only what it has used is unknown.
                Err(error) => tracing::warn!(%node, error, "it does not say what it has used"),
            }
        }
        let mut outcome = Outcome {
            report,
            duration: self.begun.elapsed(),
            resumed: self.resumed,
            set_aside: self.set_aside.clone(),
            unrecorded: None,
            resumed_rows: 0,
            restarts: 0,
            restarts_by_child: BTreeMap::new(),
            fired: self.chaos.fired().into_iter().map(|(spec, _)| (spec, 0)).collect(),
            rss_by_node: BTreeMap::new(),
        };
        for (node, part) in nodes {
            outcome.rss_by_node.insert(node.0, part.peak_rss_bytes);
            for (child, restarts) in part.restarts_by_child {
                outcome.restarts += restarts;
                *outcome.restarts_by_child.entry(child).or_default() += restarts;
            }
            for ((_, count), (_, fired)) in outcome.fired.iter_mut().zip(part.fired) {
                *count += fired;
            }
        }
        Ok(self.has_exec().await?.then(|| outcome::report(&outcome, &self.config)))
    }

    /// What `unit` has counted, once it has come to its end. Exec may finish before a stage that was
    /// restarted has caught up with what it had sent before.
    async fn unit_part(&self, unit: Unit, deadline: Instant) -> Result<UnitPart, String> {
        let role = unit.to_string();
        let mut last = "nobody has it".to_owned();
        while Instant::now() < deadline {
            if let Some(route) = self.network.route(&role) {
                match self.ask::<UnitPart>(&role, Some(&route.node), route.epoch).await {
                    Ok(part) if part.is_complete() => return Ok(part),
                    Ok(_) => last = "it has not come to its end".to_owned(),
                    Err(error) => last = error,
                }
            }
            sleep(AGAIN).await;
        }
        Err(format!("`{role}` gave no account of itself ({last})"))
    }

    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        role: &str,
        node: Option<&NodeId>,
        epoch: u64,
    ) -> Result<T, String> {
        let message = Message { role, kind: PART, epoch, body: &[], is_urgent: false };
        let answer = self.network.ask(node, message, ASK_PATIENCE).await;
        let answer = answer.map_err(|error| error.to_string())?;
        let config = bincode::config::standard().with_limit::<{ 64 << 20 }>();
        let decoded = bincode::serde::decode_from_slice(&answer, config);
        decoded.map(|(part, _)| part).map_err(|error| error.to_string())
    }
}
