//! `[locks]`: who keeps locks, and what one stands for.

use super::SecretPlace;
use super::settings::{Settings, Value};
use crate::domain::{LockGranularity, Span};
use crate::ledger::WhenAway;

/// Who keeps the locks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockKeeping {
    /// Each process for itself.
    None,
    /// The ledger.
    Ledger,
    /// Redis.
    Redis(RedisConfig),
}

/// How Redis keeps locks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisConfig {
    /// The servers, of which one is the master.
    pub urls: Vec<String>,
    /// The password, on one line; none, if there is no password.
    pub password: Option<SecretPlace>,
    /// What is done while none of them answers.
    pub when_away: WhenAway,
    /// How often it is looked whether one does.
    pub look: Span,
}

/// `[locks]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocksConfig {
    /// Who keeps them.
    pub keeping: LockKeeping,
    /// How long a lock lives unless it is extended, or whoever takes it says otherwise.
    pub ttl: Span,
    /// How long an order waits for its lock.
    pub wait: Span,
    /// How long one request may take.
    pub command: Span,
    /// What the lock of an order stands for.
    pub granularity: LockGranularity,
}

pub(super) fn section(s: &Settings) -> LocksConfig {
    let interval = i64::try_from(s.count(&["locks", "price_interval"])).unwrap_or(i64::MAX);
    LocksConfig {
        keeping: match s.text(&["locks", "backend"]) {
            "ledger" => LockKeeping::Ledger,
            "redis" => LockKeeping::Redis(redis(s)),
            _ => LockKeeping::None,
        },
        ttl: s.span_ms(&["locks", "ttl_ms"]),
        wait: s.span_ms(&["locks", "wait_ms"]),
        command: s.span_ms(&["locks", "command_ms"]),
        granularity: match s.text(&["locks", "granularity"]) {
            "price_interval" => LockGranularity::PriceInterval(interval),
            "price" => LockGranularity::Price,
            _ => LockGranularity::Symbol,
        },
    }
}

fn redis(s: &Settings) -> RedisConfig {
    let text = |key| s.find(&["locks", key]).and_then(Value::text).map(str::to_owned);
    RedisConfig {
        urls: s.list(&["locks", "redis_urls"]).to_vec(),
        password: text("redis_password_file").as_deref().map(SecretPlace::of),
        when_away: match s.text(&["locks", "when_away"]) {
            "static_owner_only" => {
                WhenAway::StaticOwnerOnly(text("static_owner").unwrap_or_default())
            }
            "local_only" => WhenAway::LocalOnly,
            _ => WhenAway::Refuse,
        },
        look: s.span_ms(&["locks", "health_ms"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn what_is_written_is_what_locks_go_by() {
        let usual = Config::default().locks;
        assert_eq!(
            (usual.keeping, usual.granularity),
            (LockKeeping::None, LockGranularity::Symbol)
        );
        let text = "[locks]\nbackend = \"ledger\"\ngranularity = \"price_interval\"\n\
                    price_interval = 7\nttl_ms = 3\n";
        let locks = Config::parse(text, "my.toml").unwrap().locks;
        assert_eq!(locks.keeping, LockKeeping::Ledger);
        assert_eq!(locks.granularity, LockGranularity::PriceInterval(7));
        assert_eq!(locks.ttl, Span::from_millis(3));
    }

    #[test]
    fn redis_is_told_by_addresses_without_passwords_and_who_stands_in_for_it() {
        let read =
            |text: &str| Config::parse(&format!("[locks]\nbackend = \"redis\"\n{text}"), "my.toml");
        let keeping = read("when_away = \"static_owner_only\"\nstatic_owner = \"exec-1\"\n");
        let LockKeeping::Redis(redis) = keeping.unwrap().locks.keeping else { panic!("redis") };
        assert_eq!(redis.when_away, WhenAway::StaticOwnerOnly("exec-1".into()));
        assert_eq!(redis.urls, ["redis://127.0.0.1:6379"]);
        for (text, named) in [
            ("when_away = \"static_owner_only\"", "name a node"),
            ("redis_urls = []", "locks.redis_urls"),
            ("redis_urls = [\"redis://:secret@h:1\"]", "locks.redis_password_file"),
        ] {
            let problems = read(text).unwrap_err().to_string();
            assert!(problems.contains(named), "{problems}");
        }
    }
}
