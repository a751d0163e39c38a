//! What a run over data amounts to: the cores of [`pipeline`](crate::pipeline) in lockstep, and the
//! report.

mod lockstep;
pub mod performance;
pub mod report;

pub use lockstep::{Backtest, BacktestConfig, BacktestError};
