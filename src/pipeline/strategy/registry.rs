//! What a strategy is, and which strategies there are.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::bollinger_reversion::BollingerReversionFactory;
use super::ema_crossing::EmaCrossingFactory;
use crate::domain::parameters::{Declared, resolve};
use crate::domain::{FactorSpec, Instrument, Key, ParameterError, Side, Snapshot};

/// What a strategy sees: one row of factors of its symbol.
#[derive(Clone, Copy, Debug)]
pub struct FactorView<'a> {
    /// The key of the tick, or of the boundary that closed a window.
    pub key: Key,
    /// The price the factors saw, in quote currency.
    pub price: f64,
    /// Whether this is a window closing rather than a tick.
    pub is_boundary: bool,
    pub(super) values: &'a [f64],
    pub(super) columns: &'a [usize],
    pub(super) parameters: &'a [f64],
}

impl FactorView<'_> {
    /// The latest value of the factor that the strategy's factory named at this place of its
    /// [`needs`](StrategyFactory::needs); `NAN` while it has not seen enough.
    ///
    /// # Panics
    ///
    /// When the factory named fewer.
    #[inline]
    pub fn value(&self, need: usize) -> f64 {
        self.values[self.columns[need]]
    }

    /// The strategy's parameter at this place of its
    /// [`parameters`](StrategyFactory::parameters), as it is now.
    ///
    /// # Panics
    ///
    /// When the factory declared fewer.
    #[inline]
    pub fn parameter(&self, place: usize) -> f64 {
        self.parameters[place]
    }
}

/// What a strategy would like to do, now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intent {
    /// Which way.
    pub side: Side,
    /// How many of the instrument's lots; none at all is no intent.
    pub lots: u32,
    /// Whether it may only bring a position nearer to zero.
    pub reduce_only: bool,
}

impl Intent {
    /// To buy so many lots.
    pub const fn buy(lots: u32) -> Self {
        Self { side: Side::Buy, lots, reduce_only: false }
    }

    /// To sell so many lots.
    pub const fn sell(lots: u32) -> Self {
        Self { side: Side::Sell, lots, reduce_only: false }
    }

    /// The same, but only to bring a position nearer to zero.
    #[must_use]
    pub const fn reducing(self) -> Self {
        Self { reduce_only: true, ..self }
    }
}

/// Decides for one symbol, row by row.
///
/// It must answer from what it saw and from nothing else, and continue after
/// [`restore`](Snapshot::restore) exactly as the one that wrote the snapshot would have: a snapshot
/// holds everything that [`on_row`](Strategy::on_row) depends on but its parameters. With serde's
/// `Serialize` and `Deserialize` derived, snapshots are there already.
pub trait Strategy: Snapshot + Send {
    /// Takes in one row of factors, and says what to do about it, if anything.
    fn on_row(&mut self, view: &FactorView<'_>) -> Option<Intent>;

    /// Takes over other parameters while running, in the order the factory declares them. The factory
    /// accepted them before. Of no concern to a strategy that asks
    /// [its rows](FactorView::parameter) for them and keeps nothing that was made from them.
    ///
    /// # Errors
    ///
    /// [`ParameterError`], and nothing changes.
    fn set_parameters(&mut self, _parameters: &[f64]) -> Result<(), ParameterError> {
        Ok(())
    }
}

/// Makes the strategies of one name, one per symbol.
pub trait StrategyFactory: Send + Sync {
    /// The parameters, with their values when configuration is silent.
    fn parameters(&self) -> &[Declared];

    /// The factors that strategies with these parameters look at, every parameter by position.
    ///
    /// # Errors
    ///
    /// [`ParameterError`] when the values make no sense.
    fn needs(&self, parameters: &[f64]) -> Result<Vec<FactorSpec>, ParameterError>;

    /// The strategy for one symbol.
    ///
    /// # Errors
    ///
    /// [`ParameterError`] when the values make no sense. The same values are refused always.
    fn make(
        &self,
        instrument: &Instrument,
        parameters: &[f64],
    ) -> Result<Box<dyn Strategy>, ParameterError>;
}

/// One strategy of the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct StrategySpec {
    /// Its name in the registry.
    pub name: String,
    /// Names and values; those not given are as the factory declares them.
    pub parameters: Vec<(String, f64)>,
    /// The symbols it trades, as patterns for [`matches`](crate::domain::Symbol::matches). It never sees the others.
    pub symbols: Vec<String>,
}

impl StrategySpec {
    /// The strategy `name` with `parameters`, on every symbol.
    pub fn new(name: &str, parameters: Vec<(String, f64)>) -> Self {
        Self { name: name.to_owned(), parameters, symbols: vec!["*".to_owned()] }
    }
}

/// Why a strategy cannot run as asked.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum StrategyError {
    /// No strategy has this name.
    #[error("there is no strategy `{name}`; there are: {known}")]
    Unknown {
        /// The name given.
        name: String,
        /// The names there are, with commas between.
        known: String,
    },
    /// A strategy's parameters make no sense.
    #[error("strategy `{name}`: {source}")]
    Parameters {
        /// The strategy.
        name: String,
        /// What is wrong.
        source: ParameterError,
    },
    /// The factor engine does not compute what the strategy looks at.
    #[error("strategy `{name}` needs factor `{spec}`, which is not computed")]
    Column {
        /// The strategy.
        name: String,
        /// The factor.
        spec: FactorSpec,
    },
    /// More strategies than a signal's ordinal can tell apart.
    #[error("{count} strategies, the limit is {max}", max = super::STRATEGY_COUNT_MAX)]
    TooMany {
        /// Strategies asked for.
        count: usize,
    },
    /// There is no strategy at this place.
    #[error("there is no strategy {index}; there are {count}, counted from 0")]
    Index {
        /// The place asked for.
        index: usize,
        /// Strategies there are.
        count: usize,
    },
    /// A layout that does not follow from the one before by the changes.
    #[error("rows have layout {version}, after the changes it should be {after}")]
    Layout {
        /// Which it is.
        version: u64,
        /// Which it should be.
        after: u64,
    },
    /// A snapshot that this engine cannot have written.
    #[error("the snapshot of the strategy engine cannot be taken over: {problem}")]
    Snapshot {
        /// What is wrong with it.
        problem: String,
    },
}

/// The factory of strategies that begin from their default.
struct Beginner<S, N> {
    declared: Vec<Declared>,
    needs: N,
    begin: fn() -> S,
}

impl<S, N> StrategyFactory for Beginner<S, N>
where
    S: Strategy + 'static,
    N: Fn(&[f64]) -> Result<Vec<FactorSpec>, ParameterError> + Send + Sync,
{
    fn parameters(&self) -> &[Declared] {
        &self.declared
    }

    fn needs(&self, parameters: &[f64]) -> Result<Vec<FactorSpec>, ParameterError> {
        (self.needs)(parameters)
    }

    fn make(
        &self,
        _instrument: &Instrument,
        _parameters: &[f64],
    ) -> Result<Box<dyn Strategy>, ParameterError> {
        Ok(Box::new((self.begin)()))
    }
}

/// Strategies by name.
#[derive(Clone)]
pub struct StrategyRegistry {
    factories: BTreeMap<String, Arc<dyn StrategyFactory>>,
}

impl fmt::Debug for StrategyRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

impl Default for StrategyRegistry {
    fn default() -> Self {
        Self::new()
    }
}

impl StrategyRegistry {
    /// The built-in strategies: `bollinger_reversion` and `ema_crossing`.
    pub fn new() -> Self {
        let mut registry = Self { factories: BTreeMap::new() };
        registry.register("bollinger_reversion", BollingerReversionFactory);
        registry.register("ema_crossing", EmaCrossingFactory);
        registry
    }

    /// Adds a strategy of the user's own, or replaces the one of that name.
    pub fn register(&mut self, name: &str, factory: impl StrategyFactory + 'static) {
        self.factories.insert(name.to_owned(), Arc::new(factory));
    }

    /// Adds, or replaces, a strategy of the user's own that begins from `S`'s default on every symbol
    /// and asks its rows for its parameters. `needs` gives the factors that strategies with these
    /// parameters look at, or says that the values make no sense; the same values always.
    ///
    /// ```
    /// # use serde::{Deserialize, Serialize};
    /// # use tickwright_core::domain::{Cadence, FactorSpec};
    /// # use tickwright_core::pipeline::strategy::{FactorView, Intent, Strategy, StrategyRegistry};
    /// /// Buys whenever the price is so far below its average, in units of the price.
    /// #[derive(Default, Serialize, Deserialize)]
    /// struct Dip;
    ///
    /// impl Strategy for Dip {
    ///     fn on_row(&mut self, view: &FactorView<'_>) -> Option<Intent> {
    ///         let is_low = view.price < view.value(0) - view.parameter(1);
    ///         is_low.then(|| Intent::buy(1))
    ///     }
    /// }
    ///
    /// let mut strategies = StrategyRegistry::new();
    /// strategies.add::<Dip>("dip", &[("period", 20.0), ("depth", 0.5)], |parameters| {
    ///     Ok(vec![FactorSpec::new("sma", &parameters[..1], Cadence::Ticks)])
    /// });
    /// ```
    pub fn add<S: Strategy + Default + 'static>(
        &mut self,
        name: &str,
        declared: &[Declared],
        needs: impl Fn(&[f64]) -> Result<Vec<FactorSpec>, ParameterError> + Send + Sync + 'static,
    ) {
        let (declared, begin) = (declared.to_vec(), S::default);
        self.register(name, Beginner { declared, needs, begin });
    }

    /// Every name, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.factories.keys().map(String::as_str)
    }

    /// The factory and every parameter of `spec`, in the order declared.
    pub(super) fn resolve(
        &self,
        spec: &StrategySpec,
    ) -> Result<(Arc<dyn StrategyFactory>, Vec<f64>), StrategyError> {
        let factory = self.factories.get(&spec.name).ok_or_else(|| StrategyError::Unknown {
            name: spec.name.clone(),
            known: self.names().collect::<Vec<_>>().join(", "),
        })?;
        let parameters = resolve(factory.parameters(), &spec.parameters)
            .map_err(|source| StrategyError::Parameters { name: spec.name.clone(), source })?;
        Ok((Arc::clone(factory), parameters))
    }

    /// The factors that `spec` looks at: for whoever sets up the factor engine.
    ///
    /// # Errors
    ///
    /// [`StrategyError::Unknown`] and [`StrategyError::Parameters`].
    pub fn needs(&self, spec: &StrategySpec) -> Result<Vec<FactorSpec>, StrategyError> {
        let (factory, parameters) = self.resolve(spec)?;
        factory
            .needs(&parameters)
            .map_err(|source| StrategyError::Parameters { name: spec.name.clone(), source })
    }
}
