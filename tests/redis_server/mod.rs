//! Redis servers of a test's own, on free ports in temporary directories.
#![allow(dead_code, reason = "every test file uses another part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tickwright::local_cluster::claim;

/// Nothing here may take longer. Generous: the machine may be busy with other tests.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why Redis cannot be had, if it cannot.
pub(crate) fn missing() -> Option<String> {
    let found = Command::new("redis-server").arg("--version").output();
    let missing = match found {
        Ok(output) if output.status.success() => return None,
        Ok(output) => format!("`redis-server --version` ended with {}", output.status),
        Err(error) => format!("`redis-server`: {error}"),
    };
    Some(format!("{missing}; Debian has it in the package redis-server"))
}

/// Says loudly that what needs Redis was not tested. Returns whether it can be.
pub(crate) fn is_there(what: &str) -> bool {
    match missing() {
        None => true,
        Some(reason) => {
            eprintln!("SKIPPED, not tested: {what}: {reason}");
            false
        }
    }
}

/// A server that can be killed and started again, empty.
#[derive(Debug)]
pub(crate) struct RedisServer {
    pub(crate) port: u16,
    directory: tempfile::TempDir,
    options: Vec<String>,
    child: Option<Child>,
    _claim: std::net::UdpSocket,
}

impl RedisServer {
    /// Starts one that keeps nothing on disk.
    pub(crate) fn start(options: &[&str]) -> Self {
        let first = std::process::id().wrapping_mul(61);
        let (port, claim) = (0..)
            .find_map(|place| {
                let port = u16::try_from(20_000 + first.wrapping_add(place) % 12_000).unwrap();
                Some((port, claim(port).ok()?))
            })
            .unwrap();
        let options = options.iter().map(|&option| option.to_owned()).collect();
        let directory = tempfile::tempdir().unwrap();
        let mut server = Self { port, directory, options, child: None, _claim: claim };
        server.start_again();
        server
    }

    /// Starts it with nothing in it.
    pub(crate) fn start_again(&mut self) {
        assert!(self.child.is_none());
        let log = std::fs::File::create(self.directory.path().join("log")).unwrap();
        let child = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0"])
            .arg("--dir")
            .arg(self.directory.path())
            .args(&self.options)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(child.unwrap());
        self.comes_to("answers", |server| server.say("PING").is_some());
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Sends one command in a line and returns what came back.
    pub(crate) fn say(&self, command: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        stream.write_all(format!("{command}\r\n").as_bytes()).ok()?;
        let mut answer = [0; 4_096];
        let length = stream.read(&mut answer).ok().filter(|&length| length > 0)?;
        Some(String::from_utf8_lossy(&answer[..length]).into_owned())
    }

    /// Waits until something holds.
    pub(crate) fn comes_to(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let since = Instant::now();
        while !holds(self) {
            let log = || std::fs::read_to_string(self.directory.path().join("log"));
            assert!(since.elapsed() < PATIENCE, "redis: {what}: {:?}", log());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until it has everything that `master` has.
    pub(crate) fn replicates(&self, master: &Self) {
        let (host, port) = ("127.0.0.1", master.port);
        assert!(self.say(&format!("REPLICAOF {host} {port}")).is_some());
        let is_up = |server: &Self| {
            server.say("INFO replication").is_some_and(|told| told.contains("link_status:up"))
        };
        self.comes_to("follows its master", is_up);
    }

    /// Waits until a replica of it has everything that was written.
    pub(crate) fn is_replicated(&self) {
        let offset = |told: &str, name: &str| {
            let at = told.find(name)? + name.len();
            told[at..].split(|c: char| !c.is_ascii_digit()).next()?.parse::<u64>().ok()
        };
        self.comes_to("is followed", |server| {
            let told = server.say("INFO replication").unwrap_or_default();
            let (own, its) = (offset(&told, "master_repl_offset:"), offset(&told, "offset="));
            own.is_some() && its >= own
        });
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        let process = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([name, &process]).status().unwrap().success());
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}
