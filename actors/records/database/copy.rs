//! Everything of one database into another, of the same kind or another.
//!
//! ```text
//! per table: page by key ─▶ write (idempotent) ─▶ next page;  then both are read again: count and hash
//! ```
//!
//! A copy that was broken off is begun again from the start: what is there already is passed over.

use tickwright_core::records::{Row, Table, Value};

use super::{Database, DatabaseError};

/// Rows that are read and written at once.
const PAGE: usize = 1_000;

/// What became of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Which.
    pub table: Table,
    /// How many rows it has.
    pub rows: u64,
    /// Whether both databases have the same rows.
    pub is_same: bool,
}

/// Copies every table.
///
/// # Errors
///
/// [`DatabaseError`] of either.
pub async fn copy(from: &Database, to: &Database) -> Result<Vec<Copied>, DatabaseError> {
    let mut copied = Vec::new();
    for table in from.tables().await? {
        let mut after: Option<Vec<Value>> = None;
        loop {
            let rows = from.page(table, after.as_deref(), PAGE).await?;
            let Some(last) = rows.last() else { break };
            after = Some(last.values[..table.key_columns()].to_vec());
            to.write(&rows).await?;
        }
        let (rows, hash) = summary(from, table).await?;
        let found = summary(to, table).await?;
        copied.push(Copied { table, rows, is_same: found == (rows, hash) });
    }
    Ok(copied)
}

/// How many rows `table` has, and a hash of all of them that does not depend on their order: databases
/// sort text in ways of their own.
async fn summary(database: &Database, table: Table) -> Result<(u64, [u64; 4]), DatabaseError> {
    let (mut count, mut sum) = (0u64, [0u64; 4]);
    let mut after: Option<Vec<Value>> = None;
    loop {
        let rows = database.page(table, after.as_deref(), PAGE).await?;
        let Some(last) = rows.last() else { return Ok((count, sum)) };
        after = Some(last.values[..table.key_columns()].to_vec());
        for row in &rows {
            count += 1;
            for (part, bytes) in sum.iter_mut().zip(hash(row).chunks_exact(8)) {
                let bytes: [u8; 8] = bytes.try_into().expect("a chunk of eight bytes");
                *part = part.wrapping_add(u64::from_le_bytes(bytes));
            }
        }
    }
}

fn hash(row: &Row) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for value in &row.values {
        let text = match value {
            Value::Null => "n".to_owned(),
            Value::Integer(number) => format!("i{number}"),
            Value::Float(number) => format!("f{:016x}", number.to_bits()),
            Value::Text(text) => format!("t{text}"),
        };
        hasher.update(&u64::try_from(text.len()).unwrap_or(u64::MAX).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    *hasher.finalize().as_bytes()
}
