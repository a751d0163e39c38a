//! Records in all three databases: the same suite against each, with real servers.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
mod databases;
mod processes;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{PATIENCE, Scratch, draw, finish};
use databases::{Kind, Server};
use processes::{Node, until};
use sqlx::{Connection, Executor, MySqlConnection, PgConnection, SqliteConnection};
use tickwright::ctl::CtlTask;
use tickwright::records::database::{Database, DatabaseError, DatabaseSettings, DatabaseUrl, copy};
use tickwright::records::{Answer, Records, RecordsSettings, RecordsStatus, Retried};
use tickwright_core::config::{Config, DatabaseKind};
use tickwright_core::domain::Timestamp;
use tickwright_core::records::{Filter, Question, Row, Table, Topic, Value, audit_row};
use tokio::runtime::Runtime;

/// Where records go in a test.
enum Place {
    File(tempfile::TempDir, u32),
    Server(Server),
}

impl Place {
    fn file() -> Self {
        Self::File(tempfile::tempdir().unwrap(), 0)
    }

    /// An empty database.
    fn database(&mut self) -> String {
        match self {
            Self::File(directory, count) => {
                *count += 1;
                format!("sqlite:{}", directory.path().join(format!("{count}.sqlite")).display())
            }
            Self::Server(server) => server.database(),
        }
    }

    fn kind(url: &str) -> &str {
        url.split(':').next().unwrap()
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn settings(url: &str) -> DatabaseSettings {
    DatabaseSettings {
        url: DatabaseUrl::parse(url).unwrap(),
        connections_max: 3,
        timeout: Duration::from_secs(20),
        days_max: 2,
    }
}

async fn open(url: &str) -> Database {
    Database::open(settings(url)).await.unwrap_or_else(|error| panic!("{error}"))
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

fn position(symbol: &str, time: i64, number: i64, quantity: &str) -> Row {
    let values = vec![
        text("run"),
        text("main"),
        text(symbol),
        Value::Integer(number),
        Value::Integer(time),
        text("USD"),
        text(quantity),
        text("-0.000000000000000001"),
        text("99999999999999999999.5"),
        text("0"),
        Value::Integer(1),
    ];
    Row { table: Table::Positions, values }
}

fn order(number: i64, symbol: &str, side: &str) -> Row {
    let values = vec![
        text("run"),
        text(&format!("{number}/0/{number}/1")),
        Value::Integer(number),
        Value::Integer(number * 1_000),
        text("s"),
        text("main"),
        text(symbol),
        text(side),
        text("1.5"),
        text("61837.63"),
        Value::Integer(0),
    ];
    Row { table: Table::Orders, values }
}

fn tick(day: u32, sequence: i64, bid: Option<&str>) -> Row {
    let table = Table::Ticks(tickwright_core::records::Day(day));
    let values = vec![
        text("run"),
        Value::Integer(0),
        Value::Integer(sequence),
        Value::Integer(i64::from(day) * 86_400_000_000_000 + sequence),
        text("X.Y"),
        text("quote"),
        Value::Null,
        Value::Null,
        bid.map_or(Value::Null, text),
        Value::Null,
        Value::Null,
        Value::Null,
    ];
    Row { table, values }
}

fn factor(day: u32, sequence: i64) -> Row {
    let table = Table::Factors(tickwright_core::records::Day(day));
    let values = vec![
        text("run"),
        Value::Integer(0),
        Value::Integer(sequence),
        text("X.Y"),
        Value::Integer(i64::from(day) * 86_400_000_000_000 + sequence),
        text("tick"),
        Value::Float(0.1),
        text("{\"mean\":0.25}"),
    ];
    Row { table, values }
}

async fn all(database: &Database, table: Table) -> Vec<Row> {
    database.page(table, None, 100_000).await.unwrap()
}

/// Migrations twice, and by two at once; what a later version has made is left alone.
fn migrations_may_be_repeated(place: &mut Place) {
    let url = place.database();
    runtime().block_on(async {
        let (one, two) = tokio::join!(open(&url), open(&url));
        assert_eq!(one.identity(), two.identity());
        assert!(!one.identity().is_empty());
        one.close().await;
        let again = open(&url).await;
        assert_eq!(again.identity(), two.identity());
        assert_eq!(again.tables().await.unwrap().len(), Table::LASTING.len());
    });
}

fn writing_twice_is_writing_once(place: &mut Place) {
    let url = place.database();
    runtime().block_on(async {
        let database = open(&url).await;
        let at = Timestamp::from_nanos(5);
        let rows = [
            order(1, "X.Y", "buy"),
            order(2, "X.Y", "sell"),
            order(1, "X.Y", "buy"),
            audit_row("node", 1, 1, at, ("drain", "it's \"node-2\", said; ünï ✓")),
            position("X.Y", 10, 1, "1"),
            position("X.Y", 10, 2, "-2.000000001"),
        ];
        assert!(database.has_nothing_of("run").await.unwrap());
        database.write(&rows).await.unwrap();
        database.write(&rows).await.unwrap();
        assert!(!database.has_nothing_of("run").await.unwrap());
        assert!(database.has_nothing_of("another run").await.unwrap());
        assert_eq!(all(&database, Table::Orders).await, rows[..2]);
        assert_eq!(all(&database, Table::Audit).await, rows[3..4]);
        assert_eq!(all(&database, Table::Positions).await, rows[5..]);
        // Of a position the later row counts, by time and then by number, whichever comes last.
        for (time, number, counts) in [(10, 1, false), (9, 7, false), (11, 1, true), (11, 1, true)]
        {
            let row = position("X.Y", time, number, &format!("{time}.{number}"));
            database.write(std::slice::from_ref(&row)).await.unwrap();
            assert_eq!(all(&database, Table::Positions).await == [row], counts, "{time} {number}");
        }
        // All of a batch, or none: the last row has no key.
        let mut wrong = order(4, "X.Y", "buy");
        wrong.values[0] = Value::Null;
        let error = database.write(&[order(3, "X.Y", "buy"), wrong]).await.unwrap_err();
        assert!(matches!(error, DatabaseError::Refused { .. }), "{error}");
        assert_eq!(database.count(Table::Orders).await.unwrap(), 2);
    });
}

/// Has a database of any kind carry something out.
async fn execute(url: &str, statement: &str) {
    let statement = sqlx::AssertSqlSafe(statement.to_owned());
    match Place::kind(url) {
        "postgres" => PgConnection::connect(url).await.unwrap().execute(statement).await.map(drop),
        "mysql" => MySqlConnection::connect(url).await.unwrap().execute(statement).await.map(drop),
        _ => SqliteConnection::connect(url).await.unwrap().execute(statement).await.map(drop),
    }
    .unwrap();
}

/// What a statement is at fault for is told from what a database is.
fn a_refusal_is_no_outage(place: &mut Place) {
    let url = place.database();
    runtime().block_on(async {
        let database = open(&url).await;
        let at = Timestamp::from_nanos(5);
        let mut rows = vec![audit_row("node", 1, 1, at, ("deed", "detail"))];
        rows[0].values[0] = Value::Null;
        if Place::kind(&url) == "mysql" {
            rows.push(audit_row(&"n".repeat(200), 1, 1, at, ("deed", "longer than a name may be")));
            rows.push(order(1, "X.Y", "buy"));
            let place = Table::Orders.place("quantity").unwrap();
            rows[2].values[place] = text("no number");
        }
        if Place::kind(&url) == "postgres" {
            rows.push(audit_row("node", 1, 1, at, ("deed", "a zero \0 in it")));
        }
        for row in rows {
            let error = database.write(std::slice::from_ref(&row)).await.unwrap_err();
            assert!(matches!(error, DatabaseError::Refused { .. }), "{row:?}: {error}");
        }
        // A table that is gone is for a person to see to, whatever the row.
        execute(&url, "DROP TABLE tickwright_audit").await;
        let row = audit_row("node", 1, 1, at, ("deed", "detail"));
        let error = database.write(&[row]).await.unwrap_err();
        assert!(matches!(error, DatabaseError::Failed { .. }), "{error}");
    });
}

/// Rows that the database will not have are set aside on the disk, those behind them go on, and they are written
/// once it has them.
fn what_is_refused_is_set_aside(place: &mut Place) {
    let url = place.database();
    let scratch = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.node.data_dir = scratch.path().to_str().unwrap().to_owned();
    let (refuse, take) = match Place::kind(&url) {
        "sqlite" => (
            "CREATE TRIGGER no_bad BEFORE INSERT ON tickwright_audit WHEN NEW.detail LIKE 'bad%' \
             BEGIN SELECT RAISE(ABORT, 'nothing bad'); END",
            "DROP TRIGGER no_bad",
        ),
        _ => (
            "ALTER TABLE tickwright_audit ADD CONSTRAINT no_bad CHECK (detail NOT LIKE 'bad%')",
            "ALTER TABLE tickwright_audit DROP CONSTRAINT no_bad",
        ),
    };
    runtime().block_on(async {
        open(&url).await.close().await;
        execute(&url, refuse).await;
        let start = || async {
            let mut settings =
                RecordsSettings::of(&sqlite(&config), "run".into()).unwrap().unwrap();
            settings.database = self::settings(&url);
            let deadline = Instant::now() + PATIENCE;
            loop {
                match Records::start(&config, settings.clone()).await {
                    Ok(records) => break records,
                    // Whoever had the directory before lets go of it soon after its end.
                    Err(error) => assert!(Instant::now() < deadline, "{error}"),
                }
                tokio::task::yield_now().await;
            }
        };
        let details = |answer: Answer| -> Vec<String> {
            let detail = Table::Audit.place("detail").unwrap();
            let text = |row: &Vec<Value>| match &row[detail] {
                Value::Text(text) => text.clone(),
                Value::Null | Value::Integer(_) | Value::Float(_) => panic!("{row:?}"),
            };
            let mut details: Vec<String> = answer.rows.iter().map(text).collect();
            details.retain(|text| text.starts_with("bad") || text.starts_with("good"));
            details.sort();
            details
        };
        let all = Question { topic: Topic::Audit, filter: Filter::default() };
        let records = start().await;
        for detail in ["good 1", "bad 1", "good 2", "bad 2", "bad 3", "good 3"] {
            records.note("deed".into(), detail.into()).unwrap();
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (found, status) = (details(records.ask(&all).await.unwrap()), records.status());
            if found == ["good 1", "good 2", "good 3"] && status.set_aside == 3 {
                break;
            }
            assert!(Instant::now() < deadline, "{found:?}, {status:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(records.drained().await, 0);
        let status = records.status();
        assert_eq!((status.set_aside, status.is_connected, &status.problem), (3, true, &None));
        let told = |status: &RecordsStatus| {
            status.notices.iter().filter(|it| it.contains("set aside")).count()
        };
        assert_eq!(told(&status), 1, "it is told once: {status:?}");
        let listed = records.set_aside().unwrap();
        let keys: Vec<&Row> = listed.iter().map(|(_, aside)| &aside.row).collect();
        assert!(keys.iter().all(|row| row.table == Table::Audit), "{keys:?}");
        assert!(listed.iter().all(|(_, aside)| !aside.reason.is_empty()));
        let left = records.end().await.unwrap();
        assert!(left.contains("3 rows are set aside") && !left.contains("s3cret"), "{left}");
        drop(records);

        // Without a node they are shown too.
        let file = tempfile::tempdir().unwrap();
        let arguments = recording(&url, &file.path().join("url"), &[]);
        let place = arguments[arguments.len() - 4..].iter().map(String::as_str);
        let shown: Vec<&str> =
            ["db", "aside", "--data-dir", &config.node.data_dir].into_iter().chain(place).collect();
        let deadline = Instant::now() + PATIENCE;
        let shown = loop {
            let shown = Scratch::new().run(&shown);
            // As below.
            if shown.code() == 0 || Instant::now() >= deadline {
                break shown;
            }
        };
        assert_eq!(shown.code(), 0, "{shown:?}");
        let lines = shown.stdout.lines().filter(|line| line.contains("tickwright_audit"));
        assert_eq!(lines.count(), 3, "{shown:?}");

        // They are there after a restart, refused still, and taken once the reason is gone.
        let records = start().await;
        assert_eq!(records.drained().await, 0);
        assert_eq!(records.set_aside().unwrap(), listed);
        assert_eq!(records.retry_aside().await.unwrap(), Retried { written: 0, refused: 3 });
        execute(&url, take).await;
        assert_eq!(records.discard_aside(&listed[0].0), 1);
        assert_eq!(records.retry_aside().await.unwrap(), Retried { written: 2, refused: 0 });
        assert_eq!(records.status().set_aside, 0);
        assert_eq!(details(records.ask(&all).await.unwrap()).len(), 5);
        assert_eq!(records.end().await, None);
    });
}

/// The same, with records in a database.
fn sqlite(config: &Config) -> Config {
    let mut config = config.clone();
    config.database.kind = DatabaseKind::Sqlite;
    config
}

fn questions_are_answered(place: &mut Place) {
    let url = place.database();
    runtime().block_on(async {
        let database = open(&url).await;
        let rows: Vec<Row> = (1..=9)
            .map(|number| {
                let side = if number % 3 == 0 { "sell" } else { "buy" };
                order(number, if number % 2 == 0 { "A.B" } else { "X.Y" }, side)
            })
            .collect();
        database.write(&rows).await.unwrap();
        let asked = |filter: Filter| {
            let database = database.clone();
            async move {
                let question = Question { topic: Topic::Orders, filter };
                let answer = database.ask(&question).await.unwrap();
                let number = |row: &Vec<Value>| match row[2] {
                    Value::Integer(number) => number,
                    Value::Null | Value::Float(_) | Value::Text(_) => panic!("{row:?}"),
                };
                answer.rows.iter().map(number).collect::<Vec<i64>>()
            }
        };
        assert_eq!(asked(Filter::default()).await, (1..=9).collect::<Vec<i64>>());
        let of = |symbol: &str| Some(symbol.to_owned());
        assert_eq!(asked(Filter { symbol: of("A.B"), ..Filter::default() }).await, [2, 4, 6, 8]);
        let filter = Filter { side: of("sell"), symbol: of("X.Y"), ..Filter::default() };
        assert_eq!(asked(filter).await, [3, 9]);
        let filter = Filter { since_ns: Some(3_000), until_ns: Some(6_000), ..Filter::default() };
        assert_eq!(asked(filter).await, [3, 4, 5]);
        let filter = Filter { limit: Some(2), offset: Some(1), ..Filter::default() };
        assert_eq!(asked(filter).await, [7, 8], "the page before the last row");
        assert_eq!(asked(Filter { strategy: of("none"), ..Filter::default() }).await, [0i64; 0]);
        let injected = Filter { symbol: of("' OR 1=1 --"), ..Filter::default() };
        assert_eq!(asked(injected).await, [0i64; 0]);
        for topic in [Topic::Trades, Topic::Positions, Topic::Ticks, Topic::Factors, Topic::Audit] {
            let question = Question { topic, filter: Filter::default() };
            assert!(database.ask(&question).await.unwrap().rows.is_empty(), "{topic:?}");
        }
        let factors = [factor(20_000, 1), factor(20_001, 1), factor(20_001, 2)];
        database.write(&factors).await.unwrap();
        let since_ns = Some(20_001 * 86_400_000_000_000);
        let filter = Filter { symbol: of("X.Y"), since_ns, ..Filter::default() };
        let question = Question { topic: Topic::Factors, filter };
        let found = database.ask(&question).await.unwrap().rows;
        let expected: Vec<&Vec<Value>> = factors[1..].iter().map(|row| &row.values).collect();
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "of both days, the later");
    });
}

fn old_days_are_dropped(place: &mut Place) {
    let url = place.database();
    runtime().block_on(async {
        let database = open(&url).await;
        for day in [20_000, 20_001, 20_003] {
            database.write(&[tick(day, 1, None), tick(day, 2, Some("1.25"))]).await.unwrap();
        }
        let days: Vec<Table> = database
            .tables()
            .await
            .unwrap()
            .into_iter()
            .filter(|it| !Table::LASTING.contains(it))
            .collect();
        let day = |day| Table::Ticks(tickwright_core::records::Day(day));
        assert_eq!(days, [day(20_001), day(20_003)], "two days are kept");
        assert_eq!(
            all(&database, day(20_003)).await,
            [tick(20_003, 1, None), tick(20_003, 2, Some("1.25"))]
        );
        let question = Question { topic: Topic::Ticks, filter: Filter::default() };
        assert_eq!(database.ask(&question).await.unwrap().rows.len(), 4);
        let since_ns = Some(20_002 * 86_400_000_000_000);
        let filter = Filter { since_ns, ..Filter::default() };
        let question = Question { topic: Topic::Ticks, filter };
        assert_eq!(database.ask(&question).await.unwrap().rows.len(), 2);
    });
}

const RUN: [&str; 11] = [
    "demo",
    "--ticks",
    "8000",
    "--set",
    "stream.checkpoint_ticks=2000",
    "--set",
    "stream.credit_ticks=2048",
    "--set",
    "database.ticks=true",
    "--set",
    "database.factors=true",
];

/// What a run records.
type Recorded = BTreeMap<Table, Vec<Row>>;

fn recorded(url: &str) -> Recorded {
    runtime().block_on(async {
        let database = open(url).await;
        let mut found = Recorded::new();
        for table in database.tables().await.unwrap() {
            if table == Table::Audit {
                // Each start of a node is a deed of its own.
                continue;
            }
            let mut rows = all(&database, table).await;
            // Each sorts text in a way of its own.
            rows.sort_by_key(|row| format!("{:?}", row.values));
            found.insert(table, rows);
        }
        database.close().await;
        found
    })
}

/// The arguments of a run that records to `url`, whose address is in a file beside `scratch`.
fn recording(url: &str, file: &Path, more: &[&str]) -> Vec<String> {
    std::fs::write(file, url).unwrap();
    let kind = match Place::kind(url) {
        "postgres" => "postgres",
        "mysql" => "mysql",
        _ => "sqlite",
    };
    let mut arguments: Vec<String> = RUN.iter().chain(more).map(|&it| it.to_owned()).collect();
    for set in [format!("database.kind={kind}"), format!("database.url_file={}", file.display())] {
        arguments.extend(["--set".to_owned(), set]);
    }
    arguments
}

/// Rows of a run that nothing befell, by whichever database.
fn undisturbed() -> Recorded {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", directory.path().join("records.sqlite").display());
    let arguments = recording(&url, &directory.path().join("url"), &[]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ended = Scratch::new().run(&arguments);
    assert_eq!(ended.code(), 0, "{ended:?}");
    let recorded = recorded(&url);
    assert!(recorded[&Table::Orders].len() > 100, "a run that trades");
    recorded
}

/// Killed at random moments, and gone on with: every row is there, once.
fn kill_9_loses_and_doubles_nothing(place: &mut Place, expected: &Recorded) {
    let url = place.database();
    let scratch = Scratch::new();
    let file = tempfile::tempdir().unwrap();
    let arguments = recording(&url, &file.path().join("url"), &["--speed", "max"]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (mut chance, mut landed) = (7u64, 0);
    for _ in 0..4 {
        let mut process = scratch.start(scratch.command(&arguments));
        if process.ends_within(Duration::from_millis(draw(&mut chance) % 400)).is_none() {
            process.kill();
            landed += 1;
        }
    }
    println!("{landed} kills landed");
    let ended = scratch.run(&arguments);
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert!(!ended.stderr.contains("s3cret"), "{ended:?}");
    assert_eq!(&recorded(&url), expected);
}

/// `db migrate`, `db copy` and questions, as a user types them: into a database of the other kind where there is
/// another.
fn commands_move_and_show_records(place: &mut Place, expected: &Recorded) {
    let directory = tempfile::tempdir().unwrap();
    let mut files = Place::file();
    let (from, to) = (place.database(), files.database());
    let file = |name: &str| directory.path().join(name);
    let scratch = Scratch::new();
    let run = recording(&from, &file("from"), &[]);
    let ended = scratch.run(&run.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(ended.code(), 0, "{ended:?}");
    // What names the database stands last.
    let target = recording(&to, &file("to"), &[]).split_off(RUN.len());
    let target: Vec<&str> = target.iter().map(String::as_str).collect();
    let db = |words: &[&str]| {
        let words: Vec<&str> = words.iter().chain(&target).copied().collect();
        let ended = scratch.run(&words);
        assert!(!format!("{ended:?}").contains("s3cret"), "{ended:?}");
        ended
    };
    for _ in 0..2 {
        let ended = db(&["db", "migrate"]);
        assert_eq!(ended.code(), 0, "{ended:?}");
        assert!(ended.stdout.contains("is up to date: "), "{ended:?}");
    }
    let places = ["from", "to"].map(|name| format!("@{}", file(name).display()));
    for _ in 0..2 {
        let ended = db(&["db", "copy", "--from", &places[0], "--to", &places[1]]);
        assert_eq!(ended.code(), 0, "{ended:?}");
        assert!(!ended.stdout.contains("DIFFERENT"), "{ended:?}");
        assert_eq!(&recorded(&to), expected, "begun again, nothing is there twice");
    }
    for (topic, table) in [("orders", Table::Orders), ("trades", Table::Fills)] {
        let words = ["db", topic, "--side", "buy", "--limit", "7"];
        let json = db(&[&words[..], &["--json"]].concat());
        let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
        let csv = db(&[&words[..], &["--csv"]].concat());
        let mut lines = csv.stdout.lines().map(|line| line.split(',').collect::<Vec<_>>());
        let columns: Vec<&str> =
            json["columns"].as_array().unwrap().iter().filter_map(|it| it.as_str()).collect();
        assert_eq!(lines.next().unwrap(), columns, "{csv:?}");
        let lines: Vec<Vec<&str>> = lines.collect();
        assert_eq!((lines.len(), json["rows"].as_array().unwrap().len()), (7, 7), "{csv:?}");
        assert!(expected[&table].len() > 7);
        let side = columns.iter().position(|column| *column == "side").unwrap();
        assert!(lines.iter().all(|line| line.len() == columns.len() && line[side] == "buy"));
    }
    let ended = db(&["db", "copy", "--from", "@nowhere", "--to", &places[1]]);
    assert_eq!(ended.code(), 2, "{ended:?}");
    assert!(ended.stderr.contains("nowhere"), "{ended:?}");
}

/// A later version has been at it: nothing is started, and the remedy is said.
fn a_newer_schema_is_refused(place: &mut Place) {
    let url = place.database();
    runtime().block_on(async {
        let database = open(&url).await;
        database.close().await;
        execute(&url, "INSERT INTO tickwright_migrations (step) VALUES (1000)").await;
    });
    let file = tempfile::tempdir().unwrap();
    let arguments = recording(&url, &file.path().join("url"), &[]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ended = Scratch::new().run(&arguments);
    assert_eq!(ended.code(), 2, "{ended:?}");
    assert!(ended.stderr.contains("1000"), "{ended:?}");
    assert!(!ended.stderr.contains("s3cret"), "{ended:?}");
}

fn suite(mut place: Place) -> Place {
    migrations_may_be_repeated(&mut place);
    a_newer_schema_is_refused(&mut place);
    writing_twice_is_writing_once(&mut place);
    a_refusal_is_no_outage(&mut place);
    what_is_refused_is_set_aside(&mut place);
    questions_are_answered(&mut place);
    old_days_are_dropped(&mut place);
    let expected = undisturbed();
    commands_move_and_show_records(&mut place, &expected);
    kill_9_loses_and_doubles_nothing(&mut place, &expected);
    place
}

/// The file is deleted in mid-run: positions come back from exec's checkpoint and the operator is told; the
/// rest comes back by a run from the beginning.
#[test]
fn a_deleted_file_is_noticed_and_what_can_be_is_rebuilt() {
    let expected = undisturbed();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("records.sqlite");
    let url = format!("sqlite:{}", path.display());
    let scratch = Scratch::new();
    let slow = ["--speed", "100x"];
    let arguments = recording(&url, &directory.path().join("url"), &slow);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut process = scratch.start(scratch.command(&arguments));
    let deadline = Instant::now() + PATIENCE;
    let has_orders = || path.is_file() && recorded(&url)[&Table::Orders].len() > 20;
    while !has_orders() {
        assert!(process.ends_within(Duration::from_millis(20)).is_none(), "{:?}", process.said());
        assert!(Instant::now() < deadline, "{:?}", process.said());
    }
    process.kill();
    for ending in ["", "-wal", "-shm"] {
        let file = directory.path().join(format!("records.sqlite{ending}"));
        assert!(std::fs::remove_file(file).is_ok() || !ending.is_empty());
    }
    let arguments = recording(&url, &directory.path().join("url"), &[]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ended = scratch.run(&arguments);
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert!(ended.stderr.contains("is not the one that rows went to before"), "{ended:?}");
    let found = recorded(&url);
    // What is held, without since when.
    let held = |recorded: &Recorded| -> Vec<Vec<Value>> {
        let rows = recorded[&Table::Positions].iter();
        rows.map(|row| [&row.values[..3], &row.values[5..]].concat()).collect()
    };
    assert_eq!(held(&found), held(&expected));
    let is_expected = |table: Table| found[&table].iter().all(|row| expected[&table].contains(row));
    assert!(is_expected(Table::Orders) && is_expected(Table::Fills));
    // A run that was over begins anew.
    let ended = scratch.run(&arguments);
    assert_eq!(ended.code(), 0, "{ended:?}");
    let again = recorded(&url);
    assert_eq!(
        (&again[&Table::Orders], &again[&Table::Fills]),
        (&expected[&Table::Orders], &expected[&Table::Fills])
    );
    assert_eq!(held(&again), held(&expected));
}

/// Where inputs are taken by key nothing is denied: exec stands still until the database is back.
fn past_the_limit_nothing_is_ordered_until_it_is_back(server: &mut Server) {
    let url = server.database();
    server.stop();
    let scratch = Scratch::new();
    let file = tempfile::tempdir().unwrap();
    let more = ["--set", "database.spill_rows_max=40", "--set", "database.timeout_ms=1000"];
    let arguments = recording(&url, &file.path().join("url"), &more);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut process = scratch.start(scratch.command(&arguments));
    let deadline = Instant::now() + PATIENCE;
    while !process.said().1.contains("no order opens or enlarges a position") {
        assert!(process.ends_within(Duration::from_millis(20)).is_none(), "{:?}", process.said());
        assert!(Instant::now() < deadline, "{:?}", process.said());
    }
    // It would be over long before.
    assert!(process.ends_within(Duration::from_secs(2)).is_none(), "{:?}", process.said());
    server.run();
    let ended = finish(process);
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert!(ended.stderr.contains("orders may open again"), "{ended:?}");
    assert_eq!(recorded(&url), undisturbed());
}

/// A server that is away for a whole run with a kill in the middle, and comes back.
fn an_outage_loses_nothing(server: &mut Server) {
    let url = server.database();
    server.stop();
    what_is_away_loses_nothing(&url, || server.run());
}

fn what_is_away_loses_nothing(url: &str, come_back: impl FnOnce()) {
    let scratch = Scratch::new();
    let file = tempfile::tempdir().unwrap();
    let more = ["--set", "database.drain_ms=0", "--set", "database.timeout_ms=300"];
    let arguments = recording(url, &file.path().join("url"), &more);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut process = scratch.start(scratch.command(&arguments));
    if process.ends_within(Duration::from_millis(500)).is_none() {
        process.kill();
    }
    let ended = scratch.run(&arguments);
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert!(ended.stderr.contains("`tickwright db flush`"), "{ended:?}");
    assert!(!ended.stderr.contains("s3cret"), "{ended:?}");
    come_back();
    let data = scratch.path("data");
    // Where the database is stands last.
    let place = &arguments[arguments.len() - 4..];
    let flush = [&["db", "flush", "--data-dir", data.to_str().unwrap()][..], place].concat();
    let ended = scratch.run(&flush);
    assert_eq!(ended.code(), 0, "{ended:?}");
    assert_eq!(recorded(url), undisturbed());
}

/// Asked of a node without a database, which passes it on to the one that has one.
#[test]
fn tools_ask_whichever_node_has_a_database() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", directory.path().join("records.sqlite").display());
    let mut nodes = ["exec-1", "other-1"].map(Node::new);
    let seeds: Vec<String> = nodes.iter().map(Node::address).collect();
    for (node, roles) in nodes.iter_mut().zip(["data,calc,exec,control", "control"]) {
        let mut sets = vec![
            format!("cluster.seeds={}", seeds.join(",")),
            format!("node.roles={roles}"),
            "simulator.ticks=20000".to_owned(),
            "allocation.strategy=static".to_owned(),
            "allocation.static=source/*=exec-1,shard/*=exec-1,exec=exec-1".to_owned(),
        ];
        if roles.contains("exec") {
            sets.extend(["database.kind=sqlite".to_owned(), format!("database.url={url}")]);
            sets.push("pipeline.input=simulator".to_owned());
        }
        node.options.extend(sets.into_iter().flat_map(|set| ["--set".to_owned(), set]));
        node.start();
    }
    for node in &mut nodes {
        node.is_member();
    }
    let symbol = Some("BTCUSDT.BINANCE_SPOT".to_owned());
    let filter = Filter { symbol, limit: Some(3), ..Filter::default() };
    let question = Question { topic: Topic::Trades, filter };
    let task = CtlTask::Records(question);
    let mut found = serde_json::Value::Null;
    until("trades are found by the other node", || {
        found = nodes[1].ask(&task, None).unwrap_or_default();
        found["rows"].as_array().is_some_and(|rows| rows.len() == 3)
    });
    let names = found["columns"].as_array().unwrap();
    let place = names.iter().position(|name| name == "symbol").unwrap();
    let rows = found["rows"].as_array().unwrap();
    assert!(rows.iter().all(|row| row[place] == "BTCUSDT.BINANCE_SPOT"), "{found}");
    let text = tickwright::ctl::text(&task, &found);
    // A line of names, and at the end whose database it was.
    assert_eq!(text.lines().count(), 1 + 3 + 2, "{text}");
    assert!(text.contains("\nfrom the database of node exec-1, sqlite:"), "{text}");
    until("deeds are found too", || {
        let task = CtlTask::Records(Question { topic: Topic::Audit, filter: Filter::default() });
        nodes[1].ask(&task, None).is_ok_and(|found| found["rows"][0][4] == "start")
    });
    // What an operator does by any node is a deed, and what is only asked is none. Until the node has its session
    // it is refused, and a deed all the same.
    let promote = CtlTask::Promote { node: Some("other-1".into()) };
    let mut asked = 0;
    until("the other node has a session", || {
        asked += 1;
        nodes[1].ask(&promote, None).is_ok()
    });
    until("each of them is a deed", || {
        let filter = Filter { limit: Some(10_000), ..Filter::default() };
        let task = CtlTask::Records(Question { topic: Topic::Audit, filter });
        let found = nodes[1].ask(&task, None).unwrap_or_default();
        let deeds = found["rows"].as_array().cloned().unwrap_or_default();
        deeds.iter().filter(|deed| deed[4] == "Promote").count() == asked
    });
    // One more, which the database will not have at first.
    let runner = runtime();
    runner.block_on(execute(
        &url,
        "CREATE TRIGGER no_deed BEFORE INSERT ON tickwright_audit WHEN NEW.deed = 'Promote' \
         BEGIN SELECT RAISE(ABORT, 'no such deed'); END",
    ));
    nodes[1].ask(&promote, None).unwrap();
    let standing = |retry| CtlTask::Database { retry, discard: None };
    until("what the database refuses is set aside", || {
        let found = nodes[1].ask(&standing(false), None).unwrap_or_default();
        let text = tickwright::ctl::text(&standing(false), &found);
        found["status"]["set_aside"] == 1
            && text.contains("no such deed")
            && text.contains("--retry")
    });
    runner.block_on(execute(&url, "DROP TRIGGER no_deed"));
    let retried = nodes[1].ask(&standing(true), None).unwrap();
    assert_eq!(retried["told"], "1 rows were written, 0 are refused still", "{retried}");
    assert_eq!(retried["status"]["set_aside"], 0, "{retried}");
    until("what an operator did is found", || {
        let task = CtlTask::Records(Question { topic: Topic::Audit, filter: Filter::default() });
        let found = nodes[1].ask(&task, None).unwrap_or_default();
        let deeds = found["rows"].as_array().cloned().unwrap_or_default();
        let names: Vec<_> = deeds.iter().filter_map(|deed| deed[4].as_str()).collect();
        assert!(
            names.iter().all(|name| ["start", "notice", "Promote", "RetryAside"].contains(name)),
            "{names:?}"
        );
        let promoted = deeds.iter().find(|deed| deed[4] == "Promote");
        promoted.is_some_and(|deed| deed[5].as_str().is_some_and(|it| it.contains("\"other-1\"")))
    });
    // Past what is allowed, in words.
    let filter = Filter { limit: Some(1_000_000), ..Filter::default() };
    let task = CtlTask::Records(Question { topic: Topic::Orders, filter });
    let refused = nodes[1].ask(&task, None).unwrap_err().to_string();
    assert!(refused.contains("--limit 1000000 is not from 1 to 10000"), "{refused}");
    nodes[0].kill();
    until("nobody has a database", || {
        let asked = nodes[1].ask(&task, None);
        asked.is_err_and(|error| error.to_string().contains("no node has a database"))
    });
}

#[test]
fn sqlite_holds_what_is_promised() {
    suite(Place::file());
    // The directory of its file is not there, as when a volume is not mounted yet.
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("volume");
    let url = format!("sqlite:{}", place.join("records.sqlite").display());
    what_is_away_loses_nothing(&url, || std::fs::create_dir(&place).unwrap());
}

#[test]
fn postgresql_holds_what_is_promised() {
    let Some(server) = Server::start(Kind::Postgres) else { return };
    let Place::Server(mut server) = suite(Place::Server(server)) else { return };
    an_outage_loses_nothing(&mut server);
    past_the_limit_nothing_is_ordered_until_it_is_back(&mut server);
}

#[test]
fn mariadb_holds_what_is_promised() {
    let Some(server) = Server::start(Kind::Mariadb) else { return };
    let Place::Server(mut server) = suite(Place::Server(server)) else { return };
    an_outage_loses_nothing(&mut server);
    past_the_limit_nothing_is_ordered_until_it_is_back(&mut server);
}

#[test]
fn everything_is_copied_from_each_to_each() {
    let mut places = vec![Place::file()];
    places.extend(Server::start(Kind::Postgres).map(Place::Server));
    places.extend(Server::start(Kind::Mariadb).map(Place::Server));
    let urls: Vec<String> = places.iter_mut().map(Place::database).collect();
    let rows = [
        order(1, "X.Y", "buy"),
        position("X.Y", 1, 1, "0.000000001"),
        position("x.y", 1, 1, "-12"),
        tick(20_000, 1, Some("3")),
        audit_row("node", 1, 1, Timestamp::from_nanos(1), ("a", "✓\n'\"\\")),
    ];
    let many: Vec<Row> = (2..2_600).map(|number| order(number, "X.Y", "sell")).collect();
    runtime().block_on(async {
        let first = open(&urls[0]).await;
        first.write(&rows).await.unwrap();
        for part in many.chunks(500) {
            first.write(part).await.unwrap();
        }
        // Round: each is filled by the one before, and then each pair is compared.
        for pair in urls.windows(2) {
            let (from, to) = (open(&pair[0]).await, open(&pair[1]).await);
            let copied = copy(&from, &to).await.unwrap();
            assert!(copied.iter().all(|it| it.is_same), "{copied:?}");
            assert_eq!(copied.iter().map(|it| it.rows).sum::<u64>(), 2_603);
        }
        for from in &urls {
            for to in urls.iter().filter(|to| *to != from) {
                let copied = copy(&open(from).await, &open(to).await).await.unwrap();
                assert!(copied.iter().all(|it| it.is_same), "{from} {to} {copied:?}");
            }
        }
        // What is different is noticed.
        let other = open(&urls[0]).await;
        other.write(&[position("Z.Z", 1, 1, "1")]).await.unwrap();
        let last = urls.last().unwrap();
        if *last != urls[0] {
            let copied = copy(&open(last).await, &other).await.unwrap();
            let is_same = |table| copied.iter().find(|it| it.table == table).unwrap().is_same;
            assert!(is_same(Table::Orders) && !is_same(Table::Positions), "{copied:?}");
        }
    });
}
