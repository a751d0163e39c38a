//! A search for parameters by several nodes on this machine, for `optimize --nodes N`.
//!
//! ```text
//! search_nodes ─ starts ─▶ tickwright node …   with optimise.data, and no share in any pipeline
//!      └───────── asks ──▶ optimise/NODE: Status, then Report
//! ```
//!
//! A node that ends by itself is started again and goes on with what it had; meanwhile the others take its
//! trials over.

use std::collections::BTreeMap;
use std::time::Duration;

use tickwright_core::config::Config;
use tickwright_core::optimise::report::OptimiseReport;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::process::NodeProcess;
use super::{LocalCluster, LocalClusterArguments, LocalClusterError};
use crate::ctl::CtlTask;
use crate::optimise::{SearchProgress, role};

/// Between two looks at the nodes.
const LOOK: Duration = Duration::from_millis(200);

/// How often a node is started again.
const RESTARTS_MAX: u64 = 3;

/// What happens, for whoever watches.
#[derive(Clone, Debug)]
pub enum SearchNodesEvent {
    /// A line about the nodes.
    Line(String),
    /// So far they have come.
    Progress(SearchProgress),
}

/// The names of `count` nodes, and what they are there for in a pipeline: none has any.
pub(super) fn layout(count: u16) -> Vec<(String, &'static str)> {
    (1..=count).map(|number| (format!("search-{number}"), "control")).collect()
}

/// What each of `nodes` nodes is told beside what all nodes are; `data` is a list of files.
pub(super) fn settings(config: &Config, nodes: usize, data: String) -> Vec<(String, String)> {
    let mut settings = vec![("optimise.data".to_owned(), data)];
    if config.optimise.workers.is_none() {
        // They share the processors.
        let all = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        settings.push(("optimise.workers".to_owned(), all.div_ceil(nodes).to_string()));
    }
    settings
}

/// Searches with several nodes until they have found what they will. `show` is told what happens.
///
/// # Errors
///
/// [`LocalClusterError`]. What was found by then is kept, and the same command goes on from there.
pub async fn search_nodes(
    arguments: LocalClusterArguments,
    mut show: impl FnMut(SearchNodesEvent),
    stop: impl Future<Output = ()>,
) -> Result<OptimiseReport, LocalClusterError> {
    let mut cluster = LocalCluster::new(arguments)?;
    let ended = {
        let search = cluster.search(&mut show);
        tokio::pin!(search);
        tokio::select! {
            ended = &mut search => ended,
            () = stop => Err(LocalClusterError::Stopped),
        }
    };
    let show = &mut |event| {
        if let super::LocalClusterEvent::Line(line) = event {
            show(SearchNodesEvent::Line(line));
        }
    };
    cluster.end(show).await;
    ended
}

impl LocalCluster {
    async fn search(
        &mut self,
        show: &mut impl FnMut(SearchNodesEvent),
    ) -> Result<OptimiseReport, LocalClusterError> {
        for node in &mut self.nodes {
            let process = node.start()?;
            show(SearchNodesEvent::Line(format!("{} is process {process}", node.name)));
        }
        self.wait_joined().await?;
        let names: Vec<&str> = self.nodes.iter().map(|node| node.name.as_str()).collect();
        show(SearchNodesEvent::Line(format!("up: {}", names.join(", "))));
        let mut flagged: BTreeMap<String, u64> = BTreeMap::new();
        // How many of each node's were shown.
        let mut alerts: BTreeMap<String, usize> = BTreeMap::new();
        loop {
            sleep(LOOK).await;
            self.start_again(show)?;
            let answers = status(&self.nodes).await;
            for (name, progress) in &answers {
                if let Some(reason) = &progress.failed {
                    let (node, reason) = (name.clone(), reason.clone());
                    return Err(LocalClusterError::Failed { node, reason });
                }
                let before = alerts.insert(name.clone(), progress.alerts.len()).unwrap_or(0);
                for alert in progress.alerts.iter().skip(before) {
                    show(SearchNodesEvent::Line(format!("{name}: alert: {alert}")));
                }
                for (liar, count) in &progress.flagged {
                    let key = format!("{name} {liar}");
                    if flagged.insert(key, *count) != Some(*count) {
                        show(SearchNodesEvent::Line(format!(
                            "{name} has refused what {liar} says: it does not come out again"
                        )));
                    }
                }
            }
            let furthest = answers.values().max_by_key(|progress| progress.finished);
            if let Some(furthest) = furthest {
                show(SearchNodesEvent::Progress(furthest.clone()));
            }
            let over = answers.iter().find(|(_, progress)| progress.ended.is_some());
            if let Some(name) = over.map(|(name, _)| name.clone())
                && answers.values().all(|progress| progress.ended.is_some())
                && let Some(report) = self.judged(&name).await?
            {
                return Ok(report);
            }
        }
    }

    /// Starts whoever has ended by itself again.
    fn start_again(
        &mut self,
        show: &mut impl FnMut(SearchNodesEvent),
    ) -> Result<(), LocalClusterError> {
        for node in &mut self.nodes {
            let Some(status) = node.has_ended()? else { continue };
            let name = node.name.clone();
            if node.restarts() >= RESTARTS_MAX {
                let log = node.last_lines();
                return Err(LocalClusterError::Ended { node: name, status, log });
            }
            let process = node.start()?;
            show(SearchNodesEvent::Line(format!(
                "{name} has ended ({status}); it is started again as process {process}, and the \
                 others take its trials over meanwhile"
            )));
        }
        Ok(())
    }

    /// The report of a node; none, if it is not there yet.
    async fn judged(&self, name: &str) -> Result<Option<OptimiseReport>, LocalClusterError> {
        let Some(node) = self.nodes.iter().find(|node| node.name == name) else { return Ok(None) };
        // One that has just ended is asked again once it is back.
        let Ok(answer) = ask(node, "\"Report\"").await else { return Ok(None) };
        if answer.get("pending").is_some() {
            return Ok(None);
        }
        let report = serde_json::from_value(answer);
        let report = report.map_err(|error| LocalClusterError::Report {
            node: name.to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Some(report))
    }
}

/// How far each node is that answers.
pub(super) async fn status(nodes: &[NodeProcess]) -> BTreeMap<String, SearchProgress> {
    let mut asked = JoinSet::new();
    for node in nodes {
        let (name, asking) = (node.name.clone(), ask(node, "\"Status\""));
        asked.spawn(async move { (name, asking.await) });
    }
    let mut answers = BTreeMap::new();
    while let Some(Ok((name, answer))) = asked.join_next().await {
        let progress = answer.ok().and_then(|answer| serde_json::from_value(answer).ok());
        answers.extend(progress.map(|progress| (name, progress)));
    }
    answers
}

pub(super) fn ask(
    node: &NodeProcess,
    body: &str,
) -> impl Future<Output = Result<serde_json::Value, String>> + use<> {
    node.ask(CtlTask::Ask { role: role(&node.name), body: body.into() })
}
