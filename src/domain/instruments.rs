//! Which instrument a symbol is: by its own configuration, else by the defaults of its class.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Class, Instrument, Price, Quantity, Session, Symbol};

/// What an instrument of a class is like unless its symbol says otherwise. Prices and quantities are
/// in steps of the decimals given here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstrumentTerms {
    /// See [`Instrument::currency`]. Empty: the quote currency is taken from the symbol's name where
    /// the class allows it.
    pub currency: String,
    /// See [`Instrument::price_decimals`].
    pub price_decimals: u8,
    /// See [`Instrument::quantity_decimals`].
    pub quantity_decimals: u8,
    /// See [`Instrument::tick_size`].
    pub tick_size: Price,
    /// See [`Instrument::lot`].
    pub lot: Quantity,
    /// See [`Instrument::quantity_min`].
    pub quantity_min: Quantity,
    /// See [`Instrument::quantity_max`].
    pub quantity_max: Quantity,
    /// See [`Instrument::multiplier`].
    pub multiplier: u32,
    /// See [`Instrument::session`].
    pub session: Session,
}

/// Everything configuration says about instruments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instruments {
    /// Terms by class, in the order of [`Class::ALL`].
    pub classes: Vec<InstrumentTerms>,
    /// Venues whose class is not the built-in one.
    pub venues: BTreeMap<String, Class>,
    /// Symbols whose terms are not their class's.
    pub symbols: BTreeMap<Symbol, (Class, InstrumentTerms)>,
}

impl Instruments {
    /// The instrument that `symbol` names.
    pub fn resolve(&self, symbol: &Symbol) -> Instrument {
        let (class, terms) = match self.symbols.get(symbol) {
            Some((class, terms)) => (*class, terms),
            None => {
                let class = self.class_of(symbol);
                (class, &self.classes[class.index()])
            }
        };
        let currency = if terms.currency.is_empty() {
            currency_of(symbol, class)
        } else {
            terms.currency.clone()
        };
        Instrument {
            symbol: symbol.clone(),
            class,
            currency,
            price_decimals: terms.price_decimals,
            quantity_decimals: terms.quantity_decimals,
            tick_size: terms.tick_size,
            lot: terms.lot,
            quantity_min: terms.quantity_min,
            quantity_max: terms.quantity_max,
            multiplier: terms.multiplier,
            inverse: class == Class::CryptoInverse,
            session: terms.session.clone(),
        }
    }

    /// Whether nothing says what `symbol` is, so that it is taken for something of no particular class.
    pub fn is_guessed(&self, symbol: &Symbol) -> bool {
        !self.symbols.contains_key(symbol)
            && !self.venues.contains_key(symbol.venue())
            && Class::of_venue(symbol.venue()) == Class::Generic
    }

    /// The class of `symbol` by its venue.
    pub fn class_of(&self, symbol: &Symbol) -> Class {
        let venue = symbol.venue();
        self.venues.get(venue).copied().unwrap_or_else(|| Class::of_venue(venue))
    }
}

/// The currency that the name says profit is counted in: the coin for an inverse contract, else the
/// quote currency.
fn currency_of(symbol: &Symbol, class: Class) -> String {
    let name = symbol.as_str().split('.').next().unwrap_or_default();
    let pair = name.split(['_', '-']).next().unwrap_or(name);
    let quoted_in = ["USDT", "USDC", "FDUSD", "BUSD", "TUSD", "USD", "BTC", "ETH", "EUR"];
    let quote = quoted_in.into_iter().find(|quote| pair.len() > 2 && pair.ends_with(quote));
    match (class, quote) {
        (Class::CryptoInverse, Some(quote)) => pair[..pair.len() - quote.len()].to_owned(),
        (Class::CryptoSpot | Class::CryptoLinear, Some(quote)) => quote.to_owned(),
        (Class::Fx, _) if pair.len() == 6 => pair[3..].to_owned(),
        (Class::EquityCn | Class::FuturesCn, _) => "CNY".to_owned(),
        _ => "USD".to_owned(),
    }
}

impl Default for Instruments {
    /// Terms that suit the venues known by name.
    fn default() -> Self {
        Self {
            classes: Class::ALL.into_iter().map(InstrumentTerms::of_class).collect(),
            venues: BTreeMap::new(),
            symbols: BTreeMap::new(),
        }
    }
}

impl InstrumentTerms {
    /// The built-in terms of `class`. Eight decimals hold every price in the feeds we know, and up to
    /// 92 thousand million.
    pub fn of_class(class: Class) -> Self {
        const ONE: i64 = 100_000_000;
        let (tick_size, lot) = match class {
            Class::CryptoSpot => (ONE / 100, ONE / 100),
            Class::CryptoLinear => (ONE / 100, ONE / 100),
            Class::CryptoInverse => (ONE / 100, ONE),
            Class::EquityUs => (ONE / 100, ONE),
            Class::EquityCn => (ONE / 100, 100 * ONE),
            Class::FuturesCn => (ONE / 5, ONE),
            Class::Fx => (ONE / 100_000, ONE),
            Class::Generic => (1, ONE),
        };
        Self {
            currency: String::new(),
            price_decimals: 8,
            quantity_decimals: 8,
            tick_size: Price(tick_size),
            lot: Quantity(lot),
            quantity_min: Quantity(lot),
            quantity_max: Quantity(1_000_000 * ONE),
            multiplier: match class {
                Class::CryptoInverse => 10,
                Class::FuturesCn => 10,
                Class::CryptoSpot
                | Class::CryptoLinear
                | Class::EquityUs
                | Class::EquityCn
                | Class::Fx
                | Class::Generic => 1,
            },
            session: Session::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symbol_is_resolved_by_its_own_terms_then_by_its_venue() {
        let mut instruments = Instruments::default();
        let symbol = Symbol::new("IF2101.CFFEX").unwrap();
        assert_eq!(instruments.resolve(&symbol).class, Class::FuturesCn);
        let terms =
            InstrumentTerms { multiplier: 300, ..InstrumentTerms::of_class(Class::FuturesCn) };
        instruments.symbols.insert(symbol.clone(), (Class::FuturesCn, terms));
        assert_eq!(instruments.resolve(&symbol).multiplier, 300);
    }

    #[test]
    fn only_a_venue_of_which_nothing_is_known_is_guessed() {
        let mut instruments = Instruments::default();
        let is_guessed = |instruments: &Instruments, name: &str| {
            instruments.is_guessed(&Symbol::new(name).unwrap())
        };
        assert!(!is_guessed(&instruments, "IBM.US"));
        assert!(is_guessed(&instruments, "A.X") && is_guessed(&instruments, "A"));
        // Also where a person has chosen that.
        instruments.venues.insert("X".into(), Class::Generic);
        assert!(!is_guessed(&instruments, "A.X"));
        let terms = InstrumentTerms::of_class(Class::Fx);
        instruments.symbols.insert(Symbol::new("B.Y").unwrap(), (Class::Fx, terms));
        assert!(!is_guessed(&instruments, "B.Y") && is_guessed(&instruments, "C.Y"));
    }

    #[test]
    fn the_currency_is_read_from_the_name() {
        let currency =
            |name: &str| Instruments::default().resolve(&Symbol::new(name).unwrap()).currency;
        assert_eq!(currency("BTCUSDT.BINANCE_SPOT"), "USDT");
        assert_eq!(currency("ETHUSD_PERP.BINANCE_COINM"), "ETH");
        assert_eq!(currency("EURUSD.FXCM"), "USD");
        assert_eq!(currency("IBM.US"), "USD");
        assert_eq!(currency("600103.SH"), "CNY");
    }
}
