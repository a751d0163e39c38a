//! PostgreSQL.

use std::time::Duration;

use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use tickwright_core::records::{ColumnKind, Table, Value};

use super::backend::{Backend, Dialect, Index, Statement, bind, carry_out, on_conflict};

#[derive(Debug)]
pub(super) struct Postgres {
    pool: PgPool,
}

impl Postgres {
    /// Connects to the server that `url` names.
    pub(super) async fn open(
        url: &str,
        connections: u32,
        timeout: Duration,
    ) -> Result<Self, sqlx::Error> {
        let options: PgConnectOptions = url.parse()?;
        let patience = timeout.as_millis().to_string();
        let options = options
            .application_name("tickwright")
            .options([("statement_timeout", patience.as_str()), ("lock_timeout", &patience)])
            .disable_statement_logging();
        let pool = PgPoolOptions::new().max_connections(connections).acquire_timeout(timeout);
        Ok(Self { pool: pool.connect_with(options).await? })
    }
}

impl Dialect for Postgres {
    fn placeholder(&self, at: usize, kind: ColumnKind) -> String {
        match kind {
            ColumnKind::Decimal => format!("CAST(${at} AS NUMERIC)"),
            ColumnKind::Integer | ColumnKind::Float | ColumnKind::Name | ColumnKind::Text => {
                format!("${at}")
            }
        }
    }

    fn type_of(&self, kind: ColumnKind) -> &'static str {
        match kind {
            ColumnKind::Integer => "BIGINT",
            ColumnKind::Float => "DOUBLE PRECISION",
            ColumnKind::Decimal => "NUMERIC(42, 18)",
            ColumnKind::Name | ColumnKind::Text => "TEXT",
        }
    }

    fn read(&self, expression: &str, kind: ColumnKind) -> String {
        match kind {
            ColumnKind::Decimal => format!("CAST({expression} AS TEXT)"),
            ColumnKind::Integer | ColumnKind::Float | ColumnKind::Name | ColumnKind::Text => {
                expression.to_owned()
            }
        }
    }

    fn on_conflict(&self, table: Table) -> String {
        on_conflict(table)
    }

    fn index(&self, table: &str, columns: &[&str]) -> Index {
        Index::beside(table, columns)
    }

    fn tables(&self) -> &'static str {
        "SELECT CAST(tablename AS TEXT) FROM pg_tables WHERE schemaname = current_schema() \
         AND tablename LIKE 'tickwright\\_%'"
    }
}

impl Backend for Postgres {
    carry_out!(sqlx::Postgres);

    fn is_refusal(&self, error: &(dyn sqlx::error::DatabaseError + 'static)) -> bool {
        // Data exceptions, violated constraints, and what is too large for an index.
        error
            .code()
            .is_some_and(|code| code.starts_with("22") || code.starts_with("23") || code == "54000")
    }
}
