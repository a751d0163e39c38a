//! From ticks to fills: one core per stage. Siblings do not know each other; they share the words
//! of [`domain`](crate::domain).

pub mod ingest;
pub mod positions;
pub mod router;
pub mod venue;
pub mod risk;
pub mod factors;
pub mod strategy;
pub mod clean;
