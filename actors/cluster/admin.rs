//! The door for tools: HTTP and JSON on every node, relayed to any role on any node.
//!
//! ```text
//! GET  /                     a page that shows the cluster
//! GET  /openapi.json         this list, as an OpenAPI document
//! GET  /health               200 in a cluster, 503 outside
//! GET  /status?node=NAME     how a node is; this one, without a name
//! GET  /members?node=NAME    who is in the cluster, as that node sees it
//! GET  /roles?node=NAME      who serves which role
//! GET  /locks?node=NAME     who holds and awaits locks, as that node sees it
//! POST /config?node=NAME     the body, JSON, to the shared configuration as that node has it
//! GET  /secrets?node=NAME    which keys there are, and which secrets they open; on every node, without a name
//! GET  /metrics?node=NAME    the numbers of that node and of the shared configuration, for Prometheus
//! GET  /tree?node=NAME       who supervises whom; on every node, without a name
//! GET  /streams?node=NAME    where the ends of streams stand; on every node, without a name
//! GET  /tuner?node=NAME      what is tried, and what was kept; on every node, without a name
//! GET  /optimise?node=NAME   how far the search is, and the best; on every node, without a name
//! GET  /adoption?node=NAME   what is adopted of what was found; on every node, without a name
//! GET  /alerts?node=NAME     what an operator is to hear of; on every node, without a name
//! POST /ask/ROLE?node=NAME   the body, JSON, to a role; its answer comes back
//! POST /tell/ROLE?node=NAME  the same without an answer
//! ```
//!
//! On a loopback address it speaks HTTP. With certificates it speaks HTTPS and lets in whoever has one
//! of the cluster's authority, a tool's or a node's. With `node.tokens_file` whoever asks says by a token
//! who that is, and asks what its role may.

mod guard;
mod places;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use axum::{Extension, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tickwright_core::cluster::Status;
use tickwright_core::cluster::access::deed_of;
use tickwright_core::domain::NodeId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, Sleep};

use super::cut::{Cut, Line};
use super::deeds;
use super::membership::View;
use super::metrics::{self, Told};
use super::network::{DeliveryError, Message, Network};
use super::stream::Connection;
use super::tls::{self, Identity, Tls};
use crate::kit::{TokenError, TokenHolder};
use places::{PLACES, Way};

pub(super) use guard::Guard;

/// The page that shows the cluster: all of it, so that a browser asks nobody else for anything.
const DASHBOARD: &str = include_str!("admin/dashboard.html");

/// What the page may do: be itself, and ask this door.
const DASHBOARD_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                                connect-src 'self'; base-uri 'none'; form-action 'none'; \
                                frame-ancestors 'none'";

/// Tools that may be connected at once.
const CONNECTIONS_MAX: usize = 256;

/// Largest question of a tool, in bytes.
const BODY_MAX: usize = 1 << 20;

/// How long a tool may take to prove who it is.
const PROOF_MAX: Duration = Duration::from_secs(5);

/// Longest that a tool may let a question take.
const PATIENCE_MAX: Duration = Duration::from_secs(60);

/// How long a tool may say nothing; longer than any question takes, or waiting for an answer would
/// count as silence.
const SILENCE_MAX: Duration = Duration::from_secs(90);

/// Why tools cannot be let in.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Nobody can listen there.
    #[error("cannot listen for tools on {address}: {message}; give another one")]
    Bind {
        /// Where.
        address: String,
        /// What the system said.
        message: String,
    },
    /// It is not known who may.
    #[error(
        "{0}; node.tokens_file says where tokens are, and `tickwright tokens new NAME --role ROLE --file FILE` \
         makes such a file"
    )]
    Tokens(#[from] TokenError),
}

impl AdminError {
    pub(super) fn of(address: &str, message: String) -> Self {
        Self::Bind { address: address.to_owned(), message }
    }
}

/// The running door.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    tasks: Vec<JoinHandle<()>>,
}

impl Admin {
    /// Opens the door on `address`, for whoever `guard` lets in; without one, for all.
    ///
    /// # Errors
    ///
    /// [`AdminError`] when nobody can listen there.
    pub(super) async fn open(
        address: &str,
        tls: Option<Tls>,
        guard: Option<Guard>,
        network: Network,
        view: watch::Receiver<View>,
        ask_timeout: Duration,
    ) -> Result<Self, AdminError> {
        let fail = |error: io::Error| AdminError::of(address, error.to_string());
        let listener = TcpListener::bind(address).await.map_err(fail)?;
        let bound = listener.local_addr().map_err(fail)?;
        let (sender, receiver) = mpsc::channel(16);
        let mut tasks = vec![tokio::spawn(accept(listener, tls, sender))];
        tasks.extend(guard.clone().map(|guard| tokio::spawn(guard.keep_up())));
        let router = router(Desk { network, view, ask_timeout, guard });
        let door = Door { address: bound, receiver };
        tasks.push(tokio::spawn(async move {
            if let Err(error) = axum::serve(door, router).await {
                tracing::error!(%error, "tools are not served any more");
            }
        }));
        Ok(Self { address: bound, tasks })
    }

    /// Where tools are let in.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

#[derive(Clone, Debug)]
struct Desk {
    network: Network,
    view: watch::Receiver<View>,
    ask_timeout: Duration,
    /// None, where whoever reaches the door may ask everything.
    guard: Option<Guard>,
}

/// Who asks, where tools have tokens.
type Asker = Option<Extension<TokenHolder>>;

impl Desk {
    /// Has it written down, if something was to be changed.
    fn note(
        &self,
        (role, node): (&str, Option<&NodeId>),
        asker: &Asker,
        body: &Bytes,
        response: &Response,
    ) {
        if let Some(deed) = deed_of(body) {
            let author = asker.as_ref().map(|Extension(holder)| holder.name.as_str());
            deeds::note(&self.network, deed, role, author, (node, body, response.status()));
        }
    }
}

fn router(desk: Desk) -> Router {
    let desk = Arc::new(desk);
    let places = PLACES.iter();
    places
        .fold(Router::new(), |router, place| router.route(place.path, serving(place.way)))
        .layer(from_fn_with_state(Arc::clone(&desk), guard::check))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(desk)
}

fn serving(way: Way) -> MethodRouter<Arc<Desk>> {
    match way {
        Way::Health => get(health),
        Way::Dashboard => get(dashboard),
        Way::Document => get(document),
        Way::About(part, question) => get(move |desk, to| about(desk, to, (part, question))),
        Way::Each(part, question) => get(move |desk, to| each(desk, to, (part, question))),
        Way::Metrics => get(metrics),
        Way::Config => post(config),
        Way::Ask => post(ask),
        Way::Tell => post(tell),
    }
}

async fn dashboard() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, DASHBOARD_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, DASHBOARD).into_response()
}

async fn document() -> Response {
    json_body(StatusCode::OK, places::document().to_string().into_bytes())
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct To {
    /// Which node; without one, whichever serves the role.
    node: Option<String>,
    timeout_ms: Option<u64>,
}

impl To {
    fn node(&self) -> Option<NodeId> {
        self.node.clone().map(NodeId)
    }

    fn patience(&self, otherwise: Duration) -> Duration {
        self.timeout_ms.map_or(otherwise, Duration::from_millis).min(PATIENCE_MAX)
    }
}

async fn health(State(desk): State<Arc<Desk>>) -> Response {
    let is_member = desk.view.borrow().is_member;
    let code = if is_member { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json_body(code, format!("{{\"is_member\":{is_member}}}").into_bytes())
}

async fn about(
    State(desk): State<Arc<Desk>>,
    Query(to): Query<To>,
    (part, question): (&'static str, &'static str),
) -> Response {
    let node = to.node().unwrap_or_else(|| desk.network.own().id.clone());
    let role = format!("{part}/{node}");
    let message = Message::json(&role, question);
    let patience = to.patience(desk.ask_timeout);
    desk.respond(desk.network.ask(Some(&node), message, patience).await)
}

/// Asks `PART/NODE` on one node or on all that have such a part; says of each what it has answered, or why
/// it has not.
async fn each(
    State(desk): State<Arc<Desk>>,
    Query(to): Query<To>,
    (part, question): (&'static str, &'static str),
) -> Response {
    let patience = to.patience(desk.ask_timeout);
    if let Some(node) = to.node() {
        let role = format!("{part}/{node}");
        let message = Message::json(&role, question);
        let answer = desk.network.ask(Some(&node), message, patience).await;
        // The shape is the same, with one row.
        return desk.respond(answer.map(|body| {
            let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
            json!([{ "node": node, "answer": answer }]).to_string().into_bytes()
        }));
    }
    let mut asked = JoinSet::new();
    for node in desk.nodes_with(part) {
        let network = desk.network.clone();
        asked.spawn(async move {
            let role = format!("{part}/{node}");
            let answer = network.ask(Some(&node), Message::json(&role, question), patience).await;
            let told = match answer {
                Ok(body) => match serde_json::from_slice::<Value>(&body) {
                    Ok(answer) => json!({ "node": node, "answer": answer }),
                    Err(error) => json!({ "node": node, "error": error.to_string() }),
                },
                Err(error) => json!({ "node": node, "error": error.to_string() }),
            };
            (node, told)
        });
    }
    let mut answers: BTreeMap<NodeId, Value> = BTreeMap::new();
    while let Some(answer) = asked.join_next().await {
        // A task that was cancelled belongs to a door that is closed.
        answers.extend(answer);
    }
    let answers: Value = answers.into_values().collect();
    json_body(StatusCode::OK, answers.to_string().into_bytes())
}

impl Desk {
    fn respond(&self, answer: Result<Vec<u8>, DeliveryError>) -> Response {
        match answer {
            Ok(body) => json_body(StatusCode::OK, body),
            Err(error) => {
                let code = match error {
                    DeliveryError::Nobody(_) => StatusCode::NOT_FOUND,
                    DeliveryError::Unlinked(_) | DeliveryError::Stalled(_) => {
                        StatusCode::SERVICE_UNAVAILABLE
                    }
                    DeliveryError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
                    DeliveryError::TooMany => StatusCode::TOO_MANY_REQUESTS,
                    DeliveryError::Refused(_) => StatusCode::UNPROCESSABLE_ENTITY,
                    DeliveryError::Ended(_) | DeliveryError::Timeout { .. } => {
                        StatusCode::GATEWAY_TIMEOUT
                    }
                };
                let body = json!({
                    "error": self.explained(&error),
                    "is_outcome_unknown": error.is_outcome_unknown(),
                });
                json_body(code, body.to_string().into_bytes())
            }
        }
    }

    /// What went wrong, with the names there are if one was not known.
    fn explained(&self, error: &DeliveryError) -> String {
        match error {
            DeliveryError::Nobody(_) => {
                // Of those that every node or every unit has, one stands for all.
                let kind = |(role, _): (String, _)| match role.split_once('/') {
                    Some((kind, _)) => format!("{kind}/*"),
                    None => role,
                };
                let kinds: BTreeSet<String> = self.network.roles().into_iter().map(kind).collect();
                let kinds: Vec<String> = kinds.into_iter().collect();
                format!(
                    "{error}; there are: {} (`tickwright ctl roles` lists all)",
                    kinds.join(", ")
                )
            }
            DeliveryError::Unlinked(node) => {
                let view = self.view.borrow();
                let known = view.members.iter().map(|member| member.profile.id.0.as_str());
                let known: Vec<&str> = known.collect();
                if known.contains(&node.0.as_str()) {
                    error.to_string()
                } else {
                    format!("there is no node {node}; there are: {}", known.join(", "))
                }
            }
            DeliveryError::Stalled(_)
            | DeliveryError::TooLarge { .. }
            | DeliveryError::TooMany
            | DeliveryError::Refused(_)
            | DeliveryError::Ended(_)
            | DeliveryError::Timeout { .. } => error.to_string(),
        }
    }

    /// Nodes that have not left and serve `PART/NODE`.
    fn nodes_with(&self, part: &str) -> Vec<NodeId> {
        let roles: BTreeSet<String> =
            self.network.roles().into_iter().map(|(role, _)| role).collect();
        let view = self.view.borrow();
        let own = &self.network.own().id;
        // A process that is in no cluster is nobody's member, and has what it serves.
        if view.members.is_empty() && self.network.serving(&format!("{part}/{own}")).is_some() {
            return vec![own.clone()];
        }
        let members = view.members.iter().filter(|member| member.status != Status::Left);
        let has_part = |node: &NodeId| {
            // What is served here may not be told yet.
            node == own || roles.contains(&format!("{part}/{node}"))
        };
        let nodes = members.map(|member| member.profile.id.clone());
        nodes.filter(has_part).collect()
    }
}

async fn metrics(State(desk): State<Arc<Desk>>, Query(to): Query<To>) -> Response {
    let node = to.node().unwrap_or_else(|| desk.network.own().id.clone());
    let patience = to.patience(desk.ask_timeout);
    let ask = async |part: &str, question: &str| {
        let role = format!("{part}/{node}");
        let message = Message::json(&role, question);
        let answer = desk.network.ask(Some(&node), message, patience).await;
        answer.map(|body| serde_json::from_slice::<Value>(&body).unwrap_or_default())
    };
    let counts = ask("run", "\"Counts\"").await.unwrap_or_default();
    let status = match ask("node", "\"Status\"").await {
        Ok(status) => status,
        // A process that is in no cluster has only counted.
        Err(_) if counts.is_object() => Value::Null,
        Err(error) => return desk.respond(Err(error)),
    };
    // A node that is not in a cluster has no shared configuration yet.
    let config = ask("config", "\"Status\"").await.unwrap_or_default();
    let alerts = ask("alerts", "\"Report\"").await.unwrap_or_default();
    let streams = ask("run", "\"Streams\"").await.unwrap_or_default();
    let mut parts = Vec::new();
    for (part, question) in
        [("tuner", "\"Report\""), ("optimise", "\"Status\""), ("adoption", "\"Status\"")]
    {
        // Only where settings are tuned, or parameters searched for.
        let role = format!("{part}/{node}");
        if desk.network.roles().iter().any(|(it, _)| *it == role) {
            parts.push((part, ask(part, question).await.unwrap_or_default()));
        }
    }
    let told = Told {
        status: &status,
        config: &config,
        alerts: &alerts,
        streams: &streams,
        counts: &counts,
        parts: &parts,
    };
    match metrics::text(&told) {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn config(State(desk): State<Arc<Desk>>, Query(to): Query<To>, body: Bytes) -> Response {
    let node = to.node().unwrap_or_else(|| desk.network.own().id.clone());
    let role = format!("config/{node}");
    let message = Message { role: &role, kind: "json", epoch: 0, body: &body, is_urgent: false };
    let patience = to.patience(desk.ask_timeout);
    desk.respond(desk.network.ask(Some(&node), message, patience).await)
}

async fn ask(
    State(desk): State<Arc<Desk>>,
    asker: Asker,
    Path(role): Path<String>,
    Query(to): Query<To>,
    body: Bytes,
) -> Response {
    let message = Message { role: &role, kind: "json", epoch: 0, body: &body, is_urgent: false };
    let (node, patience) = (to.node(), to.patience(desk.ask_timeout));
    let response = desk.respond(desk.network.ask(node.as_ref(), message, patience).await);
    desk.note((&role, node.as_ref()), &asker, &body, &response);
    response
}

async fn tell(
    State(desk): State<Arc<Desk>>,
    asker: Asker,
    Path(role): Path<String>,
    Query(to): Query<To>,
    body: Bytes,
) -> Response {
    let message = Message { role: &role, kind: "json", epoch: 0, body: &body, is_urgent: false };
    let (node, patience) = (to.node(), to.patience(desk.ask_timeout));
    let told = desk.network.tell(node.as_ref(), message, patience).await;
    let response = desk.respond(told.map(|()| b"{\"told\":true}".to_vec()));
    desk.note((&role, node.as_ref()), &asker, &body, &response);
    response
}

fn json_body(code: StatusCode, body: Vec<u8>) -> Response {
    (code, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// Accepts, lets prove who they are those who have to, and hands over; each in a task of its own.
async fn accept(listener: TcpListener, tls: Option<Tls>, sender: mpsc::Sender<(Tool, SocketAddr)>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a tool's connection cannot be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (tls, sender) = (tls.clone(), sender.clone());
        tokio::spawn(async move {
            let proved = tokio::time::timeout(PROOF_MAX, prove(stream, tls)).await;
            match proved {
                Ok(Ok(connection)) => {
                    let _ = sender.send((Tool::new(connection, place), from)).await;
                }
                Ok(Err(error)) => tracing::debug!(%from, %error, "a tool was not let in"),
                Err(_) => tracing::debug!(%from, "a tool did not say who it is"),
            }
        });
    }
}

async fn prove(stream: TcpStream, tls: Option<Tls>) -> io::Result<Connection> {
    stream.set_nodelay(true)?;
    // Tools see a node that is cut off from the others.
    let line = Line::new(stream, Cut::default());
    let Some(tls) = tls else { return Ok(Connection::Plain(line)) };
    let stream = tls.acceptor().accept(line).await?;
    let connection = Connection::Tls(Box::new(stream.into()));
    match connection.peer_certificate().map(tls::identity) {
        Some(Identity::Node(_) | Identity::Tool) => Ok(connection),
        Some(Identity::Other) | None => Err(io::Error::other("neither a tool nor a node")),
    }
}

struct Door {
    address: SocketAddr,
    receiver: mpsc::Receiver<(Tool, SocketAddr)>,
}

impl axum::serve::Listener for Door {
    type Io = Tool;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Tool, SocketAddr) {
        match self.receiver.recv().await {
            Some(accepted) => accepted,
            // Nobody accepts any more: the node is about to stop.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// A tool's connection, which ends when nothing is said for long.
struct Tool {
    connection: Connection,
    silence: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl Tool {
    fn new(connection: Connection, place: OwnedSemaphorePermit) -> Self {
        let silence = Box::pin(tokio::time::sleep(SILENCE_MAX));
        Self { connection, silence, _place: place }
    }
}

impl AsyncRead for Tool {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.connection).poll_read(cx, buf) {
            Poll::Ready(read) => {
                this.silence.as_mut().reset(Instant::now() + SILENCE_MAX);
                Poll::Ready(read)
            }
            Poll::Pending if this.silence.as_mut().poll(cx).is_ready() => {
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncWrite for Tool {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.silence.as_mut().reset(Instant::now() + SILENCE_MAX);
        Pin::new(&mut this.connection).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().connection).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().connection).poll_shutdown(cx)
    }
}
