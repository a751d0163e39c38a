//! One database: opened, brought up to date, written, asked.
//!
//! ```text
//! Row ─▶ sql (in common) ─▶ Dialect (sqlite, postgres, mysql) ─▶ Backend ─▶ pool of connections
//! ```
//!
//! Every call has a deadline. A pool that failed or was late is not used again: what a connection was about
//! is not known then. Whoever holds a [`Database`] opens another.
//!
//! Ticks and factors are in a table for each day of event time, in all three: to forget a day is to
//! drop a table, which costs nothing, where deleting rows would cost as much as writing them. PostgreSQL's
//! own partitions would do the same there only.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tickwright_core::config::DatabaseKind;
use tickwright_core::records::{
    Column, ColumnKind, Day, Filter, FilterError, Question, Row, Table, Topic, Value, deduplicated,
};
use tokio::time::timeout;

mod backend;
mod copy;
mod migrations;
mod mysql;
mod postgres;
mod sql;
mod sqlite;
mod url;

pub use copy::{Copied, copy};
pub use url::DatabaseUrl;

use backend::{Backend, Statement};
use mysql::Mysql;
use postgres::Postgres;
use sqlite::Sqlite;

/// Why a database cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseError {
    /// Not an address.
    #[error(
        "the address of the database begins neither with sqlite:, nor postgres://, nor mysql://"
    )]
    Url,
    /// An address of another kind than was configured.
    #[error("the address of the database is not of the kind that database.kind says")]
    Kind,
    /// The address is not where it is said to be.
    #[error("the address of the database cannot be read from {from}: {message}")]
    Source {
        /// Where it is said to be.
        from: String,
        /// What is wrong.
        message: String,
    },
    /// A later version has been at it.
    #[error(
        "database {place} has schema {found}, and this version knows no later than {known}; run the \
         version that made it"
    )]
    Newer {
        /// Where it is.
        place: String,
        /// What it has.
        found: i64,
        /// What is known.
        known: i64,
    },
    /// It gave no answer in time.
    #[error("database {place} gave no answer within {patience:?}")]
    Late {
        /// Where it is.
        place: String,
        /// How long was waited.
        patience: Duration,
    },
    /// Its file was taken away.
    #[error("the file of database {place} was removed or replaced while it was open")]
    Gone {
        /// Where it was.
        place: String,
    },
    /// It says no, or does not speak.
    #[error("database {place}: {message}")]
    Failed {
        /// Where it is.
        place: String,
        /// What it or the system said.
        message: String,
    },
    /// It will not have what it was given, whenever that is tried: a constraint, a value too long or out of range.
    #[error("database {place} refuses what it is given: {message}")]
    Refused {
        /// Where it is.
        place: String,
        /// What it said.
        message: String,
    },
    /// What was asked makes no sense.
    #[error(transparent)]
    Filter(#[from] FilterError),
}

/// How a database is used.
#[derive(Clone, Debug)]
pub struct DatabaseSettings {
    /// Where it is.
    pub url: DatabaseUrl,
    /// Connections at once.
    pub connections_max: u32,
    /// How long anything may take.
    pub timeout: Duration,
    /// Days of ticks that are kept.
    pub days_max: usize,
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// What each value of a row is.
    pub columns: Vec<Column>,
    /// In the order of event time.
    pub rows: Vec<Vec<Value>>,
    /// By way of which node; none, if a database was asked without one.
    pub origin: Option<Origin>,
}

/// Whose database has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The node that has asked it.
    pub node: String,
    /// Where it is, without a password.
    pub place: String,
    /// Whether it is a file of that node: others that record have one each.
    pub is_own: bool,
}

/// A database that is open and up to date.
#[derive(Clone)]
pub struct Database {
    settings: Arc<DatabaseSettings>,
    backend: Arc<dyn Backend>,
    /// Tables of days that are known to be there. Bounded by the days that are kept.
    days: Arc<Mutex<BTreeSet<Table>>>,
    identity: String,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("url", &self.settings.url).finish_non_exhaustive()
    }
}

impl Database {
    /// Opens it and brings its schema up to date.
    ///
    /// # Errors
    ///
    /// [`DatabaseError`].
    pub async fn open(settings: DatabaseSettings) -> Result<Self, DatabaseError> {
        let DatabaseSettings { url, connections_max, timeout: patience, .. } = &settings;
        let (patience, connections) = (*patience, *connections_max);
        let opening = async {
            let backend: Arc<dyn Backend> = match url.kind() {
                Some(DatabaseKind::Sqlite) => {
                    Arc::new(Sqlite::open(&url.path(), connections, patience).await?)
                }
                Some(DatabaseKind::Postgres) => {
                    Arc::new(Postgres::open(url.reveal(), connections, patience).await?)
                }
                Some(DatabaseKind::Mysql) => {
                    Arc::new(Mysql::open(url.reveal(), connections, patience).await?)
                }
                Some(DatabaseKind::None) | None => {
                    return Err(sqlx::Error::Configuration("no database".into()));
                }
            };
            Ok(backend)
        };
        let backend = within(&settings, opening).await?;
        let settings = Arc::new(settings);
        let (days, identity) = (Arc::default(), String::new());
        let mut database = Self { settings, backend, days, identity };
        database.identity = database.migrate().await?;
        let tables = database.tables().await?;
        *database.lock_days() = tables.into_iter().filter(|table| table.day().is_some()).collect();
        Ok(database)
    }

    /// Tells this database from all others, also from one that took its place.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Where it is, without a password.
    pub fn place(&self) -> String {
        self.settings.url.to_string()
    }

    fn lock_days(&self) -> std::sync::MutexGuard<'_, BTreeSet<Table>> {
        self.days.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes all of `rows`, or none. Rows that are there already stay as they are, see
    /// [`tickwright_core::records::OnConflict`].
    ///
    /// # Errors
    ///
    /// [`DatabaseError`]. Then it is not known whether they are there, but for [`DatabaseError::Refused`]: none
    /// is.
    pub async fn write(&self, rows: &[Row]) -> Result<(), DatabaseError> {
        if !self.backend.is_there() {
            return Err(DatabaseError::Gone { place: self.place() });
        }
        let tables = deduplicated(rows);
        let mut is_day_new = false;
        for &table in tables.keys() {
            is_day_new |= self.make_day(table).await?;
        }
        let insert = |(&table, rows): (&Table, &Vec<&Row>)| {
            let is_kept = rows.len().is_power_of_two() || rows.len() % 100 == 0;
            sql::insert(self.dialect(), table, rows, is_kept)
        };
        let statements: Vec<Statement> = tables.iter().map(insert).collect();
        let written = self.backend.write(statements);
        within_or_refused(&self.settings, written, |error| self.is_refusal(error)).await?;
        if is_day_new {
            self.forget_days().await?;
        }
        Ok(())
    }

    /// Whether rows are at fault, and not the database.
    fn is_refusal(&self, error: &sqlx::Error) -> bool {
        match error.as_database_error() {
            Some(error) => self.backend.is_refusal(error),
            None => matches!(error, sqlx::Error::Encode(_)),
        }
    }

    fn dialect(&self) -> &dyn Backend {
        &*self.backend
    }

    async fn run(&self, statements: Vec<Statement>) -> Result<(), DatabaseError> {
        within(&self.settings, self.backend.write(statements)).await
    }

    async fn rows(
        &self,
        statement: Statement,
        kinds: Vec<ColumnKind>,
    ) -> Result<Vec<Vec<Value>>, DatabaseError> {
        within(&self.settings, self.backend.rows(statement, kinds)).await
    }

    /// Makes the table of a day, and returns whether it was not there.
    async fn make_day(&self, table: Table) -> Result<bool, DatabaseError> {
        if table.day().is_none() || self.lock_days().contains(&table) {
            return Ok(false);
        }
        for statement in sql::create(self.dialect(), table) {
            self.run(vec![statement]).await?;
        }
        self.lock_days().insert(table);
        Ok(true)
    }

    /// Drops what is older than the days that are kept.
    async fn forget_days(&self) -> Result<(), DatabaseError> {
        for of_day in [Table::Ticks, Table::Factors] {
            let days = days_of(of_day, &self.lock_days());
            for day in Day::forgotten(&days, self.settings.days_max) {
                let table = of_day(day);
                self.lock_days().remove(&table);
                let sql = format!("DROP TABLE IF EXISTS {}", table.name());
                self.run(vec![Statement::once(sql)]).await?;
            }
        }
        Ok(())
    }

    /// The tables that are there.
    ///
    /// # Errors
    ///
    /// [`DatabaseError`].
    pub async fn tables(&self) -> Result<BTreeSet<Table>, DatabaseError> {
        let statement = Statement::once(self.dialect().tables());
        let names = self.rows(statement, vec![ColumnKind::Name]).await?;
        let name = |row: Vec<Value>| match row.into_iter().next() {
            Some(Value::Text(name)) => Table::parse(&name),
            Some(Value::Null | Value::Integer(_) | Value::Float(_)) | None => None,
        };
        Ok(names.into_iter().filter_map(name).collect())
    }

    /// The rows of `table` behind the one with the key `after`, in the order of keys.
    ///
    /// # Errors
    ///
    /// [`DatabaseError`].
    pub async fn page(
        &self,
        table: Table,
        after: Option<&[Value]>,
        limit: usize,
    ) -> Result<Vec<Row>, DatabaseError> {
        let statement = sql::page(self.dialect(), table, after, limit);
        let kinds = table.columns().iter().map(|column| column.kind).collect();
        let rows = self.rows(statement, kinds).await?;
        Ok(rows.into_iter().map(|values| Row { table, values }).collect())
    }

    /// How many rows `table` has; none, if it is not there.
    ///
    /// # Errors
    ///
    /// [`DatabaseError`].
    pub async fn count(&self, table: Table) -> Result<u64, DatabaseError> {
        if !self.tables().await?.contains(&table) {
            return Ok(0);
        }
        let statement = Statement::once(format!("SELECT COUNT(*) FROM {}", table.name()));
        let rows = self.rows(statement, vec![ColumnKind::Integer]).await?;
        Ok(match rows.first().and_then(|row| row.first()) {
            Some(Value::Integer(count)) => u64::try_from(*count).unwrap_or(0),
            Some(Value::Null | Value::Float(_) | Value::Text(_)) | None => 0,
        })
    }

    /// Answers a question.
    ///
    /// # Errors
    ///
    /// [`DatabaseError`], [`DatabaseError::Filter`] among them.
    pub async fn ask(&self, question: &Question) -> Result<Answer, DatabaseError> {
        let Question { topic, filter } = question;
        let columns: Vec<Column> = topic.columns().into_iter().map(|(column, _)| column).collect();
        let days = match topic.table() {
            Some(_) => Vec::new(),
            None => {
                // Others may have written meanwhile.
                let tables = self.tables().await?;
                filter.days(&days_of(|day| topic.table_of(day), &tables))
            }
        };
        let Some(statement) = sql::question(self.dialect(), *topic, filter, &days)? else {
            return Ok(Answer { columns, rows: Vec::new(), origin: None });
        };
        let kinds = columns.iter().map(|column| column.kind).collect();
        let mut rows = self.rows(statement, kinds).await?;
        rows.reverse();
        Ok(Answer { columns, rows, origin: None })
    }

    /// Whether it has no order, trade or position of `run`.
    ///
    /// # Errors
    ///
    /// [`DatabaseError`].
    pub async fn has_nothing_of(&self, run: &str) -> Result<bool, DatabaseError> {
        for topic in [Topic::Orders, Topic::Trades, Topic::Positions] {
            let (run, limit) = (Some(run.to_owned()), Some(1));
            let filter = Filter { run, limit, ..Filter::default() };
            if !self.ask(&Question { topic, filter }).await?.rows.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Closes its connections.
    pub async fn close(&self) {
        // What does not close in time is closed by being dropped.
        let _ = timeout(self.settings.timeout, self.backend.close()).await;
    }
}

/// The days of which there is a table as `of_day` names it.
fn days_of(of_day: impl Fn(Day) -> Table, tables: &BTreeSet<Table>) -> Vec<Day> {
    let days = tables.iter().filter_map(|table| table.day().map(|day| (*table, day)));
    days.filter(|&(table, day)| of_day(day) == table).map(|(_, day)| day).collect()
}

/// Whether TLS could not be spoken as the address asks for: the library says most of it as a matter of reading.
fn is_of_tls(error: &sqlx::Error) -> bool {
    use std::io::ErrorKind;
    let kind = if let sqlx::Error::Io(error) = error { Some(error.kind()) } else { None };
    // A certificate that is not believed, and a file of the address that is not there.
    matches!(error, sqlx::Error::Tls(_))
        || matches!(kind, Some(ErrorKind::InvalidData | ErrorKind::NotFound))
}

/// `call`, within the time that anything may take.
async fn within<T>(
    settings: &DatabaseSettings,
    call: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, DatabaseError> {
    within_or_refused(settings, Box::pin(call), |_| false).await
}

/// The same, where `is_refusal` tells whether what was given is at fault.
async fn within_or_refused<T>(
    settings: &DatabaseSettings,
    call: impl Future<Output = Result<T, sqlx::Error>>,
    is_refusal: impl Fn(&sqlx::Error) -> bool,
) -> Result<T, DatabaseError> {
    let (place, patience) = (settings.url.to_string(), settings.timeout);
    match timeout(patience, call).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => {
            let mut message = settings.url.redacted(&error.to_string());
            if settings.url.is_of_a_server() && is_of_tls(&error) {
                message = format!("{message}; {}", settings.url.tls_remedy());
            }
            Err(match is_refusal(&error) {
                true => DatabaseError::Refused { place, message },
                false => DatabaseError::Failed { place, message },
            })
        }
        Err(_) => Err(DatabaseError::Late { place, patience }),
    }
}
