//! The configuration after any history.

mod joining;
mod pairwise;
mod syncing;

use super::*;
use crate::domain::{Incarnation, Timestamp};

fn replica(name: &str) -> Replica {
    Replica { node: name.into(), incarnation: Incarnation(1) }
}

fn dot(name: &str, counter: u64) -> Dot {
    Dot { replica: replica(name), counter }
}

/// A write of a whole number at a time.
fn sibling(value: i64, priority: u8, seconds: u64, rule: MergeRule) -> Sibling {
    Sibling {
        value: Some(Value::Integer(value)),
        priority,
        stamp: HybridTime { wall: Timestamp::from_nanos(seconds * 1_000_000_000), logical: 0 },
        author: "test".into(),
        rule,
    }
}

fn removal(seconds: u64, rule: MergeRule) -> Sibling {
    Sibling { value: None, ..sibling(0, 0, seconds, rule) }
}

/// An entry of writes that did not know of each other.
fn concurrent(siblings: &[(&str, Sibling)]) -> Entry {
    let mut all = Entry::default();
    for (name, sibling) in siblings {
        let mut one = Entry::default();
        one.write(dot(name, 1), sibling.clone(), &VersionVector::default());
        all.join(&one, &VersionVector::default());
    }
    all
}

fn value(entry: &Entry) -> Option<Value> {
    entry.read().map(|reading| reading.value)
}
