//! Entries: the laws of the join on what writes and joins can make, and the rules of reading.

use proptest::prelude::*;

use super::*;

const NODES: [&str; 4] = ["a", "b", "c", "d"];

const RULES: [MergeRule; 6] = [
    MergeRule::Latest,
    MergeRule::Max,
    MergeRule::Min,
    MergeRule::Sticky,
    MergeRule::Union,
    MergeRule::Mean,
];

/// What happens to one key on four nodes.
#[derive(Clone, Debug)]
enum Step {
    Write { at: usize, value: Option<i64>, priority: u8, seconds: u64, rule: usize },
    Join { to: usize, from: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let write = (0..4usize, proptest::option::of(0i64..4), 0u8..3, 0u64..5, 0..6usize);
    let write = write.prop_map(|(at, value, priority, seconds, rule)| Step::Write {
        at,
        value,
        priority,
        seconds,
        rule,
    });
    let join = (0..4usize, 0..4usize).prop_map(|(to, from)| Step::Join { to, from });
    prop_oneof![write, join]
}

/// Every entry that any node had at any time, and the dots that each write had seen.
fn reached(steps: &[Step]) -> (Vec<Entry>, Vec<(Dot, Vec<Dot>)>) {
    let empty = VersionVector::default();
    let mut nodes = vec![Entry::default(); 4];
    let mut counters = [0; 4];
    let (mut all, mut writes) = (vec![Entry::default()], Vec::new());
    for step in steps {
        match *step {
            Step::Write { at, value, priority, seconds, rule } => {
                counters[at] += 1;
                let dot = dot(NODES[at], counters[at]);
                writes.push((dot.clone(), nodes[at].siblings.keys().cloned().collect()));
                let sibling = Sibling {
                    value: value.map(Value::Integer),
                    ..sibling(0, priority, seconds, RULES[rule])
                };
                nodes[at].write(dot, sibling, &empty);
                all.push(nodes[at].clone());
            }
            Step::Join { to, from } => {
                let other = nodes[from].clone();
                nodes[to].join(&other, &empty);
                all.push(nodes[to].clone());
            }
        }
    }
    (all, writes)
}

fn joined(one: &Entry, two: &Entry) -> Entry {
    let mut entry = one.clone();
    let is_changed = entry.join(two, &VersionVector::default());
    let is_same = entry.siblings.keys().eq(one.siblings.keys());
    assert_eq!(is_changed, !is_same, "it says whether it has changed");
    entry
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Invariant 1.
    #[test]
    fn joining_is_associative_commutative_and_idempotent(
        steps in proptest::collection::vec(step(), 1..16),
    ) {
        let (all, _) = reached(&steps);
        for a in &all {
            prop_assert_eq!(&joined(a, a), a);
            for b in &all {
                let ab = joined(a, b);
                prop_assert_eq!(&ab, &joined(b, a));
                prop_assert_eq!(&joined(&ab, b), &ab);
                for c in &all {
                    prop_assert_eq!(joined(&ab, c), joined(a, &joined(b, c)));
                }
            }
        }
    }

    /// Invariants 2 to 4: what is left of all is what no other write had seen, and is read alike.
    #[test]
    fn what_stands_in_the_end_is_what_nobody_has_replaced(
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let (all, writes) = reached(&steps);
        let end = all.iter().fold(Entry::default(), |end, entry| joined(&end, entry));
        let back = all.iter().rev().fold(Entry::default(), |end, entry| joined(&end, entry));
        prop_assert_eq!(&end, &back);
        prop_assert_eq!(end.read(), back.read());
        for (dot, _) in &writes {
            let is_replaced = writes.iter().any(|(_, seen)| seen.contains(dot));
            prop_assert_eq!(!is_replaced, end.siblings.contains_key(dot), "{}", dot);
        }
        for name in NODES {
            let of = end.siblings.keys().filter(|dot| dot.replica.node == name.into());
            prop_assert!(of.count() <= 1);
        }
    }
}

#[test]
fn a_later_write_wins_with_a_clock_that_is_years_behind_and_no_priority() {
    let mut entry = concurrent(&[("a", sibling(1, 9, 1_000_000_000, MergeRule::Latest))]);
    entry.write(dot("b", 1), sibling(2, 0, 1, MergeRule::Latest), &VersionVector::default());
    assert_eq!(value(&entry), Some(Value::Integer(2)));
}

#[test]
fn concurrent_writes_are_read_by_priority_then_time_then_node() {
    let of = |one, two| value(&concurrent(&[("a", one), ("b", two)]));
    let latest = MergeRule::Latest;
    assert_eq!(
        of(sibling(1, 1, 1, latest), sibling(2, 0, 2, latest)),
        Some(Value::Integer(1)),
        "priority"
    );
    assert_eq!(
        of(sibling(1, 0, 2, latest), sibling(2, 0, 1, latest)),
        Some(Value::Integer(1)),
        "time"
    );
    assert_eq!(
        of(sibling(1, 0, 1, latest), sibling(2, 0, 1, latest)),
        Some(Value::Integer(2)),
        "node"
    );
    assert_eq!(of(sibling(1, 0, 1, latest), removal(2, latest)), None, "a removal is a write");
}

#[test]
fn every_rule_reads_concurrent_writes_in_its_way() {
    let of = |rule| {
        let siblings =
            [("a", sibling(3, 0, 3, rule)), ("b", sibling(1, 0, 1, rule)), ("c", removal(5, rule))];
        value(&concurrent(&siblings))
    };
    assert_eq!(of(MergeRule::Latest), None);
    assert_eq!(of(MergeRule::Max), Some(Value::Integer(3)));
    assert_eq!(of(MergeRule::Min), Some(Value::Integer(1)));
    assert_eq!(of(MergeRule::Sticky), Some(Value::Integer(1)), "the earliest stays");
    assert_eq!(of(MergeRule::Union), Some(Value::List(vec![Value::Integer(1), Value::Integer(3)])));
    assert_eq!(of(MergeRule::Mean), Some(Value::Float(2.0)));
}

#[test]
fn a_mean_is_of_the_writes_and_not_of_means() {
    let siblings = [
        ("a", sibling(0, 0, 1, MergeRule::Mean)),
        ("b", sibling(0, 0, 1, MergeRule::Mean)),
        ("c", sibling(9, 0, 1, MergeRule::Mean)),
    ];
    let [a, b, c] = siblings.map(|one| concurrent(&[one]));
    for order in [[&a, &b, &c], [&c, &b, &a], [&b, &c, &a]] {
        let mut entry = Entry::default();
        for one in order {
            entry.join(one, &VersionVector::default());
            assert!(entry.read().is_some());
        }
        assert_eq!(value(&entry), Some(Value::Float(3.0)));
    }
}

#[test]
fn what_was_seen_once_does_not_come_back_into_an_entry_that_has_forgotten_it() {
    let old = concurrent(&[("a", sibling(1, 0, 1, MergeRule::Latest))]);
    let seen: VersionVector = [dot("a", 1)].iter().collect();
    let mut entry = Entry::default();
    assert!(!entry.join(&old, &seen));
    assert_eq!(value(&entry), None);
    let mut entry = Entry::default();
    assert!(entry.join(&old, &VersionVector::default()), "to one who has not seen it, it is new");
}

#[test]
fn numbers_are_ordered_by_size_whatever_they_are() {
    let order = |one: Value, two: Value| one.order(&two);
    assert!(order(Value::Integer(1), Value::Float(1.5)).is_lt());
    assert!(order(Value::Float(2.5), Value::Integer(2)).is_gt());
    assert!(order(Value::Integer(2), Value::Float(2.0)).is_lt(), "but never equal to another kind");
    assert!(order(Value::Bool(true), Value::Integer(0)).is_lt());
    let list = |values: &[i64]| Value::List(values.iter().copied().map(Value::Integer).collect());
    assert!(order(list(&[1]), list(&[1, 0])).is_lt());
    assert!(!Value::Float(f64::NAN).is_sound());
    assert!(!Value::List(vec![list(&[1])]).is_sound());
}
