//! Which of several nodes that serve a role is told or asked, if no node is named.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use tickwright_core::cluster::{Balancer, Balancing, Choice};
use tickwright_core::domain::{NodeId, Span};

use super::{Network, lock, read};
use crate::cluster::load::Loads;

/// Roles for which it is remembered whose turn it is; beyond it all turns begin anew.
const ROLES_MAX: usize = 256;

/// What the choice goes by.
#[derive(Clone, Debug)]
pub(in crate::cluster) struct ChoiceSettings {
    pub(in crate::cluster) balancing: Balancing,
    /// How long until a node that was linked just now counts for its whole weight.
    pub(in crate::cluster) slow_start: Span,
    /// 1.0 for those that are not here.
    pub(in crate::cluster) weights: BTreeMap<NodeId, f64>,
    pub(in crate::cluster) loads: Loads,
}

/// Chooses, and remembers whose turn it is and who is asked.
#[derive(Debug)]
pub(super) struct Chooser {
    settings: ChoiceSettings,
    /// By role, at most [`ROLES_MAX`].
    balancers: Mutex<BTreeMap<String, Balancer>>,
    /// Questions that each node has not answered. One entry per node that is asked.
    waiting: Mutex<BTreeMap<NodeId, usize>>,
}

impl Chooser {
    pub(super) fn new(settings: ChoiceSettings) -> Self {
        Self { settings, balancers: Mutex::default(), waiting: Mutex::default() }
    }

    /// One of `nodes`, each with the time for which it has been linked; none for `own`.
    pub(super) fn choose(
        &self,
        role: &str,
        own: &NodeId,
        nodes: &BTreeMap<NodeId, Option<Duration>>,
    ) -> Option<NodeId> {
        let ChoiceSettings { balancing, slow_start, weights, loads } = &self.settings;
        let choices: Vec<Choice<'_>> = {
            let waiting = lock(&self.waiting);
            let of = |(node, linked): (_, &Option<Duration>)| Choice {
                node,
                weight: weights.get(node).copied().unwrap_or(1.0),
                load: loads.score(node),
                held: waiting.get(node).copied().unwrap_or(0),
                age: *linked,
                is_near: node == own,
            };
            nodes.iter().map(of).collect()
        };
        let mut balancers = lock(&self.balancers);
        if balancers.len() >= ROLES_MAX && !balancers.contains_key(role) {
            balancers.clear();
        }
        let balancer = balancers.entry(role.to_owned());
        let balancer = balancer.or_insert_with(|| Balancer::new(*balancing, *slow_start));
        balancer.choose(role, &choices).cloned()
    }

    /// `node` is asked something.
    pub(super) fn on_asked(&self, node: &NodeId) {
        *lock(&self.waiting).entry(node.clone()).or_default() += 1;
    }

    /// `node` has answered, or is not waited for any more.
    pub(super) fn on_answered(&self, node: &NodeId) {
        let mut waiting = lock(&self.waiting);
        if let Some(count) = waiting.get_mut(node) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(node);
            }
        }
    }
}

impl Network {
    /// The node that is told or asked what is for `role`: the one there is, or of several one in its turn.
    pub(super) fn chosen(&self, role: &str) -> Option<NodeId> {
        let own = &self.0.own.id;
        let is_here = read(&self.0.local).contains_key(role);
        let (owner, epoch) = self.owner(role)?;
        // What is allocated is one node's alone.
        if epoch > 0 {
            return Some(owner);
        }
        let mut nodes: BTreeMap<NodeId, Option<Duration>> = BTreeMap::new();
        {
            let (directory, links) = (read(&self.0.directory), read(&self.0.links));
            for node in directory.holders(role).filter(|node| *node != own) {
                if let Some(link) = links.get(node) {
                    nodes.insert(node.clone(), Some(link.since.elapsed()));
                }
            }
        }
        if is_here {
            nodes.insert(own.clone(), None);
        }
        if nodes.len() < 2 { Some(owner) } else { self.0.chooser.choose(role, own, &nodes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chooser(balancing: Balancing) -> Chooser {
        let weights = BTreeMap::from([("c".into(), 2.0)]);
        let (slow_start, loads) = (Span::from_secs(30), Loads::new(Duration::from_secs(5)));
        Chooser::new(ChoiceSettings { balancing, slow_start, weights, loads })
    }

    fn chosen(chooser: &Chooser, linked: Duration, times: usize) -> String {
        let nodes = ["a", "b", "c"].into_iter();
        let nodes: BTreeMap<NodeId, Option<Duration>> =
            nodes.map(|node| (node.into(), (node != "b").then_some(linked))).collect();
        (0..times).map(|_| chooser.choose("x", &"b".into(), &nodes).unwrap().0).collect()
    }

    const LONG: Duration = Duration::from_secs(3_600);

    #[test]
    fn the_way_that_is_configured_is_the_one_that_is_taken() {
        assert_eq!(chosen(&chooser(Balancing::Affinity), LONG, 3), "bbb", "itself");
        assert_eq!(chosen(&chooser(Balancing::RoundRobin), LONG, 3), "abc");
        assert_eq!(chosen(&chooser(Balancing::Weighted), LONG, 4), "cabc");
        let least = chooser(Balancing::LeastLoaded);
        assert_eq!(chosen(&least, LONG, 2), "cc", "it is worth two");
        least.on_asked(&"c".into());
        least.on_asked(&"c".into());
        assert_eq!(chosen(&least, LONG, 1), "a");
        least.on_answered(&"c".into());
        least.on_answered(&"c".into());
        assert_eq!(chosen(&least, LONG, 1), "c");
        let hashed = chosen(&chooser(Balancing::ConsistentHash), LONG, 2);
        assert_eq!(hashed.as_bytes()[0], hashed.as_bytes()[1]);
    }

    #[test]
    fn a_node_that_was_linked_just_now_is_asked_little() {
        let told = chosen(&chooser(Balancing::RoundRobin), Duration::ZERO, 12);
        assert_eq!(told.matches('b').count(), 10, "{told}");
    }
}
