//! What a user sees of a search: a summary at its end, and a page to look at.

use std::path::Path;

use tickwright_core::optimise::report::{Judged, OptimiseReport, Outcome};

use super::html::{embed, escape, fill};
use super::summary::Style;
use super::text::{count, float, shorten};
use super::{ReportError, write};

/// Most lines of a table.
const LINES_MAX: usize = 10;

/// The summary of a search.
pub fn search_summary(report: &OptimiseReport, files: &[(&str, &Path)], style: Style) -> String {
    let mut text = String::new();
    let mut line = |line: String| {
        text.push_str(line.trim_end());
        text.push('\n');
    };
    line(format!(
        "{}: {} trials of {} ({}) by {}, {:.1} a second on {} threads, ended by {}",
        style.heading("Search"),
        count(report.trials),
        report.name,
        report.strategy,
        report.search,
        report.trials_per_second,
        report.workers,
        report.stopped,
    ));
    if report.trials_resumed + report.trials_failed > 0 {
        let (resumed, failed) = (count(report.trials_resumed), count(report.trials_failed));
        line(format!("  {resumed} of them from earlier runs, {failed} failed"));
    }
    if report.nodes.len() > 1 {
        let of = |(node, count): (&String, &u64)| format!("{node} {}", self::count(*count));
        let by: Vec<String> = report.nodes.iter().map(of).collect();
        line(format!("  run by {}", by.join(", ")));
    }
    for (node, times) in &report.flagged {
        let refused = format!("{node} said {times} times what did not come out again: refused");
        line(format!("  {}", style.bad(&refused)));
    }
    for alert in &report.alerts {
        line(format!("  {}", style.bad(&format!("alert: {alert}"))));
    }
    line(format!(
        "  chosen on the first {} of {} clean rows, judged on the others",
        count(report.rows_in_sample),
        count(report.rows),
    ));
    line(String::new());
    line(style.heading(&format!(
        "{:<34}{:>8}{:>9}{:>8}{:>15}{:>8}{:>9}{:>8}{:>8}",
        "Best",
        "score",
        "profit",
        "Sharpe",
        "risk-adjusted",
        "trades",
        "| after",
        "profit",
        "Sharpe"
    )));
    let best = report.best.iter().take(LINES_MAX).map(|judged| ("", judged));
    for (name, judged) in best.chain(report.configured.iter().map(|it| ("as configured: ", it))) {
        line(row(name, judged));
    }
    if !report.walk_forward.is_empty() {
        line(String::new());
        line(style.heading("Chosen anew before each stretch"));
        for fold in &report.walk_forward {
            let after = fold.judged.out_of_sample.as_ref();
            let configured = fold.configured.as_ref();
            line(format!(
                "  rows {} to {}: score {} with {} (as configured {})",
                count(fold.judged_on.0),
                count(fold.judged_on.1),
                score_in_trades(after),
                parameters(&fold.judged.parameters),
                score_in_trades(configured),
            ));
        }
    }
    if !report.importance.is_empty() {
        line(String::new());
        line(style.heading("What each parameter explains by itself"));
        for importance in &report.importance {
            line(format!("  {:<20}{:>6.1} %", importance.name, importance.share * 100.0));
        }
    }
    if let Some(held) = &report.held_back {
        line(String::new());
        let rows = format!("rows {} to {}", count(held.rows.0), count(held.rows.1));
        line(style.heading(&format!("On {rows}, which nobody had looked at")));
        line(format!("  chosen: {}", parameters(&held.parameters)));
        for (name, outcome) in [("the chosen", &held.chosen), ("as configured", &held.configured)] {
            let metrics = &outcome.metrics;
            line(format!(
                "  {name:<16}score {:>8.4}, profit {:.2} %, Sharpe {:.2}, {} trades",
                outcome.score,
                metrics.profit_rate * 100.0,
                metrics.sharpe,
                count(metrics.trades),
            ));
        }
        let gained = held.chosen.score - held.configured.score;
        let told = match gained {
            gained if gained > 0.0 => format!("better there by {gained:.4}"),
            gained if gained < 0.0 => style.bad(&format!("worse there by {:.4}", -gained)),
            _ => "as good there".to_owned(),
        };
        line(format!("  {told}"));
    }
    line(String::new());
    let luck = &report.overfitting;
    let deflated = luck.deflated_sharpe.map_or_else(|| "-".to_owned(), |it| format!("{it:.3}"));
    line(format!("{} {deflated}", style.heading("Deflated Sharpe ratio")));
    for doubt in &luck.doubts {
        line(format!("  {}", style.bad(&format!("to be doubted: {doubt}"))));
    }
    for (name, path) in files {
        line(format!("  {name:<10}{}", path.display()));
    }
    text
}

fn row(name: &str, judged: &Judged) -> String {
    let Judged { parameters: given, in_sample, out_of_sample } = judged;
    let rate = |outcome: &Outcome| format!("{:.2} %", outcome.metrics.profit_rate * 100.0);
    let sharpe = |outcome: &Outcome| format!("{:.2}", outcome.metrics.sharpe);
    let after = out_of_sample.as_ref();
    let or = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    format!(
        "  {:<32}{:>8}{:>9}{:>8}{:>15.2}{:>8}{:>9}{:>8}{:>8}",
        shorten(&format!("{name}{}", parameters(given)), 31),
        score(Some(in_sample)),
        rate(in_sample),
        sharpe(in_sample),
        in_sample.metrics.risk_adjusted,
        count(in_sample.metrics.trades),
        score(after),
        or(after.map(rate)),
        or(after.map(sharpe)),
    )
}

fn score(outcome: Option<&Outcome>) -> String {
    outcome.map_or_else(|| "-".to_owned(), |outcome| format!("{:.4}", outcome.score))
}

/// The score, and in how many trades: with too few to count it is the least there is.
fn score_in_trades(outcome: Option<&Outcome>) -> String {
    outcome.map_or_else(
        || "-".to_owned(),
        |it| format!("{:.4} in {} trades", it.score, count(it.metrics.trades)),
    )
}

/// `fast 5, slow 20`.
pub fn parameters(parameters: &[(String, f64)]) -> String {
    let named = parameters.iter().map(|(name, value)| format!("{name} {}", float(*value)));
    named.collect::<Vec<String>>().join(", ")
}

const PAGE: &str = include_str!("page.html");
const CHARTS: &str = include_str!("charts.js");
const LAYOUT: &str = include_str!("search.js");

/// `report` as an HTML page.
pub fn search_page(report: &OptimiseReport) -> String {
    let script = format!("{CHARTS}\n{LAYOUT}");
    fill(
        PAGE,
        &[
            ("title", &escape(&format!("Search for {}", report.name))),
            ("summary", &escape(&search_summary(report, &[], Style::PLAIN))),
            ("report", &embed(report)),
            ("script", &script),
        ],
    )
}

/// Writes `report` to `path` as JSON. What was there before is replaced.
///
/// # Errors
///
/// [`ReportError::Write`].
pub fn write_search_json(report: &OptimiseReport, path: &Path) -> Result<(), ReportError> {
    write(path, &report.to_json())
}

/// Writes `report` to `path` as one self-contained page. What was there before is replaced.
///
/// # Errors
///
/// [`ReportError::Write`].
pub fn write_search_html(report: &OptimiseReport, path: &Path) -> Result<(), ReportError> {
    write(path, &search_page(report))
}

#[cfg(test)]
mod tests {
    use tickwright_core::optimise::Metrics;
    use tickwright_core::optimise::report::{FoldReport, HeldBack, Overfitting};

    use super::*;

    fn example() -> OptimiseReport {
        let outcome = |score| Outcome {
            score,
            metrics: Metrics {
                profit_rate: score / 4.0,
                risk_adjusted: score * 5.0,
                trades: 12,
                ..Metrics::default()
            },
            digest: "00ff".into(),
        };
        let judged = |fast| Judged {
            parameters: vec![("fast".into(), fast), ("slow".into(), 30.0)],
            in_sample: outcome(0.4),
            out_of_sample: Some(outcome(-0.1)),
        };
        OptimiseReport {
            name: "crossing</script>".into(),
            strategy: "ema_crossing".into(),
            trials: 20,
            rows: 1_000,
            rows_in_sample: 700,
            best: vec![judged(5.0), judged(7.5)],
            configured: Some(judged(12.0)),
            overfitting: Overfitting {
                deflated_sharpe: Some(0.25),
                sharpe_of_luck: 0.1,
                doubts: vec!["it earns where it was chosen and not afterwards".into()],
            },
            ..OptimiseReport::default()
        }
    }

    #[test]
    fn the_summary_tells_both_sides_of_the_cut_and_what_is_to_be_doubted() {
        let text = search_summary(&example(), &[], Style::PLAIN);
        for said in ["fast 7.5, slow 30", "as configured: fast 12", "0.4000", "-0.1000", "-2.50 %"]
        {
            assert!(text.contains(said), "{said}: {text}");
        }
        assert!(text.contains("to be doubted: it earns where"), "{text}");
    }

    #[test]
    fn each_stretch_is_told_with_its_trades() {
        let outcome = |score, trades| {
            Some(Outcome {
                score,
                metrics: Metrics { trades, ..Metrics::default() },
                ..Outcome::default()
            })
        };
        let fold = FoldReport {
            judged_on: (700, 800),
            judged: Judged { out_of_sample: outcome(-1.0, 4), ..Judged::default() },
            configured: outcome(-0.5, 40),
            ..FoldReport::default()
        };
        let bare = FoldReport { configured: None, ..fold.clone() };
        let report = OptimiseReport { walk_forward: vec![fold, bare], ..example() };
        let text = search_summary(&report, &[], Style::PLAIN);
        assert!(text.contains("700 to 800: score -1.0000 in 4 trades with"), "{text}");
        assert!(text.contains("(as configured -0.5000 in 40 trades)\n"), "{text}");
        assert!(text.contains("(as configured -)\n"), "{text}");
    }

    #[test]
    fn the_table_of_the_best_has_what_was_earned_for_the_worst_that_was_borne() {
        let text = search_summary(&example(), &[], Style::PLAIN);
        let cells = |start: &str| -> Vec<String> {
            let line = text.lines().find(|line| line.trim_start().starts_with(start)).unwrap();
            line.split_whitespace().map(str::to_owned).collect()
        };
        let place = cells("Best").iter().position(|name| name == "risk-adjusted").unwrap();
        // Parameters are four words where their title is one, and a profit is two.
        assert_eq!(cells("fast 7.5, slow 30")[place + 4], "2.00");
    }

    #[test]
    fn on_rows_that_were_held_back_it_says_whether_the_chosen_did_better_worse_or_as_good() {
        let outcome = |score| Outcome { score, ..Outcome::default() };
        for (chosen, configured, said) in [
            (0.5, 0.25, "better there by 0.2500"),
            (-0.5, 0.25, "worse there by 0.7500"),
            (0.25, 0.25, "as good there"),
        ] {
            let held_back = HeldBack {
                rows: (700, 1_000),
                parameters: vec![("fast".into(), 5.0)],
                chosen: outcome(chosen),
                configured: outcome(configured),
                ..HeldBack::default()
            };
            let report = OptimiseReport { held_back: Some(held_back), ..example() };
            let text = search_summary(&report, &[], Style::PLAIN);
            let title = "On rows 700 to 1,000, which nobody had looked at\n";
            let (_, held) = text.split_once(title).unwrap();
            assert!(held.contains(&format!("the chosen      score {chosen:>8.4},")), "{held}");
            assert!(held.contains(&format!("as configured   score {configured:>8.4},")), "{held}");
            let told: Vec<&str> =
                ["better", "worse", "as good"].into_iter().filter(|it| held.contains(it)).collect();
            assert!(held.contains(&format!("\n  {said}\n")) && told.len() == 1, "{held}");
        }
    }

    #[test]
    fn nothing_of_a_report_becomes_markup() {
        let page = search_page(&example());
        assert!(!page.contains("crossing</script>") && page.contains("crossing\\u003c/script"));
        assert_eq!(page.matches("</script>").count(), 2);
        let json = example().to_json();
        assert_eq!(serde_json::from_str::<OptimiseReport>(&json).unwrap(), example());
    }
}
