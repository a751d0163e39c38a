//! Every limit: exactly there, and one past it; and the order in which they are looked at.

use super::*;
use DenialCode as Code;

/// `unlimited`, changed.
fn with(change: impl FnOnce(&mut RiskLimits)) -> RiskLimits {
    let mut limits = unlimited();
    change(&mut limits);
    limits
}

fn with_class(change: impl Fn(&mut ClassLimits)) -> RiskLimits {
    with(|limits| limits.classes.iter_mut().for_each(change))
}

/// A desk where `A.X` is not the usual share.
fn trading(limits: RiskLimits, change: impl FnOnce(&mut Instrument)) -> Desk {
    let mut instrument = share("A.X");
    change(&mut instrument);
    Desk::with(limits, [instrument, share("B.X"), share("C.Y")])
}

#[test]
fn an_unknown_instrument_is_denied() {
    let mut desk = Desk::new(unlimited());
    assert_eq!(desk.order(SymbolId(3), Side::Buy, 1), Err(Code::InstrumentUnknown));
}

#[test]
fn orders_wait_for_the_session() {
    let noon = 43_200;
    let session = Session { spans: vec![(noon + 1, noon + 2)] };
    let mut desk = trading(unlimited(), |instrument| instrument.session = session);
    assert_eq!(desk.buy(1), Err(Code::SessionClosed));
    desk.wait(SECOND);
    assert!(desk.buy(1).is_ok());
    desk.wait(SECOND);
    assert_eq!(desk.sell(1), Err(Code::SessionClosed), "reducing orders wait too");
}

#[test]
fn a_missing_or_zero_price_is_denied() {
    let mut desk = Desk::new(unlimited());
    desk.quote(A, 0, 10_010);
    assert_eq!(desk.sell(1), Err(Code::PriceMissing));
    assert!(desk.buy(1).is_ok());
    desk.quote(A, -5, 10_010);
    assert_eq!(desk.sell(1), Err(Code::PriceMissing));
    let mut blind = Desk { checker: RiskChecker::new(unlimited()), now: NOON, sequence: 0 };
    let definition = Definition { id: A, instrument: Arc::new(share("A.X")) };
    blind.checker.define(SourceId(0), &definition);
    assert_eq!(blind.buy(1), Err(Code::PriceMissing));
}

#[test]
fn a_price_that_no_tick_can_say_is_denied() {
    let mut desk = trading(unlimited(), |instrument| instrument.tick_size = Price(0));
    assert_eq!(desk.buy(1), Err(Code::PriceStep));
    let mut desk = trading(unlimited(), |instrument| instrument.tick_size = Price(9_991));
    assert_eq!(desk.sell(1), Err(Code::PriceStep), "99.90 rounds down to nothing");
    assert!(desk.buy(1).is_ok());
}

#[test]
fn quantities_are_lots_between_the_smallest_and_the_largest() {
    let mut desk = trading(unlimited(), |instrument| {
        instrument.lot = Quantity(10);
        instrument.quantity_min = Quantity(20);
        instrument.quantity_max = Quantity(40);
    });
    assert_eq!(desk.buy(0), Err(Code::LotStep));
    assert_eq!(desk.buy(1), Err(Code::QuantityMin));
    assert!(desk.buy(2).is_ok());
    assert!(desk.buy(4).is_ok());
    assert_eq!(desk.buy(5), Err(Code::QuantityMax));
    let mut desk = trading(unlimited(), |instrument| {
        instrument.lot = Quantity(i64::MAX);
        instrument.quantity_max = Quantity(i64::MAX);
    });
    assert_eq!(desk.buy(2), Err(Code::QuantityMax), "more than a number can hold");
    let mut desk = trading(unlimited(), |instrument| instrument.lot = Quantity(0));
    assert_eq!(desk.buy(1), Err(Code::LotStep));
}

#[test]
fn an_order_is_worth_no_less_and_no_more_than_allowed() {
    let mut desk = Desk::new(with(|limits| {
        limits.money.order_value_min = Money::parse("200.20").unwrap();
        limits.money.order_value_max = Money::parse("400.40").unwrap();
    }));
    assert_eq!(desk.buy(1), Err(Code::OrderValueMin));
    assert!(desk.buy(2).is_ok());
    assert!(desk.buy(4).is_ok());
    assert_eq!(desk.buy(5), Err(Code::OrderValueMax));
    desk.hold(B, 9);
    assert!(desk.order(B, Side::Sell, 9).is_ok(), "reducing");
    desk.hold(C, 1);
    assert_eq!(desk.order(C, Side::Sell, 1), Err(Code::OrderValueMin), "the venue would refuse");
}

#[test]
fn a_currency_may_have_limits_of_its_own() {
    let limits = with(|limits| {
        limits.money.order_value_max = Money::from_units(500);
        let money = MoneyLimits { order_value_max: Money::from_units(50), ..limits.money };
        limits.currencies.insert("EUR".into(), money);
    });
    let mut desk = trading(limits, |instrument| instrument.currency = "EUR".into());
    assert_eq!(desk.buy(1), Err(Code::OrderValueMax));
    assert!(desk.order(B, Side::Buy, 1).is_ok());
}

#[test]
fn the_collar_is_laid_around_the_last_trade() {
    let mut desk = Desk::new(with_class(|class| class.collar_nanos = 1_000_000));
    assert!(desk.buy(1).is_ok(), "100.10 is 0.1 % above 100.00");
    assert!(desk.sell(1).is_ok());
    desk.quote(A, 9_989, 10_011);
    assert_eq!(desk.buy(1), Err(Code::Collar));
    assert_eq!(desk.sell(1), Err(Code::Collar));
    desk.hold(A, 1);
    assert_eq!(desk.sell(1), Err(Code::Collar), "reducing at a wrong price is no less wrong");
}

#[test]
fn the_collar_is_laid_around_the_middle_when_the_last_trade_is_old() {
    let mut desk = Desk::new(with_class(|class| {
        class.collar_nanos = 1_000_000;
        class.stale_ms = 1_000;
    }));
    desk.now += SECOND;
    desk.quote(A, 10_990, 11_010);
    assert_eq!(desk.buy(1), Err(Code::Collar));
    desk.now += 1;
    desk.quote(A, 10_990, 11_010);
    assert!(desk.buy(1).is_ok());
}

#[test]
fn the_price_limit_is_measured_from_the_mark_before_the_day() {
    let mut desk = Desk::new(with_class(|class| class.price_limit_nanos = 100_000_000));
    desk.wait(SECOND);
    desk.trade(A, 11_000);
    desk.quote(A, 10_990, 11_000);
    desk.wait(SECOND);
    assert!(desk.buy(1).is_ok(), "10 % above 100.00");
    desk.quote(A, 10_990, 11_001);
    assert_eq!(desk.buy(1), Err(Code::PriceLimit));
    desk.wait(DAY / 2);
    assert!(desk.buy(1).is_ok(), "110.00 is what the next day begins from");
    desk.quote(A, 10_990, 12_101);
    assert_eq!(desk.buy(1), Err(Code::PriceLimit));
}

#[test]
fn positions_stop_at_their_largest_on_both_sides_open_orders_counted() {
    let mut desk = Desk::new(with(|limits| limits.position_max_lots = 100));
    assert!(desk.buy(60).is_ok());
    assert!(desk.buy(40).is_ok());
    assert_eq!(desk.buy(1), Err(Code::Position));
    assert!(desk.sell(100).is_ok(), "none of the buys may fill");
    assert_eq!(desk.sell(1), Err(Code::Position));
    let signal = desk.signal(A, Side::Buy, 1);
    let denial = desk.check(&signal).unwrap_err();
    assert_eq!(denial.to_string(), "position: 101 where the limit is 100 lots");
}

#[test]
fn a_symbol_may_have_a_largest_position_of_its_own() {
    let mut desk = Desk::new(with(|limits| {
        limits.position_max_lots = 100;
        limits.position_max_lots_by_symbol.insert(Symbol::new("A.X").unwrap(), 2);
    }));
    assert_eq!(desk.buy(3), Err(Code::Position));
    assert!(desk.buy(2).is_ok());
    assert!(desk.order(B, Side::Buy, 100).is_ok());
}

#[test]
fn where_short_sales_are_not_allowed_only_what_is_held_is_sold() {
    let mut desk = Desk::new(with_class(|class| class.short_allowed = false));
    assert_eq!(desk.sell(1), Err(Code::ShortSale));
    let bought = desk.buy(2).unwrap();
    assert_eq!(desk.sell(1), Err(Code::ShortSale), "an open buy may never fill");
    desk.fill(&bought, 2, 10_010);
    assert!(desk.sell(1).is_ok());
    assert_eq!(desk.sell(2), Err(Code::ShortSale));
    assert!(desk.sell(1).is_ok());
    assert_eq!(desk.sell(1), Err(Code::ShortSale));
}

#[test]
fn gross_exposure_adds_up_long_and_short() {
    let mut desk = Desk::new(with(|limits| {
        limits.money.gross_exposure_max = Money::from_units(1_000);
    }));
    desk.hold(A, 6);
    assert!(desk.order(B, Side::Sell, 4).is_ok());
    assert_eq!(desk.order(C, Side::Buy, 1), Err(Code::GrossExposure));
    assert!(desk.sell(6).is_ok(), "reducing");
}

#[test]
fn net_exposure_sets_long_against_short() {
    let mut desk = Desk::new(with(|limits| {
        limits.money.net_exposure_max = Money::from_units(1_000);
    }));
    desk.hold(A, 8);
    desk.hold(B, -2);
    assert!(desk.order(C, Side::Buy, 4).is_ok());
    assert_eq!(desk.order(C, Side::Buy, 1), Err(Code::NetExposure));
    assert!(desk.order(B, Side::Sell, 14).is_ok(), "8 long, 16 short, none of the 4 filled");
    assert!(desk.order(B, Side::Sell, 2).is_ok());
    assert_eq!(desk.order(B, Side::Sell, 1), Err(Code::NetExposure));
}

#[test]
fn no_instrument_becomes_too_much_of_a_portfolio() {
    let mut desk = Desk::new(with(|limits| {
        limits.concentration_max_nanos = 500_000_000;
        limits.concentration_gross_min = Money::from_units(500);
    }));
    assert!(desk.buy(5).is_ok(), "all of a small portfolio");
    assert_eq!(desk.buy(1), Err(Code::Concentration));
    assert!(desk.order(B, Side::Sell, 5).is_ok());
    assert_eq!(desk.order(B, Side::Sell, 1), Err(Code::Concentration));
}

#[test]
fn margin_is_held_for_all_open_orders_out_of_cash_and_profit() {
    let limits = with(|limits| {
        limits.classes.iter_mut().for_each(|class| class.margin_nanos = 100_000_000);
        let cash = BTreeMap::from([("USD".to_owned(), Money::from_units(100))]);
        limits.accounts = vec![AccountLimits { utc_offset_seconds: 0, cash }];
    });
    let mut desk = trading(limits, |_| {});
    let order = desk.buy(6).unwrap();
    assert!(desk.order(B, Side::Sell, 4).is_ok());
    assert_eq!(desk.order(C, Side::Buy, 1), Err(Code::Margin));
    desk.event(&order, BrokerEventKind::Closed { remaining: Quantity(6) });
    desk.hold(A, 5);
    assert!(desk.order(C, Side::Buy, 1).is_ok());
    assert_eq!(desk.order(C, Side::Buy, 1), Err(Code::Margin));
    desk.trade(A, 10_400);
    desk.wait(SECOND);
    assert!(desk.order(C, Side::Buy, 1).is_ok(), "20 earned, 2 more to hold");
    assert!(desk.sell(5).is_ok());
}

#[test]
fn a_currency_that_is_not_held_carries_nothing() {
    let limits = with(|limits| {
        let cash = BTreeMap::from([("USD".to_owned(), Money::from_units(1_000))]);
        limits.accounts = vec![AccountLimits { utc_offset_seconds: 0, cash }];
    });
    let mut desk = trading(limits, |instrument| instrument.currency = "EUR".into());
    assert_eq!(desk.buy(1), Err(Code::Margin));
    assert!(desk.order(B, Side::Buy, 1).is_ok());
}

#[test]
fn a_reduce_only_order_never_turns_a_position_over() {
    let mut desk = Desk::new(unlimited());
    desk.hold(A, 3);
    let reduce = |desk: &mut Desk, side, lots| {
        let signal = Signal { reduce_only: true, ..desk.signal(A, side, lots) };
        desk.check(&signal).map(drop).map_err(|denial| denial.code)
    };
    assert_eq!(reduce(&mut desk, Side::Buy, 1), Err(Code::ReduceOnly));
    assert_eq!(reduce(&mut desk, Side::Sell, 4), Err(Code::ReduceOnly));
    assert_eq!(reduce(&mut desk, Side::Sell, 2), Ok(()));
    assert_eq!(
        reduce(&mut desk, Side::Sell, 2),
        Err(Code::ReduceOnly),
        "two of three are spoken for"
    );
    assert_eq!(reduce(&mut desk, Side::Sell, 1), Ok(()));
}

#[test]
fn buying_back_a_short_reduces_to_zero_and_no_further() {
    let mut desk = Desk::new(unlimited());
    desk.hold(A, -3);
    desk.checker.set_state(FIRST, TradingState::Reducing);
    assert_eq!(desk.sell(1), Err(Code::StateReducing));
    assert_eq!(desk.buy(4), Err(Code::StateReducing));
    assert!(desk.buy(2).is_ok());
    assert_eq!(desk.buy(2), Err(Code::StateReducing), "two of three are spoken for");
    assert!(desk.buy(1).is_ok());
}

#[test]
fn refused_orders_use_up_the_rate_too() {
    let rate = RateLimit { per_second: 1, burst: 2 };
    let mut desk = Desk::new(with(|limits| limits.rate_strategy = rate));
    assert_eq!(desk.buy(0), Err(Code::LotStep));
    assert_eq!(desk.order(SymbolId(9), Side::Buy, 1), Err(Code::InstrumentUnknown));
    assert_eq!(desk.buy(1), Err(Code::RateStrategy));
    desk.wait(SECOND - 1);
    assert_eq!(desk.buy(1), Err(Code::RateStrategy));
    desk.wait(1);
    assert!(desk.buy(1).is_ok());
    desk.hold(A, 5);
    assert!(desk.sell(5).is_ok(), "reducing");
}

#[test]
fn rates_are_kept_per_strategy_account_and_venue() {
    let rate = RateLimit { per_second: 1, burst: 1 };
    let by = |desk: &mut Desk, strategy, symbol| {
        let strategy = StrategyId(strategy);
        let signal = Signal { strategy, ..desk.signal(symbol, Side::Buy, 1) };
        desk.check(&signal).map(drop).map_err(|denial| denial.code)
    };
    let mut desk = Desk::new(with(|limits| limits.rate_strategy = rate));
    assert_eq!(by(&mut desk, 0, A), Ok(()));
    assert_eq!(by(&mut desk, 0, C), Err(Code::RateStrategy));
    assert_eq!(by(&mut desk, 1, A), Ok(()));

    let mut desk = Desk::new(with(|limits| {
        limits.rate_account = rate;
        limits.strategy_accounts = vec![AccountId(0), AccountId(0), AccountId(1)];
    }));
    assert_eq!(by(&mut desk, 0, A), Ok(()));
    assert_eq!(by(&mut desk, 1, A), Err(Code::RateAccount));
    assert_eq!(by(&mut desk, 2, A), Ok(()));

    let mut desk = Desk::new(with(|limits| limits.rate_venue = rate));
    assert_eq!(by(&mut desk, 0, A), Ok(()));
    assert_eq!(by(&mut desk, 1, B), Err(Code::RateVenue), "A and B share a venue");
    assert_eq!(by(&mut desk, 0, C), Ok(()));
}

#[test]
fn a_day_has_so_many_orders_and_so_many_cancels() {
    let mut desk = Desk::new(with(|limits| limits.orders_per_day_max = 2));
    assert!(desk.buy(1).is_ok());
    assert!(desk.buy(1).is_ok());
    assert_eq!(desk.buy(1), Err(Code::DailyOrders));
    desk.hold(A, 1);
    assert!(desk.sell(1).is_ok(), "reducing");

    let mut desk = Desk::new(with(|limits| limits.cancels_per_day_max = 2));
    let orders = [desk.buy(1).unwrap(), desk.buy(1).unwrap(), desk.buy(1).unwrap()];
    let now = Timestamp::from_nanos(desk.now);
    assert!(desk.checker.cancel(orders[0].id, now).is_ok());
    assert!(desk.buy(1).is_ok());
    assert!(desk.checker.cancel(orders[1].id, now).is_ok());
    assert_eq!(desk.buy(1), Err(Code::DailyCancels));
    assert!(desk.checker.cancel(orders[2].id, now).is_ok(), "cancels pass");
    desk.wait(DAY);
    assert!(desk.buy(1).is_ok());
}

#[test]
fn only_so_many_orders_are_open_at_once() {
    let mut desk = Desk::new(with(|limits| limits.live_orders_max = 2));
    let order = desk.buy(1).unwrap();
    assert!(desk.order(B, Side::Buy, 1).is_ok());
    assert_eq!(desk.order(C, Side::Buy, 1), Err(Code::LiveOrders));
    desk.fill(&order, 1, 10_010);
    assert!(desk.order(C, Side::Buy, 1).is_ok());
}

#[test]
fn the_same_order_soon_after_is_a_mistake() {
    let mut desk = Desk::new(with(|limits| limits.duplicate_window_ms = 500));
    assert!(desk.buy(1).is_ok());
    assert!(desk.sell(1).is_ok(), "another side");
    assert!(desk.order(B, Side::Buy, 1).is_ok(), "another symbol");
    desk.now += SECOND / 2 - 1;
    assert_eq!(desk.buy(1), Err(Code::Duplicate));
    assert!(desk.buy(2).is_ok(), "another quantity");
    desk.quote(A, 9_990, 10_011);
    assert!(desk.buy(2).is_ok(), "another price");
    desk.now += SECOND / 2;
    assert!(desk.buy(2).is_ok(), "later");
}

#[test]
fn the_id_of_an_open_order_is_not_used_again() {
    let mut desk = Desk::new(unlimited());
    let signal = desk.signal(A, Side::Buy, 1);
    assert!(desk.check(&signal).is_ok());
    assert_eq!(desk.check(&signal).unwrap_err().code, Code::Duplicate);
    assert_eq!(desk.exposure(A).2, 1);
}

#[test]
fn no_order_meets_an_open_one_of_ours_in_any_account() {
    let mut desk = Desk::new(with(|limits| {
        limits.self_trade_prevention = true;
        limits.strategy_accounts = vec![AccountId(0), AccountId(1)];
    }));
    let sold = desk.sell(1).unwrap();
    assert_eq!(sold.limit_price, Price(9_990));
    let buy = |desk: &mut Desk, symbol| {
        let signal = Signal { strategy: StrategyId(1), ..desk.signal(symbol, Side::Buy, 1) };
        desk.check(&signal).map(drop).map_err(|denial| denial.code)
    };
    desk.quote(A, 9_980, 9_990);
    assert_eq!(buy(&mut desk, A), Err(Code::SelfTrade));
    assert_eq!(buy(&mut desk, B), Ok(()));
    desk.quote(A, 9_980, 9_989);
    assert_eq!(buy(&mut desk, A), Ok(()), "below what we ask");
}

#[test]
fn listed_symbols_may_only_be_left() {
    let only = |name: &str| std::collections::BTreeSet::from([Symbol::new(name).unwrap()]);
    let mut desk = Desk::new(with(|limits| limits.symbols_denied = only("A.X")));
    assert_eq!(desk.buy(1), Err(Code::SymbolDenied));
    assert!(desk.order(B, Side::Buy, 1).is_ok());
    desk.hold(A, 1);
    assert!(desk.sell(1).is_ok());
    let mut desk = Desk::new(with(|limits| limits.symbols_allowed = only("A.X")));
    assert!(desk.buy(1).is_ok());
    assert_eq!(desk.order(B, Side::Buy, 1), Err(Code::SymbolNotAllowed));
}

#[test]
fn a_price_grows_too_old_by_its_own_row() {
    let mut desk = Desk::new(with_class(|class| class.stale_ms = 10_000));
    desk.now += 10 * SECOND;
    desk.trade(A, 10_000);
    assert!(desk.buy(1).is_ok());
    desk.now += 1;
    desk.trade(A, 10_000);
    assert_eq!(desk.buy(1), Err(Code::StaleData), "a trade does not make a quote fresh");
    desk.quote(A, 9_990, 10_010);
    assert!(desk.buy(1).is_ok());
    let signal = desk.signal(A, Side::Buy, 1);
    desk.now += 10 * SECOND + 1;
    desk.quote(A, 9_990, 10_010);
    assert_eq!(desk.check(&signal).unwrap_err().code, Code::StaleData, "the signal is old");
}

#[test]
fn a_last_price_is_as_old_as_the_snapshot_that_repeats_it() {
    let mut desk = Desk::new(with_class(|class| class.stale_ms = 10_000));
    desk.now += 60 * SECOND;
    let (kind, has) = (Kind::Snapshot as u8, has::PRICE);
    desk.tick(Tick { kind, has, price: 10_000, ..Tick::default() });
    assert!(desk.buy(1).is_ok());
    desk.wait(10 * SECOND + 1);
    assert_eq!(desk.sell(1), Err(Code::StaleData));
}

#[test]
fn what_comes_from_the_future_is_denied() {
    let mut desk = Desk::new(with(|limits| limits.clock_skew_max_ms = 5_000));
    let mut signal = desk.signal(A, Side::Buy, 1);
    signal.id.key.frontier = Timestamp::from_nanos(desk.now + 5 * SECOND);
    assert!(desk.check(&signal).is_ok());
    signal.id.key.frontier = Timestamp::from_nanos(desk.now + 5 * SECOND + 1);
    assert_eq!(desk.check(&signal).unwrap_err().code, Code::ClockSkew);
}

#[test]
fn a_slot_takes_one_order_at_a_time() {
    let mut desk = Desk::new(with(|limits| limits.slot_orders_max = 1));
    let order = desk.buy(2).unwrap();
    assert_eq!(desk.buy(1), Err(Code::SlotBusy));
    assert!(desk.sell(1).is_ok());
    assert!(desk.order(B, Side::Buy, 1).is_ok());
    desk.fill(&order, 1, 10_010);
    assert_eq!(desk.buy(1), Err(Code::SlotBusy), "half is still open");
    desk.fill(&order, 1, 10_010);
    assert!(desk.buy(1).is_ok());
}

#[test]
fn a_slot_that_waits_for_an_unknown_outcome_says_so() {
    let mut desk = Desk::new(with(|limits| limits.slot_orders_max = 1));
    let order = desk.buy(1).unwrap();
    desk.event(&order, BrokerEventKind::Unknown);
    assert_eq!(desk.buy(1), Err(Code::SlotUnknown), "and not that it is busy");
    desk.event(&order, BrokerEventKind::Accepted);
    assert_eq!(desk.buy(1), Err(Code::SlotBusy));
}

#[test]
fn with_the_defaults_an_ordinary_order_passes_and_a_large_one_does_not() {
    let mut desk = Desk::new(RiskLimits::default());
    assert!(desk.buy(100).is_ok());
    assert_eq!(desk.order(B, Side::Buy, 101), Err(Code::Position));
    assert_eq!(desk.order(B, Side::Buy, 9_991), Err(Code::OrderValueMax), "1,000,099.10");
}

/// Everything an order may be wrong in; what is told is the first, and putting that right leads to
/// the next.
#[test]
fn the_first_failed_check_is_the_one_that_is_told() {
    let mut desk = Desk::new(unlimited());
    desk.hold(A, -5);
    desk.buy(1).unwrap();
    desk.sell(1).unwrap();
    let unknown = desk.sell(1).unwrap();
    desk.event(&unknown, BrokerEventKind::Unknown);
    let mut signal = Signal { reduce_only: true, ..desk.signal(SymbolId(9), Side::Sell, 0) };
    signal.id.key.frontier = Timestamp::from_nanos(desk.now + 60 * SECOND);

    let tiny = Money::parse("0.01").unwrap();
    let rate = RateLimit { per_second: 1, burst: 1 };
    let mut limits = unlimited();
    let everything = MoneyLimits {
        order_value_min: Money::from_units(1_000),
        order_value_max: tiny,
        gross_exposure_max: tiny,
        net_exposure_max: tiny,
        daily_loss_max: tiny,
        drawdown_max: tiny,
    };
    limits.money = everything;
    for class in &mut limits.classes {
        class.collar_nanos = 1;
        class.price_limit_nanos = 1;
        class.stale_ms = 1;
        class.short_allowed = false;
    }
    limits.position_max_lots = 1;
    limits.concentration_max_nanos = 1;
    let cash = BTreeMap::from([("USD".to_owned(), tiny)]);
    limits.accounts = vec![AccountLimits { utc_offset_seconds: 0, cash }];
    (limits.rate_strategy, limits.rate_account, limits.rate_venue) = (rate, rate, rate);
    (limits.orders_per_day_max, limits.cancels_per_day_max) = (1, 1);
    (limits.live_orders_max, limits.slot_orders_max) = (1, 1);
    (limits.duplicate_window_ms, limits.clock_skew_max_ms) = (60_000, 1);
    limits.self_trade_prevention = true;
    limits.symbols_denied.insert(Symbol::new("A.X").unwrap());
    limits.symbols_allowed.insert(Symbol::new("B.X").unwrap());

    let mut state = desk.checker.state().clone();
    state.instruments[0] = Arc::new(Instrument {
        tick_size: Price(0),
        quantity_min: Quantity(2),
        quantity_max: Quantity(0),
        session: Session { spans: vec![(0, 1)] },
        ..share("A.X")
    });
    state.books[0].bid = Some(Price(0));
    state.books[0].quoted_at.frontier = Timestamp::from_nanos(NOON - 60 * SECOND);
    state.killed = true;
    let now = Timestamp::from_nanos(NOON);
    state.strategies[0].rate.take(rate, now);
    state.venues[0].take(rate, now);
    let account = &mut state.accounts[0];
    account.rate.take(rate, now);
    (account.cancels_today, account.state) = (1, TradingState::Reducing);
    (account.totals[0].peak, account.totals[0].day_start) =
        (Money::from_units(9), Money::from_units(9));

    type Repair = fn(&mut RiskLimits, &mut RiskState, &mut Signal);
    fn repair_instrument(state: &mut RiskState, change: impl FnOnce(&mut Instrument)) {
        change(Arc::make_mut(&mut state.instruments[0]));
    }
    fn each_class(limits: &mut RiskLimits, change: impl Fn(&mut ClassLimits)) {
        limits.classes.iter_mut().for_each(change);
    }
    let repairs: [(Code, Repair); 37] = [
        (Code::InstrumentUnknown, |_, _, signal| signal.symbol = A),
        (Code::SessionClosed, |_, state, _| {
            repair_instrument(state, |instrument| instrument.session = Session::default());
        }),
        (Code::PriceMissing, |_, state, _| state.books[0].bid = Some(Price(9_990))),
        (Code::PriceStep, |_, state, _| {
            repair_instrument(state, |instrument| instrument.tick_size = Price(1));
        }),
        (Code::LotStep, |_, _, signal| signal.lots = 1),
        (Code::QuantityMin, |_, state, _| {
            repair_instrument(state, |instrument| instrument.quantity_min = Quantity(1));
        }),
        (Code::QuantityMax, |_, state, _| {
            repair_instrument(state, |instrument| instrument.quantity_max = Quantity(1));
        }),
        (Code::OrderValueMin, |limits, _, _| limits.money.order_value_min = Money::ZERO),
        (Code::OrderValueMax, |limits, _, _| limits.money.order_value_max = Money::ZERO),
        (Code::Collar, |limits, _, _| each_class(limits, |class| class.collar_nanos = 0)),
        (Code::PriceLimit, |limits, _, _| each_class(limits, |class| class.price_limit_nanos = 0)),
        (Code::Position, |limits, _, _| limits.position_max_lots = 0),
        (Code::ShortSale, |limits, _, _| each_class(limits, |class| class.short_allowed = true)),
        (Code::GrossExposure, |limits, _, _| limits.money.gross_exposure_max = Money::ZERO),
        (Code::NetExposure, |limits, _, _| limits.money.net_exposure_max = Money::ZERO),
        (Code::Concentration, |limits, _, _| limits.concentration_max_nanos = 0),
        (Code::Margin, |limits, _, _| limits.accounts.clear()),
        (Code::ReduceOnly, |_, _, signal| signal.reduce_only = false),
        (Code::RateStrategy, |limits, _, _| limits.rate_strategy.per_second = 0),
        (Code::RateAccount, |limits, _, _| limits.rate_account.per_second = 0),
        (Code::RateVenue, |limits, _, _| limits.rate_venue.per_second = 0),
        (Code::DailyOrders, |limits, _, _| limits.orders_per_day_max = 0),
        (Code::DailyCancels, |limits, _, _| limits.cancels_per_day_max = 0),
        (Code::LiveOrders, |limits, _, _| limits.live_orders_max = 0),
        (Code::Duplicate, |limits, _, _| limits.duplicate_window_ms = 0),
        (Code::SelfTrade, |limits, _, _| limits.self_trade_prevention = false),
        (Code::SymbolDenied, |limits, _, _| limits.symbols_denied.clear()),
        (Code::SymbolNotAllowed, |limits, _, _| limits.symbols_allowed.clear()),
        (Code::Drawdown, |limits, _, _| limits.money.drawdown_max = Money::ZERO),
        (Code::DailyLoss, |limits, _, _| limits.money.daily_loss_max = Money::ZERO),
        (Code::StateReducing, |_, state, _| state.accounts[0].state = TradingState::Halted),
        (Code::StateHalted, |_, state, _| state.accounts[0].state = TradingState::Active),
        (Code::KillSwitch, |_, state, _| state.killed = false),
        (Code::StaleData, |limits, _, _| each_class(limits, |class| class.stale_ms = 0)),
        (Code::ClockSkew, |limits, _, _| limits.clock_skew_max_ms = 0),
        (Code::SlotBusy, |limits, _, _| limits.slot_orders_max = 0),
        (Code::SlotUnknown, |_, state, _| state.accounts[0].holdings[0].unknown[1] = 0),
    ];
    for (index, (code, repair)) in repairs.into_iter().enumerate() {
        assert_eq!(code.index(), index);
        let mut checker = RiskChecker::restore(limits.clone(), state.clone());
        let told = checker.check(&signal, now).map(drop).map_err(|denial| denial.code);
        assert_eq!(told, Err(code));
        // Restoring valued what is held against the limits that are being put right.
        assert_eq!(checker.state.accounts[0].holdings, state.accounts[0].holdings);
        repair(&mut limits, &mut state, &mut signal);
    }
    assert!(RiskChecker::restore(limits, state).check(&signal, now).is_ok());
}

/// For as long as what happens cannot be recorded.
#[test]
fn what_cannot_be_recorded_opens_nothing_and_still_reduces() {
    let mut desk = Desk::new(unlimited());
    desk.hold(A, 5);
    desk.checker.deny_opening(true);
    assert_eq!(desk.buy(1), Err(Code::RecordsFull));
    assert!(desk.sell(1).is_ok(), "it brings the position nearer to zero");
    // Whoever goes on from here was told before.
    desk.checker = RiskChecker::restore(desk.checker.limits.clone(), desk.checker.state().clone());
    assert_eq!(desk.buy(1), Err(Code::RecordsFull));
    desk.checker.deny_opening(false);
    assert!(desk.buy(1).is_ok());
}

/// All that a reducing order is spared, at once.
#[test]
fn a_reducing_order_passes_what_keeps_exposure_small() {
    let mut desk = Desk::new(unlimited());
    desk.hold(A, 5);
    let tiny = Money::parse("0.01").unwrap();
    let rate = RateLimit { per_second: 1, burst: 1 };
    let limits = with(|limits| {
        limits.position_max_lots = 1;
        limits.money = MoneyLimits {
            order_value_min: Money::ZERO,
            order_value_max: tiny,
            gross_exposure_max: tiny,
            net_exposure_max: tiny,
            daily_loss_max: tiny,
            drawdown_max: tiny,
        };
        limits.concentration_max_nanos = 1;
        let cash = BTreeMap::from([("USD".to_owned(), tiny)]);
        limits.accounts = vec![AccountLimits { utc_offset_seconds: 0, cash }];
        (limits.rate_strategy, limits.rate_account, limits.rate_venue) = (rate, rate, rate);
        (limits.orders_per_day_max, limits.cancels_per_day_max) = (1, 1);
        limits.live_orders_max = 1;
        limits.symbols_denied.insert(Symbol::new("A.X").unwrap());
        limits.symbols_allowed.insert(Symbol::new("B.X").unwrap());
    });
    desk.checker = RiskChecker::restore(limits, desk.checker.state().clone());
    desk.trade(A, 9_000);
    desk.wait(SECOND);
    assert_eq!(desk.checker.trading_state(FIRST, "USD"), TradingState::Reducing);
    let now = Timestamp::from_nanos(desk.now);
    let order = desk.sell(1).unwrap();
    desk.checker.cancel(order.id, now).unwrap();
    assert!(desk.sell(3).is_ok());
    assert_eq!(desk.sell(2), Err(Code::OrderValueMax), "to one short, if all fill");
    assert!(desk.sell(1).is_ok());
}
