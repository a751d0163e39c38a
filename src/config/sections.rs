//! The sections as types.

use std::collections::BTreeMap;

use super::schema::{self, ROLES, SUBTREES};
use super::settings::{Settings, Value};
use super::{Config, allocation, locks, optimise, tuner};
use crate::cluster::Balancing;
use crate::domain::{
    AccountId, Backoff, Class, InstrumentTerms, Instruments, Money, Price, Quantity, Session, Span,
    Symbol, decimal,
};
use crate::pipeline::live::{ConnectionPolicy, SnapshotPolicy};
use crate::records::BufferConfig;
use crate::supervision::{PolicyConfig, Strategy};

/// `[node]`: this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// Its name in the cluster.
    pub name: String,
    /// What it does, of [`ROLES`], in that order.
    pub roles: Vec<&'static str>,
    /// Where its journals are.
    pub data_dir: String,
    /// Where tools reach it; none, if they do not.
    pub http_bind: Option<String>,
    /// The tokens by which they say who asks; none, if they need not.
    pub tokens_file: Option<String>,
    /// Threads that actors share; none for one a processor.
    pub worker_threads: Option<usize>,
    /// Milliseconds by which its clock is set apart, for tests.
    pub clock_offset_ms: i64,
}

/// In which order exec takes its inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// As they come if a source is live, and otherwise by key.
    Auto,
    /// By key: every run gives the same answer.
    Key,
    /// As they come: lowest latency, for several live sources.
    Arrival,
}

/// How fast recorded data is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speed {
    /// As fast as it can be worked on.
    Max,
    /// This many times as fast as it happened; 1 is real time.
    Times(u32),
}

impl Speed {
    /// The speed that `"max"`, `"real"` or `"10x"` means; up to a million times.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "max" => Some(Self::Max),
            "real" => Some(Self::Times(1)),
            _ => {
                let digits = text.strip_suffix('x')?;
                let times = digits.bytes().all(|byte| byte.is_ascii_digit()).then_some(digits)?;
                times.parse().ok().filter(|times| (1..=1_000_000).contains(times)).map(Self::Times)
            }
        }
    }
}

/// What the nodes of a cluster work on together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PipelineInput {
    /// Nothing: they only run the cluster.
    None,
    /// The files of [`PipelineConfig::data`].
    Files,
    /// The simulated market.
    Simulator,
    /// The venue of [`LiveSection`].
    Live,
}

/// `[pipeline]`: how rows go through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PipelineConfig {
    /// What the nodes of a cluster work on together.
    pub input: PipelineInput,
    /// Paths of the files they work on.
    pub data: Vec<String>,
    /// Rows in a block.
    pub batch_ticks: usize,
    /// Factor engines on this node.
    pub shards: usize,
    /// In which order exec takes its inputs.
    pub merge: Merge,
    /// What this pipeline is called: its signals are used once.
    pub run: String,
    /// The data directory of a run whose order of arrival is taken again.
    pub follow: Option<String>,
    /// How fast recorded data is read.
    pub speed: Speed,
    /// Length of an event-time window.
    pub window: Span,
    /// From one window's start to the next's.
    pub window_step: Span,
    /// Whether a bad row stops the run.
    pub strict: bool,
    /// What all randomness is drawn from.
    pub seed: u64,
}

/// `[stream]`: between two stages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamConfig {
    /// Rows a producer may have under way.
    pub credit_ticks: usize,
    /// Rows a producer keeps until they are stable.
    pub retained_ticks: usize,
    /// Rows between two checkpoints of a stage, at most.
    pub checkpoint_ticks: usize,
    /// How often an idle stream says how far it is complete.
    pub idle: Span,
    /// Nodes that must have stored a row before it is acknowledged.
    pub replicas: usize,
}

/// `[live]`: a venue that is listened to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveSection {
    /// Its address; without one, nothing is listened to.
    pub url: Option<String>,
    /// What is heard from it.
    pub streams: Vec<String>,
    /// Where its depth snapshots are fetched; without one, they are not.
    pub rest_url: Option<String>,
    /// Certificates of authorities that are believed beside those that browsers believe.
    pub tls_ca_file: Option<String>,
    /// When a connection is given up, and when the next is tried.
    pub policy: ConnectionPolicy,
    /// How depth snapshots are fetched.
    pub snapshots: SnapshotPolicy,
    /// Frames that wait to be taken in, at most.
    pub queue_frames: usize,
    /// Largest frame.
    pub frame_bytes_max: usize,
}

/// `[journal]`: what is written to disk, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalConfig {
    /// Whether anything is written.
    pub enabled: bool,
    /// Records that are made durable together, at most.
    pub commit_records: usize,
    /// How long a record waits for others to be written with, at most.
    pub commit: Span,
    /// Size of a segment of the log, a power of two.
    pub segment_bytes: u64,
    /// Whether the order in which inputs arrived is kept for a run that follows it.
    pub keep_arrivals: bool,
    /// Size of all together; beyond it ingestion stops loudly.
    pub size_max_bytes: u64,
}

/// Which database records are written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseKind {
    /// None: nothing is recorded.
    None,
    /// A file.
    Sqlite,
    /// PostgreSQL.
    Postgres,
    /// MySQL or MariaDB.
    Mysql,
}

/// `[database]`: what is recorded for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseConfig {
    /// Which.
    pub kind: DatabaseKind,
    /// Where it is, without a password.
    pub url: Option<String>,
    /// A file with one line that says where it is.
    pub url_file: Option<String>,
    /// The environment variable that says so.
    pub url_env: Option<String>,
    /// Connections at once, at most.
    pub connections_max: u32,
    /// How long anything asked of it may take.
    pub timeout: Span,
    /// How much may wait.
    pub buffer: BufferConfig,
    /// How long what waits at the end of a run is waited for.
    pub drain: Span,
    /// Whether clean rows are recorded.
    pub ticks: bool,
    /// Whether what factors come to is.
    pub factors: bool,
    /// Days of both that are kept.
    pub days_max: usize,
}

/// A part of the supervision tree that has its own policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subtree {
    /// The whole process.
    Node,
    /// Ingesters and cleaners.
    Data,
    /// Factor engines and strategies.
    Calc,
    /// Risk, router, brokers, positions.
    Exec,
    /// The cluster's own services.
    Control,
}

impl Subtree {
    /// As configuration spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Node => SUBTREES[0],
            Self::Data => SUBTREES[1],
            Self::Calc => SUBTREES[2],
            Self::Exec => SUBTREES[3],
            Self::Control => SUBTREES[4],
        }
    }
}

/// One `[[strategy]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct StrategyConfig {
    /// Its name in reports and in risk's rules; unique.
    pub name: String,
    /// Which strategy it is.
    pub kind: String,
    /// The account it trades for: its place among [`Config::accounts`].
    pub account: AccountId,
    /// The symbols it trades, as patterns where `*` stands for anything.
    pub symbols: Vec<String>,
    /// The lock without which none of its orders is opened at an exchange.
    pub lock: Option<String>,
    /// Its numbers, by name.
    pub parameters: BTreeMap<String, f64>,
}

/// One `[[account]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountConfig {
    /// Its name; unique.
    pub name: String,
    /// How far its midnight is ahead of UTC's, in minutes.
    pub utc_offset_minutes: i32,
    /// What it holds at the start, by currency; empty: it is not asked.
    pub cash: BTreeMap<String, Money>,
}

/// `[telemetry]`: what an operator sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TelemetryConfig {
    /// Between two lines, or two movements of the bar.
    pub progress: Span,
    /// Which log lines are written.
    pub log: String,
}

/// `[cluster]`: other nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// What the cluster is called; nodes of another one are refused.
    pub name: String,
    /// Where this node listens.
    pub bind: String,
    /// Where others reach it; without one, where it listens.
    pub advertise: Option<String>,
    /// Nodes to join through, in order; the first may found the cluster.
    pub seeds: Vec<String>,
    /// Between two signs of life.
    pub heartbeat: Span,
    /// Nodes that vote on what all must agree on; none for as many as there may be.
    pub voters: Option<usize>,
    /// Whether this node does nothing but vote.
    pub witness: bool,
    /// Among nodes that could coordinate, the one with the highest does.
    pub coordinator_priority: u32,
    /// The file of the secret that all nodes share.
    pub cookie_file: Option<String>,
    /// Certificates and key; without them nodes speak in the clear.
    pub tls: Option<TlsFiles>,
    /// How long a connection may take to prove who it is.
    pub handshake_timeout: Span,
    /// Connections that have not proved who they are, at most.
    pub unproven_max: usize,
    /// Between two attempts to reach a node.
    pub redial: Backoff,
    /// Bytes on the way to one node, at most.
    pub credit_bytes: u64,
    /// Largest message between nodes.
    pub message_bytes_max: u64,
    /// How long a question to another node may take.
    pub ask_timeout: Span,
    /// How long leaving may take.
    pub leave_timeout: Span,
    /// Which of several nodes that serve a role is told or asked.
    pub balancing: Balancing,
}

/// Where a node's certificates are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The authorities that are trusted.
    pub ca: String,
    /// This node's certificate.
    pub cert: String,
    /// Its private key.
    pub key: String,
}

/// Settings by full path, with the conversions that types need.
impl Settings {
    pub(super) fn span_ms(&self, names: &[&str]) -> Span {
        Span::from_millis(self.count(names))
    }

    pub(super) fn size(&self, names: &[&str]) -> usize {
        usize::try_from(self.count(names)).unwrap_or(usize::MAX)
    }
}

/// The configuration that sound `settings` mean.
pub(super) fn config(settings: Settings) -> Config {
    let s = &settings;
    let roles = s.list(&["node", "roles"]);
    Config {
        node: NodeConfig {
            name: s.text(&["node", "name"]).to_owned(),
            roles: ROLES.into_iter().filter(|role| roles.iter().any(|r| r == role)).collect(),
            data_dir: s.text(&["node", "data_dir"]).to_owned(),
            http_bind: s.find(&["node", "http_bind"]).and_then(Value::text).map(str::to_owned),
            tokens_file: s.find(&["node", "tokens_file"]).and_then(Value::text).map(str::to_owned),
            worker_threads: s
                .count_or_none(&["node", "worker_threads"])
                .and_then(|threads| usize::try_from(threads).ok()),
            clock_offset_ms: s.signed(&["node", "clock_offset_ms"]),
        },
        pipeline: PipelineConfig {
            input: match s.text(&["pipeline", "input"]) {
                "files" => PipelineInput::Files,
                "simulator" => PipelineInput::Simulator,
                "live" => PipelineInput::Live,
                _ => PipelineInput::None,
            },
            data: s.list(&["pipeline", "data"]).to_vec(),
            batch_ticks: s.size(&["pipeline", "batch_ticks"]),
            shards: s.size(&["pipeline", "shards"]),
            merge: match s.text(&["pipeline", "merge"]) {
                "arrival" => Merge::Arrival,
                "key" => Merge::Key,
                _ => Merge::Auto,
            },
            run: s.text(&["pipeline", "run"]).to_owned(),
            follow: s.find(&["pipeline", "follow"]).and_then(Value::text).map(str::to_owned),
            speed: Speed::parse(s.text(&["pipeline", "speed"])).unwrap_or(Speed::Max),
            window: s.span_ms(&["pipeline", "window_ms"]),
            window_step: s.span_ms(&["pipeline", "window_step_ms"]),
            strict: s.switch(&["pipeline", "strict"]),
            seed: s.count(&["pipeline", "seed"]),
        },
        stream: StreamConfig {
            credit_ticks: s.size(&["stream", "credit_ticks"]),
            retained_ticks: s.size(&["stream", "retained_ticks"]),
            checkpoint_ticks: s.size(&["stream", "checkpoint_ticks"]),
            idle: s.span_ms(&["stream", "idle_ms"]),
            replicas: s.size(&["stream", "replicas"]),
        },
        live: LiveSection {
            url: s.find(&["live", "url"]).and_then(Value::text).map(str::to_owned),
            streams: s.list(&["live", "streams"]).to_vec(),
            policy: ConnectionPolicy {
                backoff: Backoff {
                    first: s.span_ms(&["live", "backoff_first_ms"]),
                    max: s.span_ms(&["live", "backoff_max_ms"]),
                },
                connect_deadline: s.span_ms(&["live", "connect_timeout_ms"]),
                silence_deadline: s.span_ms(&["live", "silence_ms"]),
                ping_interval: s.span_ms(&["live", "ping_ms"]),
                pong_deadline: s.span_ms(&["live", "pong_timeout_ms"]),
                ..ConnectionPolicy::default()
            },
            rest_url: s.find(&["live", "rest_url"]).and_then(Value::text).map(str::to_owned),
            tls_ca_file: s.find(&["live", "tls_ca_file"]).and_then(Value::text).map(str::to_owned),
            snapshots: SnapshotPolicy {
                backoff: Backoff {
                    first: s.span_ms(&["live", "backoff_first_ms"]),
                    max: s.span_ms(&["live", "backoff_max_ms"]),
                },
                interval: s.span_ms(&["live", "rest_interval_ms"]),
                deadline: s.span_ms(&["live", "rest_timeout_ms"]),
            },
            queue_frames: s.size(&["live", "queue_frames"]),
            frame_bytes_max: s.size(&["live", "frame_bytes_max"]),
        },
        journal: JournalConfig {
            enabled: s.switch(&["journal", "enabled"]),
            commit_records: s.size(&["journal", "commit_records"]),
            commit: s.span_ms(&["journal", "commit_ms"]),
            segment_bytes: s.count(&["journal", "segment_bytes"]),
            keep_arrivals: s.switch(&["journal", "keep_arrivals"]),
            size_max_bytes: s.count(&["journal", "size_max_bytes"]),
        },
        database: database(s),
        strategies: strategies(s),
        accounts: accounts(s),
        telemetry: TelemetryConfig {
            progress: s.span_ms(&["telemetry", "progress_ms"]),
            log: s.text(&["telemetry", "log"]).to_owned(),
        },
        cluster: cluster(s),
        allocation: allocation::section(s),
        locks: locks::section(s),
        tuner: tuner::section(s),
        alerts: super::alerts::section(s),
        secrets: super::secret::section(s),
        environment: s.find(&["config", "environment"]).and_then(Value::text).map(str::to_owned),
        optimise: optimise::section(s),
        settings,
    }
}

/// Whether orders may go to an exchange from here.
fn trades_outside(s: &Settings) -> bool {
    let is_outside = |broker| s.text(&["broker", broker, "kind"]) == "exchange";
    let has_backup = s.switch(&["router", "has_backup"]);
    let may_have_exec = s.list(&["node", "roles"]).iter().any(|role| role == "exec");
    may_have_exec && (is_outside("primary") || has_backup && is_outside("backup"))
}

/// `[database]`.
fn database(s: &Settings) -> DatabaseConfig {
    let optional = |name| s.find(&["database", name]).and_then(Value::text).map(str::to_owned);
    DatabaseConfig {
        kind: match s.text(&["database", "kind"]) {
            "sqlite" => DatabaseKind::Sqlite,
            "postgres" => DatabaseKind::Postgres,
            "mysql" => DatabaseKind::Mysql,
            "auto" if trades_outside(s) => DatabaseKind::Sqlite,
            _ => DatabaseKind::None,
        },
        url: optional("url"),
        url_file: optional("url_file"),
        url_env: optional("url_env"),
        connections_max: u32::try_from(s.count(&["database", "connections_max"])).unwrap_or(1),
        timeout: s.span_ms(&["database", "timeout_ms"]),
        buffer: BufferConfig {
            rows_max: s.size(&["database", "buffer_rows"]),
            batch_rows: s.size(&["database", "batch_rows"]),
            spill_max: s.count(&["database", "spill_rows_max"]),
        },
        drain: s.span_ms(&["database", "drain_ms"]),
        ticks: s.switch(&["database", "ticks"]),
        factors: s.switch(&["database", "factors"]),
        days_max: s.size(&["database", "days_max"]),
    }
}

/// `[cluster]`.
fn cluster(s: &Settings) -> ClusterConfig {
    let optional = |name| s.find(&["cluster", name]).and_then(Value::text).map(str::to_owned);
    let tls = (optional("tls_ca_file"), optional("tls_cert_file"), optional("tls_key_file"));
    ClusterConfig {
        name: s.text(&["cluster", "name"]).to_owned(),
        bind: s.text(&["cluster", "bind"]).to_owned(),
        advertise: optional("advertise"),
        seeds: s.list(&["cluster", "seeds"]).to_vec(),
        heartbeat: s.span_ms(&["cluster", "heartbeat_ms"]),
        voters: s
            .count_or_none(&["cluster", "voters"])
            .map(|voters| usize::try_from(voters).unwrap_or(1)),
        witness: s.switch(&["cluster", "witness"]),
        coordinator_priority: u32::try_from(s.count(&["cluster", "coordinator_priority"]))
            .unwrap_or(0),
        cookie_file: optional("cookie_file"),
        tls: match tls {
            (Some(ca), Some(cert), Some(key)) => Some(TlsFiles { ca, cert, key }),
            _ => None,
        },
        handshake_timeout: s.span_ms(&["cluster", "handshake_timeout_ms"]),
        unproven_max: s.size(&["cluster", "unproven_max"]),
        redial: Backoff {
            first: s.span_ms(&["cluster", "redial_first_ms"]),
            max: s.span_ms(&["cluster", "redial_max_ms"]),
        },
        credit_bytes: s.count(&["cluster", "credit_bytes"]),
        message_bytes_max: s.count(&["cluster", "message_bytes_max"]),
        ask_timeout: s.span_ms(&["cluster", "ask_timeout_ms"]),
        leave_timeout: s.span_ms(&["cluster", "leave_timeout_ms"]),
        balancing: Balancing::parse(s.text(&["cluster", "balance"])).unwrap_or(Balancing::Affinity),
    }
}

/// `[[strategy]]` in its order.
fn strategies(settings: &Settings) -> Vec<StrategyConfig> {
    let mut strategies = Vec::new();
    for index in 0.. {
        let index = index.to_string();
        let at = |name: &str| settings.find(&["strategy", &index, name]);
        let text = |name: &str| at(name).and_then(Value::text);
        let Some(name) = text("name") else { break };
        let under = ["strategy", &index, "parameters"];
        let parameter = |name: &str| {
            let value = settings.find(&["strategy", &index, "parameters", name]);
            value.and_then(Value::number).map(|number| (name.to_owned(), number))
        };
        let symbols = at("symbols").and_then(Value::list);
        strategies.push(StrategyConfig {
            name: name.to_owned(),
            kind: text("kind").unwrap_or_default().to_owned(),
            account: account_of(settings, text("account").unwrap_or_default()),
            symbols: symbols.map_or_else(|| vec!["*".to_owned()], <[String]>::to_vec),
            lock: text("lock").map(str::to_owned),
            parameters: settings.names_under(&under).into_iter().filter_map(parameter).collect(),
        });
    }
    strategies
}

/// `[[account]]` in its order.
fn accounts(settings: &Settings) -> Vec<AccountConfig> {
    let mut accounts = Vec::new();
    for index in 0.. {
        let index = index.to_string();
        let at = |name: &str| settings.find(&["account", &index, name]);
        let Some(name) = at("name").and_then(Value::text) else { break };
        let offset = at("utc_offset_minutes").and_then(Value::count).unwrap_or(0);
        let held = |currency: &str| {
            let held = settings.amount(&["account", &index, "cash", currency]);
            (currency.to_owned(), money(held))
        };
        let currencies = settings.names_under(&["account", &index, "cash"]);
        accounts.push(AccountConfig {
            name: name.to_owned(),
            utc_offset_minutes: i32::try_from(offset).unwrap_or(0),
            cash: currencies.into_iter().map(held).collect(),
        });
    }
    accounts
}

/// The place of the account `name`; the first, when there is no such name.
fn account_of(settings: &Settings, name: &str) -> AccountId {
    let accounts = accounts(settings);
    let place = accounts.iter().position(|account| account.name == name).unwrap_or(0);
    AccountId(u16::try_from(place).unwrap_or(0))
}

/// `nanos` steps of 1e-9 as money.
pub(super) fn money(nanos: i64) -> Money {
    Money(i128::from(nanos) * 1_000_000_000)
}

impl Config {
    /// The policy of `subtree`: its own values, else those of `[supervision]`.
    pub fn policy(&self, subtree: Subtree) -> PolicyConfig {
        let s = &self.settings;
        let at = |name: &'static str| -> Vec<&'static str> {
            let own = vec!["supervision", subtree.name(), name];
            if s.find(&own).is_some() { own } else { vec!["supervision", name] }
        };
        let jitter = s.amount(&at("jitter")) / 1_000_000;
        PolicyConfig {
            strategy: match s.text(&at("strategy")) {
                "one_for_all" => Strategy::OneForAll,
                "rest_for_one" => Strategy::RestForOne,
                _ => Strategy::OneForOne,
            },
            restart_max: s.size(&at("restarts_max")),
            window: s.span_ms(&at("window_ms")),
            backoff: Backoff {
                first: s.span_ms(&at("backoff_first_ms")),
                max: s.span_ms(&at("backoff_max_ms")),
            },
            jitter_thousandths: u32::try_from(jitter).unwrap_or(0),
            drain: s.span_ms(&at("drain_timeout_ms")),
            stop: s.span_ms(&at("stop_timeout_ms")),
        }
    }

    /// `[instruments]`: what each symbol is.
    pub fn instruments(&self) -> Instruments {
        let s = &self.settings;
        let mut instruments = Instruments::default();
        for class in Class::ALL {
            let terms = &mut instruments.classes[class.index()];
            apply_terms(terms, s, &["instruments", "class", class.name()]);
        }
        for venue in s.names_under(&["instruments", "venues"]) {
            let class = s.find(&["instruments", "venues", venue]).and_then(class_of);
            instruments.venues.extend(class.map(|class| (venue.to_owned(), class)));
        }
        for name in s.names_under(&["instruments", "symbol"]) {
            let Ok(symbol) = Symbol::new(name) else { continue };
            let own = s.find(&["instruments", "symbol", name, "class"]).and_then(class_of);
            let class = own.unwrap_or_else(|| instruments.class_of(&symbol));
            let mut terms = instruments.classes[class.index()].clone();
            apply_terms(&mut terms, s, &["instruments", "symbol", name]);
            instruments.symbols.insert(symbol, (class, terms));
        }
        instruments
    }
}

fn class_of(value: &Value) -> Option<Class> {
    let name = value.text()?;
    Class::ALL.into_iter().find(|class| class.name() == name)
}

/// `nanos` steps of 1e-9 in steps of 10^-`decimals`; exact, for `check` has seen to that.
fn steps(nanos: i64, decimals: u8) -> i64 {
    nanos / decimal::POW10[usize::from(9 - decimals)]
}

/// The same quantity in steps of other decimals.
fn rescaled(value: i64, from: u8, to: u8) -> i64 {
    if to >= from {
        value.saturating_mul(decimal::POW10[usize::from(to - from)])
    } else {
        value / decimal::POW10[usize::from(from - to)]
    }
}

/// Lays what `settings` say under `prefix` over `terms`.
fn apply_terms(terms: &mut InstrumentTerms, settings: &Settings, prefix: &[&str]) {
    let find = |name: &str| settings.find(&[prefix, &[name]].concat());
    let decimals =
        |name: &str| find(name).and_then(Value::count).and_then(|count| u8::try_from(count).ok());
    let amount = |name: &str| find(name).and_then(Value::amount);
    if let Some(Value::Text(currency)) = find("currency") {
        terms.currency.clone_from(currency);
    }
    if let Some(price) = decimals("price_decimals") {
        terms.tick_size = Price(rescaled(terms.tick_size.0, terms.price_decimals, price));
        terms.price_decimals = price;
    }
    if let Some(quantity) = decimals("quantity_decimals") {
        for field in [&mut terms.lot, &mut terms.quantity_min, &mut terms.quantity_max] {
            *field = Quantity(rescaled(field.0, terms.quantity_decimals, quantity));
        }
        terms.quantity_decimals = quantity;
    }
    if let Some(nanos) = amount("tick_size") {
        terms.tick_size = Price(steps(nanos, terms.price_decimals));
    }
    for (name, field) in [
        ("lot", &mut terms.lot),
        ("quantity_min", &mut terms.quantity_min),
        ("quantity_max", &mut terms.quantity_max),
    ] {
        if let Some(nanos) = amount(name) {
            *field = Quantity(steps(nanos, terms.quantity_decimals));
        }
    }
    if let Some(Value::Count(multiplier)) = find("multiplier") {
        terms.multiplier = u32::try_from(*multiplier).unwrap_or(1);
    }
    if let Some(Value::List(spans)) = find("session") {
        let spans = spans.iter().filter_map(|span| schema::session_span(span).ok()).collect();
        terms.session = Session { spans };
    }
}
