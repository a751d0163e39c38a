//! The allocator actor: on every node it tells which unit of the pipeline is whose; on the node that
//! coordinates it also decides that.
//!
//! ```text
//! ledger: sessions, allocations ─▶ Allocator ─▶ ledger        (only where this node coordinates)
//!                     └──────────▶ owners, for the share of this node
//! units that were given up here ─▶ Allocator ─▶ ledger        (on every node)
//! ```
//!
//! *Failover.* What it knows is in the ledger. A new coordinator begins with no memory of how long nodes
//! have been there, and is slower to bring units back for that.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use ractor_cluster::RactorMessage;
use tickwright_core::cluster::{
    Allocator, AllocatorConfig, Candidate, Holding, Owners, Profile, Situation, Unit,
};
use tickwright_core::domain::{NodeId, Timestamp};
use tickwright_core::ledger::Ledger;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use crate::cluster::{Loads, View};
use crate::kit::monotonic_nanos;
use crate::ledger::{LedgerClient, LedgerError, drained, given_up, leaving, owners};

/// Everything the mailbox holds.
#[derive(Debug, RactorMessage)]
pub enum AllocatorMessage {
    /// Time has passed, or the ledger has changed.
    Look,
}

/// What the actor is started with.
#[derive(Clone)]
pub struct AllocatorArguments {
    /// How it decides.
    pub config: AllocatorConfig,
    /// This node.
    pub own: NodeId,
    /// Everything there is to allocate.
    pub units: Vec<Unit>,
    /// Where it stands whose they are.
    pub ledger: LedgerClient,
    /// Who is there, and what for.
    pub view: watch::Receiver<View>,
    /// How loaded they are.
    pub loads: Loads,
    /// How much they are to have; 1.0 for those that are not here.
    pub weights: BTreeMap<NodeId, f64>,
    /// Units that were given up here, at which epoch, and why.
    pub given_up: watch::Receiver<GivenUpHere>,
    /// Between two looks.
    pub interval: Duration,
    /// How long one change of the ledger may take.
    pub patience: Duration,
    /// Where it is told whose units are.
    pub owners: Arc<watch::Sender<Owners>>,
}

/// Units that one node has given up, at which epoch, and why.
pub type GivenUpHere = BTreeMap<Unit, (u64, String)>;

impl fmt::Debug for AllocatorArguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AllocatorArguments").field("config", &self.config).finish_non_exhaustive()
    }
}

/// The actor.
#[derive(Debug)]
pub struct AllocatorActor;

/// What the actor owns while it runs.
#[derive(Debug)]
pub struct AllocatorState {
    arguments: AllocatorArguments,
    /// The term for which this node coordinates, and what it remembers of it.
    coordinating: Option<(u64, Allocator)>,
}

impl Actor for AllocatorActor {
    type Msg = AllocatorMessage;
    type State = AllocatorState;
    type Arguments = AllocatorArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<AllocatorMessage>,
        arguments: AllocatorArguments,
    ) -> Result<AllocatorState, ActorProcessingErr> {
        myself.send_interval(arguments.interval, || AllocatorMessage::Look);
        tokio::spawn(look_when_units_begin(arguments.view.clone(), myself.clone()));
        let (mut events, actor) = (arguments.ledger.events(), myself);
        tokio::spawn(async move {
            // Events that were missed are in the ledger all the same.
            while !matches!(events.recv().await, Err(RecvError::Closed)) {
                while events.try_recv().is_ok() {}
                if actor.cast(AllocatorMessage::Look).is_err() {
                    return;
                }
            }
        });
        Ok(AllocatorState { arguments, coordinating: None })
    }

    async fn handle(
        &self,
        _myself: ActorRef<AllocatorMessage>,
        message: AllocatorMessage,
        state: &mut AllocatorState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            AllocatorMessage::Look => {
                state.give_up().await;
                state.coordinate().await;
                state.publish();
            }
        }
        Ok(())
    }
}

impl AllocatorState {
    fn publish(&self) {
        let owners = self.arguments.ledger.local(owners);
        self.arguments.owners.send_if_modified(|known| {
            let is_news = *known != owners;
            *known = owners;
            is_news
        });
    }

    /// Tells everybody what this node has and cannot keep.
    async fn give_up(&self) {
        let AllocatorArguments { own, ledger, given_up, patience, .. } = &self.arguments;
        let given_up = given_up.borrow().clone();
        for (unit, (epoch, reason)) in given_up {
            let is_known = ledger.local(|ledger| {
                let is_own = owners(ledger).get(&unit) == Some(&(own.clone(), epoch));
                !is_own || self.has_told(ledger, unit)
            });
            if is_known {
                continue;
            }
            tracing::warn!(%unit, epoch, reason, "given up here; another node is to have it");
            if let Err(error) = ledger.give_up(unit, &reason, *patience).await {
                tracing::warn!(%unit, %error, "nobody knows that it was given up here");
            }
        }
    }

    /// Whether the ledger knows that this life of this node has given `unit` up.
    fn has_told(&self, ledger: &Ledger, unit: Unit) -> bool {
        let own = &self.arguments.own;
        let session = ledger.members().get(own).and_then(|member| member.session);
        let Some(session) = session else { return false };
        given_up(ledger).get(&unit).is_some_and(|lives| lives.contains(&(own.clone(), session.0)))
    }

    /// Gives units to nodes, if that is up to this node.
    async fn coordinate(&mut self) {
        let AllocatorArguments {
            config, own, units, ledger, view, loads, weights, patience, ..
        } = &self.arguments;
        let Some(term) = ledger.term() else {
            self.coordinating = None;
            return;
        };
        let now = Timestamp::from_nanos(monotonic_nanos());
        if self.coordinating.as_ref().is_none_or(|&(known, _)| known != term) {
            self.coordinating = Some((term, Allocator::new(*config, now)));
            tracing::info!(node = %own, term, "acts as coordinator");
        }
        let Some((_, allocator)) = &mut self.coordinating else { return };
        // While the services of this node begin anew it knows nobody, which is no reason to take what others have.
        if !view.borrow().is_member {
            return;
        }
        let profiles: Vec<Profile> =
            view.borrow().members.iter().map(|member| member.profile.clone()).collect();
        let (held, mut there) =
            ledger.local(|ledger| (holdings(ledger), candidates(ledger, &profiles)));
        for candidate in &mut there {
            candidate.load = loads.score(&candidate.node);
            candidate.weight = weights.get(&candidate.node).copied().unwrap_or(1.0);
        }
        let (master, given_up, mut drained, leaving) = ledger.local(|ledger| {
            (ledger.promoted().cloned(), given_up(ledger), drained(ledger), leaving(ledger))
        });
        drained.extend(leaving);
        let situation = Situation {
            held: &held,
            there: &there,
            drained: &drained,
            master: master.as_ref(),
            given_up: &given_up,
        };
        for each in allocator.plan(units.iter().copied(), &situation, now) {
            match &each.node {
                Some(to) => {
                    tracing::info!(unit = %each.unit, %to, node = %own, term, "acts as coordinator");
                }
                None => tracing::error!(
                    unit = %each.unit, node = %own, term,
                    "acts as coordinator: every node has given it up, and nobody has it now",
                ),
            }
            let resource = each.unit.to_string();
            match ledger.allocate(&resource, each.node.clone(), *patience).await {
                Ok(_) => {}
                // What is true by now will be seen with the next look.
                Err(error @ (LedgerError::Refused(_) | LedgerError::NotCoordinator(_))) => {
                    tracing::debug!(unit = %each.unit, %error, "not allocated");
                }
                Err(error) => {
                    tracing::warn!(unit = %each.unit, to = ?each.node, %error, "not allocated");
                    return;
                }
            }
        }
    }
}

/// Looks whenever a node says that it runs other units than before: the next may move then.
async fn look_when_units_begin(mut view: watch::Receiver<View>, actor: ActorRef<AllocatorMessage>) {
    let mut known = Vec::new();
    while view.changed().await.is_ok() {
        let members = view.borrow_and_update().members.clone();
        let services =
            members.into_iter().map(|member| (member.profile.id, member.profile.services));
        let services: Vec<_> = services.collect();
        if services != known {
            known = services;
            if actor.cast(AllocatorMessage::Look).is_err() {
                return;
            }
        }
    }
}

fn holdings(ledger: &Ledger) -> BTreeMap<Unit, Holding> {
    let allocations = ledger.allocations().iter();
    let of = allocations.filter_map(|(resource, allocation)| {
        let owner = allocation.owner.as_ref()?;
        let (node, session) = (owner.node.clone(), owner.session.0);
        let holding = Holding { node, session, epoch: allocation.epoch };
        Some((Unit::parse(resource)?, holding))
    });
    of.collect()
}

/// Nodes with a session of which it is known what they are there for.
fn candidates(ledger: &Ledger, profiles: &[Profile]) -> Vec<Candidate> {
    let sessions = ledger.sessions().iter().filter(|(_, session)| !session.opening.is_witness);
    let of = sessions.filter_map(|(id, session)| {
        let opening = &session.opening;
        Candidate::of(&opening.node, id.0, opening.incarnation, profiles)
    });
    of.collect()
}
