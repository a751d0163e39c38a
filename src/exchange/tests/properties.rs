//! The numbered invariants, after any history of steps.

use proptest::prelude::*;

use super::*;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Deed {
    Order { account: u8, buys: bool, kind: u8, quantity: u8, price: u8, id: u8, repeats: u8 },
    Cancel { account: u8, id: u8 },
    CancelAll { account: u8 },
    Market { bid: u8, bid_quantity: u8, spread: u8, ask_quantity: u8 },
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let order = (0u8..2, any::<bool>(), 0u8..4, 1u8..60, 90u8..110, 0u8..24, 0u8..3);
    let order = order.prop_map(|(account, buys, kind, quantity, price, id, repeats)| Deed::Order {
        account,
        buys,
        kind,
        quantity,
        price,
        id,
        repeats,
    });
    let market = (90u8..110, 0u8..40, 1u8..4, 0u8..40);
    let market = market.prop_map(|(bid, bid_quantity, spread, ask_quantity)| Deed::Market {
        bid,
        bid_quantity,
        spread,
        ask_quantity,
    });
    let deed = prop_oneof![
        6 => order,
        1 => (0u8..2, 0u8..24).prop_map(|(account, id)| Deed::Cancel { account, id }),
        1 => (0u8..2).prop_map(|account| Deed::CancelAll { account }),
        3 => market,
    ];
    prop::collection::vec(deed, 1..80)
}

fn name(account: u8) -> &'static str {
    if account == 0 { "one" } else { "two" }
}

/// Does it, and returns what came of it.
fn happen(exchange: &mut Exchange, deed: &Deed) -> Vec<Outcome> {
    match *deed {
        Deed::Order { account, buys, kind, quantity, price, id, repeats } => {
            let side = if buys { "BUY" } else { "SELL" };
            let kind = match kind {
                0 => format!("type=LIMIT&timeInForce=GTC&price={price}"),
                1 => format!("type=LIMIT&timeInForce=IOC&price={price}"),
                2 => format!("type=LIMIT&timeInForce=FOK&price={price}"),
                _ => "type=MARKET".to_owned(),
            };
            let query = format!(
                "symbol=AB&side={side}&{kind}&quantity={quantity}&newClientOrderId=id-{id}"
            );
            let take = |_| ask(exchange, name(account), Endpoint::PostOrder, &query);
            (0..=repeats).map(take).collect()
        }
        Deed::Cancel { account, id } => {
            let query = format!("symbol=AB&origClientOrderId=id-{id}");
            vec![ask(exchange, name(account), Endpoint::DeleteOrder, &query)]
        }
        Deed::CancelAll { account } => {
            vec![ask(exchange, name(account), Endpoint::DeleteOpenOrders, "symbol=AB")]
        }
        Deed::Market { bid, bid_quantity, spread, ask_quantity } => {
            let ask = (i64::from(bid) + i64::from(spread), i64::from(ask_quantity));
            vec![market(exchange, (i64::from(bid), i64::from(bid_quantity)), ask)]
        }
    }
}

/// What an order's state must be for the fills and cancellations that the entries tell of.
fn check_fills(exchange: &Exchange, entries: &[Entry]) {
    let events = || entries.iter().flat_map(|entry| &entry.events);
    let mut orders: BTreeMap<u64, Accepted> = BTreeMap::new();
    let (mut last_order, mut last_trade) = (0, 0);
    for event in events() {
        match event {
            Event::Order(accepted) => {
                assert!(accepted.order_id > last_order, "ids of orders ascend");
                last_order = accepted.order_id;
                orders.insert(accepted.order_id, accepted.clone());
            }
            Event::Fill(fill) => {
                assert!(fill.trade_id > last_trade, "ids of trades ascend");
                last_trade = fill.trade_id;
                for (part, side) in [(&fill.buyer, Side::Buy), (&fill.seller, Side::Sell)] {
                    let Some(part) = part else { continue };
                    let order = &orders[&part.order_id];
                    assert_eq!(order.side, side);
                    let is_within = match (order.order_type, side) {
                        (OrderType::Market, _) => true,
                        (OrderType::Limit, Side::Buy) => fill.price <= order.price,
                        (OrderType::Limit, Side::Sell) => fill.price >= order.price,
                    };
                    assert!(is_within, "{fill:?} is worse than {order:?}");
                }
            }
            Event::Started { .. }
            | Event::Capabilities { .. }
            | Event::Account { .. }
            | Event::Rejected { .. }
            | Event::Closed { .. }
            | Event::Session { .. } => {}
        }
    }
    for order in exchange.state().orders.values() {
        let id = order.accepted.order_id;
        let of = |event: &Event| {
            let Event::Fill(fill) = event else { return Amount::ZERO };
            let parts = fill.buyer.iter().chain(&fill.seller);
            let count = parts.filter(|part| part.order_id == id).count();
            if count == 0 { Amount::ZERO } else { fill.quantity }
        };
        let filled = events().map(of).fold(Amount::ZERO, |sum, part| sum + part);
        assert_eq!(filled, order.executed);
        assert!(filled <= order.accepted.quantity);
        assert_eq!(order.status == Status::Filled, filled == order.accepted.quantity);
    }
}

/// What is locked is what open orders may still take, and nothing is below zero.
fn check_balances(exchange: &Exchange, totals: &[(&str, Amount)]) {
    for &(asset, total) in totals {
        assert_eq!(exchange.state().total(asset), total, "{asset} is neither made nor lost");
    }
    for account in exchange.state().accounts.values() {
        let mut locked: BTreeMap<&str, Amount> = BTreeMap::new();
        for id in &account.open {
            let order = &exchange.state().orders[id];
            let (asset, amount) = match order.accepted.side {
                Side::Buy => ("B", order.accepted.price.times(order.remaining())),
                Side::Sell => ("A", order.remaining()),
            };
            *locked.entry(asset).or_default() += amount;
        }
        for (asset, balance) in &account.balances {
            assert!(balance.free >= Amount::ZERO);
            assert_eq!(balance.locked, locked.get(asset.as_str()).copied().unwrap_or_default());
        }
    }
}

/// Nobody in the book could trade with anybody else, and orders stand by price, then by time.
fn check_book(exchange: &Exchange) {
    let market = &exchange.state().markets["AB"];
    let outside = exchange.outside.get("AB").cloned().unwrap_or_default();
    let best = |side| {
        let order = market.waiting(side).next().map(|(price, _)| price);
        let outside = outside.side(side).first().map(|level| level.price);
        (order, outside)
    };
    let ((own_bid, bid), (own_ask, ask)) = (best(Side::Buy), best(Side::Sell));
    for (bid, ask) in [(own_bid, own_ask), (own_bid, ask), (bid, own_ask)] {
        assert!(bid.zip(ask).is_none_or(|(bid, ask)| bid < ask), "{bid:?} {ask:?}");
    }
    for side in [Side::Buy, Side::Sell] {
        let rows: Vec<(Amount, u64)> = market.waiting(side).collect();
        let key = |(price, id): &(Amount, u64)| match side {
            Side::Buy => (-price.0, *id),
            Side::Sell => (price.0, *id),
        };
        assert!(rows.is_sorted_by_key(key));
        for (price, id) in rows {
            let order = &exchange.state().orders[&id];
            assert!(order.status.is_open() && order.accepted.price == price);
        }
    }
}

/// Of two orders with one limit, the later has nothing while the earlier, which was there all the time,
/// could have had it.
fn check_priority(before: &State, entry: &Entry) {
    let mut state = before.clone();
    for event in &entry.events {
        if let Event::Fill(fill) = event {
            let (maker, side) = if fill.is_buyer_maker {
                (&fill.buyer, Side::Buy)
            } else {
                (&fill.seller, Side::Sell)
            };
            let first = state.markets["AB"].waiting(side).next();
            match maker {
                Some(maker) => {
                    assert_eq!(first.map(|(_, id)| id), Some(maker.order_id), "the first one");
                }
                // The outside market made the price: no order that waited was as good.
                None => {
                    let taker = fill.buyer.iter().chain(&fill.seller).next().unwrap().order_id;
                    let mut others =
                        state.markets["AB"].waiting(side).filter(|(_, id)| *id != taker);
                    let first = others.next().map(|(price, _)| price);
                    let is_later = match side {
                        Side::Buy => first.is_none_or(|first| first < fill.price),
                        Side::Sell => first.is_none_or(|first| first > fill.price),
                    };
                    assert!(is_later, "{first:?} came before {fill:?}");
                }
            }
        }
        state.apply(event, entry.time).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_made_or_lost_and_a_replay_is_the_same_exchange(
        deeds in deeds(),
        dedup in prop_oneof![Just(Dedup::All), Just(Dedup::Open), Just(Dedup::None)],
        orders_kept in prop_oneof![Just(3usize), Just(1_000)],
    ) {
        let capabilities = Capabilities { dedup, ..Capabilities::default() };
        let bounds = Bounds { orders_kept, trades_kept: 5, open_orders_max: 10 };
        let mut exchange = exchange_with(capabilities, bounds);
        // The state that two accounts begin with is the one to replay upon.
        let mut replayed = exchange.state().clone();
        let totals = ["A", "B"].map(|asset| (asset, exchange.state().total(asset)));
        let mut entries: Vec<Entry> = Vec::new();
        for deed in &deeds {
            let mut before = exchange.state().clone();
            for outcome in happen(&mut exchange, deed) {
                let Some(entry) = outcome.entry else { continue };
                check_priority(&before, &entry);
                before.replay(&entry).unwrap();
                entries.push(entry);
            }
            check_balances(&exchange, &totals);
            check_book(&exchange);
        }
        check_fills(&exchange, &entries);
        let mut reader = LogReader { lines: replayed.last_entry };
        for entry in &entries {
            let text = serde_json::to_vec(entry).unwrap();
            replayed.replay(&reader.read(&text).unwrap()).unwrap();
        }
        prop_assert_eq!(&replayed, exchange.state());
        let verdict = exchange.verdict();
        let accepted = entries.iter().flat_map(|entry| &entry.events)
            .filter(|event| matches!(event, Event::Order(_))).count();
        prop_assert_eq!(verdict.accepted, accepted as u64);
        if dedup == Dedup::All {
            prop_assert_eq!(verdict.accepted_more_than_once, 0);
            prop_assert_eq!(verdict.accepted, verdict.distinct_client_ids);
        }
    }
}
