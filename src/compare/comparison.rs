//! What was measured, and what it amounts to.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{Plan, PlanOptions, Scenario};

/// What one run has shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Measurement {
    /// Whether all rows were worked off before the run was given up.
    pub is_complete: bool,
    /// Rows read.
    pub rows: u64,
    /// The same a second, from the first row to the last.
    pub rows_per_second: f64,
    /// Orders let through.
    pub orders: u64,
    /// From when a row was due to its order's arrival at the broker; none without orders, or if the run
    /// was given up.
    pub latency_p50_ms: Option<f64>,
    /// The same for 99 of 100.
    pub latency_p99_ms: Option<f64>,
    /// The most memory of each node, together, in bytes.
    pub memory_bytes: u64,
    /// The most memory of any one node, in bytes.
    pub memory_node_bytes: u64,
    /// Processor time of all nodes for each second, in seconds.
    pub processors: f64,
    /// Promises that were not kept.
    pub broken: Vec<String>,
}

/// Whether a load was sustained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It was.
    Sustained,
    /// Orders came later than they may.
    Late,
    /// Rows came faster than they were worked off, so that the run was given up.
    Behind,
    /// No order was measured.
    NoOrders,
    /// The run failed.
    Failed,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunResult {
    /// Its load.
    #[serde(flatten)]
    pub scenario: Scenario,
    /// On how many nodes.
    pub nodes: u16,
    /// Whether that was sustained.
    pub verdict: Verdict,
    /// What it has shown.
    pub measured: Option<Measurement>,
    /// Why it has shown nothing.
    pub failure: Option<String>,
}

impl RunResult {
    /// What a run under a bound of `bound_ms` for 99 of 100 orders has shown, or why it has not.
    pub fn new(
        scenario: Scenario,
        nodes: u16,
        bound_ms: u64,
        result: Result<Measurement, String>,
    ) -> Self {
        let verdict =
            result.as_ref().map_or(Verdict::Failed, |measured| verdict(measured, bound_ms));
        let (measured, failure) = match result {
            Ok(measured) => (Some(measured), None),
            Err(failure) => (None, Some(failure)),
        };
        Self { scenario, nodes, verdict, measured, failure }
    }
}

#[expect(clippy::cast_precision_loss, reason = "some milliseconds")]
fn verdict(measured: &Measurement, bound_ms: u64) -> Verdict {
    match measured.latency_p99_ms {
        _ if !measured.is_complete => Verdict::Behind,
        None => Verdict::NoOrders,
        Some(p99_ms) if p99_ms <= bound_ms as f64 => Verdict::Sustained,
        Some(_) => Verdict::Late,
    }
}

/// How much more one number of nodes sustains than another, for one number of strategies and one rate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Factor {
    /// Strategies.
    pub strategies: u32,
    /// Rows of each symbol in a second.
    pub rate: u32,
    /// The most symbols that one node sustained; none, if it did not sustain the fewest.
    pub symbols_one: Option<u32>,
    /// The same of several.
    pub symbols_several: Option<u32>,
    /// The second by the first; none, if one node sustained nothing.
    pub factor: Option<f64>,
    /// Whether either sustained the most symbols that were tried, so that it might bear more.
    pub is_bounded_by_plan: bool,
}

/// Everything that was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// What was asked for.
    pub options: PlanOptions,
    /// Processors of the machine.
    pub cores: usize,
    /// The runs, in order.
    pub runs: Vec<RunResult>,
    /// What of it follows.
    pub factors: Vec<Factor>,
    /// What these figures cannot show.
    pub limits: Vec<String>,
}

impl Comparison {
    /// What `runs` of `plan` amount to, on a machine of so many processors.
    pub fn new(plan: &Plan, cores: usize, runs: Vec<RunResult>) -> Self {
        let options = plan.options().clone();
        let factors = factors(&options, &runs);
        let limits = limits(&options, cores);
        Self { options, cores, runs, factors, limits }
    }

    /// Promises that were not kept in any run.
    pub fn broken(&self) -> BTreeSet<&str> {
        let measured = self.runs.iter().filter_map(|run| run.measured.as_ref());
        measured.flat_map(|measured| &measured.broken).map(String::as_str).collect()
    }

    /// Why runs have shown nothing.
    pub fn failures(&self) -> impl Iterator<Item = &str> {
        self.runs.iter().filter_map(|run| run.failure.as_deref())
    }
}

fn factors(options: &PlanOptions, runs: &[RunResult]) -> Vec<Factor> {
    let cells: BTreeSet<(u32, u32)> =
        runs.iter().map(|run| (run.scenario.strategies, run.scenario.rate)).collect();
    let most = options.symbols.iter().max().copied();
    let of = |(strategies, rate)| {
        let sustained = |is_several: bool| {
            let of_cell = runs.iter().filter(|run| {
                (run.scenario.strategies, run.scenario.rate) == (strategies, rate)
                    && (run.nodes > 1) == is_several
                    && run.verdict == Verdict::Sustained
            });
            of_cell.map(|run| run.scenario.symbols).max()
        };
        let (symbols_one, symbols_several) = (sustained(false), sustained(true));
        let factor =
            symbols_one.map(|one| f64::from(symbols_several.unwrap_or(0)) / f64::from(one));
        let is_bounded_by_plan = most.is_some() && (symbols_one == most || symbols_several == most);
        Factor { strategies, rate, symbols_one, symbols_several, factor, is_bounded_by_plan }
    };
    cells.into_iter().map(of).collect()
}

fn limits(options: &PlanOptions, cores: usize) -> Vec<String> {
    let nodes = options.nodes;
    let processors = if cores == 1 { "processor" } else { "processors" };
    vec![
        format!(
            "All {nodes} nodes ran on this one machine, and one node alone may use its {cores} \
             {processors} as well. Several had no more processors, memory or disk than one, and \
             what they say to each other on top: here the factor tells what it costs to share the \
             work, and it cannot tell what more machines give."
        ),
        "Links were loopback: no distance, no loss, no other traffic.".to_owned(),
        "Latencies were taken between processes by the one clock of this machine. Between machines \
         they would be as right as their clocks are set."
            .to_owned(),
        format!(
            "Rows came from the simulated market, evenly over its symbols, and the limits of risk \
             on rates, exposure and losses were lifted, so that there are orders to measure; \
             sustained means that 99 of 100 came within {} ms.",
            options.bound_ms
        ),
    ]
}
