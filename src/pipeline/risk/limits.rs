//! What risk allows: read from `[risk]` of the configuration.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::domain::{AccountId, Class, Money, StrategyId, Symbol};

/// Every limit that orders are held to. Unless a field says otherwise, zero (or an empty set) means
/// that the check is off. Fractions are in steps of 1e-9: 50,000,000 is 5 %.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RiskLimits {
    /// Largest position per account and symbol, long or short, counting every open order as if it
    /// filled; in lots of the instrument.
    pub position_max_lots: u32,
    /// [`RiskLimits::position_max_lots`] of single symbols.
    pub position_max_lots_by_symbol: BTreeMap<Symbol, u32>,
    /// Limits in money, for every currency without an entry in `currencies`. Each currency is
    /// counted on its own: nothing is converted.
    pub money: MoneyLimits,
    /// Limits in money of single currencies, whole: nothing is taken over from `money`.
    pub currencies: BTreeMap<String, MoneyLimits>,
    /// Largest share of its currency's gross exposure that one instrument may take on; a fraction.
    pub concentration_max_nanos: i64,
    /// Gross exposure up to which concentration is not looked at, in the currency: the first
    /// instrument of a portfolio is always all of it.
    pub concentration_gross_min: Money,
    /// Limits by class, in the order of [`Class::ALL`].
    pub classes: [ClassLimits; Class::ALL.len()],
    /// Orders asked for per strategy, refused ones counted.
    pub rate_strategy: RateLimit,
    /// Orders asked for per account, refused ones counted.
    pub rate_account: RateLimit,
    /// Orders asked for per venue (what follows the last point of the symbol), refused ones counted.
    pub rate_venue: RateLimit,
    /// Most orders approved per account and day.
    pub orders_per_day_max: u32,
    /// Cancels per account and day from which on no new order is taken: it could not be cancelled
    /// without breaking a venue's rule. Cancels themselves always pass.
    pub cancels_per_day_max: u32,
    /// Most open orders per account at once.
    pub live_orders_max: u32,
    /// Most open orders at once per slot, which is (account, instrument, side). An order whose
    /// outcome is unknown blocks its slot whatever this says.
    pub slot_orders_max: u32,
    /// How long the same order (strategy, instrument, side, quantity, limit price) is taken for a
    /// mistake, in milliseconds of event time.
    pub duplicate_window_ms: u64,
    /// Whether an order may not meet an open one of ours, of whichever account.
    pub self_trade_prevention: bool,
    /// Symbols that may not be traded, except to reduce.
    pub symbols_denied: BTreeSet<Symbol>,
    /// The only symbols that may be traded, except to reduce; empty means all.
    pub symbols_allowed: BTreeSet<Symbol>,
    /// How far ahead of `now` a signal or a book may be, in milliseconds.
    pub clock_skew_max_ms: u64,
    /// What an account falls to, in that currency alone, when it loses more than a day or a drawdown
    /// may cost.
    pub breach_state: TradingState,
    /// Event time between two revaluations of what is held, in milliseconds; at least 1.
    pub revaluation_ms: u64,
    /// What is said of single accounts, by [`AccountId`]; the others have [`AccountLimits::default`].
    pub accounts: Vec<AccountLimits>,
    /// The account each strategy trades for, by [`StrategyId`]; the others trade for account 0.
    pub strategy_accounts: Vec<AccountId>,
}

/// Limits in one currency, the one that an instrument's profit is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoneyLimits {
    /// Smallest value of one order.
    pub order_value_min: Money,
    /// Largest value of one order.
    pub order_value_max: Money,
    /// Largest sum of what the instruments of an account could be worth, long and short alike.
    pub gross_exposure_max: Money,
    /// Largest balance of what is long and what is short in an account.
    pub net_exposure_max: Money,
    /// Most that an account may lose in a day, what is held included.
    pub daily_loss_max: Money,
    /// Most that an account may fall below the best it has had.
    pub drawdown_max: Money,
}

/// Limits that feeds and contracts of a class ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassLimits {
    /// How far the limit price may be from the last trade, else from the middle of the book; a
    /// fraction of it.
    pub collar_nanos: i64,
    /// How far the limit price may be from the day's reference price; a fraction of it. The
    /// reference is the mark when the account's day began; for a symbol that had none, the mark at
    /// the first revaluation that finds one.
    pub price_limit_nanos: i64,
    /// What an order gives way beyond the price it is made from, so that it still trades when the
    /// book moves on; a fraction of the price.
    pub slippage_nanos: i64,
    /// What must be held of an exposure's value; a fraction: 1,000,000,000 is fully paid. Counts only
    /// in accounts that [say what they hold](AccountLimits::cash).
    pub margin_nanos: i64,
    /// Oldest price that an order may be made from, in milliseconds of event time.
    pub stale_ms: u64,
    /// Whether more may be sold than is held, open sells counted as if they filled. Shares of the
    /// mainland may not unless they were borrowed.
    pub short_allowed: bool,
}

/// A token bucket: `burst` orders at once, then `per_second`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    /// Orders per second of event time in the long run; zero: no limit.
    pub per_second: u32,
    /// Orders at once; at least 1.
    pub burst: u32,
}

/// What is said of one account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountLimits {
    /// Where the account's day begins: seconds that its midnight is ahead of UTC's.
    pub utc_offset_seconds: i32,
    /// What it held at the start, by currency. Empty: cash and margin are not checked. Otherwise a
    /// currency that is not there is one of which it has none.
    pub cash: BTreeMap<String, Money>,
}

/// Which orders an account may place.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum TradingState {
    /// All that pass the checks.
    #[default]
    Active,
    /// Only those that bring a position nearer to zero.
    Reducing,
    /// None; cancels pass.
    Halted,
}

impl RiskLimits {
    /// The limits in `currency`.
    pub fn money_of(&self, currency: &str) -> MoneyLimits {
        self.currencies.get(currency).copied().unwrap_or(self.money)
    }

    /// The account that `strategy` trades for.
    pub fn account_of(&self, strategy: StrategyId) -> AccountId {
        self.strategy_accounts.get(usize::from(strategy.0)).copied().unwrap_or_default()
    }

    /// How many accounts the limits speak of; at least one.
    pub(super) fn account_count(&self) -> usize {
        let traded = self.strategy_accounts.iter().map(|account| usize::from(account.0) + 1).max();
        self.accounts.len().max(traded.unwrap_or(1))
    }
}

impl ClassLimits {
    /// What suits the feeds of `class`.
    pub fn of_class(class: Class) -> Self {
        let crypto =
            matches!(class, Class::CryptoSpot | Class::CryptoLinear | Class::CryptoInverse);
        Self {
            collar_nanos: 50_000_000,
            price_limit_nanos: 0,
            slippage_nanos: 500_000,
            margin_nanos: 1_000_000_000,
            stale_ms: if crypto { 10_000 } else { 30_000 },
            short_allowed: class != Class::EquityCn,
        }
    }
}

impl Default for MoneyLimits {
    fn default() -> Self {
        Self {
            order_value_min: Money::ZERO,
            order_value_max: Money::from_units(1_000_000),
            gross_exposure_max: Money::from_units(50_000_000),
            net_exposure_max: Money::from_units(50_000_000),
            daily_loss_max: Money::from_units(50_000),
            drawdown_max: Money::from_units(100_000),
        }
    }
}

impl Default for RiskLimits {
    fn default() -> Self {
        Self {
            position_max_lots: 100,
            position_max_lots_by_symbol: BTreeMap::new(),
            money: MoneyLimits::default(),
            currencies: BTreeMap::new(),
            concentration_max_nanos: 0,
            concentration_gross_min: Money::ZERO,
            classes: Class::ALL.map(ClassLimits::of_class),
            rate_strategy: RateLimit { per_second: 5, burst: 10 },
            rate_account: RateLimit { per_second: 50, burst: 100 },
            rate_venue: RateLimit { per_second: 50, burst: 100 },
            orders_per_day_max: 100_000,
            cancels_per_day_max: 100_000,
            live_orders_max: 100,
            slot_orders_max: 1,
            duplicate_window_ms: 500,
            self_trade_prevention: true,
            symbols_denied: BTreeSet::new(),
            symbols_allowed: BTreeSet::new(),
            clock_skew_max_ms: 5_000,
            breach_state: TradingState::Reducing,
            revaluation_ms: 1_000,
            accounts: Vec::new(),
            strategy_accounts: Vec::new(),
        }
    }
}
