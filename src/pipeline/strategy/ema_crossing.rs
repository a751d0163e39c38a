//! EMA crossing: a fast average that overtakes a slow one says where the trend goes.

use super::registry::{FactorView, Intent, Strategy, StrategyFactory};
use super::{LOTS, WINDOW, cadence, lots, tolerance};
use crate::domain::parameters::{Declared, out_of_range, whole};
use crate::domain::{Cadence, FactorSpec, Instrument, ParameterError, Side, Snapshot};

/// Buys when the fast average crosses above the slow one, sells when it crosses below. Averages that
/// are equal but for rounding have not crossed.
#[derive(Debug)]
struct EmaCrossing {
    fast: u32,
    slow: u32,
    lots: u32,
    on_windows: bool,
    /// Whether the fast average was last above; none until the averages first differed.
    is_above: Option<bool>,
}

impl Strategy for EmaCrossing {
    #[inline]
    fn on_row(&mut self, view: &FactorView<'_>) -> Option<Intent> {
        if view.is_boundary != self.on_windows {
            return None;
        }
        let lead = view.value(0) - view.value(1);
        if lead.is_nan() || lead.abs() <= tolerance(view.price) {
            return None;
        }
        let is_above = lead > 0.0;
        let before = self.is_above.replace(is_above)?;
        let side = if is_above { Side::Buy } else { Side::Sell };
        (before != is_above).then_some(Intent { side, lots: self.lots, reduce_only: false })
    }

    fn set_parameters(&mut self, parameters: &[f64]) -> Result<(), ParameterError> {
        let mut changed = make(parameters)?;
        // Other averages stand elsewhere; that alone is no crossing.
        let averages = |it: &Self| (it.fast, it.slow, it.on_windows);
        if averages(&changed) == averages(self) {
            changed.is_above = self.is_above;
        }
        *self = changed;
        Ok(())
    }
}

impl Snapshot for EmaCrossing {
    fn snapshot(&self) -> Vec<u8> {
        vec![self.is_above.map_or(0, |is_above| 1 + u8::from(is_above))]
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.is_above = match bytes {
            [0] => None,
            [1] => Some(false),
            [2] => Some(true),
            _ => return Err(format!("{bytes:?} is no state of an EMA crossing")),
        };
        Ok(())
    }
}

/// `fast`, `slow`, `lots`, `window_s`.
const DECLARED: [Declared; 4] = [("fast", 12.0), ("slow", 26.0), LOTS, WINDOW];

fn make(parameters: &[f64]) -> Result<EmaCrossing, ParameterError> {
    let fast = whole("fast", parameters[0], 1, 100_000)?;
    let slow = whole("slow", parameters[1], 2, 100_000)?;
    if fast >= slow {
        return Err(out_of_range("fast", parameters[0], "less than `slow`"));
    }
    let on_windows = cadence(parameters[3])? != Cadence::Ticks;
    Ok(EmaCrossing { fast, slow, lots: lots(parameters[2])?, on_windows, is_above: None })
}

/// Makes [`EmaCrossing`].
#[derive(Debug)]
pub(super) struct EmaCrossingFactory;

impl StrategyFactory for EmaCrossingFactory {
    fn parameters(&self) -> &[Declared] {
        &DECLARED
    }

    fn needs(&self, parameters: &[f64]) -> Result<Vec<FactorSpec>, ParameterError> {
        let EmaCrossing { fast, slow, .. } = make(parameters)?;
        let on = cadence(parameters[3])?;
        Ok([fast, slow].map(|period| FactorSpec::new("ema", &[f64::from(period)], on)).to_vec())
    }

    fn make(
        &self,
        _instrument: &Instrument,
        parameters: &[f64],
    ) -> Result<Box<dyn Strategy>, ParameterError> {
        Ok(Box::new(make(parameters)?))
    }
}
