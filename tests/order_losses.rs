//! What is kept is lost in mid-run, on every node at once: all journals and checkpoints, or the ledger. The
//! exchange accepts nothing twice all the same, and positions are brought to what it has.

#![allow(dead_code, reason = "helpers for several test files")]
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;
#[path = "exchanges/desk.rs"]
mod desk;
mod exchanges;
#[path = "exchanges/market.rs"]
mod market;
mod processes;
#[path = "redis_server/mod.rs"]
mod redis_server;

use std::collections::BTreeMap;
use std::time::Duration;

use common::wipe;
use desk::{ask_risk, assert_positions, held, net, nodes};
use market::Market;
use processes::{Node, until};
use redis_server::RedisServer;
use serde_json::Value;
use tickwright::ctl::CtlTask;
use tickwright_core::records::{Filter, Question, Topic};

/// A minute of rows at the speed they are read at.
const ROWS: usize = 6_000;

const NAMES: [(&str, &str); 3] =
    [("data-1", "data,control"), ("calc-1", "calc,control"), ("exec-1", "exec,control")];

fn accepted(market: &Market) -> usize {
    market.events().iter().filter(|event| event["event"] == "order").count()
}

/// Trades, loses what is not `kept` everywhere, and trades on.
async fn lose(seed: u64, kept: impl Fn(&str) -> bool) {
    lose_with(seed, kept, None, |_| Vec::new()).await;
}

async fn lose_with(
    seed: u64,
    kept: impl Fn(&str) -> bool,
    mut redis: Option<RedisServer>,
    more: impl FnMut(&str) -> Vec<String>,
) -> (BTreeMap<String, f64>, Vec<Node>) {
    // Below where the data is: who buys trades.
    let market = Market::open(seed, ROWS, ("9900", "9901"), "").await;
    let mut nodes = nodes(&market, &NAMES, more);
    until("orders are accepted", || accepted(&market) >= 5);
    nodes.iter_mut().for_each(Node::kill);
    let before = accepted(&market);
    for node in &nodes {
        let gone = wipe(&node.directory.path().join("data"), &kept);
        println!("{} loses {gone:?}", node.name);
        assert!(!gone.is_empty());
    }
    if let Some(redis) = &mut redis {
        redis.kill();
        redis.start_again();
    }
    for node in &mut nodes {
        node.start();
    }
    until("orders are accepted again", || accepted(&market) >= before + 3);

    // Everything stands still, so that it can be compared.
    let kill = CtlTask::Kill { what: "all".into(), reason: "to compare".into() };
    let killed = nodes[0].ask_within(Duration::from_secs(10), &kill, None).unwrap();
    assert_eq!(killed["in_effect"], true, "{killed}");
    until("no order is open", || {
        ask_risk(&nodes[0], &"Report".into()).is_some_and(|report| report["open"] == 0)
    });
    // Somebody trades by hand.
    let order = "symbol=SHARED&side=BUY&type=LIMIT&timeInForce=IOC&quantity=3&price=9999\
                 &recvWindow=60000";
    let (status, _, answer) = market.exchange.signed("POST", "/api/v3/order", order).await.unwrap();
    assert_eq!((status, &answer["status"]), (200, &"FILLED".into()), "{answer}");
    // And has an order rest.
    let order = "symbol=SHARED&side=BUY&type=LIMIT&timeInForce=GTC&quantity=2&price=5000\
                 &newClientOrderId=by-hand&recvWindow=60000";
    let (status, _, answer) = market.exchange.signed("POST", "/api/v3/order", order).await.unwrap();
    assert_eq!((status, &answer["status"]), (200, &"NEW".into()), "{answer}");
    let reconcile = |adopt| {
        let task = CtlTask::Reconcile { adopt };
        nodes[0].ask_within(Duration::from_secs(30), &task, None).unwrap()
    };
    let found = reconcile(false);
    assert!(held(&found) != net(&market), "what was traded by hand is not held yet");
    let rests = &found["accounts"][0]["by_others"];
    assert_eq!((&rests[0]["client_id"], &rests[1]), (&"by-hand".into(), &Value::Null), "{found}");
    assert_eq!((&rests[0]["symbol"], &rests[0]["side"]), (&"SHARED".into(), &"BUY".into()));
    let found = reconcile(true);
    println!("{}", tickwright::ctl::text(&CtlTask::Reconcile { adopt: true }, &found));
    assert_eq!(found["accounts"][0]["is_complete"], true, "{found}");
    // Exec has taken it by the time of the answer.
    assert_eq!(held(&found), net(&market), "{found}");
    let done = |row: &Value| {
        row["done"].as_str().is_some_and(|done| done.contains("what those trades came to"))
    };
    assert!(found["accounts"][0]["traded"].as_array().unwrap().iter().any(done), "{found}");
    assert_positions(&nodes[0], &market);
    assert!(net(&market).len() > 1, "{:?}", net(&market));
    market.judge_twice();
    let told: Vec<String> = nodes.iter().map(Node::all_logs).collect();
    assert!(told.iter().any(|log| log.contains("rebuilt from the exchange")), "{told:?}");
    // Brokers stop with the exchange, and what is held stays.
    (held(&found), nodes)
}

#[tokio::test(flavor = "multi_thread")]
async fn journals_and_checkpoints_of_every_node_are_lost() {
    lose(21, |name| name != "journal").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_of_every_node_is_lost() {
    lose(22, |name| !name.starts_with("ledger")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_lost() {
    lose(23, |_| false).await;
}

/// The file of the database, what Redis had, and every journal, at once: only the ledger is left.
#[tokio::test(flavor = "multi_thread")]
async fn database_locks_and_journals_of_every_node_are_lost_together() {
    let redis = redis_server::is_there("losing its locks too").then(|| RedisServer::start(&[]));
    let mut sets = vec!["database.kind=sqlite".to_owned()];
    if let Some(redis) = &redis {
        sets.push("locks.backend=redis".to_owned());
        sets.push(format!("locks.redis_urls={}", redis.url()));
    }
    let kept = |name: &str| name.starts_with("ledger");
    let options = |_: &str| sets.iter().flat_map(|set| ["--set".to_owned(), set.clone()]).collect();
    let (held, nodes) = lose_with(24, kept, redis, options).await;
    let told = |node: &Node| node.all_logs().contains("what was recorded before is not in it");
    assert!(nodes.iter().any(told), "exec goes on from the exchange, and its database is new");
    // What is held is in the new file too.
    let asked = CtlTask::Records(Question { topic: Topic::Positions, filter: Filter::default() });
    until("the database says what is held", || {
        nodes.iter().any(|node| {
            let found = node.ask(&asked, Some(&node.name)).unwrap_or_default();
            let rows = found["rows"].as_array().cloned().unwrap_or_default();
            let of = |row: &Value| {
                let symbol = row[2].as_str()?.split('.').next()?.to_owned();
                Some((symbol, row[6].as_str()?.parse::<f64>().ok()?))
            };
            let said: BTreeMap<String, f64> = rows.iter().filter_map(of).collect();
            held.iter().all(|(symbol, quantity)| said.get(symbol) == Some(quantity))
        })
    });
}
