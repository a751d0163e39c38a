//! The listener: lets peers introduce themselves, however many others are silent.
//!
//! ```text
//! accept ─▶ Admission ─▶ a task: TLS, introduction, deadline ─▶ links actor
//! ```
//!
//! Decisions are in [`tickwright_core::cluster::Admission`].

use std::collections::BTreeMap;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ractor::rpc::CallResult;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use ractor_cluster::RactorMessage;
use tickwright_core::cluster::Admission;
use tickwright_core::domain::Timestamp;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle};

use super::handshake::DialError;
use super::links::{self, LinksMessage};
use super::network::Network;
use super::now;
use crate::kit::{Directory, monotonic_nanos};

/// How long to wait when no connection can be accepted, for want of file handles for instance.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// How long the links actor may take to say who this node is.
const PATIENCE: Duration = Duration::from_secs(5);

/// The mailbox is empty: whatever comes, comes from the network.
#[derive(Debug, RactorMessage)]
pub(super) enum ListenerMessage {}

/// What the actor is started with.
#[derive(Clone, Debug)]
pub(super) struct ListenerArguments {
    /// Bound once, so that the port outlives the actor.
    pub(super) listener: Arc<StdListener>,
    pub(super) unproven_max: usize,
    pub(super) network: Network,
    pub(super) directory: Directory,
}

/// The actor.
#[derive(Debug)]
pub(super) struct ListenerActor;

impl Actor for ListenerActor {
    type Msg = ListenerMessage;
    type State = JoinHandle<()>;
    type Arguments = ListenerArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<ListenerMessage>,
        arguments: ListenerArguments,
    ) -> Result<JoinHandle<()>, ActorProcessingErr> {
        let listener = TcpListener::from_std(arguments.listener.try_clone()?)?;
        Ok(tokio::spawn(async move {
            let mut door = Door {
                admission: Admission::new(arguments.unproven_max),
                unproven: BTreeMap::new(),
                arguments,
            };
            door.keep(&listener).await;
            myself.stop(Some("nobody can be received".into()));
        }))
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<ListenerMessage>,
        task: &mut JoinHandle<()>,
    ) -> Result<(), ActorProcessingErr> {
        task.abort();
        Ok(())
    }
}

struct Door {
    arguments: ListenerArguments,
    admission: Admission,
    /// The same connections that the admission knows.
    unproven: BTreeMap<u64, Unproven>,
}

struct Unproven {
    task: AbortHandle,
    /// When it last said something.
    heard: Arc<AtomicU64>,
}

impl Drop for Door {
    fn drop(&mut self) {
        for unproven in self.unproven.values() {
            unproven.task.abort();
        }
    }
}

impl Door {
    async fn keep(&mut self, listener: &TcpListener) {
        let (settled, mut ended) = mpsc::unbounded_channel();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => self.on_accepted(stream, &settled),
                    Err(error) => {
                        tracing::warn!(%error, "a connection cannot be accepted");
                        tokio::time::sleep(ACCEPT_RETRY).await;
                    }
                },
                number = ended.recv() => match number {
                    Some(number) => self.on_settled(number),
                    None => return,
                },
            }
        }
    }

    fn on_accepted(&mut self, stream: TcpStream, settled: &mpsc::UnboundedSender<u64>) {
        for (&number, unproven) in &self.unproven {
            let heard = Timestamp::from_nanos(unproven.heard.load(Ordering::Relaxed));
            self.admission.on_heard(number, heard);
        }
        let (number, dropped) = self.admission.on_accepted(now());
        if let Some(unproven) = dropped.and_then(|dropped| self.unproven.remove(&dropped)) {
            unproven.task.abort();
            self.arguments.network.count_dropped_connection();
        }
        let heard = Arc::new(AtomicU64::new(monotonic_nanos()));
        let (arguments, settled) = (self.arguments.clone(), settled.clone());
        let task = {
            let heard = Arc::clone(&heard);
            tokio::spawn(async move {
                receive(arguments, stream, &heard).await;
                let _ = settled.send(number);
            })
        };
        self.unproven.insert(number, Unproven { task: task.abort_handle(), heard });
    }

    fn on_settled(&mut self, number: u64) {
        self.admission.on_settled(number);
        self.unproven.remove(&number);
    }
}

async fn receive(arguments: ListenerArguments, stream: TcpStream, heard: &AtomicU64) {
    let from = stream.peer_addr().map_or_else(|_| "somewhere".into(), |from| from.to_string());
    let Some(actor) = arguments.directory.serving(links::ROLE) else { return };
    let links = ActorRef::<LinksMessage>::from(actor);
    let Ok(CallResult::Success(Some(introducer))) =
        links.call(LinksMessage::Introducer, Some(PATIENCE)).await
    else {
        return;
    };
    match introducer.receive(stream, heard).await {
        Ok(established) => {
            let _ = links.cast(LinksMessage::Received(Box::new(established)));
        }
        // The other side closed it for a better one: nothing is wrong.
        Err(DialError::Abandoned(_)) => {}
        Err(error @ DialError::Refused(_)) => tracing::warn!(from, %error, "a node was refused"),
        Err(error) => {
            arguments.network.count_failed_introduction();
            tracing::debug!(from, %error, "a connection did not introduce itself");
        }
    }
}
