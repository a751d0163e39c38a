//! SQLite: one file.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use tickwright_core::records::{ColumnKind, Table, Value};
use tokio::time::{Instant, sleep};

use super::backend::{Backend, Dialect, Index, Statement, bind, carry_out, on_conflict};

#[derive(Debug)]
pub(super) struct Sqlite {
    pool: SqlitePool,
    path: PathBuf,
    /// The file that was opened: its device and number.
    opened: Option<(u64, u64)>,
}

impl Sqlite {
    /// Opens the file, or makes it.
    pub(super) async fn open(
        path: &Path,
        connections: u32,
        timeout: Duration,
    ) -> Result<Self, sqlx::Error> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            // Readers do not hold the writer up, and what is committed is on the disk.
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(timeout);
        let until = Instant::now() + timeout;
        loop {
            let pool =
                SqlitePoolOptions::new().max_connections(connections).acquire_timeout(timeout);
            match pool.connect_with(options.clone()).await {
                Ok(pool) => {
                    return Ok(Self { pool, path: path.to_owned(), opened: identity(path) });
                }
                // To make a new file one for readers and a writer, SQLite does not wait for whoever does the same.
                Err(error) if is_busy(&error) && Instant::now() < until => sleep(PAUSE).await,
                Err(error) => return Err(error),
            }
        }
    }
}

/// Between two attempts to open a file that another is making.
const PAUSE: Duration = Duration::from_millis(10);

fn is_busy(error: &sqlx::Error) -> bool {
    // SQLITE_BUSY.
    error.as_database_error().and_then(primary_code) == Some(5)
}

/// Without what is extended of it.
fn primary_code(error: &(dyn sqlx::error::DatabaseError + 'static)) -> Option<u32> {
    error.code()?.parse::<u32>().ok().map(|code| code & 0xff)
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

impl Dialect for Sqlite {
    fn placeholder(&self, _: usize, _: ColumnKind) -> String {
        "?".into()
    }

    fn type_of(&self, kind: ColumnKind) -> &'static str {
        match kind {
            ColumnKind::Integer => "INTEGER",
            ColumnKind::Float => "REAL",
            // It has no exact decimals, so they stay what they are.
            ColumnKind::Decimal | ColumnKind::Name | ColumnKind::Text => "TEXT",
        }
    }

    fn read(&self, expression: &str, _: ColumnKind) -> String {
        expression.to_owned()
    }

    fn on_conflict(&self, table: Table) -> String {
        on_conflict(table)
    }

    fn index(&self, table: &str, columns: &[&str]) -> Index {
        Index::beside(table, columns)
    }

    fn tables(&self) -> &'static str {
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'tickwright\\_%' ESCAPE '\\'"
    }

    fn table_options(&self) -> &'static str {
        // The key is how rows are found, so it is how they are kept.
        " WITHOUT ROWID"
    }
}

impl Backend for Sqlite {
    carry_out!(sqlx::Sqlite);

    fn is_refusal(&self, error: &(dyn sqlx::error::DatabaseError + 'static)) -> bool {
        // SQLITE_TOOBIG, SQLITE_CONSTRAINT (what triggers raise too), SQLITE_MISMATCH.
        matches!(primary_code(error), Some(18..=20))
    }

    /// Whoever deletes the file leaves it to those who have it open: they would go on writing to nowhere.
    fn is_there(&self) -> bool {
        self.opened.is_some() && identity(&self.path) == self.opened
    }
}
