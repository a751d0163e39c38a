//! Dialling in time, and two nodes that dial each other in every order.

use proptest::prelude::*;

use super::*;

const NOON: Timestamp = Timestamp::from_nanos(1_700_000_000_000_000_000);
const SECOND: Span = Span::from_secs(1);

fn address(name: &str) -> NodeAddress {
    NodeAddress(format!("{name}:1"))
}

fn peer(id: &str, incarnation: u64) -> Peer {
    Peer { id: id.into(), incarnation: Incarnation(incarnation) }
}

fn links(own: &str) -> Links {
    Links::new(LinksConfig {
        own: peer(own, 1),
        own_address: address(own),
        backoff: Backoff { first: Span::from_millis(100), max: 5 * SECOND },
        member_retry: SECOND,
        seed: 7,
    })
}

/// Node `a` that knows `b` in this state.
fn knowing(status: Status) -> Links {
    let mut links = links("a");
    links.on_member(&peer("b", 1), &address("b"), status, NOON);
    links
}

fn dials(effects: &[LinksEffect]) -> Vec<&str> {
    effects.iter().map(|LinksEffect::Dial { address, .. }| address.0.as_str()).collect()
}

#[test]
fn members_and_seeds_are_dialled_until_they_are_linked() {
    let mut links = knowing(Status::Up);
    assert_eq!(links.on_seed(&address("s"), NOON), None);
    assert_eq!(links.on_seed(&address("a"), NOON), None, "oneself");
    assert_eq!(dials(&links.on_wake(NOON)), ["b:1", "s:1"]);
    assert_eq!(links.on_wake(NOON), [], "under way");
    links.on_dialled(&address("b"), Some("b".into()), false, NOON);
    links.on_established(1, &peer("b", 1));
    links.on_dialled(&address("s"), None, false, NOON);
    assert_eq!(dials(&links.on_wake(NOON.after(SECOND))), ["s:1"]);
    assert_eq!(links.on_seed(&address("b"), NOON), Some("b".into()));
}

#[test]
fn attempts_become_rarer_but_a_member_is_tried_every_second() {
    let longest_wait = |mut links: Links, hangs: Span| {
        let mut now = NOON;
        let mut longest = Span::ZERO;
        for _ in 0..12 {
            let effects = links.on_wake(now);
            let [LinksEffect::Dial { ref address, patience }] = effects[..] else { panic!() };
            assert_eq!(patience, SECOND);
            links.on_dialled(address, None, false, now.after(hangs));
            let next = links.next_wake().unwrap();
            longest = longest.max(next.since(now));
            now = next;
        }
        longest
    };
    let mut seed = links("a");
    seed.on_seed(&address("s"), NOON);
    assert!((2 * SECOND..=5 * SECOND).contains(&longest_wait(seed, Span::ZERO)));
    for status in [Status::Up, Status::Suspect, Status::Down] {
        assert!(longest_wait(knowing(status), Span::ZERO) <= SECOND);
        assert!(longest_wait(knowing(status), SECOND) <= SECOND, "however long it hangs");
    }
}

#[test]
fn a_lost_link_is_dialled_again_at_once() {
    let mut links = knowing(Status::Up);
    links.on_wake(NOON);
    links.on_dialled(&address("b"), Some("b".into()), false, NOON);
    links.on_established(1, &peer("b", 1));
    assert_eq!(links.next_wake(), None);
    assert_eq!(links.on_lost(1, NOON), Some(peer("b", 1)));
    assert_eq!(dials(&links.on_wake(NOON)), ["b:1"]);
    assert_eq!(links.on_lost(1, NOON), None, "told twice");
}

#[test]
fn a_node_that_left_or_that_is_this_one_is_not_dialled() {
    let mut links = knowing(Status::Up);
    links.on_member(&peer("b", 1), &address("b"), Status::Left, NOON);
    links.on_seed(&address("localhost"), NOON);
    links.on_wake(NOON);
    links.on_dialled(&address("localhost"), None, true, NOON);
    assert_eq!(links.next_wake(), None);
}

#[test]
fn a_peer_that_dials_again_has_lost_its_link_and_replaces_it() {
    let mut links = knowing(Status::Up);
    let HelloVerdict::Welcome(ticket) = links.on_hello(&peer("b", 1)) else { panic!() };
    assert!(links.on_go(&"b".into(), ticket));
    assert!(!links.on_go(&"b".into(), ticket), "once");
    assert_eq!(links.on_established(1, &peer("b", 1)), None);
    assert!(matches!(links.on_hello(&peer("b", 1)), HelloVerdict::Welcome(_)));
    assert_eq!(links.on_established(2, &peer("b", 1)), Some(1), "fence the old one");
    assert_eq!(links.on_lost(1, NOON), None, "the new one stays");
    assert!(links.is_linked(&"b".into()));
}

#[test]
fn a_name_in_use_is_probed_and_decided_by_its_owner_s_sign_of_life() {
    for status in [Status::Up, Status::Suspect, Status::Joining] {
        let mut links = knowing(status);
        assert_eq!(links.on_hello(&peer("b", 2)), HelloVerdict::Probe);
        assert_eq!(links.on_probed(&peer("b", 2), true), HelloVerdict::NameInUse);
        let probed = links.on_probed(&peer("b", 2), false);
        assert!(matches!(probed, HelloVerdict::Welcome(_)));
    }
    for status in [Status::Down, Status::Left] {
        let verdict = knowing(status).on_hello(&peer("b", 2));
        assert!(matches!(verdict, HelloVerdict::Welcome(_)));
    }
    let mut links = links("a");
    assert_eq!(links.on_hello(&peer("a", 9)), HelloVerdict::NameInUse);
    assert_eq!(links.on_hello(&peer("a", 1)), HelloVerdict::IsOneself);
}

#[test]
fn an_older_life_is_told_the_newest() {
    let mut links = links("a");
    links.on_member(&peer("b", 5), &address("b"), Status::Down, NOON);
    let stale = HelloVerdict::Stale { known: Incarnation(5) };
    assert_eq!(links.on_hello(&peer("b", 4)), stale);
    assert!(!links.on_welcome(&peer("b", 4)));
}

/// What is on its way between two nodes that dial each other.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Wire {
    Idle,
    Hello,
    Welcome(Ticket),
    Go(Ticket),
    Done,
    Abandoned,
}

proptest! {
    /// Two nodes dial each other; whatever the order of steps, exactly one connection is established
    /// and both hold the same.
    #[test]
    fn two_nodes_that_dial_each_other_keep_the_same_connection(
        order in proptest::collection::vec(0usize..2, 8..40),
    ) {
        let mut nodes = [links("a"), links("b")];
        let names = ["a", "b"];
        // Connection c is dialled by node c; its link number is c + 1 at both ends.
        let mut wires = [Wire::Idle; 2];
        let mut held: [Option<u64>; 2] = [None; 2];
        let establish = |nodes: &mut [Links; 2], held: &mut [Option<u64>; 2], at: usize, link: u64| {
            let fenced = nodes[at].on_established(link, &peer(names[1 - at], 1));
            prop_assert_eq!(fenced, held[at]);
            held[at] = Some(link);
            Ok(())
        };
        let finish = [0usize, 1].into_iter().cycle().take(20);
        for dialler in order.into_iter().chain(finish) {
            let acceptor = 1 - dialler;
            let link = dialler as u64 + 1;
            wires[dialler] = match wires[dialler] {
                Wire::Idle if nodes[dialler].is_linked(&names[acceptor].into()) => Wire::Abandoned,
                Wire::Idle => Wire::Hello,
                Wire::Hello => {
                    let verdict = nodes[acceptor].on_hello(&peer(names[dialler], 1));
                    let HelloVerdict::Welcome(ticket) = verdict else { panic!("{verdict:?}") };
                    Wire::Welcome(ticket)
                }
                Wire::Welcome(ticket) if nodes[dialler].on_welcome(&peer(names[acceptor], 1)) => {
                    establish(&mut nodes, &mut held, dialler, link)?;
                    Wire::Go(ticket)
                }
                Wire::Welcome(ticket) => {
                    nodes[acceptor].on_inbound_ended(&names[dialler].into(), ticket);
                    Wire::Abandoned
                }
                Wire::Go(ticket) if nodes[acceptor].on_go(&names[dialler].into(), ticket) => {
                    establish(&mut nodes, &mut held, acceptor, link)?;
                    Wire::Done
                }
                Wire::Go(_) => {
                    // The acceptor closes it, and the dialler notices unless it has another by now.
                    if nodes[dialler].on_lost(link, NOON).is_some() {
                        held[dialler] = None;
                    }
                    Wire::Abandoned
                }
                Wire::Done => Wire::Done,
                Wire::Abandoned => Wire::Abandoned,
            };
        }
        prop_assert_eq!(held[0], held[1], "{:?}", wires);
        prop_assert!(held[0].is_some(), "{:?}", wires);
        let done = wires.iter().filter(|&&wire| wire == Wire::Done).count();
        prop_assert!(done >= 1, "{:?}", wires);
    }
}
