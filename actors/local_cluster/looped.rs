//! The whole loop, for `demo --optimize`: the pipeline runs over the first half of its rows and is held there,
//! the nodes search on those rows meanwhile, what they find is adopted where the pipeline is held, and the
//! second half is traded with it.
//!
//! ```text
//! all nodes but one are up ─▶ hold at the middle ─▶ the last one ─▶ first half ─▶ held
//!                                      search ends ─▶ proposal? ─▶ confirm under the hold ─▶ release ─▶ second half
//! ```
//!
//! The hold is there before the pipeline begins, for that waits for all nodes; should this process end, the hold
//! ends with its lease.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tickwright_core::config::Config;
use tickwright_core::domain::Timestamp;
use tickwright_core::optimise::report::OptimiseReport;
use tokio::time::sleep;

use super::process::NodeProcess;
use super::search::{ask as ask_hub, status};
use super::{JOIN_PATIENCE, LOOK, LocalCluster, LocalClusterError, LocalClusterEvent};
use crate::ctl::CtlTask;
use crate::optimise::{AdoptionCall, adoption_role};

/// How long the pipeline stays held when nobody renews that.
const LEASE: Duration = Duration::from_secs(30);

/// Between two renewals.
const RENEWAL: Duration = Duration::from_secs(3);

/// How long it may take until what was found is proposed, once a search has ended, and until what was confirmed
/// is applied.
const ADOPTION_PATIENCE: Duration = Duration::from_secs(60);

/// How long judging what was found may take.
const JUDGE_PATIENCE: Duration = Duration::from_secs(300);

/// Between two lines about the search.
const LINES: Duration = Duration::from_secs(2);

/// Who confirms.
const BY: &str = "demo";

/// Where a run is held until what was found is adopted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Middle {
    /// Event time of the first row that nobody looks at.
    pub at: Timestamp,
    /// Share of the rows that come before.
    pub percent: u32,
}

/// How far the loop is.
#[derive(Debug)]
enum Stage {
    Searching,
    /// The search has ended.
    Proposing(Instant),
    /// What was proposed is to be applied.
    Applying(Instant, usize),
    Over,
}

/// The loop.
#[derive(Debug)]
pub(super) struct Loop {
    middle: Middle,
    hold: u64,
    stage: Stage,
    renewed: Instant,
    told: Option<Instant>,
}

impl Loop {
    pub(super) fn new(middle: Middle) -> Self {
        let renewed = Instant::now();
        Self { middle, hold: 0, stage: Stage::Searching, renewed, told: None }
    }
}

/// What each node of a loop is told, beside what nodes of any run are.
pub(super) fn settings(
    config: &Config,
    nodes: usize,
    middle: Middle,
    data: String,
) -> Vec<(String, String)> {
    let mut settings = super::search::settings(config, nodes, data);
    settings.push(("optimise.data_percent".to_owned(), middle.percent.to_string()));
    settings.push(("optimise.adopt".to_owned(), "confirm".to_owned()));
    settings
}

fn parameters(
    node: &NodeProcess,
    call: &Value,
) -> impl Future<Output = Result<Value, String>> + use<> {
    node.ask(CtlTask::Ask { role: "parameters".into(), body: call.to_string() })
}

impl LocalCluster {
    /// Holds the pipeline before it can begin.
    pub(super) async fn hold(&mut self) -> Result<(), LocalClusterError> {
        let Some(at) = self.looped.as_ref().map(|it| it.middle.at.as_nanos()) else {
            return Ok(());
        };
        let lease_ms = u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX);
        let call =
            json!({ "HoldPipeline": { "at_ns": at, "lease_ms": lease_ms, "is_unbegun": true } });
        let deadline = Instant::now() + JOIN_PATIENCE;
        loop {
            self.check_running()?;
            match parameters(&self.nodes[0], &call).await {
                Ok(answer) => {
                    if let (Some(looped), Some(number)) =
                        (&mut self.looped, answer["number"].as_u64())
                    {
                        (looped.hold, looped.renewed) = (number, Instant::now());
                    }
                    return Ok(());
                }
                Err(reason) if Instant::now() >= deadline => {
                    let told = format!("the pipeline cannot be held: {reason}");
                    return Err(LocalClusterError::Apart(told));
                }
                Err(_) => sleep(LOOK).await,
            }
        }
    }

    /// Asks one node after the other until one answers.
    async fn ask_any(&self, call: &Value) -> Result<Value, String> {
        let mut last = Err("no node is there".to_owned());
        for (place, node) in self.nodes.iter().enumerate() {
            if self.is_harmed(place) {
                continue;
            }
            last = parameters(node, call).await;
            if last.is_ok() {
                return last;
            }
        }
        last
    }

    /// Goes on with the loop, if there is one.
    pub(super) async fn go_on(
        &mut self,
        show: &mut impl FnMut(LocalClusterEvent),
    ) -> Result<(), LocalClusterError> {
        let Some(looped) = &self.looped else { return Ok(()) };
        if matches!(looped.stage, Stage::Over) {
            return Ok(());
        }
        if looped.renewed.elapsed() >= RENEWAL {
            let renew = json!({ "RenewHold": { "number": looped.hold } });
            if let Err(reason) = self.ask_any(&renew).await {
                show(LocalClusterEvent::Line(format!("the hold is not renewed: {reason}")));
            }
        }
        let mut line = |line: String| show(LocalClusterEvent::Line(line));
        let next = match self.looped.as_ref().map(|it| &it.stage) {
            Some(Stage::Searching) => self.searching(&mut line).await?,
            Some(&Stage::Proposing(since)) => self.proposing(since, &mut line).await,
            Some(&Stage::Applying(since, place)) => self.applying(since, place, &mut line).await,
            Some(Stage::Over) | None => None,
        };
        if matches!(next, Some(Stage::Over)) {
            self.release(&mut line).await;
        }
        if let Some(looped) = &mut self.looped {
            if looped.renewed.elapsed() >= RENEWAL {
                looped.renewed = Instant::now();
            }
            looped.stage = next.unwrap_or(std::mem::replace(&mut looped.stage, Stage::Over));
        }
        Ok(())
    }

    async fn searching(
        &mut self,
        line: &mut impl FnMut(String),
    ) -> Result<Option<Stage>, LocalClusterError> {
        let answers = status(&self.nodes).await;
        if let Some((node, reason)) =
            answers.iter().find_map(|(node, it)| Some((node.clone(), it.failed.clone()?)))
        {
            return Err(LocalClusterError::Failed { node, reason });
        }
        let furthest = answers.values().max_by_key(|progress| progress.finished);
        let is_due =
            self.looped.as_ref().is_some_and(|it| it.told.is_none_or(|at| at.elapsed() > LINES));
        if let Some(progress) = furthest.filter(|it| is_due && it.finished > 0) {
            let best = progress.best.as_ref().map_or(0.0, |(score, _)| *score);
            line(format!(
                "search on the first half: {} of {} trials, best score {best:.4}",
                progress.finished, progress.trials_max
            ));
            if let Some(looped) = &mut self.looped {
                looped.told = Some(Instant::now());
            }
        }
        let is_over = !answers.is_empty() && answers.values().all(|it| it.ended.is_some());
        Ok(is_over.then(|| Stage::Proposing(Instant::now())))
    }

    /// Looks for what is proposed, and confirms it.
    async fn proposing(&self, since: Instant, line: &mut impl FnMut(String)) -> Option<Stage> {
        for (place, node) in self.nodes.iter().enumerate() {
            let Ok(adoption) = ask_adoption(node, &AdoptionCall::Status).await else { continue };
            if let Some(end) = adoption["history"].as_array().and_then(|ends| ends.last()) {
                line(format!("nothing is adopted: {}", end["why"].as_str().unwrap_or_default()));
                return Some(Stage::Over);
            }
            let proposal = &adoption["proposal"];
            if proposal.is_null() {
                continue;
            }
            // One of another version says it in another way; the report has it all the same.
            let found: Vec<(String, f64)> =
                serde_json::from_value(proposal["trial"]["parameters"].clone()).unwrap_or_default();
            line(format!(
                "found {}: score {:.4} on the rows it was chosen on, those in force {:.4}",
                crate::report::parameters(&found),
                proposal["trial"]["score"].as_f64().unwrap_or(0.0),
                proposal["current_score"].as_f64().unwrap_or(0.0),
            ));
            let hold = self.looped.as_ref().map(|it| it.hold);
            let confirm = AdoptionCall::Confirm { by: BY.into(), hold };
            return match ask_adoption(node, &confirm).await {
                Ok(_) => Some(Stage::Applying(Instant::now(), place)),
                Err(reason) => {
                    line(format!("it cannot be confirmed: {reason}"));
                    Some(Stage::Over)
                }
            };
        }
        if since.elapsed() < ADOPTION_PATIENCE {
            return None;
        }
        line("nothing was proposed".into());
        Some(Stage::Over)
    }

    /// Waits until what was confirmed is applied.
    async fn applying(
        &self,
        since: Instant,
        place: usize,
        line: &mut impl FnMut(String),
    ) -> Option<Stage> {
        if let Ok(adoption) = ask_adoption(&self.nodes[place], &AdoptionCall::Status).await {
            if adoption["adopted"].as_u64().unwrap_or(0) > 0 {
                line("adopted on every node from the middle on".into());
                return Some(Stage::Over);
            }
            if let Some(end) = adoption["history"].as_array().and_then(|ends| ends.last()) {
                line(format!("it is not adopted: {}", end["why"].as_str().unwrap_or_default()));
                return Some(Stage::Over);
            }
        }
        if since.elapsed() < ADOPTION_PATIENCE {
            return None;
        }
        line("it is not known whether it was adopted; the report says so".into());
        Some(Stage::Over)
    }

    async fn release(&self, line: &mut impl FnMut(String)) {
        let Some(number) = self.looped.as_ref().map(|it| it.hold) else { return };
        if let Err(reason) = self.ask_any(&json!({ "ReleaseHold": { "number": number } })).await {
            line(format!("the hold ends with its lease of {LEASE:?}: {reason}"));
        }
    }

    /// What the search found, judged on the second half as well.
    pub(super) async fn found(&self) -> Result<Option<OptimiseReport>, LocalClusterError> {
        if self.looped.is_none() {
            return Ok(None);
        }
        let deadline = Instant::now() + JUDGE_PATIENCE;
        let mut last = String::new();
        while Instant::now() < deadline {
            for node in &self.nodes {
                match ask_hub(node, "\"Report\"").await {
                    Ok(answer) if answer.get("pending").is_none() => {
                        let report = serde_json::from_value(answer);
                        let wrong = |error: serde_json::Error| LocalClusterError::Report {
                            node: node.name.clone(),
                            reason: error.to_string(),
                        };
                        return report.map(Some).map_err(wrong);
                    }
                    Ok(answer) => {
                        last = answer["pending"].to_string();
                        break;
                    }
                    Err(reason) => last = reason,
                }
            }
            sleep(LOOK).await;
        }
        Err(LocalClusterError::Report { node: "the search".into(), reason: last })
    }
}

fn ask_adoption(
    node: &NodeProcess,
    call: &AdoptionCall,
) -> impl Future<Output = Result<Value, String>> + use<> {
    let body = json!(call).to_string();
    node.ask(CtlTask::Ask { role: adoption_role(&node.name), body })
}
