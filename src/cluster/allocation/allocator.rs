//! Decides, for the coordinator, which unit goes to which node next.
//!
//! | Why a unit moves                             | Where to                     | How many, how soon        |
//! |----------------------------------------------|------------------------------|---------------------------|
//! | it is nobody's                               | where it belongs             | all at once               |
//! | its node is gone                             | by balance                   | all, after `patience`; at once, if it is drained |
//! | its node has given it up                     | by balance                   | all at once               |
//! | its node is drained; another was made master | where it belongs             | so many as may be under way, the next when one has begun |
//! | it is not where it belongs                   | where it belongs             | one, every `settle`       |
//!
//! # Invariants
//!
//! 1. A unit whose node is there stays where it is, unless it is handed over or brought back; of those no
//!    more move at a time than may, and none is brought back to a node that has not been there for a
//!    while.
//! 2. A unit whose node is gone goes to a node that is there for such units, or, if there is none, to any;
//!    but to its own node, if that is back in another life.
//! 3. Without failover, units of a node that is gone wait for it, or for somebody to drain it.
//! 4. A node that is drained gets nothing. One that has given a unit up in this life does not get that unit.

use std::collections::{BTreeMap, BTreeSet};

use super::Unit;
use crate::cluster::{Balancer, Balancing, Choice, Profile};
use crate::domain::{Incarnation, NodeId, Span, Timestamp};

#[cfg(test)]
mod tests;

/// How units are placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placing {
    /// Spread over all nodes that are there for them, by rendezvous hashing.
    Rendezvous,
    /// As [`AllocatorConfig::balancing`] says, and so that none has two more than another of its weight.
    Balanced,
    /// All on the master; the others stand by.
    MasterStandby,
}

/// How the allocator decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocatorConfig {
    /// How units are placed.
    pub placing: Placing,
    /// How a node is chosen for units of one that is lost.
    pub balancing: Balancing,
    /// How long until a node that has come counts for its whole weight.
    pub slow_start: Span,
    /// Nothing is placed before so many nodes are there: the first would get everything.
    pub nodes_min: usize,
    /// How long a node must be there before units are brought back to it, and the time between two of
    /// them.
    pub settle: Span,
    /// Whether units of a node that is gone are given to others.
    pub fails_over: bool,
    /// How long a node must have been gone before they are.
    pub patience: Span,
    /// How many units may be under way from one node to another at once, while both are there.
    pub handovers_max: usize,
    /// How long a unit that has been given to a node counts as under way, if that does not begin it.
    pub handover_patience: Span,
}

/// A node that is there.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Which.
    pub node: NodeId,
    /// Which life of it.
    pub session: u64,
    /// What it is there for in the first place.
    pub duties: Vec<String>,
    /// How much it is to have, compared to others; 1.0 is usual.
    pub weight: f64,
    /// How loaded it is, from 0 to 1.
    pub load: f64,
    /// The units that it says it runs, and at which epoch.
    pub serves: BTreeMap<Unit, u64>,
}

impl Candidate {
    /// The node that has this session in this life, as its profile among `profiles` says; none, if what
    /// it is there for is not known yet. Its weight and load are the usual ones.
    pub fn of(
        node: &NodeId,
        session: u64,
        life: Incarnation,
        profiles: &[Profile],
    ) -> Option<Self> {
        let is_same = |profile: &&Profile| profile.id == *node && profile.incarnation == life;
        let profile = profiles.iter().find(is_same)?;
        let serves = profile.services.iter();
        Some(Self {
            node: node.clone(),
            session,
            duties: profile.duties.clone(),
            weight: 1.0,
            load: 0.0,
            serves: serves.filter_map(|s| Some((Unit::parse(&s.role)?, s.epoch))).collect(),
        })
    }
}

/// Whose a unit is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Which node.
    pub node: NodeId,
    /// Which life of it.
    pub session: u64,
    /// Since which epoch.
    pub epoch: u64,
}

/// Which lives of nodes have given a unit up.
pub type GivenUp = BTreeMap<Unit, BTreeSet<(NodeId, u64)>>;

/// What the allocator decides upon.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'s> {
    /// Whose units are; one without a holding is nobody's.
    pub held: &'s BTreeMap<Unit, Holding>,
    /// Who is there.
    pub there: &'s [Candidate],
    /// Nodes that are to be emptied, whether or not they are there.
    pub drained: &'s BTreeSet<NodeId>,
    /// Who was made master, if anybody was.
    pub master: Option<&'s NodeId>,
    /// Who gave what up.
    pub given_up: &'s GivenUp,
}

/// A unit that is to go to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Which.
    pub unit: Unit,
    /// Where to; none, if every node that is there has given it up.
    pub node: Option<NodeId>,
}

/// The coordinator's memory. A new coordinator begins with an empty one, and waits a little longer
/// before it brings units back.
#[derive(Debug)]
pub struct Allocator {
    config: AllocatorConfig,
    balancer: Balancer,
    /// When each life of a node was first seen, or was last seen drained.
    came: BTreeMap<(NodeId, u64), Came>,
    /// Since when the node of each unit has been gone.
    lost: BTreeMap<Unit, Timestamp>,
    /// Units that have been given to a node and not begun there, at which epoch, and since when.
    under_way: BTreeMap<Unit, (u64, Timestamp)>,
    /// Which nodes have had a unit.
    had: BTreeMap<Unit, BTreeSet<NodeId>>,
    /// When a unit was last brought back.
    brought_back: Timestamp,
    has_looked: bool,
}

#[derive(Clone, Copy, Debug)]
struct Came {
    at: Timestamp,
    /// Whether it came when others were at work: it gets a growing share.
    is_new: bool,
}

/// What does not change while one plan is made.
struct Look<'s> {
    situation: Situation<'s>,
    now: Timestamp,
    /// Units that each node has, or is to have.
    counts: BTreeMap<&'s NodeId, usize>,
}

impl<'s> Look<'s> {
    fn is_there(&self, holding: &Holding) -> bool {
        self.holder(holding).is_some()
    }

    fn holder(&self, holding: &Holding) -> Option<&'s Candidate> {
        let is_it = |c: &&Candidate| c.node == holding.node && c.session == holding.session;
        self.situation.there.iter().find(is_it)
    }

    /// Those that may have `unit`: nodes that are there for it, or, if there are none, all.
    fn eligible(&self, unit: Unit) -> Vec<&'s Candidate> {
        let may = |c: &&Candidate| {
            !self.is_drained(&c.node) && !self.has_given_up(unit, &c.node, c.session)
        };
        let has_duty = |c: &&Candidate| c.duties.iter().any(|duty| duty == unit.duty());
        let all = self.situation.there.iter().filter(may);
        let first: Vec<&Candidate> = all.clone().filter(has_duty).collect();
        if first.is_empty() { all.collect() } else { first }
    }

    /// Whether any node that is there has not given `unit` up.
    fn may_later(&self, unit: Unit) -> bool {
        let mut there = self.situation.there.iter();
        there.any(|c| !self.has_given_up(unit, &c.node, c.session))
    }

    fn is_drained(&self, node: &NodeId) -> bool {
        self.situation.drained.contains(node)
    }

    fn has_given_up(&self, unit: Unit, node: &NodeId, session: u64) -> bool {
        let lives = self.situation.given_up.get(&unit);
        lives.is_some_and(|lives| lives.contains(&(node.clone(), session)))
    }

    fn count(&self, node: &NodeId) -> usize {
        self.counts.get(node).copied().unwrap_or(0)
    }
}

impl Allocator {
    /// An allocator that has seen nothing.
    pub fn new(config: AllocatorConfig, now: Timestamp) -> Self {
        Self {
            config,
            balancer: Balancer::new(config.balancing, config.slow_start),
            came: BTreeMap::new(),
            lost: BTreeMap::new(),
            under_way: BTreeMap::new(),
            had: BTreeMap::new(),
            brought_back: now,
            has_looked: false,
        }
    }

    /// What is to move now.
    pub fn plan(
        &mut self,
        units: impl IntoIterator<Item = Unit>,
        situation: &Situation<'_>,
        now: Timestamp,
    ) -> Vec<Move> {
        let mut look = Look { situation: *situation, now, counts: BTreeMap::new() };
        self.note(&look);
        let Situation { held, there, .. } = *situation;
        if there.len() < self.config.nodes_min && !held.values().any(|h| look.is_there(h)) {
            return Vec::new();
        }
        for holding in held.values() {
            if look.is_there(holding) {
                *look.counts.entry(&holding.node).or_default() += 1;
            }
        }
        let (mut moves, mut settled) = (Vec::new(), Vec::new());
        for unit in units {
            let to = match held.get(&unit) {
                Some(holding) => match look.holder(holding) {
                    Some(holder) if !look.has_given_up(unit, &holder.node, holder.session) => {
                        self.lost.remove(&unit);
                        settled.push((unit, holder, holding.epoch));
                        continue;
                    }
                    Some(_) => {
                        let to = self.balance(unit, &look);
                        // One that is only drained may have it once it is not any more.
                        if to.is_none() && !look.may_later(unit) {
                            moves.push(Move { unit, node: None });
                        }
                        to
                    }
                    None => self.replace(unit, holding, &look),
                },
                None => self.place(unit, &look.eligible(unit), &look),
            };
            if let Some(node) = to {
                *look.counts.entry(node).or_default() += 1;
                moves.push(Move { unit, node: Some(node.clone()) });
            }
        }
        if moves.is_empty() {
            moves = self.hand_over(&settled, &mut look);
        }
        if moves.is_empty() && self.under_way.is_empty() {
            moves.extend(self.bring_back(&settled, &look));
        }
        moves
    }

    /// Remembers what is seen.
    fn note(&mut self, look: &Look<'_>) {
        let Situation { held, there, .. } = look.situation;
        let life = |candidate: &Candidate| (candidate.node.clone(), candidate.session);
        self.came.retain(|(node, session), _| {
            there.iter().any(|c| c.node == *node && c.session == *session)
        });
        let are_at_work = self.has_looked && held.values().any(|h| look.is_there(h));
        self.has_looked = true;
        for candidate in there {
            let came = Came { at: look.now, is_new: are_at_work };
            let came = self.came.entry(life(candidate)).or_insert(came);
            if look.is_drained(&candidate.node) {
                *came = Came { at: look.now, is_new: true };
            }
        }
        self.lost.retain(|unit, _| held.contains_key(unit));
        self.had.retain(|unit, _| held.contains_key(unit));
        let mut under_way = BTreeMap::new();
        for (&unit, holding) in held {
            self.had.entry(unit).or_default().insert(holding.node.clone());
            let begun = look.holder(holding).is_none_or(|holder| {
                holder.serves.get(&unit).is_some_and(|&epoch| epoch >= holding.epoch)
            });
            if !begun {
                let known = self.under_way.get(&unit).filter(|(epoch, _)| *epoch == holding.epoch);
                let since = known.map_or(look.now, |&(_, since)| since);
                under_way.insert(unit, (holding.epoch, since));
            }
        }
        // Whoever does not begin what it was given must not hold up the rest for ever.
        under_way.retain(|_, (_, since)| look.now < since.after(self.config.handover_patience));
        self.under_way = under_way;
    }

    /// Who is to have a unit whose node is gone.
    fn replace<'s>(
        &mut self,
        unit: Unit,
        holding: &Holding,
        look: &Look<'s>,
    ) -> Option<&'s NodeId> {
        let lost = *self.lost.entry(unit).or_insert(look.now);
        let may_again =
            |c: &&Candidate| c.node == holding.node && !look.has_given_up(unit, &c.node, c.session);
        let again = look.situation.there.iter().find(may_again);
        // Somebody has said that it may not keep its units.
        let is_drained = look.is_drained(&holding.node);
        let is_back = again.is_some() && !is_drained;
        let stays = !(self.config.fails_over || is_drained);
        if stays || is_back {
            // In another life it has its disk, and what is on it, still.
            again.map(|c| &c.node)
        } else if is_drained || look.now >= lost.after(self.config.patience) {
            self.balance(unit, look)
        } else {
            None
        }
    }

    fn choice<'n>(&self, unit: Unit, candidate: &'n Candidate, look: &Look<'_>) -> Choice<'n> {
        let came = self.came.get(&(candidate.node.clone(), candidate.session));
        let had = self.had.get(&unit);
        Choice {
            node: &candidate.node,
            weight: candidate.weight,
            load: candidate.load,
            held: look.count(&candidate.node),
            age: came.filter(|came| came.is_new).map(|came| look.now.since(came.at)),
            is_near: had.is_some_and(|had| had.contains(&candidate.node)),
        }
    }

    fn choices<'s>(
        &self,
        unit: Unit,
        eligible: &[&'s Candidate],
        look: &Look<'_>,
    ) -> Vec<Choice<'s>> {
        eligible.iter().map(|candidate| self.choice(unit, candidate, look)).collect()
    }

    /// The node whose turn it is.
    fn balance<'s>(&mut self, unit: Unit, look: &Look<'s>) -> Option<&'s NodeId> {
        let choices = self.choices(unit, &look.eligible(unit), look);
        self.balancer.choose(&unit.to_string(), &choices)
    }

    /// Where a unit belongs.
    fn place<'s>(
        &mut self,
        unit: Unit,
        eligible: &[&'s Candidate],
        look: &Look<'_>,
    ) -> Option<&'s NodeId> {
        let choices = self.choices(unit, eligible, look);
        match self.config.placing {
            Placing::Rendezvous => self.balancer.owner(&unit.to_string(), &choices),
            Placing::Balanced => self.balancer.choose(&unit.to_string(), &choices),
            Placing::MasterStandby => {
                let nodes = || eligible.iter().map(|candidate| &candidate.node);
                let master = nodes().find(|&node| Some(node) == look.situation.master);
                master.or_else(|| nodes().min())
            }
        }
    }

    /// Units that are to leave nodes which are there, as many as may be under way.
    fn hand_over(&mut self, settled: &[(Unit, &Candidate, u64)], look: &mut Look<'_>) -> Vec<Move> {
        let has_master =
            self.config.placing == Placing::MasterStandby && look.situation.master.is_some();
        let room = self.config.handovers_max.saturating_sub(self.under_way.len());
        let mut moves = Vec::new();
        for &(unit, holder, _) in settled {
            if moves.len() == room {
                break;
            }
            let is_drained = look.is_drained(&holder.node);
            if self.under_way.contains_key(&unit) || !(is_drained || has_master) {
                continue;
            }
            let to = self.place(unit, &look.eligible(unit), look);
            let is_meant = is_drained || to == look.situation.master;
            if let Some(node) = to.filter(|&node| is_meant && *node != holder.node) {
                let node = node.clone();
                let found = look.situation.there.iter().find(|c| c.node == node);
                if let Some(candidate) = found {
                    *look.counts.entry(&candidate.node).or_default() += 1;
                }
                moves.push(Move { unit, node: Some(node) });
            }
        }
        moves
    }

    /// One unit that is not where it belongs, if it is time.
    fn bring_back(&mut self, settled: &[(Unit, &Candidate, u64)], look: &Look<'_>) -> Option<Move> {
        let settle = self.config.settle;
        if look.now < self.brought_back.after(settle) {
            return None;
        }
        let mut found = None;
        for &(unit, holder, _) in settled {
            let mut eligible = look.eligible(unit);
            eligible.retain(|candidate| {
                let came = self.came.get(&(candidate.node.clone(), candidate.session));
                came.is_some_and(|came| look.now >= came.at.after(settle))
            });
            let to = match self.config.placing {
                Placing::Balanced => self.relief(unit, holder, &eligible, look),
                Placing::Rendezvous | Placing::MasterStandby => self.place(unit, &eligible, look),
            };
            if let Some(node) = to.filter(|&node| *node != holder.node) {
                found = Some(Move { unit, node: Some(node.clone()) });
                break;
            }
        }
        if found.is_some() {
            self.brought_back = look.now;
        }
        found
    }

    /// A node that would still have less for its weight than the holder of `unit` has, if it had that too.
    fn relief<'s>(
        &self,
        unit: Unit,
        holder: &Candidate,
        eligible: &[&'s Candidate],
        look: &Look<'_>,
    ) -> Option<&'s NodeId> {
        let choices = self.choices(unit, eligible, look);
        // What is measured goes up and down with the work; only what is allocated is moved for.
        let burden = |choice: &Choice<'_>| self.balancer.burden(&Choice { load: 0.0, ..*choice });
        let least = choices
            .iter()
            .min_by(|a, b| burden(a).total_cmp(&burden(b)).then_with(|| a.node.cmp(b.node)))?;
        let own = self.choice(unit, holder, look);
        let without = Choice { held: own.held.saturating_sub(1), ..own };
        let is_of_kind = eligible.iter().any(|candidate| candidate.node == holder.node);
        let is_less = burden(least) + 1e-9 < burden(&without);
        (!is_of_kind || is_less).then_some(least.node)
    }
}
