//! Encrypted feeds: a venue on this machine with a certificate made here, and who is believed.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "exchanges/encrypted.rs"]
mod encrypted;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use encrypted::Authority;
use futures_util::{SinkExt, StreamExt};
use tickwright::source::live::{LiveClient, LiveConfig, LiveStatus};
use tickwright_core::domain::{Symbol, Timestamp};
use tickwright_core::pipeline::live::DisconnectReason;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message;

/// Nothing here may take longer. Generous: the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(20);

const TRADE: &str =
    r#"{"stream":"btcusdt@trade","data":{"e":"trade","s":"BTCUSDT","t":1,"p":"1"}}"#;

const SNAPSHOT: &str = r#"{"lastUpdateId":5,"bids":[["9","2"]],"asks":[["11","3"]]}"#;

/// A venue that shows a certificate for `name`, which nobody but the file beside it vouches for.
struct Venue {
    /// Where, without the scheme.
    address: String,
    /// Connections on which the client took the certificate.
    believed: Arc<AtomicU64>,
    ca_file: PathBuf,
    /// Keeps the file.
    _authority: Authority,
}

/// A venue that plays `talk` on each connection once it is encrypted.
async fn venue<F>(name: &str, talk: impl Fn(Encrypted) -> F + Send + 'static) -> Venue
where
    F: Future<Output = ()> + Send + 'static,
{
    let authority = Authority::of(name);
    let (acceptor, ca_file) = (authority.acceptor.clone(), authority.ca_file.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let believed = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&believed);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // One that does not believe us says so in the handshake.
            if let Ok(stream) = acceptor.accept(stream).await {
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(talk(stream));
            }
        }
    });
    Venue { address, believed, ca_file, _authority: authority }
}

type Encrypted = tokio_rustls::server::TlsStream<tokio::net::TcpStream>;

/// Sends one frame, and waits until the client goes.
async fn trade(stream: Encrypted) {
    let mut socket = accept_async(stream).await.unwrap();
    socket.send(Message::text(TRADE)).await.unwrap();
    while let Some(Ok(_)) = socket.next().await {}
}

/// Answers one request with a snapshot.
async fn answer(mut stream: Encrypted) {
    let mut request = vec![0; 4_096];
    let _ = stream.read(&mut request).await.unwrap();
    let length = SNAPSHOT.len();
    let text = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{SNAPSHOT}");
    stream.write_all(text.as_bytes()).await.unwrap();
    let _ = stream.shutdown().await;
}

fn config(venue: &Venue) -> LiveConfig {
    let url = format!("wss://{}", venue.address);
    let mut config = LiveConfig::new(&url, &["btcusdt@trade"]);
    config.policy.backoff.first = Duration::from_millis(20);
    config
}

fn start(config: LiveConfig) -> LiveClient {
    LiveClient::start(config, || Timestamp::from_nanos(7)).unwrap()
}

async fn frame(client: &mut LiveClient) -> Box<[u8]> {
    let frame = tokio::time::timeout(PATIENCE, client.frames.recv()).await;
    frame.expect("a frame comes").expect("the client runs").bytes
}

/// Why the first attempt failed, as it is told.
async fn refusal(client: &mut LiveClient) -> String {
    let status = tokio::time::timeout(PATIENCE, client.statuses.recv()).await;
    let status = status.unwrap().unwrap();
    let LiveStatus::Disconnected { reason: DisconnectReason::Unreachable, detail, .. } = status
    else {
        panic!("{status:?}");
    };
    detail
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encrypted_feed_is_heard_from_a_venue_that_is_believed() {
    let venue = venue("127.0.0.1", trade).await;
    let ca_file = Some(venue.ca_file.clone());
    let mut client = start(LiveConfig { tls_ca_file: ca_file, ..config(&venue) });
    assert_eq!(&*frame(&mut client).await, TRADE.as_bytes());
    assert_eq!(venue.believed.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_venue_that_nobody_vouches_for_is_told_nothing() {
    let venue = venue("127.0.0.1", trade).await;
    let mut client = start(config(&venue));
    let detail = refusal(&mut client).await;
    assert!(detail.contains("UnknownIssuer"), "{detail}");
    assert_eq!((venue.believed.load(Ordering::SeqCst), client.handle.counts().connections), (0, 0));
    assert!(client.frames.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_venue_with_the_certificate_of_another_is_not_believed() {
    let venue = venue("stream.example.org", trade).await;
    let ca_file = Some(venue.ca_file.clone());
    let mut client = start(LiveConfig { tls_ca_file: ca_file, ..config(&venue) });
    let detail = refusal(&mut client).await;
    assert!(detail.contains("not valid for name"), "{detail}");
    assert_eq!(venue.believed.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_are_fetched_over_https_from_whom_the_feed_believes() {
    let rest = venue("127.0.0.1", answer).await;
    let feed = venue("127.0.0.1", trade).await;
    let both = rest.ca_file.with_file_name("both.pem");
    let read = |venue: &Venue| std::fs::read_to_string(&venue.ca_file).unwrap();
    std::fs::write(&both, read(&rest) + &read(&feed)).unwrap();
    let rest_url = Some(format!("https://{}", rest.address));
    let config = LiveConfig { rest_url, tls_ca_file: Some(both), ..config(&feed) };
    let mut client = start(config);
    assert_eq!(&*frame(&mut client).await, TRADE.as_bytes());
    let symbol = Symbol::new("BTCUSDT.BINANCE_SPOT").unwrap();
    assert!(client.handle.want_snapshot(&symbol));
    assert_eq!(&*frame(&mut client).await, SNAPSHOT.as_bytes());
    assert_eq!(rest.believed.load(Ordering::SeqCst), 1);
}
