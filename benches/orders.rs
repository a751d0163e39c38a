//! What it costs to agree on an order before it leaves: the time from asking for its intent to sending its
//! request, on one node and on three voters, beside one fsync and one round trip on the same machine.
//!
//! `cargo bench --bench orders [-- --quick]`
//!
//! Nodes, and the simulated exchange they trade at, are real processes on loopback. An intent on one voter
//! has to wait for one fsync; on three for a round trip and an fsync at the slower of two others besides.

#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![expect(clippy::cast_precision_loss, reason = "ratios are for people")]
#![allow(dead_code, reason = "helpers for several test files")]

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/exchanges/desk.rs"]
mod desk;
#[path = "../tests/exchanges/mod.rs"]
mod exchanges;
#[path = "../tests/exchanges/market.rs"]
mod market;
#[path = "../tests/processes/mod.rs"]
mod processes;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use desk::nodes;
use market::Market;
use tickwright::ctl::CtlTask;

const ONE: &[(&str, &str)] = &[("one", "data,calc,exec,control")];
const THREE: &[(&str, &str)] =
    &[("data-1", "data,control"), ("calc-1", "calc,control"), ("exec-1", "exec,control")];

/// A record of this size is about what an intent comes to in the log.
const RECORD: [u8; 512] = [7; 512];

fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = (share * (sorted.len() - 1) as f64).round();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in it")]
    sorted[place as usize]
}

/// Microseconds of each of so many repetitions, sorted.
fn measure(count: usize, mut step: impl FnMut()) -> Vec<f64> {
    let mut took: Vec<f64> = (0..count)
        .map(|_| {
            let begun = Instant::now();
            step();
            begun.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    took.sort_by(f64::total_cmp);
    took
}

fn fsyncs(count: usize) -> Vec<f64> {
    let directory = tempfile::tempdir().unwrap();
    let mut file = File::create(directory.path().join("log")).unwrap();
    measure(count, || {
        file.write_all(&RECORD).unwrap();
        file.sync_data().unwrap();
    })
}

fn round_trips(count: usize) -> Vec<f64> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let echo = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        let mut bytes = RECORD;
        while stream.read_exact(&mut bytes).is_ok() && stream.write_all(&bytes).is_ok() {}
    });
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut bytes = RECORD;
    let took = measure(count, || {
        stream.write_all(&RECORD).unwrap();
        stream.read_exact(&mut bytes).unwrap();
    });
    drop(stream);
    echo.join().unwrap();
    took
}

/// What an intent took on these nodes, in microseconds: median, 99th of 100, and of how many.
async fn intents(names: &[(&str, &str)], lasts: Duration) -> (f64, f64, u64) {
    let market = Market::open(3, 30_000, ("9999.99", "10000.01"), "").await;
    let nodes = nodes(&market, names, |_| Vec::new());
    thread::sleep(lasts);
    let task = CtlTask::Reconcile { adopt: false };
    let found = nodes[0].ask_within(Duration::from_secs(30), &task, None).unwrap();
    let of = |name: &str| found["accounts"][0]["intent_us"][name].as_u64().unwrap();
    (of("p50") as f64, of("p99") as f64, of("count"))
}

#[tokio::main]
async fn main() {
    let is_quick = std::env::args().any(|argument| argument == "--quick");
    let lasts = Duration::from_secs(if is_quick { 15 } else { 60 });
    println!(
        "{:<34} {:>9} {:>9} {:>7}   beside fsync + round trip",
        "", "p50 us", "p99 us", "count"
    );
    let line = |name: &str, p50: f64, p99: f64, count: u64, beside: Option<f64>| {
        let ratio = beside.map(|beside| format!("{:.1}", p50 / beside)).unwrap_or_default();
        println!("{name:<34} {p50:>9.0} {p99:>9.0} {count:>7}   {ratio}");
    };
    let (fsync, trip) = (fsyncs(500), round_trips(2_000));
    line("one fsync of 512 bytes", quantile(&fsync, 0.5), quantile(&fsync, 0.99), 500, None);
    line("one round trip of 512 bytes", quantile(&trip, 0.5), quantile(&trip, 0.99), 2_000, None);
    let beside = quantile(&fsync, 0.5) + quantile(&trip, 0.5);
    for (name, names) in
        [("intent to send, one voter", ONE), ("intent to send, three voters", THREE)]
    {
        let (p50, p99, count) = intents(names, lasts).await;
        line(name, p50, p99, count, Some(beside));
    }
}
