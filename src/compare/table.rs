//! A comparison as text for a terminal.

use std::fmt;

use super::{Comparison, Factor, Measurement, RunResult, Verdict};

/// Columns of text.
const WIDTH: usize = 100;

impl Verdict {
    /// In a word or two.
    const fn text(self) -> &'static str {
        match self {
            Self::Sustained => "yes",
            Self::Late => "no: late",
            Self::Behind => "no: behind",
            Self::NoOrders => "no orders",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_runs(f)?;
        self.fmt_factors(f)?;
        writeln!(f, "\nWhat this cannot show")?;
        self.limits.iter().try_for_each(|limit| fmt_wrapped(limit, f))
    }
}

impl Comparison {
    fn fmt_runs(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:>7} {:>10} {:>7} {:>5} {:>9} {:>9} {:>8} {:>8} {:>8} {:>8} {:>5}  sustained",
            "symbols",
            "strategies",
            "rate/s",
            "nodes",
            "due/s",
            "rows/s",
            "p50 ms",
            "p99 ms",
            "MB",
            "MB/node",
            "cores",
        )?;
        for run in &self.runs {
            fmt_run(run, f)?;
        }
        for run in &self.runs {
            let Some(failure) = &run.failure else { continue };
            let symbols = run.scenario.symbols;
            let s = if run.nodes == 1 { "" } else { "s" };
            writeln!(f, "{symbols} symbols on {} node{s} failed: {failure}", run.nodes)?;
        }
        Ok(())
    }

    fn fmt_factors(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes = self.options.nodes;
        writeln!(
            f,
            "\nScalability: the most symbols sustained (99 of 100 orders within {} ms), {nodes} \
             nodes by one",
            self.options.bound_ms
        )?;
        writeln!(
            f,
            "{:>10} {:>7} {:>8} {:>8} {:>7}",
            "strategies",
            "rate/s",
            "1 node",
            format!("{nodes} nodes"),
            "factor"
        )?;
        for factor in &self.factors {
            fmt_factor(factor, f)?;
        }
        if self.factors.iter().any(|factor| factor.is_bounded_by_plan) {
            let most = self.options.symbols.iter().max().copied().unwrap_or(0);
            writeln!(f, "* {most} symbols were sustained, and no more were tried.")?;
        }
        Ok(())
    }
}

fn fmt_run(run: &RunResult, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let scenario = run.scenario;
    write!(
        f,
        "{:>7} {:>10} {:>7} {:>5} {:>9}",
        scenario.symbols,
        scenario.strategies,
        scenario.rate,
        run.nodes,
        scenario.rows_per_second(),
    )?;
    let verdict = run.verdict.text();
    let Some(measured) = &run.measured else { return writeln!(f, "{:>52}  {verdict}", "") };
    let Measurement { rows_per_second, memory_bytes, memory_node_bytes, processors, .. } = measured;
    writeln!(
        f,
        " {rows_per_second:>9.0} {:>8} {:>8} {:>8.1} {:>8.1} {processors:>5.2}  {verdict}",
        milliseconds(measured.latency_p50_ms),
        milliseconds(measured.latency_p99_ms),
        megabytes(*memory_bytes),
        megabytes(*memory_node_bytes),
    )
}

fn fmt_factor(factor: &Factor, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let symbols = |symbols: Option<u32>| symbols.map_or("none".to_owned(), |s| s.to_string());
    writeln!(
        f,
        "{:>10} {:>7} {:>8} {:>8} {:>7}{}",
        factor.strategies,
        factor.rate,
        symbols(factor.symbols_one),
        symbols(factor.symbols_several),
        factor.factor.map_or("-".to_owned(), |factor| format!("{factor:.2}")),
        if factor.is_bounded_by_plan { " *" } else { "" }
    )
}

/// A paragraph, as an item of a list.
fn fmt_wrapped(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut line = "-".to_owned();
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            writeln!(f, "{line}")?;
            line = " ".to_owned();
        }
        line.push(' ');
        line.push_str(word);
    }
    writeln!(f, "{line}")
}

fn milliseconds(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| match value {
        large if large >= 1_000.0 => format!("{large:.0}"),
        large if large >= 100.0 => format!("{large:.1}"),
        small => format!("{small:.2}"),
    })
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
