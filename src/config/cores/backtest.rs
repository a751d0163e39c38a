//! The whole configuration as a [`BacktestConfig`].

use crate::backtest::{AccountTerms, BacktestConfig};
use crate::config::{AccountConfig, Config, Kinds, StrategyConfig};
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

    /// The accounts, as far as a report needs to know them.
    pub fn account_terms(&self) -> Vec<AccountTerms> {
        let terms = |account: &AccountConfig| AccountTerms {
            name: account.name.clone(),
            cash: account.cash.clone(),
        };
        self.accounts.iter().map(terms).collect()
    }
}
