//! Positions here take over what others' orders have traded, when an operator says so.
//!
//! ```text
//! adopt ─▶ Adopt, to exec ─▶ on_adopted: from here on it counts
//!            ▲ └── again, by whoever goes on from a checkpoint that has it under way
//! ```
//!
//! # Invariants
//!
//! 1. What counts as taken over is what exec has taken, however often that is said, and whoever goes back to
//!    a checkpoint of both.
//! 2. Of each symbol one is under way at most, and no two ever have the same number.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Orders, TradeReport, TradedStanding};
use crate::domain::{Price, Quantity, Symbol};

/// What exec is to take over, as if it had been traded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adoption {
    /// Tells it from all others of the account: by it exec knows what it has taken.
    pub number: u64,
    /// Of what.
    pub symbol: Symbol,
    /// How much was bought, less what was sold.
    pub quantity: Quantity,
    /// At what price.
    pub price: Price,
    /// Whether that is what the exchange reports for those trades, on average. Else it is the last price.
    pub is_average: bool,
}

/// What is being taken over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Adoptions {
    /// The last number.
    last: u64,
    /// What exec was told and has not taken yet. At most one for each symbol.
    pub(super) under_way: BTreeMap<u64, Adoption>,
}

impl Orders {
    /// Positions here are to take over what others' orders have traded of `symbol`. Returns what exec is to be
    /// told: what was told before, if exec has not taken that yet. None, if positions lack nothing.
    pub fn adopt(&mut self, symbol: &Symbol) -> Option<Adoption> {
        let mut under_way = self.adoptions.under_way.values();
        if let Some(adoption) = under_way.find(|adoption| adoption.symbol == *symbol) {
            return Some(adoption.clone());
        }
        let traded = self.traded.get(symbol)?;
        let quantity = traded.missing();
        if quantity == Quantity::ZERO {
            return None;
        }
        let (price, is_average) = traded.average().map_or((traded.price, false), |it| (it, true));
        let number = self.adoptions.last + 1;
        let adoption = Adoption { number, symbol: symbol.clone(), quantity, price, is_average };
        self.adoptions.last = number;
        self.adoptions.under_way.insert(number, adoption.clone());
        Some(adoption)
    }

    /// Exec has taken an adoption, perhaps one that an earlier life had told it. May be said again.
    pub fn on_adopted(&mut self, number: u64, symbol: &Symbol, quantity: Quantity) {
        let is_new = number > self.adoptions.last;
        self.adoptions.last = self.adoptions.last.max(number);
        if self.adoptions.under_way.remove(&number).is_some() || is_new {
            self.traded.entry(symbol.clone()).or_default().on_adopted(quantity);
        }
    }

    /// Counts a trade so often as others' and as ours.
    pub(super) fn count_traded(&mut self, trade: &TradeReport, others: i64, ours: i64) {
        let traded = self.traded.entry(trade.symbol.clone()).or_default();
        let signed = trade.side.signed(trade.quantity);
        traded.price = trade.price;
        traded.ours.0 = traded.ours.0.saturating_add(signed.0.saturating_mul(ours));
        match others {
            1 => traded.on_others(signed, trade.price),
            -1 => traded.take_back(signed, trade.price),
            _ => {}
        }
    }
}

impl TradedStanding {
    /// What positions here lack.
    pub const fn missing(&self) -> Quantity {
        Quantity(self.others.0.saturating_sub(self.adopted.0))
    }

    /// What the exchange reports as price of what is missing, on average; none, if it cannot be told.
    pub fn average(&self) -> Option<Price> {
        let missing = i128::from(self.missing().0);
        // To the nearest step.
        let twice = self.missing_cost.checked_mul(2)?.checked_div(missing)?;
        let price = twice.checked_add(twice.signum())? / 2;
        i64::try_from(price).ok().filter(|price| *price > 0).map(Price)
    }

    /// Somebody else has traded: what adds to what is missing is averaged with it, what takes from it leaves
    /// the average as it is.
    fn on_others(&mut self, signed: Quantity, price: Price) {
        let before = self.missing();
        self.others.0 = self.others.0.saturating_add(signed.0);
        if before.0.signum() * signed.0.signum() >= 0 {
            let cost = i128::from(signed.0) * i128::from(price.0);
            self.missing_cost = self.missing_cost.saturating_add(cost);
        } else {
            self.reduce(before, price);
        }
    }

    /// A trade of others turns out to be ours.
    fn take_back(&mut self, signed: Quantity, price: Price) {
        self.others.0 = self.others.0.saturating_sub(signed.0);
        let cost = i128::from(signed.0) * i128::from(price.0);
        self.missing_cost = self.missing_cost.saturating_sub(cost);
        if self.missing() == Quantity::ZERO {
            self.missing_cost = 0;
        }
    }

    /// Exec has taken so much over.
    fn on_adopted(&mut self, quantity: Quantity) {
        let before = self.missing();
        self.adopted.0 = self.adopted.0.saturating_add(quantity.0);
        self.reduce(before, self.price);
    }

    /// Less is missing than `before`. What is missing the other way by now is so at `price`.
    fn reduce(&mut self, before: Quantity, price: Price) {
        let missing = i128::from(self.missing().0);
        let is_same_way = missing.signum() == i128::from(before.0.signum());
        let kept = self.missing_cost.checked_mul(missing).filter(|_| is_same_way || missing == 0);
        let kept = kept.and_then(|cost| cost.checked_div(i128::from(before.0)));
        self.missing_cost = kept.unwrap_or(missing.saturating_mul(i128::from(price.0)));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{OrdersConfig, OrdersEffect, OrdersSnapshot};
    use super::*;
    use crate::domain::{Money, Side, Timestamp, VenueAccount};

    fn symbol() -> Symbol {
        Symbol::new("A.X").unwrap()
    }

    fn orders(snapshot: Option<OrdersSnapshot>) -> Orders {
        let venue = VenueAccount { exchange: "x".into(), account: "a".into() };
        Orders::new(OrdersConfig::new(venue, 7), snapshot)
    }

    fn trade(quantity: i64, price: i64) -> TradeReport {
        TradeReport {
            trade: 1,
            order: 1,
            symbol: symbol(),
            side: if quantity < 0 { Side::Sell } else { Side::Buy },
            quantity: Quantity(quantity.abs()),
            price: Price(price),
            fee: Money::ZERO,
            fee_elsewhere: None,
        }
    }

    /// What is to be taken over after these trades of others: how much, at what price, and whether that is an
    /// average.
    fn adopted(trades: &[(i64, i64)]) -> Option<(i64, i64, bool)> {
        let mut orders = orders(None);
        trades.iter().for_each(|&(quantity, price)| {
            orders.count_traded(&trade(quantity, price), 1, 0);
        });
        let adoption = orders.adopt(&symbol())?;
        Some((adoption.quantity.0, adoption.price.0, adoption.is_average))
    }

    #[test]
    fn what_is_taken_over_has_the_price_at_which_it_was_traded() {
        assert_eq!(adopted(&[(3, 100), (1, 104)]), Some((4, 101, true)));
        assert_eq!(adopted(&[(3, 100), (1, 102)]), Some((4, 101, true)), "100.5, rounded");
        assert_eq!(adopted(&[(4, 100), (-3, 200)]), Some((1, 100, true)), "less at the same price");
        assert_eq!(adopted(&[(4, 100), (-6, 200)]), Some((-2, 200, true)), "the other way");
        assert_eq!(adopted(&[(-2, 100), (-2, 110)]), Some((-4, 105, true)));
        assert_eq!(adopted(&[(4, 100), (-4, 200)]), None);
        assert_eq!(adopted(&[]), None);
    }

    #[test]
    fn a_trade_that_turns_out_to_be_ours_takes_its_own_price_away() {
        let mut orders = orders(None);
        orders.count_traded(&trade(3, 100), 1, 0);
        orders.count_traded(&trade(3, 110), 1, 0);
        orders.count_traded(&trade(3, 100), -1, 1);
        let adoption = orders.adopt(&symbol()).unwrap();
        assert_eq!((adoption.quantity, adoption.price), (Quantity(3), Price(110)));
        // Both were taken over, and one of them is ours.
        orders.on_adopted(adoption.number, &symbol(), Quantity(3));
        orders.count_traded(&trade(3, 110), -1, 1);
        let adoption = orders.adopt(&symbol()).unwrap();
        assert_eq!((adoption.quantity, adoption.price), (Quantity(-3), Price(110)));
    }

    #[test]
    fn where_there_is_no_average_the_last_price_is_taken_and_said_to_be_that() {
        let mut orders = orders(None);
        orders.count_traded(&trade(2, 100), 1, 0);
        orders.traded.get_mut(&symbol()).unwrap().missing_cost = -5;
        let adoption = orders.adopt(&symbol()).unwrap();
        assert_eq!((adoption.price, adoption.is_average), (Price(100), false));
    }

    #[test]
    fn it_counts_once_exec_has_taken_it_and_the_same_is_told_until_then() {
        let mut orders = orders(None);
        orders.count_traded(&trade(3, 100), 1, 0);
        let first = orders.adopt(&symbol()).unwrap();
        assert_eq!(orders.traded[&symbol()].missing(), Quantity(3));
        // Another trade does not change what is under way.
        orders.count_traded(&trade(2, 110), 1, 0);
        assert_eq!(orders.adopt(&symbol()), Some(first.clone()));
        (0..2).for_each(|_| orders.on_adopted(first.number, &symbol(), first.quantity));
        let second = orders.adopt(&symbol()).unwrap();
        assert_eq!((second.number, second.quantity), (first.number + 1, Quantity(2)));
    }

    proptest! {
        /// Both invariants, after any history of trades, adoptions, checkpoints and crashes, with and without a
        /// log of what exec has taken.
        #[test]
        fn everything_that_others_have_traded_is_taken_over_once(
            steps in prop::collection::vec((0u8..6, -5i64..6, 1i64..200), 0..200),
        ) {
            let mut core = orders(None);
            let mut told: Vec<Adoption> = Vec::new();
            let mut taken: BTreeMap<u64, i64> = BTreeMap::new();
            let mut checkpoint = (core.snapshot(), taken.clone());
            for (step, quantity, price) in steps {
                match step {
                    0 | 1 if quantity != 0 => core.count_traded(&trade(quantity, price), 1, 0),
                    2 => told.extend(core.adopt(&symbol())),
                    3 => if let Some(adoption) = told.pop() {
                        // What exec has taken it drops without a word.
                        if taken.insert(adoption.number, adoption.quantity.0).is_none() {
                            core.on_adopted(adoption.number, &symbol(), adoption.quantity);
                        }
                    },
                    4 => checkpoint = (core.snapshot(), taken.clone()),
                    5 => {
                        let (others, price) = core.traded.get(&symbol()).map_or(
                            (Quantity::ZERO, Price::default()),
                            |traded| (traded.others, traded.price),
                        );
                        core = orders(Some(checkpoint.0.clone()));
                        let again = core.start(Timestamp::default()).into_iter();
                        told = again.filter_map(|effect| {
                            let OrdersEffect::Adopt(adoption) = effect else { return None };
                            Some(adoption)
                        }).collect();
                        let kept = quantity > 0;
                        if kept {
                            // By its log exec takes again what it took.
                            for (number, quantity) in &taken {
                                core.on_adopted(*number, &symbol(), Quantity(*quantity));
                            }
                        } else {
                            taken.clone_from(&checkpoint.1);
                        }
                        // The exchange tells again what was traded.
                        let known = core.traded.get(&symbol()).map_or(0, |traded| traded.others.0);
                        if others.0 != known {
                            core.count_traded(&trade(others.0 - known, price.0), 1, 0);
                        }
                    }
                    _ => {}
                }
                prop_assert!(core.adoptions.under_way.len() <= 1);
                let counted = core.traded.get(&symbol()).map_or(0, |traded| traded.adopted.0);
                prop_assert_eq!(counted, taken.values().sum::<i64>());
            }
            for _ in 0..3 {
                if let Some(adoption) = core.adopt(&symbol())
                    && taken.insert(adoption.number, adoption.quantity.0).is_none()
                {
                    core.on_adopted(adoption.number, &symbol(), adoption.quantity);
                }
            }
            let others = core.traded.get(&symbol()).map_or(0, |traded| traded.others.0);
            prop_assert_eq!(taken.values().sum::<i64>(), others);
        }
    }
}
