//! The tuner of a pipeline in one process: settings are changed directly.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use super::Wiring;
use super::risk_tool::measured;
use crate::kit::{ChildSpec, LiveValues};
use crate::tuner::{self, Asked, Measure, Settings, TunerArguments};

/// The settings of this process.
struct Own {
    live: LiveValues,
    /// Outlives the actor, and nothing else need.
    unfinished: Mutex<Vec<(String, i64)>>,
    /// As well.
    decided: Mutex<Vec<Value>>,
}

impl Settings for Own {
    fn values(&self) -> Vec<(String, i64)> {
        tuner::standing(&self.live)
    }

    // There is one process, and what is set is set for it.
    fn particular(&self) -> BTreeSet<String> {
        BTreeSet::new()
    }

    fn unfinished(&self) -> Asked<Result<Vec<(String, i64)>, String>> {
        let unfinished = self.unfinished.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Box::pin(async { Ok(unfinished) })
    }

    fn decided(&self) -> Asked<Result<Vec<Value>, String>> {
        let decided = self.decided.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Box::pin(async { Ok(decided) })
    }

    fn keep_decided(&self, decisions: Vec<Value>) -> Asked<Result<(), String>> {
        *self.decided.lock().unwrap_or_else(PoisonError::into_inner) = decisions;
        Box::pin(async { Ok(()) })
    }

    fn decides(&self) -> bool {
        true
    }

    fn set(
        &self,
        values: Vec<(String, i64)>,
        unfinished: Vec<(String, i64)>,
    ) -> Asked<Result<(), String>> {
        *self.unfinished.lock().unwrap_or_else(PoisonError::into_inner) = unfinished;
        for (key, value) in values {
            self.live.set(&key, u64::try_from(value).ok());
        }
        Box::pin(async { Ok(()) })
    }
}

impl Wiring {
    /// Tunes this process, if that is wanted. Nodes of a cluster are tuned together.
    pub(super) fn tuner(&self) -> Option<ChildSpec> {
        let section = &self.config.tuner;
        if !section.is_enabled {
            return None;
        }
        let directory = self.directory.clone();
        let measure: Measure = Arc::new(move || {
            let directory = directory.clone();
            Box::pin(async move { measured(&directory).await.ok() })
        });
        let (unfinished, decided) = (Mutex::default(), Mutex::default());
        let settings = Own { live: self.settings.live.clone(), unfinished, decided };
        Some(tuner::child(TunerArguments {
            section: section.clone(),
            measure,
            settings: Arc::new(settings),
            directory: self.directory.clone(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "pipeline.batch_ticks";

    #[tokio::test]
    async fn what_is_set_counts_at_once_and_what_was_before_is_kept_until_it_is_decided() {
        let live = LiveValues::default();
        let mut number = live.number(KEY, "ingester/0");
        let own = Own { live, unfinished: Mutex::default(), decided: Mutex::default() };
        assert!(own.decides(), "nobody else does");
        let before = vec![(KEY.to_owned(), 256)];
        assert!(own.values().contains(&before[0]), "{:?}", own.values());
        own.set(vec![(KEY.to_owned(), 16)], before.clone()).await.unwrap();
        assert_eq!(number.get(), 16);
        assert!(own.values().contains(&(KEY.to_owned(), 16)), "{:?}", own.values());
        assert_eq!(own.unfinished().await, Ok(before));
        // It stays as it is: nothing is being tried any more.
        own.set(Vec::new(), Vec::new()).await.unwrap();
        assert_eq!(own.unfinished().await, Ok(Vec::new()));
        assert_eq!(number.get(), 16);
    }
}
