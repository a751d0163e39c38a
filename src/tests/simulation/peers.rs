//! What the actors of `actors/cluster` do for the cores: dial, answer, tell.

use std::collections::{BTreeMap, BTreeSet};

use tickwright_core::cluster::{
    Answer, Beat, Claim, Directory, HelloVerdict, Join, JoinConfig, JoinEffect, Links, LinksConfig,
    LinksEffect, Membership, MembershipEffect, Profile, Service, Status,
};
use tickwright_core::domain::{Backoff, Incarnation, NodeAddress, NodeId, Span, Timestamp};

use crate::agreement::Agreement;
use crate::disk::Write;
use crate::mail::Port;
use crate::world::{Broken, MILLISECOND, Run, What, World, note};

const LISTEN: Span = Span::from_millis(1_500);
const STAGGER: Span = Span::from_millis(250);
const HANDSHAKE: Span = Span::from_secs(5);
const REDIAL: Backoff = Backoff { first: Span::from_millis(100), max: Span::from_secs(5) };
const MEMBER_RETRY: Span = Span::from_secs(1);

pub(crate) fn address(name: &NodeId) -> NodeAddress {
    NodeAddress(format!("{name}:7000"))
}

impl World {
    /// A process begins on `node`, with what is on its disk.
    pub(crate) fn start(&mut self, node: usize) {
        if self.is_up(node) {
            return;
        }
        let now = self.clock(node);
        let remembered = self.nodes[node].disk.remembered().clone();
        let own = self.nodes[node].name.clone();
        let mut seeds: Vec<NodeAddress> =
            self.scenario.seeds.iter().map(|&seed| address(&self.nodes[seed].name)).collect();
        seeds.extend(
            remembered.values().filter(|at| !seeds.contains(at)).cloned().collect::<Vec<_>>(),
        );
        let life = self.nodes[node].life + 1;
        let incarnation = Incarnation(now.as_nanos().max(self.nodes[node].incarnation.0 + 1));
        self.nodes[node].life = life;
        self.nodes[node].incarnation = incarnation;
        self.nodes[node].paused_until = 0;
        let join = Join::new(JoinConfig {
            own: own.clone(),
            own_address: address(&own),
            seeds,
            remembered: remembered
                .keys()
                .filter(|id| **id != own)
                .cloned()
                .collect::<BTreeSet<_>>(),
            backoff: REDIAL,
            stagger: STAGGER,
            round: HANDSHAKE * 2,
            listen: LISTEN,
        });
        let profile = Profile {
            id: own.clone(),
            incarnation,
            address: address(&own),
            http: String::new(),
            duties: self.nodes[node].duties.clone(),
            services: Vec::new(),
            version: 1,
        };
        let membership = Membership::new(profile, self.timings, now);
        let links = Links::new(LinksConfig {
            own: self.peer(node),
            own_address: address(&own),
            backoff: REDIAL,
            member_retry: MEMBER_RETRY,
            seed: self.random.draw(),
        });
        let told = membership.shape();
        let agreement = Agreement::new(self, node, now);
        let session = self.random.draw() >> 1;
        let run = Run {
            join,
            links,
            membership,
            directory: Directory::default(),
            join_wake_at: now,
            links_wake_at: None,
            told,
            next_link: 1,
            open: BTreeMap::new(),
            remembered,
            is_rerouted: false,
            agreement,
            hosted: BTreeMap::new(),
            beginning: BTreeMap::new(),
            leaving: BTreeMap::new(),
            actors: BTreeMap::new(),
            port: Port::new(session),
        };
        note!(self, "{own} starts as {incarnation}");
        self.nodes[node].run = Some(run);
        self.after(node, Span::ZERO, What::JoinWake(now));
        let beat = self.random.range(0, 100 * MILLISECOND);
        self.after(node, Span::from_nanos(beat), What::BeatDue);
        self.after(node, Span::from_nanos(beat / 2), What::LookDue);
        self.after(node, Span::from_nanos(beat), What::LedgerLook);
        self.after(node, Span::from_nanos(beat / 3), What::AllocatorLook);
        self.after(node, Span::from_millis(500), What::ClientDue);
    }

    /// The process is gone; `forgets` takes the disk as well.
    pub(crate) fn crash(&mut self, node: usize, forgets: bool) {
        if !self.is_up(node) {
            return;
        }
        note!(
            self,
            "{} crashes{}",
            self.nodes[node].name,
            if forgets { " with its disk" } else { "" }
        );
        self.close_all(node);
        self.nodes[node].run = None;
        self.nodes[node].life += 1;
        if forgets {
            self.nodes[node].disk = crate::disk::Disk::default();
        } else {
            let chance = self.random.draw();
            self.nodes[node].disk.crash(chance);
        }
    }

    pub(crate) fn beat(&mut self, node: usize) {
        let now = self.clock(node);
        let run = self.run_of(node);
        run.told = run.membership.shape();
        let linked: Vec<NodeId> = run.open.keys().cloned().collect();
        for (peer, beat) in run.membership.on_beat_due(&linked, now) {
            let to = self.index_of(&peer);
            self.send_loosely(node, to, &What::Beat(Box::new(beat)));
        }
    }

    pub(crate) fn look(&mut self, node: usize) -> Result<(), Broken> {
        let now = self.clock(node);
        let effects = self.run_of(node).membership.on_look(now);
        self.on_members(node, effects)?;
        let run = self.run_of(node);
        if run.membership.shape() != run.told {
            self.beat(node);
        }
        Ok(())
    }

    pub(crate) fn on_beat(
        &mut self,
        node: usize,
        connection: usize,
        beat: Beat,
    ) -> Result<(), Broken> {
        let from = self.end(connection, node).peer.clone();
        let now = self.clock(node);
        let run = self.run_of(node);
        let known = run.membership.profile(&from.id).map(|(profile, _)| profile.incarnation);
        if known.is_some_and(|known| known > from.incarnation) {
            return Ok(());
        }
        let effects = run.membership.on_beat(&from.id, beat, now);
        self.on_members(node, effects)?;
        let run = self.run_of(node);
        if !run.join.is_done() {
            let is_member = run.membership.status(&from.id) == Some(Status::Up);
            let Some((profile, _)) = run.membership.profile(&from.id) else { return Ok(()) };
            let effects = run.join.on_peer(&from.id, &profile.address, is_member, now);
            self.on_join(node, effects)?;
        }
        Ok(())
    }

    fn on_members(&mut self, node: usize, effects: Vec<MembershipEffect>) -> Result<(), Broken> {
        for effect in effects {
            match effect {
                MembershipEffect::Changed { id, incarnation, before, now } => {
                    self.on_changed(node, &id, incarnation, before, now);
                }
                MembershipEffect::Replaced { by } => {
                    let name = &self.nodes[node].name;
                    return Err(format!("(1) {name} hears of a later life of itself: {by}"));
                }
                MembershipEffect::TooMany { id } => {
                    return Err(format!("(7) there is no room for {id}"));
                }
            }
        }
        Ok(())
    }

    fn on_changed(
        &mut self,
        node: usize,
        id: &NodeId,
        incarnation: Incarnation,
        before: Option<Status>,
        status: Status,
    ) {
        if before != Some(status) {
            note!(self, "{} sees {id}.{incarnation} {}", self.nodes[node].name, status.name());
        }
        if status == Status::Down {
            self.fence(node, id, incarnation);
        }
        let now = self.clock(node);
        let is_own = *id == self.nodes[node].name;
        let run = self.run_of(node);
        let Some((profile, _)) = run.membership.profile(id) else { return };
        let (at, services) = (profile.address.clone(), profile.services.clone());
        run.directory.on_member(id, status, &services);
        run.is_rerouted = true;
        if is_own {
            return;
        }
        let peer = tickwright_core::cluster::Peer { id: id.clone(), incarnation };
        run.links.on_member(&peer, &at, status, now);
        let known = (status != Status::Left).then_some(at);
        let is_news = run.remembered.get(id) != known.as_ref();
        if is_news {
            match known {
                Some(at) => run.remembered.insert(id.clone(), at),
                None => run.remembered.remove(id),
            };
            let remembered = run.remembered.clone();
            self.write(node, Write::Remember(remembered));
        }
        self.dial_due(node);
    }

    /// Nothing passes between this node and that life of `id` any more.
    fn fence(&mut self, node: usize, id: &NodeId, incarnation: Incarnation) {
        let open = self.run_of(node).open.get(id).copied();
        if let Some(connection) = open
            && self.end(connection, node).peer.incarnation == incarnation
        {
            self.lose(node, connection);
        }
    }

    /// A link ends by this node's own will, which hears of it as if it had broken.
    fn lose(&mut self, node: usize, connection: usize) {
        self.close(connection, node);
        let life = self.nodes[node].life;
        self.at(self.now + MILLISECOND, node, life, What::Lost(connection));
    }

    pub(crate) fn on_join_wake(&mut self, node: usize, at: Timestamp) -> Result<(), Broken> {
        let now = self.clock(node);
        let run = self.run_of(node);
        if at < run.join_wake_at {
            return Ok(());
        }
        let effects = run.join.on_wake(now);
        self.on_join(node, effects)
    }

    fn on_join(&mut self, node: usize, effects: Vec<JoinEffect>) -> Result<(), Broken> {
        for effect in effects {
            match effect {
                JoinEffect::Dial(seed) => {
                    let now = self.clock(node);
                    let linked = self.run_of(node).links.on_seed(&seed, now);
                    if linked.is_some() {
                        self.seed_answered(node, &seed, linked)?;
                    }
                    self.dial_due(node);
                }
                JoinEffect::WakeAt(at) => {
                    let now = self.clock(node);
                    self.run_of(node).join_wake_at = at;
                    // Never early: clocks are divided, and what is early would be lost.
                    let wait = at.since(now) + Span::from_micros(1);
                    self.after(node, wait, What::JoinWake(at));
                }
                JoinEffect::Joined(through) => {
                    note!(self, "{} joins through {through}", self.nodes[node].name);
                    self.enter(node)?;
                }
                JoinEffect::Found => {
                    note!(self, "{} founds", self.nodes[node].name);
                    self.check_founding(node)?;
                    self.founded.push((self.now, node));
                    self.found_ledger(node);
                    self.enter(node)?;
                }
            }
        }
        Ok(())
    }

    fn enter(&mut self, node: usize) -> Result<(), Broken> {
        let now = self.clock(node);
        let effects = self.run_of(node).membership.on_own_claim(Claim::Up, now);
        self.on_members(node, effects)?;
        self.beat(node);
        Ok(())
    }

    fn seed_answered(
        &mut self,
        node: usize,
        seed: &NodeAddress,
        reached: Option<NodeId>,
    ) -> Result<(), Broken> {
        let answer = reached.map_or(Answer::Failed, Answer::Linked);
        let now = self.clock(node);
        let effects = self.run_of(node).join.on_answer(seed, answer, now);
        self.on_join(node, effects)
    }

    pub(crate) fn dial_due(&mut self, node: usize) {
        let now = self.clock(node);
        for LinksEffect::Dial { address, patience } in self.run_of(node).links.on_wake(now) {
            let name = address.0.split(':').next().unwrap_or_default();
            let to = self.index_of(&NodeId::from(name));
            let connection = self.connect(node, to);
            self.end(connection, node).is_dialling = true;
            self.after(node, patience, What::Impatient(connection));
            if self.is_up(to) {
                let hello = What::By(connection, Box::new(What::Hello));
                self.send_in_order(connection, node, hello);
            } else if !self.net.is_cut(node, to) && !self.net.is_cut(to, node) {
                // Nobody listens there.
                let (at, life) = (self.now + self.delay(), self.nodes[node].life);
                self.at(at, node, life, What::Lost(connection));
            }
        }
        let run = self.run_of(node);
        let Some(next) = run.links.next_wake() else { return };
        if run.links_wake_at.is_none_or(|at| next < at) {
            run.links_wake_at = Some(next);
            self.after(node, next.since(now) + Span::from_micros(1), What::LinksWake);
        }
    }

    /// Dialling ended.
    fn dialled(
        &mut self,
        node: usize,
        connection: usize,
        reached: Option<NodeId>,
        is_oneself: bool,
    ) -> Result<(), Broken> {
        let now = self.clock(node);
        let end = self.end(connection, node);
        if !std::mem::replace(&mut end.is_dialling, false) {
            return Ok(());
        }
        let at = address(&end.peer.id);
        self.run_of(node).links.on_dialled(&at, reached.clone(), is_oneself, now);
        self.seed_answered(node, &at, reached)?;
        self.dial_due(node);
        Ok(())
    }

    pub(crate) fn on_hello(&mut self, node: usize, connection: usize) {
        let peer = self.end(connection, node).peer.clone();
        let run = self.run_of(node);
        let verdict = run.links.on_hello(&peer);
        if verdict == HelloVerdict::Probe {
            let before = run.membership.profile(&peer.id).map(|(p, beat)| (p.incarnation, beat));
            self.after(node, self.timings.name_probe, What::Probed(connection, before));
        } else {
            self.answer_hello(node, connection, &verdict);
        }
    }

    pub(crate) fn on_probed(
        &mut self,
        node: usize,
        connection: usize,
        before: Option<(Incarnation, u64)>,
    ) {
        if !self.holds(connection, node) {
            return;
        }
        let peer = self.end(connection, node).peer.clone();
        let run = self.run_of(node);
        let after = run.membership.profile(&peer.id).map(|(p, beat)| (p.incarnation, beat));
        let is_alive = matches!((before, after), (Some((life, beat)), Some((same, later)))
            if life == same && later > beat);
        let verdict = run.links.on_probed(&peer, is_alive);
        self.answer_hello(node, connection, &verdict);
    }

    fn answer_hello(&mut self, node: usize, connection: usize, verdict: &HelloVerdict) {
        let answer = match verdict {
            HelloVerdict::Welcome(ticket) => {
                self.end(connection, node).ticket = Some(*ticket);
                self.after(node, HANDSHAKE, What::Unclaimed(connection));
                What::Welcome
            }
            HelloVerdict::IsOneself => What::Refused { is_oneself: true },
            HelloVerdict::NameInUse | HelloVerdict::Stale { .. } | HelloVerdict::Probe => {
                What::Refused { is_oneself: false }
            }
        };
        let is_refused = matches!(answer, What::Refused { .. });
        self.send_in_order(connection, node, What::By(connection, Box::new(answer)));
        if is_refused {
            self.end(connection, node).is_closed = true;
        }
    }

    pub(crate) fn on_refused(
        &mut self,
        node: usize,
        connection: usize,
        is_oneself: bool,
    ) -> Result<(), Broken> {
        self.close(connection, node);
        self.dialled(node, connection, None, is_oneself)
    }

    pub(crate) fn on_welcome(&mut self, node: usize, connection: usize) -> Result<(), Broken> {
        let peer = self.end(connection, node).peer.clone();
        if !self.run_of(node).links.on_welcome(&peer) {
            self.close(connection, node);
            return self.dialled(node, connection, Some(peer.id), false);
        }
        self.send_in_order(connection, node, What::By(connection, Box::new(What::Go)));
        self.dialled(node, connection, Some(peer.id), false)?;
        self.on_established(node, connection);
        Ok(())
    }

    pub(crate) fn on_go(&mut self, node: usize, connection: usize) -> Result<(), Broken> {
        let (peer, ticket) = {
            let end = self.end(connection, node);
            (end.peer.clone(), end.ticket.take())
        };
        let Some(ticket) = ticket else { return Ok(()) };
        if self.run_of(node).links.on_go(&peer.id, ticket) {
            self.on_established(node, connection);
        } else {
            self.close(connection, node);
        }
        Ok(())
    }

    fn on_established(&mut self, node: usize, connection: usize) {
        let peer = self.end(connection, node).peer.clone();
        let run = self.run_of(node);
        let number = run.next_link;
        run.next_link += 1;
        let before = run.links.on_established(number, &peer);
        self.end(connection, node).number = Some(number);
        if let Some(before) = before {
            let is_before = |connection: &crate::net::Connection| {
                connection.ends.iter().any(|end| {
                    end.node == node
                        && end.life == self.nodes[node].life
                        && end.number == Some(before)
                })
            };
            let found = self.net.connections.iter().position(is_before);
            if let Some(found) = found {
                self.close(found, node);
            }
        }
        let delay = self.delay();
        let life = self.nodes[node].life;
        self.at(self.now + delay, node, life, What::Opened(connection));
    }

    pub(crate) fn on_opened(&mut self, node: usize, connection: usize) {
        if !self.holds(connection, node) {
            return;
        }
        let peer = self.end(connection, node).peer.clone();
        let run = self.run_of(node);
        let before = run.open.insert(peer.id.clone(), connection);
        run.is_rerouted = true;
        if let Some(before) = before.filter(|&before| before != connection) {
            self.close(before, node);
            let run = self.run_of(node);
            run.open.insert(peer.id, connection);
        }
        self.beat(node);
    }

    pub(crate) fn on_unclaimed(&mut self, node: usize, connection: usize) {
        let end = self.end(connection, node);
        let (id, ticket) = (end.peer.id.clone(), end.ticket.take());
        if let Some(ticket) = ticket {
            self.run_of(node).links.on_inbound_ended(&id, ticket);
            self.close(connection, node);
        }
    }

    pub(crate) fn on_impatient(&mut self, node: usize, connection: usize) -> Result<(), Broken> {
        if self.end(connection, node).is_dialling {
            self.close(connection, node);
            self.dialled(node, connection, None, false)?;
        }
        Ok(())
    }

    pub(crate) fn on_lost(&mut self, node: usize, connection: usize) -> Result<(), Broken> {
        self.close(connection, node);
        self.on_unclaimed(node, connection);
        self.dialled(node, connection, None, false)?;
        let now = self.clock(node);
        let Some(number) = self.end(connection, node).number.take() else { return Ok(()) };
        let run = self.run_of(node);
        if let Some(peer) = run.links.on_lost(number, now) {
            note!(self, "{} has lost its link to {}", self.nodes[node].name, peer.id);
            let run = self.run_of(node);
            let effects = run.membership.on_link_lost(&peer.id, peer.incarnation, now);
            self.on_members(node, effects)?;
            let effects = self.run_of(node).join.on_peer_gone(&peer.id, now);
            self.on_join(node, effects)?;
        }
        self.dial_due(node);
        Ok(())
    }

    /// What is served here has changed.
    pub(crate) fn on_services(&mut self, node: usize) {
        let name = self.nodes[node].name.clone();
        let run = self.run_of(node);
        let of = |(unit, &epoch): (&tickwright_core::cluster::Unit, &u64)| Service {
            role: unit.to_string(),
            epoch,
        };
        let services: Vec<Service> = run.hosted.iter().map(of).collect();
        run.membership.on_own_services(services.clone());
        if let Some(status) = run.membership.status(&name) {
            run.directory.on_member(&name, status, &services);
        }
        run.is_rerouted = true;
    }
}
