//! What a user types about parameters of strategies that run: `ctl parameters`.

use clap::{Args, Subcommand};
use tickwright_core::domain::Timestamp;

/// What to do with parameters.
#[derive(Clone, Debug, Subcommand)]
pub enum ParameterCommand {
    /// What they are by now, and how they were changed
    Get,
    /// Change some of a strategy's, on every node from the same row on
    Set(SetOptions),
}

/// Options of `ctl parameters set`.
#[derive(Args, Clone, Debug)]
pub struct SetOptions {
    /// Which strategy, by its name
    #[arg(value_name = "STRATEGY")]
    pub strategy: String,
    /// What changes; others stay
    #[arg(value_name = "NAME=VALUE", required = true, value_parser = named_value)]
    pub parameters: Vec<(String, f64)>,
    /// From which event time on, as 2024-08-08T23:54:14Z or unix nanoseconds [default: as soon as may be]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub at: Option<Timestamp>,
    /// Why, for whoever reads the report
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub why: String,
}

fn named_value(text: &str) -> Result<(String, f64), String> {
    let (name, value) = text.split_once('=').ok_or("is not NAME=VALUE")?;
    let value: f64 = value.parse().map_err(|_| format!("`{value}` is not a number"))?;
    if name.is_empty() || !value.is_finite() {
        return Err("needs a name and a finite number".into());
    }
    Ok((name.to_owned(), value))
}

fn time(text: &str) -> Result<Timestamp, String> {
    let problem = "is no time; write 2024-08-08T23:54:14Z, or unix nanoseconds";
    Timestamp::parse(text).ok_or_else(|| problem.to_owned())
}
