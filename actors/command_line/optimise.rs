//! What a user types about `backtest` and `optimize`.

use std::path::PathBuf;

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
