//! What a run over data amounts to: the cores of [`pipeline`](crate::pipeline) in lockstep, and the
//! report.

pub mod performance;
pub mod report;
