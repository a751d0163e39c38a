//! The policy's own tests say what should happen; these say that it does, to real actors.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::*;
use tickwright_core::domain::{Backoff, Span};
use tickwright_core::supervision::Strategy;

const PATIENCE: Duration = Duration::from_secs(5);

/// A child that says when it starts and when it stops in good order.
struct Probe;

#[derive(Debug, RactorMessage)]
enum ProbeMessage {
    /// Takes this long, then tells.
    Work(Duration),
}

#[derive(Debug)]
struct Diary {
    name: &'static str,
    log: UnboundedSender<Entry>,
}

#[derive(Debug)]
enum Entry {
    Started(&'static str, ActorCell),
    Worked(&'static str),
    Stopped(&'static str),
}

impl Actor for Probe {
    type Msg = ProbeMessage;
    type State = Diary;
    type Arguments = Diary;

    async fn pre_start(
        &self,
        myself: ActorRef<ProbeMessage>,
        diary: Diary,
    ) -> Result<Diary, ActorProcessingErr> {
        diary.log.send(Entry::Started(diary.name, myself.get_cell()))?;
        Ok(diary)
    }

    async fn handle(
        &self,
        _myself: ActorRef<ProbeMessage>,
        message: ProbeMessage,
        diary: &mut Diary,
    ) -> Result<(), ActorProcessingErr> {
        let ProbeMessage::Work(duration) = message;
        tokio::time::sleep(duration).await;
        diary.log.send(Entry::Worked(diary.name))?;
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<ProbeMessage>,
        diary: &mut Diary,
    ) -> Result<(), ActorProcessingErr> {
        diary.log.send(Entry::Stopped(diary.name))?;
        Ok(())
    }
}

struct Rig {
    supervisor: ActorRef<SupervisorMessage>,
    statistics: SupervisionStatistics,
    log: UnboundedReceiver<Entry>,
}

impl Rig {
    /// Supervises probes `a`, `b` and `c`.
    async fn new(policy: PolicyConfig, restart: Restart) -> Self {
        let (log, entries) = unbounded_channel();
        let child = |name| {
            let log = log.clone();
            ChildSpec::new(name, restart, move |parent| {
                let diary = Diary { name, log: log.clone() };
                async move { Ok(parent.spawn_linked(None, Probe, diary).await?.0.get_cell()) }
            })
        };
        let children = ["a", "b", "c"].map(child).into();
        let statistics = SupervisionStatistics::default();
        let arguments = SupervisorArguments {
            name: "test".into(),
            policy,
            children,
            clock: Clock::system(),
            statistics: statistics.clone(),
        };
        let (supervisor, _) = Supervisor::spawn(None, Supervisor, arguments).await.unwrap();
        Self { supervisor, statistics, log: entries }
    }

    /// The next entries, `+a` for a start, `a` for work done and `-a` for a stop, and the actors that started.
    async fn next(&mut self, count: usize) -> (Vec<String>, Vec<ActorCell>) {
        let (mut seen, mut actors) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let entry = tokio::time::timeout(PATIENCE, self.log.recv()).await;
            match entry.unwrap_or_else(|_| panic!("only {seen:?}")).unwrap() {
                Entry::Started(name, actor) => {
                    seen.push(format!("+{name}"));
                    actors.push(actor);
                }
                Entry::Worked(name) => seen.push(name.to_owned()),
                Entry::Stopped(name) => seen.push(format!("-{name}")),
            }
        }
        (seen, actors)
    }
}

/// Two restarts a minute, without delay.
fn policy(strategy: Strategy) -> PolicyConfig {
    PolicyConfig {
        strategy,
        restart_max: 2,
        window: Span::from_secs(60),
        backoff: Backoff { first: Span::ZERO, max: Span::ZERO },
        ..PolicyConfig::default()
    }
}

#[tokio::test]
async fn children_start_in_order_and_stop_in_reverse() {
    let mut rig = Rig::new(policy(Strategy::OneForOne), Restart::Permanent).await;
    assert_eq!(rig.next(3).await.0, ["+a", "+b", "+c"]);
    rig.supervisor.stop(None);
    assert_eq!(rig.next(3).await.0, ["-c", "-b", "-a"]);
}

#[tokio::test]
async fn an_actor_that_is_ended_from_outside_is_started_again_and_the_tree_tells() {
    let mut rig = Rig::new(policy(Strategy::OneForOne), Restart::Permanent).await;
    rig.next(3).await;
    let statistics = rig.statistics.clone();
    assert_eq!(statistics.kill("x"), Err(KillError::Unknown("x".into())));
    let refused = statistics.kill("test").unwrap_err().to_string();
    assert!(refused.contains("end one of its actors: a, b, c"), "{refused}");
    statistics.kill("b").unwrap();
    assert_eq!(rig.next(1).await.0, ["+b"]);
    let tree = |statistics: &SupervisionStatistics| {
        let roots = statistics.branches();
        assert_eq!((roots.len(), roots[0].name.as_str()), (1, "test"));
        assert_eq!(roots[0].strategy, Some(Strategy::OneForOne));
        let of = |child: &Branch| (child.name.clone(), child.restarts, child.is_running);
        roots[0].children.iter().map(of).collect::<Vec<_>>()
    };
    let expected = [("a", 0), ("b", 1), ("c", 0)];
    let expected = expected.map(|(name, restarts)| (name.to_owned(), restarts, true));
    let begun = std::time::Instant::now();
    while tree(&statistics) != expected {
        assert!(begun.elapsed() < PATIENCE, "{:?}", statistics.branches());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    rig.supervisor.stop_and_wait(None, Some(PATIENCE)).await.unwrap();
    assert_eq!(statistics.branches(), []);
}

#[tokio::test]
async fn what_a_child_has_accepted_it_does_before_it_stops() {
    let mut rig = Rig::new(policy(Strategy::OneForOne), Restart::Permanent).await;
    let actors = rig.next(3).await.1;
    for duration in [Duration::from_millis(50), Duration::ZERO] {
        actors[2].send_message(ProbeMessage::Work(duration)).unwrap();
    }
    rig.supervisor.stop(None);
    assert_eq!(rig.next(5).await.0, ["c", "c", "-c", "-b", "-a"]);
}

/// It is at one message for ever: neither that it is to finish nor that it is to stop reaches it.
#[tokio::test]
async fn a_child_that_hangs_is_killed_once_its_time_is_over_and_holds_nobody_up() {
    let (drain, stop) = (Span::from_millis(60), Span::from_millis(40));
    let policy = PolicyConfig { drain, stop, ..policy(Strategy::OneForOne) };
    let mut rig = Rig::new(policy, Restart::Permanent).await;
    let (_, actors) = rig.next(3).await;
    let hangs: ActorRef<ProbeMessage> = actors[1].clone().into();
    hangs.cast(ProbeMessage::Work(Duration::from_secs(3_600))).unwrap();
    // It has taken it up.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let since = tokio::time::Instant::now();
    rig.supervisor.stop(None);
    assert_eq!(rig.next(2).await.0, ["-c", "-a"], "it is past saying anything");
    assert!(since.elapsed() >= Duration::from_millis(100), "it was given its time");
    tokio::time::timeout(PATIENCE, hangs.wait(None)).await.unwrap().unwrap();
}

#[tokio::test]
async fn later_siblings_stop_and_return_with_a_crashed_child() {
    let mut rig = Rig::new(policy(Strategy::RestForOne), Restart::Permanent).await;
    let actors = rig.next(3).await.1;
    actors[1].kill();
    assert_eq!(rig.next(3).await.0, ["-c", "+b", "+c"]);
}

#[tokio::test]
async fn a_second_crash_overtakes_a_restart_that_is_still_waiting() {
    let delay = Span::from_millis(50);
    let backoff = Backoff { first: delay, max: delay };
    let policy = PolicyConfig { backoff, ..policy(Strategy::RestForOne) };
    let mut rig = Rig::new(policy, Restart::Permanent).await;
    let actors = rig.next(3).await.1;
    actors[2].kill(); // plans a start of `c`
    actors[2].wait(Some(PATIENCE)).await.unwrap();
    actors[0].kill(); // plans a start of all three, which must begin with `a`
    assert_eq!(rig.next(4).await.0, ["-b", "+a", "+b", "+c"]);
}

#[tokio::test]
async fn a_transient_child_returns_when_killed_but_not_when_done() {
    let mut rig = Rig::new(policy(Strategy::OneForOne), Restart::Transient).await;
    let actors = rig.next(3).await.1;
    actors[0].stop(None);
    assert_eq!(rig.next(1).await.0, ["-a"]);
    actors[1].kill();
    assert_eq!(rig.next(1).await.0, ["+b"]);
}

#[tokio::test]
async fn the_third_crash_within_the_window_takes_the_supervisor_down() {
    let mut rig = Rig::new(policy(Strategy::OneForOne), Restart::Permanent).await;
    let mut victim = rig.next(3).await.1.swap_remove(0);
    for _ in 0..2 {
        victim.kill();
        victim = rig.next(1).await.1.swap_remove(0);
    }
    victim.kill();
    rig.supervisor.wait(Some(PATIENCE)).await.unwrap();
}

#[tokio::test]
async fn a_child_that_cannot_restart_is_tried_again_and_then_given_up() {
    let (log, mut entries) = unbounded_channel();
    let attempts = Arc::new(AtomicU32::new(0));
    let once = ChildSpec::new("once", Restart::Permanent, {
        let attempts = Arc::clone(&attempts);
        move |parent| {
            let first = attempts.fetch_add(1, Ordering::Relaxed) == 0;
            let diary = Diary { name: "once", log: log.clone() };
            async move {
                if !first {
                    return Err(SpawnErr::StartupFailed("out of luck".into()));
                }
                Ok(parent.spawn_linked(None, Probe, diary).await?.0.get_cell())
            }
        }
    });
    let policy = policy(Strategy::OneForOne);
    let arguments = SupervisorArguments {
        name: "test".into(),
        policy,
        children: vec![once],
        clock: Clock::system(),
        statistics: SupervisionStatistics::default(),
    };
    let (supervisor, _) = Supervisor::spawn(None, Supervisor, arguments).await.unwrap();
    let Some(Entry::Started(_, actor)) = entries.recv().await else { panic!("did not start") };
    actor.kill();
    supervisor.wait(Some(PATIENCE)).await.unwrap();
    assert_eq!(attempts.load(Ordering::Relaxed), 3, "the start, and both restarts allowed");
}

#[tokio::test]
async fn a_child_that_cannot_start_at_boot_fails_the_boot() {
    let broken = ChildSpec::new("broken", Restart::Permanent, |_parent| async {
        Err(SpawnErr::StartupFailed("bad configuration".into()))
    });
    let arguments = SupervisorArguments {
        name: "test".into(),
        policy: policy(Strategy::OneForOne),
        children: vec![broken],
        clock: Clock::system(),
        statistics: SupervisionStatistics::default(),
    };
    assert!(Supervisor::spawn(None, Supervisor, arguments).await.is_err());
}
