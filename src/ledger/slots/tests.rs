//! Order slots after any history.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::domain::{ClientOrderId, Key, Price, Quantity, Side, SignalTag, SourceId, Timestamp};

fn venue(exchange: &str) -> VenueAccount {
    VenueAccount { exchange: exchange.into(), account: "main".into() }
}

fn slot(exchange: &str, level: i64) -> SlotKey {
    let symbol = Symbol::new("A.X").unwrap();
    SlotKey { venue: venue(exchange), symbol, side: Side::Buy, level }
}

fn signal(number: u64) -> SignalIdentity {
    let key =
        Key { frontier: Timestamp::from_nanos(number), source: SourceId(0), sequence: number };
    SignalIdentity {
        run: "r".into(),
        strategy: "s".into(),
        symbol: Symbol::new("A.X").unwrap(),
        id: OrderId { key, ordinal: 0 },
    }
}

fn tag(number: u64) -> SignalTag {
    signal(number).tag()
}

fn open(slot: &SlotKey, generation: u64, number: u64, right: SlotRight) -> SlotCommand {
    let intent = OrderIntent {
        signal: signal(number),
        client_id: ClientOrderId::new(1, slot, generation, tag(number)),
        quantity: Quantity(1),
        limit_price: Price(1),
        deadline: Timestamp::from_nanos(1),
        request: [0; 32],
    };
    SlotCommand::Open { slot: slot.clone(), generation, intent: Box::new(intent), right }
}

fn new(slot: &SlotKey, generation: u64, number: u64) -> SlotCommand {
    open(slot, generation, number, SlotRight::NewSignal)
}

fn end(slot: &SlotKey, generation: u64, outcome: SlotOutcome) -> SlotCommand {
    SlotCommand::End { slot: slot.clone(), generation, attempt: None, outcome }
}

fn retry(slot: &SlotKey, generation: u64, attempt: u32) -> SlotCommand {
    let deadline = Timestamp::from_nanos(2);
    SlotCommand::Retry { slot: slot.clone(), generation, attempt, deadline, request: [1; 32] }
}

fn reconciled() -> Slots {
    let mut slots = Slots::default();
    for exchange in ["x", "y"] {
        slots.apply(&SlotCommand::Reconciled { venue: venue(exchange) }).unwrap();
    }
    slots
}

const DONE: Result<SlotDone, SlotRefusal> = Ok(SlotDone::Done);

fn conflict(generation: u64, attempt: u32) -> Result<SlotDone, SlotRefusal> {
    Err(SlotRefusal::Conflict { generation, attempt })
}

#[test]
fn a_slot_holds_one_order_at_a_time_and_moves_on_when_it_is_over() {
    let mut slots = reconciled();
    let at = slot("x", 0);
    assert_eq!(slots.apply(&new(&at, 1, 1)), conflict(0, 0), "not at that generation");
    assert_eq!(slots.apply(&new(&at, 0, 1)), DONE);
    assert_eq!(slots.apply(&new(&at, 0, 2)), conflict(0, 1));
    assert_eq!(slots.apply(&SlotCommand::Placed { slot: at.clone(), generation: 0 }), DONE);
    assert_eq!(slots.apply(&retry(&at, 0, 1)), conflict(0, u32::MAX), "the exchange has it");
    assert_eq!(slots.apply(&end(&at, 0, SlotOutcome::Closed)), DONE);
    assert_eq!(slots.apply(&end(&at, 0, SlotOutcome::Closed)), conflict(1, 0));
    assert_eq!(slots.apply(&new(&at, 1, 2)), DONE);
    assert_eq!(slots.open_of(&venue("x")).count(), 1);
    assert_eq!(slots.open_of(&venue("y")).count(), 0);
}

#[test]
fn a_signal_once_used_opens_nothing_more_nor_does_an_earlier_one() {
    let mut slots = reconciled();
    slots.apply(&new(&slot("x", 0), 0, 5)).unwrap();
    for (exchange, number) in [("x", 5), ("y", 5), ("y", 4)] {
        let consumed = Err(SlotRefusal::Consumed);
        assert_eq!(slots.apply(&new(&slot(exchange, 9), 0, number)), consumed);
    }
    assert_eq!(slots.apply(&new(&slot("y", 0), 0, 6)), DONE);
}

#[test]
fn a_refusal_is_on_record_also_while_the_next_order_has_the_slot() {
    let (first, second) = (slot("x", 0), slot("y", 0));
    let mut slots = reconciled();
    slots.apply(&new(&first, 0, 1)).unwrap();
    slots.apply(&end(&first, 0, SlotOutcome::Refused)).unwrap();
    slots.apply(&new(&first, 1, 2)).unwrap();
    let refused = slots.refused(&venue("x"), &signal(1)).unwrap();
    assert_eq!(refused, (first.clone(), 0));
    let right = SlotRight::RefusedBy { slot: first, generation: 0 };
    assert_eq!(slots.apply(&open(&second, 0, 1, right.clone())), Ok(SlotDone::Done));
    assert_eq!(slots.refused(&venue("x"), &signal(1)), None, "it was passed on");
    assert_eq!(slots.apply(&open(&slot("y", 1), 0, 1, right)), Err(SlotRefusal::NotRefused));
}

#[test]
fn another_exchange_is_given_an_order_once_after_a_refusal_on_record_and_not_otherwise() {
    let (first, second) = (slot("x", 0), slot("y", 0));
    let after = |generation| SlotRight::RefusedBy { slot: first.clone(), generation };
    for outcome in [SlotOutcome::Closed, SlotOutcome::NotPlaced, SlotOutcome::Released] {
        let mut slots = reconciled();
        slots.apply(&new(&first, 0, 1)).unwrap();
        let not_refused = Err(SlotRefusal::NotRefused);
        assert_eq!(slots.apply(&open(&second, 0, 1, after(0))), not_refused, "under way");
        slots.apply(&end(&first, 0, outcome)).unwrap();
        assert_eq!(slots.apply(&open(&second, 0, 1, after(0))), not_refused, "{outcome:?}");
    }
    let mut slots = reconciled();
    slots.apply(&new(&first, 0, 1)).unwrap();
    slots.apply(&end(&first, 0, SlotOutcome::Refused)).unwrap();
    assert_eq!(slots.apply(&open(&second, 0, 2, after(0))), Err(SlotRefusal::NotRefused));
    assert_eq!(slots.apply(&open(&second, 0, 1, after(1))), Err(SlotRefusal::NotRefused));
    assert_eq!(slots.apply(&open(&second, 0, 1, after(0))), DONE);
    slots.apply(&end(&second, 0, SlotOutcome::NotPlaced)).unwrap();
    assert_eq!(slots.apply(&open(&second, 1, 1, after(0))), Err(SlotRefusal::NotRefused));
}

/// A slot of another account, at both exchanges reconciled.
fn of_second(exchange: &str, slots: &mut Slots) -> SlotKey {
    let venue = VenueAccount { exchange: exchange.into(), account: "second".into() };
    slots.apply(&SlotCommand::Reconciled { venue: venue.clone() }).unwrap();
    SlotKey { venue, ..slot(exchange, 0) }
}

#[test]
fn accounts_with_the_same_signals_use_up_their_own_alone() {
    let mut slots = reconciled();
    let (first, second) = (slot("x", 0), of_second("x", &mut slots));
    assert_eq!(slots.apply(&new(&first, 0, 5)), DONE);
    assert!(slots.is_used("main", &signal(5)) && !slots.is_used("second", &signal(5)));
    assert_eq!(slots.apply(&new(&second, 0, 4)), DONE, "earlier, and another's");
    slots.apply(&end(&second, 0, SlotOutcome::Closed)).unwrap();
    assert_eq!(slots.apply(&new(&second, 1, 5)), DONE, "the same, and another's");
    slots.apply(&end(&second, 1, SlotOutcome::Closed)).unwrap();
    assert_eq!(slots.apply(&new(&second, 2, 5)), Err(SlotRefusal::Consumed));
    assert_eq!(slots.open_of(&first.venue).count(), 1);
}

#[test]
fn a_refusal_is_passed_on_to_an_order_of_its_own_account_alone() {
    let mut slots = reconciled();
    let (first, backup) = (slot("x", 0), slot("y", 0));
    let of_second = of_second("y", &mut slots);
    slots.apply(&new(&first, 0, 1)).unwrap();
    slots.apply(&end(&first, 0, SlotOutcome::Refused)).unwrap();
    let right = SlotRight::RefusedBy { slot: first, generation: 0 };
    let not_refused = Err(SlotRefusal::NotRefused);
    assert_eq!(slots.apply(&open(&of_second, 0, 1, right.clone())), not_refused);
    assert_eq!(slots.apply(&open(&backup, 0, 1, right)), DONE);
}

#[test]
fn only_the_last_attempt_is_tried_again_and_given_up() {
    let mut slots = reconciled();
    let at = slot("x", 0);
    slots.apply(&new(&at, 0, 1)).unwrap();
    assert_eq!(slots.apply(&retry(&at, 0, 1)), DONE);
    assert_eq!(slots.apply(&retry(&at, 0, 1)), conflict(0, 2), "somebody else was first");
    let outcome = SlotOutcome::NotPlaced;
    let end = |attempt| SlotCommand::End { slot: at.clone(), generation: 0, attempt, outcome };
    assert_eq!(slots.apply(&end(Some(1))), conflict(0, 2));
    let quarantine = SlotCommand::Quarantine { slot: at.clone(), generation: 0 };
    assert_eq!(slots.apply(&quarantine), DONE);
    assert_eq!(slots.apply(&end(Some(2))), conflict(0, 2), "only for a person to end");
    assert_eq!(slots.apply(&end(None)), DONE);
}

#[test]
fn nothing_is_opened_in_a_ledger_that_has_not_seen_the_exchange() {
    let mut slots = Slots::default();
    assert_eq!(slots.apply(&new(&slot("x", 0), 0, 1)), Err(SlotRefusal::NotReconciled));
    slots.apply(&SlotCommand::Reconciled { venue: venue("y") }).unwrap();
    assert_eq!(slots.apply(&new(&slot("x", 0), 0, 1)), Err(SlotRefusal::NotReconciled));
    assert_eq!(slots.apply(&SlotCommand::Found { cluster: 7 }), Ok(SlotDone::Cluster(7)));
    assert_eq!(slots.apply(&SlotCommand::Found { cluster: 8 }), Ok(SlotDone::Cluster(7)));
    let seal = SlotCommand::Seal { venue: venue("x") };
    assert_eq!(slots.apply(&seal), Ok(SlotDone::Sealed(1)));
    assert_eq!(slots.apply(&seal), Ok(SlotDone::Sealed(2)));
    assert!(!slots.venue(&venue("x")).is_reconciled);
}

#[test]
fn a_slot_that_was_forgotten_begins_at_a_generation_it_has_never_had() {
    let mut slots = reconciled();
    let first = slot("x", 0);
    for generation in 0..3 {
        slots.apply(&new(&first, generation, generation + 1)).unwrap();
        slots.apply(&end(&first, generation, SlotOutcome::Closed)).unwrap();
    }
    let others = i64::try_from(FREE_MAX).unwrap();
    for level in 1..=others {
        let (at, number) = (slot("x", level), 10 + u64::try_from(level).unwrap());
        slots.apply(&new(&at, slots.generation(&at), number)).unwrap();
        slots.apply(&end(&at, slots.generation(&at), SlotOutcome::Closed)).unwrap();
    }
    assert_eq!(slots.free.len(), FREE_MAX);
    assert_eq!(slots.freed.len(), FREE_MAX);
    assert_eq!(slots.find(&first), None);
    assert!(slots.generation(&first) >= 3);
}

proptest! {
    /// Whatever is asked in whatever order: invariants 1 to 3.
    #[test]
    fn no_generation_and_no_signal_has_two_intents(
        steps in proptest::collection::vec((0u8..7, 0i64..2, 0u64..4, 1u64..6, any::<bool>()), 1..200),
    ) {
        let mut slots = reconciled();
        let (mut generations, mut signals) = (BTreeSet::new(), BTreeMap::<u64, Vec<_>>::new());
        let mut refused = BTreeMap::<u64, usize>::new();
        for (what, level, number, generation, is_other) in steps {
            let at = slot(if is_other { "y" } else { "x" }, level);
            let generation = if what < 4 { slots.generation(&at) } else { generation };
            let held = slots.find(&at).and_then(Slot::intent).map(|intent| intent.signal.clone());
            let (command, opened) = match what {
                0 => (new(&at, generation, number), true),
                1 => {
                    let from = slot(if is_other { "x" } else { "y" }, level);
                    let last = slots.find(&from).and_then(|slot| slot.last.as_ref());
                    let generation_from = last.map_or(0, |last| last.generation);
                    let right = SlotRight::RefusedBy { slot: from, generation: generation_from };
                    (open(&at, generation, number, right), true)
                }
                2 => (end(&at, generation, SlotOutcome::Refused), false),
                3 => (end(&at, generation, SlotOutcome::NotPlaced), false),
                4 => (retry(&at, generation, 1), false),
                5 => (SlotCommand::Placed { slot: at.clone(), generation }, false),
                _ => (end(&at, generation, SlotOutcome::Closed), false),
            };
            let before = slots.generation(&at);
            let result = slots.apply(&command);
            prop_assert!(slots.generation(&at) >= before);
            if result.is_err() {
                continue;
            }
            if opened {
                prop_assert!(generations.insert((at.clone(), generation)));
                signals.entry(number).or_default().push(at);
                let opened = signals[&number].len();
                prop_assert!(opened <= 1 + refused.get(&number).copied().unwrap_or(0));
            } else if what == 2 {
                let signal = held.expect("something has ended");
                *refused.entry(signal.id.key.sequence).or_default() += 1;
            }
        }
    }
}
