//! The configuration of several nodes, a network that cannot be trusted, disks that forget, clocks that
//! are years apart, virtual time, and one seed that makes it all happen again.
//!
//! A failure prints its seed. `TICKWRIGHT_SEED=17 cargo test -p tickwright-core --test config_sync` runs
//! that one alone and tells what happened; `TICKWRIGHT_SEEDS=10000` runs so many.
//!
//! Real is the whole of [`tickwright_core::config_sync`]. What the actor does around it, the timer, the
//! disk and the links, is written down here again.
//!
//! # Properties
//!
//! 1. Once all nodes reach each other, all have the same root hash within 2 heartbeats and 3 round trips,
//!    each counted with the disks at both ends, and then they read the same.
//! 2. No dot is given twice.
//! 3. A write that knew of another has replaced it everywhere: whatever the clocks said, however long
//!    anybody was away, and if it was a removal, nothing that it removed comes back.
//! 4. A write that is on a disk which was not lost, and of which no later write knew, stands in the end.
//! 5. Removals are forgotten in the end, by all.

#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    reason = "a test may be told seeds"
)]
#![allow(clippy::unwrap_used, reason = "a test")]

mod judge;
#[path = "../simulation/random.rs"]
#[allow(dead_code, reason = "another simulation needs more of it")]
mod random;
mod world;

use world::{Counts, Scenario, World};

/// Seeds that are run unless told otherwise.
const SEEDS: u64 = 1_000;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

fn run(seed: u64, is_told: bool) -> (World, Result<(), String>) {
    let mut world = World::new(seed, Scenario::of(seed), is_told);
    let result = world.run();
    (world, result)
}

/// Runs one share of the seeds; two tests, so that two cores are at work.
fn run_all(share: u64) {
    if let Some(seed) = number("TICKWRIGHT_SEED") {
        if share == 0 {
            let (world, result) = run(seed, true);
            println!("{:#?}\n{}", world.scenario, world.log.join("\n"));
            result.unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        }
        return;
    }
    let seeds = number("TICKWRIGHT_SEEDS").unwrap_or(SEEDS);
    let (mut failed, mut counts) = (Vec::new(), Counts::default());
    for seed in (share..seeds).step_by(2) {
        let (world, result) = run(seed, false);
        counts.add(&world);
        if let Err(broken) = result {
            println!("seed {seed}: {broken}");
            println!(
                "  again: TICKWRIGHT_SEED={seed} cargo test -p tickwright-core --test config_sync -- --nocapture"
            );
            failed.push(seed);
        }
    }
    println!("{} seeds: {counts:?}", seeds / 2);
    assert!(failed.is_empty(), "{} seeds failed: {failed:?}", failed.len());
    if seeds >= SEEDS {
        assert!(counts.every_fault_happened(), "{counts:?}");
    }
}

#[test]
fn every_even_seed_keeps_the_properties() {
    run_all(0);
}

#[test]
fn every_odd_seed_keeps_the_properties() {
    run_all(1);
}

#[test]
fn one_seed_makes_one_run() {
    for seed in [3, 8, 11] {
        let told = |seed| {
            let (world, result) = run(seed, true);
            (world.log.clone(), world.events, result)
        };
        assert_eq!(told(seed), told(seed));
    }
}
