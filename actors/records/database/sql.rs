//! The statements, as far as all three databases have them in common.

use tickwright_core::records::{
    Column, ColumnKind, Day, Filter, FilterError, Row, Table, Topic, Value,
};

use super::backend::{Dialect, Index, Statement};

/// What a table is looked through by, besides its key.
fn indexes(table: Table) -> &'static [&'static [&'static str]] {
    match table {
        Table::Orders | Table::Fills => &[&["time_ns"], &["symbol", "time_ns"]],
        Table::Audit => &[&["time_ns"]],
        Table::Ticks(_) | Table::Factors(_) => &[&["symbol", "time_ns"]],
        Table::OrderEnds | Table::Positions => &[],
    }
}

fn declared(dialect: &(impl Dialect + ?Sized), column: &Column) -> String {
    let may_lack = if column.is_optional { "" } else { " NOT NULL" };
    format!("{} {}{may_lack}", column.name, dialect.type_of(column.kind))
}

/// Makes `table`, if it is not there.
pub(super) fn create(dialect: &(impl Dialect + ?Sized), table: Table) -> Vec<Statement> {
    let name = table.name();
    let mut parts: Vec<String> =
        table.columns().iter().map(|column| declared(dialect, column)).collect();
    let key = table.columns()[..table.key_columns()].iter().map(|column| column.name);
    parts.push(format!("PRIMARY KEY ({})", key.collect::<Vec<_>>().join(", ")));
    let mut beside = Vec::new();
    for columns in indexes(table) {
        match dialect.index(&name, columns) {
            Index::Inside(text) => parts.push(text),
            Index::Beside(statement) => beside.push(statement),
        }
    }
    let (parts, options) = (parts.join(", "), dialect.table_options());
    let sql = format!("CREATE TABLE IF NOT EXISTS {name} ({parts}){options}");
    std::iter::once(Statement::once(sql)).chain(beside).collect()
}

/// Writes `rows` of `table` at once. `is_kept`: so many rows come often.
pub(super) fn insert(
    dialect: &(impl Dialect + ?Sized),
    table: Table,
    rows: &[&Row],
    is_kept: bool,
) -> Statement {
    let columns = table.columns();
    let names: Vec<&str> = columns.iter().map(|column| column.name).collect();
    let mut sql = format!("INSERT INTO {} ({}) VALUES ", table.name(), names.join(", "));
    let mut values = Vec::with_capacity(rows.len() * columns.len());
    for (at, row) in rows.iter().enumerate() {
        sql.push_str(if at == 0 { "(" } else { ", (" });
        for (place, (column, value)) in columns.iter().zip(&row.values).enumerate() {
            if place > 0 {
                sql.push_str(", ");
            }
            values.push((column.kind, value.clone()));
            sql.push_str(&dialect.placeholder(values.len(), column.kind));
        }
        sql.push(')');
    }
    sql.push(' ');
    sql.push_str(&dialect.on_conflict(table));
    Statement { sql, values, is_kept }
}

/// One page of `table`, in the order of its key: the rows behind `after`, the key of a row.
pub(super) fn page(
    dialect: &(impl Dialect + ?Sized),
    table: Table,
    after: Option<&[Value]>,
    limit: usize,
) -> Statement {
    let columns = table.columns();
    let read: Vec<String> =
        columns.iter().map(|column| dialect.read(column.name, column.kind)).collect();
    let key = &columns[..table.key_columns()];
    let mut values = Vec::new();
    // Written out: not every database goes by an index where rows are compared as a whole.
    let mut alternatives = Vec::new();
    for place in 0..after.map_or(0, |_| key.len()) {
        let mut terms = Vec::new();
        for (column, value) in key.iter().zip(after.unwrap_or_default()).take(place + 1) {
            values.push((column.kind, value.clone()));
            let sign = if column.name == key[place].name { ">" } else { "=" };
            let placeholder = dialect.placeholder(values.len(), column.kind);
            terms.push(format!("{} {sign} {placeholder}", column.name));
        }
        alternatives.push(format!("({})", terms.join(" AND ")));
    }
    let condition = match alternatives.is_empty() {
        true => String::new(),
        false => format!(" WHERE {}", alternatives.join(" OR ")),
    };
    let order: Vec<&str> = key.iter().map(|column| column.name).collect();
    let sql = format!(
        "SELECT {} FROM {}{condition} ORDER BY {} LIMIT {limit}",
        read.join(", "),
        table.name(),
        order.join(", ")
    );
    Statement::once(sql).with(values)
}

/// What `filter` means of `topic`, in the tables of `days` where it is kept by the day. The latest rows come
/// first. None, if there is no table to ask.
pub(super) fn question(
    dialect: &(impl Dialect + ?Sized),
    topic: Topic,
    filter: &Filter,
    days: &[Day],
) -> Result<Option<Statement>, FilterError> {
    let (limit, offset) = filter.page()?;
    let equal = filter.equal(topic)?;
    let columns = topic.columns();
    let tables: Vec<Table> = match topic.table() {
        Some(table) => vec![table],
        None => days.iter().map(|&day| topic.table_of(day)).collect(),
    };
    if tables.is_empty() {
        return Ok(None);
    }
    // Joined columns have names of their own there.
    let expression = |(column, is_own): &(Column, bool)| match (is_own, column.name) {
        (true, name) => format!("t.{name}"),
        (false, "ended_ns") => "o.time_ns".to_owned(),
        (false, name) => format!("o.{name}"),
    };
    let join = match topic {
        Topic::Orders => Some(Table::OrderEnds),
        Topic::Trades => Some(Table::Orders),
        Topic::Positions | Topic::Ticks | Topic::Factors | Topic::Audit => None,
    };
    let join = join.map_or_else(String::new, |other| {
        let other = other.name();
        format!(" LEFT JOIN {other} o ON o.run = t.run AND o.order_id = t.order_id")
    });
    let mut values = Vec::new();
    let mut selects = Vec::new();
    for table in tables {
        let read: Vec<String> = columns
            .iter()
            .map(|it| format!("{} AS {}", dialect.read(&expression(it), it.0.kind), it.0.name))
            .collect();
        let mut terms = Vec::new();
        for (name, value) in &equal {
            let Some(found) = columns.iter().find(|(column, _)| column.name == *name) else {
                continue;
            };
            values.push((found.0.kind, Value::Text((*value).to_owned())));
            let placeholder = dialect.placeholder(values.len(), found.0.kind);
            terms.push(format!("{} = {placeholder}", expression(found)));
        }
        for (bound, sign) in [(filter.since_ns, ">="), (filter.until_ns, "<")] {
            let Some(nanos) = bound else { continue };
            values.push((ColumnKind::Integer, Value::unsigned(nanos)));
            let placeholder = dialect.placeholder(values.len(), ColumnKind::Integer);
            terms.push(format!("t.time_ns {sign} {placeholder}"));
        }
        let condition = match terms.is_empty() {
            true => String::new(),
            false => format!(" WHERE {}", terms.join(" AND ")),
        };
        selects.push(format!(
            "SELECT {} FROM {} t{join}{condition}",
            read.join(", "),
            table.name()
        ));
    }
    // Ties are broken by what rows of one moment have.
    let tie = if topic.columns().iter().any(|(column, _)| column.name == "number") {
        "number"
    } else {
        "sequence"
    };
    let sql = format!(
        "SELECT * FROM ({}) a ORDER BY time_ns DESC, {tie} DESC LIMIT {limit} OFFSET {offset}",
        selects.join(" UNION ALL ")
    );
    Ok(Some(Statement::once(sql).with(values)))
}
