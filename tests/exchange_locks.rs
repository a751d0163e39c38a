//! Orders at an exchange under locks that Redis keeps. The exchange is the judge, as without them: locks say
//! who tries, and nothing of what may happen once rests on them.

#![allow(dead_code, reason = "helpers for several test files")]
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;
mod exchanges;
#[path = "exchanges/market.rs"]
mod market;
mod redis_server;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::{PATIENCE, Process, Scratch, csv_market, finish};
use exchanges::{Exchange, KEY, SECRET, judge};
use market::assert_no_secret;
use redis_server::{RedisServer, is_there};
use serde_json::{Value, json};
use tickwright::locks::{LockAsk, LockBackend as _, RedisAddress, RedisLocks, RedisSettings};
use tickwright_core::domain::LockMode;

const SYMBOLS: [(&str, &str); 4] = [("SHA", "RED"), ("F0", "S1"), ("F0", "S2"), ("F0", "S3")];

/// Eight seconds of rows at the speed they are read at.
const ROWS: usize = 800;

struct Market {
    scratch: Scratch,
    exchange: Exchange,
    data: PathBuf,
}

impl Market {
    async fn open(locks: &str) -> Self {
        let symbols = SYMBOLS.map(|(base, quote)| {
            format!("{base}/{quote}:price=10000:tick=0.01:step=1:notional_min=2")
        });
        let symbols = symbols.join(",");
        let rich =
            ["SHA", "RED", "F0", "S1", "S2", "S3"].map(|asset| format!("{asset}=1000000000"));
        let mut options = vec!["--symbols", &symbols];
        rich.iter().for_each(|balance| options.extend(["--balance", balance]));
        let exchange = Exchange::start(&options);
        for (base, quote) in SYMBOLS {
            let book = json!({
                "symbol": format!("{base}{quote}"), "bid": "9999.99", "bid_quantity": "1000000",
                "ask": "10000.01", "ask_quantity": "1000000",
            });
            exchange.command("/exchange/market", book).await;
        }
        let scratch = Scratch::new();
        let data = csv_market(scratch.directory.path(), 1, ROWS, 1).remove(0);
        let keys = scratch.file("keys", format!("{KEY}:{SECRET}\n"));
        let config = format!(
            "[pipeline]\nmerge = \"arrival\"\nspeed = \"real\"\n[router]\nhas_backup = false\n\
             [broker.primary]\nkind = \"exchange\"\nexchange = \"sim\"\nassume_reconciled = true\n\
             base_url = \"http://{}\"\nkeys_file = {keys:?}\nanswer_ms = 1500\nsettle_ms = 500\n\
             settle_after_error_ms = 1000\npoll_ms = 200\n\
             [instruments.class.generic]\ntick_size = 0.01\n\
             [locks]\nbackend = \"redis\"\nhealth_ms = 100\n{locks}\n",
            exchange.address
        );
        scratch.file("cluster.toml", config);
        Self { scratch, exchange, data }
    }

    fn start(&self) -> Process {
        let config = self.scratch.path("cluster.toml");
        let (data, config) = (self.data.to_str().unwrap(), config.to_str().unwrap());
        let arguments = ["run", "--nodes", "3", "--data", data, "--config", config];
        let mut command = self.scratch.command(&arguments);
        command.env("RUST_LOG", "warn,tickwright=debug").env("NO_COLOR", "1");
        self.scratch.start(command)
    }

    fn report(&self, process: Process) -> Value {
        let ended = finish(process);
        assert_eq!(ended.code(), 0, "{ended:?}");
        self.scratch.report()
    }

    /// Orders that the exchange has accepted so far.
    fn accepted(&self) -> usize {
        let log = std::fs::read_to_string(self.exchange.log()).unwrap_or_default();
        log.matches("\"event\":\"order\"").count()
    }

    fn logs(&self) -> String {
        let files = std::fs::read_dir(self.scratch.path("data/logs")).into_iter().flatten();
        files.flatten().filter_map(|file| std::fs::read_to_string(file.path()).ok()).collect()
    }
}

#[tokio::test]
async fn orders_take_their_locks_in_redis_and_none_is_doubled_when_it_loses_them() {
    if !is_there("orders under locks in Redis, which is killed") {
        return;
    }
    let mut redis = RedisServer::start(&[]);
    let market = Market::open(&format!("redis_urls = [\"{}\"]", redis.url())).await;
    let mut process = market.start();
    let since = Instant::now();
    while market.accepted() == 0 {
        let ended = process.ends_within(Duration::ZERO);
        assert!(ended.is_none(), "it has ended before: {:?}", process.said());
        assert!(since.elapsed() < PATIENCE, "no order comes: {}", market.logs());
        std::thread::sleep(Duration::from_millis(10));
    }
    let taken = redis.say("KEYS tickwright:*:last").unwrap();
    assert!(taken.starts_with("*1"), "an order was accepted without a lock: {taken}");
    redis.kill();
    redis.start_again();
    let before = market.accepted();
    let report = market.report(process);
    let accepted = market.accepted();
    assert!(accepted > before, "none of {accepted} orders after it came back: {}", market.logs());
    assert_eq!(report["orders"]["placed"], accepted, "{}", report["orders"]);
    let (code, told) = judge(&market.exchange.log());
    assert_eq!(code, 0, "{told}");
    let logs = market.logs();
    assert!(!logs.is_empty(), "nothing is in the logs");
    assert_no_secret(&logs);
}

/// A program of one's own has the lock that a strategy names.
#[tokio::test]
async fn a_strategy_opens_nothing_while_another_has_its_lock_and_goes_on_when_it_is_given_back() {
    if !is_there("a strategy that takes a lock in Redis") {
        return;
    }
    let redis = RedisServer::start(&[]);
    let strategy = "[[strategy]]\nname = \"reversion\"\nkind = \"bollinger_reversion\"\n\
                    account = \"main\"\nsymbols = [\"*\"]\nlock = \"rebalance\"\n";
    let market = Market::open(&format!("redis_urls = [\"{}\"]\n{strategy}", redis.url())).await;
    let (urls, patience) = (vec![redis.url()], Duration::from_secs(2));
    let own = RedisLocks::new(RedisSettings {
        address: RedisAddress { urls, password: None, patience },
        prefix: "tickwright:tickwright:".into(),
        node: "of-a-person".into(),
        life: 1,
    });
    let ask = LockAsk {
        key: "rebalance".into(),
        owner: "rebalancing".into(),
        mode: LockMode::Write,
        ttl: PATIENCE,
        wait: Duration::ZERO,
    };
    let grant = own.acquire(&ask).await.unwrap();
    let mut process = market.start();
    let since = Instant::now();
    while !market.logs().contains("another has lock rebalance of its strategy") {
        let ended = process.ends_within(Duration::ZERO);
        assert!(ended.is_none(), "it has ended before: {:?}", process.said());
        assert!(since.elapsed() < PATIENCE, "no order is held off: {}", market.logs());
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(market.accepted(), 0, "{}", market.logs());
    own.unlock(&ask.key, &ask.owner, grant.token).await.unwrap();
    let report = market.report(process);
    assert!(market.accepted() > 0, "{}", market.logs());
    assert_eq!(report["orders"]["placed"], market.accepted(), "{}", report["orders"]);
    let (code, told) = judge(&market.exchange.log());
    assert_eq!(code, 0, "{told}");
}

#[tokio::test]
async fn no_order_is_opened_while_nobody_keeps_locks_and_it_is_said_why() {
    // Nobody listens there.
    let nobody = "redis_urls = [\"redis://127.0.0.1:1\"]";
    let market = Market::open(nobody).await;
    let process = market.start();
    let report = market.report(process);
    assert_eq!(market.accepted(), 0, "{}", market.logs());
    assert!(report["orders"]["approved"].as_u64().unwrap() > 0, "{}", report["orders"]);
    let logs = market.logs();
    assert!(logs.contains("an order is not placed: locks cannot be had"), "{logs}");
}
