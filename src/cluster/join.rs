//! Entering a cluster through a list of seeds.
//!
//! A joining node dials the seeds in order, the next one when the last has failed or been silent for
//! a moment, and is in as soon as one of those it reached turns out to be a member. If none does it
//! waits, longer each round, and begins again. Only the *first* seed may instead found a cluster, and
//! only after one full round without a member; every other node waits for ever, so a partition at
//! boot makes nodes wait rather than make two clusters. (The rule is Akka's.)
//!
//! A first seed that *restarts* into a partition would still found a second one. So a node that
//! remembers other members never founds alone. A cluster that went down as a whole comes back when
//! more than half of the members that a node remembers, itself among them, are there and joining:
//! then the first seed founds, if it is one of these, or else the first of them by name. Two such halves
//! would share a node. The name alone would not do: who left last remembers nobody, and waits.
//!
//! A first seed that has lost its disk remembers nobody. Its list of seeds may name itself alone, so before it
//! founds it listens for as long as members need to dial it again.
//!
//! ```text
//!            ┌──── nobody, or only joining nodes ────┐
//!            ▼                                       │
//! start ─▶ Waiting ── on_wake ──▶ Asking ────────────┤
//!                                   │                └── and may found ──▶ Found
//!                                   └── a member was reached ──▶ Joined
//! ```
//!
//! # Invariants
//!
//! 1. [`JoinEffect::Joined`] or [`JoinEffect::Found`] is returned at most once, and nothing after it.
//! 2. While neither has been, a wake-up is due: the machine cannot stall.
//! 3. A node that remembers others never founds without more than half of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::domain::{Backoff, NodeAddress, NodeId, Span, Timestamp};

/// Read from `[cluster]` in `cluster.toml`, and from what the node remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinConfig {
    /// What this node is called.
    pub own: NodeId,
    /// Where this node listens.
    pub own_address: NodeAddress,
    /// Nodes to try, in order; the first may found the cluster. May include `own_address`.
    pub seeds: Vec<NodeAddress>,
    /// Other members that this node has seen and that have not left.
    pub remembered: BTreeSet<NodeId>,
    /// Time between rounds.
    pub backoff: Backoff,
    /// How long a seed may be silent before the next is dialled as well.
    pub stagger: Span,
    /// How long a round may take before what is unanswered counts as nothing.
    pub round: Span,
    /// For how long a first seed that remembers nobody waits to be dialled before it founds a cluster.
    pub listen: Span,
}

/// What became of dialling a seed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// There is a link to this node; whether it is a member it says itself.
    Linked(NodeId),
    /// Nobody could be reached there.
    Failed,
}

/// What the actor must do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinEffect {
    /// Dial this seed, and report [`Join::on_answer`].
    Dial(NodeAddress),
    /// Call [`Join::on_wake`] at this time or later.
    WakeAt(Timestamp),
    /// Done: this node is in the cluster of the member it has reached.
    Joined(NodeId),
    /// Done: this node is the first of a new cluster.
    Found,
}

/// The joining node's side of the conversation.
#[derive(Debug)]
pub struct Join {
    config: JoinConfig,
    phase: Phase,
    /// Rounds that ended without a member.
    failed_rounds: u32,
    /// Nodes that are linked and joining themselves. Bounded by the links there may be.
    joining: BTreeSet<NodeId>,
    /// Who was reached at the first seed.
    first_seed: Option<NodeId>,
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    Waiting,
    Asking(Round),
    Done,
}

#[derive(Debug, PartialEq, Eq)]
struct Round {
    /// Not dialled yet.
    queue: VecDeque<NodeAddress>,
    /// Dialled, and who answered if someone did.
    open: BTreeMap<NodeAddress, Option<NodeId>>,
    /// It does not end earlier.
    listens_until: Timestamp,
    ends_at: Timestamp,
}

impl Join {
    /// A machine that begins with the first [`Join::on_wake`].
    pub fn new(config: JoinConfig) -> Self {
        Self {
            config,
            phase: Phase::Waiting,
            failed_rounds: 0,
            joining: BTreeSet::new(),
            first_seed: None,
        }
    }

    /// Whether this node is in a cluster.
    pub fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// It is time for a round, or for the next seed, or for the end of the round.
    pub fn on_wake(&mut self, now: Timestamp) -> Vec<JoinEffect> {
        match &mut self.phase {
            Phase::Done => Vec::new(),
            Phase::Waiting => {
                let own = &self.config.own_address;
                let mut queue: VecDeque<NodeAddress> = VecDeque::new();
                for seed in self.config.seeds.iter().filter(|&seed| seed != own) {
                    if !queue.contains(seed) {
                        queue.push_back(seed.clone());
                    }
                }
                let JoinConfig { seeds, remembered, .. } = &self.config;
                let listens = remembered.is_empty() && seeds.first() == Some(own);
                let listens_until = if listens { now.after(self.config.listen) } else { now };
                let ends_at = now.after(self.config.round).max(listens_until);
                let open = BTreeMap::new();
                self.phase = Phase::Asking(Round { queue, open, listens_until, ends_at });
                self.ask_next(now)
            }
            Phase::Asking(round) if now >= round.ends_at => {
                // Someone answered and has not said what it is: this is no time to found anything.
                let is_unclear = round.open.values().any(Option::is_some);
                self.end_round(now, is_unclear)
            }
            Phase::Asking(_) => self.ask_next(now),
        }
    }

    /// Dialling `seed` came to something.
    pub fn on_answer(
        &mut self,
        seed: &NodeAddress,
        answer: Answer,
        now: Timestamp,
    ) -> Vec<JoinEffect> {
        let Phase::Asking(round) = &mut self.phase else { return Vec::new() };
        let Some(open) = round.open.get_mut(seed) else { return Vec::new() };
        if let Answer::Linked(id) = &answer
            && self.config.seeds.first() == Some(seed)
        {
            self.first_seed = Some(id.clone());
        }
        match answer {
            Answer::Linked(id) if !self.joining.contains(&id) => {
                *open = Some(id);
                Vec::new()
            }
            Answer::Linked(_) | Answer::Failed => {
                round.open.remove(seed);
                self.ask_next(now)
            }
        }
    }

    /// A linked node, which listens at `address`, said whether it is a member. The first member of all
    /// decides.
    pub fn on_peer(
        &mut self,
        id: &NodeId,
        address: &NodeAddress,
        is_member: bool,
        now: Timestamp,
    ) -> Vec<JoinEffect> {
        if self.phase == Phase::Done {
            return Vec::new();
        }
        // It may have come by itself after it was dialled in vain.
        if self.config.seeds.first() == Some(address) {
            self.first_seed = Some(id.clone());
        }
        if is_member {
            self.phase = Phase::Done;
            return vec![JoinEffect::Joined(id.clone())];
        }
        self.joining.insert(id.clone());
        self.settle(id, now)
    }

    /// A node is not linked any more.
    pub fn on_peer_gone(&mut self, id: &NodeId, now: Timestamp) -> Vec<JoinEffect> {
        self.joining.remove(id);
        self.settle(id, now)
    }

    /// The seeds at which `id` answered are settled.
    fn settle(&mut self, id: &NodeId, now: Timestamp) -> Vec<JoinEffect> {
        let Phase::Asking(round) = &mut self.phase else { return Vec::new() };
        let before = round.open.len();
        round.open.retain(|_, answered| answered.as_ref() != Some(id));
        if round.open.len() == before { Vec::new() } else { self.ask_next(now) }
    }

    fn ask_next(&mut self, now: Timestamp) -> Vec<JoinEffect> {
        let Phase::Asking(round) = &mut self.phase else { return Vec::new() };
        if let Some(seed) = round.queue.pop_front() {
            round.open.insert(seed.clone(), None);
            let next = if round.queue.is_empty() {
                round.ends_at
            } else {
                now.after(self.config.stagger).min(round.ends_at)
            };
            return vec![JoinEffect::Dial(seed), JoinEffect::WakeAt(next)];
        }
        if !round.open.is_empty() {
            return vec![JoinEffect::WakeAt(round.ends_at)];
        }
        if now < round.listens_until {
            return vec![JoinEffect::WakeAt(round.listens_until)];
        }
        self.end_round(now, false)
    }

    /// No member was reached: found a cluster, or wait and try again.
    fn end_round(&mut self, now: Timestamp, is_unclear: bool) -> Vec<JoinEffect> {
        if !is_unclear && self.may_found() {
            self.phase = Phase::Done;
            return vec![JoinEffect::Found];
        }
        let delay = self.config.backoff.delay(self.failed_rounds);
        self.failed_rounds = self.failed_rounds.saturating_add(1);
        self.phase = Phase::Waiting;
        vec![JoinEffect::WakeAt(now.after(delay))]
    }

    fn may_found(&self) -> bool {
        let JoinConfig { own, own_address, seeds, remembered, .. } = &self.config;
        if remembered.is_empty() {
            return seeds.first().is_none_or(|first| first == own_address);
        }
        let present: BTreeSet<&NodeId> =
            self.joining.intersection(remembered).chain([own]).collect();
        let is_first_seed = seeds.first() == Some(own_address);
        let gives_way = self.first_seed.as_ref().is_some_and(|first| self.joining.contains(first));
        present.len() * 2 > remembered.len() + 1
            && (is_first_seed || !gives_way && present.first() == Some(&own))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOON: Timestamp = Timestamp::from_nanos(1_700_000_000_000_000_000);
    const SECOND: Span = Span::from_secs(1);

    fn address(name: &str) -> NodeAddress {
        NodeAddress(format!("{name}:4370"))
    }

    fn dial(name: &str) -> JoinEffect {
        JoinEffect::Dial(address(name))
    }

    /// Node `own`, told of seeds `a` and `b`, waiting 1 s, 2 s, 4 s, 4 s…
    fn join(own: &str, remembered: &[&str]) -> Join {
        Join::new(JoinConfig {
            own: own.into(),
            own_address: address(own),
            seeds: vec![address("a"), address("b")],
            remembered: remembered.iter().map(|&id| id.into()).collect(),
            backoff: Backoff { first: SECOND, max: 4 * SECOND },
            stagger: Span::from_millis(250),
            round: 10 * SECOND,
            listen: Span::ZERO,
        })
    }

    fn failed(join: &mut Join, seed: &str) -> Vec<JoinEffect> {
        join.on_answer(&address(seed), Answer::Failed, NOON)
    }

    fn linked(join: &mut Join, seed: &str) -> Vec<JoinEffect> {
        join.on_answer(&address(seed), Answer::Linked(seed.into()), NOON)
    }

    const END: JoinEffect = JoinEffect::WakeAt(Timestamp::from_nanos(1_700_000_010_000_000_000));

    #[test]
    fn seeds_are_dialled_in_order_and_the_first_member_decides() {
        let mut join = join("c", &[]);
        let soon = NOON.after(Span::from_millis(250));
        assert_eq!(join.on_wake(NOON), [dial("a"), JoinEffect::WakeAt(soon)]);
        assert_eq!(failed(&mut join, "a"), [dial("b"), END], "the next at once");
        assert_eq!(linked(&mut join, "b"), []);
        assert_eq!(
            join.on_peer(&"b".into(), &address("b"), true, NOON),
            [JoinEffect::Joined("b".into())]
        );
        assert_eq!(join.on_peer(&"a".into(), &address("a"), true, NOON), [], "once is enough");
        assert_eq!(join.on_wake(NOON.after(99 * SECOND)), []);
    }

    #[test]
    fn a_silent_first_seed_does_not_keep_the_second_waiting() {
        let mut join = join("c", &[]);
        join.on_wake(NOON);
        assert_eq!(join.on_wake(NOON.after(Span::from_millis(250))), [dial("b"), END]);
        linked(&mut join, "b");
        assert_eq!(
            join.on_peer(&"b".into(), &address("b"), true, NOON),
            [JoinEffect::Joined("b".into())]
        );
    }

    #[test]
    fn the_first_seed_founds_a_cluster_after_one_round_without_a_member() {
        let mut join = join("a", &[]);
        assert_eq!(join.on_wake(NOON), [dial("b"), END]);
        assert_eq!(failed(&mut join, "b"), [JoinEffect::Found]);
    }

    #[test]
    fn the_first_seed_joins_when_the_second_is_a_member_already() {
        let mut join = join("a", &[]);
        join.on_wake(NOON);
        assert_eq!(linked(&mut join, "b"), [], "it has not said yet whether it is one");
        assert_eq!(
            join.on_peer(&"b".into(), &address("b"), true, NOON),
            [JoinEffect::Joined("b".into())]
        );
    }

    #[test]
    fn the_first_seed_founds_while_others_are_joining_too() {
        let mut join = join("a", &[]);
        join.on_wake(NOON);
        linked(&mut join, "b");
        assert_eq!(join.on_peer(&"b".into(), &address("b"), false, NOON), [JoinEffect::Found]);
    }

    #[test]
    fn a_seed_that_answers_and_never_says_what_it_is_keeps_anyone_from_founding() {
        let mut join = join("a", &[]);
        join.on_wake(NOON);
        linked(&mut join, "b");
        let later = NOON.after(10 * SECOND);
        assert_eq!(join.on_wake(later), [JoinEffect::WakeAt(later.after(SECOND))]);
    }

    #[test]
    fn a_later_seed_waits_rather_than_found_a_second_cluster() {
        let mut join = join("b", &[]);
        join.on_wake(NOON);
        assert_eq!(failed(&mut join, "a"), [JoinEffect::WakeAt(NOON.after(SECOND))]);
    }

    #[test]
    fn a_node_that_waits_joins_as_soon_as_the_other_joining_node_has_founded() {
        let mut join = join("b", &[]);
        join.on_wake(NOON);
        linked(&mut join, "a");
        let wait = join.on_peer(&"a".into(), &address("a"), false, NOON);
        assert_eq!(wait, [JoinEffect::WakeAt(NOON.after(SECOND))]);
        assert_eq!(
            join.on_peer(&"a".into(), &address("a"), true, NOON),
            [JoinEffect::Joined("a".into())]
        );
    }

    #[test]
    fn a_node_without_other_seeds_founds_at_once() {
        for seeds in [vec![], vec![address("a")]] {
            let mut join = join("a", &[]);
            join.config.seeds = seeds;
            assert_eq!(join.on_wake(NOON), [JoinEffect::Found]);
        }
    }

    #[test]
    fn a_first_seed_that_has_lost_its_disk_is_found_by_those_who_remember_it() {
        let quiet = || {
            let mut join = join("a", &[]);
            join.config.seeds = vec![address("a")];
            join.config.listen = 2 * SECOND;
            assert_eq!(join.on_wake(NOON), [JoinEffect::WakeAt(NOON.after(2 * SECOND))]);
            assert_eq!(join.on_wake(NOON.after(SECOND)).len(), 1, "however often it is woken");
            join
        };
        let later = NOON.after(SECOND);
        let joined = quiet().on_peer(&"b".into(), &address("b"), true, later);
        assert_eq!(joined, [JoinEffect::Joined("b".into())]);
        assert_eq!(quiet().on_wake(NOON.after(2 * SECOND)), [JoinEffect::Found], "nobody does");
        // Others who join as well do not hurry it.
        let mut among_others = quiet();
        assert!(among_others.on_peer(&"c".into(), &address("c"), false, later).is_empty());
        assert_eq!(among_others.on_wake(NOON.after(2 * SECOND)), [JoinEffect::Found]);
        // Whoever asks others as well listens as long.
        let mut join = join("a", &[]);
        join.config.listen = 2 * SECOND;
        join.on_wake(NOON);
        assert_eq!(failed(&mut join, "b"), [JoinEffect::WakeAt(NOON.after(2 * SECOND))]);
        assert_eq!(join.on_wake(NOON.after(2 * SECOND)), [JoinEffect::Found]);
    }

    #[test]
    fn a_restarted_first_seed_that_remembers_others_never_founds_alone() {
        let mut join = join("a", &["b", "c"]);
        for _ in 0..5 {
            join.on_wake(NOON);
            let waits = failed(&mut join, "b");
            assert!(matches!(waits[..], [JoinEffect::WakeAt(_)]), "{waits:?}");
        }
    }

    /// `b` and `c` left last and remember nobody, so neither of them founds.
    #[test]
    fn the_first_seed_founds_for_those_who_have_forgotten_it() {
        let mut join = join("b", &["a", "c"]);
        join.config.seeds = vec![address("b"), address("a"), address("c")];
        join.on_wake(NOON);
        linked(&mut join, "a");
        assert_eq!(join.on_peer(&"a".into(), &address("a"), false, NOON)[0], dial("c"));
        assert_eq!(failed(&mut join, "c"), [JoinEffect::Found], "though its name is not the first");
    }

    #[test]
    fn another_gives_way_to_the_first_seed() {
        let mut join = join("a", &["b", "c"]);
        join.config.seeds = vec![address("b"), address("c")];
        join.on_wake(NOON);
        linked(&mut join, "b");
        join.on_peer(&"b".into(), &address("b"), false, NOON);
        assert!(matches!(failed(&mut join, "c")[..], [JoinEffect::WakeAt(_)]));
    }

    #[test]
    fn another_gives_way_to_the_first_seed_that_came_by_itself() {
        let mut join = join("a", &["b", "c"]);
        join.config.seeds = vec![address("b"), address("c")];
        join.on_wake(NOON);
        assert_eq!(failed(&mut join, "b")[0], dial("c"), "it was not there yet");
        assert_eq!(join.on_peer(&"b".into(), &address("b"), false, NOON), []);
        assert!(matches!(failed(&mut join, "c")[..], [JoinEffect::WakeAt(_)]));
    }

    #[test]
    fn a_cluster_that_went_down_as_a_whole_comes_back_by_majority() {
        let mut first = join("a", &["b", "c"]);
        first.on_wake(NOON);
        linked(&mut first, "b");
        assert_eq!(
            first.on_peer(&"b".into(), &address("b"), false, NOON),
            [JoinEffect::Found],
            "2 of 3"
        );
        let mut second = join("b", &["a", "c"]);
        second.on_wake(NOON);
        linked(&mut second, "a");
        let waits = second.on_peer(&"a".into(), &address("a"), false, NOON);
        assert!(matches!(waits[..], [JoinEffect::WakeAt(_)]), "only the first by name founds");
        let mut half = join("a", &["b", "c", "d"]);
        half.on_wake(NOON);
        linked(&mut half, "b");
        let waits = half.on_peer(&"b".into(), &address("b"), false, NOON);
        assert!(matches!(waits[..], [JoinEffect::WakeAt(_)]), "2 of 4 are not more than half");
    }

    #[test]
    fn any_other_node_tries_for_ever_and_ever_more_slowly() {
        let mut join = join("c", &[]);
        let mut now = NOON;
        for seconds in [1, 2, 4, 4] {
            join.on_wake(now);
            join.on_answer(&address("a"), Answer::Failed, now);
            let wake = now.after(seconds * SECOND);
            let waits = join.on_answer(&address("b"), Answer::Failed, now);
            assert_eq!(waits, [JoinEffect::WakeAt(wake)]);
            now = wake;
        }
    }

    proptest! {
        /// Invariants 1 to 3 after any history.
        #[test]
        fn decides_once_never_stalls_and_never_founds_with_a_minority(
            is_first in any::<bool>(),
            remembered in proptest::collection::btree_set("[a-e]", 0..4),
            steps in proptest::collection::vec((0u8..6, 0usize..2, 0u64..12_000), 0..80),
        ) {
            let own = if is_first { "a" } else { "b" };
            let remembered: Vec<&str> =
                remembered.iter().map(String::as_str).filter(|id| *id != own).collect();
            let mut join = join(own, &remembered);
            let mut now = NOON;
            let mut wake = Some(NOON);
            let mut decisions = 0;
            let mut joining: BTreeSet<&str> = BTreeSet::new();
            for (what, which, milliseconds) in steps {
                let peer = ["a", "b"][which];
                now = now.after(Span::from_millis(milliseconds));
                let effects = match what {
                    0 => join.on_answer(&address(peer), Answer::Failed, now),
                    1 => join.on_answer(&address(peer), Answer::Linked(peer.into()), now),
                    2 if peer != own => {
                        joining.insert(peer);
                        join.on_peer(&peer.into(), &address(peer), false, now)
                    }
                    3 => {
                        joining.remove(peer);
                        join.on_peer_gone(&peer.into(), now)
                    }
                    _ => {
                        if wake.is_some_and(|at| at <= now) {
                            wake = None;
                        }
                        join.on_wake(now)
                    }
                };
                prop_assert!(decisions == 0 || effects.is_empty());
                for effect in effects {
                    match effect {
                        JoinEffect::WakeAt(at) => wake = Some(at),
                        JoinEffect::Found => {
                            decisions += 1;
                            let known = joining.iter().filter(|id| remembered.contains(id)).count();
                            let is_majority = (known + 1) * 2 > remembered.len() + 1;
                            prop_assert!(is_majority, "{known} of {remembered:?}");
                        }
                        JoinEffect::Joined(_) => decisions += 1,
                        JoinEffect::Dial(_) => {}
                    }
                }
                prop_assert!(decisions <= 1);
                prop_assert!(join.is_done() || wake.is_some(), "stalled");
            }
        }
    }
}
