//! The units, and an allocation that is written down.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::domain::NodeId;

/// A part of the pipeline that runs whole on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Unit {
    /// Ingester and cleaner of one source.
    Source(u16),
    /// Factor engine and strategies of one shard.
    Shard(u16),
    /// Risk, router, brokers and positions.
    Exec,
}

impl Unit {
    /// Every unit of a pipeline, in the order of the data.
    pub fn all(sources: usize, shards: usize) -> impl Iterator<Item = Self> {
        let number = |count: usize| 0..u16::try_from(count).unwrap_or(u16::MAX);
        let (sources, shards) = (number(sources), number(shards));
        sources.map(Self::Source).chain(shards.map(Self::Shard)).chain([Self::Exec])
    }

    /// What a node must be there for to have the unit in the first place.
    pub const fn duty(self) -> &'static str {
        match self {
            Self::Source(_) => "data",
            Self::Shard(_) => "calc",
            Self::Exec => "exec",
        }
    }

    /// The unit that `text` names, as [`Display`](fmt::Display) writes it.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once('/') {
            Some(("source", number)) => Some(Self::Source(number.parse().ok()?)),
            Some(("shard", number)) => Some(Self::Shard(number.parse().ok()?)),
            None if text == "exec" => Some(Self::Exec),
            Some(_) | None => None,
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(number) => write!(f, "source/{number}"),
            Self::Shard(number) => write!(f, "shard/{number}"),
            Self::Exec => f.write_str("exec"),
        }
    }
}

/// Which node has each unit, and since which epoch.
pub type Owners = BTreeMap<Unit, (NodeId, u64)>;

/// One line of a fixed allocation: some units, and the node that has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    units: Units,
    /// Who has them.
    pub node: NodeId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Units {
    Sources,
    Shards,
    One(Unit),
}

impl Assignment {
    /// Reads `shard/3=calc-1`, `source/*=data-1` or `exec=exec-1`.
    pub fn parse(text: &str) -> Option<Self> {
        let (units, node) = text.split_once('=')?;
        let units = match units.trim() {
            "source/*" => Units::Sources,
            "shard/*" => Units::Shards,
            unit => Units::One(Unit::parse(unit)?),
        };
        let node = node.trim();
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let is_node = !node.is_empty() && node.len() <= 64 && node.bytes().all(is_name);
        is_node.then(|| Self { units, node: NodeId(node.to_owned()) })
    }

    /// How closely the line names `unit`; none, if it does not.
    fn closeness(&self, unit: Unit) -> Option<u8> {
        match (self.units, unit) {
            (Units::One(named), _) if named == unit => Some(1),
            (Units::Sources, Unit::Source(_)) | (Units::Shards, Unit::Shard(_)) => Some(0),
            _ => None,
        }
    }
}

/// Every unit with its node, as `assignments` say: a line for one unit goes before a line for all of
/// its kind, and a later line before an earlier one.
///
/// # Errors
///
/// The units that no line names.
pub fn fixed(
    assignments: &[Assignment],
    units: impl Iterator<Item = Unit>,
) -> Result<BTreeMap<Unit, NodeId>, Vec<Unit>> {
    let mut owners = BTreeMap::new();
    let mut missing = Vec::new();
    for unit in units {
        let lines = assignments.iter().filter_map(|line| Some((line.closeness(unit)?, line)));
        match lines.max_by_key(|&(closeness, _)| closeness) {
            Some((_, line)) => drop(owners.insert(unit, line.node.clone())),
            None => missing.push(unit),
        }
    }
    if missing.is_empty() { Ok(owners) } else { Err(missing) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(texts: &[&str]) -> Vec<Assignment> {
        texts.iter().map(|text| Assignment::parse(text).unwrap()).collect()
    }

    #[test]
    fn a_unit_reads_as_it_writes() {
        for unit in Unit::all(2, 3) {
            assert_eq!(Unit::parse(&unit.to_string()), Some(unit));
        }
        for wrong in ["", "shard", "shard/", "shard/x", "shard/70000", "exec/0", "broker/1"] {
            assert_eq!(Unit::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_line_for_one_unit_goes_before_a_line_for_all() {
        let lines = lines(&["shard/1=b", "shard/*=a", "source/*=d", "exec = e"]);
        let owners = fixed(&lines, Unit::all(1, 3)).unwrap();
        let names: Vec<&str> = owners.values().map(|node| node.0.as_str()).collect();
        assert_eq!(names, ["d", "a", "b", "a", "e"]);
    }

    #[test]
    fn the_last_of_two_equal_lines_holds_and_what_nobody_has_is_told() {
        let lines = lines(&["shard/*=a", "shard/*=b"]);
        let missing = fixed(&lines, Unit::all(1, 2)).unwrap_err();
        assert_eq!(missing, [Unit::Source(0), Unit::Exec]);
        let owners = fixed(&lines, [Unit::Shard(0)].into_iter()).unwrap();
        assert_eq!(owners[&Unit::Shard(0)].0, "b");
    }

    #[test]
    fn a_line_names_units_and_a_node() {
        for wrong in ["", "exec", "exec=", "all=a", "shard/*=a b", "shard/-1=a"] {
            assert_eq!(Assignment::parse(wrong), None, "{wrong}");
        }
    }
}
