//! The program: from the command line to the exit code.
//!
//! A crate with strategies or factors of its own gets all of it by one line in its `main`:
//! `tickwright::program::main_with(kinds)`. `examples/own_strategy.rs` shows one.

mod runtime;
mod search;

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use tickwright_core::backtest::report::RunReport;
use tickwright_core::config::{Config, Kinds};
use tickwright_core::optimise::report::OptimiseReport;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tracing_subscriber::EnvFilter;

use crate::backtest::backtest;
use crate::certs::{CertsTask, certify};
use crate::cluster::{Tls, node_name};
use crate::cluster_node::{NodeTask, run_node};
use crate::command_line::{
    BacktestOptions, CertsCommand, CertsOptions, CommandLine, CompareTask, CtlCommand, CtlOptions,
    DatabaseCommand, DatabaseOptions, EXIT_BROKEN, EXIT_OK, EXIT_STOPPED, EXIT_USAGE,
    ExchangeOptions, NodeRun, ParameterCommand, Prepared, RunTask, SecretsKeyCommand, SetOptions,
    Task, TokensCommand, key_list,
};
use crate::compare::{CompareArguments, CompareError, compare};
use crate::config_sync::ConfigTask;
use crate::ctl::{self, CtlTarget, CtlTask, ParameterSetting};
use crate::exchange::{self, ExchangeSettings};
use crate::kit::{
    Clock, DiskFaults, KeyFileTask, SecretText, TokenHolder, TokenTask, read_token,
    see_to_key_file, see_to_tokens, token_of,
};
use crate::local_cluster::{
    LOOK, LocalClusterArguments, LocalClusterError, LocalClusterEvent, Purpose, run_nodes,
};
use crate::optimise::{AdoptionCall, adoption_role};
use crate::outcome;
use crate::records::tool::{self, DatabaseDone, DatabaseTask};
use crate::report::{
    FileText, Progress, ProgressSample, Style, search_summary, summary, write_html, write_json,
};
use crate::run::{Input, RunArguments, RunError, run_until};
use crate::source::{SourceOptions, inspect};
use crate::telemetry::Sample;

use runtime::{runtime, runtime_of};

/// Where `ctl` finds its token, if it is not in a file.
const TOKEN_VARIABLE: &str = "TICKWRIGHT_TOKEN";

/// Does what the command line asks for, with the strategies and factors that `kinds` holds; returns
/// what the process is to exit with.
pub fn main_with(kinds: Kinds) -> ExitCode {
    let command_line = CommandLine::parse();
    let prepared = match command_line.prepare(kinds.clone()) {
        Ok(prepared) => prepared,
        Err(refusal) => {
            eprintln!("{refusal}");
            return ExitCode::from(refusal.exit_code);
        }
    };
    let Prepared { config, json, task } = prepared;
    Clock::set_apart(config.node.clock_offset_ms);
    let of_environment = std::env::var(EnvFilter::DEFAULT_ENV).ok();
    let of_environment =
        of_environment.and_then(|log| EnvFilter::try_new(without_payloads(&log)).ok());
    let filter =
        of_environment.unwrap_or_else(|| EnvFilter::new(without_payloads(&config.telemetry.log)));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let code = match task {
        Task::Run(task) => run_pipeline(config, kinds, task, json),
        Task::Optimize(task) => search::search_parameters(config, kinds, *task, json),
        Task::Backtest(options) => run_backtest(&config, &kinds, &options, json),
        Task::CheckData(file) => check_data(&config, &file, json),
        Task::CheckedConfig(file) => {
            println!("{}: a sound configuration", file.display());
            EXIT_OK
        }
        Task::ListKeys => {
            print!("{}", key_list(json));
            EXIT_OK
        }
        Task::Node(run) => be_a_node(config, kinds, run),
        Task::Ctl(options) => ask_a_node(&config, options, json),
        Task::Database(options) => see_to_database(&config, options, json),
        Task::Certs(options) => make_certificates(options),
        Task::SecretsKey(command) => see_to_keys(command),
        Task::Tokens(command) => see_to_token_file(command),
        Task::Exchange(options) => be_an_exchange(&config, *options, json),
        Task::Compare(task) => compare_nodes(config, kinds, *task, json),
    };
    ExitCode::from(code)
}

/// What is to be logged, but never what nodes say to each other: at the level of debugging
/// `ractor_cluster` would print every message whole, and short of it warns of every link that ends.
/// `openraft` tells of every step, and calls every message to a node that is away an error.
fn without_payloads(log: &str) -> String {
    let is_at = |levels: &[&str]| log.split(',').any(|part| levels.contains(&part));
    let (ractor, raft) = if is_at(&["debug", "trace"]) {
        ("ractor_cluster=info", "openraft=warn")
    } else if is_at(&["warn", "info"]) {
        ("ractor_cluster=error", "openraft=error,openraft::replication=off,openraft::core=off")
    } else {
        return log.to_owned();
    };
    let mut filter = log.to_owned();
    for quiet in [ractor, raft] {
        let target = quiet.split('=').next().unwrap_or(quiet);
        if !log.contains(target) {
            filter.push(',');
            filter.push_str(quiet);
        }
    }
    filter
}

fn be_a_node(config: Config, kinds: Kinds, run: NodeRun) -> u8 {
    let NodeRun { chaos: faults, is_attached } = run;
    let runtime = match runtime_of(&config) {
        Ok(runtime) => runtime,
        Err(exit_code) => return exit_code,
    };
    let task = NodeTask { config, kinds, faults };
    let closed = if is_attached { Some(input_closed()) } else { None };
    // Nobody may listen any more; that is no reason to end otherwise than in order.
    let tell = |line: String| drop(writeln!(std::io::stderr(), "{line}"));
    match runtime.block_on(run_node(&task, stop_or(closed), tell)) {
        Ok(()) => EXIT_OK,
        Err(error) => {
            eprintln!("{error}");
            EXIT_USAGE
        }
    }
}

fn ask_a_node(config: &Config, options: CtlOptions, json: bool) -> u8 {
    let CtlOptions { node, on, timeout_ms, token_file, command } = options;
    let mut is_csv = false;
    let task = match command {
        CtlCommand::Status => CtlTask::Status,
        CtlCommand::Members => CtlTask::Members,
        CtlCommand::Roles => CtlTask::Roles,
        CtlCommand::Shards => CtlTask::Shards,
        CtlCommand::Locks => CtlTask::Locks,
        CtlCommand::Config(command) => match command.task(crate::ctl::user()) {
            Ok(ConfigTask::Ask(call)) => CtlTask::Config(call),
            Ok(ConfigTask::File(task)) => CtlTask::ConfigFile(task, crate::ctl::user()),
            Ok(ConfigTask::Secret(task)) => CtlTask::Secret(task, config.secrets.clone()),
            Err(problem) => {
                eprintln!("{problem}");
                return EXIT_USAGE;
            }
        },
        CtlCommand::Tree => CtlTask::Tree,
        CtlCommand::Streams => CtlTask::Streams,
        CtlCommand::Tuner => CtlTask::Tuner,
        CtlCommand::Optimise => CtlTask::Optimise,
        CtlCommand::Adoption => CtlTask::Adoption,
        CtlCommand::Alerts => CtlTask::Alerts,
        CtlCommand::Adopt { name, reject, by } => {
            let call = match reject {
                true => AdoptionCall::Reject { by },
                false => AdoptionCall::Confirm { by, hold: None },
            };
            let body = serde_json::to_string(&call).unwrap_or_default();
            CtlTask::Ask { role: adoption_role(&name), body }
        }
        CtlCommand::Drain { name, undo, no_wait } => {
            CtlTask::Drain { node: name, undo, waits: !no_wait }
        }
        CtlCommand::Promote { name, undo: _ } => CtlTask::Promote { node: name },
        CtlCommand::KillActor { actor } => CtlTask::KillActor { actor },
        CtlCommand::Kill { what, reason } => CtlTask::Kill { what, reason },
        CtlCommand::Rearm { what, reason } => CtlTask::Rearm { what, reason },
        CtlCommand::Switches => CtlTask::Switches,
        CtlCommand::Parameters(ParameterCommand::Get) => CtlTask::Parameters,
        CtlCommand::Parameters(ParameterCommand::Set(options)) => {
            let SetOptions { strategy, parameters: given, at, why } = options;
            let mut parameters = BTreeMap::new();
            for (name, value) in given {
                if parameters.insert(name.clone(), value).is_some() {
                    eprintln!("{name} is given twice; say each parameter once");
                    return EXIT_USAGE;
                }
            }
            CtlTask::SetParameters(ParameterSetting { strategy, parameters, at, why })
        }
        CtlCommand::Reconcile { adopt } => CtlTask::Reconcile { adopt },
        CtlCommand::Release { client_id, there, not_there: _ } => {
            CtlTask::Release { client_id, is_there: there }
        }
        CtlCommand::Db { retry, discard } => CtlTask::Database { retry, discard },
        CtlCommand::Records(command) => {
            let (question, csv) = command.question();
            is_csv = csv;
            CtlTask::Records(question)
        }
        CtlCommand::Ask(message) => CtlTask::Ask { role: message.role, body: message.body },
        CtlCommand::Tell(message) => CtlTask::Tell { role: message.role, body: message.body },
    };
    let tls = match config.cluster.tls.as_ref().map(Tls::open) {
        None => None,
        Some(Ok(tls)) => Some((tls.client(), node_name())),
        Some(Err(error)) => {
            eprintln!("{error}");
            return EXIT_USAGE;
        }
    };
    let token = match own_token(token_file.as_deref()) {
        Ok(token) => token,
        Err(problem) => {
            eprintln!("{problem}");
            return EXIT_USAGE;
        }
    };
    let scheme = if tls.is_some() { "https" } else { "http" };
    let address = config.node.http_bind.as_deref().unwrap_or("127.0.0.1:7480");
    let url = node.unwrap_or_else(|| format!("{scheme}://{address}"));
    let target = CtlTarget { url, on, patience: timeout_ms, tls, token };
    let answer = match ctl::ask(&task, &target) {
        Ok(answer) => answer,
        Err(error) => {
            eprintln!("{error}");
            return EXIT_USAGE;
        }
    };
    if json {
        println!("{answer}");
    } else if is_csv {
        print!("{}", tool::csv(&answer));
    } else {
        print!("{}", ctl::text(&task, &answer));
    }
    // A chain of writes in which somebody has changed or removed one.
    if answer["first_broken"].is_u64() { EXIT_BROKEN } else { EXIT_OK }
}

/// The token in `file`, or in the environment; none, if there is none.
fn own_token(file: Option<&Path>) -> Result<Option<SecretText>, String> {
    if let Some(file) = file {
        return read_token(file).map(Some).map_err(|error| error.to_string());
    }
    let Some(given) = std::env::var_os(TOKEN_VARIABLE).filter(|given| !given.is_empty()) else {
        return Ok(None);
    };
    let token = given.to_str().and_then(token_of);
    let problem = || format!("{TOKEN_VARIABLE} is no token as `tickwright tokens new` shows it");
    token.map(Some).ok_or_else(problem)
}

fn see_to_database(config: &Config, options: DatabaseOptions, json: bool) -> u8 {
    let mut is_csv = false;
    let task = match options.command {
        DatabaseCommand::Migrate => DatabaseTask::Migrate,
        DatabaseCommand::Flush => DatabaseTask::Flush,
        DatabaseCommand::Aside => DatabaseTask::Aside,
        DatabaseCommand::Retry => DatabaseTask::Retry,
        DatabaseCommand::Discard { id } => DatabaseTask::Discard(id),
        DatabaseCommand::Copy { from, to } => {
            DatabaseTask::Copy { from: from.reveal().into(), to: to.reveal().into() }
        }
        DatabaseCommand::Ask(command) => {
            let (question, csv) = command.question();
            is_csv = csv;
            DatabaseTask::Ask(question)
        }
    };
    let runtime = match runtime_of(config) {
        Ok(runtime) => runtime,
        Err(exit_code) => return exit_code,
    };
    match runtime.block_on(tool::run(config, task)) {
        Ok(DatabaseDone::Told(text)) => println!("{text}"),
        Ok(DatabaseDone::Found(answer)) if json => println!("{answer}"),
        Ok(DatabaseDone::Found(answer)) if is_csv => print!("{}", tool::csv(&answer)),
        Ok(DatabaseDone::Found(answer)) => print!("{}", tool::table(&answer)),
        Err(error) => {
            eprintln!("{error}");
            return EXIT_USAGE;
        }
    }
    EXIT_OK
}

fn make_certificates(options: CertsOptions) -> u8 {
    let CertsOptions { dir, days, command } = options;
    let task = match command {
        CertsCommand::Init => CertsTask::Init,
        CertsCommand::Node { name } => CertsTask::Node(name),
        CertsCommand::Tool { name } => CertsTask::Tool(name),
        CertsCommand::Rotate => CertsTask::Rotate,
        CertsCommand::Retire => CertsTask::Retire,
    };
    match certify(&task, &dir, days, &Clock::system()) {
        Ok(told) => {
            print!("{told}");
            EXIT_OK
        }
        Err(error) => {
            eprintln!("{error}");
            EXIT_USAGE
        }
    }
}

fn see_to_keys(command: SecretsKeyCommand) -> u8 {
    let (task, file) = match command {
        SecretsKeyCommand::New { file } => (KeyFileTask::New, file),
        SecretsKeyCommand::Add { file } => (KeyFileTask::Add, file),
        SecretsKeyCommand::Remove { file, key } => (KeyFileTask::Remove(key), file),
        SecretsKeyCommand::List { file } => (KeyFileTask::List, file),
    };
    match see_to_key_file(&task, &file) {
        Ok(told) => {
            print!("{told}");
            EXIT_OK
        }
        Err(error) => {
            eprintln!("{error}");
            EXIT_USAGE
        }
    }
}

fn see_to_token_file(command: TokensCommand) -> u8 {
    let (task, file) = match command {
        TokensCommand::New { name, role, file } => {
            (TokenTask::New(TokenHolder { name, role }), file)
        }
        TokensCommand::List { file } => (TokenTask::List, file),
        TokensCommand::Remove { name, file } => (TokenTask::Remove(name), file),
    };
    match see_to_tokens(&task, &file) {
        Ok(told) => {
            // Apart, so that a token alone can be written to a file.
            print!("{}", told.shown.reveal());
            eprint!("{}", told.note);
            EXIT_OK
        }
        Err(error) => {
            eprintln!("{error}");
            EXIT_USAGE
        }
    }
}

fn be_an_exchange(config: &Config, options: ExchangeOptions, json: bool) -> u8 {
    if let Some(path) = options.judge {
        return match exchange::judge(&path) {
            Ok((verdict, found)) => {
                if found.torn_bytes > 0 {
                    let bytes = found.torn_bytes;
                    eprintln!("the last line is torn: {bytes} bytes that nobody was told of");
                }
                if json {
                    let text = serde_json::to_string_pretty(&verdict);
                    println!("{}", text.expect("every key is text"));
                } else {
                    print!("{verdict}");
                }
                if verdict.accepted_more_than_once > 0 { EXIT_BROKEN } else { EXIT_OK }
            }
            Err(error) => {
                eprintln!("{error}");
                EXIT_USAGE
            }
        };
    }
    let settings = ExchangeSettings {
        listen: options.listen,
        allow_remote: options.allow_remote,
        accounts: options.account.iter().map(|text| text.reveal().into()).collect(),
        keys: options.keys,
        symbols: options.symbols,
        balances: options.balance,
        log: options.log,
        seed: config.pipeline.seed,
        step: options.step_ms,
        data: options.data,
        speed: options.speed,
        capabilities: options.capability,
        faults: options.fault,
        bounds: options.bounds.into(),
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(exit_code) => return exit_code,
    };
    // Whoever started it may have stopped reading.
    let ready = |line| {
        let mut out = std::io::stdout().lock();
        drop(writeln!(out, "{line}").and_then(|()| out.flush()));
    };
    let ran = runtime.block_on(exchange::run_exchange(settings, ready, stop(None)));
    // Requests that wait on command are not waited for.
    runtime.shutdown_background();
    match ran {
        Ok(()) => EXIT_OK,
        Err(error) => {
            eprintln!("{error}");
            EXIT_USAGE
        }
    }
}

fn run_pipeline(config: Config, kinds: Kinds, task: RunTask, json: bool) -> u8 {
    let (report_file, html) = (task.report.clone(), task.html.clone());
    let bytes: u64 = task
        .data
        .iter()
        .filter_map(|path| std::fs::metadata(path).ok())
        .map(|file| file.len())
        .sum();
    let shown = (!json).then(|| Progress::new(std::io::stderr().is_terminal(), bytes));
    let runtime = match runtime_of(&config) {
        Ok(runtime) => runtime,
        Err(exit_code) => return exit_code,
    };
    let mut found = None;
    let report = if task.nodes > 1 {
        runtime.block_on(run_on_nodes(config, kinds, task, shown, &mut found))
    } else {
        runtime.block_on(run_here(config, kinds, task, shown))
    };
    match report {
        Ok(report) => {
            let code = conclude(&report, report_file.as_deref(), html.as_deref(), json);
            if let Some(found) = found.filter(|_| !json) {
                print!("\n{}", search_summary(&found, &[], Style::of_stdout()));
            }
            code
        }
        Err(code) => code,
    }
}

fn run_backtest(config: &Config, kinds: &Kinds, options: &BacktestOptions, json: bool) -> u8 {
    match backtest(config, kinds, &options.data) {
        Ok(report) => conclude(&report, options.report.as_deref(), options.html.as_deref(), json),
        Err(error) => {
            eprintln!("{error}");
            EXIT_USAGE
        }
    }
}

/// Compares one node with several, and says how long that will take before it begins.
fn compare_nodes(config: Config, kinds: Kinds, task: CompareTask, json: bool) -> u8 {
    let CompareTask { plan, config_text, overrides, report } = task;
    let runtime = match runtime_of(&config) {
        Ok(runtime) => runtime,
        Err(exit_code) => return exit_code,
    };
    let (at_least, at_most) = plan.time();
    eprintln!(
        "{} runs, rows come for {} in each: about {}, at most {} where loads are not sustained",
        plan.len(),
        time_text(plan.duration()),
        time_text(at_least),
        time_text(at_most)
    );
    let arguments = CompareArguments { plan, config, config_text, overrides, kinds };
    let tell = |line: &str| eprintln!("{line}");
    let comparison = match runtime.block_on(compare(&arguments, tell, stop(None))) {
        Ok(comparison) => comparison,
        Err(error) => {
            eprintln!("{error}");
            let is_stopped = matches!(error, CompareError::Stopped { .. });
            return if is_stopped { EXIT_STOPPED } else { EXIT_USAGE };
        }
    };
    let mut text = serde_json::to_string_pretty(&comparison).expect("every key is text");
    text.push('\n');
    if let Some(path) = report
        && let Err(error) = std::fs::write(&path, &text)
    {
        eprintln!("cannot write the report to `{}`: {error}", path.display());
        return EXIT_USAGE;
    }
    if json {
        print!("{text}")
    } else {
        print!("{comparison}")
    }
    for broken in comparison.broken() {
        eprintln!("broken: {broken}");
    }
    if !comparison.broken().is_empty() {
        return EXIT_BROKEN;
    }
    // They are in the table.
    if comparison.failures().next().is_some() { EXIT_USAGE } else { EXIT_OK }
}

/// `10 h 45 min`, `4 min`, `90 s`.
fn time_text(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds.div_ceil(60)),
        seconds => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
    }
}

/// Runs the pipeline in this process.
async fn run_here(
    config: Config,
    kinds: Kinds,
    task: RunTask,
    mut shown: Option<Progress>,
) -> Result<RunReport, u8> {
    let RunTask { data, live, listen_for, chaos, tools, .. } = task;
    let input = match live {
        Some(live) => Input::Live(*live),
        None if data.is_empty() => Input::Simulated,
        None => Input::Files(data),
    };
    let arguments = RunArguments {
        config: config.clone(),
        kinds,
        input,
        faults: chaos,
        disk: DiskFaults::default(),
        tools,
    };
    let show = |sample: &Sample| {
        if let Some(shown) = &mut shown {
            shown.update(&progress_sample(sample));
        }
    };
    let outcome = run_until(arguments, show, stop_by(signals(), listen_for)).await;
    if let Some(shown) = shown {
        shown.finish();
    }
    match outcome {
        Ok(outcome) => {
            if let Some(unrecorded) = &outcome.unrecorded {
                eprintln!("{unrecorded}");
            }
            if let Some(path) = &outcome.set_aside {
                let path = path.display();
                eprintln!("a damaged journal was moved to {path}; the run began anew");
            }
            Ok(outcome::report(&outcome, &config))
        }
        Err(error) => {
            eprintln!("{error}");
            let is_stopped = matches!(error, RunError::Stopped { .. });
            Err(if is_stopped { EXIT_STOPPED } else { EXIT_USAGE })
        }
    }
}

/// Runs the pipeline in several processes on this machine.
async fn run_on_nodes(
    config: Config,
    kinds: Kinds,
    task: RunTask,
    mut shown: Option<Progress>,
    found: &mut Option<Box<OptimiseReport>>,
) -> Result<RunReport, u8> {
    let RunTask { data, live, listen_for, chaos, nodes, config_file, overrides, .. } = task;
    let purpose = match (&live, task.optimize) {
        (Some(_), _) => Purpose::Live,
        (None, false) => Purpose::Run,
        (None, true) => Purpose::Loop(search::middle(&config, kinds, data.clone()).await?),
    };
    let (faults, look) = (chaos, LOOK);
    let arguments = LocalClusterArguments {
        nodes,
        config,
        config_file,
        overrides,
        data,
        purpose,
        faults,
        look,
    };
    let show = |event: LocalClusterEvent| match (&mut shown, event) {
        (Some(shown), LocalClusterEvent::Progress(sample)) => {
            shown.update(&progress_sample(&sample));
        }
        (_, LocalClusterEvent::Found(report)) => *found = Some(report),
        (Some(shown), LocalClusterEvent::Line(line)) => shown.line(&line),
        (_, LocalClusterEvent::Started { .. }) | (None, _) => {}
    };
    let report = run_nodes(arguments, show, stop_by(signals(), listen_for)).await;
    if let Some(shown) = shown {
        shown.finish();
    }
    report.map_err(|error| {
        eprintln!("{error}");
        let is_stopped = matches!(error, LocalClusterError::Stopped);
        if is_stopped { EXIT_STOPPED } else { EXIT_USAGE }
    })
}

fn progress_sample(sample: &Sample) -> ProgressSample {
    ProgressSample { bytes: sample.bytes, rows: sample.rows, orders: sample.orders }
}

/// Writes the report, tells what it says, and whether the promises were kept.
fn conclude(report: &RunReport, report_file: Option<&Path>, html: Option<&Path>, json: bool) -> u8 {
    let mut files: Vec<(&str, &Path)> = Vec::new();
    if let Some(path) = report_file {
        if let Err(error) = write_json(report, path) {
            eprintln!("{error}");
            return EXIT_USAGE;
        }
        files.push(("report", path));
    }
    if let Some(path) = html {
        if let Err(error) = write_html(report, path) {
            eprintln!("{error}");
            return EXIT_USAGE;
        }
        files.push(("page", path));
    }
    if json {
        print!("{}", report.to_json());
    } else {
        print!("{}", summary(report, &files, Style::of_stdout()));
    }
    let violations = report.violations();
    for violation in &violations {
        eprintln!("broken: {violation}");
    }
    if violations.is_empty() { EXIT_OK } else { EXIT_BROKEN }
}

/// Waits until standard input is closed: whoever started this process is gone.
fn input_closed() -> oneshot::Receiver<()> {
    let (closed, receiver) = oneshot::channel();
    std::thread::spawn(move || {
        // What is said there is for nobody; an error is an end as well.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        let _ = closed.send(());
    });
    receiver
}

/// Ctrl-C, and the signal by which services are stopped: caught from now on.
fn signals() -> std::io::Result<[Signal; 2]> {
    Ok([signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?])
}

/// Waits for either.
async fn interrupted(signals: std::io::Result<[Signal; 2]>) -> std::io::Result<()> {
    let [mut pressed, mut terminated] = signals?;
    tokio::select! {
        _ = pressed.recv() => Ok(()),
        _ = terminated.recv() => Ok(()),
    }
}

/// Waits for Ctrl-C, or for `closed`.
async fn stop_or(closed: Option<oneshot::Receiver<()>>) {
    match closed {
        None => stop(None).await,
        Some(closed) => tokio::select! {
            () = stop(None) => {}
            _ = closed => {}
        },
    }
}

/// Waits for Ctrl-C or SIGTERM, or until `span` is over. From then on either ends the process at once.
async fn stop(span: Option<Duration>) {
    stop_by(signals(), span).await;
}

/// The same for signals that have been caught since before the work began.
async fn stop_by(signals: std::io::Result<[Signal; 2]>, span: Option<Duration>) {
    let is_over = async {
        match span {
            Some(span) => tokio::time::sleep(span).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        interrupted = interrupted(signals) => match interrupted {
            Ok(()) => eprintln!("stopping in order; Ctrl-C again ends at once"),
            Err(error) => {
                tracing::warn!(%error, "Ctrl-C cannot be waited for");
                std::future::pending().await
            }
        },
        () = is_over => {}
    }
    tokio::spawn(async {
        if interrupted(self::signals()).await.is_ok() {
            std::process::exit(i32::from(EXIT_STOPPED));
        }
    });
}

fn check_data(config: &Config, file: &Path, json: bool) -> u8 {
    let options = SourceOptions { strict: config.pipeline.strict, ..SourceOptions::default() };
    match inspect(file, &options, config.instruments().into()) {
        Ok(found) => {
            if json {
                match serde_json::to_string_pretty(&found) {
                    Ok(text) => println!("{text}"),
                    Err(error) => eprintln!("{error}"),
                }
            } else {
                print!("{}", FileText(&found));
            }
            if found.counters.malformed > 0 { EXIT_USAGE } else { EXIT_OK }
        }
        Err(error) => {
            eprintln!("{error}");
            EXIT_USAGE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nodes_say_to_each_other_is_never_logged_unless_asked_for() {
        for (log, expected) in [
            ("debug", "debug,ractor_cluster=info,openraft=warn"),
            (
                "warn,tickwright=debug",
                "warn,tickwright=debug,ractor_cluster=error,openraft=error,\
                 openraft::replication=off,openraft::core=off",
            ),
            ("off", "off"),
            ("info,ractor_cluster=debug,openraft=info", "info,ractor_cluster=debug,openraft=info"),
        ] {
            assert_eq!(without_payloads(log), expected);
        }
    }
}
