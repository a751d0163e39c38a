//! Supervision of the real tree: whatever ends an actor, the pipeline goes on from its checkpoints and
//! comes to the same; and what can never go on ends the run with its reason.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{Case, PATIENCE, Scratch, config, draw};
use ractor::rpc::CallResult;
use ractor::{ActorRef, Message, RpcReplyPort};
use tickwright::broker::BrokerMessage;
use tickwright::cleaner::CleanerMessage;
use tickwright::factors::FactorsMessage;
use tickwright::ingester::{IngesterMessage, OpenSource};
use tickwright::kit::{Store, StoreError};
use tickwright::node::{self, Node, NodeArguments};
use tickwright::positions::PositionsMessage;
use tickwright::risk::RiskMessage;
use tickwright::router::RouterMessage;
use tickwright::source::{SourceError, simulated::SimulatedSource};
use tickwright::strategy::StrategyMessage;
use tickwright_core::domain::Key;

const ROWS: &str = "120000";

/// Every actor of a node with one source and one shard.
const ROLES: [&str; 9] = [
    "ingester/0",
    "cleaner/0",
    "factors/0",
    "strategy/0",
    "risk",
    "router",
    "broker/0",
    "broker/1",
    "positions",
];

/// What a run of this market comes to without any fault.
fn expected() -> String {
    static DIGEST: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let run = || Case::simulated(ROWS.parse().unwrap()).run().order_digest;
    DIGEST.get_or_init(run).clone()
}

/// A running node over a simulated market, and what it was made of.
struct Running {
    node: Node,
    store: Store,
    /// Opening the source fails as often as this says.
    failures: Arc<AtomicU64>,
    /// The end is told once; whoever hears of it notes it here.
    has_ended: bool,
}

impl Running {
    async fn start(more: &[(&str, &str)]) -> Self {
        let base = [
            ("simulator.ticks", ROWS),
            ("stream.checkpoint_ticks", "1000"),
            ("stream.credit_ticks", "1024"),
            ("supervision.backoff_first_ms", "1"),
            ("supervision.backoff_max_ms", "20"),
            ("supervision.restarts_max", "50"),
        ];
        let config = config(&[&base[..], more].concat());
        let (market, seed) = (config.simulator(), config.pipeline.seed);
        let failures = Arc::new(AtomicU64::new(0));
        let left = Arc::clone(&failures);
        let open: OpenSource = Arc::new(move || {
            let take = |left: u64| left.checked_sub(1);
            if left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                return Err(SourceError::Simulated { problem: "not now".into() });
            }
            Ok(Box::new(SimulatedSource::new(market.clone(), seed)))
        });
        let store = Store::in_memory();
        let arguments = NodeArguments::alone(config, vec![open.into()], store.clone());
        let node = node::start(arguments).await.unwrap();
        Self { node, store, failures, has_ended: false }
    }

    fn tell<M: Message>(&self, role: &str, message: M) {
        // Whoever serves may be starting again just now; then another fault has been enough.
        let _ = self.node.directory.tell(role, message);
    }

    fn is_finished(&mut self) -> bool {
        self.has_ended |= self.node.finished.try_recv().is_ok();
        self.has_ended
    }

    /// Waits until the end has been told.
    async fn end(&mut self) {
        if self.is_finished() {
            return;
        }
        match tokio::time::timeout(PATIENCE, self.node.finished.recv()).await {
            Ok(Some(())) => self.has_ended = true,
            Ok(None) => panic!("the tree gave up: {:?}", self.node.statistics.failures()),
            Err(_) => {
                let report = self.node.report(Duration::from_secs(5)).await;
                panic!("no end: {report:?}\n{:?}", self.node.statistics.failures());
            }
        }
    }

    /// Waits for the end, and returns the digest with everything counted.
    async fn digest(mut self) -> String {
        self.end().await;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let report = self.node.report(PATIENCE).await.unwrap();
            let clean = report.cleaners[0].counts.totals.accepted;
            if report.cleaners[0].complete == Key::END && report.risk.complete == Key::END {
                assert_eq!(report.risk.counts.rows, clean, "rows that came to exec");
                let digest = report.positions.positions.digest().to_string();
                self.node.supervisor.stop_and_wait(None, Some(PATIENCE)).await.unwrap();
                return digest;
            }
            assert!(Instant::now() < deadline, "{report:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn restarts(&self) -> u64 {
        self.node.statistics.restarts()
    }

    /// Waits until `role` has been served by somebody, and a little work is done.
    async fn work(&self) {
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
}

fn block_on(test: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.unwrap();
    runtime.block_on(test);
    runtime.shutdown_background();
}

#[test]
fn a_kill_of_any_actor_in_mid_run_changes_nothing() {
    let expected = expected();
    block_on(async {
        let mut running = Running::start(&[]).await;
        let mut kills = 0;
        'run: for _ in 0..3 {
            for role in ROLES {
                running.work().await;
                if running.is_finished() {
                    break 'run;
                }
                if let Some(actor) = running.node.directory.serving(role) {
                    actor.kill();
                    kills += 1;
                }
            }
        }
        assert!(kills >= ROLES.len(), "the run was over after {kills} kills");
        let deadline = Instant::now() + PATIENCE;
        while running.restarts() < 5 {
            assert!(Instant::now() < deadline, "{} restarts", running.restarts());
            running.work().await;
        }
        assert_eq!(running.digest().await, expected);
    });
}

/// It asks, and nobody asks it: without it the run goes on, and once it is back there are figures again.
#[test]
fn telemetry_that_is_killed_comes_back_and_changes_nothing() {
    let expected = expected();
    block_on(async {
        let mut running = Running::start(&[("telemetry.progress_ms", "10")]).await;
        for kills in 1..=3 {
            let sample = tokio::time::timeout(PATIENCE, running.node.samples.recv()).await;
            assert!(sample.is_ok_and(|sample| sample.is_some()), "no figures after {kills} kills");
            running.node.statistics.kill("telemetry").unwrap();
            let deadline = Instant::now() + PATIENCE;
            let restarts = |running: &Running| {
                running.node.statistics.restarts_by_child().get("telemetry").copied().unwrap_or(0)
            };
            while restarts(&running) < kills {
                assert!(Instant::now() < deadline, "it does not come back");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            while running.node.samples.try_recv().is_ok() {}
        }
        let sample = tokio::time::timeout(PATIENCE, running.node.samples.recv()).await;
        assert!(sample.is_ok_and(|sample| sample.is_some()), "no figures any more");
        assert_eq!(running.digest().await, expected);
    });
}

/// Several shards, small credit, and any actor killed at any moment, also while it or its neighbour is
/// being restarted.
#[test]
fn kills_at_random_moments_change_nothing() {
    let expected = expected();
    for seed in 1..=8 {
        let mut chance: u64 = seed;
        let shards = [1, 2, 4][usize::try_from(draw(&mut chance) % 3).unwrap()];
        let credit = [256, 1_024, 8_192][usize::try_from(draw(&mut chance) % 3).unwrap()];
        let (shards_text, credit_text) = (shards.to_string(), credit.to_string());
        let more =
            [("pipeline.shards", shards_text.as_str()), ("stream.credit_ticks", &credit_text)];
        let mut roles: Vec<String> = ROLES.iter().map(|&role| role.to_owned()).collect();
        for shard in 1..shards {
            roles.extend([format!("factors/{shard}"), format!("strategy/{shard}")]);
        }
        block_on(async {
            let mut running = Running::start(&more).await;
            let mut killed = Vec::new();
            for _ in 0..30 {
                let pause = draw(&mut chance) % 12_000;
                tokio::time::sleep(Duration::from_micros(pause)).await;
                if running.is_finished() {
                    break;
                }
                let role = &roles[usize::try_from(draw(&mut chance) % roles.len() as u64).unwrap()];
                if let Some(actor) = running.node.directory.serving(role) {
                    actor.kill();
                    killed.push(role.clone());
                }
            }
            assert!(killed.len() >= 10, "seed {seed}: over after {} kills", killed.len());
            // Shown when the test fails, to be run again alone.
            println!("seed {seed}: {shards} shards, credit {credit}, killed {killed:?}");
            assert_eq!(running.digest().await, expected, "seed {seed}");
        });
    }
}

/// Asks `role` for its last checkpoint, as a node does that is to go on from there, and waits until that is
/// stored.
async fn hand_over(running: &Running, role: &str) {
    async fn asked<M: Message>(running: &Running, role: &str, ask: fn(RpcReplyPort<Key>) -> M) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(actor) = running.node.directory.serving(role) {
                let call = ActorRef::<M>::from(actor).call(ask, Some(PATIENCE)).await;
                if matches!(call, Ok(CallResult::Success(_))) {
                    return;
                }
            }
            assert!(Instant::now() < deadline, "{role} does not put its last checkpoint");
            running.work().await;
        }
    }
    match role.split('/').next().unwrap() {
        "ingester" => asked(running, role, |r| IngesterMessage::HandOver(Key::START, r)).await,
        "cleaner" => asked(running, role, |r| CleanerMessage::HandOver(Key::START, r)).await,
        "factors" => asked(running, role, |r| FactorsMessage::HandOver(Key::START, r)).await,
        "strategy" => asked(running, role, |r| StrategyMessage::HandOver(Key::START, r)).await,
        other => panic!("{other} does not move"),
    }
}

/// Whoever goes on from a last checkpoint has everything, whenever it was asked for.
#[test]
fn a_successor_goes_on_from_the_last_checkpoint_as_if_nothing_had_been() {
    let expected = expected();
    for seed in 1..=8 {
        let mut chance: u64 = seed;
        block_on(async {
            let mut running = Running::start(&[("pipeline.shards", "3")]).await;
            let mut roles = vec!["ingester/0".to_owned(), "cleaner/0".to_owned()];
            for shard in 0..3 {
                roles.extend([format!("factors/{shard}"), format!("strategy/{shard}")]);
            }
            while !roles.is_empty() && !running.is_finished() {
                let place = usize::try_from(draw(&mut chance) % roles.len() as u64).unwrap();
                let role = roles.remove(place);
                tokio::time::sleep(Duration::from_micros(draw(&mut chance) % 12_000)).await;
                hand_over(&running, &role).await;
                // It has worked on since then, as the node does whose unit was given away.
                tokio::time::sleep(Duration::from_micros(draw(&mut chance) % 3_000)).await;
                if let Some(actor) = running.node.directory.serving(&role) {
                    actor.kill();
                }
            }
            assert!(roles.len() <= 4, "seed {seed}: over with {roles:?} left");
            assert_eq!(running.digest().await, expected, "seed {seed}");
        });
    }
}

/// A message that makes the actor of `role` return an `Err`.
fn make_err(running: &Running, role: &str) {
    let damaged = || (0, Some(vec![1, 2, 3]));
    let stored = || (Key::START, Err(StoreError::InUse("of a test".into())));
    match role {
        "ingester/0" => running.tell(role, IngesterMessage::Stored(stored())),
        "cleaner/0" => running.tell(role, CleanerMessage::Stored(stored())),
        "factors/0" => running.tell(role, FactorsMessage::Stored(stored())),
        "strategy/0" => running.tell(role, StrategyMessage::Stored(stored())),
        "risk" => running.tell(role, RiskMessage::Stored(stored())),
        "router" => running.tell(role, RouterMessage::Restore(damaged().0, damaged().1)),
        "broker/0" | "broker/1" => {
            running.tell(role, BrokerMessage::Restore(damaged().0, damaged().1));
        }
        "positions" => running.tell(role, PositionsMessage::Restore(damaged().0, damaged().1)),
        other => panic!("no such role: {other}"),
    }
}

#[test]
fn an_err_of_any_actor_in_mid_run_changes_nothing() {
    let expected = expected();
    block_on(async {
        let mut running = Running::start(&[]).await;
        for role in ROLES {
            running.work().await;
            assert!(!running.is_finished(), "the run was over before {role}");
            let before = running.restarts();
            make_err(&running, role);
            let deadline = Instant::now() + PATIENCE;
            while running.restarts() == before {
                assert!(Instant::now() < deadline, "{role} was not restarted");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        assert_eq!(running.digest().await, expected);
    });
}

#[test]
fn a_pre_start_that_fails_some_times_is_tried_again() {
    let expected = expected();
    block_on(async {
        let mut running = Running::start(&[]).await;
        running.work().await;
        assert!(!running.is_finished());
        running.failures.store(3, Ordering::Relaxed);
        running.node.directory.serving("ingester/0").unwrap().kill();
        let deadline = Instant::now() + PATIENCE;
        while running.failures.load(Ordering::Relaxed) > 0 {
            assert!(Instant::now() < deadline, "the ingester was not started again");
            running.work().await;
        }
        let failures = running.node.statistics.failures();
        assert!(failures.iter().any(|failure| failure.contains("not now")), "{failures:?}");
        assert_eq!(running.digest().await, expected);
    });
}

#[test]
fn a_damaged_checkpoint_keeps_a_stage_from_starting_until_it_is_gone() {
    let expected = expected();
    block_on(async {
        for role in ["cleaner/0", "factors/0", "strategy/0", "risk"] {
            let mut running = Running::start(&[]).await;
            running.work().await;
            assert!(!running.is_finished());
            let tree = format!("checkpoint/{role}");
            // The last key of all, so that it is the newest.
            let key = vec![0xff; 18];
            running.store.put_and_wait(&tree, key.clone(), vec![1, 2, 3]).unwrap();
            running.node.directory.serving(role).unwrap().kill();
            let deadline = Instant::now() + PATIENCE;
            loop {
                let failures = running.node.statistics.failures();
                if failures.iter().any(|failure| failure.contains(&tree)) {
                    break;
                }
                assert!(Instant::now() < deadline, "{role} started: {failures:?}");
                running.work().await;
            }
            running.store.remove(&tree, vec![key]);
            assert_eq!(running.digest().await, expected, "{role}");
        }
    });
}

#[test]
fn what_can_never_go_on_ends_the_tree_with_its_reason() {
    block_on(async {
        let few = [("supervision.restarts_max", "2"), ("supervision.node.restarts_max", "2")];
        let mut running = Running::start(&few).await;
        running.work().await;
        assert!(!running.is_finished());
        running.failures.store(u64::MAX, Ordering::Relaxed);
        running.node.directory.serving("ingester/0").unwrap().kill();
        let ended = running.node.supervisor.get_cell();
        let waited = tokio::time::timeout(PATIENCE, ended.wait(None)).await;
        assert!(waited.is_ok(), "the tree did not give up");
        let failures = running.node.statistics.failures();
        let last = failures.last().unwrap();
        assert!(last.contains("`node` gave up"), "{failures:?}");
        assert!(failures.iter().any(|failure| failure.contains("not now")), "{failures:?}");
    });
}

#[test]
fn an_actor_that_panics_at_every_item_ends_the_run_or_gets_through_it() {
    let few = ["--set", "supervision.restarts_max=2", "--set", "supervision.node.restarts_max=2"];
    for actor in ["factors", "risk", "ingester"] {
        let scratch = Scratch::new();
        let chaos = format!("panic:{actor}@1");
        let arguments = [&["demo", "--ticks", "20000", "--chaos", &chaos][..], &few].concat();
        let ended = scratch.run(&arguments);
        if ended.code() == 0 {
            // Each time it had stored a checkpoint before the next panic: then it may go on for ever.
            let report = scratch.report();
            assert_eq!(report["lost_ticks"], 0, "{actor}");
            assert!(report["restarts"].as_u64() > Some(2), "{actor}");
            continue;
        }
        let message = ended.refused();
        assert!(message.contains("gave up"), "{message}");
        assert!(message.contains(actor), "{message}");
    }
}
