//! Strategies: from factors to signals.
//!
//! ```text
//! rows of factors, key order ──▶ StrategyEngine ──▶ signals, in the order of the rows
//!                                 one strategy per (configured strategy, symbol)
//! ```
//!
//! A strategy is made by a [`StrategyFactory`], which also says which factors it needs. Built in are
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
//! use tickwright_core::domain::parameters::Declared;
//! use tickwright_core::domain::*;
//! use tickwright_core::pipeline::factors::*;
//! use tickwright_core::pipeline::strategy::*;
//!
//! /// How many steps in a row the price rose.
//! struct Streak {
//!     last: f64,
//!     count: f64,
//! }
//!
//! impl Factor for Streak {
//!     fn update(&mut self, input: &FactorInput<'_>) -> Option<f64> {
//!         self.count = if input.price > self.last { self.count + 1.0 } else { 0.0 };
//!         self.last = input.price;
//!         Some(self.count)
//!     }
//!     fn snapshot(&self) -> Vec<u8> {
//!         [self.last.to_le_bytes(), self.count.to_le_bytes()].concat()
//!     }
//!     fn restore(&mut self, bytes: &[u8]) -> Result<(), String> {
//!         let (last, count) = bytes.split_at_checked(8).ok_or("too short")?;
//!         self.last = f64::from_le_bytes(last.try_into().map_err(|_| "too short")?);
//!         self.count = f64::from_le_bytes(count.try_into().map_err(|_| "not 16 bytes")?);
//!         Ok(())
//!     }
//! }
//!
//! /// Buys when the price has risen `steps` times in a row.
//! struct Momentum {
//!     steps: f64,
//! }
//!
//! impl Strategy for Momentum {
//!     fn on_row(&mut self, view: &FactorView<'_>) -> Option<Intent> {
//!         (view.value(0) == self.steps).then_some(Intent {
//!             side: Side::Buy,
//!             lots: 1,
//!             reduce_only: false,
//!         })
//!     }
//!     fn set_parameters(&mut self, parameters: &[f64]) -> Result<(), ParameterError> {
//!         self.steps = parameters[0];
//!         Ok(())
//!     }
//!     fn snapshot(&self) -> Vec<u8> {
//!         Vec::new() // What it knows is in the factor.
//!     }
//!     fn restore(&mut self, _bytes: &[u8]) -> Result<(), String> {
//!         Ok(())
//!     }
//! }
//!
//! struct MomentumFactory;
//!
//! impl StrategyFactory for MomentumFactory {
//!     fn parameters(&self) -> &[Declared] {
//!         &[("steps", 3.0)]
//!     }
//!     fn needs(&self, _parameters: &[f64]) -> Result<Vec<FactorSpec>, ParameterError> {
//!         Ok(vec![FactorSpec::new("streak", &[], Cadence::Ticks)])
//!     }
//!     fn make(
//!         &self,
//!         _instrument: &Instrument,
//!         parameters: &[f64],
//!     ) -> Result<Box<dyn Strategy>, ParameterError> {
//!         Ok(Box::new(Momentum { steps: parameters[0] }))
//!     }
//! }
//!
//! let mut factors = FactorRegistry::new();
//! factors.register("streak", &[], |_| Ok(Box::new(Streak { last: f64::NAN, count: 0.0 })));
//! let mut strategies = StrategyRegistry::new();
//! strategies.register("momentum", MomentumFactory);
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
