//! Rows drained after an outage, beside a plain loop of multi-row `INSERT`s by the same library.
//!
//! `cargo bench --bench database [-- --quick]`
//!
//! Orders are recorded while the database is away, so that they are in the spill journal; then it comes
//! back, and is timed from the first row in it to the last. The yardstick writes as many rows of the same
//! columns, as many at once, without caring what is there already. Both take turns; the ratio is taken
//! within a round, and the median is printed. Servers that are not installed are passed over, loudly.

#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]
#![expect(clippy::cast_precision_loss, reason = "rates are for people")]

#[path = "../tests/databases/mod.rs"]
mod databases;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use databases::{Kind, Server};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};
use tickwright::records::{Records, RecordsSettings};
use tickwright_core::config::{Config, Kinds};
use tickwright_core::domain::{
    AccountId, InstrumentIndex, Instruments, Key, Order, OrderId, Price, Quantity, Side, SourceId,
    StrategyId, Symbol, Timestamp,
};
use tickwright_core::records::{Happening, Names, Numbered, Row, Value};

/// Nothing takes so long.
const PATIENCE: Duration = Duration::from_secs(120);

/// Rows written at once by either.
const BATCH: usize = 500;

fn main() {
    let is_quick = std::env::args().any(|argument| argument == "--quick");
    let (count, rounds) = if is_quick { (20_000, 3) } else { (100_000, 5) };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    println!("{count} orders, {BATCH} at once, {rounds} rounds\n");
    for kind in [None, Some(Kind::Postgres), Some(Kind::Mariadb)] {
        let mut server = match kind.map(Server::start) {
            Some(None) => continue,
            Some(started) => started,
            None => None,
        };
        let (mut bare, mut ours, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            let directory = tempfile::tempdir().unwrap();
            let plain = match &mut server {
                Some(server) => server.database(),
                None => format!("sqlite:{}", directory.path().join("plain").display()),
            };
            let limit = runtime.block_on(insert(&plain, count));
            let drained = drain(&runtime, directory.path(), server.as_mut(), count);
            bare.push(count as f64 / limit);
            ours.push(count as f64 / drained);
            ratios.push(drained / limit);
        }
        let name = kind.map_or_else(|| "Sqlite".into(), |kind| format!("{kind:?}"));
        println!(
            "{name:<10} plain {:>9.0} rows/s, drained {:>9.0} rows/s: {:.2} times as long",
            median(&mut bare),
            median(&mut ours),
            median(&mut ratios)
        );
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn happened(number: u64) -> Numbered {
    let instrument = Instruments::default().resolve(&Symbol::new("BTCUSDT.BINANCE_SPOT").unwrap());
    let frontier = Timestamp::from_nanos(1_700_000_000_000_000_000 + number);
    let order = Order {
        id: OrderId { key: Key { frontier, source: SourceId(0), sequence: number }, ordinal: 1 },
        strategy: StrategyId(0),
        account: AccountId(0),
        instrument: InstrumentIndex(0),
        side: Side::Buy,
        quantity: Quantity(100_000_000),
        limit_price: Price(6_183_763_000_000),
        reduce_only: false,
        reduces: false,
    };
    Numbered { number, happening: Happening::Order(order, Arc::new(instrument)) }
}

fn rows(count: u64) -> Vec<Row> {
    let names = Names { run: "bench".into(), ..Names::default() };
    (1..=count).map(|number| names.row(&happened(number))).collect()
}

/// Writes rows by a plain loop; returns the seconds that takes.
async fn insert(url: &str, count: u64) -> f64 {
    macro_rules! insert {
        ($options:ty, $decimal:expr, $text:expr, $marked:expr) => {{
            let options: $options = url.parse().unwrap();
            let mut connection = prepare!(options).connect().await.unwrap();
            let table = format!(
                "CREATE TABLE plain (a {0}, b {0}, c BIGINT, d BIGINT, e {0}, f {0}, g {0}, h {0}, \
                 i {1}, j {1}, k BIGINT, PRIMARY KEY (a, b))",
                $text, $decimal
            );
            sqlx::query(AssertSqlSafe(table)).execute(&mut connection).await.unwrap();
            let rows = rows(count);
            let begun = Instant::now();
            for batch in rows.chunks(BATCH) {
                let mut sql = "INSERT INTO plain VALUES ".to_owned();
                let mut at = 0;
                for row in 0..batch.len() {
                    sql.push_str(if row == 0 { "(" } else { ", (" });
                    for column in 0..11 {
                        at += 1;
                        let mark: String = $marked(at, column);
                        sql.push_str(if column == 0 { "" } else { ", " });
                        sql.push_str(&mark);
                    }
                    sql.push(')');
                }
                let mut transaction = connection.begin().await.unwrap();
                let mut query = sqlx::query(AssertSqlSafe(sql));
                for value in batch.iter().flat_map(|row| &row.values) {
                    query = match value {
                        Value::Integer(number) => query.bind(*number),
                        Value::Text(text) => query.bind(text.clone()),
                        Value::Null | Value::Float(_) => unreachable!("an order has neither"),
                    };
                }
                query.execute(&mut *transaction).await.unwrap();
                transaction.commit().await.unwrap();
            }
            begun.elapsed().as_secs_f64()
        }};
    }
    macro_rules! prepare {
        ($options:expr) => {
            $options.disable_statement_logging()
        };
    }
    let question = |_, _| "?".to_owned();
    match url.split(':').next() {
        Some("postgres") => {
            let marked = |at, column| match column {
                8 | 9 => format!("CAST(${at} AS NUMERIC)"),
                _ => format!("${at}"),
            };
            insert!(sqlx::postgres::PgConnectOptions, "NUMERIC(42, 18)", "TEXT", marked)
        }
        Some("mysql") => {
            let text = "VARCHAR(190) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin";
            insert!(sqlx::mysql::MySqlConnectOptions, "DECIMAL(42, 18)", text, question)
        }
        _ => {
            use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
            macro_rules! prepare {
                ($options:expr) => {
                    $options
                        .create_if_missing(true)
                        .journal_mode(SqliteJournalMode::Wal)
                        .synchronous(SqliteSynchronous::Full)
                };
            }
            let options: SqliteConnectOptions = url.parse().unwrap();
            drop(prepare!(options).connect().await.unwrap());
            insert!(SqliteConnectOptions, "TEXT", "TEXT", question)
        }
    }
}

/// Records rows while the database is away; returns the seconds from the first row in it to the last.
fn drain(
    runtime: &tokio::runtime::Runtime,
    directory: &Path,
    mut server: Option<&mut Server>,
    count: u64,
) -> f64 {
    // A folder that is not there is a file that is away.
    let folder = directory.join("away");
    let (kind, url) = match &mut server {
        Some(server) => {
            let url = server.database();
            server.stop();
            (if url.starts_with("postgres") { "postgres" } else { "mysql" }, url)
        }
        None => ("sqlite", format!("sqlite:{}", folder.join("records").display())),
    };
    std::fs::write(directory.join("url"), url).unwrap();
    let sets = [
        ("database.kind", kind.to_owned()),
        ("database.url_file", directory.join("url").display().to_string()),
        ("database.batch_rows", BATCH.to_string()),
        ("node.data_dir", directory.join("data").display().to_string()),
    ];
    let sets = sets.map(|(key, value)| (key.to_owned(), value));
    let config = Config::default().with_overrides(&sets, &Kinds::default()).unwrap();
    let settings = RecordsSettings::of(&config, "bench".into()).unwrap().unwrap();
    let records = runtime.block_on(async { Records::start(&config, settings).await }).unwrap();
    let recording = records.recording();
    for first in (1..=count).step_by(1_000) {
        let last = count.min(first + 999);
        recording.happened.send((first..=last).map(happened).collect()).unwrap();
    }
    // The deed of starting is a row too.
    wait(|| records.status().waiting > count);
    match server {
        Some(server) => server.run(),
        None => std::fs::create_dir(&folder).unwrap(),
    }
    wait(|| records.status().written > 0);
    let (begun, left) = (Instant::now(), records.status().waiting);
    wait(|| records.status().waiting == 0);
    let seconds = begun.elapsed().as_secs_f64();
    runtime.block_on(records.stop());
    // What was written before the clock was started does not count.
    seconds * (count as f64) / (left.max(1) as f64)
}

fn wait(mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < PATIENCE, "not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_micros(200));
    }
}
