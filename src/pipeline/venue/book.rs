//! One instrument's book as the broker sees it, with what its own fills have taken away.

use serde::{Deserialize, Serialize};

use crate::domain::{
    Instrument, Key, Kind, Order, Placement, Price, Quantity, Side, SourceId, StrategyId, Tick,
    TopOfBook, has,
};

use super::config::MatchingRules;

/// The top of the book, what is left of it, and who placed what last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Book {
    top: TopOfBook,
    /// Rows up to here are in the book.
    adopted_at: Key,
    /// The row that last gave the bid.
    bid_at: Key,
    /// The row that last gave the ask.
    ask_at: Key,
    /// The quote that `bid_used` and `ask_used` were taken from.
    used_of: Key,
    bid_used: i64,
    ask_used: i64,
    /// The last first offer of each strategy and source. One entry for each that traded here.
    placed: Vec<LastPlaced>,
}

/// The newest order of one strategy that answers rows of one source. Their numbers only grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct LastPlaced {
    strategy: StrategyId,
    source: SourceId,
    sequence: u64,
    ordinal: u32,
}

/// What the book has for an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// Nobody shows a price on the needed side.
    Missing,
    /// The price shown is worse than the limit.
    Beyond,
    /// So much at so much; the quantity may be zero when earlier orders have used it up.
    Shown(Price, Quantity),
}

impl Book {
    /// Takes in a row of the instrument, unless it is in the book already.
    #[inline]
    pub(super) fn apply(&mut self, row: &Tick, key: Key) {
        if key <= self.adopted_at {
            return;
        }
        self.top.apply(row, key);
        if self.top.quoted_at == self.used_of {
            return;
        }
        let is_snapshot = row.kind == Kind::Snapshot as u8;
        if is_snapshot || row.given(has::BID) {
            self.bid_at = key;
        }
        if is_snapshot || row.given(has::ASK) {
            self.ask_at = key;
        }
        self.renew();
    }

    /// Takes over the book that comes with `placement`, except for what has changed since: rows
    /// after `placement.at` that were fed ahead of it. Which of the rows before were followed here,
    /// or are fed late, then makes no difference.
    pub(super) fn adopt(&mut self, placement: &Placement) {
        let Placement { top, at, .. } = placement;
        if self.bid_at <= *at {
            (self.top.bid, self.top.bid_quantity) = (top.bid, top.bid_quantity);
        }
        if self.ask_at <= *at {
            (self.top.ask, self.top.ask_quantity) = (top.ask, top.ask_quantity);
        }
        let changed_at = self.bid_at.max(self.ask_at);
        self.top.quoted_at = if changed_at <= *at { top.quoted_at } else { changed_at };
        if self.top.quoted_at != self.used_of {
            self.renew();
        }
        self.adopted_at = self.adopted_at.max(*at);
    }

    /// Displayed sizes are fresh.
    fn renew(&mut self) {
        self.used_of = self.top.quoted_at;
        (self.bid_used, self.ask_used) = (0, 0);
    }

    /// What the book has for `order`.
    pub(super) fn offer(
        &self,
        order: &Order,
        rules: &MatchingRules,
        instrument: &Instrument,
    ) -> Offer {
        let (price, shown, used) = match order.side {
            Side::Buy => (self.top.ask, self.top.ask_quantity, self.ask_used),
            Side::Sell => (self.top.bid, self.top.bid_quantity, self.bid_used),
        };
        let Some(price) = price else { return Offer::Missing };
        let shown = shown.unwrap_or_else(|| rules.assumed_size(instrument));
        if shown <= Quantity::ZERO {
            return Offer::Missing;
        }
        if !is_acceptable(order, price) {
            return Offer::Beyond;
        }
        Offer::Shown(price, Quantity(shown.0.saturating_sub(used).clamp(0, order.quantity.0)))
    }

    /// Takes `quantity` from the side that an order of `side` trades against.
    pub(super) fn consume(&mut self, side: Side, quantity: Quantity) {
        let used = match side {
            Side::Buy => &mut self.ask_used,
            Side::Sell => &mut self.bid_used,
        };
        *used = used.saturating_add(quantity.0);
    }

    /// Notes a first offer; returns whether it had been here before.
    pub(super) fn is_repeat(&mut self, order: &Order) -> bool {
        let (source, sequence) = (order.id.key.source, order.id.key.sequence);
        let now =
            LastPlaced { strategy: order.strategy, source, sequence, ordinal: order.id.ordinal };
        let same = |last: &&mut LastPlaced| (last.strategy, last.source) == (now.strategy, source);
        match self.placed.iter_mut().find(same) {
            Some(last) if (sequence, now.ordinal) <= (last.sequence, last.ordinal) => true,
            Some(last) => {
                *last = now;
                false
            }
            None => {
                self.placed.push(now);
                false
            }
        }
    }
}

/// Whether `order` may trade at `price`.
pub(super) fn is_acceptable(order: &Order, price: Price) -> bool {
    match order.side {
        Side::Buy => price <= order.limit_price,
        Side::Sell => price >= order.limit_price,
    }
}
