//! Connections and requests: everything that can go wrong between a client and the engine goes wrong here.
//!
//! ```text
//! head ─▶ faults drawn ─▶ body ─▶ [own task: delay ─▶ key, signature ─▶ engine ─▶ delay] ─▶ answer, silence
//!            └▶ connection dropped                                                          or drop
//! ```
//!
//! What has been read is handled in a task of its own, so that a client who leaves does not take its request
//! with it. Hyper is used as it is rather than through axum: only so can a connection end without an answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tickwright_core::exchange::{
    self, ApiError, Endpoint, FaultKind, FaultSpec, Parameters, Security,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use super::engine::Engine;
use super::{Shared, admin, socket};

/// Connections at once.
const CONNECTIONS_MAX: usize = 1_024;

/// Requests that are being handled at once; those that wait on command count.
const REQUESTS_MAX: usize = 4_096;

/// Largest body of a request, bytes.
const BODY_BYTES_MAX: usize = 64 << 10;

/// How long a body may take to come.
const BODY_PATIENCE: Duration = Duration::from_secs(10);

/// How long a head may take to come, and a connection be idle.
const HEAD_PATIENCE: Duration = Duration::from_secs(60);

/// How long a connection is held open that gets no answer.
const SILENCE: Duration = Duration::from_secs(600);

/// What is done with a connection.
#[derive(Debug)]
pub(super) enum Reply {
    Answer { status: u16, body: Value, retry_after: Option<u64> },
    Silence,
    Drop,
}

impl Reply {
    pub(super) fn ok(body: Value) -> Self {
        Self::Answer { status: 200, body, retry_after: None }
    }
}

impl From<ApiError> for Reply {
    fn from(error: ApiError) -> Self {
        Self::Answer { status: error.status, body: error.body(), retry_after: None }
    }
}

/// Ends a connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is dropped")]
struct Dropped;

/// What all connections share.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub(super) engine: Engine,
    pub(super) shared: Arc<Shared>,
    requests: Arc<Semaphore>,
}

impl Server {
    pub(super) fn new(engine: Engine, shared: Arc<Shared>) -> Self {
        Self { engine, shared, requests: Arc::new(Semaphore::new(REQUESTS_MAX)) }
    }

    /// Accepts for ever.
    pub(super) async fn serve(self, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, from)) => {
                    tokio::spawn(self.clone().connection(stream, from, Arc::new(place)));
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection cannot be accepted");
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    async fn connection(
        self,
        stream: TcpStream,
        from: SocketAddr,
        place: Arc<OwnedSemaphorePermit>,
    ) {
        let _ = stream.set_nodelay(true);
        let service = service_fn(move |request| {
            let (server, place) = (self.clone(), Arc::clone(&place));
            async move { server.respond(request, from, place).await }
        });
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEAD_PATIENCE);
        builder.max_buf_size(64 << 10);
        let connection = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
        if let Err(error) = connection.await {
            tracing::debug!(%from, %error, "a connection has ended");
        }
    }

    async fn respond(
        self,
        mut request: Request<Incoming>,
        from: SocketAddr,
        place: Arc<OwnedSemaphorePermit>,
    ) -> Result<Response<Full<Bytes>>, Dropped> {
        let path = request.uri().path().to_owned();
        if let Some(key) = path.strip_prefix("/ws/") {
            return Ok(socket::upgrade(&self.shared, &mut request, key, place));
        }
        let method = request.method().as_str().to_owned();
        let endpoint = Endpoint::find(&method, &path);
        let query = request.uri().query().unwrap_or_default().to_owned();
        let key = request.headers().get("x-mbx-apikey");
        let key = key.map(|key| String::from_utf8_lossy(key.as_bytes()).into_owned());
        let faults = match endpoint {
            Some(_) => self.shared.strike(&method, &path),
            None => Vec::new(),
        };
        if faults.iter().any(|fault| fault.kind == FaultKind::DropBefore) {
            return Err(Dropped);
        }
        let Some(body) = read(request.into_body()).await else {
            let too_large = ApiError::new(-1100, "The body is no text, too large or too slow.");
            return Ok(response(413, &too_large.body(), None));
        };
        let Some(endpoint) = endpoint else {
            return Ok(match admin::answer(&self, &method, &path, &query, &body, from).await {
                Reply::Answer { status, body, retry_after } => response(status, &body, retry_after),
                Reply::Silence | Reply::Drop => return Err(Dropped),
            });
        };
        let Ok(turn) = Arc::clone(&self.requests).try_acquire_owned() else {
            return Ok(response(503, &ApiError::of_code(-1008, 503).body(), None));
        };
        let asked = Asked { endpoint, key, query, body, from };
        let handled = tokio::spawn(async move {
            let reply = self.handle(&asked, &faults).await;
            drop(turn);
            reply
        });
        match handled.await {
            Ok(Reply::Answer { status, body, retry_after }) => {
                Ok(response(status, &body, retry_after))
            }
            Ok(Reply::Silence) => {
                sleep(SILENCE).await;
                Err(Dropped)
            }
            Ok(Reply::Drop) | Err(_) => Err(Dropped),
        }
    }

    /// Handles one request of the exchange, under the faults that strike it.
    async fn handle(&self, asked: &Asked, faults: &[FaultSpec]) -> Reply {
        if let Err((status, seconds)) = self.shared.count(asked.from.ip()) {
            return limited(status, seconds);
        }
        wait(faults, FaultKind::DelayBefore).await;
        for fault in faults {
            let (status, code) = (fault.status, fault.code);
            match fault.kind {
                FaultKind::RateLimit => {
                    return limited(status.unwrap_or(429), fault.retry_after.unwrap_or(1));
                }
                FaultKind::SilenceBefore => return Reply::Silence,
                FaultKind::ErrorBefore => {
                    let (code, status) = (code.unwrap_or(-1008), status.unwrap_or(503));
                    return ApiError::of_code(code, status).into();
                }
                FaultKind::Refuse => {
                    let error = ApiError::of_code(code.unwrap_or(-2010), status.unwrap_or(400));
                    let message = fault.message.clone().unwrap_or(error.message);
                    return ApiError { message, ..error }.into();
                }
                FaultKind::DelayBefore
                | FaultKind::DelayAfter
                | FaultKind::SilenceAfter
                | FaultKind::Repeat
                | FaultKind::ErrorAfter
                | FaultKind::DropBefore
                | FaultKind::DropAfter
                | FaultKind::Clock
                | FaultKind::ClockJump
                | FaultKind::StreamLose
                | FaultKind::StreamDelay
                | FaultKind::StreamDuplicate
                | FaultKind::StreamDrop => {}
            }
        }
        let Some(answer) = self.take(asked, faults).await else { return Reply::Drop };
        wait(faults, FaultKind::DelayAfter).await;
        let find = |kind| faults.iter().find(|fault| fault.kind == kind);
        if find(FaultKind::SilenceAfter).is_some() {
            return Reply::Silence;
        }
        if find(FaultKind::DropAfter).is_some() {
            return Reply::Drop;
        }
        if let Some(fault) = find(FaultKind::ErrorAfter) {
            let (code, status) = (fault.code.unwrap_or(-1007), fault.status.unwrap_or(504));
            return ApiError::of_code(code, status).into();
        }
        answer
    }

    /// Takes the request, and again if that is commanded; nothing if the engine has ended.
    async fn take(&self, asked: &Asked, faults: &[FaultSpec]) -> Option<Reply> {
        let request = match self.admit(asked) {
            Ok(request) => request,
            Err(error) => return Some(error.into()),
        };
        let reply = |answer: Result<Value, ApiError>| answer.map_or_else(Into::into, Reply::ok);
        if request.endpoint.security() == Security::Key {
            return Some(reply(self.shared.stream_key(&request)));
        }
        let mut answer = self.engine.request(request.clone()).await.ok()?;
        for fault in faults.iter().filter(|fault| fault.kind == FaultKind::Repeat) {
            for _ in 0..fault.times {
                sleep(Duration::from_millis(fault.ms.unsigned_abs())).await;
                answer = self.engine.request(request.clone()).await.ok()?;
            }
        }
        Some(reply(answer))
    }

    /// The request as the engine takes it, if its key and its signature are right.
    fn admit(&self, asked: &Asked) -> Result<exchange::Request, ApiError> {
        let Asked { endpoint, key, query, body, .. } = asked;
        let keys = &self.shared.keys;
        let account = match endpoint.security() {
            Security::None => None,
            Security::Key => Some(keys.account(key.as_deref())?),
            Security::Signed => Some(keys.signer(key.as_deref(), query, body)?),
        };
        let parameters = Parameters::parse(query, body)?;
        Ok(exchange::Request {
            endpoint: *endpoint,
            account: account.map(str::to_owned),
            parameters,
        })
    }
}

/// A request that has been read.
#[derive(Debug)]
struct Asked {
    endpoint: Endpoint,
    key: Option<String>,
    query: String,
    body: String,
    from: SocketAddr,
}

async fn read(body: Incoming) -> Option<String> {
    let body = timeout(BODY_PATIENCE, Limited::new(body, BODY_BYTES_MAX).collect()).await;
    String::from_utf8(body.ok()?.ok()?.to_bytes().into()).ok()
}

async fn wait(faults: &[FaultSpec], kind: FaultKind) {
    let delays = faults.iter().filter(|fault| fault.kind == kind);
    let delay: u64 = delays.map(|fault| fault.ms.unsigned_abs()).sum();
    if delay > 0 {
        sleep(Duration::from_millis(delay)).await;
    }
}

fn limited(status: u16, seconds: u64) -> Reply {
    let body = ApiError::too_many(status).body();
    Reply::Answer { status, body, retry_after: Some(seconds) }
}

pub(super) fn response(
    status: u16,
    body: &Value,
    retry_after: Option<u64>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body.to_string()));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let json = header::HeaderValue::from_static("application/json;charset=UTF-8");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// Nothing is there.
pub(super) fn nothing_there(method: &str, path: &str) -> Reply {
    let body = json!({ "code": -1000, "msg": format!("There is no {method} {path}.") });
    Reply::Answer { status: 404, body, retry_after: None }
}
