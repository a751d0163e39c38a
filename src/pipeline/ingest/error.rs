//! What is wrong with a row or a header, in words that say what to do about it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::domain::decimal::DecimalError;
use crate::domain::{Symbol, SymbolError};

/// A column of a row, as a reader would look for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// From 1; for text without columns, the byte where the trouble starts.
    pub number: u32,
    /// As the header or the format's documentation has it.
    pub name: String,
}

/// Why a row cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Problem {
    /// Fewer columns than the header promised.
    #[error("has {found} columns where the header has {expected}")]
    ColumnsTooFew {
        /// Columns in the row.
        found: u32,
        /// Columns in the header.
        expected: u32,
    },
    /// More columns than the header promised.
    #[error("has {found} columns where the header has {expected}")]
    ColumnsTooMany {
        /// Columns in the row.
        found: u32,
        /// Columns in the header.
        expected: u32,
    },
    /// A quote that does not close.
    #[error("has an opening quote without a closing one")]
    QuoteOpen,
    /// The line does not end.
    #[error("is longer than {limit} bytes")]
    LineTooLong {
        /// Longest line that is read.
        limit: u64,
    },
    /// A field that must be there.
    #[error("is empty")]
    Empty,
    /// Text where a number belongs.
    #[error("is not a number")]
    NotANumber,
    /// `NaN`, `inf` and their kin.
    #[error("is not a finite number")]
    NotFinite,
    /// A number that does not fit.
    #[error("is out of range")]
    OutOfRange,
    /// A time outside the years that are believed.
    #[error("is not between the years 1990 and 2100")]
    TimeOutOfRange,
    /// Text where a date or a time of day belongs.
    #[error("is not a date or time")]
    NotATime,
    /// A kind of row that nobody knows.
    #[error("is not one of {known}")]
    UnknownWord {
        /// The words that are known.
        known: String,
    },
    /// No symbol.
    #[error("{reason}")]
    Symbol {
        /// What [`SymbolError`] said.
        reason: String,
    },
    /// One symbol too many.
    #[error("would be symbol number {count}; the limit is one less")]
    SymbolCount {
        /// Symbols there would be.
        count: u64,
    },
    /// Not the JSON that was expected.
    #[error("is not valid JSON: {reason}")]
    Json {
        /// What is wrong.
        reason: String,
    },
    /// A message without a field that it needs.
    #[error("lacks the field `{field}`")]
    FieldMissing {
        /// The field.
        field: String,
    },
    /// A bar whose open or close is outside its low and high.
    #[error("contradicts itself: open and close must be between low and high")]
    BarInconsistent,
    /// A bar that was there before.
    #[error("is a second bar of one symbol and time")]
    BarRepeated,
}

impl Problem {
    /// What somebody can do about it.
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::ColumnsTooFew { .. } | Self::ColumnsTooMany { .. } => {
                "give the row as many columns as the header has, empty ones included"
            }
            Self::QuoteOpen => "close the quote or remove it",
            Self::LineTooLong { .. } => "check that the file is text with one row a line",
            Self::Empty => "fill in the field or remove the row",
            Self::NotANumber => "write a decimal number such as 61837.63",
            Self::NotFinite => "leave the field empty where there is no value",
            Self::OutOfRange => {
                "check the unit, or lower the instrument's price_decimals or quantity_decimals"
            }
            Self::TimeOutOfRange => "check that the time is in unix nanoseconds, UTC",
            Self::NotATime => "write the time as the format's documentation has it",
            Self::UnknownWord { .. } => "use one of the known words or remove the row",
            Self::Symbol { .. } => "name the instrument NAME.VENUE, in at most 64 characters",
            Self::SymbolCount { .. } => "check the symbol column, or split the file",
            Self::Json { .. } => "record one whole frame a line",
            Self::BarInconsistent => "correct the bar or remove it",
            Self::BarRepeated => "remove one of the two",
            Self::FieldMissing { .. } => "check which stream and which venue the frame is from",
        }
    }
}

impl From<DecimalError> for Problem {
    fn from(error: DecimalError) -> Self {
        match error {
            DecimalError::Empty => Self::Empty,
            DecimalError::NotANumber => Self::NotANumber,
            DecimalError::NotFinite => Self::NotFinite,
            DecimalError::OutOfRange => Self::OutOfRange,
        }
    }
}

impl From<SymbolError> for Problem {
    fn from(error: SymbolError) -> Self {
        Self::Symbol { reason: error.to_string() }
    }
}

/// A row that cannot be read: where, what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowError {
    /// From 1, as an editor counts.
    pub line: u64,
    /// The column, where one is to blame.
    pub column: Option<Column>,
    /// What stands there, cut to [`RowError::EXCERPT_LEN_MAX`] characters.
    pub excerpt: String,
    /// What is wrong with it.
    pub problem: Problem,
}

impl RowError {
    /// Most characters of the input that a message repeats.
    pub const EXCERPT_LEN_MAX: usize = 40;

    /// An error about `text` in the column called `name`, the `number`th from 1; 0 blames the row.
    #[cold]
    pub fn new(line: u64, number: usize, name: &str, text: &[u8], problem: Problem) -> Box<Self> {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let column = (number > 0).then(|| Column { number, name: name.to_owned() });
        Box::new(Self { line, column, excerpt: excerpt(text), problem })
    }
}

/// `text` with what cannot be printed escaped, cut short with `...`.
fn excerpt(text: &[u8]) -> String {
    let mut shown = String::new();
    for &byte in text {
        if shown.len() + 4 > RowError::EXCERPT_LEN_MAX {
            shown.push_str("...");
            break;
        }
        shown.extend(std::ascii::escape_default(byte).map(char::from));
    }
    shown
}

impl fmt::Display for RowError {
    /// `line 17, column 4 (price): "abc" is not a number; write a decimal number such as 61837.63`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}", self.line)?;
        match &self.column {
            Some(column) => write!(f, ", column {} ({}): ", column.number, column.name)?,
            None => f.write_str(": ")?,
        }
        write!(f, "\"{}\" {}; {}", self.excerpt, self.problem, self.problem.remedy())
    }
}

impl std::error::Error for RowError {}

/// Why a file's header cannot be used. The whole file is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// A column that every row needs.
    #[error("the header lacks the column `{name}`; it must have {required}")]
    ColumnMissing {
        /// The column.
        name: &'static str,
        /// Every column that must be there.
        required: String,
    },
    /// Two columns of one name.
    #[error("the header has the column `{name}` twice (columns {first} and {second}); rename one")]
    ColumnTwice {
        /// The name.
        name: String,
        /// The first column's number, from 1.
        first: usize,
        /// The second column's number, from 1.
        second: usize,
    },
    /// No column that could hold a price.
    #[error("the header has neither `price` nor `bid1` nor `ask1`; one of them must be there")]
    NoPrices,
}

const _: () = assert!(Symbol::LEN_MAX == 64, "the remedy names the limit");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_line_column_value_and_remedy() {
        let error = RowError::new(17, 4, "price", b"abc", Problem::NotANumber);
        assert_eq!(
            error.to_string(),
            "line 17, column 4 (price): \"abc\" is not a number; \
             write a decimal number such as 61837.63"
        );
    }

    #[test]
    fn a_message_repeats_only_the_start_of_what_it_complains_about() {
        let error = RowError::new(2, 2, "symbol", &[b'A'; 10_000], Problem::Empty);
        assert!(error.excerpt.len() <= RowError::EXCERPT_LEN_MAX + 3, "{}", error.excerpt);
        assert!(error.excerpt.ends_with("A..."));
        let error = RowError::new(2, 2, "symbol", b"\x00\xff\"", Problem::Empty);
        assert_eq!(error.excerpt, "\\x00\\xff\\\"");
    }
}
