//! Settings by path, checked one by one, before they become types.

use std::collections::BTreeMap;

use super::problem::Origin;

/// A value in its normal form.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// `"none"` for a key that need not have a value.
    None,
    Switch(bool),
    Count(i64),
    /// In steps of 1e-9.
    Amount(i64),
    Number(f64),
    Text(String),
    List(Vec<String>),
}

impl Value {
    pub(super) fn count(&self) -> Option<i64> {
        if let Self::Count(count) = self { Some(*count) } else { None }
    }

    pub(super) fn amount(&self) -> Option<i64> {
        if let Self::Amount(nanos) = self { Some(*nanos) } else { None }
    }

    pub(super) fn number(&self) -> Option<f64> {
        if let Self::Number(number) = self { Some(*number) } else { None }
    }

    pub(super) fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    pub(super) fn list(&self) -> Option<&[String]> {
        if let Self::List(items) = self { Some(items) } else { None }
    }
}

/// A path, name by name.
pub(super) type Path = Vec<String>;

/// Settings by path. Iterates in the order of paths.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Settings {
    values: BTreeMap<Path, Value>,
}

/// Where each setting, and each table of a list, was written.
#[derive(Clone, Debug, Default)]
pub(super) struct Origins(BTreeMap<Path, Origin>);

/// The path that `names` spell.
pub(super) fn path(names: &[&str]) -> Path {
    names.iter().map(|&name| name.to_owned()).collect()
}

impl Settings {
    pub(super) fn insert(&mut self, path: Path, value: Value) {
        self.values.insert(path, value);
    }

    /// Forgets everything under `prefix`.
    pub(super) fn remove_under(&mut self, prefix: &[String]) {
        self.values.retain(|path, _| !path.starts_with(prefix));
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Path, &Value)> {
        self.values.iter()
    }

    pub(super) fn find(&self, names: &[&str]) -> Option<&Value> {
        self.values.get(&path(names))
    }

    /// The names that follow `prefix`, each once.
    pub(super) fn names_under(&self, prefix: &[&str]) -> Vec<&str> {
        let prefix = path(prefix);
        let mut names: Vec<&str> = Vec::new();
        for path in self.values.keys().filter(|path| path.starts_with(&prefix)) {
            if let Some(name) = path.get(prefix.len())
                && names.last() != Some(&name.as_str())
            {
                names.push(name);
            }
        }
        names
    }

    /// The value at `names`, which the built-in defaults give.
    fn expected(&self, names: &[&str]) -> &Value {
        self.find(names).unwrap_or_else(|| panic!("cluster.toml gives no default for {names:?}"))
    }

    pub(super) fn switch(&self, names: &[&str]) -> bool {
        matches!(self.expected(names), Value::Switch(true))
    }

    pub(super) fn count(&self, names: &[&str]) -> u64 {
        self.count_or_none(names).unwrap_or(0)
    }

    pub(super) fn signed(&self, names: &[&str]) -> i64 {
        self.find(names).and_then(Value::count).unwrap_or(0)
    }

    pub(super) fn count_or_none(&self, names: &[&str]) -> Option<u64> {
        self.expected(names).count().and_then(|count| u64::try_from(count).ok())
    }

    /// The decimal at `names`, in steps of 1e-9.
    pub(super) fn amount(&self, names: &[&str]) -> i64 {
        self.amount_or_none(names).unwrap_or(0)
    }

    pub(super) fn amount_or_none(&self, names: &[&str]) -> Option<i64> {
        self.expected(names).amount()
    }

    pub(super) fn text(&self, names: &[&str]) -> &str {
        self.expected(names).text().unwrap_or_default()
    }

    pub(super) fn list(&self, names: &[&str]) -> &[String] {
        self.expected(names).list().unwrap_or_default()
    }
}

impl Origins {
    pub(super) fn insert(&mut self, path: Path, origin: Origin) {
        self.0.insert(path, origin);
    }

    /// Whether a user wrote exactly `path`.
    pub(super) fn is_written(&self, path: &[String]) -> bool {
        self.0.contains_key(path)
    }

    /// Where `path` was written; failing that, the nearest table above it.
    pub(super) fn of(&self, path: &[String]) -> Origin {
        (1..=path.len())
            .rev()
            .find_map(|length| self.0.get(&path[..length]))
            .cloned()
            .unwrap_or(Origin::Default)
    }

    /// Forgets everything under `prefix`.
    pub(super) fn remove_under(&mut self, prefix: &[String]) {
        self.0.retain(|path, _| !path.starts_with(prefix));
    }
}

impl Settings {
    /// What `path` would be if it were not set itself, for a table per subtree or class that falls
    /// back on its section.
    pub(super) fn inherited(&self, path: &[String]) -> Option<&Value> {
        let names: Vec<&str> = path.iter().map(String::as_str).collect();
        match names.as_slice() {
            ["supervision", _, name] => self.find(&["supervision", name]),
            [section, "class", _, name] => self.find(&[section, name]),
            _ => None,
        }
    }
}
