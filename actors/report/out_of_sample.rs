//! Whether what was found on the first rows of a run helped on those after them, as people read it.

use tickwright_core::backtest::report::{OutOfSampleReport, ScoreReport, StretchReport, Verdict};

use super::summary::Style;
use super::text::{count, float, shorten, time};

/// Columns: what chosen parameters come to on a stretch, and what those of the configuration do.
pub(super) fn title() -> String {
    let name = "Out of sample, by backtests";
    format!("{name:<38}{:>8}{:>10}{:>12}{:>10}", "score", "profit", "configured", "profit")
}

/// What was chosen, whether the run traded with it, and what it comes to.
pub(super) fn lines(found: &OutOfSampleReport, style: Style) -> Vec<String> {
    let value = |(name, value): (&String, &f64)| format!("{name} {}", float(*value));
    let values: Vec<String> = found.parameters.iter().map(value).collect();
    let (strategy, values) = (shorten(&found.strategy, 15), shorten(&values.join(", "), 60));
    let adopted = match (found.adopted_from_ns, found.adopted_until_ns) {
        (Some(from), None) => format!("adopted in this run from {} on", time(from)),
        (Some(from), Some(until)) => {
            format!("adopted in this run from {} to {}", time(from), time(until))
        }
        (None, _) => style.bad("NOT adopted: this run has not traded with it"),
    };
    vec![
        format!("  {strategy:<16}{values}"),
        format!("  {adopted}"),
        row("found on", &found.found_on),
        row("held back", &found.held_back),
        format!("  {}", told(found, style)),
    ]
}

fn row(name: &str, stretch: &StretchReport) -> String {
    let StretchReport { rows, chosen, configured } = stretch;
    let name = format!("{name} {} to {}", count(rows.0), count(rows.1));
    let profit = |of: &ScoreReport| format!("{:.2} %", of.profit_rate * 100.0);
    format!(
        "  {:<36}{:>8.4}{:>10}{:>12.4}{:>10}",
        shorten(&name, 35),
        chosen.score,
        profit(chosen),
        configured.score,
        profit(configured),
    )
}

fn told(found: &OutOfSampleReport, style: Style) -> String {
    let StretchReport { chosen, configured, .. } = &found.held_back;
    let by = (chosen.score - configured.score).abs();
    match found.verdict {
        Verdict::Better => {
            format!("better than the configuration on the rows held back, by {by:.4}")
        }
        Verdict::Worse => {
            style.bad(&format!("worse than the configuration on the rows held back, by {by:.4}"))
        }
        Verdict::AsGood => "no better than the configuration on the rows held back".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use tickwright_core::backtest::report::RunReport;

    use super::*;
    use crate::report::summary;

    fn told(adopted: [Option<u64>; 2], score: f64, verdict: Verdict) -> String {
        let [adopted_from_ns, adopted_until_ns] = adopted;
        let stretch = |rows, score: f64| StretchReport {
            rows,
            chosen: ScoreReport { score, profit_rate: score / 10.0 },
            configured: ScoreReport { score: 0.25, profit_rate: -0.5 },
        };
        let found = OutOfSampleReport {
            strategy: "crossing".into(),
            parameters: [("fast".to_owned(), 5.0), ("slow".to_owned(), 30.0)].into(),
            is_adopted: adopted_from_ns.is_some(),
            adopted_from_ns,
            adopted_until_ns,
            held_back_from_ns: None,
            found_on: stretch((0, 15_000_000), 0.5),
            held_back: stretch((15_000_000, 30_000_000), score),
            verdict,
        };
        let report = RunReport { out_of_sample: Some(found), ..RunReport::default() };
        let text = summary(&report, &[], Style::PLAIN);
        let at = text.find("Out of sample").unwrap();
        let (told, _) = text[at..].split_once("\n\n").unwrap();
        assert!(told.lines().all(|line| line.chars().count() <= 80), "{told}");
        told.to_owned()
    }

    #[test]
    fn what_was_adopted_and_helped_is_told_with_both_stretches() {
        let text = told([Some(1_723_161_254_000_000_000), None], 0.75, Verdict::Better);
        let rows = "held back 15,000,000 to 30,000,000    0.7500    7.50 %      0.2500  -50.00 %";
        for said in [
            "crossing        fast 5, slow 30",
            "adopted in this run from 2024-08-08 23:54:14 on",
            "found on 0 to 15,000,000",
            rows,
            "better than the configuration on the rows held back, by 0.5000",
        ] {
            assert!(text.contains(said), "{said}\n{text}");
        }
        assert!(!text.contains("NOT"), "{text}");
    }

    #[test]
    fn what_was_not_adopted_or_did_harm_is_told_plainly() {
        let text = told([None, None], -0.25, Verdict::Worse);
        for said in ["NOT adopted: this run has not traded with it", "worse than", "by 0.5000"] {
            assert!(text.contains(said), "{said}\n{text}");
        }
        assert!(!text.contains("adopted in this run"), "{text}");
        let times = [Some(1_723_161_254_000_000_000), Some(1_735_689_599_999_999_999)];
        let text = told(times, 0.25, Verdict::AsGood);
        let until = "adopted in this run from 2024-08-08 23:54:14 to 2024-12-31 23:59:59";
        for said in [until, "no better than"] {
            assert!(text.contains(said), "{said}\n{text}");
        }
    }
}
