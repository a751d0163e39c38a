//! Clusters whose nodes have nothing to do.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tickwright::ctl::{CtlTarget, CtlTask, ask};
use tickwright::kit::process::usage_of;
use tickwright::local_cluster::free_ports;

const SIZES: [usize; 3] = [3, 10, 20];

/// How long all nodes may take to find each other.
const PATIENCE: Duration = Duration::from_secs(180);

/// Until voters and sessions of the ledger have settled.
const SETTLE: Duration = Duration::from_secs(8);

/// One node.
struct Node {
    child: Child,
    http: u16,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Node {
    fn ask(&self, task: &CtlTask) -> Option<Value> {
        let url = format!("http://127.0.0.1:{}", self.http);
        let patience = Some(Duration::from_secs(5));
        ask(task, &CtlTarget { url, on: None, patience, tls: None }).ok()
    }

    fn up(&self) -> usize {
        let members = self.ask(&CtlTask::Members).unwrap_or_default();
        let members = members.as_array().cloned().unwrap_or_default();
        members.iter().filter(|member| member["status"] == "up").count()
    }

    fn figures(&self) -> Figures {
        let status = self.ask(&CtlTask::Status).unwrap();
        let usage = usage_of(self.child.id()).unwrap();
        let counted = |name: &str| status["network"][name].as_u64().unwrap() as f64;
        Figures {
            processor: usage.processor.as_secs_f64(),
            frames: counted("frames_sent"),
            bytes: counted("bytes_sent"),
            rss: usage.rss_bytes as f64,
        }
    }
}

/// What one node has used by some moment, or on average in each second.
#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    /// Seconds of a processor.
    processor: f64,
    frames: f64,
    bytes: f64,
    rss: f64,
}

/// Prints what each node of a cluster that has nothing to do costs, and how that grows.
pub(crate) fn measure(is_quick: bool) {
    let seconds = if is_quick { 5 } else { 20 };
    println!("a cluster with nothing to do, each node and second, over {seconds} s");
    println!(
        "  {:>5} {:>12} {:>9} {:>10} {:>9} {:>9}",
        "nodes", "processor %", "frames", "bytes", "RSS MB", "joined s"
    );
    let mut all: Vec<(usize, Figures)> = Vec::new();
    for size in SIZES {
        let (figures, joined) = run(size, Duration::from_secs(seconds));
        println!(
            "  {size:>5} {:>12.2} {:>9.1} {:>10.0} {:>9.1} {:>9.1}",
            figures.processor * 100.0,
            figures.frames,
            figures.bytes,
            figures.rss / 1e6,
            joined.as_secs_f64()
        );
        all.push((size, figures));
    }
    for pair in all.windows(2) {
        let [(few, before), (many, after)] = pair else { continue };
        // Twice the nodes cost so many times what they did, as a power of two.
        let power =
            |before: f64, after: f64| (after / before).ln() / (*many as f64 / *few as f64).ln();
        println!(
            "  from {few} to {many} nodes a node's cost grows with the number to the power of: \
             processor {:.1}, frames {:.1}, bytes {:.1}, RSS {:.1}",
            power(before.processor, after.processor),
            power(before.frames, after.frames),
            power(before.bytes, after.bytes),
            power(before.rss, after.rss)
        );
    }
    println!();
}

fn run(size: usize, span: Duration) -> (Figures, Duration) {
    let directory = tempfile::tempdir().unwrap();
    let (ports, _claims) = free_ports(2 * size).unwrap();
    let begun = Instant::now();
    let start = |place: usize| {
        let set = |key: &str, value: String| ["--set".to_owned(), format!("{key}={value}")];
        let data = directory.path().join(format!("node-{place}")).display().to_string();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["node", "--attached"]);
        command.args(set("node.name", format!("node-{place}")));
        command.args(set("node.data_dir", data));
        command.args(set("node.http_bind", format!("127.0.0.1:{}", ports[size + place])));
        command.args(set("cluster.bind", format!("127.0.0.1:{}", ports[place])));
        command.args(set("cluster.seeds", format!("[\"127.0.0.1:{}\"]", ports[0])));
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
    let joined = begun.elapsed();
    std::thread::sleep(SETTLE);
    let look = || -> Vec<(Instant, Figures)> {
        nodes.iter().map(|node| (Instant::now(), node.figures())).collect()
    };
    let before = look();
    std::thread::sleep(span);
    let after = look();
    let mut sum = Figures::default();
    for ((begun, before), (ended, after)) in before.iter().zip(&after) {
        let seconds = (*ended - *begun).as_secs_f64();
        sum.processor += (after.processor - before.processor) / seconds;
        sum.frames += (after.frames - before.frames) / seconds;
        sum.bytes += (after.bytes - before.bytes) / seconds;
        sum.rss += after.rss;
    }
    let count = size as f64;
    let mean = Figures {
        processor: sum.processor / count,
        frames: sum.frames / count,
        bytes: sum.bytes / count,
        rss: sum.rss / count,
    };
    (mean, joined)
}
