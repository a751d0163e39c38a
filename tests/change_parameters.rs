//! Parameters changed while the pipeline runs: the same change at the same event time gives the same
//! orders, whatever happens on the way.

#![allow(clippy::unwrap_used, reason = "what fails to start is a failure")]

mod gated;

use std::time::Duration;

use gated::{PATIENCE, finish, start};
use tickwright::kit::Store;
use tickwright::node::Node;
use tickwright::parameters::{ChangeError, Reason};
use tickwright_core::domain::Timestamp;

/// 2024-08-08 01:33:00: half-way through the simulated market below.
const HALF_WAY: Timestamp = Timestamp::from_nanos(1_723_080_780_000_000_000);
const EARLY: Timestamp = Timestamp::from_nanos(1_723_080_750_000_000_000);
const LATE: Timestamp = Timestamp::from_nanos(1_723_080_870_000_000_000);

async fn started(settings: &str, store: Store) -> Node {
    let (node, gate) = start(settings, &[], store).await;
    gate.open();
    node
}

/// A width, which the strategies alone look at, and periods, for which other factors are computed:
/// two changes at one time, and one later that undoes half of them.
const CHANGES: [(usize, &str, f64, Timestamp); 4] = [
    (0, "width", 2.5, EARLY),
    (0, "period", 30.0, HALF_WAY),
    (1, "fast", 5.0, HALF_WAY),
    (0, "period", 20.0, LATE),
];

async fn change(node: &Node, changes: &[(usize, &str, f64, Timestamp)]) {
    for &(strategy, name, value, at) in changes {
        let parameters = [(name.to_owned(), value)];
        let held = node.set_parameters(strategy, &parameters, Some(at), PATIENCE).await.unwrap();
        assert_eq!(held, at);
    }
}

/// Runs with the parameters changed on the way.
async fn changed(settings: &str, panics: &[(&str, u64)]) -> (String, u64) {
    let (node, gate) = start(settings, panics, Store::in_memory()).await;
    change(&node, &CHANGES).await;
    gate.open();
    finish(node).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_gives_the_same_orders_whatever_the_batches_shards_and_restarts() {
    let (unchanged, _) = finish(started("", Store::in_memory()).await).await;
    let (expected, _) = changed("", &[]).await;
    assert_ne!(expected, unchanged);
    for settings in [
        "pipeline.batch_ticks = 1",
        "pipeline.batch_ticks = 16",
        "pipeline.batch_ticks = 4096",
        "pipeline.shards = 4",
        "pipeline.batch_ticks = 4096\npipeline.shards = 4",
    ] {
        assert_eq!(changed(settings, &[]).await.0, expected, "{settings}");
    }
    let panics = [("strategy", 150), ("factors", 3_000), ("risk", 400)];
    for settings in ["", "pipeline.shards = 2"] {
        let (digest, restarts) = changed(settings, &panics).await;
        assert!(restarts > 3, "{restarts} restarts");
        assert_eq!(digest, expected, "{settings}");
    }
}

/// Each change by itself shows: none of them is hidden by another.
#[tokio::test(flavor = "multi_thread")]
async fn every_change_shows_in_the_orders() {
    let (expected, _) = changed("", &[]).await;
    for (left_out, change_left_out) in CHANGES.iter().enumerate() {
        let (node, gate) = start("", &[], Store::in_memory()).await;
        for (index, one) in CHANGES.iter().enumerate() {
            if index != left_out {
                change(&node, std::slice::from_ref(one)).await;
            }
        }
        gate.open();
        assert_ne!(finish(node).await.0, expected, "{change_left_out:?} is left out");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_made_again_by_a_node_that_finds_it_in_its_store() {
    let (expected, _) = changed("", &[]).await;
    let store = Store::in_memory();
    let (node, gate) = start("", &[], store.clone()).await;
    change(&node, &CHANGES).await;
    gate.open();
    let _ = node.supervisor.stop_and_wait(None, Some(PATIENCE)).await;
    assert_eq!(finish(started("", store).await).await.0, expected);
}

/// Checkpoints on both sides of a change hold the columns of their side.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_stopped_after_a_change_goes_on_with_the_columns_it_had() {
    let often = "stream.checkpoint_ticks = 500";
    let (expected, _) = changed(often, &[]).await;
    let store = Store::in_memory();
    let (node, gate) = start(often, &[], store.clone()).await;
    change(&node, &CHANGES).await;
    gate.open();
    tokio::time::timeout(PATIENCE, async {
        // Exec's checkpoint is what all go back to: it may be a credit's worth of rows behind the strategies.
        while node.report(PATIENCE).await.unwrap().risk.complete.frontier < HALF_WAY {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    let _ = node.supervisor.stop_and_wait(None, Some(PATIENCE)).await;
    let (node, gate) = start(often, &[], store).await;
    let past = [("width".to_owned(), 3.0)];
    let refused = node.set_parameters(0, &past, Some(EARLY), PATIENCE).await;
    assert!(matches!(refused, Err(ChangeError::Late { .. } | ChangeError::Over)), "{refused:?}");
    gate.open();
    assert_eq!(finish(node).await.0, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_changed_is_refused_and_the_run_goes_on() {
    let (unchanged, _) = finish(started("", Store::in_memory()).await).await;
    let (mut node, gate) = start("", &[], Store::in_memory()).await;
    for (strategy, name, value, problem) in [
        (9, "width", 2.5, "there is no strategy 9; there are 2, counted from 0"),
        (0, "widht", 2.5, "has no parameter `widht`"),
        (0, "period", 1.0, "parameter `period` is 1; it must be a whole number from 2 to 100000"),
        (1, "slow", 12.0, "parameter `fast` is 12; it must be less than `slow`"),
        (1, "window_s", 15.0, "the window of factor `ema(12)@15s` must be a multiple of 10000 ms"),
    ] {
        let parameters = [(name.to_owned(), value)];
        let refused = node.set_parameters(strategy, &parameters, None, PATIENCE).await;
        let message = refused.unwrap_err().to_string();
        assert!(message.contains(problem), "{message}");
    }
    gate.open();
    tokio::time::timeout(PATIENCE, node.finished.recv()).await.unwrap().unwrap();
    let width = [("width".to_owned(), 2.5)];
    let refused = node.set_parameters(0, &width, None, PATIENCE).await;
    assert!(matches!(refused, Err(ChangeError::Over)), "{refused:?}");
    let report = node.report(PATIENCE).await.unwrap();
    assert_eq!(report.positions.positions.digest().to_string(), unchanged);
}

/// As an optimiser does: everybody waits where it will adopt what it finds, until it has found it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_adopted_under_a_hold_holds_from_there_as_if_it_had_been_known_before() {
    let (name, value) = ("period".to_owned(), 30.0);
    let expected = {
        let (node, gate) = start("", &[], Store::in_memory()).await;
        change(&node, &[(0, "period", 30.0, HALF_WAY)]).await;
        gate.open();
        finish(node).await.0
    };
    let (node, gate) = start("pipeline.shards = 2", &[], Store::in_memory()).await;
    let parameters = node.parameters();
    let hold = parameters.hold(HALF_WAY, PATIENCE, PATIENCE).await.unwrap();
    let second = parameters.hold(LATE, PATIENCE, Duration::from_millis(50)).await;
    assert!(matches!(second, Err(ChangeError::Held(_))), "{second:?}");
    gate.open();
    // Rows come every few milliseconds of market time.
    let nearly = Timestamp::from_nanos(HALF_WAY.as_nanos() - 1_000_000_000);
    let position = async || node.report(PATIENCE).await.unwrap().risk.complete.frontier;
    tokio::time::timeout(PATIENCE, async {
        while position().await < nearly {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    hold.renew(PATIENCE).await.unwrap();
    assert!(position().await < HALF_WAY);
    let reason = Reason { by: "optimiser", why: "trial 17" };
    let from = hold.adopt(0, &[(name, value)], reason, PATIENCE).await.unwrap();
    assert_eq!(from, HALF_WAY);
    let (strategies, control) = parameters.get(PATIENCE).await.unwrap();
    assert!(strategies[0].1.contains(&("period".to_owned(), 30.0)), "{strategies:?}");
    assert_eq!(
        control.made().map(|(_, by, why)| (by, why)).last(),
        Some(("optimiser", "trial 17"))
    );
    assert!(position().await < HALF_WAY, "it is held still");
    hold.release();
    assert_eq!(finish(node).await.0, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_is_not_renewed_ends_and_the_run_goes_on_unchanged() {
    let (unchanged, _) = finish(started("", Store::in_memory()).await).await;
    let (node, gate) = start("", &[], Store::in_memory()).await;
    let hold = node.parameters().hold(EARLY, Duration::from_millis(50), PATIENCE).await.unwrap();
    gate.open();
    assert_eq!(finish(node).await.0, unchanged);
    assert!(matches!(hold.renew(PATIENCE).await, Err(ChangeError::Ended)));
}
