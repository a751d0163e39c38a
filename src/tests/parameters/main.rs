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
#[path = "../simulation/seeds.rs"]
mod seeds;
mod world;

use seeds::Ran;
use world::{Counts, Rule, World};

#[test]
fn the_changes_that_were_agreed_on_are_the_changes_that_were_made() {
    let mut counts = Counts::default();
    let ran = seeds::run_share("parameters", (0, 1), |seed, _| {
        let mut world = World::new(seed, None);
        let result = world.run();
        counts.add(&world.counts);
        Ran { scenario: String::new(), log: world.log, result }
    });
    if ran.is_none() {
        return;
    }
    println!("{counts:?}");
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
