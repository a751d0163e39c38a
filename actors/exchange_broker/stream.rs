//! What the exchange tells an account by itself: how orders stand, as soon as it changes.
//!
//! ```text
//! POST userDataStream ─▶ key ─▶ WebSocket /ws/KEY ─▶ executionReport ─▶ Orders::on_told
//!                         └─ PUT each half of its life; anew after whatever goes wrong
//! ```
//!
//! It makes things faster, and nothing relies on it: what is lost here is found when the order is asked about.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use hyper::Method;
use serde_json::Value;
use tickwright_core::domain::{Backoff, Span};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::http::Uri;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::answers::{self, ToldOrder};
use super::client::{Client, shown};
use crate::source::live::dial;

/// Keys live for an hour.
const KEEP_EVERY: Duration = Duration::from_secs(30 * 60);

/// The longest that an exchange says nothing, not even a ping: Binance pings each three minutes at least.
const SILENCE_MAX: Duration = Duration::from_secs(240);

/// Between two attempts.
const RETRY: Backoff = Backoff { first: Span::from_millis(200), max: Span::from_secs(30) };

/// Largest message that is read, bytes.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

const PATH: &str = "/api/v3/userDataStream";

/// Listens until nobody wants to hear it any more.
pub(super) async fn listen(
    client: Arc<Client>,
    url: String,
    patience: Duration,
    hear: impl Fn(ToldOrder) -> bool,
) {
    let mut failures = 0;
    let mut last = String::new();
    loop {
        let begun = Instant::now();
        match hear_once(&client, &url, patience, &hear).await {
            Ok(()) => return,
            Err(reason) => {
                if reason != last {
                    tracing::warn!(
                        reason,
                        account = client.name(),
                        "the exchange tells nothing by itself; orders are asked about"
                    );
                    last = reason;
                }
            }
        }
        if begun.elapsed() > RETRY.max {
            failures = 0;
            last.clear();
        }
        tokio::time::sleep(RETRY.delay(failures)).await;
        failures = failures.saturating_add(1);
    }
}

/// Listens to one connection. Ends well only when nobody wants to hear it any more.
async fn hear_once(
    client: &Client,
    url: &str,
    patience: Duration,
    hear: &impl Fn(ToldOrder) -> bool,
) -> Result<(), String> {
    let opened = client.keyed(Method::POST, PATH, patience).await;
    let opened = opened.map_err(|error| error.to_string())?;
    let answer: Value = serde_json::from_slice(&opened.body).unwrap_or_default();
    let key = answer["listenKey"].as_str().filter(|_| opened.status == 200);
    let key = key.ok_or_else(|| format!("it gives no key: {}", shown(&opened.body)))?;
    let address = format!("{}/ws/{key}", url.trim_end_matches('/'));
    let address: Uri = address.parse().map_err(|_| format!("{url} is no address"))?;
    let limits = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let connected = timeout(patience, dial(&address, limits, client.tls())).await;
    let connected = connected.map_err(|_| format!("connecting took longer than {patience:?}"))?;
    // Whatever it says of the address: that holds the key.
    let mut socket = connected.map_err(|error| error.to_string().replace(key, "KEY"))?;
    let mut keep = interval_at(Instant::now() + KEEP_EVERY, KEEP_EVERY);
    keep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let message = tokio::select! {
            _ = keep.tick() => {
                let path = format!("{PATH}?listenKey={key}");
                let kept = client.keyed(Method::PUT, &path, patience).await;
                if !kept.is_ok_and(|response| response.status == 200) {
                    return Err("its key is not kept".into());
                }
                continue;
            }
            message = timeout(SILENCE_MAX, socket.next()) => message,
        };
        let message = message.map_err(|_| format!("nothing for {SILENCE_MAX:?}"))?;
        match message {
            Some(Ok(Message::Text(text))) => {
                if let Some(told) = answers::told(text.as_bytes())
                    && !hear(told)
                {
                    return Ok(());
                }
            }
            Some(Ok(Message::Ping(bytes))) => {
                // Answered by the library too; this one has a deadline.
                let sent = timeout(patience, socket.send(Message::Pong(bytes))).await;
                sent.map_err(|_| "it takes no pong".to_owned())?
                    .map_err(|error| error.to_string())?;
            }
            Some(Ok(Message::Close(_))) | None => return Err("it has closed the stream".into()),
            Some(Ok(Message::Binary(_) | Message::Pong(_) | Message::Frame(_))) => {}
            Some(Err(error)) => return Err(error.to_string()),
        }
    }
}
