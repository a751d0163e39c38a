//! What a paper broker is told before it starts.

use serde::{Deserialize, Serialize};

use crate::domain::{Class, Instrument, Quantity, Span};

/// Shortest time between an order's key and its effect. It is what lets the stages before the broker
/// know that nothing can come back within the step they are in.
pub const LATENCY_MIN: Span = Span::from_micros(1);

/// How one broker behaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaperBrokerConfig {
    /// From an order's key to its effect, and from a later trade to its report; at least one
    /// microsecond.
    pub latency_us: u64,
    /// Up to so much more, drawn per order.
    pub latency_jitter_us: u64,
    /// What a fill costs, as a fraction of its notional in steps of 1e-9: 400,000 is 4 basis points.
    pub fee_rate_nanos: i64,
    /// How much worse than the recorded price a fill is, as a fraction of it in steps of 1e-9: what our
    /// own order would have moved. Never beyond the order's limit.
    pub slippage_nanos: i64,
    /// Matching where the book is incomplete, in the order of [`Class::ALL`].
    pub rules: [MatchingRules; Class::ALL.len()],
    /// What goes wrong.
    pub faults: Faults,
}

/// How orders of one class are matched where the source does not say enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatchingRules {
    /// Where a price comes without a size, the size to assume, in lots. None assumes no limit.
    pub lots_when_size_missing: Option<u32>,
    /// Where the needed side of the book is missing, how long an order waits for the next trade.
    /// Zero does not wait.
    pub next_trade_within_us: u64,
}

/// Faults to inject. Which orders they hit is a function of (seed, broker, order id) alone. Refusals
/// are taken first, then disconnections, then time-outs; shares above a million are as good as all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults {
    /// Orders that the broker refuses because it takes nothing just now.
    pub refuse_per_million: u32,
    /// Orders for which the connection is not there.
    pub disconnect_per_million: u32,
    /// Orders whose answer does not come. Half of them never arrived.
    pub timeout_per_million: u32,
    /// How long after a time-out the broker has been asked and has answered.
    pub resolve_after_us: u64,
    /// The connection is not there from the first to the last of these orders, counted from 1 as
    /// they are placed with this broker.
    pub outage: Option<(u64, u64)>,
}

impl PaperBrokerConfig {
    /// The rules for `class`.
    pub const fn rules_of(&self, class: Class) -> MatchingRules {
        self.rules[class.index()]
    }

    /// The shortest latency that any order can have.
    pub fn latency_min(&self) -> Span {
        Span::from_micros(self.latency_us).max(LATENCY_MIN)
    }
}

impl MatchingRules {
    /// The rules that suit the feeds of `class` as we know them.
    pub const fn of_class(class: Class) -> Self {
        let lots_when_size_missing = match class {
            // Providers quote without size, and deal in millions.
            Class::Fx => None,
            Class::CryptoSpot
            | Class::CryptoLinear
            | Class::CryptoInverse
            | Class::EquityUs
            | Class::EquityCn
            | Class::FuturesCn
            | Class::Generic => Some(100),
        };
        Self { lots_when_size_missing, next_trade_within_us: 5_000_000 }
    }

    /// The size to assume for a price that comes without one.
    pub(super) fn assumed_size(&self, instrument: &Instrument) -> Quantity {
        Quantity(
            self.lots_when_size_missing
                .map_or(i64::MAX, |lots| instrument.lot.0.saturating_mul(i64::from(lots))),
        )
    }
}

impl Faults {
    /// Nothing goes wrong.
    pub const NONE: Self = Self {
        refuse_per_million: 0,
        disconnect_per_million: 0,
        timeout_per_million: 0,
        resolve_after_us: 1_000_000,
        outage: None,
    };
}

impl Default for Faults {
    fn default() -> Self {
        Self::NONE
    }
}

impl Default for PaperBrokerConfig {
    fn default() -> Self {
        Self {
            latency_us: 500,
            latency_jitter_us: 200,
            fee_rate_nanos: 50_000,
            slippage_nanos: 0,
            rules: Class::ALL.map(MatchingRules::of_class),
            faults: Faults::NONE,
        }
    }
}
