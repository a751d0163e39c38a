//! Hubs beside each other: links that come and go, messages that are lost, repeated and reordered, nodes
//! that are killed, and one that lies.

use proptest::prelude::*;

use super::*;
use crate::optimise::SearchKind;
use crate::optimise::space::tests::space;
use crate::optimise::trial::tests::trial;

const TRIALS: u64 = 40;

/// What a parameter truly comes to.
fn honest(node: &str, number: u64, parameter: f64) -> Trial {
    let rate = (parameter * 7.0 % 31.0) * 0.01 - 0.1;
    trial(node, number, parameter, [rate, rate * 20.0, 0.05])
}

fn again(claim: &Trial) -> Trial {
    honest("anybody", 0, claim.parameters[0].1)
}

fn forged(parameter: f64) -> Trial {
    Trial { score: 0.999, ..honest("liar", 0, parameter) }
}

fn hub_of(own: Author, limits: Limits, propagation: Propagation, search_hash: u8) -> Hub {
    let space = space(&[("fast", "int 1..200")], &[]);
    let config = HubConfig {
        own,
        family: [1; 32],
        search_hash: [search_hash; 32],
        like: honest("anybody", 0, 1.0),
        search: Search::new(space, SearchKind::Random, 5, limits.trials_max),
        limits,
        top_max: 3,
        propagation,
    };
    Hub::new(config, None, None)
}

fn author(node: &str, life: u64) -> Author {
    Author { node: node.to_owned(), life }
}

fn hub(node: &str) -> Hub {
    let limits = Limits { trials_max: TRIALS, patience: 0, gain_min: 0.0 };
    hub_of(author(node, 1), limits, Propagation::Hybrid, 2)
}

/// One that knows of `peer`, which searches in the same way.
fn hub_beside(node: &str, peer: &str) -> Hub {
    let mut it = hub(node);
    it.on_peers([peer.to_owned()].into());
    it.on_message(peer, HubMessage::Summary(hub(peer).summary()));
    it
}

fn entry(author: &Author, place: u64, number: u64, trial: Trial) -> Entry {
    let finished = Finished { number, parameters: trial.parameters.clone(), trial: Some(trial) };
    Entry { author: author.clone(), place, finished }
}

/// Has a task done, honestly, and all that follows.
fn carry_out(hub: &mut Hub, node: &str, task: &Task) -> Vec<HubEffect> {
    match task {
        Task::Check(claim) => hub.on_checked(claim, Some(&again(claim))),
        Task::Trial(lease) => {
            let trial = honest(node, lease.number, lease.point[0]);
            let parameters = trial.parameters.clone();
            let finished = Finished { number: lease.number, parameters, trial: Some(trial) };
            let entry = hub.enter(finished);
            hub.on_stored(entry)
        }
    }
}

#[test]
fn one_node_alone_tries_all_and_ends() {
    let mut it = hub("a");
    while let Some(task) = it.take() {
        carry_out(&mut it, "a", &task);
    }
    assert_eq!((it.ended(), it.finished()), (Some(StopReason::Budget), TRIALS));
    let best =
        it.counted().filter_map(|it| it.trial.as_ref()).map(|it| it.score).max_by(f64::total_cmp);
    assert_eq!(it.best().best().map(|trial| trial.score), best);
}

#[test]
fn what_a_peer_says_counts_and_is_computed_before_it_is_believed() {
    let mut it = hub_beside("a", "b");
    let told = honest("b", 7, 4.0);
    let entries = vec![entry(&author("b", 1), 0, 7, told.clone())];
    let effects = it.on_message("b", HubMessage::Entries(entries.clone()));
    assert_eq!(effects, [HubEffect::Keep(entries.clone())]);
    assert_eq!((it.finished(), it.best().best()), (1, None));
    let task = it.take().unwrap();
    assert_eq!(task, Task::Check(Box::new(told.clone())));
    let effects = carry_out(&mut it, "a", &task);
    assert_eq!(effects, [HubEffect::Better(Box::new(told.clone()))]);
    assert_eq!(it.best().best(), Some(&told));
    assert!(it.on_message("b", HubMessage::Entries(entries)).is_empty(), "it is known");
}

#[test]
fn a_forged_best_is_refused_its_sender_flagged_and_its_numbers_run_again() {
    let mut it = hub_beside("a", "liar");
    let liar = author("liar", 1);
    let lies = vec![entry(&liar, 0, 9, honest("liar", 9, 2.0)), entry(&liar, 1, 10, forged(3.0))];
    it.on_message("liar", HubMessage::Entries(lies));
    assert_eq!(it.finished(), 2);
    let task = it.take().unwrap();
    let effects = carry_out(&mut it, "a", &task);
    assert_eq!(effects, [HubEffect::Flag("liar".into(), Box::new(forged(3.0)))]);
    assert_eq!((it.finished(), it.best().best()), (0, None));
    let more = vec![entry(&liar, 2, 11, honest("liar", 11, 5.0))];
    assert!(
        it.on_message("liar", HubMessage::Entries(more)).is_empty(),
        "it is not heard any more"
    );
    while let Some(task) = it.take() {
        carry_out(&mut it, "a", &task);
    }
    assert_eq!((it.ended(), it.finished()), (Some(StopReason::Budget), TRIALS));
    assert!(it.counted().all(|it| it.trial.as_ref().unwrap().node == "a"));
}

#[test]
fn nobody_says_what_somebody_else_who_is_there_wrote() {
    let mut it = hub_beside("a", "b");
    it.on_peers(["b".to_owned(), "liar".to_owned()].into());
    it.on_message("liar", HubMessage::Summary(hub("liar").summary()));
    let said = HubMessage::Entries(vec![entry(&author("b", 1), 0, 3, honest("b", 3, 6.0))]);
    assert!(it.on_message("liar", said.clone()).is_empty());
    assert_eq!(it.finished(), 0);
    // Once that one is gone, others tell what it had told them.
    it.on_peers(["liar".to_owned()].into());
    it.on_message("liar", said);
    assert_eq!(it.finished(), 1);
}

#[test]
fn who_searches_in_another_way_is_told_the_best_and_no_numbers() {
    let limits = Limits { trials_max: TRIALS, patience: 0, gain_min: 0.0 };
    let mut other = hub_of(author("b", 1), limits, Propagation::Hybrid, 3);
    let task = other.take().unwrap();
    carry_out(&mut other, "b", &task);
    let mut it = hub_beside("a", "b");
    other.on_peers(["a".to_owned()].into());
    let effects = other.on_message("a", HubMessage::Summary(it.summary()));
    let [HubEffect::Send(_, message @ HubMessage::Best(_))] = &effects[..] else {
        panic!("{effects:?}");
    };
    it.on_message("b", HubMessage::Summary(other.summary()));
    it.on_message("b", message.clone());
    let task = it.take().unwrap();
    assert!(matches!(task, Task::Check(_)));
    carry_out(&mut it, "a", &task);
    assert_eq!((it.finished(), it.best().best()), (0, other.best().best()));
}

#[test]
fn what_cannot_be_of_this_search_flags_whoever_says_it() {
    let mut it = hub_beside("a", "b");
    let of_other_data = Trial { data: [9; 32], ..honest("b", 1, 4.0) };
    let said = vec![entry(&author("b", 1), 0, 1, of_other_data)];
    let effects = it.on_message("b", HubMessage::Entries(said));
    assert!(matches!(&effects[..], [HubEffect::Flag(peer, _)] if peer == "b"), "{effects:?}");
    assert_eq!(it.finished(), 0);
}

#[test]
fn a_true_trial_under_the_parameters_of_another_flags_whoever_says_it() {
    let mut it = hub_beside("a", "b");
    let mut said = entry(&author("b", 1), 0, 1, honest("b", 1, 4.0));
    said.finished.parameters[0].1 = 9.0;
    let effects = it.on_message("b", HubMessage::Entries(vec![said]));
    assert!(matches!(&effects[..], [HubEffect::Flag(peer, _)] if peer == "b"), "{effects:?}");
    assert_eq!(it.finished(), 0);
}

#[test]
fn nobody_ends_the_search_of_another() {
    let mut it = hub_beside("a", "b");
    for reason in [StopReason::Converged, StopReason::Time, StopReason::Budget] {
        let said = Summary { stopped: Some(reason), ..hub("b").summary() };
        it.on_message("b", HubMessage::Summary(said));
        assert!(matches!(it.take(), Some(Task::Trial(_))), "{reason:?}");
    }
    while let Some(task) = it.take() {
        carry_out(&mut it, "a", &task);
    }
    // Three that were given out above never came back.
    assert_eq!((it.exploration.stopped(), it.finished()), (None, TRIALS - 3));
}

#[test]
fn a_forged_best_does_not_end_the_search_by_patience() {
    let limits = Limits { trials_max: TRIALS, patience: 3, gain_min: 0.0 };
    let mut it = hub_of(author("a", 1), limits, Propagation::Hybrid, 2);
    it.on_peers(["liar".to_owned()].into());
    it.on_message("liar", HubMessage::Summary(hub("liar").summary()));
    let lie = vec![entry(&author("liar", 1), 0, TRIALS - 1, forged(3.0))];
    it.on_message("liar", HubMessage::Entries(lie));
    let check = it.take().unwrap();
    assert!(matches!(check, Task::Check(_)));
    // While it is computed again, others of this node try on.
    while let Some(task) = it.take() {
        carry_out(&mut it, "a", &task);
    }
    assert_eq!(it.exploration.stopped(), Some(StopReason::Converged));
    carry_out(&mut it, "a", &check);
    assert_eq!((it.exploration.stopped(), it.ended()), (None, None));
    assert!(matches!(it.take(), Some(Task::Trial(_))));
}

#[derive(Clone, Debug)]
enum Step {
    Work(usize),
    Lie(usize, u8),
    Cut(usize, usize),
    Join(usize, usize),
    Time(usize),
    Deliver(prop::sample::Index),
    Repeat(prop::sample::Index),
    Lose(prop::sample::Index),
    Kill(usize),
}

fn any_step() -> impl Strategy<Value = Step> {
    let node = || 0usize..3;
    let mail = any::<prop::sample::Index>;
    prop_oneof![
        8 => node().prop_map(Step::Work),
        1 => (node(), 1u8..200).prop_map(|(node, parameter)| Step::Lie(node, parameter)),
        1 => (node(), node()).prop_map(|(a, b)| Step::Cut(a, b)),
        1 => (node(), node()).prop_map(|(a, b)| Step::Join(a, b)),
        3 => node().prop_map(Step::Time),
        8 => mail().prop_map(Step::Deliver),
        1 => mail().prop_map(Step::Repeat),
        1 => mail().prop_map(Step::Lose),
        1 => node().prop_map(Step::Kill),
    ]
}

/// Three honest nodes, and one who lies to them.
struct World {
    limits: Limits,
    propagation: Propagation,
    hubs: Vec<Hub>,
    /// What each node has on its disk.
    disks: Vec<Vec<Entry>>,
    linked: BTreeSet<(usize, usize)>,
    mail: Vec<(usize, usize, HubMessage)>,
    lives: u64,
    lies: u64,
    runs: u64,
}

const LIAR: usize = 3;

fn name(node: usize) -> String {
    ["a", "b", "c", "liar"][node].to_owned()
}

impl World {
    fn new(limits: Limits, propagation: Propagation) -> Self {
        let hubs = (0..3).map(|it| hub_of(author(&name(it), 1), limits, propagation, 2)).collect();
        let (linked, mail) = (BTreeSet::new(), vec![]);
        let disks = vec![vec![]; 3];
        Self { limits, propagation, hubs, disks, linked, mail, lives: 1, lies: 0, runs: 0 }
    }

    fn peers(&self, node: usize) -> BTreeSet<String> {
        let of = |&(a, b): &(usize, usize)| match node {
            it if it == a => Some(name(b)),
            it if it == b => Some(name(a)),
            _ => None,
        };
        self.linked.iter().filter_map(of).chain([name(LIAR)]).collect()
    }

    fn carry_out(&mut self, node: usize, effects: Vec<HubEffect>) {
        for effect in effects {
            match effect {
                HubEffect::Send(to, message) if to != name(LIAR) => {
                    let to = (0..3).find(|it| name(*it) == to).unwrap();
                    self.mail.push((node, to, message));
                }
                HubEffect::Keep(entries) => self.disks[node].extend(entries),
                HubEffect::Flag(peer, _) => {
                    assert_eq!(peer, name(LIAR), "an honest one is flagged")
                }
                HubEffect::Send(..) | HubEffect::Better(_) => {}
            }
        }
    }

    fn work(&mut self, node: usize) {
        let Some(task) = self.hubs[node].take() else { return };
        let effects = match &task {
            Task::Check(_) => carry_out(&mut self.hubs[node], &name(node), &task),
            Task::Trial(lease) => {
                self.runs += 1;
                let trial = honest(&name(node), lease.number, lease.point[0]);
                let (number, parameters) = (lease.number, trial.parameters.clone());
                let finished = Finished { number, parameters, trial: Some(trial) };
                let entry = self.hubs[node].enter(finished);
                self.disks[node].push(entry.clone());
                self.hubs[node].on_stored(entry)
            }
        };
        self.carry_out(node, effects);
    }

    fn update_peers(&mut self) {
        for node in 0..3 {
            let peers = self.peers(node);
            let effects = self.hubs[node].on_peers(peers);
            self.carry_out(node, effects);
        }
    }

    fn link(&mut self, a: usize, b: usize, is_on: bool) {
        let pair = (a.min(b), a.max(b));
        if is_on && a != b {
            self.linked.insert(pair);
        } else if !is_on && self.linked.remove(&pair) {
            self.mail.retain(|&(from, to, _)| (from.min(to), from.max(to)) != pair);
        }
        self.update_peers();
    }

    /// The node begins another life with what is on its disk, and others see it go and come.
    fn kill(&mut self, node: usize) {
        self.lives += 1;
        let own = author(&name(node), self.lives);
        self.hubs[node] = hub_of(own, self.limits, self.propagation, 2);
        let kept = self.disks[node].clone();
        self.hubs[node].restore(kept);
        let links: Vec<_> =
            self.linked.iter().copied().filter(|it| it.0 == node || it.1 == node).collect();
        links.iter().for_each(|&(a, b)| self.link(a, b, false));
        links.iter().for_each(|&(a, b)| self.link(a, b, true));
    }

    fn lie(&mut self, to: usize, parameter: f64) {
        let hub = &self.hubs[to];
        let summary = Summary { own: author(&name(LIAR), 1), ..hub.summary() };
        let at = self.lies;
        self.lies += 1;
        let mut lies = vec![entry(&author(&name(LIAR), 1), 0, at % TRIALS, forged(parameter))];
        // It also says what another wrote, of those whom it can be caught by.
        let spoken_for = self.hubs[(to + 1) % 3].config.own.clone();
        if hub.is_there(&spoken_for) {
            lies.push(entry(&spoken_for, at % 3, at % TRIALS, forged(parameter)));
        }
        for message in [HubMessage::Summary(summary), HubMessage::Entries(lies)] {
            let effects = self.hubs[to].on_message(&name(LIAR), message);
            self.carry_out(to, effects);
        }
    }

    fn deliver(&mut self, at: usize) {
        let (from, to, message) = self.mail.remove(at);
        let effects = self.hubs[to].on_message(&name(from), message);
        self.carry_out(to, effects);
    }

    fn on_time(&mut self, node: usize) {
        let effects = self.hubs[node].on_time();
        self.carry_out(node, effects);
    }

    /// All links are there, and nothing is lost any more, until everybody is done.
    fn settle(&mut self) -> bool {
        for (a, b) in [(0, 1), (1, 2), (0, 2)] {
            self.link(a, b, true);
        }
        for _ in 0..2_000 {
            for node in 0..3 {
                self.work(node);
                self.on_time(node);
            }
            while !self.mail.is_empty() {
                self.deliver(0);
            }
            if self.hubs.iter().all(|hub| hub.ended().is_some()) {
                return true;
            }
        }
        false
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// All invariants.
    #[test]
    fn all_end_with_the_same_best_and_no_lie_whatever_happens(
        steps in prop::collection::vec(any_step(), 1..150),
        propagation in prop::sample::select(vec![Propagation::Push, Propagation::Pull, Propagation::Hybrid]),
        patience in prop::sample::select(vec![0u64, 12]),
    ) {
        let limits = Limits { trials_max: TRIALS, patience, gain_min: 0.0 };
        let mut world = World::new(limits, propagation);
        world.update_peers();
        for step in steps {
            let at = |it: prop::sample::Index, world: &World| it.index(world.mail.len().max(1));
            match step {
                Step::Work(node) => world.work(node),
                Step::Lie(to, parameter) => world.lie(to, f64::from(parameter)),
                Step::Cut(a, b) => world.link(a, b, false),
                Step::Join(a, b) => world.link(a, b, true),
                Step::Time(node) => world.on_time(node),
                Step::Kill(node) => world.kill(node),
                Step::Deliver(it) | Step::Repeat(it) | Step::Lose(it) if !world.mail.is_empty() => {
                    let at = at(it, &world);
                    if matches!(step, Step::Repeat(_)) {
                        world.mail.push(world.mail[at].clone());
                    } else if matches!(step, Step::Lose(_)) {
                        world.mail.remove(at);
                    } else {
                        world.deliver(at);
                    }
                }
                Step::Deliver(_) | Step::Repeat(_) | Step::Lose(_) => {}
            }
            for hub in &world.hubs {
                let is_true = |trial: &Trial| trial.is_reproduced_by(&again(trial));
                prop_assert!(hub.best().trials().all(is_true), "a lie is believed");
            }
        }
        prop_assert!(world.settle(), "they never end");
        let first = &world.hubs[0];
        for hub in &world.hubs {
            prop_assert_eq!(hub.best().top(), first.best().top());
            let numbers: Vec<u64> = hub.counted().map(|it| it.number).collect();
            prop_assert_eq!(numbers.len() as u64, hub.finished(), "a number counts twice");
            prop_assert!(hub.finished() == TRIALS || patience > 0);
        }
        // Whatever was on a disk counts, or is of a number of which another run counts.
        let known: BTreeSet<u64> = first.counted().map(|it| it.number).collect();
        for entry in world.disks.iter().flatten().filter(|it| it.author.node != name(LIAR)) {
            let is_told = entry.finished.trial.as_ref().is_some_and(|it| it.score < 0.9);
            prop_assert!(!is_told || known.contains(&entry.finished.number), "{entry:?} is lost");
        }
    }
}

/// How much is run twice when nothing fails: only what is out at others when a node has none left.
#[test]
fn hardly_anything_is_run_twice_while_nothing_fails() {
    let limits = Limits { trials_max: TRIALS, patience: 0, gain_min: 0.0 };
    let mut world = World::new(limits, Propagation::Hybrid);
    world.update_peers();
    assert!(world.settle());
    // At most two rounds of three nodes.
    assert!(world.runs <= TRIALS + 6, "{} runs of {TRIALS} trials", world.runs);
}

const fn kind(message: &HubMessage) -> &'static str {
    match message {
        HubMessage::Summary(_) => "summary",
        HubMessage::Entries(_) => "entries",
        HubMessage::Want(_) => "want",
        HubMessage::Best(_) => "best",
    }
}

impl World {
    /// Delivers what is on its way, and what follows from it; says who said what, in order.
    fn talk(&mut self) -> Vec<String> {
        let mut said = Vec::new();
        while let Some((from, _, message)) = self.mail.first() {
            said.push(format!("{} {}", name(*from), kind(message)));
            self.deliver(0);
        }
        said
    }
}

/// What two nodes say of a trial that "a" has run: first what "a" says unasked, of which nothing arrives with
/// `is_lost`, then what is said once each says how far it is. In any case "b" knows of it in the end.
fn said_of_a_trial(propagation: Propagation, is_lost: bool) -> Vec<String> {
    let limits = Limits { trials_max: TRIALS, patience: 0, gain_min: 0.0 };
    let mut world = World::new(limits, propagation);
    world.link(0, 1, true);
    world.talk();
    world.work(0);
    let mut said: Vec<String> = Vec::new();
    if is_lost {
        let lost = world.mail.drain(..);
        said.extend(lost.map(|(from, _, message)| format!("{} {}", name(from), kind(&message))));
    } else {
        said.extend(world.talk());
    }
    world.on_time(0);
    world.on_time(1);
    said.extend(world.talk());
    assert_eq!(world.hubs[1].finished(), 1, "{said:?}");
    said
}

#[test]
fn with_push_a_trial_is_told_unasked_and_nobody_asks_for_it() {
    let said = said_of_a_trial(Propagation::Push, false);
    assert_eq!(said, ["a entries", "a summary", "b summary"]);
    let said = said_of_a_trial(Propagation::Push, true);
    assert_eq!(said, ["a entries", "a summary", "b summary", "a entries"]);
}

#[test]
fn with_pull_a_trial_is_told_to_whoever_asks_for_it() {
    for is_lost in [false, true] {
        let said = said_of_a_trial(Propagation::Pull, is_lost);
        assert_eq!(said, ["a summary", "b summary", "b want", "a entries"], "{is_lost}");
    }
}

#[test]
fn with_hybrid_a_trial_is_told_unasked_and_asked_for_where_that_was_lost() {
    let said = said_of_a_trial(Propagation::Hybrid, false);
    assert_eq!(said, ["a entries", "a summary", "b summary"]);
    let said = said_of_a_trial(Propagation::Hybrid, true);
    assert_eq!(said, ["a entries", "a summary", "b summary", "b want", "a entries"]);
}
