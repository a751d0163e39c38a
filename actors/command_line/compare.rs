//! What a user types about `compare`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tickwright_core::compare::{Plan, PlanOptions};

/// Longest that rows of one run may come: as long as any of the simulated sessions is sure to last.
const DURATION_SECONDS_MAX: u64 = 3_600;

/// Options of `compare`.
#[derive(Args, Clone, Debug)]
pub struct CompareOptions {
    /// How many symbols, one scenario each
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "10,50,100,500",
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub symbols: Vec<u32>,
    /// How many strategies, each on every symbol
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "2,5,10,20",
          value_parser = clap::value_parser!(u32).range(1..=256))]
    pub strategies: Vec<u32>,
    /// How many rows of each symbol in a second
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "100,200,500,1000",
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rates: Vec<u32>,
    /// How long rows come in each run: 300 (seconds), 90s, 5m
    #[arg(long, value_name = "SPAN", default_value = "300s", value_parser = duration)]
    pub duration: Duration,
    /// How many processes on this machine are compared with one
    #[arg(long, value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u16).range(2..=64))]
    pub nodes: u16,
    /// What 99 of 100 orders may take from their row for a load to count as sustained
    #[arg(long, value_name = "MS", default_value_t = 50,
          value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub bound_ms: u64,
    /// Write everything that was measured as JSON
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

impl CompareOptions {
    /// The runs that are asked for.
    pub(super) fn plan(&self) -> Plan {
        Plan::new(PlanOptions {
            symbols: self.symbols.clone(),
            strategies: self.strategies.clone(),
            rates: self.rates.clone(),
            duration_seconds: self.duration.as_secs(),
            nodes: self.nodes,
            bound_ms: self.bound_ms,
        })
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "is not a span such as 300, 90s or 5m, of an hour at most".to_owned();
    let span = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => super::parse_span(text).map_err(|_| wrong())?,
    };
    let is_fit = (1..=DURATION_SECONDS_MAX).contains(&span.as_secs());
    if is_fit { Ok(span) } else { Err(wrong()) }
}
