//! Streams and questions between two processes, beside bare TCP.

use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use tickwright::cluster::{ClusterServices, Edge, Message, Transport};
use tickwright::kit::{Outlet, Producer};
use tickwright_core::config::Config;
use tickwright_core::domain::{Histogram, Key, Tick, TickBatch};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::Options;
use crate::peer::{ECHO, EPOCH, PATIENCE, Seen, join, units};
use crate::rows::{Ticks, median};

const BLOCK_ROWS: usize = 256;

/// Bytes of a question.
const QUESTION: [u8; 64] = [b'x'; 64];

/// Questions before the ones that count.
const WARM: usize = 500;

/// The other process; it ends with this one.
struct PeerProcess {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl PeerProcess {
    fn start(seed: &str, tcp: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["peer", seed, tcp]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, input, output }
    }

    fn begin(&mut self, task: &str, round: u16) {
        writeln!(self.input, "{task} {round}").unwrap();
    }

    fn seen(&mut self) -> Seen {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        Seen::parse(&line)
    }
}

impl Drop for PeerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Pair {
    runtime: Runtime,
    services: ClusterServices,
    transport: Transport,
    listener: TcpListener,
    peer: PeerProcess,
    /// What the node remembers; until it ends.
    _directory: tempfile::TempDir,
}

impl Pair {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let seed = port.local_addr().unwrap().to_string();
        drop(port);
        let services = runtime.block_on(join("first", &seed, &seed, directory.path()));
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let tcp = listener.local_addr().unwrap().to_string();
        let peer = PeerProcess::start(&seed, &tcp);
        let mut routes = services.network().routes();
        let found = async {
            while services.network().route(ECHO).is_none() {
                routes.changed().await.unwrap();
            }
        };
        runtime.block_on(async { timeout(PATIENCE, found).await }).unwrap();
        let transport = Transport::new(services.network().clone());
        Self { runtime, services, transport, listener, peer, _directory: directory }
    }

    /// One round through a stream of the cluster.
    fn stream(&mut self, round: u16, blocks: &[Arc<TickBatch>]) -> Seen {
        self.peer.begin("stream", round);
        let sent = send_stream(&self.transport, round, blocks);
        self.runtime.block_on(async { timeout(PATIENCE, sent).await }).unwrap();
        let seen = self.peer.seen();
        self.transport.release(units(round).0);
        seen
    }

    /// One round over bare TCP.
    fn tcp(&mut self, blocks: &[Arc<TickBatch>]) -> Seen {
        self.peer.begin("tcp", 0);
        let sent = async {
            let (mut stream, _) = self.listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            for block in blocks {
                let rows = bytemuck::cast_slice::<Tick, u8>(&block.rows);
                let mut frame = Vec::with_capacity(4 + rows.len());
                frame.extend_from_slice(&u32::try_from(rows.len()).unwrap().to_le_bytes());
                frame.extend_from_slice(rows);
                stream.write_all(&frame).await.unwrap();
            }
            stream.write_all(&[0; 4]).await.unwrap();
        };
        self.runtime.block_on(async { timeout(PATIENCE, sent).await }).unwrap();
        self.peer.seen()
    }

    /// How long each of `count` questions takes, by role.
    fn ask(&self, count: usize) -> Histogram {
        let network = self.services.network();
        let message =
            Message { role: ECHO, kind: "json", epoch: 0, body: &QUESTION, is_urgent: false };
        self.runtime.block_on(async {
            let mut times = Histogram::new();
            for number in 0..WARM + count {
                let begun = Instant::now();
                let answer = network.ask(None, message, PATIENCE).await.unwrap();
                let nanos = u64::try_from(begun.elapsed().as_nanos()).unwrap();
                assert_eq!(answer, QUESTION);
                if number >= WARM {
                    times.record(nanos);
                }
            }
            times
        })
    }

    /// The same over bare TCP.
    fn ask_tcp(&mut self, count: usize) -> Histogram {
        self.peer.begin("echo", 0);
        let times = self.runtime.block_on(async {
            let (mut stream, _) = self.listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut frame = u32::try_from(QUESTION.len()).unwrap().to_le_bytes().to_vec();
            frame.extend(QUESTION);
            let (mut times, mut answer) = (Histogram::new(), vec![0; frame.len()]);
            for number in 0..WARM + count {
                let begun = Instant::now();
                stream.write_all(&frame).await.unwrap();
                stream.read_exact(&mut answer).await.unwrap();
                let nanos = u64::try_from(begun.elapsed().as_nanos()).unwrap();
                assert_eq!(answer, frame);
                if number >= WARM {
                    times.record(nanos);
                }
            }
            times
        });
        self.peer.seen();
        times
    }
}

/// Blocks of the rows, as the cleaner would send them.
fn blocks_of(ticks: &Ticks) -> Vec<Arc<TickBatch>> {
    let block = |(rows, first): (&[Tick], u64)| {
        let mut batch = TickBatch::default();
        for (sequence, row) in (first..).zip(rows) {
            let key = Key::of(ticks.base + row.frontier_offset(), 0, sequence);
            assert!(batch.push(key, *row), "a block spans less than a day");
        }
        Arc::new(batch)
    };
    ticks.rows.chunks(BLOCK_ROWS).zip((1..).step_by(BLOCK_ROWS)).map(block).collect()
}

/// The producing end: as a stage, it takes in no more than can go out.
async fn send_stream(transport: &Transport, round: u16, blocks: &[Arc<TickBatch>]) {
    let (from, to) = units(round);
    transport.host(from, EPOCH, |_| Err("only streams here".into()));
    let (demand, mut demands) = Outlet::to_channel();
    let (hello, _unused) = Outlet::to_channel();
    let hello = transport.produce::<TickBatch>(Edge { from, to, demand, hello });
    let retained = Config::default().stream.retained_ticks;
    let mut producer = Producer::new(Key::START, retained, hello);
    producer.say_hello();
    let (mut next, mut is_finished) = (0, false);
    while !(is_finished && producer.flow().session().is_some()) {
        producer.on_demand(demands.recv().await.unwrap()).expect("nothing was dropped");
        while producer.flow().session().is_some() && producer.flow().has_room() && !is_finished {
            match blocks.get(next) {
                Some(block) => {
                    let last = block.key(block.rows.last().expect("no block is empty"));
                    producer.push(Arc::clone(block), last, true);
                    next += 1;
                }
                None => {
                    is_finished = true;
                    producer.push(Arc::default(), Key::END, false);
                }
            }
        }
    }
}

/// Prints what streams and questions cost, as far as they are wanted.
pub(crate) fn measure(options: &Options) {
    let wants = ["streams", "questions"].map(|section| options.wants(section));
    if wants == [false, false] {
        return;
    }
    let mut pair = Pair::new();
    if wants[0] {
        measure_streams(&mut pair, options.is_quick);
    }
    if wants[1] {
        measure_questions(&mut pair, options.is_quick);
    }
}

fn measure_streams(pair: &mut Pair, is_quick: bool) {
    let (count, rounds) = if is_quick { (500_000, 3) } else { (2_000_000, 7) };
    let ticks = Ticks::make(count);
    let blocks = blocks_of(&ticks);
    let (mut bare, mut ours, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    // The first round is for warmth.
    for round in 0..=rounds {
        let (limit, stream) = (pair.tcp(&blocks), pair.stream(round, &blocks));
        assert_eq!((limit.rows, limit.checksum), (stream.rows, stream.checksum), "rows are lost");
        assert_eq!(limit.rows, count, "rows are lost");
        if round > 0 {
            bare.push(count as f64 / limit.seconds / 1e6);
            ours.push(count as f64 / stream.seconds / 1e6);
            ratios.push(stream.seconds / limit.seconds);
        }
    }
    println!(
        "rows between two processes, {count} of {} bytes in blocks of {BLOCK_ROWS}, {rounds} rounds",
        size_of::<Tick>()
    );
    println!("  {:<36} {:>9} {:>14}", "", "Mrow/s", "times slower");
    println!("  {:<36} {:>9.2} {:>14.2}", "framed TCP (the limit)", median(&mut bare), 1.0);
    let ratio = median(&mut ratios);
    println!("  {:<36} {:>9.2} {ratio:>14.2}", "a stream of the cluster", median(&mut ours));
    println!();
}

fn measure_questions(pair: &mut Pair, is_quick: bool) {
    let (count, rounds) = if is_quick { (2_000, 3) } else { (10_000, 5) };
    let all = count * rounds;
    let (mut bare, mut ours) = (Histogram::new(), Histogram::new());
    for _ in 0..rounds {
        bare.merge(&pair.ask_tcp(count));
        ours.merge(&pair.ask(count));
    }
    println!("questions of {} bytes, one at a time, {all} of each", QUESTION.len());
    println!("  {:<36} {:>9} {:>9} {:>14}", "", "p50 us", "p99 us", "times slower");
    let micros = |times: &Histogram, per_million| times.quantile(per_million) as f64 / 1e3;
    for (name, times) in [("TCP echo (the limit)", &bare), ("a role, by the gateways", &ours)] {
        let [p50, p99] = [500_000, 990_000].map(|share| micros(times, share));
        let limit = [500_000, 990_000].map(|share| micros(&bare, share));
        println!(
            "  {name:<36} {p50:>9.1} {p99:>9.1} {:>6.2}, {:>6.2}",
            p50 / limit[0],
            p99 / limit[1]
        );
    }
    println!();
}
