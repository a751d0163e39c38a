//! `optimize`: searches here or on several nodes, and tells what was found.

use std::path::{Path, PathBuf};

use tickwright_core::config::{Chaos, Config, Kinds};
use tickwright_core::optimise::report::OptimiseReport;

use super::runtime::runtime_of;
use super::{EXIT_STOPPED, EXIT_USAGE, stop};
use crate::backtest::SIMULATOR;
use crate::command_line::{EXIT_OK, SearchTask};
use crate::local_cluster::{
    LOOK, LocalClusterArguments, LocalClusterError, Middle, Purpose, SearchNodesEvent, search_nodes,
};
use crate::optimise::{
    OptimiseArguments, OptimiseError, OptimiseEvent, SearchProgress, optimise, time_after,
};
use crate::report::{SearchLine, Style, search_summary, write_search_html, write_search_json};

/// Share of the rows that `--optimize` searches on.
const HALF: u32 = 50;

/// Searches, and writes what was found; returns what the process is to exit with.
pub(super) fn search_parameters(config: Config, kinds: Kinds, task: SearchTask, json: bool) -> u8 {
    let runtime = match runtime_of(&config) {
        Ok(runtime) => runtime,
        Err(exit_code) => return exit_code,
    };
    let options = task.options.clone();
    let searching = async {
        match options.nodes {
            1 => search_here(config, kinds, options.data.clone()).await,
            _ => search_on_nodes(config, task).await,
        }
    };
    let report = match runtime.block_on(searching) {
        Ok(report) => report,
        Err(exit_code) => return exit_code,
    };
    let mut files: Vec<(&str, &Path)> = Vec::new();
    let written = [
        ("report", &options.report, write_search_json as fn(&_, &Path) -> _),
        ("page", &options.html, write_search_html),
    ];
    for (name, path, write) in written {
        let Some(path) = path else { continue };
        if let Err(error) = write(&report, path) {
            eprintln!("{error}");
            return EXIT_USAGE;
        }
        files.push((name, path));
    }
    if json {
        print!("{}", report.to_json());
    } else {
        print!("{}", search_summary(&report, &files, Style::of_stdout()));
    }
    EXIT_OK
}

/// Searches in this process.
async fn search_here(
    config: Config,
    kinds: Kinds,
    data: Vec<PathBuf>,
) -> Result<OptimiseReport, u8> {
    let arguments = OptimiseArguments { config, kinds, data };
    let mut line = SearchLine::default();
    let show = |event| match event {
        OptimiseEvent::Line(said) => eprintln!("{said}"),
        OptimiseEvent::Progress(progress) => search_progress(&mut line, progress),
    };
    optimise(arguments, show, stop(None)).await.map_err(|error| {
        eprintln!("{error}");
        let is_stopped = matches!(error, OptimiseError::Stopped { .. });
        if is_stopped { EXIT_STOPPED } else { EXIT_USAGE }
    })
}

/// Searches in several processes on this machine.
async fn search_on_nodes(config: Config, task: SearchTask) -> Result<OptimiseReport, u8> {
    let SearchTask { options, config_file, overrides } = task;
    let arguments = LocalClusterArguments {
        nodes: options.nodes,
        config,
        config_file,
        overrides,
        data: options.data,
        purpose: Purpose::Search,
        faults: Chaos::default(),
        look: LOOK,
    };
    let mut line = SearchLine::default();
    let show = |event| match event {
        SearchNodesEvent::Line(said) => eprintln!("{said}"),
        SearchNodesEvent::Progress(progress) => search_progress(&mut line, progress),
    };
    search_nodes(arguments, show, stop(None)).await.map_err(|error| {
        eprintln!("{error}");
        let is_stopped = matches!(error, LocalClusterError::Stopped);
        if is_stopped { EXIT_STOPPED } else { EXIT_USAGE }
    })
}

fn search_progress(line: &mut SearchLine, progress: SearchProgress) {
    let best = progress.best.map(|(score, _)| score);
    line.update(progress.finished, progress.trials_max, best);
}

/// Where a run is held that searches on its first half.
pub(super) async fn middle(
    config: &Config,
    kinds: Kinds,
    mut data: Vec<PathBuf>,
) -> Result<Middle, u8> {
    if data.is_empty() {
        data.push(SIMULATOR.into());
    }
    let arguments = OptimiseArguments { config: config.clone(), kinds, data };
    let found = tokio::task::spawn_blocking(move || time_after(&arguments, HALF)).await;
    let found = found.map_err(OptimiseError::from).flatten();
    found.map(|at| Middle { at, percent: HALF }).map_err(|error| {
        eprintln!("{error}");
        EXIT_USAGE
    })
}
