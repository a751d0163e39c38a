//! The plain loop over all cores gives the orders, fills and counts of the actor pipeline.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tickwright::kit::DiskFaults;
use tickwright::run::{Input, RunArguments, run};
use tickwright::source::simulated::SimulatedSource;
use tickwright::source::{Progress, Source, SourceOptions, open};
use tickwright_core::backtest::Backtest;
use tickwright_core::config::{Chaos, Config, Kinds};
use tickwright_core::domain::SourceId;
use tickwright_core::pipeline::ingest::{Ingester, IngesterConfig};

const PATIENCE: Duration = Duration::from_secs(120);

/// What two runs are compared by.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    digest: String,
    rows: u64,
    signals: u64,
    approved: u64,
    fills: u64,
    failovers: u64,
}

fn config(overrides: &[(&str, &str)]) -> Config {
    let overrides: Vec<(String, String)> =
        overrides.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
    Config::default()
        .with_overrides(&overrides, &Kinds::default())
        .unwrap_or_else(|problems| panic!("{problems}"))
}

fn of_pipeline(config: &Config, input: &Input) -> Answer {
    let off = [("journal.enabled".to_owned(), "false".to_owned())];
    let config = config.with_overrides(&off, &Kinds::default()).unwrap();
    let arguments = RunArguments {
        config,
        kinds: Kinds::default(),
        input: input.clone(),
        faults: Chaos::default(),
        disk: DiskFaults::default(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let run = async { tokio::time::timeout(PATIENCE, run(arguments, |_| ())).await };
    let report = runtime.block_on(run).expect("the run ends").unwrap().report;
    Answer {
        digest: report.positions.positions.digest().to_string(),
        rows: report.risk.counts.rows,
        signals: report.risk.counts.signals,
        approved: report.risk.counts.approved,
        fills: report.positions.positions.counters().fills,
        failovers: report.router.failovers,
    }
}

/// Reads whichever source is wanted, in blocks of `batch` rows.
fn of_backtest(config: &Config, input: &Input, batch: usize) -> Answer {
    let sources: Vec<Box<dyn Source>> = match input {
        Input::Files(paths) => {
            paths.iter().map(|path| open(path, &SourceOptions::default()).unwrap()).collect()
        }
        Input::Simulated => {
            vec![Box::new(SimulatedSource::new(config.simulator(), config.pipeline.seed))]
        }
        Input::Live(_) => unreachable!("not recorded"),
    };
    let instruments = Arc::new(config.instruments());
    let mut sources: Vec<(Box<dyn Source>, Ingester)> = (0..)
        .zip(sources)
        .map(|(index, source)| {
            let numbering = IngesterConfig {
                step: config.pipeline.window_step,
                window: config.pipeline.window,
                ..IngesterConfig::new(SourceId(index), Arc::clone(&instruments))
            };
            (source, Ingester::new(numbering))
        })
        .collect();
    let mut backtest = Backtest::new(config.backtest(&Kinds::default()), sources.len()).unwrap();
    while let Some(wanted) = backtest.wants() {
        let (source, ingester) = &mut sources[usize::from(wanted.0)];
        ingester.begin_batch(batch, 0);
        let progress = source.read(ingester, batch).unwrap();
        backtest.on_batch(&ingester.take_batch()).unwrap();
        if progress == Progress::Finished {
            backtest.finish(wanted);
        }
    }
    Answer {
        digest: backtest.positions().digest().to_string(),
        rows: backtest.rows(),
        signals: backtest.signals(),
        approved: backtest.checker().approved(),
        fills: backtest.positions().counters().fills,
        failovers: backtest.router().counters().failovers,
    }
}

fn assert_same(config: &Config, input: &Input) -> Answer {
    let expected = of_backtest(config, input, 256);
    assert!(expected.fills > 0, "equality over nothing proves nothing: {expected:?}");
    assert_eq!(of_backtest(config, input, 7), expected, "in other batches");
    assert_eq!(of_pipeline(config, input), expected, "by actors");
    expected
}

#[test]
fn over_the_simulated_market() {
    let config = config(&[("simulator.ticks", "60000")]);
    assert_same(&config, &Input::Simulated);
}

#[test]
fn with_brokers_that_refuse_time_out_and_fail_over() {
    let config = config(&[
        ("simulator.ticks", "60000"),
        ("broker.primary.refuse_per_million", "200000"),
        ("broker.primary.disconnect_per_million", "100000"),
        ("broker.primary.timeout_per_million", "100000"),
        ("broker.backup.refuse_per_million", "200000"),
        ("broker.backup.disconnect_per_million", "100000"),
    ]);
    let answer = assert_same(&config, &Input::Simulated);
    assert!(answer.failovers > 0, "{answer:?}");
    // Where the actors cut their blocks decides how far brokers are asked ahead, and nothing else.
    let small = config
        .with_overrides(&[("pipeline.batch_ticks".to_owned(), "3".to_owned())], &Kinds::default());
    assert_eq!(of_pipeline(&small.unwrap(), &Input::Simulated), answer);
}

#[test]
fn over_real_files_of_several_sources() {
    let root = std::env::var_os("TICKWRIGHT_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
        PathBuf::from,
    );
    let mut files: Vec<PathBuf> = std::fs::read_dir(root.join("ticks"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.to_string_lossy().ends_with(".csv.gz"))
        .collect();
    // The smallest, so that the test stays short.
    files.sort_by_key(|path| std::fs::metadata(path).map_or(0, |file| file.len()));
    files.truncate(3);
    if files.len() < 2 {
        println!("SKIPPED: no recorded ticks at {}; set TICKWRIGHT_DATA", root.display());
        return;
    }
    assert_same(&config(&[]), &Input::Files(files));
}
