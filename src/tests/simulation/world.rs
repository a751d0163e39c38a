//! Virtual time: what happens next, to whom, by whose clock.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use tickwright_core::cluster::{Beat, Directory, Join, Links, Membership, Peer, Timings, Unit};
use tickwright_core::domain::{Incarnation, NodeAddress, NodeId, Span, Timestamp};

use crate::agreement::{Agreement, Letter, Service};
use crate::disk::Disk;
use crate::faults::{Fault, Scenario};
use crate::mail::{Mail, Port};
use crate::net::Net;
use crate::random::Random;
use crate::units::{Actor, Workload};

pub(crate) const MILLISECOND: u64 = 1_000_000;
pub(crate) const SECOND: u64 = 1_000 * MILLISECOND;

/// Something that happens to a node.
#[derive(Clone, Debug)]
pub(crate) enum What {
    BeatDue,
    LookDue,
    JoinWake(Timestamp),
    LinksWake,
    /// By a connection.
    By(usize, Box<What>),
    Hello,
    Welcome,
    Refused {
        is_oneself: bool,
    },
    Go,
    /// The connection is gone.
    Lost(usize),
    /// Dialling has taken too long.
    Impatient(usize),
    /// Whoever was welcomed has not gone on in time.
    Unclaimed(usize),
    /// The owner of a name has had its time; the beat it had before.
    Probed(usize, Option<(Incarnation, u64)>),
    /// A link can be used from now on.
    Opened(usize),
    Beat(Box<Beat>),
    Letter(Letter),
    Mail(Mail),
    /// Between two actors of one node.
    Local(Mail),
    LedgerLook,
    AllocatorLook,
    /// A request of the ledger is tried again, or its time is over.
    Retry(u64, u64),
    Propose(u64),
    ClientDue,
    /// The disk has come so far.
    Synced(u64),
    /// Whoever runs a unit that is this node's now is asked for its last checkpoint.
    Begin(Unit, u64),
    /// The actors of a unit that was started are there.
    Ready(Unit, u64),
    ReadOn(Unit, u64),
    /// A stream's demand could not be said.
    Unsaid(Unit, Unit, u64),
    /// Hellos that could not be said are said again.
    Hellos,
    // To the world:
    Strike(usize),
    Heal(Vec<(usize, usize)>),
    Undrain(usize),
    Start(usize),
    GiveUp(usize, usize, u64),
    Elections,
    Check,
}

/// A machine.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: NodeId,
    pub(crate) duties: Vec<String>,
    pub(crate) life: u64,
    pub(crate) incarnation: Incarnation,
    pub(crate) paused_until: u64,
    /// What its clock shows at the beginning, and how fast it goes, in millionths.
    pub(crate) clock: u64,
    pub(crate) rate: u64,
    pub(crate) disk: Disk,
    /// None while it is down.
    pub(crate) run: Option<Run>,
}

/// What a node loses when it goes down.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) join: Join,
    pub(crate) links: Links,
    pub(crate) membership: Membership,
    pub(crate) directory: Directory,
    pub(crate) join_wake_at: Timestamp,
    pub(crate) links_wake_at: Option<Timestamp>,
    pub(crate) told: u64,
    pub(crate) next_link: u64,
    /// Links that can be used, by peer.
    pub(crate) open: BTreeMap<NodeId, usize>,
    pub(crate) remembered: BTreeMap<NodeId, NodeAddress>,
    pub(crate) is_rerouted: bool,
    pub(crate) agreement: Agreement,
    /// Units that are hosted, and their epochs.
    pub(crate) hosted: BTreeMap<Unit, u64>,
    /// Units that are this node's now, and are not hosted yet.
    pub(crate) beginning: BTreeMap<Unit, u64>,
    /// Units that are hosted, though another node was given them, and until when.
    pub(crate) leaving: BTreeMap<Unit, u64>,
    pub(crate) actors: BTreeMap<Unit, Actor>,
    pub(crate) port: Port,
}

/// A node, and the number of one of its lives.
type Life = (usize, u64);

pub(crate) struct World {
    pub(crate) scenario: Scenario,
    pub(crate) now: u64,
    /// By time, then in the order in which it was decided: to which life of which node, or to the world.
    queue: BTreeMap<(u64, u64), (Option<Life>, What)>,
    sequence: u64,
    pub(crate) random: Random,
    pub(crate) timings: Timings,
    pub(crate) nodes: Vec<Node>,
    pub(crate) net: Net,
    pub(crate) service: Service,
    pub(crate) workload: Workload,
    pub(crate) faults: Vec<Fault>,
    /// When each cluster was founded, and by whom.
    pub(crate) founded: Vec<(u64, usize)>,
    /// Nodes that an operator wants empty.
    pub(crate) drained: BTreeSet<NodeId>,
    /// How often a unit was handed over by a node that was there.
    pub(crate) handovers: u64,
    /// Where exec began last, and how often that was another node than before.
    pub(crate) exec_at: Option<usize>,
    pub(crate) exec_moves: u64,
    /// Every epoch of every unit, and whose it was.
    pub(crate) owners: BTreeMap<(Unit, u64), NodeId>,
    /// The latest epoch of each producer that each life of a consumer has taken a frame of.
    pub(crate) taken: BTreeMap<(usize, u64, Unit, Unit), u64>,
    /// When the last fault was over.
    pub(crate) quiet_at: u64,
    pub(crate) meshed_at: Option<u64>,
    pub(crate) agreed_at: Option<u64>,
    pub(crate) finished: Option<u64>,
    /// What happened, for whoever looks for the reason of a failure. The last thousand lines.
    pub(crate) log: Vec<String>,
    pub(crate) events: u64,
    pub(crate) stale_frames: u64,
    pub(crate) rewinds: u64,
}

/// An invariant does not hold: the number of the property, and what was seen.
pub(crate) type Broken = String;

macro_rules! note {
    ($world:expr, $($text:tt)*) => {
        if $world.scenario.is_told { $world.note(format!($($text)*)) }
    };
}
pub(crate) use note;

impl World {
    pub(crate) fn note(&mut self, line: String) {
        let milliseconds = self.now / MILLISECOND;
        self.log.push(format!("{:>4}.{:03} {line}", milliseconds / 1_000, milliseconds % 1_000));
    }

    /// Something happens to one life of a node at a time.
    pub(crate) fn at(&mut self, at: u64, node: usize, life: u64, what: What) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), (Some((node, life)), what));
    }

    pub(crate) fn at_world(&mut self, at: u64, what: What) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), (None, what));
    }

    /// The same after a span of the node's own clock.
    pub(crate) fn after(&mut self, node: usize, span: Span, what: What) {
        let nanos = u128::from(u64::try_from(span.as_nanos()).unwrap());
        let own = nanos * 1_000_000 / u128::from(self.nodes[node].rate);
        let (at, life) = (self.now + u64::try_from(own).unwrap(), self.nodes[node].life);
        self.at(at, node, life, what);
    }

    /// What the clock of `node` shows.
    pub(crate) fn clock(&self, node: usize) -> Timestamp {
        let Node { clock, rate, .. } = self.nodes[node];
        let passed = u128::from(self.now) * u128::from(rate) / 1_000_000;
        Timestamp::from_nanos(clock + u64::try_from(passed).unwrap())
    }

    pub(crate) fn peer(&self, node: usize) -> Peer {
        let Node { name, incarnation, .. } = &self.nodes[node];
        Peer { id: name.clone(), incarnation: *incarnation }
    }

    pub(crate) fn run_of(&mut self, node: usize) -> &mut Run {
        self.nodes[node].run.as_mut().expect("only nodes that are up are asked")
    }

    pub(crate) fn is_up(&self, node: usize) -> bool {
        self.nodes[node].run.is_some()
    }

    pub(crate) fn is_awake(&self, node: usize) -> bool {
        self.is_up(node) && self.nodes[node].paused_until <= self.now
    }

    pub(crate) fn index_of(&self, name: &NodeId) -> usize {
        self.nodes.iter().position(|node| node.name == *name).expect("all are known")
    }

    /// Runs to the end. Returns the digest of what exec took.
    pub(crate) fn run(&mut self) -> Result<u64, Broken> {
        let deadline = self.quiet_at + self.scenario.patience;
        while !self.is_over() {
            let Some(((at, _), (to, what))) = self.queue.pop_first() else {
                return Err("(5) nothing is going to happen any more".into());
            };
            if at > deadline {
                return Err(self.stuck());
            }
            self.now = at;
            self.events += 1;
            match to {
                None => self.on_world(what)?,
                Some((node, life)) => self.on_node(node, life, what)?,
            }
        }
        self.check_end()?;
        Ok(self.finished.unwrap_or(0))
    }

    fn is_over(&self) -> bool {
        self.now > self.quiet_at
            && self.finished.is_some()
            && self.agreed_at.is_some()
            && self.is_settled()
    }

    fn on_node(&mut self, node: usize, life: u64, what: What) -> Result<(), Broken> {
        if self.nodes[node].life != life || !self.is_up(node) {
            return Ok(());
        }
        let paused_until = self.nodes[node].paused_until;
        if paused_until > self.now {
            // It keeps its place among what waits.
            self.at(paused_until, node, life, what);
            return Ok(());
        }
        self.handle(node, what)?;
        if self.is_up(node) {
            self.reroute(node);
            self.check_node(node)?;
        }
        Ok(())
    }

    fn handle(&mut self, node: usize, what: What) -> Result<(), Broken> {
        match what {
            What::BeatDue => {
                self.beat(node);
                self.after(node, self.timings.heartbeat, What::BeatDue);
            }
            What::LookDue => {
                self.look(node)?;
                self.after(node, self.timings.judge, What::LookDue);
            }
            What::JoinWake(at) => self.on_join_wake(node, at)?,
            What::LinksWake => {
                self.run_of(node).links_wake_at = None;
                self.dial_due(node);
            }
            What::By(connection, what) => {
                if self.holds(connection, node) {
                    self.on_connection(node, connection, *what)?;
                }
            }
            What::Lost(connection) => self.on_lost(node, connection)?,
            What::Impatient(connection) => self.on_impatient(node, connection)?,
            What::Unclaimed(connection) => self.on_unclaimed(node, connection),
            What::Probed(connection, before) => self.on_probed(node, connection, before),
            What::Opened(connection) => self.on_opened(node, connection),
            What::LedgerLook => self.ledger_look(node)?,
            What::AllocatorLook => self.allocator_look(node)?,
            What::Retry(request, attempt) => self.on_retry(node, request, attempt)?,
            What::Propose(proposal) => self.on_propose(node, proposal)?,
            What::ClientDue => self.client_due(node),
            What::Synced(number) => self.on_synced(node, number)?,
            What::Begin(unit, epoch) => self.on_begin(node, unit, epoch),
            What::Ready(unit, epoch) => self.on_ready(node, unit, epoch)?,
            What::ReadOn(unit, serial) => self.on_read_on(node, unit, serial)?,
            What::Unsaid(to, from, serial) => self.on_unsaid(node, to, from, serial),
            What::Hellos => self.say_hellos(node),
            What::Local(mail) => self.on_local(node, mail)?,
            What::Hello
            | What::Welcome
            | What::Refused { .. }
            | What::Go
            | What::Beat(_)
            | What::Letter(_)
            | What::Mail(_) => unreachable!("they come by a connection"),
            What::Strike(_)
            | What::Heal(_)
            | What::Undrain(_)
            | What::Start(_)
            | What::GiveUp(..)
            | What::Elections
            | What::Check => unreachable!("they concern the world"),
        }
        Ok(())
    }

    fn on_connection(&mut self, node: usize, connection: usize, what: What) -> Result<(), Broken> {
        match what {
            What::Hello => self.on_hello(node, connection),
            What::Welcome => self.on_welcome(node, connection)?,
            What::Refused { is_oneself } => self.on_refused(node, connection, is_oneself)?,
            What::Go => self.on_go(node, connection)?,
            What::Beat(beat) => self.on_beat(node, connection, *beat)?,
            What::Letter(letter) => self.on_letter(node, connection, letter)?,
            What::Mail(mail) => self.on_mail(node, connection, mail)?,
            other => unreachable!("{other:?} does not come by a connection"),
        }
        Ok(())
    }

    fn on_world(&mut self, what: What) -> Result<(), Broken> {
        match what {
            What::Strike(fault) => self.strike(fault),
            What::Heal(ways) => {
                note!(self, "healed {ways:?}");
                ways.into_iter().for_each(|(from, to)| self.heal(from, to));
            }
            What::Undrain(node) => {
                let name = &self.nodes[node].name;
                self.drained.remove(name);
            }
            What::Start(node) => self.start(node),
            What::GiveUp(from, to, number) => self.give_up(from, to, number),
            What::Elections => self.elections(),
            What::Check => self.check_agreement()?,
            other => unreachable!("{other:?} concerns a node"),
        }
        Ok(())
    }

    /// What there is to see of a run that does not come to its end.
    fn stuck(&self) -> Broken {
        let mut text = String::from("(5) the run does not come to its end\n");
        let quiet = self.quiet_at / MILLISECOND;
        let _ = writeln!(
            text,
            "  faults were over at {quiet} ms; links up {:?}, agreed {:?}, finished {:?}",
            self.meshed_at, self.agreed_at, self.finished
        );
        let _ = writeln!(text, "  coordinator {:?}", self.service.truth.coordinator());
        for (resource, allocation) in self.service.truth.allocations() {
            let _ = writeln!(text, "  {resource}: {:?} {}", allocation.owner, allocation.epoch);
        }
        for node in &self.nodes {
            let _ = write!(text, "  {}.{} ", node.name, node.incarnation);
            let Some(run) = &node.run else {
                let _ = writeln!(text, "is down");
                continue;
            };
            let links: Vec<&str> = run.open.keys().map(|id| id.0.as_str()).collect();
            let _ = writeln!(text, "joined {} links {links:?}", run.join.is_done());
            for member in run.membership.members(Timestamp::from_nanos(0)) {
                let _ = write!(text, "    {} {}", member.profile.id, member.status.name());
            }
            let _ = writeln!(text, "\n    hosts {:?}", run.hosted);
            for (unit, actor) in &run.actors {
                let _ = writeln!(text, "    {unit}: {}", actor.tell());
            }
            let _ = writeln!(text, "    {}", run.port.tell());
        }
        text
    }
}

pub(crate) fn new(seed: u64, scenario: Scenario) -> World {
    let mut random = Random::new(seed);
    let heartbeat = Span::from_millis(scenario.heartbeat_ms);
    let (nodes, faults, quiet_at) = scenario.draw(&mut random);
    let workload = Workload::new(&scenario);
    let net = Net::new(scenario.delay, scenario.loss, scenario.twice);
    let mut world = World {
        now: 0,
        queue: BTreeMap::new(),
        sequence: 0,
        random,
        timings: Timings::from_heartbeat(heartbeat),
        nodes,
        net,
        service: Service::default(),
        workload,
        faults,
        founded: Vec::new(),
        drained: BTreeSet::new(),
        handovers: 0,
        exec_at: None,
        exec_moves: 0,
        owners: BTreeMap::new(),
        taken: BTreeMap::new(),
        quiet_at,
        meshed_at: None,
        agreed_at: None,
        finished: None,
        log: Vec::new(),
        events: 0,
        stale_frames: 0,
        rewinds: 0,
        scenario,
    };
    for fault in 0..world.faults.len() {
        let at = world.faults[fault].at;
        world.at_world(at, What::Strike(fault));
    }
    for node in 0..world.nodes.len() {
        let at = world.random.range(0, 300 * MILLISECOND);
        world.at_world(at, What::Start(node));
    }
    world.at_world(SECOND, What::Elections);
    world.at_world(quiet_at + MILLISECOND, What::Check);
    world
}

/// A set of nodes' names, for failures.
pub(crate) fn names<'n>(nodes: impl Iterator<Item = &'n NodeId>) -> BTreeSet<&'n str> {
    nodes.map(|node| node.0.as_str()).collect()
}
