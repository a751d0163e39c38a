//! How a schema becomes the present one, step by step.
//!
//! Each step is recorded once it is done. Steps may be repeated: two nodes that start at once both take them.

use std::time::Duration;

use tickwright_core::records::{ColumnKind, Table, Value};

use super::backend::Statement;
use super::{Database, DatabaseError, sql};

/// How often it is tried.
const ATTEMPTS: u32 = 5;

/// Before it is tried again, times the number of attempts.
const PAUSE: Duration = Duration::from_millis(50);

/// The table of steps that were taken.
const STEPS: &str = "tickwright_migrations";

/// The table of what the database is.
const ABOUT: &str = "tickwright_about";

/// The latest step that is known. A change of the schema is another one, never a change of these.
pub(super) const LATEST: i64 = 1;

impl Database {
    /// Takes all steps that were not taken yet; returns what tells this database from others.
    pub(super) async fn migrate(&self) -> Result<String, DatabaseError> {
        let mut attempt = 1;
        loop {
            match self.try_to_migrate().await {
                // Two that make the same table at once may both be refused: PostgreSQL's `IF NOT EXISTS`
                // looks before it makes.
                Err(DatabaseError::Failed { .. }) if attempt < ATTEMPTS => {
                    tokio::time::sleep(PAUSE * attempt).await;
                    attempt += 1;
                }
                done => return done,
            }
        }
    }

    async fn try_to_migrate(&self) -> Result<String, DatabaseError> {
        let dialect = self.dialect();
        let (integer, name) =
            (dialect.type_of(ColumnKind::Integer), dialect.type_of(ColumnKind::Name));
        let steps =
            format!("CREATE TABLE IF NOT EXISTS {STEPS} (step {integer} NOT NULL PRIMARY KEY)");
        let about = format!(
            "CREATE TABLE IF NOT EXISTS {ABOUT} (name {name} NOT NULL PRIMARY KEY, value {name} NOT NULL)"
        );
        let latest = Statement::once(format!("SELECT MAX(step) FROM {STEPS}"));
        // Most often there is nothing to do, and perhaps no right to.
        let mut found = match self.rows(latest.clone(), vec![ColumnKind::Integer]).await {
            Ok(rows) => step_of(&rows),
            Err(DatabaseError::Failed { .. }) => 0,
            Err(error) => return Err(error),
        };
        if found < LATEST {
            // Whoever began this may have ended between the two.
            for sql in [steps, about] {
                self.run(vec![Statement::once(sql)]).await?;
            }
            found = step_of(&self.rows(latest, vec![ColumnKind::Integer]).await?);
        }
        if found > LATEST {
            return Err(DatabaseError::Newer { place: self.place(), found, known: LATEST });
        }
        while found < LATEST {
            found += 1;
            for statement in self.step(found) {
                self.run(vec![statement]).await?;
            }
            let done = format!("INSERT INTO {STEPS} (step) VALUES ({found})");
            match self.run(vec![Statement::once(done)]).await {
                Ok(()) => {}
                // Another node was faster.
                Err(DatabaseError::Failed { .. }) if self.has_step(found).await? => {}
                Err(error) => return Err(error),
            }
        }
        self.identify().await
    }

    /// What step number `step` does.
    fn step(&self, _step: i64) -> Vec<Statement> {
        Table::LASTING.into_iter().flat_map(|table| sql::create(self.dialect(), table)).collect()
    }

    async fn has_step(&self, step: i64) -> Result<bool, DatabaseError> {
        let statement = Statement::once(format!("SELECT MAX(step) FROM {STEPS}"));
        Ok(step_of(&self.rows(statement, vec![ColumnKind::Integer]).await?) >= step)
    }

    /// What tells this database from others: drawn once.
    async fn identify(&self) -> Result<String, DatabaseError> {
        let read = Statement::once(format!("SELECT value FROM {ABOUT} WHERE name = 'identity'"));
        if let Some(found) = text_of(self.rows(read.clone(), vec![ColumnKind::Name]).await?) {
            return Ok(found);
        }
        let mut drawn = [0u8; 16];
        // What cannot be drawn is told apart by nothing, which is no harm but a missing word of warning.
        let _ = aws_lc_rs::rand::fill(&mut drawn);
        let drawn: String = drawn.iter().map(|byte| format!("{byte:02x}")).collect();
        let placeholder = self.dialect().placeholder(1, ColumnKind::Name);
        let insert = Statement::once(format!(
            "INSERT INTO {ABOUT} (name, value) VALUES ('identity', {placeholder})"
        ));
        let insert = insert.with(vec![(ColumnKind::Name, Value::Text(drawn))]);
        let inserted = self.run(vec![insert]).await;
        // Another node may have been faster: what is there counts.
        match text_of(self.rows(read, vec![ColumnKind::Name]).await?) {
            Some(found) => Ok(found),
            None => inserted.map(|()| String::new()),
        }
    }
}

fn step_of(rows: &[Vec<Value>]) -> i64 {
    match rows.first().and_then(|row| row.first()) {
        Some(Value::Integer(step)) => *step,
        Some(Value::Null | Value::Float(_) | Value::Text(_)) | None => 0,
    }
}

fn text_of(rows: Vec<Vec<Value>>) -> Option<String> {
    match rows.into_iter().next()?.into_iter().next()? {
        Value::Text(text) => Some(text),
        Value::Null | Value::Integer(_) | Value::Float(_) => None,
    }
}
