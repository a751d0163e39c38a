//! The acting half of tickwright: actors and their I/O.

pub mod report;
