//! Parquet gives the rows that the CSV it was made of gives.

#![cfg(feature = "parquet")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::Arc;

use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use tickwright::source::{Progress, SourceOptions, open};
use tickwright_core::domain::{Instruments, Key, RawTick, SourceId};
use tickwright_core::pipeline::ingest::{Ingester, IngesterConfig};

const SCHEMA: &str = "message ticks {
    REQUIRED INT64 ts_ns;
    REQUIRED BYTE_ARRAY symbol (UTF8);
    REQUIRED BYTE_ARRAY kind (UTF8);
    OPTIONAL DOUBLE price;
    OPTIONAL DOUBLE volume;
    OPTIONAL DOUBLE bid1;
    OPTIONAL INT64 recv_ns;
    OPTIONAL BYTE_ARRAY flags (UTF8);
}";

fn csv(rows: usize) -> String {
    let mut text = "ts_ns,symbol,kind,price,volume,bid1,recv_ns,flags\n".to_owned();
    for row in 0..rows {
        let time = 1_381_132_800_054_000_000 + row as u64 * 1_000_000_000;
        text += &match row % 3 {
            0 => format!("{time},IBM.US,trade,{row}.25,100,,,t={row};cond=1\n"),
            1 => format!("{time},BAC.US,quote,,,14.02,{},\n", time + 5),
            _ => format!("{time},IBM.US,swap,1,1,,,\n"),
        };
    }
    text
}

/// Writes the rows of `text` as Parquet, in row groups of `group_rows`.
fn convert(text: &str, path: &Path, group_rows: usize) {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let records: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
    let file = std::fs::File::create(path).unwrap();
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(file, schema, properties).unwrap();
    for group in records.chunks(group_rows) {
        let mut group_writer = writer.next_row_group().unwrap();
        for column in 0..8 {
            let fields = group.iter().map(|record| &record[column]);
            let is_required = column < 3;
            let levels: Vec<i16> =
                fields.clone().map(|field| i16::from(!field.is_empty())).collect();
            let levels = (!is_required).then_some(levels.as_slice());
            let given: Vec<&str> = fields.filter(|field| !field.is_empty()).collect();
            let mut column_writer = group_writer.next_column().unwrap().unwrap();
            match column {
                0 | 6 => {
                    let values: Vec<i64> = given.iter().map(|text| text.parse().unwrap()).collect();
                    let typed = column_writer.typed::<Int64Type>();
                    typed.write_batch(&values, levels, None).unwrap();
                }
                3..=5 => {
                    let values: Vec<f64> = given.iter().map(|text| text.parse().unwrap()).collect();
                    let typed = column_writer.typed::<DoubleType>();
                    typed.write_batch(&values, levels, None).unwrap();
                }
                _ => {
                    let values: Vec<ByteArray> = given.iter().map(|&text| text.into()).collect();
                    let typed = column_writer.typed::<ByteArrayType>();
                    typed.write_batch(&values, levels, None).unwrap();
                }
            }
            column_writer.close().unwrap();
        }
        group_writer.close().unwrap();
    }
    writer.close().unwrap();
}

fn ingester() -> Ingester {
    Ingester::new(IngesterConfig::new(SourceId(0), Arc::new(Instruments::default())))
}

fn rows(path: &Path, stop: Option<usize>) -> (Ingester, Vec<(Key, RawTick)>) {
    let mut source = open(path, &SourceOptions::default()).unwrap();
    let mut ingester = ingester();
    let mut rows = Vec::new();
    if let Some(stop) = stop {
        source.read(&mut ingester, stop).unwrap();
        rows.extend(ingester.take_batch().keyed().map(|(key, row)| (key, *row)));
        let snapshot = ingester.snapshot(source.position());
        source = open(path, &SourceOptions::default()).unwrap();
        source.seek(&snapshot.position).unwrap();
        ingester = Ingester::restore(ingester.config().clone(), &snapshot);
    }
    while source.read(&mut ingester, 64).unwrap() != Progress::Finished {}
    assert_eq!(source.bytes_read(), source.bytes_total());
    rows.extend(ingester.take_batch().keyed().map(|(key, row)| (key, *row)));
    (ingester, rows)
}

#[test]
fn parquet_means_what_its_csv_means() {
    let directory = tempfile::tempdir().unwrap();
    let (text, columns) =
        (directory.path().join("ticks.csv"), directory.path().join("ticks.parquet"));
    std::fs::write(&text, csv(1_000)).unwrap();
    convert(&csv(1_000), &columns, 300);
    let (of_text, expected) = rows(&text, None);
    let (of_columns, given) = rows(&columns, None);
    assert_eq!(given, expected);
    assert_eq!(of_columns.counters(), of_text.counters());
    assert_eq!(of_columns.counters().malformed, 333);
    let message = of_columns.malformed_first()[0].to_string();
    assert!(message.contains("line 3, column 3 (kind): \"swap\" is not one of"), "{message}");
    assert_eq!(rows(&columns, Some(401)).1, expected, "resumed");
}

#[test]
fn a_parquet_file_without_ticks_or_cut_off_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ticks.parquet");
    let refusal = || open(&path, &SourceOptions::default()).unwrap_err().to_string();
    convert(&csv(0), &path, 10);
    assert!(refusal().contains("no rows"), "{}", refusal());
    convert(&csv(10), &path, 10);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    assert!(refusal().contains("is damaged"), "{}", refusal());
}
