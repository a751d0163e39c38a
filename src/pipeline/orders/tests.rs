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
        was_refused: false,
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
fn a_wrong_guess_at_a_slot_does_not_use_up_the_signals_of_its_symbol() {
    let mut orders = ready(Capabilities::BINANCE, Vec::new());
    let symbol = order(1).symbol;
    orders.place(order(1), at(0));
    orders.place(NewOrder { side: Side::Sell, ..order(2) }, at(0));
    let opened = |effects: &[OrdersEffect]| -> Vec<(Side, u64)> {
        let [OrdersEffect::Commit(commands)] = effects else { panic!("{effects:?}") };
        let open = commands.iter().map(|command| {
            let SlotCommand::Open { slot, generation, .. } = command else { panic!("{command:?}") };
            (slot.side, *generation)
        });
        open.collect()
    };
    let mut effects = orders.on_history(&symbol, Some((&[], true)), at(0));
    effects.retain(|effect| matches!(effect, OrdersEffect::Commit(_)));
    assert_eq!(opened(&effects), [(Side::Buy, 0)], "the slot is a guess, so the other one waits");
    let conflict = SlotRefusal::Conflict { generation: 5, attempt: 0 };
    assert_eq!(opened(&orders.on_committed(&[Err(conflict)], at(10))), [(Side::Buy, 5)]);
    let mut effects = orders.on_committed(&[DONE], at(20));
    assert_eq!(sent(&effects).side, Side::Buy);
    effects.retain(|effect| matches!(effect, OrdersEffect::Commit(_)));
    assert_eq!(opened(&effects), [(Side::Sell, 0)]);
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
    let client_id = opened_id(1);
    let mut orders = ready(Capabilities::BINANCE, opened(1));
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

/// An order that a slot holds and nobody here has asked for is over, and has traded all of its ten.
fn filled_unasked() -> Orders {
    let mut orders = ready(Capabilities::BINANCE, placed(1));
    let symbol = order(1).symbol;
    orders.on_wake(at(2_000));
    let over = OrderReport {
        client_id: opened_id(1).as_str().into(),
        order: 3,
        symbol: symbol.clone(),
        executed: Quantity(10),
        is_over: true,
    };
    orders.on_found(&opened_id(1), &Found::Order(over), at(2_010));
    orders.reconcile_again(vec![symbol.clone()], at(2_020));
    orders.on_slots(slots(placed(1)), at(2_030));
    orders.on_history(&symbol, Some((&[], true)), at(2_040));
    let trade = TradeReport {
        trade: 1,
        order: 3,
        symbol: symbol.clone(),
        side: Side::Buy,
        quantity: Quantity(10),
        price: Price(100),
        fee: crate::domain::Money::ZERO,
        fee_elsewhere: None,
    };
    orders.on_trades(&symbol, Some((&[trade], true)), at(2_050));
    orders.on_committed(&[DONE], at(2_060));
    assert_eq!(orders.live.len(), 0);
    orders
}

#[test]
fn positions_lack_what_nobody_here_has_asked_for_until_somebody_does() {
    let symbol = order(1).symbol;
    let standing =
        |orders: &Orders| (orders.traded[&symbol].ours, orders.traded[&symbol].missing());
    let mut orders = filled_unasked();
    assert_eq!(standing(&orders), (Quantity(0), Quantity(10)));
    let mut restored = Orders::new(OrdersConfig::new(venue(), 7), Some(orders.snapshot()));
    assert_eq!(standing(&restored), (Quantity(0), Quantity(10)));
    restored.on_heard(&order(1).signal, true);
    assert_eq!(standing(&restored), (Quantity(10), Quantity(0)), "exec has it after all");
    orders.place(order(1), at(3_000));
    // All of the account is looked through first.
    let effects = orders.on_history(&symbol, Some((&[], true)), at(3_010));
    assert_eq!(told(&effects).len(), 3, "{effects:?}");
    assert_eq!(standing(&orders), (Quantity(10), Quantity(0)));
}

/// What is found under way here after that is stopped, or before; the exchange has it.
fn found_and_stopped(stopped: Stopped, is_found_first: bool) -> Orders {
    let held = placed(1);
    let mut orders = match is_found_first {
        true => ready(Capabilities::BINANCE, held),
        false => {
            let mut orders = ready(Capabilities::BINANCE, Vec::new());
            orders.stop(stopped.clone(), at(1));
            orders.recovery.adopts = true;
            orders.on_wake(at(1_000));
            orders.on_slots(slots(held), at(1_000));
            orders
        }
    };
    if is_found_first {
        orders.stop(stopped, at(1));
    }
    orders.on_wake(at(2_000));
    orders
}

#[test]
fn a_kill_switch_reaches_what_a_slot_holds_and_nobody_here_has_asked_for() {
    let none = Stopped::default();
    let scopes = [
        (Stopped { all: true, ..none.clone() }, true),
        (Stopped { strategies: ["s".to_owned()].into(), ..none.clone() }, true),
        (Stopped { symbols: [order(1).symbol].into(), ..none.clone() }, true),
        (Stopped { strategies: ["t".to_owned()].into(), ..none.clone() }, false),
        (none, false),
    ];
    for (stopped, is_meant) in scopes {
        for is_found_first in [true, false] {
            let mut orders = found_and_stopped(stopped.clone(), is_found_first);
            let report = OrderReport {
                client_id: opened_id(1).as_str().into(),
                order: 3,
                symbol: order(1).symbol,
                executed: Quantity::ZERO,
                is_over: false,
            };
            orders.on_found(&opened_id(1), &Found::Order(report), at(2_010));
            let effects = orders.on_wake(at(3_000));
            let is_cancel = |effect: &OrdersEffect| matches!(effect, OrdersEffect::Cancel { .. });
            assert_eq!(effects.iter().any(is_cancel), is_meant, "{stopped:?} {effects:?}");
        }
    }
}

/// The slot that orders here use, with the intent of an order that somebody else has opened.
fn opened(number: u64) -> Vec<(SlotKey, Slot)> {
    let slot = SlotKey { venue: venue(), symbol: order(1).symbol, side: Side::Buy, level: 0 };
    let signal = order(number).signal;
    let intent = OrderIntent {
        client_id: ClientOrderId::new(7, &slot, 3, signal.tag()),
        signal,
        quantity: Quantity(10),
        limit_price: Price(100),
        deadline: at(1_000),
        request: [0; 32],
    };
    let state = SlotState::Intent { intent, attempt: 1 };
    vec![(slot, Slot { generation: 3, state, last: None })]
}

/// The same once the exchange has accepted it.
fn placed(number: u64) -> Vec<(SlotKey, Slot)> {
    let mut open = opened(number);
    for (_, slot) in &mut open {
        let intent = slot.intent().unwrap().clone();
        slot.state = SlotState::Placed { intent };
    }
    open
}

/// The name that it goes by.
fn opened_id(number: u64) -> ClientOrderId {
    ClientOrderId::new(7, &opened(number)[0].0, 3, order(number).signal.tag())
}

fn slots(open: Vec<(SlotKey, Slot)>) -> Option<SlotsFound> {
    Some(SlotsFound { cluster: Some(7), is_reconciled: true, open })
}

const CONSUMED: Result<SlotDone, SlotRefusal> = Err(SlotRefusal::Consumed);

/// Orders 1 and 2 find their signals used up, the second after the slots were asked for because of the first.
fn two_lost() -> Orders {
    let mut orders = ready(Capabilities::BINANCE, Vec::new());
    orders.place(order(1), at(0));
    orders.on_history(&order(1).symbol, Some((&[], true)), at(0));
    let effects = orders.on_committed(&[CONSUMED], at(0));
    assert_eq!(effects, [OrdersEffect::ReadSlots]);
    let effects = orders.place(order(2), at(10));
    assert!(is_committed(&effects, |command| matches!(command, SlotCommand::Open { .. })));
    assert_eq!(orders.on_committed(&[CONSUMED], at(20)), []);
    orders
}

#[test]
fn slots_that_were_asked_for_before_an_order_was_lost_say_nothing_of_it() {
    let mut orders = two_lost();
    // Read before somebody opened the second.
    let effects = orders.on_slots(slots(Vec::new()), at(30));
    assert!(effects.contains(&OrdersEffect::ReadSlots), "{effects:?}");
    let effects = orders.on_history(&order(1).symbol, Some((&[], true)), at(40));
    let of_first: Vec<_> =
        effects.iter().filter(|effect| matches!(effect, OrdersEffect::Tell(..))).collect();
    let refused = Said::Refused(Refusal::Order);
    assert_eq!(of_first, [&OrdersEffect::Tell(order(1).signal, refused)]);
    // It is taken over, and sent once nothing of the first attempt can arrive any more.
    let effects = orders.on_slots(slots(opened(2)), at(50));
    assert_eq!(told(&effects), [Said::Unknown]);
    orders.on_time(at(16_000), Some(at(16_000)), at(16_000));
    let client_id = opened_id(2);
    let effects = orders.on_found(&client_id, &Found::Nothing, at(16_010));
    assert!(is_committed(&effects, |command| matches!(
        command,
        SlotCommand::Retry { generation: 3, attempt: 1, .. }
    )));
}

#[test]
fn a_history_that_was_asked_for_before_an_order_was_lost_says_nothing_of_it() {
    let mut orders = two_lost();
    let symbol = order(1).symbol;
    let effects = orders.on_slots(slots(Vec::new()), at(30));
    let asked = OrdersEffect::History { symbol: symbol.clone(), after: 0 };
    assert!(effects.contains(&asked), "{effects:?}");
    // Nobody holds the second either, any more; what was asked for is older.
    assert_eq!(told(&orders.on_slots(slots(Vec::new()), at(40))), []);
    let effects = orders.on_history(&symbol, Some((&[], true)), at(50));
    assert_eq!((told(&effects), effects.contains(&asked)), (Vec::new(), true), "{effects:?}");
    let there = OrderReport {
        client_id: opened_id(2).as_str().into(),
        order: 3,
        symbol: symbol.clone(),
        executed: Quantity::ZERO,
        is_over: true,
    };
    let effects = orders.on_history(&symbol, Some((&[there], true)), at(60));
    let closed = Said::Closed { remaining: Quantity(10) };
    assert_eq!(told(&effects), [Said::Refused(Refusal::Order), Said::Accepted, closed]);
}

#[test]
fn what_has_ended_since_the_slots_were_asked_for_is_not_under_way() {
    let mut orders = ready(Capabilities::BINANCE, Vec::new());
    let request = send(&mut orders, order(1), 0);
    orders.reconcile_again(vec![order(1).symbol], at(10));
    orders.on_answer(&request.client_id, 1, Answer::Accepted(report(&request, 0, true)), at(20));
    let effects = orders.on_committed(&[DONE], at(30));
    assert_eq!(told(&effects), [Said::Closed { remaining: Quantity(10) }]);
    orders.on_slots(slots(opened(1)), at(40));
    assert_eq!((orders.live.len(), orders.counters().orphans), (0, 0));
}

#[test]
fn of_an_order_whose_last_word_was_heard_in_an_earlier_life_nothing_is_said_nor_sent() {
    let mut orders = Orders::new(OrdersConfig::new(venue(), 7), None);
    orders.hold();
    orders.start(at(0));
    orders.place(order(1), at(0));
    orders.on_heard(&order(1).signal, false);
    orders.on_time(at(0), Some(at(0)), at(0));
    orders.on_slots(slots(opened(1)), at(0));
    orders.settle(at(10));
    let effects = orders.on_history(&order(1).symbol, Some((&[], true)), at(20));
    assert_eq!(told(&effects), []);
    let mut again = Orders::new(OrdersConfig::new(venue(), 7), Some(orders.snapshot()));
    assert_eq!(told(&again.start(at(30))), []);
    for core in [&mut orders, &mut again] {
        core.on_slots(slots(opened(1)), at(40));
        core.on_time(at(16_000), Some(at(16_000)), at(16_000));
        let client_id = opened_id(1);
        let effects = core.on_found(&client_id, &Found::Nothing, at(16_010));
        assert!(is_committed(&effects, |command| matches!(
            command,
            SlotCommand::End { generation: 3, outcome: SlotOutcome::NotPlaced, .. }
        )));
        assert_eq!(told(&core.on_committed(&[DONE], at(16_020))), []);
        assert_eq!((core.live.len(), core.snapshot().over.is_empty()), (0, true));
    }
}

#[test]
fn an_order_that_was_under_way_at_the_checkpoint_and_was_heard_to_end_is_not_sent_again() {
    let mut orders = ready(Capabilities::BINANCE, Vec::new());
    send(&mut orders, order(1), 0);
    let mut again = Orders::new(OrdersConfig::new(venue(), 7), Some(orders.snapshot()));
    again.hold();
    again.start(at(30));
    again.on_heard(&order(1).signal, false);
    again.settle(at(30));
    again.on_time(at(30), Some(at(30)), at(30));
    assert_eq!(told(&again.on_slots(slots(opened(1)), at(40))), []);
    again.on_time(at(16_000), Some(at(16_000)), at(16_000));
    let client_id = opened_id(1);
    let effects = again.on_found(&client_id, &Found::Nothing, at(16_010));
    assert!(is_committed(&effects, |command| matches!(command, SlotCommand::End { .. })));
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

/// An order of ours at the exchange that this core has not placed.
fn of_ours(number: u64, exchange_order: u64, is_over: bool) -> OrderReport {
    let slot = SlotKey { venue: venue(), symbol: order(1).symbol, side: Side::Buy, level: 0 };
    let name = ClientOrderId::new(1, &slot, exchange_order, order(number).signal.tag());
    OrderReport {
        client_id: name.as_str().to_owned(),
        order: exchange_order,
        symbol: order(1).symbol,
        executed: Quantity::ZERO,
        is_over,
    }
}

fn is_history(effect: &OrdersEffect) -> bool {
    matches!(effect, OrdersEffect::History { .. })
}

fn rebuilt(effects: &[OrdersEffect]) -> Option<usize> {
    effects.iter().find_map(|effect| {
        let OrdersEffect::Rebuilt(_, count) = effect else { return None };
        Some(*count)
    })
}

/// Has the account looked through again, and the ledger hold nothing.
fn reconcile(orders: &mut Orders, now: u64) -> Vec<OrdersEffect> {
    orders.reconcile_again(vec![order(1).symbol], at(now));
    orders.on_slots(slots(Vec::new()), at(now))
}

#[test]
fn what_was_placed_and_has_ended_here_is_not_unknown_however_often_that_is_looked_at() {
    let mut orders = ready(Capabilities::BINANCE, Vec::new());
    let symbol = order(1).symbol;
    let mut request = send(&mut orders, order(1), 0);
    let mut there = Vec::new();
    for number in 1..=600 {
        let mut report = report(&request, 0, true);
        report.order = number;
        there.push(report.clone());
        let id = request.client_id.clone();
        let effects = orders.on_answer(&id, 1, Answer::Accepted(report), at(0));
        assert!(is_committed(&effects, |command| matches!(command, SlotCommand::End { .. })));
        let mut effects = orders.on_committed(&[DONE], at(0));
        orders.on_heard(&order(number).signal, false);
        if effects.iter().any(is_history) {
            // It lists them, and others wait for nothing.
            assert!(orders.recovery.is_known(&symbol));
            effects = orders.on_history(&symbol, Some((&there, true)), at(0));
            assert_eq!(rebuilt(&effects), None);
            there.clear();
        }
        assert!(orders.recovery.ended_count() <= 257, "{}", orders.recovery.ended_count());
        let effects = orders.place(order(number + 1), at(0));
        assert!(is_committed(&effects, |command| matches!(command, SlotCommand::Open { .. })));
        request = sent(&orders.on_committed(&[DONE], at(0)));
    }
    assert!(there.len() < 600, "its history was looked through on the way");
    there.push(of_ours(900, 700, true));
    reconcile(&mut orders, 10);
    let effects = orders.on_history(&symbol, Some((&there, true)), at(20));
    assert_eq!((rebuilt(&effects), orders.recovery.spent.len()), (Some(1), 1), "the other's");
    reconcile(&mut orders, 30);
    let effects = orders.on_history(&symbol, Some((&[], true)), at(40));
    assert_eq!(rebuilt(&effects), None, "told once");
}

#[test]
fn a_history_that_cannot_be_had_holds_up_nobody_whose_symbol_was_known() {
    let mut orders = ready(Capabilities::BINANCE, Vec::new());
    let symbol = order(1).symbol;
    orders.place(order(1), at(0));
    orders.on_history(&symbol, Some((&[], true)), at(0));
    (1..=300).for_each(|number| orders.note_over(&symbol, number));
    orders.on_history(&symbol, None, at(0));
    assert!(orders.recovery.is_known(&symbol));
    orders.note_over(&symbol, 301);
    assert!(orders.on_wake(at(10)).iter().any(is_history), "asked for again");
}

/// A core that finds an open order of ours for signal 5 in the account, and has read the slots again.
fn with_stray(open: Vec<(SlotKey, Slot)>) -> (Orders, OrderReport, Vec<OrdersEffect>) {
    let mut orders = ready(Capabilities::BINANCE, Vec::new());
    let symbol = order(1).symbol;
    orders.place(order(1), at(0));
    let stray = match open.first() {
        Some(_) => OrderReport { client_id: opened_id(5).to_string(), ..of_ours(5, 3, false) },
        None => of_ours(5, 3, false),
    };
    let found = orders.on_history(&symbol, Some((std::slice::from_ref(&stray), true)), at(0));
    assert!(found.contains(&OrdersEffect::ReadSlots), "somebody may have opened it meanwhile");
    assert!(!is_committed(&found, |_| true), "{found:?}");
    let effects = orders.on_slots(slots(open), at(10));
    (orders, stray, effects)
}

fn cancelled(effects: &[OrdersEffect]) -> Vec<&str> {
    let cancelled = effects.iter().filter_map(|effect| {
        let OrdersEffect::Cancel { client_id, .. } = effect else { return None };
        Some(client_id.as_str())
    });
    cancelled.collect()
}

fn is_opened(effects: &[OrdersEffect]) -> bool {
    is_committed(effects, |command| matches!(command, SlotCommand::Open { .. }))
}

#[test]
fn an_open_order_in_no_slot_is_cancelled_and_over_before_anything_is_opened_beside_it() {
    let (mut orders, stray, effects) = with_stray(Vec::new());
    assert_eq!(cancelled(&effects), [&stray.client_id]);
    assert!(!is_opened(&effects), "{effects:?}");
    let shown = orders.standing();
    assert!(shown.iter().any(|it| it.client_id == stray.client_id && !it.is_ours), "{shown:?}");
    let name = ClientOrderId::parse(&stray.client_id).unwrap();
    assert!(!is_opened(&orders.on_cancelled(&name, &Found::Failed, at(20))));
    assert_eq!(cancelled(&orders.on_wake(at(600))), [&stray.client_id], "again");
    orders.on_trades(&order(1).symbol, Some((&[], true)), at(605));
    // What it traded meanwhile is asked for, and is others' as long as nobody asks for the order.
    let over = OrderReport { is_over: true, executed: Quantity(4), ..stray };
    let effects = orders.on_cancelled(&name, &Found::Order(over), at(610));
    assert!(is_opened(&effects), "{effects:?}");
    assert!(effects.iter().any(|effect| matches!(effect, OrdersEffect::Trades { .. })));
    assert_eq!(orders.standing().len(), 1);
}

#[test]
fn an_open_order_in_no_slot_that_is_asked_for_again_is_awaited() {
    let (mut orders, stray, _) = with_stray(Vec::new());
    let effects = orders.place(order(5), at(20));
    assert_eq!(told(&effects), [Said::Accepted]);
    assert!(!is_opened(&effects));
    assert_eq!(cancelled(&orders.on_wake(at(1_000))), [] as [&str; 0]);
    let over = OrderReport { is_over: true, ..stray };
    let name = ClientOrderId::parse(&over.client_id).unwrap();
    let effects = orders.on_found(&name, &Found::Order(over), at(1_010));
    assert_eq!(told(&effects), [Said::Closed { remaining: Quantity(10) }]);
    assert!(is_opened(&effects), "{effects:?}");
}

#[test]
fn an_open_order_that_a_slot_holds_by_now_is_under_way_as_any_other() {
    let (mut orders, stray, effects) = with_stray(opened(5));
    assert_eq!(cancelled(&effects), [] as [&str; 0]);
    assert_eq!((orders.live.len(), orders.counters().orphans), (2, 1));
    assert!(is_opened(&effects), "the slot keeps others out: {effects:?}");
    assert!(orders.recovery.strays.is_empty());
    let name = ClientOrderId::parse(&stray.client_id).unwrap();
    orders.on_committed(&[DONE], at(20));
    let over = OrderReport { is_over: true, ..stray };
    let effects = orders.on_told(&over, at(30));
    assert!(is_committed(&effects, |command| matches!(command, SlotCommand::End { .. })));
    assert!(orders.by_client_id.contains_key(&name));
}

#[test]
fn whoever_goes_on_from_a_checkpoint_finds_the_open_orders_in_no_slot_again() {
    let (mut orders, stray, _) = with_stray(Vec::new());
    orders.note_order(&order(1).symbol, 9);
    let mut again = Orders::new(OrdersConfig::new(venue(), 7), Some(orders.snapshot()));
    again.start(at(30));
    again.on_time(at(30), Some(at(30)), at(30));
    let effects = again.on_slots(slots(Vec::new()), at(40));
    let asked = effects.iter().find_map(|effect| {
        let OrdersEffect::History { after, .. } = effect else { return None };
        Some(*after)
    });
    assert!(asked.is_some_and(|after| after < stray.order), "{effects:?}");
}

#[test]
fn an_order_that_has_lost_its_ledger_is_over_before_another_is_opened_beside_it() {
    let mut orders = ready(Capabilities::BINANCE, Vec::new());
    let request = send(&mut orders, order(1), 0);
    let open = report(&request, 0, false);
    orders.on_answer(&request.client_id, 1, Answer::Accepted(open.clone()), at(10));
    let mut again = Orders::new(OrdersConfig::new(venue(), 7), Some(orders.snapshot()));
    again.start(at(30));
    again.on_time(at(30), Some(at(30)), at(30));
    again.on_slots(slots(Vec::new()), at(40));
    again.place(order(2), at(50));
    again.on_history(&order(1).symbol, Some((&[], true)), at(60));
    let found = Found::Order(open.clone());
    assert!(!is_opened(&again.on_found(&request.client_id, &found, at(70))));
    let over = Found::Order(OrderReport { is_over: true, ..open });
    assert!(is_opened(&again.on_found(&request.client_id, &over, at(80))));
}

#[test]
fn an_order_that_was_refused_elsewhere_is_opened_by_right_of_the_refusal_however_late_it_is_known()
{
    let mut orders = ready(Capabilities::BINANCE, Vec::new());
    let (symbol, signal) = (order(1).symbol, order(1).signal);
    let effects = orders.place(NewOrder { was_refused: true, ..order(1) }, at(0));
    assert!(effects.contains(&OrdersEffect::ReadRefusal(signal.clone())), "{effects:?}");
    assert!(!is_opened(&orders.on_history(&symbol, Some((&[], true)), at(0))));
    let effects = orders.on_refusal(&signal, None, at(10));
    assert!(!is_opened(&effects) && !effects.contains(&OrdersEffect::ReadRefusal(signal.clone())));
    assert!(orders.on_wake(at(600)).contains(&OrdersEffect::ReadRefusal(signal.clone())));
    let there = VenueAccount { exchange: "y".into(), ..venue() };
    let slot = SlotKey { venue: there, symbol, side: Side::Buy, level: 0 };
    let by = SlotRight::RefusedBy { slot: slot.clone(), generation: 4 };
    let is_right =
        |command: &SlotCommand| matches!(command, SlotCommand::Open { right, .. } if *right == by);
    let effects = orders.on_refusal(&signal, Some(RefusalFound { by: Some((slot, 4)) }), at(610));
    assert!(is_committed(&effects, is_right), "{effects:?}");
    // Also when the slot was guessed wrong.
    let conflict = SlotRefusal::Conflict { generation: 5, attempt: 0 };
    assert!(is_committed(&orders.on_committed(&[Err(conflict)], at(620)), is_right));
}

#[test]
fn the_trades_of_one_order_are_asked_for_until_there_are_no_more() {
    let mut orders = ready(Capabilities::BINANCE, Vec::new());
    let symbol = order(1).symbol;
    let trade = |number| TradeReport {
        trade: number,
        order: 5,
        symbol: symbol.clone(),
        side: Side::Buy,
        quantity: Quantity(2),
        price: Price(100),
        fee: crate::domain::Money::ZERO,
        fee_elsewhere: None,
    };
    let request = send(&mut orders, order(1), 0);
    // Its trades were looked at when nobody knew whose they were.
    orders.on_trades(&symbol, Some((&[], true)), at(5));
    orders.last_trade.insert(symbol.clone(), 9);
    let id = &request.client_id;
    let effects = orders.on_answer(id, 1, Answer::Accepted(report(&request, 10, true)), at(10));
    assert!(effects.iter().any(|effect| matches!(effect, OrdersEffect::Trades { .. })));
    let asks = |after| OrdersEffect::TradesOf {
        client_id: id.clone(),
        symbol: symbol.clone(),
        order: 5,
        after,
    };
    assert!(orders.on_trades(&symbol, Some((&[], true)), at(20)).contains(&asks(0)));
    let all: Vec<TradeReport> = (1..=5).map(trade).collect();
    let effects = orders.on_trades_of(id, Some((&all[..3], false)), at(30));
    assert!(effects.contains(&asks(3)), "{effects:?}");
    let effects = orders.on_trades_of(id, Some((&all[3..], true)), at(40));
    assert!(is_committed(&effects, |command| matches!(command, SlotCommand::End { .. })));
    assert_eq!(told(&effects).len(), 2);
}

/// What a person is told.
fn alarms(effects: &[OrdersEffect]) -> Vec<&str> {
    let alarms = effects.iter().filter_map(|effect| {
        let OrdersEffect::Alarm(text) = effect else { return None };
        Some(text.as_str())
    });
    alarms.collect()
}

#[test]
fn two_orders_of_one_signal_in_a_history_count_once_and_are_named() {
    let mut orders = ready(Capabilities::BINANCE, Vec::new());
    let symbol = order(1).symbol;
    let (first, second) = (of_ours(5, 3, true), of_ours(5, 4, true));
    let both = [first.clone(), second.clone()];
    let effects = orders.on_history(&symbol, Some((&both, true)), at(0));
    let [alarm] = alarms(&effects)[..] else { panic!("{effects:?}") };
    let first = format!("{} (order 3)", first.client_id);
    let second_named = format!("{} (order 4)", second.client_id);
    assert!(alarm.contains(&first) && alarm.contains(&second_named), "{alarm}");
    // The same two are told again: by the exchange itself, in a history, and to whoever takes over.
    assert_eq!(alarms(&orders.on_told(&second, at(10))), [""; 0]);
    reconcile(&mut orders, 20);
    assert_eq!(alarms(&orders.on_history(&symbol, Some((&both, true)), at(30))), [""; 0]);
    let mut again = Orders::new(OrdersConfig::new(venue(), 7), Some(orders.snapshot()));
    again.start(at(40));
    assert_eq!(alarms(&again.on_history(&symbol, Some((&both, true)), at(50))), [""; 0]);
    assert_eq!((orders.counters().accepted_twice, again.counters().accepted_twice), (1, 1));
}

#[test]
fn two_orders_of_one_generation_count_whatever_asked_for_them() {
    let mut orders = ready(Capabilities::BINANCE, Vec::new());
    let symbol = order(1).symbol;
    let slot = SlotKey { venue: venue(), symbol: symbol.clone(), side: Side::Buy, level: 0 };
    let named = |number: u64| {
        let name = ClientOrderId::new(1, &slot, 7, order(number).signal.tag());
        OrderReport { client_id: name.to_string(), ..of_ours(number, number, true) }
    };
    orders.on_history(&symbol, Some((&[named(1), named(2)], true)), at(0));
    assert_eq!(orders.counters().accepted_twice, 1);
}

#[test]
fn another_order_of_the_exchange_under_the_name_of_one_counts_before_and_after_its_end() {
    let mut orders = ready(Capabilities::BINANCE, Vec::new());
    let request = send(&mut orders, order(1), 0);
    let numbered = |order| OrderReport { order, ..report(&request, 0, false) };
    let id = &request.client_id;
    orders.on_answer(id, 1, Answer::Accepted(numbered(5)), at(10));
    assert_eq!(alarms(&orders.on_told(&numbered(6), at(20))).len(), 1);
    let over = OrderReport { is_over: true, ..numbered(5) };
    orders.on_found(id, &Found::Order(over), at(30));
    (0..2).for_each(|_| drop(orders.on_committed(&[DONE], at(40))));
    orders.on_heard(&order(1).signal, false);
    assert_eq!(orders.live.len(), 0);
    assert_eq!(alarms(&orders.on_told(&numbered(7), at(50))).len(), 1);
    assert_eq!(orders.counters().accepted_twice, 2);
}

#[test]
fn an_order_that_is_told_again_is_no_second_one() {
    let mut orders = ready(Capabilities::BINANCE, Vec::new());
    let request = send(&mut orders, order(1), 0);
    let id = &request.client_id;
    orders.on_told(&report(&request, 0, false), at(5));
    orders.on_answer(id, 1, Answer::Accepted(report(&request, 0, false)), at(10));
    orders.on_found(id, &Found::Order(report(&request, 0, true)), at(20));
    (0..2).for_each(|_| drop(orders.on_committed(&[DONE], at(30))));
    reconcile(&mut orders, 40);
    let there = [report(&request, 0, true)];
    orders.on_history(&order(1).symbol, Some((&there, true)), at(50));
    assert_eq!((orders.live.len(), orders.counters().accepted_twice), (0, 0));
}

#[test]
fn a_second_attempt_after_one_that_was_not_taken_is_no_second_order() {
    let mut orders = ready(Capabilities::BINANCE, Vec::new());
    let request = send(&mut orders, order(1), 0);
    let effects = orders.on_answer(&request.client_id, 1, Answer::Expired, at(10));
    assert!(is_committed(&effects, |command| matches!(command, SlotCommand::Retry { .. })));
    let again = sent(&orders.on_committed(&[DONE], at(20)));
    assert_eq!((&again.client_id, again.attempt), (&request.client_id, 2));
    let accepted = Answer::Accepted(report(&again, 0, true));
    orders.on_answer(&again.client_id, 2, accepted, at(30));
    orders.on_history(&order(1).symbol, Some((&[report(&again, 0, true)], true)), at(40));
    assert_eq!(orders.counters().accepted_twice, 0);
}

/// How each order that was begun before was found, what was done, and how it ended.
fn found(orders: &Orders) -> Vec<(FoundAs, Remedy, &'static str)> {
    orders.recovered().map(|order| (order.found, order.done, order.outcome())).collect()
}

#[test]
fn what_a_slot_holds_is_in_the_table_with_what_became_of_it() {
    let mut orders = ready(Capabilities::BINANCE, opened(1));
    assert_eq!(found(&orders), [(FoundAs::Unheard, Remedy::TakenOver, "under way")]);
    assert_eq!(orders.recovered_news(), [], "the exchange has not said yet");
    orders.on_time(at(16_000), Some(at(16_000)), at(16_000));
    orders.on_found(&opened_id(1), &Found::Nothing, at(16_010));
    orders.on_committed(&[DONE], at(16_020));
    assert_eq!(found(&orders), [(FoundAs::NeverArrived, Remedy::GivenUp, "not placed")]);
    let orders = filled_unasked();
    assert_eq!(found(&orders), [(FoundAs::Ended, Remedy::Finished, "traded")]);
    assert_eq!(orders.recovered().next().map(|order| order.executed), Some(Quantity(10)));
}

#[test]
fn an_order_of_the_checkpoint_that_never_arrived_is_sent_again() {
    let mut orders = ready(Capabilities::BINANCE, Vec::new());
    send(&mut orders, order(1), 0);
    assert_eq!(found(&orders), [], "begun here");
    let mut again = Orders::new(OrdersConfig::new(venue(), 7), Some(orders.snapshot()));
    again.start(at(30));
    again.on_time(at(30), Some(at(30)), at(30));
    again.on_slots(slots(opened(1)), at(40));
    again.on_time(at(16_000), Some(at(16_000)), at(16_000));
    let effects = again.on_found(&opened_id(1), &Found::Nothing, at(16_010));
    assert!(is_committed(&effects, |command| matches!(command, SlotCommand::Retry { .. })));
    assert_eq!(found(&again), [(FoundAs::NeverArrived, Remedy::SentAgain, "under way")]);
    let request = sent(&again.on_committed(&[DONE], at(16_020)));
    let accepted = Answer::Accepted(report(&request, 0, true));
    again.on_answer(&request.client_id, request.attempt, accepted, at(16_030));
    again.on_committed(&[DONE], at(16_040));
    assert_eq!(found(&again), [(FoundAs::NeverArrived, Remedy::SentAgain, "nothing traded")]);
}

#[test]
fn what_the_account_lists_is_in_the_table_whoever_has_placed_it() {
    let (mut orders, stray, _) = with_stray(Vec::new());
    assert_eq!(found(&orders), [(FoundAs::Open, Remedy::Cancelled, "under way")]);
    let name = ClientOrderId::parse(&stray.client_id).unwrap();
    let over = OrderReport { is_over: true, executed: Quantity(4), ..stray };
    orders.on_cancelled(&name, &Found::Order(over), at(20));
    assert_eq!(found(&orders), [(FoundAs::Open, Remedy::Cancelled, "traded")]);
    let by_hand = |order, is_over| OrderReport {
        client_id: "by-hand".to_owned(),
        ..of_ours(1, order, is_over)
    };
    let there = [of_ours(7, 8, true), by_hand(9, true), by_hand(10, false), by_hand(11, false)];
    orders.on_history(&order(1).symbol, Some((&there, true)), at(30));
    orders.on_history(&order(1).symbol, Some((&there[2..], true)), at(40));
    let foreign = (FoundAs::Foreign, Remedy::Left, "under way");
    let left = (FoundAs::Ended, Remedy::Left, "nothing traded");
    assert_eq!(found(&orders)[1..], [left, foreign, foreign]);
    // It is asked for after all.
    orders.place(order(7), at(50));
    assert_eq!(found(&orders)[1], (FoundAs::Ended, Remedy::Finished, "nothing traded"));
}

#[test]
fn what_was_found_is_said_once_it_is_known_and_once_it_is_over() {
    let mut orders = ready(Capabilities::BINANCE, placed(1));
    let symbol = order(1).symbol;
    let there = |is_over| OrderReport {
        client_id: opened_id(1).to_string(),
        order: 3,
        symbol: symbol.clone(),
        executed: Quantity::ZERO,
        is_over,
    };
    orders.on_wake(at(2_000));
    orders.hold();
    orders.on_found(&opened_id(1), &Found::Order(there(false)), at(2_010));
    assert_eq!(orders.recovered_news(), [], "more may come of what is done again");
    orders.settle(at(2_020));
    let news = orders.recovered_news();
    assert_eq!(news.iter().map(RecoveredOrder::outcome).collect::<Vec<_>>(), ["under way"]);
    assert_eq!(orders.recovered_news(), []);
    orders.on_found(&opened_id(1), &Found::Order(there(true)), at(2_030));
    orders.on_committed(&[DONE], at(2_040));
    let news = orders.recovered_news();
    let [over] = &news[..] else { panic!("{news:?}") };
    assert_eq!((over.done, over.outcome()), (Remedy::Finished, "nothing traded"));
}

#[test]
fn the_table_of_what_was_found_is_bounded_and_has_the_last_ones() {
    let mut orders = ready(Capabilities::BINANCE, Vec::new());
    let all: Vec<OrderReport> = (1..=300).map(|number| of_ours(number, number, true)).collect();
    orders.on_history(&order(1).symbol, Some((&all, true)), at(0));
    let numbers: Vec<u64> = orders.recovered().filter_map(|order| order.exchange_order).collect();
    assert_eq!(numbers, (45..=300).collect::<Vec<u64>>());
    assert_eq!(orders.recovered_news().len(), 256);
}
