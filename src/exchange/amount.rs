//! Exact amounts of the exchange: prices, quantities and balances, all in steps of 1e-8.

use std::fmt;
use std::ops::{Add, AddAssign, Sub, SubAssign};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::domain::decimal;

/// Decimals of every amount.
pub(super) const DECIMALS: u8 = 8;

/// Steps in one unit.
const UNIT: i128 = 100_000_000;

/// Largest amount that a client may name: the product of two fits by far.
pub(super) const AMOUNT_MAX: Amount = Amount(9_000_000_000 * UNIT);

/// An amount in steps of 1e-8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amount(pub i128);

/// Why text is not an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Not digits with at most one point among them.
    #[error("is not a decimal number")]
    NotANumber,
    /// More decimals than there are.
    #[error("has more than 8 decimals")]
    TooPrecise,
    /// Above nine billion.
    #[error("is out of range")]
    OutOfRange,
}

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// A whole number of units.
    pub const fn from_units(units: i64) -> Self {
        Self(units as i128 * UNIT)
    }

    /// What `text` says, which must be `123`, `123.45` and nothing else.
    ///
    /// # Errors
    ///
    /// [`AmountError`]; nothing is rounded.
    pub fn parse(text: &str) -> Result<Self, AmountError> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let is_number = |part: &str| {
            !part.is_empty() && part.len() <= 20 && part.bytes().all(|byte| byte.is_ascii_digit())
        };
        if !is_number(whole) || !is_number(fraction) {
            return Err(AmountError::NotANumber);
        }
        if fraction.trim_end_matches('0').len() > usize::from(DECIMALS) {
            return Err(AmountError::TooPrecise);
        }
        let steps = decimal::parse(text.as_bytes(), DECIMALS);
        let amount = Self(steps.map_err(|_| AmountError::OutOfRange)?.into());
        if amount > AMOUNT_MAX { Err(AmountError::OutOfRange) } else { Ok(amount) }
    }

    /// The product, cut to whole steps; exact where price and quantity have eight decimals together.
    pub const fn times(self, other: Self) -> Self {
        Self(self.0.saturating_mul(other.0) / UNIT)
    }

    /// The quotient, to the nearest step; nothing when divided by nothing.
    pub fn per(self, other: Self) -> Self {
        if other.0 == 0 {
            return Self::ZERO;
        }
        Self(decimal::divide_rounded(self.0.saturating_mul(UNIT), other.0))
    }

    /// Whether it is a whole multiple of `step`.
    pub const fn is_multiple_of(self, step: Self) -> bool {
        step.0 == 0 || self.0 % step.0 == 0
    }

    /// Decimals that are needed to write it.
    pub fn decimals(self) -> u8 {
        let mut steps = self.0;
        let mut decimals = DECIMALS;
        while decimals > 0 && steps % 10 == 0 {
            steps /= 10;
            decimals -= 1;
        }
        decimals
    }
}

/// With all eight decimals, as exchanges of this kind write amounts.
impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let steps = self.0.unsigned_abs();
        let unit = UNIT.unsigned_abs();
        write!(f, "{sign}{}.{:08}", steps / unit, steps % unit)
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(|error| serde::de::Error::custom(format!("`{text}` {error}")))
    }
}

impl Add for Amount {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Amount {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl AddAssign for Amount {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Amount {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_read_exactly_or_not_at_all() {
        assert_eq!(Amount::parse("61837.63"), Ok(Amount(6_183_763_000_000)));
        assert_eq!(Amount::parse("0.00000001"), Ok(Amount(1)));
        assert_eq!(Amount::parse("1.000000000000"), Ok(Amount::from_units(1)));
        assert_eq!(Amount::parse("0.000000001"), Err(AmountError::TooPrecise));
        for text in ["", "-1", "+1", "1e3", "1.", ".5", "1.2.3", "NaN", " 1"] {
            assert_eq!(Amount::parse(text), Err(AmountError::NotANumber), "{text}");
        }
        for text in ["9000000000.00000001", "99999999999999999999"] {
            assert_eq!(Amount::parse(text), Err(AmountError::OutOfRange), "{text}");
        }
    }

    #[test]
    fn an_amount_is_written_with_eight_decimals_and_read_back() {
        for text in ["0.00000000", "61837.63000000", "0.00000001"] {
            assert_eq!(Amount::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Amount(-5).to_string(), "-0.00000005");
        assert_eq!(Amount::parse("0.01").unwrap().decimals(), 2);
        assert_eq!(Amount::from_units(10).decimals(), 0);
    }
}
