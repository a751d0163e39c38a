//! Exact fixed-point amounts.
//!
//! | Type         | Unit                                             | Raw integer                           |
//! |--------------|--------------------------------------------------|---------------------------------------|
//! | [`Price`]    | quote currency per unit                          | `i64`, steps of 10^-`price_decimals`    |
//! | [`Quantity`] | units or contracts, signed: long > 0             | `i64`, steps of 10^-`quantity_decimals` |
//! | [`Money`]    | one currency                                     | `i128`, steps of 1e-18                  |
//!
//! The decimals belong to the [`Instrument`](super::Instrument), which alone multiplies a price with
//! a quantity. Both have at most nine decimals, so the product fits [`Money`]'s eighteen exactly.

use std::iter::Sum;
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};

use serde::{Deserialize, Serialize};

use super::decimal;

/// A price in steps of the instrument's `price_decimals`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Price(pub i64);

/// A quantity in steps of the instrument's `quantity_decimals`; a long is positive, a short negative.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Quantity(pub i64);

/// An amount of one currency, in steps of 1e-18.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Money(pub i128);

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// The size of the quantity, regardless of direction.
    pub const fn abs(self) -> Self {
        Self(self.0.saturating_abs())
    }

    /// The sum, held at the ends of the number line rather than wrapping from long to short.
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// Decimals of every amount of money.
    pub const DECIMALS: u8 = 18;

    /// A whole number of currency units.
    pub const fn from_units(units: i64) -> Self {
        Self(units as i128 * 1_000_000_000_000_000_000)
    }

    /// The amount `text` says, with up to nine decimals.
    ///
    /// # Errors
    ///
    /// [`decimal::DecimalError`].
    pub fn parse(text: &str) -> Result<Self, decimal::DecimalError> {
        let nanos = decimal::parse(text.as_bytes(), 9)?;
        Ok(Self(i128::from(nanos) * 1_000_000_000))
    }

    /// The size of the amount, regardless of direction.
    pub const fn abs(self) -> Self {
        Self(self.0.abs())
    }

    /// The amount times `rate`, a fraction in steps of 1e-9; rounded half away from zero.
    pub fn scaled(self, rate_nanos: i64) -> Self {
        Self(decimal::divide_rounded(self.0.saturating_mul(i128::from(rate_nanos)), 1_000_000_000))
    }

    /// The amount times `numerator / denominator`, rounded half away from zero.
    ///
    /// # Panics
    ///
    /// When `denominator` is zero.
    pub fn prorated(self, numerator: i64, denominator: i64) -> Self {
        let product = self.0.saturating_mul(i128::from(numerator));
        Self(decimal::divide_rounded(product, i128::from(denominator)))
    }

    /// The amount as a float, for scores and charts.
    #[expect(clippy::cast_precision_loss, reason = "for display and scores only")]
    pub fn to_f64(self) -> f64 {
        self.0 as f64 / 1e18
    }
}

impl std::fmt::Display for Money {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&decimal::format(self.0, Self::DECIMALS))
    }
}

impl Neg for Quantity {
    type Output = Self;
    fn neg(self) -> Self {
        Self(self.0.saturating_neg())
    }
}

impl Neg for Money {
    type Output = Self;
    fn neg(self) -> Self {
        Self(-self.0)
    }
}

impl Add for Money {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Money {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl AddAssign for Money {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Money {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Sum for Money {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_prints_as_a_decimal_without_noise() {
        assert_eq!(Money::parse("-1234.5").unwrap().to_string(), "-1234.5");
        assert_eq!(Money::from_units(3).to_string(), "3");
    }

    #[test]
    fn a_rate_is_taken_of_an_amount_exactly() {
        // 4 basis points of 1,000.
        assert_eq!(Money::from_units(1_000).scaled(400_000), Money::parse("0.4").unwrap());
    }
}
