//! What the coordinator does, as `actors/allocator.rs` does it.

use std::collections::BTreeMap;

use tickwright_core::cluster::{
    Allocator, AllocatorConfig, Balancing, Candidate, GivenUp, Holding, Placing, Profile,
    Situation, Unit,
};
use tickwright_core::domain::Span;
use tickwright_core::ledger::{Command, Ledger, Operation, OperationId};

use super::Why;
use crate::world::{Broken, What, World};

impl World {
    /// Gives units to nodes, if that is up to this node.
    pub(crate) fn allocator_look(&mut self, node: usize) -> Result<(), Broken> {
        self.after(node, self.timings.heartbeat / 2, What::AllocatorLook);
        let now = self.clock(node);
        let config = AllocatorConfig {
            placing: Placing::Rendezvous,
            balancing: Balancing::LeastLoaded,
            slow_start: Span::from_secs(3),
            nodes_min: self.nodes.len(),
            settle: Span::from_secs(2),
            fails_over: true,
            patience: Span::ZERO,
            handovers_max: self.scenario.handovers_max,
            handover_patience: Span::from_secs(5),
        };
        let units: Vec<Unit> = self.workload.units().collect();
        let run = self.run_of(node);
        let agreement = &mut run.agreement;
        let coordinator = agreement.copy.coordinator().clone();
        let Some(term) = agreement.keeper.term(&coordinator, now) else {
            agreement.allocator = None;
            return Ok(());
        };
        if agreement.allocating > 0 {
            return Ok(());
        }
        if agreement.allocator.as_ref().is_none_or(|&(known, _)| known != term) {
            agreement.allocator = Some((term, Allocator::new(config, now)));
        }
        let profiles: Vec<Profile> =
            run.membership.members(now).into_iter().map(|member| member.profile).collect();
        let held = holdings(&agreement.copy);
        let there = candidates(&agreement.copy, &profiles);
        let drained = self.drained.clone();
        let agreement = &mut self.run_of(node).agreement;
        let Some((_, allocator)) = &mut agreement.allocator else { return Ok(()) };
        let situation = Situation {
            held: &held,
            there: &there,
            drained: &drained,
            master: None,
            given_up: &GivenUp::new(),
        };
        let moves = allocator.plan(units, &situation, now);
        let client = agreement.client;
        for each in moves {
            let session = coordinator.holder.clone().expect("it has a term");
            let before = self.service.acted.entry(term).or_insert_with(|| session.clone());
            if *before != session || session.0 != self.nodes[node].name {
                return Err(format!("(2) {before:?} and {session:?} both acted in term {term}"));
            }
            let agreement = &mut self.run_of(node).agreement;
            agreement.number += 1;
            agreement.allocating += 1;
            let since = agreement.copy.revision();
            let id = Some(OperationId { client, number: agreement.number, since });
            let resource = each.unit.to_string();
            let operation = Operation::Allocate { term, resource, owner: each.node };
            self.submit(node, Some(Command { id, operation }), Span::from_secs(2), Why::Allocate);
        }
        Ok(())
    }
}

fn holdings(ledger: &Ledger) -> BTreeMap<Unit, Holding> {
    let allocations = ledger.allocations().iter();
    let of = allocations.filter_map(|(resource, allocation)| {
        let owner = allocation.owner.as_ref()?;
        let holding =
            Holding { node: owner.node.clone(), session: owner.session.0, epoch: allocation.epoch };
        Some((Unit::parse(resource)?, holding))
    });
    of.collect()
}

/// Nodes with a session of which it is known what they are there for.
fn candidates(ledger: &Ledger, profiles: &[Profile]) -> Vec<Candidate> {
    let of = ledger.sessions().iter().filter_map(|(id, session)| {
        let opening = &session.opening;
        Candidate::of(&opening.node, id.0, opening.incarnation, profiles)
    });
    of.collect()
}
