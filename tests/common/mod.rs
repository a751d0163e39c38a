//! What the integration tests share: runs in this process, runs as a process, and data to run over.

#![allow(unreachable_pub, reason = "a module of each test, not of a crate")]
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tickwright::kit::DiskFaults;
use tickwright::run::{Input, RunArguments, RunError, run};
use tickwright_core::backtest::report::RunReport;
use tickwright_core::config::{Chaos, Config, Kinds};

/// Longer than any run here takes, even on a busy machine; a hang is then a failure and not a wait.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Overrides as `--set` takes them.
pub type Overrides<'a> = &'a [(&'a str, &'a str)];

/// The default configuration under `overrides`.
pub fn config(overrides: &[(&str, &str)]) -> Config {
    let overrides: Vec<(String, String)> =
        overrides.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
    Config::default()
        .with_overrides(&overrides, &Kinds::default())
        .unwrap_or_else(|problems| panic!("{problems}"))
}

/// A run in this process.
#[derive(Clone, Debug)]
pub struct Case {
    pub overrides: Vec<(String, String)>,
    pub input: Input,
    pub chaos: String,
    pub disk: DiskFaults,
}

impl Case {
    /// A simulated market of `rows`, without a journal on disk.
    pub fn simulated(rows: u64) -> Self {
        Self::of(Input::Simulated).set("simulator.ticks", &rows.to_string())
    }

    /// Files, each a source, without a journal on disk.
    pub fn files(paths: &[PathBuf]) -> Self {
        Self::of(Input::Files(paths.to_vec()))
    }

    fn of(input: Input) -> Self {
        let case = Self {
            overrides: Vec::new(),
            input,
            chaos: String::new(),
            disk: DiskFaults::default(),
        };
        case.set("journal.enabled", "false")
    }

    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.overrides.retain(|(other, _)| other != key);
        self.overrides.push((key.to_owned(), value.to_owned()));
        self
    }

    #[must_use]
    pub fn set_all(self, overrides: Overrides<'_>) -> Self {
        overrides.iter().fold(self, |case, (key, value)| case.set(key, value))
    }

    /// With a journal in `directory`.
    #[must_use]
    pub fn journal(self, directory: &Path) -> Self {
        let directory = directory.to_str().unwrap().to_owned();
        self.set("journal.enabled", "true").set("node.data_dir", &directory)
    }

    #[must_use]
    pub fn chaos(mut self, specs: &str) -> Self {
        specs.clone_into(&mut self.chaos);
        self
    }

    pub fn config(&self) -> Config {
        let overrides: Vec<(&str, &str)> =
            self.overrides.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        config(&overrides)
    }

    pub fn arguments(&self) -> RunArguments {
        RunArguments {
            config: self.config(),
            kinds: Kinds::default(),
            input: self.input.clone(),
            faults: Chaos::parse(&self.chaos).unwrap_or_else(|problem| panic!("{problem}")),
            disk: self.disk,
            tools: None,
        }
    }

    /// Runs to the end, or to the error.
    pub fn try_run(&self) -> Result<RunReport, RunError> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.unwrap();
        let arguments = self.arguments();
        let config = arguments.config.clone();
        let ended = runtime
            .block_on(async { tokio::time::timeout(PATIENCE, run(arguments, |_| ())).await });
        runtime.shutdown_background();
        let Ok(ended) = ended else { panic!("no end within {PATIENCE:?}: {self:?}") };
        Ok(tickwright::outcome::report(&ended?, &config))
    }

    /// Runs to the end and checks every promise that holds for any run.
    pub fn run(&self) -> RunReport {
        let report = self.try_run().unwrap_or_else(|error| panic!("{error}\n{self:?}"));
        assert_sound(&report);
        report
    }

    /// Runs and expects the same as `expected` in all that matters.
    pub fn same_as(&self, expected: &RunReport) -> RunReport {
        let report = self.run();
        assert_eq!(essence(&report), essence(expected), "{self:?}");
        report
    }
}

/// What must hold for every run that trades at all.
pub fn assert_sound(report: &RunReport) {
    assert_eq!(report.violations(), [], "{:?}", report.chaos);
    assert_eq!(report.lost_ticks, 0);
    assert_eq!(report.duplicate_orders, 0);
    assert_eq!(report.ticks_in, report.ticks_clean + report.rejected_total());
    assert!(report.orders.placed > 0, "an equal digest over no orders proves nothing");
    assert!(report.fills > 0, "an equal digest over no fills proves nothing");
    assert!(report.orders.rejected.values().sum::<u64>() > 0, "nothing was ever denied");
    assert!(report.chaos.iter().all(|chaos| chaos.fired), "{:?}", report.chaos);
}

/// What two runs over the same data must have in common.
pub fn essence(report: &RunReport) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "digest {}", report.order_digest);
    let _ = writeln!(text, "in {} clean {}", report.ticks_in, report.ticks_clean);
    let _ = writeln!(text, "rejected {:?}", report.ticks_rejected);
    let _ = writeln!(text, "factors {} signals {}", report.factors, report.signals);
    let _ = writeln!(text, "orders {:?} fills {}", report.orders, report.fills);
    let _ = writeln!(text, "lost {} twice {}", report.lost_ticks, report.duplicate_orders);
    let _ = writeln!(text, "pnl {:?} fees {:?}", report.pnl, report.fees);
    let _ = writeln!(text, "positions {:?}", report.positions);
    text
}

/// The real market data, if it is there; otherwise says so.
pub fn market_data() -> Option<PathBuf> {
    let root = std::env::var_os("TICKWRIGHT_DATA").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
        PathBuf::from,
    );
    if root.join("MANIFEST.csv").is_file() {
        return Some(root);
    }
    eprintln!("SKIPPED: no market data at {}; set TICKWRIGHT_DATA", root.display());
    None
}

/// Removes everything from a directory but what is `kept`, and tells what.
pub fn wipe(directory: &Path, kept: impl Fn(&str) -> bool) -> Vec<String> {
    let mut gone = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if kept(&name) {
            continue;
        }
        if entry.path().is_dir() {
            std::fs::remove_dir_all(entry.path()).unwrap();
        } else {
            std::fs::remove_file(entry.path()).unwrap();
        }
        gone.push(name);
    }
    gone
}

/// The next number of splitmix64.
pub fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

pub const HEADER: &str =
    "ts_ns,symbol,kind,price,volume,bid1,ask1,bid_vol1,ask_vol1,recv_ns,cum_volume,flags\n";

/// Minutes of a price that swings about a level that wanders, so that there is something to find.
pub fn bars(scratch: &Scratch, minutes: u64) -> PathBuf {
    let mut text = "ts_ns,symbol,open,high,low,close,volume\n".to_owned();
    let (mut level, mut before, mut state) = (1_000.0_f64, 1_000.0_f64, 5);
    for minute in 1..=minutes {
        let noise = (draw(&mut state) % 1_000) as f64 / 1_000.0 - 0.5;
        level += noise * 0.6;
        let close = level + 8.0 * (minute as f64 / 19.0).sin();
        let (high, low) = (before.max(close) + 0.1, before.min(close) - 0.1);
        let end = 1_640_991_600_000_000_000 + minute * 60_000_000_000;
        writeln!(text, "{end},ABC-USD.TEST,{before:.2},{high:.2},{low:.2},{close:.2},900").unwrap();
        before = close;
    }
    scratch.file("bars.csv", text)
}

/// A market of quotes and trades as normalised CSV, over files whose rows alternate in time and share
/// a symbol.
pub fn csv_market(directory: &Path, files: usize, rows: usize, seed: u64) -> Vec<PathBuf> {
    let mut chance = seed;
    let mut texts = vec![HEADER.to_owned(); files];
    let mut middles = vec![[1_000_000i64; 4]; files];
    let mut now = 1_700_000_000_000_000_000u64;
    for row in 0..rows {
        let file = usize::try_from(draw(&mut chance) % files as u64).unwrap();
        // Now and then rows of several files have the same time.
        now += (draw(&mut chance) % 4) * 7_000_000;
        let which = usize::try_from(draw(&mut chance) % 4).unwrap();
        let middle = &mut middles[file][which];
        *middle += i64::try_from(draw(&mut chance) % 41).unwrap() - 20;
        *middle += if draw(&mut chance).is_multiple_of(50) { 400 } else { 0 };
        *middle -= if draw(&mut chance).is_multiple_of(50) { 400 } else { 0 };
        let symbol = if which == 0 { "SHARED".to_owned() } else { format!("F{file}S{which}") };
        let text = &mut texts[file];
        let size = draw(&mut chance) % 90 + 1;
        let price = |cents: i64| format!("{}.{:02}", cents / 100, cents % 100);
        let written = if row % 3 == 0 {
            let (bid, ask) = (price(*middle - 2), price(*middle + 3));
            let other = draw(&mut chance) % 90 + 1;
            writeln!(text, "{now},{symbol},quote,,,{bid},{ask},{size},{other},,,")
        } else {
            writeln!(text, "{now},{symbol},trade,{},{size},,,,,,,", price(*middle))
        };
        written.unwrap();
    }
    let write = |(file, text): (usize, &String)| {
        let path = directory.join(format!("market-{file}.csv"));
        std::fs::write(&path, text).unwrap();
        path
    };
    texts.iter().enumerate().map(write).collect()
}

/// A run of the program as a process, with its own data directory and report.
#[derive(Debug)]
pub struct Scratch {
    pub directory: tempfile::TempDir,
}

/// How a process ended and what it said.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("ended by a signal: {self:?}"))
    }

    /// The message of a command that was refused; it never looks like a defect of the program.
    pub fn refused(&self) -> &str {
        assert_eq!(self.code(), 2, "{self:?}");
        self.civil();
        &self.stderr
    }

    /// Nothing that a user sees may look like a crash.
    pub fn civil(&self) {
        for text in [&self.stderr, &self.stdout] {
            for words in ["panicked at", "RUST_BACKTRACE", "stack backtrace", "unwrap()"] {
                assert!(!text.contains(words), "{words} in: {self:?}");
            }
        }
    }
}

impl Scratch {
    pub fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    /// The program with `arguments`, its data directory and its report in here.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tickwright"));
        command.args(arguments);
        if matches!(arguments.first(), Some(&("run" | "demo"))) {
            command.arg("--data-dir").arg(self.path("data"));
            command.arg("--report").arg(self.path("report.json"));
        }
        command.env_remove("RUST_LOG").env_remove("RUST_BACKTRACE");
        command.stdin(Stdio::null());
        command
    }

    /// Runs the program to its end.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        finish(self.start(self.command(arguments)))
    }

    /// Runs the program over one file.
    pub fn run_file(&self, file: &Path, more: &[&str]) -> Ended {
        let file = file.to_str().unwrap();
        self.run(&[&["run", "--data", file][..], more].concat())
    }

    /// Starts a process whose output goes to files, so that no pipe can fill.
    pub fn start(&self, mut command: Command) -> Process {
        let stdout = self.path("stdout");
        let stderr = self.path("stderr");
        command.stdout(std::fs::File::create(&stdout).unwrap());
        command.stderr(std::fs::File::create(&stderr).unwrap());
        Process { child: command.spawn().unwrap(), stdout, stderr }
    }

    /// Begins a run and kills it when it has stored something and is not at its end.
    pub fn begin_and_kill(&self, arguments: &[&str]) {
        let mut process = self.start(self.command(arguments));
        let journal = self.path("data/journal/db");
        let deadline = Instant::now() + PATIENCE;
        while std::fs::metadata(&journal).map_or(0, |file| file.len()) == 0 {
            let ended = process.ends_within(Duration::from_millis(5));
            assert!(ended.is_none(), "{:?}", process.said());
            assert!(Instant::now() < deadline, "nothing was ever stored");
        }
        let early = process.ends_within(Duration::from_millis(20));
        assert!(early.is_none(), "the run is too short to be killed: {:?}", process.said());
        process.kill();
    }

    /// The report of the last run.
    pub fn report(&self) -> serde_json::Value {
        let text = std::fs::read_to_string(self.path("report.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }
}

/// A process that ends with the test at the latest.
#[derive(Debug)]
pub struct Process {
    pub child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Whether it ends by itself within `patience`.
    pub fn ends_within(&mut self, patience: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(status);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            std::thread::sleep(left.min(Duration::from_millis(2)));
        }
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn said(&self) -> (String, String) {
        let read = |path: &Path| {
            String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
        };
        (read(&self.stdout), read(&self.stderr))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has usually ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for the end of a process, which must come.
pub fn finish(mut process: Process) -> Ended {
    let status = process.ends_within(PATIENCE);
    let (stdout, stderr) = process.said();
    let Some(status) = status else { panic!("no end within {PATIENCE:?}: {stderr}") };
    Ended { status, stdout, stderr }
}

/// What two reports as JSON must have in common, as [`essence`].
pub fn json_essence(report: &serde_json::Value) -> Vec<(String, serde_json::Value)> {
    let keys = [
        "order_digest",
        "ticks_in",
        "ticks_clean",
        "ticks_rejected",
        "factors",
        "signals",
        "orders",
        "fills",
        "fees",
        "pnl",
        "positions",
        "lost_ticks",
        "duplicate_orders",
    ];
    keys.map(|key| (key.to_owned(), report[key].clone())).into()
}

/// In what all nodes have written, only one acts as coordinator in each term. They say so at the level
/// `tickwright=info`, without colours.
pub fn assert_one_coordinator_a_term(logs: impl IntoIterator<Item = String>, what: &str) {
    let mut acting: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    for log in logs {
        for line in log.lines().filter(|line| line.contains("acts as coordinator")) {
            let field = |name: &str| {
                let mut words = line.split_whitespace();
                words.find_map(|word| word.strip_prefix(name)).unwrap_or_else(|| panic!("{line}"))
            };
            let term = field("term=").parse().unwrap();
            acting.entry(term).or_default().insert(field("node=").to_owned());
        }
    }
    assert!(!acting.is_empty(), "nobody has said that it coordinates: {what}");
    assert!(acting.values().all(|nodes| nodes.len() == 1), "{what}: {acting:?}");
}

/// Trades and quotes of two symbols, with ids and times of their own; prices swing so that there are
/// orders.
pub fn frames(count: u64) -> Vec<String> {
    let (mut chance, mut now) = (7, 1_723_161_255_000u64);
    let mut prices = [6_183_700i64, 255_000];
    (1..=count)
        .map(|id| {
            now += draw(&mut chance) % 30;
            let which = usize::try_from(draw(&mut chance) % 2).unwrap();
            let symbol = ["BTCUSDT", "ETHUSDT"][which];
            let jump = if draw(&mut chance).is_multiple_of(40) { 900 } else { 0 };
            let swing = i64::try_from(draw(&mut chance) % 201).unwrap() - 100;
            let step = swing + if draw(&mut chance).is_multiple_of(2) { jump } else { -jump };
            prices[which] = (prices[which] + step).clamp(200_000, 7_000_000);
            let price = |cents: i64| format!("{}.{:02}", cents / 100, cents % 100);
            let (low, high) = (price(prices[which] - 5), price(prices[which] + 5));
            let data = if id % 3 == 0 {
                format!(
                    r#"{{"e":"trade","E":{now},"T":{now},"s":"{symbol}","t":{id},"p":"{low}","q":"0.500","X":"MARKET","m":true}}"#
                )
            } else {
                format!(
                    r#"{{"e":"bookTicker","u":{id},"s":"{symbol}","b":"{low}","B":"9.100","a":"{high}","A":"8.300","T":{now},"E":{now}}}"#
                )
            };
            let kind = if id % 3 == 0 { "trade" } else { "bookTicker" };
            let stream = symbol.to_lowercase();
            format!(r#"{{"stream":"{stream}@{kind}","data":{data}}}"#)
        })
        .collect()
}

/// Copies a directory of files and directories.
pub fn copy_directory(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_directory(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
