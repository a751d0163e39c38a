//! A fault-tolerant actor runtime for quantitative trading pipelines.
//!
//! Two folders, one rule: **`src/` decides, `actors/` acts.** This crate is the acting half; the
//! decisions are in [`tickwright_core`], which cannot see this crate, `ractor` or the outside world.
//!
//! Every actor in the system is a module here, named after the core it runs. An actor owns its core,
//! its I/O and its timers, and nothing else touches them. It knows the domain types it takes in and
//! gives out, never the actor before or after it: `node` joins them, so the flow of data can be
//! read in that one file.

pub mod alerts;
pub mod allocator;
pub mod backtest;
pub mod broker;
pub mod certs;
pub mod cleaner;
pub mod cluster;
pub mod cluster_node;
pub mod command_line;
pub mod compare;
pub mod config_sync;
pub mod ctl;
pub mod exchange;
pub mod exchange_broker;
pub mod factors;
pub mod ingester;
pub mod kit;
pub mod ledger;
pub mod live_ingester;
pub mod local_cluster;
pub mod locks;
pub mod node;
pub mod optimise;
pub mod outcome;
pub mod parameters;
pub mod positions;
pub mod program;
pub mod records;
pub mod report;
pub mod risk;
pub mod router;
pub mod run;
pub mod share;
pub mod source;
pub mod strategy;
pub mod switchboard;
pub mod telemetry;
pub mod tuner;
