//! The load actor: measures every now and then how loaded this node is, and tells the others.
//!
//! ```text
//! memory, processor time, queues ─▶ Load ─▶ every linked node, and Loads ─▶ allocator, desk
//! ```
//!
//! *Failover.* It keeps nothing: what it has told stands until it is too old. *Delivery.* At most once; what
//! is lost is followed by the next.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use ractor_cluster::RactorMessage;
use serde::{Deserialize, Serialize};
use tickwright_core::cluster::{LoadSample, LoadWeights};
use tickwright_core::domain::NodeId;

use super::network::{Message, Network, Request, lock};
use crate::kit::process::{ProcessUsage, memory_limit_bytes, usage_of};

/// The role under which every node hears how loaded the others are.
const ROLE: &str = "load";

/// The kind of a report.
const KIND: &str = "report";

/// Reports that a node's load may be late before nobody relies on it any more.
const LATE_MAX: u32 = 3;

/// Nodes whose load is known at once; beyond it nothing new is taken in.
const NODES_MAX: usize = 64;

/// How long a report may wait for credit.
const PATIENCE: Duration = Duration::from_secs(1);

/// How loaded a node is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LoadReport {
    /// All of it together, from 0 (idle) to 1 (full).
    pub score: f64,
    /// What it is made of.
    pub sample: LoadSample,
    /// Memory in use, in bytes.
    pub rss_bytes: u64,
    /// Memory there may be, in bytes; 0 where nobody says.
    pub limit_bytes: u64,
}

/// How loaded every node is, as far as it has told. Clones share everything.
#[derive(Clone, Debug)]
pub struct Loads(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    interval: Duration,
    /// At most [`NODES_MAX`].
    reports: Mutex<BTreeMap<NodeId, (Instant, LoadReport)>>,
    /// How full the queues of this node are: the bits of a share from 0 to 1.
    queue: AtomicU64,
}

impl Loads {
    /// Nobody has told anything; reports come every `interval`.
    pub fn new(interval: Duration) -> Self {
        let (reports, queue) = (Mutex::default(), AtomicU64::new(0));
        Self(Arc::new(Shared { interval, reports, queue }))
    }

    /// How often nodes report.
    pub fn interval(&self) -> Duration {
        self.0.interval
    }

    /// How loaded `node` is, if it has told a short while ago.
    pub fn of(&self, node: &NodeId) -> Option<LoadReport> {
        let reports = lock(&self.0.reports);
        let (at, report) = reports.get(node)?;
        (at.elapsed() <= self.0.interval * LATE_MAX).then_some(*report)
    }

    /// The same as one number; 0 for one of which nothing is known.
    pub fn score(&self, node: &NodeId) -> f64 {
        self.of(node).map_or(0.0, |report| report.score)
    }

    /// The queues of this node are so full, from 0 to 1.
    pub fn set_queue(&self, share: f64) {
        self.0.queue.store(share.to_bits(), Ordering::Relaxed);
    }

    fn queue(&self) -> f64 {
        f64::from_bits(self.0.queue.load(Ordering::Relaxed))
    }

    fn take_in(&self, node: &NodeId, report: LoadReport) {
        let mut reports = lock(&self.0.reports);
        reports.retain(|_, (at, _)| at.elapsed() <= self.0.interval * LATE_MAX);
        if reports.len() < NODES_MAX || reports.contains_key(node) {
            reports.insert(node.clone(), (Instant::now(), report));
        }
    }
}

/// Everything the mailbox holds.
#[derive(Debug, RactorMessage)]
pub(super) enum LoadMessage {
    /// Our own timer.
    ReportDue,
}

/// What the actor is started with.
#[derive(Clone, Debug)]
pub(super) struct LoadArguments {
    pub(super) network: Network,
    pub(super) loads: Loads,
    pub(super) weights: LoadWeights,
    pub(super) memory_limit_bytes: Option<u64>,
}

/// The actor.
#[derive(Debug)]
pub(super) struct LoadActor;

/// What the actor owns while it runs.
#[derive(Debug)]
pub(super) struct LoadState {
    arguments: LoadArguments,
    limit_bytes: u64,
    /// Processor time at the last report, and when that was.
    cpu: (Duration, Instant),
}

impl Actor for LoadActor {
    type Msg = LoadMessage;
    type State = LoadState;
    type Arguments = LoadArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<LoadMessage>,
        arguments: LoadArguments,
    ) -> Result<LoadState, ActorProcessingErr> {
        let loads = arguments.loads.clone();
        let handler = move |request: Request| {
            let report = (request.kind == KIND).then(|| serde_json::from_slice(&request.body));
            match report {
                Some(Ok(report)) => {
                    // Who it is of follows from the link.
                    loads.take_in(&request.from.id, report);
                    Ok(())
                }
                Some(Err(_)) | None => Err("not a report of a node's load".into()),
            }
        };
        arguments.network.register(ROLE, None, Arc::new(handler));
        myself.send_after(Duration::ZERO, || LoadMessage::ReportDue);
        myself.send_interval(arguments.loads.interval(), || LoadMessage::ReportDue);
        let limit = arguments.memory_limit_bytes.or_else(memory_limit_bytes);
        let cpu = (usage().processor, Instant::now());
        Ok(LoadState { arguments, limit_bytes: limit.unwrap_or(0), cpu })
    }

    async fn handle(
        &self,
        _myself: ActorRef<LoadMessage>,
        message: LoadMessage,
        state: &mut LoadState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            LoadMessage::ReportDue => state.report(),
        }
        Ok(())
    }
}

impl LoadState {
    fn report(&mut self) {
        let ProcessUsage { processor, rss_bytes, .. } = usage();
        let cpu = self.cpu_share(processor);
        let LoadArguments { network, loads, weights, .. } = &self.arguments;
        let sample =
            LoadSample { memory: share(rss_bytes, self.limit_bytes), queue: loads.queue(), cpu };
        let limit_bytes = self.limit_bytes;
        let report = LoadReport { score: weights.score(&sample), sample, rss_bytes, limit_bytes };
        loads.take_in(&network.own().id, report);
        let body = serde_json::to_vec(&report).unwrap_or_default();
        for node in network.linked() {
            let (network, body) = (network.clone(), body.clone());
            tokio::spawn(async move {
                let message =
                    Message { role: ROLE, kind: KIND, epoch: 0, body: &body, is_urgent: false };
                if let Err(error) = network.tell(Some(&node), message, PATIENCE).await {
                    tracing::debug!(%node, %error, "it has not heard how loaded this node is");
                }
            });
        }
    }

    /// The part of the machine's processor time that this process has taken since the last report.
    fn cpu_share(&mut self, processor: Duration) -> f64 {
        let (before, since) = self.cpu;
        let now = (processor, Instant::now());
        self.cpu = now;
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let whole = (now.1 - since) * u32::try_from(processors).unwrap_or(u32::MAX);
        let taken = now.0.saturating_sub(before).as_secs_f64() / whole.as_secs_f64();
        if taken.is_finite() { taken.min(1.0) } else { 0.0 }
    }
}

/// What this process has used; nothing where the system does not say.
fn usage() -> ProcessUsage {
    usage_of(std::process::id()).unwrap_or_default()
}

fn share(bytes: u64, limit: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a share needs no 53 bits")]
    let share = bytes as f64 / limit.max(1) as f64;
    if limit == 0 { 0.0 } else { share.min(1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_counts_until_three_are_missing() {
        let loads = Loads::new(Duration::from_millis(20));
        let node = NodeId::from("calc-1");
        assert_eq!((loads.of(&node), loads.score(&node) > 0.0), (None, false));
        loads.take_in(&node, LoadReport { score: 0.5, ..LoadReport::default() });
        let begun = Instant::now();
        while loads.of(&node).is_some() {
            assert!(begun.elapsed() < Duration::from_secs(10), "it counts for ever");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(begun.elapsed() >= Duration::from_millis(59));
    }

    #[test]
    fn memory_without_a_limit_counts_as_none() {
        assert!((share(1, 4) - 0.25).abs() < 1e-12);
        assert!((share(9, 4) - 1.0).abs() < 1e-12);
        assert!(share(9, 0).abs() < 1e-12);
    }
}
