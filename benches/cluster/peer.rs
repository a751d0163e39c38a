//! The other process: it receives rows and answers questions, by the cluster and by bare TCP.
//!
//! Its standard input says which round comes next; a line to its standard output says what it saw.

use std::io::BufRead;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tickwright::cluster::{ClusterServices, Edge, Memory, Request, Transport};
use tickwright::kit::{Clock, Consumer, Outlet};
use tickwright_core::cluster::Unit;
use tickwright_core::config::{Config, Kinds};
use tickwright_core::domain::{Key, Tick, TickBatch};
use tickwright_core::stream::Merge;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Nothing here takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The role that answers with what it was asked.
pub(crate) const ECHO: &str = "echo";

/// The producing unit of a round, and the consuming one.
pub(crate) fn units(round: u16) -> (Unit, Unit) {
    (Unit::Source(round), Unit::Shard(round))
}

/// No unit here has a second life.
pub(crate) const EPOCH: u64 = 1;

/// What the receiving end of a round saw.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) rows: u64,
    /// Of all prices: what was received is what was sent.
    pub(crate) checksum: i64,
    /// From the first rows to the last.
    pub(crate) seconds: f64,
}

impl Seen {
    /// Counts rows, and keeps them from being optimised away.
    pub(crate) fn count(&mut self, rows: &[Tick]) {
        self.rows += rows.len() as u64;
        self.checksum = rows.iter().fold(self.checksum, |sum, row| sum.wrapping_add(row.price));
    }

    /// As it goes by a pipe.
    fn say(self) {
        println!("{} {} {}", self.rows, self.checksum, self.seconds);
    }

    pub(crate) fn parse(line: &str) -> Self {
        let mut words = line.split_whitespace();
        let mut next = || words.next().unwrap_or_else(|| panic!("no result: {line:?}"));
        let (rows, checksum) = (next().parse().unwrap(), next().parse().unwrap());
        Self { rows, checksum, seconds: next().parse().unwrap() }
    }
}

/// The services of a node that takes part in nothing but links.
pub(crate) async fn join(
    name: &str,
    bind: &str,
    seed: &str,
    directory: &std::path::Path,
) -> ClusterServices {
    let settings = [
        ("node.name", name.to_owned()),
        ("node.http_bind", "none".to_owned()),
        ("cluster.bind", bind.to_owned()),
        ("cluster.seeds", format!("[{seed:?}]")),
    ];
    let settings = settings.map(|(key, value)| (key.to_owned(), value));
    let config = Config::default().with_overrides(&settings, &Kinds::default());
    let config = config.unwrap_or_else(|problems| panic!("{problems}"));
    let clock = Clock::system();
    let clock_ms = clock.now().as_nanos() / 1_000_000;
    let memory = Memory::open(directory, &config.cluster.name, clock_ms).unwrap();
    let (services, _) = ClusterServices::start(&config, memory, clock).await.unwrap();
    let mut view = services.view();
    timeout(PATIENCE, view.wait_for(|view| view.is_member)).await.unwrap().unwrap();
    services
}

/// `peer SEED TCP`: joins through the one address and connects to the other for each bare round.
pub(crate) fn run() {
    let mut arguments = std::env::args().skip(2);
    let (seed, tcp) = (arguments.next().unwrap(), arguments.next().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let services = runtime.block_on(join("peer", "127.0.0.1:0", &seed, directory.path()));
    let echo = |mut request: Request| {
        let reply = request.reply.take().ok_or("nobody awaits an answer")?;
        reply.answer(std::mem::take(&mut request.body));
        Ok(())
    };
    services.network().register(ECHO, None, Arc::new(echo));
    let transport = Transport::new(services.network().clone());
    // Whoever started this process ends it by closing its standard input.
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let (task, round) = line.split_once(' ').unwrap();
        let round: u16 = round.parse().unwrap();
        match task {
            "stream" => {
                let received = receive_stream(&transport, round);
                runtime.block_on(async { timeout(PATIENCE, received).await }).unwrap().say();
            }
            "tcp" => {
                let received = receive_tcp(&tcp);
                runtime.block_on(async { timeout(PATIENCE, received).await }).unwrap().say();
            }
            "echo" => {
                runtime.block_on(echo_tcp(&tcp));
                Seen::default().say();
            }
            other => panic!("what is {other:?}?"),
        }
    }
}

/// Rows that may be under way, as configured for every stream.
fn credit() -> u32 {
    u32::try_from(Config::default().stream.credit_ticks).unwrap()
}

async fn receive_stream(transport: &Transport, round: u16) -> Seen {
    let (from, to) = units(round);
    transport.host(to, EPOCH, |_| Err("only streams here".into()));
    let (demand, _unused) = Outlet::to_channel();
    let (hello, mut hellos) = Outlet::to_channel();
    let demand = transport.consume::<TickBatch>(Edge { from, to, demand, hello });
    let mut consumer = Consumer::new(vec![demand], credit());
    let (sink, mut frames) = Outlet::to_channel();
    let mut merge = Merge::new(1);
    consumer.subscribe(&mut merge, 0, Key::START, sink.clone());
    let spacing = Config::default().stream.checkpoint_ticks as u64;
    let (mut seen, mut begun, mut stable_at) = (Seen::default(), None, spacing);
    loop {
        tokio::select! {
            Some((session, frame)) = frames.recv() => {
                let is_last = frame.complete == Key::END;
                let is_new = merge.accept(0, session, frame);
                while let Some(run) = merge.next_run() {
                    begun.get_or_insert_with(Instant::now);
                    seen.count(&run.block.rows[run.rows.clone()]);
                    if seen.rows >= stable_at {
                        stable_at += spacing;
                        consumer.stable(run.last_key());
                    }
                }
                consumer.return_credit(&mut merge);
                if is_last && is_new {
                    break;
                }
            }
            Some(()) = hellos.recv() => consumer.reconnect(&mut merge, 0, 0, sink.clone()),
        }
    }
    seen.seconds = begun.map_or(0.0, |begun| begun.elapsed().as_secs_f64());
    transport.release(to);
    seen
}

async fn receive_tcp(address: &str) -> Seen {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut stream = BufReader::with_capacity(1 << 16, stream);
    let (mut seen, mut begun, mut body) = (Seen::default(), None, Vec::new());
    loop {
        let length = usize::try_from(stream.read_u32_le().await.unwrap()).unwrap();
        if length == 0 {
            break;
        }
        body.resize(length, 0);
        stream.read_exact(&mut body).await.unwrap();
        begun.get_or_insert_with(Instant::now);
        let rows = body.chunks_exact(size_of::<Tick>()).map(bytemuck::pod_read_unaligned);
        seen.count(&rows.collect::<Vec<Tick>>());
    }
    seen.seconds = begun.map_or(0.0, |begun| begun.elapsed().as_secs_f64());
    seen
}

/// Gives back what comes, behind its length, until the other end closes.
async fn echo_tcp(address: &str) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut frame = Vec::new();
    while let Ok(length) = stream.read_u32_le().await {
        frame.resize(4 + usize::try_from(length).unwrap(), 0);
        frame[..4].copy_from_slice(&length.to_le_bytes());
        stream.read_exact(&mut frame[4..]).await.unwrap();
        stream.write_all(&frame).await.unwrap();
    }
}
