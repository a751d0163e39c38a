//! A desk that feeds a checker as exec does, and what the checker should make of it.

use super::*;
use crate::domain::{
    AccountId, BrokerId, Class, Key, Kind, Money, Refusal, Scope, Session, Side, Span, has,
};

mod limits;
mod properties;

const DAY: u64 = NANOS_PER_DAY;
const SECOND: u64 = 1_000_000_000;
/// Noon of some day, UTC.
const NOON: u64 = 19_000 * DAY + DAY / 2;

/// A share in cents, one a lot; bought and sold around 100.00.
fn share(name: &str) -> Instrument {
    Instrument {
        symbol: Symbol::new(name).unwrap(),
        class: Class::Generic,
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
    }
}

/// No limit at all, and orders priced exactly at the far side of the book.
fn unlimited() -> RiskLimits {
    let class = ClassLimits {
        collar_nanos: 0,
        price_limit_nanos: 0,
        slippage_nanos: 0,
        margin_nanos: 1_000_000_000,
        stale_ms: 0,
        short_allowed: true,
    };
    let money = MoneyLimits {
        order_value_min: Money::ZERO,
        order_value_max: Money::ZERO,
        gross_exposure_max: Money::ZERO,
        net_exposure_max: Money::ZERO,
        daily_loss_max: Money::ZERO,
        drawdown_max: Money::ZERO,
    };
    let rate = RateLimit { per_second: 0, burst: 0 };
    RiskLimits {
        position_max_lots: 0,
        money,
        classes: [class; 8],
        rate_strategy: rate,
        rate_account: rate,
        rate_venue: rate,
        orders_per_day_max: 0,
        cancels_per_day_max: 0,
        live_orders_max: 0,
        slot_orders_max: 0,
        duplicate_window_ms: 0,
        self_trade_prevention: false,
        clock_skew_max_ms: 0,
        ..RiskLimits::default()
    }
}

/// Source 0 knows `A.X`, `B.X` and `C.Y` as 0, 1 and 2, each at 99.90 to 100.10, last 100.00.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Desk {
    checker: RiskChecker,
    now: u64,
    sequence: u64,
}

const A: SymbolId = SymbolId(0);
const B: SymbolId = SymbolId(1);
const C: SymbolId = SymbolId(2);
const FIRST: AccountId = AccountId(0);

impl Desk {
    fn new(limits: RiskLimits) -> Self {
        Self::with(limits, [share("A.X"), share("B.X"), share("C.Y")])
    }

    fn with(limits: RiskLimits, instruments: [Instrument; 3]) -> Self {
        let mut desk = Self { checker: RiskChecker::new(limits), now: NOON, sequence: 0 };
        for (id, instrument) in (0..).map(SymbolId).zip(instruments) {
            let definition = Definition { id, instrument: Arc::new(instrument) };
            desk.checker.define(SourceId(0), &definition);
            desk.quote(id, 9_990, 10_010);
            desk.trade(id, 10_000);
        }
        desk
    }

    fn key(&self) -> Key {
        let frontier = Timestamp::from_nanos(self.now);
        Key { frontier, source: SourceId(0), sequence: self.sequence }
    }

    fn tick(&mut self, tick: Tick) {
        self.sequence += 1;
        let mut batch = TickBatch::default();
        assert!(batch.push(self.key(), tick));
        self.checker.on_tick(&batch, &batch.rows[0]);
    }

    fn quote(&mut self, symbol: SymbolId, bid: i64, ask: i64) {
        let has = has::BID | has::ASK;
        let kind = Kind::Quote as u8;
        self.tick(Tick { symbol: symbol.0, kind, has, bid, ask, ..Tick::default() });
    }

    fn trade(&mut self, symbol: SymbolId, price: i64) {
        let (kind, has) = (Kind::Trade as u8, has::PRICE);
        self.tick(Tick { symbol: symbol.0, kind, has, price, ..Tick::default() });
    }

    /// Time passes and a boundary row says so.
    fn wait(&mut self, nanos: u64) {
        self.now += nanos;
        self.tick(Tick { kind: Kind::Boundary as u8, symbol: 77, ..Tick::default() });
    }

    fn signal(&mut self, symbol: SymbolId, side: Side, lots: u32) -> Signal {
        self.sequence += 1;
        Signal {
            id: OrderId { key: self.key(), ordinal: 0 },
            strategy: StrategyId(0),
            symbol,
            side,
            lots,
            reduce_only: false,
            origin_nanos: 0,
        }
    }

    fn check(&mut self, signal: &Signal) -> Result<ApprovedOrder, Denial> {
        self.checker.check(signal, Timestamp::from_nanos(self.now))
    }

    fn order(
        &mut self,
        symbol: SymbolId,
        side: Side,
        lots: u32,
    ) -> Result<ApprovedOrder, DenialCode> {
        let signal = self.signal(symbol, side, lots);
        self.check(&signal).map_err(|denial| denial.code)
    }

    fn buy(&mut self, lots: u32) -> Result<ApprovedOrder, DenialCode> {
        self.order(A, Side::Buy, lots)
    }

    fn sell(&mut self, lots: u32) -> Result<ApprovedOrder, DenialCode> {
        self.order(A, Side::Sell, lots)
    }

    fn event(&mut self, order: &Order, kind: BrokerEventKind) {
        let due = Timestamp::from_nanos(self.now);
        let event = BrokerEvent { due, order: order.id, ordinal: 0, broker: BrokerId(0), kind };
        self.checker.on_event(&event);
    }

    fn fill(&mut self, order: &Order, quantity: i64, price: i64) {
        self.fill_with_fee(order, quantity, price, Money::ZERO);
    }

    fn fill_with_fee(&mut self, order: &Order, quantity: i64, price: i64, fee: Money) {
        let fill = Fill {
            order: order.id,
            instrument: order.instrument,
            account: order.account,
            trade_id: self.sequence,
            broker: BrokerId(0),
            side: order.side,
            quantity: Quantity(quantity),
            price: Price(price),
            fee,
            fee_elsewhere: None,
        };
        self.event(order, BrokerEventKind::Filled(fill));
    }

    /// Buys or sells and fills at 100.00, whatever the limits.
    fn hold(&mut self, symbol: SymbolId, lots: i64) {
        let order = Order {
            id: OrderId { key: Key::START, ordinal: 0 },
            strategy: StrategyId(0),
            account: FIRST,
            instrument: self.index(symbol),
            side: if lots > 0 { Side::Buy } else { Side::Sell },
            quantity: Quantity(lots.abs()),
            limit_price: Price(10_000),
            reduce_only: false,
            reduces: false,
        };
        self.fill(&order, lots.abs(), 10_000);
    }

    fn index(&self, symbol: SymbolId) -> InstrumentIndex {
        self.checker.index_of(SourceId(0), symbol).unwrap()
    }

    fn exposure(&self, symbol: SymbolId) -> (i64, i64, i64) {
        let exposure = self.checker.exposure(self.index(symbol));
        (exposure.shortest.0, exposure.position.quantity.0, exposure.longest.0)
    }

    fn dollars(&self) -> CurrencyTotals {
        *self.checker.totals(FIRST).next().unwrap().1
    }

    /// The same desk, with its checker from a checkpoint.
    fn restored(&self) -> Self {
        let config = bincode::config::standard();
        let bytes = bincode::serde::encode_to_vec(self.checker.state(), config).unwrap();
        let (state, read) = bincode::serde::decode_from_slice(&bytes, config).unwrap();
        assert_eq!(read, bytes.len());
        let checker = RiskChecker::restore(self.checker.limits().clone(), state);
        Self { checker, ..*self }
    }
}

// --- Instruments and books -------------------------------------------------------------------

#[test]
fn two_sources_that_name_one_symbol_share_its_index() {
    let mut desk = Desk::new(unlimited());
    let definition = Definition { id: SymbolId(5), instrument: Arc::new(share("B.X")) };
    let index = desk.checker.define(SourceId(3), &definition);
    assert_eq!(index, desk.index(B));
    assert_eq!(desk.checker.index_of(SourceId(3), SymbolId(5)), Some(index));
    assert_eq!(desk.checker.index_of(SourceId(3), SymbolId(4)), None);
    assert_eq!(desk.checker.index_of(SourceId(4), SymbolId(5)), None);
    assert_eq!(desk.checker.instruments().len(), 3);
}

#[test]
fn a_one_sided_quote_changes_its_own_side_only() {
    let mut desk = Desk::new(unlimited());
    let before = desk.checker.top(desk.index(A));
    let (kind, has) = (Kind::Quote as u8, has::BID | has::BID_QUANTITY);
    desk.tick(Tick { kind, has, bid: 9_980, bid_quantity: 7, ..Tick::default() });
    let top = desk.checker.top(desk.index(A));
    let (bid, bid_quantity) = (Some(Price(9_980)), Some(Quantity(7)));
    assert_eq!(top, TopOfBook { bid, bid_quantity, quoted_at: desk.key(), ..before });
}

#[test]
fn a_snapshot_replaces_the_book_and_trades_only_with_volume() {
    let mut desk = Desk::new(unlimited());
    let before = desk.checker.top(desk.index(A));
    let kind = Kind::Snapshot as u8;
    let has = has::ASK | has::PRICE | has::VOLUME;
    desk.tick(Tick { kind, has, ask: 10_005, price: 10_001, ..Tick::default() });
    let idle = desk.checker.top(desk.index(A));
    assert_eq!((idle.bid, idle.ask), (None, Some(Price(10_005))));
    assert_eq!(idle.last, Some(Price(10_001)));
    assert_eq!((idle.quoted_at, idle.traded_at), (desk.key(), before.traded_at));
    desk.tick(Tick { kind, has, ask: 10_005, price: 10_001, volume: 1, ..Tick::default() });
    assert_eq!(desk.checker.top(desk.index(A)).traded_at, desk.key());
}

#[test]
fn a_boundary_row_and_an_undefined_symbol_change_no_book() {
    let mut desk = Desk::new(unlimited());
    let books = desk.checker.state.books.clone();
    desk.tick(Tick { kind: Kind::Boundary as u8, has: has::BID, bid: 1, ..Tick::default() });
    desk.trade(SymbolId(9), 5);
    assert_eq!(desk.checker.state.books, books);
}

// --- Making orders ---------------------------------------------------------------------------

#[test]
fn an_order_takes_the_far_side_and_gives_way_to_the_next_tick() {
    let mut limits = unlimited();
    for class in &mut limits.classes {
        class.slippage_nanos = 1_000_000; // 0.1 %
    }
    let mut desk = Desk::with(
        limits,
        [Instrument { tick_size: Price(5), ..share("A.X") }, share("B.X"), {
            Instrument { lot: Quantity(100), ..share("C.Y") }
        }],
    );
    // 100.10 and 0.1 % is 100.2001; 99.90 less 0.1 % is 99.8001.
    assert_eq!(desk.buy(1).unwrap().limit_price, Price(10_025));
    assert_eq!(desk.sell(1).unwrap().limit_price, Price(9_980));
    let order = desk.order(C, Side::Buy, 3).unwrap();
    assert_eq!((order.quantity, order.limit_price), (Quantity(300), Price(10_021)));
    assert_eq!(order.top(), &desk.checker.top(desk.index(C)));
}

#[test]
fn a_price_already_on_the_tick_is_not_moved() {
    let mut desk = Desk::new(unlimited());
    assert_eq!(desk.buy(1).unwrap().limit_price, Price(10_010));
    assert_eq!(desk.sell(1).unwrap().limit_price, Price(9_990));
}

#[test]
fn without_a_far_side_the_last_trade_makes_the_price() {
    let mut desk = Desk::new(unlimited());
    let (kind, has) = (Kind::Snapshot as u8, has::PRICE);
    desk.tick(Tick { kind, has, price: 10_000, ..Tick::default() });
    assert_eq!(desk.buy(1).unwrap().limit_price, Price(10_000));
    assert_eq!(desk.sell(1).unwrap().limit_price, Price(10_000));
}

// --- Reservations ----------------------------------------------------------------------------

#[test]
fn open_orders_count_before_they_fill_and_not_after_they_end() {
    let mut desk = Desk::new(unlimited());
    let bought = desk.buy(5).unwrap();
    let sold = desk.sell(3).unwrap();
    assert_eq!(desk.exposure(A), (-3, 0, 5));
    desk.fill(&bought, 2, 10_010);
    assert_eq!(desk.exposure(A), (-1, 2, 5));
    desk.event(&bought, BrokerEventKind::Closed { remaining: Quantity(3) });
    assert_eq!(desk.exposure(A), (-1, 2, 2));
    desk.event(&sold, BrokerEventKind::Refused(Refusal::Order));
    assert_eq!(desk.exposure(A), (2, 2, 2));
    assert_eq!(desk.checker.open_orders().len(), 0);
    desk.event(&sold, BrokerEventKind::Closed { remaining: Quantity(3) });
    assert_eq!(desk.exposure(A), (2, 2, 2), "the end of an order that is over is nothing new");
}

#[test]
fn an_order_that_can_only_reduce_says_so_though_that_was_not_asked_for() {
    let mut desk = Desk::new(unlimited());
    desk.hold(A, 5);
    assert!(!desk.buy(1).unwrap().reduces);
    let closing = desk.sell(5).unwrap();
    assert!(closing.reduces && !closing.reduce_only);
    assert!(!desk.sell(1).unwrap().reduces, "with the one before it would turn the position");
}

#[test]
fn an_overfill_and_a_fill_after_the_end_still_move_the_position() {
    let mut desk = Desk::new(unlimited());
    let order = desk.buy(2).unwrap();
    desk.fill(&order, 3, 10_010);
    assert_eq!(desk.exposure(A), (3, 3, 3));
    desk.fill(&order, 1, 10_010);
    assert_eq!(desk.exposure(A), (4, 4, 4));
}

#[test]
fn an_unknown_order_blocks_its_slot_until_it_is_resolved() {
    let mut desk = Desk::new(unlimited());
    let order = desk.buy(1).unwrap();
    desk.event(&order, BrokerEventKind::Unknown);
    assert_eq!(desk.buy(1), Err(DenialCode::SlotUnknown));
    assert!(desk.sell(1).is_ok(), "the other side is another slot");
    assert_eq!(desk.exposure(A).2, 1, "it may still fill");
    desk.event(&order, BrokerEventKind::Accepted);
    assert!(desk.buy(1).is_ok());
    desk.event(&order, BrokerEventKind::Unknown);
    desk.fill(&order, 1, 10_010);
    assert!(desk.buy(1).is_ok());
}

#[test]
fn realised_and_unrealised_profit_and_fees_make_up_equity() {
    let mut desk = Desk::new(unlimited());
    let order = desk.buy(10).unwrap();
    desk.fill_with_fee(&order, 10, 10_010, Money::from_units(1));
    let order = desk.sell(4).unwrap();
    desk.fill_with_fee(&order, 4, 10_060, Money::from_units(1));
    let totals = desk.dollars();
    assert_eq!(totals.realised, Money::from_units(2));
    assert_eq!(totals.fees, Money::from_units(2));
    assert_eq!(totals.unrealised, Money::parse("-0.6").unwrap(), "6 at 100.10, marked at 100.00");
    assert_eq!(totals.equity(), Money::parse("-0.6").unwrap());
    assert_eq!(totals.gross, Money::from_units(600));
}

#[test]
fn holdings_are_revalued_at_the_first_row_of_each_interval() {
    let mut desk = Desk::new(unlimited());
    desk.wait(1);
    desk.hold(A, 10);
    desk.now += SECOND / 2;
    desk.trade(A, 11_000);
    assert_eq!(desk.dollars().unrealised, Money::ZERO);
    desk.wait(SECOND / 2 - 2);
    assert_eq!(desk.dollars().unrealised, Money::ZERO, "one nanosecond before the second");
    desk.wait(1);
    assert_eq!(desk.dollars().unrealised, Money::from_units(100));
    assert_eq!(desk.dollars().gross, Money::from_units(1_100));
}

#[test]
fn an_inverse_contract_held_long_is_long_exposure() {
    let inverse = Instrument { inverse: true, currency: "BTC".into(), ..share("A.X") };
    let mut desk = Desk::with(unlimited(), [inverse, share("B.X"), share("C.Y")]);
    desk.hold(A, 100);
    let totals = desk.dollars();
    assert_eq!(totals.longest, Money::from_units(1), "100 dollars at 100 dollars a coin");
    assert_eq!((totals.shortest, totals.gross), (totals.longest, totals.longest));
}

// --- Days, losses, states --------------------------------------------------------------------

/// Losses above 100 a day, or 150 below the peak, are too much.
fn loss_limits() -> RiskLimits {
    let mut limits = unlimited();
    limits.money.daily_loss_max = Money::from_units(100);
    limits.money.drawdown_max = Money::from_units(150);
    limits
}

#[test]
fn a_loss_of_exactly_the_limit_passes_and_one_past_it_leaves_only_reducing() {
    let mut desk = Desk::new(loss_limits());
    desk.hold(A, 100);
    desk.trade(A, 9_900);
    desk.wait(SECOND);
    assert_eq!(desk.dollars().daily_loss(), Money::from_units(100));
    assert!(desk.order(B, Side::Buy, 1).is_ok());
    assert_eq!(desk.checker.trading_state(FIRST, "USD"), TradingState::Active);
    desk.trade(A, 9_899);
    desk.wait(SECOND);
    assert_eq!(desk.order(B, Side::Buy, 1), Err(DenialCode::DailyLoss));
    assert_eq!(desk.checker.trading_state(FIRST, "USD"), TradingState::Reducing);
    assert!(desk.sell(1).is_ok());
}

#[test]
fn a_loss_in_one_currency_stops_nobody_in_another() {
    let yen = Instrument { currency: "JPY".into(), ..share("C.Y") };
    for breach_state in [TradingState::Reducing, TradingState::Halted] {
        let limits = RiskLimits { breach_state, ..loss_limits() };
        let mut desk = Desk::with(limits, [share("A.X"), share("B.X"), yen.clone()]);
        desk.hold(A, 100);
        desk.trade(A, 9_800);
        desk.wait(SECOND);
        assert_eq!(desk.order(B, Side::Buy, 1), Err(DenialCode::Drawdown));
        assert!(desk.order(C, Side::Buy, 1).is_ok());
        assert_eq!(desk.checker.trading_state(FIRST, "USD"), breach_state);
        assert_eq!(desk.checker.trading_state(FIRST, "JPY"), TradingState::Active);
        // What was won back is still held against the currency that lost it, and no other.
        desk.trade(A, 10_000);
        desk.wait(SECOND);
        assert!(desk.order(B, Side::Buy, 1).is_err());
        assert!(desk.order(C, Side::Sell, 1).is_ok());
        // An operator means the account, whatever it trades in.
        desk.checker.set_state(FIRST, TradingState::Halted);
        assert_eq!(desk.order(C, Side::Buy, 2), Err(DenialCode::StateHalted));
        desk.checker.rearm(&Scope::Account(FIRST));
        assert!(desk.order(B, Side::Buy, 1).is_ok());
    }
}

#[test]
fn a_loss_won_back_leaves_the_account_reducing_until_its_next_day() {
    let mut desk = Desk::new(loss_limits());
    desk.hold(A, 100);
    desk.trade(A, 9_899);
    desk.wait(SECOND);
    desk.trade(A, 10_000);
    desk.wait(SECOND);
    assert_eq!(desk.order(B, Side::Buy, 1), Err(DenialCode::StateReducing));
    desk.wait(DAY / 2);
    assert!(desk.order(B, Side::Buy, 1).is_ok());
}

#[test]
fn a_drawdown_is_measured_from_the_peak_and_outlives_the_day() {
    let mut desk = Desk::new(loss_limits());
    desk.hold(A, 100);
    desk.trade(A, 10_200);
    desk.wait(SECOND);
    assert_eq!(desk.dollars().peak, Money::from_units(200));
    desk.trade(A, 10_050);
    desk.wait(SECOND);
    assert!(desk.order(B, Side::Buy, 1).is_ok(), "150 below the peak");
    desk.trade(A, 10_049);
    desk.wait(SECOND);
    assert_eq!(desk.order(B, Side::Buy, 1), Err(DenialCode::Drawdown));
    desk.wait(DAY);
    assert_eq!(desk.order(B, Side::Buy, 1), Err(DenialCode::Drawdown));
    desk.checker.rearm(&Scope::Account(FIRST));
    assert!(desk.order(B, Side::Buy, 1).is_ok());
    assert_eq!(desk.dollars().drawdown(), Money::ZERO);
}

#[test]
fn a_breach_may_halt_and_then_waits_for_an_operator() {
    let limits = RiskLimits { breach_state: TradingState::Halted, ..loss_limits() };
    let mut desk = Desk::new(limits);
    desk.hold(A, 100);
    desk.trade(A, 9_899);
    desk.wait(SECOND);
    assert_eq!(desk.sell(1), Err(DenialCode::StateHalted));
    desk.wait(DAY);
    assert_eq!(desk.sell(1), Err(DenialCode::StateHalted));
    desk.checker.rearm(&Scope::Account(FIRST));
    assert!(desk.sell(1).is_ok());
}

#[test]
fn a_day_begins_at_the_accounts_own_midnight() {
    let mut limits = RiskLimits { orders_per_day_max: 1, ..unlimited() };
    let shanghai = AccountLimits { utc_offset_seconds: 8 * 3_600, ..AccountLimits::default() };
    limits.accounts = vec![shanghai];
    let mut desk = Desk::new(limits);
    assert!(desk.buy(1).is_ok());
    assert_eq!(desk.buy(1), Err(DenialCode::DailyOrders));
    desk.wait(4 * 3_600 * SECOND - 1);
    assert_eq!(desk.buy(1), Err(DenialCode::DailyOrders));
    desk.wait(1);
    assert!(desk.buy(1).is_ok(), "noon UTC and four hours is midnight in Shanghai");
}

#[test]
fn each_day_measures_its_own_loss() {
    let mut desk = Desk::new(RiskLimits {
        money: MoneyLimits { drawdown_max: Money::ZERO, ..loss_limits().money },
        ..unlimited()
    });
    desk.hold(A, 100);
    desk.trade(A, 9_920);
    desk.wait(DAY / 2);
    assert_eq!(desk.dollars().daily_loss(), Money::ZERO);
    desk.trade(A, 9_820);
    desk.wait(SECOND);
    assert_eq!(desk.dollars().daily_loss(), Money::from_units(100));
    assert!(desk.order(B, Side::Buy, 1).is_ok());
}

#[test]
fn an_operator_may_hold_an_account_to_reducing() {
    let mut desk = Desk::new(unlimited());
    desk.hold(A, 2);
    desk.checker.set_state(FIRST, TradingState::Reducing);
    assert_eq!(desk.buy(1), Err(DenialCode::StateReducing));
    assert!(desk.sell(2).is_ok());
    assert_eq!(desk.sell(1), Err(DenialCode::StateReducing), "the open sell may take it all");
    desk.checker.set_state(FIRST, TradingState::Halted);
    assert_eq!(desk.sell(1), Err(DenialCode::StateHalted));
    desk.checker.set_state(FIRST, TradingState::Active);
    assert!(desk.buy(1).is_ok());
}

// --- Kill switch and cancels -----------------------------------------------------------------

#[test]
fn each_kill_switch_stops_its_scope_until_that_scope_is_armed_again() {
    let scopes = [
        Scope::All,
        Scope::Account(FIRST),
        Scope::Strategy(StrategyId(0)),
        Scope::Symbol(Symbol::new("A.X").unwrap()),
    ];
    for scope in &scopes {
        let mut desk = Desk::new(unlimited());
        desk.hold(A, 5);
        let open = desk.buy(1).unwrap();
        assert_eq!(desk.checker.trip(scope), [*open.order()], "{scope:?}");
        assert_eq!(desk.buy(1), Err(DenialCode::KillSwitch), "{scope:?}");
        assert_eq!(desk.sell(1), Err(DenialCode::KillSwitch), "reducing too: {scope:?}");
        assert_eq!(desk.checker.tripped(), std::slice::from_ref(scope));
        let now = Timestamp::from_nanos(desk.now);
        assert_eq!(desk.checker.cancel(open.id, now), Ok(open), "cancels pass");
        desk.wait(2 * DAY);
        let mut desk = desk.restored();
        for other in scopes.iter().filter(|other| *other != scope) {
            desk.checker.rearm(other);
        }
        assert_eq!(desk.buy(1), Err(DenialCode::KillSwitch), "{scope:?}");
        desk.checker.rearm(scope);
        assert!(desk.buy(1).is_ok(), "{scope:?}");
    }
}

#[test]
fn a_kill_switch_leaves_what_is_outside_its_scope_alone() {
    let mut limits = unlimited();
    limits.strategy_accounts = vec![AccountId(0), AccountId(1)];
    let mut desk = Desk::new(limits);
    let mine = desk.buy(1).unwrap();
    let signal = desk.signal(B, Side::Buy, 1);
    let theirs = Signal { strategy: StrategyId(1), ..signal };
    let order = desk.check(&theirs).unwrap();
    assert_eq!(order.account, AccountId(1));
    for scope in [
        Scope::Account(AccountId(1)),
        Scope::Strategy(StrategyId(1)),
        Scope::Symbol(Symbol::new("B.X").unwrap()),
    ] {
        assert_eq!(desk.checker.trip(&scope), [*order.order()]);
        assert!(desk.buy(1).is_ok());
        let signal = Signal { strategy: StrategyId(1), ..desk.signal(B, Side::Buy, 1) };
        assert_eq!(desk.check(&signal).unwrap_err().code, DenialCode::KillSwitch);
        desk.checker.rearm(&scope);
    }
    assert_eq!(desk.checker.trip(&Scope::All)[0], *mine.order());
}

#[test]
fn a_symbol_may_be_killed_before_it_is_defined() {
    let mut desk = Desk::new(unlimited());
    let symbol = Symbol::new("D.X").unwrap();
    assert_eq!(desk.checker.trip(&Scope::Symbol(symbol)), []);
    let definition = Definition { id: SymbolId(3), instrument: Arc::new(share("D.X")) };
    desk.checker.define(SourceId(0), &definition);
    desk.quote(SymbolId(3), 9_990, 10_010);
    assert_eq!(desk.order(SymbolId(3), Side::Buy, 1), Err(DenialCode::KillSwitch));
}

#[test]
fn only_an_open_order_can_be_cancelled_and_it_stays_open_until_the_broker_says_so() {
    let mut desk = Desk::new(unlimited());
    let now = Timestamp::from_nanos(NOON);
    let order = desk.buy(1).unwrap();
    assert!(desk.checker.cancel(order.id, now).is_ok());
    assert!(desk.checker.open_orders().next().unwrap().is_cancelling());
    assert_eq!(desk.exposure(A).2, 1);
    desk.event(&order, BrokerEventKind::Closed { remaining: Quantity(1) });
    let denial = desk.checker.cancel(order.id, now).unwrap_err();
    assert_eq!(denial.code, DenialCode::OrderUnknown);
}

// --- Counting --------------------------------------------------------------------------------

#[test]
fn approvals_and_denials_are_counted_by_code_and_strategy() {
    let mut desk = Desk::new(RiskLimits { slot_orders_max: 1, ..unlimited() });
    assert!(desk.buy(1).is_ok());
    assert_eq!(desk.buy(1), Err(DenialCode::SlotBusy));
    let signal = Signal { strategy: StrategyId(2), ..desk.signal(SymbolId(9), Side::Buy, 1) };
    assert!(desk.check(&signal).is_err());
    assert_eq!((desk.checker.approved(), desk.checker.denied()), (1, 2));
    let counts = [(DenialCode::InstrumentUnknown, 1), (DenialCode::SlotBusy, 1)];
    assert_eq!(desk.checker.denied_by_code().collect::<Vec<_>>(), counts);
    let (approved, denied) = desk.checker.counts_of(StrategyId(0));
    assert_eq!((approved, denied.collect::<Vec<_>>()), (1, vec![(DenialCode::SlotBusy, 1)]));
    let (approved, denied) = desk.checker.counts_of(StrategyId(2));
    let expected = vec![(DenialCode::InstrumentUnknown, 1)];
    assert_eq!((approved, denied.collect::<Vec<_>>()), (0, expected));
}

#[test]
fn the_same_symbol_of_another_source_is_the_same_position() {
    let mut desk = Desk::new(RiskLimits { position_max_lots: 3, ..unlimited() });
    let definition = Definition { id: SymbolId(0), instrument: Arc::new(share("A.X")) };
    desk.checker.define(SourceId(1), &definition);
    assert!(desk.buy(2).is_ok());
    let mut signal = desk.signal(A, Side::Buy, 2);
    signal.id.key.source = SourceId(1);
    assert_eq!(desk.check(&signal).unwrap_err().code, DenialCode::Position);
    signal.lots = 1;
    assert!(desk.check(&signal).is_ok());
}

#[test]
fn limits_that_changed_hold_from_the_restart_on() {
    let mut desk = Desk::new(unlimited());
    desk.hold(A, 5);
    let limits = RiskLimits { position_max_lots: 3, ..unlimited() };
    desk.checker = RiskChecker::restore(limits, desk.checker.state().clone());
    assert_eq!(desk.buy(1), Err(DenialCode::Position));
    assert_eq!(desk.sell(9), Err(DenialCode::Position), "to 4 short");
    assert!(desk.sell(8).is_ok());
    assert_eq!(desk.exposure(A), (-3, 5, 5));
    let span = Timestamp::from_nanos(desk.now).since(Timestamp::from_nanos(NOON));
    assert_eq!(span, Span::ZERO);
}
