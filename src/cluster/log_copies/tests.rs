use proptest::prelude::*;

use super::*;

fn nodes(names: &[&str]) -> Vec<NodeId> {
    names.iter().map(|&name| name.into()).collect()
}

fn stretch(epoch: u64, start: u64) -> Stretch {
    Stretch { epoch, life: Incarnation(1), start }
}

fn log(stretches: &[(u64, u64)], first: u64, last: u64) -> LogState {
    let stretches = stretches.iter().map(|&(epoch, start)| stretch(epoch, start)).collect();
    LogState { lineage: Lineage { stretches }, keys: Some((first, last)) }
}

#[test]
fn a_record_is_stored_once_it_is_here_and_on_whoever_was_chosen() {
    let mut set = CopySet::new(1);
    assert_eq!(set.on_nodes(&nodes(&["b", "c"]), 3), nodes(&["b"]));
    set.on_local();
    assert_eq!(set.stored(), 0, "the copy does not have what was there before");
    set.on_kept(&"b".into(), 0);
    assert_eq!(set.stored(), 0);
    set.on_kept(&"b".into(), 2);
    assert_eq!(set.stored(), 1, "the second is not on the disk here");
    set.on_local();
    assert_eq!((set.stored(), set.whole().count()), (2, 1));
}

#[test]
fn a_replacement_counts_once_it_has_everything() {
    let mut set = CopySet::new(1);
    set.on_nodes(&nodes(&["b", "c"]), 3);
    set.on_kept(&"b".into(), 0);
    set.on_local();
    // b stays chosen although c is a better choice now.
    assert_eq!(set.on_nodes(&nodes(&["c", "b"]), 3), []);
    assert_eq!(set.on_nodes(&nodes(&["c"]), 3), nodes(&["c"]));
    assert_eq!((set.stored(), set.whole().count()), (0, 0));
    assert_eq!(set.obstacle(), Some("a node is being given what there is"));
    set.on_kept(&"c".into(), 1);
    assert_eq!((set.stored(), set.obstacle()), (1, None));
}

#[test]
fn as_many_as_there_are_will_do_but_only_among_most() {
    let mut set = CopySet::new(1);
    set.on_nodes(&[], 1);
    set.on_local();
    assert_eq!((set.stored(), set.whole().count()), (1, 0), "a cluster of one");
    set.on_nodes(&[], 2);
    set.on_local();
    assert_eq!((set.stored(), set.obstacle()), (1, Some("most members are out of reach")));
    set.on_nodes(&nodes(&["b"]), 3);
    set.on_refused(&"b".into());
    assert_eq!(set.stored(), 2, "b is there, and cannot");
    assert_eq!(set.on_nodes(&nodes(&["b"]), 3), []);
    set.forgive();
    assert_eq!(set.on_nodes(&nodes(&["b"]), 3), nodes(&["b"]));
}

#[test]
fn nothing_passes_once_there_is_a_later_owner() {
    let mut set = CopySet::new(0);
    set.on_nodes(&[], 1);
    set.on_local();
    assert_eq!(set.stored(), 1);
    set.on_fenced();
    set.on_local();
    assert_eq!(set.stored(), 1);
}

#[test]
fn logs_are_the_same_as_far_as_the_same_owners_wrote_them() {
    let own = log(&[(1, 0), (3, 50)], 10, 90);
    assert_eq!(own.differs_from(&LogState::default()), Some(10));
    assert_eq!(own.differs_from(&own), Some(90), "the last may have been written twice");
    assert_eq!(own.differs_from(&log(&[(1, 0)], 10, 40)), Some(40));
    assert_eq!(
        own.differs_from(&log(&[(1, 0)], 10, 70)),
        Some(50),
        "what 1 wrote is not owner 3's"
    );
    assert_eq!(own.differs_from(&log(&[(1, 0), (2, 30)], 10, 70)), Some(30));
    assert_eq!(own.differs_from(&log(&[(2, 0)], 10, 70)), Some(10));
    assert_eq!(own.differs_from(&log(&[(1, 0)], 2, 5)), Some(10), "the rest is trimmed here");
    assert_eq!(own.differs_from(&log(&[(1, 0), (3, 50)], 60, 90)), Some(10), "it begins too late");
    assert_eq!(LogState::default().differs_from(&own), None);
}

#[test]
fn of_two_logs_the_later_owners_is_taken_and_then_the_longer() {
    assert!(log(&[(1, 0), (2, 40)], 0, 50).rank() > log(&[(1, 0)], 0, 90).rank());
    assert!(log(&[(1, 0)], 0, 90).rank() > log(&[(1, 0)], 0, 50).rank());
    assert!(log(&[(1, 0)], 0, 0).rank() > LogState::default().rank());
}

#[test]
fn owners_of_whom_nothing_is_left_are_forgotten() {
    let mut lineage = log(&[(1, 0), (2, 40), (3, 70)], 0, 90).lineage;
    lineage.forget(39);
    assert_eq!(lineage.stretches.len(), 3);
    lineage.forget(40);
    assert_eq!(lineage.stretches, [stretch(2, 40), stretch(3, 70)]);
    lineage.cut(70);
    assert_eq!(lineage.stretches, [stretch(2, 40)]);
    lineage.begin(stretch(4, 30));
    assert_eq!(lineage.stretches, [stretch(4, 30)]);
    assert!(lineage.is_of(4, Incarnation(1)) && !lineage.is_of(4, Incarnation(2)));
}

/// A node's log as it is: who wrote each record.
#[derive(Clone, Debug, Default)]
struct Copy {
    records: BTreeMap<u64, (u64, u64)>,
    lineage: Lineage,
}

impl Copy {
    fn state(&self) -> LogState {
        let keys = self.records.keys().next().zip(self.records.keys().next_back());
        LogState { lineage: self.lineage.clone(), keys: keys.map(|(&first, &last)| (first, last)) }
    }

    /// Makes `to` the same, as far as `count` records go.
    fn give(&self, to: &mut Self, count: usize) -> bool {
        let Some(from) = self.state().differs_from(&to.state()) else { return true };
        to.records.split_off(&from);
        let oldest = self.records.keys().next().copied().unwrap_or(0);
        to.records = to.records.split_off(&oldest);
        let missing: Vec<_> = self.records.range(from..).map(|(&k, &v)| (k, v)).collect();
        // What is written anew is not away meanwhile.
        let given = &missing[..count.max(1).min(missing.len())];
        to.lineage = self.lineage.clone();
        to.lineage.cut(given.last().map_or(from, |(key, _)| key + 1));
        to.records.extend(given.iter().copied());
        given.len() == missing.len()
    }
}

proptest! {
    /// Whatever befalls them, an owner that finds a node that was chosen finds all that was stored.
    #[test]
    fn what_was_stored_is_in_the_log_of_every_later_owner(
        steps in prop::collection::vec((0..6u8, 0..3usize, 0..8usize), 1..120)
    ) {
        let mut copies: Vec<Copy> = vec![Copy::default(); 3];
        let (mut owner, mut epoch, mut next, mut count) = (0usize, 1u64, 1u64, 0u64);
        // Who has the whole of the owner's log besides it.
        let mut holder: Option<usize> = None;
        let mut seen: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        for (kind, node, size) in steps {
            match kind {
                // The owner writes records; what its holder gets is stored.
                0..=2 => {
                    for _ in 0..=size {
                        count += 1;
                        if !copies[owner].lineage.is_of(epoch, Incarnation(1)) {
                            let start = copies[owner].records.keys().next_back().copied();
                            let stretch = stretch(epoch, start.unwrap_or(0));
                            copies[owner].lineage.begin(stretch);
                        }
                        copies[owner].records.insert(next, (epoch, count));
                        next += 1;
                    }
                    if let Some(holder) = holder {
                        let own = copies[owner].clone();
                        if own.give(&mut copies[holder], size) {
                            seen = own.records.clone();
                        }
                    }
                }
                // Another node is chosen, and is given some of it, or all.
                3 if node != owner => {
                    let own = copies[owner].clone();
                    let is_whole = own.give(&mut copies[node], size * 4);
                    holder = is_whole.then_some(node);
                    if is_whole {
                        seen = own.records.clone();
                    }
                }
                // The owner is lost with its disk, and whoever has the best log goes on.
                4 if holder.is_some() => {
                    copies[owner] = Copy::default();
                    epoch += 1;
                    owner = (owner + 1 + node % 2) % 3;
                    let best = (0..3).max_by_key(|&node| copies[node].state().rank()).unwrap();
                    let best = copies[best].clone();
                    best.give(&mut copies[owner], usize::MAX);
                    for (key, record) in &seen {
                        prop_assert_eq!(copies[owner].records.get(key), Some(record));
                    }
                    next = copies[owner].records.keys().next_back().map_or(1, |last| last + 1);
                    holder = None;
                }
                // The owner's unit is given to another while it is away; it keeps what it has.
                5 if holder.is_some_and(|holder| node == holder) => {
                    let before = owner;
                    epoch += 1;
                    owner = node;
                    let away = std::mem::take(&mut copies[before]);
                    let best = (0..3).max_by_key(|&node| copies[node].state().rank()).unwrap();
                    let best = copies[best].clone();
                    best.give(&mut copies[owner], usize::MAX);
                    for (key, record) in &seen {
                        prop_assert_eq!(copies[owner].records.get(key), Some(record));
                    }
                    next = copies[owner].records.keys().next_back().map_or(1, |last| last + 1);
                    copies[before] = away;
                    holder = None;
                }
                _ => {}
            }
        }
    }
}
