//! What is written down for people: orders, fills, positions, ticks and deeds, as rows of a
//! database.
//!
//! ```text
//! Happening ─▶ Row (table, values) ─▶ Buffer ─┬▶ batches for the database, in order
//!                                              └▶ the spill journal, while it is away
//! Filter + Question ─▶ columns, conditions ◀─ whoever asks
//! ```
//!
//! Nothing here decides on an order, and nothing is read back into the pipeline: what must survive for the
//! pipeline's own sake is in checkpoints and logs. What a database speaks is not known here; a
//! [`Table`] says what it holds, and each back end says it in its own words.
//!
//! # Invariants
//!
//! 1. A row has a natural key. Writing it again, after a restart, a replay or a failover, changes nothing:
//!    the first stays ([`OnConflict::Keep`]), or the later one does
//!    ([`OnConflict::Latest`]).
//! 2. The buffer gives rows out in the order it took them in, each until it is acknowledged: see
//!    [`Buffer`].
//! 3. A row that a database will not have for what it is keeps no other from it: see [`Sift`].
//! 4. A table of ticks holds one day of event time, so that forgetting a day is dropping it.

mod buffer;
mod day;
mod happening;
mod question;
mod sift;
mod table;

pub use buffer::{Buffer, BufferConfig, Drain};
pub use day::Day;
pub use happening::{Happening, Names, Numbered, audit_row};
pub use question::{Filter, FilterError, Question, Topic};
pub use sift::Sift;
pub use table::{Column, ColumnKind, OnConflict, Row, Table, Value, deduplicated};
