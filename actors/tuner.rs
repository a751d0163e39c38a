//! The AutoTuner: has settings changed while the pipeline runs, where that measurably helps.
//!
//! ```text
//! exec, wherever it is ── rows, latency ─▶ TunerActor (core: AutoTuner) ── values ─▶ Settings ─▶ running actors
//! who coordinates ───────────────────────▶     │    ▲
//!                                      ctl tuner    ╰── what somebody else has set
//! ```
//!
//! One on each node: that of the coordinator decides, the others watch. *Failover.* What is being tried is among
//! the settings, with what was there before; whoever decides next takes it back. *Delivery.* A setting that does
//! not arrive is a trial without effect, and is taken back.

use std::collections::BTreeSet;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ractor::rpc::CallResult;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use ractor_cluster::RactorMessage;
use serde_json::{Value, json};
use tickwright_core::config::TunerSection;
use tickwright_core::domain::Histogram;
use tickwright_core::supervision::Restart;
use tickwright_core::tuner::{AutoTuner, Effect, Window};
use tokio::time::Instant;

use crate::cluster::{Network, Request};
use crate::kit::{ChildSpec, Directory, LiveValues};

/// The role of the tuner of a node.
pub const ROLE: &str = "tuner";

/// The role among nodes of the tuner of `node`.
pub fn role(node: &str) -> String {
    format!("{ROLE}/{node}")
}

/// Lets tools ask the tuner that is in `directory`, as that of this node; the role by which they do.
pub fn serve(network: &Network, directory: Directory) -> String {
    let role = role(&network.own().id.0);
    network.register(&role, None, Arc::new(move |request| answer(&directory, request)));
    role
}

/// Answers a tool.
fn answer(directory: &Directory, mut request: Request) -> Result<(), String> {
    let Some(reply) = request.reply.take() else { return Err("the tuner is told nothing".into()) };
    let Some(actor) = directory.serving(ROLE) else {
        reply.refuse("the tuner is being restarted; ask again");
        return Ok(());
    };
    let actor = ActorRef::<TunerMessage>::from(actor);
    tokio::spawn(async move {
        // It holds its credit until it is answered.
        let _request = request;
        let report = actor.call(TunerMessage::Report, Some(ANSWER_PATIENCE)).await;
        match report {
            Ok(CallResult::Success(report)) => {
                reply.answer(report.to_string().into_bytes());
            }
            _ => reply.refuse("the tuner gave no answer"),
        }
    });
    Ok(())
}

/// Settings that hold each other back: a block is no larger than the credit for it.
const TOGETHER: [&str; 2] = ["pipeline.batch_ticks", "stream.credit_ticks"];

/// The tuner, for its supervisor.
pub fn child(arguments: TunerArguments) -> ChildSpec {
    ChildSpec::new(ROLE, Restart::Permanent, move |parent| {
        let arguments = arguments.clone();
        async move { Ok(parent.spawn_linked(None, TunerActor, arguments).await?.0.get_cell()) }
    })
}

/// How all settings stand that may change while actors run.
pub fn standing(live: &LiveValues) -> Vec<(String, i64)> {
    let of = live.standing().into_iter();
    of.map(|it| (it.key.to_owned(), i64::try_from(it.value).unwrap_or(i64::MAX))).collect()
}

fn window_of(arguments: &TunerArguments) -> Duration {
    arguments.section.window
}

/// How long a report may take.
const ANSWER_PATIENCE: Duration = Duration::from_secs(1);

/// Decisions that are kept for whoever decides next.
const KEPT_MAX: usize = 16;

/// How long a measurement, or a setting, may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// What the future of a question is.
pub type Asked<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What exec has counted so far.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Distinct clean rows that came there.
    pub rows: u64,
    /// How long orders took from the row that caused them.
    pub latency: Histogram,
}

/// Where settings are, and how they are changed.
pub trait Settings: Send + Sync {
    /// Each as it stands, by its key.
    fn values(&self) -> Vec<(String, i64)>;
    /// Keys of those that are set for this node in particular: what is set for all does not change them.
    fn particular(&self) -> BTreeSet<String>;
    /// What was being tried by whoever decided before, as it was without it; or why that is not known.
    fn unfinished(&self) -> Asked<Result<Vec<(String, i64)>, String>>;
    /// What whoever decided before has decided lately, oldest first; or why that is not known.
    fn decided(&self) -> Asked<Result<Vec<Value>, String>>;
    /// Keeps what was decided lately for whoever decides next.
    fn keep_decided(&self, decisions: Vec<Value>) -> Asked<Result<(), String>>;
    /// Whether this node is to decide.
    fn decides(&self) -> bool;
    /// Changes some. `unfinished`: what they were, for as long as it is not decided that they stay.
    fn set(
        &self,
        values: Vec<(String, i64)>,
        unfinished: Vec<(String, i64)>,
    ) -> Asked<Result<(), String>>;
}

/// What exec has counted, if it can be asked.
pub type Measure = Arc<dyn Fn() -> Asked<Option<Measured>> + Send + Sync>;

/// Everything the mailbox holds.
#[derive(Debug, RactorMessage)]
pub enum TunerMessage {
    /// A window is over.
    WindowDue,
    /// What is being tried, and what was decided?
    Report(RpcReplyPort<Value>),
}

/// What the actor is started with.
#[derive(Clone)]
pub struct TunerArguments {
    /// How trials go, and with what.
    pub section: TunerSection,
    /// What exec has counted.
    pub measure: Measure,
    /// The settings.
    pub settings: Arc<dyn Settings>,
    /// Where to register.
    pub directory: Directory,
}

impl fmt::Debug for TunerArguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TunerArguments").field("section", &self.section).finish_non_exhaustive()
    }
}

/// The actor.
#[derive(Debug)]
pub struct TunerActor;

/// What the actor owns while it runs.
#[derive(Debug)]
pub struct TunerState {
    arguments: TunerArguments,
    tuner: AutoTuner,
    /// What was counted at the end of the last window, and when.
    last: Option<(Measured, Instant)>,
    /// What was measured in it.
    seen: Option<Window>,
    /// What others have decided before, at most [`KEPT_MAX`].
    before: Vec<Value>,
    /// Settings that are to stay, or were taken back, and did not arrive.
    undone: Vec<(String, i64)>,
    /// Why the last setting did not arrive.
    problem: Option<String>,
}

impl Actor for TunerActor {
    type Msg = TunerMessage;
    type State = TunerState;
    type Arguments = TunerArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<TunerMessage>,
        arguments: TunerArguments,
    ) -> Result<TunerState, ActorProcessingErr> {
        let knobs = arguments.section.knobs(&arguments.settings.values());
        let place = |key: &str| knobs.iter().position(|knob| knob.name == key);
        let together: Vec<usize> = TOGETHER.into_iter().filter_map(place).collect();
        let tuner = AutoTuner::new(arguments.section.config.clone(), knobs, &[together]);
        arguments.directory.register(ROLE, &myself);
        myself.send_interval(window_of(&arguments), || TunerMessage::WindowDue);
        let (undone, before) = (Vec::new(), Vec::new());
        Ok(TunerState { arguments, tuner, last: None, seen: None, before, undone, problem: None })
    }

    async fn handle(
        &self,
        _myself: ActorRef<TunerMessage>,
        message: TunerMessage,
        state: &mut TunerState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            TunerMessage::WindowDue => state.look().await,
            TunerMessage::Report(reply) => {
                // A caller that stopped waiting is its own affair.
                let _ = reply.send(state.report());
            }
        }
        Ok(())
    }
}

impl TunerState {
    async fn look(&mut self) {
        // Else what is still as it was tried would be taken for an operator's will.
        if !self.undone.is_empty() && !self.set(self.undone.clone(), Vec::new()).await {
            return;
        }
        self.undone.clear();
        let particular = self.arguments.settings.particular();
        let effects = self.tuner.pin(&particular);
        self.act(effects).await;
        for (name, value) in self.arguments.settings.values() {
            let effects = self.tuner.on_setting(&name, value);
            self.act(effects).await;
        }
        let settings = &self.arguments.settings;
        let effects = match (settings.decides(), self.tuner.is_active()) {
            // What another was trying may come to be known here after what it tried.
            (true, true) if self.tuner.trial().is_none() => {
                let unfinished = settings.unfinished().await.unwrap_or_default();
                self.tuner.take_back(&unfinished)
            }
            (true, true) => Vec::new(),
            (true, false) => match settings.unfinished().await {
                Ok(unfinished) => {
                    // They only explain: without them it goes on all the same.
                    self.before = settings.decided().await.unwrap_or_default();
                    self.tuner.activate(&unfinished)
                }
                // Before that is known nothing else is tried.
                Err(reason) => {
                    self.problem = Some(format!("what was tried before: {reason}"));
                    Vec::new()
                }
            },
            (false, _) => self.tuner.deactivate(),
        };
        self.act(effects).await;
        let asked = (self.arguments.measure)();
        let Ok(Some(now)) = tokio::time::timeout(PATIENCE, asked).await else {
            // Exec is on its way to another node, or there is none.
            (self.last, self.seen) = (None, None);
            return;
        };
        let at = Instant::now();
        // Looks that had to wait come all at once: what lies between two of them says nothing.
        let shortest = window_of(&self.arguments) / 2;
        if self.last.as_ref().is_some_and(|(_, since)| at - *since < shortest) {
            return;
        }
        let Some((before, since)) = self.last.replace((now.clone(), at)) else { return };
        let window = window(&before, &now, at - since);
        self.seen = Some(window);
        let effects = self.tuner.on_window(window);
        self.act(effects).await;
    }

    async fn act(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Set { values, is_trial } => {
                    let tried = self.tuner.trial().filter(|_| is_trial).unwrap_or_default();
                    let before = tried.into_iter().map(|(name, from, _)| (name, from)).collect();
                    if !self.set(values.clone(), before).await && !is_trial {
                        self.undone = values;
                    }
                }
                Effect::Decided(decision) => {
                    tracing::info!(?decision, "the tuner has decided");
                    let kept = self.arguments.settings.keep_decided(self.decided(KEPT_MAX));
                    if let Ok(Err(reason)) = tokio::time::timeout(PATIENCE, kept).await {
                        tracing::debug!(reason, "a decision is not kept for whoever decides next");
                    }
                }
            }
        }
    }

    /// Says whether it arrived.
    async fn set(&mut self, values: Vec<(String, i64)>, before: Vec<(String, i64)>) -> bool {
        let set = self.arguments.settings.set(values, before);
        let set = tokio::time::timeout(PATIENCE, set).await;
        let set = set.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")));
        if let Err(reason) = &set {
            tracing::warn!(reason, "a setting was not changed");
        }
        self.problem = set.err();
        self.problem.is_none()
    }

    /// The last `count` decisions, those of others before among them, oldest first.
    fn decided(&self, count: usize) -> Vec<Value> {
        let own = self.tuner.decisions().map(|decision| json!(decision));
        let all: Vec<Value> = self.before.iter().cloned().chain(own).collect();
        all[all.len().saturating_sub(count)..].to_vec()
    }

    fn report(&self) -> Value {
        let settings: serde_json::Map<String, Value> =
            self.tuner.knobs().iter().map(|knob| (knob.name.clone(), knob.value.into())).collect();
        json!({
            "decides": self.tuner.is_active(),
            "window_ms": u64::try_from(window_of(&self.arguments).as_millis()).unwrap_or(u64::MAX),
            "settings": settings,
            "left_alone": self.arguments.settings.particular(),
            "trying": self.tuner.trial(),
            "problem": self.problem,
            "window": self.seen,
            "decisions": self.decided(usize::MAX),
        })
    }
}

/// What happened between two measurements.
fn window(before: &Measured, now: &Measured, took: Duration) -> Window {
    // An exec that began anew has counted from its checkpoint: less than before is no measurement.
    #[expect(clippy::cast_precision_loss, reason = "rates are for comparison")]
    let rows = now.rows.saturating_sub(before.rows) as f64;
    let latency = now.latency.since(&before.latency);
    #[expect(clippy::cast_precision_loss, reason = "latencies are for comparison")]
    let p99_us = match latency.count() {
        0 => f64::NAN,
        _ => latency.quantile(990_000) as f64 / 1e3,
    };
    Window { throughput: rows / took.as_secs_f64().max(f64::MIN_POSITIVE), p99_us }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};

    use tickwright_core::config::Config;
    use tokio::task::JoinHandle;

    use super::*;

    /// Settings that a pipeline goes by at once: the more, the faster.
    #[derive(Default)]
    struct Kept {
        values: Mutex<Vec<(String, i64)>>,
        unfinished: Mutex<Vec<(String, i64)>>,
        decided: Mutex<Vec<Value>>,
        /// Whether the next setting that is no trial does not arrive.
        fails: AtomicBool,
    }

    impl Settings for Kept {
        fn values(&self) -> Vec<(String, i64)> {
            self.values.lock().unwrap().clone()
        }

        fn particular(&self) -> BTreeSet<String> {
            BTreeSet::new()
        }

        fn unfinished(&self) -> Asked<Result<Vec<(String, i64)>, String>> {
            let unfinished = self.unfinished.lock().unwrap().clone();
            Box::pin(async { Ok(unfinished) })
        }

        fn decided(&self) -> Asked<Result<Vec<Value>, String>> {
            let decided = self.decided.lock().unwrap().clone();
            Box::pin(async { Ok(decided) })
        }

        fn keep_decided(&self, decisions: Vec<Value>) -> Asked<Result<(), String>> {
            *self.decided.lock().unwrap() = decisions;
            Box::pin(async { Ok(()) })
        }

        fn decides(&self) -> bool {
            true
        }

        fn set(
            &self,
            values: Vec<(String, i64)>,
            unfinished: Vec<(String, i64)>,
        ) -> Asked<Result<(), String>> {
            // A trial is more than none: what fails first is what takes one back, or keeps it.
            if unfinished.is_empty() && self.fails.swap(false, Ordering::Relaxed) {
                return Box::pin(async { Err("nobody hears".to_owned()) });
            }
            *self.values.lock().unwrap() = values;
            *self.unfinished.lock().unwrap() = unfinished;
            Box::pin(async { Ok(()) })
        }
    }

    /// A tuner of the first of its settings, from 1, whose blocks cost as much as seven rows.
    async fn tuner_of(
        kept: &Arc<Kept>,
        window: Duration,
    ) -> (ActorRef<TunerMessage>, JoinHandle<()>) {
        *kept.values.lock().unwrap() = vec![(TOGETHER[0].to_owned(), 1)];
        let rows = Arc::new(Mutex::new(0));
        let (of, last) = (Arc::clone(kept), Arc::new(Mutex::new(Instant::now())));
        let measure: Measure = Arc::new(move || {
            let (mut rows, mut last) = (rows.lock().unwrap(), last.lock().unwrap());
            let batch = u64::try_from(of.values()[0].1).unwrap();
            let at = Instant::now();
            let passed = (at - *last).as_micros();
            *last = at;
            *rows += u64::try_from(passed).unwrap() * batch / (batch + 7);
            let measured = Measured { rows: *rows, latency: Histogram::new() };
            Box::pin(async move { Some(measured) })
        });
        let text = "[tuner]\nstretch_windows = 2\nchance_max = 0.001\ngain_min = 0.05\n";
        let mut section = Config::parse(text, "my.toml").unwrap().tuner;
        section.window = window;
        let arguments = TunerArguments {
            section,
            measure,
            settings: Arc::clone(kept) as Arc<dyn Settings>,
            directory: Directory::default(),
        };
        Actor::spawn(None, TunerActor, arguments).await.unwrap()
    }

    /// As [`Kept::set`] fails once, what was tried would stay, and be taken for an operator's will.
    #[tokio::test]
    async fn what_is_not_taken_back_at_once_is_taken_back_later() {
        let kept = Arc::new(Kept::default());
        let (tuner, task) = tuner_of(&kept, Duration::from_millis(3)).await;
        let deadline = Instant::now() + Duration::from_secs(60);
        while kept.unfinished.lock().unwrap().is_empty() {
            assert!(Instant::now() < deadline, "nothing is tried");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        kept.fails.store(true, Ordering::Relaxed);
        while kept.fails.load(Ordering::Relaxed) || kept.values()[0].1 != 1 {
            assert!(Instant::now() < deadline, "what was tried stays");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let report = ractor::call!(tuner, TunerMessage::Report).unwrap();
        let interrupted = report["decisions"].as_array().unwrap().iter();
        assert_eq!(interrupted.filter(|it| it["verdict"] == "interrupted").count(), 0, "{report}");
        tuner.stop(None);
        task.await.unwrap();
    }

    /// The node that tried it is lost, and what it said of that comes after what it set.
    #[tokio::test]
    async fn what_another_was_trying_is_taken_back_though_it_is_heard_of_late() {
        let kept = Arc::new(Kept::default());
        let (tuner, task) = tuner_of(&kept, Duration::from_millis(300)).await;
        let deadline = Instant::now() + Duration::from_secs(60);
        while ractor::call!(tuner, TunerMessage::Report).unwrap()["decides"] != true {
            assert!(Instant::now() < deadline, "it does not decide");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let of = |value: i64| vec![(TOGETHER[0].to_owned(), value)];
        *kept.values.lock().unwrap() = of(9);
        *kept.unfinished.lock().unwrap() = of(3);
        while kept.values() != of(3) {
            assert!(Instant::now() < deadline, "what was tried stays");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tuner.stop(None);
        task.await.unwrap();
    }

    /// Looks that had to wait come all at once, and in what lies between them nothing came.
    #[tokio::test]
    async fn late_looks_are_no_measurement() {
        let kept = Arc::new(Kept::default());
        let (tuner, task) = tuner_of(&kept, Duration::from_millis(200)).await;
        for _ in 0..200 {
            tuner.cast(TunerMessage::WindowDue).unwrap();
        }
        // The report comes after them.
        let report = ractor::call!(tuner, TunerMessage::Report).unwrap();
        assert!(report["trying"].is_null(), "{report}");
        tuner.stop(None);
        task.await.unwrap();
    }

    #[tokio::test]
    async fn a_setting_that_helps_comes_to_stay_and_is_explained() {
        let kept = Arc::new(Kept::default());
        let (tuner, task) = tuner_of(&kept, Duration::from_millis(3)).await;
        let deadline = Instant::now() + Duration::from_secs(60);
        let report = loop {
            assert!(Instant::now() < deadline, "it does not get there");
            tokio::time::sleep(Duration::from_millis(10)).await;
            let report = ractor::call!(tuner, TunerMessage::Report).unwrap();
            if report["settings"][TOGETHER[0]].as_i64() >= Some(64) && report["trying"].is_null() {
                break report;
            }
        };
        assert_eq!(report["decides"], true);
        let first = &report["decisions"][0];
        assert_eq!(
            (&first["verdict"], &first["changed"][0][0]),
            (&"kept".into(), &TOGETHER[0].into())
        );
        assert!(first["with"]["throughput"].as_f64() > first["without"]["throughput"].as_f64());
        // While it is tried, whoever comes next could take it back.
        while kept.unfinished.lock().unwrap().is_empty() {
            assert!(Instant::now() < deadline, "it tries nothing any more");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tuner.stop(None);
        task.await.unwrap();

        // Whoever comes next explains it as well.
        let decided = kept.decided.lock().unwrap().clone();
        assert_eq!(decided[0], report["decisions"][0]);
        let (next, task) = tuner_of(&kept, Duration::from_millis(3)).await;
        loop {
            assert!(Instant::now() < deadline, "it knows nothing of what was before");
            let report = ractor::call!(next, TunerMessage::Report).unwrap();
            if report["decisions"][0] == decided[0] && report["window"]["throughput"].is_f64() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        next.stop(None);
        task.await.unwrap();
    }
}
