//! Strategies as configured, with parameters as they are now, and the factors that those need.

use std::fmt;
use std::sync::Arc;

use super::STRATEGY_COUNT_MAX;
use super::registry::{StrategyError, StrategyFactory, StrategyRegistry, StrategySpec};
use crate::domain::parameters::resolve;
use crate::domain::{FactorLayout, FactorSpec, ParameterChange, ParameterError};

/// One strategy of the configuration.
#[derive(Clone)]
pub(super) struct Configured {
    pub(super) name: String,
    pub(super) factory: Arc<dyn StrategyFactory>,
    /// Every parameter, in the order declared.
    pub(super) parameters: Vec<f64>,
    /// The factors they need.
    pub(super) needs: Vec<FactorSpec>,
}

impl fmt::Debug for Configured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Configured")
            .field("name", &self.name)
            .field("parameters", &self.parameters)
            .finish_non_exhaustive()
    }
}

impl Configured {
    pub(super) fn new(
        registry: &StrategyRegistry,
        spec: &StrategySpec,
    ) -> Result<Self, StrategyError> {
        let (factory, parameters) = registry.resolve(spec)?;
        Self::with(spec.name.clone(), factory, parameters)
    }

    pub(super) fn with(
        name: String,
        factory: Arc<dyn StrategyFactory>,
        parameters: Vec<f64>,
    ) -> Result<Self, StrategyError> {
        let mut made = Self { name, factory, parameters, needs: Vec::new() };
        made.needs = made.factory.needs(&made.parameters).map_err(|source| made.wrong(source))?;
        Ok(made)
    }

    /// The same with the parameters that are `given` changed.
    pub(super) fn changed(&self, given: &[(String, f64)]) -> Result<Self, StrategyError> {
        let declared = self.factory.parameters().iter();
        let now: Vec<_> =
            declared.zip(&self.parameters).map(|(&(name, _), &value)| (name, value)).collect();
        let parameters = resolve(&now, given).map_err(|source| self.wrong(source))?;
        Self::with(self.name.clone(), Arc::clone(&self.factory), parameters)
    }

    /// Where in a row's values the needed factors are.
    pub(super) fn find(&self, layout: &FactorLayout) -> Result<Vec<usize>, StrategyError> {
        let place = |spec: &FactorSpec| {
            let found = layout.columns.iter().position(|column| column == spec);
            found.ok_or_else(|| StrategyError::Column {
                name: self.name.clone(),
                spec: spec.clone(),
            })
        };
        self.needs.iter().map(place).collect()
    }

    pub(super) fn wrong(&self, source: ParameterError) -> StrategyError {
        StrategyError::Parameters { name: self.name.clone(), source }
    }
}

/// The factors that strategies look at, as their parameters change: for whoever computes factors.
#[derive(Clone, Debug)]
pub struct StrategyNeeds {
    strategies: Vec<Configured>,
}

impl StrategyNeeds {
    /// Those of `specs` before any change.
    ///
    /// # Errors
    ///
    /// [`StrategyError`] when there are too many, a name is unknown or parameters make no sense.
    pub fn new(registry: &StrategyRegistry, specs: &[StrategySpec]) -> Result<Self, StrategyError> {
        if specs.len() > STRATEGY_COUNT_MAX {
            return Err(StrategyError::TooMany { count: specs.len() });
        }
        let strategies = specs.iter().map(|spec| Configured::new(registry, spec));
        Ok(Self { strategies: strategies.collect::<Result<_, _>>()? })
    }

    /// Takes over what `change` changes.
    ///
    /// # Errors
    ///
    /// [`StrategyError::Index`] and [`StrategyError::Parameters`], and nothing changes.
    pub fn change(&mut self, change: &ParameterChange) -> Result<(), StrategyError> {
        let count = self.strategies.len();
        let strategy = self
            .strategies
            .get_mut(change.strategy)
            .ok_or(StrategyError::Index { index: change.strategy, count })?;
        *strategy = strategy.changed(&change.parameters)?;
        Ok(())
    }

    /// Each strategy's parameters as they are now.
    pub fn parameters(&self) -> impl Iterator<Item = Vec<(&'static str, f64)>> {
        self.strategies.iter().map(|strategy| {
            let names = strategy.factory.parameters().iter().map(|&(name, _)| name);
            names.zip(strategy.parameters.iter().copied()).collect()
        })
    }

    /// The factors needed now, strategy by strategy.
    pub fn factors(&self) -> impl Iterator<Item = &FactorSpec> {
        self.strategies.iter().flat_map(|strategy| &strategy.needs)
    }
}
