//! How a ledger begins, and what happens where two meet.
//!
//! Whoever founds a cluster founds its ledger, with itself as the only voter; but not if anyone in that cluster
//! has a copy already, as when all nodes start again and the first one has lost its disk. If it remembers an
//! earlier cluster, it waits until all members of that are there and none has a copy: then the ledger is
//! lost everywhere, and begins anew. If the others come only later, two ledgers meet. The one with a single voter gives way: it was founded in
//! ignorance of the other. Its copy is set aside, and its node begins another life, and joins.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::Duration;

use openraft::error::RaftError;
use tickwright_core::domain::NodeId;
use tokio::time::Instant;

use super::client::LedgerClient;
use super::peers::{About, Call, Said};
use super::raft::Replica;
use super::service::about;
use super::{LedgerSettings, draw};

/// How often nodes that do not answer are asked whether there is a ledger.
const ROUNDS_MAX: u32 = 6;

/// Between two words about who is missing.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Founds a ledger, unless there is one, or one of those remembered may have one.
pub(super) async fn found(client: LedgerClient, settings: LedgerSettings, remembered: Vec<NodeId>) {
    match client.0.raft.is_initialized().await {
        Ok(false) => {}
        // It has a copy, and only starts again.
        Ok(true) => return,
        Err(error) => {
            tracing::error!(%error, "the ledger cannot be founded");
            return;
        }
    }
    let patience = settings.timings.heartbeat;
    if !remembered.is_empty() && !is_lost(&client, &remembered, patience).await {
        return;
    }
    for _ in 0..ROUNDS_MAX {
        let asked = client.0.mesh.peers.linked();
        let mut answered = 0;
        for node in &asked {
            if let Some(there) = ask(&client, node, patience).await {
                if there.ledger != 0 {
                    tracing::info!(%node, "there is a ledger already");
                    return;
                }
                answered += 1;
            }
        }
        if answered == asked.len() {
            break;
        }
        tokio::time::sleep(patience).await;
    }
    let own = &client.0.mesh.own;
    // Drawn anew, or what was agreed on in another ledger could be taken for this one's.
    let seed = format!("{}/{}/{}", settings.cluster, settings.node, settings.incarnation);
    client.adopt(draw(&["ledger", &seed])).await;
    let replica = Replica { node: own.node.0.clone() };
    match client.0.raft.initialize(BTreeMap::from([(own.replica, replica)])).await {
        Ok(()) => tracing::info!("the ledger is founded"),
        Err(RaftError::APIError(error)) => tracing::warn!(%error, "the ledger was founded before"),
        Err(error) => tracing::error!(%error, "the ledger cannot be founded"),
    }
}

/// Waits until all who are remembered are there; returns whether none of them has a copy.
async fn is_lost(client: &LedgerClient, remembered: &[NodeId], patience: Duration) -> bool {
    let mut told = Instant::now();
    loop {
        let mut missing = Vec::new();
        for node in remembered {
            match ask(client, node, patience).await {
                Some(there) if there.ledger != 0 => return false,
                Some(_) => {}
                None => missing.push(node.0.as_str()),
            }
        }
        if client.0.mesh.own.ledger() != 0 {
            return false;
        }
        if missing.is_empty() {
            tracing::error!(
                "no member has the ledger any more: it is founded anew. What was agreed on is lost; units \
                 are given out again, accounts at exchanges are reconciled before anything is opened, and \
                 kill switches have to be turned on again"
            );
            return true;
        }
        if told.elapsed() > TELL_EVERY {
            told = Instant::now();
            tracing::warn!(
                missing = missing.join(", "),
                "whoever is there has no ledger, and those missing may: start them, or, if they are lost for \
                 good, delete `cluster/known.json` of the first seed's data and start it again"
            );
        }
        tokio::time::sleep(patience).await;
    }
}

async fn ask(client: &LedgerClient, node: &NodeId, patience: Duration) -> Option<About> {
    match client.ask(node, Call::About, patience).await {
        Ok(Said::About(about)) => Some(about),
        Ok(_) | Err(_) => None,
    }
}

/// Looks for another ledger in the cluster to which this node's has to give way; says why, if there is
/// one.
pub(super) async fn rival(client: &LedgerClient, patience: Duration) -> Option<String> {
    let own = about(client);
    let mut conflict = String::new();
    for node in client.0.mesh.peers.linked() {
        let Some(there) = ask(client, &node, patience).await else { continue };
        if there.ledger == 0 || there.ledger == own.ledger {
            continue;
        }
        if own.voters == 1 && there.voters > 1 {
            return Some(format!(
                "node {node} has the ledger {:016x} with {} voters, and this node founded {:016x} \
                 without knowing of it",
                there.ledger, there.voters, own.ledger
            ));
        }
        conflict = format!(
            "node {node} has another ledger, {:016x}, than this node, {:016x}: stop the nodes with \
             the one that is not to be kept, delete the directory `ledger` of their data, and start \
             them again",
            there.ledger, own.ledger
        );
        tracing::error!(conflict, "there are two ledgers in this cluster");
    }
    *client.0.conflict.lock().unwrap_or_else(PoisonError::into_inner) = conflict;
    None
}
