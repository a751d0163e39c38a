//! The desk: answers, for tools and other nodes, what one node knows of itself and of the cluster.
//!
//! It serves the role `node/NAME`, so that any node can be asked through any other.
//!
//! *Failover.* It keeps nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use ractor::{Actor, ActorProcessingErr, ActorRef};
use ractor_cluster::RactorMessage;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tickwright_core::cluster::{MemberView, Timings};
use tickwright_core::domain::NodeId;
use tokio::sync::watch;

use super::hello::Introduction;
use super::links::Failures;
use super::load::Loads;
use super::membership::View;
use super::network::{Network, Reply, Request, read, write};
use crate::kit::{Branch, KillError, SupervisionStatistics, monotonic_nanos};

/// The role under which `node` answers.
pub fn role(node: &str) -> String {
    format!("node/{node}")
}

/// What can be asked, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeskCall {
    /// How is this node?
    Status,
    /// Who is in the cluster, as this node sees it?
    Members,
    /// Who serves which role, as this node sees it?
    Roles,
    /// Who supervises whom here, and how often was each actor started again?
    Tree,
    /// End this actor as a crash would.
    KillActor(String),
}

/// Says how some other part of this node is.
pub type Section = Arc<dyn Fn() -> Value + Send + Sync>;

/// Says something about a member.
pub type Note = Arc<dyn Fn(&NodeId) -> Value + Send + Sync>;

/// What other parts of this node add to what it says, by name. One entry per part.
#[derive(Clone, Default)]
pub(super) struct Sections(Arc<Parts>);

#[derive(Default)]
struct Parts {
    status: RwLock<BTreeMap<&'static str, Section>>,
    members: RwLock<BTreeMap<&'static str, Note>>,
    trees: RwLock<BTreeMap<&'static str, SupervisionStatistics>>,
}

impl std::fmt::Debug for Sections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sections").finish_non_exhaustive()
    }
}

impl Sections {
    /// To the status.
    pub(super) fn add(&self, name: &'static str, section: Section) {
        write(&self.0.status).insert(name, section);
    }

    /// To each member.
    pub(super) fn add_note(&self, name: &'static str, note: Note) {
        write(&self.0.members).insert(name, note);
    }

    /// To the tree.
    pub(super) fn add_tree(&self, name: &'static str, statistics: SupervisionStatistics) {
        write(&self.0.trees).insert(name, statistics);
    }
}

/// Everything the mailbox holds.
#[derive(Debug, RactorMessage)]
pub(super) enum DeskMessage {
    Call(DeskCall, Option<Reply>),
}

/// What the actor is started with.
#[derive(Clone, Debug)]
pub(super) struct DeskArguments {
    pub(super) introduction: Introduction,
    pub(super) http: String,
    pub(super) duties: Vec<String>,
    pub(super) timings: Timings,
    pub(super) network: Network,
    pub(super) view: watch::Receiver<View>,
    pub(super) failures: Failures,
    pub(super) statistics: SupervisionStatistics,
    /// When the node began.
    pub(super) begun_nanos: u64,
    pub(super) sections: Sections,
    pub(super) loads: Loads,
}

/// The actor.
#[derive(Debug)]
pub(super) struct DeskActor;

impl Actor for DeskActor {
    type Msg = DeskMessage;
    type State = DeskArguments;
    type Arguments = DeskArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<DeskMessage>,
        arguments: DeskArguments,
    ) -> Result<DeskArguments, ActorProcessingErr> {
        let role = role(&arguments.introduction.id.0);
        arguments.network.register_actor(&role, None, &myself, decode);
        Ok(arguments)
    }

    async fn handle(
        &self,
        _myself: ActorRef<DeskMessage>,
        message: DeskMessage,
        state: &mut DeskArguments,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            DeskMessage::Call(call, Some(reply)) => match state.answer(call) {
                Ok(answer) => reply.answer(answer.to_string().into_bytes()),
                Err(reason) => reply.refuse(reason),
            },
            // Whoever tells a question awaits nothing.
            DeskMessage::Call(_, None) => {}
        }
        Ok(())
    }
}

fn decode(request: &mut Request) -> Result<DeskMessage, String> {
    if request.kind != "json" {
        return Err(format!("messages of kind {} are not understood here", request.kind));
    }
    let call = serde_json::from_slice(&request.body).map_err(|error| {
        format!(
            "{error}; ask \"Status\", \"Members\", \"Roles\", \"Tree\" or \
                 {{\"KillActor\": ACTOR}}"
        )
    })?;
    Ok(DeskMessage::Call(call, request.reply.take()))
}

impl DeskArguments {
    fn answer(&self, call: DeskCall) -> Result<Value, String> {
        Ok(match call {
            DeskCall::Status => self.status(),
            DeskCall::Members => {
                let members = self.view.borrow().members.clone();
                members.iter().map(|each| self.member(each)).collect()
            }
            DeskCall::Roles => {
                let of = |(role, nodes)| json!({ "role": role, "nodes": nodes });
                self.network.roles().into_iter().map(of).collect()
            }
            DeskCall::Tree => self.tree(),
            DeskCall::KillActor(name) => self.kill(&name)?,
        })
    }

    /// Every tree of this node, by the part it belongs to.
    fn tree(&self) -> Value {
        let own: &SupervisionStatistics = &self.statistics;
        let trees = read(&self.sections.0.trees);
        let all = std::iter::once(own).chain(trees.values());
        json!({
            "node": self.introduction.id,
            "trees": all.flat_map(SupervisionStatistics::branches).collect::<Vec<Branch>>(),
        })
    }

    fn kill(&self, name: &str) -> Result<Value, String> {
        let node = &self.introduction.id;
        let trees = read(&self.sections.0.trees);
        let mut last = KillError::Unknown(name.to_owned());
        for statistics in std::iter::once(&self.statistics).chain(trees.values()) {
            match statistics.kill(name) {
                Ok(()) => {
                    tracing::warn!(actor = name, "ended, as a tool has asked");
                    return Ok(json!({ "killed": name, "node": node }));
                }
                Err(KillError::Unknown(_)) => {}
                Err(error) => last = error,
            }
        }
        let mut names: Vec<String> = Vec::new();
        for statistics in std::iter::once(&self.statistics).chain(trees.values()) {
            statistics.branches().iter().for_each(|branch| branch.actors(&mut names));
        }
        let names = names.join(", ");
        Err(match last {
            KillError::Unknown(_) => format!("node {node}: {last}; there are: {names}"),
            KillError::Supervisor { .. } | KillError::Ended(_) => format!("node {node}: {last}"),
        })
    }

    fn member(&self, member: &MemberView) -> Value {
        let mut shown = shown(member);
        let load = self.loads.of(&member.profile.id);
        // Nobody needs more of it than this.
        shown["load"] = load.map(|report| (report.score * 1e3).round() / 1e3).into();
        for (&name, note) in read(&self.sections.0.members).iter() {
            shown[name] = note(&member.profile.id);
        }
        shown
    }

    fn status(&self) -> Value {
        let view = self.view.borrow();
        let own = &self.introduction;
        let mut counts = serde_json::Map::new();
        for member in &view.members {
            let count = counts.entry(member.status.name()).or_insert(Value::from(0));
            *count = Value::from(count.as_u64().unwrap_or(0) + 1);
        }
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let unreached: Value = failures
            .iter()
            .map(|(address, reason)| json!({ "address": address, "reason": reason }))
            .collect();
        let timings = &self.timings;
        let milliseconds =
            |span: std::time::Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let mut status = json!({
            "node": own.id,
            "cluster": own.cluster,
            "incarnation": own.incarnation,
            "address": own.address,
            "http": self.http,
            "duties": self.duties,
            "program": own.program,
            "is_member": view.is_member,
            "members": counts,
            "linked": self.network.linked(),
            "unreached": unreached,
            "uptime_ms": (monotonic_nanos() - self.begun_nanos) / 1_000_000,
            "restarts": self.statistics.restarts(),
            "stretch": view.stretch,
            "timings_ms": {
                "heartbeat": milliseconds(timings.heartbeat),
                "suspicion": milliseconds(timings.suspicion),
                "session_ttl": milliseconds(timings.session_ttl),
                "election_min": milliseconds(timings.election_min),
                "election_max": milliseconds(timings.election_max),
            },
            "network": self.network.counts(),
            "load": self.loads.of(&own.id),
        });
        for (&name, section) in read(&self.sections.0.status).iter() {
            status[name] = section();
        }
        status
    }
}

fn shown(member: &MemberView) -> Value {
    let profile = &member.profile;
    json!({
        "id": profile.id,
        "status": member.status,
        "incarnation": profile.incarnation,
        "address": profile.address,
        "http": profile.http,
        "duties": profile.duties,
        "silent_ms": u64::try_from(member.silence.as_millis()).unwrap_or(u64::MAX),
        "linked": member.linked,
    })
}
