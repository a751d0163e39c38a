//! Positions by example and by property.

use proptest::prelude::*;

use super::*;
use crate::domain::{Class, Key, OrderId, Session, Side, SourceId, StrategyId, Symbol};

fn time(seconds: u64) -> Timestamp {
    Timestamp::from_nanos(seconds * 1_000_000_000)
}

fn instrument(name: &str, currency: &str) -> Arc<Instrument> {
    Arc::new(Instrument {
        symbol: Symbol::new(name).unwrap(),
        class: Class::Generic,
        currency: currency.into(),
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

fn order_id(n: u64) -> OrderId {
    OrderId { key: Key { frontier: time(n), source: SourceId(0), sequence: n }, ordinal: 0 }
}

fn order(n: u64, instrument: u32, side: Side, quantity: i64) -> Order {
    Order {
        id: order_id(n),
        strategy: StrategyId(0),
        account: AccountId(0),
        instrument: InstrumentIndex(instrument),
        side,
        quantity: Quantity(quantity),
        limit_price: Price(10_000),
        reduce_only: false,
        reduces: false,
    }
}

/// Trade number `n` of the account: positive quantities are bought.
fn fill(n: u64, instrument: u32, quantity: i64, price: i64) -> Fill {
    Fill {
        order: order_id(n),
        instrument: InstrumentIndex(instrument),
        account: AccountId(0),
        trade_id: n,
        broker: BrokerId(0),
        side: if quantity > 0 { Side::Buy } else { Side::Sell },
        quantity: Quantity(quantity.abs()),
        price: Price(price),
        fee: Money::from_units(1),
        fee_elsewhere: None,
    }
}

fn no_marks(_: InstrumentIndex) -> Option<Price> {
    None
}

fn books() -> Positions {
    Positions::new(PositionsConfig::default())
}

#[test]
fn profit_is_realised_by_closing_and_fees_are_kept_apart() {
    let ibm = instrument("IBM.US", "USD");
    let mut books = books();
    assert!(books.on_fill(&fill(1, 0, 10, 10_000), &ibm, time(1)));
    assert!(books.on_fill(&fill(2, 0, -4, 11_000), &ibm, time(2)));
    let marks = |_| Some(Price(12_000));
    let usd = books.profit_and_loss(marks)["USD"];
    assert_eq!(usd.realised, Money::from_units(40));
    assert_eq!(usd.unrealised, Money::from_units(120));
    assert_eq!(usd.fees, Money::from_units(2));
    assert_eq!(usd.equity(), Money::from_units(158));
    let holding = books.holding(AccountId(0), InstrumentIndex(0));
    assert_eq!((holding.position.quantity, holding.fills), (Quantity(6), 2));
    assert_eq!(holding.position.average_price(&ibm), Some(100.0));
    assert_eq!((usd.closed.wins, usd.closed.count()), (1, 1));
}

#[test]
fn what_has_no_mark_is_valued_at_its_last_fill() {
    let ibm = instrument("IBM.US", "USD");
    let mut books = books();
    books.on_fill(&fill(1, 0, 1, 10_000), &ibm, time(1));
    books.on_fill(&fill(2, 0, 1, 11_000), &ibm, time(1));
    assert_eq!(books.profit_and_loss(no_marks)["USD"].unrealised, Money::from_units(10));
}

#[test]
fn currencies_are_never_added_up() {
    let (ibm, dax) = (instrument("IBM.US", "USD"), instrument("DAX.DE", "EUR"));
    let mut books = books();
    books.on_fill(&fill(1, 1, 1, 10_000), &dax, time(1));
    books.on_fill(&fill(2, 0, 1, 10_000), &ibm, time(1));
    books.on_fill(&fill(3, 1, -1, 9_000), &dax, time(1));
    let all = books.profit_and_loss(no_marks);
    assert_eq!(all["EUR"].realised, Money::from_units(-10));
    assert_eq!((all["USD"].realised, all["USD"].fees), (Money::ZERO, Money::from_units(1)));
    assert_eq!(books.currencies().collect::<Vec<_>>(), ["EUR", "USD"]);
    assert_eq!((all["EUR"].closed.losses, all["EUR"].closed.lost), (1, Money::from_units(10)));
    assert_eq!(all["USD"].closed, ClosedTrades::default());
}

#[test]
fn a_fill_seen_twice_is_one_fill() {
    let ibm = instrument("IBM.US", "USD");
    let mut books = books();
    let one = fill(7, 0, 10, 10_000);
    assert!(books.on_fill(&one, &ibm, time(1)));
    let before = books.clone();
    assert!(!books.on_fill(&one, &ibm, time(1)));
    assert_eq!(books.digest(), before.digest());
    assert_eq!(books.holding(AccountId(0), InstrumentIndex(0)).position.quantity, Quantity(10));
    assert_eq!((books.counters().fills, books.counters().fills_repeated), (1, 1));
    // The same number at another broker, or of another account, is another trade.
    assert!(books.on_fill(&Fill { broker: BrokerId(1), ..one }, &ibm, time(1)));
    assert!(books.on_fill(&Fill { account: AccountId(1), ..one }, &ibm, time(1)));
}

#[test]
fn drawdown_is_the_deepest_fall_from_a_peak_before_it() {
    let ibm = instrument("IBM.US", "USD");
    let mut books = books();
    let free = Fill { fee: Money::ZERO, ..fill(1, 0, 1, 10_000) };
    books.on_fill(&free, &ibm, time(0));
    for (at, mark) in [(1, 10_500), (2, 9_900), (3, 10_800), (4, 10_100), (5, 10_300)] {
        books.sample(time(at), |_| Some(Price(mark)));
    }
    let drawdown = |mark| books.profit_and_loss(|_| Some(Price(mark)))["USD"].drawdown_max;
    assert_eq!(drawdown(10_300), Money::from_units(7));
    assert_eq!(drawdown(9_800), Money::from_units(10), "the end counts, sampled or not");
    let curve: Vec<f64> = books.curve().iter().map(|point| point.equity[0].to_f64()).collect();
    assert_eq!(curve, [5.0, -1.0, 8.0, 1.0, 3.0]);
}

#[test]
fn a_loss_from_the_start_is_a_drawdown() {
    let ibm = instrument("IBM.US", "USD");
    let mut books = books();
    books.on_fill(&fill(1, 0, 1, 10_000), &ibm, time(0));
    books.sample(time(1), |_| Some(Price(9_900)));
    assert_eq!(books.profit_and_loss(no_marks)["USD"].drawdown_max, Money::from_units(2));
}

#[test]
fn what_is_held_short_is_at_work_as_much_as_what_is_held_long() {
    let (ibm, bac) = (instrument("IBM.US", "USD"), instrument("BAC.US", "USD"));
    let mut books = books();
    let marks = |index: InstrumentIndex| Some(Price([11_000, 9_000][index.index()]));
    books.on_fill(&fill(1, 0, 10, 10_000), &ibm, time(1));
    books.on_fill(&fill(2, 1, -30, 10_000), &bac, time(1));
    books.sample(time(2), marks);
    // From 10 long to 5 short.
    books.on_fill(&fill(3, 0, -15, 11_000), &ibm, time(3));
    books.sample(time(4), marks);
    let units = Money::from_units;
    let held = |course: &Course| (course.gross_max, course.gross_sum);
    let all: Vec<_> = books.courses().map(|(_, course)| held(course)).collect();
    assert_eq!(all, [(units(1_100 + 2_700), units(1_100 + 2_700 + 550 + 2_700))]);
    let each: Vec<_> =
        books.courses_by_instrument(marks).map(|(_, course, _)| held(course)).collect();
    assert_eq!(each, [(units(1_100), units(1_100 + 550)), (units(2_700), units(2 * 2_700))]);
}

#[test]
fn charts_are_of_the_busiest_instruments() {
    let config = PositionsConfig { charts_max: 2, chart_points_max: 10, ..Default::default() };
    let mut books = Positions::new(config);
    let names = ["A.X", "B.X", "C.X"].map(|name| instrument(name, "USD"));
    let mut n = 0;
    // C trades last, and most.
    for (index, trades) in [(0, 5), (1, 30), (2, 60)] {
        for _ in 0..trades {
            n += 1;
            books.on_order(&order(n, index, Side::Buy, 3), &names[index as usize]);
            books.on_fill(&fill(n, index, 1, 10_000), &names[index as usize], time(n));
            books.sample(time(n), |_| Some(Price(10_000 + n.cast_signed())));
        }
    }
    let charted: Vec<(&str, u64)> =
        books.charts().iter().map(|chart| (chart.symbol.as_str(), chart.fill_count)).collect();
    assert_eq!(charted, [("B.X", 30), ("C.X", 60)]);
    for chart in books.charts() {
        assert_eq!(chart.order_count, chart.fill_count);
        assert!((5..=11).contains(&chart.orders.iter().count()));
        assert!(chart.orders.iter().all(|order| order.filled == Quantity(1)));
        assert!((5..=11).contains(&chart.prices.iter().count()));
    }
}

#[test]
fn a_mark_that_stays_takes_no_points() {
    let ibm = instrument("IBM.US", "USD");
    let mut books = books();
    books.on_order(&order(1, 0, Side::Buy, 1), &ibm);
    for (at, mark) in [(1, 100), (2, 100), (3, 100), (4, 101), (5, 102), (6, 102), (7, 102)] {
        books.sample(time(at), |_| Some(Price(mark)));
    }
    let points: Vec<_> = books.charts()[0].prices.iter().copied().collect();
    let expected = [(1, 100), (3, 100), (4, 101), (5, 102)];
    assert_eq!(points, expected.map(|(at, mark)| (time(at), Price(mark))));
}

#[test]
fn the_digest_of_nothing_is_zero_and_covers_no_record() {
    assert_eq!(OrderDigest::default().to_string(), "0".repeat(64));
    assert_eq!(OrderDigest::default().records(), 0);
}

#[test]
fn the_digest_stays_what_it_was_in_earlier_releases() {
    let ibm = instrument("IBM.US", "USD");
    let mut books = books();
    books.on_order(&order(1, 0, Side::Buy, 10), &ibm);
    books.on_fill(&fill(1, 0, 10, 10_000), &ibm, time(1));
    let expected = {
        let id = |tag: u8| {
            let mut record = vec![tag];
            record.extend(1_000_000_000u64.to_le_bytes());
            record.extend([0, 0]);
            record.extend(1u64.to_le_bytes());
            record.extend([0, 0, 0, 0, 6]);
            record.extend(b"IBM.US");
            record
        };
        let mut order = id(1);
        order.extend([0, 0, 0, 0, 0, 0]);
        order.extend(10i64.to_le_bytes());
        order.extend(10_000i64.to_le_bytes());
        let mut fill = id(2);
        fill.extend(1_000_000_000u64.to_le_bytes());
        fill.extend([0, 0]);
        fill.extend(1u64.to_le_bytes());
        fill.extend([0, 0]);
        fill.extend(10i64.to_le_bytes());
        fill.extend(10_000i64.to_le_bytes());
        fill.extend(1_000_000_000_000_000_000i128.to_le_bytes());
        let first = blake3::hash(&[vec![0; 32], order].concat());
        blake3::hash(&[first.as_bytes().to_vec(), fill].concat())
    };
    assert_eq!(books.digest().to_string(), expected.to_string());
}

#[test]
fn every_field_of_an_order_and_a_fill_changes_the_digest() {
    let (ibm, bac) = (instrument("IBM.US", "USD"), instrument("BAC.US", "USD"));
    let of_order = |order: Order, instrument| {
        let mut digest = OrderDigest::default();
        digest.on_order(&order, instrument);
        digest
    };
    let base = order(1, 0, Side::Buy, 10);
    let digest = of_order(base, &ibm);
    // The index is exec's own, and another in another run.
    assert_eq!(of_order(Order { instrument: InstrumentIndex(9), ..base }, &ibm), digest);
    // It follows from what was held.
    assert_eq!(of_order(Order { reduces: true, ..base }, &ibm), digest);
    assert_ne!(of_order(base, &bac), digest);
    for other in [
        Order { id: order_id(2), ..base },
        Order { id: OrderId { ordinal: 1, ..base.id }, ..base },
        Order { strategy: StrategyId(1), ..base },
        Order { account: AccountId(1), ..base },
        Order { side: Side::Sell, ..base },
        Order { quantity: Quantity(11), ..base },
        Order { limit_price: Price(1), ..base },
        Order { reduce_only: true, ..base },
    ] {
        assert_ne!(of_order(other, &ibm), digest, "{other:?}");
    }

    let of_fill = |fill: Fill, at| {
        let mut digest = OrderDigest::default();
        digest.on_fill(&fill, &ibm, at);
        digest
    };
    let base = fill(1, 0, 10, 10_000);
    let digest = of_fill(base, time(1));
    assert_eq!(of_fill(Fill { instrument: InstrumentIndex(9), ..base }, time(1)), digest);
    assert_ne!(of_fill(base, time(2)), digest);
    for other in [
        Fill { order: order_id(2), ..base },
        Fill { account: AccountId(1), ..base },
        Fill { trade_id: 2, ..base },
        Fill { broker: BrokerId(1), ..base },
        Fill { side: Side::Sell, ..base },
        Fill { quantity: Quantity(11), ..base },
        Fill { price: Price(1), ..base },
        Fill { fee: Money::ZERO, ..base },
    ] {
        assert_ne!(of_fill(other, time(1)), digest, "{other:?}");
    }
}

// --- Properties --------------------------------------------------------------------------------

/// Trades: account, instrument, signed quantity, price.
fn any_trades() -> impl Strategy<Value = Vec<(u16, u32, i64, i64)>> {
    let quantity = (-9i64..9).prop_map(|quantity| if quantity == 0 { 9 } else { quantity });
    prop::collection::vec((0u16..2, 0u32..3, quantity, 1i64..2_000), 1..60)
}

fn listed() -> [Arc<Instrument>; 3] {
    let inverse = Instrument {
        inverse: true,
        multiplier: 100,
        ..(*instrument("BTCUSD.COINM", "BTC")).clone()
    };
    let future = Instrument { multiplier: 300, ..(*instrument("IF.CFFEX", "USD")).clone() };
    [instrument("IBM.US", "USD"), Arc::new(future), Arc::new(inverse)]
}

#[test]
fn fees_in_a_third_asset_are_kept_by_it_and_change_neither_profit_nor_digest() {
    let ibm = instrument("IBM.X", "USD");
    let paid = |asset: &str, units| {
        let asset = Asset::new(asset).unwrap();
        Some(FeeElsewhere { asset, amount: Money::from_units(units) })
    };
    let (mut plain, mut books) = (self::books(), self::books());
    for (n, fee_elsewhere) in
        [(1, paid("BNB", 2)), (2, paid("KCS", 5)), (3, paid("BNB", 3)), (4, None)]
    {
        let fill = fill(n, 0, 1, 100);
        assert!(plain.on_fill(&fill, &ibm, time(n)));
        assert!(books.on_fill(&Fill { fee_elsewhere, ..fill }, &ibm, time(n)));
    }
    // Seen before.
    assert!(!books.on_fill(
        &Fill { fee_elsewhere: paid("BNB", 9), ..fill(1, 0, 1, 100) },
        &ibm,
        time(5)
    ));
    let kept: Vec<(String, Money)> =
        books.fees_elsewhere().iter().map(|(asset, paid)| (asset.to_string(), *paid)).collect();
    let expected = [("BNB", 5), ("KCS", 5)];
    assert_eq!(kept, expected.map(|(name, units)| (name.to_owned(), Money::from_units(units))));
    assert_eq!(books.digest(), plain.digest());
    assert_eq!(books.profit_and_loss(no_marks), plain.profit_and_loss(no_marks));
}

fn fills(trades: &[(u16, u32, i64, i64)]) -> Vec<Fill> {
    (1..)
        .zip(trades)
        .map(|(n, &(account, instrument, quantity, price))| Fill {
            account: AccountId(account),
            ..fill(n, instrument, quantity, price)
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn equity_is_what_a_ledger_of_cash_and_the_marks_say(
        trades in any_trades(),
        marks in prop::array::uniform3(1i64..2_000),
    ) {
        let listed = listed();
        let mut books = books();
        let mut cash: BTreeMap<&str, Money> = BTreeMap::new();
        let mut held: BTreeMap<(AccountId, InstrumentIndex), i64> = BTreeMap::new();
        for (n, fill) in fills(&trades).iter().enumerate() {
            let instrument = &listed[fill.instrument.index()];
            books.on_fill(fill, instrument, time(n as u64));
            let signed = fill.side.signed(fill.quantity);
            let cash = cash.entry(&instrument.currency).or_default();
            *cash -= instrument.value(fill.price, signed) + fill.fee;
            *held.entry((fill.account, fill.instrument)).or_default() += signed.0;
        }
        let mark = |index: InstrumentIndex| Some(Price(marks[index.index()]));
        for (&(account, index), &quantity) in &held {
            let instrument = &listed[index.index()];
            let worth = instrument.value(Price(marks[index.index()]), Quantity(quantity));
            *cash.get_mut(instrument.currency.as_str()).unwrap() += worth;
            prop_assert_eq!(books.holding(account, index).position.quantity.0, quantity);
        }
        for (currency, all) in books.profit_and_loss(mark) {
            let naive = cash[currency.as_str()];
            // Only a part closed of a cost that does not divide is rounded, to 1e-18; only inverse
            // contracts round their value.
            prop_assert!((all.equity() - naive).abs() <= Money(1_000), "{} {:?}", currency, all);
        }
    }

    #[test]
    fn a_restored_ledger_goes_on_as_the_original(
        trades in any_trades(), cut in any::<prop::sample::Index>(),
    ) {
        let listed = listed();
        let small = PositionsConfig { curve_points_max: 8, charts_max: 2, chart_points_max: 4 };
        let mut books = Positions::new(small);
        let mut restored = books.clone();
        let fills = fills(&trades);
        let cut = cut.index(fills.len());
        for (n, fill) in fills.iter().enumerate() {
            if n == cut {
                let config = bincode::config::standard();
                let bytes = bincode::serde::encode_to_vec(&books, config).unwrap();
                restored = bincode::serde::decode_from_slice(&bytes, config).unwrap().0;
            }
            for books in [&mut books, &mut restored] {
                let instrument = &listed[fill.instrument.index()];
                books.on_order(&order(n as u64, fill.instrument.0, fill.side, 9), instrument);
                books.on_fill(fill, instrument, time(n as u64));
                books.sample(time(n as u64), |_| Some(fill.price));
            }
        }
        prop_assert_eq!(books, restored);
    }

    #[test]
    fn two_fills_that_change_places_change_the_digest(
        trades in any_trades(), at in any::<prop::sample::Index>(),
    ) {
        let listed = listed();
        let mut fills = fills(&trades);
        let digest = |fills: &[Fill]| {
            let mut digest = OrderDigest::default();
            for fill in fills {
                digest.on_fill(fill, &listed[fill.instrument.index()], time(1));
            }
            digest
        };
        let before = digest(&fills);
        prop_assert_eq!(digest(&fills), before);
        if fills.len() > 1 {
            let at = at.index(fills.len() - 1);
            fills.swap(at, at + 1);
            prop_assert_ne!(digest(&fills), before);
        }
    }
}
