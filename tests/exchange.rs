//! The simulated exchange as a process: who may ask, what is late, what it can do, what it remembers.

mod exchanges;

use std::io::Write;

use exchanges::{Exchange, KEY, SECRET, code, judge, run, sign};
use serde_json::{Value, json};

const ORDER: &str = "/api/v3/order";
const BUY: &str = "symbol=AB&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=100";

#[tokio::test]
async fn only_who_shows_a_key_and_signs_what_is_sent_is_served() {
    let exchange = Exchange::start(&[]);
    let time = exchange.get("/api/v3/time").await["serverTime"].as_u64().unwrap();
    let query = format!("{BUY}&timestamp={time}&recvWindow=60000");
    let signed = format!("{query}&signature={}", sign(SECRET, &query));
    let target = format!("{ORDER}?{signed}");
    assert_eq!(code(&exchange.send("POST", &target, None, "").await), (401, -2014));
    assert_eq!(code(&exchange.send("POST", &target, Some("a b"), "").await), (401, -2014));
    assert_eq!(code(&exchange.send("POST", &target, Some("other"), "").await), (401, -2015));
    let unsigned = format!("{ORDER}?{query}");
    assert_eq!(code(&exchange.send("POST", &unsigned, Some(KEY), "").await), (400, -1102));
    let other = target.replace("quantity=1", "quantity=2");
    assert_eq!(code(&exchange.send("POST", &other, Some(KEY), "").await), (400, -1022));
    assert_eq!(code(&exchange.signed_by((KEY, "other"), "POST", ORDER, BUY).await), (400, -1022));
    assert_eq!(exchange.count("accepted").await, 0);
    // In the query, in the body, and in both.
    assert_eq!(exchange.send("POST", &target, Some(KEY), "").await.unwrap().0, 200);
    assert_eq!(exchange.send("POST", ORDER, Some(KEY), &signed).await.unwrap().0, 200);
    let (head, tail) = query.split_once("&timeInForce").unwrap();
    let body = format!("timeInForce{tail}");
    let body = format!("{body}&signature={}", sign(SECRET, &format!("{head}{body}")));
    let mixed = exchange.send("POST", &format!("{ORDER}?{head}"), Some(KEY), &body).await;
    assert_eq!(mixed.unwrap().0, 200);
    assert_eq!(exchange.count("accepted").await, 3);
}

#[tokio::test]
async fn a_request_is_judged_by_the_exchanges_clock_when_the_engine_takes_it() {
    let exchange = Exchange::start(&[]);
    let time = exchange.get("/api/v3/time").await["serverTime"].as_u64().unwrap();
    let at = |time: u64, window: u64| format!("{BUY}&timestamp={time}&recvWindow={window}");
    for (query, expected) in [
        (at(time - 1_001, 1_000), -1021),
        (at(time + 61_000, 60_000), -1021),
        (at(time, 60_001), -1131),
        (BUY.replace("price", "x-price") + &format!("&timestamp={time}&recvWindow=60000"), -1102),
    ] {
        assert_eq!(code(&exchange.signed("POST", ORDER, &query).await), (400, expected), "{query}");
    }
    assert_eq!(exchange.signed("POST", ORDER, &at(time, 60_000)).await.unwrap().0, 200);
    // It waits longer than it is good for, however soon it came.
    exchange
        .fault(json!({ "kind": "delay_before", "ms": 300, "endpoint": "POST /api/v3/order" }))
        .await;
    assert_eq!(code(&exchange.buy("recvWindow=299").await), (400, -1021));
    let (_, _, placed) = exchange.buy("newClientOrderId=patient").await.unwrap();
    let row = exchange.order("patient").await.unwrap();
    assert_eq!(placed["transactTime"], row["time"]);
    exchange.command("/exchange/capabilities", json!({ "deadline": false })).await;
    assert_eq!(exchange.buy("recvWindow=1").await.unwrap().0, 200, "it cannot tell any more");
}

#[tokio::test]
async fn each_capability_can_be_turned_down_while_it_runs() {
    let exchange = Exchange::start(&["--capability", "dedup=all"]);
    let record = exchange.get("/exchange/capabilities").await;
    let expected = json!({ "dedup": "all", "deadline": true, "query": true, "server_time": true,
        "exclusive_session": false });
    assert_eq!(record, expected);
    let turn = async |what: Value| exchange.command("/exchange/capabilities", what).await;

    assert_eq!(exchange.buy("newClientOrderId=a").await.unwrap().0, 200);
    assert_eq!(code(&exchange.buy("newClientOrderId=a").await), (400, -2010));
    exchange.market(98, 100, 1).await;
    assert_eq!(exchange.order("a").await.unwrap()["status"], "FILLED");
    assert_eq!(
        code(&exchange.buy("newClientOrderId=a").await),
        (400, -2010),
        "also when it is over"
    );
    turn(json!({ "dedup": "open" })).await;
    assert_eq!(exchange.buy("newClientOrderId=a").await.unwrap().0, 200);
    assert_eq!(code(&exchange.buy("newClientOrderId=a").await), (400, -2010));
    turn(json!({ "dedup": "none" })).await;
    assert_eq!(exchange.buy("newClientOrderId=a").await.unwrap().0, 200);
    assert_eq!(exchange.count("accepted_more_than_once").await, 1);

    turn(json!({ "query": false })).await;
    assert_eq!(exchange.order("a").await, Err(-1002));
    for path in ["/api/v3/openOrders", "/api/v3/allOrders", "/api/v3/myTrades"] {
        let answer = exchange.signed("GET", path, "symbol=AB").await;
        assert_eq!(code(&answer), (401, -1002), "{path}");
    }
    turn(json!({ "server_time": false })).await;
    assert_eq!(code(&exchange.send("GET", "/api/v3/time", None, "").await), (401, -1002));

    let session = "/exchange/session";
    assert_eq!(code(&exchange.signed("POST", session, "session=4").await), (401, -1002));
    turn(json!({ "exclusive_session": true })).await;
    assert_eq!(exchange.signed("POST", session, "session=4").await.unwrap().0, 200);
    assert_eq!(code(&exchange.signed("POST", session, "session=4").await), (403, -1002));
    assert_eq!(code(&exchange.buy("session=3").await), (403, -1002));
    assert_eq!(code(&exchange.buy("x-none=1").await), (403, -1002));
    assert_eq!(exchange.buy("session=4").await.unwrap().0, 200);

    let wrong = exchange.send("POST", "/exchange/capabilities", None, r#"{"speed":1}"#).await;
    assert_eq!(wrong.unwrap().0, 400);
}

#[tokio::test]
async fn an_order_goes_through_its_life_and_its_account_is_told() {
    let exchange = Exchange::start(&[]);
    let key = exchange.listen_key().await;
    assert_eq!(exchange.listen_key().await, key, "one for each account");
    let mut listener = exchange.listen(&key).await.unwrap();
    let large = "quantity=5&newClientOrderId=a";
    let query = BUY.replace("quantity=1", large);
    exchange.signed("POST", ORDER, &query).await.unwrap();
    exchange.market(98, 100, 2).await;
    exchange.other_sells(1).await.unwrap();
    let cancel = "symbol=AB&origClientOrderId=a&newClientOrderId=c";
    let gone = exchange.signed("DELETE", ORDER, cancel).await.unwrap().2;
    assert_eq!(
        (gone["status"].as_str(), gone["executedQty"].as_str()),
        (Some("CANCELED"), Some("3.00000000"))
    );
    let mut reports = Vec::new();
    for _ in 0..4 {
        let (what, state, id) = listener.report().await;
        reports.push(format!("{what} {state} {id}"));
    }
    assert_eq!(
        reports,
        [
            "NEW NEW a",
            "TRADE PARTIALLY_FILLED a",
            "TRADE PARTIALLY_FILLED a",
            "CANCELED CANCELED c"
        ]
    );
    let balances = listener.next().await.unwrap();
    assert_eq!(balances["e"], "outboundAccountPosition");
    let expected = json!([{ "a": "A", "f": "1002.99700000", "l": "0.00000000" },
        { "a": "B", "f": "999700.00000000", "l": "0.00000000" }]);
    assert_eq!(balances["B"], expected);
    let account = exchange.signed("GET", "/api/v3/account", "").await.unwrap().2;
    assert_eq!(account["balances"][0]["free"], "1002.99700000");
    let trades = exchange.signed("GET", "/api/v3/myTrades", "symbol=AB&limit=1").await.unwrap().2;
    assert_eq!((trades[0]["id"].as_u64(), trades[0]["isMaker"].as_bool()), (Some(2), Some(true)));
    assert!(exchange.get("/api/v3/exchangeInfo").await["symbols"][0]["filters"].is_array());
    assert_eq!(exchange.get("/api/v3/depth?symbol=AB").await["bids"][0][0], "98.00000000");

    let target = format!("/api/v3/userDataStream?listenKey={key}");
    assert_eq!(exchange.send("PUT", &target, Some(KEY), "").await.unwrap().0, 200);
    assert_eq!(exchange.send("DELETE", &target, Some(KEY), "").await.unwrap().0, 200);
    assert_eq!(listener.next().await, None);
    assert_eq!(code(&exchange.send("PUT", &target, Some(KEY), "").await), (400, -1125));
    assert!(exchange.listen(&key).await.is_err());
}

#[tokio::test]
async fn an_exchange_that_was_killed_is_the_same_when_it_comes_back() {
    let mut exchange = Exchange::start(&["--capability", "dedup=all"]);
    exchange.market(98, 100, 3).await;
    exchange.buy("newClientOrderId=done&x-node=n1").await.unwrap();
    exchange.market(98, 102, 1).await;
    exchange.buy("newClientOrderId=open").await.unwrap();
    exchange.signed("DELETE", ORDER, "symbol=AB&orderId=77").await.unwrap();
    let ask = async |exchange: &Exchange| {
        let mut told = Vec::new();
        for path in
            ["/api/v3/account", "/api/v3/openOrders", "/api/v3/allOrders", "/api/v3/myTrades"]
        {
            let query = if path.ends_with("account") { "" } else { "symbol=AB" };
            let answer = exchange.signed("GET", path, query).await.unwrap();
            assert_eq!(answer.0, 200, "{path}: {answer:?}");
            told.push(answer);
        }
        told
    };
    let before = (ask(&exchange).await, exchange.count("accepted").await);
    let log = std::fs::read_to_string(exchange.log()).unwrap();
    assert!(log.contains(r#""extra":{"x-node":"n1"}"#), "{log}");
    exchange.kill();
    // What was being written when it was killed was told to nobody.
    let mut torn = std::fs::File::options().append(true).open(exchange.log()).unwrap();
    torn.write_all(b"{\"number\":9,\"time\":17").unwrap();
    drop(torn);
    let (exit, told) = judge(&exchange.log());
    assert!(exit == 0 && told.contains("last line is torn"), "{exit} {told}");
    exchange.start_again();
    assert_eq!(exchange.ready["log_torn_bytes"], 21);
    assert_eq!((ask(&exchange).await, exchange.count("accepted").await), before);
    for id in ["done", "open"] {
        let again = exchange.buy(&format!("newClientOrderId={id}")).await;
        assert_eq!(code(&again), (400, -2010), "{id}");
    }
    let placed = exchange.buy("newClientOrderId=next").await.unwrap().2;
    assert_eq!(placed["orderId"], 3);
    assert_eq!(exchange.stop(), Some(0));
}

#[tokio::test]
async fn the_judge_finds_an_id_that_was_accepted_twice_and_damage() {
    let mut exchange = Exchange::start(&["--capability", "dedup=none"]);
    exchange.buy("newClientOrderId=once").await.unwrap();
    let (exit, told) = judge(&exchange.log());
    assert!(exit == 0 && told.contains("accepted more than once          0"), "{exit} {told}");
    let (exit, told) = run(&[
        "--listen",
        "127.0.0.1:0",
        "--account",
        "a=k:s",
        "--log",
        exchange.log().to_str().unwrap(),
    ]);
    assert!(exit == 2 && told.contains("written by another exchange"), "{exit} {told}");
    for _ in 0..2 {
        exchange.buy("newClientOrderId=twice").await.unwrap();
    }
    exchange.kill();
    let (exit, told) = judge(&exchange.log());
    assert!(exit == 1 && told.contains("broken: one: twice was accepted 2 times"), "{exit} {told}");
    let (exit, told) = run(&["--json", "--judge", exchange.log().to_str().unwrap()]);
    let verdict: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((exit, verdict["accepted"].as_u64()), (1, Some(3)));
    let (first, second) =
        (&verdict["more_than_once"][0]["client_id"], &verdict["distinct_client_ids"]);
    assert_eq!((first.as_str(), second.as_u64()), (Some("twice"), Some(2)));

    let text = std::fs::read_to_string(exchange.log()).unwrap();
    std::fs::write(exchange.log(), text.replacen("\"number\":2", "\"nunber\":2", 1)).unwrap();
    let (exit, told) = judge(&exchange.log());
    assert!(exit == 2 && told.contains("log`: line 2 is damaged"), "{exit} {told}");
    let missing = exchange.path("missing");
    assert_eq!(judge(&missing).0, 2);
    assert!(!missing.try_exists().unwrap(), "a judge begins no log");
}

#[tokio::test]
async fn secrets_are_nowhere_to_be_read() {
    let mut exchange = Exchange::start(&["--account", "three=key-of-three:s3cr3t-of-three"]);
    let mut answers = String::new();
    answers += &format!("{:?}", exchange.buy("newClientOrderId=a").await);
    answers += &format!("{:?}", exchange.signed_by((KEY, "wrong"), "POST", ORDER, BUY).await);
    answers += &exchange.get("/exchange/judge").await.to_string();
    answers += &exchange.get("/api/v3/exchangeInfo").await.to_string();
    let ready = exchange.ready.to_string();
    exchange.kill();
    let log = std::fs::read_to_string(exchange.log()).unwrap();
    for (place, text) in
        [("answers", &answers), ("ready", &ready), ("log", &log), ("stderr", &exchange.errors())]
    {
        assert!(!text.contains("s3cr3t"), "{place}: {text}");
        assert!(!text.contains("key-of"), "{place}: {text}");
    }
    for wrong in ["s3cr3t", "=k:s3cr3t", "a b=k:s3cr3t"] {
        let (exit, told) = run(&["--account", wrong]);
        assert!(exit == 2 && !told.contains("s3cr3t"), "{exit} {told}");
    }
}

#[tokio::test]
async fn what_cannot_be_is_refused_before_it_begins() {
    let account = ["--account", "a=k:s"];
    for (more, expected) in [
        (&["--listen", "0.0.0.0:0"][..], "--allow-remote"),
        (&["--symbols", "x"], "symbol `x`"),
        (&["--symbols", "BTCUSDT,BTCUSDT"], "twice"),
        (&["--balance", "B"], "ASSET=AMOUNT"),
        (&["--capability", "speed=1"], "no capability"),
        (&["--fault", r#"{"kind":"explode"}"#], "fault"),
        (&["--data", "/nowhere.csv"], "/nowhere.csv"),
        (&["--keys", "/nowhere"], "/nowhere"),
    ] {
        let (exit, told) = run(&[&account[..], more].concat());
        assert!(exit == 2 && told.contains(expected), "{more:?}: {exit} {told}");
    }
    let (exit, told) = run(&[]);
    assert!(exit == 2 && told.contains("--account"), "{exit} {told}");
}

#[tokio::test]
async fn too_much_is_refused_and_the_rest_goes_on() {
    let exchange = Exchange::start(&["--open-orders-max", "2"]);
    for _ in 0..2 {
        exchange.buy("x-n=1").await.unwrap();
    }
    assert_eq!(code(&exchange.buy("x-n=1").await), (400, -1013));
    let large = "x".repeat(65 << 10);
    assert_eq!(exchange.send("POST", ORDER, Some(KEY), &large).await.unwrap().0, 413);
    assert_eq!(exchange.send("GET", "/api/v3/nothing", None, "").await.unwrap().0, 404);
    exchange.get("/api/v3/ping").await;
}

#[tokio::test]
async fn recorded_quotes_are_the_market_when_there_are_some() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("quotes.csv");
    let quotes = "ts_ns,symbol,kind,bid1,ask1,bid_vol1,ask_vol1\n\
        1723161255000000000,AB.VENUE,quote,97,103,5,5\n\
        1723161255100000000,XY.VENUE,quote,1,2,5,5\n\
        1723161255200000000,AB.VENUE,quote,98,102.5,6,7\n";
    std::fs::write(&path, quotes).unwrap();
    let exchange = Exchange::start(&["--data", path.to_str().unwrap(), "--speed", "100x"]);
    let wait = async {
        loop {
            let ticker = exchange.get("/api/v3/ticker/bookTicker?symbol=AB").await;
            if ticker["bidPrice"] == "98.00000000" {
                return ticker;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let ticker = tokio::time::timeout(exchanges::PATIENCE, wait).await.unwrap();
    assert_eq!(
        (ticker["askPrice"].as_str(), ticker["askQty"].as_str()),
        (Some("102.50000000"), Some("7.00000000"))
    );
}
