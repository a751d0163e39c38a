//! The simulated exchange as a process: each fault on command, and what stands after it.

mod exchanges;

use std::sync::Arc;

use exchanges::{Exchange, code};
use serde_json::json;

const ORDERS: &str = "POST /api/v3/order";

/// What was accepted of the id, if the exchange is asked.
async fn is_there(exchange: &Exchange, id: &str) -> bool {
    match exchange.order(id).await {
        Ok(_) => true,
        Err(code) => {
            assert_eq!(code, -2013);
            false
        }
    }
}

#[tokio::test]
async fn answers_that_say_nothing_come_with_and_without_the_order() {
    let exchange = Exchange::start(&[]);
    for (kind, expected, is_taken) in [
        ("error_before", (503, -1008), false),
        ("error_after", (504, -1007), true),
        ("refuse", (400, -2010), false),
        ("rate_limit", (429, -1003), false),
    ] {
        exchange.fault(json!({ "kind": kind, "endpoint": ORDERS, "count": 1 })).await;
        let answer = exchange.buy(&format!("newClientOrderId={kind}")).await;
        assert_eq!(code(&answer), expected, "{kind}");
        assert_eq!(is_there(&exchange, kind).await, is_taken, "{kind}");
        let other = format!("newClientOrderId=after-{kind}");
        assert_eq!(exchange.buy(&other).await.unwrap().0, 200, "{kind}: it is over");
        exchange.clear().await;
    }
    // With words of one's own.
    for (fault, expected, wait) in [
        (json!({ "kind": "error_after", "code": -1006, "status": 500 }), (500, -1006), None),
        (json!({ "kind": "error_before", "code": -1007, "status": 504 }), (504, -1007), None),
        (json!({ "kind": "refuse", "code": -1013 }), (400, -1013), None),
        (json!({ "kind": "rate_limit", "status": 418, "retry_after": 7 }), (418, -1003), Some(7)),
    ] {
        let ids = exchange.command("/exchange/faults", json!([fault])).await;
        let answer = exchange.buy("x-n=1").await;
        assert_eq!((code(&answer), answer.unwrap().1), (expected, wait), "{fault}");
        let target = format!("/exchange/faults?id={}", ids["ids"][0]);
        assert_eq!(exchange.send("DELETE", &target, None, "").await.unwrap().2["cleared"], 1);
    }
    let wrong = exchange.send("POST", "/exchange/faults", None, r#"{"kind":"explode"}"#).await;
    assert_eq!(wrong.unwrap().0, 400);
}

#[tokio::test]
async fn connections_end_before_and_after_the_order() {
    let exchange = Exchange::start(&[]);
    for (kind, is_taken) in [("drop_before", false), ("drop_after", true)] {
        exchange.fault(json!({ "kind": kind, "endpoint": ORDERS, "count": 1 })).await;
        let answer = exchange.buy(&format!("newClientOrderId={kind}")).await;
        assert!(answer.is_err(), "{kind}: {answer:?}");
        assert_eq!(is_there(&exchange, kind).await, is_taken, "{kind}");
        exchange.clear().await;
    }
}

#[tokio::test]
async fn answers_never_come_and_the_order_is_there_or_not() {
    let exchange = Arc::new(Exchange::start(&[]));
    for (kind, is_taken) in [("silence_after", true), ("silence_before", false)] {
        exchange.fault(json!({ "kind": kind, "endpoint": ORDERS, "count": 1 })).await;
        let sender = Arc::clone(&exchange);
        let id = format!("newClientOrderId={kind}");
        let asking = tokio::spawn(async move { sender.buy(&id).await });
        exchange.has_struck().await;
        if is_taken {
            exchange.comes_to_count("accepted", 1).await;
        }
        assert!(!asking.is_finished(), "{kind}");
        asking.abort();
        assert_eq!(is_there(&exchange, kind).await, is_taken, "{kind}");
        exchange.clear().await;
    }
}

#[tokio::test]
async fn who_leaves_does_not_take_the_order_along() {
    let exchange = Arc::new(Exchange::start(&[]));
    exchange.fault(json!({ "kind": "delay_before", "ms": 1_500, "endpoint": ORDERS })).await;
    let sender = Arc::clone(&exchange);
    let asking = tokio::spawn(async move { sender.buy("newClientOrderId=a").await });
    exchange.has_struck().await;
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    exchange.comes_to_count("accepted", 1).await;
}

#[tokio::test]
async fn answers_come_late_before_or_after_the_order_was_taken() {
    let exchange = Exchange::start(&[]);
    let time = async || exchange.get("/api/v3/time").await["serverTime"].as_u64().unwrap();
    for (kind, is_taken_late) in [("delay_before", true), ("delay_after", false)] {
        exchange.fault(json!({ "kind": kind, "ms": 600, "endpoint": ORDERS })).await;
        let begun = time().await;
        let (_, _, placed) = exchange.buy("x-n=1").await.unwrap();
        let taken = placed["transactTime"].as_u64().unwrap();
        // By the exchange's own clock; it never comes early.
        let late = if is_taken_late { taken - begun } else { time().await - taken };
        assert!(late >= 600, "{kind}: {late}");
        exchange.clear().await;
    }
}

#[tokio::test]
async fn an_order_that_is_taken_twice_is_accepted_as_often_as_its_id_may_be_used() {
    let exchange = Exchange::start(&[]);
    exchange.market(98, 100, 100).await;
    for (dedup, accepted, answer) in
        [("all", 1, (400, -2010)), ("open", 2, (200, 0)), ("none", 2, (200, 0))]
    {
        exchange.command("/exchange/capabilities", json!({ "dedup": dedup })).await;
        exchange.fault(json!({ "kind": "repeat", "endpoint": ORDERS, "count": 1 })).await;
        let before = exchange.count("accepted").await;
        // It is filled at once, so under `open` its id may be used again.
        assert_eq!(
            code(&exchange.buy(&format!("newClientOrderId={dedup}")).await),
            answer,
            "{dedup}"
        );
        assert_eq!(exchange.count("accepted").await - before, accepted, "{dedup}");
    }
    assert_eq!(exchange.count("accepted_more_than_once").await, 2);
    // A repeat that comes after the deadline is refused by it alone.
    exchange.clear().await;
    let late = json!({ "kind": "repeat", "endpoint": ORDERS, "times": 1, "ms": 3_001 });
    exchange.fault(late).await;
    assert_eq!(code(&exchange.buy("newClientOrderId=late&recvWindow=3000").await), (400, -1021));
    assert!(is_there(&exchange, "late").await);
}

#[tokio::test]
async fn the_clock_is_ahead_or_behind_and_jumps() {
    let exchange = Exchange::start(&["--fault", r#"{"kind":"clock","ms":-30000}"#]);
    let time = async || exchange.get("/api/v3/time").await["serverTime"].as_i64().unwrap();
    let own =
        || i64::try_from(tickwright::kit::Clock::system().now().as_nanos() / 1_000_000).unwrap();
    let apart = async || {
        let before = own();
        let there = time().await;
        // Between the two readings of our clock, the exchange's was read.
        (there - own(), there - before)
    };
    let (least, most) = apart().await;
    assert!(least <= -30_000 && -30_000 <= most, "{least} {most}");
    let answer = exchange.buy("recvWindow=60000").await;
    assert_eq!(code(&answer), (400, -1021), "we are half a minute ahead of it");
    exchange.clear().await;
    exchange
        .fault(
            json!({ "kind": "clock_jump", "ms": 90_000, "count": 1, "endpoint": "/api/v3/ping" }),
        )
        .await;
    exchange.get("/api/v3/ping").await;
    exchange.get("/api/v3/ping").await;
    let (least, most) = apart().await;
    assert!(least <= 90_000 && 90_000 <= most, "{least} {most}");
    assert_eq!(code(&exchange.buy("recvWindow=60000").await), (400, -1021), "we are late");
    exchange.clear().await;
    assert_eq!(exchange.buy("recvWindow=60000").await.unwrap().0, 200);
}

#[tokio::test]
async fn news_is_lost_doubled_delayed_or_ends_the_connection() {
    let exchange = Exchange::start(&[]);
    let key = exchange.listen_key().await;
    let mut listener = exchange.listen(&key).await.unwrap();
    let told = async |kind: &str, id: &str| {
        exchange.fault(json!({ "kind": kind, "ms": 20, "count": 1 })).await;
        exchange.buy(&format!("newClientOrderId={id}")).await.unwrap();
    };
    told("stream_lose", "lost").await;
    told("stream_duplicate", "double").await;
    told("stream_delay", "late").await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(listener.report().await.2);
    }
    assert_eq!(ids, ["double", "double", "late"]);
    told("stream_drop", "dropped").await;
    while let Some(message) = listener.next().await {
        assert_eq!(message["e"], "outboundAccountPosition", "what was told before");
    }
    assert!(is_there(&exchange, "dropped").await);
    let mut listener = exchange.listen(&key).await.unwrap();
    exchange.clear().await;
    exchange.buy("newClientOrderId=again").await.unwrap();
    assert_eq!(listener.report().await.2, "again");
}
