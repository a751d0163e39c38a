//! Which columns are computed, by which families.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::PriceSource;
use super::family::{FamilyKey, Output};
use super::registry::{FactorError, FactorRegistry};
use crate::domain::{Class, FactorSpec, Span};

/// How factors are computed, whichever they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FactorConfig {
    /// The longest event-time window; a multiple of `step`.
    pub window: Span,
    /// Distance between the boundaries that the ingester puts into every stream.
    pub step: Span,
    /// Which price of a row counts, by class in the order of [`Class::ALL`].
    pub prices: [PriceSource; Class::ALL.len()],
}

impl Default for FactorConfig {
    /// Windows of 60 s that step by 10 s, and the price that suits each class's feeds.
    fn default() -> Self {
        Self {
            window: Span::from_secs(60),
            step: Span::from_secs(10),
            prices: Class::ALL.map(PriceSource::of_class),
        }
    }
}

impl FactorConfig {
    /// The longest window in nanoseconds.
    pub(super) fn window_nanos(&self) -> u64 {
        u64::try_from(self.window.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// One family of the plan.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FamilyPlan {
    pub(super) key: FamilyKey,
    /// The window's length in nanoseconds; 0 on ticks.
    pub(super) window: u64,
}

impl FamilyPlan {
    /// Whether it is the family of `key` on windows of that length.
    pub(super) fn is(&self, key: &FamilyKey, window: u64) -> bool {
        self.key == *key && self.window == window
    }
}

/// The families behind a list of columns.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Canonical and distinct.
    pub(super) columns: Vec<FactorSpec>,
    /// By column: the family it is from, and which of its values.
    pub(super) outputs: Vec<(usize, Output)>,
    /// Those on ticks first, then by length of window; else in the order of the columns.
    pub(super) families: Vec<FamilyPlan>,
    /// How many families are on ticks.
    pub(super) tick_count: usize,
    /// Lengths of windows in nanoseconds, ascending, with the families on each.
    pub(super) windows: Vec<(u64, Range<usize>)>,
}

impl Plan {
    pub(super) fn new(
        config: &FactorConfig,
        registry: &FactorRegistry,
        specs: &[FactorSpec],
    ) -> Result<Self, FactorError> {
        let (step, window) = (config.step.as_nanos(), config.window.as_nanos());
        let (step_ms, window_ms) = (config.step.as_millis(), config.window.as_millis());
        if step == 0 || window == 0 || window % step != 0 {
            return Err(FactorError::Step { step_ms, window_ms });
        }
        let mut columns: Vec<FactorSpec> = Vec::new();
        for spec in specs {
            let canonical = registry.canonical(spec)?;
            let length = canonical.window_nanos().map_or(step, u128::from);
            if length == 0 || length > window || length % step != 0 {
                let spec = spec.to_string();
                return Err(FactorError::Window { spec, step_ms, window_ms });
            }
            if !columns.contains(&canonical) {
                columns.push(canonical);
            }
        }
        let sources: Vec<(FamilyKey, u64, Output)> = columns
            .iter()
            .map(|spec| {
                let (key, output) = registry.family_of(spec);
                (key, spec.window_nanos().unwrap_or(0), output)
            })
            .collect();
        let mut families: Vec<FamilyPlan> = Vec::new();
        for (key, window, _) in &sources {
            if !families.iter().any(|known| known.is(key, *window)) {
                families.push(FamilyPlan { key: key.clone(), window: *window });
            }
        }
        families.sort_by_key(|family| family.window);
        let place = |(key, window, output): (FamilyKey, u64, Output)| {
            let place = families.iter().position(|family| family.is(&key, window));
            (place.expect("every column's family was added"), output)
        };
        let outputs = sources.into_iter().map(place).collect();
        let tick_count = families.iter().filter(|family| family.window == 0).count();
        let mut windows: Vec<(u64, Range<usize>)> = Vec::new();
        for (index, family) in families.iter().enumerate().skip(tick_count) {
            match windows.last_mut() {
                Some((length, range)) if *length == family.window => range.end = index + 1,
                _ => windows.push((family.window, index..index + 1)),
            }
        }
        Ok(Self { columns, outputs, families, tick_count, windows })
    }
}
