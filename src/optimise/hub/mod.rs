//! What a node knows of trials anywhere, and what it believes.
//!
//! ```text
//! run here ── enter ─▶ on the disk ── on_stored ─▶ log ── Entries ─▶ every peer
//! from a peer ── Entries ─▶ log, counts ─▶ claims to be the best?
//!                                             └─▶ Check ─▶ computed here ─┬─ comes out again ─▶ believed
//!                                                                         └─ does not ─▶ refused, peer flagged
//! again and again ── Summary ─▶ peer: who lacks something wants it, or is sent it
//! ```
//!
//! Numbers of trials are shared by slots (see [`Exploration`]), so two nodes seldom run the same one; where
//! both do, as when each takes the other for lost, it counts once. What a peer says counts as tried; it is
//! not believed for having been said. What claims to be better than all that is believed is computed again
//! at once, and what would be among the best or on the front at the end is then.
//!
//! Entries are not signed. Of a life that is there only its node may say what it ran; of one that is gone
//! anybody may, so a liar can have others take numbers of a dead node for tried. Nothing that it says is
//! believed for that.
//!
//! # Invariants
//!
//! 1. What is believed was found here, or has come out again here.
//! 2. A number counts once, and all who have the same logs count the same run of it.
//! 3. Once everybody has heard everybody, all honest nodes believe in the same best, whatever was lost,
//!    repeated and reordered, and whoever lied.
//! 4. What was finished anywhere is known wherever it was told, and is not run again.

mod log;
mod message;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

pub use log::{AUTHORS_MAX, Author, Entry, Finished, Lengths, Logs};
pub use message::{HubMessage, Summary};

use super::exploration::slots_of;
use super::{BestSet, Exploration, Lease, Limits, Search, StopReason, Trial};
use crate::domain::NodeId;

/// Entries in one message.
pub const ENTRIES_MAX: usize = 64;
/// Trials that were refused and are remembered; the oldest goes first.
const REFUSED_MAX: usize = 1_024;
/// Numbers that a peer may say are out at its explorers.
const LEASED_MAX: usize = 1_024;
/// For so many [times](Hub::on_time) without news nobody is waited for any more.
pub const STILL_MAX: u32 = 60;

/// How trials get from node to node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// Whoever has finished one tells everybody; whoever sees that another lacks something tells it again.
    Push,
    /// Whoever sees that it lacks something asks for it.
    Pull,
    /// Told at once, and asked for where that was lost.
    #[default]
    Hybrid,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum HubEffect {
    /// Tell this peer.
    Send(String, HubMessage),
    /// Write down what was tried elsewhere.
    Keep(Vec<Entry>),
    /// This peer said what is not so: tell the operator.
    Flag(String, Box<Trial>),
    /// There is a better best.
    Better(Box<Trial>),
}

/// What an explorer is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    /// Run this one.
    Trial(Lease),
    /// Compute this one again: [`Hub::on_checked`].
    Check(Box<Trial>),
}

/// What is searched, and how.
#[derive(Clone, Debug)]
pub struct HubConfig {
    /// This life of this node.
    pub own: Author,
    /// Strategy, data and terms, in a hash.
    pub family: [u8; 32],
    /// That, space, kind and seed, in a hash.
    pub search_hash: [u8; 32],
    /// What a trial must be of to be one of ours.
    pub like: Trial,
    /// What is tried next.
    pub search: Search,
    /// When it is enough.
    pub limits: Limits,
    /// The best that are kept.
    pub top_max: usize,
    /// How trials get from node to node.
    pub propagation: Propagation,
}

/// What is known of a peer.
#[derive(Clone, Debug, Default)]
struct Peer {
    /// Its last summary.
    summary: Option<Summary>,
}

/// What a node knows of trials anywhere.
#[derive(Clone, Debug)]
pub struct Hub {
    config: HubConfig,
    exploration: Exploration,
    logs: Logs,
    /// Which run of each number counts.
    counted: BTreeMap<u64, (Author, Finished)>,
    /// Entries of this life that are given out a place, and those that are on the disk before their turn.
    entered: u64,
    stored: BTreeMap<u64, Entry>,
    /// Those that are there, and search for the same.
    peers: BTreeMap<String, Peer>,
    slots: BTreeSet<u64>,
    /// Numbers that are out at peers.
    taken: BTreeSet<u64>,
    /// How often it was time since something new was heard.
    still: u32,
    /// What is said to be the best.
    claimed: BestSet,
    believed: BestSet,
    /// What explorers compute again, and who said it.
    checking: BTreeMap<[u8; 32], Trial>,
    /// Who said what by itself, and not by what somebody else had told it; bounded by [`BestSet`].
    said: BTreeMap<[u8; 32], String>,
    refused: VecDeque<[u8; 32]>,
    /// How often each peer said what is not so. Nothing more is heard from it.
    flagged: BTreeMap<String, u64>,
}

impl Hub {
    /// A node that has tried nothing. `adopted` is the best of an earlier search, which has come out again;
    /// `claims` is what else that found.
    pub fn new(config: HubConfig, adopted: Option<&Trial>, claims: Option<&BestSet>) -> Self {
        let exploration = Exploration::new(config.search.clone(), config.limits);
        let slots = slots_of(&NodeId(config.own.node.clone()), []);
        let mut hub = Self {
            exploration,
            logs: Logs::default(),
            counted: BTreeMap::new(),
            entered: 0,
            stored: BTreeMap::new(),
            peers: BTreeMap::new(),
            slots,
            taken: BTreeSet::new(),
            still: 0,
            claimed: BestSet::new(config.top_max),
            believed: BestSet::new(config.top_max),
            checking: BTreeMap::new(),
            said: BTreeMap::new(),
            refused: VecDeque::new(),
            flagged: BTreeMap::new(),
            config,
        };
        if let Some(best) = adopted {
            hub.adopt(best);
        }
        for trial in claims.into_iter().flat_map(BestSet::trials) {
            if hub.is_sound(trial) {
                hub.claimed.add(trial);
            }
        }
        hub
    }

    /// Takes in what was kept by earlier lives. None of it is believed for having been kept: some of it was
    /// said by others.
    pub fn restore(&mut self, mut entries: Vec<Entry>) {
        entries.sort_by_key(|entry| entry.place);
        entries.retain(|entry| self.logs.add(entry));
        // As they would have come in one life.
        entries.sort_by_key(|entry| entry.finished.number);
        for entry in &entries {
            self.count(entry, false);
        }
    }

    fn adopt(&mut self, best: &Trial) -> Vec<HubEffect> {
        if let Some(point) = self.exploration.search().space().point(&best.parameters)
            && !self.exploration.search().has_seen(&point)
        {
            self.exploration.adopt(&point, best.score);
        }
        self.believe(best)
    }

    /// What an explorer is to do next; none, if there is nothing for now.
    pub fn take(&mut self) -> Option<Task> {
        if let Some(claim) = self.to_check() {
            self.checking.insert(claim.id(), claim.clone());
            return Some(Task::Check(Box::new(claim)));
        }
        self.exploration.lease(&self.slots, &self.taken).map(Task::Trial)
    }

    /// What is to be computed again: the best, if it is another's; at the end all that will be shown.
    fn to_check(&self) -> Option<Trial> {
        let is_open = |trial: &&Trial| {
            let is_believed = self.believed.trials().any(|other| other == *trial);
            !is_believed && !self.checking.contains_key(&trial.id())
        };
        let best = self.claimed.best().filter(is_open);
        let is_end = self.is_quiet();
        let rest = || self.claimed.top().iter().chain(self.claimed.front()).find(is_open);
        best.or_else(|| if is_end { rest() } else { None }).cloned()
    }

    /// Whoever was to do this is gone.
    pub fn on_lost(&mut self, task: &Task) {
        match task {
            Task::Trial(lease) => self.exploration.on_lost(lease.number),
            Task::Check(claim) => drop(self.checking.remove(&claim.id())),
        }
    }

    /// What a trial that was run here came to, to be written down: [`Hub::on_stored`].
    pub fn enter(&mut self, finished: Finished) -> Entry {
        let place = self.entered;
        self.entered += 1;
        Entry { author: self.config.own.clone(), place, finished }
    }

    /// An entry of this life is on the disk: now it counts.
    pub fn on_stored(&mut self, entry: Entry) -> Vec<HubEffect> {
        self.stored.insert(entry.place, entry);
        let mut effects = Vec::new();
        let mut told = Vec::new();
        while let Some(entry) = self.stored.remove(&self.logs.length(&self.config.own)) {
            self.logs.add(&entry);
            self.still = 0;
            // It is not out any more, whether or not another node was first.
            let score = score(&entry.finished);
            let is_first = self.exploration.on_finished(entry.finished.number, score);
            effects.extend(self.count_as(&entry, true, is_first));
            told.push(entry);
        }
        if self.config.propagation != Propagation::Pull && !told.is_empty() {
            let tell =
                |peer: &String| HubEffect::Send(peer.clone(), HubMessage::Entries(told.clone()));
            effects.extend(self.partners().map(tell));
        }
        effects
    }

    /// These nodes are there and search for something.
    pub fn on_peers(&mut self, nodes: BTreeSet<String>) -> Vec<HubEffect> {
        self.peers.retain(|peer, _| nodes.contains(peer));
        let mut effects = Vec::new();
        for node in nodes {
            if node != self.config.own.node && !self.peers.contains_key(&node) {
                effects.push(HubEffect::Send(node.clone(), HubMessage::Summary(self.summary())));
                self.peers.insert(node, Peer::default());
            }
        }
        self.share();
        effects
    }

    /// It is time to say how far it is.
    pub fn on_time(&mut self) -> Vec<HubEffect> {
        self.still = self.still.saturating_add(1);
        if self.still == STILL_MAX {
            // What others are at is not waited for any longer.
            self.share();
        }
        let summary = self.summary();
        let tell =
            |peer: &String| HubEffect::Send(peer.clone(), HubMessage::Summary(summary.clone()));
        self.peers.keys().filter(|peer| !self.flagged.contains_key(*peer)).map(tell).collect()
    }

    /// Enough: nothing more is given out here. When it is enough each node finds out by itself, by what it has
    /// heard and by its own limits; nobody ends the search of another.
    pub fn stop(&mut self, reason: StopReason) {
        self.exploration.stop(reason);
    }

    /// A peer says something.
    pub fn on_message(&mut self, from: &str, message: HubMessage) -> Vec<HubEffect> {
        // Whoever has lied is not heard, and whoever is not known yet says it again.
        if self.flagged.contains_key(from) || !self.peers.contains_key(from) {
            return Vec::new();
        }
        match message {
            HubMessage::Summary(summary) => self.on_summary(from, summary),
            HubMessage::Entries(entries) => self.on_entries(from, entries),
            HubMessage::Want(lengths) => self.tell_beyond(from, &lengths),
            HubMessage::Best(best) => self.on_best(from, &best),
        }
    }

    fn on_summary(&mut self, from: &str, summary: Summary) -> Vec<HubEffect> {
        let mut effects = Vec::new();
        if summary.family != self.config.family {
            return effects;
        }
        if summary.search == self.config.search_hash {
            let propagation = self.config.propagation;
            if propagation == Propagation::Push {
                effects = self.tell_beyond(from, &summary.lengths);
            } else if self.logs.lacks(&summary.lengths) {
                let want = HubMessage::Want(self.logs.lengths());
                effects.push(HubEffect::Send(from.to_owned(), want));
            }
        } else if self.believed.best().is_some_and(|best| Some(best.id()) != summary.best) {
            let top = HubMessage::Best(self.believed.top().to_vec());
            effects.push(HubEffect::Send(from.to_owned(), top));
        }
        if let Some(peer) = self.peers.get_mut(from) {
            peer.summary = Some(summary);
        }
        self.share();
        effects
    }

    fn tell_beyond(&self, to: &str, lengths: &Lengths) -> Vec<HubEffect> {
        let entries = self.logs.beyond(lengths, ENTRIES_MAX);
        if entries.is_empty() {
            return Vec::new();
        }
        vec![HubEffect::Send(to.to_owned(), HubMessage::Entries(entries))]
    }

    fn on_entries(&mut self, from: &str, entries: Vec<Entry>) -> Vec<HubEffect> {
        let mut kept = Vec::new();
        let mut effects = Vec::new();
        let many = entries.len() >= ENTRIES_MAX;
        for entry in entries {
            if !self.may_say(from, &entry.author) {
                continue;
            }
            // A true trial of another point would teach the search what is not so.
            let is_sound = |it: &Trial| self.is_sound(it) && is_of(it, &entry.finished.parameters);
            if let Some(trial) = entry.finished.trial.as_ref().filter(|it| !is_sound(it)) {
                effects.extend(self.flag(from, &trial.clone()));
                break;
            }
            if !self.logs.add(&entry) {
                continue;
            }
            self.still = 0;
            if from == entry.author.node
                && self.is_there(&entry.author)
                && let Some(trial) = &entry.finished.trial
            {
                self.said.insert(run_id(trial), from.to_owned());
            }
            effects.extend(self.count(&entry, false));
            kept.push(entry);
        }
        self.forget_said();
        // There is more where a message was full, and it need not wait for the next summary.
        if many && !kept.is_empty() && self.config.propagation != Propagation::Push {
            let want = HubMessage::Want(self.logs.lengths());
            effects.push(HubEffect::Send(from.to_owned(), want));
        }
        if !kept.is_empty() {
            effects.push(HubEffect::Keep(kept));
        }
        effects
    }

    /// Whether `from` may say what this author wrote: only a life that is there writes its log, and has all
    /// of it; of one that is gone anybody may tell.
    fn may_say(&self, from: &str, author: &Author) -> bool {
        *author != self.config.own && (from == author.node || !self.is_there(author))
    }

    fn is_there(&self, author: &Author) -> bool {
        let peer = self.peers.get(&author.node);
        peer.and_then(|peer| peer.summary.as_ref()).is_some_and(|said| said.own == *author)
    }

    fn on_best(&mut self, from: &str, best: &[Trial]) -> Vec<HubEffect> {
        for trial in best.iter().take(self.config.top_max) {
            // Of a search in another space: it is none of ours, and no lie.
            if !self.has_names(trial) {
                continue;
            }
            if !self.is_sound(trial) {
                return self.flag(from, trial);
            }
            if !self.refused.contains(&run_id(trial)) && self.claimed.add(trial) {
                self.said.insert(run_id(trial), from.to_owned());
            }
        }
        self.forget_said();
        Vec::new()
    }

    /// Whether a trial can be one of ours: what it says it is of, not what it says came of it.
    fn is_sound(&self, trial: &Trial) -> bool {
        let like = &self.config.like;
        trial.strategy == like.strategy
            && trial.seed == like.seed
            && trial.data == like.data
            && trial.terms == like.terms
            && trial.rows == like.rows
            && trial.score.is_finite()
            && self.has_names(trial)
    }

    /// Whether its parameters are called as ours are.
    fn has_names(&self, trial: &Trial) -> bool {
        let like = &self.config.like;
        trial.parameters.len() == like.parameters.len()
            && trial.parameters.iter().zip(&like.parameters).all(|(a, b)| a.0 == b.0)
    }

    fn count(&mut self, entry: &Entry, is_own: bool) -> Vec<HubEffect> {
        let Finished { number, parameters, .. } = &entry.finished;
        let point = self.exploration.search().space().point(parameters);
        let score = score(&entry.finished);
        let counts = point.is_some_and(|point| self.exploration.restore(*number, &point, score));
        self.count_as(entry, is_own, counts)
    }

    /// Takes an entry into what is known; `is_first` says that it is the first of its number here.
    fn count_as(&mut self, entry: &Entry, is_own: bool, is_first: bool) -> Vec<HubEffect> {
        let Entry { author, finished, .. } = entry;
        // Whatever came first here, everybody counts the same one.
        let is_rather = self.counted.get(&finished.number).is_some_and(|(other, counted)| {
            let order = match (&finished.trial, &counted.trial) {
                (Some(a), Some(b)) => a.order(b),
                (a, b) => b.is_some().cmp(&a.is_some()),
            };
            order.then_with(|| author.cmp(other)).is_lt()
        });
        if is_first || is_rather {
            self.counted.insert(finished.number, (author.clone(), finished.clone()));
        }
        let Some(trial) = &finished.trial else { return Vec::new() };
        if self.refused.contains(&run_id(trial)) {
            return Vec::new();
        }
        self.claimed.add(trial);
        if is_own { self.believe(trial) } else { Vec::new() }
    }

    fn believe(&mut self, trial: &Trial) -> Vec<HubEffect> {
        let before = self.believed.best().map(Trial::id);
        self.believed.add(trial);
        self.claimed.add(trial);
        match self.believed.best() {
            Some(best) if Some(best.id()) != before => {
                vec![HubEffect::Better(Box::new(best.clone()))]
            }
            Some(_) | None => Vec::new(),
        }
    }

    /// A claim was computed again: it came to this, or to nothing.
    pub fn on_checked(&mut self, claim: &Trial, again: Option<&Trial>) -> Vec<HubEffect> {
        self.checking.remove(&claim.id());
        if again.is_some_and(|again| claim.is_reproduced_by(again)) {
            return self.adopt(claim);
        }
        if self.refused.len() == REFUSED_MAX {
            self.refused.pop_front();
        }
        self.refused.push_back(run_id(claim));
        let sender = self.said.remove(&run_id(claim));
        let effects = match sender {
            Some(peer) => self.flag(&peer, claim),
            // Whoever told it had it from somebody else.
            None => Vec::new(),
        };
        self.recount();
        effects
    }

    /// This peer said what is not so: nothing that it ran counts, and nothing more is heard from it.
    fn flag(&mut self, peer: &str, trial: &Trial) -> Vec<HubEffect> {
        *self.flagged.entry(peer.to_owned()).or_default() += 1;
        self.recount();
        self.share();
        vec![HubEffect::Flag(peer.to_owned(), Box::new(trial.clone()))]
    }

    /// Counts anew what is known, without what was refused and what liars say. Their numbers are run again.
    fn recount(&mut self) {
        let is_out = |author: &Author, finished: &Finished| {
            let is_refused = |trial: &Trial| self.refused.contains(&run_id(trial));
            let is_known = |trial: &Trial| self.believed.trials().any(|other| other == trial);
            let is_liar = self.flagged.contains_key(&author.node);
            finished
                .trial
                .as_ref()
                .map_or(is_liar, |trial| is_refused(trial) || (is_liar && !is_known(trial)))
        };
        let gone: Vec<(u64, Finished)> = self
            .counted
            .iter()
            .filter(|(_, (author, finished))| is_out(author, finished))
            .map(|(number, (_, finished))| (*number, finished.clone()))
            .collect();
        let mut claimed = self.believed.clone();
        let mut others: Vec<Entry> = Vec::new();
        for (author, finished) in self.logs.iter().filter(|(author, it)| !is_out(author, it)) {
            if let Some(trial) = &finished.trial {
                claimed.add(trial);
            }
            if gone.iter().any(|(number, _)| *number == finished.number) {
                let (author, finished) = (author.clone(), finished.clone());
                others.push(Entry { author, place: 0, finished });
            }
        }
        self.claimed = claimed;
        for (number, finished) in gone {
            self.counted.remove(&number);
            if let Some(point) = self.exploration.search().space().point(&finished.parameters) {
                self.exploration.forget(number, &point);
            }
        }
        for entry in others {
            // Another has run the same number.
            let is_own = entry.author == self.config.own;
            self.count(&entry, is_own);
        }
    }

    /// Who said what is kept as long as it may be computed again.
    fn forget_said(&mut self) {
        if self.said.len() > 4 * (self.config.top_max + super::best::CELLS) {
            let known: BTreeSet<[u8; 32]> = self.claimed.trials().map(run_id).collect();
            self.said.retain(|id, _| known.contains(id));
        }
    }

    /// Those who search in the same way, and have not lied.
    fn partners(&self) -> impl Iterator<Item = &String> {
        let is_same = |peer: &Peer| {
            let same = |summary: &Summary| summary.search == self.config.search_hash;
            peer.summary.as_ref().is_some_and(same)
        };
        let honest = |name: &String| !self.flagged.contains_key(name);
        self.peers
            .iter()
            .filter(move |(name, peer)| honest(name) && is_same(peer))
            .map(|(name, _)| name)
    }

    fn share(&mut self) {
        let own = NodeId(self.config.own.node.clone());
        let others: Vec<NodeId> = self.partners().map(|name| NodeId(name.clone())).collect();
        self.slots = slots_of(&own, &others);
        let is_waited_for = self.still < STILL_MAX;
        let of = |name: &NodeId| self.peers.get(&name.0).and_then(|peer| peer.summary.as_ref());
        let leased = others.iter().filter_map(of).flat_map(|it| it.leased.iter().take(LEASED_MAX));
        self.taken = leased.copied().filter(|_| is_waited_for).collect();
    }

    fn summary(&self) -> Summary {
        Summary {
            own: self.config.own.clone(),
            family: self.config.family,
            search: self.config.search_hash,
            lengths: self.logs.lengths(),
            leased: self.exploration.leased().collect(),
            stopped: self.exploration.stopped(),
            best: self.believed.best().map(Trial::id),
        }
    }

    /// Whether all there is to try has been tried, here and by all who are there.
    pub fn is_quiet(&self) -> bool {
        let own = self.summary();
        let is_done = |peer: &Peer| {
            peer.summary.as_ref().is_none_or(|summary| {
                summary.search != own.search
                    || (summary.stopped.is_some()
                        && summary.leased.is_empty()
                        && !self.logs.lacks(&summary.lengths))
            })
        };
        let honest = self.peers.iter().filter(|(name, _)| !self.flagged.contains_key(*name));
        let is_alone = self.still >= STILL_MAX || honest.map(|(_, peer)| peer).all(is_done);
        own.stopped.is_some() && own.leased.is_empty() && is_alone
    }

    /// Why the search is over, once it is: nothing more will change.
    pub fn ended(&self) -> Option<StopReason> {
        let is_over = self.is_quiet() && self.checking.is_empty() && self.to_check().is_none();
        self.exploration.stopped().filter(|_| is_over)
    }

    /// What counts, by number; those that were given up are among them.
    pub fn counted(&self) -> impl Iterator<Item = &Finished> {
        self.counted.values().map(|(_, finished)| finished)
    }

    /// Trials that count.
    pub fn finished(&self) -> u64 {
        self.exploration.finished()
    }

    /// Trials that this life of this node has run and written down, whether or not another node was first.
    pub fn own(&self) -> u64 {
        self.logs.length(&self.config.own)
    }

    /// What is believed.
    pub const fn best(&self) -> &BestSet {
        &self.believed
    }

    /// How often each peer said what is not so.
    pub const fn flagged(&self) -> &BTreeMap<String, u64> {
        &self.flagged
    }

    /// Those who search in the same way just now, without this node.
    pub fn searching(&self) -> Vec<String> {
        self.partners().cloned().collect()
    }
}

/// Whether `trial` is one of these parameters, to the bit.
fn is_of(trial: &Trial, parameters: &[(String, f64)]) -> bool {
    let is_same =
        |(a, b): (&(String, f64), &(String, f64))| a.0 == b.0 && a.1.to_bits() == b.1.to_bits();
    trial.parameters.len() == parameters.len()
        && trial.parameters.iter().zip(parameters).all(is_same)
}

fn score(finished: &Finished) -> f64 {
    finished.trial.as_ref().map_or(f64::MIN, |trial| trial.score)
}

/// What a trial is of and what it says came of it, so that a lie about a point is told from the truth.
fn run_id(trial: &Trial) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&trial.id()).update(trial.digest.as_bytes());
    hasher.update(&trial.score.to_bits().to_le_bytes());
    for part in trial.metrics.objectives() {
        hasher.update(&part.to_bits().to_le_bytes());
    }
    *hasher.finalize().as_bytes()
}
