//! How the ledger is, seen from one node, for whoever runs it.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use serde::Serialize;
use tickwright_core::cluster::Unit;
use tickwright_core::domain::NodeId;

use super::allocation::{drained, leaving, owners, waiting};
use super::client::LedgerClient;
use super::now;

/// One node's view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LedgerView {
    /// Which ledger; none, while this node has no copy of one.
    pub ledger: Option<String>,
    /// Whether what needs agreement is agreed on: whether most voters have confirmed this node's
    /// session a short while ago.
    pub has_quorum: bool,
    /// What that means, if it is not so; or which other ledger there is.
    pub note: String,
    /// Who leads the log, as far as this node knows.
    pub leader: Option<NodeId>,
    /// Who votes, by name. A copy that was lost with its disk may be among them until it is replaced.
    pub voters: Vec<String>,
    /// Voters that nobody runs just now: their node is away, or its copy was lost with its disk and has not been
    /// replaced yet. While there is any, the loss of another disk may be the loss of what was agreed on.
    pub absent: Vec<String>,
    /// Whose copies are kept up to date besides.
    pub learners: Vec<String>,
    /// Who coordinates, as far as this node knows.
    pub coordinator: Option<NodeId>,
    /// Which term.
    pub term: u64,
    /// Whether this node may act as coordinator of that term at this moment.
    pub acts: bool,
    /// Who goes before all others, whether or not it is there.
    pub promoted: Option<NodeId>,
    /// Nodes that are to be emptied.
    pub drained: Vec<NodeId>,
    /// Nodes that hand over what they have because they leave.
    pub leaving: Vec<NodeId>,
    /// Who has exec, if there is a pipeline; `ctl shards` says whose the rest is.
    pub exec: Option<NodeId>,
    /// Parts of the pipeline whose node is not there: they wait for it, or are about to be given to others.
    pub waiting: Vec<String>,
    /// The session that this node holds.
    pub session: Option<u64>,
    /// The election of the leader.
    pub log_term: u64,
    /// Entries of the log that this node has applied.
    pub applied: u64,
    /// Commands that it has applied.
    pub revision: u64,
}

impl LedgerClient {
    /// How the ledger is, seen from this node at this moment.
    pub fn view(&self) -> LedgerView {
        // Before the figures are looked at below: whoever looks twice at once may wait for ever for
        // whoever wants to change them in between.
        let leader = self.leader();
        let metrics = self.0.raft.metrics().borrow().clone();
        let membership = metrics.membership_config.membership();
        let name = |replica: u64| {
            let node = membership.get_node(&replica).map(|replica| replica.node.clone());
            node.unwrap_or_else(|| format!("{replica:x}"))
        };
        let session = self.keeper(|keeper| keeper.session(now()));
        let ledger = self.0.mesh.own.ledger();
        let (coordinator, revision) =
            self.local(|ledger| (ledger.coordinator().clone(), ledger.revision()));
        let present: BTreeSet<u64> = self.local(|ledger| {
            let there = ledger.members().values().filter(|member| member.session.is_some());
            there.map(|member| member.replica).collect()
        });
        let absent = membership.voter_ids().filter(|replica| !present.contains(replica));
        let (promoted, drained, leaving) =
            self.local(|l| (l.promoted().cloned(), drained(l), leaving(l)));
        let conflict = self.0.conflict.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let note = if session.is_some() {
            conflict
        } else if ledger == 0 {
            "this node has no copy of the ledger yet, and refuses what needs agreement; it waits for \
             a node that has one. If all copies are lost for good, stop all nodes, delete \
             `cluster/known.json` in the data of the first seed, and start that one first"
                .into()
        } else {
            let trouble = self.0.trouble.lock().unwrap_or_else(PoisonError::into_inner);
            let trouble = if trouble.is_empty() { "it is starting" } else { trouble.as_str() };
            format!("no quorum on this side: it refuses what needs agreement ({trouble})")
        };
        LedgerView {
            ledger: (ledger != 0).then(|| format!("{ledger:016x}")),
            has_quorum: session.is_some(),
            note,
            leader,
            absent: absent.map(name).collect(),
            voters: membership.voter_ids().map(name).collect(),
            learners: membership.learner_ids().map(name).collect(),
            acts: self.keeper(|keeper| keeper.term(&coordinator, now())).is_some(),
            coordinator: coordinator.holder.map(|(node, _)| node),
            term: coordinator.term,
            promoted,
            drained: drained.into_iter().collect(),
            leaving: leaving.into_iter().collect(),
            exec: self.local(owners).remove(&Unit::Exec).map(|(node, _)| node),
            waiting: self.local(waiting),
            session: session.map(|session| session.0),
            log_term: metrics.current_term,
            applied: metrics.last_applied.map_or(0, |applied| applied.index + 1),
            revision,
        }
    }
}
