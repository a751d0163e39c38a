//! Two networks in one process, joined by their gateways, without a transport in between.

use std::sync::LazyLock;
use std::sync::atomic::AtomicUsize;

use ractor::Actor;
use tickwright_core::cluster::Balancing;
use tickwright_core::domain::{Incarnation, Span};
use tokio::sync::mpsc;

use super::*;
use crate::cluster::gateway::{GatewayActor, GatewayArguments};
use crate::cluster::load::Loads;
use crate::cluster::stream::Fence;
use crate::kit::{Directory as Roles, Outlet};

const PATIENCE: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(50);
const WINDOW: u64 = 64 << 10;

static B: LazyLock<NodeId> = LazyLock::new(|| "b".into());

/// One node, its gateway, and its side of the only link.
pub(crate) struct End {
    pub(crate) network: Network,
    gateway: ActorRef<Vec<u8>>,
    pub(in crate::cluster) link: Arc<Link>,
}

impl End {
    /// Learns what the other end serves.
    pub(crate) fn finds(&self, other: &Self) {
        let services = other.network.services();
        self.network.on_member(&other.network.own().id, Status::Up, &services);
    }
}

fn peer(id: &str) -> Peer {
    Peer { id: id.into(), incarnation: Incarnation(1) }
}

async fn end(own: &str, other: &str, pass: Pass, peer_pass: Pass) -> End {
    let choice = ChoiceSettings {
        balancing: Balancing::Affinity,
        slow_start: Span::ZERO,
        weights: BTreeMap::new(),
        loads: Loads::new(Duration::from_secs(5)),
    };
    let network = Network::new(peer(own), WINDOW, 4 << 20, choice);
    let (beats, _received) = Outlet::to_channel();
    let arguments =
        GatewayArguments { network: network.clone(), beats, directory: Roles::default() };
    let (gateway, _) = Actor::spawn(None, GatewayActor, arguments).await.unwrap();
    let fence = Fence::default();
    let link = network.add_link(LinkParts { peer: peer(other), fence, pass, peer_pass });
    End { network, gateway, link }
}

/// Has a role keep what it is sent, unanswered, for the test to take.
fn keeps(end: &End, role: &str) -> mpsc::UnboundedReceiver<Request> {
    let (kept, received) = mpsc::unbounded_channel();
    end.network.register(
        role,
        None,
        Arc::new(move |request: Request| kept.send(request).map_err(|_| "gone".into())),
    );
    received
}

/// Nodes a and b, linked.
pub(crate) async fn pair() -> (End, End) {
    let (a, b) = (end("a", "b", 1, 2).await, end("b", "a", 2, 1).await);
    a.network.open_link(&a.link, b.gateway.clone());
    b.network.open_link(&b.link, a.gateway.clone());
    (a, b)
}

/// The link between the two breaks, and they have another.
pub(crate) fn link_anew(a: &mut End, b: &mut End) {
    for end in [&*a, &*b] {
        end.network.close_link(&end.link);
    }
    for (end, other, pass, peer_pass) in [(&mut *a, "b", 3, 4), (&mut *b, "a", 4, 3)] {
        let parts = LinkParts { peer: peer(other), fence: Fence::default(), pass, peer_pass };
        end.link = end.network.add_link(parts);
    }
    a.network.open_link(&a.link, b.gateway.clone());
    b.network.open_link(&b.link, a.gateway.clone());
}

fn message<'m>(role: &'m str, body: &'m [u8]) -> Message<'m> {
    Message { role, kind: "test", epoch: 0, body, is_urgent: false }
}

/// Answers with what it was sent, after whom it was sent by.
fn echo() -> Handler {
    Arc::new(|mut request: Request| {
        let from = request.from.id.0.clone().into_bytes();
        if let Some(reply) = request.reply.take() {
            reply.answer([from.as_slice(), b":", &request.body].concat());
        }
        Ok(())
    })
}

#[tokio::test]
async fn a_question_reaches_a_role_here_or_there_and_the_sender_is_taken_from_the_link() {
    let (a, b) = pair().await;
    b.network.register("echo", None, echo());
    let b_id: NodeId = "b".into();
    let there = a.network.ask(Some(&b_id), message("echo", b"hello"), PATIENCE).await;
    assert_eq!(there.unwrap(), b"a:hello");
    let here = b.network.ask(None, message("echo", b"hello"), PATIENCE).await;
    assert_eq!(here.unwrap(), b"b:hello");
    let services = b.network.services();
    a.network.on_member(&b_id, Status::Up, &services);
    assert_eq!(a.network.serving("echo"), Some(b_id));
    let found = a.network.ask(None, message("echo", b""), PATIENCE).await;
    assert_eq!(found.unwrap(), b"a:");
    let nobody = a.network.ask(None, message("other", b""), PATIENCE).await;
    assert_eq!(nobody, Err(DeliveryError::Nobody("other".into())));
}

#[tokio::test]
async fn large_questions_and_answers_travel_in_parts_through_a_smaller_window() {
    let (a, b) = pair().await;
    b.network.register("echo", None, echo());
    let body: Vec<u8> = (0..3 << 20).map(|at: u32| at.to_le_bytes()[0]).collect();
    let answers = (0..4).map(|_| a.network.ask(Some(&B), message("echo", &body), PATIENCE));
    for answer in futures_util::future::join_all(answers).await {
        assert_eq!(&answer.unwrap()[2..], body);
    }
    assert!(a.network.counts().stalls > 0, "the window is smaller");
    let huge = vec![0; (4 << 20) + 1];
    let refused = a.network.ask(Some(&B), message("echo", &huge), PATIENCE).await;
    assert!(matches!(refused, Err(DeliveryError::TooLarge { .. })));
}

#[tokio::test]
async fn a_role_that_refuses_ends_or_is_not_there_says_so() {
    let (a, b) = pair().await;
    let ask = async |role| {
        let answer = a.network.ask(Some(&B), message(role, b""), PATIENCE).await;
        answer.unwrap_err().to_string()
    };
    b.network.register(
        "refuses",
        None,
        Arc::new(|mut request: Request| {
            request.reply.take().unwrap().refuse("not today");
            Ok(())
        }),
    );
    b.network.register("forgets", None, Arc::new(|_: Request| Ok(())));
    b.network.register("new", Some(7), echo());
    assert_eq!(ask("refuses").await, "not today");
    assert_eq!(ask("forgets").await, "`forgets` ended before it answered");
    assert_eq!(ask("nobody").await, "node b does not serve `nobody`");
    assert_eq!(ask("new").await, "`new` is at epoch 7, and the message is of epoch 0");
    let of_epoch = Message { epoch: 7, ..message("new", b"") };
    assert!(a.network.ask(Some(&B), of_epoch, PATIENCE).await.is_ok());
    let counts = b.network.counts();
    assert_eq!((counts.stale_epochs, counts.undelivered), (1, 1));
}

#[tokio::test]
async fn a_question_that_is_not_answered_in_time_has_an_unknown_outcome() {
    let (a, b) = pair().await;
    let mut received = keeps(&b, "slow");
    let asked = a.network.ask(Some(&B), message("slow", b""), SHORT).await;
    let error = asked.unwrap_err();
    assert!(matches!(error, DeliveryError::Timeout { .. }) && error.is_outcome_unknown());
    assert!(lock(&a.network.0.asks).is_empty(), "nothing is kept of it");
    // An answer that comes too late is nobody's.
    received.recv().await.unwrap().reply.unwrap().answer(b"late".to_vec());
    let again = a.network.ask(Some(&B), message("slow", b""), SHORT).await;
    assert!(again.is_err());
}

/// A peer that takes frames and works nothing off, as a stopped process does.
#[tokio::test]
async fn a_peer_that_stands_still_costs_a_window_and_no_more() {
    let (a, b) = pair().await;
    let mut received = keeps(&b, "slow");
    let tell = async || a.network.tell(Some(&B), message("slow", &[7; 1_000]), SHORT).await;
    let mut taken = 0;
    let stalled = loop {
        match tell().await {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 1_000, "no bound");
    };
    assert_eq!(stalled, DeliveryError::Stalled("b".into()));
    assert!((60..=70).contains(&taken), "a window of 64 KiB in messages of 1 kB: {taken}");
    // Each message holds its credit for as long as it takes room there.
    for _ in 0..taken {
        drop(tokio::time::timeout(PATIENCE, received.recv()).await.unwrap().unwrap());
    }
    tokio::time::timeout(PATIENCE, async { while tell().await.is_err() {} }).await.unwrap();
}

#[tokio::test]
async fn urgent_messages_pass_a_peer_that_leaves_bulk_lying() {
    let (a, b) = pair().await;
    let _received = keeps(&b, "slow");
    b.network.register("echo", None, echo());
    while a.network.tell(Some(&B), message("slow", &[7; 1_000]), SHORT).await.is_ok() {}
    let stalled = a.network.ask(Some(&B), message("echo", b"bulk"), SHORT).await;
    assert_eq!(stalled, Err(DeliveryError::Stalled("b".into())));
    // More of them than the window holds: what they took comes back.
    let body = vec![7; 100_000];
    for _ in 0..50 {
        let urgent = Message { is_urgent: true, ..message("echo", &body) };
        assert!(a.network.ask(Some(&B), urgent, PATIENCE).await.is_ok());
    }
}

#[tokio::test]
async fn what_is_in_no_hurry_waits_while_a_link_is_busy_and_not_for_ever() {
    let (a, b) = pair().await;
    let mut received = keeps(&b, "slow");
    assert!(a.network.yields(&B, PATIENCE).await, "nothing is on its way");
    let mut count = 0;
    while a.network.tell(Some(&B), message("slow", &[7; 1_000]), SHORT).await.is_ok() {
        count += 1;
    }
    assert!(!a.network.yields(&B, SHORT).await, "nothing comes back");
    let waits = tokio::spawn({
        let network = a.network.clone();
        async move { network.yields(&B, PATIENCE).await }
    });
    for _ in 0..count {
        drop(tokio::time::timeout(PATIENCE, received.recv()).await.unwrap().unwrap());
    }
    assert!(tokio::time::timeout(PATIENCE, waits).await.unwrap().unwrap(), "half came back");
}

#[tokio::test]
async fn nothing_of_a_fenced_link_is_taken_in_and_who_waits_is_told() {
    let (a, b) = pair().await;
    let arrived = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&arrived);
    b.network.register(
        "count",
        None,
        Arc::new(move |request: Request| {
            counter.fetch_add(1, Ordering::SeqCst);
            std::mem::forget(request.reply);
            Ok(())
        }),
    );
    let asking = a.network.ask(Some(&B), message("count", b""), PATIENCE);
    let cutting = async {
        while arrived.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        a.network.fence(&Peer { incarnation: Incarnation(9), ..peer("b") });
        assert_eq!(a.network.linked().len(), 1, "another life of it");
        a.network.fence(&peer("b"));
    };
    let (asked, ()) = tokio::join!(asking, cutting);
    assert_eq!(asked, Err(DeliveryError::Ended("count".into())));
    assert!(a.link.fence.is_closed());
    let unlinked = a.network.tell(Some(&B), message("count", b""), SHORT).await;
    assert_eq!(unlinked, Err(DeliveryError::Unlinked("b".into())));
    // What was under way from there arrives late: its pass is void.
    b.network.tell(Some(&peer("a").id), message("x", b""), SHORT).await.unwrap();
    tokio::time::timeout(PATIENCE, async {
        while a.network.counts().stale_passes == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn damaged_foreign_and_repeated_frames_are_counted_and_dropped() {
    let (a, b) = pair().await;
    b.network.register("echo", None, echo());
    let mut header = Header::new(Purpose::Tell, 1);
    header.role = "echo".into();
    let frame = |pass, sequence| {
        let mut frame = envelope::encode(pass, &header, b"");
        envelope::set_sequence(&mut frame, sequence);
        frame
    };
    assert!(b.network.on_frame(b"garbage").is_none());
    assert!(b.network.on_frame(&frame(999, 0)).is_none());
    for sequence in [0, 0, 5, 4] {
        assert!(b.network.on_frame(&frame(1, sequence)).is_none());
    }
    let counts = b.network.counts();
    assert_eq!((counts.undecodable, counts.stale_passes, counts.out_of_order), (1, 1, 3));
    drop(a);
}

#[tokio::test]
async fn only_the_one_that_was_asked_may_answer() {
    let (a, b) = pair().await;
    let mut received = keeps(&b, "slow");
    let fence = Fence::default();
    let other = LinkParts { peer: peer("c"), fence, pass: 3, peer_pass: 4 };
    a.network.add_link(other);
    let asking = a.network.ask(Some(&B), message("slow", b""), PATIENCE);
    let answering = async {
        let request = received.recv().await.unwrap();
        let number = *lock(&a.network.0.asks).keys().next().unwrap();
        let mut forged = envelope::encode(
            4,
            &Header { length: 6, ..Header::new(Purpose::Reply, number) },
            b"forged",
        );
        envelope::set_sequence(&mut forged, 0);
        a.network.on_frame(&forged);
        request.reply.unwrap().answer(b"true".to_vec());
    };
    let (answer, ()) = tokio::join!(asking, answering);
    assert_eq!(answer.unwrap(), b"true");
}

#[tokio::test]
async fn messages_before_the_session_is_ready_are_taken_in_and_answered_after() {
    let (a, b) = (end("a", "b", 1, 2).await, end("b", "a", 2, 1).await);
    b.network.register("echo", None, echo());
    a.network.open_link(&a.link, b.gateway.clone());
    let asking = a.network.ask(Some(&B), message("echo", b"early"), PATIENCE);
    let opening = async {
        while b.network.counts().frames_received == 0 {
            tokio::task::yield_now().await;
        }
        b.network.open_link(&b.link, a.gateway.clone());
    };
    let (answer, ()) = tokio::join!(asking, opening);
    assert_eq!(answer.unwrap(), b"a:early");
}

/// Messages of the peer may come before its gateway is known: their credit is due when it is.
#[tokio::test]
async fn a_whole_window_before_the_session_is_ready_comes_back_when_it_is() {
    for is_urgent in [false, true] {
        let (a, b) = (end("a", "b", 1, 2).await, end("b", "a", 2, 1).await);
        let taken = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&taken);
        let take = move |_: Request| {
            counter.fetch_add(1, Ordering::SeqCst);
            Ok(())
        };
        b.network.register("count", None, Arc::new(take));
        a.network.open_link(&a.link, b.gateway.clone());
        let body = [7; 10_000];
        let tell = async |patience| {
            let message = Message { is_urgent, ..message("count", &body) };
            a.network.tell(Some(&B), message, patience).await
        };
        let mut told = 0;
        while tell(SHORT).await.is_ok() {
            told += 1;
        }
        tokio::time::timeout(PATIENCE, async {
            while taken.load(Ordering::SeqCst) < told {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        // Nothing more comes from there until what came has been returned.
        b.network.open_link(&b.link, a.gateway.clone());
        assert_eq!(tell(PATIENCE).await, Ok(()), "after {told} messages, urgent: {is_urgent}");
    }
}

/// An old session may be noticed to have ended long after the next one is in use.
#[tokio::test]
async fn a_question_by_a_new_link_outlives_the_late_end_of_the_old_one() {
    let (mut a, mut b) = pair().await;
    let mut received = keeps(&b, "slow");
    let old = Arc::clone(&a.link);
    link_anew(&mut a, &mut b);
    let asking = a.network.ask(Some(&B), message("slow", b""), PATIENCE);
    let answering = async {
        let request = received.recv().await.unwrap();
        a.network.close_link(&old);
        assert_eq!(a.network.linked().len(), 1, "the new one is in use");
        request.reply.unwrap().answer(b"still".to_vec());
    };
    let (answer, ()) = tokio::join!(asking, answering);
    assert_eq!(answer.unwrap(), b"still");
}
