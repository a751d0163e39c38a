//! `[allocation]`: which node does what.

use std::collections::BTreeMap;

use super::settings::{Settings, Value};
use crate::cluster::{AllocatorConfig, Assignment, Balancing, LoadWeights, Placing};
use crate::domain::{NodeId, Span};

/// How long a unit that was given to a node may take to begin there before others move as well.
const HANDOVER_PATIENCE: Span = Span::from_secs(10);

/// Largest weight of a node.
const WEIGHT_MAX: f64 = 1_000.0;

/// `[allocation]`: which node does what.
#[derive(Clone, Debug, PartialEq)]
pub struct AllocationConfig {
    /// How the coordinator places units; none, if [`AllocationConfig::assignments`] say it.
    pub allocator: Option<AllocatorConfig>,
    /// Units that have a node for good.
    pub assignments: Vec<Assignment>,
    /// How long until a node that has come counts for its whole weight.
    pub slow_start: Span,
    /// How much nodes are to have compared to others; 1.0 for those that are not here.
    pub weights: BTreeMap<NodeId, f64>,
    /// How often a unit that was given up on a node is begun there again.
    pub retry_attempts_max: u32,
    /// How often nodes tell each other how loaded they are.
    pub load_report: Span,
    /// What their loads are made of.
    pub load_weights: LoadWeights,
    /// Memory that this node may have, in bytes; none, if the system says it.
    pub memory_limit_bytes: Option<u64>,
}

pub(super) fn section(s: &Settings) -> AllocationConfig {
    let weight = |name| parts(s, &["allocation", name]);
    AllocationConfig {
        allocator: allocator(s),
        assignments: s
            .list(&["allocation", "static"])
            .iter()
            .filter_map(|line| Assignment::parse(line))
            .collect(),
        slow_start: s.span_ms(&["allocation", "slow_start_ms"]),
        weights: s
            .list(&["allocation", "weights"])
            .iter()
            .filter_map(|w| parse_weight(w))
            .collect(),
        retry_attempts_max: u32::try_from(s.count(&["allocation", "max_retry_attempts"]))
            .unwrap_or(u32::MAX),
        load_report: s.span_ms(&["allocation", "load_report_ms"]),
        load_weights: LoadWeights {
            memory: weight("load_memory_weight"),
            queue: weight("load_queue_weight"),
            cpu: weight("load_cpu_weight"),
        },
        memory_limit_bytes: s.count_or_none(&["node", "memory_limit_bytes"]),
    }
}

/// How units are placed, if they are not for good.
fn allocator(s: &Settings) -> Option<AllocatorConfig> {
    let placing = match s.text(&["allocation", "strategy"]) {
        "static" => return None,
        "master_standby" => Placing::MasterStandby,
        "balanced" => Placing::Balanced,
        _ => Placing::Rendezvous,
    };
    let balancing = Balancing::parse(s.text(&["allocation", "balance"]));
    Some(AllocatorConfig {
        placing,
        balancing: balancing.unwrap_or(Balancing::LeastLoaded),
        slow_start: s.span_ms(&["allocation", "slow_start_ms"]),
        nodes_min: s.size(&["allocation", "nodes_min"]),
        settle: s.span_ms(&["allocation", "settle_ms"]),
        fails_over: s.switch(&["allocation", "auto_failover"]),
        patience: s.span_ms(&["allocation", "failover_timeout_ms"]),
        handovers_max: s.size(&["allocation", "handovers_max"]),
        handover_patience: HANDOVER_PATIENCE,
    })
}

/// Reads `calc-1=2.5`: a node, and how much it is to have.
pub(super) fn parse_weight(text: &str) -> Option<(NodeId, f64)> {
    let (node, weight) = text.split_once('=')?;
    let (node, weight) = (node.trim(), weight.trim().parse::<f64>().ok()?);
    let is_sound = !node.is_empty() && weight > 0.0 && weight <= WEIGHT_MAX;
    is_sound.then(|| (NodeId(node.to_owned()), weight))
}

/// A decimal as a float.
fn parts(s: &Settings, names: &[&str]) -> f64 {
    let nanos = s.find(names).and_then(Value::amount).unwrap_or(0);
    #[expect(clippy::cast_precision_loss, reason = "three decimals are kept")]
    let parts = nanos as f64 / 1e9;
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn read(text: &str) -> Result<Config, String> {
        Config::parse(text, "my.toml").map_err(|problems| problems.to_string())
    }

    #[test]
    fn a_word_that_is_not_known_is_refused_with_the_nearest_one() {
        for (text, hint) in [
            ("strategy = \"rendevous\"", "did you mean \"rendezvous\"?"),
            ("balance = \"round-robin\"", "did you mean \"round_robin\"?"),
            ("balance = \"least_load\"", "did you mean \"least_loaded\"?"),
            ("max_retries_attempt = 1", "did you mean allocation.max_retry_attempts?"),
            ("weights = [\"calc-1\"]", "\"calc-1\" does not say how much which node is to have"),
            ("weights = [\"calc-1=0\"]", "a node and its weight, such as \"calc-1=2\""),
            ("weights = [\"calc-1=NaN\"]", "does not say"),
            (
                "load_memory_weight = 0\nload_queue_weight = 0",
                "nothing counts for the load of a node: all weights are 0",
            ),
        ] {
            let problems = read(&format!("[allocation]\n{text}\n")).unwrap_err();
            assert!(problems.contains(hint), "{text}: {problems}");
        }
    }

    #[test]
    fn what_is_written_is_what_the_allocator_goes_by() {
        let allocation = read(
            "[allocation]\nstrategy = \"balanced\"\nbalance = \"weighted\"\nslow_start_ms = 7\n\
             weights = [\"calc-1=2.5\", \"b = 1\"]\nhandovers_max = 3\nmax_retry_attempts = 0\n",
        )
        .unwrap()
        .allocation;
        let allocator = allocation.allocator.unwrap();
        assert_eq!(allocator.placing, Placing::Balanced);
        assert_eq!(allocator.balancing, Balancing::Weighted);
        assert_eq!((allocator.handovers_max, allocation.retry_attempts_max), (3, 0));
        assert_eq!(allocator.slow_start, Span::from_millis(7));
        let weights: Vec<(&str, f64)> =
            allocation.weights.iter().map(|(node, weight)| (node.0.as_str(), *weight)).collect();
        assert_eq!(weights, [("b", 1.0), ("calc-1", 2.5)]);
        let usual = read("").unwrap().allocation;
        let weights = LoadWeights { memory: 0.4, queue: 0.6, cpu: 0.0 };
        assert_eq!((usual.load_weights, usual.load_report), (weights, Span::from_secs(5)));
        assert_eq!(read("[allocation]\nstrategy = \"static\"").unwrap().allocation.allocator, None);
    }
}
