//! `[router]`, `[broker]` and `[matching]` as what router and paper brokers are made from.

use super::{ByClass, parts};
use crate::config::Config;
use crate::config::schema::{BROKERS, order_range};
use crate::config::settings::Value;
use crate::domain::{BrokerId, Class, Span};
use crate::pipeline::positions::PositionsConfig;
use crate::pipeline::router::{ReturnToPrimary, RouterConfig};
use crate::pipeline::venue::{Faults, MatchingRules, PaperBrokerConfig};

impl Config {
    /// How the router judges brokers.
    pub fn router(&self) -> RouterConfig {
        let s = &self.settings;
        let after = s.count_or_none(&["router", "return_to_primary_ms"]);
        RouterConfig {
            failover_threshold: parts(count(s.count(&["router", "failover_threshold"])), 1),
            return_to_primary: after.map_or(ReturnToPrimary::Never, |after| {
                ReturnToPrimary::After(Span::from_millis(after))
            }),
            attempts_max: u8::try_from(s.count(&["router", "attempts_max"])).unwrap_or(u8::MAX),
            has_backup: s.switch(&["router", "has_backup"]),
        }
    }

    /// How a paper broker behaves: the primary is 0, the backup 1.
    pub fn paper_broker(&self, broker: BrokerId) -> PaperBrokerConfig {
        let s = &self.settings;
        let name = BROKERS[usize::from(broker.0).min(BROKERS.len() - 1)];
        let number = |key: &str| s.count(&["broker", name, key]);
        let per_million = |key: &str| u32::try_from(number(key)).unwrap_or(u32::MAX);
        let outage = s.find(&["broker", name, "outage_orders"]).and_then(Value::text);
        PaperBrokerConfig {
            latency_us: number("latency_us"),
            latency_jitter_us: number("latency_jitter_us"),
            // A basis point is 1e-4.
            fee_rate_nanos: s.amount(&["broker", name, "fee_bps"]) / 10_000,
            slippage_nanos: s.amount(&["broker", name, "slippage_bps"]) / 10_000,
            rules: Class::ALL.map(|class| self.matching(class)),
            faults: Faults {
                refuse_per_million: per_million("refuse_per_million"),
                disconnect_per_million: per_million("disconnect_per_million"),
                timeout_per_million: per_million("timeout_per_million"),
                resolve_after_us: number("resolve_after_us"),
                outage: outage.and_then(|range| order_range(range).ok()),
            },
        }
    }

    /// How much is kept for the report.
    pub fn positions(&self) -> PositionsConfig {
        let number = |key: &str| {
            usize::try_from(self.settings.count(&["telemetry", key])).unwrap_or(usize::MAX)
        };
        PositionsConfig {
            curve_points_max: number("curve_points_max"),
            charts_max: number("charts_max"),
            chart_points_max: number("chart_points_max"),
        }
    }

    /// How a paper broker matches where the source of a class does not say enough.
    fn matching(&self, class: Class) -> MatchingRules {
        let at = ByClass::new(&self.settings, "matching", class);
        let lots = at.value("lots_when_size_missing").count();
        MatchingRules {
            lots_when_size_missing: lots.and_then(|lots| u32::try_from(lots).ok()),
            next_trade_within_us: at.count("next_trade_within_us"),
        }
    }
}

/// A number that the table of keys holds to 63 bits.
fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::router::{BACKUP, PRIMARY};

    #[test]
    fn the_defaults_are_those_of_the_cores() {
        let config = Config::default();
        assert_eq!(config.router(), RouterConfig::default());
        assert_eq!(config.positions(), PositionsConfig::default());
        assert_eq!(config.paper_broker(PRIMARY), PaperBrokerConfig::default());
        assert_eq!(config.paper_broker(BACKUP), PaperBrokerConfig::default());
    }

    #[test]
    fn each_broker_has_its_own_fees_and_faults() {
        let text = "[router]\nreturn_to_primary_ms = 1500\n\
                    [broker.primary]\nfee_bps = 0.25\nslippage_bps = 2\noutage_orders = \"10-20\"\n\
                    [matching.class.fx]\nlots_when_size_missing = 3";
        let config = Config::parse(text, "my.toml").unwrap();
        let back = ReturnToPrimary::After(Span::from_millis(1_500));
        assert_eq!(config.router().return_to_primary, back);
        let primary = config.paper_broker(PRIMARY);
        assert_eq!((primary.fee_rate_nanos, primary.faults.outage), (25_000, Some((10, 20))));
        assert_eq!(primary.slippage_nanos, 200_000);
        assert_eq!(primary.rules_of(Class::Fx).lots_when_size_missing, Some(3));
        assert_eq!(config.paper_broker(BACKUP).faults, Faults::NONE);
    }
}
