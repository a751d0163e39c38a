//! The router by example and by property.

use proptest::prelude::*;

use super::*;
use crate::domain::{AccountId, Fill, Money, Price, Quantity, Side, SourceId, StrategyId};

/// What risk's approved order is to the router.
struct Approved(Order, TopOfBook);

impl Approval for Approved {
    fn order(&self) -> &Order {
        &self.0
    }
    fn top(&self) -> &TopOfBook {
        &self.1
    }
}

fn key(at: u64) -> Key {
    Key { frontier: Timestamp::from_nanos(at), source: SourceId(0), sequence: at }
}

fn order(at: u64) -> Order {
    Order {
        id: OrderId { key: key(at), ordinal: 0 },
        strategy: StrategyId(0),
        account: AccountId(0),
        instrument: InstrumentIndex(0),
        side: Side::Buy,
        quantity: Quantity(7),
        limit_price: Price(100),
        reduce_only: false,
        reduces: false,
    }
}

fn top(bid: i64) -> TopOfBook {
    TopOfBook { bid: Some(Price(bid)), ..TopOfBook::default() }
}

fn route(router: &mut Router, at: u64) -> Option<(BrokerId, Placement)> {
    router.route(&Approved(order(at), top(1)), key(at))
}

fn event(broker: BrokerId, at: u64, kind: BrokerEventKind) -> BrokerEvent {
    let due = Timestamp::from_nanos(at + 10);
    BrokerEvent { due, order: order(at).id, ordinal: 0, broker, kind }
}

fn say(router: &mut Router, broker: BrokerId, at: u64, kind: BrokerEventKind) -> Vec<RouterEffect> {
    let mut effects = Vec::new();
    router.on_event(&event(broker, at, kind), |_| top(2), &mut effects);
    effects
}

/// What risk hears of the effects.
fn heard(effects: &[RouterEffect]) -> Vec<BrokerEventKind> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            RouterEffect::Forward(event) => Some(event.kind),
            RouterEffect::Place { .. } => None,
        })
        .collect()
}

const REFUSED: BrokerEventKind = BrokerEventKind::Refused(Refusal::Unavailable);
const CLOSED_WHOLE: BrokerEventKind = BrokerEventKind::Closed { remaining: Quantity(7) };

/// Has the primary fail order `at`, and the backup take it.
fn fail_at_primary(router: &mut Router, at: u64) {
    let (broker, _) = route(router, at).unwrap();
    assert_eq!(broker, PRIMARY);
    let effects = say(router, PRIMARY, at, REFUSED);
    assert!(matches!(effects[..], [RouterEffect::Place { broker: BACKUP, .. }]));
    say(router, BACKUP, at, BrokerEventKind::Accepted);
    say(router, BACKUP, at, BrokerEventKind::Closed { remaining: Quantity::ZERO });
}

#[test]
fn the_backup_takes_over_at_the_third_failure_and_not_before() {
    let mut router = Router::new(RouterConfig::default());
    fail_at_primary(&mut router, 1);
    fail_at_primary(&mut router, 2);
    assert_eq!((router.active(), router.counters().failovers), (PRIMARY, 0));
    fail_at_primary(&mut router, 3);
    assert_eq!((router.active(), router.counters().failovers), (BACKUP, 1));
    assert_eq!(route(&mut router, 4).unwrap().0, BACKUP);
    assert_eq!(router.counters().placed, [3, 4]);
}

#[test]
fn an_acceptance_in_between_starts_the_count_anew() {
    let mut router = Router::new(RouterConfig::default());
    fail_at_primary(&mut router, 1);
    fail_at_primary(&mut router, 2);
    route(&mut router, 3);
    say(&mut router, PRIMARY, 3, BrokerEventKind::Accepted);
    fail_at_primary(&mut router, 4);
    fail_at_primary(&mut router, 5);
    assert_eq!(router.active(), PRIMARY);
    fail_at_primary(&mut router, 6);
    assert_eq!(router.active(), BACKUP);
}

#[test]
fn refusals_of_orders_never_count_and_are_not_offered_again() {
    let mut router = Router::new(RouterConfig::default());
    for at in 1..50 {
        route(&mut router, at);
        let kind = BrokerEventKind::Refused(Refusal::Order);
        let effects = say(&mut router, PRIMARY, at, kind);
        assert_eq!(heard(&effects), [kind, CLOSED_WHOLE]);
        assert_eq!(effects.len(), 2);
    }
    assert_eq!(router.active(), PRIMARY);
    assert_eq!((router.counters().failures, router.in_flight_count()), ([0, 0], 0));
}

#[test]
fn unknown_outcomes_never_count_and_nobody_else_gets_the_order() {
    let mut router = Router::new(RouterConfig::default());
    for at in 1..50 {
        route(&mut router, at);
        let unknown = BrokerEventKind::Unknown;
        assert_eq!(heard(&say(&mut router, PRIMARY, at, unknown)), [unknown]);
    }
    assert_eq!(router.in_flight_count(), 49);
    for at in 1..50 {
        let effects = say(&mut router, PRIMARY, at, REFUSED);
        assert_eq!(heard(&effects), [REFUSED, CLOSED_WHOLE]);
        assert_eq!(effects.len(), 2);
    }
    assert_eq!((router.active(), router.in_flight_count()), (PRIMARY, 0));
    assert_eq!(router.counters().failures, [0, 0]);
}

#[test]
fn a_refused_order_goes_to_the_other_broker_with_the_book_of_that_time() {
    let mut router = Router::new(RouterConfig::default());
    route(&mut router, 5);
    let effects = say(&mut router, PRIMARY, 5, REFUSED);
    let at = Key { frontier: Timestamp::from_nanos(15), ..Key::START };
    let placement = Placement { order: order(5), top: top(2), at, attempt: 1 };
    assert_eq!(effects, [RouterEffect::Place { broker: BACKUP, placement }]);
}

#[test]
fn an_order_that_neither_broker_takes_is_closed_for_risk() {
    let mut router = Router::new(RouterConfig::default());
    route(&mut router, 5);
    say(&mut router, PRIMARY, 5, REFUSED);
    let effects = say(&mut router, BACKUP, 5, REFUSED);
    let [RouterEffect::Forward(refused), RouterEffect::Forward(closed)] = effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!((refused.kind, closed.kind), (REFUSED, CLOSED_WHOLE));
    assert!(refused.sort_key() < closed.sort_key());
    assert_eq!((router.counters().given_up, router.in_flight_count()), (1, 0));
}

#[test]
fn without_a_backup_the_primary_stays_and_refusals_are_final() {
    let config = RouterConfig { has_backup: false, ..RouterConfig::default() };
    let mut router = Router::new(config);
    for at in 1..9 {
        assert_eq!(route(&mut router, at).unwrap().0, PRIMARY);
        assert_eq!(heard(&say(&mut router, PRIMARY, at, REFUSED)), [REFUSED, CLOSED_WHOLE]);
    }
    assert_eq!(router.counters().failovers, 0);
}

#[test]
fn the_primary_is_tried_again_when_its_time_has_come() {
    let return_to_primary = ReturnToPrimary::After(Span::from_nanos(100));
    let mut router = Router::new(RouterConfig { return_to_primary, ..RouterConfig::default() });
    for at in [1, 2, 30] {
        fail_at_primary(&mut router, at); // The last failure is due at 40.
    }
    assert_eq!(route(&mut router, 139).unwrap().0, BACKUP);
    assert_eq!(route(&mut router, 140).unwrap().0, PRIMARY);
    assert_eq!(router.counters().returns, 1);
    say(&mut router, PRIMARY, 140, REFUSED);
    assert_eq!(router.active(), PRIMARY, "it starts with a clean sheet");
}

#[test]
fn a_backup_that_fails_in_its_turn_gives_back_to_the_primary() {
    let mut router = Router::new(RouterConfig::default());
    for at in 1..=3 {
        fail_at_primary(&mut router, at);
    }
    for at in 4..=6 {
        assert_eq!(route(&mut router, at).unwrap().0, BACKUP);
        let effects = say(&mut router, BACKUP, at, REFUSED);
        assert!(matches!(effects[..], [RouterEffect::Place { broker: PRIMARY, .. }]));
    }
    assert_eq!((router.active(), router.counters().failovers), (PRIMARY, 2));
}

#[test]
fn an_order_in_flight_is_not_placed_again() {
    let mut router = Router::new(RouterConfig::default());
    assert!(route(&mut router, 1).is_some());
    assert!(route(&mut router, 1).is_none());
    assert_eq!((router.counters().repeated, router.counters().placed), (1, [1, 0]));
}

#[test]
fn a_fill_nobody_expected_is_forwarded_and_anything_else_is_not() {
    let mut router = Router::new(RouterConfig::default());
    let fill = BrokerEventKind::Filled(Fill {
        order: order(1).id,
        instrument: InstrumentIndex(0),
        account: AccountId(0),
        trade_id: 1,
        broker: BACKUP,
        side: Side::Buy,
        quantity: Quantity(7),
        price: Price(100),
        fee: Money::ZERO,
        fee_elsewhere: None,
    });
    route(&mut router, 1);
    assert_eq!(heard(&say(&mut router, BACKUP, 1, fill)), [fill]);
    for kind in [REFUSED, CLOSED_WHOLE, BrokerEventKind::Accepted, BrokerEventKind::Unknown] {
        assert_eq!(say(&mut router, BACKUP, 1, kind), []);
    }
    assert_eq!((router.counters().stray, router.in_flight_count()), (5, 1));
}

#[test]
fn an_order_that_both_brokers_accept_is_counted() {
    let mut router = Router::new(RouterConfig::default());
    route(&mut router, 1);
    say(&mut router, PRIMARY, 1, REFUSED);
    say(&mut router, PRIMARY, 1, BrokerEventKind::Accepted);
    assert_eq!(router.counters().accepted_twice, 0);
    say(&mut router, BACKUP, 1, BrokerEventKind::Accepted);
    assert_eq!(router.counters().accepted_twice, 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Orders that fare in any way, one after the other or all at once, with a restart somewhere.
    #[test]
    fn every_order_ends_once_and_nobody_is_offered_it_twice(
        fates in prop::collection::vec((0u8..6, 0u8..6), 1..40),
        together in any::<bool>(),
        restart in any::<prop::sample::Index>(),
        threshold in 1u32..5,
    ) {
        let config = RouterConfig { failover_threshold: threshold, ..RouterConfig::default() };
        let mut router = Router::new(config);
        let mut orders: Vec<(u64, BrokerId, u8, usize)> = Vec::new();
        let mut closed = 0;
        let mut in_a_row = [0u32; 2];
        let mut active = PRIMARY;
        let count = fates.len();
        for (n, &(first, _)) in fates.iter().enumerate() {
            let (broker, _) = route(&mut router, n as u64).unwrap();
            prop_assert_eq!(broker, active);
            orders.push((n as u64, broker, first, n));
            if together && n + 1 < count {
                continue;
            }
            while let Some((at, broker, fate, n)) = orders.pop() {
                if n == restart.index(count) {
                    let config = bincode::config::standard();
                    let bytes = bincode::serde::encode_to_vec(&router, config).unwrap();
                    let copy: Router = bincode::serde::decode_from_slice(&bytes, config).unwrap().0;
                    prop_assert_eq!(&copy, &router);
                    router = copy;
                }
                let unavailable = matches!(fate, 0..=2);
                let kinds = match fate {
                    0..=2 => vec![REFUSED],
                    3 => vec![BrokerEventKind::Refused(Refusal::Order)],
                    4 => vec![BrokerEventKind::Unknown, REFUSED],
                    _ => vec![BrokerEventKind::Accepted, CLOSED_WHOLE],
                };
                let mut effects = Vec::new();
                for kind in kinds {
                    effects.extend(say(&mut router, broker, at, kind));
                }
                let place = usize::from(broker.0);
                match fate {
                    0..=2 => in_a_row[place] += 1,
                    3 | 5 => in_a_row[place] = 0,
                    _ => {}
                }
                if unavailable && broker == active && in_a_row[place] >= threshold {
                    active = other(broker);
                    in_a_row = [0; 2];
                }
                let offered: Vec<BrokerId> = effects.iter().filter_map(|effect| match effect {
                    RouterEffect::Place { broker, .. } => Some(*broker),
                    RouterEffect::Forward(_) => None,
                }).collect();
                closed += heard(&effects).iter().filter(|&&kind| kind == CLOSED_WHOLE).count();
                if let [next] = offered[..] {
                    prop_assert!(unavailable);
                    prop_assert_eq!(next, other(broker));
                    orders.push((at, next, fates[n].1, n));
                } else {
                    prop_assert!(offered.is_empty());
                    let last = heard(&effects).pop();
                    prop_assert_eq!(last, Some(CLOSED_WHOLE));
                }
            }
        }
        prop_assert_eq!(closed, fates.len());
        prop_assert_eq!(router.in_flight_count(), 0);
        prop_assert!(router.counters().placed.iter().sum::<u64>() <= 2 * fates.len() as u64);
        prop_assert_eq!(router.active(), active);
    }
}
