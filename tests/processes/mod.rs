//! Real nodes on loopback, each a process of its own, for tests to start, stop and question.
#![allow(dead_code, reason = "every test file uses another part of it")]
#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tickwright::cluster::{Tls, node_name};
use tickwright::ctl::{CtlError, CtlTarget, CtlTask, ask};
use tickwright::kit::process::usage_of;
use tickwright::local_cluster::claim;
use tickwright_core::config::TlsFiles;

/// Nothing here may take longer. Generous: the machine may be busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_tickwright");

/// One cluster at a time, where what is measured is not what two do to a machine.
pub(crate) fn alone() -> std::sync::MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    // Whoever failed has ended its nodes.
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Ports given out by this process.
static PORTS: AtomicU32 = AtomicU32::new(0);

/// What claims the ports that this process has given out, until it ends.
static CLAIMS: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());

/// A port that nobody uses just now, and that is given to nobody else, also not by `demo --nodes`. It is
/// below those that the system takes for connections, or one of these could have it before the node does.
pub(crate) fn free_port() -> u16 {
    let first = std::process::id().wrapping_mul(97);
    loop {
        let place = first.wrapping_add(PORTS.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(20_000 + place % 12_000).unwrap();
        if let Ok(claim) = claim(port) {
            CLAIMS.lock().unwrap().push(claim);
            return port;
        }
    }
}

/// A node that can be started, ended and started again with what it remembers.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) port: u16,
    pub(crate) http: u16,
    pub(crate) directory: tempfile::TempDir,
    /// More options of the command.
    pub(crate) options: Vec<String>,
    /// What the command is run by, if it is not run as it is.
    pub(crate) by: Vec<String>,
    /// How tools reach it, if not on loopback.
    pub(crate) tools: Option<CtlTarget>,
    starts: u32,
    child: Option<Child>,
}

impl Node {
    /// A node that does not run yet.
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            port: free_port(),
            http: free_port(),
            directory: tempfile::tempdir().unwrap(),
            options: Vec::new(),
            by: Vec::new(),
            tools: None,
            starts: 0,
            child: None,
        }
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// With `--set KEY=VALUE`.
    #[must_use]
    pub(crate) fn set(mut self, key: &str, value: &str) -> Self {
        self.options.extend(["--set".to_owned(), format!("{key}={value}")]);
        self
    }

    /// With these seeds, in order.
    #[must_use]
    pub(crate) fn seeds(self, seeds: &[&str]) -> Self {
        self.set("cluster.seeds", &seeds.join(","))
    }

    pub(crate) fn command(&self) -> Command {
        let mut words = self.by.iter().map(String::as_str).chain([PROGRAM]);
        let mut command = Command::new(words.next().unwrap());
        command
            .args(words)
            .env("NO_COLOR", "1")
            .args(["node", "--name", &self.name])
            .arg("--data-dir")
            .arg(self.directory.path().join("data"))
            .args(["--set", &format!("cluster.bind={}", self.address())])
            .args(["--set", &format!("node.http_bind=127.0.0.1:{}", self.http)])
            .args(["--set", "cluster.heartbeat_ms=200"])
            .args(&self.options);
        command
    }

    fn log_path(&self) -> PathBuf {
        self.log_of(self.starts)
    }

    fn log_of(&self, start: u32) -> PathBuf {
        self.directory.path().join(format!("log-{start}"))
    }

    /// What it has written in all its lives.
    pub(crate) fn all_logs(&self) -> String {
        let of = |start| std::fs::read_to_string(self.log_of(start)).unwrap_or_default();
        (1..=self.starts).map(of).collect()
    }

    /// What it has written since its last start.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Starts it; returns before it is in a cluster.
    pub(crate) fn start(&mut self) -> &mut Self {
        assert!(self.child.is_none(), "{} runs already", self.name);
        self.starts += 1;
        let log = std::fs::File::create(self.log_path()).unwrap();
        let child = self.command().stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        self.child = Some(child.unwrap());
        self
    }

    /// Waits until it is in a cluster, and has said so.
    pub(crate) fn is_member(&mut self) -> &mut Self {
        until(&format!("{} joins", self.name), || {
            self.assert_runs();
            let log = self.log();
            let has_said = log.contains(" joined cluster ") || log.contains(" founded cluster ");
            has_said && self.status().is_ok_and(|status| status["is_member"] == true)
        });
        self
    }

    pub(crate) fn assert_runs(&mut self) {
        let ended = self.child.as_mut().unwrap().try_wait().unwrap();
        assert!(ended.is_none(), "{} ended:\n{}", self.name, self.log());
    }

    /// Waits until it has ended by itself.
    pub(crate) fn wait_end(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        let since = Instant::now();
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            if since.elapsed() > PATIENCE {
                let _ = child.kill();
                panic!("{} does not end:\n{}", self.name, self.log());
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        let process = self.child.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([name, &process]).status().unwrap().success());
    }

    /// Memory that it takes up now.
    pub(crate) fn resident_bytes(&self) -> u64 {
        usage_of(self.child.as_ref().unwrap().id()).unwrap().rss_bytes
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    pub(crate) fn ask(&self, task: &CtlTask, on: Option<&str>) -> Result<Value, CtlError> {
        self.ask_within(Duration::from_secs(2), task, on)
    }

    pub(crate) fn ask_within(
        &self,
        patience: Duration,
        task: &CtlTask,
        on: Option<&str>,
    ) -> Result<Value, CtlError> {
        let url = format!("http://127.0.0.1:{}", self.http);
        let (on, patience) = (on.map(str::to_owned), Some(patience));
        let loopback = CtlTarget { url, on: None, patience, tls: None, token: None };
        let own = self.tools.clone().unwrap_or(loopback);
        ask(task, &CtlTarget { on, patience, ..own })
    }

    /// What Prometheus would be told.
    pub(crate) fn metrics(&self) -> String {
        metrics_at(self.http)
    }

    pub(crate) fn status(&self) -> Result<Value, CtlError> {
        self.ask(&CtlTask::Status, None)
    }

    /// How this node sees the one called `name`; empty if it does not know it.
    pub(crate) fn sees(&self, name: &str) -> String {
        let members = self.ask(&CtlTask::Members, None).unwrap_or_default();
        let found = members.as_array().into_iter().flatten().find(|member| member["id"] == *name);
        found.and_then(|member| member["status"].as_str()).unwrap_or_default().to_owned()
    }

    /// Waits until this node sees `name` as `status`.
    pub(crate) fn comes_to_see(&self, name: &str, status: &str) {
        until(&format!("{} sees {name} {status}", self.name), || self.sees(name) == status);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            eprintln!("--- {}\n{}", self.name, self.log());
        }
    }
}

/// Waits until something holds.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Ends a watch, also when the test fails.
pub(crate) struct Done<'d>(pub(crate) &'d AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How long something took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    pub(crate) took: Duration,
    /// The longest time meanwhile in which the machine had none for this process: it stood still, or others had it
    /// to themselves.
    pub(crate) paused: Duration,
}

impl Measured {
    /// What `deed` says that it took.
    pub(crate) fn of(deed: impl FnOnce() -> Duration) -> Self {
        const NAP: Duration = Duration::from_millis(5);
        let is_done = AtomicBool::new(false);
        thread::scope(|scope| {
            let watch = scope.spawn(|| {
                let mut longest = Duration::ZERO;
                while !is_done.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    thread::sleep(NAP);
                    longest = longest.max(begun.elapsed().saturating_sub(NAP));
                }
                longest
            });
            let done = Done(&is_done);
            let took = deed();
            drop(done);
            Self { took, paused: watch.join().unwrap() }
        })
    }
}

/// That most of `rounds` stay within `limit`; they end as soon as that is certain. One that does not counts, unless it
/// would have but for a pause of the machine: then another takes its place.
pub(crate) fn assert_most_within(
    limit: Duration,
    rounds: usize,
    mut round: impl FnMut(usize) -> Measured,
) {
    let most = rounds / 2 + 1;
    let (mut within, mut beyond, mut all) = (0, 0, Vec::new());
    while within < most {
        assert!(all.len() < 2 * rounds, "the machine stands still too often: {all:?}");
        let measured = round(all.len());
        all.push(measured);
        if measured.took <= limit {
            within += 1;
        } else if measured.took.saturating_sub(measured.paused) > limit {
            beyond += 1;
        }
        assert!(beyond <= rounds - most, "{beyond} take longer than {limit:?}: {all:?}");
    }
}

/// What Prometheus would be told by whoever lets tools in at `port`.
pub(crate) fn metrics_at(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = "GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer
}

/// Runs the program to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// What a run wrote, and how it ended.
pub(crate) fn text(output: &Output) -> (i32, String) {
    let all = [output.stdout.as_slice(), &output.stderr].concat();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&all).into_owned())
}

/// Nodes that have all joined; the first one is everybody's first seed.
pub(crate) fn cluster(names: &[&str]) -> Vec<Node> {
    let mut nodes: Vec<Node> = names.iter().map(|name| Node::new(name)).collect();
    let seed = nodes[0].address();
    for node in &mut nodes {
        let options = ["--set".to_owned(), format!("cluster.seeds={seed}")];
        node.options.extend(options);
        node.start();
    }
    for node in &mut nodes {
        node.is_member();
    }
    for node in &nodes {
        for name in names {
            node.comes_to_see(name, "up");
        }
    }
    nodes
}

/// The names of five nodes that share a pipeline, each with its duties.
pub(crate) const FIVE: [(&str, &str); 5] = [
    ("data-1", "data,control"),
    ("calc-1", "calc,control"),
    ("calc-2", "calc,control"),
    ("exec-1", "exec,control"),
    ("control-1", "control"),
];

/// Five nodes that work on the simulated market together as soon as all are there, each with `settings`.
pub(crate) fn five(settings: &[(&str, &str)]) -> Vec<Node> {
    five_under(settings, "")
}

/// The same, under the faults of `chaos`.
pub(crate) fn five_under(settings: &[(&str, &str)], chaos: &str) -> Vec<Node> {
    let mut nodes: Vec<Node> = FIVE.iter().map(|(name, _)| Node::new(name)).collect();
    let seeds: Vec<String> = nodes.iter().map(Node::address).collect();
    let seeds = seeds.join(",");
    for (node, (_, roles)) in nodes.iter_mut().zip(FIVE) {
        let common = [
            ("cluster.seeds", seeds.as_str()),
            ("node.roles", roles),
            ("pipeline.input", "simulator"),
            ("pipeline.shards", "4"),
            ("stream.checkpoint_ticks", "2000"),
            ("allocation.nodes_min", "5"),
            // So that nodes say when they act for all.
            ("telemetry.log", "error,tickwright=info,openraft=off"),
        ];
        for (key, value) in common.iter().chain(settings) {
            node.options.extend(["--set".to_owned(), format!("{key}={value}")]);
        }
        if !chaos.is_empty() {
            node.options.extend(["--chaos".to_owned(), chaos.to_owned()]);
        }
        node.start();
    }
    nodes
}

/// Asks the share of a pipeline that `node` has: "Progress", "Report".
pub(crate) fn ask_share(node: &Node, question: &str) -> Option<Value> {
    let task = CtlTask::Ask { role: format!("run/{}", node.name), body: format!("{question:?}") };
    node.ask(&task, None).ok()
}

/// The units that run on `node`, if it says so.
pub(crate) fn units(node: &Node) -> Vec<String> {
    let progress = ask_share(node, "Progress").unwrap_or_default();
    let units = progress["units"].as_array().cloned().unwrap_or_default();
    units.iter().map(|unit| unit.as_str().unwrap().to_owned()).collect()
}

/// Lets the sources of `nodes` pass the first `count` of the places at which faults that were ordered hold them.
/// Returns whether every node has heard it: one that does not run has not, nor will it know when it does.
pub(crate) fn open(nodes: &[Node], count: usize) -> bool {
    let body = serde_json::json!({ "Open": count }).to_string();
    let mut all_have = true;
    for node in nodes {
        let role = format!("run/{}", node.name);
        all_have &= node.ask(&CtlTask::Ask { role, body: body.clone() }, None).is_ok();
    }
    all_have
}

/// The report of the run on `nodes`, once it is over.
pub(crate) fn report_within(patience: Duration, nodes: &[Node]) -> Value {
    let begun = Instant::now();
    loop {
        if let Some(report) = nodes.iter().find_map(|node| ask_share(node, "Report")) {
            return report;
        }
        assert!(begun.elapsed() < patience, "the run does not end");
        thread::sleep(Duration::from_millis(50));
    }
}

/// A directory with an authority and certificates of these nodes, and of a tool called `ctl`.
pub(crate) fn authority(directory: &Path, names: &[&str]) {
    let directory = directory.to_str().unwrap();
    let certs = |arguments: &[&str]| {
        let (code, told) = text(&run(&[&["certs", "--dir", directory], arguments].concat()));
        assert_eq!(code, 0, "{told}");
    };
    certs(&["init"]);
    for name in names {
        certs(&["node", name]);
    }
    certs(&["tool", "ctl"]);
}

/// The keys by which `name` of `directory` shows who it is.
pub(crate) fn certified(directory: &Path, name: &str) -> Vec<String> {
    let path = |file: &str| directory.join(file).display().to_string();
    [
        ("tls_ca_file", path("ca.pem")),
        ("tls_cert_file", path(&format!("{name}.pem"))),
        ("tls_key_file", path(&format!("{name}.key"))),
        ("cookie_file", path("cookie")),
    ]
    .into_iter()
    .flat_map(|(key, path)| ["--set".to_owned(), format!("cluster.{key}={path}")])
    .collect()
}

/// How a tool with the certificate of `ctl` of `directory` reaches the node at `url`.
pub(crate) fn tools_at(url: String, directory: &Path) -> CtlTarget {
    let path = |file: &str| directory.join(file).display().to_string();
    let files = TlsFiles { ca: path("ca.pem"), cert: path("ctl.pem"), key: path("ctl.key") };
    let client = Tls::open(&files).unwrap().client();
    CtlTarget { url, on: None, patience: None, tls: Some((client, node_name())), token: None }
}
