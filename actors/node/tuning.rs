//! The tuner of a pipeline in one process: settings are changed directly.

use std::sync::{Arc, Mutex, PoisonError};

use super::Wiring;
use super::risk_tool::measured;
use crate::kit::{ChildSpec, LiveValues};
use crate::tuner::{self, Asked, Measure, Settings, TunerArguments};

/// The settings of this process.
struct Own {
    live: LiveValues,
    /// Outlives the actor, and nothing else need.
    unfinished: Mutex<Vec<(String, i64)>>,
}

impl Settings for Own {
    fn values(&self) -> Vec<(String, i64)> {
        tuner::standing(&self.live)
    }

    fn unfinished(&self) -> Asked<Result<Vec<(String, i64)>, String>> {
        let unfinished = self.unfinished.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Box::pin(async { Ok(unfinished) })
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
        let settings = Own { live: self.settings.live.clone(), unfinished: Mutex::default() };
        Some(tuner::child(TunerArguments {
            section: section.clone(),
            measure,
            settings: Arc::new(settings),
            directory: self.directory.clone(),
        }))
    }
}
