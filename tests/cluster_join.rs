//! Nodes join, fail, come back and leave, as processes on loopback.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod processes;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use processes::{
    Node, PATIENCE, alone, authority, certified, cluster, free_port, run, text, tools_at, until,
};
use tickwright::ctl::CtlTask;

fn ask(role: &str, body: &str) -> CtlTask {
    CtlTask::Ask { role: role.into(), body: body.into() }
}

#[test]
fn three_nodes_join_at_once_and_each_answers_for_every_other() {
    let nodes = cluster(&["a", "b", "c"]);
    for node in &nodes {
        for other in ["a", "b", "c"] {
            let role = format!("node/{other}");
            let answer = node.ask(&ask(&role, "\"Status\""), None).unwrap();
            assert_eq!(answer["node"], other);
            assert_eq!(node.ask(&CtlTask::Status, Some(other)).unwrap()["node"], other);
        }
    }
    let founders = nodes.iter().filter(|node| node.log().contains("founded")).count();
    assert_eq!(founders, 1);
    until("all are linked", || {
        nodes.iter().all(|node| {
            node.status().is_ok_and(|status| status["linked"].as_array().unwrap().len() == 2)
        })
    });
    // What is not understood is refused with the reason, wherever it is.
    let refused = nodes[0].ask(&ask("node/c", "\"Nonsense\""), None).unwrap_err().to_string();
    assert!(refused.contains("ask \"Status\""), "{refused}");
    let nobody = nodes[0].ask(&ask("risk/9", "1"), None).unwrap_err().to_string();
    assert!(nobody.contains("nobody serves `risk/9`"), "{nobody}");
    let tell = CtlTask::Tell { role: "node/b".into(), body: "\"Status\"".into() };
    assert_eq!(nodes[2].ask(&tell, None).unwrap()["told"], true);
    assert_eq!(nodes[1].status().unwrap()["network"]["stale_passes"], 0);
}

#[test]
fn the_command_line_asks_any_node_and_helps_when_none_answers() {
    let nodes = cluster(&["a", "b"]);
    let url = format!("http://127.0.0.1:{}", nodes[0].http);
    let (code, members) = text(&run(&["ctl", "--node", &url, "members"]));
    assert_eq!(code, 0, "{members}");
    assert!(members.starts_with("id  status  address"), "{members}");
    let (code, answer) =
        text(&run(&["ctl", "--node", &url, "ask", "node/b", "\"Status\"", "--json"]));
    assert_eq!(code, 0, "{answer}");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&answer).unwrap()["node"], "b");
    let nowhere = format!("http://127.0.0.1:{}", free_port());
    let (code, help) = text(&run(&["ctl", "--node", &nowhere, "status"]));
    assert_eq!(code, 2);
    assert!(help.contains("no node answers at") && help.contains("`tickwright node` starts one"));
}

#[test]
fn a_dead_first_seed_does_not_keep_a_node_out() {
    let dead = format!("127.0.0.1:{}", free_port());
    let mut first = Node::new("a");
    let seed = first.address();
    first = first.seeds(&[&seed]);
    first.start().is_member();
    let mut second = Node::new("b").seeds(&[&dead, &seed]);
    second.start().is_member();
    assert!(second.log().contains("b joined cluster tickwright through a"), "{}", second.log());
}

#[test]
fn a_node_that_is_no_first_seed_waits_and_says_for_what() {
    let dead = format!("127.0.0.1:{}", free_port());
    let mut node = Node::new("b").seeds(&[&dead]);
    node.start();
    until("it says that it waits", || node.log().contains("looking for a member"));
    node.assert_runs();
    assert_eq!(node.status().unwrap()["is_member"], false);
    assert!(node.log().contains(&dead) && !node.log().contains("founded"), "{}", node.log());
}

#[test]
fn a_name_that_is_in_use_is_refused_with_the_reason() {
    let nodes = cluster(&["a", "b"]);
    for (name, seed) in [("b", &nodes[0]), ("a", &nodes[0]), ("b", &nodes[1])] {
        let mut twin = Node::new(name).seeds(&[&seed.address()]);
        twin.start();
        assert_eq!(twin.wait_end().code(), Some(2));
        let expected = format!("the name {name} belongs to a node that is running");
        assert!(twin.log().contains(&expected), "{}", twin.log());
    }
    nodes[0].comes_to_see("b", "up");
    nodes[1].comes_to_see("a", "up");
}

#[test]
fn nodes_that_cannot_work_together_are_told_why() {
    let nodes = cluster(&["a"]);
    let seed = nodes[0].address();
    for (key, value, expected) in [
        ("cluster.name", "other", "belongs to cluster tickwright"),
        ("pipeline.window_ms", "120000", "a configuration that gives other answers"),
    ] {
        let mut node = Node::new("b").seeds(&[&seed]).set(key, value);
        node.start();
        assert_eq!(node.wait_end().code(), Some(2));
        assert!(node.log().contains(expected), "{}", node.log());
    }
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "a secret of more than sixteen bytes").unwrap();
    let mut node = Node::new("b").seeds(&[&seed]);
    node = node.set("cluster.cookie_file", secret.path().to_str().unwrap());
    node.start();
    assert_eq!(node.wait_end().code(), Some(2));
    assert!(node.log().contains("the secrets differ"), "{}", node.log());
    // Settings that change no answer may differ.
    Node::new("b").seeds(&[&seed]).set("pipeline.batch_ticks", "16").start().is_member();
}

#[test]
fn two_nodes_may_not_share_a_data_directory() {
    let mut nodes = cluster(&["a"]);
    let mut twin = nodes[0].command();
    let (code, told) = text(&twin.output().unwrap());
    assert_eq!(code, 2);
    assert!(told.contains("is in use by another running node"), "{told}");
    nodes[0].assert_runs();
}

#[test]
fn a_restarted_first_seed_never_founds_a_second_cluster() {
    let mut nodes = cluster(&["a", "b"]);
    nodes[0].kill();
    nodes[1].signal("-STOP");
    nodes[0].start();
    // Rounds without an answer, as in a partition; a fresh first seed would have founded after one.
    until("it looks for others", || nodes[0].log().matches("looking for a member").count() >= 2);
    assert_eq!(nodes[0].status().unwrap()["is_member"], false);
    assert!(!nodes[0].log().contains("founded"), "{}", nodes[0].log());
    nodes[1].signal("-CONT");
    nodes[0].is_member();
    assert!(nodes[0].log().contains("joined cluster tickwright through b"));
}

#[test]
fn a_cluster_that_was_killed_as_a_whole_comes_back() {
    let mut nodes = cluster(&["a", "b", "c"]);
    for node in &nodes {
        // What a node has seen is written a moment later.
        let path = node.directory.path().join("data/cluster/known.json");
        until("it will remember both others", || {
            let known = std::fs::read(&path).unwrap_or_default();
            let known: serde_json::Value = serde_json::from_slice(&known).unwrap_or_default();
            known["members"].as_object().is_some_and(|members| {
                members.keys().filter(|name| **name != node.name).count() == 2
            })
        });
    }
    for node in &mut nodes {
        node.kill();
    }
    // Two of three are enough, without the first seed.
    for node in &mut nodes[1..] {
        node.start();
    }
    for node in &mut nodes[1..] {
        node.is_member();
    }
    let founders = nodes[1..].iter().filter(|node| node.log().contains("founded")).count();
    assert_eq!(founders, 1);
    nodes[0].start().is_member();
    assert!(nodes[0].log().contains("joined"), "{}", nodes[0].log());
}

#[test]
fn a_killed_node_rejoins_on_the_same_port_within_seconds() {
    let mut nodes = cluster(&["a", "b", "c"]);
    for round in 0..3 {
        nodes[1].kill();
        if round == 2 {
            // With its disk: it does not know which life it was in.
            std::fs::remove_dir_all(nodes[1].directory.path().join("data")).unwrap();
        }
        let since = Instant::now();
        nodes[1].start().is_member();
        for observer in [0, 2] {
            nodes[observer].comes_to_see("b", "up");
        }
        until("a asks b", || {
            let answer = nodes[0].ask(&ask("node/b", "\"Status\""), None);
            answer.is_ok_and(|answer| answer["is_member"] == true)
        });
        assert!(since.elapsed() < Duration::from_secs(6), "{:?}", since.elapsed());
    }
}

#[test]
fn a_killed_node_is_suspect_at_once_and_down_soon() {
    let mut nodes = cluster(&["a", "b", "c"]);
    let since = Instant::now();
    nodes[1].kill();
    for observer in [0, 2] {
        nodes[observer].comes_to_see("b", "down");
    }
    // 200 ms between heartbeats: the connection ends at once, and two heartbeats later it is down.
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
}

#[test]
fn a_stopped_node_is_suspect_then_down_and_back_when_it_goes_on() {
    let nodes = cluster(&["a", "b", "c"]);
    let before = nodes[0].ask(&CtlTask::Members, None).unwrap();
    nodes[1].signal("-STOP");
    nodes[0].comes_to_see("b", "suspect");
    for observer in [0, 2] {
        nodes[observer].comes_to_see("b", "down");
    }
    // Questions to it fail within their time, and say so.
    let refused = nodes[0].ask(&CtlTask::Status, Some("b")).unwrap_err().to_string();
    assert!(refused.contains("no link to node b"), "{refused}");
    nodes[1].signal("-CONT");
    let since = Instant::now();
    for observer in [0, 2] {
        nodes[observer].comes_to_see("b", "up");
        nodes[1].comes_to_see(&nodes[observer].name, "up");
        let observer = &nodes[observer];
        until("it answers again", || observer.ask(&CtlTask::Status, Some("b")).is_ok());
    }
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    let after = nodes[0].ask(&CtlTask::Members, None).unwrap();
    assert_eq!(before[1]["incarnation"], after[1]["incarnation"], "it is the same life");
}

#[test]
fn a_node_that_is_interrupted_leaves_in_order() {
    let mut nodes = cluster(&["a", "b", "c"]);
    nodes[1].signal("-INT");
    assert_eq!(nodes[1].wait_end().code(), Some(0));
    // It ends only when the others know.
    for observer in [0, 2] {
        assert_eq!(nodes[observer].sees("b"), "left");
    }
    // The first seed may leave, too, and comes back as a member like any other.
    nodes[0].signal("-INT");
    assert_eq!(nodes[0].wait_end().code(), Some(0));
    nodes[0].start().is_member();
    assert!(nodes[0].log().contains("joined cluster tickwright through c"), "{}", nodes[0].log());
    nodes[2].comes_to_see("a", "up");
}

/// Clients that only connect, and one that says what nobody understands: nodes join the one that they all reach.
fn join_in_spite_of_clients(prepare: impl Fn(Node) -> Node) {
    // Twice as many open connections are more than a process may have.
    let _turn = alone();
    let mut first = prepare(Node::new("a"));
    let seed = first.address();
    first = first.seeds(&[&seed]);
    first.start().is_member();
    let silent: Vec<TcpStream> = (0..500).map(|_| TcpStream::connect(&seed).unwrap()).collect();
    let is_over = Arc::new(AtomicBool::new(false));
    let garbage = {
        let (seed, is_over) = (seed.clone(), Arc::clone(&is_over));
        thread::spawn(move || {
            while !is_over.load(Ordering::SeqCst) {
                let mut garbage = TcpStream::connect(&seed).unwrap();
                garbage.set_write_timeout(Some(PATIENCE)).unwrap();
                // It is cut off as soon as it is seen to be none of ours; writing on may fail then.
                let _ = garbage.write_all(&[0xa5; 1 << 16]);
                thread::sleep(Duration::from_millis(20));
            }
        })
    };
    let mut others = ["b", "c"].map(|name| prepare(Node::new(name)).seeds(&[&seed]));
    let since = Instant::now();
    for node in &mut others {
        node.start();
    }
    for node in &mut others {
        node.is_member();
    }
    let joined = since.elapsed();
    is_over.store(true, Ordering::SeqCst);
    garbage.join().unwrap();
    println!("two joined after {joined:?}");
    assert!(joined < Duration::from_secs(2), "{joined:?}");
    let status = first.status().unwrap();
    let count = |name: &str| status["network"][name].as_u64().unwrap();
    // All but what is let in without having proved itself.
    assert!(count("connections_dropped") >= 500 - 128, "{status}");
    assert!(count("introductions_failed") >= 1, "{status}");
    drop(silent);
}

#[test]
fn hundreds_of_silent_clients_and_garbage_keep_no_node_out() {
    join_in_spite_of_clients(|node| node);
}

#[test]
fn nor_do_they_where_nodes_have_certificates() {
    let certs = tempfile::tempdir().unwrap();
    authority(certs.path(), &["a", "b", "c"]);
    join_in_spite_of_clients(|mut node| {
        node.options.extend(certified(certs.path(), &node.name));
        let url = format!("https://127.0.0.1:{}", node.http);
        node.tools = Some(tools_at(url, certs.path()));
        node
    });
}

#[test]
fn a_client_that_says_who_it_is_only_by_halves_is_dropped_at_its_deadline() {
    let mut first = Node::new("a").set("cluster.handshake_timeout_ms", "300");
    first.start().is_member();
    let mut half = TcpStream::connect(first.address()).unwrap();
    half.write_all(b"TWRK\x01").unwrap();
    half.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut rest = Vec::new();
    // An end, or a reset: either way it does not last.
    let _ = half.read_to_end(&mut rest);
    assert!(rest.is_empty());
}

#[test]
fn certificates_let_in_who_has_them_and_nobody_else() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    authority(ours.path(), &["a", "b", "c"]);
    authority(theirs.path(), &["b"]);
    let mut first = Node::new("a");
    let seed = first.address();
    first = first.seeds(&[&seed]);
    first.options.extend(certified(ours.path(), "a"));
    first.start();
    let tools = format!("https://127.0.0.1:{}", first.http);
    let ctl = |identity: &[String], arguments: &[&str]| {
        let mut command = Command::new(processes::PROGRAM);
        command.args(["ctl", "--node", &tools]).args(identity).args(arguments);
        text(&command.output().unwrap())
    };
    let tool = certified(ours.path(), "ctl");
    until("the first node is there", || ctl(&tool, &["status"]).1.contains("is_member    true"));

    let mut second = Node::new("b").seeds(&[&seed]);
    second.options.extend(certified(ours.path(), "b"));
    second.start();
    until("the second joins", || second.log().contains("b joined cluster"));
    let (_, members) = ctl(&tool, &["members"]);
    assert!(members.contains("\nb   up"), "{members}");

    // Another authority.
    let mut stranger = Node::new("b").seeds(&[&seed]);
    stranger.options.extend(certified(theirs.path(), "b"));
    stranger.start();
    assert_eq!(stranger.wait_end().code(), Some(2));
    assert!(stranger.log().contains("certificates:"), "{}", stranger.log());
    let (code, told) = ctl(&certified(theirs.path(), "ctl"), &["status"]);
    assert_eq!(code, 2, "{told}");
    // A tool is no node, and a node's certificate is for its own name only.
    let mut imposter = Node::new("c").seeds(&[&seed]);
    imposter.options.extend(certified(ours.path(), "ctl"));
    imposter.start();
    assert_eq!(imposter.wait_end().code(), Some(2));
    assert!(imposter.log().contains("is for a tool, and this node is called c"));
    // No certificate at all.
    let mut bare = Node::new("c").seeds(&[&seed]);
    bare.start();
    until("it is told", || bare.log().contains("does only one of the two use certificates?"));
    assert_eq!(ctl(&[], &["status"]).0, 2);
}

#[test]
fn an_authority_is_replaced_while_nodes_run() {
    let certs = tempfile::tempdir().unwrap();
    authority(certs.path(), &["a", "b"]);
    let mut first = Node::new("a");
    let seed = first.address();
    first = first.seeds(&[&seed]);
    first.options.extend(certified(certs.path(), "a"));
    first.start();
    let mut second = Node::new("b").seeds(&[&seed]);
    second.options.extend(certified(certs.path(), "b"));
    second.start();
    until("they join", || second.log().contains("b joined cluster"));
    let directory = certs.path().to_str().unwrap();
    let step = |arguments: &[&str]| {
        let (code, told) = text(&run(&[&["certs", "--dir", directory], arguments].concat()));
        assert_eq!(code, 0, "{told}");
    };
    step(&["rotate"]);
    // One node has a certificate of the new authority, the other one of the old.
    step(&["node", "b"]);
    second.kill();
    second.start();
    until("it joins with the new one", || second.log().contains("b joined cluster"));
    step(&["node", "a"]);
    step(&["retire"]);
    second.kill();
    second.start();
    until("both are of the new authority", || second.log().contains("b joined cluster"));
    first.assert_runs();
}

#[test]
fn a_private_key_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let certs = tempfile::tempdir().unwrap();
    authority(certs.path(), &["a"]);
    let key = certs.path().join("a.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let mut node = Node::new("a");
    node.options.extend(certified(certs.path(), "a"));
    node.start();
    assert_eq!(node.wait_end().code(), Some(2));
    assert!(node.log().contains("can be read by others (mode 644)"), "{}", node.log());
}
