//! Exchanges that can do less than Binance's: what is promised for them holds over three processes, while they answer
//! late, never or wrongly and exec's node is killed.

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

use desk::{ask_risk, nodes};
use market::{Market, begin_faults};
use processes::{Node, until};
use serde_json::{Value, json};
use tickwright::ctl::CtlTask;

/// Fifteen seconds of rows at the speed they are read at.
const ROWS: usize = 1_500;

/// The best bid and ask of the market outside.
const BOOK: (&str, &str) = ("9999.99", "10000.01");

const ORDER: &str = "POST /api/v3/order";

/// No deadline, and ids that are taken again: a new session shuts out what is under way.
const SESSIONS: (&str, [&str; 3]) = (
    "has_deadline = false\nhas_exclusive_session = true\ndeduplication = \"none\"\n",
    ["deadline=false", "exclusive_session=true", "dedup=none"],
);

/// Neither deadline nor time nor sessions; every id is taken once, ever. Nobody can find out whether older requests
/// are under way, so a person says so once.
const IDS: (&str, [&str; 3]) = (
    "has_deadline = false\nhas_server_time = false\ndeduplication = \"all\"\nassume_reconciled = true\n",
    ["deadline=false", "server_time=false", "dedup=all"],
);

/// Nothing of either: that it does not know of an order says nothing.
const NOTHING: (&str, [&str; 3]) = (
    "has_deadline = false\nhas_server_time = false\ndeduplication = \"none\"\nassume_reconciled = true\n",
    ["deadline=false", "server_time=false", "dedup=none"],
);

/// Neither orders nor trades can be asked for.
const SILENT: (&str, [&str; 3]) = (
    "has_query = false\ndeduplication = \"none\"\nassume_reconciled = true\n",
    ["query=false", "dedup=none", "server_time=true"],
);

/// A market whose exchange can do what both sides say.
async fn market(seed: u64, rows: usize, (config, capabilities): (&str, [&str; 3])) -> Market {
    let market = Market::open(seed, rows, BOOK, config).await;
    let changes = capabilities.map(|text| text.split_once('=').unwrap());
    let changes: serde_json::Map<String, Value> = changes
        .into_iter()
        .map(|(key, value)| {
            (key.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| value.into()))
        })
        .collect();
    market.exchange.command("/exchange/capabilities", Value::from(changes)).await;
    market
}

async fn whatever_fails(seed: u64, can: (&str, [&str; 3])) {
    let market = market(seed, ROWS, can).await;
    let of =
        |kind: &str| json!({ "kind": kind, "endpoint": ORDER, "probability": 0.25, "seed": seed });
    let late = json!({
        "kind": "delay_before", "ms": 1_800, "endpoint": ORDER, "probability": 0.2, "seed": seed,
    });
    let faults = [of("drop_after"), of("error_after"), of("silence_before"), late];
    begin_faults(&market.exchange, &faults).await;
    let report = market.run("kill:exec-1@50%");
    market.judge(&report);
    assert!(
        report["orders"]["unknown"].as_u64().is_some_and(|count| count > 0),
        "{}",
        report["orders"]
    );
}

#[tokio::test]
async fn sessions_that_shut_out_earlier_ones_take_the_place_of_deadlines() {
    whatever_fails(41, SESSIONS).await;
}

#[tokio::test]
async fn ids_that_are_taken_once_take_the_place_of_both() {
    whatever_fails(42, IDS).await;
}

/// The orders that wait for a person, by name.
fn put_aside(node: &Node) -> BTreeSet<String> {
    let found = node.ask(&CtlTask::Reconcile { adopt: false }, None).unwrap_or_default();
    let orders = found["accounts"][0]["orders"].as_array().cloned().unwrap_or_default();
    let waits = |order: &&Value| order["doing"].as_str().is_some_and(|it| it.contains("release"));
    orders.iter().filter(waits).filter_map(|it| it["client_id"].as_str().map(Into::into)).collect()
}

/// One that the exchange has accepted, and one that it never saw.
#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_can_find_out_about_closes_its_slot_until_a_person_has_looked() {
    const NAMES: [(&str, &str); 3] =
        [("data-1", "data,control"), ("calc-1", "calc,control"), ("exec-1", "exec,control")];
    let market = market(43, 6_000, NOTHING).await;
    // Nor does the exchange tell by itself.
    let silent = json!({ "kind": "stream_lose", "probability": 1.0, "seed": 1 });
    let drops = |kind, skip| json!({ "kind": kind, "endpoint": ORDER, "count": 1, "skip": skip });
    let faults = [silent, drops("drop_after", 2), drops("drop_before", 4)];
    begin_faults(&market.exchange, &faults).await;
    let mut nodes = nodes(&market, &NAMES, |_| Vec::new());
    until("two orders wait for a person", || put_aside(&nodes[0]).len() == 2);
    let waiting = put_aside(&nodes[0]);
    // Whoever has exec next knows of them as well.
    nodes[2].kill();
    nodes[2].start();
    until("they wait still", || put_aside(&nodes[0]) == waiting);
    let accepted = market.judge_twice();
    let slot_of = |id: &str| id.rsplitn(3, '-').last().unwrap().to_owned();
    for id in &waiting {
        let is_there = accepted.contains(id);
        println!("{id} is there: {is_there}");
        let task = CtlTask::Release { client_id: id.clone(), is_there };
        // While the ledger is read it is not known here that it waits.
        until("it is released", || nodes[0].ask(&task, None).is_ok());
    }
    assert_eq!(waiting.iter().filter(|id| accepted.contains(*id)).count(), 1);
    until("nothing waits", || put_aside(&nodes[0]).is_empty());
    for id in &waiting {
        let slot = slot_of(id);
        until("its slot is used again", || {
            market.judge_twice().iter().any(|it| slot_of(it) == slot && !accepted.contains(it))
        });
    }
    let report = ask_risk(&nodes[0], &"Report".into()).unwrap();
    println!("{} orders accepted; {report}", market.judge_twice().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn where_neither_orders_nor_trades_can_be_asked_for_nothing_is_opened_and_that_is_said() {
    let market = market(44, 6_000, SILENT).await;
    let nodes = nodes(&market, &[("all-1", "data,calc,exec,control")], |_| Vec::new());
    until("orders have passed risk and wait", || {
        let report = ask_risk(&nodes[0], &"Report".into()).unwrap_or_default();
        report["open"].as_u64().is_some_and(|open| open >= 3)
    });
    let said = nodes[0].all_logs();
    assert!(said.contains("cannot be asked for (has_query = false)"), "{said}");
    assert_eq!(market.judge_twice().len(), 0);
}
