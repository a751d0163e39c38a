//! The checks, one function per group, in the order of [`DenialCode`].

use super::denial::{Denial, DenialCode as Code, Measure};
use super::limits::TradingState;
use super::state::{Account, Holding, Value, is_beyond, mark, side_index};
use super::{NANOS_PER_MS, RiskChecker, Terms};
use crate::domain::{
    Instrument, InstrumentIndex, Key, Money, Order, Price, Quantity, Side, Signal, Timestamp,
    TopOfBook,
};

/// One in steps of 1e-9.
const ONE: i128 = 1_000_000_000;

/// Whether each order rate had a token left. Taken before the checks, because refused orders count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tokens {
    strategy: bool,
    account: bool,
    venue: bool,
}

/// An order in the making, beside what it is held to.
struct Candidate<'a> {
    now: Timestamp,
    order: Order,
    instrument: &'a Instrument,
    terms: &'a Terms,
    account: &'a Account,
    holding: &'a Holding,
    top: &'a TopOfBook,
    /// The row that its price was taken from.
    priced_at: Key,
    /// Whether it can only bring the position nearer to zero.
    reduces: bool,
}

impl RiskChecker {
    /// Takes a token of every rate that `signal` falls under.
    pub(super) fn take_tokens(&mut self, signal: &Signal, now: Timestamp) -> Tokens {
        let account = usize::from(self.limits.account_of(signal.strategy).0);
        let index = self.index_of(signal.id.key.source, signal.symbol);
        let venue = index.map(|index| self.terms[index.index()].venue);
        let state = &mut self.state;
        let strategy = &mut state.strategies[usize::from(signal.strategy.0)].rate;
        Tokens {
            strategy: strategy.take(self.limits.rate_strategy, now),
            account: state.accounts[account].rate.take(self.limits.rate_account, now),
            venue: venue.is_none_or(|venue| state.venues[venue].take(self.limits.rate_venue, now)),
        }
    }

    /// Runs every check. Returns the order, and what its holding is worth with it.
    pub(super) fn judge(
        &self,
        signal: &Signal,
        now: Timestamp,
        tokens: Tokens,
    ) -> Result<(Order, Value), Denial> {
        let candidate = self.candidate(signal, now)?;
        candidate.check_quantity(signal)?;
        candidate.check_order_value()?;
        candidate.check_price()?;
        let value = self.check_exposure(&candidate)?;
        if candidate.order.reduce_only && !candidate.reduces {
            return Err(Denial::of(Code::ReduceOnly));
        }
        self.check_pace(&candidate, tokens)?;
        self.check_conflicts(&candidate)?;
        self.check_standing(&candidate)?;
        self.check_time(&candidate)?;
        self.check_slot(&candidate)?;
        if self.state.opening_denied && !candidate.reduces {
            return Err(Denial::of(Code::RecordsFull));
        }
        Ok((candidate.order, value))
    }

    /// Instrument, session, price: what there must be to speak of an order.
    fn candidate(&self, signal: &Signal, now: Timestamp) -> Result<Candidate<'_>, Denial> {
        let index = self
            .index_of(signal.id.key.source, signal.symbol)
            .ok_or(Denial::of(Code::InstrumentUnknown))?;
        let place = index.index();
        let instrument = &*self.state.instruments[place];
        if !instrument.session.is_open(now) {
            return Err(Denial::of(Code::SessionClosed));
        }
        let (terms, top) = (&self.terms[place], &self.state.books[place]);
        let (reference, priced_at) = reference(top, signal.side);
        let reference =
            reference.filter(|price| price.0 > 0).ok_or(Denial::of(Code::PriceMissing))?;
        let slippage = terms.class.slippage_nanos;
        let limit_price = marketable(reference, signal.side, slippage, instrument.tick_size)
            .ok_or(Denial::of(Code::PriceStep))?;
        let account_id = self.limits.account_of(signal.strategy);
        let account = &self.state.accounts[usize::from(account_id.0)];
        let holding = &account.holdings[place];
        let mut order = order(signal, account_id, index, instrument, limit_price);
        let reduces = holding.is_reduced_by(order.side, order.quantity);
        order.reduces = reduces;
        Ok(Candidate { now, order, instrument, terms, account, holding, top, priced_at, reduces })
    }

    /// Position, gross, net, concentration, margin: all as if every open order filled. Returns what
    /// the holding is worth with this one.
    fn check_exposure(&self, candidate: &Candidate<'_>) -> Result<Value, Denial> {
        let Candidate { order, instrument, terms, account, holding, top, .. } = candidate;
        let quantity = order.side.signed(order.quantity);
        let (mut longest, mut shortest) = (holding.longest(), holding.shortest());
        match order.side {
            Side::Buy => longest = longest.saturating_add(quantity),
            Side::Sell => shortest = shortest.saturating_add(quantity),
        }
        let mark = mark(top).ok_or(Denial::of(Code::PriceMissing))?;
        let bounds = (longest, shortest);
        let value = holding.value_at(instrument, terms.class.margin_nanos, mark, bounds);
        if candidate.reduces {
            return Ok(value);
        }

        // Only the side that the order extends: it cannot make the other worse.
        let extended = match order.side {
            Side::Buy => longest,
            Side::Sell => -shortest,
        };
        let lots = |quantity: Quantity| Measure::count(quantity.0 / instrument.lot.0);
        if extended > terms.position_max {
            let (found, limit) = (lots(extended), lots(terms.position_max));
            return Err(Denial::beyond(Code::Position, found, limit));
        }
        if order.side == Side::Sell && !terms.class.short_allowed && shortest < Quantity::ZERO {
            return Err(Denial::beyond(Code::ShortSale, lots(-shortest), Measure::count(0)));
        }
        let (totals, before) = (&account.totals[terms.currency], &holding.value);
        let money = &terms.money;
        let gross = totals.gross - before.gross + value.gross;
        if is_beyond(gross, money.gross_exposure_max) {
            return Err(Denial::beyond(Code::GrossExposure, gross, money.gross_exposure_max));
        }
        let net = match order.side {
            Side::Buy => totals.longest - before.longest + value.longest,
            Side::Sell => -(totals.shortest - before.shortest + value.shortest),
        };
        if is_beyond(net, money.net_exposure_max) {
            return Err(Denial::beyond(Code::NetExposure, net, money.net_exposure_max));
        }
        self.check_concentration(gross, value.gross)?;
        let margin = totals.margin - before.margin + value.margin;
        self.check_margin(candidate, margin)?;
        Ok(value)
    }

    fn check_concentration(&self, gross: Money, of_instrument: Money) -> Result<(), Denial> {
        let max = self.limits.concentration_max_nanos;
        if max == 0 || gross <= self.limits.concentration_gross_min || gross == Money::ZERO {
            return Ok(());
        }
        if of_instrument.0.saturating_mul(ONE) > gross.0.saturating_mul(i128::from(max)) {
            let found = of_instrument.0.saturating_mul(ONE) / gross.0;
            let (found, limit) = (Measure::fraction(found), Measure::fraction(max.into()));
            return Err(Denial::beyond(Code::Concentration, found, limit));
        }
        Ok(())
    }

    fn check_margin(&self, candidate: &Candidate<'_>, margin: Money) -> Result<(), Denial> {
        let account = self.limits.accounts.get(usize::from(candidate.order.account.0));
        let Some(cash) = account.map(|account| &account.cash).filter(|cash| !cash.is_empty())
        else {
            return Ok(());
        };
        let held = cash.get(&candidate.instrument.currency).copied().unwrap_or_default();
        let available = held + candidate.account.totals[candidate.terms.currency].equity();
        if margin > available {
            return Err(Denial::beyond(Code::Margin, margin, available));
        }
        Ok(())
    }

    /// Order rates, the day's orders and cancels, open orders.
    fn check_pace(&self, candidate: &Candidate<'_>, tokens: Tokens) -> Result<(), Denial> {
        if candidate.reduces {
            return Ok(());
        }
        let limits = &self.limits;
        let rates = [
            (tokens.strategy, Code::RateStrategy, limits.rate_strategy),
            (tokens.account, Code::RateAccount, limits.rate_account),
            (tokens.venue, Code::RateVenue, limits.rate_venue),
        ];
        for (granted, code, rate) in rates {
            if !granted {
                let limit = Some(Measure::count(rate.per_second));
                return Err(Denial { code, found: None, limit });
            }
        }
        let account = candidate.account;
        check_count(Code::DailyOrders, account.orders_today, limits.orders_per_day_max)?;
        check_count(Code::DailyCancels, account.cancels_today, limits.cancels_per_day_max)?;
        check_count(Code::LiveOrders, account.live, limits.live_orders_max)
    }

    /// Duplicates and self-trade.
    fn check_conflicts(&self, candidate: &Candidate<'_>) -> Result<(), Denial> {
        let order = &candidate.order;
        if self.place_of(order.id).is_ok() {
            return Err(Denial::of(Code::Duplicate));
        }
        if let Some(recent) = &candidate.holding.recent[side_index(order.side)] {
            let age = candidate.now.as_nanos().saturating_sub(recent.at.as_nanos());
            let window = self.limits.duplicate_window_ms.saturating_mul(NANOS_PER_MS);
            let is_same = recent.strategy == order.strategy
                && recent.quantity == order.quantity
                && recent.limit_price == order.limit_price;
            if is_same && age < window {
                let (found, limit) = (Measure::nanos(age), Measure::nanos(window));
                return Err(Denial::beyond(Code::Duplicate, found, limit));
            }
        }
        if self.limits.self_trade_prevention && self.would_meet_own(order) {
            return Err(Denial::of(Code::SelfTrade));
        }
        Ok(())
    }

    fn would_meet_own(&self, order: &Order) -> bool {
        let (place, other) = (order.instrument.index(), side_index(order.side.opposite()));
        let is_possible =
            self.state.accounts.iter().any(|account| account.holdings[place].live[other] > 0);
        is_possible
            && self.state.open.iter().map(|open| open.approved.order()).any(|open| {
                open.instrument == order.instrument
                    && open.side != order.side
                    && match order.side {
                        Side::Buy => order.limit_price >= open.limit_price,
                        Side::Sell => order.limit_price <= open.limit_price,
                    }
            })
    }

    /// Symbol lists, losses, states, kill switches.
    fn check_standing(&self, candidate: &Candidate<'_>) -> Result<(), Denial> {
        let Candidate { account, terms, order, .. } = candidate;
        let state = account.effective_state(terms.currency, self.limits.breach_state);
        if !candidate.reduces {
            if terms.is_denied {
                return Err(Denial::of(Code::SymbolDenied));
            }
            if !terms.is_allowed {
                return Err(Denial::of(Code::SymbolNotAllowed));
            }
            let (totals, money) = (&account.totals[terms.currency], &terms.money);
            if is_beyond(totals.drawdown(), money.drawdown_max) {
                let found = totals.drawdown();
                return Err(Denial::beyond(Code::Drawdown, found, money.drawdown_max));
            }
            if is_beyond(totals.daily_loss(), money.daily_loss_max) {
                let found = totals.daily_loss();
                return Err(Denial::beyond(Code::DailyLoss, found, money.daily_loss_max));
            }
            if state == TradingState::Reducing {
                return Err(Denial::of(Code::StateReducing));
            }
        }
        if state == TradingState::Halted {
            return Err(Denial::of(Code::StateHalted));
        }
        let strategy = &self.state.strategies[usize::from(order.strategy.0)];
        if self.state.killed || account.killed || strategy.killed || terms.is_killed {
            return Err(Denial::of(Code::KillSwitch));
        }
        Ok(())
    }

    /// Age of the price and of the signal, either way.
    fn check_time(&self, candidate: &Candidate<'_>) -> Result<(), Denial> {
        let now = candidate.now.as_nanos();
        let priced_at = candidate.priced_at.frontier.as_nanos();
        let signalled_at = candidate.order.id.key.frontier.as_nanos();
        let age = now.saturating_sub(priced_at.min(signalled_at));
        let age_max = candidate.terms.class.stale_ms.saturating_mul(NANOS_PER_MS);
        if age_max > 0 && age > age_max {
            let (found, limit) = (Measure::nanos(age), Measure::nanos(age_max));
            return Err(Denial::beyond(Code::StaleData, found, limit));
        }
        let ahead = priced_at.max(signalled_at).saturating_sub(now);
        let ahead_max = self.limits.clock_skew_max_ms.saturating_mul(NANOS_PER_MS);
        if ahead_max > 0 && ahead > ahead_max {
            let (found, limit) = (Measure::nanos(ahead), Measure::nanos(ahead_max));
            return Err(Denial::beyond(Code::ClockSkew, found, limit));
        }
        Ok(())
    }

    /// Whether the order's slot is free. Orders of unknown outcome are told apart from busy ones.
    fn check_slot(&self, candidate: &Candidate<'_>) -> Result<(), Denial> {
        let side = side_index(candidate.order.side);
        let unknown = candidate.holding.unknown[side];
        let known = candidate.holding.live[side] - unknown;
        check_count(Code::SlotBusy, known, self.limits.slot_orders_max)?;
        if unknown > 0 {
            return Err(Denial {
                code: Code::SlotUnknown,
                found: Some(Measure::count(unknown)),
                limit: None,
            });
        }
        Ok(())
    }
}

impl Candidate<'_> {
    /// Lot step, smallest and largest quantity.
    fn check_quantity(&self, signal: &Signal) -> Result<(), Denial> {
        let (quantity, instrument) = (self.order.quantity, self.instrument);
        if signal.lots == 0 || instrument.lot.0 <= 0 {
            return Err(Denial {
                code: Code::LotStep,
                found: Some(Measure::count(signal.lots)),
                limit: None,
            });
        }
        let measure = |quantity| Measure::quantity(quantity, instrument.quantity_decimals);
        if quantity < instrument.quantity_min {
            let limit = measure(instrument.quantity_min);
            return Err(Denial::beyond(Code::QuantityMin, measure(quantity), limit));
        }
        if quantity > instrument.quantity_max || quantity.0 == i64::MAX {
            let limit = measure(instrument.quantity_max);
            return Err(Denial::beyond(Code::QuantityMax, measure(quantity), limit));
        }
        Ok(())
    }

    fn check_order_value(&self) -> Result<(), Denial> {
        let money = &self.terms.money;
        if money.order_value_min == Money::ZERO && money.order_value_max == Money::ZERO {
            return Ok(());
        }
        let value = self.instrument.notional(self.order.limit_price, self.order.quantity);
        if value < money.order_value_min {
            return Err(Denial::beyond(Code::OrderValueMin, value, money.order_value_min));
        }
        if !self.reduces && is_beyond(value, money.order_value_max) {
            return Err(Denial::beyond(Code::OrderValueMax, value, money.order_value_max));
        }
        Ok(())
    }

    /// Collar and price limit.
    fn check_price(&self) -> Result<(), Denial> {
        let class = &self.terms.class;
        if class.collar_nanos > 0 {
            let base = self.collar_base().ok_or(Denial::of(Code::PriceMissing))?;
            self.check_distance(Code::Collar, base, class.collar_nanos)?;
        }
        if class.price_limit_nanos > 0 {
            let base = self.holding.day_reference.or_else(|| mark(self.top));
            let base = base.ok_or(Denial::of(Code::PriceMissing))?;
            self.check_distance(Code::PriceLimit, base, class.price_limit_nanos)?;
        }
        Ok(())
    }

    /// The last trade while it is fresh, else the middle of the book.
    fn collar_base(&self) -> Option<Price> {
        let age = self.now.as_nanos().saturating_sub(self.top.traded_at.frontier.as_nanos());
        let age_max = self.terms.class.stale_ms.saturating_mul(NANOS_PER_MS);
        if age_max > 0 && age > age_max && self.top.bid.is_some() && self.top.ask.is_some() {
            mark(&TopOfBook { last: None, ..*self.top })
        } else {
            mark(self.top)
        }
    }

    fn check_distance(&self, code: Code, base: Price, max: i64) -> Result<(), Denial> {
        let distance = i128::from(self.order.limit_price.0.abs_diff(base.0));
        if distance * ONE <= i128::from(base.0) * i128::from(max) {
            return Ok(());
        }
        let found = Measure::fraction(distance * ONE / i128::from(base.0).max(1));
        Err(Denial::beyond(code, found, Measure::fraction(max.into())))
    }
}

/// Denies when one more than `count` is too many; zero is no limit.
fn check_count(code: Code, count: u32, max: u32) -> Result<(), Denial> {
    if max > 0 && count >= max {
        let found = Measure::count(u64::from(count) + 1);
        return Err(Denial::beyond(code, found, Measure::count(max)));
    }
    Ok(())
}

/// The price that the other side asks, else the last trade; and the row it is from.
fn reference(top: &TopOfBook, side: Side) -> (Option<Price>, Key) {
    let far = match side {
        Side::Buy => top.ask,
        Side::Sell => top.bid,
    };
    match far {
        Some(price) => (Some(price), top.quoted_at),
        // A snapshot without this side tells the last price anew.
        None => (top.last, top.traded_at.max(top.quoted_at)),
    }
}

/// `reference` worsened by `slippage_nanos` and rounded to the tick size away from us: up for a buy,
/// down for a sell. None when that is no price above zero.
fn marketable(
    reference: Price,
    side: Side,
    slippage_nanos: i64,
    tick_size: Price,
) -> Option<Price> {
    if tick_size.0 <= 0 {
        return None;
    }
    let (reference, slippage) = (i128::from(reference.0), i128::from(slippage_nanos));
    let unit = ONE * i128::from(tick_size.0);
    let ticks = match side {
        Side::Buy => (reference * (ONE + slippage) + unit - 1) / unit,
        Side::Sell => reference * (ONE - slippage) / unit,
    };
    let price = i64::try_from(ticks * i128::from(tick_size.0)).ok()?;
    (price > 0).then_some(Price(price))
}

fn order(
    signal: &Signal,
    account: crate::domain::AccountId,
    index: InstrumentIndex,
    instrument: &Instrument,
    limit_price: Price,
) -> Order {
    Order {
        id: signal.id,
        strategy: signal.strategy,
        account,
        instrument: index,
        side: signal.side,
        quantity: Quantity(i64::from(signal.lots).saturating_mul(instrument.lot.0)),
        limit_price,
        reduce_only: signal.reduce_only,
        reduces: false,
    }
}
