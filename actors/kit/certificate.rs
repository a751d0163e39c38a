//! The names in certificates by which nodes and tools are told apart.

/// In every node's certificate; its own name stands before it in another one.
pub const NODE: &str = "node.tickwright";

/// In every tool's certificate.
pub const TOOL: &str = "tool.tickwright";
