//! What a database has to be able to do, whichever it is.

use std::fmt;

use futures_util::future::BoxFuture;
use tickwright_core::records::{Column, ColumnKind, Table, Value};

/// One statement and its values, each with the kind of column it is for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Statement {
    pub(super) sql: String,
    pub(super) values: Vec<(ColumnKind, Value)>,
    /// Whether it comes often enough in these very words to be kept prepared.
    pub(super) is_kept: bool,
}

impl Statement {
    /// One that comes seldom.
    pub(super) fn once(sql: impl Into<String>) -> Self {
        Self { sql: sql.into(), values: Vec::new(), is_kept: false }
    }

    pub(super) fn with(mut self, values: Vec<(ColumnKind, Value)>) -> Self {
        self.values = values;
        self
    }
}

/// How an index is made.
pub(super) enum Index {
    /// With the table: this stands among its columns.
    Inside(String),
    /// After it.
    Beside(Statement),
}

impl Index {
    /// The way of SQLite and PostgreSQL.
    pub(super) fn beside(table: &str, columns: &[&str]) -> Self {
        let (name, columns) = (columns.join("_"), columns.join(", "));
        let sql = format!("CREATE INDEX IF NOT EXISTS {table}_{name} ON {table} ({columns})");
        Self::Beside(Statement::once(sql))
    }
}

/// In which words a database is asked.
pub(super) trait Dialect {
    /// What stands for value number `at`, counted from 1, of a column of `kind`.
    fn placeholder(&self, at: usize, kind: ColumnKind) -> String;

    /// How columns of `kind` are declared.
    fn type_of(&self, kind: ColumnKind) -> &'static str;

    /// How `expression`, a column of `kind`, is read: decimals as text.
    fn read(&self, expression: &str, kind: ColumnKind) -> String;

    /// What follows the rows that are inserted: what becomes of a key that is there already.
    fn on_conflict(&self, table: Table) -> String;

    /// How `table` gets an index over `columns`, if it is not there.
    fn index(&self, table: &str, columns: &[&str]) -> Index;

    /// Asks for the names of all tables, as one column.
    fn tables(&self) -> &'static str;

    /// What stands behind the columns where a table is made.
    fn table_options(&self) -> &'static str {
        ""
    }
}

/// A pool of connections to one database.
pub(super) trait Backend: Dialect + fmt::Debug + Send + Sync {
    /// Carries all of `statements` out, or none. What makes and drops tables stands alone.
    fn write(&self, statements: Vec<Statement>) -> BoxFuture<'_, Result<(), sqlx::Error>>;

    /// The rows of the answer, of columns of these kinds.
    fn rows(
        &self,
        statement: Statement,
        kinds: Vec<ColumnKind>,
    ) -> BoxFuture<'_, Result<Vec<Vec<Value>>, sqlx::Error>>;

    /// Closes what is open.
    fn close(&self) -> BoxFuture<'_, ()>;

    /// Whether an error says that the values of a statement are at fault: they are so whenever it is tried. All
    /// others, such as a full disk, a table that is gone or a right that is missing, pass once somebody has seen
    /// to them.
    fn is_refusal(&self, error: &(dyn sqlx::error::DatabaseError + 'static)) -> bool;

    /// Whether what was opened is still what is there under its name.
    fn is_there(&self) -> bool {
        true
    }
}

/// The conflict clause that SQLite and PostgreSQL share.
pub(super) fn on_conflict(table: Table) -> String {
    use tickwright_core::records::OnConflict;
    let (key, rest) = table.columns().split_at(table.key_columns());
    let key: Vec<&str> = key.iter().map(|column| column.name).collect();
    let key = key.join(", ");
    match table.on_conflict() {
        OnConflict::Keep => format!("ON CONFLICT ({key}) DO NOTHING"),
        OnConflict::Latest => {
            let set = |column: &Column| format!("{0} = excluded.{0}", column.name);
            let set: Vec<String> = rest.iter().map(set).collect();
            let (set, name) = (set.join(", "), table.name());
            format!(
                "ON CONFLICT ({key}) DO UPDATE SET {set} WHERE excluded.time_ns > {name}.time_ns OR \
                 (excluded.time_ns = {name}.time_ns AND excluded.number >= {name}.number)"
            )
        }
    }
}

/// How connections of one kind carry out what [`Backend`] promises; each back end is its own type there.
macro_rules! carry_out {
    ($database:ty) => {
        fn write(
            &self,
            statements: Vec<Statement>,
        ) -> futures_util::future::BoxFuture<'_, Result<(), sqlx::Error>> {
            Box::pin(async move {
                let mut transaction = self.pool.begin().await?;
                for statement in statements {
                    let sql = sqlx::AssertSqlSafe(statement.sql);
                    let mut query = sqlx::query::<$database>(sql).persistent(statement.is_kept);
                    for (kind, value) in statement.values {
                        query = bind!(query, kind, value);
                    }
                    query.execute(&mut *transaction).await?;
                }
                transaction.commit().await
            })
        }

        fn rows(
            &self,
            statement: Statement,
            kinds: Vec<ColumnKind>,
        ) -> futures_util::future::BoxFuture<'_, Result<Vec<Vec<Value>>, sqlx::Error>> {
            Box::pin(async move {
                use sqlx::Row as _;
                let sql = sqlx::AssertSqlSafe(statement.sql);
                let mut query = sqlx::query::<$database>(sql).persistent(statement.is_kept);
                for (kind, value) in statement.values {
                    query = bind!(query, kind, value);
                }
                let found = query.fetch_all(&self.pool).await?;
                let mut rows = Vec::with_capacity(found.len());
                for row in found {
                    let mut values = Vec::with_capacity(kinds.len());
                    for (at, kind) in kinds.iter().enumerate() {
                        values.push(match kind {
                            ColumnKind::Integer => {
                                row.try_get::<Option<i64>, _>(at)?.map(Value::Integer)
                            }
                            ColumnKind::Float => {
                                row.try_get::<Option<f64>, _>(at)?.map(Value::Float)
                            }
                            ColumnKind::Decimal => row
                                .try_get::<Option<String>, _>(at)?
                                .map(|text| Value::decimal(&text)),
                            ColumnKind::Name | ColumnKind::Text => {
                                row.try_get::<Option<String>, _>(at)?.map(Value::Text)
                            }
                        });
                    }
                    rows.push(values.into_iter().map(|it| it.unwrap_or(Value::Null)).collect());
                }
                Ok(rows)
            })
        }

        fn close(&self) -> futures_util::future::BoxFuture<'_, ()> {
            Box::pin(self.pool.close())
        }
    };
}

/// Hands a value over as what its column holds; nothing has a type too.
macro_rules! bind {
    ($query:expr, $kind:expr, $value:expr) => {
        match ($kind, $value) {
            (_, Value::Integer(value)) => $query.bind(value),
            (_, Value::Float(value)) => $query.bind(value),
            (_, Value::Text(value)) => $query.bind(value),
            (ColumnKind::Integer, Value::Null) => $query.bind(None::<i64>),
            (ColumnKind::Float, Value::Null) => $query.bind(None::<f64>),
            (ColumnKind::Decimal | ColumnKind::Name | ColumnKind::Text, Value::Null) => {
                $query.bind(None::<String>)
            }
        }
    };
}

pub(super) use {bind, carry_out};
