//! Secrets of the shared configuration, by real processes: nowhere in the clear, sealed anew with another key, and of use
//! to a broker and to locks.

#![allow(dead_code, reason = "helpers for several test files")]
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;
#[path = "exchanges/desk.rs"]
mod desk;
mod exchanges;
#[path = "exchanges/market.rs"]
mod market;
mod processes;
mod redis_server;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use exchanges::{KEY, SECRET};
use market::Market;
use processes::{Node, PROGRAM, alone, report_within, run, text, until};
use redis_server::{RedisServer, is_there};
use serde_json::{Value, json};
use tickwright::ctl::CtlTask;

/// What must not be seen anywhere.
const PLAIN: &str = "plain-as-day-7f3a";
const LATER: &str = "plain-as-night-91c0";

/// What `secrets-key` says, which is to end well.
fn keys(task: &str, file: &Path, more: &[&str]) -> String {
    let arguments = [&["secrets-key", task, file.to_str().unwrap()], more].concat();
    let (code, told) = text(&run(&arguments));
    assert_eq!(code, 0, "{told}");
    told
}

/// The names of the keys in `file`.
fn ids(file: &Path) -> Vec<String> {
    let told = keys("list", file, &[]);
    told.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

/// `ctl config ...` at `node` with the keys of `file`, and `input`: how it ended, and what it said.
fn ctl(node: &Node, file: &Path, arguments: &[&str], input: &str) -> (i32, String) {
    let mut child = Command::new(PROGRAM)
        .args(["ctl", "--node", &format!("http://127.0.0.1:{}", node.http), "config"])
        .args(arguments)
        .args(["--set", &format!("config.secrets_key_file={}", file.display())])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end without reading.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    text(&child.wait_with_output().unwrap())
}

fn set(node: &Node, file: &Path, key: &str, secret: &str) -> (i32, String) {
    ctl(node, file, &["set", key, "--value-file", "-"], &format!("{secret}\n"))
}

fn revealed(node: &Node, file: &Path, key: &str) -> (i32, String) {
    ctl(node, file, &["get", key, "--reveal"], "")
}

/// The whole answer of a node's door.
fn http(node: &Node, method: &str, path: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", node.http)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
    write!(
        stream,
        "{head}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// That no file of `node`, log or journal, holds `secret`.
fn assert_not_on_disk(node: &Node, secret: &str) {
    let all = files(node.directory.path());
    assert!(all.len() > 2, "{all:?}");
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    for path in all {
        let bytes = fs::read(&path).unwrap_or_default();
        for form in [secret, hex.as_str()] {
            let is_there = bytes.windows(form.len()).any(|part| part == form.as_bytes());
            assert!(!is_there, "{} holds the secret", path.display());
        }
    }
}

/// Answers of `node` that may have to do with secret.exchange.
fn answers(node: &Node) -> String {
    let place = json!({ "key": "secret.exchange" });
    let calls = [
        json!("Status"),
        json!({ "Get": { "key": "secret.exchange" } }),
        json!({ "List": {} }),
        json!({ "History": { "place": place } }),
        json!("Diff"),
        json!("Conflicts"),
        json!("Vectors"),
        json!({ "Audit": { "count": 100 } }),
        json!({ "Watch": { "since": 0 } }),
        json!("Secrets"),
    ];
    let calls = calls.iter().map(|call| http(node, "POST", "/config", &call.to_string()));
    let pages = ["/secrets", "/metrics", "/status", "/tree", "/roles"];
    let pages = pages.iter().map(|path| http(node, "GET", path, ""));
    let all: String = calls.chain(pages).collect();
    assert_eq!(all.matches("HTTP/1.1 200").count(), 15, "{all}");
    all
}

fn copy_private(from: &Path, to: &Path) {
    fs::write(to, fs::read(from).unwrap()).unwrap();
    fs::set_permissions(to, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn a_secret_is_nowhere_in_the_clear_and_is_sealed_anew_with_another_key() {
    let _turn = alone();
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (file, wrong) = (path("keys"), path("wrong"));
    keys("new", &file, &[]);
    keys("new", &wrong, &[]);
    let old = ids(&file).remove(0);
    let mut nodes: Vec<Node> = ["a", "b", "c"].iter().map(|name| Node::new(name)).collect();
    let seed = nodes[0].address();
    for (node, file) in nodes.iter_mut().zip([&file, &file, &wrong]) {
        for (key, value) in
            [("cluster.seeds", &seed), ("config.secrets_key_file", &file.display().to_string())]
        {
            node.options.extend(["--set".to_owned(), format!("{key}={value}")]);
        }
        node.start();
    }
    for node in &mut nodes {
        node.is_member();
    }

    // In the clear it is taken by nobody, and not shown by whoever refuses it.
    let (code, told) = ctl(&nodes[0], &file, &["set", "secret.exchange", PLAIN], "");
    assert!(code == 2 && told.contains("--value-file") && !told.contains(PLAIN), "{told}");
    let call =
        json!({ "Set": { "place": { "key": "secret.exchange" }, "value": PLAIN, "author": "x" } });
    let told = http(&nodes[0], "POST", "/config", &call.to_string());
    assert!(told.contains("not sealed") && !told.contains(PLAIN), "{told}");

    let (code, told) = set(&nodes[0], &file, "secret.exchange", PLAIN);
    assert!(
        code == 0 && told.contains("is set, sealed, for all") && !told.contains(PLAIN),
        "{told}"
    );
    until("all have it", || {
        let listed = |node: &Node| ctl(node, &file, &["get", "secret.exchange"], "").1;
        nodes.iter().all(|node| listed(node).contains(&format!("sealed with key {old}")))
    });
    // Whoever has the key opens it, at whatever node; nobody else does, and is told which key it lacks.
    assert_eq!(revealed(&nodes[2], &file, "secret.exchange"), (0, format!("{PLAIN}\n")));
    let (code, told) = revealed(&nodes[0], &wrong, "secret.exchange");
    assert!(code == 2 && told.contains(&old) && told.contains("add that key"), "{told}");
    let (code, told) = set(&nodes[0], &wrong, "secret.exchange", "x");
    assert!(
        code == 2 && told.contains(&ids(&wrong)[0]),
        "a node refuses what it cannot open: {told}"
    );
    let (_, told) = ctl(&nodes[1], &file, &["secrets"], "");
    let row = told.lines().find(|line| line.starts_with("secret.exchange")).unwrap();
    assert!(row.ends_with(" c"), "only c cannot open it: {told}");
    let moved = http(&nodes[0], "POST", "/config", "{\"Get\":{\"key\":\"secret.exchange\"}}");
    let body: Value = serde_json::from_str(moved.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    let call = json!({ "Set": { "place": { "key": "secret.other" }, "value": body["value"], "author": "x" } });
    let told = http(&nodes[0], "POST", "/config", &call.to_string());
    assert!(told.contains("does not open") && told.contains("secret.other"), "{told}");

    // Its past, and what is brought back of it.
    assert_eq!(set(&nodes[1], &file, "secret.exchange", LATER).0, 0);
    assert_eq!(revealed(&nodes[1], &file, "secret.exchange").1, format!("{LATER}\n"));
    let (code, told) = ctl(&nodes[1], &file, &["rollback", "secret.exchange"], "");
    assert_eq!(code, 0, "{told}");
    assert_eq!(revealed(&nodes[1], &file, "secret.exchange").1, format!("{PLAIN}\n"));
    let backup = path("backup.toml");
    let backup = backup.to_str().unwrap();
    assert_eq!(ctl(&nodes[1], &file, &["backup", backup], "").0, 0);
    let saved = fs::read_to_string(backup).unwrap();
    assert!(saved.contains(&old) && !saved.contains(PLAIN), "{saved}");
    assert_eq!(ctl(&nodes[1], &file, &["unset", "secret.exchange"], "").0, 0);
    assert_eq!(revealed(&nodes[1], &file, "secret.exchange").0, 2);
    assert_eq!(ctl(&nodes[1], &file, &["restore", backup], "").0, 0);
    assert_eq!(revealed(&nodes[1], &file, "secret.exchange").1, format!("{PLAIN}\n"));

    // Another key: not before every node has it.
    keys("add", &file, &[]);
    let new = ids(&file).remove(0);
    let (code, told) = ctl(&nodes[0], &file, &["rotate-secrets"], "");
    assert!(code == 2 && told.contains(&format!("key {new}: c;")), "{told}");
    let other = path("other");
    keys("new", &other, &[]);
    // Sealed by a key that only c has, for a while.
    copy_private(&other, &wrong);
    assert_eq!(set(&nodes[2], &wrong, "secret.odd", "odd").0, 0);
    copy_private(&file, &wrong);
    until("a has it", || ctl(&nodes[0], &file, &["get", "secret.odd"], "").1.contains("sealed"));
    let (code, told) = ctl(&nodes[0], &file, &["rotate-secrets"], "");
    assert!(code == 0 && told.contains(&format!("1 sealed anew with key {new}")), "{told}");
    assert!(
        told.contains("LEFT") && told.contains("secret.odd") && told.contains(&ids(&other)[0]),
        "{told}"
    );
    let (_, told) = ctl(&nodes[0], &file, &["rotate-secrets"], "");
    assert!(told.contains("0 sealed anew") && told.contains("1 were already"), "{told}");
    until("all have it as it is sealed now", || {
        let got = |node: &Node| ctl(node, &file, &["get", "secret.exchange"], "").1;
        nodes.iter().all(|node| got(node).contains(&new))
    });
    keys("remove", &file, &[&old]);
    assert_eq!(ids(&file), std::slice::from_ref(&new));
    for node in &nodes {
        assert_eq!(revealed(node, &file, "secret.exchange").1, format!("{PLAIN}\n"));
    }
    let (code, told) = ctl(&nodes[0], &file, &["rollback", "secret.exchange"], "");
    assert!(code == 2 && told.contains(&old), "what only the old key opens: {told}");
    let (_, told) = ctl(&nodes[0], &file, &["audit"], "");
    assert!(
        told.contains(&format!("sealed with key {new}")) && told.contains("chain is whole"),
        "{told}"
    );

    for node in &nodes {
        let answers = answers(node);
        for secret in [PLAIN, LATER] {
            assert!(!answers.contains(secret), "{answers}");
            assert_not_on_disk(node, secret);
        }
    }
}

const NAMES: [(&str, &str); 3] =
    [("data-1", "data,control"), ("calc-1", "calc,control"), ("exec-1", "exec,control")];

fn with(pairs: &[(&str, &str)]) -> Vec<String> {
    pairs.iter().flat_map(|(key, value)| ["--set".to_owned(), format!("{key}={value}")]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_trades_with_keys_that_are_a_secret_of_all_nodes() {
    let market = Market::open(3, 1_500, ("9999.99", "10000.01"), "").await;
    // There is no file to fall back on.
    fs::remove_file(market.scratch.path("keys")).unwrap();
    let file = market.scratch.path("secrets");
    keys("new", &file, &[]);
    let name = file.display().to_string();
    let options =
        with(&[("broker.primary.keys_file", "secret:desk"), ("config.secrets_key_file", &name)]);
    let nodes = desk::nodes(&market, &NAMES, |_| options.clone());
    until("all wait for it, and say how it is set", || {
        let asks = "broker.primary.keys_file names: `tickwright ctl config set secret.desk --value-file FILE`";
        nodes.iter().all(|node| node.log().contains(asks))
    });
    assert!(market.events().iter().all(|event| event["event"] != "order"));
    let (code, told) = set(&nodes[1], &file, "secret.desk", &format!("{KEY}:{SECRET}"));
    assert_eq!(code, 0, "{told}");
    let report = report_within(Duration::from_secs(90), &nodes);
    market.judge(&report);
    for node in &nodes {
        assert_not_on_disk(node, SECRET);
    }
}

#[test]
fn a_node_ends_when_what_it_needs_is_not_set_and_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("keys");
    keys("new", &file, &[]);
    let name = file.display().to_string();
    let mut node = Node::new("alone");
    node.options = with(&[
        ("locks.backend", "redis"),
        ("locks.redis_password_file", "secret:redis"),
        ("config.secrets_key_file", &name),
        ("config.secrets_wait_ms", "300"),
    ]);
    node.start();
    assert_eq!(node.wait_end().code(), Some(2), "{}", node.log());
    let log = node.log();
    assert!(
        log.contains("secret.redis is not set") && log.contains("config.secrets_wait_ms"),
        "{log}"
    );
}

#[test]
fn locks_have_the_password_of_redis_from_a_secret() {
    if !is_there("a Redis whose password is a secret of all nodes") {
        return;
    }
    let server = RedisServer::start(&["--requirepass", PLAIN]);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("keys");
    keys("new", &file, &[]);
    let mut node = Node::new("alone");
    node.options = with(&[
        ("locks.backend", "redis"),
        ("locks.redis_urls", &server.url()),
        ("locks.redis_password_file", "secret:redis"),
        ("config.secrets_key_file", &file.display().to_string()),
    ]);
    node.start().is_member();
    until("it asks for it", || node.log().contains("locks.redis_password_file names"));
    let (code, told) = set(&node, &file, "secret.redis", PLAIN);
    assert_eq!(code, 0, "{told}");
    let body = json!({ "Acquire": { "key": "k", "owner": "o", "ttl_ms": 60_000 } }).to_string();
    let acquire = CtlTask::Ask { role: "locks/alone".into(), body };
    until("a lock is held in Redis", || node.ask(&acquire, None).is_ok());
    assert_not_on_disk(&node, PLAIN);
}
