//! Which node does which part of the pipeline.
//!
//! The pipeline falls into *units*, each of which runs whole on one node: a source with its cleaner, a
//! shard with its strategies, exec. Streams run between units and nowhere else, so a unit can be on
//! any node, and can move.

mod allocator;
mod rendezvous;
mod retries;
mod units;

pub use allocator::{
    Allocator, AllocatorConfig, Candidate, GivenUp, Holding, Move, Placing, Situation,
};
pub use rendezvous::{highest, ranked};
pub use retries::{Retries, Retry};
pub use units::{Assignment, Owners, Unit, fixed};
