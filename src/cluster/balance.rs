//! Chooses one node of several. Everybody uses this who has to: the allocator for units of the pipeline,
//! the network for messages to a role that several nodes serve.
//!
//! | [`Balancing`]     | Chooses                                                                     |
//! |-------------------|-----------------------------------------------------------------------------|
//! | `RoundRobin`      | each in turn                                                                |
//! | `Weighted`        | each in turn, one of twice the weight twice as often                        |
//! | `LeastLoaded`     | the one with the least to do, for its weight                                |
//! | `ConsistentHash`  | the one that the key belongs to: few keys move when nodes come and go       |
//! | `Affinity`        | one that is near to the matter, of several, or of all if none is, the least loaded |
//!
//! *Slow start* goes with all of them: a node that has just come counts for a part of its weight, which
//! grows to the whole.
//!
//! Turns by weight are taken smoothly: everybody's claim grows by its weight with each choice, the largest
//! claim is served and falls by the weights of all (as nginx does it, commit 52327e0, 2012).
//!
//! # Invariants
//!
//! 1. One of those given is chosen, if there are any; the order in which they are given does not matter.
//! 2. In turns, after any number of choices among the same nodes, nobody has had one more than its share.
//! 3. Nobody has less to do, for its weight, than whoever is chosen as the least loaded.
//! 4. When a node goes, only keys that were its own belong to others.
//! 5. Whatever a node's age, it counts for more than nothing, and for no less when it is older.

use std::collections::BTreeMap;

use super::highest;
use crate::domain::{NodeId, Span};

/// What one thing to do more adds to a node's load, which is between 0 and 1: loads are measured now and
/// then, and whatever is given away between would else all go to one node.
const LOAD_OF_ONE: f64 = 0.1;

/// What a node counts for when it has only just come, as a part of its weight.
const SHARE_MIN: f64 = 0.1;

/// How a node is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balancing {
    /// Each in turn.
    RoundRobin,
    /// Each in turn, as often as its weight says.
    Weighted,
    /// The one with the least to do.
    LeastLoaded,
    /// The one that the key belongs to.
    ConsistentHash,
    /// One that is near.
    Affinity,
}

impl Balancing {
    /// All there are, by the names that they have in `cluster.toml`.
    pub const NAMES: [&str; 5] =
        ["round_robin", "weighted", "least_loaded", "consistent_hash", "affinity"];

    /// The one called `name`.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "round_robin" => Self::RoundRobin,
            "weighted" => Self::Weighted,
            "least_loaded" => Self::LeastLoaded,
            "consistent_hash" => Self::ConsistentHash,
            "affinity" => Self::Affinity,
            _ => return None,
        })
    }
}

/// One of those to choose from.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'n> {
    /// Which node.
    pub node: &'n NodeId,
    /// 1.0 is usual; one of 2.0 is to have twice as much. Above zero.
    pub weight: f64,
    /// How loaded it is, from 0 to 1, when that was last measured.
    pub load: f64,
    /// What it has to do: units, questions that it has not answered.
    pub held: usize,
    /// How long it has been there; none, if for longer than anybody knows.
    pub age: Option<Span>,
    /// Whether it is near: it is this node itself, or has had the matter before.
    pub is_near: bool,
}

/// Chooses, and remembers whose turn it is.
#[derive(Debug)]
pub struct Balancer {
    balancing: Balancing,
    slow_start: Span,
    /// By node, as of the last choice; nobody else's is kept.
    claims: BTreeMap<NodeId, f64>,
}

impl Balancer {
    /// One that has not chosen yet. A node counts for its whole weight once it has been there for
    /// `slow_start`.
    pub fn new(balancing: Balancing, slow_start: Span) -> Self {
        Self { balancing, slow_start, claims: BTreeMap::new() }
    }

    /// Who is to have what goes by `key`; none, if there are none to choose from.
    pub fn choose<'n>(&mut self, key: &str, choices: &[Choice<'n>]) -> Option<&'n NodeId> {
        match self.balancing {
            Balancing::RoundRobin => self.take_turns(choices, |_| 1.0),
            Balancing::Weighted => self.take_turns(choices, |choice| choice.weight),
            Balancing::LeastLoaded => self.least_loaded(choices.iter()),
            Balancing::ConsistentHash => self.owner(key, choices),
            Balancing::Affinity => {
                let near = self.least_loaded(choices.iter().filter(|choice| choice.is_near));
                near.or_else(|| self.least_loaded(choices.iter()))
            }
        }
    }

    /// Whom `key` belongs to, however else is chosen.
    pub fn owner<'n>(&self, key: &str, choices: &[Choice<'n>]) -> Option<&'n NodeId> {
        highest(key, choices.iter().map(|choice| (choice.node, self.weight(choice))))
    }

    /// How much a node has to do for its weight, with one thing more.
    pub fn burden(&self, choice: &Choice<'_>) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "nobody has so much to do")]
        let held = choice.held as f64 + 1.0;
        (choice.load + LOAD_OF_ONE * held) / self.weight(choice)
    }

    /// What a node counts for now.
    fn weight(&self, choice: &Choice<'_>) -> f64 {
        choice.weight * self.share(choice.age)
    }

    /// The part of its weight for which a node of `age` counts.
    fn share(&self, age: Option<Span>) -> f64 {
        match age {
            Some(age) if age < self.slow_start => {
                (age.as_secs_f64() / self.slow_start.as_secs_f64()).max(SHARE_MIN)
            }
            Some(_) | None => 1.0,
        }
    }

    fn take_turns<'n>(
        &mut self,
        choices: &[Choice<'n>],
        weight: impl Fn(&Choice<'_>) -> f64,
    ) -> Option<&'n NodeId> {
        let weight = |choice: &Choice<'n>| (choice.node, weight(choice) * self.share(choice.age));
        let mut claims: BTreeMap<&'n NodeId, f64> = choices.iter().map(weight).collect();
        // By name, or the order in which they are given would show in the last bit.
        let total: f64 = claims.values().sum();
        for (node, claim) in &mut claims {
            *claim += self.claims.get(*node).copied().unwrap_or(0.0);
        }
        let first = |a: &(&&NodeId, &f64), b: &(&&NodeId, &f64)| {
            a.1.total_cmp(b.1).then_with(|| b.0.cmp(a.0))
        };
        let (&chosen, _) = claims.iter().max_by(first)?;
        self.claims = claims.into_iter().map(|(node, claim)| (node.clone(), claim)).collect();
        if let Some(claim) = self.claims.get_mut(chosen) {
            *claim -= total;
        }
        Some(chosen)
    }

    fn least_loaded<'n: 'c, 'c>(
        &self,
        choices: impl Iterator<Item = &'c Choice<'n>>,
    ) -> Option<&'n NodeId> {
        let order = |a: &&Choice<'_>, b: &&Choice<'_>| {
            self.burden(a).total_cmp(&self.burden(b)).then_with(|| a.node.cmp(b.node))
        };
        choices.min_by(order).map(|choice| choice.node)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SLOW: Span = Span::from_secs(30);

    fn names(count: usize) -> Vec<NodeId> {
        (0..count).map(|number| NodeId(format!("node-{number}"))).collect()
    }

    fn choice(node: &NodeId) -> Choice<'_> {
        Choice { node, weight: 1.0, load: 0.0, held: 0, age: None, is_near: false }
    }

    fn chosen(balancer: &mut Balancer, choices: &[Choice<'_>], times: usize) -> Vec<String> {
        let one = |_| balancer.choose("x", choices).map(|node| node.0.clone()).unwrap_or_default();
        (0..times).map(one).collect()
    }

    #[test]
    fn a_balancing_has_the_name_it_is_configured_by() {
        for name in Balancing::NAMES {
            assert!(Balancing::parse(name).is_some(), "{name}");
        }
        assert_eq!(Balancing::parse("random"), None);
    }

    #[test]
    fn each_has_its_turn_by_name_and_one_that_comes_is_in_it() {
        let nodes = names(3);
        let two: Vec<_> = nodes[..2].iter().map(choice).collect();
        let three: Vec<_> = nodes.iter().map(choice).collect();
        let mut balancer = Balancer::new(Balancing::RoundRobin, SLOW);
        assert_eq!(chosen(&mut balancer, &two, 4), ["node-0", "node-1", "node-0", "node-1"]);
        let mut next = chosen(&mut balancer, &three, 3);
        next.sort();
        assert_eq!(next, ["node-0", "node-1", "node-2"]);
    }

    #[test]
    fn weights_are_taken_smoothly() {
        let nodes = names(2);
        let choices = [Choice { weight: 3.0, ..choice(&nodes[0]) }, choice(&nodes[1])];
        let mut balancer = Balancer::new(Balancing::Weighted, SLOW);
        let order = chosen(&mut balancer, &choices, 4);
        assert_eq!(order, ["node-0", "node-0", "node-1", "node-0"]);
    }

    #[test]
    fn a_tenth_of_load_is_as_much_as_one_thing_to_do() {
        let nodes = names(2);
        let of = |held: usize, load: f64| {
            let choices =
                [Choice { held, ..choice(&nodes[0]) }, Choice { load, ..choice(&nodes[1]) }];
            chosen(&mut Balancer::new(Balancing::LeastLoaded, SLOW), &choices, 1).remove(0)
        };
        assert_eq!(of(1, 0.09), "node-1");
        assert_eq!(of(1, 0.11), "node-0");
        assert_eq!(of(0, 0.0), "node-0", "the first by name of equals");
    }

    #[test]
    fn who_is_near_is_chosen_even_if_loaded_and_else_the_least_loaded() {
        let nodes = names(3);
        let mut choices: Vec<_> = nodes.iter().map(choice).collect();
        choices[0].load = 0.2;
        choices[2].load = 0.9;
        let mut balancer = Balancer::new(Balancing::Affinity, SLOW);
        assert_eq!(chosen(&mut balancer, &choices, 1), ["node-1"]);
        choices[2].is_near = true;
        assert_eq!(chosen(&mut balancer, &choices, 1), ["node-2"]);
    }

    #[test]
    fn a_node_that_has_just_come_gets_a_tenth_and_then_its_share() {
        let nodes = names(2);
        let counts = |seconds: u64| {
            let age = Some(Span::from_secs(seconds));
            let choices = [choice(&nodes[0]), Choice { age, ..choice(&nodes[1]) }];
            let mut balancer = Balancer::new(Balancing::RoundRobin, SLOW);
            let all = chosen(&mut balancer, &choices, 110);
            all.iter().filter(|name| *name == "node-1").count()
        };
        assert_eq!(counts(0), 10);
        assert_eq!(counts(15), 37, "half of what the other gets");
        assert_eq!(counts(30), 55);
    }

    fn balancing() -> impl Strategy<Value = Balancing> {
        proptest::sample::select(Balancing::NAMES.to_vec())
            .prop_map(|name| Balancing::parse(name).unwrap())
    }

    /// Weight in quarters, load in hundredths, what it has, its age in seconds, whether it is near.
    type Drawn = (u8, u8, usize, Option<u64>, bool);

    fn drawn(most: usize) -> impl Strategy<Value = Vec<Drawn>> {
        let age = proptest::option::of(0u64..60);
        proptest::collection::vec((1u8..20, 0u8..=100, 0usize..9, age, any::<bool>()), 0..most)
    }

    fn choices<'n>(nodes: &'n [NodeId], drawn: &[Drawn]) -> Vec<Choice<'n>> {
        let one = |(node, &(weight, load, held, age, is_near)): (&'n NodeId, &Drawn)| Choice {
            node,
            weight: f64::from(weight) / 4.0,
            load: f64::from(load) / 100.0,
            held,
            age: age.map(Span::from_secs),
            is_near,
        };
        nodes.iter().zip(drawn).map(one).collect()
    }

    proptest! {
        /// Invariant 1.
        #[test]
        fn one_of_those_given_is_chosen_in_whatever_order_they_are(
            balancing in balancing(),
            drawn in drawn(6),
            keys in proptest::collection::vec("[a-z]{1,8}", 1..12),
        ) {
            let nodes = names(drawn.len());
            let given = choices(&nodes, &drawn);
            let backwards: Vec<_> = given.iter().rev().copied().collect();
            let mut one = Balancer::new(balancing, SLOW);
            let mut other = Balancer::new(balancing, SLOW);
            for key in keys {
                let chosen = one.choose(&key, &given);
                prop_assert_eq!(chosen.is_some(), !given.is_empty());
                prop_assert_eq!(chosen, other.choose(&key, &backwards));
            }
        }

        /// Invariant 2.
        #[test]
        fn in_turns_nobody_has_had_one_more_than_its_share(
            drawn in drawn(6),
            times in 1usize..300,
        ) {
            let nodes = names(drawn.len());
            let given: Vec<_> =
                choices(&nodes, &drawn).into_iter().map(|c| Choice { age: None, ..c }).collect();
            let mut balancer = Balancer::new(Balancing::Weighted, SLOW);
            let all = chosen(&mut balancer, &given, times);
            let total: f64 = given.iter().map(|choice| choice.weight).sum();
            for choice in &given {
                let had = all.iter().filter(|name| **name == choice.node.0).count();
                let due = choice.weight / total * f64::from(u32::try_from(times).unwrap());
                let had = f64::from(u32::try_from(had).unwrap());
                let others = f64::from(u32::try_from(given.len() - 1).unwrap());
                let is_fair = had - due <= 1.0 + 1e-6 && due - had <= others + 1e-6;
                prop_assert!(is_fair, "{had} of {due}: {given:?}");
            }
        }

        /// Invariants 3 and 5.
        #[test]
        fn nobody_has_less_to_do_than_the_least_loaded(drawn in drawn(6)) {
            let nodes = names(drawn.len());
            let given = choices(&nodes, &drawn);
            let mut balancer = Balancer::new(Balancing::LeastLoaded, SLOW);
            if let Some(chosen) = balancer.choose("x", &given) {
                let found = given.iter().find(|choice| choice.node == chosen).unwrap();
                for choice in &given {
                    prop_assert!(balancer.burden(found) <= balancer.burden(choice));
                    let older = Choice { age: choice.age.map(|age| age * 2), ..*choice };
                    prop_assert!(balancer.burden(&older) <= balancer.burden(choice));
                    prop_assert!(balancer.burden(choice).is_finite());
                }
            }
        }

        /// Invariant 4.
        #[test]
        fn only_keys_of_a_node_that_goes_move(drawn in drawn(6), key in "[a-z]{1,8}", gone in 0usize..6) {
            let nodes = names(drawn.len());
            let given = choices(&nodes, &drawn);
            let mut balancer = Balancer::new(Balancing::ConsistentHash, SLOW);
            let before = balancer.choose(&key, &given);
            let left: Vec<_> =
                given.iter().filter(|choice| nodes.get(gone) != Some(choice.node)).copied().collect();
            let after = balancer.choose(&key, &left);
            prop_assert!(before == after || before == nodes.get(gone));
        }
    }
}
