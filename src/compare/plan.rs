//! Which runs are made, and under which settings.

use serde::Serialize;

use crate::domain::Span;

/// How long a run takes beside its rows, about: processes start, find each other, and end.
const OVERHEAD: Span = Span::from_secs(4);

/// What is added to twice the time of a run's rows before it is given up.
const GRACE: Span = Span::from_secs(30);

/// Limits of risk that would otherwise decide how many orders there are to measure.
const LIFTED: [&str; 9] = [
    "risk.rate_strategy_per_second",
    "risk.rate_account_per_second",
    "risk.rate_venue_per_second",
    "risk.orders_per_day_max",
    "risk.gross_exposure_max",
    "risk.net_exposure_max",
    "risk.daily_loss_max",
    "risk.drawdown_max",
    "risk.order_value_max",
];

/// What is compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlanOptions {
    /// How many symbols, one scenario each.
    pub symbols: Vec<u32>,
    /// How many strategies, likewise.
    pub strategies: Vec<u32>,
    /// Rows of each symbol in a second, likewise.
    pub rates: Vec<u32>,
    /// How long rows come in each run, in seconds.
    pub duration_seconds: u64,
    /// How many nodes are compared with one.
    pub nodes: u16,
    /// What 99 of 100 orders may take from their row, in milliseconds.
    pub bound_ms: u64,
}

/// One load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Scenario {
    /// Strategies, each on every symbol.
    pub strategies: u32,
    /// Rows of each symbol in a second.
    pub rate: u32,
    /// Symbols.
    pub symbols: u32,
}

impl Scenario {
    /// Rows that come in a second.
    pub fn rows_per_second(self) -> u64 {
        u64::from(self.symbols) * u64::from(self.rate)
    }
}

/// The runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    options: PlanOptions,
    scenarios: Vec<Scenario>,
}

impl Plan {
    /// Every scenario of `options`, the lightest first; what is named twice is measured once.
    pub fn new(mut options: PlanOptions) -> Self {
        for list in [&mut options.symbols, &mut options.strategies, &mut options.rates] {
            list.sort_unstable();
            list.dedup();
        }
        let mut scenarios = Vec::new();
        for &strategies in &options.strategies {
            for &rate in &options.rates {
                let of = |&symbols| Scenario { strategies, rate, symbols };
                scenarios.extend(options.symbols.iter().map(of));
            }
        }
        Self { options, scenarios }
    }

    /// What was asked for, each list in order.
    pub fn options(&self) -> &PlanOptions {
        &self.options
    }

    /// The runs in order: a scenario, and on how many nodes.
    pub fn runs(&self) -> impl Iterator<Item = (Scenario, u16)> + use<'_> {
        let nodes = [1, self.options.nodes];
        self.scenarios.iter().flat_map(move |&scenario| nodes.map(|nodes| (scenario, nodes)))
    }

    /// How many runs.
    pub fn len(&self) -> usize {
        self.scenarios.len() * 2
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.scenarios.is_empty()
    }

    /// How long rows come in each run.
    pub fn duration(&self) -> Span {
        Span::from_secs(self.options.duration_seconds)
    }

    /// How long a run may take before it is given up: it has fallen behind for good.
    pub fn patience(&self) -> Span {
        self.duration() * 2 + GRACE
    }

    /// How long all runs take if each keeps up, about, and at most.
    pub fn time(&self) -> (Span, Span) {
        let runs = u32::try_from(self.len()).unwrap_or(u32::MAX);
        let at_least = (self.duration() + OVERHEAD).saturating_mul(runs);
        (at_least, (self.patience() + OVERHEAD).saturating_mul(runs))
    }

    /// The settings of a scenario's runs, in place of what is configured: keys and values.
    pub fn settings(&self, scenario: Scenario) -> Vec<(String, String)> {
        let rows = scenario.rows_per_second().saturating_mul(self.options.duration_seconds);
        let own = [
            ("simulator.symbols", scenario.symbols.to_string()),
            ("simulator.ticks", rows.to_string()),
            ("simulator.ticks_per_second", scenario.rate.to_string()),
            // Extra rows would come on top of the rate.
            ("simulator.dirt_per_million", "0".to_owned()),
            ("pipeline.speed", "real".to_owned()),
        ];
        let lifted = LIFTED.map(|key| (key, "none".to_owned()));
        own.into_iter().chain(lifted).map(|(key, value)| (key.to_owned(), value)).collect()
    }
}
