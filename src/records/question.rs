//! What can be asked about the records, and which of them are meant.

use serde::{Deserialize, Serialize};

use super::{Column, ColumnKind, Day, Table};

/// Rows of an answer, unless it is said otherwise.
const LIMIT: u64 = 100;

/// Rows of an answer, at most: it is held in memory, and sent between nodes.
const LIMIT_MAX: u64 = 10_000;

/// What is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Topic {
    /// Orders, and how they ended.
    Orders,
    /// Fills, with what each realised.
    Trades,
    /// What is held.
    Positions,
    /// Clean rows.
    Ticks,
    /// What operators and nodes did.
    Audit,
    /// What factors came to.
    Factors,
}

/// Which rows are meant. What is not given narrows nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// Of this run.
    pub run: Option<String>,
    /// Of this symbol.
    pub symbol: Option<String>,
    /// Of this strategy.
    pub strategy: Option<String>,
    /// Of this account.
    pub account: Option<String>,
    /// `buy` or `sell`.
    pub side: Option<String>,
    /// From this event time on, in nanoseconds.
    pub since_ns: Option<u64>,
    /// Before this event time, in nanoseconds.
    pub until_ns: Option<u64>,
    /// The latest so many.
    pub limit: Option<u64>,
    /// Without the latest so many: for the page before.
    pub offset: Option<u64>,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// About what.
    pub topic: Topic,
    /// Which rows.
    #[serde(default)]
    pub filter: Filter,
}

/// Why a question cannot be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// Too many rows at once.
    #[error(
        "--limit {0} is not from 1 to {LIMIT_MAX}; take one page after the other with --offset"
    )]
    Limit(u64),
    /// Not a side.
    #[error("--side {0} is neither buy nor sell")]
    Side(String),
    /// The topic has no such column.
    #[error("{topic} have no {column} to go by")]
    Column {
        /// What is asked about.
        topic: &'static str,
        /// What it lacks.
        column: &'static str,
    },
    /// Not a time.
    #[error("{0} is no time; write it as 2024-02-29, 2024-02-29T12:30:00 (UTC), or in nanoseconds")]
    Time(String),
}

impl Topic {
    /// As people say it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::Trades => "trades",
            Self::Positions => "positions",
            Self::Ticks => "ticks",
            Self::Audit => "deeds",
            Self::Factors => "factors",
        }
    }

    /// The table, for those that are not kept by the day.
    pub const fn table(self) -> Option<Table> {
        match self {
            Self::Orders => Some(Table::Orders),
            Self::Trades => Some(Table::Fills),
            Self::Positions => Some(Table::Positions),
            Self::Audit => Some(Table::Audit),
            Self::Ticks | Self::Factors => None,
        }
    }

    /// The table of `day`.
    pub const fn table_of(self, day: Day) -> Table {
        match self {
            Self::Orders => Table::Orders,
            Self::Trades => Table::Fills,
            Self::Positions => Table::Positions,
            Self::Audit => Table::Audit,
            Self::Ticks => Table::Ticks(day),
            Self::Factors => Table::Factors(day),
        }
    }

    /// The columns of an answer, each with the table that has it: `true` is the topic's own, `false` the
    /// one that is joined to it.
    pub fn columns(self) -> Vec<(Column, bool)> {
        let own = self.table_of(Day(0)).columns().iter().map(|&column| (column, true));
        let mut columns: Vec<(Column, bool)> = own.collect();
        let other = |name, kind| (Column { name, kind, is_optional: true }, false);
        match self {
            Self::Orders => {
                columns.push(other("ended_ns", ColumnKind::Integer));
                columns.push(other("remaining", ColumnKind::Decimal));
            }
            Self::Trades => columns.push(other("strategy", ColumnKind::Name)),
            Self::Positions | Self::Ticks | Self::Factors | Self::Audit => {}
        }
        columns
    }
}

impl Filter {
    /// What stands for the time that `text` says, in nanoseconds.
    ///
    /// # Errors
    ///
    /// [`FilterError::Time`].
    pub fn time(text: &str) -> Result<u64, FilterError> {
        let wrong = || FilterError::Time(text.to_owned());
        if let Ok(nanos) = text.parse::<u64>() {
            return Ok(nanos);
        }
        let text_utc = text.strip_suffix('Z').unwrap_or(text);
        let (date, clock) = text_utc.split_once(['T', ' ']).unwrap_or((text_utc, "00:00:00"));
        let bytes = date.as_bytes();
        if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
            return Err(wrong());
        }
        let day = Day::parse(&date.replace('-', "")).ok_or_else(wrong)?;
        let mut seconds = 0u64;
        let parts: Vec<&str> = clock.split(':').collect();
        if !(2..=3).contains(&parts.len()) {
            return Err(wrong());
        }
        for (part, (unit, max)) in parts.iter().zip([(3_600, 24), (60, 60), (1, 60)]) {
            let number: u64 = part.parse().map_err(|_| wrong())?;
            if part.len() != 2 || number >= max {
                return Err(wrong());
            }
            seconds += number * unit;
        }
        Ok((u64::from(day.0) * 86_400 + seconds) * 1_000_000_000)
    }

    /// Rows of the answer, and rows to pass over before them.
    ///
    /// # Errors
    ///
    /// [`FilterError::Limit`].
    pub fn page(&self) -> Result<(u64, u64), FilterError> {
        let limit = self.limit.unwrap_or(LIMIT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(FilterError::Limit(limit));
        }
        Ok((limit, self.offset.unwrap_or(0)))
    }

    /// The columns that must be what, for rows of `topic`: names and texts.
    ///
    /// # Errors
    ///
    /// [`FilterError`], where that makes no sense.
    pub fn equal(&self, topic: Topic) -> Result<Vec<(&'static str, &str)>, FilterError> {
        let given = [
            ("run", &self.run),
            ("symbol", &self.symbol),
            ("strategy", &self.strategy),
            ("account", &self.account),
            ("side", &self.side),
        ];
        let columns = topic.columns();
        let mut equal = Vec::new();
        for (column, value) in given {
            let Some(value) = value else { continue };
            if !columns.iter().any(|(known, _)| known.name == column) {
                return Err(FilterError::Column { topic: topic.name(), column });
            }
            if column == "side" && !["buy", "sell"].contains(&value.as_str()) {
                return Err(FilterError::Side(value.clone()));
            }
            equal.push((column, value.as_str()));
        }
        Ok(equal)
    }

    /// Which of `days` can have rows that are meant.
    pub fn days(&self, days: &[Day]) -> Vec<Day> {
        let day = |nanos| Day::of(crate::domain::Timestamp::from_nanos(nanos));
        let since = self.since_ns.map_or(Day(0), day);
        let until = self.until_ns.map_or(Day(u32::MAX), day);
        days.iter().copied().filter(|day| (since..=until).contains(day)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_dates_times_or_nanoseconds() {
        let day = 19_782 * 86_400_000_000_000;
        assert_eq!(Filter::time("2024-02-29"), Ok(day));
        assert_eq!(Filter::time("2024-02-29T01:02"), Ok(day + 3_720_000_000_000));
        assert_eq!(Filter::time("2024-02-29 01:02:03Z"), Ok(day + 3_723_000_000_000));
        assert_eq!(Filter::time("1700000000000000000"), Ok(1_700_000_000_000_000_000));
        for wrong in
            ["2024-02-30", "20240229T", "yesterday", "2024-02-29T24:00", "2024-02-29T1:00", ""]
        {
            assert!(Filter::time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_a_topic_does_not_have_cannot_be_asked_for() {
        let filter = Filter { strategy: Some("s".into()), ..Filter::default() };
        assert_eq!(filter.equal(Topic::Orders), Ok(vec![("strategy", "s")]));
        assert_eq!(filter.equal(Topic::Trades), Ok(vec![("strategy", "s")]), "by its order");
        let error = filter.equal(Topic::Ticks).unwrap_err();
        assert_eq!(error, FilterError::Column { topic: "ticks", column: "strategy" });
        let filter = Filter { side: Some("long".into()), ..Filter::default() };
        assert_eq!(filter.equal(Topic::Orders), Err(FilterError::Side("long".into())));
    }

    #[test]
    fn an_answer_is_bounded() {
        let page = |limit| Filter { limit, ..Filter::default() }.page();
        assert_eq!(page(None), Ok((100, 0)));
        assert_eq!(page(Some(10_000)), Ok((10_000, 0)));
        assert_eq!(page(Some(10_001)), Err(FilterError::Limit(10_001)));
        assert_eq!(page(Some(0)), Err(FilterError::Limit(0)));
    }

    #[test]
    fn only_the_days_that_are_meant_are_looked_into() {
        let nanos = |day: u64| day * 86_400_000_000_000;
        let filter =
            Filter { since_ns: Some(nanos(3)), until_ns: Some(nanos(4) + 1), ..Filter::default() };
        assert_eq!(filter.days(&[Day(2), Day(3), Day(4), Day(5)]), [Day(3), Day(4)]);
        assert_eq!(Filter::default().days(&[Day(2)]), [Day(2)]);
    }
}
