//! One listener's WebSocket: what the account is told, and pings.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, interval_at, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role, WebSocketConfig};

use super::Shared;
use super::server::response;
use super::streams::Told;

/// How often a listener is pinged.
const PING: Duration = Duration::from_secs(20);

/// How long a listener may say nothing, not even a pong.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// How long a message may take to leave.
const SEND_PATIENCE: Duration = Duration::from_secs(10);

/// Largest message of a listener, bytes: it has nothing to say.
const MESSAGE_BYTES_MAX: usize = 4 << 10;

/// Answers the handshake, and lets the connection be told what its account is.
pub(super) fn upgrade(
    shared: &Arc<Shared>,
    request: &mut Request<Incoming>,
    key: &str,
    place: Arc<OwnedSemaphorePermit>,
) -> Response<Full<Bytes>> {
    let is = |name, expected: &str| {
        let value = request.headers().get(name).and_then(|value| value.to_str().ok());
        value.is_some_and(|value| value.to_ascii_lowercase().contains(expected))
    };
    let nonce = request.headers().get(header::SEC_WEBSOCKET_KEY).cloned();
    let Some(nonce) = nonce.filter(|_| {
        is(header::UPGRADE, "websocket")
            && is(header::CONNECTION, "upgrade")
            && is(header::SEC_WEBSOCKET_VERSION, "13")
    }) else {
        return response(400, &json!({ "error": "this is for WebSockets" }), None);
    };
    let Some(told) = shared.listen(key) else {
        let body = json!({ "code": -1125, "msg": "This listenKey does not exist." });
        return response(400, &body, None);
    };
    let upgrading = hyper::upgrade::on(request);
    tokio::spawn(async move {
        match upgrading.await {
            Ok(upgraded) => speak(upgraded, told).await,
            Err(error) => tracing::debug!(%error, "a listener has left"),
        }
        drop(place);
    });
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(header::UPGRADE, header::HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, header::HeaderValue::from_static("Upgrade"));
    if let Ok(accept) = header::HeaderValue::from_str(&derive_accept_key(nonce.as_bytes())) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    answer
}

async fn speak(upgraded: Upgraded, mut told: mpsc::Receiver<Told>) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let io = TokioIo::new(upgraded);
    let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    let mut pings = interval_at(Instant::now() + PING, PING);
    let mut heard = Instant::now();
    loop {
        let message = tokio::select! {
            next = told.recv() => match next {
                Some(Told::Message(text, delay)) => {
                    if !delay.is_zero() {
                        sleep(delay).await;
                    }
                    Message::text(text)
                }
                // Without a good-bye, as a connection that breaks.
                Some(Told::Drop) => return,
                None => {
                    let _ = timeout(SEND_PATIENCE, socket.close(None)).await;
                    return;
                }
            },
            _ = pings.tick() => {
                if heard.elapsed() > SILENCE_MAX {
                    return;
                }
                Message::Ping(Bytes::new())
            }
            read = socket.next() => match read {
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {
                    heard = Instant::now();
                    continue;
                }
            },
        };
        match timeout(SEND_PATIENCE, socket.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}
