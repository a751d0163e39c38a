//! What a key may hold, and how several concurrent values are read as one.

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A value. It means nothing here; the configuration says what it is for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// True or false.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A finite number.
    Float(f64),
    /// Text.
    Text(String),
    /// Several, none of them a list.
    List(Vec<Value>),
}

impl Value {
    /// What kind it is, as users read it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Bool(_) => "true or false",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
        }
    }

    /// Bytes it takes, about.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Bool(_) => 1,
            Self::Integer(_) | Self::Float(_) => 8,
            Self::Text(text) => text.len(),
            Self::List(values) => values.iter().map(|value| 8 + value.bytes()).sum(),
        }
    }

    /// Whether it may be stored: no number that is none, and no list in a list.
    pub fn is_sound(&self) -> bool {
        match self {
            Self::Float(number) => number.is_finite(),
            Self::List(values) => {
                values.iter().all(|value| !matches!(value, Self::List(_)) && value.is_sound())
            }
            Self::Bool(_) | Self::Integer(_) | Self::Text(_) => true,
        }
    }

    /// As a number, if it is one.
    #[expect(clippy::cast_precision_loss, reason = "a mean is a float in any case")]
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Integer(number) => Some(*number as f64),
            Self::Float(number) => Some(*number),
            Self::Bool(_) | Self::Text(_) | Self::List(_) => None,
        }
    }

    /// One order of all values: numbers by size, everything else by kind, then content.
    pub fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Bool(one), Self::Bool(two)) => one.cmp(two),
            (Self::Integer(one), Self::Integer(two)) => one.cmp(two),
            (Self::Text(one), Self::Text(two)) => one.cmp(two),
            (Self::List(one), Self::List(two)) => {
                let pairs = one.iter().zip(two).map(|(one, two)| one.order(two));
                let first = pairs.into_iter().find(|order| order.is_ne());
                first.unwrap_or_else(|| one.len().cmp(&two.len()))
            }
            _ => match (self.number(), other.number()) {
                // A whole number and the same one as a float are told apart all the same.
                (Some(one), Some(two)) => one.total_cmp(&two).then(self.rank().cmp(&other.rank())),
                _ => self.rank().cmp(&other.rank()),
            },
        }
    }

    const fn rank(&self) -> u8 {
        match self {
            Self::Bool(_) => 0,
            Self::Integer(_) => 1,
            Self::Float(_) => 2,
            Self::Text(_) => 3,
            Self::List(_) => 4,
        }
    }
}

/// For people.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Integer(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value:?}"),
            Self::Text(value) => write!(f, "{value:?}"),
            Self::List(values) => {
                f.write_str("[")?;
                for (at, value) in values.iter().enumerate() {
                    f.write_str(if at == 0 { "" } else { ", " })?;
                    write!(f, "{value}")?;
                }
                f.write_str("]")
            }
        }
    }
}

/// How concurrent values of one key are read as one. Only writes that did not know of each other are
/// concurrent; whatever the rule, a write replaces all that its writer had seen.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum MergeRule {
    /// Of the highest priority the latest, by clock; of several at the same time that of the last node
    /// by name. A removal counts like any other write.
    #[default]
    Latest,
    /// The greatest; a value beats a removal.
    Max,
    /// The least; a value beats a removal.
    Min,
    /// Of the highest priority the earliest: what is set stays. A value beats a removal.
    Sticky,
    /// Everything that any of them lists, sorted; a value beats a removal.
    Union,
    /// The mean of the numbers. It is worked out for each reading and never stored: a mean of means is
    /// another number.
    Mean,
}

impl MergeRule {
    /// As users write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Latest => "latest",
            Self::Max => "max",
            Self::Min => "min",
            Self::Sticky => "sticky",
            Self::Union => "union",
            Self::Mean => "mean",
        }
    }

    /// The rule of that name.
    pub fn named(name: &str) -> Option<Self> {
        let all = [Self::Latest, Self::Max, Self::Min, Self::Sticky, Self::Union, Self::Mean];
        all.into_iter().find(|rule| rule.name() == name)
    }
}
