//! Two nodes in one process, joined by their gateways; each keeps copies for the other.

use std::time::Duration;

use tickwright_core::cluster::Status;
use tokio::time::timeout;

use super::*;
use crate::cluster::network::tests::{End, pair};
use crate::kit::Done;

const UNIT: Unit = Unit::Shard(3);
const TREE: &str = "checkpoint/factors/3";

pub(super) struct Side {
    pub(super) end: End,
    pub(super) store: Store,
    pub(super) copies: Copies,
}

pub(super) async fn two(replicas: usize) -> [Side; 2] {
    let side = |end: End| {
        let store = Store::in_memory();
        let copies = Copies::start(end.network.clone(), store.clone(), replicas);
        Side { end, store, copies }
    };
    let (a, b) = pair().await;
    let (a, b) = (side(a), side(b));
    a.end.network.on_member(&b.end.network.own().id, Status::Up, &b.end.network.services());
    b.end.network.on_member(&a.end.network.own().id, Status::Up, &a.end.network.services());
    [a, b]
}

/// Stores a checkpoint as a stage does, and waits until it counts as stored. Returns whether it ever will.
async fn put(side: &Side, epoch: u64, key: u8, kept: &[u8]) -> bool {
    side.store.put_and_wait(TREE, vec![key], vec![key, key]).unwrap();
    let copy = CheckpointCopy {
        tree: TREE.into(),
        key: vec![key],
        value: vec![key, key],
        kept: kept.iter().map(|&key| vec![key]).collect(),
    };
    let (sender, stored) = oneshot::channel();
    let done: Done = Box::new(move |result| drop(sender.send(result)));
    side.copies.outlet(UNIT, epoch).unwrap().send((copy, done)).unwrap();
    timeout(Duration::from_secs(10), stored).await.unwrap().is_ok_and(|result| result.is_ok())
}

fn keys(side: &Side) -> Vec<u8> {
    side.store.keys(TREE).unwrap().into_iter().map(|key| key[0]).collect()
}

#[tokio::test]
async fn another_node_keeps_what_is_needed_and_no_more() {
    let [a, b] = two(2).await;
    // There already when the other node came: it follows with the next.
    a.store.put_and_wait(TREE, vec![1], vec![1, 1]).unwrap();
    assert!(put(&a, 1, 2, &[1]).await);
    assert_eq!(keys(&b), [1, 2]);
    assert!(put(&a, 1, 3, &[2]).await);
    assert_eq!(keys(&b), [2, 3]);
    assert_eq!(b.store.get(TREE, &[3]).unwrap(), Some(vec![3, 3]));
    assert_eq!(a.copies.short(), 0);
}

#[tokio::test]
async fn whoever_takes_a_unit_over_finds_its_checkpoints() {
    let [a, b] = two(2).await;
    b.store.put_and_wait(TREE, vec![4], vec![4]).unwrap();
    b.store.put_and_wait(TREE, vec![5], vec![5]).unwrap();
    a.store.put_and_wait(TREE, vec![5], vec![9]).unwrap();
    a.copies.gather(vec![(UNIT, 2)], vec![TREE.into()]).await;
    assert_eq!(keys(&a), [4, 5]);
    assert_eq!(a.store.get(TREE, &[5]).unwrap(), Some(vec![9]), "what is here is not fetched");
}

/// A node that slept must not remove what its successor goes on from, nor call stable what that does not
/// find.
#[tokio::test]
async fn an_older_owner_is_refused() {
    let [a, b] = two(2).await;
    assert!(put(&a, 1, 1, &[]).await);
    // The unit has moved to b, which goes on from there, and of which a has not heard.
    assert!(b.copies.0.admits(UNIT, 2));
    assert!(!put(&a, 1, 7, &[6]).await);
    assert_eq!(keys(&b), [1]);
    b.copies.gather(vec![(UNIT, 2)], vec![TREE.into()]).await;
    assert!(!put(&a, 1, 8, &[7]).await, "a knows it itself");
    assert_eq!(a.copies.short(), 0);
    // What b heard is known to its next life too.
    let again = Copies::start(b.end.network.clone(), b.store.clone(), 2);
    assert!(!again.0.admits(UNIT, 1) && again.0.admits(UNIT, 2));
}

#[tokio::test]
async fn a_node_alone_keeps_its_checkpoints_alone() {
    let (a, _b) = pair().await;
    let store = Store::in_memory();
    let copies = Copies::start(a.network.clone(), store.clone(), 2);
    let alone = Side { end: a, store, copies };
    assert!(put(&alone, 1, 1, &[]).await);
    assert_eq!(alone.copies.short(), 1);
    let one = Copies::start(alone.end.network.clone(), Store::in_memory(), 1);
    assert!(one.outlet(UNIT, 1).is_none());
}
