//! What is an alert, as it stands in the shared configuration just now.

use tickwright_core::alerts::AlertsConfig;
use tickwright_core::domain::Span;

use super::ROLE;
use crate::kit::{LiveNumber, LiveValues};

/// The limits that may change while nodes run. Where "none" is one, 0 stands for it.
#[derive(Debug)]
pub(super) struct LiveRules {
    offline: LiveNumber,
    failure_percent: LiveNumber,
    failure_trials: LiveNumber,
    hold: LiveNumber,
    clear_percent: LiveNumber,
}

impl LiveRules {
    pub(super) fn new(live: &LiveValues) -> Self {
        let number = |key| live.number(key, ROLE);
        Self {
            offline: number("alerts.node_offline_ms"),
            failure_percent: number("alerts.failure_percent"),
            failure_trials: number("alerts.failure_trials"),
            hold: number("alerts.hold_ms"),
            clear_percent: number("alerts.clear_percent"),
        }
    }

    /// Those, and of `others` what is no such limit.
    pub(super) fn with(&mut self, others: &AlertsConfig) -> AlertsConfig {
        let share = |percent: u64| u32::try_from(percent).map_or(1.0, |it| f64::from(it) / 100.0);
        let limit = |value: u64| (value > 0).then_some(value);
        AlertsConfig {
            offline: limit(self.offline.get()).map(Span::from_millis),
            failure_share: limit(self.failure_percent.get()).map(share),
            failure_trials: u32::try_from(self.failure_trials.get()).unwrap_or(u32::MAX),
            hold: Span::from_millis(self.hold.get()),
            clear_share: share(self.clear_percent.get()),
            ..others.clone()
        }
    }
}
