//! The plain loop over all cores gives the orders, fills and counts of the actor pipeline.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tickwright::kit::DiskFaults;
use tickwright::outcome;
use tickwright::records::{Database, DatabaseSettings, DatabaseUrl};
use tickwright::run::{Input, RunArguments, run};
use tickwright::source::simulated::SimulatedSource;
use tickwright::source::{Progress, Source, SourceOptions, open};
use tickwright_core::backtest::performance::SymbolPerformance;
use tickwright_core::backtest::report::EquityReport;
use tickwright_core::backtest::{Backtest, Recorder};
use tickwright_core::config::{Chaos, Config, Kinds};
use tickwright_core::domain::{SourceId, Timestamp};
use tickwright_core::pipeline::ingest::{Ingester, IngesterConfig};
use tickwright_core::records::{Day, Row, Table, Value};

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

/// As users call it, over files with a bad row: the report is that of `run`, the bad row in it with its line, and the
/// page is there.
#[test]
fn the_command_says_what_a_run_says() {
    let scratch = common::Scratch::new();
    let mut files = common::csv_market(&scratch.path(""), 2, 3_000, 11);
    let bad = 1_700_000_000_000_000_000_u64;
    let text = std::fs::read_to_string(&files[1]).unwrap();
    let text = text.replacen('\n', &format!("\n{bad},F1S1,trade,dear,1,,,,,,,\n"), 1);
    files[1] = scratch.file("with_a_bad_row.csv", text);
    let names: Vec<&str> = files.iter().map(|file| file.to_str().unwrap()).collect();
    let data = [&["--data"][..], &names].concat();

    let ran = scratch.run(&[&["run"][..], &data].concat());
    assert_eq!(ran.code(), 0, "{ran:?}");
    let (told, page) = (scratch.path("told.json"), scratch.path("told.html"));
    let place = ["--report", told.to_str().unwrap(), "--html", page.to_str().unwrap()];
    let ended = scratch.run(&[&["backtest"][..], &data, &place].concat());
    assert_eq!(ended.code(), 0, "{ended:?}");
    ended.civil();

    let (run, backtest) = (scratch.report(), std::fs::read_to_string(told).unwrap());
    let backtest: serde_json::Value = serde_json::from_str(&backtest).unwrap();
    assert_eq!(common::json_essence(&backtest), common::json_essence(&run));
    for of in ["equity", "performance", "sources"] {
        assert!(!run[of].is_null(), "{of}: {run:#}");
        assert_eq!(backtest[of], run[of], "{of}");
    }
    let malformed = &backtest["sources"][1]["malformed_rows"][0];
    assert_eq!(
        (&malformed["line"], &malformed["column"]),
        (&2.into(), &"price".into()),
        "{malformed}"
    );
    assert!(backtest["fills"].as_u64() > Some(0), "{:#}", backtest["orders"]);
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains(run["order_digest"].as_str().unwrap()) && !page.contains("src=\"http"));

    let strict = scratch.run(&[&["backtest", "--strict"][..], &data].concat());
    let refused = strict.refused();
    assert!(refused.contains("with_a_bad_row.csv") && refused.contains("line 2"), "{refused}");
}

/// What one symbol's fills come to, reckoned from their text by average cost, and by nothing of the program's.
#[derive(Debug, Default)]
struct ByHand {
    held: f64,
    average: f64,
    /// Of the last fill.
    price: f64,
    realised: f64,
    won: Vec<f64>,
    lost: Vec<f64>,
    ties: usize,
    turnover: f64,
}

impl ByHand {
    fn fill(&mut self, quantity: f64, price: f64) {
        self.price = price;
        self.turnover += quantity.abs() * price;
        if self.held * quantity >= 0.0 {
            let cost = self.average * self.held.abs() + price * quantity.abs();
            self.held += quantity;
            self.average = cost / self.held.abs();
            return;
        }
        let closed = quantity.abs().min(self.held.abs());
        let earned = (price - self.average) * closed * self.held.signum();
        self.realised += earned;
        match earned {
            earned if earned.abs() < 1e-9 => self.ties += 1,
            earned if earned > 0.0 => self.won.push(earned),
            earned => self.lost.push(-earned),
        }
        let before = self.held;
        self.held += quantity;
        if before * self.held < 0.0 {
            self.average = price;
        }
    }
}

/// Whether the report's number is what was reckoned.
fn is_near(found: &serde_json::Value, expected: f64) -> bool {
    let found = found.as_f64().or_else(|| found.as_str()?.parse().ok());
    found.is_some_and(|found| (found - expected).abs() <= 1e-6 * (1.0 + expected.abs()))
}

fn text(row: &Row, name: &str) -> String {
    match &row.values[row.table.place(name).unwrap()] {
        Value::Text(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        other @ (Value::Null | Value::Float(_)) => panic!("{name}: {other:?}"),
    }
}

fn number(row: &Row, name: &str) -> f64 {
    text(row, name).parse().unwrap()
}

fn whole(row: &Row, name: &str) -> u64 {
    text(row, name).parse().unwrap()
}

/// What was bought, less what was sold.
fn signed(fill: &Row) -> f64 {
    let sign = if text(fill, "side") == "buy" { 1.0 } else { -1.0 };
    sign * number(fill, "quantity")
}

/// Fills and clean rows of that day that a run has recorded, each in the order in which they happened.
fn recorded(url: &str, day: Day) -> (Vec<Row>, Vec<Row>) {
    let settings = DatabaseSettings {
        url: DatabaseUrl::parse(url).unwrap(),
        connections_max: 1,
        timeout: PATIENCE,
        days_max: 2,
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (mut fills, mut ticks) = runtime.block_on(async {
        let database = Database::open(settings).await.unwrap();
        let fills = database.page(Table::Fills, None, 1_000_000).await.unwrap();
        (fills, database.page(Table::Ticks(day), None, 1_000_000).await.unwrap())
    });
    fills.sort_by_key(|row| whole(row, "number"));
    ticks.sort_by_key(|row| ["time_ns", "source", "sequence"].map(|name| whole(row, name)));
    (fills, ticks)
}

/// What each symbol was worth just before `until`: its last trade, or the middle of its book while it had none.
fn marks(ticks: &[Row], until: u64) -> BTreeMap<String, f64> {
    let (mut traded, mut quoted) = (BTreeMap::new(), BTreeMap::new());
    for row in ticks.iter().filter(|row| whole(row, "time_ns") < until) {
        if text(row, "kind") == "trade" {
            traded.insert(text(row, "symbol"), number(row, "price"));
        } else {
            let middle = (number(row, "bid") + number(row, "ask")) / 2.0;
            quoted.insert(text(row, "symbol"), middle);
        }
    }
    quoted.extend(traded);
    quoted
}

/// What was held at the end of each window step from the first fill on, reckoned by hand.
#[derive(Debug, Default)]
struct HeldByHand {
    /// Of all symbols together, long and short alike.
    gross: Vec<f64>,
    /// The most of each symbol, long or short.
    most: BTreeMap<String, f64>,
    /// How often a symbol was held short at a step.
    shorts: usize,
}

impl HeldByHand {
    fn of(fills: &[Row], ticks: &[Row], steps: impl Iterator<Item = u64>) -> Self {
        let mut this = Self::default();
        for step in steps {
            let mut held = BTreeMap::<String, f64>::new();
            for fill in fills.iter().filter(|fill| whole(fill, "time_ns") <= step) {
                *held.entry(text(fill, "symbol")).or_default() += signed(fill);
            }
            if held.is_empty() {
                continue;
            }
            let marks = marks(ticks, step);
            let mut gross = 0.0;
            for (symbol, held) in held {
                let worth = held.abs() * marks[&symbol];
                gross += worth;
                this.shorts += usize::from(held < -1e-9);
                let most = this.most.entry(symbol).or_default();
                *most = most.max(worth);
            }
            this.gross.push(gross);
        }
        this
    }

    fn gross_max(&self) -> f64 {
        self.gross.iter().copied().fold(0.0, f64::max)
    }
}

/// When the first and the last row of `files` happened.
fn times(files: &[PathBuf]) -> (u64, u64) {
    let times = files.iter().flat_map(|file| {
        let text = std::fs::read_to_string(file).unwrap();
        let time = |line: &str| line.split(',').next().unwrap().parse::<u64>().unwrap();
        text.lines().skip(1).map(time).collect::<Vec<u64>>()
    });
    let times: Vec<u64> = times.collect();
    (*times.iter().min().unwrap(), *times.iter().max().unwrap())
}

/// Win rate, profit factor, turnover, profit and exposure in a report are those of the fills and rows that the same
/// run has recorded.
#[test]
fn what_a_run_reports_is_what_its_recorded_fills_come_to() {
    let scratch = common::Scratch::new();
    let files = common::csv_market(&scratch.path(""), 2, 12_000, 12);
    let names: Vec<&str> = files.iter().map(|file| file.to_str().unwrap()).collect();
    let url = format!("sqlite:{}", scratch.path("records.sqlite").display());
    let database = format!("database.url={url}");
    let more = ["--set", "database.kind=sqlite", "--set", &database];
    let also = ["--set", "database.ticks=true", "--set", "account.main.cash.USD=1000000"];
    let ended = scratch.run(&[&["run", "--data"][..], &names, &more, &also].concat());
    assert_eq!(ended.code(), 0, "{ended:?}");
    let report = scratch.report();

    let (first, last) = times(&files);
    let (fills, ticks) = recorded(&url, Day::of(Timestamp::from_nanos(last)));
    assert_eq!(report["fills"].as_u64(), Some(fills.len() as u64));
    assert_eq!(report["ticks_clean"].as_u64(), Some(ticks.len() as u64));
    assert!(fills.len() > 100, "{}", fills.len());
    let (mut by_symbol, mut fees) = (BTreeMap::<String, ByHand>::new(), 0.0);
    for row in &fills {
        fees += number(row, "fee");
        let symbol = by_symbol.entry(text(row, "symbol")).or_default();
        symbol.fill(signed(row), number(row, "price"));
        assert!((symbol.held - number(row, "position")).abs() < 1e-9, "{row:?}: {symbol:?}");
    }
    let step = u64::try_from(config(&[]).pipeline.window_step.as_nanos()).unwrap();
    let steps = first / step + 1..=last / step;
    let held = HeldByHand::of(&fills, &ticks, steps.map(|at| at * step));
    assert!(held.gross.len() > 3 && held.shorts > 0, "{held:?}");

    assert_eq!(report["performance"].as_array().unwrap().len(), by_symbol.len());
    for of_symbol in report["performance"].as_array().unwrap() {
        let symbol = of_symbol["symbol"].as_str().unwrap();
        let hand = &by_symbol[symbol];
        let found = &of_symbol["performance"];
        let closed = hand.won.len() + hand.lost.len() + hand.ties;
        let earned: f64 = hand.won.iter().sum();
        assert_eq!(found["trades_closed"].as_u64(), Some(closed as u64), "{of_symbol} {hand:?}");
        assert!(
            is_near(&found["win_rate"], hand.won.len() as f64 / closed as f64),
            "{of_symbol} {hand:?}"
        );
        assert!(
            is_near(&found["profit_factor"], earned / hand.lost.iter().sum::<f64>()),
            "{of_symbol} {hand:?}"
        );
        assert!(is_near(&found["turnover"], hand.turnover), "{of_symbol} {hand:?}");
        let most = held.most.get(symbol).copied().unwrap_or_default();
        assert!(is_near(&found["exposure_max"], most), "{of_symbol} {held:?}");
    }
    let realised: f64 = by_symbol.values().map(|hand| hand.realised).sum();
    assert!(is_near(&report["pnl"]["USD"]["realised"], realised), "{realised}: {}", report["pnl"]);
    assert!(is_near(&report["fees"]["USD"], fees), "{fees}: {}", report["fees"]);
    let marks = marks(&ticks, last / step * step);
    let open = by_symbol.iter().map(|(symbol, hand)| {
        let mark = marks.get(symbol).copied().unwrap_or(hand.price);
        hand.held * (mark - hand.average)
    });
    let net = realised + open.sum::<f64>() - fees;
    let all = &report["equity"]["USD"]["performance"];
    assert!(is_near(&all["net"], net), "{net}: {all}");
    assert!(is_near(&all["total_return"], net / 1_000_000.0), "{net}: {all}");
    let gross_max = held.gross_max();
    assert!(is_near(&all["exposure_max"], gross_max), "{gross_max}: {all}");
    let gross_mean = held.gross.iter().sum::<f64>() / held.gross.len() as f64;
    assert!(is_near(&all["exposure_mean"], gross_mean), "{gross_mean}: {all}");
    assert!(is_near(&all["profit_rate"], net / gross_max), "{net} of {gross_max}: {all}");
    let turnover = by_symbol.values().map(|hand| hand.turnover).sum();
    assert!(is_near(&all["turnover"], turnover), "{turnover}: {all}");
}
