//! What is traded: scales, steps, contract terms and hours.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Money, Price, Quantity, Symbol, Timestamp, decimal};

/// Kinds of instruments whose feeds and contracts behave alike. Cleaning, matching and sizing rules
/// are kept per class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Coins against coins or dollars, round the clock.
    CryptoSpot,
    /// Perpetuals and futures margined and settled in the quote currency.
    CryptoLinear,
    /// Contracts of a fixed quote amount, margined and settled in the coin.
    CryptoInverse,
    /// Shares quoted by several exchanges at once, one side a row.
    EquityUs,
    /// Shares of the mainland exchanges: auctions, price limits, lots of one hundred.
    EquityCn,
    /// Futures of the mainland exchanges: snapshots twice a second, night sessions, trading days.
    FuturesCn,
    /// Currency pairs, quoted without size by each provider.
    Fx,
    /// Anything else.
    Generic,
}

impl Class {
    /// Every class, in declaration order.
    pub const ALL: [Self; 8] = [
        Self::CryptoSpot,
        Self::CryptoLinear,
        Self::CryptoInverse,
        Self::EquityUs,
        Self::EquityCn,
        Self::FuturesCn,
        Self::Fx,
        Self::Generic,
    ];

    /// The class as configuration spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CryptoSpot => "crypto_spot",
            Self::CryptoLinear => "crypto_linear",
            Self::CryptoInverse => "crypto_inverse",
            Self::EquityUs => "equity_us",
            Self::EquityCn => "equity_cn",
            Self::FuturesCn => "futures_cn",
            Self::Fx => "fx",
            Self::Generic => "generic",
        }
    }

    /// The class's place in [`Class::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The class that a venue's instruments have unless configuration says otherwise.
    pub fn of_venue(venue: &str) -> Self {
        match venue {
            "BINANCE_SPOT" | "SPOT" => Self::CryptoSpot,
            "BINANCE_USDM" | "USDM" => Self::CryptoLinear,
            "BINANCE_COINM" | "COINM" => Self::CryptoInverse,
            "US" | "NYSE" | "NASDAQ" | "ARCA" | "BATS" => Self::EquityUs,
            "SH" | "SZ" | "SSE" | "SZSE" => Self::EquityCn,
            "CFFEX" | "CZCE" | "SHFE" | "DCE" | "INE" | "GFEX" => Self::FuturesCn,
            "FXCM" | "OANDA" | "FX" => Self::Fx,
            _ => Self::Generic,
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// When an instrument trades: spans of the UTC day in seconds, start inclusive, end exclusive. None
/// at all means round the clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// `(start, end)` in seconds after midnight UTC; ascending, not overlapping.
    pub spans: Vec<(u32, u32)>,
}

impl Session {
    /// Whether `at` lies in one of the spans.
    pub fn is_open(&self, at: Timestamp) -> bool {
        if self.spans.is_empty() {
            return true;
        }
        let second = at.as_nanos() / 1_000_000_000 % 86_400;
        self.spans.iter().any(|&(start, end)| (u64::from(start)..u64::from(end)).contains(&second))
    }
}

/// Everything that is fixed about one instrument.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instrument {
    /// Its name.
    pub symbol: Symbol,
    /// Which rules it follows.
    pub class: Class,
    /// What profit and loss are counted in: `USDT`, `CNY`; the coin itself for inverse contracts.
    pub currency: String,
    /// Decimals of a [`Price`], at most nine.
    pub price_decimals: u8,
    /// Decimals of a [`Quantity`], at most nine.
    pub quantity_decimals: u8,
    /// Smallest step between two order prices.
    pub tick_size: Price,
    /// Smallest step between two order quantities; also the unit that strategies size in.
    pub lot: Quantity,
    /// Smallest order.
    pub quantity_min: Quantity,
    /// Largest order.
    pub quantity_max: Quantity,
    /// Units behind one contract; for an inverse contract its amount in the quote currency.
    pub multiplier: u32,
    /// Whether the contract is worth `multiplier / price` of the coin, rather than `multiplier x price`.
    pub inverse: bool,
    /// When orders are accepted.
    pub session: Session,
}

impl Instrument {
    /// What `quantity` at `price` is worth, signed: bought quantities cost a positive amount. For
    /// linear contracts that is price times quantity, exactly. For inverse ones it is minus quantity
    /// over price (a long gains as the price rises), rounded to 1e-18.
    ///
    /// Profit is always what was received less what was paid, whichever the kind.
    pub fn value(&self, price: Price, quantity: Quantity) -> Money {
        let contracts = i128::from(quantity.0) * i128::from(self.multiplier);
        if self.inverse {
            if price.0 == 0 {
                return Money::ZERO;
            }
            let decimals = u32::from(18 + self.price_decimals - self.quantity_decimals);
            let scaled = contracts.saturating_mul(10i128.pow(decimals));
            Money(-decimal::divide_rounded(scaled, i128::from(price.0)))
        } else {
            let decimals = u32::from(18 - self.price_decimals - self.quantity_decimals);
            let product = contracts.saturating_mul(i128::from(price.0));
            Money(product.saturating_mul(10i128.pow(decimals)))
        }
    }

    /// The size of what `quantity` at `price` is worth.
    pub fn notional(&self, price: Price, quantity: Quantity) -> Money {
        self.value(price, quantity).abs()
    }

    /// `price` as a float, for factors.
    #[expect(
        clippy::cast_precision_loss,
        reason = "prices stay below 2^53 steps; else an estimate"
    )]
    pub fn price_to_f64(&self, price: Price) -> f64 {
        price.0 as f64 / decimal::POW10[usize::from(self.price_decimals)] as f64
    }

    /// `quantity` as a float, for factors.
    #[expect(clippy::cast_precision_loss, reason = "an estimate is wanted")]
    pub fn quantity_to_f64(&self, quantity: Quantity) -> f64 {
        quantity.0 as f64 / decimal::POW10[usize::from(self.quantity_decimals)] as f64
    }

    /// `price` as text.
    pub fn format_price(&self, price: Price) -> String {
        decimal::format(i128::from(price.0), self.price_decimals)
    }

    /// `quantity` as text.
    pub fn format_quantity(&self, quantity: Quantity) -> String {
        decimal::format(i128::from(quantity.0), self.quantity_decimals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instrument(inverse: bool, multiplier: u32) -> Instrument {
        Instrument {
            symbol: Symbol::new("X.Y").unwrap(),
            class: Class::Generic,
            currency: "USD".into(),
            price_decimals: 8,
            quantity_decimals: 8,
            tick_size: Price(1),
            lot: Quantity(1),
            quantity_min: Quantity(1),
            quantity_max: Quantity(i64::MAX),
            multiplier,
            inverse,
            session: Session::default(),
        }
    }

    #[test]
    fn a_linear_contract_is_worth_price_times_quantity_times_multiplier() {
        let future = instrument(false, 300);
        let value = future.value(Price(523_000_000_000), Quantity(200_000_000)); // 2 at 5,230
        assert_eq!(value, Money::from_units(2 * 300 * 5_230));
    }

    #[test]
    fn a_long_inverse_contract_gains_as_the_price_rises() {
        let perpetual = instrument(true, 100); // 100 dollars a contract
        let (one, at) = (Quantity(100_000_000), |dollars: i64| Price(dollars * 100_000_000));
        let paid = perpetual.value(at(50_000), one);
        let received = perpetual.value(at(100_000), one);
        assert_eq!(received - paid, Money::parse("0.001").unwrap());
    }

    #[test]
    fn a_session_opens_at_its_start_and_is_closed_at_its_end() {
        let session = Session { spans: vec![(100, 200)] };
        let at = |second: u64| Timestamp::from_nanos((86_400 * 365 + second) * 1_000_000_000);
        assert!(session.is_open(at(100)) && session.is_open(at(199)));
        assert!(!session.is_open(at(99)) && !session.is_open(at(200)));
        assert!(Session::default().is_open(at(0)));
    }
}
