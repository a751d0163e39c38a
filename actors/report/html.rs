//! The report as one page: everything inside, nothing fetched.
//!
//! The page holds the report as JSON and two scripts of our own that draw it on canvases. The report
//! carries names from files, so nothing of it may become markup: JSON is embedded with `<`, `>` and
//! `&` escaped, the scripts only ever make text of it, and the page forbids itself all network.

use serde::Serialize;
use tickwright_core::backtest::report::RunReport;

use super::summary::{Style, summary};

const PAGE: &str = include_str!("page.html");
const CHARTS: &str = include_str!("charts.js");
const LAYOUT: &str = include_str!("page.js");

/// `report` as an HTML page.
pub fn page(report: &RunReport) -> String {
    let script = format!("{CHARTS}\n{LAYOUT}");
    fill(
        PAGE,
        &[
            ("title", &escape(&format!("Tickwright run, {} rows", report.ticks_in))),
            ("summary", &escape(&summary(report, &[], Style::PLAIN))),
            ("report", &embed(report)),
            ("script", &script),
        ],
    )
}

/// `template` with each `{{name}}` replaced, in one pass: what is put in is not searched again.
pub(super) fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").expect("the template is a constant of ours");
        let value = values.iter().find(|(known, _)| *known == name);
        text.push_str(before);
        text.push_str(value.expect("the template is a constant of ours").1);
        rest = after;
    }
    text + rest
}

/// Text for the inside of an element or a quoted attribute.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// `report` as JSON for the inside of a `script` element. In JSON these characters stand inside
/// strings only, where an escape means the same; so no `</script>` or `<!--` can be spelled.
pub(super) fn embed(report: &impl Serialize) -> String {
    let json = serde_json::to_string(report).expect("every key is text");
    let mut safe = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                safe.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            other => safe.push(other),
        }
    }
    safe
}
