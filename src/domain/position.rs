//! A holding and what it has earned, by average cost.

use serde::{Deserialize, Serialize};

use super::{Instrument, Money, Price, Quantity};

/// A holding in one instrument.
///
/// Cost is kept as money, not as an average price, so that nothing is lost to rounding while a
/// position grows, and so that inverse contracts need no rule of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Held now: long positive, short negative.
    pub quantity: Quantity,
    /// What the holding was worth when it was taken on, signed as [`Instrument::value`] has it.
    pub cost: Money,
    /// Profit of what has been closed, before fees.
    pub realised: Money,
}

impl Position {
    /// Takes in a trade of `quantity` (signed) at `price`; returns what it realised.
    ///
    /// A trade that turns the position over closes it first and opens the rest at `price`.
    pub fn trade(&mut self, instrument: &Instrument, quantity: Quantity, price: Price) -> Money {
        let closes = (self.quantity.0 > 0) != (quantity.0 > 0) && self.quantity.0 != 0;
        let closed = if closes {
            let size = quantity.0.abs().min(self.quantity.0.abs());
            Quantity(if quantity.0 > 0 { size } else { -size })
        } else {
            Quantity::ZERO
        };
        let mut earned = Money::ZERO;
        if closed != Quantity::ZERO {
            let released = self.cost.prorated(-closed.0, self.quantity.0);
            // Selling receives what the closed part is worth; `value` of a sale is negative.
            earned = -instrument.value(price, closed) - released;
            self.cost -= released;
            self.quantity = self.quantity.saturating_add(closed);
            self.realised += earned;
        }
        let opened = Quantity(quantity.0 - closed.0);
        if opened != Quantity::ZERO {
            self.cost += instrument.value(price, opened);
            self.quantity = self.quantity.saturating_add(opened);
        }
        earned
    }

    /// Profit if the holding were closed at `price`, before fees.
    pub fn unrealised(&self, instrument: &Instrument, price: Price) -> Money {
        instrument.value(price, self.quantity) - self.cost
    }

    /// The average price paid, as a float for display; none when nothing is held.
    pub fn average_price(&self, instrument: &Instrument) -> Option<f64> {
        if self.quantity == Quantity::ZERO {
            return None;
        }
        let contracts =
            instrument.quantity_to_f64(self.quantity) * f64::from(instrument.multiplier);
        let cost = self.cost.to_f64();
        Some(if instrument.inverse { -contracts / cost } else { cost / contracts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Class, Session, Symbol};

    fn share() -> Instrument {
        Instrument {
            symbol: Symbol::new("IBM.US").unwrap(),
            class: Class::EquityUs,
            currency: "USD".into(),
            price_decimals: 2,
            quantity_decimals: 0,
            tick_size: Price(1),
            lot: Quantity(1),
            quantity_min: Quantity(1),
            quantity_max: Quantity(1_000_000),
            multiplier: 1,
            inverse: false,
            session: Session::default(),
        }
    }

    #[test]
    fn closing_a_part_realises_its_share_of_the_cost() {
        let share = share();
        let mut position = Position::default();
        position.trade(&share, Quantity(10), Price(10_000));
        position.trade(&share, Quantity(10), Price(20_000));
        assert_eq!(position.average_price(&share), Some(150.0));
        let earned = position.trade(&share, Quantity(-5), Price(18_000));
        assert_eq!(earned, Money::from_units(5 * 30));
        assert_eq!(position.quantity, Quantity(15));
        assert_eq!(position.unrealised(&share, Price(16_000)), Money::from_units(15 * 10));
    }

    #[test]
    fn a_trade_through_zero_closes_and_opens_the_other_way() {
        let share = share();
        let mut position = Position::default();
        position.trade(&share, Quantity(-10), Price(10_000));
        let earned = position.trade(&share, Quantity(15), Price(9_000));
        assert_eq!(earned, Money::from_units(100));
        assert_eq!((position.quantity, position.cost), (Quantity(5), Money::from_units(450)));
    }
}
