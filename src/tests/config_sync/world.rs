//! Nodes, their disks, their clocks, the network between them, and what goes wrong.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tickwright_core::config_sync::{
    Body, ConfigSync, ConfigSyncConfig, ConfigSyncEffect, Digest, Dot, MergeRule, Message, Moment,
    StoredRecord, Value, VersionVector, Write,
};
use tickwright_core::domain::{Incarnation, NodeId, Span, Timestamp};

use crate::judge::{Judge, Known};
use crate::random::Random;

pub(crate) const MILLISECOND: u64 = 1_000_000;
pub(crate) const SECOND: u64 = 1_000 * MILLISECOND;
const YEAR: u64 = 365 * 86_400 * SECOND;

/// When faults and writes end.
const UNTIL: u64 = 20 * SECOND;
/// Slowest commit once all is well.
const DISK_MAX: u64 = 3 * MILLISECOND;

/// The world that a seed makes.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    nodes: usize,
    heartbeat: u64,
    delay: (u64, u64),
    /// Of a hundred messages.
    loss: u64,
    twice: u64,
    writes: u64,
    keys: usize,
    faults: u64,
    tombstone_min: u64,
    is_skewed: bool,
}

impl Scenario {
    pub(crate) fn of(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0xc0f1);
        let is_fast = random.percent(50);
        Self {
            nodes: [2, 3, 3, 5][random.index(4)],
            heartbeat: [100, 250, 500][random.index(3)] * MILLISECOND,
            delay: if is_fast { (50_000, MILLISECOND) } else { (MILLISECOND, 20 * MILLISECOND) },
            loss: [0, 5, 30][random.index(3)],
            twice: [0, 5, 20][random.index(3)],
            writes: [5, 20, 60][random.index(3)],
            keys: [1, 3, 8][random.index(3)],
            faults: random.range(0, 8),
            tombstone_min: [0, 0, 2][random.index(3)] * SECOND,
            is_skewed: random.percent(60),
        }
    }
}

#[derive(Clone, Debug)]
enum Fault {
    Crash {
        node: usize,
        forgets: bool,
    },
    Pause {
        node: usize,
    },
    Cut {
        ways: Vec<(usize, usize)>,
    },
    /// For so long that, with `is_forgotten`, the others are told to go on without it.
    Away {
        node: usize,
        crashes: bool,
        is_forgotten: bool,
    },
}

#[derive(Clone, Debug)]
enum What {
    Deliver { from: usize, message: Box<Message> },
    Wake,
    Synced,
    Write,
    Members,
}

#[derive(Clone, Debug)]
enum Event {
    /// To one life of a node.
    Node {
        node: usize,
        life: u64,
        what: What,
    },
    Begin(usize),
    End(usize),
}

#[derive(Debug, Default)]
struct Disk {
    stored: Vec<StoredRecord>,
    known: Known,
    /// With what the node knew of then, and the writes among them.
    pending: VecDeque<(u64, Vec<StoredRecord>, Known)>,
}

#[derive(Debug)]
struct Node {
    name: NodeId,
    life: u64,
    clock: i128,
    disk: Disk,
    known: Known,
    sync: Option<ConfigSync>,
    /// What whoever goes by the values was told: all in the beginning, then each that had changed.
    heard: BTreeMap<String, Value>,
    /// Faults that hold it.
    down: u64,
    paused: u64,
    /// What came meanwhile.
    waiting: VecDeque<What>,
    wakes_at: u64,
}

impl Node {
    /// As the actor does: whoever goes by `key` is told what it reads now.
    fn hear(&mut self, key: String) {
        let reading = self.sync.as_ref().and_then(|sync| sync.read(&key));
        match reading.map(|reading| reading.value) {
            Some(value) => self.heard.insert(key, value),
            None => self.heard.remove(&key),
        };
    }

    fn is_heard(&self) -> Result<(), String> {
        let Some(sync) = &self.sync else { return Ok(()) };
        let (read, heard) = (readings(sync), &self.heard);
        if read == *heard {
            return Ok(());
        }
        Err(format!("(6) {} reads {read:?}, and has told {heard:?}", self.name))
    }
}

/// What every key reads that holds something.
fn readings(sync: &ConfigSync) -> BTreeMap<String, Value> {
    let values =
        sync.entries().filter_map(|(key, _)| Some((key.to_owned(), sync.read(key)?.value)));
    values.collect()
}

/// What happened in all runs, in numbers.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    events: u64,
    writes: u64,
    conflicts: u64,
    repairs: u64,
    forgotten: u64,
    set_aside: u64,
    disks_lost: u64,
    /// Longest it took to be equal, in thousandths of what it may take.
    slowest: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, world: &World) {
        self.events += world.events;
        self.slowest = self.slowest.max(world.slowest);
        self.disks_lost += world.disks_lost;
        self.set_aside += world.set_aside;
        for node in &world.nodes {
            let Some(sync) = &node.sync else { continue };
            self.writes += sync.counts().writes;
            self.conflicts += sync.counts().conflicts;
            self.repairs += sync.counts().repairs;
            self.forgotten += sync.counts().forgotten;
        }
    }

    pub(crate) fn every_fault_happened(&self) -> bool {
        let all = [self.conflicts, self.repairs, self.forgotten, self.set_aside, self.disks_lost];
        all.into_iter().all(|count| count > 0)
    }
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) scenario: Scenario,
    pub(crate) log: Vec<String>,
    pub(crate) events: u64,
    is_told: bool,
    random: Random,
    now: u64,
    queue: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    nodes: Vec<Node>,
    faults: Vec<Fault>,
    cut: BTreeMap<(usize, usize), u64>,
    /// Nodes that the others go on without.
    left_out: BTreeSet<usize>,
    is_over: bool,
    judge: Judge,
    broken: Option<String>,
    slowest: u64,
    disks_lost: u64,
    set_aside: u64,
}

fn span(nanos: u64) -> Span {
    Span::from_nanos(nanos)
}

impl World {
    pub(crate) fn new(seed: u64, scenario: Scenario, is_told: bool) -> Self {
        let mut random = Random::new(seed);
        let nodes = (0..scenario.nodes).map(|node| {
            let base = i128::from(50 * YEAR);
            let skew = match random.index(4) {
                _ if !scenario.is_skewed => 0,
                0 => i128::from(random.range(0, 2 * YEAR)),
                1 => -i128::from(random.range(0, 2 * YEAR)),
                _ => i128::from(random.range(0, 5 * SECOND)),
            };
            Node {
                name: NodeId(format!("n{node}")),
                life: 0,
                clock: base + skew,
                disk: Disk::default(),
                known: Known::new(),
                sync: None,
                heard: BTreeMap::new(),
                down: 0,
                paused: 0,
                waiting: VecDeque::new(),
                wakes_at: 0,
            }
        });
        let nodes = nodes.collect();
        Self {
            nodes,
            scenario,
            log: Vec::new(),
            events: 0,
            is_told,
            random,
            now: 0,
            queue: BTreeMap::new(),
            sequence: 0,
            faults: Vec::new(),
            cut: BTreeMap::new(),
            left_out: BTreeSet::new(),
            is_over: false,
            judge: Judge::default(),
            broken: None,
            slowest: 0,
            disks_lost: 0,
            set_aside: 0,
        }
    }

    fn tell(&mut self, text: impl FnOnce(&Self) -> String) {
        if self.is_told {
            let line = format!("{:>10.3} ms  {}", self.now as f64 / 1e6, text(self));
            self.log.push(line);
        }
    }

    fn at(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((at.max(self.now), self.sequence), event);
    }

    fn after(&mut self, wait: u64, node: usize, what: What) {
        let life = self.nodes[node].life;
        self.at(self.now + wait, Event::Node { node, life, what });
    }

    fn moment(&self, node: usize) -> Moment {
        let now = Timestamp::from_nanos(SECOND + self.now);
        let wall = u64::try_from(self.nodes[node].clock + i128::from(self.now)).unwrap();
        Moment { now, wall: Timestamp::from_nanos(wall) }
    }

    fn start(&mut self, node: usize) {
        let at = self.moment(node);
        let this = &mut self.nodes[node];
        this.life += 1;
        this.waiting.clear();
        this.known = this.disk.known.clone();
        let config = ConfigSyncConfig {
            heartbeat: span(self.scenario.heartbeat),
            tombstone_min: span(self.scenario.tombstone_min),
        };
        let records = this.disk.stored.clone();
        let begun =
            ConfigSync::begin(config, &this.name, Incarnation(this.life), records, at).unwrap();
        // As the actor does before it says anything: what it begins with is not told as a change.
        this.heard = readings(&begun.0);
        this.sync = Some(begun.0);
        self.tell(|world| format!("n{node} starts, life {}", world.nodes[node].life));
        self.carry_out(node, begun.1);
        self.members_change();
        self.wake_again(node);
    }

    fn stop(&mut self, node: usize, forgets: bool) {
        let chance = self.random.draw();
        let this = &mut self.nodes[node];
        this.life += 1;
        this.sync = None;
        let pending = std::mem::take(&mut this.disk.pending);
        let survive = usize::try_from(chance).unwrap_or(usize::MAX) % (pending.len() + 1);
        let name = this.name.0.clone();
        for (_, records, known) in pending.into_iter().take(survive) {
            self.store(node, records, known);
        }
        self.judge.on_crash(&name);
        if forgets {
            self.nodes[node].disk = Disk::default();
            self.disks_lost += 1;
            self.judge.on_disk_lost(&name);
        }
        self.tell(|_| format!("n{node} stops, its disk is lost: {forgets}"));
        self.members_change();
    }

    fn store(&mut self, node: usize, records: Vec<StoredRecord>, known: Known) {
        let this = &mut self.nodes[node];
        for record in &records {
            if let StoredRecord::Entry { entry, .. } = record {
                let own = |dot: &&Dot| dot.replica.node == this.name;
                entry.siblings.keys().filter(own).for_each(|dot| self.judge.on_stored(dot));
            }
        }
        this.disk.stored.extend(records);
        this.disk.known = known;
    }

    fn is_reached(&self, from: usize, to: usize) -> bool {
        !self.cut.contains_key(&(from, to))
    }

    /// Nodes notice some time later who can be reached.
    fn members_change(&mut self) {
        for node in 0..self.nodes.len() {
            let latest = 2 * self.scenario.heartbeat;
            let wait = if self.is_over { 0 } else { self.random.range(0, latest) };
            self.after(wait, node, What::Members);
        }
    }

    fn members(&mut self, node: usize) {
        let at = self.moment(node);
        let is_there = |other: &usize| {
            *other != node
                && self.nodes[*other].sync.is_some()
                && self.is_reached(node, *other)
                && self.is_reached(*other, node)
        };
        let up: Vec<usize> = (0..self.nodes.len()).filter(is_there).collect();
        let name = |node: &usize| self.nodes[*node].name.clone();
        let is_known = |other: &usize| *other == node || !self.left_out.contains(other);
        let known = if self.left_out.contains(&node) {
            (0..self.nodes.len()).map(|node| name(&node)).collect()
        } else {
            (0..self.nodes.len()).filter(is_known).map(|node| name(&node)).collect()
        };
        let up = up.iter().map(name).collect();
        let Some(sync) = self.nodes[node].sync.as_mut() else { return };
        let effects = sync.on_members(known, up, at);
        self.carry_out(node, effects);
    }

    fn carry_out(&mut self, node: usize, effects: Vec<ConfigSyncEffect>) {
        let this = &mut self.nodes[node];
        if let Some(sync) = &this.sync {
            for (key, entry) in sync.entries() {
                self.judge.learn(&mut this.known, key, entry);
            }
        }
        for effect in effects {
            match effect {
                ConfigSyncEffect::Send { to, message } => self.send(node, &to, &message),
                ConfigSyncEffect::Persist { number, records } => {
                    let known = self.nodes[node].known.clone();
                    self.nodes[node].disk.pending.push_back((number, records, known));
                    let is_early = self.now + SECOND < UNTIL;
                    let slow = if is_early && self.random.percent(5) { 100 } else { 1 };
                    let wait = self.random.range(MILLISECOND / 5, DISK_MAX) * slow;
                    self.after(wait, node, What::Synced);
                }
                ConfigSyncEffect::SetAside { key, sibling } => {
                    self.set_aside += 1;
                    self.tell(|_| format!("n{node} sets {key} by {} aside", sibling.author));
                    self.judge.on_set_aside(&key, &sibling);
                }
                ConfigSyncEffect::Changed { key } => self.nodes[node].hear(key),
            }
        }
        if let Err(broken) = self.nodes[node].is_heard() {
            self.broken.get_or_insert(broken);
        }
    }

    fn send(&mut self, from: usize, to: &NodeId, message: &Message) {
        if let Body::Push { entries, .. } | Body::Entries { entries, .. } = &message.body {
            let name = &self.nodes[from].name.0;
            let sent = entries.iter().try_for_each(|(_, entry)| self.judge.on_sent(name, entry));
            if let Err(broken) = sent {
                self.broken.get_or_insert(broken);
            }
        }
        let to = self.nodes.iter().position(|node| node.name == *to).unwrap();
        let (loss, twice) = (self.scenario.loss, self.scenario.twice);
        let is_lost = !self.is_over && self.random.percent(loss);
        let copies = if is_lost { 0 } else { 1 + u64::from(self.random.percent(twice)) };
        for _ in 0..copies {
            let (low, high) = self.scenario.delay;
            let wait = self.random.range(low, high);
            self.after(wait, to, What::Deliver { from, message: Box::new(message.clone()) });
        }
    }

    fn wake_again(&mut self, node: usize) {
        let Some(sync) = &self.nodes[node].sync else { return };
        let at = sync.next_wake().as_nanos().saturating_sub(SECOND).max(self.now);
        // One timer at a time, unless it has to be earlier.
        let pending = self.nodes[node].wakes_at;
        if pending <= self.now || at < pending {
            self.nodes[node].wakes_at = at;
            let wait = at - self.now;
            self.after(wait, node, What::Wake);
        }
    }

    fn write(&mut self, node: usize) {
        let at = self.moment(node);
        let key_number = self.random.index(self.scenario.keys);
        let key = format!("user.{key_number}");
        let is_removal = self.random.percent(35);
        let rules = [MergeRule::Latest, MergeRule::Max, MergeRule::Sticky, MergeRule::Union];
        let value = i64::try_from(self.random.range(0, 1_000)).unwrap();
        let priority = if self.random.percent(10) { 200 } else { 0 };
        let Some(sync) = self.nodes[node].sync.as_mut() else { return };
        let counter = sync.seen().get(sync.replica()) + 1;
        let author = Dot { replica: sync.replica().clone(), counter }.to_string();
        let write = Write {
            key: key.clone(),
            value: (!is_removal).then_some(Value::Integer(value)),
            priority,
            rule: rules[key_number % rules.len()],
            author: author.clone(),
        };
        let (dot, effects) = sync.write(write, at).unwrap();
        assert_eq!(dot.to_string(), author);
        self.tell(|_| format!("n{node} writes {key} as {dot}, a removal: {is_removal}"));
        let known = &self.nodes[node].known;
        if let Err(broken) = self.judge.on_write(&dot, &key, is_removal, known) {
            self.broken.get_or_insert(broken);
        }
        self.carry_out(node, effects);
    }

    fn draw_faults(&mut self) {
        let count = self.nodes.len();
        for _ in 0..self.scenario.faults {
            let node = self.random.index(count);
            let fault = match self.random.index(7) {
                0 => Fault::Crash { node, forgets: false },
                1 => Fault::Crash { node, forgets: true },
                2 => Fault::Pause { node },
                3 => {
                    let other = self.random.index(count);
                    Fault::Cut { ways: vec![(node, other)] }
                }
                4 => {
                    let side: Vec<bool> = (0..count).map(|_| self.random.percent(50)).collect();
                    let all = (0..count).flat_map(|from| (0..count).map(move |to| (from, to)));
                    let ways = all.filter(|&(from, to)| side[from] != side[to]).collect();
                    Fault::Cut { ways }
                }
                _ => Fault::Away {
                    node,
                    crashes: self.random.percent(50),
                    is_forgotten: self.random.percent(50),
                },
            };
            let is_long = matches!(fault, Fault::Away { .. });
            let from = self.random.range(0, if is_long { UNTIL / 2 } else { UNTIL * 9 / 10 });
            let lasts = if is_long { UNTIL } else { self.random.range(0, 5 * SECOND) };
            self.faults.push(fault);
            let number = self.faults.len() - 1;
            self.at(from, Event::Begin(number));
            self.at((from + lasts).min(UNTIL), Event::End(number));
        }
    }

    fn ways_of(&self, node: usize) -> Vec<(usize, usize)> {
        let others = (0..self.nodes.len()).filter(|other| *other != node);
        others.flat_map(|other| [(node, other), (other, node)]).collect()
    }

    fn cut(&mut self, ways: &[(usize, usize)], is_cut: bool) {
        for &way in ways {
            let count = self.cut.entry(way).or_default();
            *count = if is_cut { *count + 1 } else { count.saturating_sub(1) };
            if *count == 0 {
                self.cut.remove(&way);
            }
        }
        self.members_change();
    }

    fn begin(&mut self, number: usize) {
        let fault = self.faults[number].clone();
        self.tell(|_| format!("begins: {fault:?}"));
        match fault {
            Fault::Crash { node, forgets } => self.crash(node, forgets),
            Fault::Pause { node } => self.nodes[node].paused += 1,
            Fault::Cut { ways } => self.cut(&ways, true),
            Fault::Away { node, crashes, is_forgotten } => {
                let ways = self.ways_of(node);
                self.cut(&ways, true);
                if crashes {
                    self.crash(node, false);
                }
                // The rest must be most, or two halves could forget each other.
                if is_forgotten && self.left_out.is_empty() && self.nodes.len() > 2 {
                    self.left_out.insert(node);
                }
                self.members_change();
            }
        }
    }

    fn crash(&mut self, node: usize, forgets: bool) {
        self.nodes[node].down += 1;
        if self.nodes[node].sync.is_some() {
            self.stop(node, forgets);
        }
    }

    fn end(&mut self, number: usize) {
        let fault = self.faults[number].clone();
        self.tell(|_| format!("ends: {fault:?}"));
        match fault {
            Fault::Crash { node, .. } => self.recover(node),
            Fault::Pause { node } => {
                self.nodes[node].paused -= 1;
                if self.nodes[node].paused == 0 {
                    let waiting = std::mem::take(&mut self.nodes[node].waiting);
                    waiting.into_iter().for_each(|what| self.after(0, node, what));
                }
            }
            Fault::Cut { ways } => self.cut(&ways, false),
            Fault::Away { node, crashes, .. } => {
                let ways = self.ways_of(node);
                if crashes {
                    self.recover(node);
                }
                self.left_out.remove(&node);
                self.cut(&ways, false);
            }
        }
    }

    fn recover(&mut self, node: usize) {
        self.nodes[node].down -= 1;
        if self.nodes[node].down == 0 && self.nodes[node].sync.is_none() {
            self.start(node);
        }
    }

    fn handle(&mut self, node: usize, what: What) {
        if self.nodes[node].paused > 0 {
            if self.nodes[node].waiting.len() < 10_000 {
                self.nodes[node].waiting.push_back(what);
            }
            return;
        }
        let at = self.moment(node);
        match what {
            What::Deliver { from, message } => {
                if !self.is_reached(from, node) {
                    return;
                }
                let name = self.nodes[from].name.clone();
                if self.is_over {
                    self.tell(|_| format!("n{node} hears of n{from}: {:?}", message.body));
                }
                let Some(sync) = self.nodes[node].sync.as_mut() else { return };
                let effects = sync.on_message(&name, *message, at);
                self.carry_out(node, effects);
            }
            What::Wake => {
                self.nodes[node].wakes_at = 0;
                let Some(sync) = self.nodes[node].sync.as_mut() else { return };
                let effects = sync.on_wake(at);
                self.carry_out(node, effects);
            }
            What::Synced => {
                // Commits come to an end in order, whenever each was to.
                let Some((number, records, known)) = self.nodes[node].disk.pending.pop_front()
                else {
                    return;
                };
                self.store(node, records, known);
                let Some(sync) = self.nodes[node].sync.as_mut() else { return };
                let effects = sync.on_persisted(number);
                self.carry_out(node, effects);
            }
            What::Write => self.write(node),
            What::Members => self.members(node),
        }
        self.wake_again(node);
    }

    fn roots(&self) -> BTreeSet<Option<Digest>> {
        self.nodes.iter().map(|node| node.sync.as_ref().map(ConfigSync::root)).collect()
    }

    /// Goes on until `until`, or until `is_enough` says so after an event; says when that was.
    fn go(&mut self, until: u64, is_enough: impl Fn(&Self) -> bool) -> Option<u64> {
        loop {
            if is_enough(self) {
                return Some(self.now);
            }
            let first = self.queue.first_entry()?;
            if first.key().0 > until {
                self.now = until;
                return None;
            }
            let ((at, _), event) = first.remove_entry();
            self.now = at;
            self.events += 1;
            match event {
                Event::Node { node, life, what } => {
                    // Writes come to whoever is there.
                    if life == self.nodes[node].life || matches!(what, What::Write) {
                        self.handle(node, what);
                    }
                }
                Event::Begin(number) => self.begin(number),
                Event::End(number) => self.end(number),
            }
        }
    }

    pub(crate) fn run(&mut self) -> Result<(), String> {
        for node in 0..self.nodes.len() {
            self.start(node);
        }
        self.draw_faults();
        for _ in 0..self.scenario.writes {
            let (node, at) = (self.random.index(self.nodes.len()), self.random.range(0, UNTIL));
            self.after(at, node, What::Write);
        }
        self.go(UNTIL, |_| false);
        let is_well = self.cut.is_empty()
            && self.left_out.is_empty()
            && self.nodes.iter().all(|node| node.sync.is_some() && node.paused == 0);
        assert!(is_well, "faults end");
        self.is_over = true;
        for node in 0..self.nodes.len() {
            self.members(node);
            self.wake_again(node);
        }
        let round_trip = 2 * (self.scenario.delay.1 + DISK_MAX);
        let bound = 2 * self.scenario.heartbeat + 3 * round_trip;
        let since = self.now;
        self.tell(|_| "all is well from here".to_owned());
        let equal = self.go(since + bound, |world| world.roots().len() == 1);
        let Some(equal) = equal else {
            for node in 0..self.nodes.len() {
                self.tell(|world| world.state(node));
            }
            return Err(format!("(1) not equal after {} ms", bound / MILLISECOND));
        };
        self.slowest = 1_000 * (equal - since) / bound;
        self.is_same()?;
        let patience = 10 * self.scenario.heartbeat + 2 * self.scenario.tombstone_min;
        self.go(self.now + patience, |_| false);
        if self.roots().len() != 1 {
            return Err("(1) equal, and then not any more".into());
        }
        self.is_same()?;
        if let Some(broken) = self.broken.take() {
            return Err(broken);
        }
        for node in &self.nodes {
            let sync = node.sync.as_ref().unwrap();
            if let Some((key, _)) = sync.entries().find(|(_, entry)| entry.is_removed()) {
                return Err(format!("(5) {} still keeps that {key} was removed", node.name));
            }
            self.judge.verdict(sync)?;
        }
        Ok(())
    }

    /// What a node holds, for whoever looks for a reason.
    fn state(&self, node: usize) -> String {
        let Some(sync) = &self.nodes[node].sync else { return format!("n{node} is down") };
        let mut text = format!("n{node} is {}", sync.replica());
        if sync.is_fresh() {
            text.push_str(", fresh");
        }
        let vector = |vector: &VersionVector| {
            let parts: Vec<String> = vector.iter().map(|(of, at)| format!("{of}:{at}")).collect();
            parts.join(" ")
        };
        text.push_str(&format!("\n    seen {}", vector(sync.seen())));
        text.push_str(&format!("\n    forgotten {}", vector(sync.forgotten())));
        for (key, entry) in sync.entries() {
            let dots: Vec<String> = entry.siblings.keys().map(Dot::to_string).collect();
            let context = vector(&entry.context);
            text.push_str(&format!("\n    {key}: {} of {context}", dots.join(" ")));
        }
        text
    }

    fn is_same(&self) -> Result<(), String> {
        let read = |node: &Node| readings(node.sync.as_ref().unwrap());
        let first = read(&self.nodes[0]);
        match self.nodes.iter().find(|node| read(node) != first) {
            None => Ok(()),
            Some(node) => Err(format!("(1) {} reads otherwise", node.name)),
        }
    }
}
