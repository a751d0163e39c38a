//! The plain loop over all cores gives the orders, fills and counts of the actor pipeline.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tickwright::kit::DiskFaults;
use tickwright::outcome;
use tickwright::run::{Input, RunArguments, run};
use tickwright::source::simulated::SimulatedSource;
use tickwright::source::{Progress, Source, SourceOptions, open};
use tickwright_core::backtest::performance::SymbolPerformance;
use tickwright_core::backtest::report::EquityReport;
use tickwright_core::backtest::{Backtest, Recorder};
use tickwright_core::config::{Chaos, Config, Kinds};
use tickwright_core::domain::SourceId;
use tickwright_core::pipeline::ingest::{Ingester, IngesterConfig};

mod common;

const PATIENCE: Duration = Duration::from_secs(120);

/// What two runs are compared by.
#[derive(Debug, PartialEq)]
struct Answer {
    digest: String,
    rows: u64,
    signals: u64,
    approved: u64,
    fills: u64,
    failovers: u64,
    /// Of each currency, then of each symbol: to the last bit of every float.
    equity: BTreeMap<String, EquityReport>,
    symbols: Vec<SymbolPerformance>,
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
        config: config.clone(),
        kinds: Kinds::default(),
        input: input.clone(),
        faults: Chaos::default(),
        disk: DiskFaults::default(),
        tools: None,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let run = async { tokio::time::timeout(PATIENCE, run(arguments, |_| ())).await };
    let outcome = runtime.block_on(run).expect("the run ends").unwrap();
    let whole = outcome::report(&outcome, &config);
    let report = outcome.report;
    Answer {
        equity: whole.equity,
        symbols: whole.performance,
        digest: report.positions.positions.digest().to_string(),
        rows: report.risk.counts.rows,
        signals: report.risk.counts.signals,
        approved: report.risk.counts.approved,
        fills: report.positions.positions.counters().fills,
        failovers: report.router.failovers,
    }
}

/// The sources of `input`, each with what numbers its rows.
fn sources(config: &Config, input: &Input) -> Vec<(Box<dyn Source>, Ingester)> {
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
    let numbered = |(index, source)| {
        let numbering = IngesterConfig {
            step: config.pipeline.window_step,
            window: config.pipeline.window,
            ..IngesterConfig::new(SourceId(index), Arc::clone(&instruments))
        };
        (source, Ingester::new(numbering))
    };
    (0..).zip(sources).map(numbered).collect()
}

fn answer(backtest: &Backtest, config: &Config) -> Answer {
    let report = backtest.report(&config.account_terms());
    Answer {
        digest: report.order_digest,
        rows: backtest.rows(),
        signals: backtest.signals(),
        approved: report.orders.approved,
        fills: report.fills,
        failovers: report.failovers,
        equity: report.equity,
        symbols: report.performance,
    }
}

/// Reads whichever source is wanted, in blocks of `batch` rows.
fn of_backtest(config: &Config, input: &Input, batch: usize) -> Answer {
    let mut sources = sources(config, input);
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
    answer(&backtest, config)
}

/// The same of rows that were recorded first; and what their hash is.
fn of_recorded(config: &Config, input: &Input, batch: usize) -> (Answer, [u8; 32]) {
    let mut sources = sources(config, input);
    let settings = config.backtest(&Kinds::default());
    let mut recorder = Recorder::new(&settings.rules, sources.len(), u64::MAX);
    while let Some(wanted) = recorder.wants() {
        let (source, ingester) = &mut sources[usize::from(wanted.0)];
        ingester.begin_batch(batch, 0);
        let progress = source.read(ingester, batch).unwrap();
        recorder.on_batch(&ingester.take_batch()).unwrap();
        if progress == Progress::Finished {
            recorder.finish(wanted);
        }
    }
    let recorded = recorder.into_recorded();
    let backtest = Backtest::over(settings, &recorded, 0..recorded.rows()).unwrap();
    (answer(&backtest, config), *recorded.hash())
}

fn assert_same(config: &Config, input: &Input) -> Answer {
    let expected = of_backtest(config, input, 256);
    assert!(expected.fills > 0, "equality over nothing proves nothing: {expected:?}");
    assert_eq!(of_backtest(config, input, 7), expected, "in other batches");
    assert_eq!(of_pipeline(config, input), expected, "by actors");
    let (answer, hash) = of_recorded(config, input, 256);
    assert_eq!(answer, expected, "over recorded rows");
    assert_eq!(of_recorded(config, input, 7), (answer, hash), "recorded in other batches");
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
    let Some(root) = common::market_data() else { return };
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
    assert_same(&config(&[]), &Input::Files(files));
}

#[test]
fn over_recorded_bars() {
    let Some(root) = common::market_data() else { return };
    let files = ["btcperp_m1_2022-01_part1", "fx_gbpusd_m1_bidask_2012-02"];
    let files = files.map(|file| root.join("bars").join(format!("{file}.csv.gz")));
    let config = config(&[("account.main.cash.USD", "1000000")]);
    let answer = assert_same(&config, &Input::Files(files.to_vec()));
    let dollars = &answer.equity["USD"].performance;
    assert!(dollars.total_return.is_some() && dollars.sortino_annualised.is_some(), "{dollars:?}");
    assert!(dollars.exposure.is_some_and(|share| share > 0.0 && share <= 1.0), "{dollars:?}");
    assert_eq!(answer.symbols.len(), 2, "{:?}", answer.symbols);
}
