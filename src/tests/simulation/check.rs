//! The properties that are about the whole.

use tickwright_core::cluster::Status;

use crate::world::{Broken, MILLISECOND, SECOND, What, World, names};

/// How long after the last fault all links must be up again, connections that were given up late and
/// dials under way included.
const LINKS_UP: u64 = 20 * SECOND;

impl World {
    /// (1): only the first seed founds a new cluster, and nobody does while most nodes are in one.
    pub(crate) fn check_founding(&mut self, node: usize) -> Result<(), Broken> {
        let name = &self.nodes[node].name;
        if self.founded.is_empty() && node != self.scenario.seeds[0] {
            return Err(format!("(1) {name} founds, and is not the first seed"));
        }
        let inside = self.nodes.iter().filter(|other| {
            other.name != *name && other.run.as_ref().is_some_and(|run| run.join.is_done())
        });
        let inside: Vec<_> = inside.map(|other| &other.name).collect();
        if inside.len() * 2 >= self.nodes.len() {
            return Err(format!(
                "(1) {name} founds, and {:?} are in a cluster",
                names(inside.into_iter())
            ));
        }
        Ok(())
    }

    /// (5): links are up, then all agree, then every unit has an owner that is there.
    pub(crate) fn check_agreement(&mut self) -> Result<(), Broken> {
        self.at_world(self.now + 10 * MILLISECOND, What::Check);
        let is_meshed = self.net.is_whole() && self.is_meshed();
        if !is_meshed {
            self.meshed_at = None;
            self.agreed_at = None;
            if self.now > self.quiet_at + LINKS_UP {
                return Err(format!("(5) links are not up\n{:?}", self.unlinked()));
            }
            return Ok(());
        }
        let meshed_at = *self.meshed_at.get_or_insert(self.now);
        if self.is_agreed() {
            self.agreed_at = Some(self.now);
            return Ok(());
        }
        // Beats that are lost may make somebody doubt again later, for as long.
        let since = meshed_at.max(self.agreed_at.unwrap_or(0));
        // Nodes that have yet to find the cluster do so by rounds of their own.
        let is_searching =
            self.nodes.iter().any(|node| node.run.as_ref().is_none_or(|run| !run.join.is_done()));
        let heartbeat = u64::try_from(self.timings.heartbeat.as_nanos()).unwrap();
        let round_trip = 2 * self.net.delay.1 * 5;
        // What is lost is told again with the next beat.
        let losses = if self.net.loss > 0 { 4 } else { 0 };
        let bound = (2 + losses) * heartbeat + 3 * round_trip + 30 * MILLISECOND;
        if !is_searching && self.now > since + bound {
            return Err(format!("(5) no agreement {bound} ns after links were up"));
        }
        Ok(())
    }

    fn unlinked(&self) -> Vec<(&str, &str)> {
        let mut missing = Vec::new();
        for node in &self.nodes {
            let Some(run) = &node.run else { continue };
            for other in &self.nodes {
                if other.name != node.name && !run.open.contains_key(&other.name) {
                    missing.push((node.name.0.as_str(), other.name.0.as_str()));
                }
            }
        }
        missing
    }

    fn is_meshed(&self) -> bool {
        let all_up = (0..self.nodes.len()).all(|node| self.is_awake(node));
        all_up && self.unlinked().is_empty()
    }

    fn is_agreed(&self) -> bool {
        self.nodes.iter().all(|node| {
            let Some(run) = &node.run else { return false };
            self.nodes.iter().all(|other| {
                let is_up = run.membership.status(&other.name) == Some(Status::Up);
                let known = run.membership.profile(&other.name).map(|(p, _)| p.incarnation);
                is_up && known == Some(other.incarnation)
            })
        })
    }

    /// Whether every unit runs once, where the ledger says.
    pub(crate) fn is_settled(&self) -> bool {
        self.workload.units().all(|unit| {
            let allocation = self.service.truth.allocation(&unit.to_string());
            let hosts = self.nodes.iter().filter_map(|node| {
                let epoch = node.run.as_ref()?.hosted.get(&unit)?;
                Some((&node.name, *epoch))
            });
            let is_owner = allocation
                .and_then(|allocation| Some((&allocation.owner.as_ref()?.node, allocation.epoch)));
            is_owner.is_some() && hosts.eq(is_owner)
        })
    }

    /// At the end of a run.
    pub(crate) fn check_end(&self) -> Result<(), Broken> {
        crate::history::check(&self.service.history)
    }
}
