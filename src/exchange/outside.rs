//! The market outside: what somebody who is no account of ours would buy and sell just now.

use super::amount::Amount;
use super::entry::Side;
use super::random::Random;
use super::symbol::SymbolSpec;

/// Levels of a simulated book on each side.
const LEVELS: i64 = 10;

/// One price and what there is at it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// The price.
    pub price: Amount,
    /// How much.
    pub quantity: Amount,
}

/// Both sides, best first. What is traded is gone until the next quote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outside {
    /// Who buys.
    pub bids: Vec<Level>,
    /// Who sells.
    pub asks: Vec<Level>,
}

impl Outside {
    /// A book of one level on each side; a side without a quantity is empty.
    pub fn top(bid: Level, ask: Level) -> Self {
        let side = |level: Level| {
            let is_there = level.quantity > Amount::ZERO && level.price > Amount::ZERO;
            if is_there { vec![level] } else { Vec::new() }
        };
        Self { bids: side(bid), asks: side(ask) }
    }

    /// The levels of a side.
    pub fn side(&self, side: Side) -> &[Level] {
        match side {
            Side::Buy => &self.bids,
            Side::Sell => &self.asks,
        }
    }

    /// Takes away what was traded at a price.
    pub(super) fn take(&mut self, side: Side, price: Amount, quantity: Amount) {
        let levels = match side {
            Side::Buy => &mut self.bids,
            Side::Sell => &mut self.asks,
        };
        for level in levels.iter_mut().filter(|level| level.price == price) {
            level.quantity -= quantity;
        }
        levels.retain(|level| level.quantity > Amount::ZERO);
    }
}

/// A price that wanders, by a seed of its own for each symbol.
#[derive(Clone, Debug)]
pub struct Walk {
    random: Random,
    tick: i128,
    step: i128,
    /// The best bid, in ticks.
    bid: i128,
    /// Ticks that one step is wide at most.
    reach: u64,
}

impl Walk {
    /// Begins at the symbol's price.
    pub fn new(spec: &SymbolSpec, seed: u64) -> Self {
        let bid = spec.price.0 / spec.tick.0;
        // A step is at most two ten-thousandths of the price.
        let reach = u64::try_from(bid / 5_000).unwrap_or(u64::MAX / 4).max(1);
        let random = Random::new(seed, &spec.name);
        Self { random, tick: spec.tick.0, step: spec.step.0, bid, reach }
    }

    /// The next book.
    pub fn step(&mut self) -> Outside {
        let moved = i128::from(self.random.below(2 * self.reach + 1)) - i128::from(self.reach);
        self.bid = (self.bid + moved).max(i128::from(LEVELS) + 1);
        let mut level = |ticks: i128| {
            // About a thousandth to a hundredth of a million's worth.
            let worth = i128::from(1_000 + self.random.below(9_000)) * 100_000_000 * 100_000_000;
            let steps = (worth / (ticks * self.tick) / self.step).max(1);
            Level { price: Amount(ticks * self.tick), quantity: Amount(steps * self.step) }
        };
        let depth = 0..i128::from(LEVELS);
        let bids = depth.clone().map(|depth| level(self.bid - depth)).collect();
        let asks = depth.map(|depth| level(self.bid + 1 + depth)).collect();
        Outside { bids, asks }
    }
}
