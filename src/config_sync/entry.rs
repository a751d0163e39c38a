//! One key: its concurrent values, and everything they have replaced.
//!
//! Dotted version vectors (Preguiça, Baquero, Almeida, Fonte, Gonçalves: "Dotted Version Vectors:
//! Logical Clocks for Optimistic Replication", 2010). An entry is the pair (context, siblings): every
//! write that the context covers and that is not among the siblings has been replaced.
//!
//! Why not the simpler rule, one vector for each value, compared pairwise and else by priority, time and
//! node: it is no join. `tests/pairwise.rs` holds three values of which each beats the next, so what
//! is left depends on who was heard first; and nodes that have heard everything differ for ever.
//!
//! # Invariants
//!
//! 1. Joining is associative, commutative and idempotent on entries that writes and joins have made.
//! 2. A write replaces exactly what its writer had seen, whatever any clock says.
//! 3. What is read depends on the siblings alone, so two nodes with the same siblings read the same.
//! 4. A replica has at most one sibling of a key: its next write covers its last.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Dot, HybridTime, MergeRule, Value, VersionVector};

/// One write of a key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sibling {
    /// What was written; none for a removal.
    pub value: Option<Value>,
    /// Higher ones win among concurrent writes.
    pub priority: u8,
    /// When, by the writer's clock.
    pub stamp: HybridTime,
    /// Who, as a person or program calls itself.
    pub author: String,
    /// How the key is to be read.
    pub rule: MergeRule,
}

/// A key's writes that nothing has replaced, and what they have replaced.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Every write of the key that was seen, and others.
    pub context: VersionVector,
    /// Those that still stand. More than one were written without knowing of each other.
    pub siblings: BTreeMap<Dot, Sibling>,
}

/// What a key holds, as read from its siblings.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading<'e> {
    /// The value.
    pub value: Value,
    /// The write that decides; for a union or a mean, the one that says that it is one.
    pub dot: &'e Dot,
    /// That write.
    pub sibling: &'e Sibling,
}

impl Entry {
    /// Writes: `dot` replaces all siblings, and its context is `seen` besides.
    pub fn write(&mut self, dot: Dot, sibling: Sibling, seen: &VersionVector) {
        self.context.join(seen);
        self.context.raise(&dot);
        self.siblings.clear();
        self.siblings.insert(dot, sibling);
    }

    /// Takes `other` in; says whether any sibling came or went. `seen` are writes, of any key, that this
    /// node has taken in: one of them that is not here has been replaced, even if nothing here says so
    /// any more.
    pub fn join(&mut self, other: &Self, seen: &VersionVector) -> bool {
        let Self { context, siblings } = self;
        let before = siblings.len();
        siblings.retain(|dot, _| other.siblings.contains_key(dot) || !other.context.covers(dot));
        let mut is_changed = siblings.len() != before;
        for (dot, sibling) in &other.siblings {
            if !siblings.contains_key(dot) && !context.covers(dot) && !seen.covers(dot) {
                siblings.insert(dot.clone(), sibling.clone());
                is_changed = true;
            }
        }
        context.join(&other.context);
        is_changed
    }

    /// Whether everything that stands is a removal.
    pub fn is_removed(&self) -> bool {
        self.siblings.values().all(|sibling| sibling.value.is_none())
    }

    /// What is read; none if nothing was ever written, or it was removed.
    pub fn read(&self) -> Option<Reading<'_>> {
        let latest = self.siblings.iter().max_by_key(|&(dot, sibling)| order(dot, sibling));
        let (latest_dot, latest) = latest?;
        // Siblings that name different rules are read by that of the latest: one for all readers.
        let reading =
            |(dot, sibling, value): (_, _, &Value)| Reading { value: value.clone(), dot, sibling };
        let values = || {
            let valued =
                |(dot, sibling)| Self::value_of(sibling).map(|value| (dot, sibling, value));
            self.siblings.iter().filter_map(valued)
        };
        match latest.rule {
            MergeRule::Latest => {
                latest.value.as_ref().map(|value| reading((latest_dot, latest, value)))
            }
            MergeRule::Max => {
                values().max_by(|a, b| a.2.order(b.2).then(a.0.cmp(b.0))).map(reading)
            }
            MergeRule::Min => {
                values().min_by(|a, b| a.2.order(b.2).then(a.0.cmp(b.0))).map(reading)
            }
            MergeRule::Sticky => {
                let key = |&(dot, sibling, _): &(&Dot, &Sibling, &Value)| {
                    (u8::MAX - sibling.priority, sibling.stamp, dot.clone())
                };
                values().min_by_key(key).map(reading)
            }
            MergeRule::Union => {
                let mut all: Vec<Value> = Vec::new();
                for (_, _, value) in values() {
                    match value {
                        Value::List(values) => all.extend(values.iter().cloned()),
                        Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Text(_) => {
                            all.push(value.clone())
                        }
                    }
                }
                all.sort_by(Value::order);
                all.dedup_by(|a, b| a.order(b).is_eq());
                let is_any = values().next().is_some();
                is_any.then_some(Reading {
                    value: Value::List(all),
                    dot: latest_dot,
                    sibling: latest,
                })
            }
            MergeRule::Mean => {
                // In the order of their dots, so that every node rounds alike.
                let (mut mean, mut count) = (0.0, 0.0);
                for number in values().filter_map(|(_, _, value)| value.number()) {
                    count += 1.0;
                    mean += number / count - mean / count;
                }
                let value = Value::Float(mean);
                (count > 0.0).then_some(Reading { value, dot: latest_dot, sibling: latest })
            }
        }
    }

    fn value_of(sibling: &Sibling) -> Option<&Value> {
        sibling.value.as_ref()
    }
}

/// Of concurrent writes the last by this counts as the latest: (priority, time, node).
pub(super) fn order<'d>(dot: &'d Dot, sibling: &Sibling) -> (u8, HybridTime, &'d Dot) {
    (sibling.priority, sibling.stamp, dot)
}
