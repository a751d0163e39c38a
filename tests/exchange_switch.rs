//! A kill switch before an exchange: orders that rest there are cancelled, none follow, whoever has exec, and
//! only a person lets them pass again.

#![allow(dead_code, reason = "helpers for several test files")]
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;
#[path = "exchanges/desk.rs"]
mod desk;
mod exchanges;
#[path = "exchanges/market.rs"]
mod market;
mod processes;

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use common::wipe;
use desk::{ask_risk, nodes};
use exchanges::{OTHER_KEY, OTHER_SECRET};
use market::Market;
use processes::{Node, until};
use serde_json::{Value, json};
use tickwright::ctl::CtlTask;

/// A minute of rows at the speed they are read at.
const ROWS: usize = 6_000;

const NAMES: [(&str, &str); 3] =
    [("data-1", "data,control"), ("calc-1", "calc,control"), ("exec-1", "exec,control")];

/// How many orders of an account, one of the exchange's, it has cancelled.
fn cancelled_of(market: &Market, account: &str) -> usize {
    let orders = market.orders_of(account);
    let is_of = |number: &Value| orders.iter().any(|order| order["order_id"] == *number);
    let events = market.events();
    let cancelled = events.iter().filter(|event| event["status"] == "CANCELED");
    cancelled.filter(|event| is_of(&event["order_id"])).count()
}

/// Orders that the exchange has accepted, and those that it has cancelled.
fn counts(market: &Market) -> (usize, usize) {
    let events = market.events();
    let of = |kind: &str| events.iter().filter(|event| event["event"] == kind).count();
    let cancelled = events.iter().filter(|event| event["status"] == "CANCELED").count();
    (of("order"), cancelled)
}

/// The exchange's numbers of the orders that it has accepted.
fn accepted(market: &Market, is_meant: impl Fn(&Value) -> bool) -> BTreeSet<u64> {
    let events = market.events().into_iter();
    let orders = events.filter(|event| event["event"] == "order" && is_meant(&event["symbol"]));
    orders.filter_map(|order| order["order_id"].as_u64()).collect()
}

/// Those that it has cancelled.
fn cancelled(market: &Market) -> BTreeSet<u64> {
    let events = market.events().into_iter();
    let cancelled = events.filter(|event| event["status"] == "CANCELED");
    cancelled.filter_map(|event| event["order_id"].as_u64()).collect()
}

/// In how many symbols it has accepted orders.
fn symbols(market: &Market) -> usize {
    let events = market.events();
    let orders = events.iter().filter(|event| event["event"] == "order");
    orders.filter_map(|order| order["symbol"].as_str()).collect::<BTreeSet<_>>().len()
}

/// What the exchange calls a symbol.
fn name_of(symbol: &str) -> &str {
    symbol.split('.').next().unwrap()
}

/// A symbol, as it is called here, in which orders were accepted and the account has what is `listed`.
fn symbol_in(market: &Market, node: &Node, listed: &str) -> String {
    let (task, mut found) = (CtlTask::Reconcile { adopt: false }, None);
    until(&format!("something is in its {listed}"), || {
        let told = node.ask_within(Duration::from_secs(10), &task, None).unwrap_or_default();
        let rows = told["accounts"][0][listed].as_array().cloned().unwrap_or_default();
        let mut symbols = rows.iter().filter_map(|row| row["symbol"].as_str());
        let has_orders = |symbol: &&str| !accepted(market, |it| *it == *name_of(symbol)).is_empty();
        found = symbols.find(has_orders).map(str::to_owned);
        found.is_some()
    });
    found.unwrap()
}

/// Stops it, or lets it go on, and has exec go by that.
fn turn(node: &Node, task: &CtlTask) {
    let turned = node.ask_within(Duration::from_secs(10), task, None).unwrap();
    assert_eq!((&turned["is_agreed"], &turned["in_effect"]), (&json!(true), &json!(true)));
}

fn denied_by_switch(node: &Node) -> u64 {
    let report = ask_risk(node, &"Report".into()).unwrap_or_default();
    report["denied"]["kill_switch"].as_u64().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stopped_is_cancelled_and_stays_stopped_whoever_has_exec() {
    // Nothing trades: what is not cancelled rests.
    let market = Market::open(5, ROWS, ("0.01", "90000"), "rest_ms = 600000\n").await;
    let mut nodes = nodes(&market, &NAMES, |_| Vec::new());
    until("orders rest at the exchange", || counts(&market).0 >= 3 && symbols(&market) >= 2);

    let kill = |what: &str| CtlTask::Kill { what: what.into(), reason: "a test".into() };
    let unknown = nodes[0].ask(&kill("strategy:nobody"), None).unwrap_err().to_string();
    assert!(unknown.contains("cannot stop strategy \"nobody\"; there are: "), "{unknown}");
    let rearm = |what: &str| CtlTask::Rearm { what: what.into(), reason: "all is well".into() };
    let not_stopped = nodes[0].ask(&rearm("all"), None).unwrap_err().to_string();
    assert!(not_stopped.contains("all is not stopped"), "{not_stopped}");

    // Of one symbol what rests is cancelled, and what rests of others stays.
    let symbol = symbol_in(&market, &nodes[0], "orders");
    let name = name_of(&symbol).to_owned();
    turn(&nodes[0], &kill(&format!("symbol:{symbol}")));
    let of_it = || accepted(&market, |symbol| *symbol == name);
    until("what rested of it is cancelled, and nothing else", || cancelled(&market) == of_it());
    assert!(!of_it().is_empty() && counts(&market).0 > of_it().len(), "{symbol}");
    turn(&nodes[0], &rearm(&format!("symbol:{symbol}")));

    let killed = nodes[0].ask(&kill("all"), None).unwrap();
    assert_eq!((&killed["is_agreed"], &killed["in_effect"]), (&true.into(), &true.into()));
    until("what rested is cancelled", || {
        let (accepted, cancelled) = counts(&market);
        accepted == cancelled
    });
    let stopped_at = counts(&market).0;
    until("signals are denied", || denied_by_switch(&nodes[0]) > 3);
    assert_eq!(counts(&market).0, stopped_at);

    // Whoever has exec is lost, with its disk, and another goes on.
    nodes.remove(2);
    until("exec is elsewhere, and stopped", || {
        ask_risk(&nodes[0], &"Stopped".into())
            .is_some_and(|stopped| stopped == Value::from(vec!["all"]))
    });
    let denied = denied_by_switch(&nodes[0]);
    until("it denies", || denied_by_switch(&nodes[0]) > denied);
    assert_eq!(counts(&market).0, stopped_at, "stopped is stopped");

    let switches = nodes[1].ask(&CtlTask::Switches, None).unwrap();
    assert_eq!(switches[0]["what"], "all");
    assert_eq!((&switches[0]["is_on"], &switches[0]["in_effect"]), (&true.into(), &true.into()));
    let rearmed = nodes[1].ask(&rearm("all"), None).unwrap();
    assert_eq!(rearmed["in_effect"], true, "{rearmed}");
    until("orders go out again", || counts(&market).0 > stopped_at);
}

/// Every node is down at once; what was stopped before is stopped after that, and nothing else is.
#[tokio::test(flavor = "multi_thread")]
async fn a_symbol_that_is_stopped_stays_so_when_all_nodes_come_back_and_the_others_trade_on() {
    // Below where the data is: who buys trades.
    let market = Market::open(8, ROWS, ("9900", "9901"), "").await;
    let mut nodes = nodes(&market, &NAMES, |_| Vec::new());
    until("two symbols are traded", || symbols(&market) >= 2);
    let symbol = symbol_in(&market, &nodes[0], "traded");
    let name = name_of(&symbol).to_owned();
    let of_it = || accepted(&market, |symbol| *symbol == name).len();
    let of_others = || accepted(&market, |symbol| *symbol != name).len();

    let what = format!("symbol:{symbol}");
    turn(&nodes[0], &CtlTask::Kill { what: what.clone(), reason: "a test".into() });
    until("its signals are denied", || denied_by_switch(&nodes[0]) > 3);
    let (stopped_at, others) = (of_it(), of_others());
    until("the others trade on", || of_others() >= others + 3);

    nodes.iter_mut().for_each(Node::kill);
    for node in &mut nodes {
        node.start();
    }
    until("exec is back, and the symbol stopped", || {
        ask_risk(&nodes[0], &"Stopped".into()).is_some_and(|stopped| stopped == json!([what]))
    });
    let (denied, others) = (denied_by_switch(&nodes[0]), of_others());
    until("its signals are denied still", || denied_by_switch(&nodes[0]) > denied);
    until("the others trade on after that", || of_others() >= others + 3);
    assert_eq!(of_it(), stopped_at, "stopped is stopped");
    turn(&nodes[1], &CtlTask::Rearm { what, reason: "all is well".into() });
    until("it trades again", || of_it() > stopped_at);
    market.judge_twice();
}

/// Journals are gone and parameters are other ones: no strategy asks for what rests, in slots of the ledger, any more.
#[tokio::test(flavor = "multi_thread")]
async fn orders_that_nobody_asks_for_any_more_are_stopped_as_well() {
    let (book, keys) = (("0.01", "90000"), format!("{OTHER_KEY}:{OTHER_SECRET}"));
    let market = Market::open_for_two(6, ROWS, book, &keys, "rest_ms = 600000\n").await;
    let mut nodes = nodes(&market, &NAMES, |_| Vec::new());
    let rest = |account: &str| market.orders_of(account).len();
    until("orders rest at the exchange", || rest("one") >= 2 && rest("two") >= 2);
    nodes.iter_mut().for_each(Node::kill);
    let rested = ["one", "two"].map(rest);
    for node in &nodes {
        wipe(&node.directory.path().join("data"), |name| name == "ledger");
    }
    // Of twenty prices none is five deviations from their mean.
    let config = market.scratch.path("cluster.toml");
    let text = fs::read_to_string(&config).unwrap();
    assert_eq!(text.matches("width = 2.0").count(), 2, "{text}");
    fs::write(&config, text.replace("width = 2.0", "width = 5.0")).unwrap();
    for node in &mut nodes {
        node.start();
    }
    let under_way = || {
        let found = nodes[0].ask(&CtlTask::Reconcile { adopt: false }, None).unwrap_or_default();
        let of = |account: &Value| account["orders"].as_array().map_or(0, Vec::len);
        found["accounts"].as_array().map_or(0, |accounts| accounts.iter().map(of).sum())
    };
    until("they are under way again", || under_way() == rested[0] + rested[1]);
    assert_eq!(["one", "two"].map(|account| cancelled_of(&market, account)), [0, 0]);

    let kill = |what: &str| CtlTask::Kill { what: what.into(), reason: "a test".into() };
    assert_eq!(nodes[0].ask(&kill("account:main"), None).unwrap()["is_agreed"], true);
    until("one account's are cancelled", || cancelled_of(&market, "one") == rested[0]);
    assert_eq!(cancelled_of(&market, "two"), 0);
    assert_eq!(nodes[0].ask(&kill("strategy:right"), None).unwrap()["is_agreed"], true);
    until("and so are those of a strategy", || cancelled_of(&market, "two") == rested[1]);
    assert_eq!(["one", "two"].map(rest), rested, "nothing was placed");
    market.judge_twice();
}
