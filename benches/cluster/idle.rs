//! Clusters whose nodes have nothing to do.

use std::time::{Duration, Instant};

use tickwright::ctl::CtlTask;
use tickwright::kit::process::usage_of;

use super::nodes::{Node, start};

const SIZES: [usize; 3] = [3, 10, 20];

/// Until voters and sessions of the ledger have settled.
const SETTLE: Duration = Duration::from_secs(8);

fn figures(node: &Node) -> Figures {
    let status = node.ask(&CtlTask::Status).unwrap();
    let usage = usage_of(node.child.id()).unwrap();
    let counted = |name: &str| status["network"][name].as_u64().unwrap() as f64;
    Figures {
        processor: usage.processor.as_secs_f64(),
        frames: counted("frames_sent"),
        bytes: counted("bytes_sent"),
        rss: usage.rss_bytes as f64,
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
    let begun = Instant::now();
    let nodes = start(directory.path(), size, &[]);
    let joined = begun.elapsed();
    std::thread::sleep(SETTLE);
    let look = || -> Vec<(Instant, Figures)> {
        nodes.iter().map(|node| (Instant::now(), figures(node))).collect()
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
