//! Orders at an exchange, over three processes, while the exchange misbehaves and exec's node is lost. The
//! exchange is the judge: it counts what it accepted.

#![allow(dead_code, reason = "helpers for several test files")]
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;
mod exchanges;
#[path = "exchanges/market.rs"]
mod market;

use market::{Market, events_of, faults};
use serde_json::{Value, json};

/// Fifteen seconds of rows at the speed they are read at.
const ROWS: usize = 1_500;

/// What befalls the nodes, in turn.
const CHAOS: [&str; 4] = ["", "kill:exec-1@50%", "pause:exec-1@40%:5s", "restart:exec-1@60%:2s"];

async fn one(number: u64) {
    let mut chance = number.wrapping_mul(0x9e37_79b9).wrapping_add(7);
    let market = Market::open(number + 1, ROWS, ("9999.99", "10000.01"), "").await;
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

/// An order that the primary exchange refuses for certain goes to the backup, and one of which nobody knows
/// does not.
#[tokio::test]
async fn a_backup_gets_what_the_primary_has_refused_and_nothing_else() {
    let market = Market::open_with_backup(7, ROWS, ("9999.99", "10000.01")).await;
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
