//! The paper broker: takes orders, matches them against the recorded book, and says what became of
//! them.
//!
//! ```text
//! place(order, book) ─▶ arriving ──due──▶ judged ─┬─▶ filled, the rest closed ─┐
//!                                                 ├─▶ refused, or no answer ───┤
//! feed(rows) ─▶ book, trades                      └─▶ waits for a trade ───────┴─▶ news ──due──▶ out
//! ```
//!
//! Orders are immediate-or-cancel. One placed at key K arrives at K's frontier plus its latency, and
//! is judged with the book after all rows of an earlier frontier and before all others. Where the
//! needed side of the book is missing, it waits a while for the next trade instead.
//!
//! Time may run ahead of the orders, by less than the shortest latency: what is placed later cannot
//! have an effect that early. So a caller can ask for the events of a whole step at once; see
//! [`PaperBroker::advance_limit`] for how large a step may be.
//!
//! # Invariants
//!
//! 1. What an order traded and what was closed of it add up to what was ordered.
//! 2. No fill is worse than the order's limit.
//! 3. Between two quotes of an instrument, fills on one side add up to no more than was displayed;
//!    those against one trade to no more than its volume.
//! 4. Events leave in the order of [`BrokerEvent::sort_key`], over all calls, and each when time has
//!    reached its due time; none is due before `latency_min` after the row that caused it.
//! 5. Every order ends with exactly one `Closed` or `Refused`.
//! 6. How rows are split over calls changes no event, nor does feeding a row twice.
//! 7. Latency and faults are functions of (seed, broker, order id). Only an outage counts orders.

mod book;
mod config;
mod draw;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::{
    AccountId, BrokerEvent, BrokerEventKind, BrokerId, Fill, Instrument, InstrumentIndex, Kind,
    Order, OrderId, Placement, Price, Quantity, Refusal, Side, Span, SymbolId, Tick, TickBatch,
    Timestamp,
};

use book::{Book, Offer, is_acceptable};
use draw::{Draws, Fault};

pub use config::{Faults, LATENCY_MIN, MatchingRules, PaperBrokerConfig};

/// The end of time: nothing will happen.
const NEVER: Timestamp = Timestamp::from_nanos(u64::MAX);

/// Second offers whose acceptance is remembered, to tell one that comes again.
const SECOND_OFFERS_MAX: usize = 256;

/// What a broker has said so far, and what it noticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerCounters {
    /// Orders placed.
    pub placed: u64,
    /// Orders accepted.
    pub accepted: u64,
    /// Orders accepted that had been accepted before. Anything but zero is a broken promise.
    pub accepted_twice: u64,
    /// Orders filled whole.
    pub filled_whole: u64,
    /// Fills.
    pub fills: u64,
    /// Orders that waited for a trade in vain, or were pending when the data ended.
    pub expired: u64,
    /// Orders refused because the connection was not there.
    pub refused_not_connected: u64,
    /// Orders refused because the broker took nothing.
    pub refused_unavailable: u64,
    /// Orders refused for what they are.
    pub refused_order: u64,
    /// Orders whose outcome was unknown for a while.
    pub unknown: u64,
}

impl BrokerCounters {
    /// Counts what a broker says.
    pub fn count(&mut self, kind: &BrokerEventKind) {
        match kind {
            BrokerEventKind::Accepted => self.accepted += 1,
            BrokerEventKind::Filled(_) => self.fills += 1,
            BrokerEventKind::Refused(Refusal::NotConnected) => self.refused_not_connected += 1,
            BrokerEventKind::Refused(Refusal::Unavailable) => self.refused_unavailable += 1,
            BrokerEventKind::Refused(Refusal::Order) => self.refused_order += 1,
            BrokerEventKind::Unknown => self.unknown += 1,
            BrokerEventKind::Closed { remaining: Quantity::ZERO } => self.filled_whole += 1,
            BrokerEventKind::Closed { .. } => {}
        }
    }
}

/// An order that the broker holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Held {
    order: Order,
    instrument: Arc<Instrument>,
    /// When it arrives; once it waits for a trade, when it gives up.
    due: Timestamp,
    fate: Fate,
    /// It waits for a trade no longer than until then: a cancellation arrives.
    wanted_until: Timestamp,
    /// Nothing is heard of it earlier: it timed out.
    silent_until: Timestamp,
    /// Events so far.
    ordinal: u32,
    /// How often it was offered elsewhere before.
    attempt: u8,
    /// Whether this broker was given it before.
    is_repeat: bool,
}

/// What becomes of an order when it arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Fate {
    Matched,
    Refused(Refusal),
    /// Arrives, but no answer comes back until the broker is asked.
    TimedOut,
    /// Does not arrive, and no answer comes back until the broker is asked.
    Lost,
}

/// The broker. A snapshot of it, serialised, continues as the original would.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaperBroker {
    config: PaperBrokerConfig,
    broker: BrokerId,
    seed: u64,
    /// Event time so far.
    now: Timestamp,
    /// The earliest time at which something happens by itself.
    next: Timestamp,
    /// The last row fed, by source. One per source.
    fed: Vec<u64>,
    /// By instrument, as far as any was ever traded.
    books: Vec<Book>,
    /// Orders that need the rows of an instrument, by instrument.
    open: Vec<u32>,
    /// Sent and not yet there, in order of (due, id). Bounded, as are the next two, by the live
    /// orders that risk allows.
    arriving: VecDeque<Held>,
    /// Arrived, and waiting for a trade, in order of arrival.
    waiting: Vec<Held>,
    /// What is still to be heard, in the order of [`BrokerEvent::sort_key`].
    news: VecDeque<BrokerEvent>,
    /// The last trade id of each account.
    trade_ids: Vec<u64>,
    /// The last second offers that were accepted; at most [`SECOND_OFFERS_MAX`].
    second_offers: VecDeque<OrderId>,
    counters: BrokerCounters,
}

impl PaperBroker {
    /// A broker that has seen nothing. Its draws are made from `seed`.
    pub fn new(config: PaperBrokerConfig, broker: BrokerId, seed: u64) -> Self {
        Self {
            config,
            broker,
            seed,
            now: Timestamp::default(),
            next: NEVER,
            fed: Vec::new(),
            books: Vec::new(),
            open: Vec::new(),
            arriving: VecDeque::new(),
            waiting: Vec::new(),
            news: VecDeque::new(),
            trade_ids: Vec::new(),
            second_offers: VecDeque::new(),
            counters: BrokerCounters::default(),
        }
    }

    /// How it is configured.
    pub const fn config(&self) -> &PaperBrokerConfig {
        &self.config
    }

    /// What it has said so far.
    pub const fn counters(&self) -> &BrokerCounters {
        &self.counters
    }

    /// Whether it has neither an order nor anything left to say. It then needs no rows.
    pub fn is_idle(&self) -> bool {
        !self.needs_rows() && self.news.is_empty()
    }

    /// Whether it holds an order that is still to be matched.
    #[inline]
    fn needs_rows(&self) -> bool {
        !self.arriving.is_empty() || !self.waiting.is_empty()
    }

    /// How far towards `to` time may run before what is said on the way must have been routed.
    ///
    /// An order that arrives may be refused, and be offered to another broker, where it arrives more
    /// than `lookahead` later: no broker may be further by then. `lookahead` is less than the
    /// shortest latency of any. All brokers go only as far as each of them allows.
    pub fn advance_limit(&self, to: Timestamp, lookahead: Span) -> Timestamp {
        self.arriving.front().map_or(to, |held| to.min(held.due.after(lookahead)))
    }

    /// When the next order arrives, if any is on its way.
    pub fn next_arrival(&self) -> Option<Timestamp> {
        self.arriving.front().map(|held| held.due)
    }

    /// The earliest time at which something happens by itself; far away when nothing will.
    #[inline]
    pub const fn next_due(&self) -> Timestamp {
        self.next
    }

    /// Whether an order waits for a trade, so that any row may matter at once.
    #[inline]
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// How long `order` takes from its key to its effect here.
    pub fn latency(&self, order: OrderId) -> Span {
        Draws::new(self.seed, self.broker, order).arrival_latency(&self.config)
    }

    /// Takes an order; returns when it arrives.
    ///
    /// Rows up to `placement.at` may have been fed before, are fed later or not at all: they are in
    /// the book that comes with it. Those after it are fed without a gap, and may have been before,
    /// for less than the shortest latency ahead. All that is due by `placement.at` has come out.
    pub fn place(&mut self, placement: &Placement, instrument: &Arc<Instrument>) -> Timestamp {
        let Placement { order, at, attempt, .. } = placement;
        debug_assert!(self.next > at.frontier, "what is due comes before what is placed");
        self.counters.placed += 1;
        self.now = self.now.max(at.frontier);

        let index = order.instrument.index();
        let book = slot(&mut self.books, index);
        let is_repeat = *attempt == 0 && book.is_repeat(order);
        book.adopt(placement);
        *slot(&mut self.open, index) += 1;

        let draws = Draws::new(self.seed, self.broker, order.id);
        let due = at.frontier.after(draws.arrival_latency(&self.config));
        // Only where keys are taken as they arrive can the order be older than the rows fed.
        let due = due.max(self.now.after(Span::from_nanos(1)));
        let held = Held {
            order: *order,
            instrument: Arc::clone(instrument),
            due,
            fate: self.fate(order, draws),
            wanted_until: NEVER,
            silent_until: Timestamp::default(),
            ordinal: 0,
            attempt: *attempt,
            is_repeat,
        };
        let place = (due, order.id);
        let behind = self.arriving.iter().rposition(|held| (held.due, held.order.id) <= place);
        self.arriving.insert(behind.map_or(0, |at| at + 1), held);
        self.next = self.next.min(due);
        due
    }

    /// An order is not wanted any more since `at`. It arrives all the same, if it has not yet: what it could trade
    /// with at once it does. It stops to wait for a trade when the cancellation arrives, as long after `at` as the
    /// order took. Nothing happens if the order is not here.
    pub fn cancel(&mut self, order: OrderId, at: Timestamp) {
        let arrives = at.after(self.latency(order)).max(self.now.after(Span::from_nanos(1)));
        let arriving = self.arriving.iter_mut().filter(|held| held.order.id == order);
        arriving.for_each(|held| held.wanted_until = held.wanted_until.min(arrives));
        let waiting = self.waiting.iter_mut().filter(|held| held.order.id == order);
        waiting.for_each(|held| held.due = held.due.min(arrives));
        self.look_ahead();
    }

    fn fate(&self, order: &Order, draws: Draws) -> Fate {
        let outage = self.config.faults.outage;
        if outage.is_some_and(|(first, last)| (first..=last).contains(&self.counters.placed)) {
            return Fate::Refused(Refusal::NotConnected);
        }
        let is_valid = order.quantity > Quantity::ZERO && order.limit_price > Price(0);
        match draws.fault(&self.config) {
            Fault::Refused => Fate::Refused(Refusal::Unavailable),
            Fault::Disconnected => Fate::Refused(Refusal::NotConnected),
            Fault::Lost => Fate::Lost,
            Fault::TimedOut | Fault::None if !is_valid => Fate::Refused(Refusal::Order),
            Fault::TimedOut => Fate::TimedOut,
            Fault::None => Fate::Matched,
        }
    }

    /// Takes in the `rows` of `batch` that were not fed before, and appends to `out` what is due
    /// until the last of them. `resolve` says which instrument a symbol of the batch's source is.
    ///
    /// Rows come in the order in which the stages before took them; those of one source by key.
    /// While there is no order, a call costs the same whatever the number of rows.
    ///
    /// # Panics
    ///
    /// When `rows` reaches beyond the batch.
    pub fn feed(
        &mut self,
        batch: &TickBatch,
        rows: Range<usize>,
        resolve: impl Fn(SymbolId) -> Option<InstrumentIndex>,
        out: &mut Vec<BrokerEvent>,
    ) {
        let rows = &batch.rows[rows];
        let Some(last) = rows.last().map(|row| batch.key(row)) else { return };
        let fed = slot(&mut self.fed, usize::from(batch.source.0));
        let fed_before = *fed;
        if last.sequence <= fed_before {
            return;
        }
        *fed = last.sequence;
        let sequence_of = |row: &Tick| batch.base_sequence + u64::from(row.sequence);
        let rows = &rows[rows.partition_point(|row| sequence_of(row) <= fed_before)..];
        // Rows that an order may still be placed before: that order's instrument needs them.
        let settled =
            |row: &Tick| batch.frontier(row).after(self.config.latency_min()) <= last.frontier;
        let mut recent = rows.partition_point(settled);
        if self.needs_rows() {
            for (at, row) in rows.iter().enumerate() {
                self.advance(batch.frontier(row), out);
                self.take(batch, row, at >= recent, &resolve);
                if !self.needs_rows() {
                    recent = recent.max(at + 1);
                    break;
                }
            }
        }
        if !self.needs_rows() {
            for row in &rows[recent..] {
                self.take(batch, row, true, &resolve);
            }
        }
        self.advance(last.frontier, out);
    }

    /// Takes in one row, at whose frontier time has arrived, if an order needs it, or may yet.
    #[inline]
    fn take(
        &mut self,
        batch: &TickBatch,
        row: &Tick,
        is_recent: bool,
        resolve: impl Fn(SymbolId) -> Option<InstrumentIndex>,
    ) {
        if row.kind == Kind::Boundary as u8 {
            return;
        }
        let Some(index) = resolve(row.symbol()) else { return };
        let is_needed = self.open.get(index.index()).is_some_and(|&open| open > 0);
        if !is_needed && !is_recent {
            return;
        }
        slot(&mut self.books, index.index()).apply(row, batch.key(row));
        // What a call auction trades, it trades among the orders that took part.
        if is_needed && row.is_trade() && !row.is_indicative() && !self.waiting.is_empty() {
            self.match_trade(index, row, batch.frontier(row));
        }
    }

    /// Lets event time reach `to`: orders that are due by then are judged with the book as it is,
    /// those that have waited long enough give up, and what is due is appended to `out`.
    #[inline]
    pub fn advance(&mut self, to: Timestamp, out: &mut Vec<BrokerEvent>) {
        self.now = self.now.max(to);
        if self.next <= to {
            self.act(to, out);
        }
    }

    fn act(&mut self, to: Timestamp, out: &mut Vec<BrokerEvent>) {
        while self.arriving.front().is_some_and(|held| held.due <= to) {
            if let Some(held) = self.arriving.pop_front() {
                self.judge(held);
            }
        }
        // After the arrivals, as one of them may have begun to wait and given up since.
        while let Some(at) = self.waiting.iter().position(|held| held.due <= to) {
            let held = self.waiting.remove(at);
            self.expire(held);
        }
        self.release(to, out);
        self.look_ahead();
    }

    /// Finds the earliest time at which something happens by itself.
    fn look_ahead(&mut self) {
        let arrival = self.arriving.front().map_or(NEVER, |held| held.due);
        let news = self.news.front().map_or(NEVER, |event| event.due);
        let waiting = self.waiting.iter().map(|held| held.due).min().unwrap_or(NEVER);
        self.next = arrival.min(news).min(waiting);
    }

    /// An order has arrived.
    fn judge(&mut self, mut held: Held) {
        let due = held.due;
        match held.fate {
            Fate::Matched => {}
            Fate::Refused(refusal) => {
                self.say(&mut held, due, BrokerEventKind::Refused(refusal));
                return self.let_go(&held);
            }
            Fate::TimedOut | Fate::Lost => {
                self.say(&mut held, due, BrokerEventKind::Unknown);
                let resolve_after = Span::from_micros(self.config.faults.resolve_after_us);
                held.silent_until = due.after(resolve_after);
                if held.fate == Fate::Lost {
                    let refused = BrokerEventKind::Refused(Refusal::Unavailable);
                    self.say(&mut held, due, refused);
                    return self.let_go(&held);
                }
            }
        }
        self.accept(&mut held);
        let rules = self.config.rules_of(held.instrument.class);
        let book = &mut self.books[held.order.instrument.index()];
        match book.offer(&held.order, &rules, &held.instrument) {
            Offer::Shown(price, quantity) => {
                book.consume(held.order.side, quantity);
                self.settle(held, due, price, quantity);
            }
            Offer::Beyond => self.settle(held, due, Price::default(), Quantity::ZERO),
            Offer::Missing => {
                let gives_up = due.after(Span::from_micros(rules.next_trade_within_us));
                held.due = gives_up.min(held.wanted_until).max(due);
                if held.due == due { self.expire(held) } else { self.waiting.push(held) }
            }
        }
    }

    fn accept(&mut self, held: &mut Held) {
        let mut is_repeat = held.is_repeat;
        if held.attempt > 0 {
            is_repeat = self.second_offers.contains(&held.order.id);
            if self.second_offers.len() == SECOND_OFFERS_MAX {
                self.second_offers.pop_front();
            }
            self.second_offers.push_back(held.order.id);
        }
        self.counters.accepted_twice += u64::from(is_repeat);
        let due = held.due;
        self.say(held, due, BrokerEventKind::Accepted);
    }

    /// Something traded: the orders that waited for it take their part, first come, first served.
    fn match_trade(&mut self, index: InstrumentIndex, row: &Tick, at: Timestamp) {
        let price = Price(row.price);
        let mut left = row.volume();
        let mut next = 0;
        while next < self.waiting.len() {
            if self.waiting[next].order.instrument != index {
                next += 1;
                continue;
            }
            let held = self.waiting.remove(next);
            let rules = self.config.rules_of(held.instrument.class);
            let volume = *left.get_or_insert_with(|| rules.assumed_size(&held.instrument));
            let quantity = if is_acceptable(&held.order, price) {
                held.order.quantity.min(volume)
            } else {
                Quantity::ZERO
            };
            left = Some(Quantity(volume.0 - quantity.0));
            let draws = Draws::new(self.seed, self.broker, held.order.id);
            let due = at.after(draws.report_latency(&self.config));
            self.settle(held, due, price, quantity);
        }
        self.look_ahead();
    }

    /// Reports a fill of `quantity`, if any, and closes the rest.
    fn settle(&mut self, mut held: Held, due: Timestamp, price: Price, quantity: Quantity) {
        if quantity > Quantity::ZERO {
            let price = self.slipped(&held.order, price);
            let notional = held.instrument.notional(price, quantity);
            let fill = Fill {
                order: held.order.id,
                instrument: held.order.instrument,
                account: held.order.account,
                // Given when it is reported, so that ids ascend in the order of reports.
                trade_id: 0,
                broker: self.broker,
                side: held.order.side,
                quantity,
                price,
                fee: notional.scaled(self.config.fee_rate_nanos),
                fee_elsewhere: None,
            };
            self.say(&mut held, due, BrokerEventKind::Filled(fill));
        }
        let remaining = Quantity(held.order.quantity.0 - quantity.0);
        self.say(&mut held, due, BrokerEventKind::Closed { remaining });
        self.let_go(&held);
    }

    /// `price` as our own order would have moved it, but never beyond the limit.
    fn slipped(&self, order: &Order, price: Price) -> Price {
        let moved = i128::from(price.0) * i128::from(self.config.slippage_nanos) / 1_000_000_000;
        let moved = i64::try_from(moved).unwrap_or(i64::MAX);
        match order.side {
            Side::Buy => Price(price.0.saturating_add(moved).min(order.limit_price.0)),
            Side::Sell => Price(price.0.saturating_sub(moved).max(order.limit_price.0)),
        }
    }

    /// Nothing came that the order could trade with.
    fn expire(&mut self, mut held: Held) {
        self.counters.expired += 1;
        let (due, remaining) = (held.due, held.order.quantity);
        self.say(&mut held, due, BrokerEventKind::Closed { remaining });
        self.let_go(&held);
    }

    /// The order needs rows no longer.
    fn let_go(&mut self, held: &Held) {
        self.open[held.order.instrument.index()] -= 1;
    }

    /// Puts down what is to be heard of an order at `due`, or later if it timed out.
    fn say(&mut self, held: &mut Held, due: Timestamp, kind: BrokerEventKind) {
        let event = BrokerEvent {
            due: due.max(held.silent_until),
            order: held.order.id,
            ordinal: held.ordinal,
            broker: self.broker,
            kind,
        };
        held.ordinal += 1;
        let behind = self.news.iter().rposition(|other| other.sort_key() <= event.sort_key());
        self.news.insert(behind.map_or(0, |at| at + 1), event);
    }

    /// Gives out what is due until `to`.
    fn release(&mut self, to: Timestamp, out: &mut Vec<BrokerEvent>) {
        while self.news.front().is_some_and(|event| event.due <= to) {
            let Some(mut event) = self.news.pop_front() else { return };
            if let BrokerEventKind::Filled(fill) = &mut event.kind {
                fill.trade_id = next_trade_id(&mut self.trade_ids, fill.account);
            }
            self.counters.count(&event.kind);
            out.push(event);
        }
    }

    /// The data has ended: orders that have not been judged, or wait for a trade, expire, and
    /// everything left to say is appended to `out`, due when it would have been.
    pub fn finish(&mut self, out: &mut Vec<BrokerEvent>) {
        while let Some(held) = self.arriving.pop_front() {
            self.expire(held);
        }
        for held in std::mem::take(&mut self.waiting) {
            self.expire(held);
        }
        self.release(NEVER, out);
        self.next = NEVER;
    }
}

/// The trade id after `account`'s last one; the first is 1.
fn next_trade_id(trade_ids: &mut Vec<u64>, account: AccountId) -> u64 {
    let last = slot(trade_ids, usize::from(account.0));
    *last += 1;
    *last
}

/// The element at `index`, made if need be.
fn slot<T: Clone + Default>(elements: &mut Vec<T>, index: usize) -> &mut T {
    if elements.len() <= index {
        elements.resize(index + 1, T::default());
    }
    &mut elements[index]
}
