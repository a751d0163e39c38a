//! A factor and a strategy of one's own, run over the simulated market. A crate of yours depends on
//! `tickwright` and `tickwright-core`, and its `main` is `tickwright::program::main_with(kinds())` for
//! the whole command line, or what `main` below does for one run.

use tickwright::{kit::DiskFaults, outcome, report, run};
use tickwright_core::config::{Chaos, Config, ConfigInput, Kinds};
use tickwright_core::domain::parameters::Declared;
use tickwright_core::domain::{Cadence, FactorSpec, Instrument, ParameterError, Side};
use tickwright_core::pipeline::factors::{Factor, FactorInput};
use tickwright_core::pipeline::strategy::{FactorView, Intent, Strategy, StrategyFactory};

/// How many steps in a row the price rose.
struct Streak(f64, f64);

impl Factor for Streak {
    fn update(&mut self, input: &FactorInput<'_>) -> Option<f64> {
        *self = Self(input.price, if input.price > self.0 { self.1 + 1.0 } else { 0.0 });
        Some(self.1)
    }
    fn snapshot(&self) -> Vec<u8> {
        [self.0.to_le_bytes(), self.1.to_le_bytes()].concat()
    }
    fn restore(&mut self, bytes: &[u8]) -> Result<(), String> {
        let number = |at| bytes.get(at..at + 8).and_then(|part| part.try_into().ok());
        let [last, count] = [0, 8].map(|at| number(at).map(f64::from_le_bytes));
        *self = Self(last.ok_or("too short")?, count.ok_or("too short")?);
        Ok(())
    }
}

/// Buys when the price has risen so many steps in a row, sells at the first step that does not rise.
struct Momentum(f64, bool);

impl Strategy for Momentum {
    fn on_row(&mut self, view: &FactorView<'_>) -> Option<Intent> {
        let is_long = view.value(0) >= self.0 || self.1 && view.value(0) > 0.0;
        let side = if is_long { Side::Buy } else { Side::Sell };
        let turned = std::mem::replace(&mut self.1, is_long) != is_long;
        turned.then_some(Intent { side, lots: 1, reduce_only: !is_long })
    }
    fn set_parameters(&mut self, parameters: &[f64]) -> Result<(), ParameterError> {
        self.0 = parameters[0];
        Ok(())
    }
    fn snapshot(&self) -> Vec<u8> {
        vec![u8::from(self.1)]
    }
    fn restore(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.1 = bytes == [1];
        Ok(())
    }
}

struct MomentumFactory;

impl StrategyFactory for MomentumFactory {
    fn parameters(&self) -> &[Declared] {
        &[("steps", 3.0)]
    }
    fn needs(&self, _: &[f64]) -> Result<Vec<FactorSpec>, ParameterError> {
        Ok(vec![FactorSpec::new("streak", &[], Cadence::Ticks)])
    }
    fn make(&self, _: &Instrument, values: &[f64]) -> Result<Box<dyn Strategy>, ParameterError> {
        Ok(Box::new(Momentum(values[0], false)))
    }
}

/// The built-in kinds, and these.
pub fn kinds() -> Kinds {
    let mut kinds = Kinds::default();
    kinds.factors.register("streak", &[], |_| Ok(Box::new(Streak(f64::NAN, 0.0))));
    kinds.strategies.register("momentum", MomentumFactory);
    kinds
}

/// What `cluster.toml` would say.
const CONFIGURATION: &str = r#"
journal.enabled = false
simulator.ticks = 50000
[[strategy]]
name = "mine"
kind = "momentum"
parameters = { steps = 4 }
"#;

/// One run; returns its summary.
pub fn run_once() -> anyhow::Result<String> {
    let input = ConfigInput {
        file: Some(("own_strategy.toml", CONFIGURATION)),
        kinds: kinds(),
        ..ConfigInput::default()
    };
    let config = Config::load(&input)?;
    let arguments = run::RunArguments {
        config: config.clone(),
        kinds: kinds(),
        input: run::Input::Simulated,
        faults: Chaos::default(),
        disk: DiskFaults::default(),
    };
    let runtime = tokio::runtime::Runtime::new()?;
    let outcome = runtime.block_on(run::run(arguments, |_| {}))?;
    let report = outcome::report(&outcome, &config);
    Ok(report::summary(&report, &[], report::Style::PLAIN))
}

fn main() -> anyhow::Result<()> {
    print!("{}", run_once()?);
    Ok(())
}
