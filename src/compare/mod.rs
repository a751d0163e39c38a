//! One node against several: which runs are made, and what their measurements amount to.
//!
//! ```text
//! PlanOptions ─▶ Plan: scenarios, each once on one node and once on several ─▶ settings of each run
//! Measurement of each run ─▶ Comparison: what was sustained, the scalability factor, the table
//! ```
//!
//! # Invariants
//!
//! 1. A run counts as sustained only if it came to its end in time, measured at least one order, and
//!    99 of 100 orders came within the bound.
//! 2. Both runs of a scenario differ in nothing but the number of nodes.

mod comparison;
mod plan;
mod strategies;
mod table;
#[cfg(test)]
mod tests;

pub use comparison::{Comparison, Factor, Measurement, RunResult, Verdict};
pub use plan::{Plan, PlanOptions, Scenario};
pub use strategies::{StrategyTable, strategies_text, vary, without_strategies};
