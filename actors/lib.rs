//! The acting half of tickwright.

pub mod source;
