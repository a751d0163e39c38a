//! Decides, for the coordinator, which unit goes to which node next.
//!
//! # Invariants
//!
//! 1. A unit whose node is there stays where it is, unless it is being brought back to where it belongs;
//!    of those at most one moves at a time, and none before its node has been there for a while.
//! 2. A unit whose node is gone goes to the least loaded of the nodes that are there for such units,
//!    or, if there is none, of all; but to its own node, if that is back in another life.
//! 3. Exec stays with its node for good: what it has done is on that node's disk alone.

use std::collections::BTreeMap;

use super::{Unit, highest};
use crate::domain::{NodeId, Span, Timestamp};

/// How units are placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placing {
    /// Spread over all nodes that are there for them, by rendezvous hashing.
    Rendezvous,
    /// All on the first such node by name; the others stand by.
    MasterStandby,
}

/// How the allocator decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocatorConfig {
    /// How units are placed.
    pub placing: Placing,
    /// Nothing is placed before so many nodes are there: the first would get everything.
    pub nodes_min: usize,
    /// How long a node must be there before units are brought back to it, and the time between two of
    /// them.
    pub settle: Span,
    /// Whether units of a node that is gone are given to others.
    pub fails_over: bool,
    /// How long a node must have been gone before they are.
    pub patience: Span,
}

/// A node that is there.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Which.
    pub node: NodeId,
    /// Which life of it.
    pub session: u64,
    /// What it is there for in the first place.
    pub duties: Vec<String>,
    /// How loaded it is, from 0 to 1, beside the units that it has.
    pub load: f64,
}

/// Whose a unit is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Which node.
    pub node: NodeId,
    /// Which life of it.
    pub session: u64,
}

/// A unit that is to go to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Which.
    pub unit: Unit,
    /// Where to.
    pub node: NodeId,
}

/// The coordinator's memory. A new coordinator begins with an empty one, and waits a little longer
/// before it brings units back.
#[derive(Debug)]
pub struct Allocator {
    config: AllocatorConfig,
    /// Since when each life of a node has been there.
    since: BTreeMap<(NodeId, u64), Timestamp>,
    /// Since when the node of each unit has been gone.
    lost: BTreeMap<Unit, Timestamp>,
    /// When a unit was last brought back.
    brought_back: Timestamp,
}

impl Allocator {
    /// An allocator that has seen nothing.
    pub fn new(config: AllocatorConfig, now: Timestamp) -> Self {
        Self { config, since: BTreeMap::new(), lost: BTreeMap::new(), brought_back: now }
    }

    /// What is to move now, given who is there and who has what. Units without a holding are nobody's.
    pub fn plan(
        &mut self,
        units: impl IntoIterator<Item = Unit>,
        held: &BTreeMap<Unit, Holding>,
        there: &[Candidate],
        now: Timestamp,
    ) -> Vec<Move> {
        let is_there = |holding: &Holding| {
            there.iter().any(|c| c.node == holding.node && c.session == holding.session)
        };
        self.since.retain(|(node, session), _| {
            there.iter().any(|c| c.node == *node && c.session == *session)
        });
        for candidate in there {
            self.since.entry((candidate.node.clone(), candidate.session)).or_insert(now);
        }
        if there.len() < self.config.nodes_min && !held.values().any(is_there) {
            return Vec::new();
        }
        let mut counts: BTreeMap<&NodeId, usize> = BTreeMap::new();
        for holding in held.values().filter(|holding| is_there(holding)) {
            *counts.entry(&holding.node).or_default() += 1;
        }
        let mut moves = Vec::new();
        let mut settled = Vec::new();
        for unit in units {
            let to = match held.get(&unit) {
                Some(holding) if is_there(holding) => {
                    self.lost.remove(&unit);
                    settled.push((unit, holding));
                    continue;
                }
                Some(holding) => {
                    let lost = *self.lost.entry(unit).or_insert(now);
                    let again = there.iter().find(|c| c.node == holding.node).map(|c| &c.node);
                    let stays = unit == Unit::Exec || !self.config.fails_over;
                    if stays || again.is_some() {
                        // In another life it has its disk, and what is on it, still.
                        again
                    } else if now >= lost.after(self.config.patience) {
                        least_loaded(eligible(unit, there), &counts)
                    } else {
                        None
                    }
                }
                None => self.place(unit, &eligible(unit, there)),
            };
            if let Some(node) = to {
                *counts.entry(node).or_default() += 1;
                moves.push(Move { unit, node: node.clone() });
            }
        }
        if moves.is_empty() {
            moves.extend(self.bring_back(&settled, there, now));
        }
        moves
    }

    /// Where a unit belongs.
    fn place<'c>(&self, unit: Unit, eligible: &[&'c Candidate]) -> Option<&'c NodeId> {
        match self.config.placing {
            Placing::Rendezvous => highest(unit, eligible.iter().map(|c| (&c.node, 1.0))),
            Placing::MasterStandby => eligible.iter().map(|c| &c.node).min(),
        }
    }

    /// One unit that is not where it belongs, if it is time.
    fn bring_back(
        &mut self,
        settled: &[(Unit, &Holding)],
        there: &[Candidate],
        now: Timestamp,
    ) -> Option<Move> {
        if now < self.brought_back.after(self.config.settle) {
            return None;
        }
        let is_settled = |candidate: &&Candidate| {
            let since = self.since.get(&(candidate.node.clone(), candidate.session));
            since.is_some_and(|since| now >= since.after(self.config.settle))
        };
        let found =
            settled.iter().filter(|(unit, _)| *unit != Unit::Exec).find_map(|&(unit, at)| {
                let eligible: Vec<&Candidate> =
                    eligible(unit, there).into_iter().filter(is_settled).collect();
                let node = self.place(unit, &eligible)?;
                (*node != at.node).then(|| Move { unit, node: node.clone() })
            });
        if found.is_some() {
            self.brought_back = now;
        }
        found
    }
}

/// Those that may have `unit`: nodes that are there for it, or, if there are none, all. Exec goes to
/// nobody else.
fn eligible(unit: Unit, there: &[Candidate]) -> Vec<&Candidate> {
    let has_duty = |c: &&Candidate| c.duties.iter().any(|duty| duty == unit.duty());
    let first: Vec<&Candidate> = there.iter().filter(has_duty).collect();
    if first.is_empty() && unit != Unit::Exec { there.iter().collect() } else { first }
}

/// The node with the fewest units, then the least load, then the first by name.
fn least_loaded<'c>(
    eligible: Vec<&'c Candidate>,
    counts: &BTreeMap<&NodeId, usize>,
) -> Option<&'c NodeId> {
    let count = |c: &Candidate| counts.get(&c.node).copied().unwrap_or(0);
    let order = |a: &&Candidate, b: &&Candidate| {
        let by_count = count(a).cmp(&count(b));
        by_count.then(a.load.total_cmp(&b.load)).then_with(|| a.node.cmp(&b.node))
    };
    eligible.into_iter().min_by(order).map(|c| &c.node)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SETTLE: Span = Span::from_millis(10_000);

    fn config(placing: Placing) -> AllocatorConfig {
        AllocatorConfig {
            placing,
            nodes_min: 1,
            settle: SETTLE,
            fails_over: true,
            patience: Span::ZERO,
        }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
    }

    fn node(name: &str, session: u64, duties: &[&str]) -> Candidate {
        let duties = duties.iter().map(|duty| (*duty).to_owned()).collect();
        Candidate { node: name.into(), session, duties, load: 0.0 }
    }

    fn five() -> Vec<Candidate> {
        vec![
            node("calc-1", 1, &["calc"]),
            node("calc-2", 2, &["calc"]),
            node("control-1", 3, &["control"]),
            node("data-1", 4, &["data"]),
            node("exec-1", 5, &["exec"]),
        ]
    }

    /// What the ledger would hold after `moves`.
    fn carry_out(held: &mut BTreeMap<Unit, Holding>, moves: &[Move], there: &[Candidate]) {
        for Move { unit, node } in moves {
            let session = there.iter().find(|c| c.node == *node).unwrap().session;
            held.insert(*unit, Holding { node: node.clone(), session });
        }
    }

    fn units() -> impl Iterator<Item = Unit> {
        Unit::all(1, 8)
    }

    #[test]
    fn everything_is_placed_by_duty_once_enough_nodes_are_there() {
        let there = five();
        let wait = AllocatorConfig { nodes_min: 5, ..config(Placing::Rendezvous) };
        let mut allocator = Allocator::new(wait, at(0));
        let mut held = BTreeMap::new();
        assert_eq!(allocator.plan(units(), &held, &there[..4], at(0)), []);
        let moves = allocator.plan(units(), &held, &there, at(1));
        carry_out(&mut held, &moves, &there);
        assert_eq!(held.len(), 10);
        for (unit, holding) in &held {
            assert!(holding.node.0.starts_with(unit.duty()), "{unit} is at {}", holding.node);
        }
        let on = |name: &str| held.values().filter(|holding| holding.node.0 == name).count();
        assert!(on("calc-1") > 0 && on("calc-2") > 0, "{held:?}");
        assert_eq!(allocator.plan(units(), &held, &there, at(99)), [], "all are where they belong");
    }

    #[test]
    fn units_of_a_lost_node_go_to_its_kind_or_to_whoever_is_there() {
        let mut there = five();
        let mut allocator = Allocator::new(config(Placing::Rendezvous), at(0));
        let mut held = BTreeMap::new();
        let moves = allocator.plan(units(), &held, &there, at(0));
        carry_out(&mut held, &moves, &there);
        there.retain(|c| c.node.0 != "calc-1" && c.node.0 != "data-1");
        let moves = allocator.plan(units(), &held, &there, at(1));
        assert!(!moves.is_empty());
        for Move { unit, node } in &moves {
            match unit {
                Unit::Source(_) => assert_eq!(node.0, "control-1", "the least loaded"),
                Unit::Shard(_) | Unit::Exec => assert_eq!(node.0, "calc-2"),
            }
        }
        carry_out(&mut held, &moves, &there);
        assert_eq!(allocator.plan(units(), &held, &there, at(2)), []);
    }

    #[test]
    fn a_node_that_comes_back_gets_its_units_one_by_one() {
        let mut there = five();
        let mut allocator = Allocator::new(config(Placing::Rendezvous), at(0));
        let mut held = BTreeMap::new();
        let moves = allocator.plan(units(), &held, &there, at(0));
        carry_out(&mut held, &moves, &there);
        let before = held.clone();
        let lost = there.remove(0);
        let moves = allocator.plan(units(), &held, &there, at(1));
        carry_out(&mut held, &moves, &there);
        there.push(Candidate { session: 9, ..lost });
        let mut gained = 0;
        for second in 2..200 {
            let moves = allocator.plan(units(), &held, &there, at(second));
            assert!(moves.len() <= 1, "a stampede: {moves:?}");
            assert!(second >= 12 || moves.is_empty(), "it has only just come");
            gained += moves.len();
            carry_out(&mut held, &moves, &there);
        }
        let places = |held: &BTreeMap<Unit, Holding>| -> Vec<NodeId> {
            held.values().map(|holding| holding.node.clone()).collect()
        };
        assert!(gained > 0);
        assert_eq!(places(&held), places(&before));
    }

    #[test]
    fn exec_waits_for_its_node() {
        let mut there = five();
        let mut allocator = Allocator::new(config(Placing::Rendezvous), at(0));
        let mut held = BTreeMap::new();
        let moves = allocator.plan(units(), &held, &there, at(0));
        carry_out(&mut held, &moves, &there);
        let exec = there.pop().unwrap();
        assert_eq!(allocator.plan(units(), &held, &there, at(1)), []);
        there.push(Candidate { session: 9, ..exec });
        let moves = allocator.plan(units(), &held, &there, at(2));
        assert_eq!(moves, [Move { unit: Unit::Exec, node: "exec-1".into() }]);
    }

    #[test]
    fn a_node_that_is_back_soon_enough_keeps_its_units() {
        let mut there = five();
        let waits = AllocatorConfig { patience: SETTLE, ..config(Placing::Rendezvous) };
        let mut allocator = Allocator::new(waits, at(0));
        let mut held = BTreeMap::new();
        let moves = allocator.plan(units(), &held, &there, at(0));
        carry_out(&mut held, &moves, &there);
        let lost = there.remove(0);
        assert_eq!(allocator.plan(units(), &held, &there, at(1)), []);
        let back = [&there[..], &[Candidate { session: 9, ..lost }]].concat();
        let moves = allocator.plan(units(), &held, &back, at(2));
        assert!(!moves.is_empty() && moves.iter().all(|each| each.node.0 == "calc-1"));
        let moves = allocator.plan(units(), &held, &there, at(12));
        assert!(!moves.is_empty() && moves.iter().all(|each| each.node.0 == "calc-2"));
    }

    #[test]
    fn a_master_has_everything_and_a_standby_takes_it_over() {
        let mut there = five();
        let mut allocator = Allocator::new(config(Placing::MasterStandby), at(0));
        let mut held = BTreeMap::new();
        let moves = allocator.plan(units(), &held, &there, at(0));
        carry_out(&mut held, &moves, &there);
        let shards = |held: &BTreeMap<Unit, Holding>| -> Vec<String> {
            let of = |(unit, holding): (&Unit, &Holding)| {
                matches!(unit, Unit::Shard(_)).then(|| holding.node.0.clone())
            };
            let mut nodes: Vec<String> = held.iter().filter_map(of).collect();
            nodes.dedup();
            nodes
        };
        assert_eq!(shards(&held), ["calc-1"]);
        there.remove(0);
        let moves = allocator.plan(units(), &held, &there, at(1));
        carry_out(&mut held, &moves, &there);
        assert_eq!(shards(&held), ["calc-2"]);
    }

    #[test]
    fn without_failover_units_wait_for_their_node() {
        let mut there = five();
        let stays = AllocatorConfig { fails_over: false, ..config(Placing::Rendezvous) };
        let mut allocator = Allocator::new(stays, at(0));
        let mut held = BTreeMap::new();
        let moves = allocator.plan(units(), &held, &there, at(0));
        carry_out(&mut held, &moves, &there);
        let lost = there.remove(0);
        assert_eq!(allocator.plan(units(), &held, &there, at(1)), []);
        there.push(Candidate { session: 9, ..lost });
        let moves = allocator.plan(units(), &held, &there, at(2));
        assert!(!moves.is_empty() && moves.iter().all(|each| each.node.0 == "calc-1"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Whoever comes and goes: once nobody does any more, every unit but exec has a node that is
        /// there, and nothing moves for ever.
        #[test]
        fn every_history_comes_to_rest(steps in proptest::collection::vec((0usize..5, 1u64..20), 1..60)) {
            let all = five();
            let mut present = [true; 5];
            let mut sessions = [1u64, 2, 3, 4, 5];
            let mut allocator = Allocator::new(config(Placing::Rendezvous), at(0));
            let (mut held, mut now, mut next) = (BTreeMap::new(), 0, 6);
            let there = |present: &[bool; 5], sessions: &[u64; 5]| -> Vec<Candidate> {
                let kept = (0..5).filter(|&node| present[node]);
                kept.map(|n| Candidate { session: sessions[n], ..all[n].clone() }).collect()
            };
            for (node, wait) in steps {
                now += wait;
                present[node] = !present[node];
                if present[node] {
                    sessions[node] = next;
                    next += 1;
                }
                let there = there(&present, &sessions);
                let moves = allocator.plan(units(), &held, &there, at(now));
                carry_out(&mut held, &moves, &there);
            }
            let there = there(&present, &sessions);
            for _ in 0..100 {
                now += 11;
                let moves = allocator.plan(units(), &held, &there, at(now));
                carry_out(&mut held, &moves, &there);
            }
            prop_assert_eq!(allocator.plan(units(), &held, &there, at(now + 50)), []);
            if !there.is_empty() {
                for unit in units().filter(|&unit| unit != Unit::Exec) {
                    let holding = &held[&unit];
                    let is_there =
                        there.iter().any(|c| c.node == holding.node && c.session == holding.session);
                    prop_assert!(is_there);
                }
            }
        }
    }
}
