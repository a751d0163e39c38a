//! What an idle cluster costs each of its nodes: signs of life, the views that go with them, renewals
//! of sessions. Counted from the real cores under virtual time, at the default heartbeat: up to 64 nodes, which
//! is what a cluster may have, all of them; beyond that one, whose peers send it what it would send in their place.
//!
//! `cargo bench -p tickwright-core --bench cluster_cost`

#![allow(clippy::disallowed_macros, clippy::disallowed_types, reason = "it prints, and takes time")]

use std::collections::BTreeMap;
use std::time::Instant;

use tickwright_core::cluster::{
    Beat, BeatBody, Claim, Membership, Profile, Record, Service, Status, Timings,
};
use tickwright_core::domain::{Incarnation, NodeAddress, NodeId, Span, Timestamp};
use tickwright_core::ledger::{Command, Keeper, KeeperEffect, Operation, SessionId};

const HEARTBEAT: Span = Span::from_millis(500);
const START: Timestamp = Timestamp::from_nanos(1_700_000_000_000_000_000);

/// Seconds that are not counted, in which all get to know each other, and those that are.
const SETTLE: u64 = 10;
const COUNTED: u64 = 30;

/// The most members that a node keeps by itself, and so the most that are all run.
const MEMBERS_MAX: usize = 64;

/// Seconds that are counted of one node among more.
const COUNTED_OF_ONE: u64 = 5;

/// Of one node, in one second.
struct Cost {
    messages: f64,
    bytes: f64,
    /// Time of the cores, in microseconds.
    micros: f64,
}

fn name(node: usize) -> NodeId {
    NodeId(format!("node-{node:04}"))
}

fn encoded(value: &impl serde::Serialize) -> f64 {
    let bytes = bincode::serde::encode_to_vec(value, bincode::config::standard());
    bytes.expect("it is written to memory").len() as f64
}

fn profile(node: usize) -> Profile {
    let services =
        ["cluster/admin", "ledger", "run"].map(|role| Service { role: role.into(), epoch: 0 });
    Profile {
        id: name(node),
        incarnation: Incarnation(START.as_nanos()),
        address: NodeAddress(format!("10.0.{}.{}:4370", node / 256, node % 256)),
        http: format!("10.0.{}.{}:4380", node / 256, node % 256),
        duties: vec!["calc".into()],
        services: services.into(),
        version: 1,
    }
}

/// Runs `count` nodes, all linked with all.
fn run(count: usize) -> Cost {
    let timings = Timings::from_heartbeat(HEARTBEAT);
    let mut nodes: Vec<Membership> =
        (0..count).map(|node| Membership::new(profile(node), timings, START)).collect();
    for node in &mut nodes {
        node.on_own_claim(Claim::Up, START);
    }
    let linked: Vec<Vec<NodeId>> =
        (0..count).map(|own| (0..count).filter(|&node| node != own).map(name).collect()).collect();
    let index: BTreeMap<NodeId, usize> = (0..count).map(|node| (name(node), node)).collect();
    let (mut messages, mut bytes, mut nanos) = (0.0, 0.0, 0);
    let looks = 5 * (SETTLE + COUNTED) * 2;
    for look in 0..looks {
        let is_counted = look >= 5 * SETTLE * 2;
        let now = START.after(timings.judge * u32::try_from(look).expect("it is small"));
        for own in 0..count {
            let began = Instant::now();
            nodes[own].on_look(now);
            // Nodes do not beat together.
            let is_due = (usize::try_from(look).expect("it is small") + own) % 5 == 0;
            let beats = if is_due { nodes[own].on_beat_due(&linked[own], now) } else { Vec::new() };
            let mut spent = began.elapsed().as_nanos();
            for (peer, beat) in beats {
                if is_counted {
                    messages += 1.0;
                    bytes += encoded(&beat);
                }
                let began = Instant::now();
                nodes[index[&peer]].on_beat(&name(own), beat, now);
                spent += began.elapsed().as_nanos();
            }
            if is_counted {
                nanos += spent;
            }
        }
    }
    for node in &nodes {
        assert!(node.members(START).iter().all(|member| member.status == Status::Up));
    }
    let per_node = count as f64 * COUNTED as f64;
    Cost {
        messages: messages / per_node,
        bytes: bytes / per_node,
        micros: nanos as f64 / 1_000.0 / per_node,
    }
}

/// Runs one node among `count`, linked with all of them.
fn run_one(count: usize) -> Cost {
    let timings = Timings::from_heartbeat(HEARTBEAT);
    let mut node = Membership::new(profile(0), timings, START).with_room_for(count);
    node.on_own_claim(Claim::Up, START);
    let names: Vec<NodeId> = (0..count).map(name).collect();
    let linked = &names[1..];
    let beat_of = |look: u64| START.as_nanos() / 1_000_000 + look;
    let records = |beat| {
        let record =
            |peer| Record { profile: profile(peer), claim: Claim::Up, beat, verdict: Status::Up };
        (1..count).map(record).collect()
    };
    let (mut messages, mut bytes, mut nanos) = (0.0, 0.0, 0);
    // In the first two seconds all are told of all; that is not counted.
    let settle = 2 * 5 * 2;
    for look in 0..settle + COUNTED_OF_ONE * 5 * 2 {
        let (is_counted, beat) = (look >= settle, beat_of(look));
        let now = START.after(timings.judge * u32::try_from(look).expect("it is small"));
        let began = Instant::now();
        node.on_look(now);
        let own = if look % 5 == 0 { node.on_beat_due(linked, now) } else { Vec::new() };
        let mut spent = began.elapsed().as_nanos();
        for (_, beat) in own {
            if is_counted {
                messages += 1.0;
                bytes += encoded(&beat);
            }
        }
        for peer in 1..count {
            if (usize::try_from(look).expect("it is small") + peer) % 5 != 0 {
                continue;
            }
            let others = names.iter().enumerate().filter(|(other, _)| *other != peer);
            let linked = others.map(|(_, name)| name.clone()).collect();
            let body = if look == 0 {
                BeatBody::Full(records(beat))
            } else {
                BeatBody::Compact(vec![beat; count])
            };
            let sent = Beat { beat, shape: node.shape(), linked, body };
            let began = Instant::now();
            node.on_beat(&names[peer], sent, now);
            spent += began.elapsed().as_nanos();
        }
        if is_counted {
            nanos += spent;
        }
    }
    let members = node.members(START);
    assert_eq!(members.len(), count);
    assert!(members.iter().all(|member| member.status == Status::Up));
    let seconds = COUNTED_OF_ONE as f64;
    Cost {
        messages: messages / seconds,
        bytes: bytes / seconds,
        micros: nanos as f64 / 1_000.0 / seconds,
    }
}

/// Renewals that one node sends in a second, and their bytes.
fn renewals() -> (f64, f64) {
    let mut keeper = Keeper::new(Timings::from_heartbeat(HEARTBEAT).session_ttl, START);
    let session = SessionId(1);
    let (mut count, mut bytes) = (0.0, 0.0);
    for look in 0..COUNTED * 100 {
        let now = START.after(Span::from_millis(look * 10));
        for effect in keeper.on_wake(now) {
            if let KeeperEffect::Renew(session) = effect {
                count += 1.0;
                let operation = Operation::RenewSession { session };
                bytes += encoded(&Command { id: None, operation });
            }
            keeper.on_confirmed(session, now);
        }
    }
    (count / COUNTED as f64, bytes / COUNTED as f64)
}

fn main() {
    println!("| Nodes     | Messages/s | Bytes/s    | Bytes a message | Time of the cores, µs/s |");
    println!("| --------- | ---------- | ---------- | --------------- | ----------------------- |");
    let line = |what: &str, cost: Cost| {
        let Cost { messages, bytes, micros } = cost;
        let each = bytes / messages;
        println!(
            "| {what:>9} | {messages:>10.0} | {bytes:>10.0} | {each:>15.0} | {micros:>23.0} |"
        );
    };
    for count in [3, 10, 20, MEMBERS_MAX] {
        line(&count.to_string(), run(count));
    }
    for count in [MEMBERS_MAX, 100, 300, 1_000] {
        line(&format!("1 of {count}"), run_one(count));
    }
    let (count, bytes) = renewals();
    println!("\nrenewals of a session: {count:.1} a second of {:.0} bytes", bytes / count);
}
