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
//! 6. Whoever goes by the values of a node is told of each that it reads otherwise than before, in the step in
//!    which it does: what was told is what is read, at any time and after any restart.

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
#[path = "../simulation/seeds.rs"]
mod seeds;
mod world;

use seeds::{Ran, SEEDS};
use world::{Counts, Scenario, World};

fn run(seed: u64, is_told: bool) -> (World, Result<(), String>) {
    let mut world = World::new(seed, Scenario::of(seed), is_told);
    let result = world.run();
    (world, result)
}

fn run_all(share: u64) {
    let mut counts = Counts::default();
    let ran = seeds::run_share("config_sync", (share, 2), |seed, is_told| {
        let (world, result) = run(seed, is_told);
        counts.add(&world);
        Ran { scenario: format!("{:#?}", world.scenario), log: world.log, result }
    });
    let Some(ran) = ran else { return };
    println!("{ran} seeds: {counts:?}");
    if seeds::count() >= SEEDS {
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
