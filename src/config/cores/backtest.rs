//! The whole configuration as a [`BacktestConfig`].

use crate::backtest::BacktestConfig;
use crate::config::{Config, Kinds, StrategyConfig};
use crate::pipeline::router::{BACKUP, PRIMARY};

impl Config {
    /// What a run without actors is made from, given the strategies and factors there are.
    pub fn backtest(&self, kinds: &Kinds) -> BacktestConfig {
        BacktestConfig {
            rules: self.clean_rules(),
            factors: self.factors(),
            factor_registry: kinds.factors.clone(),
            factors_also: self.factors_also(),
            strategy_registry: kinds.strategies.clone(),
            strategies: self.strategies.iter().map(StrategyConfig::spec).collect(),
            limits: self.risk_limits(),
            router: self.router(),
            brokers: [PRIMARY, BACKUP].map(|broker| self.paper_broker(broker)),
            positions: self.positions(),
            seed: self.pipeline.seed,
        }
    }
}
