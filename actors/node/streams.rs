//! Where the streams stand whose ends are on this node.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tickwright_core::cluster::Unit;
use tickwright_core::stream::{InflowStanding, OutflowStanding};

use super::report::ask;
use crate::cleaner::{self, CleanerMessage};
use crate::factors::{self, FactorsMessage};
use crate::ingester::{self, IngesterMessage};
use crate::kit::{Directory, StageStreams};
use crate::risk::{self, RiskMessage};
use crate::strategy::{self, StrategyMessage};

/// How long one stage may take to answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// One end of a stream between two stages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamEnd {
    /// The producing stage.
    pub from: String,
    /// The consuming one.
    pub to: String,
    /// Since which epoch of the allocation this end is here.
    pub epoch: u64,
    /// The unit at the other end.
    pub other: String,
    /// Where that is reached; none, if nobody is known to have it.
    pub other_node: Option<String>,
    /// How it stands.
    #[serde(flatten)]
    pub standing: Standing,
}

/// How one end stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// The producing end.
    Producer(OutflowStanding),
    /// The consuming end.
    Consumer(InflowStanding),
}

impl StreamEnd {
    /// Rows that wait at a consuming end.
    pub fn waiting_rows(&self) -> Option<u64> {
        match &self.standing {
            Standing::Consumer(standing) => Some(standing.waiting_rows),
            Standing::Producer(_) => None,
        }
    }
}

/// A stage, and who is at the other ends of its streams.
struct Stage {
    role: String,
    unit: Unit,
    producers: Vec<(String, Unit)>,
    consumers: Vec<(String, Unit)>,
}

/// The ends of the streams of `units`, which are here, each since its epoch, of a pipeline with so many sources and shards. A
/// stage that does not answer, because it is starting anew, is left out.
pub(super) async fn ends(
    directory: &Directory,
    units: &[(Unit, u64)],
    (sources, shards): (usize, usize),
    node_of: impl Fn(Unit) -> Option<String>,
) -> Vec<StreamEnd> {
    let mut ends = Vec::new();
    let all = units.iter().flat_map(|&(unit, epoch)| {
        stages(unit, sources, shards).into_iter().map(move |stage| (stage, epoch))
    });
    for (stage, epoch) in all {
        let Some(streams) = standing(directory, &stage).await else { continue };
        let end = |from: &str, to: &str, (unit, standing): (Unit, Standing)| StreamEnd {
            from: from.to_owned(),
            to: to.to_owned(),
            epoch,
            other: unit.to_string(),
            other_node: if unit == stage.unit { node_of(stage.unit) } else { node_of(unit) },
            standing,
        };
        for ((from, unit), standing) in stage.producers.iter().zip(streams.inputs) {
            ends.push(end(from, &stage.role, (*unit, Standing::Consumer(standing))));
        }
        for ((to, unit), standing) in stage.consumers.iter().zip(streams.outputs) {
            ends.push(end(&stage.role, to, (*unit, Standing::Producer(standing))));
        }
    }
    ends
}

/// The stages of a unit that streams begin or end at, as `node.rs` wires them.
fn stages(unit: Unit, sources: usize, shards: usize) -> Vec<Stage> {
    let source = |number: usize| Unit::Source(u16::try_from(number).unwrap_or(u16::MAX));
    let shard = |number: usize| Unit::Shard(u16::try_from(number).unwrap_or(u16::MAX));
    let risk = || (risk::ROLE.to_owned(), Unit::Exec);
    let cleaners = || (0..sources).map(|number| (cleaner::role(number), source(number)));
    match unit {
        Unit::Source(number) => {
            let number = usize::from(number);
            let factors = (0..shards).map(|number| (factors::role(number), shard(number)));
            vec![
                Stage {
                    role: ingester::role(number),
                    unit,
                    producers: Vec::new(),
                    consumers: vec![(cleaner::role(number), unit)],
                },
                Stage {
                    role: cleaner::role(number),
                    unit,
                    producers: vec![(ingester::role(number), unit)],
                    consumers: std::iter::once(risk()).chain(factors).collect(),
                },
            ]
        }
        Unit::Shard(number) => {
            let number = usize::from(number);
            vec![
                Stage {
                    role: factors::role(number),
                    unit,
                    producers: cleaners().collect(),
                    consumers: vec![(strategy::role(number), unit)],
                },
                Stage {
                    role: strategy::role(number),
                    unit,
                    producers: vec![(factors::role(number), unit)],
                    consumers: vec![risk()],
                },
            ]
        }
        Unit::Exec => {
            let strategies = (0..shards).map(|number| (strategy::role(number), shard(number)));
            vec![Stage {
                role: risk::ROLE.to_owned(),
                unit,
                producers: cleaners().chain(strategies).collect(),
                consumers: Vec::new(),
            }]
        }
    }
}

async fn standing(directory: &Directory, stage: &Stage) -> Option<StageStreams> {
    let role = &stage.role;
    let kind = role.split('/').next().unwrap_or_default();
    let asked = match kind {
        "ingester" => ask(directory, role, IngesterMessage::Streams, PATIENCE).await,
        "cleaner" => ask(directory, role, CleanerMessage::Streams, PATIENCE).await,
        "factors" => ask(directory, role, FactorsMessage::Streams, PATIENCE).await,
        "strategy" => ask(directory, role, StrategyMessage::Streams, PATIENCE).await,
        _ => ask(directory, role, RiskMessage::Streams, PATIENCE).await,
    };
    asked.ok()
}
