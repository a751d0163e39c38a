//! What joins the ledger to the rest of a node.

use std::sync::Arc;
use std::time::Duration;

use tickwright_core::cluster::Timings;
use tickwright_core::config::Config;
use tickwright_core::domain::NodeId;

use super::NodeError;
use crate::cluster::{ClusterServices, Message, Network, Request};
use crate::kit::Outlet;
use crate::ledger::{
    self, Asked, LedgerCopy, LedgerEvent, LedgerService, LedgerSettings, PeerError, Peers,
};

/// Lets other nodes and tools ask this node's copy of the ledger.
pub(super) fn serve_ledger(config: &Config, services: &ClusterServices, copy: &LedgerCopy) {
    // So that a tool hears why there is no answer before it stops waiting.
    let patience = config.cluster.ask_timeout * 4 / 5;
    let asked = copy.clone();
    let handler = move |mut request: Request| {
        let Some(reply) = request.reply.take() else {
            return Err("the ledger answers questions; it is told nothing".to_owned());
        };
        let copy = asked.clone();
        tokio::spawn(async move {
            // The request holds its credit until it is answered: that is what bounds these tasks.
            match copy.serve(&request.kind, &request.body, patience).await {
                Ok(body) => reply.answer(body),
                Err(reason) => reply.refuse(reason),
            }
        });
        Ok(())
    };
    services.network().register(ledger::ROLE, None, Arc::new(handler));
    let shown = copy.clone();
    let section = move || serde_json::to_value(shown.view()).unwrap_or_default();
    services.show("ledger", Arc::new(section));
    let noted = copy.clone();
    let is_drained = move |node: &NodeId| {
        let view = noted.view();
        view.is_some_and(|view| view.drained.contains(node)).into()
    };
    services.note_members("is_drained", Arc::new(is_drained));
}

pub(super) async fn start_ledger(
    config: &Config,
    services: &ClusterServices,
    copy: &LedgerCopy,
    founds: Option<Vec<NodeId>>,
    events: Outlet<LedgerEvent>,
) -> Result<LedgerService, NodeError> {
    let (own, cluster) = (services.introduction(), &config.cluster);
    let settings = LedgerSettings {
        cluster: cluster.name.clone(),
        node: own.id.clone(),
        incarnation: own.incarnation,
        timings: Timings::from_heartbeat(cluster.heartbeat),
        priority: cluster.coordinator_priority,
        is_witness: cluster.witness,
        voters: cluster.voters,
    };
    let peers = Arc::new(NetworkPeers(services.network().clone()));
    Ok(copy.start(settings, peers, founds, events).await?)
}

/// What the user is told of the ledger; an error, if the node cannot go on.
pub(super) fn told(own: &NodeId, event: LedgerEvent) -> Result<String, String> {
    Ok(match event {
        LedgerEvent::QuorumFound { voters } => {
            format!("{own} agrees with most of the ledger's voters ({})", voters.join(", "))
        }
        LedgerEvent::QuorumLost { voters } => format!(
            "{own} does not reach most of the ledger's voters ({}): it refuses what needs agreement",
            voters.join(", ")
        ),
        LedgerEvent::Coordinator { node, term } => format!("{node} coordinates, term {term}"),
        LedgerEvent::SessionLost => format!("{own} has lost its session"),
        LedgerEvent::GivesWay { reason } | LedgerEvent::Failed { reason } => return Err(reason),
    })
}

/// Other nodes, as the ledger reaches them.
struct NetworkPeers(Network);

impl Peers for NetworkPeers {
    fn ask<'p>(
        &'p self,
        node: &'p NodeId,
        kind: &'static str,
        body: &'p [u8],
        patience: Duration,
    ) -> Asked<'p> {
        let message = Message { role: ledger::ROLE, kind, epoch: 0, body, is_urgent: true };
        Box::pin(async move {
            let answer = self.0.ask(Some(node), message, patience).await;
            answer.map_err(|error| PeerError(error.to_string()))
        })
    }

    fn linked(&self) -> Vec<NodeId> {
        self.0.linked()
    }
}
