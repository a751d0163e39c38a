//! A venue on this machine that goes on where it was when a client comes back, as a market does.
#![allow(dead_code, reason = "every test file uses another part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message;

/// Sends its frames once, at a pace, to whoever connected last.
pub(crate) struct Venue {
    pub(crate) url: String,
    /// Frames sent so far.
    sent: Arc<AtomicUsize>,
    total: usize,
    _runtime: Runtime,
}

impl Venue {
    /// `burst` frames every `pause`.
    pub(crate) fn start(frames: Vec<String>, burst: usize, pause: Duration) -> Self {
        Self::start_at("127.0.0.1:0", frames, burst, pause)
    }

    /// The same, where an earlier one was.
    pub(crate) fn start_at(
        address: &str,
        frames: Vec<String>,
        burst: usize,
        pause: Duration,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (sent, total) = (Arc::new(AtomicUsize::new(0)), frames.len());
        let listener = runtime.block_on(TcpListener::bind(address)).unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        let frames = Arc::new(frames);
        let counted = Arc::clone(&sent);
        runtime.spawn(async move {
            let (latest, _) = watch::channel(0usize);
            let latest = Arc::new(latest);
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                latest.send_modify(|number| *number += 1);
                let number = *latest.borrow();
                let (frames, sent) = (Arc::clone(&frames), Arc::clone(&counted));
                let latest = Arc::clone(&latest);
                tokio::spawn(async move {
                    serve(stream, &frames, &sent, (burst, pause), || *latest.borrow() == number)
                        .await;
                });
            }
        });
        Self { url, sent, total, _runtime: runtime }
    }

    /// Where it is.
    pub(crate) fn address(&self) -> &str {
        self.url.trim_start_matches("ws://")
    }

    pub(crate) fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst).min(self.total)
    }

    pub(crate) fn is_done(&self) -> bool {
        self.sent() == self.total
    }
}

async fn serve(
    stream: TcpStream,
    frames: &[String],
    sent: &AtomicUsize,
    (burst, pause): (usize, Duration),
    is_latest: impl Fn() -> bool,
) {
    let Ok(socket) = accept_async(stream).await else { return };
    let (mut sink, mut source) = socket.split();
    // What the client says, a ping or its end, has to be read to be answered.
    let reader = tokio::spawn(async move { while matches!(source.next().await, Some(Ok(_))) {} });
    while is_latest() && !reader.is_finished() {
        for _ in 0..burst {
            let next = sent.load(Ordering::SeqCst);
            let Some(frame) = frames.get(next) else { break };
            if !is_latest() || sink.send(Message::text(frame.clone())).await.is_err() {
                break;
            }
            sent.store(next + 1, Ordering::SeqCst);
        }
        tokio::time::sleep(pause).await;
    }
    reader.abort();
}
