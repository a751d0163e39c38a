//! What to do while whoever keeps the locks is away, and when it counts as back.

use serde::{Deserialize, Serialize};

/// Answers in a row after which it counts as back.
const ANSWERS_MIN: u32 = 2;

/// Who may have a lock while nobody keeps them for all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WhenAway {
    /// Nobody.
    Refuse,
    /// The owners of one node, among themselves.
    StaticOwnerOnly(String),
    /// Those of each node, among themselves: two nodes may have a lock at once.
    LocalOnly,
}

impl WhenAway {
    /// Whether `node` decides for itself meanwhile.
    pub fn is_decided_by(&self, node: &str) -> bool {
        match self {
            Self::Refuse => false,
            Self::StaticOwnerOnly(owner) => owner == node,
            Self::LocalOnly => true,
        }
    }
}

/// Whether whoever keeps the locks is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeeperHealth {
    /// Why it is away.
    trouble: Option<String>,
    /// Answers since then.
    answers: u32,
}

impl KeeperHealth {
    /// Why it is away; none, if it is there.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// It was not reached, or did not answer. Returns whether that is news.
    pub fn on_failed(&mut self, reason: &str) -> bool {
        self.answers = 0;
        self.trouble.replace(reason.to_owned()).is_none()
    }

    /// It has answered. Returns whether it is back by that.
    pub fn on_answered(&mut self) -> bool {
        if self.trouble.is_none() {
            return false;
        }
        self.answers += 1;
        if self.answers < ANSWERS_MIN {
            return false;
        }
        *self = Self::default();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_away_at_once_and_back_when_it_answers_again_and_again() {
        let mut health = KeeperHealth::default();
        assert!(!health.on_answered(), "it was not away");
        assert!(health.on_failed("no answer"));
        assert!(!health.on_failed("refused"), "no news");
        assert_eq!(health.trouble(), Some("refused"));
        assert!(!health.on_answered());
        assert!(!health.on_failed("refused"), "one answer is not enough");
        assert!(!health.on_answered());
        assert!(health.on_answered());
        assert_eq!(health.trouble(), None);
    }

    #[test]
    fn only_whom_the_configuration_names_decides_for_itself() {
        assert!(!WhenAway::Refuse.is_decided_by("a"));
        assert!(WhenAway::LocalOnly.is_decided_by("a"));
        let owner = WhenAway::StaticOwnerOnly("a".into());
        assert!(owner.is_decided_by("a") && !owner.is_decided_by("b"));
    }
}
