//! What a user types about `backtest` and `optimize`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

/// Options of `backtest`.
#[derive(Args, Clone, Debug, Default)]
pub struct BacktestOptions {
    /// Data files of ticks or bars, one or more; several are merged by time
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    pub data: Vec<PathBuf>,
    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Write the report as a page to look at
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Stop at the first bad row [short for --set pipeline.strict=true]
    #[arg(long)]
    pub strict: bool,
}

/// Options of `optimize`.
#[derive(Args, Clone, Debug, Default)]
pub struct OptimizeOptions {
    /// Data files of ticks or bars, one or more; several are merged by time
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    pub data: Vec<PathBuf>,
    /// The strategy, by its name in the configuration [short for --set optimise.strategy=NAME]
    #[arg(long, value_name = "NAME")]
    pub strategy: Option<String>,
    /// Trials at most [short for --set optimise.max_explorations=N]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub trials: Option<String>,
    /// tpe, grid, random or genetic [short for --set optimise.search=KIND]
    #[arg(long, value_name = "KIND")]
    pub search: Option<String>,
    /// Stop after so long, runs that were broken off included: 90s, 15m, 8h [short for --set optimise.time_max_s=SECONDS]
    #[arg(long, value_name = "SPAN", value_parser = super::parse_span)]
    pub time: Option<Duration>,
    /// Threads that evaluate [short for --set optimise.workers=N]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub workers: Option<String>,
    /// Processes that search together, on loopback
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub nodes: u16,
    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Write the report as a page to look at
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Stop at the first bad row [short for --set pipeline.strict=true]
    #[arg(long)]
    pub strict: bool,
}

/// What `optimize` is to do.
#[derive(Clone, Debug)]
pub struct SearchTask {
    /// What the user typed.
    pub options: OptimizeOptions,
    /// The configuration file, if one was named.
    pub config_file: Option<PathBuf>,
    /// What was laid over it, as given.
    pub overrides: Vec<(String, String)>,
}
