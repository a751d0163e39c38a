//! The search of a node of a cluster, beside its share of the pipeline.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;
use tickwright_core::config::{Config, Kinds};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::search::{Prepared, Running, SearchEvent};
use super::{OptimiseArguments, OptimiseError, SearchProgress, role};
use crate::cluster::{Network, Request};
use crate::kit::SupervisionStatistics;

/// How the search of a node ended.
#[derive(Debug)]
pub enum OptimiseEnd {
    /// It has something to say and goes on.
    Line(String),
    /// It is over; the hub answers on.
    Over {
        /// Why.
        reason: String,
        /// The best score, and what it is of.
        best: Option<(f64, Vec<(String, f64)>)>,
    },
    /// It cannot go on.
    Failed(String),
}

/// The search of a node of a cluster.
pub struct OptimiseService {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl fmt::Debug for OptimiseService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OptimiseService").finish_non_exhaustive()
    }
}

impl OptimiseService {
    /// Starts to search over `optimise.data`; none, if that names nothing. `show_trees` is given what its
    /// supervisor counts, once there is one.
    pub fn start(
        config: &Config,
        kinds: &Kinds,
        network: Network,
        show_trees: impl FnOnce(SupervisionStatistics) + Send + 'static,
    ) -> Option<(Self, mpsc::UnboundedReceiver<OptimiseEnd>)> {
        let data: Vec<PathBuf> = config.optimise.data.iter().map(PathBuf::from).collect();
        if data.is_empty() {
            return None;
        }
        let arguments = OptimiseArguments { config: config.clone(), kinds: kinds.clone(), data };
        let (told, ends) = mpsc::unbounded_channel();
        let (stop, stopped) = oneshot::channel();
        let own = role(&config.node.name);
        refuse(&network, &own, "it is reading its data".into());
        let task = tokio::spawn(async move {
            let ended = search(arguments, network.clone(), show_trees, &told, stopped).await;
            match ended {
                Ok(()) => network.unregister(&own),
                Err(error) => {
                    answer_failed(&network, &own, error.to_string());
                    // The node may have ended.
                    let _ = told.send(OptimiseEnd::Failed(error.to_string()));
                }
            }
        });
        Some((Self { stop: Some(stop), task }, ends))
    }

    /// Ends it.
    pub async fn stop(mut self) {
        if let Some(stop) = self.stop.take() {
            // It may have ended.
            let _ = stop.send(());
        }
        let _ = (&mut self.task).await;
    }
}

impl Drop for OptimiseService {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whoever asks, or tells, is told why there is no hub.
fn refuse(network: &Network, role: &str, reason: String) {
    let handler = move |mut request: Request| {
        if let Some(reply) = request.reply.take() {
            reply.refuse(reason.clone());
        }
        Err(reason.clone())
    };
    network.register(role, None, Arc::new(handler));
}

/// Whoever asks is told that the search has failed, and why.
fn answer_failed(network: &Network, role: &str, reason: String) {
    let progress = SearchProgress { failed: Some(reason.clone()), ..SearchProgress::default() };
    let handler = move |mut request: Request| {
        if let Some(reply) = request.reply.take() {
            reply.answer(json!(progress).to_string().into_bytes());
            return Ok(());
        }
        Err(reason.clone())
    };
    network.register(role, None, Arc::new(handler));
}

/// Searches until `stopped`; once the search is over its hub answers on.
async fn search(
    arguments: OptimiseArguments,
    network: Network,
    show_trees: impl FnOnce(SupervisionStatistics),
    told: &mpsc::UnboundedSender<OptimiseEnd>,
    mut stopped: oneshot::Receiver<()>,
) -> Result<(), OptimiseError> {
    let preparing = tokio::task::spawn_blocking(move || Prepared::new(&arguments));
    let prepared = tokio::select! {
        prepared = preparing => prepared??,
        _ = &mut stopped => return Ok(()),
    };
    let (mut running, lines) = Running::start(prepared, Some(network)).await?;
    show_trees(running.statistics().clone());
    // Nobody may listen.
    let tell = |end| drop(told.send(end));
    lines.into_iter().for_each(|line| tell(OptimiseEnd::Line(line)));
    loop {
        let event = tokio::select! {
            event = running.next() => event,
            _ = &mut stopped => break,
        };
        match event {
            SearchEvent::Progress(_) => {}
            SearchEvent::Ended(outcome) => {
                let best = outcome.best.best().map(|it| (it.score, it.parameters.clone()));
                let reason =
                    format!("{} after {} trials", outcome.stopped.name(), outcome.trials.len());
                tell(OptimiseEnd::Over { reason, best });
            }
            SearchEvent::GaveUp(reason) => {
                running.stop().await;
                return Err(OptimiseError::GaveUp(reason));
            }
        }
    }
    running.stop().await;
    Ok(())
}
