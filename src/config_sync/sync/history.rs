//! Which values a key has had here.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{Dot, Held, Value};
use crate::config_sync::HybridTime;

/// Values that are kept of one key.
const VERSIONS_MAX: usize = 16;

/// Bytes of them.
const BYTES_MAX: usize = 64 << 10;

/// A value that a key had.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// What was read; none after a removal.
    pub value: Option<Value>,
    /// By which write.
    pub dot: Dot,
    /// When that was.
    pub stamp: HybridTime,
    /// Who wrote.
    pub author: String,
}

/// The key reads otherwise now: by `dot`, or, if nothing is read any more, by whichever removal is there.
pub(super) fn note(held: &mut Held, after: Option<(Value, Dot)>) {
    let removal = || held.entry.siblings.last_key_value().map(|(dot, _)| dot.clone());
    let (value, dot) = match after {
        Some((value, dot)) => (Some(value), dot),
        None => match removal() {
            Some(dot) => (None, dot),
            None => return,
        },
    };
    let Some(sibling) = held.entry.siblings.get(&dot) else { return };
    let version = Version { value, dot, stamp: sibling.stamp, author: sibling.author.clone() };
    held.history.push_back(version);
    let bytes = |history: &VecDeque<Version>| -> usize {
        history.iter().map(|version| version.value.as_ref().map_or(0, Value::bytes)).sum()
    };
    // The one before the last is what a rollback needs.
    while held.history.len() > 2
        && (held.history.len() > VERSIONS_MAX || bytes(&held.history) > BYTES_MAX)
    {
        held.history.pop_front();
    }
}
