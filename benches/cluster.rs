//! What the cluster costs: streams and questions between two processes beside bare TCP, the way from a
//! row to its order over three processes beside one, and nodes that have nothing to do.
//!
//! `cargo bench --bench cluster [-- --quick] [-- --only TEXT]`
//!
//! Everything runs as real processes on loopback. This program is all of them: with `node` as its first
//! argument it is `tickwright`, with `peer` the other end of a stream and of a question.
//!
//! *Streams.* Blocks of 256 rows lie in memory in one process; the other receives and counts them. Each
//! round sends them once through a real stream (session, credit, gateway, `ractor_cluster`) and once
//! over a bare TCP connection, each block behind its length; both sides encode and decode every block.
//! Lines take turns within a round, and the median of the ratios is printed.
//!
//! *Questions.* One at a time, to a role that answers with what it was asked, and to a TCP echo.
//!
//! *From row to order.* `tickwright` itself over the simulated market at a steady rate.
//!
//! *Configuration.* A write on one of five nodes until watchers on all have it, beside etcd if it is
//! installed.
//!
//! *Nothing to do.* Clusters of 3, 10 and 20 nodes without a pipeline; what each node uses, on average.

#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![expect(clippy::cast_precision_loss, reason = "rates are for people")]

mod rows;

#[path = "cluster/configuration.rs"]
mod configuration;
#[path = "cluster/idle.rs"]
mod idle;
#[path = "cluster/links.rs"]
mod links;
#[path = "cluster/nodes.rs"]
mod nodes;
#[path = "cluster/orders.rs"]
mod orders;
#[path = "cluster/peer.rs"]
mod peer;

use std::process::ExitCode;

use tickwright_core::config::Kinds;

/// What is measured, and how thoroughly.
struct Options {
    is_quick: bool,
    only: String,
}

impl Options {
    fn parse() -> Self {
        let mut options = Self { is_quick: false, only: String::new() };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => options.is_quick = true,
                "--only" => options.only = arguments.next().unwrap(),
                // What cargo itself says.
                _ => {}
            }
        }
        options
    }

    fn wants(&self, section: &str) -> bool {
        section.contains(&self.only)
    }
}

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("node") => return tickwright::program::main_with(Kinds::default()),
        Some("peer") => {
            peer::run();
            return ExitCode::SUCCESS;
        }
        Some(_) | None => {}
    }
    let options = Options::parse();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{cores} processors, shared by all processes\n");
    links::measure(&options);
    if options.wants("orders") {
        orders::measure(options.is_quick);
    }
    if options.wants("configuration") {
        configuration::measure(options.is_quick);
    }
    if options.wants("idle") {
        idle::measure(options.is_quick);
    }
    ExitCode::SUCCESS
}
