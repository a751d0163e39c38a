//! Answers other nodes and tools.
//!
//! Until this node is in the cluster it only says what it has, so that whoever founds one can tell
//! whether there is a ledger already.

use std::sync::Arc;
use std::time::Duration;

use openraft::error::{InstallSnapshotError, RaftError};
use openraft::raft::AppendEntriesResponse;
use serde::Deserialize;
use serde_json::{Value, json};
use tickwright_core::domain::NodeId;
use tickwright_core::ledger::{Operation, Outcome, Register};

use super::batcher::{BATCH_COMMANDS_MAX, WriteError};
use super::client::{LedgerClient, LedgerError};
use super::peers::{
    About, Call, KIND_LEDGER, KIND_RAFT, Question, RaftCall, RaftMessage, RaftReply, Said, decode,
    encode,
};
use super::switches::switches;

/// What a tool may ask, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
enum ToolCall {
    /// What does this register hold?
    Read { key: String },
    /// What do the registers under this prefix hold?
    List { prefix: String },
    /// Write text to a register that is at this version, or remove it.
    Cas { key: String, expected: u64, value: Option<String> },
    /// Who owns what?
    Allocations,
    /// Give a resource to a node, or to nobody. Only the coordinator does.
    Allocate { resource: String, owner: Option<NodeId> },
    /// This node will never come back.
    Forget { node: NodeId },
    /// A node is to be emptied and to get nothing new, or not any more.
    Drain {
        node: NodeId,
        #[serde(default)]
        undo: bool,
    },
    /// A node is to coordinate, and to be master, whenever it is there; or none in particular.
    Promote { node: Option<NodeId> },
    /// A kill switch is turned on, or off again.
    Turn { what: String, is_on: bool, by: String, reason: String },
    /// How do kill switches stand?
    Switches,
    /// How is the ledger, seen from this node?
    Status,
}

/// Answers one question of `kind`.
pub(super) async fn serve(
    client: &LedgerClient,
    kind: &str,
    body: &[u8],
    patience: Duration,
) -> Result<Vec<u8>, String> {
    match kind {
        KIND_RAFT => serve_raft(client, body).await,
        KIND_LEDGER => serve_peer(client, body).await,
        "json" => {
            let call = serde_json::from_slice(body).map_err(|error| {
                format!(
                    "{error}; ask \"Status\", \"Allocations\", {{\"Read\": {{\"key\": K}}}}, \
                     {{\"List\": {{\"prefix\": P}}}}, \
                     {{\"Cas\": {{\"key\": K, \"expected\": VERSION, \"value\": TEXT}}}}, \
                     {{\"Allocate\": {{\"resource\": R, \"owner\": NODE}}}}, \
                     {{\"Drain\": {{\"node\": NODE, \"undo\": false}}}}, \
                     \"Switches\", {{\"Turn\": {{\"what\": \"all\", \"is_on\": true, \
                     \"by\": WHO, \"reason\": WHY}}}}, \
                     {{\"Promote\": {{\"node\": NODE}}}} or {{\"Forget\": {{\"node\": NODE}}}}"
                )
            })?;
            let answer = serve_tool(client, call, patience).await;
            answer.map(|answer| answer.to_string().into_bytes()).map_err(|error| error.to_string())
        }
        other => Err(format!("messages of kind {other} are not understood here")),
    }
}

async fn serve_raft(client: &LedgerClient, body: &[u8]) -> Result<Vec<u8>, String> {
    let RaftMessage { ledger, to, call } = decode(body).map_err(|error| error.to_string())?;
    let own = &client.0.mesh.own;
    if to != own.replica {
        return Err("that copy of the ledger is lost; this node has another".into());
    }
    if ledger == 0 || ledger != own.ledger() {
        return Err("this node's copy is not of that ledger".into());
    }
    let raft = &client.0.raft;
    let failed = |error: &dyn std::fmt::Display| error.to_string();
    let reply = match call {
        RaftCall::Append(request) => {
            let answer = raft.append_entries(request).await.map_err(|error| failed(&error))?;
            if !matches!(answer, AppendEntriesResponse::HigherVote(_)) {
                client.on_leader_heard();
            }
            RaftReply::Append(answer)
        }
        RaftCall::Vote(request) => {
            RaftReply::Vote(raft.vote(request).await.map_err(|error| failed(&error))?)
        }
        RaftCall::Snapshot(request) => match (request.vote, raft.install_snapshot(request).await) {
            (vote, Ok(answer)) => {
                // What a leader sent that is none any more is refused with the vote of the next.
                if answer.vote <= vote {
                    client.on_leader_heard();
                }
                RaftReply::Snapshot(Ok(answer))
            }
            (_, Err(RaftError::APIError(InstallSnapshotError::SnapshotMismatch(mismatch)))) => {
                RaftReply::Snapshot(Err(mismatch))
            }
            (_, Err(error)) => return Err(error.to_string()),
        },
        RaftCall::Canvass(last) => RaftReply::Canvass(client.would_vote(last)),
    };
    Ok(encode(&reply))
}

/// What this node has.
pub(super) fn about(client: &LedgerClient) -> About {
    let metrics = client.0.raft.metrics();
    let voters = metrics.borrow().membership_config.voter_ids().count() as u64;
    About { ledger: client.0.mesh.own.ledger(), voters }
}

async fn serve_peer(client: &LedgerClient, body: &[u8]) -> Result<Vec<u8>, String> {
    let Question { ledger, call } = decode(body).map_err(|error| error.to_string())?;
    let own = &client.0.mesh.own;
    let is_other = ledger != 0 && ledger != own.ledger();
    let said = match call {
        Call::About => Said::About(about(client)),
        Call::Submit(_) | Call::ReadIndex if is_other => {
            Said::Refused(format!("node {} has another ledger", own.node))
        }
        Call::Submit(_) | Call::ReadIndex if !client.leads() => Said::NotLeader(client.leader()),
        Call::Submit(commands) if commands.len() > BATCH_COMMANDS_MAX => {
            Said::Refused("too many commands at once".into())
        }
        Call::Submit(commands) => match client.write(commands).await {
            Ok(answers) => Said::Answers { ledger: own.ledger(), answers },
            Err(WriteError::Busy) => Said::Refused("the ledger has too much to do".into()),
            Err(WriteError::Unknown(reason)) => Said::Unknown(reason),
        },
        Call::ReadIndex => match client.read_index_here().await {
            Ok(index) => Said::ReadIndex(index),
            Err(reason) => Said::Refused(reason),
        },
    };
    Ok(encode(&said))
}

async fn serve_tool(
    client: &LedgerClient,
    call: ToolCall,
    patience: Duration,
) -> Result<Value, LedgerError> {
    let done = |operation| client.submit(operation, patience);
    Ok(match call {
        ToolCall::Read { key } => {
            client.read(patience, |ledger| ledger.read(&key).map(register)).await?.into()
        }
        ToolCall::List { prefix } => {
            let listed = |ledger: &tickwright_core::ledger::Ledger| {
                let of = |(key, held): (&str, &Register)| (key.to_owned(), register(held));
                ledger.list(&prefix).map(of).collect::<serde_json::Map<_, _>>()
            };
            client.read(patience, listed).await?.into()
        }
        ToolCall::Cas { key, expected, value } => {
            let value = value.map(String::into_bytes);
            let written = done(Operation::Cas { key, expected, value }).await?;
            let Outcome::Written { version } = written else {
                return Err(LedgerError::Unknown("a confused answer".into()));
            };
            json!({ "version": version })
        }
        ToolCall::Allocations => {
            client
                .read(patience, |ledger| {
                    ledger
                        .allocations()
                        .iter()
                        .map(|(resource, allocation)| {
                            let owner = allocation.owner.as_ref();
                            json!({
                                "resource": resource,
                                "owner": owner.map(|owner| &owner.node),
                                "is_there": owner.is_some_and(|owner| {
                                    ledger.sessions().contains_key(&owner.session)
                                }),
                                "epoch": allocation.epoch,
                            })
                        })
                        .collect::<Value>()
                })
                .await?
        }
        ToolCall::Allocate { resource, owner } => {
            json!({ "epoch": client.allocate(&resource, owner, patience).await? })
        }
        ToolCall::Forget { node } => {
            done(Operation::Forget { node: node.clone() }).await?;
            client.forget_allocation_of(&node, patience).await?;
            json!({ "forgotten": true })
        }
        ToolCall::Drain { node, undo } => {
            let is_news = client.set_drained(&node, !undo, patience).await?;
            json!({ "node": node, "is_drained": !undo, "is_news": is_news })
        }
        ToolCall::Promote { node } => {
            let promoted = done(Operation::Promote { node }).await?;
            let Outcome::Promoted { term } = promoted else {
                return Err(LedgerError::Unknown("a confused answer".into()));
            };
            let look = |ledger: &tickwright_core::ledger::Ledger| {
                let holder = ledger.coordinator().holder.as_ref();
                (ledger.promoted().cloned(), holder.map(|(node, _)| node.clone()))
            };
            let (promoted, coordinator) = client.read(patience, look).await?;
            json!({ "promoted": promoted, "coordinator": coordinator, "term": term })
        }
        ToolCall::Turn { what, is_on, by, reason } => {
            client.turn_switch(&what, is_on, (&by, &reason), patience).await?;
            json!({ "what": what, "is_on": is_on })
        }
        ToolCall::Switches => {
            serde_json::to_value(client.read(patience, switches).await?).unwrap_or_default()
        }
        ToolCall::Status => serde_json::to_value(client.view()).unwrap_or(Value::Null),
    })
}

fn register(register: &Register) -> Value {
    json!({
        "version": register.version,
        "value": String::from_utf8_lossy(&register.value),
    })
}

/// Answers while this node is not in the cluster yet.
pub(super) fn serve_early(about: &About, kind: &str, body: &[u8]) -> Result<Vec<u8>, String> {
    if kind == KIND_LEDGER
        && let Ok(Question { call: Call::About, .. }) = decode(body)
    {
        return Ok(encode(&Said::About(about.clone())));
    }
    Err("this node is not in the cluster yet".into())
}

/// The client, once there is one.
pub(super) type Slot = Arc<std::sync::OnceLock<LedgerClient>>;
