//! Which depth snapshot to fetch next, and when: a book that is kept from differences begins with one.
//!
//! ```text
//! a book waits ─▶ on_wanted ─┐
//!                            ├─▶ SnapshotRequests ─▶ on_wake: fetch that one now
//! body, or failure ──────────┘
//! ```
//!
//! Whether a snapshot fits the differences is not judged here but where the book is kept: one that is too
//! old leaves the book waiting, and it is wanted again.
//!
//! # Invariants
//!
//! 1. One request at a time, and two never begin within [`SnapshotPolicy::interval`]: venues count
//!    them, and ban who asks too often.
//! 2. What is wanted is fetched again until it is there or the connection ends; each time in a row, for
//!    one symbol, after a longer wait.
//! 3. After a venue has said "too many", nothing is asked for the longest wait, or for as long as the
//!    venue says.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::domain::{Backoff, Span, Symbol, Timestamp};

/// Levels of a side to ask for: enough that the top is known for long, and cheap at the venue.
const LEVELS: u32 = 500;

/// Longest wait that a venue is believed to ask for; a ban for longer shows in its next answer.
const RETRY_AFTER_MAX: Span = Span::from_secs(600);

/// How snapshots are fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotPolicy {
    /// Waits between requests for one symbol.
    pub backoff: Backoff,
    /// Time between the beginnings of two requests, at least.
    pub interval: Span,
    /// Longest time for a request, from its name's look-up to the end of the answer.
    pub deadline: Span,
}

impl Default for SnapshotPolicy {
    fn default() -> Self {
        Self {
            backoff: Backoff { first: Span::from_millis(200), max: Span::from_secs(30) },
            interval: Span::from_secs(1),
            deadline: Span::from_secs(5),
        }
    }
}

/// Why there is no snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotFailure {
    /// No whole answer within [`SnapshotPolicy::deadline`].
    #[error("no answer in time")]
    Late,
    /// The venue could not be reached, or the connection broke.
    #[error("cannot be fetched: {detail}")]
    Unreachable {
        /// What the network said.
        detail: String,
    },
    /// The venue wants us to stay away for a while.
    #[error("told to come back later (status {status})")]
    Throttled {
        /// Of the answer: 429, or 418 for a ban.
        status: u16,
        /// How long, if the venue said so.
        retry_after: Option<Span>,
    },
    /// The venue refuses, or has trouble of its own.
    #[error("refused with status {status}")]
    Refused {
        /// Of the answer.
        status: u16,
    },
    /// An answer that is no snapshot.
    #[error("the answer is no snapshot")]
    Garbage,
}

/// What is known of one symbol's requests.
#[derive(Clone, Copy, Debug, Default)]
struct Wish {
    /// When to fetch; none when nothing is wanted.
    due: Option<Timestamp>,
    /// Requests in a row, each of which led to the next.
    attempts: u32,
    asked_at: Timestamp,
}

/// Decides for all symbols of one feed.
#[derive(Debug)]
pub struct SnapshotRequests {
    policy: SnapshotPolicy,
    /// At most [`SnapshotRequests::SYMBOL_COUNT_MAX`].
    wishes: BTreeMap<Symbol, Wish>,
    fetching: Option<Symbol>,
    not_before: Timestamp,
}

impl SnapshotRequests {
    /// Symbols that snapshots are fetched for; the venue allows 1,024 streams a connection.
    pub const SYMBOL_COUNT_MAX: usize = 2_048;

    /// Nothing is wanted yet.
    pub const fn new(policy: SnapshotPolicy) -> Self {
        Self {
            policy,
            wishes: BTreeMap::new(),
            fetching: None,
            not_before: Timestamp::from_nanos(0),
        }
    }

    /// The book of `symbol` waits for a snapshot. To say so again before it came changes nothing.
    pub fn on_wanted(&mut self, symbol: &Symbol, now: Timestamp) {
        let is_known = self.wishes.contains_key(symbol);
        if !is_known && self.wishes.len() >= Self::SYMBOL_COUNT_MAX || path_of(symbol).is_none() {
            return;
        }
        let backoff = self.policy.backoff;
        let wish = self.wishes.entry(symbol.clone()).or_default();
        if wish.due.is_some() {
            return;
        }
        if now.since(wish.asked_at) > backoff.max {
            wish.attempts = 0;
        }
        let wait = wish.attempts.checked_sub(1).map_or(Span::ZERO, |again| backoff.delay(again));
        wish.due = Some(now.after(wait));
    }

    /// The symbol whose snapshot is to be fetched now, if one is; then tell what became of it.
    pub fn on_wake(&mut self, now: Timestamp) -> Option<Symbol> {
        if self.fetching.is_some() || now < self.not_before {
            return None;
        }
        let due = |(symbol, wish): (&Symbol, &Wish)| Some((wish.due?, symbol.clone()));
        let (at, symbol) = self.wishes.iter().filter_map(due).min()?;
        if at > now {
            return None;
        }
        if let Some(wish) = self.wishes.get_mut(&symbol) {
            wish.attempts = wish.attempts.saturating_add(1);
            wish.asked_at = now;
        }
        self.not_before = now.after(self.policy.interval);
        self.fetching = Some(symbol.clone());
        Some(symbol)
    }

    /// When something is due, unless something else happens before; never while one is fetched.
    pub fn wake_at(&self) -> Option<Timestamp> {
        if self.fetching.is_some() {
            return None;
        }
        let first = self.wishes.values().filter_map(|wish| wish.due).min()?;
        Some(first.max(self.not_before))
    }

    /// The snapshot came; returns whose it is.
    pub fn on_fetched(&mut self) -> Option<Symbol> {
        let symbol = self.fetching.take()?;
        if let Some(wish) = self.wishes.get_mut(&symbol) {
            wish.due = None;
        }
        Some(symbol)
    }

    /// It did not; returns whose it is, and how long until it is asked for again.
    pub fn on_failed(
        &mut self,
        failure: &SnapshotFailure,
        now: Timestamp,
    ) -> Option<(Symbol, Span)> {
        let symbol = self.fetching.take()?;
        let backoff = self.policy.backoff;
        if let SnapshotFailure::Throttled { retry_after, .. } = failure {
            let asked = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
            self.not_before = self.not_before.max(now.after(asked.max(backoff.max)));
        }
        let wish = self.wishes.get_mut(&symbol)?;
        let due = now.after(backoff.delay(wish.attempts.saturating_sub(1))).max(self.not_before);
        wish.due = Some(due);
        Some((symbol, due.since(now)))
    }

    /// The connection ended: its books are void. What the venue is spared is remembered.
    pub fn on_disconnected(&mut self) {
        self.fetching = None;
        for wish in self.wishes.values_mut() {
            wish.due = None;
        }
    }
}

/// Path and query of a symbol's snapshot; none for a symbol of another venue.
pub fn path_of(symbol: &Symbol) -> Option<String> {
    let path = match symbol.venue() {
        "BINANCE_SPOT" => "/api/v3/depth",
        "BINANCE_USDM" => "/fapi/v1/depth",
        "BINANCE_COINM" => "/dapi/v1/depth",
        _ => return None,
    };
    let name = symbol.as_str().strip_suffix(symbol.venue())?.strip_suffix('.')?;
    // A name comes from the feed: nothing of it may change what is asked.
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    is_plain.then(|| format!("{path}?symbol={name}&limit={LEVELS}"))
}

/// Whether `body` looks like a snapshot: an object with an update id and two sides.
pub fn is_snapshot(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Snapshot {
        #[serde(rename = "lastUpdateId")]
        _last: u64,
        #[serde(rename = "bids")]
        _bids: Vec<IgnoredAny>,
        #[serde(rename = "asks")]
        _asks: Vec<IgnoredAny>,
    }
    // A list would be read as an object's values in order.
    body.trim_ascii_start().first() == Some(&b'{')
        && serde_json::from_slice::<Snapshot>(body).is_ok()
}

/// The first of `streams` that gives no quote without snapshots: differences of a book, of a symbol
/// that tells its best prices by no other stream.
pub fn needs_snapshots(streams: &[String]) -> Option<&String> {
    let is_difference = |kind: &str| kind == "depth" || kind.starts_with("depth@");
    streams.iter().find(|stream| {
        let Some((name, kind)) = stream.split_once('@') else { return false };
        let ticker = format!("{name}@bookTicker");
        is_difference(kind) && !streams.contains(&ticker)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_nanos(millis * 1_000_000)
    }

    fn symbol(name: &str) -> Symbol {
        Symbol::new(name).unwrap()
    }

    fn bitcoin() -> Symbol {
        symbol("BTCUSDT.BINANCE_SPOT")
    }

    fn requests(interval_ms: u64) -> SnapshotRequests {
        SnapshotRequests::new(SnapshotPolicy {
            backoff: Backoff { first: Span::from_millis(100), max: Span::from_millis(1_000) },
            interval: Span::from_millis(interval_ms),
            deadline: Span::from_secs(5),
        })
    }

    #[test]
    fn the_first_is_fetched_at_once_and_one_at_a_time() {
        let mut requests = requests(50);
        let ether = symbol("ETHUSDT.BINANCE_SPOT");
        requests.on_wanted(&ether, at(5));
        requests.on_wanted(&bitcoin(), at(6));
        requests.on_wanted(&ether, at(7));
        assert_eq!(requests.wake_at(), Some(at(5)));
        assert_eq!(requests.on_wake(at(7)), Some(ether.clone()));
        assert_eq!((requests.on_wake(at(90)), requests.wake_at()), (None, None));
        assert_eq!(requests.on_fetched(), Some(ether));
        assert_eq!(requests.wake_at(), Some(at(57)), "not within the interval");
        assert_eq!(requests.on_wake(at(56)), None);
        assert_eq!(requests.on_wake(at(57)), Some(bitcoin()));
        requests.on_fetched();
        assert_eq!(requests.wake_at(), None);
    }

    #[test]
    fn what_fails_and_what_does_not_fit_is_asked_for_less_and_less_often() {
        let mut requests = requests(0);
        requests.on_wanted(&bitcoin(), at(0));
        let mut now = at(0);
        for wait in [100, 200, 400] {
            assert_eq!(requests.on_wake(now), Some(bitcoin()));
            let failed = requests.on_failed(&SnapshotFailure::Late, now);
            assert_eq!(failed, Some((bitcoin(), Span::from_millis(wait))));
            now = requests.wake_at().unwrap();
        }
        assert_eq!(requests.on_wake(now), Some(bitcoin()));
        requests.on_fetched();
        // Too old: the book wants another.
        requests.on_wanted(&bitcoin(), now);
        assert_eq!(requests.wake_at(), Some(now.after(Span::from_millis(800))));
        now = requests.wake_at().unwrap();
        assert_eq!(requests.on_wake(now), Some(bitcoin()));
        requests.on_fetched();
        // A gap long after that has nothing to do with it.
        now = now.after(Span::from_millis(1_001));
        requests.on_wanted(&bitcoin(), now);
        assert_eq!(requests.wake_at(), Some(now));
    }

    #[test]
    fn a_venue_that_throttles_is_asked_for_nothing_as_long_as_it_says() {
        for (seconds, expected) in [(None, 1_000), (Some(7), 7_000), (Some(90_000), 600_000)] {
            let mut requests = requests(0);
            requests.on_wanted(&bitcoin(), at(0));
            requests.on_wake(at(0));
            let retry_after = seconds.map(Span::from_secs);
            let failure = SnapshotFailure::Throttled { status: 429, retry_after };
            let (_, wait) = requests.on_failed(&failure, at(0)).unwrap();
            assert_eq!(wait, Span::from_millis(expected));
            requests.on_wanted(&symbol("ETHUSDT.BINANCE_SPOT"), at(1));
            assert_eq!(requests.wake_at(), Some(at(expected)));
        }
    }

    #[test]
    fn nothing_is_wanted_after_a_connection_ended() {
        let mut requests = requests(0);
        requests.on_wanted(&bitcoin(), at(0));
        requests.on_wake(at(0));
        requests.on_disconnected();
        assert_eq!((requests.on_fetched(), requests.wake_at()), (None, None));
        requests.on_wanted(&bitcoin(), at(1));
        assert_eq!(requests.wake_at(), Some(at(101)), "but how often was asked is remembered");
    }

    #[test]
    fn symbols_have_the_address_of_their_market_and_others_none() {
        let path = |name: &str| path_of(&symbol(name));
        let spot = path("BTCUSDT.BINANCE_SPOT").unwrap();
        assert_eq!(spot, "/api/v3/depth?symbol=BTCUSDT&limit=500");
        assert!(
            path("BTCUSDT.BINANCE_USDM").unwrap().starts_with("/fapi/v1/depth?symbol=BTCUSDT&")
        );
        let coin = path("BTCUSD_PERP.BINANCE_COINM").unwrap();
        assert!(coin.starts_with("/dapi/v1/depth?symbol=BTCUSD_PERP&"));
        assert_eq!((path("IBM.US"), path("A.B.BINANCE_SPOT")), (None, None));
    }

    #[test]
    fn only_a_snapshot_is_one() {
        let whole = br#"{"lastUpdateId":5,"E":1,"bids":[["9","2"]],"asks":[]}"#;
        assert!(is_snapshot(whole));
        for body in [
            &whole[..20],
            b"",
            b"[5,[],[]]",
            b"<html>",
            br#"{"code":-1121,"msg":"Invalid symbol."}"#,
            br#"{"lastUpdateId":5,"bids":[]}"#,
            br#"{"lastUpdateId":-5,"bids":[],"asks":[]}"#,
        ] {
            assert!(!is_snapshot(body), "{}", body.escape_ascii());
        }
    }

    #[test]
    fn differences_need_snapshots_unless_a_ticker_tells_the_top() {
        let needs = |streams: &[&str]| {
            let streams: Vec<String> = streams.iter().map(|&stream| stream.to_owned()).collect();
            needs_snapshots(&streams).cloned()
        };
        assert_eq!(needs(&["a@trade", "a@depth@100ms"]).unwrap(), "a@depth@100ms");
        assert_eq!(needs(&["b@bookTicker", "a@depth"]).unwrap(), "a@depth");
        assert_eq!(needs(&["a@depth", "a@bookTicker"]), None);
        assert_eq!(needs(&["a@depth20@100ms", "a@trade"]), None, "each of these is whole");
    }
}
