//! What a user types about the database: `db`, and the questions that `ctl` has in common with it.

use clap::{Args, Subcommand};
use tickwright_core::records::{Filter, Question, Topic};

use super::HiddenText;

/// Options of `db`.
#[derive(Args, Clone, Debug)]
pub struct DatabaseOptions {
    /// What to do.
    #[command(subcommand)]
    pub command: DatabaseCommand,
}

/// What to do with a database.
#[derive(Clone, Debug, Subcommand)]
pub enum DatabaseCommand {
    /// Make the tables, or bring them up to date
    Migrate,
    /// Copy everything from one database into another of any kind; begun again, it goes on
    Copy {
        /// The address, or @FILE with the address in it
        #[arg(long, value_name = "URL")]
        from: HiddenText,
        /// The address, or @FILE with the address in it
        #[arg(long, value_name = "URL")]
        to: HiddenText,
    },
    /// Bring what waits in node.data_dir into the database
    Flush,
    /// Show the rows in node.data_dir that were set aside because the database refused them, and why
    Aside,
    /// Offer the rows that were set aside to the database again
    Retry,
    /// Drop a row that was set aside
    Discard {
        /// Its id, as `aside` shows it, or `all`
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Ask the database itself, without a node.
    #[command(flatten)]
    Ask(RecordsCommand),
}

/// What to look up.
#[derive(Clone, Debug, Subcommand)]
pub enum RecordsCommand {
    /// Orders that left risk, and how they ended
    Orders(FilterOptions),
    /// What traded, and what each trade realised
    Trades(FilterOptions),
    /// What is held, and was earned
    Positions(FilterOptions),
    /// Clean ticks, if database.ticks is on
    Ticks(FilterOptions),
    /// What factors came to, if database.factors is on
    Factors(FilterOptions),
    /// What nodes did, and what operators were told
    Audit(FilterOptions),
}

/// Which rows.
#[derive(Args, Clone, Debug, Default)]
pub struct FilterOptions {
    /// Of this run, by its name in the column `run`
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
    /// Of this symbol
    #[arg(long, value_name = "SYMBOL")]
    pub symbol: Option<String>,
    /// Of this strategy
    #[arg(long, value_name = "NAME")]
    pub strategy: Option<String>,
    /// Of this account
    #[arg(long, value_name = "NAME")]
    pub account: Option<String>,
    /// buy or sell
    #[arg(long, value_name = "SIDE", value_parser = ["buy", "sell"])]
    pub side: Option<String>,
    /// From this event time on: 2024-02-29, 2024-02-29T12:30:00, or nanoseconds
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub since: Option<u64>,
    /// Before this event time
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub until: Option<u64>,
    /// The latest so many
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: u64,
    /// Without the latest so many: for the page before
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub offset: u64,
    /// Print comma-separated values
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
}

fn time(text: &str) -> Result<u64, String> {
    Filter::time(text).map_err(|error| error.to_string())
}

impl RecordsCommand {
    /// What is asked, and whether the answer is to be comma-separated.
    pub fn question(&self) -> (Question, bool) {
        let (topic, options) = match self {
            Self::Orders(options) => (Topic::Orders, options),
            Self::Trades(options) => (Topic::Trades, options),
            Self::Positions(options) => (Topic::Positions, options),
            Self::Ticks(options) => (Topic::Ticks, options),
            Self::Factors(options) => (Topic::Factors, options),
            Self::Audit(options) => (Topic::Audit, options),
        };
        let options = options.clone();
        let filter = Filter {
            run: options.run,
            symbol: options.symbol,
            strategy: options.strategy,
            account: options.account,
            side: options.side,
            since_ns: options.since,
            until_ns: options.until,
            limit: Some(options.limit),
            offset: Some(options.offset),
        };
        (Question { topic, filter }, options.csv)
    }
}
