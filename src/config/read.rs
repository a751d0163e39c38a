//! From TOML text and `--set` to settings, collecting everything that is wrong on the way.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{ConfigProblem, Origin, line_and_column, nearest};
use super::schema::{self, KeySpec, Place, ValueKind};
use super::settings::{Origins, Path, Settings, Value};
use crate::domain::decimal::{self, DecimalError};

/// Lines that are not TOML after which no more are looked for: the file is something else.
const UNREADABLE_LINES_MAX: usize = 20;

/// Settings as they are being gathered, layer over layer.
pub(super) struct Reader<'d> {
    pub(super) settings: Settings,
    pub(super) origins: Origins,
    pub(super) problems: Vec<ConfigProblem>,
    /// What the built-in file says, for examples in messages. None while that file is being read.
    defaults: Option<&'d Settings>,
}

/// Turns a byte range of the text being read into a place for messages.
type Locate<'l> = &'l dyn Fn(Range<usize>) -> Origin;

impl<'d> Reader<'d> {
    /// A reader that lays what it reads over `settings`.
    pub(super) fn new(settings: Settings, defaults: Option<&'d Settings>) -> Self {
        Self { settings, origins: Origins::default(), problems: Vec::new(), defaults }
    }

    /// Reads a whole file.
    pub(super) fn file(&mut self, text: &str, file: &str) {
        // A byte-order mark is not TOML, but editors write it.
        let body = text.strip_prefix('\u{feff}').unwrap_or(text);
        let locate = |span: Range<usize>| {
            let (line, column) = line_and_column(body, span.start);
            Origin::File { file: file.to_owned(), line, column }
        };
        // The parser gives up at some mistakes. A line that is wrong by itself is blanked out, and
        // the rest read again, so that the mistakes below it are found too.
        let mut lines: Vec<String> = body.split_inclusive('\n').map(str::to_owned).collect();
        let mut unreadable: Vec<usize> = Vec::new();
        let mut whole = body.to_owned();
        loop {
            let mut is_blanked = false;
            for error in DeTable::parse_recoverable(&whole).1 {
                let origin = locate(error.span().unwrap_or(0..0));
                let Origin::File { line, .. } = origin else { continue };
                if unreadable.contains(&line) {
                    continue;
                }
                unreadable.push(line);
                let what = error.message().lines().collect::<Vec<_>>().join(", ");
                self.problems.push(ConfigProblem {
                    origin,
                    key: String::new(),
                    what: format!("not TOML: {what}"),
                    fix: "correct the line; text needs quotes, tables are written [like.this]"
                        .into(),
                });
                if let Some(text) = lines.get_mut(line - 1)
                    && DeTable::parse(text).is_err()
                {
                    // As many bytes as before, so that places in the text stay what they were.
                    *text = text.bytes().map(|b| if b == b'\n' { '\n' } else { ' ' }).collect();
                    is_blanked = true;
                }
            }
            if !is_blanked || unreadable.len() > UNREADABLE_LINES_MAX {
                break;
            }
            whole = lines.concat();
        }
        let table = DeTable::parse_recoverable(&whole).0;
        let syntax_problems = self.problems.len();
        self.table(&Path::new(), table.get_ref(), &locate);
        // What was guessed of a line that could not be read is not worth a second complaint.
        let mut at = 0;
        self.problems.retain(|problem| {
            at += 1;
            let guessed = matches!(&problem.origin,
                Origin::File { line, .. } if unreadable.contains(line));
            at <= syntax_problems || !guessed
        });
    }

    /// Reads one `--set KEY=VALUE`. The value is TOML; a bare word is text, and `a,b` a list of it.
    pub(super) fn set(&mut self, key: &str, text: &str) {
        let Some(mut path) = split_key(key) else {
            self.problem(
                Origin::Set,
                key.into(),
                "is not a key",
                "write it as in section.key=value",
            );
            return;
        };
        if let [list, name, ..] = path.as_mut_slice()
            && matches!(schema::place(std::slice::from_ref(list)), Place::Items)
        {
            match self.index_of(list, name) {
                Ok(index) => *name = index,
                Err((what, fix)) => {
                    self.problem(Origin::Set, key.into(), what, fix);
                    return;
                }
            }
        }
        let locate = |_: Range<usize>| Origin::Set;
        let place = schema::place(&path);
        let bare = DeValue::String(text.into());
        let text_is_meant = matches!(place, Place::Leaf(KeySpec { kind: ValueKind::Text(_), .. }));
        let list_is_meant = matches!(place, Place::Leaf(KeySpec { kind: ValueKind::List(_), .. }));
        let value = match DeValue::parse(text).map(Spanned::into_inner) {
            Ok(value) if !text_is_meant || value.is_str() => value,
            Ok(_) | Err(_) => bare,
        };
        if list_is_meant && !value.is_array() {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            let items: Vec<String> = items.map(str::to_owned).collect();
            if let Place::Leaf(spec) = place {
                self.list(path, spec, items, Origin::Set);
            }
            return;
        }
        self.value(path, &Spanned::new(0..0, value), 0..0, &locate);
    }

    /// The place in `list` of the table that is called `name`: its place says nothing to a reader,
    /// but is understood as well.
    fn index_of(&self, list: &str, name: &str) -> Result<String, (String, String)> {
        let known = self.settings.names_under(&[list]);
        let called = |index: &str| match self.settings.find(&[list, index, "name"]) {
            Some(Value::Text(name)) => name.clone(),
            _ => String::new(),
        };
        let index = known.iter().find(|&&index| index == name || called(index) == name);
        index.map(|&index| index.to_owned()).ok_or_else(|| {
            let names: Vec<String> = known.iter().map(|index| called(index)).collect();
            (format!("there is no {list} {name:?}"), format!("known: {}", names.join(", ")))
        })
    }

    fn table(&mut self, path: &Path, table: &DeTable<'_>, locate: Locate<'_>) {
        for (name, value) in table {
            let mut below = path.clone();
            below.push(name.get_ref().to_string());
            self.value(below, value, name.span(), locate);
        }
    }

    fn value(
        &mut self,
        path: Path,
        value: &Spanned<DeValue<'_>>,
        key: Range<usize>,
        locate: Locate<'_>,
    ) {
        match (schema::place(&path), value.get_ref()) {
            (Place::Leaf(spec), given) => {
                let origin = locate(value.span());
                self.leaf(path, spec, given, origin);
            }
            (Place::Table, DeValue::Table(table)) => {
                self.origins.insert(path.clone(), locate(key));
                self.table(&path, table, locate);
            }
            (Place::Items, DeValue::Array(items)) => self.items(&path, items, locate),
            (Place::Table, given) => {
                let what = format!("is a table of keys, not {}", describe(given));
                let fix = format!("write [{}] and the keys below it", schema::dotted(&path));
                self.problem(locate(key), schema::dotted(&path), what, fix);
            }
            (Place::Items, given) => {
                let what = format!("is a list of tables, not {}", describe(given));
                let fix = format!("write [[{}]] once for each", schema::dotted(&path));
                self.problem(locate(key), schema::dotted(&path), what, fix);
            }
            (Place::Unknown, _) => self.unknown(&path, locate(key)),
        }
    }

    /// A list of tables replaces the whole list below it: two lists have no common order.
    fn items(&mut self, path: &Path, items: &[Spanned<DeValue<'_>>], locate: Locate<'_>) {
        self.settings.remove_under(path);
        self.origins.remove_under(path);
        for (at, item) in items.iter().enumerate() {
            let mut below = path.clone();
            below.push(at.to_string());
            self.value(below, item, item.span(), locate);
        }
    }

    fn leaf(&mut self, path: Path, spec: &'static KeySpec, given: &DeValue<'_>, origin: Origin) {
        if spec.optional && given.as_str() == Some("none") {
            self.keep(path, Value::None, origin);
            return;
        }
        let value = match (spec.kind, given) {
            (ValueKind::Switch, DeValue::Boolean(switch)) => Ok(Value::Switch(*switch)),
            (ValueKind::Count { min, max }, DeValue::Integer(integer)) => {
                match i64::from_str_radix(integer.as_str(), integer.radix()) {
                    Ok(count) if count < min => Err(format!("{count} is below {min}")),
                    Ok(count) if count > max => Err(format!("{count} is above {max}")),
                    Ok(count) => Ok(Value::Count(count)),
                    Err(_) => Err(format!("{integer} is out of range")),
                }
            }
            (ValueKind::Amount { min, max, step }, _) if exact_text(given).is_some() => {
                let text = exact_text(given).unwrap_or_default();
                match decimal::parse(text.as_bytes(), 9) {
                    Ok(nanos) if nanos < min && min == 1 => Err(format!("{text} is not above 0")),
                    Ok(nanos) if nanos < min => Err(format!("{text} is below {}", plain(min))),
                    Ok(nanos) if nanos > max => Err(format!("{text} is above {}", plain(max))),
                    Ok(nanos) if nanos % step != 0 => {
                        Err(format!("{text} is finer than {}, the smallest step", plain(step)))
                    }
                    Ok(nanos) => Ok(Value::Amount(nanos)),
                    Err(DecimalError::Empty) => Err("is empty".into()),
                    Err(error) => Err(format!("{text} {error}")),
                }
            }
            (ValueKind::Number, DeValue::Integer(_) | DeValue::Float(_)) => {
                let text = exact_text(given).unwrap_or_default();
                match text.parse::<f64>() {
                    Ok(number) if number.is_finite() => Ok(Value::Number(number)),
                    Ok(_) | Err(_) => Err(format!("{text} is not a finite number")),
                }
            }
            (ValueKind::Choice(words), DeValue::String(text)) => {
                if words.contains(&text.as_ref()) {
                    Ok(Value::Text(text.to_string()))
                } else {
                    let hint = nearest(text, words.iter().copied());
                    let hint =
                        hint.map_or_else(String::new, |word| format!(", did you mean {word:?}?"));
                    Err(format!("{text:?} is not known{hint}"))
                }
            }
            (ValueKind::Text(form), DeValue::String(text)) => {
                (form.check)(text).map(|()| Value::Text(text.to_string()))
            }
            (ValueKind::List(_), DeValue::Array(items)) => {
                let texts: Option<Vec<String>> =
                    items.iter().map(|item| item.get_ref().as_str().map(str::to_owned)).collect();
                if let Some(texts) = texts {
                    self.list(path, spec, texts, origin);
                    return;
                }
                Err("holds something that is not text".into())
            }
            (_, given) => Err(format!("{} is of the wrong type", describe(given))),
        };
        match value {
            Ok(value) => self.keep(path, value, origin),
            Err(what) => self.wrong(&path, spec, what, origin),
        }
    }

    fn list(&mut self, path: Path, spec: &'static KeySpec, items: Vec<String>, origin: Origin) {
        let ValueKind::List(form) = spec.kind else { return };
        let mut sound = true;
        for (at, item) in items.iter().enumerate() {
            let repeated = items[..at].contains(item).then(|| format!("{item:?} is there twice"));
            if let Some(what) = (form.check)(item).err().or(repeated) {
                sound = false;
                self.wrong(&path, spec, what, origin.clone());
            }
        }
        if sound {
            self.keep(path, Value::List(items), origin);
        }
    }

    fn keep(&mut self, path: Path, value: Value, origin: Origin) {
        self.origins.insert(path.clone(), origin);
        self.settings.insert(path, value);
    }

    /// A value that its key cannot have.
    fn wrong(&mut self, path: &Path, spec: &'static KeySpec, what: String, origin: Origin) {
        let mut fix = format!("give {}", spec.kind.expects(spec.unit));
        if spec.optional {
            fix.push_str(", or \"none\"");
        }
        let names: Vec<&str> = path.iter().map(String::as_str).collect();
        if let Some(default) = self.defaults.and_then(|defaults| defaults.find(&names)) {
            fix.push_str(&format!(" (the default is {default})"));
        }
        self.problem(origin, schema::dotted(path), what, fix);
    }

    fn unknown(&mut self, path: &Path, origin: Origin) {
        let (last, above) = path.split_last().map_or(("", &[][..]), |(last, above)| (last, above));
        let siblings = schema::children(above);
        // First a misspelling in place, then the right name in another place, then anything near.
        let in_place = nearest(last, siblings.iter().copied()).map(|name| {
            let mut meant = above.to_vec();
            meant.push(name.to_owned());
            schema::dotted(&meant)
        });
        let all = || schema::KEYS.iter().map(|spec| spec.path);
        let elsewhere = || all().find(|key| key.rsplit('.').next() == Some(last));
        let dotted = schema::dotted(path);
        let meant = in_place
            .or_else(|| elsewhere().map(str::to_owned))
            .or_else(|| nearest(&dotted, all()).map(str::to_owned));
        let fix = match meant {
            Some(meant) => format!("did you mean {meant}?"),
            None if siblings.is_empty() => String::new(),
            None => format!("known here: {}", siblings.join(", ")),
        };
        self.problem(origin, dotted, "is not a known key", fix);
    }

    pub(super) fn problem(
        &mut self,
        origin: Origin,
        key: String,
        what: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.problems.push(ConfigProblem { origin, key, what: what.into(), fix: fix.into() });
    }
}

/// The figures of a number as they were written: a float would lose some.
fn exact_text<'v>(given: &'v DeValue<'_>) -> Option<&'v str> {
    match given {
        DeValue::Integer(integer) if integer.radix() == 10 => Some(integer.as_str()),
        DeValue::Float(float) => Some(float.as_str()),
        DeValue::String(text) => Some(text),
        DeValue::Integer(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)
        | DeValue::Array(_)
        | DeValue::Table(_) => None,
    }
}

fn plain(nanos: i64) -> String {
    decimal::format(i128::from(nanos), 9)
}

/// What a value is, for messages.
fn describe(given: &DeValue<'_>) -> String {
    match given {
        DeValue::String(text) => format!("the text {text:?}"),
        DeValue::Integer(integer) => format!("the number {integer}"),
        DeValue::Float(float) => format!("the number {float}"),
        DeValue::Boolean(switch) => format!("{switch}"),
        DeValue::Datetime(at) => format!("the date {at}"),
        DeValue::Array(_) => "a list".into(),
        DeValue::Table(_) => "a table".into(),
    }
}

/// The names of a dotted key, where a name in double quotes may hold points.
fn split_key(key: &str) -> Option<Path> {
    let mut names = Path::new();
    let mut rest = key.trim();
    loop {
        let (name, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => rest.split_at(rest.find('.').unwrap_or(rest.len())),
        };
        if name.trim().is_empty() {
            return None;
        }
        names.push(name.trim().to_owned());
        rest = match after.strip_prefix('.') {
            Some(rest) => rest,
            None if after.is_empty() => return Some(names),
            None => return None,
        };
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => f.write_str("\"none\""),
            Self::Switch(switch) => write!(f, "{switch}"),
            Self::Count(count) => write!(f, "{count}"),
            Self::Amount(nanos) => f.write_str(&plain(*nanos)),
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::List(items) => write!(f, "{items:?}"),
        }
    }
}
