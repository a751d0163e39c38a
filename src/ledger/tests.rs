//! The ledger after any history.

use proptest::prelude::*;

use super::repeats::REPEATS_MAX;
use super::*;
use crate::domain::{Incarnation, LockEnd, LockMode, ParameterChange, Span, Timestamp};

fn opening(node: &str, incarnation: u64, priority: u32) -> Opening {
    Opening {
        node: node.into(),
        incarnation: Incarnation(incarnation),
        replica: incarnation,
        priority,
        is_witness: node == "w",
    }
}

fn cas(key: &str, expected: u64, value: &str) -> Operation {
    let value = (!value.is_empty()).then(|| value.as_bytes().to_vec());
    Operation::Cas { key: key.into(), expected, value }
}

fn ask(ledger: &mut Ledger, operation: Operation) -> Answer {
    ledger.apply(&Command { id: None, operation }).answer
}

fn open(ledger: &mut Ledger, node: &str, priority: u32) -> SessionId {
    match ask(ledger, Operation::OpenSession(opening(node, 1, priority))) {
        Ok(Outcome::Opened { session }) => session,
        other => panic!("{other:?}"),
    }
}

fn holder(ledger: &Ledger) -> (u64, String) {
    let Coordinator { term, holder } = ledger.coordinator();
    (*term, holder.as_ref().map_or_else(String::new, |(node, _)| node.0.clone()))
}

#[test]
fn a_register_is_written_only_at_the_version_that_is_expected() {
    let mut ledger = Ledger::default();
    assert_eq!(ask(&mut ledger, cas("k", 0, "a")), Ok(Outcome::Written { version: 1 }));
    let conflict = Err(Refusal::Conflict { expected: 0, version: 1 });
    assert_eq!(ask(&mut ledger, cas("k", 0, "b")), conflict);
    assert_eq!(ask(&mut ledger, cas("k", 1, "b")), Ok(Outcome::Written { version: 3 }));
    assert_eq!(ask(&mut ledger, cas("k", 3, "")), Ok(Outcome::Written { version: 4 }));
    assert_eq!(ledger.read("k"), None);
    assert_eq!(ask(&mut ledger, cas("k", 0, "c")), Ok(Outcome::Written { version: 5 }));
    assert_eq!(ask(&mut ledger, cas("k/2", 0, "d")), Ok(Outcome::Written { version: 6 }));
    ask(&mut ledger, cas("l", 0, "e")).unwrap();
    let listed: Vec<&str> = ledger.list("k").map(|(key, _)| key).collect();
    assert_eq!(listed, ["k", "k/2"]);
}

#[test]
fn whoever_watches_hears_of_every_write_and_of_nothing_that_was_refused() {
    let mut ledger = Ledger::default();
    let mut events = |operation| ledger.apply(&Command { id: None, operation }).events;
    let written = events(cas("a/k", 0, "x"));
    let value = Some(b"x".to_vec());
    assert_eq!(written, [Event::Register { key: "a/k".into(), version: 1, value }]);
    assert!(written[0].is_register_under("a/") && !written[0].is_register_under("b/"));
    assert_eq!(events(cas("a/k", 0, "y")), []);
    assert_eq!(events(cas("b", 0, "")), [], "it was not there");
}

#[test]
fn what_is_too_large_is_refused_exactly_beyond_the_limit() {
    let mut ledger = Ledger::default();
    let mut write = |key: usize, value: usize| {
        let value = Some(vec![0; value]);
        ask(&mut ledger, Operation::Cas { key: "k".repeat(key), expected: 0, value })
    };
    assert!(write(NAME_BYTES_MAX, VALUE_BYTES_MAX).is_ok());
    assert!(matches!(write(NAME_BYTES_MAX + 1, 1), Err(Refusal::TooLarge { .. })));
    assert!(matches!(write(1, VALUE_BYTES_MAX + 1), Err(Refusal::TooLarge { .. })));
    let fits = (32 << 20) / (VALUE_BYTES_MAX + 4);
    for at in 0..fits - 1 {
        let value = Some(vec![0; VALUE_BYTES_MAX]);
        ask(&mut ledger, Operation::Cas { key: format!("{at:04}"), expected: 0, value }).unwrap();
    }
    let value = Some(vec![0; VALUE_BYTES_MAX]);
    let more = ask(&mut ledger, Operation::Cas { key: "more".into(), expected: 0, value });
    assert!(matches!(more, Err(Refusal::Full { .. })), "{more:?}");
    let version = ledger.read("0000").unwrap().version;
    ask(&mut ledger, cas("0000", version, "")).unwrap();
    let value = Some(vec![0; VALUE_BYTES_MAX]);
    ask(&mut ledger, Operation::Cas { key: "more".into(), expected: 0, value }).unwrap();
}

#[test]
fn the_first_by_name_coordinates_unless_another_has_priority_and_a_witness_never_does() {
    let mut ledger = Ledger::default();
    open(&mut ledger, "w", 9);
    assert_eq!(holder(&ledger), (0, String::new()));
    open(&mut ledger, "b", 0);
    assert_eq!(holder(&ledger), (1, "b".into()));
    open(&mut ledger, "c", 0);
    assert_eq!(holder(&ledger), (1, "b".into()));
    let a = open(&mut ledger, "a", 0);
    assert_eq!(holder(&ledger), (2, "a".into()));
    let d = open(&mut ledger, "d", 1);
    assert_eq!(holder(&ledger), (3, "d".into()));
    ask(&mut ledger, Operation::CloseSession { session: d }).unwrap();
    assert_eq!(holder(&ledger), (4, "a".into()));
    ask(&mut ledger, Operation::ExpireSession { session: a, renewals: 0 }).unwrap();
    assert_eq!(holder(&ledger), (5, "b".into()));
}

#[test]
fn a_promoted_node_coordinates_whenever_it_is_there_until_another_is_promoted() {
    let mut ledger = Ledger::default();
    let promote = |node: Option<&str>| Operation::Promote { node: node.map(NodeId::from) };
    open(&mut ledger, "w", 0);
    open(&mut ledger, "a", 7);
    let b = open(&mut ledger, "b", 0);
    assert_eq!(holder(&ledger), (1, "a".into()));
    assert_eq!(ask(&mut ledger, promote(Some("b"))), Ok(Outcome::Promoted { term: 2 }));
    assert_eq!(holder(&ledger), (2, "b".into()));
    assert_eq!(ask(&mut ledger, promote(Some("b"))), Ok(Outcome::Promoted { term: 2 }), "it is");
    ask(&mut ledger, Operation::CloseSession { session: b }).unwrap();
    assert_eq!(holder(&ledger), (3, "a".into()), "somebody has to meanwhile");
    let refused = Err(Refusal::NoSession { node: "b".into() });
    assert_eq!(ask(&mut ledger, promote(Some("b"))), refused);
    ask(&mut ledger, Operation::OpenSession(opening("b", 2, 0))).unwrap();
    assert_eq!(holder(&ledger), (4, "b".into()));
    let witness = Err(Refusal::Witness { node: "w".into() });
    assert_eq!(ask(&mut ledger, promote(Some("w"))), witness);
    assert_eq!(ask(&mut ledger, promote(None)), Ok(Outcome::Promoted { term: 5 }));
    assert_eq!(holder(&ledger), (5, "a".into()));
}

#[test]
fn a_session_that_was_renewed_meanwhile_does_not_expire() {
    let mut ledger = Ledger::default();
    let session = open(&mut ledger, "a", 0);
    ask(&mut ledger, Operation::RenewSession { session }).unwrap();
    let expire = |renewals| Operation::ExpireSession { session, renewals };
    let renewed = Err(Refusal::SessionRenewed { session });
    assert_eq!(ask(&mut ledger, expire(0)), renewed);
    assert_eq!(ask(&mut ledger, expire(1)), Ok(Outcome::Ended));
    assert_eq!(ask(&mut ledger, expire(1)), Ok(Outcome::Ended), "as often as one likes");
    let ended = Err(Refusal::SessionEnded { session });
    assert_eq!(ask(&mut ledger, Operation::RenewSession { session }), ended);
}

#[test]
fn a_node_that_starts_again_ends_its_earlier_session_and_never_a_later_one() {
    let mut ledger = Ledger::default();
    let first = open(&mut ledger, "a", 0);
    assert_eq!(open(&mut ledger, "a", 0), first, "the answer may have been lost");
    let again = Command { id: None, operation: Operation::OpenSession(opening("a", 2, 0)) };
    let applied = ledger.apply(&again);
    let replaced = EndReason::Replaced;
    let node: NodeId = "a".into();
    let end = Event::SessionEnded { session: first, node: node.clone(), reason: replaced };
    assert_eq!(applied.events[0], end);
    assert_eq!(holder(&ledger), (2, "a".into()), "its successor is another coordinator");
    let late = ask(&mut ledger, Operation::OpenSession(opening("a", 1, 0)));
    assert_eq!(late, Err(Refusal::LaterLife { node, incarnation: Incarnation(2) }));
}

#[test]
fn only_the_coordinator_of_the_term_allocates_and_each_owner_has_an_epoch() {
    let mut ledger = Ledger::default();
    let a = open(&mut ledger, "a", 0);
    open(&mut ledger, "b", 0);
    let give = |term, owner: &str| Operation::Allocate {
        term,
        resource: "shard/3".into(),
        owner: (!owner.is_empty()).then(|| owner.into()),
    };
    assert_eq!(ask(&mut ledger, give(1, "b")), Ok(Outcome::Allocated { epoch: 1 }));
    assert_eq!(ask(&mut ledger, give(1, "b")), Ok(Outcome::Allocated { epoch: 1 }), "no change");
    let absent = Err(Refusal::NoSession { node: "c".into() });
    assert_eq!(ask(&mut ledger, give(1, "c")), absent);
    ask(&mut ledger, Operation::ExpireSession { session: a, renewals: 0 }).unwrap();
    assert_eq!(ask(&mut ledger, give(1, "b")), Err(Refusal::Term { given: 1, current: 2 }));
    assert_eq!(ask(&mut ledger, give(3, "b")), Err(Refusal::Term { given: 3, current: 2 }));
    assert_eq!(ask(&mut ledger, give(2, "")), Ok(Outcome::Allocated { epoch: 2 }));
    assert_eq!(ask(&mut ledger, give(2, "b")), Ok(Outcome::Allocated { epoch: 3 }));
    ask(&mut ledger, Operation::OpenSession(opening("b", 5, 0))).unwrap();
    assert_eq!(ask(&mut ledger, give(3, "b")), Ok(Outcome::Allocated { epoch: 4 }), "another life");
}

#[test]
fn a_node_is_forgotten_only_when_it_is_not_there() {
    let mut ledger = Ledger::default();
    let session = open(&mut ledger, "a", 0);
    let forget = Operation::Forget { node: "a".into() };
    assert_eq!(ask(&mut ledger, forget.clone()), Err(Refusal::HasSession { node: "a".into() }));
    ask(&mut ledger, Operation::CloseSession { session }).unwrap();
    assert_eq!(ledger.members().len(), 1, "it is expected back");
    assert_eq!(ask(&mut ledger, forget), Ok(Outcome::Forgotten));
    assert!(ledger.members().is_empty());
}

#[test]
fn a_command_from_before_what_is_remembered_is_refused_and_never_repeated() {
    let mut ledger = Ledger::default();
    let id = |number, since| Some(OperationId { client: 1, number, since });
    let first = Command { id: id(0, 0), operation: cas("k", 0, "first") };
    let answer = ledger.apply(&first).answer;
    for number in 1..u64::try_from(REPEATS_MAX).unwrap() {
        let since = ledger.revision();
        ledger.apply(&Command { id: id(number, since), operation: cas("other", 1, "") });
    }
    assert_eq!(ledger.apply(&first).answer, answer, "the oldest that is remembered");
    let since = ledger.revision();
    ledger.apply(&Command { id: id(u64::MAX, since), operation: cas("other", 1, "") });
    let version = ledger.read("k").unwrap().version;
    ask(&mut ledger, cas("k", version, "")).unwrap();
    assert_eq!(ledger.apply(&first).answer, Err(Refusal::TooOld));
    assert_eq!(ledger.read("k"), None, "it would have been written once more");
}

#[test]
fn a_session_that_ends_gives_its_locks_back_and_gets_none_any_more() {
    let mut ledger = Ledger::default();
    let session = open(&mut ledger, "a", 0);
    let owner = LockOwner { session: session.0, name: "s".into() };
    let acquire = Operation::Locks(vec![LockCommand::Acquire {
        key: "k".into(),
        owner: owner.clone(),
        mode: LockMode::Write,
        ttl: Span::from_secs(1),
        wait: Span::ZERO,
    }]);
    let granted = ask(&mut ledger, acquire.clone());
    let token = ledger.revision();
    assert_eq!(granted, Ok(Outcome::Locks(vec![Ok(LockDone::Granted { token, holds: 1 })])));
    let close = Command { id: None, operation: Operation::CloseSession { session } };
    let events = ledger.apply(&close).events;
    let end = LockEnd::SessionEnded;
    let released = LockEvent::Released { key: "k".into(), owner, token, end };
    assert!(events.contains(&Event::Lock(released)), "{events:?}");
    assert!(ledger.locks().all().is_empty());
    let refused = LockRefusal::SessionEnded { session: session.0 };
    assert_eq!(ask(&mut ledger, acquire), Ok(Outcome::Locks(vec![Err(refused)])));
}

fn lock() -> impl Strategy<Value = LockCommand> {
    let owner = (0u64..30, "[pq]").prop_map(|(session, name)| LockOwner { session, name });
    (owner, "[mn]", any::<bool>(), 1u64..40, 0u8..5).prop_map(|(owner, key, reads, token, what)| {
        let mode = if reads { LockMode::Read } else { LockMode::Write };
        let ttl = Span::from_secs(1);
        match what {
            0 => LockCommand::Unlock { key, owner, token },
            1 => LockCommand::Cancel { key, owner, ticket: token },
            2 => LockCommand::Expire { key, owner, token, extensions: 0 },
            3 => LockCommand::Acquire { key, owner, mode, ttl, wait: Span::ZERO },
            _ => LockCommand::Acquire { key, owner, mode, ttl, wait: ttl },
        }
    })
}

fn control() -> impl Strategy<Value = ControlCommand> {
    (0u8..7, 0u64..40, 0u64..3).prop_map(|(kind, number, small)| {
        let (at, session) = (Timestamp::from_nanos(number), SessionId(number));
        let change = ParameterChange { at, strategy: 0, parameters: vec![("p".into(), 0.5)] };
        let (change, releases) = (AgreedChange::new(&change, "", ""), small == 0);
        match kind {
            0 => ControlCommand::End { run: small },
            1 => ControlCommand::Begin { run: small },
            2 => ControlCommand::Hold { session, at, lease: Span::from_nanos(small) },
            3 => ControlCommand::Renew { number },
            4 => ControlCommand::Release { number },
            5 => ControlCommand::Expire { number, renewals: small },
            _ => ControlCommand::Record {
                number,
                change,
                asked: vec![("r".into(), small)],
                releases,
            },
        }
    })
}

fn operation() -> impl Strategy<Value = Operation> {
    let node = "[abcw]";
    let session = (0u64..30).prop_map(SessionId);
    prop_oneof![
        3 => ("[kl]", 0u64..12, "[xy]?").prop_map(|(key, expected, value)| cas(&key, expected, &value)),
        3 => (node, 0u64..4, 0u32..2)
            .prop_map(|(node, life, priority)| Operation::OpenSession(opening(&node, life, priority))),
        2 => session.clone().prop_map(|session| Operation::RenewSession { session }),
        2 => (session.clone(), 0u64..3)
            .prop_map(|(session, renewals)| Operation::ExpireSession { session, renewals }),
        1 => session.prop_map(|session| Operation::CloseSession { session }),
        3 => (0u64..6, "[rs]", proptest::option::of(node)).prop_map(|(term, resource, owner)| {
            Operation::Allocate { term, resource, owner: owner.map(NodeId) }
        }),
        1 => node.prop_map(|node| Operation::Forget { node: NodeId(node) }),
        1 => proptest::option::of(node)
            .prop_map(|node| Operation::Promote { node: node.map(NodeId) }),
        4 => lock().prop_map(|command| Operation::Locks(vec![command])),
        3 => control().prop_map(Operation::Control),
    ]
}

/// A history in which commands come again: operation, and whether it is sent as one of the last few.
fn history() -> impl Strategy<Value = Vec<(Operation, Option<usize>)>> {
    proptest::collection::vec((operation(), proptest::option::of(0usize..8)), 1..120)
}

proptest! {
    /// Invariants 1, 3 and 4.
    #[test]
    fn histories_are_repeatable_and_nothing_goes_back(history in history(), cut in 0usize..120) {
        let (mut ledger, mut twin) = (Ledger::default(), Ledger::default());
        let (mut term, mut epochs) = (0, BTreeMap::new());
        let mut versions: BTreeMap<String, u64> = BTreeMap::new();
        for (at, (operation, _)) in history.into_iter().enumerate() {
            let command = Command { id: None, operation };
            if at == cut {
                let bytes = bincode::serde::encode_to_vec(&twin, bincode::config::standard());
                let config = bincode::config::standard();
                twin = bincode::serde::decode_from_slice(&bytes.unwrap(), config).unwrap().0;
            }
            let before = ledger.clone();
            let applied = ledger.apply(&command);
            prop_assert_eq!(&twin.apply(&command), &applied);
            prop_assert_eq!(&twin, &ledger);
            prop_assert_eq!(ledger.revision(), before.revision() + 1);
            if applied.answer.is_err() {
                prop_assert!(applied.events.is_empty());
            }
            for event in &applied.events {
                if let Event::Register { key, version, .. } = event {
                    prop_assert!(versions.insert(key.clone(), *version) < Some(*version));
                }
            }
            let coordinator = ledger.coordinator();
            prop_assert!(coordinator.term >= term);
            let is_same = coordinator.holder == before.coordinator().holder;
            prop_assert!(is_same || coordinator.holder.is_none() || coordinator.term > term);
            term = coordinator.term;
            let best = ledger.sessions().iter().filter(|(_, open)| !open.opening.is_witness);
            let best = best.max_by_key(|(_, open)| {
                let node = &open.opening.node;
                let is_promoted = ledger.promoted() == Some(node);
                (is_promoted, open.opening.priority, std::cmp::Reverse(node.clone()))
            });
            let best = best.map(|(&session, open)| (open.opening.node.clone(), session));
            prop_assert_eq!(&best, &coordinator.holder);
            for (resource, allocation) in ledger.allocations() {
                let before = epochs.insert(resource.clone(), (allocation.epoch, allocation.owner.clone()));
                if let Some((epoch, owner)) = before {
                    prop_assert!(allocation.epoch >= epoch);
                    prop_assert!(allocation.owner == owner || allocation.epoch > epoch);
                }
            }
        }
    }

    /// Invariant 2: with repetitions, whenever they come, the ledger holds what it holds without.
    #[test]
    fn a_repeated_command_takes_effect_once(history in history()) {
        let (mut ledger, mut once) = (Ledger::default(), Ledger::default());
        let mut sent: Vec<(Command, Answer)> = Vec::new();
        for (number, (operation, repeat)) in history.into_iter().enumerate() {
            if let Some(back) = repeat && let Some((command, answer)) = sent.iter().rev().nth(back) {
                let applied = ledger.apply(command);
                prop_assert_eq!(&applied.answer, answer);
                prop_assert!(applied.events.is_empty());
                // What comes after is to have the same revisions on both sides.
                once.revision += 1;
            }
            let number = u64::try_from(number).unwrap();
            let id = OperationId { client: 1, number, since: ledger.revision() };
            let command = Command { id: Some(id), operation };
            let answer = ledger.apply(&command).answer;
            prop_assert_eq!(&once.apply(&command).answer, &answer);
            sent.push((command, answer));
        }
        prop_assert_eq!(&ledger, &once);
    }

    /// A register is one that a single writer could have written: what it holds is the last value whose
    /// write succeeded, and that write expected the version of the one before.
    #[test]
    fn registers_are_linear(writes in proptest::collection::vec(("[kl]", 0u64..10, "[xyz]?"), 1..80)) {
        let mut ledger = Ledger::default();
        let mut model: BTreeMap<String, (u64, String)> = BTreeMap::new();
        for (key, back, value) in writes {
            let (version, _) = model.get(&key).cloned().unwrap_or_default();
            // Mostly the right version, and now and then one of before.
            let expected = if back < 7 { version } else { version.saturating_sub(back - 6) };
            match ask(&mut ledger, cas(&key, expected, &value)) {
                Ok(Outcome::Written { version: written }) => {
                    prop_assert_eq!(expected, version);
                    if value.is_empty() {
                        model.remove(&key);
                    } else {
                        model.insert(key, (written, value));
                    }
                }
                refused => {
                    prop_assert_ne!(expected, version);
                    prop_assert_eq!(refused, Err(Refusal::Conflict { expected, version }));
                }
            }
            for key in ["k", "l"] {
                let read = ledger.read(key);
                let held = read.map(|r| (r.version, String::from_utf8(r.value.clone()).unwrap()));
                prop_assert_eq!(held.as_ref(), model.get(key));
            }
        }
    }
}
