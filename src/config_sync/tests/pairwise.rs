//! Why the rule as first imagined is no join: one vector for each value; a vector that dominates wins,
//! and else priority, time and node decide, pair by pair, with the vectors joined.

use super::*;

#[derive(Clone, Debug, PartialEq)]
struct Pairwise {
    vector: VersionVector,
    priority: u8,
    time: u64,
    node: &'static str,
}

fn write(
    node: &'static str,
    seen: &[(&str, u64)],
    counter: u64,
    (priority, time): (u8, u64),
) -> Pairwise {
    let seen: Vec<Dot> = seen.iter().map(|&(name, counter)| dot(name, counter)).collect();
    let mut vector: VersionVector = seen.iter().collect();
    vector.raise(&dot(node, counter));
    Pairwise { vector, priority, time, node }
}

/// Which of two stays; with `is_joined`, under the vector of both.
fn merge(one: &Pairwise, two: &Pairwise, is_joined: bool) -> Pairwise {
    if one.vector.dominates(&two.vector) {
        return one.clone();
    }
    if two.vector.dominates(&one.vector) {
        return two.clone();
    }
    let rank = |value: &Pairwise| (value.priority, value.time, value.node);
    let mut winner = if rank(one) > rank(two) { one.clone() } else { two.clone() };
    if is_joined {
        winner.vector.join(&one.vector);
        winner.vector.join(&two.vector);
    }
    winner
}

/// `a` is replaced by `b`, whose writer had seen it; `c` knew of neither. By priority `c` beats `b` and `a`
/// beats `c`.
fn circle() -> [Pairwise; 3] {
    let a = write("a", &[], 1, (9, 0));
    let b = write("b", &[("a", 1)], 1, (0, 1));
    let c = write("c", &[], 1, (5, 2));
    [a, b, c]
}

fn fold(order: [usize; 3], is_joined: bool) -> Pairwise {
    let values = circle();
    let first = merge(&values[order[0]], &values[order[1]], is_joined);
    merge(&first, &values[order[2]], is_joined)
}

#[test]
fn pairwise_rules_make_a_circle_so_the_order_of_hearing_decides() {
    for is_joined in [false, true] {
        let outcomes: Vec<&str> =
            [[0, 1, 2], [0, 2, 1], [1, 2, 0]].map(|order| fold(order, is_joined).node).to_vec();
        assert!(
            outcomes.iter().any(|outcome| *outcome != outcomes[0]),
            "joined vectors: {is_joined}, {outcomes:?}"
        );
    }
}

#[test]
fn joined_vectors_let_a_loser_come_back_over_a_later_write() {
    // Who has merged a and c holds a under a vector that covers c; whoever wrote d on c alone has seen
    // less, and loses by priority although nothing that a's writer saw came after it.
    let [a, _, c] = circle();
    let merged = merge(&a, &c, true);
    let d = write("c", &[("c", 1)], 2, (5, 3));
    assert_eq!(merge(&merged, &d, true).node, "a");
    // The same writes as dots: d replaces c and stands beside a, for everybody.
    let empty = VersionVector::default();
    let mut entry = concurrent(&[("a", sibling(1, 9, 0, MergeRule::Latest))]);
    let mut other = concurrent(&[("c", sibling(3, 5, 2, MergeRule::Latest))]);
    entry.join(&other, &empty);
    other.write(dot("c", 2), sibling(4, 5, 3, MergeRule::Latest), &empty);
    entry.join(&other, &empty);
    let dots: Vec<&Dot> = entry.siblings.keys().collect();
    assert_eq!(dots, [&dot("a", 1), &dot("c", 2)]);
}

#[test]
fn the_same_circle_as_dots_comes_out_alike_in_every_order() {
    let empty = VersionVector::default();
    let a = concurrent(&[("a", sibling(1, 9, 0, MergeRule::Latest))]);
    let mut b = a.clone();
    b.write(dot("b", 1), sibling(2, 0, 1, MergeRule::Latest), &empty);
    let c = concurrent(&[("c", sibling(3, 5, 2, MergeRule::Latest))]);
    for order in [[&a, &b, &c], [&a, &c, &b], [&b, &c, &a], [&c, &b, &a], [&b, &a, &c]] {
        let mut entry = Entry::default();
        for one in order {
            entry.join(one, &empty);
        }
        let dots: Vec<&Dot> = entry.siblings.keys().collect();
        assert_eq!(dots, [&dot("b", 1), &dot("c", 1)], "a was replaced and stays so");
        assert_eq!(value(&entry), Some(Value::Integer(3)), "of the two, c has the priority");
    }
}
