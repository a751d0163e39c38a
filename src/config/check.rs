//! What single keys cannot show: values that contradict each other.

mod exchanges;

use super::problem::nearest;
use super::schema::{SUBTREES, session_span};
use super::settings::{Path, Settings, Value, path};
use super::{Kinds, secret};
use crate::domain::{Class, ParameterError, Span, Symbol, decimal};
use crate::pipeline::factors::{FactorConfig, FactorEngine, FactorError};
use crate::pipeline::live::needs_snapshots;
use crate::pipeline::strategy::{StrategyError, StrategyRegistry, StrategySpec};

/// Values that cannot stand together.
pub(super) struct Contradiction {
    /// The keys at fault; the first that a user wrote is named.
    pub(super) paths: Vec<Path>,
    pub(super) what: String,
    pub(super) fix: String,
}

/// Everything in `settings` that contradicts something else.
pub(super) fn contradictions(settings: &Settings, kinds: &Kinds) -> Vec<Contradiction> {
    let mut found = Found { settings, contradictions: Vec::new() };
    found.pipeline();
    found.supervision();
    found.strategies(kinds);
    found.accounts();
    found.risk();
    found.instruments();
    found.cluster();
    found.live();
    found.exchanges();
    found.database();
    found.contradictions.extend(secret::contradictions(settings));
    found.contradictions
}

struct Found<'s> {
    settings: &'s Settings,
    contradictions: Vec<Contradiction>,
}

impl Found<'_> {
    fn add(&mut self, paths: &[&[&str]], what: impl Into<String>, fix: impl Into<String>) {
        let paths = paths.iter().map(|names| path(names)).collect();
        self.contradictions.push(Contradiction { paths, what: what.into(), fix: fix.into() });
    }

    /// A server has an address, said once, and of its own kind.
    fn database(&mut self) {
        let kind = self.settings.text(&["database", "kind"]);
        let given = |key: &str| self.settings.find(&["database", key]).and_then(Value::text);
        let keys = ["url", "url_file", "url_env"];
        let said: Vec<&str> = keys.into_iter().filter(|key| given(key).is_some()).collect();
        let wanted = match kind {
            "postgres" => "postgres://user@host/database",
            "mysql" => "mysql://user@host/database",
            "sqlite" => "sqlite:PATH",
            "auto" if !said.is_empty() => {
                let paths: Vec<[&str; 2]> = said.iter().map(|&key| ["database", key]).collect();
                let paths: Vec<&[&str]> = paths.iter().map(<[&str; 2]>::as_slice).collect();
                let fix = "set database.kind to sqlite, postgres or mysql";
                self.add(&paths, "says where a database is, and nothing which one it is", fix);
                return;
            }
            _ => return,
        };
        if said.len() > 1 {
            let paths: Vec<[&str; 2]> = said.iter().map(|&key| ["database", key]).collect();
            let paths: Vec<&[&str]> = paths.iter().map(<[&str; 2]>::as_slice).collect();
            self.add(&paths, "says where the database is, as another key does", "give one of them");
        } else if said.is_empty() && kind != "sqlite" {
            let fix = format!("set database.url, url_file or url_env to {wanted}");
            self.add(&[&["database", "kind"]], "is a server, and nothing says where it is", fix);
        }
        let url = given("url").unwrap_or(wanted);
        let scheme = url.split(':').next().unwrap_or_default();
        let fits = match kind {
            "postgres" => ["postgres", "postgresql"].contains(&scheme),
            "mysql" => ["mysql", "mariadb"].contains(&scheme),
            _ => scheme == "sqlite",
        };
        if !fits {
            let paths: [&[&str]; 2] = [&["database", "url"], &["database", "kind"]];
            self.add(
                &paths,
                "is the address of another kind of database",
                format!("write {wanted}"),
            );
        }
    }

    /// Who listens must know to what; and differences of a book say nothing without the snapshot that they
    /// are the differences to.
    fn live(&mut self) {
        let is_input = self.settings.text(&["pipeline", "input"]) == "live";
        let has_url = self.settings.find(&["live", "url"]).and_then(Value::text).is_some();
        if is_input && !has_url {
            self.add(
                &[&["pipeline", "input"], &["live", "url"]],
                "pipeline.input = \"live\" listens to a venue, and none is named",
                "say in live.url where it is, such as \"wss://stream.binance.com:9443\"",
            );
        }
        let streams = self.settings.list(&["live", "streams"]);
        let has_rest = self.settings.find(&["live", "rest_url"]).and_then(Value::text).is_some();
        if let Some(stream) = needs_snapshots(streams).filter(|_| !has_rest) {
            let name = stream.split('@').next().unwrap_or_default();
            let what = format!("\"{stream}\" gives no quotes without depth snapshots");
            let fix = format!(
                "say in live.rest_url where they are, such as \"https://api.binance.com\", or \
                 listen to \"{name}@bookTicker\" too"
            );
            self.add(&[&["live", "streams"], &["live", "rest_url"]], what, fix);
        }
    }

    /// `smaller` must not be above `larger`.
    fn ordered(&mut self, smaller: &[&str], larger: &[&str]) {
        let (low, high) = (self.number(smaller), self.number(larger));
        if let (Some(low), Some(high)) = (low, high)
            && low > high
        {
            let value = |names: &[&str]| self.settings.find(names).map(Value::to_string);
            let what = format!(
                "{} = {} is above {} = {}",
                smaller.join("."),
                value(smaller).unwrap_or_default(),
                larger.join("."),
                value(larger).unwrap_or_default(),
            );
            self.add(&[smaller, larger], what, "lower the first or raise the second");
        }
    }

    fn number(&self, names: &[&str]) -> Option<i64> {
        match self.settings.find(names) {
            Some(Value::Count(number) | Value::Amount(number)) => Some(*number),
            _ => None,
        }
    }

    fn pipeline(&mut self) {
        self.ordered(&["pipeline", "window_step_ms"], &["pipeline", "window_ms"]);
        let (window, step) = (["pipeline", "window_ms"], ["pipeline", "window_step_ms"]);
        if let (Some(length), Some(every)) = (self.number(&window), self.number(&step))
            && every <= length
            && length % every != 0
        {
            let what = format!("{length} ms is not a whole number of steps of {every} ms");
            self.add(&[&window, &step], what, "make window_ms a multiple of window_step_ms");
        }
        self.ordered(&["pipeline", "batch_ticks"], &["stream", "credit_ticks"]);
        self.ordered(&["stream", "credit_ticks"], &["stream", "retained_ticks"]);
        self.ordered(&["stream", "checkpoint_ticks"], &["stream", "retained_ticks"]);
        let follow = ["pipeline", "follow"];
        if self.settings.find(&follow).and_then(Value::text).is_some()
            && self.settings.text(&["pipeline", "merge"]) != "arrival"
        {
            let what = "says whose order of arrival is taken again, and inputs are not taken as \
                        they arrive";
            self.add(&[&follow], what, "set pipeline.merge to \"arrival\" as well");
        }
        let segment = ["journal", "segment_bytes"];
        self.ordered(&segment, &["journal", "size_max_bytes"]);
        if let Some(bytes) = self.number(&segment)
            && bytes.count_ones() != 1
        {
            let next = bytes.unsigned_abs().next_power_of_two();
            let what = format!("{bytes} bytes is not a power of two");
            self.add(&[&segment], what, format!("write {} or {next}", next / 2));
        }
        if self.settings.list(&["node", "roles"]).is_empty() {
            self.add(
                &[&["node", "roles"]],
                "is empty",
                "a node without roles does nothing: name one",
            );
        }
    }

    fn supervision(&mut self) {
        self.ordered(&["supervision", "backoff_first_ms"], &["supervision", "backoff_max_ms"]);
        for subtree in SUBTREES {
            let at = |name: &'static str| -> Vec<&str> {
                let own = vec!["supervision", subtree, name];
                let is_own = self.settings.find(&own).is_some();
                if is_own { own } else { vec!["supervision", name] }
            };
            let (first, max) = (at("backoff_first_ms"), at("backoff_max_ms"));
            if first.len() + max.len() > 4 {
                self.ordered(&first, &max);
            }
        }
    }

    /// Every table of `list` has a name of its own.
    fn names(&mut self, list: &str, example: &str) {
        let mut names: Vec<&str> = Vec::new();
        let settings = self.settings;
        for index in settings.names_under(&[list]) {
            match settings.find(&[list, index, "name"]) {
                Some(Value::Text(name)) if names.contains(&name.as_str()) => {
                    let what = format!("another {list} is called {name:?} too");
                    self.add(&[&[list, index, "name"]], what, "give each a name of its own");
                }
                Some(Value::Text(name)) => names.push(name),
                _ => {
                    let fix = format!("give it one: name = \"{example}\"");
                    self.add(&[&[list, index]], "has no name", fix);
                }
            }
        }
    }

    fn accounts(&mut self) {
        self.names("account", "main");
        if self.settings.names_under(&["account"]).is_empty() {
            let fix = "write [[account]] with a name";
            self.add(&[&["account"]], "there is no account to trade for", fix);
        }
    }

    fn risk(&mut self) {
        self.ordered(&["risk", "order_value_min"], &["risk", "order_value_max"]);
        for symbol in self.settings.list(&["risk", "symbols_denied"]) {
            if self.settings.list(&["risk", "symbols_allowed"]).contains(symbol) {
                let what = format!("{symbol:?} is both denied and allowed");
                let paths: [&[&str]; 2] =
                    [&["risk", "symbols_denied"], &["risk", "symbols_allowed"]];
                self.add(&paths, what, "take it out of one list");
            }
        }
    }

    fn strategies(&mut self, kinds: &Kinds) {
        let registry = &kinds.strategies;
        self.names("strategy", "reversion");
        let settings = self.settings;
        for index in settings.names_under(&["strategy"]) {
            let text = |name: &str| match settings.find(&["strategy", index, name]) {
                Some(Value::Text(text)) => Some(text.as_str()),
                _ => None,
            };
            let item = ["strategy", index];
            if let Some(account) = text("account") {
                let accounts = settings.names_under(&["account"]);
                let is_called = |at: &&str| {
                    settings.find(&["account", at, "name"]) == Some(&Value::Text(account.into()))
                };
                if !accounts.iter().any(is_called) {
                    let what = format!("there is no account {account:?}");
                    let fix = "write an [[account]] of that name, or name another";
                    self.add(&[&["strategy", index, "account"]], what, fix);
                }
            }
            match text("kind") {
                None => {
                    self.add(&[&item], "has no kind", "name one: kind = \"bollinger_reversion\"");
                }
                Some(kind) if registry.names().any(|known| known == kind) => {
                    if self.parameters(registry, index, kind) {
                        self.windows(kinds, index, kind);
                    }
                }
                Some(kind) => {
                    let fix = match nearest(kind, registry.names()) {
                        Some(meant) => format!("did you mean {meant:?}?"),
                        None => {
                            format!("known: {}", registry.names().collect::<Vec<_>>().join(", "))
                        }
                    };
                    let what = format!("{kind:?} is not a kind of strategy");
                    self.add(&[&["strategy", index, "kind"]], what, fix);
                }
            }
        }
    }

    /// Whether the factors of one strategy can be computed on the windows that there are.
    fn windows(&mut self, kinds: &Kinds, index: &str, kind: &str) {
        let of = |name| Span::from_millis(self.settings.count(&["pipeline", name]));
        let config = FactorConfig {
            window: of("window_ms"),
            step: of("window_step_ms"),
            ..FactorConfig::default()
        };
        let spec = StrategySpec::new(kind, self.given(index));
        let Ok(needs) = kinds.strategies.needs(&spec) else { return };
        match FactorEngine::new(config, &kinds.factors, &needs) {
            // The windows by themselves are wrong: that has been said.
            Ok(_) | Err(FactorError::Step { .. }) => {}
            Err(error) => {
                let names = self.settings.names_under(&["strategy", index, "parameters"]);
                let window = names.into_iter().find(|name| name.starts_with("window"));
                let at = ["strategy", index, "parameters", window.unwrap_or_default()];
                let fix = "change the strategy's parameters, pipeline.window_ms or window_step_ms";
                let paths: [&[&str]; 4] = [
                    &at,
                    &["pipeline", "window_ms"],
                    &["pipeline", "window_step_ms"],
                    &["strategy", index],
                ];
                self.add(&paths, error.to_string(), fix);
            }
        }
    }

    /// The parameters that were given to one strategy.
    fn given(&self, index: &str) -> Vec<(String, f64)> {
        let settings = self.settings;
        let names = settings.names_under(&["strategy", index, "parameters"]).into_iter();
        let number = |name: &str| {
            let value = settings.find(&["strategy", index, "parameters", name]);
            value.and_then(Value::number).map(|number| (name.to_owned(), number))
        };
        names.filter_map(number).collect()
    }

    /// The parameters of one strategy, each by itself and then all together. Whether they are sound.
    fn parameters(&mut self, registry: &StrategyRegistry, index: &str, kind: &str) -> bool {
        let given = self.given(index);
        let check = |parameters: Vec<(String, f64)>| {
            registry.needs(&StrategySpec::new(kind, parameters)).err()
        };
        let mut errors: Vec<StrategyError> =
            given.iter().filter_map(|one| check(vec![one.clone()])).collect();
        // One value alone is judged beside the declared ones; only together do they say whether it
        // is the pair that is wrong.
        let is_unknown = |error: &StrategyError| {
            matches!(
                error,
                StrategyError::Parameters { source: ParameterError::Unknown { .. }, .. }
            )
        };
        if !errors.iter().any(is_unknown) {
            errors = check(given.clone()).into_iter().collect();
        }
        let is_sound = errors.is_empty();
        for error in errors {
            let (name, what) = match &error {
                StrategyError::Parameters { source, .. } => {
                    let name = match source {
                        ParameterError::Unknown { name, .. }
                        | ParameterError::Twice { name }
                        | ParameterError::OutOfRange { name, .. } => Some(name.as_str()),
                        ParameterError::TooMany { .. } => None,
                    };
                    (name, source.to_string())
                }
                StrategyError::Unknown { .. }
                | StrategyError::Column { .. }
                | StrategyError::TooMany { .. }
                | StrategyError::Index { .. }
                | StrategyError::Layout { .. }
                | StrategyError::Snapshot { .. } => (None, error.to_string()),
            };
            let of_parameter = ["strategy", index, "parameters", name.unwrap_or_default()];
            let all: Vec<[&str; 4]> =
                given.iter().map(|(name, _)| ["strategy", index, "parameters", name]).collect();
            // The named one first; when it was not written, whichever was.
            let mut paths: Vec<&[&str]> = vec![&of_parameter];
            paths.extend(all.iter().map(<[&str; 4]>::as_slice));
            self.add(
                &paths,
                what,
                format!("correct it, or leave it out to have what {kind} declares"),
            );
        }
        is_sound
    }

    fn cluster(&mut self) {
        let voters = self.settings.find(&["cluster", "voters"]).and_then(Value::count);
        if let Some(voters) = voters.filter(|voters| voters % 2 == 0) {
            let what = format!("{voters} voters survive no more losses than {}", voters - 1);
            self.add(&[&["cluster", "voters"]], what, "give 1, 3 or 5");
        }
        self.ordered(&["cluster", "redial_first_ms"], &["cluster", "redial_max_ms"]);
        self.loads();
        self.locks();
        let text = |names: &[&str]| self.settings.find(names).and_then(Value::text);
        let tls = ["tls_ca_file", "tls_cert_file", "tls_key_file"];
        let missing: Vec<&str> =
            tls.into_iter().filter(|name| text(&["cluster", name]).is_none()).collect();
        let bind = text(&["cluster", "bind"]).unwrap_or_default();
        let is_unreachable = text(&["cluster", "advertise"]).is_none() && is_unspecified(bind);
        let beyond: Vec<[&str; 2]> = [["cluster", "bind"], ["node", "http_bind"]]
            .into_iter()
            .filter(|names| text(names).is_some_and(|address| !is_loopback(address)))
            .collect();
        if is_unreachable {
            let what = format!("others cannot dial {bind}");
            let paths: [&[&str]; 2] = [&["cluster", "bind"], &["cluster", "advertise"]];
            self.add(&paths, what, "give cluster.advertise, where they reach this node");
        }
        if !missing.is_empty() && missing.len() < tls.len() {
            let what = format!("certificates are incomplete: {} is missing", missing.join(", "));
            let paths: Vec<[&str; 2]> = tls.iter().map(|&name| ["cluster", name]).collect();
            let paths: Vec<&[&str]> = paths.iter().map(<[&str; 2]>::as_slice).collect();
            self.add(&paths, what, "give all three, or none of them");
        }
        if !missing.is_empty() {
            for names in beyond {
                let fix = "make certificates with `tickwright certs` and give \
                           cluster.tls_ca_file, tls_cert_file and tls_key_file";
                let what = "is not a loopback address, and without certificates anyone could join";
                self.add(&[&names], what, fix);
            }
        }
    }

    fn locks(&mut self) {
        let text = |key| self.settings.find(&["locks", key]).and_then(Value::text);
        if text("backend") != Some("redis") {
            return;
        }
        let owns_nobody =
            text("when_away") == Some("static_owner_only") && text("static_owner").is_none();
        if self.settings.list(&["locks", "redis_urls"]).is_empty() {
            let fix = "give its address, such as \"redis://127.0.0.1:6379\"";
            self.add(&[&["locks", "redis_urls"]], "no Redis to keep the locks", fix);
        }
        if owns_nobody {
            let what = "nobody is to have locks while Redis is away";
            self.add(&[&["locks", "static_owner"], &["locks", "when_away"]], what, "name a node");
        }
    }

    /// A load that is made of nothing says nothing.
    fn loads(&mut self) {
        let names = ["load_memory_weight", "load_queue_weight", "load_cpu_weight"];
        let paths = names.map(|name| ["allocation", name]);
        if paths.iter().all(|names| self.number(names) == Some(0)) {
            let paths: Vec<&[&str]> = paths.iter().map(<[&str; 2]>::as_slice).collect();
            let what = "nothing counts for the load of a node: all weights are 0";
            self.add(&paths, what, "give one of them more; usual are 0.4, 0.6 and 0");
        }
    }

    fn instruments(&mut self) {
        for class in Class::ALL {
            self.terms(&["instruments", "class", class.name()], &[]);
        }
        for name in self.settings.names_under(&["instruments", "symbol"]) {
            let class = ["instruments", "symbol", name, "class"];
            let venue = Symbol::new(name).map(|symbol| symbol.venue().to_owned());
            let venue = venue.unwrap_or_default();
            let of_venue = ["instruments", "venues", &venue];
            let class = self.settings.find(&class).or_else(|| self.settings.find(&of_venue));
            let class = match class {
                Some(Value::Text(class)) => class.as_str(),
                _ => Class::of_venue(&venue).name(),
            };
            self.terms(&["instruments", "symbol", name], &["instruments", "class", class]);
        }
    }

    /// Terms under `own`, with those under `base` behind them.
    fn terms(&mut self, own: &[&str], base: &[&str]) {
        let settings = self.settings;
        let at = |name: &'static str| -> Vec<String> {
            let mine = path(&[own, &[name]].concat());
            let names: Vec<&str> = mine.iter().map(String::as_str).collect();
            if settings.find(&names).is_some() || base.is_empty() {
                mine
            } else {
                path(&[base, &[name]].concat())
            }
        };
        let value = |name: &'static str| {
            let path = at(name);
            let names: Vec<&str> = path.iter().map(String::as_str).collect();
            self.number(&names)
        };
        let mut wrong: Vec<([&'static str; 2], String, String)> = Vec::new();
        for (name, decimals_name) in [
            ("tick_size", "price_decimals"),
            ("lot", "quantity_decimals"),
            ("quantity_min", "quantity_decimals"),
            ("quantity_max", "quantity_decimals"),
        ] {
            let (Some(nanos), Some(decimals)) = (value(name), value(decimals_name)) else {
                continue;
            };
            let Ok(decimals) = u8::try_from(decimals) else { continue };
            let text = decimal::format(i128::from(nanos), 9);
            if nanos % decimal::POW10[usize::from(9 - decimals)] != 0 {
                let what = format!("{text} has more than {decimals} decimals");
                wrong.push(([name, decimals_name], what, format!("raise {decimals_name}")));
            } else if i128::from(nanos) * 10i128.pow(u32::from(decimals)) / 1_000_000_000
                > i128::from(i64::MAX)
            {
                let what = format!("{text} does not fit 64 bits at {decimals} decimals");
                wrong.push(([name, decimals_name], what, format!("lower {decimals_name}")));
            }
        }
        if let (Some(lot), Some(min), Some(max)) =
            (value("lot"), value("quantity_min"), value("quantity_max"))
        {
            if min > max {
                let what = "the smallest order is above the largest".to_owned();
                wrong.push((["quantity_min", "quantity_max"], what, "lower quantity_min".into()));
            }
            if min % lot != 0 {
                let what = "the smallest order is not a whole number of lots".to_owned();
                let fix = "make quantity_min a multiple of lot".to_owned();
                wrong.push((["quantity_min", "lot"], what, fix));
            }
        }
        if let Some(Value::List(spans)) = settings.find(&[own, &["session"]].concat()) {
            let spans: Vec<(u32, u32)> =
                spans.iter().filter_map(|span| session_span(span).ok()).collect();
            if spans.windows(2).any(|pair| pair[1].0 < pair[0].1) {
                let what = "spans overlap or are out of order".to_owned();
                wrong.push((["session", "session"], what, "put them in ascending order".into()));
            }
        }
        for (names, what, fix) in wrong {
            let paths = names.iter().map(|&name| at(name)).collect();
            self.contradictions.push(Contradiction { paths, what, fix });
        }
    }
}

/// The host of `HOST:PORT`, without brackets.
fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// Whether only this machine can reach `address`. A name other than localhost might be anything.
fn is_loopback(address: &str) -> bool {
    let host = host(address);
    let ip = host.parse::<std::net::IpAddr>();
    host.eq_ignore_ascii_case("localhost") || ip.is_ok_and(|ip| ip.is_loopback())
}

fn is_unspecified(address: &str) -> bool {
    host(address).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_unspecified())
}
