//! One view at a time, two views merged, and a small cluster on a lossy network.

use proptest::prelude::*;

use super::*;

const NOON: Timestamp = Timestamp::from_nanos(1_700_000_000_000_000_000);

fn milliseconds(count: u64) -> Span {
    Span::from_millis(count)
}

fn timings() -> Timings {
    Timings::from_heartbeat(milliseconds(500))
}

fn profile(id: &str, incarnation: u64) -> Profile {
    Profile {
        id: id.into(),
        incarnation: Incarnation(incarnation),
        address: NodeAddress(format!("{id}:1")),
        http: String::new(),
        duties: Vec::new(),
        services: Vec::new(),
        version: 0,
    }
}

fn record(id: &str, incarnation: u64, claim: Claim, beat: u64, verdict: Status) -> Record {
    Record { profile: profile(id, incarnation), claim, beat, verdict }
}

fn view(id: &str) -> Membership {
    Membership::new(profile(id, 1), timings(), NOON)
}

/// What `from`, whose own record comes first, tells.
fn full(records: Vec<Record>) -> Beat {
    Beat { beat: records[0].beat, shape: 0, linked: Vec::new(), body: BeatBody::Full(records) }
}

fn up(id: &str, beat: u64) -> Record {
    record(id, 1, Claim::Up, beat, Status::Up)
}

fn changed(id: &str, before: Option<Status>, now: Status) -> MembershipEffect {
    MembershipEffect::Changed { id: id.into(), incarnation: Incarnation(1), before, now }
}

/// Looks every judging interval until `until`.
fn look(view: &mut Membership, from: Timestamp, until: Timestamp) -> Vec<MembershipEffect> {
    let mut effects = Vec::new();
    let mut now = from;
    while now <= until {
        effects.extend(view.on_look(now));
        now = now.after(timings().judge);
    }
    effects
}

#[test]
fn a_silent_member_is_suspected_then_down_and_back_when_it_is_heard() {
    let mut view = view("a");
    let found = view.on_beat(&"b".into(), full(vec![up("b", 1)]), NOON);
    assert_eq!(found, [changed("b", None, Status::Up)]);
    let effects = look(&mut view, NOON, NOON.after(milliseconds(3_000)));
    assert_eq!(
        effects,
        [
            changed("b", Some(Status::Up), Status::Suspect),
            changed("b", Some(Status::Suspect), Status::Down)
        ]
    );
    let late = NOON.after(Span::from_secs(60));
    let back = view.on_beat(&"b".into(), full(vec![up("b", 2)]), late);
    assert_eq!(back, [changed("b", Some(Status::Down), Status::Up)]);
}

#[test]
fn a_member_that_someone_else_hears_is_not_suspected() {
    let mut view = view("a");
    let mut now = NOON;
    for beat in 1..40 {
        let told = full(vec![up("b", beat), up("c", beat)]);
        view.on_beat(&"b".into(), told, now);
        now = now.after(milliseconds(500));
        view.on_look(now);
        assert_eq!(view.status(&"c".into()), Some(Status::Up));
    }
}

#[test]
fn a_broken_connection_is_a_reason_to_suspect_at_once_but_not_to_condemn() {
    let mut view = view("a");
    view.on_beat(&"b".into(), full(vec![up("b", 1)]), NOON);
    let lost = view.on_link_lost(&"b".into(), Incarnation(1), NOON);
    assert_eq!(lost, [changed("b", Some(Status::Up), Status::Suspect)]);
    let told = view.on_beat(&"c".into(), full(vec![up("c", 1), up("b", 2)]), NOON);
    assert!(told.contains(&changed("b", Some(Status::Suspect), Status::Up)), "{told:?}");
    assert_eq!(view.on_link_lost(&"b".into(), Incarnation(0), NOON), [], "an older life of it");
}

#[test]
fn a_node_that_was_stopped_does_not_condemn_everyone_when_it_wakes() {
    let mut view = view("a");
    let mut now = NOON;
    for beat in 1..10 {
        view.on_beat(&"b".into(), full(vec![up("b", beat)]), now);
        for _ in 0..5 {
            now = now.after(milliseconds(100));
            view.on_look(now);
        }
    }
    let awake = now.after(Span::from_secs(60));
    assert_eq!(view.on_look(awake), []);
    assert_eq!(view.status(&"b".into()), Some(Status::Up));
    look(&mut view, awake, awake.after(milliseconds(5_000)));
    assert_eq!(view.status(&"b".into()), Some(Status::Down), "but it is not lenient for ever");
}

#[test]
fn a_member_that_left_stays_left_in_that_life_and_may_come_again_in_another() {
    let mut view = view("a");
    view.on_beat(&"b".into(), full(vec![up("b", 1)]), NOON);
    let left = record("b", 1, Claim::Left, 2, Status::Left);
    assert_eq!(
        view.on_beat(&"b".into(), full(vec![left]), NOON),
        [changed("b", Some(Status::Up), Status::Left)]
    );
    assert_eq!(view.on_beat(&"c".into(), full(vec![up("c", 1), up("b", 9)]), NOON).len(), 1);
    assert_eq!(view.status(&"b".into()), Some(Status::Left));
    assert_eq!(look(&mut view, NOON, NOON.after(milliseconds(9_000))).len(), 2, "only c's silence");
    let again = record("b", 2, Claim::Joining, 1, Status::Joining);
    view.on_beat(&"b".into(), full(vec![again]), NOON);
    assert_eq!(view.status(&"b".into()), Some(Status::Joining));
}

#[test]
fn an_older_life_changes_nothing() {
    let mut view = view("a");
    view.on_beat(&"b".into(), full(vec![record("b", 5, Claim::Joining, 1, Status::Joining)]), NOON);
    let old = view.on_beat(&"c".into(), full(vec![up("c", 1), up("b", 900)]), NOON);
    assert_eq!(old, [changed("c", None, Status::Up)]);
    assert_eq!(view.profile(&"b".into()).unwrap().0.incarnation, Incarnation(5));
}

#[test]
fn a_later_node_of_one_s_own_name_is_told_once() {
    let mut view = view("a");
    let twin = full(vec![up("b", 1), record("a", 2, Claim::Up, 1, Status::Up)]);
    let replaced = MembershipEffect::Replaced { by: Incarnation(2) };
    assert!(view.on_beat(&"b".into(), twin.clone(), NOON).contains(&replaced));
    assert_eq!(view.on_beat(&"b".into(), twin, NOON), []);
}

#[test]
fn what_others_think_counts_only_for_members_one_does_not_know() {
    let mut view = view("a");
    let dead = record("d", 1, Claim::Up, 7, Status::Down);
    let told = view.on_beat(&"b".into(), full(vec![up("b", 1), dead]), NOON);
    assert!(told.contains(&changed("d", None, Status::Down)), "{told:?}");
    let slander = record("b", 1, Claim::Up, 1, Status::Down);
    view.on_beat(&"c".into(), full(vec![up("c", 1), slander]), NOON);
    assert_eq!(view.status(&"b".into()), Some(Status::Up));
}

#[test]
fn services_travel_with_the_profile_and_are_told_as_a_change() {
    let (mut a, mut b) = (view("a"), view("b"));
    exchange(&mut b, &mut a, NOON);
    b.on_own_services(vec![Service { role: "risk".into(), epoch: 3 }]);
    let told = exchange(&mut b, &mut a, NOON.after(milliseconds(1)));
    assert_eq!(told, [changed("b", Some(Status::Joining), Status::Joining)]);
    assert_eq!(a.profile(&"b".into()).unwrap().0.services[0].epoch, 3);
}

#[test]
fn views_of_one_shape_exchange_numbers_only() {
    let (mut a, mut b) = (view("a"), view("b"));
    let mut now = NOON;
    for _ in 0..3 {
        exchange(&mut a, &mut b, now);
        exchange(&mut b, &mut a, now);
        now = now.after(milliseconds(500));
    }
    let (_, beat) = a.on_beat_due(&["b".into()], now).remove(0);
    assert!(matches!(beat.body, BeatBody::Compact(ref beats) if beats.len() == 2), "{beat:?}");
    let before = b.profile(&"a".into()).unwrap().1;
    b.on_beat(&"a".into(), beat, now);
    assert!(b.profile(&"a".into()).unwrap().1 > before);
}

#[test]
fn more_members_than_can_be_kept_push_out_those_that_are_gone() {
    let mut view = view("a");
    let many = |status, claim| {
        let of = move |n: usize| record(&format!("n{n:02}"), 1, claim, 1, status);
        (0..MEMBERS_MAX).map(of)
    };
    let told = vec![up("b", 1)];
    let dead: Vec<Record> =
        told.iter().cloned().chain(many(Status::Down, Claim::Up).take(61)).collect();
    view.on_beat(&"b".into(), full(dead), NOON);
    let more: Vec<Record> =
        (0..3).map(|n| record(&format!("new{n}"), 1, Claim::Up, 1, Status::Up)).collect();
    let effects = view.on_beat(&"b".into(), full([told, more].concat()), NOON);
    assert!(effects.iter().all(|effect| !matches!(effect, MembershipEffect::TooMany { .. })));
    assert_eq!(view.members(NOON).len(), MEMBERS_MAX);
}

/// One beat from `from` to `to`.
fn exchange(from: &mut Membership, to: &mut Membership, now: Timestamp) -> Vec<MembershipEffect> {
    let (_, beat) = from.on_beat_due(std::slice::from_ref(&to.own), now).remove(0);
    to.on_beat(&from.own.clone(), beat, now)
}

fn any_record() -> impl Strategy<Value = Record> {
    let claim = prop_oneof![Just(Claim::Joining), Just(Claim::Up), Just(Claim::Left)];
    ("[b-d]", 1u64..4, claim, 0u64..50, 0u64..3).prop_map(
        |(id, incarnation, claim, beat, version)| {
            let mut record = record(&id, incarnation, claim, beat, Status::Up);
            record.profile.version = version;
            record.profile.http = version.to_string();
            record
        },
    )
}

/// What a view holds, without what depends on when it was heard.
fn known(view: &Membership) -> Vec<(NodeId, Incarnation, u64, Claim, u64)> {
    let of = |member: &Member| {
        let Profile { id, incarnation, version, .. } = member.profile.clone();
        (id, incarnation, version, member.claim, member.beat)
    };
    view.members.values().filter(|member| member.profile.id != view.own).map(of).collect()
}

proptest! {
    /// Invariant 2: order and repetition do not matter.
    #[test]
    fn views_merge_to_the_same_in_any_order(
        records in proptest::collection::vec(any_record(), 1..30),
        picks in proptest::collection::vec(any::<prop::sample::Index>(), 0..30),
    ) {
        let (mut straight, mut shuffled) = (view("a"), view("a"));
        let mut none = Vec::new();
        for record in &records {
            straight.merge(&"z".into(), record.clone(), NOON, &mut none);
        }
        for pick in &picks {
            shuffled.merge(&"z".into(), pick.get(&records).clone(), NOON, &mut none);
        }
        for record in records.iter().rev() {
            shuffled.merge(&"z".into(), record.clone(), NOON, &mut none);
        }
        prop_assert_eq!(known(&straight), known(&shuffled));
    }

    /// Invariants 1 and 3.
    #[test]
    fn what_is_known_only_grows(records in proptest::collection::vec(any_record(), 1..60)) {
        let mut view = view("a");
        let mut before: BTreeMap<NodeId, (Incarnation, u64, Claim, u64)> = BTreeMap::new();
        for record in records {
            view.merge(&"z".into(), record, NOON, &mut Vec::new());
            for (id, incarnation, version, claim, beat) in known(&view) {
                let now = (incarnation, version, claim, beat);
                if let Some(&old) = before.get(&id) {
                    prop_assert!(old.0 <= now.0);
                    if old.0 == now.0 {
                        prop_assert!(old.1 <= now.1 && old.2 <= now.2 && old.3 <= now.3);
                    }
                }
                before.insert(id, now);
            }
        }
    }

    /// Five nodes on a network that loses an eighth of all beats never take each other
    /// for down, and agree that one of them is after it has died.
    #[test]
    fn a_cluster_agrees_in_spite_of_loss(seed in any::<u64>()) {
        let names = ["a", "b", "c", "d", "e"];
        let mut chance = seed;
        let mut is_lost = move || {
            chance = chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (chance ^ (chance >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            (mixed ^ (mixed >> 27)) % 8 == 0
        };
        let mut nodes: Vec<Membership> = names.iter().map(|name| view(name)).collect();
        for node in &mut nodes {
            node.on_own_claim(Claim::Up, NOON);
        }
        let mut now = NOON;
        for round in 0..60 {
            let alive = if round < 30 { 5 } else { 4 };
            now = now.after(milliseconds(500));
            for from in 0..alive {
                let to: Vec<NodeId> = (0..5).filter(|&to| to != from).map(|to| names[to].into()).collect();
                for (id, beat) in nodes[from].on_beat_due(&to, now) {
                    let to = names.iter().position(|&name| id.0 == name).unwrap();
                    if to < alive && !is_lost() {
                        nodes[to].on_beat(&names[from].into(), beat, now);
                    }
                }
            }
            for node in &mut nodes[..alive] {
                for look in 0..5 {
                    node.on_look(now.after(milliseconds(100) * look));
                }
            }
            for node in &nodes[..alive] {
                for (at, name) in names.iter().enumerate() {
                    let is_down = node.status(&(*name).into()) == Some(Status::Down);
                    prop_assert!(!is_down || at >= alive, "{} at {}", name, round);
                    prop_assert!(is_down || at < 4 || round < 59, "{} at {}", name, round);
                }
            }
        }
    }
}
