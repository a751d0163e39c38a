//! Orders at an exchange, over three processes, while the exchange misbehaves and exec's node is lost. The
//! exchange is the judge: it counts what it accepted.

#![allow(dead_code, reason = "helpers for several test files")]
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;
mod exchanges;

use std::collections::BTreeSet;
use std::path::PathBuf;

use common::{Scratch, csv_market, draw};
use exchanges::{Exchange, KEY, SECRET};
use serde_json::{Value, json};

const SYMBOLS: [(&str, &str); 4] = [("SHA", "RED"), ("F0", "S1"), ("F0", "S2"), ("F0", "S3")];

/// Fifteen seconds of rows at the speed they are read at.
const ROWS: usize = 1_500;

/// What befalls the nodes, in turn.
const CHAOS: [&str; 4] = ["", "kill:exec-1@50%", "pause:exec-1@40%:5s", "restart:exec-1@60%:2s"];

struct Market {
    scratch: Scratch,
    exchange: Exchange,
    data: PathBuf,
}

impl Market {
    async fn open(seed: u64) -> Self {
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
            let symbol = format!("{base}{quote}");
            // In the middle of where the data is, so that some orders trade and others do not.
            let book = json!({
                "symbol": symbol, "bid": "9999.99", "bid_quantity": "1000000",
                "ask": "10000.01", "ask_quantity": "1000000",
            });
            exchange.command("/exchange/market", book).await;
        }
        let scratch = Scratch::new();
        let data = csv_market(scratch.directory.path(), 1, ROWS, seed).remove(0);
        let keys = scratch.file("keys", format!("{KEY}:{SECRET}\n"));
        let config = format!(
            "[pipeline]\nmerge = \"arrival\"\nspeed = \"real\"\n\
             [router]\nhas_backup = false\n\
             [broker.primary]\nkind = \"exchange\"\nexchange = \"sim\"\n\
             base_url = \"http://{}\"\nkeys_file = {keys:?}\nanswer_ms = 1500\nsettle_ms = 500\n\
             settle_after_error_ms = 1000\npoll_ms = 200\n\
             [instruments.class.generic]\ntick_size = 0.01\n",
            exchange.address
        );
        scratch.file("cluster.toml", config);
        Self { scratch, exchange, data }
    }

    fn run(&self, chaos: &str) -> Value {
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

    /// What the exchange has written down of orders and fills.
    fn judge(&self, report: &Value) {
        let text = std::fs::read_to_string(self.exchange.log()).unwrap();
        let events = text.lines().flat_map(|line| {
            let entry: Value = serde_json::from_str(line).unwrap();
            entry["events"].as_array().unwrap().clone()
        });
        let events: Vec<Value> = events.collect();
        let (mut ids, mut signals) = (BTreeSet::new(), BTreeSet::new());
        for order in events.iter().filter(|event| event["event"] == "order") {
            let id = order["client_id"].as_str().unwrap().to_owned();
            let signal = id.rsplit('-').next().unwrap().to_owned();
            assert!(signals.insert(signal), "two orders of one signal: {id}");
            assert!(ids.insert(id.clone()), "{id} was accepted twice");
        }
        assert!(ids.len() > 3, "only {} orders", ids.len());
        let fills = events.iter().filter(|event| event["event"] == "fill").count();
        assert_eq!(report["fills"], fills, "exec has heard of every fill once");
        assert_eq!(report["orders"]["placed"], ids.len(), "{}", report["orders"]);
        assert_eq!((&report["lost_ticks"], &report["duplicate_orders"]), (&0.into(), &0.into()));
        println!("{} orders, {fills} fills: {}", ids.len(), report["orders"]);
    }
}

/// Faults that the exchange may have while it takes orders.
fn faults(chance: &mut u64) -> Vec<Value> {
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

async fn one(number: u64) {
    let mut chance = number.wrapping_mul(0x9e37_79b9).wrapping_add(7);
    let market = Market::open(number + 1).await;
    let faults = if number == 0 { Vec::new() } else { faults(&mut chance) };
    let chaos = CHAOS[usize::try_from(number).unwrap() % CHAOS.len()];
    println!("schedule {number}: {chaos:?} {}", Value::from(faults.clone()));
    for fault in faults {
        market.exchange.fault(fault).await;
    }
    let report = market.run(chaos);
    market.judge(&report);
}

/// `TICKWRIGHT_SCHEDULES=100` runs so many, `TICKWRIGHT_SCHEDULE=7` runs that one alone.
#[tokio::test]
async fn the_exchange_accepts_nothing_twice_whatever_it_and_execs_node_do() {
    let number = |name| std::env::var(name).ok().map(|text: String| text.parse().unwrap());
    if let Some(number) = number("TICKWRIGHT_SCHEDULE") {
        return one(number).await;
    }
    for schedule in 0..number("TICKWRIGHT_SCHEDULES").unwrap_or(6) {
        one(schedule).await;
    }
}
