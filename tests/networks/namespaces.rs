//! A namespace for each node, joined by a bridge in another one.
//!
//! ```text
//! test ── 198.18.K.x/30 ── tools ▸ node's namespace ◂ 198.19.K.y/24 ── bridge ── all other nodes
//! ```
//!
//! Tools reach a node by a way of their own, which is never cut. Every address of hardware is written
//! down, so that nothing is asked for; a way is cut by writing down one that nobody has. That loses
//! every packet in one direction without a word, as a packet filter does, and needs nothing of the
//! kernel but what namespaces do. Slow is a token bucket.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::processes::{Node, authority, certified, tools_at};

const PORT: u16 = 7400;
const TOOLS: u16 = 7480;

/// What a namespace is called before the number of the process that made it.
const PREFIX: &str = "tickwright-";

pub(crate) struct Namespaces {
    count: usize,
    certificates: tempfile::TempDir,
}

impl Namespaces {
    /// One for each name, or why there are none.
    pub(crate) fn new(names: &[&str]) -> Result<Self, String> {
        remove_left_over();
        let made = Self { count: names.len(), certificates: tempfile::tempdir().unwrap() };
        made.make()?;
        authority(made.certificates.path(), names);
        Ok(made)
    }

    fn make(&self) -> Result<(), String> {
        let hub = hub();
        ip(&format!("netns add {hub}"))?;
        ip(&format!("-n {hub} link add bridge0 type bridge"))?;
        ip(&format!("-n {hub} link set bridge0 up"))?;
        for place in 0..self.count {
            let (space, tools) = (space(place), format!("tw{}t{place}", std::process::id()));
            ip(&format!("netns add {space}"))?;
            ip(&format!("-n {space} link set lo up"))?;
            let mac = mac(place);
            ip(&format!(
                "-n {space} link add eth0 address {mac} type veth peer name port{place} netns {hub}"
            ))?;
            ip(&format!("-n {hub} link set port{place} master bridge0 up"))?;
            ip(&format!("-n {space} address add {}/24 dev eth0", cluster_ip(place)))?;
            ip(&format!("-n {space} link set eth0 up"))?;
            ip(&format!("-n {space} link add tools0 type veth peer name {tools} netns {}", own()))?;
            ip(&format!("-n {space} address add {}/30 dev tools0", tools_ip(place, 2)))?;
            ip(&format!("-n {space} link set tools0 up"))?;
            ip(&format!("address add {}/30 dev {tools}", tools_ip(place, 1)))?;
            ip(&format!("link set {tools} up"))?;
        }
        for from in 0..self.count {
            for to in (0..self.count).filter(|&to| to != from) {
                neighbour(from, to, &mac(to))?;
            }
        }
        Ok(())
    }

    pub(crate) fn attach(&self, place: usize, mut node: Node) -> Node {
        node.by = ["ip", "netns", "exec", &space(place)].map(str::to_owned).to_vec();
        node.options.extend(certified(self.certificates.path(), &node.name));
        let tools = format!("{}:{TOOLS}", tools_ip(place, 2));
        node.tools = Some(tools_at(format!("https://{tools}"), self.certificates.path()));
        node.set("cluster.bind", &self.address(place)).set("node.http_bind", &tools)
    }

    pub(crate) fn address(&self, place: usize) -> String {
        format!("{}:{PORT}", cluster_ip(place))
    }

    pub(crate) fn pass(&self, from: usize, to: usize, passes: bool) {
        let mac = if passes { mac(to) } else { mac(200) };
        neighbour(from, to, &mac).unwrap_or_else(|reason| panic!("{reason}"));
    }

    pub(crate) fn slow(&self, place: usize, bytes_per_second: Option<u64>) {
        let space = space(place);
        let asked = match bytes_per_second {
            // What waits longer than that is lost.
            Some(rate) => format!(
                "netns exec {space} tc qdisc replace dev eth0 root tbf rate {}bit burst 64kb latency \
                 200ms",
                rate * 8
            ),
            None => format!("netns exec {space} tc qdisc del dev eth0 root"),
        };
        ip(&asked).unwrap_or_else(|reason| panic!("{reason}"));
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for place in 0..self.count {
            let _ = ip(&format!("netns del {}", space(place)));
        }
        let _ = ip(&format!("netns del {}", hub()));
    }
}

/// The namespaces of tests that were killed.
fn remove_left_over() {
    let there = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    for name in there.filter_map(|entry| entry.file_name().into_string().ok()) {
        let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        let is_over =
            |process: &str| matches!(Path::new("/proc").join(process).try_exists(), Ok(false));
        if process.is_some_and(is_over) {
            let _ = ip(&format!("netns del {name}"));
        }
    }
}

fn neighbour(from: usize, to: usize, mac: &str) -> Result<(), String> {
    let (space, address) = (space(from), cluster_ip(to));
    ip(&format!("-n {space} neigh replace {address} lladdr {mac} nud permanent dev eth0"))
}

fn hub() -> String {
    format!("{PREFIX}{}-hub", std::process::id())
}

fn space(place: usize) -> String {
    format!("{PREFIX}{}-{place}", std::process::id())
}

/// The namespace of this process, as `ip` takes it.
fn own() -> String {
    std::process::id().to_string()
}

fn mac(place: usize) -> String {
    format!("02:00:00:00:00:{:02x}", place + 1)
}

/// Of the addresses that are set apart for tests of networks (RFC 2544).
fn cluster_ip(place: usize) -> String {
    format!("198.19.{}.{}", std::process::id() % 250, place + 1)
}

fn tools_ip(place: usize, end: usize) -> String {
    format!("198.18.{}.{}", std::process::id() % 250, place * 4 + end)
}

fn ip(arguments: &str) -> Result<(), String> {
    let mut command = Command::new("ip");
    let output = command.args(arguments.split(' ')).stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("`ip {arguments}`: {}", said.trim()))
        }
        Err(error) => Err(format!("`ip` (Debian package iproute2): {error}")),
    }
}
