//! What `tickwright db` does: to a database itself, without a node.

use std::path::PathBuf;

use serde_json::Value;
use tickwright_core::config::Config;
use tickwright_core::records::{Names, Question};

use super::aside::Aside;
use super::database::{Copied, DatabaseUrl, copy};
use super::spill::Spill;
use super::{
    Database, DatabaseError, DatabaseSettings, Records, RecordsError, RecordsSettings, Retried,
    aside_to_json, database_settings,
};
use crate::kit::{Clock, StoreError};

/// What to do.
#[derive(Clone, Debug)]
pub enum DatabaseTask {
    /// Make the tables, or bring them up to date.
    Migrate,
    /// Copy everything from one database into another.
    Copy {
        /// Its address, or `@` and a file with it.
        from: String,
        /// The same.
        to: String,
    },
    /// Bring what waits on the disk into the database.
    Flush,
    /// Show the rows that were set aside.
    Aside,
    /// Offer them to the database again.
    Retry,
    /// Drop the one of this name, or `all`.
    Discard(String),
    /// Look something up.
    Ask(Question),
}

/// What came of it.
#[derive(Clone, Debug)]
pub enum DatabaseDone {
    /// Something to say.
    Told(String),
    /// Something to show: columns and rows.
    Found(Value),
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseTaskError {
    /// There is none.
    #[error("no database is configured: set database.kind, as in --set database.kind=sqlite")]
    NoDatabase,
    /// The database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The journal of rows that wait.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// The same, and what is set aside there.
    #[error(transparent)]
    Spill(#[from] StoreError),
    /// Rows still wait.
    #[error("{0}")]
    Left(String),
    /// Not all of it is there.
    #[error("{0}")]
    Differs(String),
    /// An address cannot be read.
    #[error("{path}: {message}")]
    File {
        /// Where it was to be read from.
        path: String,
        /// Why it was not.
        message: String,
    },
}

/// Does `task` to the database that `config` names.
///
/// # Errors
///
/// [`DatabaseTaskError`], in words for a user.
pub async fn run(config: &Config, task: DatabaseTask) -> Result<DatabaseDone, DatabaseTaskError> {
    let section = &config.database;
    if let DatabaseTask::Copy { from, to } = task {
        let settings = |text: &str| -> Result<DatabaseSettings, DatabaseTaskError> {
            Ok(DatabaseSettings {
                url: address(text)?,
                connections_max: section.connections_max,
                timeout: section.timeout,
                // Nothing is forgotten on the way.
                days_max: usize::MAX,
            })
        };
        let (from, to) = (settings(&from)?, settings(&to)?);
        let (from, to) = (Database::open(from).await?, Database::open(to).await?);
        let copied = copy(&from, &to).await?;
        from.close().await;
        to.close().await;
        return told(&copied);
    }
    let settings = database_settings(section, &config.node.data_dir)?;
    let settings = settings.ok_or(DatabaseTaskError::NoDatabase)?;
    match task {
        DatabaseTask::Flush => flush(config, settings).await,
        DatabaseTask::Aside => Ok(DatabaseDone::Found(aside_to_json(&aside(config)?.list()?))),
        DatabaseTask::Discard(name) => {
            let aside = aside(config)?;
            let discarded = aside.discard(&name);
            aside.settle()?;
            Ok(DatabaseDone::Told(format!("{discarded} rows were dropped")))
        }
        DatabaseTask::Retry => {
            let aside = aside(config)?;
            let database = Database::open(settings).await?;
            let retried = aside.retry(&database).await;
            database.close().await;
            aside.settle()?;
            let Retried { written, refused } = retried.map_err(DatabaseTaskError::Left)?;
            let told = format!("{written} rows were written, {refused} are refused still");
            if refused > 0 {
                Err(DatabaseTaskError::Left(told))
            } else {
                Ok(DatabaseDone::Told(told))
            }
        }
        DatabaseTask::Ask(question) => {
            let database = Database::open(settings).await?;
            let answer = database.ask(&question).await?;
            database.close().await;
            Ok(DatabaseDone::Found(answer.to_json()))
        }
        DatabaseTask::Migrate | DatabaseTask::Copy { .. } => {
            let database = Database::open(settings).await?;
            let tables = database.tables().await?.len();
            database.close().await;
            let place = database.place();
            Ok(DatabaseDone::Told(format!("{place} is up to date: {tables} tables")))
        }
    }
}

/// The rows of the node's directory that were set aside; no node has it open.
fn aside(config: &Config) -> Result<Aside, DatabaseTaskError> {
    Ok(Spill::open(
        &PathBuf::from(&config.node.data_dir),
        &config.node.name,
        Clock::system().now(),
    )?
    .aside()?)
}

fn told(copied: &[Copied]) -> Result<DatabaseDone, DatabaseTaskError> {
    let line = |each: &Copied| {
        let Copied { table, rows, is_same, .. } = each;
        let verdict = if *is_same { "the same" } else { "DIFFERENT" };
        format!("{:<32} {rows:>12} rows, {verdict}", table.name())
    };
    let lines: Vec<String> = copied.iter().map(line).collect();
    let text = lines.join("\n");
    if copied.iter().all(|each| each.is_same) {
        return Ok(DatabaseDone::Told(text));
    }
    Err(DatabaseTaskError::Differs(format!(
        "{text}\nnot all of it is there: the target has rows of its own under the same keys, or somebody \
         wrote meanwhile"
    )))
}

async fn flush(
    config: &Config,
    database: DatabaseSettings,
) -> Result<DatabaseDone, DatabaseTaskError> {
    let settings = RecordsSettings {
        database,
        buffer: config.database.buffer,
        ticks: false,
        factors: false,
        drain: config.database.drain,
        data_dir: PathBuf::from(&config.node.data_dir),
        names: Names { run: "flush".into(), ..Names::default() },
        node: config.node.name.clone(),
    };
    let records = Records::start(config, settings).await?;
    match records.end().await {
        None => Ok(DatabaseDone::Told("nothing waits any more".into())),
        Some(left) => Err(DatabaseTaskError::Left(left)),
    }
}

fn address(text: &str) -> Result<DatabaseUrl, DatabaseTaskError> {
    let Some(path) = text.strip_prefix('@') else { return Ok(DatabaseUrl::parse(text)?) };
    let read = std::fs::read_to_string(path);
    let fail = |error: std::io::Error| DatabaseTaskError::File {
        path: path.to_owned(),
        message: error.to_string(),
    };
    Ok(DatabaseUrl::parse(&read.map_err(fail)?)?)
}

/// An answer as comma-separated values, by RFC 4180.
pub fn csv(answer: &Value) -> String {
    let mut text = String::new();
    let columns = answer["columns"].as_array().cloned().unwrap_or_default();
    let rows = answer["rows"].as_array().cloned().unwrap_or_default();
    let rows = rows.iter().filter_map(Value::as_array);
    for row in std::iter::once(&columns).chain(rows) {
        let cells: Vec<String> = row.iter().map(|cell| quoted(&plain(cell))).collect();
        text.push_str(&cells.join(","));
        text.push_str("\r\n");
    }
    text
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

fn quoted(text: &str) -> String {
    match text.contains([',', '"', '\r', '\n']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

/// An answer as a table for people.
pub fn table(answer: &Value) -> String {
    let cells = |row: &Value| -> Vec<String> {
        row.as_array().map(|row| row.iter().map(plain).collect()).unwrap_or_default()
    };
    let mut lines = vec![cells(&answer["columns"])];
    lines.extend(answer["rows"].as_array().into_iter().flatten().map(cells));
    let columns = lines[0].len();
    let width = |column: usize| {
        let widths = lines.iter().filter_map(|line| line.get(column));
        widths.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells: Vec<String> =
            line.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_with_commas_and_quotes_stay_one_value() {
        let answer = json!({ "columns": ["a", "b"], "rows": [["x,y", null], ["say \"no\"", 7]] });
        assert_eq!(csv(&answer), "a,b\r\n\"x,y\",\r\n\"say \"\"no\"\"\",7\r\n");
        assert_eq!(table(&answer), "a         b\nx,y\nsay \"no\"  7\n");
    }
}
