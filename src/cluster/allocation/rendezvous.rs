//! Weighted rendezvous hashing: every node gets a score for every unit, and the highest has it. When a
//! node comes or goes, only the units that it gains or loses move.
//!
//! Thaler and Ravishankar: "Using name-based mappings to increase hit rates", 1998; weights as
//! Schindelhauer and Schomaker: "Weighted distributed hash tables", 2005, the logarithmic method.

use std::fmt::Display;

use crate::domain::NodeId;

/// The node that `key`, such as a unit, belongs to, of nodes with their weights; none, if there are none. A node of
/// twice the weight gets twice as many units, on average.
pub fn highest<'n>(
    key: impl Display,
    nodes: impl IntoIterator<Item = (&'n NodeId, f64)>,
) -> Option<&'n NodeId> {
    ranked(key, nodes).first().copied()
}

/// The same nodes, those first to which `key` belongs rather: when one goes, the next takes its place.
pub fn ranked<'n>(
    key: impl Display,
    nodes: impl IntoIterator<Item = (&'n NodeId, f64)>,
) -> Vec<&'n NodeId> {
    let key = key.to_string();
    let scored = nodes.into_iter().map(|(node, weight)| (score(&key, node, weight), node));
    let mut scored: Vec<(f64, &NodeId)> = scored.collect();
    // Equal scores are as good as impossible; the name decides, so that all nodes agree.
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    scored.into_iter().map(|(_, node)| node).collect()
}

/// `-weight / ln(u)` for a `u` between 0 and 1 that key and node draw.
fn score(key: &str, node: &NodeId, weight: f64) -> f64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(key.as_bytes());
    hasher.update(&[0]);
    hasher.update(node.0.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    // The upper 52 bits, and half a step more: never 0, never 1.
    #[expect(clippy::cast_precision_loss, reason = "52 bits are exact")]
    let draw = ((u64::from_le_bytes(first) >> 12) as f64 + 0.5) / (1u64 << 52) as f64;
    -weight / libm::log(draw)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::Unit;
    use super::*;

    fn count(nodes: &[(&str, f64)]) -> BTreeMap<String, usize> {
        let nodes: Vec<(NodeId, f64)> = nodes.iter().map(|&(n, w)| (n.into(), w)).collect();
        let mut counts = BTreeMap::new();
        for shard in 0..6_000 {
            let of = nodes.iter().map(|(node, weight)| (node, *weight));
            let node = highest(Unit::Shard(shard), of).unwrap();
            *counts.entry(node.0.clone()).or_default() += 1;
        }
        counts
    }

    #[test]
    fn units_fall_to_nodes_by_weight() {
        let counts = count(&[("a", 1.0), ("b", 2.0), ("c", 1.0)]);
        for (node, expected) in [("a", 1_500), ("b", 3_000), ("c", 1_500)] {
            assert!(counts[node].abs_diff(expected) < 150, "{counts:?}");
        }
    }

    #[test]
    fn only_the_units_of_a_node_that_goes_move() {
        let nodes: Vec<NodeId> = ["a", "b", "c"].into_iter().map(NodeId::from).collect();
        let of = |nodes: &[NodeId], shard| {
            let weighted = nodes.iter().map(|node| (node, 1.0));
            highest(Unit::Shard(shard), weighted).cloned().unwrap()
        };
        for shard in 0..1_000 {
            let before = of(&nodes, shard);
            let after = of(&nodes[..2], shard);
            assert!(before == after || before == nodes[2]);
        }
        assert_eq!(highest(Unit::Exec, []), None);
    }

    #[test]
    fn the_second_takes_the_place_of_the_first() {
        let nodes: Vec<NodeId> = ["a", "b", "c", "d"].into_iter().map(NodeId::from).collect();
        for shard in 0..100 {
            let unit = Unit::Shard(shard);
            let all = ranked(unit, nodes.iter().map(|node| (node, 1.0)));
            let rest = nodes.iter().filter(|node| *node != all[0]).map(|node| (node, 1.0));
            assert_eq!(ranked(unit, rest), all[1..]);
        }
    }
}
