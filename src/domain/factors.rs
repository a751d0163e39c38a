//! Factor values on their way from the factor engine to the strategies.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Definition, Key, SourceId, Span, SymbolId};

/// What makes a factor advance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Cadence {
    /// Every row that gives its symbol a price.
    Ticks,
    /// Every event-time window of this length that closes.
    Windows(Span),
}

/// One column of factor values, as text: `bollinger_lower(20,2)`, `sma(period=20)`, `vwap@60s`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FactorSpec {
    /// The factor's name in the registry.
    pub name: String,
    /// Names and values in the order given; an empty name means by position. The canonical form,
    /// which two equal columns share, has every value by position.
    pub parameters: Vec<(String, f64)>,
    /// What makes it advance.
    pub on: Cadence,
}

/// Why text is not a [`FactorSpec`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a factor: {problem}; write it like `sma(20)` or `sma(20)@60s`")]
pub struct FactorSpecError {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl FactorSpec {
    /// The factor `name` with `values` by position.
    pub fn new(name: &str, values: &[f64], on: Cadence) -> Self {
        let parameters = values.iter().map(|&value| (String::new(), value)).collect();
        Self { name: name.to_owned(), parameters, on }
    }
}

impl FromStr for FactorSpec {
    type Err = FactorSpecError;

    fn from_str(text: &str) -> Result<Self, FactorSpecError> {
        let wrong = |problem| FactorSpecError { text: text.to_owned(), problem };
        let (head, on) = match text.split_once('@') {
            None => (text, Cadence::Ticks),
            Some((head, length)) => (head, Cadence::Windows(span(length).map_err(wrong)?)),
        };
        let (name, list) = match head.trim().split_once('(') {
            None => (head.trim(), ""),
            Some((name, rest)) => {
                (name.trim(), rest.strip_suffix(')').ok_or_else(|| wrong("a `)` is missing"))?)
            }
        };
        let is_name = |name: &str| {
            name.starts_with(|first: char| first.is_ascii_lowercase())
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        };
        if !is_name(name) {
            return Err(wrong("a name is lower-case letters, digits and `_`"));
        }
        let mut parameters = Vec::new();
        for parameter in list.split(',').filter(|_| !list.trim().is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or(("", parameter));
            let value = value.trim().parse().map_err(|_| wrong("a parameter is not a number"))?;
            parameters.push((name.trim().to_owned(), value));
        }
        Ok(Self { name: name.to_owned(), parameters, on })
    }
}

/// A length of time such as `500ms`, `60s`, `5m` or `1h`.
fn span(text: &str) -> Result<Span, &'static str> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("a window is a whole number of `ms`, `s`, `m` or `h`"),
    };
    let count: u32 = number.parse().map_err(|_| "a window's length is not a number")?;
    Ok(Span::from_millis(u64::from(count) * unit_ms))
}

impl fmt::Display for FactorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        for (index, (name, value)) in self.parameters.iter().enumerate() {
            f.write_str(if index == 0 { "(" } else { "," })?;
            if !name.is_empty() {
                write!(f, "{name}=")?;
            }
            write!(f, "{value}")?;
        }
        if !self.parameters.is_empty() {
            f.write_str(")")?;
        }
        match self.on {
            Cadence::Ticks => Ok(()),
            Cadence::Windows(length) if length.subsec_nanos() == 0 => {
                write!(f, "@{}s", length.as_secs())
            }
            Cadence::Windows(length) => write!(f, "@{}ms", length.as_millis()),
        }
    }
}

/// One row that moved a symbol's factors, or one window that closed. Its values are in its batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FactorRow {
    /// The key of the tick, or of the boundary row.
    pub key: Key,
    /// Who trades; the number is that of the source of `key`.
    pub symbol: SymbolId,
    /// Whether this is a window closing rather than a tick.
    pub is_boundary: bool,
    /// The price the factors saw, in quote currency.
    pub price: f64,
}

/// What the values of a row are.
///
/// It changes only with the parameters of strategies, and each such change makes the next version
/// out of the one before: rows of one version have the same columns in every run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FactorLayout {
    /// How many changes of parameters came before.
    pub version: u64,
    /// The columns, canonical and distinct, in the order of a row's values.
    pub columns: Vec<FactorSpec>,
}

/// Rows in key order, and their values row by row: with `n` columns, row `r` has
/// `values[r * n .. (r + 1) * n]`. A factor that has not seen enough is `NAN`.
#[derive(Clone, Debug, Default)]
pub struct FactorBatch {
    /// What the values are, in all rows of this batch.
    pub layout: Arc<FactorLayout>,
    /// Symbols that appear in this stream for the first time, with the source that defined them.
    pub definitions: Vec<(SourceId, Definition)>,
    /// The rows.
    pub rows: Vec<FactorRow>,
    /// `rows.len() * columns` values.
    pub values: Vec<f64>,
    /// When the first row was handed over, by the node's monotonic clock, in nanoseconds. For
    /// latency figures only: nothing may depend on it.
    pub origin_nanos: u64,
}

impl FactorBatch {
    /// The values of row `index`.
    pub fn values_of(&self, index: usize) -> &[f64] {
        let columns = self.layout.columns.len();
        &self.values[index * columns..(index + 1) * columns]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_factor_reads_as_it_is_written() {
        for text in ["vwap", "sma(20)", "bollinger_lower(20,2.5)", "sma(period=20)@60s", "x@1500ms"]
        {
            assert_eq!(text.parse::<FactorSpec>().unwrap().to_string(), text);
        }
        let spec: FactorSpec = " sma ( 20 ) @ 1m".parse().unwrap();
        let minute = Cadence::Windows(Span::from_secs(60));
        assert_eq!(spec, FactorSpec::new("sma", &[20.0], minute));
    }

    #[test]
    fn text_that_is_no_factor_says_why() {
        for text in ["", "SMA(20)", "sma(20", "sma(x)", "sma(20,)", "sma@60", "sma@s", "(20)"] {
            let error = text.parse::<FactorSpec>().unwrap_err();
            assert!(error.to_string().contains("write it like"), "{error}");
        }
    }
}
