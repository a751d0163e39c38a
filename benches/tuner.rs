//! The AutoTuner on a real pipeline: from a bad setting, beside the best of a sweep.
//!
//! `cargo bench --bench tuner [-- --quick]`
//!
//! The workload is fixed: a million rows in memory, again and again, through a node in this process. First
//! each setting of a grid of `pipeline.batch_ticks` and `stream.credit_ticks` runs by itself. Then the tuner
//! begins at blocks of 1 and a credit of 2, and what passes a second is taken after it has come to rest.
//! Last, it begins at the best setting of the grid, where there is little to gain.

#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![expect(clippy::cast_precision_loss, reason = "rates are for people")]

mod rows;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ractor::ActorRef;
use rows::source::MemorySource;
use rows::{PATIENCE, RATES, Ticks, config_of};
use serde_json::Value;
use tickwright::ingester::OpenSource;
use tickwright::kit::Store;
use tickwright::node::{self, Node, NodeArguments, NodeSource};
use tickwright::tuner::{ROLE, TunerMessage};
use tickwright_core::config::{Config, Kinds};
use tickwright_core::domain::Histogram;

const BATCHES: [usize; 5] = [1, 16, 256, 2_048, 8_192];
const CREDITS: [usize; 3] = [2, 8_192, 131_072];

/// One measurement of the tuner.
const WINDOW_MS: u64 = 40;

/// How long what did not help rests. A run lasts a minute; the default is for days.
const COOL_DOWN_MS: u64 = 5_000;

/// What a stream may hold, so that each credit of the grid is allowed.
const RETAINED: usize = 262_144;

fn main() {
    let is_quick = std::env::args().any(|argument| argument == "--quick");
    let (grid, tuned) = if is_quick { (300, 12) } else { (1_500, 60) };
    let (grid, tuned) = (Duration::from_millis(grid), Duration::from_secs(tuned));
    let ticks = Arc::new(Ticks::make(1_000_000));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    println!("rows a second, in millions, by a sweep of {grid:?} each");
    print!("  {:>14}", "batch, credit");
    CREDITS.iter().for_each(|credit| print!(" {credit:>9}"));
    println!();
    let mut best = (0.0, 0, 0);
    for batch in BATCHES {
        print!("  {batch:>14}");
        for credit in CREDITS {
            if batch > credit {
                print!(" {:>9}", "-");
                continue;
            }
            let rate = runtime.block_on(fixed(&ticks, batch, credit, grid));
            print!(" {:>9.3}", rate / 1e6);
            if rate > best.0 {
                best = (rate, batch, credit);
            }
        }
        println!();
    }
    let (rate, batch, credit) = best;
    println!("  the best: {:.3} with blocks of {batch} and a credit of {credit}\n", rate / 1e6);
    for (name, batch, credit) in [("a bad setting", 1, 2), ("the best setting", batch, credit)] {
        let outcome = runtime.block_on(tune(&ticks, batch, credit, tuned));
        println!("from {name}, after {tuned:?} of windows of {WINDOW_MS} ms");
        println!(
            "  {:.3} million rows/s, {:.2} of the best",
            outcome.rate / 1e6,
            outcome.rate / rate
        );
        println!("  settings: {}", outcome.settings);
        for decision in &outcome.decisions {
            println!("    {decision}");
        }
        println!(
            "  trials: {:?}; p99 of all orders on the way {:.0} us, bound {:.0}\n",
            outcome.verdicts,
            outcome.p99_us,
            Config::default().tuner.config.p99_max_us
        );
    }
}

async fn start(ticks: &Arc<Ticks>, batch: usize, credit: usize, is_tuned: bool) -> Node {
    let set = |key: &str, value: String| (key.to_owned(), value);
    let overrides = [
        set("pipeline.batch_ticks", batch.to_string()),
        set("stream.credit_ticks", credit.to_string()),
        set("stream.retained_ticks", RETAINED.to_string()),
        set("tuner.enabled", is_tuned.to_string()),
        set("tuner.window_ms", WINDOW_MS.to_string()),
        set("tuner.cool_down_ms", COOL_DOWN_MS.to_string()),
    ];
    let config = config_of(&RATES[0], 1);
    let config = match config.with_overrides(&overrides, &Kinds::default()) {
        Ok(config) => config,
        Err(problems) => panic!("{problems}"),
    };
    let ticks = Arc::clone(ticks);
    let open: OpenSource =
        Arc::new(move || Ok(Box::new(MemorySource::endless(Arc::clone(&ticks)))));
    let source = NodeSource::Readable(open);
    let arguments = NodeArguments::alone(config, vec![source], Store::in_memory());
    node::start(arguments).await.unwrap()
}

/// Rows that exec takes in a second, over `span`.
async fn rate(node: &Node, span: Duration) -> f64 {
    let before = node.report(PATIENCE).await.unwrap().risk.counts.rows;
    let begun = Instant::now();
    tokio::time::sleep(span).await;
    let after = node.report(PATIENCE).await.unwrap().risk.counts.rows;
    (after - before) as f64 / begun.elapsed().as_secs_f64()
}

async fn stop(node: Node) {
    node.supervisor.stop_and_wait(None, Some(PATIENCE)).await.unwrap();
}

async fn fixed(ticks: &Arc<Ticks>, batch: usize, credit: usize, span: Duration) -> f64 {
    let node = start(ticks, batch, credit, false).await;
    tokio::time::sleep(span / 4).await;
    let rate = rate(&node, span).await;
    stop(node).await;
    rate
}

/// What was tried, with rows per second in thousands and the tail of the latency in milliseconds, without and with.
fn line(decision: &Value) -> String {
    let of = |figures: &Value| {
        let [throughput, p99] = ["throughput", "p99_us"].map(|key| figures[key].as_f64());
        format!("{:.0}/s {:.1} ms", throughput.unwrap() / 1e3, p99.unwrap() / 1e3)
    };
    let changed = decision["changed"].as_array().unwrap().iter();
    let changed: Vec<String> =
        changed.map(|it| format!("{} {}>{}", it[0].as_str().unwrap(), it[1], it[2])).collect();
    let (without, with) = (of(&decision["without"]), of(&decision["with"]));
    let verdict = decision["verdict"].as_str().unwrap();
    format!("{:>5} {:<48} {without} > {with}: {verdict}", decision["window"], changed.join(", "))
}

/// What tuning came to.
struct Outcome {
    rate: f64,
    settings: Value,
    /// How trials ended, and how many.
    verdicts: BTreeMap<String, usize>,
    /// Each in a line.
    decisions: Vec<String>,
    p99_us: f64,
}

async fn tune(ticks: &Arc<Ticks>, batch: usize, credit: usize, span: Duration) -> Outcome {
    let node = start(ticks, batch, credit, true).await;
    tokio::time::sleep(span).await;
    let rate = rate(&node, Duration::from_secs(3)).await;
    let all = node.report(PATIENCE).await.unwrap().brokers;
    let latency = all.iter().fold(Histogram::new(), |mut all, broker| {
        all.merge(&broker.latency);
        all
    });
    let tuner = ActorRef::<TunerMessage>::from(node.directory.serving(ROLE).unwrap());
    let report = ractor::call_t!(tuner, TunerMessage::Report, 5_000).unwrap();
    let decisions = report["decisions"].as_array().unwrap();
    let mut verdicts = BTreeMap::new();
    for decision in decisions {
        *verdicts.entry(decision["verdict"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    let outcome = Outcome {
        rate,
        settings: report["settings"].clone(),
        verdicts,
        decisions: decisions.iter().map(line).collect(),
        p99_us: latency.quantile(990_000) as f64 / 1e3,
    };
    stop(node).await;
    outcome
}
