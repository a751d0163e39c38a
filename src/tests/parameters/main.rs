//! Parameters that change while a pipeline runs on several nodes: lives of its parts that sleep while others
//! take their place, copies of the ledger that lag, checkpoints that turn up from earlier lives, proposers
//! that die, and one seed that makes it all happen again.
//!
//! ```text
//! shard lives ─ rows, each with the hold that its maker knew ─▶ exec lives        checkpoints on nodes
//!      └─ learn ─ copies of the ledger on nodes ─ lag ─ Ledger ◀─ hold, record, release ─ proposers
//! ```
//!
//! Real are [`tickwright_core::ledger`], [`Control`](tickwright_core::domain::Control) and
//! [`Basis`](tickwright_core::domain::Basis). What stages, exec and the door to parameters do around them is
//! written down here again: a row is one number, and what a shard makes of it is how many changes it knew.
//!
//! A failure prints its seed. `TICKWRIGHT_SEED=17 cargo test -p tickwright-core --test parameters` runs that
//! one alone and tells what happened; `TICKWRIGHT_SEEDS=10000` runs so many.
//!
//! # Properties
//!
//! 1. What the exec that the ledger names has taken was derived by the changes that were agreed on, at every
//!    moment: a change never undoes what counts, also not what that exec had taken before it crashed.
//! 2. In the end exec has every row, and so it is with all of them: whatever was killed, slept or came back.
//! 3. A proposer that dies stops nobody for ever.
//!
//! Each rule is then left out by itself, and one of the properties must break.

#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    reason = "a test may be told seeds"
)]
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "../simulation/random.rs"]
#[allow(dead_code, reason = "another simulation needs more of it")]
mod random;
mod world;

use world::{Counts, Rule, World};

/// Seeds that are run unless told otherwise.
const SEEDS: u64 = 1_000;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

#[test]
fn the_changes_that_were_agreed_on_are_the_changes_that_were_made() {
    if let Some(seed) = number("TICKWRIGHT_SEED") {
        let mut world = World::new(seed, None);
        let result = world.run();
        println!("{}", world.log.join("\n"));
        return result.unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
    }
    let (mut failed, mut counts) = (Vec::new(), Counts::default());
    for seed in 0..number("TICKWRIGHT_SEEDS").unwrap_or(SEEDS) {
        let mut world = World::new(seed, None);
        if let Err(broken) = world.run() {
            failed.push(format!("seed {seed}: {broken}"));
        }
        counts.add(&world.counts);
    }
    println!("{counts:?}");
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
    // Histories in which nothing happened would prove nothing.
    let Counts { changes, late, moved, refused, fallen, dropped, lapsed } = counts;
    let least = [changes, late, moved, refused, fallen, dropped, lapsed].into_iter().min();
    assert!(least > Some(10), "{counts:?}");
}

#[test]
fn each_rule_is_needed() {
    for rule in Rule::ALL {
        let broken = (0..2_000).find_map(|seed| {
            let result = World::new(seed, Some(rule)).run();
            result.err().map(|broken| format!("seed {seed}: {broken}"))
        });
        let broken = broken.unwrap_or_else(|| panic!("nothing breaks without {rule:?}"));
        println!("without {rule:?}, {broken}");
    }
}
