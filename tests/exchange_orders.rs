//! Orders at an exchange, over three processes, while the exchange misbehaves and exec's node is lost. The
//! exchange is the judge: it counts what it accepted.

#![allow(dead_code, reason = "helpers for several test files")]
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;
#[path = "exchanges/encrypted.rs"]
mod encrypted;
mod exchanges;
#[path = "exchanges/market.rs"]
mod market;

use std::sync::atomic::{AtomicU64, Ordering};

use encrypted::Authority;
use market::{Market, begin_faults, events_of, faults, stand_still};
use serde_json::{Value, json};

use common::PATIENCE;
use exchanges::Exchange;

/// Fifteen seconds of rows at the speed they are read at.
const ROWS: usize = 1_500;

/// The best bid and ask of the market outside.
const BOOK: (&str, &str) = ("9999.99", "10000.01");

/// What befalls the nodes, in turn.
const CHAOS: [&str; 4] = ["", "kill:exec-1@50%", "pause:exec-1@40%:5s", "restart:exec-1@60%:2s"];

async fn one(number: u64) {
    let mut chance = number.wrapping_mul(0x9e37_79b9).wrapping_add(7);
    let market = Market::open(number + 1, ROWS, BOOK, "").await;
    let faults = if number == 0 { Vec::new() } else { faults(number, &mut chance) };
    let chaos = CHAOS[usize::try_from(number).unwrap() % CHAOS.len()];
    println!("schedule {number}: {chaos:?} {}", Value::from(faults.clone()));
    begin_faults(&market.exchange, &faults).await;
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

/// An order that the primary exchange refuses for certain goes to the backup, and one of which nobody knows
/// does not.
#[tokio::test]
async fn a_backup_gets_what_the_primary_has_refused_and_nothing_else() {
    let router = "failover_threshold = 1000000";
    let market = Market::open_with_backup(7, ROWS, BOOK, router).await;
    let order = "POST /api/v3/order";
    for fault in [
        json!({ "kind": "rate_limit", "endpoint": order, "probability": 0.4, "seed": 1 }),
        json!({ "kind": "drop_after", "endpoint": order, "probability": 0.3, "seed": 2 }),
        json!({ "kind": "error_after", "endpoint": order, "probability": 0.3, "seed": 3 }),
    ] {
        market.exchange.fault(fault).await;
    }
    let report = market.run("kill:exec-1@50%");
    market.judge(&report);
    let accepted =
        |exchange| events_of(exchange).iter().filter(|event| event["event"] == "order").count();
    let (first, second) = (accepted(&market.exchange), accepted(market.backup.as_ref().unwrap()));
    println!("{first} at the primary, {second} at the backup");
    assert!(first > 0 && second > 0, "{first} at the primary, {second} at the backup");
}

/// The primary never takes the first requests, and says nothing. That an order is not there is known once it cannot
/// arrive any more, and for certain; but it proves nothing against the primary, and nobody else is asked, although one
/// failure would do.
#[tokio::test]
async fn what_was_unknown_and_is_not_there_in_the_end_is_not_offered_to_the_backup() {
    let market = Market::open_with_backup(13, 2 * ROWS, BOOK, "failover_threshold = 1").await;
    // Two more than there are slots, each of which has one order at a time: so of one order both requests are lost.
    let never = json!({ "kind": "silence_before", "endpoint": "POST /api/v3/order", "count": 10 });
    market.exchange.fault(never).await;
    let report = market.run("");
    market.judge(&report);
    let primary = &report["brokers"][0];
    println!("{} {primary}", report["orders"]);
    assert!(report["orders"]["unknown"].as_u64().unwrap() > 0, "{report}");
    let not_placed = primary["refused"]["unavailable"].as_u64().unwrap_or(0);
    assert!(not_placed > 0, "all were placed: {primary}");
    assert_eq!(primary["failovers"], 0);
    let at_backup = events_of(market.backup.as_ref().unwrap());
    assert!(at_backup.iter().all(|event| event["event"] != "order"), "{at_backup:?}");
}

/// When an exchange has accepted orders, in milliseconds, in order.
fn accepted_at(exchange: &Exchange) -> Vec<u64> {
    let text = std::fs::read_to_string(exchange.log()).unwrap();
    let entries = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let accepted = entries.filter(|entry| {
        entry["events"].as_array().unwrap().iter().any(|event| event["event"] == "order")
    });
    accepted.map(|entry| entry["time"].as_u64().unwrap()).collect()
}

/// Three orders in a row that the primary would not have, and were offered to the backup; from then on orders go
/// there at once, and none to the primary until its time is over; then they do again.
#[tokio::test]
async fn orders_turn_to_the_backup_at_the_threshold_and_return_when_it_is_time() {
    let router = "failover_threshold = 3\nreturn_to_primary_ms = 4000";
    let market = Market::open_with_backup(11, 2 * ROWS, BOOK, router).await;
    let refuses = json!({
        "kind": "rate_limit", "endpoint": "POST /api/v3/order", "skip": 3, "count": 3, "retry_after": 0,
    });
    market.exchange.fault(refuses).await;
    let report = market.run("");
    market.judge(&report);
    let at_primary = accepted_at(&market.exchange);
    let at_backup = accepted_at(market.backup.as_ref().unwrap());
    println!("at the primary {at_primary:?}, at the backup {at_backup:?}");
    let third = at_backup[2];
    assert!(at_primary[2] <= at_backup[0], "the first three");
    // Less a second: the third refusal comes before the third order arrives at the backup.
    let back = at_primary.iter().find(|&&at| at > third).expect("orders return to the primary");
    assert!(*back >= third + 3_000, "{back} is too early after {third}");
    let at_once = at_backup.iter().filter(|&&at| third < at && at < *back).count();
    assert!(at_once > 0, "no order went to the backup at once");
    assert!(!at_backup.iter().any(|at| at > back), "the primary has them again");
}

/// The primary ends in mid-run, and comes back. Nothing that it has accepted is accepted at the backup.
#[tokio::test]
async fn orders_turn_to_the_backup_while_the_primary_is_away() {
    let router = "failover_threshold = 3\nreturn_to_primary_ms = 3000";
    let mut market = Market::open_with_backup(12, 3 * ROWS, BOOK, router).await;
    let mut process = market.start("");
    let since = std::time::Instant::now();
    let mut until = |what: &str, is_so: &dyn Fn() -> bool| {
        while !is_so() {
            let ended = process.ends_within(std::time::Duration::from_millis(20));
            assert!(ended.is_none(), "it has ended before {what}: {:?}", process.said());
            assert!(since.elapsed() < PATIENCE, "never: {what}");
        }
    };
    until("the primary accepts orders", &|| accepted_at(&market.exchange).len() >= 3);
    market.exchange.kill();
    let before = accepted_at(&market.exchange).len();
    until("the backup accepts orders", &|| accepted_at(market.backup.as_ref().unwrap()).len() >= 5);
    market.exchange.come_back();
    stand_still(&market.exchange, BOOK).await;
    until("the primary accepts orders again", &|| {
        accepted_at(&market.exchange).len() >= before + 2
    });
    let report = market.end(process);
    market.judge(&report);
}

/// Over encrypted connections to one that only a file vouches for: orders, and the stream of what became of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_go_encrypted_to_an_exchange_that_is_vouched_for() {
    let authority = Authority::of("127.0.0.1");
    let ca_file = format!("tls_ca_file = {:?}\n", authority.ca_file);
    let market = Market::open(21, ROWS / 2, BOOK, &ca_file).await;
    let (address, passed) = authority.stand_before(market.exchange.address).await;
    market.go_through(address);
    let report = market.run("");
    market.judge(&report);
    let count = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
    assert!(count(&passed.requests) > 0 && count(&passed.streams) > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_told_to_an_exchange_that_nobody_vouches_for() {
    let market = Market::open(21, ROWS, BOOK, "").await;
    let (address, passed) = Authority::of("127.0.0.1").stand_before(market.exchange.address).await;
    market.go_through(address);
    let mut process = market.start("");
    let since = std::time::Instant::now();
    while !market.logs().contains("UnknownIssuer") {
        assert!(since.elapsed() < PATIENCE, "{:?}\n{}", process.said(), market.logs());
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    process.kill();
    let count = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
    assert_eq!(count(&passed.requests) + count(&passed.streams), 0);
}

/// The fourth order is refused for that reason: from then on none is accepted until four seconds are over. Nowhere else do
/// orders leave such a gap.
#[tokio::test]
async fn an_exchange_that_was_asked_too_often_is_left_alone_for_as_long_as_it_says() {
    let market = Market::open(22, ROWS, BOOK, "").await;
    let fault = json!({
        "kind": "rate_limit", "endpoint": "POST /api/v3/order", "skip": 3, "count": 1, "retry_after": 4,
    });
    market.exchange.fault(fault).await;
    let report = market.run("");
    market.judge(&report);
    let accepted = accepted_at(&market.exchange);
    println!("accepted at {accepted:?}");
    let pauses: Vec<u64> = accepted.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // One that was under way just then may have been accepted besides.
    let longest = (0..pauses.len()).max_by_key(|&at| pauses[at]).unwrap();
    assert!((2..5).contains(&longest) && pauses[longest] >= 3_900, "{pauses:?}");
}
