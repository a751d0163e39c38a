//! MySQL and MariaDB.

use std::time::Duration;

use sqlx::ConnectOptions as _;
use sqlx::mysql::{MySqlConnectOptions, MySqlDatabaseError, MySqlPool, MySqlPoolOptions};
use tickwright_core::records::{Column, ColumnKind, OnConflict, Table, Value};

use super::backend::{Backend, Dialect, Index, Statement, bind, carry_out};

/// Rows too large for a packet or a table, data truncated, no default, text that is none, a `CHECK`.
const VALUES_AT_FAULT: [u16; 6] = [1118, 1153, 1265, 1364, 1366, 3819];

#[derive(Debug)]
pub(super) struct Mysql {
    pool: MySqlPool,
}

impl Mysql {
    /// Connects to the server that `url` names.
    pub(super) async fn open(
        url: &str,
        connections: u32,
        timeout: Duration,
    ) -> Result<Self, sqlx::Error> {
        let options: MySqlConnectOptions = url.parse()?;
        let options = options.disable_statement_logging();
        let pool = MySqlPoolOptions::new().max_connections(connections).acquire_timeout(timeout);
        Ok(Self { pool: pool.connect_with(options).await? })
    }
}

impl Dialect for Mysql {
    fn placeholder(&self, _: usize, _: ColumnKind) -> String {
        "?".into()
    }

    fn type_of(&self, kind: ColumnKind) -> &'static str {
        match kind {
            ColumnKind::Integer => "BIGINT",
            ColumnKind::Float => "DOUBLE",
            ColumnKind::Decimal => "DECIMAL(42, 18)",
            // A key has no room for more, and names differ by case.
            ColumnKind::Name => "VARCHAR(190) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
            ColumnKind::Text => "LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
        }
    }

    fn read(&self, expression: &str, kind: ColumnKind) -> String {
        match kind {
            ColumnKind::Decimal => format!("CAST({expression} AS CHAR)"),
            ColumnKind::Integer | ColumnKind::Float | ColumnKind::Name | ColumnKind::Text => {
                expression.to_owned()
            }
        }
    }

    /// `INSERT IGNORE` would pass over everything that is wrong with a row, not only that it is there.
    fn on_conflict(&self, table: Table) -> String {
        let (key, rest) = table.columns().split_at(table.key_columns());
        match table.on_conflict() {
            OnConflict::Keep => format!("ON DUPLICATE KEY UPDATE {0} = {0}", key[0].name),
            OnConflict::Latest => {
                let is_later = "(VALUES(time_ns) > time_ns OR \
                                (VALUES(time_ns) = time_ns AND VALUES(number) >= number))";
                let set = |column: &&Column| {
                    format!("{0} = IF({is_later}, VALUES({0}), {0})", column.name)
                };
                // They are set from left to right, so what is compared is set last: when the time is set,
                // both times are the same, and the number decides as it should.
                let is_compared = |column: &&Column| ["time_ns", "number"].contains(&column.name);
                let others = rest.iter().filter(|column| !is_compared(column));
                let mut sets: Vec<String> = others.map(|column| set(&column)).collect();
                sets.push(
                    "number = IF(VALUES(time_ns) > time_ns, VALUES(number), \
                     IF(VALUES(time_ns) = time_ns, GREATEST(VALUES(number), number), number))"
                        .into(),
                );
                sets.push("time_ns = GREATEST(VALUES(time_ns), time_ns)".into());
                format!("ON DUPLICATE KEY UPDATE {}", sets.join(", "))
            }
        }
    }

    /// MySQL knows no `CREATE INDEX IF NOT EXISTS`.
    fn index(&self, _: &str, columns: &[&str]) -> Index {
        Index::Inside(format!("INDEX ({})", columns.join(", ")))
    }

    fn tables(&self) -> &'static str {
        "SELECT CAST(table_name AS CHAR) FROM information_schema.tables \
         WHERE table_schema = DATABASE() AND table_name LIKE 'tickwright\\_%'"
    }
}

impl Backend for Mysql {
    carry_out!(sqlx::MySql);

    fn is_refusal(&self, error: &(dyn sqlx::error::DatabaseError + 'static)) -> bool {
        // Data exceptions and violated constraints; some of them have a number of their own alone.
        let by_class =
            error.code().is_some_and(|code| code.starts_with("22") || code.starts_with("23"));
        let number = error.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number);
        by_class || number.is_some_and(|number| VALUES_AT_FAULT.contains(&number))
    }
}
