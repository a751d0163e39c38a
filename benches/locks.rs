//! What a lock costs: acquire and release with each back end, beside a plain Redis `SET NX PX` and a script
//! that releases it, by the same client library.
//!
//! `cargo bench --bench locks [-- --quick]`
//!
//! Each client takes and gives back a lock of its own, again and again, so that what is measured is the back
//! end and not the queue. Lines take turns within a round; figures are over all rounds. The ledger has one
//! voter, in this process, and syncs its log with every step. Redis runs as a process of its own on
//! loopback and keeps nothing on disk; without `redis-server` its lines, and the ratios, are missing.

#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![expect(clippy::cast_precision_loss, reason = "figures are for people")]

#[path = "../tests/redis_server/mod.rs"]
mod redis_server;

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::Script;
use redis::aio::MultiplexedConnection;
use redis_server::{RedisServer, is_there};
use tickwright::kit::Outlet;
use tickwright::ledger::{Asked, LedgerCopy, LedgerService, LedgerSettings, PeerError, Peers};
use tickwright::locks::{
    LedgerLocks, LocalLocks, LockAsk, LockBackend, RedisAddress, RedisLocks, RedisSettings,
};
use tickwright_core::cluster::Timings;
use tickwright_core::domain::{Incarnation, LockMode, NodeId, Span};

const CLIENTS: [usize; 3] = [1, 8, 64];
const PATIENCE: Duration = Duration::from_secs(20);
const TTL: Duration = Duration::from_secs(60);

/// Releases what one has, and nobody else's.
const RELEASE: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";

/// Nobody else is there.
struct Alone;

impl Peers for Alone {
    fn ask<'p>(&'p self, _: &'p NodeId, _: &'static str, _: &'p [u8], _: Duration) -> Asked<'p> {
        Box::pin(async { Err(PeerError("nobody is there".into())) })
    }

    fn linked(&self) -> Vec<NodeId> {
        Vec::new()
    }
}

/// Who is measured.
#[derive(Clone)]
enum Line {
    Backend(Arc<dyn LockBackend>),
    Plain(MultiplexedConnection, Arc<Script>),
}

impl Line {
    /// Takes a lock and gives it back.
    async fn once(&mut self, key: &str) {
        match self {
            Self::Backend(backend) => {
                // An owner of its own, as everybody at work is.
                let (key, owner) = (key.to_owned(), key.to_owned());
                let wait = Duration::ZERO;
                let ask = LockAsk { key, owner, mode: LockMode::Write, ttl: TTL, wait };
                let grant = backend.acquire(&ask).await.unwrap();
                backend.unlock(&ask.key, &ask.owner, grant.token).await.unwrap();
            }
            Self::Plain(connection, release) => {
                let mut set = redis::cmd("SET");
                set.arg(key).arg("bench").arg("NX").arg("PX").arg(60_000);
                let taken: String = set.query_async(connection).await.unwrap();
                assert_eq!(taken, "OK");
                let mut call = release.key(key);
                let released: u64 = call.arg("bench").invoke_async(connection).await.unwrap();
                assert_eq!(released, 1);
            }
        }
    }
}

/// What one line took, at one number of clients.
#[derive(Default)]
struct Figures {
    nanos: Vec<u64>,
    seconds: f64,
}

impl Figures {
    fn at(&self, share: f64) -> f64 {
        let mut sorted = self.nanos.clone();
        sorted.sort_unstable();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place")]
        let place = ((sorted.len() - 1) as f64 * share) as usize;
        sorted[place] as f64 / 1_000.0
    }

    fn rate(&self) -> f64 {
        self.nanos.len() as f64 / self.seconds
    }
}

async fn measure(line: &Line, name: &str, clients: usize, times: usize, figures: &mut Figures) {
    let mut tasks = tokio::task::JoinSet::new();
    let begun = Instant::now();
    for client in 0..clients {
        let (mut line, key) = (line.clone(), format!("bench:{name}:{client}"));
        tasks.spawn(async move {
            let mut nanos = Vec::with_capacity(times);
            for _ in 0..times {
                let begun = Instant::now();
                line.once(&key).await;
                nanos.push(u64::try_from(begun.elapsed().as_nanos()).unwrap());
            }
            nanos
        });
    }
    while let Some(nanos) = tasks.join_next().await {
        figures.nanos.extend(nanos.unwrap());
    }
    figures.seconds += begun.elapsed().as_secs_f64();
}

async fn ledger(directory: &std::path::Path) -> LedgerService {
    let (node, incarnation) = (NodeId::from("a"), Incarnation(1));
    let copy = LedgerCopy::open(&directory.join("ledger"), &node, incarnation).unwrap();
    let settings = LedgerSettings {
        cluster: "bench".into(),
        node,
        incarnation,
        timings: Timings::from_heartbeat(Span::from_millis(500)),
        priority: 0,
        is_witness: false,
        voters: None,
    };
    let (events, _) = Outlet::to_channel();
    let service = copy.start(settings, Arc::new(Alone), Some(Vec::new()), events).await.unwrap();
    let since = Instant::now();
    while service.client().session().is_none() {
        assert!(since.elapsed() < PATIENCE, "the ledger gets no session");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    service
}

async fn lines_of_redis(server: &RedisServer) -> Vec<(&'static str, Line)> {
    let client = redis::Client::open(server.url()).unwrap();
    let connection = client.get_multiplexed_async_connection().await.unwrap();
    let plain = Line::Plain(connection, Arc::new(Script::new(RELEASE)));
    let address = RedisAddress { urls: vec![server.url()], password: None, patience: PATIENCE };
    let (prefix, node) = ("tickwright:bench:".to_owned(), "a".to_owned());
    let settings = RedisSettings { address, prefix, node, life: 1 };
    let redis: Arc<dyn LockBackend> = Arc::new(RedisLocks::new(settings));
    vec![("plain SET NX PX", plain), ("redis", Line::Backend(redis))]
}

async fn run(rounds: usize, times: usize) {
    let directory = tempfile::tempdir().unwrap();
    let service = ledger(directory.path()).await;
    let server = is_there("the ratio to plain Redis").then(|| RedisServer::start(&[]));
    let mut lines = match &server {
        Some(server) => lines_of_redis(server).await,
        None => Vec::new(),
    };
    let locks: Arc<dyn LockBackend> = Arc::new(LedgerLocks::new(service.client(), PATIENCE));
    lines.push(("ledger", Line::Backend(locks)));
    lines.push(("none", Line::Backend(Arc::new(LocalLocks::new("a")))));
    println!(
        "{:>7}  {:<16} {:>10} {:>10} {:>12} {:>8} {:>8}",
        "clients", "back end", "p50 us", "p99 us", "pairs/s", "p50 x", "p99 x"
    );
    for clients in CLIENTS {
        let mut all: Vec<Figures> = lines.iter().map(|_| Figures::default()).collect();
        for round in 0..=rounds {
            for ((name, line), figures) in lines.iter().zip(&mut all) {
                // The first round warms up.
                let mut warm = Figures::default();
                let figures = if round == 0 { &mut warm } else { figures };
                measure(line, name, clients, times, figures).await;
            }
        }
        let plain = server.is_some().then(|| (all[0].at(0.5), all[0].at(0.99)));
        for ((name, _), figures) in lines.iter().zip(&all) {
            let (middle, high) = (figures.at(0.5), figures.at(0.99));
            let times = |own: f64, plain: Option<f64>| {
                plain.map_or_else(|| "-".to_owned(), |plain| format!("{:.2}", own / plain))
            };
            println!(
                "{clients:>7}  {name:<16} {middle:>10.1} {high:>10.1} {:>12.0} {:>8} {:>8}",
                figures.rate(),
                times(middle, plain.map(|(middle, _)| middle)),
                times(high, plain.map(|(_, high)| high)),
            );
        }
    }
    service.leave(PATIENCE).await;
}

fn main() {
    let is_quick = std::env::args().any(|argument| argument == "--quick");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!(
        "{cores} processors; acquire and release of a lock of one's own; x is to plain Redis\n"
    );
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(run(if is_quick { 2 } else { 8 }, if is_quick { 20 } else { 100 }));
}
