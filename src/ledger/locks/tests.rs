//! Locks after any history.

use proptest::prelude::*;

use super::*;

const WAIT: Span = Span::from_secs(1);

fn owner(session: u64, name: &str) -> LockOwner {
    LockOwner { session, name: name.into() }
}

fn acquire(name: &str, key: &str, mode: LockMode, wait: Span) -> LockCommand {
    let (key, owner) = (key.into(), owner(1, name));
    LockCommand::Acquire { key, owner, mode, ttl: Span::from_secs(1), wait }
}

fn unlock(name: &str, key: &str, token: u64) -> LockCommand {
    LockCommand::Unlock { key: key.into(), owner: owner(1, name), token }
}

#[derive(Default)]
struct Case {
    locks: Locks,
    events: Vec<LockEvent>,
}

impl Case {
    fn apply(&mut self, command: &LockCommand) -> Result<LockDone, LockRefusal> {
        self.events.clear();
        self.locks.apply(command, 0, &mut self.events)
    }

    fn write(&mut self, name: &str, key: &str) -> u64 {
        self.take(acquire(name, key, LockMode::Write, Span::ZERO))
    }

    fn read(&mut self, name: &str, key: &str) -> u64 {
        self.take(acquire(name, key, LockMode::Read, Span::ZERO))
    }

    fn take(&mut self, command: LockCommand) -> u64 {
        match self.apply(&command) {
            Ok(LockDone::Granted { token, .. }) => token,
            other => panic!("{other:?}"),
        }
    }

    fn wait(&mut self, name: &str, key: &str, mode: LockMode) -> u64 {
        match self.apply(&acquire(name, key, mode, WAIT)) {
            Ok(LockDone::Waiting { ticket }) => ticket,
            other => panic!("{other:?}"),
        }
    }

    /// Who was granted something by the last command.
    fn granted(&self) -> Vec<&str> {
        let granted = self.events.iter().filter_map(|event| {
            let LockEvent::Granted { owner, .. } = event else { return None };
            Some(owner.name.as_str())
        });
        granted.collect()
    }
}

#[test]
fn one_writes_and_others_are_refused_until_it_gives_the_lock_back() {
    let mut case = Case::default();
    let token = case.write("a", "k");
    let held = LockRefusal::Held { key: "k".into(), by: owner(1, "a") };
    assert_eq!(case.apply(&acquire("b", "k", LockMode::Write, Span::ZERO)), Err(held.clone()));
    assert_eq!(case.apply(&acquire("b", "k", LockMode::Read, Span::ZERO)), Err(held));
    let not_held = LockRefusal::NotHeld { key: "k".into(), token: token + 1 };
    assert_eq!(case.apply(&unlock("a", "k", token + 1)), Err(not_held), "another grant");
    assert!(case.apply(&unlock("b", "k", token)).is_err(), "another owner");
    assert_eq!(case.apply(&unlock("a", "k", token)), Ok(LockDone::Released { holds: 0 }));
    assert!(case.locks.all().is_empty(), "a lock that is free is not remembered");
    assert!(case.write("b", "k") > token);
}

#[test]
fn an_owner_takes_what_it_has_again_and_gives_it_back_as_often() {
    let mut case = Case::default();
    let token = case.write("a", "k");
    assert_eq!(case.read("a", "k"), token, "whoever writes may read");
    assert_eq!(case.write("a", "k"), token);
    for holds in [2, 1, 0] {
        assert_eq!(case.apply(&unlock("a", "k", token)), Ok(LockDone::Released { holds }));
    }
    assert!(case.apply(&unlock("a", "k", token)).is_err());
    case.read("a", "k");
    let upgrade = Err(LockRefusal::Upgrade { key: "k".into() });
    assert_eq!(case.apply(&acquire("a", "k", LockMode::Write, WAIT)), upgrade);
}

#[test]
fn readers_share_and_do_not_overtake_a_writer_that_waits() {
    let mut case = Case::default();
    let (a, b) = (case.read("a", "k"), case.read("b", "k"));
    case.wait("w", "k", LockMode::Write);
    case.wait("c", "k", LockMode::Read);
    case.wait("d", "k", LockMode::Read);
    assert!(case.apply(&acquire("e", "k", LockMode::Read, Span::ZERO)).is_err(), "after them");
    case.apply(&unlock("a", "k", a)).unwrap();
    assert!(case.granted().is_empty());
    case.apply(&unlock("b", "k", b)).unwrap();
    assert_eq!(case.granted(), ["w"]);
    let token = case.locks.hold("k", &owner(1, "w")).unwrap().token;
    case.apply(&unlock("w", "k", token)).unwrap();
    assert_eq!(case.granted(), ["c", "d"], "all that read at once");
}

#[test]
fn whoever_cancels_waits_no_more_and_those_behind_move_up() {
    let mut case = Case::default();
    case.read("a", "k");
    let ticket = case.wait("w", "k", LockMode::Write);
    case.wait("b", "k", LockMode::Read);
    let cancel = LockCommand::Cancel { key: "k".into(), owner: owner(1, "w"), ticket };
    assert_eq!(case.apply(&cancel), Ok(LockDone::Cancelled));
    assert_eq!(case.granted(), ["b"]);
    assert_eq!(case.apply(&cancel), Err(LockRefusal::NotWaiting { key: "k".into(), ticket }));
    assert_eq!(case.locks.statistics().timeouts, 1);
}

#[test]
fn of_those_who_wait_for_each_other_the_one_that_began_last_waits_no_more() {
    let mut case = Case::default();
    case.write("old", "1");
    case.write("middle", "2");
    let young = case.write("young", "3");
    case.wait("old", "2", LockMode::Write);
    let ticket = case.wait("young", "1", LockMode::Write);
    // The circle is closed by another than the youngest.
    case.wait("middle", "3", LockMode::Write);
    let aborted = case.events.iter().find_map(|event| {
        let LockEvent::Aborted { owner, ticket, cycle, .. } = event else { return None };
        Some((owner, *ticket, cycle.len()))
    });
    assert_eq!(aborted, Some((&owner(1, "young"), ticket, 3)));
    case.apply(&unlock("young", "3", young)).unwrap();
    assert_eq!(case.granted(), ["middle"]);
    // And by the youngest itself.
    let mut case = Case::default();
    case.write("old", "1");
    case.write("young", "2");
    case.wait("old", "2", LockMode::Write);
    let refused = case.apply(&acquire("young", "1", LockMode::Write, WAIT));
    assert!(matches!(refused, Err(LockRefusal::Deadlock { .. })), "{refused:?}");
    assert_eq!(case.locks.statistics().deadlocks, 1);
}

#[test]
fn a_wait_that_is_aborted_may_make_room_for_the_one_that_closed_the_circle() {
    let mut case = Case::default();
    case.read("old", "r");
    case.write("old", "1");
    case.read("young", "other");
    // It waits for `old` to read no more, and `old` then stands behind it.
    case.write("young", "2");
    case.wait("young", "r", LockMode::Write);
    case.read("late", "x");
    let done = case.apply(&acquire("late", "r", LockMode::Read, WAIT));
    assert!(matches!(done, Ok(LockDone::Waiting { .. })));
    let done = case.apply(&acquire("old", "2", LockMode::Write, WAIT));
    assert!(matches!(done, Ok(LockDone::Waiting { .. })), "{done:?}");
    assert!(case.locks.hold("r", &owner(1, "late")).is_some(), "the writer before it is gone");
}

#[test]
fn an_owner_waits_for_one_lock_at_a_time() {
    let mut case = Case::default();
    case.write("a", "1");
    case.write("a", "2");
    case.wait("b", "1", LockMode::Write);
    let again = Err(LockRefusal::WaitsAlready { key: "1".into() });
    assert_eq!(case.apply(&acquire("b", "2", LockMode::Write, WAIT)), again);
    assert_eq!(case.apply(&acquire("b", "1", LockMode::Write, WAIT)), again);
}

#[test]
fn an_expiry_spares_what_was_extended_and_takes_all_holds() {
    let mut case = Case::default();
    let token = case.write("a", "k");
    case.write("a", "k");
    let expire = |extensions| LockCommand::Expire {
        key: "k".into(),
        owner: owner(1, "a"),
        token,
        extensions,
    };
    assert_eq!(case.apply(&expire(0)), Err(LockRefusal::Renewed { key: "k".into() }));
    case.wait("b", "k", LockMode::Write);
    assert_eq!(case.apply(&expire(1)), Ok(LockDone::Expired));
    assert_eq!(case.granted(), ["b"]);
    assert!(case.apply(&unlock("a", "k", token)).is_err());
}

#[test]
fn what_a_session_had_goes_to_others_when_it_ends_and_not_to_its_own() {
    let mut case = Case::default();
    case.write("a", "k");
    case.wait("b", "k", LockMode::Write);
    let (key, other) = ("k".to_owned(), owner(2, "c"));
    let mode = LockMode::Write;
    case.apply(&LockCommand::Acquire { key, owner: other, mode, ttl: WAIT, wait: WAIT }).unwrap();
    case.events.clear();
    case.locks.end_session(1, &mut case.events);
    assert_eq!(case.granted(), ["c"]);
    assert_eq!(case.locks.owners.len(), 1, "the others are forgotten");
}

#[test]
fn names_are_taken_exactly_up_to_their_bound() {
    let mut case = Case::default();
    let take = |key: usize, name: usize| {
        acquire(&"n".repeat(name), &"k".repeat(key), LockMode::Write, Span::ZERO)
    };
    assert!(case.apply(&take(LOCK_KEY_BYTES_MAX, LOCK_OWNER_BYTES_MAX)).is_ok());
    for (key, name) in [(0, 1), (1, 0), (LOCK_KEY_BYTES_MAX + 1, 1), (1, LOCK_OWNER_BYTES_MAX + 1)]
    {
        assert!(matches!(case.apply(&take(key, name)), Err(LockRefusal::Length { .. })));
    }
}

#[test]
fn as_many_wait_as_may_and_one_more_is_refused() {
    let mut case = Case::default();
    case.write("a", "k");
    for at in 0..WAITERS_MAX {
        case.wait(&at.to_string(), "k", LockMode::Write);
    }
    let more = case.apply(&acquire("more", "k", LockMode::Write, WAIT));
    assert!(matches!(more, Err(LockRefusal::Full { .. })), "{more:?}");
}

/// A step of somebody; tokens and tickets are looked up when it is taken.
#[derive(Clone, Debug)]
enum Step {
    Acquire { who: u8, key: u8, reads: bool, waits: bool },
    Unlock { who: u8, key: u8 },
    Extend { who: u8, key: u8 },
    Cancel { who: u8 },
    Expire { who: u8, key: u8 },
    EndSession(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (who, key) = (0u8..6, 0u8..4);
    let at = (who.clone(), key.clone());
    let step = prop_oneof![
        8 => (who.clone(), key, any::<bool>(), prop::bool::weighted(0.8))
            .prop_map(|(who, key, reads, waits)| Step::Acquire { who, key, reads, waits }),
        4 => at.clone().prop_map(|(who, key)| Step::Unlock { who, key }),
        1 => at.clone().prop_map(|(who, key)| Step::Extend { who, key }),
        1 => who.prop_map(|who| Step::Cancel { who }),
        1 => at.prop_map(|(who, key)| Step::Expire { who, key }),
        1 => (0u8..2).prop_map(Step::EndSession),
    ];
    prop::collection::vec(step, 1..120)
}

fn person(who: u8) -> LockOwner {
    owner(u64::from(who % 2), &who.to_string())
}

fn command(locks: &Locks, step: &Step) -> Option<LockCommand> {
    let held = |who: u8, key: u8| {
        let (key, owner) = (key.to_string(), person(who));
        locks.hold(&key, &owner).copied().map(|hold| (key, owner, hold))
    };
    Some(match *step {
        Step::Acquire { who, key, reads, waits } => LockCommand::Acquire {
            key: key.to_string(),
            owner: person(who),
            mode: if reads { LockMode::Read } else { LockMode::Write },
            ttl: WAIT,
            wait: if waits { WAIT } else { Span::ZERO },
        },
        Step::Unlock { who, key } => {
            let (key, owner, hold) = held(who, key)?;
            LockCommand::Unlock { key, owner, token: hold.token }
        }
        Step::Extend { who, key } => {
            let (key, owner, hold) = held(who, key)?;
            LockCommand::Extend { key, owner, token: hold.token, ttl: WAIT }
        }
        Step::Expire { who, key } => {
            let (key, owner, LockHold { token, extensions, .. }) = held(who, key)?;
            LockCommand::Expire { key, owner, token, extensions }
        }
        Step::Cancel { who } => {
            let owner = person(who);
            let key = locks.owners.get(&owner)?.awaited.clone()?;
            let ticket = locks.ticket(&key, &owner)?;
            LockCommand::Cancel { key, owner, ticket }
        }
        Step::EndSession(_) => return None,
    })
}

/// Takes a step and returns what has happened.
fn take(locks: &mut Locks, step: &Step) -> (Option<Result<LockDone, LockRefusal>>, Vec<LockEvent>) {
    let mut events = Vec::new();
    let answer = match (step, command(locks, step)) {
        (Step::EndSession(session), _) => {
            locks.end_session(u64::from(*session), &mut events);
            None
        }
        (_, Some(command)) => Some(locks.apply(&command, 0, &mut events)),
        (_, None) => None,
    };
    (answer, events)
}

proptest! {
    #[test]
    fn after_any_history_locks_exclude_grow_and_lose_nobody(steps in steps()) {
        let mut locks = Locks::default();
        let mut last = 0;
        // Holds that each owner has to give back, and who waits, by what the answers and events say.
        let mut holds: BTreeMap<(String, LockOwner), u32> = BTreeMap::new();
        let mut waiting: BTreeSet<u64> = BTreeSet::new();
        for step in &steps {
            let (answer, events) = take(&mut locks, step);
            for event in &events {
                match event {
                    LockEvent::Granted { key, owner, token, ticket, .. } => {
                        prop_assert!(*token > last, "invariant 2");
                        last = *token;
                        if let Some(ticket) = ticket {
                            prop_assert!(waiting.remove(ticket), "granted once");
                        }
                        holds.insert((key.clone(), owner.clone()), 1);
                    }
                    LockEvent::Waiting { ticket, .. } => {
                        waiting.insert(*ticket);
                    }
                    LockEvent::Released { key, owner, .. } => {
                        prop_assert!(holds.remove(&(key.clone(), owner.clone())).is_some());
                    }
                    LockEvent::Cancelled { ticket, .. } | LockEvent::Aborted { ticket, .. } => {
                        prop_assert!(waiting.remove(ticket));
                    }
                }
            }
            match (answer, command(&locks, step)) {
                (Some(Ok(LockDone::Granted { holds: count, .. })),
                 Some(LockCommand::Acquire { key, owner, .. })) => {
                    holds.insert((key, owner), count);
                }
                (Some(Ok(LockDone::Released { holds: count })), _) if count > 0 => {
                    if let Step::Unlock { who, key } = step {
                        holds.insert((key.to_string(), person(*who)), count);
                    }
                }
                _ => {}
            }
            let mut there = BTreeSet::new();
            for (key, lock) in locks.all() {
                let writers = lock.holders.values().filter(|hold| hold.mode == LockMode::Write);
                prop_assert!(!lock.holders.is_empty(), "invariants 3 and 5");
                prop_assert!(writers.count() == 0 || lock.holders.len() == 1, "invariant 1");
                if let Some(first) = lock.queue.front() {
                    prop_assert!(lock.excludes(first.mode), "invariant 3");
                }
                for (owner, hold) in &lock.holders {
                    let counted = holds.get(&(key.clone(), owner.clone()));
                    prop_assert_eq!(counted, Some(&hold.holds), "invariant 5");
                    prop_assert!(locks.owners[owner].held.contains(key));
                }
                for waiter in &lock.queue {
                    there.insert(waiter.ticket);
                    prop_assert_eq!(locks.owners[&waiter.owner].awaited.as_ref(), Some(key));
                    prop_assert!(locks.cycle_through(&waiter.owner).is_none(), "invariant 4");
                }
            }
            prop_assert_eq!(&there, &waiting, "nobody who waits is lost");
            let held: usize = locks.all().values().map(|lock| lock.holders.len()).sum();
            prop_assert_eq!(held, holds.len());
            for standing in locks.owners.values() {
                prop_assert!(!standing.held.is_empty() || standing.awaited.is_some());
            }
        }
        let bytes = bincode::serde::encode_to_vec(&locks, bincode::config::standard()).unwrap();
        let (restored, _) =
            bincode::serde::decode_from_slice::<Locks, _>(&bytes, bincode::config::standard()).unwrap();
        prop_assert_eq!(restored, locks);
    }
}
