//! What every stage of the pipeline is started with.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use serde::{Deserialize, Serialize};
use tickwright_core::domain::Key;

use super::{Chaos, Checkpoints, Outlet, Store, StoreError, Stored};

/// Settings and services that all stages share.
#[derive(Clone, Debug)]
pub struct StageSettings {
    /// Rows that may be on the way between two stages.
    pub credit: u32,
    /// Rows a stage keeps after they were sent, so that a consumer can come back for them.
    pub retained: usize,
    /// Rows between two checkpoints.
    pub spacing: u64,
    /// Rows that travel together.
    pub batch_ticks: usize,
    /// Where checkpoints go.
    pub store: Store,
    /// Faults on command.
    pub chaos: Chaos,
}

impl StageSettings {
    /// The checkpoints of the stage called `name`. They come closer than the faults that are ordered,
    /// or a stage that panics every thousand rows would never get on.
    ///
    /// # Errors
    ///
    /// [`StoreError::Record`].
    pub fn checkpoints(
        &self,
        name: &str,
        progress: &Arc<AtomicU64>,
        stored: Outlet<Stored>,
    ) -> Result<Checkpoints, StoreError> {
        let spacing = match self.chaos.spacing_of_any() {
            Some(every) => self.spacing.min((every / 2).max(1)),
            None => self.spacing,
        };
        Checkpoints::open(&self.store, name, spacing, Arc::clone(progress), stored)
    }
}

/// How far a stage has come and what it has counted, for whoever asks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StageReport<T> {
    /// Everything up to here is done.
    pub complete: Key,
    /// The counts.
    pub counts: T,
}
