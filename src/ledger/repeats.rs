//! Which commands were carried out, so that one that comes again is not.
//!
//! How long back that is remembered has a bound, and a command says since when it may have been under
//! way ([`OperationId::since`]): if that is from before what is remembered, it is refused. So a command
//! is never carried out twice, however late it comes, with memory for a fixed number of them.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::{Answer, OperationId, Refusal};

/// Commands that are remembered.
pub(super) const REPEATS_MAX: usize = 16_384;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Repeats {
    /// Oldest first; at most [`REPEATS_MAX`].
    order: VecDeque<(u64, u64)>,
    /// By client and number.
    answers: BTreeMap<(u64, u64), (u64, Answer)>,
    /// The revision of the last one that was forgotten.
    forgotten: u64,
}

impl Repeats {
    /// What the command was answered; or that this cannot be known.
    pub(super) fn find(&self, id: &OperationId) -> Option<Answer> {
        if let Some((_, answer)) = self.answers.get(&(id.client, id.number)) {
            return Some(answer.clone());
        }
        (id.since < self.forgotten).then_some(Err(Refusal::TooOld))
    }

    pub(super) fn remember(&mut self, id: &OperationId, revision: u64, answer: &Answer) {
        let key = (id.client, id.number);
        self.answers.insert(key, (revision, answer.clone()));
        self.order.push_back(key);
        if self.order.len() > REPEATS_MAX
            && let Some(oldest) = self.order.pop_front()
            && let Some((revision, _)) = self.answers.remove(&oldest)
        {
            self.forgotten = revision;
        }
    }
}
