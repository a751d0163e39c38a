//! Names of instruments.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// An instrument's name with its venue: `BTCUSDT.BINANCE_SPOT`, `IF2101.CFFEX`; 1 to 64 bytes of
/// printable ASCII without spaces, commas, quotes or semicolons. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Symbol(Arc<str>);

/// Why text is not a [`Symbol`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SymbolError {
    /// Nothing there.
    #[error("is empty")]
    Empty,
    /// Longer than [`Symbol::LEN_MAX`] bytes.
    #[error("is {length} bytes long, the limit is {max}", max = Symbol::LEN_MAX)]
    TooLong {
        /// Bytes found.
        length: usize,
    },
    /// Something no venue uses in a name.
    #[error("holds byte 0x{byte:02x}; letters, digits and `_.-/:@#` are known")]
    Character {
        /// The first such byte.
        byte: u8,
    },
}

impl Symbol {
    /// Longest symbol, in bytes.
    pub const LEN_MAX: usize = 64;

    /// Checks and stores `name`.
    ///
    /// # Errors
    ///
    /// [`SymbolError`] when `name` is empty, too long, or holds a character no venue uses.
    pub fn new(name: &str) -> Result<Self, SymbolError> {
        if name.is_empty() {
            return Err(SymbolError::Empty);
        }
        if name.len() > Self::LEN_MAX {
            return Err(SymbolError::TooLong { length: name.len() });
        }
        let known = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.-/:@#".contains(byte);
        match name.bytes().find(|byte| !known(byte)) {
            Some(byte) => Err(SymbolError::Character { byte }),
            None => Ok(Self(name.into())),
        }
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the name is what `pattern` describes; `*` stands for any run of characters.
    pub fn matches(&self, pattern: &str) -> bool {
        let mut parts = pattern.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = self.as_str().strip_prefix(first) else { return false };
        let Some(last) = parts.next_back() else { return rest.is_empty() };
        for part in parts {
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.ends_with(last)
    }

    /// What follows the last point: `CFFEX` in `IF2101.CFFEX`; empty when there is none.
    pub fn venue(&self) -> &str {
        self.0.rsplit_once('.').map_or("", |(_, venue)| venue)
    }
}

impl fmt::Debug for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for Symbol {
    type Error = SymbolError;
    fn try_from(name: String) -> Result<Self, SymbolError> {
        Self::new(&name)
    }
}

impl From<Symbol> for String {
    fn from(symbol: Symbol) -> Self {
        symbol.as_str().to_owned()
    }
}

/// A symbol's number within one source: given by its ingester in order of first appearance, and
/// defined in-stream before its first use. Nothing may depend on its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SymbolId(pub u32);

impl SymbolId {
    /// The number as an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_in_a_pattern_stands_for_any_run_of_characters() {
        let matches = |pattern: &str, name: &str| Symbol::new(name).unwrap().matches(pattern);
        assert!(matches("*", "IBM.US") && matches("IBM.US", "IBM.US") && matches("*.US", "IBM.US"));
        assert!(matches("B*USDT.*", "BTCUSDT.BINANCE_SPOT") && matches("a*b*c", "abbc"));
        assert!(!matches("IBM", "IBM.US") && !matches("*.US", "IBM.USA"));
        assert!(!matches("ab*ba", "aba"));
    }

    #[test]
    fn symbol_survives_the_longest_name_and_refuses_the_next() {
        assert_eq!(Symbol::new("BTCUSDT.BINANCE_SPOT").unwrap().venue(), "BINANCE_SPOT");
        assert!(Symbol::new(&"A".repeat(64)).is_ok());
        let too_long = Symbol::new(&"A".repeat(10_000));
        assert_eq!(too_long, Err(SymbolError::TooLong { length: 10_000 }));
        assert_eq!(Symbol::new(""), Err(SymbolError::Empty));
        assert_eq!(Symbol::new("A B"), Err(SymbolError::Character { byte: b' ' }));
    }
}
