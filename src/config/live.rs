//! What may change while nodes run: keys that are marked so, and those of users' own programs.
//!
//! ```text
//! node/NAME/KEY  ─▶ env/NAME/KEY ─▶ KEY ─▶ what the node's own cluster.toml says
//!   this node        its environment  all
//! ```
//!
//! The first of these that holds a value counts.
//!
//! # Invariants
//!
//! 1. What is written to a key of `cluster.toml` would be accepted there too, by the same table.
//! 2. A key that is read at start only is never written.

use super::problem::ConfigProblem;
use super::read::Reader;
use super::schema::{self, KEYS, KeySpec, Place, ValueKind};
use super::secret::{check_sealed, check_secret_key, is_secret};
use super::settings::{Settings, Value as Setting};
use crate::config_sync::{ConfigSync, Reading, Value};

/// What keys of users' own programs begin with. They may hold anything.
pub const USER_PREFIX: &str = "user.";

/// For whom a value counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigScope {
    /// For everybody who has no other.
    Base,
    /// For the nodes of an environment, see `config.environment`.
    Environment(String),
    /// For one node.
    Node(String),
}

impl ConfigScope {
    /// Under which name `path` is kept for these.
    pub fn key(&self, path: &str) -> String {
        match self {
            Self::Base => path.to_owned(),
            Self::Environment(name) => format!("env/{name}/{path}"),
            Self::Node(name) => format!("node/{name}/{path}"),
        }
    }

    /// For whom, and which path, is kept under `key`.
    pub fn of(key: &str) -> (Self, &str) {
        let named = |prefix: &str| key.strip_prefix(prefix)?.split_once('/');
        if let Some((name, path)) = named("env/") {
            (Self::Environment(name.to_owned()), path)
        } else if let Some((name, path)) = named("node/") {
            (Self::Node(name.to_owned()), path)
        } else {
            (Self::Base, key)
        }
    }
}

/// Why something is not written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LiveRefusal {
    /// There is no such key, or it cannot hold this.
    #[error("{key}: {what}; {fix}")]
    Problem {
        /// Which key.
        key: String,
        /// What is wrong.
        what: String,
        /// What to do.
        fix: String,
    },
    /// It is read when a node starts.
    #[error(
        "{key}: is read only when a node starts; set it in cluster.toml, or by --set, and start the \
         nodes again one after the other"
    )]
    StartOnly {
        /// Which key.
        key: String,
    },
}

/// Keys that may change while nodes run.
pub fn live_keys() -> impl Iterator<Item = &'static KeySpec> {
    KEYS.iter().filter(|spec| spec.live)
}

/// Whether `path` may be written while nodes run.
///
/// # Errors
///
/// [`LiveRefusal`], with the nearest key that there is.
pub fn check_live_key(path: &str) -> Result<(), LiveRefusal> {
    if path.strip_prefix(USER_PREFIX).is_some_and(|rest| !rest.is_empty()) {
        return Ok(());
    }
    if is_secret(path) {
        return check_secret_key(path);
    }
    let names: Vec<String> = path.split('.').map(str::to_owned).collect();
    match schema::place(&names) {
        Place::Leaf(spec) if spec.live => Ok(()),
        Place::Leaf(_) => Err(LiveRefusal::StartOnly { key: path.to_owned() }),
        Place::Table | Place::Items | Place::Unknown => {
            // Read as it would be from the command line, for the same advice.
            let mut reader = Reader::new(Settings::default(), None);
            reader.set(path, "0");
            let problem = reader.problems.into_iter().next();
            Err(problem.map_or_else(
                || LiveRefusal::StartOnly { key: path.to_owned() },
                |problem| refused(path, problem),
            ))
        }
    }
}

/// What `text`, written as after `--set`, means for `path`.
///
/// # Errors
///
/// [`LiveRefusal`], naming the bound.
pub fn live_value(path: &str, text: &str) -> Result<Value, LiveRefusal> {
    check_live_key(path)?;
    if path.starts_with(USER_PREFIX) {
        return Ok(free_value(text));
    }
    if is_secret(path) {
        let value = free_value(text);
        check_sealed(path, &value)?;
        return Ok(value);
    }
    let mut reader = Reader::new(Settings::default(), None);
    reader.set(path, text);
    if let Some(problem) = reader.problems.into_iter().next() {
        return Err(refused(path, problem));
    }
    let names: Vec<&str> = path.split('.').collect();
    let value = reader.settings.find(&names).map(|value| match value {
        Setting::Switch(switch) => Value::Bool(*switch),
        Setting::Count(count) => Value::Integer(*count),
        Setting::Number(number) => Value::Float(*number),
        Setting::None | Setting::Amount(_) => Value::Text(value.to_string()),
        Setting::Text(text) => Value::Text(text.clone()),
        Setting::List(items) => Value::List(items.iter().cloned().map(Value::Text).collect()),
    });
    value.ok_or_else(|| LiveRefusal::StartOnly { key: path.to_owned() })
}

/// The number that `value` is for `path`, if it is within the bounds there: another version may have
/// written it.
pub fn live_number(path: &str, value: &Value) -> Option<u64> {
    let spec = live_keys().find(|spec| spec.path == path)?;
    match (spec.kind, value) {
        (ValueKind::Count { min, max }, Value::Integer(number)) if (min..=max).contains(number) => {
            u64::try_from(*number).ok()
        }
        // Where there may be none, none is 0, which is no limit.
        (ValueKind::Count { min: 1.., .. }, Value::Text(text))
            if spec.optional && text == "none" =>
        {
            Some(0)
        }
        _ => None,
    }
}

/// What counts for `node` in `environment` at `path`, and whom it was written for.
pub fn effective<'s>(
    sync: &'s ConfigSync,
    node: &str,
    environment: Option<&str>,
    path: &str,
) -> Option<(ConfigScope, Reading<'s>)> {
    let environment = environment.map(|name| ConfigScope::Environment(name.to_owned()));
    let scopes = [Some(ConfigScope::Node(node.to_owned())), environment, Some(ConfigScope::Base)];
    scopes.into_iter().flatten().find_map(|scope| {
        let reading = sync.read(&scope.key(path))?;
        Some((scope, reading))
    })
}

fn refused(path: &str, problem: ConfigProblem) -> LiveRefusal {
    LiveRefusal::Problem { key: path.to_owned(), what: problem.what, fix: problem.fix }
}

/// TOML, or else text.
fn free_value(text: &str) -> Value {
    toml::de::DeValue::parse(text)
        .ok()
        .and_then(|value| toml_value(value.get_ref()))
        .unwrap_or_else(|| Value::Text(text.to_owned()))
}

fn toml_value(value: &toml::de::DeValue<'_>) -> Option<Value> {
    use toml::de::DeValue;
    Some(match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(integer) => {
            Value::Integer(i64::from_str_radix(integer.as_str(), integer.radix()).ok()?)
        }
        DeValue::Float(float) => {
            Value::Float(float.as_str().parse().ok().filter(|float: &f64| float.is_finite())?)
        }
        DeValue::Boolean(switch) => Value::Bool(*switch),
        DeValue::Datetime(at) => Value::Text(at.to_string()),
        DeValue::Array(items) => {
            let items: Option<Vec<Value>> =
                items.iter().map(|item| toml_value(item.get_ref())).collect();
            Some(Value::List(items?)).filter(Value::is_sound)?
        }
        DeValue::Table(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_refused_where_it_is_written_with_its_bound() {
        assert_eq!(live_value("pipeline.batch_ticks", "16"), Ok(Value::Integer(16)));
        let refused = |path: &str, text: &str| live_value(path, text).unwrap_err().to_string();
        let below = refused("pipeline.batch_ticks", "0");
        assert!(below.contains("0 is below 1") && below.contains("65536"), "{below}");
        assert!(refused("pipeline.batch_ticks", "65537").contains("65537 is above 65536"));
        assert!(refused("pipeline.batch_ticks", "many").contains("batch_ticks"));
    }

    #[test]
    fn a_key_that_is_read_at_start_is_refused_with_the_remedy_and_an_unknown_one_with_the_nearest()
    {
        let refused = |path: &str| live_value(path, "3").unwrap_err().to_string();
        let start = refused("pipeline.shards");
        assert!(start.contains("read only when a node starts") && start.contains("cluster.toml"));
        let unknown = refused("pipeline.batch_tick");
        assert!(unknown.contains("did you mean pipeline.batch_ticks?"), "{unknown}");
        assert!(check_live_key("user.").is_err());
        assert!(check_live_key("pipeline").is_err());
    }

    #[test]
    fn keys_of_users_hold_anything_that_toml_can_say_and_plain_words() {
        let of = |text: &str| live_value("user.a", text).unwrap();
        assert_eq!(of("3"), Value::Integer(3));
        assert_eq!(of("0.5"), Value::Float(0.5));
        assert_eq!(of("true"), Value::Bool(true));
        assert_eq!(of("momentum"), Value::Text("momentum".into()));
        assert_eq!(of("\"3\""), Value::Text("3".into()));
        assert_eq!(of("[1, 2]"), Value::List(vec![Value::Integer(1), Value::Integer(2)]));
        assert_eq!(of("[[1]]"), Value::Text("[[1]]".into()), "no list in a list");
        assert_eq!(of("nan"), Value::Text("nan".into()));
    }

    #[test]
    fn scopes_are_told_apart_by_their_names() {
        let all = [
            ConfigScope::Base,
            ConfigScope::Environment("test".into()),
            ConfigScope::Node("calc-1".into()),
        ];
        for scope in all {
            let key = scope.key("pipeline.batch_ticks");
            assert_eq!(ConfigScope::of(&key), (scope, "pipeline.batch_ticks"));
        }
    }

    #[test]
    fn every_live_key_is_operational_and_a_number_so_far() {
        assert!(live_keys().count() >= 4);
        for spec in live_keys() {
            assert!(!spec.changes_answer, "{}", spec.path);
            let ValueKind::Count { min, max } = spec.kind else { panic!("{}", spec.path) };
            assert_eq!(live_number(spec.path, &Value::Integer(max)), u64::try_from(max).ok());
            assert_eq!(live_number(spec.path, &Value::Integer(min - 1)), None);
        }
    }
}
