//! The live client against a venue on this machine that misbehaves.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tickwright::source::live::{LiveClient, LiveConfig, LiveFrame, LiveStatus};
use tickwright_core::domain::{Backoff, Timestamp};
use tickwright_core::pipeline::live::{ConnectionPolicy, DisconnectReason};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_tungstenite::{WebSocketStream, accept_async};

/// What the venue does on one connection, step by step. After the last step it reads and waits.
#[derive(Clone, Debug)]
enum Act {
    /// Sends a text frame.
    Text(String),
    /// Sends a binary frame.
    Binary(Vec<u8>),
    /// Sends bytes beneath the WebSocket layer.
    Raw(Vec<u8>),
    /// Says good-bye as the protocol has it.
    Close,
    /// Ends the TCP connection.
    Drop,
    /// Sends a ping and waits for the pong.
    PingPong,
    /// Waits.
    Wait(Duration),
    /// Sends this frame again and again, every 20 ms, and never reads.
    Deaf(String),
    /// Takes the TCP connection and never shakes hands.
    Mute,
    /// Answers the handshake with a status line.
    Http(&'static str),
}

/// A venue that plays one script per connection, in order, the last one for ever.
struct Venue {
    url: String,
    /// A number for each connection, as it comes and as it goes.
    events: mpsc::UnboundedReceiver<Event>,
    task: JoinHandle<()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Came(usize),
    Went(usize),
    Ponged(usize),
}

impl Drop for Venue {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn venue(scripts: Vec<Vec<Act>>) -> Venue {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    venue_at(listener, scripts)
}

fn venue_at(listener: TcpListener, scripts: Vec<Vec<Act>>) -> Venue {
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let (events_in, events) = mpsc::unbounded_channel();
    let task = tokio::spawn(async move {
        for connection in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            let script = scripts[connection.min(scripts.len() - 1)].clone();
            events_in.send(Event::Came(connection)).unwrap();
            let events = events_in.clone();
            tokio::spawn(async move {
                play(stream, script, connection, &events).await;
                let _ = events.send(Event::Went(connection));
            });
        }
    });
    Venue { url, events, task }
}

async fn play(
    mut stream: TcpStream,
    script: Vec<Act>,
    connection: usize,
    events: &mpsc::UnboundedSender<Event>,
) {
    match script.first() {
        Some(Act::Mute) => {
            let mut bytes = vec![];
            let _ = stream.read_to_end(&mut bytes).await;
            return;
        }
        Some(Act::Http(status)) => {
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            let mut request = [0; 4_096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer.as_bytes()).await;
            return;
        }
        _ => {}
    }
    let Ok(mut socket) = accept_async(stream).await else { return };
    for act in script {
        if perform(&mut socket, act, connection, events).await.is_none() {
            return;
        }
    }
    while let Some(Ok(_)) = socket.next().await {}
}

/// None when the connection is over.
async fn perform(
    socket: &mut WebSocketStream<TcpStream>,
    act: Act,
    connection: usize,
    events: &mpsc::UnboundedSender<Event>,
) -> Option<()> {
    match act {
        Act::Text(text) => socket.send(Message::text(text)).await.ok()?,
        Act::Binary(bytes) => socket.send(Message::binary(bytes)).await.ok()?,
        Act::Raw(bytes) => socket.get_mut().write_all(&bytes).await.ok()?,
        Act::Close => {
            socket.close(None).await.ok()?;
            while let Some(Ok(_)) = socket.next().await {}
            return None;
        }
        Act::Drop => {
            socket.get_mut().shutdown().await.ok()?;
            return None;
        }
        Act::PingPong => {
            socket.send(Message::Ping(Bytes::from_static(b"are you there"))).await.ok()?;
            loop {
                if let Message::Pong(bytes) = socket.next().await?.ok()? {
                    assert_eq!(bytes, Bytes::from_static(b"are you there"));
                    events.send(Event::Ponged(connection)).ok()?;
                    break;
                }
            }
        }
        Act::Wait(span) => tokio::time::sleep(span).await,
        Act::Deaf(text) => loop {
            socket.send(Message::text(text.clone())).await.ok()?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        },
        Act::Mute | Act::Http(_) => unreachable!("only as the first act"),
    }
    Some(())
}

/// Deadlines that a busy machine keeps.
fn policy() -> ConnectionPolicy {
    ConnectionPolicy {
        backoff: Backoff { first: Duration::from_millis(20), max: Duration::from_millis(400) },
        connect_deadline: Duration::from_secs(5),
        silence_deadline: Duration::from_secs(8),
        ping_interval: Duration::from_secs(2),
        pong_deadline: Duration::from_secs(5),
        stable_after: Duration::ZERO,
    }
}

/// Deadlines for tests that wait until they have passed.
fn hasty() -> ConnectionPolicy {
    ConnectionPolicy {
        connect_deadline: Duration::from_millis(500),
        silence_deadline: Duration::from_millis(600),
        ping_interval: Duration::from_millis(200),
        pong_deadline: Duration::from_millis(300),
        ..policy()
    }
}

fn config(url: &str) -> LiveConfig {
    LiveConfig { policy: policy(), ..LiveConfig::new(url, &["btcusdt@trade"]) }
}

fn hasty_config(url: &str) -> LiveConfig {
    LiveConfig { policy: hasty(), ..config(url) }
}

fn start(config: LiveConfig) -> LiveClient {
    // A clock that only counts: receive times then tell the order of reading.
    let clock = Arc::new(AtomicU64::new(0));
    let now = move || Timestamp::from_nanos(clock.fetch_add(1, Ordering::Relaxed));
    LiveClient::start(config, now).unwrap()
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(20);
    match tokio::time::timeout(limit, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {limit:?}"),
    }
}

async fn frames(client: &mut LiveClient, count: usize) -> Vec<LiveFrame> {
    let mut frames = vec![];
    for place in 0..count {
        let frame = within(&format!("frame {place}"), client.frames.recv()).await;
        frames.push(frame.expect("the client runs"));
    }
    frames
}

async fn texts(client: &mut LiveClient, count: usize) -> Vec<String> {
    let text = |frame: LiveFrame| String::from_utf8(frame.bytes.into()).unwrap();
    frames(client, count).await.into_iter().map(text).collect()
}

/// The first status that `wanted` takes; others before it are passed over.
async fn status<T>(client: &mut LiveClient, mut wanted: impl FnMut(&LiveStatus) -> Option<T>) -> T {
    within("status", async {
        loop {
            let status = client.statuses.recv().await.expect("the client runs");
            if let Some(value) = wanted(&status) {
                return value;
            }
        }
    })
    .await
}

async fn disconnected(client: &mut LiveClient) -> (DisconnectReason, Duration) {
    status(client, |status| {
        let LiveStatus::Disconnected { reason, retry_in, .. } = status else { return None };
        Some((*reason, *retry_in))
    })
    .await
}

async fn nothing_more(client: &mut LiveClient) {
    let more = tokio::time::timeout(Duration::from_millis(50), client.frames.recv()).await;
    assert!(more.is_err(), "{more:?}");
}

fn trade(id: u64) -> String {
    format!(
        r#"{{"stream":"btcusdt@trade","data":{{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":{id},"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}}}}"#
    )
}

fn trades(ids: impl IntoIterator<Item = u64>) -> Vec<Act> {
    ids.into_iter().map(|id| Act::Text(trade(id))).collect()
}

fn depth(first: u64, last: u64) -> String {
    format!(
        r#"{{"stream":"btcusdt@depth@100ms","data":{{"e":"depthUpdate","E":1723161255208,"s":"BTCUSDT","U":{first},"u":{last},"b":[["61737.63000000","0.00000000"]],"a":[["61837.64000000","1.54698000"]]}}}}"#
    )
}

fn book_ticker(id: u64) -> String {
    format!(
        r#"{{"stream":"btcusdt@bookTicker","data":{{"u":{id},"s":"BTCUSDT","b":"61837.63000000","B":"3.78826000","a":"61837.64000000","A":"1.54698000"}}}}"#
    )
}

#[tokio::test]
async fn frames_arrive_in_order_with_their_receive_time_and_answers_do_not() {
    let sent = [trade(1), depth(5, 9), book_ticker(9), trade(2), depth(10, 10)];
    let mut script = vec![Act::Text(r#"{"result":null,"id":1}"#.to_owned())];
    script.extend(sent.iter().cloned().map(Act::Text));
    let venue = venue(vec![script]).await;
    let mut client = start(config(&venue.url));
    let received = frames(&mut client, sent.len()).await;
    for (at, (frame, text)) in received.iter().zip(&sent).enumerate() {
        assert_eq!(&*frame.bytes, text.as_bytes());
        // The answer took the clock's first reading.
        assert_eq!(frame.receive_time.as_nanos(), at as u64 + 1);
        assert_eq!(frame.connection, 1);
    }
    nothing_more(&mut client).await;
    let counts = client.handle.counts();
    assert_eq!((counts.frames.market, counts.frames.control, counts.frames.gaps), (5, 1, 0));
    assert_eq!(counts.bytes, 22 + sent.iter().map(|text| text.len() as u64).sum::<u64>());
}

#[tokio::test]
async fn a_dropped_connection_is_made_again_and_the_gap_is_told() {
    let mut first = trades(1..=3);
    first.push(Act::Drop);
    let venue = venue(vec![first, trades(7..=9)]).await;
    let mut client = start(config(&venue.url));
    let expected: Vec<String> = [1, 2, 3, 7, 8, 9].map(trade).into();
    assert_eq!(texts(&mut client, 6).await, expected);
    let (reason, retry_in) = disconnected(&mut client).await;
    assert_eq!(reason, DisconnectReason::Broken);
    assert!(retry_in <= policy().backoff.first, "{retry_in:?}");
    let gap = status(&mut client, |status| {
        let LiveStatus::Gap(gap) = status else { return None };
        Some(gap.clone())
    })
    .await;
    assert_eq!((gap.last, gap.next, gap.missing), (3, 7, 3));
    assert!(gap.is_across_connections);
    assert_eq!(client.handle.counts().connections, 2);
}

#[tokio::test]
async fn a_frame_cut_in_the_middle_is_not_delivered_and_nothing_else_is_lost() {
    let whole = trade(2);
    // A text frame of up to 65,535 bytes: flags, length in three bytes, payload.
    let length = u16::try_from(whole.len()).unwrap().to_be_bytes();
    let mut bytes = vec![0x81, 126, length[0], length[1]];
    bytes.extend_from_slice(whole.as_bytes());
    for cut in [1, 3, 4, 60, bytes.len() - 1] {
        let mut first = trades([1]);
        first.extend([Act::Raw(bytes[..cut].to_vec()), Act::Drop]);
        let venue = venue(vec![first, trades([2, 3])]).await;
        let mut client = start(config(&venue.url));
        assert_eq!(texts(&mut client, 3).await, [1, 2, 3].map(trade), "cut after {cut} bytes");
        nothing_more(&mut client).await;
        assert_eq!(client.handle.counts().frames.garbage, 0);
    }
}

#[tokio::test]
async fn garbage_is_counted_and_shown_and_does_not_end_the_connection() {
    let half = trade(2)[..70].to_owned();
    let mut script = trades([1]);
    script.extend([
        Act::Text("hello".to_owned()),
        Act::Text(half),
        Act::Text("{}".to_owned()),
        Act::Binary(vec![0, 159, 146, 150, 255]),
        Act::Binary(trade(9).into_bytes()),
        Act::Text(String::new()),
    ]);
    script.extend(trades([2]));
    let venue = venue(vec![script]).await;
    let mut client = start(config(&venue.url));
    assert_eq!(texts(&mut client, 2).await, [trade(1), trade(2)]);
    let mut excerpts = vec![];
    for _ in 0..6 {
        let garbage = |status: &LiveStatus| {
            let LiveStatus::Garbage { excerpt } = status else { return None };
            Some(excerpt.clone())
        };
        excerpts.push(status(&mut client, garbage).await);
    }
    assert_eq!(excerpts[0], "hello");
    assert_eq!(excerpts[3], r"\x00\x9f\x92\x96\xff");
    let counts = client.handle.counts();
    assert_eq!((counts.frames.garbage, counts.frames.market, counts.disconnects), (6, 2, 0));
}

#[tokio::test]
async fn a_silent_venue_is_left_though_it_answers_pings() {
    let venue = venue(vec![trades([1]), trades([2])]).await;
    let mut client = start(hasty_config(&venue.url));
    let begun = tokio::time::Instant::now();
    assert_eq!(texts(&mut client, 2).await, [trade(1), trade(2)]);
    let silence = begun.elapsed();
    assert!(silence >= hasty().silence_deadline, "{silence:?}");
    assert!(silence < hasty().silence_deadline * 4, "{silence:?}");
    assert_eq!(disconnected(&mut client).await.0, DisconnectReason::Silent);
    assert!(client.handle.counts().pings >= 2);
}

#[tokio::test]
async fn nothing_but_garbage_is_silence() {
    let mut first = vec![];
    for _ in 0..100 {
        first.extend([Act::Text("noise".to_owned()), Act::Wait(Duration::from_millis(20))]);
    }
    let venue = venue(vec![first, trades([1])]).await;
    // This venue does not read while it makes noise, and that is not the point here.
    let policy = ConnectionPolicy { pong_deadline: Duration::from_secs(5), ..hasty() };
    let mut client = start(LiveConfig { policy, ..config(&venue.url) });
    assert_eq!(texts(&mut client, 1).await, [trade(1)]);
    assert_eq!(disconnected(&mut client).await.0, DisconnectReason::Silent);
}

#[tokio::test]
async fn a_venue_that_does_not_answer_pings_is_left_though_it_sends() {
    let venue = venue(vec![vec![Act::Deaf(book_ticker(1))], trades([1])]).await;
    let mut client = start(hasty_config(&venue.url));
    within("the second connection", async {
        while frames(&mut client, 1).await[0].connection == 1 {}
    })
    .await;
    assert_eq!(disconnected(&mut client).await.0, DisconnectReason::PongMissing);
}

#[tokio::test]
async fn the_venues_pings_are_answered() {
    let mut script = trades([1]);
    script.push(Act::PingPong);
    script.extend(trades([2]));
    let mut venue = venue(vec![script]).await;
    let mut client = start(config(&venue.url));
    assert_eq!(texts(&mut client, 2).await, [trade(1), trade(2)]);
    assert_eq!(within("coming", venue.events.recv()).await, Some(Event::Came(0)));
    assert_eq!(within("pong", venue.events.recv()).await, Some(Event::Ponged(0)));
}

#[tokio::test]
async fn a_polite_good_bye_is_followed_by_a_new_connection() {
    let mut first = trades([1]);
    first.push(Act::Close);
    let venue = venue(vec![first, trades([2])]).await;
    let mut client = start(config(&venue.url));
    assert_eq!(texts(&mut client, 2).await, [trade(1), trade(2)]);
    assert_eq!(disconnected(&mut client).await.0, DisconnectReason::Closed);
    assert_eq!(client.handle.counts().frames.gaps, 0);
}

#[tokio::test]
async fn frames_that_break_the_protocol_or_the_limit_end_the_connection_only() {
    let not_utf8 = Act::Raw(vec![0x81, 2, 0xff, 0xfe]);
    let reserved_bits = Act::Raw(vec![0xf1, 1, b'x']);
    let too_large = Act::Text("x".repeat(5_000));
    // A header that claims 2^62 bytes: nothing may be set aside for it.
    let huge = Act::Raw(vec![0x81, 127, 0x40, 0, 0, 0, 0, 0, 0, 0]);
    for breach in [not_utf8, reserved_bits, too_large, huge] {
        let mut first = trades([1]);
        first.push(breach.clone());
        let venue = venue(vec![first, trades([2])]).await;
        let mut client = start(LiveConfig { frame_bytes_max: 4_096, ..config(&venue.url) });
        assert_eq!(texts(&mut client, 2).await, [trade(1), trade(2)], "{breach:?}");
        assert_eq!(disconnected(&mut client).await.0, DisconnectReason::Protocol, "{breach:?}");
    }
}

#[tokio::test]
async fn a_venue_that_never_shakes_hands_is_tried_again() {
    let venue = venue(vec![vec![Act::Mute], trades([1])]).await;
    let mut client = start(hasty_config(&venue.url));
    assert_eq!(texts(&mut client, 1).await, [trade(1)]);
    assert_eq!(disconnected(&mut client).await.0, DisconnectReason::ConnectTimeout);
}

#[tokio::test]
async fn a_venue_that_throttles_is_left_alone_for_the_longest_delay() {
    let throttled = vec![Act::Http("429 Too Many Requests")];
    let broken = vec![Act::Http("503 Service Unavailable")];
    let venue = venue(vec![throttled, broken, trades([1])]).await;
    let mut client = start(config(&venue.url));
    assert_eq!(texts(&mut client, 1).await, [trade(1)]);
    let (reason, retry_in) = disconnected(&mut client).await;
    assert_eq!(reason, DisconnectReason::Throttled);
    assert!(retry_in >= policy().backoff.max / 3, "{retry_in:?}");
    assert_eq!(disconnected(&mut client).await.0, DisconnectReason::Unreachable);
}

#[tokio::test]
async fn a_venue_that_is_not_there_yet_is_found_once_it_is() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut client = start(config(&format!("ws://{address}")));
    assert_eq!(disconnected(&mut client).await.0, DisconnectReason::Unreachable);
    let listener = TcpListener::bind(address).await.unwrap();
    let _venue = venue_at(listener, vec![trades([1])]);
    assert_eq!(texts(&mut client, 1).await, [trade(1)]);
}

#[tokio::test]
async fn a_slow_consumer_slows_the_venue_and_loses_nothing() {
    let count = 20_000;
    let venue = venue(vec![trades(1..=count)]).await;
    let policy = ConnectionPolicy {
        silence_deadline: Duration::from_millis(1_500),
        ping_interval: Duration::from_millis(500),
        pong_deadline: Duration::from_millis(1_000),
        ..policy()
    };
    let mut client = start(LiveConfig { policy, queue_frames_max: 8, ..config(&venue.url) });
    // Longer than silence and pong deadlines: time in which we do not read is not the venue's fault.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let read_before = client.handle.counts().frames.market;
    assert!(read_before <= 9, "{read_before} frames read for a queue of 8");
    for id in 1..=count {
        let frame = within("frame", client.frames.recv()).await.unwrap();
        assert_eq!(&*frame.bytes, trade(id).as_bytes());
    }
    let counts = client.handle.counts();
    assert_eq!((counts.disconnects, counts.frames.gaps), (0, 0));
    assert!(counts.stalls >= 1);
}

#[tokio::test]
async fn nobody_reading_statuses_bounds_them_and_stops_nothing() {
    let mut script = vec![Act::Text("noise".to_owned()); 2_000];
    script.extend(trades([1]));
    let venue = venue(vec![script]).await;
    let mut client = start(config(&venue.url));
    assert_eq!(texts(&mut client, 1).await, [trade(1)]);
    let counts = client.handle.counts();
    assert_eq!(counts.frames.garbage, 2_000);
    // One more was told: that the connection stands.
    assert_eq!(counts.statuses_dropped, 2_001 - 256);
}

#[tokio::test]
async fn dropping_the_client_or_its_frames_ends_the_connection() {
    let mut venue = venue(vec![trades([1])]).await;
    for (connection, drops_all) in [(0, true), (1, false)] {
        let mut client = start(config(&venue.url));
        assert_eq!(texts(&mut client, 1).await, [trade(1)]);
        assert_eq!(within("coming", venue.events.recv()).await, Some(Event::Came(connection)));
        let LiveClient { frames, statuses: _statuses, handle } = client;
        let kept = if drops_all { None } else { Some(handle) };
        drop(frames);
        assert_eq!(within("going", venue.events.recv()).await, Some(Event::Went(connection)));
        if let Some(handle) = kept {
            within("the end", async {
                while !handle.finished() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await;
        }
    }
}

/// Frames as a venue sent them, without the time at which they were recorded; none when the data
/// are not there.
fn recorded(name: &str, count: usize) -> Option<Vec<String>> {
    use std::io::{BufRead, BufReader};

    let root = std::env::var_os("TICKWRIGHT_DATA").map_or_else(
        || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
        std::path::PathBuf::from,
    );
    let path = root.join("native/binance_ws").join(name);
    let Ok(file) = std::fs::File::open(&path) else {
        eprintln!("skipped: no {}; TICKWRIGHT_DATA names the folder of data", path.display());
        return None;
    };
    let lines = BufReader::new(flate2::read::GzDecoder::new(file)).lines();
    let frame = |line: std::io::Result<String>| {
        let line = line.unwrap();
        line.split_once(' ').expect("a time, then a frame").1.to_owned()
    };
    Some(lines.take(count).map(frame).collect())
}

#[tokio::test]
async fn recorded_frames_survive_a_venue_that_keeps_failing() {
    for name in [
        "spot_btcusdt_20240808.ndjson.gz",
        "usdm_btcusdt_20240808_first20000.ndjson.gz",
        "coinm_ethusd_perp_20240808_first8000.ndjson.gz",
    ] {
        let Some(sent) = recorded(name, 6_000) else { return };
        // Each connection brings 500 frames and some garbage, and then ends in its own bad way.
        let scripts = sent.chunks(500).enumerate().map(|(connection, frames)| {
            let mut script: Vec<Act> = frames.iter().cloned().map(Act::Text).collect();
            let half = frames[0][..frames[0].len() / 2].to_owned();
            script.insert(250, Act::Text(half));
            script.insert(100, Act::Binary(vec![255; 300]));
            match connection % 3 {
                0 => script.push(Act::Drop),
                1 => script.push(Act::Close),
                _ => script.extend([Act::Raw(vec![0x81, 126, 1]), Act::Drop]),
            }
            script
        });
        let mut scripts: Vec<Vec<Act>> = scripts.collect();
        scripts.push(vec![]);
        let connections = scripts.len() as u64 - 1;
        let venue = venue(scripts).await;
        let mut client = start(config(&venue.url));
        let received = texts(&mut client, sent.len()).await;
        assert!(received == sent, "{name}: not what was sent");
        nothing_more(&mut client).await;
        let counts = client.handle.counts();
        assert_eq!(counts.frames.market, sent.len() as u64, "{name}");
        assert_eq!(counts.frames.garbage, 2 * connections, "{name}");
        assert_eq!((counts.frames.gaps, counts.frames.repeated), (0, 0), "{name}");
        assert!(counts.disconnects >= connections, "{name}");
    }
}
