//! One mechanism wherever data crosses an actor that can die.
//!
//! ```text
//! producer: Outflow ── frames, while there is credit ──▶ Merge :consumer
//!                   ◀── subscribe(after), credit, stable(up to) ──
//! ```
//!
//! Everything is by [`Key`](crate::domain::Key): a consumer subscribes after the last key it has, drops rows it has seen,
//! returns credit for what it has taken, and calls stable what it will never ask for again. A
//! producer that no longer holds what is asked for says from where it must be derived again, and its
//! stage goes back to one of its own checkpoints.

mod lockstep;
mod merge;
mod outflow;
mod standing;

pub use lockstep::{
    External, Lockstep, LockstepSnapshot, Merging, Next, OrderMismatch, Positions, Taken,
};
pub use merge::{Block, Merge, Run, SignalBatch};
pub use outflow::{Frame, Outflow, Rewind};
pub use standing::{InflowStanding, OutflowStanding};
