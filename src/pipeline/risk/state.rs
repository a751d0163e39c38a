//! What risk remembers: all of it goes into checkpoints.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::approved::OpenOrder;
use super::bucket::Bucket;
use super::limits::{MoneyLimits, TradingState};
use crate::domain::{
    Instrument, Money, Position, Price, Quantity, Side, StrategyId, Symbol, Timestamp, TopOfBook,
};

/// Everything a checker has learned; the limits it is held to are not part of it. Opaque: store it
/// in a checkpoint, and give it back to [`RiskChecker::restore`](super::RiskChecker::restore).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RiskState {
    /// Every symbol defined, in order of first appearance. Bounded by what the sources define.
    pub(super) instruments: Vec<Arc<Instrument>>,
    /// Per source, per symbol number: place in `instruments`, or [`UNDEFINED`].
    pub(super) sources: Vec<Vec<u32>>,
    /// By instrument.
    pub(super) books: Vec<TopOfBook>,
    /// By [`AccountId`](crate::domain::AccountId). Bounded by configuration.
    pub(super) accounts: Vec<Account>,
    /// By [`StrategyId`]. Bounded by the highest that ever signalled.
    pub(super) strategies: Vec<StrategyState>,
    /// By venue, in order of first appearance.
    pub(super) venues: Vec<Bucket>,
    /// Ascending by id. Bounded by `live_orders_max` per account, by `slot_orders_max` per slot.
    pub(super) open: Vec<OpenOrder>,
    /// Everything is killed.
    pub(super) killed: bool,
    /// Killed symbols, defined or not. Bounded by what operators name.
    pub(super) killed_symbols: BTreeSet<Symbol>,
    /// What happens cannot be recorded just now.
    pub(super) opening_denied: bool,
    /// Next revaluation or end of an account's day, whichever is first.
    pub(super) wake_at: Timestamp,
    /// Orders approved.
    pub(super) approved: u64,
    /// Denials by [`DenialCode`](super::DenialCode).
    pub(super) denied: Vec<u64>,
}

/// No instrument has this place.
pub(super) const UNDEFINED: u32 = u32::MAX;

/// What is remembered of one strategy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StrategyState {
    pub(super) rate: Bucket,
    pub(super) killed: bool,
    pub(super) approved: u64,
    pub(super) denied: Vec<u64>,
}

/// What is remembered of one account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Account {
    pub(super) rate: Bucket,
    /// By instrument.
    pub(super) holdings: Vec<Holding>,
    /// By currency, in order of first appearance.
    pub(super) totals: Vec<CurrencyTotals>,
    /// When its day ends.
    pub(super) day_end: Timestamp,
    pub(super) orders_today: u32,
    pub(super) cancels_today: u32,
    pub(super) live: u32,
    /// What the operator set.
    pub(super) state: TradingState,
    pub(super) killed: bool,
}

/// What an account has and has asked for in one instrument.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Holding {
    pub(super) position: Position,
    /// Per side: what open orders may still fill, positive.
    pub(super) open: [Quantity; 2],
    /// Per side: open orders.
    pub(super) live: [u32; 2],
    /// Per side: those among them whose outcome is unknown.
    pub(super) unknown: [u32; 2],
    /// Per side: the newest approved order.
    pub(super) recent: [Option<Recent>; 2],
    /// What the day's price limit is measured from.
    pub(super) day_reference: Option<Price>,
    pub(super) value: Value,
}

/// The part of an approved order that its duplicate would share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Recent {
    pub(super) strategy: StrategyId,
    pub(super) quantity: Quantity,
    pub(super) limit_price: Price,
    pub(super) at: Timestamp,
}

/// What a holding was worth when it was last looked at: its part in its currency's totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Value {
    /// The price it was valued at.
    pub(super) mark: Option<Price>,
    pub(super) gross: Money,
    pub(super) longest: Money,
    pub(super) shortest: Money,
    pub(super) margin: Money,
    pub(super) unrealised: Money,
}

/// An account's money in one currency. Exposures count open orders as if they filled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CurrencyTotals {
    /// Sum over instruments of the larger of what it could be long and short; positive.
    pub gross: Money,
    /// Balance if all open buys and no open sells fill; long positive.
    pub longest: Money,
    /// Balance if all open sells and no open buys fill.
    pub shortest: Money,
    /// What must be held for `gross`.
    pub margin: Money,
    /// Profit of what is held at the last marks.
    pub unrealised: Money,
    /// Profit of what was closed, before fees.
    pub realised: Money,
    /// Fees paid.
    pub fees: Money,
    /// Equity when the account's day began, or when the account was last re-armed.
    pub day_start: Money,
    /// The highest equity since the start, or since the account was last re-armed.
    pub peak: Money,
    /// The day has cost more than it may.
    pub(super) loss_breached: bool,
    /// Equity has fallen further below its peak than it may.
    pub(super) drawdown_breached: bool,
}

impl CurrencyTotals {
    /// Profit so far, after fees: what the account has made since the start.
    pub fn equity(&self) -> Money {
        self.realised - self.fees + self.unrealised
    }

    /// What today has cost; negative when it has earned.
    pub fn daily_loss(&self) -> Money {
        self.day_start - self.equity()
    }

    /// How far equity is below its peak.
    pub fn drawdown(&self) -> Money {
        self.peak - self.equity()
    }

    /// Whether losses have cost more than they may, today or since the peak, and that was not lifted.
    pub const fn is_breached(&self) -> bool {
        self.loss_breached || self.drawdown_breached
    }
}

/// The side's place in the pairs above.
pub(super) const fn side_index(side: Side) -> usize {
    match side {
        Side::Buy => 0,
        Side::Sell => 1,
    }
}

impl Holding {
    /// The position if every open buy fills and no open sell does.
    pub(super) fn longest(&self) -> Quantity {
        self.position.quantity.saturating_add(self.open[0])
    }

    /// The position if every open sell fills and no open buy does.
    pub(super) fn shortest(&self) -> Quantity {
        self.position.quantity.saturating_add(-self.open[1])
    }

    /// Whether an order can only bring the position nearer to zero, whichever open orders fill.
    pub(super) fn is_reduced_by(&self, side: Side, quantity: Quantity) -> bool {
        let held = self.position.quantity;
        match side {
            Side::Buy => held.0 < 0 && self.longest().saturating_add(quantity).0 <= 0,
            Side::Sell => held.0 > 0 && self.shortest().saturating_add(-quantity).0 >= 0,
        }
    }

    /// What the holding is worth at `mark`, if open orders could make it this long and this short.
    pub(super) fn value_at(
        &self,
        instrument: &Instrument,
        margin_nanos: i64,
        mark: Price,
        (longest, shortest): (Quantity, Quantity),
    ) -> Value {
        // Long is positive here for inverse contracts too, whose `Instrument::value` is not.
        let worth = |quantity: Quantity| {
            let size = instrument.notional(mark, quantity.abs());
            if quantity.0 < 0 { -size } else { size }
        };
        let held = self.position.quantity;
        let long = if longest == Quantity::ZERO { Money::ZERO } else { worth(longest) };
        let short = if shortest == longest { long } else { worth(shortest) };
        let gross = long.abs().max(short.abs());
        let margin = if margin_nanos == 1_000_000_000 { gross } else { gross.scaled(margin_nanos) };
        let unrealised = if held == Quantity::ZERO {
            Money::ZERO
        } else {
            self.position.unrealised(instrument, mark)
        };
        Value { mark: Some(mark), gross, longest: long, shortest: short, margin, unrealised }
    }
}

impl Account {
    /// The state that losses in a currency and the operator leave the account in there. Money in one
    /// currency is no measure of another's, so what one has lost stops nobody in the next.
    pub(super) fn effective_state(
        &self,
        currency: usize,
        breach_state: TradingState,
    ) -> TradingState {
        let is_breached = self.totals.get(currency).is_some_and(CurrencyTotals::is_breached);
        if is_breached { self.state.max(breach_state) } else { self.state }
    }

    /// Puts `value` in the place of what the holding was worth before, and looks at the losses.
    pub(super) fn revalue(
        &mut self,
        index: usize,
        currency: usize,
        value: Value,
        money: &MoneyLimits,
    ) {
        let before = std::mem::replace(&mut self.holdings[index].value, value);
        let totals = &mut self.totals[currency];
        totals.gross += value.gross - before.gross;
        totals.longest += value.longest - before.longest;
        totals.shortest += value.shortest - before.shortest;
        totals.margin += value.margin - before.margin;
        totals.unrealised += value.unrealised - before.unrealised;
        self.watch(currency, money);
    }

    /// Notes a new peak, and whether the day or the fall from the peak cost more than they may.
    pub(super) fn watch(&mut self, currency: usize, money: &MoneyLimits) {
        let totals = &mut self.totals[currency];
        totals.peak = totals.peak.max(totals.equity());
        totals.loss_breached |= is_beyond(totals.daily_loss(), money.daily_loss_max);
        totals.drawdown_breached |= is_beyond(totals.drawdown(), money.drawdown_max);
    }

    /// Begins a day that ends at `day_end`.
    pub(super) fn begin_day(&mut self, day_end: Timestamp, marks: &[TopOfBook], is_lifted: bool) {
        self.day_end = day_end;
        (self.orders_today, self.cancels_today) = (0, 0);
        for totals in &mut self.totals {
            totals.day_start = totals.equity();
            totals.loss_breached &= !is_lifted;
        }
        for (holding, book) in self.holdings.iter_mut().zip(marks) {
            holding.day_reference = mark(book);
        }
    }

    /// Lifts what losses did, and measures them from now on.
    pub(super) fn forgive(&mut self) {
        self.state = TradingState::Active;
        for totals in &mut self.totals {
            (totals.loss_breached, totals.drawdown_breached) = (false, false);
            totals.day_start = totals.equity();
            totals.peak = totals.equity();
        }
    }
}

/// Whether `amount` is more than `limit`; zero is no limit.
pub(super) fn is_beyond(amount: Money, limit: Money) -> bool {
    limit > Money::ZERO && amount > limit
}

/// The price a holding is valued at: the last trade, else the middle of the book, else its one side.
pub(super) fn mark(top: &TopOfBook) -> Option<Price> {
    top.mark()
}
