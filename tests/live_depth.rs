//! Books that are kept from a live feed's differences: their snapshots come from a REST address on this
//! machine, which misbehaves.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Case, PATIENCE, draw, essence};
use futures_util::{SinkExt, StreamExt};
use tickwright::run::{Input, run_until};
use tickwright::source::live::{LiveClient, LiveConfig, LiveStatus};
use tickwright_core::backtest::report::RunReport;
use tickwright_core::domain::{Symbol, Timestamp};
use tickwright_core::pipeline::live::SnapshotFailure;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message;

/// What the REST address does with one request.
#[derive(Clone, Debug)]
enum Answer {
    /// Answers with this body, once the run has so many rows.
    Body(String, u64),
    /// Answers with this status line, headers included.
    Status(&'static str),
    /// Answers with the beginning of what it announced, and goes.
    Half,
    /// Says nothing.
    Silence,
}

/// What the feed does on its one connection.
#[derive(Clone, Debug)]
enum Step {
    Text(String),
    /// Waits until the run has so many rows.
    Rows(u64),
}

/// Answers one request after the other, the last answer for ever. Returns its address, and what was asked.
async fn rest(
    answers: Vec<Answer>,
    rows: watch::Receiver<u64>,
) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&asked);
    tokio::spawn(async move {
        for number in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let answer = answers[number.min(answers.len() - 1)].clone();
            let (noted, mut rows) = (Arc::clone(&noted), rows.clone());
            tokio::spawn(async move {
                let mut request = vec![0; 4_096];
                let read = stream.read(&mut request).await.unwrap_or(0);
                let request = String::from_utf8_lossy(&request[..read]).into_owned();
                noted.lock().unwrap().push(request.lines().next().unwrap_or_default().to_owned());
                let text = match answer {
                    Answer::Body(body, after) => {
                        let _ = rows.wait_for(|&rows| rows >= after).await;
                        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
                    }
                    Answer::Status(head) => format!("HTTP/1.1 {head}\r\ncontent-length: 0\r\n\r\n"),
                    Answer::Half => {
                        "HTTP/1.1 200 OK\r\ncontent-length: 90\r\n\r\n{\"last".to_owned()
                    }
                    Answer::Silence => {
                        let _ = stream.read_to_end(&mut Vec::new()).await;
                        return;
                    }
                };
                let _ = stream.write_all(text.as_bytes()).await;
            });
        }
    });
    (url, asked)
}

/// A feed that plays `steps` on its first connection.
async fn feed(steps: Vec<Step>, mut rows: watch::Receiver<u64>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = accept_async(stream).await.unwrap();
        for step in steps {
            match step {
                Step::Text(text) => socket.send(Message::text(text)).await.unwrap(),
                Step::Rows(count) => {
                    let _ = rows.wait_for(|&rows| rows >= count).await;
                }
            }
        }
        while let Some(Ok(_)) = socket.next().await {}
    });
    url
}

fn config(url: &str, rest_url: String) -> LiveConfig {
    let mut config = LiveConfig::new(url, &["btcusdt@depth@100ms", "btcusdt@trade"]);
    config.rest_url = Some(rest_url);
    config.snapshots.backoff.first = Duration::from_millis(10);
    config.snapshots.backoff.max = Duration::from_millis(80);
    config.snapshots.interval = Duration::from_millis(5);
    config.snapshots.deadline = Duration::from_secs(2);
    config
}

const SNAPSHOT: &str = r#"{"lastUpdateId":5,"bids":[["9","2"]],"asks":[["11","3"]]}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_the_rest_address_does_it_is_asked_again_and_frames_go_on() {
    let (_rows_in, rows) = watch::channel(0);
    let body = |text: &str| Answer::Body(text.to_owned(), 0);
    let answers = vec![
        Answer::Status("429 Too Many Requests\r\nretry-after: 0"),
        Answer::Status("418 I'm a teapot"),
        Answer::Status("503 Service Unavailable"),
        body("<html>"),
        body(r#"{"code":-1121,"msg":"Invalid symbol."}"#),
        Answer::Half,
        Answer::Silence,
        body(SNAPSHOT),
    ];
    let (rest_url, asked) = rest(answers, rows.clone()).await;
    let trade = r#"{"stream":"btcusdt@trade","data":{"e":"trade","s":"BTCUSDT","t":1,"p":"1"}}"#;
    let url = feed(vec![Step::Text(trade.to_owned())], rows).await;
    let clock = || Timestamp::from_nanos(7);
    let mut client = LiveClient::start(config(&url, rest_url), clock).unwrap();
    let symbol = Symbol::new("BTCUSDT.BINANCE_SPOT").unwrap();
    let heard = tokio::time::timeout(PATIENCE, client.frames.recv()).await.unwrap().unwrap();
    assert_eq!(heard.snapshot_of, None);
    assert!(client.handle.want_snapshot(&symbol));
    let snapshot = tokio::time::timeout(PATIENCE, client.frames.recv()).await.unwrap().unwrap();
    assert_eq!(snapshot.snapshot_of, Some(symbol));
    assert_eq!((&*snapshot.bytes, snapshot.connection), (SNAPSHOT.as_bytes(), 1));

    let mut failures = Vec::new();
    while let Ok(status) = client.statuses.try_recv() {
        if let LiveStatus::SnapshotFailed { failure, retry_in, .. } = status {
            assert!(retry_in <= Duration::from_millis(80), "{failure}: {retry_in:?}");
            failures.push(failure);
        }
    }
    let throttled =
        |status, retry_after: Option<Duration>| SnapshotFailure::Throttled { status, retry_after };
    let broken = failures.remove(5);
    assert!(matches!(broken, SnapshotFailure::Unreachable { .. }), "{broken:?}");
    assert_eq!(
        failures,
        [
            throttled(429, Some(Duration::ZERO)),
            throttled(418, None),
            SnapshotFailure::Refused { status: 503 },
            SnapshotFailure::Garbage,
            SnapshotFailure::Garbage,
            SnapshotFailure::Late,
        ]
    );
    let asked = asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 8, "and not once more");
    assert_eq!(asked[0], "GET /api/v3/depth?symbol=BTCUSDT&limit=500 HTTP/1.1");
    let counts = client.handle.counts();
    assert_eq!((counts.snapshots, counts.snapshots_failed), (1, 7));
}

/// A market whose best prices change with each difference, and which trades after each.
struct Market {
    chance: u64,
    now: u64,
    update: u64,
    trade: u64,
    cents: i64,
}

fn price(cents: i64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

impl Market {
    fn new() -> Self {
        Self { chance: 7, now: 1_723_161_255_000, update: 1_000, trade: 0, cents: 6_183_700 }
    }

    /// A difference and a trade; nothing of it is told when `is_lost`.
    fn step(&mut self, is_lost: bool) -> Vec<Step> {
        self.now += 10 + draw(&mut self.chance) % 30;
        let (before, previous) = (self.cents, self.update);
        let swing = i64::try_from(draw(&mut self.chance) % 201).unwrap() - 100;
        let jump = if draw(&mut self.chance).is_multiple_of(40) { 900 } else { 0 };
        let sign = if draw(&mut self.chance).is_multiple_of(2) { 1 } else { -1 };
        // Never the price before, so that the top changes each time.
        let step = swing + sign * jump;
        self.cents += if step == 0 { 1 } else { step };
        self.update += 3;
        if is_lost {
            return Vec::new();
        }
        self.trade += 1;
        let Self { now, update, trade, .. } = *self;
        let side =
            |old: i64, new: i64| format!(r#"["{}","0"],["{}","9.1"]"#, price(old), price(new));
        let (bids, asks) = (side(before - 5, self.cents - 5), side(before + 5, self.cents + 5));
        let difference = format!(
            r#"{{"stream":"btcusdt@depth@100ms","data":{{"e":"depthUpdate","E":{now},"T":{now},"s":"BTCUSDT","U":{},"u":{update},"pu":{previous},"b":[{bids}],"a":[{asks}]}}}}"#,
            update - 1
        );
        let at = price(self.cents);
        let told = format!(
            r#"{{"stream":"btcusdt@trade","data":{{"e":"trade","E":{now},"T":{now},"s":"BTCUSDT","t":{trade},"p":"{at}","q":"0.500","X":"MARKET","m":true}}}}"#
        );
        vec![Step::Text(difference), Step::Text(told)]
    }

    fn snapshot(&self) -> String {
        let Self { now, update, .. } = *self;
        let (bid, ask) = (price(self.cents - 5), price(self.cents + 5));
        format!(
            r#"{{"lastUpdateId":{update},"E":{now},"T":{now},"bids":[["{bid}","9.1"]],"asks":[["{ask}","9.1"]]}}"#
        )
    }
}

/// A market that begins with a snapshot that is too old, and loses a difference after `before` more.
fn scenario(before: u64, after: u64) -> (Vec<Step>, Vec<Answer>, u64) {
    let mut market = Market::new();
    let too_old = market.snapshot();
    let mut steps = market.step(true);
    steps.extend((0..2).flat_map(|_| market.step(false)));
    let first = market.snapshot();
    steps.extend((0..3).flat_map(|_| market.step(false)));
    // Five trades, and then one quote from the snapshot and all differences after it.
    steps.push(Step::Rows(6));
    steps.extend((0..before).flat_map(|_| market.step(false)));
    market.step(true);
    steps.extend(market.step(false));
    let second = market.snapshot();
    let at_gap = 6 + 2 * before + 1;
    steps.push(Step::Rows(at_gap + 1));
    steps.extend((0..after).flat_map(|_| market.step(false)));
    let answers = vec![
        Answer::Body(too_old, 0),
        Answer::Body(first, 5),
        Answer::Status("500 Internal Server Error"),
        Answer::Body(second, at_gap),
    ];
    (steps, answers, at_gap + 1 + 2 * after)
}

/// Runs the whole node over the scenario, with `chaos`.
fn run(chaos: &str) -> (RunReport, usize) {
    let (steps, answers, rows_all) = scenario(400, 200);
    let directory = tempfile::tempdir().unwrap();
    let case = Case::simulated(1)
        .journal(directory.path())
        .set("stream.checkpoint_ticks", "100")
        .set("pipeline.batch_ticks", "32")
        // So that two runs can be compared.
        .set("pipeline.merge", "key")
        .set("stream.idle_ms", "60000")
        .set("telemetry.progress_ms", "20")
        .chaos(chaos);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut arguments = case.arguments();
    let settings = arguments.config.clone();
    let (ended, asked) = runtime.block_on(async {
        let (rows_in, mut rows) = watch::channel(0);
        let (rest_url, asked) = rest(answers, rows.clone()).await;
        let url = feed(steps, rows.clone()).await;
        arguments.input = Input::Live(config(&url, rest_url));
        let all_came = async move {
            // The sender lives as long as the run.
            let _ = rows.wait_for(|&rows| rows >= rows_all).await;
        };
        let shown = |sample: &tickwright::telemetry::Sample| {
            rows_in.send_replace(sample.rows);
        };
        let ended = tokio::time::timeout(PATIENCE, run_until(arguments, shown, all_came)).await;
        let asked = asked.lock().unwrap().len();
        (ended, asked)
    });
    runtime.shutdown_background();
    let ended = ended.unwrap_or_else(|_| panic!("no end within {PATIENCE:?}, asked {asked} times"));
    let report = tickwright::outcome::report(&ended.unwrap(), &settings);
    assert_eq!(report.violations(), []);
    assert_eq!(report.ticks_in, rows_all);
    (report, asked)
}

#[test]
fn differences_alone_give_quotes_that_outlive_crashes() {
    let (expected, asked) = run("");
    assert_eq!(asked, 4, "too old, sound, refused, sound");
    assert!(expected.fills > 0, "no quote, no fill");
    assert_eq!(expected.sources[0].live.unwrap().gaps, 1);
    for chaos in ["panic:ingester@350", "panic:cleaner@300,panic:factors@250"] {
        let (report, _) = run(chaos);
        assert!(report.restarts > 0, "{chaos}");
        assert_eq!(essence(&report), essence(&expected), "{chaos}");
    }
}
