//! How the last trials of a node went, and the alerts of it.

use std::collections::VecDeque;

use tickwright_core::alerts::{AlertTime, Alerts, AlertsConfig};
use tickwright_core::domain::Timestamp;

use crate::kit::monotonic_nanos;

/// Alerts that are told.
const ALERTS_MAX: usize = 64;

/// The last trials.
#[derive(Debug)]
pub(super) struct Recent {
    node: String,
    /// How many are looked at.
    room: usize,
    /// Whether each has failed. At most `room`.
    failed: VecDeque<bool>,
    core: Alerts,
    /// At most [`ALERTS_MAX`].
    alerts: Vec<String>,
}

impl Recent {
    /// None so far.
    pub(super) fn new(node: &str, config: AlertsConfig) -> Self {
        Self {
            node: node.to_owned(),
            room: usize::try_from(config.failure_trials).unwrap_or(usize::MAX).max(1),
            failed: VecDeque::new(),
            core: Alerts::new(config),
            alerts: Vec::new(),
        }
    }

    /// Another trial has ended here, and has failed or not.
    pub(super) fn note(&mut self, has_failed: bool, wall: Timestamp) {
        if self.failed.len() >= self.room {
            self.failed.pop_front();
        }
        self.failed.push_back(has_failed);
        let (failed, trials) = self.counts();
        let at = AlertTime { now: Timestamp::from_nanos(monotonic_nanos()), wall };
        if let Some(alert) = self.core.on_trials(&self.node, failed, trials, at) {
            tracing::warn!(alert = alert.kind.name(), "{alert}");
            if self.alerts.len() < ALERTS_MAX {
                self.alerts.push(alert.to_string());
            }
        }
    }

    /// How many of the last trials have failed, and how many those are.
    pub(super) fn counts(&self) -> (u32, u32) {
        let count = |count| u32::try_from(count).unwrap_or(u32::MAX);
        (count(self.failed.iter().filter(|&&failed| failed).count()), count(self.failed.len()))
    }

    /// Alerts that were raised, or were over, in their order.
    pub(super) fn alerts(&self) -> &[String] {
        &self.alerts
    }
}
