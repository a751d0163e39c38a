//! Connections between nodes: in order as long as they last, cut by partitions, and no longer than that.
//! Signs of life and messages of the ledger are besides lost, sent twice and overtaken.

use std::collections::{BTreeMap, BTreeSet};

use tickwright_core::cluster::{LinkNumber, Peer, Ticket};

use crate::mail::Mail;
use crate::world::{MILLISECOND, What, World};

/// One connection, from the dialler (end 0) to the acceptor (end 1).
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) ends: [End; 2],
    /// No message arrives before the one sent before it.
    last: [u64; 2],
    /// What a partition holds up.
    held: [Vec<What>; 2],
}

/// What one node holds of a connection.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) node: usize,
    pub(crate) life: u64,
    pub(crate) peer: Peer,
    pub(crate) is_closed: bool,
    /// Since it became a link.
    pub(crate) number: Option<LinkNumber>,
    /// While the dialler waits, or the acceptor has welcomed.
    pub(crate) is_dialling: bool,
    pub(crate) ticket: Option<Ticket>,
}

/// Who reaches whom.
#[derive(Debug, Default)]
pub(crate) struct Net {
    pub(crate) connections: Vec<Connection>,
    /// Ways that are cut, each with the number of its cut.
    cut: BTreeMap<(usize, usize), u64>,
    cuts: u64,
    /// Connections that nobody has closed, by both nodes.
    alive: BTreeSet<usize>,
    /// Nanoseconds that a message takes at least and at most.
    pub(crate) delay: (u64, u64),
    /// Of a hundred messages that may be lost, or come twice.
    pub(crate) loss: u64,
    pub(crate) twice: u64,
}

impl Net {
    pub(crate) fn new(delay: (u64, u64), loss: u64, twice: u64) -> Self {
        Self { delay, loss, twice, ..Self::default() }
    }

    pub(crate) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cut.contains_key(&(from, to))
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.cut.is_empty()
    }
}

impl World {
    pub(crate) fn delay(&mut self) -> u64 {
        let (low, high) = self.net.delay;
        // Now and then one takes much longer.
        let slow = if self.random.percent(2) { 5 } else { 1 };
        self.random.range(low, high) * slow
    }

    /// A new connection; nobody has said anything on it.
    pub(crate) fn connect(&mut self, from: usize, to: usize) -> usize {
        let end = |node: usize, other: usize| End {
            node,
            life: self.nodes[node].life,
            peer: self.peer(other),
            is_closed: false,
            number: None,
            is_dialling: false,
            ticket: None,
        };
        let ends = [end(from, to), end(to, from)];
        let held = [Vec::new(), Vec::new()];
        self.net.connections.push(Connection { ends, last: [0; 2], held });
        let connection = self.net.connections.len() - 1;
        self.net.alive.insert(connection);
        connection
    }

    /// Which end of `connection` is `node`'s.
    pub(crate) fn side(&self, connection: usize, node: usize) -> usize {
        usize::from(self.net.connections[connection].ends[0].node != node)
    }

    pub(crate) fn end(&mut self, connection: usize, node: usize) -> &mut End {
        let side = self.side(connection, node);
        &mut self.net.connections[connection].ends[side]
    }

    /// Whether `node`, in its present life, still holds the connection.
    pub(crate) fn holds(&mut self, connection: usize, node: usize) -> bool {
        let life = self.nodes[node].life;
        let end = self.end(connection, node);
        end.life == life && !end.is_closed
    }

    /// Sends in order; what a partition stops comes when it heals, if the connection lasts.
    pub(crate) fn send_in_order(&mut self, connection: usize, from: usize, what: What) {
        let side = self.side(connection, from);
        let to = self.net.connections[connection].ends[1 - side].node;
        if self.net.is_cut(from, to) || !self.net.connections[connection].held[side].is_empty() {
            self.net.connections[connection].held[side].push(what);
            return;
        }
        let at = self.now + self.delay();
        let held = &mut self.net.connections[connection];
        let at = at.max(held.last[side] + 1);
        held.last[side] = at;
        let life = held.ends[1 - side].life;
        self.at(at, to, life, what);
    }

    /// Sends by a link what may be lost, come twice and be overtaken.
    pub(crate) fn send_loosely(&mut self, from: usize, to: usize, what: &What) {
        let name = self.nodes[to].name.clone();
        let open = self.nodes[from].run.as_ref().and_then(|run| run.open.get(&name).copied());
        let Some(connection) = open else { return };
        if self.net.is_cut(from, to) {
            return;
        }
        let life = {
            let side = self.side(connection, from);
            self.net.connections[connection].ends[1 - side].life
        };
        let copies = match (self.random.percent(self.net.loss), self.random.percent(self.net.twice))
        {
            (true, _) => 0,
            (false, true) => 2,
            (false, false) => 1,
        };
        for _ in 0..copies {
            let at = self.now + self.delay();
            let what = What::By(connection, Box::new(what.clone()));
            self.at(at, to, life, what);
        }
    }

    /// Sends mail of a stream by a link, if it is open.
    pub(crate) fn send_mail(&mut self, connection: usize, from: usize, mail: Mail) -> bool {
        if !self.holds(connection, from) {
            return false;
        }
        let what = What::By(connection, Box::new(What::Mail(mail)));
        self.send_in_order(connection, from, what);
        true
    }

    /// `node` lets go of a connection. The other end hears of it, if not at once.
    pub(crate) fn close(&mut self, connection: usize, node: usize) {
        let side = self.side(connection, node);
        let end = &mut self.net.connections[connection].ends[side];
        if std::mem::replace(&mut end.is_closed, true) {
            return;
        }
        let name = end.peer.id.clone();
        if let Some(run) = self.nodes[node].run.as_mut()
            && run.open.get(&name) == Some(&connection)
        {
            run.open.remove(&name);
            run.is_rerouted = true;
        }
        let other = &self.net.connections[connection].ends[1 - side];
        let (to, life, is_closed) = (other.node, other.life, other.is_closed);
        if is_closed {
            self.net.alive.remove(&connection);
            return;
        }
        let delay = self.delay();
        let at = if self.net.is_cut(node, to) { self.unacknowledged() } else { delay };
        self.at(self.now + at, to, life, What::Lost(connection));
    }

    fn unacknowledged(&self) -> u64 {
        u64::try_from(self.timings.unacknowledged.as_nanos()).unwrap()
    }

    /// Nothing passes from one node to the other any more.
    pub(crate) fn cut(&mut self, from: usize, to: usize) {
        self.net.cuts += 1;
        let number = self.net.cuts;
        self.net.cut.insert((from, to), number);
        let at = self.now + self.unacknowledged();
        self.at_world(at, What::GiveUp(from, to, number));
    }

    /// Bytes have been unacknowledged for so long that the system gives connections up.
    pub(crate) fn give_up(&mut self, from: usize, to: usize, number: u64) {
        if self.net.cut.get(&(from, to)) != Some(&number) {
            return;
        }
        for connection in self.alive_between(from, to) {
            for side in 0..2 {
                let end = &self.net.connections[connection].ends[side];
                let (node, life) = (end.node, end.life);
                self.at(self.now + MILLISECOND, node, life, What::Lost(connection));
            }
        }
    }

    fn alive_between(&self, a: usize, b: usize) -> Vec<usize> {
        let is_between = |&&connection: &&usize| {
            let [one, other] = &self.net.connections[connection].ends;
            [one.node, other.node] == [a, b] || [other.node, one.node] == [a, b]
        };
        self.net.alive.iter().filter(is_between).copied().collect()
    }

    /// The way is free again: what was held comes, in order.
    pub(crate) fn heal(&mut self, from: usize, to: usize) {
        if self.net.cut.remove(&(from, to)).is_none() {
            return;
        }
        for connection in self.alive_between(from, to) {
            let side = self.side(connection, from);
            let held = std::mem::take(&mut self.net.connections[connection].held[side]);
            for what in held {
                self.send_in_order(connection, from, what);
            }
        }
    }

    /// A node is gone: whoever reaches it hears that its connections are.
    pub(crate) fn close_all(&mut self, node: usize) {
        let all: Vec<usize> = self.net.alive.iter().copied().collect();
        for connection in all {
            let ends = &self.net.connections[connection].ends;
            if ends.iter().any(|end| end.node == node && !end.is_closed) {
                self.close(connection, node);
            }
        }
    }
}
