//! The runtime that all actors of a process share.

use tickwright_core::config::Config;
use tokio::runtime::{Builder, Runtime};

use crate::command_line::EXIT_USAGE;

/// A runtime with as many threads as `node.worker_threads` says; else what the process is to exit with.
pub(super) fn runtime_of(config: &Config) -> Result<Runtime, u8> {
    start(config.node.worker_threads)
}

/// A runtime with a thread for each processor; else what the process is to exit with.
pub(super) fn runtime() -> Result<Runtime, u8> {
    start(None)
}

fn start(worker_threads: Option<usize>) -> Result<Runtime, u8> {
    let mut builder = Builder::new_multi_thread();
    if let Some(threads) = worker_threads {
        builder.worker_threads(threads);
    }
    builder.enable_all().build().map_err(|error| {
        eprintln!("cannot start the runtime: {error}");
        EXIT_USAGE
    })
}
