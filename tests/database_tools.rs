//! Records as a user has them shown by a running node, and what that costs its database in connections.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod databases;
mod processes;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use databases::{Kind, Server};
use processes::{Done, Node, run, until};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tickwright::ctl::CtlTask;
use tickwright_core::records::{Filter, Question, Topic};

/// A node that is a cluster of its own, trades in the simulated market, and records all there is.
fn recording(settings: &[(&str, &str)]) -> Node {
    let node = Node::new("exec-1");
    let seed = node.address();
    let common = [
        ("pipeline.input", "simulator"),
        ("simulator.ticks", "20000"),
        ("database.ticks", "true"),
        ("database.factors", "true"),
    ];
    let all = common.iter().chain(settings);
    let mut node = all.fold(node.seeds(&[&seed]), |node, (key, value)| node.set(key, value));
    node.start().is_member();
    node
}

/// What `ctl` shows, if it does.
fn ctl(node: &Node, words: &[&str]) -> Option<String> {
    let url = format!("http://127.0.0.1:{}", node.http);
    let output = run(&[&["ctl", "--node", &url][..], words].concat());
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

/// A value of JSON as it stands among others with commas between them.
fn cell(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.to_owned(),
        None if value.is_null() => String::new(),
        None => value.to_string(),
    }
}

#[test]
fn records_of_every_kind_are_shown_as_json_and_as_comma_separated_values() {
    let node = recording(&[("database.kind", "sqlite")]);
    // Each with a column that is never empty.
    for (topic, name, full) in [
        (Topic::Orders, "orders", "side"),
        (Topic::Trades, "trades", "price"),
        (Topic::Positions, "positions", "quantity"),
        (Topic::Ticks, "ticks", "kind"),
        (Topic::Factors, "factors", "factors"),
        (Topic::Audit, "audit", "deed"),
    ] {
        let show = |format: &str| ctl(&node, &[name, "--limit", "3", format]);
        let as_json = || -> Value {
            let text = show("--json").unwrap_or_default();
            serde_json::from_str(&text).unwrap_or_default()
        };
        let (mut found, mut text) = (Value::Null, String::new());
        until(&format!("there are {name}, and no more of them come"), || {
            found = as_json();
            text = show("--csv").unwrap_or_default();
            let has_rows = found["rows"].as_array().is_some_and(|rows| !rows.is_empty());
            has_rows && as_json()["rows"] == found["rows"]
        });
        let columns: Vec<&str> = topic.columns().iter().map(|(column, _)| column.name).collect();
        assert_eq!(found["columns"], json!(columns), "{name}");
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let header: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
        assert_eq!(header, columns, "{name}");
        let lines: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        let rows = found["rows"].as_array().unwrap();
        assert_eq!(lines.len(), rows.len(), "{text}");
        for (line, row) in lines.iter().zip(rows) {
            let cells: Vec<String> = row.as_array().unwrap().iter().map(cell).collect();
            assert_eq!(line.iter().collect::<Vec<_>>(), cells, "{name}");
        }
        let place = columns.iter().position(|column| *column == full).unwrap();
        assert!(lines.iter().all(|line| !line[place].is_empty()), "{text}");
    }
}

/// How many connections others have to the database of whoever asks.
const CONNECTIONS: &str = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() \
                           AND backend_type = 'client backend' AND pid <> pg_backend_pid()";

/// For how long it is watched how many there are.
const WATCHED: Duration = Duration::from_secs(3);

#[test]
fn a_node_has_as_many_connections_as_it_may_however_many_ask() {
    let Some(mut server) = Server::start(Kind::Postgres) else { return };
    let url = server.database();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("url");
    std::fs::write(&file, &url).unwrap();
    let node = recording(&[
        ("database.kind", "postgres"),
        ("database.url_file", file.to_str().unwrap()),
        ("database.connections_max", "2"),
    ]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut connection = runtime.block_on(PgConnection::connect(&url)).unwrap();
    let mut look = || -> i64 {
        let counted = sqlx::query_scalar::<sqlx::Postgres, i64>(CONNECTIONS);
        runtime.block_on(counted.fetch_one(&mut connection)).unwrap()
    };
    let filter = Filter { limit: Some(1_000), ..Filter::default() };
    let task = CtlTask::Records(Question { topic: Topic::Orders, filter });
    until("orders are found", || {
        let found = node.ask(&task, None).unwrap_or_default();
        found["rows"].as_array().is_some_and(|rows| rows.len() > 100)
    });
    let (is_over, mut most) = (AtomicBool::new(false), 0i64);
    let answers: Vec<u32> = thread::scope(|scope| {
        let done = Done(&is_over);
        let ask = || {
            let mut answers = 0;
            while !is_over.load(Ordering::Relaxed) {
                answers += u32::from(node.ask(&task, None).is_ok());
            }
            answers
        };
        let asking: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        let begun = Instant::now();
        while begun.elapsed() < WATCHED {
            most = most.max(look());
            thread::sleep(Duration::from_millis(2));
        }
        drop(done);
        asking.into_iter().map(|asking| asking.join().unwrap()).collect()
    });
    println!("answers: {answers:?}, connections: {most}");
    assert!(answers.iter().all(|&answers| answers > 0), "{answers:?}");
    assert_eq!(most, 2);
}
