//! Many cores, a network that cannot be trusted, disks that forget, clocks that disagree, virtual time,
//! and one seed that makes it all happen again.
//!
//! A failure prints its seed. `TICKWRIGHT_SEED=17 cargo test -p tickwright-core --test simulation` runs
//! that one alone and tells what happened; `TICKWRIGHT_SEEDS=20000` runs so many.
//!
//! Real are the cores: join, links, membership and detector, directory, the ledger's state machine,
//! keeper and expiry, allocator, outflow, merge and lockstep. What actors do around them is written
//! down here again as thinly as it is there: `peers` for `actors/cluster`, `mail` for its transport,
//! `agreement` for `actors/ledger`, `units` for `actors/kit`. The ledger's log is one list, since
//! openraft is checked by histories of real processes; its leaders, delays and lost answers are not.
//!
//! # Properties
//!
//! 1. Only the first seed founds, and nobody founds while most nodes are in a cluster.
//! 2. No two coordinators act in one term.
//! 3. An epoch of a unit belongs to one node, and whoever has taken a frame of one epoch takes none of
//!    an older one.
//! 4. Exec takes what it takes in an undisturbed run: nothing lost, nothing twice, in order.
//! 5. Once faults are over links come back, all agree within 2 heartbeats and 3 round trips, every unit
//!    has one owner, and the run comes to its end.
//! 6. Histories of registers and of order slots are linearizable, and no command takes effect twice.
//! 7. What outflows keep and what waits for exec stays within its bounds.

#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    reason = "a test may be told seeds"
)]
#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(clippy::wildcard_enum_match_arm, reason = "what comes to the wrong place ends the run")]

mod agreement;
mod check;
mod disk;
mod faults;
mod history;
mod mail;
mod net;
mod peers;
mod random;
mod seeds;
mod seen;
mod units;
mod world;

use std::collections::BTreeMap;

use faults::{Fault, Kind, Scenario};
use seeds::Ran;
use seen::Seen;
use world::{MILLISECOND, World, new};

/// What exec takes when nothing goes wrong, by what there is to do.
#[derive(Default)]
struct Undisturbed(BTreeMap<(usize, usize, usize), u64>);

impl Undisturbed {
    fn digest(&mut self, scenario: &Scenario) -> u64 {
        let what = (scenario.sources, scenario.shards, scenario.names.len());
        *self.0.entry(what).or_insert_with(|| {
            let mut world = new(0, scenario.calm());
            match world.run() {
                Ok(digest) => digest,
                Err(broken) => panic!("an undisturbed run: {broken}\n{}", world.log.join("\n")),
            }
        })
    }
}

fn run(seed: u64, is_told: bool, undisturbed: &mut Undisturbed) -> (World, Result<u64, String>) {
    let scenario = Scenario { is_told, ..Scenario::of(seed) };
    let expected = undisturbed.digest(&scenario);
    let mut world = new(seed, scenario);
    let result = world.run().and_then(|digest| {
        let is_same = digest == expected;
        if is_same {
            Ok(digest)
        } else {
            Err("(4) exec took something else than undisturbed".into())
        }
    });
    (world, result)
}

fn run_all(share: u64) {
    let mut undisturbed = Undisturbed::default();
    let mut seen = Seen::default();
    let ran = seeds::run_share("simulation", (share, 2), |seed, is_told| {
        let (world, result) = run(seed, is_told, &mut undisturbed);
        seen.add(&world);
        let scenario = format!("{:#?}", world.scenario);
        Ran { scenario, log: world.log, result: result.map(drop) }
    });
    if let Some(ran) = ran {
        seen.check(ran);
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

/// Two calc nodes, one after the other, as a run of real processes once had it; and with the nodes at
/// both ends of the streams so busy that their sessions are lost together.
#[test]
fn calc_nodes_restarted_one_after_the_other_do_not_stop_the_run() {
    let mut undisturbed = Undisturbed::default();
    let fault = |kind, at, lasts| Fault { kind, at: at * MILLISECOND, lasts: lasts * MILLISECOND };
    let down = |node| Kind::Crash { node, forgets: false };
    for seed in 0..seeds::count() / 20 {
        let mut scenario = Scenario::of(seed);
        scenario.names = vec!["control-1", "data-1", "calc-1", "calc-2", "exec-1"];
        let second = 9_000 + 50 * (seed % 60);
        let restarts = [fault(down(3), 6_000, 3_800), fault(down(2), second, 600)];
        let busy = [
            fault(Kind::Pause(1), second - 400, 3_000),
            fault(Kind::Pause(4), second - 400 + seed % 50, 3_000),
        ];
        let expected = undisturbed.digest(&scenario);
        for faults in [restarts.to_vec(), [busy, restarts].concat()] {
            scenario.fixed = Some(faults);
            let mut world = new(seed, scenario.clone());
            assert_eq!(world.run(), Ok(expected), "seed {seed}");
        }
    }
}

/// Exec's node is gone for long, with and without its disk, or stands still for longer than any session,
/// and then another one.
#[test]
fn exec_goes_on_elsewhere() {
    let mut undisturbed = Undisturbed::default();
    let fault = |kind, at, lasts| Fault { kind, at: at * MILLISECOND, lasts: lasts * MILLISECOND };
    for seed in 0..seeds::count() / 20 {
        let mut scenario = Scenario::of(seed);
        let exec = scenario.names.len() - 1;
        let expected = undisturbed.digest(&scenario);
        let kinds = [
            Kind::Crash { node: exec, forgets: false },
            Kind::Crash { node: exec, forgets: true },
            Kind::Pause(exec),
        ];
        for kind in kinds {
            let after = fault(Kind::Pause(1 + usize::from(seed % 2 == 0)), 17_000, 6_000);
            scenario.fixed = Some(vec![fault(kind, 5_000 + 50 * (seed % 60), 15_000), after]);
            let mut world = new(seed, scenario.clone());
            assert_eq!(world.run(), Ok(expected), "seed {seed}");
            assert!(world.exec_moves > 0, "seed {seed}: exec stayed where it was");
        }
    }
}

#[test]
fn one_seed_makes_one_run() {
    for seed in [3, 8, 11] {
        let told = |seed| {
            let (world, result) = run(seed, true, &mut Undisturbed::default());
            (world.log.clone(), world.events, result)
        };
        assert_eq!(told(seed), told(seed));
    }
}
