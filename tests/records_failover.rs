//! Exec's node is lost with its disk while the database is away: what waited there is in the database in the end.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use common::{PATIENCE, Scratch};
use tickwright::kit::{Barrier, Carried};
use tickwright::records::database::{Database, DatabaseSettings, DatabaseUrl};
use tickwright::records::{Records, RecordsSettings, RecordsStatus};
use tickwright_core::config::{Config, DatabaseKind};
use tickwright_core::domain::Timestamp;
use tickwright_core::records::{Row, Table, Value, audit_row};

/// Rows of what exec does that wait for the database, and not more than go with a checkpoint.
const TICKS: &str = "12000";

/// A run that records to the SQLite file at `url`.
fn arguments(url: &str, more: &[&str]) -> Vec<String> {
    let url = format!("database.url={url}");
    let common = ["demo", "--ticks", TICKS, "--set", "stream.checkpoint_ticks=2000"];
    let recorded = ["--set", "database.kind=sqlite", "--set", &url];
    let away = ["--set", "database.drain_ms=0", "--set", "database.timeout_ms=300"];
    let all = common.iter().chain(&recorded).chain(&away).chain(more);
    all.map(|&word| word.to_owned()).collect()
}

async fn open(url: &str) -> Database {
    let settings = DatabaseSettings {
        url: DatabaseUrl::parse(url).unwrap(),
        connections_max: 1,
        timeout: Duration::from_secs(20),
        days_max: 2,
    };
    Database::open(settings).await.unwrap_or_else(|error| panic!("{error}"))
}

/// What exec has recorded there.
fn recorded(url: &str) -> BTreeMap<Table, Vec<Row>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let database = open(url).await;
        let mut found = BTreeMap::new();
        for table in Table::LASTING {
            // Each start of a node is a deed of its own.
            if table != Table::Audit {
                let mut rows = database.page(table, None, 100_000).await.unwrap();
                rows.sort_by_key(|row| format!("{:?}", row.values));
                found.insert(table, rows);
            }
        }
        database.close().await;
        found
    })
}

fn run(scratch: &Scratch, arguments: &[String]) -> common::Ended {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    scratch.run(&arguments)
}

#[test]
fn rows_that_wait_on_a_lost_disk_come_to_the_database_by_whoever_has_exec_then() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("volume");
    std::fs::create_dir(&place).unwrap();
    let expected = {
        let url = format!("sqlite:{}", place.join("expected.sqlite").display());
        let ended = run(&Scratch::new(), &arguments(&url, &["--set", "database.drain_ms=60000"]));
        assert_eq!(ended.code(), 0, "{ended:?}");
        recorded(&url)
    };
    assert!(expected[&Table::Fills].len() > 100, "a run that trades");

    // A run that is struck before exec has any checkpoint begins anew, and shows nothing.
    let went_on = (0..5).any(|attempt| {
        let later = place.join(format!("later-{attempt}"));
        lose_exec_while_the_database_is_away(&later, &expected)
    });
    assert!(went_on, "exec never went on from a checkpoint");
}

/// Whether exec went on from a checkpoint, and not from the beginning.
fn lose_exec_while_the_database_is_away(
    later: &Path,
    expected: &BTreeMap<Table, Vec<Row>>,
) -> bool {
    // The directory of its file is not there: the database is away for the whole run.
    let url = format!("sqlite:{}", later.join("records.sqlite").display());
    let scratch = Scratch::new();
    let fault = "restart:exec-1@60%:2500ms";
    let words = arguments(&url, &["--nodes", "3", "--chaos", fault]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut command = scratch.command(&words);
    command.env("RUST_LOG", "error,tickwright=info").env("NO_COLOR", "1");
    let mut process = scratch.start(command);
    let begun = Instant::now();
    while !process.said().1.contains(&format!("struck: {fault}")) {
        assert!(begun.elapsed() < PATIENCE, "{:?}", process.said());
        thread::sleep(Duration::from_millis(10));
    }
    // It is dead, and comes back without its disk.
    std::fs::remove_dir_all(scratch.path("data").join("exec-1")).unwrap();
    let status = process.ends_within(PATIENCE);
    assert!(status.is_some_and(|status| status.success()), "{:?}", process.said());
    assert!(scratch.report()["failovers"].as_u64() >= Some(1), "nobody took over");

    std::fs::create_dir(later).unwrap();
    for node in ["data-1", "calc-1", "exec-1"] {
        let data = scratch.path("data").join(node);
        let data = data.to_str().unwrap();
        let setting = format!("database.url={url}");
        let flush = ["db", "flush", "--data-dir", data, "--set", "database.kind=sqlite"];
        let ended = scratch.run(&[&flush[..], &["--set", &setting]].concat());
        assert_eq!(ended.code(), 0, "{node}: {ended:?}");
    }
    let found = recorded(&url);
    for (table, rows) in expected {
        let missing = rows.iter().filter(|row| !found[table].contains(row)).count();
        assert_eq!(
            missing,
            0,
            "{table:?}: of {} rows, {} are there",
            rows.len(),
            found[table].len()
        );
        assert_eq!(found[table].len(), rows.len(), "{table:?}: rows that never were");
    }
    let log = |node: &str| std::fs::read_to_string(scratch.path("data/logs").join(node)).unwrap();
    let went_on = "goes on from a checkpoint unit=exec";
    ["data-1.log", "calc-1.log"].into_iter().any(|node| log(node).contains(went_on))
}

fn deed(number: u64) -> Row {
    audit_row("lost-1", 1, number, Timestamp::from_nanos(number), ("deed", "of another node"))
}

/// What goes with a checkpoint that comes after all that was recorded so far.
async fn carried(records: &Records) -> Carried {
    let (sender, given) = tokio::sync::oneshot::channel();
    let give = move |carried| drop(sender.send(carried));
    records.recording().barrier.send(Barrier::Carrying(Box::new(give))).unwrap();
    tokio::time::timeout(PATIENCE, given).await.unwrap().unwrap()
}

async fn comes_to(records: &Records, what: &str, holds: impl Fn(&RecordsStatus) -> bool) {
    let begun = Instant::now();
    while !holds(&records.status()) {
        assert!(begun.elapsed() < PATIENCE, "{what}: {:?}", records.status());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// 4,000 rows go along and the rest is counted and told; what came from elsewhere is recorded, what waits here
/// anyway is not taken in again, and of what stayed where it was its node is named.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_more_than_goes_along_is_counted_and_told() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("volume");
    let mut config = Config::default();
    config.node.data_dir = directory.path().join("data").display().to_string();
    config.database.kind = DatabaseKind::Sqlite;
    config.database.url = Some(format!("sqlite:{}", place.join("records.sqlite").display()));
    let settings = RecordsSettings::of(&config, "run".into()).unwrap().unwrap();
    let records = Records::start(&config, settings).await.unwrap();
    let recording = records.recording();
    let has_told = |status: &RecordsStatus, words: &str| {
        status.notices.iter().any(|notice| notice.contains(words))
    };

    let rows = (1..=4_100).map(deed).collect();
    recording.carried.send(Carried { disk: "lost-1/7".into(), rows, left: 3 }).unwrap();
    let waiting = carried(&records).await;
    // Of this node itself it is a deed that it has started, and one that something was told.
    assert_eq!(waiting.rows.len(), 4_000);
    assert!((100..110).contains(&waiting.left), "{}", waiting.left);
    comes_to(&records, "it is counted", |status| status.on_disk_alone == waiting.left).await;
    let status = records.status();
    assert!(has_told(&status, "3 rows wait for the database on the disk of node lost-1 alone"));
    assert!(has_told(&status, "more than 4000 rows wait"), "{status:?}");
    assert!(!status.is_connected && status.waiting > 4_000, "{status:?}");

    let again = Carried { rows: vec![deed(5_000)], ..waiting };
    recording.carried.send(again).unwrap();
    std::fs::create_dir(&place).unwrap();
    assert_eq!(records.drained().await, 0);
    assert!(carried(&records).await.is_empty());
    comes_to(&records, "it is over", |status| status.on_disk_alone == 0).await;
    assert!(has_told(
        &records.status(),
        "no row that waits for the database is on this node's disk"
    ));
    assert_eq!(records.end().await, None);
    let url = config.database.url.unwrap();
    let mut rows = open(&url).await.page(Table::Audit, None, 100_000).await.unwrap();
    let node = Table::Audit.place("node").unwrap();
    rows.retain(|row| row.values[node] == Value::Text("lost-1".into()));
    rows.sort_by_key(|row| format!("{:>40}", format!("{:?}", row.values[2])));
    assert_eq!(rows, (1..=4_100).map(deed).collect::<Vec<_>>());
}
