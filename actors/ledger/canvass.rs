//! Asks the other voters before this node stands for election, and answers them.

use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::time::Duration;

use openraft::LogId;
use tickwright_core::domain::NodeId;
use tickwright_core::ledger::{Canvass, Standpoint, would_vote};

use super::client::LedgerClient;
use super::now;
use super::peers::{KIND_RAFT, RaftCall, RaftMessage, RaftReply, decode, encode};

/// The sets of voters of which each needs a majority, and on which node each voter is.
type Voters = (Vec<BTreeSet<u64>>, Vec<(u64, NodeId)>);

impl LedgerClient {
    /// A leader was heard.
    pub(super) fn on_leader_heard(&self) {
        *self.0.heard.lock().unwrap_or_else(PoisonError::into_inner) = now();
    }

    fn standpoint(&self) -> Standpoint {
        let metrics = self.0.raft.metrics();
        let metrics = metrics.borrow();
        let lease = u64::try_from(self.0.leader_lease.as_millis()).unwrap_or(u64::MAX);
        Standpoint {
            heard: *self.0.heard.lock().unwrap_or_else(PoisonError::into_inner),
            leads: metrics.current_leader == Some(metrics.id)
                && metrics.millis_since_quorum_ack.is_some_and(|silent| silent <= lease),
        }
    }

    /// How far this node's log goes.
    fn log_end(&self) -> Option<LogId<u64>> {
        self.0.raft.data_metrics().borrow().last_log
    }

    /// Whether this node would vote for one whose log goes as far as `theirs`.
    pub(super) fn would_vote(&self, theirs: Option<LogId<u64>>) -> bool {
        would_vote(self.standpoint(), self.0.leader_lease, now(), &theirs, &self.log_end())
    }

    fn voters(&self) -> Voters {
        let metrics = self.0.raft.metrics();
        let metrics = metrics.borrow();
        let membership = metrics.membership_config.membership();
        let node = |replica: u64| {
            membership.get_node(&replica).map(|of| (replica, NodeId(of.node.clone())))
        };
        (membership.get_joint_config().clone(), membership.voter_ids().filter_map(node).collect())
    }

    /// Looks whether the leader is missed, asks the others if it is, and lets openraft stand or not. Whoever says
    /// yes is told to `heard` with the number of the round.
    pub(super) fn canvass(
        &self,
        canvass: &mut Canvass,
        patience: Duration,
        heard: impl Fn(u64, u64) + Clone + Send + 'static,
    ) {
        let (sets, voters) = self.voters();
        let round = canvass.on_look(self.standpoint(), &sets, now());
        self.0.raft.runtime_config().elect(canvass.may_stand());
        let Some(round) = round else { return };
        let own = self.0.mesh.own.replica;
        let others: Vec<_> = voters.into_iter().filter(|(replica, _)| *replica != own).collect();
        let last = self.log_end();
        for (replica, node) in others {
            let (client, heard) = (self.clone(), heard.clone());
            tokio::spawn(async move {
                let ledger = client.0.mesh.own.ledger();
                let call = RaftCall::Canvass(last);
                let body = encode(&RaftMessage { ledger, to: replica, call });
                let answer = client.0.mesh.peers.ask(&node, KIND_RAFT, &body, patience).await;
                if let Ok(RaftReply::Canvass(true)) = answer.and_then(|answer| decode(&answer)) {
                    heard(round, replica);
                }
            });
        }
    }

    /// A voter said yes in a round.
    pub(super) fn on_yes(&self, canvass: &mut Canvass, round: u64, replica: u64) {
        canvass.on_yes(round, replica, &self.voters().0);
        if canvass.may_stand() {
            self.0.raft.runtime_config().elect(true);
        }
    }
}
