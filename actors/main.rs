//! The program; see `tickwright::report` for what it leaves behind.

fn main() {}
