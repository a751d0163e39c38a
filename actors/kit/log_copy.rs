//! What whoever appends to a log says to whoever has it kept on other nodes too.

use super::outlet::Outlet;
use super::store::{Done, Store, StoreError};

/// Something that happens to a log, in order.
pub enum LogCopy {
    /// Whoever appends begins, or begins anew: called once all that is there is stored on as many nodes
    /// as it is to be.
    Begin(Done),
    /// A record is on its way to the disk here.
    Append {
        /// Its key. Ascending; one of the same key takes the place of the last.
        key: u64,
        /// The record.
        value: Vec<u8>,
        /// Called once it is stored on as many nodes as it is to be, or cannot be.
        done: Done,
    },
    /// The first of those appended and not yet said to be is on the disk here, or could not be.
    Written(Result<(), StoreError>),
    /// What is before this key is needed no more.
    Trim(u64),
}

impl std::fmt::Debug for LogCopy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Begin(_) => "Begin",
            Self::Append { .. } => "Append",
            Self::Written(_) => "Written",
            Self::Trim(_) => "Trim",
        })
    }
}

/// Where a log goes to be kept on other nodes too.
pub type LogOutlet = Outlet<LogCopy>;

/// Puts a record of a log into `store`; calls `done` once it is on the disk here, and, if there is
/// somebody behind `copies`, wherever else it is to be.
pub fn append_to_log(
    store: &Store,
    copies: Option<&LogOutlet>,
    tree: &str,
    key: u64,
    value: Vec<u8>,
    done: Done,
) {
    let bytes = key.to_be_bytes().to_vec();
    let Some(copies) = copies else { return store.put(tree, bytes, value, done) };
    // Who keeps copies is there for as long as whoever appends; otherwise nobody waits.
    let _ = copies.send(LogCopy::Append { key, value: value.clone(), done });
    let copies = copies.clone();
    let written = move |result| drop(copies.send(LogCopy::Written(result)));
    store.put(tree, bytes, value, Box::new(written));
}
