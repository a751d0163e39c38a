//! From ticks to fills: one core per stage. Siblings do not know each other; they share the words
//! of [`domain`](crate::domain).

pub mod clean;
