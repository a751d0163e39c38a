//! Nodes by example: a network without surprises, and a disk that is as fast as it is told to be.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::domain::{NodeId, Span};

const HEARTBEAT: Span = Span::from_millis(100);

fn config() -> ConfigSyncConfig {
    ConfigSyncConfig { heartbeat: HEARTBEAT, tombstone_min: Span::ZERO }
}

fn set(key: &str, value: i64) -> Write {
    Write {
        key: key.into(),
        value: Some(Value::Integer(value)),
        priority: 0,
        rule: MergeRule::Latest,
        author: "test".into(),
    }
}

fn unset(key: &str) -> Write {
    Write { value: None, ..set(key, 0) }
}

struct Cluster {
    now: u64,
    nodes: BTreeMap<NodeId, ConfigSync>,
    disks: BTreeMap<NodeId, Vec<StoredRecord>>,
    /// Nodes that hear and say nothing.
    away: BTreeSet<NodeId>,
    set_aside: Vec<(NodeId, String)>,
    sent: BTreeMap<&'static str, u64>,
}

impl Cluster {
    fn of(names: &[&str]) -> Self {
        let mut cluster = Self {
            now: 1_000_000_000,
            nodes: BTreeMap::new(),
            disks: BTreeMap::new(),
            away: BTreeSet::new(),
            set_aside: Vec::new(),
            sent: BTreeMap::new(),
        };
        for name in names {
            cluster.start(name, 1);
        }
        let known: BTreeSet<NodeId> = names.iter().map(|&name| name.into()).collect();
        cluster.members(&known);
        cluster
    }

    fn at(&self) -> Moment {
        let now = Timestamp::from_nanos(self.now);
        Moment { now, wall: now }
    }

    fn start(&mut self, name: &str, life: u64) {
        let records = self.disks.entry(name.into()).or_default().clone();
        let (sync, effects) =
            ConfigSync::begin(config(), &name.into(), Incarnation(life), records, self.at())
                .unwrap();
        self.nodes.insert(name.into(), sync);
        self.carry_out(&name.into(), effects);
    }

    fn members(&mut self, known: &BTreeSet<NodeId>) {
        let at = self.at();
        let up: BTreeSet<NodeId> =
            self.nodes.keys().filter(|node| !self.away.contains(node)).cloned().collect();
        for node in up.clone() {
            let sync = self.nodes.get_mut(&node).unwrap();
            let effects = sync.on_members(known.clone(), up.clone(), at);
            self.carry_out(&node, effects);
        }
        for node in self.away.clone() {
            if let Some(sync) = self.nodes.get_mut(&node) {
                let effects = sync.on_members(known.clone(), BTreeSet::new(), at);
                self.carry_out(&node, effects);
            }
        }
    }

    fn all(&self) -> BTreeSet<NodeId> {
        self.nodes.keys().cloned().collect()
    }

    fn carry_out(&mut self, node: &NodeId, effects: Vec<ConfigSyncEffect>) {
        for effect in effects {
            match effect {
                ConfigSyncEffect::Send { to, message } => {
                    if self.away.contains(node) || self.away.contains(&to) {
                        continue;
                    }
                    *self.sent.entry(message.body.name()).or_default() += 1;
                    let at = self.at();
                    if let Some(sync) = self.nodes.get_mut(&to) {
                        let effects = sync.on_message(node, message, at);
                        self.carry_out(&to, effects);
                    }
                }
                ConfigSyncEffect::Persist { number, records } => {
                    self.disks.get_mut(node).unwrap().extend(records);
                    let effects = self.nodes.get_mut(node).unwrap().on_persisted(number);
                    self.carry_out(node, effects);
                }
                ConfigSyncEffect::SetAside { key, .. } => self.set_aside.push((node.clone(), key)),
                ConfigSyncEffect::Changed { .. } => {}
            }
        }
    }

    fn write(&mut self, node: &str, write: Write) {
        self.now += 10_000_000;
        let (at, node) = (self.at(), node.into());
        let (_, effects) = self.nodes.get_mut(&node).unwrap().write(write, at).unwrap();
        self.carry_out(&node, effects);
    }

    fn heartbeats(&mut self, count: u64) {
        for _ in 0..count {
            self.now += u64::try_from(HEARTBEAT.as_nanos()).unwrap();
            for node in self.all() {
                let at = self.at();
                let effects = self.nodes.get_mut(&node).unwrap().on_wake(at);
                self.carry_out(&node, effects);
            }
        }
    }

    fn read(&self, node: &str, key: &str) -> Option<i64> {
        match self.nodes[&node.into()].read(key).map(|reading| reading.value) {
            Some(Value::Integer(value)) => Some(value),
            None => None,
            Some(other) => panic!("{other}"),
        }
    }

    fn is_equal(&self) -> bool {
        let roots: BTreeSet<Digest> = self.nodes.values().map(ConfigSync::root).collect();
        roots.len() == 1
    }

    fn leave_behind(&mut self, name: &str) {
        self.away.insert(name.into());
        let known = self.all();
        self.members(&known);
    }

    fn come_back(&mut self, name: &str) {
        self.away.remove(&name.into());
        let known = self.all();
        self.members(&known);
    }
}

#[test]
fn a_write_is_pushed_to_everybody_at_once() {
    let mut cluster = Cluster::of(&["a", "b", "c"]);
    cluster.write("a", set("k", 1));
    assert_eq!(cluster.read("b", "k"), Some(1));
    assert_eq!(cluster.read("c", "k"), Some(1));
    assert_eq!(cluster.sent["push"], 2);
    assert!(!cluster.sent.contains_key("entries"));
    assert_eq!(cluster.nodes[&"a".into()].delays().count(), 2);
}

/// A value in another form is the same value: it replaces what it is made of, and gives way to one that
/// somebody has set later without knowing of it, whoever comes to write it down first.
#[test]
fn what_is_written_in_another_form_is_as_old_as_it_was() {
    let mut cluster = Cluster::of(&["a", "b"]);
    cluster.write("a", set("k", 1));
    cluster.leave_behind("b");
    cluster.write("b", set("k", 2));
    cluster.now += 50_000_000;
    let (at, node) = (cluster.at(), "a".into());
    let sync = cluster.nodes.get_mut(&node).unwrap();
    let (_, effects) = sync.rewrite("k", Value::Integer(101), at).unwrap();
    assert!(sync.rewrite("none", Value::Integer(1), at).is_none());
    cluster.carry_out(&node, effects);
    assert_eq!(cluster.read("a", "k"), Some(101));
    cluster.come_back("b");
    for node in ["a", "b"] {
        assert_eq!(cluster.read(node, "k"), Some(2), "what was set meanwhile counts");
        let entry = cluster.nodes[&node.into()].entry("k").unwrap();
        assert_eq!(entry.siblings.len(), 2, "and the other one is there to be seen");
    }
    let at = cluster.at();
    let sync = cluster.nodes.get_mut(&"a".into()).unwrap();
    assert!(sync.rewrite("k", Value::Integer(3), at).is_none(), "of several, none is the one");
}

#[test]
fn writes_within_five_milliseconds_are_pushed_together() {
    let mut cluster = Cluster::of(&["a", "b"]);
    cluster.heartbeats(1);
    cluster.write("a", set("k", 0));
    let before = cluster.sent["push"];
    for value in 0..20 {
        let at = cluster.at();
        let (_, effects) =
            cluster.nodes.get_mut(&"a".into()).unwrap().write(set("k", value), at).unwrap();
        cluster.carry_out(&"a".into(), effects);
        cluster.now += 100_000;
    }
    let wake = cluster.nodes[&"a".into()].next_wake();
    assert!(wake.as_nanos() <= cluster.now + 5_000_000);
    cluster.now = wake.as_nanos();
    let at = cluster.at();
    let effects = cluster.nodes.get_mut(&"a".into()).unwrap().on_wake(at);
    cluster.carry_out(&"a".into(), effects);
    assert_eq!(cluster.read("b", "k"), Some(19));
    assert_eq!(cluster.sent["push"] - before, 1);
}

#[test]
fn nothing_is_sent_before_what_it_follows_from_is_stored() {
    let mut cluster = Cluster::of(&["a", "b"]);
    let at = cluster.at();
    let sync = cluster.nodes.get_mut(&"a".into()).unwrap();
    let (_, effects) = sync.write(set("k", 1), at).unwrap();
    let is_sent = |effects: &[ConfigSyncEffect]| {
        effects.iter().any(|effect| matches!(effect, ConfigSyncEffect::Send { .. }))
    };
    assert!(!is_sent(&effects));
    let number = effects.iter().find_map(|effect| match effect {
        ConfigSyncEffect::Persist { number, .. } => Some(*number),
        ConfigSyncEffect::Send { .. }
        | ConfigSyncEffect::Changed { .. }
        | ConfigSyncEffect::SetAside { .. } => None,
    });
    let number = number.unwrap();
    assert!(!is_sent(&sync.on_persisted(number - 1)));
    assert!(is_sent(&sync.on_persisted(number)));
}

#[test]
fn what_was_cut_off_is_repaired_key_by_key_with_the_next_heartbeat() {
    let mut cluster = Cluster::of(&["a", "b"]);
    for number in 0..200 {
        cluster.write("a", set(&format!("k.{number}"), number));
    }
    cluster.heartbeats(2);
    cluster.leave_behind("b");
    cluster.write("a", set("k.7", -7));
    cluster.write("b", set("k.8", -8));
    cluster.write("b", unset("k.9"));
    assert!(!cluster.is_equal());
    cluster.sent.clear();
    cluster.come_back("b");
    assert!(cluster.is_equal(), "the first word after the cut is enough");
    for node in ["a", "b"] {
        assert_eq!(cluster.read(node, "k.7"), Some(-7));
        assert_eq!(cluster.read(node, "k.8"), Some(-8));
        assert_eq!(cluster.read(node, "k.9"), None);
    }
    assert!(cluster.nodes[&"b".into()].counts().joined <= 202, "only what differs is sent");
}

#[test]
fn a_removal_is_forgotten_when_all_have_it_and_not_before() {
    let mut cluster = Cluster::of(&["a", "b", "c"]);
    cluster.write("a", set("k", 1));
    cluster.heartbeats(3);
    cluster.leave_behind("c");
    cluster.write("b", unset("k"));
    cluster.heartbeats(50);
    assert!(cluster.nodes[&"a".into()].entry("k").is_some(), "c has not heard of it");
    cluster.come_back("c");
    cluster.heartbeats(5);
    for node in ["a", "b", "c"] {
        assert_eq!(cluster.nodes[&node.into()].entry("k"), None, "{node}");
    }
    assert!(cluster.is_equal());
    // What comes late from before is refused.
    cluster.write("a", set("k", 2));
    cluster.heartbeats(2);
    assert_eq!(cluster.read("c", "k"), Some(2));
}

#[test]
fn a_write_after_a_removal_that_its_writer_has_forgotten_beats_it_where_it_is_remembered() {
    let mut cluster = Cluster::of(&["a", "b"]);
    cluster.write("a", set("k", 1));
    cluster.write("b", Write { priority: 200, ..unset("k") });
    cluster.heartbeats(3);
    // Hold b's copy back at where it still has the tombstone.
    let behind = cluster.nodes[&"b".into()].clone();
    assert_eq!(cluster.nodes[&"a".into()].entry("k"), None);
    cluster.nodes.insert("b".into(), behind);
    cluster.write("a", set("k", 2));
    assert_eq!(cluster.read("b", "k"), Some(2), "whatever the removal's priority was");
}

#[test]
fn a_member_that_was_forgotten_gives_up_what_nobody_has_seen_and_takes_the_rest_over() {
    let mut cluster = Cluster::of(&["a", "b", "c"]);
    cluster.write("a", set("k", 1));
    cluster.write("a", set("kept", 1));
    cluster.heartbeats(3);
    let old = cluster.nodes[&"c".into()].replica().clone();
    cluster.leave_behind("c");
    cluster.write("c", set("k", 77));
    cluster.members(&["a".into(), "b".into()].into());
    cluster.write("b", unset("k"));
    cluster.heartbeats(5);
    assert_eq!(cluster.nodes[&"a".into()].entry("k"), None, "forgotten without c");
    cluster.come_back("c");
    cluster.heartbeats(3);
    assert!(cluster.is_equal());
    for node in ["a", "b", "c"] {
        assert_eq!(cluster.read(node, "k"), None, "{node}");
        assert_eq!(cluster.read(node, "kept"), Some(1), "{node}");
    }
    assert_eq!(cluster.set_aside, [("c".into(), "k".into())]);
    let sync = &cluster.nodes[&"c".into()];
    assert!(*sync.replica() > old && !sync.is_fresh());
    cluster.write("c", set("k", 78));
    assert_eq!(cluster.read("a", "k"), Some(78));
}

#[test]
fn a_node_made_anew_under_an_old_name_does_not_repeat_its_dots() {
    let mut cluster = Cluster::of(&["a", "b"]);
    cluster.write("a", set("k", 1));
    cluster.write("a", set("l", 1));
    cluster.disks.insert("a".into(), Vec::new());
    cluster.start("a", 2);
    let known = cluster.all();
    cluster.leave_behind("a");
    cluster.write("a", set("k", 5));
    cluster.come_back("a");
    cluster.members(&known);
    cluster.heartbeats(3);
    assert!(cluster.is_equal());
    assert_eq!(cluster.read("a", "l"), Some(1), "what it had lost came back");
    assert_eq!(
        cluster.read("b", "k"),
        Some(5),
        "the later by clock of two that knew nothing of each other"
    );
}

#[test]
fn a_disk_that_is_older_than_what_it_once_said_begins_another_replica() {
    let mut cluster = Cluster::of(&["a", "b"]);
    cluster.write("a", set("k", 1));
    let backup = cluster.disks[&"a".into()].clone();
    cluster.write("a", set("k", 2));
    cluster.disks.insert("a".into(), backup);
    cluster.leave_behind("a");
    cluster.start("a", 2);
    cluster.come_back("a");
    cluster.heartbeats(3);
    assert!(cluster.is_equal());
    assert_eq!(cluster.read("a", "k"), Some(2));
    assert_eq!(cluster.nodes[&"a".into()].replica().incarnation, Incarnation(2));
    cluster.write("a", set("k", 3));
    assert_eq!(cluster.read("b", "k"), Some(3));
}

#[test]
fn a_restart_goes_on_with_what_is_stored_and_with_its_history() {
    let mut cluster = Cluster::of(&["a"]);
    for value in 0..3 {
        cluster.write("a", set("k", value));
    }
    cluster.write("a", unset("l"));
    let before = cluster.nodes[&"a".into()].root();
    cluster.start("a", 2);
    let sync = &cluster.nodes[&"a".into()];
    assert_eq!(sync.root(), before);
    assert_eq!(sync.replica().incarnation, Incarnation(1));
    let values: Vec<Option<Value>> =
        sync.history("k").map(|version| version.value.clone()).collect();
    assert_eq!(values, [0, 1, 2].map(|value| Some(Value::Integer(value))));
    cluster.write("a", set("k", 3));
    assert_eq!(cluster.nodes[&"a".into()].seen().get(&replica("a")), 5);
    let other = ConfigSync::begin(
        config(),
        &"b".into(),
        Incarnation(1),
        cluster.disks[&"a".into()].clone(),
        cluster.at(),
    );
    assert!(matches!(other, Err(RestoreError::AnotherNode { .. })));
}

#[test]
fn what_cannot_be_meant_is_refused_where_it_is_written() {
    let cluster = Cluster::of(&["a"]);
    let sync = &cluster.nodes[&"a".into()];
    let refused = |write: Write| sync.check(&write).unwrap_err();
    assert!(matches!(refused(set("", 1)), WriteRefusal::Key { .. }));
    assert!(matches!(refused(set("a key", 1)), WriteRefusal::Key { .. }));
    assert!(matches!(refused(set(&"k".repeat(129), 1)), WriteRefusal::Key { .. }));
    let of = |value| Write { value: Some(value), ..set("k", 0) };
    assert_eq!(refused(of(Value::Float(f64::INFINITY))), WriteRefusal::Unsound);
    let bytes = VALUE_BYTES_MAX + 1;
    assert_eq!(refused(of(Value::Text("x".repeat(bytes)))), WriteRefusal::Bytes { bytes });
    assert_eq!(sync.check(&of(Value::Text("x".repeat(bytes - 1)))), Ok(()));
    let mean = Write { rule: MergeRule::Mean, ..of(Value::Text("x".into())) };
    assert!(matches!(refused(mean), WriteRefusal::Rule { .. }));
}

#[test]
fn there_is_room_for_so_many_keys_and_no_more() {
    let mut cluster = Cluster::of(&["a"]);
    let at = cluster.at();
    let sync = cluster.nodes.get_mut(&"a".into()).unwrap();
    for number in 0..KEYS_MAX {
        sync.write(set(&format!("k.{number}"), 1), at).unwrap();
    }
    assert_eq!(sync.write(set("one.more", 1), at).unwrap_err(), WriteRefusal::Full);
    assert!(sync.write(set("k.0", 2), at).is_ok());
}

#[test]
fn history_is_bounded_and_keeps_what_a_rollback_needs() {
    let mut cluster = Cluster::of(&["a"]);
    for value in 0..100 {
        cluster.write("a", set("k", value));
    }
    let large = Write { value: Some(Value::Text("x".repeat(60_000))), ..set("k", 0) };
    let sync = &cluster.nodes[&"a".into()];
    assert_eq!(sync.history("k").count(), 16);
    cluster.write("a", large.clone());
    cluster.write("a", Write { value: Some(Value::Text("y".repeat(60_000))), ..large });
    assert_eq!(cluster.nodes[&"a".into()].history("k").count(), 2);
}
