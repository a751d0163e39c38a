//! Locks: one suite for every back end, and what each does when it is hit.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod processes;
mod redis_server;

use std::sync::Arc;
use std::time::Duration;

use processes::{Node, until};
use redis_server::{RedisServer, is_there};
use serde_json::{Value, json};
use tempfile::TempDir;
use tickwright::ctl::{CtlTask, text};
use tickwright::kit::Outlet;
use tickwright::ledger::{Asked, LedgerCopy, LedgerService, LedgerSettings, PeerError, Peers};
use tickwright::locks::{
    FallbackLocks, LedgerLocks, LocalLocks, LockAsk, LockBackend, LockError, LockGrant,
    RedisAddress, RedisLocks, RedisSettings,
};
use tickwright_core::cluster::Timings;
use tickwright_core::domain::{
    Incarnation, LockEnd, LockEvent, LockMode, LockRefusal, NodeId, Span,
};
use tickwright_core::ledger::WhenAway;
use tokio::time::{Instant, timeout};

/// Nothing here may take longer. Generous: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// A time to live, or to wait, that does not end within a test.
const LONG: Duration = Duration::from_secs(600);

/// A wait that is in vain.
const SHORT: Duration = Duration::from_millis(200);

/// Nobody else is there.
struct Alone;

impl Peers for Alone {
    fn ask<'p>(&'p self, _: &'p NodeId, _: &'static str, _: &'p [u8], _: Duration) -> Asked<'p> {
        Box::pin(async { Err(PeerError("nobody is there".into())) })
    }

    fn linked(&self) -> Vec<NodeId> {
        Vec::new()
    }
}

/// A ledger with one voter, in this process.
struct OwnLedger {
    service: LedgerService,
    _directory: TempDir,
}

impl OwnLedger {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (node, incarnation) = (NodeId::from("a"), Incarnation(1));
        let copy = LedgerCopy::open(&directory.path().join("ledger"), &node, incarnation).unwrap();
        let settings = LedgerSettings {
            cluster: "test".into(),
            node,
            incarnation,
            timings: Timings::from_heartbeat(Span::from_millis(200)),
            priority: 0,
            is_witness: false,
            voters: None,
        };
        let (events, _) = Outlet::to_channel();
        let service =
            copy.start(settings, Arc::new(Alone), Some(Vec::new()), events).await.unwrap();
        let since = Instant::now();
        while service.client().session().is_none() {
            assert!(since.elapsed() < PATIENCE, "it gets no session");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Self { service, _directory: directory }
    }

    fn locks(&self) -> LedgerLocks {
        LedgerLocks::new(self.service.client(), PATIENCE)
    }
}

fn ask(owner: &str, key: &str) -> LockAsk {
    let (key, owner) = (key.to_owned(), owner.to_owned());
    LockAsk { key, owner, mode: LockMode::Write, ttl: LONG, wait: Duration::ZERO }
}

/// One back end under test; each test has keys of its own.
#[derive(Clone)]
struct Case(Arc<dyn LockBackend>);

type Told = Result<LockGrant, LockError>;

impl Case {
    async fn acquire(&self, ask: LockAsk) -> Told {
        timeout(PATIENCE, self.0.acquire(&ask)).await.expect("an answer in time")
    }

    async fn take(&self, owner: &str, key: &str) -> Told {
        self.acquire(ask(owner, key)).await
    }

    async fn read(&self, owner: &str, key: &str) -> Told {
        self.acquire(LockAsk { mode: LockMode::Read, ..ask(owner, key) }).await
    }

    async fn unlock(&self, owner: &str, key: &str, token: u64) -> Result<u32, LockError> {
        timeout(PATIENCE, self.0.unlock(key, owner, token)).await.expect("an answer in time")
    }

    /// Begins to wait, and returns once it has a place.
    async fn wait(&self, ask: LockAsk) -> tokio::task::JoinHandle<Told> {
        let case = self.clone();
        let (key, owner) = (ask.key.clone(), ask.owner.clone());
        let waiting = tokio::spawn(async move { case.acquire(ask).await });
        self.comes_to(&key, &format!("{owner} waits"), |waiters| waiters.contains(&owner)).await;
        waiting
    }

    /// Until those who wait for `key` are as they should be.
    async fn comes_to(&self, key: &str, what: &str, holds: impl Fn(&[String]) -> bool) {
        let since = Instant::now();
        loop {
            let waiters = self.waiters(key).await;
            if holds(&waiters) {
                return;
            }
            assert!(since.elapsed() < PATIENCE, "{key}: {what}: {waiters:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Until the time of so many locks is over in all.
    async fn comes_to_be_expired(&self, count: u64) {
        let since = Instant::now();
        loop {
            // A look makes what is over end.
            self.0.list().await.unwrap();
            let expiries = self.0.statistics().await.unwrap().expiries;
            if expiries == count {
                return;
            }
            assert!(since.elapsed() < PATIENCE, "{expiries} of {count} are over");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn waiters(&self, key: &str) -> Vec<String> {
        let locks = self.0.list().await.unwrap();
        let lock = locks.into_iter().find(|lock| lock.key == key);
        let waiters = lock.into_iter().flat_map(|lock| lock.waiters);
        waiters.map(|waiter| waiter.owner).collect()
    }
}

async fn ends(waiting: tokio::task::JoinHandle<Told>) -> Told {
    timeout(PATIENCE, waiting).await.expect("it ends in time").unwrap()
}

fn is_held(told: &Told) -> bool {
    matches!(told, Err(LockError::Refused(LockRefusal::Held { .. })))
}

fn is_timed_out(told: &Told) -> bool {
    matches!(told, Err(LockError::TimedOut { .. }))
}

fn is_not_held(told: &Result<u32, LockError>) -> bool {
    matches!(told, Err(LockError::Refused(LockRefusal::NotHeld { .. })))
}

/// What every back end must do.
async fn suite(backend: Arc<dyn LockBackend>) {
    let case = Case(backend);
    tries_and_gives_back(&case).await;
    takes_once_more(&case).await;
    reads_together(&case).await;
    waits_in_turn(&case).await;
    waits_in_vain(&case).await;
    ends_by_itself(&case).await;
    breaks_deadlocks(&case).await;
    excludes_under_load(&case).await;
    counts_and_tells(&case).await;
}

async fn tries_and_gives_back(case: &Case) {
    let grant = case.take("a", "try").await.unwrap();
    assert!(is_held(&case.take("b", "try").await));
    assert!(is_held(&case.read("b", "try").await));
    assert!(is_not_held(&case.unlock("b", "try", grant.token).await), "another owner");
    assert!(is_not_held(&case.unlock("a", "try", grant.token + 1).await), "another grant");
    let locks = case.0.list().await.unwrap();
    let lock = locks.iter().find(|lock| lock.key == "try").unwrap();
    assert_eq!((lock.mode, lock.holders.len()), (LockMode::Write, 1));
    assert_eq!((lock.holders[0].owner.as_str(), lock.holders[0].token), ("a", grant.token));
    assert_eq!(case.unlock("a", "try", grant.token).await, Ok(0));
    assert!(is_not_held(&case.unlock("a", "try", grant.token).await), "once");
    let next = case.take("b", "try").await.unwrap();
    assert!(next.token > grant.token, "tokens grow");
    case.unlock("b", "try", next.token).await.unwrap();
    assert!(case.0.list().await.unwrap().iter().all(|lock| lock.key != "try"), "it is free");
}

async fn takes_once_more(case: &Case) {
    let grant = case.take("a", "again").await.unwrap();
    let again = case.take("a", "again").await.unwrap();
    assert_eq!(again, LockGrant { token: grant.token, holds: 2 });
    assert_eq!(case.read("a", "again").await.unwrap().holds, 3, "whoever writes may read");
    for holds in [2, 1, 0] {
        assert!(is_held(&case.take("b", "again").await));
        assert_eq!(case.unlock("a", "again", grant.token).await, Ok(holds));
    }
    let read = case.read("a", "again").await.unwrap();
    let upgrade = case.take("a", "again").await;
    assert!(matches!(upgrade, Err(LockError::Refused(LockRefusal::Upgrade { .. }))), "{upgrade:?}");
    case.unlock("a", "again", read.token).await.unwrap();
}

async fn reads_together(case: &Case) {
    let (a, b) = (case.read("a", "read").await.unwrap(), case.read("b", "read").await.unwrap());
    let writer = case.wait(LockAsk { wait: LONG, ..ask("w", "read") }).await;
    assert!(is_held(&case.read("c", "read").await), "nobody overtakes a writer that waits");
    let reader = LockAsk { mode: LockMode::Read, wait: LONG, ..ask("c", "read") };
    let reader = case.wait(reader).await;
    case.unlock("a", "read", a.token).await.unwrap();
    case.unlock("b", "read", b.token).await.unwrap();
    let writes = ends(writer).await.unwrap();
    assert!(!reader.is_finished());
    case.unlock("w", "read", writes.token).await.unwrap();
    let reads = ends(reader).await.unwrap();
    assert!(reads.token > writes.token && writes.token > b.token);
    case.unlock("c", "read", reads.token).await.unwrap();
}

async fn waits_in_turn(case: &Case) {
    let mut held = ("a".to_owned(), case.take("a", "turn").await.unwrap().token);
    let mut waiting = Vec::new();
    for name in ["b", "c", "d"] {
        let waits = case.wait(LockAsk { wait: LONG, ..ask(name, "turn") }).await;
        waiting.push((name, waits));
    }
    assert_eq!(case.waiters("turn").await, ["b", "c", "d"]);
    for (name, waits) in waiting {
        case.unlock(&held.0, "turn", held.1).await.unwrap();
        let grant = ends(waits).await.unwrap();
        assert!(grant.token > held.1, "tokens grow in the order of the queue");
        held = (name.to_owned(), grant.token);
    }
    case.unlock(&held.0, "turn", held.1).await.unwrap();
}

async fn waits_in_vain(case: &Case) {
    let grant = case.take("a", "vain").await.unwrap();
    let told = case.acquire(LockAsk { wait: SHORT, ..ask("b", "vain") }).await;
    assert!(is_timed_out(&told), "{told:?}");
    case.comes_to("vain", "nobody waits any more", <[String]>::is_empty).await;
    case.unlock("a", "vain", grant.token).await.unwrap();
    let next = case.take("c", "vain").await.unwrap();
    case.unlock("c", "vain", next.token).await.unwrap();
}

async fn ends_by_itself(case: &Case) {
    let before = case.0.statistics().await.unwrap();
    let mut events = case.0.events();
    let mortal = case.acquire(LockAsk { ttl: SHORT, ..ask("a", "ttl") }).await.unwrap();
    timeout(PATIENCE, case.0.extend("ttl", "a", mortal.token, LONG)).await.unwrap().unwrap();
    let told = case.acquire(LockAsk { wait: SHORT * 2, ..ask("b", "ttl") }).await;
    assert!(is_timed_out(&told), "it was extended: {told:?}");
    case.0.extend("ttl", "a", mortal.token, SHORT).await.unwrap();
    let next = case.acquire(LockAsk { wait: LONG, ..ask("b", "ttl") }).await.unwrap();
    assert!(next.token > mortal.token);
    assert!(is_not_held(&case.unlock("a", "ttl", mortal.token).await), "it is over");
    let late = case.0.extend("ttl", "a", mortal.token, LONG).await;
    assert!(matches!(late, Err(LockError::Refused(LockRefusal::NotHeld { .. }))), "{late:?}");
    case.unlock("b", "ttl", next.token).await.unwrap();
    let expired = LockEnd::Expired;
    timeout(PATIENCE, async {
        loop {
            let event = events.recv().await.unwrap();
            if matches!(&event, LockEvent::Released { token, end, .. } if (*token, *end) == (mortal.token, expired))
            {
                break;
            }
        }
    })
    .await
    .expect("it is told that its time was over");
    // Nobody gives this one back, or asks for it.
    let left = case.acquire(LockAsk { ttl: SHORT, ..ask("a", "left") }).await.unwrap();
    case.comes_to_be_expired(before.expiries + 2).await;
    assert!(is_not_held(&case.unlock("a", "left", left.token).await));
    assert_eq!(
        case.0.statistics().await.unwrap().expiries,
        before.expiries + 2,
        "each counts once"
    );
}

async fn breaks_deadlocks(case: &Case) {
    let one = case.take("old", "d1").await.unwrap();
    let two = case.take("young", "d2").await.unwrap();
    let young = case.wait(LockAsk { wait: LONG, ..ask("young", "d1") }).await;
    // The older one closes the circle, and the younger one has to give way.
    let old = tokio::spawn({
        let case = case.clone();
        async move { case.acquire(LockAsk { wait: LONG, ..ask("old", "d2") }).await }
    });
    let told = ends(young).await;
    let Err(LockError::Refused(LockRefusal::Deadlock { cycle, .. })) = told else {
        panic!("{told:?}");
    };
    assert_eq!(cycle.len(), 2);
    assert!(!old.is_finished(), "the older one waits on");
    case.unlock("young", "d2", two.token).await.unwrap();
    let both = ends(old).await.unwrap();
    case.unlock("old", "d2", both.token).await.unwrap();
    case.unlock("old", "d1", one.token).await.unwrap();
}

/// Many at once: never two at work, nobody left out, and tokens grow.
async fn excludes_under_load(case: &Case) {
    let at_work = Arc::new(std::sync::Mutex::new((false, 0u64, 0u32)));
    let mut tasks = tokio::task::JoinSet::new();
    for who in 0..8 {
        let (case, at_work) = (case.clone(), Arc::clone(&at_work));
        tasks.spawn(async move {
            let owner = format!("load-{who}");
            for _ in 0..5 {
                let grant = case.acquire(LockAsk { wait: LONG, ..ask(&owner, "load") }).await;
                let token = grant.unwrap().token;
                {
                    let mut state = at_work.lock().unwrap();
                    assert!(!std::mem::replace(&mut state.0, true), "two at once");
                    assert!(token > state.1, "tokens grow");
                    (state.1, state.2) = (token, state.2 + 1);
                }
                tokio::task::yield_now().await;
                at_work.lock().unwrap().0 = false;
                case.unlock(&owner, "load", token).await.unwrap();
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!(at_work.lock().unwrap().2, 40);
}

async fn counts_and_tells(case: &Case) {
    let before = case.0.statistics().await.unwrap();
    assert!(before.deadlocks == 1 && before.timeouts >= 2 && before.reentries >= 2, "{before:?}");
    let mut events = case.0.events();
    let grant = case.take("a", "told").await.unwrap();
    case.unlock("a", "told", grant.token).await.unwrap();
    for expected in ["granted", "released"] {
        let since = Instant::now();
        loop {
            assert!(since.elapsed() < PATIENCE, "nobody says that it was {expected}");
            let event = timeout(PATIENCE, events.recv()).await.unwrap().unwrap();
            let is_ours = |key: &str, token: u64| key == "told" && token == grant.token;
            let said = if let LockEvent::Granted { key, token, .. } = &event {
                is_ours(key, *token).then_some("granted")
            } else if let LockEvent::Released { key, token, .. } = &event {
                is_ours(key, *token).then_some("released")
            } else {
                None
            };
            if let Some(said) = said {
                assert_eq!(said, expected);
                break;
            }
        }
    }
    let after = case.0.statistics().await.unwrap();
    assert_eq!(after.grants, before.grants + 1);
    assert_eq!(after.releases, before.releases + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn none_does_what_every_back_end_must() {
    suite(Arc::new(LocalLocks::new("a"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_does_what_every_back_end_must() {
    let ledger = OwnLedger::start().await;
    suite(Arc::new(ledger.locks())).await;
    ledger.service.leave(PATIENCE).await;
}

fn locks_of(node: &Node, call: &Value) -> Result<Value, String> {
    let task = CtlTask::Ask { role: format!("locks/{}", node.name), body: call.to_string() };
    node.ask(&task, None).map_err(|error| error.to_string())
}

fn acquire(node: &Node, owner: &str, key: &str) -> Result<Value, String> {
    locks_of(node, &json!({ "Acquire": { "key": key, "owner": owner, "ttl_ms": 600_000 } }))
}

fn holder(node: &Node, key: &str) -> Option<(String, String)> {
    let answer = node.ask(&CtlTask::Locks, None).ok()?;
    let lock = answer["locks"].as_array()?.iter().find(|lock| lock["key"] == key)?.clone();
    let holder = &lock["holders"][0];
    Some((holder["node"].as_str()?.to_owned(), holder["owner"].as_str()?.to_owned()))
}

#[test]
fn nodes_share_locks_through_the_loss_of_the_one_that_leads() {
    let sets = [("locks.backend", "ledger")];
    let mut nodes = cluster_with(&["a", "b", "c"], &sets);
    until("all vote", || {
        let status = nodes[0].status().unwrap_or_default();
        status["ledger"]["voters"].as_array().map(Vec::len) == Some(3)
    });
    let leader = {
        let mut found = None;
        until("somebody leads", || {
            let status = nodes[0].status().unwrap_or_default();
            found = nodes.iter().position(|node| status["ledger"]["leader"] == node.name.as_str());
            found.is_some()
        });
        found.unwrap()
    };
    let (other, third) = ((leader + 1) % 3, (leader + 2) % 3);
    let kept = acquire(&nodes[other], "s", "kept").unwrap()["token"].as_u64().unwrap();
    acquire(&nodes[leader], "s", "lost").unwrap();
    let refused = acquire(&nodes[third], "s", "kept").unwrap_err();
    assert!(refused.contains("lock kept is held by s@"), "{refused}");
    let answer = nodes[third].ask(&CtlTask::Locks, None).unwrap();
    let table = text(&CtlTask::Locks, &answer);
    assert!(table.contains("kept") && table.contains(&nodes[other].name), "{table}");

    nodes[leader].kill();
    // What the lost node had goes to others; what another had stays.
    let mut taken = None;
    until("the lost node's lock is free", || {
        taken = acquire(&nodes[third], "t", "lost").ok();
        taken.is_some()
    });
    assert!(taken.unwrap()["token"].as_u64().unwrap() > kept, "tokens grow");
    let node = nodes[other].name.clone();
    assert_eq!(holder(&nodes[third], "kept"), Some((node, "s".to_owned())));
    let unlock = json!({ "Unlock": { "key": "kept", "owner": "s", "token": kept } });
    assert_eq!(locks_of(&nodes[other], &unlock).unwrap()["holds"], 0);
    let events = locks_of(&nodes[third], &json!("Events")).unwrap();
    assert!(events.to_string().contains("session_ended"), "{events}");
}

fn cluster_with(names: &[&str], sets: &[(&str, &str)]) -> Vec<Node> {
    let mut nodes: Vec<Node> = names.iter().map(|name| Node::new(name)).collect();
    let seed = nodes[0].address();
    for node in &mut nodes {
        let all = [("cluster.seeds", seed.as_str())];
        for (key, value) in all.iter().chain(sets) {
            node.options.extend(["--set".to_owned(), format!("{key}={value}")]);
        }
        node.start();
    }
    for node in &mut nodes {
        node.is_member();
    }
    nodes
}

fn settings(servers: &[&RedisServer], node: &str) -> RedisSettings {
    let urls = servers.iter().map(|server| server.url()).collect();
    let address = RedisAddress { urls, password: None, patience: Duration::from_secs(2) };
    let (prefix, node) = ("tickwright:test:".to_owned(), node.to_owned());
    RedisSettings { address, prefix, node, life: 1 }
}

fn fallback(servers: &[&RedisServer], node: &str, when_away: WhenAway) -> Case {
    let look = Duration::from_millis(20);
    Case(Arc::new(FallbackLocks::new(settings(servers, node), when_away, look)))
}

impl Case {
    /// Until whoever keeps the locks is there, or is away.
    async fn comes_to_be(&self, there: bool) {
        let since = Instant::now();
        while self.0.trouble().is_none() != there {
            assert!(since.elapsed() < PATIENCE, "there: {there}: {:?}", self.0.trouble());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn is_away(told: &Told) -> bool {
    matches!(told, Err(LockError::Away(_)))
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_does_what_every_back_end_must() {
    if !is_there("locks in Redis, the suite of every back end") {
        return;
    }
    let server = RedisServer::start(&[]);
    suite(Arc::new(RedisLocks::new(settings(&[&server], "a")))).await;
    let left = server.say("KEYS tickwright:test:lock:*").unwrap();
    assert_eq!(left, "*0\r\n", "locks that are free are not remembered");
    // And with the way round that is there when Redis is not.
    suite(fallback(&[&server], "b", WhenAway::Refuse).0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_exclude_each_other_through_redis_and_so_do_two_lives_of_one() {
    if !is_there("locks of several nodes in Redis") {
        return;
    }
    let server = RedisServer::start(&[]);
    let a = Case(Arc::new(RedisLocks::new(settings(&[&server], "a"))));
    let b = Case(Arc::new(RedisLocks::new(settings(&[&server], "b"))));
    let again = RedisSettings { life: 2, ..settings(&[&server], "a") };
    let again = Case(Arc::new(RedisLocks::new(again)));
    let grant = a.take("s", "k").await.unwrap();
    assert!(is_held(&b.take("s", "k").await));
    assert!(is_held(&again.take("s", "k").await), "what an earlier life had is not its own");
    let locks = b.0.list().await.unwrap();
    assert_eq!(locks[0].holders[0].node, "a");
    let waiting = b.wait(LockAsk { wait: LONG, ..ask("s", "k") }).await;
    a.unlock("s", "k", grant.token).await.unwrap();
    assert!(ends(waiting).await.unwrap().token > grant.token);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_wants_a_password_gets_it_and_nobody_else_sees_it() {
    if !is_there("a Redis that wants a password") {
        return;
    }
    let server = RedisServer::start(&["--requirepass", "hunter2"]);
    let mut with = settings(&[&server], "a");
    let without = RedisLocks::new(with.clone());
    let refused = Case(Arc::new(without)).take("s", "k").await.unwrap_err();
    assert!(matches!(refused, LockError::Away(_)), "{refused}");
    with.address.password = Some("wrong-secret".into());
    let refused = Case(Arc::new(RedisLocks::new(with.clone()))).take("s", "k").await.unwrap_err();
    assert!(!refused.to_string().contains("wrong-secret"), "{refused}");
    with.address.password = Some("hunter2".into());
    Case(Arc::new(RedisLocks::new(with))).take("s", "k").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_killed_in_mid_lock_refuses_and_comes_back_empty_with_greater_tokens() {
    if !is_there("a Redis that is killed and comes back empty") {
        return;
    }
    let mut server = RedisServer::start(&[]);
    let case = fallback(&[&server], "a", WhenAway::Refuse);
    let before = case.take("a", "k").await.unwrap();
    let waiting = case.wait(LockAsk { wait: LONG, ..ask("b", "k") }).await;
    server.kill();
    let told = ends(waiting).await;
    assert!(matches!(told, Err(LockError::Away(_) | LockError::Unknown(_))), "{told:?}");
    case.comes_to_be(false).await;
    let refused = case.take("c", "other").await;
    assert!(is_away(&refused), "it fails closed: {refused:?}");
    server.start_again();
    case.comes_to_be(true).await;
    // It has lost everything, so another gets the lock; by the token it can be told who came later.
    let after = case.take("b", "k").await.unwrap();
    assert!(after.token > before.token, "{after:?} after {before:?}");
    assert!(is_not_held(&case.unlock("a", "k", before.token).await));
    case.unlock("b", "k", after.token).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_stands_still_is_not_waited_for() {
    if !is_there("a Redis that stands still") {
        return;
    }
    let server = RedisServer::start(&[]);
    let mut settings = settings(&[&server], "a");
    settings.address.patience = Duration::from_millis(300);
    let locks = FallbackLocks::new(settings, WhenAway::Refuse, Duration::from_millis(20));
    let case = Case(Arc::new(locks));
    case.take("a", "k").await.unwrap();
    server.signal("-STOP");
    let told = case.take("b", "other").await;
    assert!(matches!(told, Err(LockError::Away(_) | LockError::Unknown(_))), "{told:?}");
    server.signal("-CONT");
    case.comes_to_be(true).await;
    assert!(is_held(&case.take("b", "k").await));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_takes_over_in_mid_lock_is_found_and_knows_who_has_it() {
    if !is_there("a Redis that fails over") {
        return;
    }
    let (mut master, replica) = (RedisServer::start(&[]), RedisServer::start(&[]));
    replica.replicates(&master);
    // The replica first: it must be passed over while it is one.
    let case = fallback(&[&replica, &master], "a", WhenAway::Refuse);
    let grant = case.take("a", "k").await.unwrap();
    master.is_replicated();
    master.kill();
    case.comes_to_be(false).await;
    assert!(is_away(&case.take("b", "k").await));
    assert!(replica.say("REPLICAOF NO ONE").unwrap().contains("OK"));
    case.comes_to_be(true).await;
    assert!(is_held(&case.take("b", "k").await), "the lock has moved along");
    assert_eq!(case.unlock("a", "k", grant.token).await, Ok(0));
    assert!(case.take("b", "k").await.unwrap().token > grant.token);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_becomes_a_replica_is_left() {
    if !is_there("a Redis that is demoted") {
        return;
    }
    let (old, new) = (RedisServer::start(&[]), RedisServer::start(&[]));
    new.replicates(&old);
    let case = fallback(&[&old, &new], "a", WhenAway::Refuse);
    case.take("a", "k").await.unwrap();
    old.is_replicated();
    assert!(new.say("REPLICAOF NO ONE").unwrap().contains("OK"));
    old.replicates(&new);
    // A request may find it out before the look does.
    let since = Instant::now();
    loop {
        match case.take("b", "k").await {
            told if is_held(&told) => break,
            told => assert!(is_away(&told), "{told:?}"),
        }
        assert!(since.elapsed() < PATIENCE, "the new master is not found");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// As [`while_redis_is_away_each_node_decides_for_itself_if_it_is_told_to`], by what nodes are configured with.
#[test]
fn nodes_do_without_redis_as_their_configuration_says() {
    if !is_there("nodes whose locks Redis keeps, while it is away") {
        return;
    }
    let mut server = RedisServer::start(&[]);
    let urls = format!("[\"{}\"]", server.url());
    let sets = [
        ("locks.backend", "redis"),
        ("locks.redis_urls", urls.as_str()),
        ("locks.health_ms", "50"),
        ("locks.when_away", "static_owner_only"),
        ("locks.static_owner", "a"),
    ];
    let nodes = cluster_with(&["a", "b"], &sets);
    until("it answers for locks", || acquire(&nodes[0], "s", "shared").is_ok());
    until("the other does too", || acquire(&nodes[1], "s", "own").is_ok());
    let refused = acquire(&nodes[1], "s", "shared").unwrap_err();
    assert!(refused.contains("is held by s"), "{refused}");
    server.kill();
    until("only one node has locks", || {
        acquire(&nodes[1], "s", "kept").is_err_and(|error| error.contains("only node a has locks"))
    });
    let grant = |owner: &str| acquire(&nodes[0], owner, "kept");
    until("it has them without Redis", || grant("s").is_ok());
    let refused = grant("t").unwrap_err();
    assert!(refused.contains("is held by s"), "its owners exclude each other: {refused}");
    let shown = text(&CtlTask::Locks, &nodes[0].ask(&CtlTask::Locks, None).unwrap());
    assert!(shown.contains("kept"), "{shown}");
    server.start_again();
    until("both share again", || acquire(&nodes[1], "s", "back").is_ok());
    until("both share again", || acquire(&nodes[0], "s", "back").is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_away_each_node_decides_for_itself_if_it_is_told_to() {
    if !is_there("locks while Redis is away") {
        return;
    }
    let mut server = RedisServer::start(&[]);
    let (a, b) = (
        fallback(&[&server], "a", WhenAway::LocalOnly),
        fallback(&[&server], "b", WhenAway::LocalOnly),
    );
    let owner = WhenAway::StaticOwnerOnly("a".into());
    let (static_a, static_b) =
        (fallback(&[&server], "a", owner.clone()), fallback(&[&server], "b", owner));
    let of_redis = a.take("zero", "z").await.unwrap().token;
    server.kill();
    for case in [&a, &b, &static_a, &static_b] {
        case.comes_to_be(false).await;
    }
    let here = a.take("one", "k").await.unwrap();
    assert!(here.token > of_redis, "tokens grow on: {} after {of_redis}", here.token);
    assert!(is_held(&a.take("two", "k").await), "owners of one node exclude each other still");
    let there = b.take("one", "k").await.unwrap();
    static_a.take("one", "k").await.unwrap();
    let refused = static_b.take("one", "k").await;
    let text = refused.as_ref().unwrap_err().to_string();
    assert!(is_away(&refused) && text.contains("only node a"), "{text}");

    server.start_again();
    for case in [&a, &b, &static_b] {
        case.comes_to_be(true).await;
    }
    assert!(is_held(&a.take("two", "k").await), "what was granted here is kept here");
    // Whoever waits for it gets it from Redis, though there are always some here.
    let (here_too, waits) = (a.0.clone(), LockAsk { wait: LONG, ..ask("three", "k") });
    let waiting = tokio::spawn(async move { here_too.acquire(&waits).await });
    assert_eq!(a.unlock("one", "k", here.token).await, Ok(0));
    assert_eq!(b.unlock("one", "k", there.token).await, Ok(0));
    let third = ends(waiting).await.unwrap();
    assert!(is_held(&b.take("two", "k").await), "the others see it");
    assert_eq!(a.unlock("three", "k", third.token).await, Ok(0));
    // From now on they share again.
    let again = a.take("two", "k").await.unwrap();
    assert!(again.token > here.token, "{} after {}", again.token, here.token);
    assert!(is_held(&b.take("two", "k").await) && is_held(&static_b.take("x", "k").await));
}
