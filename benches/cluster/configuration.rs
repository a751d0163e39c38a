//! How long a write on one of five nodes takes until watchers on all five have it, beside etcd.
//!
//! Both are five processes on this machine, asked by HTTP, with a watcher connected to each. A write
//! counts from before it is sent until the last of the five watchers was told. etcd decides by a
//! majority and an fsync before it tells anybody; the shared configuration is on the writer's disk
//! before it answers, and has no majority. So the two promise different things; the table is for who has
//! to choose.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use tickwright::config_sync::{ConfigCall, ConfigPlace};
use tickwright::ctl::CtlTask;
use tickwright::local_cluster::free_ports;
use tickwright_core::config::Config;

use super::nodes::{Node, PATIENCE, start};

const SIZE: usize = 5;

/// What is written.
const KEY: &str = "user.bench";

/// No write takes so long.
const SEEN_MAX: Duration = Duration::from_secs(20);

/// Told by a watcher: a value, and when.
type Seen = (String, Instant);

pub(crate) fn measure(is_quick: bool) {
    let rounds = if is_quick { 100 } else { 500 };
    let heartbeat = Config::default().cluster.heartbeat;
    println!(
        "a write until watchers on all of {SIZE} nodes have it, {rounds} writes, heartbeat {} ms",
        heartbeat.as_nanos() / 1_000_000
    );
    println!("  {:<26} {:>9} {:>9} {:>9}", "", "p50 ms", "p99 ms", "max ms");
    print("shared configuration", ours(rounds));
    match etcd(rounds) {
        Some(spreads) => print("etcd", spreads),
        None => println!("  etcd: SKIPPED, it is not installed (Debian: etcd-server)"),
    }
    println!();
}

fn print(name: &str, mut spreads: Vec<Duration>) {
    spreads.sort();
    let at = |share: usize| spreads[(spreads.len() - 1) * share / 100].as_secs_f64() * 1e3;
    println!("  {name:<26} {:>9.2} {:>9.2} {:>9.2}", at(50), at(99), at(100));
}

/// Writes once a round, each time on another node, and waits for all watchers.
fn spreads(
    rounds: usize,
    seen: &Receiver<Seen>,
    put: impl Fn(usize, &str),
    told_as: impl Fn(&str) -> String,
) -> Vec<Duration> {
    let mut spreads = Vec::new();
    for round in 0..rounds {
        let value = format!("round-{round:05}");
        let begun = Instant::now();
        put(round % SIZE, &value);
        let expected = told_as(&value);
        let mut last = begun;
        let mut missing = SIZE;
        while missing > 0 {
            let (value, at) = seen.recv_timeout(SEEN_MAX).expect("every watcher is told");
            if value == expected {
                last = last.max(at);
                missing -= 1;
            }
        }
        spreads.push(last - begun);
    }
    spreads
}

fn ours(rounds: usize) -> Vec<Duration> {
    let directory = tempfile::tempdir().unwrap();
    let nodes = start(directory.path(), SIZE, &[]);
    let config = |call| CtlTask::Config(call);
    let watch = |since| ConfigCall::Watch { prefix: KEY.into(), since, wait_ms: 2_000 };
    let put = |place: usize, value: &str| {
        let set = ConfigCall::Set {
            place: ConfigPlace::base(KEY),
            value: value.into(),
            priority: 0,
            merge: "latest".into(),
            author: "bench".into(),
        };
        nodes[place].ask(&config(set)).expect("it is written");
    };
    let (told, seen) = channel();
    let follow = |node: &Node, told: &Sender<Seen>| {
        let mut since = Some(node.ask(&config(watch(None))).unwrap()["since"].as_u64().unwrap());
        loop {
            // Without an answer the cluster has gone.
            let Some(answer) = node.ask(&config(watch(since))) else { return };
            let at = Instant::now();
            since = answer["since"].as_u64();
            for change in answer["changes"].as_array().unwrap() {
                let value = change["value"].as_str().unwrap().to_owned();
                if told.send((value, at)).is_err() {
                    return;
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for node in &nodes {
            let told = told.clone();
            scope.spawn(move || follow(node, &told));
        }
        // Every watcher is there, and every node has heard of every other.
        std::thread::sleep(Duration::from_secs(5));
        put(0, "warm");
        let mut warm = 0;
        while warm < SIZE {
            warm += usize::from(seen.recv_timeout(PATIENCE).expect("all are told").0 == "warm");
        }
        let spreads = spreads(rounds, &seen, put, str::to_owned);
        drop(seen);
        // Each watcher notices with its next change.
        put(0, "over");
        spreads
    })
}

/// One member of a cluster of etcd.
struct Member {
    child: Child,
    http: u16,
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Member {
    fn send(&self, path: &str, body: &str) -> std::io::Result<TcpStream> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.http))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SEEN_MAX))?;
        let length = body.len();
        let head =
            format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n");
        stream.write_all(format!("{head}connection: close\r\n\r\n{body}").as_bytes())?;
        Ok(stream)
    }

    fn put(&self, value: &str) -> bool {
        let body = format!("{{\"key\":\"{}\",\"value\":\"{}\"}}", base64(KEY), base64(value));
        let mut answer = String::new();
        let read = self.send("/v3/kv/put", &body).and_then(|mut s| s.read_to_string(&mut answer));
        read.is_ok() && answer.starts_with("HTTP/1.1 200")
    }

    /// Tells every value, in base64, until nobody listens or the member has gone.
    fn follow(&self, told: &Sender<Seen>) {
        let body = format!("{{\"create_request\":{{\"key\":\"{}\"}}}}", base64(KEY));
        let Ok(stream) = self.send("/v3/watch", &body) else { return };
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { return };
            let at = Instant::now();
            for rest in line.split("\"value\":\"").skip(1) {
                let value = rest.split('"').next().unwrap_or_default().to_owned();
                if told.send((value, at)).is_err() {
                    return;
                }
            }
        }
    }
}

fn etcd(rounds: usize) -> Option<Vec<Duration>> {
    let directory = tempfile::tempdir().unwrap();
    let members = start_etcd(directory.path())?;
    let begun = Instant::now();
    while !members[0].put("begin") {
        assert!(begun.elapsed() < PATIENCE, "etcd does not begin");
        std::thread::sleep(Duration::from_millis(100));
    }
    let (told, seen) = channel();
    Some(std::thread::scope(|scope| {
        for member in &members {
            let told = told.clone();
            scope.spawn(move || member.follow(&told));
        }
        std::thread::sleep(Duration::from_secs(5));
        let put = |place: usize, value: &str| assert!(members[place].put(value), "it is written");
        let spreads = spreads(rounds, &seen, put, base64);
        drop(seen);
        put(0, "over");
        spreads
    }))
}

fn start_etcd(directory: &Path) -> Option<Vec<Member>> {
    let (ports, _claims) = free_ports(2 * SIZE).unwrap();
    let peer = |place: usize| format!("http://127.0.0.1:{}", ports[place]);
    let all: Vec<String> = (0..SIZE).map(|place| format!("m{place}={}", peer(place))).collect();
    let all = all.join(",");
    let start = |place: usize| {
        let http = ports[SIZE + place];
        let client = format!("http://127.0.0.1:{http}");
        let mut command = Command::new("etcd");
        command.args(["--name", &format!("m{place}"), "--initial-cluster", &all]);
        command.arg("--data-dir").arg(directory.join(format!("m{place}")));
        command.args(["--listen-peer-urls", &peer(place)]);
        command.args(["--initial-advertise-peer-urls", &peer(place)]);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Some(Member { child: command.spawn().ok()?, http })
    };
    (0..SIZE).map(start).collect()
}

/// RFC 4648, section 4.
fn base64(text: &str) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut encoded = String::new();
    for chunk in text.as_bytes().chunks(3) {
        let bits = (0..3).fold(0, |bits, at| bits << 8 | usize::from(*chunk.get(at).unwrap_or(&0)));
        for at in 0..4 {
            let digit = DIGITS[bits >> (18 - 6 * at) & 63];
            encoded.push(if at <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    encoded
}
