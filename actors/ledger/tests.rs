//! Several copies in one process, joined without a network, and cut off from each other at will.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use tempfile::TempDir;
use tickwright_core::domain::Span;
use tickwright_core::ledger::{Event, Operation, Outcome, Refusal};
use tokio::time::{Instant, sleep};

use super::*;

/// Nothing here may take longer. Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// For what is to fail.
const SHORT: Duration = Duration::from_millis(700);

#[derive(Default)]
struct World {
    copies: Mutex<BTreeMap<NodeId, LedgerCopy>>,
    cut_off: Mutex<BTreeSet<NodeId>>,
    /// To whom no answer of a leader comes back, though the copies write to each other.
    unanswered: Mutex<BTreeSet<NodeId>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One node's way to the others.
struct Way {
    world: Arc<World>,
    own: NodeId,
}

impl Peers for Way {
    fn ask<'p>(
        &'p self,
        node: &'p NodeId,
        kind: &'static str,
        body: &'p [u8],
        patience: Duration,
    ) -> Asked<'p> {
        Box::pin(async move {
            let lost = || PeerError("cut off".into());
            let is_cut = || {
                let cut_off = lock(&self.world.cut_off);
                cut_off.contains(node) || cut_off.contains(&self.own)
            };
            let copy = lock(&self.world.copies).get(node).cloned().ok_or_else(lost)?;
            if is_cut() {
                sleep(patience).await;
                return Err(lost());
            }
            let answer = tokio::time::timeout(patience, copy.serve(kind, body, patience)).await;
            let is_unanswered =
                kind == KIND_LEDGER && lock(&self.world.unanswered).contains(&self.own);
            if is_cut() || is_unanswered {
                return Err(lost());
            }
            answer.map_err(|_| lost())?.map_err(PeerError)
        })
    }

    fn linked(&self) -> Vec<NodeId> {
        let cut_off = lock(&self.world.cut_off);
        if cut_off.contains(&self.own) {
            return Vec::new();
        }
        let copies = lock(&self.world.copies);
        copies.keys().filter(|id| **id != self.own && !cut_off.contains(*id)).cloned().collect()
    }
}

struct Node {
    id: NodeId,
    world: Arc<World>,
    directory: TempDir,
    service: Option<LedgerService>,
    events: tokio::sync::mpsc::UnboundedReceiver<LedgerEvent>,
}

impl Node {
    async fn start(world: &Arc<World>, name: &str, founds: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (_, events) = Outlet::to_channel();
        let (id, world) = (name.into(), Arc::clone(world));
        let mut node = Self { id, world, directory, service: None, events };
        node.begin(1, founds).await;
        node
    }

    /// Begins a life.
    async fn begin(&mut self, incarnation: u64, founds: bool) {
        let incarnation = Incarnation(incarnation);
        let since = Instant::now();
        let copy = loop {
            // The life before may not have let go of the file yet.
            match LedgerCopy::open(&self.directory.path().join("ledger"), &self.id, incarnation) {
                Ok(copy) => break copy,
                Err(error) => assert!(since.elapsed() < PATIENCE, "{error}"),
            }
            sleep(Duration::from_millis(20)).await;
        };
        lock(&self.world.copies).insert(self.id.clone(), copy.clone());
        let settings = LedgerSettings {
            cluster: "test".into(),
            node: self.id.clone(),
            incarnation,
            timings: Timings::from_heartbeat(Span::from_millis(300)),
            priority: 0,
            is_witness: false,
            voters: None,
        };
        let way = Arc::new(Way { world: Arc::clone(&self.world), own: self.id.clone() });
        let (events, received) = Outlet::to_channel();
        self.events = received;
        self.service =
            Some(copy.start(settings, way, founds.then(Vec::new), events).await.unwrap());
    }

    async fn stop(&mut self) {
        if let Some(service) = self.service.take() {
            service.leave(PATIENCE).await;
        }
        lock(&self.world.copies).remove(&self.id);
    }

    fn client(&self) -> LedgerClient {
        self.service.as_ref().unwrap().client()
    }

    async fn comes_to(&self, what: &str, holds: impl Fn(&LedgerView) -> bool) {
        let since = Instant::now();
        while !holds(&self.client().view()) {
            let view = self.client().view();
            assert!(since.elapsed() < PATIENCE, "{}: {what}: {view:?}", self.id);
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn cas(&self, key: &str, expected: u64, value: &str) -> Result<Outcome, LedgerError> {
        let value = Some(value.as_bytes().to_vec());
        let operation = Operation::Cas { key: key.into(), expected, value };
        self.client().submit(operation, PATIENCE).await
    }

    async fn read(&self, key: &str) -> Option<String> {
        let value = |ledger: &tickwright_core::ledger::Ledger| {
            ledger.read(key).map(|register| String::from_utf8(register.value.clone()).unwrap())
        };
        self.client().read(PATIENCE, value).await.unwrap()
    }
}

fn version(outcome: Result<Outcome, LedgerError>) -> u64 {
    match outcome {
        Ok(Outcome::Written { version }) => version,
        other => panic!("{other:?}"),
    }
}

/// Nodes a, b and c, all of which vote.
async fn three() -> (Arc<World>, Vec<Node>) {
    let world = Arc::new(World::default());
    let mut nodes = vec![Node::start(&world, "a", true).await];
    nodes[0].comes_to("it leads", |view| view.has_quorum).await;
    for name in ["b", "c"] {
        nodes.push(Node::start(&world, name, false).await);
    }
    for node in &nodes {
        node.comes_to("three vote", |view| view.voters.len() == 3 && view.has_quorum).await;
    }
    (world, nodes)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_is_a_ledger_and_remembers_it() {
    let world = Arc::new(World::default());
    let mut node = Node::start(&world, "a", true).await;
    node.comes_to("it acts", |view| view.acts && view.term == 1).await;
    let written = version(node.cas("k", 0, "first").await);
    let conflict = Refusal::Conflict { expected: 0, version: written };
    assert_eq!(node.cas("k", 0, "second").await, Err(LedgerError::Refused(conflict)));
    assert_eq!(node.client().allocate("shard/1", Some("a".into()), PATIENCE).await, Ok(1));
    let ledger = node.client().view().ledger;
    node.stop().await;
    // Even if it is told to found one: it has one.
    node.begin(2, true).await;
    node.comes_to("it acts again", |view| view.acts && view.term == 2).await;
    assert_eq!(node.read("k").await.as_deref(), Some("first"));
    assert_eq!(node.client().view().ledger, ledger);
    let epoch = node.client().allocate("shard/1", Some("a".into()), PATIENCE).await;
    assert_eq!(epoch, Ok(2), "its second life is another owner");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_do_not_know_yet_that_they_are_in_it_are_not_let_vote() {
    let world = Arc::new(World::default());
    let mut nodes = vec![Node::start(&world, "a", true).await];
    nodes[0].comes_to("it leads", |view| view.has_quorum).await;
    let names = ["b", "c", "d", "e"];
    *lock(&world.unanswered) = names.into_iter().map(NodeId::from).collect();
    for name in names {
        nodes.push(Node::start(&world, name, false).await);
    }
    let kept = || {
        let metrics = nodes[0].client().0.raft.metrics();
        metrics.borrow().membership_config.membership().nodes().count()
    };
    let since = Instant::now();
    while kept() < 5 {
        assert!(since.elapsed() < PATIENCE, "{} copies are written to", kept());
        sleep(Duration::from_millis(20)).await;
    }
    // The leader looks forty times in the meantime at who may vote.
    let (mut held, since) = (0, Instant::now());
    while since.elapsed() < Duration::from_secs(3) {
        held = version(nodes[0].cas("k", held, "goes on").await);
        sleep(Duration::from_millis(20)).await;
    }
    lock(&world.unanswered).clear();
    for node in &nodes {
        node.comes_to("five vote", |view| view.voters.len() == 5 && view.has_quorum).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_node_writes_and_reads_and_all_hear_of_it() {
    let (_world, nodes) = three().await;
    let mut watch = nodes[2].client().watch("k");
    let first = version(nodes[1].cas("k", 0, "one").await);
    nodes[0].cas("other", 0, "x").await.unwrap();
    let second = version(nodes[2].cas("k", first, "two").await);
    for node in &nodes {
        assert_eq!(node.read("k").await.as_deref(), Some("two"));
    }
    for (version, value) in [(first, "one"), (second, "two")] {
        let value = Some(value.as_bytes().to_vec());
        let expected = Event::Register { key: "k".into(), version, value };
        assert_eq!(tokio::time::timeout(PATIENCE, watch.next()).await.unwrap(), Some(expected));
    }
    for node in &nodes {
        node.comes_to("the first by name coordinates", |view| view.coordinator == Some("a".into()))
            .await;
    }
    let refused = nodes[1].client().allocate("r", Some("b".into()), PATIENCE).await;
    assert_eq!(refused, Err(LedgerError::NotCoordinator(Some("a".into()))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_neither_answers_nor_acts_while_the_others_go_on() {
    let (world, nodes) = three().await;
    version(nodes[0].cas("k", 0, "before").await);
    let leader = nodes[0].client().leader().unwrap();
    let at = nodes.iter().position(|node| node.id == leader).unwrap();
    let (old, other) = (&nodes[at], &nodes[(at + 1) % 3]);
    lock(&world.cut_off).insert(leader.clone());
    let since = Instant::now();
    let held = other.client().read(PATIENCE, |ledger| ledger.read("k").unwrap().version).await;
    let held = held.unwrap();
    version(other.cas("k", held, "after").await);
    assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
    let stale = old.client().read(SHORT, |ledger| ledger.read("k").cloned()).await;
    assert!(matches!(stale, Err(LedgerError::Unavailable(_))), "{stale:?}");
    let value = Some(b"lost".to_vec());
    let operation = Operation::Cas { key: "k".into(), expected: held, value };
    let written = old.client().submit(operation, SHORT).await;
    assert!(
        matches!(written, Err(LedgerError::Unknown(_) | LedgerError::Unavailable(_))),
        "{written:?}"
    );
    old.comes_to("it knows that it has no quorum", |view| {
        !view.has_quorum && !view.acts && view.note.contains("refuses what needs agreement")
    })
    .await;
    other
        .comes_to("the session of the one that is cut off expires", |view| {
            view.coordinator.as_ref().is_some_and(|node| *node != leader)
        })
        .await;
    lock(&world.cut_off).clear();
    assert_eq!(old.read("k").await.as_deref(), Some("after"));
    old.comes_to("it is back", |view| view.has_quorum).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_was_cut_off_comes_back_to_the_leader_that_the_others_kept() {
    let (world, nodes) = three().await;
    let leader = nodes[0].client().leader().unwrap();
    let at = nodes.iter().position(|node| node.id != leader).unwrap();
    let led = nodes.iter().position(|node| node.id == leader).unwrap();
    let term = nodes[led].client().view().log_term;
    lock(&world.cut_off).insert(nodes[at].id.clone());
    nodes[at].comes_to("it knows that it has no quorum", |view| !view.has_quorum).await;
    // Many times as long as it would wait before it stood for election.
    sleep(Duration::from_secs(3)).await;
    assert_eq!(nodes[at].client().view().log_term, term, "it stood without a chance");
    version(nodes[led].cas("k", 0, "meanwhile").await);
    lock(&world.cut_off).clear();
    nodes[at].comes_to("it is back", |view| view.has_quorum).await;
    for node in &nodes {
        let view = node.client().view();
        assert_eq!((view.leader.as_ref(), view.log_term), (Some(&leader), term), "{}", node.id);
    }
    assert_eq!(nodes[at].read("k").await.as_deref(), Some("meanwhile"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_was_lost_is_replaced_and_what_was_meant_for_it_is_refused() {
    let (world, mut nodes) = three().await;
    version(nodes[0].cas("k", 0, "kept").await);
    let lost = nodes[2].client().0.mesh.own.replica;
    nodes[2].stop().await;
    nodes[2].directory = tempfile::tempdir().unwrap();
    nodes[2].begin(2, false).await;
    let new = nodes[2].client().0.mesh.own.replica;
    assert_ne!(lost, new);
    let message = peers::RaftMessage {
        ledger: nodes[0].client().0.mesh.own.ledger(),
        to: lost,
        call: peers::RaftCall::Vote(openraft::raft::VoteRequest::new(
            openraft::Vote::new(1_000, lost),
            None,
        )),
    };
    let copy = lock(&world.copies).get(&NodeId::from("c")).cloned().unwrap();
    let vote = copy.serve(KIND_RAFT, &peers::encode(&message), PATIENCE).await.unwrap_err();
    assert!(vote.contains("is lost"), "{vote}");
    let since = Instant::now();
    loop {
        let metrics = nodes[0].client().0.raft.metrics();
        let nodes: BTreeSet<u64> =
            metrics.borrow().membership_config.nodes().map(|(&replica, _)| replica).collect();
        let voters: BTreeSet<u64> = metrics.borrow().membership_config.voter_ids().collect();
        if voters.contains(&new) && !nodes.contains(&lost) {
            assert_eq!(voters.len(), 3);
            break;
        }
        assert!(since.elapsed() < PATIENCE, "{voters:?} {nodes:?}");
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(nodes[2].read("k").await.as_deref(), Some("kept"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_founds_a_second_ledger_where_there_is_one() {
    let (world, mut nodes) = three().await;
    version(nodes[1].cas("k", 0, "kept").await);
    nodes[0].stop().await;
    nodes[0].directory = tempfile::tempdir().unwrap();
    // As the first of all, when everything starts again and it alone has lost its disk.
    nodes[0].begin(2, true).await;
    nodes[0].comes_to("it joins", |view| view.has_quorum).await;
    assert_eq!(nodes[0].client().view().ledger, nodes[1].client().view().ledger);
    assert_eq!(nodes[0].read("k").await.as_deref(), Some("kept"));
    drop(world);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_with_one_voter_gives_way_to_one_with_more() {
    let (_world, nodes) = three().await;
    let alone = Arc::new(World::default());
    let mut stray = Node::start(&alone, "d", true).await;
    stray.comes_to("it founds", |view| view.has_quorum).await;
    for node in &nodes {
        let copy = lock(&node.world.copies).get(&node.id).cloned().unwrap();
        lock(&alone.copies).insert(node.id.clone(), copy);
    }
    let gives_way = async {
        loop {
            if let Some(LedgerEvent::GivesWay { reason }) = stray.events.recv().await {
                return reason;
            }
        }
    };
    let reason = tokio::time::timeout(PATIENCE, gives_way).await.unwrap();
    assert!(reason.contains("with 3 voters"), "{reason}");
    let kept = stray.directory.path().join("ledger");
    let copy = lock(&alone.copies).get(&stray.id).cloned().unwrap();
    let aside = copy.set_aside(&kept).unwrap();
    assert!(aside.join("ledger.redb").is_file() && !kept.is_dir());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_comes_late_gets_a_snapshot() {
    let world = Arc::new(World::default());
    let first = Node::start(&world, "a", true).await;
    first.comes_to("it leads", |view| view.has_quorum).await;
    let big = "x".repeat(60_000);
    for at in 0..30 {
        version(first.cas(&format!("big/{at}"), 0, &big).await);
    }
    let raft = &first.client().0.raft.clone();
    raft.trigger().snapshot().await.unwrap();
    let applied = raft.metrics().borrow().last_applied.unwrap().index;
    let since = Instant::now();
    while raft.metrics().borrow().snapshot.is_none_or(|snapshot| snapshot.index < applied) {
        assert!(since.elapsed() < PATIENCE);
        sleep(Duration::from_millis(20)).await;
    }
    raft.trigger().purge_log(applied).await.unwrap();
    while raft.metrics().borrow().purged.is_none_or(|purged| purged.index < applied) {
        assert!(since.elapsed() < PATIENCE);
        sleep(Duration::from_millis(20)).await;
    }
    let second = Node::start(&world, "b", false).await;
    assert_eq!(second.read("big/29").await, Some(big));
    let snapshot = second.client().0.raft.metrics().borrow().snapshot;
    assert!(snapshot.is_some(), "it came as one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_that_come_together_share_an_entry_of_the_log() {
    let world = Arc::new(World::default());
    let node = Node::start(&world, "a", true).await;
    node.comes_to("it leads", |view| view.has_quorum).await;
    let before = node.client().view();
    let keys: Vec<String> = (0..2_000).map(|at| format!("{at}")).collect();
    let writes = keys.iter().map(|key| node.cas(key, 0, "x"));
    for written in futures_util::future::join_all(writes).await {
        version(written);
    }
    let after = node.client().view();
    let commands = after.revision - before.revision;
    let entries = after.applied - before.applied;
    assert!(commands >= 2_000, "{commands}");
    assert!(entries < 200, "{commands} commands in {entries} entries");
}
