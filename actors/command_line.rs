//! What a user types, turned into a configuration and a task, or into everything that is wrong.
//!
//! ```text
//! arguments ─▶ CommandLine ─▶ prepare ─┬▶ Prepared { config, task }
//!                                      └▶ Refusal { problems, exit code }
//! ```
//!
//! Options that have a key in `cluster.toml` are short for `--set`, so that there is one list of
//! rules for them. Only the configuration file is opened here; data files are the task's business.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use tickwright_core::compare::Plan;
use tickwright_core::config::{Chaos, Config, ConfigInput, Kinds, keys};

use crate::source::live::LiveConfig;

mod cluster;
mod compare;
mod config;
mod database;
mod exchange;
mod optimise;
mod parameters;
#[cfg(test)]
mod tests;

pub use cluster::{
    CertsCommand, CertsOptions, CtlCommand, CtlOptions, MessageOptions, NodeOptions,
    SecretsKeyCommand, TokensCommand,
};
pub use compare::CompareOptions;
pub use config::{ConfigCommand, PlaceOptions};
pub use database::{DatabaseCommand, DatabaseOptions, FilterOptions, RecordsCommand};
pub use exchange::{ExchangeOptions, HiddenText};
pub use optimise::{BacktestOptions, OptimizeOptions, SearchTask};
pub use parameters::{ParameterCommand, SetOptions};

/// The run did what it should.
pub const EXIT_OK: u8 = 0;
/// An invariant is broken: a lost tick, a duplicate order, an injected fault that never struck.
pub const EXIT_BROKEN: u8 = 1;
/// Usage, configuration or data.
pub const EXIT_USAGE: u8 = 2;
/// Stopped by Ctrl-C before the end of the data; the same command goes on from there.
pub const EXIT_STOPPED: u8 = 130;

/// Largest configuration file that is read, in bytes; beyond it the file is something else.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Runs trading pipelines from ticks to orders, and survives.
#[derive(Clone, Debug, Parser)]
#[command(name = "tickwright", version, arg_required_else_help = true, max_term_width = 100)]
pub struct CommandLine {
    /// Options of every command.
    #[command(flatten)]
    pub global: GlobalOptions,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Args, Clone, Debug, Default)]
pub struct GlobalOptions {
    /// Configuration laid over the built-in one; needs only what differs
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Override one key of the configuration; may be given often
    #[arg(long, value_name = "KEY=VALUE", global = true)]
    pub set: Vec<String>,
    /// Where journals and checkpoints are [short for --set node.data_dir=DIR]
    #[arg(long, value_name = "DIR", global = true)]
    pub data_dir: Option<String>,
    /// What all randomness is drawn from [short for --set pipeline.seed=N]
    #[arg(long, value_name = "N", allow_negative_numbers = true, global = true)]
    pub seed: Option<String>,
    /// Print tables as JSON
    #[arg(long, global = true)]
    pub json: bool,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run the pipeline on a simulated market, or on files, and show what it can do
    Demo(RunOptions),
    /// Run the pipeline on files, or on a live feed
    Run(RunOptions),
    /// Check a configuration or a data file, or list the keys of the configuration
    Check(CheckOptions),
    /// Join a cluster, and stay until Ctrl-C
    Node(NodeOptions),
    /// Ask or tell a running node, and through it any other
    Ctl(CtlOptions),
    /// Look things up in the database, bring it up to date, or copy it
    Db(DatabaseOptions),
    /// Make certificates for nodes and tools
    Certs(CertsOptions),
    /// Make and see to a file of keys for the secrets of the shared configuration
    #[command(subcommand)]
    SecretsKey(SecretsKeyCommand),
    /// Make and see to a file of tokens, by which nodes know who asks
    #[command(subcommand)]
    Tokens(TokensCommand),
    /// Be a simulated exchange that writes down what it accepts, or read what one has written
    Exchange(Box<ExchangeOptions>),
    /// Run the cores over recorded ticks or bars in one loop, and say how well they traded
    Backtest(BacktestOptions),
    /// Search for better parameters of a strategy over recorded ticks or bars
    Optimize(OptimizeOptions),
    /// Measure one node against several under growing loads
    Compare(CompareOptions),
}

/// Options of `demo` and `run`.
#[derive(Args, Clone, Debug, Default)]
pub struct RunOptions {
    /// Data files, one or more; several are merged by time
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub data: Vec<PathBuf>,
    /// Listen to a venue, until Ctrl-C [short for --set live.url=URL]
    #[arg(long, value_name = "URL", conflicts_with = "data")]
    pub live: Option<String>,
    /// What to hear from it: btcusdt@trade,btcusdt@bookTicker [short for --set live.streams=...]
    #[arg(long, value_name = "STREAM,...", value_delimiter = ',', conflicts_with = "data")]
    pub streams: Vec<String>,
    /// Stop listening after so long: 90s, 15m, 8h
    #[arg(long = "for", value_name = "SPAN", value_parser = parse_span, conflicts_with = "data")]
    pub listen_for: Option<Duration>,
    /// Processes to run on this machine
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub nodes: u16,
    /// Search for better parameters on the first half of the rows, and trade the second half with them
    #[arg(long, conflicts_with_all = ["live", "listen_for"])]
    pub optimize: bool,
    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Write the report as a page to look at
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Let tools see and change parameters while this process runs, as `ctl parameters --node http://ADDRESS`
    #[arg(long, value_name = "ADDRESS")]
    pub tools: Option<String>,
    /// Inject faults: panic:ACTOR@N, ...
    #[arg(long, value_name = "SPEC,...")]
    pub chaos: Vec<String>,
    /// max, real, or a multiple such as 10x [short for --set pipeline.speed=SPEED]
    #[arg(long, value_name = "SPEED")]
    pub speed: Option<String>,
    /// Stop at the first bad row [short for --set pipeline.strict=true]
    #[arg(long)]
    pub strict: bool,
    /// Rows to simulate [short for --set simulator.ticks=N]
    #[arg(long, value_name = "N", allow_negative_numbers = true, conflicts_with = "data")]
    pub ticks: Option<String>,
    /// Symbols to simulate [short for --set simulator.symbols=N]
    #[arg(long, value_name = "N", allow_negative_numbers = true, conflicts_with = "data")]
    pub symbols: Option<String>,
}

/// Options of `check`.
#[derive(Args, Clone, Debug, Default)]
pub struct CheckOptions {
    /// A configuration (*.toml) or a data file
    #[arg(value_name = "FILE", required_unless_present = "keys")]
    pub file: Option<PathBuf>,
    /// List every key of the configuration
    #[arg(long)]
    pub keys: bool,
}

/// A command that can be carried out.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// How.
    pub config: Config,
    /// Whether tables are to be JSON.
    pub json: bool,
    /// What.
    pub task: Task,
}

/// What is to be carried out.
#[derive(Clone, Debug)]
pub enum Task {
    /// Run the pipeline.
    Run(RunTask),
    /// Run the cores over recorded data.
    Backtest(BacktestOptions),
    /// Search for better parameters.
    Optimize(Box<SearchTask>),
    /// Say whether a data file is sound.
    CheckData(PathBuf),
    /// Say that this configuration file is sound: it has been read.
    CheckedConfig(PathBuf),
    /// List the keys of the configuration.
    ListKeys,
    /// Be a member of a cluster.
    Node(NodeRun),
    /// Ask a running node.
    Ctl(CtlOptions),
    /// See to the database.
    Database(DatabaseOptions),
    /// Make certificates.
    Certs(CertsOptions),
    /// See to a file of keys.
    SecretsKey(SecretsKeyCommand),
    /// See to a file of tokens.
    Tokens(TokensCommand),
    /// Be an exchange, or judge what one has written.
    Exchange(Box<ExchangeOptions>),
    /// Compare one node with several.
    Compare(Box<CompareTask>),
}

/// A comparison of one node with several.
#[derive(Clone, Debug)]
pub struct CompareTask {
    /// The runs.
    pub plan: Plan,
    /// The text of the configuration's file.
    pub config_text: Option<String>,
    /// What was laid over it: keys and values.
    pub overrides: Vec<(String, String)>,
    /// Where to write what was measured as JSON.
    pub report: Option<PathBuf>,
}

/// A member of a cluster.
#[derive(Clone, Debug)]
pub struct NodeRun {
    /// Faults to inject.
    pub chaos: Chaos,
    /// Whether it ends when standard input is closed.
    pub is_attached: bool,
}

/// A run of the pipeline.
#[derive(Clone, Debug)]
pub struct RunTask {
    /// Whether it is a demonstration.
    pub is_demo: bool,
    /// The files; none at all is a venue if one is given, else the simulated market.
    pub data: Vec<PathBuf>,
    /// The venue to listen to.
    pub live: Option<Box<LiveConfig>>,
    /// How long to listen; none is until Ctrl-C.
    pub listen_for: Option<Duration>,
    /// Where to write the report as JSON.
    pub report: Option<PathBuf>,
    /// Where to write the report as a page.
    pub html: Option<PathBuf>,
    /// Faults to inject.
    pub chaos: Chaos,
    /// Processes on this machine.
    pub nodes: u16,
    /// Whether parameters are searched for on the first half, and adopted for the second.
    pub optimize: bool,
    /// Where tools are let in, if it is one process.
    pub tools: Option<String>,
    /// The configuration's file.
    pub config_file: Option<PathBuf>,
    /// What was laid over it: keys and values.
    pub overrides: Vec<(String, String)>,
}

/// Why a command cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Everything that is wrong, each with what to do.
    pub problems: Vec<String>,
    /// What the process ends with.
    pub exit_code: u8,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("\n"))
    }
}

impl std::error::Error for Refusal {}

impl Refusal {
    fn usage(problems: Vec<String>) -> Self {
        Self { problems, exit_code: EXIT_USAGE }
    }
}

impl CommandLine {
    /// Reads the configuration and checks everything that was asked for. `kinds` are the strategies
    /// and factors that can be named.
    ///
    /// # Errors
    ///
    /// Everything that is wrong, at once.
    pub fn prepare(self, kinds: Kinds) -> Result<Prepared, Refusal> {
        let Self { global, command } = self;
        match command {
            Command::Demo(options) => prepare_run(&global, options, true, kinds),
            Command::Run(options) => prepare_run(&global, options, false, kinds),
            Command::Check(options) => prepare_check(&global, options, kinds),
            Command::Node(options) => prepare_node(&global, options, kinds),
            Command::Ctl(options) => prepare_other(&global, &[], Task::Ctl(options), kinds),
            Command::Db(options) => prepare_other(&global, &[], Task::Database(options), kinds),
            Command::Certs(options) => prepare_other(&global, &[], Task::Certs(options), kinds),
            Command::SecretsKey(command) => {
                prepare_other(&global, &[], Task::SecretsKey(command), kinds)
            }
            Command::Tokens(command) => prepare_other(&global, &[], Task::Tokens(command), kinds),
            Command::Exchange(options) => {
                prepare_other(&global, &[], Task::Exchange(options), kinds)
            }
            Command::Backtest(options) => {
                let strict = options.strict.then(|| "true".to_owned());
                let short_for = [("pipeline.strict", strict)];
                prepare_other(&global, &short_for, Task::Backtest(options), kinds)
            }
            Command::Optimize(options) => prepare_optimize(&global, options, kinds),
            Command::Compare(options) => prepare_compare(&global, options, kinds),
        }
    }
}

fn prepare_run(
    global: &GlobalOptions,
    options: RunOptions,
    is_demo: bool,
    kinds: Kinds,
) -> Result<Prepared, Refusal> {
    let mut problems = Vec::new();
    let chaos = Chaos::parse(&options.chaos.join(",")).unwrap_or_else(|wrong| {
        problems.extend(wrong.0);
        Chaos::default()
    });
    let is_given = !options.data.is_empty() || options.live.is_some();
    let short_for = [
        ("pipeline.speed", options.speed),
        ("pipeline.strict", options.strict.then(|| "true".to_owned())),
        ("simulator.ticks", options.ticks),
        ("simulator.symbols", options.symbols),
        ("live.url", options.live),
        ("live.streams", (!options.streams.is_empty()).then(|| options.streams.join(","))),
    ];
    let config = load(global, global.config.as_deref(), &short_for, kinds, &mut problems);
    let live = config.as_ref().filter(|_| options.data.is_empty()).and_then(LiveConfig::of);
    if !is_given && live.is_none() && !is_demo {
        problems.push(
            "run needs data: --data FILE..., or --live URL; `tickwright demo` runs on a simulated \
             market"
                .into(),
        );
    }
    if options.listen_for.is_some() && live.is_none() && config.is_some() {
        problems.push("--for is how long to listen: it needs --live URL".into());
    }
    if let Some(Err(error)) = live.as_ref().map(LiveConfig::address) {
        problems.push(error.to_string());
    }
    let Some(config) = config.filter(|_| problems.is_empty()) else {
        return Err(Refusal::usage(problems));
    };
    if let Some(spec) = chaos.specs.iter().find(|spec| spec.needs_nodes() && live.is_some()) {
        return Err(Refusal::usage(vec![format!(
            "--chaos {spec} strikes at a share of the input, and a venue has no end"
        )]));
    }
    if let Some(spec) = chaos.specs.iter().find(|spec| spec.needs_nodes() && options.nodes == 1) {
        return Err(Refusal::usage(vec![format!("--chaos {spec} needs --nodes N")]));
    }
    if options.optimize && (options.nodes == 1 || live.is_some()) {
        let told =
            "--optimize searches beside the run: it needs --nodes 2 or more, and data that ends";
        return Err(Refusal::usage(vec![told.into()]));
    }
    if options.tools.is_some() && options.nodes > 1 {
        let problem =
            "--tools is for one process; `tickwright node` lets tools in by node.http_bind";
        return Err(Refusal::usage(vec![problem.into()]));
    }
    let overrides = overrides(global, &short_for, &mut problems);
    let RunOptions { data, report, html, listen_for, nodes, optimize, tools, .. } = options;
    let live = live.map(Box::new);
    let config_file = global.config.clone();
    let task = RunTask {
        is_demo,
        data,
        live,
        listen_for,
        report,
        html,
        chaos,
        nodes,
        optimize,
        tools,
        config_file,
        overrides,
    };
    let task = Task::Run(task);
    Ok(Prepared { config, json: global.json, task })
}

/// The span that `90s`, `15m` or `8h` means.
fn parse_span(text: &str) -> Result<Duration, String> {
    let wrong = || "is not a span such as 90s, 15m or 8h".to_owned();
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3_600,
        Some(_) | None => return Err(wrong()),
    };
    let number: u32 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    if number == 0 { Err(wrong()) } else { Ok(Duration::from_secs(u64::from(number) * unit)) }
}

fn prepare_node(
    global: &GlobalOptions,
    options: NodeOptions,
    kinds: Kinds,
) -> Result<Prepared, Refusal> {
    let chaos = Chaos::parse(&options.chaos.join(","));
    let chaos = chaos.map_err(|wrong| Refusal::usage(wrong.0))?;
    let task = Task::Node(NodeRun { chaos, is_attached: options.attached });
    prepare_other(global, &[("node.name", options.name)], task, kinds)
}

fn prepare_compare(
    global: &GlobalOptions,
    options: CompareOptions,
    kinds: Kinds,
) -> Result<Prepared, Refusal> {
    let mut problems = Vec::new();
    let config = load(global, global.config.as_deref(), &[], kinds, &mut problems);
    let config_text = global.config.as_deref().map(read).transpose();
    let (Some(config), Ok(config_text)) = (config, config_text) else {
        return Err(Refusal::usage(problems));
    };
    let overrides = overrides(global, &[], &mut problems);
    let plan = options.plan();
    let task = CompareTask { plan, config_text, overrides, report: options.report };
    Ok(Prepared { config, json: global.json, task: Task::Compare(Box::new(task)) })
}

fn prepare_optimize(
    global: &GlobalOptions,
    options: OptimizeOptions,
    kinds: Kinds,
) -> Result<Prepared, Refusal> {
    let short_for = [
        ("optimise.strategy", options.strategy.clone()),
        ("optimise.max_explorations", options.trials.clone()),
        ("optimise.search", options.search.clone()),
        ("optimise.time_max_s", options.time.map(|span| span.as_secs().to_string())),
        ("optimise.workers", options.workers.clone()),
        ("pipeline.strict", options.strict.then(|| "true".to_owned())),
    ];
    // What is wrong with them is said with the rest.
    let overrides = overrides(global, &short_for, &mut Vec::new());
    let task = SearchTask { options, config_file: global.config.clone(), overrides };
    prepare_other(global, &short_for, Task::Optimize(Box::new(task)), kinds)
}

/// A task that needs nothing but a sound configuration.
fn prepare_other(
    global: &GlobalOptions,
    short_for: &[(&str, Option<String>)],
    task: Task,
    kinds: Kinds,
) -> Result<Prepared, Refusal> {
    let mut problems = Vec::new();
    match load(global, global.config.as_deref(), short_for, kinds, &mut problems) {
        Some(config) if problems.is_empty() => Ok(Prepared { config, json: global.json, task }),
        Some(_) | None => Err(Refusal::usage(problems)),
    }
}

fn prepare_check(
    global: &GlobalOptions,
    options: CheckOptions,
    kinds: Kinds,
) -> Result<Prepared, Refusal> {
    let is_config = |file: &Path| file.extension().is_some_and(|extension| extension == "toml");
    let (task, config_file) = match options.file {
        Some(file) if !options.keys => {
            if is_config(&file) {
                (Task::CheckedConfig(file.clone()), Some(file))
            } else {
                (Task::CheckData(file), global.config.clone())
            }
        }
        Some(_) | None => (Task::ListKeys, global.config.clone()),
    };
    let mut problems = Vec::new();
    match load(global, config_file.as_deref(), &[], kinds, &mut problems) {
        Some(config) if problems.is_empty() => Ok(Prepared { config, json: global.json, task }),
        Some(_) | None => Err(Refusal::usage(problems)),
    }
}

/// The configuration of `file` under the options; none when there are problems, which are added.
fn load(
    global: &GlobalOptions,
    file: Option<&Path>,
    short_for: &[(&str, Option<String>)],
    kinds: Kinds,
    problems: &mut Vec<String>,
) -> Option<Config> {
    let overrides = overrides(global, short_for, problems);
    let text = match file.map(|file| (file.display().to_string(), read(file))) {
        None => None,
        Some((name, Ok(text))) => Some((name, text)),
        Some((name, Err(problem))) => {
            problems.push(format!("{name}: {problem}"));
            None
        }
    };
    let input = ConfigInput {
        file: text.as_ref().map(|(name, text)| (name.as_str(), text.as_str())),
        overrides: &overrides,
        kinds,
    };
    match Config::load(&input) {
        Ok(config) => Some(config),
        Err(wrong) => {
            problems.extend(wrong.0.iter().map(ToString::to_string));
            None
        }
    }
}

/// What is laid over the configuration: keys and values.
fn overrides(
    global: &GlobalOptions,
    short_for: &[(&str, Option<String>)],
    problems: &mut Vec<String>,
) -> Vec<(String, String)> {
    let mut overrides = Vec::new();
    for set in &global.set {
        match set.split_once('=') {
            Some((key, value)) => overrides.push((key.trim().to_owned(), value.trim().to_owned())),
            None => problems.push(format!("--set {set}: has no value; write it as KEY=VALUE")),
        }
    }
    let common =
        [("node.data_dir", global.data_dir.clone()), ("pipeline.seed", global.seed.clone())];
    for (key, value) in common.iter().chain(short_for) {
        overrides.extend(value.clone().map(|value| ((*key).to_owned(), value)));
    }
    overrides
}

/// The text of a configuration file, or why it cannot be had.
fn read(file: &Path) -> Result<String, String> {
    let cannot = |error: std::io::Error| {
        format!("cannot be read: {error}; name a file of keys as in cluster.toml")
    };
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(file).map_err(cannot)?;
    opened.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > CONFIG_BYTES_MAX) {
        return Err(format!("is larger than {CONFIG_BYTES_MAX} bytes; is it a configuration?"));
    }
    String::from_utf8(bytes).map_err(|error| {
        format!("is not text (byte {}); save it as UTF-8", error.utf8_error().valid_up_to())
    })
}

/// Every key of the configuration, as a table for people or as JSON.
pub fn key_list(json: bool) -> String {
    if json {
        let keys: Vec<serde_json::Value> = keys()
            .into_iter()
            .map(|key| {
                serde_json::json!({
                    "key": key.path,
                    "expects": key.expects,
                    "example": key.example,
                    "changes_answer": key.changes_answer,
                    "about": key.about,
                })
            })
            .collect();
        return serde_json::Value::Array(keys).to_string();
    }
    let lines = keys().into_iter().map(|key| {
        let about =
            if key.about.is_empty() { String::new() } else { format!("\n    {}", key.about) };
        format!("{} = {}\n    {}{about}\n", key.path, key.example, key.expects)
    });
    // What the annotated file marks, in words.
    lines
        .collect::<String>()
        .replace(" _operational_", " (Changes no answer.)")
        .replace(" _live_", " (May change while nodes run.)")
}
