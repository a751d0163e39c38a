//! Whether what a run has recorded before is missing in its database, as where everything was lost at once.
//!
//! A disk that knows a database notices when it is another one. Where that disk is lost too, nothing is known of any
//! database; but exec says when it goes on from something, and then rows of the run should be there.

use crate::kit::ResumedFrom;

/// What is known of that in this life.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// A database of which this disk knew nothing, and that had nothing of the run when it was opened.
    bare: Option<String>,
    /// What exec goes on from.
    source: Option<String>,
    /// Whether there is a checkpoint of this life: what exec goes back to may be that.
    has_checkpoint: bool,
    is_told: bool,
}

impl Past {
    /// The database at `place` had nothing of the run. Returns what is to be said, once.
    pub(super) fn on_bare(&mut self, place: String) -> Option<String> {
        self.bare = Some(place);
        self.tell()
    }

    /// Exec goes on from something. Returns what is to be said, once.
    pub(super) fn on_resumed(&mut self, from: ResumedFrom) -> Option<String> {
        self.source = Some(match from {
            ResumedFrom::Checkpoint if self.has_checkpoint => return None,
            ResumedFrom::Checkpoint => "a checkpoint".into(),
            ResumedFrom::Account(venue) => format!("what {venue} has"),
        });
        self.tell()
    }

    /// Exec has a checkpoint of this life.
    pub(super) const fn on_checkpoint(&mut self) {
        self.has_checkpoint = true;
    }

    fn tell(&mut self) -> Option<String> {
        let (place, source) = self.bare.as_ref().zip(self.source.as_ref())?;
        if std::mem::replace(&mut self.is_told, true) {
            return None;
        }
        Some(format!(
            "database {place} was begun with nothing of this run in it, while exec goes on from {source}: what was \
             recorded before is not in it; another node may have it (`tickwright ctl orders` names those with a \
             database), and else it comes back only by a run from the beginning over the same data, or by \
             `tickwright db copy` from a copy"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_goes_on_is_told_once_that_its_database_begins_with_nothing() {
        let mut past = Past::default();
        assert_eq!(past.on_bare("sqlite:r".into()), None, "it may be its beginning");
        let told = past.on_resumed(ResumedFrom::Checkpoint).unwrap();
        assert!(told.contains("sqlite:r") && told.contains("goes on from a checkpoint"), "{told}");
        assert_eq!(past.on_resumed(ResumedFrom::Checkpoint), None);
        let mut past = Past::default();
        assert_eq!(past.on_resumed(ResumedFrom::Checkpoint), None, "the database is away");
        past.on_checkpoint();
        assert!(past.on_bare("sqlite:r".into()).is_some(), "it has come");
    }

    #[test]
    fn what_goes_back_to_a_checkpoint_of_this_life_lacks_nothing() {
        let mut past = Past::default();
        assert_eq!(past.on_bare("sqlite:r".into()), None);
        past.on_checkpoint();
        assert_eq!(past.on_resumed(ResumedFrom::Checkpoint), None);
        // An account that had orders before any checkpoint is looked at when its turn comes.
        let told = past.on_resumed(ResumedFrom::Account("x/a".into())).unwrap();
        assert!(told.contains("goes on from what x/a has"), "{told}");
    }
}
