//! What holds after any history.

use proptest::prelude::*;

use super::*;

/// Something that happens at the desk. Orders are picked among the open ones, modulo their number.
#[derive(Clone, Debug)]
enum Step {
    Signal { symbol: u32, side: Side, lots: u32, strategy: u16, reduce_only: bool },
    Fill { pick: usize, percent: i64, price: i64 },
    Event { pick: usize, kind: BrokerEventKind },
    Quote { symbol: u32, bid: i64, spread: i64 },
    Trade { symbol: u32, price: i64 },
    Wait { nanos: u64 },
    Cancel { pick: usize },
    Switch { scope: Scope, is_on: bool },
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Buy), Just(Side::Sell)]
}

fn step() -> impl Strategy<Value = Step> {
    let event = prop_oneof![
        Just(BrokerEventKind::Accepted),
        Just(BrokerEventKind::Unknown),
        Just(BrokerEventKind::Refused(Refusal::Order)),
        // The remaining quantity is informative: what was reserved is known.
        Just(BrokerEventKind::Closed { remaining: Quantity(0) }),
    ];
    let scope = prop_oneof![
        Just(Scope::All),
        (0..2u16).prop_map(|id| Scope::Account(AccountId(id))),
        (0..3u16).prop_map(|id| Scope::Strategy(StrategyId(id))),
        Just(Scope::Symbol(Symbol::new("A.X").unwrap())),
    ];
    let price = 9_000..11_000i64;
    prop_oneof![
        10 => (0..3u32, side(), 0..8u32, 0..3u16, prop::bool::weighted(0.2)).prop_map(
            |(symbol, side, lots, strategy, reduce_only)| {
                Step::Signal { symbol, side, lots, strategy, reduce_only }
            }
        ),
        6 => (0..9usize, 1..=100i64, price.clone())
            .prop_map(|(pick, percent, price)| Step::Fill { pick, percent, price }),
        3 => (0..9usize, event).prop_map(|(pick, kind)| Step::Event { pick, kind }),
        3 => (0..3u32, price.clone(), -5..50i64)
            .prop_map(|(symbol, bid, spread)| Step::Quote { symbol, bid, spread }),
        2 => (0..3u32, price).prop_map(|(symbol, price)| Step::Trade { symbol, price }),
        2 => prop_oneof![0..SECOND, 0..DAY].prop_map(|nanos| Step::Wait { nanos }),
        1 => (0..9usize).prop_map(|pick| Step::Cancel { pick }),
        1 => (scope, prop::bool::weighted(0.3))
            .prop_map(|(scope, is_on)| Step::Switch { scope, is_on }),
    ]
}

/// Limits that a random history meets often.
fn tight() -> RiskLimits {
    let mut limits = unlimited();
    limits.position_max_lots = 10;
    limits.position_max_lots_by_symbol.insert(Symbol::new("B.X").unwrap(), 4);
    limits.money.gross_exposure_max = Money::from_units(3_000);
    limits.money.net_exposure_max = Money::from_units(2_000);
    limits.money.daily_loss_max = Money::from_units(300);
    limits.money.drawdown_max = Money::from_units(500);
    limits.slot_orders_max = 3;
    limits.live_orders_max = 8;
    limits.duplicate_window_ms = 10;
    limits.self_trade_prevention = true;
    limits.rate_venue = RateLimit { per_second: 50, burst: 20 };
    limits.strategy_accounts = vec![AccountId(0), AccountId(1), AccountId(1)];
    let tokyo = AccountLimits { utc_offset_seconds: 32_400, ..AccountLimits::default() };
    limits.accounts = vec![AccountLimits::default(), tokyo];
    for class in &mut limits.classes {
        class.collar_nanos = 50_000_000;
        class.stale_ms = 10_000;
        class.slippage_nanos = 500_000;
    }
    limits
}

impl Desk {
    fn pick(&self, pick: usize) -> Option<(Order, Quantity)> {
        let open: Vec<&OpenOrder> = self.checker.open_orders().collect();
        let picked = open.get(pick % open.len().max(1))?;
        Some((*picked.approved().order(), picked.remaining()))
    }

    fn step(&mut self, step: &Step) -> Option<Result<ApprovedOrder, Denial>> {
        match *step {
            Step::Signal { symbol, side, lots, strategy, reduce_only } => {
                let signal = self.signal(SymbolId(symbol), side, lots);
                let strategy = StrategyId(strategy);
                return Some(self.check(&Signal { strategy, reduce_only, ..signal }));
            }
            Step::Fill { pick, percent, price } => {
                if let Some((order, remaining)) = self.pick(pick) {
                    self.sequence += 1;
                    self.fill(&order, (remaining.0 * percent / 100).max(1), price);
                }
            }
            Step::Event { pick, kind } => {
                if let Some((order, _)) = self.pick(pick) {
                    self.event(&order, kind);
                }
            }
            Step::Quote { symbol, bid, spread } => self.quote(SymbolId(symbol), bid, bid + spread),
            Step::Trade { symbol, price } => self.trade(SymbolId(symbol), price),
            Step::Wait { nanos } => self.wait(nanos),
            Step::Cancel { pick } => {
                if let Some((order, _)) = self.pick(pick) {
                    let now = Timestamp::from_nanos(self.now);
                    return Some(self.checker.cancel(order.id, now));
                }
            }
            Step::Switch { ref scope, is_on } => {
                if is_on {
                    self.checker.trip(scope);
                } else {
                    self.checker.rearm(scope);
                }
            }
        }
        None
    }
}

/// Positions and open orders, kept as plainly as can be.
#[derive(Default)]
struct Books {
    positions: BTreeMap<(u16, u32), i64>,
    open: BTreeMap<OrderId, (Order, i64)>,
}

impl Books {
    fn step(&mut self, step: &Step, desk: &Desk, answer: Option<&Result<ApprovedOrder, Denial>>) {
        match step {
            Step::Signal { .. } => {
                if let Some(Ok(approved)) = answer {
                    self.open.insert(approved.id, (*approved.order(), approved.quantity.0));
                }
            }
            Step::Fill { pick, percent, .. } => {
                let Some((order, remaining)) = desk.pick(*pick) else { return };
                let filled = (remaining.0 * percent / 100).max(1);
                let key = (order.account.0, order.instrument.0);
                *self.positions.entry(key).or_default() += order.side.signed(Quantity(filled)).0;
                let entry = self.open.get_mut(&order.id).expect("the checker's are ours");
                entry.1 -= filled;
                if entry.1 == 0 {
                    self.open.remove(&order.id);
                }
            }
            Step::Event { pick, kind } => {
                let is_end =
                    matches!(kind, BrokerEventKind::Refused(_) | BrokerEventKind::Closed { .. });
                if let Some((order, _)) = desk.pick(*pick).filter(|_| is_end) {
                    self.open.remove(&order.id);
                }
            }
            Step::Quote { .. }
            | Step::Trade { .. }
            | Step::Wait { .. }
            | Step::Cancel { .. }
            | Step::Switch { .. } => {}
        }
    }

    /// The position if the open orders in `subset` (a bit each) fill.
    fn position_after(&self, key: (u16, u32), subset: u32) -> i64 {
        let of_key = |order: &Order| (order.account.0, order.instrument.0) == key;
        let orders = self.open.values().filter(|(order, _)| of_key(order));
        let filled = (0..).zip(orders).filter(|(bit, _)| subset >> bit & 1 == 1);
        let signed = filled.map(|(_, (order, left))| order.side.signed(Quantity(*left)).0);
        self.positions.get(&key).copied().unwrap_or(0) + signed.sum::<i64>()
    }
}

/// Invariant 3: totals are sums over instruments.
fn totals_add_up(checker: &RiskChecker) {
    for account in &checker.state.accounts {
        for (currency, totals) in account.totals.iter().enumerate() {
            let of_currency = || {
                let holdings = account.holdings.iter().zip(&checker.terms);
                holdings.filter(|(_, terms)| terms.currency == currency).map(|(one, _)| one)
            };
            let sum = |part: fn(&Value) -> Money| -> Money {
                of_currency().map(|holding| part(&holding.value)).sum()
            };
            assert_eq!(totals.gross, sum(|value| value.gross));
            assert_eq!(totals.longest, sum(|value| value.longest));
            assert_eq!(totals.shortest, sum(|value| value.shortest));
            assert_eq!(totals.margin, sum(|value| value.margin));
            assert_eq!(totals.unrealised, sum(|value| value.unrealised));
            let realised: Money = of_currency().map(|holding| holding.position.realised).sum();
            assert_eq!(totals.realised, realised);
            assert!(totals.peak >= totals.equity());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Invariant 2, checked for every subset against books kept apart; and the reservations are the
    /// open orders' own.
    #[test]
    fn no_subset_of_open_orders_takes_a_position_past_its_limit(
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut desk = Desk::new(tight());
        let mut books = Books::default();
        for step in &steps {
            let before = desk.clone();
            let answer = desk.step(step);
            books.step(step, &before, answer.as_ref());
            totals_add_up(&desk.checker);
            for key in (0..2u16).flat_map(|account| (0..3u32).map(move |index| (account, index))) {
                let max = if key.1 == 1 { 4 } else { 10 };
                let count = books.open.values()
                    .filter(|(order, _)| (order.account.0, order.instrument.0) == key).count();
                let after = (0..1u32 << count).map(|subset| books.position_after(key, subset));
                let (low, high) = after.fold((i64::MAX, i64::MIN), |(low, high), position| {
                    (low.min(position), high.max(position))
                });
                prop_assert!(-max <= low && high <= max, "{key:?}: {low} to {high}");
                let exposure =
                    desk.checker.exposure_of(AccountId(key.0), InstrumentIndex(key.1));
                prop_assert_eq!((exposure.shortest.0, exposure.longest.0), (low, high));
            }
        }
    }

    /// Invariant 4: a desk whose checker is restored again and again gives the answers of one that
    /// never was, and ends equal to it.
    #[test]
    fn a_restored_checker_goes_on_as_it_would_have(
        steps in prop::collection::vec((step(), prop::bool::weighted(0.2)), 1..120),
    ) {
        let (mut whole, mut broken) = (Desk::new(tight()), Desk::new(tight()));
        for (step, is_restored) in &steps {
            if *is_restored {
                let restored = broken.restored();
                prop_assert_eq!(&restored, &broken);
                broken = restored;
            }
            prop_assert_eq!(whole.step(step), broken.step(step));
        }
        prop_assert_eq!(whole, broken);
    }

    /// Invariant 5: a denial leaves all but counters and tokens as they were.
    #[test]
    fn a_denial_reserves_nothing(steps in prop::collection::vec(step(), 1..80)) {
        let mut desk = Desk::new(tight());
        for step in &steps {
            let before = desk.checker.state.clone();
            if let Some(Err(_)) = desk.step(step) {
                let after = &desk.checker.state;
                prop_assert_eq!(&before.open, &after.open);
                prop_assert_eq!(&before.books, &after.books);
                for (before, after) in before.accounts.iter().zip(&after.accounts) {
                    let mut after = after.clone();
                    after.rate = before.rate;
                    prop_assert_eq!(before, &after);
                }
            }
        }
    }

    /// Invariants 1 and 6: limit prices are on the tick, never better than the reference, and no
    /// order passes a kill switch.
    #[test]
    fn approved_orders_are_well_formed(steps in prop::collection::vec(step(), 1..80)) {
        let mut desk = Desk::new(tight());
        for step in &steps {
            let tripped = desk.checker.tripped();
            if let (Step::Signal { .. }, Some(Ok(order))) = (step, desk.step(step)) {
                let instrument = desk.checker.instrument(order.instrument);
                prop_assert!(order.limit_price.0 > 0);
                prop_assert_eq!(order.limit_price.0 % instrument.tick_size.0, 0);
                let ask = order.top().ask.expect("both sides are always quoted");
                let bid = order.top().bid.expect("both sides are always quoted");
                let is_worse = match order.side {
                    Side::Buy => order.limit_price >= ask,
                    Side::Sell => order.limit_price <= bid,
                };
                prop_assert!(is_worse);
                let is_stopped = tripped.iter().any(|scope| match scope {
                    Scope::All => true,
                    Scope::Account(account) => *account == order.account,
                    Scope::Strategy(strategy) => *strategy == order.strategy,
                    Scope::Symbol(symbol) => *symbol == instrument.symbol,
                });
                prop_assert!(!is_stopped);
            }
        }
    }
}
