//! The alerts of a cluster: an operator hears of what goes wrong, once.
//!
//! ```text
//! who is silent ──────────────▶ ┌─────────────────────┐ ─▶ log, a program of the user's: where this node coordinates
//! how trials go, on each node ─▶│ AlertsActor         │
//! what was earned ────────────▶ │ (cores: Alerts,     │ ─▶ alerts/NODE: `ctl alerts`, /alerts, /metrics
//! timers ─────────────────────▶ │  LiveScore)         │
//!                               └─────────────────────┘
//! ```
//!
//! One on each node. All look who is silent, so that whoever coordinates next knows; only the node that coordinates looks at
//! trials and scores, and only it tells. While none does, because too few nodes are left to agree, the first by name that is
//! heard of does so for it. *Failover.* Nothing is kept: whoever coordinates next tells what still stands again,
//! as it cannot know what was told. *Delivery.* The program is run for one alert after the other, with a deadline; beyond a
//! bounded number that wait, alerts are not told to it, which is logged.

mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Write;
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use ractor_cluster::RactorMessage;
use serde_json::{Value, json};
use tickwright_core::alerts::{Alert, AlertTime, Alerts};
use tickwright_core::config::AlertsSection;
use tickwright_core::domain::Timestamp;
use tickwright_core::optimise::live_score::Sample;
use tickwright_core::optimise::{LiveScore, Weights};
use tickwright_core::supervision::Restart;
use tokio::sync::mpsc;

use crate::kit::{ChildSpec, Clock, Directory, LiveValues, monotonic_nanos};

use rules::LiveRules;

/// The role of the alerts of a node among its own actors.
pub const ROLE: &str = "alerts";

/// The role among nodes of the alerts of `node`.
pub fn role(node: &str) -> String {
    format!("{ROLE}/{node}")
}

/// Alerts that may wait for the program.
const COMMANDS_MAX: usize = 64;

/// Between two looks whether the program has ended.
const COMMAND_LOOK: Duration = Duration::from_millis(10);

/// What the future of a question is.
pub type Asked<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// How trials go on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrialsSeen {
    /// Which node.
    pub node: String,
    /// Of its last trials, those that failed.
    pub failed: u32,
    /// How many those last ones are.
    pub trials: u32,
}

/// What a run has earned so far.
#[derive(Clone, Debug, PartialEq)]
pub struct EarnedSeen {
    /// Under which parameters: text that changes when they do.
    pub under: String,
    /// By currency.
    pub earned: BTreeMap<String, Sample>,
}

/// Where is seen what alerts are about.
pub trait AlertSources: Send + Sync {
    /// Whether this node is to tell.
    fn tells(&self) -> bool;
    /// The nodes of the cluster that have not left, and how long each has been silent.
    fn nodes(&self) -> Vec<(String, Duration)>;
    /// How trials go on each node that searches.
    fn trials(&self) -> Asked<Vec<TrialsSeen>>;
    /// What the run has earned, if there is one.
    fn earned(&self) -> Asked<Option<EarnedSeen>>;
}

/// Everything the mailbox holds.
#[derive(Debug, RactorMessage)]
pub enum AlertsMessage {
    /// It is time to look at nodes and trials.
    Look,
    /// How trials go.
    Trials(Vec<TrialsSeen>),
    /// It is time to look at what was earned.
    LookEarned,
    /// What was.
    Earned(Option<EarnedSeen>),
    /// Which alerts are there?
    Report(RpcReplyPort<Value>),
}

/// What the actor is started with.
#[derive(Clone)]
pub struct AlertsArguments {
    /// This node.
    pub node: String,
    /// Which pipeline this is, whose score may fall.
    pub run: String,
    /// What is an alert, to begin with.
    pub section: AlertsSection,
    /// What of it may change.
    pub live_values: LiveValues,
    /// What a live score is made of.
    pub weights: Weights,
    /// Between two looks at what was earned.
    pub look_earned: Duration,
    /// Where to look.
    pub sources: Arc<dyn AlertSources>,
    /// Where to register.
    pub directory: Directory,
    /// The time of day.
    pub clock: Clock,
}

impl fmt::Debug for AlertsArguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlertsArguments").field("section", &self.section).finish_non_exhaustive()
    }
}

/// The actor, for its supervisor.
pub fn child(arguments: AlertsArguments) -> ChildSpec {
    ChildSpec::new(ROLE, Restart::Permanent, move |parent| {
        let arguments = arguments.clone();
        async move { Ok(parent.spawn_linked(None, AlertsActor, arguments).await?.0.get_cell()) }
    })
}

/// The actor.
#[derive(Debug)]
pub struct AlertsActor;

/// What the actor owns while it runs.
#[derive(Debug)]
pub struct AlertsState {
    arguments: AlertsArguments,
    rules: LiveRules,
    alerts: Alerts,
    live: LiveScore,
    /// Under which parameters that was seen.
    under: String,
    /// Numbers of alerts that were told and stand.
    told: BTreeSet<u64>,
    tells: bool,
    /// Since when it does not, if it does not.
    silent_since: Option<Timestamp>,
    is_asking_trials: bool,
    is_asking_earned: bool,
    /// To the program, if there is one.
    commands: Option<mpsc::Sender<Alert>>,
    unsent: u64,
}

impl Actor for AlertsActor {
    type Msg = AlertsMessage;
    type State = AlertsState;
    type Arguments = AlertsArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<AlertsMessage>,
        arguments: AlertsArguments,
    ) -> Result<AlertsState, ActorProcessingErr> {
        let section = &arguments.section;
        let commands = section.command.clone().map(|command| {
            let (sender, alerts) = mpsc::channel(COMMANDS_MAX);
            let patience = section.command_patience;
            tokio::spawn(run_for_each(command, patience, arguments.node.clone(), alerts));
            sender
        });
        myself.send_interval(section.look, || AlertsMessage::Look);
        if section.rules.decline.is_some() {
            myself.send_interval(arguments.look_earned, || AlertsMessage::LookEarned);
        }
        let alerts = Alerts::new(section.rules.clone());
        let rules = LiveRules::new(&arguments.live_values);
        arguments.directory.register(ROLE, &myself);
        Ok(AlertsState {
            arguments,
            rules,
            alerts,
            live: LiveScore::default(),
            under: String::new(),
            told: BTreeSet::new(),
            tells: false,
            silent_since: None,
            is_asking_trials: false,
            is_asking_earned: false,
            commands,
            unsent: 0,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<AlertsMessage>,
        message: AlertsMessage,
        state: &mut AlertsState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            AlertsMessage::Look => state.look(&myself),
            AlertsMessage::Trials(seen) => state.on_trials(seen),
            AlertsMessage::LookEarned => state.look_earned(&myself),
            AlertsMessage::Earned(seen) => state.on_earned(seen),
            AlertsMessage::Report(reply) => {
                // A caller that stopped waiting is its own affair.
                let _ = reply.send(state.report());
            }
        }
        Ok(())
    }
}

impl AlertsState {
    fn at(&self) -> AlertTime {
        let now = Timestamp::from_nanos(monotonic_nanos());
        AlertTime { now, wall: self.arguments.clock.now() }
    }

    fn look(&mut self, myself: &ActorRef<AlertsMessage>) {
        let (at, sources) = (self.at(), Arc::clone(&self.arguments.sources));
        self.tells = sources.tells();
        let mut over = Vec::new();
        let rules = self.rules.with(&self.arguments.section.rules);
        if rules != self.arguments.section.rules {
            self.arguments.section.rules = rules.clone();
            over.extend(self.alerts.go_by(rules, at));
        }
        if self.tells {
            self.silent_since = None;
        } else if at.now.since(*self.silent_since.get_or_insert(at.now))
            >= self.arguments.section.rules.hold
        {
            // Another one tells now, and looks at these. For less than that, what was told stays told.
            over.extend(self.alerts.on_resigned(at));
            self.live.clear();
            self.told.clear();
        }
        let nodes = sources.nodes();
        over.extend(self.alerts.on_members(|node| nodes.iter().any(|(it, _)| it == node), at));
        for (node, silence) in &nodes {
            over.extend(self.alerts.on_silence(node, *silence, at));
        }
        self.tell(over);
        if self.tells && !self.is_asking_trials {
            self.is_asking_trials = true;
            let (trials, myself) = (sources.trials(), myself.clone());
            tokio::spawn(async move {
                // It may have ended.
                let _ = myself.cast(AlertsMessage::Trials(trials.await));
            });
        }
    }

    fn on_trials(&mut self, seen: Vec<TrialsSeen>) {
        self.is_asking_trials = false;
        if !self.tells {
            return;
        }
        let at = self.at();
        let mut over = Vec::new();
        for TrialsSeen { node, failed, trials } in seen {
            over.extend(self.alerts.on_trials(&node, failed, trials, at));
        }
        self.tell(over);
    }

    fn look_earned(&mut self, myself: &ActorRef<AlertsMessage>) {
        if !self.tells || self.is_asking_earned {
            return;
        }
        self.is_asking_earned = true;
        let (earned, myself) = (self.arguments.sources.earned(), myself.clone());
        tokio::spawn(async move {
            // It may have ended.
            let _ = myself.cast(AlertsMessage::Earned(earned.await));
        });
    }

    fn on_earned(&mut self, seen: Option<EarnedSeen>) {
        self.is_asking_earned = false;
        let Some(EarnedSeen { under, earned }) = seen.filter(|_| self.tells) else { return };
        let (at, run) = (self.at(), self.arguments.run.clone());
        let mut over = Vec::new();
        if under != self.under {
            // What was seen before was seen of other parameters.
            self.under = under;
            self.live.clear();
            over.extend(self.alerts.on_changed(&run, at));
        }
        self.live.add(earned);
        let looks = self.arguments.section.rules.looks;
        if let Some(score) = self.live.score(looks, &self.arguments.weights) {
            over.extend(self.alerts.on_live_score(&run, score, at));
        }
        self.tell(over);
    }

    /// Tells what stands and was not told, and of `changed` what was told and is over.
    fn tell(&mut self, changed: Vec<Alert>) {
        if !self.tells {
            return;
        }
        let over = changed.into_iter().filter(|alert| alert.cleared_ms.is_some());
        let over: Vec<Alert> = over.filter(|alert| self.told.remove(&alert.number)).collect();
        let is_new = |alert: &&Alert| !self.told.contains(&alert.number);
        let raised: Vec<Alert> = self.alerts.standing().filter(is_new).cloned().collect();
        for alert in raised {
            tracing::warn!(alert = alert.kind.name(), about = alert.about, "{alert}");
            self.told.insert(alert.number);
            self.command(alert);
        }
        for alert in over {
            tracing::info!(alert = alert.kind.name(), about = alert.about, "over: {alert}");
            self.command(alert);
        }
    }

    fn command(&mut self, alert: Alert) {
        let Some(commands) = &self.commands else { return };
        if commands.try_send(alert).is_err() {
            self.unsent += 1;
            tracing::warn!(
                unsent = self.unsent,
                "an alert is not told to the program of alerts.command: {COMMANDS_MAX} wait for it already"
            );
        }
    }

    fn report(&self) -> Value {
        json!({
            "node": self.arguments.node,
            "tells": self.tells,
            "standing": self.alerts.standing().map(described).collect::<Vec<_>>(),
            "over": self.alerts.history().map(described).collect::<Vec<_>>(),
            "unsent": self.unsent,
        })
    }
}

/// An alert with what it says to people.
fn described(alert: &Alert) -> Value {
    let mut described = json!(alert);
    described["text"] = alert.to_string().into();
    described
}

/// Runs `command` for one alert after the other, until there are no more.
async fn run_for_each(
    command: String,
    patience: Duration,
    node: String,
    mut alerts: mpsc::Receiver<Alert>,
) {
    while let Some(alert) = alerts.recv().await {
        let mut line = described(&alert);
        line["node"] = node.clone().into();
        let (command, line) = (command.clone(), format!("{line}\n"));
        let run = tokio::task::spawn_blocking(move || run_once(&command, &line, patience)).await;
        let failed = match run {
            Ok(ended) => ended.err(),
            Err(error) => Some(error.to_string()),
        };
        if let Some(error) = failed {
            tracing::warn!(error, %alert, "the program of alerts.command has not taken an alert");
        }
    }
}

/// Runs `command` with `line` on its standard input, and ends it when it takes longer than `patience`.
fn run_once(command: &str, line: &str, patience: Duration) -> Result<(), String> {
    let named = |error: std::io::Error| format!("{command}: {error}");
    let mut child = Command::new(command)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(named)?;
    if let Some(mut input) = child.stdin.take() {
        // It fits what a pipe holds, so this does not wait for a program that does not read; such a one may end before.
        let _ = input.write_all(line.as_bytes());
    }
    let begun = Instant::now();
    loop {
        match child.try_wait().map_err(named)? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(format!("{command} ended with {status}")),
            None if begun.elapsed() < patience => std::thread::sleep(COMMAND_LOOK),
            None => {
                // It may have ended just now.
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!(
                    "{command} took more than {} ms and was ended",
                    patience.as_millis()
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};

    use tickwright_core::config::Config;

    use super::*;

    #[derive(Default)]
    struct Seen {
        tells: AtomicBool,
        silent: Mutex<Duration>,
        failed: Mutex<u32>,
    }

    impl AlertSources for Seen {
        fn tells(&self) -> bool {
            self.tells.load(Ordering::Relaxed)
        }

        fn nodes(&self) -> Vec<(String, Duration)> {
            vec![("a".into(), Duration::ZERO), ("b".into(), *self.silent.lock().unwrap())]
        }

        fn trials(&self) -> Asked<Vec<TrialsSeen>> {
            let failed = *self.failed.lock().unwrap();
            let seen = vec![TrialsSeen { node: "a".into(), failed, trials: 20 }];
            Box::pin(async move { seen })
        }

        fn earned(&self) -> Asked<Option<EarnedSeen>> {
            Box::pin(async { None })
        }
    }

    async fn start(
        sources: &Arc<Seen>,
        settings: &str,
    ) -> (LiveValues, Directory, ActorRef<AlertsMessage>) {
        let config =
            Config::parse(&format!("[alerts]\nlook_ms = 100\nhold_ms = 0\n{settings}"), "t.toml");
        let config = config.unwrap();
        let live_values = LiveValues::new(&config);
        let directory = Directory::default();
        let sources: Arc<dyn AlertSources> = Arc::<Seen>::clone(sources);
        let arguments = AlertsArguments {
            node: "a".into(),
            run: "main".into(),
            section: config.alerts.clone(),
            live_values: live_values.clone(),
            weights: config.optimise.weights,
            look_earned: config.optimise.look,
            sources,
            directory: directory.clone(),
            clock: Clock::system(),
        };
        let (actor, _) = Actor::spawn(None, AlertsActor, arguments).await.unwrap();
        (live_values, directory, actor)
    }

    async fn comes_to(actor: &ActorRef<AlertsMessage>, holds: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let report = actor.call(AlertsMessage::Report, Some(Duration::from_secs(5))).await;
            let report = report.unwrap().unwrap();
            if holds(&report) {
                return report;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{report:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn kinds(report: &Value) -> Vec<&str> {
        let standing = report["standing"].as_array().into_iter().flatten();
        standing.filter_map(|alert| alert["kind"].as_str()).collect()
    }

    #[tokio::test]
    async fn whoever_coordinates_next_tells_what_still_stands_and_a_program_hears_it_once() {
        let directory = tempfile::tempdir().unwrap();
        let (script, heard) = (directory.path().join("page"), directory.path().join("heard"));
        std::fs::write(&script, format!("#!/bin/sh\ncat >> {}\n", heard.display())).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let sources = Arc::new(Seen::default());
        *sources.silent.lock().unwrap() = Duration::from_secs(11);
        *sources.failed.lock().unwrap() = 15;
        let (_, _directory, actor) = start(&sources, &format!("command = {script:?}")).await;
        let report = comes_to(&actor, |report| !kinds(report).is_empty()).await;
        assert_eq!((kinds(&report), &report["tells"]), (vec!["node_offline"], &false.into()));
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!heard.try_exists().unwrap(), "who does not coordinate tells nobody");

        sources.tells.store(true, Ordering::Relaxed);
        comes_to(&actor, |report| kinds(report) == ["node_offline", "trial_failures"]).await;
        *sources.silent.lock().unwrap() = Duration::ZERO;
        *sources.failed.lock().unwrap() = 0;
        comes_to(&actor, |report| kinds(report).is_empty()).await;
        let lines = || std::fs::read_to_string(&heard).unwrap_or_default();
        let begun = Instant::now();
        while lines().lines().count() < 4 && begun.elapsed() < Duration::from_secs(20) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let told: Vec<Value> =
            lines().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let of = |kind: &str| {
            told.iter()
                .filter(|alert| alert["kind"] == kind)
                .map(|alert| alert["cleared_ms"].is_null())
                .collect::<Vec<_>>()
        };
        assert_eq!(of("node_offline"), [true, false], "{told:?}");
        assert_eq!(of("trial_failures"), [true, false], "{told:?}");
        assert_eq!((&told[0]["node"], &told[0]["about"]), (&"a".into(), &"b".into()));
        actor.stop(None);
    }

    #[tokio::test]
    async fn limits_that_change_count_from_the_next_look_on() {
        const KEY: &str = "alerts.node_offline_ms";
        let sources = Arc::new(Seen::default());
        sources.tells.store(true, Ordering::Relaxed);
        *sources.silent.lock().unwrap() = Duration::from_secs(11);
        let (live, _directory, actor) = start(&sources, "").await;
        comes_to(&actor, |report| kinds(report) == ["node_offline"]).await;
        live.set(KEY, Some(0));
        comes_to(&actor, |report| kinds(report).is_empty()).await;
        live.set(KEY, Some(20_000));
        live.set("alerts.failure_percent", Some(90));
        *sources.silent.lock().unwrap() = Duration::from_secs(21);
        *sources.failed.lock().unwrap() = 15;
        let report = comes_to(&actor, |report| !kinds(report).is_empty()).await;
        assert_eq!(kinds(&report), ["node_offline"], "15 of 20 are fewer than 90 of 100");
        assert_eq!(report["standing"][0]["limit"], 20_000.0);
        let standing = live.standing();
        assert!(standing.iter().all(|of| of.key != KEY || of.is_applied()), "{standing:?}");
        actor.stop(None);
    }

    #[test]
    fn a_program_that_hangs_fails_or_is_not_there_holds_up_nobody() {
        let begun = Instant::now();
        let hangs = run_once("yes", "{}\n", Duration::from_millis(100)).unwrap_err();
        assert!(hangs.contains("more than 100 ms"), "{hangs}");
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert!(
            run_once("false", "{}\n", Duration::from_secs(5)).unwrap_err().contains("ended with")
        );
        let missing = run_once("/nowhere/page", "{}\n", Duration::from_secs(5)).unwrap_err();
        assert!(missing.contains("/nowhere/page"), "{missing}");
        assert_eq!(run_once("true", "{}\n", Duration::from_secs(5)), Ok(()));
    }
}
