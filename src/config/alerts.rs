//! `[alerts]`: what an operator is to hear of, and how.

use super::settings::{Settings, Value};
use crate::alerts::AlertsConfig;
use crate::domain::Span;

/// `[alerts]`.
#[derive(Clone, Debug, PartialEq)]
pub struct AlertsSection {
    /// From when on what is an alert.
    pub rules: AlertsConfig,
    /// Between two looks at who is there and how trials go.
    pub look: Span,
    /// A program that is told of each; none: nobody is.
    pub command: Option<String>,
    /// How long it may take.
    pub command_patience: Span,
}

pub(super) fn section(s: &Settings) -> AlertsSection {
    let share = |percent: u64| u32::try_from(percent).map_or(1.0, |it| f64::from(it) / 100.0);
    let decline = s.amount(&["optimise", "result_quality_decline"]) as f64 / 1e9;
    AlertsSection {
        rules: AlertsConfig {
            offline: s.count_or_none(&["alerts", "node_offline_ms"]).map(Span::from_millis),
            failure_share: s.count_or_none(&["alerts", "failure_percent"]).map(share),
            failure_trials: u32::try_from(s.count(&["alerts", "failure_trials"]))
                .unwrap_or(u32::MAX),
            decline: s.switch(&["alerts", "quality_decline"]).then_some(decline),
            looks: usize::try_from(s.count(&["optimise", "looks"])).unwrap_or(usize::MAX),
            hold: s.span_ms(&["alerts", "hold_ms"]),
            clear_share: share(s.count(&["alerts", "clear_percent"])),
        },
        look: s.span_ms(&["alerts", "look_ms"]),
        command: s.find(&["alerts", "command"]).and_then(Value::text).map(str::to_owned),
        command_patience: s.span_ms(&["alerts", "command_ms"]),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use crate::domain::Span;

    #[test]
    fn what_is_written_is_what_alerts_go_by() {
        let usual = Config::default().alerts;
        assert_eq!(usual.rules.offline, Some(Span::from_secs(10)));
        assert_eq!((usual.rules.failure_share, usual.rules.decline), (Some(0.5), Some(0.2)));
        assert_eq!(usual.command, None);
        let text = "[alerts]\nnode_offline_ms = \"none\"\nfailure_percent = 5\nquality_decline = false\n\
                    clear_percent = 50\ncommand = \"/usr/local/bin/page\"\n";
        let alerts = Config::parse(text, "my.toml").unwrap().alerts;
        assert_eq!(alerts.rules.offline, None);
        assert_eq!((alerts.rules.failure_share, alerts.rules.decline), (Some(0.05), None));
        assert_eq!(alerts.rules.clear_share, 0.5);
        assert_eq!(alerts.command.as_deref(), Some("/usr/local/bin/page"));
    }
}
