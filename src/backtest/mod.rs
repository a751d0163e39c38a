//! What a run over data amounts to: the cores of [`pipeline`](crate::pipeline) in lockstep, and the
//! report.

mod earned;
mod exec;
mod intake;
mod lockstep;
pub mod performance;
mod recorded;
pub mod report;

pub use earned::{AccountTerms, performances, reasons};
pub use lockstep::{Backtest, BacktestConfig, BacktestError};
pub use recorded::{Recorded, Recorder, TooManyRows};
