//! The order protocol under simulation: real cores and real slots, before an exchange that is modelled.
//!
//! Several executors have the same orders to place, all of them at once, as if every lock and lease had
//! failed. They crash, with and without their checkpoint, stop and go on, and have clocks that are far
//! apart; the ledger answers late, or only when asked again, and may lose everything; requests are
//! lost, and arrive late, for minutes; answers are lost; and the exchange answers that it does not know.
//! Then the faults stop.
//!
//! In some of them others have the same orders to place for a second account, before the same ledger.
//!
//! 1. The exchange has accepted no two orders for a generation of a slot, whatever their signals, and no client
//!    order id twice, in whatever account.
//! 2. It has accepted no two orders for one signal in one account.
//! 3. What every executor was told of an order is what the exchange did: its trades, once each, and
//!    then what remained.
//! 4. Once faults have stopped it is known what became of every intent within its deadline, the time to settle, two
//!    round trips and a second (`resolved.rs`), and every order comes to its end within as much for each attempt.
//!
//! 5. What each has seen traded, by its own orders and by others', is what the account has traded, once it
//!    has looked at everything again; and its own is what it was told: what it was not told of counts as others'.
//!
//! 6. The ledger refuses no signal as used that was not used for that account.
//!
//! 7. At most one order is open in a slot at the exchange, also of a ledger that was lost and the one after it.
//!
//! 8. Where nobody can find out what became of an order, nothing leaves twice under one name, and its slot is closed, as
//!    is shown and counted, until a person has looked. Persons look nowhere else but where ids take the place of
//!    deadlines.
//!
//! A failure prints its seed. `TICKWRIGHT_SEED=17 cargo test -p tickwright-core --test orders` runs that
//! one alone and tells what happened; `TICKWRIGHT_SEEDS=10000` runs so many, from `TICKWRIGHT_SEEDS_FROM` on.

#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    reason = "a test may be told seeds"
)]
#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(clippy::wildcard_enum_match_arm, reason = "most events are for nobody in particular")]

mod counts;
mod events;
mod executor;
mod judge;
mod market;
#[path = "../simulation/random.rs"]
mod random;
mod resolved;
#[path = "../simulation/seeds.rs"]
mod seeds;
mod world;

use counts::Counts;
use seeds::Ran;
use world::World;

fn run_all(share: u64) {
    let mut counts = Counts::default();
    let ran = seeds::run_share("orders", (share, 2), |seed, is_told| {
        let mut world = World::new(seed, is_told);
        let result = world.run();
        counts.add(&world.counts());
        Ran { scenario: format!("{:#?}", world.scenario), log: world.log, result }
    });
    if ran.is_some() {
        println!("{counts:?}");
        counts.check();
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
    for seed in [2, 5] {
        let told = |seed| {
            let mut world = World::new(seed, true);
            let result = world.run();
            (world.log.clone(), result)
        };
        assert_eq!(told(seed), told(seed));
    }
}
