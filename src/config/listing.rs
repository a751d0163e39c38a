//! Every key with its explanation, taken from where users read it: `cluster.toml`.

use super::schema::{self, KEYS};

/// What there is to say about one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyDescription {
    /// The dotted path; `<class>` and its kin stand for a name.
    pub path: &'static str,
    /// What it may hold.
    pub expects: String,
    /// The value in `cluster.toml`, as TOML; for a family, an example.
    pub example: String,
    /// Whether another value can change an answer.
    pub changes_answer: bool,
    /// What it is for.
    pub about: String,
}

/// Every key, in the order of the table of keys.
pub fn keys() -> Vec<KeyDescription> {
    let documented = documented(super::DEFAULT_TEXT);
    KEYS.iter()
        .map(|spec| {
            let same = |path: &[String]| {
                path.len() == spec.segments().count()
                    && spec
                        .segments()
                        .zip(path)
                        .all(|(segment, name)| schema::stands_for(segment, name))
            };
            let found = |is_explained: bool| {
                let mut all = documented.iter().filter(|entry| same(&entry.path));
                all.find(|entry| !is_explained || !entry.about.is_empty())
            };
            let entry = found(true).or_else(|| found(false));
            KeyDescription {
                path: spec.path,
                expects: spec.kind.expects(spec.unit),
                example: entry.map(|entry| entry.value.clone()).unwrap_or_default(),
                changes_answer: spec.changes_answer,
                about: entry.map(|entry| entry.about.clone()).unwrap_or_default(),
            }
        })
        .collect()
}

/// A key as it stands in the file, commented out or not.
pub(super) struct Documented {
    pub(super) path: Vec<String>,
    pub(super) value: String,
    pub(super) about: String,
}

/// The keys of an annotated file, with the comments above and beside them.
///
/// A line `#key = value` or `#[table]`, without a space after the `#`, is a key or table that is
/// commented out; `# text` is an explanation.
pub(super) fn documented(text: &str) -> Vec<Documented> {
    let mut entries = Vec::new();
    let mut table: Vec<String> = Vec::new();
    // The last [[list]] and the place in it.
    let mut list: Vec<String> = Vec::new();
    let mut about: Vec<&str> = Vec::new();
    for line in text.lines() {
        let line = line.trim();
        if let Some(comment) = line.strip_prefix("# ") {
            about.push(comment.trim());
            continue;
        }
        let live = line.strip_prefix('#').unwrap_or(line);
        if let Some(name) = live.strip_prefix("[[").and_then(|rest| rest.split("]]").next()) {
            let item = if list.as_slice().first().is_some_and(|list| list == name) {
                list[1].parse().map_or(0, |item: usize| item + 1)
            } else {
                0
            };
            list = vec![name.to_owned(), item.to_string()];
            table.clone_from(&list);
        } else if let Some(name) = live.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            table = names(name);
            // [list.table] belongs to the last [[list]].
            if table.first() == list.first() && !list.is_empty() {
                table.splice(0..1, list.iter().cloned());
            }
        } else if let Some((key, value)) = live.split_once('=') {
            let (value, beside) = match value.split_once(" #") {
                Some((value, beside)) => (value.trim(), beside.trim()),
                None => (value.trim(), ""),
            };
            if !beside.is_empty() {
                about.push(beside);
            }
            let mut path = table.clone();
            path.extend(names(key));
            entries.push(Documented { path, value: value.to_owned(), about: about.join(" ") });
        }
        about.clear();
    }
    entries
}

/// The names of a dotted key; quotes may hold points.
fn names(key: &str) -> Vec<String> {
    let mut names = vec![String::new()];
    let mut is_quoted = false;
    for c in key.trim().chars() {
        match c {
            '"' => is_quoted = !is_quoted,
            '.' if !is_quoted => names.push(String::new()),
            c => names.last_mut().expect("it starts with one").push(c),
        }
    }
    names
}
