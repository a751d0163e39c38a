//! The protocol by example. By property, and under faults, it is in `src/tests/orders`.

use super::*;
use crate::domain::{Key, OrderId, Price, Side, Slot, SlotState, SourceId, VenueAccount};

fn venue() -> VenueAccount {
    VenueAccount { exchange: "x".into(), account: "a".into() }
}

fn at(milliseconds: u64) -> Timestamp {
    Timestamp::from_nanos(milliseconds * 1_000_000)
}

fn order(number: u64) -> NewOrder {
    let symbol = Symbol::new("A.X").unwrap();
    let key = Key { frontier: at(number), source: SourceId(0), sequence: number };
    let signal = SignalIdentity {
        run: "r".into(),
        strategy: "s".into(),
        symbol: symbol.clone(),
        id: OrderId { key, ordinal: 0 },
    };
    NewOrder {
        signal,
        symbol,
        side: Side::Buy,
        quantity: Quantity(10),
        limit_price: Price(100),
        refused_by: None,
    }
}

const DONE: Result<SlotDone, SlotRefusal> = Ok(SlotDone::Done);

/// A core before an exchange whose clock shows what ours does, in a ledger that holds `open`.
fn ready(capabilities: Capabilities, open: Vec<(SlotKey, Slot)>) -> Orders {
    let config = OrdersConfig { capabilities, ..OrdersConfig::new(venue(), 7) };
    let mut orders = Orders::new(config, None);
    let effects = orders.start(at(0));
    assert_eq!(effects, [OrdersEffect::ReadSlots, OrdersEffect::AskTime]);
    orders.on_time(at(0), Some(at(0)), at(0));
    orders.on_slots(Some(SlotsFound { cluster: Some(7), is_reconciled: true, open }), at(0));
    assert!(orders.is_ready());
    orders
}

/// Places an order and has its intent committed. Returns what is sent.
fn send(orders: &mut Orders, order: NewOrder, now: u64) -> Request {
    let symbol = order.symbol.clone();
    orders.place(order, at(now));
    let mut effects = orders.on_history(&symbol, Some((&[], true)), at(now));
    effects.retain(|effect| matches!(effect, OrdersEffect::Commit(_)));
    let [OrdersEffect::Commit(commands)] = &effects[..] else { panic!("{effects:?}") };
    assert!(matches!(commands[..], [SlotCommand::Open { .. }]), "{commands:?}");
    sent(&orders.on_committed(&[DONE], at(now)))
}

fn sent(effects: &[OrdersEffect]) -> Request {
    let mut sent = effects.iter().filter_map(|effect| {
        let OrdersEffect::Send(request) = effect else { return None };
        Some(request.clone())
    });
    let request = sent.next().unwrap_or_else(|| panic!("nothing is sent: {effects:?}"));
    assert_eq!(sent.next(), None, "sent once");
    request
}

fn report(request: &Request, executed: i64, is_over: bool) -> OrderReport {
    OrderReport {
        client_id: request.client_id.as_str().to_owned(),
        order: 5,
        symbol: request.symbol.clone(),
        executed: Quantity(executed),
        is_over,
    }
}

fn told(effects: &[OrdersEffect]) -> Vec<Said> {
    let said = effects.iter().filter_map(|effect| {
        let OrdersEffect::Tell(_, said) = effect else { return None };
        Some(said.clone())
    });
    said.collect()
}

fn is_committed(effects: &[OrdersEffect], is_right: impl Fn(&SlotCommand) -> bool) -> bool {
    effects.iter().any(|effect| {
        let OrdersEffect::Commit(commands) = effect else { return false };
        commands.iter().any(&is_right)
    })
}

#[test]
fn an_order_leaves_after_its_intent_and_its_last_word_comes_after_its_slot_has_ended() {
    let mut orders = ready(Capabilities::BINANCE, Vec::new());
    let request = send(&mut orders, order(1), 10);
    assert_eq!((request.made, request.attempt), (at(10), 1));
    let accepted = Answer::Accepted(report(&request, 0, true));
    let effects = orders.on_answer(&request.client_id, 1, accepted, at(20));
    assert_eq!(told(&effects), [Said::Accepted]);
    assert!(is_committed(&effects, |command| matches!(command, SlotCommand::End { .. })));
    let effects = orders.on_committed(&[DONE], at(30));
    assert_eq!(told(&effects), [Said::Closed { remaining: Quantity(10) }]);
    assert_eq!(orders.live.len(), 0);
}

#[test]
fn an_unknown_outcome_is_asked_about_once_the_exchanges_clock_is_past_the_time_to_settle() {
    let mut orders = ready(Capabilities::BINANCE, Vec::new());
    let request = send(&mut orders, order(1), 0);
    let unknown = Answer::Unknown { is_servers: false };
    let effects = orders.on_answer(&request.client_id, 1, unknown, at(500));
    assert_eq!(told(&effects), [Said::Unknown]);
    // A second for the deadline, and two to settle.
    let is_query = |effect: &OrdersEffect| matches!(effect, OrdersEffect::Query { .. });
    orders.on_wake(at(2_990));
    let effects = orders.on_time(at(2_995), Some(at(2_999)), at(2_999));
    assert!(!effects.iter().any(is_query), "{effects:?}");
    assert!(orders.on_wake(at(3_020)).contains(&OrdersEffect::AskTime));
    let effects = orders.on_time(at(3_020), Some(at(3_020)), at(3_030));
    assert!(effects.iter().any(is_query), "{effects:?}");
    let effects = orders.on_found(&request.client_id, &Found::Nothing, at(3_040));
    assert!(is_committed(&effects, |command| {
        matches!(command, SlotCommand::Retry { attempt: 1, .. })
    }));
    let again = sent(&orders.on_committed(&[DONE], at(3_050)));
    assert_eq!((again.client_id, again.attempt), (request.client_id, 2));
}

#[test]
fn a_request_whose_deadline_has_passed_before_its_intent_was_committed_does_not_leave() {
    let mut orders = ready(Capabilities::BINANCE, Vec::new());
    let symbol = order(1).symbol;
    orders.place(order(1), at(0));
    orders.on_history(&symbol, Some((&[], true)), at(0));
    let effects = orders.on_committed(&[DONE], at(1_100));
    assert!(!effects.iter().any(|effect| matches!(effect, OrdersEffect::Send(_))), "{effects:?}");
    assert!(is_committed(&effects, |command| matches!(command, SlotCommand::Retry { .. })));
    assert_eq!(sent(&orders.on_committed(&[DONE], at(1_200))).made, at(1_100));
}

#[test]
fn what_is_found_under_way_is_brought_to_its_end_and_not_sent() {
    let slot = SlotKey { venue: venue(), symbol: order(1).symbol, side: Side::Buy, level: 0 };
    let client_id = ClientOrderId::new(7, &slot, 3, order(1).signal.tag());
    let intent = OrderIntent {
        signal: order(1).signal,
        client_id: client_id.clone(),
        quantity: Quantity(10),
        limit_price: Price(100),
        deadline: at(1_000),
        request: [0; 32],
    };
    let state = SlotState::Intent { intent, attempt: 1 };
    let open = vec![(slot, Slot { generation: 3, state, last: None })];
    let mut orders = ready(Capabilities::BINANCE, open);
    assert_eq!((orders.live.len(), orders.counters().orphans), (1, 1));
    // 15 seconds to settle: what its sender was answered is not known.
    let effects = orders.on_time(at(16_000), Some(at(16_000)), at(16_000));
    let symbol = order(1).symbol;
    assert!(effects.contains(&OrdersEffect::Query { client_id: client_id.clone(), symbol }));
    let effects = orders.on_found(&client_id, &Found::Nothing, at(16_010));
    assert!(is_committed(&effects, |command| matches!(
        command,
        SlotCommand::End { generation: 3, outcome: SlotOutcome::NotPlaced, .. }
    )));
}

#[test]
fn where_nobody_can_find_out_the_slot_is_closed_and_a_person_told() {
    let capabilities = Capabilities { query: false, ..Capabilities::BINANCE };
    let mut orders = ready(capabilities, Vec::new());
    let request = send(&mut orders, order(1), 0);
    let unknown = Answer::Unknown { is_servers: false };
    let effects = orders.on_answer(&request.client_id, 1, unknown, at(500));
    assert!(is_committed(&effects, |command| matches!(command, SlotCommand::Quarantine { .. })));
    assert!(effects.iter().any(|effect| matches!(effect, OrdersEffect::Alarm(_))));
    assert_eq!(orders.live.len(), 1);
}

#[test]
fn where_an_id_is_taken_once_a_refusal_of_a_later_attempt_proves_nothing() {
    let once = Capabilities {
        deduplication: Deduplication::All,
        deadline: false,
        ..Capabilities::BINANCE
    };
    let mut orders = ready(once, Vec::new());
    let request = send(&mut orders, order(1), 0);
    let id = &request.client_id;
    let unknown = Answer::Unknown { is_servers: false };
    orders.on_answer(id, 1, unknown, at(500));
    orders.on_found(id, &Found::Nothing, at(510));
    assert_eq!(sent(&orders.on_committed(&[DONE], at(520))).attempt, 2);
    let effects = orders.on_answer(id, 2, Answer::Refused(Refusal::Order), at(530));
    assert!(is_committed(&effects, |command| matches!(command, SlotCommand::Quarantine { .. })));
}

#[test]
fn an_order_that_the_exchange_has_under_another_name_is_not_placed_again() {
    let mut orders = ready(Capabilities::BINANCE, Vec::new());
    let slot = SlotKey { venue: venue(), symbol: order(1).symbol, side: Side::Buy, level: 0 };
    // Of a ledger that is no more.
    let name = ClientOrderId::new(1, &slot, 0, order(1).signal.tag());
    let symbol = order(1).symbol;
    orders.place(order(1), at(0));
    let there = OrderReport {
        client_id: name.as_str().to_owned(),
        order: 3,
        symbol: symbol.clone(),
        executed: Quantity::ZERO,
        is_over: true,
    };
    let effects = orders.on_history(&symbol, Some((&[there], true)), at(0));
    assert_eq!(told(&effects), [Said::Accepted, Said::Closed { remaining: Quantity(10) }]);
    assert!(!is_committed(&effects, |_| true), "{effects:?}");
}
