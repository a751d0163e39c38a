//! `[simulator]` as the market that runs when no file is given.

use crate::config::Config;
use crate::pipeline::simulator::SimulatorConfig;

impl Config {
    /// The simulated market; its seed is [`PipelineConfig::seed`](crate::config::PipelineConfig).
    pub fn simulator(&self) -> SimulatorConfig {
        let s = &self.settings;
        let symbols = usize::try_from(s.count(&["simulator", "symbols"])).unwrap_or(usize::MAX);
        SimulatorConfig {
            rows: s.count_or_none(&["simulator", "ticks"]),
            dirt_per_million: u32::try_from(s.count(&["simulator", "dirt_per_million"]))
                .unwrap_or(u32::MAX),
            rows_per_second: s
                .count_or_none(&["simulator", "ticks_per_second"])
                .map(|rows| u32::try_from(rows).unwrap_or(u32::MAX)),
            ..SimulatorConfig::standard(symbols, &self.instruments())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Kinds;
    use crate::domain::Instruments;

    #[test]
    fn the_default_market_is_the_standard_one() {
        let market = Config::default().simulator();
        let standard = SimulatorConfig::standard(20, &Instruments::default());
        assert_eq!(market.symbols.len(), 20);
        assert_eq!(market.rows, standard.rows);
        assert_eq!(market.dirt_per_million, standard.dirt_per_million);
    }

    #[test]
    fn a_market_without_end_says_so() {
        let overrides = [("simulator.ticks".to_owned(), "none".to_owned())];
        let config = Config::default().with_overrides(&overrides, &Kinds::default()).unwrap();
        assert_eq!(config.simulator().rows, None);
    }
}
