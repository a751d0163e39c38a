//! A pipeline's market: a simulated exchange with an account that is rich, and rows to trade on.
#![allow(dead_code, reason = "every test file uses another part of it")]

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::common::{Scratch, csv_market, draw};
use crate::exchanges::{Exchange, KEY, SECRET};

const SYMBOLS: [(&str, &str); 4] = [("SHA", "RED"), ("F0", "S1"), ("F0", "S2"), ("F0", "S3")];

/// A simulated exchange, and what is to be traded there.
pub(crate) struct Market {
    pub(crate) scratch: Scratch,
    pub(crate) exchange: Exchange,
    pub(crate) backup: Option<Exchange>,
    pub(crate) data: PathBuf,
}

/// An exchange with a market outside that stands still.
async fn exchange((bid, ask): (&str, &str)) -> Exchange {
    let symbols = SYMBOLS
        .map(|(base, quote)| format!("{base}/{quote}:price=10000:tick=0.01:step=1:notional_min=2"));
    let symbols = symbols.join(",");
    let rich = ["SHA", "RED", "F0", "S1", "S2", "S3"].map(|asset| format!("{asset}=1000000000"));
    let mut options = vec!["--symbols", &symbols];
    rich.iter().for_each(|balance| options.extend(["--balance", balance]));
    let exchange = Exchange::start(&options);
    for (base, quote) in SYMBOLS {
        let symbol = format!("{base}{quote}");
        let book = json!({
            "symbol": symbol, "bid": bid, "bid_quantity": "1000000",
            "ask": ask, "ask_quantity": "1000000",
        });
        exchange.command("/exchange/market", book).await;
    }
    exchange
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

    /// The same, with another exchange to fall back on.
    pub(crate) async fn open_with_backup(seed: u64, rows: usize, book: (&str, &str)) -> Self {
        let (first, second) = (exchange(book).await, exchange(book).await);
        let market = Self::new(seed, rows, first, Some(second));
        let backup = market.backup.as_ref().unwrap();
        let brokers =
            market.broker("primary", &market.exchange, "") + &market.broker("backup", backup, "");
        market.configure("has_backup = true\nfailover_threshold = 1000000", &brokers);
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
        let config = self.scratch.path("cluster.toml");
        let mut arguments =
            vec!["run", "--nodes", "3", "--data", self.data.to_str().unwrap(), "--config"];
        arguments.push(config.to_str().unwrap());
        if !chaos.is_empty() {
            arguments.extend(["--chaos", chaos]);
        }
        let ended = self.scratch.run(&arguments);
        assert_eq!(ended.code(), 0, "{ended:?}\n{}", self.logs());
        assert!(!self.logs().contains(SECRET), "a secret is in a log");
        self.scratch.report()
    }

    /// What the nodes said last.
    fn logs(&self) -> String {
        let files = std::fs::read_dir(self.scratch.path("data/logs")).into_iter().flatten();
        let texts = files.flatten().filter_map(|file| std::fs::read_to_string(file.path()).ok());
        let mut last = String::new();
        for text in texts {
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

    /// That it has accepted nothing twice: no name, and no signal. Returns the names.
    pub(crate) fn judge_twice(&self) -> BTreeSet<String> {
        let events = self.events();
        let (mut ids, mut signals) = (BTreeSet::new(), BTreeSet::new());
        for order in events.iter().filter(|event| event["event"] == "order") {
            let id = order["client_id"].as_str().unwrap().to_owned();
            if !id.starts_with("tw-") {
                continue;
            }
            let signal = id.rsplit('-').next().unwrap().to_owned();
            assert!(signals.insert(signal), "two orders of one signal: {id}");
            assert!(ids.insert(id.clone()), "{id} was accepted twice");
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

/// Faults that the exchange may have while it takes orders.
pub(crate) fn faults(chance: &mut u64) -> Vec<Value> {
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
    ];
    let count = 1 + usize::try_from(draw(chance) % 3).unwrap();
    let mut picked = Vec::new();
    for _ in 0..count {
        let at = usize::try_from(draw(chance) % all.len() as u64).unwrap();
        picked.push(all[at].clone());
    }
    picked
}

/// Everything that an exchange has written down.
pub(crate) fn events_of(exchange: &Exchange) -> Vec<Value> {
    let text = std::fs::read_to_string(exchange.log()).unwrap();
    // The last line may be on its way.
    let entries = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    entries.flat_map(|entry| entry["events"].as_array().cloned().unwrap()).collect()
}
