//! What the stages of a node have counted.

use std::time::Duration;

use ractor::rpc::CallResult;
use ractor::{ActorRef, Message, RpcReplyPort};
use tickwright_core::domain::Control;
use tickwright_core::pipeline::factors::FactorCounts;
use tickwright_core::pipeline::router::RouterCounters;
use tickwright_core::pipeline::strategy::StrategyCounts;

use super::Node;
use crate::broker::{self, BrokerMessage, BrokerReport};
use crate::cleaner::{self, CleanerMessage, CleanerReport};
use crate::exchange_broker::{self, ExchangeBrokerMessage};
use crate::factors::{self, FactorsMessage};
use crate::ingester::{self, IngesterMessage, IngesterReport};
use crate::kit::{Directory, StageReport};
use crate::positions::{self, PositionsMessage, PositionsReport};
use crate::risk::{self, RiskMessage, RiskReport};
use crate::router::{self, RouterMessage};
use crate::strategy::{self, StrategyMessage};
use crate::telemetry::{self, Sample};

/// What every stage has counted.
#[derive(Debug)]
pub struct NodeReport {
    /// By source.
    pub ingesters: Vec<StageReport<IngesterReport>>,
    /// By source.
    pub cleaners: Vec<StageReport<CleanerReport>>,
    /// By shard: factor values computed.
    pub factors: Vec<StageReport<FactorCounts>>,
    /// By shard, then strategy.
    pub strategies: Vec<StageReport<Vec<StrategyCounts>>>,
    /// Risk.
    pub risk: StageReport<RiskReport>,
    /// The router.
    pub router: RouterCounters,
    /// The brokers, the primary first.
    pub brokers: Vec<BrokerReport>,
    /// Positions.
    pub positions: PositionsReport,
    /// How parameters were changed.
    pub changes: Control,
}

/// How far the run has come. What does not answer soon counts as nothing.
pub(super) async fn sample(directory: &Directory, sources: impl Iterator<Item = usize>) -> Sample {
    let mut sample = Sample::default();
    for source in sources {
        let role = ingester::role(source);
        let report = ask(directory, &role, IngesterMessage::Report, telemetry::PATIENCE).await;
        if let Ok(report) = report {
            sample.bytes += report.counts.bytes_read;
            sample.rows += report.counts.counters.rows;
            sample.held += usize::from(report.counts.is_held);
        }
    }
    // Exec may be on another node.
    if directory.serving(risk::ROLE).is_some() {
        let risk = ask(directory, risk::ROLE, RiskMessage::Report, telemetry::PATIENCE).await;
        sample.orders = risk.map_or(0, |risk| risk.counts.approved);
    }
    sample
}

impl Node {
    /// Rows read so far, over all sources. What does not answer within `patience` counts as nothing.
    pub async fn rows_read(&self, patience: Duration) -> u64 {
        let mut rows = 0;
        for source in 0..self.sources {
            let role = ingester::role(source);
            let report = ask(&self.directory, &role, IngesterMessage::Report, patience).await;
            rows += report.map_or(0, |report| report.counts.counters.rows);
        }
        rows
    }

    /// Everything the stages have counted. A stage that is being restarted is asked again.
    ///
    /// # Errors
    ///
    /// Which stage gave no answer within `patience`.
    pub async fn report(&self, patience: Duration) -> Result<NodeReport, String> {
        let directory = &self.directory;
        let changes = self.wiring.control.current();
        let mut report = report_of_exec(directory, changes, patience).await?;
        for source in 0..self.sources {
            let role = ingester::role(source);
            report.ingesters.push(ask(directory, &role, IngesterMessage::Report, patience).await?);
            let role = cleaner::role(source);
            report.cleaners.push(ask(directory, &role, CleanerMessage::Report, patience).await?);
        }
        for shard in 0..self.shards {
            let role = factors::role(shard);
            report.factors.push(ask(directory, &role, FactorsMessage::Report, patience).await?);
            let role = strategy::role(shard);
            let strategies = ask(directory, &role, StrategyMessage::Report, patience).await?;
            report.strategies.push(strategies);
        }
        Ok(report)
    }
}

/// What exec has counted, without sources and shards.
pub(super) async fn report_of_exec(
    directory: &Directory,
    changes: Control,
    patience: Duration,
) -> Result<NodeReport, String> {
    let report = NodeReport {
        changes,
        ingesters: Vec::new(),
        cleaners: Vec::new(),
        factors: Vec::new(),
        strategies: Vec::new(),
        risk: ask(directory, risk::ROLE, RiskMessage::Report, patience).await?,
        router: ask(directory, router::ROLE, RouterMessage::Report, patience).await?,
        brokers: brokers(directory, patience).await?,
        positions: ask(directory, positions::ROLE, PositionsMessage::Report, patience).await?,
    };
    Ok(report)
}

/// What brokers have counted, each kind asked in its own words.
pub(super) async fn brokers(
    directory: &Directory,
    patience: Duration,
) -> Result<Vec<BrokerReport>, String> {
    let mut reports = Vec::new();
    for broker in 0..router::BROKERS {
        let (role, outside) = (broker::role(broker), exchange_broker::role(broker));
        reports.push(match directory.serving(&outside) {
            Some(_) => ask(directory, &outside, ExchangeBrokerMessage::Report, patience).await?,
            None => ask(directory, &role, BrokerMessage::Report, patience).await?,
        });
    }
    Ok(reports)
}

/// Asks whoever serves `role`, again after a restart, until `patience` is over.
pub(super) async fn ask<M: Message, R: Send + 'static>(
    directory: &Directory,
    role: &str,
    question: impl Fn(RpcReplyPort<R>) -> M,
    patience: Duration,
) -> Result<R, String> {
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        if let Some(actor) = directory.serving(role) {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            let actor = ActorRef::<M>::from(actor);
            let call = actor.call(&question, Some(left)).await;
            if let Ok(CallResult::Success(answer)) = call {
                return Ok(answer);
            }
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(format!("`{role}` gave no answer within {patience:?}"));
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
