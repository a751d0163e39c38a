//! Strategies: from factors to signals.
//!
//! ```text
//! rows of factors, key order ──▶ StrategyEngine ──▶ signals, in the order of the rows
//!                                 one strategy per (configured strategy, symbol)
//! ```
//!
//! A strategy is made by a [`StrategyFactory`], which also says which factors it needs; for one that
//! begins from its default, [`StrategyRegistry::add`] makes the factory. Built in are
//! `bollinger_reversion` (period 20, width 2, lots 1, `window_s` 0) and `ema_crossing` (fast 12, slow
//! 26, lots 1, `window_s` 0); `window_s` makes them work on windows of so many seconds instead of on
//! ticks.
//!
//! # Invariants
//!
//! 1. Signals depend on the rows of a symbol, in their order, and on nothing else.
//! 2. An engine restored from a snapshot continues exactly.
//! 3. A change of parameters gives no signal by itself.
//! 4. A signal's ordinal is unique under its key: symbol in the upper 24 bits, strategy in the lower 8.
//!    Signals leave in the order of the rows; on a boundary that is the order of the symbols' text,
//!    which their numbers need not follow.
//!
//! # A factor and a strategy of one's own
//!
//! ```
//! use std::sync::Arc;
//! use serde::{Deserialize, Serialize};
//! use tickwright_core::domain::*;
//! use tickwright_core::pipeline::factors::*;
//! use tickwright_core::pipeline::strategy::*;
//!
//! /// How many steps in a row the price rose.
//! #[derive(Default, Serialize, Deserialize)]
//! struct Streak {
//!     last: Option<f64>,
//!     count: u32,
//! }
//!
//! impl Factor for Streak {
//!     fn update(&mut self, input: &FactorInput<'_>) -> Option<f64> {
//!         let last = self.last.replace(input.price)?;
//!         self.count = if input.price > last { self.count + 1 } else { 0 };
//!         Some(f64::from(self.count))
//!     }
//! }
//!
//! /// Buys when the price has risen so many times in a row.
//! #[derive(Default, Serialize, Deserialize)]
//! struct Momentum;
//!
//! impl Strategy for Momentum {
//!     fn on_row(&mut self, view: &FactorView<'_>) -> Option<Intent> {
//!         (view.value(0) == view.parameter(0)).then(|| Intent::buy(1))
//!     }
//! }
//!
//! let mut factors = FactorRegistry::new();
//! factors.register("streak", &[], |_| Ok(Box::new(Streak::default())));
//! let mut strategies = StrategyRegistry::new();
//! strategies.add::<Momentum>("momentum", &[("steps", 3.0)], |_| {
//!     Ok(vec![FactorSpec::new("streak", &[], Cadence::Ticks)])
//! });
//!
//! let spec = StrategySpec::new("momentum", vec![("steps".into(), 2.0)]);
//! let needs = strategies.needs(&spec)?;
//! let mut factors = FactorEngine::new(FactorConfig::default(), &factors, &needs)?;
//! let mut strategies = StrategyEngine::new(&strategies, &[spec], factors.layout())?;
//!
//! let instrument = Instruments::default().resolve(&Symbol::new("IBM.US")?);
//! let definition = Definition { id: SymbolId(0), instrument: Arc::new(instrument) };
//! factors.define(SourceId(0), &definition);
//! strategies.define(SourceId(0), &definition)?;
//!
//! let mut ticks = TickBatch::default();
//! for (sequence, price) in (1..).zip([100, 101, 102, 101, 102, 103, 104]) {
//!     let key = Key { frontier: Timestamp::from_nanos(sequence), source: SourceId(0), sequence };
//!     let tick = Tick { price, has: has::PRICE, kind: Kind::Trade as u8, ..Tick::default() };
//!     ticks.push(key, tick);
//! }
//! let (mut values, mut signals) = (FactorBatch::default(), Vec::new());
//! factors.on_rows(&ticks, 0..ticks.rows.len(), &mut values);
//! strategies.on_batch(&values, 0..values.rows.len(), &mut signals);
//! let rows: Vec<u64> = signals.iter().map(|signal| signal.id.key.sequence).collect();
//! assert_eq!(rows, [3, 6]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bollinger_reversion;
mod ema_crossing;
mod engine;
mod needs;
mod registry;

#[cfg(test)]
mod tests;

use crate::domain::parameters::{Declared, whole};
use crate::domain::{Cadence, ParameterError, Span};

pub use engine::{StrategyCounts, StrategyEngine, StrategySnapshot};
pub use needs::StrategyNeeds;
pub use registry::{
    FactorView, Intent, Strategy, StrategyError, StrategyFactory, StrategyRegistry, StrategySpec,
};

/// Most strategies of one engine: what the lower 8 bits of a signal's ordinal tell apart.
pub const STRATEGY_COUNT_MAX: usize = 256;

/// Most symbols of one source: what the upper 24 bits of a signal's ordinal tell apart.
pub const SYMBOL_COUNT_MAX: u32 = 1 << 24;

/// The size of each order, in lots of the instrument.
const LOTS: Declared = ("lots", 1.0);

/// The length of the windows to work on, in seconds; 0 for ticks.
const WINDOW: Declared = ("window_s", 0.0);

fn lots(value: f64) -> Result<u32, ParameterError> {
    whole("lots", value, 1, u32::MAX)
}

fn cadence(window_s: f64) -> Result<Cadence, ParameterError> {
    let seconds = whole(WINDOW.0, window_s, 0, 86_400)?;
    Ok(match seconds {
        0 => Cadence::Ticks,
        _ => Cadence::Windows(Span::from_secs(u64::from(seconds))),
    })
}

/// How far apart two numbers near `price` may be and still be equal but for rounding.
#[inline]
fn tolerance(price: f64) -> f64 {
    1e-12 * price.abs()
}
