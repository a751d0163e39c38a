//! Pre-trade risk: which orders may leave for the market.
//!
//! ```text
//! broker events due ─▶ on_event ─▶ reservations become positions, or are released
//! clean ticks ───────▶ on_tick ──▶ books, marks, time
//! signals ───────────▶ check ────▶ ApprovedOrder (sized, priced, reserved), or Denial
//! operators ─────────▶ trip, rearm, set_state; exposure, totals, open_orders
//! ```
//!
//! The caller feeds all of it in key order: broker events that are due, then ticks, then signals.
//! `now` is the frontier of the key. Every signal becomes an order of so many lots with a limit price
//! made from the book: the far side of it, else the last trade, and a little beyond, so that the
//! order trades. An approved order counts against the limits as if it had already filled, until the
//! broker says otherwise, so a burst of orders cannot add up to what none of them would have been
//! allowed alone.
//!
//! The checks come in the order of [`DenialCode`]; the first that fails is the one that is told.
//! Cancels pass them all. An order that can only bring its account's position nearer to zero,
//! whichever open orders fill, is spared those whose purpose is to keep exposure small:
//!
//! | Checks                                                                | Reducing orders |
//! |-----------------------------------------------------------------------|-----------------|
//! | instrument, session, price, lots, smallest and largest quantity, smallest value | are held to them: the venue would refuse |
//! | largest value                                                         | pass            |
//! | collar, price limit                                                   | are held to them: a wrong price hurts both ways |
//! | position, short sale, gross, net, concentration, margin               | pass            |
//! | order rates (their tokens are taken), daily orders and cancels, live orders | pass      |
//! | duplicates, self-trade                                                | are held to them |
//! | symbol lists, drawdown, daily loss, state REDUCING                    | pass            |
//! | state HALTED, kill switch, stale data, clock skew, slot               | are held to them |
//!
//! # Invariants
//!
//! 1. An [`ApprovedOrder`] exists only if every limit held when it was approved, and its limit price
//!    is a positive multiple of the tick size.
//! 2. For each account and instrument, the position after *any* subset of the open orders fills is
//!    within [`position_max_lots`](RiskLimits::position_max_lots). What can break it comes from
//!    outside (an overfill, a limit lowered at a restart), and then only reducing orders pass.
//! 3. A currency's totals are the sums over its instruments, and what they have lost is held against
//!    orders in that currency alone; no check looks at a batch.
//! 4. A restored checker equals the one that wrote the checkpoint, and goes on as it would have.
//! 5. A denial changes nothing but counters and rate tokens.
//! 6. While a kill switch is on, no order of its scope is approved, and only
//!    [`rearm`](RiskChecker::rearm) of the same scope turns it off.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::{
    BrokerEvent, BrokerEventKind, Definition, Fill, Instrument, InstrumentIndex, Order, OrderId,
    Price, Quantity, Signal, SourceId, StrategyId, Symbol, SymbolId, Tick, TickBatch, Timestamp,
    TopOfBook,
};

mod approved;
mod bucket;
mod check;
mod denial;
mod limits;
mod state;
mod switches;
mod views;

#[cfg(test)]
mod tests;

pub use approved::{ApprovedOrder, OpenOrder, OpenStatus};
pub use denial::{Denial, DenialCode, Measure};
pub use limits::{AccountLimits, ClassLimits, MoneyLimits, RateLimit, RiskLimits, TradingState};
pub use state::{CurrencyTotals, RiskState};
pub use views::Exposure;

use state::{Account, StrategyState, UNDEFINED, Value, side_index};

/// What follows from the limits for one instrument; made anew at every start.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Terms {
    currency: usize,
    venue: usize,
    /// In steps of the instrument; the largest number when there is no limit.
    position_max: Quantity,
    money: MoneyLimits,
    class: ClassLimits,
    is_denied: bool,
    is_allowed: bool,
    is_killed: bool,
}

/// Decides, signal by signal, and remembers what it let through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RiskChecker {
    limits: RiskLimits,
    state: RiskState,
    /// By instrument.
    terms: Vec<Terms>,
    by_symbol: BTreeMap<Symbol, u32>,
    currencies: Vec<String>,
    venues: Vec<String>,
}

impl RiskChecker {
    /// A checker that has seen nothing.
    pub fn new(limits: RiskLimits) -> Self {
        Self::restore(limits, RiskState::default())
    }

    /// The checker that `state` was taken from, held to `limits`.
    pub fn restore(limits: RiskLimits, state: RiskState) -> Self {
        let mut checker = Self {
            limits,
            state,
            terms: Vec::new(),
            by_symbol: BTreeMap::new(),
            currencies: Vec::new(),
            venues: Vec::new(),
        };
        checker.state.denied.resize(DenialCode::ALL.len(), 0);
        for index in 0..checker.state.instruments.len() {
            checker.learn(index);
        }
        checker.ensure_account(checker.limits.account_count() - 1);
        // Margins may have changed; with the same limits this changes nothing.
        for account in 0..checker.state.accounts.len() {
            for index in 0..checker.state.instruments.len() {
                if let Some(mark) = checker.state.accounts[account].holdings[index].value.mark {
                    checker.value(account, index, mark);
                }
            }
        }
        checker
    }

    /// What to keep in a checkpoint.
    pub const fn state(&self) -> &RiskState {
        &self.state
    }

    /// The limits orders are held to.
    pub const fn limits(&self) -> &RiskLimits {
        &self.limits
    }

    /// Takes in that `source` calls an instrument by a number; returns exec's own index of it, which
    /// is the same for every source that names the symbol. The first definition of a symbol counts.
    ///
    /// # Panics
    ///
    /// At the 2^32nd instrument.
    pub fn define(&mut self, source: SourceId, definition: &Definition) -> InstrumentIndex {
        let symbol = &definition.instrument.symbol;
        let index = match self.by_symbol.get(symbol) {
            Some(&index) => index,
            None => {
                let count = self.state.instruments.len();
                let index = u32::try_from(count).expect("symbols are numbered in 32 bits");
                self.state.instruments.push(Arc::clone(&definition.instrument));
                self.state.books.push(TopOfBook::default());
                self.learn(count);
                index
            }
        };
        let source = usize::from(source.0);
        if self.state.sources.len() <= source {
            self.state.sources.resize_with(source + 1, Vec::new);
        }
        let numbers = &mut self.state.sources[source];
        if numbers.len() <= definition.id.index() {
            numbers.resize(definition.id.index() + 1, UNDEFINED);
        }
        numbers[definition.id.index()] = index;
        InstrumentIndex(index)
    }

    /// The instrument at `index`.
    ///
    /// # Panics
    ///
    /// When no instrument has that index.
    pub fn instrument(&self, index: InstrumentIndex) -> &Arc<Instrument> {
        &self.state.instruments[index.index()]
    }

    /// Every instrument, by index.
    pub fn instruments(&self) -> &[Arc<Instrument>] {
        &self.state.instruments
    }

    /// The index of what `source` calls `symbol`.
    #[inline]
    pub fn index_of(&self, source: SourceId, symbol: SymbolId) -> Option<InstrumentIndex> {
        let numbers = self.state.sources.get(usize::from(source.0))?;
        let index = *numbers.get(symbol.index())?;
        (index != UNDEFINED).then_some(InstrumentIndex(index))
    }

    /// The index of the instrument named `symbol`.
    pub fn find(&self, symbol: &Symbol) -> Option<InstrumentIndex> {
        self.by_symbol.get(symbol).copied().map(InstrumentIndex)
    }

    /// Takes in a clean row: the book it leaves, and the time it brings.
    ///
    /// Books follow [`TopOfBook::apply`]. For shares of the United States, whose quotes come one side
    /// and one exchange at a time, that is a naive best: the newest quote of whichever exchange, not
    /// the best of all. A row whose symbol was never defined only moves time, as a boundary does.
    #[inline]
    pub fn on_tick(&mut self, batch: &TickBatch, row: &Tick) {
        let key = batch.key(row);
        // Before the row: a day's reference price is the last one of the day before.
        if key.frontier >= self.state.wake_at {
            self.wake(key.frontier);
        }
        let Some(index) = self.index_of(batch.source, row.symbol()) else { return };
        if let Some(book) = self.state.books.get_mut(index.index()) {
            book.apply(row, key);
        }
    }

    /// The top of the book of `index`; empty when there is none.
    #[inline]
    pub fn top(&self, index: InstrumentIndex) -> TopOfBook {
        self.state.books.get(index.index()).copied().unwrap_or_default()
    }

    /// Makes an order of `signal`, approves it and reserves its exposure; or says why not.
    ///
    /// # Errors
    ///
    /// The first check that fails, in the order of [`DenialCode`]. It is counted, and nothing but
    /// that and the order rates' tokens changes.
    pub fn check(&mut self, signal: &Signal, now: Timestamp) -> Result<ApprovedOrder, Denial> {
        if now >= self.state.wake_at {
            self.wake(now);
        }
        self.ensure_strategy(signal.strategy);
        let tokens = self.take_tokens(signal, now);
        let strategy = usize::from(signal.strategy.0);
        match self.judge(signal, now, tokens) {
            Ok((order, value)) => {
                self.state.approved += 1;
                self.state.strategies[strategy].approved += 1;
                Ok(self.reserve(order, value, now))
            }
            Err(denial) => {
                self.state.denied[denial.code.index()] += 1;
                self.state.strategies[strategy].denied[denial.code.index()] += 1;
                Err(denial)
            }
        }
    }

    /// Lets the cancel of an open order pass, and counts it in its account's day.
    ///
    /// # Errors
    ///
    /// [`DenialCode::OrderUnknown`] when no such order is open: there is nothing to cancel.
    pub fn cancel(&mut self, order: OrderId, now: Timestamp) -> Result<ApprovedOrder, Denial> {
        if now >= self.state.wake_at {
            self.wake(now);
        }
        let Ok(place) = self.place_of(order) else {
            let denial = Denial::of(DenialCode::OrderUnknown);
            self.state.denied[denial.code.index()] += 1;
            return Err(denial);
        };
        let open = &mut self.state.open[place];
        open.cancelling = true;
        let account = &mut self.state.accounts[usize::from(open.approved.account.0)];
        account.cancels_today = account.cancels_today.saturating_add(1);
        Ok(open.approved.clone())
    }

    /// Takes in what became of an order. Each event is to be given once.
    ///
    /// A refusal ends the order here: one that is answered by trying another broker must not be
    /// given. An event about an order that is not open changes nothing, except that a fill always
    /// moves the position.
    pub fn on_event(&mut self, event: &BrokerEvent) {
        if event.due >= self.state.wake_at {
            self.wake(event.due);
        }
        match event.kind {
            BrokerEventKind::Accepted => self.set_status(event.order, OpenStatus::Placed),
            BrokerEventKind::Unknown => self.set_status(event.order, OpenStatus::Unknown),
            BrokerEventKind::Filled(fill) => self.on_fill(&fill),
            BrokerEventKind::Refused(_) | BrokerEventKind::Closed { .. } => {
                if let Ok(place) = self.place_of(event.order) {
                    self.release(place);
                }
            }
        }
    }

    /// Moves a fill from its order's reservation to the position. What was not reserved (a venue
    /// that overfills, a fill after the end) moves the position all the same.
    fn on_fill(&mut self, fill: &Fill) {
        let (account, index) = (usize::from(fill.account.0), fill.instrument.index());
        if index >= self.state.instruments.len() {
            debug_assert!(false, "fill of an instrument that was never defined");
            return;
        }
        self.ensure_account(account);
        if let Ok(place) = self.place_of(fill.order) {
            let open = &mut self.state.open[place];
            let order = &open.approved;
            debug_assert_eq!((order.instrument, order.side), (fill.instrument, fill.side));
            let (side, index) = (side_index(order.side), order.instrument.index());
            let holding = &mut self.state.accounts[usize::from(order.account.0)].holdings[index];
            let settled = fill.quantity.min(open.remaining);
            holding.open[side].0 -= settled.0;
            open.remaining.0 -= settled.0;
            if open.remaining == Quantity::ZERO {
                self.release(place);
            } else {
                // Whatever was unknown of it: the broker has it.
                self.set_status(fill.order, OpenStatus::Placed);
            }
        }
        let currency = self.terms[index].currency;
        let entry = &mut self.state.accounts[account];
        let signed = fill.side.signed(fill.quantity);
        let instrument = &self.state.instruments[index];
        let earned = entry.holdings[index].position.trade(instrument, signed, fill.price);
        entry.totals[currency].realised += earned;
        entry.totals[currency].fees += fill.fee;
        let mark = state::mark(&self.state.books[index]).unwrap_or(fill.price);
        self.value(account, index, mark);
    }

    /// Makes room for instrument `index`, and works out what the limits mean for it.
    fn learn(&mut self, index: usize) {
        let instrument = &self.state.instruments[index];
        let symbol = &instrument.symbol;
        let currency = place_in(&mut self.currencies, &instrument.currency);
        let venue = place_in(&mut self.venues, symbol.venue());
        let limits = &self.limits;
        let lots = limits.position_max_lots_by_symbol.get(symbol);
        let position_max = match i64::from(*lots.unwrap_or(&limits.position_max_lots)) {
            0 => Quantity(i64::MAX),
            lots => Quantity(lots.saturating_mul(instrument.lot.0)),
        };
        self.terms.push(Terms {
            currency,
            venue,
            position_max,
            money: limits.money_of(&instrument.currency),
            class: limits.classes[instrument.class.index()],
            is_denied: limits.symbols_denied.contains(symbol),
            is_allowed: limits.symbols_allowed.is_empty()
                || limits.symbols_allowed.contains(symbol),
            is_killed: self.state.killed_symbols.contains(symbol),
        });
        let place = u32::try_from(index).expect("symbols are numbered in 32 bits");
        self.by_symbol.insert(symbol.clone(), place);
        let known = self.state.venues.len().max(self.venues.len());
        self.state.venues.resize(known, bucket::Bucket::default());
        for account in &mut self.state.accounts {
            fit(account, self.state.instruments.len(), self.currencies.len());
        }
    }

    fn ensure_account(&mut self, account: usize) {
        while self.state.accounts.len() <= account {
            let mut fresh = Account::default();
            fit(&mut fresh, self.state.instruments.len(), self.currencies.len());
            // Its day is that of its time zone: found at the next wake.
            self.state.wake_at = Timestamp::default();
            self.state.accounts.push(fresh);
        }
    }

    fn ensure_strategy(&mut self, strategy: StrategyId) {
        let strategy = usize::from(strategy.0);
        while self.state.strategies.len() <= strategy {
            let denied = vec![0; DenialCode::ALL.len()];
            self.state.strategies.push(StrategyState { denied, ..StrategyState::default() });
        }
    }

    /// Revalues what is held, and begins the days that have come.
    #[cold]
    fn wake(&mut self, now: Timestamp) {
        for account in 0..self.state.accounts.len() {
            for index in 0..self.state.instruments.len() {
                let holding = &mut self.state.accounts[account].holdings[index];
                let is_flat = holding.position.quantity == Quantity::ZERO && holding.live == [0; 2];
                if is_flat && holding.day_reference.is_some() {
                    continue;
                }
                let mark = state::mark(&self.state.books[index]);
                holding.day_reference = holding.day_reference.or(mark);
                if is_flat {
                    continue;
                }
                if let Some(mark) = mark.filter(|_| mark != holding.value.mark) {
                    self.value(account, index, mark);
                }
            }
        }
        let mut wake_at = after(now, self.limits.revaluation_ms.max(1) * NANOS_PER_MS, 0);
        for (number, account) in self.state.accounts.iter_mut().enumerate() {
            if now >= account.day_end {
                let terms = self.limits.accounts.get(number);
                let offset = terms.map_or(0, |terms| terms.utc_offset_seconds);
                let day_end = after(now, NANOS_PER_DAY, offset);
                // A day's loss is over with the day; a halt waits for an operator.
                let is_lifted = self.limits.breach_state != TradingState::Halted;
                account.begin_day(day_end, &self.state.books, is_lifted);
            }
            wake_at = wake_at.min(account.day_end);
        }
        self.state.wake_at = wake_at;
    }

    /// Values what `account` has in instrument `index` at `mark`.
    fn value(&mut self, account: usize, index: usize, mark: Price) {
        let terms = &self.terms[index];
        let entry = &mut self.state.accounts[account];
        let holding = &entry.holdings[index];
        let bounds = (holding.longest(), holding.shortest());
        let instrument = &self.state.instruments[index];
        let value = holding.value_at(instrument, terms.class.margin_nanos, mark, bounds);
        entry.revalue(index, terms.currency, value, &terms.money);
    }

    /// Counts an approved order as open.
    fn reserve(&mut self, order: Order, value: Value, now: Timestamp) -> ApprovedOrder {
        let index = order.instrument.index();
        let account = &mut self.state.accounts[usize::from(order.account.0)];
        account.orders_today = account.orders_today.saturating_add(1);
        account.live += 1;
        let (side, holding) = (side_index(order.side), &mut account.holdings[index]);
        holding.open[side] = holding.open[side].saturating_add(order.quantity);
        holding.live[side] += 1;
        holding.recent[side] = Some(state::Recent {
            strategy: order.strategy,
            quantity: order.quantity,
            limit_price: order.limit_price,
            at: now,
        });
        let terms = &self.terms[index];
        account.revalue(index, terms.currency, value, &terms.money);

        let approved = ApprovedOrder::new(order, self.state.books[index]);
        let open = OpenOrder {
            approved: approved.clone(),
            remaining: order.quantity,
            status: OpenStatus::Sent,
            cancelling: false,
        };
        let place = self.place_of(order.id).expect_err("a duplicate was denied");
        self.state.open.insert(place, open);
        approved
    }

    /// Takes an order out of the open ones, with what it still held.
    fn release(&mut self, place: usize) {
        let open = self.state.open.remove(place);
        let order = open.approved.order();
        let (account, index) = (usize::from(order.account.0), order.instrument.index());
        let entry = &mut self.state.accounts[account];
        entry.live -= 1;
        let (side, holding) = (side_index(order.side), &mut entry.holdings[index]);
        holding.live[side] -= 1;
        holding.open[side].0 -= open.remaining.0;
        if open.status == OpenStatus::Unknown {
            holding.unknown[side] -= 1;
        }
        if let Some(mark) = holding.value.mark {
            self.value(account, index, mark);
        }
    }

    fn set_status(&mut self, order: OrderId, status: OpenStatus) {
        let Ok(place) = self.place_of(order) else { return };
        let open = &mut self.state.open[place];
        let before = std::mem::replace(&mut open.status, status);
        let order = open.approved.order();
        let account = &mut self.state.accounts[usize::from(order.account.0)];
        let unknown =
            &mut account.holdings[order.instrument.index()].unknown[side_index(order.side)];
        *unknown += u32::from(status == OpenStatus::Unknown);
        *unknown -= u32::from(before == OpenStatus::Unknown);
    }

    /// Where the order is among the open ones, or where it would be.
    fn place_of(&self, order: OrderId) -> Result<usize, usize> {
        // Orders mostly come and go at the end.
        self.state.open.binary_search_by(|open| open.approved.id.cmp(&order))
    }
}

const NANOS_PER_MS: u64 = 1_000_000;
const NANOS_PER_DAY: u64 = 86_400_000_000_000;

/// The first instant after `now` that a clock `offset` seconds ahead of UTC shows as a whole `step`.
fn after(now: Timestamp, step: u64, offset_seconds: i32) -> Timestamp {
    let offset = i128::from(offset_seconds) * 1_000_000_000;
    let step = i128::from(step);
    let local = i128::from(now.as_nanos()) + offset;
    let next = (local.div_euclid(step) + 1) * step - offset;
    Timestamp::from_nanos(u64::try_from(next).unwrap_or(u64::MAX))
}

/// The place of `name`, which is added when it is new.
fn place_in(names: &mut Vec<String>, name: &str) -> usize {
    names.iter().position(|known| known == name).unwrap_or_else(|| {
        names.push(name.to_owned());
        names.len() - 1
    })
}

/// Makes room for so many instruments and currencies.
fn fit(account: &mut Account, instruments: usize, currencies: usize) {
    if account.holdings.len() < instruments {
        account.holdings.resize_with(instruments, Default::default);
    }
    if account.totals.len() < currencies {
        account.totals.resize_with(currencies, Default::default);
    }
}
