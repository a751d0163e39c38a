//! Answers for locks, as the role `locks/NODE`.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use ractor_cluster::RactorMessage;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tickwright_core::domain::{LockEvent, LockMode};
use tokio::sync::Semaphore;
use tokio::sync::broadcast::error::RecvError;

use super::{LockAsk, LockBackend, LockError, milliseconds, role};
use crate::cluster::{Network, Reply, Request};

/// Requests that may wait at once.
const WAITING_MAX: usize = 1_024;

/// Events that are kept for whoever asks.
const KEPT_MAX: usize = 256;

/// What can be asked, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum LocksCall {
    /// What is held, by whom, and who waits?
    List,
    /// How often has what happened?
    Statistics,
    /// What has happened lately?
    Events,
    /// Take a lock.
    Acquire {
        /// Which.
        key: String,
        /// Who.
        owner: String,
        /// How; to write unless said otherwise.
        #[serde(default = "write")]
        mode: LockMode,
        /// For how long; as configured unless said otherwise.
        #[serde(default)]
        ttl_ms: Option<u64>,
        /// How long to wait for it.
        #[serde(default)]
        wait_ms: u64,
    },
    /// Give it back.
    Unlock {
        /// Which.
        key: String,
        /// Who.
        owner: String,
        /// Of the grant.
        token: u64,
    },
    /// Let it live on.
    Extend {
        /// Which.
        key: String,
        /// Who.
        owner: String,
        /// Of the grant.
        token: u64,
        /// For how long; as configured unless said otherwise.
        #[serde(default)]
        ttl_ms: Option<u64>,
    },
}

fn write() -> LockMode {
    LockMode::Write
}

/// Everything the mailbox holds.
#[derive(Debug, RactorMessage)]
pub enum LocksMessage {
    /// From whoever asks.
    Call(LocksCall, Option<Reply>),
    /// Something has happened.
    Happened(LockEvent),
}

/// What the actor is started with.
#[derive(Clone)]
pub struct LocksArguments {
    /// This node.
    pub node: String,
    /// Who keeps the locks.
    pub backend: Arc<dyn LockBackend>,
    /// How long a lock lives unless whoever takes it says otherwise.
    pub ttl: Duration,
    /// Longest that anybody may wait here.
    pub wait_max: Duration,
    /// Where to register.
    pub network: Network,
}

impl fmt::Debug for LocksArguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocksArguments").field("backend", &self.backend).finish_non_exhaustive()
    }
}

/// The actor.
#[derive(Debug)]
pub struct LocksActor;

/// What the actor owns while it runs.
#[derive(Debug)]
pub struct LocksState {
    arguments: LocksArguments,
    /// With the number of each; at most [`KEPT_MAX`].
    happened: VecDeque<(u64, LockEvent)>,
    next: u64,
    waiting: Arc<Semaphore>,
}

impl Actor for LocksActor {
    type Msg = LocksMessage;
    type State = LocksState;
    type Arguments = LocksArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<LocksMessage>,
        arguments: LocksArguments,
    ) -> Result<LocksState, ActorProcessingErr> {
        let (mut events, actor) = (arguments.backend.events(), myself.clone());
        tokio::spawn(async move {
            loop {
                match events.recv().await {
                    Ok(event) => {
                        if actor.cast(LocksMessage::Happened(event)).is_err() {
                            return;
                        }
                    }
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                }
            }
        });
        arguments.network.register_actor(&role(&arguments.node), None, &myself, decode);
        let waiting = Arc::new(Semaphore::new(WAITING_MAX));
        Ok(LocksState { arguments, happened: VecDeque::new(), next: 0, waiting })
    }

    async fn handle(
        &self,
        _myself: ActorRef<LocksMessage>,
        message: LocksMessage,
        state: &mut LocksState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            LocksMessage::Call(call, Some(reply)) => state.answer(call, reply),
            // Whoever tells a question awaits nothing.
            LocksMessage::Call(_, None) => {}
            LocksMessage::Happened(event) => state.on_happened(event),
        }
        Ok(())
    }
}

impl LocksState {
    fn on_happened(&mut self, event: LockEvent) {
        tracing::debug!(?event, "locks");
        if let LockEvent::Aborted { key, owner, cycle, .. } = &event {
            tracing::warn!(key, %owner, ?cycle, "waits no more, for it would never end");
        }
        self.happened.push_back((self.next, event));
        self.next += 1;
        if self.happened.len() > KEPT_MAX {
            self.happened.pop_front();
        }
    }

    /// Answers in a task of its own: whoever waits for a lock must not hold up those who give one back.
    fn answer(&self, call: LocksCall, reply: Reply) {
        if call == LocksCall::Events {
            let of =
                |(number, event): &(u64, LockEvent)| json!({ "number": number, "event": event });
            let events: Value = self.happened.iter().map(of).collect();
            return reply.answer(events.to_string().into_bytes());
        }
        let Ok(permit) = Arc::clone(&self.waiting).try_acquire_owned() else {
            return reply.refuse(format!("{WAITING_MAX} requests wait for locks already"));
        };
        let arguments = self.arguments.clone();
        tokio::spawn(async move {
            match serve(&arguments, call).await {
                Ok(answer) => reply.answer(answer.to_string().into_bytes()),
                Err(error) => reply.refuse(error.to_string()),
            }
            drop(permit);
        });
    }
}

async fn serve(arguments: &LocksArguments, call: LocksCall) -> Result<Value, LockError> {
    let LocksArguments { backend, ttl, wait_max, node, .. } = arguments;
    let ttl_of = |ttl_ms: Option<u64>| ttl_ms.map_or(*ttl, Duration::from_millis);
    Ok(match call {
        LocksCall::List => {
            let locks = backend.list().await?;
            json!({
                "backend": backend.name(),
                "node": node,
                "trouble": backend.trouble(),
                "locks": locks,
            })
        }
        LocksCall::Statistics => {
            let counts = backend.statistics().await?;
            let mut counts = serde_json::to_value(counts).unwrap_or_default();
            counts["backend"] = backend.name().into();
            counts
        }
        LocksCall::Events => Value::Null,
        LocksCall::Acquire { key, owner, mode, ttl_ms, wait_ms } => {
            let (ttl, wait) = (ttl_of(ttl_ms), Duration::from_millis(wait_ms).min(*wait_max));
            let ask = LockAsk { key, owner, mode, ttl, wait };
            let grant = backend.acquire(&ask).await?;
            json!({ "token": grant.token, "holds": grant.holds, "ttl_ms": milliseconds(ttl) })
        }
        LocksCall::Unlock { key, owner, token } => {
            json!({ "holds": backend.unlock(&key, &owner, token).await? })
        }
        LocksCall::Extend { key, owner, token, ttl_ms } => {
            let ttl = ttl_of(ttl_ms);
            backend.extend(&key, &owner, token, ttl).await?;
            json!({ "ttl_ms": milliseconds(ttl) })
        }
    })
}

fn decode(request: &mut Request) -> Result<LocksMessage, String> {
    if request.kind != "json" {
        return Err(format!("messages of kind {} are not understood here", request.kind));
    }
    let call = serde_json::from_slice(&request.body).map_err(|error| {
        format!(
            "{error}; ask \"List\", \"Statistics\", \"Events\", \
             {{\"Acquire\": {{\"key\": K, \"owner\": O, \"mode\": \"write\", \"ttl_ms\": MS, \
             \"wait_ms\": MS}}}}, {{\"Unlock\": {{\"key\": K, \"owner\": O, \"token\": T}}}} or \
             {{\"Extend\": {{\"key\": K, \"owner\": O, \"token\": T, \"ttl_ms\": MS}}}}"
        )
    })?;
    Ok(LocksMessage::Call(call, request.reply.take()))
}
