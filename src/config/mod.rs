//! `cluster.toml` as types: one configuration for every node and every command.
//!
//! ```text
//! cluster.toml (compiled in: the defaults, and the explanation of every key)
//!      ▼ laid over it
//! --config FILE
//!      ▼ laid over that
//! --set KEY=VALUE ...  ──▶  checked against the table of keys  ──▶  Config, or everything that is wrong
//! ```
//!
//! A list of tables (`[[strategy]]`) replaces the whole list of the layer below; every other key
//! replaces one value. Where a section has defaults and a table per class or subtree, the more
//! particular value wins, whichever layer it comes from.
//!
//! # Invariants
//!
//! 1. Reading never panics, whatever the text.
//! 2. Every problem of every layer is reported at once, with where it was written and what to do.
//! 3. Two configurations with the same [`Config::fingerprint`] give the same orders for the same
//!    rows.

mod alerts;
mod allocation;
mod chaos;
mod check;
mod cores;
mod listing;
mod live;
mod locks;
mod optimise;
mod problem;
mod read;
mod schema;
mod secret;
mod sections;
mod settings;
#[cfg(test)]
mod tests;
mod tuner;

pub use alerts::AlertsSection;
pub use allocation::AllocationConfig;
pub use chaos::{Chaos, ChaosActor, ChaosKind, ChaosProblem, ChaosSpec};
pub use cores::{ExchangeAccount, ExchangeConfig};
pub use listing::{KeyDescription, keys};
pub use live::{
    ConfigScope, LiveRefusal, USER_PREFIX, check_live_key, effective, live_keys, live_number,
    live_value,
};
pub use locks::{LockKeeping, LocksConfig, RedisConfig};
pub use optimise::OptimiseConfig;
pub use problem::{ConfigProblem, ConfigProblems, Origin};
pub use schema::{BROKERS, Form, KEYS, KeySpec, ROLES, SUBTREES, ValueKind};
pub use secret::{
    KEY_ID_LETTERS, NONCE_BYTES, SECRET_BYTES_MAX, SECRET_PREFIX, SealedValue, SecretPlace,
    SecretsConfig, TAG_BYTES, bound_to, from_hex, is_key_id, is_secret, to_hex,
};
pub use sections::{
    AccountConfig, ClusterConfig, DatabaseConfig, DatabaseKind, JournalConfig, LiveSection, Merge,
    NodeConfig, PipelineConfig, PipelineInput, Speed, StrategyConfig, StreamConfig, Subtree,
    TelemetryConfig, TlsFiles,
};
pub use tuner::TunerSection;

use problem::ConfigProblem as Problem;
use read::Reader;
use settings::Settings;

use crate::pipeline::factors::FactorRegistry;
use crate::pipeline::strategy::StrategyRegistry;

/// The annotated defaults, as text: what `tickwright run` uses without `--config`.
pub const DEFAULT_TEXT: &str = include_str!("../../cluster.toml");

/// The name that messages give the defaults.
pub const DEFAULT_NAME: &str = "cluster.toml (built in)";

/// A whole, sound configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    settings: Settings,
    /// `[node]`.
    pub node: NodeConfig,
    /// `[pipeline]`.
    pub pipeline: PipelineConfig,
    /// `[stream]`.
    pub stream: StreamConfig,
    /// `[journal]`.
    pub journal: JournalConfig,
    /// `[database]`.
    pub database: DatabaseConfig,
    /// `[live]`.
    pub live: LiveSection,
    /// `[[strategy]]`, in their order.
    pub strategies: Vec<StrategyConfig>,
    /// `[[account]]`, in their order.
    pub accounts: Vec<AccountConfig>,
    /// `[telemetry]`.
    pub telemetry: TelemetryConfig,
    /// `[cluster]`.
    pub cluster: ClusterConfig,
    /// `[allocation]`.
    pub allocation: AllocationConfig,
    /// `[locks]`.
    pub locks: LocksConfig,
    /// `[tuner]`.
    pub tuner: TunerSection,
    /// `config.environment`: whose values count for this node beside those for everybody.
    pub environment: Option<String>,
    /// `[alerts]`.
    pub alerts: AlertsSection,
    /// What opens secrets of the shared configuration, of `[config]`.
    pub secrets: SecretsConfig,
    /// `[optimise]`.
    pub optimise: OptimiseConfig,
}

/// Where a configuration comes from.
#[derive(Clone, Debug, Default)]
pub struct ConfigInput<'a> {
    /// A file's name, for messages, and its text.
    pub file: Option<(&'a str, &'a str)>,
    /// `--set`: keys and values, later ones over earlier ones.
    pub overrides: &'a [(String, String)],
    /// What strategies and factors can be named.
    pub kinds: Kinds,
}

/// The strategies and factors there are, those of the user's own crate among them.
#[derive(Clone, Debug, Default)]
pub struct Kinds {
    /// Strategies by name.
    pub strategies: StrategyRegistry,
    /// Factors by name.
    pub factors: FactorRegistry,
}

impl Config {
    /// Reads `text`, laid over the defaults; `file` is its name in messages.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    pub fn parse(text: &str, file: &str) -> Result<Self, ConfigProblems> {
        Self::load(&ConfigInput { file: Some((file, text)), ..ConfigInput::default() })
    }

    /// Reads a file, if any, and lays `--set` over it, so that the problems of both come together.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with them.
    pub fn load(input: &ConfigInput<'_>) -> Result<Self, ConfigProblems> {
        let mut defaults = Reader::new(Settings::default(), None);
        defaults.file(DEFAULT_TEXT, DEFAULT_NAME);
        if !defaults.problems.is_empty() {
            return Err(ConfigProblems(defaults.problems));
        }
        let mut reader = Reader::new(defaults.settings.clone(), Some(&defaults.settings));
        if let Some((file, text)) = input.file {
            reader.file(text, file);
        }
        Self::finish(reader, input.overrides, &input.kinds)
    }

    /// This configuration with `--set` laid over it.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the overrides, and everything they contradict.
    pub fn with_overrides(
        &self,
        overrides: &[(String, String)],
        kinds: &Kinds,
    ) -> Result<Self, ConfigProblems> {
        Self::finish(Reader::new(self.settings.clone(), None), overrides, kinds)
    }

    fn finish(
        mut reader: Reader<'_>,
        overrides: &[(String, String)],
        kinds: &Kinds,
    ) -> Result<Self, ConfigProblems> {
        for (key, value) in overrides {
            reader.set(key, value);
        }
        let Reader { settings, origins, mut problems, .. } = reader;
        // Contradictions are looked for even beside other problems: the refused values are the
        // defaults here, so what is said of them holds.
        for contradiction in check::contradictions(&settings, kinds) {
            let path = contradiction
                .paths
                .iter()
                .find(|path| origins.is_written(path))
                .or(contradiction.paths.first())
                .cloned()
                .unwrap_or_default();
            problems.push(Problem {
                origin: origins.of(&path),
                key: schema::dotted(&path),
                what: contradiction.what,
                fix: contradiction.fix,
            });
        }
        problems.sort_by_key(|problem| match problem.origin {
            Origin::File { line, column, .. } => (0, line, column),
            Origin::Set => (1, 0, 0),
            Origin::Default => (2, 0, 0),
        });
        if problems.is_empty() {
            Ok(sections::config(settings))
        } else {
            Err(ConfigProblems(problems))
        }
    }

    /// The whole number at `path`, if that is a key that holds one.
    pub fn count(&self, path: &str) -> Option<u64> {
        let names: Vec<&str> = path.split('.').collect();
        let value = self.settings.find(&names)?;
        value.count().and_then(|count| u64::try_from(count).ok())
    }

    /// BLAKE3 over the values that can change an answer. A data directory can be resumed under any
    /// configuration of the same fingerprint: batch size, credit, intervals, shards, journal,
    /// supervision, logging and the cluster may differ. See [`KeySpec::changes_answer`], or the keys
    /// marked _operational_ in `cluster.toml`.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        let mut text = |text: &str| {
            hasher.update(&u64::try_from(text.len()).unwrap_or(u64::MAX).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        for (path, value) in self.settings.iter() {
            let counts = match schema::place(path) {
                schema::Place::Leaf(spec) => spec.changes_answer,
                schema::Place::Table | schema::Place::Items | schema::Place::Unknown => true,
            };
            if counts && self.settings.inherited(path) != Some(value) {
                text(&schema::dotted(path));
                // A float's shortest text names its bits; every other value is exact as text.
                text(&value.to_string());
            }
        }
        *hasher.finalize().as_bytes()
    }
}

impl Default for Config {
    /// What `cluster.toml` says.
    fn default() -> Self {
        Self::load(&ConfigInput::default()).expect("a test reads the built-in defaults")
    }
}
