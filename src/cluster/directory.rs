//! Which node serves a role.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Status;
use crate::domain::NodeId;

/// A role that a node serves, and since which epoch of the allocation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Service {
    /// The job's name, such as `cleaner/0`.
    pub role: String,
    /// Grows with every change of owner.
    pub epoch: u64,
}

/// Every role of every member, as far as they have told.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    /// By role, then by epoch and node. Bounded by what members may announce.
    roles: BTreeMap<String, BTreeMap<NodeId, (u64, Status)>>,
}

impl Directory {
    /// All there is to know now; replaces what was known of `node`. Whoever has left serves nothing.
    pub fn on_member(&mut self, node: &NodeId, status: Status, services: &[Service]) {
        let services = if status == Status::Left { &[] } else { services };
        let now: BTreeSet<&str> = services.iter().map(|service| service.role.as_str()).collect();
        self.roles.retain(|role, nodes| {
            if !now.contains(role.as_str()) {
                nodes.remove(node);
            }
            !nodes.is_empty()
        });
        for Service { role, epoch } in services {
            self.roles.entry(role.clone()).or_default().insert(node.clone(), (*epoch, status));
        }
    }

    /// The node that serves `role`, and its epoch: of those that are up or suspect the one with the
    /// newest epoch, then `own`, then a node that is not suspect, then the first by name.
    pub fn serving(&self, role: &str, own: &NodeId) -> Option<(&NodeId, u64)> {
        let nodes = self.roles.get(role)?;
        nodes
            .iter()
            .filter(|(_, (_, status))| matches!(status, Status::Up | Status::Suspect))
            .min_by_key(|&(node, &(epoch, status))| {
                (std::cmp::Reverse(epoch), node != own, status != Status::Up, node)
            })
            .map(|(node, &(epoch, _))| (node, epoch))
    }

    /// The nodes that serve `role` at its newest epoch: those that are up, or, if none is, those that are
    /// suspect.
    pub fn holders(&self, role: &str) -> impl Iterator<Item = &NodeId> {
        let nodes = || self.roles.get(role).into_iter().flatten();
        let of = |status: Status| nodes().filter(move |(_, (_, known))| *known == status);
        let up = of(Status::Up).next().is_some();
        let status = if up { Status::Up } else { Status::Suspect };
        let newest = of(status).map(|(_, &(epoch, _))| epoch).max();
        of(status).filter(move |(_, (epoch, _))| Some(*epoch) == newest).map(|(node, _)| node)
    }

    /// Whether a node that is up serves `role`.
    pub fn is_up(&self, role: &str) -> bool {
        let nodes = self.roles.get(role);
        nodes.is_some_and(|nodes| nodes.values().any(|&(_, status)| status == Status::Up))
    }

    /// Every role with the nodes that have announced it.
    pub fn roles(&self) -> impl Iterator<Item = (&str, impl Iterator<Item = &NodeId>)> {
        self.roles.iter().map(|(role, nodes)| (role.as_str(), nodes.keys()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services(roles: &[(&str, u64)]) -> Vec<Service> {
        roles.iter().map(|&(role, epoch)| Service { role: role.into(), epoch }).collect()
    }

    /// A node, how it is, and its roles with their epochs.
    type Told<'t> = (&'t str, Status, &'t [(&'t str, u64)]);

    fn directory(members: &[Told<'_>]) -> Directory {
        let mut directory = Directory::default();
        for &(node, status, roles) in members {
            directory.on_member(&node.into(), status, &services(roles));
        }
        directory
    }

    fn serving(directory: &Directory, role: &str, own: &str) -> Option<String> {
        directory.serving(role, &own.into()).map(|(node, _)| node.to_string())
    }

    #[test]
    fn the_newest_epoch_wins_over_everything_else() {
        let both: &[Told<'_>] =
            &[("a", Status::Up, &[("risk", 1)]), ("b", Status::Suspect, &[("risk", 2)])];
        assert_eq!(serving(&directory(both), "risk", "a"), Some("b".into()));
    }

    #[test]
    fn one_s_own_actor_is_preferred_then_a_healthy_node() {
        let both: &[Told<'_>] =
            &[("a", Status::Suspect, &[("x", 1)]), ("b", Status::Up, &[("x", 1)])];
        assert_eq!(serving(&directory(both), "x", "a"), Some("a".into()));
        assert_eq!(serving(&directory(both), "x", "c"), Some("b".into()));
        assert!(directory(both).is_up("x"));
        assert!(!directory(&both[..1]).is_up("x"));
    }

    #[test]
    fn a_role_is_held_by_all_that_are_up_or_else_by_the_suspects() {
        let all: &[Told<'_>] = &[
            ("a", Status::Up, &[("x", 0)]),
            ("b", Status::Suspect, &[("x", 0), ("y", 0)]),
            ("c", Status::Up, &[("x", 0)]),
            ("d", Status::Down, &[("x", 0), ("y", 0)]),
        ];
        let directory = directory(all);
        let holders =
            |role| directory.holders(role).map(|node| node.0.as_str()).collect::<Vec<_>>();
        assert_eq!(holders("x"), ["a", "c"]);
        assert_eq!(holders("y"), ["b"]);
        assert_eq!(holders("z"), [""; 0]);
    }

    #[test]
    fn nobody_serves_a_role_that_was_given_up_or_whose_node_is_down() {
        let mut directory = directory(&[("a", Status::Up, &[("x", 1), ("y", 1)])]);
        directory.on_member(&"a".into(), Status::Up, &services(&[("y", 1)]));
        assert_eq!(serving(&directory, "x", "b"), None);
        directory.on_member(&"a".into(), Status::Down, &services(&[("y", 1)]));
        assert_eq!(serving(&directory, "y", "b"), None);
        assert_eq!(directory.roles().count(), 1);
    }
}
