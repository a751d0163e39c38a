//! Parameters changed while the pipeline runs: the same change at the same event time gives the same
//! orders, whatever happens on the way.

#![allow(clippy::unwrap_used, reason = "what fails to start is a failure")]

use std::time::Duration;

use tickwright::ingester::OpenSource;
use tickwright::kit::{Chaos, Clock, Store};
use tickwright::node::{self, ChangeError, Node, NodeArguments, NodeSource};
use tickwright::source::simulated::SimulatedSource;
use tickwright_core::config::{Config, Kinds};
use tickwright_core::domain::Timestamp;

const PATIENCE: Duration = Duration::from_secs(60);

/// 2024-08-08 01:33:00: half-way through the simulated market below.
const HALF_WAY: Timestamp = Timestamp::from_nanos(1_723_080_780_000_000_000);

async fn start(settings: &str, panics: &[(&str, u64)], store: Store) -> Node {
    let text = format!("simulator.ticks = 50000\njournal.enabled = false\n{settings}");
    let config = Config::parse(&text, "test.toml").unwrap();
    let (market, seed) = (config.simulator(), config.pipeline.seed);
    let open: OpenSource =
        std::sync::Arc::new(move || Ok(Box::new(SimulatedSource::new(market.clone(), seed))));
    let panic = |&(actor, every): &(&str, u64)| (actor.to_owned(), actor.to_owned(), every);
    if !panics.is_empty() {
        Chaos::quieten_panics();
    }
    let arguments = NodeArguments {
        config,
        kinds: Kinds::default(),
        sources: vec![NodeSource::Readable(open)],
        store,
        chaos: Chaos::new(panics.iter().map(panic).collect()),
        clock: Clock::system(),
    };
    node::start(arguments).await.unwrap()
}

/// The digest, and how often something was restarted.
async fn finish(mut node: Node) -> (String, u64) {
    tokio::time::timeout(PATIENCE, node.finished.recv()).await.unwrap().unwrap();
    let report = node.report(PATIENCE).await.unwrap();
    let _ = node.supervisor.stop_and_wait(None, Some(PATIENCE)).await;
    (report.positions.positions.digest().to_string(), node.statistics.restarts())
}

/// Runs with the width of the bands changed half-way.
async fn changed(settings: &str, panics: &[(&str, u64)]) -> (String, u64) {
    let node = start(settings, panics, Store::in_memory()).await;
    let width = [("width".to_owned(), 2.5)];
    let at = node.set_parameters(0, &width, Some(HALF_WAY), PATIENCE).await.unwrap();
    assert_eq!(at, HALF_WAY);
    finish(node).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_gives_the_same_orders_whatever_the_batches_shards_and_restarts() {
    let (unchanged, _) = finish(start("", &[], Store::in_memory()).await).await;
    let (expected, _) = changed("", &[]).await;
    assert_ne!(expected, unchanged);
    for settings in ["pipeline.batch_ticks = 16", "pipeline.shards = 4"] {
        assert_eq!(changed(settings, &[]).await.0, expected, "{settings}");
    }
    let panics = [("strategy", 150), ("factors", 9_000), ("risk", 400)];
    let (digest, restarts) = changed("pipeline.shards = 2", &panics).await;
    assert!(restarts > 3, "{restarts} restarts");
    assert_eq!(digest, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_made_again_by_a_node_that_finds_it_in_its_store() {
    let (expected, _) = changed("", &[]).await;
    let store = Store::in_memory();
    let node = start("", &[], store.clone()).await;
    let width = [("width".to_owned(), 2.5)];
    node.set_parameters(0, &width, Some(HALF_WAY), PATIENCE).await.unwrap();
    let _ = node.supervisor.stop_and_wait(None, Some(PATIENCE)).await;
    assert_eq!(finish(start("", &[], store).await).await.0, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_changed_is_refused_and_the_run_goes_on() {
    let (unchanged, _) = finish(start("", &[], Store::in_memory()).await).await;
    let mut node = start("", &[], Store::in_memory()).await;
    for (strategy, name, value) in [(9, "width", 2.5), (0, "widht", 2.5), (0, "period", 30.0)] {
        let parameters = [(name.to_owned(), value)];
        let refused = node.set_parameters(strategy, &parameters, None, PATIENCE).await;
        assert!(matches!(refused, Err(ChangeError::Strategy(_))), "{refused:?}");
    }
    tokio::time::timeout(PATIENCE, node.finished.recv()).await.unwrap().unwrap();
    let width = [("width".to_owned(), 2.5)];
    let refused = node.set_parameters(0, &width, None, PATIENCE).await;
    assert!(matches!(refused, Err(ChangeError::Over)), "{refused:?}");
    let report = node.report(PATIENCE).await.unwrap();
    assert_eq!(report.positions.positions.digest().to_string(), unchanged);
}
