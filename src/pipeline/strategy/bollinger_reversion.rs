//! Bollinger reversion: what leaves the band is expected to come back.

use super::registry::{FactorView, Intent, Strategy, StrategyFactory};
use super::{LOTS, WINDOW, cadence, lots, tolerance};
use crate::domain::parameters::{Declared, out_of_range, whole};
use crate::domain::{Cadence, FactorSpec, Instrument, ParameterError, Side, Snapshot};

/// Buys when the price crosses below the lower band, sells when it crosses above the upper one. Once
/// per crossing: the price has to come back inside, or go out at the other side, before it counts
/// again.
///
/// Looks at mean and deviation rather than at the bands, so a change of width holds from the next row
/// on. A price on the band itself is inside: a window of two prices can sit on it exactly, and
/// rounding must not decide.
#[derive(Debug)]
struct BollingerReversion {
    period: u32,
    width: f64,
    lots: u32,
    on_windows: bool,
    zone: Zone,
}

/// Where the price last was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Zone {
    /// Nothing seen since the start or a change of parameters.
    Unknown = 0,
    /// Between the bands, or on one.
    Inside = 1,
    Below = 2,
    Above = 3,
}

impl Strategy for BollingerReversion {
    #[inline]
    fn on_row(&mut self, view: &FactorView<'_>) -> Option<Intent> {
        if view.is_boundary != self.on_windows {
            return None;
        }
        let (mean, deviation) = (view.value(0), view.value(1));
        if deviation.is_nan() {
            return None;
        }
        let distance = view.price - mean;
        let band = self.width * deviation;
        // Rounding of the band is relative to the band, that of the distance to the price.
        let outside = band + 1e-9 * band + tolerance(view.price);
        let zone = if distance < -outside {
            Zone::Below
        } else if distance > outside {
            Zone::Above
        } else {
            Zone::Inside
        };
        let before = std::mem::replace(&mut self.zone, zone);
        if zone == before || before == Zone::Unknown {
            return None;
        }
        let side = match zone {
            Zone::Below => Side::Buy,
            Zone::Above => Side::Sell,
            Zone::Unknown | Zone::Inside => return None,
        };
        Some(Intent { side, lots: self.lots, reduce_only: false })
    }

    fn set_parameters(&mut self, parameters: &[f64]) -> Result<(), ParameterError> {
        let mut changed = make(parameters)?;
        // When the band moved and not the price, that alone is no crossing.
        let band = |it: &Self| (it.period, it.width, it.on_windows);
        if band(&changed) == band(self) {
            changed.zone = self.zone;
        }
        *self = changed;
        Ok(())
    }
}

impl Snapshot for BollingerReversion {
    fn snapshot(&self) -> Vec<u8> {
        vec![self.zone as u8]
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.zone = match bytes {
            [0] => Zone::Unknown,
            [1] => Zone::Inside,
            [2] => Zone::Below,
            [3] => Zone::Above,
            _ => return Err(format!("{bytes:?} is no zone of a Bollinger reversion")),
        };
        Ok(())
    }
}

/// `period`, `width`, `lots`, `window_s`.
const DECLARED: [Declared; 4] = [("period", 20.0), ("width", 2.0), LOTS, WINDOW];

fn make(parameters: &[f64]) -> Result<BollingerReversion, ParameterError> {
    let width = parameters[1];
    if width <= 0.0 {
        return Err(out_of_range("width", width, "positive"));
    }
    Ok(BollingerReversion {
        period: whole("period", parameters[0], 2, 100_000)?,
        width,
        lots: lots(parameters[2])?,
        on_windows: cadence(parameters[3])? != Cadence::Ticks,
        zone: Zone::Unknown,
    })
}

/// Makes [`BollingerReversion`].
#[derive(Debug)]
pub(super) struct BollingerReversionFactory;

impl StrategyFactory for BollingerReversionFactory {
    fn parameters(&self) -> &[Declared] {
        &DECLARED
    }

    fn needs(&self, parameters: &[f64]) -> Result<Vec<FactorSpec>, ParameterError> {
        let period = f64::from(make(parameters)?.period);
        let on = cadence(parameters[3])?;
        Ok(["bollinger_middle", "deviation"]
            .map(|name| FactorSpec::new(name, &[period], on))
            .to_vec())
    }

    fn make(
        &self,
        _instrument: &Instrument,
        parameters: &[f64],
    ) -> Result<Box<dyn Strategy>, ParameterError> {
        Ok(Box::new(make(parameters)?))
    }
}
