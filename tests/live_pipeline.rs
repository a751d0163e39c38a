//! The whole node on a live feed: a venue on this machine sends frames, and misbehaves.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;
use std::time::Duration;

use common::{Case, PATIENCE, Scratch, copy_directory, essence, frames};
use futures_util::{SinkExt, StreamExt};
use tickwright::run::{Input, Outcome, RunError, run_until};
use tickwright::source::live::LiveConfig;
use tickwright_core::backtest::report::RunReport;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_tungstenite::accept_async;
use tokio_tungstenite::tungstenite::Message;

/// What the venue does on one connection.
#[derive(Clone, Debug)]
enum Act {
    Text(String),
    Binary(Vec<u8>),
    /// Half a frame, beneath the WebSocket layer.
    Half,
    /// Ends the TCP connection.
    Drop,
}

/// A venue that plays one script per connection; after the last it waits.
struct Venue {
    url: String,
    /// Acts done so far.
    done: watch::Receiver<usize>,
    task: JoinHandle<()>,
}

impl Drop for Venue {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn venue_at(listener: TcpListener, scripts: Vec<Vec<Act>>) -> Venue {
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let (done_in, done) = watch::channel(0);
    let task = tokio::spawn(async move {
        for script in scripts {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut socket) = accept_async(stream).await else { continue };
            let mut is_standing = true;
            for act in script {
                let sent = match act {
                    Act::Text(text) => socket.send(Message::text(text)).await.is_ok(),
                    Act::Binary(bytes) => socket.send(Message::binary(bytes)).await.is_ok(),
                    Act::Half => socket.get_mut().write_all(&[0x81, 126, 1]).await.is_ok(),
                    Act::Drop => {
                        is_standing = false;
                        socket.get_mut().shutdown().await.is_ok()
                    }
                };
                assert!(sent, "the client has gone");
                done_in.send_modify(|done| *done += 1);
            }
            // The client leaves a silent venue, and an idle one when its run is over.
            while is_standing && matches!(socket.next().await, Some(Ok(_))) {}
        }
    });
    Venue { url, done, task }
}

fn texts(frames: &[String]) -> Vec<Act> {
    frames.iter().cloned().map(Act::Text).collect()
}

fn case(directory: &Path) -> Case {
    // Few rows, many checkpoints, and no boundary row by the clock of a busy machine. By key, as the
    // same answer is asked for in every run.
    Case::simulated(1)
        .set("pipeline.merge", "key")
        .journal(directory)
        .set("stream.checkpoint_ticks", "500")
        .set("pipeline.batch_ticks", "64")
        .set("stream.idle_ms", "60000")
}

fn live_config(url: &str) -> LiveConfig {
    let mut config = LiveConfig::new(url, &["btcusdt@trade", "btcusdt@bookTicker"]);
    config.policy.backoff.first = Duration::from_millis(20);
    config.policy.backoff.max = Duration::from_millis(100);
    config.policy.silence_deadline = Duration::from_millis(2_000);
    config
}

/// Runs `case` on a venue that plays `scripts`, until `acts` are done and all frames have come in.
fn listen(case: &Case, scripts: Vec<Vec<Act>>, frames: u64) -> Result<RunReport, RunError> {
    listen_at("127.0.0.1:0", case, scripts, frames)
}

/// As [`listen`], to a venue at `address`.
fn listen_at(
    address: &str,
    case: &Case,
    scripts: Vec<Vec<Act>>,
    frames: u64,
) -> Result<RunReport, RunError> {
    let outcome = outcome_at(address, case, scripts, (frames, Duration::ZERO))?;
    Ok(tickwright::outcome::report(&outcome, &case.arguments().config))
}

/// What a run came to that ends when so many frames have come in, and then nothing for so long.
fn outcome_at(
    address: &str,
    case: &Case,
    scripts: Vec<Vec<Act>>,
    (frames, silence): (u64, Duration),
) -> Result<Outcome, RunError> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut arguments = case.arguments();
    let ended = runtime.block_on(async {
        let venue = venue_at(TcpListener::bind(address).await.unwrap(), scripts);
        let mut live = live_config(&venue.url);
        live.policy.silence_deadline += silence;
        arguments.input = Input::Live(live);
        let (rows_in, mut rows) = watch::channel(0);
        let all_came = async move {
            // The sender lives as long as the run.
            let _ = rows.wait_for(|&rows| rows >= frames).await;
            tokio::time::sleep(silence).await;
        };
        let run = run_until(
            arguments,
            |sample| {
                rows_in.send_replace(sample.rows);
            },
            all_came,
        );
        tokio::time::timeout(PATIENCE, run).await
    });
    runtime.shutdown_background();
    let Ok(ended) = ended else { panic!("no end within {PATIENCE:?}: {case:?}") };
    ended
}

/// What must hold for every run.
fn check(report: &RunReport) {
    assert_eq!(report.violations(), []);
    assert_eq!((report.lost_ticks, report.duplicate_orders), (0, 0));
    assert_eq!(report.ticks_in, report.ticks_clean + report.rejected_total());
    assert!(report.fills > 0, "an equal digest over no fills proves nothing");
}

/// The frames on one connection that does not misbehave.
fn undisturbed(frames: &[String]) -> RunReport {
    let directory = tempfile::tempdir().unwrap();
    let case = case(directory.path()).set("telemetry.progress_ms", "50");
    let report = listen(&case, vec![texts(frames)], frames.len() as u64).unwrap();
    check(&report);
    assert_eq!(report.ticks_in, frames.len() as u64);
    report
}

#[test]
fn every_frame_becomes_a_row_whatever_the_venue_does() {
    let sent = frames(6_000);
    let expected = undisturbed(&sent);
    let live = expected.sources[0].live.unwrap();
    assert_eq!((live.connections, live.garbage, live.repeated), (1, 0, 0));

    // Each connection brings its part and some garbage, and then ends in its own bad way.
    let mut scripts: Vec<Vec<Act>> = sent.chunks(1_000).map(texts).collect();
    for (number, script) in scripts.iter_mut().enumerate() {
        script.insert(500, Act::Binary(vec![255; 300]));
        script.insert(100, Act::Text(sent[0][..sent[0].len() / 2].to_owned()));
        match number {
            0 | 3 => script.push(Act::Drop),
            1 | 4 => script.extend([Act::Half, Act::Drop]),
            // Silence.
            _ => {}
        }
    }
    let connections = scripts.len() as u64;
    let directory = tempfile::tempdir().unwrap();
    let case = case(directory.path()).set("telemetry.progress_ms", "50");
    let report = listen(&case, scripts, sent.len() as u64).unwrap();
    check(&report);
    assert_eq!(essence(&report), essence(&expected));
    let live = report.sources[0].live.unwrap();
    assert_eq!((live.connections, live.garbage), (connections, 2 * connections));
    assert_eq!(live.missing, expected.sources[0].live.unwrap().missing);
}

/// Windows close in a silence, and event time goes on as fast as a clock and no faster.
#[test]
fn event_time_goes_on_with_the_clock_while_nothing_comes() {
    const STEP_MS: u64 = 200;
    let (sent, silence) = (frames(300), Duration::from_secs(4));
    // Boundary rows, with `stream.idle_ms` as it is unless it is set, and how long the run took.
    let boundaries = |idle_ms: Option<&str>, silence| {
        let directory = tempfile::tempdir().unwrap();
        let mut case = Case::simulated(1)
            .journal(directory.path())
            .set("telemetry.progress_ms", "50")
            .set("pipeline.window_step_ms", &STEP_MS.to_string());
        if let Some(idle_ms) = idle_ms {
            case = case.set("stream.idle_ms", idle_ms);
        }
        let (scripts, wanted) = (vec![texts(&sent)], (sent.len() as u64, silence));
        let outcome = outcome_at("127.0.0.1:0", &case, scripts, wanted).unwrap();
        let counters = outcome.report.ingesters[0].counts.counters;
        assert_eq!(counters.rows, sent.len() as u64);
        (counters.boundaries, outcome.duration)
    };
    let (of_rows, _) = boundaries(Some("60000"), Duration::ZERO);
    let (with_silence, duration) = boundaries(None, silence);
    let steps = |time: Duration| u64::try_from(time.as_millis()).unwrap() / STEP_MS;
    let (added, longest) = (with_silence - of_rows, steps(duration) + 1);
    assert!(added >= steps(silence) / 2, "windows stay open: {added} steps");
    assert!(added <= longest, "{added} steps in {duration:?}");
}

#[test]
fn panics_of_any_actor_lose_and_repeat_nothing() {
    let sent = frames(6_000);
    let expected = undisturbed(&sent);
    for (chaos, enabled) in [
        ("panic:ingester@700", "true"),
        ("panic:ingester@700", "false"),
        ("panic:cleaner@900,panic:factors@1100", "true"),
        ("panic:ingester@1300,panic:strategy@40,panic:risk@30,panic:router@9", "true"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let case = case(directory.path())
            .set("telemetry.progress_ms", "50")
            .set("journal.enabled", enabled)
            .chaos(chaos);
        let report = listen(&case, vec![texts(&sent)], sent.len() as u64).unwrap();
        check(&report);
        assert!(report.restarts > 0, "{chaos}");
        assert_eq!(essence(&report), essence(&expected), "{chaos} {enabled}");
    }
}

#[test]
fn a_full_journal_stops_the_run_and_says_so() {
    let sent = frames(20_000);
    let directory = tempfile::tempdir().unwrap();
    let case = case(directory.path())
        .set("stream.checkpoint_ticks", "65536")
        .set("journal.segment_bytes", "1048576")
        .set("journal.size_max_bytes", "1048576");
    let error = listen(&case, vec![texts(&sent)], sent.len() as u64).unwrap_err().to_string();
    assert!(error.contains("raise journal.size_max_bytes"), "{error}");
}

/// Runs `case` as a process on a venue that sends `frames`, and kills it when `sent` are sent.
/// Returns the venue's address.
fn begin_and_kill(scratch: &Scratch, case: &Case, frames: &[String], sent: usize) -> String {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let address = runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut venue = venue_at(listener, vec![texts(frames)]);
        let streams = "btcusdt@trade,btcusdt@bookTicker";
        let mut command = scratch.command(&["run", "--live", &venue.url, "--streams", streams]);
        for (key, value) in &case.overrides {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        let mut process = scratch.start(command);
        let done = tokio::time::timeout(PATIENCE, venue.done.wait_for(|&done| done >= sent));
        assert!(done.await.is_ok(), "{:?}", process.said());
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(process.ends_within(Duration::ZERO).is_none(), "{:?}", process.said());
        process.kill();
        address
    });
    runtime.shutdown_timeout(Duration::from_secs(5));
    address
}

#[test]
fn what_was_journaled_before_kill_9_is_there_once_and_the_run_goes_on() {
    let sent = frames(5_000);
    let expected = undisturbed(&sent);
    for kill_after in [300, 1_500, 2_900] {
        let scratch = Scratch::new();
        let data = scratch.path("data");
        let case = case(&data).set("telemetry.progress_ms", "50");
        let address = begin_and_kill(&scratch, &case, &sent[..3_000], kill_after);

        // What is there, told by a run that hears nothing more.
        let other = scratch.path("copy");
        copy_directory(&data, &other);
        let ended = listen_at(&address, &case.clone().journal(&other), vec![], 0).unwrap();
        let journaled = usize::try_from(ended.ticks_in).unwrap();
        assert!(ended.resumed && journaled <= 3_000, "{journaled}");
        assert_eq!(ended.lost_ticks, 0);
        if ended.fills > 0 {
            assert_eq!(essence(&ended), essence(&undisturbed(&sent[..journaled])));
        }

        // The venue goes on where the journal ends.
        let rest = vec![texts(&sent[journaled..])];
        let report = listen_at(&address, &case, rest, sent.len() as u64).unwrap();
        check(&report);
        assert!(report.resumed);
        assert_eq!(essence(&report), essence(&expected), "{journaled} were journaled");
    }
}

/// Presses Ctrl-C.
fn interrupt(process: &common::Process) {
    let status =
        std::process::Command::new("kill").args(["-INT", &process.child.id().to_string()]).status();
    assert!(status.unwrap().success());
}

#[test]
fn ctrl_c_ends_a_live_run_with_its_report() {
    let sent = frames(2_000);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let ended = runtime.block_on(async {
        let scratch = Scratch::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut venue = venue_at(listener, vec![texts(&sent)]);
        let process = scratch.start(scratch.command(&["run", "--live", &venue.url]));
        let done = tokio::time::timeout(PATIENCE, venue.done.wait_for(|&done| done >= sent.len()));
        assert!(done.await.is_ok(), "{:?}", process.said());
        interrupt(&process);
        let ended = common::finish(process);
        assert_eq!(ended.code(), 0, "{ended:?}");
        assert!(ended.stderr.contains("stopping in order"), "{ended:?}");
        scratch.report()
    });
    runtime.shutdown_timeout(Duration::from_secs(5));
    assert_eq!(ended["lost_ticks"], 0);
    assert_eq!(ended["sources"][0]["live"]["connections"], 1);
    assert!(ended["ticks_in"].as_u64().unwrap() > 0);
}

#[test]
fn ctrl_c_stops_a_run_over_data_which_the_same_command_goes_on_with() {
    let scratch = Scratch::new();
    let arguments = ["demo", "--ticks", "400000", "--set", "stream.checkpoint_ticks=5000"];
    let process = scratch.start(scratch.command(&arguments));
    let journal = scratch.path("data/journal/db");
    let deadline = std::time::Instant::now() + PATIENCE;
    while std::fs::metadata(&journal).map_or(0, |file| file.len()) == 0 {
        assert!(std::time::Instant::now() < deadline, "nothing was ever stored");
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(300));
    interrupt(&process);
    let ended = common::finish(process);
    assert_eq!(ended.code(), 130, "{ended:?}");
    assert!(ended.stderr.contains("the same command goes on from here"), "{ended:?}");
    let ended = scratch.run(&arguments);
    assert_eq!(ended.code(), 0, "{ended:?}");
    let report = scratch.report();
    assert_eq!((&report["resumed"], &report["ticks_in"]), (&true.into(), &400_000.into()));
    assert_eq!(report["lost_ticks"], 0);
}
