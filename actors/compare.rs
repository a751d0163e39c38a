//! `tickwright compare`: runs every scenario of a plan on one node and on several, as processes on this
//! machine, and measures them.
//!
//! ```text
//! Plan ─▶ for each run: configuration ─▶ run_nodes ─▶ report, and what its processes have used
//!                                                        └─▶ Measurement ─▶ Comparison
//! ```
//!
//! One node is started as several are, so that both runs are looked at in the same way. Rows come from
//! the simulated market at the rate of the scenario, and latency counts from when a row was due.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tickwright_core::backtest::report::RunReport;
use tickwright_core::compare::{
    Comparison, Measurement, Plan, RunResult, Scenario, strategies_text, vary, without_strategies,
};
use tickwright_core::config::{Chaos, Config, ConfigInput, ConfigProblems, Kinds};

use crate::kit::process::{ProcessUsage, usage_of};
use crate::local_cluster::{
    LocalClusterArguments, LocalClusterError, LocalClusterEvent, Purpose, run_nodes,
};
use crate::telemetry::Sample;

/// Between two looks at the nodes: each takes processor time from what is measured.
const LOOK: Duration = Duration::from_millis(250);

/// What is compared, and how the nodes are configured.
#[derive(Clone, Debug)]
pub struct CompareArguments {
    /// The runs.
    pub plan: Plan,
    /// `cluster.toml`.
    pub config: Config,
    /// The text of the file of it, if there is one.
    pub config_text: Option<String>,
    /// What was laid over it: keys and values.
    pub overrides: Vec<(String, String)>,
    /// The strategies and factors there are.
    pub kinds: Kinds,
}

/// Why there is no comparison.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// The configuration has no strategy to make more of.
    #[error("no [[strategy]] is configured; give one, or leave them all out for the built-in ones")]
    NoStrategies,
    /// The strategies that were made are refused.
    #[error("{count} strategies cannot be made of those configured: {problems}")]
    Strategies {
        /// How many were wanted.
        count: u32,
        /// What is wrong with them.
        problems: ConfigProblems,
    },
    /// A directory or file of the runs cannot be written.
    #[error("`{}` cannot be written: {error}; give another --data-dir", path.display())]
    Files {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Stopped before the last run.
    #[error("stopped after {done} of {all} runs")]
    Stopped {
        /// Runs that were made.
        done: usize,
        /// Runs that were to be made.
        all: usize,
    },
}

/// Makes every run of the plan, one after the other; `tell` is told of each.
///
/// # Errors
///
/// [`CompareError`]. A run that fails is no error, but a result.
pub async fn compare(
    arguments: &CompareArguments,
    mut tell: impl FnMut(&str),
    stop: impl Future<Output = ()>,
) -> Result<Comparison, CompareError> {
    let plan = &arguments.plan;
    let directory = Path::new(&arguments.config.node.data_dir).join("compare");
    let files = write_configurations(arguments, &directory)?;
    tokio::pin!(stop);
    let mut results = Vec::new();
    for (number, (scenario, nodes)) in (1..).zip(plan.runs()) {
        tell(&format!("run {number} of {}: {}", plan.len(), describe(scenario, nodes)));
        let of_run = directory.join("run");
        remove(&of_run)?;
        let file = files[&scenario.strategies].clone();
        let run = measure(arguments, scenario, nodes, file, &of_run);
        let measured = tokio::select! {
            measured = run => measured,
            () = &mut stop => {
                return Err(CompareError::Stopped { done: results.len(), all: plan.len() });
            }
        };
        results.push(RunResult::new(scenario, nodes, plan.options().bound_ms, measured));
    }
    remove(&directory)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(Comparison::new(plan, cores, results))
}

/// The load of a run in words.
fn describe(scenario: Scenario, nodes: u16) -> String {
    let Scenario { strategies, rate, symbols } = scenario;
    let s = if nodes == 1 { "" } else { "s" };
    format!(
        "{symbols} symbols at {rate} rows/s each, {strategies} strategies, on {nodes} node{s} ({} \
         rows/s)",
        scenario.rows_per_second()
    )
}

/// A configuration with as many strategies as each scenario needs; all are checked before anything
/// runs.
fn write_configurations(
    arguments: &CompareArguments,
    directory: &Path,
) -> Result<BTreeMap<u32, PathBuf>, CompareError> {
    let configured = arguments.config.strategy_tables();
    if configured.is_empty() {
        return Err(CompareError::NoStrategies);
    }
    let rest = without_strategies(arguments.config_text.as_deref().unwrap_or_default());
    let mut texts = BTreeMap::new();
    for &count in &arguments.plan.options().strategies {
        let wanted = vary(&configured, usize::try_from(count).unwrap_or(usize::MAX));
        let text = format!("{rest}{}", strategies_text(&wanted));
        let input = ConfigInput {
            file: Some(("the strategies of the comparison", &text)),
            overrides: &arguments.overrides,
            kinds: arguments.kinds.clone(),
        };
        Config::load(&input).map_err(|problems| CompareError::Strategies { count, problems })?;
        texts.insert(count, text);
    }
    let fail = |path: &Path, error| CompareError::Files { path: path.to_owned(), error };
    std::fs::create_dir_all(directory).map_err(|error| fail(directory, error))?;
    let mut files = BTreeMap::new();
    for (count, text) in texts {
        let path = directory.join(format!("{count}-strategies.toml"));
        std::fs::write(&path, text).map_err(|error| fail(&path, error))?;
        files.insert(count, path);
    }
    Ok(files)
}

/// Removes what a run has left, if it has.
fn remove(directory: &Path) -> Result<(), CompareError> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(CompareError::Files { path: directory.to_owned(), error })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Makes one run.
async fn measure(
    arguments: &CompareArguments,
    scenario: Scenario,
    nodes: u16,
    config_file: PathBuf,
    directory: &Path,
) -> Result<Measurement, String> {
    let mut overrides = arguments.overrides.clone();
    overrides.extend(arguments.plan.settings(scenario));
    let mut config = arguments.config.clone();
    config.node.data_dir = directory.display().to_string();
    let of_run = LocalClusterArguments {
        nodes,
        config,
        config_file: Some(config_file),
        overrides,
        data: Vec::new(),
        purpose: Purpose::Run,
        faults: Chaos::default(),
        look: LOOK,
    };
    let mut watch = Watch::default();
    let patience = tokio::time::sleep(arguments.plan.patience());
    match run_nodes(of_run, |event| watch.on_event(event), patience).await {
        Ok(report) => Ok(watch.measurement(Some(&report))),
        Err(LocalClusterError::Stopped) => Ok(watch.measurement(None)),
        Err(error) => Err(error.to_string()),
    }
}

/// What is seen of a run from outside.
#[derive(Debug, Default)]
struct Watch {
    /// The nodes, and what each has used by the last look.
    processes: BTreeMap<String, (u32, ProcessUsage)>,
    /// The first look at which rows had come.
    first: Option<Look>,
    /// The last look at which there were more than before.
    last: Option<Look>,
}

#[derive(Clone, Copy, Debug)]
struct Look {
    at: Instant,
    sample: Sample,
    /// Of all nodes.
    processor: Duration,
}

impl Watch {
    fn on_event(&mut self, event: LocalClusterEvent) {
        match event {
            LocalClusterEvent::Started { node, process } => {
                self.processes.insert(node, (process, ProcessUsage::default()));
            }
            LocalClusterEvent::Progress(sample) => self.on_progress(sample),
            LocalClusterEvent::Line(_) | LocalClusterEvent::Found(_) => {}
        }
    }

    fn on_progress(&mut self, sample: Sample) {
        for (process, usage) in self.processes.values_mut() {
            // What has ended has used what was seen last.
            *usage = usage_of(*process).unwrap_or(*usage);
        }
        let processor = self.processes.values().map(|(_, usage)| usage.processor).sum();
        let look = Look { at: Instant::now(), sample, processor };
        // A node that did not answer at one look counts as nothing there.
        let is_news = sample.rows > self.last.map_or(0, |last| last.sample.rows);
        if is_news {
            self.first.get_or_insert(look);
            self.last = Some(look);
        }
    }

    /// What the run has shown; there is no report if it was given up.
    fn measurement(&self, report: Option<&RunReport>) -> Measurement {
        let mut measurement = Measurement {
            is_complete: report.is_some(),
            memory_bytes: self.peaks(report).sum(),
            memory_node_bytes: self.peaks(report).max().unwrap_or(0),
            ..Measurement::default()
        };
        if let (Some(first), Some(last)) = (self.first, self.last) {
            let seconds = (last.at - first.at).as_secs_f64();
            let rows = last.sample.rows - first.sample.rows;
            (measurement.rows, measurement.orders) = (last.sample.rows, last.sample.orders);
            if seconds > 0.0 {
                measurement.rows_per_second = count_to_f64(rows) / seconds;
                let used = last.processor.saturating_sub(first.processor);
                measurement.processors = used.as_secs_f64() / seconds;
            }
        }
        if let Some(report) = report {
            (measurement.rows, measurement.orders) = (report.ticks_in, report.orders.approved);
            if report.orders.placed > 0 {
                measurement.latency_p50_ms = Some(report.latency_us.p50 / 1e3);
                measurement.latency_p99_ms = Some(report.latency_us.p99 / 1e3);
            }
            measurement.broken = report.violations().iter().map(ToString::to_string).collect();
        }
        measurement
    }

    /// The most memory of each node.
    fn peaks(&self, report: Option<&RunReport>) -> impl Iterator<Item = u64> {
        let told =
            move |node: &String| report.and_then(|report| report.rss_by_node.get(node)).copied();
        self.processes
            .iter()
            .map(move |(node, (_, usage))| usage.peak_rss_bytes.max(told(node).unwrap_or(0)))
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact to 2^53, for display")]
const fn count_to_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use tickwright_core::compare::PlanOptions;

    use super::*;

    fn arguments(config_text: &str, data_dir: &Path) -> CompareArguments {
        let overrides = vec![("node.data_dir".to_owned(), data_dir.display().to_string())];
        let kinds = Kinds::default();
        let file = Some(("my.toml", config_text));
        let input = ConfigInput { file, overrides: &overrides, kinds: kinds.clone() };
        let plan = Plan::new(PlanOptions {
            symbols: vec![2],
            strategies: vec![1, 3],
            rates: vec![100],
            duration_seconds: 1,
            nodes: 2,
            bound_ms: 50,
        });
        let config = Config::load(&input).unwrap();
        CompareArguments { plan, config, config_text: Some(config_text.into()), overrides, kinds }
    }

    #[test]
    fn each_scenario_gets_the_rest_of_the_file_and_as_many_strategies_as_it_needs() {
        let directory = tempfile::tempdir().unwrap();
        let text = "[[strategy]]\nname = \"x\"\nkind = \"ema_crossing\"\n[pipeline]\nseed = 5\n";
        let arguments = arguments(text, directory.path());
        let files = write_configurations(&arguments, &directory.path().join("compare")).unwrap();
        for (count, path) in files {
            let text = std::fs::read_to_string(path).unwrap();
            let config = Config::parse(&text, "made.toml").unwrap();
            assert_eq!(config.strategies.len(), count as usize);
            assert_eq!(config.pipeline.seed, 5);
        }
    }

    #[test]
    fn strategies_that_cannot_be_made_are_refused_before_anything_runs() {
        let directory = tempfile::tempdir().unwrap();
        let name = "x".repeat(64);
        let text = format!("[[strategy]]\nname = \"{name}\"\nkind = \"ema_crossing\"\n");
        let arguments = arguments(&text, directory.path());
        let error = write_configurations(&arguments, &directory.path().join("compare"));
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with("3 strategies cannot be made of those configured: "), "{error}");
        assert!(!directory.path().join("compare").try_exists().unwrap());
    }

    #[test]
    fn speed_is_from_the_first_rows_to_the_last_that_were_new() {
        let mut watch = Watch::default();
        let sample = |rows| Sample { rows, orders: rows / 10, ..Sample::default() };
        for rows in [0, 500, 0, 1_500, 1_500] {
            watch.on_event(LocalClusterEvent::Progress(sample(rows)));
        }
        let (first, last) = (watch.first.unwrap(), watch.last.unwrap());
        assert_eq!((first.sample.rows, last.sample.rows), (500, 1_500));
        watch.last = Some(Look { at: first.at + Duration::from_secs(2), ..last });
        let behind = watch.measurement(None);
        assert!(!behind.is_complete);
        assert_eq!((behind.rows, behind.orders, behind.rows_per_second), (1_500, 150, 500.0));
        assert_eq!(behind.latency_p99_ms, None);
        let mut report = RunReport { ticks_in: 1_600, ..RunReport::default() };
        assert_eq!(watch.measurement(Some(&report)).latency_p99_ms, None, "no order was placed");
        (report.orders.placed, report.latency_us.p99) = (3, 2_500.0);
        let complete = watch.measurement(Some(&report));
        assert_eq!((complete.rows, complete.latency_p99_ms), (1_600, Some(2.5)));
        assert_eq!(complete.broken.len(), 1, "1,600 rows came in, and none came out");
    }
}
