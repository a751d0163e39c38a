//! Two accounts at one exchange, with the same signals for the same symbols: what each orders is in that account, and
//! nothing that befalls one is felt by the other.

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
use std::time::Duration;

use desk::{ask_risk, held_by, net_of, nodes};
use exchanges::{OTHER_KEY, OTHER_SECRET};
use market::Market;
use processes::{Node, PATIENCE, until};
use serde_json::{Value, json};
use tickwright::ctl::CtlTask;

/// A minute of rows at the speed they are read at.
const ROWS: usize = 6_000;

const NAMES: [(&str, &str); 3] =
    [("data-1", "data,control"), ("calc-1", "calc,control"), ("exec-1", "exec,control")];

/// The accounts, as they are called here and at the exchange, and how much an order of each is of.
const ACCOUNTS: [(&str, &str, f64); 2] = [("main", "one", 1.0), ("second", "two", 2.0)];

fn other_keys() -> String {
    format!("{OTHER_KEY}:{OTHER_SECRET}")
}

/// That every order of the program is in the account it was asked for. Returns how many there are of each.
fn assert_right_accounts(market: &Market) -> [usize; 2] {
    ACCOUNTS.map(|(_, account, quantity)| {
        let orders = market.orders_of(account);
        let is_ours = |order: &&Value| order["client_id"].as_str().unwrap().starts_with("tw-");
        let ours: Vec<&Value> = orders.iter().filter(is_ours).collect();
        for order in &ours {
            let ordered: f64 = order["quantity"].as_str().unwrap().parse().unwrap();
            assert_eq!(ordered, quantity, "{account}: {order}");
        }
        ours.len()
    })
}

fn reconcile(node: &Node, adopt: bool) -> Value {
    let task = CtlTask::Reconcile { adopt };
    let found = node.ask_within(Duration::from_secs(40), &task, None).unwrap();
    println!("{}", tickwright::ctl::text(&task, &found));
    found
}

/// What was found of an account.
fn account<'f>(found: &'f Value, name: &str) -> &'f Value {
    let accounts = found["accounts"].as_array().unwrap();
    accounts.iter().find(|account| account["name"] == name).unwrap()
}

fn kill(node: &Node, what: &str) {
    let task = CtlTask::Kill { what: what.into(), reason: "a test".into() };
    let killed = node.ask_within(Duration::from_secs(10), &task, None).unwrap();
    assert_eq!(killed["in_effect"], true, "{killed}");
}

/// Under faults, with exec's node lost in the middle.
#[tokio::test]
async fn what_each_account_orders_is_in_that_account_also_when_exec_is_lost() {
    let book = ("9999.99", "10000.01");
    let market = Market::open_for_two(31, ROWS / 4, book, &other_keys(), "").await;
    let order = "POST /api/v3/order";
    for fault in [
        json!({ "kind": "drop_after", "endpoint": order, "probability": 0.2, "seed": 3 }),
        json!({ "kind": "error_after", "endpoint": order, "probability": 0.2, "seed": 4 }),
        json!({ "kind": "silence_before", "endpoint": order, "probability": 0.1, "seed": 5 }),
    ] {
        market.exchange.fault(fault).await;
    }
    let report = market.run("kill:exec-1@50%");
    market.judge(&report);
    let [main, second] = assert_right_accounts(&market);
    println!("{main} orders of main, {second} of second");
    // Had one used up the signals of the other, it would have next to none.
    assert!(main.min(second) * 2 > main.max(second), "{main} of main, {second} of second");
}

fn denied_by_switch(node: &Node) -> u64 {
    let report = ask_risk(node, &"Report".into()).unwrap_or_default();
    report["denied"]["kill_switch"].as_u64().unwrap_or(0)
}

/// The numbers of an account's orders.
fn numbers(market: &Market, account: &str) -> BTreeSet<u64> {
    let orders = market.orders_of(account).into_iter();
    orders.filter_map(|order| order["order_id"].as_u64()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_rests_of_an_account_that_is_stopped_is_cancelled_and_what_rests_of_others_stays() {
    // Nothing trades: what is not cancelled rests.
    let (book, more) = (("0.01", "90000"), "rest_ms = 600000\n");
    let market = Market::open_for_two(35, ROWS, book, &other_keys(), more).await;
    let nodes = nodes(&market, &NAMES, |_| Vec::new());
    let count = |account| market.orders_of(account).len();
    until("orders of both rest at the exchange", || count("one") >= 2 && count("two") >= 2);
    kill(&nodes[0], "account:second");
    let cancelled = || -> BTreeSet<u64> {
        let events = market.events();
        let closed = events.iter().filter(|event| event["status"] == "CANCELED");
        closed.filter_map(|event| event["order_id"].as_u64()).collect()
    };
    until("what rested of the second is cancelled", || cancelled() == numbers(&market, "two"));
    until("signals of the second are denied", || denied_by_switch(&nodes[0]) > 3);
    assert_eq!(cancelled(), numbers(&market, "two"), "what the first has resting stays");
    assert_right_accounts(&market);
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_stopped_reconciled_and_adopted_apart() {
    let market = Market::open_for_two(32, ROWS, ("9900", "9901"), &other_keys(), "").await;
    let mut nodes = nodes(&market, &NAMES, |_| Vec::new());
    let count = |account| market.orders_of(account).len();
    until("both accounts trade", || count("one") >= 5 && count("two") >= 5);

    // One is stopped, also for whoever has exec next.
    kill(&nodes[0], "account:second");
    until("signals of the second are denied", || denied_by_switch(&nodes[0]) > 5);
    let (main, second) = (count("one"), count("two"));
    nodes.remove(2);
    until("exec is elsewhere, and the second is stopped", || {
        ask_risk(&nodes[0], &"Stopped".into())
            .is_some_and(|stopped| stopped == json!(["account:second"]))
    });
    until("the first trades on", || count("one") >= main + 3);
    assert_eq!(count("two"), second, "stopped is stopped");

    // Everything stands still, so that it can be compared; and somebody trades by hand.
    kill(&nodes[0], "all");
    until("no order is open", || {
        ask_risk(&nodes[0], &"Report".into()).is_some_and(|report| report["open"] == 0)
    });
    let order = "symbol=SHARED&side=BUY&type=LIMIT&timeInForce=IOC&quantity=3&price=9999\
                 &recvWindow=60000";
    let by = (OTHER_KEY, OTHER_SECRET);
    let answered = market.exchange.signed_by(by, "POST", "/api/v3/order", order).await.unwrap();
    assert_eq!((answered.0, &answered.2["status"]), (200, &"FILLED".into()), "{answered:?}");
    let missing = |found: &Value, name: &str| -> f64 {
        let rows = account(found, name)["traded"].as_array().unwrap().clone();
        let row = rows.iter().find(|row| row["symbol"].as_str().unwrap().starts_with("SHARED"));
        row.map_or(0.0, |row| row["missing"].as_str().unwrap().parse().unwrap())
    };
    let found = reconcile(&nodes[0], false);
    assert_eq!((missing(&found, "main"), missing(&found, "second")), (0.0, 3.0), "{found:#}");
    let found = reconcile(&nodes[0], true);
    for (name, at, _) in ACCOUNTS {
        assert_eq!(account(&found, name)["is_complete"], true, "{found:#}");
        assert_eq!(held_by(&found, name), net_of(&market, at), "{name}: {found:#}");
        assert_eq!(missing(&found, name), 0.0, "{found:#}");
    }
    // By hand in the first too: its adoption is the first of that account, as the other's was.
    let answered = market.exchange.signed("POST", "/api/v3/order", order).await.unwrap();
    assert_eq!(answered.0, 200, "{answered:?}");
    let found = reconcile(&nodes[0], true);
    for (name, at, _) in ACCOUNTS {
        assert_eq!(held_by(&found, name), net_of(&market, at), "{name}: {found:#}");
        assert!(!held_by(&found, name).is_empty(), "{found:#}");
    }
    market.judge_twice();
    assert_right_accounts(&market);
}

/// That one account trades, and that of the other it is said what is wrong.
async fn one_is_wrong(seed: u64, keys: &str, said: &str) {
    let market = Market::open_for_two(seed, ROWS, ("9999.99", "10000.01"), keys, "").await;
    let nodes = nodes(&market, &NAMES, |_| Vec::new());
    until("the first trades", || market.orders_of("one").len() >= 5);
    let found = reconcile(&nodes[0], false);
    let (main, second) = (account(&found, "main"), account(&found, "second"));
    assert_eq!(main["is_complete"], true, "{found:#}");
    assert_eq!(
        (&main["trouble"], &second["is_complete"]),
        (&Value::Null, &false.into()),
        "{found:#}"
    );
    assert!(second["trouble"].as_str().is_some_and(|text| text.contains(said)), "{found:#}");
    let waits = |order: &Value| order["doing"].as_str().unwrap().starts_with("waits");
    assert!(second["orders"].as_array().unwrap().iter().any(waits), "{found:#}");
    let logs: String = nodes.iter().map(Node::all_logs).collect();
    assert!(logs.contains("sim-primary/second") && logs.contains(said), "{logs}");
    let before = market.orders_of("one").len();
    until("the first trades on", || market.orders_of("one").len() >= before + 3);
    let adopt = CtlTask::Reconcile { adopt: true };
    let found = nodes[0].ask_within(PATIENCE * 2, &adopt, None).unwrap();
    assert_eq!(account(&found, "main")["is_complete"], true, "{found:#}");
    let problem = account(&found, "second")["problem"].as_str().unwrap().to_owned();
    assert!(problem.contains("nothing is taken over") && problem.contains(said), "{problem}");
    assert_eq!(market.orders_of("two").len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_whose_key_the_exchange_does_not_know_waits_and_the_other_trades() {
    one_is_wrong(33, &format!("{OTHER_KEY}:wrong"), "-1022").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_whose_keys_cannot_be_read_waits_and_the_other_trades() {
    one_is_wrong(34, "no keys", "does not hold one line").await;
}
