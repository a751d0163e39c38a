//! The actors of a search beside a pipeline that says what it is told to say.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Mutex;

use serde_json::{Value, json};
use tickwright_core::backtest::performance::Performance;
use tickwright_core::domain::Money;

use super::*;
use crate::cluster::{LoneDoor, Message, Request};
use crate::optimise::{AdoptionCall, adoption_role};

const PATIENCE: Duration = Duration::from_secs(60);

/// Bars of a wave with noise on it.
fn wave(path: &Path) {
    let mut text = "ts_ns,symbol,open,high,low,close,volume\n".to_owned();
    let (mut before, mut chance) = (1_000.0_f64, 5u64);
    for minute in 1..=6_000u32 {
        chance =
            chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let random = f64::from(u32::try_from(chance >> 40).unwrap()) / f64::from(1u32 << 24) - 0.5;
        let phase = f64::from(minute) * std::f64::consts::TAU / 300.0;
        let close = 1_000.0 + 20.0 * phase.sin() + 16.0 * random;
        let (high, low) = (before.max(close) + 0.1, before.min(close) - 0.1);
        let end = 1_640_991_600_000_000_000 + u64::from(minute) * 60_000_000_000;
        writeln!(text, "{end},ABC-USD.TEST,{before:.2},{high:.2},{low:.2},{close:.2},900").unwrap();
        before = close;
    }
    std::fs::write(path, text).unwrap();
}

/// What the pipeline has in force and has earned.
#[derive(Debug, Default)]
struct Pipeline {
    values: BTreeMap<String, f64>,
    changes: Vec<Value>,
    /// Trades, and those that earned.
    trades: (u64, u64),
    /// Whether each trade earns.
    is_good: bool,
}

impl Pipeline {
    fn parameters(&mut self, call: &Value) -> Value {
        let wanted = &call["SetParameters"];
        if let Some(values) = wanted["parameters"].as_object() {
            let values = values.iter().map(|(name, value)| (name.clone(), value.as_f64().unwrap()));
            self.values.extend(values);
            self.changes.push(json!({
                "strategy": "crossing", "parameters": wanted["parameters"], "why": wanted["why"],
            }));
        }
        json!({
            "strategies": [{ "strategy": "crossing", "parameters": self.values }],
            "changes": self.changes,
        })
    }

    fn earned(&mut self) -> Value {
        let (trades, won) = &mut self.trades;
        *trades += 4;
        *won += if self.is_good { 4 } else { 0 };
        let performance = Performance {
            exposure_max: Money::from_units(1_000).into(),
            trades_closed: *trades,
            win_rate: Some(*won as f64 / *trades as f64),
            ..Performance::default()
        };
        json!({ "USD": performance })
    }
}

struct Desk {
    door: LoneDoor,
    pipeline: Arc<Mutex<Pipeline>>,
    running: Running,
    _directory: tempfile::TempDir,
}

impl Desk {
    async fn new(mode: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("wave.csv");
        wave(&data);
        let text = format!(
            "[node]\nname = \"a\"\n[journal]\nenabled = false\n[optimise]\nstrategy = \"crossing\"\n\
             search = \"random\"\nspace = [\"fast = int 40..60\", \"slow = int 110..300\"]\n\
             max_explorations = 12\npatience = 0\nworkers = 1\nadopt = \"{mode}\"\nlooks = 3\n\
             look_ms = 100\nweight_profit_rate = 0\nweight_sharpe = 0\nweight_drawdown = 0\ntrades_min = 3\n"
        );
        let config = Config::parse(&text, "a.toml").unwrap();
        let door = LoneDoor::open(&config, "127.0.0.1:0").await.unwrap();
        let pipeline = Pipeline {
            values: [("fast".to_owned(), 2.0), ("slow".to_owned(), 4.0), ("lots".to_owned(), 1.0)]
                .into(),
            is_good: true,
            ..Pipeline::default()
        };
        let pipeline = Arc::new(Mutex::new(pipeline));
        for role in ["parameters", "risk"] {
            let pipeline = Arc::clone(&pipeline);
            let handler = move |mut request: Request| {
                let call: Value = serde_json::from_slice(&request.body).unwrap();
                let mut pipeline = pipeline.lock().unwrap();
                let answer = match role {
                    "risk" => pipeline.earned(),
                    _ => pipeline.parameters(&call),
                };
                request.reply.take().unwrap().answer(answer.to_string().into_bytes());
                Ok(())
            };
            door.network().register(role, None, Arc::new(handler));
        }
        let arguments = OptimiseArguments { config, kinds: Default::default(), data: vec![data] };
        let prepared = tokio::task::spawn_blocking(move || Prepared::new(&arguments));
        let prepared = prepared.await.unwrap().unwrap();
        let running = Running::start(prepared, Some(door.network().clone())).await.unwrap().0;
        Self { door, pipeline, running, _directory: directory }
    }

    async fn adoption(&self, call: &AdoptionCall) -> Value {
        let (role, body) = (adoption_role("a"), json!(call).to_string());
        let answer = self.door.network().ask(None, Message::json(&role, &body), PATIENCE).await;
        answer.ok().and_then(|it| serde_json::from_slice(&it).ok()).unwrap_or_default()
    }

    async fn comes(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let shown = self.adoption(&AdoptionCall::Status).await;
            if holds(&shown) {
                return shown;
            }
            assert!(begun.elapsed() < PATIENCE, "{what}: {shown:#} {:?}", self.pipeline);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The adopter ends as by a panic, and is started anew.
    async fn kill_adopter(&self) {
        let serving = || self.running.directory.serving(adopter::ROLE).unwrap();
        let first = serving();
        first.kill();
        let begun = Instant::now();
        while serving().get_id() == first.get_id() {
            assert!(begun.elapsed() < PATIENCE, "it is not started anew");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn values(&self) -> [f64; 2] {
        let pipeline = self.pipeline.lock().unwrap();
        [pipeline.values["fast"], pipeline.values["slow"]]
    }

    fn earns(&self, is_good: bool) {
        self.pipeline.lock().unwrap().is_good = is_good;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_person_is_proposed_again_by_an_adopter_that_begins_anew() {
    let desk = Desk::new("confirm").await;
    let first = desk.comes("it is proposed", |it| it["stage"] == "proposed").await;
    desk.kill_adopter().await;
    let again =
        desk.comes("it is proposed again", |it| it["stage"] == "proposed" && it["proposed"] == 1);
    assert_eq!(again.await["proposal"], first["proposal"]);
    desk.adoption(&AdoptionCall::Confirm { by: "ann".into(), hold: None }).await;
    desk.comes("it is adopted", |it| it["adopted"] == 1).await;
    assert!(desk.values()[0] >= 40.0);
    desk.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_force_is_watched_on_by_an_adopter_that_begins_anew_and_not_tried_again() {
    let desk = Desk::new("auto").await;
    desk.comes("it is watched", |it| it["stage"] == "watched").await;
    let adopted = desk.values();
    assert!(adopted[0] >= 40.0);
    desk.comes("it has done well", |it| it["history"].as_array().is_some_and(|it| it.len() == 1))
        .await;
    desk.kill_adopter().await;
    desk.comes("it is watched by the next", |it| {
        it["stage"] == "watched" && it["history"].as_array().is_some_and(|it| it.len() == 1)
    })
    .await;
    assert_eq!(desk.values(), adopted);
    // It did well in its first stretches, and does worse now.
    desk.earns(false);
    desk.comes("it is taken back", |it| it["taken_back"] == 1).await;
    assert_eq!(desk.values(), [2.0, 4.0]);
    desk.kill_adopter().await;
    let shown = desk
        .comes("the next one knows", |it| it["history"].as_array().is_some_and(|it| it.len() == 1))
        .await;
    assert!(shown["history"][0]["why"].as_str().unwrap().starts_with("taken back"), "{shown:#}");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(desk.values(), [2.0, 4.0], "and does not try it again");
    desk.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_has_changed_meanwhile_is_not_taken_back() {
    let desk = Desk::new("auto").await;
    desk.comes("it has done well", |it| it["history"][0]["is_adopted"] == true).await;
    desk.pipeline.lock().unwrap().values.insert("fast".into(), 50.5);
    desk.comes("it is not watched any more", |it| it["stage"] == "idle").await;
    desk.earns(false);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(desk.values()[0], 50.5);
    assert_eq!(desk.adoption(&AdoptionCall::Status).await["taken_back"], 0);
    desk.running.stop().await;
}
