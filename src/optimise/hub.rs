//! What a node knows of the best anywhere, and what it believes.
//!
//! ```text
//! found here ────────────────▶ believed ──▶ Push, to everybody who is there
//! from a peer ─▶ to be checked ─▶ Check ─▶ computed here ─┬─ comes out again ─▶ believed
//!                                                         └─ does not ────────▶ refused, peer flagged
//! a peer that comes (back) ──▶ Push of all that is believed: what both found apart is joined
//! ```
//!
//! Nothing is believed for having been said. A node that was cut off goes on with what it has, and joins
//! what others found when it is back; both sides then have the better one, since the join does not
//! depend on the order in which it hears (see [`BestSet`]).
//!
//! # Invariants
//!
//! 1. What is believed was found here, or has come out again here.
//! 2. Nobody is told of what is not believed.
//! 3. What is asked for a second time is answered and not computed again, as long as it is remembered.
//! 4. Once everybody has heard everybody, all honest nodes believe the same best.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{BestSet, Trial};

/// Trials of one peer that wait to be computed; more are dropped, and come again with the next push.
const WAITING_MAX: usize = 256;
/// Trials that were refused and are not computed again.
const REFUSED_MAX: usize = 1_024;

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum HubEffect {
    /// Compute this again, and say whether it comes out: [`Hub::on_checked`].
    Check(Trial),
    /// Tell this peer.
    Push(String, BestSet),
    /// This peer said what is not so: tell the operator.
    Flag(String, Trial),
    /// There is a better best.
    Better(Trial),
}

/// What a node knows of the best anywhere.
#[derive(Clone, Debug)]
pub struct Hub {
    best: BestSet,
    peers: BTreeSet<String>,
    /// What waits to be computed, and who said it. At most [`WAITING_MAX`] of each peer.
    waiting: VecDeque<(String, Trial)>,
    /// The one that is being computed.
    checking: Option<(String, Trial)>,
    /// What did not come out. At most [`REFUSED_MAX`], the oldest goes first.
    refused: VecDeque<Trial>,
    /// How often each peer said what is not so.
    flagged: BTreeMap<String, u64>,
}

impl Hub {
    /// A node that believes in `best`.
    pub const fn new(best: BestSet) -> Self {
        Self {
            best,
            peers: BTreeSet::new(),
            waiting: VecDeque::new(),
            checking: None,
            refused: VecDeque::new(),
            flagged: BTreeMap::new(),
        }
    }

    /// What is believed.
    pub const fn best(&self) -> &BestSet {
        &self.best
    }

    /// How often each peer said what is not so.
    pub const fn flagged(&self) -> &BTreeMap<String, u64> {
        &self.flagged
    }

    /// A peer is there, perhaps again.
    pub fn on_peer(&mut self, peer: &str) -> Vec<HubEffect> {
        self.peers.insert(peer.to_owned());
        vec![HubEffect::Push(peer.to_owned(), self.best.clone())]
    }

    /// A peer is gone. What it said is still computed: it may be true.
    pub fn on_peer_lost(&mut self, peer: &str) {
        self.peers.remove(peer);
    }

    /// A peer asks for what is believed.
    pub fn on_pull(&self, peer: &str) -> Vec<HubEffect> {
        vec![HubEffect::Push(peer.to_owned(), self.best.clone())]
    }

    /// A trial was run here.
    pub fn on_found(&mut self, trial: &Trial) -> Vec<HubEffect> {
        self.believe(trial)
    }

    /// A peer says what it believes.
    pub fn on_push(&mut self, peer: &str, theirs: &BestSet) -> Vec<HubEffect> {
        let mut waiting = self.waiting.iter().filter(|(from, _)| from == peer).count();
        let mut known: BTreeSet<[u8; 32]> = BTreeSet::new();
        for trial in theirs.trials() {
            // The same trial may stand in both parts of a set.
            if !known.insert(trial.id()) {
                continue;
            }
            let is_news = self.best.clone().add(trial);
            let is_waiting = self.waiting.iter().chain(&self.checking).any(|(_, it)| it == trial);
            if !is_news || is_waiting {
                continue;
            }
            if self.refused.contains(trial) {
                *self.flagged.entry(peer.to_owned()).or_default() += 1;
                continue;
            }
            if waiting < WAITING_MAX {
                self.waiting.push_back((peer.to_owned(), trial.clone()));
                waiting += 1;
            }
        }
        self.next_check()
    }

    /// What was to be computed has come out, or not.
    pub fn on_checked(&mut self, is_true: bool) -> Vec<HubEffect> {
        let Some((peer, trial)) = self.checking.take() else { return Vec::new() };
        let mut effects = if is_true {
            self.believe(&trial)
        } else {
            *self.flagged.entry(peer.clone()).or_default() += 1;
            if self.refused.len() == REFUSED_MAX {
                self.refused.pop_front();
            }
            self.refused.push_back(trial.clone());
            vec![HubEffect::Flag(peer, trial)]
        };
        effects.extend(self.next_check());
        effects
    }

    fn next_check(&mut self) -> Vec<HubEffect> {
        while self.checking.is_none()
            && let Some((peer, trial)) = self.waiting.pop_front()
        {
            // Something better may have come since.
            if self.best.clone().add(&trial) {
                self.checking = Some((peer, trial.clone()));
                return vec![HubEffect::Check(trial)];
            }
        }
        Vec::new()
    }

    fn believe(&mut self, trial: &Trial) -> Vec<HubEffect> {
        let before = self.best.best().cloned();
        if !self.best.add(trial) {
            return Vec::new();
        }
        let push = |peer: &String| HubEffect::Push(peer.clone(), self.best.clone());
        let mut effects: Vec<HubEffect> = self.peers.iter().map(push).collect();
        if self.best.best() != before.as_ref() {
            effects.extend(self.best.best().cloned().map(HubEffect::Better));
        }
        effects
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::optimise::trial::tests::trial;

    /// What a parameter truly comes to.
    fn honest(node: &str, number: u64, parameter: u8) -> Trial {
        let rate = f64::from(parameter % 7) * 0.05 - 0.1;
        trial(node, number, f64::from(parameter), [rate, rate * 20.0, 0.05])
    }

    fn forged(parameter: u8) -> Trial {
        Trial { score: 0.999, ..honest("liar", 0, parameter) }
    }

    fn is_true(claimed: &Trial) -> bool {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
        let parameter = claimed.parameters[0].1 as u8;
        claimed.is_reproduced_by(&honest("anybody", 0, parameter))
    }

    fn hub() -> Hub {
        Hub::new(BestSet::new(3))
    }

    /// Computes what is to be computed until nothing is left; returns everything else.
    fn settle(hub: &mut Hub, mut effects: Vec<HubEffect>) -> Vec<HubEffect> {
        let mut others = vec![];
        while let Some(effect) = effects.pop() {
            match &effect {
                HubEffect::Check(claimed) => effects.extend(hub.on_checked(is_true(claimed))),
                HubEffect::Push(..) | HubEffect::Flag(..) | HubEffect::Better(_) => {
                    others.push(effect);
                }
            }
        }
        others
    }

    fn set(trials: &[Trial]) -> BestSet {
        let mut set = BestSet::new(3);
        trials.iter().for_each(|trial| {
            set.add(trial);
        });
        set
    }

    #[test]
    fn what_a_peer_says_is_computed_before_it_is_believed() {
        let mut hub = hub();
        let effects = hub.on_push("b", &set(&[honest("b", 1, 4)]));
        assert!(matches!(effects[..], [HubEffect::Check(_)]), "{effects:?}");
        assert_eq!(hub.best().best(), None);
        settle(&mut hub, effects);
        assert_eq!(hub.best().best(), Some(&honest("b", 1, 4)));
        assert!(hub.on_push("b", &set(&[honest("b", 1, 4)])).is_empty(), "it is known");
    }

    #[test]
    fn a_forged_best_is_refused_and_its_sender_flagged() {
        let mut hub = hub();
        hub.on_found(&honest("a", 0, 3));
        let effects = hub.on_push("liar", &set(&[forged(4)]));
        let effects = settle(&mut hub, effects);
        assert_eq!(effects, [HubEffect::Flag("liar".into(), forged(4))]);
        assert_eq!(hub.best().best(), Some(&honest("a", 0, 3)));
        // Said again, it is not computed again, and counts again.
        assert!(hub.on_push("liar", &set(&[forged(4)])).is_empty());
        assert_eq!(hub.flagged(), &[("liar".to_owned(), 2)].into());
    }

    #[test]
    fn what_is_better_is_told_to_everybody_who_is_there() {
        let mut hub = hub();
        assert_eq!(hub.on_peer("b").len(), 1);
        hub.on_peer("c");
        let effects = hub.on_found(&honest("a", 0, 5));
        let told: Vec<&str> = effects
            .iter()
            .filter_map(|it| if let HubEffect::Push(to, _) = it { Some(to.as_str()) } else { None })
            .collect();
        assert_eq!(told, ["b", "c"]);
        assert!(effects.contains(&HubEffect::Better(honest("a", 0, 5))));
        hub.on_peer_lost("b");
        let told = hub.on_found(&honest("a", 1, 6));
        assert!(told.iter().all(|it| !matches!(it, HubEffect::Push(to, _) if to == "b")));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Find(usize, u8),
        Forge(usize, u8),
        Cut(usize, usize),
        Join(usize, usize),
        Deliver,
        Lose,
    }

    fn any_step() -> impl Strategy<Value = Step> {
        let pair = || (0usize..3, 0usize..3);
        prop_oneof![
            4 => (0usize..3, any::<u8>()).prop_map(|(node, parameter)| Step::Find(node, parameter)),
            1 => (0usize..3, any::<u8>()).prop_map(|(node, parameter)| Step::Forge(node, parameter)),
            1 => pair().prop_map(|(a, b)| Step::Cut(a, b)),
            1 => pair().prop_map(|(a, b)| Step::Join(a, b)),
            6 => Just(Step::Deliver),
            1 => Just(Step::Lose),
        ]
    }

    /// Three honest nodes, links that come and go, messages that are lost, and one who lies.
    struct World {
        hubs: Vec<Hub>,
        linked: BTreeSet<(usize, usize)>,
        mail: VecDeque<(usize, usize, BestSet)>,
    }

    impl World {
        fn new() -> Self {
            Self { hubs: vec![hub(), hub(), hub()], linked: BTreeSet::new(), mail: VecDeque::new() }
        }

        fn carry_out(&mut self, node: usize, effects: Vec<HubEffect>) {
            for effect in settle(&mut self.hubs[node], effects) {
                if let HubEffect::Push(to, best) = effect {
                    self.mail.push_back((node, to.parse().unwrap(), best));
                }
            }
        }

        fn join(&mut self, a: usize, b: usize) {
            if a != b && self.linked.insert((a.min(b), a.max(b))) {
                for (from, to) in [(a, b), (b, a)] {
                    let effects = self.hubs[from].on_peer(&to.to_string());
                    self.carry_out(from, effects);
                }
            }
        }

        fn cut(&mut self, a: usize, b: usize) {
            if self.linked.remove(&(a.min(b), a.max(b))) {
                self.hubs[a].on_peer_lost(&b.to_string());
                self.hubs[b].on_peer_lost(&a.to_string());
                // What was under way is lost with the link.
                self.mail
                    .retain(|&(from, to, _)| (from.min(to), from.max(to)) != (a.min(b), a.max(b)));
            }
        }

        fn deliver(&mut self) {
            if let Some((from, to, best)) = self.mail.pop_front() {
                let effects = self.hubs[to].on_push(&from.to_string(), &best);
                self.carry_out(to, effects);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn both_sides_of_a_partition_end_with_the_better_and_never_with_a_lie(
            steps in prop::collection::vec(any_step(), 1..80),
        ) {
            let mut world = World::new();
            let mut found = BestSet::new(3);
            for (number, step) in (0..).zip(steps) {
                match step {
                    Step::Find(node, parameter) => {
                        let trial = honest(&node.to_string(), number, parameter);
                        found.add(&trial);
                        let effects = world.hubs[node].on_found(&trial);
                        world.carry_out(node, effects);
                    }
                    Step::Forge(node, parameter) => {
                        let effects = world.hubs[node].on_push("liar", &set(&[forged(parameter)]));
                        world.carry_out(node, effects);
                    }
                    Step::Cut(a, b) => world.cut(a, b),
                    Step::Join(a, b) => world.join(a, b),
                    Step::Deliver => world.deliver(),
                    Step::Lose => drop(world.mail.pop_front()),
                }
                for hub in &world.hubs {
                    prop_assert!(hub.best().trials().all(is_true), "a lie is believed");
                    let honest_peers = ["0", "1", "2"];
                    prop_assert!(honest_peers.iter().all(|peer| !hub.flagged().contains_key(*peer)));
                }
            }
            // Links are made anew, so that everybody hears everybody.
            for (a, b) in [(0, 1), (1, 2), (0, 2)] {
                world.cut(a, b);
                world.join(a, b);
            }
            for _ in 0..10_000 {
                world.deliver();
            }
            prop_assert!(world.mail.is_empty(), "they never stop talking");
            for hub in &world.hubs {
                prop_assert_eq!(hub.best(), &found);
            }
        }
    }
}
