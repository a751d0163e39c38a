//! Why an order may not leave.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::domain::{Money, Quantity, decimal};

/// The check that an order failed; when it fails several, the first in the order declared here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DenialCode {
    /// The symbol was never defined in the signal's source.
    InstrumentUnknown,
    /// The instrument's session is closed.
    SessionClosed,
    /// There is no price above zero to make an order from.
    PriceMissing,
    /// No limit price above zero on the instrument's tick size can be made.
    PriceStep,
    /// The quantity is not a positive number of lots.
    LotStep,
    /// Below the instrument's smallest quantity.
    QuantityMin,
    /// Above the instrument's largest quantity.
    QuantityMax,
    /// Below [`order_value_min`](super::MoneyLimits::order_value_min).
    OrderValueMin,
    /// Above [`order_value_max`](super::MoneyLimits::order_value_max).
    OrderValueMax,
    /// Beyond [`collar_nanos`](super::ClassLimits::collar_nanos).
    Collar,
    /// Beyond [`price_limit_nanos`](super::ClassLimits::price_limit_nanos).
    PriceLimit,
    /// Beyond [`position_max_lots`](super::RiskLimits::position_max_lots).
    Position,
    /// Sells more than is held where [`short_allowed`](super::ClassLimits::short_allowed) is off.
    ShortSale,
    /// Above [`gross_exposure_max`](super::MoneyLimits::gross_exposure_max).
    GrossExposure,
    /// Above [`net_exposure_max`](super::MoneyLimits::net_exposure_max).
    NetExposure,
    /// Above [`concentration_max_nanos`](super::RiskLimits::concentration_max_nanos).
    Concentration,
    /// More than the account's cash and profit can carry.
    Margin,
    /// Meant only to reduce, and would not.
    ReduceOnly,
    /// Above [`rate_strategy`](super::RiskLimits::rate_strategy).
    RateStrategy,
    /// Above [`rate_account`](super::RiskLimits::rate_account).
    RateAccount,
    /// Above [`rate_venue`](super::RiskLimits::rate_venue).
    RateVenue,
    /// Above [`orders_per_day_max`](super::RiskLimits::orders_per_day_max).
    DailyOrders,
    /// [`cancels_per_day_max`](super::RiskLimits::cancels_per_day_max) is used up.
    DailyCancels,
    /// Above [`live_orders_max`](super::RiskLimits::live_orders_max).
    LiveOrders,
    /// The same order again within [`duplicate_window_ms`](super::RiskLimits::duplicate_window_ms),
    /// or the id of an open one.
    Duplicate,
    /// Would trade with an open order of ours.
    SelfTrade,
    /// The symbol is in [`symbols_denied`](super::RiskLimits::symbols_denied).
    SymbolDenied,
    /// The symbol is not in [`symbols_allowed`](super::RiskLimits::symbols_allowed).
    SymbolNotAllowed,
    /// The account is more than [`drawdown_max`](super::MoneyLimits::drawdown_max) below its best.
    Drawdown,
    /// The account lost more than [`daily_loss_max`](super::MoneyLimits::daily_loss_max) today.
    DailyLoss,
    /// The account may only reduce, by an operator's word or after losses in the order's currency.
    StateReducing,
    /// The account may not trade, for one of the same reasons.
    StateHalted,
    /// A kill switch is on: of the account, the strategy, the symbol, or all.
    KillSwitch,
    /// The price or the signal is older than [`stale_ms`](super::ClassLimits::stale_ms).
    StaleData,
    /// The price or the signal is further ahead than
    /// [`clock_skew_max_ms`](super::RiskLimits::clock_skew_max_ms).
    ClockSkew,
    /// [`slot_orders_max`](super::RiskLimits::slot_orders_max) orders are open in the slot.
    SlotBusy,
    /// The outcome of an order in the slot is unknown.
    SlotUnknown,
    /// A cancel for an order that is not open.
    OrderUnknown,
    /// So much waits to be recorded that nothing may be opened.
    RecordsFull,
}

impl DenialCode {
    /// Every code, in the order of the checks.
    pub const ALL: [Self; 39] = [
        Self::InstrumentUnknown,
        Self::SessionClosed,
        Self::PriceMissing,
        Self::PriceStep,
        Self::LotStep,
        Self::QuantityMin,
        Self::QuantityMax,
        Self::OrderValueMin,
        Self::OrderValueMax,
        Self::Collar,
        Self::PriceLimit,
        Self::Position,
        Self::ShortSale,
        Self::GrossExposure,
        Self::NetExposure,
        Self::Concentration,
        Self::Margin,
        Self::ReduceOnly,
        Self::RateStrategy,
        Self::RateAccount,
        Self::RateVenue,
        Self::DailyOrders,
        Self::DailyCancels,
        Self::LiveOrders,
        Self::Duplicate,
        Self::SelfTrade,
        Self::SymbolDenied,
        Self::SymbolNotAllowed,
        Self::Drawdown,
        Self::DailyLoss,
        Self::StateReducing,
        Self::StateHalted,
        Self::KillSwitch,
        Self::StaleData,
        Self::ClockSkew,
        Self::SlotBusy,
        Self::SlotUnknown,
        Self::OrderUnknown,
        Self::RecordsFull,
    ];

    /// The code as reports spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InstrumentUnknown => "instrument_unknown",
            Self::SessionClosed => "session_closed",
            Self::PriceMissing => "price_missing",
            Self::PriceStep => "price_step",
            Self::LotStep => "lot_step",
            Self::QuantityMin => "quantity_min",
            Self::QuantityMax => "quantity_max",
            Self::OrderValueMin => "order_value_min",
            Self::OrderValueMax => "order_value_max",
            Self::Collar => "collar",
            Self::PriceLimit => "price_limit",
            Self::Position => "position",
            Self::ShortSale => "short_sale",
            Self::GrossExposure => "gross_exposure",
            Self::NetExposure => "net_exposure",
            Self::Concentration => "concentration",
            Self::Margin => "margin",
            Self::ReduceOnly => "reduce_only",
            Self::RateStrategy => "rate_strategy",
            Self::RateAccount => "rate_account",
            Self::RateVenue => "rate_venue",
            Self::DailyOrders => "daily_orders",
            Self::DailyCancels => "daily_cancels",
            Self::LiveOrders => "live_orders",
            Self::Duplicate => "duplicate",
            Self::SelfTrade => "self_trade",
            Self::SymbolDenied => "symbol_denied",
            Self::SymbolNotAllowed => "symbol_not_allowed",
            Self::Drawdown => "drawdown",
            Self::DailyLoss => "daily_loss",
            Self::StateReducing => "state_reducing",
            Self::StateHalted => "state_halted",
            Self::KillSwitch => "kill_switch",
            Self::StaleData => "stale_data",
            Self::ClockSkew => "clock_skew",
            Self::SlotBusy => "slot_busy",
            Self::SlotUnknown => "slot_unknown",
            Self::OrderUnknown => "order_unknown",
            Self::RecordsFull => "records_full",
        }
    }

    /// The code's place in [`DenialCode::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// What the two values of a [`Denial`] with this code are counted in.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::OrderValueMin
            | Self::OrderValueMax
            | Self::GrossExposure
            | Self::NetExposure
            | Self::Margin
            | Self::Drawdown
            | Self::DailyLoss => "of the currency",
            Self::LotStep | Self::Position | Self::ShortSale => "lots",
            Self::StaleData | Self::ClockSkew | Self::Duplicate => "s",
            Self::RateStrategy | Self::RateAccount | Self::RateVenue => "orders/s",
            Self::DailyOrders | Self::LiveOrders | Self::SlotBusy | Self::SlotUnknown => "orders",
            Self::DailyCancels => "cancels",
            Self::InstrumentUnknown
            | Self::SessionClosed
            | Self::PriceMissing
            | Self::PriceStep
            | Self::QuantityMin
            | Self::QuantityMax
            | Self::Collar
            | Self::PriceLimit
            | Self::Concentration
            | Self::ReduceOnly
            | Self::SelfTrade
            | Self::SymbolDenied
            | Self::SymbolNotAllowed
            | Self::StateReducing
            | Self::StateHalted
            | Self::RecordsFull
            | Self::KillSwitch
            | Self::OrderUnknown => "",
        }
    }
}

impl fmt::Display for DenialCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A decimal number, exact: `steps` times 10^-`decimals`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measure {
    /// The digits.
    pub steps: i128,
    /// How many of them are behind the point.
    pub decimals: u8,
}

impl Measure {
    /// A whole number.
    pub(super) fn count(count: impl Into<i128>) -> Self {
        Self { steps: count.into(), decimals: 0 }
    }

    /// Nanoseconds, shown in seconds.
    pub(super) fn nanos(nanos: u64) -> Self {
        Self { steps: nanos.into(), decimals: 9 }
    }

    /// A fraction in steps of 1e-9.
    pub(super) fn fraction(nanos: i128) -> Self {
        Self { steps: nanos, decimals: 9 }
    }

    /// A quantity of an instrument with so many decimals.
    pub(super) fn quantity(quantity: Quantity, decimals: u8) -> Self {
        Self { steps: quantity.0.into(), decimals }
    }
}

impl From<Money> for Measure {
    fn from(money: Money) -> Self {
        Self { steps: money.0, decimals: Money::DECIMALS }
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&decimal::format(self.steps, self.decimals))
    }
}

/// Why an order may not leave, with what was found and what is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denial {
    /// The check that failed.
    pub code: DenialCode,
    /// What the order would have made of it, in the [unit of the code](DenialCode::unit).
    pub found: Option<Measure>,
    /// What is allowed, in the same unit.
    pub limit: Option<Measure>,
}

impl Denial {
    /// A denial that no number explains.
    pub(super) const fn of(code: DenialCode) -> Self {
        Self { code, found: None, limit: None }
    }

    /// A denial because `found` is beyond `limit`.
    pub(super) fn beyond(
        code: DenialCode,
        found: impl Into<Measure>,
        limit: impl Into<Measure>,
    ) -> Self {
        Self { code, found: Some(found.into()), limit: Some(limit.into()) }
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = self.code.unit();
        let space = if unit.is_empty() { "" } else { " " };
        write!(f, "{}", self.code)?;
        match (self.found, self.limit) {
            (Some(found), Some(limit)) => {
                write!(f, ": {found} where the limit is {limit}{space}{unit}")
            }
            (Some(found), None) => write!(f, ": {found}{space}{unit}"),
            (None, Some(limit)) => write!(f, ": the limit is {limit}{space}{unit}"),
            (None, None) => Ok(()),
        }
    }
}

impl std::error::Error for Denial {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_stand_in_the_order_of_their_index_under_distinct_names() {
        for (index, code) in DenialCode::ALL.into_iter().enumerate() {
            assert_eq!(code.index(), index, "{code}");
        }
        let names: std::collections::BTreeSet<&str> =
            DenialCode::ALL.iter().map(|code| code.name()).collect();
        assert_eq!(names.len(), DenialCode::ALL.len());
    }

    #[test]
    fn a_denial_tells_what_was_found_and_what_is_allowed() {
        let found = Measure::count(101);
        let denial = Denial::beyond(DenialCode::Position, found, Measure::count(100));
        assert_eq!(denial.to_string(), "position: 101 where the limit is 100 lots");
        assert_eq!(Denial::of(DenialCode::KillSwitch).to_string(), "kill_switch");
        let stale = Denial::beyond(
            DenialCode::StaleData,
            Measure::nanos(10_500_000_000),
            Measure::nanos(10_000_000_000),
        );
        assert_eq!(stale.to_string(), "stale_data: 10.5 where the limit is 10 s");
    }
}
