//! `tickwright`: from ticks to orders, and one day a member of a trading cluster.

fn main() -> std::process::ExitCode {
    tickwright::program::main_with(tickwright_core::config::Kinds::default())
}
