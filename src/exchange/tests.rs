//! The exchange by example. Prices are whole, so that sums can be done in the head.

use super::*;

mod properties;

const NOW: u64 = 1_723_161_255_000;

/// An exchange of AB with two accounts that have 1,000 A and 100,000 B each.
fn exchange(capabilities: Capabilities) -> Exchange {
    exchange_with(capabilities, Bounds::default())
}

fn exchange_with(capabilities: Capabilities, bounds: Bounds) -> Exchange {
    let spec = SymbolSpec::parse("A/B:price=100:tick=1:step=1:notional_min=2").unwrap();
    let mut exchange = Exchange::new(State::new(&[spec], bounds), capabilities);
    let balances = || {
        let (a, b) = (Amount::from_units(1_000), Amount::from_units(100_000));
        BTreeMap::from([("A".to_owned(), a), ("B".to_owned(), b)])
    };
    let accounts = ["one", "two"].map(|name| (name.to_owned(), balances()));
    exchange.start(&accounts.into(), NOW);
    exchange
}

fn plain() -> Exchange {
    exchange(Capabilities::default())
}

fn all() -> Capabilities {
    Capabilities { dedup: Dedup::All, ..Capabilities::default() }
}

fn request(account: &str, endpoint: Endpoint, query: &str) -> Request {
    let query = format!("{query}&timestamp={NOW}");
    let parameters = Parameters::parse(&query, "").unwrap();
    Request { endpoint, account: Some(account.to_owned()), parameters }
}

fn ask(exchange: &mut Exchange, account: &str, endpoint: Endpoint, query: &str) -> Outcome {
    exchange.take(&request(account, endpoint, query), NOW)
}

/// An order with a limit that stays.
fn limit(exchange: &mut Exchange, account: &str, side: &str, quantity: u32, price: u32) -> Value {
    order(exchange, account, &format!("side={side}&quantity={quantity}&price={price}")).unwrap()
}

fn order(exchange: &mut Exchange, account: &str, query: &str) -> Result<Value, ApiError> {
    let time = if query.contains("type=MARKET") || query.contains("timeInForce") {
        ""
    } else {
        "&timeInForce=GTC"
    };
    let kind = if query.contains("type=") { "" } else { "&type=LIMIT" };
    let query = format!("symbol=AB&{query}{time}{kind}");
    ask(exchange, account, Endpoint::PostOrder, &query).answer
}

fn market(exchange: &mut Exchange, bid: (i64, i64), ask: (i64, i64)) -> Outcome {
    let level = |(price, quantity)| Level {
        price: Amount::from_units(price),
        quantity: Amount::from_units(quantity),
    };
    exchange.on_market("AB", Outside::top(level(bid), level(ask)), NOW)
}

fn code(result: Result<Value, ApiError>) -> i32 {
    result.unwrap_err().code
}

fn balance(exchange: &Exchange, account: &str, asset: &str) -> (String, String) {
    let balance = exchange.state().accounts[account].balances[asset];
    (balance.free.to_string(), balance.locked.to_string())
}

#[test]
fn an_order_rests_is_filled_in_part_and_then_whole() {
    let mut exchange = plain();
    let placed = limit(&mut exchange, "one", "BUY", 10, 100);
    assert_eq!((placed["status"].as_str(), placed["orderId"].as_u64()), (Some("NEW"), Some(1)));
    assert_eq!(balance(&exchange, "one", "B"), ("99000.00000000".into(), "1000.00000000".into()));
    let news = market(&mut exchange, (98, 5), (99, 4)).news;
    let kinds: Vec<_> = news.iter().map(|news| news.message["e"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["executionReport", "outboundAccountPosition"]);
    let report = &news[0].message;
    assert_eq!(report["X"], "PARTIALLY_FILLED");
    assert_eq!(
        (report["L"].as_str(), report["l"].as_str()),
        (Some("100.00000000"), Some("4.00000000"))
    );
    assert_eq!((report["N"].as_str(), report["n"].as_str()), (Some("A"), Some("0.00400000")));
    market(&mut exchange, (98, 5), (100, 50));
    let found =
        ask(&mut exchange, "one", Endpoint::GetOrder, "symbol=AB&orderId=1").answer.unwrap();
    assert_eq!(found["status"], "FILLED");
    assert_eq!(found["cummulativeQuoteQty"], "1000.00000000");
    // A thousandth of what was got is the fee.
    assert_eq!(balance(&exchange, "one", "A").0, "1009.99000000");
    assert_eq!(balance(&exchange, "one", "B"), ("99000.00000000".into(), "0.00000000".into()));
    let trades = ask(&mut exchange, "one", Endpoint::GetMyTrades, "symbol=AB&fromId=2").answer;
    let trades = trades.unwrap();
    assert_eq!(trades.as_array().unwrap().len(), 1);
    assert_eq!((trades[0]["id"].as_u64(), trades[0]["isMaker"].as_bool()), (Some(2), Some(true)));
}

#[test]
fn at_one_price_who_came_first_is_filled_first_and_the_outside_last() {
    let mut exchange = plain();
    market(&mut exchange, (90, 9), (101, 9));
    limit(&mut exchange, "one", "SELL", 3, 101);
    limit(&mut exchange, "two", "SELL", 3, 101);
    limit(&mut exchange, "two", "SELL", 2, 100);
    let placed = limit(&mut exchange, "one", "BUY", 10, 101);
    let fills: Vec<_> = placed["fills"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fill| (fill["price"].as_str().unwrap(), fill["qty"].as_str().unwrap()))
        .collect();
    let expected = [
        ("100.00000000", "2.00000000"),
        ("101.00000000", "3.00000000"),
        ("101.00000000", "3.00000000"),
        ("101.00000000", "2.00000000"),
    ];
    assert_eq!(fills, expected);
    let sellers: Vec<_> = exchange.state().markets["AB"]
        .trades
        .iter()
        .map(|trade| trade.fill.seller.as_ref().map(|part| part.order_id))
        .collect();
    assert_eq!(sellers, [Some(3), Some(1), Some(2), None]);
    let depth = ask(&mut exchange, "", Endpoint::GetDepth, "symbol=AB").answer.unwrap();
    assert_eq!(depth["asks"], json!([["101.00000000", "7.00000000"]]), "what was traded is gone");
}

#[test]
fn what_cannot_be_filled_at_once_expires() {
    let mut exchange = plain();
    market(&mut exchange, (90, 9), (100, 4));
    let fok = "side=BUY&price=100&timeInForce=FOK&quantity";
    let placed = order(&mut exchange, "one", &format!("{fok}=5")).unwrap();
    assert_eq!(
        (placed["status"].as_str(), placed["executedQty"].as_str()),
        (Some("EXPIRED"), Some("0.00000000"))
    );
    let placed = order(&mut exchange, "one", &format!("{fok}=1")).unwrap();
    assert_eq!(placed["status"], "FILLED");
    let placed =
        order(&mut exchange, "one", "side=BUY&price=100&timeInForce=IOC&quantity=9").unwrap();
    assert_eq!(
        (placed["status"].as_str(), placed["executedQty"].as_str()),
        (Some("EXPIRED"), Some("3.00000000"))
    );
    let placed = order(&mut exchange, "one", "side=SELL&type=MARKET&quantity=20").unwrap();
    assert_eq!(
        (placed["status"].as_str(), placed["cummulativeQuoteQty"].as_str()),
        (Some("EXPIRED"), Some("810.00000000"))
    );
    assert_eq!(balance(&exchange, "one", "B").1, "0.00000000");
    assert!(exchange.state().accounts["one"].open.is_empty());
}

#[test]
fn a_cancelled_order_gives_back_what_it_had_locked() {
    let mut exchange = plain();
    limit(&mut exchange, "one", "SELL", 5, 100);
    limit(&mut exchange, "two", "BUY", 2, 100);
    let query = "symbol=AB&orderId=1&newClientOrderId=bye";
    let gone = ask(&mut exchange, "one", Endpoint::DeleteOrder, query).answer.unwrap();
    assert_eq!(
        (gone["status"].as_str(), gone["clientOrderId"].as_str()),
        (Some("CANCELED"), Some("bye"))
    );
    assert_eq!(balance(&exchange, "one", "A"), ("998.00000000".into(), "0.00000000".into()));
    assert_eq!(code(ask(&mut exchange, "one", Endpoint::DeleteOrder, query).answer), -2011);
    limit(&mut exchange, "one", "SELL", 5, 100);
    let others = ask(&mut exchange, "two", Endpoint::DeleteOrder, "symbol=AB&orderId=3").answer;
    assert_eq!(code(others), -2011, "somebody else's");
    let all = ask(&mut exchange, "one", Endpoint::DeleteOpenOrders, "symbol=AB").answer.unwrap();
    assert_eq!(all.as_array().unwrap().len(), 1);
    let none = ask(&mut exchange, "one", Endpoint::DeleteOpenOrders, "symbol=AB").answer;
    assert_eq!(code(none), -2011);
}

#[test]
fn every_refusal_has_the_code_of_its_reason() {
    let mut exchange = plain();
    let good = "side=BUY&quantity=1&price=100";
    for (query, expected) in [
        ("quantity=1&price=100", -1102),
        ("side=buy&quantity=1&price=100", -1117),
        ("side=BUY&quantity=1&price=100&type=STOP", -1116),
        ("side=BUY&quantity=1&price=100&timeInForce=GTD", -1115),
        ("side=BUY&quantity=1&price=100&type=MARKET", -1106),
        ("side=BUY&quantity=1", -1102),
        ("side=BUY&quantity=&price=100", -1105),
        ("side=BUY&quantity=x&price=100", -1100),
        ("side=BUY&quantity=1&price=100.5", -1013),
        ("side=BUY&quantity=0&price=100", -1013),
        ("side=BUY&quantity=1&price=1", -1013),
        ("side=BUY&quantity=1001&price=100", -2010),
        ("side=SELL&quantity=1001&price=100", -2010),
        ("side=BUY&quantity=1&price=100&newOrderRespType=ALL", -1130),
        ("side=BUY&quantity=1&price=100&stopPrice=1", -1104),
        ("side=BUY&quantity=1&price=100&newClientOrderId=a%20b", -1100),
        ("side=BUY&type=MARKET&quoteOrderQty=1", -2010),
    ] {
        let query = query.to_owned();
        assert_eq!(code(order(&mut exchange, "one", &query)), expected, "{query}");
    }
    let elsewhere = ask(&mut exchange, "one", Endpoint::PostOrder, &format!("symbol=XY&{good}"));
    assert_eq!(code(elsewhere.answer), -1121);
    let entry = elsewhere.entry.unwrap();
    assert!(matches!(&entry.events[..], [Event::Rejected { code: -1121, .. }]), "{entry:?}");
    assert_eq!(code(ask(&mut exchange, "one", Endpoint::GetOrder, "symbol=AB").answer), -1102);
    let unknown = ask(&mut exchange, "one", Endpoint::GetOrder, "symbol=AB&orderId=7").answer;
    assert_eq!(code(unknown), -2013);
    assert_eq!(exchange.verdict().accepted, 0);
    assert!(order(&mut exchange, "one", good).is_ok());
}

#[test]
fn open_orders_of_an_account_are_bounded_and_orders_that_are_over_forgotten() {
    let bounds = Bounds { open_orders_max: 2, orders_kept: 1, trades_kept: 1 };
    let mut exchange = exchange_with(all(), bounds);
    let id = |id: &str| format!("side=BUY&quantity=1&price=100&newClientOrderId={id}");
    order(&mut exchange, "one", &id("a")).unwrap();
    order(&mut exchange, "one", &id("b")).unwrap();
    assert_eq!(code(order(&mut exchange, "one", &id("c"))), -1013);
    market(&mut exchange, (98, 1), (100, 9));
    let rows = ask(&mut exchange, "one", Endpoint::GetAllOrders, "symbol=AB").answer.unwrap();
    assert_eq!(rows.as_array().unwrap().len(), 1);
    assert_eq!(rows[0]["clientOrderId"], "b");
    let trades = ask(&mut exchange, "one", Endpoint::GetMyTrades, "symbol=AB").answer.unwrap();
    assert_eq!((trades.as_array().unwrap().len(), trades[0]["id"].as_u64()), (1, Some(2)));
    assert_eq!(code(order(&mut exchange, "one", &id("a"))), -2010, "not forgotten as an id");
}

#[test]
fn a_request_is_late_one_millisecond_after_its_window() {
    let mut exchange = plain();
    let query = "symbol=AB&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=100";
    let with = |extra: &str| request("one", Endpoint::PostOrder, &format!("{query}{extra}"));
    for (extra, now, expected) in [
        ("&recvWindow=300", NOW + 300, None),
        ("&recvWindow=300", NOW + 301, Some(-1021)),
        ("", NOW + 5_000, None),
        ("", NOW + 5_001, Some(-1021)),
        ("", NOW - 1_000, None),
        ("", NOW - 1_001, Some(-1021)),
        ("&recvWindow=60000", NOW + 60_000, None),
        ("&recvWindow=60001", NOW, Some(-1131)),
        ("&recvWindow=0", NOW, None),
    ] {
        let answer = exchange.take(&with(extra), now).answer;
        assert_eq!(answer.err().map(|error| error.code), expected, "{extra} {now}");
    }
    exchange.on_capabilities(Capabilities { deadline: false, ..Capabilities::default() }, NOW);
    assert!(exchange.take(&with("&recvWindow=1"), NOW + 99_999).answer.is_ok());
}

#[test]
fn an_id_is_used_once_as_far_as_the_exchange_can_do_that() {
    let id = "side=BUY&quantity=1&price=100&newClientOrderId=a";
    for (dedup, while_open, when_over) in
        [(Dedup::All, false, false), (Dedup::Open, false, true), (Dedup::None, true, true)]
    {
        let mut exchange = exchange(Capabilities { dedup, ..Capabilities::default() });
        order(&mut exchange, "one", id).unwrap();
        assert!(order(&mut exchange, "two", id).is_ok(), "{dedup:?}: each account's own");
        assert_eq!(order(&mut exchange, "one", id).is_ok(), while_open, "{dedup:?}");
        market(&mut exchange, (98, 1), (100, 99));
        assert_eq!(order(&mut exchange, "one", id).is_ok(), when_over, "{dedup:?}");
        let verdict = exchange.verdict();
        assert_eq!(verdict.accepted_more_than_once, u64::from(when_over), "{dedup:?}");
        let found = ask(&mut exchange, "one", Endpoint::GetOrder, "symbol=AB&origClientOrderId=a");
        let newest = if when_over { if while_open { 4 } else { 3 } } else { 1 };
        assert_eq!(found.answer.unwrap()["orderId"], newest, "{dedup:?}: the newest");
    }
}

#[test]
fn what_the_exchange_cannot_do_is_refused() {
    let capabilities = Capabilities { query: false, server_time: false, ..Capabilities::default() };
    let mut exchange = exchange(capabilities);
    limit(&mut exchange, "one", "BUY", 1, 100);
    for (endpoint, query) in [
        (Endpoint::GetOrder, "symbol=AB&orderId=1"),
        (Endpoint::GetOpenOrders, ""),
        (Endpoint::GetAllOrders, "symbol=AB"),
        (Endpoint::GetMyTrades, "symbol=AB"),
        (Endpoint::GetTime, ""),
        (Endpoint::PostSession, "session=1"),
    ] {
        assert_eq!(code(ask(&mut exchange, "one", endpoint, query).answer), -1002, "{endpoint:?}");
    }
    assert!(ask(&mut exchange, "one", Endpoint::GetAccount, "").answer.is_ok());
}

#[test]
fn an_account_is_sealed_to_who_says_the_higher_number() {
    let capabilities = Capabilities { exclusive_session: true, ..Capabilities::default() };
    let mut exchange = exchange(capabilities);
    let id = "side=BUY&quantity=1&price=100";
    assert!(order(&mut exchange, "one", id).is_ok(), "nobody has sealed it yet");
    let seal = |exchange: &mut Exchange, session: u64| {
        ask(exchange, "one", Endpoint::PostSession, &format!("session={session}")).answer
    };
    assert_eq!(seal(&mut exchange, 7).unwrap()["session"], 7);
    for session in [0, 6, 7] {
        assert_eq!(code(seal(&mut exchange, session)), -1002, "{session}");
    }
    assert_eq!(code(order(&mut exchange, "one", id)), -1002, "no number is below every number");
    assert_eq!(code(order(&mut exchange, "one", &format!("{id}&session=6"))), -1002);
    assert!(order(&mut exchange, "one", &format!("{id}&session=7")).is_ok());
    assert!(order(&mut exchange, "two", id).is_ok(), "another account is not sealed");
    let query = ask(&mut exchange, "one", Endpoint::GetOpenOrders, "session=6").answer;
    assert_eq!(code(query), -1002);
}

#[test]
fn the_log_says_what_was_sent_beside_and_is_read_back_as_it_was_written() {
    let mut exchange = plain();
    let query = "symbol=AB&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=100&x-node=n1\
                 &recvWindow=77&session=3&newClientOrderId=a";
    let entry = ask(&mut exchange, "one", Endpoint::PostOrder, query).entry.unwrap();
    let Event::Order(accepted) = &entry.events[0] else { panic!("{entry:?}") };
    assert_eq!(accepted.extra, [("x-node".to_owned(), "n1".to_owned())].into());
    assert_eq!((accepted.recv_window, accepted.session), (77, Some(3)));
    let text = serde_json::to_string(&entry).unwrap();
    assert_eq!(serde_json::from_str::<Entry>(&text).unwrap(), entry);
}

#[test]
fn a_damaged_line_and_a_missing_one_are_named() {
    let line = |number: u64| format!(r#"{{"number":{number},"time":1,"events":[]}}"#);
    let mut reader = LogReader::default();
    reader.read(line(1).as_bytes()).unwrap();
    let missing = reader.read(line(3).as_bytes()).unwrap_err();
    assert_eq!(missing, LogError::Number { line: 2, found: 3, expected: 2 });
    let damaged = reader.read(b"{\"number\":2,\"ti").unwrap_err().to_string();
    assert!(damaged.starts_with("line 2 is damaged"), "{damaged}");
    let newer = r#"{"number":2,"time":1,"events":[{"event":"started","format":2,"capabilities":{
        "dedup":"all","deadline":true,"query":true,"server_time":true,"exclusive_session":true}}]}"#;
    let newer = reader.read(newer.as_bytes()).unwrap_err();
    assert_eq!(newer, LogError::Format { line: 2, format: 2 });
    assert_eq!(reader.lines(), 1);
}

#[test]
fn a_walk_goes_the_same_way_for_the_same_seed_and_never_crosses_itself() {
    let spec = SymbolSpec::parse("BTCUSDT").unwrap();
    let (mut walk, mut again) = (Walk::new(&spec, 7), Walk::new(&spec, 7));
    let mut other = Walk::new(&spec, 8);
    let mut differs = false;
    for _ in 0..1_000 {
        let book = walk.step();
        assert_eq!(book, again.step());
        differs |= book != other.step();
        assert!(book.bids[0].price < book.asks[0].price);
        assert!(book.bids.iter().chain(&book.asks).all(|level| level.quantity > Amount::ZERO));
    }
    assert!(differs);
}
