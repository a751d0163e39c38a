//! What is traded: the two assets, the steps of price and quantity, and where the price begins.

use super::amount::Amount;

/// Assets that others are priced in, for names without a stroke.
const QUOTES: [&str; 12] =
    ["USDT", "USDC", "FDUSD", "BUSD", "TUSD", "USD", "EUR", "GBP", "TRY", "BTC", "ETH", "BNB"];

/// A symbol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SymbolSpec {
    /// `BTCUSDT`.
    pub name: String,
    /// What is bought and sold.
    pub base: String,
    /// What it is paid in.
    pub quote: String,
    /// Prices are multiples of it.
    pub tick: Amount,
    /// Quantities are multiples of it.
    pub step: Amount,
    /// An order is worth at least so much.
    pub notional_min: Amount,
    /// Where a simulated market begins.
    pub price: Amount,
}

/// Why text is no symbol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "symbol `{text}`: {problem}; write BTCUSDT or BTC/USDT, and if you like \
     :price=60000:tick=0.01:step=0.00001:notional_min=5"
)]
pub struct SymbolError {
    text: String,
    problem: String,
}

impl SymbolSpec {
    /// Reads `BTC/USDT:price=60000:tick=0.01:step=0.00001:notional_min=5`, of which all but the name may
    /// be left out.
    ///
    /// # Errors
    ///
    /// [`SymbolError`] when it does not say what is traded, or prices and quantities have more than
    /// eight decimals together: what an order is worth would not be exact.
    pub fn parse(text: &str) -> Result<Self, SymbolError> {
        let wrong =
            |problem: &str| SymbolError { text: text.to_owned(), problem: problem.to_owned() };
        let mut parts = text.split(':');
        let name = parts.next().unwrap_or_default();
        let (base, quote) = match name.split_once('/') {
            Some(pair) => pair,
            None => QUOTES
                .iter()
                .find_map(|quote| name.strip_suffix(quote).map(|base| (base, *quote)))
                .ok_or_else(|| wrong("what it is priced in cannot be told from its name"))?,
        };
        let is_asset = |asset: &str| {
            let is_upper = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
            (1..=20).contains(&asset.len()) && asset.bytes().all(is_upper)
        };
        if !is_asset(base) || !is_asset(quote) || base == quote {
            return Err(wrong("assets are two different names in capital letters"));
        }
        let mut spec = Self {
            name: format!("{base}{quote}"),
            base: base.to_owned(),
            quote: quote.to_owned(),
            tick: Amount(1_000_000),
            step: Amount(1_000),
            notional_min: Amount::from_units(5),
            price: Amount::from_units(match base {
                "BTC" => 60_000,
                "ETH" => 3_000,
                _ => 100,
            }),
        };
        for part in parts {
            let (key, value) = part.split_once('=').ok_or_else(|| wrong("has no value"))?;
            let amount = Amount::parse(value).map_err(|error| wrong(&error.to_string()))?;
            match key {
                "price" => spec.price = amount,
                "tick" => spec.tick = amount,
                "step" => spec.step = amount,
                "notional_min" => spec.notional_min = amount,
                _ => return Err(wrong(&format!("{key} is no property"))),
            }
        }
        if [spec.tick, spec.step, spec.price].contains(&Amount::ZERO) {
            return Err(wrong("price, tick and step are above zero"));
        }
        if spec.tick.decimals() + spec.step.decimals() > super::amount::DECIMALS {
            return Err(wrong("tick and step have more than eight decimals together"));
        }
        if !spec.price.is_multiple_of(spec.tick) {
            return Err(wrong("the price is no multiple of the tick"));
        }
        Ok(spec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symbol_is_read_with_what_is_left_out_filled_in() {
        let spec = SymbolSpec::parse("BTCUSDT").unwrap();
        assert_eq!((spec.base.as_str(), spec.quote.as_str()), ("BTC", "USDT"));
        let spec = SymbolSpec::parse("A/B:price=2:tick=0.5:step=1").unwrap();
        assert_eq!((spec.name.as_str(), spec.tick), ("AB", Amount(50_000_000)));
        let refused = ["A", "a/B", "A/A", "A/B:x=1", "A/B:tick=0", "A/B:tick=0.000001:step=0.001"];
        for text in refused {
            let error = SymbolSpec::parse(text).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }
}
