//! The ledger as what it is to its users: registers that are linearizable, with delay, unknown outcomes
//! and leaders that change. The log is one list here; what is simulated are its edges: whoever believes
//! to lead, who is reached, which answers come. State machine, keeper, expiry and allocator are real.

mod allocating;
mod clients;

use std::collections::BTreeMap;

use tickwright_core::cluster::{Allocator, Owners, Unit};
use tickwright_core::domain::{NodeId, Span, Timestamp};
use tickwright_core::ledger::{
    Answer, Command, Event, Expiry, Keeper, KeeperEffect, Ledger, Opening, Operation, Outcome,
    Refusal, SessionId,
};

use crate::history::Entry;
use crate::world::{Broken, MILLISECOND, SECOND, What, World, note};

/// What nodes write each other about the ledger.
#[derive(Clone, Debug)]
pub(crate) enum Letter {
    /// Carry this out, or tell how far a reader must wait.
    Submit {
        request: u64,
        attempt: u64,
        command: Option<Command>,
    },
    Answered {
        request: u64,
        attempt: u64,
        answer: Reply,
    },
    /// Entries up to here are agreed on; from the leader of this election.
    Entries {
        election: u64,
        until: usize,
    },
}

#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Done(Answer),
    Index(usize),
    NotLeader(Option<usize>),
}

/// The agreed log, and who may append to it.
#[derive(Debug, Default)]
pub(crate) struct Service {
    pub(crate) log: Vec<Command>,
    pub(crate) truth: Ledger,
    /// Which life of which node leads; grows with each election.
    leader: Option<(usize, u64)>,
    election: u64,
    /// Since when the leader has reached no majority.
    lost_at: Option<u64>,
    proposals: BTreeMap<u64, Proposal>,
    next_proposal: u64,
    /// Which session acted as coordinator of each term.
    acted: BTreeMap<u64, (NodeId, SessionId)>,
    pub(crate) history: Vec<Entry>,
    /// How often each value was written; once at most.
    written: BTreeMap<Vec<u8>, u32>,
}

#[derive(Clone, Debug)]
struct Proposal {
    from: usize,
    from_life: u64,
    request: u64,
    attempt: u64,
    command: Option<Command>,
    tries: u32,
}

/// A request that waits for its answer.
#[derive(Clone, Debug)]
struct Request {
    command: Option<Command>,
    until: Timestamp,
    attempt: u64,
    is_maybe: bool,
    why: Why,
}

#[derive(Clone, Debug)]
enum Why {
    Session(KeeperEffect),
    Allocate,
    Client(usize),
}

/// What came of a request in the end.
#[derive(Clone, Debug)]
pub(crate) enum Asking {
    Answered(Answer),
    Index(usize),
    NotDone,
    Unknown,
}

/// One node's part.
#[derive(Debug)]
pub(crate) struct Agreement {
    /// Its copy, and how many commands it has.
    pub(crate) copy: Ledger,
    pub(crate) applied: usize,
    election: u64,
    leader: Option<usize>,
    keeper: Keeper,
    expiry: Expiry,
    allocator: Option<(u64, Allocator)>,
    allocating: usize,
    requests: BTreeMap<u64, Request>,
    next_request: u64,
    client: u64,
    number: u64,
    /// Reads that wait for the copy to come so far.
    reads: Vec<(usize, usize)>,
    is_busy: bool,
    known: BTreeMap<u64, u64>,
}

impl Agreement {
    pub(crate) fn new(world: &mut World, node: usize, now: Timestamp) -> Self {
        // What was applied last may not be on the disk.
        let sure = world.nodes[node].disk.applied;
        let lag = usize::try_from(world.random.range(0, 20)).unwrap_or(0);
        let applied = sure.saturating_sub(lag);
        let mut copy = Ledger::default();
        for command in &world.service.log[..applied] {
            copy.apply(command);
        }
        let ttl = world.timings.session_ttl;
        Self {
            copy,
            applied,
            election: 0,
            leader: None,
            keeper: Keeper::new(ttl, now),
            expiry: Expiry::new(ttl),
            allocator: None,
            allocating: 0,
            requests: BTreeMap::new(),
            next_request: 0,
            client: world.random.draw(),
            number: 0,
            reads: Vec::new(),
            is_busy: false,
            known: BTreeMap::new(),
        }
    }

    /// Whose each unit is, as far as this node knows.
    pub(crate) fn owners(&self) -> Owners {
        let of = |(resource, allocation): (&String, &tickwright_core::ledger::Allocation)| {
            let owner = allocation.owner.as_ref()?;
            Some((Unit::parse(resource)?, (owner.node.clone(), allocation.epoch)))
        };
        self.copy.allocations().iter().filter_map(of).collect()
    }
}

impl World {
    pub(crate) fn found_ledger(&mut self, node: usize) {
        if self.service.leader.is_none() && self.service.log.is_empty() {
            self.elect(node);
        }
    }

    fn elect(&mut self, node: usize) {
        note!(self, "{} leads the ledger", self.nodes[node].name);
        self.service.leader = Some((node, self.nodes[node].life));
        self.service.election += 1;
        self.service.lost_at = None;
        let (election, until) = (self.service.election, self.service.log.len());
        let agreement = &mut self.run_of(node).agreement;
        agreement.leader = Some(node);
        agreement.election = election;
        // Whoever is elected has everything that was agreed on.
        self.learn(node, until);
        self.replicate(node);
    }

    pub(crate) fn depose(&mut self) {
        if let Some((leader, _)) = self.service.leader {
            self.service.lost_at = Some(0);
            let candidates: Vec<usize> = (0..self.nodes.len())
                .filter(|&node| node != leader && self.may_lead(node))
                .collect();
            if !candidates.is_empty() {
                let next = candidates[self.random.index(candidates.len())];
                self.elect(next);
            }
        }
    }

    fn reach(&self, one: usize, other: usize) -> bool {
        one == other
            || (self.is_awake(other)
                && !self.net.is_cut(one, other)
                && !self.net.is_cut(other, one)
                && self.nodes[one]
                    .run
                    .as_ref()
                    .is_some_and(|run| run.open.contains_key(&self.nodes[other].name)))
    }

    fn may_lead(&self, node: usize) -> bool {
        let reached = (0..self.nodes.len()).filter(|&other| self.reach(node, other)).count();
        self.is_awake(node) && reached * 2 > self.nodes.len()
    }

    fn leads(&self, node: usize) -> bool {
        self.service.leader == Some((node, self.nodes[node].life))
    }

    /// Somebody else leads once the leader has reached no majority for a while.
    pub(crate) fn elections(&mut self) {
        self.at_world(self.now + 100 * MILLISECOND, What::Elections);
        let Some((leader, life)) = self.service.leader else { return };
        if self.nodes[leader].life == life && self.is_up(leader) && self.may_lead(leader) {
            self.service.lost_at = None;
            self.replicate(leader);
            return;
        }
        let since = *self.service.lost_at.get_or_insert(self.now);
        let timings = self.timings;
        let wait =
            self.random.range(0, 2) * u64::try_from(timings.election_min.as_nanos()).unwrap();
        let wait = wait + u64::try_from(timings.election_min.as_nanos()).unwrap();
        if self.now < since + wait {
            return;
        }
        let candidates: Vec<usize> =
            (0..self.nodes.len()).filter(|&node| self.may_lead(node)).collect();
        if !candidates.is_empty() {
            let next = candidates[self.random.index(candidates.len())];
            self.elect(next);
        }
    }

    fn replicate(&mut self, leader: usize) {
        let (election, until) = (self.service.election, self.service.log.len());
        for other in 0..self.nodes.len() {
            if other != leader {
                let letter = What::Letter(Letter::Entries { election, until });
                self.send_loosely(leader, other, &letter);
            }
        }
    }

    fn learn(&mut self, node: usize, until: usize) {
        let from = self.nodes[node].run.as_ref().map_or(0, |run| run.agreement.applied);
        if until <= from {
            return;
        }
        let commands: Vec<Command> = self.service.log[from..until].to_vec();
        let agreement = &mut self.run_of(node).agreement;
        for command in &commands {
            agreement.copy.apply(command);
        }
        agreement.applied = until;
        let (ready, waiting) = agreement.reads.iter().partition(|&&(index, _)| index <= until);
        agreement.reads = waiting;
        self.nodes[node].disk.applied = until;
        let ready: Vec<(usize, usize)> = ready;
        for (_, entry) in ready {
            self.finish_read(node, entry);
        }
        self.settle(node);
    }

    /// Has something carried out, or reads, and waits as long as `patience` for it.
    fn submit(&mut self, node: usize, command: Option<Command>, patience: Span, why: Why) {
        let until = self.clock(node).after(patience);
        let agreement = &mut self.run_of(node).agreement;
        agreement.next_request += 1;
        let request = agreement.next_request;
        let waiting = Request { command, until, attempt: 0, is_maybe: false, why };
        agreement.requests.insert(request, waiting);
        self.attempt(node, request);
    }

    fn attempt(&mut self, node: usize, request: u64) {
        let others: Vec<usize> = {
            let run = self.nodes[node].run.as_ref().expect("it is up");
            let linked: Vec<NodeId> = run.open.keys().cloned().collect();
            linked.iter().map(|name| self.index_of(name)).collect()
        };
        let chance = self.random.draw();
        let agreement = &mut self.run_of(node).agreement;
        let target = agreement.leader.or_else(|| {
            let at = usize::try_from(chance).unwrap_or(0) % others.len().max(1);
            others.get(at).copied()
        });
        let Some(waiting) = agreement.requests.get_mut(&request) else { return };
        waiting.attempt += 1;
        let (attempt, command) = (waiting.attempt, waiting.command.clone());
        match target {
            Some(target) if target == node => {
                waiting.is_maybe = true;
                self.propose(node, node, request, attempt, command);
            }
            Some(target) => {
                waiting.is_maybe = true;
                let letter = What::Letter(Letter::Submit { request, attempt, command });
                self.send_loosely(node, target, &letter);
            }
            None => {}
        }
        let wait = self.timings.election_max;
        self.after(node, wait, What::Retry(request, attempt));
    }

    pub(crate) fn on_retry(
        &mut self,
        node: usize,
        request: u64,
        attempt: u64,
    ) -> Result<(), Broken> {
        let now = self.clock(node);
        let agreement = &mut self.run_of(node).agreement;
        let Some(waiting) = agreement.requests.get(&request) else { return Ok(()) };
        if waiting.attempt != attempt {
            return Ok(());
        }
        if now >= waiting.until {
            let outcome = if waiting.is_maybe { Asking::Unknown } else { Asking::NotDone };
            return self.conclude(node, request, outcome);
        }
        // Whoever was asked may have stopped.
        agreement.leader = agreement.leader.filter(|&leader| leader == node);
        self.attempt(node, request);
        Ok(())
    }

    /// A node that believes to lead takes something up.
    fn propose(
        &mut self,
        leader: usize,
        from: usize,
        request: u64,
        attempt: u64,
        command: Option<Command>,
    ) {
        self.service.next_proposal += 1;
        let proposal = self.service.next_proposal;
        let from_life = self.nodes[from].life;
        let waiting = Proposal { from, from_life, request, attempt, command, tries: 0 };
        self.service.proposals.insert(proposal, waiting);
        let wait = self.delay() + self.delay();
        let life = self.nodes[leader].life;
        self.at(self.now + wait, leader, life, What::Propose(proposal));
    }

    /// Most voters have answered by now, or not.
    pub(crate) fn on_propose(&mut self, node: usize, proposal: u64) -> Result<(), Broken> {
        let Some(mut waiting) = self.service.proposals.remove(&proposal) else { return Ok(()) };
        if !self.leads(node) || !self.may_lead(node) {
            // It may be agreed on later all the same, if the same node leads again.
            waiting.tries += 1;
            if waiting.tries < 4 && waiting.command.is_some() {
                self.service.proposals.insert(proposal, waiting);
                let wait = Span::from_nanos(self.random.range(100 * MILLISECOND, 2 * SECOND));
                self.after(node, wait, What::Propose(proposal));
            }
            return Ok(());
        }
        let Proposal { from, from_life, request, attempt, command, .. } = waiting;
        let answer = match command {
            Some(command) => {
                let answer = self.append(&command)?;
                let until = self.service.log.len();
                self.learn(node, until);
                self.replicate(node);
                Reply::Done(answer)
            }
            None => Reply::Index(self.service.log.len()),
        };
        if from == node {
            if self.nodes[from].life == from_life {
                self.answered(node, request, attempt, answer)?;
            }
        } else {
            let letter = What::Letter(Letter::Answered { request, attempt, answer });
            self.send_loosely(node, from, &letter);
        }
        Ok(())
    }

    fn append(&mut self, command: &Command) -> Result<Answer, Broken> {
        let applied = self.service.truth.apply(command);
        self.service.log.push(command.clone());
        let term = self.service.truth.coordinator().term;
        if let Operation::Allocate { term: given, .. } = command.operation
            && given != term
            && applied.events.iter().any(|event| matches!(event, Event::Allocated { .. }))
        {
            return Err(format!("(2) a command of term {given} took effect in term {term}"));
        }
        for event in &applied.events {
            match event {
                Event::Register { value: Some(value), .. } => {
                    let times = self.service.written.entry(value.clone()).or_default();
                    *times += 1;
                    if *times > 1 {
                        return Err(format!("(6) a command took effect twice: {command:?}"));
                    }
                }
                Event::Allocated { resource, owner: Some(owner), epoch } => {
                    let unit = Unit::parse(resource).expect("only units are allocated");
                    note!(self, "{unit} goes to {owner} at epoch {epoch}");
                    let before = self.owners.insert((unit, *epoch), owner.clone());
                    if before.is_some() {
                        return Err(format!("(3) epoch {epoch} of {unit} belongs to two"));
                    }
                }
                Event::Coordinator(coordinator) => note!(self, "{coordinator:?}"),
                Event::SessionEnded { node, reason, .. } => {
                    note!(self, "the session of {node} ends: {reason:?}");
                }
                Event::Register { .. }
                | Event::Allocated { .. }
                | Event::Promoted { .. }
                | Event::SessionOpened { .. }
                | Event::Lock(_)
                | Event::Control => {}
            }
        }
        Ok(applied.answer)
    }

    pub(crate) fn on_letter(
        &mut self,
        node: usize,
        connection: usize,
        letter: Letter,
    ) -> Result<(), Broken> {
        let name = self.end(connection, node).peer.id.clone();
        let from = self.index_of(&name);
        match letter {
            Letter::Submit { request, attempt, command } => {
                let leader = self.run_of(node).agreement.leader;
                if leader == Some(node) {
                    self.propose(node, from, request, attempt, command);
                } else {
                    let answer = Reply::NotLeader(leader);
                    let letter = What::Letter(Letter::Answered { request, attempt, answer });
                    self.send_loosely(node, from, &letter);
                }
                Ok(())
            }
            Letter::Answered { request, attempt, answer } => {
                self.answered(node, request, attempt, answer)
            }
            Letter::Entries { election, until } => {
                let agreement = &mut self.run_of(node).agreement;
                if election < agreement.election {
                    return Ok(());
                }
                agreement.election = election;
                agreement.leader = Some(from);
                self.learn(node, until);
                Ok(())
            }
        }
    }

    fn answered(
        &mut self,
        node: usize,
        request: u64,
        attempt: u64,
        answer: Reply,
    ) -> Result<(), Broken> {
        let agreement = &mut self.run_of(node).agreement;
        if !agreement.requests.contains_key(&request) {
            return Ok(());
        }
        match answer {
            Reply::Done(answer) => self.conclude(node, request, Asking::Answered(answer)),
            Reply::Index(index) => self.conclude(node, request, Asking::Index(index)),
            Reply::NotLeader(leader) => {
                let is_latest = agreement.requests[&request].attempt == attempt;
                if is_latest && agreement.leader != Some(node) {
                    agreement.leader = leader.filter(|&leader| leader != node);
                }
                Ok(())
            }
        }
    }

    fn conclude(&mut self, node: usize, request: u64, outcome: Asking) -> Result<(), Broken> {
        let Some(waiting) = self.run_of(node).agreement.requests.remove(&request) else {
            return Ok(());
        };
        match waiting.why {
            Why::Session(effect) => {
                self.on_session(node, effect, outcome);
                Ok(())
            }
            Why::Allocate => {
                self.run_of(node).agreement.allocating -= 1;
                Ok(())
            }
            Why::Client(entry) => self.on_client(node, entry, outcome),
        }
    }

    pub(crate) fn ledger_look(&mut self, node: usize) -> Result<(), Broken> {
        let now = self.clock(node);
        let is_member = self.run_of(node).join.is_done();
        let agreement = &mut self.run_of(node).agreement;
        let pace = agreement.expiry.pace();
        if is_member {
            let effects = agreement.keeper.on_wake(now);
            let leads = agreement.leader == Some(node);
            let expired = agreement.expiry.on_look(&agreement.copy, leads, now);
            self.on_keeper(node, effects);
            for operation in expired {
                self.propose(node, node, 0, 0, Some(Command { id: None, operation }));
            }
        }
        self.after(node, pace, What::LedgerLook);
        Ok(())
    }

    fn on_keeper(&mut self, node: usize, effects: Vec<KeeperEffect>) {
        for effect in effects {
            let operation = match effect {
                KeeperEffect::Open => Operation::OpenSession(Opening {
                    node: self.nodes[node].name.clone(),
                    incarnation: self.nodes[node].incarnation,
                    replica: node as u64,
                    priority: 0,
                    is_witness: false,
                }),
                KeeperEffect::Renew(session) => Operation::RenewSession { session },
                KeeperEffect::Lost(session) => {
                    note!(self, "{} has lost session {}", self.nodes[node].name, session.0);
                    continue;
                }
            };
            let patience = self.run_of(node).agreement.keeper.patience();
            let command = Command { id: None, operation };
            self.submit(node, Some(command), patience, Why::Session(effect));
        }
    }

    pub(crate) fn on_session(&mut self, node: usize, asked: KeeperEffect, outcome: Asking) {
        let now = self.clock(node);
        let keeper = &mut self.run_of(node).agreement.keeper;
        let renewed = match asked {
            KeeperEffect::Renew(session) => Some(session),
            KeeperEffect::Open | KeeperEffect::Lost(_) => None,
        };
        let effects = match (outcome, renewed) {
            (Asking::Answered(Ok(Outcome::Opened { session })), _) => {
                keeper.on_confirmed(session, now)
            }
            (Asking::Answered(Ok(Outcome::Renewed)), Some(session)) => {
                keeper.on_confirmed(session, now)
            }
            (Asking::Answered(Err(Refusal::SessionEnded { session })), _) => {
                keeper.on_ended(session, now)
            }
            _ => {
                keeper.on_failed(now);
                Vec::new()
            }
        };
        self.on_keeper(node, effects);
    }
}
