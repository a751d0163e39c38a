//! What an idle cluster costs each of its nodes: signs of life, the views that go with them, renewals
//! of sessions. Counted from the real cores under virtual time, at the default heartbeat.
//!
//! `cargo bench -p tickwright-core --bench cluster_cost`

#![allow(clippy::disallowed_macros, clippy::disallowed_types, reason = "it prints, and takes time")]

use std::collections::BTreeMap;
use std::time::Instant;

use tickwright_core::cluster::{
    Beat, BeatBody, Claim, Membership, Profile, Service, Status, Timings,
};
use tickwright_core::domain::{Incarnation, NodeAddress, NodeId, Span, Timestamp};
use tickwright_core::ledger::{Command, Keeper, KeeperEffect, Operation, SessionId};

const HEARTBEAT: Span = Span::from_millis(500);
const START: Timestamp = Timestamp::from_nanos(1_700_000_000_000_000_000);

/// Seconds that are not counted, in which all get to know each other, and those that are.
const SETTLE: u64 = 10;
const COUNTED: u64 = 30;

/// The most members that the membership keeps, and so the most that can be run.
const MEMBERS_MAX: usize = 64;

/// Of one node, in one second.
struct Cost {
    messages: f64,
    bytes: f64,
    /// Time of the cores, in microseconds; none where they cannot be run.
    micros: Option<f64>,
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
        micros: Some(nanos as f64 / 1_000.0 / per_node),
    }
}

/// What the same messages would come to among more nodes than the membership keeps.
fn reckon(count: usize) -> Cost {
    let beat = START.as_nanos() / 1_000_000;
    let beat = Beat {
        beat,
        shape: u64::MAX / 3,
        linked: (1..count).map(name).collect(),
        body: BeatBody::Compact(vec![beat; count]),
    };
    let messages = (count - 1) as f64 / HEARTBEAT.as_secs_f64();
    Cost { messages, bytes: messages * encoded(&beat), micros: None }
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
    println!("| Nodes | Messages/s | Bytes/s | Bytes a message | Time of the cores, µs/s |");
    println!("| ----- | ---------- | ------- | --------------- | ----------------------- |");
    for count in [3, 10, 20, MEMBERS_MAX, 100, 1_000] {
        let Cost { messages, bytes, micros } =
            if count <= MEMBERS_MAX { run(count) } else { reckon(count) };
        let time = micros.map_or("(reckoned)".to_owned(), |micros| format!("{micros:.0}"));
        let each = bytes / messages;
        println!("| {count:>5} | {messages:>10.0} | {bytes:>7.0} | {each:>15.0} | {time:>23} |");
    }
    let (count, bytes) = renewals();
    println!("\nrenewals of a session: {count:.1} a second of {:.0} bytes", bytes / count);
}
