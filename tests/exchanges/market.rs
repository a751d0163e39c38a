//! A pipeline's market: a simulated exchange with an account that is rich, and rows to trade on.
#![allow(dead_code, reason = "every test file uses another part of it")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::common::{Process, Scratch, csv_market, draw, finish};
use crate::exchanges::{Exchange, KEY, OTHER_SECRET, SECRET};

const SYMBOLS: [(&str, &str); 4] = [("SHA", "RED"), ("F0", "S1"), ("F0", "S2"), ("F0", "S3")];

/// A simulated exchange, and what is to be traded there.
pub(crate) struct Market {
    pub(crate) scratch: Scratch,
    pub(crate) exchange: Exchange,
    pub(crate) backup: Option<Exchange>,
    pub(crate) data: PathBuf,
}

/// An exchange with a market outside that stands still.
async fn exchange(book: (&str, &str)) -> Exchange {
    let symbols = SYMBOLS
        .map(|(base, quote)| format!("{base}/{quote}:price=10000:tick=0.01:step=1:notional_min=2"));
    let symbols = symbols.join(",");
    let rich = ["SHA", "RED", "F0", "S1", "S2", "S3"].map(|asset| format!("{asset}=1000000000"));
    let mut options = vec!["--symbols", &symbols];
    rich.iter().for_each(|balance| options.extend(["--balance", balance]));
    let exchange = Exchange::start(&options);
    stand_still(&exchange, book).await;
    exchange
}

/// From now on this is the best bid and ask outside.
pub(crate) async fn stand_still(exchange: &Exchange, (bid, ask): (&str, &str)) {
    for (base, quote) in SYMBOLS {
        let symbol = format!("{base}{quote}");
        let book = json!({
            "symbol": symbol, "bid": bid, "bid_quantity": "1000000",
            "ask": ask, "ask_quantity": "1000000",
        });
        exchange.command("/exchange/market", book).await;
    }
}

impl Market {
    /// With so many rows at the speed they are read at, before this best bid and ask, and with `more` of
    /// `[broker.primary]`.
    pub(crate) async fn open(seed: u64, rows: usize, book: (&str, &str), more: &str) -> Self {
        let exchange = exchange(book).await;
        let market = Self::new(seed, rows, exchange, None);
        let primary = market.broker("primary", &market.exchange, more);
        market.configure("has_backup = false", &primary);
        market
    }

    /// The same, with another exchange to fall back on, as `router` says.
    pub(crate) async fn open_with_backup(
        seed: u64,
        rows: usize,
        book: (&str, &str),
        router: &str,
    ) -> Self {
        let (first, second) = (exchange(book).await, exchange(book).await);
        let market = Self::new(seed, rows, first, Some(second));
        let backup = market.backup.as_ref().unwrap();
        let brokers =
            market.broker("primary", &market.exchange, "") + &market.broker("backup", backup, "");
        market.configure(&format!("has_backup = true\n{router}"), &brokers);
        market
    }

    /// The same for two accounts, the second with these keys. A strategy trades for each, by the same prices; that of
    /// `main` (`one` at the exchange) orders one lot, that of `second` (`two`) orders two.
    pub(crate) async fn open_for_two(
        seed: u64,
        rows: usize,
        book: (&str, &str),
        keys: &str,
        more: &str,
    ) -> Self {
        let market = Self::new(seed, rows, exchange(book).await, None);
        market.scratch.file("keys-of-second", format!("{keys}\n"));
        let keys = market.scratch.path("keys-of-second");
        let more = format!("{more}accounts.second.keys_file = {keys:?}\n");
        let mut text = market.broker("primary", &market.exchange, &more);
        for (name, account, lots) in [("left", "main", 1), ("right", "second", 2)] {
            text += &format!(
                "[[account]]\nname = \"{account}\"\n[[strategy]]\nname = \"{name}\"\n\
                 kind = \"bollinger_reversion\"\naccount = \"{account}\"\nsymbols = [\"*\"]\n\
                 [strategy.parameters]\nperiod = 20\nwidth = 2.0\nlots = {lots}\n"
            );
        }
        market.configure("has_backup = false", &text);
        market
    }

    /// Reaches the primary exchange at `front`, which encrypts, instead of directly.
    pub(crate) fn go_through(&self, front: SocketAddr) {
        let (path, address) = (self.scratch.path("cluster.toml"), self.exchange.address);
        let mut text = std::fs::read_to_string(&path).unwrap();
        for scheme in ["http", "ws"] {
            let direct = format!("{scheme}://{address}");
            assert!(text.contains(&direct), "{text}");
            text = text.replace(&direct, &format!("{scheme}s://{front}"));
        }
        std::fs::write(path, text).unwrap();
    }

    fn new(seed: u64, rows: usize, exchange: Exchange, backup: Option<Exchange>) -> Self {
        let scratch = Scratch::new();
        let data = csv_market(scratch.directory.path(), 1, rows, seed).remove(0);
        scratch.file("keys", format!("{KEY}:{SECRET}\n"));
        Self { scratch, exchange, backup, data }
    }

    fn broker(&self, name: &str, exchange: &Exchange, more: &str) -> String {
        let (address, keys) = (exchange.address, self.scratch.path("keys"));
        format!(
            "[broker.{name}]\nkind = \"exchange\"\nexchange = \"sim-{name}\"\n\
             base_url = \"http://{address}\"\nstream_url = \"ws://{address}\"\nkeys_file = {keys:?}\n\
             answer_ms = 1500\nsettle_ms = 500\nsettle_after_error_ms = 1000\npoll_ms = 200\n{more}"
        )
    }

    fn configure(&self, router: &str, brokers: &str) {
        let config = format!(
            "[pipeline]\nmerge = \"arrival\"\nspeed = \"real\"\n[router]\n{router}\n{brokers}\
             [instruments.class.generic]\ntick_size = 0.01\n"
        );
        self.scratch.file("cluster.toml", config);
    }

    pub(crate) fn run(&self, chaos: &str) -> Value {
        self.end(self.start(chaos))
    }

    /// Starts three nodes that trade.
    pub(crate) fn start(&self, chaos: &str) -> Process {
        let config = self.scratch.path("cluster.toml");
        let mut arguments =
            vec!["run", "--nodes", "3", "--data", self.data.to_str().unwrap(), "--config"];
        arguments.push(config.to_str().unwrap());
        if !chaos.is_empty() {
            arguments.extend(["--chaos", chaos]);
        }
        self.scratch.start(self.scratch.command(&arguments))
    }

    /// Waits until they have ended well. Returns their report.
    pub(crate) fn end(&self, process: Process) -> Value {
        let ended = finish(process);
        assert_eq!(ended.code(), 0, "{ended:?}\n{}", self.logs());
        let mut count = 0;
        for text in self.texts() {
            assert_no_secret(&text);
            count += text.len();
        }
        assert!(count > 0, "nothing is in the logs");
        self.scratch.report()
    }

    /// All that each node has said.
    fn texts(&self) -> impl Iterator<Item = String> {
        let files = std::fs::read_dir(self.scratch.path("data/logs")).into_iter().flatten();
        files.flatten().filter_map(|file| std::fs::read_to_string(file.path()).ok())
    }

    /// What the nodes said last.
    pub(crate) fn logs(&self) -> String {
        let mut last = String::new();
        for text in self.texts() {
            let lines: Vec<&str> = text.lines().collect();
            last += &lines[lines.len().saturating_sub(40)..].join("\n");
        }
        last
    }

    /// Everything that the exchanges have written down.
    pub(crate) fn events(&self) -> Vec<Value> {
        let exchanges = std::iter::once(&self.exchange).chain(&self.backup);
        exchanges.flat_map(events_of).collect()
    }

    /// What the exchange has accepted of one of its accounts.
    pub(crate) fn orders_of(&self, account: &str) -> Vec<Value> {
        let is_of = |event: &Value| event["event"] == "order" && event["account"] == account;
        self.events().into_iter().filter(is_of).collect()
    }

    /// That nothing was accepted twice, at all exchanges together: no generation of a slot, and no signal. Returns
    /// the names.
    pub(crate) fn judge_twice(&self) -> BTreeSet<String> {
        let events = self.events();
        let mut ids = BTreeSet::new();
        let (mut generations, mut signals) = (BTreeSet::new(), BTreeSet::new());
        for order in events.iter().filter(|event| event["event"] == "order") {
            let id = order["client_id"].as_str().unwrap().to_owned();
            if !id.starts_with("tw-") {
                continue;
            }
            let (generation, signal) = id.rsplit_once('-').unwrap();
            assert!(signals.insert(signal.to_owned()), "two orders of one signal: {id}");
            let is_first = generations.insert(generation.to_owned());
            assert!(is_first, "two orders of one generation of a slot: {id}");
            ids.insert(id);
        }
        ids
    }

    /// The same, and that `report` has of orders and fills what it has.
    pub(crate) fn judge(&self, report: &Value) {
        let ids = self.judge_twice();
        assert!(ids.len() > 3, "only {} orders", ids.len());
        let fills = self.events().iter().filter(|event| event["event"] == "fill").count();
        assert_eq!(report["fills"], fills, "exec has heard of every fill once");
        assert_eq!(report["orders"]["placed"], ids.len(), "{}", report["orders"]);
        assert_eq!((&report["lost_ticks"], &report["duplicate_orders"]), (&0.into(), &0.into()));
        println!("{} orders, {fills} fills: {}", ids.len(), report["orders"]);
    }
}

/// That neither account's secret is in what somebody has said.
pub(crate) fn assert_no_secret(text: &str) {
    for secret in [SECRET, OTHER_SECRET] {
        let line = text.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "a secret is in a log: {line:?}");
    }
}

/// Faults that the exchange has while it takes orders: two in their turn, so that all of them come about in as many
/// schedules as half of them are, and up to two more.
pub(crate) fn faults(turn: u64, chance: &mut u64) -> Vec<Value> {
    let order = "POST /api/v3/order";
    let seed = draw(chance);
    let all = [
        json!({ "kind": "error_after", "endpoint": order, "probability": 0.3, "seed": seed }),
        json!({ "kind": "error_before", "endpoint": order, "probability": 0.3, "seed": seed }),
        json!({ "kind": "silence_after", "endpoint": order, "probability": 0.2, "seed": seed }),
        json!({ "kind": "silence_before", "endpoint": order, "probability": 0.2, "seed": seed }),
        json!({ "kind": "drop_after", "endpoint": order, "probability": 0.3, "seed": seed }),
        json!({ "kind": "drop_before", "endpoint": order, "probability": 0.3, "seed": seed }),
        json!({ "kind": "delay_before", "ms": 1_800, "endpoint": order, "probability": 0.3, "seed": seed }),
        json!({ "kind": "delay_after", "ms": 1_800, "endpoint": order, "probability": 0.3, "seed": seed }),
        json!({ "kind": "rate_limit", "endpoint": order, "count": 3, "skip": 5 }),
        json!({ "kind": "clock", "ms": 30_000 }),
        json!({ "kind": "clock", "ms": -30_000 }),
        json!({ "kind": "drop_after", "endpoint": "GET /api/v3/order", "probability": 0.3, "seed": seed }),
        json!({ "kind": "silence_before", "endpoint": "GET /api/v3/myTrades", "probability": 0.3, "seed": seed }),
        json!({ "kind": "error_before", "endpoint": "GET /api/v3/allOrders", "probability": 0.4, "seed": seed }),
        json!({ "kind": "drop_after", "endpoint": "DELETE /api/v3/order", "probability": 0.5, "seed": seed }),
        json!({ "kind": "silence_before", "endpoint": "GET /api/v3/time", "probability": 0.3, "seed": seed }),
        json!({ "kind": "repeat", "endpoint": order, "times": 2, "ms": 200, "probability": 0.5, "seed": seed }),
        json!({ "kind": "refuse", "endpoint": order, "probability": 0.3, "seed": seed }),
        // One that jumps back by more than `settle_ms` may take what has expired.
        json!({ "kind": "clock_jump", "endpoint": order, "ms": 4_000, "count": 3, "skip": 3 }),
        json!({ "kind": "clock_jump", "endpoint": order, "ms": -400, "count": 1, "skip": 4 }),
        json!({ "kind": "stream_lose", "probability": 0.4, "seed": seed }),
        json!({ "kind": "stream_duplicate", "probability": 0.5, "seed": seed }),
        json!({ "kind": "stream_delay", "ms": 700, "probability": 0.3, "seed": seed }),
        json!({ "kind": "stream_drop", "probability": 0.2, "seed": seed }),
    ];
    let count = all.len() as u64;
    let mut at = vec![turn * 2 % count, (turn * 2 + 1) % count];
    at.extend((0..draw(chance) % 3).map(|_| draw(chance) % count));
    at.into_iter().map(|at| all[usize::try_from(at).unwrap()].clone()).collect()
}

/// Has the exchange have these faults; returns the number of each. What arrives twice is taken once only by an
/// exchange that remembers every id.
pub(crate) async fn begin_faults(exchange: &Exchange, faults: &[Value]) -> Vec<u64> {
    if faults.iter().any(|fault| fault["kind"] == "repeat") {
        exchange.command("/exchange/capabilities", json!({ "dedup": "all" })).await;
    }
    let mut ids = Vec::new();
    for fault in faults {
        let added = exchange.command("/exchange/faults", fault.clone()).await;
        ids.push(added["ids"][0].as_u64().unwrap());
    }
    ids
}

/// Everything that an exchange has written down.
pub(crate) fn events_of(exchange: &Exchange) -> Vec<Value> {
    let text = std::fs::read_to_string(exchange.log()).unwrap();
    // The last line may be on its way.
    let entries = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    entries.flat_map(|entry| entry["events"].as_array().cloned().unwrap()).collect()
}
