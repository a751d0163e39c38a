//! An exchange, as far as the protocol can tell. Orders are taken for a moment only, and then closed, or
//! rest until they are cancelled.

use std::collections::BTreeMap;

use tickwright_core::domain::{Money, Quantity, Refusal, Symbol, Timestamp};
use tickwright_core::pipeline::orders::{
    Answer, Capabilities, Deduplication, Found, OrderReport, Request, TradeReport,
};

use crate::random::Random;

/// A request on its way, with what is not part of the order.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) request: Request,
    pub(crate) session: u64,
}

/// What the judge knows of an order.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) request: Request,
    /// Who sent it.
    pub(crate) executor: usize,
    pub(crate) order: u64,
    pub(crate) trades: Vec<TradeReport>,
    /// When it is over, by the time of the world, in nanoseconds.
    pub(crate) over_at: u64,
}

#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) capabilities: Capabilities,
    /// By how much its clock is ahead of the world's, in nanoseconds.
    pub(crate) offset: u64,
    pub(crate) taken: Vec<Taken>,
    session: u64,
    trades: u64,
}

/// How many orders or trades an answer holds at most.
const PAGE: usize = 3;

/// The same of the trades of one order.
const PAGE_OF_ORDER: usize = 2;

impl Exchange {
    pub(crate) fn new(capabilities: Capabilities, offset: u64) -> Self {
        Self { capabilities, offset, taken: Vec::new(), session: 0, trades: 0 }
    }

    pub(crate) fn clock(&self, now: u64) -> Timestamp {
        Timestamp::from_nanos((now + self.offset) / 1_000_000 * 1_000_000)
    }

    /// Takes a request, or not. Returns the answer.
    pub(crate) fn take(
        &mut self,
        letter: &Letter,
        executor: usize,
        now: u64,
        random: &mut Random,
    ) -> Answer {
        let Letter { request, session } = letter;
        if self.capabilities.exclusive_session && *session < self.session {
            return Answer::Refused(Refusal::Order);
        }
        let clock = self.clock(now);
        let is_early = request.made > clock.after(std::time::Duration::from_secs(1));
        if self.capabilities.deadline && (clock > request.deadline() || is_early) {
            return Answer::Expired;
        }
        let is_known = self.taken.iter().any(|taken| {
            taken.request.client_id == request.client_id
                && match self.capabilities.deduplication {
                    Deduplication::All => true,
                    Deduplication::Open => taken.over_at > now,
                    Deduplication::None => false,
                }
        });
        if is_known {
            return Answer::Duplicate;
        }
        // Where a request may arrive at any time, a refusal of a later one would say nothing.
        let capabilities = &self.capabilities;
        let may_refuse = capabilities.deadline || capabilities.exclusive_session;
        match random.range(0, 20) {
            _ if !may_refuse => {}
            0 => return Answer::Refused(Refusal::Order),
            1 => return Answer::Refused(Refusal::Unavailable),
            _ => {}
        }
        let order = self.taken.len() as u64 + 1;
        let mut left = request.quantity.0;
        let mut trades = Vec::new();
        for _ in 0..random.range(0, 4) {
            let quantity = i64::try_from(random.range(1, 6)).unwrap().min(left);
            if quantity == 0 {
                break;
            }
            left -= quantity;
            self.trades += 1 + random.range(0, 3);
            trades.push(TradeReport {
                trade: self.trades,
                order,
                symbol: request.symbol.clone(),
                side: request.side,
                quantity: Quantity(quantity),
                price: request.limit_price,
                fee: Money::ZERO,
                fee_elsewhere: None,
            });
        }
        let lasts = [0, random.range(0, 3_000)][random.index(2)];
        let over_at =
            if request.is_resting && left > 0 { u64::MAX } else { now + lasts * 1_000_000 };
        self.taken.push(Taken { request: request.clone(), executor, order, trades, over_at });
        Answer::Accepted(self.report(self.taken.last().unwrap(), now))
    }

    pub(crate) fn report(&self, taken: &Taken, now: u64) -> OrderReport {
        let executed = taken.trades.iter().map(|trade| trade.quantity.0).sum();
        OrderReport {
            client_id: taken.request.client_id.as_str().to_owned(),
            order: taken.order,
            symbol: taken.request.symbol.clone(),
            executed: Quantity(executed),
            is_over: taken.over_at <= now,
        }
    }

    pub(crate) fn find(&self, client_id: &str, now: u64) -> Found {
        let last = self.taken.iter().rfind(|taken| taken.request.client_id.as_str() == client_id);
        last.map_or(Found::Nothing, |taken| Found::Order(self.report(taken, now)))
    }

    /// Closes an order that is open.
    pub(crate) fn cancel(&mut self, client_id: &str, now: u64) -> Found {
        let open = self.taken.iter().rposition(|taken| {
            taken.request.client_id.as_str() == client_id && taken.over_at > now
        });
        let Some(place) = open else { return Found::Nothing };
        self.taken[place].over_at = now;
        Found::Order(self.report(&self.taken[place], now))
    }

    pub(crate) fn trades(&self, symbol: &Symbol, after: u64) -> (Vec<TradeReport>, bool) {
        let all = self.taken.iter().flat_map(|taken| &taken.trades);
        let mut all: Vec<TradeReport> =
            all.filter(|t| t.symbol == *symbol && t.trade > after).cloned().collect();
        all.sort_by_key(|trade| trade.trade);
        let is_last = all.len() <= PAGE;
        all.truncate(PAGE);
        (all, is_last)
    }

    /// The trades of one order, fewer at once than it may have.
    pub(crate) fn trades_of(&self, order: u64, after: u64) -> (Vec<TradeReport>, bool) {
        let of = self.taken.iter().find(|taken| taken.order == order);
        let trades = of.into_iter().flat_map(|taken| &taken.trades);
        let mut trades: Vec<TradeReport> = trades.filter(|it| it.trade > after).cloned().collect();
        let is_last = trades.len() < PAGE_OF_ORDER;
        trades.truncate(PAGE_OF_ORDER);
        (trades, is_last)
    }

    pub(crate) fn history(
        &self,
        symbol: &Symbol,
        after: u64,
        now: u64,
    ) -> (Vec<OrderReport>, bool) {
        let all = self.taken.iter();
        let all = all.filter(|t| t.request.symbol == *symbol && t.order > after);
        let mut all: Vec<OrderReport> = all.map(|taken| self.report(taken, now)).collect();
        let is_last = all.len() <= PAGE;
        all.truncate(PAGE);
        (all, is_last)
    }

    /// From now on only requests of this session, or later ones, are taken.
    pub(crate) fn begin(&mut self, session: u64) -> bool {
        let is_later = session > self.session;
        self.session = self.session.max(session);
        is_later
    }

    /// Accepted orders by what `name` makes of each.
    pub(crate) fn count<K: Ord>(&self, name: impl Fn(&Taken) -> K) -> BTreeMap<K, usize> {
        let mut counts = BTreeMap::new();
        for taken in &self.taken {
            *counts.entry(name(taken)).or_default() += 1;
        }
        counts
    }
}
