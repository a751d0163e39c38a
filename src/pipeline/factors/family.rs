//! What computes factors: one family may give several columns from one state.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::FactorInput;
use super::averages::{Atr, Average, Macd, Rsi};
use super::flows::{Volatility, Vwap};
use super::moments::Moments;
use super::registry::{Factor, FactorRegistry};

/// What tells two families apart. Columns with equal keys and cadence share one state per symbol.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum FamilyKey {
    Moments(u32),
    Ema(u32),
    Macd(u32, u32, u32),
    Rsi(u32),
    Atr(u32),
    Vwap(u32),
    Volatility(u32),
    Imbalance,
    /// A user's, by name and parameters.
    Own(String, Vec<f64>),
}

/// Which of a family's values a column has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Output {
    /// The value; the mean; the MACD line.
    First,
    /// The deviation; the MACD signal.
    Second,
    /// The z-score; the MACD histogram.
    Third,
    /// The mean and so many deviations.
    Band(f64),
}

/// One symbol's state of a built-in family.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum BuiltIn {
    Moments(Moments),
    Ema(Average),
    Macd(Macd),
    Rsi(Rsi),
    Atr(Atr),
    Vwap(Vwap),
    Volatility(Volatility),
    Imbalance(f64),
}

/// One symbol's state of a family.
pub(super) enum Family {
    BuiltIn(BuiltIn),
    Own {
        factor: Box<dyn Factor>,
        /// The latest; `NAN` for none.
        value: f64,
    },
}

/// A family's state as a checkpoint holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum FamilySnapshot {
    BuiltIn(BuiltIn),
    /// A user's own bytes, and the latest value.
    Own(Vec<u8>, f64),
}

impl fmt::Debug for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn(state) => state.fmt(f),
            Self::Own { value, .. } => f.debug_struct("Own").field("value", value).finish(),
        }
    }
}

impl BuiltIn {
    /// A state that has seen nothing; none for a user's family.
    fn new(key: &FamilyKey) -> Option<Self> {
        Some(match *key {
            FamilyKey::Moments(period) => Self::Moments(Moments::new(period)),
            FamilyKey::Ema(period) => Self::Ema(Average::exponential(period)),
            FamilyKey::Macd(fast, slow, signal) => Self::Macd(Macd::new(fast, slow, signal)),
            FamilyKey::Rsi(period) => Self::Rsi(Rsi::new(period)),
            FamilyKey::Atr(period) => Self::Atr(Atr::new(period)),
            FamilyKey::Vwap(period) => Self::Vwap(Vwap::new(period)),
            FamilyKey::Volatility(period) => Self::Volatility(Volatility::new(period)),
            FamilyKey::Imbalance => Self::Imbalance(f64::NAN),
            FamilyKey::Own(..) => return None,
        })
    }

    /// The key that [`BuiltIn::new`] made it from.
    fn key(&self) -> FamilyKey {
        match self {
            Self::Moments(state) => FamilyKey::Moments(state.period()),
            Self::Ema(state) => FamilyKey::Ema(state.period()),
            Self::Macd(state) => {
                let (fast, slow, signal) = state.periods();
                FamilyKey::Macd(fast, slow, signal)
            }
            Self::Rsi(state) => FamilyKey::Rsi(state.period()),
            Self::Atr(state) => FamilyKey::Atr(state.period()),
            Self::Vwap(state) => FamilyKey::Vwap(state.period()),
            Self::Volatility(state) => FamilyKey::Volatility(state.period()),
            Self::Imbalance(_) => FamilyKey::Imbalance,
        }
    }

    #[inline]
    fn update(&mut self, input: &FactorInput<'_>) {
        match self {
            Self::Moments(state) => state.update(input.price),
            Self::Ema(state) => state.update(input.price),
            Self::Macd(state) => state.update(input.price),
            Self::Rsi(state) => state.update(input.price),
            Self::Atr(state) => state.update(input.price, input.high, input.low),
            Self::Vwap(state) => state.update(input.turnover, input.volume),
            Self::Volatility(state) => state.update(input.price),
            Self::Imbalance(value) => *value = input.book.imbalance().unwrap_or(f64::NAN),
        }
    }

    #[inline]
    fn value(&self, output: Output) -> f64 {
        match (self, output) {
            (Self::Moments(state), Output::First) => state.mean(),
            (Self::Moments(state), Output::Second) => state.deviation(),
            (Self::Moments(state), Output::Third) => state.score(),
            (Self::Moments(state), Output::Band(width)) => state.mean() + width * state.deviation(),
            (Self::Macd(state), Output::Second) => state.signal(),
            (Self::Macd(state), Output::Third) => state.histogram(),
            (Self::Macd(state), _) => state.line(),
            (Self::Ema(state), _) => state.value(),
            (Self::Rsi(state), _) => state.value(),
            (Self::Atr(state), _) => state.value(),
            (Self::Vwap(state), _) => state.value(),
            (Self::Volatility(state), _) => state.value(),
            (Self::Imbalance(value), _) => *value,
        }
    }
}

impl Family {
    /// A family that has seen nothing.
    pub(super) fn new(key: &FamilyKey, registry: &FactorRegistry) -> Self {
        match (BuiltIn::new(key), key) {
            (None, FamilyKey::Own(name, values)) => {
                Self::Own { factor: registry.make(name, values), value: f64::NAN }
            }
            (state, _) => Self::BuiltIn(state.expect("only a user's family is not built in")),
        }
    }

    /// Takes in one step.
    #[inline]
    pub(super) fn update(&mut self, input: &FactorInput<'_>) {
        match self {
            Self::BuiltIn(state) => state.update(input),
            Self::Own { factor, value } => *value = factor.update(input).unwrap_or(f64::NAN),
        }
    }

    /// One of its values; `NAN` while it has not seen enough.
    #[inline]
    pub(super) fn value(&self, output: Output) -> f64 {
        match self {
            Self::BuiltIn(state) => state.value(output),
            Self::Own { value, .. } => *value,
        }
    }

    pub(super) fn snapshot(&self) -> FamilySnapshot {
        match self {
            Self::BuiltIn(state) => FamilySnapshot::BuiltIn(state.clone()),
            Self::Own { factor, value } => FamilySnapshot::Own(factor.snapshot(), *value),
        }
    }

    /// The family of `key` in the state of `snapshot`.
    pub(super) fn restore(
        key: &FamilyKey,
        registry: &FactorRegistry,
        snapshot: FamilySnapshot,
    ) -> Result<Self, String> {
        match (snapshot, Self::new(key, registry)) {
            (FamilySnapshot::BuiltIn(state), Self::BuiltIn(_)) if state.key() == *key => {
                Ok(Self::BuiltIn(state))
            }
            (FamilySnapshot::Own(bytes, value), Self::Own { mut factor, .. }) => {
                factor.restore(&bytes)?;
                Ok(Self::Own { factor, value })
            }
            (FamilySnapshot::BuiltIn(_) | FamilySnapshot::Own(..), _) => {
                Err(format!("another factor's state stands where {key:?} belongs"))
            }
        }
    }
}
