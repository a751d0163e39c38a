//! Two nodes in one process; the log of one is kept by the other too.

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::super::tests::{Side, two};
use super::*;
use crate::kit::append_to_log;

const UNIT: Unit = Unit::Source(0);
const TREE: &str = "journal/0";

type Stored = oneshot::Receiver<Result<(), StoreError>>;

fn log_of(side: &Side, epoch: u64) -> LogOutlet {
    side.copies.log(UNIT, epoch, TREE.into()).unwrap()
}

fn append(side: &Side, log: &LogOutlet, key: u64) -> Stored {
    let (sender, stored) = oneshot::channel();
    let done: Done = Box::new(move |result| drop(sender.send(result)));
    append_to_log(&side.store, Some(log), TREE, key, vec![key.to_le_bytes()[0]; 100], done);
    stored
}

fn begin(log: &LogOutlet) -> Stored {
    let (sender, begun) = oneshot::channel();
    log.send(LogCopy::Begin(Box::new(move |result| drop(sender.send(result))))).unwrap();
    begun
}

async fn soon(stored: Stored) {
    timeout(Duration::from_secs(20), stored).await.unwrap().unwrap().unwrap();
}

async fn never(stored: Stored) {
    assert!(timeout(Duration::from_millis(200), stored).await.is_err());
}

fn keys(side: &Side) -> Vec<u64> {
    let keys = side.store.keys(TREE).unwrap().into_iter();
    keys.map(|key| u64::from_be_bytes(key.try_into().unwrap())).collect()
}

#[tokio::test]
async fn what_is_stored_is_on_the_other_node_too() {
    let [a, b] = two(2).await;
    // From an earlier life of a.
    a.store.put_and_wait(TREE, 1u64.to_be_bytes().to_vec(), vec![1]).unwrap();
    let log = log_of(&a, 1);
    soon(begin(&log)).await;
    assert_eq!(keys(&b), [1]);
    for key in 2..40 {
        soon(append(&a, &log, key)).await;
        assert!(keys(&b).contains(&key), "{key}");
    }
    assert_eq!(keys(&b), (1..40).collect::<Vec<_>>());
    log.send(LogCopy::Trim(30)).unwrap();
    soon(append(&a, &log, 40)).await;
    assert_eq!(keys(&b), (30..=40).collect::<Vec<_>>());
    let status = a.copies.logs().remove(TREE).unwrap();
    assert_eq!((status.copies.len(), status.wanted, status.waits_for), (1, 1, None));
}

#[tokio::test]
async fn what_a_node_kept_long_ago_leaves_no_hole() {
    let [a, b] = two(2).await;
    for key in 1..4u64 {
        b.store.put_and_wait(TREE, key.to_be_bytes().to_vec(), vec![9]).unwrap();
    }
    a.store.put_and_wait(TREE, 100u64.to_be_bytes().to_vec(), vec![1]).unwrap();
    let log = log_of(&a, 1);
    soon(begin(&log)).await;
    assert_eq!(keys(&b), [100]);
}

/// What b took from a must be there for b when it goes on, and a must not be heard any more.
#[tokio::test]
async fn a_successor_brings_the_log_home_and_its_predecessor_is_refused() {
    let [a, b] = two(2).await;
    let first = log_of(&a, 1);
    for key in 1..10 {
        soon(append(&a, &first, key)).await;
    }
    // b has lost its disk meanwhile.
    b.store.clear().unwrap();
    b.copies.gather_log(UNIT, 2, TREE).await.unwrap();
    assert_eq!(keys(&b), (1..10).collect::<Vec<_>>());
    // What a writes now is stored nowhere else, and nobody sees it.
    never(append(&a, &first, 10)).await;
    let second = log_of(&b, 2);
    soon(append(&b, &second, 10)).await;
    soon(append(&b, &second, 11)).await;
    // b's records have taken the place of a's.
    assert_eq!(a.store.get(TREE, &10u64.to_be_bytes()).unwrap(), Some(vec![10; 100]));
    assert_eq!(keys(&a), (1..12).collect::<Vec<_>>());
    assert!(b.copies.gather_log(UNIT, 3, TREE).await.is_ok());
    assert!(a.copies.gather_log(UNIT, 2, TREE).await.unwrap_err().contains("a later owner"));
}

#[tokio::test]
async fn records_that_another_owner_wrote_are_replaced() {
    let [a, b] = two(2).await;
    let first = log_of(&a, 1);
    soon(append(&a, &first, 1)).await;
    soon(append(&a, &first, 2)).await;
    // What a has alone: it was cut off, and b went on without it.
    let lineage = super::super::kept::lineage(&a.store, TREE);
    drop(first);
    for key in 3..6u64 {
        a.store.put_and_wait(TREE, key.to_be_bytes().to_vec(), vec![99]).unwrap();
    }
    assert!(lineage.is_of(1, a.end.network.own().incarnation));
    let mut later = lineage.clone();
    let life = b.end.network.own().incarnation;
    later.begin(Stretch { epoch: 2, life, start: 3 });
    super::super::kept::put_lineage(&b.store, TREE, &later);
    b.store.put_and_wait(TREE, 3u64.to_be_bytes().to_vec(), vec![3]).unwrap();
    a.copies.gather_log(UNIT, 3, TREE).await.unwrap();
    assert_eq!(keys(&a), [1, 2, 3]);
    assert_eq!(a.store.get(TREE, &3u64.to_be_bytes()).unwrap(), Some(vec![3]));
}

#[tokio::test]
async fn while_a_node_is_away_nothing_passes_without_most() {
    let [a, b] = two(2).await;
    let log = log_of(&a, 1);
    soon(append(&a, &log, 1)).await;
    let peer = b.end.network.own().clone();
    a.end.network.fence(&peer);
    let waiting = append(&a, &log, 2);
    let waiting = {
        let mut waiting = waiting;
        assert!(timeout(Duration::from_millis(200), &mut waiting).await.is_err());
        waiting
    };
    let status = a.copies.logs().remove(TREE).unwrap();
    assert_eq!(status.waits_for, Some("most members are out of reach"));
    // b has left for good.
    a.end.network.on_member(&peer.id, tickwright_core::cluster::Status::Left, &[]);
    soon(waiting).await;
    assert_eq!(a.copies.logs()[TREE].copies, []);
}

/// Who cannot keep copies is named and does without, and whoever appends goes on.
#[tokio::test]
async fn a_node_that_refuses_holds_nobody_up() {
    let [a, b] = two(2).await;
    let log = a.copies.log(UNIT, 1, "checkpoint/risk".into()).unwrap();
    soon(begin(&log)).await;
    soon(append(&a, &log, 1)).await;
    assert_eq!(a.copies.logs()["checkpoint/risk"].copies, []);
    assert_eq!(b.store.keys("checkpoint/risk").unwrap(), Vec::<Vec<u8>>::new(), "that is no log");
}
