//! A live WebSocket feed: stays connected, and hands over what it hears in the order it was heard.
//!
//! ```text
//! venue ──socket──▶ task ──LiveFrame──▶ bounded queue ─▶ whoever journals and parses
//!                    │ ▲                        full: the task stops reading (TCP slows the venue)
//!                    │ └── Connection, FrameJudge, SnapshotRequests (src/pipeline/live): what to do
//!                    └──── LiveStatus (bounded, dropped when nobody reads), LiveCounts
//! ```
//!
//! A book that is kept from differences begins with a snapshot, which the venue gives by REST. Whoever
//! keeps the book [wants](LiveHandle::want_snapshot) one; it is fetched while frames go on, and takes
//! its place among them.
//!
//! *Failover.* A live feed cannot be read again: what is not in the queue's consumer's journal is
//! lost with the process. What was missed is told as a gap, by the venue's own ids.
//!
//! *Delivery.* Every sound market frame that the venue sent on a standing connection is delivered
//! once, in order. Garbage is counted and shown by its beginning, never fatal. While the queue is
//! full nothing is read, so the venue's pings go unanswered; a venue that gives up for that is
//! connected to again, and the gap is told.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use rustls::ClientConfig;
use tickwright_core::domain::{Symbol, Timestamp};
use tickwright_core::pipeline::live::{
    Connection, ConnectionEffect, DisconnectReason, FrameCounts, FrameJudge, FrameVerdict, Gap,
    SnapshotFailure, SnapshotRequests, is_snapshot, path_of,
};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::http::Uri;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream};

use super::rest;

mod config;
pub(crate) mod tls;

pub use config::{LiveConfig, LiveError};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A snapshot on its way.
type Fetch = Pin<Box<dyn Future<Output = Result<Box<[u8]>, SnapshotFailure>> + Send>>;

/// Statuses that wait for a reader; more are dropped and counted.
const STATUS_QUEUE_MAX: usize = 256;

/// Wishes for snapshots that wait to be heard; one more is to be said again.
const WISH_QUEUE_MAX: usize = 256;

/// One market message as the venue sent it.
#[derive(Clone, PartialEq, Eq)]
pub struct LiveFrame {
    /// When it was read, by the clock handed in.
    pub receive_time: Timestamp,
    /// Which connection brought it, from 1.
    pub connection: u64,
    /// Its text. Copied out of the socket's buffer: a slice would keep the whole buffer alive.
    pub bytes: Box<[u8]>,
    /// Whose depth snapshot it is, fetched beside the feed; none for what the feed said.
    pub snapshot_of: Option<Symbol>,
}

impl fmt::Debug for LiveFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(&self.bytes);
        write!(f, "LiveFrame({} {})", self.receive_time.as_nanos(), text)
    }
}

/// What happened to the feed, for people and telemetry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LiveStatus {
    /// A connection stands.
    Connected {
        /// Connections so far, this one included.
        connection: u64,
    },
    /// A connection, or an attempt at one, ended.
    Disconnected {
        /// Why.
        reason: DisconnectReason,
        /// What the socket said, if it said something.
        detail: String,
        /// Until the next attempt.
        retry_in: Duration,
    },
    /// Messages are missing.
    Gap(Gap),
    /// A frame that is not known.
    Garbage {
        /// Its beginning.
        excerpt: String,
    },
    /// The venue refused a request.
    Refusal {
        /// The answer's beginning.
        excerpt: String,
    },
    /// A depth snapshot that is wanted did not come.
    SnapshotFailed {
        /// Whose.
        symbol: Symbol,
        /// Why.
        failure: SnapshotFailure,
        /// Until it is asked for again.
        retry_in: Duration,
    },
}

/// Since the client was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LiveCounts {
    /// Frames by what they were.
    pub frames: FrameCounts,
    /// Bytes of all frames.
    pub bytes: u64,
    /// Connections that stood.
    pub connections: u64,
    /// Connections, and attempts at one, that ended.
    pub disconnects: u64,
    /// Pings sent.
    pub pings: u64,
    /// Times the queue was full, so that reading stopped.
    pub stalls: u64,
    /// Statuses nobody read in time.
    pub statuses_dropped: u64,
    /// Depth snapshots that came.
    pub snapshots: u64,
    /// Requests for one that failed.
    pub snapshots_failed: u64,
}

/// Frames in the order they were heard.
pub type LiveFrames = mpsc::Receiver<LiveFrame>;

/// What happened, in order.
pub type LiveStatuses = mpsc::Receiver<LiveStatus>;

/// A feed that is listened to.
#[derive(Debug)]
pub struct LiveClient {
    /// What it says. Closed once the client is stopped.
    pub frames: LiveFrames,
    /// What happens to it. Need not be read.
    pub statuses: LiveStatuses,
    /// Stops it when dropped.
    pub handle: LiveHandle,
}

/// A running client; dropping it ends the connection and the task.
#[derive(Debug)]
pub struct LiveHandle {
    /// None where snapshots cannot be fetched.
    wishes: Option<mpsc::Sender<Symbol>>,
    counts: watch::Receiver<LiveCounts>,
    task: JoinHandle<()>,
}

impl LiveHandle {
    /// Since the client was started.
    pub fn counts(&self) -> LiveCounts {
        *self.counts.borrow()
    }

    /// Asks for the depth snapshot of `symbol`. It is fetched until it comes, as a frame, or the
    /// connection ends. False when it has to be said again, or will never come.
    pub fn want_snapshot(&self, symbol: &Symbol) -> bool {
        self.wishes.as_ref().is_some_and(|wishes| wishes.try_send(symbol.clone()).is_ok())
    }

    /// Whether the task has ended: its frames' receiver is gone, or it panicked.
    pub fn finished(&self) -> bool {
        self.task.is_finished()
    }
}

impl Drop for LiveHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl LiveClient {
    /// Starts to listen, on the runtime this is called in. `clock` dates the frames.
    ///
    /// # Errors
    ///
    /// [`LiveError`] when `config` names no feed. A feed that cannot be reached is no error: it is
    /// tried again.
    pub fn start(
        config: LiveConfig,
        clock: impl Fn() -> Timestamp + Send + Sync + 'static,
    ) -> Result<Self, LiveError> {
        let address = config.address()?;
        let rest = config.rest_address()?;
        let tls = config.believed()?;
        let (wishes_in, wishes) = mpsc::channel(WISH_QUEUE_MAX);
        let wishes_in = rest.is_some().then_some(wishes_in);
        let (frames_in, frames) = mpsc::channel(config.queue_frames_max.max(1));
        let (statuses_in, statuses) = mpsc::channel(STATUS_QUEUE_MAX);
        let (counts_in, counts) = watch::channel(LiveCounts::default());
        let driver = Driver {
            connection: Connection::new(config.policy, Timestamp::default(), config.seed),
            judge: FrameJudge::default(),
            snapshots: SnapshotRequests::new(config.snapshots),
            rest,
            wishes,
            fetch: None,
            socket: None,
            started: Instant::now(),
            counts: LiveCounts::default(),
            counts_in,
            frames_in,
            statuses_in,
            address,
            tls,
            config,
            clock,
        };
        let task = tokio::spawn(driver.run());
        Ok(Self { frames, statuses, handle: LiveHandle { wishes: wishes_in, counts, task } })
    }
}

/// Nobody takes frames any more.
struct Abandoned;

struct Driver<C> {
    config: LiveConfig,
    address: Uri,
    /// Who is believed.
    tls: Arc<ClientConfig>,
    connection: Connection,
    judge: FrameJudge,
    snapshots: SnapshotRequests,
    rest: Option<Uri>,
    wishes: mpsc::Receiver<Symbol>,
    /// At most one, and only while a connection stands.
    fetch: Option<Fetch>,
    socket: Option<Box<Socket>>,
    /// Deadlines count from here, by the monotonic clock: a wall clock that is set must not end a
    /// connection.
    started: Instant,
    counts: LiveCounts,
    counts_in: watch::Sender<LiveCounts>,
    frames_in: mpsc::Sender<LiveFrame>,
    statuses_in: mpsc::Sender<LiveStatus>,
    clock: C,
}

impl<C: Fn() -> Timestamp + Send + Sync + 'static> Driver<C> {
    async fn run(mut self) {
        while !self.frames_in.is_closed() {
            let outcome = match self.connection.on_wake(self.now()) {
                Some(ConnectionEffect::Connect) => self.connect().await,
                Some(ConnectionEffect::Ping) => self.ping().await,
                Some(ConnectionEffect::Disconnect(reason)) => {
                    self.on_given_up(reason, String::new());
                    Ok(())
                }
                None => self.listen().await,
            };
            if let Err(Abandoned) = outcome {
                break;
            }
        }
    }

    async fn connect(&mut self) -> Result<(), Abandoned> {
        let deadline = self.instant_of(self.connection.wake_at());
        let limits = WebSocketConfig::default()
            .max_message_size(Some(self.config.frame_bytes_max))
            .max_frame_size(Some(self.config.frame_bytes_max));
        let outcome = tokio::select! {
            outcome = dial(&self.address, limits, Arc::clone(&self.tls)) => outcome,
            // The connection's own deadline has passed: it says so when asked next.
            () = sleep_until(deadline) => return Ok(()),
            () = self.frames_in.closed() => return Err(Abandoned),
        };
        match outcome {
            Ok(socket) => {
                self.socket = Some(Box::new(socket));
                self.connection.on_opened(self.now());
                self.judge.on_opened();
                self.counts.connections += 1;
                let connection = self.counts.connections;
                self.tell(LiveStatus::Connected { connection });
            }
            Err(error) => self.on_lost(reason_not_connected(&error), &error),
        }
        Ok(())
    }

    async fn ping(&mut self) -> Result<(), Abandoned> {
        let Some(socket) = &mut self.socket else { return Ok(()) };
        self.counts.pings += 1;
        let ping = socket.send(Message::Ping(Bytes::new()));
        // A peer that does not even read has its pong missing.
        if let Ok(Err(error)) = timeout(self.config.policy.pong_deadline, ping).await {
            self.on_lost(DisconnectReason::Broken, &error);
        }
        Ok(())
    }

    /// Waits for the next frame, the next deadline or the end.
    async fn listen(&mut self) -> Result<(), Abandoned> {
        let mut wake_at = self.connection.wake_at();
        if self.socket.is_some() {
            self.begin_fetch();
            wake_at = self.snapshots.wake_at().map_or(wake_at, |at| at.min(wake_at));
        }
        let deadline = self.instant_of(wake_at);
        let Some(socket) = &mut self.socket else {
            return tokio::select! {
                () = sleep_until(deadline) => Ok(()),
                () = self.frames_in.closed() => Err(Abandoned),
            };
        };
        tokio::select! {
            // What comes seldom first, or a busy feed would never let it; then frames. Deadlines are
            // looked at between any two of them.
            biased;
            outcome = arrival(&mut self.fetch) => return self.on_fetched(outcome).await,
            Some(symbol) = self.wishes.recv() => {
                let now = self.now();
                self.snapshots.on_wanted(&symbol, now);
            }
            message = socket.next() => match message {
                Some(Ok(message)) => return self.on_message(message).await,
                Some(Err(error)) => self.on_lost(reason_lost(&error), &error),
                None => self.on_lost(DisconnectReason::Closed, &Error::ConnectionClosed),
            },
            () = sleep_until(deadline) => {}
            () = self.frames_in.closed() => return Err(Abandoned),
        }
        Ok(())
    }

    /// Begins to fetch the snapshot that is due, if one is.
    fn begin_fetch(&mut self) {
        let Some(rest) = self.rest.as_ref().filter(|_| self.fetch.is_none()) else { return };
        let Some(symbol) = self.snapshots.on_wake(self.now()) else { return };
        let path = path_of(&symbol).expect("a symbol without a path is never due");
        let (tls, deadline) = (Arc::clone(&self.tls), self.config.snapshots.deadline);
        self.fetch = Some(Box::pin(rest::get(rest.clone(), path, tls, deadline)));
    }

    async fn on_fetched(
        &mut self,
        outcome: Result<Box<[u8]>, SnapshotFailure>,
    ) -> Result<(), Abandoned> {
        self.fetch = None;
        let outcome = outcome.and_then(|body| {
            if is_snapshot(&body) { Ok(body) } else { Err(SnapshotFailure::Garbage) }
        });
        match outcome {
            Ok(bytes) => {
                self.counts.snapshots += 1;
                self.counts.bytes += bytes.len() as u64;
                let (receive_time, connection) = ((self.clock)(), self.counts.connections);
                let snapshot_of = self.snapshots.on_fetched();
                let frame = LiveFrame { receive_time, connection, bytes, snapshot_of };
                // Whoever has it finds it counted.
                self.publish();
                self.deliver(frame).await?;
            }
            Err(failure) => {
                self.counts.snapshots_failed += 1;
                let now = self.now();
                if let Some((symbol, retry_in)) = self.snapshots.on_failed(&failure, now) {
                    self.tell(LiveStatus::SnapshotFailed { symbol, failure, retry_in });
                }
            }
        }
        Ok(())
    }

    async fn on_message(&mut self, message: Message) -> Result<(), Abandoned> {
        let receive_time = (self.clock)();
        match message {
            Message::Text(text) => {
                let verdict = self.judge.judge(text.as_bytes());
                self.on_verdict(verdict, receive_time, text.as_bytes()).await?;
            }
            Message::Binary(bytes) => {
                let verdict = self.judge.judge_binary(&bytes);
                self.on_verdict(verdict, receive_time, &bytes).await?;
            }
            Message::Pong(_) => self.connection.on_pong(self.now()),
            // Pings are answered by the socket itself; after a close it gives no more.
            Message::Ping(_) | Message::Close(_) | Message::Frame(_) => {}
        }
        Ok(())
    }

    async fn on_verdict(
        &mut self,
        verdict: FrameVerdict,
        receive_time: Timestamp,
        bytes: &[u8],
    ) -> Result<(), Abandoned> {
        self.counts.bytes += bytes.len() as u64;
        match verdict {
            FrameVerdict::Market { gap } => {
                self.connection.on_frame(self.now());
                if let Some(gap) = gap {
                    self.tell(LiveStatus::Gap(gap));
                }
                let connection = self.counts.connections;
                let bytes = bytes.into();
                let frame = LiveFrame { receive_time, connection, bytes, snapshot_of: None };
                self.deliver(frame).await?;
            }
            FrameVerdict::Control => self.connection.on_frame(self.now()),
            FrameVerdict::Refusal { excerpt } => self.tell(LiveStatus::Refusal { excerpt }),
            FrameVerdict::Garbage { excerpt } => self.tell(LiveStatus::Garbage { excerpt }),
        }
        self.publish();
        Ok(())
    }

    /// Puts `frame` into the queue, however long that takes.
    async fn deliver(&mut self, frame: LiveFrame) -> Result<(), Abandoned> {
        use mpsc::error::TrySendError;
        match self.frames_in.try_send(frame) {
            Ok(()) => Ok(()),
            Err(TrySendError::Closed(_)) => Err(Abandoned),
            Err(TrySendError::Full(frame)) => {
                self.counts.stalls += 1;
                self.publish();
                self.frames_in.send(frame).await.map_err(|_| Abandoned)?;
                self.connection.on_resumed(self.now());
                Ok(())
            }
        }
    }

    /// The socket said that it is over.
    fn on_lost(&mut self, reason: DisconnectReason, error: &Error) {
        self.connection.on_ended(reason, self.now());
        self.on_given_up(reason, error.to_string());
    }

    /// The connection knows that it is over.
    fn on_given_up(&mut self, reason: DisconnectReason, detail: String) {
        self.socket = None;
        // Books begin anew with the next connection, and say again what they want.
        self.fetch = None;
        self.snapshots.on_disconnected();
        while self.wishes.try_recv().is_ok() {}
        self.counts.disconnects += 1;
        let retry_in = self.connection.wake_at().since(self.now());
        self.tell(LiveStatus::Disconnected { reason, detail, retry_in });
    }

    fn tell(&mut self, status: LiveStatus) {
        if self.statuses_in.try_send(status).is_err() {
            self.counts.statuses_dropped += 1;
        }
        self.publish();
    }

    fn publish(&mut self) {
        self.counts.frames = self.judge.counts();
        self.counts_in.send_replace(self.counts);
    }

    fn now(&self) -> Timestamp {
        Timestamp::default().after(self.started.elapsed())
    }

    fn instant_of(&self, at: Timestamp) -> Instant {
        self.started + at.since(Timestamp::default())
    }
}

/// Connects to a venue; `tls` says who is believed, if it is encrypted.
pub(crate) async fn dial(
    address: &Uri,
    limits: WebSocketConfig,
    tls: Arc<ClientConfig>,
) -> Result<Socket, Error> {
    let connector = Some(Connector::Rustls(tls));
    let connect =
        tokio_tungstenite::connect_async_tls_with_config(address, Some(limits), true, connector);
    Ok(connect.await?.0)
}

/// Waits for what is fetched; for ever when nothing is.
async fn arrival(fetch: &mut Option<Fetch>) -> Result<Box<[u8]>, SnapshotFailure> {
    match fetch {
        Some(fetch) => fetch.await,
        None => std::future::pending().await,
    }
}

fn reason_not_connected(error: &Error) -> DisconnectReason {
    // Binance answers 429 to too many connects, and 418 to those who go on.
    let throttled = |status: u16| [418, 429].contains(&status);
    if matches!(error, Error::Http(response) if throttled(response.status().as_u16())) {
        DisconnectReason::Throttled
    } else {
        DisconnectReason::Unreachable
    }
}

fn reason_lost(error: &Error) -> DisconnectReason {
    if matches!(error, Error::ConnectionClosed | Error::AlreadyClosed) {
        DisconnectReason::Closed
    } else if matches!(error, Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) {
        DisconnectReason::Broken
    } else if matches!(error, Error::Protocol(_) | Error::Capacity(_) | Error::Utf8(_)) {
        DisconnectReason::Protocol
    } else {
        DisconnectReason::Broken
    }
}
