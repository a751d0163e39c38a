//! The actor pipeline beside a plain loop over the same cores: the distance to the limit.
//!
//! `cargo bench --bench pipeline [-- --quick] [-- --rounds N] [-- --only TEXT]`
//!
//! One million rows of 64 bytes over 100 symbols lie in memory. Each line runs all of them through the
//! same ingester, cleaner, factors, strategies, risk, router, brokers and positions, under the same
//! configuration, in this process; lines take turns, and what is printed is the median of the rounds.
//! Every line must give the same orders and fills, or the bench panics.
//!
//! Latency is taken at a steady million rows a second: a block of 256 rows is due every 256 us, and
//! counts from then, whether or not the pipeline was ready for it, until each order that it led to
//! arrives at its broker. The source spins until a block is due.

#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![expect(clippy::cast_precision_loss, reason = "rates are for people")]

mod rows;

use std::sync::Arc;
use std::time::Instant;

use rows::source::{MemorySource, PACED_PER_SECOND, Pace};
use rows::{RATES, Rate, SYMBOLS, Ticks, config_of, median, run_node};
use tickwright::ingester::OpenSource;
use tickwright::kit::{Store, StoreOptions};
use tickwright::node::{NodeArguments, NodeSource};
use tickwright::source::{Progress, Source};
use tickwright_core::backtest::Backtest;
use tickwright_core::config::Kinds;
use tickwright_core::domain::{Histogram, SourceId, Tick};
use tickwright_core::pipeline::ingest::{Ingester, IngesterConfig};

/// Rows in a block where latency is measured.
const PACED_BATCH: usize = 256;

/// One way to run the rows.
#[derive(Clone, Copy, PartialEq)]
enum Line {
    Loop,
    Actors { batch: usize, journal: bool },
}

impl Line {
    fn all() -> Vec<Self> {
        let batches = [1, 16, 256, 4_096];
        let actors = |journal| batches.map(|batch| Self::Actors { batch, journal });
        [Self::Loop].into_iter().chain(actors(false)).chain(actors(true)).collect()
    }

    fn name(self) -> String {
        match self {
            Self::Loop => "core loop (the limit)".to_owned(),
            Self::Actors { batch, journal } => {
                let journal = if journal { "on" } else { "off" };
                format!("actors, batch {batch:>4}, journal {journal}")
            }
        }
    }
}

/// What a run came to.
struct Outcome {
    seconds: f64,
    rows: u64,
    signals: u64,
    orders: u64,
    digest: String,
    latency: Histogram,
}

fn main() {
    let options = Options::parse();
    let ticks = Arc::new(Ticks::make(options.rows));
    println!(
        "{} rows of {} bytes, {SYMBOLS} symbols, {} rounds, {} cores\n",
        ticks.rows.len(),
        size_of::<Tick>(),
        options.rounds,
        std::thread::available_parallelism().map_or(1, usize::from),
    );
    for rate in &RATES {
        throughput(&options, rate, &ticks);
    }
    for rate in &RATES {
        latency(&options, rate, &ticks);
    }
}

struct Options {
    rows: u64,
    rounds: usize,
    only: String,
}

impl Options {
    fn parse() -> Self {
        let mut options = Self { rows: 1_000_000, rounds: 5, only: String::new() };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => (options.rows, options.rounds) = (200_000, 3),
                "--rounds" => options.rounds = arguments.next().unwrap().parse().unwrap(),
                "--only" => options.only = arguments.next().unwrap(),
                // What cargo itself says.
                _ => {}
            }
        }
        options
    }
}

/// Prints every line's speed and its ratio to the core loop.
fn throughput(options: &Options, rate: &Rate, ticks: &Arc<Ticks>) {
    let lines: Vec<Line> = Line::all()
        .into_iter()
        .filter(|line| *line == Line::Loop || line.name().contains(&options.only))
        .collect();
    let mut seconds = vec![Vec::new(); lines.len()];
    let mut ratios = vec![Vec::new(); lines.len()];
    let mut expected: Option<Outcome> = None;
    for _ in 0..options.rounds {
        let mut limit = 0.0;
        for (index, line) in lines.iter().enumerate() {
            let outcome = match *line {
                Line::Loop => run_loop(rate, ticks),
                Line::Actors { batch, journal } => run_actors(rate, ticks, batch, journal, false),
            };
            if *line == Line::Loop {
                limit = outcome.seconds;
            }
            seconds[index].push(outcome.seconds);
            ratios[index].push(limit / outcome.seconds);
            let expected = expected.get_or_insert(Outcome { ..outcome_of(&outcome) });
            assert_eq!(outcome.digest, expected.digest, "{} trades otherwise", line.name());
        }
    }
    let expected = expected.unwrap();
    let share = |count: u64| 100.0 * count as f64 / expected.rows as f64;
    println!(
        "signals at {} of rows (measured {:.2} %; orders at {:.2} %; {} clean rows)",
        rate.name,
        share(expected.signals),
        share(expected.orders),
        expected.rows
    );
    println!("  {:<36} {:>9} {:>8} {:>8}", "", "Mrow/s", "ns/row", "ratio");
    for (index, line) in lines.iter().enumerate() {
        let median_seconds = median(&mut seconds[index]);
        let nanos = median_seconds * 1e9 / ticks.rows.len() as f64;
        println!(
            "  {:<36} {:>9.2} {:>8.0} {:>8.2}",
            line.name(),
            1e3 / nanos,
            nanos,
            median(&mut ratios[index])
        );
    }
    println!();
}

fn outcome_of(outcome: &Outcome) -> Outcome {
    Outcome { digest: outcome.digest.clone(), latency: Histogram::new(), ..*outcome }
}

/// Prints how long a block takes to its orders at a steady rate.
fn latency(options: &Options, rate: &Rate, ticks: &Arc<Ticks>) {
    if !"latency".contains(&options.only) {
        return;
    }
    for journal in [false, true] {
        let mut all = Histogram::new();
        for _ in 0..options.rounds {
            all.merge(&run_actors(rate, ticks, PACED_BATCH, journal, true).latency);
        }
        let micros = |per_million| all.quantile(per_million) as f64 / 1e3;
        println!(
            "latency at {PACED_PER_SECOND} rows/s in blocks of {PACED_BATCH}, signals at {}, \
             journal {}: p50 {:.1} us, p99 {:.1} us, p99.9 {:.1} us ({} orders)",
            rate.name,
            if journal { "on" } else { "off" },
            micros(500_000),
            micros(990_000),
            micros(999_000),
            all.count(),
        );
    }
}

fn run_loop(rate: &Rate, ticks: &Arc<Ticks>) -> Outcome {
    let config = config_of(rate, 256);
    let begun = Instant::now();
    let ingester_config = IngesterConfig {
        step: config.pipeline.window_step,
        window: config.pipeline.window,
        ..IngesterConfig::new(SourceId(0), Arc::new(config.instruments()))
    };
    let mut ingester = Ingester::new(ingester_config);
    let mut source = MemorySource::new(Arc::clone(ticks), None);
    let mut backtest = Backtest::new(config.backtest(&Kinds::default()), 1).unwrap();
    loop {
        ingester.begin_batch(config.pipeline.batch_ticks, 0);
        let progress = source.read(&mut ingester, config.pipeline.batch_ticks).unwrap();
        backtest.on_batch(&ingester.take_batch()).unwrap();
        if progress == Progress::Finished {
            break;
        }
    }
    backtest.finish(SourceId(0));
    Outcome {
        seconds: begun.elapsed().as_secs_f64(),
        rows: backtest.rows(),
        signals: backtest.signals(),
        orders: backtest.checker().approved(),
        digest: backtest.positions().digest().to_string(),
        latency: Histogram::new(),
    }
}

fn run_actors(
    rate: &Rate,
    ticks: &Arc<Ticks>,
    batch: usize,
    journal: bool,
    is_paced: bool,
) -> Outcome {
    let config = config_of(rate, batch);
    let directory = tempfile::tempdir().unwrap();
    let store = if journal {
        Store::open(directory.path(), StoreOptions::default()).unwrap().0
    } else {
        Store::in_memory()
    };
    let ticks = Arc::clone(ticks);
    let open: OpenSource = Arc::new(move || {
        let pace = is_paced.then(Pace::begin);
        Ok(Box::new(MemorySource::new(Arc::clone(&ticks), pace)))
    });
    let arguments = NodeArguments::alone(config, vec![NodeSource::Readable(open)], store);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (seconds, report) = runtime.block_on(run_node(arguments));
    Outcome {
        seconds,
        rows: report.risk.counts.rows,
        signals: report.risk.counts.signals,
        orders: report.risk.counts.approved,
        digest: report.positions.positions.digest().to_string(),
        latency: report.brokers.iter().fold(Histogram::new(), |mut all, broker| {
            all.merge(&broker.latency);
            all
        }),
    }
}
