//! The paper broker by example and by property.

use proptest::prelude::*;

use super::*;
use crate::domain::{
    Class, Key, Kind, Money, Session, Side, SourceId, StrategyId, Symbol, TopOfBook, has,
};

const MICRO: u64 = 1_000;

fn time(micros: u64) -> Timestamp {
    Timestamp::from_nanos(micros * MICRO)
}

fn key(micros: u64, sequence: u64) -> Key {
    Key { frontier: time(micros), source: SourceId(0), sequence }
}

fn share() -> Arc<Instrument> {
    Arc::new(Instrument {
        symbol: Symbol::new("IBM.US").unwrap(),
        class: Class::EquityUs,
        currency: "USD".into(),
        price_decimals: 2,
        quantity_decimals: 0,
        tick_size: Price(1),
        lot: Quantity(1),
        quantity_min: Quantity(1),
        quantity_max: Quantity(1_000_000),
        multiplier: 1,
        inverse: false,
        session: Session::default(),
    })
}

/// Ten microseconds to arrive, sizes of three lots where none is shown, 100 microseconds of patience.
fn config() -> PaperBrokerConfig {
    let rules = MatchingRules { lots_when_size_missing: Some(3), next_trade_within_us: 100 };
    PaperBrokerConfig {
        latency_us: 10,
        latency_jitter_us: 0,
        fee_rate_nanos: 1_000_000,
        slippage_nanos: 0,
        rules: [rules; Class::ALL.len()],
        faults: Faults { resolve_after_us: 50, ..Faults::NONE },
    }
}

fn order(at: Key, side: Side, quantity: i64, limit: i64) -> Order {
    Order {
        id: OrderId { key: at, ordinal: 0 },
        strategy: StrategyId(0),
        account: AccountId(0),
        instrument: InstrumentIndex(0),
        side,
        quantity: Quantity(quantity),
        limit_price: Price(limit),
        reduce_only: false,
        reduces: false,
    }
}

fn row(kind: Kind) -> Tick {
    Tick { kind: kind as u8, ..Tick::default() }
}

fn ask(price: i64, quantity: i64) -> Tick {
    let has = has::ASK | has::ASK_QUANTITY;
    Tick { has, ask: price, ask_quantity: quantity, ..row(Kind::Quote) }
}

fn bid(price: i64, quantity: i64) -> Tick {
    let has = has::BID | has::BID_QUANTITY;
    Tick { has, bid: price, bid_quantity: quantity, ..row(Kind::Quote) }
}

fn trade(price: i64, volume: i64) -> Tick {
    Tick { has: has::PRICE | has::VOLUME, price, volume, ..row(Kind::Trade) }
}

/// A broker, the book that risk would have, and what came out.
struct Desk {
    broker: PaperBroker,
    share: Arc<Instrument>,
    top: TopOfBook,
    at: Key,
    out: Vec<BrokerEvent>,
}

impl Desk {
    fn new(config: PaperBrokerConfig) -> Self {
        let broker = PaperBroker::new(config, BrokerId(0), 1);
        let (top, at) = (TopOfBook::default(), Key::START);
        Self { broker, share: share(), top, at, out: Vec::new() }
    }

    /// A row at `micros`.
    fn row(&mut self, micros: u64, tick: Tick) -> &mut Self {
        self.at = key(micros, self.at.sequence + 1);
        self.top.apply(&tick, self.at);
        let mut batch = TickBatch::default();
        assert!(batch.push(self.at, tick));
        self.broker.feed(&batch, 0..1, |_| Some(InstrumentIndex(0)), &mut self.out);
        self
    }

    /// An order that answers the last row.
    fn order(&mut self, side: Side, quantity: i64, limit: i64) -> &mut Self {
        let order = order(self.at, side, quantity, limit);
        self.place(order, 0)
    }

    fn place(&mut self, order: Order, attempt: u8) -> &mut Self {
        let placement = Placement { order, top: self.top, at: self.at, attempt };
        self.broker.place(&placement, &self.share);
        self
    }

    /// What happens until `micros`, in short.
    fn until(&mut self, micros: u64) -> Vec<String> {
        self.broker.advance(time(micros), &mut self.out);
        self.out.drain(..).map(|event| label(&event)).collect()
    }
}

fn label(event: &BrokerEvent) -> String {
    let what = match event.kind {
        BrokerEventKind::Accepted => "accepted".to_owned(),
        BrokerEventKind::Filled(fill) => format!("filled {}@{}", fill.quantity.0, fill.price.0),
        BrokerEventKind::Refused(refusal) => format!("refused {refusal:?}"),
        BrokerEventKind::Unknown => "unknown".to_owned(),
        BrokerEventKind::Closed { remaining } => format!("closed {}", remaining.0),
    };
    format!("{} {what}", event.due.as_nanos() / MICRO)
}

#[test]
fn an_order_trades_when_it_arrives_and_what_is_not_shown_is_closed() {
    let mut desk = Desk::new(config());
    desk.row(1_000, ask(100, 4)).order(Side::Buy, 5, 100);
    assert_eq!(desk.until(1_009), [""; 0]);
    assert_eq!(desk.until(1_010), ["1010 accepted", "1010 filled 4@100", "1010 closed 1"]);
    assert!(desk.broker.is_idle());
}

#[test]
fn a_fill_costs_its_share_of_the_notional() {
    let mut desk = Desk::new(config());
    desk.row(1_000, bid(10_000, 4)).order(Side::Sell, 2, 9_900);
    desk.broker.advance(time(2_000), &mut desk.out);
    let BrokerEventKind::Filled(fill) = desk.out[1].kind else { panic!("not filled") };
    assert_eq!(fill.fee, Money::parse("0.2").unwrap()); // A thousandth of 2 at 100.00.
    assert_eq!((fill.trade_id, fill.side, fill.broker), (1, Side::Sell, BrokerId(0)));
}

#[test]
fn rows_before_the_due_time_count_and_rows_at_it_do_not() {
    for (micros, filled) in [(1_009, "1010 filled 5@98"), (1_010, "1010 filled 5@100")] {
        let mut desk = Desk::new(config());
        desk.row(1_000, ask(100, 9)).order(Side::Buy, 5, 100).row(micros, ask(98, 9));
        assert_eq!(desk.until(1_010)[1], filled);
    }
}

#[test]
fn a_book_that_moved_beyond_the_limit_closes_the_order() {
    let mut desk = Desk::new(config());
    desk.row(1_000, ask(100, 9)).order(Side::Buy, 5, 100).row(1_001, ask(101, 9));
    assert_eq!(desk.until(1_010), ["1010 accepted", "1010 closed 5"]);
    desk.row(2_000, bid(90, 9)).order(Side::Sell, 5, 90).row(2_001, bid(89, 9));
    assert_eq!(desk.until(2_010), ["2010 accepted", "2010 closed 5"]);
}

#[test]
fn displayed_size_is_traded_once_until_it_is_quoted_anew() {
    let mut desk = Desk::new(config());
    desk.row(1_000, ask(100, 4)).order(Side::Buy, 3, 100);
    desk.row(1_001, trade(100, 1)).order(Side::Buy, 3, 100);
    let events = desk.until(1_100);
    assert_eq!(events[1..3], ["1010 filled 3@100", "1010 closed 0"]);
    assert_eq!(events[4..], ["1011 filled 1@100", "1011 closed 2"]);
    // While the broker has no order it follows no rows, and still knows what it took.
    desk.row(1_200, trade(100, 1)).order(Side::Buy, 3, 100);
    assert_eq!(desk.until(1_300), ["1210 accepted", "1210 closed 3"]);
    desk.row(1_400, ask(100, 4)).order(Side::Buy, 3, 100);
    assert_eq!(desk.until(1_500)[1], "1410 filled 3@100");
}

#[test]
fn a_price_without_a_size_has_the_size_that_the_class_assumes() {
    let sizeless = Tick { has: has::ASK, ask: 100, ..row(Kind::Quote) };
    let mut desk = Desk::new(config());
    desk.row(1_000, sizeless).order(Side::Buy, 5, 100);
    assert_eq!(desk.until(1_010)[1..], ["1010 filled 3@100", "1010 closed 2"]);

    let mut unlimited = config();
    unlimited.rules[Class::EquityUs.index()].lots_when_size_missing = None;
    let mut desk = Desk::new(unlimited);
    desk.row(1_000, sizeless).order(Side::Buy, 5_000_000, 100);
    assert_eq!(desk.until(1_010)[1..], ["1010 filled 5000000@100", "1010 closed 0"]);
}

#[test]
fn without_a_book_an_order_takes_the_next_trade_up_to_its_volume() {
    let mut desk = Desk::new(config());
    desk.row(1_000, trade(100, 9)).order(Side::Buy, 5, 101);
    // A trade before it arrives is not for it, one of nothing is none.
    desk.row(1_005, trade(100, 9)).row(1_020, trade(100, 0)).row(1_030, trade(99, 2));
    assert_eq!(desk.until(1_039), ["1010 accepted"]);
    assert_eq!(desk.until(1_040), ["1040 filled 2@99", "1040 closed 3"]);
}

#[test]
fn the_next_trade_beyond_the_limit_closes_an_order_that_waits() {
    let mut desk = Desk::new(config());
    desk.row(1_000, trade(100, 9)).order(Side::Buy, 5, 101);
    desk.row(1_020, trade(102, 9)).row(1_021, trade(100, 9));
    assert_eq!(desk.until(2_000), ["1010 accepted", "1030 closed 5"]);
    assert_eq!(desk.broker.counters().expired, 0);
}

#[test]
fn orders_that_wait_for_the_same_trade_share_its_volume() {
    let mut desk = Desk::new(config());
    desk.row(1_000, trade(100, 9)).order(Side::Buy, 5, 101);
    desk.row(1_001, trade(100, 9)).order(Side::Sell, 5, 99);
    desk.row(1_020, trade(100, 7));
    let events = desk.until(2_000);
    assert_eq!(events[2..4], ["1030 filled 5@100", "1030 closed 0"]);
    assert_eq!(events[4..], ["1030 filled 2@100", "1030 closed 3"]);
}

#[test]
fn patience_ends_just_before_the_row_at_its_end() {
    for (micros, last) in [(1_109, "1119 closed 0"), (1_110, "1110 closed 5")] {
        let mut desk = Desk::new(config());
        desk.row(1_000, trade(100, 9)).order(Side::Buy, 5, 101).row(micros, trade(100, 9));
        assert_eq!(desk.until(2_000).last().unwrap(), last);
        assert_eq!(desk.broker.counters().expired, u64::from(micros == 1_110));
    }
}

/// A cancellation is on its way as long as the order was: 10 us. One that comes before the order arrives finds it
/// waiting no more.
#[test]
fn an_order_that_is_cancelled_waits_for_a_trade_no_longer() {
    let cancelled = |at: u64, trades: &[u64]| {
        let mut desk = Desk::new(config());
        desk.row(1_000, trade(100, 9)).order(Side::Buy, 5, 101);
        let id = order(key(1_000, 1), Side::Buy, 5, 101).id;
        let early = trades.iter().take_while(|&&micros| micros <= at);
        let late = trades.iter().skip_while(|&&micros| micros <= at);
        for &micros in early {
            desk.row(micros, trade(100, 2));
        }
        desk.broker.cancel(id, time(at));
        for &micros in late {
            desk.row(micros, trade(100, 2));
        }
        let events = desk.until(2_000);
        assert!(desk.broker.is_idle());
        events[1..].to_vec()
    };
    assert_eq!(cancelled(1_000, &[]), ["1010 closed 5"]);
    assert_eq!(cancelled(1_030, &[]), ["1040 closed 5"]);
    // What trades before the cancellation is there is traded.
    assert_eq!(cancelled(1_030, &[1_039]), ["1049 filled 2@100", "1049 closed 3"]);
    assert_eq!(cancelled(1_030, &[1_040]), ["1040 closed 5"]);
    assert_eq!(cancelled(1_030, &[1_020]), ["1030 filled 2@100", "1030 closed 3"]);
    // It has given up by then.
    assert_eq!(cancelled(1_105, &[]), ["1110 closed 5"]);
}

#[test]
fn an_order_that_is_cancelled_trades_at_once_or_not_at_all_and_another_is_no_matter() {
    let mut desk = Desk::new(config());
    desk.row(1_000, ask(100, 9)).order(Side::Buy, 5, 101);
    desk.broker.cancel(order(key(1_000, 1), Side::Buy, 5, 101).id, time(1_000));
    desk.broker.cancel(order(key(999, 1), Side::Buy, 5, 101).id, time(1_000));
    assert_eq!(desk.until(2_000), ["1010 accepted", "1010 filled 5@100", "1010 closed 0"]);
}

#[test]
fn nothing_is_matched_on_an_indicative_row() {
    let mut desk = Desk::new(config());
    let auction = Tick {
        has: has::PRICE | has::VOLUME | has::ASK | has::ASK_QUANTITY | has::INDICATIVE,
        price: 100,
        volume: 50,
        ask: 100,
        ask_quantity: 50,
        ..row(Kind::Snapshot)
    };
    desk.row(1_000, ask(100, 50)).row(1_001, auction).order(Side::Buy, 2, 100);
    desk.row(1_050, auction);
    assert_eq!(desk.until(2_000), ["1011 accepted", "1111 closed 2"]);
}

#[test]
fn a_snapshot_with_volume_is_a_trade_and_one_without_is_not() {
    let snapshot = |volume| Tick {
        has: has::PRICE | has::VOLUME | has::BID | has::BID_QUANTITY,
        price: 100,
        volume,
        bid: 100,
        bid_quantity: 9,
        ..row(Kind::Snapshot)
    };
    let mut desk = Desk::new(config());
    // Limit-up: nobody offers.
    desk.row(1_000, snapshot(0)).order(Side::Buy, 5, 100);
    desk.row(1_020, snapshot(0)).row(1_030, snapshot(2));
    assert_eq!(desk.until(2_000)[1..], ["1040 filled 2@100", "1040 closed 3"]);
}

#[test]
fn a_boundary_row_moves_time_and_nothing_else() {
    let mut desk = Desk::new(config());
    desk.row(1_000, ask(100, 4)).order(Side::Buy, 4, 100);
    desk.row(1_005, Tick { kind: Kind::Boundary as u8, ..ask(98, 9) });
    desk.row(1_010, row(Kind::Boundary));
    assert_eq!(desk.until(0)[1], "1010 filled 4@100");
}

#[test]
fn the_configured_faults_refuse_orders_when_they_arrive() {
    let refusing = |faults: Faults| {
        let mut desk = Desk::new(PaperBrokerConfig { faults, ..config() });
        desk.row(1_000, ask(100, 4)).order(Side::Buy, 4, 100).until(2_000)
    };
    let all = 1_000_000;
    let faults = Faults { refuse_per_million: all, ..Faults::NONE };
    assert_eq!(refusing(faults), ["1010 refused Unavailable"]);
    let faults = Faults { disconnect_per_million: all, ..Faults::NONE };
    assert_eq!(refusing(faults), ["1010 refused NotConnected"]);
}

#[test]
fn an_order_that_is_none_is_refused_for_what_it_is() {
    let mut desk = Desk::new(config());
    desk.row(1_000, ask(100, 4)).order(Side::Buy, 0, 100);
    desk.row(1_001, ask(100, 4)).order(Side::Buy, 1, 0);
    assert_eq!(desk.until(2_000), ["1010 refused Order", "1011 refused Order"]);
    assert_eq!(desk.broker.counters().refused_order, 2);
}

#[test]
fn an_outage_hits_the_orders_from_its_first_to_its_last() {
    let faults = Faults { outage: Some((2, 3)), ..Faults::NONE };
    let mut desk = Desk::new(PaperBrokerConfig { faults, ..config() });
    for n in 1..=4 {
        desk.row(1_000 * n, ask(100, 4)).order(Side::Buy, 4, 100);
    }
    let refused: Vec<String> =
        desk.until(9_000).into_iter().filter(|event| event.contains("refused")).collect();
    assert_eq!(refused, ["2010 refused NotConnected", "3010 refused NotConnected"]);
}

#[test]
fn a_timed_out_order_is_unknown_until_the_broker_was_asked() {
    let faults = Faults { timeout_per_million: 1_000_000, ..config().faults };
    let mut seen = [0, 0];
    for n in 0..40 {
        let mut desk = Desk::new(PaperBrokerConfig { faults, ..config() });
        desk.broker.seed = n;
        desk.row(1_000, ask(100, 4)).order(Side::Buy, 5, 100);
        // What it trades with is what was there when it arrived.
        desk.row(1_010, ask(90, 9));
        assert_eq!(desk.until(1_059), ["1010 unknown"]);
        let events = desk.until(1_060);
        if events.len() == 1 {
            assert_eq!(events, ["1060 refused Unavailable"]);
            seen[0] += 1;
        } else {
            assert_eq!(events, ["1060 accepted", "1060 filled 4@100", "1060 closed 1"]);
            seen[1] += 1;
        }
    }
    assert!(seen[0] > 5 && seen[1] > 5, "both outcomes happen: {seen:?}");
}

#[test]
fn pending_orders_expire_when_the_data_ends() {
    let mut desk = Desk::new(config());
    desk.row(1_000, trade(100, 4)).order(Side::Buy, 5, 100);
    desk.row(1_020, trade(101, 4)).order(Side::Buy, 6, 100);
    let _ = desk.until(1_021);
    desk.row(1_050, trade(101, 4)).order(Side::Buy, 7, 100);
    desk.row(1_055, trade(101, 4)).order(Side::Buy, 8, 100);
    desk.broker.finish(&mut desk.out);
    assert_eq!(
        desk.until(1_055),
        [
            "1030 closed 5",
            "1030 accepted",
            // Decided by the trade at 1,050.
            "1060 closed 6",
            "1060 closed 7",
            "1065 closed 8",
        ]
    );
    assert!(desk.broker.is_idle());
    assert_eq!(desk.broker.counters().expired, 2);
}

#[test]
fn an_order_that_comes_again_and_is_accepted_again_is_counted() {
    let mut desk = Desk::new(config());
    desk.row(1_000, ask(100, 4));
    let first = order(desk.at, Side::Buy, 1, 100);
    desk.place(first, 0).row(2_000, ask(100, 4));
    let second = order(desk.at, Side::Buy, 1, 100);
    desk.place(second, 0).row(3_000, ask(100, 4));
    // The same signal of another strategy is another order.
    desk.place(Order { strategy: StrategyId(1), ..first }, 0).row(4_000, ask(100, 4));
    assert_eq!(desk.broker.counters().accepted_twice, 0);
    desk.place(first, 0).place(second, 0).row(5_000, ask(100, 4));
    assert_eq!(desk.broker.counters().accepted_twice, 2);
    let third = order(desk.at, Side::Buy, 1, 100);
    desk.place(third, 1).row(6_000, ask(100, 4));
    assert_eq!(desk.broker.counters().accepted_twice, 2);
    desk.place(third, 1).row(7_000, ask(100, 4));
    assert_eq!(desk.broker.counters().accepted_twice, 3);
}

#[test]
fn an_earlier_order_that_is_overtaken_is_no_duplicate() {
    let mut desk = Desk::new(PaperBrokerConfig { latency_jitter_us: 1_000, ..config() });
    for n in 0..200 {
        desk.row(1_000 + n, ask(100, 4)).order(Side::Buy, 1, 100);
    }
    desk.broker.advance(time(9_000), &mut desk.out);
    let accepted = |event: &&BrokerEvent| event.kind == BrokerEventKind::Accepted;
    assert!(!desk.out.iter().filter(accepted).is_sorted_by_key(|event| event.order));
    assert_eq!(desk.broker.counters().accepted, 200);
    assert_eq!(desk.broker.counters().accepted_twice, 0);
}

#[test]
fn time_may_run_ahead_only_as_far_as_a_second_offer_could_not_be_late() {
    let mut desk = Desk::new(config());
    let lookahead = Span::from_nanos(9_999);
    assert_eq!(desk.broker.advance_limit(time(5_000), lookahead), time(5_000));
    desk.row(1_000, ask(100, 4)).order(Side::Buy, 1, 100);
    let limit = Timestamp::from_nanos(1_019_999);
    assert_eq!(desk.broker.advance_limit(time(5_000), lookahead), limit);
    assert_eq!(desk.broker.advance_limit(time(1_001), lookahead), time(1_001));
}

#[test]
fn a_fill_slips_against_the_order_but_not_beyond_its_limit() {
    // A hundredth.
    let mut desk = Desk::new(PaperBrokerConfig { slippage_nanos: 10_000_000, ..config() });
    desk.row(1, ask(1_000, 5)).order(Side::Buy, 1, 1_100);
    assert!(desk.until(20).iter().any(|said| said.ends_with("filled 1@1010")));
    desk.row(30, ask(1_000, 5)).order(Side::Buy, 1, 1_004);
    assert!(desk.until(50).iter().any(|said| said.ends_with("filled 1@1004")));
    desk.row(60, bid(1_000, 5)).order(Side::Sell, 1, 900);
    assert!(desk.until(80).iter().any(|said| said.ends_with("filled 1@990")));
}

// --- Properties --------------------------------------------------------------------------------

/// What one broker is put through: rows in key order, and orders that answer some of them.
#[derive(Clone, Debug)]
struct Scenario {
    rows: Vec<(Key, Tick)>,
    /// By the index of the row they answer.
    orders: Vec<(usize, Order)>,
    config: PaperBrokerConfig,
}

fn any_tick() -> impl Strategy<Value = Tick> {
    let kind = prop_oneof![
        2 => Just(Kind::Trade), 4 => Just(Kind::Quote), 1 => Just(Kind::Snapshot),
        1 => Just(Kind::Boundary)
    ];
    (kind, 0u8..64, 98i64..103, 0i64..6, 1i64..6, 0u32..2).prop_map(
        |(kind, has, price, size, volume, symbol)| Tick {
            kind: kind as u8,
            // A size comes with its price.
            has: has & !(((!has & has::BID) << 2) | ((!has & has::ASK) << 2)),
            price,
            volume,
            bid: price - 1,
            ask: price,
            bid_quantity: size,
            ask_quantity: size,
            symbol,
            ..Tick::default()
        },
    )
}

prop_compose! {
    fn any_scenario()(
        steps in prop::collection::vec((any_tick(), 0u64..12, 0u16..2), 1..60),
        orders in prop::collection::vec(
            (any::<prop::sample::Index>(), any::<bool>(), 1i64..8, 98i64..103, 0u32..2), 0..20),
        jitter in 0u64..30,
        faults in prop_oneof![3 => Just(0u32), 1 => Just(200_000u32)],
        outage in prop::option::of((1u64..6, 6u64..9)),
    ) -> Scenario {
        let mut micros = 1_000;
        let mut sequences = [0; 2];
        let mut rows: Vec<(Key, Tick)> = Vec::new();
        for (tick, gap, source) in steps {
            micros += gap;
            sequences[usize::from(source)] += 1;
            let sequence = sequences[usize::from(source)];
            rows.push((Key { frontier: time(micros), source: SourceId(source), sequence }, tick));
        }
        rows.sort_by_key(|(key, _)| *key);
        let mut orders: Vec<(usize, Order)> = orders.into_iter().map(|(at, buys, quantity, limit, instrument)| {
            let at = at.index(rows.len());
            let side = if buys { Side::Buy } else { Side::Sell };
            let order = order(rows[at].0, side, quantity, limit);
            (at, Order { instrument: InstrumentIndex(instrument), ..order })
        }).collect();
        orders.sort_by_key(|(at, _)| *at);
        for n in 1..orders.len() {
            if orders[n].0 == orders[n - 1].0 {
                orders[n].1.id.ordinal = orders[n - 1].1.id.ordinal + 1;
            }
        }
        let faults = Faults {
            refuse_per_million: faults,
            disconnect_per_million: faults,
            timeout_per_million: faults,
            outage,
            ..config().faults
        };
        Scenario { rows, orders, config: PaperBrokerConfig { latency_jitter_us: jitter, faults, ..config() } }
    }
}

/// Exec and a broker: what was fed, and the two books that risk would have.
struct Drive<'a> {
    scenario: &'a Scenario,
    broker: PaperBroker,
    /// Rows given to the broker.
    fed: usize,
    /// Rows that risk has seen.
    seen: usize,
    tops: [TopOfBook; 2],
    out: Vec<BrokerEvent>,
}

impl<'a> Drive<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        let broker = PaperBroker::new(scenario.config.clone(), BrokerId(0), 1);
        let tops = [TopOfBook::default(); 2];
        Self { scenario, broker, fed: 0, seen: 0, tops, out: Vec::new() }
    }

    /// Feeds rows up to `end`, those of one source that follow each other in one batch, starting
    /// `again` rows earlier than necessary.
    fn feed(&mut self, end: usize, again: usize) {
        let rows = &self.scenario.rows;
        let mut at = self.fed.min(end).saturating_sub(again);
        self.fed = self.fed.max(end);
        while at < end {
            let source = rows[at].0.source;
            let mut batch = TickBatch { source, ..TickBatch::default() };
            while at < end && rows[at].0.source == source {
                assert!(batch.push(rows[at].0, rows[at].1));
                at += 1;
            }
            let resolve = |symbol: SymbolId| Some(InstrumentIndex(symbol.0));
            self.broker.feed(&batch, 0..batch.rows.len(), resolve, &mut self.out);
        }
    }

    /// Risk sees rows up to `end`.
    fn see(&mut self, end: usize) {
        for (key, row) in &self.scenario.rows[self.seen..end] {
            self.tops[row.symbol as usize].apply(row, *key);
        }
        self.seen = end;
    }

    fn place(&mut self, at: usize, order: Order) {
        self.see(at + 1);
        let top = self.tops[order.instrument.index()];
        let placement = Placement { order, top, at: self.scenario.rows[at].0, attempt: 0 };
        self.broker.place(&placement, &share());
    }

    fn finish(mut self) -> (Vec<BrokerEvent>, PaperBroker) {
        self.feed(self.scenario.rows.len(), 0);
        self.broker.finish(&mut self.out);
        (self.out, self.broker)
    }
}

/// Row by row, never ahead: the plainest way.
fn run_plainly(scenario: &Scenario) -> (Vec<BrokerEvent>, PaperBroker) {
    let mut drive = Drive::new(scenario);
    let mut orders = scenario.orders.iter().peekable();
    for at in 0..scenario.rows.len() {
        drive.feed(at + 1, 0);
        while let Some((_, order)) = orders.next_if(|(row, _)| *row == at) {
            drive.place(at, *order);
        }
    }
    drive.finish()
}

/// As exec may do it: rows late, or ahead by less than the latency, or again, or not at all while
/// there is no order, and after restarts. `choices` decides.
fn run_raggedly(scenario: &Scenario, choices: &[u8]) -> (Vec<BrokerEvent>, PaperBroker) {
    let mut drive = Drive::new(scenario);
    let mut choices = choices.iter().copied().cycle();
    let mut choose = |below: usize| usize::from(choices.next().unwrap()) % below.max(1);
    for &(at, order) in &scenario.orders {
        let now = scenario.rows[at].0.frontier;
        if drive.broker.is_idle() && drive.fed <= at && choose(2) == 0 {
            // Nobody needs these rows.
            drive.fed = choose(at + 2 - drive.fed) + drive.fed;
        }
        let ahead = now.after(Span::from_nanos(10 * MICRO - 1));
        let most = scenario.rows.partition_point(|(key, _)| key.frontier <= ahead);
        let least = if drive.broker.next <= now { at + 1 } else { drive.fed };
        let (least, most) = (least.max(drive.fed), most.max(drive.fed));
        let end = least + choose(most + 1 - least);
        while drive.fed < end {
            let step = 1 + choose(end - drive.fed);
            drive.feed(drive.fed + step, choose(3));
        }
        if drive.broker.next <= now {
            drive.broker.advance(now, &mut drive.out);
        }
        if choose(3) == 0 {
            drive.broker = restored(&drive.broker);
        }
        drive.place(at, order);
    }
    drive.finish()
}

fn restored<T: Serialize + for<'de> Deserialize<'de>>(core: &T) -> T {
    let config = bincode::config::standard();
    let bytes = bincode::serde::encode_to_vec(core, config).unwrap();
    bincode::serde::decode_from_slice(&bytes, config).unwrap().0
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn events_do_not_depend_on_how_rows_are_fed_nor_on_restarts(
        scenario in any_scenario(),
        choices in prop::collection::vec(any::<u8>(), 1..40),
    ) {
        let (plain, broker) = run_plainly(&scenario);
        let (ragged, other) = run_raggedly(&scenario, &choices);
        prop_assert_eq!(plain, ragged);
        prop_assert_eq!(broker.counters(), other.counters());
    }

    #[test]
    fn every_order_ends_once_within_its_limit_and_its_quantity(scenario in any_scenario()) {
        let (events, broker) = run_plainly(&scenario);
        prop_assert!(events.is_sorted_by_key(BrokerEvent::sort_key));
        let mut ends = 0;
        for (_, order) in &scenario.orders {
            let mut filled = 0;
            let mut remaining = None;
            let own = events.iter().filter(|event| event.order == order.id);
            for (ordinal, event) in (0..).zip(own) {
                prop_assert_eq!(event.ordinal, ordinal);
                prop_assert!(event.due.since(order.id.key.frontier) >= Span::from_micros(10));
                match event.kind {
                    BrokerEventKind::Filled(fill) => {
                        prop_assert!(remaining.is_none());
                        prop_assert!(fill.quantity.0 > 0);
                        filled += fill.quantity.0;
                        match order.side {
                            Side::Buy => prop_assert!(fill.price <= order.limit_price),
                            Side::Sell => prop_assert!(fill.price >= order.limit_price),
                        }
                    }
                    BrokerEventKind::Closed { remaining: rest } => {
                        prop_assert!(remaining.is_none());
                        remaining = Some(rest.0);
                        ends += 1;
                    }
                    BrokerEventKind::Refused(_) => {
                        prop_assert!(remaining.is_none());
                        remaining = Some(order.quantity.0);
                        ends += 1;
                    }
                    BrokerEventKind::Accepted | BrokerEventKind::Unknown => {}
                }
            }
            prop_assert_eq!(Some(order.quantity.0 - filled), remaining);
        }
        prop_assert_eq!(ends, scenario.orders.len());
        prop_assert_eq!(broker.counters().accepted_twice, 0);
        let mut trade_ids = Vec::new();
        for event in &events {
            if let BrokerEventKind::Filled(fill) = event.kind {
                trade_ids.push(fill.trade_id);
            }
        }
        prop_assert_eq!(trade_ids, (1..=broker.counters().fills).collect::<Vec<_>>());
    }

    #[test]
    fn fills_between_two_quotes_take_no_more_than_was_shown(scenario in any_scenario()) {
        // Without jitter nor time-outs, fills against the book are due when they were judged.
        let mut scenario = scenario;
        scenario.config.latency_jitter_us = 0;
        scenario.config.faults = Faults::NONE;
        let (events, _) = run_plainly(&scenario);
        let mut taken: std::collections::BTreeMap<(Key, InstrumentIndex, bool), i64> =
            std::collections::BTreeMap::new();
        for event in &events {
            let BrokerEventKind::Filled(fill) = event.kind else { continue };
            if event.due.since(event.order.key.frontier) != Span::from_micros(10) {
                continue; // With a trade that it waited for.
            }
            let mut top = TopOfBook::default();
            for (key, row) in &scenario.rows {
                if row.symbol == fill.instrument.0 && key.frontier < event.due {
                    top.apply(row, *key);
                }
            }
            let buys = fill.side == Side::Buy;
            let (price, shown) =
                if buys { (top.ask, top.ask_quantity) } else { (top.bid, top.bid_quantity) };
            prop_assert_eq!(price, Some(fill.price));
            let taken = taken.entry((top.quoted_at, fill.instrument, buys)).or_default();
            *taken += fill.quantity.0;
            prop_assert!(*taken <= shown.map_or(3, |shown| shown.0));
        }
    }

    #[test]
    fn faults_and_latencies_do_not_depend_on_the_order_of_calls(
        scenario in any_scenario(), drop in any::<prop::sample::Index>(),
    ) {
        let mut scenario = scenario;
        scenario.config.faults.outage = None;
        if scenario.orders.len() < 2 {
            return Ok(());
        }
        let fates = |scenario: &Scenario| -> Vec<(OrderId, Timestamp, String)> {
            let (events, _) = run_plainly(scenario);
            let firsts = events.iter().filter(|event| event.ordinal == 0);
            let mut fates: Vec<_> = firsts
                .map(|event| (event.order, event.due, format!("{:?}", event.kind)))
                .collect();
            fates.sort();
            fates
        };
        let mut all = fates(&scenario);
        let dropped = scenario.orders.remove(drop.index(scenario.orders.len())).1.id;
        all.retain(|(order, _, _)| *order != dropped);
        prop_assert_eq!(all, fates(&scenario));
    }
}
