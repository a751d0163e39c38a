//! Histories of a small cluster.

use proptest::prelude::*;

use super::*;
use crate::cluster::Service;
use crate::domain::NodeAddress;

const SETTLE: Span = Span::from_millis(10_000);

fn config(placing: Placing) -> AllocatorConfig {
    AllocatorConfig {
        placing,
        balancing: Balancing::LeastLoaded,
        slow_start: Span::ZERO,
        nodes_min: 1,
        settle: SETTLE,
        fails_over: true,
        patience: Span::ZERO,
        handovers_max: 1,
        handover_patience: Span::from_secs(10),
    }
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_nanos(seconds * 1_000_000_000)
}

fn units() -> impl Iterator<Item = Unit> {
    Unit::all(1, 8)
}

fn node(name: &str, session: u64) -> Candidate {
    let duty = name.split('-').next().unwrap_or_default().to_owned();
    Candidate {
        node: name.into(),
        session,
        duties: vec![duty],
        weight: 1.0,
        load: 0.0,
        serves: BTreeMap::new(),
    }
}

#[test]
fn a_session_is_a_candidate_once_the_profile_of_that_life_is_known() {
    let service = |role: &str, epoch| Service { role: role.into(), epoch };
    let profile = |life| Profile {
        id: "calc-1".into(),
        incarnation: Incarnation(life),
        duties: vec!["calc".into()],
        services: vec![service("shard/3", 7), service("run/calc-1", 0)],
        address: NodeAddress("127.0.0.1:1".into()),
        http: String::new(),
        version: 1,
    };
    let of =
        |life| Candidate::of(&"calc-1".into(), 5, Incarnation(life), &[profile(1), profile(2)]);
    let found = of(2).unwrap();
    assert_eq!((found.session, found.duties.as_slice()), (5, ["calc".to_owned()].as_slice()));
    assert_eq!(found.serves, BTreeMap::from([(Unit::Shard(3), 7)]));
    assert!(of(3).is_none(), "another life's says nothing");
}

/// An allocator, and what the ledger and the nodes make of its plans.
struct Cluster {
    allocator: Allocator,
    there: Vec<Candidate>,
    held: BTreeMap<Unit, Holding>,
    given_up: GivenUp,
    drained: BTreeSet<NodeId>,
    master: Option<NodeId>,
    epochs: BTreeMap<Unit, u64>,
    next_session: u64,
}

impl Cluster {
    fn new(config: AllocatorConfig, names: &[&str]) -> Self {
        let there = names.iter().zip(1..).map(|(name, session)| node(name, session)).collect();
        Self {
            allocator: Allocator::new(config, at(0)),
            there,
            held: BTreeMap::new(),
            given_up: GivenUp::new(),
            drained: BTreeSet::new(),
            master: None,
            epochs: BTreeMap::new(),
            next_session: 100,
        }
    }

    fn five(config: AllocatorConfig) -> Self {
        Self::new(config, &["calc-1", "calc-2", "control-1", "data-1", "exec-1"])
    }

    /// The next plan, which the ledger takes; nodes have not begun what they are given.
    fn plan(&mut self, seconds: u64) -> Vec<Move> {
        let situation = Situation {
            held: &self.held,
            there: &self.there,
            drained: &self.drained,
            master: self.master.as_ref(),
            given_up: &self.given_up,
        };
        let moves = self.allocator.plan(units(), &situation, at(seconds));
        for Move { unit, node } in &moves {
            let epoch = self.epochs.entry(*unit).or_default();
            *epoch += 1;
            match node {
                Some(node) => {
                    let session = self.there.iter().find(|c| c.node == *node).unwrap().session;
                    let holding = Holding { node: node.clone(), session, epoch: *epoch };
                    self.held.insert(*unit, holding);
                }
                None => drop(self.held.remove(unit)),
            }
        }
        moves
    }

    /// Every node that is there begins what it was given.
    fn begin(&mut self) {
        for candidate in &mut self.there {
            let own = self.held.iter().filter(|(_, holding)| {
                holding.node == candidate.node && holding.session == candidate.session
            });
            candidate.serves = own.map(|(&unit, holding)| (unit, holding.epoch)).collect();
        }
    }

    /// The next plan, and its nodes have begun.
    fn step(&mut self, seconds: u64) -> Vec<Move> {
        let moves = self.plan(seconds);
        self.begin();
        moves
    }

    fn lose(&mut self, name: &str) -> Candidate {
        let at = self.there.iter().position(|c| c.node.0 == name).unwrap();
        self.there.remove(at)
    }

    fn come_back(&mut self, candidate: Candidate) {
        self.next_session += 1;
        let session = self.next_session;
        self.there.push(Candidate { session, serves: BTreeMap::new(), ..candidate });
    }

    fn drain(&mut self, name: &str, is_drained: bool) {
        match is_drained {
            true => self.drained.insert(name.into()),
            false => self.drained.remove(&NodeId::from(name)),
        };
    }

    fn on(&self, name: &str) -> Vec<Unit> {
        let of = self.held.iter().filter(|(_, holding)| holding.node.0 == name);
        of.map(|(&unit, _)| unit).collect()
    }

    fn places(&self) -> Vec<String> {
        self.held.values().map(|holding| holding.node.0.clone()).collect()
    }

    fn is_there(&self, holding: &Holding) -> bool {
        self.there.iter().any(|c| c.node == holding.node && c.session == holding.session)
    }
}

/// The only node of these moves.
fn to(moves: &[Move]) -> &str {
    let mut nodes: Vec<&str> =
        moves.iter().filter_map(|each| each.node.as_ref()).map(|node| node.0.as_str()).collect();
    nodes.dedup();
    assert_eq!(nodes.len(), 1, "{moves:?}");
    nodes[0]
}

#[test]
fn everything_is_placed_by_duty_once_enough_nodes_are_there() {
    let wait = AllocatorConfig { nodes_min: 5, ..config(Placing::Rendezvous) };
    let mut cluster = Cluster::five(wait);
    let exec = cluster.lose("exec-1");
    assert_eq!(cluster.step(0), []);
    cluster.come_back(exec);
    cluster.step(1);
    assert_eq!(cluster.held.len(), 10);
    for (unit, holding) in &cluster.held {
        assert!(holding.node.0.starts_with(unit.duty()), "{unit} is at {}", holding.node);
    }
    assert!(!cluster.on("calc-1").is_empty() && !cluster.on("calc-2").is_empty());
    assert_eq!(cluster.step(99), [], "all are where they belong");
}

#[test]
fn units_of_a_lost_node_go_to_its_kind_or_to_whoever_is_there() {
    let mut cluster = Cluster::five(config(Placing::Rendezvous));
    cluster.step(0);
    cluster.lose("calc-1");
    cluster.lose("data-1");
    let moves = cluster.step(1);
    assert!(!moves.is_empty());
    for Move { unit, node } in &moves {
        let node = node.as_ref().unwrap();
        match unit {
            Unit::Source(_) => assert_eq!(node.0, "control-1", "the least loaded"),
            Unit::Shard(_) => assert_eq!(node.0, "calc-2"),
            Unit::Exec => unreachable!("its node is there"),
        }
    }
    assert_eq!(cluster.step(2), []);
}

#[test]
fn units_of_a_lost_node_go_to_whoever_is_loaded_less() {
    let mut cluster = Cluster::five(config(Placing::Rendezvous));
    cluster.step(0);
    cluster.lose("data-1");
    for candidate in &mut cluster.there {
        candidate.load = if candidate.node.0 == "calc-2" { 0.0 } else { 0.95 };
    }
    assert_eq!(to(&cluster.step(1)), "calc-2", "though it has more units than control-1");
}

#[test]
fn a_node_that_comes_back_gets_its_units_one_by_one() {
    let mut cluster = Cluster::five(config(Placing::Rendezvous));
    cluster.step(0);
    let before = cluster.places();
    let lost = cluster.lose("calc-1");
    cluster.step(1);
    cluster.come_back(lost);
    let mut gained = 0;
    for second in 2..200 {
        let moves = cluster.step(second);
        assert!(moves.len() <= 1, "a stampede: {moves:?}");
        assert!(second >= 12 || moves.is_empty(), "it has only just come");
        gained += moves.len();
    }
    assert!(gained > 0);
    assert_eq!(cluster.places(), before);
}

#[test]
fn a_node_that_comes_back_slowly_has_its_whole_share_in_the_end() {
    let slow = AllocatorConfig { slow_start: Span::from_secs(100), ..config(Placing::Rendezvous) };
    let mut cluster = Cluster::five(slow);
    cluster.step(0);
    let before = cluster.places();
    let lost = cluster.lose("calc-1");
    cluster.step(1);
    cluster.come_back(lost);
    let mut had = Vec::new();
    for second in 2..200 {
        cluster.step(second);
        had.push(cluster.on("calc-1").len());
    }
    assert_eq!(cluster.places(), before);
    assert!(had.is_sorted(), "{had:?}");
    let all = *had.last().unwrap();
    assert!(had[30] < all, "a third of the time is not enough for everything: {had:?}");
}

#[test]
fn exec_goes_to_whoever_is_loaded_least_and_back_to_a_node_that_is_there_for_it() {
    let mut cluster = Cluster::five(config(Placing::Rendezvous));
    cluster.step(0);
    let exec = cluster.lose("exec-1");
    assert_eq!(cluster.step(1), [Move { unit: Unit::Exec, node: Some("control-1".into()) }]);
    cluster.come_back(exec);
    assert_eq!(cluster.step(2), [], "it has only just come");
    assert_eq!(cluster.step(12), [Move { unit: Unit::Exec, node: Some("exec-1".into()) }]);
    let second = node("exec-2", 9);
    cluster.there.push(second);
    cluster.lose("exec-1");
    assert_eq!(to(&cluster.step(13)), "exec-2", "its kind first");
}

#[test]
fn a_node_that_is_back_soon_enough_keeps_its_units() {
    let waits = AllocatorConfig { patience: SETTLE, ..config(Placing::Rendezvous) };
    let mut cluster = Cluster::five(waits);
    cluster.step(0);
    let lost = cluster.lose("calc-1");
    assert_eq!(cluster.step(1), []);
    cluster.come_back(lost);
    assert_eq!(to(&cluster.step(2)), "calc-1");
    cluster.lose("calc-1");
    assert_eq!(cluster.step(3), []);
    assert_eq!(to(&cluster.step(13)), "calc-2");
}

#[test]
fn a_master_has_everything_and_a_standby_takes_it_over() {
    let mut cluster = Cluster::five(config(Placing::MasterStandby));
    cluster.step(0);
    assert_eq!(cluster.on("calc-1").len(), 8);
    cluster.lose("calc-1");
    cluster.step(1);
    assert_eq!(cluster.on("calc-2").len(), 8);
}

#[test]
fn who_is_made_master_is_handed_everything_of_its_kind_one_after_the_other() {
    let mut cluster = Cluster::five(config(Placing::MasterStandby));
    cluster.step(0);
    cluster.master = Some("calc-2".into());
    for unit in 0..8 {
        let moves = cluster.step(1);
        assert_eq!(moves, [Move { unit: Unit::Shard(unit), node: Some("calc-2".into()) }]);
    }
    assert_eq!(cluster.step(1), []);
    assert_eq!(cluster.on("data-1"), [Unit::Source(0)], "it is not there for that");
    let lost = cluster.lose("calc-2");
    cluster.step(2);
    assert_eq!(cluster.on("calc-1").len(), 8);
    cluster.come_back(lost);
    for _ in 0..8 {
        cluster.step(3);
    }
    assert_eq!(cluster.on("calc-2").len(), 8, "it is master still");
}

#[test]
fn without_failover_units_wait_for_their_node() {
    let stays = AllocatorConfig { fails_over: false, ..config(Placing::Rendezvous) };
    let mut cluster = Cluster::five(stays);
    cluster.step(0);
    let lost = cluster.lose("calc-1");
    assert_eq!(cluster.step(1), []);
    cluster.come_back(lost);
    assert_eq!(to(&cluster.step(2)), "calc-1");
}

#[test]
fn without_failover_units_of_a_lost_node_move_when_it_is_drained() {
    let stays =
        AllocatorConfig { fails_over: false, patience: SETTLE, ..config(Placing::Rendezvous) };
    let mut cluster = Cluster::five(stays);
    cluster.step(0);
    let all = cluster.on("calc-1");
    cluster.lose("calc-1");
    assert_eq!(cluster.step(100), []);
    cluster.drain("calc-1", true);
    assert_eq!(cluster.step(101).len(), all.len(), "without waiting longer");
    assert_eq!(cluster.on("calc-1"), []);
    cluster.lose("exec-1");
    assert_eq!(cluster.step(102), [], "exec waits as well");
    cluster.drain("exec-1", true);
    assert_eq!(cluster.step(103).len(), 1);
}

#[test]
fn a_drained_node_is_emptied_in_order_the_next_when_one_has_begun() {
    let mut cluster = Cluster::five(config(Placing::Rendezvous));
    cluster.step(0);
    let all = cluster.on("calc-1");
    cluster.drain("calc-1", true);
    for (turn, unit) in (0..).zip(&all) {
        let moves = cluster.plan(1 + turn);
        assert_eq!(moves, [Move { unit: *unit, node: Some("calc-2".into()) }]);
        assert_eq!(cluster.plan(1 + turn), [], "it has not begun yet");
        cluster.begin();
    }
    assert_eq!((cluster.step(50), cluster.on("calc-1")), (vec![], vec![]));
    cluster.drain("calc-1", false);
    assert_eq!(cluster.step(55), [], "it counts as one that has just come");
    assert_eq!(to(&cluster.step(61)), "calc-1");
}

#[test]
fn as_many_are_handed_over_at_once_as_may_be() {
    let two = AllocatorConfig { handovers_max: 2, ..config(Placing::Rendezvous) };
    let mut cluster = Cluster::five(two);
    cluster.step(0);
    cluster.drain("calc-1", true);
    assert_eq!(cluster.plan(1).len(), 2);
    assert_eq!(cluster.plan(1), []);
    let first = cluster.held.iter().find(|(_, h)| h.node.0 == "calc-2" && h.epoch == 2);
    let (&unit, holding) = first.unwrap();
    let epoch = holding.epoch;
    let found = cluster.there.iter_mut().find(|c| c.node.0 == "calc-2");
    found.unwrap().serves.insert(unit, epoch);
    assert_eq!(cluster.plan(1).len(), 1, "one has begun");
}

#[test]
fn a_unit_that_does_not_begin_holds_up_the_others_only_for_a_while() {
    let mut cluster = Cluster::five(config(Placing::Rendezvous));
    cluster.step(0);
    cluster.drain("calc-1", true);
    assert_eq!(cluster.plan(1).len(), 1);
    assert_eq!(cluster.plan(2), []);
    assert_eq!(cluster.plan(9), []);
    assert_eq!(cluster.plan(12).len(), 1);
}

#[test]
fn a_drained_node_gets_nothing_back() {
    let mut cluster = Cluster::five(config(Placing::Rendezvous));
    cluster.step(0);
    cluster.drain("calc-1", true);
    cluster.drain("exec-1", true);
    for second in 1..20 {
        cluster.step(second);
    }
    assert_eq!((cluster.on("exec-1"), cluster.on("calc-1")), (vec![], vec![]));
    cluster.lose("calc-2");
    let exec = cluster.lose("exec-1");
    cluster.come_back(exec);
    for second in 21..40 {
        cluster.step(second);
    }
    assert_eq!(cluster.on("calc-1"), [], "the others stand in");
    assert_eq!(cluster.on("exec-1"), []);
}

#[test]
fn a_unit_stays_on_a_drained_node_when_nobody_else_is_there() {
    let mut cluster = Cluster::new(config(Placing::Rendezvous), &["calc-1"]);
    cluster.step(0);
    cluster.drain("calc-1", true);
    assert_eq!(cluster.step(1), []);
    assert_eq!(cluster.on("calc-1").len(), 10);
}

#[test]
fn a_unit_goes_from_node_to_node_that_gives_it_up_and_then_is_nobodys() {
    let mut cluster = Cluster::five(config(Placing::Rendezvous));
    cluster.step(0);
    let unit = Unit::Shard(0);
    let mut seen: Vec<NodeId> = Vec::new();
    loop {
        let holding = cluster.held[&unit].clone();
        assert!(!seen.contains(&holding.node), "it was there before");
        seen.push(holding.node.clone());
        let life = (holding.node, holding.session);
        cluster.given_up.entry(unit).or_default().insert(life);
        let moves = cluster.step(1);
        assert_eq!(moves.len(), 1, "{moves:?}");
        if moves[0].node.is_none() {
            break;
        }
    }
    assert!(seen[..2].iter().all(|node| node.0.starts_with("calc")), "its kind first: {seen:?}");
    assert_eq!(seen.len(), 5);
    assert_eq!(cluster.step(2), [], "nobody is left to try");
    let lost = cluster.lose("calc-1");
    cluster.come_back(lost);
    assert!(cluster.step(3).contains(&Move { unit, node: Some("calc-1".into()) }), "another life");
}

#[test]
fn a_unit_waits_for_a_node_that_is_only_drained() {
    let mut cluster = Cluster::new(config(Placing::Rendezvous), &["calc-1", "calc-2"]);
    cluster.drained.insert("calc-2".into());
    cluster.step(0);
    let unit = Unit::Shard(0);
    let holding = cluster.held[&unit].clone();
    assert_eq!(holding.node, "calc-1".into());
    cluster.given_up.entry(unit).or_default().insert((holding.node, holding.session));
    assert_eq!(cluster.step(1), [], "nobody can have it, and nobody else has tried");
    cluster.drained.clear();
    assert_eq!(cluster.step(2), [Move { unit, node: Some("calc-2".into()) }]);
}

#[test]
fn balanced_means_that_nobody_has_two_more_than_another() {
    let balancing = Balancing::RoundRobin;
    let mut cluster = Cluster::new(
        AllocatorConfig { balancing, ..config(Placing::Balanced) },
        &["calc-1", "calc-2"],
    );
    cluster.step(0);
    assert_eq!((cluster.on("calc-1").len(), cluster.on("calc-2").len()), (5, 5));
    let lost = cluster.lose("calc-2");
    cluster.step(1);
    cluster.come_back(lost);
    for second in 2..99 {
        assert!(cluster.step(second).len() <= 1);
    }
    assert_eq!((cluster.on("calc-1").len(), cluster.on("calc-2").len()), (5, 5));
}

#[test]
fn weights_say_who_gets_more() {
    let weighted = AllocatorConfig { balancing: Balancing::Weighted, ..config(Placing::Balanced) };
    let mut cluster = Cluster::new(weighted, &["calc-1", "calc-2"]);
    cluster.there[1].weight = 2.0;
    cluster.step(0);
    assert_eq!((cluster.on("calc-1").len(), cluster.on("calc-2").len()), (3, 7));
    assert_eq!(cluster.step(50), []);
}

fn placing() -> impl Strategy<Value = Placing> {
    prop_oneof![Just(Placing::Rendezvous), Just(Placing::Balanced), Just(Placing::MasterStandby)]
}

fn balancing() -> impl Strategy<Value = Balancing> {
    proptest::sample::select(Balancing::NAMES.to_vec())
        .prop_map(|name| Balancing::parse(name).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    /// Whoever comes and goes, is drained, made master, or gives units up: once nobody does any more,
    /// every unit has a node that is there and may have it, if there is one, and nothing moves
    /// for ever.
    #[test]
    fn every_history_comes_to_rest(
        placing in placing(),
        balancing in balancing(),
        slow in any::<bool>(),
        steps in proptest::collection::vec((0usize..5, 0u8..5, 1u64..20, 0u16..8), 1..60),
    ) {
        let slow_start = if slow { Span::from_secs(30) } else { Span::ZERO };
        let all = ["calc-1", "calc-2", "control-1", "data-1", "exec-1"];
        let mut cluster = Cluster::five(AllocatorConfig { balancing, slow_start, ..config(placing) });
        let mut gone: Vec<Candidate> = Vec::new();
        let mut now = 0;
        for (number, what, wait, shard) in steps {
            now += wait;
            let name = all[number];
            let place = cluster.there.iter().position(|c| c.node.0 == name);
            match (what, place) {
                (0 | 1, Some(place)) => gone.push(cluster.there.remove(place)),
                (0 | 1, None) => {
                    let at = gone.iter().position(|c| c.node.0 == name).unwrap();
                    let back = gone.remove(at);
                    cluster.come_back(back);
                }
                (2, _) => {
                    let is_drained = cluster.drained.contains(&NodeId::from(name));
                    cluster.drain(name, !is_drained);
                }
                (3, _) => cluster.master = Some(name.into()),
                (4, Some(place)) => {
                    let life = (NodeId::from(name), cluster.there[place].session);
                    cluster.given_up.entry(Unit::Shard(shard)).or_default().insert(life);
                }
                _ => {}
            }
            for Move { unit, node } in cluster.plan(now) {
                let Some(node) = node else { continue };
                let candidate = cluster.there.iter().find(|c| c.node == node).unwrap();
                let is_drained = cluster.drained.contains(&node);
                prop_assert!(!is_drained, "{unit} goes to {node}, which is drained");
                let life = (node, candidate.session);
                let lives = cluster.given_up.get(&unit);
                prop_assert!(!lives.is_some_and(|lives| lives.contains(&life)), "{unit} again");
            }
            if number % 2 == 0 {
                cluster.begin();
            }
        }
        for _ in 0..100 {
            now += 11;
            cluster.step(now);
        }
        prop_assert_eq!(cluster.step(now + 50), []);
        for unit in units() {
            let may = |c: &&Candidate| {
                let lives = cluster.given_up.get(&unit);
                !cluster.drained.contains(&c.node)
                    && !lives.is_some_and(|l| l.contains(&(c.node.clone(), c.session)))
            };
            let somebody = cluster.there.iter().find(may);
            match cluster.held.get(&unit) {
                Some(holding) if somebody.is_some() => {
                    prop_assert!(cluster.is_there(holding), "{unit} is nowhere");
                    let holder = cluster.there.iter().find(|c| c.node == holding.node).unwrap();
                    prop_assert!(may(&holder), "{unit} is at {}", holding.node);
                }
                Some(_) => {}
                None => prop_assert!(somebody.is_none(), "{unit} is nobody's"),
            }
        }
    }
}
