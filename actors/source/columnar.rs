//! Normalised ticks in Parquet: the same columns by the same names as in CSV.
//!
//! Numbers may be integers, floats or text, and times integers or timestamps. A row is put in words
//! and read as its CSV line would be, so that both mean the same and complain alike; what that costs
//! is of the order of decoding the row. "Line" is the row's number here, from 1.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::record::reader::RowIter;
use tickwright_core::pipeline::ingest::{
    Ingester, LineParser, ParserState, SourcePosition, normalised,
};

use super::{Format, Progress, Source, SourceError};

/// A Parquet file of ticks.
pub(super) struct ParquetSource {
    path: PathBuf,
    rows: RowIter<'static>,
    rows_read: u64,
    rows_total: u64,
    bytes_total: u64,
    parser: normalised::Parser,
    /// The row at hand as text; kept to save its allocation.
    line: Vec<u8>,
    strict: bool,
}

impl std::fmt::Debug for ParquetSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ParquetSource")
            .field("path", &self.path)
            .field("rows_read", &self.rows_read)
            .field("rows_total", &self.rows_total)
            .finish_non_exhaustive()
    }
}

impl ParquetSource {
    /// Opens `path`, which begins as Parquet files do.
    pub(super) fn open(path: &Path, strict: bool) -> Result<Self, SourceError> {
        let file = File::open(path).map_err(|error| SourceError::of_io(path, 0, false, error))?;
        let bytes_total = file.metadata().map_or(0, |metadata| metadata.len());
        let reader = SerializedFileReader::new(file).map_err(|error| damaged(path, 0, error))?;
        let metadata = reader.metadata().file_metadata();
        let rows_total = u64::try_from(metadata.num_rows()).unwrap_or(0);
        let names: Vec<String> = metadata
            .schema_descr()
            .columns()
            .iter()
            .map(|column| format!("\"{}\"", column.name().replace('"', "\"\"")))
            .collect();
        let parser = normalised::Parser::new(names.join(",").as_bytes())
            .map_err(|problem| SourceError::Header { path: path.to_owned(), problem })?;
        if rows_total == 0 {
            return Err(SourceError::NoRows { path: path.to_owned() });
        }
        Ok(Self {
            path: path.to_owned(),
            rows: RowIter::from_file_into(Box::new(reader)),
            rows_read: 0,
            rows_total,
            bytes_total,
            parser,
            line: Vec::new(),
            strict,
        })
    }
}

fn damaged(path: &Path, line: u64, error: parquet::errors::ParquetError) -> SourceError {
    let (path, reason) = (path.to_owned(), error.to_string());
    // The crate has no word of its own for a method of packing that it was built without.
    if reason.contains("feature") {
        let remedy = "build the program with `--features parquet-zstd`, or write the file packed \
                      by snappy or gzip";
        return SourceError::Archive {
            path,
            problem: format!("cannot be unpacked ({reason}); {remedy}"),
        };
    }
    SourceError::Damaged { path, line, reason }
}

/// Appends a field as the CSV has it.
fn write_field(line: &mut Vec<u8>, field: &Field) {
    // Writing to memory does not fail.
    let mut put = |text: std::fmt::Arguments<'_>| drop(line.write_fmt(text));
    match field {
        Field::Null => {}
        Field::Str(text) if !text.contains(['"', ',']) => put(format_args!("{text}")),
        Field::Str(text) => put(format_args!("\"{}\"", text.replace('"', "\"\""))),
        Field::Bytes(bytes) => {
            let text = String::from_utf8_lossy(bytes.data());
            put(format_args!("\"{}\"", text.replace('"', "\"\"")));
        }
        Field::Byte(value) => put(format_args!("{value}")),
        Field::Short(value) => put(format_args!("{value}")),
        Field::Int(value) => put(format_args!("{value}")),
        Field::Long(value) => put(format_args!("{value}")),
        Field::UByte(value) => put(format_args!("{value}")),
        Field::UShort(value) => put(format_args!("{value}")),
        Field::UInt(value) => put(format_args!("{value}")),
        Field::ULong(value) => put(format_args!("{value}")),
        Field::Float(value) => put(format_args!("{value}")),
        Field::Double(value) => put(format_args!("{value}")),
        Field::TimestampMillis(value) => put(format_args!("{value}000000")),
        Field::TimestampMicros(value) => put(format_args!("{value}000")),
        Field::Bool(_)
        | Field::Float16(_)
        | Field::Decimal(_)
        | Field::Date(_)
        | Field::TimeMillis(_)
        | Field::TimeMicros(_)
        | Field::Group(_)
        | Field::ListInternal(_)
        | Field::MapInternal(_) => put(format_args!("\"{}\"", field.to_string().replace('"', ""))),
    }
}

impl Source for ParquetSource {
    fn read(&mut self, ingester: &mut Ingester, rows_max: usize) -> Result<Progress, SourceError> {
        let full = ingester.batch_len() + rows_max;
        for _ in 0..rows_max.saturating_mul(4) {
            if ingester.batch_len() >= full {
                break;
            }
            let row = match self.rows.next() {
                None => return Ok(Progress::Finished),
                Some(Ok(row)) => row,
                Some(Err(error)) => return Err(damaged(&self.path, self.rows_read, error)),
            };
            self.rows_read += 1;
            self.line.clear();
            for (at, (_, field)) in row.get_column_iter().enumerate() {
                if at > 0 {
                    self.line.push(b',');
                }
                write_field(&mut self.line, field);
            }
            if let Err(error) = self.parser.row(&self.line, self.rows_read, ingester) {
                ingester.malformed((*error).clone());
                if self.strict {
                    return Err(SourceError::Row { path: self.path.clone(), error });
                }
            }
        }
        Ok(Progress::More)
    }

    fn position(&self) -> SourcePosition {
        SourcePosition {
            offset: self.rows_read,
            line: self.rows_read,
            parser: ParserState::Stateless,
        }
    }

    fn seek(&mut self, position: &SourcePosition) -> Result<(), SourceError> {
        let SourcePosition { offset, line, .. } = *position;
        let fresh = Self::open(&self.path, self.strict)?;
        if offset > fresh.rows_total {
            return Err(SourceError::Position { path: self.path.clone(), offset, line });
        }
        *self = fresh;
        while self.rows_read < offset {
            if let Some(Err(error)) = self.rows.next() {
                return Err(damaged(&self.path, self.rows_read, error));
            }
            self.rows_read += 1;
        }
        Ok(())
    }

    fn bytes_read(&self) -> u64 {
        // Rows stand in for bytes: a column chunk is read when its first row is.
        let share = u128::from(self.bytes_total) * u128::from(self.rows_read);
        u64::try_from(share / u128::from(self.rows_total.max(1))).unwrap_or(self.bytes_total)
    }

    fn bytes_total(&self) -> u64 {
        self.bytes_total
    }

    fn describe(&self) -> String {
        format!("{} ({})", self.path.display(), self.format())
    }

    fn format(&self) -> Format {
        Format::Parquet
    }
}
