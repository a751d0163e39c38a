//! Which factors there are, by name: the built-in ones, and those a user adds.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::FactorInput;
use super::family::{FamilyKey, Output};
use crate::domain::parameters::{Declared, out_of_range, resolve, whole};
use crate::domain::{Cadence, FactorSpec, ParameterError, Snapshot};

/// A factor: a number that follows from the prices, volumes and books of one symbol so far.
///
/// One instance sees the steps of one symbol, in order. It must answer from what it saw and from
/// nothing else, and continue after [`restore`](Snapshot::restore) exactly as the one that wrote the
/// snapshot would have: a snapshot holds everything that [`update`](Factor::update) depends on. With
/// serde's `Serialize` and `Deserialize` derived, snapshots are there already.
pub trait Factor: Snapshot + Send {
    /// Takes in one step: a row that moved the symbol, or, for a factor on windows, one that closed.
    /// None while too little has been seen.
    fn update(&mut self, input: &FactorInput<'_>) -> Option<f64>;
}

/// Makes the factor of one symbol from its parameters, in the order they were declared.
type FactorMaker = dyn Fn(&[f64]) -> Result<Box<dyn Factor>, ParameterError> + Send + Sync;

/// Why factors cannot be computed as asked.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FactorError {
    /// No factor has this name.
    #[error("there is no factor `{name}`; there are: {known}")]
    Unknown {
        /// The name given.
        name: String,
        /// The names there are, with commas between.
        known: String,
    },
    /// A factor cannot be made from its parameters.
    #[error("factor `{spec}` cannot be made: {source}")]
    Parameters {
        /// The factor.
        spec: String,
        /// What is wrong.
        source: ParameterError,
    },
    /// A window that boundaries do not close.
    #[error(
        "the window of factor `{spec}` must be a multiple of {step_ms} ms, at most {window_ms} ms"
    )]
    Window {
        /// The factor.
        spec: String,
        /// Distance between boundaries.
        step_ms: u128,
        /// The longest window.
        window_ms: u128,
    },
    /// The step is zero, or the longest window is no multiple of it.
    #[error("windows of {window_ms} ms cannot step by {step_ms} ms")]
    Step {
        /// Distance between boundaries.
        step_ms: u128,
        /// The longest window.
        window_ms: u128,
    },
    /// A snapshot that this engine cannot have written.
    #[error("the snapshot of the factor engine cannot be taken over: {problem}")]
    Snapshot {
        /// What is wrong with it.
        problem: String,
    },
}

/// The built-in factors: what computes them, and their parameters.
const BUILT_IN: [(&str, &[Declared]); 15] = [
    ("atr", &[("period", 14.0)]),
    ("bollinger_lower", &[("period", 20.0), ("width", 2.0)]),
    ("bollinger_middle", &[("period", 20.0)]),
    ("bollinger_upper", &[("period", 20.0), ("width", 2.0)]),
    ("deviation", &[("period", 20.0)]),
    ("ema", &[("period", 20.0)]),
    ("imbalance", &[]),
    ("macd_histogram", &MACD),
    ("macd_line", &MACD),
    ("macd_signal", &MACD),
    ("realised_volatility", &[("period", 20.0)]),
    ("rsi", &[("period", 14.0)]),
    ("sma", &[("period", 20.0)]),
    ("vwap", &[("period", 20.0)]),
    ("z_score", &[("period", 20.0)]),
];

const MACD: [Declared; 3] = [("fast", 12.0), ("slow", 26.0), ("signal", 9.0)];

/// Longest memory of a factor, in steps.
const PERIOD_MAX: u32 = 100_000;

/// A factor that a user added.
#[derive(Clone)]
struct Own {
    declared: Vec<Declared>,
    make: Arc<FactorMaker>,
}

/// Factors by name.
#[derive(Clone, Default)]
pub struct FactorRegistry {
    own: BTreeMap<String, Own>,
}

impl fmt::Debug for FactorRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

impl FactorRegistry {
    /// The built-in factors.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a factor of the user's own, or replaces one of that name. `make` is called once per
    /// symbol, with the values of the `declared` parameters in their order; it must refuse the same
    /// values always.
    pub fn register(
        &mut self,
        name: &str,
        declared: &[Declared],
        make: impl Fn(&[f64]) -> Result<Box<dyn Factor>, ParameterError> + Send + Sync + 'static,
    ) {
        let own = Own { declared: declared.to_vec(), make: Arc::new(make) };
        self.own.insert(name.to_owned(), own);
    }

    /// Every name, in alphabetical order of the built-in ones, then of the user's.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        BUILT_IN.iter().map(|&(name, _)| name).chain(self.own.keys().map(String::as_str))
    }

    /// `spec` with every parameter written out by position: the form in which equal columns are equal.
    ///
    /// # Errors
    ///
    /// [`FactorError::Unknown`] and [`FactorError::Parameters`].
    pub fn canonical(&self, spec: &FactorSpec) -> Result<FactorSpec, FactorError> {
        let wrong = |source| FactorError::Parameters { spec: spec.to_string(), source };
        let values = resolve(self.declared(&spec.name)?, &spec.parameters).map_err(wrong)?;
        let canonical = FactorSpec::new(&spec.name, &values, spec.on);
        if let Some(own) = self.own.get(&spec.name) {
            (own.make)(&values).map_err(wrong)?;
        } else {
            built_in(&spec.name, &values).map_err(wrong)?;
        }
        Ok(canonical)
    }

    /// What computes the canonical `spec`, and which of its outputs it is.
    pub(super) fn family_of(&self, spec: &FactorSpec) -> (FamilyKey, Output) {
        let values = values_of(spec);
        if self.own.contains_key(&spec.name) {
            (FamilyKey::Own(spec.name.clone(), values), Output::First)
        } else {
            built_in(&spec.name, &values).expect("a canonical spec was resolved before")
        }
    }

    /// A new instance of a user's factor.
    pub(super) fn make(&self, name: &str, values: &[f64]) -> Box<dyn Factor> {
        let own = self.own.get(name).expect("a canonical spec was resolved before");
        (own.make)(values).expect("the same values made a factor before")
    }

    fn declared(&self, name: &str) -> Result<&[Declared], FactorError> {
        if let Some(own) = self.own.get(name) {
            return Ok(&own.declared);
        }
        let found = BUILT_IN.iter().find(|(known, _)| *known == name);
        found.map(|&(_, declared)| declared).ok_or_else(|| FactorError::Unknown {
            name: name.to_owned(),
            known: self.names().collect::<Vec<_>>().join(", "),
        })
    }
}

fn values_of(spec: &FactorSpec) -> Vec<f64> {
    spec.parameters.iter().map(|&(_, value)| value).collect()
}

/// The family and output of a built-in factor.
fn built_in(name: &str, values: &[f64]) -> Result<(FamilyKey, Output), ParameterError> {
    let period = |min| whole("period", values[0], min, PERIOD_MAX);
    Ok(match name {
        "atr" => (FamilyKey::Atr(period(1)?), Output::First),
        "bollinger_lower" => (FamilyKey::Moments(period(2)?), Output::Band(-width(values[1])?)),
        "bollinger_upper" => (FamilyKey::Moments(period(2)?), Output::Band(width(values[1])?)),
        "bollinger_middle" | "sma" => (FamilyKey::Moments(period(1)?), Output::First),
        "deviation" => (FamilyKey::Moments(period(2)?), Output::Second),
        "z_score" => (FamilyKey::Moments(period(2)?), Output::Third),
        "ema" => (FamilyKey::Ema(period(1)?), Output::First),
        "imbalance" => (FamilyKey::Imbalance, Output::First),
        "macd_line" => (macd(values)?, Output::First),
        "macd_signal" => (macd(values)?, Output::Second),
        "macd_histogram" => (macd(values)?, Output::Third),
        "realised_volatility" => (FamilyKey::Volatility(period(1)?), Output::First),
        "rsi" => (FamilyKey::Rsi(period(1)?), Output::First),
        "vwap" => (FamilyKey::Vwap(period(1)?), Output::First),
        unknown => unreachable!("`{unknown}` is not in BUILT_IN"),
    })
}

fn width(value: f64) -> Result<f64, ParameterError> {
    if value > 0.0 { Ok(value) } else { Err(out_of_range("width", value, "positive")) }
}

fn macd(values: &[f64]) -> Result<FamilyKey, ParameterError> {
    let fast = whole("fast", values[0], 1, PERIOD_MAX)?;
    let slow = whole("slow", values[1], 2, PERIOD_MAX)?;
    let signal = whole("signal", values[2], 1, PERIOD_MAX)?;
    if fast >= slow {
        return Err(out_of_range("fast", values[0], "less than `slow`"));
    }
    Ok(FamilyKey::Macd(fast, slow, signal))
}

impl FactorSpec {
    /// Whether the factor advances on closing windows, and of which length in nanoseconds.
    pub(super) fn window_nanos(&self) -> Option<u64> {
        match self.on {
            Cadence::Ticks => None,
            Cadence::Windows(length) => Some(u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)),
        }
    }
}
