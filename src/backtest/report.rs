//! What a run did, in numbers: the contract behind `--report FILE`.
//!
//! The field names and their meaning are promised to users; see the table of each type. Fields may be
//! added, none may be renamed. Money is written as a decimal string, exactly; ratios, prices in
//! charts and speeds are floats.
//!
//! # Invariants
//!
//! 1. What is written reads back as the same report (floats within one unit in the last place).
//! 2. [`RunReport::violations`] is empty for a run that kept its promises.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::domain::{Histogram, HistogramBucket, Money, Side, Span};
use crate::pipeline::venue::BrokerCounters;

use super::performance::{Performance, SymbolPerformance};

/// Most malformed rows listed per source.
pub const MALFORMED_ROWS_MAX: usize = 20;

/// Money that is written as a decimal string: `"-1234.5"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct MoneyText(pub Money);

impl From<Money> for MoneyText {
    fn from(money: Money) -> Self {
        Self(money)
    }
}

impl fmt::Display for MoneyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for MoneyText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for MoneyText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_money(&text)
            .map(|money| Self(Money(money)))
            .ok_or_else(|| serde::de::Error::custom(format!("`{text}` is not an amount of money")))
    }
}

/// Reads what [`Money`] writes: up to eighteen decimals, where [`Money::parse`] takes nine.
fn parse_money(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let decimals = usize::from(Money::DECIMALS);
    let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_digits(whole) || !is_digits(fraction) || fraction.len() > decimals {
        return None;
    }
    // The sign goes in front, so that the smallest amount there is can be read.
    let sign = if negative { "-" } else { "" };
    format!("{sign}{whole}{fraction:0<decimals$}").parse().ok()
}

/// Everything a run leaves behind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// Nodes the run was started with.
    pub nodes: u32,
    /// Data rows read, malformed ones included.
    pub ticks_in: u64,
    /// Rows that passed the cleaner.
    pub ticks_clean: u64,
    /// Rows that did not, by reason; `malformed` are those that could not be read.
    pub ticks_rejected: BTreeMap<String, u64>,
    /// Factor values computed.
    pub factors: u64,
    /// Signals of all strategies.
    pub signals: u64,
    /// What became of the signals.
    pub orders: OrderCounts,
    /// Executions.
    pub fills: u64,
    /// Fees paid, by currency.
    pub fees: BTreeMap<String, MoneyText>,
    /// Fees paid in something that was neither traded nor paid with, by its name. No part of any profit.
    pub fees_elsewhere: BTreeMap<String, MoneyText>,
    /// Profit and loss before fees, by currency.
    pub pnl: BTreeMap<String, ProfitAndLoss>,
    /// Every position that was ever held, by symbol.
    pub positions: Vec<PositionReport>,
    /// Rows read per second of wall time, by this process.
    pub ticks_per_second: f64,
    /// From the hand-over of a row to its order's arrival at the broker.
    pub latency_us: LatencyMicros,
    /// The most memory resident in any one node.
    pub peak_rss_bytes: u64,
    /// The same, by node.
    pub rss_by_node: BTreeMap<String, u64>,
    /// Actors started again after a fault.
    pub restarts: u64,
    /// Times that work was taken over: from a broker by the other, from a node by another.
    pub failovers: u64,
    /// Faults that were asked for.
    pub chaos: Vec<ChaosReport>,
    /// Rows read less rejected less distinct clean rows counted at the end of the pipeline. Not zero:
    /// something was lost, or counted twice.
    pub lost_ticks: i64,
    /// Orders the broker saw more than once per (strategy, symbol, signal key, leg).
    pub duplicate_orders: u64,
    /// Digest over all orders and fills in key order, in hexadecimal.
    pub order_digest: String,

    /// The program's version.
    pub version: String,
    /// What fixed all randomness.
    pub seed: u64,
    /// Digest of the configuration, in hexadecimal.
    pub config_fingerprint: String,
    /// Whether the run went on from one that was cut short.
    pub resumed: bool,
    /// Wall time of the run, or of its last part when it was resumed.
    pub duration_seconds: f64,
    /// Event time of the first window step, unix nanoseconds.
    pub data_from_ns: Option<u64>,
    /// Event time of the last window step, unix nanoseconds.
    pub data_to_ns: Option<u64>,
    /// Where rows came from.
    pub sources: Vec<SourceReport>,
    /// Rows by symbol, busiest first, as far as they were told apart.
    pub symbols: Vec<SymbolReport>,
    /// Who executed.
    pub brokers: Vec<BrokerReport>,
    /// Restarts by actor.
    pub restarts_by_actor: BTreeMap<String, u64>,
    /// Equity over event time, by currency.
    pub equity: BTreeMap<String, EquityReport>,
    /// How well each symbol that traded did, by name.
    #[serde(default)]
    pub performance: Vec<SymbolPerformance>,
    /// The busiest symbols' prices and orders, for drawing.
    pub charts: Vec<SymbolChart>,
    /// The latencies behind `latency_us`, ascending.
    pub latency_buckets: Vec<LatencyBucket>,
    /// Parameters of strategies that were changed on the way, in the order in which they hold.
    #[serde(default)]
    pub parameter_changes: Vec<ParameterChangeReport>,
    /// Whether what was found on the first rows helped on those after them, where a search ran beside.
    #[serde(default)]
    pub out_of_sample: Option<OutOfSampleReport>,
}

/// What was found on the first rows of a run, and what backtests of it come to on the rows after them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutOfSampleReport {
    /// The strategy's name.
    pub strategy: String,
    /// What was chosen.
    pub parameters: BTreeMap<String, f64>,
    /// Whether the run traded with it.
    pub is_adopted: bool,
    /// Event time from which it did, unix nanoseconds.
    pub adopted_from_ns: Option<u64>,
    /// Event time from which it traded with others again, unix nanoseconds; none if it never did.
    pub adopted_until_ns: Option<u64>,
    /// Event time of the first row that was held back, unix nanoseconds.
    pub held_back_from_ns: Option<u64>,
    /// The rows that were searched.
    pub found_on: StretchReport,
    /// The rows after them, which nobody had looked at.
    pub held_back: StretchReport,
    /// How the chosen did on these, by score.
    pub verdict: Verdict,
}

/// What chosen parameters come to on a stretch of the rows, beside those of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StretchReport {
    /// Which clean rows: from the first to before the second.
    pub rows: (u64, u64),
    /// What was chosen.
    pub chosen: ScoreReport,
    /// What is configured.
    pub configured: ScoreReport,
}

/// A score, and the profit behind it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScoreReport {
    /// From -1 to 1.
    pub score: f64,
    /// Net profit over the most that was held; 1.0 earned as much as that.
    pub profit_rate: f64,
}

/// How one thing did beside another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It was worth it.
    Better,
    /// It did harm.
    Worse,
    /// It made no difference.
    AsGood,
}

/// Other parameters for one strategy, from an event time on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ParameterChangeReport {
    /// Event time from which they hold, unix nanoseconds.
    pub from_ns: u64,
    /// The strategy's name.
    pub strategy: String,
    /// Those that changed, and what they are from then on.
    pub parameters: BTreeMap<String, f64>,
    /// Who changed them.
    pub by: String,
    /// Why.
    pub why: String,
}

/// What became of the signals.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderCounts {
    /// Passed risk.
    pub approved: u64,
    /// Denied by risk, by code.
    pub rejected: BTreeMap<String, u64>,
    /// Accepted by a broker.
    pub placed: u64,
    /// Filled whole.
    pub filled: u64,
    /// Outcome unknown for a while, after a timeout.
    pub unknown: u64,
}

/// Profit and loss of one currency, before fees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfitAndLoss {
    /// Of what was closed.
    pub realised: MoneyText,
    /// Of what is held, at its last mark.
    pub unrealised: MoneyText,
}

/// One position at the end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PositionReport {
    /// What.
    pub symbol: String,
    /// For whom.
    pub account: String,
    /// How much, as a decimal string; negative is short.
    pub quantity: String,
    /// Average price paid, an estimate; none when nothing is held.
    pub average_price: Option<f64>,
    /// The last mark, as a decimal string; none when there never was one.
    pub mark: Option<String>,
    /// What money is counted in.
    pub currency: String,
    /// What the holding is worth at the mark, regardless of direction.
    pub value: MoneyText,
    /// Profit of what was closed, before fees.
    pub realised: MoneyText,
    /// Profit of what is held, at the mark.
    pub unrealised: MoneyText,
    /// Fees paid.
    pub fees: MoneyText,
}

/// Latency in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LatencyMicros {
    /// Half of all were no slower.
    pub p50: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1,000.
    pub p999: f64,
    /// All.
    pub max: f64,
}

/// How many latencies lay between two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LatencyBucket {
    /// From here, in microseconds.
    pub from_us: f64,
    /// To below here.
    pub to_us: f64,
    /// So many.
    pub count: u64,
}

/// A fault that was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChaosReport {
    /// As it was given: `panic:factors@5000`.
    pub spec: String,
    /// Whether it happened.
    pub fired: bool,
}

/// One source of rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceReport {
    /// A file's path, or the simulator.
    pub name: String,
    /// What it was read as: `csv`, `csv.gz`, `parquet`.
    pub format: String,
    /// Data rows, malformed ones included.
    pub rows: u64,
    /// Rows that could not be read.
    pub malformed: u64,
    /// The first [`MALFORMED_ROWS_MAX`] of them.
    pub malformed_rows: Vec<MalformedRow>,
    /// Of a live source: what became of its connections and frames.
    pub live: Option<LiveSourceReport>,
}

/// What became of a live source's connections and frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveSourceReport {
    /// Connections that stood; every one after the first is a reconnection.
    pub connections: u64,
    /// Connections, and attempts at one, that ended.
    pub disconnects: u64,
    /// Frames that are not known; they are not rows.
    pub garbage: u64,
    /// Times messages were missing, by the venue's own ids.
    pub gaps: u64,
    /// Messages, or ids, missing in all of them.
    pub missing: u64,
    /// Messages whose id was not above the one before.
    pub repeated: u64,
    /// Times nothing was read because nothing could be taken in.
    pub stalls: u64,
}

/// A row that could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MalformedRow {
    /// Its line in the file, from 1, the header counted.
    pub line: u64,
    /// The column's name; empty when it is about the whole row.
    pub column: String,
    /// What is wrong.
    pub problem: String,
}

/// The rows of one symbol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SymbolReport {
    /// Who.
    pub symbol: String,
    /// Its class.
    pub class: String,
    /// Rows that passed the cleaner.
    pub clean: u64,
    /// Rows that did not, by reason.
    pub rejected: BTreeMap<String, u64>,
}

/// One broker's part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerReport {
    /// Its name.
    pub name: String,
    /// Orders accepted.
    pub placed: u64,
    /// Orders refused, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Executions.
    pub fills: u64,
    /// Times the router turned away from it.
    pub failovers: u64,
}

impl BrokerReport {
    /// What the broker `name` has counted.
    pub fn of(name: &str, counters: &BrokerCounters, failovers: u64) -> Self {
        let refused = [
            ("not_connected", counters.refused_not_connected),
            ("unavailable", counters.refused_unavailable),
            ("order", counters.refused_order),
        ];
        let refused = refused.into_iter().filter(|(_, count)| *count > 0);
        Self {
            name: name.to_owned(),
            placed: counters.accepted,
            refused: refused.map(|(name, count)| (name.to_owned(), count)).collect(),
            fills: counters.fills,
            failovers,
        }
    }
}

/// Equity of one currency over time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EquityReport {
    /// In time order.
    pub samples: Vec<EquitySample>,
    /// What they amount to.
    pub performance: Performance,
}

/// Equity at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EquitySample {
    /// Event time, unix nanoseconds.
    pub time_ns: u64,
    /// Realised plus unrealised profit less fees.
    pub equity: MoneyText,
}

/// One symbol's prices and orders, thinned out for drawing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SymbolChart {
    /// Who.
    pub symbol: String,
    /// What the price is in.
    pub currency: String,
    /// Orders there were; `orders` may be fewer.
    pub orders_total: u64,
    /// In time order.
    pub prices: Vec<PriceSample>,
    /// In time order.
    pub orders: Vec<OrderMark>,
}

/// A price at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PriceSample {
    /// Event time, unix nanoseconds.
    pub time_ns: u64,
    /// The mark.
    pub price: f64,
}

/// An order, as a mark in a chart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct OrderMark {
    /// Event time, unix nanoseconds.
    pub time_ns: u64,
    /// Which way.
    pub side: Side,
    /// Its limit.
    pub price: f64,
    /// How much was wanted.
    pub quantity: f64,
    /// How much traded.
    pub filled: f64,
}

/// A promise that a run did not keep.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Rows disappeared, or came from nowhere.
    #[error("{ticks_in} rows came in, but {clean} clean and {rejected} rejected are {sum}", sum = clean + rejected)]
    Unbalanced {
        /// Rows read.
        ticks_in: u64,
        /// Rows passed.
        clean: u64,
        /// Rows rejected.
        rejected: u64,
    },
    /// Clean rows did not arrive at the end of the pipeline, or did so twice.
    #[error("{count} clean rows were lost on the way (a negative count was repeated)")]
    LostTicks {
        /// How many.
        count: i64,
    },
    /// A broker saw orders again.
    #[error("{count} orders reached a broker more than once")]
    DuplicateOrders {
        /// How many.
        count: u64,
    },
    /// A fault that was asked for did not happen.
    #[error("the fault `{spec}` never happened")]
    ChaosUnfired {
        /// As it was given.
        spec: String,
    },
}

impl RunReport {
    /// Rows rejected for any reason.
    pub fn rejected_total(&self) -> u64 {
        self.ticks_rejected.values().sum()
    }

    /// Fills in how long the run took and how fast it was, but for the `resumed_rows` that an
    /// earlier process had read; `ticks_in` comes first. A run of no time at all has no speed.
    pub fn set_duration(&mut self, duration: Span, resumed_rows: u64) {
        let seconds = duration.as_secs_f64();
        let rows = self.ticks_in.saturating_sub(resumed_rows);
        self.duration_seconds = seconds;
        self.ticks_per_second = if seconds > 0.0 { count_to_f64(rows) / seconds } else { 0.0 };
    }

    /// Fills in both latency fields from `latencies`, given in nanoseconds.
    pub fn set_latency(&mut self, latencies: &Histogram) {
        self.latency_us = LatencyMicros {
            p50: micros(latencies.quantile(500_000)),
            p99: micros(latencies.quantile(990_000)),
            p999: micros(latencies.quantile(999_000)),
            max: micros(latencies.max()),
        };
        let bucket = |bucket: HistogramBucket| LatencyBucket {
            from_us: micros(bucket.from_nanos),
            to_us: micros(bucket.to_nanos),
            count: bucket.count,
        };
        self.latency_buckets = latencies.buckets(4).into_iter().map(bucket).collect();
    }

    /// Every promise the run did not keep; the program then exits with 1.
    pub fn violations(&self) -> Vec<Violation> {
        let mut violations = Vec::new();
        let (ticks_in, clean, rejected) = (self.ticks_in, self.ticks_clean, self.rejected_total());
        if ticks_in != clean + rejected {
            violations.push(Violation::Unbalanced { ticks_in, clean, rejected });
        }
        if self.lost_ticks != 0 {
            violations.push(Violation::LostTicks { count: self.lost_ticks });
        }
        if self.duplicate_orders != 0 {
            violations.push(Violation::DuplicateOrders { count: self.duplicate_orders });
        }
        for fault in self.chaos.iter().filter(|fault| !fault.fired) {
            violations.push(Violation::ChaosUnfired { spec: fault.spec.clone() });
        }
        violations
    }

    /// The report as indented JSON with a newline at the end.
    ///
    /// # Panics
    ///
    /// Never: every map has text for keys.
    pub fn to_json(&self) -> String {
        let mut json = serde_json::to_string_pretty(self).expect("every key is text");
        json.push('\n');
        json
    }
}

/// Nanoseconds as microseconds.
fn micros(nanos: u64) -> f64 {
    count_to_f64(nanos) / 1e3
}

#[expect(clippy::cast_precision_loss, reason = "exact to 2^53, for display")]
const fn count_to_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests;
