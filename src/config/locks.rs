//! `[locks]`: who keeps locks, and what one stands for.

use super::settings::Settings;
use crate::domain::{LockGranularity, Span};

/// Who keeps the locks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockKeeping {
    /// Each process for itself.
    None,
    /// The ledger.
    Ledger,
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
}
