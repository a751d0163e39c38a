//! Which units run here, and how they come from one node to another, as `actors/share.rs` does it.

use tickwright_core::cluster::{Status, Unit};
use tickwright_core::domain::{Key, Span};

use super::{Actor, Body, State};
use crate::disk::Write;
use crate::world::{MILLISECOND, SECOND, What, World, note};

/// How long a unit runs that another node was given, and does not begin.
const OVERLAP_MAX: u64 = 10 * SECOND;

impl World {
    /// Ends what is not this node's any more, and begins what has become its.
    pub(crate) fn settle(&mut self, node: usize) {
        let own = self.nodes[node].name.clone();
        let now = self.now;
        let run = self.nodes[node].run.as_mut().expect("only nodes that are up settle");
        let owners = run.agreement.owners();
        let is_wanted = |unit: Unit, epoch: u64| owners.get(&unit) == Some(&(own.clone(), epoch));
        run.beginning.retain(|&unit, epoch| is_wanted(unit, *epoch));
        let mut ended = Vec::new();
        for (&unit, &epoch) in &run.hosted {
            if is_wanted(unit, epoch) {
                continue;
            }
            // Whoever has it now may need what only this node can tell.
            let next = owners.get(&unit).filter(|(node, later)| *node != own && *later > epoch);
            let is_up =
                next.is_some_and(|(node, _)| run.membership.status(node) == Some(Status::Up));
            if is_up {
                run.leaving.entry(unit).or_insert(now + OVERLAP_MAX);
            } else {
                ended.push(unit);
            }
        }
        let begun = owners.iter().filter(|(_, (node, _))| *node == own);
        let begun: Vec<(Unit, u64)> = begun.map(|(&unit, &(_, epoch))| (unit, epoch)).collect();
        self.end_units(node, &ended);
        for (unit, epoch) in begun {
            let run = self.run_of(node);
            if !run.hosted.contains_key(&unit) && run.beginning.insert(unit, epoch) != Some(epoch) {
                let wait = self.random.range(100_000, 30 * MILLISECOND);
                self.after(node, Span::from_nanos(wait), What::Begin(unit, epoch));
            }
        }
    }

    fn end_units(&mut self, node: usize, units: &[Unit]) {
        if units.is_empty() {
            return;
        }
        let run = self.run_of(node);
        for unit in units {
            run.hosted.remove(unit);
            run.leaving.remove(unit);
            run.actors.remove(unit);
        }
        self.on_services(node);
    }

    /// Ends what other nodes have begun by now.
    pub(crate) fn end_left(&mut self, node: usize) {
        let (now, own) = (self.now, self.nodes[node].name.clone());
        let leaving = self.run_of(node).leaving.clone();
        let is_elsewhere =
            |unit: Unit| self.route(node, unit).is_some_and(|route| route.node != own);
        let over = leaving.into_iter().filter(|&(unit, until)| now >= until || is_elsewhere(unit));
        let over: Vec<Unit> = over.map(|(unit, _)| unit).collect();
        self.end_units(node, &over);
    }

    /// Asks the node that runs `unit` for its last checkpoint, if it is there, and brings what it keeps.
    pub(crate) fn on_begin(&mut self, node: usize, unit: Unit, epoch: u64) {
        if self.run_of(node).beginning.get(&unit) != Some(&epoch) {
            return;
        }
        let before = self.route(node, unit).filter(|route| route.link.is_some());
        if let Some(before) = before {
            let other = self.index_of(&before.node);
            let can_hear = self.is_awake(other)
                && !self.net.is_cut(node, other)
                && !self.net.is_cut(other, node)
                && self.run_of(other).hosted.get(&unit) == Some(&before.epoch);
            if can_hear {
                for (key, state) in self.last_of(other, unit) {
                    self.write(node, Write::Checkpoint(unit, key, state));
                }
            }
        }
        // Fetched, and on the disk here, before the unit begins; a slow disk is waited for.
        let wait = self.random.range(310 * MILLISECOND, 500 * MILLISECOND);
        self.after(node, Span::from_nanos(wait), What::Ready(unit, epoch));
    }

    /// Everything that `node` keeps of `unit`, with the last checkpoint, which is put now.
    fn last_of(&mut self, node: usize, unit: Unit) -> Vec<(Key, State)> {
        let mut all = Vec::new();
        self.with_actor(node, unit, |world, actor| {
            let disk = &world.nodes[node].disk;
            let kept = actor.checkpoints.kept.iter();
            all = kept.filter_map(|&key| Some((key, disk.get(unit, key)?))).collect();
            if let Body::Exec(exec) = &actor.body
                && !exec.lockstep.is_between_keys()
            {
                // It has nothing to put just now, and is not waited for.
                return;
            }
            world.flush(node, actor);
            actor.checkpoints.is_closed = true;
            let state = match &mut actor.body {
                Body::Source(source) => State::Source { next: source.next, hash: source.hash },
                Body::Shard(shard) => State::Shard { hash: shard.hash },
                Body::Exec(exec) => exec.snapshot(),
            };
            if actor.position != Key::START {
                all.push((actor.position, state));
            }
            world.handovers += 1;
            note!(
                world,
                "{unit} is handed over at {} by {}",
                actor.position,
                world.nodes[node].name
            );
        });
        all
    }

    /// What was held back goes out: whoever goes on from a checkpoint that is put now would have to go back.
    fn flush(&mut self, node: usize, actor: &mut Actor) {
        if let Body::Source(source) = &mut actor.body {
            let position = actor.position;
            self.send_dealt(node, (actor.unit, actor.epoch), source, position);
        }
    }
}
