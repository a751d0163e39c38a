//! Nodes as processes of this program, without a pipeline.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tickwright::ctl::{CtlTarget, CtlTask, ask};
use tickwright::local_cluster::free_ports;

/// How long all nodes may take to find each other.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// One node.
pub(crate) struct Node {
    pub(crate) child: Child,
    http: u16,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Node {
    /// What it answers, if it does.
    pub(crate) fn ask(&self, task: &CtlTask) -> Option<Value> {
        let url = format!("http://127.0.0.1:{}", self.http);
        let patience = Some(Duration::from_secs(5));
        ask(task, &CtlTarget { url, on: None, patience, tls: None, token: None }).ok()
    }

    fn up(&self) -> usize {
        let members = self.ask(&CtlTask::Members).unwrap_or_default();
        let members = members.as_array().cloned().unwrap_or_default();
        members.iter().filter(|member| member["status"] == "up").count()
    }
}

/// `size` nodes under `directory`, with `settings`, once all have found each other.
pub(crate) fn start(directory: &Path, size: usize, settings: &[(&str, &str)]) -> Vec<Node> {
    let (ports, _claims) = free_ports(2 * size).unwrap();
    let begun = Instant::now();
    let start = |place: usize| {
        let set = |key: &str, value: &str| ["--set".to_owned(), format!("{key}={value}")];
        let name = format!("node-{place}");
        let data = directory.join(&name).display().to_string();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["node", "--attached"]);
        command.args(set("node.name", &name));
        command.args(set("node.data_dir", &data));
        command.args(set("node.http_bind", &format!("127.0.0.1:{}", ports[size + place])));
        command.args(set("cluster.bind", &format!("127.0.0.1:{}", ports[place])));
        command.args(set("cluster.seeds", &format!("[\"127.0.0.1:{}\"]", ports[0])));
        command.args(settings.iter().flat_map(|(key, value)| set(key, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Node { child: command.spawn().unwrap(), http: ports[size + place] }
    };
    let nodes: Vec<Node> = (0..size).map(start).collect();
    for node in &nodes {
        while node.up() < size {
            assert!(begun.elapsed() < PATIENCE, "they do not find each other");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    nodes
}
