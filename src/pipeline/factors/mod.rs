//! The factor engine: from clean ticks to the numbers strategies look at.
//!
//! ```text
//! clean rows, key order ──▶ FactorEngine ──▶ FactorBatch: per row that moved its symbol, and per
//!                             per symbol:      window that closed, one value per column
//!                             price rule, book, panes, families
//! ```
//!
//! A column is a [`FactorSpec`](crate::domain::FactorSpec): a name from the [`FactorRegistry`],
//! parameters, and what makes it advance: the symbol's ticks, or its event-time windows. Columns that
//! are computed from the same state (the three of a Bollinger band, an SMA of the same period) share
//! it.
//!
//! | Name                                                      | Parameters (defaults)          | Value                                      |
//! |-----------------------------------------------------------|--------------------------------|--------------------------------------------|
//! | `sma`, `bollinger_middle`                                 | period (20)                    | mean of the last prices                    |
//! | `deviation`                                               | period (20)                    | their population deviation                 |
//! | `bollinger_lower`, `bollinger_upper`                      | period (20), width (2)         | mean less, plus so many deviations         |
//! | `z_score`                                                 | period (20)                    | (price - mean) / deviation                 |
//! | `ema`                                                     | period (20)                    | exponential average, weight 2 / (period+1) |
//! | `macd_line`, `macd_signal`, `macd_histogram`              | fast (12), slow (26), signal (9) | EMA differences                          |
//! | `rsi`                                                     | period (14)                    | Wilder's, 0 to 100                         |
//! | `atr`                                                     | period (14)                    | Wilder's average true range                |
//! | `vwap`                                                    | period (20)                    | volume-weighted price of the last steps that traded |
//! | `realised_volatility`                                     | period (20)                    | root of the sum of squared log returns     |
//! | `imbalance`                                               |                                | (bid - ask) / (bid + ask) of displayed quantities |
//!
//! On windows a step is a window that closed: its last price is the price, and a period counts
//! windows. `vwap(1)@60s` is the VWAP of the window, `atr(14)@60s` works from highs and lows.
//!
//! # Invariants
//!
//! 1. Values depend on the rows of a symbol and the boundaries, in their order, and on nothing else:
//!    not on batches, on numbers of symbols, on other symbols or on when snapshots were taken.
//! 2. An engine restored from a snapshot continues bit for bit.
//! 3. Windows close on boundary rows and on nothing else, once per symbol and step.
//! 4. Sliding sums are taken anew by count of the symbol's own steps, so errors do not grow with the
//!    length of the stream.

mod averages;
mod engine;
mod family;
mod flows;
mod input;
mod moments;
mod plan;
mod registry;
mod windows;

#[cfg(test)]
mod tests;

pub use engine::{FactorCounts, FactorEngine, FactorSnapshot};
pub use input::{Book, FactorInput, PriceSource};
pub use plan::FactorConfig;
pub use registry::{Factor, FactorError, FactorRegistry};
