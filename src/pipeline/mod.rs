//! From ticks to fills: one core per stage. Siblings do not know each other; they share the words
//! of [`domain`](crate::domain).

pub mod clean;
pub mod factors;
pub mod ingest;
pub mod live;
pub mod orders;
pub mod positions;
pub mod risk;
pub mod router;
pub mod simulator;
pub mod strategy;
pub mod venue;
