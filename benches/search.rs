//! The search for parameters: two nodes beside one, and what coordination alone allows beside Optuna.
//!
//! `cargo bench --bench search [-- --quick] [-- --only TEXT]`
//!
//! All are real processes on this machine with one thread each that evaluates; this program is `tickwright`
//! when it is started as one. *Evaluation* takes trials over a simulated market of many rows.
//! *Coordination* takes a market of a few rows, so that hardly anything is evaluated: a trial is then
//! numbered, journaled, told to the other node, and counted once. Optuna does the same with an objective
//! that returns at once, by its random sampler, with two processes over one SQLite file, and over one
//! journal file.

#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use tickwright_core::config::Kinds;
use tickwright_core::optimise::report::OptimiseReport;

/// Two processes share one study; what is printed is trials, seconds.
const OPTUNA: &str = r#"
import multiprocessing, sys, time
import optuna
optuna.logging.set_verbosity(optuna.logging.ERROR)
kind, path, trials = sys.argv[1], sys.argv[2], int(sys.argv[3])

def storage():
    if kind == "sqlite":
        return f"sqlite:///{path}"
    backend = optuna.storages.journal.JournalFileBackend(path)
    return optuna.storages.JournalStorage(backend)

def work(seed):
    sampler = optuna.samplers.RandomSampler(seed=seed)
    study = optuna.load_study(study_name="bench", storage=storage(), sampler=sampler)
    study.optimize(lambda t: t.suggest_float("a", 0, 1) + t.suggest_int("b", 1, 100), n_trials=trials // 2)

if __name__ == "__main__":
    optuna.create_study(study_name="bench", storage=storage())
    begun = time.monotonic()
    workers = [multiprocessing.Process(target=work, args=(seed,)) for seed in (1, 2)]
    for worker in workers: worker.start()
    for worker in workers: worker.join()
    seconds = time.monotonic() - begun
    done = len(optuna.load_study(study_name="bench", storage=storage()).trials)
    print(done, seconds)
"#;

/// What a search came to.
struct Searched {
    trials: u64,
    per_second: f64,
}

fn main() -> ExitCode {
    if matches!(std::env::args().nth(1).as_deref(), Some("node" | "optimize")) {
        return tickwright::program::main_with(Kinds::default());
    }
    let arguments: Vec<String> = std::env::args().collect();
    let is_quick = arguments.iter().any(|argument| argument == "--quick");
    let only = arguments.iter().position(|argument| argument == "--only");
    let only = only.and_then(|at| arguments.get(at + 1)).map_or("", String::as_str);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{cores} processors, shared by all processes\n");
    if "evaluation".contains(only) {
        evaluation(if is_quick { 100 } else { 4_000 });
    }
    if "coordination".contains(only) {
        coordination(if is_quick { 1_000 } else { 5_000 });
    }
    ExitCode::SUCCESS
}

fn evaluation(trials: u64) {
    println!("{trials} trials over a simulated market of 200,000 rows, one thread a node");
    println!("  {:<30} {:>9} {:>7}", "", "trials/s", "ratio");
    let one = search(1, trials, 200_000).per_second;
    println!("  {:<30} {one:>9.1} {:>7.2}", "one process", 1.0);
    let two = search(2, trials, 200_000).per_second;
    println!("  {:<30} {two:>9.1} {:>7.2}", "--nodes 2", two / one);
    // What the machine allows: nobody waits for anybody, and all is evaluated twice.
    let apart: f64 = std::thread::scope(|scope| {
        let both = [0, 1].map(|_| scope.spawn(|| search(1, trials, 200_000).per_second));
        both.map(|one| one.join().unwrap()).iter().sum()
    });
    println!("  {:<30} {apart:>9.1} {:>7.2}", "two that search apart", apart / one);
    println!();
}

fn coordination(trials: u64) {
    println!("{trials} trials that evaluate next to nothing, two processes");
    println!("  {:<30} {:>9}", "", "trials/s");
    println!("  {:<30} {:>9.0}", "--nodes 2", search(2, trials, 500).per_second);
    for (name, kind) in [("Optuna, SQLite", "sqlite"), ("Optuna, journal file", "journal")] {
        match optuna(kind, trials) {
            Some(searched) => {
                println!("  {name:<30} {:>9.0}  ({} trials)", searched.per_second, searched.trials);
            }
            None => println!("  {name}: SKIPPED, python3 has no optuna (pip install optuna)"),
        }
    }
}

/// A random search of the built-in crossing strategy.
fn search(nodes: usize, trials: u64, rows: u64) -> Searched {
    let directory = tempfile::tempdir().unwrap();
    let report = directory.path().join("report.json");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["optimize", "--data", "simulator", "--strategy", "crossing"]);
    command.args(["--search", "random", "--workers", "1"]);
    command.args(["--nodes", &nodes.to_string(), "--trials", &trials.to_string()]);
    command.args(["--set", "optimise.patience=0"]);
    command.args(["--set", &format!("simulator.ticks={rows}")]);
    command.arg("--data-dir").arg(directory.path().join("data"));
    command.arg("--report").arg(&report);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let ended = command.output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let report = std::fs::read_to_string(report).unwrap();
    let report: OptimiseReport = serde_json::from_str(&report).unwrap();
    assert!(report.trials >= trials, "{} of {trials} trials", report.trials);
    Searched { trials: report.trials, per_second: report.trials_per_second }
}

/// None, where Optuna is not installed.
fn optuna(kind: &str, trials: u64) -> Option<Searched> {
    let directory = tempfile::tempdir().unwrap();
    // Processes of its own import the program again, so it is a file.
    let program = directory.path().join("search.py");
    std::fs::write(&program, OPTUNA).unwrap();
    let has_optuna = run(&["-c".as_ref(), "import optuna".as_ref()]).is_some();
    if !has_optuna {
        return None;
    }
    let (path, trials) = (directory.path().join(kind), trials.to_string());
    let said = run(&[&program, kind.as_ref(), &path, trials.as_ref()]).expect("Optuna searches");
    let mut words = said.split_whitespace();
    let trials: u64 = words.next().unwrap().parse().unwrap();
    let seconds: f64 = words.next().unwrap().parse().unwrap();
    #[expect(clippy::cast_precision_loss, reason = "rates are for people")]
    let per_second = trials as f64 / seconds;
    Some(Searched { trials, per_second })
}

/// What Python said, if it was there and ended well.
fn run(arguments: &[&Path]) -> Option<String> {
    let ended = Command::new("python3").args(arguments).stdin(Stdio::null()).output().ok()?;
    ended.status.success().then(|| String::from_utf8_lossy(&ended.stdout).into_owned())
}
