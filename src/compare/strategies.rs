//! As many strategies as a scenario needs, made of those that are configured.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// One `[[strategy]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct StrategyTable {
    /// Its name; unique.
    pub name: String,
    /// Which strategy it is.
    pub kind: String,
    /// The name of the account it trades for.
    pub account: String,
    /// The symbols it trades.
    pub symbols: Vec<String>,
    /// Its numbers, by name.
    pub parameters: BTreeMap<String, f64>,
}

/// `count` strategies: the `configured` ones in turn, and when they are used up, again with other
/// parameters, so that each has factors of its own to be computed. A round later the first whole
/// number from 2 on, such as a period, is one more. None of none.
pub fn vary(configured: &[StrategyTable], count: usize) -> Vec<StrategyTable> {
    let mut strategies = Vec::new();
    let mut round = 0u32;
    while strategies.len() < count && !configured.is_empty() {
        for base in configured.iter().take(count - strategies.len()) {
            let mut strategy = base.clone();
            if round > 0 {
                strategy.name = format!("{}-{}", base.name, round + 1);
                let period = strategy
                    .parameters
                    .values_mut()
                    .find(|value| **value >= 2.0 && value.fract() == 0.0);
                if let Some(period) = period {
                    *period += f64::from(round);
                }
            }
            strategies.push(strategy);
        }
        round += 1;
    }
    strategies
}

/// The tables as a configuration spells them.
pub fn strategies_text(strategies: &[StrategyTable]) -> String {
    let mut text = String::new();
    for strategy in strategies {
        let symbols: Vec<String> = strategy.symbols.iter().map(|symbol| quoted(symbol)).collect();
        let _ = write!(
            text,
            "\n[[strategy]]\nname = {}\nkind = {}\naccount = {}\nsymbols = [{}]\n",
            quoted(&strategy.name),
            quoted(&strategy.kind),
            quoted(&strategy.account),
            symbols.join(", ")
        );
        if !strategy.parameters.is_empty() {
            text.push_str("[strategy.parameters]\n");
        }
        for (name, value) in &strategy.parameters {
            let _ = writeln!(text, "{} = {value:?}", quoted(name));
        }
    }
    text
}

/// A configuration's text without the tables of its strategies; comments within them go too.
pub fn without_strategies(text: &str) -> String {
    let mut kept = String::new();
    let mut is_strategy = false;
    for line in text.lines() {
        if let Some(header) = line.trim_start().strip_prefix('[') {
            let name = header.trim_start_matches('[').trim_start();
            let name: String =
                name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            is_strategy = name == "strategy";
        }
        if !is_strategy {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(control));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}
