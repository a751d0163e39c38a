//! Tokens of tools, by real processes: who is let in, for what, and what is written down of it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "helpers for several test files")]

mod processes;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use processes::{Node, PATIENCE, PROGRAM, cluster, run, text, until};
use serde_json::Value;

/// A file of tokens, and beside it a file with the token of each tool.
struct Desk {
    directory: tempfile::TempDir,
}

impl Desk {
    /// Of one tool for each of these roles, which is called as its role.
    fn new(roles: &[&str]) -> Self {
        let desk = Self { directory: tempfile::tempdir().unwrap() };
        for &role in roles {
            let made = run(&["tokens", "new", role, "--role", role, "--file", &desk.file()]);
            assert_eq!(made.status.code(), Some(0), "{made:?}");
            let token = desk.token(role);
            // Nothing but the token is written where it can be kept.
            fs::write(&token, &made.stdout).unwrap();
            fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
        }
        desk
    }

    fn file(&self) -> String {
        self.directory.path().join("tokens").display().to_string()
    }

    fn token(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.token(name)).unwrap().trim().to_owned()
    }

    /// What `ctl` says to whoever has the token of `name`, and how it ends.
    fn ctl(&self, node: &Node, name: Option<&str>, words: &[&str]) -> (i32, String) {
        let url = format!("http://127.0.0.1:{}", node.http);
        let token = name.map(|name| self.token(name).display().to_string());
        let mut all = vec!["ctl", "--node", url.as_str()];
        if let Some(file) = &token {
            all.extend(["--token-file", file.as_str()]);
        }
        all.extend_from_slice(words);
        text(&run(&all))
    }
}

/// The whole answer of a node's door.
fn get(node: &Node, path: &str, token: Option<&str>) -> String {
    http(node, &format!("GET {path}"), token, "")
}

/// Whether `body`, asked of `role`, is answered with `code`.
fn answers_with(node: &Node, role: &str, body: &str, token: &str, code: u16) -> bool {
    starts(&http(node, &format!("POST /ask/{role}"), Some(token), body), code)
}

fn http(node: &Node, what: &str, token: Option<&str>, body: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", node.http)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let token = token.map(|token| format!("authorization: Bearer {token}\r\n"));
    let (token, length) = (token.unwrap_or_default(), body.len());
    let head = format!("{what} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{token}");
    write!(stream, "{head}content-length: {length}\r\n\r\n{body}").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn starts(answer: &str, code: u16) -> bool {
    answer.starts_with(&format!("HTTP/1.1 {code} "))
}

#[test]
fn tools_say_who_they_are_and_do_what_their_role_may() {
    let desk = Desk::new(&["viewer", "operator", "trader"]);
    let mut node = Node::new("alone").set("node.tokens_file", &desk.file());
    node.options.extend(
        ["database.kind=sqlite", "pipeline.input=simulator", "simulator.ticks=20000"]
            .into_iter()
            .flat_map(|set| ["--set".to_owned(), set.to_owned()]),
    );
    node.start();
    until("it is in a cluster, and says so to all", || {
        node.assert_runs();
        node.log().contains(" founded cluster ") && starts(&get(&node, "/health", None), 200)
    });

    // Nobody looks without a token, and is told how to come by one.
    let (code, told) = desk.ctl(&node, None, &["status"]);
    assert!(code == 2 && told.contains("--token-file") && told.contains("tokens new"), "{told}");
    for path in ["/status", "/metrics", "/openapi.json", "/nothing-here/x"] {
        assert!(!starts(&get(&node, path, None), 200), "{path}");
    }
    let page = get(&node, "/", None);
    assert!(starts(&page, 200) && page.contains("text/html"), "{page}");
    assert!(page.contains("sessionStorage") && !page.contains("innerHTML"), "{page}");

    // A viewer looks, by a file or by the environment.
    let (code, told) = desk.ctl(&node, Some("viewer"), &["status"]);
    assert!(code == 0 && told.contains("alone"), "{told}");
    let mut command = Command::new(PROGRAM);
    command.args(["ctl", "--node", &format!("http://127.0.0.1:{}", node.http), "members"]);
    command.env("TICKWRIGHT_TOKEN", desk.text("viewer")).stdin(Stdio::null());
    let (code, told) = text(&command.output().unwrap());
    assert!(code == 0 && told.contains("alone"), "{told}");
    let document = get(&node, "/openapi.json", Some(&desk.text("viewer")));
    let document: Value = serde_json::from_str(document.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    assert!(document["paths"]["/ask/{role}"]["post"].is_object(), "{document}");

    // And does nothing else.
    let promote = "{\"Promote\":{\"node\":\"alone\"}}";
    let (code, told) = desk.ctl(&node, Some("viewer"), &["ask", "ledger", promote]);
    assert!(
        code == 2 && told.contains("has the role viewer") && told.contains("operator"),
        "{told}"
    );
    let drain = "{\"Drain\":{\"node\":\"alone\",\"undo\":true}}";
    let (code, told) = desk.ctl(&node, Some("viewer"), &["ask", "ledger", drain]);
    assert!(code == 2 && told.contains("needs the role operator"), "{told}");
    assert!(answers_with(&node, "ledger", drain, &desk.text("viewer"), 403));
    let (code, told) = desk.ctl(&node, Some("viewer"), &["config", "set", "user.x", "1"]);
    assert!(code == 2 && told.contains("needs the role operator"), "{told}");
    let (code, told) = desk.ctl(&node, Some("operator"), &["kill", "all"]);
    assert!(code == 2 && told.contains("needs the role trader"), "{told}");
    let secret = "{\"Unset\":{\"place\":{\"key\":\"secret.desk\"},\"author\":\"x\"}}";
    let (code, told) = desk.ctl(&node, Some("operator"), &["ask", "config/alone", secret]);
    assert!(code == 2 && told.contains("needs the role admin"), "{told}");

    // An operator does, and it is written down by whom.
    until("it can be agreed on", || {
        desk.ctl(&node, Some("operator"), &["ask", "ledger", promote]).0 == 0
    });
    let (code, told) = desk.ctl(&node, Some("operator"), &["ask", "ledger", drain]);
    assert_eq!(code, 0, "{told}");
    until("it is written down", || {
        let (code, told) = desk.ctl(&node, Some("viewer"), &["--json", "audit"]);
        code == 0 && told.contains("Promote") && told.contains("\\\"author\\\":\\\"operator\\\"")
    });
    let (code, told) = desk.ctl(&node, Some("operator"), &["config", "set", "user.x", "1"]);
    assert_eq!(code, 0, "{told}");
    let (_, told) = desk.ctl(&node, Some("viewer"), &["config", "history", "user.x"]);
    assert!(told.contains("operator"), "{told}");
    let (code, told) = desk.ctl(&node, Some("trader"), &["kill", "all", "--reason", "a test"]);
    assert_eq!(code, 0, "{told}");
    let (code, told) = desk.ctl(&node, Some("viewer"), &["switches"]);
    assert!(code == 0 && told.contains("trader"), "{told}");

    // Who is removed is let in no more, and nobody else is kept out.
    let removed = run(&["tokens", "remove", "operator", "--file", &desk.file()]);
    assert_eq!(removed.status.code(), Some(0), "{removed:?}");
    until("it is not let in any more", || desk.ctl(&node, Some("operator"), &["status"]).0 == 2);
    let (code, told) = desk.ctl(&node, Some("operator"), &["status"]);
    assert!(code == 2 && told.contains("does not know that token"), "{told}");
    until("others are", || desk.ctl(&node, Some("viewer"), &["status"]).0 == 0);
    let listed = text(&run(&["tokens", "list", "--file", &desk.file()])).1;
    assert_eq!(listed, "viewer viewer\ntrader trader\n");
    for name in ["viewer", "operator", "trader"] {
        assert_no_token(&node, &desk.text(name));
    }
}

/// That `node` has written `token` nowhere.
fn assert_no_token(node: &Node, token: &str) {
    fn files(directory: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
    }
    for path in files(node.directory.path()) {
        let bytes = fs::read(&path).unwrap_or_default();
        let is_there = bytes.windows(token.len()).any(|part| part == token.as_bytes());
        assert!(!is_there, "{}", path.display());
    }
}

#[test]
fn what_is_wrong_with_tokens_is_said_before_anything_begins() {
    let desk = Desk::new(&["viewer"]);
    let mut node = Node::new("alone").set("node.tokens_file", &desk.file());
    let text_of = fs::read_to_string(desk.file()).unwrap();
    fs::write(desk.file(), text_of.replace(" viewer ", " root ")).unwrap();
    node.start();
    assert_eq!(node.wait_end().code(), Some(2), "{}", node.log());
    assert!(node.log().contains("line 2: has a role that is none of"), "{}", node.log());
    let (code, told) = text(&run(&["tokens", "new", "a", "--role", "root", "--file", "x"]));
    assert!(code == 2 && told.contains("viewer, operator, trader, admin"), "{told}");
    let set = format!("node.tokens_file={}", desk.file());
    let data = desk.directory.path().join("data").display().to_string();
    let words = ["demo", "--nodes", "3", "--ticks", "1000", "--set", &set, "--data-dir", &data];
    let (code, told) = text(&run(&words));
    assert!(code == 2 && told.contains("--set node.tokens_file=none"), "{told}");
    fs::set_permissions(desk.token("viewer"), fs::Permissions::from_mode(0o644)).unwrap();
    let (code, told) = desk.ctl(&node, Some("viewer"), &["status"]);
    assert!(code == 2 && told.contains("chmod 600"), "{told}");
}

#[test]
fn without_a_file_of_tokens_nobody_has_to_say_who_asks() {
    let nodes = cluster(&["alone"]);
    assert!(starts(&get(&nodes[0], "/status", None), 200));
    assert!(starts(&get(&nodes[0], "/openapi.json", None), 200));
    assert!(starts(&get(&nodes[0], "/", None), 200));
}
