//! The decisions of tickwright. No waiting, no I/O, no clock.
//!
//! Two folders, one rule: **`src/` decides, `actors/` acts.**
//!
//! This crate is the deciding half: deterministic state machines. None awaits, spawns, logs, reads a
//! clock or rolls a die; time and randomness arrive as arguments, and what should happen next leaves
//! as a return value. The crate `tickwright`, in `actors/`, is the other half: every socket, file,
//! timer and mailbox, each owned by one supervised actor that feeds a core from here and carries out
//! what the core returned. A component has the same name on both sides: `src/pipeline/risk.rs`
//! decides, `actors/risk.rs` acts.
//!
//! Because nothing here touches the outside, the same cores run live, in a backtest, under a
//! simulated network and in a replay after failover, and give the same answers in all four.
//!
//! Three fences keep it so: `src/Cargo.toml` names no crate that could act, `src/clippy.toml` bans
//! the parts of `std` that could, and `tests/floor_plan.rs` checks that modules, listed here from
//! the ground floor up, use only floors below their own.

// Ground floor: the words everything else is written in.
pub mod domain;

// First floor: the cores. Siblings do not know each other.
pub mod cluster;
pub mod config_sync;
pub mod exchange;
pub mod ledger;
pub mod pipeline;
pub mod records;
pub mod stream;
pub mod supervision;
pub mod tuner;

// Second floor: runs over data, and what an operator is to hear of.
pub mod alerts;
pub mod backtest;
pub mod compare;

// Third floor: what is best of many runs.
pub mod optimise;

// Top floor: what a user sets.
pub mod config;
