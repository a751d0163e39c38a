//! The allocator actor: on every node it tells which unit of the pipeline is whose; on the node that
//! coordinates it also decides that.
//!
//! ```text
//! ledger: sessions, allocations ─▶ Allocator ─▶ ledger        (only where this node coordinates)
//!                     └──────────▶ owners, for the share of this node
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
    Allocator, AllocatorConfig, Candidate, Holding, Owners, Profile, Unit,
};
use tickwright_core::domain::{NodeId, Timestamp};
use tickwright_core::ledger::Ledger;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use crate::cluster::View;
use crate::kit::monotonic_nanos;
use crate::ledger::{LedgerClient, LedgerError};

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
    /// Between two looks.
    pub interval: Duration,
    /// How long one change of the ledger may take.
    pub patience: Duration,
    /// Where it is told whose units are.
    pub owners: Arc<watch::Sender<Owners>>,
}

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

    /// Gives units to nodes, if that is up to this node.
    async fn coordinate(&mut self) {
        let AllocatorArguments { config, own, units, ledger, view, patience, .. } = &self.arguments;
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
        let profiles: Vec<Profile> =
            view.borrow().members.iter().map(|member| member.profile.clone()).collect();
        let (held, there) =
            ledger.local(|ledger| (holdings(ledger), candidates(ledger, &profiles)));
        for each in allocator.plan(units.iter().copied(), &held, &there, now) {
            tracing::info!(unit = %each.unit, to = %each.node, node = %own, term, "acts as coordinator");
            let resource = each.unit.to_string();
            match ledger.allocate(&resource, Some(each.node.clone()), *patience).await {
                Ok(_) => {}
                // What is true by now will be seen with the next look.
                Err(error @ (LedgerError::Refused(_) | LedgerError::NotCoordinator(_))) => {
                    tracing::debug!(unit = %each.unit, %error, "not allocated");
                }
                Err(error) => {
                    tracing::warn!(unit = %each.unit, node = %each.node, %error, "not allocated");
                    return;
                }
            }
        }
    }
}

/// Whose each unit is, and since which epoch.
fn owners(ledger: &Ledger) -> Owners {
    let allocations = ledger.allocations().iter();
    let of = allocations.filter_map(|(resource, allocation)| {
        let owner = allocation.owner.as_ref()?;
        Some((Unit::parse(resource)?, (owner.node.clone(), allocation.epoch)))
    });
    of.collect()
}

fn holdings(ledger: &Ledger) -> BTreeMap<Unit, Holding> {
    let allocations = ledger.allocations().iter();
    let of = allocations.filter_map(|(resource, allocation)| {
        let owner = allocation.owner.as_ref()?;
        let holding = Holding { node: owner.node.clone(), session: owner.session.0 };
        Some((Unit::parse(resource)?, holding))
    });
    of.collect()
}

/// Nodes with a session of which it is known what they are there for.
fn candidates(ledger: &Ledger, profiles: &[Profile]) -> Vec<Candidate> {
    let sessions = ledger.sessions().iter().filter(|(_, session)| !session.opening.is_witness);
    let of = sessions.filter_map(|(id, session)| {
        let opening = &session.opening;
        let is_same = |profile: &&Profile| {
            profile.id == opening.node && profile.incarnation == opening.incarnation
        };
        let duties = profiles.iter().find(is_same)?.duties.clone();
        Some(Candidate { node: opening.node.clone(), session: id.0, duties, load: 0.0 })
    });
    of.collect()
}
