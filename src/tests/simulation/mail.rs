//! Streams between nodes, as `actors/cluster/transport.rs` carries them: who is reached by which way,
//! what is refused, when a consumer is told to ask again.

use std::sync::Arc;

use tickwright_core::cluster::{EpochFence, Peer, Unit};
use tickwright_core::domain::{Key, NodeId, Span, TickBatch};
use tickwright_core::stream::SignalBatch;

use crate::units::{Actor, Demand};
use crate::world::{Broken, SECOND, What, World, note};

const RETRY: Span = Span::from_millis(100);
const WAY_PATIENCE: u64 = 60 * SECOND;
/// Between two actors of one process.
const LOCAL: Span = Span::from_micros(20);

/// A message of the stream between two units.
#[derive(Clone, Debug)]
pub(crate) struct Mail {
    pub(crate) from: Unit,
    pub(crate) to: Unit,
    /// Of the unit that speaks.
    pub(crate) spoken_at: u64,
    /// Of the unit that is spoken to.
    pub(crate) meant_for: u64,
    pub(crate) say: Say,
}

#[derive(Clone, Debug)]
pub(crate) enum Say {
    Hello,
    Frame { session: u64, number: u64, complete: Key, more: bool, rows: Rows },
    Demand(Demand),
}

#[derive(Clone, Debug)]
pub(crate) enum Rows {
    Ticks(Arc<TickBatch>),
    Signals(Arc<SignalBatch>),
}

/// How a unit is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) node: NodeId,
    pub(crate) epoch: u64,
    /// By which link; none, if it is here.
    pub(crate) link: Option<usize>,
}

/// A node's side of all streams.
#[derive(Debug)]
pub(crate) struct Port {
    heard: EpochFence,
    session: u64,
    /// Producers here that have started anew, and consumers elsewhere that have not subscribed since.
    hellos: Vec<Hello>,
    serial: u64,
}

/// What tells a consumer that its producer has started anew.
#[derive(Clone, Debug)]
struct Hello {
    from: Unit,
    to: Unit,
    deadline: u64,
    told: Option<Route>,
}

impl Port {
    pub(crate) fn new(session: u64) -> Self {
        Self { heard: EpochFence::default(), session, hellos: Vec::new(), serial: 0 }
    }

    /// A unit is here at this epoch.
    pub(crate) fn on_hosted(&mut self, unit: Unit, epoch: u64) {
        let _ = self.heard.admit(unit, epoch);
    }

    pub(crate) fn next_session(&mut self) -> u64 {
        self.session += 1;
        self.session
    }

    pub(crate) fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    pub(crate) fn tell(&self) -> String {
        format!("hellos {:?}", self.hellos)
    }
}

/// What carries a consumer's demands to one producer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pump {
    route: Option<Route>,
    told: Option<Route>,
    /// The session, and the number of its next frame.
    open: Option<(u64, u64)>,
    stable: Option<Key>,
}

impl World {
    pub(crate) fn route(&self, node: usize, unit: Unit) -> Option<Route> {
        let run = self.nodes[node].run.as_ref()?;
        let own = &self.nodes[node].name;
        let here = run.hosted.get(&unit).copied();
        let role = unit.to_string();
        let known = run.directory.serving(&role, own).map(|(node, epoch)| (node.clone(), epoch));
        let (owner, epoch) = match (here, known) {
            (Some(epoch), Some(newer)) if newer.1 > epoch => newer,
            (Some(epoch), _) => (own.clone(), epoch),
            (None, known) => known.filter(|(node, _)| node != own)?,
        };
        let link = if owner == *own { None } else { Some(*run.open.get(&owner)?) };
        Some(Route { node: owner, epoch, link })
    }

    fn epoch(&self, node: usize, unit: Unit) -> u64 {
        let run = self.nodes[node].run.as_ref();
        run.and_then(|run| run.hosted.get(&unit).copied()).unwrap_or(0)
    }

    /// Ways may have changed: whoever is concerned asks again.
    pub(crate) fn reroute(&mut self, node: usize) {
        while std::mem::take(&mut self.run_of(node).is_rerouted) {
            self.end_left(node);
            self.say_hellos(node);
            let units: Vec<Unit> = self.run_of(node).actors.keys().copied().collect();
            for unit in units {
                self.with_actor(node, unit, |world, actor| {
                    let producers: Vec<Unit> = actor.pumps.keys().copied().collect();
                    for from in producers {
                        let now = world.route(node, from);
                        let pump = actor.pumps.get_mut(&from).expect("it was listed");
                        if now.is_some() && now != pump.route && now != pump.told {
                            pump.told = now;
                            world.producer_is_back(node, actor, from);
                        }
                    }
                });
            }
        }
    }

    /// What the consumer `actor` says to its producer `from`.
    pub(crate) fn demand(&mut self, node: usize, actor: &mut Actor, from: Unit, demand: Demand) {
        let now = self.route(node, from);
        let (unit, serial) = (actor.unit, actor.serial);
        let pump = actor.pumps.entry(from).or_default();
        let mut is_new = false;
        match demand {
            Demand::Subscribe { session, .. } => {
                pump.open = Some((session, 0));
                pump.route = now;
                pump.told = None;
                is_new = true;
            }
            Demand::Stable(key) => pump.stable = Some(key),
            Demand::Credit { .. } => {}
        }
        let Some(route) = pump.route.clone() else { return };
        let mut says = vec![demand];
        if is_new {
            says.extend(pump.stable.map(Demand::Stable));
        }
        for demand in says {
            let mail = Mail {
                from,
                to: unit,
                spoken_at: self.epoch(node, unit),
                meant_for: route.epoch,
                say: Say::Demand(demand),
            };
            if route.link.is_none() {
                // A later life of it elsewhere must not lose the stream to this one.
                if self.run_of(node).port.heard.admit(unit, mail.spoken_at).is_ok() {
                    self.after(node, LOCAL, What::Local(mail));
                }
            } else if !self.say(node, &route.node, mail) {
                self.after(node, RETRY, What::Unsaid(unit, from, serial));
                return;
            }
        }
    }

    pub(crate) fn on_unsaid(&mut self, node: usize, unit: Unit, from: Unit, serial: u64) {
        self.with_actor(node, unit, |world, actor| {
            if actor.serial == serial
                && let Some(pump) = actor.pumps.get_mut(&from)
            {
                pump.route = None;
                pump.told = None;
                world.run_of(node).is_rerouted = true;
            }
        });
    }

    fn say(&mut self, node: usize, to: &NodeId, mail: Mail) -> bool {
        let open = self.run_of(node).open.get(to).copied();
        open.is_some_and(|connection| self.send_mail(connection, node, mail))
    }

    /// The producer `from` here has started anew; its consumer `to` is to hear of it.
    pub(crate) fn hello(&mut self, node: usize, from: Unit, to: Unit) {
        if self.run_of(node).hosted.contains_key(&to) {
            let mail = Mail { from, to, spoken_at: 0, meant_for: 0, say: Say::Hello };
            self.after(node, LOCAL, What::Local(mail));
            return;
        }
        let deadline = self.now + WAY_PATIENCE;
        let hellos = &mut self.run_of(node).port.hellos;
        hellos.retain(|hello| (hello.from, hello.to) != (from, to));
        hellos.push(Hello { from, to, deadline, told: None });
        self.say_hellos(node);
    }

    /// Says what is to be said by ways by which it was not said yet.
    pub(crate) fn say_hellos(&mut self, node: usize) {
        let now = self.now;
        for mut hello in std::mem::take(&mut self.run_of(node).port.hellos) {
            let Hello { from, to, deadline, .. } = hello;
            if now > deadline {
                continue;
            }
            let route = self.route(node, to).filter(|route| hello.told.as_ref() != Some(route));
            if let Some(route) = route {
                let spoken_at = self.epoch(node, from);
                let mail = Mail { from, to, spoken_at, meant_for: route.epoch, say: Say::Hello };
                if route.link.is_none() {
                    self.after(node, LOCAL, What::Local(mail));
                    hello.told = Some(route);
                } else if self.say(node, &route.node, mail) {
                    hello.told = Some(route);
                } else {
                    self.after(node, RETRY, What::Hellos);
                }
            }
            self.run_of(node).port.hellos.push(hello);
        }
    }

    /// From an actor of this node.
    pub(crate) fn on_local(&mut self, node: usize, mail: Mail) -> Result<(), Broken> {
        let Mail { from, to, spoken_at, say, .. } = mail;
        match say {
            Say::Hello => self.with_actor(node, to, |world, actor| {
                world.producer_is_back(node, actor, from);
            }),
            Say::Frame { session, complete, more, rows, .. } => {
                let mut result = Ok(());
                self.with_actor(node, to, |world, actor| {
                    result = world.on_frame(
                        node,
                        actor,
                        from,
                        spoken_at,
                        (session, complete, more),
                        rows,
                    );
                });
                return result;
            }
            Say::Demand(demand) => self.with_actor(node, from, |world, actor| {
                world.on_demand(node, actor, to, &demand, None);
            }),
        }
        Ok(())
    }

    /// From another node.
    pub(crate) fn on_mail(
        &mut self,
        node: usize,
        connection: usize,
        mail: Mail,
    ) -> Result<(), Broken> {
        let peer: Peer = self.end(connection, node).peer.clone();
        let is_demand = matches!(mail.say, Say::Demand(_));
        let (here, speaker) = if is_demand { (mail.from, mail.to) } else { (mail.to, mail.from) };
        let name = self.nodes[node].name.clone();
        let run = self.run_of(node);
        if run.hosted.get(&here) != Some(&mail.meant_for) {
            note!(
                self,
                "{name} does not serve {here} at {}: {:?} is lost",
                mail.meant_for,
                brief(&mail)
            );
            return Ok(());
        }
        if run.port.heard.admit(speaker, mail.spoken_at).is_err() {
            self.stale_frames += 1;
            return Ok(());
        }
        if !run.actors.contains_key(&here) {
            note!(self, "{here} on {name} is starting: {:?} is lost", brief(&mail));
            return Ok(());
        }
        let Mail { from, to, spoken_at, say, .. } = mail;
        let mut result = Ok(());
        self.with_actor(node, here, |world, actor| match say {
            Say::Hello => world.producer_is_back(node, actor, from),
            Say::Frame { session, number, complete, more, rows } => {
                let pump = actor.pumps.entry(from).or_default();
                match &mut pump.open {
                    Some((open, next)) if *open == session && *next == number => {
                        *next += 1;
                        let head = (session, complete, more);
                        result = world.on_frame(node, actor, from, spoken_at, head, rows);
                    }
                    Some((open, _)) if *open == session => {
                        // Nothing may come after what is missing: the consumer asks for it anew.
                        pump.open = None;
                        world.producer_is_back(node, actor, from);
                    }
                    _ => {}
                }
            }
            Say::Demand(demand) => {
                if let Demand::Subscribe { session, .. } = demand {
                    let known = actor.last.get(&to).filter(|(known, _)| *known == peer);
                    if known.is_some_and(|&(_, known)| session < known) {
                        return;
                    }
                    actor.last.insert(to, (peer.clone(), session));
                    let hellos = &mut world.run_of(node).port.hellos;
                    hellos.retain(|hello| (hello.from, hello.to) != (actor.unit, to));
                }
                world.on_demand(node, actor, to, &demand, Some((connection, spoken_at)));
            }
        });
        result
    }

    /// Sends a frame by the way by which the consumer has subscribed; false, if that is gone.
    pub(crate) fn send_frame(&mut self, node: usize, way: &crate::units::Way, mail: Mail) -> bool {
        match way.link {
            Some(connection) => self.send_mail(connection, node, mail),
            None => {
                let consumer = self.run_of(node).actors.get(&mail.to).map(|actor| actor.serial);
                if consumer != way.serial {
                    return false;
                }
                self.after(node, LOCAL, What::Local(mail));
                true
            }
        }
    }
}

fn brief(mail: &Mail) -> String {
    let what = match &mail.say {
        Say::Hello => "hello".to_owned(),
        Say::Frame { number, complete, .. } => format!("frame {number} up to {complete}"),
        Say::Demand(demand) => format!("{demand:?}"),
    };
    format!("{} to {}: {what}", mail.from, mail.to)
}
