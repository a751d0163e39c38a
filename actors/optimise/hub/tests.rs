//! The hub beside explorers that do as they are told.

use std::time::Duration;

use tickwright_core::optimise::{Constraint, Dimension, Domain, Metrics};
use tokio::sync::mpsc::UnboundedReceiver;

use super::*;
use crate::cluster::LoneDoor;
use crate::kit::{CommitPolicy, Store, StoreOptions};

const PATIENCE: Duration = Duration::from_secs(30);

/// So many trials stand for a search whose time is up.
const LATE: u64 = 77;

/// An explorer that hands on what it is given.
struct Probe;

impl Actor for Probe {
    type Msg = ExplorerMessage;
    type State = Outlet<Lease>;
    type Arguments = Outlet<Lease>;

    async fn pre_start(
        &self,
        _myself: ActorRef<ExplorerMessage>,
        leases: Outlet<Lease>,
    ) -> Result<Outlet<Lease>, ActorProcessingErr> {
        Ok(leases)
    }

    async fn handle(
        &self,
        _myself: ActorRef<ExplorerMessage>,
        message: ExplorerMessage,
        leases: &mut Outlet<Lease>,
    ) -> Result<(), ActorProcessingErr> {
        if let ExplorerMessage::Lease(lease) = message {
            leases.send(lease)?;
        }
        Ok(())
    }
}

struct Desk {
    directory: Directory,
    hub: ActorRef<HubActorMessage>,
    outcomes: UnboundedReceiver<SearchOutcome>,
    explorer: ActorRef<ExplorerMessage>,
    leases: UnboundedReceiver<Lease>,
}

async fn desk(journal: &SearchJournal, trials_max: u64) -> Desk {
    desk_with(journal, trials_max, Outlet::to_channel().0, None).await
}

async fn desk_with(
    journal: &SearchJournal,
    trials_max: u64,
    found: Outlet<Vec<Trial>>,
    peers: Option<Peers>,
) -> Desk {
    let domain = |name: &str| Dimension { name: name.into(), domain: Domain::Integer(1, 30) };
    let constraint = Constraint::parse("fast < slow").unwrap();
    let space = Space::new(vec![domain("fast"), domain("slow")], vec![constraint]).unwrap();
    let directory = Directory::default();
    let (ended, outcomes) = Outlet::to_channel();
    let arguments = HubArguments {
        node: "here".into(),
        space,
        kind: SearchKind::Random,
        seed: 3,
        limits: Limits { trials_max, patience: 0, gain_min: 0.0 },
        top_max: 2,
        alerts: tickwright_core::config::Config::default().alerts.rules,
        propagation: Propagation::Hybrid,
        hashes: ([5; 32], [6; 32]),
        like: trial(0, &[("fast".into(), 0.0), ("slow".into(), 0.0)]),
        journal: journal.clone(),
        adopted: None,
        directory: directory.clone(),
        progress: Outlet::to_channel().0,
        ended,
        found,
        clock: Clock::system(),
        until: (trials_max == LATE).then(tokio::time::Instant::now),
        peers,
    };
    let (hub, _) = Actor::spawn(None, HubActor, arguments).await.unwrap();
    let (outlet, leases) = Outlet::to_channel();
    let (explorer, _) = Actor::spawn(None, Probe, outlet).await.unwrap();
    Desk { directory, hub, outcomes, explorer, leases }
}

impl Desk {
    /// The explorer has just started.
    fn begin(&self) {
        heard_by(&self.directory).send(Heard::Ready(0, self.explorer.clone())).unwrap();
    }

    async fn lease(&mut self) -> Lease {
        tokio::time::timeout(PATIENCE, self.leases.recv()).await.expect("in time").unwrap()
    }

    fn evaluated(&self, lease: &Lease) {
        let trial = trial(lease.number, &lease.parameters);
        let heard = Heard::Evaluated(0, lease.number, Ok(Box::new(trial)));
        heard_by(&self.directory).send(heard).unwrap();
    }

    async fn outcome(&mut self) -> SearchOutcome {
        tokio::time::timeout(PATIENCE, self.outcomes.recv()).await.expect("in time").unwrap()
    }
}

/// What these parameters come to.
fn trial(number: u64, parameters: &[(String, f64)]) -> Trial {
    let fast = parameters[0].1;
    let metrics = Metrics { profit_rate: fast / 100.0, trades: 50, ..Metrics::default() };
    Trial {
        strategy: "ema_crossing".into(),
        parameters: parameters.to_vec(),
        seed: 3,
        data: [1; 32],
        terms: [2; 32],
        rows: (0, 10),
        metrics,
        score: fast / 100.0,
        digest: String::new(),
        number,
        node: "here".into(),
    }
}

fn journal() -> SearchJournal {
    SearchJournal::in_memory([5; 32], [6; 32])
}

#[tokio::test]
async fn trials_are_given_out_until_the_budget_is_spent() {
    let mut desk = desk(&journal(), 5).await;
    desk.begin();
    for _ in 0..5 {
        let lease = desk.lease().await;
        assert!(lease.parameters[0].1 < lease.parameters[1].1, "{lease:?}");
        desk.evaluated(&lease);
    }
    let outcome = desk.outcome().await;
    assert_eq!((outcome.trials.len(), outcome.stopped), (5, StopReason::Budget));
    let best = outcome.trials.iter().map(|trial| trial.score).fold(f64::MIN, f64::max);
    assert_eq!(outcome.best.best().unwrap().score, best);
}

#[tokio::test]
async fn what_an_explorer_had_is_given_out_again_and_given_up_in_the_end() {
    let mut desk = desk(&journal(), 2).await;
    desk.begin();
    let first = desk.lease().await;
    // It ends and is started anew, until its trial is given up.
    for _ in 1..LOSSES_MAX {
        desk.begin();
        assert_eq!(desk.lease().await.number, first.number);
    }
    desk.begin();
    let second = desk.lease().await;
    assert_ne!(second.number, first.number);
    desk.evaluated(&second);
    let outcome = desk.outcome().await;
    assert_eq!((outcome.failed, outcome.trials.len()), (1, 1));
}

#[tokio::test]
async fn a_successor_knows_what_its_predecessor_knew_and_counts_nothing_twice() {
    let journal = journal();
    let mut before = desk(&journal, 4).await;
    before.begin();
    for _ in 0..2 {
        let lease = before.lease().await;
        before.evaluated(&lease);
    }
    // The third lease says that both are on the disk, and is lost.
    let lost = before.lease().await;
    before.hub.stop_and_wait(None, Some(PATIENCE)).await.unwrap();
    let mut after = desk(&journal, 4).await;
    after.begin();
    let mut ran = BTreeSet::new();
    let searching = async {
        loop {
            tokio::select! {
                Some(lease) = after.leases.recv() => {
                    // The others are computed again before they are believed.
                    assert!(lease.number < lost.number || ran.insert(lease.number), "{lease:?}");
                    after.evaluated(&lease);
                }
                Some(outcome) = after.outcomes.recv() => break outcome,
            }
        }
    };
    let outcome = tokio::time::timeout(PATIENCE, searching).await.expect("in time");
    assert_eq!((outcome.resumed, outcome.trials.len(), ran.len()), (2, 4, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_counts_what_was_on_its_way_to_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let commit = CommitPolicy { records_max: 1, wait: Duration::ZERO };
    let options = StoreOptions { commit, ..StoreOptions::default() };
    let store = Store::open(directory.path(), options).unwrap().0;
    let journal = SearchJournal::of(store.clone(), [5; 32], [6; 32]);
    let mut before = desk(&journal, 2).await;
    before.begin();
    let lease = before.lease().await;
    let (release, released) = std::sync::mpsc::channel::<()>();
    let wait = move |_| {
        // It ends with the other side.
        let _ = released.recv();
    };
    store.put("block", vec![0], vec![0], Box::new(wait));
    store.put("block", vec![1], vec![1], Box::new(|_| {}));
    before.evaluated(&lease);
    before.hub.drain_and_wait(Some(PATIENCE)).await.unwrap();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        drop(release);
    });
    let mut after = desk(&journal, 2).await;
    after.begin();
    let outcome = loop {
        tokio::select! {
            Some(lease) = after.leases.recv() => after.evaluated(&lease),
            Some(outcome) = after.outcomes.recv() => break outcome,
        }
    };
    assert_eq!((outcome.resumed, outcome.trials.len()), (1, 2));
}

#[tokio::test]
async fn a_hub_that_begins_anew_after_its_time_tries_nothing_more() {
    let mut desk = desk(&journal(), LATE).await;
    assert_eq!(desk.outcome().await.stopped, StopReason::Time);
}

/// Beside a network of its own, as the one node of a cluster.
async fn desk_in_a_cluster(found: Outlet<Vec<Trial>>) -> (Desk, LoneDoor) {
    let door = LoneDoor::open(&tickwright_core::config::Config::default(), "127.0.0.1:0").await;
    let door = door.unwrap();
    let judge: Judge = Arc::new(|_| Err("nobody asks".into()));
    let peers = Peers { network: door.network().clone(), judge };
    (desk_with(&journal(), 2, found, Some(peers)).await, door)
}

async fn ends(desk: &mut Desk) {
    desk.begin();
    for _ in 0..2 {
        let lease = desk.lease().await;
        desk.evaluated(&lease);
    }
    desk.outcome().await;
}

#[tokio::test]
async fn an_adopter_that_begins_anew_is_told_again_what_was_found() {
    let (found, mut told) = Outlet::to_channel();
    let (mut desk, _door) = desk_in_a_cluster(found).await;
    ends(&mut desk).await;
    let first = tokio::time::timeout(PATIENCE, told.recv()).await.unwrap().unwrap();
    assert_eq!(first.len(), 2);
    tokio::time::sleep(3 * BEAT).await;
    assert!(told.try_recv().is_err(), "once");
    adopter_began(&desk.directory);
    assert_eq!(tokio::time::timeout(PATIENCE, told.recv()).await.unwrap().unwrap(), first);
}

#[tokio::test]
async fn an_adopter_that_was_not_there_is_told_later() {
    let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
    let tries = std::sync::atomic::AtomicU32::new(0);
    let found = Outlet::to_function("adopter", move |trials: Vec<Trial>| {
        if tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0 {
            return Err(crate::kit::Undelivered { role: "adopter".into() });
        }
        sender.send(trials.len()).unwrap();
        Ok(())
    });
    let (mut desk, _door) = desk_in_a_cluster(found).await;
    ends(&mut desk).await;
    assert_eq!(tokio::time::timeout(PATIENCE, told.recv()).await.unwrap(), Some(2));
}

#[tokio::test]
async fn trials_that_fail_raise_an_alert_once_there_are_enough_and_it_is_in_the_outcome() {
    let mut desk = desk(&journal(), 30).await;
    desk.begin();
    for count in 0..30 {
        let lease = desk.lease().await;
        // Of 20 trials 10 have failed after the 20th.
        if count % 2 == 0 {
            let heard = Heard::Evaluated(0, lease.number, Err("no such thing".into()));
            heard_by(&desk.directory).send(heard).unwrap();
        } else {
            desk.evaluated(&lease);
        }
    }
    let outcome = desk.outcome().await;
    assert_eq!((outcome.failed, outcome.trials.len()), (15, 15));
    assert_eq!(outcome.alerts, ["50 % of the last trials on here have failed, and 50 % may"]);
}
