//! The tables, and what a row of each holds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Day;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// 64 bits.
    Integer,
    /// An estimate.
    Float,
    /// An exact decimal with at most 18 decimals, handed over as text.
    Decimal,
    /// A short name, which may be part of a key.
    Name,
    /// Text of any length.
    Text,
}

/// A column of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// What it is called.
    pub name: &'static str,
    /// What it holds.
    pub kind: ColumnKind,
    /// Whether it may be empty.
    pub is_optional: bool,
}

const fn column(name: &'static str, kind: ColumnKind) -> Column {
    Column { name, kind, is_optional: false }
}

const fn integer(name: &'static str) -> Column {
    column(name, ColumnKind::Integer)
}

const fn decimal(name: &'static str) -> Column {
    column(name, ColumnKind::Decimal)
}

const fn name(name: &'static str) -> Column {
    column(name, ColumnKind::Name)
}

const fn optional(mut column: Column) -> Column {
    column.is_optional = true;
    column
}

/// What becomes of a row whose key is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnConflict {
    /// The row that is there stays: both say the same.
    Keep,
    /// The later one stays: by `time_ns`, then by `number`. Numbers alone begin anew when all that was known
    /// of a run is lost; time does not.
    Latest,
}

/// A table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Table {
    /// Orders that left risk.
    Orders,
    /// How they ended.
    OrderEnds,
    /// What traded.
    Fills,
    /// What is held.
    Positions,
    /// What operators did.
    Audit,
    /// Clean rows of a day.
    Ticks(Day),
    /// What factors came to on a day.
    Factors(Day),
}

const ORDERS: &[Column] = &[
    name("run"),
    name("order_id"),
    integer("number"),
    integer("time_ns"),
    name("strategy"),
    name("account"),
    name("symbol"),
    name("side"),
    decimal("quantity"),
    decimal("limit_price"),
    integer("reduce_only"),
];

const ORDER_ENDS: &[Column] =
    &[name("run"), name("order_id"), integer("number"), integer("time_ns"), decimal("remaining")];

const FILLS: &[Column] = &[
    name("run"),
    name("order_id"),
    name("broker"),
    integer("trade_id"),
    integer("number"),
    integer("time_ns"),
    name("account"),
    name("symbol"),
    name("side"),
    decimal("quantity"),
    decimal("price"),
    decimal("fee"),
    decimal("realised"),
    decimal("position"),
];

const POSITIONS: &[Column] = &[
    name("run"),
    name("account"),
    name("symbol"),
    integer("number"),
    integer("time_ns"),
    name("currency"),
    decimal("quantity"),
    decimal("cost"),
    decimal("realised"),
    decimal("fees"),
    integer("fills"),
];

const AUDIT: &[Column] = &[
    name("node"),
    integer("incarnation"),
    integer("number"),
    integer("time_ns"),
    name("deed"),
    column("detail", ColumnKind::Text),
];

const TICKS: &[Column] = &[
    name("run"),
    integer("source"),
    integer("sequence"),
    integer("time_ns"),
    name("symbol"),
    name("kind"),
    optional(decimal("price")),
    optional(decimal("volume")),
    optional(decimal("bid")),
    optional(decimal("ask")),
    optional(decimal("bid_quantity")),
    optional(decimal("ask_quantity")),
];

const FACTORS: &[Column] = &[
    name("run"),
    integer("source"),
    integer("sequence"),
    name("symbol"),
    integer("time_ns"),
    name("moved_by"),
    column("price", ColumnKind::Float),
    column("factors", ColumnKind::Text),
];

impl Table {
    /// Those that are there from the start, one for all days.
    pub const LASTING: [Self; 5] =
        [Self::Orders, Self::OrderEnds, Self::Fills, Self::Positions, Self::Audit];

    /// What it is called in the database.
    pub fn name(self) -> String {
        match self {
            Self::Orders => "tickwright_orders".into(),
            Self::OrderEnds => "tickwright_order_ends".into(),
            Self::Fills => "tickwright_fills".into(),
            Self::Positions => "tickwright_positions".into(),
            Self::Audit => "tickwright_audit".into(),
            Self::Ticks(day) => format!("tickwright_ticks_{day}"),
            Self::Factors(day) => format!("tickwright_factors_{day}"),
        }
    }

    /// The table of that name.
    pub fn parse(name: &str) -> Option<Self> {
        if let Some(day) = name.strip_prefix("tickwright_ticks_") {
            return Day::parse(day).map(Self::Ticks);
        }
        if let Some(day) = name.strip_prefix("tickwright_factors_") {
            return Day::parse(day).map(Self::Factors);
        }
        Self::LASTING.into_iter().find(|table| table.name() == name)
    }

    /// The day it is of, for those that are kept by the day.
    pub const fn day(self) -> Option<Day> {
        match self {
            Self::Ticks(day) | Self::Factors(day) => Some(day),
            Self::Orders | Self::OrderEnds | Self::Fills | Self::Positions | Self::Audit => None,
        }
    }

    /// Its columns; those of the key come first.
    pub const fn columns(self) -> &'static [Column] {
        match self {
            Self::Orders => ORDERS,
            Self::OrderEnds => ORDER_ENDS,
            Self::Fills => FILLS,
            Self::Positions => POSITIONS,
            Self::Audit => AUDIT,
            Self::Ticks(_) => TICKS,
            Self::Factors(_) => FACTORS,
        }
    }

    /// How many of the columns are the key.
    pub const fn key_columns(self) -> usize {
        match self {
            Self::Orders | Self::OrderEnds => 2,
            Self::Fills | Self::Factors(_) => 4,
            Self::Positions | Self::Audit | Self::Ticks(_) => 3,
        }
    }

    /// What becomes of a row whose key is there already.
    pub const fn on_conflict(self) -> OnConflict {
        match self {
            Self::Positions => OnConflict::Latest,
            Self::Orders
            | Self::OrderEnds
            | Self::Fills
            | Self::Audit
            | Self::Ticks(_)
            | Self::Factors(_) => OnConflict::Keep,
        }
    }

    /// The place of the column called `name`.
    pub fn place(self, name: &str) -> Option<usize> {
        self.columns().iter().position(|column| column.name == name)
    }
}

/// A value of a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// Nothing.
    Null,
    /// Of [`ColumnKind::Integer`].
    Integer(i64),
    /// Of [`ColumnKind::Float`].
    Float(f64),
    /// Of all others.
    Text(String),
}

impl Value {
    /// A decimal as every back end is to give it back: without zeros at its end.
    pub fn decimal(text: &str) -> Self {
        let text = match text.split_once('.') {
            Some((whole, fraction)) => {
                let fraction = fraction.trim_end_matches('0');
                if fraction.is_empty() { whole.to_owned() } else { format!("{whole}.{fraction}") }
            }
            None => text.to_owned(),
        };
        Self::Text(if text == "-0" { "0".into() } else { text })
    }

    /// An integer of 64 bits; larger ones than there are become the largest.
    pub fn unsigned(value: u64) -> Self {
        Self::Integer(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

/// A row of a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Of which.
    pub table: Table,
    /// In the order of its columns.
    pub values: Vec<Value>,
}

impl Row {
    /// What tells it from all others of its table, as text that sorts by nothing in particular.
    fn key(&self) -> String {
        let key = &self.values[..self.table.key_columns().min(self.values.len())];
        format!("{key:?}")
    }

    /// Its key as a person reads it.
    pub fn name(&self) -> String {
        let key = &self.values[..self.table.key_columns().min(self.values.len())];
        let text = |value: &Value| match value {
            Value::Null => "-".to_owned(),
            Value::Integer(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            Value::Text(text) => text.clone(),
        };
        key.iter().map(text).collect::<Vec<_>>().join(" ")
    }

    /// When it became so, and its number, where it has them.
    fn standing(&self) -> [Option<i64>; 2] {
        ["time_ns", "number"].map(|name| match self.values.get(self.table.place(name)?)? {
            Value::Integer(number) => Some(*number),
            Value::Null | Value::Float(_) | Value::Text(_) => None,
        })
    }
}

/// `rows` by table, in their order, each key once: no database takes the same key twice in one statement
/// that replaces. Which one stays is as [`OnConflict`] has it.
pub fn deduplicated(rows: &[Row]) -> BTreeMap<Table, Vec<&Row>> {
    let mut tables: BTreeMap<Table, Vec<&Row>> = BTreeMap::new();
    let mut places: BTreeMap<(Table, String), usize> = BTreeMap::new();
    for row in rows {
        let chosen = tables.entry(row.table).or_default();
        if row.table.on_conflict() == OnConflict::Keep {
            // The database passes over those that are there, also within one statement.
            chosen.push(row);
            continue;
        }
        match places.get(&(row.table, row.key())) {
            Some(&place) if row.standing() >= chosen[place].standing() => chosen[place] = row,
            Some(_) => {}
            None => {
                places.insert((row.table, row.key()), chosen.len());
                chosen.push(row);
            }
        }
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Table> {
        let days = [Table::Ticks(Day(20_000)), Table::Factors(Day(20_001))];
        Table::LASTING.into_iter().chain(days).collect()
    }

    #[test]
    fn a_table_is_found_again_by_its_name() {
        for table in all() {
            assert_eq!(Table::parse(&table.name()), Some(table));
        }
        assert_eq!(Table::parse("tickwright_ticks_20240230"), None);
        assert_eq!(Table::parse("orders"), None);
    }

    #[test]
    fn keys_are_names_and_integers_and_never_empty() {
        for table in all() {
            for column in &table.columns()[..table.key_columns()] {
                let fits = matches!(column.kind, ColumnKind::Name | ColumnKind::Integer);
                assert!(fits && !column.is_optional, "{} of {table:?}", column.name);
            }
            let needs_number = table.on_conflict() == OnConflict::Latest;
            assert!(!needs_number || table.place("number").and(table.place("time_ns")).is_some());
        }
    }

    #[test]
    fn decimals_of_all_back_ends_are_the_same_text() {
        for (given, text) in
            [("1.500000", "1.5"), ("-2.000", "-2"), ("0.0", "0"), ("-0.0", "0"), ("100", "100")]
        {
            assert_eq!(Value::decimal(given), Value::Text(text.into()));
        }
    }

    #[test]
    fn of_one_position_only_the_latest_row_is_written() {
        let row = |symbol: &str, time, number| Row {
            table: Table::Positions,
            values: [
                Value::Text("run".into()),
                Value::Text("a".into()),
                Value::Text(symbol.into()),
            ]
            .into_iter()
            .chain([Value::Integer(number), Value::Integer(time)])
            .collect(),
        };
        let rows = [row("X", 5, 9), row("Y", 5, 2), row("X", 6, 4), row("X", 6, 3)];
        let chosen = deduplicated(&rows);
        assert_eq!(chosen[&Table::Positions], [&rows[2], &rows[1]]);
    }
}
