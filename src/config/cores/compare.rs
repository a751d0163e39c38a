//! `[[strategy]]` as what a comparison makes more of.

use crate::compare::StrategyTable;
use crate::config::Config;

impl Config {
    /// The strategies, as they are written.
    pub fn strategy_tables(&self) -> Vec<StrategyTable> {
        let of = |strategy: &crate::config::StrategyConfig| {
            let account = self.accounts.get(usize::from(strategy.account.0));
            StrategyTable {
                name: strategy.name.clone(),
                kind: strategy.kind.clone(),
                account: account.map(|account| account.name.clone()).unwrap_or_default(),
                symbols: strategy.symbols.clone(),
                parameters: strategy.parameters.clone(),
            }
        };
        self.strategies.iter().map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{Plan, PlanOptions, strategies_text, vary, without_strategies};
    use crate::config::{ConfigInput, DEFAULT_TEXT, Kinds};

    #[test]
    fn strategies_that_are_made_of_the_configured_ones_are_read_again() {
        let own = "[[account]]\nname = \"other\"\n[[strategy]]\nname = \"x\"\n\
                   kind = \"ema_crossing\"\naccount = \"other\"\nsymbols = [\"*USDT*\", \"IBM.US\"]\n";
        for (text, count) in [(own, 3), (DEFAULT_TEXT, 20), ("[pipeline]\nseed = 3\n", 5)] {
            let config = Config::parse(text, "my.toml").unwrap();
            let wanted = vary(&config.strategy_tables(), count);
            let text = without_strategies(text) + &strategies_text(&wanted);
            let config = Config::parse(&text, "made.toml").unwrap();
            assert_eq!(config.strategy_tables(), wanted);
            assert_eq!(config.strategies.len(), count);
        }
    }

    #[test]
    fn the_settings_of_every_scenario_are_keys_and_values_that_there_are() {
        let options = PlanOptions {
            symbols: vec![1, 500],
            strategies: vec![2],
            rates: vec![1, 1_000],
            duration_seconds: 3_600,
            nodes: 3,
            bound_ms: 50,
        };
        let plan = Plan::new(options);
        for (scenario, _) in plan.runs() {
            let overrides = plan.settings(scenario);
            let input = ConfigInput { overrides: &overrides, file: None, kinds: Kinds::default() };
            let config = Config::load(&input).unwrap();
            let market = config.simulator();
            assert_eq!(market.rows_per_second, Some(scenario.rate));
            assert_eq!(market.rows, Some(scenario.rows_per_second() * 3_600));
        }
    }
}
