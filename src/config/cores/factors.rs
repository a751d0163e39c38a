//! `[factors]` and `[[strategy]]` as what the factor engine and strategies are made from.

use super::ByClass;
use crate::config::{Config, StrategyConfig};
use crate::domain::{Class, FactorSpec};
use crate::pipeline::factors::{FactorConfig, PriceSource};
use crate::pipeline::strategy::StrategySpec;

impl Config {
    /// Windows, and which price moves factors.
    pub fn factors(&self) -> FactorConfig {
        let source =
            |class| match ByClass::new(&self.settings, "factors", class).text("price_source") {
                "trade" => PriceSource::Trade,
                "mid" => PriceSource::Mid,
                _ => PriceSource::Auto,
            };
        FactorConfig {
            window: self.pipeline.window,
            step: self.pipeline.window_step,
            prices: Class::ALL.map(source),
        }
    }

    /// Factors to compute whether or not a strategy looks at them.
    pub fn factors_also(&self) -> Vec<FactorSpec> {
        let texts = self.settings.list(&["factors", "also"]);
        texts.iter().filter_map(|text| text.parse().ok()).collect()
    }
}

impl StrategyConfig {
    /// What the strategy engine is told of it.
    pub fn spec(&self) -> StrategySpec {
        let parameters = self.parameters.iter().map(|(name, value)| (name.clone(), *value));
        StrategySpec {
            name: self.kind.clone(),
            parameters: parameters.collect(),
            symbols: self.symbols.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_windows_and_prices_are_those_of_the_core() {
        assert_eq!(Config::default().factors(), FactorConfig::default());
    }

    #[test]
    fn more_factors_can_be_asked_for() {
        let text = "[factors]\nalso = [\"rsi(14)\", \"vwap@60s\"]";
        let also = Config::parse(text, "my.toml").unwrap().factors_also();
        assert_eq!(
            also.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["rsi(14)", "vwap@60s"]
        );
        let problems = Config::parse("[factors]\nalso = [\"rsi(14\"]", "my.toml").unwrap_err();
        assert!(problems.to_string().contains("`rsi(14` is not a factor"), "{problems}");
    }
}
